//! Clients that are not read, because the worker for their messages takes no more, or is not there.
//!
//! It never reads a client (the driver does). Invariant: a client that waits here is let go when its worker takes
//! events again, leaves, or gets company, and when the client itself leaves.

use super::{Alone, Events, Hub, Pool};
use crate::key::{BackendKey, ClientKey};
use crate::peer::client::{Client, ClientId};
use crate::peer::worker::Kept;
use crate::wire::command::EventKind;
use crate::wire::frame::CloseCode;
use log::warn;
use std::collections::BTreeSet;

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shelf {
    /// This worker takes no more.
    Worker(BackendKey),
    /// This pool has no worker, and keeps no more.
    Pool(u32),
}

impl Pool {
    /// What a client waits for whose messages go to this pool.
    fn shelf(&self, whose: u64, hub: &Hub) -> Option<Shelf> {
        if !self.kinds.has(EventKind::Message) {
            return None;
        }
        match self.choose(whose, EventKind::Message) {
            Some(worker) => hub.backends[worker].is_full_worker().then_some(Shelf::Worker(worker)),
            None => self.alone.as_ref().filter(|alone| alone.full).map(|_| Shelf::Pool(self.number)),
        }
    }
}

/// All events of one client have this number.
#[inline]
pub(super) fn whose(id: ClientId) -> u64 {
    id.whole()
}

impl Hub {
    /// What an open client waits for before it is read again.
    #[inline]
    pub(crate) fn awaits(&self, key: ClientKey) -> Option<Shelf> {
        if self.events.full == 0 { None } else { self.find_shelf(key) }
    }

    #[inline(never)]
    fn find_shelf(&self, key: ClientKey) -> Option<Shelf> {
        let id = self.client_id(key).filter(|id| self.is_open(*id))?;
        self.events.pools.iter().find_map(|pool| pool.shelf(whose(id), self))
    }

    /// A client waits. [`Hub::take_released`] gives it back.
    pub(crate) fn shelve(&mut self, key: ClientKey, shelf: Shelf) {
        let waiting = match shelf {
            Shelf::Worker(worker) => self.backends.worker(worker).map(|worker| &mut worker.waiting),
            Shelf::Pool(number) => {
                let pool = self.events.pools.iter_mut().find(|pool| pool.number == number);
                pool.and_then(|pool| pool.alone.as_mut()).map(|alone| &mut alone.waiting)
            }
        };
        match waiting {
            Some(waiting) => waiting.push_back(key),
            None => self.events.released.push_back(key),
        }
    }

    /// A client that may be read again. What it sent meanwhile waits in the kernel: it was not silent.
    #[inline]
    pub(crate) fn take_released(&mut self) -> Option<ClientKey> {
        let key = self.events.released.pop_front()?;
        self.floor.excuse(key, self.now);
        if self.events.released.is_empty() {
            self.events.released = std::collections::VecDeque::new();
        }
        Some(key)
    }

    /// An open client leaves: it is to be read to its end.
    #[inline]
    pub(in crate::hub) fn release(&mut self, key: ClientKey) {
        if self.events.full > 0 {
            self.events.released.push_back(key);
        }
    }

    /// Clients that wait.
    pub(in crate::hub) fn speakers_waiting(&self) -> usize {
        let alone = self.events.pools.iter().filter_map(|pool| pool.alone.as_ref());
        let workers = self.backends.iter().filter_map(|(_, backend)| backend.worker.as_ref());
        let waiting = alone.map(|alone| &alone.waiting).chain(workers.map(|worker| &worker.waiting));
        waiting.map(|waiting| waiting.iter().filter(|key| self.is_waiting(**key)).count()).sum()
    }

    fn is_waiting(&self, key: ClientKey) -> bool {
        self.roster().get(key).is_some_and(Client::accepts_data)
    }

    // Pools without a worker.

    /// When a pool has waited for a worker for long enough.
    #[inline]
    pub(in crate::hub) fn events_due_ms(&self) -> u64 {
        self.events.due_ms
    }

    /// Clients that have spoken to pools that have waited long enough are closed.
    #[inline(never)]
    pub(in crate::hub) fn expire_pools(&mut self) {
        let no_worker_ms = self.rules.timeouts.no_worker_ms;
        let mut speakers = BTreeSet::new();
        let Events { pools, full, released, .. } = &mut self.events;
        for pool in pools.iter_mut() {
            let Some(alone) = pool.alone.as_mut().filter(|alone| !alone.over) else { continue };
            if self.now.ms < alone.since_ms + no_worker_ms {
                continue;
            }
            alone.over = true;
            *full -= usize::from(std::mem::take(&mut alone.full));
            released.append(&mut alone.waiting);
            let before = speakers.len();
            speakers.extend(alone.kept.iter().filter_map(Kept::speaker));
            let lost = if pool.ack { 0 } else { alone.kept.len() };
            if lost > 0 {
                *alone = Alone { since_ms: alone.since_ms, over: true, ..Alone::default() };
            }
            let name = pool.name.as_deref().unwrap_or("-");
            warn!("no_worker pool={name} clients={} events_lost={lost}", speakers.len() - before);
        }
        // No client waits for a worker that only wanted to know who comes and goes.
        pools.retain(|pool| {
            let is_over = pool.alone.as_ref().is_some_and(|alone| alone.over);
            !is_over || pool.ack || pool.kinds.has(EventKind::Message)
        });
        self.events.refresh(no_worker_ms);
        for id in speakers {
            self.close(id, CloseCode::TRY_AGAIN_LATER, NO_WORKER);
        }
    }
}

/// The reason of the close of a client whose message no worker is there for.
pub(super) const NO_WORKER: &str = "no worker";
