//! A seeded generator (splitmix64) and the trace of a run.
//!
//! Nothing here reads a clock or the system's randomness: the same seed gives the same run, and the hash
//! of the trace proves it.

use std::cell::RefCell;
use std::collections::VecDeque;

pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5EED);
        rng.next();
        rng
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        percent > 0 && self.below(100) < percent
    }

    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

/// An event, in numbers: a name and its subject.
type Line = (&'static str, u64, u64);

#[derive(Default)]
struct Trace {
    hash: u64,
    lines: VecDeque<Line>,
}

/// Lines kept for the report of a failure.
const LINES_KEPT: usize = 60;

thread_local! {
    static TRACE: RefCell<Trace> = RefCell::default();
}

pub(crate) fn begin_trace() {
    TRACE.with_borrow_mut(|trace| *trace = Trace::default());
}

pub(crate) fn trace(what: &'static str, who: usize, value: u64) {
    TRACE.with_borrow_mut(|trace| {
        for word in [what.len() as u64 ^ u64::from(what.as_bytes()[0]) << 8, who as u64, value] {
            trace.hash = (trace.hash.rotate_left(5) ^ word).wrapping_mul(0x517C_C1B7_2722_0A95);
        }
        if trace.lines.len() == LINES_KEPT {
            trace.lines.pop_front();
        }
        trace.lines.push_back((what, who as u64, value));
    });
}

pub(crate) fn trace_hash() -> u64 {
    TRACE.with_borrow(|trace| trace.hash)
}

pub(crate) fn last_lines() -> String {
    let line = |(what, who, value): &Line| format!("  {what} {who} {value}\n");
    TRACE.with_borrow(|trace| trace.lines.iter().map(line).collect())
}

/// Enough to tell two runs apart. A word at a time: debug builds are slow with bytes.
pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hash = bytes.len() as u64;
    for word in bytes.chunks(8) {
        let mut padded = [0; 8];
        padded[..word.len()].copy_from_slice(word);
        hash = (hash.rotate_left(5) ^ u64::from_le_bytes(padded)).wrapping_mul(0x517C_C1B7_2722_0A95);
    }
    hash
}
