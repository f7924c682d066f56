//! COMMANDS.md, "Rules" and what follows: fragmented messages, messages held meanwhile, and lost sources.

use crate::backend::Backend;
use crate::client::{BINARY, Client, Cookies, Frame, PING, TEXT, close, frame, fresh_token};
use crate::server::{Server, Setup, eventually};

const FIRST: Frame = Frame { fin: false, opcode: TEXT, payload: Vec::new() };

fn part(fin: bool, opcode: u8, payload: &str) -> Frame {
    Frame { payload: payload.into(), fin, ..Frame { opcode, ..FIRST } }
}

fn one_each() -> (Server, Client, Backend) {
    let server = Setup::new().start();
    let client = Client::connect(&server);
    let backend = Backend::connect(&server);
    (server, client, backend)
}

#[test]
fn a_message_goes_out_fragment_by_fragment() {
    let (_server, mut client, mut backend) = one_each();
    let token = client.token.clone();
    for (first, next, last, opcode) in
        [('f', 'i', 's', TEXT), ('F', 'I', 'S', BINARY), ('f', 'I', 'S', TEXT), ('F', 'i', 's', BINARY)]
    {
        backend.confirm('l', &token, "", 'A');
        backend.fragment(first, "one", 'a');
        client.expect(&part(false, opcode, "one"));
        backend.fragment(next, "two", 'a');
        client.expect(&part(false, 0, "two"));
        backend.fragment(next, "", 'a');
        client.expect(&part(false, 0, ""));
        backend.fragment(last, "three", 'a');
        client.expect(&part(true, 0, "three"));
    }
    backend.confirm('c', &token, "unlocked", 'A');
    client.expect_text("unlocked");
}

#[test]
fn a_last_fragment_sent_first_is_a_whole_message() {
    let (_server, mut client, mut backend) = one_each();
    let token = client.token.clone();
    backend.confirm('l', &token, "", 'A');
    backend.fragment('s', "text", 'a');
    client.expect_text("text");
    backend.confirm('l', &token, "", 'A');
    backend.fragment('S', [255], 'a');
    client.expect(&Frame::binary(&[255]));
    backend.fragment('s', "no lock any more", 'n');
    client.expect_nothing();
}

#[test]
fn fragments_out_of_order_are_not_sent_and_change_nothing() {
    let (_server, mut client, mut backend) = one_each();
    let token = client.token.clone();
    for letter in ['f', 'F', 'i', 'I', 's', 'S'] {
        backend.fragment(letter, "no lock", 'n');
    }
    backend.confirm('l', &token, "", 'A');
    backend.fragment('i', "not first", 'n');
    backend.fragment('I', "not first", 'n');
    backend.fragment('f', "one", 'a');
    backend.fragment('f', "twice", 'n');
    backend.fragment('F', "twice", 'n');
    backend.fragment('s', "two", 'a');
    client.expect(&part(false, TEXT, "one"));
    client.expect(&part(true, 0, "two"));
    client.expect_nothing();
}

#[test]
fn who_is_not_there_or_locked_already_cannot_be_locked() {
    let (server, mut client, mut backend) = one_each();
    let token = client.token.clone();
    backend.confirm('l', &fresh_token(), "", 'N');
    backend.confirm('l', &token, "", 'A');
    let mut other = Backend::connect(&server);
    other.confirm('l', &token, "", 'N');
    other.fragment('s', "not mine", 'n');
    // A backend holds one lock at a time; a second leaves the first as it was.
    let second = Client::connect(&server);
    backend.confirm('l', &second.token, "", 'N');
    backend.confirm('l', &token, "", 'N');
    backend.fragment('s', "mine", 'a');
    client.expect_text("mine");
    client.expect_nothing();
    other.confirm('l', &token, "", 'A');
    other.fragment('s', "now mine", 'a');
    client.expect_text("now mine");
}

