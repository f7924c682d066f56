//! Events for workers: which of them is told what a client does and says.
//!
//! Workers of one pool share its events: each goes to one of them, chosen by the client (or the user) that it is about, so
//! that all events of one client go to the same worker, in order. Every pool that wants a kind gets all events of that kind. A pool
//! without a worker keeps what happens for the worker that comes next, for a while.
//!
//! It never closes a backend while an event is told: one that is too far behind is noted, and ends before the flush.
//! Invariants: a pool has a worker or is [`Alone`]; a worker sits in the pool that it names; `full` counts the workers
//! and the pools alone that take no more; `wanted` is what the pools want.
//! design: docs/events.md.
//!
//! | file | holds |
//! |---|---|
//! | `mod` | pools; who comes and goes; telling |
//! | `occasions` | what is told when |
//! | `pause` | clients that are not read meanwhile; deadlines |
//! | `audit` | everything recounted |

mod audit;
mod occasions;
mod pause;
#[cfg(test)]
mod tests;

use super::Hub;
use crate::key::{BackendKey, ClientKey};
use crate::peer::worker::{Event, Format, Kept, Queue, Worker};
use crate::wire::command::{self, EventKind, Kinds, Member, Subscription, Telling, object};
use log::{info, warn};
pub(crate) use pause::Shelf;
use std::collections::VecDeque;
use std::hash::RandomState;

/// Pools that there may be: a site has a handful, and each event is shown to all of them.
const POOLS_MAX: usize = 64;

/// How a worker leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parting {
    /// It said so: its pool ends with its last worker.
    Quit,
    /// Its connection ended: another one may come for it.
    Lost,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Events {
    pools: Vec<Pool>,
    wanted: Kinds,
    full: usize,
    /// Clients that may be read again, in order.
    released: VecDeque<ClientKey>,
    /// Workers that are too far behind.
    ended: Vec<BackendKey>,
    /// A worker has made backends together keep too much, perhaps.
    swollen: Option<BackendKey>,
    /// No pool has waited for a worker for long enough before this moment.
    due_ms: u64,
    /// Pools and workers so far.
    count: u32,
    hasher: RandomState,
    /// Scratch for the first fields of a message.
    head: Vec<u8>,
}

#[derive(Debug)]
struct Pool {
    number: u32,
    /// None when clients have spoken and no backend ever wanted to hear it.
    name: Option<String>,
    seats: Vec<Seat>,
    /// The kinds of all its workers; of those that it had last, when it has none.
    kinds: Kinds,
    /// Its last worker confirmed what it had done.
    ack: bool,
    alone: Option<Alone>,
}

/// When an event happened that is told now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    Now,
    /// It was kept; whether another worker was told of it.
    Before {
        again: bool,
    },
}

/// A worker in its pool.
#[derive(Clone, Copy, Debug)]
struct Seat {
    backend: BackendKey,
    kinds: Kinds,
    seed: u64,
}

/// The state of a pool that has no worker.
#[derive(Debug, Default)]
struct Alone {
    since_ms: u64,
    /// Clients do not wait any more.
    over: bool,
    kept: Queue,
    full: bool,
    waiting: VecDeque<ClientKey>,
}

/// Spreads the bits of a number over all of it (the finalizer of MurmurHash3).
#[inline]
fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let number = (number ^ number >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    number ^ number >> 33
}

impl Pool {
    /// The worker for this client or user: the one that the two together give the highest number. So when one comes or
    /// goes, nothing else moves.
    #[inline]
    fn choose(&self, whose: u64, kind: EventKind) -> Option<BackendKey> {
        let able = self.seats.iter().filter(|seat| seat.kinds.has(kind));
        able.max_by_key(|seat| mix(seat.seed ^ whose)).map(|seat| seat.backend)
    }

    fn title(&self) -> &str {
        self.name.as_deref().unwrap_or("-")
    }
}

