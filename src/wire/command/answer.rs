//! Answers that are JSON objects, in frames and in HTTP alike: to the commands that take addresses.
//!
//! A value with its members in the order of COMMANDS.md; its callers decide where it is rendered to.

use super::Verb;
use serde_core::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `X`: the outcome of a message.
    Written(Written),
    /// `V`: the outcome of a message, and the browsers that have it.
    Proved(Proved),
    /// `V`: what was asked under this id could not be understood.
    ProofRefused {
        /// The id.
        id: String,
        /// The fault, and the right way.
        error: String,
    },
    /// `K`: connections that were closed.
    Closed(usize),
    /// `J`: connections that joined or left, and the reason why others did not.
    Moved(usize, Option<String>),
    /// `O`: connections behind each item, as it was written.
    Online(Vec<(String, usize)>),
    /// `H`: a page of the users, or tokens, that are here.
    Here(Here),
    /// An answer to which a node of the bus has not contributed.
    Incomplete(Box<Self>),
    /// A command that is answered could not be understood; the conversation goes on.
    Refused(Refused),
}

/// The outcome of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Connections that took it, or that are there when it was empty.
    pub connections: usize,
    /// Tabs that get it when they come back.
    pub away: usize,
    /// Items that named no connection.
    pub absent: Vec<String>,
    /// Connections that could not take it.
    pub refused: usize,
}

/// The outcome of a message whose arrival was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proved {
    /// The id that the backend gave; empty for none, as in HTTP.
    pub id: String,
    /// The outcome when it was sent.
    pub written: Written,
    /// Connections whose browser has it.
    pub arrived: usize,
    /// Milliseconds until the last of them.
    pub ms: u64,
}

/// A page of the users, or tokens, that are here: at most as many as one answer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here {
    /// Their kind.
    pub kind: Who,
    /// Each with its number of connections.
    pub names: Vec<(String, usize)>,
    /// The cursor to give back for the next page; none when this is the last.
    pub cursor: Option<u64>,
}

/// The names that connections are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A login that has no user.
    Tokens,
    /// Users.
    Users,
}

/// Why a command was not executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The command.
    pub verb: Verb,
    /// The fault, and the right way.
    pub error: String,
}

impl Answer {
    /// The letter of the frame.
    pub fn letter(&self) -> u8 {
        match self {
            Self::Written(_) => b'X',
            Self::Proved(_) | Self::ProofRefused { .. } => b'V',
            Self::Closed(_) => b'K',
            Self::Moved(..) => b'J',
            Self::Online(_) => b'O',
            Self::Here(_) => b'H',
            Self::Incomplete(answer) => answer.letter(),
            Self::Refused(refused) => refused.verb.reply(),
        }
    }

    /// The JSON object.
    pub fn json(&self) -> Vec<u8> {
        if let Self::Incomplete(answer) = self {
            let mut json = answer.json();
            json.pop();
            json.extend_from_slice(if json.len() > 1 { b"," } else { b"" });
            json.extend_from_slice(b"\"incomplete\":true}");
            return json;
        }
        serde_json::to_vec(self).expect("memory can be written to, and every key is text")
    }
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Written(Written { connections, away, absent, refused }) => {
                let mut map = to.serialize_map(Some(4))?;
                map.serialize_entry("connections", connections)?;
                map.serialize_entry("away", away)?;
                map.serialize_entry("absent", absent)?;
                map.serialize_entry("refused", refused)?;
                map.end()
            }
            Self::Proved(Proved { id, written, arrived, ms }) => {
                let mut map = to.serialize_map(None)?;
                if !id.is_empty() {
                    map.serialize_entry("id", id)?;
                }
                map.serialize_entry("connections", &written.connections)?;
                map.serialize_entry("away", &written.away)?;
                map.serialize_entry("absent", &written.absent)?;
                map.serialize_entry("refused", &written.refused)?;
                map.serialize_entry("arrived", arrived)?;
                map.serialize_entry("ms", ms)?;
                map.end()
            }
            Self::ProofRefused { id, error } => to.collect_map([("id", id), ("error", error)]),
            Self::Closed(connections) => to.collect_map([("connections", connections)]),
            Self::Moved(connections, error) => {
                let mut map = to.serialize_map(None)?;
                map.serialize_entry("connections", connections)?;
                if let Some(error) = error {
                    map.serialize_entry("error", error)?;
                }
                map.end()
            }
            Self::Online(items) => {
                to.collect_map(items.iter().map(|(item, connections)| (item, connections)))
            }
            Self::Here(here) => {
                let mut map = to.serialize_map(None)?;
                map.serialize_entry(here.kind.key(), &Names(&here.names))?;
                if let Some(cursor) = here.cursor {
                    map.serialize_entry("cursor", &cursor.to_string())?;
                }
                map.end()
            }
            Self::Incomplete(answer) => answer.serialize(to),
            Self::Refused(refused) => to.collect_map([("error", &refused.error)]),
        }
    }
}

