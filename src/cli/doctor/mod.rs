//! `wsson doctor`: the points that an administrator would look at when it does not work, each with "ok" or with the
//! cure.
//!
//! First the host: configuration, server, control socket, log. Then, through the URL that is given, the way of a
//! browser ([`visit`]). It changes nothing, and sends nothing to any client but itself.

mod visit;
mod wire;

use super::args::Args;
use super::link::{self, Door, LinkError};
use super::service::holder;
use super::{Exit, Outcome, check, load, say};
use crate::config::{LogTarget, Settings};
use crate::daemon::supervisor::Unit;
use crate::wire::json;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The findings so far; each finding is printed when it is made.
#[derive(Debug, Default)]
struct Findings {
    wrong: usize,
}

impl Findings {
    fn ok(&mut self, text: &str) {
        self.tell("ok", text, None);
    }

    /// Nothing is wrong, but it is good to know.
    fn note(&mut self, text: &str) {
        self.tell("note", text, None);
    }

    fn wrong(&mut self, text: &str, cure: &str) {
        self.wrong += 1;
        self.tell("wrong", text, Some(cure).filter(|cure| !cure.is_empty()));
    }

    fn tell(&mut self, kind: &str, text: &str, cure: Option<&str>) {
        let cure = cure.map_or(String::new(), |cure| format!("       try: {cure}\n"));
        // A reader that has gone does not change the findings.
        let _ = say(&format!("{kind:<6} {}\n{cure}", printable(text)));
    }
}

/// The text may come from any program and must not drive the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect()
}

pub(crate) fn run(args: &Args) -> Outcome {
    let mut findings = Findings::default();
    let settings = match load::for_server(args, true) {
        Ok(settings) => settings,
        Err(failure) => {
            findings.wrong(&failure.text, failure.way_out.as_deref().unwrap_or("wsson check"));
            return Ok(failure.exit);
        }
    };
    configuration(args, &settings, &mut findings);
    let report = server(&settings, &mut findings);
    place_of_log(&settings, &mut findings);
    match args.words.first() {
        Some(url) => visit::run(url, &settings, report.is_some(), !args.has("quick"), &mut findings),
        None => findings.note("nothing was looked at from outside: wsson doctor wss://www.example.com/ws does, with your address"),
    }
    Ok(if findings.wrong == 0 { Exit::Done } else { Exit::Failed })
}

fn configuration(args: &Args, settings: &Settings, findings: &mut Findings) {
    let config = args.config().0;
    let wrong = check::wrong(settings, Unit::account(&config).as_ref());
    for problem in &wrong {
        findings.wrong(problem, "wsson check, after the change");
    }
    for warning in settings.warnings().into_iter().chain(check::host_warnings(settings)) {
        findings.note(&warning);
    }
    if wrong.is_empty() {
        findings.ok(&format!("the configuration {} is right", config.display()));
    }
}

/// The server that runs, and its own report.
fn server(settings: &Settings, findings: &mut Findings) -> Option<Value> {
    match settings.pid.as_deref().map(holder) {
        Some(Ok(Some(server))) => runs(server.pid, findings),
        Some(Ok(None)) => {}
        Some(Err(failure)) => findings.wrong(&failure.text, failure.way_out.as_deref().unwrap_or("")),
        None => findings
            .note("no PID file is configured, so who runs the server is for whatever started it to say"),
    }
    let door = Door::of(settings);
    let address = door.as_ref().map_or(String::new(), |door| door.address.clone());
    match door.and_then(|door| ask(&door)) {
        Ok(report) => {
            answers(&address, &report, findings);
            Some(report)
        }
        Err(error) => {
            let cure = match &error {
                LinkError::Unreachable(_) => "wsson start, or when it runs already: wsson reload".to_owned(),
                LinkError::NotPermitted(_) => let_in(&address),
                LinkError::Hangs(_) => "wsson stop --now, then wsson start".to_owned(),
                LinkError::NoAnswer(_) => "wsson status; is this the control socket of a wsson?".into(),
            };
            findings.wrong(&error.to_string(), &cure);
            None
        }
    }
}

fn runs(pid: u32, findings: &mut Findings) {
    let owner = fs::metadata(format!("/proc/{pid}")).map_or(String::new(), |meta| {
        format!(
            " as {}",
            name_of("/etc/passwd", meta.uid()).unwrap_or_else(|| format!("user {}", meta.uid()))
        )
    });
    match Unit::of(pid) {
        Some(unit) => findings.ok(&format!("{unit} of systemd runs it{owner}, PID {pid}")),
        None => {
            findings.ok(&format!("it was started by hand or by an init script, and runs{owner}, PID {pid}"));
        }
    }
    if owner == " as root" {
        findings.wrong("it runs as root", "user = \"wsson\" in the configuration, and a restart");
    }
}

