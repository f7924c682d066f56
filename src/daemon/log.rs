//! The sinks of the `log` crate's records: standard error, the journal, syslog or a file.
//!
//! One record is one line: `2026-01-31T12:00:00Z level event key=value…`. The journal and syslog stamp lines
//! themselves and get the level as a priority as well. Control characters are escaped and the length is bounded,
//! so no peer can forge a line or flood with one; lines that repeat are counted and summed up.
//!
//! Never waits and never fails: a line that cannot be written (a full disk, a reader that stopped reading) is counted
//! and the loss is reported with the next line that goes through. Never sees a payload, a secret or a digest: callers
//! that log do not pass them.

use super::Failure;
use crate::date::civil;
use crate::sys;
use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One line with its dress stays below PIPE_BUF (4096), which a pipe takes whole or not at all. A longer one is cut and
/// ends in "…": a status with two dozen listeners, a path of some thousand characters.
const LINE_BYTES_MAX: usize = 3072;
/// This many lines of one kind in a [`WINDOW`] are written, the rest is summed up.
const REPEATS_MAX: u32 = 20;
const WINDOW: Duration = Duration::from_secs(10);
/// Kinds of lines counted at a time. They are the server's own words, so there are few; should there be more, the
/// table starts anew.
const KINDS_MAX: usize = 256;
/// Facility `daemon`, RFC 3164 section 4.1.1.
const FACILITY: u8 = 3 << 3;

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Standard error; the journal's form when the journal reads it.
    Stderr,
    /// The system's log daemon, at /dev/log.
    Syslog,
    /// A file, appended to.
    File(PathBuf),
}

/// Installs the sink for this process, with lines going to standard error until [`direct`] says otherwise.
pub(crate) fn install(level: log::LevelFilter) {
    // A second call (tests) finds the sink in place.
    let _ = log::set_logger(sink());
    log::set_max_level(level);
}

/// Sends lines to a target from now on. On failure they go where they went before.
pub(crate) fn direct(target: &Target) -> Result<(), Failure> {
    let output = Output::open(target)?;
    sink().state().output = output;
    Ok(())
}

/// Opens the file again under its name, after logrotate has moved it. On failure the old one is kept.
pub(crate) fn reopen() -> Result<(), Failure> {
    let path = match &sink().state().output {
        Output::File { path, .. } => path.clone(),
        _ => return Ok(()),
    };
    direct(&Target::File(path))
}

/// Writes the sums of repeated lines, if their time has come; called now and then.
pub(crate) fn sum_up() {
    sink().state().sum_up(Instant::now());
}

/// Writes all sums at once: the server ends.
pub(crate) fn finish() {
    sink().state().sum_up(Instant::now() + WINDOW);
}

fn sink() -> &'static Sink {
    static SINK: OnceLock<Sink> = OnceLock::new();
    SINK.get_or_init(Sink::default)
}

#[derive(Default)]
struct Sink(Mutex<State>);

impl Sink {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic while writing a line leaves nothing half done that matters here.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl log::Log for Sink {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        // mio and rustls have nothing to say to an administrator.
        metadata.target().starts_with("wsson") && metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            self.state().record(record.level(), *record.args(), Instant::now());
        }
    }

    fn flush(&self) {}
}

/// Lines that could not be written since the process began.
static LOST: AtomicU64 = AtomicU64::new(0);

/// The time by the clock on the wall.
pub(crate) fn now_unix_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs() as i64)
}

/// How many lines could not be written since the process began.
pub(crate) fn lines_lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

#[derive(Default)]
struct State {
    output: Output,
    /// The line being made; reused.
    line: String,
    kinds: HashMap<Box<str>, Repeats>,
    /// Lines that could not be written since the last one that could.
    lost: u64,
    /// The last line broke off in the middle.
    torn: bool,
}

struct Repeats {
    since: Instant,
    written: u32,
    kept_back: u64,
}

impl State {
    fn record(&mut self, level: log::Level, text: fmt::Arguments<'_>, now: Instant) {
        self.line.clear();
        // Cannot fail: `Escaped` swallows text beyond the bound.
        let _ = write!(Escaped(&mut self.line), "{text}");
        if level >= log::Level::Debug || self.may_pass(now) {
            self.put(level);
        }
    }

