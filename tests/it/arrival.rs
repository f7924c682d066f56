//! docs/resume.md, "Arrival": `v`, the pongs that prove it, and those that do not.

use crate::backend::{Backend, command};
use crate::client::{Client, Frame, PING, PONG, TEXT, frame, header};
use crate::server::{Server, Setup, eventually};
use std::io::Read;
use std::time::Instant;

/// The message and the ping behind it, which is given back.
#[track_caller]
fn expect_message(client: &mut Client, text: &str) -> Vec<u8> {
    client.expect_text(text);
    let ping = client.receive();
    assert_eq!((ping.opcode, ping.payload.len()), (PING, 8), "{ping:?}");
    ping.payload
}

fn pong(client: &mut Client, payload: &[u8]) {
    client.send(&frame(0x80 | PONG, payload));
}

/// The answer without its milliseconds, and these.
#[track_caller]
fn proved(backend: &mut Backend) -> (String, u64) {
    let (letter, json) = backend.receive();
    assert_eq!(letter, 'V', "{json}");
    let (head, ms) = json.split_once(",\"ms\":").unwrap_or_else(|| panic!("no ms in {json}"));
    (format!("{head}}}"), ms.trim_end_matches('}').parse().expect("milliseconds"))
}

#[track_caller]
fn expect_proof(backend: &mut Backend, id: &str, connections: usize, arrived: usize) {
    let expected = format!(
        r#"{{"id":"{id}","connections":{connections},"away":0,"absent":[],"refused":0,"arrived":{arrived}}}"#
    );
    assert_eq!(proved(backend).0, expected);
}

fn started() -> (Server, Backend) {
    let server = Setup::new().start();
    let backend = Backend::connect(&server);
    (server, backend)
}

#[test]
fn the_answer_comes_when_the_browsers_have_it() {
    let (server, mut backend) = started();
    let (mut one, mut two) = (Client::connect(&server), Client::connect(&server));
    backend.command('v', format!("job-1 t:{},t:{} hello", one.token, two.token));
    // Other answers do not wait for it.
    backend.done();
    let ping = expect_message(&mut one, "hello");
    assert_eq!(expect_message(&mut two, "hello"), ping, "it is encoded once");
    pong(&mut one, &ping);
    one.expect_nothing();
    backend.done();
    pong(&mut two, &ping);
    expect_proof(&mut backend, "job-1", 2, 2);
    backend.command('V', format!("b t:{} \u{0}\u{1}", one.token));
    one.expect(&Frame::binary(b"\x00\x01"));
    let ping = one.receive();
    pong(&mut one, &ping.payload);
    expect_proof(&mut backend, "b", 1, 1);
    assert_eq!(backend.status().number("arrived"), 3);
}

/// One `send` for both: they are there together, however little is read.
#[test]
fn the_ping_leaves_with_the_message() {
    let (server, mut backend) = started();
    let mut client = Client::connect(&server);
    backend.command('v', format!("1 t:{} hello", client.token));
    let expected = [&header(0x80 | TEXT, 5)[..], b"hello", &header(0x80 | PING, 8)].concat();
    let mut bytes = vec![0; 4096];
    let count = client.socket.read(&mut bytes).expect("both come");
    assert_eq!((&bytes[..expected.len()], count), (&expected[..], expected.len() + 8));
}

#[test]
fn a_pong_covers_the_pings_before_it() {
    let (server, mut backend) = started();
    let mut client = Client::connect(&server);
    for id in ["first", "second", "third"] {
        backend.command('v', format!("{id} t:{} {id}", client.token));
    }
    let pings = ["first", "second", "third"].map(|text| expect_message(&mut client, text));
    pong(&mut client, &pings[1]);
    expect_proof(&mut backend, "first", 1, 1);
    expect_proof(&mut backend, "second", 1, 1);
    pong(&mut client, &pings[2]);
    expect_proof(&mut backend, "third", 1, 1);
}

#[test]
fn pongs_that_answer_nothing_prove_nothing() {
    let (server, mut backend) = started();
    let mut client = Client::connect(&server);
    let mut other = Client::connect(&server);
    backend.command('v', format!("1 t:{} hello", client.token));
    let ping = expect_message(&mut client, "hello");
    let number = u64::from_be_bytes(ping.clone().try_into().expect("eight bytes"));
    let long = [&ping[..], b"x"].concat();
    let others = [&b""[..], b"hello", &ping[..7], &long, &[0; 8], &[0xFF; 8]];
    let next = (number + 1).to_be_bytes();
    for payload in others.into_iter().chain([&next[..]]) {
        pong(&mut client, payload);
    }
    pong(&mut other, &ping); // it was not asked
    client.expect_nothing();
    other.expect_nothing();
    backend.done();
    assert_eq!(backend.status().number("arrived"), 0);
    pong(&mut client, &ping);
    pong(&mut client, &ping);
    expect_proof(&mut backend, "1", 1, 1);
    client.expect_nothing();
    assert_eq!(backend.status().number("arrived"), 1, "a pong that comes again counts once");
}

