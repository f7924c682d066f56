//! Heads that open a WebSocket, and every way not to.

use super::head::HEADERS_MAX;
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

/// Why no WebSocket is opened.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Error {
    Head(HeadError),
    Upgrade(UpgradeError),
    /// The head is not complete.
    More,
}

impl From<HeadError> for Error {
    fn from(error: HeadError) -> Self {
        Self::Head(error)
    }
}

impl From<UpgradeError> for Error {
    fn from(error: UpgradeError) -> Self {
        Self::Upgrade(error)
    }
}

/// A server's result for bytes that came in one piece, by the way for heads in pieces. The short way must agree.
fn serve(bytes: &[u8]) -> Result<Key, Error> {
    let slow = match scan(bytes, 0) {
        Ok(Some(end)) => open(parse(&bytes[..end]), end),
        Ok(None) => Err(Error::More),
        Err(error) => Err(error.into()),
    };
    match parse_prefix(bytes) {
        Ok(Some((request, end))) => assert_eq!(open(Ok(request), end), slow, "{}", bytes.escape_ascii()),
        Ok(None) => assert_eq!(scan(bytes, 0).ok().flatten(), None, "{}", bytes.escape_ascii()),
        Err(_) => assert!(matches!(slow, Err(Error::Head(_) | Error::More)), "{}", bytes.escape_ascii()),
    }
    slow.map(|(key, _)| key)
}

fn open(request: Result<Request<'_>, HeadError>, end: usize) -> Result<(Key, usize), Error> {
    let request = request?;
    request.check_get()?;
    Ok((request.upgrade()?, end))
}

#[track_caller]
fn refused(bytes: &[u8], expected: impl Into<Error>) {
    assert_eq!(serve(bytes), Err(expected.into()), "{}", bytes.escape_ascii());
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
    let request = parse(&bytes).expect("a good head");
    let key = request.upgrade().expect("it asks for a WebSocket");
    assert_eq!((request.method(), request.version(), request.framing()), ("GET", (1, 1), Framing::None));
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
    append_upgrade(&mut out, &key, None);
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
        // Printed in RFC 6455 section 4.1, with a stray bit before its padding.
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEC=="),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: //////////////////////=="),
        ("Sec-WebSocket-Version", "Sec-Websocket-Version:13"),
        // RFC 9112 section 2.2: an empty line before the request.
        ("GET", "\r\nGET / HTTP/1.1"),
        // RFC 9110 section 5.6: blanks and empty elements.
        ("Connection", "Connection:,\t,keep-alive ,\tUpgrade\t,,"),
        ("Connection", "Connection: \tupgrade \t "),
        ("Connection", "Connection: keep-alive\r\nConnection:\r\nConnection: close, upgrade"),
        ("Upgrade", "Upgrade: ,websocket"),
        ("Host", "Host:\texample.com\t"),
        // RFC 9112 section 3.2: every form of a target that GET may have.
        ("GET", "GET /?a=b?c=/d;e:f@g!$&'()*+,;=%20~ HTTP/1.1"),
        ("GET", "GET //two/slashes HTTP/1.1"),
        ("GET", "GET http://user@[2001:db8::1]:80?query HTTP/1.1"),
    ] {
        accepted(&with(start, line));
    }
    for line in
        ["Content-Length: 0", "Cookie: \u{fc}=\u{20ac}", "X-Empty:", "X-Tab: a\tb", "Expect: 100-continue"]
    {
        accepted(&and(line));
    }
}

