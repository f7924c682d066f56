//! Fuzz body: for any bytes of a stranger as a request head, however it is cut, the verdict is the same, and an
//! accepted head has one reading only.
//!
//! Input: a byte for the cuts, then what comes over the wire.

use wsson::testing::http::{Framing, HeadError, Key, Request, append_upgrade, parse, parse_prefix, scan};

pub(crate) fn body(data: &[u8]) {
    let &[cuts, ref wire @ ..] = data else {
        return;
    };
    let whole = scan(wire, 0);
    assert_eq!(scan_pieces(wire, 1), whole, "byte by byte");
    assert_eq!(scan_pieces(wire, 1 + usize::from(cuts)), whole, "in pieces of {}", cuts as usize + 1);
    if let Ok(Some(end)) = whole {
        assert_eq!(
            wire.windows(4).position(|bytes| bytes == b"\r\n\r\n"),
            Some(end - 4),
            "the first empty line behind a line"
        );
        if let Ok(request) = parse(&wire[..end]) {
            accepted(&wire[..end], &request);
        }
    }
    short_way(wire, whole);
    // It must hold its own without a scan before it, too.
    if let Ok(request) = parse(wire) {
        assert_eq!(whole, Ok(Some(wire.len())), "parse accepts what scan does not: {}", request.target());
    }
}

fn scan_pieces(wire: &[u8], piece_bytes: usize) -> Result<Option<usize>, HeadError> {
    let mut from = 0;
    for piece in wire.chunks(piece_bytes) {
        let received = from + piece.len();
        if let Some(end) = scan(&wire[..received], from)? {
            return Ok(Some(end));
        }
        from = received;
    }
    Ok(None)
}

/// One pass accepts a head if and only if a scan and a reading accept it.
fn short_way(wire: &[u8], whole: Result<Option<usize>, HeadError>) {
    let long = whole.ok().flatten().filter(|&end| parse(&wire[..end]).is_ok());
    let short = parse_prefix(wire).ok().flatten().map(|(_, end)| end);
    assert_eq!(short, long);
}

/// Reads the head again, in the plainest way there is, and compares.
fn accepted(head: &[u8], request: &Request<'_>) {
    let head = head.strip_prefix(b"\r\n").unwrap_or(head);
    let lines: Vec<_> = head[..head.len() - 4].split(|&byte| byte == b'\n').collect();
    assert!(lines.iter().rev().skip(1).all(|line| line.ends_with(b"\r")), "a bare line feed");
    let (first, fields) = lines.split_first().expect("there is a first line");
    let (major, minor) = request.version();
    let line = format!("{} {} HTTP/{major}.{minor}", request.method(), request.target());
    assert_eq!(first.trim_ascii_end(), line.as_bytes());
    assert_eq!(request.headers().count(), fields.len(), "a line that is no field");
    for ((name, value), line) in request.headers().zip(fields) {
        let colon = line.iter().position(|&byte| byte == b':').expect("a colon");
        assert_eq!(name.as_bytes(), &line[..colon]);
        assert_eq!(value, line[colon + 1..].trim_ascii());
        assert!(
            value.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f)),
            "a control character"
        );
    }
    let count = |name| request.values(name).count();
    assert!(count("Host") == 1 || ((major, minor) < (1, 1) && count("Host") == 0));
    for once in ["Origin", "Upgrade", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Content-Length"] {
        assert!(count(once) <= 1, "{once}");
    }
    assert!(request.cookies().eq(request.values("cookie")));
    match request.framing() {
        Framing::None => assert_eq!(count("Content-Length") + count("Transfer-Encoding"), 0),
        Framing::Length(length) => {
            assert_eq!(request.header("Content-Length"), Some(length.to_string().as_bytes()));
            assert_eq!(count("Transfer-Encoding"), 0);
        }
        Framing::Chunked => assert_eq!((count("Transfer-Encoding"), count("Content-Length")), (1, 0)),
    }
    if let (Ok(()), Ok(key)) = (request.check_get(), request.upgrade()) {
        opened(request, &key);
    }
}

fn opened(request: &Request<'_>, key: &Key) {
    assert!(request.method() == "GET" && request.version() >= (1, 1) && !request.host().is_empty());
    assert!(matches!(request.framing(), Framing::None | Framing::Length(0)));
    for once in ["Upgrade", "Sec-WebSocket-Key", "Sec-WebSocket-Version"] {
        assert_eq!(request.values(once).count(), 1, "{once}");
    }
    let mut out = Vec::new();
    append_upgrade(&mut out, key, None);
    assert!(out.starts_with(b"HTTP/1.1 101 ") && out.ends_with(b"=\r\n\r\n"));
}
