//! Why a handshake is refused, and the response that says so.
//!
//! A [`Refusal`] is a value that knows its wire meaning; the rule it names is for the log and the counters. A stranger
//! learns from a refused origin or login only that it was refused: these responses are all byte-identical.
//! design: docs/endpoint.md "Handshake", docs/threats.md row 5.

use crate::auth::Denied;
use crate::rule::Rule;
use crate::wire::http::{HeadError, QueryError, Response, UpgradeError};
use std::fmt;

/// Why a handshake is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refusal {
    rule: Rule,
    /// In the log.
    name: &'static str,
}

impl Refusal {
    /// A refusal with 403 for a rule of the application's own: the log shows `name`, the status counts it as `other`.
    pub const fn forbidden(name: &'static str) -> Self {
        Self { rule: Rule::Other, name }
    }

    /// The rule that was broken.
    pub(crate) fn rule(self) -> Rule {
        self.rule
    }

    /// The short, stable name of the broken rule, for the log.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// The status code of the response.
    pub fn status(self) -> u16 {
        self.rule.status().expect("a refusal is of a rule that has an answer")
    }

    /// The complete response. The connection ends with it.
    pub fn response(self) -> Vec<u8> {
        let mut response = Response::new(self.status());
        if let Some((name, value)) = self.extra_field() {
            response = response.field(name, value);
        }
        response.close().text(self.body())
    }

