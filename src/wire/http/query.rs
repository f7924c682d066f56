//! The query of a page's URL: the parameters that wsson knows.
//!
//! Pure, and takes off the percent-encoding only: the grammar of groups, tickets and JWTs is judged where they are used
//! (`auth`). Invariant: a parameter is there once or not at all, so that no two readers can see two values; decoding is
//! done once. Parameters of other names may be there, as often and as broken as they like.
//! design: docs/endpoint.md "What a page asks for in its URL", docs/threats.md row 27.

use std::borrow::Cow;

/// The longest `tab`: a UUID has 36 characters.
const TAB_BYTES_MAX: usize = 40;

/// The parameters that are there, decoded.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wishes<'h> {
    /// `groups`: join these.
    pub groups: Option<Cow<'h, str>>,
    /// `ticket`: the site allows them.
    pub ticket: Option<Cow<'h, str>>,
    /// `tab`: 1 to 40 letters, digits, `-` and `_`.
    pub tab: Option<Cow<'h, str>>,
    /// `jwt`: a login.
    pub jwt: Option<Cow<'h, str>>,
}

/// Which parameter is there twice, or is not percent-encoded UTF-8, or has a form that it never has.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum QueryError {
    /// `groups`
    Groups,
    /// `ticket`
    Ticket,
    /// `tab`
    Tab,
    /// `jwt`
    Jwt,
}

impl<'h> Wishes<'h> {
    /// Reads the query of a request target.
    ///
    /// # Errors
    /// The first parameter that is wrong.
    pub fn read(target: &'h str) -> Result<Self, QueryError> {
        let mut wishes = Self::default();
        let Some((_, query)) = target.split_once('?') else { return Ok(wishes) };
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // A name that is broken is none that we know.
            let Some(name) = decode(name) else { continue };
            let (slot, error) = match &*name {
                "groups" => (&mut wishes.groups, QueryError::Groups),
                "ticket" => (&mut wishes.ticket, QueryError::Ticket),
                "tab" => (&mut wishes.tab, QueryError::Tab),
                "jwt" => (&mut wishes.jwt, QueryError::Jwt),
                _ => continue,
            };
            if slot.replace(decode(value).ok_or(error)?).is_some() {
                return Err(error);
            }
        }
        match &wishes.tab {
            Some(tab) if !is_tab(tab) => Err(QueryError::Tab),
            _ => Ok(wishes),
        }
    }
}

fn is_tab(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=TAB_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_letter)
}

/// The text behind percent-encoding (RFC 3986 section 2.1). A plus sign is one: forms write it for a blank, which nothing
/// here may hold, and names of groups may hold a plus sign. None where an escape is broken, or the text is not UTF-8.
pub fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let (byte, behind) = match (first, behind) {
            (b'%', [high, low, behind @ ..]) => (hex(*high)? << 4 | hex(*low)?, behind),
            (b'%', _) => return None,
            (byte, behind) => (*byte, behind),
        };
        decoded.push(byte);
        rest = behind;
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(target: &str, groups: Option<&str>, ticket: Option<&str>, tab: Option<&str>) {
        let wishes = Wishes::read(target).unwrap_or_else(|error| panic!("{target}: {error:?}"));
        let found = (wishes.groups.as_deref(), wishes.ticket.as_deref(), wishes.tab.as_deref());
        assert_eq!(found, (groups, ticket, tab), "{target}");
    }

    #[test]
    fn reads_what_a_page_asks_for() {
        for target in
            ["/", "/?", "/?&&", "/?=", "/?=a", "/?a", "/?a=1&a=2&%=%&groups%=x", "/?Groups=a", "/groups=a"]
        {
            check(target, None, None, None);
        }
        check("/?groups=a,b", Some("a,b"), None, None);
        // As PHP's http_build_query and JavaScript's URLSearchParams write it.
        check(
            "/chat?groups=article%3A17%2Cshop%2F7&ticket=00ff",
            Some("article:17,shop/7"),
            Some("00ff"),
            None,
        );
        check("wss://a/b?x=?groups=a&groups=b+c", Some("b+c"), None, None);
        check("/?ticket=&groups=", Some(""), Some(""), None);
        check("/?groups", Some(""), None, None);
        check(
            "/?%67roups=%61&v=%GG&tab=9f1c2e4a-0000-4000-8000-000000000000",
            Some("a"),
            None,
            Some("9f1c2e4a-0000-4000-8000-000000000000"),
        );
        check("/?groups=%2541", Some("%41"), None, None);
        check("/?groups=a=b", Some("a=b"), None, None);
        assert_eq!(Wishes::read("/?jwt=a.b-_.c%3d").map(|wishes| wishes.jwt), Ok(Some("a.b-_.c=".into())));
    }

    #[test]
    fn refuses_what_has_two_readings() {
        use QueryError::{Groups, Jwt, Tab, Ticket};
        let long = format!("/?tab={}", "a".repeat(41));
        for (target, error) in [
            ("/?groups=a&groups=a", Groups),
            ("/?groups=a&%67roups=a", Groups),
            ("/?groups&groups", Groups),
            ("/?groups=%", Groups),
            ("/?groups=%4", Groups),
            ("/?groups=%+4", Groups),
            ("/?groups=%4g", Groups),
            ("/?groups=%ff", Groups),
            ("/?groups=%c3%28", Groups),
            ("/?groups=%ed%a0%80", Groups),
            ("/?ticket=a&x&ticket=b", Ticket),
            ("/?jwt=a&jwt=", Jwt),
            ("/?tab=a&tab=a", Tab),
            ("/?tab", Tab),
            ("/?tab=", Tab),
            ("/?tab=a.b", Tab),
            ("/?tab=a%20b", Tab),
            ("/?tab=%00", Tab),
            ("/?tab=%C3%BC", Tab),
            (&long, Tab),
        ] {
            assert_eq!(Wishes::read(target), Err(error), "{target}");
        }
    }
}
