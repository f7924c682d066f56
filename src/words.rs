//! Looking for bytes eight at a time: most of the instructions of a byte-wise handshake would be spent on it.
//!
//! It knows nothing of HTTP or cookies. Invariant: it finds the bytes that a byte-wise search finds.

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

/// How many letters and hyphens `bytes` begin with, in whole words of eight: those in the last word may not be counted.
#[inline]
pub(crate) fn count_letters(bytes: &[u8]) -> usize {
    let mut count = 0;
    for word in bytes.chunks_exact(8) {
        let word = u64::from_le_bytes(word.try_into().expect("chunks of eight"));
        // Below 128 no sum reaches the next byte, so that every mark is right.
        let low = word & !TOPS;
        let small = low | (ONES * 0x20);
        let letter = (small + ONES * (0x80 - b'a') as u64) & !(small + ONES * (0x7f - b'z') as u64);
        let hyphen = !((low ^ (ONES * u64::from(b'-'))) + ONES * 0x7f);
        let others = (!(letter | hyphen) | word) & TOPS;
        if others != 0 {
            return count + others.trailing_zeros() as usize / 8;
        }
        count += 8;
    }
    count
}

/// The place at or behind `at` of the first such byte.
#[inline]
pub(crate) fn find_byte(bytes: &[u8], at: usize, wanted: u8) -> Option<usize> {
    find(bytes, at, |word| equal(word, wanted), |byte| byte == wanted)
}

/// Whether `text` is `known`, in any case. `known` is lower-case letters, and hyphens where `text` has no control
/// characters: of these no other byte becomes one with its sixth bit set.
#[inline(always)]
pub(crate) fn is_same<const N: usize>(text: &[u8], known: &[u8; N]) -> bool {
    let Ok(text) = <&[u8; N]>::try_from(text) else { return false };
    text.iter().zip(known).fold(0, |others, (byte, known)| others | ((byte | 0x20) ^ known)) == 0
}

/// The lowest top bit that `marks` leaves set gives the byte; those above it may be wrong.
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

    #[test]
    fn a_name_is_the_same_in_any_case() {
        for byte in 0..=255 {
            for known in b'a'..=b'z' {
                let same = byte == known || byte == known.to_ascii_uppercase();
                assert_eq!(is_same(&[byte], &[known]), same, "{byte} {known}");
            }
            assert_eq!(is_same(&[byte], b"-"), matches!(byte, b'-' | b'\r'), "{byte}");
        }
    }

    proptest! {
        #[test]
        fn finds_what_a_search_by_bytes_finds(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), b' '..b'~', b'a'..=b'z', b'A'..=b'Z', Just(b'-'), Just(b'\t'), Just(0x80)], 0..40),
            at in 0..42_usize,
        ) {
            let plain = |wanted: fn(u8) -> bool| {
                bytes.iter().enumerate().skip(at).find(|(_, byte)| wanted(**byte)).map(|(place, _)| place)
            };
            prop_assert_eq!(find_control(&bytes, at), plain(|byte| byte.is_ascii_control() && byte != b'\t'));
            prop_assert_eq!(find_invisible(&bytes, at), plain(|byte| !byte.is_ascii_graphic()));
            let letters = bytes.iter().take_while(|byte| byte.is_ascii_alphabetic() || **byte == b'-').count();
            prop_assert!(letters - count_letters(&bytes) < 8, "{letters}");
            prop_assert_eq!(count_letters(&[&bytes[..], b"        "].concat()), letters);
            if let Some(name) = bytes.get(..4).filter(|name| !name.contains(&b'\r')) {
                for known in [b"host", b"a-b-", b"----", b"zzzz"] {
                    prop_assert_eq!(is_same(name, known), name.eq_ignore_ascii_case(known));
                }
                prop_assert!(!is_same(name, b"hos") && !is_same(name, b"hosts"));
            }
            prop_assert_eq!(find_byte(&bytes, at, b' '), plain(|byte| byte == b' '));
            prop_assert_eq!(find_stop(&bytes, at), plain(|byte| byte == 0 || byte == b'\n'));
        }
    }
}
