//! The content check: every client must get exactly the bytes that were sent to it, in order, once.
//!
//! The way that is right is one comparison of bytes. What goes wrong is kept and sorted out afterwards by the
//! sequence numbers of the payloads.

use crate::wire;
use std::collections::{HashMap, HashSet};

/// The mistakes of a run, in frames. All must be 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    pub lost: u64,
    pub duplicate: u64,
    pub reordered: u64,
    pub damaged: u64,
}

impl Faults {
    pub fn total(&self) -> u64 {
        self.lost + self.duplicate + self.reordered + self.damaged
    }

    pub fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.duplicate += other.duplicate;
        self.reordered += other.reordered;
        self.damaged += other.damaged;
    }
}

/// Follows the bytes that each of a set of connections gets, against those that it must get.
#[derive(Default)]
pub struct Check {
    got: Vec<u32>,
    done: usize,
    odd: HashMap<usize, Vec<u8>>,
    pub faults: Faults,
}

impl Check {
    /// Starts an exchange in which every one of `count` connections must get something.
    pub fn begin(&mut self, count: usize) {
        self.got.clear();
        self.got.resize(count, 0);
        self.done = 0;
    }

    /// Connections that have all that they must get.
    pub fn done(&self) -> usize {
        self.done
    }

    /// True when these bytes complete the exchange for the connection.
    pub fn feed(&mut self, index: usize, bytes: &[u8], owed: &[u8]) -> bool {
        let got = self.got[index] as usize;
        let complete = got == owed.len();
        let right = owed.get(got..got + bytes.len()) == Some(bytes);
        if !right || !self.odd.is_empty() {
            self.keep(index, bytes, &owed[..got.min(owed.len())], right);
        }
        self.got[index] = (got + bytes.len()).min(owed.len()) as u32;
        let completes = !complete && self.got[index] as usize == owed.len();
        self.done += usize::from(completes);
        completes
    }

    /// The connection must get something new, having got all of the old.
    pub fn again(&mut self, index: usize) {
        self.got[index] = 0;
    }

    /// Nothing was missing and nothing was wrong so far.
    pub fn is_clean(&self) -> bool {
        self.odd.is_empty() && self.faults.total() == 0
    }

    fn keep(&mut self, index: usize, bytes: &[u8], before: &[u8], right: bool) {
        if right && !self.odd.contains_key(&index) {
            return;
        }
        self.odd.entry(index).or_insert_with(|| before.to_vec()).extend_from_slice(bytes);
    }

    /// Ends an exchange: missing frames are lost, odd ones are sorted out.
    pub fn settle<'o>(&mut self, owed: impl Fn(usize) -> &'o [u8]) {
        let odd = std::mem::take(&mut self.odd);
        for (index, bytes) in &odd {
            self.faults.add(compare(owed(*index), bytes));
        }
        for index in (0..self.got.len()).filter(|index| !odd.contains_key(index)) {
            let owed = owed(index);
            if (self.got[index] as usize) < owed.len() {
                self.faults.add(compare(owed, &owed[..self.got[index] as usize]));
            }
        }
    }
}

/// Sorts out the difference between the bytes that a connection had to get and those that it got, frame by frame.
fn compare(owed: &[u8], got: &[u8]) -> Faults {
    let (owed, _) = frames(owed);
    let (got, rest) = frames(got);
    let mut faults = Faults::default();
    let mut seen = HashSet::new();
    let mut last = 0;
    for frame in &got {
        match owed.iter().position(|one| one == frame) {
            None => faults.damaged += 1,
            Some(at) if !seen.insert(at) => faults.duplicate += 1,
            Some(at) if at < last => faults.reordered += 1,
            Some(at) => last = at,
        }
    }
    // A damaged frame counts as the one that had to come; it is not lost as well.
    let damaged = faults.damaged + u64::from(rest);
    faults.damaged = damaged;
    faults.lost = (owed.len() as u64).saturating_sub(seen.len() as u64 + damaged);
    faults
}

/// The whole frames at the start of `bytes`, and whether something else follows them that is no prefix of a frame.
fn frames(mut bytes: &[u8]) -> (Vec<&[u8]>, bool) {
    let mut found = Vec::new();
    while let Some((head, len)) = wire::frame_extent(bytes) {
        let (frame, rest) = bytes.split_at(head + len);
        found.push(frame);
        bytes = rest;
    }
    (found, bytes.first().is_some_and(|first| *first != 0x81))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owed() -> Vec<u8> {
        let mut bytes = Vec::new();
        (1..=4).for_each(|seq| wire::server_frame(&mut bytes, seq, 64));
        bytes
    }

    #[track_caller]
    fn check(order: &[u64], expected: Faults) {
        let (owed, mut got) = (owed(), Vec::new());
        order.iter().for_each(|seq| wire::server_frame(&mut got, *seq, 64));
        let mut check = Check::default();
        check.begin(1);
        for part in got.chunks(50) {
            check.feed(0, part, &owed);
        }
        check.settle(|_| &owed);
        assert_eq!(check.faults, expected);
    }

    #[test]
    fn what_is_right_counts_as_nothing() {
        check(&[1, 2, 3, 4], Faults::default());
    }

    #[test]
    fn faults_are_told_apart() {
        check(&[1, 2, 4], Faults { lost: 1, ..Faults::default() });
        check(&[1, 2], Faults { lost: 2, ..Faults::default() });
        check(&[1, 2, 2, 3, 4], Faults { duplicate: 1, ..Faults::default() });
        check(&[1, 3, 2, 4], Faults { reordered: 1, ..Faults::default() });
        check(&[1, 2, 9, 4], Faults { damaged: 1, ..Faults::default() });
        check(&[1, 2, 3, 4, 4], Faults { duplicate: 1, ..Faults::default() });
    }

    #[test]
    fn a_connection_completes_once() {
        let owed = owed();
        let mut check = Check::default();
        check.begin(2);
        assert!(!check.feed(0, &owed[..100], &owed));
        assert!(check.feed(0, &owed[100..], &owed));
        assert!(check.is_clean());
        assert_eq!(check.done(), 1);
        check.settle(|_| &owed);
        assert_eq!(check.faults.lost, 4);
    }
}
