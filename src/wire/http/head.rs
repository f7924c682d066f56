//! A request head: its first line and its fields, for the code that answers HTTP.
//!
//! Pure: bytes in, a [`Request`] that borrows them out. It never reads a socket, never looks at the meaning of cookies
//! and origins (`auth` does), knows neither WebSocket (`upgrade` does) nor refusals (`hub::refusal` does), and holds no
//! state between calls: the caller keeps the bytes and how far they were scanned.
//!
//! Invariant: accepted bytes are exactly one HTTP/1.x request head that every proxy in front of wsson reads in the same
//! way; a head that could be read in two ways was refused.
//! design: docs/endpoint.md "Handshake", docs/threats.md rows 12 and 26.

use super::query::{QueryError, Wishes};
use super::scan;
use crate::words::{count_letters, find_control, find_invisible, is_same};

/// Header fields of one head. 64: browsers send about 20, and beyond it lies only abuse.
pub(super) const HEADERS_MAX: usize = 64;

/// Why bytes are no request head, or none that has one reading only.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum HeadError {
    /// It does not begin with a letter.
    BadFirstByte,
    /// A field that is not well-formed.
    BadHeader,
    /// A Host field that is no host.
    BadHost,
    /// An Origin field that is not ASCII.
    BadOrigin,
    /// Not `METHOD target HTTP/d.d`.
    BadRequestLine,
    /// A line that ends in LF alone.
    BareLf,
    /// A Content-Length that is no plain number, or two of them.
    ContentLength,
    /// Two Host fields.
    DuplicateHost,
    /// Two Sec-WebSocket-Key fields.
    DuplicateKey,
    /// Two Origin fields.
    DuplicateOrigin,
    /// Two Upgrade fields.
    DuplicateUpgrade,
    /// Two Sec-WebSocket-Version fields.
    DuplicateVersion,
    /// No Host field, which HTTP/1.1 asks for.
    MissingHost,
    /// A NUL.
    Nul,
    /// More than [`HEADERS_MAX`] fields.
    TooManyHeaders,
    /// A Transfer-Encoding other than `chunked`, or one beside a Content-Length.
    TransferEncoding,
}

/// How the body behind a head ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// No body is announced.
    None,
    /// This many bytes.
    Length(u64),
    /// In pieces, each with its length before it (RFC 9112 section 7.1).
    Chunked,
}

/// The head of a request. It borrows the bytes it was read from.
#[derive(Clone, Debug)]
pub struct Request<'h> {
    line: RequestLine<'h>,
    /// All fields and the empty line, found well-formed.
    fields: &'h [u8],
    pub(super) known: Known<'h>,
}

/// Reads a head of which all bytes are there, up to and including its empty line.
///
/// # Errors
/// The fault of the head. Too many fields are the answer even if something before the last of them is malformed: the
/// check of the size goes before that of the form.
pub fn parse(head: &[u8]) -> Result<Request<'_>, HeadError> {
    match parse_prefix(head) {
        Ok(Some((request, end))) if end == head.len() => Ok(request),
        Ok(_) => Err(HeadError::BadRequestLine),
        // The first line and the empty line are no fields.
        Err(_) if head.iter().filter(|&&byte| byte == b'\n').count() > HEADERS_MAX + 2 => {
            Err(HeadError::TooManyHeaders)
        }
        Err(error) => Err(error),
    }
}

/// Reads the head that `bytes` begin with, in one pass, and returns where it ends; None when it is not complete. On
/// success it agrees with [`scan`](scan::scan) and [`parse`]; these two say which error goes first.
pub fn parse_prefix(bytes: &[u8]) -> Result<Option<(Request<'_>, usize)>, HeadError> {
    let Some((line, fields_at)) = RequestLine::parse(bytes, scan::empty_line(bytes))? else {
        return Ok(None);
    };
    let mut known = Known::default();
    let (mut at, mut count) = (fields_at, 0);
    loop {
        match field(bytes, at)? {
            Line::Cut => return Ok(None),
            Line::Empty { next } => {
                at = next;
                break;
            }
            Line::Field { name, value, next } => {
                count += 1;
                if count > HEADERS_MAX {
                    return Err(HeadError::TooManyHeaders);
                }
                known.note(name, value)?;
                at = next;
            }
        }
    }
    known.check(line.version)?;
    Ok(Some((Request { line, fields: &bytes[fields_at..at], known }, at)))
}

