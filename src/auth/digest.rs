//! The digests that sign the cookies, and their comparison.
//!
//! MD5 lives in this file only. A hashed text never has two readings, because the grammar came first (`cookies`).

use super::{Rules, cookies::Cookies};
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest as _, Md5};
use sha2::Sha256;
use std::fmt;
use subtle::{Choice, ConstantTimeEq};

/// How the cookies are signed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Digest {
    /// HMAC-SHA256 over the fields, joined by line feeds, with the secret as its key.
    HmacSha256,
    /// MD5 of secret and fields in a row, as ws(s)on has always done it.
    #[default]
    Md5,
}

impl Digest {
    /// Lower-case hex digits of such a digest.
    pub fn hex_digits(self) -> usize {
        match self {
            Self::HmacSha256 => 64,
            Self::Md5 => 32,
        }
    }
}

/// Which digests are accepted. They differ in length, so the length of a cookie's value says which one it is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Digests {
    /// Either, for as long as a site goes from one to the other.
    Both,
    /// HMAC-SHA256 only.
    HmacSha256,
    /// MD5 only.
    #[default]
    Md5,
}

impl Digests {
    /// The one to sign with.
    pub fn signing(self) -> Digest {
        match self {
            Self::Both | Self::HmacSha256 => Digest::HmacSha256,
            Self::Md5 => Digest::Md5,
        }
    }

    /// The accepted one that has this many digits.
    pub fn of(self, digits: usize) -> Option<Digest> {
        let kinds: &[Digest] = match self {
            Self::Both => &[Digest::HmacSha256, Digest::Md5],
            Self::HmacSha256 => &[Digest::HmacSha256],
            Self::Md5 => &[Digest::Md5],
        };
        kinds.iter().copied().find(|kind| kind.hex_digits() == digits)
    }
}

impl From<Digest> for Digests {
    fn from(only: Digest) -> Self {
        match only {
            Digest::HmacSha256 => Self::HmacSha256,
            Digest::Md5 => Self::Md5,
        }
    }
}

/// A secret shared with the site. It prints as `***`.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Takes the bytes as they are.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into().into_boxed_slice())
    }

    /// The bytes, for a caller that judges their length.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The digest of a login, in lower-case hex.
pub fn digest(kind: Digest, secret: &Secret, user: Option<&str>, token: &str, time: &str) -> String {
    let raw = raw(kind, secret, [user.unwrap_or("").as_bytes(), token.as_bytes(), time.as_bytes()]);
    to_hex(&raw[..kind.hex_digits() / 2])
}

/// Bytes in lower-case hex.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])).collect()
}

/// Whether one of the secrets signed these cookies.
pub(super) fn matches(rules: &Rules, cookies: &Cookies<'_>) -> bool {
    let given = from_hex(&cookies.digest);
    let user = cookies.user.as_deref().unwrap_or("");
    let fields = [user.as_bytes(), cookies.token.as_bytes(), &cookies.time];
    any_gives(&rules.secrets, &given, |secret| raw(cookies.kind, secret, fields))
}

/// A digest as bytes; one shorter than this is filled up with zeros.
pub(super) type Raw = [u8; 32];

/// The digest of user, token and time; an empty user is left out.
fn raw(kind: Digest, secret: &Secret, fields: [&[u8]; 3]) -> Raw {
    let mut raw = [0; 32];
    let [user, token, time] = fields;
    match kind {
        Digest::Md5 => {
            let hash = Md5::new_with_prefix(secret.as_bytes()).chain_update(user).chain_update(token);
            raw[..16].copy_from_slice(&hash.chain_update(time).finalize());
        }
        Digest::HmacSha256 if user.is_empty() => raw = hmac_sha256(secret, &[token, b"\n", time]),
        Digest::HmacSha256 => raw = hmac_sha256(secret, &[user, b"\n", token, b"\n", time]),
    }
    raw
}

/// HMAC-SHA256 over the parts in a row, with the secret as its key.
pub(super) fn hmac_sha256(secret: &Secret, parts: &[&[u8]]) -> Raw {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    parts.iter().fold(mac, Mac::chain_update).finalize().into_bytes().into()
}

/// Whether one of the secrets gives this digest. The time this takes shows neither where a digest differs nor which
/// secret it was made with.
pub(super) fn any_gives(secrets: &[Secret], given: &Raw, raw: impl Fn(&Secret) -> Raw) -> bool {
    let given = words(given);
    let same = |secret| words(&raw(secret)).ct_eq(&given);
    secrets.iter().fold(Choice::from(0), |matched, secret| matched | same(secret)).into()
}

/// Four comparisons instead of 32, each of which takes the same time whatever it compares.
fn words(raw: &Raw) -> [u64; 4] {
    std::array::from_fn(|at| u64::from_ne_bytes(raw[8 * at..][..8].try_into().expect("eight bytes")))
}

/// Whether these bytes are one of the secrets themselves. They are compared by their hashes, so that the time shows no
/// length either.
pub fn is_one_of(secrets: &[Secret], given: &[u8]) -> bool {
    let hash = |bytes: &[u8]| -> Raw { Sha256::digest(bytes).into() };
    any_gives(secrets, &hash(given), |secret| hash(secret.as_bytes()))
}

/// The bytes of hex digits whose grammar was checked.
pub(super) fn from_hex(digits: &[u8]) -> Raw {
    let mut raw = [0; 32];
    for (bytes, digits) in raw.chunks_exact_mut(4).zip(digits.chunks_exact(8)) {
        let digits = u64::from_le_bytes(digits.try_into().expect("eight digits"));
        bytes.copy_from_slice(&four_bytes(digits).to_le_bytes());
    }
    raw
}

/// The bytes of eight digits, the first in the lowest byte. ASCII letters have bit 6 and `a` ends in 1, so a letter is
/// worth nine more than its low bits.
fn four_bytes(digits: u64) -> u32 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let nibbles = (digits & (ONES * 15)) + 9 * (digits >> 6 & ONES);
    // Two digits to a byte, then the bytes together.
    let bytes = (nibbles << 4 | nibbles >> 8) & 0x00ff_00ff_00ff_00ff;
    let pairs = (bytes | bytes >> 8) & 0x0000_ffff_0000_ffff;
    (pairs | pairs >> 16) as u32
}
