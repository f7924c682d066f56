//! HTTP responses, built once and complete.
//!
//! It never chooses an answer, and holds nothing between calls. Invariant: a response built here has exactly one
//! framing, a `Content-Length` or `chunked`, so that no reader can disagree about where it ends.

/// A response whose body is yet to be given.
#[derive(Debug)]
pub struct Response {
    /// Status line and fields, without the empty line.
    head: String,
    closes: bool,
}

impl Response {
    /// The status is one of those that [`reason`] knows.
    pub fn new(status: u16) -> Self {
        let mut head = String::with_capacity(256);
        // Without the formatting machinery: it would take as much as all the rest of a short answer.
        head.push_str("HTTP/1.1 ");
        push_decimal(&mut head, status.into());
        head.extend([" ", reason(status), "\r\n"]);
        Self { head, closes: false }
    }

    /// Adds a field. Names and values are ours: nothing that a stranger sent belongs here.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        debug_assert!(!value.contains(['\r', '\n']), "a value is one line");
        self.head.extend([name, ": ", value, "\r\n"]);
        self
    }

    /// Says that the connection ends behind it.
    #[must_use]
    pub fn close(mut self) -> Self {
        self.closes = true;
        self
    }

    /// The complete response with plain text.
    pub fn text(self, body: &str) -> Vec<u8> {
        self.body("text/plain", body.as_bytes())
    }

    /// The complete response.
    pub fn body(self, content_type: &str, body: &[u8]) -> Vec<u8> {
        let mut out = self.head_for(content_type, body.len());
        out.extend_from_slice(body);
        out
    }

    /// The complete response with JSON.
    pub fn json(self, body: &str) -> Vec<u8> {
        self.body("application/json", body.as_bytes())
    }

    /// The beginning of a response whose length is not known: chunks follow.
    pub fn chunked(self, content_type: &str) -> Vec<u8> {
        let closes = self.closes;
        let mut head = self.field("Content-Type", content_type).head;
        head.push_str("Transfer-Encoding: chunked\r\n");
        head.push_str(if closes { "Connection: close\r\n\r\n" } else { "\r\n" });
        head.into_bytes()
    }

    /// The answer to HEAD: the same without the body, whose length it gives.
    pub fn head_for(self, content_type: &str, length: usize) -> Vec<u8> {
        let closes = self.closes;
        let mut head = self.field("Content-Type", content_type).head;
        head.push_str("Content-Length: ");
        push_decimal(&mut head, length);
        head.push_str("\r\n");
        head.push_str(if closes { "Connection: close\r\n\r\n" } else { "\r\n" });
        head.into_bytes()
    }
}

fn push_decimal(out: &mut String, value: usize) {
    if value >= 10 {
        push_decimal(out, value / 10);
    }
    out.push(char::from(b'0' + (value % 10) as u8));
}

/// The interim response to `Expect: 100-continue` (RFC 9110 section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Appends a chunk. An empty one would be the last, so nothing is appended for it.
pub fn append_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if !data.is_empty() {
        out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends the end of the chunks.
pub fn append_last_chunk(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n\r\n");
}

/// The reason phrases of RFC 9110 section 15, for the statuses that are answered here.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        status => unreachable!("{status} is not among the answers"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http::{Body, Framing, Piece};

    #[test]
    fn a_response_has_one_framing() {
        let whole = Response::new(404).field("Cache-Control", "no-store").json("{}");
        let expected = "HTTP/1.1 404 Not Found\r\nCache-Control: no-store\r\nContent-Type: application/json\r\n\
            Content-Length: 2\r\n\r\n{}";
        assert_eq!(String::from_utf8(whole).as_deref(), Ok(expected));
        let chunked = Response::new(200).close().chunked("application/json");
        let expected = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\
            Connection: close\r\n\r\n";
        assert_eq!(String::from_utf8(chunked).as_deref(), Ok(expected));
    }

    #[test]
    fn what_is_chunked_is_read_again() {
        let mut out = Vec::new();
        for data in [&b"first"[..], b"", &[b'x'; 300]] {
            append_chunk(&mut out, data);
        }
        append_last_chunk(&mut out);
        assert!(out.starts_with(b"5\r\nfirst\r\n12c\r\nx"), "{}", out.escape_ascii());
        let (mut body, mut input, mut length) = (Body::new(Framing::Chunked, 1000).unwrap(), &out[..], 0);
        while let Piece::Data(data) = body.read(&mut input).unwrap() {
            length += data.len();
        }
        assert_eq!((length, input.len()), (305, 0));
    }
}
