//! A browser, from RFC 6455 alone: request head, cookies, masked frames out, unmasked frames in.

use crate::server::{ORIGIN, SECRET, Server, Socket};
use md5::{Digest, Md5};
use std::fmt::Write as _;
use std::io::Read;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// The key of RFC 6455, section 1.3, and the answer to it.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A login as the site would have signed it.
#[derive(Clone, Debug)]
pub(crate) struct Cookies {
    pub(crate) token: String,
    pub(crate) time: String,
    pub(crate) digest: String,
    pub(crate) user: Option<String>,
}

impl Cookies {
    /// A token of its own, issued now, with the default digest.
    pub(crate) fn fresh() -> Self {
        Self::issued(SECRET, &fresh_token(), now())
    }

    pub(crate) fn issued(secret: &str, token: &str, time: u64) -> Self {
        let digest = hex(&Md5::digest(format!("{secret}{token}{time}")));
        Self { token: token.to_owned(), time: time.to_string(), digest, user: None }
    }

    pub(crate) fn header(&self) -> String {
        let mut text = format!("token={}; time={}; digest={}", self.token, self.time, self.digest);
        if let Some(user) = &self.user {
            text += &format!("; user={user}");
        }
        text
    }
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs()
}

pub(crate) fn fresh_token() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!(
        "{:032x}",
        Md5::digest(format!("{} {count}", std::process::id()))
            .iter()
            .fold(0u128, |sum, byte| sum << 8 | u128::from(*byte))
    )
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A request head that can be spoilt.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) request_line: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn good(cookies: &Cookies) -> Self {
        Self::bare()
            .add("Upgrade", "websocket")
            .add("Connection", "Upgrade")
            .add("Sec-WebSocket-Key", KEY)
            .add("Sec-WebSocket-Version", "13")
            .add("Origin", ORIGIN)
            .add("Cookie", &cookies.header())
    }

    /// Method, target and host only.
    pub(crate) fn bare() -> Self {
        Self {
            request_line: "GET / HTTP/1.1".to_owned(),
            fields: vec![("Host".into(), "example.com".into())],
        }
    }

    pub(crate) fn line(mut self, line: &str) -> Self {
        line.clone_into(&mut self.request_line);
        self
    }

    pub(crate) fn add(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self
    }

    /// Replaces the value in place.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        for field in self.fields.iter_mut().filter(|(other, _)| other.eq_ignore_ascii_case(name)) {
            value.clone_into(&mut field.1);
        }
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.request_line);
        for (name, value) in &self.fields {
            text += &format!("{name}: {value}\r\n");
        }
        (text + "\r\n").into_bytes()
    }
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Response {
    #[track_caller]
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no whole head in {text:?}"));
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line in {head:?}"));
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// Sends a head and reads the refusal to its end. It must be complete in itself: nothing hangs, nothing is cut.
#[track_caller]
pub(crate) fn refusal(server: &Server, request: &[u8]) -> Response {
    let mut socket = server.connect();
    socket.send(request);
    read_refusal(&mut socket)
}

#[track_caller]
pub(crate) fn read_refusal(socket: &mut Socket) -> Response {
    let response = Response::parse(&socket.read_all());
    assert_eq!(
        response.field("Content-Length").and_then(|value| value.parse().ok()),
        Some(response.body.len()),
        "the length is not that of the body: {response:?}"
    );
    assert_eq!(response.field("Connection"), Some("close"), "{response:?}");
    let kind = response.field("Content-Type").unwrap_or_default();
    assert!(kind.starts_with("text/plain"), "{response:?}");
    assert_eq!(response.body.trim_end().lines().count(), 1, "not one line: {response:?}");
    response
}

/// A frame from the server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Frame {
    pub(crate) fin: bool,
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn text(text: &str) -> Self {
        Self { fin: true, opcode: TEXT, payload: text.into() }
    }

    pub(crate) fn binary(payload: &[u8]) -> Self {
        Self { fin: true, opcode: BINARY, payload: payload.to_vec() }
    }

    pub(crate) fn part(fin: bool, opcode: u8, payload: &[u8]) -> Self {
        Self { fin, opcode, payload: payload.to_vec() }
    }

    pub(crate) fn close_code(&self) -> Option<u16> {
        let code = self.payload.get(..2)?;
        Some(u16::from_be_bytes([code[0], code[1]]))
    }
}

/// A masked frame, as a browser sends it. The first byte is given whole, for what no browser would send.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = header(first, payload.len());
    bytes[1] |= 0x80;
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// First byte and minimal length, without the mask bit and the mask.
pub(crate) fn header(first: u8, length: usize) -> Vec<u8> {
    match length {
        0..126 => vec![first, length as u8],
        126..65536 => [&[first, 126][..], &(length as u16).to_be_bytes()].concat(),
        _ => [&[first, 127][..], &(length as u64).to_be_bytes()].concat(),
    }
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    frame(0x80 | TEXT, text.as_bytes())
}

pub(crate) fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(0x80 | CLOSE, &[&code.to_be_bytes(), reason].concat())
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) token: String,
    pub(crate) socket: Socket,
    input: Vec<u8>,
}

impl Client {
    /// Connects with a token of its own and expects to be let in.
    #[track_caller]
    pub(crate) fn connect(server: &Server) -> Self {
        Self::with(server, &Cookies::fresh())
    }

