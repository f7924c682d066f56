//! The control protocol's codec: bytes from a backend to [`Command`], [`Reply`] to bytes.
//!
//! The grammar is anchored: a frame begins exactly where the last one ended, or the connection is over. A
//! parser that searched ahead for digits would execute `POST /0p5bHELLO HTTP/1.1` (COMMANDS.md).
//!
//! It never executes anything and never copies a payload. Invariant: the bytes that `decode` consumed are exactly
//! one frame and the line ends before it.

mod address;
mod answer;
mod event;
mod letters;
mod reply;
mod sends;

use crate::wire::frame::Kind;
use crate::words::find_byte;
pub use address::{AddressError, Addresses, Fault, Groups, Item, ListRules, Name, Target, Targets};
pub use answer::{Answer, Here, Proved, Refused, Who, Written};
pub use event::{EventKind, Kinds, Member, Number, Subscription, Telling, object};
pub use letters::{Capital, LETTERS, Letter, Payload, Verb};
use letters::{Meaning, meaning};
pub use reply::Reply;
pub use sends::{Planned, Sends, SendsError};

/// Digits of a length. Seven would do for any limit; leading zeros are allowed.
const DIGITS_MAX: usize = 8;
/// Bytes of a control key: as many as a file of one may have.
const KEY_BYTES_MAX: usize = 4096;

