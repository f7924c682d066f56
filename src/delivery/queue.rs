//! A first-in, first-out queue of keys that is taken from in batches.
//!
//! A vector and where its first key stands: a key is put in by one store and a batch is taken by one copy, where a
//! ring buffer computes a place for each. It never knows the meaning of a key. Invariant: at most half of the vector,
//! or nothing at all, is keys that were taken.

/// All keys change hands without being copied while the vector has no more room than this, which may stay for ever.
const SWAPPED_MAX: usize = 512;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Queue<K> {
    keys: Vec<K>,
    first: usize,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self { keys: Vec::new(), first: 0 }
    }
}

impl<K: Copy> Queue<K> {
    #[inline]
    pub(crate) fn push(&mut self, key: K) {
        self.keys.push(key);
    }

    /// Moves the first `max` keys, or all when they are fewer, to the end of `batch`; returns how many.
    pub(crate) fn take(&mut self, max: usize, batch: &mut Vec<K>) -> usize {
        let count = self.len().min(max);
        if count == self.keys.len() && batch.is_empty() && self.keys.capacity() <= SWAPPED_MAX {
            std::mem::swap(&mut self.keys, batch);
            return count;
        }
        batch.extend_from_slice(&self.keys[self.first..self.first + count]);
        self.first += count;
        // A key is moved at most once for every one that was taken.
        if self.first > self.keys.len() / 2 {
            self.keys.drain(..self.first);
            self.first = 0;
        }
        count
    }

    /// The only key, if there is one and no more.
    #[inline]
    pub(crate) fn take_only(&mut self) -> Option<K> {
        if self.len() != 1 {
            return None;
        }
        self.first = 0;
        let only = self.keys.pop();
        self.keys.clear();
        only
    }

    /// Gives its room back if it is empty.
    pub(crate) fn shrink(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len() - self.first
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The keys in their order, for the audit.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &K> + '_ {
        self.keys[self.first..].iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn is_a_queue(steps in proptest::collection::vec((0..20u32, 0..20usize), 1..200)) {
            let (mut queue, mut model, mut serial) = (Queue::default(), VecDeque::new(), 0..);
            for (pushed, taken) in steps {
                let only = if model.len() == 1 { model.pop_front() } else { None };
                prop_assert_eq!(queue.take_only(), only);
                for key in serial.by_ref().take(pushed as usize) {
                    queue.push(key);
                    model.push_back(key);
                }
                let mut batch = Vec::new();
                let count = queue.take(taken, &mut batch);
                let expected: Vec<u32> = model.drain(..taken.min(model.len())).collect();
                prop_assert_eq!((count, &batch), (expected.len(), &expected));
                prop_assert_eq!((queue.len(), queue.is_empty()), (model.len(), model.is_empty()));
                prop_assert!(queue.iter().eq(model.iter()));
                prop_assert!(queue.keys.len() <= 2 * queue.len());
            }
        }
    }
}
