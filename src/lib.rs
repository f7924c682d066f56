//! wsson: pushes messages from any web backend to logged-in browsers over WebSocket.

pub mod auth;
mod backend;
pub mod client;
pub mod config;
pub mod control;
pub mod daemon;
mod dispatch;
pub mod driver;
pub mod frame;
pub mod handler;
pub mod handshake;
pub mod hub;
pub mod net;
pub mod outbox;
pub mod reactor;
pub mod remote;
pub mod spool;
pub mod stats;
#[allow(unsafe_code)]
pub mod sys;
pub mod timers;

pub use auth::Identity;
pub use client::ClientId;
pub use config::Settings;
pub use handler::{Handler, anybody};
pub use handshake::{Reject, Request};
pub use hub::Hub;
pub use reactor::{Server, Signal, Wake};
pub use remote::Remote;