/// Threat 12: a head that could be read in two ways opens nothing.
#[test]
fn refuses_what_smuggles() {
    use Error::{Head, Upgrade};
    use HeadError::*;
    for (line, rule) in [
        ("Content-Length: 1", Upgrade(UpgradeError::Body)),
        ("Content-Length: 00", Head(ContentLength)),
        ("Content-Length: +0", Head(ContentLength)),
        ("Content-Length: -0", Head(ContentLength)),
        ("Content-Length: 0x0", Head(ContentLength)),
        ("Content-Length: 0, 0", Head(ContentLength)),
        ("Content-Length: 0\r\nContent-Length: 0", Head(ContentLength)),
        ("Content-Length: 0\r\ncontent-length: 5", Head(ContentLength)),
        ("Content-Length:", Head(ContentLength)),
        ("CONTENT-LENGTH: 18446744073709551616", Head(ContentLength)),
        ("Transfer-Encoding: chunked", Upgrade(UpgradeError::Chunked)),
        ("Transfer-Encoding: identity", Head(TransferEncoding)),
        ("transfer-encoding:", Head(TransferEncoding)),
        ("TRANSFER-ENCODING: \x0bchunked", Head(BadHeader)),
        ("Content-Length: 0\r\nTransfer-Encoding: chunked", Head(TransferEncoding)),
        ("Transfer-Encoding : chunked", Head(BadHeader)),
        ("Transfer-Encoding\t: chunked", Head(BadHeader)),
        ("Content-Length : 5", Head(BadHeader)),
        (" Transfer-Encoding: chunked", Head(BadHeader)),
        ("X-Fold: a\r\n b", Head(BadHeader)),
        ("X-Fold: a\r\n\tTransfer-Encoding: chunked", Head(BadHeader)),
        ("X-Fold:\r\n b", Head(BadHeader)),
        ("X-Cr: a\rb", Head(BadHeader)),
        ("X-Cr: a\r\rTransfer-Encoding: chunked", Head(BadHeader)),
        ("X-Lf: a\nTransfer-Encoding: chunked", Head(BareLf)),
        ("X-Lf: a\n", Head(BareLf)),
        ("X-Lf: a\n\n", Head(BareLf)),
        ("X-Nul: a\0b", Head(Nul)),
        ("X\0Nul: a", Head(Nul)),
        ("X-Esc: a\x1bb", Head(BadHeader)),
        ("X-Del: a\x7fb", Head(BadHeader)),
        ("X-Bell: \x07", Head(BadHeader)),
        ("No colon", Head(BadHeader)),
        ("NoColon", Head(BadHeader)),
        (": no name", Head(BadHeader)),
        ("X Y: blank in the name", Head(BadHeader)),
        ("X(Y): bracket in the name", Head(BadHeader)),
        ("X\u{fc}: letter in the name", Head(BadHeader)),
        ("Host: example.com", Head(DuplicateHost)),
        ("HOST: ws1.example.com:8099", Head(DuplicateHost)),
        ("Upgrade: websocket", Head(DuplicateUpgrade)),
        ("upgrade: h2c", Head(DuplicateUpgrade)),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", Head(DuplicateKey)),
        ("Sec-WebSocket-Version: 13", Head(DuplicateVersion)),
        ("sec-websocket-version: 8", Head(DuplicateVersion)),
        ("Origin: https://example.com", Head(DuplicateOrigin)),
        ("origin: https://evil.example", Head(DuplicateOrigin)),
    ] {
        refused(&and(line), rule);
    }
    for (start, line, rule) in [
        ("Host", "", Head(MissingHost)),
        ("Host", "Host:", Head(BadHost)),
        ("Host", "Host: a, b", Head(BadHost)),
        ("Host", "Host: a b", Head(BadHost)),
        ("Host", "Host: user@example.com", Head(BadHost)),
        ("Host", "Host: example.com/path", Head(BadHost)),
        ("Host", "Host: ex\u{e4}mple.com", Head(BadHost)),
        ("Origin", "Origin: https://ex\u{e4}mple.com", Head(BadOrigin)),
        ("GET", "GET /", Head(BadRequestLine)),
        ("GET", "GET  / HTTP/1.1", Head(BadRequestLine)),
        ("GET", "GET /  HTTP/1.1", Head(BadRequestLine)),
        ("GET", "GET / HTTP/1.1 ", Head(BadRequestLine)),
        ("GET", "GET\t/ HTTP/1.1", Head(BadRequestLine)),
        ("GET", "GET /a b HTTP/1.1", Head(BadRequestLine)),
        ("GET", "GET /\u{fc} HTTP/1.1", Head(BadRequestLine)),
        ("GET", "GET /\x7f HTTP/1.1", Head(BadRequestLine)),
        ("GET", "GET  HTTP/1.1", Head(BadRequestLine)),
        ("GET", "GET / http/1.1", Head(BadRequestLine)),
        ("GET", "GET / HTTP/1.", Head(BadRequestLine)),
        ("GET", "GET / HTTP/11", Head(BadRequestLine)),
        ("GET", "GET / HTTP/1.10", Head(BadRequestLine)),
        ("GET", "GET / HTTP/01.1", Head(BadRequestLine)),
        ("GET", "GET / HTTPS/1.1", Head(BadRequestLine)),
        ("GET", "GET / HTTP/1,1", Head(BadRequestLine)),
        ("GET", "GET / HTTP/1.1\r", Head(BadRequestLine)),
        ("GET", "GE(T / HTTP/1.1", Head(BadRequestLine)),
        ("GET", " GET / HTTP/1.1", Head(BadFirstByte)),
        ("GET", "\r\n\r\nGET / HTTP/1.1", Head(BadFirstByte)),
        ("GET", "\r\n GET / HTTP/1.1", Head(BadFirstByte)),
        ("GET", "\nGET / HTTP/1.1", Head(BadFirstByte)),
        ("GET", "\rGET / HTTP/1.1", Head(BadFirstByte)),
        ("GET", "GET * HTTP/1.1", Upgrade(UpgradeError::BadTarget)),
        ("GET", "GET example.com:80 HTTP/1.1", Upgrade(UpgradeError::BadTarget)),
    ] {
        refused(&with(start, line), rule);
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
        b"\r\n\r\n",
        b"\r\n0p5bHELLO",
        b"GET /\n",
        b"GET /\r\n", // HTTP 0.9
        b"GET / HTTP/1.1\r\nX: \0",
    ] {
        assert!(scan(bytes, 0).is_err(), "{}", bytes.escape_ascii());
    }
}

