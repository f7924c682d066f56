//! The facts of a certificate that the administrator must know, read from its DER form: how long it holds, its subject,
//! its issuer.
//!
//! A reader of a few dozen lines and no crate: rustls and webpki show none of the three, and those that do bring a parser
//! for all of X.509 along. It judges nothing that a stranger sends.

use crate::date::days;

/// RFC 5280 section 4.1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Facts<'d> {
    /// From when it holds.
    pub not_before_unix_s: i64,
    /// Until when it holds.
    pub not_after_unix_s: i64,
    /// The name of its issuer, in DER.
    pub issuer: &'d [u8],
    /// The name of whose it is, in DER.
    pub subject: &'d [u8],
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0]`, constructed: the version.
const VERSION: u8 = 0xa0;

/// Reads a certificate; none when it is not one.
pub(super) fn facts(der: &[u8]) -> Option<Facts<'_>> {
    let (certificate, rest) = value(SEQUENCE, der)?;
    let (signed, _) = value(SEQUENCE, certificate)?;
    let fields = value(VERSION, signed).map_or(signed, |(_, rest)| rest);
    let (_, fields) = value(INTEGER, fields)?;
    let (_, fields) = value(SEQUENCE, fields)?;
    let (issuer, fields) = value(SEQUENCE, fields)?;
    let (validity, fields) = value(SEQUENCE, fields)?;
    let (subject, _) = value(SEQUENCE, fields)?;
    let (not_before_unix_s, later) = time(validity)?;
    let (not_after_unix_s, _) = time(later)?;
    rest.is_empty().then_some(Facts { not_before_unix_s, not_after_unix_s, issuer, subject })
}

/// The content of a value with this tag, and the rest behind it.
fn value(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    (found == tag).then_some(())?;
    rest.split_at_checked(length)
}

/// Two digits of year until 2049 in the old form, four in the new one (RFC 5280 section 4.1.2.5).
fn time(der: &[u8]) -> Option<(i64, &[u8])> {
    if let Some((text, rest)) = value(UTC_TIME, der) {
        let (year, text) = number(text, 2)?;
        return Some((seconds(if year < 50 { 2000 + year } else { 1900 + year }, text)?, rest));
    }
    let (text, rest) = value(GENERALIZED_TIME, der)?;
    let (year, text) = number(text, 4)?;
    Some((seconds(year, text)?, rest))
}

/// `MMDDhhmmssZ`.
fn seconds(year: i64, text: &[u8]) -> Option<i64> {
    let (month, text) = number(text, 2)?;
    let (day, text) = number(text, 2)?;
    let (hour, text) = number(text, 2)?;
    let (minute, text) = number(text, 2)?;
    let (second, text) = number(text, 2)?;
    let whole = text == b"Z" && (1..=12).contains(&month) && (1..=31).contains(&day);
    whole.then(|| days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

fn number(text: &[u8], digits: usize) -> Option<(i64, &[u8])> {
    let (text, rest) = text.split_at_checked(digits)?;
    let text =
        std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    Some((text.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_time_are_read() {
        let utc = |text: &str| [&[UTC_TIME, text.len() as u8], text.as_bytes()].concat();
        let general = |text: &str| [&[GENERALIZED_TIME, text.len() as u8], text.as_bytes()].concat();
        assert_eq!(time(&utc("700101000001Z")).map(|(seconds, _)| seconds), Some(1));
        assert_eq!(time(&utc("491231235959Z")).map(|(seconds, _)| seconds), Some(2_524_607_999));
        assert_eq!(time(&general("20500101000000Z")).map(|(seconds, _)| seconds), Some(2_524_608_000));
        for bad in ["", "700101000001", "701301000001Z", "70010100000+Z", "7001010000011Z"] {
            assert_eq!(time(&utc(bad)), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(der in proptest::collection::vec(0_u8.., 0..80)) {
            let _ = facts(&[&[SEQUENCE, 70, SEQUENCE, 60][..], &der].concat());
            let _ = facts(&der);
        }
    }
}
