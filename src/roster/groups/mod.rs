//! Connections under a name: those in a group, and those of a user, which are a group of another space of names.
//!
//! A name is stored once and found by a keyed hash. Its members lie together, so that a write to them walks through
//! one piece of memory. A membership is in two places, each of which has the place of the other: among the members of
//! the name, and in the chain of the connection. So joining, leaving and the end of a connection cost a step for each
//! name of the connection, however many others are under it. It never sees a connection, and it checks no grammar.
//!
//! Invariant: a name is here if and only if it has a member; a connection is in a group once; its user, if it has one,
//! is the first in its chain. A membership takes 20 bytes, and a connection 4 as soon as one of a higher key is in a group.
//! design: COMMANDS.md "Addresses", performance.md, threats.md rows 22 and 32.

mod listed;
mod members;
#[cfg(test)]
mod tests;

pub(crate) use listed::Listed;
pub(crate) use members::Member;

use super::index::SPARSE;
use crate::key::{ClientKey, Key};
use foldhash::quality::FixedState;
use hashbrown::HashTable;
use members::{Members, grow};
use slab::Slab;
use std::hash::{BuildHasher, Hasher, RandomState};

const NIL: u32 = u32::MAX;

/// The two spaces of names. A user and a group of the same name have nothing to do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    Group,
    User,
}

/// How many groups there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// `limits.groups`.
    pub(crate) groups: usize,
    /// `limits.groups_per_connection`.
    pub(crate) groups_per_connection: usize,
}

/// The bound that is in the way of joining.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooMany {
    Groups,
    GroupsOfConnection,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Groups {
    names: Slab<Name>,
    by_name: HashTable<u32>,
    /// The first membership of each connection, by its key.
    chains: Vec<u32>,
    memberships: Memberships,
    groups: usize,
    hasher: FixedState,
    #[cfg(test)]
    steps: usize,
}

#[derive(Debug)]
struct Name {
    text: Text,
    members: Members,
}

/// A name with its space. Short ones, which most are, need no memory of their own.
#[derive(Debug)]
enum Text {
    Short { space: Space, len: u8, bytes: [u8; SHORT_BYTES_MAX] },
    Long { space: Space, bytes: Box<[u8]> },
}

/// Boxed, so that a text takes no more than the pointer to a long one needs.
const SHORT_BYTES_MAX: usize = 21;

/// One connection under one name.
#[derive(Clone, Copy, Debug)]
struct Membership {
    name: u32,
    /// Among the members of the name.
    place: u32,
    /// The next one of the same connection; of a free one, the next free one.
    next: u32,
}

// endpoint.md and performance.md promise this: 24 bytes a membership.
const _: () = assert!(size_of::<Membership>() + size_of::<Member>() <= 20);
const _: () = assert!(size_of::<Option<Name>>() <= 48);

impl Groups {
    /// Groups without a member. The hash is keyed from `key`, so that no client can choose names that collide.
    pub(crate) fn new(key: &RandomState) -> Self {
        Self {
            names: Slab::new(),
            by_name: HashTable::new(),
            chains: Vec::new(),
            memberships: Memberships::default(),
            groups: 0,
            hasher: FixedState::with_seed(key.hash_one("names")),
            #[cfg(test)]
            steps: 0,
        }
    }

    /// Puts a connection into a group. Whether it was not in it before; joining twice is joining once.
    ///
    /// # Errors
    /// The bound that is in the way; nothing has changed then.
    pub(crate) fn join(&mut self, key: ClientKey, group: &str, bounds: Bounds) -> Result<bool, TooMany> {
        let found = self.find(Space::Group, group);
        let mut groups = 0;
        for membership in self.chain(key) {
            if Some(membership.name) == found {
                return Ok(false);
            }
            groups += usize::from(self.space(membership.name) == Space::Group);
        }
        if groups >= bounds.groups_per_connection {
            return Err(TooMany::GroupsOfConnection);
        }
        if found.is_none() && self.groups >= bounds.groups {
            return Err(TooMany::Groups);
        }
        self.enter(key, Space::Group, group);
        Ok(true)
    }

    /// Takes a connection out of a group. Whether it was in it.
    pub(crate) fn leave(&mut self, key: ClientKey, group: &str) -> bool {
        let Some(name) = self.find(Space::Group, group) else { return false };
        let mut before = NIL;
        let mut at = self.first(key);
        while at != NIL {
            let Membership { name: of, next, .. } = *self.memberships.get(at);
            if of == name {
                match before {
                    NIL => self.chains[key.index()] = next,
                    before => self.memberships.get_mut(before).next = next,
                }
                self.give_up(at);
                return true;
            }
            (before, at) = (at, next);
        }
        false
    }

