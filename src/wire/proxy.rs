//! The PROXY protocol, versions 1 and 2: the header in which a proxy names the visitor, before the first byte of a
//! connection.
//!
//! Pure: the caller offers the beginning of the stream again when more of it is there. It never keeps bytes, and nothing
//! but the visitor's address is taken from a header: extensions (TLVs) are passed over. Invariant: once the beginning of a
//! stream was read as a header, or as none, more bytes behind it change nothing.
//! design: docs/endpoint.md "PROXY protocol"; <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest header that is read. Version 1 has 107 bytes at most; version 2 might have 64 KiB, and real ones have some
/// hundred.
pub const HEADER_BYTES_MAX: usize = 4096;

const LINE_BYTES_MAX: usize = 107;
const BEGIN_1: &[u8] = b"PROXY ";
const BEGIN_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
const FIXED_BYTES: usize = 16;

/// A header that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its length: the stream goes on behind it.
    pub bytes: usize,
    /// The visitor's address and port. None where the proxy speaks for itself, as in its health checks, or knows no
    /// address that is one of IP.
    pub visitor: Option<(IpAddr, u16)>,
}

/// The bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// They do not begin as one.
    Missing,
    /// They begin as one and go on otherwise.
    Malformed,
}

/// Reads the header at the beginning of a stream. `None` when it is not complete.
///
/// # Errors
/// As soon as the bytes cannot become a header.
pub fn parse(input: &[u8]) -> Result<Option<Header>, ProxyError> {
    match (begins(input, BEGIN_1), begins(input, BEGIN_2)) {
        (Begins::Whole, _) => version_1(input),
        (_, Begins::Whole) => version_2(input),
        (Begins::No, Begins::No) => Err(ProxyError::Missing),
        _ => Ok(None),
    }
}

/// Whether a stream begins as a header does: in front of a reader that expects none.
pub fn is_announced(input: &[u8]) -> bool {
    input.starts_with(BEGIN_1) || input.starts_with(BEGIN_2)
}

#[derive(PartialEq)]
enum Begins {
    Whole,
    Cut,
    No,
}

fn begins(input: &[u8], with: &[u8]) -> Begins {
    let len = input.len().min(with.len());
    match input[..len] == with[..len] {
        true if len == with.len() => Begins::Whole,
        true => Begins::Cut,
        false => Begins::No,
    }
}

/// `PROXY TCP4 203.0.113.9 192.0.2.1 51234 443` and the end of a line; or `PROXY UNKNOWN` and whatever.
fn version_1(input: &[u8]) -> Result<Option<Header>, ProxyError> {
    let line = &input[..input.len().min(LINE_BYTES_MAX)];
    let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
        return if line.len() < LINE_BYTES_MAX { Ok(None) } else { Err(ProxyError::Malformed) };
    };
    let text = core::str::from_utf8(&line[BEGIN_1.len()..end]).map_err(|_| ProxyError::Malformed)?;
    let bytes = end + 2;
    if text == "UNKNOWN" || text.starts_with("UNKNOWN ") {
        return Ok(Some(Header { bytes, visitor: None }));
    }
    let visitor = addresses(text).ok_or(ProxyError::Malformed)?;
    Ok(Some(Header { bytes, visitor: Some(visitor) }))
}

