//! Fragmented messages: a backend locks the clients of a token and sends one message in pieces.
//!
//! While a client is locked, other messages for it are held, in order: RFC 6455 5.4 forbids data frames of
//! another message in between. It never lets a fragment out of order pass. Invariant: a client
//! holds if and only if exactly one backend's lock names it.

use super::{Hub, Leave};
use crate::key::BackendKey;
use crate::peer::backend::Lock;
use crate::wire::command::Place;
use crate::wire::frame::utf8::Validator;
use crate::wire::frame::{CloseCode, Kind, Opcode};
use log::info;

impl Hub {
    /// Locks all open clients of a token for this backend, or none: when none is open, when one is
    /// locked already, or when the backend holds a lock.
    pub(crate) fn lock(&mut self, backend: BackendKey, token: &[u8]) -> bool {
        if self.backends[backend].lock.is_some() {
            return false;
        }
        let Some(clients) = self.settled().lock(token) else { return false };
        self.backends.lock(backend, Lock { clients, kind: None, text: Validator::default() });
        true
    }

    /// Queues a fragment for the locked clients. False, and nothing sent, when there is no lock, when it
    /// is out of order or not UTF-8 (the lock stays), or when no locked client is left (the lock ends).
    pub(crate) fn fragment(&mut self, backend: BackendKey, place: Place, kind: Kind, data: &[u8]) -> bool {
        let Some(mut lock) = self.backends.take_lock(backend) else { return false };
        let mut settled = self.settled();
        lock.clients.retain(|id| settled.is_open(*id));
        if lock.clients.is_empty() {
            return false;
        }
        let Some((opcode, text)) = next_frame(&lock, place, kind, data) else {
            self.backends.return_lock(backend, lock);
            return false;
        };
        lock.kind = lock.kind.or(Some(kind));
        lock.text = text;
        let queued = settled.deliver_fragment(&lock.clients, place == Place::Last, opcode, data) > 0;
        if place == Place::Last || !queued {
            settled.unlock(&lock.clients);
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
        let mut settled = self.settled();
        if lock.kind.is_none() {
            settled.unlock(&lock.clients);
            return;
        }
        for id in &lock.clients {
            if settled.is_connected(*id) {
                settled.leave(id.key, Leave::Broken(CloseCode::INTERNAL, "framesource lost"));
            }
        }
        // Tabs that are away now, or were before.
        settled.drop_unfinished(&lock.clients);
        settled.unlock(&lock.clients);
    }
}

/// The opcode of the fragment's frame and the text seen with it; `None` when the fragment is out of order.
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
