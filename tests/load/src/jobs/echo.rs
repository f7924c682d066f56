//! Echo: every client has one message under way, or sixteen that it sends together, and sends the next when it has
//! its answer.

use crate::client::EXCHANGE_MAX;
use crate::measure::{Arena, Job};
use crate::options::Kind;
use crate::{Result, wire};
use std::time::Instant;

/// Numbers of one connection's messages; they are in the payload below the connection's own.
const PER_CLIENT: u64 = 100_000;

pub struct Echo {
    size: usize,
    under_way: u64,
    /// Messages each client has sent.
    sent: Vec<u64>,
    ready: Vec<usize>,
    bytes: Vec<u8>,
}

impl Echo {
    pub fn new(size: usize, under_way: u64) -> Self {
        Self { size, under_way, sent: Vec::new(), ready: Vec::new(), bytes: Vec::new() }
    }

    fn send(&mut self, arena: &mut Arena, index: usize) -> Result<()> {
        self.sent[index] += self.under_way;
        self.bytes.clear();
        write(&mut self.bytes, wire::client_frame, index, self.sent[index], self.under_way, self.size);
        arena.check.again(index);
        arena.fleet.send(index, &self.bytes)
    }

    /// Reads the input, and notes which clients have all that they must get.
    fn poll(&mut self, arena: &mut Arena) -> Result<()> {
        let Arena { server, fleet, check, .. } = arena;
        let Self { size, under_way, sent, ready, bytes: owed } = self;
        fleet.poll(|index, bytes| {
            owed.clear();
            write(owed, returned(server.kind), index, sent[index], *under_way, *size);
            if check.feed(index, bytes, owed) {
                ready.push(index);
            }
        })
    }

    fn settle(&self, arena: &mut Arena) {
        let write = |index: usize| {
            let mut bytes = Vec::new();
            write(
                &mut bytes,
                returned(arena.server.kind),
                index,
                self.sent[index],
                self.under_way,
                self.size,
            );
            bytes
        };
        let owed: Vec<Vec<u8>> = (0..arena.fleet.len()).map(write).collect();
        arena.check.settle(|index| &owed[index]);
    }
}

/// The floor gives back what it got, mask and all.
fn returned(kind: Kind) -> fn(&mut Vec<u8>, u64, usize) {
    match kind {
        Kind::Floor => wire::client_frame,
        Kind::Wsson => wire::server_frame,
    }
}

/// The frames of the last `count` messages of a client that has sent `sent`.
fn write(
    out: &mut Vec<u8>,
    frame: fn(&mut Vec<u8>, u64, usize),
    index: usize,
    sent: u64,
    count: u64,
    size: usize,
) {
    for number in sent - count..sent {
        frame(out, index as u64 * PER_CLIENT + number % PER_CLIENT, size);
    }
}

impl Job for Echo {
    fn run(&mut self, arena: &mut Arena, times: usize) -> Result<u64> {
        let clients = arena.fleet.len();
        self.sent.resize(clients, 0);
        arena.check.begin(clients);
        let mut left = vec![times; clients];
        let mut waiting = clients;
        self.ready = (0..clients).collect();
        let deadline = Instant::now() + EXCHANGE_MAX;
        loop {
            while let Some(index) = self.ready.pop() {
                if left[index] == 0 {
                    waiting -= 1;
                } else {
                    left[index] -= 1;
                    self.send(arena, index)?;
                }
            }
            if waiting == 0 && arena.check.is_clean() {
                return Ok((times * clients) as u64 * self.under_way);
            }
            if Instant::now() > deadline || !arena.check.is_clean() {
                self.settle(arena);
                return Ok(1);
            }
            self.poll(arena)?;
        }
    }
}
