//! Identities: cookies or a JWT that a site signed with a shared secret become an [`Identity`]; tickets allow a login
//! groups; origins are compared.
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
mod jwt;
mod origin;
mod revoked;
#[cfg(test)]
mod tests;
mod ticket;

pub use digest::{Digest, Digests, Secret, digest, is_one_of};
pub use jwt::{JWT_BYTES_MAX, issue_jwt, verify_jwt};
pub use origin::{origin_allowed, parse_origin};
pub use revoked::{BadLine, NoRoom, Revocation, Revoked, Unread, Whose};
pub use ticket::{groups_allowed, ticket};

use crate::names;
use cookies::Cookies;
use std::borrow::Cow;
use std::fmt;

/// Secrets that ws(s)on's documentation shows as examples. They sit in public repositories, so a server whose secret
/// is one of them has none; the configuration refuses them.
pub const PUBLISHED_SECRETS: [&str; 2] =
    ["eyZsz5dJDg28oNr385YjG4UQasx7D4q9", "uhD27usxm2F61p6gs4unU12mHUiGrbf6"];

/// Seconds that the clock of the site may be ahead of ours.
pub const AHEAD_S_MAX: i64 = 60;

/// The kind of identity that the cookies prove.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum IdentityKind {
    /// A token: one login, one browser.
    #[default]
    Token,
    /// A token and the user it belongs to.
    User,
}

/// The proofs of a login that the settings accept.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Scheme {
    /// Signed cookies.
    #[default]
    Cookies,
    /// A JSON Web Token.
    Jwt,
}

/// How a login is proved.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rules {
    /// The proof of a login.
    pub scheme: Scheme,
    /// Whether a JWT may stand in the URL.
    pub query: bool,
    /// Which cookies there are.
    pub identity: IdentityKind,
    /// How they are signed.
    pub digest: Digests,
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

/// An identity, however it was proved: by cookies, by a JWT, or by a handler of one's own.
///
/// ```
/// let identity = wsson::Identity::new("a token of 32 characters, or so").with_user("44").with_group("room");
/// assert_eq!(identity.user.as_deref(), Some("44"));
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Identity<'h> {
    /// The token, the name of the login: letters, digits, `,` and `-`, at most `auth.token_length` of them.
    pub token: Cow<'h, str>,
    /// The user whose login it is, if it names one: 1 to 64 letters, digits, `_`, `-`, `.`, `@` and `+`.
    pub user: Option<Cow<'h, str>>,
    /// Groups that the connection joins.
    pub groups: Vec<Cow<'h, str>>,
    /// When the login was issued; 0 when it does not say so, which is before everything that is revoked.
    pub issued_unix_s: i64,
    /// When the login ends.
    pub expires_unix_s: i64,
}

impl<'h> Identity<'h> {
    /// A login of this token, without a user or groups, that never ends.
    pub fn new(token: impl Into<Cow<'h, str>>) -> Self {
        let token = token.into();
        Self { token, user: None, groups: Vec::new(), issued_unix_s: 0, expires_unix_s: i64::MAX }
    }

    /// The same login, of this user.
    #[must_use]
    pub fn with_user(self, user: impl Into<Cow<'h, str>>) -> Self {
        Self { user: Some(user.into()), ..self }
    }

    /// The same login, whose connection joins this group too.
    #[must_use]
    pub fn with_group(mut self, group: impl Into<Cow<'h, str>>) -> Self {
        self.groups.push(group.into());
        self
    }

    /// The same login, issued and ending at these times.
    #[must_use]
    pub fn with_times(self, issued_unix_s: i64, expires_unix_s: i64) -> Self {
        Self { issued_unix_s, expires_unix_s, ..self }
    }

    /// The grammar, for logins of any source: a message to a name must reach exactly the clients that have it, and the
    /// names are kept in places that end in NULs.
    pub(crate) fn check(&self, token_bytes_max: usize) -> Result<(), Denied> {
        let length = self.token.len();
        if length > token_bytes_max || !names::is_token(self.token.as_bytes(), length) {
            return Err(Denied::BadToken);
        }
        if self.user.as_ref().is_some_and(|user| !Rules::is_user(user)) {
            return Err(Denied::BadUser);
        }
        if self.groups.iter().all(|group| Rules::is_group(group)) { Ok(()) } else { Err(Denied::BadGroups) }
    }
}

