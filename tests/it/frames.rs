//! endpoint.md, "Frames": RFC 6455 as seen by a client that checks, and by one that cheats.

use crate::client::{BINARY, CLOSE, Client, Frame, PING, PONG, TEXT, close, frame, header, text};
use crate::server::{Server, Setup};

const FIN: u8 = 0x80;

fn echo_server() -> Server {
    Setup::new().echo().start()
}

#[test]
fn text_and_binary_of_every_length_form() {
    let server = Setup::new().echo().limit("message = 70000").start();
    let mut client = Client::connect(&server);
    for length in [0, 1, 2, 125, 126, 127, 4096, 65_535, 65_536, 70_000] {
        let message: Vec<u8> = (0..length).map(|index| b'a' + (index % 23) as u8).collect();
        client.send(&frame(FIN | TEXT, &message));
        client.expect(&Frame::part(true, TEXT, &message));
        let message: Vec<u8> = (0..length).map(|index| (index * 7) as u8).collect();
        client.send(&frame(FIN | BINARY, &message));
        client.expect(&Frame::binary(&message));
    }
}

#[test]
fn frames_may_be_cut_anywhere() {
    let server = echo_server();
    let long = "häll".repeat(40);
    let bytes = [
        text("hällo"),
        frame(TEXT, "zwei ß".as_bytes()),
        frame(FIN | PING, b"between"),
        frame(FIN, " parts".as_bytes()),
        text(&long),
        frame(FIN | BINARY, &[0, 255]),
    ]
    .concat();
    let expected = [
        Frame::text("hällo"),
        Frame::part(true, PONG, b"between"),
        Frame::text("zwei ß parts"),
        Frame::text(&long),
        Frame::binary(&[0, 255]),
    ];
    let mut client = Client::connect(&server);
    for cut in 1..bytes.len() {
        client.send(&bytes[..cut]);
        client.send(&bytes[cut..]);
        expected.iter().for_each(|frame| client.expect(frame));
    }
    for byte in &bytes {
        client.send(&[*byte]);
    }
    expected.iter().for_each(|frame| client.expect(frame));
}

#[test]
fn fragments_make_one_message() {
    let server = echo_server();
    let mut client = Client::connect(&server);
    let parts = [frame(BINARY, b"a"), frame(0, b""), frame(0, b"b"), frame(FIN, b"")];
    client.send(&parts.concat());
    client.expect(&Frame::binary(b"ab"));
    let many: Vec<u8> = (0..5000).flat_map(|_| frame(0, b"x")).collect();
    client.send(&[frame(TEXT, b""), many, frame(FIN, b"!")].concat());
    client.expect_text(&format!("{}!", "x".repeat(5000)));
}

#[test]
fn a_ping_is_answered_with_its_payload() {
    let server = Setup::new().start();
    let mut client = Client::connect(&server);
    for length in [0, 1, 64, 125] {
        let payload = vec![0xfe; length];
        client.send(&frame(FIN | PING, &payload));
        client.expect_pong(&payload);
    }
    client.send(&frame(FIN | PONG, b"nobody asked"));
    client.expect_nothing();
}

#[test]
fn of_many_pings_at_least_the_newest_is_answered() {
    let server = Setup::new().start();
    let mut client = Client::connect(&server);
    let pings: Vec<u8> = (0..1000u32).flat_map(|index| frame(FIN | PING, &index.to_be_bytes())).collect();
    client.send(&pings);
    let mut last = None;
    while last != Some(999) {
        let pong = client.receive();
        assert_eq!(pong.opcode, PONG, "{pong:?}");
        let index = u32::from_be_bytes(pong.payload.try_into().expect("four bytes"));
        assert!(last.is_none_or(|last| last < index), "{index} after {last:?}");
        last = Some(index);
    }
    client.expect_nothing();
}

/// Sends the bytes and expects a close with this code, and then the end.
#[track_caller]
fn is_closed(server: &Server, what: &str, bytes: &[u8], code: u16) {
    let mut client = Client::connect(server);
    client.send(bytes);
    let found = client.receive();
    assert_eq!((found.opcode, found.close_code()), (CLOSE, Some(code)), "{what}: {found:?}");
    let rest = client.rest();
    assert!(rest.is_empty(), "{what}: after the close came {rest:?}");
}

