//! From a list of addresses to the connections that it names: each once, however many items name it.
//!
//! It never delivers. Invariant: between two selections no mark is set.

use super::Roster;
use super::groups::Space;
use super::page::Page;
use crate::key::{ClientKey, Key};
use crate::peer::client::ClientId;
use crate::wire::command::{Addresses, Target, Targets};

/// The receivers of a message or a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address<'a> {
    /// Every open connection.
    All,
    /// The connections of a login.
    Token(&'a [u8]),
    /// The connections of a user.
    User(&'a str),
    /// The connections in a group.
    Group(&'a str),
    /// One connection.
    Connection(ClientId),
}

impl<'a> From<Target<'a>> for Address<'a> {
    fn from(target: Target<'a>) -> Self {
        match target {
            Target::All => Self::All,
            Target::Token(token) => Self::Token(token),
            Target::User(user) => Self::User(user),
            Target::Group(group) => Self::Group(group),
            Target::Connection(name) => {
                Self::Connection(ClientId::parse(name).unwrap_or_else(ClientId::nobody))
            }
        }
    }
}

/// The items of a list as a backend wrote it.
pub(crate) fn items<'a>(list: &Addresses<'a>) -> Items<'a> {
    Items(list.targets())
}

/// See [`items`].
#[derive(Clone, Debug)]
pub(crate) struct Items<'a>(Targets<'a>);

impl<'a> Iterator for Items<'a> {
    type Item = (Sign, Address<'a>);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        let (except, target) = self.0.next()?;
        Some((if except { Sign::Without } else { Sign::With }, target.into()))
    }
}

/// Whether an item adds connections to a list's selection, or takes them away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// The connections of this item too.
    With,
    /// Not the connections of this item, whatever the other items say.
    Without,
}

/// What an exception in a list does to the reading of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Stop,
    Skip,
}

/// Scratch of a selection, kept to be used again: a bit for each connection, and the selected ones.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    marks: Vec<u64>,
    excluded: Vec<ClientKey>,
    pub(crate) keys: Vec<ClientKey>,
    /// Places of items that named no connection.
    pub(crate) absent: Vec<usize>,
}

/// One page of the users, or tokens, behind an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Here {
    /// The kind of the names.
    pub(crate) of: NameKind,
    /// A name, and its connections behind the address.
    pub(crate) names: Vec<(String, usize)>,
    /// Where the next page begins; none when this is the last.
    pub(crate) cursor: Option<u64>,
}

/// The kind of name that a [`Here`] lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum NameKind {
    /// Users; some connections here have one.
    User,
    /// Tokens: no connection here has a user.
    #[default]
    Token,
}

/// Names on a page.
const PAGE_NAMES_MAX: usize = 1000;

impl Selection {
    /// Marks a connection; false when it was marked before.
    #[inline]
    fn mark(&mut self, key: ClientKey) -> bool {
        let (word, bit) = (key.index() / 64, 1 << (key.index() % 64));
        if self.marks.len() <= word {
            self.marks.resize(word + 1, 0);
        }
        let is_new = self.marks[word] & bit == 0;
        self.marks[word] |= bit;
        is_new
    }

    fn unmark_all(&mut self) {
        for key in self.keys.iter().chain(&self.excluded) {
            self.marks[key.index() / 64] = 0;
        }
        self.excluded.clear();
    }

    /// Gives back memory that many connections have left.
    pub(crate) fn shrink(&mut self) {
        *self = Self::default();
    }
}

impl Roster {
    /// Selects the open connections that a list names: in the order of its items, each once.
    pub(crate) fn select<'a>(
        &self,
        items: impl Iterator<Item = (Sign, Address<'a>)> + Clone,
        selection: &mut Selection,
    ) {
        // Lists are long and exceptions rare: only where one turns up the list is read for exceptions first.
        if !self.gather(items.clone(), selection, Found::Stop) {
            self.exclude(items.clone(), selection);
            self.gather(items, selection, Found::Skip);
        }
        selection.unmark_all();
    }

