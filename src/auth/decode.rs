//! The encodings that frameworks write around the value of a cookie, and in a URL, taken off once.
//!
//! Pure, and knows no grammar. Invariant: every byte of the result comes from one place of the input, as itself or from
//! one escape; nothing is decoded twice.

/// The value of a cookie behind the escapes of frameworks: one pair of quotes around it (RFC 6265 section 4.1.1; Python
/// and Go), in the quotes backslashes as Python's `http.cookies` writes them, and percent-encoding (PHP, Node, Rails). None when there is nothing to
/// decode, or an escape is broken.
pub(super) fn cookie_value(value: &[u8]) -> Option<Vec<u8>> {
    match value {
        [b'"', inner @ .., b'"'] => unescape(inner, true),
        _ if value.contains(&b'%') => unescape(value, false),
        _ => None,
    }
}

fn unescape(mut rest: &[u8], backslashes: bool) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(rest.len());
    while let [first, behind @ ..] = rest {
        let (byte, used) = match (*first, behind) {
            (b'%', [high, low, ..]) => (hex(*high)? << 4 | hex(*low)?, 3),
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) if backslashes => {
                ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), 4)
            }
            (b'\\', [next, ..]) if backslashes => (*next, 2),
            (b'%', _) => return None,
            (b'\\', _) if backslashes => return None,
            (byte, _) => (byte, 1),
        };
        decoded.push(byte);
        rest = &rest[used..];
    }
    Some(decoded)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_off_what_frameworks_write() {
        for (value, decoded) in [
            ("plain", None),
            ("a+b", None),
            ("a%40b", Some("a@b")),
            ("a%2Bb%2bc", Some("a+b+c")),
            ("%2540", Some("%40")),
            ("\"a@b\"", Some("a@b")),
            ("\"a%40b\"", Some("a@b")),
            ("\"a\\054b\"", Some("a,b")),
            ("\"a\\\"b\\\\c\"", Some("a\"b\\c")),
            ("\"\\04540\"", Some("%40")),
            ("\"\"a\"\"", Some("\"a\"")),
            ("\"\"", Some("")),
            ("\"", None),
            ("\"a", None),
            ("a\"", None),
            ("%", None),
            ("%4", None),
            ("%4g", None),
            ("%+4", None),
            ("a\\054b%40", Some("a\\054b@")),
            ("\"a\\\"", None),
        ] {
            assert_eq!(cookie_value(value.as_bytes()).as_deref(), decoded.map(str::as_bytes), "{value}");
        }
    }
}
