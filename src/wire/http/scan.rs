//! Finds the end of a request head that arrives in pieces.
//!
//! It looks at each byte once however small the pieces are, and never at a byte behind the head: those are frames.
//! design: endpoint.md, check form. A parser that began anew with each packet would be quadratic in tiny ones.

use super::Reject;

/// Looks for the end of the head in `head`, of which `from` bytes were scanned by earlier calls (0 at first): the
/// index just behind the empty line, or None when more is needed.
///
/// A peer that speaks another protocol (TLS, SSH, SMTP, bare line feeds) is refused as soon as it shows, not at the
/// timeout. An empty line before the request, which RFC 9112 section 2.2 lets a server skip, is refused as well.
pub fn scan(head: &[u8], from: usize) -> Result<Option<usize>, Reject> {
    if head.first().is_some_and(|first| !first.is_ascii_alphabetic()) {
        return Err(Reject::Malformed("bad_first_byte"));
    }
    let mut at = from;
    while let Some(stop) = find_stop(head, at) {
        if head[stop] == 0 {
            return Err(Reject::Malformed("nul"));
        }
        let before = &head[..=stop];
        if !before.ends_with(b"\r\n") {
            return Err(Reject::Malformed("bare_lf"));
        }
        if at == from && is_first_line(head, from, stop) && !ends_with_version(&head[..stop - 1]) {
            return Err(Reject::Malformed("bad_request_line"));
        }
        if before.ends_with(b"\r\n\r\n") {
            return Ok(Some(stop + 1));
        }
        at = stop + 1;
    }
    Ok(None)
}

/// Whether the line that ends at `stop`, the first line end of this call, is the request line. Only where earlier calls
/// saw some bytes are these searched again, and only up to their first line end.
fn is_first_line(head: &[u8], from: usize, stop: usize) -> bool {
    from == 0 || find_stop(head, 0) == Some(stop)
}

/// Enough to tell HTTP from other protocols of lines, whose peers would wait for our timeout; `parse` is thorough.
fn ends_with_version(line: &[u8]) -> bool {
    line.len() > 8 && line[line.len() - 8..].starts_with(b"HTTP/")
}

/// The place of the first LF or NUL at or behind `at`. Eight bytes at a time: a head of a browser has 500 to 1,500
/// bytes, and most of the instructions of a byte-wise handshake would be spent here.
pub(super) fn find_stop(head: &[u8], at: usize) -> Option<usize> {
    let rest = head.get(at..)?;
    let mut words = rest.chunks_exact(8);
    let mut place = at;
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().expect("chunks of eight"));
        let found = zero_bytes(word) | zero_bytes(word ^ LF_EVERYWHERE);
        if found != 0 {
            return Some(place + found.trailing_zeros() as usize / 8);
        }
        place += 8;
    }
    words.remainder().iter().position(|&byte| byte == 0 || byte == b'\n').map(|index| place + index)
}

/// The top bit of each byte that is zero. Bytes above the lowest zero byte may be marked wrongly; the lowest never is.
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & (ONES << 7)
}

const ONES: u64 = u64::from_le_bytes([1; 8]);
const LF_EVERYWHERE: u64 = u64::from_le_bytes([b'\n'; 8]);
