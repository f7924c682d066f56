//! The fake network and the fake poll.
//!
//! It behaves as Linux's stream sockets under edge-triggered epoll, at its most unhelpful: an event comes
//! only when something new appears after the server saw `WouldBlock` or a short read or write (what comes
//! earlier may or may not cause one), events of one socket are merged, some are spurious. Bytes travel in
//! pieces of any size. Closing a socket with unread input destroys what the peer has not read yet.

use super::rng::{Rng, hash_bytes, trace};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::ops::RangeInclusive;
use std::rc::Rc;
use wsson::testing::client::PeerAddr;
use wsson::testing::driver::{Listen, Peer, ReadError, Ready, Stream, Token};

pub(crate) type Shared = Rc<RefCell<Net>>;

/// How bad the network is; all in percent but for `cap`, `fds_max`, `batch`.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    /// A delivery is of a few bytes only.
    pub(crate) split: usize,
    /// A read or write is interrupted.
    pub(crate) interrupt: usize,
    /// A write is not taken, or only in part, although there is room.
    pub(crate) storm: usize,
    /// An accept fails for want of descriptors, or because the peer is gone.
    pub(crate) accept: usize,
    /// A socket has an event without a reason.
    pub(crate) spurious: usize,
    /// Bytes arrive between two events of one poll.
    pub(crate) race: usize,
    /// A client's connection is one that holds bytes of its own, as TLS does.
    pub(crate) records: usize,
    /// Room in the server's send buffer, for new connections.
    pub(crate) cap: usize,
    /// Sockets the server may have.
    pub(crate) fds_max: usize,
    /// Events in one poll.
    pub(crate) batch: usize,
}

