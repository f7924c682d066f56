//! Latency of direct messages while a broadcast to thousands of clients is going out.
//!
//! Broadcasts follow each other without a pause. Beside them, on a control connection of its own, a direct message
//! leaves at fixed times whether the last has arrived or not, to one of a few clients that are read before all
//! others. There is no floor: a loop of `send()` answers nobody until it is through.

use crate::Result;
use crate::check::Check;
use crate::client::Fleet;
use crate::control::Control;
use crate::measure::Arena;
use crate::options::{Kind, Options};
use crate::report::Row;
use crate::wire::{self, SEQ_DIGITS};
use std::time::{Duration, Instant};

/// Direct messages per second: 2,000.
const EVERY: Duration = Duration::from_micros(500);
const PROBES: usize = 16;
/// Sequence numbers of direct messages; those of broadcasts stay below.
const DIRECT_SEQ: u64 = 5_000_000_000;
const SIZE: usize = 64;
/// Deliveries read between two looks at the probes: some tens of microseconds.
const BATCH: usize = 16;
/// How long what is still under way at the end may take.
const TAIL: Duration = Duration::from_secs(5);
const GOAL_MS: f64 = 5.0;

/// The direct messages: when each was due, and when it came.
struct Probes {
    fleet: Fleet,
    control: Control,
    input: Vec<Vec<u8>>,
    due: Vec<Instant>,
    took: Vec<Option<Duration>>,
    wrong: u64,
}

impl Probes {
    fn new(arena: &Arena, first: usize) -> Result<Self> {
        let mut fleet = Fleet::new(first)?;
        fleet.grow(&arena.server, PROBES)?;
        let control = arena.server.connect_control()?;
        Ok(Self {
            fleet,
            control,
            input: vec![Vec::new(); PROBES],
            due: Vec::new(),
            took: Vec::new(),
            wrong: 0,
        })
    }

    fn send(&mut self, first: usize, due: Instant) -> Result<()> {
        let number = self.due.len();
        self.control.direct('d', first + number % PROBES, DIRECT_SEQ + number as u64, SIZE);
        self.due.push(due);
        self.took.push(None);
        self.control.flush()
    }

    /// Notes the direct messages that came; the broadcasts' frames pass.
    fn poll(&mut self) -> Result<()> {
        let Self { fleet, input, due, took, wrong, .. } = self;
        fleet.poll(|index, bytes| {
            let buffer = &mut input[index];
            buffer.extend_from_slice(bytes);
            while let Some((head, len)) = wire::frame_extent(buffer) {
                let seq = std::str::from_utf8(&buffer[head..head + len.min(SEQ_DIGITS)])
                    .ok()
                    .and_then(|digits| digits.parse::<u64>().ok());
                match seq {
                    Some(seq) if seq >= DIRECT_SEQ => {
                        let number = (seq - DIRECT_SEQ) as usize;
                        match took.get_mut(number) {
                            Some(place @ None) if number % PROBES == index => {
                                *place = Some(due[number].elapsed())
                            }
                            _ => *wrong += 1,
                        }
                    }
                    Some(_) => {}
                    None => *wrong += 1,
                }
                buffer.drain(..head + len);
            }
        })
    }

    fn missing(&self) -> u64 {
        self.took.iter().filter(|took| took.is_none()).count() as u64
    }
}

/// Runs for `span` and returns the latencies in milliseconds, sorted, and the broadcasts that went out.
fn measure(arena: &mut Arena, probes: &mut Probes, span: Duration) -> Result<(Vec<f64>, u64)> {
    arena.fleet.set_batch(BATCH);
    let first = arena.fleet.len();
    let start = Instant::now();
    let mut due = start;
    let mut broadcasts = 0;
    while start.elapsed() < span {
        let seqs = arena.take_seqs(1);
        let owed = arena.control.broadcast(seqs, SIZE).to_vec();
        arena.check.begin(first);
        let deadline = Instant::now() + TAIL;
        while arena.check.done() < first && Instant::now() < deadline {
            arena.control.flush()?;
            let Arena { fleet, check, .. } = &mut *arena;
            fleet.poll(|index, bytes| {
                check.feed(index, bytes, &owed);
            })?;
            probes.poll()?;
            if Instant::now() >= due {
                probes.send(first, due)?;
                due += EVERY;
            }
        }
        settle(&mut arena.check, first, &owed);
        broadcasts += 1;
    }
    let deadline = Instant::now() + TAIL;
    while probes.missing() > 0 && Instant::now() < deadline {
        probes.poll()?;
    }
    let mut took: Vec<f64> = probes.took.iter().flatten().map(|took| took.as_secs_f64() * 1e3).collect();
    took.sort_by(f64::total_cmp);
    Ok((took, broadcasts))
}

fn settle(check: &mut Check, clients: usize, owed: &[u8]) {
    if check.done() < clients || !check.is_clean() {
        check.settle(|_| owed);
    }
}

pub fn rows(options: &Options) -> Result<Vec<Row>> {
    if options.subject == Kind::Floor {
        return Ok(Vec::new());
    }
    let clients = if options.quick { 10_000 } else { 19_000 };
    let span = Duration::from_secs(if options.quick { 3 } else { 8 });
    let mut arena = Arena::new(options, Kind::Wsson)?;
    arena.fleet.grow(&arena.server, clients)?;
    let mut probes = Probes::new(&arena, clients)?;
    let (took, broadcasts) = measure(&mut arena, &mut probes, span)?;
    let at = |share: f64| took.get(((took.len() as f64 * share) as usize).min(took.len() - 1)).copied();
    let mut rows = Vec::new();
    for (name, share, goal) in [("p50", 0.5, None), ("p99", 0.99, Some(GOAL_MS)), ("worst", 1.0, None)] {
        let job = format!("direct while a broadcast to {clients} goes out, {name}");
        rows.push(Row::single(job, "ms", goal, at(share).ok_or("no direct message arrived")?));
    }
    rows[1].faults = arena.check.faults;
    rows[1].faults.lost += probes.missing();
    rows[1].faults.damaged += probes.wrong;
    rows[1].note = format!("{} direct messages beside {broadcasts} broadcasts", took.len());
    Ok(rows)
}
