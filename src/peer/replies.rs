//! The bytes for a backend: answers in the order of its commands, and frames that wsson sends unasked.
//!
//! An answer that is not known yet, because browsers or other nodes have to be asked first, has a *place*: answers to
//! later commands wait behind it. Frames that carry an id of their own, and our pings, pass. Answers that are known at
//! once, which is the ordinary case, are encoded where they are sent from: one buffer, no allocation for each.
//!
//! Events for a worker wait here too. They pass answers that wait, and are counted apart: a worker that is behind with
//! its events must still be able to send commands, for it may have to before it takes the next event.
//!
//! It never looks into an answer. Invariants: `behind` begins with a place that waits, or is empty;
//! `behind_bytes` is its size; events stand before all answers in `ready`, and in `events` only while answers stand there.

use crate::wire::command::Reply;
use std::collections::VecDeque;

/// Names the place of one answer of one backend; no other place ever has the same number.
pub(crate) type Serial = u64;

/// An empty buffer larger than this is given back: one burst must not stay for ever.
const BYTES_KEPT: usize = 4096;

/// A worker's buffer stays up to this size, as it is filled again in the next turn.
const EVENT_BYTES_KEPT: usize = 64 * 1024;

/// Memory that a place takes beside its bytes.
const PLACE_BYTES: usize = size_of::<Place>();

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    /// Whole frames; the first `sent` bytes are out.
    ready: Vec<u8>,
    sent: usize,
    behind: VecDeque<Place>,
    behind_bytes: usize,
    /// Answers that keep no place, and what each counts for, in the order in which they were asked for.
    late: VecDeque<(Serial, usize)>,
    /// Of the bytes in `ready` that are not out, the first so many are events.
    ready_events: usize,
    /// Events that came behind an answer: they are next when `ready` is out.
    events: Vec<u8>,
    /// There were events.
    is_worker: bool,
}

#[derive(Debug)]
enum Place {
    Waiting(Serial),
    /// Answers behind a place that waits.
    Ready(Vec<u8>),
}

impl Replies {
    /// The answer to the next command.
    #[inline(always)]
    pub(crate) fn push(&mut self, reply: &Reply<'_>) {
        if self.behind.is_empty() {
            return reply.append_to(&mut self.ready);
        }
        self.push_behind(reply);
    }

    /// The answer to the next request, as the bytes that it is.
    pub(crate) fn push_bytes(&mut self, bytes: Vec<u8>) {
        match self.behind.is_empty() {
            true => self.ready.extend_from_slice(&bytes),
            false => self.append_behind(bytes),
        }
    }

    #[inline(never)]
    fn push_behind(&mut self, reply: &Reply<'_>) {
        let mut bytes = Vec::new();
        reply.append_to(&mut bytes);
        self.append_behind(bytes);
    }

    fn append_behind(&mut self, bytes: Vec<u8>) {
        self.behind_bytes += bytes.len();
        match self.behind.back_mut() {
            Some(Place::Ready(last)) => last.extend_from_slice(&bytes),
            _ => {
                self.behind_bytes += PLACE_BYTES;
                self.behind.push_back(Place::Ready(bytes));
            }
        }
    }

    /// Says something that answers no command in its order: it does not wait.
    pub(crate) fn tell(&mut self, reply: &Reply<'_>) {
        reply.append_to(&mut self.ready);
    }

    /// Adds an event, which answers nothing.
    #[inline]
    pub(crate) fn add_event(&mut self, append: impl FnOnce(&mut Vec<u8>)) {
        self.is_worker = true;
        if self.ready.len() - self.sent == self.ready_events {
            let before = self.ready.len();
            append(&mut self.ready);
            self.ready_events += self.ready.len() - before;
        } else {
            append(&mut self.events);
        }
    }

    /// Gives up the events that would come behind the answers that are there.
    pub(crate) fn drop_later_events(&mut self) {
        self.events = Vec::new();
    }

    /// Bytes of events that are not out.
    #[inline]
    pub(crate) fn event_bytes(&self) -> usize {
        self.ready_events + self.events.len()
    }

    /// Keeps the place of an answer that comes later.
    pub(crate) fn wait(&mut self, serial: Serial) {
        self.behind_bytes += PLACE_BYTES;
        self.behind.push_back(Place::Waiting(serial));
    }

    /// An answer comes later and keeps no place; so many bytes count for it meanwhile.
    pub(crate) fn expect(&mut self, serial: Serial, bytes: usize) {
        self.behind_bytes += bytes;
        self.late.push_back((serial, bytes));
    }

