//! One turn of the server, over any kind of socket: read, run, accept, expire, flush, reap.
//!
//! The reactor calls [`Driver::ready`] for each event and [`Driver::turn`] once behind them; the simulator
//! does the same with sockets of its own. Readiness is edge-triggered, so the law is: who stops reading,
//! writing or accepting before the kernel said `WouldBlock` (or gave less than asked for, which on a
//! stream socket says the same) leaves a note, in `run`, in a flush queue, or in the port's state; a turn
//! that leaves a note makes the next poll not sleep. A stream that holds bytes of its own (TLS) says so:
//! `has_more` is a note to read on, `has_unsent` means that the event of being writable is waited for.
//!
//! It never blocks, knows no protocol, and removes nothing while events are handled. Every loop has a
//! bound. Invariant: a slot in `clients` or `backends` exists exactly while the hub has that peer.

mod accept;
mod audit;
mod stream;

pub use stream::{Listen, ReadError, Ready, Stream, Token};

use crate::clock::Now;
use crate::delivery::{Line, Written};
use crate::dispatch::{self, Progress};
use crate::handler::{self, Handler};
use crate::hub::{After, Hub, drop_empty, shrink};
use crate::key::{BackendKey, ClientKey, Key};
use crate::peer::client::ClientId;
use accept::{Accepting, Port};
use log::debug;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use stream::{would_block, write, write_one};

/// Bytes read at once. One read of a connection is also its share of a turn.
pub const SCRATCH_BYTES: usize = 64 * 1024;
/// Where reading begins in the scratch buffer: behind the 6 bytes of a small frame's header the payload
/// is then aligned for unmasking and UTF-8 (a third fewer instructions for a short text).
const SCRATCH_OFFSET: usize = 2;
/// Costly reads in a turn. The signature of a TLS handshake with an RSA key takes a millisecond: this many
/// may delay a message by a few of them.
const COSTLY_MAX: usize = 4;
/// Connections that get a second share in a turn.
const RUNS_MAX: usize = 256;
/// Deadlines handled in a turn.
const EXPIRES_MAX: usize = 512;
/// Clients with something of their own that are flushed in a turn.
const URGENT_MAX: usize = 512;
/// So many of them are flushed in the middle of the events: what a thousand clients are sent in one turn is then
/// still in the cache when it goes out, and fits into a few segments that are used again.
const URGENT_SOON: usize = 64;
/// Clients flushed for a broadcast in a turn: at 5 to 10 µs each, what a direct message waits at most.
const BULK_MAX: usize = 64;
/// With more clients the allocator is left alone unless a crowd has left: it looks at each block that is free, and
/// 20,000 of them, as TLS sessions leave, take it 7 ms every time.
const GIVE_BACK_CLIENTS_MAX: usize = 1024;
/// Backends whose replies are flushed in a turn.
const REPLIES_MAX: usize = 64;

#[derive(Debug)]
struct Slot<S> {
    stream: S,
    readable: bool,
    writable: bool,
    /// An event said that the peer's side is closed: read until it shows.
    closing: bool,
    /// It was read to its end.
    eof: bool,
    /// Our side is shut down.
    shut: bool,
    /// What it sent last was broadcast: it waits as a backend does.
    broadcasts: bool,
    /// It stands in `run`, or in `later`.
    running: bool,
}

impl<S> Slot<S> {
    fn new(stream: S) -> Self {
        // A fresh socket can be written to; whether there is something to read, an event will tell.
        Self {
            stream,
            readable: false,
            writable: true,
            closing: false,
            eof: false,
            shut: false,
            broadcasts: false,
            running: false,
        }
    }
}

/// See the module's head.
#[derive(Debug)]
pub struct Driver<L: Listen, H> {
    /// The peers.
    pub hub: Hub,
    /// The application.
    pub handler: H,
    ports: Vec<Port<L>>,
    /// No listener is to be looked at before this moment, unless an event comes.
    accept_at_ms: u64,
    clients: Vec<Option<Slot<L::Stream>>>,
    backends: Vec<Option<Slot<L::Stream>>>,
    /// Connections that have more to read, or commands not executed yet.
    run: VecDeque<Token>,
    /// Clients whose next read is costly, for the turns to come; and how many more fit into this one.
    later: VecDeque<usize>,
    costly_left: usize,
    scratch: Box<[u8]>,
    /// How many urgent clients may still be flushed in this turn, and how many are before its end.
    urgent_left: usize,
    urgent_soon: usize,
    /// Clients being flushed; empty between two turns.
    batch: Vec<ClientKey>,
    /// Sockets of clients in all states together; beyond it accepting pauses.
    sockets_max: usize,
    /// Deadlines are left over.
    late: bool,
    drain_until_ms: Option<u64>,
    /// Asks the allocator for what it keeps of freed memory.
    give_back: fn(),
}

