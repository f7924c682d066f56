//! The decoder against the examples of RFC 6455, every rule it enforces, and every way to cut its input.

use proptest::prelude::*;

use super::*;

const MESSAGE_BYTES_MAX: usize = 64 << 10;
const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A client frame, encoded here a second time and byte by byte, so that the codec is not its own judge.
fn client_frame(first: u8, payload: &[u8], key: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 + len as u8),
        len @ 126..65536 => {
            frame.push(0x80 + 126);
            frame.extend([(len / 256) as u8, (len % 256) as u8]);
        }
        len => {
            frame.push(0x80 + 127);
            frame.extend((0..8).rev().map(|i| (len as u64 >> (8 * i)) as u8));
        }
    }
    frame.extend(key);
    frame.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]));
    frame
}

fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    client_frame(first, payload.as_ref(), KEY)
}

fn owned(event: Event<'_>) -> Event<'static> {
    match event {
        Event::Text(text) => Event::Text(Cow::Owned(text.into_owned())),
        Event::Binary(bytes) => Event::Binary(Cow::Owned(bytes.into_owned())),
        Event::Ping(payload) => Event::Ping(Cow::Owned(payload.into_owned())),
        Event::Pong(payload) => Event::Pong(Cow::Owned(payload.into_owned())),
        Event::Close(code) => Event::Close(code),
    }
}

fn text_event(text: &str) -> Event<'_> {
    Event::Text(Cow::Borrowed(text.as_bytes()))
}

fn binary_event(bytes: &[u8]) -> Event<'_> {
    Event::Binary(Cow::Borrowed(bytes))
}

/// Feeds pieces one after another, and returns the events with the error that ended them, if one did.
#[track_caller]
fn decode_pieces<'p>(
    pieces: impl IntoIterator<Item = &'p [u8]>,
    message_bytes_max: usize,
) -> (Vec<Event<'static>>, Option<DecodeError>) {
    let mut decoder = Decoder::default();
    let mut events = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut input = &mut piece[..];
        loop {
            match decoder.decode(&mut input, message_bytes_max) {
                Ok(Some(event)) => events.push(owned(event)),
                Ok(None) => break assert!(input.is_empty(), "input left over without an event"),
                Err(error) => {
                    assert_eq!(decoder.held_bytes(), 0, "memory held after an error");
                    return (events, Some(error));
                }
            }
        }
    }
    (events, None)
}

#[track_caller]
fn decode_all(bytes: &[u8]) -> (Vec<Event<'static>>, Option<DecodeError>) {
    decode_pieces([bytes], MESSAGE_BYTES_MAX)
}

