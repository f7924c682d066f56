//! The jobs of a benchmark, in the order of the goals in the design's performance page.

mod broadcast;
mod echo;

use crate::measure::{Job, duel};
use crate::options::Options;
use crate::report::{Goal, Report, Row};
use crate::Result;
use broadcast::Broadcast;
use echo::Echo;

/// Runs what was asked for. A job that fails is a row that says why; the others still run.
pub fn run(options: &Options) -> Result<Report> {
    let mut report = Report { title: title(options), ..Report::default() };
    let mut rows = |name: &str, of: fn(&Options) -> Vec<Row>| {
        if options.wants(name) {
            eprintln!("wsson-load: {name} …");
            report.rows.extend(of(options));
        }
    };
    rows("broadcast", broadcasts);
    rows("echo", echoes);
    Ok(report)
}

fn title(options: &Options) -> String {
    format!(
        "## wsson beside the floor\n\n{} rounds, server on core {}, generator on core {}, loopback, {} control socket.",
        options.rounds,
        options.server_core,
        options.generator_core,
        if options.control_tcp { "TCP" } else { "Unix" }
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

fn broadcasts(options: &Options) -> Vec<Row> {
    let list: &[_] = if options.quick { &BROADCASTS_QUICK } else { &BROADCASTS };
    let each = |&(size, waiting, clients): &(usize, u64, usize)| {
        let (how, goal) = if waiting == 1 { ("one at a time".into(), 1.03) } else { (format!("{waiting} waiting"), 1.15) };
        let name = format!("broadcast {size} B, {how}, {clients} clients");
        row(options, name, goal, clients, move || Box::new(Broadcast::new(size, waiting)))
    };
    list.iter().map(each).collect()
}

fn echoes(options: &Options) -> Vec<Row> {
    let each = |(under_way, goal)| {
        let name = format!("echo 64 B, {under_way} under way, 1000 clients");
        row(options, name, goal, 1_000, move || Box::new(Echo::new(64, under_way)))
    };
    [(1, 1.03), (16, 0.90)].into_iter().map(each).collect()
}
