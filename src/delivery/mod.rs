//! Messages on their way to clients: encoded once, queued as ranges, taken by the flush.
//!
//! It never closes a client: a message that does not fit is refused, and the caller decides. It never sees a whole
//! client: a [`Mailbox`] is all that it touches. Invariant: every range in an outbox is held in the spool exactly
//! once, and a mailbox is marked for a line if and only if its key is in that line's queue.
//!
//! | file | holds |
//! |---|---|
//! | `spool` | the bytes |
//! | `outbox` | ranges in them, in order, of one client |
//! | `mailbox` | one client's outbox, the messages that a lock holds back, and how it stands to the flush |
//! | `keep` | what a tab has not confirmed |
//! | `queue` | keys in the order they are flushed |
//! | `lines` | the two queues of the flush, and the throttle of broadcasts |
//! | `ranks` | the clients that are behind, in the order in which they are closed when memory runs out |
//! | `pass` | a message on its way to many clients |
//! | `flush` | what waits is offered to the kernel |
//! | `audit` | the delivery recounted, for the tests |

mod audit;
mod flush;
mod keep;
mod lines;
mod mailbox;
mod outbox;
mod pass;
mod queue;
mod ranks;
mod spool;

pub(crate) use flush::{Sink, Written};
pub(crate) use keep::Keep;
pub(crate) use lines::{FLUSH_BYTES, Line};
pub(crate) use mailbox::Mailbox;
pub(crate) use outbox::Outbox;
pub(crate) use pass::Pass;
pub(crate) use spool::{Held, Lane, Range, SEGMENT_BYTES, Spool};

use crate::clock::Tick;
use crate::key::ClientKey;
use crate::wire::frame::{CloseCode, Opcode, encode};
use core::num::NonZeroU32;
use lines::Lines;
use ranks::Ranks;

/// A message does not fit: too much waits already, and the client does not take it fast enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// Broadcasts that were encoded and not yet handed out: consecutive ones are one range.
#[derive(Debug)]
pub(crate) struct Pending {
    held: Held,
    /// How many messages they are.
    pub(crate) messages: u32,
}

impl Pending {
    pub(crate) fn range(&self) -> Range {
        self.held.range()
    }
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Delivery {
    spool: Spool,
    lines: Lines,
    pending: Option<Pending>,
    ranks: Ranks,
    outbox_bytes_max: u32,
    /// The number of the last ping that has one. They rise in the order in which a connection is sent them.
    pings: u64,
    /// Bytes that the streams of clients keep of those that they were given.
    stream_bytes: usize,
}

impl Delivery {
    pub(crate) fn new(outbox_bytes_max: u32) -> Self {
        Self {
            spool: Spool::default(),
            lines: Lines::default(),
            pending: None,
            ranks: Ranks::default(),
            outbox_bytes_max,
            pings: 0,
            stream_bytes: 0,
        }
    }

    /// Another `limits.outbox`, for the messages to come.
    pub(crate) fn set_outbox_bytes_max(&mut self, outbox_bytes_max: u32) {
        self.outbox_bytes_max = outbox_bytes_max;
    }

    /// Bytes that wait for all clients, shared ones counted once, and the ranges that refer to them.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.spool.bytes() + self.stream_bytes
    }

    /// The stream of a client keeps another number of bytes than before.
    pub(crate) fn note_stream(&mut self, before: usize, now: usize) {
        self.stream_bytes = self.stream_bytes + now - before;
    }

    /// The client that is to go first when memory runs out; none when no client is behind.
    pub(crate) fn furthest_behind(&self) -> Option<ClientKey> {
        self.ranks.first()
    }

    /// Those that are behind so far that this many bytes more do not fit, about.
    pub(crate) fn without_room(&self, bytes: usize) -> impl Iterator<Item = ClientKey> {
        let bytes_max = self.outbox_bytes_max as usize;
        self.ranks.staying().take_while(move |(_, waiting)| waiting + bytes > bytes_max).map(|(key, _)| key)
    }

