//! The jobs of a benchmark, in the order of the goals in the design's performance page.

mod broadcast;
mod direct;
mod echo;
mod forward;
mod handshake;
mod latency;
mod memory;
mod write;

pub use broadcast::Broadcast;
pub use direct::Direct;
pub use echo::Echo;
pub use forward::Forward;
pub use handshake::Handshake;
pub use write::{To, Write};

use crate::Result;
use crate::measure::{Job, Spread, duel};
use crate::options::Options;
use crate::report::{Goal, Report, Row};

/// Does one group of jobs.
type Rows = fn(&Options) -> Result<Vec<Row>>;

/// Runs what was asked for. A job that fails is a row that says why; the others still run.
pub fn run(options: &Options) -> Result<Report> {
    let mut report = Report { title: title(options), ..Report::default() };
    let jobs: [(&str, Rows); 8] = [
        ("memory", memory::rows),
        ("handshake", handshakes),
        ("broadcast", broadcasts),
        ("echo", echoes),
        ("direct", directs),
        ("write", writes),
        ("latency", latency::rows),
        ("growth", growth),
    ];
    for (name, of) in jobs {
        if options.wants(name) {
            eprintln!("wsson-load: {name}");
            report.rows.extend(of(options).unwrap_or_else(|error| vec![Row::failed(name, &error)]));
        }
    }
    Ok(report)
}

fn title(options: &Options) -> String {
    format!(
        "## wsson beside the floor\n\nLoopback, server on core {}, generator on core {}, {} control socket{}.",
        options.server_core,
        options.generator_core,
        if options.control_tcp { "TCP" } else { "Unix" },
        if options.quick { ", quick run" } else { "" }
    )
}

/// Lets the two play and makes a row of it.
fn row(options: &Options, name: String, goal: f64, clients: usize, make: impl Fn() -> Box<dyn Job>) -> Row {
    eprintln!("wsson-load:   {name}");
    match duel(options, clients, &mut || make()) {
        Ok(figures) => Row::of(name, Some(Goal::Ratio(goal)), &figures),
        Err(error) => Row::failed(name, &error),
    }
}

fn handshakes(options: &Options) -> Result<Vec<Row>> {
    let each = |(together, how): (usize, &str)| {
        let figures = handshake::duel(options, together)?;
        Ok(Row::of(format!("handshake, authorised, {how}"), Some(Goal::Ratio(1.15)), &figures))
    };
    [(1, "one at a time"), (128, "128 together")].into_iter().map(each).collect()
}

/// Size, messages waiting, clients.
const BROADCASTS: [(usize, u64, usize); 10] = [
    (64, 1, 1_000),
    (1024, 1, 1_000),
    (16 * 1024, 1, 1_000),
    (64, 1, 10_000),
    (16 * 1024, 1, 10_000),
    (64, 1, 19_000),
    (64, 16, 1_000),
    (1024, 16, 1_000),
    (64, 16, 10_000),
    (64, 16, 19_000),
];
const BROADCASTS_QUICK: [(usize, u64, usize); 5] =
    [(64, 1, 1_000), (16 * 1024, 1, 1_000), (64, 1, 10_000), (64, 16, 1_000), (64, 16, 10_000)];

fn broadcasts(options: &Options) -> Result<Vec<Row>> {
    let list: &[_] = if options.quick { &BROADCASTS_QUICK } else { &BROADCASTS };
    let each = |&(size, waiting, clients): &(usize, u64, usize)| {
        let (how, goal) = match waiting {
            1 => ("one at a time".into(), 1.03),
            _ => (format!("{waiting} waiting"), 1.15),
        };
        let name = format!("broadcast {size} B, {how}, {clients} clients");
        row(options, name, goal, clients, move || Box::new(Broadcast::new(size, waiting)))
    };
    Ok(list.iter().map(each).collect())
}

fn echoes(options: &Options) -> Result<Vec<Row>> {
    let each = |(under_way, goal)| {
        let name = format!("echo 64 B, {under_way} under way, 1000 clients");
        row(options, name, goal, 1_000, move || Box::new(Echo::new(64, under_way)))
    };
    Ok([(1, 1.03), (16, 0.90)].into_iter().map(each).collect())
}

fn directs(options: &Options) -> Result<Vec<Row>> {
    let each = |(letter, under_way, goal)| {
        let name = format!("direct {letter} 64 B, {under_way} under way, 1000 clients");
        row(options, name, goal, 1_000, move || Box::new(Direct::new(letter, 64, under_way)))
    };
    Ok([('d', 1, 1.03), ('c', 1, 1.03), ('d', 64, 0.95), ('c', 64, 0.95)].into_iter().map(each).collect())
}

/// A write to a group may cost this much of the same by broadcast.
const GROUP_WRITE: f64 = 1.05;

fn writes(options: &Options) -> Result<Vec<Row>> {
    let each = |clients| {
        let name = format!("write to a group 64 B, one at a time, {clients} clients");
        row(options, name, 1.03 * GROUP_WRITE, clients, || Box::new(Write::new(To::Group, 64)))
    };
    Ok([1_000, 10_000].into_iter().map(each).collect())
}

/// The same job with few and with many connections: the ratio to the floor must not grow, for the floor's own cost
/// grows with the kernel's caches.
fn growth(options: &Options) -> Result<Vec<Row>> {
    let many = if options.quick { 10_000 } else { 19_000 };
    let mut rows = Vec::new();
    let mut both = |what: &str, goal: f64, make: &dyn Fn() -> Box<dyn Job>| {
        let pair = [100, many]
            .map(|clients| row(options, format!("{what}, {clients} clients"), goal, clients, make));
        rows.push(growth_row(what, many, &pair));
        rows.extend(pair);
    };
    both("growth: broadcast 64 B", 1.03, &|| Box::new(Broadcast::new(64, 1)));
    both("growth: direct d 64 B, 64 under way", 0.95, &|| Box::new(Direct::new('d', 64, 64)));
    Ok(rows)
}

/// A growth of the ratio by less than this is the noise of the machine.
const GROWTH_MAX: f64 = 1.05;

fn growth_row(what: &str, many: usize, [few, lots]: &[Row; 2]) -> Row {
    let mut row =
        Row::new(format!("{what}, ratio at {many} over ratio at 100"), "×", Some(Goal::AtMost(GROWTH_MAX)));
    if let (Some(few), Some(lots)) = (few.ratio, lots.ratio) {
        row.subject = Some(Spread::of([lots.median / few.median]));
    }
    row
}
