//! The time of a turn, and deadlines of peers: a hashed timing wheel over keys.
//!
//! One entry a peer. A peer has several deadlines (idle, pong, stalled, expiry); the wheel holds the
//! nearest one, and the caller that pops a key asks the peer for the deadline really due and arms it again. So nothing
//! is touched when a byte arrives or leaves: activity only moves a stamp in the peer's record, and the wheel
//! is corrected when the old deadline comes up. A FIFO list per class would have to be re-linked on each
//! message; a heap would cost O(log n).
//!
//! It never reads a clock. Invariant: an armed key is in exactly one list, and `occupied` has the bit of
//! a slot if and only if its list is not empty.

use crate::key::Key;
use core::marker::PhantomData;
use core::num::NonZeroU32;

/// The time of a turn: taken once, passed down everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic milliseconds since the server began. All timers use it.
    pub ms: u64,
    /// Wall clock, seconds since 1970. Logins and revocations use it; no timer does.
    pub unix_s: i64,
}

impl Now {
    /// This moment as a stamp.
    pub fn tick(self) -> Tick {
        Tick::at(self.ms)
    }
}

/// Length of one tick. Every timeout of wsson is a matter of seconds, so a 16th of one is exact enough.
pub const TICK_MS: u64 = 64;
/// Slots of the wheel. One revolution is 32.8 s: longer than the default timeouts, so that an entry is
/// seen once, when it is due.
const SLOTS: usize = 512;
const NIL: u32 = u32::MAX;

/// A moment in four bytes, counted in [`TICK_MS`] and rounded up; an `Option` of it takes no more. Lasts 8.7 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(NonZeroU32);

/// How long a process can run. At the end all deadlines have come, and all connections are closed as silent.
const LASTS_YEARS: u64 = UNARMED as u64 * TICK_MS / (1000 * 60 * 60 * 24 * 365);
const _: () = assert!(LASTS_YEARS == 8, "the manual says so");

impl Tick {
    /// The beginning.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The tick behind it.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The first tick that is not before `ms`.
    pub fn at(ms: u64) -> Self {
        Self(NonZeroU32::MIN.saturating_add(count_at(ms)))
    }

    /// The moment in milliseconds.
    pub fn ms(self) -> u64 {
        u64::from(self.0.get() - 1) * TICK_MS
    }
}

/// Ticks from the beginning to `ms`. The last two values are left for "not armed" and for the shift of [`Tick`].
fn count_at(ms: u64) -> u32 {
    ms.div_ceil(TICK_MS).min(u64::from(UNARMED - 2)) as u32
}

fn ms_of(tick: u32) -> u64 {
    u64::from(tick) * TICK_MS
}

fn slot_of(tick: u32) -> usize {
    tick as usize % SLOTS
}

/// The tick of a key that is not armed.
const UNARMED: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    prev: u32,
    next: u32,
    tick: u32,
}

const UNLINKED: Link = Link { prev: NIL, next: NIL, tick: UNARMED };

/// The wheel. Arm, cancel and pop are O(1) in the number of armed keys.
#[derive(Debug)]
pub(crate) struct Wheel<K> {
    heads: Box<[u32; SLOTS]>,
    occupied: [u64; SLOTS / 64],
    /// First tick whose slot was not emptied yet.
    cursor: u32,
    /// The list of the slot under the cursor, taken out while it is being popped.
    due: u32,
    /// No armed key is due before this moment; `u64::MAX` when nothing is armed. Both questions of a turn,
    /// which deadlines are due and how long to sleep, are answered by it without a look at the wheel.
    soonest_ms: u64,
    links: Vec<Link>,
    keys: PhantomData<K>,
}

impl<K> Default for Wheel<K> {
    fn default() -> Self {
        Self {
            heads: Box::new([NIL; SLOTS]),
            occupied: [0; SLOTS / 64],
            cursor: 0,
            due: NIL,
            soonest_ms: u64::MAX,
            links: Vec::new(),
            keys: PhantomData,
        }
    }
}

impl<K: Key> Wheel<K> {
    /// Sets the deadline of `key`, replacing the one it had.
    pub(crate) fn arm(&mut self, key: K, deadline_ms: u64) {
        let tick = count_at(deadline_ms).max(self.cursor);
        if self.tick_of(key.index()) != tick {
            self.unlink(key.index());
            self.insert(key.index(), tick);
        }
    }

