//! endpoint.md, "Limits and timers": how many clients may come, and how many bytes may wait for one.

use crate::backend::{Backend, command};
use crate::client::{
    CLOSE, Client, Cookies, Frame, Head, close, fresh_token, hex, now, read_refusal, refusal,
};
use crate::server::{SECRET, Server, Setup, eventually};
use md5::{Digest, Md5};

#[test]
fn connections_of_one_token_are_counted() {
    let server = Setup::new().limit("connections_per_token = 2").start();
    let cookies = Cookies::fresh();
    let mut first = Client::with(&server, &cookies);
    let second = Client::with(&server, &cookies);
    let response = refusal(&server, &Head::good(&cookies).bytes());
    assert_eq!((response.status, response.field("Retry-After")), (429, Some("15")), "{response:?}");
    Client::connect(&server).expect_nothing();
    // A place that becomes free can be taken again, however the connection ended.
    first.send(&close(1000, b""));
    first.expect_close_code(1000);
    first.expect_end();
    drop(second);
    let mut again = Vec::new();
    eventually("both places are free", || {
        let mut client = Client::raw(server.connect(), &cookies.token);
        client.send(&Head::good(&cookies).bytes());
        again.push(client);
        connections(&server, &cookies.token) == 2
    });
}

/// How many open connections a token has, counted by what arrives.
fn connections(server: &Server, token: &str) -> usize {
    let mut backend = Backend::connect(server);
    let before = backend.status().number("messages_out");
    backend.to('d', token, "count");
    usize::try_from(backend.status().number("messages_out") - before).expect("a small number")
}

#[test]
fn the_default_is_five_connections_per_token() {
    let server = Setup::new().start();
    let cookies = Cookies::fresh();
    let _open: Vec<Client> = (0..5).map(|_| Client::with(&server, &cookies)).collect();
    assert_eq!(refusal(&server, &Head::good(&cookies).bytes()).status, 429);
}

#[test]
fn a_wrong_digest_does_not_tell_that_a_token_is_full() {
    let server = Setup::new().limit("connections_per_token = 1").start();
    let cookies = Cookies::fresh();
    let _open = Client::with(&server, &cookies);
    let wrong = Cookies { digest: "0".repeat(32), ..cookies };
    assert_eq!(refusal(&server, &Head::good(&wrong).bytes()).status, 403);
}

#[test]
fn connections_of_one_user_are_counted_across_tokens() {
    let server = Setup::new().auth("identity = \"user\"").limit("connections_per_user = 2").start();
    let cookies = |user: &str| {
        let (token, time) = (fresh_token(), now().to_string());
        let digest = hex(&Md5::digest(format!("{SECRET}{user}{token}{time}")));
        Cookies { token, time, digest, user: Some(user.to_owned()) }
    };
    let _one = Client::with(&server, &cookies("ann"));
    let _two = Client::with(&server, &cookies("ann"));
    let response = refusal(&server, &Head::good(&cookies("ann")).bytes());
    assert_eq!((response.status, response.field("Retry-After")), (429, Some("15")), "{response:?}");
    Client::with(&server, &cookies("bob")).expect_nothing();
}

#[test]
fn a_full_server_says_so() {
    let server = Setup::new().limit("clients = 3").limit("unauthenticated = 3").start();
    let mut open: Vec<Client> = (0..3).map(|_| Client::connect(&server)).collect();
    let response = refusal(&server, &Head::good(&Cookies::fresh()).bytes());
    assert_eq!(response.status, 503, "{response:?}");
    assert!(response.field("Retry-After").is_some(), "{response:?}");
    open.iter_mut().for_each(Client::expect_nothing);
    let mut gone = open.pop().expect("three are open");
    gone.send(&close(1000, b""));
    gone.expect_close_code(1000);
    gone.expect_end();
    Client::connect(&server).expect_nothing();
}

