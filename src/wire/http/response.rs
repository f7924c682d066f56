//! HTTP responses, built once and complete.
//!
//! It never decides what is answered, and holds nothing between calls. Invariant: whatever is built here has exactly one
//! framing, a `Content-Length` or `chunked`, so that no reader can disagree about where it ends.

use std::fmt::Write;

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
        let _ = write!(head, "HTTP/1.1 {status} {}\r\n", reason(status));
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

    /// What answers HEAD: the same without the body, whose length it tells.
    pub fn head_for(self, content_type: &str, length: usize) -> Vec<u8> {
        let closes = self.closes;
        let mut head = self.field("Content-Type", content_type).head;
        let _ = write!(head, "Content-Length: {length}\r\n");
        head.push_str(if closes { "Connection: close\r\n\r\n" } else { "\r\n" });
        head.into_bytes()
    }
}

/// The reason phrases of RFC 9110 section 15, for what is answered here.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
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
