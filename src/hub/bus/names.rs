//! The names that other nodes reach this one by: a channel for each token, user and group with a connection here.
//!
//! A name is judged by its presence in the roster and by nothing else: whoever changes that says so, and at the end of
//! the turn the name is subscribed or left, however often it came and went before. It never touches a client. Invariant: a
//! name is subscribed once, and left only after that was confirmed, so that a confirmation is always the newest.

use super::Instance;
use crate::peer::client::ClientId;
use crate::peer::node::Link;
use crate::wire::envelope;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::RandomState;
use std::sync::Arc;

/// Names in one command, and how many are subscribed in a second: so that an instance that comes back, or a start with
/// many connections, does not keep it from its messages.
const BATCH: usize = 512;
const BATCHES_PER_MS: u64 = 50;
/// As many may be subscribed at once after a pause.
const BURST: u64 = 5_000;
/// A connection that has this much to take gets no more names before it has.
const WAITING_BYTES_MAX: usize = 256 * 1024;
/// When those that are left are looked at again.
const AGAIN_MS: u64 = 10;
/// How long a connection waits until it can be reached.
pub(super) const REACHABLE_MS: u64 = 250;

pub(super) type Name = Arc<[u8]>;

/// What waits for names to be confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Waiter {
    /// The 101 of a connection.
    Client(ClientId),
    /// An answer.
    Answer(u64),
}

/// How a name stands to its instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is to be subscribed.
    Todo,
    /// It is not confirmed.
    Sent,
    Held,
}

#[derive(Debug)]
struct Sub {
    instance: usize,
    stage: Stage,
    /// Those that wait for it.
    waiters: Vec<Waiter>,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Names {
    all: HashMap<Name, Sub, RandomState>,
    /// Those whose presence may have changed in this turn.
    touched: Vec<Box<[u8]>>,
    /// Names to be subscribed, and to be left, of each instance.
    todo: Vec<VecDeque<Name>>,
    left: Vec<VecDeque<Name>>,
    /// How many names each waiter still waits for, and until when; the oldest first.
    waiting: HashMap<Waiter, usize, RandomState>,
    deadlines: VecDeque<(u64, Waiter)>,
    /// The instances that are told of names; those that are not get all of them when they come.
    begun: Vec<bool>,
    /// Something is new in `todo` or `left`.
    is_fresh: bool,
    allowed: u64,
    allowed_at_ms: u64,
    again_ms: u64,
}

/// Whether a connection can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reachable {
    /// By all its names.
    Yes,
    /// When they are confirmed.
    Soon,
    /// Not as long as an instance is away.
    No,
}

impl Names {
    pub(super) fn new(instances: usize, hasher: RandomState) -> Self {
        Self {
            all: HashMap::with_hasher(hasher.clone()),
            touched: Vec::new(),
            todo: vec![VecDeque::new(); instances],
            left: vec![VecDeque::new(); instances],
            waiting: HashMap::with_hasher(hasher),
            deadlines: VecDeque::new(),
            begun: vec![false; instances],
            is_fresh: false,
            allowed: BURST,
            allowed_at_ms: 0,
            again_ms: u64::MAX,
        }
    }

    /// Names that are subscribed, or are to be.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The presence of a name may have changed.
    pub(super) fn touch(&mut self, kind: &[u8], name: &[u8]) {
        self.touched.push([kind, name].concat().into());
    }

    /// Whether something is to be done before the turn ends.
    pub(super) fn has_work(&self) -> bool {
        !self.touched.is_empty() || self.is_fresh
    }

    pub(super) fn take_touched(&mut self) -> Vec<Box<[u8]>> {
        std::mem::take(&mut self.touched)
    }

    /// A name is here, or is not any more.
    pub(super) fn want(&mut self, name: &[u8], is_here: bool) {
        match (self.all.get_mut(name), is_here) {
            (Some(sub), false) => match sub.stage {
                Stage::Todo => drop(self.all.remove(name)),
                Stage::Sent => {} // its confirmation looks again
                Stage::Held => {
                    let (name, sub) = self.all.remove_entry(name).expect("it was found");
                    self.left[sub.instance].push_back(name);
                    self.is_fresh = true;
                }
            },
            (None, true) => {
                let instance = envelope::place(name, self.todo.len());
                let name: Name = name.into();
                if self.begun[instance] {
                    self.todo[instance].push_back(name.clone());
                    self.is_fresh = true;
                }
                self.all.insert(name, Sub { instance, stage: Stage::Todo, waiters: Vec::new() });
            }
            _ => {}
        }
    }

    /// A connection with these names is new, or some have joined them: lets it wait for those that are not confirmed.
    pub(super) fn await_all(&mut self, id: Waiter, names: &[Box<[u8]>], now_ms: u64) -> Reachable {
        let (mut missing, mut is_away) = (0, false);
        for name in names {
            self.want(name, true);
            let sub = self.all.get_mut(name.as_ref()).expect("it is wanted");
            if !self.begun[sub.instance] {
                is_away = true;
            } else if sub.stage != Stage::Held {
                sub.waiters.push(id);
                missing += 1;
            }
        }
        if missing > 0 {
            self.waiting.insert(id, missing);
            self.deadlines.push_back((now_ms + REACHABLE_MS, id));
        }
        match (is_away, missing) {
            (true, 0) => Reachable::No,
            (true, _) => Reachable::Soon, // by the others
            (false, 0) => Reachable::Yes,
            (false, _) => Reachable::Soon,
        }
    }