/// A command of a backend. Tokens and messages borrow the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'b> {
    /// `b` `B`: one message to every open client.
    Broadcast(Kind, &'b [u8]),
    /// `d` `D`: to the clients of a token, without an answer.
    Direct(Kind, &'b [u8], &'b [u8]),
    /// `c` `C`: the same, answered by `A` or `N`.
    Confirmed(Kind, &'b [u8], &'b [u8]),
    /// `l`: begin a fragmented message to the clients of a token.
    Lock(&'b [u8]),
    /// `f` `F`, `i` `I`, `s` `S`: a fragment for the locked clients.
    Fragment(Place, Kind, &'b [u8]),
    /// `m`: which listener has the fewest clients.
    Freest,
    /// `t`: the status.
    Status,
    /// `p`: are you there?
    Ping,
    /// `P`: I am here.
    Pong,
    /// `q` `Q`: end of the conversation.
    Quit,
    /// `w` `W`: a message to all that the list names.
    Write(Kind, Addresses<'b>, &'b [u8]),
    /// `x` `X`: the same, answered.
    WriteAnswered(Kind, Addresses<'b>, &'b [u8]),
    /// `v` `V`: the same, answered under this id when the browsers have it.
    WriteProved(Kind, &'b str, Addresses<'b>, &'b [u8]),
    /// `k`: close their connections, for this reason if there is one.
    Kick(Addresses<'b>, Option<&'b str>),
    /// `r`: the same, and refuse these logins, each of which is a token or a user, from now on.
    Revoke(Addresses<'b>, Option<&'b str>),
    /// `o`: how many connections each item names.
    Count(Addresses<'b>),
    /// `j`: their connections join groups.
    Join(Groups<'b>, Addresses<'b>),
    /// `J`: they leave them.
    Leave(Groups<'b>, Addresses<'b>),
    /// `h`: the users, or tokens, behind an address, from a cursor on.
    Here(Target<'b>, Option<u64>),
    /// `e`: tell me what clients do and say.
    Subscribe(Subscription<'b>),
    /// `a`: the events up to this number are done.
    Done(u64),
    /// `y`: the control key.
    Key(&'b [u8]),
    /// A command that is answered and can not be understood: the answer says so, and the conversation goes on.
    Refused(Verb, Unreadable),
    /// The same of a `v` whose id could be read.
    ProofRefused(&'b str, Unreadable),
}

/// Why the payload of a command with addresses can not be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Not an id.
    NotAnId,
    /// The list is malformed.
    Addresses(AddressError),
    /// There is no space behind the list, and so no message.
    NoMessage,
    /// The message or the reason is not UTF-8.
    NotText,
    /// A list where one address is asked for.
    NotOneAddress,
    /// All but something: that counts nothing.
    Exception,
    /// Something else than tokens and users where logins are asked for.
    NotALogin,
    /// Not a cursor that an earlier answer gave.
    NotACursor,
    /// The groups are malformed.
    Groups(AddressError),
    /// There is no space behind the groups, and so no addresses.
    NoAddresses,
    /// Not kinds of events.
    Kinds,
    /// Not an option of a subscription, or two that contradict each other.
    Option,
    /// Not the name of a pool.
    Pool,
    /// Not the number of an event.
    Number,
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Addresses(error) | Self::Groups(error) => error.fmt(f),
            Self::NoAddresses => f.write_str("a space and the addresses must stand behind the first word"),
            Self::NotAnId => {
                f.write_str("1 to 64 letters, digits, or _ - . @ + : / must stand before the addresses")
            }
            Self::NotACursor => f.write_str("this is not the cursor of an earlier answer"),
            Self::Kinds => {
                f.write_str("the kinds are message, open, close, online, offline, with commas between them")
            }
            Self::Option => f.write_str("the options are as=NAME, and ack or watch"),
            Self::Pool => f.write_str("a pool is 1 to 32 letters, digits, or _ - . @ + : /"),
            Self::Number => f.write_str("this is not the number of an event"),
            Self::NoMessage => f.write_str("a space and the message must stand behind the addresses"),
            Self::NotText => f.write_str("the text is not UTF-8"),
            Self::NotOneAddress => f.write_str("one address is asked for, and there are several"),
            Self::Exception => f.write_str("an address with - before it names nobody by itself"),
            Self::NotALogin => f.write_str("only t:TOKEN and u:USER are logins, which can be revoked"),
        }
    }
}

/// The place of a fragment in its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `f` `F`: the first frame, more follow.
    First,
    /// `i` `I`: neither first nor last.
    Middle,
    /// `s` `S`: the last frame, or the only one.
    Last,
}

/// Why a backend's bytes are not a frame. Each is answered with `E` and ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No digit where a frame must begin, no letter behind the digits, or too many digits.
    Grammar,
    /// The announced length is over the limit.
    TooLong,
    /// The payload is shorter than a token.
    NoToken,
    /// The payload of a command that takes a token and nothing else is shorter or longer.
    NotOneToken,
    /// Not a command's letter.
    Unknown(u8),
    /// Text that is not UTF-8.
    NotText,
    /// The addresses of a command that is not answered.
    Unreadable(Unreadable),
    /// Behind the first frame of a connection over TCP come bytes that no backend sends there.
    NotABackend,
    /// Backends together hold too much, and this one most.
    Overflow,
    /// Too many events wait for it.
    Behind,
    /// There are as many pools of workers as there may be.
    TooManyPools,
    /// It confirms an event that it was not told, or none is to be confirmed.
    NeverTold,
    /// The connection must show a key, and has not, or a wrong one.
    NoKey,
}

impl Error {
    /// The error of a byte in the place of a letter that is no command's.
    fn of(letter: u8) -> Self {
        if letter.is_ascii_alphabetic() { Self::Unknown(letter) } else { Self::Grammar }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Grammar => f.write_str("not_a_frame"),
            Self::TooLong => f.write_str("payload_too_long"),
            Self::NoToken => f.write_str("payload_shorter_than_token"),
            Self::NotOneToken => f.write_str("payload_is_not_a_token"),
            Self::Unknown(letter) => write!(f, "unknown_command_{}", letter.escape_ascii()),
            Self::NotText | Self::Unreadable(Unreadable::NotText) => f.write_str("text_is_not_utf8"),
            Self::Unreadable(Unreadable::Addresses(error)) => write!(f, "bad_addresses_at_byte_{}", error.at),
            Self::Unreadable(Unreadable::Kinds) => f.write_str("unknown_kind_of_event"),
            Self::Unreadable(Unreadable::Option) => f.write_str("unknown_option"),
            Self::Unreadable(Unreadable::Pool) => f.write_str("bad_name_of_a_pool"),
            Self::Unreadable(Unreadable::Number) => f.write_str("not_the_number_of_an_event"),
            Self::Unreadable(_) => f.write_str("no_message_behind_addresses"),
            Self::NotABackend => f.write_str("not_a_backend"),
            Self::Overflow => f.write_str("overflow"),
            Self::Behind => f.write_str("worker_too_slow"),
            Self::TooManyPools => f.write_str("too_many_pools"),
            Self::NeverTold => f.write_str("event_was_never_told"),
            Self::NoKey => f.write_str("no_key"),
        }
    }
}

/// The settings that the codec depends on.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Length of every token in bytes.
    pub token_length: usize,
    /// Largest payload in bytes, judged from the announced length.
    pub payload_bytes_max: usize,
    /// Items in one list of addresses.
    pub addresses_max: usize,
}

/// Reads one frame from the start of `input`: the bytes used and the command. `None` when the frame is
/// not complete; nothing is consumed then but the bytes that [`blank`] would skip.
///
/// # Errors
/// As soon as the bytes can not become a frame, whether or not all of it is there.
#[inline(always)] // a command is not moved then, but its parts are used where they are
pub fn decode<'b>(input: &'b [u8], rules: Rules) -> Result<Option<(usize, Command<'b>)>, Error> {
    let begin = blank(input);
    let frame = &input[begin..];
    let Some((digits, len)) = length(frame)? else { return Ok(None) };
    if len > rules.payload_bytes_max {
        return Err(Error::TooLong);
    }
    let Some(&letter) = frame.get(digits) else { return Ok(None) };
    let Some(meaning) = meaning(letter) else { return Err(Error::of(letter)) };
    match meaning.payload {
        Payload::TokenMessage if len < rules.token_length => return Err(Error::NoToken),
        Payload::Token if len != rules.token_length => return Err(Error::NotOneToken),
        _ => {}
    }
    let Some(payload) = frame.get(digits + 1..digits + 1 + len) else { return Ok(None) };
    Ok(Some((begin + digits + 1 + len, command(meaning, payload, rules)?)))
}

