//! Lists of addresses: a write, a kick, a group that is joined or left, for the connections that a list names.
//!
//! It never parses a list (`wire::command` does). Invariant: a connection gets a write once, however many items name it,
//! and a write is encoded once.

use super::{Hub, Leave};
use crate::key::ClientKey;
use crate::peer::client::{Client, ClientId};
use crate::roster::{Address, Bounds, Here, Sign, Space, TooMany};
use crate::wire::command::Groups;
use crate::wire::frame::{CloseCode, Kind};
use std::fmt;

/// The outcome of a write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// Connections that took the message; of an empty message, those that would.
    pub connections: usize,
    /// Tabs that will get it when they come back.
    pub away: usize,
    /// Connections that could not take it.
    pub refused: usize,
    /// Places in the list of the addresses that named no connection.
    pub absent: Vec<usize>,
}

/// Why a connection did not join a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupError {
    /// The connection is not open.
    Gone,
    /// Not a name of a group (COMMANDS.md).
    Name,
    /// There are `limits.groups` already.
    TooMany,
    /// The connection is in `limits.groups_per_connection` already.
    TooManyOfConnection,
}

impl fmt::Display for GroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "the connection is not open",
            Self::Name => "this is not a name of a group",
            Self::TooMany => "there are as many groups as limits.groups allows",
            Self::TooManyOfConnection => {
                "the connection is in as many groups as limits.groups_per_connection allows"
            }
        })
    }
}

impl std::error::Error for GroupError {}

impl From<TooMany> for GroupError {
    fn from(bound: TooMany) -> Self {
        match bound {
            TooMany::Groups => Self::TooMany,
            TooMany::GroupsOfConnection => Self::TooManyOfConnection,
        }
    }
}