/// Whole and byte by byte, the same events.
#[track_caller]
fn check(bytes: &[u8], expected: &[Event<'_>]) {
    assert_eq!(decode_all(bytes), (expected.to_vec(), None), "whole");
    assert_eq!(decode_pieces(bytes.chunks(1), MESSAGE_BYTES_MAX), (expected.to_vec(), None), "byte by byte");
}

/// The error comes with the last of `bytes`, whole and byte by byte, and not a byte earlier.
#[track_caller]
fn check_error(bytes: &[u8], expected: DecodeError) {
    assert_eq!(decode_all(bytes).1, Some(expected), "whole");
    assert_eq!(decode_pieces(bytes.chunks(1), MESSAGE_BYTES_MAX).1, Some(expected), "byte by byte");
    let (_, early) = decode_pieces(bytes[..bytes.len() - 1].chunks(1), MESSAGE_BYTES_MAX);
    assert_eq!(early, None, "a byte too early");
}

#[test]
fn examples_of_rfc_6455() {
    check(&[0x81, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58], &[text_event("Hello")]);
    check(
        &[0x89, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58],
        &[Event::Ping(Cow::Borrowed(b"Hello"))],
    );
    check(&[frame(0x01, "Hel"), frame(0x80, "lo")].concat(), &[text_event("Hello")]);
    check(&frame(0x82, [7; 256]), &[binary_event(&[7; 256])]);
    let big = vec![8; 65536];
    assert_eq!(frame(0x82, &big)[..10], [0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0]);
    check(&frame(0x82, &big), &[binary_event(&big)]);
}

#[test]
fn empty_messages_and_frames() {
    check(&frame(0x81, ""), &[text_event("")]);
    check(&frame(0x82, ""), &[binary_event(b"")]);
    check(&frame(0x89, ""), &[Event::Ping(Cow::Borrowed(b""))]);
    check(&frame(0x8A, "unasked"), &[Event::Pong(Cow::Borrowed(b"unasked"))]);
    check(&frame(0x88, ""), &[Event::Close(None)]);
    let fragments = [frame(0x01, ""), frame(0x00, ""), frame(0x00, "x"), frame(0x00, ""), frame(0x80, "")];
    check(&fragments.concat(), &[text_event("x")]);
}

#[test]
fn control_frames_between_fragments() {
    let bytes = [
        frame(0x01, "one "),
        frame(0x89, "?"),
        frame(0x00, "two "),
        frame(0x8A, ""),
        frame(0x89, [9; 125]),
        frame(0x80, "three"),
        frame(0x88, [0x03, 0xE8, b'b', b'y', b'e']),
    ]
    .concat();
    check(
        &bytes,
        &[
            Event::Ping(Cow::Borrowed(b"?")),
            Event::Pong(Cow::Borrowed(b"")),
            Event::Ping(Cow::Borrowed(&[9; 125])),
            text_event("one two three"),
            Event::Close(Some(CloseCode::NORMAL)),
        ],
    );
}

#[test]
fn rules_of_the_header() {
    for bits in [0x40, 0x20, 0x10] {
        check_error(&[0x81 | bits], DecodeError::ReservedBit);
    }
    for opcode in [3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        check_error(&[0x80 | opcode], DecodeError::ReservedOpcode);
    }
    for opcode in [8, 9, 0xA] {
        check_error(&[opcode], DecodeError::ControlFragmented);
        check_error(&[0x80 | opcode, 0x80 | 126], DecodeError::ControlTooLong);
        check_error(&[0x80 | opcode, 0x80 | 127], DecodeError::ControlTooLong);
    }
    check_error(&[0x81, 0x05], DecodeError::Unmasked);
    check_error(&[0x80], DecodeError::NothingToContinue);
    check_error(&[0x00], DecodeError::NothingToContinue);
    check_error(&[0x82, 0xFE, 0, 125], DecodeError::LengthNotMinimal);
    check_error(&[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], DecodeError::LengthNotMinimal);
    check_error(&[0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0], DecodeError::LengthOverflow);
}

#[test]
fn rules_of_fragmentation() {
    check_error(&[frame(0x01, "a"), vec![0x81]].concat(), DecodeError::Interleaved);
    check_error(&[frame(0x02, "a"), vec![0x01]].concat(), DecodeError::Interleaved);
    check_error(&[frame(0x02, ""), vec![0x02]].concat(), DecodeError::Interleaved);
    check_error(&[frame(0x01, "a"), frame(0x80, "b"), vec![0x80]].concat(), DecodeError::NothingToContinue);
}

#[test]
fn rules_of_close() {
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
        check_error(&frame(0x88, code.to_be_bytes()), DecodeError::CloseCodeInvalid);
    }
    check_error(&frame(0x88, [3]), DecodeError::CloseTooShort);
    check_error(&frame(0x88, [0x03, 0xE8, 0xC0]), DecodeError::ReasonNotUtf8);
    check_error(&frame(0x88, [0x03, 0xE8, 0xE2, 0x82]), DecodeError::ReasonNotUtf8);
}

#[test]
fn text_fails_at_the_first_byte_that_cannot_be_right() {
    let announced =
        |payload: &[u8]| frame(0x81, [payload, &[b'.'; 40]].concat())[..6 + payload.len()].to_vec();
    for bad in [&b"\xC0"[..], b"ok \x80", b"\xE0\x80", b"\xED\xA0", b"\xF4\x90", b"\xF5", b"\xCE\xBA\xE1\xFF"]
    {
        check_error(&announced(bad), DecodeError::TextNotUtf8);
    }
    // A character cut by a fragment's end is none of the errors; one cut by the message's end is.
    check(&[frame(0x01, b"\xE2\x82"), frame(0x80, b"\xAC")].concat(), &[text_event("\u{20AC}")]);
    check_error(&[frame(0x01, b"\xE2\x82"), frame(0x80, b"")].concat(), DecodeError::TextNotUtf8);
    check_error(&[frame(0x01, b"\xE2"), frame(0x80, b"\x82")].concat(), DecodeError::TextNotUtf8);
    check_error(&frame(0x81, b"\xE2\x82"), DecodeError::TextNotUtf8);
}

