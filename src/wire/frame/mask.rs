//! Masking (RFC 6455, section 5.3): an exclusive or with a key of four bytes, its own inverse.
//!
//! Eight bytes a step in safe code, which the compiler turns into the widest registers there are.

/// Masks or unmasks `bytes`, which begin where `key` begins.
#[inline]
pub fn apply(bytes: &mut [u8], key: [u8; 4]) {
    let half = u64::from(u32::from_ne_bytes(key));
    let key = half << 32 | half;
    let mut words = bytes.chunks_exact_mut(8);
    for word in &mut words {
        xor(word, key);
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(key.to_ne_bytes()) {
        *byte ^= key;
    }
}

/// The key as it stands `bytes` further on, for a payload that comes in pieces.
#[inline]
pub fn advance(mut key: [u8; 4], bytes: usize) -> [u8; 4] {
    key.rotate_left(bytes % 4);
    key
}

#[inline]
fn xor(word: &mut [u8], key: u64) {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(word);
    let masked = u64::from_ne_bytes(bytes) ^ key;
    word.copy_from_slice(&masked.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(bytes: &mut [u8], key: [u8; 4]) {
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte ^= key[i % 4];
        }
    }

    proptest! {
        #[test]
        fn fast_is_naive_at_any_offset_and_cut(
            payload in proptest::collection::vec(any::<u8>(), 0..200),
            key: [u8; 4], start in 0..9usize, cut in 0..200usize,
        ) {
            let mut expected = payload.clone();
            naive(&mut expected, key);
            let mut buffer = vec![0; start];
            buffer.extend_from_slice(&payload);
            let (front, back) = buffer[start..].split_at_mut(cut.min(payload.len()));
            apply(front, key);
            apply(back, advance(key, front.len()));
            prop_assert_eq!(&buffer[start..], &expected[..]);
        }
    }

    #[test]
    fn masking_twice_is_nothing() {
        let mut bytes = *b"thirteen byte";
        apply(&mut bytes, [1, 2, 3, 4]);
        assert_ne!(&bytes, b"thirteen byte");
        apply(&mut bytes, [1, 2, 3, 4]);
        assert_eq!(&bytes, b"thirteen byte");
    }
}
