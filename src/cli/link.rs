//! A connection to the control socket of a running server, for one command and its replies.
//!
//! It writes, shuts down its writing side, and reads until the server closes: then every command was executed and
//! every reply has arrived (COMMANDS.md "Frames"). [`PATIENCE`] is how long it waits for the connection, for
//! the server to take more of the written bytes, and for the whole answer: each of the three.

use super::args::Args;
use super::{Exit, Failure, load};
use crate::auth::Secret;
use crate::config::Settings;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A server answers at once; one that is stopped or stuck never does.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Far more than any status has.
const REPLY_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A frame that the server sent.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Frame {
    pub(crate) command: u8,
    pub(crate) payload: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum LinkError {
    /// No program listens there.
    Unreachable(String),
    /// A server listens and does not accept: it is stopped or stuck.
    Hangs(String),
    /// A program listens, but this user may not connect.
    NotPermitted(String),
    /// Connected, and then it went wrong.
    NoAnswer(String),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(text) | Self::Hangs(text) | Self::NotPermitted(text) | Self::NoAnswer(text) => {
                f.write_str(text)
            }
        }
    }
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        let text = error.to_string();
        match error {
            LinkError::Unreachable(_) => Self::new(Exit::NotRunning, text).or("wsson status"),
            LinkError::Hangs(_) => Self::new(Exit::NotPermitted, text).or("wsson stop --now"),
            LinkError::NotPermitted(_) => Self::new(Exit::NotPermitted, text)
                .or(
                "the same as root, or as a member of the socket's group; for the user of a site: adduser www-data wsson",
            ),
            LinkError::NoAnswer(_) => Self::new(Exit::Failed, text),
        }
    }
}

/// Where a server is asked, and the key to show there.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) address: String,
    key: Option<Secret>,
}

impl Door {
    /// The control socket of these settings: a Unix socket if there is one, which needs no key.
    pub(crate) fn of(settings: &Settings) -> Result<Self, LinkError> {
        let unix = settings.control.iter().find(|address| address.starts_with("unix://"));
        let address = unix.or(settings.control.first());
        let address = address.expect("settings have a control socket").clone();
        Self::at(settings, address)
    }

    /// The one that `--control` names, else that of the settings.
    pub(crate) fn chosen(args: &Args, settings: &Settings) -> Result<Self, Failure> {
        let Some(address) = args.value("control")? else { return Ok(Self::of(settings)?) };
        let folder = std::env::current_dir().unwrap_or_default();
        let address = crate::config::control_address(address, &folder)
            .map_err(|why| super::usage(args, format!("--control: {why}")))?;
        if address.starts_with("tls://") {
            return Err(super::usage(args, format!("--control: {NO_TLS}")));
        }
        Ok(Self::at(settings, address)?)
    }

