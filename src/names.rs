//! The grammar of names: of which characters tokens, users, groups and connections are made, and how long they are
//! (docs/endpoint.md, COMMANDS.md "Addresses").
//!
//! One table for all places where a name comes in: cookies, JWTs, tickets, lists of addresses, files of revoked logins.
//! It never knows whether there is such a name. Invariant: every character of every name is ASCII.

/// The longest name of a user.
pub(crate) const USER_BYTES_MAX: usize = 64;
/// The longest name of a group.
pub(crate) const GROUP_BYTES_MAX: usize = 64;
/// The longest name of a connection.
pub(crate) const CONNECTION_BYTES_MAX: usize = 40;

/// Some characters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Class(u8);

impl Class {
    /// Those of a token: letters, digits, comma and hyphen.
    pub(crate) const TOKEN: Self = Self(1);
    /// Decimal digits.
    pub(crate) const DIGIT: Self = Self(2);
    /// Those of a user: letters, digits and `_ - . @ +`.
    pub(crate) const USER: Self = Self(4);
    /// Hexadecimal digits, lower case.
    pub(crate) const HEX: Self = Self(8);
    /// Those of a group: letters, digits and `_ - . @ + : /`.
    pub(crate) const GROUP: Self = Self(16);
    /// Those of a connection: letters, digits and hyphen.
    pub(crate) const CONNECTION: Self = Self(32);

    /// Whether a byte is one of them.
    #[inline]
    pub(crate) fn has(self, byte: u8) -> bool {
        CLASSES[usize::from(byte)] & self.0 != 0
    }

    /// Whether all of these bytes are.
    #[inline]
    pub(crate) fn has_all(self, bytes: &[u8]) -> bool {
        bytes.iter().fold(self.0, |left, &byte| left & CLASSES[usize::from(byte)]) != 0
    }

    /// How many of these bytes are, before the first that is not.
    #[inline(always)]
    pub(crate) fn count(self, bytes: &[u8]) -> usize {
        bytes.iter().position(|&byte| !self.has(byte)).unwrap_or(bytes.len())
    }
}

/// Whether this is a token of exactly this many characters.
pub(crate) fn is_token(bytes: &[u8], length: usize) -> bool {
    bytes.len() == length && length > 0 && Class::TOKEN.has_all(bytes)
}

/// Whether this is a user.
pub(crate) fn is_user(bytes: &[u8]) -> bool {
    (1..=USER_BYTES_MAX).contains(&bytes.len()) && Class::USER.has_all(bytes)
}

/// Whether this is a group.
pub(crate) fn is_group(bytes: &[u8]) -> bool {
    (1..=GROUP_BYTES_MAX).contains(&bytes.len()) && Class::GROUP.has_all(bytes)
}

/// Which classes a byte is in. A table, because a class of several ranges costs a handful of branches per byte.
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        let names = Class::TOKEN.0 | Class::USER.0 | Class::GROUP.0 | Class::CONNECTION.0;
        classes[byte as usize] = match byte {
            b'0'..=b'9' => names | Class::DIGIT.0 | Class::HEX.0,
            b'a'..=b'f' => names | Class::HEX.0,
            b'A'..=b'Z' | b'g'..=b'z' | b'-' => names,
            b',' => Class::TOKEN.0,
            b'_' | b'.' | b'@' | b'+' => Class::USER.0 | Class::GROUP.0,
            b':' | b'/' => Class::GROUP.0,
            _ => 0,
        };
        byte += 1;
    }
    classes
};
