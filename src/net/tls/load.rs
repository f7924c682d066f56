//! From two PEM files to a [`Config`], or a sentence that says which of them is wrong, and what would be right.

use super::Config;
use crate::sys;
use rustls::crypto::ring;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{Error, ServerConfig};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

/// More than any chain of certificates.
const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// Tickets for each connection: a browser resumes with one. Resuming costs no signature, which is what a
/// thousand visitors that come back at once would wait for.
const TICKETS: usize = 1;

/// Reads a certificate chain (the server's own certificate first) and its private key, both in PEM.
///
/// # Errors
/// A sentence for the administrator.
pub(crate) fn load(certificate: &Path, key: &Path) -> Result<Config, String> {
    let (chain, private) = match (chain(certificate), private_key(key)) {
        (Ok(chain), Ok(private)) => (chain, private),
        (Err(one), Err(other)) => return Err(format!("{one}; {other}")),
        (Err(one), _) | (_, Err(one)) => return Err(one),
    };
    let provider = Arc::new(ring::default_provider());
    let ticketer =
        ring::Ticketer::new().map_err(|error| format!("cannot make a key for tickets: {error}"))?;
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("cannot set TLS up: {error}"))?
        .with_no_client_auth()
        .with_single_cert(chain.clone(), private)
        .map_err(|error| refused(&error, certificate, key))?;
    server.ticketer = ticketer;
    server.send_tls13_tickets = TICKETS;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Config { server: Arc::new(server), chain: chain.into() })
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read("certificate", path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(format!(
            "the certificate {} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)",
            path.display()
        )),
        Err(error) => Err(format!("the certificate {} is damaged: {error}", path.display())),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text = read("key", path)?;
    let shown = path.display();
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        PemError::NoItemsFound if contains(&text, b"-----BEGIN ENCRYPTED PRIVATE KEY-----") => format!(
            "the key {shown} is protected by a passphrase, which nobody can type at start: \
             write one without it (openssl pkey -in OLD -out NEW)"
        ),
        PemError::NoItemsFound => {
            format!("the key {shown} holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)")
        }
        error => format!("the key {shown} is damaged: {error}"),
    })
}

/// The bytes of a regular file; anything else might never end, or not begin.
fn read(what: &str, path: &Path) -> Result<Vec<u8>, String> {
    let read = || {
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(PEM_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error: io::Error| {
        let why = match error.kind() {
            io::ErrorKind::Other => error.to_string(),
            _ => sys::describe(&error),
        };
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "; the user that the server runs as reads it again at each reload"
            }
            _ => "",
        };
        format!("cannot read the {what} {}: {why}{hint}", path.display())
    })
}

fn refused(error: &Error, certificate: &Path, key: &Path) -> String {
    let (certificate, key) = (certificate.display(), key.display());
    match error {
        Error::InconsistentKeys(_) => {
            format!(
                "the key {key} does not belong to the certificate {certificate}: take both from one issue"
            )
        }
        Error::InvalidCertificate(_) => format!("the certificate {certificate} is damaged: {error}"),
        _ => format!(
            "the key {key} can not be used: {error}; RSA from 2048 bits, ECDSA (P-256, P-384), Ed25519 can"
        ),
    }
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}
