//! Accepting: how many connections in a turn, and when to pause.
//!
//! An edge-triggered listener reports connections once; so its state remembers that one may wait. A pause never
//! spins: it ends when a slot is free, or after a while. Invariant: a port is `Waiting` only if its
//! listener said `WouldBlock`.

use super::table::{Slot, Write};
use super::{Driver, Listen, Nodes, Peer, Stream, Token};
use crate::clock::Now;
use crate::handler::Handler;
use crate::wire::http::forwarded::PeerAddr;
use log::{debug, warn};
use std::io::{self, ErrorKind};

/// Accepted connections a listener and turn: one accept costs as much as a message.
const ACCEPTS_MAX: usize = 64;
/// How long accepting pauses when the system has no descriptor left and no peer leaves.
const ACCEPT_PAUSE_MS: u64 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepting {
    /// The listener said that no connection waits; an event will come.
    Waiting,
    /// A connection may wait.
    Ready,
    /// No descriptor is free: until one is, or until this moment.
    Paused(u64),
    /// There is no room for a connection without a login: until there is, or until this moment.
    Crowded(u64),
}

impl Accepting {
    /// When to look at the listener again without an event.
    pub(super) fn at_ms(self) -> u64 {
        match self {
            Self::Waiting => u64::MAX,
            Self::Ready => 0,
            Self::Paused(until_ms) | Self::Crowded(until_ms) => until_ms,
        }
    }
}

#[derive(Debug)]
pub(super) struct Port<L> {
    pub(super) listener: L,
    pub(super) accepting: Accepting,
    /// Place among the hub's listeners; `None` for the control unit.
    pub(super) place: Option<usize>,
}

impl<L: Listen, H: Handler, N: Nodes> Driver<L, H, N> {
    /// There is room, or may be.
    pub(super) fn accept_again(&mut self) {
        let paused =
            |port: &&mut Port<L>| matches!(port.accepting, Accepting::Paused(_) | Accepting::Crowded(_));
        self.ports.iter_mut().filter(paused).for_each(|port| port.accepting = Accepting::Ready);
        self.accept_at_ms = 0;
    }

    /// Connections that kept the others waiting may have shown their login, or be on their way out.
    #[inline]
    pub(super) fn accept_if_room(&mut self) {
        if self.accept_at_ms != u64::MAX
            && self.waits_for_room()
            && self.hub.is_crowded(self.sockets_max).is_none()
        {
            self.accept_again();
        }
    }

    pub(super) fn waits_for_room(&self) -> bool {
        self.ports.iter().any(|port| matches!(port.accepting, Accepting::Crowded(_)))
    }

    /// Most turns have no connection to accept, and see that without a look at the listeners.
    #[inline]
    pub(super) fn accept(&mut self, now: Now) {
        if now.ms >= self.accept_at_ms {
            self.accept_from_all(now);
            self.accept_at_ms =
                self.ports.iter().map(|port| port.accepting.at_ms()).min().unwrap_or(u64::MAX);
        }
    }

    #[inline(never)]
    fn accept_from_all(&mut self, now: Now) {
        for place in 0..self.ports.len() {
            if self.ports[place].accepting.at_ms() <= now.ms {
                self.ports[place].accepting = Accepting::Ready;
            }
            for _ in 0..ACCEPTS_MAX {
                if self.ports[place].accepting != Accepting::Ready {
                    break;
                }
                self.accept_one(place, now);
            }
        }
    }

    fn accept_one(&mut self, place: usize, now: Now) {
        let port = &mut self.ports[place];
        if port.place.is_some() {
            // When one had to go for the last one, its descriptor comes free at the end of the turn.
            let reaps = self.hub.client_slots() > self.sockets_max;
            let until_ms = if reaps { Some(u64::MAX) } else { self.hub.is_crowded(self.sockets_max) };
            if let Some(until_ms) = until_ms {
                port.accepting = Accepting::Crowded(until_ms);
                return;
            }
        }
        let peer = match port.place {
            Some(_) => Peer::Client(self.hub.next_client()),
            None => Peer::Backend(self.hub.backends.next_key()),
        };
        match port.listener.accept(Token::Peer(peer)) {
            Ok((stream, peer)) => match port.place {
                Some(place) => self.add_client(stream, place, peer),
                None => self.add_backend(stream, peer),
            },
            Err(error) => self.accept_failed(place, &error, now),
        }
    }

    fn accept_failed(&mut self, place: usize, error: &io::Error, now: Now) {
        let accepting = &mut self.ports[place].accepting;
        match error.kind() {
            ErrorKind::WouldBlock => *accepting = Accepting::Waiting,
            // The connection was gone before it was accepted; the next one may not be.
            ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted => {}
            _ => {
                *accepting = Accepting::Paused(now.ms + ACCEPT_PAUSE_MS);
                self.hub.stats.errors += 1;
                warn!("accept_paused reason=\"{error}\"");
            }
        }
    }

    fn add_client(&mut self, stream: L::Stream, place: usize, peer: PeerAddr) {
        let id = self.hub.add_client(place, peer, self.sockets_max);
        // A fresh socket can be written to.
        self.table.clients.put(id.key, Slot::new(stream, Write::Ready));
    }

    fn add_backend(&mut self, mut stream: L::Stream, peer: PeerAddr) {
        match self.hub.add_backend(peer) {
            Ok(key) => self.table.backends.put(key, Slot::new(stream, Write::Ready)),
            Err(last_word) => drop(stream.send(last_word)), // read or not, the connection ends here
        }
        debug!("backend_opened");
    }
}
