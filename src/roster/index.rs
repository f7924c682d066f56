//! From a token to the open clients that carry it.
//!
//! Each name is stored once, in a table of fixed stride that the client's key indexes; the hash table
//! holds four bytes per name and hashes through that table. Clients of one name form a chain. It never
//! looks at a client that is not open. Invariant: a key is in the chain of its name if and only if it was
//! inserted and not removed.

use crate::key::{ClientKey, Key};
use foldhash::quality::FixedState;
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hasher, RandomState};

const NIL: u32 = u32::MAX;
/// A table is sparse when this many times its entries would fit: a shrunk one does not grow again at once.
pub(crate) const SPARSE: usize = 4;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Index {
    stride: usize,
    names: Vec<u8>,
    next: Vec<u32>,
    first: HashTable<u32>,
    hasher: FixedState,
}

impl Index {
    /// `stride`: length of the longest name in bytes. Shorter ones are padded with NUL, which no name
    /// contains. The hash is keyed from `key`, so that no client can choose tokens that collide. It costs a fifth of
    /// SipHash, which was a fifth of a direct message; no hash is ever shown.
    pub(crate) fn new(stride: usize, key: &RandomState) -> Self {
        let hasher = FixedState::with_seed(key.hash_one("tokens"));
        Self { stride, names: Vec::new(), next: Vec::new(), first: HashTable::new(), hasher }
    }

    pub(crate) fn insert(&mut self, key: ClientKey, name: &[u8]) {
        assert!(name.len() <= self.stride, "the grammar of cookies bounds every name");
        let key = key.index() as u32;
        self.store(key, name);
        self.link(key);
    }

    fn link(&mut self, key: u32) {
        let Self { stride, names, next, first, hasher } = self;
        let name = slot(names, *stride, key);
        let hash = hash_of(hasher, name);
        let same = |other: &u32| slot(names, *stride, *other) == name;
        match first.find_mut(hash, same) {
            Some(head) => {
                next[key as usize] = *head;
                *head = key;
            }
            None => {
                first.insert_unique(hash, key, |other| hash_of(hasher, slot(names, *stride, *other)));
            }
        }
    }

    pub(crate) fn remove(&mut self, key: ClientKey) {
        let key = key.index() as u32;
        let Self { stride, names, next, first, hasher } = self;
        let name = slot(names, *stride, key);
        let same = |other: &u32| slot(names, *stride, *other) == name;
        let entry = first.find_entry(hash_of(hasher, name), same);
        let mut entry = entry.expect("only an inserted key is removed");
        let after = std::mem::replace(&mut next[key as usize], NIL);
        let mut at = *entry.get();
        if at == key {
            match after {
                NIL => drop(entry.remove()),
                head => *entry.get_mut() = head,
            }
            return;
        }
        while next[at as usize] != key {
            at = next[at as usize];
        }
        next[at as usize] = after;
    }

    /// Gives back the memory of the keys from `keys` on, none of which is inserted, and of a hash table that
    /// is too large by far.
    pub(crate) fn shrink(&mut self, keys: usize) {
        self.names.truncate(keys * self.stride);
        self.names.shrink_to_fit();
        self.next.truncate(keys);
        self.next.shrink_to_fit();
        if self.first.len() < self.first.capacity() / SPARSE {
            // One key of each name: the chains behind them stay as they are.
            let room = HashTable::with_capacity(self.first.len());
            std::mem::replace(&mut self.first, room).into_iter().for_each(|key| self.link(key));
        }
    }

    /// Longest name it takes.
    pub(crate) fn name_bytes_max(&self) -> usize {
        self.stride
    }