    /// Selects what a list adds and nothing has marked. False when it has an exception and is to stop there: then nothing
    /// is selected or marked.
    fn gather<'a>(
        &self,
        items: impl Iterator<Item = (Sign, Address<'a>)>,
        selection: &mut Selection,
        exception: Found,
    ) -> bool {
        let mut keys = std::mem::take(&mut selection.keys);
        keys.clear();
        selection.absent.clear();
        let mut is_whole = true;
        for (place, (sign, address)) in items.enumerate() {
            if sign == Sign::Without {
                is_whole = exception == Found::Skip;
                if is_whole {
                    continue;
                }
                break;
            }
            let mut is_absent = true;
            self.each(address, |key| {
                is_absent = false;
                if selection.mark(key) {
                    keys.push(key);
                }
            });
            if is_absent {
                selection.absent.push(place);
            }
        }
        selection.keys = keys;
        if !is_whole {
            selection.unmark_all();
        }
        is_whole
    }

    /// Marks what a list takes away.
    fn exclude<'a>(&self, items: impl Iterator<Item = (Sign, Address<'a>)>, selection: &mut Selection) {
        let mut excluded = std::mem::take(&mut selection.excluded);
        for (_, address) in items.filter(|(sign, _)| *sign == Sign::Without) {
            self.each(address, |key| {
                if selection.mark(key) {
                    excluded.push(key);
                }
            });
        }
        selection.excluded = excluded;
    }

    /// How many open connections an address names.
    pub(crate) fn count(&self, address: Address<'_>) -> usize {
        match address {
            Address::All => self.counts().open,
            Address::User(user) => self.names.members(Space::User, user).len(),
            Address::Group(group) => self.names.members(Space::Group, group).len(),
            Address::Token(_) | Address::Connection(_) => {
                let mut count = 0;
                self.each(address, |_| count += 1);
                count
            }
        }
    }

    /// Calls `take` with each open connection that an address names.
    #[inline]
    pub(crate) fn each(&self, address: Address<'_>, mut take: impl FnMut(ClientKey)) {
        match address {
            Address::All => {
                let open = self.iter().filter(|(_, client)| client.accepts_data());
                open.for_each(|(key, _)| take(key));
            }
            Address::Token(token) => self.tokens.of(token).for_each(take),
            Address::User(user) => {
                self.names.members(Space::User, user).iter().for_each(|member| take(member.key));
            }
            Address::Group(group) => {
                self.names.members(Space::Group, group).iter().for_each(|member| take(member.key));
            }
            Address::Connection(id) => {
                if self.is_open(id) {
                    take(id.key);
                }
            }
        }
    }

    /// A page of the users (or of the tokens, where no connection has a user) behind an address: those whose number is
    /// higher than `after`, the lowest first. A name that is there all the time is on exactly one page.
    pub(crate) fn page(&self, at: Address<'_>, after: Option<u64>) -> Here {
        let of = if self.names.count(Space::User) > 0 { NameKind::User } else { NameKind::Token };
        if (of, at) == (NameKind::User, Address::All) {
            return self.page_of_all_users(after);
        }
        let mut page = Page::new(after, PAGE_NAMES_MAX);
        self.each(at, |key| match of {
            NameKind::User => {
                if let Some(number) = self.names.user_number(key) {
                    page.add(number.into(), key);
                }
            }
            NameKind::Token => page.add(self.token_number(key), key),
        });
        let name = |key: ClientKey| match of {
            NameKind::User => self.names.user(key).unwrap_or_default().to_owned(),
            NameKind::Token => String::from_utf8_lossy(self.tokens.name(key)).into_owned(),
        };
        let (lines, cursor) = page.finish();
        Here { of, names: lines.into_iter().map(|line| (name(line.key), line.connections)).collect(), cursor }
    }

    /// Without a look at any connection.
    fn page_of_all_users(&self, after: Option<u64>) -> Here {
        let mut users = self.names.users_after(after.map(|after| after.min(u32::MAX.into()) as u32));
        let mut page = Here { of: NameKind::User, ..Here::default() };
        let mut last = None;
        for (number, name, connections) in users.by_ref().take(PAGE_NAMES_MAX) {
            page.names.push((name.to_owned(), connections));
            last = Some(number.into());
        }
        page.cursor = last.filter(|_| users.next().is_some());
        page
    }

    /// A number that a token has as long as its oldest connection is here.
    fn token_number(&self, key: ClientKey) -> u64 {
        let chain = self.tokens.of(self.tokens.name(key));
        chain.map(|key| key.index() as u64).min().expect("the connection is one of its token's")
    }
}
