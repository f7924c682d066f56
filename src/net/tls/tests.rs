//! Sessions over a real socket pair, fed by a real client whose bytes are cut, changed and mixed up: for all
//! of them a session answers with bytes, an end or an error, and holds no more than its bounds.

use super::{Config, Session, load};
use crate::driver::{ReadError, Stream};
use proptest::prelude::*;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn config() -> &'static Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    CONFIG.get_or_init(|| load(&data("curve.pem"), &data("curve.key")).expect("the tests' certificate"))
}

struct Pair {
    server: Session,
    client: ClientConnection,
    socket: TcpStream,
    buffer: Vec<u8>,
    received: Vec<u8>,
}

impl Pair {
    fn new(version: &'static rustls::SupportedProtocolVersion) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let socket = TcpStream::connect(listener.local_addr().expect("an address")).expect("it listens");
        socket.set_nodelay(true).expect("a TCP option");
        socket.set_nonblocking(true).expect("an option");
        let (other, _) = listener.accept().expect("a connection");
        other.set_nonblocking(true).expect("an option");
        let server = config().accept(mio::net::TcpStream::from_std(other)).expect("a session");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(data("ca.pem")).expect("PEM")).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let client = ClientConnection::new(Arc::new(client), name).expect("a client");
        Self { server, client, socket, buffer: vec![0; crate::driver::SCRATCH_BYTES], received: Vec::new() }
    }

    /// The bytes that the client has to send, changed or not.
    fn flight(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut records).expect("a Vec takes all");
        }
        records
    }

    /// The server reads until nothing is left, then sends. False when it is over.
    fn serve(&mut self) -> bool {
        loop {
            match self.server.read(&mut self.buffer) {
                Ok(0) => return false,
                Ok(len) => self.received.extend_from_slice(&self.buffer[..len]),
                Err(ReadError::Io(error)) if error.kind() == ErrorKind::Interrupted => {}
                Err(ReadError::Io(error)) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        self.server.flush().is_ok()
    }

    /// The client takes the bytes that came. An error of its own is no matter.
    fn listen(&mut self) {
        while self.client.read_tls(&mut self.socket).is_ok_and(|len| len > 0) {
            if self.client.process_new_packets().is_err() {
                return;
            }
        }
    }

    /// Sends bytes in pieces, with the server reading in between.
    fn send(&mut self, bytes: &[u8], piece: usize) -> bool {
        bytes.chunks(piece.max(1)).all(|piece| self.socket.write_all(piece).is_ok() && self.serve())
    }

    #[track_caller]
    fn shake_hands(&mut self, piece: usize) {
        for _ in 0..4 {
            let flight = self.flight();
            assert!(self.send(&flight, piece), "the server gave up");
            self.listen();
        }
        assert!(!self.client.is_handshaking());
    }
}

fn versions() -> impl Strategy<Value = &'static rustls::SupportedProtocolVersion> {
    prop_oneof![Just(&rustls::version::TLS12), Just(&rustls::version::TLS13)]
}

/// A change to the client's bytes.
#[derive(Clone, Debug)]
enum Change {
    Flip(prop::sample::Index, u8),
    Remove(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let index = any::<prop::sample::Index>;
    let change = prop_oneof![
        3 => (index(), 1..=255u8).prop_map(|(at, by)| Change::Flip(at, by)),
        1 => (index(), 1..600usize).prop_map(|(at, len)| Change::Remove(at, len)),
        1 => (index(), 1..600usize).prop_map(|(at, len)| Change::Repeat(at, len)),
        1 => (index(), prop::collection::vec(any::<u8>(), 1..50)).prop_map(|(at, new)| Change::Insert(at, new)),
        // A whole record of any type, where a record may well begin.
        2 => (index(), 20..25u8, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(at, kind, payload)| {
            Change::Insert(at, [&[kind, 3, 3, 0, payload.len() as u8][..], &payload].concat())
        }),
    ];
    prop::collection::vec(change, 0..3)
}

fn apply(change: &Change, bytes: &mut Vec<u8>) {
    let len = bytes.len();
    match change {
        _ if bytes.is_empty() => {}
        Change::Flip(at, by) => bytes[at.index(len)] ^= by,
        Change::Remove(at, count) => drop(bytes.drain(at.index(len)..(at.index(len) + count).min(len))),
        Change::Repeat(at, count) => {
            let again = bytes[at.index(len)..(at.index(len) + count).min(len)].to_vec();
            bytes.splice(at.index(len)..at.index(len), again);
        }
        Change::Insert(at, new) => drop(bytes.splice(at.index(len)..at.index(len), new.iter().copied())),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The bytes that a client sends arrive as they are, however its records are cut, and the other way.
    #[test]
    fn any_cut_gives_the_same_bytes(
        version in versions(),
        piece in 1..3000usize,
        lens in prop::collection::vec(0..40_000usize, 1..4),
    ) {
        let mut pair = Pair::new(version);
        pair.shake_hands(piece);
        for len in lens {
            let message: Vec<u8> = (0..len).map(|place| (place % 251) as u8).collect();
            pair.client.set_buffer_limit(None);
            pair.client.writer().write_all(&message).expect("no limit");
            let flight = pair.flight();
            pair.received.clear();
            prop_assert!(pair.send(&flight, piece));
            prop_assert_eq!(&pair.received, &message);
            prop_assert!(pair.server.incoming.is_empty() && !pair.server.has_unsent());

            let (mut sent, mut found) = (0, Vec::new());
            while found.len() < len {
                let (one, other) = message[sent..].split_at((len - sent) / 2);
                match pair.server.write(&[IoSlice::new(one), IoSlice::new(other)]) {
                    Ok(taken) => sent += taken,
                    Err(error) => prop_assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
                pair.listen();
                let mut buffer = [0; 65536];
                while let Ok(len @ 1..) = pair.client.reader().read(&mut buffer) {
                    found.extend_from_slice(&buffer[..len]);
                }
            }
            prop_assert_eq!(&found, &message);
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Nothing that comes makes it panic, or hold more than its bounds.
    #[test]
    fn whatever_comes_is_an_error_at_worst(
        version in versions(),
        piece in 1..2000usize,
        changes in prop::collection::vec(changes(), 4),
    ) {
        let mut pair = Pair::new(version);
        for (round, changes) in changes.iter().enumerate() {
            if round == 2 {
                // It fails when the handshake did.
                let _ = pair.client.writer().write_all(&[7; 3000]);
            }
            let mut flight = pair.flight();
            changes.iter().for_each(|change| apply(change, &mut flight));
            let goes_on = pair.send(&flight, piece);
            prop_assert!(pair.server.incoming.len() <= crate::driver::SCRATCH_BYTES);
            prop_assert!(pair.server.outgoing.len() <= 16 * 1024);
            if !goes_on {
                // The driver may read and write until the slot is reaped.
                let _ = (pair.server.read(&mut pair.buffer), pair.server.write(&[IoSlice::new(b"x")]));
                pair.server.shut_down();
                break;
            }
            let _ = pair.server.write(&[IoSlice::new(b"something")]);
            pair.listen();
        }
        pair.server.shut_down();
        pair.serve();
    }
}
