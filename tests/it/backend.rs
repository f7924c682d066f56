//! A backend: commands out, replies in, as COMMANDS.md has them.

use crate::server::{Server, Socket};
use std::io::{ErrorKind, Read};

/// A frame of the control protocol.
pub(crate) fn command(letter: char, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    [format!("{}{letter}", payload.len()).as_bytes(), payload].concat()
}

/// A frame whose payload is a token and a message.
pub(crate) fn to(letter: char, token: &str, message: impl AsRef<[u8]>) -> Vec<u8> {
    command(letter, [token.as_bytes(), message.as_ref()].concat())
}

pub(crate) struct Backend {
    pub(crate) socket: Socket,
    input: Vec<u8>,
}

impl Backend {
    #[track_caller]
    pub(crate) fn connect(server: &Server) -> Self {
        Self { socket: server.control.connect().expect("the control socket accepts"), input: Vec::new() }
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.send(bytes.as_ref());
    }

    #[track_caller]
    pub(crate) fn command(&mut self, letter: char, payload: impl AsRef<[u8]>) {
        self.send(command(letter, payload));
    }

    #[track_caller]
    pub(crate) fn to(&mut self, letter: char, token: &str, message: impl AsRef<[u8]>) {
        self.send(to(letter, token, message));
    }

    /// The next reply, or nothing when the connection ended between replies.
    #[track_caller]
    pub(crate) fn receive_or_end(&mut self) -> Option<(char, String)> {
        loop {
            if let Some(reply) = self.take_reply() {
                return Some(reply);
            }
            let mut buffer = [0; 65536];
            match self.socket.read(&mut buffer) {
                Ok(0) => {
                    assert!(self.input.is_empty(), "the connection ended inside a reply: {:?}", self.input);
                    return None;
                }
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no reply: {error}"),
            }
        }
    }

    #[track_caller]
    fn take_reply(&mut self) -> Option<(char, String)> {
        let digits = self.input.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let letter = *self.input.get(digits)?;
        assert!(
            digits > 0 && letter.is_ascii_alphabetic(),
            "no reply: {:?}",
            String::from_utf8_lossy(&self.input)
        );
        let length: usize = std::str::from_utf8(&self.input[..digits]).ok()?.parse().expect("a length");
        let payload = self.input.get(digits + 1..digits + 1 + length)?;
        let payload = String::from_utf8(payload.to_vec()).expect("replies are text");
        self.input.drain(..digits + 1 + length);
        Some((char::from(letter), payload))
    }

    #[track_caller]
    pub(crate) fn receive(&mut self) -> (char, String) {
        self.receive_or_end().expect("a reply, but the connection ended")
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, letter: char, payload: &str) {
        let found = self.receive();
        assert_eq!(found, (letter, payload.to_owned()));
    }

    /// Sends a command to a client and expects `A` or `N` with its token.
    #[track_caller]
    pub(crate) fn confirm(&mut self, letter: char, token: &str, message: impl AsRef<[u8]>, answer: char) {
        self.to(letter, token, message);
        self.expect(answer, token);
    }

    /// Sends a fragment and expects `a` or `n`.
    #[track_caller]
    pub(crate) fn fragment(&mut self, letter: char, payload: impl AsRef<[u8]>, answer: char) {
        self.command(letter, payload);
        self.expect(answer, "");
    }

    /// Returns when every command so far has been executed; no reply may be left over.
    #[track_caller]
    pub(crate) fn done(&mut self) {
        self.send("0p");
        self.expect('P', "");
    }

    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        let found = self.receive_or_end();
        assert_eq!(found, None, "a reply came instead of the end");
    }

    /// The protocol error's reply, and the end behind it.
    #[track_caller]
    pub(crate) fn expect_error(&mut self) {
        self.expect('E', "");
        self.expect_end();
    }

    #[track_caller]
    pub(crate) fn status(&mut self) -> Status {
        self.send("0t");
        let (letter, json) = self.receive();
        assert_eq!(letter, 'T');
        Status(json)
    }
}

/// The JSON object of `t`, read by name. Not a parser: the fields' names are unlike each other.
#[derive(Debug)]
pub(crate) struct Status(pub(crate) String);

impl Status {
    #[track_caller]
    pub(crate) fn number(&self, field: &str) -> u64 {
        self.numbers(field).first().copied().unwrap_or_else(|| panic!("no number {field} in {}", self.0))
    }

    /// Every number of that name at any depth.
    pub(crate) fn numbers(&self, field: &str) -> Vec<u64> {
        let name = format!("\"{field}\"");
        let values = self.0.split(name.as_str()).skip(1);
        values.filter_map(|rest| leading_number(rest.trim_start().strip_prefix(':')?)).collect()
    }

    /// The sum of the counts in an object such as `refused`.
    #[track_caller]
    pub(crate) fn sum(&self, object: &str) -> u64 {
        let (_, rest) = self.0.split_once(&format!("\"{object}\"")).expect("the object is there");
        let (inside, _) = rest.split_once('{').and_then(|(_, rest)| rest.split_once('}')).expect("an object");
        inside.split(',').filter_map(|pair| leading_number(pair.rsplit_once(':')?.1)).sum()
    }
}

fn leading_number(text: &str) -> Option<u64> {
    let text = text.trim_start();
    text[..text.bytes().take_while(u8::is_ascii_digit).count()].parse().ok()
}
