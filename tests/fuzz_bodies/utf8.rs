//! Fuzz body: the validator that takes text in pieces agrees with `std` at the end of every piece.
//!
//! Input: a byte for the length of the pieces, then the text.

use wsson::testing::frame::utf8::Validator;

pub(crate) fn body(data: &[u8]) {
    let &[piece_bytes, ref text @ ..] = data else {
        return;
    };
    check(text, 1);
    check(text, 1 + usize::from(piece_bytes));
}

fn check(text: &[u8], piece_bytes: usize) {
    let mut validator = Validator::default();
    let mut fed = 0;
    for piece in text.chunks(piece_bytes) {
        fed += piece.len();
        let (valid, can_become_valid) = match std::str::from_utf8(&text[..fed]) {
            Ok(_) => (true, true),
            Err(e) => (false, e.error_len().is_none()),
        };
        assert_eq!(validator.feed(piece), can_become_valid, "after {fed} bytes in pieces of {piece_bytes}");
        if !can_become_valid {
            return;
        }
        assert_eq!(validator.is_complete(), valid, "after {fed} bytes in pieces of {piece_bytes}");
    }
}
