//! The status: what the hub's parts say of themselves, put together.
//!
//! It never changes anything, and decides nothing by what it counts.

use super::Hub;
use crate::roster::Space;
use crate::stats::Report;

/// Groups that the status names.
const LARGEST_GROUPS: usize = 10;

/// A limit as the status shows it; one that is not set is none.
fn most(limit: Option<usize>) -> u64 {
    limit.map_or(u64::MAX, |limit| limit as u64)
}

impl Hub {
    /// The status of this moment.
    pub fn report_json(&self) -> String {
        self.report(LARGEST_GROUPS).json()
    }

    /// The same as metrics, for a monitoring system. They name no group, so none is looked for.
    pub(crate) fn metrics(&self) -> String {
        self.report(0).metrics()
    }

    /// A turn of the loop took so long.
    pub(crate) fn note_turn(&mut self, us: u64) {
        self.stats.turns.note(us);
    }

    fn report(&self, largest_groups: usize) -> Report<'_> {
        let counts = self.roster().counts();
        let mut process = (self.probe)();
        // An older kernel does not give their number, and they are counted no further than is quick.
        process.fds = process.fds.max((self.roster().len() + self.backends.len()) as u64);
        Report {
            stats: Some(&self.stats),
            process,
            uptime_s: self.now.ms / 1000,
            listeners: self.roster().listeners(),
            clients: counts.open as u64,
            clients_max: most(self.rules.limits.clients),
            unauthenticated: counts.waiting as u64,
            unauthenticated_max: most(self.rules.limits.unauthenticated),
            away: counts.away as u64,
            away_max: most(self.rules.limits.away),
            closing: counts.closing as u64,
            users: self.roster().names(Space::User) as u64,
            groups: self.roster().names(Space::Group) as u64,
            groups_max: self.rules.limits.groups as u64,
            largest_groups: match largest_groups {
                0 => Vec::new(),
                most => self.roster().largest_groups(most),
            },
            backends: self.backends.len() as u64,
            workers: self.backends.iter().filter(|(_, backend)| backend.worker.is_some()).count() as u64,
            pools: self.events.pools() as u64,
            speakers_waiting: self.speakers_waiting() as u64,
            backends_max: self.rules.limits.backends as u64,
            locks: self.backends.iter().filter(|(_, backend)| backend.lock.is_some()).count() as u64,
            queued_bytes: self.floor.queued_bytes() as u64,
            queued_bytes_max: self.rules.limits.queued_bytes as u64,
            revoked: self.revoked() as u64,
            reload: Some(&self.reload),
            outside: self.outside,
            cluster: self.cluster(),
        }
    }
}
