//! Who is there: cookies that a site signed with a shared secret become an [`Identity`]; origins are compared.
//!
//! Pure: it gets the raw Cookie values and the time, and borrows what it returns from them. It never reads a file or a
//! clock, and nothing it returns or prints holds a secret or a digest.
//!
//! Invariant: the grammar is judged before anything is hashed, and only one set of cookies has a given digest input.
//! That makes the plain md5 form of ws(s)on safe: the token has a fixed length and the time exactly ten digits, so no
//! character can move from one field to the next, and a length extension needs bytes that no field may hold.
//! design: endpoint.md "Authorisation", threats.md rows 1 to 5.

mod cookies;
mod decode;
mod digest;
mod origin;
#[cfg(test)]
mod tests;

pub use digest::{Digest, Secret, digest};
pub use origin::{origin_allowed, parse_origin};

use cookies::Cookies;
use std::borrow::Cow;
use std::fmt;

/// Secrets that ws(s)on's documentation shows as examples. They sit in public repositories, so a server whose secret
/// is one of them has none; the configuration refuses them.
pub const PUBLISHED_SECRETS: [&str; 2] =
    ["eyZsz5dJDg28oNr385YjG4UQasx7D4q9", "uhD27usxm2F61p6gs4unU12mHUiGrbf6"];

/// Seconds that the clock of the site may be ahead of ours.
pub const AHEAD_S_MAX: i64 = 60;

/// Whom the cookies identify.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum IdentityKind {
    /// A token: one login, one browser.
    #[default]
    Token,
    /// A token and the user it belongs to.
    User,
}

/// How a login is proved.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rules {
    /// Which cookies there are.
    pub identity: IdentityKind,
    /// How they are signed.
    pub digest: Digest,
    /// Characters of a token, exactly.
    pub token_length: usize,
    /// Seconds from the cookies' time until they expire.
    pub lifetime_s: i64,
    /// Name of the cookie that holds the token.
    pub cookie_token: String,
    /// Name of the cookie that holds the time.
    pub cookie_time: String,
    /// Name of the cookie that holds the digest.
    pub cookie_digest: String,
    /// Name of the cookie that holds the user.
    pub cookie_user: String,
    /// One, or two while the site changes from one to the other; either verifies, the first one signs.
    pub secrets: Vec<Secret>,
}

/// Who was proved to be there. An application that judges by itself makes one with [`Identity::new`].
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Identity<'h> {
    /// The token: letters, digits, `,` and `-`, at most `auth.token_length` of them.
    pub token: Cow<'h, str>,
    /// The user: 1 to 64 letters, digits, `_`, `-`, `.`, `@` and `+`.
    pub user: Option<Cow<'h, str>>,
    /// Groups that the connection joins as it opens.
    pub groups: Vec<Cow<'h, str>>,
    /// When the login was issued.
    pub issued_unix_s: i64,
    /// When the login ends.
    pub expires_unix_s: i64,
}

impl<'h> Identity<'h> {
    /// A login without a user or groups, issued in 1970 and without an end.
    pub fn new(token: impl Into<Cow<'h, str>>) -> Self {
        Self {
            token: token.into(),
            user: None,
            groups: Vec::new(),
            issued_unix_s: 0,
            expires_unix_s: i64::MAX,
        }
    }

    /// The grammar, for logins from wherever: whoever sends to a name must find exactly those who have it, and the names
    /// are kept in places that end in NULs.
    pub(crate) fn check(&self, token_bytes_max: usize) -> Result<(), Denied> {
        let length = self.token.len();
        if length > token_bytes_max || !cookies::is_token(self.token.as_bytes(), length) {
            return Err(Denied::BadToken);
        }
        match &self.user {
            Some(user) if !cookies::is_user(user.as_bytes()) => Err(Denied::BadUser),
            _ => Ok(()),
        }
    }
}

/// Whether this is the name of a group: 1 to 64 letters, digits, `_`, `-`, `.`, `@`, `+`, `:` and `/`.
pub fn is_group(text: &str) -> bool {
    cookies::is_group(text.as_bytes())
}

