//! Messages on their way out: direct, broadcast, the flush queues, and what happens when it is too much.
//!
//! A broadcast is encoded into the spool's shared lane and noted as *pending*; `settle` hands the range of
//! all consecutive pending ones to every client in one pass, before another message or a close is queued and
//! before the flush at the end of the turn. So sixteen commands that arrive together touch each client once.
//! Invariant: no message is queued for a client, and no client becomes open, while a broadcast is pending. (A
//! pong may be: RFC 6455 lets it pass.)
//!
//! Two queues of clients to flush: *urgent* for what is meant for one client, *bulk* for broadcasts, so
//! that a direct message does not wait until a broadcast has gone to ten thousand others.

use super::Hub;
use crate::delivery::outbox::Outbox;
use crate::delivery::queue::Queue;
use crate::delivery::spool::{Lane, Range, Spool};
use crate::peer::client::{ClientId, State};
use crate::wire::frame::{CloseCode, Kind, Opcode, encode};
use log::info;

/// Clients to flush, and the broadcasts not yet handed out.
#[derive(Debug, Default)]
pub(super) struct Queues {
    pub(super) urgent: Queue,
    pub(super) bulk: Queue,
    pub(super) pending: Option<Pending>,
    pub(super) throttle: Throttle,
    /// Scratch of `settle`: clients that were over their limit.
    pub(super) overflown: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) range: Range,
    messages: u32,
}

/// Holds broadcasting backends back while clients that do read have not yet been sent what was broadcast
/// before. Without it a backend that is faster than all sockets together would overflow healthy clients.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// Bytes broadcast and not yet offered to everybody.
    burst_bytes: usize,
    /// Clients that ever entered and left the bulk queue.
    pub(super) pushed: u64,
    pub(super) popped: u64,
    /// `popped` at which everybody was offered [`FLUSH_BYTES`] once more; none while no round is on.
    round_end: Option<u64>,
}

/// Bytes one client is sent in one turn at most, and so what one round of the bulk queue takes off every
/// client that reads.
pub(crate) const FLUSH_BYTES: usize = 64 * 1024;

/// What became of an offer to the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    /// Bytes that it took.
    pub(crate) sent: usize,
    /// It took everything that it was offered, and may take more.
    pub(crate) all: bool,
}

/// What the driver does with a client once bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// Nothing more waits.
    Idle,
    /// More waits.
    More,
    /// All is out and our side is to be shut down.
    ShutDown,
    /// All is out and the connection is over.
    End,
}

impl Hub {
    /// Queues a message for one client. False when it is not open or could not take it.
    pub fn send_direct(&mut self, to: ClientId, kind: Kind, message: &[u8]) -> bool {
        self.stats.directs += 1;
        self.settle(); // which may close it
        self.is_open(to) && self.deliver(to.key, kind.opcode(), message)
    }

    /// Queues a message for all clients of a token. False when none took it.
    pub fn send_to_token(&mut self, token: &[u8], kind: Kind, message: &[u8]) -> bool {
        self.stats.directs += 1;
        self.settle(); // which may close the first of them
        match self.tokens.first(token) {
            Some(only) if self.tokens.after(only).is_none() => self.deliver(only, kind.opcode(), message),
            Some(first) => self.deliver_to_chain(first, kind.opcode(), message),
            None => false,
        }
    }

    /// Encodes a frame and queues it for one client. No broadcast is pending.
    fn deliver(&mut self, key: u32, opcode: Opcode, message: &[u8]) -> bool {
        let len = (encode::header_len(message.len()) + message.len()) as u32;
        let outbox_bytes_max = self.settings.limits.outbox_bytes;
        let Some((outbox, waiting)) = self.clients[key as usize].receiving() else { return false };
        if is_over(waiting, len, outbox_bytes_max) {
            self.overflow(key);
            return false;
        }
        let range = self.spool.append_frame(Lane::Private, true, opcode, message);
        if outbox.push(range) {
            self.spool.hold(range.segment, 1);
        }
        self.queue_flush(key);
        self.stats.messages_out += 1;
        self.relieve();
        true
    }

