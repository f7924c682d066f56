//! Heads that open a WebSocket, and every way not to.

use super::*;
use proptest::prelude::*;

/// Fields of a good head; a test replaces, removes or adds lines.
const GOOD: [&str; 7] = [
    "GET /socket?room=1 HTTP/1.1",
    "Host: ws1.example.com:8099",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Origin: https://example.com",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
];

fn head(lines: &[&str]) -> Vec<u8> {
    format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes()
}

/// The good head with the line that begins with `start` replaced, or removed when `line` is empty.
fn with(start: &str, line: &str) -> Vec<u8> {
    assert!(GOOD.iter().any(|good| good.starts_with(start)), "no line begins with {start}");
    let lines = GOOD.map(|good| if good.starts_with(start) { line } else { good });
    let kept: Vec<_> = lines.into_iter().filter(|line| !line.is_empty()).collect();
    head(&kept)
}

/// The good head with a line more at its end.
fn and(line: &str) -> Vec<u8> {
    head(&[&GOOD[..], &[line]].concat())
}

/// What a server does with bytes that came in one piece.
fn serve(bytes: &[u8]) -> Result<Key, Reject> {
    match scan(bytes, 0)? {
        Some(end) => parse(&bytes[..end]).map(|(_, key)| key),
        None => Err(Reject::Timeout),
    }
}

#[track_caller]
fn refused(bytes: &[u8], expected: Reject) {
    assert_eq!(serve(bytes), Err(expected), "{}", bytes.escape_ascii());
}

#[track_caller]
fn malformed(bytes: &[u8], rule: &'static str) {
    refused(bytes, Reject::Malformed(rule));
}

#[track_caller]
fn accepted(bytes: &[u8]) {
    assert!(serve(bytes).is_ok(), "{:?}: {}", serve(bytes), bytes.escape_ascii());
}

#[test]
fn reads_what_a_handler_wants_to_know() {
    let bytes = head(
        &[&GOOD[..], &["Cookie: a=1; b=2", "X-Forwarded-For:\t192.0.2.1 ", "cookie: c=\u{fc}"]].concat(),
    );
    let (request, key) = parse(&bytes).expect("a good head");
    assert_eq!(request.target(), "/socket?room=1");
    assert_eq!(request.host(), "ws1.example.com:8099");
    assert_eq!(request.origin(), Some("https://example.com"));
    assert_eq!(request.header("x-forwarded-FOR"), Some(&b"192.0.2.1"[..]));
    assert_eq!(request.header("X-Real-IP"), None);
    assert_eq!(request.cookies().collect::<Vec<_>>(), [&b"a=1; b=2"[..], "c=\u{fc}".as_bytes()]);
    assert_eq!(request.headers().count(), 9);
    assert_eq!(Some(key), Key::parse(b"dGhlIHNhbXBsZSBub25jZQ=="));
}

#[test]
fn answers_as_the_example_of_rfc_6455() {
    let key = Key::parse(b"dGhlIHNhbXBsZSBub25jZQ==").expect("the key of section 1.3");
    let mut out = b"before".to_vec();
    append_upgrade(&mut out, &key);
    let expected = "beforeHTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    assert_eq!(String::from_utf8(out).as_deref(), Ok(expected));
}

#[test]
fn accepts_every_spelling_that_has_one_meaning() {
    accepted(&head(&GOOD));
    for (start, line) in [
        ("GET", "GET / HTTP/1.1"),
        ("GET", "GET http://ws1.example.com:8099/socket HTTP/1.1"),
        ("GET", "GET wss://ws1.example.com/ HTTP/1.1"),
        ("GET", "GET / HTTP/1.2"),
        ("GET", "GET / HTTP/1.9"),
        ("Host", "host:example.com"),
        ("Host", "HOST: [2001:db8::1]:8099"),
        ("Upgrade", "UPGRADE: WebSocket"),
        ("Upgrade", "Upgrade: h2c, websocket"),
        ("Upgrade", "Upgrade:,\twebSOCKET ,"),
        ("Connection", "Connection: keep-alive, Upgrade"),
        ("Connection", "connection: UPGRADE"),
        ("Connection", "Connection: keep-alive\r\nConnection: upgrade"),
        ("Origin", ""),
        ("Origin", "Origin:"),
        ("Origin", "Origin: null"),
        ("Sec-WebSocket-Key", "sec-websocket-key:\t AAAAAAAAAAAAAAAAAAAAAA== \t"),
        ("Sec-WebSocket-Version", "Sec-Websocket-Version:13"),
    ] {
        accepted(&with(start, line));
    }
    for line in
        ["Content-Length: 0", "Cookie: \u{fc}=\u{20ac}", "X-Empty:", "X-Tab: a\tb", "Expect: 100-continue"]
    {
        accepted(&and(line));
    }
}

