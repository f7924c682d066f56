//! One turn of the server, over any kind of socket: read, run, accept, expire, flush, reap.
//!
//! The reactor calls [`Driver::ready`] for each event and [`Driver::turn`] once behind them; the simulator
//! does the same with sockets of its own. Readiness is edge-triggered, so the law is: code that stops reading,
//! writing or accepting before the kernel said `WouldBlock` (or gave less than asked for, which on a
//! stream socket says the same) leaves a note, in `run`, in a flush queue, or in the port's state; a turn
//! that leaves a note makes the next poll not sleep. A stream that holds bytes of its own (TLS) says so:
//! `has_more` is a note to read on, `has_unsent` means that the event of being writable is waited for.
//!
//! Clients, backends and connections of our own run through the same code: a slot in one [`table`](self), one gate before
//! each read, one flush; the difference between them is the [`Protocol`] of their keys.
//!
//! It never blocks, knows no bytes of a protocol, and removes nothing while events are handled. Every loop has a
//! bound. Invariant: a slot exists exactly while the hub (for clients and backends) or the nodes have that peer.
//!
//! | file | holds |
//! |---|---|
//! | `mod` | the turn |
//! | `table` | one table of connections, a slot's two sides |
//! | `protocol` | the operations of a kind of peer; the gate before every read |
//! | `node` | connections that wsson opens itself |
//! | `stream` | the operations of sockets, and how bytes are offered to one |
//! | `accept` | accepting |
//! | `late` | a turn that comes late, and the deadlines that it forgives |
//! | `audit` | the invariants between two turns, for the tests |

mod accept;
mod audit;
mod late;
mod node;
mod protocol;
mod stream;
mod table;
#[cfg(test)]
mod tests;

pub use node::{NoNodes, Nodes};
pub use stream::{Listen, Peer, ReadError, Ready, Stream, Token};

use crate::clock::Now;
use crate::config::{HEAD_BYTES_MAX, MESSAGE_BYTES_DEFAULT};
use crate::delivery::{FLUSH_BYTES, Line, SEGMENT_BYTES};
use crate::dispatch::Progress;
use crate::handler::{Handler, Spoke};
use crate::hub::{After, Hub, READ_BYTES, drop_empty};
use crate::key::{BackendKey, ClientKey, NodeKey};
use accept::{Accepting, Port};
use late::Lateness;
use protocol::{Gate, Peers, Protocol, gate};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use stream::{Direct, would_block};
use table::{Place, Read, Slot, Table, Write};

/// Events taken from the kernel at once: enough to make the poll cheap, few enough that urgent replies
/// are flushed soon.
pub const EVENTS_MAX: usize = 512;
/// Bytes read at once. One read of a connection is also its share of a turn.
pub const SCRATCH_BYTES: usize = 64 * 1024;
// The broadcasts of one read of a client are offered to every client in one pass, which the throttle counts on.
const _: () = assert!(SCRATCH_BYTES <= FLUSH_BYTES);
// A turn's share of a client that is behind lies in one segment and the next: one call takes it.
const _: () = assert!(FLUSH_BYTES <= SEGMENT_BYTES);
// The hub's audit allows for the bytes that one read may bring.
const _: () = assert!(SCRATCH_BYTES == READ_BYTES);
// The longest request head is read in one piece.
const _: () = assert!(HEAD_BYTES_MAX <= SCRATCH_BYTES);
// A message under the default limit is read at once, but for the last bytes of the longest message and its header.
const _: () = assert!(MESSAGE_BYTES_DEFAULT <= SCRATCH_BYTES);

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
/// This many of them are flushed in the middle of the events: the messages to a thousand clients in one turn are then
/// still in the cache when they go out, and fit into a few segments that are used again.
const URGENT_SOON: usize = 64;
/// Clients flushed for a broadcast in a turn: at 5 to 10 µs each, the longest wait of a direct message.
const BULK_MAX: usize = 64;
/// With more clients the allocator is left alone unless many have left: it looks at each block that is free, and
/// 20,000 of them, as TLS sessions leave, take it 7 ms every time.
const GIVE_BACK_CLIENTS_MAX: usize = 1024;
/// Backends whose replies are flushed in a turn.
const REPLIES_MAX: usize = 64;
/// How long a backend waits for a client without a look: the step of its patience.
const HELD_MS: u64 = 50;
/// Connections of our own that are flushed in a turn.
const NODES_MAX: usize = 64;

