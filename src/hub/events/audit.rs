//! Pools, workers and those that wait for them, recounted.

use super::Hub;
use crate::key::ClientKey;
use crate::peer::worker::Kept;
use crate::wire::command::Kinds;

/// What is told to a worker beside events does not fill it.
const NOTICES_BYTES_MAX: usize = 512;

fn check(holds: bool, sentence: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(sentence()) }
}

impl Hub {
    pub(in crate::hub) fn audit_events(&self) -> Result<(), String> {
        let events = &self.events;
        let mut full = 0;
        for pool in &events.pools {
            let name = pool.title();
            check(pool.seats.is_empty() == pool.alone.is_some(), || format!("pool {name} is half alone"))?;
            full += usize::from(pool.alone.as_ref().is_some_and(|alone| alone.full));
            let all = pool.seats.iter().fold(Kinds::NONE, |kinds, seat| kinds.or(seat.kinds));
            check(pool.alone.is_some() || all == pool.kinds, || format!("pool {name} wants something else"))?;
            for seat in &pool.seats {
                let worker = self.backends[seat.backend].worker.as_ref();
                let sits =
                    worker.is_some_and(|worker| (worker.pool, worker.kinds) == (pool.number, seat.kinds));
                check(sits, || format!("a seat of pool {name} is empty"))?;
            }
            let kept = pool.alone.as_ref().map_or(0, |alone| alone.kept.iter().map(Kept::held_bytes).sum());
            let counted = pool.alone.as_ref().map_or(0, |alone| alone.kept.bytes());
            check(kept == counted, || format!("pool {name} keeps {kept} bytes and counts {counted}"))?;
        }
        let limit = self.rules.limits.control_outbox_bytes;
        for (key, backend) in self.backends.iter() {
            let Some(worker) = &backend.worker else { continue };
            full += usize::from(worker.full);
            let pool = events.pools.iter().find(|pool| pool.number == worker.pool);
            let sits = pool.is_some_and(|pool| pool.seats.iter().any(|seat| seat.backend == key));
            check(sits, || format!("worker {key} sits nowhere"))?;
            let kept: usize = worker.unconfirmed.iter().map(Kept::held_bytes).sum();
            check(kept == worker.unconfirmed.bytes(), || format!("worker {key} miscounts {kept} bytes"))?;
            check(worker.ack || kept == 0, || format!("worker {key} confirms nothing, and is to"))?;
            let behind = self.backends.behind_bytes(key);
            check(worker.full || behind < limit + NOTICES_BYTES_MAX, || {
                format!("worker {key} is full and does not say so")
            })?;
            check(!worker.full || behind > limit / 2, || format!("worker {key} is not full any more"))?;
            check(worker.full || worker.waiting.is_empty(), || format!("clients wait for worker {key}"))?;
        }
        check(full == events.full, || format!("{full} are full, {} are counted", events.full))?;
        let wanted = events.pools.iter().fold(Kinds::NONE, |kinds, pool| kinds.or(pool.kinds));
        check(wanted == events.wanted, || "the pools want something else".into())?;
        check(events.released.is_empty(), || "clients were let go and not looked at".into())
    }

    /// Whether there are clients that may not be read.
    #[doc(hidden)]
    pub fn audit_holds(&self) -> bool {
        self.events.full > 0
    }

    /// Whether a client that is not read is known to wait, for something that still keeps it waiting.
    pub(crate) fn audit_shelved(&self, key: ClientKey) -> bool {
        let Some(_) = self.awaits(key) else { return false };
        let alone = self.events.pools.iter().filter_map(|pool| pool.alone.as_ref());
        let workers = self.backends.iter().filter_map(|(_, backend)| backend.worker.as_ref());
        let mut waiting = alone.map(|alone| &alone.waiting).chain(workers.map(|worker| &worker.waiting));
        waiting.any(|waiting| waiting.contains(&key))
    }
}
