//! The one table of command letters: the decoder, the manual and COMMANDS.md take all facts of a command from its row.
//!
//! A command is added by a row here, its [`Verb`], and the arms that the compiler then asks for. It never decodes and
//! never executes. Invariant: a letter is in one row at most.

use crate::wire::frame::Kind;

/// A command without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `b`
    Broadcast,
    /// `d`
    Direct,
    /// `c`
    Confirmed,
    /// `l`
    Lock,
    /// `f`
    First,
    /// `i`
    Middle,
    /// `s`
    Last,
    /// `m`
    Freest,
    /// `t`
    Status,
    /// `p`
    Ping,
    /// `P`
    Pong,
    /// `q`
    Quit,
    /// `w`
    Write,
    /// `x`
    WriteAnswered,
    /// `v`
    WriteProved,
    /// `k`
    Kick,
    /// `r`
    Revoke,
    /// `j`
    Join,
    /// `J`
    Leave,
    /// `o`
    Count,
    /// `h`
    Here,
    /// `e`
    Subscribe,
    /// `a`
    Done,
    /// `y`
    Key,
}

/// The meaning of the capital of a command's letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capital {
    /// Not this command.
    Other,
    /// The same command with a binary message.
    Binary,
    /// The same command.
    Same,
}

/// The parts of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// None; a given one is ignored.
    Ignored,
    /// A message, or a fragment of one.
    Message,
    /// A token and nothing else.
    Token,
    /// A token, and a message that may be empty.
    TokenMessage,
    /// A list of addresses.
    Addresses,
    /// A list of addresses, a space, and a message that may be empty.
    AddressesMessage,
    /// An id, a space, a list of addresses, a space, and a message that may be empty.
    IdAddressesMessage,
    /// A list of addresses, and perhaps a space and a text.
    AddressesText,
    /// A list of groups, a space, and a list of addresses.
    GroupsAddresses,
    /// An address, and perhaps a space and a cursor.
    AddressCursor,
    /// Kinds of events, and options behind spaces.
    KindsOptions,
    /// A number.
    Number,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Letter {
    /// It sends text, if it sends anything.
    pub letter: u8,
    /// The meaning of the same letter in upper case.
    pub capital: Capital,
    /// The command.
    pub verb: Verb,
    /// The parts of its payload.
    pub payload: Payload,
    /// The payload as the manual writes it; an en dash for none.
    pub takes: &'static str,
    /// The letters of the answers that it may get.
    pub replies: &'static str,
    /// Its effect, in a sentence.
    pub does: &'static str,
}