impl Events {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self {
            pools: Vec::new(),
            wanted: Kinds::NONE,
            full: 0,
            released: VecDeque::new(),
            ended: Vec::new(),
            swollen: None,
            due_ms: u64::MAX,
            count: 0,
            hasher,
            head: Vec::new(),
        }
    }

    /// Whether a pool wants to be told of one of these.
    #[inline]
    fn wants(&self, kind: EventKind, or: EventKind) -> bool {
        self.wanted.has(kind) || self.wanted.has(or)
    }

    /// Pools that there are.
    pub(super) fn pools(&self) -> usize {
        self.pools.len()
    }

    fn named(&self, name: &str) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.name.as_deref() == Some(name))
    }

    fn position(&self, number: u32) -> Option<usize> {
        self.pools.iter().position(|pool| pool.number == number)
    }

    /// The place of a pool. The one that waited for any worker becomes the first that wants messages.
    fn enter(&mut self, name: &str, kinds: Kinds) -> usize {
        if let Some(at) = self.pools.iter().position(|pool| pool.name.as_deref() == Some(name)) {
            return at;
        }
        let nameless = self.pools.iter().position(|pool| pool.name.is_none());
        if let Some(at) = nameless.filter(|_| kinds.has(EventKind::Message)) {
            self.pools[at].name = Some(name.to_owned());
            return at;
        }
        self.add(Some(name.to_owned()), kinds, 0)
    }

    /// A pool that has no worker yet.
    fn add(&mut self, name: Option<String>, kinds: Kinds, now_ms: u64) -> usize {
        self.count += 1;
        let alone = Alone { since_ms: now_ms, ..Alone::default() };
        let (number, seats) = (self.count, Vec::new());
        self.pools.push(Pool { number, name, seats, kinds, ack: false, alone: Some(alone) });
        self.pools.len() - 1
    }

    /// Pools, or their workers, have changed.
    fn refresh(&mut self, no_worker_ms: u64) {
        for pool in self.pools.iter_mut().filter(|pool| pool.alone.is_none()) {
            pool.kinds = pool.seats.iter().fold(Kinds::NONE, |kinds, seat| kinds.or(seat.kinds));
        }
        self.wanted = self.pools.iter().fold(Kinds::NONE, |kinds, pool| kinds.or(pool.kinds));
        let alone = self.pools.iter().filter_map(|pool| pool.alone.as_ref()).filter(|alone| !alone.over);
        self.due_ms = alone.map(|alone| alone.since_ms + no_worker_ms).min().unwrap_or(u64::MAX);
    }
}

impl Hub {
    /// A backend becomes a worker; if it is one already, it is another one from now on.
    pub(crate) fn subscribe(
        &mut self,
        key: BackendKey,
        wish: &Subscription<'_>,
        format: Format,
    ) -> Result<(), command::Error> {
        if !self.may_subscribe(wish.pool) {
            return Err(command::Error::TooManyPools);
        }
        let own = self.events.named(wish.pool).map(|pool| pool.number);
        let before = self.backends.worker(key).map(|worker| (worker.pool, worker.told));
        let parting = if before.map(|(pool, _)| pool) == own { Parting::Lost } else { Parting::Quit };
        self.unsubscribe(key, parting);
        let at = self.events.enter(wish.pool, wish.kinds);
        self.events.count += 1;
        let seed = mix(self.events.count.into());
        let Subscription { kinds, ack, watch, .. } = *wish;
        let pool = &mut self.events.pools[at];
        pool.ack = ack;
        pool.seats.push(Seat { backend: key, kinds, seed });
        let worker = Worker {
            pool: pool.number,
            kinds,
            format,
            watch,
            ack,
            told: before.map_or(0, |(_, told)| told),
            unconfirmed: Queue::default(),
            full: false,
            excess: 0,
            taken: self.now.tick(),
            waiting: VecDeque::new(),
        };
        self.backends.set_worker(key, worker);
        let names: Vec<&str> = kinds.iter().map(EventKind::name).collect();
        let subscribed = object(&[
            ("event", Some(Member::Text("subscribed"))),
            ("pool", Some(Member::Text(wish.pool))),
            ("kinds", Some(Member::List(&names))),
        ]);
        self.backends.notify(key, format, &Telling::Object(&subscribed), self.now);
        info!("worker_subscribed pool={} kinds={}", wish.pool, names.join(","));
        self.welcome(at);
        Ok(())
    }

