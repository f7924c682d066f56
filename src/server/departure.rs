//! Leaving in good order: the clients of a server that is about to end, each with the moment at which it is told, so that a
//! site's browsers do not all come back in the same second.
//!
//! Pure: it closes no client and reads no clock. Invariant: at every moment as many clients have been given out as the
//! share of the time that has passed, and at its end all of them.

use crate::peer::client::ClientId;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Departure {
    began_ms: u64,
    over_ms: u64,
    total: u64,
    here: Vec<ClientId>,
}

impl Departure {
    pub(super) fn new(now_ms: u64, over_ms: u64, here: Vec<ClientId>) -> Self {
        Self { began_ms: now_ms, over_ms: over_ms.max(1), total: here.len() as u64, here }
    }

    /// A client whose turn has come; some of them may be gone already.
    pub(super) fn next_due(&mut self, now_ms: u64) -> Option<ClientId> {
        let passed_ms = now_ms.saturating_sub(self.began_ms).min(self.over_ms);
        let gone = self.total - self.here.len() as u64;
        if gone < self.total * passed_ms / self.over_ms { self.here.pop() } else { None }
    }

    /// When the next one is due; the end, when there is none.
    pub(super) fn next_ms(&self) -> u64 {
        let gone = self.total - self.here.len() as u64;
        let share = if self.here.is_empty() {
            self.over_ms
        } else {
            (self.over_ms * (gone + 1)).div_ceil(self.total)
        };
        self.began_ms + share
    }

    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        now_ms >= self.began_ms + self.over_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(clients: usize, over_ms: u64, step_ms: u64) -> Vec<(u64, usize)> {
        let mut departure = Departure::new(1000, over_ms, vec![ClientId::nobody(); clients]);
        let (mut now_ms, mut told) = (1000, Vec::new());
        while !departure.is_over(now_ms) {
            now_ms = departure.next_ms().max(now_ms + step_ms);
            let count = std::iter::from_fn(|| departure.next_due(now_ms)).count();
            told.push((now_ms - 1000, count));
        }
        told
    }

    #[test]
    fn the_closes_are_spread_evenly() {
        assert_eq!(told(4, 1000, 0), [(250, 1), (500, 1), (750, 1), (1000, 1)]);
        assert_eq!(told(3, 1000, 0), [(334, 1), (667, 1), (1000, 1)]);
        assert_eq!(told(0, 1000, 0), [(1000, 0)]);
        let many = told(10_000, 30_000, 100);
        assert_eq!(many.iter().map(|(_, count)| count).sum::<usize>(), 10_000);
        assert!(many.iter().all(|(_, count)| (30..=37).contains(count)), "{many:?}");
    }

    #[test]
    fn a_late_turn_makes_up_for_the_time() {
        let mut departure = Departure::new(0, 100, vec![ClientId::nobody(); 10]);
        assert_eq!(std::iter::from_fn(|| departure.next_due(55)).count(), 5);
        assert_eq!(std::iter::from_fn(|| departure.next_due(1000)).count(), 5);
    }
}
