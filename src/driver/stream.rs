//! The operations that the driver needs of sockets, and how it offers bytes to one.
//!
//! It never blocks and never keeps bytes. Invariant: a stream is offered at most one turn's share at a time.

use crate::delivery::{FLUSH_BYTES, Outbox, Sink, Spool, Written};
use crate::key::{BackendKey, ClientKey, NodeKey};
use crate::rule::Rule;
use crate::wire::http::forwarded::PeerAddr;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice};

/// The reason why a read brought nothing.
#[derive(Debug)]
pub enum ReadError {
    /// The peer speaks a protocol that is not spoken here, and gets this answer.
    Refused(Rule),
    /// The peer cannot be understood, not even for an answer, and broke this rule.
    Failed(Rule, io::Error),
    /// The proxy in between has named the visitor, or only itself; the visitor's bytes come with the next read.
    Introduced(Option<PeerAddr>),
    /// The system's error: `WouldBlock` when nothing is there, `Interrupted` when it is to be called again. Anything
    /// else ends the connection.
    Io(io::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(rule) => f.write_str(rule.name()),
            Self::Introduced(_) => f.write_str("introduced"),
            Self::Failed(_, error) | Self::Io(error) => error.fmt(f),
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ErrorKind> for ReadError {
    fn from(kind: ErrorKind) -> Self {
        Self::Io(kind.into())
    }
}

/// One end of a connection. It never blocks.
pub trait Stream {
    /// As `read(2)`: fewer bytes than asked for mean that there are no more now, unless
    /// [`has_more`](Self::has_more) says so.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError>;

    /// As `send(2)`.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    #[inline]
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write(&[IoSlice::new(bytes)])
    }

    /// As `writev(2)`.
    ///
    /// # Errors
    /// `WouldBlock` when nothing can be taken; anything else ends the connection.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Ends our side, as soon as the bytes that it still holds are out.
    fn shut_down(&mut self);

    // A stream that holds bytes of its own between the socket and us, as TLS does, has more to tell.

    /// Whether it never holds bytes of its own: the kernel has what it took. The rest of this is then as it is here.
    #[inline(always)]
    fn is_direct(&self) -> bool {
        true
    }

    /// Whether there may be more to read although the last read gave less than asked for.
    fn has_more(&self) -> bool {
        false
    }

    /// Whether the next read does much computing: only few of these happen in a turn.
    fn is_costly(&self) -> bool {
        false
    }

    /// Bytes that it keeps, of either direction: input that is not complete, output that the kernel has not taken.
    #[inline(always)]
    fn held_bytes(&self) -> usize {
        0
    }

    /// Whether it holds bytes that the kernel has not taken. They are its own, or were written.
    fn has_unsent(&self) -> bool {
        false
    }

    /// Offers those bytes to the kernel: true when all are out, false when it takes no more now.
    ///
    /// # Errors
    /// As [`write`](Self::write), but for `WouldBlock`.
    fn flush(&mut self) -> io::Result<bool> {
        Ok(true)
    }
}

/// The source of connections. It never blocks.
pub trait Listen {
    /// The connections that it accepts.
    type Stream: Stream;

    /// The next connection, registered under this token.
    ///
    /// # Errors
    /// `WouldBlock` when none waits; `EMFILE` and its like are retried later.
    fn accept(&mut self, token: Token) -> io::Result<(Self::Stream, PeerAddr)>;

    /// The events of a connection, which another listener may have accepted, come under this token from now on. What is
    /// ready is reported again.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    fn rename(&mut self, stream: &mut Self::Stream, token: Token) -> io::Result<()>;
}

/// A connection, by its kind and key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A browser.
    Client(ClientKey),
    /// A program of the site.
    Backend(BackendKey),
    /// A connection that wsson opened itself.
    Node(NodeKey),
}

/// The subject of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// A connection.
    Peer(Peer),
    /// The listener at this place; the last one is the control unit's.
    Listener(usize),
}

/// The news of an event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ready {
    /// There is something to read, or to accept.
    pub readable: bool,
    /// The kernel takes bytes again.
    pub writable: bool,
    /// The peer's side is shut down, or the connection is broken: reading finds out.
    pub closed: bool,
}

/// Slices in one `writev`.
const SLICES_MAX: usize = 64;

pub(super) fn would_block(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock
}

/// A stream as far as it holds no bytes.
pub(super) struct Direct<'s, S>(pub(super) &'s mut S);

impl<S: Stream> Sink for Direct<'_, S> {
    type Error = io::Error;

    #[inline(always)]
    fn write(&mut self, chunk: &[u8]) -> Option<io::Result<Written>> {
        if !self.0.is_direct() {
            return None;
        }
        let sent = self.0.send(chunk);
        debug_assert!(!self.0.has_unsent() && self.0.held_bytes() == 0, "it is direct");
        Some(match sent {
            Ok(sent) => Ok(Written { sent, all: sent == chunk.len() }),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(INTERRUPTED),
            Err(error) => Err(error),
        })
    }
}

/// Offers one turn's share of the bytes that wait for a client, in one call.
#[inline(always)]
pub(super) fn write<S: Stream>(stream: &mut S, outbox: &Outbox, spool: &Spool) -> io::Result<Written> {
    match outbox.first_chunk(spool) {
        (chunk, true) => write_one(stream, chunk),
        (_, false) => write_several(stream, outbox.chunks(spool)),
    }
}

/// Offers one turn's share of a chunk; of an empty one, only the bytes that the stream still holds.
#[inline(always)]
pub(super) fn write_one<S: Stream>(stream: &mut S, chunk: &[u8]) -> io::Result<Written> {
    let chunk = &chunk[..chunk.len().min(FLUSH_BYTES)];
    if stream.has_unsent() && !stream.flush()? {
        return Ok(Written { sent: 0, all: false });
    }
    if chunk.is_empty() {
        return Ok(Written { sent: 0, all: true });
    }
    let sent = stream.send(chunk);
    written(stream, sent, chunk.len())
}

#[inline(never)]
fn write_several<'b, S: Stream>(
    stream: &mut S,
    chunks: impl Iterator<Item = &'b [u8]>,
) -> io::Result<Written> {
    if stream.has_unsent() && !stream.flush()? {
        return Ok(Written { sent: 0, all: false });
    }
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let (mut count, mut left) = (0, FLUSH_BYTES);
    for chunk in chunks.take(SLICES_MAX) {
        let chunk = &chunk[..chunk.len().min(left)];
        if chunk.is_empty() {
            break;
        }
        slices[count] = IoSlice::new(chunk);
        (count, left) = (count + 1, left - chunk.len());
    }
    let sent = stream.write(&slices[..count]);
    written(stream, sent, FLUSH_BYTES - left)
}

/// The kernel took nothing and may take more: the client is queued again.
const INTERRUPTED: Written = Written { sent: 0, all: true };

#[inline(always)]
fn written<S: Stream>(stream: &S, sent: io::Result<usize>, offered: usize) -> io::Result<Written> {
    match sent {
        Ok(sent) => Ok(Written { sent, all: sent == offered && !stream.has_unsent() }),
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(INTERRUPTED),
        Err(error) => Err(error),
    }
}
