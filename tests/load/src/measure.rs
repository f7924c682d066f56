//! How a job is measured: rounds that alternate between floor and server, and the statistics of their ratio.
//!
//! Invariant: a ratio is always formed of two rounds that followed each other in the same run.

use crate::check::{Check, Faults};
use crate::client::{EXCHANGE_MAX, Fleet};
use crate::control::Control;
use crate::options::{Kind, Options};
use crate::server::Server;
use crate::{Result, wire};
use std::time::{Duration, Instant};

/// A server, the generator's connections to it, and the check of what they get.
pub struct Arena {
    pub server: Server,
    pub control: Control,
    pub fleet: Fleet,
    pub check: Check,
    seq: u64,
}

/// Something a server does over and over.
pub trait Job {
    /// Prepares a connected arena, before anything is measured.
    fn prepare(&mut self, _arena: &mut Arena) -> Result<()> {
        Ok(())
    }

    /// Does it `times` and returns the number of operations that were.
    fn run(&mut self, arena: &mut Arena, times: usize) -> Result<u64>;
}

/// One round: the server's processor time per operation, and how the generator fared.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub cpu_us: f64,
    pub wall_us: f64,
    /// Share of the wall time the generator had something to do.
    pub busy: f64,
    /// The server's processor time as a share of the wall time.
    pub load: f64,
}

/// All rounds of one job.
#[derive(Default)]
pub struct Figures {
    pub floor: Vec<Sample>,
    pub subject: Vec<Sample>,
    pub faults: Faults,
}

impl Arena {
    pub fn new(options: &Options, kind: Kind) -> Result<Self> {
        let (server, control) = Server::start(options, kind)?;
        Self::of(server, control)
    }

    pub fn of(server: Server, control: Control) -> Result<Self> {
        Ok(Self { server, control, fleet: Fleet::new(0)?, check: Check::default(), seq: 1 })
    }

    /// Takes `count` sequence numbers.
    pub fn take_seqs(&mut self, count: u64) -> std::ops::Range<u64> {
        if self.seq + count >= wire::SEQ_END {
            self.seq = 1;
        }
        let from = self.seq;
        self.seq += count;
        from..self.seq
    }

    /// Opens connections until there are `count`, and makes sure that the server thinks so too.
    pub fn connect(&mut self, count: usize) -> Result<()> {
        self.fleet.grow(&self.server, count)?;
        self.await_clients(count as u64)
    }

    /// Ends all connections and waits until the server has noticed.
    pub fn disconnect(&mut self) -> Result<()> {
        self.fleet.close()?;
        self.await_clients(0)
    }

    fn await_clients(&mut self, count: u64) -> Result<()> {
        let deadline = Instant::now() + EXCHANGE_MAX;
        loop {
            match self.control.clients()? {
                found if found == count => return Ok(()),
                found if Instant::now() > deadline => {
                    return Err(format!("the server has {found} clients where {count} are connected").into());
                }
                _ => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// One measured round.
    pub fn sample(&mut self, job: &mut dyn Job, times: usize) -> Result<Sample> {
        self.fleet.take_idle();
        let (start, before) = (Instant::now(), self.server.cpu()?);
        let operations = job.run(self, times)?;
        let (after, wall) = (self.server.cpu()?, start.elapsed());
        let idle = self.fleet.take_idle();
        Ok(Sample::new(after - before, wall, idle, operations))
    }
}

impl Sample {
    pub fn new(cpu: Duration, wall: Duration, idle: Duration, operations: u64) -> Self {
        let (cpu, wall, each) = (cpu.as_secs_f64(), wall.as_secs_f64(), operations.max(1) as f64);
        Self {
            cpu_us: cpu * 1e6 / each,
            wall_us: wall * 1e6 / each,
            busy: 1.0 - (idle.as_secs_f64() / wall).min(1.0),
            load: cpu / wall,
        }
    }
}

/// Lets the subject and the floor do the same job by turns.
///
/// Where this process has descriptors for both sets of connections they stay open; else each round opens its own.
pub fn duel(options: &Options, clients: usize, make: &mut dyn FnMut() -> Box<dyn Job>) -> Result<Figures> {
    let mut arenas = [Arena::new(options, Kind::Floor)?, Arena::new(options, options.subject)?];
    let mut jobs = [make(), make()];
    let keep = 2 * clients + 200 < options.descriptors;
    // Short rounds that alternate often see the same disturbances; long ones pay off where each must connect anew.
    let (rounds, round) =
        if keep { (4 * options.rounds + 1, options.round / 3) } else { (options.rounds, options.round) };
    let mut figures = Figures::default();
    let mut times = 0;
    for turn in 0..rounds {
        // Every other round goes the other way about, so that a drift of the machine favours neither.
        for at in [turn % 2, 1 - turn % 2] {
            let (arena, job) = (&mut arenas[at], &mut jobs[at]);
            if arena.fleet.len() == 0 {
                arena.connect(clients)?;
                job.prepare(arena)?;
                // The first time warms up caches and socket buffers.
                job.run(arena, 1)?;
            }
            if times == 0 {
                times = repetitions(round, arena, job.as_mut())?;
            }
            let sample = arena.sample(job.as_mut(), times);
            figures.faults.add(std::mem::take(&mut arena.check.faults));
            [&mut figures.floor, &mut figures.subject][at].push(sample?);
            if figures.faults.total() > 0 {
                return Ok(figures);
            }
            if !keep {
                arena.disconnect()?;
            }
        }
    }
    Ok(figures)
}

/// How often the job fits in the time of a round.
fn repetitions(round: Duration, arena: &mut Arena, job: &mut dyn Job) -> Result<usize> {
    let start = Instant::now();
    let mut done = 0;
    while done == 0 || (start.elapsed() < round / 4 && done < 1_000) {
        job.run(arena, 1)?;
        done += 1;
    }
    let each = start.elapsed() / done;
    let fit = round.as_secs_f64() / each.as_secs_f64();
    Ok((fit as usize).clamp(1, 200_000))
}

/// Middle and extremes of a set of figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let Some((&min, &max)) = values.first().zip(values.last()) else {
            return Self { median: f64::NAN, min: f64::NAN, max: f64::NAN };
        };
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Self { median, min, max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_median_and_extremes() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert!(Spread::of([]).median.is_nan());
    }
}
