//! The control connections: a slab of [`Backend`]s, their deadlines, those with something to flush, those that are gone.
//!
//! [`Backends`] owns all of it and gives out no `&mut Backend`: the state that a deadline depends on (state, lock,
//! ping, the last sign of life) changes in methods that arm the timer themselves. It never decodes a command (dispatch
//! does) and knows no client. The end of a conversation ends its lock, which concerns clients: that is the hub's side,
//! in `ends`.
//!
//! Invariants: a backend that is not gone is armed, no later than its nearest deadline; one that is marked as queued
//! stands in `flush`; one that is `Gone` and not yet removed stands in `gone`.

mod ends;

use super::Patience;
use crate::clock::{Now, Tick, Wheel};
use crate::config::Timeouts;
use crate::key::{BackendKey, Key};
use crate::peer::backend::{Backend, ControlKey, Due, Lock, Origin, Speech, State};
use crate::peer::exchange::Exchange;
use crate::peer::replies::Replies;
use crate::peer::worker::{Event, Format, Kept, Worker};
use crate::wire::command::{Member, Reply, Telling, object};
use crate::wire::http;
use core::net::IpAddr;
use slab::Slab;
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Index;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Backends {
    all: Slab<Backend>,
    timers: Wheel<BackendKey>,
    flush: VecDeque<BackendKey>,
    gone: Vec<BackendKey>,
    timeouts: Timeouts,
    /// Memory that is kept for all of them.
    held_bytes: usize,
    /// Those that were one too many and are on their way out.
    refused: usize,
    turned_away: TurnedAway,
    /// Tickets given out so far.
    tickets: u64,
    /// Of those that had to wait for clients.
    patience: BTreeMap<BackendKey, Patience>,
}

/// Connections that were one too many since the log last reported them, and when it may report again.
#[derive(Clone, Copy, Debug, Default)]
struct TurnedAway {
    count: u64,
    tell_at_ms: u64,
}

/// Connections over `limits.backends` that are given the time to read why; more at a time are cut off at once.
const REFUSED_MAX: usize = 32;
/// The log reports them no more often than this.
const FULL_PAUSE_MS: u64 = 10_000;
/// The reply to a connection that is cut off at once.
const LAST_WORD: &[u8] = b"0E";

/// Appends an event as a chunk of a response.
fn append_line(out: &mut Vec<u8>, telling: &Telling<'_>) {
    http::append_chunk(out, &telling.line());
}

/// The place of an answer that comes later. A stale one is an ordinary `false`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    backend: BackendKey,
    serial: u64,
}

impl Index<BackendKey> for Backends {
    type Output = Backend;

    #[inline]
    fn index(&self, key: BackendKey) -> &Backend {
        &self.all[key.index()]
    }
}

impl Backends {
    pub(super) fn new(timeouts: &Timeouts) -> Self {
        Self {
            all: Slab::new(),
            patience: BTreeMap::new(),
            timers: Wheel::default(),
            flush: VecDeque::new(),
            gone: Vec::new(),
            timeouts: timeouts.clone(),
            held_bytes: 0,
            refused: 0,
            turned_away: TurnedAway::default(),
            tickets: 0,
        }
    }

    /// Other timeouts and bounds are in force, for those that are here too. One that does not read its replies may have
    /// room for more of them now: the flush finds out.
    pub(super) fn apply(&mut self, timeouts: &Timeouts) {
        self.timeouts = timeouts.clone();
        for key in self.keys() {
            self.rearm(key);
            self.queue(key);
        }
    }

    // Keys and slots.

    /// The key that [`add`](Self::add) will use.
    pub(crate) fn next_key(&self) -> BackendKey {
        BackendKey::at(self.all.vacant_key())
    }

