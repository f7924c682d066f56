//! TOML text to [`Settings`]: every mistake is reported, each with its place and, where there is one, the way out.
//!
//! A mistake never stops the reading: the value keeps its default and the next key is read, so that one run shows
//! them all. What a single value may look like is in `values.rs`; what values may not be together is in `check.rs`.
//! A value of `secret` never appears in an error.

use super::values::{self, show_size};
use super::{ConfigError, KIB, LogTarget, MIB, OnMessage, Settings, Sockets, TlsFiles, check};
use crate::auth::{Digest, IdentityKind, Secret};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml_span::value::{Table, Value, ValueInner};

/// Every section and key there is; the unnamed section is the top of the file.
/// A test holds this list, the `match`es below and conf/wsson.toml together.
pub(super) const KEYS: [(&str, &[&str]); 6] = [
    (
        "",
        &[
            "servers",
            "domains",
            "control",
            "control_public",
            "pid",
            "secret",
            "secret_file",
            "allow_weak_secret",
            "origins",
            "on_message",
            "user",
            "group",
            "log",
            "trusted_proxies",
            "reuseport",
        ],
    ),
    (
        "auth",
        &[
            "identity",
            "digest",
            "token_length",
            "lifetime",
            "cookie_token",
            "cookie_time",
            "cookie_digest",
            "cookie_user",
        ],
    ),
    (
        "limits",
        &[
            "clients",
            "connections_per_token",
            "connections_per_user",
            "unauthenticated",
            "head",
            "message",
            "outbox",
            "queued",
            "control_payload",
            "control_outbox",
            "control_total",
            "backends",
            "addresses",
        ],
    ),
    ("timeouts", &["handshake", "idle", "pong", "stalled", "close", "lock", "control", "drain"]),
    ("tls", &["certificate", "key"]),
    ("sockets", &["servers_mode", "control_mode", "owner", "group"]),
];

/// A request head is read in one piece from the reactor's scratch buffer, which is this large.
const HEAD_BYTES_MAX: usize = 64 * KIB;
/// Shorter than this, the headers that every browser sends do not fit.
const HEAD_BYTES_MIN: usize = 256;
/// A message is stored whole until it is complete, so this is what one stranger can make us keep.
const MESSAGE_BYTES_MAX: usize = 256 * MIB;
/// Outbox positions are 32-bit numbers; far more than one client should ever hold back.
const OUTBOX_BYTES_MAX: usize = 1024 * MIB;
/// The announced length of a command has at most eight digits (COMMANDS.md).
const CONTROL_PAYLOAD_BYTES_MAX: usize = 99_999_999;
/// A status reply must fit.
const CONTROL_OUTBOX_BYTES_MIN: usize = 16 * KIB;
/// More descriptors than a process can be given on any host we know.
const CLIENTS_MAX: usize = 16 * MIB;
/// As many as the longest payload holds.
const ADDRESSES_MAX: usize = CONTROL_PAYLOAD_BYTES_MAX / 2;
/// Longer than a day is no timeout but a leak; milliseconds.
const TIMEOUT_MS_MAX: u64 = 86_400_000;
/// Ten years: a login that lasts longer is a typing error.
const LIFETIME_S_MAX: i64 = 10 * 366 * 86_400;

impl Settings {
    /// Reads a configuration. Relative paths, those of `unix://` too, are taken from `base_dir`.
    pub fn parse(text: &str, base_dir: &Path) -> Result<Self, Vec<ConfigError>> {
        read(text, base_dir, false)
    }

    /// The same, as if `allow_weak_secret = true` were in the text: for tests and for the flag of the command line.
    pub fn parse_allowing_weak(text: &str, base_dir: &Path) -> Result<Self, Vec<ConfigError>> {
        read(text, base_dir, true)
    }

    /// As much as can be read of a text with mistakes, for ending a server that runs. `None` when a mistake may be
    /// about `pid`: another server's PID file must not be taken for this one's.
    pub fn parse_to_stop(text: &str, base_dir: &Path) -> Option<Self> {
        let document = toml_span::parse(text).ok()?;
        let mut reader = Reader { text, base_dir, places: BTreeMap::new(), errors: Vec::new() };
        let mut settings = Self { allow_weak_secret: true, ..Self::default() };
        reader.document(&mut settings, &document);
        // Messages name the key, and for an unknown one the key that may have been meant.
        let about_pid = reader.errors.iter().any(|error| error.message.contains("\"pid\""));
        (!about_pid).then_some(settings)
    }
}

