//! Whom to believe about a visitor's address.
//!
//! The last address in `X-Forwarded-For` that is not a trusted proxy's is the one that the outermost
//! trusted proxy saw. It is for the log alone: nothing is decided by it.

use crate::client::Peer;
use crate::handshake::Request;
use core::net::IpAddr;

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

    pub(crate) fn contains(self, peer: Peer) -> bool {
        match (self, peer) {
            (Self::Unix, Peer::Unix) => true,
            (Self::Block(block, bits), Peer::Ip(addr, _) | Peer::Forwarded(addr)) => {
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

/// The visitor's address, when the request tells one.
pub(crate) fn forwarded(trusted: &[Network], request: &Request<'_>) -> Option<Peer> {
    let value = request.header("x-forwarded-for")?;
    let hops = std::str::from_utf8(value).ok()?;
    let visitor = |hop: &str| hop.trim().parse().ok().map(Peer::Forwarded);
    hops.rsplit(',').map_while(visitor).find(|peer| !trusted.iter().any(|network| network.contains(*peer)))
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
            assert_eq!(network_.contains(Peer::Ip(addr.parse().unwrap(), 1)), inside, "{network} {addr}");
        }
        assert_eq!(Network::parse("10.0.0.0/33"), None);
        assert_eq!(Network::parse("proxy.example.com"), None);
        assert!(Network::parse("unix").unwrap().contains(Peer::Unix));
    }
}
