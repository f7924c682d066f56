//! Fuzz body: a connection of HTTP requests with bodies is read in one way however it is cut, and as the plainest reader
//! there is reads it; nothing behind the first doubt is read at all.
//!
//! Input: a byte for the cuts, then what comes over the wire.

use wsson::testing::http::{Body, Framing, Piece, parse, scan};

/// Far above what a corpus file holds, but not above what one announces.
const BODY_BYTES_MAX: u64 = 4096;

pub(crate) fn body(data: &[u8]) {
    let &[cuts, ref wire @ ..] = data else { return };
    let whole = requests(wire, usize::MAX);
    assert_eq!(requests(wire, 1), whole, "byte by byte");
    assert_eq!(requests(wire, 1 + usize::from(cuts)), whole, "in pieces of {}", usize::from(cuts) + 1);
    assert_eq!(plain(wire), whole);
}

/// The bodies of the requests, in their order; and whether something was wrong behind them.
type Found = (Vec<Vec<u8>>, bool);

/// As a server reads that gets pieces of this size.
fn requests(wire: &[u8], piece_bytes: usize) -> Found {
    let (mut found, mut start) = (Vec::new(), 0);
    while let Some((framing, body_at)) = head(&wire[start..], piece_bytes) {
        let Some(framing) = framing else { return (found, true) };
        match one_body(framing, &wire[start + body_at..], piece_bytes) {
            Ok(Some((body, used))) => {
                found.push(body);
                start += body_at + used;
            }
            Ok(None) => return (found, false),
            Err(()) => return (found, true),
        }
    }
    (found, false)
}

/// How the body behind a head is framed (None when the head is wrong), and where it begins; None when more must come.
fn head(wire: &[u8], piece_bytes: usize) -> Option<(Option<Framing>, usize)> {
    let mut from = 0;
    for piece in wire.chunks(piece_bytes) {
        let received = from + piece.len();
        match scan(&wire[..received], from) {
            Ok(Some(end)) => return Some((parse(&wire[..end]).ok().map(|request| request.framing()), end)),
            Ok(None) => from = received,
            Err(_) => return Some((None, 0)),
        }
    }
    None
}

fn one_body(framing: Framing, wire: &[u8], piece_bytes: usize) -> Result<Option<(Vec<u8>, usize)>, ()> {
    let mut body = Body::new(framing, BODY_BYTES_MAX).map_err(|_| ())?;
    let (mut found, mut used) = (Vec::new(), 0);
    for piece in wire.chunks(piece_bytes).chain([&[][..]]) {
        let mut rest = piece;
        loop {
            match body.read(&mut rest).map_err(|_| ())? {
                Piece::Data(data) => {
                    assert!(!data.is_empty());
                    found.extend_from_slice(data);
                    assert!(found.len() as u64 <= BODY_BYTES_MAX);
                }
                Piece::More => break,
                Piece::End => return Ok(Some((found, used + piece.len() - rest.len()))),
            }
        }
        used += piece.len();
    }
    Ok(None)
}

/// As a reader that has all bytes: heads by the reader that has a target of its own, bodies line by line.
fn plain(wire: &[u8]) -> Found {
    let (mut found, mut rest) = (Vec::new(), wire);
    while let Some((framing, body_at)) = head(rest, usize::MAX) {
        let Some(framing) = framing else { return (found, true) };
        rest = &rest[body_at..];
        let body = match framing {
            Framing::None => Some((Vec::new(), 0)),
            Framing::Length(length) if length > BODY_BYTES_MAX => return (found, true),
            Framing::Length(length) => rest.get(..length as usize).map(|body| (body.to_vec(), body.len())),
            Framing::Chunked => match plain_chunks(rest) {
                Ok(body) => body,
                Err(()) => return (found, true),
            },
        };
        let Some((body, used)) = body else { return (found, false) };
        found.push(body);
        rest = &rest[used..];
    }
    (found, false)
}

/// The chunks, and how long they are with what is around them; None when they are cut.
fn plain_chunks(wire: &[u8]) -> Result<Option<(Vec<u8>, usize)>, ()> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = match wire[at..].iter().position(|&byte| byte == b'\r') {
            Some(end) => &wire[at..at + end],
            None => return cut_line(&wire[at..]).then_some(None).ok_or(()),
        };
        if !whole_line(line) {
            return Err(());
        }
        match expect(&wire[at + line.len()..], b"\r\n")? {
            false => return Ok(None),
            true => at += line.len() + 2,
        }
        let digits = line.split(|&byte| byte == b';').next().unwrap_or_default();
        let digits = std::str::from_utf8(digits).map_err(|_| ())?;
        let length = usize::from_str_radix(digits, 16).map_err(|_| ())?;
        if length == 0 {
            return Ok(expect(&wire[at..], b"\r\n")?.then_some((body, at + 2)));
        }
        if (body.len() + length) as u64 > BODY_BYTES_MAX {
            return Err(());
        }
        let Some(data) = wire.get(at..at + length) else { return Ok(None) };
        body.extend_from_slice(data);
        at += length;
        match expect(&wire[at..], b"\r\n")? {
            false => return Ok(None),
            true => at += 2,
        }
    }
}

/// Whether these bytes come next; false when they may yet come, an error when others do.
fn expect(wire: &[u8], wanted: &[u8]) -> Result<bool, ()> {
    let there = wire.len().min(wanted.len());
    if wire[..there] == wanted[..there] { Ok(there == wanted.len()) } else { Err(()) }
}

/// The line before a chunk, without its end.
fn whole_line(line: &[u8]) -> bool {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    digits > 0 && cut_line(line)
}

/// The beginning of such a line.
fn cut_line(line: &[u8]) -> bool {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let extension = match line[digits..].split_first() {
        None => &[][..],
        Some((b';', extension)) if digits > 0 => extension,
        Some(_) => return false,
    };
    digits <= 8 && extension.len() <= 64 && extension.iter().all(|&byte| (b' '..=b'~').contains(&byte))
}