    // Messages.

    /// Encodes a message and queues it for one client.
    #[inline(always)]
    pub(crate) fn offer(
        &mut self,
        key: ClientKey,
        to: &mut Mailbox,
        opcode: Opcode,
        message: &[u8],
    ) -> Result<(), Full> {
        if to.is_idle() {
            let range = self.spool.append_held(Lane::Private, true, opcode, message);
            to.outbox.begin(range);
            self.lines.join(Line::Urgent, key, to);
            return Ok(());
        }
        self.offer_more(key, to, opcode, message)
    }

    /// To one that something waits for.
    #[inline(never)]
    fn offer_more(
        &mut self,
        key: ClientKey,
        to: &mut Mailbox,
        opcode: Opcode,
        message: &[u8],
    ) -> Result<(), Full> {
        let len = (encode::header_len(message.len()) + message.len()) as u32;
        if is_over(to.waiting_bytes(), len, self.outbox_bytes_max) {
            return Err(Full);
        }
        if to.is_plain() {
            let range = self.spool.append_frame(Lane::Private, true, opcode, message);
            to.outbox.push(range, &mut self.spool);
            self.lines.join(Line::Urgent, key, to);
            return Ok(());
        }
        let range = match to.own() {
            Some(own) => self.spool.append_own(own, true, opcode, message),
            None => self.spool.append_frame(Lane::Private, true, opcode, message),
        };
        to.receiving().push(range, &mut self.spool);
        self.lines.join(Line::Urgent, key, to);
        self.rank(key, to);
        Ok(())
    }

    /// Encodes a frame once for several clients.
    pub(crate) fn encode(&mut self, fin: bool, opcode: Opcode, payload: &[u8]) -> Held {
        let range = self.spool.append_frame(Lane::Private, fin, opcode, payload);
        self.spool.held(range)
    }

    /// The number of the next ping that has one.
    pub(crate) fn next_ping(&mut self) -> u64 {
        self.pings += 1;
        self.pings
    }

    /// Encodes a message once for several clients, and behind it a ping with this number, which their pongs give back.
    pub(crate) fn encode_with_ping(&mut self, opcode: Opcode, message: &[u8], number: u64) -> Held {
        let range = self.spool.append_with_ping(opcode, message, &number.to_be_bytes());
        self.spool.held(range)
    }

    /// The frame was offered to all of them: from now on only the outboxes that took it hold it.
    pub(crate) fn give_back(&mut self, held: Held) {
        self.spool.give_back(held);
    }

    /// Queues a shared message for one client, behind its lock if there is one.
    pub(crate) fn offer_range(
        &mut self,
        key: ClientKey,
        to: &mut Mailbox,
        range: Range,
        line: Line,
    ) -> Result<(), Full> {
        let waiting = if to.is_plain() { to.outbox.bytes() } else { to.waiting_bytes() };
        if is_over(waiting, range.len(), self.outbox_bytes_max) {
            return Err(Full);
        }
        if to.is_plain() {
            to.outbox.push(range, &mut self.spool);
        } else {
            self.push_behind(key, to, range);
        }
        self.lines.join(line, key, to);
        Ok(())
    }

    #[cold]
    fn push_behind(&mut self, key: ClientKey, to: &mut Mailbox, range: Range) {
        let range = self.for_itself(to, range);
        to.receiving().push(range, &mut self.spool);
        self.rank(key, to);
    }

    /// A message for many was encoded: broadcasts and their like wait until it was offered to the clients that read.
    pub(crate) fn note_burst(&mut self, range: Range) {
        self.lines.note_broadcast(range.len());
    }