    fn at(settings: &Settings, address: String) -> Result<Self, LinkError> {
        let file = settings.control_key_files.first().filter(|_| !address.starts_with("unix://"));
        let key = file.map(|file| load::control_key(file)).transpose();
        Ok(Self { address, key: key.map_err(|failure| LinkError::NotPermitted(failure.text))? })
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

/// Sends the bytes to the server there and returns all that it answers.
pub(crate) fn exchange(door: &Door, bytes: &[u8]) -> Result<Vec<Frame>, LinkError> {
    exchange_within(door, bytes, PATIENCE)
}

/// The same; the whole answer may take so long.
pub(crate) fn exchange_within(
    door: &Door,
    bytes: &[u8],
    patience: Duration,
) -> Result<Vec<Frame>, LinkError> {
    let Door { address, key } = door;
    let Some(key) = key else { return exchange_frames(address, bytes, patience) };
    let mut frames = exchange_frames(address, &[&show(key), bytes].concat(), patience)?;
    match frames.first().map(|frame| frame.command) {
        Some(b'Y') => {
            frames.remove(0);
            Ok(frames)
        }
        Some(b'E') => Err(wrong_key(address)),
        _ => Ok(frames),
    }
}

/// The frame that shows a key.
fn show(key: &Secret) -> Vec<u8> {
    let key = key.as_bytes();
    [format!("{}y", key.len()).as_bytes(), key].concat()
}

fn wrong_key(address: &str) -> LinkError {
    LinkError::NotPermitted(format!("the control key is not the one of {address}"))
}

fn exchange_frames(address: &str, bytes: &[u8], patience: Duration) -> Result<Vec<Frame>, LinkError> {
    let mut stream = Stream::connect(address).map_err(|error| cannot_connect(address, &error))?;
    let no_answer = |why: &str| LinkError::NoAnswer(format!("no answer from {address}: {why}"));
    // A server that refuses closes early; its reason is then waiting to be read, and better than "broken pipe".
    let written = stream.write_all(bytes).and_then(|()| stream.finish());
    let read = stream.read_until_closed(patience);
    let frames = read.and_then(|answer| split(&answer));
    match (written, frames) {
        (Err(error), Ok(frames)) if frames.is_empty() => Err(no_answer(&describe(&error, PATIENCE))),
        (_, Ok(frames)) => Ok(frames),
        (_, Err(error)) => Err(no_answer(&describe(&error, patience))),
    }
}

fn cannot_connect(address: &str, error: &io::Error) -> LinkError {
    let text = format!("cannot connect to {address}: {}", describe(error, PATIENCE));
    match error.kind() {
        io::ErrorKind::PermissionDenied => LinkError::NotPermitted(text),
        io::ErrorKind::TimedOut => LinkError::Hangs(format!(
            "cannot connect to {address}: the server that listens there has not answered for {} seconds: it is stopped or stuck",
            PATIENCE.as_secs()
        )),
        _ => LinkError::Unreachable(text),
    }
}

fn describe(error: &io::Error, patience: Duration) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            format!("nothing came within {} seconds", patience.as_secs_f32())
        }
        _ => crate::sys::describe(error),
    }
}

const NO_TLS: &str = "the command line speaks to unix:// and tcp:// only; to tls:// curl does, in HTTP";

/// A control socket of either kind.
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn connect(address: &str) -> io::Result<Self> {
        let stream = match address.split_once("://") {
            Some(("unix", path)) => Self::Unix(crate::sys::connect_unix(path.as_ref(), PATIENCE)?),
            Some(("tcp", socket)) => {
                let socket: SocketAddr = socket.parse().map_err(io::Error::other)?;
                Self::Tcp(TcpStream::connect_timeout(&socket, PATIENCE)?)
            }
            _ => return Err(io::Error::other(NO_TLS)),
        };
        match &stream {
            Self::Tcp(tcp) => tcp.set_write_timeout(Some(PATIENCE))?,
            Self::Unix(unix) => unix.set_write_timeout(Some(PATIENCE))?,
        }
        Ok(stream)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => tcp.write_all(bytes),
            Self::Unix(unix) => unix.write_all(bytes),
        }
    }

    /// Tells the server that no more commands come.
    fn finish(&self) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => tcp.shutdown(Shutdown::Write),
            Self::Unix(unix) => unix.shutdown(Shutdown::Write),
        }
    }

    fn read_until_closed(&mut self, patience: Duration) -> io::Result<Vec<u8>> {
        let deadline = Instant::now() + patience;
        let mut answer = Vec::new();
        let mut chunk = [0; 8192];
        while answer.len() as u64 <= REPLY_BYTES_MAX {
            match self.read_before(deadline, &mut chunk) {
                Ok(0) => return Ok(answer),
                Ok(count) => answer.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A server that refuses may close before it has read everything, which resets the connection.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !answer.is_empty() => {
                    return Ok(answer);
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("the answer is too long"))
    }

    fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.set_read_timeout(None).and_then(|()| tcp.read(chunk)),
            Self::Unix(unix) => unix.set_read_timeout(None).and_then(|()| unix.read(chunk)),
        }
    }

    fn read_before(&mut self, deadline: Instant, chunk: &mut [u8]) -> io::Result<usize> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match self {
            Self::Tcp(tcp) => tcp.set_read_timeout(Some(left)).and_then(|()| tcp.read(chunk)),
            Self::Unix(unix) => unix.set_read_timeout(Some(left)).and_then(|()| unix.read(chunk)),
        }
    }
}

