//! One TLS connection: the records of a socket turned into the bytes of a [`Stream`], and back.
//!
//! rustls does the protocol and holds no buffers here (its "unbuffered" interface): input is decrypted in
//! the caller's buffer, only a cut record is kept, and bytes that the kernel does not take are kept until it
//! does. It never writes while it reads: flights of the handshake wait in `outgoing` for the flush at the
//! end of the turn. Invariant: an idle session holds no heap buffer of ours, and `outgoing` holds the
//! records of one handshake flight or of [`PLAIN_MAX`] bytes at most.

use crate::driver::{ReadError, Stream};
use crate::net::transport::send;
use crate::rule::Rule;
use crate::wire::proxy;
use mio::net::TcpStream;
use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic};
use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;

/// Plaintext in one record, at most (RFC 8446, 5.1).
const PLAIN_MAX: usize = 16 * 1024;
/// The bytes that a record adds to its plaintext: header 5, explicit nonce 8 (TLS 1.2), type 1 and tag 16.
const RECORD_OVERHEAD: usize = 32;
/// The buffer for [`Stream::read`] at least: room for one record's plaintext, and for a record behind it.
const BUFFER_MIN: usize = 3 * PLAIN_MAX;

/// See the module's head.
pub(crate) struct Session {
    socket: TcpStream,
    tls: UnbufferedServerConnection,
    /// The beginning of a record whose rest has not come, or of a handshake message.
    pub(super) incoming: Vec<u8>,
    /// Records that the kernel has not taken, but for their first `sent` bytes.
    pub(super) outgoing: Vec<u8>,
    sent: usize,
    speaks: Speaks,
    /// The last read filled its buffer.
    more: bool,
    /// The peer's side is over.
    ended: bool,
    /// Our close_notify is in `outgoing`, or out.
    closing: bool,
}

