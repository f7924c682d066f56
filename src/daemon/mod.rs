//! The process around the server: PID file, detaching, privileges, log sinks, systemd, signals' policy.
//!
//! Layer 4. Knows files, users and signals; knows no socket of a client, no frame and no command. The reactor
//! tells it what woke it up ([`service`]), it decides what that means for the process.
//!
//! Invariant: whatever ends a start ends it with a [`Failure`]: one sentence that says what happened and why, and
//! the exit code that the LSB has for it.

pub mod activation;
pub mod detach;
pub mod folders;
pub mod log;
pub mod messages;
pub mod notify;
pub mod pidfile;
pub mod privileges;
pub mod reload;
pub mod service;

use crate::sys;
use std::{fmt, io};

/// How a command ends; the numbers are the LSB's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Generic failure.
    Failed = 1,
    /// The arguments were wrong.
    Usage = 2,
    /// The user may not do this.
    NotPermitted = 4,
    /// The configuration is missing or wrong.
    NotConfigured = 6,
    /// There is no server to talk to.
    NotRunning = 7,
}

/// What ends a command: a sentence for the administrator and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// `what happened: why`, without `wsson: ` in front.
    pub text: String,
}

impl Failure {
    /// A failure with its sentence.
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }

    /// A failure that a system call reported: `what: why`, and "not permitted" when that is why.
    pub fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::PermissionDenied => Exit::NotPermitted,
            _ => Exit::Failed,
        };
        Self { exit, text: format!("{what}: {}", sys::describe(error)) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}