/// The rule that a login breaks, or the page's wishes with it. For the log: the peer never learns it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Denied {
    /// A claim of the JWT is missing or not of its form.
    BadClaim,
    /// The digest has not the form of one.
    BadDigest,
    /// A list of groups holds something else than names of groups.
    BadGroups,
    /// The text in the place of a JWT has not the form of one.
    BadJwt,
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
    /// Issued longer ago than the lifetime, or past its `exp`.
    Expired,
    /// Issued more than [`AHEAD_S_MAX`] from now.
    Future,
    /// A group that neither the login nor a ticket nor a public prefix covers.
    GroupNotAllowed,
    /// No cookie with the digest's name.
    MissingDigest,
    /// No cookie with the time's name.
    MissingTime,
    /// No cookie with the token's name.
    MissingToken,
    /// No cookie with the user's name, or no `sub` in the JWT.
    MissingUser,
    /// A JWT that is not signed with HS256, or wants an extension to be understood.
    WrongAlgorithm,
    /// The digest is not that of these cookies with any of the secrets.
    WrongDigest,
    /// The signature is not that of this JWT with any of the secrets.
    WrongSignature,
    /// The ticket is not that of this list and this login with any of the secrets.
    WrongTicket,
}

/// Judges the values of all Cookie fields of a request, by the scheme of the rules. The three cookies: cheapest rule
/// first, grammar, age, digest.
///
/// # Errors
/// The rule that they break.
pub fn verify<'h>(
    rules: &Rules,
    cookie_values: impl Iterator<Item = &'h [u8]>,
    now_unix_s: i64,
) -> Result<Identity<'h>, Denied> {
    if rules.scheme == Scheme::Jwt {
        return verify_jwt(rules, &cookies::only_token(rules, cookie_values)?, now_unix_s);
    }
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
    let identity = Identity::new(cookies.token).with_times(issued_unix_s, expires_unix_s);
    Ok(Identity { user: cookies.user, ..identity })
}

/// The cookies (names and values) that a site would set for this login, signed with the first secret; without a secret
/// none. The user is left out unless the rules identify users.
pub fn issue(rules: &Rules, token: &str, user: &str, issued_unix_s: i64) -> Vec<(String, String)> {
    let Some(secret) = rules.secrets.first() else { return Vec::new() };
    let user = (rules.identity == IdentityKind::User).then_some(user);
    if rules.scheme == Scheme::Jwt {
        let expires_unix_s = issued_unix_s.saturating_add(rules.lifetime_s);
        let login = Identity { user: user.map(Into::into), ..Identity::new(token.to_owned()) };
        let jwt = issue_jwt(secret, &login.with_times(issued_unix_s, expires_unix_s));
        return vec![(rules.cookie_token.clone(), jwt)];
    }
    let time = issued_unix_s.to_string();
    let signature = digest(rules.digest.signing(), secret, user, token, &time);
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
        names::is_token(text.as_bytes(), self.token_length)
    }

    /// Whether this is a user: 1 to 64 letters, digits, `_`, `-`, `.`, `@` and `+`.
    pub fn is_user(text: &str) -> bool {
        names::is_user(text.as_bytes())
    }

    /// Whether this is a group: 1 to 64 letters, digits, `_`, `-`, `.`, `@`, `+`, `:` and `/`.
    pub fn is_group(text: &str) -> bool {
        names::is_group(text.as_bytes())
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            scheme: Scheme::Cookies,
            query: false,
            identity: IdentityKind::Token,
            digest: Digests::Md5,
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
    /// All of them, for callers that count or list them.
    pub const ALL: [Self; 22] = [
        Self::BadClaim,
        Self::BadDigest,
        Self::BadGroups,
        Self::BadJwt,
        Self::BadTime,
        Self::BadToken,
        Self::BadUser,
        Self::DuplicateDigest,
        Self::DuplicateTime,
        Self::DuplicateToken,
        Self::DuplicateUser,
        Self::Expired,
        Self::Future,
        Self::GroupNotAllowed,
        Self::MissingDigest,
        Self::MissingTime,
        Self::MissingToken,
        Self::MissingUser,
        Self::WrongAlgorithm,
        Self::WrongDigest,
        Self::WrongSignature,
        Self::WrongTicket,
    ];

    /// The short, stable name of the rule, for log and status.
    pub fn rule(self) -> &'static str {
        match self {
            Self::BadClaim => "bad_claim",
            Self::BadDigest => "bad_digest",
            Self::BadGroups => "bad_groups",
            Self::BadJwt => "bad_jwt",
            Self::BadTime => "bad_time",
            Self::BadToken => "bad_token",
            Self::BadUser => "bad_user",
            Self::DuplicateDigest => "duplicate_digest",
            Self::DuplicateTime => "duplicate_time",
            Self::DuplicateToken => "duplicate_token",
            Self::DuplicateUser => "duplicate_user",
            Self::Expired => "expired",
            Self::Future => "future",
            Self::GroupNotAllowed => "group_not_allowed",
            Self::MissingDigest => "missing_digest",
            Self::MissingTime => "missing_time",
            Self::MissingToken => "missing_token",
            Self::MissingUser => "missing_user",
            Self::WrongAlgorithm => "wrong_algorithm",
            Self::WrongDigest => "wrong_digest",
            Self::WrongSignature => "wrong_signature",
            Self::WrongTicket => "wrong_ticket",
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.rule())
    }
}

impl std::error::Error for Denied {}
