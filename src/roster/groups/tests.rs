use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const PLENTY: Bounds = Bounds { groups: 100_000, groups_per_connection: 64 };

fn groups() -> Groups {
    Groups::new(&RandomState::new())
}

fn key(key: usize) -> ClientKey {
    ClientKey::at(key)
}

#[track_caller]
fn check(groups: &Groups) {
    groups.audit().unwrap();
}

fn keys(members: &[Member]) -> BTreeSet<usize> {
    let keys: BTreeSet<usize> = members.iter().map(|member| member.key.index()).collect();
    assert_eq!(keys.len(), members.len(), "nobody is a member twice");
    keys
}

#[test]
fn users_and_groups_of_one_name_are_apart() {
    let mut all = groups();
    all.set_user(key(3), "anna");
    all.join(key(5), "anna", PLENTY).unwrap();
    assert_eq!(keys(all.members(Space::User, "anna")), [3].into());
    assert_eq!(keys(all.members(Space::Group, "anna")), [5].into());
    assert_eq!((all.user(key(3)), all.user(key(5)), all.user(key(99))), (Some("anna"), None, None));
    assert!(!all.leave(key(3), "anna") && all.leave(key(5), "anna"));
    assert_eq!((all.count(Space::User), all.count(Space::Group)), (1, 0));
    check(&all);
}

#[test]
fn a_user_is_found_at_once_whenever_it_was_set() {
    let mut all = groups();
    all.join(key(0), "before", PLENTY).unwrap();
    all.set_user(key(0), "anna");
    all.join(key(0), "after", PLENTY).unwrap();
    check(&all);
    assert_eq!(all.user(key(0)), Some("anna"));
    assert_eq!(all.groups_of(key(0)).collect::<Vec<_>>(), ["after", "before"]);
    assert!(all.leave(key(0), "after") && all.leave(key(0), "before"));
    assert_eq!(all.user(key(0)), Some("anna"));
    check(&all);
}

#[test]
fn bounds_change_nothing() {
    let mut all = groups();
    let bounds = Bounds { groups: 3, groups_per_connection: 2 };
    assert_eq!(all.join(key(0), "a", bounds), Ok(true));
    assert_eq!(all.join(key(0), "b", bounds), Ok(true));
    assert_eq!(all.join(key(0), "c", bounds), Err(TooMany::GroupsOfConnection));
    assert_eq!(all.join(key(0), "a", bounds), Ok(false), "in it already is no matter of bounds");
    assert_eq!(all.join(key(1), "c", bounds), Ok(true));
    assert_eq!(all.join(key(1), "d", bounds), Err(TooMany::Groups));
    assert_eq!(all.join(key(1), "a", bounds), Ok(true), "one that is there is not one more");
    all.set_user(key(2), "a user is no group");
    assert_eq!((all.count(Space::Group), all.count(Space::User)), (3, 1));
    check(&all);
    all.leave_all(key(1));
    assert_eq!(all.join(key(2), "d", bounds), Ok(true));
    check(&all);
}

#[test]
fn names_of_every_length() {
    let mut all = groups();
    let names: Vec<String> = (1..=64).map(|len| "x".repeat(len)).collect();
    for name in &names {
        all.join(key(0), name, PLENTY).unwrap();
    }
    for name in &names {
        assert_eq!(keys(all.members(Space::Group, name)), [0].into());
    }
    assert_eq!(all.members(Space::Group, &"x".repeat(65)).len(), 0);
    assert_eq!(all.groups_of(key(0)).collect::<BTreeSet<_>>(), names.iter().map(String::as_str).collect());
    check(&all);
}

#[test]
fn the_largest_groups() {
    let mut all = groups();
    for (name, len) in [("b", 3), ("a", 3), ("z", 9), ("c", 1), ("d", 2)] {
        (0..len).for_each(|at| assert_eq!(all.join(key(at), name, PLENTY), Ok(true)));
    }
    (0..20).for_each(|at| all.set_user(key(at), "anna"));
    assert_eq!(all.largest(4), [("z", 9), ("a", 3), ("b", 3), ("d", 2)]);
    assert_eq!((all.largest(9).len(), all.largest(0).len()), (5, 0));
}

#[test]
fn users_are_paged_by_numbers_that_stay() {
    let mut all = groups();
    for at in 0..100 {
        all.set_user(key(at), &format!("u{}", at / 2));
        all.join(key(at), &format!("g{at}"), PLENTY).unwrap();
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page: Vec<(u32, String, usize)> =
            all.users_after(after).take(7).map(|(at, user, len)| (at, user.to_owned(), len)).collect();
        let Some(last) = page.last() else { break };
        after = Some(last.0);
        assert!(page.iter().all(|(.., connections)| *connections == 2));
        seen.extend(page.into_iter().map(|(_, user, _)| user));
        // Between two pages others come and go.
        all.leave_all(key(seen.len()));
        all.leave_all(key(seen.len() ^ 1));
        all.shrink(100);
        all.set_user(key(200 + seen.len()), "somebody");
        all.leave_all(key(200 + seen.len()));
    }
    let distinct: BTreeSet<&String> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "nobody is seen twice");
    let stayed: BTreeSet<&str> = all.users_after(None).map(|(_, user, _)| user).collect();
    assert!(stayed.iter().all(|user| seen.iter().any(|seen| seen == user)), "whoever stayed was seen");
}