    /// A name is confirmed. `free` are the connections that wait for nothing any more.
    pub(super) fn confirm(&mut self, name: &[u8], free: &mut Vec<Waiter>) {
        let Some(sub) = self.all.get_mut(name) else { return };
        sub.stage = Stage::Held;
        for id in std::mem::take(&mut sub.waiters) {
            let Some(missing) = self.waiting.get_mut(&id) else { continue };
            *missing -= 1;
            if *missing == 0 {
                self.waiting.remove(&id);
                free.push(id);
            }
        }
        self.touched.push(name.into()); // it may have gone meanwhile
    }

    /// The connections that have waited long enough.
    pub(super) fn late(&mut self, now_ms: u64, late: &mut Vec<Waiter>) {
        while let Some((_, id)) = self
            .deadlines
            .front()
            .filter(|(until_ms, id)| *until_ms <= now_ms || !self.waiting.contains_key(id))
        {
            if self.waiting.remove(id).is_some() {
                late.push(*id);
            }
            self.deadlines.pop_front();
        }
    }

    /// An instance is away. Gives out the connections that wait for it, with all others that wait.
    pub(super) fn end(&mut self, instance: usize, late: &mut Vec<Waiter>) {
        self.begun[instance] = false;
        self.left[instance].clear();
        self.todo[instance].clear();
        late.extend(self.waiting.drain().map(|(id, _)| id));
        self.deadlines.clear();
        self.all.values_mut().for_each(|sub| sub.waiters.clear());
    }

    /// An instance is there (again): it knows none of the names.
    pub(super) fn begin(&mut self, instance: usize) {
        self.begun[instance] = true;
        self.is_fresh = true;
        for (name, sub) in self.all.iter_mut().filter(|(_, sub)| sub.instance == instance) {
            sub.stage = Stage::Todo;
            self.todo[instance].push_back(name.clone());
        }
    }

    /// Hands the instances the names that they are to know, as many as may be now. `flush` are those that got some.
    pub(super) fn send(&mut self, prefix: &[u8], links: &mut [Link], now_ms: u64, flush: &mut Vec<usize>) {
        let earned = (now_ms - self.allowed_at_ms).saturating_mul(BATCHES_PER_MS);
        (self.allowed, self.allowed_at_ms) = ((self.allowed + earned).min(BURST), now_ms);
        (self.again_ms, self.is_fresh) = (u64::MAX, false);
        for instance in 0..self.todo.len() {
            let link = &mut links[Instance::sub(instance)];
            if !self.begun[instance] {
                continue;
            }
            let channel = |name: &Name| [prefix, name.as_ref()].concat();
            while !self.left[instance].is_empty() && link.waiting_bytes() < WAITING_BYTES_MAX {
                let batch = self.left[instance].len().min(BATCH);
                let channels: Vec<Vec<u8>> =
                    self.left[instance].drain(..batch).map(|name| channel(&name)).collect();
                link.unsubscribe(channels.iter().map(Vec::as_slice));
                flush.push(instance);
            }
            while !self.todo[instance].is_empty()
                && self.allowed > 0
                && link.waiting_bytes() < WAITING_BYTES_MAX
            {
                let batch = self.todo[instance].len().min(BATCH).min(self.allowed as usize);
                let mut channels = Vec::with_capacity(batch);
                for name in self.todo[instance].drain(..batch) {
                    // It may have gone, or come a second time, since it was put here.
                    let Some(sub) = self.all.get_mut(&name).filter(|sub| sub.stage == Stage::Todo) else {
                        continue;
                    };
                    sub.stage = Stage::Sent;
                    channels.push(channel(&name));
                }
                if channels.is_empty() {
                    continue;
                }
                self.allowed -= channels.len() as u64;
                link.subscribe(channels.iter().map(Vec::as_slice));
                flush.push(instance);
            }
            if !self.todo[instance].is_empty() || !self.left[instance].is_empty() {
                self.again_ms = now_ms + AGAIN_MS;
            }
        }
    }

    /// When it is to be looked at again.
    pub(super) fn next_ms(&self) -> u64 {
        self.deadlines.front().map_or(u64::MAX, |(until_ms, _)| *until_ms).min(self.again_ms)
    }

    /// Whether names are to be sent now.
    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        self.again_ms <= now_ms
    }

    // For the audit.

    /// The names that are subscribed, or are to be, and whether they have to be here: one that is not confirmed may have gone.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], bool)> {
        self.all.iter().map(|(name, sub)| (name.as_ref(), sub.stage != Stage::Sent))
    }

    pub(super) fn has(&self, name: &[u8]) -> bool {
        self.all.contains_key(name)
    }

    /// The connections that wait.
    pub(super) fn waiting(&self) -> HashSet<Waiter> {
        self.waiting.keys().copied().collect()
    }
}
