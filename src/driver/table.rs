//! One table of connections: a row for each kind of peer, a slot for each connection, a slot's two sides.
//!
//! It never reads or writes. Invariant: a side that ended stays so; a slot that is in a queue of turns says in which.

use super::protocol::Protocol;
use super::stream::{Ready, Stream};
use crate::handler::Spoke;
use crate::key::{BackendKey, ClientKey, NodeKey};
use std::marker::PhantomData;

/// The state of the side that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// The kernel has no bytes; an event will come.
    Drained,
    /// The kernel may have bytes.
    Ready,
    /// An event said that the peer's side is closed, or broken: it is read until that shows.
    Closing,
    /// It was read to its end.
    Ended,
}

impl Read {
    fn after(self, ready: Ready) -> Self {
        match self {
            Self::Drained if ready.closed => Self::Closing,
            Self::Drained if ready.readable => Self::Ready,
            Self::Ready if ready.closed => Self::Closing,
            side => side,
        }
    }

    #[inline]
    pub(super) fn is_ready(self) -> bool {
        matches!(self, Self::Ready | Self::Closing)
    }
}

/// The state of the side that is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Write {
    /// The kernel may take bytes.
    Ready,
    /// It takes none; an event will come.
    Blocked,
    /// Our side is shut down. Bytes that the stream itself holds may still have to go out.
    Shut,
}

/// The queue that a connection is in between two turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In no queue: an event or a flush brings it back.
    Nowhere,
    /// Among those that run again.
    Run,
    /// Among those whose next read is costly.
    Later,
    /// Among those that wait for a client which takes bytes.
    Held,
    /// Not read before the worker for its messages takes more: the hub has it in a queue.
    Shelved,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Slot<S> {
    pub(super) stream: S,
    pub(super) read: Read,
    pub(super) write: Write,
    pub(super) place: Place,
    /// The audience of its last message.
    pub(super) spoke: Spoke,
    /// The bytes that the stream keeps, as the hub has heard last, in [`HELD_UNIT_BYTES`].
    held: u16,
}

/// So that two bytes are enough for the longest ClientHello and for a turn's share of ciphertext.
const HELD_UNIT_BYTES: usize = 256;

// The size that `peer::client` counts for it: a stream of 16 bytes and the marks.
const _: () = assert!(size_of::<Option<Slot<[u64; 2]>>>() <= 24);

impl<S: Stream> Slot<S> {
    pub(super) fn new(stream: S, write: Write) -> Self {
        // An event will say whether there is something to read.
        Self { stream, read: Read::Drained, write, place: Place::Nowhere, spoke: Spoke::Nothing, held: 0 }
    }

    /// Takes note of an event; true when bytes can go out that could not.
    #[inline]
    pub(super) fn note(&mut self, ready: Ready) -> bool {
        self.read = self.read.after(ready);
        match self.write {
            Write::Blocked if ready.writable => {
                self.write = Write::Ready;
                true
            }
            Write::Shut => ready.writable && self.stream.has_unsent(),
            _ => false,
        }
    }

    /// The bytes that the stream keeps, before and now, if the hub has not heard of these.
    #[inline(always)]
    pub(super) fn held_change(&mut self) -> Option<(usize, usize)> {
        if self.stream.is_direct() {
            return None;
        }
        let now = self.stream.held_bytes().div_ceil(HELD_UNIT_BYTES).min(u16::MAX.into()) as u16;
        if now == self.held {
            return None;
        }
        let before = std::mem::replace(&mut self.held, now);
        Some((usize::from(before) * HELD_UNIT_BYTES, usize::from(now) * HELD_UNIT_BYTES))
    }

    /// The bytes that the hub has heard of last: the stream goes.
    pub(super) fn held_bytes(&self) -> usize {
        usize::from(self.held) * HELD_UNIT_BYTES
    }

    /// The kernel took less than it was offered.
    pub(super) fn block(&mut self) {
        if self.write == Write::Ready {
            self.write = Write::Blocked;
        }
    }

    pub(super) fn shut_down(&mut self) {
        self.write = Write::Shut;
        self.stream.shut_down();
    }
}

/// The connections of one kind of peer, by their keys.
#[derive(Debug)]
pub(super) struct Row<K, S> {
    slots: Vec<Option<Slot<S>>>,
    keys: PhantomData<K>,
}

impl<K: Protocol, S> Row<K, S> {
    #[inline]
    pub(super) fn get_mut(&mut self, key: K) -> Option<&mut Slot<S>> {
        self.slots.get_mut(key.index())?.as_mut()
    }

    pub(super) fn put(&mut self, key: K, slot: Slot<S>) {
        if self.slots.len() <= key.index() {
            self.slots.resize_with(key.index() + 1, || None);
        }
        debug_assert!(self.slots[key.index()].is_none(), "a slot has one connection");
        self.slots[key.index()] = Some(slot);
    }

    /// The connection ends with its slot, if there is one: a tab that is away has none.
    pub(super) fn remove(&mut self, key: K) {
        self.take(key);
    }

    /// The connection goes to another slot.
    pub(super) fn take(&mut self, key: K) -> Option<Slot<S>> {
        self.slots.get_mut(key.index())?.take()
    }

    /// Gives back the memory behind this many slots.
    pub(super) fn shrink(&mut self, slots: usize) {
        self.slots.truncate(slots);
        self.slots.shrink_to_fit();
    }

    /// Every place, used or not.
    pub(super) fn places(&self) -> impl Iterator<Item = (K, Option<&Slot<S>>)> {
        self.slots.iter().enumerate().map(|(index, slot)| (K::at(index), slot.as_ref()))
    }

    pub(super) fn used(&self) -> impl Iterator<Item = (K, &Slot<S>)> {
        self.places().filter_map(|(key, slot)| slot.map(|slot| (key, slot)))
    }
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Table<S> {
    pub(super) clients: Row<ClientKey, S>,
    pub(super) backends: Row<BackendKey, S>,
    pub(super) nodes: Row<NodeKey, S>,
}

impl<S> Default for Table<S> {
    fn default() -> Self {
        Self {
            clients: Row { slots: Vec::new(), keys: PhantomData },
            backends: Row { slots: Vec::new(), keys: PhantomData },
            nodes: Row { slots: Vec::new(), keys: PhantomData },
        }
    }
}
