//! Events for workers (docs/events.md): what a backend may subscribe to, and the bytes that an event is told in.
//!
//! An event knows no connection of a backend; who is told what is for the hub. Invariant: what [`Telling::append_frame`]
//! and [`Telling::line`] write is one whole frame, one whole line.

use super::Unreadable;
use super::address::Groups;
use super::reply::{append_decimal, append_length};
use crate::wire::frame::Kind;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_core::ser::{Serialize, SerializeMap, Serializer};

/// Longest name of a pool.
const POOL_BYTES_MAX: usize = 32;
/// Most digits of the number of an event.
const NUMBER_DIGITS_MAX: usize = 20;

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A client said something.
    Message,
    /// A client is open.
    Open,
    /// A client that was open is not any more.
    Close,
    /// The first connection of a user is open.
    Online,
    /// The last one is not any more.
    Offline,
}

impl EventKind {
    /// How many there are.
    pub const COUNT: usize = 5;
    /// All of them, in the order of the manual.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Message, Self::Open, Self::Close, Self::Online, Self::Offline];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Open => "open",
            Self::Close => "close",
            Self::Online => "online",
            Self::Offline => "offline",
        }
    }

    /// Its place in a table of all kinds.
    pub fn index(self) -> usize {
        self as usize
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    /// No kind.
    pub const NONE: Self = Self(0);

    /// Whether this kind is in it.
    #[inline]
    pub fn has(self, kind: EventKind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }

    /// The kinds of both.
    #[inline]
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// With this kind too.
    #[must_use]
    pub fn with(self, kind: EventKind) -> Self {
        Self(self.0 | 1 << kind as u8)
    }

    /// Whether none is in it.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that are in it.
    pub fn iter(self) -> impl Iterator<Item = EventKind> {
        EventKind::ALL.into_iter().filter(move |kind| self.has(*kind))
    }
}

/// What a backend wants to be told, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription<'b> {
    /// At least one kind.
    pub kinds: Kinds,
    /// The workers that share the work.
    pub pool: &'b str,
    /// It confirms what it has done.
    pub ack: bool,
    /// It only looks on: nothing waits for it.
    pub watch: bool,
}

impl<'b> Subscription<'b> {
    /// Reads the payload of `e`: kinds with commas between them, then options, each behind a space.
    ///
    /// # Errors
    /// When something in it is not known.
    pub fn parse(payload: &'b [u8]) -> Result<Self, Unreadable> {
        let text = std::str::from_utf8(payload).map_err(|_| Unreadable::Kinds)?;
        let mut words = text.split(' ');
        let kinds = Self::kinds(words.next().unwrap_or_default())?;
        let mut subscription = Self { kinds, pool: "", ack: false, watch: false };
        for word in words {
            match (word, word.strip_prefix("as=")) {
                ("ack", _) => subscription.ack = true,
                ("watch", _) => subscription.watch = true,
                (_, Some(name)) => subscription.pool = Self::pool(name)?,
                _ => return Err(Unreadable::Option),
            }
        }
        // Nothing waits for one that only looks on, so nothing is kept for it either.
        if subscription.ack && subscription.watch {
            return Err(Unreadable::Option);
        }
        Ok(subscription)
    }

    /// Reads a list of kinds.
    ///
    /// # Errors
    /// When it is empty, or a name in it is no kind's.
    pub fn kinds(list: &str) -> Result<Kinds, Unreadable> {
        list.split(',').try_fold(Kinds::NONE, |kinds, name| {
            let kind = EventKind::ALL.into_iter().find(|kind| kind.name() == name);
            Ok(kinds.with(kind.ok_or(Unreadable::Kinds)?))
        })
    }

    /// Reads the name of a pool.
    ///
    /// # Errors
    /// When it is none: it has the characters of a group's name, and fewer of them.
    pub fn pool(name: &str) -> Result<&str, Unreadable> {
        let fits = name.len() <= POOL_BYTES_MAX && Groups::parse(name.as_bytes(), 1).is_ok();
        if fits { Ok(name) } else { Err(Unreadable::Pool) }
    }
}

/// Reads the payload of `a`: the number of an event.
pub(super) fn number(payload: &[u8]) -> Result<u64, Unreadable> {
    let is_number =
        (1..=NUMBER_DIGITS_MAX).contains(&payload.len()) && payload.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(payload).ok().filter(|_| is_number);
    text.and_then(|text| text.parse().ok()).ok_or(Unreadable::Number)
}