/// The parts of a driver that are no sockets.
macro_rules! peers {
    ($driver:ident) => {
        &mut Peers { hub: &mut $driver.hub, handler: &mut $driver.handler, nodes: &mut $driver.nodes }
    };
}

/// See the module's head.
#[derive(Debug)]
pub struct Driver<L: Listen, H, N = NoNodes> {
    /// The peers.
    pub hub: Hub,
    /// The application.
    pub handler: H,
    /// The protocol of connections of our own.
    pub nodes: N,
    ports: Vec<Port<L>>,
    /// No listener is to be looked at before this moment, unless an event comes.
    accept_at_ms: u64,
    table: Table<L::Stream>,
    /// Connections that have more to read, or commands not executed yet.
    run: VecDeque<Peer>,
    /// Those whose next read is costly, for the turns to come; and how many more fit into this one.
    later: VecDeque<Peer>,
    costly_left: usize,
    /// Those that wait until a client has taken some of the bytes that wait for it; when they are looked at in any
    /// case; and whether one can be written to again.
    held: Vec<Peer>,
    held_until_ms: u64,
    room: Room,
    /// The audience of the clients' last messages. A client that has not spoken yet is taken to be like the others.
    spoke: Spoke,
    scratch: Box<[u8]>,
    /// How many urgent clients may still be flushed in this turn, and how many are before its end.
    urgent_left: usize,
    urgent_soon: usize,
    /// Clients being flushed; empty between two turns.
    batch: Vec<ClientKey>,
    /// Sockets of clients in all states together; beyond it accepting pauses.
    sockets_max: usize,
    /// Deadlines are left over.
    overdue: bool,
    lateness: Lateness,
    drain_until_ms: Option<u64>,
    /// Asks the allocator for the freed memory that it keeps.
    give_back: fn(),
}

impl<L: Listen, H: Handler> Driver<L, H> {
    /// A driver without listeners. `sockets_max` is the most client sockets it may hold.
    pub fn new(hub: Hub, handler: H, sockets_max: usize) -> Self {
        Self::with_nodes(hub, handler, NoNodes, sockets_max)
    }
}

impl<L: Listen, H: Handler, N: Nodes> Driver<L, H, N> {
    /// A driver that has connections of its own too.
    pub fn with_nodes(hub: Hub, handler: H, nodes: N, sockets_max: usize) -> Self {
        Self {
            hub,
            handler,
            nodes,
            ports: Vec::new(),
            accept_at_ms: 0,
            table: Table::default(),
            run: VecDeque::new(),
            later: VecDeque::new(),
            costly_left: COSTLY_MAX,
            held: Vec::new(),
            held_until_ms: u64::MAX,
            room: Room::AsBefore,
            spoke: Spoke::Nothing,
            scratch: vec![0; SCRATCH_OFFSET + SCRATCH_BYTES].into_boxed_slice(),
            urgent_left: URGENT_MAX,
            urgent_soon: URGENT_SOON,
            batch: Vec::new(),
            sockets_max,
            overdue: false,
            lateness: Lateness::default(),
            drain_until_ms: None,
            give_back: || {},
        }
    }

    /// Sets the function that is called a while after peers have left, when many have or few clients are there.
    pub fn set_give_back(&mut self, give_back: fn()) {
        self.give_back = give_back;
    }

    /// Adds a listener for clients (`place` among the hub's) or for backends (`None`).
    pub fn add_listener(&mut self, listener: L, place: Option<usize>) {
        self.ports.push(Port { listener, accepting: Accepting::Ready, place });
        self.accept_at_ms = 0;
    }

    /// Takes a connection that is being opened, registered under this key: it can be written to when an event says so.
    pub fn connect(&mut self, key: NodeKey, stream: L::Stream) {
        self.table.nodes.put(key, Slot::new(stream, Write::Blocked));
    }

