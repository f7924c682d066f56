//! One browser connection as plain data: its state, when it was heard, its deadlines.
//!
//! It never queues by itself (delivery does), never touches an index and never reads a clock. Each state holds the data
//! that that state needs; the bytes for the client are in its mailbox. It leaves a state by one of the methods below,
//! which only the roster calls: no other module has a client that can be changed. Invariant: data frames are queued
//! only while [`Client::accepts_data`] is true, and nothing is queued behind a close frame.
//!
//! ```text
//! Handshaking --admit--> Open --close--> Closing --their close--> Finishing --ours is out--> Gone
//!      |                   |  `--their close------------------------^                          ^
//!      |                   `--protocol error--> Lingering --their end, deadline----------------|
//!      `--refused, answered--------------------------^        connection lost, anywhere -------'
//! ```
//!
//! A tab (docs/resume.md) that can come back leaves the diagram for a while. What is left of its connection, a close frame
//! perhaps, is another client's from then on, the *remainder*:
//!
//! ```text
//!                       ,--its connection ends-->   Away  --too late, kicked, expired, too much--> Gone
//! Handshaking --> Open <                             |
//!      |                `--a connection comes-------'      remainder: Closing, Finishing, Lingering, or Gone at once
//!      `--that connection--> Gone
//! ```
//!
//! Where each byte of an open, silent, authorised connection goes, on a 64-bit target in release:
//!
//! | bytes | part | where |
//! |---|---|---|
//! | 48 | outbox 32 (first range 12, cut 4, length 4, pointer to further ranges 8, padding 4), pointer to what few need 8, stalled since 4, marks of two queues, padding | `delivery::mailbox` |
//! | 16 | state: tag, deadline or the pointer to a cut message | here |
//! | 16 | generation, last heard, ping sent, expiry of the login, 4 each | here |
//! | 26 | peer's address, listener, when it was admitted | `roster` |
//! | 32 | token, once; `auth.token_length` bytes | `roster::index` |
//! | 4 | next client of the same token | `roster::index` |
//! | 6 to 12 | hash table of tokens: 4 and a control byte, 7/16 to 7/8 full | `roster::index` |
//! | 12 | deadline: two neighbours and a tick | `clock` |
//! | 24 | the driver's slot: transport 16, four marks | `driver` |
//!
//! 184 to 190 in all, and no buffer. On top come, once they were needed, 4 in each flush queue and 8 in the
//! queue of newcomers; with a user or groups 20 for each membership and 4 more (`roster::groups`). Asserts guard the
//! records.

use crate::clock::Tick;
use crate::config::Timeouts;
use crate::delivery::Mailbox;
use crate::key::{ClientKey, Key};
use crate::wire::frame::Decoder;
use core::fmt;

/// Names a client. A slot is used again, the generation is not: a stale id names no client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId {
    pub(crate) key: ClientKey,
    pub(crate) generation: u32,
}

/// How a client is named to backends: in hexadecimal, so that it is short; its parts mean nothing to a backend.
impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.key.index(), self.generation)
    }
}

impl ClientId {
    /// A name that no client ever has.
    pub(crate) fn nobody() -> Self {
        Self { key: ClientKey::at(u32::MAX as usize - 1), generation: 0 }
    }

    /// All of it as one number.
    #[inline]
    pub(crate) fn whole(self) -> u64 {
        (self.key.index() as u64) << 32 | u64::from(self.generation)
    }

    /// Appends the text that [`Display`](fmt::Display) writes, without the formatting machinery.
    #[inline]
    pub(crate) fn append_to(self, out: &mut Vec<u8>) {
        let mut text = [b'-'; 17];
        let key = write_hexadecimal(&mut text, self.key.index() as u32);
        let generation = write_hexadecimal(&mut text[key + 1..], self.generation);
        out.extend_from_slice(&text[..key + 1 + generation]);
    }

