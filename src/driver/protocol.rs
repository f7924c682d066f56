//! The operations of a kind of peer in the turn, and the one gate before every read.
//!
//! The key of a peer says its kind; so the turn is written once and compiled for each. Nothing here touches a
//! socket but to hand a stream the bytes that the hub has ready. Invariant: whether a peer is read is said by [`gate`]
//! alone.

use super::SCRATCH_BYTES;
use super::node::Nodes;
use super::stream::{Peer, Stream, write, write_one};
use super::table::{Read, Row, Slot, Table, Write};
use crate::delivery::{Line, Written};
use crate::dispatch::{self, Progress};
use crate::handler::{self, Handler, Spoke};
use crate::hub::{After, Flush, Hub, Shelf};
use crate::key::{BackendKey, ClientKey, Key, NodeKey};
use crate::peer::backend;
use crate::rule::Rule;
use crate::wire::http::forwarded::PeerAddr;
use log::debug;
use std::io::{self, ErrorKind};

/// Whether a peer is read now, and if not, why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// It is read.
    Open,
    /// It does not take the bytes that it is sent: the flush that makes room brings it back.
    Full,
    /// It broadcasts, and earlier broadcasts have not been offered to all: it runs again.
    Throttled,
    /// It broadcasts, and a client that takes bytes has no room for more: it runs again when the client may have.
    Waiting,
    /// The worker for its messages takes no more, or is not there: it runs again when that has changed.
    Shelved(Shelf),
    /// Its next read computes much, and this turn has done enough of that.
    Costly,
    /// The connection is over: nothing that it says counts.
    Over,
}

/// The one place where it is decided whether a peer is read now. `recent` is the audience of the clients' last
/// messages.
#[inline(always)]
pub(super) fn gate<K: Protocol, S: Stream, H: Handler, N: Nodes>(
    key: K,
    peers: &mut Peers<'_, H, N>,
    slot: &Slot<S>,
    recent: Spoke,
    costly_left: &mut usize,
) -> Gate {
    let gate = key.gate(peers, slot.spoke.or(recent));
    if gate != Gate::Open || !slot.stream.is_costly() {
        return gate;
    }
    if *costly_left == 0 {
        return Gate::Costly;
    }
    *costly_left -= 1;
    Gate::Open
}

/// The driver's parts that are no sockets.
pub(super) struct Peers<'d, H, N> {
    pub(super) hub: &'d mut Hub,
    pub(super) handler: &'d mut H,
    pub(super) nodes: &'d mut N,
}

/// A kind of peer, named by its key.
pub(super) trait Protocol: Key {
    /// Whether connections of this kind may go from one key to another.
    const MOVES: bool = false;

    fn peer(self) -> Peer;

    fn row<S>(table: &mut Table<S>) -> &mut Row<Self, S>;

    // Input.

    /// Goes on with the input that was read before, if any of it is left.
    fn resume<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>) -> Progress;

    /// The reason to keep the peer itself waiting: its part of [`gate`].
    fn gate<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, spoke: Spoke) -> Gate;

    /// It waits for a worker: the hub gives it back.
    fn shelve<H: Handler, N: Nodes>(self, _: &mut Peers<'_, H, N>, _: Shelf) {}

    /// Takes the bytes that were read.
    fn feed<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, input: &mut [u8]) -> (Progress, Spoke);

    /// Its side is shut down. Our last words may still go out.
    fn end<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>) -> Progress;

    /// It gets the answer that its protocol is not spoken here; the rest of its input is discarded.
    fn refuse<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, rule: Rule);

    /// It cannot be understood, and breaks this rule before it has shown a login.
    fn fail<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, _rule: Rule, error: &io::Error) {
        self.break_off(peers, error);
    }

    /// A proxy in between has named the visitor, or only itself.
    fn introduce<H: Handler, N: Nodes>(self, _: &mut Peers<'_, H, N>, _visitor: Option<PeerAddr>) {}

    /// A read failed for good.
    fn break_off<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, error: &io::Error);

    /// Its stream keeps another number of bytes than before.
    #[inline(never)]
    fn note_held<H: Handler, N: Nodes>(self, _: &mut Peers<'_, H, N>, _before: usize, _now: usize) {}

    // The flush.

    /// It is to be flushed.
    fn queue<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, line: Line);

    /// Offers the waiting bytes to the stream. Returns whether the kernel took all of them, and the next step.
    fn flush<S: Stream, H: Handler, N: Nodes>(
        self,
        peers: &mut Peers<'_, H, N>,
        line: Line,
        slot: &mut Slot<S>,
    ) -> io::Result<(bool, After)>;

    /// The next step when no more can be written now.
    fn after_flush<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, read: Read) -> After;

    /// A write failed for good. Returns the next step.
    fn deafen<H: Handler, N: Nodes>(
        self,
        peers: &mut Peers<'_, H, N>,
        read: Read,
        error: &io::Error,
    ) -> After;

    /// The kernel takes no more.
    fn block<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>);

    /// Whether a flush may have opened its gate.
    fn may_go_on<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, read: Read) -> bool;

    // The end.

    /// All is sent.
    fn lose<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>);

    /// One to be reaped.
    fn next_gone<H: Handler, N: Nodes>(peers: &mut Peers<'_, H, N>) -> Option<Self>;

    /// Its connection is closed: its slot may be used again.
    fn remove<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>);

    // For the audit.

    fn keys<N: Nodes>(hub: &Hub, nodes: &N) -> Vec<Self>;

    /// How it stands to the flush, and the rest of its input.
    fn view<N: Nodes>(self, hub: &Hub, nodes: &N) -> View;
}