#[test]
fn a_lock_takes_all_connections_of_a_token_or_none() {
    let server = Setup::new().start();
    let cookies = Cookies::fresh();
    let (mut one, mut two) = (Client::with(&server, &cookies), Client::with(&server, &cookies));
    let (mut backend, mut other) = (Backend::connect(&server), Backend::connect(&server));
    backend.confirm('l', &cookies.token, "", 'A');
    backend.fragment('f', "a", 'a');
    // A third connection comes unlocked; the token cannot be locked again while the others are.
    let mut three = Client::with(&server, &cookies);
    other.confirm('l', &cookies.token, "", 'N');
    other.confirm('c', &cookies.token, "direct", 'A');
    three.expect_text("direct");
    backend.fragment('s', "b", 'a');
    for client in [&mut one, &mut two] {
        client.expect(&part(false, TEXT, "a"));
        client.expect(&part(true, 0, "b"));
        client.expect_text("direct");
        client.expect_nothing();
    }
    three.expect_nothing();
}

#[test]
fn what_comes_during_a_lock_is_held_in_order() {
    let (server, mut client, mut backend) = one_each();
    let mut bystander = Client::connect(&server);
    let mut other = Backend::connect(&server);
    let token = client.token.clone();
    backend.confirm('l', &token, "", 'A');
    other.send("3bone");
    backend.fragment('f', "f", 'a');
    other.to('d', &token, "two");
    other.confirm('c', &token, "three", 'A');
    other.confirm('c', &token, "", 'A');
    other.send("4Bfour");
    other.done();
    backend.to('d', &token, "own");
    backend.fragment('i', "i", 'a');
    backend.done();
    client.expect(&part(false, TEXT, "f"));
    client.expect(&part(false, 0, "i"));
    // Control frames may pass: the pong does, and nothing else has come.
    client.expect_nothing();
    bystander.expect_text("one");
    bystander.expect(&Frame::binary(b"four"));
    backend.fragment('s', "s", 'a');
    client.expect(&part(true, 0, "s"));
    for text in ["one", "two", "three"] {
        client.expect_text(text);
    }
    client.expect(&Frame::binary(b"four"));
    client.expect_text("own");
    client.expect_nothing();
}

#[test]
fn text_is_checked_across_fragments() {
    let (_server, mut client, mut backend) = one_each();
    let token = client.token.clone();
    backend.confirm('l', &token, "", 'A');
    backend.fragment('f', b"\xff", 'n');
    backend.fragment('f', b"a\xe2", 'a');
    backend.fragment('i', b"\x82", 'a');
    backend.fragment('i', b"a", 'n');
    backend.fragment('s', b"", 'n');
    backend.fragment('s', b"\xac!", 'a');
    let parts: Vec<u8> = (0..3).flat_map(|_| client.receive().payload).collect();
    assert_eq!(String::from_utf8_lossy(&parts), "a€!");
    client.expect_nothing();

    backend.confirm('l', &token, "", 'A');
    backend.fragment('s', b"cut \xe2\x82", 'n');
    backend.fragment('F', b"\xff", 'a');
    backend.fragment('i', b"\xe2", 'a');
    backend.fragment('s', b"\x80", 'a');
    let parts: Vec<u8> = (0..3).flat_map(|_| client.receive().payload).collect();
    assert_eq!(parts, b"\xff\xe2\x80");
}

#[test]
fn a_source_that_leaves_before_the_first_fragment_only_unlocks() {
    let (server, mut client, mut backend) = one_each();
    let mut other = Backend::connect(&server);
    let token = client.token.clone();
    for leave in ["0q", ""] {
        backend.confirm('l', &token, "", 'A');
        other.confirm('c', &token, "held", 'A');
        client.expect_nothing();
        backend.send(leave);
        drop(std::mem::replace(&mut backend, Backend::connect(&server)));
        client.expect_text("held");
        client.expect_nothing();
    }
    backend.confirm('l', &token, "", 'A');
}

#[test]
fn a_source_that_is_lost_inside_a_message_closes_the_client() {
    let server = Setup::new().timeout("close = 0.3").start();
    for leave in ["0q", "", "0x"] {
        let mut client = Client::connect(&server);
        let mut backend = Backend::connect(&server);
        backend.confirm('l', &client.token, "", 'A');
        backend.fragment('f', "begun", 'a');
        backend.send(leave);
        drop(backend);
        client.expect(&part(false, TEXT, "begun"));
        client.expect_close(1011, "framesource lost");
        client.expect_end();
    }
}