/// The first frame of a connection that must show a key, which is all that it may say: any other is an error as soon as its
/// letter is there, and no more than a key's length is waited for.
///
/// # Errors
/// As [`decode`], and [`Error::NoKey`].
pub fn decode_key(input: &[u8]) -> Result<Option<(usize, &[u8])>, Error> {
    let rules = Rules { token_length: 0, payload_bytes_max: KEY_BYTES_MAX, addresses_max: 1 };
    let begin = blank(input);
    let frame = &input[begin..];
    let letter = length(frame)?.and_then(|(digits, _)| frame.get(digits));
    match letter {
        Some(letter) if *letter != Verb::Key.row().letter => Err(Error::NoKey),
        _ => Ok(decode(input, rules)?.map(|(used, command)| match command {
            Command::Key(key) => (used, key),
            other => unreachable!("{other:?} has another letter"),
        })),
    }
}

/// A command with addresses whose parts came in another form than a frame: its verb, and what the payload would be.
///
/// # Errors
/// As [`decode`]; a list that is malformed is in the command.
pub fn from_parts(verb: Verb, payload: &[u8], rules: Rules) -> Result<Command<'_>, Error> {
    addressed(Meaning { verb, kind: Kind::Text, payload: verb.row().payload }, payload, rules)
}

/// A command that came in another form than a frame: its letter, and the payload.
///
/// # Errors
/// As [`decode`]; a list that is malformed may be in the command.
pub fn from_letter(letter: u8, payload: &[u8], rules: Rules) -> Result<Command<'_>, Error> {
    let meaning = meaning(letter).ok_or(Error::of(letter))?;
    match meaning.payload {
        _ if payload.len() > rules.payload_bytes_max => Err(Error::TooLong),
        Payload::TokenMessage if payload.len() < rules.token_length => Err(Error::NoToken),
        Payload::Token if payload.len() != rules.token_length => Err(Error::NotOneToken),
        _ => command(meaning, payload, rules),
    }
}

/// Whether a frame, or the line end before one, can begin with this byte.
pub fn may_begin(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'\r' | b'\n')
}

/// CR and LF before the next frame.
#[inline]
pub fn blank(input: &[u8]) -> usize {
    // Few backends send any.
    match input.first() {
        Some(b'\r' | b'\n') => blanks(input),
        _ => 0,
    }
}

#[inline(never)]
fn blanks(input: &[u8]) -> usize {
    input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}

/// The decimal length at the start and its number of digits; `None` while more digits may come.
#[inline]
fn length(frame: &[u8]) -> Result<Option<(usize, usize)>, Error> {
    let mut value = 0;
    for (digits, byte) in frame.iter().take(DIGITS_MAX).enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return if digits > 0 { Ok(Some((digits, value))) } else { Err(Error::Grammar) };
        }
        value = value * 10 + usize::from(digit);
    }
    Ok((frame.len() >= DIGITS_MAX).then_some((DIGITS_MAX, value)))
}

