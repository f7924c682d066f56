//! Sends in JSON, which HTTP carries: `{"to":["u:44"],"text":"Hello"}`, with `"base64"` instead of `"text"` for a binary
//! message, or a list of such objects.
//!
//! It executes nothing. Invariant: what [`Sends::parse`] gives is whole: each list of addresses is well-formed, and the
//! text was one JSON value in which no member stands twice or is unknown. So nothing of a body is done that has a fault
//! anywhere.

use super::{Addresses, ListRules};
use crate::wire::frame::Kind;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_core::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// A message and its receivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// A well-formed list of addresses.
    pub to: String,
    /// The kind of the message.
    pub kind: Kind,
    /// The message; text is UTF-8.
    pub message: Vec<u8>,
}

/// The sends of one body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sends {
    /// In their order.
    pub list: Vec<Planned>,
    /// They came as a list, and the answers go as one.
    pub as_list: bool,
}

/// Why a body is no sends, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendsError {
    /// The fault.
    pub why: String,
    /// From 1.
    pub line: usize,
    /// In bytes, from 1.
    pub column: usize,
}

impl fmt::Display for SendsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.why)
    }
}

impl Sends {
    /// Reads a body. All its addresses together are at most as many as one list may have.
    ///
    /// # Errors
    /// The first fault.
    pub fn parse(body: &[u8], rules: ListRules) -> Result<Self, SendsError> {
        let mut room = Room { rules, addresses: rules.items_max };
        let mut text = serde_json::Deserializer::from_slice(body);
        let read = Whole(&mut room).deserialize(&mut text);
        read.and_then(|sends| text.end().map(|()| sends)).map_err(|error| {
            let why = error.to_string();
            let place = why.rfind(" at line ").unwrap_or(why.len());
            SendsError { why: why[..place].to_owned(), line: error.line(), column: error.column() }
        })
    }
}

/// How many addresses may still come.
struct Room {
    rules: ListRules,
    addresses: usize,
}

struct Whole<'r>(&'r mut Room);

impl<'de> DeserializeSeed<'de> for Whole<'_> {
    type Value = Sends;

    fn deserialize<D: Deserializer<'de>>(self, text: D) -> Result<Sends, D::Error> {
        text.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = Sends;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with \"to\" and \"text\" or \"base64\", or a list of them")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Sends, A::Error> {
        Ok(Sends { list: vec![One(self.0).visit_map(members)?], as_list: false })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Sends, A::Error> {
        let mut list = Vec::new();
        while let Some(send) = items.next_element_seed(One(self.0))? {
            list.push(send);
        }
        Ok(Sends { list, as_list: true })
    }
}

struct One<'r>(&'r mut Room);

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = Planned;

    fn deserialize<D: Deserializer<'de>>(self, text: D) -> Result<Planned, D::Error> {
        text.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for One<'_> {
    type Value = Planned;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with \"to\" and \"text\" or \"base64\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Planned, A::Error> {
        let (mut to, mut message) = (None, None);
        while let Some(name) = members.next_key_seed(Text)? {
            match &*name {
                "to" if to.is_none() => to = Some(members.next_value_seed(To(self.0))?),
                "text" if message.is_none() => {
                    let text = members.next_value_seed(Text)?.into_owned();
                    message = Some((Kind::Text, text.into_bytes()));
                }
                "base64" if message.is_none() => {
                    let text = members.next_value_seed(Text)?;
                    let bytes = STANDARD.decode(&*text).map_err(|_| Error::custom("this is not base64"))?;
                    message = Some((Kind::Binary, bytes));
                }
                "to" => return Err(Error::custom("\"to\" is there twice")),
                "text" | "base64" => return Err(Error::custom("there are two messages")),
                other => {
                    let why = format!("there is no member {other:?}: \"to\", \"text\", \"base64\"");
                    return Err(Error::custom(why));
                }
            }
        }
        let to = to.ok_or_else(|| Error::custom("\"to\" is missing"))?;
        let (kind, message) = message.ok_or_else(|| Error::custom("\"text\" or \"base64\" is missing"))?;
        Ok(Planned { to, kind, message })
    }
}

/// The addresses: a list of strings, or a string with commas, as in the URL.
struct To<'r>(&'r mut Room);

impl<'de> DeserializeSeed<'de> for To<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, text: D) -> Result<String, D::Error> {
        text.deserialize_any(self)
    }
}

impl To<'_> {
    fn take<E: Error>(&mut self, list: &str, items_max: usize) -> Result<(), E> {
        let rules = ListRules { items_max, ..self.0.rules };
        let read = Addresses::parse(list.as_bytes(), rules).map_err(Error::custom)?;
        let left = self.0.addresses.checked_sub(read.len());
        self.0.addresses = left.ok_or_else(|| {
            Error::custom(format!("there are more than {} addresses", self.0.rules.items_max))
        })?;
        Ok(())
    }
}

impl<'de> Visitor<'de> for To<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of addresses")
    }

    fn visit_str<E: Error>(mut self, list: &str) -> Result<String, E> {
        self.take(list, self.0.rules.items_max)?;
        Ok(list.to_owned())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<String, A::Error> {
        let mut list = String::new();
        while let Some(item) = items.next_element_seed(Text)? {
            self.take(&item, 1)?;
            if !list.is_empty() {
                list.push(',');
            }
            list.push_str(&item);
        }
        if list.is_empty() { Err(Error::custom("\"to\" names nobody")) } else { Ok(list) }
    }
}