    /// Reads the text that [`Display`](fmt::Display) writes, and no other.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (key, generation) = text.split_once('-')?;
        let number = |digits: &str| {
            let is_own = matches!(digits.len(), 1..=8)
                && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
                && (digits == "0" || !digits.starts_with('0'));
            u32::from_str_radix(digits, 16).ok().filter(|number| is_own && *number < u32::MAX)
        };
        Some(Self { key: ClientKey::at(number(key)? as usize), generation: number(generation)? })
    }
}

/// Writes a number at the start of `text`; returns how many digits it has.
#[inline]
fn write_hexadecimal(text: &mut [u8], mut number: u32) -> usize {
    let digits = (32 - (number | 1).leading_zeros()).div_ceil(4) as usize;
    for place in text[..digits].iter_mut().rev() {
        *place = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
    digits
}

/// The state of the connection.
#[derive(Debug)]
pub(crate) enum State {
    /// Messages go both ways.
    Open { decoder: Decoder },
    /// A tab without a connection: messages are kept for it.
    // Beside `Open`, so that both take one comparison.
    Away { since: Tick, code: u16 },
    /// Nothing more happens; the slot is on the list to be reaped.
    Gone,
    /// The request head is not complete. `head` is the part that came so far.
    // Boxed: the other states are half as large.
    #[allow(clippy::box_collection)]
    Handshaking {
        head: Option<Box<Vec<u8>>>,
        until: Tick,
        /// Bytes that its stream keeps of a TLS handshake, in units of 256.
        stream: u16,
    },
    /// Our close frame is queued or sent, theirs is awaited; their messages are ignored.
    Closing { decoder: Decoder, until: Tick },
    /// The last bytes are queued. Then our side is shut down and input is discarded until theirs is, so
    /// that unread input does not destroy the bytes that we sent.
    Lingering { until: Tick },
    /// Both close frames are exchanged: the connection ends when ours is out.
    Finishing { until: Tick },
}

/// The state that an open client goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// [`State::Closing`]
    Close,
    /// [`State::Finishing`]
    Finish,
    /// [`State::Lingering`]
    Linger,
    /// [`State::Gone`]
    End,
}

/// The reason of a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// The request head took too long.
    Handshake,
    /// Silent: ask for a sign of life.
    Ping,
    /// Silent since the ping.
    Dead,
    /// Bytes wait and the kernel took none of them.
    Stalled,
    /// The login is over.
    Expired,
    /// What it was sent waits to be confirmed.
    Unconfirmed,
    /// The tab did not come back.
    AwayLong,
    /// The peer did not finish the closing handshake.
    CloseLate,
}

impl Due {
    /// Its name in the log.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Ping => "idle",
            Self::Dead => "silent",
            Self::Stalled => "stalled",
            Self::Expired => "expired",
            Self::Unconfirmed => "unconfirmed",
            Self::AwayLong => "away",
            Self::CloseLate => "close_late",
        }
    }
}

/// The hot part of a connection: all that a broadcast touches.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) mail: Mailbox,
    state: State,
    generation: u32,
    /// When bytes came last.
    heard: Tick,
    /// When a ping was queued, while nothing was heard since.
    pinged: Option<Tick>,
    /// When the login is over; none before one was proved, [`REMAINDER`] for the remainder of a tab's connection.
    expires: Option<Tick>,
}

// The table in the module's head counts on these.
const _: () = assert!(size_of::<Client>() <= 80);
const _: () = assert!(size_of::<State>() <= 16);

impl Client {
    /// A connection that has until then to show its request.
    pub(crate) fn new(generation: u32, now: Tick, until: Tick) -> Self {
        Self {
            mail: Mailbox::default(),
            state: State::Handshaking { head: None, until, stream: 0 },
            generation,
            heard: now,
            pinged: None,
            expires: None,
        }
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether it ever was open, so that the handler hears of its end.
    pub(crate) fn was_open(&self) -> bool {
        self.expires.is_some_and(|at| at != REMAINDER)
    }

    /// Whether it lingers so that a refusal reaches it.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.state, State::Lingering { .. }) && self.expires.is_none()
    }

