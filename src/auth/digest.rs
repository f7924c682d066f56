//! The digests that sign the cookies, and their comparison.
//!
//! MD5 lives in this file only. What is hashed never has two readings, because the grammar came first (`cookies`).

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

/// A secret shared with the site. It prints as `***`.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Takes the bytes as they are.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into().into_boxed_slice())
    }

    /// The bytes, for whoever must judge their length.
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
    let digits = raw[..kind.hex_digits() / 2].iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])).collect()
}

/// Whether one of the secrets signed these cookies. The time this takes tells neither where a digest differs nor which
/// secret it was made with.
pub(super) fn matches(rules: &Rules, cookies: &Cookies<'_>) -> bool {
    let given = from_hex(cookies.digest.as_bytes());
    let user = cookies.user.as_deref().unwrap_or("");
    let fields = [user.as_bytes(), cookies.token.as_bytes(), cookies.time.as_bytes()];
    let same = |secret| raw(rules.digest, secret, fields).ct_eq(&given);
    rules.secrets.iter().fold(Choice::from(0), |matched, secret| matched | same(secret)).into()
}

/// A digest as bytes; one shorter than this is filled up with zeros.
type Raw = [u8; 32];

/// The digest of user, token and time; an empty user is left out.
fn raw(kind: Digest, secret: &Secret, fields: [&[u8]; 3]) -> Raw {
    let mut raw = [0; 32];
    let [user, token, time] = fields;
    match kind {
        Digest::Md5 => {
            let hash = Md5::new_with_prefix(secret.as_bytes()).chain_update(user).chain_update(token);
            raw[..16].copy_from_slice(&hash.chain_update(time).finalize());
        }
        Digest::HmacSha256 => {
            let mut mac =
                Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
            if !user.is_empty() {
                mac.update(user);
                mac.update(b"\n");
            }
            let mac = mac.chain_update(token).chain_update(b"\n").chain_update(time);
            raw.copy_from_slice(&mac.finalize().into_bytes());
        }
    }
    raw
}

/// The bytes of hex digits whose grammar was checked.
fn from_hex(digits: &[u8]) -> Raw {
    let mut raw = [0; 32];
    for (byte, pair) in raw.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0]) << 4 | nibble(pair[1]);
    }
    raw
}

/// ASCII letters have bit 6 and `a` ends in 1, so a letter is worth nine more than its low bits.
fn nibble(digit: u8) -> u8 {
    (digit & 15) + 9 * (digit >> 6)
}