    /// The answer that a place was kept for, or that comes late. False when there is none with this number.
    pub(crate) fn fill(&mut self, serial: Serial, bytes: Vec<u8>) -> bool {
        if let Ok(place) = self.late.binary_search_by_key(&serial, |(late, _)| *late) {
            let counted = self.late.remove(place).map_or(0, |(_, bytes)| bytes);
            self.behind_bytes -= counted;
            self.ready.extend_from_slice(&bytes);
            return true;
        }
        let waits = |place: &Place| matches!(place, Place::Waiting(waiting) if *waiting == serial);
        let Some(place) = self.behind.iter().position(waits) else { return false };
        self.behind_bytes += bytes.len();
        self.behind[place] = Place::Ready(bytes);
        while let Some(Place::Ready(bytes)) = self.behind.front() {
            self.ready.extend_from_slice(bytes);
            self.behind_bytes -= PLACE_BYTES + bytes.len();
            self.behind.pop_front();
        }
        true
    }

    /// Whether an answer is not known yet.
    pub(crate) fn waits(&self) -> bool {
        !self.behind.is_empty() || !self.late.is_empty()
    }

    /// The bytes to be sent now.
    #[inline]
    pub(crate) fn chunk(&self) -> &[u8] {
        &self.ready[self.sent..]
    }

    /// The peer took the first `sent` bytes of [`chunk`](Self::chunk).
    pub(crate) fn consume(&mut self, sent: usize) {
        self.sent += sent;
        self.ready_events = self.ready_events.saturating_sub(sent);
        debug_assert!(self.sent <= self.ready.len(), "no more is sent than was queued");
        if self.sent < self.ready.len() {
            // A backend that is always a little behind never empties it. Bytes that are out are given back before
            // they outweigh those that wait, so a byte is moved once.
            if self.sent > self.ready.len() / 2 {
                self.ready.drain(..self.sent);
                self.sent = 0;
            }
            return;
        }
        self.sent = 0;
        self.ready.clear();
        if !self.events.is_empty() {
            self.ready = std::mem::take(&mut self.events);
            self.ready_events = self.ready.len();
        } else if self.ready.capacity() > if self.is_worker { EVENT_BYTES_KEPT } else { BYTES_KEPT } {
            self.ready = Vec::new();
        }
    }

    /// Memory that is held.
    pub(crate) fn held_bytes(&self) -> usize {
        self.ready.capacity() + self.events.capacity() + self.behind_bytes
    }

