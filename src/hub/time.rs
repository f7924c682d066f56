//! Deadlines that have come, and the drain before the end.
//!
//! It never reads a clock: `Hub::now` is the time of the turn. Arming is the business of the roster and
//! the backends.

use super::{Hub, Leave};
use crate::key::ClientKey;
use crate::peer::client::{Client, ClientId, Due, State};
use crate::roster::Address;
use crate::rule::Rule;
use crate::wire::frame::CloseCode;
use log::info;

impl Hub {
    /// Handles at most `budget` deadlines; true when more may be due.
    #[inline]
    pub(crate) fn expire(&mut self, budget: usize) -> bool {
        self.now.ms >= self.next_deadline_ms() && self.expire_some(budget)
    }

    #[inline(never)]
    fn expire_some(&mut self, budget: usize) -> bool {
        for _ in 0..budget {
            match self.floor.pop_due(self.now) {
                None => {
                    if self.now.ms >= self.events_due_ms() {
                        self.expire_pools();
                    }
                    return self.expire_proofs(budget) | self.expire_backends(budget);
                }
                Some((key, Some(due))) => self.client_is_due(key, due),
                Some((_, None)) => {}
            }
        }
        true
    }

    /// When to come back for the next deadline, in milliseconds of [`Hub::now`]; `u64::MAX` for never.
    #[inline]
    pub(crate) fn next_deadline_ms(&self) -> u64 {
        let peers_ms = self.floor.next_deadline_ms().min(self.backends.next_ms());
        peers_ms.min(self.proofs.next_ms()).min(self.tidy.due_ms).min(self.events_due_ms())
    }

    fn client_is_due(&mut self, key: ClientKey, due: Due) {
        match due {
            Due::Handshake => {
                let id = self.client_id(key).expect("a client that is due is here");
                self.refuse(id, Rule::Timeout);
            }
            // It may have said more than it is listened to.
            Due::Ping | Due::Dead if self.awaits(key).is_some() => self.floor.excuse(key, self.now),
            Due::Ping => self.floor.ping(key, self.now),
            Due::Unconfirmed => self.floor.ask_to_confirm(key, self.now),
            Due::AwayLong => self.settled().give_up(key, None),
            // Handing out the pending round may close it.
            Due::Expired => {
                let id = self.client_id(key).expect("a client that is due is here");
                self.close(id, CloseCode::NORMAL, "expired");
            }
            Due::Dead | Due::Stalled | Due::CloseLate => {
                info!("dropped reason={} peer={}", due.reason(), self.roster().peer(key));
                self.settled().lose(key);
            }
        }
    }

    // The end.

    /// Takes no more clients, and returns those that are to be told that the server ends.
    pub(crate) fn begin_to_leave(&mut self) -> Vec<ClientId> {
        self.leaving = true;
        self.members(Address::All)
    }

    /// Begins to shut down: every client gets a close with 1001, handshakes are refused, backends' replies go out.
    /// Messages queued before are sent before. Calling it again changes nothing.
    pub(crate) fn drain(&mut self) {
        if std::mem::replace(&mut self.draining, true) {
            return;
        }
        let _ = self.settled();
        self.lift_locks();
        for key in self.roster().keys() {
            match self.roster().get(key).map(Client::state) {
                Some(State::Handshaking { .. }) => {
                    let id = self.client_id(key).expect("it is here");
                    self.refuse(id, Rule::Draining);
                }
                Some(State::Open { .. } | State::Away { .. }) => {
                    self.settled().leave(key, Leave::Closing(CloseCode::GOING_AWAY, "going away"));
                }
                _ => {}
            }
        }
        self.finish_backends();
    }

    /// Whether every connection is over.
    pub(crate) fn is_drained(&self) -> bool {
        self.draining && self.roster().len() == 0 && self.backends.is_empty()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining
    }

    /// Ends the connections that are left, at the end of the drain time.
    pub(crate) fn end_all(&mut self) {
        for key in self.roster().keys() {
            self.settled().lose(key);
        }
        self.end_backends();
    }
}