    /// When bytes came last; of one whose request is awaited, when it was accepted.
    pub(crate) fn heard(&self) -> Tick {
        self.heard
    }

    /// Whether a message may be queued for it: the one predicate for direct messages and broadcasts. A locked
    /// client accepts, and holds; a tab that is away accepts, and keeps.
    #[inline]
    pub(crate) fn accepts_data(&self) -> bool {
        matches!(self.state, State::Open { .. } | State::Away { .. })
    }

    /// Whether it is a tab that is away.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self.state, State::Away { .. })
    }

    /// The code with which the connection of a tab that is away has ended.
    pub(crate) fn away_code(&self) -> Option<u16> {
        match self.state {
            State::Away { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Whether it is open, and not away.
    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Its mailbox, while it takes messages.
    #[inline]
    pub(crate) fn receiving(&mut self) -> Option<&mut Mailbox> {
        if self.accepts_data() { Some(&mut self.mail) } else { None }
    }

    /// Its mailbox and its state.
    #[inline(always)]
    pub(crate) fn parts(&mut self) -> (&mut Mailbox, &State) {
        (&mut self.mail, &self.state)
    }

    /// The decoder of its frames, and whether its messages count.
    #[inline]
    pub(crate) fn decoder(&mut self) -> Option<(&mut Decoder, Messages)> {
        match &mut self.state {
            State::Open { decoder } => Some((decoder, Messages::Wanted)),
            State::Closing { decoder, .. } => Some((decoder, Messages::Ignored)),
            _ => None,
        }
    }

    /// The part of its request head that came so far, while that is awaited.
    #[allow(clippy::box_collection)]
    pub(crate) fn head(&mut self) -> Option<&mut Option<Box<Vec<u8>>>> {
        match &mut self.state {
            State::Handshaking { head, .. } => Some(head),
            _ => None,
        }
    }

    /// Bytes that are kept of its input: of a request head, or of a message that is not complete.
    pub(crate) fn input_bytes(&self) -> usize {
        match &self.state {
            State::Handshaking { head, .. } => head.as_ref().map_or(0, |head| head.capacity()),
            State::Open { decoder } | State::Closing { decoder, .. } => decoder.held_bytes(),
            _ => 0,
        }
    }

    /// Bytes that its stream keeps while its request is awaited.
    pub(crate) fn stream_bytes(&self) -> usize {
        match self.state {
            State::Handshaking { stream, .. } => usize::from(stream) * STREAM_UNIT_BYTES,
            _ => 0,
        }
    }

    /// Its stream keeps this much. False when its request is not awaited: then it is not for the client to know.
    pub(crate) fn set_stream_bytes(&mut self, bytes: usize) -> bool {
        let State::Handshaking { stream, .. } = &mut self.state else { return false };
        *stream = (bytes / STREAM_UNIT_BYTES).min(u16::MAX.into()) as u16;
        true
    }

    // Signs of life.

    /// Bytes came; true when a ping was waiting for them.
    #[inline]
    pub(crate) fn hear(&mut self, now: Tick) -> bool {
        self.heard = now;
        self.pinged.take().is_some()
    }

    /// A ping is on its way.
    pub(crate) fn ping(&mut self, now: Tick) {
        self.pinged = Some(now);
    }

    // The transitions of the diagram, for the roster.

    pub(crate) fn admit(&mut self, now: Tick, expires: Tick) {
        debug_assert!(matches!(self.state, State::Handshaking { .. }), "a client is admitted once");
        self.state = State::Open { decoder: Decoder::default() };
        (self.heard, self.expires) = (now, Some(expires.max(REMAINDER.next())));
    }

    /// The connection of a tab ends, and the tab is away. What is left of the connection is the client that comes back.
    pub(crate) fn go_away(
        &mut self,
        generation: u32,
        (then, code): (Then, u16),
        now: Tick,
        until: Tick,
    ) -> Self {
        let state = std::mem::replace(&mut self.state, State::Away { since: now, code });
        debug_assert!(matches!(state, State::Open { .. }), "only an open client goes away");
        let mut remainder = Self {
            mail: Mailbox::default(),
            state,
            generation,
            heard: self.heard,
            pinged: None,
            expires: Some(REMAINDER),
        };
        remainder.change(then, until);
        self.pinged = None;
        remainder
    }

    /// A tab has a connection again.
    pub(crate) fn come_back(&mut self, now: Tick, expires: Tick) {
        debug_assert!(self.is_away(), "only one that is away comes back");
        self.state = State::Open { decoder: Decoder::default() };
        (self.heard, self.expires) = (now, Some(expires.max(REMAINDER.next())));
    }

    /// Leaves `Open`, or a state after it, or `Handshaking` for `Lingering` or `Gone`.
    pub(crate) fn change(&mut self, then: Then, until: Tick) {
        self.state = match then {
            Then::Close => match &mut self.state {
                State::Open { decoder } => State::Closing { decoder: std::mem::take(decoder), until },
                _ => unreachable!("only an open client begins to close"),
            },
            Then::Finish => State::Finishing { until },
            Then::Linger => State::Lingering { until },
            Then::End => State::Gone,
        };
    }

    // Deadlines.

    /// The nearest deadline in milliseconds, and its reason.
    pub(crate) fn next_due(&self, timeouts: &Timeouts) -> Option<(u64, Due)> {
        match self.state {
            State::Handshaking { until, .. } => Some((until.ms(), Due::Handshake)),
            State::Open { .. } => Some(self.open_due(timeouts)),
            State::Closing { until, .. } | State::Lingering { until } | State::Finishing { until } => {
                Some((until.ms(), Due::CloseLate))
            }
            State::Away { since, .. } => {
                let over = (since.ms() + timeouts.away_ms, Due::AwayLong);
                let expired = self.expires.map(|at| (at.ms(), Due::Expired));
                Some(expired.filter(|expired| expired.0 <= over.0).unwrap_or(over))
            }
            State::Gone => None,
        }
    }

    fn open_due(&self, timeouts: &Timeouts) -> (u64, Due) {
        let silence = match self.pinged {
            None => (self.heard.ms() + timeouts.idle_ms, Due::Ping),
            Some(since) => (since.ms() + timeouts.pong_ms, Due::Dead),
        };
        let stalled = self.mail.stalled().map(|since| (since.ms() + timeouts.stalled_ms, Due::Stalled));
        let expired = self.expires.map(|at| (at.ms(), Due::Expired));
        let unconfirmed = self.mail.unconfirmed_ms().map(|ms| (ms, Due::Unconfirmed));
        let others = stalled.into_iter().chain(expired).chain(unconfirmed);
        others.fold(silence, |nearest, due| if due.0 <= nearest.0 { due } else { nearest })
    }
}

/// The expiry that says so.
const REMAINDER: Tick = Tick::FIRST;

/// The unit of the bytes that a stream keeps.
const STREAM_UNIT_BYTES: usize = 256;

/// The treatment of a client's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Messages {
    /// They are given to the handler.
    Wanted,
    /// The client may not have seen our close frame yet.
    Ignored,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_client_is_read_again_and_nothing_like_it() {
        for (key, generation) in [(0, 0), (0x5f, 1), (1_000_000, u32::MAX - 1)] {
            let id = ClientId { key: ClientKey::at(key), generation };
            assert_eq!(ClientId::parse(&id.to_string()), Some(id));
            let mut text = Vec::new();
            id.append_to(&mut text);
            assert_eq!(String::from_utf8(text), Ok(id.to_string()));
        }
        assert_eq!(ClientId { key: ClientKey::at(95), generation: 1 }.to_string(), "5f-1");
        for other in [
            "",
            "-",
            "5f",
            "5f-",
            "-1",
            "5F-1",
            "05f-1",
            "5f-01",
            "5f-1-1",
            "+1-1",
            "123456789-1",
            "ffffffff-1",
        ] {
            assert_eq!(ClientId::parse(other), None, "{other}");
        }
    }
}
