//! A server from its start to its end: the order of the steps, and the effect of each signal.
//!
//! The order is the point. The PID file is locked before anything is bound, so that a loser touches no socket; root
//! is given up before the first byte of a stranger is read; the number is written last, when the server listens;
//! at the end the sockets are gone before the PID file is.
//!
//! Invariant: a failure before the number is written leaves no socket file and no locked PID file behind.

use super::detach::Word;
use super::messages::Messages;
use super::notify::Manager;
use super::pidfile::{Holder, Locked, PidFile, Stage};
use super::privileges::CAPABLE;
use super::reload::{self, Plan};
use super::{Failure, activation, folders, log, privileges, revocations};
use crate::config::{LogTarget, Settings};
use crate::daemon::Exit;
use crate::net::{Address, BindError};
use crate::server::{StartError, load_tls};
use crate::sys::{self, User};
use crate::{Server, Signal, Wake};
use ::log::{Level, error, info, log, warn};
use std::io::ErrorKind;
use std::os::unix::fs::lchown;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often sums of repeated lines are written when no watchdog wants to hear more often.
const TICK: Duration = Duration::from_secs(10);
/// How long a start waits for the one that was faster. Binding takes milliseconds; a host name that is looked up may
/// take longer.
const STARTING: Duration = Duration::from_secs(30);
/// The log file of a detached server without a `log` setting, on a host without syslog.
const LOG_FILE: &str = "/var/log/wsson/wsson.log";
/// How often it looks.
const LOOK: Duration = Duration::from_millis(10);

/// The source of the settings, which hears of their fate.
pub(crate) trait Source {
    /// Reads the configuration again, for a server that runs with these settings; the sentences name the values that it
    /// keeps of them.
    fn load(&mut self, running: &Settings) -> Result<(Settings, Vec<String>), Failure>;
    /// The server serves with the settings that were read last.
    fn served(&mut self);
    /// The server does not start with the settings that were read last; returns the failure to report.
    fn refused(&mut self, failure: Failure) -> Failure;
    /// Why the server serves with other settings than those of its file, if it does.
    fn instead(&self) -> Option<&str>;
}

/// Serves in the foreground until it is asked to end.
pub(crate) fn run(settings: Settings, source: &mut dyn Source) -> Result<(), Failure> {
    let pid_file = match lock(&settings)? {
        Some(Locked::Theirs(holder)) => {
            return Err(Failure::new(Exit::Failed, running(holder))
                .or("wsson stop, or a `pid` of its own for a second server"));
        }
        Some(Locked::Ours(file)) => Some(file),
        None => None,
    };
    let service = Service::start(settings, pid_file, false).map_err(|failure| source.refused(failure))?;
    service.serve(source)
}

/// Serves in the background; `word` goes to the process that was started from the terminal.
pub(crate) fn run_detached(settings: Settings, source: &mut dyn Source, word: Word) -> Result<(), Failure> {
    match begin_detached(settings) {
        Ok(Begun::Service(service)) => {
            // Where the standard streams cannot be replaced they stay as they are, and the server serves.
            word.ready(&service.note());
            return service.serve(source);
        }
        Ok(Begun::Needless(holder)) => word.needless(&running(holder)),
        Err(failure) => word.failed(&failure),
    }
    Ok(())
}

enum Begun {
    Service(Box<Service>),
    Needless(Holder),
}

fn begin_detached(settings: Settings) -> Result<Begun, Failure> {
    let pid_file = match lock_or_wait(&settings)? {
        Some(Locked::Theirs(holder)) => return Ok(Begun::Needless(holder)),
        Some(Locked::Ours(file)) => Some(file),
        None => None,
    };
    Service::start(settings, pid_file, true).map(|service| Begun::Service(Box::new(service)))
}

fn running(holder: Holder) -> String {
    match holder.is_visible() {
        true => format!("a server runs already, with PID {}", holder.pid),
        false => format!("a server runs already: {holder} holds the PID file"),
    }
}

