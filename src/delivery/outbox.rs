//! One client's queue of bytes to be sent: ranges in the spool and where the first is cut.
//!
//! It holds no bytes. One range needs no heap; a second one and more go to a boxed queue that is given
//! back when the outbox is empty. The first range always begins at a frame, and `cut` says how much of
//! that frame has gone: so the frame in flight can be finished and the rest dropped (RFC 6455 5.4 lets
//! nothing else end a connection in good order).
//!
//! It never judges its own size: the hub compares `bytes` with the limit. Invariant: `bytes` is the
//! length of all ranges less `cut`, and every range is held in the spool exactly once.

use super::spool::{Own, Range, Spool};
use crate::wire::frame::encode;
use std::collections::VecDeque;

/// Marks a range that is one indivisible unit and no message: an HTTP response, a tab's control frames. It is not kept and
/// not sent again.
const OPAQUE: u32 = 1 << 31;
/// Ranges for which a queue has room without being made smaller.
const ROOM_KEPT: usize = 64;
const NOTHING: Range = Range { segment: 0, start: 0, end: 0 };

/// The queue. See the module's head.
#[derive(Debug)]
pub(crate) struct Outbox {
    first: Range,
    /// Bytes of the frame at `first.start` that are already sent.
    cut: u32,
    bytes: u32,
    // Boxed: a client that is not behind pays eight bytes for it and not thirty-two.
    #[allow(clippy::box_collection)]
    more: Option<Box<VecDeque<Range>>>,
}

// A waiting or empty outbox is half a cache line.
const _: () = assert!(size_of::<Outbox>() == 32);

impl Default for Outbox {
    fn default() -> Self {
        Self { first: NOTHING, cut: 0, bytes: 0, more: None }
    }
}

impl Outbox {
    /// Bytes not yet sent.
    pub(crate) fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Whether all is sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Queues frames where nothing waits. The caller holds their segment for it.
    #[inline(always)]
    pub(super) fn begin(&mut self, range: Range) {
        debug_assert!(self.is_empty() && self.first.is_empty() && self.more.is_none(), "nothing waits");
        (self.first, self.bytes) = (range, range.len());
    }

    /// Queues frames.
    #[inline(always)]
    pub(crate) fn push(&mut self, range: Range, spool: &mut Spool) {
        if self.put(range, spool) {
            spool.hold(range.segment, 1);
        }
    }

    /// The same for a caller that counts holds for many outboxes: true when the segment is to be held once more,
    /// because the range did not join the last one.
    #[inline(always)]
    #[must_use]
    pub(super) fn put(&mut self, range: Range, spool: &mut Spool) -> bool {
        self.bytes += range.len();
        if self.first.is_empty() {
            self.first = range;
            return true;
        }
        self.push_behind(range, spool)
    }

    #[inline(never)]
    fn push_behind(&mut self, range: Range, spool: &mut Spool) -> bool {
        let last = match &mut self.more {
            None => &mut self.first,
            Some(more) => more.back_mut().expect("a queue that is empty is given back"),
        };
        if last.joins(range) {
            last.end = range.end;
            return false;
        }
        self.more.get_or_insert_default().push_back(range);
        spool.note_behind();
        true
    }

    /// Whether frames that begin where this one does would join the last range.
    pub(super) fn would_join(&self, range: Range) -> bool {
        let last = self.more.as_ref().and_then(|more| more.back()).unwrap_or(&self.first);
        last.joins(range)
    }

    /// Copies the bytes that lie in segments of many clients into the client's own. No frame is moved or cut.
    pub(super) fn rehome(&mut self, own: &mut Option<Own>, spool: &mut Spool) {
        let cut = self.cut;
        let old = std::mem::take(self);
        if let Some(more) = &old.more {
            spool.note_caught_up(more.len());
        }
        let first = (!old.first.is_empty()).then_some(old.first);
        for range in first.into_iter().chain(old.more.into_iter().flat_map(|more| *more)) {
            let mark = range.segment & OPAQUE;
            match spool.rehome(own, plain(range)) {
                Some(copy) => {
                    if self.put(Range { segment: copy.segment | mark, ..copy }, spool) {
                        spool.hold(copy.segment, 1);
                    }
                    spool.release(plain(range).segment);
                }
                None if self.put(range, spool) => {} // it brings its hold
                None => spool.release(plain(range).segment),
            }
        }
        self.cut = cut;
        self.bytes -= cut;
    }

