//! `wsson reload`: the running server reads its configuration again, and the command prints the outcome.
//!
//! The outcome comes from the server, not from this process: only the server has the environment and the credentials it
//! was started with. What this process can see as well, a file that is not TOML or has a key that there is not, is an
//! error before any process is signalled.

use super::args::Args;
use super::link::{self, Door, LinkError};
use super::service::{Server, holder, nobody, pid_path, signal, tell};
use super::{Exit, Failure, Outcome, load, say};
use crate::Settings;
use crate::sys;
use crate::wire::json;
use serde_json::Value;
use std::time::{Duration, Instant};

/// How long the outcome is waited for: a server applies a file in milliseconds.
const RELOADING: Duration = Duration::from_secs(10);
/// How often it asks.
const ASK: Duration = Duration::from_millis(20);

pub(crate) fn run(args: &Args) -> Outcome {
    let args = args.anchored();
    let settings = load::file(&args)?;
    tell(&settings);
    let path = pid_path(&settings)?;
    let Some(server) = holder(path)? else {
        nobody(&settings)?;
        return Err(Failure::new(Exit::NotRunning, "no server runs").or("wsson start"));
    };
    let before = outcome(&settings).map(|outcome| outcome.map_or(0, |outcome| outcome.count));
    signal(&server, sys::SIGHUP)?;
    match before {
        Ok(before) => report(&settings, &server, before),
        // The socket's file may have been swept away; a reload makes it anew.
        Err(LinkError::Unreachable(_)) => report(&settings, &server, 0),
        Err(error) => say(&format!(
            "wsson: the server reads its configuration again; its log tells the outcome, as it cannot be asked: \
             {error}\n"
        )),
    }
}

struct Reloaded {
    count: u64,
    applied: Vec<String>,
    restart: Vec<String>,
    kept: Vec<String>,
    error: Option<String>,
}

fn ask(settings: &Settings) -> Result<Option<Value>, LinkError> {
    let frames = link::exchange(&Door::of(settings)?, b"0t")?;
    let report = frames.into_iter().find(|frame| frame.command == b'T');
    Ok(report.and_then(|report| json::parse(std::str::from_utf8(&report.payload).ok()?)))
}

/// The report of the server at the control address; `None` when it cannot be asked.
pub(super) fn status(settings: &Settings) -> Option<Value> {
    ask(settings).ok().flatten()
}

/// Its report of the last reload.
fn outcome(settings: &Settings) -> Result<Option<Reloaded>, LinkError> {
    Ok(ask(settings)?.as_ref().and_then(reloaded))
}

fn reloaded(report: &Value) -> Option<Reloaded> {
    let reload = report.get("reload")?;
    let names = |field| {
        let items = json::items(reload, field);
        items.iter().filter_map(|item| Some(item.as_str()?.to_owned())).collect()
    };
    Some(Reloaded {
        count: reload.get("count")?.as_u64()?,
        applied: names("applied"),
        restart: names("restart"),
        kept: names("kept"),
        error: reload.get("error").and_then(Value::as_str).map(str::to_owned),
    })
}

fn report(settings: &Settings, server: &Server, before: u64) -> Outcome {
    let begin = Instant::now();
    let reloaded = loop {
        let outcome = outcome(settings).ok().flatten();
        match outcome.filter(|outcome| outcome.count > before) {
            Some(reloaded) => break reloaded,
            None if begin.elapsed() > RELOADING => {
                let seconds = RELOADING.as_secs();
                let text = format!(
                    "the server with PID {} has not told at {} within {seconds} seconds what came of its reload",
                    server.pid,
                    settings.control.join(", ")
                );
                return Err(Failure::new(Exit::Failed, text).or("its log"));
            }
            None => std::thread::sleep(ASK),
        }
    };
    match reloaded.error {
        Some(error) => Err(Failure::new(Exit::Failed, format!("the server has not reloaded: {error}")).or(
            "wsson check, which says more; nothing has changed, and the server goes on with what it has",
        )),
        None => say(&summary(&reloaded)),
    }
}

fn summary(reloaded: &Reloaded) -> String {
    let mut text = String::new();
    if !reloaded.applied.is_empty() {
        text += &format!("applied: {}\n", reloaded.applied.join(", "));
    }
    if !reloaded.restart.is_empty() {
        text += &format!("needs a restart: {}\n", reloaded.restart.join(", "));
    }
    for why in &reloaded.kept {
        text += &format!("kept as it was, until a restart: {why}\n");
    }
    if text.is_empty() { "nothing has changed\n".into() } else { text }
}
