//! Memory given back after many peers have left.
//!
//! All tables are indexed by a peer's key and grow with the highest one. When most of their slots are empty, the empty
//! ones at the end go, and the others are used again from the lowest key on, so that the memory of high keys comes free
//! as their owners leave. This happens once, some seconds after a peer has left; a server that no peer leaves is not
//! woken for it. It never moves a peer: keys stay, and generations go on counting, so a stale id
//! names no peer, as before.
//!
//! Invariant: no table is shorter than the highest key in use.

use super::Hub;
use std::collections::VecDeque;

/// Slots that are kept in any case: of clients, 220 kB.
const SLOTS_MIN: usize = 1024;
/// From a peer's departure to the look at the tables, which with 100,000 slots takes under two milliseconds.
const PAUSE_MS: u64 = 5000;

/// When and from which size on tables shrink.
#[derive(Debug)]
pub(super) struct Tidy {
    /// The moment of the next look; `u64::MAX` while no peer has left.
    pub(super) due_ms: u64,
    slots_min: usize,
    pause_ms: u64,
}

impl Default for Tidy {
    fn default() -> Self {
        Self { due_ms: u64::MAX, slots_min: SLOTS_MIN, pause_ms: PAUSE_MS }
    }
}

impl Hub {
    /// Other bounds, for tests with few peers.
    #[doc(hidden)]
    pub fn tidy_from(&mut self, slots_min: usize, pause_ms: u64) {
        (self.tidy.slots_min, self.tidy.pause_ms) = (slots_min, pause_ms);
    }

    /// A peer has left.
    pub(crate) fn tidy_later(&mut self) {
        if self.tidy.due_ms == u64::MAX {
            self.tidy.due_ms = self.now.ms + self.tidy.pause_ms;
        }
    }

    pub(crate) fn is_tidy_due(&self) -> bool {
        self.now.ms >= self.tidy.due_ms
    }

    /// Shrinks the tables if they are sparse. Returns how many slots there are then. Those of backends are left as
    /// they are: their number is the site's own.
    pub(crate) fn tidy(&mut self) -> Option<usize> {
        self.tidy.due_ms = u64::MAX;
        self.floor.shrink(self.tidy.slots_min)
    }
}

/// Gives the room of a queue back that is empty.
pub(crate) fn drop_empty<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() {
        *queue = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Now;
    use crate::config::Settings;
    use crate::key::{ClientKey, Key};
    use crate::peer::client::ClientId;
    use crate::stats::Process;
    use crate::wire::http::forwarded::PeerAddr;
    use std::hash::RandomState;

    fn at(ms: u64) -> Now {
        Now { ms, unix_s: 0 }
    }

    fn crowd(hub: &mut Hub, count: usize) -> Vec<ClientId> {
        (0..count).map(|_| hub.add_client(0, PeerAddr::default(), usize::MAX)).collect()
    }

    /// They end, are reaped, and the tables are looked at when it is time.
    fn leave(hub: &mut Hub, ids: &[ClientId]) -> Option<usize> {
        ids.iter().for_each(|id| hub.client_lost(*id));
        while let Some((id, _)) = hub.next_gone() {
            hub.floor.remove(id);
        }
        hub.tidy_later();
        hub.set_now(at(hub.now.ms + PAUSE_MS - 1));
        assert!(!hub.is_tidy_due(), "not before its time");
        hub.set_now(at(hub.now.ms + 1));
        assert!(hub.is_tidy_due());
        hub.tidy()
    }

    fn hub() -> Hub {
        let mut settings = Settings::default();
        settings.timeouts.handshake_ms = 1_000_000;
        let mut hub = Hub::new(&settings, RandomState::new(), Process::default);
        hub.add_listener("unix:///one".into(), None);
        hub
    }

    #[test]
    fn what_a_crowd_has_left_is_given_back() {
        let mut hub = hub();
        let ids = crowd(&mut hub, 10_000);
        assert_eq!(leave(&mut hub, &ids[..5000]), None, "half of the slots are used");
        assert_eq!(leave(&mut hub, &ids[5010..]), Some(5010), "ten stay, and the highest key with them");
        assert_eq!(leave(&mut hub, &ids[5001..5010]), Some(5001));
        hub.audit().unwrap();
        let next = crowd(&mut hub, 1)[0];
        assert_eq!(next.key, ClientKey::at(0), "low keys are used first");
        assert_eq!(leave(&mut hub, &[ids[5000], next]), Some(0));
        hub.audit().unwrap();
    }

    #[test]
    fn an_old_id_names_nobody_after_its_slot_was_given_back() {
        let mut hub = hub();
        let old = crowd(&mut hub, 4000);
        assert_eq!(leave(&mut hub, &old), Some(0));
        let new = crowd(&mut hub, 4000);
        assert!(old.iter().all(|id| hub.roster().find(*id).is_none()));
        assert!(new.iter().all(|id| hub.roster().find(*id).is_some() && !old.contains(id)));
    }

    #[test]
    fn a_small_server_keeps_its_tables() {
        let mut hub = hub();
        let ids = crowd(&mut hub, SLOTS_MIN);
        assert_eq!(leave(&mut hub, &ids), None);
    }
}
