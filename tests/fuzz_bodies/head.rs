//! Fuzz body: whatever a stranger sends as a request head, and however it is cut, the verdict is the same, and an
//! accepted head has one reading only.
//!
//! Input: a byte for the cuts, then what comes over the wire.

use wsson::testing::handshake::{Key, RULES, Reject, Request, append_upgrade, parse, scan};

pub(crate) fn body(data: &[u8]) {
    let &[cuts, ref wire @ ..] = data else {
        return;
    };
    let whole = scan(wire, 0);
    assert_eq!(scan_pieces(wire, 1), whole, "byte by byte");
    assert_eq!(scan_pieces(wire, 1 + usize::from(cuts)), whole, "in pieces of {}", cuts as usize + 1);
    match whole {
        Ok(Some(end)) => {
            assert_eq!(
                wire.windows(4).position(|bytes| bytes == b"\r\n\r\n"),
                Some(end - 4),
                "the first empty line"
            );
            judge(&wire[..end]);
        }
        Ok(None) => {}
        Err(reject) => complete(reject),
    }
    // It must hold its own without a scan before it, too.
    if let Ok((request, _)) = parse(wire) {
        assert_eq!(whole, Ok(Some(wire.len())), "parse accepts what scan does not: {}", request.target());
    }
}

fn scan_pieces(wire: &[u8], piece_bytes: usize) -> Result<Option<usize>, Reject> {
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

fn judge(head: &[u8]) {
    match parse(head) {
        Ok((request, key)) => accepted(head, &request, &key),
        Err(reject) => complete(reject),
    }
}

/// Reads the head again, in the plainest way there is, and compares.
fn accepted(head: &[u8], request: &Request<'_>, key: &Key) {
    let lines: Vec<_> = head[..head.len() - 4].split(|&byte| byte == b'\n').collect();
    assert!(lines.iter().rev().skip(1).all(|line| line.ends_with(b"\r")), "a bare line feed");
    let (first, fields) = lines.split_first().expect("there is a first line");
    assert!(first.starts_with(b"GET ") && first.windows(7).any(|bytes| bytes == b"HTTP/1."));
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
    for once in ["Host", "Upgrade", "Sec-WebSocket-Key", "Sec-WebSocket-Version"] {
        assert_eq!(request.values(once).count(), 1, "{once}");
    }
    assert!(request.values("Origin").count() <= 1);
    assert_eq!(request.values("Transfer-Encoding").count(), 0);
    assert!(request.values("Content-Length").all(|value| value == b"0"));
    let mut out = Vec::new();
    append_upgrade(&mut out, key);
    assert!(out.starts_with(b"HTTP/1.1 101 ") && out.ends_with(b"=\r\n\r\n"));
}

fn complete(reject: Reject) {
    assert_ne!(RULES[reject.index()], "other", "{reject} has no counter");
    let response = String::from_utf8(reject.response()).expect("a response is ASCII");
    let (head, body) = response.split_once("\r\n\r\n").expect("a response has an empty line");
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
}
