//! Looking for bytes eight at a time: most of the instructions of a byte-wise handshake would be spent on it.
//!
//! It knows nothing of HTTP or cookies. Invariant: what is found is what a byte-wise search finds.

/// The place at or behind `at` of the first byte that is a control character but for the tab (CR, LF and NUL among them).
#[inline]
pub(crate) fn find_control(bytes: &[u8], at: usize) -> Option<usize> {
    let mut from = at;
    loop {
        let found =
            find(bytes, from, |word| below(word, 0x20) | equal(word, 0x7f), |byte| byte.is_ascii_control())?;
        if bytes[found] != b'\t' {
            return Some(found);
        }
        from = found + 1;
    }
}

/// The place at or behind `at` of the first byte that is not visible ASCII.
#[inline]
pub(crate) fn find_invisible(bytes: &[u8], at: usize) -> Option<usize> {
    find(
        bytes,
        at,
        |word| below(word, 0x21) | equal(word, 0x7f) | word & TOPS,
        |byte| !byte.is_ascii_graphic(),
    )
}

/// The place at or behind `at` of the first LF or NUL.
#[inline]
pub(crate) fn find_stop(bytes: &[u8], at: usize) -> Option<usize> {
    find(bytes, at, |word| equal(word, 0) | equal(word, b'\n'), |byte| byte == 0 || byte == b'\n')
}

/// The place at or behind `at` of the first such byte.
#[inline]
pub(crate) fn find_byte(bytes: &[u8], at: usize, wanted: u8) -> Option<usize> {
    find(bytes, at, |word| equal(word, wanted), |byte| byte == wanted)
}

/// The lowest top bit that `marks` leaves set tells the byte; those above it may be wrong.
#[inline(always)]
fn find(
    bytes: &[u8],
    at: usize,
    marks: impl Fn(u64) -> u64,
    is_wanted: impl Fn(u8) -> bool,
) -> Option<usize> {
    let rest = bytes.get(at..)?;
    let mut words = rest.chunks_exact(8);
    let mut place = at;
    for word in &mut words {
        let found = marks(u64::from_le_bytes(word.try_into().expect("chunks of eight")));
        if found != 0 {
            return Some(place + found.trailing_zeros() as usize / 8);
        }
        place += 8;
    }
    words.remainder().iter().position(|&byte| is_wanted(byte)).map(|index| place + index)
}

/// The top bit of each byte that is less than `bound`, which is at most 128. A borrow reaches upwards only, so that the
/// lowest mark is right.
#[inline(always)]
fn below(word: u64, bound: u8) -> u64 {
    word.wrapping_sub(ONES * bound as u64) & !word & TOPS
}

#[inline(always)]
fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * byte as u64), 1)
}

const ONES: u64 = u64::from_le_bytes([1; 8]);
const TOPS: u64 = ONES << 7;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn finds_what_a_search_by_bytes_finds(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), b' '..b'~', Just(b'\t'), Just(0x80)], 0..40),
            at in 0..42_usize,
        ) {
            let plain = |wanted: fn(u8) -> bool| {
                bytes.iter().enumerate().skip(at).find(|(_, byte)| wanted(**byte)).map(|(place, _)| place)
            };
            prop_assert_eq!(find_control(&bytes, at), plain(|byte| byte.is_ascii_control() && byte != b'\t'));
            prop_assert_eq!(find_invisible(&bytes, at), plain(|byte| !byte.is_ascii_graphic()));
            prop_assert_eq!(find_byte(&bytes, at, b' '), plain(|byte| byte == b' '));
            prop_assert_eq!(find_stop(&bytes, at), plain(|byte| byte == 0 || byte == b'\n'));
        }
    }
}