#[test]
fn limits_are_judged_from_the_header() {
    let at = |first, announced: u16| [&[first, 0xFE][..], &announced.to_be_bytes()].concat();
    let decode = |bytes: &[u8], max| decode_pieces(bytes.chunks(1), max).1;
    assert_eq!(decode(&frame(0x82, [0; 1000]), 1000), None);
    assert_eq!(decode(&at(0x82, 1001), 1000), Some(DecodeError::TooBig));
    assert_eq!(
        decode(&[0x82, 0xFF, 0x7F, 0, 0, 0, 0, 0, 0, 0], MESSAGE_BYTES_MAX),
        Some(DecodeError::TooBig)
    );
    assert_eq!(decode(&[0x82, 0x81], 0), Some(DecodeError::TooBig));
    let fragments = [frame(0x02, [0; 900]), frame(0x00, [0; 100])].concat();
    assert_eq!(decode(&[&fragments[..], &frame(0x80, "")].concat(), 1000), None);
    assert_eq!(decode(&[&fragments[..], &[0x80, 0x81]].concat(), 1000), Some(DecodeError::TooBig));
    // A limit lowered in the middle of a message is an ordinary refusal.
    let mut decoder = Decoder::default();
    assert_eq!(decoder.decode(&mut &mut frame(0x02, [0; 900])[..], 1000), Ok(None));
    assert_eq!(decoder.decode(&mut &mut frame(0x80, "x")[..], 10), Err(DecodeError::TooBig));
    // Control frames have a bound of their own.
    assert_eq!(decode(&frame(0x89, [0; 125]), 10), None);
}

#[test]
fn no_limit_and_a_length_near_what_memory_can_address() {
    let mut decoder = Decoder::default();
    let mut bytes = [0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4, 5, 6];
    assert_eq!(decoder.decode(&mut &mut bytes[..], usize::MAX), Ok(None));
    assert!(decoder.held_bytes() <= size_of::<Partial>() + 8, "{} bytes held for two", decoder.held_bytes());
}

#[test]
fn one_whole_frame_is_borrowed() {
    let mut bytes = [frame(0x81, "text"), frame(0x82, "data"), frame(0x89, "ping")].concat();
    let mut input = &mut bytes[..];
    let mut decoder = Decoder::default();
    for _ in 0..3 {
        let event = decoder.decode(&mut input, 4);
        assert!(
            matches!(
                event,
                Ok(Some(
                    Event::Text(Cow::Borrowed(b"text"))
                        | Event::Binary(Cow::Borrowed(b"data"))
                        | Event::Ping(Cow::Borrowed(b"ping"))
                ))
            ),
            "{event:?}"
        );
        assert!(decoder.is_idle());
    }
    assert_eq!(decoder.decode(&mut input, 4), Ok(None));
}

#[test]
fn memory_follows_the_bytes_received_and_is_given_back() {
    let mut decoder = Decoder::default();
    // Not a power of two, where doubling would end by itself.
    let message_bytes = 40_000;
    let mut bytes = frame(0x81, "x".repeat(message_bytes));
    let (last, most) = bytes.split_last_mut().unwrap();
    for (i, byte) in most.iter_mut().enumerate() {
        assert_eq!(decoder.decode(&mut std::slice::from_mut(byte), MESSAGE_BYTES_MAX), Ok(None));
        let bound = size_of::<Partial>() + 2 * (i + 1);
        assert!(decoder.held_bytes() <= bound, "{} held after {} bytes", decoder.held_bytes(), i + 1);
    }
    assert!(decoder.held_bytes() <= size_of::<Partial>() + message_bytes, "more than the message needs");
    let event = decoder.decode(&mut std::slice::from_mut(last), MESSAGE_BYTES_MAX);
    assert!(matches!(event, Ok(Some(Event::Text(text))) if text.len() == message_bytes));
    assert!(decoder.is_idle() && decoder.held_bytes() == 0);
}

#[test]
fn fragments_cost_their_bytes_and_nothing_else() {
    let mut decoder = Decoder::default();
    assert_eq!(decoder.decode(&mut &mut frame(0x02, "")[..], 100), Ok(None));
    for _ in 0..100_000 {
        assert_eq!(decoder.decode(&mut &mut frame(0x00, "")[..], 100), Ok(None));
    }
    assert_eq!(decoder.held_bytes(), size_of::<Partial>());
    for _ in 0..100 {
        assert_eq!(decoder.decode(&mut &mut frame(0x00, "y")[..], 100), Ok(None));
    }
    assert!(decoder.held_bytes() <= size_of::<Partial>() + 200);
    // A ping that comes in two pieces meanwhile is held, and then is not.
    let before = decoder.held_bytes();
    let mut ping = frame(0x89, "ping");
    let (front, back) = ping.split_at_mut(8);
    assert_eq!(decoder.decode(&mut &mut *front, 100), Ok(None));
    assert!(decoder.held_bytes() > before);
    assert_eq!(decoder.decode(&mut &mut *back, 100), Ok(Some(Event::Ping(Cow::Borrowed(b"ping")))));
    assert_eq!(decoder.held_bytes(), before);
    let last = decoder.decode(&mut &mut frame(0x80, "")[..], 100).map(|event| event.map(owned));
    assert_eq!(last, Ok(Some(binary_event(&[b'y'; 100]))));
    assert!(decoder.is_idle());
}

