//! `wsson run`, `start`, `stop`, `restart`: the server as a service.
//!
//! The PID file's lock says whether a server runs, and the kernel says which process holds it: no other one is ever
//! signalled. A configuration is always read before a running server is touched. A server that a unit of systemd runs
//! is left to systemd: `start`, `stop` and `restart` pass the word on ([`supervisor`](crate::daemon::supervisor)).

use super::args::Args;
use super::reload::status;
use super::source::ConfigFile;
use super::{Exit, Failure, Outcome, check, load, say, warn};
use crate::Settings;
use crate::daemon::detach::{self, Detached};
use crate::daemon::pidfile::{self, Stage, State};
use crate::daemon::supervisor::Unit;
use crate::daemon::{log, service};
use crate::sys::{self, Process};
use crate::wire::json;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long `stop` waits beyond `timeouts.drain`.
const MARGIN: Duration = Duration::from_secs(10);
/// A dot per second on a terminal.
const DOT: Duration = Duration::from_secs(1);
/// How long a server that is killed may take to be gone.
const KILLED: Duration = Duration::from_secs(5);

pub(crate) fn run(args: &Args) -> Outcome {
    let args = args.anchored();
    let mut source = ConfigFile::new(&args)?;
    let settings = source.first()?;
    tell(&settings);
    install_log(&args);
    service::run(settings, &mut source)?;
    Ok(Exit::Done)
}

pub(crate) fn start(args: &Args) -> Outcome {
    let args = args.anchored();
    let config = args.config().0;
    if let Keeper::Unit(unit) = Keeper::find(load::addresses(&args), &config)? {
        unit.permit("start")?;
        ready_for(&args, &unit)?;
        return pass_on(&unit, "start");
    }
    let settings = load::settings(&args)?;
    tell(&settings);
    begin(&args, settings)
}

fn begin(args: &Args, settings: Settings) -> Outcome {
    match detach::detach().map_err(|e| Failure::io("cannot leave the terminal", &e))? {
        Detached::Parent(word) => match word?.as_str() {
            "" => Ok(Exit::Done),
            said => say(&format!("wsson: {said}\n")),
        },
        Detached::Server(word) => {
            install_log(args);
            service::run_detached(settings, &mut ConfigFile::new(args)?, word)?;
            Ok(Exit::Done)
        }
    }
}

pub(crate) fn stop(args: &Args) -> Outcome {
    if args.has("now") {
        return match kill(&load::to_stop(args)?)? {
            true => Ok(Exit::Done),
            false => say("wsson: no server runs\n"),
        };
    }
    let args = args.anchored();
    let over = over(&args)?;
    let running = load::to_stop(&args).and_then(|settings| running(&settings));
    if let Some(unit) = Keeper::of_running(running, &args.config().0)? {
        if over.is_some() {
            note_over(&load::to_stop(&args)?, over)?;
        }
        return pass_on(&unit, "stop");
    }
    match end(&load::to_stop(&args)?, over)? {
        true => Ok(Exit::Done),
        false => say("wsson: no server runs\n"),
    }
}

pub(crate) fn restart(args: &Args) -> Outcome {
    let args = args.anchored();
    let config = args.config().0;
    match Keeper::find(load::to_stop(&args), &config)? {
        Keeper::Unit(unit) => {
            unit.permit("restart")?;
            ready_for(&args, &unit)?;
            // One that was started by hand beside the unit goes first: the unit takes its place.
            let settings = load::to_stop(&args)?;
            let beside = running(&settings)?.is_some_and(|server| Unit::of(server.pid).is_none());
            if beside {
                end(&settings, None)?;
            }
            pass_on(&unit, "restart")
        }
        Keeper::Nobody => {
            let settings = load::settings(&args)?;
            tell(&settings);
            check::startable(&settings, &held(&settings), None)?;
            end(&settings, None)?;
            begin(&args, settings)
        }
    }
}

/// Faults that would keep the unit's server from starting are errors before systemd is asked: afterwards the old one is
/// gone.
fn ready_for(args: &Args, unit: &Unit) -> Result<(), Failure> {
    let settings = load::for_server(args, unit.gives_secret())?;
    tell(&settings);
    check::startable(&settings, &held(&settings), Unit::account(&args.config().0).as_ref())
}

fn pass_on(unit: &Unit, verb: &str) -> Outcome {
    say(&format!("wsson: {unit} runs this server: {}\n", unit.line(verb)))?;
    unit.ask(verb)?;
    Ok(Exit::Done)
}

/// The keeper that starts and ends the server of a configuration.
enum Keeper {
    Unit(Unit),
    Nobody,
}

impl Keeper {
    /// The unit that runs it or, when it is not running or was started by hand, the one that is there for it.
    fn find(settings: Result<Settings, Failure>, config: &Path) -> Result<Self, Failure> {
        let running = settings.and_then(|settings| running(&settings));
        let unit = Self::of_running(running, config)?;
        Ok(unit.or_else(|| Unit::for_configuration(config)).map_or(Self::Nobody, Self::Unit))
    }

    /// The unit whose server runs. Where it cannot be found, as the file is no TOML or the PID file is not for this
    /// user, the unit that is there for the configuration has to do.
    fn of_running(running: Result<Option<Server>, Failure>, config: &Path) -> Result<Option<Unit>, Failure> {
        match running {
            Ok(server) => Ok(server.and_then(|server| Unit::of(server.pid))),
            Err(failure) => Unit::for_configuration(config).map(Some).ok_or(failure),
        }
    }
}

/// Settings that can be served but will surprise.
pub(super) fn tell(settings: &Settings) {
    for warning in settings.warnings().into_iter().chain(check::host_warnings(settings)) {
        warn(&format_args!("wsson: warning: {warning}"));
    }
}

