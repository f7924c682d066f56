//! UTF-8 that arrives in pieces.
//!
//! The bulk is checked by `std::str::from_utf8`; only a character cut by the end of a piece, three bytes at
//! most, is kept.
//!
//! Invariant: the accepted bytes can still become valid text. The first byte that makes that impossible
//! is refused.

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

    /// Adds bytes to the pending character until it is whole, and returns those behind it; `None` if it is
    /// none.
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Whether some continuation makes `text` valid.
    fn can_become_valid(text: &[u8]) -> bool {
        str::from_utf8(text).map_or_else(|e| e.error_len().is_none(), |_| true)
            || str::from_utf8(text).is_err_and(|e| e.error_len().is_none())
    }

    #[track_caller]
    fn check(text: &[u8], pieces: &[&[u8]]) {
        let mut validator = Validator::default();
        let mut fed = 0;
        for piece in pieces {
            fed += piece.len();
            let accepted = validator.feed(piece);
            assert_eq!(accepted, can_become_valid(&text[..fed]), "{text:x?} up to {fed}");
            if !accepted {
                return;
            }
            assert_eq!(
                validator.is_complete(),
                str::from_utf8(&text[..fed]).is_ok(),
                "{text:x?} up to {fed}"
            );
        }
    }

    fn check_all_splits(text: &[u8]) {
        check(text, &text.chunks(1).collect::<Vec<_>>());
        for first in 0..=text.len() {
            for second in first..=text.len() {
                check(text, &[&text[..first], &text[first..second], &text[second..]]);
            }
        }
    }

    #[test]
    fn agrees_with_std_at_every_split() {
        for text in [
            &b""[..],
            b"plain",
            "κόσμε €uro \u{10FFFF} \u{FFFF}!".as_bytes(),
            b"\xC0\x80",
            b"ab\xE0\x80\x80",
            b"\xED\xA0\x80",
            b"\xF0\x8F\xBF\xBF",
            b"\xF4\x90\x80\x80",
            b"\xF5\x80",
            b"\xE2\x82",
            b"\xE2\x82x",
            b"\x80",
        ] {
            check_all_splits(text);
        }
    }

    /// Every sequence of two bytes, and of three behind each possible lead: no table entry of RFC 3629 is
    /// left out.
    #[test]
    fn agrees_with_std_byte_by_byte_on_all_short_sequences() {
        for lead in 0..=255u8 {
            for second in 0..=255u8 {
                for third in [0x00, 0x7F, 0x80, 0xBF, 0xC0, 0xFF] {
                    let text = [lead, second, third, 0x80];
                    check(&text, &text.chunks(1).collect::<Vec<_>>());
                }
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_std_on_broken_text(text in "\\PC{0,12}", at: usize, byte: u8) {
            let mut text = text.into_bytes();
            if !text.is_empty() {
                let at = at % text.len();
                text[at] = byte;
            }
            check_all_splits(&text);
        }
    }
}
