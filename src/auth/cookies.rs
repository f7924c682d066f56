//! The grammar of the cookies that prove a login (endpoint.md "Authorisation").
//!
//! Every wanted cookie must be there exactly once over all Cookie fields, and fit its grammar to the byte: no blanks, no
//! other digits than ASCII ones. Before that, the encoding that frameworks write around a value is taken off, once
//! (`decode`). Grammar and digest see the decoded value, so that however a login is written it is one login. Cookies of
//! other names may hold any bytes.

use super::decode::cookie_value;
use super::{Denied, Digest, IdentityKind, Rules};
use crate::names::{Class, is_token, is_user};
use crate::words::find_byte;
use std::borrow::Cow;

/// The values of the wanted cookies. It borrows the request head.
pub(super) struct Cookies<'h> {
    pub(super) token: Cow<'h, str>,
    /// Ten digits.
    pub(super) time: Cow<'h, [u8]>,
    pub(super) user: Option<Cow<'h, str>>,
    /// Lower-case hex, as many digits as the digest has.
    pub(super) digest: Cow<'h, [u8]>,
    /// Which digest it is.
    pub(super) kind: Digest,
}

impl<'h> Cookies<'h> {
    pub(super) fn find(rules: &Rules, values: impl Iterator<Item = &'h [u8]>) -> Result<Self, Denied> {
        let wants_user = rules.identity == IdentityKind::User;
        let (mut token_found, mut time_found, mut digest_found, mut user_found) = (None, None, None, None);
        for field in values {
            for (name, value) in pairs(field) {
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
        }
        let found = token_found.ok_or(Denied::MissingToken)?;
        let token = fit_text(found, |value| is_token(value, rules.token_length)).ok_or(Denied::BadToken)?;
        let time = fit(time_found.ok_or(Denied::MissingTime)?, is_time).ok_or(Denied::BadTime)?;
        let user = match wants_user {
            true => Some(fit_text(user_found.ok_or(Denied::MissingUser)?, is_user).ok_or(Denied::BadUser)?),
            false => None,
        };
        let found = digest_found.ok_or(Denied::MissingDigest)?;
        let kind = |value: &[u8]| rules.digest.of(value.len());
        let is_digest = |value: &[u8]| kind(value).is_some() && is_hex(value, value.len());
        let digest = fit(found, is_digest).ok_or(Denied::BadDigest)?;
        let kind = kind(&digest).ok_or(Denied::BadDigest)?;
        Ok(Self { token, time, user, digest, kind })
    }

    /// The time as a number. Ten digits can not overflow it.
    pub(super) fn issued_unix_s(&self) -> i64 {
        self.time.iter().fold(0, |number, &digit| number * 10 + i64::from(digit - b'0'))
    }
}

/// The value of the one cookie that holds a JWT, in any form.
pub(super) fn only_token<'h>(
    rules: &Rules,
    values: impl Iterator<Item = &'h [u8]>,
) -> Result<Cow<'h, [u8]>, Denied> {
    let mut found = values.flat_map(pairs).filter(|(name, _)| *name == rules.cookie_token.as_bytes());
    match (found.next(), found.next()) {
        (Some((_, value)), None) => Ok(cookie_value(value).map_or(Cow::Borrowed(value), Cow::Owned)),
        (None, _) => Err(Denied::MissingToken),
        (Some(_), Some(_)) => Err(Denied::DuplicateToken),
    }
}

/// The pairs of one Cookie field. RFC 6265 section 4.2.1 puts "; " between them; blanks before a name are skipped,
/// those behind a value belong to it (and make a wanted one invalid). A text without `=` is no pair.
fn pairs(field: &[u8]) -> Pairs<'_> {
    Pairs { rest: Some(field) }
}

struct Pairs<'h> {
    /// None behind the last one.
    rest: Option<&'h [u8]>,
}

impl<'h> Iterator for Pairs<'h> {
    type Item = (&'h [u8], &'h [u8]);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let field = self.rest?;
            let semicolon = find_byte(field, 0, b';');
            self.rest = semicolon.map(|at| &field[at + 1..]);
            let pair = &field[..semicolon.unwrap_or(field.len())];
            if let Some(equals) = pair.iter().position(|&byte| byte == b'=') {
                return Some((pair[..equals].trim_ascii_start(), &pair[equals + 1..]));
            }
        }
    }
}

/// The value, or its decoded form, if that is in the grammar. No grammar has a quote or a percent sign, so
/// that no value fits in both ways.
fn fit(value: &[u8], fits: impl Fn(&[u8]) -> bool) -> Option<Cow<'_, [u8]>> {
    if fits(value) {
        return Some(Cow::Borrowed(value));
    }
    cookie_value(value).filter(|decoded| fits(decoded)).map(Cow::Owned)
}

/// The same as text: all grammars are ASCII.
fn fit_text(value: &[u8], fits: impl Fn(&[u8]) -> bool) -> Option<Cow<'_, str>> {
    match fit(value, fits)? {
        Cow::Borrowed(value) => std::str::from_utf8(value).ok().map(Cow::Borrowed),
        Cow::Owned(value) => String::from_utf8(value).ok().map(Cow::Owned),
    }
}

fn is_time(bytes: &[u8]) -> bool {
    bytes.len() == 10 && bytes[0] != b'0' && Class::DIGIT.has_all(bytes)
}

/// Lower-case hex, exactly this many digits.
pub(super) fn is_hex(bytes: &[u8], digits: usize) -> bool {
    bytes.len() == digits && Class::HEX.has_all(bytes)
}