impl<'h> Request<'h> {
    /// The method, in the case it was sent in.
    pub fn method(&self) -> &'h str {
        text(self.line.method)
    }

    /// The request target as it was sent: a path with its query, or an absolute URI. Visible ASCII only.
    pub fn target(&self) -> &'h str {
        text(self.line.target)
    }

    /// The page's parameters in the query.
    ///
    /// # Errors
    /// The first parameter that is wrong.
    pub fn wishes(&self) -> Result<Wishes<'h>, QueryError> {
        if self.line.target.contains(&b'?') { Wishes::read(self.target()) } else { Ok(Wishes::default()) }
    }

    /// Whether this is the method.
    pub(super) fn is_method(&self, method: &[u8]) -> bool {
        self.line.method == method
    }

    /// Whether the target is a path, or a URL.
    pub(super) fn has_target(&self) -> bool {
        self.line.target.first() == Some(&b'/') || self.target().contains("://")
    }

    /// Whether there is a Host field. A request of HTTP/1.0 may lack it.
    pub(super) fn has_host(&self) -> bool {
        self.known.host.is_some()
    }

    /// The path of the target, without its query, and of a URL without scheme and authority.
    pub fn path(&self) -> &'h str {
        let target = self.target();
        let path = match target.split_once("://") {
            Some((_, rest)) if !target.starts_with('/') => rest.find('/').map_or("/", |slash| &rest[slash..]),
            _ => target,
        };
        path.split_once('?').map_or(path, |(path, _)| path)
    }

    /// The numbers of `HTTP/1.1`.
    pub fn version(&self) -> (u8, u8) {
        self.line.version
    }

    /// The one Host field; empty in a request of HTTP/1.0 that has none.
    pub fn host(&self) -> &'h str {
        text(self.known.host.unwrap_or_default())
    }

    /// The Origin field, there is at most one; ASCII.
    pub fn origin(&self) -> Option<&'h str> {
        self.known.origin.map(text)
    }

    /// How the body behind the head ends.
    pub fn framing(&self) -> Framing {
        match self.known.length {
            _ if self.known.chunked => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None => Framing::None,
        }
    }

    /// Whether the connection goes on behind the answer: in HTTP/1.1 unless the client says otherwise, in HTTP/1.0 not.
    pub fn keeps_alive(&self) -> bool {
        self.line.version >= (1, 1) && !self.known.connection_close
    }

    /// Whether the client waits for [`CONTINUE`](super::CONTINUE) before it sends the body; None when it expects something
    /// else, which gets 417 (RFC 9110 section 10.1.1). In HTTP/1.0 the field means nothing.
    pub fn awaits_continue(&self) -> Option<bool> {
        if self.line.version < (1, 1) {
            return Some(false);
        }
        let mut expected = self.values("expect");
        match (expected.next(), expected.next()) {
            (None, _) => Some(false),
            (Some(value), None) if value.eq_ignore_ascii_case(b"100-continue") => {
                Some(self.framing() != Framing::None)
            }
            _ => None,
        }
    }

    /// The values of all Cookie fields, as they came.
    pub fn cookies(&self) -> impl Iterator<Item = &'h [u8]> + '_ {
        let (one, several) = match self.known.cookies {
            Cookies::None => (None, false),
            Cookies::One(value) => (Some(value), false),
            Cookies::Several => (None, true),
        };
        one.into_iter().chain(several.then(|| self.values("cookie")).into_iter().flatten())
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
        Fields { bytes: self.fields, at: 0 }
    }
}

/// `GET /path HTTP/1.1`
#[derive(Clone, Copy, Debug)]
struct RequestLine<'h> {
    method: &'h [u8],
    target: &'h [u8],
    version: (u8, u8),
}

impl<'h> RequestLine<'h> {
    /// RFC 9112 section 3, with single spaces only: smuggling lives on lenient readings. The target's form depends
    /// on the method (`OPTIONS *` and `CONNECT host:port` are well-formed), so it is not judged here.
    fn parse(bytes: &'h [u8], start: usize) -> Result<Option<(Self, usize)>, HeadError> {
        const BAD: HeadError = HeadError::BadRequestLine;
        let Some((end, next)) = line_end(bytes, start, BAD)? else { return Ok(None) };
        let (rest, version) = bytes[start..end].split_last_chunk().ok_or(BAD)?;
        let &[b' ', b'H', b'T', b'T', b'P', b'/', major @ b'0'..=b'9', b'.', minor @ b'0'..=b'9'] = version
        else {
            return Err(BAD);
        };
        let space = rest.iter().position(|&byte| byte == b' ').ok_or(BAD)?;
        let (method, target) = (&rest[..space], &rest[space + 1..]);
        if !method.first().is_some_and(u8::is_ascii_alphabetic) {
            return Err(HeadError::BadFirstByte); // a method that RFC 9110 allows and no specification defines
        }
        if target.is_empty() || find_invisible(target, 0).is_some() || !is_token(method) {
            return Err(BAD);
        }
        Ok(Some((Self { method, target, version: (major - b'0', minor - b'0') }, next)))
    }
}