    /// Flushes when so few clients wait for it, for tests with few clients.
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
        self.listeners_of().map(|(_, listener)| listener)
    }

    /// The same, each with its place among the hub's; none for backends.
    pub fn listeners_of(&mut self) -> impl Iterator<Item = (Option<usize>, &mut L)> {
        self.ports.iter_mut().map(|port| (port.place, &mut port.listener))
    }

    // One turn.

    /// One event. Reading happens here, so that the events of one poll are handled in the order they came.
    pub fn ready(&mut self, token: Token, ready: Ready, now: Now) {
        self.hub.set_now(now);
        match token {
            Token::Listener(place) => {
                if let Some(port) = self.ports.get_mut(place) {
                    port.accepting = Accepting::Ready;
                    self.accept_at_ms = 0;
                }
            }
            Token::Peer(Peer::Client(key)) => self.note(key, ready),
            Token::Peer(Peer::Backend(key)) => self.note(key, ready),
            Token::Peer(Peer::Node(key)) => self.note(key, ready),
        }
        if self.hub.floor.queued(Line::Urgent) >= self.urgent_soon && self.urgent_left >= self.urgent_soon {
            self.urgent_left -= self.urgent_soon;
            self.flush_some(Line::Urgent, self.urgent_soon);
        }
    }

    /// Every step that is not an event's direct consequence.
    pub fn turn(&mut self, now: Now) {
        self.hub.set_now(now);
        self.move_pending();
        self.run_costly();
        self.run_leftovers();
        self.accept(now);
        if now.ms >= self.deadline_ms() {
            self.expire(now);
        }
        self.flush();
        self.move_pending();
        self.reap();
        if self.drain_until_ms.is_some() {
            self.hub.finish_drain();
        }
        self.accept_if_room();
        self.release(now);
        if self.hub.is_tidy_due() {
            self.tidy();
        }
    }

    /// Clients whose worker takes more go on, in the order in which they came to wait. Those that wait for a client go on
    /// when one of them may have taken something.
    #[inline]
    fn release(&mut self, now: Now) {
        while let Some(key) = self.hub.take_released() {
            self.release_from(Place::Shelved, key);
        }
        if self.held.is_empty() {
            return;
        }
        let room = std::mem::replace(&mut self.room, Room::AsBefore);
        if room == Room::More || now.ms >= self.held_until_ms {
            self.release_all();
        } else if self.held_until_ms == u64::MAX {
            self.held_until_ms = now.ms + HELD_MS;
        }
    }

    #[inline(never)]
    fn release_all(&mut self) {
        self.held_until_ms = u64::MAX;
        for peer in std::mem::take(&mut self.held) {
            match peer {
                Peer::Client(key) => self.release_from(Place::Held, key),
                Peer::Backend(key) => self.release_from(Place::Held, key),
                Peer::Node(key) => self.release_from(Place::Held, key),
            }
        }
    }

    fn release_from<K: Protocol>(&mut self, place: Place, key: K) {
        let slot = K::row(&mut self.table).get_mut(key);
        if let Some(slot) = slot.filter(|slot| slot.place == place) {
            slot.place = Place::Nowhere;
            go_on(&mut self.run, slot, key.peer());
        }
    }

    /// No deadline of a peer's, nor that of the drain, is before this moment.
    #[inline]
    fn deadline_ms(&self) -> u64 {
        let drain_until_ms = self.drain_until_ms.unwrap_or(u64::MAX);
        self.hub.next_deadline_ms().min(self.nodes.next_deadline_ms(&self.hub)).min(drain_until_ms)
    }

    /// Deadlines that have come.
    #[inline(never)]
    fn expire(&mut self, now: Now) {
        let peers = self.hub.client_slots() + self.hub.backends.len();
        if !self.lateness.may_expire(now, self.deadline_ms(), peers) {
            return;
        }
        self.overdue = self.hub.expire(EXPIRES_MAX);
        self.nodes.expire(&mut self.hub, now);
        if self.drain_until_ms.is_some_and(|until_ms| now.ms >= until_ms) {
            self.hub.end_all();
        }
    }

    /// How long the next poll may sleep, in milliseconds; `None` until an event.
    pub fn timeout_ms(&self, now: Now) -> Option<u64> {
        if self.has_work() {
            return Some(0);
        }
        let next_ms = self.accept_at_ms.min(self.deadline_ms()).min(self.held_until_ms);
        (next_ms != u64::MAX).then(|| next_ms.saturating_sub(now.ms))
    }

    /// Whether work is left for the next turn, also without an event.
    fn has_work(&self) -> bool {
        let runs = !self.run.is_empty() || !self.later.is_empty();
        let flushes =
            self.hub.floor.has_flush() || self.hub.backends.has_flush() || self.nodes.has_flush(&self.hub);
        self.overdue || runs || flushes
    }

    /// Those that waited come before those that the next events bring.
    fn run_costly(&mut self) {
        self.costly_left = COSTLY_MAX;
        while self.costly_left > 0 {
            let Some(peer) = self.later.pop_front() else { return };
            self.run_again(peer);
        }
    }

    fn run_leftovers(&mut self) {
        for _ in 0..self.run.len().min(RUNS_MAX) {
            let Some(peer) = self.run.pop_front() else { return };
            self.run_again(peer);
        }
    }

    fn run_again(&mut self, peer: Peer) {
        match peer {
            Peer::Client(key) => self.run_from_queue(key),
            Peer::Backend(key) => self.run_from_queue(key),
            Peer::Node(key) => self.run_from_queue(key),
        }
    }

    fn flush(&mut self) {
        let _ = self.hub.settled();
        self.move_pending();
        self.hub.tend_workers();
        let urgent_max = std::mem::replace(&mut self.urgent_left, URGENT_MAX);
        // Those queued last get their share although the events used up the turn's.
        self.flush_queue(Line::Urgent, urgent_max.max(URGENT_SOON));
        self.flush_queue(Line::Bulk, BULK_MAX);
        for _ in 0..REPLIES_MAX {
            let Some(key) = self.hub.backends.next_flush() else { break };
            self.flush_one(key, Line::Urgent);
        }
        for _ in 0..NODES_MAX {
            let Some(key) = self.nodes.next_flush(&mut self.hub) else { break };
            self.flush_one(key, Line::Urgent);
        }
    }

    #[inline]
    fn flush_queue(&mut self, line: Line, max: usize) {
        // As after a message to one client.
        if let Some(key) = self.hub.floor.take_only(line) {
            self.flush_client(key, line);
        } else if self.hub.floor.queued(line) > 0 {
            self.flush_some(line, max);
        }
    }

    #[inline(never)]
    fn flush_client(&mut self, key: ClientKey, line: Line) {
        if !self.flush_plain(key, line) {
            self.flush_other(key, line);
        }
    }

    #[inline(never)]
    fn flush_some(&mut self, line: Line, max: usize) {
        self.move_pending();
        let mut keys = std::mem::take(&mut self.batch);
        self.hub.floor.take_queued(line, max, &mut keys);
        for key in keys.drain(..) {
            if !self.flush_plain(key, line) {
                self.flush_other(key, line);
            }
        }
        self.batch = keys;
    }

    /// The flush of nearly every client: a stream that holds no bytes, an open client, one range that waits. False, and
    /// nothing happened, when this is another.
    #[inline(always)]
    fn flush_plain(&mut self, key: ClientKey, line: Line) -> bool {
        let Some(slot) = self.table.clients.get_mut(key) else { return true };
        if slot.write != Write::Ready {
            return false;
        }
        match self.hub.flush_plain(key, line, &mut Direct(&mut slot.stream)) {
            None => return false,
            Some(Ok((true, After::Idle))) => {}
            Some(flushed) => flush_stopped(key, peers!(self), line, slot, flushed),
        }
        true
    }

    #[inline(never)]
    fn flush_other(&mut self, key: ClientKey, line: Line) {
        self.flush_one(key, line);
    }

    /// The one place where peers and sockets are removed.
    fn reap(&mut self) {
        let clients = self.reap_all::<ClientKey>();
        let backends = self.reap_all::<BackendKey>();
        let nodes = self.reap_all::<NodeKey>();
        if clients || backends || nodes {
            self.room = Room::More;
            self.accept_again();
            self.hub.tidy_later();
        }
    }

    /// Returns whether there was one.
    #[inline]
    fn reap_all<K: Protocol>(&mut self) -> bool {
        let mut freed = false;
        while let Some(key) = K::next_gone(peers!(self)) {
            let held_bytes = K::row(&mut self.table).get_mut(key).map_or(0, |slot| slot.held_bytes());
            if held_bytes > 0 {
                key.note_held(peers!(self), held_bytes, 0);
            }
            K::row(&mut self.table).remove(key);
            key.remove(peers!(self));
            freed = true;
        }
        freed
    }

    /// Many peers have left: their memory goes too. Keys in a queue that name no peer may lie behind the
    /// tables' end from now on.
    #[cold]
    fn tidy(&mut self) {
        let shrunk = self.hub.tidy();
        if let Some(keys) = shrunk {
            self.table.clients.shrink(keys);
            drop_empty(&mut self.run);
            drop_empty(&mut self.later);
        }
        if shrunk.is_some() || self.hub.client_slots() <= GIVE_BACK_CLIENTS_MAX {
            (self.give_back)();
        }
    }

    // One connection.

    #[inline]
    fn note<K: Protocol>(&mut self, key: K, ready: Ready) {
        let Some(slot) = K::row(&mut self.table).get_mut(key) else { return };
        if slot.note(ready) {
            self.room = Room::More;
            key.queue(peers!(self), Line::Urgent);
        }
        // One that waits for a second share does not get it before the others by sending more.
        if slot.place == Place::Nowhere {
            self.run_one(key);
        }
    }

    fn run_from_queue<K: Protocol>(&mut self, key: K) {
        if let Some(slot) = K::row(&mut self.table).get_mut(key) {
            slot.place = Place::Nowhere;
            self.run_one(key);
        }
    }

    /// A connection's share: the rest of earlier input, or one read if the gate is open.
    #[inline(always)]
    fn run_one<K: Protocol>(&mut self, key: K) {
        let Some(slot) = K::row(&mut self.table).get_mut(key) else { return };
        let peers = peers!(self);
        match key.resume(peers) {
            Progress::Waiting => {}
            Progress::More => return go_on(&mut self.run, slot, key.peer()),
            Progress::Held => return hold(&mut self.held, slot, key.peer()),
        }
        if !slot.read.is_ready() {
            return;
        }
        match gate(key, peers, slot, self.spoke, &mut self.costly_left) {
            Gate::Open => {}
            Gate::Throttled => return go_on(&mut self.run, slot, key.peer()),
            Gate::Waiting => return hold(&mut self.held, slot, key.peer()),
            Gate::Shelved(shelf) => {
                slot.place = Place::Shelved;
                return key.shelve(peers, shelf);
            }
            Gate::Costly => {
                slot.place = Place::Later;
                return self.later.push_back(key.peer());
            }
            Gate::Full | Gate::Over => return, // the step that opens it brings it back
        }
        let buffer = &mut self.scratch[SCRATCH_OFFSET..];
        let read = slot.stream.read(buffer);
        if slot.stream.has_unsent() {
            key.queue(peers, Line::Urgent);
        }
        let progress = match read {
            Ok(0) => {
                slot.read = Read::Ended;
                key.end(peers)
            }
            Ok(len) => {
                let more = len == SCRATCH_BYTES || slot.read == Read::Closing || slot.stream.has_more();
                if !more {
                    slot.read = Read::Drained;
                }
                let (progress, spoke) = key.feed(peers, &mut buffer[..len]);
                slot.spoke = spoke.or(slot.spoke);
                self.spoke = spoke.or(self.spoke);
                if more && progress == Progress::Waiting { Progress::More } else { progress }
            }
            Err(error) => read_failed(key, peers, slot, error),
        };
        if let Some((before, now)) = slot.held_change() {
            key.note_held(peers, before, now);
        }
        match progress {
            Progress::Waiting => {}
            Progress::More => go_on(&mut self.run, slot, key.peer()),
            Progress::Held => hold(&mut self.held, slot, key.peer()),
        }
        // Before the next event: a tab may have this connection now, and no other.
        if K::MOVES && self.hub.floor.has_moves() {
            self.move_all();
        }
    }

    /// Connections that belong to other keys from now on.
    #[inline]
    fn move_pending(&mut self) {
        if self.hub.floor.has_moves() {
            self.move_all();
        }
    }

    #[inline(never)]
    fn move_all(&mut self) {
        while let Some((from, to)) = self.hub.floor.next_move() {
            let Some(mut slot) = self.table.clients.take(from) else { continue };
            match std::mem::replace(&mut slot.place, Place::Nowhere) {
                Place::Nowhere => {}
                Place::Run => self.run.retain(|peer| *peer != from.peer()),
                Place::Later => self.later.retain(|peer| *peer != from.peer()),
                Place::Held => self.held.retain(|peer| *peer != from.peer()),
                Place::Shelved => {} // a key that is released names no connection then
            }
            let port = self.ports.iter_mut().find(|port| port.place.is_some());
            let named =
                port.map_or(Ok(()), |port| port.listener.rename(&mut slot.stream, Token::Peer(to.peer())));
            let reads = slot.read.is_ready();
            self.table.clients.put(to, slot);
            if let Err(error) = named {
                to.break_off(peers!(self), &error);
            } else if let Some(slot) = self.table.clients.get_mut(to).filter(|_| reads) {
                go_on(&mut self.run, slot, to.peer());
            }
        }
    }

    #[inline(always)]
    fn flush_one<K: Protocol>(&mut self, key: K, line: Line) {
        let Some(slot) = K::row(&mut self.table).get_mut(key) else { return };
        let peers = peers!(self);
        let flushed = key.flush(peers, line, slot);
        if !matches!(flushed, Ok((true, After::Idle))) {
            flush_stopped(key, peers, line, slot, flushed);
        }
        if let Some((before, now)) = slot.held_change() {
            key.note_held(peers, before, now);
        }
        if slot.place == Place::Nowhere && key.may_go_on(peers, slot.read) {
            go_on(&mut self.run, slot, key.peer());
        }
    }
}

