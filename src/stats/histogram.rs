//! Times counted by their size, in whole microseconds.
//!
//! It never computes with fractions: the steps are numbers, and their names in seconds are made when the counts are
//! shown. Invariant: the sum of the counts is the number of times that were noted.

use serde_core::ser::{Serialize, SerializeMap, Serializer};

/// The upper bounds of the steps, in microseconds: from the cost of one system call to the longest wait for browsers. A
/// longer time is in the last step, which has none.
const BOUNDS_US: [u64; 19] = [
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 10_000_000, 30_000_000,
];

/// See the module's head.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counts: [u64; BOUNDS_US.len() + 1],
    sum_us: u64,
    most_us: u64,
}

impl Histogram {
    /// Counts a time.
    #[inline]
    pub fn note(&mut self, us: u64) {
        // Most turns are short, and so in one of the first steps.
        let place = BOUNDS_US.iter().position(|bound_us| us <= *bound_us).unwrap_or(BOUNDS_US.len());
        self.counts[place] += 1;
        self.sum_us += us;
        self.most_us = self.most_us.max(us);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// For each bound how many times were no longer; the last, without a bound, has all of them.
    pub fn up_to(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let bounds = BOUNDS_US.iter().copied().map(Some).chain([None]);
        bounds.zip(&self.counts).scan(0, |sum, (bound_us, count)| {
            *sum += count;
            Some((bound_us, *sum))
        })
    }

    /// The bound within which 99 of 100 were, or the longest time if that is less.
    pub fn p99_us(&self) -> u64 {
        let wanted = self.count() - self.count() / 100;
        let bound_us = self.up_to().find(|(_, up_to)| *up_to >= wanted).and_then(|(bound_us, _)| bound_us);
        bound_us.map_or(self.most_us, |bound_us| bound_us.min(self.most_us))
    }
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(Some(4))?;
        members.serialize_entry("count", &self.count())?;
        members.serialize_entry("sum_us", &self.sum_us)?;
        members.serialize_entry("p99_us", &self.p99_us())?;
        members.serialize_entry("most_us", &self.most_us)?;
        members.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_step_that_holds_it() {
        let mut times = Histogram::default();
        for us in [0, 10, 11, 1_000, 1_001, 30_000_000, 30_000_001, 1 << 40] {
            times.note(us);
        }
        let up_to: Vec<_> = times.up_to().collect();
        assert_eq!(up_to[0], (Some(10), 2));
        assert_eq!(up_to[1], (Some(25), 3));
        assert_eq!(up_to[6], (Some(1_000), 4));
        assert_eq!(up_to[7], (Some(2_500), 5));
        assert_eq!(up_to[18..], [(Some(30_000_000), 6), (None, 8)]);
        assert_eq!((times.count(), times.most_us), (8, 1 << 40));
    }

    #[test]
    fn the_ninety_ninth_of_a_hundred_is_within_a_bound() {
        let mut times = Histogram::default();
        assert_eq!(times.p99_us(), 0);
        times.note(7);
        assert_eq!(times.p99_us(), 7, "no longer than the longest");
        (0..98).for_each(|_| times.note(7));
        times.note(40_000_000);
        assert_eq!(times.p99_us(), 10);
        times.note(40_000_000);
        assert_eq!(times.p99_us(), 40_000_000);
    }
}