#[test]
fn a_silent_source_loses_its_lock() {
    let server = Setup::new().timeout("lock = 0.3").timeout("close = 0.3").start();
    let mut backend = Backend::connect(&server);
    let mut client = Client::connect(&server);
    let token = client.token.clone();
    let mut other = Backend::connect(&server);
    backend.confirm('l', &token, "", 'A');
    other.confirm('c', &token, "held", 'A');
    client.expect_text("held");
    backend.fragment('f', "too late", 'n');

    backend.confirm('l', &token, "", 'A');
    backend.fragment('f', "begun", 'a');
    client.expect(&part(false, TEXT, "begun"));
    client.expect_close(1011, "framesource lost");
    client.expect_end();
    backend.fragment('i', "too late", 'n');
    let another = Client::connect(&server);
    backend.confirm('l', &another.token, "", 'A');
    for begun in [false, true] {
        let line = format!("info lock_lost clients=1 begun={begun}");
        assert!(server.log().contains(&line), "{line} is not in {}", server.log());
    }
}

#[test]
fn each_fragment_buys_time() {
    let server = Setup::new().timeout("lock = 0.5").start();
    let mut backend = Backend::connect(&server);
    let mut client = Client::connect(&server);
    backend.confirm('l', &client.token.clone(), "", 'A');
    backend.fragment('f', "0", 'a');
    client.receive();
    for _ in 0..8 {
        // Longer than the timeout in all; each silence is shorter.
        std::thread::sleep(std::time::Duration::from_millis(100));
        backend.fragment('i', "x", 'a');
        client.expect(&part(false, 0, "x"));
    }
    backend.fragment('s', "!", 'a');
    client.expect(&part(true, 0, "!"));
}

#[test]
fn a_lock_ends_with_the_last_locked_connection() {
    let (server, client, mut backend) = one_each();
    let cookies = Cookies::fresh();
    let (mut one, two) = (Client::with(&server, &cookies), Client::with(&server, &cookies));
    backend.confirm('l', &cookies.token, "", 'A');
    backend.fragment('f', "a", 'a');
    drop(two);
    eventually("one of the two is gone", || backend.status().number("clients") == 2);
    backend.fragment('i', "b", 'a');
    one.expect(&part(false, TEXT, "a"));
    one.expect(&part(false, 0, "b"));
    one.send(&close(1000, b""));
    one.expect_close_code(1000);
    one.expect_end();
    backend.fragment('i', "c", 'n');
    backend.confirm('l', &client.token, "", 'A');
    assert_eq!(backend.status().number("locks"), 1);
}

#[test]
fn a_locked_client_may_talk_and_is_answered() {
    let server = Setup::new().echo().start();
    let mut client = Client::connect(&server);
    let mut backend = Backend::connect(&server);
    backend.confirm('l', &client.token.clone(), "", 'A');
    backend.fragment('f', "f", 'a');
    client.send(&[crate::client::text("echo"), frame(0x80 | PING, b"p")].concat());
    client.expect(&part(false, TEXT, "f"));
    client.expect_pong(b"p");
    backend.fragment('s', "s", 'a');
    client.expect(&part(true, 0, "s"));
    client.expect_text("echo");
}

#[test]
fn pipelined_fragments_keep_their_order() {
    let (_server, mut client, mut backend) = one_each();
    let token = client.token.clone();
    let one = format!("32l{token}1f(1ix1iy1s)34c{token}OK");
    backend.send(one.repeat(200));
    for _ in 0..200 {
        backend.expect('A', &token);
        (0..4).for_each(|_| backend.expect('a', ""));
        backend.expect('A', &token);
    }
    for _ in 0..200 {
        let frames: Vec<Frame> = (0..5).map(|_| client.receive()).collect();
        let expected = [
            part(false, TEXT, "("),
            part(false, 0, "x"),
            part(false, 0, "y"),
            part(true, 0, ")"),
            Frame::text("OK"),
        ];
        assert_eq!(frames, expected);
    }
}
