//! Revoked logins: those of a token, and those of a user that were issued up to a second.
//!
//! A revocation is kept until every login that it covers has expired by itself. They are also in a file, one line each;
//! the lines are written and read here, the file itself is for the process. It never touches a file and has no clock.
//! Invariant: there are never more than `limits.revoked`, and none is dropped before its time: when there is no room for
//! more, a revocation is refused.
//! design: COMMANDS.md, threats.md row 28.

use super::{AHEAD_S_MAX, Identity};
use crate::names::{is_token, is_user};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::RandomState;

/// One line of the file: whose logins are refused, and until when.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Revocation {
    /// Whose.
    pub whose: Whose,
    /// The last second in which a login that it covers may be valid.
    pub until_unix_s: i64,
}

/// Which logins a revocation covers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Whose {
    /// The login of this token.
    Token(Box<str>),
    /// Every login of this user that was issued up to this second.
    User(Box<str>, i64),
}

/// The form that a line which cannot be read should have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BadLine;

/// There is no room for more revocations.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoRoom;

/// See the module's head.
#[derive(Debug)]
pub struct Revoked {
    /// Until when each is refused.
    tokens: HashMap<Box<str>, i64, RandomState>,
    users: HashMap<Box<str>, OfUser, RandomState>,
    /// No revocation is over before this second.
    soonest_unix_s: i64,
    /// The longest that a login which was admitted had yet to go.
    longest_s: i64,
}

#[derive(Clone, Copy, Debug)]
struct OfUser {
    issued_unix_s: i64,
    until_unix_s: i64,
}

impl Revoked {
    /// Without any. The hasher is keyed by the caller.
    pub fn new(hasher: RandomState) -> Self {
        let tokens = HashMap::with_hasher(hasher.clone());
        let users = HashMap::with_hasher(hasher);
        Self { tokens, users, soonest_unix_s: i64::MAX, longest_s: 0 }
    }

    /// Whether a login is revoked. `Identity::issued_unix_s` is 0 where a login does not say when it was issued, so it is
    /// covered by every revocation of its user.
    pub fn covers(&self, login: &Identity<'_>, now_unix_s: i64) -> bool {
        if self.is_empty() {
            return false;
        }
        let of_token = self.tokens.get(&*login.token);
        let of_user = login.user.as_deref().and_then(|user| self.users.get(user));
        of_token.is_some_and(|until| *until >= now_unix_s)
            || of_user.is_some_and(|of_user| {
                of_user.issued_unix_s >= login.issued_unix_s && of_user.until_unix_s >= now_unix_s
            })
    }

    /// Notes how long a login that is let in may go on, as no setting says how long those of a JWT live.
    pub fn note(&mut self, login: &Identity<'_>, now_unix_s: i64) {
        self.longest_s = self.longest_s.max(login.expires_unix_s.saturating_sub(now_unix_s));
    }

    /// Until when a login that is valid now may be, if it is no longer than those that were let in, or than `lifetime_s`.
    pub fn until(&self, lifetime_s: i64, now_unix_s: i64) -> i64 {
        now_unix_s.saturating_add(self.longest_s.max(lifetime_s.saturating_add(AHEAD_S_MAX)))
    }

    /// Whether all of these can be added. It drops those that are over when that is needed.
    ///
    /// # Errors
    /// There is no room.
    pub fn check_room(&mut self, more: &[Revocation], max: usize, now_unix_s: i64) -> Result<(), NoRoom> {
        if self.len() + more.len() <= max {
            return Ok(());
        }
        if self.soonest_unix_s < now_unix_s {
            self.drop_expired(now_unix_s);
        }
        let new = more.iter().filter(|revocation| !self.is_known(&revocation.whose)).count();
        if self.len() + new <= max { Ok(()) } else { Err(NoRoom) }
    }

    /// Adds one; two of the same token or user become one that covers the logins of both.
    pub fn add(&mut self, revocation: Revocation) {
        let until = revocation.until_unix_s;
        self.soonest_unix_s = self.soonest_unix_s.min(until);
        match revocation.whose {
            Whose::Token(token) => {
                let known = self.tokens.entry(token).or_insert(until);
                *known = until.max(*known);
            }
            Whose::User(user, issued_unix_s) => match self.users.entry(user) {
                Entry::Vacant(entry) => drop(entry.insert(OfUser { issued_unix_s, until_unix_s: until })),
                Entry::Occupied(mut known) => {
                    let known = known.get_mut();
                    known.issued_unix_s = issued_unix_s.max(known.issued_unix_s);
                    known.until_unix_s = until.max(known.until_unix_s);
                }
            },
        }
    }