/// A string, borrowed where it stands in the body as it is.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, text: D) -> Result<Cow<'de, str>, D::Error> {
        text.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: ListRules = ListRules { token_length: 4, items_max: 3 };

    fn send(to: &str, kind: Kind, message: &[u8]) -> Planned {
        Planned { to: to.into(), kind, message: message.into() }
    }

    #[track_caller]
    fn good(body: &str, as_list: bool, list: &[Planned]) {
        assert_eq!(
            Sends::parse(body.as_bytes(), RULES),
            Ok(Sends { list: list.to_vec(), as_list }),
            "{body}"
        );
    }

    #[track_caller]
    fn bad(body: &[u8], place: (usize, usize), words: &str) {
        let error = Sends::parse(body, RULES).expect_err(&body.escape_ascii().to_string());
        assert!(error.why.contains(words) && !error.why.contains(" at line "), "{error}");
        assert_eq!(
            (error.line, error.column),
            place,
            "{} {error}",
            body[..body.len().min(60)].escape_ascii()
        );
    }

    #[test]
    fn one_or_several() {
        let hello = send("u:44,t:a,-b,*", Kind::Text, "Hellö \n\u{1F600}".as_bytes());
        good(
            r#"{"to":["u:44","t:a,-b","*"],"text":"Hellö \n\ud83d\ude00"}"#,
            false,
            std::slice::from_ref(&hello),
        );
        good(r#" [ {"text":"Hellö \n😀","to":"u:44,t:a,-b,*"} ] "#, true, &[hello]);
        let two = [send("u:1", Kind::Binary, b"\x00\xff"), send("-u:2", Kind::Text, b"")];
        good(r#"[{"to":["u:1"],"base64":"AP8="},{"to":["-u:2"],"text":""}]"#, true, &two);
        good("[]", true, &[]);
    }

    #[test]
    fn a_fault_is_told_with_its_place() {
        for (body, place, words) in [
            (&b""[..], (1, 0), "EOF"),
            (b"{", (1, 1), "EOF"),
            (b"nothing", (1, 2), "expected ident"),
            (b"3", (1, 1), "invalid type"),
            (b"\"to\"", (1, 4), "invalid type"),
            (b"[3]", (1, 2), "invalid type"),
            (b"{}", (1, 2), "\"to\" is missing"),
            (b"{\"to\":[\"*\"]}", (1, 12), "\"text\" or \"base64\" is missing"),
            (b"{\"text\":\"x\"}", (1, 12), "\"to\" is missing"),
            (b"{\"to\":[],\"text\":\"x\"}", (1, 8), "names nobody"),
            (b"{\"to\":[\"x:1\"],\"text\":\"x\"}", (1, 13), "address"),
            (b"{\"to\":[\"u:1,u:2\"],\"text\":\"x\"}", (1, 17), "1"),
            (b"{\"to\":[\"u:1\",\n\"u:2\",\"u:3\",\"u:4\"],\"text\":\"x\"}", (2, 18), "more than 3"),
            (b"{\"to\":[1],\"text\":\"x\"}", (1, 8), "invalid type"),
            (b"{\"to\":{},\"text\":\"x\"}", (1, 8), "invalid type"),
            (b"{\"to\":[\"*\"],\"to\":[\"*\"],\"text\":\"x\"}", (1, 16), "\"to\" is there twice"),
            (b"{\"to\":[\"*\"],\"text\":\"x\",\"text\":\"x\"}", (1, 29), "two messages"),
            (b"{\"to\":[\"*\"],\"text\":\"x\",\"base64\":\"\"}", (1, 31), "two messages"),
            (b"{\"to\":[\"*\"],\"text\":\"x\",\"kind\":\"text\"}", (1, 29), "there is no member \"kind\""),
            (b"{\"to\":[\"*\"],\"text\":NaN}", (1, 20), "expected value"),
            (b"{\"to\":[\"*\"],\"text\":null}", (1, 23), "invalid type"),
            (b"{\"to\":[\"*\"],\"text\":\"\\ud800\"}", (1, 27), "hex escape"),
            (b"{\"to\":[\"*\"],\"text\":\"\\udc00x\"}", (1, 26), "surrogate"),
            (b"{\"to\":[\"*\"],\"text\":\"\xff\"}", (1, 21), "unicode"),
            (b"{\"to\":[\"*\"],\"text\":\"a\nb\"}", (2, 0), "control character"),
            (b"{\"to\":[\"*\"],\"base64\":\"AP8\"}", (1, 27), "not base64"),
            (b"{\"to\":[\"*\"],\"base64\":\"A_8=\"}", (1, 28), "not base64"),
            (b"{\"to\":[\"*\"],\"text\":\"x\",}", (1, 24), "trailing comma"),
            (b"{\"to\":[\"*\"],\"text\":\"x\"}{}", (1, 24), "trailing characters"),
            (b"{'to':['*'],'text':'x'}", (1, 2), "key must be a string"),
            (b"\xef\xbb\xbf{}", (1, 1), "expected value"),
        ] {
            bad(body, place, words);
        }
    }

    #[test]
    fn depth_and_length_do_no_harm() {
        let deep = [b"{\"to\":[\"*\"],\"x\":".to_vec(), vec![b'['; 10_000]].concat();
        bad(&deep, (1, 15), "no member");
        bad(&vec![b'['; 10_000], (1, 1), "invalid type");
        let long = [b"{\"to\":[\"*\"],\"text\":\"".to_vec(), vec![b'x'; 10_000_000]].concat();
        bad(&long, (1, 10_000_020), "EOF");
    }
}
