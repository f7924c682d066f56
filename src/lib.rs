//! wsson: pushes messages from any web backend to logged-in browsers over WebSocket.

pub mod auth;
pub mod config;
pub mod handshake;
