//! A connection from a trusted proxy, until the proxy has named the visitor: the PROXY protocol, on any transport.
//!
//! The header waits in the kernel until it is complete, and is taken from there to its last byte and no further: the next
//! byte may be TLS. It never keeps bytes. Invariant: nothing is read of a connection behind its header, and nothing of
//! one without a header but to be discarded.

use super::{Transport, tls};
use crate::driver::{ReadError, Stream};
use crate::rule::Rule;
use crate::sys;
use crate::wire::http::forwarded::PeerAddr;
use crate::wire::proxy::{self, HEADER_BYTES_MAX, ProxyError};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Proxied {
    /// The connection as it was accepted; taken out with the header.
    socket: Option<Transport>,
    /// TLS comes behind the header.
    tls: Option<tls::Config>,
    /// There was no header: what comes is discarded while the answer goes out.
    is_refused: bool,
}

/// The outcome of a read.
pub(super) enum Heard {
    /// As `read(2)`.
    Bytes(usize),
    /// The header is complete: the visitor's address, if it has one, and the connection behind it.
    Visitor(Option<PeerAddr>, Transport),
}

impl Proxied {
    pub(super) fn new(socket: Transport, tls: Option<tls::Config>) -> Self {
        Self { socket: Some(socket), tls, is_refused: false }
    }

    /// The bare connection: over it goes the answer to a proxy that sends no header.
    pub(super) fn socket(&mut self) -> &mut Transport {
        self.socket.as_mut().expect("it is taken with the header, and this with it")
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<Heard, ReadError> {
        if self.is_refused {
            return Ok(Heard::Bytes(self.socket().read(buffer)?));
        }
        let beginning = &mut buffer[..HEADER_BYTES_MAX];
        let len = sys::peek(self.descriptor(), beginning)?;
        if len == 0 {
            return Ok(Heard::Bytes(0));
        }
        match proxy::parse(&beginning[..len]) {
            Ok(None) => Err(ErrorKind::WouldBlock.into()), // more of it wakes us again
            Ok(Some(header)) => {
                let taken = self.socket().read(&mut beginning[..header.bytes])?;
                debug_assert_eq!(taken, header.bytes, "the kernel had all of it");
                let visitor = header.visitor.map(|(addr, port)| PeerAddr::Ip(addr, port));
                let socket = self.socket.take().expect("it is taken once");
                Ok(Heard::Visitor(visitor, socket.encrypt(self.tls.as_ref())?))
            }
            Err(error) => {
                self.is_refused = true;
                Err(ReadError::Refused(match error {
                    ProxyError::Missing => Rule::MissingProxyHeader,
                    ProxyError::Malformed => Rule::BadProxyHeader,
                }))
            }
        }
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        match self.socket.as_ref().expect("it is taken with the header, and this with it") {
            Transport::Tcp(stream) => stream.as_fd(),
            Transport::Unix(stream) => stream.as_fd(),
            Transport::Tls(_) | Transport::Proxied(_) | Transport::Outward(_) => {
                unreachable!("it was accepted")
            }
        }
    }
}
