//! Server frames: never masked, no extension bits (RFC 6455, section 5.1).
//!
//! Invariant: the appended bytes are one whole frame whose length [`frame_len`] finds again.

use super::{CONTROL_PAYLOAD_BYTES_MAX, CloseCode, Opcode};

/// The longest header of a server frame: two bytes and a length of eight.
pub const HEADER_BYTES_MAX: usize = 10;

const FIN: u8 = 0x80;
/// In place of a length that is 16 bits wide, behind it.
const LENGTH_16: u8 = 126;
/// In place of a length that is 64 bits wide, behind it.
const LENGTH_64: u8 = 127;

/// The header of one server frame.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    bytes: [u8; HEADER_BYTES_MAX],
    len: u8,
}

impl AsRef<[u8]> for Header {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The header of a frame with a payload of that length.
#[inline]
pub fn header(fin: bool, opcode: Opcode, payload_len: usize) -> Header {
    debug_assert!(
        !opcode.is_control() || (fin && payload_len <= CONTROL_PAYLOAD_BYTES_MAX),
        "control frames are whole and short (RFC 6455, section 5.5)"
    );
    let mut bytes = [0; HEADER_BYTES_MAX];
    bytes[0] = first_byte(fin, opcode);
    match payload_len {
        0..=125 => bytes[1] = payload_len as u8,
        126..=0xFFFF => {
            bytes[1] = LENGTH_16;
            bytes[2..4].copy_from_slice(&(payload_len as u16).to_be_bytes());
        }
        _ => {
            bytes[1] = LENGTH_64;
            bytes[2..10].copy_from_slice(&(payload_len as u64).to_be_bytes());
        }
    }
    Header { bytes, len: header_len(payload_len) as u8 }
}

/// The length of the header of a frame with a payload of that length.
#[inline]
pub fn header_len(payload_len: usize) -> usize {
    match payload_len {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => HEADER_BYTES_MAX,
    }
}

/// Appends one frame.
#[inline(always)]
pub fn append_frame(out: &mut Vec<u8>, fin: bool, opcode: Opcode, payload: &[u8]) {
    match payload.len() {
        // Nearly every frame: two bytes that no call copies.
        len @ 0..=125 => out.extend_from_slice(&[first_byte(fin, opcode), len as u8]),
        len => append_long_header(out, fin, opcode, len),
    }
    out.extend_from_slice(payload);
}

#[inline(never)]
fn append_long_header(out: &mut Vec<u8>, fin: bool, opcode: Opcode, payload_len: usize) {
    let header = header(fin, opcode, payload_len);
    out.reserve(header.as_ref().len() + payload_len);
    out.extend_from_slice(header.as_ref());
}

#[inline(always)]
fn first_byte(fin: bool, opcode: Opcode) -> u8 {
    if fin { FIN | opcode as u8 } else { opcode as u8 }
}

/// Appends a close frame. Without a code it has no payload, so no reason either; a reason that does not fit
/// is cut at the last character that does.
pub fn append_close(out: &mut Vec<u8>, code: Option<CloseCode>, reason: &str) {
    let Some(code) = code else {
        append_frame(out, true, Opcode::Close, &[]);
        return;
    };
    debug_assert!(code.is_allowed_on_wire(), "close code {code} is not for the wire");
    let reason = cut(reason, CONTROL_PAYLOAD_BYTES_MAX - 2);
    out.extend_from_slice(header(true, Opcode::Close, 2 + reason.len()).as_ref());
    out.extend_from_slice(&code.0.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// The whole length, with its header, of the server frame that begins `bytes`. Its header must be there; its
/// payload need not.
///
/// # Panics
///
/// If `bytes` end within the header.
#[inline]
pub fn frame_len(bytes: &[u8]) -> usize {
    debug_assert!(
        bytes[0] & 0x70 == 0 && Opcode::from_bits(bytes[0] & 0x0F).is_some(),
        "not the first byte of a server frame"
    );
    debug_assert!(bytes[1] & 0x80 == 0, "a server frame is not masked");
    match bytes[1] {
        LENGTH_16 => 4 + usize::from(u16::from_be_bytes([bytes[2], bytes[3]])),
        LENGTH_64 => {
            let mut length = [0; 8];
            length.copy_from_slice(&bytes[2..10]);
            HEADER_BYTES_MAX + u64::from_be_bytes(length) as usize
        }
        length => 2 + usize::from(length),
    }
}

/// The longest beginning of `text` that is whole characters and at most `bytes_max` long.
fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(payload_len: usize, expected_header: &[u8]) {
        let payload = vec![b'.'; payload_len];
        let mut out = b"before".to_vec();
        append_frame(&mut out, true, Opcode::Binary, &payload);
        let frame = &out[6..];
        assert_eq!(header(true, Opcode::Binary, payload_len).as_ref(), expected_header);
        assert_eq!(header_len(payload_len), expected_header.len());
        assert_eq!(frame, [expected_header, &payload].concat());
        assert_eq!(frame_len(frame), frame.len());
        assert_eq!(frame_len(expected_header), frame.len(), "found from the header alone");
    }

    #[test]
    fn lengths_take_the_shortest_form() {
        check(0, &[0x82, 0]);
        check(125, &[0x82, 125]);
        check(126, &[0x82, 126, 0, 126]);
        check(256, &[0x82, 126, 1, 0]);
        check(65535, &[0x82, 126, 0xFF, 0xFF]);
        check(65536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn examples_of_rfc_6455() {
        let mut out = Vec::new();
        append_frame(&mut out, true, Opcode::Text, b"Hello");
        assert_eq!(out, [0x81, 0x05, 0x48, 0x65, 0x6C, 0x6C, 0x6F]);
        out.clear();
        append_frame(&mut out, false, Opcode::Text, b"Hel");
        append_frame(&mut out, true, Opcode::Continuation, b"lo");
        assert_eq!(out, [0x01, 0x03, 0x48, 0x65, 0x6C, 0x80, 0x02, 0x6C, 0x6F]);
        assert_eq!(frame_len(&out), 5);
    }

    #[track_caller]
    fn check_close(code: Option<CloseCode>, reason: &str, expected_payload: &[u8]) {
        let mut out = Vec::new();
        append_close(&mut out, code, reason);
        assert_eq!(out, [&[0x88, expected_payload.len() as u8], expected_payload].concat());
    }

    #[test]
    fn close_frames() {
        check_close(None, "", &[]);
        check_close(None, "no code, no reason", &[]);
        check_close(Some(CloseCode::NORMAL), "", &[0x03, 0xE8]);
        check_close(Some(CloseCode::TRY_AGAIN_LATER), "slow", &[0x03, 0xF5, b's', b'l', b'o', b'w']);
        let long = "x".repeat(200);
        check_close(Some(CloseCode::NORMAL), &long, &[&[0x03, 0xE8], &long.as_bytes()[..123]].concat());
        // 122 bytes and a character of three: it does not fit, nor does its first byte alone.
        let cut = format!("{}\u{20AC}", "x".repeat(122));
        check_close(Some(CloseCode::NORMAL), &cut, &[&[0x03, 0xE8], &cut.as_bytes()[..122]].concat());
    }
}