    /// Makes sure that `key` comes up no later than `deadline_ms`.
    pub(crate) fn arm_by(&mut self, key: K, deadline_ms: u64) {
        if count_at(deadline_ms) < self.tick_of(key.index()) {
            self.arm(key, deadline_ms);
        }
    }

    /// Forgets the deadline of `key`, if it has one.
    pub(crate) fn cancel(&mut self, key: K) {
        self.unlink(key.index());
    }

    fn unlink(&mut self, key: usize) {
        let tick = self.tick_of(key);
        if tick == UNARMED {
            return;
        }
        let Link { prev, next, .. } = self.links[key];
        if prev != NIL {
            self.links[prev as usize].next = next;
        } else if self.due as usize == key {
            self.due = next;
        } else {
            self.set_head(slot_of(tick), next);
        }
        if next != NIL {
            self.links[next as usize].prev = prev;
        }
        self.links[key] = UNLINKED;
    }

    /// Gives back the memory of the keys from `keys` on, of which none is armed.
    pub(crate) fn shrink(&mut self, keys: usize) {
        let behind = self.links.get(keys..).unwrap_or_default();
        debug_assert!(behind.iter().all(|link| link.tick == UNARMED), "an armed key is in use");
        self.links.truncate(keys);
        self.links.shrink_to_fit();
    }

    /// Takes out one key whose deadline has come, in no particular order among those.
    #[inline]
    pub(crate) fn pop(&mut self, now_ms: u64) -> Option<K> {
        if now_ms < self.soonest_ms { None } else { self.pop_due(now_ms) }
    }

    /// The moment to look again: no armed key is due before it. `u64::MAX` while nothing is armed. It may
    /// be too early, by a key that was cancelled, never too late.
    #[inline]
    pub(crate) fn next_ms(&self) -> u64 {
        self.soonest_ms
    }

    fn pop_due(&mut self, now_ms: u64) -> Option<K> {
        let now = (now_ms / TICK_MS).min(u64::from(UNARMED - 1)) as u32;
        loop {
            while self.due != NIL {
                let key = self.due as usize;
                let tick = self.tick_of(key);
                self.unlink(key);
                if tick <= now {
                    return Some(K::at(key));
                }
                self.insert(key, tick); // a later revolution
            }
            if self.cursor > now {
                self.soonest_ms = self.next_occupied_ms().unwrap_or(u64::MAX);
                return None;
            }
            self.advance(now);
        }
    }

    /// The moment of the first slot that is not empty, `due` being empty.
    fn next_occupied_ms(&self) -> Option<u64> {
        let here = slot_of(self.cursor);
        let ahead = (0..=SLOTS / 64).find_map(|step| {
            let word = (here / 64 + step) % (SLOTS / 64);
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= !0 << (here % 64);
            }
            let slot = word * 64 + bits.trailing_zeros() as usize;
            (bits != 0).then(|| (slot + SLOTS - here) % SLOTS)
        });
        ahead.map(|slots| ms_of(self.cursor) + slots as u64 * TICK_MS)
    }

    /// When `key` comes up, for the audit; `None` when it is not armed.
    pub(crate) fn armed_ms(&self, key: K) -> Option<u64> {
        Some(self.tick_of(key.index())).filter(|tick| *tick != UNARMED).map(ms_of)
    }

    /// Takes the next slot's list out to be popped. After a long sleep each slot is seen once, not once
    /// for every revolution that was missed.
    fn advance(&mut self, now: u32) {
        let oldest = now.saturating_sub(SLOTS as u32 - 1);
        self.cursor = self.cursor.max(oldest);
        let slot = slot_of(self.cursor);
        self.due = self.heads[slot];
        self.set_head(slot, NIL);
        self.cursor += 1;
    }

    fn tick_of(&self, key: usize) -> u32 {
        self.links.get(key).map_or(UNARMED, |link| link.tick)
    }

    fn insert(&mut self, key: usize, tick: u32) {
        if self.links.len() <= key {
            self.links.resize(key + 1, UNLINKED);
        }
        let next = self.heads[slot_of(tick)];
        if next != NIL {
            self.links[next as usize].prev = key as u32;
        }
        self.links[key] = Link { prev: NIL, next, tick };
        self.set_head(slot_of(tick), key as u32);
        self.soonest_ms = self.soonest_ms.min(ms_of(tick));
    }

    fn set_head(&mut self, slot: usize, key: u32) {
        self.heads[slot] = key;
        let bit = 1 << (slot % 64);
        if key == NIL {
            self.occupied[slot / 64] &= !bit;
        } else {
            self.occupied[slot / 64] |= bit;
        }
    }
}

