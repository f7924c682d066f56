//! wsson: pushes messages from any web backend to logged-in browsers over WebSocket.

pub mod frame;
pub mod timers;