impl<L: Listen, H: Handler> Driver<L, H> {
    /// A driver without listeners. `sockets_max` is the most client sockets it may hold.
    pub fn new(hub: Hub, handler: H, sockets_max: usize) -> Self {
        Self {
            hub,
            handler,
            ports: Vec::new(),
            accept_at_ms: 0,
            clients: Vec::new(),
            backends: Vec::new(),
            run: VecDeque::new(),
            later: VecDeque::new(),
            costly_left: COSTLY_MAX,
            scratch: vec![0; SCRATCH_OFFSET + SCRATCH_BYTES].into_boxed_slice(),
            urgent_left: URGENT_MAX,
            urgent_soon: URGENT_SOON,
            batch: Vec::new(),
            sockets_max,
            late: false,
            drain_until_ms: None,
            give_back: || {},
        }
    }

    /// Sets what is called a while after peers have left, when that was a crowd or few clients are there.
    pub fn set_give_back(&mut self, give_back: fn()) {
        self.give_back = give_back;
    }

    /// Adds a listener for clients (`place` among the hub's) or for backends (`None`).
    pub fn add_listener(&mut self, listener: L, place: Option<usize>) {
        self.ports.push(Port { listener, accepting: Accepting::Ready, place });
        self.accept_at_ms = 0;
    }

    /// Flushes when so few clients wait for it, for tests whose crowds are small.
    #[doc(hidden)]
    pub fn flush_from(&mut self, clients: usize) {
        self.urgent_soon = clients;
    }

    /// Tells the application that the server listens.
    pub fn start(&mut self, now: Now) {
        self.hub.set_now(now);
        self.handler.on_start(&mut self.hub);
    }

    /// Begins to drain: no more connections, 1001 for every client, at most `drain_ms` from now.
    pub fn drain(&mut self, now: Now, drain_ms: u64) {
        self.hub.set_now(now);
        self.ports.clear();
        self.hub.drain();
        self.drain_until_ms.get_or_insert(now.ms + drain_ms);
    }

    /// Changes the most client sockets it may hold.
    pub fn set_sockets_max(&mut self, sockets_max: usize) {
        self.sockets_max = sockets_max;
        self.accept_again();
    }

    /// Whether the drain is over.
    pub fn is_drained(&self) -> bool {
        self.hub.is_drained()
    }

    /// The listeners, to be registered or replaced.
    pub fn listeners(&mut self) -> impl Iterator<Item = &mut L> {
        self.ports.iter_mut().map(|port| &mut port.listener)
    }

    // One turn.

    /// One event. Reading happens here, so that what came in one poll is handled in the order it came.
    pub fn ready(&mut self, token: Token, ready: Ready, now: Now) {
        self.hub.set_now(now);
        match token {
            Token::Listener(place) => {
                if let Some(port) = self.ports.get_mut(place) {
                    port.accepting = Accepting::Ready;
                    self.accept_at_ms = 0;
                }
            }
            Token::Client(key) => self.client_ready(key, ready),
            Token::Backend(key) => self.backend_ready(key, ready),
        }
        if self.hub.floor.queued(Line::Urgent) >= self.urgent_soon && self.urgent_left >= self.urgent_soon {
            self.urgent_left -= self.urgent_soon;
            self.flush_some(Line::Urgent, self.urgent_soon);
        }
    }

    /// Everything that is not an event's direct consequence.
    pub fn turn(&mut self, now: Now) {
        self.hub.set_now(now);
        self.run_costly();
        self.run_leftovers();
        self.accept(now);
        self.late = self.hub.expire(EXPIRES_MAX);
        if self.drain_until_ms.is_some_and(|until_ms| now.ms >= until_ms) {
            self.hub.end_all();
        }
        self.flush();
        self.reap();
        if self.hub.is_tidy_due() {
            self.tidy();
        }
    }

