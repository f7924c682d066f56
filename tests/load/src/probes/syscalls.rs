//! System calls per operation: the server runs below `strace -c` twice, the second time with twice as many
//! operations; what differs is theirs.
//!
//! `epoll_wait` is shown beside the figure, not in it: how many operations one of them serves depends on timing, and
//! strace makes the server slow.

use super::{PROBES, Probe};
use crate::Result;
use crate::folder::Folder;
use crate::measure::Arena;
use crate::options::{Kind, Options};
use crate::report::{Report, Row};
use crate::server::Server;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long strace may take to write its summary after the server has ended.
const SUMMARY_MAX: Duration = Duration::from_secs(10);

type Counts = BTreeMap<String, u64>;

pub fn run(options: &Options) -> Result<Report> {
    let title =
        "## System calls per operation (strace)\n\nWithout epoll_wait, which is among the notes.".into();
    let mut report = Report { title, rows: Vec::new() };
    let folder = Folder::new()?;
    let file = folder.path().join("strace");
    let wanted = |probe: &&Probe| options.wants(probe.group) && (probe.each > 1.0 || probe.clients > 50);
    for probe in PROBES.iter().filter(wanted) {
        eprintln!("wsson-load: {}", probe.name);
        report.rows.push(row(options, probe, &file).unwrap_or_else(|error| Row::failed(probe.name, &error)));
    }
    Ok(report)
}

fn row(options: &Options, probe: &Probe, file: &Path) -> Result<Row> {
    let (subject, note, faults) = per_operation(options, options.subject, probe, file)?;
    let (floor, floor_note, _) = per_operation(options, Kind::Floor, probe, file)?;
    let mut row = Row::single(probe.name, "calls", probe.goals[0], subject);
    row.floor = Row::single("", "", None, floor).subject;
    row.faults = faults;
    row.note = format!("{note} (floor: {floor_note})");
    Ok(row)
}

/// Calls of one operation, and which they are.
fn per_operation(
    options: &Options,
    kind: Kind,
    probe: &Probe,
    file: &Path,
) -> Result<(f64, String, crate::check::Faults)> {
    let (once, less, mut faults) = count(options, kind, probe, probe.times, file)?;
    let (twice, more, others) = count(options, kind, probe, 2 * probe.times, file)?;
    faults.add(others);
    let operations = (more - less) as f64 / probe.each;
    let mut sum = 0.0;
    let mut note = Vec::new();
    for (name, count) in &twice {
        let each = (*count as f64 - once.get(name).copied().unwrap_or(0) as f64) / operations;
        if name != "epoll_wait" && name != "epoll_pwait" {
            sum += each;
        }
        if each >= 0.001 {
            note.push(format!("{name} {each:.3}"));
        }
    }
    Ok((sum, note.join(", "), faults))
}

/// One life of a server below strace, from start to end.
fn count(
    options: &Options,
    kind: Kind,
    probe: &Probe,
    times: usize,
    file: &Path,
) -> Result<(Counts, u64, crate::check::Faults)> {
    let _ = std::fs::remove_file(file);
    // -D leaves the server our own child, so that it can be asked to end.
    let words = ["strace", "-D", "-f", "-c", "-o"].map(str::to_owned).into_iter();
    let wrapper: Vec<String> = words.chain([file.display().to_string()]).collect();
    let options = &Options { has_users: probe.has_users, forwards: probe.forwards, ..options.clone() };
    let (server, control) = Server::start_under(options, kind, &wrapper)?;
    let mut arena = Arena::of(server, control)?;
    let mut job = probe.job();
    arena.connect(probe.clients)?;
    job.prepare(&mut arena)?;
    let operations = job.run(&mut arena, times)?;
    arena.disconnect()?;
    let faults = arena.check.faults;
    let Arena { server, control, .. } = arena;
    server.stop()?;
    drop(control);
    let counts = summary(file)?;
    std::fs::remove_file(file)?;
    Ok((counts, operations, faults))
}

/// Waits for strace's table and reads it: the fourth column is the number of calls, the last the name.
fn summary(file: &Path) -> Result<Counts> {
    let deadline = Instant::now() + SUMMARY_MAX;
    loop {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if text.lines().any(|line| line.ends_with(" total")) {
            return Ok(parse(&text));
        }
        if Instant::now() > deadline {
            return Err("strace wrote no summary".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn parse(text: &str) -> Counts {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (count, name) = (fields.get(3)?.parse().ok()?, *fields.last()?);
        (name != "total").then(|| (name.to_owned(), count))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        let text = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 99.00    0.000100           1       500           sendto
  1.00    0.000001           1        12         3 recvfrom
------ ----------- ----------- --------- --------- ----------------
100.00    0.000101           1       512         3 total
";
        let counts = parse(text);
        assert_eq!(counts.get("sendto"), Some(&500));
        assert_eq!(counts.get("recvfrom"), Some(&12));
        assert_eq!(counts.len(), 2);
    }
}
