//! The command line: the jobs to run, against which binary, for how long.

use crate::{Address, Result};
use std::path::PathBuf;
use std::time::Duration;

pub const USAGE: &str = "\
usage: wsson-load bench|syscalls|instructions|guard [options]

  bench          CPU, memory and latency beside the floor, interleaved; a Markdown table
  syscalls       system calls per operation (needs strace)
  instructions   user-space instructions per operation (needs valgrind)
  guard          the same without the floor: fails when one has grown by a few hundredths

  --bin PATH       the binary to measure            (../../target/release/wsson)
  --jobs A,B       only these: memory, handshake, broadcast, echo, direct, write, latency,
                   growth
  --quick          about two minutes: fewer rounds, at most 10,000 connections
  --rounds N       rounds of every job              (21, quick 7)
  --control KIND   control socket: unix or tcp      (unix)
  --cores S,G      core of the server, of the generator (1,0)
  --subject KIND   wsson, or floor: the floor against itself, to see the noise of the machine
  --keep FOLDER    instructions: leave callgrind's files there, for callgrind_annotate
  --json           print JSON instead of the table
  --out FILE       write there instead of standard output
";

/// The program that a run measures: the floor, or one that is compared with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Floor,
    Wsson,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Bench,
    Syscalls,
    Instructions,
    Guard,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub mode: Mode,
    pub binary: PathBuf,
    pub jobs: Vec<String>,
    pub quick: bool,
    pub rounds: usize,
    /// Time the floor should take for one round; the repetitions of a round are chosen by it.
    pub round: Duration,
    pub control_tcp: bool,
    pub server_core: usize,
    pub generator_core: usize,
    pub subject: Kind,
    pub json: bool,
    pub out: Option<PathBuf>,
    pub keep: Option<PathBuf>,
    /// Logins name users; a probe says so.
    pub has_users: bool,
    /// Workers are told what clients say; a probe says so.
    pub forwards: bool,
    /// Descriptors this process may have.
    pub descriptors: usize,
}

pub const JOBS: [&str; 9] =
    ["memory", "handshake", "broadcast", "echo", "direct", "write", "worker", "latency", "growth"];

impl Options {
    pub fn wants(&self, job: &str) -> bool {
        self.jobs.is_empty() || self.jobs.iter().any(|wanted| wanted == job)
    }
}

/// Everything after the program's name.
pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Options> {
    let mode = match args.next().as_deref() {
        Some("bench") => Mode::Bench,
        Some("syscalls") => Mode::Syscalls,
        Some("instructions") => Mode::Instructions,
        Some("guard") => Mode::Guard,
        _ => return Err(USAGE.into()),
    };
    let mut options = defaults(mode);
    while let Some(name) = args.next() {
        match name.as_str() {
            "--quick" => options.quick = true,
            "--json" => options.json = true,
            _ => set(&mut options, &name, &args.next().ok_or_else(|| format!("{name} needs a value"))?)?,
        }
    }
    if options.rounds == 0 {
        options.rounds = if options.quick { 7 } else { 21 };
    }
    Ok(options)
}

fn defaults(mode: Mode) -> Options {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Options {
        mode,
        binary: concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/release/wsson").into(),
        jobs: Vec::new(),
        quick: false,
        rounds: 0,
        round: Duration::from_millis(180),
        control_tcp: false,
        server_core: usize::from(cores > 1),
        generator_core: 0,
        subject: Kind::Wsson,
        json: false,
        out: None,
        keep: None,
        has_users: false,
        forwards: false,
        descriptors: 0,
    }
}

fn set(options: &mut Options, name: &str, value: &str) -> Result<()> {
    match name {
        "--bin" => options.binary = value.into(),
        "--out" => options.out = Some(value.into()),
        "--keep" => options.keep = Some(value.into()),
        "--jobs" => options.jobs = jobs(value)?,
        "--rounds" => options.rounds = value.parse()?,
        "--control" => options.control_tcp = choose(name, value, ["unix", "tcp"])? == 1,
        "--subject" => options.subject = [Kind::Wsson, Kind::Floor][choose(name, value, ["wsson", "floor"])?],
        "--cores" => {
            let (server, generator) = value.split_once(',').ok_or("--cores needs two numbers, as in 1,0")?;
            (options.server_core, options.generator_core) = (server.parse()?, generator.parse()?);
        }
        _ => return Err(format!("{name} is unknown\n\n{USAGE}").into()),
    }
    Ok(())
}

fn jobs(value: &str) -> Result<Vec<String>> {
    let jobs: Vec<String> = value.split(',').map(str::to_owned).collect();
    match jobs.iter().find(|job| !JOBS.contains(&job.as_str())) {
        Some(unknown) => Err(format!("there is no job {unknown}; there are {}", JOBS.join(", ")).into()),
        None => Ok(jobs),
    }
}

fn choose(name: &str, value: &str, of: [&str; 2]) -> Result<usize> {
    of.iter().position(|one| *one == value).ok_or_else(|| format!("{name} is {} or {}", of[0], of[1]).into())
}

/// The two addresses the floor is started with.
pub fn floor_addresses(mut args: impl Iterator<Item = String>) -> Result<(Address, Address)> {
    let mut next = || args.next().as_deref().and_then(Address::parse).ok_or("floor needs two addresses");
    Ok((next()?, next()?))
}