/// Threat 12: what could be read in two ways opens nothing.
#[test]
fn refuses_what_smuggles() {
    for (line, rule) in [
        ("Content-Length: 1", "content_length"),
        ("Content-Length: 00", "content_length"),
        ("Content-Length: +0", "content_length"),
        ("Content-Length: -0", "content_length"),
        ("Content-Length: 0x0", "content_length"),
        ("Content-Length: 0, 0", "content_length"),
        ("Content-Length: 0\r\nContent-Length: 0", "content_length"),
        ("Content-Length: 0\r\ncontent-length: 5", "content_length"),
        ("Content-Length:", "content_length"),
        ("CONTENT-LENGTH: 18446744073709551616", "content_length"),
        ("Transfer-Encoding: chunked", "transfer_encoding"),
        ("Transfer-Encoding: identity", "transfer_encoding"),
        ("transfer-encoding:", "transfer_encoding"),
        ("TRANSFER-ENCODING: \x0bchunked", "bad_header"),
        ("Content-Length: 0\r\nTransfer-Encoding: chunked", "transfer_encoding"),
        ("Transfer-Encoding : chunked", "bad_header"),
        ("Transfer-Encoding\t: chunked", "bad_header"),
        ("Content-Length : 5", "bad_header"),
        (" Transfer-Encoding: chunked", "bad_header"),
        ("X-Fold: a\r\n b", "bad_header"),
        ("X-Fold: a\r\n\tTransfer-Encoding: chunked", "bad_header"),
        ("X-Fold:\r\n b", "bad_header"),
        ("X-Cr: a\rb", "bad_header"),
        ("X-Cr: a\r\rTransfer-Encoding: chunked", "bad_header"),
        ("X-Lf: a\nTransfer-Encoding: chunked", "bare_lf"),
        ("X-Lf: a\n", "bare_lf"),
        ("X-Lf: a\n\n", "bare_lf"),
        ("X-Nul: a\0b", "nul"),
        ("X\0Nul: a", "nul"),
        ("X-Esc: a\x1bb", "bad_header"),
        ("X-Del: a\x7fb", "bad_header"),
        ("X-Bell: \x07", "bad_header"),
        ("No colon", "bad_header"),
        ("NoColon", "bad_header"),
        (": no name", "bad_header"),
        ("X Y: blank in the name", "bad_header"),
        ("X(Y): bracket in the name", "bad_header"),
        ("X\u{fc}: letter in the name", "bad_header"),
        ("Host: example.com", "duplicate_host"),
        ("HOST: ws1.example.com:8099", "duplicate_host"),
        ("Upgrade: websocket", "duplicate_upgrade"),
        ("upgrade: h2c", "duplicate_upgrade"),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "duplicate_key"),
        ("Sec-WebSocket-Version: 13", "duplicate_version"),
        ("sec-websocket-version: 8", "duplicate_version"),
        ("Origin: https://example.com", "duplicate_origin"),
        ("origin: https://evil.example", "duplicate_origin"),
    ] {
        malformed(&and(line), rule);
    }
    for (start, line, rule) in [
        ("Host", "", "missing_host"),
        ("Host", "Host:", "bad_host"),
        ("Host", "Host: a, b", "bad_host"),
        ("Host", "Host: a b", "bad_host"),
        ("Host", "Host: user@example.com", "bad_host"),
        ("Host", "Host: example.com/path", "bad_host"),
        ("Host", "Host: ex\u{e4}mple.com", "bad_host"),
        ("Origin", "Origin: https://ex\u{e4}mple.com", "bad_origin"),
        ("GET", "GET /", "bad_request_line"),
        ("GET", "GET  / HTTP/1.1", "bad_request_line"),
        ("GET", "GET /  HTTP/1.1", "bad_request_line"),
        ("GET", "GET / HTTP/1.1 ", "bad_request_line"),
        ("GET", "GET\t/ HTTP/1.1", "bad_request_line"),
        ("GET", "GET /a b HTTP/1.1", "bad_request_line"),
        ("GET", "GET /\u{fc} HTTP/1.1", "bad_request_line"),
        ("GET", "GET /\x7f HTTP/1.1", "bad_request_line"),
        ("GET", "GET  HTTP/1.1", "bad_request_line"),
        ("GET", "GET / http/1.1", "bad_request_line"),
        ("GET", "GET / HTTP/1.", "bad_request_line"),
        ("GET", "GET / HTTP/11", "bad_request_line"),
        ("GET", "GET / HTTP/1.10", "bad_request_line"),
        ("GET", "GET / HTTP/01.1", "bad_request_line"),
        ("GET", "GET / HTTPS/1.1", "bad_request_line"),
        ("GET", "GET / HTTP/1,1", "bad_request_line"),
        ("GET", "GET / HTTP/1.1\r", "bad_request_line"),
        ("GET", "GE(T / HTTP/1.1", "bad_request_line"),
        ("GET", " GET / HTTP/1.1", "bad_first_byte"),
        ("GET", "\r\nGET / HTTP/1.1", "bad_first_byte"),
        ("GET", "GET * HTTP/1.1", "bad_target"),
        ("GET", "GET example.com:80 HTTP/1.1", "bad_target"),
    ] {
        malformed(&with(start, line), rule);
    }
}