    /// How long the next poll may sleep, in milliseconds; `None` until an event.
    pub fn timeout_ms(&self, now: Now) -> Option<u64> {
        if self.late || self.has_leftovers() || self.hub.floor.has_flush() || self.hub.backends.has_flush() {
            return Some(0);
        }
        let drain_until_ms = self.drain_until_ms.unwrap_or(u64::MAX);
        let next_ms = self.accept_at_ms.min(self.hub.next_deadline_ms()).min(drain_until_ms);
        (next_ms != u64::MAX).then(|| next_ms.saturating_sub(now.ms))
    }

    fn has_leftovers(&self) -> bool {
        !self.run.is_empty() || !self.later.is_empty()
    }

    /// Those that waited come before those that the next events bring.
    fn run_costly(&mut self) {
        self.costly_left = COSTLY_MAX;
        while self.costly_left > 0 {
            let Some(key) = self.later.pop_front() else { return };
            unmark(&mut self.clients, key);
            self.run_client(key);
        }
    }

    fn run_leftovers(&mut self) {
        for _ in 0..self.run.len().min(RUNS_MAX) {
            match self.run.pop_front() {
                Some(Token::Client(key)) => {
                    unmark(&mut self.clients, key);
                    self.run_client(key);
                }
                Some(Token::Backend(key)) => {
                    unmark(&mut self.backends, key);
                    self.run_backend(key);
                }
                Some(Token::Listener(_)) | None => {}
            }
        }
    }

    fn flush(&mut self) {
        let _ = self.hub.settled();
        let urgent_max = std::mem::replace(&mut self.urgent_left, URGENT_MAX);
        // Those queued last get their share although the events used up the turn's.
        self.flush_queue(Line::Urgent, urgent_max.max(URGENT_SOON));
        self.flush_queue(Line::Bulk, BULK_MAX);
        for _ in 0..REPLIES_MAX {
            let Some(key) = self.hub.backends.next_flush() else { break };
            self.flush_backend(key);
        }
    }

    #[inline]
    fn flush_queue(&mut self, line: Line, max: usize) {
        if self.hub.floor.queued(line) > 0 {
            self.flush_some(line, max);
        }
    }

    #[inline(never)]
    fn flush_some(&mut self, line: Line, max: usize) {
        let mut keys = std::mem::take(&mut self.batch);
        self.hub.floor.take_queued(line, max, &mut keys);
        for key in keys.drain(..) {
            self.flush_client(key, line);
        }
        self.batch = keys;
    }

    /// The one place where peers and sockets go.
    fn reap(&mut self) {
        let mut freed = false;
        while let Some((id, was_open)) = self.hub.next_gone() {
            if was_open {
                self.handler.on_close(&mut self.hub, id);
            }
            self.clients[id.key.index()] = None;
            self.hub.floor.remove(id);
            freed = true;
        }
        while let Some(key) = self.hub.backends.next_gone() {
            self.backends[key.index()] = None;
            self.hub.backends.remove(key);
            freed = true;
        }
        if freed {
            self.accept_again();
            self.hub.tidy_later();
        }
    }

    /// A crowd has left: its memory goes too. Keys that stand in a queue and are nobody's may lie behind the
    /// tables' end from now on.
    #[cold]
    fn tidy(&mut self) {
        let shrunk = self.hub.tidy();
        if let Some(keys) = shrunk {
            shrink(&mut self.clients, keys);
            drop_empty(&mut self.run);
            drop_empty(&mut self.later);
        }
        if shrunk.is_some() || self.hub.client_slots() <= GIVE_BACK_CLIENTS_MAX {
            (self.give_back)();
        }
    }

    // Clients.

    fn client_ready(&mut self, key: usize, ready: Ready) {
        let Some(slot) = self.clients.get_mut(key).and_then(Option::as_mut) else { return };
        slot.closing |= ready.closed;
        slot.readable |= ready.readable || ready.closed;
        if ready.writable && !slot.writable {
            slot.writable = true;
            self.hub.floor.queue(Line::Urgent, ClientKey::at(key));
        }
        // Who waits for a second share does not get one before the others by sending more.
        if !slot.running {
            self.run_client(key);
        }
    }