fn lock(settings: &Settings) -> Result<Option<Locked>, Failure> {
    let Some(path) = &settings.pid else { return Ok(None) };
    folders::prepare(path, owner(settings)?)?;
    PidFile::lock(path).map(Some)
}

/// Of several starts at once one wins; the others wait until it listens, or take its place if it does not. The place
/// of a server that ends is taken when it has.
fn lock_or_wait(settings: &Settings) -> Result<Option<Locked>, Failure> {
    let begin = Instant::now();
    let patience = STARTING + Duration::from_millis(settings.timeouts.drain_ms);
    loop {
        match lock(settings)? {
            Some(Locked::Theirs(holder)) if holder.stage != Stage::Ready => {
                if begin.elapsed() > patience {
                    return Err(Failure::new(Exit::Failed, hanging(holder)).or("wsson stop --now"));
                }
                std::thread::sleep(LOOK);
            }
            locked => return Ok(locked),
        }
    }
}

fn hanging(holder: Holder) -> String {
    let (doing, end) = match holder.stage {
        Stage::Stopping => ("stopping", "end"),
        Stage::Starting | Stage::Ready => ("starting", "get ready"),
    };
    format!("{holder} is {doing} and does not {end}")
}

fn owner(settings: &Settings) -> Result<Option<User>, Failure> {
    privileges::find(settings.user.as_deref(), settings.group.as_deref())
}

struct Service {
    server: Server<Messages>,
    /// The settings in force, after all reloads.
    settings: Settings,
    manager: Manager,
    pid_file: Option<PidFile>,
    detached: bool,
    last: LastReload,
}

/// The changes that the last reloads have left to a restart.
#[derive(Debug, Default)]
struct LastReload {
    /// Keys that wait for a restart.
    restart: Vec<&'static str>,
    /// Why the last one changed nothing.
    failed: Option<String>,
}

impl LastReload {
    /// Behind the number of clients, in the line for `systemctl status`.
    fn words(&self) -> String {
        let failed = self.failed.as_ref().map(|why| format!("; the last reload failed: {why}"));
        let restart = self.restart.join(", ");
        let restart = (!restart.is_empty()).then(|| format!("; needs a restart: {restart}"));
        [failed, restart].into_iter().flatten().collect()
    }
}

impl Service {
    fn start(settings: Settings, pid_file: Option<PidFile>, detached: bool) -> Result<Self, Failure> {
        if let (Some(file), Some(user)) = (&pid_file, owner(&settings)?) {
            file.give(user);
        }
        match Self::bind(&settings, detached) {
            Ok((server, manager)) => {
                let last = LastReload::default();
                let service = Self { server, settings, manager, pid_file, detached, last };
                service.announce()
            }
            Err(failure) => {
                pid_file.into_iter().for_each(PidFile::remove);
                Err(failure)
            }
        }
    }

    /// From nothing to a server that listens, as the user it will be.
    fn bind(settings: &Settings, detached: bool) -> Result<(Server<Messages>, Manager), Failure> {
        let owner = owner(settings)?;
        for path in socket_files(settings).iter().chain(&settings.revoked_file) {
            folders::prepare(path, owner)?;
        }
        let manager = Manager::from_env();
        let inherited = activation::take()?;
        let theirs: Vec<String> = inherited.iter().map(|socket| socket.address.to_string()).collect();
        let messages = Messages { on_message: settings.on_message };
        let mut server = Server::bind_with(settings, messages, inherited).map_err(|e| start_failure(&e))?;
        server.handle_signals().map_err(|e| Failure::io("cannot handle signals", &e))?;
        server.set_log_lines_lost(log::lines_lost);
        server.set_tick(manager.interval().map_or(TICK, |interval| interval.min(TICK)));
        match owner {
            Some(user) => {
                give_sockets(settings, user, &theirs)?;
                privileges::become_user(user)?;
            }
            None => privileges::harden()?,
        }
        log::direct(&log_target(&settings.log, detached))?;
        if sys::is_root() {
            warn!("root reason=\"no user is configured\"");
        }
        if let Some(path) = &settings.revoked_file {
            revocations::keep(path, server.hub())?;
        }
        Ok((server, manager))
    }