/// The first bytes of other protocols, none of which holds an empty line to wait for.
#[test]
fn refuses_other_protocols_at_once() {
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], // TLS
        b"\0\0\0\x08\x04\xd2\x16\x2f",                        // PostgreSQL asks for TLS
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"EHLO mail.example.com\r\n",
        b"PING\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"0p5bHELLO",
        b"\n",
        b"\r\n",
        b"GET /\n",
        b"GET /\r\n", // HTTP 0.9
        b"GET / HTTP/1.1\r\nX: \0",
    ] {
        let refusal = scan(bytes, 0).expect_err("another protocol");
        assert_eq!(refusal.status(), 400, "{}", bytes.escape_ascii());
    }
}

#[test]
fn checks_in_the_order_of_the_page() {
    let many: Vec<_> = (0..HEADERS_MAX).map(|n| format!("X-{n}: 1")).collect();
    let mut lines: Vec<_> = many.iter().map(String::as_str).collect();
    // Two before three: 65 fields, one of them malformed, behind a request line of another method.
    lines.insert(0, "POST / HTTP/1.0");
    lines.insert(1, "No colon");
    refused(&head(&lines), Reject::TooManyHeaders);
    lines.remove(1);
    lines.push("Host: example.com");
    refused(&head(&lines), Reject::TooManyHeaders);
    lines.remove(1);
    refused(&head(&lines), Reject::Method);
    // Three before four before five before six before seven.
    malformed(&head(&["POST / HTTP/1.0"]), "missing_host");
    malformed(&head(&["POST / HTTP/1.0", "Host: a", "Content-Length: 3"]), "content_length");
    refused(&head(&["POST / HTTP/1.0", "Host: a"]), Reject::Method);
    refused(&head(&["GET / HTTP/1.0", "Host: a"]), Reject::Version);
    refused(&head(&["GET / HTTP/1.1", "Host: a"]), Reject::NoUpgrade);
    let bad_key = head(&[
        "GET / HTTP/1.1",
        "Host: a",
        "Upgrade: websocket",
        "Connection: upgrade",
        "Sec-WebSocket-Key: short",
        "Sec-WebSocket-Version: 8",
    ]);
    refused(&bad_key, Reject::BadUpgrade("bad_key"));
}