    /// Whether a pool is there, or there is room for it.
    pub(crate) fn may_subscribe(&self, pool: &str) -> bool {
        self.events.pools.len() < POOLS_MAX || self.events.named(pool).is_some()
    }

    /// A pool has one worker more: it takes over what was kept, and clients may be its that were others'.
    fn welcome(&mut self, at: usize) {
        let number = self.events.pools[at].number;
        let alone = self.events.pools[at].alone.take();
        let nameless = self.events.pools.iter().position(|pool| pool.name.is_none());
        let wants_messages =
            self.events.pools[at].seats.iter().any(|seat| seat.kinds.has(EventKind::Message));
        let nameless = nameless.filter(|_| wants_messages).and_then(|at| self.events.pools.remove(at).alone);
        let seats = self.events.position(number).map_or(Vec::new(), |at| self.events.pools[at].seats.clone());
        for seat in &seats {
            if let Some(worker) = self.backends.worker(seat.backend) {
                self.events.released.append(&mut worker.waiting);
            }
        }
        self.events.refresh(self.rules.timeouts.no_worker_ms);
        for mut alone in alone.into_iter().chain(nameless) {
            self.events.full -= usize::from(alone.full);
            self.events.released.append(&mut alone.waiting);
            self.share_out(number, alone.kept);
        }
    }

    /// A worker leaves, if it is one. What it has not confirmed is told to others.
    pub(crate) fn unsubscribe(&mut self, key: BackendKey, parting: Parting) {
        let Some(mut worker) = self.backends.take_worker(key) else { return };
        self.events.full -= usize::from(worker.full);
        self.events.released.append(&mut worker.waiting);
        let at = self.events.position(worker.pool).expect("a worker sits in a pool");
        let pool = &mut self.events.pools[at];
        pool.seats.retain(|seat| seat.backend != key);
        let is_last = pool.seats.is_empty();
        info!("worker_left pool={} unconfirmed={}", pool.title(), worker.unconfirmed.len());
        if is_last && (worker.watch || parting == Parting::Quit) {
            let pool = self.events.pools.remove(at);
            if worker.unconfirmed.len() > 0 {
                warn!("events_lost pool={} events={}", pool.title(), worker.unconfirmed.len());
            }
        } else if is_last {
            pool.alone = Some(Alone { since_ms: self.now.ms, ..Alone::default() });
        }
        self.events.refresh(self.rules.timeouts.no_worker_ms);
        self.share_out(worker.pool, worker.unconfirmed);
    }

    /// Tells the workers of a pool what was kept, or keeps it.
    fn share_out(&mut self, pool: u32, mut kept: Queue) {
        let Some(at) = self.events.position(pool) else { return };
        let mut lost = 0;
        while let Some(kept) = kept.pop() {
            let event = kept.event();
            match self.events.pools[at].choose(event.whose, event.kind) {
                Some(worker) => self.inform(worker, &event, Since::Before { again: kept.again }),
                None if self.events.pools[at].alone.is_some() => drop(self.keep(at, kept)),
                None => lost += 1, // its workers do not want this kind any more
            }
        }
        if lost > 0 {
            warn!("events_lost pool={} events={lost}", self.events.pools[at].title());
        }
    }

    /// Tells one worker of a pool that wants it. False when there is none and none is waited for.
    #[inline]
    fn tell_pool(&mut self, at: usize, event: &Event<'_>) -> bool {
        let pool = &self.events.pools[at];
        if !pool.kinds.has(event.kind) {
            return true;
        }
        match pool.choose(event.whose, event.kind) {
            Some(worker) => {
                self.inform(worker, event, Since::Now);
                true
            }
            None => self.keep(at, Kept::new(event, false)),
        }
    }