    /// Queues a unit that is not frames and joins nothing.
    pub(crate) fn push_opaque(&mut self, range: Range, spool: &mut Spool) {
        let marked = Range { segment: range.segment | OPAQUE, ..range };
        assert!(self.put(marked, spool), "an opaque range joins nothing");
        spool.hold(range.segment, 1);
    }

    /// The first of [`chunks`](Self::chunks), and whether it is the only one. Empty when nothing waits.
    #[inline]
    pub(crate) fn first_chunk<'s>(&self, spool: &'s Spool) -> (&'s [u8], bool) {
        if self.is_empty() {
            return (&[], true);
        }
        let range = Range { start: self.first.start + self.cut, ..self.first };
        (spool.get(plain(range)), self.more.is_none())
    }

    /// Where all waiting bytes are, if that is one place.
    #[inline(always)]
    pub(super) fn only_range(&self) -> Option<Range> {
        if self.is_empty() || self.more.is_some() {
            return None;
        }
        Some(plain(Range { start: self.first.start + self.cut, ..self.first }))
    }

    /// The peer took all of the only range.
    #[inline(always)]
    pub(super) fn end_only(&mut self, spool: &mut Spool) {
        debug_assert!(self.only_range().is_some(), "there is one range");
        spool.release(plain(self.first).segment);
        (self.first, self.cut, self.bytes) = (NOTHING, 0, 0);
    }

    /// The waiting bytes, in order, as slices of the spool.
    pub(crate) fn chunks<'s>(&'s self, spool: &'s Spool) -> impl Iterator<Item = &'s [u8]> {
        let start = self.first.start + self.cut;
        let first = (!self.is_empty()).then_some(Range { start, ..self.first });
        let rest = self.more.iter().flat_map(|more| more.iter().copied());
        first.into_iter().chain(rest).map(|range| spool.get(plain(range)))
    }

    /// The peer took the first `sent` bytes.
    #[inline(always)]
    pub(crate) fn consume(&mut self, sent: u32, spool: &mut Spool) {
        debug_assert!(sent <= self.bytes, "no more is sent than was queued");
        if sent == self.bytes && self.more.is_none() {
            // Nearly always: one range, and the kernel took it all.
            if !self.first.is_empty() {
                spool.release(plain(self.first).segment);
                (self.first, self.cut, self.bytes) = (NOTHING, 0, 0);
            }
            return;
        }
        self.consume_some(sent, spool);
    }

    /// The same for a tab: whole frames that have gone are kept, those that are no frames are not.
    pub(super) fn consume_into(&mut self, kept: &mut Self, sent: u32, spool: &mut Spool) {
        debug_assert!(sent <= self.bytes, "no more is sent than was queued");
        self.bytes -= sent;
        let mut sent = sent + self.cut;
        while !self.first.is_empty() && sent >= self.first.len() {
            sent -= self.first.len();
            let gone = self.first;
            self.advance(spool);
            // It brings its hold.
            if gone.segment & OPAQUE != 0 || !kept.put(gone, spool) {
                spool.release(plain(gone).segment);
            }
        }
        let start = self.first.start;
        self.cut = self.skip_whole_frames(sent, spool);
        if self.first.start > start {
            kept.push(Range { end: self.first.start, start, ..self.first }, spool);
        }
    }

    /// Queues control frames of a tab.
    pub(super) fn push_control(&mut self, range: Range, spool: &mut Spool) {
        if self.put(Range { segment: range.segment | OPAQUE, ..range }, spool) {
            spool.hold(range.segment, 1);
        }
    }

    fn messages(&self) -> impl Iterator<Item = &Range> {
        let all = std::iter::once(&self.first).chain(self.more.iter().flat_map(|more| more.iter()));
        all.filter(|range| range.segment & OPAQUE == 0 && !range.is_empty())
    }

    /// Whether messages wait, and not control frames or a response alone.
    pub(super) fn has_messages(&self) -> bool {
        self.messages().next().is_some()
    }

    /// The bytes of messages, with those of the frame in flight that have gone.
    pub(super) fn message_bytes(&self) -> u32 {
        self.messages().map(|range| range.len()).sum()
    }

    /// Forgets all but messages; of the first nothing has gone.
    pub(super) fn drop_others(&mut self, spool: &mut Spool) {
        debug_assert_eq!(self.cut, 0, "nothing of it has gone");
        let old = std::mem::take(self);
        spool.note_caught_up(old.more.as_ref().map_or(0, |more| more.len()));
        let first = (!old.first.is_empty()).then_some(old.first);
        for range in first.into_iter().chain(old.more.into_iter().flat_map(|more| *more)) {
            // A message brings its hold.
            if range.segment & OPAQUE != 0 || !self.put(range, spool) {
                spool.release(plain(range).segment);
            }
        }
    }

    /// Gives out the frame in flight, or the response, with its hold, and begins again with that frame's first byte. Only
    /// messages are sent again.
    pub(super) fn split_in_flight(&mut self, spool: &mut Spool) -> Self {
        let is_response = self.first.segment & OPAQUE != 0;
        let mut in_flight = Self::default();
        if self.cut > 0 || is_response {
            let len = self.unit_len(spool);
            let unit = Range { end: self.first.start + len, ..self.first };
            spool.hold(plain(unit).segment, 1);
            in_flight = Self { first: unit, cut: self.cut, bytes: len - self.cut, more: None };
        }
        self.bytes += std::mem::take(&mut self.cut);
        self.drop_others(spool);
        in_flight
    }

    /// Forgets the first bytes, which are whole frames.
    pub(super) fn drop_front(&mut self, bytes: u32, spool: &mut Spool) {
        self.bytes -= bytes;
        let mut left = bytes;
        while left > 0 && left >= self.first.len() {
            left -= self.first.len();
            self.drop_first(spool);
        }
        self.first.start += left;
    }

    /// Forgets all but the first bytes; frames are not cut by it.
    pub(super) fn truncate(&mut self, bytes: u32, spool: &mut Spool) {
        debug_assert_eq!(self.cut, 0, "nothing of it has gone");
        while self.bytes > bytes {
            let over = self.bytes - bytes;
            let last = self.more.as_mut().and_then(|more| more.back_mut()).unwrap_or(&mut self.first);
            if last.len() > over {
                last.end -= over;
                self.bytes -= over;
                return;
            }
            let gone = *last;
            self.bytes -= gone.len();
            match &mut self.more {
                Some(more) => {
                    more.pop_back();
                    spool.note_caught_up(1);
                    if more.is_empty() {
                        self.more = None;
                    }
                }
                None => self.first = NOTHING,
            }
            spool.release(plain(gone).segment);
        }
    }

    /// Out of line: it would cost the flush of one range registers, a tenth of its instructions.
    #[inline(never)]
    fn consume_some(&mut self, sent: u32, spool: &mut Spool) {
        self.bytes -= sent;
        let mut sent = sent + self.cut;
        while !self.first.is_empty() && sent >= self.first.len() {
            sent -= self.first.len();
            self.drop_first(spool);
        }
        self.cut = self.skip_whole_frames(sent, spool);
    }

    /// Drops all but the frame in flight, which stays to be finished, or the response that comes before
    /// any frame.
    pub(crate) fn drop_unsent(&mut self, spool: &mut Spool) {
        let begun = self.cut > 0 || self.first.segment & OPAQUE != 0;
        let whole = if begun { self.unit_len(spool) } else { 0 };
        for range in self.more.take().into_iter().flat_map(|more| *more) {
            spool.release(plain(range).segment);
            spool.note_caught_up(1);
        }
        if whole == 0 {
            self.clear(spool);
            return;
        }
        self.first.end = self.first.start + whole;
        self.bytes = whole - self.cut;
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self, spool: &mut Spool) {
        while !self.first.is_empty() {
            self.drop_first(spool);
        }
        (self.bytes, self.cut) = (0, 0);
    }

    /// Moves all of `other` behind the ranges that wait here. No range changes its hold.
    pub(crate) fn append(&mut self, mut other: Self, spool: &mut Spool) {
        debug_assert_eq!(other.cut, 0, "what was held back was never sent in part");
        let first = (!other.first.is_empty()).then_some(other.first);
        spool.note_caught_up(other.more.as_ref().map_or(0, |more| more.len()));
        let rest = other.more.take().into_iter().flat_map(|more| *more);
        for range in first.into_iter().chain(rest) {
            if !self.put(range, spool) {
                spool.release(range.segment);
            }
        }
    }

    /// Heap bytes it owns: for the tests that say an empty one owns none.
    #[cfg(test)]
    pub(crate) fn heap_bytes(&self) -> usize {
        self.more.as_ref().map_or(0, |more| size_of_val(&**more) + more.capacity() * size_of::<Range>())
    }

    /// Ranges queued.
    #[cfg(test)]
    pub(crate) fn ranges(&self) -> usize {
        usize::from(!self.first.is_empty()) + self.more.as_ref().map_or(0, |more| more.len())
    }

    /// Ranges that wait behind the first, for the audit.
    pub(crate) fn queued_ranges(&self) -> usize {
        self.more.as_ref().map_or(0, |more| more.len())
    }

    /// Its ranges, each with whether it is opaque, and how much of the first frame has gone: for the audit.
    pub(crate) fn parts(&self) -> (impl Iterator<Item = (Range, bool)> + '_, u32) {
        let first = (!self.first.is_empty()).then_some(self.first);
        let rest = self.more.iter().flat_map(|more| more.iter().copied());
        let part = |range: Range| (plain(range), range.segment & OPAQUE != 0);
        (first.into_iter().chain(rest).map(part), self.cut)
    }

    fn drop_first(&mut self, spool: &mut Spool) {
        spool.release(plain(self.first).segment);
        self.advance(spool);
    }

    /// The next range is the first one.
    fn advance(&mut self, spool: &mut Spool) {
        let next = self.more.as_mut().and_then(|more| more.pop_front());
        spool.note_caught_up(usize::from(next.is_some()));
        self.first = next.unwrap_or(NOTHING);
        match &mut self.more {
            Some(more) if more.is_empty() => self.more = None,
            // One that is always a little behind does not keep the room of its worst moment.
            Some(more) if more.capacity() > ROOM_KEPT && more.len() < more.capacity() / 4 => {
                more.shrink_to(more.len() * 2);
            }
            _ => {}
        }
    }

    /// Moves the start over the frames that lie wholly in the first `sent` bytes; returns the rest.
    fn skip_whole_frames(&mut self, mut sent: u32, spool: &Spool) -> u32 {
        while sent > 0 {
            let len = self.unit_len(spool);
            if sent < len {
                break;
            }
            sent -= len;
            self.first.start += len;
        }
        sent
    }

    /// Length of the frame (or response) at the start.
    fn unit_len(&self, spool: &Spool) -> u32 {
        if self.first.segment & OPAQUE != 0 {
            return self.first.len();
        }
        encode::frame_len(spool.get(self.first)) as u32
    }
}