/// The protocol that the peer was found to speak.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Speaks {
    Nothing,
    Tls,
    /// HTTP: it gets an answer in plain text, then all its input is discarded.
    Plain,
    /// Something that is not TLS, or not any more.
    Broken,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(socket: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let tls = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
        Ok(Self {
            socket,
            tls,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            sent: 0,
            speaks: Speaks::Nothing,
            more: false,
            ended: false,
            closing: false,
        })
    }

    pub(in crate::net) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Reads once and decrypts the records that came to the front of `buffer`. That may give no bytes: a record was
    /// cut, or was not data.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        // The records begin where the plaintext of one still fits before them: plaintext is shorter than
        // its record, so decrypted bytes never reach those that are not yet.
        let begin = PLAIN_MAX;
        let held = self.incoming.len();
        let Some(room) = buffer.get_mut(begin + held..).filter(|room| !room.is_empty()) else {
            return Err(ReadError::Failed(Rule::TlsFailed, too_long()));
        };
        let len = self.socket.read(room)?;
        self.more = len == room.len();
        if len == 0 {
            self.ended = true;
            return Ok(0);
        }
        self.listen(&buffer[begin + held..begin + held + len])?;
        buffer[begin..begin + held].copy_from_slice(&self.incoming);
        let end = begin + held + len;
        let handshaking = self.tls.is_handshaking();
        let (used, plain) = self.decrypt(buffer, begin, end).map_err(|error| match error.kind() {
            ErrorKind::InvalidData if handshaking => ReadError::Failed(Rule::TlsFailed, error),
            _ => error.into(),
        })?;
        self.incoming = match self.ended {
            true => Vec::new(), // RFC 8446, 6.1: bytes behind a closure alert are ignored
            false => buffer[used..end].to_vec(),
        };
        Ok(plain)
    }

    /// Reads and discards input of no interest, up to its end.
    fn discard(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        match (self.speaks, self.socket.read(buffer)?) {
            (Speaks::Broken, _) => Err(ErrorKind::ConnectionAborted.into()),
            (_, 0) => Ok(0),
            _ => Err(ErrorKind::Interrupted.into()),
        }
    }

    /// Judges the first byte: a record of a handshake begins with 22, a request with a letter, and a proxy's header as a
    /// whole is known for what it is.
    fn listen(&mut self, first: &[u8]) -> Result<(), ReadError> {
        if self.speaks == Speaks::Nothing {
            let rule = match first[0] {
                _ if proxy::is_announced(first) => Some(Rule::ProxyHeader),
                byte if byte.is_ascii_alphabetic() => Some(Rule::PlainHttpOnTls),
                _ => None,
            };
            self.speaks = if rule.is_some() { Speaks::Plain } else { Speaks::Tls };
            if let Some(rule) = rule {
                return Err(ReadError::Refused(rule));
            }
        }
        Ok(())
    }

    /// Handles the records in `buffer[begin..end]`. Returns where the first incomplete one begins and how
    /// many bytes of plaintext there are at the front.
    fn decrypt(&mut self, buffer: &mut [u8], begin: usize, end: usize) -> io::Result<(usize, usize)> {
        let (mut at, mut plain) = (begin, 0);
        loop {
            let (front, records) = buffer[..end].split_at_mut(at);
            let UnbufferedStatus { mut discard, state, .. } = self.tls.process_tls_records(records);
            let go_on = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        let payload = record.payload;
                        // Plaintext is shorter than its record, so this fits; if ever it does not, one session ends.
                        let place = front.get_mut(plain..plain + payload.len()).ok_or_else(too_long)?;
                        place.copy_from_slice(payload);
                        plain += payload.len();
                        discard += record.discard;
                    }
                    true
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.ended = true;
                    true
                }
                Ok(state) => keep(state, &mut self.outgoing)?,
                Err(error) => return Err(self.break_off(error)),
            };
            at += discard;
            if !go_on {
                return Ok((at, plain));
            }
        }
    }

    /// The session is broken and not to be touched again. The alert that says why goes out with the
    /// connection's end.
    fn break_off(&mut self, error: rustls::Error) -> io::Error {
        // While something waits to be sent, rustls looks at no input: it must not see the wrong twice.
        while self.tls.wants_write() {
            let UnbufferedStatus { state, .. } = self.tls.process_tls_records(&mut []);
            let Ok(true) = state.map_or(Ok(false), |state| keep(state, &mut self.outgoing)) else { break };
        }
        self.speaks = Speaks::Broken;
        self.closing = true;
        invalid(error)
    }

    /// Encrypts into `outgoing`, behind the records that rustls has to send first.
    fn append(&mut self, record: Record<'_>) -> io::Result<()> {
        loop {
            let UnbufferedStatus { discard, state, .. } = self.tls.process_tls_records(&mut self.incoming);
            let go_on = match state {
                Err(error) => return Err(self.break_off(error)),
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    append_record(&mut self.outgoing, &mut traffic, record)?;
                    false
                }
                Ok(state) => match keep(state, &mut self.outgoing)? {
                    true => true,
                    false => return Err(ErrorKind::NotConnected.into()),
                },
            };
            self.incoming.drain(..discard);
            if !go_on {
                return Ok(());
            }
        }
    }

    /// Says that nothing more comes from us, once.
    fn say_goodbye(&mut self) {
        if !std::mem::replace(&mut self.closing, true) && !self.tls.is_handshaking() {
            // It fails on a session that is broken, whose peer gets an alert.
            let _ = self.append(Record::Goodbye);
        }
    }

    /// Encrypts as much as the kernel takes, one record at a time, and at most one more.
    fn write_records(&mut self, plain: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        for chunk in plain.chunks(PLAIN_MAX) {
            self.outgoing.reserve(chunk.len() + RECORD_OVERHEAD);
            self.append(Record::Data(chunk))?;
            taken += chunk.len();
            if !self.flush()? {
                break;
            }
        }
        Ok(taken)
    }
}

type Data = rustls::server::ServerConnectionData;

/// The plaintext of a write.
#[derive(Clone, Copy)]
enum Record<'d> {
    Data(&'d [u8]),
    /// The alert close_notify.
    Goodbye,
}

