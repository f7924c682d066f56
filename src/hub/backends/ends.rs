//! The hub's side of the control connections: one comes, is too much, fails, is over, or ends with the server.
//!
//! What ends a conversation ends its lock and its place among the workers, which concern clients. It never changes a
//! backend past the methods of [`Backends`](super::Backends). Invariant: what ends here leaves no lock behind.

use super::{FULL_PAUSE_MS, LAST_WORD, REFUSED_MAX, TurnedAway};
use crate::clock::Tick;
use crate::hub::{Hub, Parting};
use crate::key::BackendKey;
use crate::peer::backend::{ControlKey, Due, Lock, Origin, State};
use crate::wire::command::{self, Reply, Rules};
use crate::wire::http::Response;
use crate::wire::http::forwarded::PeerAddr;
use log::{info, warn};

/// The response to a request that is too much beside all others.
fn too_much() -> Vec<u8> {
    let body =
        r#"{"error":"backends together hold too much, and this one most","hint":"limits.control_total"}"#;
    let response = Response::new(503).field("Cache-Control", "no-store");
    response.field("X-Content-Type-Options", "nosniff").close().json(body)
}

impl Hub {
    /// A connection that was accepted. One over `limits.backends` gets a reply that says so and ends; when too many of
    /// those are there already it gets no slot, and the reply to it comes back.
    pub(crate) fn add_backend(&mut self, peer: PeerAddr) -> Result<BackendKey, &'static [u8]> {
        let now = self.now.tick();
        let address = match peer {
            PeerAddr::Ip(address, _) | PeerAddr::Forwarded(address) => Some(address),
            PeerAddr::Unix => None,
        };
        if self.backends.len() - self.backends.refused >= self.rules.limits.backends {
            // One that has shown no key is in no other's way.
            if let Some(oldest) = self.backends.oldest_keyless() {
                self.end_backend(oldest);
            }
        }
        let limit = self.rules.limits.backends;
        if self.backends.len() - self.backends.refused < limit || self.backends.in_use() < limit {
            let origin = if address.is_none() { Origin::Trusted } else { Origin::Network };
            let owes = address.is_some() && !self.rules.control_keys.is_empty();
            let control_key = if owes { ControlKey::Awaited { since: now } } else { ControlKey::Needless };
            return Ok(self.backends.add(origin, address, control_key, now));
        }
        self.note_turned_away();
        if self.backends.refused >= REFUSED_MAX {
            return Err(LAST_WORD);
        }
        self.backends.refused += 1;
        let key = self.backends.add(Origin::Refused, address, ControlKey::Needless, now);
        self.backends.reply(key, &Reply::Error);
        self.backends.finish(key);
        Ok(key)
    }

    fn note_turned_away(&mut self) {
        self.stats.errors += 1;
        let turned_away = &mut self.backends.turned_away;
        turned_away.count += 1;
        if self.now.ms >= turned_away.tell_at_ms {
            let limit = self.rules.limits.backends;
            warn!("backends_full limit={limit} turned_away={}", turned_away.count);
            *turned_away = TurnedAway { count: 0, tell_at_ms: self.now.ms + FULL_PAUSE_MS };
        }
    }

    /// A backend's stream keeps this much between the socket and the driver.
    pub(crate) fn note_backend_stream(&mut self, key: BackendKey, bytes: usize) {
        self.backends.note_stream(key, bytes);
        self.bound_backends(key);
    }

    /// A backend's input or replies have grown. Over `limits.control_total` the one that most memory is kept for ends.
    pub(crate) fn bound_backends(&mut self, key: BackendKey) {
        self.backends.recount(key);
        while self.backends.held_bytes > self.rules.limits.backends_bytes_max() {
            let Some(largest) = self.backends.largest() else { return };
            let is_between = self.backends[largest].replies.bytes() == 0;
            self.backends.drop_replies(largest);
            match self.backends[largest].state {
                State::Open => {
                    if self.backends[largest].asks_in_http() && is_between {
                        self.backends.respond(largest, too_much());
                    }
                    self.fail_backend(largest, command::Error::Overflow);
                }
                _ => self.end_backend(largest),
            }
        }
    }

    /// Its input can not be understood, or is too much: a reply says so and the conversation is over.
    pub(crate) fn fail_backend(&mut self, key: BackendKey, error: command::Error) {
        info!("control_error reason={error}");
        self.stats.errors += 1;
        // A response that is cut off has no other end than that of the connection.
        if !self.backends[key].speaks_http() {
            self.backends.drop_later_events(key); // nothing comes behind an error
            self.backends.reply(key, &Reply::Error);
        }
        self.finish_backend(key);
    }

    pub(crate) fn control_rules(&self) -> Rules {
        Rules {
            token_length: self.rules.auth.token_length,
            payload_bytes_max: self.rules.limits.control_payload_bytes,
            addresses_max: self.rules.limits.addresses,
        }
    }

    /// No whole command is left. After the end of the input it is the end of the conversation.
    pub(crate) fn all_executed(&mut self, key: BackendKey) {
        self.backends.set_unfinished(key, false);
        if self.backends[key].eof {
            self.finish_backend(key);
        }
    }

    /// Whether too many replies wait for more commands to be taken: the backend does not read them.
    pub(crate) fn owes_replies(&self, key: BackendKey) -> bool {
        self.backends[key].replies.bytes() >= self.rules.limits.control_outbox_bytes
    }

    /// Whether an open client carries this token.
    pub(crate) fn has_token(&self, token: &[u8]) -> bool {
        self.floor.roster().first_of_token(token).is_some()
    }

    /// The answer to `m`: the domain of the listener with the fewest clients, or its address.
    pub(crate) fn freest(&self) -> String {
        let freest = self.floor.roster().listeners().iter().min_by_key(|listener| listener.clients);
        freest.map_or_else(String::new, |l| l.domain.clone().unwrap_or_else(|| l.address.clone()))
    }

    /// Whether no more input is to be read now.
    pub(crate) fn is_paused(&self, key: BackendKey) -> bool {
        self.owes_replies(key) || self.backends[key].state == State::Gone
    }

    /// The conversation is over: the queued replies go out, then the connection ends.
    pub(crate) fn finish_backend(&mut self, key: BackendKey) {
        self.unsubscribe(key, Parting::Lost);
        self.lose_lock(key);
        self.backends.finish(key);
    }

    /// The backend is over: its lock ends with it, its slot is reaped at the end of the turn.
    pub(crate) fn end_backend(&mut self, key: BackendKey) {
        self.unsubscribe(key, Parting::Lost);
        self.lose_lock(key);
        self.backends.end(key);
    }

    /// With its replies out: whether the connection is over.
    pub(crate) fn backend_is_over(&mut self, key: BackendKey, eof: bool) -> bool {
        let state = self.backends[key].state;
        let over = match state {
            State::Open | State::Gone => false,
            _ if self.backends[key].replies.waits() => return false,
            State::Ending | State::Lingering { .. } => eof || self.draining,
        };
        if !over && state == State::Ending {
            let until = Tick::at(self.now.ms + self.rules.timeouts.close_ms);
            self.backends.linger(key, until);
        }
        over
    }

    /// It reads no more: its commands are still executed, and events go to other workers.
    pub(crate) fn backend_is_deaf(&mut self, key: BackendKey) {
        self.unsubscribe(key, Parting::Lost);
        self.backends.go_deaf(key);
    }

    /// Handles at most `budget` deadlines; true when more may be due.
    pub(in crate::hub) fn expire_backends(&mut self, budget: usize) -> bool {
        for _ in 0..budget {
            match self.backends.pop_due(self.now.ms) {
                None => return false,
                Some((key, Some(due))) => self.backend_is_due(key, due),
                Some((_, None)) => {}
            }
        }
        true
    }

    fn backend_is_due(&mut self, key: BackendKey, due: Due) {
        match due {
            Due::Ping => self.backends.ping(key, self.now),
            Due::Lock => self.lose_lock(key),
            Due::Stuck => self.worker_is_stuck(key),
            Due::Dead => {
                info!("backend_closed reason=silent");
                self.end_backend(key);
            }
            Due::Keyless => {
                info!("backend_closed reason=no_key");
                self.end_backend(key);
            }
        }
    }

    /// Locks under which nothing was sent are lifted, so that the messages that they hold back go out before a close.
    pub(in crate::hub) fn lift_locks(&mut self) {
        let begun = |lock: &Lock| lock.kind.is_some();
        for key in self.backends.keys() {
            if !self.backends[key].lock.as_ref().is_some_and(begun) {
                self.lose_lock(key);
            }
        }
    }

    /// At the beginning of the drain. A program that asks in HTTP whether the server is well is told to the end.
    pub(in crate::hub) fn finish_backends(&mut self) {
        for key in self.backends.keys() {
            if !self.backends[key].asks_in_http() {
                self.backends.end_stream(key);
                self.finish_backend(key);
            }
        }
    }

    /// The last client has gone: those that only ask, and are owed no answer, go too.
    pub(crate) fn finish_drain(&mut self) {
        if !self.draining || self.roster().len() > 0 {
            return;
        }
        for key in self.backends.keys() {
            if self.backends[key].asks_in_http() && self.backends[key].replies.bytes() == 0 {
                self.finish_backend(key);
            }
        }
    }

    pub(in crate::hub) fn end_backends(&mut self) {
        for key in self.backends.keys() {
            self.end_backend(key);
        }
    }
}