fn read(text: &str, base_dir: &Path, allow_weak: bool) -> Result<Settings, Vec<ConfigError>> {
    let mut reader = Reader { text, base_dir, places: BTreeMap::new(), errors: Vec::new() };
    let mut settings = Settings { allow_weak_secret: allow_weak, ..Settings::default() };
    match toml_span::parse(text) {
        Ok(document) => {
            reader.document(&mut settings, &document);
            // A value that could not be read has left a default behind, which would contradict what is right.
            if reader.errors.is_empty() {
                check::together(&settings, &mut reader);
            }
        }
        Err(error) => reader.syntax(&error),
    }
    reader.errors.sort_by_key(|error| (error.line, error.column));
    if reader.errors.is_empty() { Ok(settings) } else { Err(reader.errors) }
}

/// Reads values, remembers where they were, collects what is wrong with them.
pub(super) struct Reader<'t> {
    text: &'t str,
    base_dir: &'t Path,
    /// Offset of each value by its full name, `limits.head`, for mistakes that are found later.
    places: BTreeMap<String, usize>,
    errors: Vec<ConfigError>,
}

impl Reader<'_> {
    /// Reports a mistake at the value called `name`, or in no place when the text has no such value.
    pub(super) fn fail(&mut self, name: &str, message: impl Into<String>) {
        let place = self.places.get(name).copied();
        self.fail_at(place, message);
    }

    fn fail_at(&mut self, offset: Option<usize>, message: impl Into<String>) {
        let (line, column) = offset.map_or((0, 0), |offset| line_column(self.text, offset));
        self.errors.push(ConfigError { line, column, message: message.into() });
    }

    fn syntax(&mut self, error: &toml_span::Error) {
        self.fail_at(Some(error.span.start), syntax_message(error, self.text));
    }

    fn document(&mut self, settings: &mut Settings, document: &Value<'_>) {
        // The parser's root is always a table.
        let Some(table) = document.as_table() else { return };
        for (key, value) in table {
            match (section_keys(&key.name), value.as_table()) {
                (Some(_), Some(section)) => self.section(settings, &key.name, section),
                (Some(_), None) => {
                    self.fail_at(Some(key.span.start), format!("\"{0}\" must be a section: [{0}]", key.name));
                }
                (None, Some(_)) if !section_keys("").is_some_and(|keys| keys.contains(&&*key.name)) => {
                    let sections =
                        KEYS.iter().map(|(section, _)| *section).filter(|section| !section.is_empty());
                    let hint = hint(&key.name, sections, "[", "]");
                    self.fail_at(Some(key.span.start), format!("unknown section [{}]{hint}", key.name));
                }
                (None, _) => self.key(settings, "", &key.name, key.span.start, value),
            }
        }
        // Only now is it known whether weak ones are allowed.
        if let Some(secret) = table.get("secret").filter(|_| !settings.allow_weak_secret) {
            self.secrets_are_strong(secret);
        }
    }

    fn section(&mut self, settings: &mut Settings, section: &str, table: &Table<'_>) {
        if section == "tls" {
            settings.tls = Some(TlsFiles { certificate: PathBuf::new(), key: PathBuf::new() });
        }
        for (key, value) in table {
            self.key(settings, section, &key.name, key.span.start, value);
        }
    }

    fn key(&mut self, settings: &mut Settings, section: &str, key: &str, offset: usize, value: &Value<'_>) {
        let name = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
        self.places.insert(name.clone(), value.span.start);
        let known = match section {
            "" => self.top(settings, &name, value),
            "auth" => self.auth(settings, key, &name, value),
            "limits" => self.limits(settings, key, &name, value),
            "timeouts" => self.timeouts(settings, key, &name, value),
            "tls" => self.tls(settings, key, &name, value),
            _ => self.sockets(&mut settings.sockets, key, &name, value),
        };
        if !known {
            self.fail_at(Some(offset), unknown_key(section, key));
        }
    }

    fn top(&mut self, settings: &mut Settings, name: &str, value: &Value<'_>) -> bool {
        match name {
            "servers" => {
                self.put_list(&mut settings.servers, name, value, |r, v| values::server(v, r.base_dir));
            }
            "domains" => self.put_list(&mut settings.domains, name, value, |_, v| values::domain(v)),
            "control" => self.put(&mut settings.control, name, value, |r, v| values::control(v, r.base_dir)),
            "control_public" => self.flag(&mut settings.control_public, name, value),
            "pid" => self.put(&mut settings.pid, name, value, Self::pid),
            "secret" => self.put_list(&mut settings.auth.secrets, name, value, |_, v| Ok(Secret::new(v))),
            "secret_file" => self.put_list(&mut settings.secret_files, name, value, Self::path),
            "allow_weak_secret" => self.allow_weak(&mut settings.allow_weak_secret, name, value),
            "origins" => self.put_list(&mut settings.origins, name, value, |_, v| values::origin(v)),
            "on_message" => self.put(&mut settings.on_message, name, value, |_, v| on_message(v)),
            "user" => self.put(&mut settings.user, name, value, |_, v| values::account(v).map(Some)),
            "group" => self.put(&mut settings.group, name, value, |_, v| values::account(v).map(Some)),
            "log" => self.put(&mut settings.log, name, value, Self::log_target),
            "trusted_proxies" => {
                self.put_list(&mut settings.trusted_proxies, name, value, |_, v| values::network(v));
            }
            "reuseport" => self.flag(&mut settings.reuseport, name, value),
            _ => return false,
        }
        true
    }

    fn auth(&mut self, settings: &mut Settings, key: &str, name: &str, value: &Value<'_>) -> bool {
        let auth = &mut settings.auth;
        match key {
            "identity" => self.put(&mut auth.identity, name, value, |_, v| identity(v)),
            "digest" => self.put(&mut auth.digest, name, value, |_, v| digest(v)),
            // Below 16 a token can be guessed; 128 is more than any session identifier has.
            "token_length" => auth.token_length = self.count(auth.token_length, name, value, 16, 128),
            "lifetime" => auth.lifetime_s = self.seconds(auth.lifetime_s, name, value),
            "cookie_token" => self.put(&mut auth.cookie_token, name, value, |_, v| values::cookie_name(v)),
            "cookie_time" => self.put(&mut auth.cookie_time, name, value, |_, v| values::cookie_name(v)),
            "cookie_digest" => self.put(&mut auth.cookie_digest, name, value, |_, v| values::cookie_name(v)),
            "cookie_user" => self.put(&mut auth.cookie_user, name, value, |_, v| values::cookie_name(v)),
            _ => return false,
        }
        true
    }

    fn limits(&mut self, settings: &mut Settings, key: &str, name: &str, value: &Value<'_>) -> bool {
        let limits = &mut settings.limits;
        match key {
            "clients" => limits.clients = self.count_or_none(name, value),
            "connections_per_token" => {
                limits.connections_per_token = self.count_u32(limits.connections_per_token, name, value);
            }
            "connections_per_user" => {
                limits.connections_per_user = self.count_u32(limits.connections_per_user, name, value);
            }
            "unauthenticated" => limits.unauthenticated = self.count_or_none(name, value),
            "head" => self.size(&mut limits.head_bytes, name, value, HEAD_BYTES_MIN, HEAD_BYTES_MAX),
            "message" => self.size(&mut limits.message_bytes, name, value, 1, MESSAGE_BYTES_MAX),
            "outbox" => {
                let mut bytes = limits.outbox_bytes as usize;
                self.size(&mut bytes, name, value, 1, OUTBOX_BYTES_MAX);
                limits.outbox_bytes = bytes as u32;
            }
            "queued" => self.size(&mut limits.queued_bytes, name, value, 1, usize::MAX),
            "control_payload" => {
                self.size(&mut limits.control_payload_bytes, name, value, 1, CONTROL_PAYLOAD_BYTES_MAX);
            }
            "control_outbox" => {
                let bytes = &mut limits.control_outbox_bytes;
                self.size(bytes, name, value, CONTROL_OUTBOX_BYTES_MIN, OUTBOX_BYTES_MAX);
            }
            "control_total" => self.size(&mut limits.control_total_bytes, name, value, 1, usize::MAX),
            "backends" => limits.backends = self.count(limits.backends, name, value, 1, CLIENTS_MAX as i64),
            "addresses" => {
                limits.addresses = self.count(limits.addresses, name, value, 1, ADDRESSES_MAX as i64);
            }
            _ => return false,
        }
        true
    }

    fn timeouts(&mut self, settings: &mut Settings, key: &str, name: &str, value: &Value<'_>) -> bool {
        let timeouts = &mut settings.timeouts;
        let slot = match key {
            "handshake" => &mut timeouts.handshake_ms,
            "idle" => &mut timeouts.idle_ms,
            "pong" => &mut timeouts.pong_ms,
            "stalled" => &mut timeouts.stalled_ms,
            "close" => &mut timeouts.close_ms,
            "lock" => &mut timeouts.lock_ms,
            "control" => &mut timeouts.control_ms,
            "drain" => &mut timeouts.drain_ms,
            _ => return false,
        };
        self.duration(slot, name, value);
        true
    }

    fn tls(&mut self, settings: &mut Settings, key: &str, name: &str, value: &Value<'_>) -> bool {
        // `section` has set it before the first key is read.
        let Some(tls) = &mut settings.tls else { return false };
        match key {
            "certificate" => self.put(&mut tls.certificate, name, value, Self::path),
            "key" => self.put(&mut tls.key, name, value, Self::path),
            _ => return false,
        }
        true
    }

    fn sockets(&mut self, sockets: &mut Sockets, key: &str, name: &str, value: &Value<'_>) -> bool {
        match key {
            "servers_mode" => self.put(&mut sockets.servers_mode, name, value, |_, v| values::mode(v)),
            "control_mode" => self.put(&mut sockets.control_mode, name, value, |_, v| values::mode(v)),
            "owner" => self.put(&mut sockets.owner, name, value, |_, v| values::account(v).map(Some)),
            "group" => self.put(&mut sockets.group, name, value, |_, v| values::account(v).map(Some)),
            _ => return false,
        }
        true
    }
}

