//! Addresses, listeners and the transports that they accept.
//!
//! It never parses what goes over a socket. Invariant: every socket here does not block, is closed on
//! exec, and a Unix socket's file is removed only by the listener that made it.

mod address;
mod listener;
#[cfg(feature = "tls")]
pub(crate) mod tls;
#[cfg(not(feature = "tls"))]
#[path = "without_tls.rs"]
pub mod tls;
mod transport;

pub(crate) use address::Address;
pub(crate) use listener::Permissions;
pub(crate) use listener::{BindError, Inherited, Listener};
pub(crate) use transport::Transport;

use crate::driver::Token;

/// Clients, backends and listeners share the space of mio's tokens: the kind is in the last two bits. The
/// fourth kind is the reactor's own.
pub(crate) fn mio_token(token: Token) -> mio::Token {
    mio::Token(match token {
        Token::Client(key) => key << 2,
        Token::Backend(key) => key << 2 | 1,
        Token::Listener(place) => place << 2 | 2,
    })
}

pub(crate) fn driver_token(token: mio::Token) -> Token {
    match token.0 & 3 {
        0 => Token::Client(token.0 >> 2),
        1 => Token::Backend(token.0 >> 2),
        _ => Token::Listener(token.0 >> 2),
    }
}