/// The visitor's address and port, where both ends are well-formed and nothing else is there.
fn addresses(text: &str) -> Option<(IpAddr, u16)> {
    let mut words = text.split(' ');
    let family = words.next()?;
    let mut addr = || -> Option<IpAddr> {
        let word = words.next()?;
        match family {
            "TCP4" => word.parse().ok().map(IpAddr::V4),
            "TCP6" => word.parse().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (source, _) = (addr()?, addr()?);
    let (source_port, _) = (port(words.next()?)?, port(words.next()?)?);
    words.next().is_none().then_some((source.to_canonical(), source_port))
}

/// Decimal, without a sign or leading zeros.
fn port(word: &str) -> Option<u16> {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    word.parse().ok().filter(|_| is_plain)
}

fn version_2(input: &[u8]) -> Result<Option<Header>, ProxyError> {
    let command = match input.get(BEGIN_2.len()) {
        Some(0x20) => Command::Local,
        Some(0x21) => Command::Proxy,
        Some(_) => return Err(ProxyError::Malformed),
        None => return Ok(None),
    };
    let Some(&family) = input.get(13) else { return Ok(None) };
    let address_bytes = match (family >> 4, family & 15) {
        (0, 0..=2) => 0,
        (1, 0..=2) => 12,
        (2, 0..=2) => 36,
        (3, 0..=2) => 216, // of Unix sockets
        _ => return Err(ProxyError::Malformed),
    };
    let Some(len) = input.get(14..FIXED_BYTES) else { return Ok(None) };
    let bytes = FIXED_BYTES + usize::from(u16::from_be_bytes([len[0], len[1]]));
    let is_short = command == Command::Proxy && bytes < FIXED_BYTES + address_bytes;
    if is_short || bytes > HEADER_BYTES_MAX {
        return Err(ProxyError::Malformed);
    }
    let Some(block) = input.get(FIXED_BYTES..bytes) else { return Ok(None) };
    // Only streams of IP have an address that means anything here; the others are passed over, as the text asks.
    let visitor = match (command, family) {
        (Command::Proxy, 0x11) => Some((IpAddr::V4(Ipv4Addr::from(array::<4>(block))), be_port(&block[8..]))),
        (Command::Proxy, 0x21) => {
            Some((IpAddr::V6(Ipv6Addr::from(array::<16>(block))).to_canonical(), be_port(&block[32..])))
        }
        _ => None,
    };
    Ok(Some(Header { bytes, visitor }))
}

#[derive(Clone, Copy, PartialEq)]
enum Command {
    /// The proxy speaks for itself: the addresses mean nothing.
    Local,
    Proxy,
}

fn array<const N: usize>(block: &[u8]) -> [u8; N] {
    block[..N].try_into().expect("the length was checked")
}

fn be_port(block: &[u8]) -> u16 {
    u16::from_be_bytes(array(block))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let len = (block.len() as u16).to_be_bytes();
        [BEGIN_2, &[command, family], &len, block].concat()
    }

    fn visitor(text: &str, port: u16) -> Option<(IpAddr, u16)> {
        Some((text.parse().unwrap(), port))
    }

    /// The header, with the length that it must have: all of it.
    fn whole(input: &[u8]) -> Result<Option<(IpAddr, u16)>, ProxyError> {
        let header = parse(input)?.expect("it is complete");
        assert_eq!(header.bytes, input.len());
        Ok(header.visitor)
    }

    #[test]
    fn version_1_is_read() {
        for (line, expected) in [
            ("TCP4 203.0.113.9 192.0.2.1 51234 443", visitor("203.0.113.9", 51_234)),
            ("TCP4 255.255.255.255 255.255.255.255 65535 65535", visitor("255.255.255.255", 65_535)),
            ("TCP6 2001:db8::9 2001:db8::1 0 443", visitor("2001:db8::9", 0)),
            ("TCP6 ::ffff:203.0.113.9 ::1 1 2", visitor("203.0.113.9", 1)),
            ("UNKNOWN", None),
            ("UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535", None),
            ("UNKNOWN \u{e9}", None),
        ] {
            assert_eq!(whole(format!("PROXY {line}\r\n").as_bytes()), Ok(expected), "{line}");
        }
        let longest = "TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535";
        assert!(whole(format!("PROXY {longest}\r\n").as_bytes()).unwrap().is_some());
        let behind = parse(b"PROXY UNKNOWN\r\nGET / HTTP/1.1\r\n").unwrap().unwrap();
        assert_eq!(behind.bytes, 15);
    }

    #[test]
    fn malformed_version_1_is_refused() {
        for line in [
            "TCP4",
            "TCP5 1.2.3.4 1.2.3.4 1 2",
            "tcp4 1.2.3.4 1.2.3.4 1 2",
            "TCP4  1.2.3.4 1.2.3.4 1 2",
            "TCP4 1.2.3.4 1.2.3.4 1 2 ",
            "TCP4 1.2.3.4 1.2.3.4 1 2 3",
            "TCP4 1.2.3.4 1.2.3.4 1",
            "TCP4 01.2.3.4 1.2.3.4 1 2",
            "TCP4 1.2.3 1.2.3.4 1 2",
            "TCP4 ::1 ::1 1 2",
            "TCP6 1.2.3.4 1.2.3.4 1 2",
            "TCP4 1.2.3.4 1.2.3.4 01 2",
            "TCP4 1.2.3.4 1.2.3.4 +1 2",
            "TCP4 1.2.3.4 1.2.3.4 65536 2",
            "TCP4 1.2.3.4 1.2.3.4 1 x",
            "TCP4 1.2.3.4\t1.2.3.4 1 2",
            "TCP4 1.2.3.4 1.2.3.4 1 2\n",
            "UNKNOWNX",
            "",
        ] {
            assert_eq!(parse(format!("PROXY {line}\r\n").as_bytes()), Err(ProxyError::Malformed), "{line:?}");
        }
        let endless = [BEGIN_1, &[b'x'; 200]].concat();
        assert_eq!(parse(&endless[..106]), Ok(None));
        assert_eq!(parse(&endless[..107]), Err(ProxyError::Malformed), "no line is longer");
    }

    #[test]
    fn version_2_is_read() {
        let four = [203, 0, 113, 9, 192, 0, 2, 1, 0xc8, 0x22, 1, 0xbb];
        let mut six = [0; 36];
        six[..16].copy_from_slice(&"2001:db8::9".parse::<Ipv6Addr>().unwrap().octets());
        six[32..34].copy_from_slice(&[0xc8, 0x22]);
        let mapped = "::ffff:203.0.113.9".parse::<Ipv6Addr>().unwrap().octets();
        let with_tlv = [&four[..], &[0x04, 0, 3, 0, 0, 0], &[0x20, 0, 1, 7]].concat();
        for (command, family, block, expected) in [
            (0x21, 0x11, &four[..], visitor("203.0.113.9", 51_234)),
            (0x21, 0x21, &six[..], visitor("2001:db8::9", 51_234)),
            (0x21, 0x21, &[&mapped[..], &six[16..]].concat()[..], visitor("203.0.113.9", 51_234)),
            (0x21, 0x11, &with_tlv[..], visitor("203.0.113.9", 51_234)),
            (0x20, 0x11, &four[..], None), // LOCAL
            (0x20, 0x00, &[][..], None),   // the same, of a health check
            (0x20, 0x21, &[][..], None),   // the block of LOCAL means nothing
            (0x21, 0x00, &[][..], None),   // UNSPEC
            (0x21, 0x00, &[1, 2][..], None),
            (0x21, 0x12, &four[..], None),        // a datagram
            (0x21, 0x31, &[b'/'; 216][..], None), // a Unix socket
        ] {
            assert_eq!(whole(&v2(command, family, block)), Ok(expected), "{command:x} {family:x}");
        }
        assert_eq!(parse(&[&v2(0x21, 0x11, &four)[..], b"GET /"].concat()).unwrap().unwrap().bytes, 28);
    }

    #[test]
    fn malformed_version_2_is_refused_as_soon_as_it_shows() {
        let begin = |bytes: &[u8]| [BEGIN_2, bytes].concat();
        for bytes in [
            &[0x11][..],
            &[0x22],
            &[0x31],
            &[0x00],
            &[0x21, 0x41],
            &[0x21, 0x13],
            &[0x21, 0x11, 0, 11],
            &[0x21, 0x21, 0, 35],
            &[0x21, 0x31, 0, 215],
            &[0x21, 0x11, 0xff, 0xff],
            &[0x20, 0x00, 0x0f, 0xf1],
        ] {
            assert_eq!(parse(&begin(bytes)), Err(ProxyError::Malformed), "{bytes:x?}");
        }
        assert_eq!(parse(&begin(&[0x20, 0x00, 0x0f, 0xf0])), Ok(None), "4096 bytes in all");
    }

    #[test]
    fn other_beginnings_are_no_header() {
        for other in
            [&b"GET / HTTP/1.1"[..], b"PROXYTCP4", b"PR0", b"PUT", b"\r\n\r\nG", b"\x16\x03\x01", b"\0"]
        {
            assert_eq!(parse(other), Err(ProxyError::Missing), "{other:?}");
            assert!(!is_announced(other));
        }
        for cut in [&b""[..], b"P", b"PROXY", b"\r", b"\r\n\r\n\0\r\nQUIT"] {
            assert_eq!(parse(cut), Ok(None), "{cut:?}");
        }
        assert!(is_announced(b"PROXY x") && is_announced(b"\r\n\r\n\0\r\nQUIT\n"));
    }

    proptest! {
        /// The reading of the whole, at every split.
        #[test]
        fn more_bytes_change_nothing(
            begin in prop_oneof![Just(b"PROXY TCP4 1.2.3.4 ".to_vec()), Just(BEGIN_1.to_vec()), Just(v2(0x21, 0x11, &[7; 14])), Just(BEGIN_2.to_vec()), Just(Vec::new())],
            rest in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b' '), b'0'..=b'9', any::<u8>()], 0..150),
        ) {
            let input = [begin, rest].concat();
            let mut before = Ok(None);
            for end in 0..=input.len() {
                let now = parse(&input[..end]);
                prop_assert!(before == Ok(None) || now == before, "{before:?} became {now:?} at {end}");
                before = now;
            }
        }
    }
}
