//! The real binary as a child process, over real sockets. One module per subject of the design pages.
//!
//! The clients and backends here are written from RFC 6455 and from the control protocol's page, not from the
//! server's code: where both are wrong in the same way, no test would notice. Nothing sleeps to wait for the server:
//! a test waits for readiness, for a reply, or for the end of a connection, each with a deadline.

#[path = "../rig/mod.rs"]
mod rig;

mod backend;
mod client;
#[cfg(feature = "bus")]
mod redis;
#[cfg(feature = "tls")]
mod secure;
mod server;

mod addresses;
mod arrival;
mod asked;
mod auth;
#[cfg(feature = "bus")]
mod bus;
mod commands;
mod control;
mod crowds;
mod events;
mod frames;
mod handshake;
mod http;
mod keys;
mod limits;
mod locks;
mod memory;
mod pace;
mod process;
mod proxied;
mod reuseport;
mod revoked;
mod tabs;
mod timers;
mod tls;
