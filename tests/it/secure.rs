//! A browser's side of TLS, by rustls, over sockets that can be made to deliver bytes one by one.

use crate::client::{Client, Cookies, Head};
use crate::server::{Address, Over, Server, Socket, data};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

pub(crate) const TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
pub(crate) const TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// A client that trusts the tests' authority; connections with one of these can resume each other.
pub(crate) fn trusting(versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate("ca")).expect("the authority of the tests");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
    Arc::new(config.expect("versions").with_root_certificates(roots).with_no_client_auth())
}

pub(crate) fn certificate(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(data(&format!("{name}.pem"))).expect("a certificate in PEM")
}

/// Both sides of TLS and the socket below.
pub(crate) struct Tls {
    pub(crate) connection: ClientConnection,
    pub(crate) socket: TcpStream,
    /// Bytes in one write.
    pub(crate) step: usize,
}

impl Tls {
    /// Connects; nothing is said yet.
    #[track_caller]
    pub(crate) fn connect(server: &Server, config: &Arc<ClientConfig>) -> Self {
        let address = server.endpoints.iter().find(|address| matches!(address, Address::Tls(_)));
        Self::to(address.expect("a TLS listener"), config)
    }

    /// The same, to an address of the test's choice.
    #[track_caller]
    pub(crate) fn to(address: &Address, config: &Arc<ClientConfig>) -> Self {
        let Ok(Socket::Tcp(socket)) = address.connect() else {
            panic!("the TLS listener accepts");
        };
        socket.set_nodelay(true).expect("a TCP option");
        let name = ServerName::try_from("localhost").expect("a name");
        let connection = ClientConnection::new(Arc::clone(config), name).expect("a TLS client");
        Self { connection, socket, step: usize::MAX }
    }

    pub(crate) fn shake_hands(&mut self) -> io::Result<()> {
        while self.connection.is_handshaking() {
            self.push()?;
            if self.connection.is_handshaking() {
                self.pull()?;
            }
        }
        self.push()
    }

    /// With bytes before the first one of TLS.
    #[track_caller]
    pub(crate) fn behind(mut self, header: &[u8]) -> Self {
        self.socket.write_all(header).expect("the server reads");
        self
    }

    /// Whose certificate the server showed.
    #[track_caller]
    pub(crate) fn shows(&self, name: &str) -> bool {
        self.connection.peer_certificates().expect("the handshake is done")[0] == certificate(name)
    }

    pub(crate) fn resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// A WebSocket over it.
    #[track_caller]
    pub(crate) fn open(mut self) -> Client {
        self.shake_hands().expect("the server shakes hands");
        let cookies = Cookies::fresh();
        let mut client = Client::raw(Socket::Over(Box::new(self)), &cookies.token);
        client.socket.send(&Head::good(&cookies).bytes());
        client.expect_upgrade();
        client
    }

    /// Sends what waits.
    pub(crate) fn push(&mut self) -> io::Result<()> {
        let mut records = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut records)?;
        }
        records.chunks(self.step).try_for_each(|piece| self.socket.write_all(piece))
    }

    /// Reads once. The end without a close_notify is an error, since it could be an attacker's.
    fn pull(&mut self) -> io::Result<()> {
        let len = self.connection.read_tls(&mut self.socket)?;
        self.connection.process_new_packets().map_err(io::Error::other)?;
        let cut = len == 0 && self.connection.is_handshaking();
        if cut { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

impl Read for Tls {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.pull()?,
                result => return result,
            }
        }
    }
}

impl Write for Tls {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.connection.writer().write(bytes)?;
        self.push()?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Over for Tls {
    fn finish(&self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(f)
    }
}