/// Which rule the cookies break. For the log: the peer is never told.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Denied {
    /// The digest is not what a digest looks like.
    BadDigest,
    /// The time is not ten digits without a leading zero.
    BadTime,
    /// The token has another length or other characters.
    BadToken,
    /// The user has another length or other characters.
    BadUser,
    /// More than one cookie with the digest's name.
    DuplicateDigest,
    /// More than one cookie with the time's name.
    DuplicateTime,
    /// More than one cookie with the token's name.
    DuplicateToken,
    /// More than one cookie with the user's name.
    DuplicateUser,
    /// Issued longer ago than the lifetime.
    Expired,
    /// Issued more than [`AHEAD_S_MAX`] from now.
    Future,
    /// No cookie with the digest's name.
    MissingDigest,
    /// No cookie with the time's name.
    MissingTime,
    /// No cookie with the token's name.
    MissingToken,
    /// No cookie with the user's name.
    MissingUser,
    /// The digest is not that of these cookies with any of the secrets.
    WrongDigest,
}

/// Judges the values of all Cookie fields of a request, cheapest rule first: grammar, age, digest.
pub fn verify<'h>(
    rules: &Rules,
    cookie_values: impl Iterator<Item = &'h [u8]>,
    now_unix_s: i64,
) -> Result<Identity<'h>, Denied> {
    let cookies = Cookies::find(rules, cookie_values)?;
    let issued_unix_s = cookies.issued_unix_s();
    if issued_unix_s > now_unix_s.saturating_add(AHEAD_S_MAX) {
        return Err(Denied::Future);
    }
    if issued_unix_s < now_unix_s.saturating_sub(rules.lifetime_s) {
        return Err(Denied::Expired);
    }
    if !digest::matches(rules, &cookies) {
        return Err(Denied::WrongDigest);
    }
    let expires_unix_s = issued_unix_s.saturating_add(rules.lifetime_s);
    let Cookies { token, user, .. } = cookies;
    Ok(Identity { token, user, groups: Vec::new(), issued_unix_s, expires_unix_s })
}

/// The cookies (names and values) that a site would set for this login, signed with the first secret; without a secret
/// none. The user is left out unless the rules identify users.
pub fn issue(rules: &Rules, token: &str, user: &str, issued_unix_s: i64) -> Vec<(String, String)> {
    let Some(secret) = rules.secrets.first() else { return Vec::new() };
    let user = (rules.identity == IdentityKind::User).then_some(user);
    let time = issued_unix_s.to_string();
    let signature = digest(rules.digest, secret, user, token, &time);
    let mut cookies = vec![
        (rules.cookie_token.clone(), token.to_owned()),
        (rules.cookie_time.clone(), time),
        (rules.cookie_digest.clone(), signature),
    ];
    cookies.extend(user.map(|user| (rules.cookie_user.clone(), user.to_owned())));
    cookies
}

impl Rules {
    /// Whether this is a token, for these rules: letters, digits, comma and hyphen, of exactly the length.
    pub fn is_token(&self, text: &str) -> bool {
        cookies::is_token(text.as_bytes(), self.token_length)
    }

    /// Whether this is a user: 1 to 64 letters, digits, `_`, `-`, `.`, `@` and `+`.
    pub fn is_user(text: &str) -> bool {
        cookies::is_user(text.as_bytes())
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            identity: IdentityKind::Token,
            digest: Digest::Md5,
            token_length: 32,
            lifetime_s: 86_400,
            cookie_token: "token".into(),
            cookie_time: "time".into(),
            cookie_digest: "digest".into(),
            cookie_user: "user".into(),
            secrets: Vec::new(),
        }
    }
}

impl Denied {
    /// All of them, for whoever counts or lists them.
    pub const ALL: [Self; 15] = [
        Self::BadDigest,
        Self::BadTime,
        Self::BadToken,
        Self::BadUser,
        Self::DuplicateDigest,
        Self::DuplicateTime,
        Self::DuplicateToken,
        Self::DuplicateUser,
        Self::Expired,
        Self::Future,
        Self::MissingDigest,
        Self::MissingTime,
        Self::MissingToken,
        Self::MissingUser,
        Self::WrongDigest,
    ];

    /// The short, stable name of the rule, for log and status.
    pub fn rule(self) -> &'static str {
        match self {
            Self::BadDigest => "bad_digest",
            Self::BadTime => "bad_time",
            Self::BadToken => "bad_token",
            Self::BadUser => "bad_user",
            Self::DuplicateDigest => "duplicate_digest",
            Self::DuplicateTime => "duplicate_time",
            Self::DuplicateToken => "duplicate_token",
            Self::DuplicateUser => "duplicate_user",
            Self::Expired => "expired",
            Self::Future => "future",
            Self::MissingDigest => "missing_digest",
            Self::MissingTime => "missing_time",
            Self::MissingToken => "missing_token",
            Self::MissingUser => "missing_user",
            Self::WrongDigest => "wrong_digest",
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.rule())
    }
}

impl std::error::Error for Denied {}
