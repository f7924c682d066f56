//! The grammar of the cookies that prove a login (endpoint.md "Authorisation").
//!
//! Every wanted cookie must be there exactly once over all Cookie fields, and fit its grammar to the byte: no quotes,
//! no blanks, no other digits than ASCII ones. Cookies of other names may hold whatever they like.

use super::{Denied, Digest, IdentityKind, Rules};

/// What the wanted cookies hold. It borrows the request head.
pub(super) struct Cookies<'h> {
    pub(super) token: &'h str,
    /// Ten digits.
    pub(super) time: &'h [u8],
    pub(super) user: Option<&'h str>,
    /// Lower-case hex, as many digits as the digest has.
    pub(super) digest: &'h [u8],
    /// Which digest it is.
    pub(super) kind: Digest,
}

impl<'h> Cookies<'h> {
    pub(super) fn find(rules: &Rules, values: impl Iterator<Item = &'h [u8]>) -> Result<Self, Denied> {
        let wants_user = rules.identity == IdentityKind::User;
        let (mut token_found, mut time_found, mut digest_found, mut user_found) = (None, None, None, None);
        for (name, value) in values.flat_map(pairs) {
            let (slot, denied) = if name == rules.cookie_token.as_bytes() {
                (&mut token_found, Denied::DuplicateToken)
            } else if name == rules.cookie_time.as_bytes() {
                (&mut time_found, Denied::DuplicateTime)
            } else if name == rules.cookie_digest.as_bytes() {
                (&mut digest_found, Denied::DuplicateDigest)
            } else if wants_user && name == rules.cookie_user.as_bytes() {
                (&mut user_found, Denied::DuplicateUser)
            } else {
                continue;
            };
            if slot.replace(value).is_some() {
                return Err(denied);
            }
        }
        let found = token_found.ok_or(Denied::MissingToken)?;
        let token = token(found, rules.token_length).ok_or(Denied::BadToken)?;
        let time = time(time_found.ok_or(Denied::MissingTime)?).ok_or(Denied::BadTime)?;
        let user = match wants_user {
            true => Some(user(user_found.ok_or(Denied::MissingUser)?).ok_or(Denied::BadUser)?),
            false => None,
        };
        let found = digest_found.ok_or(Denied::MissingDigest)?;
        let kind = rules.digest.of(found.len()).ok_or(Denied::BadDigest)?;
        let digest = digest(found, kind).ok_or(Denied::BadDigest)?;
        Ok(Self { token, time, user, digest, kind })
    }

    /// The time as a number. Ten digits can not overflow it.
    pub(super) fn issued_unix_s(&self) -> i64 {
        self.time.iter().fold(0, |number, &digit| number * 10 + i64::from(digit - b'0'))
    }
}

/// The value of the one cookie that holds a JWT, whatever it is.
pub(super) fn only_token<'h>(
    rules: &Rules,
    values: impl Iterator<Item = &'h [u8]>,
) -> Result<&'h [u8], Denied> {
    let mut found = values.flat_map(pairs).filter(|(name, _)| *name == rules.cookie_token.as_bytes());
    match (found.next(), found.next()) {
        (Some((_, value)), None) => Ok(value),
        (None, _) => Err(Denied::MissingToken),
        (Some(_), Some(_)) => Err(Denied::DuplicateToken),
    }
}

/// The pairs of one Cookie field. RFC 6265 section 4.2.1 puts "; " between them; blanks before a name are skipped,
/// those behind a value belong to it (and make a wanted one invalid). What has no `=` is no pair.
fn pairs(field: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    field.split(|&byte| byte == b';').filter_map(|pair| {
        let equals = pair.iter().position(|&byte| byte == b'=')?;
        Some((pair[..equals].trim_ascii_start(), &pair[equals + 1..]))
    })
}

pub(super) fn token(bytes: &[u8], length: usize) -> Option<&str> {
    text(bytes, bytes.len() == length && length > 0, TOKEN)
}

fn time(bytes: &[u8]) -> Option<&[u8]> {
    (bytes.len() == 10 && bytes[0] != b'0' && all(bytes, DIGIT)).then_some(bytes)
}

pub(super) fn user(bytes: &[u8]) -> Option<&str> {
    text(bytes, (1..=64).contains(&bytes.len()), USER)
}

/// Whether this may be a token, of whatever length.
pub(super) fn all_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all(bytes, TOKEN)
}

pub(super) fn group(bytes: &[u8]) -> Option<&str> {
    text(bytes, (1..=64).contains(&bytes.len()), GROUP)
}

/// Lower-case hex, exactly this many digits.
pub(super) fn hex(bytes: &[u8], digits: usize) -> Option<&[u8]> {
    (bytes.len() == digits && all(bytes, HEX)).then_some(bytes)
}

fn digest(bytes: &[u8], kind: Digest) -> Option<&[u8]> {
    hex(bytes, kind.hex_digits())
}

/// The bytes as text when the length fits and every byte is in the class, which is ASCII in every case.
fn text(bytes: &[u8], fits: bool, class: u8) -> Option<&str> {
    if !fits || !all(bytes, class) {
        return None;
    }
    std::str::from_utf8(bytes).ok()
}

fn all(bytes: &[u8], class: u8) -> bool {
    bytes.iter().fold(class, |left, &byte| left & CLASSES[usize::from(byte)]) != 0
}

const TOKEN: u8 = 1;
const DIGIT: u8 = 2;
const USER: u8 = 4;
const HEX: u8 = 8;
const GROUP: u8 = 16;

/// Which classes a byte is in. A table, because a class of several ranges costs a handful of branches per byte.
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        classes[byte as usize] = match byte {
            b'0'..=b'9' => TOKEN | DIGIT | USER | HEX | GROUP,
            b'a'..=b'f' => TOKEN | USER | HEX | GROUP,
            b'A'..=b'Z' | b'g'..=b'z' | b'-' => TOKEN | USER | GROUP,
            b',' => TOKEN,
            b'_' | b'.' | b'@' | b'+' => USER | GROUP,
            b':' | b'/' => GROUP,
            _ => 0,
        };
        byte += 1;
    }
    classes
};