impl Who {
    fn key(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Users => "users",
        }
    }
}

struct Names<'n>(&'n [(String, usize)]);
struct Named<'n>(&'n str, usize);

impl Serialize for Names<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut list = to.serialize_seq(Some(self.0.len()))?;
        for (name, connections) in self.0 {
            list.serialize_element(&Named(name, *connections))?;
        }
        list.end()
    }
}

impl Serialize for Named<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(2))?;
        map.serialize_entry("name", self.0)?;
        map.serialize_entry("connections", &self.1)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(answer: Answer, letter: u8, json: &str) {
        assert_eq!((answer.letter(), std::str::from_utf8(&answer.json()).unwrap()), (letter, json));
    }

    #[test]
    fn every_answer_is_its_object() {
        let absent = vec!["u:45".to_owned(), "g:shop/7".to_owned()];
        check(
            Answer::Written(Written { connections: 2, away: 0, absent, refused: 1 }),
            b'X',
            r#"{"connections":2,"away":0,"absent":["u:45","g:shop/7"],"refused":1}"#,
        );
        let written = Written { connections: 2, ..Written::default() };
        check(
            Answer::Proved(Proved { id: "a".into(), written: written.clone(), arrived: 1, ms: 12 }),
            b'V',
            r#"{"id":"a","connections":2,"away":0,"absent":[],"refused":0,"arrived":1,"ms":12}"#,
        );
        check(
            Answer::Proved(Proved { written, ..Proved::default() }),
            b'V',
            r#"{"connections":2,"away":0,"absent":[],"refused":0,"arrived":0,"ms":0}"#,
        );
        let refused = Answer::ProofRefused { id: "a".into(), error: "byte 0".into() };
        check(refused, b'V', r#"{"id":"a","error":"byte 0"}"#);
        check(Answer::Closed(3), b'K', r#"{"connections":3}"#);
        let incomplete = |answer| Answer::Incomplete(Box::new(answer));
        check(incomplete(Answer::Closed(3)), b'K', r#"{"connections":3,"incomplete":true}"#);
        check(incomplete(Answer::Online(vec![])), b'O', r#"{"incomplete":true}"#);
        check(Answer::Moved(3, None), b'J', r#"{"connections":3}"#);
        check(Answer::Moved(3, Some("full".into())), b'J', r#"{"connections":3,"error":"full"}"#);
        let items = vec![("u:44".to_owned(), 2), ("g:room".to_owned(), 17)];
        check(Answer::Online(items), b'O', r#"{"u:44":2,"g:room":17}"#);
        let names = vec![("44".to_owned(), 2), ("a\"b".to_owned(), 1)];
        check(
            Answer::Here(Here { kind: Who::Users, names, cursor: Some(17) }),
            b'H',
            r#"{"users":[{"name":"44","connections":2},{"name":"a\"b","connections":1}],"cursor":"17"}"#,
        );
        check(
            Answer::Here(Here { kind: Who::Tokens, names: vec![], cursor: None }),
            b'H',
            r#"{"tokens":[]}"#,
        );
        let refused = Refused { verb: Verb::Kick, error: "byte 0".into() };
        check(Answer::Refused(refused), b'K', r#"{"error":"byte 0"}"#);
    }
}
