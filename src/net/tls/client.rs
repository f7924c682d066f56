//! The other side of TLS: for the one command that visits a server as a browser does (`wsson doctor`), and for the
//! connections of the bus.
//!
//! It trusts the authorities that this host trusts: the certificates of the file that `SSL_CERT_FILE` names, or of the
//! system.

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, ClientConnection, Error, RootCertStore, StreamOwned};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where systems keep the certificates of the authorities that they trust, in one file.
const ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// An encrypted connection.
pub(crate) trait Encrypted: Read + Write {
    /// The version of TLS that was agreed on, as it is called.
    fn version(&self) -> String;
}

impl Encrypted for StreamOwned<ClientConnection, TcpStream> {
    fn version(&self) -> String {
        let version = self.conn.protocol_version().and_then(|version| version.as_str());
        version.map_or("TLS".into(), |name| name.replacen("TLSv1_", "TLS 1.", 1))
    }
}

/// Makes a connection an encrypted one to this name.
///
/// # Errors
/// A sentence that names the fault of the server's certificate or of TLS.
pub(crate) fn connect(mut socket: TcpStream, name: &str) -> Result<Box<dyn Encrypted>, String> {
    let mut connection = connection(name)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket).map_err(|error| explain(&error))?;
    }
    Ok(Box::new(StreamOwned::new(connection, socket)))
}

/// The state of a connection to a server of this name, before its first byte.
pub(super) fn connection(name: &str) -> Result<ClientConnection, String> {
    let server = ServerName::try_from(name.to_owned()).map_err(|_| format!("{name:?} is no host name"))?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("cannot set TLS up: {error}"))?
        .with_root_certificates(roots()?)
        .with_no_client_auth();
    ClientConnection::new(Arc::new(config), server).map_err(|error| error.to_string())
}

/// The commonest mistakes in words; the rest as rustls and the system say it.
pub(super) fn explain(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidMessage(_)) => "what answers there speaks no TLS: ws:// would be right".into(),
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "its certificate comes from no authority that this host trusts, or its chain is not whole".into()
        }
        Some(Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => "its certificate has expired".into(),
        Some(other) => other.to_string(),
        None => crate::sys::describe(error),
    }
}

fn roots() -> Result<RootCertStore, String> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let file = named.or_else(|| ROOTS.iter().map(PathBuf::from).find(|path| path.is_file()));
    let file =
        file.ok_or("this host has no list of authorities: install ca-certificates, or set SSL_CERT_FILE")?;
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates(&file)?);
    match store.is_empty() {
        true => Err(format!("{} holds no certificate of an authority", file.display())),
        false => Ok(store),
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let cannot = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", file.display());
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| cannot(&error))?;
    certificates.collect::<Result<_, _>>().map_err(|error| cannot(&error))
}