/// The number under which an event is to be confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    /// They count from 1 on each connection.
    pub n: u64,
    /// It was told before, to a worker that has not confirmed it.
    pub again: bool,
}

/// The content of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling<'e> {
    /// Connection, token and user, each with a space behind it, and what the client said.
    Message(Kind, &'e [u8], &'e [u8]),
    /// A JSON object, which has a member.
    Object(&'e [u8]),
}

impl Telling<'_> {
    /// How many bytes it has.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Self::Message(_, head, message) => head.len() + message.len(),
            Self::Object(object) => object.len(),
        }
    }

    /// Whether it has no byte, which no event is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends it as a frame.
    #[inline]
    pub fn append_frame(&self, out: &mut Vec<u8>, number: Option<Number>) {
        match (self, number) {
            (Self::Message(kind, head, message), None) => {
                append_length(out, head.len() + message.len(), letter(*kind));
                out.extend_from_slice(head);
                out.extend_from_slice(message);
            }
            (Self::Object(object), None) => {
                append_length(out, object.len(), b'e');
                out.extend_from_slice(object);
            }
            (Self::Message(kind, head, message), Some(number)) => {
                let (field, len) = number.field();
                append_length(out, len + head.len() + message.len(), letter(*kind));
                out.extend_from_slice(&field[..len]);
                out.extend_from_slice(head);
                out.extend_from_slice(message);
            }
            (Self::Object(object), Some(number)) => {
                let member = number.member();
                append_length(out, member.len() + object.len() - 1, b'e');
                out.extend_from_slice(member.as_bytes());
                out.extend_from_slice(&object[1..]);
            }
        }
    }

    /// It as a line of JSON.
    pub fn line(&self) -> Vec<u8> {
        let mut line = match self {
            Self::Object(object) => object.to_vec(),
            Self::Message(kind, head, message) => said(*kind, head, message),
        };
        line.push(b'\n');
        line
    }
}

fn letter(kind: Kind) -> u8 {
    if kind == Kind::Text { b'g' } else { b'G' }
}

impl Number {
    /// The first field of a message: the number, a plus sign when it is told again, a space.
    fn field(self) -> ([u8; NUMBER_DIGITS_MAX + 2], usize) {
        let mut field = [0; NUMBER_DIGITS_MAX + 2];
        let mut digits = Vec::with_capacity(NUMBER_DIGITS_MAX);
        append_decimal(&mut digits, self.n as usize);
        let mut len = digits.len();
        field[..len].copy_from_slice(&digits);
        for byte in [b'+', b' '].into_iter().skip(usize::from(!self.again)) {
            field[len] = byte;
            len += 1;
        }
        (field, len)
    }

    /// The first members of an object, with its brace before them and a comma behind.
    fn member(self) -> String {
        let again = if self.again { r#""again":true,"# } else { "" };
        format!(r#"{{"n":{},{again}"#, self.n)
    }
}

/// A message as an object.
fn said(kind: Kind, head: &[u8], message: &[u8]) -> Vec<u8> {
    let mut fields = head.split(|byte| *byte == b' ').map(String::from_utf8_lossy);
    let mut field = || fields.next().unwrap_or_default();
    let (connection, token, user) = (field(), field(), field());
    let encoded;
    let (name, text) = match (kind, std::str::from_utf8(message)) {
        (Kind::Text, Ok(text)) => ("text", text),
        _ => {
            encoded = STANDARD.encode(message);
            ("base64", &*encoded)
        }
    };
    let user = (!user.is_empty()).then_some(&*user);
    object(&[
        ("event", Some(Member::Text("message"))),
        ("connection", Some(Member::Text(&connection))),
        ("token", Some(Member::Text(&token))),
        ("user", user.map(Member::Text)),
        (name, Some(Member::Text(text))),
    ])
}

/// The value of a member.
#[derive(Clone, Copy, Debug)]
pub enum Member<'m> {
    /// Text.
    Text(&'m str),
    /// A number.
    Number(u64),
    /// A list of texts.
    List(&'m [&'m str]),
}

impl Serialize for Member<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => to.serialize_str(text),
            Self::Number(number) => to.serialize_u64(*number),
            Self::List(list) => to.collect_seq(*list),
        }
    }
}

