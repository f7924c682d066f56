//! The bytes both sides speak: payloads, WebSocket frames, control commands, the request head with its cookies.
//!
//! Invariant: every payload begins with its ten-digit sequence number, so a checker can tell which one it holds.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use md5::Md5;
use sha1::{Digest, Sha1};
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// Shared with the configuration the server under test is given.
pub const SECRET: &str = "load-instrument-secret-0123456789";
pub const ORIGIN: &str = "http://load.test";
/// Digits of the sequence number a payload begins with.
pub const SEQ_DIGITS: usize = 10;
/// Numbers beyond this would not fit the digits.
pub const SEQ_END: u64 = 10_000_000_000;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The largest payload used, plus one turn of the alphabet to start at any letter of it.
const FILLER_BYTES: usize = 16 * 1024 + 26;

fn filler() -> &'static [u8] {
    static FILLER: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    FILLER.get_or_init(|| (b'a'..=b'z').cycle().take(FILLER_BYTES).collect())
}

/// Appends the payload number `seq` of `size` bytes: its number, then letters that depend on it.
pub fn payload(out: &mut Vec<u8>, seq: u64, size: usize) {
    let mut digits = [b'0'; SEQ_DIGITS];
    let mut rest = seq % SEQ_END;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&digits);
    let start = (seq % 26) as usize;
    out.extend_from_slice(&filler()[start..start + size.saturating_sub(SEQ_DIGITS)]);
}

fn header(out: &mut Vec<u8>, len: usize, mask_bit: u8) {
    out.push(0x81);
    match len {
        0..=125 => out.push(mask_bit | len as u8),
        126..=0xffff => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

/// Appends the text frame a server sends for payload `seq`.
pub fn server_frame(out: &mut Vec<u8>, seq: u64, size: usize) {
    header(out, size, 0);
    payload(out, seq, size);
}

/// Appends the masked text frame a browser sends for payload `seq`.
pub fn client_frame(out: &mut Vec<u8>, seq: u64, size: usize) {
    header(out, size, 0x80);
    out.extend_from_slice(&MASK);
    let start = out.len();
    payload(out, seq, size);
    for word in out[start..].chunks_mut(MASK.len()) {
        word.iter_mut().zip(MASK).for_each(|(byte, mask)| *byte ^= mask);
    }
}

/// Length of header (with the mask) and payload of the frame at the start of `bytes`, when they are all there.
pub fn frame_extent(bytes: &[u8]) -> Option<(usize, usize)> {
    let second = *bytes.get(1)?;
    let (plain, len): (usize, usize) = match second & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize),
        len => (2, usize::from(len)),
    };
    let head = plain + if second & 0x80 == 0 { 0 } else { MASK.len() };
    (bytes.len() >= head.checked_add(len)?).then_some((head, len))
}

/// Appends a command of the control protocol: decimal length, letter, and its payload, which is what stands before the
/// message (a token; addresses and a space) and the message.
pub fn command(out: &mut Vec<u8>, letter: char, before: Option<&str>, seq: u64, size: usize) {
    let before = before.unwrap_or("");
    write!(out, "{}{letter}{before}", before.len() + size).expect("a vector takes every byte");
    payload(out, seq, size);
}

/// The session token of connection `index`: 32 letters and digits.
pub fn token(index: usize) -> String {
    // Multiplying by an odd constant spreads the numbers without collisions, as random tokens would be.
    let mixed = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{mixed:016x}{:016x}", mixed.rotate_left(23) ^ 0x5bd1_e995_97f4_a7c1)
}

/// The user of connection `index`, where logins name users.
pub fn user(index: usize) -> String {
    format!("user{index}")
}

/// A request head, and the value the answer must carry in Sec-WebSocket-Accept.
pub struct Upgrade {
    pub head: Vec<u8>,
    pub accept: String,
}

/// The request of a browser with the cookies of connection `index`; with a user of its own or without.
pub fn upgrade(index: usize, port: u16, has_user: bool) -> Upgrade {
    let key = STANDARD.encode((index as u128).wrapping_mul(0xda94_2042_e4dd_58b5_0123).to_be_bytes());
    let accept = STANDARD.encode(Sha1::digest(format!("{key}{GUID}")));
    let token = token(index);
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let user = if has_user { user(index) } else { String::new() };
    let digest = hex(&Md5::digest(format!("{SECRET}{user}{token}{time}")));
    let cookie = if has_user { format!("; user={user}") } else { String::new() };
    let head = format!(
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         User-Agent: wsson-load\r\nOrigin: {ORIGIN}\r\nSec-WebSocket-Version: 13\r\n\
         Cookie: token={token}; time={time}; digest={digest}{cookie}\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    );
    Upgrade { head: head.into_bytes(), accept }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_and_plain_frames_carry_the_same_payload() {
        let (mut plain, mut masked) = (Vec::new(), Vec::new());
        server_frame(&mut plain, 42, 64);
        client_frame(&mut masked, 42, 64);
        let unmasked: Vec<u8> =
            masked[6..].iter().enumerate().map(|(at, byte)| byte ^ MASK[at & 3]).collect();
        assert_eq!(plain[2..], unmasked);
        assert_eq!(&plain[2..12], b"0000000042");
    }

    #[test]
    fn extents_are_those_of_the_three_length_forms() {
        for (size, head) in [(64, 2), (1024, 4), (16384, 4)] {
            let mut frame = Vec::new();
            server_frame(&mut frame, 7, size);
            assert_eq!(frame_extent(&frame), Some((head, size)));
            assert_eq!(frame_extent(&frame[..frame.len() - 1]), None);
        }
    }

    #[test]
    fn commands_announce_token_and_message() {
        let mut out = Vec::new();
        command(&mut out, 'd', Some(&token(0)), 1, 12);
        assert!(out.starts_with(format!("44d{}0000000001", token(0)).as_bytes()));
        assert_eq!(out.len(), 3 + 44);
    }

    #[test]
    fn tokens_are_distinct_and_32_characters_long() {
        let mut all: Vec<String> = (0..20_000).map(token).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 20_000);
        assert!(all.iter().all(|token| token.len() == 32));
    }

    /// RFC 6455 section 1.3 gives this pair of key and answer.
    #[test]
    fn accept_is_that_of_the_rfc() {
        let accept = STANDARD.encode(Sha1::digest(format!("dGhlIHNhbXBsZSBub25jZQ=={GUID}")));
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
