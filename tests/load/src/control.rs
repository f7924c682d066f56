//! The generator's end of a control connection: orders out, replies in, in the language of the server's kind.
//!
//! Invariant: it never blocks; bytes that the socket does not take stay queued until [`Control::flush`].

use crate::floor::{ACK, Record};
use crate::options::Kind;
use crate::{Address, Result, sys, wire};
use std::io::ErrorKind;
use std::net::TcpStream;
use std::ops::Range;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long the server may take to tell how many clients it has.
const ANSWER_MAX: Duration = Duration::from_secs(10);

pub struct Control {
    kind: Kind,
    socket: OwnedFd,
    out: Vec<u8>,
    sent: usize,
    frames: Vec<u8>,
}

impl Control {
    pub fn connect(kind: Kind, address: &Address) -> Result<Self> {
        let socket: OwnedFd = match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                stream.into()
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_nonblocking(true)?;
                stream.into()
            }
        };
        Ok(Self { kind, socket, out: Vec::new(), sent: 0, frames: Vec::new() })
    }

    /// Queues broadcasts of the payloads `seqs` and returns the bytes every client must get.
    pub fn broadcast(&mut self, seqs: Range<u64>, size: usize) -> &[u8] {
        self.frames.clear();
        seqs.clone().for_each(|seq| wire::server_frame(&mut self.frames, seq, size));
        match self.kind {
            Kind::Floor => Record::write(&mut self.out, b'b', 0, &self.frames),
            Kind::Wsson => seqs.for_each(|seq| wire::command(&mut self.out, 'b', None, seq, size)),
        }
        &self.frames
    }

    /// Queues a direct message (`d` or `c`) to connection `index`.
    pub fn direct(&mut self, letter: char, index: usize, seq: u64, size: usize) {
        match self.kind {
            Kind::Floor => {
                self.frames.clear();
                wire::server_frame(&mut self.frames, seq, size);
                Record::write(&mut self.out, letter as u8, index as u32, &self.frames);
            }
            Kind::Wsson => wire::command(&mut self.out, letter, Some(&wire::token(index)), seq, size),
        }
    }

    /// Queues a write (`w`) to a list of addresses, which together name every client; the floor knows no other.
    pub fn write(&mut self, addresses: &str, seq: u64, size: usize) {
        match self.kind {
            Kind::Floor => {
                self.frames.clear();
                wire::server_frame(&mut self.frames, seq, size);
                Record::write(&mut self.out, b'b', 0, &self.frames);
            }
            Kind::Wsson => {
                let prefix = format!("{addresses} ");
                wire::command(&mut self.out, 'w', Some(&prefix), seq, size);
            }
        }
    }

    /// Lets all clients, which are this many, join groups. The floor has none.
    pub fn join(&mut self, groups: &str, clients: usize) -> Result<()> {
        if self.kind == Kind::Floor {
            return Ok(());
        }
        let payload = format!("{groups} *");
        self.out.extend_from_slice(format!("{}j{payload}", payload.len()).as_bytes());
        self.flush_all()?;
        let json = format!("{{\"connections\":{clients}}}");
        let expected = format!("{}J{json}", json.len());
        let (deadline, mut answer) = (Instant::now() + ANSWER_MAX, Vec::new());
        while answer.len() < expected.len() && Instant::now() < deadline {
            self.read(&mut answer)?;
        }
        match answer == expected.as_bytes() {
            true => Ok(()),
            false => Err(format!("j: {}", String::from_utf8_lossy(&answer)).into()),
        }
    }

    /// Asks to be told what clients say, and takes the answer; what comes behind it is left in `heard`.
    pub fn subscribe(&mut self, heard: &mut Vec<u8>) -> Result<()> {
        self.out.extend_from_slice(b"7emessage");
        self.flush_all()?;
        let expected = br#"52e{"event":"subscribed","pool":"","kinds":["message"]}"#;
        let deadline = Instant::now() + ANSWER_MAX;
        while heard.len() < expected.len() && Instant::now() < deadline {
            self.read(heard)?;
        }
        if !heard.starts_with(&expected[..30]) {
            return Err(format!("e: {}", String::from_utf8_lossy(heard)).into());
        }
        heard.clear();
        Ok(())
    }

    /// The reply to a `c` for connection `index`.
    pub fn push_ack(&self, out: &mut Vec<u8>, index: usize) {
        match self.kind {
            Kind::Floor => out.extend_from_slice(ACK),
            Kind::Wsson => {
                out.extend_from_slice(b"32A");
                out.extend_from_slice(wire::token(index).as_bytes());
            }
        }
    }

    /// Tells the floor how long the direct commands are and how many come together: it reads one at a time.
    pub fn announce_direct(&mut self, size: usize, under_way: usize) -> Result<()> {
        if self.kind == Kind::Wsson {
            return Ok(());
        }
        self.frames.clear();
        wire::server_frame(&mut self.frames, 0, size);
        let want = (Record::HEAD + self.frames.len()) as u32;
        Record::write(&mut self.out, b'w', want, &[under_way as u8]);
        // Its answer says that it has read so far, and counts the commands that follow from here.
        self.clients().map(drop)
    }

    /// Sends what is queued, as far as the socket takes it.
    pub fn flush(&mut self) -> Result<()> {
        while self.sent < self.out.len() {
            match sys::send(self.socket.as_raw_fd(), &self.out[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(format!("the control connection broke: {error}").into()),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    fn flush_all(&mut self) -> Result<()> {
        while !self.out.is_empty() {
            self.flush()?;
        }
        Ok(())
    }

    /// Appends the replies that are there.
    pub fn read(&mut self, into: &mut Vec<u8>) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        match sys::recv(self.socket.as_raw_fd(), &mut buffer) {
            Ok(0) => Err("the server closed the control connection".into()),
            Ok(got) => {
                into.extend_from_slice(&buffer[..got]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// How many clients the server says it has.
    pub fn clients(&mut self) -> Result<u64> {
        match self.kind {
            Kind::Floor => Record::write(&mut self.out, b'n', 0, &[]),
            Kind::Wsson => self.out.extend_from_slice(b"0t"),
        }
        self.flush_all()?;
        let deadline = Instant::now() + ANSWER_MAX;
        let mut answer = Vec::new();
        while Instant::now() < deadline {
            self.read(&mut answer)?;
            if let Some(count) = self.count_in(&answer) {
                return Ok(count);
            }
        }
        Err("the server does not tell how many clients it has".into())
    }

    fn count_in(&self, answer: &[u8]) -> Option<u64> {
        match self.kind {
            Kind::Floor => Some(u64::from_le_bytes(answer.get(..8)?.try_into().ok()?)),
            Kind::Wsson => {
                let text = String::from_utf8_lossy(answer);
                let (length, json) = text.split_once('T')?;
                if json.len() < length.parse().ok()? {
                    return None;
                }
                number_in(json, "clients")
            }
        }
    }
}

/// The number under `key` of a JSON object itself, not of what is nested in it.
fn number_in(json: &str, key: &str) -> Option<u64> {
    let mut depth = 0;
    let mut rest = json;
    while let Some(at) = rest.find(['{', '}', '[', ']', '"']) {
        let after = &rest[at + 1..];
        rest = match rest.as_bytes()[at] {
            b'"' => {
                let (word, after) = after.split_once('"')?;
                match after.trim_start().strip_prefix(':') {
                    Some(value) if depth == 1 && word == key => {
                        return value.trim_start().split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
                    }
                    _ => after,
                }
            }
            b'{' | b'[' => {
                depth += 1;
                after
            }
            _ => {
                depth -= 1;
                after
            }
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_that_of_the_outer_object() {
        let json = r#"{"a":[{"address":"tcp://[::1]:1","clients":7}],"b":{"clients":8},"clients":9,"c":[]}"#;
        assert_eq!(number_in(json, "clients"), Some(9));
        assert_eq!(number_in(json, "address"), None);
    }
}
