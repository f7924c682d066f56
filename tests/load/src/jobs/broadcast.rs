//! Broadcast: one at a time, the next when every client has the last; or sixteen that wait together.

use crate::Result;
use crate::client::EXCHANGE_MAX;
use crate::measure::{Arena, Job};
use std::time::Instant;

pub struct Broadcast {
    size: usize,
    waiting: u64,
    owed: Vec<u8>,
}

impl Broadcast {
    pub fn new(size: usize, waiting: u64) -> Self {
        Self { size, waiting, owed: Vec::new() }
    }

    fn exchange(&mut self, arena: &mut Arena) -> Result<()> {
        let seqs = arena.take_seqs(self.waiting);
        self.owed.clear();
        self.owed.extend_from_slice(arena.control.broadcast(seqs, self.size));
        let Arena { control, fleet, check, .. } = arena;
        check.begin(fleet.len());
        let deadline = Instant::now() + EXCHANGE_MAX;
        while check.done() < fleet.len() && Instant::now() < deadline {
            control.flush()?;
            fleet.poll(|index, bytes| {
                check.feed(index, bytes, &self.owed);
            })?;
        }
        if check.done() < fleet.len() || !check.is_clean() {
            check.settle(|_| &self.owed);
        }
        Ok(())
    }
}

impl Job for Broadcast {
    fn run(&mut self, arena: &mut Arena, times: usize) -> Result<u64> {
        for _ in 0..times {
            self.exchange(arena)?;
            if !arena.check.is_clean() {
                break;
            }
        }
        Ok(times as u64 * self.waiting * arena.fleet.len() as u64)
    }
}