// The links are the wheel's whole cost per peer.
const _: () = assert!(size_of::<Link>() == 12);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::ClientKey;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Timers = Wheel<ClientKey>;

    fn key(index: usize) -> ClientKey {
        ClientKey::at(index)
    }

    fn popped(timers: &mut Timers, now_ms: u64) -> Vec<usize> {
        let mut keys: Vec<usize> = std::iter::from_fn(|| timers.pop(now_ms)).map(Key::index).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn fires_within_one_tick_and_never_early() {
        let mut timers = Timers::default();
        timers.arm(key(3), 1000);
        assert_eq!(timers.pop(999), None);
        assert_eq!(timers.pop(1000 + TICK_MS), Some(key(3)));
        assert_eq!((timers.pop(1000 + TICK_MS), timers.next_ms()), (None, u64::MAX));
    }

    #[test]
    fn survives_a_long_sleep_and_later_revolutions() {
        let mut timers = Timers::default();
        timers.arm(key(1), 86_400_000);
        timers.arm(key(2), 40_000);
        assert_eq!(popped(&mut timers, 86_000_000), [2]);
        assert_eq!(popped(&mut timers, 86_400_100), [1]);
    }

    #[test]
    fn arm_by_only_moves_forward() {
        let mut timers = Timers::default();
        timers.arm_by(key(0), 5000);
        timers.arm_by(key(0), 9000);
        assert_eq!(timers.next_ms(), Tick::at(5000).ms());
        timers.arm_by(key(0), 640);
        assert_eq!(timers.next_ms(), 640);
    }

    #[test]
    fn shrinking_keeps_the_keys_in_front() {
        let mut timers = Timers::default();
        for at in 0..1000 {
            timers.arm(key(at), 1000);
        }
        for at in 3..1000 {
            timers.cancel(key(at));
        }
        timers.shrink(3);
        assert!(timers.links.capacity() < 100);
        timers.arm(key(500), 1000);
        assert_eq!(popped(&mut timers, 2000), [0, 1, 2, 500]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Arm(usize, u64),
        ArmBy(usize, u64),
        Cancel(usize),
        Wait(u64),
        PopOne,
    }

    fn step() -> impl Strategy<Value = Step> {
        let key = 0..20usize;
        prop_oneof![
            (key.clone(), 0..100_000u64).prop_map(|(key, ms)| Step::Arm(key, ms)),
            (key.clone(), 0..100_000u64).prop_map(|(key, ms)| Step::ArmBy(key, ms)),
            key.prop_map(Step::Cancel),
            (0..50_000u64).prop_map(Step::Wait),
            Just(Step::PopOne),
        ]
    }

    proptest! {
        /// Against a map: a deadline that is over by at least a tick comes up, none comes up early, and
        /// `next_ms` never sleeps past a deadline.
        #[test]
        fn behaves_as_a_sorted_map(steps in proptest::collection::vec(step(), 1..80)) {
            let mut timers = Timers::default();
            let mut model: BTreeMap<usize, u64> = BTreeMap::new();
            let mut now = 0;
            for step in steps {
                match step {
                    Step::Arm(at, after) => {
                        timers.arm(key(at), now + after);
                        model.insert(at, now + after);
                    }
                    Step::ArmBy(at, after) => {
                        timers.arm_by(key(at), now + after);
                        let slot = model.entry(at).or_insert(u64::MAX);
                        // Within one tick the wheel may keep the later of two deadlines.
                        if Tick::at(now + after) < Tick::at(*slot) { *slot = now + after; }
                    }
                    Step::Cancel(at) => { timers.cancel(key(at)); model.remove(&at); }
                    Step::PopOne => {
                        if let Some(key) = timers.pop(now) {
                            prop_assert!(model.remove(&key.index()).is_some_and(|deadline| deadline <= now));
                        }
                    }
                    Step::Wait(ms) => {
                        now += ms;
                        while let Some(key) = timers.pop(now) {
                            prop_assert!(model.remove(&key.index()).is_some_and(|deadline| deadline <= now));
                        }
                        prop_assert!(model.values().all(|deadline| deadline + TICK_MS > now));
                    }
                }
                let nearest = model.values().min().copied();
                if let Some(nearest) = nearest {
                    let next = timers.next_ms();
                    prop_assert!(next <= Tick::at(nearest).ms().max(now + TICK_MS));
                }
            }
        }
    }
}
