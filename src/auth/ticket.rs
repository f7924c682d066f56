//! Tickets: by one the site allows a login to join groups that the page asks for in its URL.
//!
//! A ticket is HMAC-SHA256 over `groups`, token, time and the very text of the list, with line feeds between them. None of
//! them holds a line feed and the digest of cookies never has as many lines, so no signature of one kind is one of another.
//! It is bound to the login's token and time: it proves nothing for another login, and ends with its own.
//! design: endpoint.md "What a page asks for in its URL", threats.md row 27.

use super::cookies::is_hex;
use super::digest::{any_gives, from_hex, hmac_sha256, to_hex};
use super::{Denied, Identity, Rules, Secret};
use crate::names::is_group;

/// The ticket for a list of groups, in lower-case hex. `time` is when the login was issued.
pub fn ticket(secret: &Secret, token: &str, time: i64, groups: &str) -> String {
    to_hex(&hmac_sha256(secret, &lines(token, &time.to_string(), groups)))
}

/// Judges a page's wish: the groups of its list, each of which the ticket covers, or the login itself, or one of the
/// prefixes that are public. All of them or none.
///
/// # Errors
/// The rule that the list or the ticket breaks.
pub fn groups_allowed<'q>(
    rules: &Rules,
    public: &[String],
    identity: &Identity<'_>,
    groups: &'q str,
    ticket: Option<&str>,
) -> Result<Vec<&'q str>, Denied> {
    let names: Vec<&str> = groups.split(',').collect();
    if !names.iter().all(|name| is_group(name.as_bytes())) {
        return Err(Denied::BadGroups);
    }
    if let Some(ticket) = ticket {
        if !is_hex(ticket.as_bytes(), 64) {
            return Err(Denied::WrongTicket);
        }
        let time = identity.issued_unix_s.to_string();
        let lines = lines(&identity.token, &time, groups);
        if !any_gives(&rules.secrets, &from_hex(ticket.as_bytes()), |secret| hmac_sha256(secret, &lines)) {
            return Err(Denied::WrongTicket);
        }
        return Ok(names);
    }
    let is_allowed = |name: &str| {
        public.iter().any(|prefix| name.starts_with(prefix.as_str()))
            || identity.groups.iter().any(|own| own == name)
    };
    if names.iter().all(|name| is_allowed(name)) { Ok(names) } else { Err(Denied::GroupNotAllowed) }
}

