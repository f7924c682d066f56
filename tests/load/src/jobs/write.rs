//! Writes to addresses: one command to a group, or to a list of users, that is delivered to all clients; the next when
//! every client has it.

use crate::Result;
use crate::client::EXCHANGE_MAX;
use crate::measure::{Arena, Job};
use crate::wire;
use std::time::Instant;

/// The group that all connections are in.
const GROUP: &str = "everyone";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// One group, which all have joined.
    Group,
    /// Each of them by the name of its user.
    Users,
}

pub struct Write {
    to: To,
    size: usize,
    addresses: String,
    owed: Vec<u8>,
}

impl Write {
    pub fn new(to: To, size: usize) -> Self {
        Self { to, size, addresses: String::new(), owed: Vec::new() }
    }

    fn exchange(&mut self, arena: &mut Arena) -> Result<()> {
        let seq = arena.take_seqs(1).start;
        self.owed.clear();
        wire::server_frame(&mut self.owed, seq, self.size);
        let Arena { control, fleet, check, .. } = arena;
        control.write(&self.addresses, seq, self.size);
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

impl Job for Write {
    fn prepare(&mut self, arena: &mut Arena) -> Result<()> {
        let clients = arena.fleet.len();
        self.addresses = match self.to {
            To::Group => format!("g:{GROUP}"),
            To::Users => {
                (0..clients).map(|index| format!("u:{}", wire::user(index))).collect::<Vec<_>>().join(",")
            }
        };
        match self.to {
            To::Group => arena.control.join(GROUP, clients),
            To::Users => Ok(()),
        }
    }

    fn run(&mut self, arena: &mut Arena, times: usize) -> Result<u64> {
        for _ in 0..times {
            self.exchange(arena)?;
            if !arena.check.is_clean() {
                break;
            }
        }
        Ok(times as u64 * arena.fleet.len() as u64)
    }
}
