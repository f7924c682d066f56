//! The connections of both units: TCP, Unix, TLS behind one type.

use super::proxied::{Heard, Proxied};
use super::tls::{self, Outward, Session};
use crate::driver::{ReadError, Stream};
use crate::sys;
use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use std::io::{self, IoSlice, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;

/// One connection.
#[derive(Debug)]
pub(crate) enum Transport {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A Unix stream socket.
    Unix(UnixStream),
    /// TLS over TCP.
    Tls(Box<Session>),
    /// Any of these behind a proxy that has not named the visitor yet.
    Proxied(Box<Proxied>),
    /// TLS over TCP that this side has opened.
    Outward(Box<Outward>),
}

// One of these per connection, idle or not. (mio adds its own checks to debug builds.)
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Transport>() <= 16);

impl Transport {
    /// With TLS around it from its next byte on, if there is a certificate. Only TCP has one.
    pub(super) fn encrypt(self, tls: Option<&tls::Config>) -> io::Result<Self> {
        match (self, tls) {
            (Self::Tcp(stream), Some(config)) => Ok(Self::Tls(Box::new(config.accept(stream)?))),
            (plain, _) => Ok(plain),
        }
    }

    /// Begins to open a connection to another server, registered under this token; to one of this name with TLS.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn connect(
        address: SocketAddr,
        tls_name: Option<&str>,
        registry: &Registry,
        token: Token,
    ) -> Result<Self, String> {
        let stream = TcpStream::connect(address).map_err(|error| sys::describe(&error))?;
        let _ = sys::set_tcp_nodelay(stream.as_fd()); // it is as good as without
        let mut transport = match tls_name {
            None => Self::Tcp(stream),
            Some(name) => Self::Outward(Box::new(Outward::new(stream, name)?)),
        };
        transport.register(registry, token).map_err(|error| sys::describe(&error))?;
        Ok(transport)
    }

    /// Registers it once and for all, for both directions, edge-triggered.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(stream) => stream.register(registry, token, interest),
            Self::Unix(stream) => stream.register(registry, token, interest),
            Self::Tls(session) => session.socket().register(registry, token, interest),
            Self::Proxied(proxied) => proxied.socket().register(registry, token),
            Self::Outward(session) => session.socket().register(registry, token, interest),
        }
    }
}

impl Transport {
    /// Its events come under another token.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub(crate) fn rename(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(stream) => stream.reregister(registry, token, interest),
            Self::Unix(stream) => stream.reregister(registry, token, interest),
            Self::Tls(session) => session.socket().reregister(registry, token, interest),
            Self::Proxied(proxied) => proxied.socket().rename(registry, token),
            Self::Outward(session) => session.socket().reregister(registry, token, interest),
        }
    }
}

impl Stream for Transport {
    #[inline(always)]
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        match self {
            Self::Tcp(stream) => Ok(sys::receive(stream.as_fd(), buffer)?),
            Self::Unix(stream) => Ok(sys::receive(stream.as_fd(), buffer)?),
            Self::Tls(session) => session.read(buffer),
            Self::Proxied(proxied) => match proxied.read(buffer)? {
                Heard::Bytes(len) => Ok(len),
                Heard::Visitor(visitor, transport) => {
                    *self = transport;
                    Err(ReadError::Introduced(visitor))
                }
            },
            Self::Outward(session) => session.read(buffer),
        }
    }

    #[inline(always)]
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => sys::send(stream.as_fd(), bytes),
            Self::Unix(stream) => sys::send(stream.as_fd(), bytes),
            Self::Tls(session) => session.write(&[IoSlice::new(bytes)]),
            Self::Proxied(proxied) => proxied.socket().send(bytes),
            Self::Outward(session) => session.write(&[IoSlice::new(bytes)]),
        }
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => send(stream, slices),
            Self::Unix(stream) => send(stream, slices),
            Self::Tls(session) => session.write(slices),
            Self::Proxied(proxied) => proxied.socket().write(slices),
            Self::Outward(session) => session.write(slices),
        }
    }

    fn shut_down(&mut self) {
        // It fails when the peer is gone already, which the next read shows.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            Self::Tls(session) => return session.shut_down(),
            Self::Proxied(proxied) => return proxied.socket().shut_down(),
            Self::Outward(session) => return session.shut_down(),
        };
    }

    #[inline(always)]
    fn is_direct(&self) -> bool {
        !matches!(self, Self::Tls(_) | Self::Outward(_))
    }

    #[inline(always)]
    fn has_more(&self) -> bool {
        match self {
            Self::Tls(session) => session.has_more(),
            Self::Outward(session) => session.has_more(),
            Self::Tcp(_) | Self::Unix(_) | Self::Proxied(_) => false,
        }
    }

    #[inline(always)]
    fn is_costly(&self) -> bool {
        matches!(self, Self::Tls(session) if session.is_costly())
    }

    #[inline(always)]
    fn held_bytes(&self) -> usize {
        match self {
            Self::Tls(session) => session.held_bytes(),
            Self::Tcp(_) | Self::Unix(_) | Self::Proxied(_) | Self::Outward(_) => 0,
        }
    }

    #[inline(always)]
    fn has_unsent(&self) -> bool {
        match self {
            Self::Tls(session) => session.has_unsent(),
            Self::Outward(session) => session.has_unsent(),
            Self::Tcp(_) | Self::Unix(_) | Self::Proxied(_) => false,
        }
    }

    fn flush(&mut self) -> io::Result<bool> {
        match self {
            Self::Tls(session) => session.flush(),
            Self::Outward(session) => session.flush(),
            Self::Tcp(_) | Self::Unix(_) | Self::Proxied(_) => Ok(true),
        }
    }
}

/// The kernel handles one contiguous buffer faster than a vector of one.
pub(super) fn send<W: Write>(stream: &mut W, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    match slices {
        [slice] => stream.write(slice),
        _ => stream.write_vectored(slices),
    }
}