    /// Counts the line under its kind. `false`: there were many of them, it is kept back.
    fn may_pass(&mut self, now: Instant) -> bool {
        let line = std::mem::take(&mut self.line);
        let kind = kind_of(&line);
        if self.kinds.get(kind).is_some_and(|k| now.duration_since(k.since) >= WINDOW) {
            self.sum_up_kind(kind);
        }
        if self.kinds.len() >= KINDS_MAX {
            self.sum_up(now + WINDOW);
            self.kinds.clear();
        }
        if !self.kinds.contains_key(kind) {
            self.kinds.insert(kind.into(), Repeats { since: now, written: 0, kept_back: 0 });
        }
        let pass = self.kinds.get_mut(kind).is_none_or(Repeats::count);
        self.line = line;
        pass
    }

    fn sum_up(&mut self, now: Instant) {
        let old = |k: &Repeats| now.duration_since(k.since) >= WINDOW;
        let kinds: Vec<_> = self.kinds.iter().filter(|(_, k)| old(k)).map(|(kind, _)| kind.clone()).collect();
        for kind in kinds {
            self.sum_up_kind(&kind);
        }
    }

    fn sum_up_kind(&mut self, kind: &str) {
        let Some(Repeats { kept_back, .. }) = self.kinds.remove(kind) else { return };
        if kept_back > 0 {
            self.line.clear();
            let _ = write!(self.line, "repeated count={kept_back} of={kind}");
            self.put(log::Level::Warn);
        }
    }

    /// Writes `self.line`, and before it the count of lost lines.
    fn put(&mut self, level: log::Level) {
        let line = std::mem::take(&mut self.line);
        let owed = format!("log-lost lines={}", self.lost);
        let paid = self.lost == 0 || self.write(log::Level::Error, &owed);
        self.lost = if paid { 0 } else { self.lost };
        if !paid || !self.write(level, &line) {
            self.lost += 1;
            LOST.fetch_add(1, Ordering::Relaxed);
        }
        self.line = line;
    }

    /// `false`: not all of it went through.
    fn write(&mut self, level: log::Level, line: &str) -> bool {
        let text = self.output.dress(level, line, self.torn);
        let written = self.output.write(text.as_bytes()).unwrap_or(0);
        let whole = written == text.len();
        self.torn = !whole && (self.torn || written > 0);
        whole
    }
}

impl Repeats {
    fn count(&mut self) -> bool {
        if self.written < REPEATS_MAX {
            self.written += 1;
            return true;
        }
        self.kept_back += 1;
        false
    }
}

/// The key by which lines are alike: the event, and the rule, reason or code right behind it. Never text that a peer
/// can choose, or it could make every line look new.
fn kind_of(line: &str) -> &str {
    let event = line.find(' ').unwrap_or(line.len());
    let rest = line.get(event + 1..).unwrap_or("");
    if !["rule=", "reason=", "code="].iter().any(|key| rest.starts_with(key)) {
        return &line[..event];
    }
    let reason = rest.find(' ').unwrap_or(rest.len());
    &line[..event + 1 + reason]
}

/// Escapes all characters that could end a line, start a terminal's command, or turn text around, and bounds the
/// length.
struct Escaped<'l>(&'l mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if self.0.len() + 12 > LINE_BYTES_MAX {
                if !self.0.ends_with('…') {
                    self.0.push('…');
                }
                return Ok(());
            }
            match c {
                '\\' => self.0.push_str("\\\\"),
                c if is_harmful(c) => write!(self.0, "{}", c.escape_default())?,
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

/// Control characters, line separators, marks of writing direction, and invisible characters.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

// ── outputs ──

#[derive(Default)]
enum Output {
    #[default]
    Stderr,
    Journal,
    Syslog {
        socket: Option<UnixDatagram>,
        path: &'static str,
    },
    File {
        path: PathBuf,
        file: File,
    },
}

impl Output {
    fn open(target: &Target) -> Result<Self, Failure> {
        match target {
            Target::Stderr if journal_reads_stderr() => Ok(Self::Journal),
            Target::Stderr => Ok(Self::Stderr),
            Target::Syslog => {
                let path = "/dev/log";
                // A missing log daemon is an error now; one whose daemon is started anew later is found again.
                let socket = connect(path).map_err(|e| {
                    Failure::io(format!("cannot log to syslog at {path}"), &e)
                        .or("log = \"PATH\" in the configuration, or wsson run, which logs to standard error")
                })?;
                Ok(Self::Syslog { socket: Some(socket), path })
            }
            Target::File(path) => {
                let failure = |e| {
                    let folder = path.parent().unwrap_or(path).display();
                    Failure::io(format!("cannot open the log {}", path.display()), &e)
                        .or(format!("a folder for the server's user: install -d -o wsson -g wsson {folder}"))
                };
                Ok(Self::File { path: path.clone(), file: open_file(path).map_err(failure)? })
            }
        }
    }

    /// The line as this output wants it.
    fn dress(&self, level: log::Level, line: &str, torn: bool) -> String {
        let level_name = level.as_str().to_ascii_lowercase();
        match self {
            Self::Journal => format!("<{}>{level_name} {line}\n", severity(level)),
            Self::Syslog { .. } => {
                // Without the time, which would have to be local: the receiver adds it (RFC 3164 section 4.3.2).
                let (priority, pid) = (FACILITY | severity(level), std::process::id());
                format!("<{priority}>wsson[{pid}]: {level_name} {line}")
            }
            Self::Stderr | Self::File { .. } => {
                let newline = if torn { "\n" } else { "" };
                format!("{newline}{} {level_name} {line}\n", Utc::now())
            }
        }
    }

    /// Writes in one call, without waiting; returns how much went through.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stderr | Self::Journal => {
                let stderr = io::stderr();
                if !sys::writable(stderr.as_fd())? {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                stderr.lock().write(bytes)
            }
            Self::Syslog { socket, path } => send(socket, path, bytes),
            Self::File { file, .. } => file.write(bytes),
        }
    }
}