/// A read brought nothing.
#[inline(never)]
fn read_failed<K: Protocol, S: Stream, H: Handler, N: Nodes>(
    key: K,
    peers: &mut Peers<'_, H, N>,
    slot: &mut Slot<S>,
    error: ReadError,
) -> Progress {
    match error {
        ReadError::Refused(rule) => {
            key.refuse(peers, rule);
            Progress::More
        }
        ReadError::Introduced(visitor) => {
            key.introduce(peers, visitor);
            Progress::More
        }
        ReadError::Failed(rule, error) => {
            key.fail(peers, rule, &error);
            Progress::Waiting
        }
        ReadError::Io(error) => match error.kind() {
            ErrorKind::WouldBlock => {
                slot.read = Read::Drained;
                Progress::Waiting
            }
            ErrorKind::Interrupted => Progress::More,
            _ => {
                key.break_off(peers, &error);
                Progress::Waiting
            }
        },
    }
}

/// More waits than the kernel took, or the connection is on its way out.
#[inline(never)]
fn flush_stopped<K: Protocol, S: Stream, H: Handler, N: Nodes>(
    key: K,
    peers: &mut Peers<'_, H, N>,
    line: Line,
    slot: &mut Slot<S>,
    flushed: io::Result<(bool, After)>,
) {
    let (all, after) = match flushed {
        Ok(flushed) => flushed,
        Err(error) if would_block(&error) => (false, key.after_flush(peers, slot.read)),
        Err(error) => (true, key.deafen(peers, slot.read, &error)),
    };
    if !all {
        slot.block();
    }
    if slot.write == Write::Blocked {
        key.block(peers);
    }
    match after {
        After::Idle => {}
        // Back to the end of the queue it came from, because its share of this turn is used up.
        After::More if slot.write == Write::Ready => key.queue(peers, line),
        After::More => {} // the event that it can be written to queues it again
        After::ShutDown if slot.read == Read::Ended => key.lose(peers),
        After::ShutDown if slot.write == Write::Shut => {}
        After::ShutDown => slot.shut_down(),
        After::End if slot.stream.has_unsent() => {} // that event brings us here again
        After::End => key.lose(peers),
    }
}

/// The connection waits until a client has taken some of the bytes that wait for it.
fn hold<S>(held: &mut Vec<Peer>, slot: &mut Slot<S>, peer: Peer) {
    if slot.place == Place::Nowhere {
        slot.place = Place::Held;
        held.push(peer);
    }
}

/// Whether a client may have more room than at the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    AsBefore,
    More,
}

/// The connection is to be run again in the next turn. It is in one queue once, however often it is called before.
fn go_on<S>(run: &mut VecDeque<Peer>, slot: &mut Slot<S>, peer: Peer) {
    if slot.place == Place::Nowhere {
        slot.place = Place::Run;
        run.push_back(peer);
    }
}
