//! What clients say reaches a worker: each client sends a message, and the next when the worker has all of them. The
//! floor, which has no workers, gives them back.

use super::Echo;
use crate::client::EXCHANGE_MAX;
use crate::control::Control;
use crate::measure::{Arena, Job};
use crate::options::Kind;
use crate::{Result, wire};
use std::time::Instant;

pub struct Forward {
    size: usize,
    floor: Echo,
    worker: Option<Control>,
    heard: Vec<u8>,
    bytes: Vec<u8>,
    /// The number of each message, for all clients alike.
    seq: u64,
}

impl Forward {
    pub fn new(size: usize) -> Self {
        Self { size, floor: Echo::new(size, 1), worker: None, heard: Vec::new(), bytes: Vec::new(), seq: 0 }
    }

    /// Every client says the same, once.
    fn say(&mut self, arena: &mut Arena) -> Result<()> {
        self.seq += 1;
        self.bytes.clear();
        wire::client_frame(&mut self.bytes, self.seq, self.size);
        (0..arena.fleet.len()).try_for_each(|index| arena.fleet.send(index, &self.bytes))
    }

    /// Takes the events that are there: how many of them are right, and how many are not.
    fn judge(&mut self, owed: &[u8]) -> (usize, u64) {
        let (mut used, mut right, mut wrong) = (0, 0, 0);
        while let Some((letter, payload, len)) = frame(&self.heard[used..]) {
            used += len;
            match letter {
                b'p' => {}
                b'g' if payload.ends_with(owed) => right += 1,
                _ => wrong += 1,
            }
        }
        self.heard.drain(..used);
        (right, wrong)
    }
}

/// Letter, payload and length of the frame at the start.
fn frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let letter = *bytes.get(digits)?;
    let len: usize = std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()?;
    Some((letter, bytes.get(digits + 1..digits + 1 + len)?, digits + 1 + len))
}

impl Job for Forward {
    fn prepare(&mut self, arena: &mut Arena) -> Result<()> {
        if arena.server.kind == Kind::Wsson {
            let mut worker = arena.server.connect_control()?;
            worker.subscribe(&mut self.heard)?;
            self.worker = Some(worker);
        }
        Ok(())
    }

    fn run(&mut self, arena: &mut Arena, times: usize) -> Result<u64> {
        let Some(mut worker) = self.worker.take() else { return self.floor.run(arena, times) };
        let clients = arena.fleet.len();
        let mut owed = Vec::new();
        for _ in 0..times {
            self.say(arena)?;
            owed.clear();
            wire::payload(&mut owed, self.seq, self.size);
            let (mut heard, deadline) = (0, Instant::now() + EXCHANGE_MAX);
            while heard < clients && Instant::now() < deadline {
                worker.read(&mut self.heard)?;
                let (right, wrong) = self.judge(&owed);
                heard += right;
                arena.check.faults.damaged += wrong;
            }
            arena.check.faults.lost += (clients - heard) as u64;
        }
        self.worker = Some(worker);
        Ok((times * clients) as u64)
    }
}