    /// Queues a fragment, which passes the lock that it belongs to.
    pub(crate) fn offer_fragment(
        &mut self,
        key: ClientKey,
        to: &mut Mailbox,
        range: Range,
    ) -> Result<(), Full> {
        if is_over(to.waiting_bytes(), range.len(), self.outbox_bytes_max) {
            return Err(Full);
        }
        // Copied for a client whose socket takes nothing, and for a tab: the lock alone keeps nothing from being sent.
        let range =
            if to.stalled().is_some() || to.keep().is_some() { self.for_itself(to, range) } else { range };
        let first_byte = self.spool.get(range)[0];
        to.outbox.push(range, &mut self.spool);
        if let Some((_, keep)) = to.keep_mut() {
            let is_last = first_byte & 0x80 != 0;
            keep.unfinished = if is_last { 0 } else { keep.unfinished + range.len() };
        }
        self.lines.join(Line::Urgent, key, to);
        self.rank(key, to);
        Ok(())
    }

    /// The same bytes as a range that keeps no bytes of others, for a client that is behind.
    fn for_itself(&mut self, to: &mut Mailbox, range: Range) -> Range {
        let copy = to.own().and_then(|own| self.spool.rehome(own, range));
        copy.unwrap_or(range)
    }

    // Broadcasts.

    /// Encodes a message for all clients and notes it as pending. A pending round that it does not join comes back, to
    /// be handed out now.
    #[must_use]
    pub(crate) fn broadcast(&mut self, opcode: Opcode, message: &[u8]) -> Option<Pending> {
        let range = self.spool.append_frame(Lane::Shared, true, opcode, message);
        self.lines.note_broadcast(range.len());
        match &mut self.pending {
            Some(pending) if pending.range().joins(range) => {
                pending.held.extend(range);
                pending.messages += 1;
                None
            }
            _ => {
                // The new range is held over the hand-out of the old one, which may empty the segment.
                let held = self.spool.held(range);
                self.pending.replace(Pending { held, messages: 1 })
            }
        }
    }

    /// Whether broadcasts wait to be handed out.
    #[inline]
    pub(crate) fn has_pending(&self) -> bool {
        self.pending.is_some()
    }

    pub(crate) fn take_pending(&mut self) -> Option<Pending> {
        self.pending.take()
    }

    /// Ends the hold of broadcasts that were handed out.
    pub(crate) fn handed_out(&mut self, pending: Pending) {
        self.spool.give_back(pending.held);
    }

    /// Whether a broadcast of this many bytes is to wait, so that clients that read are offered the earlier ones first;
    /// `Unsettled` until the pending round is handed out.
    pub(crate) fn throttle(&mut self, len: usize) -> Throttled {
        self.lines.throttle(len, self.outbox_bytes_max, self.pending.is_some())
    }

    /// Bytes broadcast and not yet offered to every client: a broadcast adds to them, and only
    /// [`throttle`](Self::throttle) takes from them.
    #[inline]
    pub(crate) fn burst_bytes(&self) -> usize {
        self.lines.burst_bytes()
    }

    // Control frames and responses.

    /// Queues a control frame: it passes a lock, and no limit keeps it back.
    pub(crate) fn control(&mut self, key: ClientKey, to: &mut Mailbox, opcode: Opcode, payload: &[u8]) {
        let range = match to.own() {
            Some(own) => self.spool.append_own(own, true, opcode, payload),
            None => self.spool.append_frame(Lane::Private, true, opcode, payload),
        };
        match to.keep() {
            None => to.outbox.push(range, &mut self.spool),
            Some(_) => to.outbox.push_control(range, &mut self.spool),
        }
        self.lines.join(Line::Urgent, key, to);
        self.rank(key, to);
    }

    /// Queues a close frame, and drops the messages that a lock held back: nothing follows a close.
    pub(crate) fn close(&mut self, key: ClientKey, to: &mut Mailbox, code: Option<CloseCode>, reason: &str) {
        self.drop_held(to);
        to.set_leaving();
        let mut frame = Vec::with_capacity(128);
        encode::append_close(&mut frame, code, reason);
        let range = match to.own() {
            Some(own) => self.spool.append_own_bytes(own, &frame),
            None => self.spool.append_bytes(Lane::Private, &frame),
        };
        to.outbox.push(range, &mut self.spool);
        self.lines.join(Line::Urgent, key, to);
        self.rank(key, to);
    }

