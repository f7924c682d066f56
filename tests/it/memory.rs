//! `limits.queued`: no other client pays for the messages that a slow reader holds back, and the server counts them.

use crate::backend::{Backend, to};
use crate::client::{Client, Frame, frame};
#[cfg(feature = "tls")]
use crate::server::Address;
use crate::server::{Server, Setup, eventually};

/// Gives a client that does not read more than the kernel takes for it, so that the server keeps the rest.
fn fall_behind(backend: &mut Backend, client: &Client) {
    for _ in 0..3 {
        backend.to('d', &client.token, "s".repeat(200_000));
    }
    backend.done();
}

fn server(queued: &str) -> Server {
    Setup::new().limit(queued).limit("outbox = 1000000").timeout("stalled = 60").start()
}

#[test]
fn a_few_bytes_of_a_slow_reader_keep_nothing_of_others() {
    let server = server("queued = 4000000");
    let (slow, mut quick) = (Client::connect(&server), Client::connect(&server));
    let mut backend = Backend::connect(&server);
    fall_behind(&mut backend, &slow);
    let before = backend.status().number("queued_bytes");
    // Many times the limit goes to the quick one, and a little of it in between to the slow one.
    let large = Frame::text(&"q".repeat(60_000));
    for round in 0..400 {
        backend.to('d', &slow.token, format!("{round:0>20}"));
        backend.to('d', &quick.token, &large.payload);
        quick.expect(&large);
    }
    let status = backend.status();
    assert_eq!(status.number("overflows"), 0, "somebody was closed");
    let grown = status.number("queued_bytes") - before;
    assert!(grown < 40_000, "{grown} bytes are kept for 400 messages of 20 bytes");
}

/// Of a slow client that is closed the frame in flight is left; of enough of them that is more than the limit.
#[test]
fn readers_are_not_closed_for_those_who_hold_back_a_little_each() {
    let server = server("queued = 4000000");
    let mut backend = Backend::connect(&server);
    let slow: Vec<Client> = (0..100).map(|_| Client::connect(&server)).collect();
    let mut quick: Vec<Client> = (0..10).map(|_| Client::connect(&server)).collect();
    for client in &slow {
        for _ in 0..8 {
            backend.to('d', &client.token, "s".repeat(60_000));
        }
        backend.done();
    }
    let large = Frame::text(&"q".repeat(60_000));
    for _ in 0..20 {
        for client in &mut quick {
            backend.confirm('c', &client.token.clone(), &large.payload, 'A');
            client.expect(&large);
        }
    }
    let status = backend.status();
    assert!(status.number("overflows") > 0, "nobody was closed: the limit was not reached");
    assert!(status.number("queued_bytes") <= 4_000_000);
    quick.iter_mut().for_each(Client::expect_nothing);
}

/// Each range of an outbox takes memory beside the bytes it stands for.
#[test]
fn small_messages_that_nobody_reads_stay_within_the_limit() {
    let server = server("queued = 16000000");
    let mut backend = Backend::connect(&server);
    let slow: Vec<Client> = (0..30).map(|_| Client::connect(&server)).collect();
    slow.iter().for_each(|client| fall_behind(&mut backend, client));
    let before_kib = server.rss_kib();
    // To one after the other, so that what is for one is no neighbour of what is for the next.
    let round: Vec<u8> = slow.iter().flat_map(|client| to('d', &client.token, "x")).collect();
    for _ in 0..300 {
        backend.send(round.repeat(100));
    }
    backend.done();
    let status = backend.status();
    let grown_kib = server.rss_kib().saturating_sub(before_kib);
    assert!(status.number("queued_bytes") <= 16_000_000);
    assert_eq!(status.number("overflows"), 0, "somebody was closed for 90,000 bytes");
    assert!(grown_kib < 8000, "RSS grew by {grown_kib} KiB for 2.7 MB");
}

/// A client that was closed as too slow, and does not read that either, goes before any that is open.
#[test]
fn who_is_on_his_way_out_goes_first() {
    let server = Setup::new()
        .limit("queued = 3000000")
        .limit("outbox = 1000000")
        .timeout("stalled = 60")
        .timeout("close = 60")
        .start();
    let mut backend = Backend::connect(&server);
    let mut open = Client::connect(&server);
    fall_behind(&mut backend, &open);
    let leaving: Vec<Client> = (0..12).map(|_| Client::connect(&server)).collect();
    for client in &leaving {
        // The frame in flight is to be finished, although the rest is dropped.
        for _ in 0..3 {
            backend.to('d', &client.token, "l".repeat(900_000));
        }
        backend.done();
    }
    eventually("those on their way out are dropped", || server.log().contains("dropped reason=queued"));
    for _ in 0..3 {
        open.expect(&Frame::text(&"s".repeat(200_000)));
    }
    open.expect_nothing();
    assert!(backend.status().number("queued_bytes") <= 3_000_000 + 1_000_000);
}

/// Heads that are not complete, of connections without a login, go before messages of clients.
#[test]
fn what_is_begun_and_not_ended_stays_within_its_limit() {
    let server = Setup::new().limit("received = 1000000").limit("message = 64000").start();
    let mut backend = Backend::connect(&server);
    let mut genuine = Client::connect(&server);
    let before_kib = server.rss_kib();
    let strangers: Vec<_> = (0..300)
        .map(|_| {
            let mut socket = server.connect();
            socket.send(format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(7000)).as_bytes());
            socket
        })
        .collect();
    eventually("strangers are dropped", || !backend.status().numbers("received_full").is_empty());
    let clients: Vec<Client> = (0..40)
        .map(|_| {
            let mut client = Client::connect(&server);
            client.send(&frame(0x81, &[b'm'; 60_000])[..50_000]);
            client
        })
        .collect();
    eventually("clients are closed", || !backend.status().numbers("1013").is_empty());
    let grown_kib = server.rss_kib().saturating_sub(before_kib);
    assert!(grown_kib < 6000, "RSS grew by {grown_kib} KiB");
    backend.confirm('c', &genuine.token.clone(), "still here", 'A');
    genuine.expect_text("still here");
    drop((strangers, clients));
}

/// A ClientHello may be 48 KiB long and comes before any login.
#[cfg(feature = "tls")]
#[test]
fn client_hellos_that_do_not_end_stay_within_the_limit() {
    let server = Setup::new().tls("curve").limit("received = 1000000").start();
    let mut backend = Backend::connect(&server);
    let before_kib = server.rss_kib();
    let address = server.endpoints.iter().find(|address| matches!(address, Address::Tls(_)));
    let address = address.expect("a TLS listener");
    // Two whole records of a message that announces 48,000 bytes.
    let mut hello = vec![22, 3, 1, 0x3f, 0xff, 1, 0, 0xbb, 0x80, 3, 3];
    hello.resize(5 + 0x3fff, 0);
    hello.extend([22, 3, 1, 0x3f, 0xff]);
    hello.resize(2 * (5 + 0x3fff), 0);
    let strangers: Vec<_> = (0..100)
        .map(|_| {
            let mut socket = address.connect().expect("it accepts");
            socket.send(&hello);
            socket
        })
        .collect();
    eventually("strangers are dropped", || !backend.status().numbers("received_full").is_empty());
    backend.done();
    let grown_kib = server.rss_kib().saturating_sub(before_kib);
    assert!(grown_kib < 4000, "RSS grew by {grown_kib} KiB");
    drop(strangers);
}