#[test]
fn refuses_other_methods_and_versions() {
    for method in ["POST", "HEAD", "OPTIONS", "PUT", "CONNECT", "get", "Get", "GETT", "G!#$%&'*+-.^_`|~1"] {
        refused(&with("GET", &format!("{method} / HTTP/1.1")), Reject::Method);
    }
    refused(&with("GET", "OPTIONS * HTTP/1.1"), Reject::Method);
    refused(&with("GET", "CONNECT example.com:443 HTTP/1.1"), Reject::Method);
    for version in ["1.0", "0.9", "2.0", "3.0", "9.9"] {
        refused(&with("GET", &format!("GET / HTTP/{version}")), Reject::Version);
    }
}

#[test]
fn tells_a_plain_request_from_a_bad_upgrade() {
    refused(&with("Upgrade", ""), Reject::NoUpgrade);
    let plain = head(&["GET /index.html HTTP/1.1", "Host: example.com", "Connection: keep-alive"]);
    let request = parse_head(&plain).expect("a plain GET");
    assert_eq!((request.target(), request.upgrade()), ("/index.html", Err(Reject::NoUpgrade)));
    for (start, line, rule) in [
        ("Upgrade", "Upgrade: h2c", "other_upgrade"),
        ("Upgrade", "Upgrade: websocket2", "other_upgrade"),
        ("Upgrade", "Upgrade: web socket", "other_upgrade"),
        ("Upgrade", "Upgrade:", "other_upgrade"),
        ("Connection", "", "no_connection_upgrade"),
        ("Connection", "Connection: keep-alive", "no_connection_upgrade"),
        ("Connection", "Connection: not-upgrade", "no_connection_upgrade"),
        ("Sec-WebSocket-Key", "", "missing_key"),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key:", "bad_key"),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=", "bad_key"),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ", "bad_key"),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTE=", "bad_key"),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTEx", "bad_key"),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==", "bad_key"),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZS-ub25jZQ==", "bad_key"),
        ("Sec-WebSocket-Version", "", "missing_version"),
    ] {
        refused(&with(start, line), Reject::BadUpgrade(rule));
    }
    for version in ["8", "0", "013", "13, 8", "1 3", "14", "255", ""] {
        let line = format!("Sec-WebSocket-Version: {version}");
        refused(&with("Sec-WebSocket-Version", &line), Reject::WebSocketVersion);
    }
}

#[test]
fn parse_needs_no_scan_before_it() {
    let good = head(&GOOD);
    for end in 0..good.len() {
        assert!(parse(&good[..end]).is_err(), "{end} bytes");
    }
    for more in [&b"\r\n"[..], b"\0", b"GET / HTTP/1.1\r\n\r\n", b"\n"] {
        assert!(parse(&[&good, more].concat()).is_err(), "{}", more.escape_ascii());
    }
    let lf = String::from_utf8(good).expect("ASCII").replace("\r\n", "\n");
    assert_eq!(parse(lf.as_bytes()).expect_err("bare line feeds"), Reject::Malformed("bare_lf"));
}

#[test]
fn leaves_the_first_frames_alone() {
    let mut bytes = head(&GOOD);
    let end = bytes.len();
    bytes.extend(b"\x81\x80\0\0\0\0\n\n\0");
    assert_eq!(scan(&bytes, 0), Ok(Some(end)));
}

/// All there is to answer with.
fn all_refusals() -> Vec<Reject> {
    let mut all = vec![
        Reject::Draining,
        Reject::Full,
        Reject::HeadTooLarge,
        Reject::Method,
        Reject::NoUpgrade,
        Reject::Timeout,
        Reject::TooManyHeaders,
        Reject::TooManyToken,
        Reject::TooManyUser,
        Reject::Version,
        Reject::WebSocketVersion,
        Reject::MISSING_ORIGIN,
        Reject::ORIGIN_NOT_ALLOWED,
    ];
    let texts = [Reject::BadUpgrade, Reject::Cookies, Reject::Malformed, Reject::Origin];
    all.extend(texts.iter().flat_map(|reject| RULES.map(reject)));
    all
}