    /// Bytes that are not out, those of events left out, a place counted as the memory that it takes.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.ready.len() - self.sent - self.ready_events + self.behind_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(reply: &Reply<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        reply.append_to(&mut bytes);
        bytes
    }

    fn sent(replies: &mut Replies) -> Vec<u8> {
        let chunk = replies.chunk().to_vec();
        replies.consume(chunk.len());
        chunk
    }

    #[test]
    fn replies_that_are_out_are_given_back_although_some_always_wait() {
        let mut replies = Replies::default();
        replies.push(&Reply::Ack(b"token"));
        for _ in 0..100_000 {
            replies.push(&Reply::Ack(b"token"));
            replies.consume(7);
            assert_eq!(replies.chunk(), b"5Atoken");
        }
        let kept = replies.ready.capacity();
        assert!(kept < 1000, "{kept} bytes are kept");
    }

    #[test]
    fn nothing_passes_an_answer_that_is_waited_for() {
        let mut replies = Replies::default();
        replies.push(&Reply::Ack(b"1"));
        replies.wait(7);
        replies.push(&Reply::Ack(b"3"));
        replies.wait(8);
        replies.push(&Reply::Ack(b"5"));
        replies.push(&Reply::Ack(b"6"));
        assert_eq!((sent(&mut replies), replies.waits()), (b"1A1".to_vec(), true));
        assert!(replies.fill(8, bytes(&Reply::Nack(b"4"))));
        assert_eq!(sent(&mut replies), b"", "the first one is not known");
        assert!(replies.fill(7, bytes(&Reply::Nack(b"2"))));
        assert_eq!((sent(&mut replies), replies.waits()), (b"1N21A31N41A51A6".to_vec(), false));
        assert_eq!(replies.bytes(), 0);
    }

    #[test]
    fn what_is_said_unasked_does_not_wait() {
        let mut replies = Replies::default();
        replies.wait(1);
        replies.push(&Reply::Pong);
        replies.tell(&Reply::Ping);
        assert_eq!(sent(&mut replies), b"0p");
        assert!(replies.fill(1, bytes(&Reply::FragmentAck)));
        assert_eq!(sent(&mut replies), b"0a0P");
    }

    #[test]
    fn an_answer_that_comes_late_holds_up_none_but_the_end() {
        let mut replies = Replies::default();
        replies.expect(1, 100);
        replies.push(&Reply::Ack(b"1"));
        replies.expect(2, 50);
        assert_eq!((replies.bytes(), replies.waits()), (153, true));
        assert_eq!(sent(&mut replies), b"1A1");
        assert!(replies.fill(2, bytes(&Reply::Pong)) && !replies.fill(2, bytes(&Reply::Pong)));
        assert_eq!((sent(&mut replies), replies.bytes(), replies.waits()), (b"0P".to_vec(), 100, true));
        assert!(replies.fill(1, bytes(&Reply::Pong)));
        assert_eq!((replies.bytes(), replies.waits()), (2, false));
    }

    #[test]
    fn a_place_is_filled_once_and_only_by_its_number() {
        let mut replies = Replies::default();
        replies.wait(1);
        assert!(
            !replies.fill(2, bytes(&Reply::Pong))
                && replies.fill(1, bytes(&Reply::Pong))
                && !replies.fill(1, bytes(&Reply::Pong))
        );
        assert_eq!(sent(&mut replies), b"0P");
    }

    #[test]
    fn events_pass_what_waits_and_do_not_count_as_answers() {
        let mut replies = Replies::default();
        let event = |replies: &mut Replies, text: &str| {
            replies.add_event(|out| out.extend_from_slice(text.as_bytes()));
        };
        event(&mut replies, "1");
        event(&mut replies, "2");
        replies.wait(1);
        replies.tell(&Reply::Ping);
        event(&mut replies, "3");
        replies.push(&Reply::Pong);
        assert_eq!((replies.chunk(), replies.event_bytes()), (&b"120p"[..], 3));
        assert_eq!(replies.bytes(), 2 + 2 + 2 * PLACE_BYTES, "a ping, and an answer behind the place of one");
        replies.consume(1);
        assert_eq!((replies.chunk(), replies.event_bytes()), (&b"20p"[..], 2));
        replies.consume(2);
        event(&mut replies, "4");
        assert_eq!((replies.chunk(), replies.event_bytes()), (&b"p"[..], 2));
        replies.consume(1);
        event(&mut replies, "5");
        assert_eq!((replies.chunk(), replies.event_bytes()), (&b"345"[..], 3));
        replies.fill(1, b"0a".to_vec());
        assert_eq!(sent(&mut replies), b"3450a0P");
        assert_eq!((replies.bytes(), replies.event_bytes()), (0, 0));
    }

    proptest! {
        /// In whatever order they become known, and in whatever pieces they are taken, the answers come in the order of
        /// the commands.
        #[test]
        fn answers_come_in_the_order_of_the_commands(steps in proptest::collection::vec((0..4u8, any::<u16>()), 1..60)) {
            let (mut replies, mut asked, mut open, mut got) = (Replies::default(), 0u64, Vec::new(), Vec::new());
            for (step, choice) in steps {
                match step {
                    0 => {
                        replies.push(&Reply::Ack(asked.to_string().as_bytes()));
                        asked += 1;
                    }
                    1 => {
                        replies.wait(asked);
                        open.push(asked);
                        asked += 1;
                    }
                    2 if !open.is_empty() => {
                        let serial = open.swap_remove(usize::from(choice) % open.len());
                        prop_assert!(replies.fill(serial, bytes(&Reply::Ack(serial.to_string().as_bytes()))));
                    }
                    _ => {
                        let part = usize::from(choice) % (replies.chunk().len() + 1);
                        got.extend_from_slice(&replies.chunk()[..part]);
                        replies.consume(part);
                    }
                }
                let first = open.iter().copied().min().unwrap_or(asked);
                prop_assert_eq!(replies.waits(), !open.is_empty());
                let mut all = got.clone();
                all.extend_from_slice(replies.chunk());
                let mut expected = Vec::new();
                (0..first).for_each(|serial| Reply::Ack(serial.to_string().as_bytes()).append_to(&mut expected));
                prop_assert_eq!(all, expected, "all that is known up to the first that is not");
            }
        }
    }
}
