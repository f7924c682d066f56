//! What is on its way to clients: encoded once, queued as ranges, taken by the flush.
//!
//! It never closes a client: what does not fit is refused, and the caller decides. Invariant: every range in an outbox is
//! held in the spool exactly once.

pub(crate) mod outbox;
pub(crate) mod queue;
pub(crate) mod spool;
