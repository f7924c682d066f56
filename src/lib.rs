//! wsson: pushes messages from any web backend to logged-in browsers over WebSocket.

pub mod auth;
pub mod config;
pub mod control;
pub mod frame;
pub mod handshake;
pub mod outbox;
pub mod spool;
pub mod stats;
#[allow(unsafe_code)]
pub mod sys;
pub mod timers;
