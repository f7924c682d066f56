//! wsson pushes messages from any web backend to logged-in browsers over WebSocket.
//!
//! Most people want the program of the same name: README.md tells how to run it, COMMANDS.md has the commands of backends. The
//! program is made of this library, and a server with an application of its own is a [`Handler`]:
//!
//! ```no_run
//! use wsson::{ClientId, Handler, Hub, Kind, Secret, Server, Settings};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     fn on_text_message(&mut self, hub: &mut Hub, id: ClientId, text: &str) {
//!         hub.send_direct(id, Kind::Text, text.as_bytes());
//!     }
//! }
//!
//! let text = "secret_file = 'secret'\norigins = 'https://example.com'";
//! let mut settings = Settings::parse(text, "/etc/wsson".as_ref()).map_err(|errors| errors[0].clone())?;
//! settings.auth.secrets = vec![Secret::new(std::fs::read("/etc/wsson/secret")?.trim_ascii_end())];
//! let mut server = Server::bind(&settings, Echo)?;
//! server.handle_signals()?;
//! server.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Server::remote`] gives a handle that sends from other threads. The examples echo, broadcast and terminal are whole
//! programs.
//!
//! # The map of the house
//!
//! One process, one thread, one event loop. The idea is a *hub without sockets* and a *thin reactor*: the hub is the whole
//! server as plain data (bytes in, frames queued, time passed in), and the reactor is the only code that waits for sockets.
//! So everything that a stranger can send is parsed by pure code, which is tested, fuzzed and simulated in memory.
//!
//! Two kinds of peers: *clients* are browsers, *backends* are the site's own programs on the control socket. A *frame* is
//! RFC 6455's, a *command* and its *reply* are the control protocol's.
//!
//! ## Layers
//!
//! The folders are the layers. Each knows those above it in this list, never those below; `tests/layers.rs` reads the
//! source and says so.
//!
//! **0: bytes and values.** Pure. They mention no peer, socket, file, thread, clock or randomness.
//!
//! * `wire`: bytes to values and back: `frame` (RFC 6455), `http` (a request head becomes a [`Request`]),
//!   `command` (the control protocol), `json`, `resp` and `envelope` (the bus).
//! * `auth`: cookies, JWTs and digests to an [`Identity`]; tickets for groups, revocations, origins.
//! * `config`: the settings, their defaults, and the reason of every limit.
//! * `delivery`: the spool of encoded frames that all outboxes share, one client's outbox of ranges in it, flush queues.
//! * `clock`: the time of a turn, and a wheel of deadlines, one entry a peer.
//! * `key`: the keys of peers, a type for each kind.
//! * `date`: days and dates, for the log and for certificates.
//! * `names`: the grammar of tokens, users, groups and connections.
//! * `words`: looking for bytes eight at a time.
//! * `rule`: the rules that a connection breaks which does not become a client; names for log, counters and documentation.
//! * `stats`: counters, the status as JSON, the same as metrics.
//!
//! **1: peers.** Pure state machines. `peer::client` is one browser connection, `peer::backend` one control connection,
//! `peer::node` one connection to a broker of the bus.
//!
//! **2: the hub.** `roster` has the clients that are here, with their names and deadlines. `hub` is the server: the floor (roster
//! and delivery, changed through a `Settled` alone), the backends, the rules in force. `dispatch` executes a backend's
//! commands on it. `handler` has the trait of applications and turns a client's bytes into its callbacks.
//!
//! **3: sockets.** `driver` is one turn of the loop over any kind of socket; the simulator brings its own. `net` has
//! addresses, listeners and transports (TCP, Unix, TLS). `remote` sends from other threads. `server` holds the poll, and
//! is the [`Server`] that everything is reached by. `sys` is the only file with unsafe code: system calls that only libc gives.
//!
//! **4: the process.** `daemon` has the PID file, detaching, privileges, reload, logs and systemd; `cli` the command line.
//!
//! ## One turn
//!
//! The reactor polls, and sleeps until the next deadline unless something is left over. It takes the time once. Then:
//!
//! 1. *Events.* Readable peers are read into one scratch buffer, and pumped through the hub into callbacks or commands. They
//!    only queue. Peers that became writable are remembered. When 64 clients wait for something of their own, those are flushed
//!    before the next event: their messages are still in the cache.
//! 2. *Run.* Peers that had more to do than their share in an earlier turn get another one.
//! 3. *Accept*, a bounded number for each listener.
//! 4. *Time.* Deadlines that have come: pings, expired logins, dead peers, lost locks.
//! 5. *Flush.* Queued messages leave, in fair order and one bounded piece for each peer. Those for one client or a few go
//!    before broadcasts.
//! 6. *Reap.* Peers that are over are removed. Five seconds after that, sparse tables shrink.
//!
//! Only the flush writes to a socket, and only the reaping removes a peer. Every loop has a bound. Readiness is
//! edge-triggered, so code that stops early leaves a note, and a turn that leaves a note makes the next poll not sleep.
//!
//! ## How data flows
//!
//! * *A handshake:* accepted by the driver, a slot in the hub, read until the head is complete, parsed, origin,
//!   cookies, room; then 101 is queued and the client is in the indexes. Bytes behind the head are its first frames. A refusal
//!   queues its response and lets the peer read it.
//! * *A client's message:* decoded and unmasked in the scratch buffer, checked, given to the handler, which gets `&mut Hub`
//!   because an event borrows the buffer and not the hub.
//! * *A broadcast:* encoded once into the spool; consecutive ones are one range; every outbox gets the range, twelve bytes; the
//!   flush spreads over as many turns as it takes. A backend that is faster than the sockets waits.
//! * *A confirmed message:* the token is looked up, the frame queued for its connections or not, and `A` or `N` is queued for the
//!   backend, in the order of its commands.
//! * *The end:* listeners are closed, every client gets 1001, the outboxes are flushed, and the loop ends when all are gone or
//!   `timeouts.drain` is over.
//!
//! ## What holds everywhere
//!
//! * An id ([`ClientId`]) has a generation: a stale one is an ordinary `false`, never another visitor's connection.
//! * An open, silent client owns no heap buffer.
//! * Every queue, buffer, loop and count has a named bound.
//! * An error of a peer is a value that knows its wire meaning, and ends one connection. Only the start and the poll itself
//!   end the process.