/// A JSON object of the members that there are, in this order.
pub fn object(members: &[(&str, Option<Member<'_>>)]) -> Vec<u8> {
    serde_json::to_vec(&Members(members)).expect("memory can be written to, and every key is text")
}

struct Members<'m>(&'m [(&'m str, Option<Member<'m>>)]);

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        for (name, value) in self.0 {
            if let Some(value) = value {
                map.serialize_entry(name, value)?;
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(list: &[EventKind]) -> Kinds {
        list.iter().fold(Kinds::NONE, |kinds, kind| kinds.with(*kind))
    }

    #[test]
    fn a_subscription_is_read_and_nothing_like_it() {
        let read = |text: &'static str| Subscription::parse(text.as_bytes());
        let all = kinds(&EventKind::ALL);
        assert_eq!(
            read("message,open,close,online,offline as=chat/7 ack"),
            Ok(Subscription { kinds: all, pool: "chat/7", ack: true, watch: false })
        );
        let message = kinds(&[EventKind::Message]);
        assert_eq!(read("message"), Ok(Subscription { kinds: message, pool: "", ack: false, watch: false }));
        assert!(read("message,message watch as=a").is_ok_and(|subscription| subscription.watch));
        let long = format!("open as={}", "x".repeat(33));
        for (text, why) in [
            ("", Unreadable::Kinds),
            (" as=a", Unreadable::Kinds),
            ("messages", Unreadable::Kinds),
            ("Message", Unreadable::Kinds),
            ("message,", Unreadable::Kinds),
            ("message as=", Unreadable::Pool),
            ("message as=a,b", Unreadable::Pool),
            ("message as=\u{e9}", Unreadable::Pool),
            (&long, Unreadable::Pool),
            ("message ", Unreadable::Option),
            ("message  ack", Unreadable::Option),
            ("message ack=1", Unreadable::Option),
            ("message ack watch", Unreadable::Option),
        ] {
            assert_eq!(Subscription::parse(text.as_bytes()), Err(why), "{text:?}");
        }
        assert_eq!(Subscription::parse(b"message\xff"), Err(Unreadable::Kinds));
    }

    #[test]
    fn a_number_is_digits() {
        assert_eq!((number(b"17"), number(b"0"), number(b"007")), (Ok(17), Ok(0), Ok(7)));
        for other in [&b""[..], b"-1", b"+1", b"1 ", b"1.0", b"18446744073709551616", &[b'1'; 30]] {
            assert_eq!(number(other), Err(Unreadable::Number), "{}", other.escape_ascii());
        }
    }

    #[track_caller]
    fn check(telling: Telling<'_>, number: Option<Number>, frame: &str) {
        let mut out = Vec::new();
        telling.append_frame(&mut out, number);
        assert_eq!(String::from_utf8(out).unwrap(), frame);
    }

    #[test]
    fn an_event_is_a_frame_and_a_line() {
        let (head, object) = (&b"5f-1 token 44 "[..], &br#"{"event":"open"}"#[..]);
        let (text, number) =
            (Telling::Message(Kind::Text, head, b"a\"b"), |again| Some(Number { n: 12, again }));
        check(text, None, "17g5f-1 token 44 a\"b");
        check(text, number(false), "20g12 5f-1 token 44 a\"b");
        check(text, number(true), "21g12+ 5f-1 token 44 a\"b");
        check(Telling::Message(Kind::Binary, b"1-1 t  ", b""), None, "7G1-1 t  ");
        check(Telling::Object(object), None, r#"16e{"event":"open"}"#);
        check(Telling::Object(object), number(true), r#"36e{"n":12,"again":true,"event":"open"}"#);
        let line = |telling: Telling<'_>| String::from_utf8(telling.line()).unwrap();
        assert_eq!(
            line(text),
            "{\"event\":\"message\",\"connection\":\"5f-1\",\"token\":\"token\",\"user\":\"44\",\"text\":\"a\\\"b\"}\n"
        );
        assert_eq!(
            line(Telling::Message(Kind::Binary, b"1-1 t  ", b"\xff")),
            "{\"event\":\"message\",\"connection\":\"1-1\",\"token\":\"t\",\"base64\":\"/w==\"}\n"
        );
        assert_eq!(line(Telling::Object(object)), "{\"event\":\"open\"}\n");
    }
}