    /// Queues an HTTP response: one unit, not frames.
    pub(crate) fn response(&mut self, key: ClientKey, to: &mut Mailbox, response: &[u8]) {
        let range = self.spool.append_bytes(Lane::Private, response);
        to.outbox.push_opaque(range, &mut self.spool);
        self.lines.join(Line::Urgent, key, to);
    }

    /// The same, and nothing follows it.
    pub(crate) fn last_response(&mut self, key: ClientKey, to: &mut Mailbox, response: &[u8]) {
        to.set_leaving();
        self.response(key, to, response);
    }

    /// Answers a ping; a client that pings and does not read gets one pong, for the newest (RFC 6455 5.5.3).
    pub(crate) fn pong(&mut self, key: ClientKey, to: &mut Mailbox, payload: &[u8]) {
        if to.stalled().is_some() {
            to.owe_pong(payload);
        } else {
            self.control(key, to, Opcode::Pong, payload);
        }
    }

    // Locks.

    /// Lets the messages that were held back follow the last fragment.
    pub(crate) fn unlock(&mut self, key: ClientKey, to: &mut Mailbox, now: Tick) {
        if let Some(hold) = to.take_hold() {
            to.outbox.append(hold, &mut self.spool);
            self.lines.join(Line::Urgent, key, to);
            to.catch_up(now, &mut self.spool);
            self.rank(key, to);
        }
    }

    // The end.

    /// Drops all but the frame in flight.
    pub(crate) fn drop_unsent(&mut self, to: &mut Mailbox) {
        self.drop_held(to);
        to.outbox.drop_unsent(&mut self.spool);
    }

    /// Drops everything.
    pub(crate) fn drop_all(&mut self, key: ClientKey, to: &mut Mailbox, now: Tick) {
        self.drop_held(to);
        to.outbox.clear(&mut self.spool);
        to.catch_up(now, &mut self.spool);
        self.rank(key, to);
    }

    fn drop_held(&mut self, to: &mut Mailbox) {
        if let Some(mut hold) = to.forget_rare() {
            hold.clear(&mut self.spool);
        }
        if let Some(mut keep) = to.end_keeping() {
            keep.kept.clear(&mut self.spool);
        }
    }

    // Tabs.

    /// From now on what is sent to the client is kept until it is confirmed.
    pub(crate) fn begin_keeping(&mut self, to: &mut Mailbox, name: u64) {
        to.begin_keeping(name);
    }

    /// Queues the ping of a tab that is due for one, and the tab for the flush.
    pub(crate) fn ask_to_confirm(&mut self, key: ClientKey, mail: &mut Mailbox, now: Tick) {
        if self.append_ping(mail, now) {
            self.lines.join(Line::Urgent, key, mail);
        }
    }

    /// Whether there was one to be queued.
    fn append_ping(&mut self, mail: &mut Mailbox, now: Tick) -> bool {
        if mail.is_locked() || !mail.keep_mut().is_some_and(|(outbox, keep)| keep.is_due(outbox, now)) {
            return false;
        }
        let mut number = self.next_ping();
        if number as u32 == 0 {
            number = self.next_ping(); // the lower half names it
        }
        let own = mail.own().expect("a tab has one");
        let range = self.spool.append_own(own, true, Opcode::Ping, &number.to_be_bytes());
        mail.outbox.push_control(range, &mut self.spool);
        if let Some((outbox, keep)) = mail.keep_mut() {
            keep.pinged(NonZeroU32::new(number as u32).expect("it is none of those"), outbox, now);
        }
        mail.turn_over(&mut self.spool);
        true
    }