#[test]
fn protocol_errors_close_with_1002() {
    let server = Setup::new().timeout("close = 0.2").start();
    let mut unmasked = header(FIN | TEXT, 2);
    unmasked.extend(b"hi");
    let long = |first: u8, bytes: &[u8]| [&[first][..], bytes, &[0; 4]].concat();
    let wrong = [
        ("unmasked", unmasked),
        ("RSV1", frame(FIN | 0x40 | TEXT, b"hi")),
        ("RSV2", frame(FIN | 0x20 | TEXT, b"hi")),
        ("RSV3", frame(FIN | 0x10 | TEXT, b"hi")),
        ("RSV1 in a ping", frame(FIN | 0x40 | PING, b"")),
        ("opcode 3", frame(FIN | 3, b"")),
        ("opcode 7", frame(FIN | 7, b"hi")),
        ("opcode 11", frame(FIN | 11, b"")),
        ("opcode 15", frame(FIN | 15, b"hi")),
        ("fragmented ping", frame(PING, b"hi")),
        ("fragmented close", frame(CLOSE, &[3, 232])),
        ("ping of 126", frame(FIN | PING, &[0; 126])),
        ("close of 126", frame(FIN | CLOSE, &[0; 126])),
        ("continuation without a start", frame(FIN, b"hi")),
        ("continuation without a start, not final", frame(0, b"hi")),
        ("text inside a message", [frame(TEXT, b"a"), frame(FIN | TEXT, b"b")].concat()),
        ("binary inside a message", [frame(TEXT, b"a"), frame(BINARY, b"b")].concat()),
        ("continuation after the end", [text("a"), frame(FIN, b"b")].concat()),
        ("16-bit length of 125", long(FIN | TEXT, &[0x80 | 126, 0, 125])),
        ("64-bit length of 65535", long(FIN | TEXT, &[0x80 | 127, 0, 0, 0, 0, 0, 0, 255, 255])),
        ("length 2^63", long(FIN | BINARY, &[0x80 | 127, 128, 0, 0, 0, 0, 0, 0, 0])),
        ("length of all ones", long(FIN | BINARY, &[255; 9])),
        ("close of one byte", frame(FIN | CLOSE, &[3])),
    ];
    for (what, bytes) in wrong {
        is_closed(&server, what, &bytes, 1002);
    }
}

#[test]
fn text_that_is_not_utf8_closes_with_1007_as_it_arrives() {
    let server = Setup::new().timeout("close = 0.2").start();
    let wrong: &[(&str, &[u8])] = &[
        ("stray continuation", b"a\x80"),
        ("overlong", b"\xc0\xaf"),
        ("overlong of three", b"\xe0\x80\xaf"),
        ("surrogate", b"\xed\xa0\x80"),
        ("beyond U+10FFFF", b"\xf4\x90\x80\x80"),
        ("0xff", b"\xff"),
        ("cut at the end", b"abc\xe2\x82"),
    ];
    for (what, bytes) in wrong {
        is_closed(&server, what, &frame(FIN | TEXT, bytes), 1007);
    }
    // The message never ends: it is judged by the bytes that are there.
    is_closed(&server, "in the first fragment", &frame(TEXT, b"a\xff"), 1007);
    is_closed(&server, "cut by a fragment", &[frame(TEXT, b"\xe2\x82"), frame(0, b"a")].concat(), 1007);
    is_closed(&server, "unfinished", &[frame(TEXT, b"\xe2\x82"), frame(FIN, b"")].concat(), 1007);
    let part = frame(FIN | TEXT, b"abcdefgh\xf4\x90\x80\x80ijkl");
    is_closed(&server, "in half a frame", &part[..part.len() - 4], 1007);
}

