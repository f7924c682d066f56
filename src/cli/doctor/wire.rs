//! As much of a browser as a visit needs: a URL, a connection, a handshake, and frames.
//!
//! No step waits longer than its caller allows.

use crate::net::tls::{Encrypted, connect};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// For each step of a visit.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// More than any response's head or first message here.
const BYTES_MAX: usize = 256 * 1024;
/// The nonce of RFC 6455 section 1.3, and the answer to it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(super) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub(super) const PING: u8 = 9;
pub(super) const CLOSE: u8 = 8;
const PONG: u8 = 10;

/// Where a browser goes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Url {
    pub(super) secure: bool,
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path: String,
}

impl Url {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no URL like wss://www.example.com/ws");
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "wss" | "https" => true,
            "ws" | "http" => false,
            _ => return Err(wrong()),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let path = path.split('#').next().unwrap_or_default();
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| wrong())?),
            _ => (authority, if secure { 443 } else { 80 }),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let safe = |byte: u8| byte.is_ascii_graphic() && byte != b'@';
        match !host.is_empty() && host.bytes().all(safe) && path.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Self { secure, host: host.to_owned(), port, path }),
            false => Err(wrong()),
        }
    }

    /// As the field Host has it.
    fn authority(&self) -> String {
        let host = match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => self.host.clone(),
        };
        match (self.secure, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// The addresses that the name has.
    pub(super) fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        Ok((self.host.as_str(), self.port).to_socket_addrs()?.collect())
    }
}

trait ReadWrite: Read + Write {}
impl<S: Read + Write> ReadWrite for S {}

/// A connection to where the URL leads.
pub(super) struct Line {
    stream: Box<dyn ReadWrite>,
    socket: TcpStream,
    /// Bytes that were read and not yet used.
    buffer: Vec<u8>,
    /// The version of TLS, if it is encrypted.
    pub(super) tls: Option<String>,
}

/// A response's head, and as much of its body as came with it.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    head: String,
}

impl Response {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

impl Line {
    pub(super) fn open(address: SocketAddr) -> io::Result<TcpStream> {
        let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    }

    /// Over this connection, encrypted if the URL says so; an error is a sentence about TLS.
    pub(super) fn over(socket: TcpStream, url: &Url) -> Result<Self, String> {
        let handle = socket.try_clone().map_err(|error| crate::sys::describe(&error))?;
        let (stream, tls): (Box<dyn ReadWrite>, _) = match url.secure {
            false => (Box::new(socket), None),
            true => {
                let stream: Box<dyn Encrypted> = connect(socket, &url.host)?;
                let version = stream.version();
                (Box::new(stream), Some(version))
            }
        };
        Ok(Self { stream, socket: handle, buffer: Vec::new(), tls })
    }

    /// Asks for a WebSocket with these fields.
    pub(super) fn ask(&mut self, url: &Url, fields: &[(&str, &str)]) -> io::Result<Response> {
        let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: {KEY}\r\nUser-Agent: wsson-doctor\r\n{fields}\r\n",
            url.path,
            url.authority()
        );
        self.stream.write_all(request.as_bytes())?;
        self.stream.flush()?;
        let deadline = Instant::now() + PATIENCE;
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            self.more(deadline)?;
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end);
        let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
        let status = status.ok_or_else(|| io::Error::other("what answers is no HTTP server"))?;
        Ok(Response { status, head })
    }

    /// The next frame: its opcode and its payload. Pings are answered before they are returned.
    pub(super) fn frame(&mut self, deadline: Instant) -> io::Result<(u8, Vec<u8>)> {
        let (opcode, start, end) = loop {
            if let Some(found) = whole(&self.buffer)? {
                break found;
            }
            self.more(deadline)?;
        };
        let payload = self.buffer[start..end].to_vec();
        self.buffer.drain(..end);
        if opcode == PING {
            self.send(PONG, &payload)?;
        }
        Ok((opcode, payload))
    }

    /// A control frame; the mask is zero, which is a mask like any other.
    fn send(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        let length = payload.len().min(125) as u8;
        let mut frame = vec![0x80 | opcode, 0x80 | length, 0, 0, 0, 0];
        frame.extend_from_slice(&payload[..usize::from(length)]);
        self.stream.write_all(&frame)?;
        self.stream.flush()
    }

    /// Sends a close; a server that misses it sees the end of the connection.
    pub(super) fn close(mut self) {
        let _ = self.send(CLOSE, &1000_u16.to_be_bytes());
    }

    fn more(&mut self, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.socket.set_read_timeout(Some(left))?;
        let mut chunk = [0; 8192];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) if self.buffer.len() + count > BYTES_MAX => Err(io::Error::other("it sends too much")),
            Ok(count) => {
                self.buffer.extend_from_slice(&chunk[..count]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::TimedOut.into()),
            Err(error) => Err(error),
        }
    }
}

/// The first frame of the buffer, if it is whole: opcode, begin and end of the payload. Servers do not mask.
fn whole(buffer: &[u8]) -> io::Result<Option<(u8, usize, usize)>> {
    let [first, second, ..] = *buffer else { return Ok(None) };
    if second & 0x80 != 0 || first & 0x70 != 0 {
        return Err(io::Error::other("what came is no frame of a server"));
    }
    let (start, length) = match second & 0x7f {
        126 => match buffer.get(2..4) {
            Some(bytes) => (4, usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))),
            None => return Ok(None),
        },
        127 => return Err(io::Error::other("it sends too much")),
        length => (2, usize::from(length)),
    };
    let end = start + length;
    Ok((buffer.len() >= end).then_some((first & 0x0f, start, end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_browsers_read_them() {
        let url = |secure, host: &str, port, path: &str| {
            Ok(Url { secure, host: host.into(), port, path: path.into() })
        };
        for (text, expected) in [
            ("wss://ws.example.com", url(true, "ws.example.com", 443, "/")),
            ("https://example.com/ws?a=b#c", url(true, "example.com", 443, "/ws?a=b")),
            ("WS://localhost:8099/", url(false, "localhost", 8099, "/")),
            ("http://[::1]:80?x", url(false, "::1", 80, "/?x")),
            ("ws://[::1]", url(false, "::1", 80, "/")),
        ] {
            assert_eq!(Url::parse(text), expected, "{text}");
        }
        for text in ["example.com", "ftp://a", "ws://", "ws://a:b/", "ws://a b/", "ws://me@a/", "ws://a/\r\n"]
        {
            assert!(Url::parse(text).is_err(), "{text}");
        }
        let authority = |text: &str| Url::parse(text).map(|url| url.authority());
        assert_eq!(authority("ws://[::1]:8099"), Ok("[::1]:8099".into()));
        assert_eq!(authority("wss://a.example:443"), Ok("a.example".into()));
    }

    #[test]
    fn frames_are_whole_or_waited_for() {
        assert_eq!(whole(b"\x81").ok(), Some(None));
        assert_eq!(whole(b"\x81\x02a").ok(), Some(None));
        assert_eq!(whole(b"\x81\x02ab\x89").ok(), Some(Some((1, 2, 4))));
        assert_eq!(whole(b"\x81\x7e\x00\x80").ok(), Some(None));
        assert!(whole(b"\x81\x80").is_err() && whole(b"\xf1\x00").is_err() && whole(b"HTTP").is_err());
    }
}
