//! How values of one kind are read from TOML, written back, and described: counts, sizes, times, words, lists.
//!
//! A row of `keys.rs` names a shape with its bounds; no other module knows the form of a key's value. A shape that
//! cannot read a value reports why and leaves the slot as it was.

use super::parse::{Reader, items};
use super::values::{self, show_size};
use std::fmt::Write;
use std::path::Path;
use toml_span::value::{Value, ValueInner};

/// The text behind the `=` when a setting is shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Shown {
    /// A value of TOML, which reads back as the same setting.
    Value(String),
    /// Nothing is set, and the server works the value out as this says.
    WorkedOut(&'static str),
    /// Nothing is set.
    Unset,
}

/// A kind of value, described.
pub(super) trait Describe {
    /// The values that may stand there, with their bounds and unit: "a size, 256 B to 64 KiB".
    fn describe(&self) -> String;
}

/// A kind of value, kept in a `T`.
pub(super) trait Shape<T>: Describe {
    fn read(&self, reader: &mut Reader<'_>, slot: &mut T, name: &str, value: &Value<'_>);
    fn show(&self, value: &T) -> Shown;
}

/// A whole number.
pub(super) struct Count {
    pub min: i64,
    pub max: i64,
    /// "seconds", "letters"; none for a number of things that the key names itself.
    pub unit: &'static str,
}

impl Count {
    pub(super) const fn from(min: i64, max: i64) -> Self {
        Self { min, max, unit: "" }
    }

    fn whole(&self, reader: &mut Reader<'_>, name: &str, value: &Value<'_>) -> Option<i64> {
        let Some(number) = value.as_integer() else {
            reader.wrong_kind(name, value, "a whole number");
            return None;
        };
        let Self { min, max, .. } = self;
        if (*min..=*max).contains(&number) {
            return Some(number);
        }
        let message = match number {
            0 => format!("\"{name}\" must not be 0: 0 is not \"unlimited\"; from {min} to {max}"),
            _ => format!("\"{name}\" must be from {min} to {max}, not {number}"),
        };
        reader.fail_at(Some(value.span.start), message);
        None
    }
}

impl Describe for Count {
    fn describe(&self) -> String {
        let Self { min, max, unit } = self;
        format!("a whole number{}{unit}, {min} to {max}", if unit.is_empty() { "" } else { " of " })
    }
}

macro_rules! counts {
    ($($number:ty),*) => {$(
        impl Shape<$number> for Count {
            fn read(&self, reader: &mut Reader<'_>, slot: &mut $number, name: &str, value: &Value<'_>) {
                if let Some(number) = self.whole(reader, name, value).and_then(|n| n.try_into().ok()) {
                    *slot = number;
                }
            }

            fn show(&self, value: &$number) -> Shown {
                Shown::Value(value.to_string())
            }
        }
    )*};
}
counts!(usize, u32, i64);

/// A whole number that the server works out when it is not given.
pub(super) struct CountOr {
    pub count: Count,
    pub worked_out: &'static str,
}

impl Describe for CountOr {
    fn describe(&self) -> String {
        self.count.describe()
    }
}

impl Shape<Option<usize>> for CountOr {
    fn read(&self, reader: &mut Reader<'_>, slot: &mut Option<usize>, name: &str, value: &Value<'_>) {
        *slot = self.count.whole(reader, name, value).and_then(|n| usize::try_from(n).ok());
    }

    fn show(&self, value: &Option<usize>) -> Shown {
        value.map_or(Shown::WorkedOut(self.worked_out), |count| Shown::Value(count.to_string()))
    }
}

/// A number of bytes, or a string with a unit: `64 KiB`.
pub(super) struct Size {
    pub min: usize,
    pub max: usize,
}

impl Size {
    fn bytes(&self, reader: &mut Reader<'_>, name: &str, value: &Value<'_>) -> Option<usize> {
        let read = match value.as_ref() {
            ValueInner::Integer(bytes) => usize::try_from(*bytes).map_err(|_| "is below zero".to_owned()),
            ValueInner::String(text) => values::size(text),
            _ => {
                reader.wrong_kind(name, value, "a number of bytes or a string like \"64 KiB\"");
                return None;
            }
        };
        let wrong = match read {
            Ok(0) if self.min > 0 => "must not be 0: 0 is not \"unlimited\"".to_owned(),
            Ok(bytes) if bytes < self.min => format!("must be at least {}", show_size(self.min)),
            Ok(bytes) if bytes > self.max => format!("must be at most {}", show_size(self.max)),
            Ok(bytes) => return Some(bytes),
            Err(why) => why,
        };
        reader.fail_at(Some(value.span.start), format!("\"{name}\" {wrong}"));
        None
    }
}

