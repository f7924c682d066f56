//! The connections of both units: TCP, Unix, TLS behind one type.

use crate::driver::Stream;
use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

/// One connection.
#[derive(Debug)]
pub enum Transport {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A Unix stream socket.
    Unix(UnixStream),
}

// One of these per connection, idle or not. (mio adds its own checks to debug builds.)
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Transport>() <= 16);

impl Transport {
    /// Registers it once and for all, for both directions, edge-triggered.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(stream) => stream.register(registry, token, interest),
            Self::Unix(stream) => stream.register(registry, token, interest),
        }
    }
}

impl Stream for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => send(stream, slices),
            Self::Unix(stream) => send(stream, slices),
        }
    }

    fn shut_down(&mut self) {
        // It fails when the peer is gone already, which the next read tells.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }
}

/// The kernel handles one contiguous buffer faster than a vector of one.
fn send<W: Write>(stream: &mut W, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    match slices {
        [slice] => stream.write(slice),
        _ => stream.write_vectored(slices),
    }
}
