//! The names of `tls` for a build without it: no value of these types can be made.

use crate::driver::{ReadError, Stream};
use mio::net::TcpStream;
use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::path::Path;

/// Certificate and key of encrypted connections; there is no value of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    never: Infallible,
}

/// An encrypted connection; there is no value of it.
#[derive(Debug)]
pub(crate) enum Session {}

/// Always fails: this wsson was built without TLS.
///
/// # Errors
/// A sentence for the administrator.
pub(crate) fn load(_certificate: &Path, _key: &Path) -> Result<Config, String> {
    Err("this wsson was built without TLS: put a proxy in front of it".into())
}

/// An encrypted connection that this side has opened; there is none.
pub(crate) trait Encrypted: std::io::Read + std::io::Write {
    /// The version of TLS that was agreed on.
    fn version(&self) -> String;
}

/// Always fails: this wsson was built without TLS.
///
/// # Errors
/// A sentence for the administrator.
pub(crate) fn connect(_socket: std::net::TcpStream, _name: &str) -> Result<Box<dyn Encrypted>, String> {
    Err("this wsson was built without TLS, so it cannot look behind wss://".into())
}

impl Config {
    pub(crate) fn expires_unix_s(&self) -> i64 {
        match self.never {}
    }

    pub(crate) fn warnings(&self, _now_unix_s: i64) -> Vec<String> {
        match self.never {}
    }

    pub(crate) fn accept(&self, _socket: TcpStream) -> io::Result<Session> {
        match self.never {}
    }
}

impl Session {
    pub(super) fn socket(&mut self) -> &mut TcpStream {
        match *self {}
    }
}

impl Stream for Session {
    fn read(&mut self, _buffer: &mut [u8]) -> Result<usize, ReadError> {
        match *self {}
    }

    fn write(&mut self, _slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match *self {}
    }

    fn shut_down(&mut self) {
        match *self {}
    }
}

/// An encrypted connection that this side has opened; there is no value of it either.
pub(crate) type Outward = Session;

impl Outward {
    /// Always fails: this wsson was built without TLS.
    ///
    /// # Errors
    /// A sentence for the administrator.
    pub(super) fn new(_socket: TcpStream, _name: &str) -> Result<Self, String> {
        Err("this wsson was built without TLS".into())
    }
}
