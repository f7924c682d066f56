//! Connections without a login: those whose request is awaited, and those that linger after a refusal.
//!
//! In the order of their arrival, and counted by the sender that they come from. It never decides which of them is
//! dropped. Invariant: each of them is in its queue; ids of others may be there until they are the oldest.

use crate::peer::client::ClientId;
use std::collections::{HashMap, VecDeque};
use std::hash::RandomState;

/// How many of the oldest are looked at for one of a certain sender. It bounds the cost of a flood.
const LOOK_MAX: usize = 1024;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Strangers {
    pub(super) waiting: VecDeque<ClientId>,
    pub(super) refused: VecDeque<ClientId>,
    senders: HashMap<u64, u32, RandomState>,
}

impl Strangers {
    pub(super) fn new(hasher: RandomState) -> Self {
        let senders = HashMap::with_hasher(hasher);
        Self { waiting: VecDeque::new(), refused: VecDeque::new(), senders }
    }

    /// Counts one more of a sender; returns how many it has then.
    pub(super) fn count(&mut self, sender: u64) -> usize {
        let count = self.senders.entry(sender).or_default();
        *count += 1;
        *count as usize
    }

    pub(super) fn uncount(&mut self, sender: u64) {
        match self.senders.get_mut(&sender) {
            Some(count) if *count > 1 => *count -= 1,
            _ => _ = self.senders.remove(&sender),
        }
    }

    pub(super) fn counted(&self, sender: u64) -> usize {
        self.senders.get(&sender).map_or(0, |count| *count as usize)
    }

    /// The oldest of a queue that are one of theirs still, for a look at each.
    pub(super) fn oldest(queue: &VecDeque<ClientId>) -> impl Iterator<Item = ClientId> + '_ {
        queue.iter().take(LOOK_MAX).copied()
    }

    /// Gives back the room of queues that are empty.
    pub(super) fn shrink(&mut self) {
        for queue in [&mut self.waiting, &mut self.refused] {
            if queue.is_empty() {
                *queue = VecDeque::new();
            }
        }
        self.senders.shrink_to_fit();
    }
}
