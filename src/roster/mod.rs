//! The client connections that are here, in whatever state: each with its address, its names, its deadline.
//!
//! It never queues a byte (delivery does) and does not decide which connections may come in. It never gives out a
//! client that can be changed: a field that may change alone has a method, and a change of state goes through
//! [`Roster::admit`], [`Roster::leave`] and their like, which keep names, counters, the list of the gone and the wheel
//! in step.
//!
//! Invariant: a client is in the names exactly while it is open, or a tab that is away; the counters are the number of clients in those
//! states; every client that is not gone is armed in the wheel, no later than its nearest deadline.
//!
//! | file | holds |
//! |---|---|
//! | `index` | from a token to the open clients that carry it |
//! | `groups` | users and groups: the open clients under a name |
//! | `audience` | the connections that a list of addresses names |
//! | `away` | tabs that went away and come back |
//! | `strangers` | connections without a login, oldest first, and how many each sender has |
//! | `page` | the users, or tokens, that are here, a thousand at a time |
//! | `audit` | everything recounted, for the tests |

mod audience;
mod audit;
mod away;
mod groups;
mod index;
mod page;
mod strangers;

pub use audience::Address;
pub(crate) use audience::{Here, NameKind, Selection, Sign, items};
pub(crate) use audit::audit_timer;
pub(crate) use groups::{Bounds, Space, TooMany};
pub(crate) use index::Index;

use crate::clock::{Now, Tick, Wheel};
use crate::config::Timeouts;
use crate::delivery::{Line, Mailbox};
use crate::key::{ClientKey, Key};
use crate::peer::client::{Client, ClientId, Due, Messages, State, Then};
use crate::stats::ListenerReport;
use crate::wire::frame::Decoder;
use crate::wire::http::forwarded::PeerAddr;
use groups::{Groups, Listed, Member};
use index::SPARSE;
use slab::Slab;
use std::hash::RandomState;
use strangers::Strangers;

/// The fields of a client that a broadcast never touches.
#[derive(Clone, Copy, Debug, Default)]
struct Cold {
    peer: PeerAddr,
    listener: u16,
}

/// Marks the place of a listener: the connection is counted among those of its sender.
const COUNTED: u16 = 1 << 15;

impl Cold {
    /// The place of its listener.
    fn place(self) -> usize {
        usize::from(self.listener & !COUNTED)
    }
}

// `client` has the table of all memory that a connection takes.
const _: () = assert!(size_of::<Cold>() <= 22);

/// How many clients are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Without a login yet.
    pub(crate) waiting: usize,
    /// Open.
    pub(crate) open: usize,
    /// Tabs that are away.
    pub(crate) away: usize,
    /// On their way out.
    pub(crate) closing: usize,
    /// Of those on their way out: refused, and lingering so that the refusal reaches them.
    pub(crate) refused: usize,
}

impl Counts {
    /// Connections without a login, which may never show one.
    pub(crate) fn strangers(self) -> usize {
        self.waiting + self.refused
    }
}

/// The kind of client that bytes came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A client whose request head is awaited; its deadline does not move.
    Stranger,
    /// A client that speaks frames, or is on its way out.
    Client,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Roster {
    clients: Slab<Client>,
    cold: Vec<Cold>,
    /// When each client was admitted.
    opened: Vec<Tick>,
    tokens: Index,
    /// Users and groups.
    names: Groups,
    wheel: Wheel<ClientKey>,
    timeouts: Timeouts,
    counts: Counts,
    listeners: Vec<ListenerReport>,
    strangers: Strangers,
    away: away::Aways,
    gone: Vec<ClientKey>,
    generation: u32,
    /// Bytes that are kept of all clients' input.
    input_bytes: usize,
    /// Bytes that the streams of clients keep whose request is awaited.
    stream_bytes: usize,
}

impl Roster {
    /// A roster without a client. The hasher is keyed by the caller.
    pub(crate) fn new(token_length: usize, timeouts: Timeouts, hasher: RandomState) -> Self {
        Self {
            clients: Slab::new(),
            cold: Vec::new(),
            opened: Vec::new(),
            tokens: Index::new(token_length, &hasher),
            names: Groups::new(&hasher),
            wheel: Wheel::default(),
            timeouts,
            counts: Counts::default(),
            listeners: Vec::new(),
            strangers: Strangers::new(hasher.clone()),
            away: away::Aways::new(hasher),
            gone: Vec::new(),
            generation: 0,
            input_bytes: 0,
            stream_bytes: 0,
        }
    }

