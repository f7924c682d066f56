//! A turn that comes late: the process was stopped, its machine slept or swapped.
//!
//! Meanwhile peers may have said all that they had to, and it waits in the kernel. So no deadline is acted on before each
//! of them was read once. It never moves a deadline. Invariant: while it forgives, the next poll does not sleep.

use super::EVENTS_MAX;
use crate::clock::Now;

/// By how much a turn may be late before that counts as a pause: more than any turn takes, less than any timeout.
const LATE_MS: u64 = 1000;

/// See the module's head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lateness {
    /// When the next turn is to begin at the latest.
    wakes_ms: u64,
    /// Turns until every peer was read.
    turns_left: usize,
}

impl Default for Lateness {
    fn default() -> Self {
        Self { wakes_ms: u64::MAX, turns_left: 0 }
    }
}

impl Lateness {
    /// The turn is over, and the poll may sleep so long.
    #[inline]
    pub(super) fn sleep(&mut self, now: Now, timeout_ms: Option<u64>) {
        self.wakes_ms = timeout_ms.map_or(u64::MAX, |timeout_ms| now.ms + timeout_ms);
    }

    /// Whether deadlines are acted on in this turn, with so many peers.
    #[inline]
    pub(super) fn may_expire(&mut self, now: Now, peers: usize) -> bool {
        if now.ms >= self.wakes_ms.saturating_add(LATE_MS) {
            // The kernel tells of each ready socket once before it tells of one again. The poll that was interrupted told
            // of none; what the last one told has to be flushed too, for those that only took bytes.
            self.turns_left = 2 + peers.div_ceil(EVENTS_MAX);
        }
        if self.turns_left == 0 {
            return true;
        }
        self.turns_left -= 1;
        false
    }

    #[inline]
    pub(super) fn is_forgiving(self) -> bool {
        self.turns_left > 0
    }
}