#[inline(always)]
fn command(meaning: Meaning, payload: &[u8], rules: Rules) -> Result<Command<'_>, Error> {
    let Meaning { verb, kind, .. } = meaning;
    let token_length = rules.token_length;
    Ok(match verb {
        Verb::Broadcast => Command::Broadcast(kind, payload),
        Verb::Direct => Command::Direct(kind, &payload[..token_length], &payload[token_length..]),
        Verb::Confirmed => Command::Confirmed(kind, &payload[..token_length], &payload[token_length..]),
        Verb::Lock => Command::Lock(payload),
        Verb::First => Command::Fragment(Place::First, kind, payload),
        Verb::Middle => Command::Fragment(Place::Middle, kind, payload),
        Verb::Last => Command::Fragment(Place::Last, kind, payload),
        Verb::Freest => Command::Freest,
        Verb::Status => Command::Status,
        Verb::Ping => Command::Ping,
        Verb::Pong => Command::Pong,
        Verb::Quit => Command::Quit,
        Verb::Subscribe => Command::Subscribe(Subscription::parse(payload).map_err(Error::Unreadable)?),
        Verb::Done => Command::Done(event::number(payload).map_err(Error::Unreadable)?),
        Verb::Key => Command::Key(payload),
        Verb::Write
        | Verb::WriteAnswered
        | Verb::WriteProved
        | Verb::Kick
        | Verb::Revoke
        | Verb::Join
        | Verb::Leave
        | Verb::Count
        | Verb::Here => {
            return addressed(meaning, payload, rules);
        }
    })
}

/// A command with addresses. When it can not be understood the answer says so, if there is to be one.
#[inline(never)]
fn addressed(meaning: Meaning, payload: &[u8], rules: Rules) -> Result<Command<'_>, Error> {
    let Meaning { verb, kind, .. } = meaning;
    let list_rules = ListRules { token_length: rules.token_length, items_max: rules.addresses_max };
    if verb == Verb::WriteProved {
        return Ok(proved(kind, payload, list_rules));
    }
    let read = || {
        let (list, rest) = split(payload);
        if let Verb::Join | Verb::Leave = verb {
            return groups(verb, list, rest, list_rules);
        }
        let list = Addresses::parse(list, list_rules).map_err(Unreadable::Addresses)?;
        Ok(match verb {
            Verb::Revoke if !list.iter().all(is_login) => return Err(Unreadable::NotALogin),
            Verb::Kick | Verb::Revoke => {
                let reason = rest.map(text).transpose()?.filter(|reason| !reason.is_empty());
                if verb == Verb::Kick { Command::Kick(list, reason) } else { Command::Revoke(list, reason) }
            }
            Verb::Here => Command::Here(one(&list)?, cursor(rest.unwrap_or_default())?),
            Verb::Count if list.iter().any(|item| item.except) => return Err(Unreadable::Exception),
            Verb::Count => Command::Count(list),
            _ => {
                let message = rest.ok_or(Unreadable::NoMessage)?;
                if !is_sendable(kind, message) {
                    return Err(Unreadable::NotText);
                }
                match verb {
                    Verb::Write => Command::Write(kind, list, message),
                    _ => Command::WriteAnswered(kind, list, message),
                }
            }
        })
    };
    match read() {
        Err(why) if verb == Verb::Write => Err(Error::Unreadable(why)),
        Err(why) => Ok(Command::Refused(verb, why)),
        Ok(command) => Ok(command),
    }
}

/// A write whose answer comes late, and so carries the id that it was given.
fn proved(kind: Kind, payload: &[u8], rules: ListRules) -> Command<'_> {
    let (id, rest) = split(payload);
    let Some(id) = std::str::from_utf8(id).ok().filter(|id| is_id(id)) else {
        return Command::Refused(Verb::WriteProved, Unreadable::NotAnId);
    };
    let read = || {
        let (list, message) = split(rest.ok_or(Unreadable::NoAddresses)?);
        let list = Addresses::parse(list, rules).map_err(Unreadable::Addresses)?;
        let message = message.ok_or(Unreadable::NoMessage)?;
        match is_sendable(kind, message) {
            true => Ok(Command::WriteProved(kind, id, list, message)),
            false => Err(Unreadable::NotText),
        }
    };
    read().unwrap_or_else(|why| Command::ProofRefused(id, why))
}

/// Longest id of a `v`.
const ID_BYTES_MAX: usize = 64;

fn is_id(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.@+:/".contains(&byte);
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_letter)
}

