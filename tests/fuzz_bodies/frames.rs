//! Fuzz body: whatever a client sends, and however it is cut, the decoder gives the same events, within its
//! limits.
//!
//! Input: a byte for the limit on messages, a byte for the cuts, then what comes over the wire.

use wsson::testing::frame::encode::{append_close, append_frame, frame_len};
use wsson::testing::frame::{CONTROL_PAYLOAD_BYTES_MAX, DecodeError, Decoder, Event, Kind, Opcode};

/// Bytes that the decoder may hold beside the payload it has received: its box.
const BOX_BYTES_MAX: usize = 256;

pub(crate) fn body(data: &[u8]) {
    let &[limit, cuts, ref wire @ ..] = data else {
        return;
    };
    let message_bytes_max = usize::from(limit) * 8;
    let whole = decode(wire, wire.len().max(1), message_bytes_max);
    assert_eq!(decode(wire, 1, message_bytes_max), whole, "byte by byte");
    assert_eq!(decode(wire, 1 + usize::from(cuts), message_bytes_max), whole, "in pieces of {}", cuts + 1);
}

/// The events, encoded again as a server would, and the error at the end.
fn decode(wire: &[u8], piece_bytes: usize, message_bytes_max: usize) -> (Vec<u8>, Option<DecodeError>) {
    let mut decoder = Decoder::default();
    let mut heard = Vec::new();
    let mut received = 0;
    for piece in wire.chunks(piece_bytes) {
        let mut piece = piece.to_vec();
        received += piece.len();
        let mut input = &mut piece[..];
        loop {
            match decoder.decode(&mut input, message_bytes_max) {
                Ok(Some(event)) => record(&mut heard, &event, message_bytes_max),
                Ok(None) => break,
                Err(error) => return (heard, Some(error)),
            }
        }
        assert!(input.is_empty(), "input left over without an event");
        assert_eq!(decoder.is_idle(), decoder.held_bytes() == 0);
        let kept_max = received.min(message_bytes_max + CONTROL_PAYLOAD_BYTES_MAX);
        assert!(decoder.held_bytes() <= BOX_BYTES_MAX + 2 * kept_max, "memory ahead of the input");
    }
    (heard, None)
}

fn record(heard: &mut Vec<u8>, event: &Event<'_>, message_bytes_max: usize) {
    let before = heard.len();
    let mut append = |opcode, payload: &[u8], bytes_max| {
        assert!(payload.len() <= bytes_max, "a limit was passed over");
        append_frame(heard, true, opcode, payload);
    };
    match event {
        Event::Text(text) => append(Kind::Text.opcode(), text, message_bytes_max),
        Event::Binary(bytes) => append(Kind::Binary.opcode(), bytes, message_bytes_max),
        Event::Ping(payload) => append(Opcode::Ping, payload, CONTROL_PAYLOAD_BYTES_MAX),
        Event::Pong(payload) => append(Opcode::Pong, payload, CONTROL_PAYLOAD_BYTES_MAX),
        Event::Close(code) => append_close(heard, *code, ""),
    }
    assert_eq!(frame_len(&heard[before..]), heard.len() - before, "the encoder lost its own frame");
}