    /// The clients of `name`, newest first.
    pub(crate) fn of(&self, name: &[u8]) -> impl Iterator<Item = ClientKey> + '_ {
        std::iter::successors(self.first(name), |key| self.after(*key))
    }

    /// The newest client of `name`, the start of its chain.
    #[inline]
    pub(crate) fn first(&self, name: &[u8]) -> Option<ClientKey> {
        match name.len() {
            len if len == self.stride => self.first_of_slot(name),
            len if len > self.stride => None,
            _ => self.first_padded(name),
        }
    }

    /// The same for a name that is shorter than others may be. Out of line, as the room for it costs those that are not.
    #[inline(never)]
    fn first_padded(&self, name: &[u8]) -> Option<ClientKey> {
        let mut padded = [0; NAME_BYTES_MAX];
        padded[..name.len()].copy_from_slice(name);
        self.first_of_slot(&padded[..self.stride])
    }

    #[inline(always)]
    fn first_of_slot(&self, name: &[u8]) -> Option<ClientKey> {
        let same = |key: &u32| slot(&self.names, self.stride, *key) == name;
        self.first.find(hash_of(&self.hasher, name), same).map(|key| ClientKey::at(*key as usize))
    }

    /// The next client of the same name.
    pub(crate) fn after(&self, key: ClientKey) -> Option<ClientKey> {
        Some(self.next[key.index()]).filter(|next| *next != NIL).map(|key| ClientKey::at(key as usize))
    }

    /// The name a key was inserted with, without its padding.
    pub(crate) fn name(&self, key: ClientKey) -> &[u8] {
        let padded = slot(&self.names, self.stride, key.index() as u32);
        // Nearly always: every name has the same length.
        if padded.last().is_some_and(|byte| *byte != 0) {
            return padded;
        }
        let len = padded.iter().position(|byte| *byte == 0).unwrap_or(padded.len());
        &padded[..len]
    }

    /// Every inserted key, for the audit.
    pub(crate) fn keys(&self) -> impl Iterator<Item = ClientKey> + '_ {
        let chain =
            |head: &u32| std::iter::successors(Some(ClientKey::at(*head as usize)), |key| self.after(*key));
        self.first.iter().flat_map(chain)
    }

    /// Distinct names.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.first.len()
    }

    fn store(&mut self, key: u32, name: &[u8]) {
        let start = key as usize * self.stride;
        if self.names.len() < start + self.stride {
            self.names.resize(start + self.stride, 0);
            self.next.resize(key as usize + 1, NIL);
        }
        self.names[start..start + name.len()].copy_from_slice(name);
        self.names[start + name.len()..start + self.stride].fill(0);
    }
}

/// Longest name of any index: a token of 128 characters (config).
pub(crate) const NAME_BYTES_MAX: usize = 128;

/// Without the length that `hash_one` puts before a slice: all names of an index have the same.
#[inline(always)]
fn hash_of(hasher: &FixedState, name: &[u8]) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write(name);
    hasher.finish()
}

fn slot(names: &[u8], stride: usize, key: u32) -> &[u8] {
    &names[key as usize * stride..][..stride]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn at(key: u32) -> ClientKey {
        ClientKey::at(key as usize)
    }

    fn of(index: &Index, name: &[u8]) -> Vec<u32> {
        index.of(name).map(|key| key.index() as u32).collect()
    }

    #[test]
    fn shrinking_loses_nobody() {
        let mut index = Index::new(8, &RandomState::new());
        let name = |key: u32| format!("n{}", key / 2); // chains of two
        for key in 0..1000 {
            index.insert(at(key), name(key).as_bytes());
        }
        for key in 10..1000 {
            index.remove(at(key));
        }
        index.shrink(10);
        assert!(index.names.capacity() <= 80 && index.next.capacity() <= 10 && index.first.capacity() < 20);
        assert_eq!(index.len(), 5);
        index.insert(at(700), b"n3");
        assert_eq!(of(&index, b"n3"), [700, 7, 6]);
        assert_eq!(of(&index, b"n4"), [9, 8]);
    }

    proptest! {
        /// Against a map from key to name.
        #[test]
        fn chains_are_the_inserted_keys(steps in proptest::collection::vec((0..12u32, 0..5u8), 1..100)) {
            let mut index = Index::new(8, &RandomState::new());
            let mut model: BTreeMap<u32, String> = BTreeMap::new();
            for (key, name) in steps {
                if model.remove(&key).is_some() {
                    index.remove(at(key));
                } else {
                    let name = format!("n{name}").repeat(1 + usize::from(name) % 4);
                    index.insert(at(key), name.as_bytes());
                    prop_assert_eq!(index.name(at(key)), name.as_bytes());
                    model.insert(key, name);
                }
                let names: std::collections::BTreeSet<&String> = model.values().collect();
                prop_assert_eq!(index.len(), names.len());
                for name in names {
                    let mut found = of(&index, name.as_bytes());
                    found.sort_unstable();
                    let expected: Vec<u32> =
                        model.iter().filter(|(_, n)| *n == name).map(|(key, _)| *key).collect();
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }
}
