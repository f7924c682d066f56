//! The invariants between two turns about sockets, readiness and the run queue: for the simulation.
//!
//! The law of edge-triggering in a form that can be checked: a connection that can go on and waits for no event of the
//! kernel is in a queue, and then the next poll does not sleep.

use super::protocol::Protocol;
use super::stream::Stream;
use super::table::{Place, Row, Slot, Write};
use super::{Accepting, Driver, Listen, Nodes, Peer};
use crate::clock::{Now, TICK_MS, Tick};
use crate::handler::Handler;

type Verdict = Result<(), String>;

fn check(holds: bool, sentence: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(sentence()) }
}

impl<L: Listen, H: Handler, N: Nodes> Driver<L, H, N> {
    /// Checks everything, the hub too; to be called between two turns.
    ///
    /// # Errors
    /// The first thing that does not hold.
    #[doc(hidden)]
    pub fn audit(&self, now: Now) -> Result<(), String> {
        self.hub.audit()?;
        self.audit_row(&self.table.clients)?;
        self.audit_row(&self.table.backends)?;
        self.audit_row(&self.table.nodes)?;
        self.audit_timeout(now)
    }

    fn audit_row<K: Protocol>(&self, row: &Row<K, L::Stream>) -> Verdict {
        self.audit_slots(row)?;
        for (key, slot) in row.places() {
            self.audit_place(key.peer(), slot.map(|slot| slot.place))?;
        }
        for (key, slot) in row.used() {
            self.audit_slot(key, slot).map_err(|what| format!("{:?}: {what}", key.peer()))?;
        }
        Ok(())
    }

    /// A slot exists exactly while the hub has that peer.
    fn audit_slots<K: Protocol>(&self, row: &Row<K, L::Stream>) -> Verdict {
        let slots: Vec<K> = row.used().map(|(key, _)| key).collect();
        let peers = K::keys(&self.hub, &self.nodes);
        check(slots == peers, || format!("slots {slots:?}, peers {peers:?}"))
    }

    /// A slot says in which queue the connection is, and it is there once. An entry that an earlier user of the
    /// slot left behind in a queue names no connection, or is taken for the next one's.
    fn audit_place(&self, peer: Peer, place: Option<Place>) -> Verdict {
        let count = |queue: &std::collections::VecDeque<Peer>| queue.iter().filter(|p| **p == peer).count();
        let held = self.held.iter().filter(|held| **held == peer).count();
        let stands = (count(&self.run), count(&self.later), held);
        let fits = match place {
            None => stands.0 + stands.1 <= 1,
            Some(Place::Nowhere) => stands.0 + stands.1 == 0,
            Some(Place::Run) => (stands.0, stands.1) == (1, 0),
            Some(Place::Later) => (stands.0, stands.1) == (0, 1),
            Some(Place::Shelved) => {
                let Peer::Client(key) = peer else { return Err(format!("{peer:?} waits for a worker")) };
                stands.0 + stands.1 == 0 && self.hub.audit_shelved(key)
            }
            Some(Place::Held) => (stands.0, stands.1) == (0, 0) && stands.2 > 0,
        };
        check(fits, || format!("{peer:?} stands in run, later and held {stands:?} times, place: {place:?}"))
    }

    fn audit_slot<K: Protocol>(&self, key: K, slot: &Slot<L::Stream>) -> Verdict {
        let view = key.view(&self.hub, &self.nodes);
        let flush = &view.flush;
        let can_write = slot.write == Write::Ready;
        check(!flush.waits || flush.queued || !can_write, || "bytes wait and nothing flushes them".into())?;
        check(!slot.stream.has_unsent() || flush.queued || !can_write, || {
            "the stream holds bytes and nothing flushes it".into()
        })?;
        check(!flush.owes_pong || flush.waits || flush.queued, || "a pong is forgotten".into())?;
        check(!flush.lingers || flush.waits || flush.queued || slot.write == Write::Shut, || {
            "it lingers and is not shut down".into()
        })?;
        let runs = slot.place != Place::Nowhere || view.is_held;
        check(!slot.read.is_ready() || runs, || "there is more to read".into())?;
        check(!view.has_work || runs, || "commands are left".into())
    }

    /// The next poll sleeps no longer than until the next thing to do.
    fn audit_timeout(&self, now: Now) -> Verdict {
        let timeout_ms = self.timeout_ms(now);
        let wakes_ms = timeout_ms.map_or(u64::MAX, |ms| now.ms.saturating_add(ms));
        let accepts = self.ports.iter().any(|port| port.accepting == Accepting::Ready);
        check(!(self.has_work() || accepts) || timeout_ms == Some(0), || {
            "work is left and the poll sleeps".into()
        })?;
        if let Some(due_ms) = self.hub.audit_due_ms() {
            let latest_ms = Tick::at(due_ms).ms().max(now.ms + 2 * TICK_MS);
            check(wakes_ms <= latest_ms, || format!("wakes at {wakes_ms}, a peer is due at {due_ms}"))?;
        }
        for port in &self.ports {
            check(wakes_ms <= port.accepting.at_ms().max(now.ms), || {
                "sleeps longer than accepting pauses".into()
            })?;
            if let Accepting::Crowded(until_ms) = port.accepting {
                let full = self.hub.client_slots() >= self.sockets_max;
                check(until_ms < u64::MAX || full, || "accepting pauses although there is room".into())?;
            }
        }
        check(self.drain_until_ms.is_none_or(|until_ms| wakes_ms <= until_ms.max(now.ms)), || {
            "sleeps longer than the drain".into()
        })
    }
}
