//! The floor: clients and the messages on their way to them, and the only door to changing either.
//!
//! A broadcast is encoded and noted as pending; it is handed to every open client in one pass, before another message or
//! a close is queued and before the flush at the end of the turn. So sixteen commands that arrive together touch each
//! client once. [`Hub::settled`] hands out the pending round and gives a [`Settled`], and only a `Settled` delivers,
//! admits, locks and closes: the roster and the delivery of a [`Floor`] are private to this folder. It never decodes a
//! byte and never touches a backend.
//!
//! Invariant: no message is queued for a client, and no client becomes open or leaves that state, while a broadcast is
//! pending. (A pong may be queued: RFC 6455 lets it pass.)
//!
//! | file | holds |
//! |---|---|
//! | `mod` | the door, the hand-out, messages |
//! | `leave` | how a client comes in and goes |
//! | `tabs` | tabs that go away and come back |
//! | `turn` | the steps of a turn: flush, reaping, input, deadlines |
//! | `audit` | the floor recounted |

mod audit;
mod leave;
mod tabs;
mod turn;

pub(crate) use audit::Flush;
pub(crate) use leave::Leave;
pub(crate) use tabs::Tab;
pub(crate) use turn::After;

use super::Hub;
use crate::config::{Limits, Timeouts};
use crate::delivery::{Delivery, Keep, Line, Pass, Pending, Range, Throttled};
use crate::key::ClientKey;
use crate::peer::client::{Client, ClientId};
use crate::roster::{Address, Bounds, Roster, Selection, Sign, Space, TooMany};
use crate::wire::command::Groups;
use crate::wire::frame::Opcode;
use log::info;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Floor {
    roster: Roster,
    delivery: Delivery,
    /// Scratch of the hand-out: clients that could not take it.
    full: Vec<ClientKey>,
    /// Scratch of the lists of addresses.
    selection: Selection,
}

/// Receivers of a write that are flushed in the urgent line; with more of them the write is flushed as a broadcast is.
pub(crate) const URGENT_RECEIVERS_MAX: usize = 64;

/// A floor on which no broadcast is pending.
#[derive(Debug)]
pub(crate) struct Settled<'h> {
    hub: &'h mut Hub,
}

impl Floor {
    pub(crate) fn new(roster: Roster, outbox_bytes_max: u32) -> Self {
        Self {
            roster,
            delivery: Delivery::new(outbox_bytes_max),
            full: Vec::new(),
            selection: Selection::default(),
        }
    }

    /// Other limits and timeouts are in force.
    pub(crate) fn apply(&mut self, limits: &Limits, timeouts: &Timeouts) {
        self.delivery.set_outbox_bytes_max(limits.outbox_bytes);
        self.roster.set_timeouts(timeouts.clone());
    }

    pub(crate) fn add_listener(&mut self, address: String, domain: Option<String>) {
        self.roster.add_listener(address, domain);
    }

    #[inline]
    pub(crate) fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Bytes that wait for all clients, shared ones counted once.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.delivery.bytes()
    }

    #[inline]
    pub(crate) fn burst_bytes(&self) -> usize {
        self.delivery.burst_bytes()
    }

    /// The open connections that a list names, each once, and the places of the items that named no connection.
    pub(crate) fn select<'a>(
        &mut self,
        items: impl Iterator<Item = (Sign, Address<'a>)> + Clone,
    ) -> (Vec<ClientKey>, Vec<usize>) {
        self.roster.select(items, &mut self.selection);
        (std::mem::take(&mut self.selection.keys), std::mem::take(&mut self.selection.absent))
    }

    /// The keys of a selection come back, for the next one.
    pub(crate) fn give_back(&mut self, keys: Vec<ClientKey>) {
        self.selection.keys = keys;
    }

    pub(crate) fn throttle(&mut self, len: usize) -> Throttled {
        self.delivery.throttle(len)
    }
}

