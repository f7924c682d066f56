//! The settings of a server: their types, their defaults, and the reason of every limit.
//!
//! Pure text in, [`Settings`] or a list of [`ConfigError`]s out ([`Settings::parse`]). It never opens a file, never
//! reads the environment or a clock: reading the configuration and the secret files is the command line's work.
//!
//! Invariant: settings that `parse` returns can be served. Every number is in its range, every address has a form the
//! listeners understand, every path is absolute if `base_dir` was, and values that contradict each other were refused.
//! design: operations.md "Configuration", endpoint.md "Limits and timers", COMMANDS.md "Rules".

mod check;
mod keys;
mod parse;
mod render;
mod shape;
mod values;

pub(crate) use keys::{ARRIVAL_MS_MAX, HEAD_BYTES_MAX, MESSAGE_BYTES_DEFAULT};
pub use keys::{Bus, Effect, Key, Limits, Settings, Sockets, Timeouts, find, keys, sections};
pub use shape::Shown;

use std::fmt;
use std::path::{Path, PathBuf};

/// The daemon's treatment of a message from a client.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnMessage {
    /// Send it to every open client.
    Broadcast,
    /// Nothing: wsson is for pushing.
    #[default]
    Drop,
    /// Send it back to its sender.
    Echo,
    /// Tell it to the workers that ask for it.
    Forward,
    /// Log that it came, and its length; never its content.
    Log,
}

/// Where the log goes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum LogTarget {
    /// Appended to this file, which is reopened on SIGUSR1.
    File(PathBuf),
    /// Standard error, which systemd and containers collect.
    #[default]
    Stderr,
    /// The system log, facility daemon.
    Syslog,
}

/// The files of the `[tls]` section, in PEM. Both are read again on SIGHUP.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsFiles {
    /// The certificate chain, the server's own first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// An instance of the bus's broker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Redis {
    /// A name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether TLS is spoken to it.
    pub tls: bool,
}

impl fmt::Display for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, tls } = self;
        let scheme = if *tls { "rediss" } else { "redis" };
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")
        } else {
            write!(f, "{scheme}://{host}:{port}")
        }
    }
}

/// One mistake in a configuration, and where it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigError {
    /// Line, from 1; 0 when the mistake is in no place, such as a key that is missing.
    pub line: usize,
    /// Column in characters, from 1; 0 when there is none.
    pub column: usize,
    /// The mistake, and the right form.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.message),
            line => write!(f, "line {line}: {}", self.message),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Why a control key must not be used, if so. Never shows the key.
pub fn key_weakness(key: &[u8]) -> Option<&'static str> {
    check::key_weakness(key)
}

/// Why a secret must not be used, if so: too short, or printed in a public document. Never shows the secret.
pub fn secret_weakness(secret: &[u8]) -> Option<&'static str> {
    check::weakness(secret)
}

/// Reads the address of a control socket as the key `control` does; relative paths are taken from `base_dir`.
pub fn control_address(text: &str, base_dir: &Path) -> Result<String, String> {
    values::listener(text, base_dir)
}

/// The choice that a mistyped word was most likely meant to be, if one is near enough.
pub fn nearest<'c>(word: &str, choices: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let near = |choice: &&str| distance(word, choice) <= choice.len().div_ceil(3);
    choices.filter(near).min_by_key(|choice| distance(word, choice))
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows = vec![(0..=to.len()).collect::<Vec<usize>>()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

impl Settings {
    /// The addresses of all listeners, those for browsers first.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = &String> {
        self.servers.iter().chain(&self.control)
    }

    /// Whether one of the listeners speaks TLS.
    pub fn speaks_tls(&self) -> bool {
        self.listeners().any(|address| address.starts_with("tls://"))
    }
}

impl Limits {
    /// Bytes that all backends together may make the server keep.
    pub fn backends_bytes_max(&self) -> usize {
        self.control_total_bytes.max(self.control_payload_bytes + self.control_outbox_bytes)
    }
}

#[cfg(test)]
mod tests;