#[test]
fn checks_in_the_order_of_the_page() {
    let many: Vec<_> = (0..HEADERS_MAX).map(|n| format!("X-{n}: 1")).collect();
    let mut lines: Vec<_> = many.iter().map(String::as_str).collect();
    // Two before three: 65 fields, one of them malformed, behind a request line of another method.
    lines.insert(0, "POST / HTTP/1.0");
    lines.insert(1, "No colon");
    refused(&head(&lines), HeadError::TooManyHeaders);
    lines.remove(1);
    lines.push("Host: example.com");
    refused(&head(&lines), HeadError::TooManyHeaders);
    lines.remove(1);
    refused(&head(&lines), UpgradeError::Method);
    // Three before four before five before six before seven.
    refused(&head(&["POST / HTTP/1.0"]), UpgradeError::MissingHost);
    refused(&head(&["POST / HTTP/1.1"]), HeadError::MissingHost);
    refused(&head(&["POST / HTTP/1.0", "Host: a", "Content-Length: 3"]), UpgradeError::Body);
    refused(&head(&["POST / HTTP/1.0", "Host: a"]), UpgradeError::Method);
    refused(&head(&["GET / HTTP/1.0", "Host: a"]), UpgradeError::Version);
    refused(&head(&["GET / HTTP/1.1", "Host: a"]), UpgradeError::NoUpgrade);
    let bad_key = head(&[
        "GET / HTTP/1.1",
        "Host: a",
        "Upgrade: websocket",
        "Connection: upgrade",
        "Sec-WebSocket-Key: short",
        "Sec-WebSocket-Version: 8",
    ]);
    refused(&bad_key, UpgradeError::BadKey);
}

#[test]
fn refuses_other_methods_and_versions() {
    for method in ["POST", "HEAD", "OPTIONS", "PUT", "CONNECT", "get", "Get", "GETT", "G!#$%&'*+-.^_`|~1"] {
        refused(&with("GET", &format!("{method} / HTTP/1.1")), UpgradeError::Method);
    }
    refused(&with("GET", "OPTIONS * HTTP/1.1"), UpgradeError::Method);
    refused(&with("GET", "CONNECT example.com:443 HTTP/1.1"), UpgradeError::Method);
    for version in ["1.0", "0.9", "2.0", "3.0", "9.9"] {
        refused(&with("GET", &format!("GET / HTTP/{version}")), UpgradeError::Version);
    }
}

#[test]
fn tells_a_plain_request_from_a_bad_upgrade() {
    refused(&with("Upgrade", ""), UpgradeError::NoUpgrade);
    let plain = head(&["GET /index.html HTTP/1.1", "Host: example.com", "Connection: keep-alive"]);
    let request = parse(&plain).expect("a plain GET");
    assert_eq!((request.target(), request.upgrade()), ("/index.html", Err(UpgradeError::NoUpgrade)));
    for (start, line, rule) in [
        ("Upgrade", "Upgrade: h2c", UpgradeError::OtherUpgrade),
        ("Upgrade", "Upgrade: websocket2", UpgradeError::OtherUpgrade),
        ("Upgrade", "Upgrade: web socket", UpgradeError::OtherUpgrade),
        ("Upgrade", "Upgrade:", UpgradeError::OtherUpgrade),
        ("Connection", "", UpgradeError::NoConnectionUpgrade),
        ("Connection", "Connection: keep-alive", UpgradeError::NoConnectionUpgrade),
        ("Connection", "Connection: not-upgrade", UpgradeError::NoConnectionUpgrade),
        ("Sec-WebSocket-Key", "", UpgradeError::MissingKey),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key:", UpgradeError::BadKey),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=", UpgradeError::BadKey),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ", UpgradeError::BadKey),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTE=", UpgradeError::BadKey),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTEx", UpgradeError::BadKey),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEC=", UpgradeError::BadKey),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4P====", UpgradeError::BadKey),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEC=\x20=", UpgradeError::BadKey),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZS-ub25jZQ==", UpgradeError::BadKey),
        ("Sec-WebSocket-Version", "", UpgradeError::MissingVersion),
    ] {
        refused(&with(start, line), rule);
    }
    for version in ["8", "0", "013", "13, 8", "1 3", "14", "255", ""] {
        let line = format!("Sec-WebSocket-Version: {version}");
        refused(&with("Sec-WebSocket-Version", &line), UpgradeError::WebSocketVersion);
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
    assert_eq!(parse(lf.as_bytes()).expect_err("bare line feeds"), HeadError::BareLf);
}