impl Hub {
    /// Hands pending broadcasts to all open clients. The one door to everything that concerns a client.
    #[inline(always)]
    pub(crate) fn settled(&mut self) -> Settled<'_> {
        let pending =
            if self.floor.delivery.has_pending() { self.floor.delivery.take_pending() } else { None };
        let mut settled = self.settling();
        if let Some(pending) = pending {
            settled.hand_out(pending);
        }
        settled
    }

    /// Encodes a message for every open client and notes it as pending.
    pub(crate) fn broadcast(&mut self, opcode: Opcode, message: &[u8]) {
        if self.floor.delivery.bytes() + message.len() > self.rules.limits.queued_bytes {
            self.settled().make_room(message.len());
        }
        if let Some(earlier) = self.floor.delivery.broadcast(opcode, message) {
            self.settling().hand_out(earlier);
        }
    }

    /// Only hands out the pending round.
    #[inline(always)]
    fn settling(&mut self) -> Settled<'_> {
        Settled { hub: self }
    }
}

impl Settled<'_> {
    fn hand_out(&mut self, pending: Pending) {
        let Floor { roster, delivery, full, .. } = &mut self.hub.floor;
        let mut pass = delivery.pass(pending.range(), Line::Bulk, full);
        roster.all_receiving().for_each(|(key, to)| pass.offer(key, to));
        let receivers = pass.receivers();
        drop(pass);
        self.hub.stats.messages_out += u64::from(receivers) * u64::from(pending.messages);
        delivery.handed_out(pending);
        self.close_full();
    }

    /// Clients could not take a message that was for many.
    #[inline]
    fn close_full(&mut self) {
        while let Some(key) = self.hub.floor.full.pop() {
            self.leave(key, Leave::Overflown);
        }
    }

    #[inline]
    pub(crate) fn is_open(&self, id: ClientId) -> bool {
        self.hub.floor.roster.is_open(id)
    }

    #[inline]
    pub(crate) fn is_connected(&self, id: ClientId) -> bool {
        self.hub.floor.roster.find(id).is_some_and(Client::is_connected)
    }

    // Messages.

    /// Encodes a message and queues it for one client. False when it takes none, or that was too much.
    #[inline(always)]
    pub(crate) fn deliver(&mut self, key: ClientKey, opcode: Opcode, message: &[u8]) -> bool {
        self.make_room(message.len());
        let Floor { roster, delivery, .. } = &mut self.hub.floor;
        let Some(to) = roster.receiving(key) else { return false };
        if delivery.offer(key, to, opcode, message).is_err() {
            return self.overflow(key);
        }
        self.hub.stats.messages_out += 1;
        true
    }

    /// A client could not take a message.
    #[cold]
    fn overflow(&mut self, key: ClientKey) -> bool {
        self.leave(key, Leave::Overflown);
        false
    }

    /// Encodes a message once and queues it for all clients of a token. False when none took it.
    #[inline(always)]
    pub(crate) fn deliver_to_token(&mut self, token: &[u8], opcode: Opcode, message: &[u8]) -> bool {
        match self.hub.floor.roster.first_of_token(token) {
            Some(only) if self.hub.floor.roster.after_of_token(only).is_none() => {
                self.deliver_alone(only, opcode, message)
            }
            Some(_) => self.deliver_to_chain(token, opcode, message),
            None => false,
        }
    }

    /// The same, where it would cost the caller registers.
    #[inline(never)]
    fn deliver_alone(&mut self, key: ClientKey, opcode: Opcode, message: &[u8]) -> bool {
        self.deliver(key, opcode, message)
    }

    #[inline(never)]
    fn deliver_to_chain(&mut self, token: &[u8], opcode: Opcode, message: &[u8]) -> bool {
        self.make_room(message.len()); // which may close the first of them
        let first = self.hub.floor.roster.first_of_token(token);
        let taken = self.share(true, opcode, message, |settled, range| {
            let (mut next, mut taken) = (first, 0);
            while let Some(key) = next {
                next = settled.hub.floor.roster.after_of_token(key); // before it may leave the chain
                taken += u64::from(settled.offer(key, range, Line::Urgent));
            }
            taken
        });
        self.hub.stats.messages_out += taken;
        taken > 0
    }

    /// How many clients are under a name.
    pub(crate) fn members(&self, space: Space, name: &str) -> usize {
        self.hub.floor.roster.members(space, name).len()
    }

    /// Encodes a message once and queues it for the clients of a selection; returns how many took it.
    pub(crate) fn deliver_to(&mut self, keys: &[ClientKey], opcode: Opcode, message: &[u8]) -> usize {
        if let [only] = keys {
            return usize::from(self.deliver_alone(*only, opcode, message));
        }
        self.deliver_to_many(keys.len(), opcode, message, |roster, pass| {
            for key in keys {
                if let Some(to) = roster.receiving(*key) {
                    pass.offer(*key, to);
                }
            }
        })
    }

    /// The same for the clients under a name, which are no selection: no one of them is under it twice.
    pub(crate) fn deliver_to_name(
        &mut self,
        space: Space,
        name: &str,
        opcode: Opcode,
        message: &[u8],
    ) -> usize {
        match *self.hub.floor.roster.members(space, name) {
            [] => 0,
            [only] => usize::from(self.deliver_alone(only.key, opcode, message)),
            ref members => self.deliver_to_many(members.len(), opcode, message, |roster, pass| {
                roster.each_receiving(space, name, |key, to| pass.offer(key, to));
            }),
        }
    }

    /// `each` offers the message to all of them, which are about `count`.
    #[inline(always)]
    fn deliver_to_many(
        &mut self,
        count: usize,
        opcode: Opcode,
        message: &[u8],
        each: impl FnOnce(&mut Roster, &mut Pass<'_>),
    ) -> usize {
        self.make_room(message.len());
        let line = if count > URGENT_RECEIVERS_MAX { Line::Bulk } else { Line::Urgent };
        let Floor { roster, delivery, full, .. } = &mut self.hub.floor;
        let held = delivery.encode(true, opcode, message);
        if line == Line::Bulk {
            delivery.note_burst(held.range());
        }
        let mut pass = delivery.pass(held.range(), line, full);
        each(roster, &mut pass);
        let taken = pass.receivers() as usize;
        drop(pass);
        delivery.give_back(held);
        self.close_full();
        self.hub.stats.messages_out += taken as u64;
        taken
    }

    /// The same with a ping behind the message, whose number comes back; `taken` gets the keys of those that took it.
    pub(crate) fn deliver_proved(
        &mut self,
        keys: &[ClientKey],
        opcode: Opcode,
        message: &[u8],
        taken: &mut Vec<ClientKey>,
    ) -> u64 {
        self.make_room(message.len());
        let number = self.hub.floor.delivery.next_ping();
        let line = if keys.len() > URGENT_RECEIVERS_MAX { Line::Bulk } else { Line::Urgent };
        let held = self.hub.floor.delivery.encode_with_ping(opcode, message, number);
        if line == Line::Bulk {
            self.hub.floor.delivery.note_burst(held.range());
        }
        taken.extend(keys.iter().filter(|key| self.offer(**key, held.range(), line)));
        self.hub.floor.delivery.give_back(held);
        self.hub.stats.messages_out += taken.len() as u64;
        number
    }

    #[inline]
    fn offer(&mut self, key: ClientKey, range: Range, line: Line) -> bool {
        let Floor { roster, delivery, .. } = &mut self.hub.floor;
        let Some(to) = roster.receiving(key) else { return false };
        let taken = delivery.offer_range(key, to, range, line).is_ok();
        if !taken {
            self.leave(key, Leave::Overflown);
        }
        taken
    }

    /// Encodes a frame and holds it while `hand_out` queues it.
    fn share<T>(
        &mut self,
        fin: bool,
        opcode: Opcode,
        payload: &[u8],
        hand_out: impl FnOnce(&mut Self, Range) -> T,
    ) -> T {
        let held = self.hub.floor.delivery.encode(fin, opcode, payload);
        let result = hand_out(self, held.range());
        self.hub.floor.delivery.give_back(held);
        result
    }

    // Groups.

    /// Puts an open client into a group. Whether it was not in it before.
    ///
    /// # Errors
    /// The bound that is in the way.
    pub(crate) fn join(&mut self, key: ClientKey, group: &str, bounds: Bounds) -> Result<bool, TooMany> {
        let joined = self.hub.floor.roster.join(key, group, bounds);
        self.hub.touch_group(group);
        joined
    }

    /// Takes a client out of a group. Whether it was in it.
    pub(crate) fn leave_group(&mut self, key: ClientKey, group: &str) -> bool {
        let left = self.hub.floor.roster.leave_group(key, group);
        self.hub.touch_group(group);
        left
    }

    /// Puts open clients into groups; returns how many were not in one of them before, and the last bound that was in the
    /// way. Behind [`TooMany::Groups`] no more join.
    pub(crate) fn join_all(
        &mut self,
        keys: &[ClientKey],
        groups: Groups<'_>,
        bounds: Bounds,
    ) -> (usize, Option<TooMany>) {
        let roster = &mut self.hub.floor.roster;
        let mut listed = roster.listed(groups.iter());
        let (mut joined, mut error) = (0, None);
        for key in keys {
            let (is_new, bound) = roster.join_listed(*key, &mut listed, bounds);
            joined += usize::from(is_new);
            error = bound.or(error);
            if bound == Some(TooMany::Groups) {
                break;
            }
        }
        groups.iter().for_each(|group| self.hub.touch_group(group));
        (joined, error)
    }

    /// Takes clients out of groups; returns how many were in one.
    pub(crate) fn leave_all(&mut self, keys: &[ClientKey], groups: Groups<'_>) -> usize {
        let roster = &mut self.hub.floor.roster;
        let listed = roster.listed(groups.iter());
        let left = keys.iter().filter(|key| roster.leave_listed(**key, &listed)).count();
        groups.iter().for_each(|group| self.hub.touch_group(group));
        left
    }

    // Locks.

    /// Locks all open clients of a token, or none: when none is open, or one is locked already.
    pub(crate) fn lock(&mut self, token: &[u8]) -> Option<Vec<ClientId>> {
        let roster = &mut self.hub.floor.roster;
        let clients: Vec<ClientId> = roster.of_token(token).collect();
        let is_locked = |id: &ClientId| roster.get(id.key).is_some_and(|client| client.mail.is_locked());
        if clients.is_empty() || clients.iter().any(is_locked) {
            return None;
        }
        for id in &clients {
            roster.receiving(id.key).expect("a client of a token is open").lock();
        }
        Some(clients)
    }

    /// Queues a fragment for locked clients; returns how many took it.
    pub(crate) fn deliver_fragment(
        &mut self,
        clients: &[ClientId],
        fin: bool,
        opcode: Opcode,
        data: &[u8],
    ) -> usize {
        self.make_room(data.len());
        let taken = self.share(fin, opcode, data, |settled, range| {
            clients.iter().filter(|id| settled.offer_fragment(id.key, range)).count()
        });
        self.hub.stats.messages_out += if fin { taken as u64 } else { 0 };
        taken
    }

    fn offer_fragment(&mut self, key: ClientKey, range: Range) -> bool {
        let Floor { roster, delivery, .. } = &mut self.hub.floor;
        let Some(to) = roster.receiving(key) else { return false };
        let taken = delivery.offer_fragment(key, to, range).is_ok();
        if !taken {
            self.leave(key, Leave::Overflown);
        }
        taken
    }

    /// Lets the messages that were held back follow the last fragment.
    pub(crate) fn unlock(&mut self, clients: &[ClientId]) {
        let Floor { roster, delivery, .. } = &mut self.hub.floor;
        for id in clients {
            if roster.is_open(*id) {
                let to = roster.receiving(id.key).expect("it is open");
                delivery.unlock(id.key, to, self.hub.now.tick());
            }
        }
    }

    // Too much.

    /// Makes room for this many bytes under `limits.queued`: while there is none, the client that holds back most is
    /// closed, those that are on their way out before those that are open. A client that takes everything that it is
    /// offered holds nothing back.
    #[inline(always)]
    fn make_room(&mut self, bytes: usize) {
        if !self.has_room(bytes) {
            self.close_those_behind(bytes);
        }
    }

    #[inline(always)]
    fn has_room(&self, bytes: usize) -> bool {
        self.hub.floor.delivery.bytes() + bytes <= self.hub.rules.limits.queued_bytes
    }

    #[cold]
    fn close_those_behind(&mut self, bytes: usize) {
        while !self.has_room(bytes) {
            let Some(key) = self.hub.floor.delivery.furthest_behind() else { return };
            self.cut_off(key);
        }
    }

    fn cut_off(&mut self, key: ClientKey) {
        let Floor { roster, delivery, .. } = &mut self.hub.floor;
        let Some(client) = roster.get(key) else { return };
        if client.mail.keep().is_some_and(Keep::keeps) && client.is_connected() {
            info!("unconfirmed_dropped reason=queued peer={}", roster.peer(key));
            delivery.drop_kept(key, roster.mail(key).expect("it is here"));
        } else if client.accepts_data() {
            self.leave(key, Leave::Overflown);
        } else {
            info!("dropped reason=queued peer={}", self.hub.floor.roster.peer(key));
            self.lose(key);
        }
    }
}
