//! TLS listeners: the certificate, and the sessions that use it.
//!
//! TLS 1.2 and 1.3 by rustls with ring, HTTP/1.1 only, no client certificates. It never keeps anything of
//! a session that is over: sessions are resumed by tickets that the client keeps, under a key that
//! changes every six hours. Invariant: a [`Config`] was checked as a whole, so no session can fail for
//! what the administrator did.

mod client;
mod load;
mod session;
#[cfg(test)]
mod tests;

pub(crate) use client::{Encrypted, connect};
pub(crate) use load::load;
pub(crate) use session::Session;

use mio::net::TcpStream;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use std::io;
use std::sync::Arc;

/// What connections are encrypted with: certificate chain and key. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Config {
    server: Arc<ServerConfig>,
    chain: Arc<[CertificateDer<'static>]>,
}

impl Config {
    /// A session over a connection that was accepted.
    pub(crate) fn accept(&self, socket: TcpStream) -> io::Result<Session> {
        Session::new(socket, Arc::clone(&self.server))
    }
}

/// Whether they show the same certificate.
impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        self.chain == other.chain
    }
}
