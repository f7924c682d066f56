//! From two PEM files to a [`Config`], or a sentence that says which of them is wrong, and the right way.

use super::pem::{self, Block};
use super::{Config, Validity, x509};
use crate::sys;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, ServerConfig};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

/// More than any chain of certificates.
const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// Tickets for each connection: a browser resumes with one. Resuming costs no signature, for which a
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
    let shown: Vec<_> = chain.iter().map(|link| link.der.clone()).collect();
    let validity = Validity::of(&shown, certificate);
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("cannot set TLS up: {error}"))?
        .with_no_client_auth()
        .with_single_cert(shown.clone(), private.clone_key())
        .map_err(|error| refused(&error, &provider, &chain, &private, certificate, key))?;
    server.ticketer = ticketer;
    server.send_tls13_tickets = TICKETS;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Config { server: Arc::new(server), chain: shown.into(), validity })
}

/// A certificate of the chain, and the line that it begins in.
struct Link {
    line: usize,
    der: CertificateDer<'static>,
}

fn chain(path: &Path) -> Result<Vec<Link>, String> {
    let about = |line, why: &str| about("certificate", path, line, why);
    let mut links = Vec::new();
    let mut others = Vec::new();
    for Block { label, line, bytes, .. } in blocks("certificate", path)? {
        match label.as_str() {
            // The second is an old name of it (RFC 7468 section 5.3).
            "CERTIFICATE" | "X509 CERTIFICATE" if x509::facts(&bytes).is_some() => {
                links.push(Link { line, der: bytes.into() });
            }
            "CERTIFICATE" | "X509 CERTIFICATE" => {
                return Err(about(line, "what the block holds is no certificate: it is damaged"));
            }
            "TRUSTED CERTIFICATE" => {
                return Err(about(
                    line,
                    "a TRUSTED CERTIFICATE is OpenSSL's own form: openssl x509 -in OLD -out NEW",
                ));
            }
            "PKCS7" => {
                return Err(about(
                    line,
                    "PKCS7 holds certificates in another form: openssl pkcs7 -print_certs",
                ));
            }
            // HAProxy wants one file for both.
            label if label.ends_with("PRIVATE KEY") || label.ends_with("PARAMETERS") => {}
            _ => others.push((line, label)),
        }
    }
    match (links.is_empty(), others.first()) {
        (false, None) => Ok(links),
        (true, Some((line, label))) if label.ends_with("CERTIFICATE REQUEST") => Err(about(
            *line,
            "it is a request for a certificate; the certificate is what the authority made of it",
        )),
        (_, Some((line, label))) => Err(about(*line, &format!("a block {label} does not belong into it"))),
        (true, None) => Err(about(0, "it holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let about = |line, why: &str| about("key", path, line, why);
    let mut found: Option<(usize, PrivateKeyDer<'static>)> = None;
    for Block { label, line, encrypted, bytes } in blocks("key", path)? {
        let key = match label.as_str() {
            "ENCRYPTED PRIVATE KEY" => return Err(about(line, PASSPHRASE)),
            _ if encrypted => return Err(about(line, PASSPHRASE)),
            "PRIVATE KEY" => PrivateKeyDer::Pkcs8(bytes.into()),
            "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(bytes.into()),
            "EC PRIVATE KEY" => PrivateKeyDer::Sec1(bytes.into()),
            "OPENSSH PRIVATE KEY" => {
                return Err(about(line, "it is a key of OpenSSH, for logging in, and of no use for TLS"));
            }
            "DSA PRIVATE KEY" => {
                return Err(about(line, &format!("DSA is not used by TLS any more; {USABLE}")));
            }
            "PUBLIC KEY" | "RSA PUBLIC KEY" => {
                return Err(about(line, "it is the public key; the private one is needed"));
            }
            // One file for both, and the parameters that openssl ecparam writes before a key.
            "CERTIFICATE" | "X509 CERTIFICATE" | "EC PARAMETERS" | "DH PARAMETERS" => continue,
            label => return Err(about(line, &format!("a block {label} does not belong into it"))),
        };
        if let Some((first, _)) = found {
            let why = format!(
                "it holds a second private key, after that of line {first}: keep the one of the certificate"
            );
            return Err(about(line, &why));
        }
        found = Some((line, key));
    }
    let none = || about(0, "it holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)");
    found.map(|(_, key)| key).ok_or_else(none)
}

const PASSPHRASE: &str = "it is protected by a passphrase, which cannot be typed at start: write one without it (openssl pkey -in OLD -out NEW)";
const USABLE: &str = "ECDSA (P-256, P-384), Ed25519 and RSA from 2048 bits are";

fn blocks(what: &str, path: &Path) -> Result<Vec<Block>, String> {
    pem::blocks(&read(what, path)?).map_err(|wrong| about(what, path, wrong.line, &wrong.why))
}

/// A sentence about a file, with the line when there is one.
fn about(what: &str, path: &Path, line: usize, why: &str) -> String {
    match line {
        0 => format!("cannot use the {what} {}: {why}", path.display()),
        line => format!("cannot use the {what} {}, line {line}: {why}", path.display()),
    }
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

/// Why rustls does not take certificate and key together. The commonest reason is looked for: a chain that is turned around.
fn refused(
    error: &Error,
    provider: &CryptoProvider,
    chain: &[Link],
    private: &PrivateKeyDer<'static>,
    certificate: &Path,
    key: &Path,
) -> String {
    match error {
        Error::InconsistentKeys(_) => {
            let fits = |link: &&Link| {
                CertifiedKey::from_der(vec![link.der.clone()], private.clone_key(), provider).is_ok()
            };
            match chain.iter().skip(1).find(fits) {
                Some(own) => about(
                    "certificate",
                    certificate,
                    own.line,
                    "the server's own certificate, the one of the key, begins there behind others: it must come first",
                ),
                None => format!(
                    "the key {} does not belong to the certificate {}: take both from one issue",
                    key.display(),
                    certificate.display()
                ),
            }
        }
        Error::InvalidCertificate(why) if format!("{why:?}").contains("UnsupportedCertVersion") => about(
            "certificate",
            certificate,
            chain[0].line,
            "it is of X.509 version 1, which TLS does not use any more: have one made of version 3",
        ),
        Error::InvalidCertificate(_) => {
            about("certificate", certificate, chain[0].line, &format!("it is damaged: {error}"))
        }
        _ => about("key", key, 0, &format!("{error}; {USABLE}")),
    }
}