const fn row(
    letter: u8,
    capital: Capital,
    verb: Verb,
    (payload, takes): (Payload, &'static str),
    replies: &'static str,
    does: &'static str,
) -> Letter {
    Letter { letter, capital, verb, payload, takes, replies, does }
}

const NOTHING: (Payload, &str) = (Payload::Ignored, "–");
const MESSAGE: (Payload, &str) = (Payload::Message, "message");
const FRAGMENT: (Payload, &str) = (Payload::Message, "fragment");
const TOKEN: (Payload, &str) = (Payload::Token, "token");
const TOKEN_MESSAGE: (Payload, &str) = (Payload::TokenMessage, "token, message");
const KEY: (Payload, &str) = (Payload::Message, "key");
const ADDRESSES: (Payload, &str) = (Payload::Addresses, "addresses");
const ADDRESSES_MESSAGE: (Payload, &str) = (Payload::AddressesMessage, "addresses, SP, message");
const ID_ADDRESSES_MESSAGE: (Payload, &str) = (Payload::IdAddressesMessage, "id, SP, addresses, SP, message");
const ADDRESSES_REASON: (Payload, &str) = (Payload::AddressesText, "addresses [SP reason]");
const GROUPS_ADDRESSES: (Payload, &str) = (Payload::GroupsAddresses, "groups, SP, addresses");
const ADDRESS_CURSOR: (Payload, &str) = (Payload::AddressCursor, "address [SP cursor]");

const KINDS_OPTIONS: (Payload, &str) = (Payload::KindsOptions, "kinds [SP options]");
const NUMBER: (Payload, &str) = (Payload::Number, "number");

/// Every command there is, in the order of the manual.
#[rustfmt::skip]
pub const LETTERS: &[Letter] = &[
    row(b'b', Capital::Binary, Verb::Broadcast, MESSAGE, "",
        "broadcast as one text / binary message to every open client"),
    row(b'd', Capital::Binary, Verb::Direct, TOKEN_MESSAGE, "",
        "direct, unconfirmed, text / binary; with an empty message nothing is sent"),
    row(b'c', Capital::Binary, Verb::Confirmed, TOKEN_MESSAGE, "AN",
        "direct, confirmed, text / binary; with an empty message nothing is sent, the reply tells whether the client is there"),
    row(b'l', Capital::Other, Verb::Lock, TOKEN, "AN",
        "lock the client for a fragmented message"),
    row(b'f', Capital::Binary, Verb::First, FRAGMENT, "an",
        "first frame (not FIN) of a text / binary message to the locked client"),
    row(b'i', Capital::Binary, Verb::Middle, FRAGMENT, "an",
        "intermediate frame (not FIN)"),
    row(b's', Capital::Binary, Verb::Last, FRAGMENT, "an",
        "last frame (FIN), unlocks the client; sent first, it is a whole message in one frame"),
    row(b'm', Capital::Other, Verb::Freest, NOTHING, "M",
        "ask for the listener with the fewest clients"),
    row(b't', Capital::Other, Verb::Status, NOTHING, "T",
        "ask for the status *(new)*"),
    row(b'p', Capital::Other, Verb::Ping, NOTHING, "P",
        "ping"),
    row(b'P', Capital::Other, Verb::Pong, NOTHING, "",
        "pong"),
    row(b'q', Capital::Same, Verb::Quit, NOTHING, "",
        "quit: replies that wait are sent, then the connection is closed"),
    row(b'w', Capital::Binary, Verb::Write, ADDRESSES_MESSAGE, "",
        "write a text / binary message to every connection that one of the addresses names *(new)*"),
    row(b'x', Capital::Binary, Verb::WriteAnswered, ADDRESSES_MESSAGE, "X",
        "the same, answered *(new)*"),
    row(b'v', Capital::Binary, Verb::WriteProved, ID_ADDRESSES_MESSAGE, "V",
        "the same, answered when the browsers have it *(new)*"),
    row(b'k', Capital::Other, Verb::Kick, ADDRESSES_REASON, "K",
        "close these connections with 4001 and the reason *(new)*"),
    row(b'r', Capital::Other, Verb::Revoke, ADDRESSES_REASON, "K",
        "the same, and refuse these logins from now on *(new)*"),
    row(b'j', Capital::Other, Verb::Join, GROUPS_ADDRESSES, "J",
        "these connections join groups *(new)*"),
    row(b'J', Capital::Other, Verb::Leave, GROUPS_ADDRESSES, "J",
        "these connections leave groups *(new)*"),
    row(b'o', Capital::Other, Verb::Count, ADDRESSES, "O",
        "how many connections each of the addresses names *(new)*"),
    row(b'h', Capital::Other, Verb::Here, ADDRESS_CURSOR, "H",
        "who is here: the users (or tokens) behind an address *(new)*"),
    row(b'e', Capital::Other, Verb::Subscribe, KINDS_OPTIONS, "e",
        "be told what clients do and say *(new)*"),
    row(b'a', Capital::Other, Verb::Done, NUMBER, "",
        "the events up to this one are done *(new)*"),
    row(b'y', Capital::Other, Verb::Key, KEY, "Y",
        "show the control key, first of all, where one is asked for; a wrong one is answered by `E` *(new)*"),
];

/// The decoder's view of a letter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meaning {
    pub(super) verb: Verb,
    pub(super) kind: Kind,
    pub(super) payload: Payload,
}

/// The command of a byte behind the digits; `None` when it is no command's letter.
#[inline]
pub(super) fn meaning(letter: u8) -> Option<Meaning> {
    MEANINGS[letter as usize]
}

static MEANINGS: [Option<Meaning>; 256] = meanings();

const fn meanings() -> [Option<Meaning>; 256] {
    let mut meanings = [None; 256];
    let mut place = 0;
    while place < LETTERS.len() {
        let Letter { letter, capital, verb, payload, .. } = LETTERS[place];
        set(&mut meanings, letter, Meaning { verb, kind: Kind::Text, payload });
        let big = letter.to_ascii_uppercase();
        match capital {
            Capital::Other => {}
            Capital::Binary => set(&mut meanings, big, Meaning { verb, kind: Kind::Binary, payload }),
            Capital::Same => set(&mut meanings, big, Meaning { verb, kind: Kind::Text, payload }),
        }
        place += 1;
    }
    meanings
}

const fn set(meanings: &mut [Option<Meaning>; 256], letter: u8, meaning: Meaning) {
    assert!(letter.is_ascii_alphabetic(), "a command is a letter");
    assert!(meanings[letter as usize].is_none(), "a letter is one command");
    meanings[letter as usize] = Some(meaning);
}

impl Verb {
    /// Its row.
    pub fn row(self) -> &'static Letter {
        LETTERS.iter().find(|row| row.verb == self).expect("every command has its row")
    }

    /// The letter of its answer, for one that always has the same.
    pub(super) fn reply(self) -> u8 {
        self.row()
            .replies
            .bytes()
            .next()
            .expect("only a command that is answered can be refused in an answer")
    }
}