impl Describe for Size {
    fn describe(&self) -> String {
        match self.max {
            usize::MAX => format!("a size, at least {}", show_size(self.min)),
            max => format!("a size, {} to {}", show_size(self.min), show_size(max)),
        }
    }
}

impl Shape<usize> for Size {
    fn read(&self, reader: &mut Reader<'_>, slot: &mut usize, name: &str, value: &Value<'_>) {
        if let Some(bytes) = self.bytes(reader, name, value) {
            *slot = bytes;
        }
    }

    fn show(&self, value: &usize) -> Shown {
        Shown::Value(quote(&show_size(*value)))
    }
}

impl Shape<u32> for Size {
    fn read(&self, reader: &mut Reader<'_>, slot: &mut u32, name: &str, value: &Value<'_>) {
        if let Some(bytes) = self.bytes(reader, name, value).and_then(|bytes| bytes.try_into().ok()) {
            *slot = bytes;
        }
    }

    fn show(&self, value: &u32) -> Shown {
        Shape::show(self, &(*value as usize))
    }
}

/// Seconds, whole or not, kept as milliseconds.
pub(super) struct Seconds {
    pub min_ms: u64,
    pub max_ms: u64,
}

/// Whole seconds without a fraction, others with three digits of one.
fn show_seconds(ms: u64) -> String {
    match ms % 1000 {
        0 => (ms / 1000).to_string(),
        rest => format!("{}.{rest:03}", ms / 1000),
    }
}

impl Describe for Seconds {
    fn describe(&self) -> String {
        format!("seconds, {} to {}", show_seconds(self.min_ms), show_seconds(self.max_ms))
    }
}

impl Shape<u64> for Seconds {
    fn read(&self, reader: &mut Reader<'_>, slot: &mut u64, name: &str, value: &Value<'_>) {
        let seconds = match value.as_ref() {
            ValueInner::Integer(seconds) => *seconds as f64,
            ValueInner::Float(seconds) => *seconds,
            _ => return reader.wrong_kind(name, value, "a number of seconds"),
        };
        let ms = (seconds * 1000.0).round();
        // A comparison with NaN is false, so NaN is refused too.
        if ms >= self.min_ms as f64 && ms <= self.max_ms as f64 {
            return *slot = ms as u64;
        }
        let (min, max) = (show_seconds(self.min_ms), show_seconds(self.max_ms));
        let why = match seconds {
            0.0 => "must not be 0: 0 is not \"unlimited\"".to_owned(),
            _ => format!("must be from {min} to {max} seconds, not {seconds}"),
        };
        reader.fail_at(Some(value.span.start), format!("\"{name}\" {why}"));
    }

    fn show(&self, value: &u64) -> Shown {
        Shown::Value(show_seconds(*value))
    }
}

/// `true` or `false`.
pub(super) struct Flag;

impl Describe for Flag {
    fn describe(&self) -> String {
        "true or false".into()
    }
}

impl Shape<bool> for Flag {
    fn read(&self, reader: &mut Reader<'_>, slot: &mut bool, name: &str, value: &Value<'_>) {
        match value.as_bool() {
            Some(flag) => *slot = flag,
            None => reader.wrong_kind(name, value, "true or false"),
        }
    }

    fn show(&self, value: &bool) -> Shown {
        Shown::Value(value.to_string())
    }
}

/// A flag that the command line may have set already; the text may set it too, but not take it back.
pub(super) struct StickyFlag;

impl Describe for StickyFlag {
    fn describe(&self) -> String {
        Flag.describe()
    }
}

impl Shape<bool> for StickyFlag {
    fn read(&self, reader: &mut Reader<'_>, slot: &mut bool, name: &str, value: &Value<'_>) {
        let mut flag = false;
        Flag.read(reader, &mut flag, name, value);
        *slot |= flag;
    }