impl Faults {
    pub(crate) fn none() -> Self {
        Self {
            split: 0,
            interrupt: 0,
            storm: 0,
            accept: 0,
            spurious: 0,
            race: 0,
            records: 0,
            cap: 1 << 20,
            fds_max: 1 << 20,
            batch: 1024,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Conn {
    /// Sent by the peer, not yet in the server's receive buffer.
    flight: Vec<u8>,
    rx: Vec<u8>,
    /// The peer's side is shut down, and the server's kernel knows.
    fin: bool,
    fin_arrived: bool,
    /// The connection is broken, as the server sees it.
    reset: bool,
    /// The peer is gone: the server's writes come back as a reset.
    abandoned: bool,
    /// Written by the server, not yet read by the peer.
    tx: Vec<u8>,
    cap: usize,
    token: Option<Token>,
    /// Bytes that the server wrote in all, and how many they were when it last could not write all that it had.
    written: usize,
    shorts: VecDeque<usize>,
    /// It has buffers of its own, as TLS does: what is short in them shows later, or elsewhere.
    records: bool,
    server_shut: bool,
    server_closed: bool,
    /// The server closed with unread input: the peer sees a reset.
    reset_by_server: bool,
    // Readiness.
    drained: bool,
    blocked: bool,
    /// Blocked without a reason: the edge comes with time.
    stormy: bool,
    read_edge: bool,
    write_edge: bool,
    close_edge: bool,
    pub(crate) last_read_ms: u64,
    /// When the server could last write something that is not a ping to a backend.
    pub(crate) last_write_ms: u64,
}

#[derive(Debug, Default)]
struct Port {
    backlog: VecDeque<usize>,
    drained: bool,
    edge: bool,
    closed: bool,
}

pub(crate) struct Net {
    pub(crate) rng: Rng,
    pub(crate) faults: Faults,
    pub(crate) now_ms: u64,
    conns: Vec<Conn>,
    ports: Vec<Port>,
    fds: usize,
}

impl Net {
    pub(crate) fn new(seed: u64, faults: Faults, ports: usize) -> Shared {
        let ports = (0..ports).map(|_| Port::default()).collect();
        let rng = Rng::new(seed ^ 0xFACE);
        Rc::new(RefCell::new(Self { rng, faults, now_ms: 0, conns: Vec::new(), ports, fds: 0 }))
    }

    // The peers' side.

    pub(crate) fn connect(&mut self, place: usize) -> usize {
        let id = self.conns.len();
        self.conns.push(Conn { cap: self.faults.cap, ..Conn::default() });
        let port = &mut self.ports[place];
        if port.closed {
            self.conns[id].reset_by_server = true;
            self.conns[id].server_closed = true;
            return id;
        }
        port.backlog.push_back(id);
        port.edge |= port.drained || self.rng.chance(50);
        port.drained = false;
        id
    }

    pub(crate) fn send(&mut self, id: usize, bytes: &[u8]) {
        let conn = &mut self.conns[id];
        assert!(!conn.fin, "the model sends behind its own end");
        if !conn.reset && !conn.abandoned {
            conn.flight.extend_from_slice(bytes);
        }
    }

    /// The peer shuts its side down.
    pub(crate) fn shut_down(&mut self, id: usize) {
        self.conns[id].fin = true;
    }

    /// The peer breaks the connection.
    pub(crate) fn break_off(&mut self, id: usize) {
        let conn = &mut self.conns[id];
        (conn.reset, conn.abandoned, conn.fin) = (true, true, true);
        conn.flight.clear();
        conn.rx.clear();
        conn.tx.clear();
        (conn.read_edge, conn.write_edge, conn.close_edge) = (true, true, true);
    }

    /// The peer's process dies: its kernel shuts down, and answers further bytes with a reset.
    pub(crate) fn abandon(&mut self, id: usize) {
        let conn = &mut self.conns[id];
        (conn.abandoned, conn.fin) = (true, true);
        conn.tx.clear();
    }

    /// The bytes that the peer reads, at most `max`.
    pub(crate) fn receive(&mut self, id: usize, max: usize) -> Vec<u8> {
        let conn = &mut self.conns[id];
        let bytes = conn.tx[..max.min(conn.tx.len())].to_vec();
        conn.tx.drain(..bytes.len());
        // The kernel tells of room when a third of the buffer is free.
        if !bytes.is_empty() && conn.blocked && !conn.stormy && conn.tx.len() <= conn.cap * 2 / 3 {
            (conn.blocked, conn.write_edge) = (false, true);
        }
        bytes
    }

    /// The bytes that the server wrote and the peer has not read.
    pub(crate) fn unread(&self, id: usize) -> &[u8] {
        &self.conns[id].tx
    }

    /// The peer reads nothing from now on: the server can write this many bytes more before its socket makes it wait.
    pub(crate) fn leave_room(&mut self, id: usize, bytes: usize) {
        let conn = &mut self.conns[id];
        conn.cap = conn.tx.len().saturating_add(bytes);
        if bytes > 0 && std::mem::take(&mut conn.blocked) {
            (conn.stormy, conn.write_edge) = (false, true);
        }
    }

    /// Whether the server's side is at its end and everything is read.
    pub(crate) fn is_over(&self, id: usize) -> bool {
        let conn = &self.conns[id];
        conn.tx.is_empty() && (conn.server_shut || conn.server_closed) || conn.reset
    }

    pub(crate) fn was_reset(&self, id: usize) -> bool {
        self.conns[id].reset_by_server
    }

    pub(crate) fn server_closed(&self, id: usize) -> bool {
        self.conns[id].server_closed
    }

    pub(crate) fn is_accepted(&self, id: usize) -> bool {
        self.conns[id].token.is_some()
    }

    /// Whether it waits to be accepted.
    pub(crate) fn is_outside(&self, id: usize) -> bool {
        self.conns[id].token.is_none() && !self.conns[id].server_closed
    }

    /// Whether the server should have noticed that the peer is gone.
    pub(crate) fn peer_left(&self, id: usize) -> bool {
        let conn = &self.conns[id];
        conn.fin_arrived || conn.reset
    }

    /// Whether the server could not write all that it had, at one of these places of its stream.
    pub(crate) fn was_short(&self, id: usize, places: RangeInclusive<usize>) -> bool {
        let conn = &self.conns[id];
        conn.shorts.iter().any(|place| conn.records || places.contains(place))
    }

    pub(crate) fn conn(&self, id: usize) -> &Conn {
        &self.conns[id]
    }

    pub(crate) fn has_unread_input(&self, id: usize) -> bool {
        !self.conns[id].rx.is_empty()
    }

    pub(crate) fn sockets(&self) -> usize {
        self.fds
    }

    // Time.

    /// Moves some bytes of some connections; all of them when `all`.
    pub(crate) fn travel(&mut self, all: bool) {
        for id in 0..self.conns.len() {
            if all || self.rng.chance(60) {
                let max = match self.faults.split {
                    _ if all => usize::MAX,
                    split if self.rng.chance(split) => self.rng.between(1, 3),
                    _ => self.rng.pick(&[50, 1000, 1 << 20]),
                };
                self.deliver(id, max);
            }
            if all || self.rng.chance(50) {
                let conn = &mut self.conns[id];
                if std::mem::take(&mut conn.stormy) && conn.blocked {
                    (conn.blocked, conn.write_edge) = (false, true);
                }
            }
        }
    }

    /// Opens every send buffer wide, as when the faults are over.
    pub(crate) fn widen(&mut self) {
        for conn in &mut self.conns {
            conn.cap = 1 << 20;
            if std::mem::take(&mut conn.blocked) {
                (conn.stormy, conn.write_edge) = (false, true);
            }
        }
    }

    fn deliver(&mut self, id: usize, max: usize) {
        let rng = &mut self.rng;
        let conn = &mut self.conns[id];
        if conn.reset {
            return;
        }
        let len = max.min(conn.flight.len());
        if conn.server_closed {
            // Bytes for a closed socket come back as a reset, which overtakes what was not read.
            if len > 0 {
                (conn.reset_by_server, conn.tx) = (true, Vec::new());
                conn.flight.clear();
            }
            return;
        }
        if len > 0 {
            conn.rx.extend_from_slice(&conn.flight[..len]);
            conn.flight.drain(..len);
            conn.read_edge |= conn.drained || rng.chance(50);
            conn.drained = false;
        }
        if conn.flight.is_empty() && conn.fin && !conn.fin_arrived {
            conn.fin_arrived = true;
            (conn.read_edge, conn.close_edge) = (true, true);
        }
    }

    // The server's poll.

    pub(crate) fn has_events(&self) -> bool {
        self.ports.iter().any(|port| port.edge)
            || self.conns.iter().any(|conn| conn.registered() && conn.has_edge())
    }

    /// The event of one connection alone, if it has one.
    pub(crate) fn poll_one(&mut self, id: usize) -> Option<(Token, Ready)> {
        if self.conns[id].registered() && self.conns[id].has_edge() { self.harvest(id) } else { None }
    }

    /// All that its peer has sent arrives.
    pub(crate) fn hurry(&mut self, id: usize) {
        self.deliver(id, usize::MAX);
    }

    pub(crate) fn poll(&mut self) -> Vec<(Token, Ready)> {
        let mut ready: Vec<usize> = Vec::new();
        for (id, conn) in self.conns.iter().enumerate() {
            if conn.registered() && (conn.has_edge() || self.rng.chance(self.faults.spurious)) {
                ready.push(id);
            }
        }
        self.rng.shuffle(&mut ready);
        ready.truncate(self.faults.batch);
        let mut events: Vec<(Token, Ready)> = ready.into_iter().filter_map(|id| self.harvest(id)).collect();
        for (place, port) in self.ports.iter_mut().enumerate() {
            let spurious = !port.closed && self.rng.chance(self.faults.spurious);
            if std::mem::take(&mut port.edge) || spurious {
                events.push((Token::Listener(place), Ready { readable: true, ..Ready::default() }));
            }
        }
        self.rng.shuffle(&mut events);
        events
    }

    /// Takes a connection's edges. The kernel reports all that is ready with them, or only them.
    fn harvest(&mut self, id: usize) -> Option<(Token, Ready)> {
        let all = self.rng.chance(50);
        let spurious = self.rng.chance(50);
        let conn = &mut self.conns[id];
        let none = !conn.has_edge();
        let take = std::mem::take::<bool>;
        let mut ready = Ready {
            readable: take(&mut conn.read_edge),
            writable: take(&mut conn.write_edge),
            closed: take(&mut conn.close_edge),
        };
        if all {
            ready.readable |= !conn.rx.is_empty() || conn.fin_arrived || conn.reset;
            ready.writable |= conn.tx.len() < conn.cap && !conn.stormy;
            ready.closed |= conn.fin_arrived || conn.reset;
        } else if none {
            (ready.readable, ready.writable) = (spurious, !spurious);
        }
        trace(
            "event",
            id,
            u64::from(ready.readable) | u64::from(ready.writable) << 1 | u64::from(ready.closed) << 2,
        );
        conn.token.map(|token| (token, ready))
    }

    // The server's calls.

    fn accept(&mut self, place: usize, token: Token) -> io::Result<usize> {
        if self.rng.chance(self.faults.interrupt) {
            return Err(ErrorKind::Interrupted.into());
        }
        let Some(id) = self.ports[place].backlog.front().copied() else {
            self.ports[place].drained = true;
            return Err(ErrorKind::WouldBlock.into());
        };
        if self.fds >= self.faults.fds_max {
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        if self.rng.chance(self.faults.accept) {
            if self.rng.chance(70) {
                let error = self.rng.pick(&[EMFILE, ENFILE, ENOBUFS]);
                return Err(io::Error::from_raw_os_error(error));
            }
            self.ports[place].backlog.pop_front();
            let conn = &mut self.conns[id];
            (conn.reset_by_server, conn.server_closed, conn.tx) = (true, true, Vec::new());
            return Err(ErrorKind::ConnectionAborted.into());
        }
        self.ports[place].backlog.pop_front();
        self.fds += 1;
        trace("accept", id, 0);
        let now_ms = self.now_ms;
        let conn = &mut self.conns[id];
        conn.token = Some(token);
        conn.last_read_ms = now_ms;
        // Registration reports what is ready already; a fresh socket can be written to.
        conn.read_edge = !conn.rx.is_empty() || conn.fin_arrived || conn.reset;
        conn.drained = !conn.read_edge;
        conn.close_edge = conn.fin_arrived || conn.reset;
        conn.write_edge = true;
        Ok(id)
    }

    fn read(&mut self, id: usize, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rng.chance(self.faults.interrupt) {
            return Err(ErrorKind::Interrupted.into());
        }
        let now_ms = self.now_ms;
        let conn = &mut self.conns[id];
        if conn.reset {
            trace("read_reset", id, 0);
            return Err(ErrorKind::ConnectionReset.into());
        }
        let len = buffer.len().min(conn.rx.len());
        buffer[..len].copy_from_slice(&conn.rx[..len]);
        conn.rx.drain(..len);
        conn.drained = len < buffer.len();
        trace("read", id, len as u64);
        if len == 0 && !conn.fin_arrived {
            return Err(ErrorKind::WouldBlock.into());
        }
        conn.last_read_ms = now_ms;
        Ok(len)
    }

    fn write(&mut self, id: usize, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.rng.chance(self.faults.interrupt) {
            self.conns[id].is_short();
            return Err(ErrorKind::Interrupted.into());
        }
        let storm = self.rng.chance(self.faults.storm);
        let now_ms = self.now_ms;
        let rng = &mut self.rng;
        let conn = &mut self.conns[id];
        assert!(!conn.server_shut, "the server writes behind its own end");
        assert!(slices.iter().any(|slice| !slice.is_empty()), "the server writes nothing");
        if conn.reset {
            trace("write_reset", id, 0);
            return Err(ErrorKind::BrokenPipe.into());
        }
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        if conn.abandoned {
            conn.reset = true;
            (conn.read_edge, conn.write_edge, conn.close_edge) = (true, true, true);
            return Ok(offered);
        }
        let mut room = conn.cap.saturating_sub(conn.tx.len()).min(offered);
        if storm {
            room = room.min(rng.pick(&[0, 0, 1, 2, 5, 100]));
        }
        if room < offered {
            conn.blocked = true;
            conn.stormy |= conn.tx.len() + room <= conn.cap * 2 / 3;
        }
        let mut left = room;
        for slice in slices {
            let len = left.min(slice.len());
            conn.tx.extend_from_slice(&slice[..len]);
            left -= len;
        }
        conn.written += room;
        if room < offered {
            conn.is_short();
        }
        let at = conn.tx.len() - room;
        trace("write", id, hash_bytes(&conn.tx[at..]) ^ offered as u64);
        if room == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        if &conn.tx[at..] != b"0p" {
            conn.last_write_ms = now_ms;
        }
        Ok(room)
    }

    /// What is ready is reported again, as by EPOLL_CTL_MOD.
    fn rename(&mut self, id: usize, token: Token) {
        trace("rename", id, 0);
        let conn = &mut self.conns[id];
        conn.token = Some(token);
        conn.read_edge |= !conn.rx.is_empty() || conn.fin_arrived || conn.reset;
        conn.close_edge |= conn.fin_arrived || conn.reset;
        conn.write_edge |= conn.tx.len() < conn.cap && !conn.stormy;
    }

    fn close(&mut self, id: usize) {
        trace("close", id, 0);
        self.fds -= 1;
        let conn = &mut self.conns[id];
        conn.server_closed = true;
        if !conn.rx.is_empty() {
            (conn.reset_by_server, conn.tx) = (true, Vec::new());
        }
    }
}

const EMFILE: i32 = 24;
const ENFILE: i32 = 23;
const ENOBUFS: i32 = 105;

/// Places that are kept of a connection: a close frame is shorter.
const SHORTS_MAX: usize = 200;

impl Conn {
    fn is_short(&mut self) {
        if self.shorts.back() != Some(&self.written) {
            self.shorts.push_back(self.written);
            self.shorts.drain(..self.shorts.len().saturating_sub(SHORTS_MAX));
        }
    }

    fn registered(&self) -> bool {
        self.token.is_some() && !self.server_closed
    }

    fn has_edge(&self) -> bool {
        self.read_edge || self.write_edge || self.close_edge
    }
}

/// A socket of the server.
pub(crate) struct FakeStream {
    net: Shared,
    id: usize,
    records: Option<Box<Records>>,
}

/// The buffers of TLS between the socket and the driver, without its arithmetic.
#[derive(Default)]
pub(crate) struct Records {
    /// Reads that are still costly.
    costly: usize,
    incoming: Vec<u8>,
    /// The kernel may have more.
    more: bool,
    ended: bool,
    outgoing: Vec<u8>,
    closing: bool,
}

/// Bytes that such a stream asks the kernel for at once.
const RECORD_BYTES: usize = 300;

impl Records {
    /// Reads the socket once, also while it still holds a part of a cut record.
    fn read(&mut self, net: &Shared, id: usize, buffer: &mut [u8]) -> io::Result<usize> {
        self.costly = self.costly.saturating_sub(1);
        let mut sealed = [0; RECORD_BYTES];
        let read = if self.ended { Ok(0) } else { net.borrow_mut().read(id, &mut sealed) };
        match read {
            Ok(len) => {
                self.incoming.extend_from_slice(&sealed[..len]);
                (self.more, self.ended) = (len == RECORD_BYTES, len == 0);
                if len > 0 && net.borrow_mut().rng.chance(10) {
                    return Err(ErrorKind::Interrupted.into()); // nothing came of it yet
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock && !self.incoming.is_empty() => {
                self.more = false;
            }
            Err(error) => return Err(error),
        }
        let plain = std::mem::take(&mut self.incoming);
        buffer[..plain.len()].copy_from_slice(&plain);
        Ok(plain.len())
    }

    fn write(&mut self, net: &Shared, id: usize, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        assert!(!self.closing, "the server writes behind its own end");
        if !self.flush(net, id)? {
            return Err(ErrorKind::WouldBlock.into());
        }
        let offered: Vec<u8> = slices.iter().map(|slice| &slice[..]).collect::<Vec<_>>().concat();
        let mut taken = 0;
        for piece in offered.chunks(16_384) {
            self.outgoing.extend_from_slice(piece);
            taken += piece.len();
            if !self.flush(net, id)? {
                break;
            }
        }
        Ok(taken)
    }

    fn flush(&mut self, net: &Shared, id: usize) -> io::Result<bool> {
        while !self.outgoing.is_empty() {
            let result = net.borrow_mut().write(id, &[IoSlice::new(&self.outgoing)]);
            match result {
                Ok(len) => drop(self.outgoing.drain(..len)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.closing {
            net.borrow_mut().conns[id].server_shut = true;
        }
        Ok(true)
    }
}

impl Stream for FakeStream {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        let read = match &mut self.records {
            Some(records) => records.read(&self.net, self.id, buffer),
            None => self.net.borrow_mut().read(self.id, buffer),
        };
        Ok(read?)
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &mut self.records {
            Some(records) => records.write(&self.net, self.id, slices),
            None => self.net.borrow_mut().write(self.id, slices),
        }
    }

    fn shut_down(&mut self) {
        trace("shut_down", self.id, 0);
        match &mut self.records {
            Some(records) => {
                records.closing = true;
                let _ = records.flush(&self.net, self.id);
            }
            None => self.net.borrow_mut().conns[self.id].server_shut = true,
        }
    }

    fn is_direct(&self) -> bool {
        self.records.is_none()
    }

    fn has_more(&self) -> bool {
        self.records.as_ref().is_some_and(|records| records.more || records.ended)
    }

    fn is_costly(&self) -> bool {
        self.records.as_ref().is_some_and(|records| records.costly > 0)
    }

    fn held_bytes(&self) -> usize {
        self.records.as_ref().map_or(0, |records| records.incoming.len() + records.outgoing.len())
    }

    fn has_unsent(&self) -> bool {
        self.records.as_ref().is_some_and(|records| !records.outgoing.is_empty())
    }

    fn flush(&mut self) -> io::Result<bool> {
        self.records.as_mut().map_or(Ok(true), |records| records.flush(&self.net, self.id))
    }
}

impl Drop for FakeStream {
    fn drop(&mut self) {
        self.net.borrow_mut().close(self.id);
    }
}

/// A listening socket of the server.
pub(crate) struct FakeListener {
    pub(crate) net: Shared,
    pub(crate) place: usize,
}

impl Listen for FakeListener {
    type Stream = FakeStream;

    fn accept(&mut self, token: Token) -> io::Result<(FakeStream, PeerAddr)> {
        let net = &mut *self.net.borrow_mut();
        let id = net.accept(self.place, token)?;
        let holds = matches!(token, Token::Peer(Peer::Client(_))) && net.rng.chance(net.faults.records);
        let records = Records { costly: net.rng.below(4), ..Records::default() };
        let records = holds.then(|| Box::new(records));
        net.conns[id].records = holds;
        Ok((FakeStream { net: self.net.clone(), id, records }, PeerAddr::Unix))
    }

    fn rename(&mut self, stream: &mut FakeStream, token: Token) -> io::Result<()> {
        self.net.borrow_mut().rename(stream.id, token);
        Ok(())
    }
}

impl Drop for FakeListener {
    fn drop(&mut self) {
        let net = &mut *self.net.borrow_mut();
        let port = &mut net.ports[self.place];
        (port.closed, port.edge) = (true, false);
        for id in std::mem::take(&mut port.backlog) {
            let conn = &mut net.conns[id];
            (conn.server_closed, conn.reset_by_server) = (true, true);
        }
    }
}