#[test]
fn characters_may_be_cut_between_fragments_and_binary_may_be_anything() {
    let server = echo_server();
    let mut client = Client::connect(&server);
    let text = "κόσμε € 𐍈";
    let bytes = text.as_bytes();
    for cut in 0..=bytes.len() {
        client.send(&[frame(TEXT, &bytes[..cut]), frame(FIN, &bytes[cut..])].concat());
        client.expect_text(text);
    }
    client.send(&frame(FIN | BINARY, b"\xff\xfe\x80"));
    client.expect(&Frame::binary(b"\xff\xfe\x80"));
}

#[test]
fn a_close_is_echoed_with_its_own_code() {
    let server = echo_server();
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        let mut client = Client::connect(&server);
        client.send(&close(code, "tschüß".as_bytes()));
        client.expect_close_code(code);
        client.expect_end();
    }
    let mut client = Client::connect(&server);
    client.send(&frame(FIN | CLOSE, b""));
    client.expect(&Frame::part(true, CLOSE, b""));
    client.expect_end();
}

#[test]
fn close_codes_that_may_not_be_sent_are_errors() {
    let server = Setup::new().timeout("close = 0.2").start();
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        is_closed(&server, &format!("code {code}"), &close(code, b""), 1002);
    }
    is_closed(&server, "reason", &close(1000, b"\xff"), 1007);
}

#[test]
fn after_a_close_nothing_is_answered() {
    let server = echo_server();
    let mut client = Client::connect(&server);
    client.send(&[text("before"), close(1000, b""), text("after"), frame(FIN | PING, b"x")].concat());
    client.expect_text("before");
    client.expect_close_code(1000);
    client.expect_end();
}

#[test]
fn a_message_over_the_limit_is_judged_by_its_header() {
    let server = Setup::new().echo().limit("message = 1000").timeout("close = 0.2").start();
    let mut client = Client::connect(&server);
    client.send(&frame(FIN | BINARY, &[7; 1000]));
    client.expect(&Frame::binary(&[7; 1000]));
    client.send(&[frame(BINARY, &[7; 500]), frame(FIN | PING, &[0; 100]), frame(FIN, &[7; 500])].concat());
    client.expect_pong(&[0; 100]);
    client.expect(&Frame::binary(&[7; 1000]));

    let headers = [
        ("in one frame", frame(FIN | BINARY, &[7; 1001])[..8].to_vec()),
        ("in two", [frame(BINARY, &[7; 1000]), frame(FIN, &[7])[..6].to_vec()].concat()),
        ("2^40 bytes", [&[FIN | BINARY, 255, 0, 0, 1, 0, 0, 0, 0, 0][..], &[0; 4]].concat()),
    ];
    for (what, bytes) in headers {
        let mut client = Client::connect(&server);
        client.send(&bytes);
        let found = client.receive();
        assert_eq!(
            (found.close_code(), &found.payload[2..]),
            (Some(1009), &b"buffer overflow"[..]),
            "{what}"
        );
        client.expect_end();
    }
}

#[test]
fn the_default_limit_is_64_kib() {
    let server = Setup::new().echo().timeout("close = 0.2").start();
    let mut client = Client::connect(&server);
    client.send(&frame(FIN | BINARY, &[1; 65_536]));
    client.expect(&Frame::binary(&[1; 65_536]));
    client.send(&frame(FIN | BINARY, &[1; 65_537])[..14]);
    client.expect_close(1009, "buffer overflow");
}

#[test]
fn what_clients_say_goes_where_the_configuration_says() {
    let server = Setup::new().start();
    let mut client = Client::connect(&server);
    client.send_text("dropped");
    client.expect_nothing();

    let server = Setup::new().top("on_message = \"broadcast\"").start();
    let (mut one, mut other) = (Client::connect(&server), Client::connect(&server));
    one.send_text("to all");
    one.expect_text("to all");
    other.expect_text("to all");
    other.send(&frame(FIN | BINARY, &[255]));
    one.expect(&Frame::binary(&[255]));

    let server = Setup::new().top("on_message = \"log\"").start();
    let mut client = Client::connect(&server);
    let before = server.log().len();
    client.send_text("never in a log");
    client.expect_nothing();
    crate::server::eventually("the message is logged", || server.log().len() > before);
    assert!(!server.log().contains("never in a log"), "a payload is in the log");
}