    /// Encodes a frame once and queues it for all clients of a token's chain. No broadcast is pending.
    #[inline(never)]
    fn deliver_to_chain(&mut self, first: u32, opcode: Opcode, message: &[u8]) -> bool {
        let range = self.spool.append_frame(Lane::Private, true, opcode, message);
        // Held while it is handed out: closing a client could free the segment under it.
        self.spool.hold(range.segment, 1);
        let (mut next, mut taken) = (Some(first), 0);
        while let Some(key) = next {
            next = self.tokens.after(key);
            taken += u64::from(self.push_or_overflow(key, range));
        }
        self.spool.release(range.segment);
        self.stats.messages_out += taken;
        self.relieve();
        taken > 0
    }

    /// Queues a message for every open client; returns how many that are.
    pub fn send_broadcast(&mut self, kind: Kind, message: &[u8]) -> usize {
        self.stats.broadcasts += 1;
        if self.counts.open == 0 {
            return 0;
        }
        let range = self.spool.append_frame(Lane::Shared, true, kind.opcode(), message);
        self.queues.throttle.burst_bytes += range.len() as usize;
        match &mut self.queues.pending {
            Some(pending) if pending.range.joins(range) => {
                pending.range.end = range.end;
                pending.messages += 1;
            }
            _ => {
                // The new range is held over the hand-out of the old one, which may empty the segment.
                self.spool.hold(range.segment, 1);
                self.settle();
                self.queues.pending = Some(Pending { range, messages: 1 });
                return self.counts.open;
            }
        }
        self.counts.open
    }

    /// Hands pending broadcasts to all open clients.
    #[inline]
    pub(crate) fn settle(&mut self) {
        if let Some(pending) = self.queues.pending.take() {
            self.hand_out(pending);
        }
    }

    fn hand_out(&mut self, Pending { range, messages }: Pending) {
        let mut holds = 0;
        let mut receivers: u32 = 0;
        let bulk_before = self.queues.bulk.len();
        let outbox_bytes_max = self.settings.limits.outbox_bytes;
        for (key, client) in &mut self.clients {
            let Some((outbox, waiting)) = client.receiving() else { continue };
            if is_over(waiting, range.len(), outbox_bytes_max) {
                self.queues.overflown.push(key as u32);
                continue;
            }
            receivers += 1;
            holds += u32::from(outbox.push(range));
            if !client.queued_bulk {
                client.queued_bulk = true;
                self.queues.bulk.push(key as u32);
            }
        }
        self.queues.throttle.pushed += (self.queues.bulk.len() - bulk_before) as u64;
        self.stats.messages_out += u64::from(receivers) * u64::from(messages);
        self.spool.hold(range.segment, holds);
        self.spool.release(range.segment); // the hold of `pending`
        while let Some(key) = self.queues.overflown.pop() {
            self.overflow(key);
        }
        self.relieve();
    }

    /// Whether a broadcast of so many bytes is to wait, so that clients that read are offered the earlier
    /// ones first.
    pub(crate) fn is_throttled(&mut self, len: usize) -> bool {
        if self.queues.bulk.is_empty() && self.queues.pending.is_none() {
            // Everybody was offered everything.
            (self.queues.throttle.burst_bytes, self.queues.throttle.round_end) = (0, None);
        }
        let burst_bytes_max = FLUSH_BYTES.min(self.settings.limits.outbox_bytes as usize / 2);
        while self.queues.throttle.burst_bytes > 0 && self.queues.throttle.burst_bytes + len > burst_bytes_max
        {
            self.settle(); // counts everybody who is to be offered something
            let throttle = &mut self.queues.throttle;
            if throttle.popped < *throttle.round_end.get_or_insert(throttle.pushed) {
                return true;
            }
            throttle.round_end = None;
            throttle.burst_bytes = throttle.burst_bytes.saturating_sub(FLUSH_BYTES);
        }
        false
    }

