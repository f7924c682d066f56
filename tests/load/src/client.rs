//! The generator's connections: thousands of browsers on one thread, read by one epoll.
//!
//! It polls without sleeping, so that a server's `send()` never pays for waking the generator up: that cost would
//! depend on who happens to be faster. The time of empty polls is counted, so it can be told how busy the
//! generator really was.

use crate::Result;
use crate::options::Kind;
use crate::server::Server;
use crate::sys::{self, Epoll, Events};
use crate::wire::{self, Upgrade};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// Connections that are opened together; far below any backlog and the server's bound of unauthenticated ones.
pub const BATCH: usize = 128;
/// Connections from one source address: more make the kernel search long for a free port.
const PER_SOURCE: usize = 2_000;
/// The longest a whole exchange may take before what is missing counts as lost.
pub const EXCHANGE_MAX: Duration = Duration::from_secs(20);
const BUFFER_BYTES: usize = 256 * 1024;
const EVENTS: usize = 512;

pub struct Fleet {
    /// Number of the first connection: two fleets of one server hold different tokens.
    first: usize,
    conns: Vec<OwnedFd>,
    epoll: Epoll,
    events: Events,
    buffer: Box<[u8]>,
    idle: Duration,
}

impl Fleet {
    pub fn new(first: usize) -> Result<Self> {
        Ok(Self {
            first,
            conns: Vec::new(),
            epoll: Epoll::new()?,
            events: Events::with_capacity(EVENTS),
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            idle: Duration::ZERO,
        })
    }

    pub fn len(&self) -> usize {
        self.conns.len()
    }

    /// Opens connections until there are `count`.
    pub fn grow(&mut self, server: &Server, count: usize) -> Result<()> {
        while self.len() < count {
            let end = count.min(self.len() + BATCH);
            let upgrades: Vec<Upgrade> = (self.len()..end)
                .map(|index| wire::upgrade(self.first + index, server.port, server.has_users))
                .collect();
            self.open(server, &upgrades)?;
        }
        Ok(())
    }

    /// Opens one connection per request, and returns when all were accepted.
    pub fn open(&mut self, server: &Server, upgrades: &[Upgrade]) -> Result<()> {
        let first = self.len();
        for upgrade in upgrades {
            let index = self.len();
            let source =
                SocketAddrV4::new(Ipv4Addr::new(127, 0, 1, ((self.first + index) / PER_SOURCE) as u8 + 1), 0);
            let socket = sys::connect(source, server.address())?;
            self.epoll.add(socket.as_raw_fd(), index as u64, false)?;
            // A loopback connection is established when connect() returns.
            if sys::send(socket.as_raw_fd(), &upgrade.head)? != upgrade.head.len() {
                return Err("a request head did not leave in one piece".into());
            }
            self.conns.push(socket);
        }
        self.await_upgrades(server, first, upgrades)
    }

    fn await_upgrades(&mut self, server: &Server, first: usize, upgrades: &[Upgrade]) -> Result<()> {
        let deadline = Instant::now() + EXCHANGE_MAX;
        let mut left = upgrades.len();
        let mut refusal = None;
        while left > 0 {
            self.poll(|index, bytes| {
                left = left.saturating_sub(1);
                if !accepted(server.kind, bytes, &upgrades[index - first]) {
                    refusal.get_or_insert_with(|| String::from_utf8_lossy(bytes).into_owned());
                }
            })?;
            if let Some(answer) = refusal {
                return Err(
                    format!("a connection was refused: {}\n{}", answer.trim_end(), server.said()).into()
                );
            }
            if Instant::now() > deadline {
                return Err("the server does not answer requests".into());
            }
        }
        Ok(())
    }

    /// Takes fewer events per poll, for who has something else to look at in between.
    pub fn set_batch(&mut self, events: usize) {
        self.events = Events::with_capacity(events);
    }

    /// Takes what is there to read, without waiting, and hands it over with its connection's index.
    pub fn poll(&mut self, mut on_bytes: impl FnMut(usize, &[u8])) -> Result<()> {
        let start = Instant::now();
        self.epoll.wait(&mut self.events, 0)?;
        for at in 0..self.events.len() {
            let (index, readable, _) = self.events.get(at);
            if readable {
                read(&self.conns[index as usize], &mut self.buffer, |bytes| on_bytes(index as usize, bytes))
                    .map_err(|error| format!("connection {index}: {error}"))?;
            }
        }
        if self.events.len() == 0 {
            self.idle += start.elapsed();
        }
        Ok(())
    }

    /// Sends bytes that are known to fit the socket's buffer.
    pub fn send(&self, index: usize, bytes: &[u8]) -> Result<()> {
        match sys::send(self.conns[index].as_raw_fd(), bytes)? {
            sent if sent == bytes.len() => Ok(()),
            _ => Err("a client's frames did not fit its socket".into()),
        }
    }

    /// Time spent in polls that found nothing, since the last call.
    pub fn take_idle(&mut self) -> Duration {
        std::mem::take(&mut self.idle)
    }

    /// Ends all connections by a reset, so that their ports are free at once.
    pub fn close(&mut self) -> Result<()> {
        for socket in self.conns.drain(..) {
            sys::set_reset_on_close(socket.as_raw_fd())?;
        }
        Ok(())
    }
}

/// A read that fills less than the buffer has emptied the socket.
fn read(socket: &OwnedFd, buffer: &mut [u8], mut on_bytes: impl FnMut(&[u8])) -> io::Result<()> {
    loop {
        match sys::recv(socket.as_raw_fd(), buffer) {
            Ok(0) => return Err(io::Error::other("the server closed it")),
            Ok(got) => {
                on_bytes(&buffer[..got]);
                if got < buffer.len() {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn accepted(kind: Kind, answer: &[u8], upgrade: &Upgrade) -> bool {
    let contains = |what: &[u8]| answer.windows(what.len()).any(|part| part == what);
    answer.starts_with(b"HTTP/1.1 101 ")
        && answer.ends_with(b"\r\n\r\n")
        && (kind == Kind::Floor || contains(upgrade.accept.as_bytes()))
}
