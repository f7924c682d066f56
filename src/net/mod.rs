//! Addresses, listeners and the transports that they accept.
//!
//! It never parses the bytes that go over a socket. Invariant: every socket here does not block, is closed on
//! exec, and a Unix socket's file is removed only by the listener that made it.

mod address;
mod listener;
mod proxied;
#[cfg(feature = "tls")]
pub(crate) mod tls;
#[cfg(not(feature = "tls"))]
#[path = "without_tls.rs"]
pub(crate) mod tls;
mod transport;

pub(crate) use address::Address;
pub(crate) use listener::Permissions;
pub(crate) use listener::{BindError, Inherited, Listener, PATIENCE};
pub(crate) use transport::Transport;

use crate::driver::{Peer, Token};
use crate::key::{BackendKey, ClientKey, Key, NodeKey};

/// Peers and listeners share the space of mio's tokens: the kind is in the last three bits. The token with all of them
/// set is the reactor's own.
const KIND_BITS: u32 = 3;

pub(crate) fn mio_token(token: Token) -> mio::Token {
    let (index, kind) = match token {
        Token::Peer(Peer::Client(key)) => (key.index(), 0),
        Token::Peer(Peer::Backend(key)) => (key.index(), 1),
        Token::Peer(Peer::Node(key)) => (key.index(), 2),
        Token::Listener(place) => (place, 3),
    };
    mio::Token(index << KIND_BITS | kind)
}

pub(crate) fn driver_token(token: mio::Token) -> Token {
    let index = token.0 >> KIND_BITS;
    match token.0 & 7 {
        0 => Token::Peer(Peer::Client(ClientKey::at(index))),
        1 => Token::Peer(Peer::Backend(BackendKey::at(index))),
        2 => Token::Peer(Peer::Node(NodeKey::at(index))),
        _ => Token::Listener(index),
    }
}
