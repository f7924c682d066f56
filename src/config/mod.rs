//! The settings of a server: their types, their defaults, and the reason of every limit.
//!
//! Pure text in, [`Settings`] or a list of [`ConfigError`]s out ([`Settings::parse`]). It never opens a file, never
//! reads the environment or a clock: reading the configuration and the secret files is the command line's work.
//!
//! Invariant: what `parse` returns can be served. Every number is in its range, every address has a form the listeners
//! understand, every path is absolute if `base_dir` was, and values that contradict each other were refused.
//! design: operations.md "Configuration", endpoint.md "Limits and timers", COMMANDS.md "Rules".

mod check;
mod parse;
mod render;
mod values;

use crate::auth::Rules;
use std::fmt;
use std::path::{Path, PathBuf};

/// Everything a server can be told. `Settings::default()` is what an empty configuration file means.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where browsers connect: `tcp://127.0.0.1:8099`, `unix:///run/wsson/server.sock`, `tls://0.0.0.0:8443`.
    pub servers: Vec<String>,
    /// What the command `m` answers for the listener at the same place in `servers`; may be shorter than it.
    pub domains: Vec<String>,
    /// Where backends connect: `unix:///run/wsson/control.sock` or `tcp://127.0.0.1:8098`.
    pub control: String,
    /// The file that is locked for the life of the process; none in a container or under systemd.
    pub pid: Option<PathBuf>,
    /// Whether a control listener may be on an address that is not loopback. Whoever reaches it may send to everyone.
    pub control_public: bool,
    /// The origins a browser may come from: scheme, host and port, in ASCII lower case, no pattern.
    pub origins: Vec<String>,
    /// What happens to the messages of clients.
    pub on_message: OnMessage,
    /// The user to become after binding, when started as root.
    pub user: Option<String>,
    /// The group to become after binding; the user's own group when none is given.
    pub group: Option<String>,
    /// Where the log goes.
    pub log: LogTarget,
    /// Proxies (an address, a CIDR block, or `unix`) whose `X-Forwarded-For` is believed in the log.
    pub trusted_proxies: Vec<String>,
    /// Whether TCP listeners set `SO_REUSEPORT`, for several processes on one port.
    pub reuseport: bool,
    /// Whether short or published secrets are accepted: for tests only.
    pub allow_weak_secret: bool,
    /// Files that hold the secrets, in the order of rotation; empty when `auth.secrets` came from the text itself.
    pub secret_files: Vec<PathBuf>,
    /// How a login is proved.
    pub auth: Rules,
    /// Bounds of space and number.
    pub limits: Limits,
    /// Bounds of time.
    pub timeouts: Timeouts,
    /// The certificate of `tls://` listeners.
    pub tls: Option<TlsFiles>,
    /// Permissions of Unix sockets.
    pub sockets: Sockets,
}

/// What the daemon does with a message from a client.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnMessage {
    /// Send it to every open client.
    Broadcast,
    /// Nothing: wsson is for pushing.
    #[default]
    Drop,
    /// Send it back to its sender.
    Echo,
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
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsFiles {
    /// The certificate chain, the server's own first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Permissions and owner that Unix sockets are given when they are bound.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sockets {
    /// Mode of server sockets. Default 0666: the cookies are the authorisation, and the proxy runs as another user.
    pub servers_mode: u32,
    /// Mode of the control socket. Default 0660: whoever can write to it can send to everyone.
    pub control_mode: u32,
    /// Owner of both; the process's own when none is given.
    pub owner: Option<String>,
    /// Group of both; set it to the group of the web backend.
    pub group: Option<String>,
}

/// Bounds of space and number. Zero never means "unlimited".
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Clients together. None: what the descriptor limit allows, less a reserve of 64 for everything else.
    pub clients: Option<usize>,
    /// Open connections of one token. 5: a person's tabs, not a script's flood; also what a stolen cookie can open.
    pub connections_per_token: u32,
    /// Open connections of one user, with `identity = "user"` only. 5, for the same reason.
    pub connections_per_user: u32,
    /// Connections that have not proved a login yet. None: the larger of 1024 and a tenth of `clients`, at most a half of them; room for a
    /// mass reconnect; silent connections beyond it push out the oldest, not the genuine.
    pub unauthenticated: Option<usize>,
    /// Request head. 8 KiB: what nginx and Apache let through, cookies of other programs included.
    pub head_bytes: usize,
    /// A client's message or frame. 64 KiB: clients of a push server say little; it is stored whole until complete.
    pub message_bytes: usize,
    /// Bytes that wait for one client. 1 MiB: a few seconds of a busy site on a phone in a tunnel, no more.
    pub outbox_bytes: u32,
    /// Bytes that wait in all outboxes, shared ones counted once. 256 MiB: what a small host can spare at worst.
    pub queued_bytes: usize,
    /// Payload of one command. 1 MiB, judged on the announced length before any of it is stored.
    pub control_payload_bytes: usize,
    /// Replies that wait for one backend. 1 MiB: beyond it its commands are not read until it reads its replies.
    pub control_outbox_bytes: usize,
    /// Input and replies of all backends together. 64 MiB: dozens at their own bounds at the same moment. What one backend may
    /// need by its own bounds is there in any case.
    pub control_total_bytes: usize,
    /// Backends at a time. 1024: a site's workers and pages; never more than a quarter of the descriptors, which are for clients.
    pub backends: usize,
    /// Addresses in one list. 10,000: more receivers than that are a group.
    pub addresses: usize,
}