/// Sends one datagram; a log daemon that was restarted is found again at once.
fn send(socket: &mut Option<UnixDatagram>, path: &str, bytes: &[u8]) -> io::Result<usize> {
    if let Some(Ok(sent)) = socket.as_ref().map(|s| s.send(bytes)) {
        return Ok(sent);
    }
    socket.insert(connect(path)?).send(bytes)
}

fn connect(path: &str) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(path)?;
    Ok(socket)
}

fn open_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.append(true).create(true).mode(0o640);
    // A named pipe that no process reads is an error instead of a start that hangs.
    let file = options.custom_flags(sys::O_NOFOLLOW | sys::O_CLOEXEC | sys::O_NONBLOCK).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() || kind.is_char_device() || kind.is_fifo() {
        return Ok(file);
    }
    Err(io::Error::other("it is neither a file nor a device"))
}

/// Whether standard error is the journal's socket; `JOURNAL_STREAM` says `device:inode`, systemd.exec(5).
fn journal_reads_stderr() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(meta) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream == format!("{}:{}", meta.dev(), meta.ino())
}

fn severity(level: log::Level) -> u8 {
    match level {
        log::Level::Error => 3,
        log::Level::Warn => 4,
        log::Level::Info => 6,
        log::Level::Debug | log::Level::Trace => 7,
    }
}

/// A moment as RFC 3339 writes it, in UTC.
struct Utc(u64);