/// The state that the audit compares a slot with.
#[derive(Debug)]
pub(super) struct View {
    pub(super) flush: Flush,
    /// Something is left of its input.
    pub(super) has_work: bool,
    /// Neither an event nor the run queue brings it back now: the flush does, or nothing.
    pub(super) is_held: bool,
}

/// The bytes that are offered to a stream that may take nothing.
#[inline(always)]
fn offer<S>(slot: &mut Slot<S>, write: impl FnOnce(&mut S) -> io::Result<Written>) -> io::Result<Written> {
    match slot.write {
        Write::Ready | Write::Shut => write(&mut slot.stream),
        Write::Blocked => Err(ErrorKind::WouldBlock.into()),
    }
}

impl Protocol for ClientKey {
    const MOVES: bool = true;

    fn peer(self) -> Peer {
        Peer::Client(self)
    }

    #[inline(always)]
    fn row<S>(table: &mut Table<S>) -> &mut Row<Self, S> {
        &mut table.clients
    }

    #[inline(always)]
    fn resume<H: Handler, N: Nodes>(self, _: &mut Peers<'_, H, N>) -> Progress {
        Progress::Waiting
    }

    #[inline(always)]
    fn gate<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, spoke: Spoke) -> Gate {
        if spoke == Spoke::ToAll && peers.hub.is_throttled(SCRATCH_BYTES) {
            Gate::Throttled
        } else if let Some(shelf) = peers.hub.awaits(self) {
            Gate::Shelved(shelf)
        } else if spoke == Spoke::ToAll && peers.hub.waits_for_readers(SCRATCH_BYTES) {
            Gate::Waiting
        } else {
            Gate::Open
        }
    }

    fn shelve<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, shelf: Shelf) {
        peers.hub.shelve(self, shelf);
    }

    #[inline(always)]
    fn feed<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, input: &mut [u8]) -> (Progress, Spoke) {
        let Some(id) = peers.hub.client_id(self) else { return (Progress::Waiting, Spoke::Nothing) };
        (Progress::Waiting, handler::pump(peers.hub, peers.handler, id, input))
    }

    fn end<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>) -> Progress {
        if let Some(id) = peers.hub.client_id(self).filter(|id| !peers.hub.has_last_words(*id)) {
            peers.hub.client_lost(id);
        }
        Progress::Waiting
    }

    fn refuse<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, rule: Rule) {
        if let Some(id) = peers.hub.client_id(self) {
            peers.hub.refuse(id, rule);
        }
    }

    fn fail<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, rule: Rule, error: &io::Error) {
        if let Some(id) = peers.hub.client_id(self) {
            peers.hub.handshake_failed(id, rule, error);
        }
    }

    fn introduce<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, visitor: Option<PeerAddr>) {
        if let (Some(id), Some(visitor)) = (peers.hub.client_id(self), visitor) {
            peers.hub.introduce(id, visitor);
        }
    }

    fn break_off<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, error: &io::Error) {
        debug!("connection_lost reason=\"{error}\"");
        self.lose(peers);
    }

    fn note_held<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, before: usize, now: usize) {
        peers.hub.note_stream(self, before, now);
    }

    #[inline]
    fn queue<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, line: Line) {
        peers.hub.floor.queue(line, self);
    }

    #[inline(always)]
    fn flush<S: Stream, H: Handler, N: Nodes>(
        self,
        peers: &mut Peers<'_, H, N>,
        line: Line,
        slot: &mut Slot<S>,
    ) -> io::Result<(bool, After)> {
        peers.hub.flush_client(self, line, |outbox, spool| offer(slot, |stream| write(stream, outbox, spool)))
    }

    fn after_flush<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, _: Read) -> After {
        peers.hub.floor.after_flush(self)
    }

    fn deafen<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, _: Read, error: &io::Error) -> After {
        self.break_off(peers, error);
        After::Idle
    }

    fn block<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>) {
        peers.hub.floor.blocked(self, peers.hub.now);
    }

    #[inline(always)]
    fn may_go_on<H: Handler, N: Nodes>(self, _: &mut Peers<'_, H, N>, _: Read) -> bool {
        false // its gate waits for no flush
    }

    fn lose<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>) {
        if let Some(id) = peers.hub.client_id(self) {
            peers.hub.client_lost(id);
        }
    }

    fn next_gone<H: Handler, N: Nodes>(peers: &mut Peers<'_, H, N>) -> Option<Self> {
        let (id, was_open) = peers.hub.next_gone()?;
        if was_open {
            peers.handler.on_close(peers.hub, id);
        }
        Some(id.key)
    }

    fn remove<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>) {
        if let Some(id) = peers.hub.client_id(self) {
            peers.hub.floor.remove(id);
        }
    }

    fn keys<N: Nodes>(hub: &Hub, _: &N) -> Vec<Self> {
        let connected = hub.roster().iter().filter(|(_, client)| !client.is_away());
        connected.map(|(key, _)| key).collect()
    }

    fn view<N: Nodes>(self, hub: &Hub, _: &N) -> View {
        let flush = hub.floor.audit_flush(self).expect("the driver's slots are the hub's");
        View { flush, has_work: false, is_held: false }
    }
}

