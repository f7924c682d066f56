//! `wsson status`: what a running server does, on one screen or as the JSON it sends.
//!
//! It shows what the server says and computes nothing of its own, so the two forms cannot differ.

use super::args::Args;
use super::json::Json;
use super::link::{self, LinkError};
use super::{Exit, Failure, Outcome, load, say, warn};
use crate::config::Settings;
use crate::daemon::pidfile::{self, Stage, State};
use std::fmt::Write;
use std::path::Path;

pub(crate) fn run(args: &Args) -> Outcome {
    let settings = load::addresses(args)?;
    let address = load::control_address(args, &settings)?;
    let report = match ask(&address) {
        Ok(report) => report,
        Err(error) => return Ok(absent(args, &settings, &error)),
    };
    if args.has("json") {
        return say(&(report + "\n"));
    }
    match Json::parse(&report) {
        Some(report) => say(&screen(&report)),
        None => Err(Failure::new(Exit::NotPermitted, format!("what {address} answers is not a status"))),
    }
}

/// The status as the server wrote it.
fn ask(address: &str) -> Result<String, LinkError> {
    let frames = link::exchange(address, b"0t")?;
    let report = frames.into_iter().find(|frame| frame.command == b'T').map(|frame| frame.payload);
    report
        .and_then(|report| String::from_utf8(report).ok())
        .ok_or_else(|| LinkError::NoAnswer(format!("{address} did not answer with a status; is this wsson?")))
}

/// Tells why there is no status. Only with the configured address does the PID file say something about it.
fn absent(args: &Args, settings: &Settings, error: &LinkError) -> Exit {
    warn(&format_args!("wsson: {error}"));
    let LinkError::Unreachable(_) = error else { return Exit::NotPermitted };
    match settings.pid.as_deref().filter(|_| !args.has("control")) {
        Some(pid) => by_pid_file(pid, &settings.control),
        None => Exit::Stopped,
    }
}

/// Nobody listens: the lock of the PID file tells a dead server from one that starts or stops.
fn by_pid_file(path: &Path, control: &str) -> Exit {
    match pidfile::state(path) {
        Ok(State::Absent) => Exit::Stopped,
        Ok(State::Stale) => {
            warn(&format_args!("  not running, but its PID file {} is there", path.display()));
            Exit::Failed
        }
        Ok(State::Held(holder)) => {
            warn(&format_args!("  {holder} {}", doing(holder.stage, control)));
            Exit::NotPermitted
        }
        Err(failure) => {
            warn(&format_args!("wsson: {failure}"));
            Exit::NotPermitted
        }
    }
}

/// Why a server that holds the PID file cannot be reached.
fn doing(stage: Stage, control: &str) -> String {
    let swept = control.strip_prefix("unix://").is_some_and(|path| !Path::new(path).exists());
    match stage {
        Stage::Starting => "is starting".into(),
        Stage::Stopping => "is stopping".into(),
        Stage::Ready if swept => {
            "runs, but the file of its control socket has gone\n  try: wsson reload, which makes it anew"
                .into()
        }
        Stage::Ready => {
            format!("runs, but does not listen at {control}: it was started with another `control`")
        }
    }
}

/// One screen for people. A field that the server does not send is shown as a dash.
fn screen(report: &Json) -> String {
    let show = Fields { report };
    let mut page = format!(
        "wsson {}, pid {}, up {}\n",
        show.text("version"),
        show.count("pid"),
        show.number("uptime_s").map_or("-".into(), duration)
    );
    listeners(&mut page, report);
    let mut line = |name: &str, text: String| {
        let _ = writeln!(page, "{name:<12}{text}");
    };
    let count = |field| show.count(field);
    let size = |field| show.number(field).map_or("-".into(), bytes);
    line(
        "clients",
        format!(
            "{} open, {} at most; {} not logged in yet, {} on their way out",
            count("clients"),
            count("clients_peak"),
            count("unauthenticated"),
            count("closing")
        ),
    );
    line("backends", format!("{} connected, {} locks", count("backends"), count("locks")));
    line(
        "messages",
        format!(
            "{} in, {} out; {} broadcasts, {} directs",
            count("messages_in"),
            count("messages_out"),
            count("broadcasts"),
            count("directs")
        ),
    );
    line(
        "traffic",
        format!("{} in, {} out; {} waiting", size("bytes_in"), size("bytes_out"), size("queued_bytes")),
    );
    line("refused", tally(report.get("refused")));
    line("closed", tally(report.get("closed")));
    line("trouble", format!("{} overflows, {} errors", count("overflows"), count("errors")));
    reloads(report.get("reload")).iter().for_each(|text| line("reload", text.clone()));
    line("memory", format!("{}; {} of {} descriptors", size("rss_bytes"), count("fds"), count("fds_max")));
    page
}