    /// Says which user a connection belongs to. Once, until [`leave_all`](Self::leave_all).
    pub(crate) fn set_user(&mut self, key: ClientKey, user: &str) {
        debug_assert!(self.user(key).is_none(), "a login names one user");
        self.enter(key, Space::User, user);
    }

    /// Takes a connection out of all its groups and from its user.
    pub(crate) fn leave_all(&mut self, key: ClientKey) {
        let mut at = self.first(key);
        if at == NIL {
            return;
        }
        self.chains[key.index()] = NIL;
        while at != NIL {
            let next = self.memberships.get(at).next;
            self.give_up(at);
            at = next;
        }
    }

    // Members and numbers.

    /// The connections under a name, in no order: a change to any of them may move the others.
    #[inline]
    pub(crate) fn members(&self, space: Space, name: &str) -> &[Member] {
        match self.find(space, name) {
            Some(name) => self.names[name as usize].members.as_slice(),
            None => &[],
        }
    }

    /// Whether a connection is under a name.
    #[cfg(test)]
    pub(crate) fn is_member(&self, key: ClientKey, space: Space, name: &str) -> bool {
        let Some(name) = self.find(space, name) else { return false };
        self.chain(key).any(|membership| membership.name == name)
    }

    /// The user of a connection.
    #[inline]
    pub(crate) fn user(&self, key: ClientKey) -> Option<&str> {
        self.user_number(key).map(|name| self.text(name))
    }

    /// The number of a connection's user, which the user has as long as one of its connections is here.
    #[inline]
    pub(crate) fn user_number(&self, key: ClientKey) -> Option<u32> {
        let first = self.chain(key).next()?;
        (self.space(first.name) == Space::User).then_some(first.name)
    }

    /// The groups of a connection, newest first.
    pub(crate) fn groups_of(&self, key: ClientKey) -> impl Iterator<Item = &str> {
        let names = self.chain(key).map(|membership| membership.name);
        names.filter(|name| self.space(*name) == Space::Group).map(|name| self.text(name))
    }

    /// Names with a member.
    pub(crate) fn count(&self, space: Space) -> usize {
        match space {
            Space::Group => self.groups,
            Space::User => self.names.len() - self.groups,
        }
    }

    /// The users whose number is higher than this one, in the order of their numbers: number, name, connections.
    pub(crate) fn users_after(&self, number: Option<u32>) -> impl Iterator<Item = (u32, &str, usize)> {
        let from = number.map_or(0, |number| number as usize + 1);
        let end = self.names.iter().next_back().map_or(0, |(name, _)| name + 1);
        (from..end).filter_map(|at| {
            let name = self.names.get(at).filter(|name| name.text.space() == Space::User)?;
            Some((at as u32, name.text.as_str(), name.members.as_slice().len()))
        })
    }

    /// The groups with most members, the largest first, those of one size by name; at most this many.
    pub(crate) fn largest(&self, max: usize) -> Vec<(&str, usize)> {
        let mut largest: Vec<(&str, usize)> = Vec::with_capacity(max + 1);
        let groups = self.names.iter().filter(|(_, name)| name.text.space() == Space::Group);
        for (_, name) in groups {
            let group = (name.text.as_str(), name.members.as_slice().len());
            let place = largest.partition_point(|(text, len)| (*len, group.0) > (group.1, *text));
            if place < max {
                largest.insert(place, group);
                largest.truncate(max);
            }
        }
        largest
    }

    /// Gives back memory that many members have left. No connection with this key or a higher one is in a group.
    pub(crate) fn shrink(&mut self, keys: usize) {
        self.chains.truncate(keys);
        let used = self.chains.iter().rposition(|first| *first != NIL).map_or(0, |last| last + 1);
        self.chains.truncate(used);
        self.chains.shrink_to_fit();
        self.tidy(0);
    }

    /// Gives back the memory of names and memberships that have ended, where there was room for more than `min` of them. A
    /// few connections may have been in very many groups, so this does not depend on how many there were.
    pub(crate) fn tidy(&mut self, min: usize) {
        let Self { names, by_name, hasher, .. } = self;
        if names.capacity() > min && names.len() <= names.capacity() / SPARSE {
            names.shrink_to_fit();
        }
        if by_name.capacity() > min && by_name.len() <= by_name.capacity() / SPARSE {
            by_name.shrink_to_fit(|name| names[*name as usize].text.hash(hasher));
        }
        if self.memberships.table.capacity() > min && self.memberships.is_sparse() {
            self.pack();
        }
    }