#[test]
fn leaves_the_first_frames_alone() {
    let mut bytes = head(&GOOD);
    let end = bytes.len();
    bytes.extend(b"\x81\x80\0\0\0\0\n\n\0");
    assert_eq!(scan(&bytes, 0), Ok(Some(end)));
}

#[test]
fn tells_what_becomes_of_the_connection() {
    for (lines, keeps, continues) in [
        (&["POST / HTTP/1.1", "Host: a"][..], true, Some(false)),
        (&["POST / HTTP/1.1", "Host: a", "Connection: keep-alive, Close"], false, Some(false)),
        (&["POST / HTTP/1.0", "Connection: keep-alive", "Expect: 100-continue"], false, Some(false)),
        (&["POST / HTTP/1.1", "Host: a", "Content-Length: 3", "Expect: 100-Continue"], true, Some(true)),
        (&["POST / HTTP/1.1", "Host: a", "Expect: 100-continue"], true, Some(false)),
        (&["POST / HTTP/1.1", "Host: a", "Content-Length: 3", "Expect: 200-ok"], true, None),
        (&["POST / HTTP/1.1", "Host: a", "Expect: 100-continue", "Expect: 100-continue"], true, None),
    ] {
        let bytes = head(lines);
        let request = parse(&bytes).expect("a good head");
        assert_eq!((request.keeps_alive(), request.awaits_continue()), (keeps, continues), "{lines:?}");
    }
}

#[test]
fn a_framing_has_one_reading() {
    let framing = |lines: &[&str]| {
        let bytes = head(&[&["POST /send HTTP/1.1", "Host: a"], lines].concat());
        parse(&bytes).map(|request| request.framing())
    };
    assert_eq!(framing(&[]), Ok(Framing::None));
    assert_eq!(framing(&["Content-Length: 0"]), Ok(Framing::Length(0)));
    assert_eq!(framing(&["content-length:999999999999999\t"]), Ok(Framing::Length(999_999_999_999_999)));
    assert_eq!(framing(&["Transfer-Encoding: Chunked"]), Ok(Framing::Chunked));
    for line in ["1000000000000000", "01", "1 1", "1,1", "\u{661}", "1_000", "1e3", "0b1"] {
        let line = format!("Content-Length: {line}");
        assert_eq!(framing(&[&line]), Err(HeadError::ContentLength), "{line}");
    }
    for lines in [
        &["Transfer-Encoding: gzip, chunked"][..],
        &["Transfer-Encoding: chunked, chunked"],
        &["Transfer-Encoding: chunked;q=1"],
        &["Transfer-Encoding: \"chunked\""],
        &["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        &["Transfer-Encoding: chunked", "Content-Length: 3"],
        &["Content-Length: 3", "Transfer-Encoding: chunked"],
    ] {
        assert_eq!(framing(lines), Err(HeadError::TransferEncoding), "{lines:?}");
    }
    let old = head(&["POST / HTTP/1.0", "Host: a", "Transfer-Encoding: chunked"]);
    assert_eq!(parse(&old).expect_err("HTTP/1.0 has no chunks"), HeadError::TransferEncoding);
}

/// Feeds `bytes` piece by piece, as a socket would: the end of the head or the refusal, and the bytes known by then.
fn scan_pieces(bytes: &[u8], cuts: &[usize]) -> Result<Option<usize>, HeadError> {
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

/// Text that is nearly a head: the bytes that decide in `scan` are frequent in it.
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
    (prop::collection::vec(part, 0..12), any::<bool>()).prop_map(|(parts, empty_line)| {
        let start = if empty_line { &b"\r\n"[..] } else { b"" };
        [start, b"GET / HTTP/1.1\r\nHost: a\r\n", &parts.concat()].concat()
    })
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
    fn the_short_way_agrees_with_the_long_one(bytes in nearly_a_head(), end in 0..300_usize) {
        let _ = serve(&bytes[..end.min(bytes.len())]);
    }
}