    pub(super) fn add(
        &mut self,
        origin: Origin,
        address: Option<IpAddr>,
        control_key: ControlKey,
        now: Tick,
    ) -> BackendKey {
        let key = BackendKey::at(self.all.insert(Backend::new(origin, address, control_key, now)));
        self.rearm(key);
        key
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Those that count for `limits.backends`: neither refused nor over.
    fn in_use(&self) -> usize {
        let counts = |backend: &Backend| backend.origin != Origin::Refused && backend.state != State::Gone;
        self.iter().filter(|(_, backend)| counts(backend)).count()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn keys(&self) -> Vec<BackendKey> {
        self.iter().map(|(key, _)| key).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (BackendKey, &Backend)> + '_ {
        self.all.iter().map(|(index, backend)| (BackendKey::at(index), backend))
    }

    /// One to be reaped.
    pub(crate) fn next_gone(&mut self) -> Option<BackendKey> {
        self.gone.pop()
    }

    /// Frees the slot of one that [`next_gone`](Self::next_gone) gave.
    pub(crate) fn remove(&mut self, key: BackendKey) {
        self.patience.remove(&key);
        let backend = self.all.remove(key.index());
        debug_assert!(backend.state == State::Gone, "only what is gone is removed");
        self.held_bytes -= backend.counted_bytes;
        self.refused -= usize::from(backend.origin == Origin::Refused);
    }

    // Input.

    /// A sign of life: bytes came.
    pub(crate) fn heard(&mut self, key: BackendKey, bytes: usize, now: Now) {
        if bytes > 0 {
            let backend = self.get(key);
            backend.heard = now.tick();
            // The next ping may be due before the deadline that the wheel waits for.
            if backend.pinged.take().is_some() {
                self.rearm(key);
            }
        }
    }

    /// The peer's side is shut down; its earlier commands are still to be executed.
    pub(crate) fn eof(&mut self, key: BackendKey) {
        self.get(key).eof = true;
        self.queue(key);
    }

    /// Gives out the input that was read and not executed; nothing is left of it.
    pub(crate) fn take_input(&mut self, key: BackendKey) -> Vec<u8> {
        std::mem::take(&mut self.get(key).input)
    }

    /// Keeps the input that is not executed yet, unless the conversation is over.
    pub(crate) fn keep_input(&mut self, key: BackendKey, rest: Vec<u8>) {
        let backend = self.get(key);
        if backend.state == State::Open && !rest.is_empty() {
            backend.input = rest;
        }
    }

    /// Whether whole commands may be left in its input.
    pub(crate) fn set_unfinished(&mut self, key: BackendKey, unfinished: bool) {
        self.get(key).unfinished = unfinished;
    }

    /// The first input was all frames: from now on its bytes need no closer look.
    #[cold]
    pub(crate) fn prove(&mut self, key: BackendKey) {
        self.get(key).origin = Origin::Trusted;
    }

    /// It has shown the key: its bytes are a backend's.
    #[cold]
    pub(super) fn keyed(&mut self, key: BackendKey) {
        let backend = self.get(key);
        backend.control_key = ControlKey::Shown;
        if !backend.speaks_http() {
            backend.origin = Origin::Trusted;
        }
        self.rearm(key);
    }

    /// The one that has been asked for the key longest and has not shown it.
    fn oldest_keyless(&self) -> Option<BackendKey> {
        let since = |backend: &Backend| match (backend.control_key, backend.state) {
            (ControlKey::Awaited { since }, State::Open) => Some(since),
            _ => None,
        };
        let keyless = self.iter().filter_map(|(key, backend)| Some((since(backend)?, key)));
        keyless.min_by_key(|(since, _)| since.ms()).map(|(_, key)| key)
    }

    /// Its first byte has told what it speaks.
    #[cold]
    pub(crate) fn decide(&mut self, key: BackendKey, speech: Speech) {
        self.get(key).speech = speech;
        self.rearm(key);
    }

    /// Takes out the request that arrives, to work with it; it comes back by [`return_exchange`](Self::return_exchange).
    pub(crate) fn take_exchange(&mut self, key: BackendKey) -> Exchange {
        match &mut self.get(key).speech {
            Speech::Http(exchange) => std::mem::take(exchange),
            Speech::Unknown | Speech::Frames => Exchange::default(),
        }
    }

    /// The request goes on arriving, unless the conversation is over.
    pub(crate) fn return_exchange(&mut self, key: BackendKey, back: Exchange) {
        let backend = self.get(key);
        if let (Speech::Http(exchange), State::Open) = (&mut backend.speech, backend.state) {
            **exchange = back;
        }
    }

    /// How long it may wait for clients.
    pub(super) fn patience(&mut self, key: BackendKey) -> &mut Patience {
        self.patience.entry(key).or_default()
    }

    /// The hub lets it wait: its silence does not count.
    pub(super) fn let_wait(&mut self, key: BackendKey, now: Now) {
        let backend = self.get(key);
        (backend.heard, backend.pinged) = (now.tick(), None);
        self.rearm(key);
    }

    // Replies.

    /// The answer to the next command.
    #[inline(always)]
    pub(crate) fn reply(&mut self, key: BackendKey, reply: &Reply<'_>) {
        let backend = self.get(key);
        if backend.hears() {
            backend.replies.push(reply);
        }
        self.queue(key);
    }

    /// The answer to the next request, as the bytes that it is.
    pub(crate) fn respond(&mut self, key: BackendKey, bytes: Vec<u8>) {
        let backend = self.get(key);
        if backend.hears() {
            backend.replies.push_bytes(bytes);
        }
        self.queue(key);
    }

    /// The last bytes of a response that does not end by itself.
    fn end_stream(&mut self, key: BackendKey) {
        if self[key].is_stream() {
            self.get(key).replies.add_event(http::append_last_chunk);
        }
    }

    /// Says something that answers no command in its order: it passes answers that wait.
    pub(crate) fn tell(&mut self, key: BackendKey, reply: &Reply<'_>) {
        let backend = self.get(key);
        if backend.hears() {
            backend.replies.tell(reply);
        }
        self.recount(key);
        self.queue(key);
    }

    /// Keeps the place of the answer to the next command, which comes later, through [`fill`](Self::fill). The caller
    /// that takes a ticket fills it, at the latest when the time that it waits for is over.
    pub(crate) fn wait(&mut self, key: BackendKey) -> Ticket {
        self.tickets += 1;
        let serial = self.tickets;
        self.get(key).replies.wait(serial);
        Ticket { backend: key, serial }
    }

    /// An answer comes late, through [`fill_bytes`](Self::fill_bytes), and passes those to later commands. Until then it
    /// counts as so many bytes that the backend has not read.
    pub(crate) fn expect(&mut self, key: BackendKey, bytes: usize) -> Ticket {
        self.tickets += 1;
        let serial = self.tickets;
        let backend = self.get(key);
        if backend.hears() {
            backend.replies.expect(serial, bytes);
        }
        Ticket { backend: key, serial }
    }

    /// See [`fill_bytes`](Self::fill_bytes).
    #[cfg(test)]
    pub(crate) fn fill(&mut self, ticket: Ticket, reply: &Reply<'_>, now: Now) -> bool {
        let mut bytes = Vec::new();
        reply.append_to(&mut bytes);
        self.fill_bytes(ticket, bytes, now)
    }

    /// The answer that a place was kept for, as the bytes that it is; also one that comes late. False when the backend is
    /// gone, or hears nothing any more.
    pub(crate) fn fill_bytes(&mut self, ticket: Ticket, bytes: Vec<u8>, now: Now) -> bool {
        let Ticket { backend: key, serial } = ticket;
        let Some(backend) = self.all.get_mut(key.index()) else { return false };
        let filled = backend.replies.fill(serial, bytes);
        if filled {
            // The hub let it wait.
            backend.heard = backend.heard.max(now.tick());
            self.recount(key);
            self.rearm(key);
            self.queue(key);
        }
        filled
    }

    /// It may have something to flush, or to end.
    pub(crate) fn queue(&mut self, key: BackendKey) {
        if !std::mem::replace(&mut self.get(key).queued, true) {
            self.flush.push_back(key);
        }
    }

    pub(crate) fn has_flush(&self) -> bool {
        !self.flush.is_empty()
    }

    /// The next one that may have something to flush.
    pub(crate) fn next_flush(&mut self) -> Option<BackendKey> {
        loop {
            let key = self.flush.pop_front()?;
            let Some(backend) = self.all.get_mut(key.index()) else { continue };
            if std::mem::take(&mut backend.queued) && backend.state != State::Gone {
                return Some(key);
            }
        }
    }

    /// The kernel took `sent` bytes of replies. While commands wait for that, or after the last one, it is
    /// the only sign of life there can be; else it is none: the kernel takes our ping from a dead peer too. Whether it is
    /// an open one that has all of them, and no worker.
    pub(crate) fn sent(&mut self, key: BackendKey, sent: usize, now: Now) -> bool {
        let Self { all, held_bytes, .. } = self;
        let backend = &mut all[key.index()];
        backend.replies.consume(sent);
        if let Some(worker) = backend.worker.as_deref_mut().filter(|_| sent > 0) {
            worker.taken = now.tick();
        }
        let is_open = backend.state == State::Open;
        if sent > 0 && (backend.unfinished || !is_open) {
            backend.heard = backend.heard.max(now.tick());
        }
        recount(backend, held_bytes);
        is_open && backend.worker.is_none() && backend.replies.chunk().is_empty()
    }

    /// It reads no more replies.
    fn go_deaf(&mut self, key: BackendKey) {
        self.get(key).go_deaf();
        self.recount(key);
    }

    // Events.

    pub(super) fn set_worker(&mut self, key: BackendKey, worker: Worker) {
        self.get(key).worker = Some(Box::new(worker));
        self.rearm(key);
    }

    pub(super) fn take_worker(&mut self, key: BackendKey) -> Option<Box<Worker>> {
        let worker = self.get(key).worker.take();
        if worker.is_some() {
            self.rearm(key);
        }
        worker
    }

    pub(super) fn worker(&mut self, key: BackendKey) -> Option<&mut Worker> {
        self.get(key).worker.as_deref_mut()
    }

    /// Tells a worker an event. Its number is kept until it is confirmed, if it is to be.
    #[inline]
    pub(super) fn inform(&mut self, key: BackendKey, event: &Event<'_>, again: bool, now: Now) {
        let backend = &mut self.all[key.index()];
        let Some(worker) = backend.worker.as_deref_mut() else { return };
        let is_first = backend.replies.event_bytes() == 0;
        let number = worker.number(again);
        match worker.format {
            Format::Frames => backend.replies.add_event(|out| event.telling.append_frame(out, number)),
            Format::Lines => backend.replies.add_event(|out| append_line(out, &event.telling)),
        }
        if number.is_some() {
            worker.unconfirmed.push(Kept::new(event, true));
        }
        if is_first {
            worker.taken = now.tick();
            self.timers.arm_by(key, now.ms + self.timeouts.worker_ms);
        }
        self.recount(key);
        self.queue(key);
    }

    /// A worker that is full is to do something about it.
    pub(super) fn watch_worker(&mut self, key: BackendKey) {
        self.rearm(key);
    }

    /// How far a worker is behind: bytes that it has not taken, or not confirmed.
    #[inline]
    pub(super) fn behind_bytes(&self, key: BackendKey) -> usize {
        let backend = &self[key];
        let unconfirmed = backend.worker.as_ref().map_or(0, |worker| worker.unconfirmed.bytes());
        backend.replies.event_bytes().max(unconfirmed)
    }

    fn drop_later_events(&mut self, key: BackendKey) {
        self.get(key).replies.drop_later_events();
    }

    /// Tells a worker something that is no event of a client.
    pub(super) fn notify(&mut self, key: BackendKey, format: Format, telling: &Telling<'_>, now: Now) {
        let backend = self.get(key);
        let is_first = backend.replies.event_bytes() == 0;
        backend.replies.add_event(|out| match format {
            Format::Frames => telling.append_frame(out, None),
            Format::Lines => append_line(out, telling),
        });
        if let Some(worker) = backend.worker.as_deref_mut().filter(|_| is_first) {
            worker.taken = now.tick();
        }
        self.recount(key);
        self.rearm(key);
        self.queue(key);
    }

    // Memory.

    /// Counts again the memory that is kept for a backend, after its input or its replies have changed.
    pub(crate) fn recount(&mut self, key: BackendKey) {
        recount(&mut self.all[key.index()], &mut self.held_bytes);
    }

    /// What the stream of a backend keeps has changed. Of one that is gone it counts no more: its socket is dropped.
    pub(super) fn note_stream(&mut self, key: BackendKey, bytes: usize) {
        let backend = &mut self.all[key.index()];
        backend.stream_bytes = if backend.state == State::Gone { 0 } else { bytes };
        recount(backend, &mut self.held_bytes);
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// The backend that most memory is kept for, if any; among those with about as much, the one that was heard
    /// of least lately.
    fn largest(&self) -> Option<BackendKey> {
        let bytes_max = self.iter().map(|(_, backend)| backend.counted_bytes).max()?;
        let large = self.iter().filter(|(_, backend)| backend.counted_bytes > bytes_max / 2);
        large.min_by_key(|(_, backend)| (backend.heard, Reverse(backend.counted_bytes))).map(|(key, _)| key)
    }

    /// Gives up the replies that wait for it.
    fn drop_replies(&mut self, key: BackendKey) {
        self.get(key).replies = Replies::default();
    }

    // State that its deadline depends on.

    pub(super) fn lock(&mut self, key: BackendKey, lock: Lock) {
        self.get(key).lock = Some(lock);
        self.rearm(key);
    }

    pub(super) fn end_lock(&mut self, key: BackendKey) -> Option<Lock> {
        let lock = self.get(key).lock.take();
        self.rearm(key);
        lock
    }

    /// Takes the lock out to work with it. If it does not come back the wheel looks too early, which does no harm.
    pub(super) fn take_lock(&mut self, key: BackendKey) -> Option<Lock> {
        self.get(key).lock.take()
    }

    /// The lock comes back from [`take_lock`](Self::take_lock): the deadline is as it was.
    pub(super) fn return_lock(&mut self, key: BackendKey, lock: Lock) {
        self.get(key).lock = Some(lock);
    }

    /// A silent backend is asked for a sign of life.
    fn ping(&mut self, key: BackendKey, now: Now) {
        self.get(key).pinged = Some(now.tick());
        if self[key].is_stream() {
            let ping = object(&[("event", Some(Member::Text("ping")))]);
            return self.notify(key, Format::Lines, &Telling::Object(&ping), now);
        }
        self.tell(key, &Reply::Ping);
        self.rearm(key);
    }

    /// The queued replies go out, then the connection ends.
    fn finish(&mut self, key: BackendKey) {
        let backend = self.get(key);
        if backend.state == State::Open {
            backend.input = Vec::new();
            backend.state = State::Ending;
            if let Speech::Http(exchange) = &mut backend.speech {
                **exchange = Exchange::default();
            }
        }
        self.recount(key);
        self.queue(key);
        self.rearm(key);
    }

    /// All is out: our side is to be shut down, and theirs is waited for.
    fn linger(&mut self, key: BackendKey, until: Tick) {
        self.get(key).state = State::Lingering { until };
        self.rearm(key);
    }

    fn end(&mut self, key: BackendKey) {
        let backend = self.get(key);
        if backend.state != State::Gone {
            backend.state = State::Gone;
            (backend.input, backend.replies, backend.stream_bytes) = (Vec::new(), Replies::default(), 0);
            self.gone.push(key);
            self.recount(key);
            self.rearm(key);
        }
    }

    // Time.

    /// No deadline is before this moment.
    pub(super) fn next_ms(&self) -> u64 {
        self.timers.next_ms()
    }

    /// A backend whose timer has come up, and the deadline that is due; `None` for that when it was armed too early,
    /// and is armed again.
    pub(super) fn pop_due(&mut self, now_ms: u64) -> Option<(BackendKey, Option<Due>)> {
        let key = self.timers.pop(now_ms)?;
        match self[key].next_due(&self.timeouts) {
            Some((deadline_ms, due)) if deadline_ms <= now_ms => Some((key, Some(due))),
            _ => {
                self.rearm(key);
                Some((key, None))
            }
        }
    }

    fn rearm(&mut self, key: BackendKey) {
        match self[key].next_due(&self.timeouts) {
            Some((deadline_ms, _)) => self.timers.arm(key, deadline_ms),
            None => self.timers.cancel(key),
        }
    }

    #[inline]
    fn get(&mut self, key: BackendKey) -> &mut Backend {
        &mut self.all[key.index()]
    }

    // For the audit.

    pub(super) fn armed_ms(&self, key: BackendKey) -> Option<u64> {
        self.timers.armed_ms(key)
    }

    pub(super) fn stands_in_flush(&self, key: BackendKey) -> bool {
        self.flush.contains(&key)
    }
}

#[inline]
fn recount(backend: &mut Backend, all_held_bytes: &mut usize) {
    let held_bytes = backend.held_bytes();
    *all_held_bytes = *all_held_bytes + held_bytes - backend.counted_bytes;
    backend.counted_bytes = held_bytes;
}