#[test]
fn of_the_silent_the_oldest_goes_first() {
    let server = Setup::new().limit("unauthenticated = 3").start();
    let mut guest = Client::connect(&server);
    let mut silent: Vec<_> = (0..5).map(|_| server.connect()).collect();
    for old in &mut silent[..2] {
        assert_eq!(String::from_utf8_lossy(&old.read_all()), "", "dropped, not answered");
    }
    for young in &mut silent[2..] {
        young.send(b"no HTTP\r\n\r\n");
        assert_eq!(read_refusal(young).status, 400);
    }
    guest.expect_nothing();
}

#[test]
fn clients_come_from_the_limit_of_descriptors() {
    let server = Setup::new().descriptors(100).start();
    let mut open: Vec<Client> = (0..36).map(|_| Client::connect(&server)).collect();
    assert_eq!(refusal(&server, &Head::good(&Cookies::fresh()).bytes()).status, 503);
    open.iter_mut().for_each(Client::expect_nothing);
    Backend::connect(&server).done();
}

#[test]
fn with_few_descriptors_who_waits_is_served_when_one_is_free() {
    let server = Setup::new().descriptors(64).timeout("idle = 3600").start();
    let open: Vec<Client> = (0..21).map(|_| Client::connect(&server)).collect();
    // More than there are descriptors: some are in the backlog, and cost nothing while they wait.
    let silent: Vec<_> = (0..60).map(|_| server.connect()).collect();
    let mut backend = Backend::connect(&server);
    let before = server.cpu_ticks();
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(server.cpu_ticks() - before <= 5, "{} ticks of a second", server.cpu_ticks() - before);
    drop((open, silent));
    eventually("the dead are gone", || backend.status().number("clients") == 0);
    let mut client = Client::connect(&server);
    backend.send("2bhi");
    client.expect_text("hi");
}

#[test]
fn the_memory_of_a_backlog_goes_back_to_the_system() {
    let server = Setup::new().timeout("idle = 3600").start();
    let stopped: Vec<Client> = (0..40).map(|_| Client::connect(&server)).collect();
    let mut backend = Backend::connect(&server);
    backend.done();
    let before = server.rss_kib();
    for client in stopped.iter().cycle().take(40 * 12) {
        backend.to('d', &client.token, "x".repeat(80_000));
    }
    backend.done();
    assert!(server.rss_kib() > before + 10_000, "too little waits to tell anything");
    drop(stopped);
    eventually("they are gone", || backend.status().number("clients") == 0);
    eventually("their memory is gone, too", || server.rss_kib() < before + 1024);
}

#[test]
fn a_slow_consumer_gets_whole_frames_and_1013() {
    let server = Setup::new().limit("message = 1024").limit("outbox = 500000").timeout("idle = 3600").start();
    let (mut slow, mut quick) = (Client::connect(&server), Client::connect(&server));
    let mut backend = Backend::connect(&server);
    let mut sent = Vec::new();
    // The kernel takes its share before anything waits in the server; TCP would take tens of megabytes.
    while backend.status().number("overflows") == 0 {
        assert!(sent.len() < 1000, "nothing was held back: is the outbox without a bound?");
        let message = Frame::text(&format!("{:0>60000}", sent.len()));
        backend.command('b', &message.payload);
        quick.expect(&message);
        sent.push(message);
    }
    let mut received = slow.rest();
    let last = received.pop().expect("at least the close");
    assert_eq!(
        (last.opcode, last.close_code(), &last.payload[2..]),
        (CLOSE, Some(1013), &b"slow consumer"[..])
    );
    assert!(received.len() < sent.len(), "nothing was dropped");
    assert!(received.iter().eq(&sent[..received.len()]), "not the first messages, whole and in order");
    quick.expect_nothing();
}