    /// Queues frames for a client, behind its lock if it has one. False when it takes none, or that was too
    /// much.
    fn push_or_overflow(&mut self, key: u32, range: Range) -> bool {
        let outbox_bytes_max = self.settings.limits.outbox_bytes;
        let Some((outbox, waiting)) = self.clients[key as usize].receiving() else { return false };
        if is_over(waiting, range.len(), outbox_bytes_max) {
            self.overflow(key);
            return false;
        }
        if outbox.push(range) {
            self.spool.hold(range.segment, 1);
        }
        self.queue_flush(key);
        true
    }

    /// Queues frames that pass a lock.
    pub(super) fn push_past_lock(&mut self, key: u32, range: Range) {
        if self.clients[key as usize].outbox.push(range) {
            self.spool.hold(range.segment, 1);
        }
        self.queue_flush(key);
    }

    /// Queues a control frame: it passes a lock, and no limit keeps it back.
    pub(super) fn queue_control(&mut self, key: u32, opcode: Opcode, payload: &[u8]) {
        let range = self.spool.append_frame(Lane::Private, true, opcode, payload);
        self.push_past_lock(key, range);
    }

    pub(super) fn queue_close(&mut self, key: u32, code: Option<CloseCode>, reason: &str) {
        let mut frame = Vec::with_capacity(128);
        encode::append_close(&mut frame, code, reason);
        let range = self.spool.append_bytes(Lane::Private, &frame);
        self.push_past_lock(key, range);
    }

    // Too much.

    /// A client that does not read: what waits is dropped but for the frame in flight, and it is closed.
    pub(super) fn overflow(&mut self, key: u32) {
        self.stats.overflows += 1;
        info!(
            "overflow code=1013 waiting={} peer={}",
            self.clients[key as usize].waiting_bytes(),
            self.peer(key)
        );
        self.leave_open(key, CloseCode::TRY_AGAIN_LATER.0);
        self.clients[key as usize].outbox.drop_unsent(&mut self.spool);
        self.queue_close(key, Some(CloseCode::TRY_AGAIN_LATER), "slow consumer");
        self.begin_closing(key);
    }

    /// Over `limits.queued`, those that hold back most are closed until it fits.
    #[inline]
    pub(super) fn relieve(&mut self) {
        if self.spool.bytes() > self.settings.limits.queued_bytes {
            self.close_the_worst();
        }
    }

    fn close_the_worst(&mut self) {
        let waiting = self.clients.iter().map(|(key, client)| (client.waiting_bytes(), key as u32));
        let mut worst: Vec<(u32, u32)> = waiting.filter(|(bytes, _)| *bytes > 0).collect();
        worst.sort_unstable_by(|a, b| b.cmp(a));
        let behind = worst.partition_point(|(bytes, _)| *bytes as usize > FLUSH_BYTES);
        let (behind, others) = worst.split_at(behind);
        // Where frames in flight are what holds the memory, those connections end before anybody who is not
        // behind is touched.
        let _ = self.relieve_by(behind, Self::overflow_if_open)
            || self.relieve_by(behind, |hub, key| hub.client_lost(hub.id(key)))
            || self.relieve_by(others, Self::overflow_if_open);
    }

    /// Does `step` to one client after the other until `limits.queued` is kept; true when it is.
    fn relieve_by(&mut self, clients: &[(u32, u32)], step: impl Fn(&mut Self, u32)) -> bool {
        let kept = |hub: &Self| hub.spool.bytes() <= hub.settings.limits.queued_bytes;
        clients.iter().any(|(_, key)| {
            step(self, *key);
            kept(self)
        })
    }

    fn overflow_if_open(&mut self, key: u32) {
        if self.clients[key as usize].accepts_data() {
            self.overflow(key);
        }
    }

    // The flush queues.

    /// The client has something of its own to be sent, or can be written to again.
    pub(crate) fn queue_flush(&mut self, key: u32) {
        let client = &mut self.clients[key as usize];
        if !client.queued_urgent {
            client.queued_urgent = true;
            self.queues.urgent.push(key);
        }
    }

