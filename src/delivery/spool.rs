//! The store of encoded frames that all outboxes share.
//!
//! A message is encoded once, at the end of a segment; an outbox keeps a [`Range`], twelve bytes, and
//! never the bytes. Broadcasts have a lane of their own, so that consecutive ones are neighbours in
//! memory: an outbox that waits extends its range instead of adding another, and everything that waits
//! leaves in one `send`. A segment knows how many ranges point into it and is freed with the last.
//!
//! Messages to a client that is behind go into a segment of its own ([`Own`]): in a segment that it shared
//! with others a few of its bytes would keep all of theirs.
//!
//! It never knows a peer. Invariant: a segment that no range holds has no bytes; `bytes` is the memory that all of it
//! takes.

use crate::wire::frame::{Opcode, encode};

/// Bytes a segment is made for. Large enough that a backlog of one client (1 MiB) is a handful of
/// ranges, small enough that a forgotten byte pins little.
pub(crate) const SEGMENT_BYTES: usize = 64 * 1024;
/// Emptied segments kept for the next message: in the steady state nothing is allocated.
const SPARES_MAX: usize = 4;
const NO_SEGMENT: u32 = u32::MAX;

/// Bytes of one or more whole frames (or of one HTTP response) in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) segment: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Range {
    /// Length in bytes.
    pub(crate) fn len(self) -> u32 {
        self.end - self.start
    }

    /// Whether it holds nothing.
    pub(crate) fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Whether `next` begins where this one ends, so that both are one range.
    pub(crate) fn joins(self, next: Self) -> bool {
        self.segment == next.segment && self.end == next.start
    }
}

/// The receivers of the bytes. Each lane fills its own segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Every open client: consecutive messages stay neighbours.
    Shared = 0,
    /// One client.
    Private = 1,
}

/// A range that is held once for itself, so that its segment stays while it is handed out. It is given back by
/// [`Spool::give_back`]; the hold is part of the value, so it can not be forgotten by a copy.
#[derive(Debug)]
#[must_use = "the segment stays until it is given back"]
pub(crate) struct Held(Range);

impl Held {
    pub(crate) fn range(&self) -> Range {
        self.0
    }

    /// Takes the range that follows in as well: one hold covers both.
    pub(crate) fn extend(&mut self, next: Range) {
        debug_assert!(self.0.joins(next), "only neighbours are one range");
        self.0.end = next.end;
    }
}

/// The segment that a client which is behind fills; held once for that.
#[derive(Debug)]
pub(crate) struct Own(u32);

impl Own {
    /// For the audit.
    pub(super) fn segment(&self) -> u32 {
        self.0
    }
}

/// The receivers of a segment's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    Shared,
    Private,
    Own,
}

#[derive(Debug)]
struct Segment {
    bytes: Vec<u8>,
    /// Ranges in all outboxes that point here.
    holds: u32,
    home: Home,
}

impl Segment {
    /// Bytes that it takes. Segments of the lanes are filled to their end before the next is begun.
    fn size(&self) -> usize {
        if self.home == Home::Own { self.bytes.capacity() } else { self.bytes.len() }
    }

    /// Where its last `len` bytes are; it has this number.
    #[inline(always)]
    fn last(&self, segment: u32, len: usize) -> Range {
        let end = self.bytes.len() as u32;
        Range { segment, start: end - len as u32, end }
    }
}

/// The segments. See the module's head.
#[derive(Debug)]
pub(crate) struct Spool {
    segments: Vec<Segment>,
    free: Vec<u32>,
    spares: Vec<Vec<u8>>,
    filling: [u32; 2],
    bytes: usize,
    /// Ranges that do not fit into the outboxes themselves.
    behind: usize,
}

#[inline(always)]
fn frame_len(payload: &[u8]) -> usize {
    encode::header_len(payload.len()) + payload.len()
}