    fn run_client(&mut self, key: usize) {
        let Some(slot) = self.clients.get_mut(key).and_then(Option::as_mut) else { return };
        let Some(id) = self.hub.client_id(ClientKey::at(key)).filter(|_| slot.readable && !slot.eof) else {
            return;
        };
        if slot.stream.is_costly() {
            if self.costly_left == 0 {
                slot.running = true;
                return self.later.push_back(key);
            }
            self.costly_left -= 1;
        }
        if slot.broadcasts && self.hub.is_throttled(SCRATCH_BYTES) {
            return go_on(&mut self.run, slot, Token::Client(key));
        }
        let read = slot.stream.read(&mut self.scratch[SCRATCH_OFFSET..]);
        if slot.stream.has_unsent() {
            self.hub.floor.queue(Line::Urgent, ClientKey::at(key));
        }
        match read {
            Ok(0) => self.client_eof(id),
            Ok(len) => {
                slot.readable = len == SCRATCH_BYTES || slot.closing || slot.stream.has_more();
                if slot.readable {
                    go_on(&mut self.run, slot, Token::Client(key));
                }
                let input = &mut self.scratch[SCRATCH_OFFSET..SCRATCH_OFFSET + len];
                let before = self.hub.stats.broadcasts;
                handler::pump(&mut self.hub, &mut self.handler, id, input);
                slot.broadcasts = self.hub.stats.broadcasts != before;
            }
            Err(ReadError::Refused(reject)) => {
                self.hub.refuse(id, reject);
                self.run_client_again(key); // what else it sends is discarded
            }
            Err(ReadError::Io(error)) => match error.kind() {
                ErrorKind::WouldBlock => slot.readable = false,
                ErrorKind::Interrupted => self.run_client_again(key),
                _ => self.client_broken(id, &error),
            },
        }
    }

    fn run_client_again(&mut self, key: usize) {
        if let Some(slot) = &mut self.clients[key] {
            go_on(&mut self.run, slot, Token::Client(key));
        }
    }

    /// The peer's side is shut down. Our last words may still go out.
    fn client_eof(&mut self, id: ClientId) {
        if let Some(slot) = &mut self.clients[id.key.index()] {
            (slot.readable, slot.eof) = (false, true);
        }
        if !self.hub.has_last_words(id) {
            self.hub.client_lost(id);
        }
    }

    fn client_broken(&mut self, id: ClientId, error: &io::Error) {
        debug!("connection_lost reason=\"{error}\"");
        self.hub.client_lost(id);
    }

    #[inline(always)]
    fn flush_client(&mut self, key: ClientKey, line: Line) {
        let Some(slot) = self.clients.get_mut(key.index()).and_then(Option::as_mut) else { return };
        let flushed = self.hub.flush_client(key, line, |outbox, spool| match slot.writable {
            true => write(&mut slot.stream, outbox, spool),
            false => Err(ErrorKind::WouldBlock.into()),
        });
        if !matches!(flushed, Ok((true, After::Idle))) {
            self.flush_stopped(key, line, flushed);
        }
    }

    /// More waits than the kernel took, or the connection is on its way out.
    #[inline(never)]
    fn flush_stopped(&mut self, key: ClientKey, line: Line, flushed: io::Result<(bool, After)>) {
        let Some(slot) = self.clients[key.index()].as_mut() else { return };
        let after = match flushed {
            Ok((all, after)) => {
                slot.writable = all;
                after
            }
            Err(error) if would_block(&error) => {
                slot.writable = false;
                self.hub.floor.after_flush(key)
            }
            Err(error) => return self.flush_failed(key, &error),
        };
        if !slot.writable {
            self.hub.floor.blocked(key, self.hub.now);
        }
        self.flushed(key, line, after);
    }

    fn flush_failed(&mut self, key: ClientKey, error: &io::Error) {
        if let Some(id) = self.hub.client_id(key) {
            self.client_broken(id, error);
        }
    }

    /// What follows a flush that left something to do.
    fn flushed(&mut self, key: ClientKey, line: Line, after: After) {
        let Some(slot) = self.clients[key.index()].as_mut() else { return };
        let Some(id) = self.hub.client_id(key) else { return };
        match after {
            After::Idle => {}
            // Back to the end of the line it came from, because its share of this turn is used up.
            After::More if slot.writable => self.hub.floor.queue(line, key),
            After::More => {} // the event that it can be written to queues it again
            After::ShutDown if slot.eof => self.hub.client_lost(id),
            After::ShutDown if slot.shut => {}
            After::ShutDown => {
                slot.shut = true;
                slot.stream.shut_down();
                slot.writable &= !slot.stream.has_unsent();
            }
            After::End if slot.stream.has_unsent() => {} // that event brings us here again
            After::End => self.hub.client_lost(id),
        }
    }

    // Backends.

    fn backend_ready(&mut self, key: usize, ready: Ready) {
        let Some(slot) = self.backends.get_mut(key).and_then(Option::as_mut) else { return };
        slot.closing |= ready.closed;
        slot.readable |= ready.readable || ready.closed;
        if ready.writable && !slot.writable {
            slot.writable = true;
            self.hub.backends.queue(BackendKey::at(key));
        }
        self.run_backend(key);
    }