/// One line behind the first.
enum Line<'h> {
    Field {
        name: &'h [u8],
        value: &'h [u8],
        next: usize,
    },
    /// The end of the head.
    Empty {
        next: usize,
    },
    /// More bytes are needed.
    Cut,
}

/// The line that begins at `at`. RFC 9112 section 5, without folding and without blanks before the colon.
#[inline(always)] // its parts are used where they are
fn field(bytes: &[u8], at: usize) -> Result<Line<'_>, HeadError> {
    let rest = &bytes[at..];
    // Names are letters and hyphens but for a few; the byte that ends those is found one by one.
    let letters = count_letters(rest);
    let Some(others) = rest[letters..].iter().position(|&byte| !is(byte, TOKEN)) else {
        return Ok(Line::Cut);
    };
    let length = letters + others;
    if rest[length] != b':' || length == 0 {
        return match rest {
            [b'\r'] => Ok(Line::Cut),
            [b'\r', b'\n', ..] => Ok(Line::Empty { next: at + 2 }),
            _ => Err(unexpected(rest[length], HeadError::BadHeader)),
        };
    }
    let colon = at + length;
    let Some((end, next)) = line_end(bytes, colon + 1, HeadError::BadHeader)? else { return Ok(Line::Cut) };
    Ok(Line::Field { name: &rest[..length], value: trim_blanks(&bytes[colon + 1..end]), next })
}

/// Where the line that goes on at `from` ends, and where the next one begins.
#[inline(always)]
fn line_end(bytes: &[u8], from: usize, bad: HeadError) -> Result<Option<(usize, usize)>, HeadError> {
    let Some(end) = find_control(bytes, from) else { return Ok(None) };
    match bytes[end..] {
        [b'\r', b'\n', ..] => Ok(Some((end, end + 2))),
        [b'\r'] => Ok(None),
        _ => Err(unexpected(bytes[end], bad)),
    }
}

fn unexpected(byte: u8, bad: HeadError) -> HeadError {
    match byte {
        b'\n' => HeadError::BareLf,
        0 => HeadError::Nul,
        _ => bad,
    }
}

/// The fields of a head that was found well-formed.
struct Fields<'h> {
    bytes: &'h [u8],
    at: usize,
}

impl<'h> Iterator for Fields<'h> {
    type Item = (&'h str, &'h [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        match field(self.bytes, self.at) {
            Ok(Line::Field { name, value, next }) => {
                self.at = next;
                Some((text(name), value))
            }
            _ => None,
        }
    }
}

/// The fields that decide about something, found while the head was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Known<'h> {
    host: Option<&'h [u8]>,
    origin: Option<&'h [u8]>,
    length: Option<u64>,
    chunked: bool,
    cookies: Cookies<'h>,
    pub(super) upgrade: Option<&'h [u8]>,
    pub(super) key: Option<&'h [u8]>,
    pub(super) version: Option<&'h [u8]>,
    /// A Connection field names `upgrade`.
    pub(super) connection_upgrade: bool,
    /// A Connection field names `close`.
    connection_close: bool,
    /// There is a Sec-WebSocket-Protocol field.
    pub(super) protocol: bool,
    /// There is an X-Forwarded-For field.
    pub(super) forwarded: bool,
}

#[derive(Clone, Debug, Default)]
enum Cookies<'h> {
    #[default]
    None,
    One(&'h [u8]),
    Several,
}

impl<'h> Known<'h> {
    /// A field that must be there once at most is refused when it comes again.
    #[inline]
    fn note(&mut self, name: &[u8], value: &'h [u8]) -> Result<(), HeadError> {
        // A name is a token, without control characters.
        let (slot, again) = match name.len() {
            4 if is_same(name, b"host") => (&mut self.host, HeadError::DuplicateHost),
            6 if is_same(name, b"cookie") => {
                self.note_cookies(value);
                return Ok(());
            }
            6 if is_same(name, b"origin") => (&mut self.origin, HeadError::DuplicateOrigin),
            7 if is_same(name, b"upgrade") => (&mut self.upgrade, HeadError::DuplicateUpgrade),
            10 if is_same(name, b"connection") => {
                if is_same(value, b"upgrade") {
                    self.connection_upgrade = true; // as browsers other than Firefox write it
                    return Ok(());
                }
                self.connection_upgrade |= has_token(value, b"upgrade");
                self.connection_close |= has_token(value, b"close");
                return Ok(());
            }
            14 if is_same(name, b"content-length") => return self.note_length(value),
            15 if is_same(name, b"x-forwarded-for") => {
                self.forwarded = true;
                return Ok(());
            }
            17 if is_same(name, b"sec-websocket-key") => (&mut self.key, HeadError::DuplicateKey),
            17 if is_same(name, b"transfer-encoding") => return self.note_encoding(value),
            21 if is_same(name, b"sec-websocket-version") => (&mut self.version, HeadError::DuplicateVersion),
            22 if is_same(name, b"sec-websocket-protocol") => {
                self.protocol = true;
                return Ok(());
            }
            _ => return Ok(()),
        };
        if slot.replace(value).is_some() { Err(again) } else { Ok(()) }
    }