impl Protocol for BackendKey {
    fn peer(self) -> Peer {
        Peer::Backend(self)
    }

    #[inline(always)]
    fn row<S>(table: &mut Table<S>) -> &mut Row<Self, S> {
        &mut table.backends
    }

    /// Only when nothing is left of earlier input is more read.
    #[inline]
    fn resume<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>) -> Progress {
        if !peers.hub.backends[self].has_commands() {
            return Progress::Waiting;
        }
        dispatch::pump(peers.hub, self, b"")
    }

    #[inline]
    fn gate<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, _: Spoke) -> Gate {
        match peers.hub.backends[self].state {
            backend::State::Gone => Gate::Over,
            _ if peers.hub.owes_replies(self) => Gate::Full,
            _ => Gate::Open, // the throttle keeps single commands waiting
        }
    }

    fn note_held<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, _: usize, now: usize) {
        peers.hub.note_backend_stream(self, now);
    }

    #[inline]
    fn feed<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, input: &mut [u8]) -> (Progress, Spoke) {
        (dispatch::pump(peers.hub, self, input), Spoke::Nothing)
    }

    fn end<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>) -> Progress {
        peers.hub.backends.eof(self);
        dispatch::pump(peers.hub, self, b"")
    }

    fn refuse<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, rule: Rule) {
        debug!("backend_refused rule={}", rule.name());
        self.lose(peers);
    }

    fn break_off<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, error: &io::Error) {
        debug!("backend_lost reason=\"{error}\"");
        self.lose(peers);
    }

    fn queue<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, _: Line) {
        peers.hub.backends.queue(self);
    }

    #[inline]
    fn flush<S: Stream, H: Handler, N: Nodes>(
        self,
        peers: &mut Peers<'_, H, N>,
        _: Line,
        slot: &mut Slot<S>,
    ) -> io::Result<(bool, After)> {
        let chunk = peers.hub.backends[self].replies.chunk();
        let Written { sent, all } = offer(slot, |stream| write_one(stream, chunk))?;
        if peers.hub.backends.sent(self, sent, peers.hub.now) {
            return Ok((all, After::Idle));
        }
        if peers.hub.backends[self].is_full_worker() {
            peers.hub.worker_took(self);
        }
        Ok((all, self.after_flush(peers, slot.read)))
    }

    fn after_flush<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, read: Read) -> After {
        if !peers.hub.backends[self].replies.chunk().is_empty() {
            After::More
        } else if peers.hub.backend_is_over(self, read == Read::Ended) {
            After::End
        } else if peers.hub.backends[self].lingers() {
            After::ShutDown
        } else {
            After::Idle
        }
    }

    /// It reads no more; its earlier commands are still executed, and reading finds the end.
    fn deafen<H: Handler, N: Nodes>(
        self,
        peers: &mut Peers<'_, H, N>,
        read: Read,
        error: &io::Error,
    ) -> After {
        debug!("backend_deaf reason=\"{error}\"");
        peers.hub.backend_is_deaf(self);
        self.after_flush(peers, read)
    }

    fn block<H: Handler, N: Nodes>(self, _: &mut Peers<'_, H, N>) {}

    /// A reload may have raised the bound since its replies piled up, so the rest of its input counts, not the
    /// gate's last answer.
    #[inline]
    fn may_go_on<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, read: Read) -> bool {
        let has_work = read.is_ready() || peers.hub.backends[self].has_commands();
        has_work && !peers.hub.is_paused(self)
    }

    fn lose<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>) {
        peers.hub.end_backend(self);
    }

    fn next_gone<H: Handler, N: Nodes>(peers: &mut Peers<'_, H, N>) -> Option<Self> {
        peers.hub.backends.next_gone()
    }

    fn remove<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>) {
        peers.hub.backends.remove(self);
    }

    fn keys<N: Nodes>(hub: &Hub, _: &N) -> Vec<Self> {
        hub.backends.iter().map(|(key, _)| key).collect()
    }

    fn view<N: Nodes>(self, hub: &Hub, _: &N) -> View {
        View {
            flush: hub.audit_backend_flush(self),
            has_work: hub.backends[self].has_commands(),
            is_held: hub.is_paused(self),
        }
    }
}

