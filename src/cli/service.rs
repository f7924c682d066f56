//! `wsson run`, `start`, `stop`, `restart`, `reload`: the server as a service.
//!
//! The PID file's lock says whether a server runs, and the kernel says whose lock it is: nobody else is ever
//! signalled. A configuration is always read before a running server is touched.

use super::args::Args;
use super::json::Json;
use super::{Exit, Failure, Outcome, check, link, load, say, warn};
use crate::Settings;
use crate::daemon::detach::{self, Detached};
use crate::daemon::pidfile::{self, Stage, State};
use crate::daemon::{log, service};
use crate::sys::{self, Process};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long `stop` waits beyond `timeouts.drain`.
const MARGIN: Duration = Duration::from_secs(10);
/// A dot per second on a terminal.
const DOT: Duration = Duration::from_secs(1);
/// How long `reload` waits for the outcome: a server applies a file in milliseconds.
const RELOADING: Duration = Duration::from_secs(10);
/// How often it asks.
const ASK: Duration = Duration::from_millis(20);

pub(crate) fn run(args: &Args) -> Outcome {
    let args = args.anchored();
    let settings = load::settings(&args)?;
    tell(&settings);
    install_log(&args);
    service::run(settings, &mut || again(&args))?;
    Ok(Exit::Done)
}

pub(crate) fn start(args: &Args) -> Outcome {
    let args = args.anchored();
    let settings = load::settings(&args)?;
    tell(&settings);
    begin(&args, settings)
}

fn begin(args: &Args, settings: Settings) -> Outcome {
    match detach::detach().map_err(|e| Failure::io("cannot leave the terminal", &e))? {
        Detached::Parent(word) => match word?.as_str() {
            "" => Ok(Exit::Done),
            needless => say(&format!("wsson: {needless}\n")),
        },
        Detached::Server(word) => {
            install_log(args);
            service::run_detached(settings, &mut || again(args), word)?;
            Ok(Exit::Done)
        }
    }
}

pub(crate) fn stop(args: &Args) -> Outcome {
    let settings = load::to_stop(args)?;
    match end(&settings)? {
        true => Ok(Exit::Done),
        false => say("wsson: no server runs\n"),
    }
}

pub(crate) fn restart(args: &Args) -> Outcome {
    let args = args.anchored();
    let settings = load::settings(&args)?;
    tell(&settings);
    check::startable(&settings, &held(&settings))?;
    end(&settings)?;
    begin(&args, settings)
}

pub(crate) fn reload(args: &Args) -> Outcome {
    let args = args.anchored();
    let settings = load::settings(&args)?;
    tell(&settings);
    let path = pid_path(&settings)?;
    let Some(server) = holder(path)? else {
        nobody(&settings)?;
        return Err(Failure::new(Exit::NotRunning, "no server runs").or("wsson start"));
    };
    let before = outcome(&settings).map(|outcome| outcome.count);
    signal(&server, sys::SIGHUP)?;
    match before {
        Some(before) => report(&settings, &server, before),
        None => say("wsson: the server reads its configuration again; its log tells the outcome\n"),
    }
}

/// What can be served but will surprise.
fn tell(settings: &Settings) {
    for warning in settings.warnings() {
        warn(&format_args!("wsson: warning: {warning}"));
    }
}

fn install_log(args: &Args) {
    let level = if args.has("verbose") { ::log::LevelFilter::Debug } else { ::log::LevelFilter::Info };
    log::install(level);
}

/// The configuration for a running server; a failure is one line in its log.
fn again(args: &Args) -> Result<Settings, Failure> {
    load::settings(args)
        .map_err(|failure| Failure::new(Exit::NotConfigured, failure.text.replace("\nwsson: ", "; ")))
}

// ── the running server ──

struct Server {
    pid: u32,
    /// It has been told to end already.
    stopping: bool,
    process: Process,
}

fn pid_path(settings: &Settings) -> Result<&Path, Failure> {
    settings.pid.as_deref().ok_or_else(|| {
        let text = "cannot find the server: the configuration has no `pid`";
        Failure::new(Exit::Failed, text).or("systemctl, or whatever started it")
    })
}

/// The process that holds the lock, held by a handle that cannot mean a later one with its number.
fn holder(path: &Path) -> Result<Option<Server>, Failure> {
    let State::Held(before) = pidfile::state(path)? else { return Ok(None) };
    let Ok(process) = Process::open(before.pid) else {
        // It has ended just now; anything else that ails it is told by signalling it.
        return Ok(None);
    };
    // Whoever held the lock before and after was alive in between, so the handle is its own.
    match pidfile::state(path)? {
        State::Held(after) if after.pid == before.pid => {
            Ok(Some(Server { pid: after.pid, stopping: after.stage == Stage::Stopping, process }))
        }
        _ => Ok(None),
    }
}