/// performance.md: "a group of 100,000 that dissolves costs per member what a group of 10 does".
#[test]
fn the_end_of_a_member_costs_the_same_in_a_crowd() {
    let steps_a_membership = |crowd: usize| {
        let mut all = groups();
        for at in 0..crowd {
            for group in ["one", "two", "three"] {
                all.join(key(at), group, PLENTY).unwrap();
            }
        }
        let before = all.steps;
        (0..crowd).for_each(|at| all.leave_all(key(at * 7 % crowd)));
        assert_eq!(all.count(Space::Group), 0);
        (all.steps - before) as f64 / (3 * crowd) as f64
    };
    // One to give it up, and half a copy to give memory back, whatever the size is.
    for crowd in [10, 1003, 100_003] {
        let steps = steps_a_membership(crowd);
        assert!(steps <= 1.6, "{steps} steps a membership in a crowd of {crowd}");
    }
}

/// performance.md: at most 24 bytes a membership, and nothing for a connection without one.
#[test]
fn memory_of_memberships() {
    let mut all = groups();
    assert_eq!(bytes(&all), 0);
    let crowd = 50_000;
    for at in 0..crowd {
        for group in 0..3 {
            all.join(key(at), &format!("room {}", (at + group * 331) % 1000), PLENTY).unwrap();
        }
    }
    let names = all.names.capacity() * size_of::<Name>() + all.by_name.allocation_size();
    let each = (bytes(&all) - names) as f64 / (3 * crowd) as f64;
    assert!(each <= 24.0, "{each} bytes a membership");
    // A hundredth of the members stays.
    (0..crowd).filter(|at| at % 100 != 0).for_each(|at| all.leave_all(key(at)));
    all.shrink(crowd);
    check(&all);
    let chains = all.chains.capacity() * size_of::<u32>();
    let each = (bytes(&all) - chains) as f64 / (3 * crowd / 100) as f64;
    // With a thousand names for 1,500 memberships most of it is names.
    assert!(each <= 100.0, "{each} bytes a membership, names included");
    (0..crowd).for_each(|at| all.leave_all(key(at)));
    all.shrink(crowd);
    assert_eq!(bytes(&all), 0, "all is given back");
}

/// The memory of a few connections in very many groups goes as well, though the table of connections never grew.
#[test]
fn very_many_groups_of_a_few_are_given_back() {
    let mut all = groups();
    let (crowd, each) = (300, 64);
    for at in 0..crowd {
        (0..each).for_each(|group| assert!(all.join(key(at), &format!("{at} {group}"), PLENTY).unwrap()));
    }
    let full = bytes(&all);
    all.tidy(1024);
    assert!(bytes(&all) * 2 > full, "what is used stays");
    (1..crowd).for_each(|at| all.leave_all(key(at)));
    all.tidy(1024);
    check(&all);
    assert_eq!(all.count(Space::Group), each);
    assert!(bytes(&all) < full / 20, "{} of {full} bytes stay", bytes(&all));
    let few = bytes(&all);
    all.leave_all(key(0));
    all.tidy(1024);
    assert!(bytes(&all) >= few / 2, "a little is kept, to be used again");
}

fn bytes(groups: &Groups) -> usize {
    let member = |members: &Members| match members {
        Members::Many(many) => many.capacity() * size_of::<Member>(),
        Members::One(_) | Members::Two(_) => 0,
    };
    groups.names.capacity() * size_of::<Name>()
        + groups.names.iter().map(|(_, name)| member(&name.members)).sum::<usize>()
        + groups.by_name.allocation_size()
        + groups.chains.capacity() * size_of::<u32>()
        + groups.memberships.table.capacity() * size_of::<Membership>()
}

#[derive(Clone, Debug)]
enum Step {
    Join(usize, u8),
    Leave(usize, u8),
    User(usize, u8),
    End(usize),
    EndHighKeys(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..24_usize, 0..9_u8).prop_map(|(key, name)| Step::Join(key, name)),
        3 => (0..24_usize, 0..9_u8).prop_map(|(key, name)| Step::Leave(key, name)),
        3 => (0..24_usize, 0..9_u8).prop_map(|(key, name)| Step::User(key, name)),
        2 => (0..24_usize).prop_map(Step::End),
        1 => (0..24_usize).prop_map(Step::EndHighKeys),
    ]
}

/// Short and long, and the same for users and groups.
fn name(name: u8) -> String {
    format!("n{name}").repeat(if name.is_multiple_of(2) { 1 } else { 15 })
}