// For applications.
impl Hub {
    /// Queues a message for every connection that one of the addresses names, once for each.
    pub fn send(&mut self, to: &[Address<'_>], kind: Kind, message: &[u8]) -> Reached {
        self.write(with(to), kind, message)
    }

    /// The open connections that an address names.
    pub fn members(&self, address: Address<'_>) -> Vec<ClientId> {
        let mut members = Vec::new();
        self.roster().each(address, |key| members.extend(self.client_id(key)));
        members
    }

    /// Puts a connection into a group. Whether it was not in it before: joining twice is joining once.
    ///
    /// # Errors
    /// When the connection is not open, the name is none, or a limit is in the way.
    pub fn join(&mut self, id: ClientId, group: &str) -> Result<bool, GroupError> {
        Groups::parse(group.as_bytes(), 1).map_err(|_| GroupError::Name)?;
        let bounds = self.bounds();
        let mut settled = self.settled();
        if !settled.is_open(id) {
            return Err(GroupError::Gone);
        }
        Ok(settled.join(id.key, group, bounds)?)
    }

    /// Takes a connection out of a group. Whether it was in it.
    pub fn leave(&mut self, id: ClientId, group: &str) -> bool {
        let mut settled = self.settled();
        settled.is_open(id) && settled.leave_group(id.key, group)
    }

    /// The groups of an open connection.
    pub fn groups_of(&self, id: ClientId) -> impl Iterator<Item = &str> {
        self.roster().groups_of(id)
    }

    /// Closes every connection that one of the addresses names with 4001 and this reason; returns how many.
    pub fn kick(&mut self, who: &[Address<'_>], reason: &str) -> usize {
        self.kick_all(with(who), reason)
    }
}

fn with<'a>(addresses: &'a [Address<'a>]) -> impl Iterator<Item = (Sign, Address<'a>)> + Clone {
    addresses.iter().map(|address| (Sign::With, *address))
}

/// Longest reason in a close frame (RFC 6455 section 5.5: 125 bytes less the code).
const REASON_BYTES_MAX: usize = 123;

// For the commands.
impl Hub {
    /// Queues a message for every connection that a list names. An empty message is only counted.
    pub(crate) fn write<'a>(
        &mut self,
        items: impl Iterator<Item = (Sign, Address<'a>)> + Clone,
        kind: Kind,
        message: &[u8],
    ) -> Reached {
        let mut only = items.clone();
        match (only.next(), only.next()) {
            (Some((Sign::With, Address::All)), None) => return self.write_to_all(kind, message),
            (Some((Sign::With, Address::Group(name))), None) => {
                return self.write_to_name(Space::Group, name, kind, message);
            }
            (Some((Sign::With, Address::User(name))), None) => {
                return self.write_to_name(Space::User, name, kind, message);
            }
            _ => {}
        }
        self.stats.directs += 1;
        let (keys, absent) = self.select(items);
        let selected = keys.len();
        let connections = if message.is_empty() {
            selected
        } else {
            self.settled().deliver_to(&keys, kind.opcode(), message)
        };
        let away = self.away_of(&keys);
        self.floor.give_back(keys);
        Reached { connections: connections - away, away, refused: selected - connections, absent }
    }

    /// How many of these are tabs that are away; those that were, and could not take a message, are gone.
    pub(super) fn away_of(&self, keys: &[ClientKey]) -> usize {
        match self.roster().counts().away {
            0 => 0,
            _ => self.away_among(keys.iter().copied()),
        }
    }

    fn away_among(&self, keys: impl Iterator<Item = ClientKey>) -> usize {
        keys.filter(|key| self.roster().get(*key).is_some_and(Client::is_away)).count()
    }

    fn write_to_all(&mut self, kind: Kind, message: &[u8]) -> Reached {
        let connections =
            if message.is_empty() { self.clients() } else { self.broadcast_here(kind, message) };
        let away = self.roster().counts().away;
        let absent = if connections + away == 0 { vec![0] } else { Vec::new() };
        Reached { connections, away, refused: 0, absent }
    }

    /// A name alone needs no selection, and a group may be large.
    fn write_to_name(&mut self, space: Space, name: &str, kind: Kind, message: &[u8]) -> Reached {
        self.stats.directs += 1;
        let mut settled = self.settled();
        let named = settled.members(space, name);
        let connections = match message {
            [] => named,
            _ => settled.deliver_to_name(space, name, kind.opcode(), message),
        };
        let absent = if named == 0 { vec![0] } else { Vec::new() };
        let away = match self.roster().counts().away {
            0 => 0,
            _ => self.away_among(self.roster().members(space, name).iter().map(|member| member.key)),
        };
        Reached { connections: connections - away, away, refused: named - connections, absent }
    }

    /// Closes every connection that a list names; returns how many.
    pub(crate) fn kick_all<'a>(
        &mut self,
        items: impl Iterator<Item = (Sign, Address<'a>)> + Clone,
        reason: &str,
    ) -> usize {
        let mut end = reason.len().min(REASON_BYTES_MAX);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let (keys, _) = self.select(items);
        let mut settled = self.settled();
        for key in &keys {
            settled.leave(*key, Leave::Closing(CloseCode::LOGGED_OUT, &reason[..end]));
        }
        let count = keys.len();
        self.floor.give_back(keys);
        count
    }

    /// Puts every connection that a list names into groups; returns how many joined one. Where a limit is in the way,
    /// the answer says so and no more connections join.
    pub(crate) fn join_all<'a>(
        &mut self,
        items: impl Iterator<Item = (Sign, Address<'a>)> + Clone,
        groups: Groups<'_>,
    ) -> (usize, Option<GroupError>) {
        let bounds = self.bounds();
        let (keys, _) = self.select(items);
        let (joined, bound) = self.settled().join_all(&keys, groups, bounds);
        self.floor.give_back(keys);
        (joined, bound.map(GroupError::from))
    }

    /// Takes every connection that a list names out of groups; returns how many were in one.
    pub(crate) fn leave_all<'a>(
        &mut self,
        items: impl Iterator<Item = (Sign, Address<'a>)> + Clone,
        groups: Groups<'_>,
    ) -> usize {
        let (keys, _) = self.select(items);
        let left = self.settled().leave_all(&keys, groups);
        self.floor.give_back(keys);
        left
    }

    /// How many open connections an address names.
    pub(crate) fn online(&self, address: Address<'_>) -> usize {
        self.roster().count(address)
    }

    /// A page of the users, or tokens, behind an address.
    pub(crate) fn here(&self, address: Address<'_>, after: Option<u64>) -> Here {
        self.roster().page(address, after)
    }

    fn bounds(&self) -> Bounds {
        self.rules.bounds()
    }

    /// The connections that a list names, and the places of the items that named no connection. The keys are to be
    /// given back.
    pub(super) fn select<'a>(
        &mut self,
        items: impl Iterator<Item = (Sign, Address<'a>)> + Clone,
    ) -> (Vec<ClientKey>, Vec<usize>) {
        let _ = self.settled(); // the hand-out may close some
        self.floor.select(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Identity;
    use crate::clock::Now;
    use crate::config::Settings;
    use crate::stats::Process;
    use crate::wire::http::forwarded::PeerAddr;
    use crate::wire::http::{Key, Offers};
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::hash::RandomState;

    fn hub(groups: usize) -> Hub {
        let mut settings = Settings::default();
        settings.auth.token_length = 4;
        settings.limits.connections_per_token = 100;
        settings.limits.connections_per_user = 10_000;
        settings.limits.groups = groups;
        settings.limits.groups_per_connection = 2;
        let mut hub = Hub::new(&settings, RandomState::new(), Process::default);
        hub.add_listener("unix:///one".into(), None);
        hub.set_now(Now { ms: 1, unix_s: 1 });
        hub
    }

    fn enter(hub: &mut Hub, token: &str, user: Option<&str>) -> ClientId {
        let id = hub.add_client(0, PeerAddr::Unix, 100);
        let mut identity = Identity::new(token);
        identity.user = user.map(Into::into);
        identity.expires_unix_s = 1000;
        let key = Key::parse(b"dGhlIHNhbXBsZSBub25jZQ==").unwrap();
        hub.admit(id, &identity, &key, None, Offers::default()).unwrap();
        assert!(hub.is_open(id));
        id
    }

    #[test]
    fn a_connection_gets_a_write_once_and_exceptions_hold() {
        let mut hub = hub(10);
        let anna = [enter(&mut hub, "aaaa", Some("anna")), enter(&mut hub, "aaaa", Some("anna"))];
        let ben = enter(&mut hub, "bbbb", Some("ben"));
        hub.join(anna[0], "room").unwrap();
        hub.join(ben, "room").unwrap();
        let to =
            [Address::User("anna"), Address::Group("room"), Address::Token(b"bbbb"), Address::User("eve")];
        let reached = hub.send(&to, Kind::Text, b"x");
        assert_eq!(reached, Reached { connections: 3, away: 0, refused: 0, absent: vec![3] });
        let items = [(Sign::With, Address::All), (Sign::Without, Address::Connection(ben))];
        assert_eq!(hub.write(items.iter().copied(), Kind::Text, b"x").connections, 2);
        assert_eq!(
            hub.write(items.iter().copied(), Kind::Text, b"").connections,
            2,
            "an empty one is counted"
        );
        assert_eq!(hub.kick(&[Address::Group("room")], "out"), 2);
        assert_eq!((hub.clients(), hub.members(Address::User("anna"))), (1, vec![anna[1]]));
        hub.audit().unwrap();
    }

    #[test]
    fn bounds_are_told_and_the_rest_joins() {
        let mut hub = hub(3);
        let ids: Vec<ClientId> = (0..3).map(|_| enter(&mut hub, "aaaa", None)).collect();
        for group in ["a", "b"] {
            assert_eq!(hub.join(ids[0], group), Ok(true));
        }
        assert_eq!(hub.join(ids[0], "a"), Ok(false));
        assert_eq!(hub.join(ids[0], "c"), Err(GroupError::TooManyOfConnection));
        assert_eq!(hub.join(ids[0], "not a name"), Err(GroupError::Name));
        let all = [(Sign::With, Address::All)];
        let groups = Groups::parse(b"c", 10).unwrap();
        assert_eq!(hub.join_all(all.iter().copied(), groups), (2, Some(GroupError::TooManyOfConnection)));
        let groups = Groups::parse(b"d", 10).unwrap();
        assert_eq!(hub.join_all(all.iter().copied(), groups), (0, Some(GroupError::TooMany)));
        assert_eq!(hub.join(ids[1], "d"), Err(GroupError::TooMany));
        assert_eq!(hub.leave_all(all.iter().copied(), Groups::parse(b"a,c", 10).unwrap()), 3);
        assert!(!hub.leave(ids[0], "a") && hub.leave(ids[0], "b"));
        hub.audit().unwrap();
    }

    #[test]
    fn pages_have_everybody_once() {
        for users in [false, true] {
            let mut hub = hub(10);
            let mut all = BTreeSet::new();
            for number in 0..2500 {
                let name = format!("{number:04}");
                for _ in 0..1 + number % 2 {
                    let id = enter(&mut hub, &name, users.then_some(&name));
                    hub.join(id, "room").unwrap();
                }
                all.insert((name, 1 + number % 2));
            }
            for address in [Address::All, Address::Group("room")] {
                let (mut found, mut cursor, mut pages) = (BTreeSet::new(), None, 0);
                loop {
                    let page = hub.here(address, cursor);
                    pages += 1;
                    for (name, connections) in page.names {
                        assert!(found.insert((name, connections)), "somebody is on two pages");
                    }
                    cursor = page.cursor;
                    if cursor.is_none() {
                        break;
                    }
                }
                assert_eq!((pages, &found), (3, &all));
            }
        }
    }

    proptest! {
        /// Against sets of ids.
        #[test]
        fn a_list_names_whom_it_says(
            people in proptest::collection::vec((0..4u8, 0..4u8, 0..3u8), 0..20),
            items in proptest::collection::vec((any::<bool>(), 0..5u8, 0..4u8), 0..8),
        ) {
            let mut hub = hub(10);
            let mut ids = Vec::new();
            for (token, user, group) in &people {
                let id = enter(&mut hub, &format!("tok{token}"), Some(&format!("u{user}")));
                hub.join(id, &format!("g{group}")).unwrap();
                ids.push(id);
            }
            let names: Vec<[String; 3]> =
                items.iter().map(|(_, _, n)| [format!("tok{n}"), format!("u{n}"), format!("g{n}")]).collect();
            let list: Vec<(Sign, Address<'_>)> = items.iter().zip(&names).filter_map(|((with, kind, n), names)| {
                let address = match kind {
                    0 => Address::All,
                    1 => Address::Token(names[0].as_bytes()),
                    2 => Address::User(&names[1]),
                    3 => Address::Group(&names[2]),
                    _ => Address::Connection(*ids.get(usize::from(*n))?),
                };
                Some((if *with { Sign::With } else { Sign::Without }, address))
            }).collect();
            let behind = |address: Address<'_>| -> BTreeSet<usize> {
                let is = |place: &usize| match address {
                    Address::All => true,
                    Address::Token(token) => format!("tok{}", people[*place].0).as_bytes() == token,
                    Address::User(user) => format!("u{}", people[*place].1) == user,
                    Address::Group(group) => format!("g{}", people[*place].2) == group,
                    Address::Connection(id) => ids[*place] == id,
                };
                (0..ids.len()).filter(is).collect()
            };
            let mut expected = BTreeSet::new();
            for (sign, address) in &list {
                if *sign == Sign::With { expected.extend(behind(*address)); }
            }
            for (sign, address) in &list {
                if *sign == Sign::Without { expected.retain(|place| !behind(*address).contains(place)); }
            }
            for _ in 0..2 {
                let (keys, _) = hub.select(list.iter().copied());
                let found: BTreeSet<usize> =
                    keys.iter().map(|key| ids.iter().position(|id| id.key == *key).unwrap()).collect();
                prop_assert_eq!(keys.len(), found.len(), "somebody is selected twice");
                prop_assert_eq!(&found, &expected);
                hub.floor.give_back(keys);
            }
            hub.audit().map_err(TestCaseError::fail)?;
        }
    }
}