fn signal(server: &Server, signal: i32) -> Result<(), Failure> {
    let what = format!("cannot signal the server with PID {}", server.pid);
    server.process.signal(signal).map_err(|e| Failure::io(what, &e).or("the same as root, or as its user"))
}

/// Ends the server and waits until it is gone. `false`: there was none.
fn end(settings: &Settings) -> Result<bool, Failure> {
    let path = settings.pid.as_deref();
    let Some(server) = path.map(holder).transpose()?.flatten() else { return nobody(settings) };
    // A second signal would end it at once, and cut short its goodbye to the clients.
    if !server.stopping {
        signal(&server, sys::SIGTERM)?;
    }
    let patience = Duration::from_millis(settings.timeouts.drain_ms) + MARGIN;
    if wait(&server, patience)? {
        return Ok(true);
    }
    let seconds = patience.as_secs();
    let text = format!("the server with PID {} has not ended after {seconds} seconds", server.pid);
    Err(Failure::new(Exit::Failed, text).or(format!("kill -9 {}", server.pid)))
}

/// Nobody holds the PID file. That a server answers all the same must not pass for none; it is not signalled, as
/// what anybody says on a socket is no proof of which process it is.
fn nobody(settings: &Settings) -> Result<bool, Failure> {
    let Some(pid) = status(settings).and_then(|report| report.get("pid")?.count()) else { return Ok(false) };
    let control = &settings.control;
    let text = match &settings.pid {
        Some(path) => {
            let path = path.display();
            format!("a server with PID {pid} answers at {control}, but it does not hold the PID file {path}")
        }
        None => format!("a server with PID {pid} answers at {control}, but the configuration has no `pid`"),
    };
    Err(Failure::new(Exit::Failed, text).or(format!("the `pid` it was started with, or: kill {pid}")))
}

fn wait(server: &Server, patience: Duration) -> Result<bool, Failure> {
    let mut terminal = std::io::stderr();
    let begin = Instant::now();
    let mut dots = false;
    let gone = loop {
        let left = patience.saturating_sub(begin.elapsed());
        let gone = server.process.wait(left.min(DOT));
        match gone.map_err(|e| Failure::io("cannot wait for the server", &e))? {
            false if !left.is_zero() => {}
            gone => break gone,
        }
        if terminal.is_terminal() {
            dots = true;
            let _ = terminal.write_all(b".");
        }
    };
    if dots {
        let _ = terminal.write_all(b"\n");
    }
    Ok(gone)
}

// ── the outcome of a reload ──

struct Reloaded {
    count: u64,
    applied: Vec<String>,
    restart: Vec<String>,
    error: Option<String>,
}

/// What the server at the control address says of itself; `None` when it cannot be asked.
fn status(settings: &Settings) -> Option<Json> {
    let frames = link::exchange(&settings.control, b"0t").ok()?;
    let report = frames.into_iter().find(|frame| frame.command == b'T')?;
    Json::parse(std::str::from_utf8(&report.payload).ok()?)
}

/// The addresses that the running server listens on. Where it cannot be asked, all that are wanted may be its own.
fn held(settings: &Settings) -> Vec<String> {
    let Some(report) = status(settings) else {
        return settings.servers.iter().chain([&settings.control]).cloned().collect();
    };
    let listeners = report.get("listeners").map_or(&[] as &[Json], Json::items);
    let addresses = listeners.iter().filter_map(|listener| Some(listener.get("address")?.text()?.to_owned()));
    addresses.chain([settings.control.clone()]).collect()
}

/// What it says of its last reload.
fn outcome(settings: &Settings) -> Option<Reloaded> {
    let report = status(settings)?;
    let reload = report.get("reload")?;
    let names = |field| {
        let items = reload.get(field).map_or(&[] as &[Json], Json::items);
        items.iter().filter_map(|item| Some(item.text()?.to_owned())).collect()
    };
    Some(Reloaded {
        count: reload.get("count")?.count()?,
        applied: names("applied"),
        restart: names("restart"),
        error: reload.get("error").and_then(Json::text).map(str::to_owned),
    })
}

fn report(settings: &Settings, server: &Server, before: u64) -> Outcome {
    let begin = Instant::now();
    let reloaded = loop {
        match outcome(settings).filter(|outcome| outcome.count > before) {
            Some(reloaded) => break reloaded,
            None if begin.elapsed() > RELOADING => {
                let text =
                    format!("the server with PID {} does not tell whether it has reloaded", server.pid);
                return Err(Failure::new(Exit::Failed, text).or("its log"));
            }
            None => std::thread::sleep(ASK),
        }
    };
    match reloaded.error {
        Some(error) => Err(Failure::new(Exit::Failed, format!("the server has not reloaded: {error}"))),
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
    if text.is_empty() { "nothing has changed\n".into() } else { text }
}
