//! Measures the release binary of wsson against the floor: the least any server can do for the same job, in the
//! same run. See README.md for how to read the table.
//!
//! One generator, one thread, on one core; one server at a time at work, on the other. It talks to loopback
//! addresses only and ends only the processes it started.

mod check;
mod client;
mod control;
mod floor;
mod folder;
mod jobs;
mod measure;
mod options;
mod probes;
mod report;
mod server;
mod sys;
mod wire;

use options::{Mode, Options};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Where a server listens, written as wsson's configuration writes it.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Address {
    fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("tcp://") {
            Some(address) => address.parse().ok().map(Self::Tcp),
            None => text.strip_prefix("unix://").map(|path| Self::Unix(path.into())),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).peekable();
    let done = match args.peek().map(String::as_str) {
        Some("floor") => {
            options::floor_addresses(args.skip(1)).and_then(|(public, control)| floor::run(&public, &control))
        }
        _ => options::parse(args).and_then(measure),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wsson-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(mut options: Options) -> Result<()> {
    options.descriptors = sys::raise_descriptors()?;
    sys::pin(options.generator_core)?;
    let report = match options.mode {
        Mode::Bench => jobs::run(&options)?,
        Mode::Syscalls => probes::syscalls::run(&options)?,
        Mode::Instructions => probes::instructions::run(&options)?,
        Mode::Guard => return probes::instructions::guard(&options),
    };
    let text = if options.json { report.json() } else { report.markdown() };
    match &options.out {
        Some(path) => std::fs::write(path, text)?,
        None => print!("{text}"),
    }
    if report.is_sound() { Ok(()) } else { Err("a job failed or got wrong content: see the table".into()) }
}
