//! The command line: which command was meant, and how a command ends.
//!
//! Each command is a module with `run(&Args) -> Outcome`. Nothing here panics or prints a bare error of the system:
//! every failure is a sentence, `wsson: what happened: why`, and where there is one, the way out below it.
//! design: operations.md "Command line".

mod args;
mod check;
mod cookie;
mod demo;
mod json;
mod link;
mod load;
mod send;
mod service;
mod status;

use args::{Args, Wanted};
use std::fmt::{self, Display};
use std::io::{self, Write};
use std::process::ExitCode;

/// How a command ends; the numbers are those of the LSB for init scripts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done; `status`: running.
    Done = 0,
    /// Failed; `status`: dead, but its PID file is there; `send`: not acknowledged.
    Failed = 1,
    /// Bad arguments.
    Usage = 2,
    /// `status`: not running.
    Stopped = 3,
    /// Not permitted; `status`: unknown.
    NotPermitted = 4,
    /// Not configured.
    NotConfigured = 6,
    /// There is no server to talk to.
    NotRunning = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What ends a command before it is done.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// `what happened: why`; several lines when there are several reasons.
    pub(crate) text: String,
    /// What to do about it, as a sentence.
    pub(crate) way_out: Option<String>,
}

/// How a command ended.
pub(crate) type Outcome = Result<Exit, Failure>;

impl Failure {
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into(), way_out: None }
    }

    /// Bad arguments, and where to read about them.
    pub(crate) fn usage(args: &Args, text: impl Into<String>) -> Self {
        Self::new(Exit::Usage, text).or(format!("wsson help {}", args.command.name))
    }

    /// A failure that the system reported: `what: why`.
    pub(crate) fn io(what: impl Display, error: &io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::PermissionDenied => Exit::NotPermitted,
            _ => Exit::Failed,
        };
        Self::new(exit, format!("{what}: {}", wsson::sys::describe(error)))
    }

    /// Adds the way out.
    pub(crate) fn or(mut self, way_out: impl Into<String>) -> Self {
        self.way_out = Some(way_out.into());
        self
    }
}

/// The process layer has failures of its own, with the same exit codes.
impl From<wsson::daemon::Failure> for Failure {
    fn from(failure: wsson::daemon::Failure) -> Self {
        use wsson::daemon::Exit as Theirs;
        let exit = match failure.exit {
            Theirs::Failed => Exit::Failed,
            Theirs::Usage => Exit::Usage,
            Theirs::NotPermitted => Exit::NotPermitted,
            Theirs::NotConfigured => Exit::NotConfigured,
            Theirs::NotRunning => Exit::NotRunning,
        };
        Self::new(exit, failure.text)
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wsson: {}", self.text)?;
        self.way_out.as_ref().map_or(Ok(()), |way_out| write!(f, "\n  try: {way_out}"))
    }
}

pub(crate) fn main() -> ExitCode {
    report(dispatch(args::parse(std::env::args_os().skip(1))))
}

fn dispatch(wanted: Result<Wanted, Failure>) -> Outcome {
    match wanted? {
        Wanted::Help(page) => say(&page),
        Wanted::Command(args) => (args.command.run)(&args),
    }
}

/// Prints a failure, if it is one, and turns it into the exit code.
pub(crate) fn report(outcome: Outcome) -> ExitCode {
    let exit = outcome.unwrap_or_else(|failure| {
        warn(&failure);
        failure.exit
    });
    exit.into()
}

/// Prints to standard output and ends well; a reader that has gone (`| head`) is not a failure worth a word.
pub(crate) fn say(text: &str) -> Outcome {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(Exit::Done),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Done),
        Err(error) => Err(Failure::io("cannot write the output", &error)),
    }
}

/// Prints a line to standard error; when that is closed there is nobody to tell.
pub(crate) fn warn(line: &dyn Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn help(args: &Args) -> Outcome {
    match args.words.first() {
        None => say(&args::overview()),
        Some(word) => say(&args::command_named(word)?.page()),
    }
}

fn version(_args: &Args) -> Outcome {
    say(concat!("wsson ", env!("CARGO_PKG_VERSION"), "\n"))
}
