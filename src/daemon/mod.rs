//! The process around the server: PID file, detaching, privileges, log sinks, systemd, signals' policy.
//!
//! Layer 4. Knows files, users and signals; knows no socket of a client, no frame and no command. The reactor
//! reports why it woke up ([`service`]), this folder decides the consequence for the process.
//!
//! Invariant: a start that fails ends with a [`Failure`]: one sentence that names the failure and its reason, and
//! the exit code that the LSB has for it.

pub(crate) mod activation;
pub(crate) mod detach;
pub(crate) mod folders;
pub(crate) mod log;
pub mod messages;
pub(crate) mod notify;
pub(crate) mod pidfile;
pub(crate) mod privileges;
pub(crate) mod reload;
pub(crate) mod revocations;
pub(crate) mod service;
pub(crate) mod supervisor;

use crate::sys;
use std::process::ExitCode;
use std::{fmt, io};

/// Where the configuration is when nothing says where.
pub(crate) const CONFIG_DEFAULT: &str = "/etc/wsson/wsson.toml";

/// How a command ends; the numbers are those of the LSB for init scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
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
    /// The configuration is missing or wrong.
    NotConfigured = 6,
    /// There is no server to talk to.
    NotRunning = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The failure of a command: a sentence for the administrator and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// `what happened: why`, without `wsson: ` in front; several lines when there are several reasons.
    pub text: String,
    /// The way out, as a sentence.
    pub way_out: Option<String>,
}

impl Failure {
    /// A failure with its sentence.
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into(), way_out: None }
    }

    /// A failure that a system call reported: `what: why`, and "not permitted" when that is the reason.
    pub(crate) fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::PermissionDenied => Exit::NotPermitted,
            _ => Exit::Failed,
        };
        Self::new(exit, format!("{what}: {}", sys::describe(error)))
    }

    /// Adds the way out.
    #[must_use]
    pub(crate) fn or(mut self, way_out: impl Into<String>) -> Self {
        self.way_out = Some(way_out.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}