/// How one value is read: by the kind that it must have in TOML.
impl Reader<'_> {
    fn wrong_kind(&mut self, name: &str, value: &Value<'_>, wanted: &str) {
        let message = format!("\"{name}\" must be {wanted}, not {}", kind(value));
        self.fail_at(Some(value.span.start), message);
    }

    /// A string, turned into what the slot holds.
    fn put<T>(
        &mut self,
        slot: &mut T,
        name: &str,
        value: &Value<'_>,
        read: impl Fn(&Self, &str) -> Result<T, String>,
    ) {
        let Some(text) = value.as_str() else { return self.wrong_kind(name, value, "a string") };
        match read(self, text) {
            Ok(read) => *slot = read,
            Err(why) => self.fail_at(Some(value.span.start), format!("\"{name}\": {why}")),
        }
    }

    /// A single string or a list of them. One bad entry leaves the whole slot as it was.
    fn put_list<T>(
        &mut self,
        slot: &mut Vec<T>,
        name: &str,
        value: &Value<'_>,
        read: impl Fn(&Self, &str) -> Result<T, String>,
    ) {
        let items = items(value);
        let mut list = Vec::with_capacity(items.len());
        for item in items {
            match item.as_str().map(|text| read(self, text)) {
                Some(Ok(read)) => list.push(read),
                Some(Err(why)) => self.fail_at(Some(item.span.start), format!("\"{name}\": {why}")),
                None => self.wrong_kind(name, item, "a string or a list of strings"),
            }
        }
        if list.len() == items.len() {
            *slot = list;
        }
    }

    fn flag(&mut self, slot: &mut bool, name: &str, value: &Value<'_>) {
        match value.as_bool() {
            Some(flag) => *slot = flag,
            None => self.wrong_kind(name, value, "true or false"),
        }
    }

    /// The text may allow weak secrets, but not forbid what the command line allowed.
    fn allow_weak(&mut self, slot: &mut bool, name: &str, value: &Value<'_>) {
        let mut flag = false;
        self.flag(&mut flag, name, value);
        *slot |= flag;
    }

    fn whole(&mut self, name: &str, value: &Value<'_>, min: i64, max: i64) -> Option<i64> {
        let Some(number) = value.as_integer() else {
            self.wrong_kind(name, value, "a whole number");
            return None;
        };
        if (min..=max).contains(&number) {
            return Some(number);
        }
        let message = match number {
            0 => format!("\"{name}\" must not be 0: 0 is not \"unlimited\"; from {min} to {max}"),
            _ => format!("\"{name}\" must be from {min} to {max}, not {number}"),
        };
        self.fail_at(Some(value.span.start), message);
        None
    }

    fn count(&mut self, default: usize, name: &str, value: &Value<'_>, min: i64, max: i64) -> usize {
        self.whole(name, value, min, max).and_then(|n| usize::try_from(n).ok()).unwrap_or(default)
    }

    fn count_u32(&mut self, default: u32, name: &str, value: &Value<'_>) -> u32 {
        self.whole(name, value, 1, i64::from(u32::MAX)).and_then(|n| u32::try_from(n).ok()).unwrap_or(default)
    }

    fn count_or_none(&mut self, name: &str, value: &Value<'_>) -> Option<usize> {
        self.whole(name, value, 1, CLIENTS_MAX as i64).and_then(|n| usize::try_from(n).ok())
    }

    fn seconds(&mut self, default: i64, name: &str, value: &Value<'_>) -> i64 {
        self.whole(name, value, 1, LIFETIME_S_MAX).unwrap_or(default)
    }

    /// A number of bytes, or a string with a unit: `64 KiB`.
    fn size(&mut self, slot: &mut usize, name: &str, value: &Value<'_>, min: usize, max: usize) {
        let read = match value.as_ref() {
            ValueInner::Integer(bytes) => usize::try_from(*bytes).map_err(|_| "is below zero".to_owned()),
            ValueInner::String(text) => values::size(text),
            _ => return self.wrong_kind(name, value, "a number of bytes or a string like \"64 KiB\""),
        };
        let wrong = match read {
            Ok(0) => "must not be 0: 0 is not \"unlimited\"".to_owned(),
            Ok(bytes) if bytes < min => format!("must be at least {}", show_size(min)),
            Ok(bytes) if bytes > max => format!("must be at most {}", show_size(max)),
            Ok(bytes) => return *slot = bytes,
            Err(why) => why,
        };
        self.fail_at(Some(value.span.start), format!("\"{name}\" {wrong}"));
    }

    /// Seconds, whole or not, kept as milliseconds.
    fn duration(&mut self, slot: &mut u64, name: &str, value: &Value<'_>) {
        let seconds = match value.as_ref() {
            ValueInner::Integer(seconds) => *seconds as f64,
            ValueInner::Float(seconds) => *seconds,
            _ => return self.wrong_kind(name, value, "a number of seconds"),
        };
        let ms = (seconds * 1000.0).round();
        // A comparison with NaN is false, so NaN is refused too.
        if ms >= 1.0 && ms <= TIMEOUT_MS_MAX as f64 {
            return *slot = ms as u64;
        }
        let why = match seconds {
            0.0 => "must not be 0: 0 is not \"unlimited\"".to_owned(),
            _ => format!("must be from 0.001 to {} seconds, not {seconds}", TIMEOUT_MS_MAX / 1000),
        };
        self.fail_at(Some(value.span.start), format!("\"{name}\" {why}"));
    }

    fn path(&self, text: &str) -> Result<PathBuf, String> {
        values::path(text, self.base_dir)
    }

    /// An empty string means that there is no PID file.
    fn pid(&self, text: &str) -> Result<Option<PathBuf>, String> {
        if text.is_empty() { Ok(None) } else { self.path(text).map(Some) }
    }

    /// A path needs a slash, so that a mistyped "syslog" does not become a file.
    fn log_target(&self, text: &str) -> Result<LogTarget, String> {
        match text {
            "stderr" => Ok(LogTarget::Stderr),
            "syslog" => Ok(LogTarget::Syslog),
            path if path.contains('/') => self.path(path).map(LogTarget::File),
            _ => Err(format!("\"{text}\" must be \"stderr\", \"syslog\", or a path with a slash in it")),
        }
    }

    fn secrets_are_strong(&mut self, value: &Value<'_>) {
        for item in items(value) {
            let weakness = item.as_str().and_then(|secret| super::secret_weakness(secret.as_bytes()));
            if let Some(why) = weakness {
                self.fail_at(Some(item.span.start), format!("\"secret\" {why}"));
            }
        }
    }
}