fn install_log(args: &Args) {
    let level = if args.has("verbose") { ::log::LevelFilter::Debug } else { ::log::LevelFilter::Info };
    log::install(level);
}

// ── the running server ──

pub(super) struct Server {
    pub(super) pid: u32,
    /// It was asked to end already.
    stopping: bool,
    process: Process,
}

pub(super) fn pid_path(settings: &Settings) -> Result<&Path, Failure> {
    settings.pid.as_deref().ok_or_else(|| {
        let text = "cannot find the server: the configuration has no `pid`";
        Failure::new(Exit::Failed, text).or("systemctl, docker, or whatever started it")
    })
}

/// The server that holds the PID file of the settings, if they name one.
fn running(settings: &Settings) -> Result<Option<Server>, Failure> {
    settings.pid.as_deref().map(holder).transpose().map(Option::flatten)
}

/// The process that holds the lock, held by a handle that cannot mean a later one with its number.
pub(super) fn holder(path: &Path) -> Result<Option<Server>, Failure> {
    let State::Held(before) = pidfile::state(path)? else { return Ok(None) };
    if !before.is_visible() {
        let text = format!("{before} holds the PID file {}: it cannot be reached from here", path.display());
        return Err(Failure::new(Exit::Failed, text)
            .or("the same command in that container, or a `pid` of its own for each"));
    }
    let Ok(process) = Process::open(before.pid) else {
        // It has ended just now; any other error shows when it is signalled.
        return Ok(None);
    };
    // The process that held the lock before and after was alive in between, so the handle is its own.
    match pidfile::state(path)? {
        State::Held(after) if after.pid == before.pid => {
            Ok(Some(Server { pid: after.pid, stopping: after.stage == Stage::Stopping, process }))
        }
        _ => Ok(None),
    }
}

pub(super) fn signal(server: &Server, signal: i32) -> Result<(), Failure> {
    let what = format!("cannot signal the server with PID {}", server.pid);
    server.process.signal(signal).map_err(|e| Failure::io(what, &e).or("the same as root, or as its user"))
}

/// The time over which the clients are to be told, where the command line says it.
fn over(args: &Args) -> Result<Option<Duration>, Failure> {
    let Some(text) = args.value("over")? else { return Ok(None) };
    let seconds = text.parse().ok().filter(|seconds| (0.0..=86_400.0).contains(seconds));
    let seconds = seconds
        .ok_or_else(|| super::usage(args, format!("--over {text:?} is no time: seconds, 0 to 86400")))?;
    Ok(Some(Duration::from_secs_f64(seconds)))
}

/// Leaves the time where the running server looks for it when it is asked to end.
fn note_over(settings: &Settings, over: Option<Duration>) -> Result<(), Failure> {
    match (running(settings)?, over) {
        (Some(server), Some(over)) if !server.stopping => {
            pidfile::note_over(pid_path(settings)?, server.pid, over.as_millis() as u64)
        }
        _ => Ok(()),
    }
}

/// Ends the server and waits until it is gone. `false`: there was none.
fn end(settings: &Settings, over: Option<Duration>) -> Result<bool, Failure> {
    note_over(settings, over)?;
    let Some(server) = running(settings)? else { return nobody(settings) };
    // A second signal would end it at once, and cut short its goodbye to the clients.
    if !server.stopping {
        signal(&server, sys::SIGTERM)?;
    }
    let timeouts = &settings.timeouts;
    let over = over.unwrap_or(Duration::from_millis(timeouts.drain_over_ms));
    let patience = over + Duration::from_millis(timeouts.drain_ms) + MARGIN;
    if wait(&server, patience)? {
        return Ok(true);
    }
    let seconds = patience.as_secs();
    let text = format!("the server with PID {} has not ended after {seconds} seconds", server.pid);
    Err(Failure::new(Exit::Failed, text).or("wsson stop --now, which cuts its clients off"))
}

/// Ends the server without asking it, for one that hangs. It is hit by its handle, not by a number that may be
/// another's by now. `false`: there was none.
fn kill(settings: &Settings) -> Result<bool, Failure> {
    let Some(server) = running(settings)? else { return nobody(settings) };
    signal(&server, sys::SIGKILL)?;
    if wait(&server, KILLED)? {
        return Ok(true);
    }
    let text = format!("the server with PID {} was killed and is still there", server.pid);
    Err(Failure::new(Exit::Failed, text).or("dmesg: the kernel is waiting for a disk or a device of its"))
}

/// No process holds the PID file. That a server answers all the same must not pass for none; it is not signalled, as
/// an answer on a socket is no proof of which process gave it.
pub(super) fn nobody(settings: &Settings) -> Result<bool, Failure> {
    let Some(pid) = status(settings).and_then(|report| report.get("pid")?.as_u64()) else { return Ok(false) };
    let control = settings.control.join(", ");
    // The number is the server's own word: in a container it counts from 1, as others do.
    let text = match &settings.pid {
        Some(path) => {
            let path = path.display();
            format!("a server with PID {pid} answers at {control}, but it does not hold the PID file {path}")
        }
        None => format!("a server with PID {pid} answers at {control}, but the configuration has no `pid`"),
    };
    Err(Failure::new(Exit::Failed, text)
        .or("the configuration it was started with, or whatever started it: systemctl, docker"))
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

/// The addresses that the running server listens on. Where it cannot be asked, all that are wanted may be its own.
fn held(settings: &Settings) -> Vec<String> {
    let Some(report) = status(settings) else {
        return settings.listeners().cloned().collect();
    };
    let listeners = json::items(&report, "listeners");
    let addresses =
        listeners.iter().filter_map(|listener| Some(listener.get("address")?.as_str()?.to_owned()));
    addresses.chain(settings.control.iter().cloned()).collect()
}
