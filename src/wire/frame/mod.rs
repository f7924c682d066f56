//! The frames of RFC 6455, seen from the server: client frames in, server frames out.
//!
//! Pure functions over bytes. This module never touches a socket or a clock, and never answers a peer: a
//! [`decode::Decoder`] turns bytes into [`Event`]s, [`encode`] turns payloads into bytes, and the consequences
//! are decided above.
//!
//! Invariant: an [`Event`] borrows the input or owns its bytes; it never borrows the decoder.

use std::borrow::Cow;
use std::fmt;

pub mod decode;
pub mod encode;
pub mod mask;
pub mod utf8;

pub use decode::{DecodeError, Decoder};

/// The longest payload of a control frame (RFC 6455, section 5.5).
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

/// The meaning of a frame (RFC 6455, section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A further fragment of the message that is under way.
    Continuation = 0x0,
    /// A text message, or its first fragment.
    Text = 0x1,
    /// A binary message, or its first fragment.
    Binary = 0x2,
    /// The end of the sender's messages.
    Close = 0x8,
    /// A request for a pong.
    Ping = 0x9,
    /// The answer to a ping, or an unasked sign of life.
    Pong = 0xA,
}

impl Opcode {
    /// The opcode of this number; `None` for those RFC 6455 reserves.
    #[inline]
    pub fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    /// Whether frames of this opcode are control frames: short, whole, allowed between the fragments of a
    /// message.
    #[inline]
    pub fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// The two kinds of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

impl Kind {
    /// The opcode a message of this kind begins with.
    #[inline]
    pub fn opcode(self) -> Opcode {
        match self {
            Self::Text => Opcode::Text,
            Self::Binary => Opcode::Binary,
        }
    }
}

/// The number in a close frame (RFC 6455, section 7.4, and the IANA registry it set up).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// 1000: done.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the server goes down, or the browser leaves the page.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: a kind of message this endpoint does not take.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// 1007: text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: refused by policy.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: a message over the limit.
    pub const TOO_BIG: Self = Self(1009);
    /// 1011: the server could not do its part.
    pub const INTERNAL: Self = Self(1011);
    /// 1013: overloaded; come back later.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// 4002, of our own: the same tab has another connection, in a duplicated tab perhaps.
    pub const TAKEN_OVER: Self = Self(4002);
    /// 4001, of our own: logged out. The page should not come back.
    pub const LOGGED_OUT: Self = Self(4001);

    /// Whether a close frame may carry this code. 1004 to 1006 and 1015 are names for codes that were never sent,
    /// and the gaps are reserved; 1012 to 1014 were registered after the RFC.
    pub fn is_allowed_on_wire(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A message or control frame of a client. Borrowed from the input when it came in one piece, owned when it had to be
/// gathered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'b> {
    /// A whole text message, which was found to be UTF-8.
    Text(Cow<'b, [u8]>),
    /// A whole binary message.
    Binary(Cow<'b, [u8]>),
    /// A ping with the payload its pong has to repeat, at most [`CONTROL_PAYLOAD_BYTES_MAX`] bytes.
    Ping(Cow<'b, [u8]>),
    /// A pong with its payload: that of a ping, or any other.
    Pong(Cow<'b, [u8]>),
    /// A close frame, and its code if it had one.
    Close(Option<CloseCode>),
}

// Every message is handed up by value through client, hub and handler.
const _: () = assert!(size_of::<Event<'_>>() <= 32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opcodes_survive_their_number() {
        for bits in 0..=255u8 {
            match Opcode::from_bits(bits) {
                Some(opcode) => assert_eq!(opcode as u8, bits),
                None => assert!(matches!(bits, 3..=7 | 11..), "{bits} is an opcode of RFC 6455"),
            }
        }
        assert!(Opcode::Close.is_control() && Opcode::Ping.is_control() && Opcode::Pong.is_control());
        assert!(
            !Opcode::Continuation.is_control()
                && !Kind::Text.opcode().is_control()
                && !Kind::Binary.opcode().is_control()
        );
    }

    /// The codes Autobahn|Testsuite sends in its groups 7.7 and 7.9.
    #[test]
    fn close_codes_on_the_wire() {
        for code in
            [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
        {
            assert!(CloseCode(code).is_allowed_on_wire(), "{code}");
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, u16::MAX] {
            assert!(!CloseCode(code).is_allowed_on_wire(), "{code}");
        }
    }
}
