//! The control protocol's codec: bytes from a backend to [`Command`], [`Reply`] to bytes.
//!
//! The grammar is anchored: a frame begins exactly where the last one ended, or the connection is over. A
//! parser that searched ahead for digits would execute `POST /0p5bHELLO HTTP/1.1` (COMMANDS.md).
//!
//! It never executes anything and never copies a payload. Invariant: what `decode` consumed is exactly
//! one frame and the line ends before it.

mod address;
mod letters;
mod reply;

use crate::wire::frame::Kind;
pub use address::{Address, AddressError, Addresses, Fault, Groups, Item, ListRules, Name};
pub use letters::{Capital, LETTERS, Letter, Payload, Verb};
use letters::{Meaning, meaning};
pub use reply::Reply;

/// Digits of a length. Seven would do for any limit; leading zeros are allowed.
const DIGITS_MAX: usize = 8;

/// What a backend asks for. Tokens and messages borrow the input.
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
}

/// Where in its message a fragment stands.
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
    /// Behind the first frame of a connection over TCP stands what no backend sends there.
    NotABackend,
    /// Backends together hold too much, and this one most.
    Overflow,
}

impl Error {
    /// What is wrong with a byte that stands where a letter must and is no command's.
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
            Self::NotText => f.write_str("text_is_not_utf8"),
            Self::NotABackend => f.write_str("not_a_backend"),
            Self::Overflow => f.write_str("overflow"),
        }
    }
}

/// What the codec must know of the settings.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Length of every token in bytes.
    pub token_length: usize,
    /// Largest payload in bytes, judged from the announced length.
    pub payload_bytes_max: usize,
}

/// Reads one frame from the start of `input`: the bytes used and the command. `None` when the frame is
/// not complete; nothing is consumed then but what [`blank`] would skip.
///
/// # Errors
/// As soon as the bytes can not become a frame, whether or not all of it is there.
#[inline]
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
    Ok(Some((begin + digits + 1 + len, command(meaning, payload, rules.token_length))))
}

/// Whether a frame, or the line end before one, can begin with this byte.
pub fn may_begin(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'\r' | b'\n')
}

/// CR and LF before the next frame.
pub fn blank(input: &[u8]) -> usize {
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

fn command(meaning: Meaning, payload: &[u8], token_length: usize) -> Command<'_> {
    let Meaning { verb, kind, .. } = meaning;
    match verb {
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: Rules = Rules { token_length: 4, payload_bytes_max: 1000 };

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