/// A browser drops its connection on a text frame that is not UTF-8, so none is sent.
pub fn is_sendable(kind: Kind, message: &[u8]) -> bool {
    // ASCII is seen a word at a time wherever it begins; from_utf8 is fast only on aligned text.
    kind == Kind::Binary || message.is_ascii() || std::str::from_utf8(message).is_ok()
}

/// A payload at its first space, which no address has.
fn split(payload: &[u8]) -> (&[u8], Option<&[u8]>) {
    match find_byte(payload, 0, b' ') {
        Some(space) => (&payload[..space], Some(&payload[space + 1..])),
        None => (payload, None),
    }
}

fn text(bytes: &[u8]) -> Result<&str, Unreadable> {
    std::str::from_utf8(bytes).map_err(|_| Unreadable::NotText)
}

/// Whether an item names logins by themselves, and not the connections that they have at the moment.
fn is_login(item: Item<'_>) -> bool {
    !item.except && matches!(item.target, Target::Token(_) | Target::User(_))
}

/// Groups, a space, and the connections that join or leave them.
fn groups<'b>(
    verb: Verb,
    list: &'b [u8],
    rest: Option<&'b [u8]>,
    rules: ListRules,
) -> Result<Command<'b>, Unreadable> {
    let groups = Groups::parse(list, rules.items_max).map_err(Unreadable::Groups)?;
    let who = Addresses::parse(rest.ok_or(Unreadable::NoAddresses)?, rules).map_err(Unreadable::Addresses)?;
    Ok(if verb == Verb::Join { Command::Join(groups, who) } else { Command::Leave(groups, who) })
}

/// A number that an earlier answer gave.
fn cursor(bytes: &[u8]) -> Result<Option<u64>, Unreadable> {
    let digits = text(bytes)?;
    match digits.bytes().all(|byte| byte.is_ascii_digit()) {
        true if digits.is_empty() => Ok(None),
        true => digits.parse().map(Some).map_err(|_| Unreadable::NotACursor),
        false => Err(Unreadable::NotACursor),
    }
}