    /// Puts the memberships close together again, those of a connection side by side.
    fn pack(&mut self) {
        let mut packed = Memberships::with_capacity(self.memberships.len);
        for first in &mut self.chains {
            let mut at = *first;
            if at != NIL {
                *first = packed.len as u32;
            }
            while at != NIL {
                let Membership { name, place, next } = *self.memberships.get(at);
                let behind = if next == NIL { NIL } else { packed.len as u32 + 1 };
                let membership = packed.take(Membership { name, place, next: behind });
                self.names[name as usize].members.as_mut_slice()[place as usize].membership = membership;
                at = next;
            }
        }
        self.memberships = packed;
    }

    // Chains and names.

    #[inline]
    fn first(&self, key: ClientKey) -> u32 {
        self.chains.get(key.index()).copied().unwrap_or(NIL)
    }

    #[inline]
    fn chain(&self, key: ClientKey) -> impl Iterator<Item = Membership> {
        let get = |at: u32| (at != NIL).then(|| *self.memberships.get(at));
        std::iter::successors(get(self.first(key)), move |membership| get(membership.next))
    }

    #[inline]
    fn find(&self, space: Space, name: &str) -> Option<u32> {
        let same = |at: &u32| self.names[*at as usize].text.is(space, name);
        self.by_name.find(hash_of(&self.hasher, space, name.as_bytes()), same).copied()
    }

    fn space(&self, name: u32) -> Space {
        self.names[name as usize].text.space()
    }

    fn text(&self, name: u32) -> &str {
        self.names[name as usize].text.as_str()
    }

    /// A membership in its two places. The user goes to the head of the chain, a group behind it.
    fn enter(&mut self, key: ClientKey, space: Space, text: &str) {
        self.enter_under(key, space, text, self.find(space, text));
    }

    /// The same, with the number of the name if it has one; returns that which it has then.
    fn enter_under(&mut self, key: ClientKey, space: Space, text: &str, found: Option<u32>) -> u32 {
        if self.chains.len() <= key.index() {
            self.chains.resize(key.index() + 1, NIL);
        }
        let user = (space == Space::Group).then(|| self.user_number(key)).flatten();
        let head = self.chains[key.index()];
        let next = if user.is_some() { self.memberships.get(head).next } else { head };
        let membership = self.memberships.take(Membership { name: NIL, place: 0, next });
        if user.is_some() {
            self.memberships.get_mut(head).next = membership;
        } else {
            self.chains[key.index()] = membership;
        }
        let member = Member { key, membership };
        let (name, place) = match found {
            Some(name) => (name, self.names[name as usize].members.push(member)),
            None => (self.add_name(space, text, member), 0),
        };
        let entry = self.memberships.get_mut(membership);
        (entry.name, entry.place) = (name, place);
        name
    }

    fn add_name(&mut self, space: Space, text: &str, first: Member) -> u32 {
        let name = self.names.insert(Name { text: Text::new(space, text), members: Members::One([first]) });
        self.groups += usize::from(space == Space::Group);
        let Self { names, by_name, hasher, .. } = self;
        let hash = hash_of(hasher, space, text.as_bytes());
        by_name.insert_unique(hash, name as u32, |other| names[*other as usize].text.hash(hasher));
        name as u32
    }

    /// Takes a membership that is in no chain any more from the members; the name goes with its last one.
    fn give_up(&mut self, at: u32) {
        let Membership { name, place, .. } = self.memberships.give_back(at);
        let members = &mut self.names[name as usize].members;
        if members.as_slice().len() == 1 {
            self.remove_name(name);
            return;
        }
        let _moved = members.swap_remove(place as usize);
        if let Some(member) = members.as_slice().get(place as usize) {
            self.memberships.get_mut(member.membership).place = place;
        }
        #[cfg(test)]
        {
            self.steps += 1 + _moved;
        }
    }

    fn remove_name(&mut self, name: u32) {
        let Self { names, by_name, hasher, groups, .. } = self;
        let text = names.remove(name as usize).text;
        *groups -= usize::from(text.space() == Space::Group);
        let entry = by_name.find_entry(text.hash(hasher), |other| *other == name);
        entry.expect("a name with members is in the table").remove();
    }
}

/// All memberships of all connections. Free places form a chain of their own.
#[derive(Debug)]
struct Memberships {
    table: Vec<Membership>,
    free: u32,
    len: usize,
}

impl Default for Memberships {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl Memberships {
    fn with_capacity(capacity: usize) -> Self {
        Self { table: Vec::with_capacity(capacity), free: NIL, len: 0 }
    }

