//! What must hold between two turns about sockets, readiness and the run queue: for the simulation.
//!
//! The law of edge-triggering in a form that can be checked: who can go on and is not waited for by the
//! kernel stands in a queue, and then the next poll does not sleep.

use super::{Accepting, Driver, Listen, Slot, Stream, Token};
use crate::clock::{Now, TICK_MS, Tick};
use crate::handler::Handler;
use crate::key::{BackendKey, ClientKey, Key};

type Verdict = Result<(), String>;

fn check(holds: bool, sentence: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(sentence()) }
}

impl<L: Listen, H: Handler> Driver<L, H> {
    /// Checks everything, the hub too; to be called between two turns.
    ///
    /// # Errors
    /// The first thing that does not hold.
    #[doc(hidden)]
    pub fn audit(&self, now: Now) -> Result<(), String> {
        self.hub.audit()?;
        self.audit_slots()?;
        self.audit_run()?;
        for (key, slot) in self.clients.iter().enumerate() {
            if let Some(slot) = slot {
                self.audit_client(key, slot).map_err(|what| format!("client {key}: {what}"))?;
            }
        }
        for (key, slot) in self.backends.iter().enumerate() {
            if let Some(slot) = slot {
                self.audit_backend(key, slot).map_err(|what| format!("backend {key}: {what}"))?;
            }
        }
        self.audit_timeout(now)
    }

    /// A slot exists exactly while the hub has that peer.
    fn audit_slots(&self) -> Verdict {
        fn used<S, K: Key>(slots: &[Option<Slot<S>>]) -> Vec<K> {
            let used = slots.iter().enumerate().filter(|(_, slot)| slot.is_some());
            used.map(|(key, _)| K::at(key)).collect()
        }
        let (clients, backends) = self.hub.audit_keys();
        let found = (used(&self.clients), used(&self.backends));
        check(found == (clients, backends), || format!("slots {found:?}, hub {:?}", self.hub.audit_keys()))
    }

    /// A mark says that the connection stands in `run` or in `later`, and it stands there once.
    fn audit_run(&self) -> Verdict {
        let later = || self.later.iter().map(|key| Token::Client(*key));
        let places = |token: Token| self.run.iter().copied().chain(later()).filter(|t| *t == token).count();
        let slots = |slots: &[Option<Slot<L::Stream>>], token: fn(usize) -> Token| -> Verdict {
            for (key, slot) in slots.iter().enumerate() {
                let places = places(token(key));
                let running = slot.as_ref().is_some_and(|slot| slot.running);
                let fits = if running { places == 1 } else { slot.is_none() || places == 0 };
                check(fits && places <= 1, || {
                    format!("{:?} stands in run {places} times, running: {running}", token(key))
                })?;
            }
            Ok(())
        };
        slots(&self.clients, Token::Client)?;
        slots(&self.backends, Token::Backend)
    }

    fn audit_client(&self, key: usize, slot: &Slot<L::Stream>) -> Verdict {
        let view = self.hub.audit_client_flush(ClientKey::at(key));
        check(!view.waits || view.queued || !slot.writable, || "bytes wait and nobody flushes them".into())?;
        let held = slot.stream.has_unsent();
        check(!held || view.queued || !slot.writable, || {
            "the stream holds bytes and nobody flushes it".into()
        })?;
        check(!view.owes_pong || view.waits || view.queued, || "a pong is forgotten".into())?;
        check(!view.lingers || view.waits || view.queued || slot.shut, || {
            "it lingers and is not shut down".into()
        })?;
        check(!slot.readable || slot.eof || slot.running, || "there is more to read".into())
    }

    fn audit_backend(&self, key: usize, slot: &Slot<L::Stream>) -> Verdict {
        let view = self.hub.audit_backend_flush(BackendKey::at(key));
        check(!view.waits || view.queued || !slot.writable, || {
            "replies wait and nobody flushes them".into()
        })?;
        let paused = self.hub.is_paused(BackendKey::at(key));
        check(!slot.readable || slot.eof || slot.running || paused, || "there is more to read".into())?;
        let commands = self.hub.backends[BackendKey::at(key)].has_commands();
        check(!commands || slot.running || paused, || "commands are left".into())?;
        check(!view.lingers || view.waits || view.queued || slot.shut, || {
            "it lingers and is not shut down".into()
        })
    }

    /// The next poll sleeps no longer than until the next thing to do.
    fn audit_timeout(&self, now: Now) -> Verdict {
        let timeout_ms = self.timeout_ms(now);
        let wakes_ms = timeout_ms.map_or(u64::MAX, |ms| now.ms.saturating_add(ms));
        let work =
            self.late || self.has_leftovers() || self.hub.floor.has_flush() || self.hub.backends.has_flush();
        let accepts = self.ports.iter().any(|port| port.accepting == Accepting::Ready);
        check(!(work || accepts) || timeout_ms == Some(0), || "work is left and the poll sleeps".into())?;
        if let Some(due_ms) = self.hub.audit_due_ms() {
            let latest_ms = Tick::at(due_ms).ms().max(now.ms + 2 * TICK_MS);
            check(wakes_ms <= latest_ms, || format!("wakes at {wakes_ms}, a peer is due at {due_ms}"))?;
        }
        for port in &self.ports {
            if let Accepting::Paused(until_ms) = port.accepting {
                let full = self.hub.client_slots() >= self.sockets_max;
                check(wakes_ms <= until_ms, || "sleeps longer than accepting pauses".into())?;
                check(until_ms < u64::MAX || full, || "accepting pauses although there is room".into())?;
            }
        }
        check(self.drain_until_ms.is_none_or(|until_ms| wakes_ms <= until_ms.max(now.ms)), || {
            "sleeps longer than the drain".into()
        })
    }
}
