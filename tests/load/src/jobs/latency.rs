//! Latency of direct messages while a broadcast to thousands of clients is going out.
//!
//! Broadcasts follow each other without a pause. Beside them, on a control connection of its own, a direct message
//! leaves at fixed times whether the last has arrived or not, to one of a few clients that are read before all
//! others. There is no floor: a loop of `send()` answers no client until it is through.

use crate::Result;
use crate::check::{Check, Faults};
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

    /// Sends the next one if its time has come.
    fn send_due(&mut self, first: usize, due: &mut Instant) -> Result<()> {
        if Instant::now() >= *due {
            self.send(first, *due)?;
            *due += EVERY;
        }
        Ok(())
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

/// The results of a span of time.
struct Latencies {
    /// In milliseconds, sorted.
    took: Vec<f64>,
    broadcasts: u64,
    faults: Faults,
    /// How often other processes of this machine took the server's core away.
    preempted: u64,
}

impl Latencies {
    fn at(&self, share: f64) -> f64 {
        let place = (self.took.len() as f64 * share) as usize;
        self.took.get(place.min(self.took.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }
}

/// Sends direct messages for `span`, with or without broadcasts beside them.
fn measure(arena: &mut Arena, clients: usize, span: Duration, broadcasting: bool) -> Result<Latencies> {
    let mut probes = Probes::new(arena, clients)?;
    let preempted = arena.server.preempted()?;
    let start = Instant::now();
    let mut due = start;
    let mut broadcasts = 0;
    while start.elapsed() < span {
        if broadcasting {
            broadcast(arena, &mut probes, &mut due)?;
            broadcasts += 1;
        } else {
            probes.poll()?;
            probes.send_due(clients, &mut due)?;
        }
    }
    let deadline = Instant::now() + TAIL;
    while probes.missing() > 0 && Instant::now() < deadline {
        probes.poll()?;
    }
    let mut took: Vec<f64> = probes.took.iter().flatten().map(|took| took.as_secs_f64() * 1e3).collect();
    took.sort_by(f64::total_cmp);
    let mut faults = std::mem::take(&mut arena.check.faults);
    faults.lost += probes.missing();
    faults.damaged += probes.wrong;
    probes.fleet.close()?;
    Ok(Latencies { took, broadcasts, faults, preempted: arena.server.preempted()? - preempted })
}

/// One broadcast, from its command until all have it, with the direct messages that are due meanwhile.
fn broadcast(arena: &mut Arena, probes: &mut Probes, due: &mut Instant) -> Result<()> {
    let clients = arena.fleet.len();
    let seqs = arena.take_seqs(1);
    let Arena { fleet, check, control, .. } = arena;
    let owed = control.broadcast(seqs, SIZE).to_vec();
    check.begin(clients);
    let deadline = Instant::now() + TAIL;
    while check.done() < clients && Instant::now() < deadline {
        control.flush()?;
        fleet.poll(|index, bytes| {
            check.feed(index, bytes, &owed);
        })?;
        probes.poll()?;
        probes.send_due(clients, due)?;
    }
    settle(check, clients, &owed);
    Ok(())
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
    let span = Duration::from_secs(if options.quick { 3 } else { 10 });
    let mut arena = Arena::new(options, Kind::Wsson)?;
    arena.fleet.grow(&arena.server, clients)?;
    arena.fleet.set_batch(BATCH);
    let idle = measure(&mut arena, clients, span / 2, false)?;
    arena.connect(clients)?;
    let loaded = measure(&mut arena, clients, span, true)?;
    let mut rows = Vec::new();
    for (name, share, goal) in [("p50", 0.5, None), ("p99", 0.99, Some(GOAL_MS)), ("worst", 1.0, None)] {
        let job = format!("direct while a broadcast to {clients} goes out, {name}");
        rows.push(Row::single(job, "ms", goal, loaded.at(share)));
    }
    rows[1].faults = loaded.faults;
    rows[1].faults.add(idle.faults);
    rows[1].note = format!(
        "{} direct messages beside {} broadcasts; without broadcasts p50 {:.2} ms, p99 {:.2} ms, worst {:.2} ms; \
         other processes took the server's core {} times (without broadcasts {})",
        loaded.took.len(),
        loaded.broadcasts,
        idle.at(0.5),
        idle.at(0.99),
        idle.at(1.0),
        loaded.preempted,
        idle.preempted
    );
    Ok(rows)
}
