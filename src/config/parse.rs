//! TOML text to [`Settings`]: every mistake is reported, each with its place and, where there is one, the way out.
//!
//! A mistake never stops the reading: the value keeps its default and the next key is read, so that one run shows
//! them all. The forms of single values are in `values.rs`, the rules between values in `check.rs`.
//! A value of `secret` never appears in an error.

use super::{ConfigError, Key, Settings, TlsFiles, check, find, keys, sections};
use std::collections::BTreeMap;
use std::path::Path;
use toml_span::value::{Table, Value, ValueInner};

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
            // A value that could not be read has left a default behind, which would contradict right values.
            if reader.errors.is_empty() {
                check::together(&settings, &mut reader);
            }
        }
        Err(error) => reader.syntax(&error),
    }
    reader.errors.sort_by_key(|error| (error.line, error.column));
    if reader.errors.is_empty() { Ok(settings) } else { Err(reader.errors) }
}

/// Reads values, remembers where they were, collects their mistakes.
pub(super) struct Reader<'t> {
    text: &'t str,
    pub(super) base_dir: &'t Path,
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

    pub(super) fn fail_at(&mut self, offset: Option<usize>, message: impl Into<String>) {
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
            let mut named = sections().filter(|section| !section.is_empty());
            match (named.any(|section| section == key.name), value.as_table()) {
                (true, Some(section)) => self.section(settings, &key.name, section),
                (true, None) => {
                    self.fail_at(Some(key.span.start), format!("\"{0}\" must be a section: [{0}]", key.name));
                }
                (false, Some(_)) if find("", &key.name).is_none() => {
                    let hint = hint(&key.name, sections(), "[", "]");
                    self.fail_at(Some(key.span.start), format!("unknown section [{}]{hint}", key.name));
                }
                (false, _) => self.key(settings, "", &key.name, key.span.start, value),
            }
        }
        // Only now is it known whether weak ones are allowed.
        if let Some(secret) = table.get("secret").filter(|_| !settings.allow_weak_secret) {
            self.secrets_are_strong(secret);
        }
    }

    fn section(&mut self, settings: &mut Settings, section: &str, table: &Table<'_>) {
        if section == "tls" {
            // A section without keys asks for TLS too, so that the missing keys are errors.
            settings.tls = Some(TlsFiles::default());
        }
        for (key, value) in table {
            self.key(settings, section, &key.name, key.span.start, value);
        }
    }

    fn key(&mut self, settings: &mut Settings, section: &str, key: &str, offset: usize, value: &Value<'_>) {
        let name = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
        self.places.insert(name.clone(), value.span.start);
        match find(section, key) {
            Some(key) => (key.read)(self, settings, &name, value),
            None => self.fail_at(Some(offset), unknown_key(section, key)),
        }
    }
}

/// The operations that all shapes of values share.
impl Reader<'_> {
    pub(super) fn wrong_kind(&mut self, name: &str, value: &Value<'_>, wanted: &str) {
        let message = format!("\"{name}\" must be {wanted}, not {}", kind(value));
        self.fail_at(Some(value.span.start), message);
    }

    /// A string, turned into the type of the slot.
    pub(super) fn put<T>(
        &mut self,
        slot: &mut T,
        name: &str,
        value: &Value<'_>,
        read: impl Fn(&str, &Path) -> Result<T, String>,
    ) {
        let Some(text) = value.as_str() else { return self.wrong_kind(name, value, "a string") };
        match read(text, self.base_dir) {
            Ok(read) => *slot = read,
            Err(why) => self.fail_at(Some(value.span.start), format!("\"{name}\": {why}")),
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

/// The commonest mistake in TOML beside a typing error is a key below the wrong section, so that is looked for first.
fn unknown_key(section: &str, key: &str) -> String {
    let place = if section.is_empty() { String::new() } else { format!(" in [{section}]") };
    if let Some(home) = keys().find(|known| known.word() == key) {
        return match home.section {
            "" => format!("unknown key \"{key}\"{place}; it belongs above the first section"),
            home => format!("unknown key \"{key}\"{place}; it belongs in [{home}]"),
        };
    }
    let words = keys().filter(|known| known.section == section).map(Key::word);
    format!("unknown key {key:?}{place}{}", hint(key, words, "\"", "\""))
}

fn hint<'c>(word: &str, choices: impl Iterator<Item = &'c str>, open: &str, close: &str) -> String {
    super::nearest(word, choices)
        .map_or(String::new(), |choice| format!("; did you mean {open}{choice}{close}?"))
}

/// The entries of a list; anything else is a list of one.
pub(super) fn items<'v, 'de>(value: &'v Value<'de>) -> &'v [Value<'de>] {
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