#[test]
fn who_goes_is_not_waited_for() {
    let (server, mut backend) = started();
    let (mut stays, leaves) = (Client::connect(&server), Client::connect(&server));
    let (kicked, mut alone) = (Client::connect(&server), Client::connect(&server));
    let all = [&stays, &leaves, &kicked].map(|client| format!("t:{}", client.token)).join(",");
    backend.command('v', format!("1 {all} hello"));
    backend.command('v', format!("2 t:{} hello", alone.token));
    let ping = expect_message(&mut stays, "hello");
    pong(&mut stays, &ping);
    drop(leaves);
    backend.command('k', format!("t:{}", kicked.token));
    let mut answers = [backend.receive(), backend.receive()];
    answers.sort();
    assert_eq!(answers[0], ('K', r#"{"connections":1}"#.to_owned()));
    assert!(
        answers[1].1.starts_with(r#"{"id":"1","connections":3,"away":0,"absent":[],"refused":0,"arrived":1"#)
    );
    expect_message(&mut alone, "hello");
    drop(alone);
    expect_proof(&mut backend, "2", 1, 0);
}

#[test]
fn nothing_sent_is_answered_at_once() {
    let (server, mut backend) = started();
    let mut client = Client::connect(&server);
    backend.command('v', "1 u:44,g:room hello");
    let absent =
        r#"{"id":"1","connections":0,"away":0,"absent":["u:44","g:room"],"refused":0,"arrived":0,"ms":0}"#;
    backend.expect('V', absent);
    backend.command('v', format!("2 t:{} ", client.token));
    backend.expect('V', r#"{"id":"2","connections":1,"away":0,"absent":[],"refused":0,"arrived":0,"ms":0}"#);
    client.expect_nothing();
    backend.command('v', "a/b u: hello");
    backend.expect('V', r#"{"id":"a/b","error":"byte 2 of the list: a user has no name"}"#);
}

#[test]
fn what_can_not_be_understood_is_told_under_its_id() {
    let (_server, mut backend) = started();
    for (payload, id) in [("7 t:abc", "7"), ("7", "7"), ("7 x:1 hi", "7"), ("7 * \u{e9}", "")] {
        match id {
            "" => backend.command('v', [&payload.as_bytes()[..4], b"\xff"].concat()),
            _ => backend.command('v', payload),
        }
        let (letter, json) = backend.receive();
        assert!(letter == 'V' && json.starts_with(r#"{"id":"7","error":""#), "{json}");
    }
    for payload in ["", " * hi", "no\"id * hi"] {
        backend.command('v', payload);
        let (letter, json) = backend.receive();
        assert!(letter == 'V' && json.starts_with(r#"{"error":""#), "{json}");
    }
    backend.done();
}

#[test]
fn a_browser_that_never_answers_is_waited_for_so_long() {
    let server = Setup::new().timeout("arrival = 0.3").start();
    let mut backend = Backend::connect(&server);
    let (mut one, mut two) = (Client::connect(&server), Client::connect(&server));
    backend.command('v', "1 * hello");
    let ping = expect_message(&mut one, "hello");
    pong(&mut one, &ping);
    expect_proof(&mut backend, "1", 2, 1);
    // It is too late now, and the connection goes on as before.
    let ping = expect_message(&mut two, "hello");
    pong(&mut two, &ping);
    two.expect_nothing();
    assert_eq!(backend.status().number("arrived"), 1);
    backend.command('v', format!("2 t:{} again", two.token));
    let ping = expect_message(&mut two, "again");
    pong(&mut two, &ping);
    expect_proof(&mut backend, "2", 1, 1);
}

/// As a script does: write, shut down, read.
#[test]
fn a_backend_that_has_said_all_gets_its_answer() {
    let (server, mut backend) = started();
    let mut client = Client::connect(&server);
    backend.send([command('v', format!("1 t:{} hello", client.token)), command('q', "")].concat());
    backend.socket.finish();
    let ping = expect_message(&mut client, "hello");
    client.expect_nothing();
    pong(&mut client, &ping);
    expect_proof(&mut backend, "1", 1, 1);
    backend.expect_end();
    // One that does not wait for it leaves nothing behind.
    let mut gone = Backend::connect(&server);
    gone.command('v', format!("1 t:{} hello", client.token));
    let ping = expect_message(&mut client, "hello");
    drop(gone);
    pong(&mut client, &ping);
    client.expect_nothing();
}

#[test]
fn a_message_behind_a_lock_is_proved_when_it_is_there() {
    let (server, mut backend) = started();
    let mut client = Client::connect(&server);
    let mut locker = Backend::connect(&server);
    locker.confirm('l', &client.token, "", 'A');
    locker.fragment('f', "one", 'a');
    backend.command('v', format!("1 t:{} hello", client.token));
    backend.done();
    client.expect(&Frame::part(false, TEXT, b"one"));
    client.expect_nothing();
    locker.fragment('s', "two", 'a');
    client.expect(&Frame::part(true, 0, b"two"));
    let ping = expect_message(&mut client, "hello");
    pong(&mut client, &ping);
    expect_proof(&mut backend, "1", 1, 1);
}

/// What is waited for counts as answers that are not read: the backend has to wait.
#[test]
fn a_backend_can_not_ask_for_more_than_its_bound() {
    let server = Setup::new().limit("control_outbox = \"16 KiB\"").timeout("arrival = 0.5").start();
    let mut client = Client::connect(&server);
    let mut backend = Backend::connect(&server);
    for number in 0..200 {
        backend.command('v', format!("{number} t:{} {number}", client.token));
    }
    let (begin, mut pings) = (Instant::now(), 0);
    eventually("some are sent", || {
        pings += client.so_far().iter().filter(|frame| frame.opcode == PING).count();
        pings >= 10
    });
    pings += client.so_far().iter().filter(|frame| frame.opcode == PING).count();
    // On a busy machine some are given up by now, and others waited for.
    let rounds = 1 + begin.elapsed().as_millis() as usize / 500;
    assert!((10..100 * rounds).contains(&pings), "{pings} are waited for at once");
    for number in 0..200 {
        expect_proof(&mut backend, &number.to_string(), 1, 0);
    }
}