#[test]
fn errors_know_their_close_code() {
    assert_eq!(DecodeError::TooBig.close_code(), CloseCode::TOO_BIG);
    assert_eq!(DecodeError::TooBig.to_string(), "buffer overflow");
    assert_eq!(DecodeError::TextNotUtf8.close_code(), CloseCode::INVALID_PAYLOAD);
    assert_eq!(DecodeError::ReasonNotUtf8.close_code(), CloseCode::INVALID_PAYLOAD);
    for error in [
        DecodeError::CloseCodeInvalid,
        DecodeError::CloseTooShort,
        DecodeError::ControlFragmented,
        DecodeError::ControlTooLong,
        DecodeError::Interleaved,
        DecodeError::LengthNotMinimal,
        DecodeError::LengthOverflow,
        DecodeError::NothingToContinue,
        DecodeError::ReservedBit,
        DecodeError::ReservedOpcode,
        DecodeError::Unmasked,
    ] {
        assert_eq!(error.close_code(), CloseCode::PROTOCOL_ERROR, "{error}");
    }
}

/// The next event of a client that keeps the protocol, and its frames.
fn said() -> impl Strategy<Value = (Vec<Vec<u8>>, Event<'static>)> {
    let text = prop_oneof!["\\PC{0,20}", "[a-z]{100,300}"];
    let bytes = prop::collection::vec(any::<u8>(), 0..300);
    let control = prop::collection::vec(any::<u8>(), 0..=125);
    prop_oneof![
        (text, cuts(), any::<[u8; 4]>()).prop_map(|(text, cuts, key)| (
            fragments(1, text.as_bytes(), &cuts, key),
            Event::Text(text.into_bytes().into())
        )),
        (bytes, cuts(), any::<[u8; 4]>())
            .prop_map(|(bytes, cuts, key)| (fragments(2, &bytes, &cuts, key), Event::Binary(bytes.into()))),
        control.prop_map(|payload| (vec![frame(0x89, &payload)], Event::Ping(payload.into()))),
        Just((vec![frame(0x8A, "pong")], Event::Pong(Cow::Borrowed(b"pong")))),
        Just((vec![frame(0x88, [0x0F, 0xA0])], Event::Close(Some(CloseCode(4000))))),
    ]
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..300usize, 0..4)
}

fn pieces<'p>(bytes: &'p [u8], cuts: &[usize]) -> Vec<&'p [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| *cut.min(&bytes.len())).collect();
    cuts.sort_unstable();
    let starts = std::iter::once(0).chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain([bytes.len()]);
    starts.zip(ends).map(|(start, end)| &bytes[start..end]).collect()
}

fn fragments(opcode: u8, message: &[u8], cuts: &[usize], key: [u8; 4]) -> Vec<Vec<u8>> {
    let pieces = pieces(message, cuts);
    let last = pieces.len() - 1;
    let first_byte = |i| if i == 0 { opcode } else { 0 } | if i == last { 0x80 } else { 0 };
    pieces.iter().enumerate().map(|(i, piece)| client_frame(first_byte(i), piece, key)).collect()
}

proptest! {
    #[test]
    fn what_a_client_says_arrives_however_it_is_cut(
        said in prop::collection::vec(said(), 1..6), cuts in prop::collection::vec(0..2000usize, 0..8),
    ) {
        let bytes = said.iter().flat_map(|(frames, _)| frames.concat()).collect::<Vec<_>>();
        let events = said.into_iter().map(|(_, event)| event).collect::<Vec<_>>();
        prop_assert_eq!(decode_all(&bytes), (events.clone(), None));
        prop_assert_eq!(decode_pieces(pieces(&bytes, &cuts), MESSAGE_BYTES_MAX), (events, None));
    }

    /// Valid frames with a few bytes broken, so that every error is met in every state.
    #[test]
    fn broken_input_is_the_same_events_and_error_however_it_is_cut(
        said in prop::collection::vec(said(), 1..5), cuts in prop::collection::vec(0..1500usize, 0..8),
        broken in prop::collection::vec((0..1500usize, 0..8u8), 1..4), message_bytes_max in 0..400usize,
    ) {
        let mut bytes = said.iter().flat_map(|(frames, _)| frames.concat()).collect::<Vec<_>>();
        for (at, bit) in broken {
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
        }
        let whole = decode_pieces([&bytes[..]], message_bytes_max);
        prop_assert_eq!(&decode_pieces(pieces(&bytes, &cuts), message_bytes_max), &whole);
        prop_assert_eq!(&decode_pieces(bytes.chunks(1), message_bytes_max), &whole);
    }
}