#[test]
fn every_refusal_is_a_complete_response() {
    for reject in all_refusals() {
        let response = String::from_utf8(reject.response()).expect("ASCII");
        let (head, body) = response.split_once("\r\n\r\n").expect("an empty line");
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).expect("a status line");
        assert!(status.starts_with(&format!("{} ", reject.status())), "{response}");
        let fields: Vec<_> = lines.collect();
        assert!(fields.contains(&format!("Content-Length: {}", body.len()).as_str()), "{response}");
        assert!(fields.contains(&"Connection: close"), "{response}");
        assert!(fields.contains(&"Content-Type: text/plain"), "{response}");
        assert!(body.len() > 1 && body.find('\n') == Some(body.len() - 1), "one line: {body:?}");
        let extra = match reject {
            Reject::Method => "Allow: GET",
            Reject::NoUpgrade => "Upgrade: websocket",
            Reject::WebSocketVersion => "Sec-WebSocket-Version: 13",
            Reject::Draining | Reject::Full | Reject::TooManyToken | Reject::TooManyUser => "Retry-After: 15",
            _ => "Connection: close",
        };
        assert!(fields.contains(&extra), "{response}");
    }
}

/// Threat 5.
#[test]
fn refused_cookies_and_origins_look_alike() {
    let first = Reject::MISSING_ORIGIN.response();
    for reject in all_refusals().into_iter().filter(|reject| reject.status() == 403) {
        assert_eq!(reject.response(), first, "{reject}");
    }
}

#[test]
fn every_rule_has_its_own_counter() {
    for (index, rule) in RULES.into_iter().enumerate() {
        assert_eq!(Reject::Malformed(rule).index(), index, "{rule} is there twice");
        assert!(rule.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{rule}");
    }
    assert_eq!(RULES[Reject::Cookies("made up by a handler").index()], "other");
    for reject in all_refusals() {
        assert_eq!(RULES[reject.index()], reject.rule());
    }
}

#[test]
fn a_refusal_stays_small() {
    assert!(size_of::<Reject>() <= 24);
}

/// Feeds `bytes` piece by piece, as a socket would: the end of the head or the refusal, and the bytes known by then.
fn scan_pieces(bytes: &[u8], cuts: &[usize]) -> Result<Option<usize>, Reject> {
    let mut from = 0;
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        let end = cut.clamp(from, bytes.len());
        if let Some(found) = scan(&bytes[..end], from)? {
            return Ok(Some(found));
        }
        from = end;
    }
    Ok(None)
}

/// Text that is nearly a head: what decides in `scan` is frequent in it.
fn nearly_a_head() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        6 => Just(&b"\r\n"[..]),
        4 => Just(&b"Name: value of a field"[..]),
        2 => Just(&b"GET / HTTP/1.1\r\n"[..]),
        1 => Just(&b"\r"[..]),
        1 => Just(&b"\n"[..]),
        1 => Just(&b"\0"[..]),
        1 => Just(&b"\xff\x01"[..]),
    ];
    prop::collection::vec(part, 0..12)
        .prop_map(|parts| [&b"GET / HTTP/1.1\r\n"[..], &parts.concat()].concat())
}

proptest! {
    #[test]
    fn scan_does_not_depend_on_the_pieces(bytes in nearly_a_head(), mut cuts in prop::collection::vec(0..200_usize, 0..9)) {
        cuts.sort_unstable();
        let whole = scan(&bytes, 0);
        prop_assert_eq!(scan_pieces(&bytes, &cuts), whole);
        let every: Vec<_> = (0..bytes.len()).collect();
        prop_assert_eq!(scan_pieces(&bytes, &every), whole);
    }

    #[test]
    fn finds_what_a_loop_finds(bytes in prop::collection::vec(prop_oneof![Just(0), Just(10), 1..=11_u8, any::<u8>()], 0..40), at in 0..50_usize) {
        let expected = (at..bytes.len()).find(|&index| matches!(bytes[index], 0 | b'\n'));
        prop_assert_eq!(scan::find_stop(&bytes, at), expected);
    }
}
