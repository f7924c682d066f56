//! A visitor's address, as far as trusted proxies tell it.
//!
//! The last address in `X-Forwarded-For` that is not a trusted proxy's is the one that the outermost
//! trusted proxy saw. It is for the log alone: nothing is decided by it.

use crate::wire::http::Request;
use core::fmt;
use core::net::{IpAddr, SocketAddr};

/// Where a client connects from, for the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PeerAddr {
    /// A Unix socket has no address.
    #[default]
    Unix,
    /// Address and port.
    Ip(IpAddr, u16),
    /// The visitor's address, as a trusted proxy gives it.
    Forwarded(IpAddr),
}

impl PeerAddr {
    /// The sender, as far as an address shows it: the address, or an IPv6 network of 64 bits, as one customer has.
    /// None where all connections come from one address.
    pub(crate) fn sender(self) -> Option<u64> {
        match self {
            Self::Ip(addr, _) if !addr.is_loopback() => Some(match addr {
                IpAddr::V4(addr) => u64::from(addr.to_bits()),
                IpAddr::V6(addr) => (addr.to_bits() >> 64) as u64,
            }),
            _ => None,
        }
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix => f.write_str("unix"),
            Self::Ip(IpAddr::V4(addr), port) => write!(f, "{addr}:{port}"),
            Self::Ip(IpAddr::V6(addr), port) => write!(f, "[{addr}]:{port}"),
            Self::Forwarded(addr) => write!(f, "{addr}"),
        }
    }
}

/// A block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// Peers on a Unix socket.
    Unix,
    /// An address and the number of its leading bits that count.
    Block(IpAddr, u8),
}

impl Network {
    /// `unix`, `192.0.2.1` or `192.0.2.0/24`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text == "unix" {
            return Some(Self::Unix);
        }
        let (addr, bits) = text.split_once('/').map_or((text, None), |(addr, bits)| (addr, Some(bits)));
        let addr: IpAddr = addr.parse().ok()?;
        let width = if addr.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(width), |bits| bits.parse().ok().filter(|bits| *bits <= width))?;
        Some(Self::Block(addr, bits))
    }

    pub(crate) fn contains(self, peer: PeerAddr) -> bool {
        match (self, peer) {
            (Self::Unix, PeerAddr::Unix) => true,
            (Self::Block(block, bits), PeerAddr::Ip(addr, _) | PeerAddr::Forwarded(addr)) => {
                within(block, bits, addr)
            }
            _ => false,
        }
    }
}

fn within(block: IpAddr, bits: u8, addr: IpAddr) -> bool {
    match (block, addr.to_canonical()) {
        (IpAddr::V4(block), IpAddr::V4(addr)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            (u32::from(block) ^ u32::from(addr)) & mask == 0
        }
        (IpAddr::V6(block), IpAddr::V6(addr)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            (u128::from(block) ^ u128::from(addr)) & mask == 0
        }
        _ => false,
    }
}

/// The visitor's address, when the request has one.
pub(crate) fn forwarded(trusted: &[Network], request: &Request<'_>) -> Option<PeerAddr> {
    if !request.known.forwarded {
        return None;
    }
    // Some proxies append to the visitor's own field, others add one behind it: RFC 9110 section 5.3 makes
    // them one list, of which only the end was written by a proxy we trust.
    let fields: Vec<&[u8]> = request.values("x-forwarded-for").collect();
    let hops = fields.iter().rev().flat_map(|field| field.rsplit(|byte| *byte == b','));
    // RFC 9110 section 5.6.1: an empty element is none.
    let hops = hops.map(<[u8]>::trim_ascii).filter(|hop| !hop.is_empty());
    hops.map_while(address)
        .map(PeerAddr::Forwarded)
        .find(|peer| !trusted.iter().any(|network| network.contains(*peer)))
}

/// An address, which some proxies write with the port behind it, and one of IPv6 in brackets. Any other text ends the
/// search: the hops before it are not known.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop).ok()?;
    let bare =
        hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).filter(|addr| addr.contains(':'));
    let addr = bare.unwrap_or(hop).parse();
    let addr = addr.or_else(|_| hop.parse::<SocketAddr>().map(|with_port| with_port.ip())).ok()?;
    Some(addr.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks() {
        for (network, addr, inside) in [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("::1", "::1", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
        ] {
            let network_ = Network::parse(network).unwrap();
            assert_eq!(network_.contains(PeerAddr::Ip(addr.parse().unwrap(), 1)), inside, "{network} {addr}");
        }
        assert_eq!(Network::parse("10.0.0.0/33"), None);
        assert_eq!(Network::parse("proxy.example.com"), None);
        assert!(Network::parse("unix").unwrap().contains(PeerAddr::Unix));
    }

    #[test]
    fn the_visitor_is_the_last_whom_no_trusted_proxy_is() {
        let trusted = ["unix", "10.0.0.0/8", "2001:db8::1"].map(|text| Network::parse(text).unwrap());
        for (fields, visitor) in [
            (&[][..], None),
            (&["203.0.113.9"][..], Some("203.0.113.9")),
            (&["198.51.100.1, 203.0.113.9"], Some("203.0.113.9")),
            (&["198.51.100.1, 203.0.113.9 ,10.1.1.1,  2001:db8::1"], Some("203.0.113.9")),
            // A field that the client writes is overruled by the one behind it.
            (&["198.51.100.1", "203.0.113.9"], Some("203.0.113.9")),
            (&["203.0.113.9", "10.1.1.1"], Some("203.0.113.9")),
            (&["203.0.113.9:4711"], Some("203.0.113.9")),
            (&["[2001:db8::2]:80"], Some("2001:db8::2")),
            (&["[2001:db8::7]"], Some("2001:db8::7")),
            (&["[203.0.113.9]"], None),
            (&["[2001:db8::7"], None),
            (&["::ffff:203.0.113.9"], Some("203.0.113.9")),
            (&["10.0.0.1"], None),
            (&["203.0.113.9, unknown"], None),
            (&["203.0.113.9, "], Some("203.0.113.9")),
            (&[",203.0.113.9,\t,"], Some("203.0.113.9")),
            (&[", ,"], None),
        ] {
            let fields: String = fields.iter().map(|value| format!("X-Forwarded-For: {value}\r\n")).collect();
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            let request = crate::wire::http::parse(head.as_bytes()).unwrap();
            let expected = visitor.map(|text| PeerAddr::Forwarded(text.parse().unwrap()));
            assert_eq!(forwarded(&trusted, &request), expected, "{fields}");
        }
    }
}