fn on_message(text: &str) -> Result<OnMessage, String> {
    match text {
        "broadcast" => Ok(OnMessage::Broadcast),
        "drop" => Ok(OnMessage::Drop),
        "echo" => Ok(OnMessage::Echo),
        "log" => Ok(OnMessage::Log),
        _ => Err(one_of(text, &["drop", "echo", "broadcast", "log"])),
    }
}

fn identity(text: &str) -> Result<IdentityKind, String> {
    match text {
        "token" => Ok(IdentityKind::Token),
        "user" => Ok(IdentityKind::User),
        _ => Err(one_of(text, &["token", "user"])),
    }
}

fn digest(text: &str) -> Result<Digest, String> {
    match text {
        "md5" => Ok(Digest::Md5),
        "hmac-sha256" => Ok(Digest::HmacSha256),
        _ => Err(one_of(text, &["md5", "hmac-sha256"])),
    }
}

fn one_of(text: &str, choices: &[&str]) -> String {
    let choices: Vec<String> = choices.iter().map(|choice| format!("\"{choice}\"")).collect();
    format!("{text:?} must be one of {}", choices.join(", "))
}

fn section_keys(section: &str) -> Option<&'static [&'static str]> {
    KEYS.iter().find(|(name, _)| *name == section).map(|(_, keys)| *keys)
}