    fn show(&self, value: &bool) -> Shown {
        Flag.show(value)
    }
}

/// One of a few words.
pub(super) struct Choice<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Clone> Choice<T> {
    pub(super) fn find(&self, text: &str) -> Result<T, String> {
        let found = self.0.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| value.clone()).ok_or_else(|| format!("{text:?} must be {}", self.describe()))
    }
}

impl<T> Describe for Choice<T> {
    fn describe(&self) -> String {
        let words: Vec<String> = self.0.iter().map(|(word, _)| quote(word)).collect();
        format!("one of {}", words.join(", "))
    }
}

impl<T: Clone + PartialEq> Shape<T> for Choice<T> {
    fn read(&self, reader: &mut Reader<'_>, slot: &mut T, name: &str, value: &Value<'_>) {
        reader.put(slot, name, value, |text, _| self.find(text));
    }

    fn show(&self, value: &T) -> Shown {
        let word = self.0.iter().find(|(_, choice)| choice == value).map(|(word, _)| *word);
        word.map_or(Shown::Unset, |word| Shown::Value(quote(word)))
    }
}

/// A string with a form of its own. `show` gives the text back that reads as this value, or none when nothing is set.
pub(super) struct Text<T> {
    pub about: &'static str,
    pub read: fn(&str, &Path) -> Result<T, String>,
    pub show: fn(&T) -> Option<String>,
}

impl<T> Describe for Text<T> {
    fn describe(&self) -> String {
        self.about.into()
    }
}

impl<T> Shape<T> for Text<T> {
    fn read(&self, reader: &mut Reader<'_>, slot: &mut T, name: &str, value: &Value<'_>) {
        reader.put(slot, name, value, self.read);
    }

    fn show(&self, value: &T) -> Shown {
        (self.show)(value).map_or(Shown::Unset, |text| Shown::Value(quote(&text)))
    }
}

/// A single string or a list of them. One bad entry leaves the whole slot as it was.
pub(super) struct List<T> {
    pub about: &'static str,
    pub read: fn(&str, &Path) -> Result<T, String>,
    /// All entries, since a mask counts them; none when the key has nothing to show.
    pub show: fn(&[T]) -> Option<Vec<String>>,
}

impl<T> Describe for List<T> {
    fn describe(&self) -> String {
        format!("{}, or a list", self.about)
    }
}

impl<T> Shape<Vec<T>> for List<T> {
    fn read(&self, reader: &mut Reader<'_>, slot: &mut Vec<T>, name: &str, value: &Value<'_>) {
        let entries = items(value);
        let mut list = Vec::with_capacity(entries.len());
        for entry in entries {
            match entry.as_str().map(|text| (self.read)(text, reader.base_dir)) {
                Some(Ok(read)) => list.push(read),
                Some(Err(why)) => {
                    let why = entry.as_str().and_then(|text| self.several(reader, text)).unwrap_or(why);
                    reader.fail_at(Some(entry.span.start), format!("\"{name}\": {why}"));
                }
                None => reader.wrong_kind(name, entry, "a string or a list of strings"),
            }
        }
        if list.len() == entries.len() {
            *slot = list;
        }
    }

    fn show(&self, value: &Vec<T>) -> Shown {
        let Some(entries) = (self.show)(value) else { return Shown::Unset };
        let entries: Vec<String> = entries.iter().map(|entry| quote(entry)).collect();
        Shown::Value(format!("[{}]", entries.join(", ")))
    }
}

impl<T> List<T> {
    /// The sentence for a list that was written into one string, if this is one.
    fn several(&self, reader: &Reader<'_>, text: &str) -> Option<String> {
        let parts: Vec<&str> =
            text.split([',', ';', ' ', '|']).map(str::trim).filter(|part| !part.is_empty()).collect();
        let are_entries = parts.iter().all(|part| (self.read)(part, reader.base_dir).is_ok());
        (parts.len() > 1 && are_entries).then(|| {
            let list: Vec<String> = parts.iter().map(|part| quote(part)).collect();
            format!("{text:?} are {} entries in one string; a list is [{}]", parts.len(), list.join(", "))
        })
    }
}

/// A basic string of TOML: quotes, backslashes and control characters escaped.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(control));
            }
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}
