//! A TLS connection that this side has opened, to an instance of the bus, as a [`Stream`].
//!
//! rustls keeps the records of both directions: there are few of these connections. It trusts the authorities that this
//! host trusts, and the name in the configuration must be in the certificate. Invariant: what was written is encrypted
//! once, and goes out before what is written later.

use super::client;
use crate::driver::{ReadError, Stream};
use mio::net::TcpStream;
use rustls::ClientConnection;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;

/// See the module's head.
pub(crate) struct Outward {
    socket: TcpStream,
    tls: ClientConnection,
    /// The last read gave something: rustls may hold the next record, and the event of the socket has gone by.
    more: bool,
}

impl fmt::Debug for Outward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outward").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Outward {
    /// A connection to a server of this name, whose socket is being opened.
    ///
    /// # Errors
    /// A sentence for the administrator.
    pub(in crate::net) fn new(socket: TcpStream, name: &str) -> Result<Self, String> {
        Ok(Self { socket, tls: client::connection(name)?, more: false })
    }

    pub(in crate::net) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }
}

impl Stream for Outward {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        loop {
            match self.tls.reader().read(buffer) {
                Ok(len) => {
                    self.more = len > 0;
                    return Ok(len);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            // A short read of the socket says nothing here: it is asked until it has no more.
            if self.tls.read_tls(&mut self.socket)? == 0 && self.tls.is_handshaking() {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "it has ended the TLS handshake").into());
            }
            if let Err(error) = self.tls.process_new_packets() {
                let _ = self.flush(); // the alert that says why
                let error = io::Error::new(ErrorKind::InvalidData, error);
                return Err(io::Error::other(client::explain(&error)).into());
            }
        }
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let len = self.tls.writer().write_vectored(slices)?;
        self.flush()?;
        if len == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(len) }
    }

    fn shut_down(&mut self) {
        self.tls.send_close_notify();
        // It fails when the peer is gone already, which the next read shows.
        let _ = self.flush();
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    fn has_more(&self) -> bool {
        self.more
    }

    fn has_unsent(&self) -> bool {
        self.tls.wants_write()
    }

    fn flush(&mut self) -> io::Result<bool> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
