//! Direct messages, `d` and `c`: this many commands in one write, each to another client, and the next when all have
//! arrived and, for `c`, all are acknowledged in order.

use crate::Result;
use crate::client::EXCHANGE_MAX;
use crate::measure::{Arena, Job};
use crate::wire;
use std::time::Instant;

/// Steps through the clients in an order that is not theirs; a prime that divides no number of clients used.
const STRIDE: usize = 7_919;
/// In [`Direct::place`]: this client must get nothing.
const NOTHING: u32 = u32::MAX;

pub struct Direct {
    letter: char,
    size: usize,
    under_way: usize,
    next: usize,
    /// The clients of the exchange, the messages that each must get, and every client's place among them.
    chosen: Vec<usize>,
    owed: Vec<Vec<u8>>,
    place: Vec<u32>,
    acks_owed: Vec<u8>,
    acks: Vec<u8>,
}

impl Direct {
    pub fn new(letter: char, size: usize, under_way: usize) -> Self {
        Self {
            letter,
            size,
            under_way,
            next: 0,
            chosen: Vec::new(),
            owed: vec![Vec::new(); under_way],
            place: Vec::new(),
            acks_owed: Vec::new(),
            acks: Vec::new(),
        }
    }

    /// Chooses the clients and queues their commands.
    fn queue(&mut self, arena: &mut Arena) {
        let clients = arena.fleet.len();
        let seqs = arena.take_seqs(self.under_way as u64);
        self.place.resize(clients, NOTHING);
        self.chosen.clear();
        self.acks_owed.clear();
        self.acks.clear();
        for (place, seq) in seqs.enumerate() {
            self.next = (self.next + STRIDE) % clients;
            self.chosen.push(self.next);
            self.place[self.next] = place as u32;
            self.owed[place].clear();
            wire::server_frame(&mut self.owed[place], seq, self.size);
            arena.control.direct(self.letter, self.next, seq, self.size);
            if self.letter == 'c' {
                arena.control.push_ack(&mut self.acks_owed, self.next);
            }
        }
        arena.check.begin(self.under_way);
    }

    fn exchange(&mut self, arena: &mut Arena) -> Result<()> {
        self.queue(arena);
        let Arena { control, fleet, check, .. } = arena;
        let deadline = Instant::now() + EXCHANGE_MAX;
        let mut strays = 0;
        while check.done() < self.under_way || self.acks.len() < self.acks_owed.len() {
            control.flush()?;
            fleet.poll(|index, bytes| match self.place[index] {
                NOTHING => strays += 1,
                place => {
                    check.feed(place as usize, bytes, &self.owed[place as usize]);
                }
            })?;
            if self.acks.len() < self.acks_owed.len() {
                control.read(&mut self.acks)?;
            }
            if strays > 0 || Instant::now() > deadline {
                break;
            }
        }
        // A message to the wrong client is the worst damage there is; a wrong reply comes close.
        check.faults.damaged += strays + u64::from(self.acks != self.acks_owed);
        if check.done() < self.under_way || !check.is_clean() {
            check.settle(|place| &self.owed[place]);
        }
        self.chosen.iter().for_each(|index| self.place[*index] = NOTHING);
        Ok(())
    }
}

impl Job for Direct {
    fn prepare(&mut self, arena: &mut Arena) -> Result<()> {
        arena.control.announce_direct(self.size, self.under_way)
    }

    fn run(&mut self, arena: &mut Arena, times: usize) -> Result<u64> {
        for _ in 0..times {
            self.exchange(arena)?;
            if !arena.check.is_clean() {
                break;
            }
        }
        Ok((times * self.under_way) as u64)
    }
}
