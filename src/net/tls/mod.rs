//! TLS listeners: the certificate, and the sessions that use it.
//!
//! TLS 1.2 and 1.3 by rustls with ring, HTTP/1.1 only, no client certificates. It never keeps anything of
//! a session that is over: sessions are resumed by tickets that the client keeps, under a key that
//! changes every six hours. Invariant: a [`Config`] was checked as a whole, so no session can fail for
//! a mistake of the administrator.

mod client;
#[cfg(test)]
mod files;
mod load;
mod outward;
mod pem;
mod session;
#[cfg(test)]
mod tests;
mod x509;

pub(crate) use client::{Encrypted, connect};
pub(crate) use load::load;
pub(crate) use outward::Outward;
pub(crate) use session::Session;

use crate::date;
use mio::net::TcpStream;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The identity of encrypted connections: certificate chain and key. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Config {
    server: Arc<ServerConfig>,
    chain: Arc<[CertificateDer<'static>]>,
    validity: Validity,
}

/// How long the server's own certificate holds, and its other surprises.
#[derive(Clone, Debug)]
struct Validity {
    file: PathBuf,
    not_before_unix_s: i64,
    not_after_unix_s: i64,
    /// It was signed by another one, which is not in the file.
    signer_is_missing: bool,
}

impl Validity {
    fn of(chain: &[CertificateDer<'_>], file: &Path) -> Self {
        let facts = chain.first().and_then(|own| x509::facts(own));
        let signs_itself = facts.is_none_or(|own| own.issuer == own.subject);
        Self {
            file: file.into(),
            not_before_unix_s: facts.map_or(0, |own| own.not_before_unix_s),
            not_after_unix_s: facts.map_or(i64::MAX, |own| own.not_after_unix_s),
            signer_is_missing: chain.len() == 1 && !signs_itself,
        }
    }
}

impl Config {
    /// When the server's own certificate ends.
    pub(crate) fn expires_unix_s(&self) -> i64 {
        self.validity.not_after_unix_s
    }

    /// Faults with which it can be served, but browsers refuse it or may.
    pub(crate) fn warnings(&self, now_unix_s: i64) -> Vec<String> {
        let Validity { file, not_before_unix_s, not_after_unix_s, signer_is_missing } = &self.validity;
        let about = |what: String| format!("the certificate {} {what}", file.display());
        let (begins, ends) = (date::show(*not_before_unix_s), date::show(*not_after_unix_s));
        let mut warnings = Vec::new();
        if now_unix_s > *not_after_unix_s {
            warnings.push(about(format!("has expired on {ends}: browsers refuse it")));
        } else if now_unix_s < *not_before_unix_s {
            warnings.push(about(format!("is not valid before {begins}: browsers refuse it until then")));
        }
        if *signer_is_missing {
            let what = "is alone in its file, without that of its authority: many programs will not trust it; is there a fullchain.pem?";
            warnings.push(about(what.into()));
        }
        warnings
    }

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
