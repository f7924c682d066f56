//! endpoint.md, "Limits and timers": pings, dead peers, stopped readers, close handshakes that do not end.
//!
//! Lower bounds are exact up to the clock's grain; upper bounds are loose, for machines that do much else.

use crate::backend::Backend;
use crate::client::{CLOSE, Client, PING, PONG, close, frame, text};
use crate::server::{Setup, eventually};
use std::time::{Duration, Instant};

const GRAIN: Duration = Duration::from_millis(15);

#[track_caller]
fn at_least(begin: Instant, ms: u64) {
    let (found, least) = (begin.elapsed(), Duration::from_millis(ms));
    assert!(found + GRAIN >= least, "after {found:?}, before {least:?}");
    assert!(found < least + Duration::from_secs(10), "after {found:?}, long after {least:?}");
}

#[test]
fn a_silent_client_is_pinged_and_stays_while_it_answers() {
    let server = Setup::new().timeout("idle = 0.2").timeout("pong = 0.2").start();
    let mut begin = Instant::now();
    let mut client = Client::connect(&server);
    for _ in 0..5 {
        let ping = client.receive();
        assert_eq!((ping.fin, ping.opcode), (true, PING), "{ping:?}");
        at_least(begin, 200);
        begin = Instant::now();
        client.send(&frame(0x80 | PONG, &ping.payload));
    }
}

#[test]
fn whatever_a_client_sends_counts_as_life() {
    let server = Setup::new().timeout("idle = 0.2").timeout("pong = 0.2").start();
    let mut client = Client::connect(&server);
    // Not one pong is sent: a text after each ping is as good.
    for _ in 0..5 {
        assert_eq!(client.receive().opcode, PING);
        client.send(&text("here"));
    }
    client.send(&close(1000, b""));
    let frames = client.rest();
    assert_eq!(frames.iter().filter(|frame| frame.opcode == CLOSE).count(), 1, "{frames:?}");
}

#[test]
fn a_dead_client_is_closed() {
    let server = Setup::new().timeout("idle = 0.2").timeout("pong = 0.3").timeout("close = 0.2").start();
    let begin = Instant::now();
    let mut client = Client::connect(&server);
    assert_eq!(client.receive().opcode, PING);
    let rest = client.rest();
    assert!(rest.iter().all(|frame| frame.opcode == CLOSE), "{rest:?}");
    at_least(begin, 500);
    eventually("the log says why", || server.log().contains("info dropped reason=silent peer="));
}

#[test]
fn what_the_server_sends_does_not_keep_a_client_alive() {
    let server = Setup::new().timeout("idle = 0.3").timeout("pong = 0.3").timeout("close = 0.2").start();
    let mut client = Client::connect(&server);
    let mut backend = Backend::connect(&server);
    eventually("the silent client is closed", || {
        backend.send("4btick");
        backend.status().number("clients") == 0
    });
    assert!(client.rest().iter().any(|frame| frame.opcode == PING), "closed without a ping");
}

#[test]
fn a_reader_that_stopped_is_closed() {
    let server = Setup::new().timeout("stalled = 0.3").limit("outbox = 64000000").start();
    let mut stopped = Client::connect(&server);
    let mut backend = Backend::connect(&server);
    let begin = Instant::now();
    // More than the kernel takes for a Unix socket.
    for _ in 0..4 {
        backend.to('d', &stopped.token, "x".repeat(1_000_000));
    }
    eventually("the stopped reader is closed", || backend.status().number("clients") == 0);
    at_least(begin, 300);
    assert_eq!(backend.status().number("queued_bytes"), 0, "its messages are still held");
    // Bytes that the kernel had taken may still arrive; the connection then ends, perhaps inside a frame.
    let mut bytes = Vec::new();
    let _ = std::io::Read::read_to_end(&mut stopped.socket, &mut bytes);
    assert!(bytes.len() < 4_000_000);
}

#[test]
fn a_slow_reader_is_not_a_stopped_one() {
    let server = Setup::new().timeout("stalled = 0.6").limit("outbox = 64000000").start();
    let mut slow = Client::connect(&server);
    let mut backend = Backend::connect(&server);
    let count = 30;
    for _ in 0..count {
        backend.to('d', &slow.token, "x".repeat(500_000));
    }
    backend.done();
    for _ in 0..count {
        // Three times the timeout in all, but something moves all the time.
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(slow.receive().payload.len(), 500_000);
    }
    slow.expect_nothing();
}

#[test]
fn a_close_that_is_not_answered_ends_the_connection() {
    let server = Setup::new().timeout("close = 0.3").start();
    let mut client = Client::connect(&server);
    let begin = Instant::now();
    client.send(&frame(0x80 | 3, b""));
    client.expect_close_code(1002);
    client.expect_end();
    assert!(begin.elapsed() < Duration::from_secs(10));
    let mut backend = Backend::connect(&server);
    eventually("its place is free", || backend.status().number("clients") == 0);
}

#[test]
fn a_client_that_vanishes_leaves_nothing() {
    let server = Setup::new().start();
    let mut backend = Backend::connect(&server);
    let before = backend.status().number("fds");
    for _ in 0..50 {
        drop(Client::connect(&server));
        drop(server.connect());
    }
    eventually("every descriptor is back", || {
        let status = backend.status();
        status.number("clients") == 0 && status.number("fds") <= before
    });
}
