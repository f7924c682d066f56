//! The members of one name, one after the other in memory. Up to two, which most users have, need none of their own.

use super::SPARSE;
use crate::key::ClientKey;

/// A connection among the members of a name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) key: ClientKey,
    /// Where the connection's own list has it.
    pub(super) membership: u32,
}

/// At least one.
#[derive(Debug)]
pub(super) enum Members {
    One([Member; 1]),
    Two([Member; 2]),
    Many(Vec<Member>),
}

const _: () = assert!(size_of::<Members>() == size_of::<Vec<Member>>());

impl Members {
    #[inline]
    pub(super) fn as_slice(&self) -> &[Member] {
        match self {
            Self::One(one) => one,
            Self::Two(two) => two,
            Self::Many(many) => many,
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Member] {
        match self {
            Self::One(one) => one,
            Self::Two(two) => two,
            Self::Many(many) => many,
        }
    }

    /// Adds a member and returns its place.
    pub(super) fn push(&mut self, member: Member) -> u32 {
        match self {
            Self::One([one]) => *self = Self::Two([*one, member]),
            Self::Two([one, two]) => *self = Self::Many(vec![*one, *two, member]),
            Self::Many(many) => {
                grow(many);
                many.push(member);
            }
        }
        self.as_slice().len() as u32 - 1
    }

    /// Takes one of several out, and puts the last one in its place. How many were copied to give memory back.
    pub(super) fn swap_remove(&mut self, place: usize) -> usize {
        match self {
            Self::One(_) => unreachable!("a name goes with its last member"),
            Self::Two(two) => *self = Self::One([two[1 - place]]),
            Self::Many(many) => {
                many.swap_remove(place);
                if let &[one, two] = many.as_slice() {
                    *self = Self::Two([one, two]);
                } else if many.len() < many.capacity() / SPARSE {
                    // Half of the members must go before this happens again.
                    many.shrink_to(2 * many.len());
                    return many.len();
                }
            }
        }
        0
    }
}

/// Makes room for one more: by an eighth, where `Vec` would double.
pub(super) fn grow<T>(table: &mut Vec<T>) {
    if table.len() == table.capacity() {
        table.reserve_exact(4 + table.len() / 8);
    }
}