/// Bytes that a range in the queue of an outbox takes: twelve, and as many of room to grow.
const RANGE_BYTES: usize = 24;
/// Smallest segment of a client's own.
const OWN_BYTES_MIN: usize = 256;

impl Default for Spool {
    fn default() -> Self {
        Self {
            segments: Vec::new(),
            free: Vec::new(),
            spares: Vec::new(),
            filling: [NO_SEGMENT; 2],
            bytes: 0,
            behind: 0,
        }
    }
}

impl Spool {
    /// Encodes one frame. The caller holds the range at least once, or gives it up with
    /// [`release`](Self::release) after holding it.
    #[inline(always)]
    pub(crate) fn append_frame(&mut self, lane: Lane, fin: bool, opcode: Opcode, payload: &[u8]) -> Range {
        self.append(lane, fin, opcode, payload, 0)
    }

    /// The same; the range is held once.
    #[inline(always)]
    pub(super) fn append_held(&mut self, lane: Lane, fin: bool, opcode: Opcode, payload: &[u8]) -> Range {
        self.append(lane, fin, opcode, payload, 1)
    }

    #[inline(always)]
    fn append(&mut self, lane: Lane, fin: bool, opcode: Opcode, payload: &[u8], holds: u32) -> Range {
        let len = frame_len(payload);
        let (segment, slot) = self.room_for(lane, len);
        slot.holds += holds;
        encode::append_frame(&mut slot.bytes, fin, opcode, payload);
        slot.last(segment, len)
    }

    /// Encodes a message and a ping behind it, as one range.
    pub(crate) fn append_with_ping(&mut self, opcode: Opcode, payload: &[u8], ping: &[u8]) -> Range {
        let len = frame_len(payload) + frame_len(ping);
        let (segment, slot) = self.room_for(Lane::Private, len);
        encode::append_frame(&mut slot.bytes, true, opcode, payload);
        encode::append_frame(&mut slot.bytes, true, Opcode::Ping, ping);
        slot.last(segment, len)
    }

    /// Stores bytes that are already encoded.
    pub(crate) fn append_bytes(&mut self, lane: Lane, encoded: &[u8]) -> Range {
        let (segment, slot) = self.room_for(lane, encoded.len());
        slot.bytes.extend_from_slice(encoded);
        slot.last(segment, encoded.len())
    }

    /// The segment that this many bytes are to be appended to, which are counted.
    #[inline(always)]
    fn room_for(&mut self, lane: Lane, len: usize) -> (u32, &mut Segment) {
        let segment = self.segment_for(lane, len);
        self.bytes += len;
        (segment, &mut self.segments[segment as usize])
    }

    /// Holds a range for itself.
    pub(crate) fn held(&mut self, range: Range) -> Held {
        self.hold(range.segment, 1);
        Held(range)
    }

    /// Ends that hold. The last one on a segment frees it.
    pub(crate) fn give_back(&mut self, held: Held) {
        self.release(held.0.segment);
    }

    /// Counts `ranges` more outbox entries on this segment.
    #[inline]
    pub(super) fn hold(&mut self, segment: u32, ranges: u32) {
        self.segments[segment as usize].holds += ranges;
    }

    /// One outbox entry on this segment is gone. The last one frees it.
    #[inline]
    pub(super) fn release(&mut self, segment: u32) {
        let slot = &mut self.segments[segment as usize];
        slot.holds -= 1;
        if slot.holds == 0 {
            self.empty(segment);
        }
    }

    /// The bytes of a range.
    #[inline]
    pub(crate) fn get(&self, range: Range) -> &[u8] {
        &self.segments[range.segment as usize].bytes[range.start as usize..range.end as usize]
    }