/// The commonest mistake in TOML beside a typing error is a key below the wrong section, so that is looked for first.
fn unknown_key(section: &str, key: &str) -> String {
    let place = if section.is_empty() { String::new() } else { format!(" in [{section}]") };
    if let Some((home, _)) = KEYS.iter().find(|(_, keys)| keys.contains(&key)) {
        return match *home {
            "" => format!("unknown key \"{key}\"{place}; it belongs above the first section"),
            home => format!("unknown key \"{key}\"{place}; it belongs in [{home}]"),
        };
    }
    let keys = section_keys(section).unwrap_or_default();
    format!("unknown key {key:?}{place}{}", hint(key, keys.iter().copied(), "\"", "\""))
}

fn hint<'c>(word: &str, choices: impl Iterator<Item = &'c str>, open: &str, close: &str) -> String {
    super::nearest(word, choices)
        .map_or(String::new(), |choice| format!("; did you mean {open}{choice}{close}?"))
}

/// The entries of a list; anything else is a list of one.
fn items<'v, 'de>(value: &'v Value<'de>) -> &'v [Value<'de>] {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice)
}

fn kind(value: &Value<'_>) -> &'static str {
    match value.as_ref() {
        ValueInner::String(_) => "a string",
        ValueInner::Integer(_) => "a whole number",
        ValueInner::Float(_) => "a number with a fraction",
        ValueInner::Boolean(true) => "true",
        ValueInner::Boolean(false) => "false",
        ValueInner::Array(_) => "a list",
        ValueInner::Table(_) => "a section",
    }
}

fn syntax_message(error: &toml_span::Error, text: &str) -> String {
    use toml_span::ErrorKind as Kind;
    match &error.kind {
        Kind::DuplicateKey { key, first } => {
            format!("{key:?} is given twice; first in line {}", line_column(text, first.start).0)
        }
        Kind::DuplicateTable { name, first } => {
            format!("[{name}] is given twice; first in line {}", line_column(text, first.start).0)
        }
        Kind::UnquotedString => "a string must be in quotes".into(),
        Kind::UnterminatedString => "the string is not closed".into(),
        Kind::InvalidCharInString('\n') => "the string is not closed before the end of the line".into(),
        Kind::UnexpectedEof => "the file ends in the middle of a value".into(),
        Kind::Unexpected(character) => format!("{character:?} is not expected here"),
        Kind::Wanted { expected, found } => format!("expected {expected}, found {found}"),
        _ => error.to_string(),
    }
}

/// Line and column from 1; the column in characters, as editors count.
fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (line, before[start..].chars().count() + 1)
}
