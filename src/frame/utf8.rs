//! UTF-8 that arrives in pieces.
//!
//! The bulk is checked by `std::str::from_utf8`; only a character cut by the end of a piece, three bytes at most, is kept.
//!
//! Invariant: what was accepted so far can still become valid text. The first byte that makes that impossible is refused.

use std::str;

/// The state between two pieces of one text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Validator {
    /// The beginning of a character, `pending_len` bytes of it.
    pending: [u8; 3],
    pending_len: u8,
}

const _: () = assert!(size_of::<Validator>() == 4);

impl Validator {
    /// Takes the next piece; `false` when no continuation can make the whole valid.
    #[must_use]
    pub fn feed(&mut self, piece: &[u8]) -> bool {
        let Some(rest) = self.complete_pending(piece) else {
            return false;
        };
        match str::from_utf8(rest) {
            Ok(_) => true,
            Err(e) if e.error_len().is_some() => false,
            Err(e) => {
                self.keep(&rest[e.valid_up_to()..]);
                true
            }
        }
    }

    /// Whether the text may end here, with no character cut in two.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.pending_len == 0
    }

    /// Adds bytes to the pending character until it is whole, and returns those behind it; `None` if it is none.
    fn complete_pending<'p>(&mut self, mut piece: &'p [u8]) -> Option<&'p [u8]> {
        while !self.is_complete() {
            let Some((&byte, rest)) = piece.split_first() else {
                break;
            };
            self.add(byte).then_some(())?;
            piece = rest;
        }
        Some(piece)
    }

    fn add(&mut self, byte: u8) -> bool {
        let len = usize::from(self.pending_len);
        let mut character = [0; 4];
        character[..len].copy_from_slice(&self.pending[..len]);
        character[len] = byte;
        match str::from_utf8(&character[..=len]) {
            Ok(_) => self.keep(&[]),
            Err(e) if e.error_len().is_some() => return false,
            Err(_) => self.keep(&character[..=len]),
        }
        true
    }

    /// Remembers the beginning of a character, which is shorter than any character that needs four bytes.
    fn keep(&mut self, cut: &[u8]) {
        self.pending[..cut.len()].copy_from_slice(cut);
        self.pending_len = cut.len() as u8;
    }
}