impl Utc {
    fn now() -> Self {
        Self(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()))
    }
}

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, s) = (self.0 / 86_400, self.0 % 86_400);
        let (year, month, day) = civil(days);
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", s / 3600, s / 60 % 60, s % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn to_file(path: &Path) -> State {
        State { output: Output::open(&Target::File(path.to_owned())).unwrap(), ..State::default() }
    }

    fn log(state: &mut State, text: &str) {
        state.record(log::Level::Info, format_args!("{text}"), Instant::now());
    }

    /// The lines without their times.
    fn lines(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| line.get(21..).unwrap_or(line).to_owned()).collect()
    }

    #[test]
    fn dates_are_right() {
        let check = |unix_s, text: &str| assert_eq!(Utc(unix_s).to_string(), text);
        check(0, "1970-01-01T00:00:00Z");
        check(951_782_399, "2000-02-28T23:59:59Z");
        check(951_782_400, "2000-02-29T00:00:00Z");
        check(951_868_800, "2000-03-01T00:00:00Z");
        check(1_769_860_800, "2026-01-31T12:00:00Z");
        check(4_107_542_399, "2100-02-28T23:59:59Z");
        check(4_107_542_400, "2100-03-01T00:00:00Z");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut last = civil(0);
        for day in 1..200_000 {
            let (year, month, date) = civil(day);
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let february = 28 + u64::from(leap);
            let len = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            let next = match last {
                (y, 12, 31) => (y + 1, 1, 1),
                (y, m, d) if d == len[m as usize - 1] => (y, m + 1, 1),
                (y, m, d) => (y, m, d + 1),
            };
            assert_eq!((year, month, date), next);
            last = next;
        }
    }

    #[test]
    fn nothing_in_a_record_can_make_a_second_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut state = to_file(&path);
        log(&mut state, "refused origin=\"a\r\nerror forged\u{1b}[2J\u{0}\u{85}\u{2028}\u{202e}\u{7f}\\n\"");
        let lines = lines(&path);
        let expected = "info refused origin=\"a\\r\\nerror forged\\u{1b}[2J\\u{0}\\u{85}\\u{2028}\\u{202e}\\u{7f}\\\\n\"";
        assert_eq!(lines, [expected]);
    }

    #[test]
    fn a_line_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut state = to_file(&path);
        log(&mut state, &"\n".repeat(100_000));
        log(&mut state, &"ä".repeat(100_000));
        let lines = lines(&path);
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|l| l.len() <= LINE_BYTES_MAX + 40 && l.ends_with('…')));
    }

    #[test]
    fn repeated_lines_are_summed_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut state = to_file(&path);
        let start = Instant::now();
        for i in 0..1000 {
            state.record(log::Level::Warn, format_args!("refused reason=origin peer=10.0.0.{i}"), start);
        }
        state.record(log::Level::Warn, format_args!("refused reason=digest peer=10.0.0.1"), start);
        state.sum_up(start);
        let kept = lines(&path);
        assert_eq!(kept.len(), REPEATS_MAX as usize + 1);
        assert!(kept[REPEATS_MAX as usize].contains("reason=digest"));
        state.sum_up(start + WINDOW);
        assert_eq!(lines(&path).last().unwrap(), "warn repeated count=980 of=refused reason=origin");
        state.record(log::Level::Warn, format_args!("refused reason=origin peer=10.0.0.1"), start + WINDOW);
        assert_eq!(lines(&path).last().unwrap(), "warn refused reason=origin peer=10.0.0.1");
    }

    #[test]
    fn kinds_are_bounded_and_nothing_is_lost_over_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut state = to_file(&path);
        for i in 0..10 * KINDS_MAX {
            log(&mut state, &format!("event-{i}"));
            assert!(state.kinds.len() <= KINDS_MAX);
        }
        assert_eq!(lines(&path).len(), 10 * KINDS_MAX);
    }

    #[test]
    fn a_full_disk_is_survived_and_reported() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut state = to_file(Path::new("/dev/full"));
        log(&mut state, "one");
        log(&mut state, "two");
        assert_eq!(state.lost, 2);
        state.output = Output::open(&Target::File(path.clone())).unwrap();
        log(&mut state, "three");
        assert_eq!(lines(&path), ["error log-lost lines=2", "info three"]);
    }

    #[test]
    fn a_torn_line_is_ended_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "2026-01-31T12:00:00Z info to").unwrap();
        let mut state = State { torn: true, ..to_file(&path) };
        log(&mut state, "whole");
        assert_eq!(lines(&path), ["info to", "info whole"]);
    }

    #[test]
    fn syslog_gets_a_datagram_with_priority_and_number() {
        let folder = tempfile::tempdir().unwrap();
        let path: &'static str = String::leak(folder.path().join("log").to_str().unwrap().to_owned());
        let mut state = State { output: Output::Syslog { socket: None, path }, ..State::default() };
        log(&mut state, "before there is a daemon");
        assert_eq!(state.lost, 1);
        for _restarted in 0..2 {
            let daemon = UnixDatagram::bind(path).unwrap();
            daemon.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            state.lost = 0;
            state.record(log::Level::Error, format_args!("started"), Instant::now());
            let mut buffer = [0; 200];
            let len = daemon.recv(&mut buffer).unwrap();
            let expected = format!("<27>wsson[{}]: error started", std::process::id());
            assert_eq!(std::str::from_utf8(&buffer[..len]).unwrap(), expected);
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn the_journal_gets_priorities() {
        let line = Output::Journal.dress(log::Level::Warn, "refused reason=origin", false);
        assert_eq!(line, "<4>warn refused reason=origin\n");
    }

    #[test]
    fn a_moved_file_is_written_anew_after_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        direct(&Target::File(path.clone())).unwrap();
        sink().state().record(log::Level::Info, format_args!("first"), Instant::now());
        fs::rename(&path, folder.path().join("log.1")).unwrap();
        reopen().unwrap();
        sink().state().record(log::Level::Info, format_args!("second"), Instant::now());
        assert_eq!(lines(&path), ["info second"]);
        assert_eq!(lines(&folder.path().join("log.1")), ["info first"]);
        let failure = direct(&Target::File(folder.path().join("no/log"))).unwrap_err();
        assert!(failure.text.starts_with("cannot open the log "));
        sink().state().record(log::Level::Info, format_args!("third"), Instant::now());
        assert_eq!(lines(&path).last().unwrap(), "info third");
    }

    #[test]
    fn a_link_or_folder_is_no_log() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
        assert!(open_file(&folder.path().join("link")).is_err());
        assert!(open_file(folder.path()).is_err());
    }

    #[test]
    fn a_file_is_private_to_its_group() {
        let folder = tempfile::tempdir().unwrap();
        let file = open_file(&folder.path().join("log")).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o137, 0);
    }
}