/// A connection that stays: frames come until the server closes it.
pub(crate) struct Conversation {
    stream: Stream,
    address: String,
    input: Vec<u8>,
}

impl Conversation {
    pub(crate) fn begin(door: &Door) -> Result<Self, LinkError> {
        let Door { address, key } = door;
        let stream = Stream::connect(address).map_err(|error| cannot_connect(address, &error))?;
        let mut conversation = Self { stream, address: address.to_owned(), input: Vec::new() };
        if let Some(key) = key {
            conversation.send(&show(key))?;
            if conversation.next()?.is_none_or(|frame| frame.command != b'Y') {
                return Err(wrong_key(address));
            }
        }
        Ok(conversation)
    }

    fn broken(&self, error: &io::Error) -> LinkError {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                LinkError::Unreachable("the server has closed the connection".into())
            }
            _ => {
                LinkError::NoAnswer(format!("no answer from {}: {}", self.address, describe(error, PATIENCE)))
            }
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        self.stream.write_all(bytes).map_err(|error| self.broken(&error))
    }

    /// The next frame, however long it takes; none when the server has closed.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, LinkError> {
        let mut chunk = [0; 65_536];
        loop {
            if let Some((frame, bytes)) = frame(&self.input).map_err(|error| self.broken(&error))? {
                self.input.drain(..bytes);
                return Ok(Some(frame));
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(count) => self.input.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(&error)),
            }
        }
    }
}

fn foreign() -> io::Error {
    io::Error::other("what came is not the control protocol; is this wsson's control socket?")
}

/// The frame that the bytes begin with, and how many of them it is; none when it is not whole.
fn frame(bytes: &[u8]) -> io::Result<Option<(Frame, usize)>> {
    let digits = bytes.iter().take(9).take_while(|byte| byte.is_ascii_digit()).count();
    let Some(command) = bytes.get(digits) else { return Ok(None) };
    let length = std::str::from_utf8(&bytes[..digits]).ok().filter(|digits| (1..=8).contains(&digits.len()));
    let length: usize = length.and_then(|digits| digits.parse().ok()).ok_or_else(foreign)?;
    if !command.is_ascii_alphabetic() {
        return Err(foreign());
    }
    let end = digits + 1 + length;
    let payload = bytes.get(digits + 1..end);
    Ok(payload.map(|payload| (Frame { command: *command, payload: payload.to_vec() }, end)))
}

/// Splits an answer into frames; anything else than whole frames is not from a wsson.
fn split(mut answer: &[u8]) -> io::Result<Vec<Frame>> {
    let mut frames = Vec::new();
    loop {
        answer = answer.trim_ascii_start();
        if answer.is_empty() {
            return Ok(frames);
        }
        let cut_off = || io::Error::other("the answer was cut off");
        if answer.iter().all(u8::is_ascii_digit) {
            return Err(foreign());
        }
        let (frame, bytes) = frame(answer)?.ok_or_else(cut_off)?;
        // Pings may come at any time and need no answer from a connection that is over.
        if frame.command != b'p' {
            frames.push(frame);
        }
        answer = &answer[bytes..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_split_into_frames() {
        let frames = split(b"4Aabcd\r\n0p0E").expect("it is well-formed");
        let frame = |command, payload: &[u8]| Frame { command, payload: payload.to_vec() };
        assert_eq!(frames, [frame(b'A', b"abcd"), frame(b'E', b"")]);
        assert_eq!(split(b"").expect("nothing is no frames"), []);
    }

    #[test]
    fn what_is_not_the_protocol_is_told() {
        for (answer, told) in [
            ("HTTP/1.1 400", "not the control"),
            ("5Aabc", "cut off"),
            ("5", "not the"),
            ("123456789A", "not the"),
        ] {
            let error = split(answer.as_bytes()).expect_err(answer);
            assert!(error.to_string().contains(told), "{answer}: {error}");
        }
    }
}