    /// A pong came that covers the pings up to this number. Whether it confirms anything.
    pub(crate) fn confirm(&mut self, key: ClientKey, mail: &mut Mailbox, number: u64, now: Tick) -> bool {
        let confirmed = mail.keep_mut().is_some_and(|(_, keep)| keep.confirm(number, &mut self.spool));
        if confirmed {
            mail.catch_up(now, &mut self.spool);
            self.rank(key, mail);
        }
        confirmed
    }

    /// Gives up what a tab keeps, but for what waits to be sent: unless it confirms that, it cannot come back.
    pub(crate) fn drop_kept(&mut self, key: ClientKey, mail: &mut Mailbox) {
        if let Some((outbox, keep)) = mail.keep_mut() {
            keep.drop_kept(outbox, &mut self.spool);
            self.rank(key, mail);
        }
    }

    /// Whether a tab whose connection ends could come back without a gap.
    pub(crate) fn can_come_back(&self, mail: &Mailbox) -> bool {
        let is_within = |kept: u32| kept.saturating_add(mail.waiting_bytes()) <= self.outbox_bytes_max;
        mail.keep().is_some_and(|keep| keep.is_whole() && is_within(keep.kept.bytes()))
    }

    /// The connection of a tab ends: what it has not confirmed waits with the rest for the next one. The frame in flight
    /// goes out on the old one, if that has anything to say.
    pub(crate) fn go_away(&mut self, key: ClientKey, mail: &mut Mailbox, rest: Option<&mut Mailbox>) {
        let mut in_flight = mail.outbox.split_in_flight(&mut self.spool);
        match rest {
            Some(rest) => rest.outbox = in_flight,
            None => in_flight.clear(&mut self.spool),
        }
        if let Some((outbox, keep)) = mail.keep_mut() {
            keep.go_away(outbox, &mut self.spool);
        }
        mail.disconnect();
        self.rank(key, mail);
    }

    /// Forgets a fragmented message that will not be completed, of which nothing has gone.
    pub(crate) fn drop_unfinished(&mut self, key: ClientKey, mail: &mut Mailbox) {
        if let Some((outbox, keep)) = mail.keep_mut().filter(|(_, keep)| keep.away) {
            let unfinished = std::mem::take(&mut keep.unfinished).min(outbox.bytes());
            outbox.truncate(outbox.bytes() - unfinished, &mut self.spool);
            self.rank(key, mail);
        }
    }

    /// A tab has a connection again: the response, then what it has not got.
    pub(crate) fn come_back(&mut self, key: ClientKey, mail: &mut Mailbox, response: &[u8]) {
        let waiting = std::mem::take(&mut mail.outbox);
        let range = self.spool.append_bytes(Lane::Private, response);
        mail.outbox.push_opaque(range, &mut self.spool);
        mail.outbox.append(waiting, &mut self.spool);
        if let Some((_, keep)) = mail.keep_mut() {
            keep.come_back();
        }
        mail.connect();
        self.lines.join(Line::Urgent, key, mail);
        self.rank(key, mail);
    }

    /// Other bytes wait than before: the client may have another place among those that are behind.
    #[inline]
    fn rank(&mut self, key: ClientKey, mail: &mut Mailbox) {
        if !mail.is_plain() {
            let (from, to) = mail.rank();
            self.ranks.change(key, from, to);
        }
    }
}

/// Whether a broadcast is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Throttled {
    /// It may go.
    No,
    /// Earlier broadcasts were not yet offered to all clients that read.
    Yes,
    /// The pending round is to be handed out first: that counts the clients that are to be offered something.
    Unsettled,
}

/// Whether a frame is too much for a client. A single frame is not, however long: it is bounded by
/// `limits.control_payload`, and a client that reads can take it.
fn is_over(waiting: u32, len: u32, outbox_bytes_max: u32) -> bool {
    waiting > 0 && waiting.saturating_add(len) > outbox_bytes_max
}
