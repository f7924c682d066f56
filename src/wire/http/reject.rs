//! Why a handshake was refused, and the response that says so.
//!
//! A [`Reject`] is a value that knows its wire meaning; the rule it names is for the log and the counters. A stranger
//! learns from a refused origin or cookie only that it was refused: these responses are all byte-identical.
//! design: endpoint.md "Handshake", threats.md row 5.

use std::fmt;

/// Why a handshake was refused. Where a variant holds text, it is the name of the broken rule.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Reject {
    /// It asked for an upgrade in a way RFC 6455 section 4.2.1 does not know: 400.
    BadUpgrade(&'static str),
    /// The cookies do not prove a login: 403.
    Cookies(&'static str),
    /// The server is about to end: 503.
    Draining,
    /// All places are taken: 503.
    Full,
    /// The head is longer than `limits.head`: 431.
    HeadTooLarge,
    /// Not HTTP, or HTTP that two readers could understand in two ways: 400.
    Malformed(&'static str),
    /// Not GET: 405.
    Method,
    /// No upgrade was asked for: 426.
    NoUpgrade,
    /// The origin is not one of ours: 403.
    Origin(&'static str),
    /// Plain HTTP where TLS is spoken: 400, in plain text.
    PlainHttp,
    /// The head was not complete in time: 408.
    Timeout,
    /// More than [`HEADERS_MAX`](super::HEADERS_MAX) fields: 431.
    TooManyHeaders,
    /// This token has all the connections it may have: 429.
    TooManyToken,
    /// This user has all the connections it may have: 429.
    TooManyUser,
    /// HTTP, but not 1.1 or a later 1.x: 505.
    Version,
    /// A version of the WebSocket protocol other than 13: 426.
    WebSocketVersion,
}

/// The names of all rules, so that counters can be an array with [`Reject::index`] as the index. The last one, `other`,
/// stands for a rule that a handler of its own made up. The names of the cookies' rules are those of `auth::Denied`.
pub const RULES: [&str; 51] = [
    "bad_digest",
    "bad_first_byte",
    "bad_header",
    "bad_host",
    "bad_key",
    "bad_origin",
    "bad_request_line",
    "bad_target",
    "bad_time",
    "bad_token",
    "bad_user",
    "bare_lf",
    "content_length",
    "draining",
    "duplicate_digest",
    "duplicate_host",
    "duplicate_key",
    "duplicate_origin",
    "duplicate_time",
    "duplicate_token",
    "duplicate_upgrade",
    "duplicate_user",
    "duplicate_version",
    "expired",
    "full",
    "future",
    "head_too_large",
    "method",
    "missing_digest",
    "missing_host",
    "missing_key",
    "missing_origin",
    "missing_time",
    "missing_token",
    "missing_user",
    "missing_version",
    "no_connection_upgrade",
    "no_upgrade",
    "nul",
    "origin_not_allowed",
    "other_upgrade",
    "plain_http_on_tls",
    "timeout",
    "too_many_headers",
    "too_many_token",
    "too_many_user",
    "transfer_encoding",
    "version",
    "websocket_version",
    "wrong_digest",
    "other",
];

impl Reject {
    /// The Origin field is missing. Browsers always send it (RFC 6455 section 4.1), so no browser is turned away.
    pub const MISSING_ORIGIN: Self = Self::Origin("missing_origin");
    /// The Origin field names no entry of `origins`.
    pub const ORIGIN_NOT_ALLOWED: Self = Self::Origin("origin_not_allowed");

    /// The status code of the response.
    pub fn status(self) -> u16 {
        match self {
            Self::BadUpgrade(_) | Self::Malformed(_) | Self::PlainHttp => 400,
            Self::Cookies(_) | Self::Origin(_) => 403,
            Self::Method => 405,
            Self::Timeout => 408,
            Self::NoUpgrade | Self::WebSocketVersion => 426,
            Self::TooManyToken | Self::TooManyUser => 429,
            Self::HeadTooLarge | Self::TooManyHeaders => 431,
            Self::Draining | Self::Full => 503,
            Self::Version => 505,
        }
    }

    /// The short, stable name of the broken rule, for log and status.
    pub fn rule(self) -> &'static str {
        match self {
            Self::BadUpgrade(rule) | Self::Cookies(rule) | Self::Malformed(rule) | Self::Origin(rule) => rule,
            Self::Draining => "draining",
            Self::Full => "full",
            Self::HeadTooLarge => "head_too_large",
            Self::Method => "method",
            Self::NoUpgrade => "no_upgrade",
            Self::PlainHttp => "plain_http_on_tls",
            Self::Timeout => "timeout",
            Self::TooManyHeaders => "too_many_headers",
            Self::TooManyToken => "too_many_token",
            Self::TooManyUser => "too_many_user",
            Self::Version => "version",
            Self::WebSocketVersion => "websocket_version",
        }
    }

    /// The place of [`Reject::rule`] in [`RULES`].
    pub fn index(self) -> usize {
        RULES.iter().position(|rule| *rule == self.rule()).unwrap_or(RULES.len() - 1)
    }

    /// The complete response. The connection ends with it.
    pub fn response(self) -> Vec<u8> {
        let (reason, body) = self.texts();
        format!(
            "HTTP/1.1 {} {reason}\r\n{}Content-Type: text/plain\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            self.status(),
            self.extra_field(),
            body.len()
        )
        .into_bytes()
    }

    /// The reason phrase and the body, which ends with a line feed so that a terminal shows it well.
    fn texts(self) -> (&'static str, &'static str) {
        match self.status() {
            400 if self == Self::PlainHttp => {
                ("Bad Request", "This port speaks TLS: use wss:// or https://.\n")
            }
            400 => ("Bad Request", "This is not a request that opens a WebSocket.\n"),
            403 => ("Forbidden", "You may not open a WebSocket here.\n"),
            405 => ("Method Not Allowed", "A WebSocket is opened with GET.\n"),
            408 => ("Request Timeout", "The request did not arrive in time.\n"),
            426 => ("Upgrade Required", "This server speaks WebSocket, version 13.\n"),
            429 => ("Too Many Requests", "Too many connections of yours are open.\n"),
            431 => ("Request Header Fields Too Large", "The request's header is too large.\n"),
            503 => ("Service Unavailable", "No place is free at the moment.\n"),
            505 => ("HTTP Version Not Supported", "This server speaks HTTP/1.1.\n"),
            status => unreachable!("{status} is not among the answers of status()"),
        }
    }

    /// The field that tells a well-meaning peer what to do instead.
    fn extra_field(self) -> &'static str {
        match self {
            Self::Method => "Allow: GET\r\n",
            Self::NoUpgrade => "Upgrade: websocket\r\n",
            // RFC 6455 section 4.4.
            Self::WebSocketVersion => "Sec-WebSocket-Version: 13\r\n",
            Self::Draining | Self::Full | Self::TooManyToken | Self::TooManyUser => "Retry-After: 15\r\n",
            _ => "",
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.rule())
    }
}

impl std::error::Error for Reject {}