    /// Bytes that all of it takes: shared ones counted once, and the ranges that wait in queues.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.behind * RANGE_BYTES
    }

    /// One more range waits in the queue of an outbox.
    pub(super) fn note_behind(&mut self) {
        self.behind += 1;
    }

    /// This many of them wait no more.
    pub(super) fn note_caught_up(&mut self, ranges: usize) {
        self.behind -= ranges;
    }

    // Segments of a client's own.

    /// Encodes a frame for a client that is behind.
    pub(super) fn append_own(
        &mut self,
        own: &mut Option<Own>,
        fin: bool,
        opcode: Opcode,
        payload: &[u8],
    ) -> Range {
        let len = encode::header_len(payload.len()) + payload.len();
        if len > SEGMENT_BYTES {
            return self.append_frame(Lane::Private, fin, opcode, payload); // has a segment to itself
        }
        self.write_own(own, len, |bytes| encode::append_frame(bytes, fin, opcode, payload))
    }

    /// Stores bytes that are already encoded for a client that is behind.
    pub(super) fn append_own_bytes(&mut self, own: &mut Option<Own>, encoded: &[u8]) -> Range {
        self.write_own(own, encoded.len(), |bytes| bytes.extend_from_slice(encoded))
    }

    /// Copies a range from a segment of many, so that it does not keep that. One that is large stays where it is: it keeps
    /// no more than as much again.
    pub(super) fn rehome(&mut self, own: &mut Option<Own>, range: Range) -> Option<Range> {
        let from = &mut self.segments[range.segment as usize];
        if from.home != Home::Private || range.len() as usize >= SEGMENT_BYTES / 2 {
            return None;
        }
        let bytes = std::mem::take(&mut from.bytes);
        let slice = &bytes[range.start as usize..range.end as usize];
        let copy = self.append_own_bytes(own, slice);
        self.segments[range.segment as usize].bytes = bytes;
        Some(copy)
    }

    /// Copies a range of any segment that is small: as a range of its own it would take as much.
    pub(super) fn copy_small(&mut self, own: &mut Option<Own>, range: Range) -> Option<Range> {
        if range.len() as usize > 2 * RANGE_BYTES || own.as_ref().is_some_and(|own| own.0 == range.segment) {
            return None;
        }
        let mut copy = [0; 2 * RANGE_BYTES];
        let copy = &mut copy[..range.len() as usize];
        copy.copy_from_slice(self.get(range));
        Some(self.append_own_bytes(own, copy))
    }

    /// The client is behind no more.
    pub(super) fn give_up(&mut self, own: Own) {
        self.release(own.0);
    }

    fn write_own(&mut self, own: &mut Option<Own>, len: usize, write: impl FnOnce(&mut Vec<u8>)) -> Range {
        let segment = match own {
            Some(Own(segment)) if self.segments[*segment as usize].bytes.len() + len <= SEGMENT_BYTES => {
                *segment
            }
            _ => {
                let fresh = self.open_segment(Vec::new(), Home::Own);
                self.hold(fresh, 1);
                if let Some(full) = own.replace(Own(fresh)) {
                    self.give_up(full);
                }
                fresh
            }
        };
        let slot = &mut self.segments[segment as usize];
        let before = slot.size();
        let start = slot.bytes.len();
        if slot.bytes.capacity() < start + len {
            // By halves, so that the count is the memory that is taken.
            let room = (start + len).max(slot.bytes.capacity() * 3 / 2).max(OWN_BYTES_MIN);
            slot.bytes.reserve_exact(room - start);
        }
        write(&mut slot.bytes);
        self.bytes += slot.size() - before;
        Range { segment, start: start as u32, end: (start + len) as u32 }
    }

    /// Ranges that hold something, over all segments. For the invariants of tests.
    #[cfg(test)]
    pub(crate) fn holds(&self) -> usize {
        self.segments.iter().map(|segment| segment.holds as usize).sum()
    }

    /// Holds, stored bytes and size of each segment, for the audit.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (u32, usize, usize)> + '_ {
        self.segments.iter().map(|segment| (segment.holds, segment.bytes.len(), segment.size()))
    }

    /// The segment in which `len` bytes are to be put.
    #[inline(always)]
    fn segment_for(&mut self, lane: Lane, len: usize) -> u32 {
        let filling = self.filling[lane as usize];
        match self.segments.get(filling as usize) {
            Some(segment) if segment.bytes.len() + len <= SEGMENT_BYTES => filling,
            _ => self.fresh_segment(lane, len),
        }
    }

    /// A place for bytes that do not fit into the segment being filled. A frame that is larger than a segment gets one
    /// of its own and does not end the one being filled.
    #[inline(never)]
    fn fresh_segment(&mut self, lane: Lane, len: usize) -> u32 {
        if len > SEGMENT_BYTES {
            return self.open_segment(Vec::with_capacity(len), Home::Private);
        }
        let buffer = self.spares.pop().unwrap_or_else(|| Vec::with_capacity(SEGMENT_BYTES));
        let home = if lane == Lane::Shared { Home::Shared } else { Home::Private };
        let fresh = self.open_segment(buffer, home);
        self.filling[lane as usize] = fresh;
        fresh
    }

    fn open_segment(&mut self, bytes: Vec<u8>, home: Home) -> u32 {
        let segment = Segment { bytes, holds: 0, home };
        if let Some(index) = self.free.pop() {
            self.segments[index as usize] = segment;
            return index;
        }
        self.segments.push(segment);
        (self.segments.len() - 1) as u32
    }

    /// A segment being filled starts over in its buffer; any other gives the buffer back.
    #[inline(never)]
    fn empty(&mut self, segment: u32) {
        let slot = &mut self.segments[segment as usize];
        self.bytes -= slot.size();
        slot.bytes.clear();
        if self.filling.contains(&segment) {
            return;
        }
        let buffer = std::mem::take(&mut slot.bytes);
        if buffer.capacity() == SEGMENT_BYTES && self.spares.len() < SPARES_MAX {
            self.spares.push(buffer);
        }
        self.free.push(segment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(spool: &mut Spool, lane: Lane, payload: &[u8]) -> Range {
        let range = spool.append_frame(lane, true, Opcode::Text, payload);
        spool.hold(range.segment, 1);
        range
    }

    #[test]
    fn lanes_do_not_interleave() {
        let mut spool = Spool::default();
        let first = text(&mut spool, Lane::Shared, b"one");
        let private = text(&mut spool, Lane::Private, b"mine");
        let second = text(&mut spool, Lane::Shared, b"two");
        assert!(first.joins(second));
        assert!(!first.joins(private));
        assert_eq!(spool.get(second), b"\x81\x03two");
    }

    #[test]
    fn the_last_reader_frees_and_the_buffer_is_used_again() {
        let mut spool = Spool::default();
        let range = text(&mut spool, Lane::Shared, b"x");
        spool.hold(range.segment, 2);
        for left in [3, 3, 0] {
            spool.release(range.segment);
            assert_eq!(spool.bytes(), left);
        }
        assert_eq!(text(&mut spool, Lane::Shared, b"y"), range);
    }

    #[test]
    fn large_frames_get_a_segment_of_their_own() {
        let mut spool = Spool::default();
        let small = text(&mut spool, Lane::Shared, b"s");
        let large = text(&mut spool, Lane::Shared, &vec![b'l'; SEGMENT_BYTES]);
        let next = text(&mut spool, Lane::Shared, b"t");
        assert_ne!(small.segment, large.segment);
        assert!(small.joins(next));
        spool.release(large.segment);
        assert_eq!(spool.bytes(), 6);
    }

    #[test]
    fn full_segments_are_freed_behind_the_one_being_filled() {
        let mut spool = Spool::default();
        let ranges: Vec<Range> = (0..40).map(|_| text(&mut spool, Lane::Private, &[0; 10_000])).collect();
        ranges.iter().for_each(|range| spool.release(range.segment));
        assert_eq!((spool.bytes(), spool.holds()), (0, 0));
        assert!(spool.spares.len() <= SPARES_MAX);
    }
}
