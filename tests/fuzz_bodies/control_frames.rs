//! Fuzz body: pings, pongs and close frames are judged as RFC 6455 section 5.5 and 7.4 say, also between the fragments
//! of a message; the decoder reads the encoder's frames.
//!
//! Input: a byte for the frame (its opcode, FIN, the length's form, whether it comes within a message), four bytes
//! of mask, then the payload.

use wsson::testing::frame::encode::{append_close, append_frame, frame_len};
use wsson::testing::frame::{CONTROL_PAYLOAD_BYTES_MAX, CloseCode, DecodeError, Decoder, Event, Opcode};

/// Masked, with a mask of zeros: the first fragment of a text, and its end.
const FIRST: &[u8] = b"\x01\x83\0\0\0\0one";
const LAST: &[u8] = b"\x80\x83\0\0\0\0two";

pub(crate) fn body(data: &[u8]) {
    let &[form, a, b, c, d, ref payload @ ..] = data else {
        return;
    };
    let (mask, payload) = ([a, b, c, d], &payload[..payload.len().min(300)]);
    let opcode = [Opcode::Ping, Opcode::Pong, Opcode::Close][usize::from(form % 3)];
    let (fin, long, inside) = (form & 0x10 == 0, form & 0x20 != 0, form & 0x40 != 0);
    let frame = client_frame(opcode, fin, long, mask, payload);
    let expected = judge(opcode, fin, long, payload);
    if inside {
        hear_inside(&frame, &expected);
    }
    let heard = hear(&mut Decoder::default(), &frame);
    assert_eq!(heard.is_ok(), expected.is_some(), "{heard:?}");
    if let (Ok(heard), Some(expected)) = (heard, expected) {
        assert_eq!(heard, [expected]);
        answer(opcode, mask, payload);
    }
    say_close(mask, payload);
}

fn client_frame(opcode: Opcode, fin: bool, long: bool, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![opcode as u8 | if fin { 0x80 } else { 0 }];
    if long || payload.len() > CONTROL_PAYLOAD_BYTES_MAX {
        frame.push(0x80 | 126);
        frame.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    } else {
        frame.push(0x80 | payload.len() as u8);
    }
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// The event that must come; `None` when the connection must fail.
fn judge(opcode: Opcode, fin: bool, long: bool, payload: &[u8]) -> Option<Event<'static>> {
    if !fin || long || payload.len() > CONTROL_PAYLOAD_BYTES_MAX {
        return None;
    }
    match (opcode, payload) {
        (Opcode::Ping, _) => Some(Event::Ping(payload.to_vec().into())),
        (Opcode::Pong, _) => Some(Event::Pong(payload.to_vec().into())),
        (_, []) => Some(Event::Close(None)),
        (_, [_]) => None,
        (_, &[high, low, ref reason @ ..]) => {
            let code = u16::from_be_bytes([high, low]);
            let defined = (1000..=1003).contains(&code) || (1007..=1014).contains(&code);
            let allowed = defined || (3000..=4999).contains(&code);
            (allowed && std::str::from_utf8(reason).is_ok()).then_some(Event::Close(Some(CloseCode(code))))
        }
    }
}

/// Everything in one piece, then byte by byte: the same.
fn hear(decoder: &mut Decoder, wire: &[u8]) -> Result<Vec<Event<'static>>, DecodeError> {
    let mut slow = Decoder::default();
    let slowly: Result<Vec<_>, _> = wire.iter().map(|byte| hear_piece(&mut slow, &[*byte])).collect();
    let at_once = hear_piece(decoder, wire);
    assert_eq!(slowly.map(|events| events.concat()), at_once);
    at_once
}

fn hear_piece(decoder: &mut Decoder, piece: &[u8]) -> Result<Vec<Event<'static>>, DecodeError> {
    let mut piece = piece.to_vec();
    let (mut input, mut events) = (&mut piece[..], Vec::new());
    while let Some(event) = decoder.decode(&mut input, 1000)? {
        events.push(match event {
            Event::Text(text) => Event::Text(text.into_owned().into()),
            Event::Binary(bytes) => Event::Binary(bytes.into_owned().into()),
            Event::Ping(payload) => Event::Ping(payload.into_owned().into()),
            Event::Pong(payload) => Event::Pong(payload.into_owned().into()),
            Event::Close(code) => Event::Close(code),
        });
    }
    Ok(events)
}

/// A control frame neither ends nor spoils the message around it; a close ends everything.
fn hear_inside(frame: &[u8], expected: &Option<Event<'static>>) {
    let heard = hear(&mut Decoder::default(), &[FIRST, frame, LAST].concat());
    let Some(expected) = expected else {
        return assert!(heard.is_err(), "{heard:?}");
    };
    if matches!(expected, Event::Close(_)) {
        assert_eq!(heard.as_ref().map(|events| events.first()), Ok(Some(expected)));
    } else {
        assert_eq!(heard, Ok(vec![expected.clone(), Event::Text(b"onetwo".into())]));
    }
}

/// The pong to a ping carries its payload; to a reader with a mask it is the same.
fn answer(opcode: Opcode, mask: [u8; 4], payload: &[u8]) {
    let mut out = Vec::new();
    append_frame(&mut out, true, opcode, payload);
    assert_eq!(frame_len(&out), out.len());
    assert_eq!(out, [&[0x80 | opcode as u8, payload.len() as u8][..], payload].concat());
    let again = hear(&mut Decoder::default(), &client_frame(opcode, true, false, mask, &out[2..]));
    assert_eq!(again.ok(), judge(opcode, true, false, payload).map(|event| vec![event]));
}

/// The input as code and reason of our own close frame.
fn say_close(mask: [u8; 4], payload: &[u8]) {
    let &[high, low, ref reason @ ..] = payload else {
        return;
    };
    let (code, reason) = (CloseCode(u16::from_be_bytes([high, low])), String::from_utf8_lossy(reason));
    if !code.is_allowed_on_wire() {
        return;
    }
    let mut out = Vec::new();
    append_close(&mut out, Some(code), &reason);
    assert_eq!(frame_len(&out), out.len());
    assert!(out.len() <= 2 + CONTROL_PAYLOAD_BYTES_MAX);
    let said = std::str::from_utf8(&out[4..]).expect("a reason is cut between two characters");
    assert!(
        reason.starts_with(said)
            && (said.len() == reason.len() || said.len() > CONTROL_PAYLOAD_BYTES_MAX - 6)
    );
    let heard = hear(&mut Decoder::default(), &client_frame(Opcode::Close, true, false, mask, &out[2..]));
    assert_eq!(heard, Ok(vec![Event::Close(Some(code))]));
}
