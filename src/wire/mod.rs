//! Bytes to values and back: everything that a stranger can send is read here, by pure code.
//!
//! Each part is a codec that gives the same values however its input is split, and is fuzzed. It never knows a peer, a
//! socket or a clock. Invariant: no part keeps bytes between two calls unless its caller gave it the place.

pub(crate) mod command;
pub mod envelope;
pub(crate) mod frame;
pub(crate) mod http;
pub(crate) mod json;
pub(crate) mod proxy;
pub mod resp;
