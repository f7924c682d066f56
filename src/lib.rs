//! wsson: pushes messages from any web backend to logged-in browsers over WebSocket.

pub mod frame;
#[allow(unsafe_code)]
pub mod sys;
pub mod timers;
