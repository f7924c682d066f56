//! The clients that are behind, in the order in which they are closed when memory runs out.
//!
//! A client is judged by the bytes that it pins: those that wait for it and its ranges, to the next 4 KiB. What tabs
//! keep goes first; of the others, those that are on their way out go before those that are open. A client that takes everything that it is offered is not here.
//! Each look and each change is O(log n), and a change within 4 KiB is none.
//!
//! It never looks at an outbox. Invariant: an entry is here if and only if its mailbox has that rank.

use crate::key::ClientKey;
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// Whether messages may still be queued for a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// It only waits to be confirmed, or for a tab that is away: without it the tab cannot come back, but no connection ends.
    Keeping,
    /// Its last words wait.
    Leaving,
    /// It is open, or may become so.
    #[default]
    Staying,
}

/// A client's place among those that are behind. The smallest goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    standing: Standing,
    pages: Reverse<u32>,
}

/// Clients are compared by whole pages of this many bytes.
const PAGE_BYTES: usize = 4096;

impl Rank {
    pub(super) fn new(standing: Standing, bytes: usize) -> Self {
        Self { standing, pages: Reverse(bytes.div_ceil(PAGE_BYTES) as u32) }
    }
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Ranks(BTreeSet<(Rank, ClientKey)>);

impl Ranks {
    /// The client has another rank, or none any more.
    pub(super) fn change(&mut self, key: ClientKey, from: Option<Rank>, to: Option<Rank>) {
        if from != to {
            from.map(|rank| self.0.remove(&(rank, key)));
            to.map(|rank| self.0.insert((rank, key)));
        }
    }

    /// The client that goes first.
    pub(super) fn first(&self) -> Option<ClientKey> {
        self.0.first().map(|(_, key)| *key)
    }

    /// The clients of which more messages may come, those that hold back most first, with how much that is about.
    pub(super) fn staying(&self) -> impl Iterator<Item = (ClientKey, usize)> {
        let all = self.0.iter().filter(|(rank, _)| rank.standing == Standing::Staying);
        all.map(|(rank, key)| (*key, rank.pages.0 as usize * PAGE_BYTES))
    }

    /// For the audit.
    pub(super) fn contains(&self, key: ClientKey, rank: Rank) -> bool {
        self.0.contains(&(rank, key))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