    /// Says that the server listens: the number in the PID file first, as others wait for it.
    fn announce(mut self) -> Result<Self, Failure> {
        if let Some(Err(failure)) = self.pid_file.as_ref().map(PidFile::write) {
            self.end();
            return Err(failure);
        }
        let addresses: Vec<&str> = self.server.addresses().collect();
        info!(
            "started version={} pid={} servers={} control={}",
            env!("CARGO_PKG_VERSION"),
            std::process::id(),
            addresses.join(","),
            self.settings.control.join(",")
        );
        let line = self.line();
        self.manager.ready(&line);
        Ok(self)
    }

    fn serve(mut self, source: &mut dyn Source) -> Result<(), Failure> {
        match source.instead() {
            Some(why) => self.serve_instead(why),
            None => source.served(),
        }
        let result = self.until_drained(source);
        match &result {
            Ok(()) => info!("stopped"),
            Err(failure) => error!("failed reason=\"{}\"", reason(failure)),
        }
        log::finish();
        self.end();
        result
    }

    /// The file is bad, and an older one serves: reported as a failed reload is.
    fn serve_instead(&mut self, why: &str) {
        error!("configuration_refused reason=\"{}\"", quotable(&one_line(why)));
        self.last.failed = Some(one_line(why));
        self.server.hub().note_reload(Vec::new(), Vec::new(), Vec::new(), Some(why.to_owned()));
        let line = self.line();
        self.manager.status(&line);
    }

    fn until_drained(&mut self, source: &mut dyn Source) -> Result<(), Failure> {
        loop {
            match self.server.next().map_err(|e| Failure::io("the event loop failed", &e))? {
                Wake::Drained => return Ok(()),
                Wake::Signal(Signal::Terminate | Signal::Interrupt) if self.server.is_draining() => {
                    return Ok(());
                }
                // The second one ends the patience with those that are still here.
                Wake::Signal(Signal::Terminate | Signal::Interrupt) if self.server.is_leaving() => {
                    self.server.drain();
                }
                Wake::Signal(Signal::Terminate | Signal::Interrupt) => self.drain(),
                Wake::Signal(Signal::Hangup) => self.reload(source),
                Wake::Signal(Signal::User1) => reopen(),
                Wake::Signal(Signal::User2) => info!("status {}", self.server.status_json()),
                Wake::Tick => self.tick(),
            }
        }
    }

    fn drain(&mut self) {
        let timeouts = &self.settings.timeouts;
        let asked_ms = self.pid_file.as_ref().and_then(PidFile::over_ms);
        let over_ms = asked_ms.unwrap_or(timeouts.drain_over_ms);
        let within_ms = over_ms.saturating_add(timeouts.drain_ms).saturating_add(STARTING.as_millis() as u64);
        info!(
            "stopping clients={} over={}",
            self.server.hub().clients(),
            Duration::from_millis(over_ms).as_secs_f64()
        );
        self.pid_file.iter().for_each(PidFile::stopping);
        self.manager.stopping(within_ms);
        self.server.drain_over(Duration::from_millis(over_ms));
    }

    fn tick(&mut self) {
        self.manager.alive();
        log::sum_up();
        if !self.server.is_draining() && !self.server.is_leaving() {
            let line = self.line();
            self.manager.status(&line);
        }
    }

    /// A note for the administrator that starts it in the background; empty when there is none.
    fn note(&self) -> String {
        match (&self.settings.log, log_target(&self.settings.log, self.detached)) {
            (LogTarget::Stderr, log::Target::File(path)) => {
                format!("it logs to {}, as this host has no /dev/log", path.display())
            }
            _ => String::new(),
        }
    }

    /// The line that `systemctl status` shows.
    fn line(&mut self) -> String {
        let clients = self.server.hub().clients();
        let noun = if clients == 1 { "client" } else { "clients" };
        format!("Serving {clients} {noun}{}", self.last.words())
    }

