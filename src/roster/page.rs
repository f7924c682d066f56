//! A page of a long list of names: how many connections each of them has, a thousand names at a time.
//!
//! The names come in any order and as often as they have connections; each has a number that stays while it is here. A
//! page holds the lowest numbers above those of the page before, so a name that is there from the first page to the
//! last is on exactly one of them, whatever other names come and go meanwhile. It keeps no more than a page and never
//! sorts the whole. design: COMMANDS.md, `h`.

use crate::key::ClientKey;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Page {
    after: Option<u64>,
    len_max: usize,
    lines: BTreeMap<u64, Line>,
}

/// A name with its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// One of the connections, to ask for the name.
    pub(crate) key: ClientKey,
    pub(crate) connections: usize,
}

impl Page {
    /// The page behind the number `after`, or the first one. `len_max` is at least one.
    pub(crate) fn new(after: Option<u64>, len_max: usize) -> Self {
        debug_assert!(len_max > 0, "an empty page ends nowhere");
        Self { after, len_max, lines: BTreeMap::new() }
    }

    /// A connection of the name with this number.
    #[inline]
    pub(crate) fn add(&mut self, number: u64, key: ClientKey) {
        if self.after.is_some_and(|after| number <= after) {
            return;
        }
        // One line more than the page has tells whether another page follows.
        let is_full = self.lines.len() > self.len_max;
        let last = self.lines.last_key_value().map(|(last, _)| *last);
        if is_full && last < Some(number) {
            return;
        }
        match self.lines.entry(number) {
            Entry::Occupied(mut line) => line.get_mut().connections += 1,
            Entry::Vacant(place) => {
                place.insert(Line { key, connections: 1 });
                if is_full {
                    self.lines.pop_last();
                }
            }
        }
    }

    /// The lines, and the number to ask for the next page with, if there is one.
    pub(crate) fn finish(mut self) -> (Vec<Line>, Option<u64>) {
        let has_more = self.lines.len() > self.len_max;
        if has_more {
            self.lines.pop_last();
        }
        let last = self.lines.last_key_value().map(|(last, _)| *last);
        (self.lines.into_values().collect(), last.filter(|_| has_more))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;
    use proptest::prelude::*;

    fn page(after: Option<u64>, len_max: usize, numbers: &[u64]) -> (Vec<(u64, usize)>, Option<u64>) {
        let mut page = Page::new(after, len_max);
        numbers.iter().for_each(|number| page.add(*number, ClientKey::at(*number as usize)));
        let (lines, next) = page.finish();
        (lines.iter().map(|line| (line.key.index() as u64, line.connections)).collect(), next)
    }

    #[test]
    fn the_last_page_has_no_next() {
        assert_eq!(page(None, 2, &[]), (vec![], None));
        assert_eq!(page(None, 2, &[5, 0, 5]), (vec![(0, 1), (5, 2)], None));
        assert_eq!(page(None, 2, &[7, 5, 0, 5]), (vec![(0, 1), (5, 2)], Some(5)));
        assert_eq!(page(Some(5), 2, &[7, 5, 0, 5]), (vec![(7, 1)], None));
        assert_eq!(page(Some(7), 2, &[7, 5, 0, 5]), (vec![], None));
    }

    proptest! {
        /// All pages together are all names, once, with their connections.
        #[test]
        fn pages_are_the_whole(numbers in proptest::collection::vec(0..60_u64, 0..200), len_max in 1..9_usize) {
            let mut expected: BTreeMap<u64, usize> = BTreeMap::new();
            numbers.iter().for_each(|number| *expected.entry(*number).or_default() += 1);
            let mut found = Vec::new();
            let mut after = None;
            loop {
                let (lines, next) = page(after, len_max, &numbers);
                prop_assert!(lines.len() <= len_max);
                found.extend(lines);
                after = next;
                if after.is_none() { break }
            }
            prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