    #[track_caller]
    pub(crate) fn with(server: &Server, cookies: &Cookies) -> Self {
        let mut client = Self::raw(server.connect(), &cookies.token);
        client.socket.send(&Head::good(cookies).bytes());
        client.expect_upgrade();
        client
    }

    /// On a socket of which nothing has been read or written yet.
    pub(crate) fn raw(socket: Socket, token: &str) -> Self {
        Self { token: token.to_owned(), socket, input: Vec::new() }
    }

    #[track_caller]
    pub(crate) fn expect_upgrade(&mut self) -> Response {
        while !self.input.windows(4).any(|four| four == b"\r\n\r\n") {
            assert!(self.read_more(), "cut off after {:?}", String::from_utf8_lossy(&self.input));
        }
        let end = self.input.windows(4).position(|four| four == b"\r\n\r\n").expect("just seen") + 4;
        let head: Vec<u8> = self.input.drain(..end).collect();
        let response = Response::parse(&head);
        assert_eq!(response.status, 101, "{response:?}");
        assert_eq!(response.field("Sec-WebSocket-Accept"), Some(ACCEPT), "{response:?}");
        response
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.socket.send(bytes);
    }

    #[track_caller]
    pub(crate) fn send_text(&mut self, message: &str) {
        self.send(&text(message));
    }

    /// The next frame; its form is checked as a browser would.
    #[track_caller]
    pub(crate) fn receive(&mut self) -> Frame {
        self.receive_or_end().expect("a frame, but the connection ended")
    }

    /// The next frame, or nothing when the connection ended between frames.
    #[track_caller]
    pub(crate) fn receive_or_end(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take_frame() {
                return Some(frame);
            }
            if !self.read_more() {
                assert!(self.input.is_empty(), "the connection ended inside a frame: {:?}", self.input);
                return None;
            }
        }
    }

    #[track_caller]
    fn take_frame(&mut self) -> Option<Frame> {
        let (&first, &second) = (self.input.first()?, self.input.get(1)?);
        assert_eq!(first & 0x70, 0, "reserved bits in {first:#x}");
        assert_eq!(second & 0x80, 0, "a server's frame is masked");
        let (start, length) = match second {
            126 => (4, u64::from(u16::from_be_bytes(self.input.get(2..4)?.try_into().expect("two bytes")))),
            127 => (10, u64::from_be_bytes(self.input.get(2..10)?.try_into().expect("eight bytes"))),
            short => (2, u64::from(short)),
        };
        let minimal = header(first, length as usize).len();
        assert_eq!(start, minimal, "a length of {length} is not written in its shortest form");
        let end = start + length as usize;
        let payload = self.input.get(start..end)?.to_vec();
        self.input.drain(..end);
        let frame = Frame { fin: first & 0x80 != 0, opcode: first & 0x0f, payload };
        assert!(frame.opcode < 3 || (8..11).contains(&frame.opcode), "reserved opcode: {frame:?}");
        assert!(frame.opcode < 8 || (frame.fin && length < 126), "no valid control frame: {frame:?}");
        Some(frame)
    }

    /// False at the end of the connection. A reset is an end too: the server may close with input unread.
    #[track_caller]
    fn read_more(&mut self) -> bool {
        let mut buffer = [0; 65536];
        match self.socket.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.input.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing came: {error}"),
        }
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, expected: &Frame) {
        let found = self.receive();
        assert_eq!(&found, expected);
    }

    #[track_caller]
    pub(crate) fn expect_text(&mut self, message: &str) {
        self.expect(&Frame::text(message));
    }

    #[track_caller]
    pub(crate) fn expect_pong(&mut self, payload: &[u8]) {
        self.expect(&Frame::part(true, PONG, payload));
    }

    /// A close frame with this code and reason.
    #[track_caller]
    pub(crate) fn expect_close(&mut self, code: u16, reason: &str) {
        let found = self.receive();
        assert_eq!((found.opcode, found.close_code()), (CLOSE, Some(code)), "{found:?}");
        assert_eq!(String::from_utf8_lossy(&found.payload[2..]), reason);
    }

    /// A close frame with this code, whatever its reason.
    #[track_caller]
    pub(crate) fn expect_close_code(&mut self, code: u16) {
        let found = self.receive();
        assert_eq!((found.opcode, found.close_code()), (CLOSE, Some(code)), "{found:?}");
    }

    /// The end of the connection, with nothing before it.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        let found = self.receive_or_end();
        assert_eq!(found, None, "something came instead of the end");
    }

    /// The frames that came up to now: a ping is sent, and those before its pong were sent earlier.
    #[track_caller]
    pub(crate) fn so_far(&mut self) -> Vec<Frame> {
        self.send(&frame(0x80 | PING, b"so far"));
        let mut frames = Vec::new();
        loop {
            match self.receive() {
                frame if frame == Frame::part(true, PONG, b"so far") => return frames,
                frame => frames.push(frame),
            }
        }
    }

    /// The texts among them.
    #[track_caller]
    pub(crate) fn so_far_texts(&mut self) -> Vec<String> {
        let texts = self.so_far().into_iter().filter(|frame| frame.opcode == TEXT);
        texts.map(|frame| String::from_utf8(frame.payload).expect("text is text")).collect()
    }

    /// Nothing has come, and the connection is open.
    #[track_caller]
    pub(crate) fn expect_nothing(&mut self) {
        let frames = self.so_far();
        assert!(frames.is_empty(), "{frames:?}");
    }

    /// Everything up to the end of the connection.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.receive_or_end()).collect()
    }
}
