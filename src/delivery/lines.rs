//! The two queues of clients to flush, and the throttle of broadcasts.
//!
//! *Urgent* is for messages to one client, *bulk* for broadcasts, so that a direct message does not wait until a
//! broadcast has gone to ten thousand others.
//!
//! The throttle holds broadcasters back while clients that do read have not yet been offered the broadcasts before.
//! Without it a backend that is faster than all sockets together would overflow healthy clients. It never decides about
//! one client. Invariant: `joined - left` is the length of the bulk queue.

use super::Throttled;
use super::mailbox::Mailbox;
use super::queue::Queue;
use crate::key::ClientKey;

/// Bytes that one client is sent in one turn at most, which one pass through the bulk queue takes off every
/// client that reads.
pub(crate) const FLUSH_BYTES: usize = 64 * 1024;

/// One of the two queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Something of its own waits for the client.
    Urgent = 0,
    /// A broadcast waits for it.
    Bulk = 1,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    queues: [Queue<ClientKey>; 2],
    /// Bytes broadcast and not yet offered to every client.
    burst_bytes: usize,
    /// Clients that ever joined and left the bulk queue.
    joined: u64,
    left: u64,
    /// `left` at which every client was offered [`FLUSH_BYTES`] once more; none while no pass is on.
    round_end: Option<u64>,
}

impl Lines {
    /// The client is to be flushed.
    #[inline(always)]
    pub(super) fn join(&mut self, line: Line, key: ClientKey, mail: &mut Mailbox) {
        if !mail.mark(line) {
            self.queues[line as usize].push(key);
            self.joined += line as u64;
        }
    }

    /// The same in a pass over many clients, which [`count_joined`](Self::count_joined) follows.
    #[inline(always)]
    pub(super) fn join_uncounted(&mut self, line: Line, key: ClientKey, mail: &mut Mailbox) {
        if !mail.mark(line) {
            self.queues[line as usize].push(key);
        }
    }

    pub(super) fn count_joined(&mut self, line: Line, queued_before: usize) {
        self.joined += (self.len(line) - queued_before) as u64 * line as u64;
    }

    #[inline]
    pub(super) fn take(&mut self, line: Line, max: usize, keys: &mut Vec<ClientKey>) {
        let count = self.queues[line as usize].take(max, keys) as u64;
        self.left += count * line as u64;
    }

    /// The client that is alone in a line.
    #[inline]
    pub(super) fn take_only(&mut self, line: Line) -> Option<ClientKey> {
        let only = self.queues[line as usize].take_only()?;
        self.left += line as u64;
        Some(only)
    }

    #[inline]
    pub(crate) fn len(&self, line: Line) -> usize {
        self.queues[line as usize].len()
    }

    pub(super) fn shrink(&mut self) {
        self.queues.iter_mut().for_each(Queue::shrink);
    }

    pub(super) fn note_broadcast(&mut self, len: u32) {
        self.burst_bytes += len as usize;
    }

    /// Bytes broadcast and not yet offered to every client.
    #[inline]
    pub(super) fn burst_bytes(&self) -> usize {
        self.burst_bytes
    }

    pub(super) fn throttle(&mut self, len: usize, outbox_bytes_max: u32, is_pending: bool) -> Throttled {
        if self.len(Line::Bulk) == 0 && !is_pending {
            // Every client was offered everything.
            (self.burst_bytes, self.round_end) = (0, None);
        }
        let burst_bytes_max = FLUSH_BYTES.min(outbox_bytes_max as usize / 2);
        while self.burst_bytes > 0 && self.burst_bytes + len > burst_bytes_max {
            if is_pending {
                return Throttled::Unsettled;
            }
            if self.left < *self.round_end.get_or_insert(self.joined) {
                return Throttled::Yes;
            }
            self.round_end = None;
            self.burst_bytes = self.burst_bytes.saturating_sub(FLUSH_BYTES);
        }
        Throttled::No
    }

    /// The keys of a queue in their order, for the audit.
    pub(crate) fn keys(&self, line: Line) -> impl Iterator<Item = &ClientKey> + '_ {
        self.queues[line as usize].iter()
    }

    /// Clients that joined the bulk queue and have not left it, for the audit.
    pub(crate) fn counted(&self) -> u64 {
        self.joined - self.left
    }
}