    /// Executes what is left of earlier input; only then, and only if the backend reads its replies, is
    /// more read.
    fn run_backend(&mut self, key: usize) {
        let Some(slot) = self.backends.get_mut(key).and_then(Option::as_mut) else { return };
        let backend = BackendKey::at(key);
        let mut progress = Progress::Waiting;
        if self.hub.backends[backend].has_commands() {
            progress = dispatch::pump(&mut self.hub, backend, b"");
        }
        if progress == Progress::Waiting && slot.readable && !self.hub.is_paused(backend) {
            progress = self.read_backend(key);
        }
        if progress == Progress::More {
            self.run_again(key);
        }
    }

    fn run_again(&mut self, key: usize) {
        let slot = self.backends[key].as_mut().expect("it runs, so it is there");
        go_on(&mut self.run, slot, Token::Backend(key));
    }

    fn read_backend(&mut self, key: usize) -> Progress {
        let slot = self.backends[key].as_mut().expect("it runs, so it is there");
        let backend = BackendKey::at(key);
        let scratch = &mut self.scratch[SCRATCH_OFFSET..];
        match slot.stream.read(scratch) {
            Ok(0) => {
                (slot.readable, slot.eof) = (false, true);
                self.hub.backends.eof(backend);
                dispatch::pump(&mut self.hub, backend, b"")
            }
            Ok(len) => {
                slot.readable = len == SCRATCH_BYTES || slot.closing;
                let more = slot.readable;
                match dispatch::pump(&mut self.hub, backend, &scratch[..len]) {
                    Progress::Waiting if more => Progress::More,
                    progress => progress,
                }
            }
            Err(ReadError::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                slot.readable = false;
                Progress::Waiting
            }
            Err(ReadError::Io(error)) if error.kind() == ErrorKind::Interrupted => Progress::More,
            Err(error) => {
                debug!("backend_lost reason=\"{error}\"");
                self.hub.end_backend(backend);
                Progress::Waiting
            }
        }
    }

    fn flush_backend(&mut self, key: BackendKey) {
        let Some(slot) = self.backends[key.index()].as_mut() else { return };
        if slot.writable {
            let chunk = self.hub.backends[key].replies.chunk();
            match write_one(&mut slot.stream, chunk) {
                Ok(Written { sent, all }) => {
                    self.hub.backends.sent(key, sent, self.hub.now());
                    slot.writable = all;
                }
                Err(error) if would_block(&error) => slot.writable = false,
                // It reads no more; what it sent before is still executed, and reading tells the end.
                Err(error) => {
                    debug!("backend_deaf reason=\"{error}\"");
                    self.hub.backends.go_deaf(key);
                }
            }
        }
        if !self.hub.backends[key].replies.chunk().is_empty() {
            if slot.writable {
                self.hub.backends.queue(key);
            }
        } else if self.hub.backend_is_over(key, slot.eof) {
            self.hub.end_backend(key);
        } else if self.hub.backends[key].lingers() && !slot.shut {
            slot.shut = true;
            slot.stream.shut_down();
        }
        self.resume_backend(key);
    }
    /// Goes on with what was left because replies piled up. A reload may have raised the bound since, so it is asked what
    /// is left, not what was.
    fn resume_backend(&mut self, key: BackendKey) {
        let Some(slot) = self.backends[key.index()].as_ref() else { return };
        if (slot.readable || self.hub.backends[key].has_commands()) && !self.hub.is_paused(key) {
            self.run_again(key.index());
        }
    }
}

fn put<S>(slots: &mut Vec<Option<Slot<S>>>, key: usize, stream: S) {
    if slots.len() <= key {
        slots.resize_with(key + 1, || None);
    }
    slots[key] = Some(Slot::new(stream));
}

/// The connection is to be run again in the next turn. It stands in `run` once, however often it is called
/// before.
fn go_on<S>(run: &mut VecDeque<Token>, slot: &mut Slot<S>, token: Token) {
    if !std::mem::replace(&mut slot.running, true) {
        run.push_back(token);
    }
}

/// The connection does not stand in `run` any more.
fn unmark<S>(slots: &mut [Option<Slot<S>>], key: usize) {
    if let Some(slot) = slots.get_mut(key).and_then(Option::as_mut) {
        slot.running = false;
    }
}