// 0: bytes and values
mod auth;
mod clock;
mod config;
mod date;
mod delivery;
mod key;
mod names;
mod rule;
mod stats;
mod wire;
mod words;
// 1: peers
mod peer;
// 2: the hub
mod dispatch;
mod handler;
mod hub;
mod roster;
// 3: sockets
mod driver;
mod net;
mod remote;
mod server;
#[allow(unsafe_code)]
mod sys;
// 4: the process
#[doc(hidden)]
pub mod cli;
mod daemon;

pub use auth::{Identity, Secret};
pub use config::Settings;
pub use handler::{Handler, anybody};
pub use hub::{GroupError, Hub, Reached, Refusal};
pub use peer::client::ClientId;
pub use remote::{Remote, RemoteError};
pub use roster::Address;
pub use server::{Server, Signal, StartError, Wake};
pub use wire::frame::{CloseCode, Kind};
pub use wire::http::Request;

/// Items that the tests and the fuzz targets of this repository need beyond those. It changes without notice.
#[doc(hidden)]
pub mod testing {
    pub mod auth {
        pub use crate::auth::*;
    }
    pub mod client {
        pub use crate::wire::http::forwarded::PeerAddr;
    }
    pub mod bus {
        pub use crate::dispatch::bus::{open, receive};
        pub use crate::wire::{envelope, resp};
    }
    pub mod config {
        pub use crate::config::*;
    }
    pub mod control {
        pub use crate::wire::command::*;
    }
    pub mod daemon {
        pub use crate::daemon::messages;
    }
    pub mod driver {
        pub use crate::driver::*;
    }
    pub mod frame {
        pub use crate::wire::frame::*;
    }
    pub mod http {
        pub use crate::wire::http::*;
    }
    pub mod key {
        pub use crate::key::*;
    }
    pub mod proxy {
        pub use crate::wire::proxy::*;
    }
    pub mod rules {
        pub use crate::rule::*;
    }
    pub mod stats {
        pub use crate::stats::*;
    }
    pub mod sys {
        pub use crate::sys::lock_record;
    }
    pub mod timers {
        pub use crate::clock::*;
    }
}