    fn note_cookies(&mut self, value: &'h [u8]) {
        self.cookies = match self.cookies {
            Cookies::None => Cookies::One(value),
            Cookies::One(_) | Cookies::Several => Cookies::Several,
        };
    }

    /// RFC 9110 section 8.6, without lists, signs, blanks and leading zeros, and below 10^15: nothing overflows.
    fn note_length(&mut self, value: &[u8]) -> Result<(), HeadError> {
        let plain = value.iter().all(u8::is_ascii_digit) && (1..=15).contains(&value.len());
        if !plain || (value[0] == b'0' && value.len() > 1) {
            return Err(HeadError::ContentLength);
        }
        let length = value.iter().fold(0, |length, &digit| length * 10 + u64::from(digit - b'0'));
        match self.length.replace(length) {
            None => Ok(()),
            Some(_) => Err(HeadError::ContentLength),
        }
    }

    /// RFC 9112 section 6.1: `chunked` alone, and once.
    fn note_encoding(&mut self, value: &[u8]) -> Result<(), HeadError> {
        if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(HeadError::TransferEncoding);
        }
        self.chunked = true;
        Ok(())
    }

    fn check(&self, version: (u8, u8)) -> Result<(), HeadError> {
        // RFC 9112 section 6.1: HTTP/1.0 has no transfer codings.
        if self.chunked && (self.length.is_some() || version < (1, 1)) {
            return Err(HeadError::TransferEncoding);
        }
        match self.host {
            Some(host) if host.is_empty() || !all(host, HOST) => {
                return Err(HeadError::BadHost);
            }
            None if version >= (1, 1) => return Err(HeadError::MissingHost),
            _ => {}
        }
        match self.origin {
            Some(origin) if !origin.is_ascii() => Err(HeadError::BadOrigin),
            _ => Ok(()),
        }
    }
}

/// Whether a comma-separated list has this token, in any case. Empty elements are none (RFC 9110 section 5.6.1).
pub(super) fn has_token<const N: usize>(list: &[u8], token: &[u8; N]) -> bool {
    // Most lists are one token.
    is_same(list, token) || list.split(|&byte| byte == b',').any(|item| is_same(trim_blanks(item), token))
}

/// RFC 9110 section 5.6.3: spaces and tabs.
#[inline]
fn trim_blanks(bytes: &[u8]) -> &[u8] {
    let is_blank = |byte: u8| matches!(byte, b' ' | b'\t');
    match bytes {
        // As nearly every field is written.
        [b' ', first, .., last] if !is_blank(*first) && !is_blank(*last) => &bytes[1..],
        _ => trim_all_blanks(bytes),
    }
}

fn trim_all_blanks(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// RFC 9110 section 5.6.2.
fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all(bytes, TOKEN)
}

/// Bytes that were found to be ASCII.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it was found to be ASCII when the head was read")
}

#[inline(always)]
fn is(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

fn all(bytes: &[u8], class: u8) -> bool {
    bytes.iter().fold(class, |left, &byte| left & CLASSES[usize::from(byte)]) != 0
}

/// Whether all of these bytes are digits of base64.
pub(super) fn is_base64(bytes: &[u8]) -> bool {
    all(bytes, BASE64)
}

/// RFC 9110 section 5.6.2.
const TOKEN: u8 = 1;
/// Enough of RFC 3986 section 3.2.2 to exclude lists, blanks, paths and user names. Nothing here depends on the host;
/// a host that a proxy might understand differently is refused.
const HOST: u8 = 2;
/// The digits of base64 (RFC 4648 section 4).
const BASE64: u8 = 4;

/// Which classes a byte is in. A table, because a class of several ranges costs a handful of branches per byte.
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        classes[byte as usize] = match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => TOKEN | HOST | BASE64,
            b'-' | b'.' | b'_' | b'~' | b'%' => TOKEN | HOST,
            b'+' => TOKEN | BASE64,
            b'!' | b'#' | b'$' | b'&' | b'\'' | b'*' | b'^' | b'`' | b'|' => TOKEN,
            b'/' => BASE64,
            b':' | b'[' | b']' => HOST,
            _ => 0,
        };
        byte += 1;
    }
    classes
};