    /// Declares a listener; clients name it by its place.
    pub(crate) fn add_listener(&mut self, address: String, domain: Option<String>) {
        self.listeners.push(ListenerReport { address, domain, clients: 0, accepted: 0 });
    }

    pub(crate) fn listeners(&self) -> &[ListenerReport] {
        &self.listeners
    }

    /// Puts other timeouts in force, for the clients that are here too.
    pub(crate) fn set_timeouts(&mut self, timeouts: Timeouts) {
        self.timeouts = timeouts;
        for key in self.keys() {
            self.arm(key);
        }
    }

    // Clients, ids and addresses.

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// The key that [`add`](Self::add) will use, to register the socket under it.
    pub(crate) fn next_key(&self) -> ClientKey {
        ClientKey::at(self.clients.vacant_key())
    }

    /// Slots in use, in whatever state.
    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    /// The keys in use, in order.
    pub(crate) fn keys(&self) -> Vec<ClientKey> {
        self.clients.iter().map(|(key, _)| ClientKey::at(key)).collect()
    }

    #[inline]
    pub(crate) fn get(&self, key: ClientKey) -> Option<&Client> {
        self.clients.get(key.index())
    }

    /// The client of an id that is not stale.
    #[inline]
    pub(crate) fn find(&self, id: ClientId) -> Option<&Client> {
        self.get(id.key).filter(|client| client.generation() == id.generation)
    }

    #[inline]
    fn find_mut(&mut self, id: ClientId) -> Option<&mut Client> {
        self.clients.get_mut(id.key.index()).filter(|client| client.generation() == id.generation)
    }

    /// The id of a slot that is in use.
    #[inline]
    pub(crate) fn id(&self, key: ClientKey) -> Option<ClientId> {
        self.get(key).map(|client| ClientId { key, generation: client.generation() })
    }

    /// Whether the client is open, or a tab that is away. A stale id is not.
    #[inline]
    pub(crate) fn is_open(&self, id: ClientId) -> bool {
        self.find(id).is_some_and(Client::accepts_data)
    }

    /// Whether this client is open.
    pub(crate) fn is_connected(&self, key: ClientKey) -> bool {
        self.get(key).is_some_and(Client::is_connected)
    }

    pub(crate) fn is_handshaking(&self, id: ClientId) -> bool {
        self.find(id).is_some_and(|client| matches!(client.state(), State::Handshaking { .. }))
    }

    /// Where a client that is here connects from.
    pub(crate) fn peer(&self, key: ClientKey) -> PeerAddr {
        self.cold[key.index()].peer
    }

    /// Notes the visitor's address, as a trusted proxy gives it.
    pub(crate) fn set_peer(&mut self, key: ClientKey, peer: PeerAddr) {
        self.uncount(key); // a trusted proxy is not counted as a sender
        self.cold[key.index()].peer = peer;
    }

    /// The same before the client has shown a login: it counts among those of its `sender`, if it has one.
    pub(crate) fn introduce(&mut self, key: ClientKey, visitor: PeerAddr, sender: Option<u64>) {
        self.set_peer(key, visitor);
        if let Some(sender) = sender {
            self.cold[key.index()].listener |= COUNTED;
            self.strangers.count(sender);
        }
    }

    /// The listener that a client came by.
    pub(crate) fn listener(&self, key: ClientKey) -> &ListenerReport {
        &self.listeners[self.cold[key.index()].place()]
    }

