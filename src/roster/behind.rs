//! From addresses to the open clients behind them, each once.
//!
//! It changes nothing and never delivers. Invariant: what it names is open, and a [`Selection`] has no key twice.

use super::{Index, Roster};
use crate::key::{ClientKey, Key};
use crate::peer::client::{Client, ClientId};
use crate::wire::command::{Address, Addresses, Here, Item, Who};
use std::collections::BTreeMap;

/// Names in one answer to `h`.
const NAMES_MAX: usize = 1000;
/// A selection gives its memory back beyond this many keys: one message to everybody must not stay for ever.
const KEYS_KEPT: usize = 1024;

/// Clients that a list of addresses names, in the order in which they were found.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    keys: Vec<ClientKey>,
    /// A bit for each key, set when it is in `keys` or excepted.
    seen: Vec<u64>,
}

impl Selection {
    pub(crate) fn keys(&self) -> &[ClientKey] {
        &self.keys
    }

    fn mark(&mut self, key: ClientKey) -> bool {
        let (word, bit) = (key.index() / 64, 1 << (key.index() % 64));
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        let is_new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        is_new
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.seen.fill(0);
        if self.keys.capacity() > KEYS_KEPT {
            *self = Self::default();
        }
    }
}

impl Roster {
    /// Calls `each` for every open client behind an address, once.
    fn each_behind(&self, address: Address<'_>, mut each: impl FnMut(ClientKey)) {
        match address {
            Address::All => {
                self.iter().filter(|(_, client)| client.accepts_data()).for_each(|(key, _)| each(key));
            }
            Address::Token(token) => self.tokens.of(token).for_each(each),
            Address::User(user) => {
                self.users.iter().flat_map(|users| users.of(user.as_bytes())).for_each(each);
            }
            Address::Group(_) => {}
            Address::Connection(name) => {
                let id = ClientId::parse(name).filter(|id| self.find(*id).is_some_and(Client::accepts_data));
                id.iter().for_each(|id| each(id.key));
            }
        }
    }

    /// How many open clients are behind an address.
    pub(crate) fn count_behind(&self, address: Address<'_>) -> usize {
        let mut count = 0;
        match address {
            Address::All => count = self.counts.open,
            _ => self.each_behind(address, |_| count += 1),
        }
        count
    }

    /// Puts the clients that a list names into an empty selection, each once, without those that it excepts. `absent` gets
    /// the items that name nobody.
    pub(crate) fn select<'a>(
        &self,
        list: &Addresses<'a>,
        into: &mut Selection,
        mut absent: impl FnMut(Item<'a>),
    ) {
        into.clear();
        let single = list.len() == 1;
        for item in list.iter().filter(|item| item.except) {
            self.each_behind(item.address, |key| {
                into.mark(key);
            });
        }
        for item in list.iter().filter(|item| !item.except) {
            let mut is_somebody = false;
            self.each_behind(item.address, |key| {
                is_somebody = true;
                if single || into.mark(key) {
                    into.keys.push(key);
                }
            });
            if !is_somebody {
                absent(item);
            }
        }
    }

    /// The users, or the tokens where there are no users, of the open clients behind an address: those whose names come
    /// behind `after`, in the order of their bytes, at most [`NAMES_MAX`]. And how many clients were looked at.
    pub(crate) fn names_behind(&self, address: Address<'_>, after: &str) -> (Here, usize) {
        let (kind, names) = match &self.users {
            Some(users) => (Who::Users, users),
            None => (Who::Tokens, &self.tokens),
        };
        let (mut found, mut looked_at) = (BTreeMap::new(), 0);
        self.each_behind(address, |key| {
            looked_at += 1;
            note_name(&mut found, names, key, after.as_bytes());
        });
        let more = found.len() > NAMES_MAX;
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let names: Vec<(String, usize)> =
            found.into_iter().take(NAMES_MAX).map(|(name, count)| (text(name), count)).collect();
        let cursor = names.last().filter(|_| more).map(|(name, _)| name.clone());
        (Here { kind, names, cursor }, looked_at)
    }
}

/// Counts a client under its name. Of the names behind `after` the first ones stay, one more than an answer has.
fn note_name<'r>(found: &mut BTreeMap<&'r [u8], usize>, names: &'r Index, key: ClientKey, after: &[u8]) {
    let name = names.name(key);
    if name <= after {
        return;
    }
    *found.entry(name).or_default() += 1;
    if found.len() > NAMES_MAX + 1 {
        found.pop_last();
    }
}
