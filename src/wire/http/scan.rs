//! Finds the end of a request head that arrives in pieces.
//!
//! It looks at each byte once however small the pieces are, and never at a byte behind the head: those are frames, or a
//! body. A parser that began anew with each packet would be quadratic in tiny ones.
//! design: docs/endpoint.md, check form.

use super::HeadError;
use crate::words::find_stop;

/// Looks for the end of the head in `head`, of which `from` bytes were scanned by earlier calls (0 at first): the
/// index just behind the empty line, or None when more is needed.
///
/// A peer that speaks another protocol (TLS, SSH, SMTP, bare line feeds) is refused as soon as it shows, not at the
/// timeout.
pub fn scan(head: &[u8], from: usize) -> Result<Option<usize>, HeadError> {
    let start = empty_line(head);
    if head.get(start).is_some_and(|first| !first.is_ascii_alphabetic()) && head != b"\r" {
        return Err(HeadError::BadFirstByte);
    }
    let from = from.max(start);
    let mut at = from;
    while let Some(stop) = find_stop(head, at) {
        if head[stop] == 0 {
            return Err(HeadError::Nul);
        }
        let before = &head[start..=stop];
        if !before.ends_with(b"\r\n") {
            return Err(HeadError::BareLf);
        }
        if at == from && is_first_line(head, start, from, stop) && !ends_with_version(&head[..stop - 1]) {
            return Err(HeadError::BadRequestLine);
        }
        if before.ends_with(b"\r\n\r\n") {
            return Ok(Some(stop + 1));
        }
        at = stop + 1;
    }
    Ok(None)
}

/// Bytes of the one empty line before the request that RFC 9112 section 2.2 lets a server skip.
pub(super) fn empty_line(head: &[u8]) -> usize {
    if head.starts_with(b"\r\n") { 2 } else { 0 }
}

/// Whether the line that ends at `stop`, the first line end of this call, is the request line. Only where earlier calls
/// saw some bytes are these searched again, and only up to their first line end.
fn is_first_line(head: &[u8], start: usize, from: usize, stop: usize) -> bool {
    from == start || find_stop(head, start) == Some(stop)
}

/// Enough to distinguish HTTP from other protocols of lines, whose peers would wait for our timeout; `parse` is
/// thorough.
fn ends_with_version(line: &[u8]) -> bool {
    line.len() > 8 && line[line.len() - 8..].starts_with(b"HTTP/")
}
