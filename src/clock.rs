//! Deadlines of peers: a hashed timing wheel over slab keys.
//!
//! One entry a peer. A peer has several deadlines (idle, pong, stalled, expiry); the wheel holds the
//! nearest one, and whoever pops a key asks the peer what is really due and arms it again. So nothing is
//! touched when a byte arrives or leaves: activity only moves a stamp in the peer's record, and the wheel
//! is corrected when the old deadline comes up. A FIFO list per class would have to be re-linked on each
//! message; a heap would cost O(log n).
//!
//! It never reads a clock. Invariant: an armed key is in exactly one list, and `occupied` has the bit of
//! a slot if and only if its list is not empty.

/// The time of a turn: taken once, passed down everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic milliseconds since the server began. All timers use it.
    pub ms: u64,
    /// Wall clock, seconds since 1970. Only the cookies' age uses it.
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
/// What is popped for the alarm; no peer has this key.
pub const ALARM: u32 = NIL;

/// A moment in four bytes, counted in [`TICK_MS`] and rounded up. Lasts 8.7 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(u32);

impl Tick {
    /// The first tick that is not before `ms`.
    pub fn at(ms: u64) -> Self {
        // The last value means "not armed" in a link.
        Self(ms.div_ceil(TICK_MS).min(u64::from(NIL - 1)) as u32)
    }

    /// The moment in milliseconds.
    pub fn ms(self) -> u64 {
        u64::from(self.0) * TICK_MS
    }

    fn slot(self) -> usize {
        self.0 as usize % SLOTS
    }
}

const UNARMED: Tick = Tick(NIL);

#[derive(Clone, Copy, Debug)]
struct Link {
    prev: u32,
    next: u32,
    tick: Tick,
}

const UNLINKED: Link = Link { prev: NIL, next: NIL, tick: UNARMED };

/// The wheel. Arm, cancel and pop are O(1) in the number of armed keys.
#[derive(Debug)]
pub struct Timers {
    heads: Box<[u32; SLOTS]>,
    occupied: [u64; SLOTS / 64],
    /// First tick whose slot was not emptied yet.
    cursor: Tick,
    /// The list of the slot under the cursor, taken out while it is being popped.
    due: u32,
    /// No armed key is due before this moment; `u64::MAX` when nothing is armed. Both questions of a turn,
    /// what is due and how long to sleep, are answered by it without a look at the wheel.
    soonest_ms: u64,
    /// A moment that is nobody's; `u64::MAX` when there is none.
    alarm_ms: u64,
    links: Vec<Link>,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            heads: Box::new([NIL; SLOTS]),
            occupied: [0; SLOTS / 64],
            cursor: Tick(0),
            due: NIL,
            soonest_ms: u64::MAX,
            alarm_ms: u64::MAX,
            links: Vec::new(),
        }
    }
}

impl Timers {
    /// Sets the deadline of `key`, replacing the one it had.
    pub fn arm(&mut self, key: u32, deadline_ms: u64) {
        let tick = Tick::at(deadline_ms).max(self.cursor);
        if self.tick_of(key) != tick {
            self.cancel(key);
            self.insert(key, tick);
        }
    }

    /// Makes sure that `key` comes up no later than `deadline_ms`.
    pub fn arm_by(&mut self, key: u32, deadline_ms: u64) {
        if Tick::at(deadline_ms) < self.tick_of(key) {
            self.arm(key, deadline_ms);
        }
    }

    /// Forgets the deadline of `key`, if it has one.
    pub fn cancel(&mut self, key: u32) {
        let tick = self.tick_of(key);
        if tick == UNARMED {
            return;
        }
        let Link { prev, next, .. } = self.links[key as usize];
        if prev != NIL {
            self.links[prev as usize].next = next;
        } else if self.due == key {
            self.due = next;
        } else {
            self.set_head(tick.slot(), next);
        }
        if next != NIL {
            self.links[next as usize].prev = prev;
        }
        self.links[key as usize] = UNLINKED;
    }

