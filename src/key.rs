//! The names of slots: which client, which backend, which node of the bus. Each kind is a type of its own, so that one
//! is never taken for another, and only this file turns them into places in a table.
//!
//! A slot is used again when its peer is gone; a name that must outlive it is a [`ClientId`](crate::ClientId).

use core::fmt;

/// A slot's name, four bytes.
pub trait Key: Copy + Eq + fmt::Debug {
    /// The key of the slot at this place. Tables of peers are far shorter than 2^32 - 1.
    fn at(index: usize) -> Self;
    /// Its place in every table that has an entry for each slot.
    fn index(self) -> usize;
}

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u32);

        impl Key for $name {
            #[inline(always)]
            fn at(index: usize) -> Self {
                debug_assert!(index < u32::MAX as usize, "a table of peers ends long before");
                Self(index as u32)
            }

            #[inline(always)]
            fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

keys! {
    /// A client's slot.
    ClientKey
    /// A backend's slot.
    BackendKey
    /// The slot of a connection that wsson opened itself, to a node of the bus.
    NodeKey
}
