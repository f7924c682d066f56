//! The command line: from words to a command, and from its outcome to an exit code.
//!
//! Each command is a module with `run(&Args) -> Outcome`. Nothing here panics or prints a bare error of the system:
//! every failure is a sentence, `wsson: what happened: why`, and where there is one, the way out below it.
//! design: operations.md "Command line".

mod args;
mod bus;
mod check;
mod cookie;
mod demo;
mod doctor;
mod init;
mod link;
mod listen;
mod load;
mod readable;
mod reload;
mod screen;
mod send;
mod service;
mod source;
mod status;
mod who;

use args::{Args, Wanted};
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

pub(crate) use crate::daemon::{Exit, Failure};

/// How a command ended.
pub(crate) type Outcome = Result<Exit, Failure>;

/// Bad arguments, and where to read about them.
pub(crate) fn usage(args: &Args, text: impl Into<String>) -> Failure {
    Failure::new(Exit::Usage, text).or(format!("wsson help {}", args.command.name))
}

/// Runs the command that the arguments ask for.
pub fn main() -> ExitCode {
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
        warn(&format_args!("wsson: {failure}"));
        if let Some(way_out) = &failure.way_out {
            warn(&format_args!("  try: {way_out}"));
        }
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

/// Prints a line to standard error; when that is closed there is no other place for it.
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