fn one<'a>(list: &Addresses<'a>) -> Result<Target<'a>, Unreadable> {
    let mut items = list.iter();
    match (items.next(), items.next()) {
        (Some(item), None) if !item.except => Ok(item.target),
        (Some(_), None) => Err(Unreadable::Exception),
        _ => Err(Unreadable::NotOneAddress),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: Rules = Rules { token_length: 4, payload_bytes_max: 1000, addresses_max: 3 };

    #[track_caller]
    fn check(input: &[u8], expected: Result<Option<(usize, Command<'_>)>, Error>) {
        assert_eq!(decode(input, RULES), expected);
    }

    #[test]
    fn every_command() {
        use Command::*;
        use Kind::{Binary, Text};
        check(b"5bHello", Ok(Some((7, Broadcast(Text, b"Hello")))));
        check(b"5BHello", Ok(Some((7, Broadcast(Binary, b"Hello")))));
        check(b"6dtokehi", Ok(Some((8, Direct(Text, b"toke", b"hi")))));
        check(b"4Dtoke", Ok(Some((6, Direct(Binary, b"toke", b"")))));
        check(b"5ctokeh", Ok(Some((7, Confirmed(Text, b"toke", b"h")))));
        check(b"5Ctokeh", Ok(Some((7, Confirmed(Binary, b"toke", b"h")))));
        check(b"4ltoke", Ok(Some((6, Lock(b"toke")))));
        check(b"1fx", Ok(Some((3, Fragment(Place::First, Text, b"x")))));
        check(b"1Fx", Ok(Some((3, Fragment(Place::First, Binary, b"x")))));
        check(b"0i", Ok(Some((2, Fragment(Place::Middle, Text, b"")))));
        check(b"1Ix", Ok(Some((3, Fragment(Place::Middle, Binary, b"x")))));
        check(b"1sx", Ok(Some((3, Fragment(Place::Last, Text, b"x")))));
        check(b"1Sx", Ok(Some((3, Fragment(Place::Last, Binary, b"x")))));
        for (input, command) in
            [(b"0m", Freest), (b"0t", Status), (b"0p", Ping), (b"0P", Pong), (b"0q", Quit), (b"0Q", Quit)]
        {
            check(input, Ok(Some((2, command))));
        }
    }

    fn list(text: &str) -> Addresses<'_> {
        Addresses::parse(text.as_bytes(), ListRules { token_length: 4, items_max: 3 }).unwrap()
    }

    #[test]
    fn commands_with_addresses() {
        use Command::*;
        use Kind::{Binary, Text};
        let good = |letter: char, payload: &'static str, command| {
            let frame = format!("{}{letter}{payload}", payload.len());
            check(frame.as_bytes(), Ok(Some((frame.len(), command))));
        };
        good('w', "u:44 Hello!!", Write(Text, list("u:44"), b"Hello!!"));
        good('W', "* a b c", Write(Binary, list("*"), b"a b c"));
        good('x', "t:a,-b,u:1  ", WriteAnswered(Text, list("t:a,-b,u:1"), b" "));
        good('X', "u:1 ", WriteAnswered(Binary, list("u:1"), b""));
        good('v', "job-7 u:44,g:a hi there", WriteProved(Text, "job-7", list("u:44,g:a"), b"hi there"));
        good('V', "7 * ", WriteProved(Binary, "7", list("*"), b""));
        good('v', "7 u:44", ProofRefused("7", Unreadable::NoMessage));
        good('v', "7", ProofRefused("7", Unreadable::NoAddresses));
        let empty = AddressError { at: 2, fault: Fault::Empty(Name::User) };
        good('v', "7 u: hi", ProofRefused("7", Unreadable::Addresses(empty)));
        for id in ["", " ", " * hi", "a\" * hi", "\u{e9} * hi"] {
            good('v', id, Refused(Verb::WriteProved, Unreadable::NotAnId));
        }
        good('k', "u:1", Kick(list("u:1"), None));
        good('k', "u:1 ", Kick(list("u:1"), None));
        good('k', "u:1 bye, bye", Kick(list("u:1"), Some("bye, bye")));
        good('r', "u:1,t:a,-b", Revoke(list("u:1,t:a,-b"), None));
        good('r', "u:1 bye", Revoke(list("u:1"), Some("bye")));
        for other in ["*", "g:room", "c:1-1", "u:1,-t:a,-b"] {
            good('r', other, Refused(Verb::Revoke, Unreadable::NotALogin));
        }
        good('y', "a key", Key(b"a key"));
        good('o', "*,u:1", Count(list("*,u:1")));
        good('h', "g:room 17", Here(Target::Group("room"), Some(17)));
        good('h', "*", Here(Target::All, None));
        good('h', "* ", Here(Target::All, None));
        let groups = Groups::parse(b"room,a", 2).unwrap();
        good('j', "room,a u:1,c:5f-1", Join(groups, list("u:1,c:5f-1")));
        good('J', "room,a *", Leave(groups, list("*")));
        let unreadable = Unreadable::Addresses(AddressError { at: 6, fault: Fault::NoAddress });
        good('o', "*,u:1,", Refused(Verb::Count, unreadable));
    }

    #[test]
    fn what_can_not_be_understood_is_an_error_or_an_answer() {
        let wrong = |text: &'static str| {
            let refused = |letter: char| {
                let frame = format!("{}{letter}{text}", text.len());
                match decode(frame.as_bytes(), RULES) {
                    Ok(Some((_, Command::Refused(_, why)))) => Ok(why),
                    Err(Error::Unreadable(why)) => Err(why),
                    other => panic!("{frame}: {other:?}"),
                }
            };
            assert_eq!(refused('w').unwrap_err(), refused('x').unwrap(), "{text}");
            refused('x').unwrap()
        };
        let at = |at, fault| Unreadable::Addresses(AddressError { at, fault });
        assert_eq!(wrong("u:44"), Unreadable::NoMessage);
        assert_eq!(wrong(""), at(0, Fault::NoAddress));
        assert_eq!(wrong(" hi"), at(0, Fault::NoAddress));
        assert_eq!(wrong("u:4\n4 hi"), at(3, Fault::Character(Name::User)));
        assert_eq!(wrong("*,*,*,* hi"), at(6, Fault::TooMany(3)));
        for (letter, payload, why) in [
            (b'h', &b"*,u:1 "[..], Unreadable::NotOneAddress),
            (b'h', b"-*", Unreadable::Exception),
            (b'h', b"* x", Unreadable::NotACursor),
            (b'h', b"* -1", Unreadable::NotACursor),
            (b'h', b"* 99999999999999999999", Unreadable::NotACursor),
            (b'j', b"room", Unreadable::NoAddresses),
            (b'J', b"a,, u:1", Unreadable::Groups(AddressError { at: 2, fault: Fault::Empty(Name::Group) })),
            (b'j', b"a u:", Unreadable::Addresses(AddressError { at: 2, fault: Fault::Empty(Name::User) })),
            (b'o', b"-u:1", Unreadable::Exception),
            (b'k', b"u:1 \xff", Unreadable::NotText),
            (b'x', b"* \xff", Unreadable::NotText),
        ] {
            let frame = [payload.len().to_string().as_bytes(), &[letter], payload].concat();
            let found = decode(&frame, RULES);
            assert!(
                matches!(found, Ok(Some((_, Command::Refused(_, found)))) if found == why),
                "{}: {found:?}",
                frame.escape_ascii()
            );
        }
        check(b"3w* \xff", Err(Error::Unreadable(Unreadable::NotText)));
    }

    #[test]
    fn the_grammar_is_anchored() {
        for opener in
            ["POST /0p5bHELLO HTTP/1.1", " 5bHello", "+5bHello", "-1b", "x", "\x16\x03\x01", "5 bHello"]
        {
            check(opener.as_bytes(), Err(Error::Grammar));
        }
        check(b"000000005bHello", Err(Error::Grammar));
        check(b"123456789", Err(Error::TooLong));
        check(b"000000001", Err(Error::Grammar));
        check(b"5z", Err(Error::Unknown(b'z')));
        check(b"3dabc", Err(Error::NoToken));
        check(b"3labc", Err(Error::NotOneToken));
        check(b"5labcde", Err(Error::NotOneToken));
    }

    #[test]
    fn every_row_is_decoded_and_nothing_else() {
        let mut letters = Vec::new();
        for row in LETTERS {
            letters.push(row.letter);
            if row.capital != Capital::Other {
                letters.push(row.letter.to_ascii_uppercase());
            }
        }
        for byte in 0..=255 {
            let frame = [b'4', byte, b't', b'o', b'k', b'e'];
            let expected = match byte {
                b'w' | b'W' | b'e' | b'a' => continue, // this is no list of addresses, no kind, no number
                _ if letters.contains(&byte) => Ok(Some(6)),
                byte if byte.is_ascii_alphabetic() => Err(Error::Unknown(byte)),
                byte if byte.is_ascii_digit() => continue,
                _ => Err(Error::Grammar),
            };
            let found = decode(&frame, RULES).map(|found| found.map(|(used, _)| used));
            assert_eq!(found, expected, "{}", byte.escape_ascii());
        }
    }

    #[test]
    fn bounds_are_judged_before_the_payload_arrives() {
        check(b"1001b", Err(Error::TooLong));
        check(b"1000b", Ok(None));
        check(b"3d", Err(Error::NoToken));
        check(b"99999999", Err(Error::TooLong));
    }

    #[test]
    fn a_key_is_judged_before_anything_else_is_waited_for() {
        assert_eq!(decode_key(b"\r\n5y12345rest"), Ok(Some((9, &b"12345"[..]))));
        for cut in [&b""[..], b"\n", b"5", b"5y", b"5y1234", b"4096y"] {
            assert_eq!(decode_key(cut), Ok(None), "{}", cut.escape_ascii());
        }
        for (wrong, error) in [
            (&b"4097y"[..], Error::TooLong),
            (b"99999b", Error::NoKey),
            (b"0p", Error::NoKey),
            (b"5bHello", Error::NoKey),
            (b"5Y12345", Error::NoKey),
            (b"y", Error::Grammar),
        ] {
            assert_eq!(decode_key(wrong), Err(error), "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn line_ends_between_frames_are_skipped() {
        check(b"\r\n\n0p\n", Ok(Some((5, Command::Ping))));
        check(b"\r\n", Ok(None));
        check(b"00000005bHello", Ok(Some((14, Command::Broadcast(Kind::Text, b"Hello")))));
    }

    proptest! {
        /// A prefix of a frame is never an error and never a command: any splitting gives the same.
        #[test]
        fn prefixes_wait(payload in proptest::collection::vec(any::<u8>(), 4..200), letter in "[bBdDcCfFiIsSmtpPqQ]") {
            let mut frame = format!("{}{letter}", payload.len()).into_bytes();
            frame.extend_from_slice(&payload);
            for cut in 0..frame.len() {
                prop_assert_eq!(decode(&frame[..cut], RULES), Ok(None));
            }
            let (used, _) = decode(&frame, RULES).unwrap().unwrap();
            prop_assert_eq!(used, frame.len());
        }
    }
}
