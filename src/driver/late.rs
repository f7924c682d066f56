//! A turn that comes late: the process was stopped, its machine slept or swapped.
//!
//! Meanwhile peers may have sent all that they had to, and it waits in the kernel. So no deadline is acted on before
//! each of them was read once. It never moves a deadline. Invariant: while it forgives, a deadline is over, so that the
//! next poll does not sleep.

use super::EVENTS_MAX;
use crate::clock::Now;

/// By how much a deadline may be over before that counts as a pause: more than any turn takes, less than any timeout.
const LATE_MS: u64 = 1000;

/// See the module's head.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Lateness {
    /// Turns come when they should.
    #[default]
    Punctual,
    /// Peers are being read: this many turns more.
    Forgiving(usize),
    /// They were read: deadlines that are over are acted on.
    CatchingUp,
}

impl Lateness {
    /// Whether deadlines, of which the first is over, are acted on in this turn, with this many peers.
    pub(super) fn may_expire(&mut self, now: Now, deadline_ms: u64, peers: usize) -> bool {
        let is_late = now.ms >= deadline_ms.saturating_add(LATE_MS);
        *self = match *self {
            _ if !is_late => Self::Punctual,
            // The kernel reports each ready socket once before it reports one again. The poll that was interrupted
            // reported none; peers of the last one have to be flushed too, for those that only took bytes.
            Self::Punctual => Self::Forgiving(2 + peers.div_ceil(EVENTS_MAX)),
            Self::Forgiving(0) | Self::CatchingUp => Self::CatchingUp,
            Self::Forgiving(turns) => Self::Forgiving(turns - 1),
        };
        !matches!(self, Self::Forgiving(_))
    }
}
