//! Fuzz body: a header of the PROXY protocol has one reading, which is the plainest one there is, and it does not depend on
//! how much of the stream has come.
//!
//! Input: the beginning of a stream.

use std::net::IpAddr;
use wsson::testing::proxy::{HEADER_BYTES_MAX, Header, ProxyError, is_announced, parse};

pub(crate) fn body(data: &[u8]) {
    let whole = parse(data);
    let mut before = Ok(None);
    for end in 0..=data.len().min(2 * HEADER_BYTES_MAX) {
        let now = parse(&data[..end]);
        assert!(before == Ok(None) || now == before, "{before:?} became {now:?} at {end}");
        before = now;
    }
    match whole {
        Ok(Some(Header { bytes, visitor })) => {
            assert!(is_announced(data) && bytes <= data.len().min(HEADER_BYTES_MAX));
            assert_eq!(parse(&data[..bytes]), whole, "nothing behind it counts");
            assert_eq!(parse(&data[..bytes - 1]), Ok(None), "and all of it does");
            assert_eq!(visitor, plain(&data[..bytes]), "{}", data[..bytes].escape_ascii());
        }
        Ok(None) => assert!(data.len() < HEADER_BYTES_MAX, "it waits for more than there may be"),
        Err(error) => assert_eq!(error == ProxyError::Malformed, is_announced(data)),
    }
}

/// The visitor of a header that is one.
fn plain(header: &[u8]) -> Option<(IpAddr, u16)> {
    if let Some(line) = header.strip_prefix(b"PROXY TCP") {
        let words: Vec<&str> = std::str::from_utf8(line).expect("it is ASCII").split([' ', '\r']).collect();
        let addr: IpAddr = words[1].parse().expect("an address");
        return Some((addr.to_canonical(), words[3].parse().expect("a port")));
    }
    if header.starts_with(b"PROXY ") {
        return None;
    }
    let [local_or_proxy, family, ..] = header.get(12..)? else { return None };
    let block = &header[16..];
    match (local_or_proxy & 1, family) {
        (1, 0x11) => Some((IpAddr::from(<[u8; 4]>::try_from(&block[..4]).unwrap()), number(&block[8..10]))),
        (1, 0x21) => {
            let addr = IpAddr::from(<[u8; 16]>::try_from(&block[..16]).unwrap());
            Some((addr.to_canonical(), number(&block[32..34])))
        }
        _ => None,
    }
}

fn number(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |number, byte| number << 8 | u16::from(*byte))
}