    #[inline]
    fn inform(&mut self, key: BackendKey, event: &Event<'_>, since: Since) {
        let again = since == Since::Before { again: true };
        self.backends.inform(key, event, again, self.now);
        self.stats.tell(event.kind.index());
        if self.backends.behind_bytes(key) >= self.rules.limits.control_outbox_bytes {
            match since {
                Since::Now => self.worker_is_behind(key, event),
                // What others have left to it is no reason to end it, too.
                Since::Before { .. } => self.worker_is_full(key),
            }
        }
    }

    /// Keeps an event for a pool without a worker. False when none is waited for.
    #[inline(never)]
    fn keep(&mut self, at: usize, kept: Kept) -> bool {
        let limit = self.rules.limits.control_outbox_bytes;
        let pool = &mut self.events.pools[at];
        let alone = pool.alone.as_mut().expect("the pool has no worker");
        let is_said = kept.speaker().is_some();
        // A message that was told before is kept in any case: that is what it is to be confirmed for.
        if alone.over && !kept.again && (is_said || !pool.ack) {
            return false;
        }
        if !is_said && !kept.again && alone.kept.bytes() >= 2 * limit {
            return true; // a mass disconnect, and no worker to tell
        }
        alone.kept.push(kept);
        if !alone.full && !alone.over && alone.kept.bytes() >= limit {
            alone.full = true;
            self.events.full += 1;
        }
        true
    }

    // Workers that are behind.

    fn worker_is_full(&mut self, key: BackendKey) {
        let Some(worker) = self.backends.worker(key) else { return };
        if !worker.full {
            (worker.full, worker.excess) = (true, 0);
            self.events.full += 1;
            self.backends.watch_worker(key);
        }
        if self.backends.held_bytes() > self.rules.limits.backends_bytes_max() {
            self.events.swollen = Some(key);
        }
    }

    #[inline(never)]
    fn worker_is_behind(&mut self, key: BackendKey, event: &Event<'_>) {
        self.worker_is_full(key);
        let Some(worker) = self.backends.worker(key) else { return };
        if event.kind != EventKind::Message {
            worker.excess += event.telling.len();
        }
        let is_over = worker.watch || worker.excess > self.rules.limits.control_outbox_bytes;
        if is_over && !self.events.ended.contains(&key) {
            self.events.ended.push(key);
        }
    }

    /// The kernel took events, or the worker has confirmed some: clients may be read again.
    pub(crate) fn worker_took(&mut self, key: BackendKey) {
        let limit = self.rules.limits.control_outbox_bytes;
        let is_behind = self.backends.behind_bytes(key) > limit / 2;
        let Some(worker) = self.backends.worker(key).filter(|worker| worker.full && !is_behind) else {
            return;
        };
        (worker.full, worker.excess) = (false, 0);
        self.events.released.append(&mut worker.waiting);
        self.events.full -= 1;
    }

    /// Events up to this one are done.
    pub(crate) fn confirm(&mut self, key: BackendKey, n: u64) -> Result<(), command::Error> {
        let now = self.now.tick();
        if !self.backends.worker(key).is_some_and(|worker| worker.confirm(n, now)) {
            return Err(command::Error::NeverTold);
        }
        self.worker_took(key);
        Ok(())
    }

    /// Ends the workers that are too far behind.
    #[inline]
    pub(crate) fn tend_workers(&mut self) {
        if !self.events.ended.is_empty() || self.events.swollen.is_some() {
            self.end_those_behind();
        }
    }

    #[inline(never)]
    fn end_those_behind(&mut self) {
        for key in std::mem::take(&mut self.events.ended) {
            if self.backends.worker(key).is_some() {
                self.fail_backend(key, command::Error::Behind);
            }
        }
        if let Some(key) = self.events.swollen.take() {
            self.bound_backends(key);
        }
    }

    /// It has taken none of its events for too long.
    pub(super) fn worker_is_stuck(&mut self, key: BackendKey) {
        warn!("backend_closed reason=takes_no_events");
        self.end_backend(key);
    }

    /// Other timeouts are in force.
    pub(super) fn apply_to_events(&mut self) {
        self.events.refresh(self.rules.timeouts.no_worker_ms);
    }
}