    /// Makes [`ALARM`] come up once at this moment, unless it is set already.
    pub fn set_alarm(&mut self, at_ms: u64) {
        if self.alarm_ms == u64::MAX {
            self.alarm_ms = at_ms;
            self.soonest_ms = self.soonest_ms.min(at_ms);
        }
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
    pub fn pop(&mut self, now_ms: u64) -> Option<u32> {
        if now_ms < self.soonest_ms { None } else { self.pop_due(now_ms) }
    }

    /// The moment to look again: no armed key is due before it. `u64::MAX` while nothing is armed. It may
    /// be too early, by a key that was cancelled, never too late.
    #[inline]
    pub fn next_ms(&self) -> u64 {
        self.soonest_ms
    }

    fn pop_due(&mut self, now_ms: u64) -> Option<u32> {
        if self.alarm_ms <= now_ms {
            self.alarm_ms = u64::MAX; // `soonest_ms` stays: the keys that are due come next
            return Some(ALARM);
        }
        let now = Tick((now_ms / TICK_MS).min(u64::from(NIL - 1)) as u32);
        loop {
            while self.due != NIL {
                let key = self.due;
                let tick = self.tick_of(key);
                self.cancel(key);
                if tick <= now {
                    return Some(key);
                }
                self.insert(key, tick); // a later revolution
            }
            if self.cursor > now {
                self.soonest_ms = self.next_occupied_ms().unwrap_or(u64::MAX).min(self.alarm_ms);
                return None;
            }
            self.advance(now);
        }
    }

    /// The moment of the first slot that is not empty, `due` being empty.
    fn next_occupied_ms(&self) -> Option<u64> {
        let here = self.cursor.slot();
        let ahead = (0..=SLOTS / 64).find_map(|step| {
            let word = (here / 64 + step) % (SLOTS / 64);
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= !0 << (here % 64);
            }
            let slot = word * 64 + bits.trailing_zeros() as usize;
            (bits != 0).then(|| (slot + SLOTS - here) % SLOTS)
        });
        ahead.map(|slots| self.cursor.ms() + slots as u64 * TICK_MS)
    }

    /// When `key` comes up, for the audit; `None` when it is not armed.
    pub(crate) fn armed_ms(&self, key: u32) -> Option<u64> {
        Some(self.tick_of(key)).filter(|tick| *tick != UNARMED).map(Tick::ms)
    }

    /// Takes the next slot's list out to be popped. After a long sleep each slot is seen once, not once
    /// for every revolution that was missed.
    fn advance(&mut self, now: Tick) {
        let oldest = now.0.saturating_sub(SLOTS as u32 - 1);
        self.cursor = self.cursor.max(Tick(oldest));
        let slot = self.cursor.slot();
        self.due = self.heads[slot];
        self.set_head(slot, NIL);
        self.cursor.0 += 1;
    }

    fn tick_of(&self, key: u32) -> Tick {
        self.links.get(key as usize).map_or(UNARMED, |link| link.tick)
    }