/// The signed text.
fn lines<'t>(token: &'t str, time: &'t str, groups: &'t str) -> [&'t [u8]; 6] {
    [b"groups\n", token.as_bytes(), b"\n", time.as_bytes(), b"\n", groups.as_bytes()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "32febad1f0cf83f38aceb31ad63866c4";
    const SECRET: &str = "eyZsz5dJDg28oNr385YjG4UQasx7D4q9";
    const TIME: i64 = 1_531_124_337;
    /// Of "article:17", by PHP's hash_hmac.
    const TICKET: &str = "f4db8ad7a9e53351fa5734319a506b5f7e4bd28be224b7056be34e1643720833";

    fn rules(secrets: &[&str]) -> Rules {
        Rules { secrets: secrets.iter().map(|secret| Secret::new(*secret)).collect(), ..Rules::default() }
    }

    fn login() -> Identity<'static> {
        Identity::new(TOKEN).with_times(TIME, TIME + 86_400).with_group("own")
    }

    #[track_caller]
    fn check(groups: &str, ticket: Option<&str>, expected: Result<&[&str], Denied>) {
        let public = ["news:".to_owned(), "lobby".to_owned()];
        let verdict = groups_allowed(&rules(&[SECRET]), &public, &login(), groups, ticket);
        assert_eq!(verdict, expected.map(<[&str]>::to_vec), "{groups:?} with {ticket:?}");
    }

    #[test]
    fn the_ticket_that_php_makes() {
        assert_eq!(ticket(&Secret::new(SECRET), TOKEN, TIME, "article:17"), TICKET);
        check("article:17", Some(TICKET), Ok(&["article:17"]));
        for secrets in [[SECRET, "another of the site"], ["another of the site", SECRET]] {
            let verdict = groups_allowed(&rules(&secrets), &[], &login(), "article:17", Some(TICKET));
            assert_eq!(verdict, Ok(vec!["article:17"]));
        }
    }

    #[test]
    fn public_groups_and_those_of_the_login_need_none() {
        check("news:sports,lobby,lobby2,own", None, Ok(&["news:sports", "lobby", "lobby2", "own"]));
        check("news", None, Err(Denied::GroupNotAllowed));
        check("xnews:1", None, Err(Denied::GroupNotAllowed));
        check("lobby,article:17", None, Err(Denied::GroupNotAllowed));
        check("own2", None, Err(Denied::GroupNotAllowed));
    }

    #[test]
    fn a_ticket_covers_the_very_text() {
        for other in ["article:1", "article:17,own", "own,article:17", "ARTICLE:17", "article:17,article:17"]
        {
            check(other, Some(TICKET), Err(Denied::WrongTicket));
        }
        // A wrong one is wrong, whether it was needed or not.
        check("lobby", Some(TICKET), Err(Denied::WrongTicket));
    }

    #[test]
    fn a_ticket_is_bound_to_its_login() {
        let others = [
            Identity::new(TOKEN.replace('3', "4")).with_times(TIME, TIME + 86_400),
            Identity::new(TOKEN).with_times(TIME + 1, TIME + 86_401),
            Identity::new(TOKEN),
        ];
        for other in others {
            let verdict = groups_allowed(&rules(&[SECRET]), &[], &other, "article:17", Some(TICKET));
            assert_eq!(verdict, Err(Denied::WrongTicket), "{other:?}");
        }
        let verdict =
            groups_allowed(&rules(&["another of the site"]), &[], &login(), "article:17", Some(TICKET));
        assert_eq!(verdict, Err(Denied::WrongTicket));
        let verdict = groups_allowed(&rules(&[]), &[], &login(), "article:17", Some(TICKET));
        assert_eq!(verdict, Err(Denied::WrongTicket));
    }

    #[test]
    fn what_is_no_ticket_or_no_list() {
        let upper = TICKET.to_uppercase();
        let changed: Vec<String> = (0..64)
            .map(|at| {
                format!(
                    "{}{}{}",
                    &TICKET[..at],
                    if &TICKET[at..=at] == "0" { "1" } else { "0" },
                    &TICKET[at + 1..]
                )
            })
            .collect();
        let wrong = ["", " ", &TICKET[..63], &format!("{TICKET}0"), &format!("{TICKET} "), &upper, "\u{e4}"];
        for ticket in wrong.into_iter().chain(changed.iter().map(String::as_str)) {
            check("article:17", Some(ticket), Err(Denied::WrongTicket));
        }
        let long = "x".repeat(65);
        for groups in [
            "",
            ",",
            "lobby,",
            ",lobby",
            "lobby,,own",
            "lobby own",
            "lobby\n",
            "lobby\0",
            "g\u{f6}",
            "*",
            &long,
        ] {
            let signed = ticket(&Secret::new(SECRET), TOKEN, TIME, groups);
            check(groups, Some(&signed), Err(Denied::BadGroups));
            check(groups, None, Err(Denied::BadGroups));
        }
    }

    /// The digests of cookies and tickets are made with the same secret, and neither is ever the other.
    #[test]
    fn a_digest_of_cookies_is_no_ticket() {
        let secret = Secret::new(SECRET);
        let kind = super::super::Digest::HmacSha256;
        let cookies = super::super::digest(kind, &secret, Some("groups"), TOKEN, &TIME.to_string());
        check("lobby", Some(&cookies), Err(Denied::WrongTicket));
    }
}