    /// It ends with a line feed, so that a terminal shows it well.
    fn body(self) -> &'static str {
        match self.status() {
            400 if self.rule == Rule::PlainHttpOnTls => "This port speaks TLS: use wss:// or https://.\n",
            400 if self.rule == Rule::MissingProxyHeader => "A PROXY protocol header must come first.\n",
            400 if self.rule == Rule::ProxyHeader => "The PROXY protocol is not spoken here.\n",
            400 => "This is not a request that opens a WebSocket.\n",
            403 => "You may not open a WebSocket here.\n",
            405 => "A WebSocket is opened with GET.\n",
            408 => "The request did not arrive in time.\n",
            426 => "This server speaks WebSocket, version 13.\n",
            429 => "Too many connections of yours are open.\n",
            431 => "The request's header is too large.\n",
            503 => "No place is free at the moment.\n",
            505 => "This server speaks HTTP/1.1.\n",
            status => unreachable!("{status} is no status of a rule"),
        }
    }

    /// The field that tells a well-meaning peer the way to do it right.
    fn extra_field(self) -> Option<(&'static str, &'static str)> {
        match self.rule {
            Rule::Method => Some(("Allow", "GET")),
            Rule::NoUpgrade => Some(("Upgrade", "websocket")),
            // RFC 6455 section 4.4.
            Rule::WebSocketVersion => Some(("Sec-WebSocket-Version", "13")),
            _ if matches!(self.status(), 429 | 503) => Some(("Retry-After", "15")),
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl std::error::Error for Refusal {}

impl From<Rule> for Refusal {
    fn from(rule: Rule) -> Self {
        debug_assert!(rule.status().is_some(), "{} has no answer", rule.name());
        Self { rule, name: rule.name() }
    }
}

impl From<HeadError> for Refusal {
    fn from(error: HeadError) -> Self {
        Self::from(match error {
            HeadError::BadFirstByte => Rule::BadFirstByte,
            HeadError::BadHeader => Rule::BadHeader,
            HeadError::BadHost => Rule::BadHost,
            HeadError::BadOrigin => Rule::BadOrigin,
            HeadError::BadRequestLine => Rule::BadRequestLine,
            HeadError::BareLf => Rule::BareLf,
            HeadError::ContentLength => Rule::ContentLength,
            HeadError::DuplicateHost => Rule::DuplicateHost,
            HeadError::DuplicateKey => Rule::DuplicateKey,
            HeadError::DuplicateOrigin => Rule::DuplicateOrigin,
            HeadError::DuplicateUpgrade => Rule::DuplicateUpgrade,
            HeadError::DuplicateVersion => Rule::DuplicateVersion,
            HeadError::MissingHost => Rule::MissingHost,
            HeadError::Nul => Rule::Nul,
            HeadError::TooManyHeaders => Rule::TooManyHeaders,
            HeadError::TransferEncoding => Rule::TransferEncoding,
        })
    }
}

impl From<UpgradeError> for Refusal {
    fn from(error: UpgradeError) -> Self {
        Self::from(match error {
            UpgradeError::BadKey => Rule::BadKey,
            UpgradeError::BadTarget => Rule::BadTarget,
            UpgradeError::Body => Rule::ContentLength,
            UpgradeError::Chunked => Rule::TransferEncoding,
            UpgradeError::Method => Rule::Method,
            UpgradeError::MissingHost => Rule::MissingHost,
            UpgradeError::MissingKey => Rule::MissingKey,
            UpgradeError::MissingVersion => Rule::MissingVersion,
            UpgradeError::NoConnectionUpgrade => Rule::NoConnectionUpgrade,
            UpgradeError::NoUpgrade => Rule::NoUpgrade,
            UpgradeError::OtherUpgrade => Rule::OtherUpgrade,
            UpgradeError::Version => Rule::Version,
            UpgradeError::WebSocketVersion => Rule::WebSocketVersion,
        })
    }
}

impl From<QueryError> for Refusal {
    fn from(error: QueryError) -> Self {
        Self::from(match error {
            QueryError::Groups => Rule::BadGroups,
            QueryError::Jwt => Rule::BadJwt,
            QueryError::Tab => Rule::BadTab,
            QueryError::Ticket => Rule::WrongTicket,
        })
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        Self::from(match denied {
            Denied::BadClaim => Rule::BadClaim,
            Denied::BadDigest => Rule::BadDigest,
            Denied::BadGroups => Rule::BadGroups,
            Denied::BadJwt => Rule::BadJwt,
            Denied::BadTime => Rule::BadTime,
            Denied::BadToken => Rule::BadToken,
            Denied::BadUser => Rule::BadUser,
            Denied::DuplicateDigest => Rule::DuplicateDigest,
            Denied::DuplicateTime => Rule::DuplicateTime,
            Denied::DuplicateToken => Rule::DuplicateToken,
            Denied::DuplicateUser => Rule::DuplicateUser,
            Denied::Expired => Rule::Expired,
            Denied::Future => Rule::Future,
            Denied::GroupNotAllowed => Rule::GroupNotAllowed,
            Denied::MissingDigest => Rule::MissingDigest,
            Denied::MissingTime => Rule::MissingTime,
            Denied::MissingToken => Rule::MissingToken,
            Denied::MissingUser => Rule::MissingUser,
            Denied::WrongAlgorithm => Rule::WrongAlgorithm,
            Denied::WrongDigest => Rule::WrongDigest,
            Denied::WrongSignature => Rule::WrongSignature,
            Denied::WrongTicket => Rule::WrongTicket,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_refusals() -> impl Iterator<Item = Refusal> {
        Rule::ALL.iter().filter(|rule| rule.status().is_some()).map(|rule| Refusal::from(*rule))
    }

    #[test]
    fn every_refusal_is_a_complete_response() {
        for refusal in all_refusals() {
            let response = String::from_utf8(refusal.response()).expect("ASCII");
            let (head, body) = response.split_once("\r\n\r\n").expect("an empty line");
            let mut lines = head.split("\r\n");
            let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).expect("a status line");
            assert!(status.starts_with(&format!("{} ", refusal.status())), "{response}");
            let fields: Vec<_> = lines.collect();
            assert!(fields.contains(&format!("Content-Length: {}", body.len()).as_str()), "{response}");
            assert!(fields.contains(&"Connection: close"), "{response}");
            assert!(fields.contains(&"Content-Type: text/plain"), "{response}");
            assert!(body.len() > 1 && body.find('\n') == Some(body.len() - 1), "one line: {body:?}");
            let extra = match refusal.rule() {
                Rule::Method => "Allow: GET",
                Rule::NoUpgrade => "Upgrade: websocket",
                Rule::WebSocketVersion => "Sec-WebSocket-Version: 13",
                Rule::Draining | Rule::Full | Rule::TooManyToken | Rule::TooManyUser => "Retry-After: 15",
                _ => "Connection: close",
            };
            assert!(fields.contains(&extra), "{response}");
        }
    }

    /// Threat 5.
    #[test]
    fn refused_logins_and_origins_look_alike() {
        let first = Refusal::from(Rule::MissingOrigin).response();
        let own = Refusal::forbidden("of_my_own");
        assert_eq!((own.name(), own.rule()), ("of_my_own", Rule::Other));
        for refusal in all_refusals().chain([own]).filter(|refusal| refusal.status() == 403) {
            assert_eq!(refusal.response(), first, "{refusal}");
        }
    }

    #[test]
    fn the_rules_of_logins_keep_their_names() {
        for denied in Denied::ALL {
            assert_eq!(Refusal::from(denied).name(), denied.rule());
        }
    }

    #[test]
    fn a_refusal_stays_small() {
        assert!(size_of::<Refusal>() <= 24);
    }
}
