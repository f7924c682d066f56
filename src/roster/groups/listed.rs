//! Many connections into the groups of a list, or out of them: each group is looked up once for all connections, and the
//! chain of each connection is walked through once for all groups.
//!
//! It judges the bounds as joining one group does. Invariant: a list holds no group twice, and nothing else changes a
//! membership while it is used.

use super::{Bounds, Groups, Membership, NIL, Space, TooMany};
use crate::key::{ClientKey, Key};
use std::collections::BTreeSet;

/// The groups of a list.
#[derive(Debug)]
pub(crate) struct Listed<'n> {
    /// Each with its number; `NIL` while it has no member.
    groups: Vec<(&'n str, u32)>,
    /// The numbers of those that had members at the beginning, in order, each with its place in `groups`.
    old: Vec<(u32, usize)>,
    /// Scratch: which of the groups a connection is in.
    has: Vec<bool>,
}

impl Listed<'_> {
    /// The place in the list of the group with this number.
    #[inline]
    fn place(&self, number: u32) -> Option<usize> {
        let found = self.old.binary_search_by_key(&number, |(number, _)| *number);
        found.ok().map(|at| self.old[at].1)
    }
}

impl Groups {
    pub(crate) fn listed<'n>(&self, names: impl Iterator<Item = &'n str>) -> Listed<'n> {
        let mut seen = BTreeSet::new();
        let groups: Vec<(&str, u32)> = names
            .filter(|name| seen.insert(*name))
            .map(|name| (name, self.find(Space::Group, name).unwrap_or(NIL)))
            .collect();
        let numbers = groups.iter().enumerate().map(|(place, (_, number))| (*number, place));
        let mut old: Vec<(u32, usize)> = numbers.filter(|(number, _)| *number != NIL).collect();
        old.sort_unstable();
        let has = vec![false; groups.len()];
        Listed { groups, old, has }
    }

    /// Puts a connection into all of them. Whether it was not in one of them before, and the last bound that was in the
    /// way; behind [`TooMany::Groups`] it joins no more.
    pub(crate) fn join_listed(
        &mut self,
        key: ClientKey,
        listed: &mut Listed<'_>,
        bounds: Bounds,
    ) -> (bool, Option<TooMany>) {
        listed.has.fill(false);
        let mut count = 0;
        for membership in self.chain(key) {
            count += usize::from(self.space(membership.name) == Space::Group);
            if let Some(place) = listed.place(membership.name) {
                listed.has[place] = true;
            }
        }
        let (mut is_new, mut error) = (false, None);
        for ((group, number), has) in listed.groups.iter_mut().zip(&listed.has) {
            if *has {
                continue;
            }
            if count >= bounds.groups_per_connection {
                error = Some(TooMany::GroupsOfConnection);
                continue;
            }
            let found = (*number != NIL).then_some(*number);
            if found.is_none() && self.groups >= bounds.groups {
                return (is_new, Some(TooMany::Groups));
            }
            *number = self.enter_under(key, Space::Group, group, found);
            (is_new, count) = (true, count + 1);
        }
        (is_new, error)
    }

    /// Takes a connection out of those that had members at the beginning. Whether it was in one of them.
    pub(crate) fn leave_listed(&mut self, key: ClientKey, listed: &Listed<'_>) -> bool {
        let (mut before, mut at, mut left) = (NIL, self.first(key), false);
        while at != NIL {
            let Membership { name, next, .. } = *self.memberships.get(at);
            if listed.place(name).is_none() {
                before = at;
            } else {
                match before {
                    NIL => self.chains[key.index()] = next,
                    before => self.memberships.get_mut(before).next = next,
                }
                self.give_up(at);
                left = true;
            }
            at = next;
        }
        left
    }
}