    /// Back to the end of the queue it came from, because its share of this turn is used up.
    pub(crate) fn requeue_flush(&mut self, key: u32, bulk: bool) {
        if !bulk {
            self.queue_flush(key);
            return;
        }
        let client = &mut self.clients[key as usize];
        if !client.queued_bulk {
            client.queued_bulk = true;
            self.queues.bulk.push(key);
            self.queues.throttle.pushed += 1;
        }
    }

    /// Whether anybody is to be flushed.
    pub(crate) fn has_flush(&self) -> bool {
        !self.queues.urgent.is_empty() || !self.queues.bulk.is_empty() || self.queues.pending.is_some()
    }

    /// How many clients wait to be flushed with something of their own.
    #[inline]
    pub(crate) fn urgent(&self) -> usize {
        self.queues.urgent.len()
    }

    /// Whether anybody stands in that queue.
    #[inline]
    pub(crate) fn has_queued(&self, bulk: bool) -> bool {
        !if bulk { &self.queues.bulk } else { &self.queues.urgent }.is_empty()
    }

    /// Moves the next clients of a queue to `keys`, at most `max`: each of them is to be flushed now.
    pub(crate) fn take_queued(&mut self, bulk: bool, max: usize, keys: &mut Vec<u32>) {
        let queue = if bulk { &mut self.queues.bulk } else { &mut self.queues.urgent };
        let count = queue.take(max, keys);
        if bulk {
            self.queues.throttle.popped += count as u64;
        }
    }

    /// Lets `write` offer to the kernel what waits for a client that was queued, and takes note of what it
    /// took.
    #[inline(always)]
    pub(crate) fn flush_client<E>(
        &mut self,
        key: u32,
        bulk: bool,
        write: impl FnOnce(&Outbox, &Spool) -> Result<Written, E>,
    ) -> Result<(bool, After), E> {
        let client = &mut self.clients[key as usize];
        let queued = if bulk { &mut client.queued_bulk } else { &mut client.queued_urgent };
        // A slot may have been freed and used again: its mark tells.
        if !std::mem::take(queued) || matches!(client.state, State::Gone) {
            return Ok((true, After::Idle));
        }
        let Written { sent, all } = write(&client.outbox, &self.spool)?;
        self.stats.bytes_out += sent as u64;
        client.outbox.consume(sent as u32, &mut self.spool);
        if client.stalled != Default::default() {
            client.stalled = if client.outbox.is_empty() { Default::default() } else { self.now.tick() };
        }
        match client.state {
            State::Open { rare: None, .. } if client.outbox.is_empty() => Ok((all, After::Idle)),
            _ => Ok((all, self.after_flush(key))),
        }
    }

    /// The kernel takes no more: from now on the client may be stalled.
    pub(crate) fn client_blocked(&mut self, key: u32) {
        let client = &mut self.clients[key as usize];
        if client.stalled != Default::default() || !client.accepts_data() || client.outbox.is_empty() {
            return;
        }
        client.stalled = self.now.tick().max(crate::clock::Tick::at(1));
        self.timers.arm_by(key, self.now.ms + self.settings.timeouts.stalled_ms);
    }

    /// What is to be done with a client when no more can be written now.
    pub(crate) fn after_flush(&mut self, key: u32) -> After {
        let client = &mut self.clients[key as usize];
        if !client.outbox.is_empty() {
            return After::More;
        }
        match client.state {
            State::Lingering { .. } => After::ShutDown,
            State::Finishing { .. } => After::End,
            _ => {
                if let Some(payload) = client.take_owed_pong() {
                    self.queue_control(key, Opcode::Pong, &payload);
                }
                After::Idle
            }
        }
    }
}

/// Whether a frame is too much for a client. A single frame is not, however long: it is bounded by
/// `limits.control_payload`, and who reads can take it.
pub(super) fn is_over(waiting: u32, len: u32, outbox_bytes_max: u32) -> bool {
    waiting > 0 && waiting.saturating_add(len) > outbox_bytes_max
}
