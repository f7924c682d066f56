//! Where to listen: `tcp://host:port`, `tls://host:port`, `unix:///path`.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

/// A parsed address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Plain TCP.
    Tcp(SocketAddr),
    /// TLS over TCP.
    Tls(SocketAddr),
    /// A Unix stream socket.
    Unix(PathBuf),
}

impl Address {
    /// Reads an address. A host name is looked up once, here; its first address is taken.
    ///
    /// # Errors
    /// A sentence for the administrator.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| {
            format!("\"{text}\" is not an address: write tcp://HOST:PORT, tls://HOST:PORT or unix:///PATH")
        })?;
        match scheme {
            "unix" => Ok(Self::Unix(PathBuf::from(rest))),
            "tcp" => resolve(rest).map(Self::Tcp),
            "tls" => resolve(rest).map(Self::Tls),
            _ => Err(format!("\"{text}\" has an unknown scheme: write tcp://, tls:// or unix://")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => write!(f, "tcp://{addr}"),
            Self::Tls(addr) => write!(f, "tls://{addr}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

fn resolve(host_port: &str) -> Result<SocketAddr, String> {
    let mut found = host_port.to_socket_addrs().map_err(|error| format!("\"{host_port}\": {error}"))?;
    found.next().ok_or_else(|| format!("\"{host_port}\" has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        for text in ["tcp://127.0.0.1:8099", "tls://0.0.0.0:8443", "tcp://[::1]:80", "unix:///run/a b.sock"] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        for text in ["127.0.0.1:80", "http://127.0.0.1:80", "tcp://127.0.0.1", "tcp://127.0.0.1:99999"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }
}