#[test]
fn who_holds_back_most_is_closed_when_all_hold_back_too_much() {
    let limits = ["message = 1024", "outbox = 4000000", "queued = 4500000"];
    let setup = Setup::new().timeout("close = 0.3");
    let server = limits.iter().fold(setup, |setup, line| setup.limit(line)).start();
    let (mut worst, mut slow) = (Client::connect(&server), Client::connect(&server));
    let mut backend = Backend::connect(&server);
    let size = 500_000;
    for _ in 0..3 {
        backend.to('d', &slow.token, "s".repeat(size));
    }
    backend.done();
    let before = backend.status().number("queued_bytes");
    assert!(before > 1_000_000, "the kernel took it all: {before}");
    let mut sent = 0;
    while backend.status().numbers("1013").is_empty() {
        backend.to('d', &worst.token, "w".repeat(size));
        sent += 1;
        assert!(sent < 20, "limits.queued is not kept");
    }
    let last = worst.rest().pop().expect("at least the close");
    assert_eq!(last.close_code(), Some(1013), "{last:?}");
    for _ in 0..3 {
        slow.expect(&Frame::text(&"s".repeat(size)));
    }
    slow.expect_nothing();
}

#[test]
fn a_message_larger_than_the_outbox_arrives_whole_or_not_at_all() {
    let server = Setup::new().limit("message = 1024").limit("outbox = 2000").start();
    let mut client = Client::connect(&server);
    let mut backend = Backend::connect(&server);
    let message = "x".repeat(300_000);
    backend.to('c', &client.token, &message);
    match backend.receive().0 {
        'A' => client.expect_text(&message),
        answer => assert_eq!(answer, 'N'),
    }
    backend.confirm('c', &client.token.clone(), "", 'A');
    client.expect_nothing();
}

#[test]
fn backends_are_counted_and_one_too_many_is_told_so() {
    for setup in [Setup::new(), Setup::new().tcp()] {
        let server = setup.limit("backends = 3").start();
        let mut watching = Backend::connect(&server);
        eventually("the one that looked whether the server runs is gone", || {
            watching.status().number("backends") == 1
        });
        let mut two: Vec<Backend> = (0..2).map(|_| Backend::connect(&server)).collect();
        two.iter_mut().for_each(Backend::done);
        for _ in 0..50 {
            let mut backend = Backend::connect(&server);
            backend.expect_error();
        }
        two.iter_mut().chain([&mut watching]).for_each(Backend::done);
        assert_eq!(server.log().matches("backends_full limit=3").count(), 1, "told once in a while");
        drop(two.pop());
        eventually("a place is free", || watching.status().number("backends") == 2);
        Backend::connect(&server).done();
    }
}

#[test]
fn backends_that_come_by_the_hundred_leave_descriptors_for_clients() {
    let server = Setup::new().descriptors(64).start();
    let mut crowd: Vec<Backend> = (0..100).map(|_| Backend::connect(&server)).collect();
    let mut client = Client::connect(&server);
    let served = crowd.iter_mut().filter_map(|backend| {
        let _ = std::io::Write::write_all(&mut backend.socket, b"0p");
        backend.receive_or_end().filter(|(letter, _)| *letter == 'P')
    });
    assert_eq!(served.count(), 16, "a quarter of the descriptors");
    client.expect_nothing();
}

#[test]
fn what_backends_do_not_finish_is_bounded_for_all_together() {
    let server = Setup::new().limit("control_total = \"4 MiB\"").start();
    let mut small = Backend::connect(&server);
    small.send("5bHe");
    let mut client = Client::connect(&server);
    let before = server.rss_kib();
    let large: Vec<Backend> = (0..40)
        .map(|_| {
            let mut backend = Backend::connect(&server);
            let _ =
                std::io::Write::write_all(&mut backend.socket, &command('B', vec![0; 1 << 20])[..1 << 20]);
            backend
        })
        .collect();
    small.send("llo");
    client.expect_text("Hello");
    let grown = server.rss_kib().saturating_sub(before);
    assert!(grown < 10 * 1024, "{grown} KiB for a bound of 4 MiB");
    eventually("all but those that fit are told that it is too much", || {
        (34..40).contains(&small.status().number("errors"))
    });
    assert!(server.log().contains("control_error reason=overflow"));
    drop(large);
}
