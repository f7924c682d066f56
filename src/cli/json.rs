//! As much JSON as the status needs: reading one value, and quoting a string.
//!
//! A reader of its own and no dependency, for one object that our own server wrote. It takes all of RFC 8259, keeps
//! the order of the fields, and refuses what is nested deeper than any status.

/// Deeper than this is no status; it also bounds the recursion.
const DEPTH_MAX: u32 = 16;

/// A value. Numbers are kept as they were written: they are shown, not computed with, but for a few.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Json {
    /// Reads one value that fills the text; `None` when it is not JSON.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut reader = Reader { rest: text };
        let value = reader.value(0)?;
        reader.rest.trim_start_matches(BLANK).is_empty().then_some(value)
    }

    /// A field of an object.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        self.fields().iter().find(|(field, _)| field == name).map(|(_, value)| value)
    }

    /// The fields of an object; nothing else has any.
    pub(crate) fn fields(&self) -> &[(String, Self)] {
        if let Self::Object(fields) = self { fields } else { &[] }
    }

    /// The entries of a list; nothing else has any.
    pub(crate) fn items(&self) -> &[Self] {
        if let Self::List(items) = self { items } else { &[] }
    }

    /// A whole number that is not negative.
    pub(crate) fn count(&self) -> Option<u64> {
        if let Self::Number(number) = self { number.parse().ok() } else { None }
    }

    /// A string.
    pub(crate) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

/// RFC 8259 section 2: insignificant whitespace.
const BLANK: [char; 4] = [' ', '\t', '\n', '\r'];

struct Reader<'t> {
    rest: &'t str,
}

impl Reader<'_> {
    /// Skips blanks, then takes the piece if it is next.
    fn take(&mut self, piece: &str) -> Option<()> {
        let rest = self.rest.trim_start_matches(BLANK);
        self.rest = rest.strip_prefix(piece)?;
        Some(())
    }

    fn value(&mut self, depth: u32) -> Option<Json> {
        if depth > DEPTH_MAX {
            return None;
        }
        match self.rest.trim_start_matches(BLANK).chars().next()? {
            '{' => self.object(depth),
            '[' => self.list(depth),
            '"' => self.string().map(Json::Text),
            't' => self.take("true").map(|()| Json::Bool(true)),
            'f' => self.take("false").map(|()| Json::Bool(false)),
            'n' => self.take("null").map(|()| Json::Null),
            _ => self.number(),
        }
    }

    fn object(&mut self, depth: u32) -> Option<Json> {
        self.take("{")?;
        let mut fields = Vec::new();
        if self.take("}").is_some() {
            return Some(Json::Object(fields));
        }
        loop {
            let name = self.string()?;
            self.take(":")?;
            fields.push((name, self.value(depth + 1)?));
            if self.take(",").is_none() {
                return self.take("}").map(|()| Json::Object(fields));
            }
        }
    }

    fn list(&mut self, depth: u32) -> Option<Json> {
        self.take("[")?;
        let mut items = Vec::new();
        if self.take("]").is_some() {
            return Some(Json::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            if self.take(",").is_none() {
                return self.take("]").map(|()| Json::List(items));
            }
        }
    }

    fn number(&mut self) -> Option<Json> {
        let rest = self.rest.trim_start_matches(BLANK);
        let end = rest.find(|c: char| !(c.is_ascii_digit() || "+-.eE".contains(c))).unwrap_or(rest.len());
        let (number, rest) = rest.split_at(end);
        number.parse::<f64>().ok()?;
        self.rest = rest;
        Some(Json::Number(number.to_owned()))
    }

    fn string(&mut self) -> Option<String> {
        self.take("\"")?;
        let mut text = String::new();
        loop {
            let plain = self.rest.find(['"', '\\'])?;
            text.push_str(&self.rest[..plain]);
            let quoted = self.rest[plain..].starts_with('"');
            self.rest = &self.rest[plain + 1..];
            if quoted {
                return Some(text);
            }
            text.push(self.escape()?);
        }
    }

    fn escape(&mut self) -> Option<char> {
        let kind = self.rest.chars().next()?;
        self.rest = &self.rest[kind.len_utf8()..];
        Some(match kind {
            '"' | '\\' | '/' => kind,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => return self.unicode(),
            _ => return None,
        })
    }

    /// Four digits, or eight in two escapes for what lies beyond 0xFFFF; half of such a pair is shown as U+FFFD.
    fn unicode(&mut self) -> Option<char> {
        let high = self.hex4()?;
        if !(0xD800..0xDC00).contains(&high) || !self.rest.starts_with("\\u") {
            return Some(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        self.rest = &self.rest[2..];
        let low = self.hex4()?;
        let code = 0x1_0000 + ((high - 0xD800) << 10) + low.wrapping_sub(0xDC00).min(0x3FF);
        Some(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.rest.get(..4)?;
        self.rest = &self.rest[4..];
        let hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        u32::from_str_radix(digits, 16).ok().filter(|_| hex)
    }
}

/// A string of JSON.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => quoted += &format!("\\u{:04x}", u32::from(control)),
            plain => quoted.push(plain),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read() {
        let json = Json::parse(
            r#" {"a":1,"b":[true,null,-2.5e3],"c":{"d":"x\"\\\n\u00e9\ud83d\ude00"},"e":[],"f":{}} "#,
        );
        let json = json.expect("it is JSON");
        assert_eq!(json.get("a").and_then(Json::count), Some(1));
        let list = [Json::Bool(true), Json::Null, Json::Number("-2.5e3".into())];
        assert_eq!(json.get("b").map(Json::items), Some(&list[..]));
        assert_eq!(json.get("c").and_then(|c| c.get("d")).and_then(Json::text), Some("x\"\\\né😀"));
        assert_eq!(json.fields().len(), 5);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        let deep = "[".repeat(100_000);
        for text in [
            "",
            "{",
            "{\"a\"}",
            "{\"a\":1,}",
            "[1 2]",
            "\"",
            "\"\\u12\"",
            "\"\\u+123\"",
            "\"\\x\"",
            "tru",
            "1 1",
            "--1",
            &deep,
        ] {
            assert_eq!(Json::parse(text), None, "{}", &text[..text.len().min(20)]);
        }
    }

    #[test]
    fn quoting_is_undone_by_reading() {
        let text = "a\"\\\n\t\u{1}é/";
        assert_eq!(Json::parse(&quote(text)), Some(Json::Text(text.into())));
    }
}
