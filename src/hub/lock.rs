//! Fragmented messages: a backend locks the clients of a token and sends one message in pieces.
//!
//! While a client is locked, other messages for it are held, in order: RFC 6455 5.4 forbids data frames of
//! another message in between. It never lets a fragment out of order pass. Invariant: a client
//! holds if and only if exactly one backend's lock names it.

use super::Hub;
use super::send::is_over;
use crate::delivery::outbox::Outbox;
use crate::delivery::spool::{Lane, Range};
use crate::key::BackendKey;
use crate::peer::backend::Lock;
use crate::peer::client::{ClientId, Hold};
use crate::wire::command::Place;
use crate::wire::frame::utf8::Validator;
use crate::wire::frame::{CloseCode, Kind, Opcode};
use log::info;

impl Hub {
    /// Locks all open clients of a token for this backend, or none: when none is open, when one is
    /// locked already, or when the backend holds a lock.
    pub(crate) fn lock(&mut self, backend: BackendKey, token: &[u8]) -> bool {
        self.settle();
        let clients: Vec<ClientId> = self.clients_of(token).collect();
        let is_locked = |id: &ClientId| self.clients[id.key as usize].is_locked();
        let held = self.backends[backend].lock.is_some();
        if held || clients.is_empty() || clients.iter().any(is_locked) {
            return false;
        }
        for id in &clients {
            let rare = self.clients[id.key as usize].rare().expect("a client of a token is open");
            rare.hold = Some(Hold { outbox: Outbox::default() });
        }
        self.backends.lock(backend, Lock { clients, kind: None, text: Validator::default() });
        self.counts.locks += 1;
        true
    }

    /// Queues a fragment for the locked clients. False, and nothing sent, when there is no lock, when it
    /// is out of order or not UTF-8 (the lock stays), or when no locked client is left (the lock ends).
    pub(crate) fn fragment(&mut self, backend: BackendKey, place: Place, kind: Kind, data: &[u8]) -> bool {
        self.settle();
        let Some(mut lock) = self.backends.take_lock(backend) else { return false };
        lock.clients.retain(|id| self.is_open(*id));
        if lock.clients.is_empty() {
            self.counts.locks -= 1;
            return false;
        }
        let queued = match next_frame(&lock, place, kind, data) {
            Some((opcode, text)) => {
                lock.kind = lock.kind.or(Some(kind));
                lock.text = text;
                self.queue_fragment(&lock.clients, place == Place::Last, opcode, data) > 0
            }
            None => {
                self.backends.return_lock(backend, lock);
                return false;
            }
        };
        if place == Place::Last || !queued {
            self.unlock(&lock.clients);
        } else {
            self.backends.return_lock(backend, lock);
        }
        queued
    }

    /// The backend is lost while it holds a lock. A client that saw a part of the message can not be
    /// given another one: it is closed.
    pub(crate) fn lose_lock(&mut self, backend: BackendKey) {
        let Some(lock) = self.backends.end_lock(backend) else { return };
        info!("lock_lost clients={} begun={}", lock.clients.len(), lock.kind.is_some());
        if lock.kind.is_none() {
            self.unlock(&lock.clients);
            return;
        }
        self.counts.locks -= 1;
        for id in lock.clients {
            self.close(id, CloseCode::INTERNAL, "framesource lost");
        }
    }

    /// Returns how many clients took it.
    fn queue_fragment(&mut self, clients: &[ClientId], fin: bool, opcode: Opcode, data: &[u8]) -> usize {
        let range = self.spool.append_frame(Lane::Private, fin, opcode, data);
        self.spool.hold(range.segment, 1);
        let taken = clients.iter().filter(|id| self.push_fragment(**id, range)).count();
        self.spool.release(range.segment);
        self.stats.messages_out += if fin { taken as u64 } else { 0 };
        self.relieve();
        taken
    }

    fn push_fragment(&mut self, id: ClientId, range: Range) -> bool {
        let waiting = self.clients[id.key as usize].waiting_bytes();
        if is_over(waiting, range.len(), self.settings.limits.outbox_bytes) {
            self.overflow(id.key);
            return false;
        }
        self.push_past_lock(id.key, range);
        true
    }

    /// Lets what was held follow.
    fn unlock(&mut self, clients: &[ClientId]) {
        self.counts.locks -= 1;
        for id in clients.iter().filter(|id| self.is_open(**id)).copied().collect::<Vec<_>>() {
            let client = &mut self.clients[id.key as usize];
            if let Some(hold) = client.take_hold() {
                client.outbox.append(hold.outbox, &mut self.spool);
                self.queue_flush(id.key);
            }
        }
    }
}

/// The opcode of the fragment's frame and the text seen with it; `None` when it does not belong here.
fn next_frame(lock: &Lock, place: Place, kind: Kind, data: &[u8]) -> Option<(Opcode, Validator)> {
    let opcode = match (place, lock.kind) {
        (Place::First | Place::Last, None) => kind.opcode(),
        (Place::Middle | Place::Last, Some(_)) => Opcode::Continuation,
        (Place::First, Some(_)) | (Place::Middle, None) => return None,
    };
    let mut text = lock.text;
    if lock.kind.unwrap_or(kind) == Kind::Text {
        let valid = text.feed(data) && (place != Place::Last || text.is_complete());
        return valid.then_some((opcode, text));
    }
    Some((opcode, text))
}