    fn reload(&mut self, source: &mut dyn Source) {
        if self.server.is_draining() || self.server.is_leaving() {
            return warn!("reload_skipped reason=\"the server is stopping\"");
        }
        self.manager.reloading();
        self.make_sockets_anew();
        match source.load(&self.settings).and_then(|(file, kept)| self.apply(&file, kept)) {
            Ok((plan, kept)) => {
                source.served();
                for why in &kept {
                    warn!("kept_as_it_was reason=\"{}\"", quotable(why));
                }
                let (applied, restart) = (reload::list(&plan.applied), reload::list(&plan.restart));
                let level = if plan.restart.is_empty() { Level::Info } else { Level::Warn };
                log!(level, "reloaded applied={applied} restart={restart}");
                self.last = LastReload { restart: plan.restart.clone(), failed: None };
                self.server.hub().note_reload(plan.applied, plan.restart, kept, None);
            }
            Err(failure) => {
                error!("reload_failed reason=\"{}\"", reason(&failure));
                self.last.failed = Some(one_line(&failure.text));
                let restart = self.last.restart.clone();
                self.server.hub().note_reload(Vec::new(), restart, Vec::new(), Some(failure.text));
            }
        }
        let line = self.line();
        self.manager.ready(&line);
    }

    /// A socket's file that another program has removed, such as a cleaner of /run or /tmp, comes back with a reload.
    fn make_sockets_anew(&mut self) {
        for (address, made) in self.server.restore_sockets() {
            match made {
                Ok(()) => warn!("socket_restored address={address} reason=\"its file had gone\""),
                Err(error) => {
                    error!(
                        "socket_not_restored address={address} reason=\"{}\"",
                        quotable(&error.to_string())
                    );
                }
            }
        }
    }

    /// The steps that can fail come first, so that a reload happens as a whole or not at all.
    fn apply(&mut self, file: &Settings, mut kept: Vec<String>) -> Result<(Plan, Vec<String>), Failure> {
        let mut plan = Plan::new(&self.settings, file);
        let merged = Plan::merge(&self.settings, file);
        // The files' content may have changed although their names have not.
        let unreadable = if merged.tls == self.settings.tls { unreadable_tls(&merged) } else { None };
        let tls = match unreadable.is_some() {
            true => None,
            false => load_tls(&merged).map_err(|error| start_failure(&error))?,
        };
        kept.extend(unreadable);
        if plan.applied.contains(&"log") {
            log::direct(&log_target(&merged.log, self.detached))?;
        }
        for warning in tls.iter().flat_map(|tls| tls.warnings(log::now_unix_s())) {
            warn!("certificate reason=\"{}\"", quotable(&warning));
        }
        let new_certificate = tls.is_some_and(|tls| self.server.use_tls(&tls));
        if new_certificate && !plan.applied.contains(&"tls") {
            plan.applied.push("tls");
        }
        self.server.apply(&merged);
        kept.extend(revocations::reload(merged.revoked_file.as_deref(), self.server.hub()));
        self.server.handler_mut().on_message = merged.on_message;
        self.settings = merged;
        Ok((plan, kept))
    }

    fn end(self) {
        // The ports are free before the file says so.
        drop(self.server);
        self.pid_file.into_iter().for_each(PidFile::remove);
    }
}

/// Why certificate and key, which were read before root was given up, cannot be read again.
fn unreadable_tls(settings: &Settings) -> Option<String> {
    if !settings.speaks_tls() {
        return None;
    }
    let files = settings.tls.as_ref()?;
    [("certificate", &files.certificate), ("key", &files.key)].into_iter().find_map(|(what, path)| {
        let error = sys::may(path, sys::Access::Read).err()?;
        (error.kind() == ErrorKind::PermissionDenied)
            .then(|| format!("tls: cannot read the {what} {}: {}", path.display(), sys::describe(&error)))
    })
}

fn reopen() {
    match log::reopen() {
        Ok(()) => info!("log_reopened"),
        Err(failure) => error!("log_not_reopened reason=\"{}\"", reason(&failure)),
    }
}

/// A sentence as a quoted value: without quotes of its own.
fn reason(failure: &Failure) -> String {
    quotable(&failure.text)
}

fn quotable(text: &str) -> String {
    text.replace('"', "'")
}

