//! `wsson status`: the state of a running server, on one screen or as the JSON it sends, once or every second.
//!
//! It shows the server's report ([`screen`](super::screen)); of its own it computes the changes between two looks.

use super::args::Args;
use super::link::{self, Door, LinkError};
use super::screen::{Look, screen};
use super::{Exit, Failure, Outcome, load, say, warn};
use crate::config::Settings;
use crate::daemon::pidfile::{self, Stage, State};
use crate::wire::json;
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often `--watch` looks.
const EVERY: Duration = Duration::from_secs(1);
/// To the first line, and everything below it away: the escape sequences of ECMA-48 that every terminal knows.
const FROM_THE_TOP: &str = "\x1b[H\x1b[J";

pub(crate) fn run(args: &Args) -> Outcome {
    let settings = load::addresses(args)?;
    let door = Door::chosen(args, &settings)?;
    let mut before: Option<Look> = None;
    loop {
        let report = match ask(&door) {
            Ok(report) => report,
            Err(error) => return Ok(absent(args, &settings, &door, &error)),
        };
        before = Some(show(args, &door.address, &report, before.as_ref())?);
        if !args.has("watch") {
            return Ok(Exit::Done);
        }
        std::thread::sleep(EVERY);
    }
}

/// Shows one report, and the changes since the last one.
fn show(args: &Args, address: &str, report: &str, before: Option<&Look>) -> Result<Look, Failure> {
    let no_status = || {
        Failure::new(Exit::NotPermitted, format!("what {address} answers is not a status"))
            .or("wsson doctor, which finds out what listens there")
    };
    let look = Look { report: json::parse(report).ok_or_else(no_status)?, at: Instant::now() };
    let page = match args.has("json") {
        true => format!("{report}\n"),
        false if !args.has("watch") => screen(&look, None),
        false if std::io::stdout().is_terminal() => format!("{FROM_THE_TOP}{}", screen(&look, before)),
        false => format!("{}\n", screen(&look, before)),
    };
    say(&page)?;
    Ok(look)
}

/// The status as the server wrote it.
fn ask(door: &Door) -> Result<String, LinkError> {
    let frames = link::exchange(door, b"0t")?;
    let report = frames.into_iter().find(|frame| frame.command == b'T').map(|frame| frame.payload);
    report
        .and_then(|report| String::from_utf8(report).ok())
        .ok_or_else(|| LinkError::NoAnswer(format!("{door} did not answer with a status; is this wsson?")))
}

/// Tells why there is no status. Only with the configured address does the PID file say something about it.
fn absent(args: &Args, settings: &Settings, door: &Door, error: &LinkError) -> Exit {
    warn(&format_args!("wsson: {error}"));
    let LinkError::Unreachable(_) = error else { return Exit::NotPermitted };
    match settings.pid.as_deref().filter(|_| !args.has("control")) {
        Some(pid) => by_pid_file(pid, &door.address),
        None => Exit::Stopped,
    }
}

/// No server listens: the lock of the PID file distinguishes a dead server from one that starts or stops.
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
