//! Addresses, listeners and the transports that they accept.
//!
//! It never parses what goes over a socket. Invariant: every socket here does not block, is closed on
//! exec, and a Unix socket's file is removed only by the listener that made it.

mod address;
mod listener;
mod transport;

pub use address::Address;
pub(crate) use listener::Permissions;
pub use listener::{BindError, Inherited, Listener};
pub use transport::Transport;