    /// Adds the revocations in a file that are not over. Returns the numbers of the lines that cannot be read, from 1,
    /// and how many there was no room for.
    pub fn read(&mut self, text: &[u8], max: usize, now_unix_s: i64) -> Unread {
        let mut unread = Unread::default();
        for (place, line) in text.split(|byte| *byte == b'\n').enumerate() {
            match Revocation::parse(line) {
                Ok(Some(revocation)) if revocation.until_unix_s >= now_unix_s => {
                    match self.check_room(std::slice::from_ref(&revocation), max, now_unix_s) {
                        Ok(()) => self.add(revocation),
                        Err(NoRoom) => unread.no_room += 1,
                    }
                }
                Ok(_) => {}
                Err(BadLine) => unread.bad_lines.push(place + 1),
            }
        }
        unread
    }

    /// Drops those that are over.
    pub fn drop_expired(&mut self, now_unix_s: i64) {
        self.tokens.retain(|_, until| *until >= now_unix_s);
        self.users.retain(|_, of_user| of_user.until_unix_s >= now_unix_s);
        self.tokens.shrink_to_fit();
        self.users.shrink_to_fit();
        let soonest =
            self.tokens.values().copied().chain(self.users.values().map(|of| of.until_unix_s)).min();
        self.soonest_unix_s = soonest.unwrap_or(i64::MAX);
    }

    /// All of them, as lines of a file.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let tokens = self.tokens.iter().map(|(token, until)| format!("t:{token} {until}\n"));
        let users = self
            .users
            .iter()
            .map(|(user, of)| format!("u:{user} {} {}\n", of.issued_unix_s, of.until_unix_s));
        tokens.chain(users)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tokens.len() + self.users.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.users.is_empty()
    }

    fn is_known(&self, whose: &Whose) -> bool {
        match whose {
            Whose::Token(token) => self.tokens.contains_key(token),
            Whose::User(user, _) => self.users.contains_key(user),
        }
    }
}

/// The parts of a file that could not be taken over.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Unread {
    /// Numbers of lines, from 1.
    pub bad_lines: Vec<usize>,
    /// Revocations beyond `limits.revoked`.
    pub no_room: usize,
}

impl Revocation {
    /// Reads a line without its line feed. Blank ones and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// It is neither that nor a revocation.
    pub fn parse(line: &[u8]) -> Result<Option<Self>, BadLine> {
        let line = line.trim_ascii();
        if line.is_empty() || line[0] == b'#' {
            return Ok(None);
        }
        let line = std::str::from_utf8(line).map_err(|_| BadLine)?;
        let mut fields = line.split(' ');
        let mut field = || fields.next().ok_or(BadLine);
        let (name, first) = (field()?, time(field()?)?);
        let revocation = match name.split_once(':') {
            Some(("t", token)) if is_token(token.as_bytes(), token.len()) => {
                Self { whose: Whose::Token(token.into()), until_unix_s: first }
            }
            Some(("u", name)) if is_user(name.as_bytes()) => {
                Self { whose: Whose::User(name.into(), first), until_unix_s: time(field()?)? }
            }
            _ => return Err(BadLine),
        };
        if fields.next().is_some() { Err(BadLine) } else { Ok(Some(revocation)) }
    }
}

/// Decimal digits alone, so that a number has one spelling.
fn time(digits: &str) -> Result<i64, BadLine> {
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_plain || digits.len() > 1 && digits.starts_with('0') {
        return Err(BadLine);
    }
    digits.parse().map_err(|_| BadLine)
}

/// A line of the file, with its line feed.
impl fmt::Display for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let until = self.until_unix_s;
        match &self.whose {
            Whose::Token(token) => writeln!(f, "t:{token} {until}"),
            Whose::User(user, issued) => writeln!(f, "u:{user} {issued} {until}"),
        }
    }
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("limits.revoked revocations are kept already")
    }
}

impl std::error::Error for NoRoom {}

#[cfg(test)]
mod tests;