    fn insert(&mut self, key: u32, tick: Tick) {
        let index = key as usize;
        if self.links.len() <= index {
            self.links.resize(index + 1, UNLINKED);
        }
        let next = self.heads[tick.slot()];
        if next != NIL {
            self.links[next as usize].prev = key;
        }
        self.links[index] = Link { prev: NIL, next, tick };
        self.set_head(tick.slot(), key);
        self.soonest_ms = self.soonest_ms.min(tick.ms());
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
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn popped(timers: &mut Timers, now_ms: u64) -> Vec<u32> {
        let mut keys: Vec<u32> = std::iter::from_fn(|| timers.pop(now_ms)).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn fires_within_one_tick_and_never_early() {
        let mut timers = Timers::default();
        timers.arm(3, 1000);
        assert_eq!(timers.pop(999), None);
        assert_eq!(timers.pop(1000 + TICK_MS), Some(3));
        assert_eq!((timers.pop(1000 + TICK_MS), timers.next_ms()), (None, u64::MAX));
    }

    #[test]
    fn survives_a_long_sleep_and_later_revolutions() {
        let mut timers = Timers::default();
        timers.arm(1, 86_400_000);
        timers.arm(2, 40_000);
        assert_eq!(popped(&mut timers, 86_000_000), [2]);
        assert_eq!(popped(&mut timers, 86_400_100), [1]);
    }

    #[test]
    fn arm_by_only_moves_forward() {
        let mut timers = Timers::default();
        timers.arm_by(0, 5000);
        timers.arm_by(0, 9000);
        assert_eq!(timers.next_ms(), Tick::at(5000).ms());
        timers.arm_by(0, 640);
        assert_eq!(timers.next_ms(), 640);
    }

    #[test]
    fn the_alarm_comes_up_once_and_keeps_nobody_from_his_turn() {
        let mut timers = Timers::default();
        timers.arm(1, 640);
        timers.arm(2, 6400);
        timers.set_alarm(5000);
        timers.set_alarm(9000);
        assert_eq!((timers.pop(700), timers.pop(700)), (Some(1), None));
        assert_eq!(timers.next_ms(), 5000, "the earlier of two alarms, found again behind a key");
        assert_eq!((timers.pop(4999), timers.pop(5000), timers.pop(5000)), (None, Some(ALARM), None));
        assert_eq!((timers.pop(7000), timers.pop(10_000), timers.next_ms()), (Some(2), None, u64::MAX));
    }

    #[test]
    fn shrinking_keeps_the_keys_in_front() {
        let mut timers = Timers::default();
        for key in 0..1000 {
            timers.arm(key, 1000);
        }
        for key in 3..1000 {
            timers.cancel(key);
        }
        timers.shrink(3);
        assert!(timers.links.capacity() < 100);
        timers.arm(500, 1000);
        assert_eq!(popped(&mut timers, 2000), [0, 1, 2, 500]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Arm(u32, u64),
        ArmBy(u32, u64),
        Cancel(u32),
        Wait(u64),
        PopOne,
    }

    fn step() -> impl Strategy<Value = Step> {
        let key = 0..20u32;
        prop_oneof![
            (key.clone(), 0..100_000u64).prop_map(|(key, ms)| Step::Arm(key, ms)),
            (key.clone(), 0..100_000u64).prop_map(|(key, ms)| Step::ArmBy(key, ms)),
            key.prop_map(Step::Cancel),
            (0..50_000u64).prop_map(Step::Wait),
            Just(Step::PopOne),
        ]
    }

    proptest! {
        /// Against a map: what is due by at least a tick comes up, nothing comes up early, and
        /// `next_ms` never sleeps past a deadline.
        #[test]
        fn behaves_as_a_sorted_map(steps in proptest::collection::vec(step(), 1..80)) {
            let mut timers = Timers::default();
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            let mut now = 0;
            for step in steps {
                match step {
                    Step::Arm(key, after) => {
                        timers.arm(key, now + after);
                        model.insert(key, now + after);
                    }
                    Step::ArmBy(key, after) => {
                        timers.arm_by(key, now + after);
                        let slot = model.entry(key).or_insert(u64::MAX);
                        // Within one tick the wheel may keep the later of two deadlines.
                        if Tick::at(now + after) < Tick::at(*slot) { *slot = now + after; }
                    }
                    Step::Cancel(key) => { timers.cancel(key); model.remove(&key); }
                    Step::PopOne => {
                        if let Some(key) = timers.pop(now) {
                            prop_assert!(model.remove(&key).is_some_and(|deadline| deadline <= now));
                        }
                    }
                    Step::Wait(ms) => {
                        now += ms;
                        while let Some(key) = timers.pop(now) {
                            prop_assert!(model.remove(&key).is_some_and(|deadline| deadline <= now));
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