/// What the last reload has left to do; nothing when all is well.
fn reloads(reload: Option<&Json>) -> Vec<String> {
    let Some(reload) = reload else { return Vec::new() };
    let failed = reload.get("error").and_then(Json::text);
    let failed = failed.map(|why| format!("failed, and changed nothing: {}", printable(why)));
    let keys = reload.get("restart").map_or(&[] as &[Json], Json::items);
    let keys: Vec<String> = keys.iter().filter_map(|key| Some(printable(key.text()?))).collect();
    let restart = (!keys.is_empty()).then(|| format!("needs a restart: {}", keys.join(", ")));
    failed.into_iter().chain(restart).collect()
}

/// Whatever answers at that address, it must not drive the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn listeners(page: &mut String, report: &Json) {
    let listeners = report.get("listeners").map_or(&[] as &[Json], Json::items);
    for (place, listener) in listeners.iter().enumerate() {
        let name = if place == 0 { "listeners" } else { "" };
        let show = Fields { report: listener };
        let domain = listener
            .get("domain")
            .and_then(Json::text)
            .map_or(String::new(), |_| format!(" ({})", show.text("domain")));
        let (clients, accepted) = (show.count("clients"), show.count("accepted"));
        let _ = writeln!(
            page,
            "{name:<12}{}{domain}: {clients} clients, {accepted} accepted",
            show.text("address")
        );
    }
}

/// The fields of an object, as they are shown.
struct Fields<'r> {
    report: &'r Json,
}

impl Fields<'_> {
    fn number(&self, field: &str) -> Option<u64> {
        self.report.get(field)?.count()
    }

    fn count(&self, field: &str) -> String {
        self.number(field).map_or("-".into(), |number| number.to_string())
    }

    fn text(&self, field: &str) -> String {
        printable(self.report.get(field).and_then(Json::text).unwrap_or("-"))
    }
}

/// `12: bad_origin 10, expired 2`, the most frequent first.
fn tally(counts: Option<&Json>) -> String {
    let fields = counts.map_or(&[] as &[(String, Json)], Json::fields);
    let mut counts: Vec<(&str, u64)> = fields
        .iter()
        .filter_map(|(name, count)| Some((name.as_str(), count.count()?)))
        .filter(|(_, n)| *n > 0)
        .collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let total: u64 = counts.iter().map(|(_, count)| count).sum();
    let parts: Vec<String> =
        counts.iter().map(|(name, count)| format!("{} {count}", name.escape_debug())).collect();
    match parts.is_empty() {
        true => "0".into(),
        false => format!("{total}: {}", parts.join(", ")),
    }
}

/// `3 d 4 h`, `4 h 5 min`, `5 min 6 s`, `7 s`: the two largest units.
fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if days > 0 => format!("{days} d {} h", hours % 24),
        () if hours > 0 => format!("{hours} h {} min", minutes % 60),
        () if minutes > 0 => format!("{minutes} min {} s", seconds % 60),
        () => format!("{seconds} s"),
    }
}

/// `3.4 MiB`: one digit behind the point, in the largest unit that is not below one.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = (1..UNITS.len()).rev().find(|power| count >> (10 * power) > 0).unwrap_or(0);
    match power {
        0 => format!("{count} B"),
        _ => format!("{:.1} {}", count as f64 / (1_u64 << (10 * power)) as f64, UNITS[power]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_short() {
        let times = [59, 60, 3_599, 3_600, 86_399, 90_000].map(duration);
        assert_eq!(times, ["59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "23 h 59 min", "1 d 1 h"]);
        let sizes = [0, 1023, 1024, 1536 * 1024, u64::MAX].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "16777216.0 TiB"]);
    }

    #[test]
    fn counts_are_added_up_and_sorted() {
        let counts = Json::parse(r#"{"1000":2,"1001":0,"1006":7}"#);
        assert_eq!(tally(counts.as_ref()), "9: 1006 7, 1000 2");
        assert_eq!(tally(None), "0");
    }

    /// What the server writes is what the screen reads: every field of its report has a place.
    #[test]
    fn the_servers_own_report_has_no_gap() {
        let mut stats = crate::stats::Stats::default();
        stats.refuse("origin");
        stats.close(1000);
        let listener = crate::stats::ListenerReport {
            address: "tcp://127.0.0.1:1".into(),
            domain: Some("d:1\u{1b}".into()),
            ..Default::default()
        };
        let report = crate::stats::Report {
            stats: Some(&stats),
            listeners: &[listener],
            uptime_s: 61,
            ..Default::default()
        };
        let screen = screen(&Json::parse(&report.json()).expect("the report is JSON"));
        assert!(!screen.contains(" -") && !screen.contains("- "), "{screen}");
        assert!(screen.contains("up 1 min 1 s"), "{screen}");
        assert!(screen.contains("listeners   tcp://127.0.0.1:1 (d:1?): 0 clients, 0 accepted"), "{screen}");
        assert!(screen.contains("refused     1: origin 1\nclosed      1: 1000 1"), "{screen}");
    }
}