    /// All clients, for a look at each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ClientKey, &Client)> + Clone {
        self.clients.iter().map(|(key, client)| (ClientKey::at(key), client))
    }

    // Names.

    /// The newest open client of a token.
    #[inline]
    pub(crate) fn first_of_token(&self, token: &[u8]) -> Option<ClientKey> {
        self.tokens.first(token)
    }

    /// The next open client of the same token.
    #[inline]
    pub(crate) fn after_of_token(&self, key: ClientKey) -> Option<ClientKey> {
        self.tokens.after(key)
    }

    /// The open clients of a token.
    pub(crate) fn of_token(&self, token: &[u8]) -> impl Iterator<Item = ClientId> + '_ {
        self.tokens.of(token).filter_map(|key| self.id(key))
    }

    /// The token that an open client proved.
    pub(crate) fn token(&self, id: ClientId) -> Option<&[u8]> {
        self.is_open(id).then(|| self.tokens.name(id.key))
    }

    /// The user that an open client proved.
    pub(crate) fn user(&self, id: ClientId) -> Option<&str> {
        self.names.user(id.key).filter(|_| self.is_open(id))
    }

    /// The token and the user that an open client proved.
    #[inline]
    pub(crate) fn login(&self, id: ClientId) -> Option<(&[u8], Option<&str>)> {
        self.is_open(id).then(|| (self.tokens.name(id.key), self.names.user(id.key)))
    }

    /// The groups of an open client.
    pub(crate) fn groups_of(&self, id: ClientId) -> impl Iterator<Item = &str> {
        let key = self.is_open(id).then_some(id.key);
        key.into_iter().flat_map(|key| self.names.groups_of(key))
    }

    /// How many names there are.
    pub(crate) fn names(&self, space: Space) -> usize {
        self.names.count(space)
    }

    /// The groups with most members and how many these are, at most this many.
    pub(crate) fn largest_groups(&self, max: usize) -> Vec<(&str, usize)> {
        self.names.largest(max)
    }

    pub(crate) fn token_bytes_max(&self) -> usize {
        self.tokens.name_bytes_max()
    }

    // Fields that may change alone.

    /// The messages that wait for a client that is here.
    #[inline]
    pub(crate) fn mail(&mut self, key: ClientKey) -> Option<&mut Mailbox> {
        self.clients.get_mut(key.index()).map(|client| &mut client.mail)
    }

    /// The mailbox and the state of a client that is in this line, which it leaves. None for a key that an earlier user
    /// of the slot left behind, and for a client whose messages are withheld.
    #[inline(always)]
    pub(crate) fn unqueue(&mut self, key: ClientKey, line: Line) -> Option<(&mut Mailbox, &State)> {
        let (mail, state) = self.clients.get_mut(key.index())?.parts();
        let is_queued =
            mail.unmark(line) && !mail.is_withheld() && !matches!(state, State::Gone | State::Away { .. });
        is_queued.then_some((mail, state))
    }

    /// The mailbox of a client that takes messages.
    #[inline]
    pub(crate) fn receiving(&mut self, key: ClientKey) -> Option<&mut Mailbox> {
        self.clients.get_mut(key.index())?.receiving()
    }

    /// The mailboxes of all clients that take messages.
    #[inline]
    pub(crate) fn all_receiving(&mut self) -> impl Iterator<Item = (ClientKey, &mut Mailbox)> {
        let all = self.clients.iter_mut();
        all.filter_map(|(key, client)| client.receiving().map(|mail| (ClientKey::at(key), mail)))
    }

    /// The connections under a name.
    #[inline]
    pub(crate) fn members(&self, space: Space, name: &str) -> &[Member] {
        self.names.members(space, name)
    }

    /// Calls `visit` with the mailbox of each of them that takes messages.
    #[inline(always)]
    pub(crate) fn each_receiving(
        &mut self,
        space: Space,
        name: &str,
        mut visit: impl FnMut(ClientKey, &mut Mailbox),
    ) {
        let Self { clients, names, .. } = self;
        for Member { key, .. } in names.members(space, name) {
            if let Some(to) = clients.get_mut(key.index()).and_then(Client::receiving) {
                visit(*key, to);
            }
        }
    }

    /// The decoder of a client's frames, whether its messages count, and the counter of the bytes that it keeps.
    #[inline(always)]
    pub(crate) fn decoder(&mut self, id: ClientId) -> Option<(&mut Decoder, Messages, &mut usize)> {
        let client =
            self.clients.get_mut(id.key.index()).filter(|client| client.generation() == id.generation);
        let (decoder, messages) = client?.decoder()?;
        Some((decoder, messages, &mut self.input_bytes))
    }

    /// Appends to the part of a request head that came before; gives all of it out.
    pub(crate) fn keep_head(&mut self, id: ClientId, input: &[u8]) {
        let client =
            self.clients.get_mut(id.key.index()).filter(|client| client.generation() == id.generation);
        let Some(head) = client.and_then(Client::head) else { return };
        let before = head.as_ref().map_or(0, |head| head.capacity());
        head.get_or_insert_default().extend_from_slice(input);
        self.input_bytes += head.as_ref().map_or(0, |head| head.capacity()) - before;
    }

    /// The part of a request head that came so far; `None` when nothing is kept, or none is awaited.
    pub(crate) fn kept_head(&self, id: ClientId) -> Option<&[u8]> {
        match self.find(id)?.state() {
            State::Handshaking { head: Some(head), .. } => Some(head),
            _ => None,
        }
    }

    /// Gives out a request head that is complete.
    pub(crate) fn take_head(&mut self, id: ClientId) -> Vec<u8> {
        let head = self.find_mut(id).and_then(Client::head).and_then(Option::take);
        let head = head.map_or_else(Vec::new, |head| *head);
        self.input_bytes -= head.capacity();
        head
    }

    /// Bytes that are kept of all clients' input: of TLS handshakes and request heads, and of messages that are not
    /// complete.
    #[inline]
    pub(crate) fn input_bytes(&self) -> usize {
        self.input_bytes + self.stream_bytes
    }

    /// The stream of a client keeps this much. False when its request is not awaited any more.
    pub(crate) fn set_stream_bytes(&mut self, key: ClientKey, bytes: usize) -> bool {
        let Some(client) = self.clients.get_mut(key.index()) else { return false };
        let before = client.stream_bytes();
        let is_stranger = client.set_stream_bytes(bytes);
        self.stream_bytes = self.stream_bytes + client.stream_bytes() - before;
        is_stranger
    }

    /// Bytes came.
    #[inline]
    pub(crate) fn hear(&mut self, id: ClientId, now: Now) -> Heard {
        let Some(client) = self.find_mut(id) else { return Heard::Client };
        if matches!(client.state(), State::Handshaking { .. }) {
            return Heard::Stranger;
        }
        if client.hear(now.tick()) && client.accepts_data() {
            // The wheel waits for the pong's deadline, and the next ping may be due before that.
            self.wheel.arm_by(id.key, now.ms + self.timeouts.idle_ms);
        }
        Heard::Client
    }

    /// A ping is on its way.
    pub(crate) fn ping(&mut self, key: ClientKey, now: Now) {
        self.clients[key.index()].ping(now.tick());
        self.arm(key);
    }

    /// It counts as heard, if it is open: it may have spoken, and was not read.
    pub(crate) fn excuse(&mut self, key: ClientKey, now: Now) {
        if let Some(client) = self.clients.get_mut(key.index()).filter(|client| client.accepts_data()) {
            client.hear(now.tick());
            self.arm(key);
        }
    }

    /// For how long an open client has been so.
    pub(crate) fn open_ms(&self, key: ClientKey, now: Now) -> u64 {
        now.ms.saturating_sub(self.opened[key.index()].ms())
    }

    /// From this moment on an open client may be stalled.
    pub(crate) fn stalled(&mut self, key: ClientKey, now: Now) {
        self.wheel.arm_by(key, now.ms + self.timeouts.stalled_ms);
    }

    // Changes of state.

    /// A connection that was accepted: it has `timeouts.handshake` to show its request. If it has a `sender`, it counts
    /// among that sender's as long as it shows no login.
    pub(crate) fn add(&mut self, listener: usize, peer: PeerAddr, sender: Option<u64>, now: Now) -> ClientId {
        self.generation = self.generation.wrapping_add(1);
        let until = Tick::at(now.ms + self.timeouts.handshake_ms);
        let key = ClientKey::at(self.clients.insert(Client::new(self.generation, now.tick(), until)));
        self.make_place(key);
        let counted = if sender.is_some() { COUNTED } else { 0 };
        self.cold[key.index()] = Cold { peer, listener: listener as u16 | counted };
        sender.map(|sender| self.strangers.count(sender));
        self.listeners[listener].accepted += 1;
        self.counts.waiting += 1;
        self.arm(key);
        let id = ClientId { key, generation: self.generation };
        self.strangers.waiting.push_back(id);
        id
    }

    fn make_place(&mut self, key: ClientKey) {
        if self.cold.len() <= key.index() {
            self.cold.resize(key.index() + 1, Cold::default());
            self.opened.resize(key.index() + 1, Tick::FIRST);
        }
    }

    /// A login was proved: the client is open, under these names.
    pub(crate) fn admit(
        &mut self,
        key: ClientKey,
        token: &[u8],
        user: Option<&str>,
        expires: Tick,
        now: Now,
    ) -> &mut Mailbox {
        debug_assert_eq!(self.clients[key.index()].stream_bytes(), 0, "they count elsewhere now");
        self.uncount(key);
        self.input_bytes -= self.clients[key.index()].input_bytes();
        self.clients[key.index()].admit(now.tick(), expires);
        self.opened[key.index()] = now.tick();
        self.tokens.insert(key, token);
        if let Some(user) = user {
            self.names.set_user(key, user);
        }
        self.counts.waiting -= 1;
        self.counts.open += 1;
        self.listeners[self.cold[key.index()].place()].clients += 1;
        self.arm(key);
        &mut self.clients[key.index()].mail
    }

    /// An open client stops to be one.
    pub(crate) fn leave(&mut self, key: ClientKey, then: Then, now: Now) -> &mut Mailbox {
        debug_assert!(self.clients[key.index()].is_connected(), "a client leaves once");
        self.tokens.remove(key);
        self.names.leave_all(key);
        self.counts.open -= 1;
        self.counts.closing += 1;
        self.listeners[self.cold[key.index()].place()].clients -= 1;
        self.change(key, then, now)
    }

    /// Puts an open client into a group. Whether it was not in it before.
    ///
    /// # Errors
    /// The bound that is in the way.
    pub(crate) fn join(&mut self, key: ClientKey, group: &str, bounds: Bounds) -> Result<bool, TooMany> {
        debug_assert!(self.clients[key.index()].accepts_data(), "only an open client is in a group");
        self.names.join(key, group, bounds)
    }

    /// Takes a client out of a group. Whether it was in it.
    pub(crate) fn leave_group(&mut self, key: ClientKey, group: &str) -> bool {
        self.names.leave(key, group)
    }

    /// The groups of a list, for the next two.
    pub(crate) fn listed<'n>(&self, names: impl Iterator<Item = &'n str>) -> Listed<'n> {
        self.names.listed(names)
    }

    /// Puts an open client into the groups of a list.
    pub(crate) fn join_listed(
        &mut self,
        key: ClientKey,
        listed: &mut Listed<'_>,
        bounds: Bounds,
    ) -> (bool, Option<TooMany>) {
        debug_assert!(self.clients[key.index()].accepts_data(), "only an open client is in a group");
        self.names.join_listed(key, listed, bounds)
    }

    /// Takes a client out of the groups of a list. Whether it was in one of them.
    pub(crate) fn leave_listed(&mut self, key: ClientKey, listed: &Listed<'_>) -> bool {
        self.names.leave_listed(key, listed)
    }

    /// A connection without a login stops to be one.
    pub(crate) fn turn_away(&mut self, key: ClientKey, then: Then, now: Now) -> &mut Mailbox {
        debug_assert!(
            matches!(self.clients[key.index()].state(), State::Handshaking { .. }),
            "a stranger goes once"
        );
        debug_assert_eq!(self.clients[key.index()].stream_bytes(), 0, "they count elsewhere now");
        self.counts.waiting -= 1;
        self.counts.closing += 1;
        if then == Then::Linger {
            self.counts.refused += 1;
            let id = ClientId { key, generation: self.clients[key.index()].generation() };
            let _ = self.oldest_refused(); // refused ones that are gone make room in the queue
            self.strangers.refused.push_back(id);
        }
        self.change(key, then, now)
    }

    /// A client that is on its way out goes a step further.
    pub(crate) fn go_on(&mut self, key: ClientKey, then: Then, now: Now) -> &mut Mailbox {
        let state = self.clients[key.index()].state();
        debug_assert!(
            !matches!(state, State::Open { .. } | State::Away { .. } | State::Handshaking { .. }),
            "it is on its way out"
        );
        self.counts.refused -= usize::from(self.clients[key.index()].is_refused());
        self.change(key, then, now)
    }

    fn change(&mut self, key: ClientKey, then: Then, now: Now) -> &mut Mailbox {
        let until = Tick::at(now.ms + self.timeouts.close_ms);
        let client = &mut self.clients[key.index()];
        let before = client.input_bytes();
        client.change(then, until);
        self.input_bytes = self.input_bytes + client.input_bytes() - before;
        if then == Then::End {
            self.gone.push(key);
            self.uncount(key);
        }
        self.arm(key);
        &mut self.clients[key.index()].mail
    }

    /// One client to be reaped.
    pub(crate) fn next_gone(&mut self) -> Option<ClientId> {
        let key = self.gone.pop()?;
        self.id(key)
    }

    /// Frees the slot of a client that [`next_gone`](Self::next_gone) gave.
    pub(crate) fn remove(&mut self, id: ClientId) {
        let client = self.clients.remove(id.key.index());
        debug_assert!(matches!(client.state(), State::Gone), "only what is gone is removed");
        self.counts.closing -= 1;
    }

    // Strangers.

    /// The connection that has been without a login for longest.
    pub(crate) fn oldest_stranger(&mut self) -> Option<ClientId> {
        while let Some(oldest) = self.strangers.waiting.front() {
            if self.is_handshaking(*oldest) {
                return Some(*oldest);
            }
            self.strangers.waiting.pop_front();
        }
        None
    }

    /// The connection that lingers after a refusal for longest.
    pub(crate) fn oldest_refused(&mut self) -> Option<ClientId> {
        while let Some(oldest) = self.strangers.refused.front() {
            if self.is_refused(*oldest) {
                return Some(*oldest);
            }
            self.strangers.refused.pop_front();
        }
        None
    }

    fn is_refused(&self, id: ClientId) -> bool {
        self.find(id).is_some_and(Client::is_refused)
    }

    /// The oldest of a sender's that may go: one that was refused, or one that came before `before`.
    pub(crate) fn oldest_of(&self, sender: u64, before: Option<Tick>) -> Option<ClientId> {
        let is_theirs = |id: &ClientId| {
            let cold = self.cold[id.key.index()];
            cold.listener & COUNTED != 0 && cold.peer.sender() == Some(sender)
        };
        let refused = Strangers::oldest(&self.strangers.refused);
        let waiting = Strangers::oldest(&self.strangers.waiting);
        let waiting =
            waiting.take_while(|id| self.find(*id).is_none_or(|client| Some(client.heard()) <= before));
        let mut theirs =
            refused.filter(|id| self.is_refused(*id)).chain(waiting.filter(|id| self.is_handshaking(*id)));
        theirs.find(is_theirs)
    }

    /// Connections of a sender that have shown no login.
    pub(crate) fn counted(&self, sender: u64) -> usize {
        self.strangers.counted(sender)
    }

    /// It is not counted among its sender's any more.
    fn uncount(&mut self, key: ClientKey) {
        let cold = &mut self.cold[key.index()];
        if cold.listener & COUNTED != 0 {
            cold.listener &= !COUNTED;
            let sender = cold.peer.sender().expect("it was counted under it");
            self.strangers.uncount(sender);
        }
    }

    // Deadlines.

    /// No deadline comes before this moment, in milliseconds of [`Now`]; `u64::MAX` for never.
    #[inline]
    pub(crate) fn next_deadline_ms(&self) -> u64 {
        self.wheel.next_ms()
    }

    /// One entry of the wheel that has come up, and the deadline that is really due, if any is. It is not armed any
    /// more unless nothing is due: the caller does something about it that arms it.
    pub(crate) fn pop_due(&mut self, now: Now) -> Option<(ClientKey, Option<Due>)> {
        let key = self.wheel.pop(now.ms)?;
        match self.clients[key.index()].next_due(&self.timeouts) {
            Some((deadline_ms, due)) if deadline_ms <= now.ms => Some((key, Some(due))),
            _ => {
                self.arm(key);
                Some((key, None))
            }
        }
    }

    /// Sets the wheel to the next deadline.
    fn arm(&mut self, key: ClientKey) {
        match self.clients[key.index()].next_due(&self.timeouts) {
            Some((deadline_ms, _)) => self.wheel.arm(key, deadline_ms),
            None => self.wheel.cancel(key),
        }
    }

    // Memory that many clients have left behind.

    /// Shrinks the tables if they are sparse and have more than `slots_min` slots; returns how many there are then.
    pub(crate) fn shrink(&mut self, slots_min: usize) -> Option<usize> {
        self.names.tidy(slots_min);
        let slots = self.clients.capacity();
        if slots <= slots_min || self.clients.len() >= slots / SPARSE {
            return None;
        }
        self.clients.shrink_to_fit();
        let keys = self.clients.capacity();
        self.cold.truncate(keys);
        self.cold.shrink_to_fit();
        self.opened.truncate(keys);
        self.opened.shrink_to_fit();
        self.wheel.shrink(keys);
        self.tokens.shrink(keys);
        self.names.shrink(keys);
        self.gone = Vec::new();
        let _ = self.oldest_stranger(); // strangers that are gone make room in the queue
        let _ = self.oldest_refused();
        self.strangers.shrink();
        Some(keys)
    }
}
