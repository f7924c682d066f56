//! Tabs that went away: which has been so for longest, which of a login's it is that comes back, and what becomes of
//! their connections.
//!
//! A tab keeps its slot, so its id, its names and its mailbox stay as they are. Its connection goes on under another
//! key, and the connection that it comes back with was accepted under a third: the driver is told to move them. It never
//! decides whether a tab may come back. Invariant: `by_time` has each tab that is away, once.

use super::Roster;
use crate::clock::{Now, Tick};
use crate::delivery::Mailbox;
use crate::key::{ClientKey, Key};
use crate::peer::client::{Client, ClientId, State, Then};
use std::collections::{BTreeSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

/// See the module's head.
#[derive(Debug)]
pub(super) struct Aways {
    hasher: RandomState,
    by_time: BTreeSet<(Tick, ClientKey)>,
    /// Connections that belong to other keys from now on: from, to.
    moves: VecDeque<(ClientKey, ClientKey)>,
}

impl Aways {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self { hasher, by_time: BTreeSet::new(), moves: VecDeque::new() }
    }
}

impl Roster {
    /// The name of a tab as it is kept: the hash is keyed, and compared among the few connections of one login.
    pub(crate) fn tab_name(&self, tab: &str) -> u64 {
        self.away.hasher.hash_one(tab)
    }

    /// The tab of this login, open or away.
    pub(crate) fn tab(&self, token: &[u8], user: Option<&str>, name: u64) -> Option<ClientKey> {
        let is_it = |key: &ClientKey| {
            let keep = self.get(*key).and_then(|client| client.mail.keep());
            keep.is_some_and(|keep| keep.name() == name) && self.names.user(*key) == user
        };
        self.tokens.of(token).find(is_it)
    }

    /// The tab that is away longest.
    pub(crate) fn longest_away(&self) -> Option<ClientKey> {
        self.away.by_time.first().map(|(_, key)| *key)
    }

    /// The one of these that is away longest.
    pub(crate) fn longest_away_of(&self, keys: impl Iterator<Item = ClientKey>) -> Option<ClientKey> {
        let since = |key: ClientKey| match self.get(key).map(Client::state) {
            Some(State::Away { since, .. }) => Some((*since, key)),
            _ => None,
        };
        keys.filter_map(since).min().map(|(_, key)| key)
    }

    /// The connection of a tab ends, and the tab is away. What is left of the connection has this key from now on.
    pub(crate) fn go_away(&mut self, key: ClientKey, then: Then, code: u16, now: Now) -> ClientKey {
        self.generation = self.generation.wrapping_add(1);
        let until = Tick::at(now.ms + self.timeouts.close_ms);
        let client = &mut self.clients[key.index()];
        let before = client.input_bytes();
        let remainder = client.go_away(self.generation, (then, code), now.tick(), until);
        self.input_bytes = self.input_bytes + remainder.input_bytes() - before;
        let rest = ClientKey::at(self.clients.insert(remainder));
        self.make_place(rest);
        self.cold[rest.index()] = self.cold[key.index()];
        self.listeners[self.cold[key.index()].place()].clients -= 1;
        self.counts.open -= 1;
        self.counts.away += 1;
        self.counts.closing += 1;
        self.away.by_time.insert((now.tick(), key));
        self.away.moves.push_back((key, rest));
        if then == Then::End {
            self.gone.push(rest);
        }
        self.arm(key);
        self.arm(rest);
        rest
    }

    /// The mailboxes of a tab and of what is left of its connection.
    pub(crate) fn both_mails(&mut self, key: ClientKey, rest: ClientKey) -> (&mut Mailbox, &mut Mailbox) {
        let both = self.clients.get2_mut(key.index(), rest.index());
        let (client, remainder) = both.expect("both are here, and not the same");
        (&mut client.mail, &mut remainder.mail)
    }

    /// A tab has the connection of this stranger, who is gone, and his address.
    pub(crate) fn come_back(
        &mut self,
        key: ClientKey,
        stranger: ClientId,
        expires: Tick,
        now: Now,
    ) -> &mut Mailbox {
        self.turn_away(stranger.key, Then::End, now);
        self.forget_away(key);
        self.clients[key.index()].come_back(now.tick(), expires);
        self.cold[key.index()] = self.cold[stranger.key.index()];
        self.listeners[self.cold[key.index()].place()].clients += 1;
        self.counts.open += 1;
        self.away.moves.push_back((stranger.key, key));
        self.arm(key);
        &mut self.clients[key.index()].mail
    }

    /// A tab that is away does not come back.
    pub(crate) fn give_up(&mut self, key: ClientKey, now: Now) -> &mut Mailbox {
        self.forget_away(key);
        self.tokens.remove(key);
        self.names.leave_all(key);
        self.counts.closing += 1;
        self.change(key, Then::End, now)
    }

    fn forget_away(&mut self, key: ClientKey) {
        let State::Away { since, .. } = *self.clients[key.index()].state() else {
            unreachable!("it is away");
        };
        self.away.by_time.remove(&(since, key));
        self.counts.away -= 1;
    }

    #[inline]
    pub(crate) fn has_moves(&self) -> bool {
        !self.away.moves.is_empty()
    }

    /// The next connection that belongs to another key: from, to.
    pub(crate) fn next_move(&mut self) -> Option<(ClientKey, ClientKey)> {
        self.away.moves.pop_front()
    }

    /// The deadline of an open client has come, or there is one less.
    pub(crate) fn rearm(&mut self, key: ClientKey) {
        self.arm(key);
    }

    /// A deadline of an open client may be earlier than before.
    pub(crate) fn arm_again(&mut self, key: ClientKey) {
        if let Some(ms) = self.get(key).and_then(|client| client.mail.unconfirmed_ms()) {
            self.wheel.arm_by(key, ms);
        }
    }

    /// The tabs that are away, for the audit.
    pub(super) fn audit_away(&self) -> Result<(), String> {
        let since = |(key, client): (ClientKey, &Client)| match client.state() {
            State::Away { since, .. } => Some((*since, key)),
            _ => None,
        };
        let found: BTreeSet<_> = self.iter().filter_map(since).collect();
        match found == self.away.by_time && found.len() == self.counts.away && !self.has_moves() {
            true => Ok(()),
            false => Err(format!("{found:?} are away, not {:?} ({})", self.away, self.counts.away)),
        }
    }
}