/// Bounds of time, in milliseconds; in the configuration file they are seconds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Timeouts {
    /// From accept to the end of the request head, absolute. 5 s: a slow phone makes it, a slowloris does not.
    pub handshake_ms: u64,
    /// Silence of a client before a ping. 15 s: below the 30 to 60 s after which NAT and proxies forget a connection.
    pub idle_ms: u64,
    /// Silence after that ping before the connection is closed. 15 s: dead peers are gone within half a minute.
    pub pong_ms: u64,
    /// Bytes waiting and none accepted by the kernel. 15 s, so that a dead reader does not hold memory for long.
    pub stalled_ms: u64,
    /// From our close frame to the end of the connection. 5 s: one slow round trip, then it is dropped.
    pub close_ms: u64,
    /// Silence of a backend that holds a lock. 30 s: the locked client gets nothing else meanwhile.
    pub lock_ms: u64,
    /// Silence of a backend before a ping, and again before it is closed. 15 s, as for clients.
    pub control_ms: u64,
    /// From SIGTERM to the end of the process. 5 s: well below the 10 s of `docker stop`, the 90 s of systemd.
    pub drain_ms: u64,
}

/// One mistake in a configuration, and where it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigError {
    /// Line, from 1; 0 when the mistake is in no place, such as a key that is missing.
    pub line: usize,
    /// Column in characters, from 1; 0 when there is none.
    pub column: usize,
    /// What is wrong, and what would be right.
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

impl Default for Settings {
    fn default() -> Self {
        Self {
            servers: vec!["tcp://127.0.0.1:8099".into()],
            domains: Vec::new(),
            control: "unix:///run/wsson/control.sock".into(),
            pid: Some("/run/wsson/wsson.pid".into()),
            control_public: false,
            origins: Vec::new(),
            on_message: OnMessage::default(),
            user: None,
            group: None,
            log: LogTarget::default(),
            trusted_proxies: Vec::new(),
            reuseport: false,
            allow_weak_secret: false,
            secret_files: Vec::new(),
            auth: Rules::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            tls: None,
            sockets: Sockets::default(),
        }
    }
}

impl Default for Sockets {
    fn default() -> Self {
        Self { servers_mode: 0o666, control_mode: 0o660, owner: None, group: None }
    }
}

/// Why a secret must not be used, if so: too short, or printed in a public document. Never shows the secret.
pub fn secret_weakness(secret: &[u8]) -> Option<&'static str> {
    check::weakness(secret)
}

/// Reads the address of a control socket as the key `control` does; relative paths are taken from `base_dir`.
pub fn control_address(text: &str, base_dir: &Path) -> Result<String, String> {
    values::control(text, base_dir)
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

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: None,
            connections_per_token: 5,
            connections_per_user: 5,
            unauthenticated: None,
            head_bytes: 8 * KIB,
            message_bytes: 64 * KIB,
            outbox_bytes: 1024 * 1024,
            queued_bytes: 256 * MIB,
            control_payload_bytes: MIB,
            control_outbox_bytes: MIB,
            control_total_bytes: 64 * MIB,
            backends: 1024,
            addresses: 10_000,
        }
    }
}

impl Limits {
    /// What backends may make the server keep, all together.
    pub fn backends_bytes_max(&self) -> usize {
        self.control_total_bytes.max(self.control_payload_bytes + self.control_outbox_bytes)
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake_ms: 5_000,
            idle_ms: 15_000,
            pong_ms: 15_000,
            stalled_ms: 15_000,
            close_ms: 5_000,
            lock_ms: 30_000,
            control_ms: 15_000,
            drain_ms: 5_000,
        }
    }
}

#[cfg(test)]
mod tests;
