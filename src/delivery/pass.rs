//! A message on its way to many clients: a pass over their mailboxes.
//!
//! It never chooses the clients. Invariant: a pass that is over has counted its holds and the length of the line.

use super::lines::Line;
use super::mailbox::Mailbox;
use super::spool::Range;
use super::{Delivery, is_over};
use crate::key::ClientKey;

/// A range on its way to many clients, one after the other. The holds and the length of the line are counted once, when
/// the pass ends with this value.
#[derive(Debug)]
pub(crate) struct Pass<'d> {
    delivery: &'d mut Delivery,
    full: &'d mut Vec<ClientKey>,
    range: Range,
    line: Line,
    holds: u32,
    receivers: u32,
    queued_before: usize,
}

impl Pass<'_> {
    /// Queues the range for one client, behind its lock if there is one.
    #[inline(always)]
    pub(crate) fn offer(&mut self, key: ClientKey, to: &mut Mailbox) {
        if !to.is_idle() {
            return self.offer_more(key, to);
        }
        self.receivers += 1;
        self.holds += 1;
        to.outbox.begin(self.range);
        self.delivery.lines.join_uncounted(self.line, key, to);
    }

    /// To one that something waits for.
    #[inline(never)]
    fn offer_more(&mut self, key: ClientKey, to: &mut Mailbox) {
        let Delivery { spool, lines, outbox_bytes_max, .. } = &mut *self.delivery;
        if is_over(to.waiting_bytes(), self.range.len(), *outbox_bytes_max) {
            return self.full.push(key);
        }
        self.receivers += 1;
        lines.join_uncounted(self.line, key, to);
        if to.is_plain() {
            self.holds += u32::from(to.outbox.put(self.range, spool));
        } else {
            self.delivery.put_behind(key, to, self.range);
        }
    }

    /// How many clients took it so far.
    pub(crate) fn receivers(&self) -> u32 {
        self.receivers
    }
}

impl Drop for Pass<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.delivery.spool.hold(self.range.segment, self.holds);
        self.delivery.lines.count_joined(self.line, self.queued_before);
    }
}

impl Delivery {
    /// Begins to queue a shared range for many clients. `full` gets the keys of those that can not take it.
    #[inline(always)]
    pub(crate) fn pass<'d>(&'d mut self, range: Range, line: Line, full: &'d mut Vec<ClientKey>) -> Pass<'d> {
        let queued_before = self.lines.len(line);
        Pass { delivery: self, full, range, line, holds: 0, receivers: 0, queued_before }
    }

    #[inline(never)]
    fn put_behind(&mut self, key: ClientKey, to: &mut Mailbox, range: Range) {
        // What a tab keeps of consecutive broadcasts is one range.
        let joins = to.receiving().would_join(range) || to.keep().is_some() && to.outbox.is_empty();
        let copy = to.own().filter(|_| !joins).and_then(|own| self.spool.copy_small(own, range));
        to.receiving().push(copy.unwrap_or(range), &mut self.spool);
        self.rank(key, to);
    }
}