fn plain(range: Range) -> Range {
    Range { segment: range.segment & !OPAQUE, ..range }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::spool::Lane;
    use crate::wire::frame::Opcode;
    use proptest::prelude::*;

    fn waiting(outbox: &Outbox, spool: &Spool) -> Vec<u8> {
        outbox.chunks(spool).flatten().copied().collect()
    }

    #[test]
    fn neighbours_join_and_own_no_heap() {
        let (mut outbox, mut spool) = (Outbox::default(), Spool::default());
        for payload in [b"a", b"b", b"c"] {
            let range = spool.append_frame(Lane::Shared, true, Opcode::Text, payload);
            outbox.push(range, &mut spool);
        }
        assert_eq!((outbox.ranges(), outbox.heap_bytes(), outbox.chunks(&spool).count()), (1, 0, 1));
    }

    #[test]
    fn the_frame_in_flight_is_finished() {
        let (mut outbox, mut spool) = (Outbox::default(), Spool::default());
        for lane in [Lane::Shared, Lane::Shared, Lane::Private] {
            let range = spool.append_frame(lane, true, Opcode::Text, b"hello");
            outbox.push(range, &mut spool);
        }
        outbox.consume(9, &mut spool);
        outbox.drop_unsent(&mut spool);
        assert_eq!(waiting(&outbox, &spool), b"hello");
        outbox.consume(5, &mut spool);
        assert_eq!((spool.bytes(), spool.holds()), (0, 0));
    }

    #[test]
    fn a_response_is_one_unit() {
        let (mut outbox, mut spool) = (Outbox::default(), Spool::default());
        let response = spool.append_bytes(Lane::Private, b"HTTP/1.1 101 Yes\r\n\r\n");
        outbox.push_opaque(response, &mut spool);
        let range = spool.append_frame(Lane::Private, true, Opcode::Text, b"x");
        outbox.push(range, &mut spool);
        outbox.consume(4, &mut spool);
        outbox.drop_unsent(&mut spool);
        assert_eq!(waiting(&outbox, &spool), b"/1.1 101 Yes\r\n\r\n");
    }

    #[test]
    fn frames_are_dropped_behind_a_response_that_has_not_begun() {
        let (mut outbox, mut spool) = (Outbox::default(), Spool::default());
        let response = spool.append_bytes(Lane::Private, b"HTTP/1.1 101 Yes\r\n\r\n");
        outbox.push_opaque(response, &mut spool);
        let range = spool.append_frame(Lane::Private, true, Opcode::Text, b"x");
        outbox.push(range, &mut spool);
        outbox.drop_unsent(&mut spool);
        assert_eq!(waiting(&outbox, &spool), b"HTTP/1.1 101 Yes\r\n\r\n");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(Lane, usize),
        Consume(u8),
        DropUnsent,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (prop_oneof![Just(Lane::Shared), Just(Lane::Private)], 0..300usize)
                .prop_map(|(lane, len)| Step::Push(lane, len)),
            3 => any::<u8>().prop_map(Step::Consume),
            1 => Just(Step::DropUnsent),
        ]
    }

    proptest! {
        /// Against a byte vector and the list of frame ends.
        #[test]
        fn behaves_as_a_byte_queue(steps in proptest::collection::vec(step(), 1..60)) {
            let (mut outbox, mut spool) = (Outbox::default(), Spool::default());
            let (mut model, mut frames): (Vec<u8>, Vec<usize>) = (Vec::new(), Vec::new());
            let mut in_flight = 0;
            for (serial, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Push(lane, len) => {
                        let range =
                            spool.append_frame(lane, true, Opcode::Binary, &vec![serial as u8; len]);
                        model.extend_from_slice(spool.get(range));
                        frames.push(range.len() as usize);
                        outbox.push(range, &mut spool);
                    }
                    Step::Consume(share) => {
                        let sent = model.len() * usize::from(share) / 255;
                        outbox.consume(sent as u32, &mut spool);
                        model.drain(..sent);
                        in_flight += sent;
                        while frames.first().is_some_and(|len| *len <= in_flight) {
                            in_flight -= frames.remove(0);
                        }
                    }
                    Step::DropUnsent => {
                        outbox.drop_unsent(&mut spool);
                        frames.truncate(usize::from(in_flight > 0));
                        model.truncate(frames.first().map_or(0, |len| len - in_flight));
                    }
                }
                prop_assert_eq!(&waiting(&outbox, &spool), &model);
                prop_assert_eq!(outbox.bytes() as usize, model.len());
                prop_assert_eq!(outbox.ranges(), spool.holds());
                prop_assert!(!outbox.is_empty() || outbox.heap_bytes() == 0);
            }
            outbox.clear(&mut spool);
            prop_assert_eq!((spool.bytes(), spool.holds()), (0, 0));
        }
    }
}
