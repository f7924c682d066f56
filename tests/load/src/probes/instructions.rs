//! User-space instructions per operation: the server runs in callgrind, which the probe makes write its counters before
//! and after a number of operations. No symbols are needed.

use super::{PROBES, Probe};
use crate::Result;
use crate::check::Faults;
use crate::folder::Folder;
use crate::measure::Arena;
use crate::options::{Kind, Options};
use crate::report::{Goal, Report, Row};
use crate::server::Server;
use std::path::Path;
use std::process::{Command, Stdio};

pub fn run(options: &Options) -> Result<Report> {
    let title = "## User-space instructions per operation (callgrind)".into();
    let mut report = Report { title, rows: Vec::new() };
    let folder = Folder::new()?;
    for probe in PROBES.iter().filter(|probe| options.wants(probe.group)) {
        eprintln!("wsson-load: {}", probe.name);
        let mut row =
            row(options, probe, folder.path()).unwrap_or_else(|error| Row::failed(probe.name, &error));
        if let Some((other, share)) = probe.against {
            hold_against(&mut row, &report.rows, other, share);
        }
        report.rows.push(row);
    }
    Ok(report)
}

/// Says for each probe whether it costs more than it has come to cost, a line each.
///
/// # Errors
/// When one does, or a job could not be done.
pub fn guard(options: &Options) -> Result<()> {
    let folder = Folder::new()?;
    let mut all_hold = true;
    for probe in PROBES.iter().filter(|probe| options.wants(probe.group)) {
        let found = count(options, options.subject, probe, folder.path());
        let (holds, what) = match found {
            Ok((found, faults)) => {
                let what = format!("{found:.0} instructions, at most {:.0}", probe.guard);
                (found <= probe.guard && faults.total() == 0, what)
            }
            Err(error) => (false, error.to_string()),
        };
        println!("{} {}: {what}", if holds { "ok" } else { "not ok" }, probe.name);
        all_hold &= holds;
    }
    if all_hold {
        Ok(())
    } else {
        Err("an operation costs more than it did: see tests/load/README.md".into())
    }
}

/// Gives a row the goal that is a share of what another row has come to.
fn hold_against(row: &mut Row, rows: &[Row], other: &str, share: f64) {
    let found = rows.iter().find(|row| row.job == other).and_then(|row| row.subject);
    if let (Some(mine), Some(other_is)) = (row.subject, found) {
        row.goal = Some(Goal::AtMost(share * other_is.median));
        row.note = format!("{:.3} × {other} (goal ≤ {share} ×)", mine.median / other_is.median);
    }
}

fn row(options: &Options, probe: &Probe, folder: &Path) -> Result<Row> {
    let (floor, _) = count(options, Kind::Floor, probe, folder)?;
    let (subject, faults) = count(options, options.subject, probe, folder)?;
    // The goals are per message, also where several came together.
    let mut row = Row::single(probe.name, "instr.", probe.goals[1], subject);
    row.floor = Row::single("", "", None, floor).subject;
    row.faults = faults;
    Ok(row)
}

/// Instructions of one operation as the job counts them.
fn count(options: &Options, kind: Kind, probe: &Probe, folder: &Path) -> Result<(f64, Faults)> {
    let out = folder.join("out");
    let words =
        ["valgrind".into(), "--tool=callgrind".into(), format!("--callgrind-out-file={}", out.display())];
    let options = &Options { has_users: probe.has_users, forwards: probe.forwards, ..options.clone() };
    let (server, control) = Server::start_under(options, kind, &words)?;
    let mut arena = Arena::of(server, control)?;
    let mut job = probe.job();
    arena.connect(probe.clients)?;
    job.prepare(&mut arena)?;
    job.run(&mut arena, 1)?;
    dump(&arena.server)?;
    let operations = job.run(&mut arena, probe.times)?;
    dump(&arena.server)?;
    let faults = arena.check.faults;
    arena.disconnect()?;
    let Arena { server, .. } = arena;
    server.stop()?;
    // Each dump starts the counters anew: the second is the window.
    let window = folder.join("out.2");
    let instructions = total(&window)?;
    if let Some(keep) = &options.keep {
        std::fs::copy(&window, keep.join(format!("{kind:?} {}", probe.name).replace([' ', ','], "-")))?;
    }
    for part in ["out", "out.1", "out.2", "out.3"] {
        let _ = std::fs::remove_file(folder.join(part));
    }
    Ok((instructions as f64 / operations as f64, faults))
}

/// Makes callgrind write its counters and set them back.
fn dump(server: &Server) -> Result<()> {
    let pid = format!("--pid={}", server.pid());
    let done = Command::new("vgdb")
        .args([pid.as_str(), "dump"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if done.success() { Ok(()) } else { Err("callgrind does not take orders".into()) }
}

fn total(file: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix("summary: "));
    Ok(line.ok_or("callgrind wrote no summary")?.trim().parse()?)
}