fn ask(control: &Door) -> Result<Value, LinkError> {
    let frames = link::exchange(control, b"0t")?;
    let report = frames.into_iter().find(|frame| frame.command == b'T');
    let report = report.and_then(|report| json::parse(std::str::from_utf8(&report.payload).ok()?));
    report.ok_or_else(|| LinkError::NoAnswer(format!("{control} did not answer with a status")))
}

fn answers(control: &str, report: &Value, findings: &mut Findings) {
    let version = report.get("version").and_then(Value::as_str).unwrap_or("-");
    match version == env!("CARGO_PKG_VERSION") {
        true => findings.ok(&format!("wsson {version} answers at {control}{}", who_may(control))),
        false => findings.wrong(
            &format!("wsson {version} answers at {control}, and this is {}", env!("CARGO_PKG_VERSION")),
            "wsson restart",
        ),
    }
    let reload = report.get("reload");
    if let Some(why) = reload.and_then(|reload| reload.get("error")?.as_str()) {
        findings.wrong(&format!("its last reload changed nothing: {why}"), "wsson check, then wsson reload");
    }
    let waiting = reload.map_or(&[] as &[_], |reload| json::items(reload, "restart"));
    let waiting: Vec<&str> = waiting.iter().filter_map(Value::as_str).collect();
    if !waiting.is_empty() {
        findings.wrong(&format!("a change waits for a restart: {}", waiting.join(", ")), "wsson restart");
    }
    let number = |field| report.get(field).and_then(Value::as_u64);
    if let Some(expires) = number("certificate_expiry").and_then(|expires| i64::try_from(expires).ok()) {
        certificate(expires, findings);
    }
    if let (Some(fds), Some(fds_max)) = (number("fds"), number("fds_max")) {
        match fds * 10 >= fds_max * 9 {
            true => findings.wrong(
                &format!("{fds} of {fds_max} descriptors are open"),
                "LimitNOFILE= in the unit, or ulimit -Hn before the start",
            ),
            false => findings.ok(&format!("{fds} of {fds_max} descriptors are open")),
        }
    }
}

/// Authorities renew a month before the end; when that has failed for two weeks, little time is left.
const DAYS_LEFT_MIN: i64 = 14;

fn certificate(expires_unix_s: i64, findings: &mut Findings) {
    let date = crate::date::show(expires_unix_s);
    let days = (expires_unix_s - crate::daemon::log::now_unix_s()).div_euclid(86_400);
    match days {
        ..0 => findings
            .wrong(&format!("the server's certificate has expired on {date}"), "renew it, then wsson reload"),
        0..DAYS_LEFT_MIN => findings.wrong(
            &format!("the server's certificate ends on {date}, in {days} days"),
            "renew it, then wsson reload, which a renewal should do by itself",
        ),
        _ => findings.ok(&format!("the server's certificate holds until {date}")),
    }
}

/// The users that may use a control socket, as far as its file shows.
fn who_may(control: &str) -> String {
    let Some(path) = control.strip_prefix("unix://") else {
        return ", which every user of this host may use".into();
    };
    let Ok(meta) = fs::metadata(path) else { return String::new() };
    if meta.mode() & 0o002 != 0 {
        return ", which every user of this host may use".into();
    }
    let owner = name_of("/etc/passwd", meta.uid()).unwrap_or_else(|| meta.uid().to_string());
    let group = name_of("/etc/group", meta.gid()).unwrap_or_else(|| meta.gid().to_string());
    match meta.mode() & 0o020 != 0 {
        true => format!(", which {owner} and the group {group} may use"),
        false => format!(", which only {owner} may use"),
    }
}

/// The way for a user to get access to a control socket.
fn let_in(control: &str) -> String {
    let group = control.strip_prefix("unix://").and_then(|path| fs::metadata(path).ok());
    let group = group.and_then(|meta| name_of("/etc/group", meta.gid())).unwrap_or_else(|| "wsson".into());
    format!("adduser USER {group}, for each user that sends, and start its programs again")
}

/// The name with this number in a file such as /etc/passwd.
fn name_of(file: &str, number: u32) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let number = number.to_string();
    let line = text.lines().find(|line| line.split(':').nth(2) == Some(number.as_str()))?;
    line.split(':').next().map(str::to_owned)
}

fn place_of_log(settings: &Settings, findings: &mut Findings) {
    let syslog = "journalctl -t wsson, or grep wsson /var/log/syslog";
    match &settings.log {
        LogTarget::File(path) if path.exists() => findings.ok(&format!("the log is {}", path.display())),
        LogTarget::File(path) => {
            findings.note(&format!("the log will be {}, which is not there yet", path.display()));
        }
        LogTarget::Syslog | LogTarget::Stderr if !Path::new("/dev/log").exists() => {
            findings
                .note("there is no syslog on this host: the log is where standard error goes, or nowhere");
        }
        LogTarget::Syslog => findings.ok(&format!("the log goes to syslog: {syslog}")),
        LogTarget::Stderr => {
            findings.ok(&format!(
                "the log goes to journalctl -u wsson under systemd, and after wsson start to syslog: {syslog}"
            ));
        }
    }
}
