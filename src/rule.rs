//! The rules that a connection can break before it is a client's: one table of names.
//!
//! The log, the counters and the documentation draw from it: a refusal is logged and counted under the name of its rule,
//! and `tests/rules.rs` fails until docs/endpoint.md has each row of the table, word by word. It knows no peer; the
//! meaning of a rule on the wire is in `hub::refusal`.

/// Makes the enum and its table, so that a rule is one row. The status is that of the answer, 0 where there is none.
macro_rules! rules {
    ($($variant:ident, $name:literal, $status:literal, $sentence:literal;)+) => {
        /// The rule that a connection which did not become a client has broken, or its end.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum Rule {
            $(#[doc = $sentence] $variant,)+
        }

        impl Rule {
            /// All of them, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The short, stable name in log and status.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// The status code of the answer; none where the connection ends without one, or with one that is not ours.
            pub fn status(self) -> Option<u16> {
                let status = match self {
                    $(Self::$variant => $status,)+
                };
                (status != 0).then_some(status)
            }

            /// Its meaning, for the documentation.
            pub fn sentence(self) -> &'static str {
                match self {
                    $(Self::$variant => $sentence,)+
                }
            }
        }
    };
}

rules! {
    Answered, "answered", 0, "the request asked for no WebSocket, and the program that embeds wsson answered it";
    BadClaim, "bad_claim", 403, "a claim of the JWT is missing or not what it must be: `exp`, `iat`, `nbf` are whole numbers, `sub` and `jti` are strings";
    BadDigest, "bad_digest", 403, "the cookie of the digest is not 32 (`md5`) or 64 (`hmac-sha256`) lower-case hex digits";
    BadFirstByte, "bad_first_byte", 400, "the connection does not begin with a letter: TLS, a scanner, or another protocol";
    BadGroups, "bad_groups", 403, "`groups`, in the URL or in the JWT, is not a list of names of groups, or is there twice";
    BadHeader, "bad_header", 400, "a header field is not well-formed";
    BadHost, "bad_host", 400, "the Host field is no host";
    BadJwt, "bad_jwt", 403, "the JWT is not three parts of base64url, of at most 4 KiB, with a JSON object in each of the first two in which no member stands twice, or `jwt` is there twice";
    BadKey, "bad_key", 400, "the Sec-WebSocket-Key is not 24 characters of base64 that end in `==`";
    BadOrigin, "bad_origin", 400, "the Origin field holds something else than ASCII";
    BadProxyHeader, "bad_proxy_header", 400, "a trusted proxy sent a header of the PROXY protocol that is malformed, or longer than 4 KiB";
    BadRequestLine, "bad_request_line", 400, "the first line is not that of an HTTP request";
    BadTab, "bad_tab", 403, "`tab` in the URL is not 1 to 40 letters, digits, `-` or `_`, or is there twice";
    BadTarget, "bad_target", 400, "the request names neither a path nor a URL";
    BadTime, "bad_time", 403, "the cookie of the time is not ten digits without a leading zero";
    BadToken, "bad_token", 403, "the cookie of the token has another length than `auth.token_length`, or other characters than letters, digits, `,` and `-`";
    BadUser, "bad_user", 403, "the cookie of the user is not 1 to 64 letters, digits, `_`, `-`, `.`, `@` or `+`";
    BareLf, "bare_lf", 400, "a line ends in LF without CR";
    ContentLength, "content_length", 400, "the request announces a body, or its length is not well-formed";
    Draining, "draining", 503, "the server is about to end";
    DuplicateDigest, "duplicate_digest", 403, "two cookies have the name of the digest's";
    DuplicateHost, "duplicate_host", 400, "there are two Host fields";
    DuplicateKey, "duplicate_key", 400, "there are two Sec-WebSocket-Key fields";
    DuplicateOrigin, "duplicate_origin", 400, "there are two Origin fields";
    DuplicateTime, "duplicate_time", 403, "two cookies have the name of the time's";
    DuplicateToken, "duplicate_token", 403, "two cookies have the name of the token's";
    DuplicateUpgrade, "duplicate_upgrade", 400, "there are two Upgrade fields";
    DuplicateUser, "duplicate_user", 403, "two cookies have the name of the user's";
    DuplicateVersion, "duplicate_version", 400, "there are two Sec-WebSocket-Version fields";
    Expired, "expired", 403, "the login is older than `auth.lifetime`, or its JWT is past `exp`";
    Full, "full", 503, "`limits.clients` are connected";
    Future, "future", 403, "the login was issued more than 60 seconds in the future";
    GoneBeforeRequest, "gone_before_request", 0, "the connection ended before its request was complete";
    GroupNotAllowed, "group_not_allowed", 403, "the page asks for a group without a ticket, which is in neither its login nor `groups_public`";
    GroupsFull, "groups_full", 503, "`limits.groups` groups have members";
    HeadTooLarge, "head_too_large", 431, "the request's head is longer than `limits.head`";
    Method, "method", 405, "the method is not GET";
    MissingDigest, "missing_digest", 403, "there is no cookie with the name of the digest's";
    MissingHost, "missing_host", 400, "there is no Host field";
    MissingKey, "missing_key", 400, "there is no Sec-WebSocket-Key field";
    MissingOrigin, "missing_origin", 403, "there is no Origin field, which browsers always send";
    MissingProxyHeader, "missing_proxy_header", 400, "`proxy_protocol` is set, and a connection from one of `trusted_proxies` does not begin with a PROXY header";
    MissingTime, "missing_time", 403, "there is no cookie with the name of the time's";
    MissingToken, "missing_token", 403, "there is no cookie with the name of the token's";
    MissingUser, "missing_user", 403, "there is no cookie with the name of the user's, or no `sub` in the JWT";
    MissingVersion, "missing_version", 400, "there is no Sec-WebSocket-Version field";
    NoConnectionUpgrade, "no_connection_upgrade", 400, "the Connection field does not name `upgrade`";
    NoUpgrade, "no_upgrade", 426, "the request asks for no WebSocket: a web page, or a proxy that does not pass the Upgrade field on";
    Nul, "nul", 400, "the head holds a NUL";
    OldestUnauthenticated, "oldest_unauthenticated", 0, "`limits.unauthenticated` connections have shown no request, and this one was the oldest of them";
    OriginNotAllowed, "origin_not_allowed", 403, "the page's origin is no entry of `origins`";
    OtherUpgrade, "other_upgrade", 400, "the Upgrade field does not name `websocket`";
    PlainHttpOnTls, "plain_http_on_tls", 400, "plain HTTP came where TLS is spoken";
    ProxyHeader, "proxy_header", 400, "a header of the PROXY protocol came where none is expected: `proxy_protocol` is not set, or the connection is not from one of `trusted_proxies`";
    Revoked, "revoked", 403, "the login was revoked";
    ReceivedFull, "received_full", 0, "`limits.received` bytes of heads and messages that are not complete were kept, and this connection had the longest head";
    Timeout, "timeout", 408, "the request was not complete within `timeouts.handshake`";
    TlsFailed, "tls_failed", 0, "the TLS handshake failed, for the reason in the log: a visitor that does not trust the certificate, an old program, a scanner";
    TooManyAddress, "too_many_address", 0, "`limits.handshakes_per_address` connections of one address have shown no login";
    TooManyGroups, "too_many_groups", 403, "the connection would be in more groups than `limits.groups_per_connection`";
    TooManyHeaders, "too_many_headers", 431, "the head has more than 64 fields";
    TooManyToken, "too_many_token", 429, "`limits.connections_per_token` connections of this token are open";
    TooManyUser, "too_many_user", 429, "`limits.connections_per_user` connections of this user are open";
    TransferEncoding, "transfer_encoding", 400, "the request announces a body in pieces";
    Version, "version", 505, "the request is not HTTP/1.1 or a later 1.x";
    WebSocketVersion, "websocket_version", 426, "the version of the WebSocket protocol is not 13";
    WrongAlgorithm, "wrong_algorithm", 403, "the JWT's header does not say HS256, or names an extension that must be understood";
    WrongDigest, "wrong_digest", 403, "none of the secrets signed these cookies";
    WrongSignature, "wrong_signature", 403, "none of the secrets signed this JWT";
    WrongTicket, "wrong_ticket", 403, "none of the secrets made this ticket for this login and this list of groups, or `ticket` is there twice";
    Other, "other", 403, "the program that embeds wsson refused for a reason of its own, which stands in the log";
}

impl Rule {
    /// How many there are: the length of an array of counters.
    pub const COUNT: usize = Self::ALL.len();

    /// Its place in [`Rule::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_a_name_and_a_place_of_its_own() {
        for (place, rule) in Rule::ALL.iter().enumerate() {
            assert_eq!(rule.index(), place);
            assert!(rule.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{rule:?}");
        }
        let mut names: Vec<_> = Rule::ALL.iter().map(|rule| rule.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Rule::COUNT);
    }
}