    #[inline]
    fn get(&self, at: u32) -> &Membership {
        &self.table[at as usize]
    }

    fn get_mut(&mut self, at: u32) -> &mut Membership {
        &mut self.table[at as usize]
    }

    fn take(&mut self, membership: Membership) -> u32 {
        self.len += 1;
        if self.free != NIL {
            let at = self.free;
            self.free = std::mem::replace(self.get_mut(at), membership).next;
            return at;
        }
        let at = self.table.len() as u32;
        assert!(at < NIL, "limits.clients times limits.groups_per_connection stays below 2^32");
        grow(&mut self.table);
        self.table.push(membership);
        at
    }

    fn give_back(&mut self, at: u32) -> Membership {
        self.len -= 1;
        let free = self.free;
        let was = *self.get(at);
        self.get_mut(at).next = free;
        self.free = at;
        was
    }

    fn is_sparse(&self) -> bool {
        self.len < self.table.capacity() / SPARSE
    }
}

impl Text {
    fn new(space: Space, text: &str) -> Self {
        let text = text.as_bytes();
        if text.len() > SHORT_BYTES_MAX {
            return Self::Long { space, bytes: text.into() };
        }
        let mut bytes = [0; SHORT_BYTES_MAX];
        bytes[..text.len()].copy_from_slice(text);
        Self::Short { space, len: text.len() as u8, bytes }
    }

    #[inline]
    fn space(&self) -> Space {
        match self {
            Self::Short { space, .. } | Self::Long { space, .. } => *space,
        }
    }

    #[inline]
    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes, .. } => &bytes[..usize::from(*len)],
            Self::Long { bytes, .. } => bytes,
        }
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("it was made of text")
    }

    #[inline]
    fn is(&self, space: Space, text: &str) -> bool {
        self.space() == space && self.as_bytes() == text.as_bytes()
    }

    fn hash(&self, hasher: &FixedState) -> u64 {
        hash_of(hasher, self.space(), self.as_bytes())
    }
}

#[inline]
fn hash_of(hasher: &FixedState, space: Space, text: &[u8]) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write_u8(space as u8);
    hasher.write(text);
    hasher.finish()
}

/// Recounts, for the tests and the audit.
impl Groups {
    /// The connections that are in a group or have a user.
    pub(crate) fn audit_keys(&self) -> impl Iterator<Item = ClientKey> {
        let chains = self.chains.iter().enumerate().filter(|(_, first)| **first != NIL);
        chains.map(|(key, _)| ClientKey::at(key))
    }

    /// Recounts everything.
    ///
    /// # Errors
    /// The first thing that does not add up.
    pub(crate) fn audit(&self) -> Result<(), String> {
        let check = |holds: bool, sentence: &str| if holds { Ok(()) } else { Err(sentence.to_owned()) };
        let groups = self.names.iter().filter(|(_, name)| name.text.space() == Space::Group).count();
        check(groups == self.groups, "the number of groups is wrong")?;
        check(self.by_name.len() == self.names.len(), "the table has other names than there are")?;
        let mut members = 0;
        for (at, Name { text, members: of_name }) in &self.names {
            check(self.find(text.space(), text.as_str()) == Some(at as u32), "a name is not found")?;
            check(!of_name.as_slice().is_empty(), "a name has no members")?;
            members += of_name.as_slice().len();
            for (place, member) in of_name.as_slice().iter().enumerate() {
                let entry = self.memberships.get(member.membership);
                let back = (entry.name as usize, entry.place as usize);
                check(back == (at, place), "a member's membership is that of another")?;
                let times = self.chain(member.key).filter(|other| other.name as usize == at).count();
                check(times == 1, "a member has the name not once in its chain")?;
            }
        }
        let mut chained = 0;
        for key in (0..self.chains.len()).map(ClientKey::at) {
            let spaces: Vec<Space> = self.chain(key).map(|entry| self.space(entry.name)).collect();
            chained += spaces.len();
            let behind = spaces.get(1..).unwrap_or_default();
            check(!behind.contains(&Space::User), "a user is not the first in its chain")?;
        }
        let count = (members, chained);
        check(count == (self.memberships.len, self.memberships.len), "the number of memberships is wrong")?;
        let free = std::iter::successors(Some(self.memberships.free), |at| {
            (*at != NIL).then(|| self.memberships.get(*at).next)
        });
        let free = free.take_while(|at| *at != NIL).take(self.memberships.table.len() + 1).count();
        check(free + chained == self.memberships.table.len(), "a membership is neither used nor free")
    }
}