fn one_line(text: &str) -> String {
    text.replace('\n', "; ")
}

/// A detached server has no standard error: it logs to syslog or, on a host without any, to the package's folder, if
/// its user may.
fn log_target(log: &LogTarget, detached: bool) -> log::Target {
    match log {
        LogTarget::Stderr if !detached => log::Target::Stderr,
        LogTarget::Stderr if !Path::new("/dev/log").exists() && may_log_to_file() => {
            log::Target::File(LOG_FILE.into())
        }
        LogTarget::Stderr | LogTarget::Syslog => log::Target::Syslog,
        LogTarget::File(path) => log::Target::File(path.clone()),
    }
}

fn may_log_to_file() -> bool {
    let file = Path::new(LOG_FILE);
    match file.exists() {
        true => sys::may(file, sys::Access::Write).is_ok(),
        false => file.parent().is_some_and(|folder| sys::may(folder, sys::Access::Make).is_ok()),
    }
}

fn start_failure(error: &StartError) -> Failure {
    let kind = match error {
        StartError::Bind(error) => error.kind(),
        StartError::Os(_, error) => Some(error.kind()),
        StartError::Address(_) | StartError::Unasked(_) | StartError::Descriptors(_) | StartError::Tls(_) => {
            None
        }
    };
    // A server that hangs may not be taken for a dead one.
    let denied = matches!(kind, Some(ErrorKind::PermissionDenied | ErrorKind::TimedOut));
    let failure = Failure::new(if denied { Exit::NotPermitted } else { Exit::Failed }, error.to_string());
    match way_out(error, kind) {
        Some(way_out) => failure.or(way_out),
        None => failure,
    }
}

/// For the sentences that do not end with it.
fn way_out(error: &StartError, kind: Option<ErrorKind>) -> Option<&'static str> {
    let StartError::Bind(bind) = error else { return None };
    match (bind, kind) {
        (BindError::InUse(_), _) => Some("ss -ltnp (or ss -lxp), as root: it shows what listens there"),
        (BindError::NotASocket(_), _) => Some("another path, or remove the file if no program needs it"),
        (BindError::UnknownOwner(_), _) => {
            Some("a name that `getent passwd` or `getent group` knows, in [sockets]")
        }
        (BindError::Os(what, _), Some(ErrorKind::PermissionDenied)) if what.contains("unix://") => {
            Some("a folder that the server's user may write, such as /run/wsson")
        }
        (BindError::Os(what, _), Some(ErrorKind::PermissionDenied))
            if what.contains("tcp://") || what.contains("tls://") =>
        {
            Some("a port above 1023, AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit, or wsson.socket")
        }
        (BindError::Os(..), Some(ErrorKind::NotFound)) => Some("make the folder, or another path"),
        (BindError::Os(..), Some(ErrorKind::AddrNotAvailable)) => Some("an address that `ip addr` shows"),
        _ => None,
    }
}

fn socket_files(settings: &Settings) -> Vec<PathBuf> {
    let paths = settings.listeners().filter_map(|text| match Address::parse(text) {
        Ok(Address::Unix(path)) => Some(path),
        _ => None,
    });
    paths.collect()
}

/// Sockets belong to the user that the server becomes, where `[sockets]` says nothing else. `theirs` were handed in:
/// their maker, such as systemd, has set their owner.
fn give_sockets(settings: &Settings, user: User, theirs: &[String]) -> Result<(), Failure> {
    let uid = settings.sockets.owner.is_none().then_some(user.uid);
    let gid = settings.sockets.group.is_none().then_some(user.gid);
    let is_ours = |path: &&PathBuf| !theirs.contains(&Address::Unix((*path).clone()).to_string());
    socket_files(settings).iter().filter(is_ours).try_for_each(|path| give(path, uid, gid))
}

fn give(path: &Path, uid: Option<u32>, gid: Option<u32>) -> Result<(), Failure> {
    lchown(path, uid, gid).map_err(|e| {
        Failure::io(format!("cannot give {} to the server's user", path.display()), &e).or(CAPABLE)
    })
}
