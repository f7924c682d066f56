//! The parts that the tests of the real binary share: a site (a folder with a configuration), the processes started for
//! a test, and waiting for what they do. Included with `mod rig;`.
//!
//! Nothing outlives its test: a folder goes with its [`Site`], a process with its [`Running`]. Nothing here sleeps for
//! a time: what takes time is asked for until it is so. It knows nothing of frames and commands, except how to ask
//! whether a server answers.

// Each of the test programs that include this uses a part of it.
#![allow(dead_code)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a test waits for what must come. Only a failing test ever waits that long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The program under test, this build's.
pub(crate) const WSSON: &str = env!("CARGO_BIN_EXE_wsson");

/// Where every test's configuration is in its folder.
pub(crate) const CONFIG: &str = "wsson.toml";

/// A folder of the test's own. A configuration in it may name its files relative to it.
#[derive(Debug)]
pub(crate) struct Site {
    folder: TempDir,
}

impl Site {
    /// An empty folder.
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// With this configuration, which only its owner may read: it may hold the secret.
    pub(crate) fn with(config: &str) -> Self {
        let site = Self::new();
        site.write(CONFIG, config, 0o600);
        site
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// [`Site::path`] for what is made of text: a configuration, a line of a shell.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).into_os_string().into_string().expect("the path is UTF-8")
    }

    pub(crate) fn write(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.path(name), text).expect("the folder is ours");
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).expect("the file is ours");
    }

    /// The text of a file; none when there is no file.
    pub(crate) fn read(&self, name: &str) -> String {
        read(&self.path(name))
    }

    /// How many files and folders are in it.
    pub(crate) fn count(&self) -> usize {
        fs::read_dir(self.folder()).expect("the folder is ours").count()
    }

    /// The program with this line, whose first word is the command, and the site's configuration.
    pub(crate) fn wsson(&self, line: &[&str]) -> Command {
        let mut command = wsson(&line[..1]);
        command.arg("-c").arg(self.path(CONFIG)).args(&line[1..]);
        command
    }

    /// Runs [`Site::wsson`] to its end.
    #[track_caller]
    pub(crate) fn run(&self, line: &[&str]) -> Ended {
        Ended::of(&mut self.wsson(line))
    }
}

/// A configuration with all its files beside it: this text, and before it a default for each of the settings below that
/// the text has not.
pub(crate) fn config(text: &str) -> String {
    let defaults = [
        ("servers", "\"unix://server.sock\""),
        ("control", "\"unix://control.sock\""),
        ("pid", "\"wsson.pid\""),
        ("log", "\"./wsson.log\""),
        ("origins", "[\"https://example.com\"]"),
    ];
    let given = |key: &str| text.lines().any(|line| line.starts_with(&format!("{key} =")));
    let missing = defaults.iter().filter(|(key, _)| !given(key));
    missing.map(|(key, value)| format!("{key} = {value}\n")).collect::<String>() + text + "\n"
}

/// Writes a file that only its owner may read.
pub(crate) fn write_secret(path: &Path, text: &str) {
    fs::write(path, format!("{text}\n")).expect("the folder is ours");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("the file is ours");
}

/// The program with this line, which finds no secret in the environment and nothing on standard input.
pub(crate) fn wsson(line: &[&str]) -> Command {
    let mut command = Command::new(WSSON);
    command.args(line).stdin(Stdio::null());
    command.env_remove("WSSON_SECRET_FILE").env_remove("CREDENTIALS_DIRECTORY");
    command
}

/// A child of the test, which ends with it at the latest.
#[derive(Debug)]
pub(crate) struct Running(Child);

impl Running {
    #[track_caller]
    pub(crate) fn start(command: &mut Command) -> Self {
        match command.spawn() {
            Ok(child) => Self(child),
            Err(error) => panic!("{command:?} does not start: {error}"),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Its output, when that was piped.
    pub(crate) fn output(&mut self) -> BufReader<ChildStdout> {
        BufReader::new(self.0.stdout.take().expect("it was piped"))
    }

    /// Its input, when that was piped.
    pub(crate) fn input(&mut self) -> ChildStdin {
        self.0.stdin.take().expect("it was piped")
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("our own child")
    }

    /// Its exit code, once it has ended; none when a signal has ended it.
    #[track_caller]
    pub(crate) fn code(&mut self) -> Option<i32> {
        let mut status = None;
        eventually("the process ends", || {
            status = self.ended();
            status.is_some()
        });
        status.and_then(|status| status.code())
    }

    /// `TERM`, `INT`, `HUP`, `USR1`, `USR2`, `PIPE`.
    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        signal_to(self.pid(), name);
    }
}

impl From<Child> for Running {
    fn from(child: Child) -> Self {
        Self(child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    #[track_caller]
    pub(crate) fn of(command: &mut Command) -> Self {
        command.output().expect("the program starts").into()
    }

    /// With this code, and never with words that are the runtime's.
    #[track_caller]
    pub(crate) fn with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        assert!(!self.err.contains("os error") && !self.err.contains("panicked"), "{self:?}");
        self
    }

    /// On either stream, in a sentence of the program's own when it has failed: `wsson: what happened: why`.
    #[track_caller]
    pub(crate) fn says(self, words: &str) -> Self {
        let said = format!("{}{}", self.out, self.err);
        assert!(said.contains(words), "no {words:?} in: {said}");
        assert!(said.contains("wsson: ") || self.code == 0, "{said}");
        self
    }
}

impl From<Output> for Ended {
    #[track_caller]
    fn from(Output { status, stdout, stderr }: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("the output is UTF-8");
        Self { code: status.code().expect("no signal ended it"), out: text(stdout), err: text(stderr) }
    }
}

/// Asks until the answer is yes: for what a server does at a moment of its own.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "never became true: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether the server behind this control connection reads and answers. It closes the connection, so that no test
/// counts it.
pub(crate) fn answers(mut control: impl Read + Write) -> bool {
    let mut reply = Vec::new();
    let asked = control.write_all(b"0p0q").and_then(|()| control.read_to_end(&mut reply));
    // One that asks for a key answers too.
    asked.is_ok() && (reply == b"0P" || reply == b"0E")
}

/// A head of HTTP up to its empty line.
#[track_caller]
pub(crate) fn read_head(stream: &mut impl BufRead) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).expect("text"), 0, "cut off: {head}");
    }
    head
}

#[track_caller]
pub(crate) fn signal_to(pid: u32, name: &str) {
    let status = Command::new("kill").args(["-s", name, &pid.to_string()]).status().expect("kill runs");
    assert!(status.success(), "there is no process {pid} for SIG{name}");
}

/// The text of a file; none when there is no file.
pub(crate) fn read(file: &Path) -> String {
    fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// A port of the loopback device that no process has now; another one may take it before it is bound.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// A file of this repository.
pub(crate) fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A file of `tests/data`.
pub(crate) fn data(name: &str) -> PathBuf {
    source("tests/data").join(name)
}

/// Some tests mean nothing without privileges, and some commands warn of them.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").expect("/proc is mounted").uid() == 0
}