impl Stream for Session {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        assert!(buffer.len() >= BUFFER_MIN, "the reactor's scratch buffer holds some records");
        if self.closing || self.speaks == Speaks::Plain {
            return self.discard(buffer);
        }
        // A short read says that the socket is drained. Only when nothing came of it, which the caller
        // could not tell from the end, is the socket asked once more.
        for _ in 0..2 {
            if self.ended {
                return Ok(0);
            }
            let plain = self.receive(buffer)?;
            if plain > 0 {
                return Ok(plain);
            }
        }
        if self.ended { Ok(0) } else { Err(ErrorKind::Interrupted.into()) }
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.speaks == Speaks::Plain {
            return send(&mut self.socket, slices);
        }
        if self.closing {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if self.tls.is_handshaking() {
            return Err(io::Error::new(ErrorKind::NotConnected, "the TLS handshake is not complete"));
        }
        if !self.flush()? {
            return Err(ErrorKind::WouldBlock.into());
        }
        match slices {
            [slice] => self.write_records(slice),
            _ => {
                // Small frames leave together in one record.
                let plain: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
                self.write_records(&plain)
            }
        }
    }

    fn shut_down(&mut self) {
        if self.speaks == Speaks::Tls {
            self.say_goodbye();
        }
        self.closing = true;
        // It fails when the peer is gone already, which the next read shows.
        let _ = self.flush();
    }

    fn is_direct(&self) -> bool {
        false
    }

    fn has_more(&self) -> bool {
        self.more || self.ended
    }

    fn is_costly(&self) -> bool {
        matches!(self.speaks, Speaks::Nothing | Speaks::Tls) && self.tls.is_handshaking()
    }

    fn held_bytes(&self) -> usize {
        self.incoming.capacity() + self.outgoing.capacity()
    }

    fn has_unsent(&self) -> bool {
        !self.outgoing.is_empty()
    }

    fn flush(&mut self) -> io::Result<bool> {
        while self.sent < self.outgoing.len() {
            match self.socket.write(&self.outgoing[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(len) => self.sent += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        (self.outgoing, self.sent) = (Vec::new(), 0);
        if self.closing {
            // It fails when the peer is gone already, which the next read shows.
            let _ = self.socket.shutdown(Shutdown::Write);
        }
        Ok(true)
    }
}

/// RFC 8446, 6.1: the side that closes says so before. A session that ends in the middle of something does it
/// here, as far as the kernel takes it at once.
impl Drop for Session {
    fn drop(&mut self) {
        if self.speaks == Speaks::Tls {
            self.say_goodbye();
        }
        let _ = self.flush();
    }
}

/// Takes the records that rustls has to send. False when it waits for input, or for data to be sent.
fn keep(state: ConnectionState<'_, '_, Data>, outgoing: &mut Vec<u8>) -> io::Result<bool> {
    match state {
        ConnectionState::EncodeTlsData(mut data) => {
            let begin = outgoing.len();
            let mut room = 0;
            loop {
                outgoing.resize(begin + room, 0);
                match data.encode(&mut outgoing[begin..]) {
                    Ok(len) => break outgoing.truncate(begin + len),
                    Err(EncodeError::InsufficientSize(needed)) if room == 0 => room = needed.required_size,
                    Err(error) => return Err(invalid(error)),
                }
            }
            Ok(true)
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done(); // it is in `outgoing`, and so ours
            Ok(true)
        }
        // We take no early data, and a session that saw the peer's end may still send.
        ConnectionState::PeerClosed => Ok(true),
        _ => Ok(false),
    }
}

fn append_record(
    outgoing: &mut Vec<u8>,
    traffic: &mut WriteTraffic<'_, Data>,
    record: Record<'_>,
) -> io::Result<()> {
    let begin = outgoing.len();
    let mut room = outgoing.capacity() - begin;
    loop {
        outgoing.resize(begin + room, 0);
        let written = match record {
            Record::Data(plain) => traffic.encrypt(plain, &mut outgoing[begin..]),
            Record::Goodbye => traffic.queue_close_notify(&mut outgoing[begin..]),
        };
        match written {
            Ok(len) => {
                outgoing.truncate(begin + len);
                return Ok(());
            }
            Err(EncryptError::InsufficientSize(needed)) if room < needed.required_size => {
                room = needed.required_size;
            }
            Err(error) => {
                outgoing.truncate(begin);
                return Err(invalid(error));
            }
        }
    }
}

fn too_long() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "a TLS message is too long")
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}
