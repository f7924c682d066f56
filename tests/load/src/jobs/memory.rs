//! Memory: what the process holds for connections that are open, authorised and silent; and that it sleeps.

use crate::Result;
use crate::measure::Arena;
use crate::options::{Kind, Options};
use crate::report::Row;
use std::time::Duration;

/// The design's goals.
const PER_CLIENT_BYTES: f64 = 256.0;
const PER_MEMBERSHIP_BYTES: f64 = 24.0;
/// Groups that all clients join in the end.
const GROUPS: usize = 10;
const FRESH_KIB: f64 = 4096.0;
const BINARY_KIB: f64 = 2048.0;
/// After which the time a handshake may take is over and forgotten.
const SETTLE: Duration = Duration::from_secs(6);
/// How long an idle server is watched. No timer of the configuration used is due in it.
const WATCH: Duration = Duration::from_secs(2);

/// Resident bytes of a fresh server, and with each number of clients.
struct Sizes {
    fresh: u64,
    loaded: Vec<u64>,
    /// The memory that the last of them took when all had joined [`GROUPS`].
    joined: u64,
    sleeps: u64,
}

fn sizes(options: &Options, kind: Kind, counts: &[usize]) -> Result<Sizes> {
    let mut arena = Arena::new(options, kind)?;
    // Asked once, so that what answering needs is not counted as a connection's.
    arena.control.clients()?;
    let fresh = arena.server.rss_bytes()?;
    let mut loaded = Vec::new();
    for count in counts {
        arena.connect(*count)?;
        loaded.push(arena.server.rss_bytes()?);
    }
    std::thread::sleep(SETTLE);
    let before = arena.server.sleeps()?;
    std::thread::sleep(WATCH);
    let sleeps = arena.server.sleeps()? - before;
    let groups: Vec<String> = (0..GROUPS).map(|group| format!("group{group}")).collect();
    let idle = arena.server.rss_bytes()?;
    arena.control.join(&groups.join(","), arena.fleet.len())?;
    let joined = arena.server.rss_bytes()?.saturating_sub(idle);
    Ok(Sizes { fresh, loaded, joined, sleeps })
}

pub fn rows(options: &Options) -> Result<Vec<Row>> {
    let counts: &[usize] = if options.quick { &[1_000, 10_000] } else { &[1_000, 10_000, 19_000] };
    let floor = sizes(options, Kind::Floor, counts)?;
    let subject = sizes(options, options.subject, counts)?;
    let mut rows = Vec::new();
    for (at, count) in counts.iter().enumerate() {
        let each = |sizes: &Sizes| sizes.loaded[at].saturating_sub(sizes.fresh) as f64 / *count as f64;
        // At 1,000 connections whole pages and tables that grow by doubling still decide; the goal is for more.
        let goal = (*count >= 10_000).then_some(PER_CLIENT_BYTES);
        rows.push(absolute(
            format!("idle memory per connection, {count}"),
            "B",
            goal,
            each(&floor),
            each(&subject),
        ));
    }
    let last = counts[counts.len() - 1];
    rows.push(Row::single(
        format!("memory of a membership, {last} in {GROUPS} groups each"),
        "B",
        Some(PER_MEMBERSHIP_BYTES),
        subject.joined as f64 / (last * GROUPS) as f64,
    ));
    let kib = |bytes: u64| bytes as f64 / 1024.0;
    rows.push(absolute(
        "fresh server, RSS".into(),
        "KiB",
        Some(FRESH_KIB),
        kib(floor.fresh),
        kib(subject.fresh),
    ));
    if options.subject == Kind::Wsson {
        let size = std::fs::metadata(&options.binary)?.len();
        rows.push(Row::single("release binary", "KiB", Some(BINARY_KIB), kib(size)));
    }
    let idle = format!("wake-ups in {} s, idle, {} clients", WATCH.as_secs(), counts[counts.len() - 1]);
    rows.push(absolute(idle, "", Some(0.0), floor.sleeps as f64, subject.sleeps as f64));
    Ok(rows)
}

fn absolute(job: String, unit: &'static str, goal: Option<f64>, floor: f64, subject: f64) -> Row {
    let mut row = Row::single(job, unit, goal, subject);
    row.floor = Row::single("", unit, None, floor).subject;
    row
}
