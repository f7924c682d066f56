//! The opening handshake of RFC 6455 section 4.2: a request head becomes a [`Request`] and a [`Key`], or a [`Reject`].
//!
//! Pure: bytes in, values and response bytes out. It never reads a socket or a clock, never looks at what cookies and
//! origins mean (`auth` does) and never holds state between calls: the caller keeps the bytes and how far it scanned.
//!
//! Invariant: what [`parse`] accepts is exactly one HTTP/1.x request without a body that every proxy in front of wsson
//! reads in the same way; whatever could be read in two ways was refused.
//! design: endpoint.md "Handshake", checks size to protocol; threats.md row 12.

pub(crate) mod forwarded;
mod reject;
mod scan;
#[cfg(test)]
mod tests;

pub use reject::{RULES, Reject};
pub use scan::scan;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use httparse::{EMPTY_HEADER, Header};
use sha1::{Digest, Sha1};

/// Header fields of one head. 64: browsers send about 20, and beyond it lies only abuse. More answer 431.
pub const HEADERS_MAX: usize = 64;

/// The head of a request: the checks size to version passed. It borrows the bytes it was read from.
#[derive(Clone, Debug)]
pub struct Request<'h> {
    target: &'h str,
    known: Known<'h>,
    headers: [Header<'h>; HEADERS_MAX],
    count: usize,
}

/// A `Sec-WebSocket-Key` that was found to be 16 bytes in base64.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Key([u8; KEY_CHARS]);

/// 16 bytes in base64, padding included.
const KEY_CHARS: usize = 24;

/// Reads a complete head that must ask for a WebSocket: the checks size to protocol.
pub fn parse(head: &[u8]) -> Result<(Request<'_>, Key), Reject> {
    let request = parse_head(head)?;
    let key = request.upgrade()?;
    Ok((request, key))
}

/// Reads a complete head, up to and including its empty line: the checks size to version. One that asks for no upgrade is
/// fine here; [`Request::upgrade`] tells.
pub fn parse_head(head: &[u8]) -> Result<Request<'_>, Reject> {
    let (line, fields) = split_line(head)?;
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let count = parse_fields(fields, &mut headers)?;
    let line = RequestLine::parse(line)?;
    let known = Known::collect(&headers[..count])?;
    line.check()?;
    Ok(Request { target: line.target, known, headers, count })
}

impl<'h> Request<'h> {
    /// The request target as it was sent: a path with its query, or an absolute URI. Visible ASCII only.
    pub fn target(&self) -> &'h str {
        self.target
    }

    /// The one Host field.
    pub fn host(&self) -> &'h str {
        self.known.host
    }

    /// The Origin field, there is at most one; ASCII.
    pub fn origin(&self) -> Option<&'h str> {
        self.known.origin
    }

    /// The values of all Cookie fields, as they came.
    pub fn cookies(&self) -> impl Iterator<Item = &'h [u8]> + '_ {
        self.values("cookie")
    }

    /// The value of the first field of this name (in any case), without the blanks around it. Never use it for a
    /// decision that a second field of the same name would turn.
    pub fn header(&self, name: &str) -> Option<&'h [u8]> {
        self.values(name).next()
    }

    /// The values of all fields of this name (in any case), in the order they came.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'h [u8]> + 'a {
        self.headers().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All fields, in the order they came.
    pub fn headers(&self) -> impl Iterator<Item = (&'h str, &'h [u8])> + '_ {
        self.headers[..self.count].iter().map(|header| (header.name, header.value))
    }

    /// Checks 6 and 7: does it ask for a WebSocket, in the version we speak?
    ///
    /// Who sends no Upgrade field did not ask, whatever else the head holds, and is told with 426 what there is here.
    /// Who asks, but in the wrong way or for something else, gets 400. That a field is missing which the check form wants
    /// exactly once is found here, as only here it is known that the field was needed.
    pub fn upgrade(&self) -> Result<Key, Reject> {
        let upgrade = self.known.upgrade.ok_or(Reject::NoUpgrade)?;
        let key = self.known.key.ok_or(Reject::BadUpgrade("missing_key"))?;
        let version = self.known.version.ok_or(Reject::BadUpgrade("missing_version"))?;
        if !has_token(upgrade, "websocket") {
            return Err(Reject::BadUpgrade("other_upgrade"));
        }
        if !self.values("connection").any(|value| has_token(value, "upgrade")) {
            return Err(Reject::BadUpgrade("no_connection_upgrade"));
        }
        let key = Key::parse(key).ok_or(Reject::BadUpgrade("bad_key"))?;
        if version != b"13" {
            return Err(Reject::WebSocketVersion);
        }
        Ok(key)
    }
}

impl Key {
    /// The key, if it is canonical base64 of 16 bytes.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let key = Self(value.try_into().ok()?);
        // base64 wants room for what 24 characters could hold without padding.
        let decoded = STANDARD.decode_slice(value, &mut [0; KEY_CHARS / 4 * 3]).ok()?;
        (decoded == 16).then_some(key)
    }
}

/// Appends the response that opens the WebSocket (RFC 6455 section 4.2.2).
pub fn append_upgrade(out: &mut Vec<u8>, key: &Key) {
    const START: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: ";
    let mut accept = [0; ACCEPT_CHARS];
    let hash = Sha1::new().chain_update(key.0).chain_update(GUID).finalize();
    let written = STANDARD.encode_slice(hash, &mut accept).expect("20 bytes are 28 characters of base64");
    debug_assert_eq!(written, ACCEPT_CHARS);
    out.reserve(START.len() + ACCEPT_CHARS + 4);
    out.extend_from_slice(START);
    out.extend_from_slice(&accept);
    out.extend_from_slice(b"\r\n\r\n");
}

/// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// 20 bytes of SHA-1 in base64.
const ACCEPT_CHARS: usize = 28;

/// The fields that decide about the handshake, each found at most once.
#[derive(Clone, Debug)]
struct Known<'h> {
    host: &'h str,
    origin: Option<&'h str>,
    upgrade: Option<&'h [u8]>,
    key: Option<&'h [u8]>,
    version: Option<&'h [u8]>,
}

impl<'h> Known<'h> {
    /// Check 3, as far as it is about fields. Only what is there is judged, see [`Request::upgrade`].
    fn collect(headers: &[Header<'h>]) -> Result<Self, Reject> {
        let (mut host, mut origin, mut length) = (None, None, None);
        let (mut upgrade, mut key, mut version) = (None, None, None);
        for &Header { name, value } in headers {
            let (slot, rule) = match name.len() {
                4 if name.eq_ignore_ascii_case("host") => (&mut host, "duplicate_host"),
                6 if name.eq_ignore_ascii_case("origin") => (&mut origin, "duplicate_origin"),
                7 if name.eq_ignore_ascii_case("upgrade") => (&mut upgrade, "duplicate_upgrade"),
                14 if name.eq_ignore_ascii_case("content-length") => (&mut length, "content_length"),
                17 if name.eq_ignore_ascii_case("sec-websocket-key") => (&mut key, "duplicate_key"),
                17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                    return Err(Reject::Malformed("transfer_encoding"));
                }
                21 if name.eq_ignore_ascii_case("sec-websocket-version") => {
                    (&mut version, "duplicate_version")
                }
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(Reject::Malformed(rule));
            }
        }
        if length.is_some_and(|length| length != b"0") {
            return Err(Reject::Malformed("content_length"));
        }
        let host = host.ok_or(Reject::Malformed("missing_host"))?;
        let host = ascii(host).filter(|host| is_host(host)).ok_or(Reject::Malformed("bad_host"))?;
        let origin = match origin {
            Some(origin) => Some(ascii(origin).ok_or(Reject::Malformed("bad_origin"))?),
            None => None,
        };
        Ok(Self { host, origin, upgrade, key, version })
    }
}

/// `GET /path HTTP/1.1`
#[derive(Debug)]
struct RequestLine<'h> {
    method: &'h [u8],
    target: &'h str,
    version: (u8, u8),
}

impl<'h> RequestLine<'h> {
    /// RFC 9112 section 3, with single spaces only: a lenient reading is what smuggling lives on.
    fn parse(line: &'h [u8]) -> Result<Self, Reject> {
        const BAD: Reject = Reject::Malformed("bad_request_line");
        let mut parts = line.split(|&byte| byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BAD);
        };
        let visible = !target.is_empty() && target.iter().all(u8::is_ascii_graphic);
        let known = method == b"GET" || is_token(method);
        let target = ascii(target).filter(|_| visible && known).ok_or(BAD)?;
        match *version {
            [b'H', b'T', b'T', b'P', b'/', major @ b'0'..=b'9', b'.', minor @ b'0'..=b'9'] => {
                Ok(Self { method, target, version: (major - b'0', minor - b'0') })
            }
            _ => Err(BAD),
        }
    }

    /// The checks method and version. The target's form depends on the method, so it is not judged with the rest of form:
    /// `OPTIONS *` and `CONNECT host:port` are well-formed.
    fn check(&self) -> Result<(), Reject> {
        if self.method != b"GET" {
            return Err(Reject::Method);
        }
        if !self.target.starts_with('/') && !self.target.contains("://") {
            return Err(Reject::Malformed("bad_target"));
        }
        match self.version {
            (1, 1..) => Ok(()),
            _ => Err(Reject::Version),
        }
    }
}

/// The request line without its end, and the fields with the empty line.
///
/// httparse takes a bare LF for a line end, so that is excluded here once more: nobody has to call `scan` first.
fn split_line(head: &[u8]) -> Result<(&[u8], &[u8]), Reject> {
    // Without an early exit, so that the compiler can make it 16 bytes at a time.
    let bare = head
        .iter()
        .zip(head.iter().skip(1))
        .fold(false, |found, (&left, &right)| found | ((left != b'\r') & (right == b'\n')));
    if bare {
        return Err(Reject::Malformed("bare_lf"));
    }
    match scan::find_stop(head, 0) {
        Some(end) if end > 0 && head[end] == b'\n' => Ok((&head[..end - 1], &head[end + 1..])),
        _ => Err(Reject::Malformed("bad_request_line")),
    }
}

/// Fills `headers` and tells how many there are.
fn parse_fields<'h>(fields: &'h [u8], headers: &mut [Header<'h>; HEADERS_MAX]) -> Result<usize, Reject> {
    match httparse::parse_headers(fields, headers) {
        Ok(httparse::Status::Complete((used, parsed))) if used == fields.len() => Ok(parsed.len()),
        // The check size goes before form: too many is the answer even if a field before the last one is malformed. The
        // empty line is not a field.
        _ if fields.iter().filter(|&&byte| byte == b'\n').count() > HEADERS_MAX + 1 => {
            Err(Reject::TooManyHeaders)
        }
        _ => Err(Reject::Malformed("bad_header")),
    }
}

/// Whether a comma-separated list has this token, in any case.
fn has_token(list: &[u8], token: &str) -> bool {
    list.split(|&byte| byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// RFC 9110 section 5.6.2.
fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Enough of RFC 3986 section 3.2.2 to exclude lists, blanks, paths and user names. Nothing here depends on the host;
/// what a proxy might understand differently is refused.
fn is_host(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:[]%".contains(&byte))
}

fn ascii(bytes: &[u8]) -> Option<&str> {
    if bytes.is_ascii() { std::str::from_utf8(bytes).ok() } else { None }
}