impl Protocol for NodeKey {
    fn peer(self) -> Peer {
        Peer::Node(self)
    }

    fn row<S>(table: &mut Table<S>) -> &mut Row<Self, S> {
        &mut table.nodes
    }

    fn resume<H: Handler, N: Nodes>(self, _: &mut Peers<'_, H, N>) -> Progress {
        Progress::Waiting
    }

    fn gate<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, _: Spoke) -> Gate {
        if peers.nodes.is_full(peers.hub, self) {
            Gate::Full
        } else if peers.hub.is_throttled(SCRATCH_BYTES) {
            // What it broadcasts is offered to all before more of it is read, as with backends.
            Gate::Throttled
        } else if peers.hub.waits_for_readers(SCRATCH_BYTES) {
            Gate::Waiting
        } else {
            Gate::Open
        }
    }

    fn feed<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, input: &mut [u8]) -> (Progress, Spoke) {
        peers.nodes.receive(peers.hub, self, input);
        (Progress::Waiting, Spoke::Nothing)
    }

    fn end<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>) -> Progress {
        peers.nodes.end(peers.hub, self);
        Progress::Waiting
    }

    fn refuse<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, _: Rule) {
        self.lose(peers);
    }

    fn break_off<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, error: &io::Error) {
        peers.nodes.lose(peers.hub, self, Some(error));
    }

    fn queue<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, _: Line) {
        peers.nodes.queue(peers.hub, self);
    }

    fn flush<S: Stream, H: Handler, N: Nodes>(
        self,
        peers: &mut Peers<'_, H, N>,
        _: Line,
        slot: &mut Slot<S>,
    ) -> io::Result<(bool, After)> {
        let Written { sent, all } =
            offer(slot, |stream| write_one(stream, peers.nodes.chunk(peers.hub, self)))?;
        peers.nodes.sent(peers.hub, self, sent);
        Ok((all, self.after_flush(peers, slot.read)))
    }

    fn after_flush<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, _: Read) -> After {
        if peers.nodes.chunk(peers.hub, self).is_empty() {
            peers.nodes.after_flush(peers.hub, self)
        } else {
            After::More
        }
    }

    fn deafen<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, _: Read, error: &io::Error) -> After {
        self.break_off(peers, error);
        After::Idle
    }

    fn block<H: Handler, N: Nodes>(self, _: &mut Peers<'_, H, N>) {}

    fn may_go_on<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>, read: Read) -> bool {
        read.is_ready() && !peers.nodes.is_full(peers.hub, self)
    }

    fn lose<H: Handler, N: Nodes>(self, peers: &mut Peers<'_, H, N>) {
        peers.nodes.lose(peers.hub, self, None);
    }

    fn next_gone<H: Handler, N: Nodes>(peers: &mut Peers<'_, H, N>) -> Option<Self> {
        peers.nodes.next_gone(peers.hub)
    }

    fn remove<H: Handler, N: Nodes>(self, _: &mut Peers<'_, H, N>) {}

    fn keys<N: Nodes>(hub: &Hub, nodes: &N) -> Vec<Self> {
        nodes.keys(hub)
    }

    fn view<N: Nodes>(self, hub: &Hub, nodes: &N) -> View {
        let waits = !nodes.chunk(hub, self).is_empty();
        let flush = Flush { waits, queued: nodes.has_flush(hub), owes_pong: false, lingers: false };
        View { flush, has_work: false, is_held: nodes.is_full(hub, self) }
    }
}