#[derive(Default)]
struct Model {
    groups: BTreeMap<usize, BTreeSet<String>>,
    users: BTreeMap<usize, String>,
}

impl Model {
    fn members(&self, name: &str) -> BTreeSet<usize> {
        self.groups.iter().filter(|(_, groups)| groups.contains(name)).map(|(key, _)| *key).collect()
    }

    fn end(&mut self, key: usize) {
        self.groups.remove(&key);
        self.users.remove(&key);
    }

    fn join(&mut self, key: usize, name: &str, bounds: Bounds) -> Result<bool, TooMany> {
        let names: BTreeSet<&String> = self.groups.values().flatten().collect();
        let own = self.groups.get(&key).map_or(0, BTreeSet::len);
        if self.members(name).contains(&key) {
            return Ok(false);
        }
        if own >= bounds.groups_per_connection {
            return Err(TooMany::GroupsOfConnection);
        }
        if !names.iter().any(|other| *other == name) && names.len() >= bounds.groups {
            return Err(TooMany::Groups);
        }
        Ok(self.groups.entry(key).or_default().insert(name.to_owned()))
    }
}

proptest! {
    /// Against a map from key to names.
    #[test]
    fn members_are_who_joined(steps in proptest::collection::vec(step(), 1..200)) {
        let mut all = groups();
        let mut model = Model::default();
        let bounds = Bounds { groups: 7, groups_per_connection: 4 };
        for step in steps {
            match step {
                Step::Join(at, n) => {
                    prop_assert_eq!(all.join(key(at), &name(n), bounds), model.join(at, &name(n), bounds));
                }
                Step::Leave(at, n) => {
                    let left = model.groups.get_mut(&at).is_some_and(|groups| groups.remove(&name(n)));
                    prop_assert_eq!(all.leave(key(at), &name(n)), left);
                }
                Step::User(at, n) => {
                    if let std::collections::btree_map::Entry::Vacant(entry) = model.users.entry(at) {
                        entry.insert(name(n));
                        all.set_user(key(at), &name(n));
                    }
                }
                Step::End(at) => {
                    all.leave_all(key(at));
                    model.end(at);
                }
                Step::EndHighKeys(from) => {
                    (from..24).for_each(|at| { all.leave_all(key(at)); model.end(at); });
                    all.shrink(from);
                }
            }
            prop_assert_eq!(all.audit(), Ok(()));
        }
        for n in 0..9 {
            let name = name(n);
            let users: BTreeSet<usize> =
                model.users.iter().filter(|(_, user)| **user == name).map(|(key, _)| *key).collect();
            prop_assert_eq!(keys(all.members(Space::User, &name)), users);
            prop_assert_eq!(keys(all.members(Space::Group, &name)), model.members(&name));
        }
        for at in 0..24 {
            let of: BTreeSet<String> = all.groups_of(key(at)).map(str::to_owned).collect();
            prop_assert_eq!(&of, &model.groups.get(&at).cloned().unwrap_or_default());
            prop_assert_eq!(all.user(key(at)), model.users.get(&at).map(String::as_str));
            prop_assert!(of.iter().all(|name| all.is_member(key(at), Space::Group, name)));
        }
    }
}

proptest! {
    /// Against the same, one connection and one group after the other.
    #[test]
    fn a_list_of_groups_is_its_groups(
        steps in proptest::collection::vec(
            (any::<bool>(), proptest::collection::vec(0..9u8, 1..6), proptest::collection::btree_set(0..12usize, 1..6)),
            1..20,
        ),
        users in proptest::collection::btree_set(0..12usize, 0..6),
    ) {
        let bounds = Bounds { groups: 7, groups_per_connection: 4 };
        let (mut all, mut each) = (groups(), groups());
        for at in users {
            all.set_user(key(at), &name(1));
            each.set_user(key(at), &name(1));
        }
        for (joins, list, who) in steps {
            let list: Vec<String> = list.into_iter().map(name).collect();
            let mut listed = all.listed(list.iter().map(String::as_str));
            'list: for at in who {
                if !joins {
                    let left = list.iter().filter(|group| each.leave(key(at), group)).count();
                    prop_assert_eq!(all.leave_listed(key(at), &listed), left > 0);
                    continue;
                }
                let (mut is_new, mut error) = (false, None);
                for group in &list {
                    match each.join(key(at), group, bounds) {
                        Ok(new) => is_new |= new,
                        Err(bound) => error = Some(bound),
                    }
                    if error == Some(TooMany::Groups) {
                        break;
                    }
                }
                prop_assert_eq!(all.join_listed(key(at), &mut listed, bounds), (is_new, error));
                if error == Some(TooMany::Groups) {
                    break 'list;
                }
            }
            prop_assert_eq!(all.audit(), Ok(()));
            for at in 0..12 {
                let of = |groups: &Groups| groups.groups_of(key(at)).map(str::to_owned).collect::<BTreeSet<_>>();
                prop_assert_eq!(of(&all), of(&each));
            }
        }
    }
}
