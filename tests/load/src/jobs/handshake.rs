//! Handshake: this many connections are opened together, each with its request, and the next when all were accepted.
//! Their end is not measured.
//!
//! One at a time the server sleeps before each, as it does when visitors come now and then; together they are what
//! follows a restart, when all come back at once.

use crate::Result;
use crate::client::BATCH;
use crate::measure::{Arena, Figures, Job};
use crate::options::{Kind, Options};

/// Handshakes of one round.
const ROUND: usize = 2_048;

pub struct Handshake {
    pub together: usize,
}

impl Job for Handshake {
    fn run(&mut self, arena: &mut Arena, times: usize) -> Result<u64> {
        for _ in 0..times {
            let count = arena.fleet.len() + self.together.min(BATCH);
            arena.fleet.grow(&arena.server, count)?;
        }
        Ok((times * self.together) as u64)
    }
}

/// Floor and subject by turns; every round ends with no connection.
pub fn duel(options: &Options, together: usize) -> Result<Figures> {
    let mut arenas = [Arena::new(options, Kind::Floor)?, Arena::new(options, options.subject)?];
    let mut figures = Figures::default();
    for turn in 0..=3 * options.rounds {
        for at in [turn % 2, 1 - turn % 2] {
            let arena = &mut arenas[at];
            let sample = arena.sample(&mut Handshake { together }, ROUND / together)?;
            arena.disconnect()?;
            // The first round warms up.
            if turn > 0 {
                [&mut figures.floor, &mut figures.subject][at].push(sample);
            }
        }
    }
    Ok(figures)
}
