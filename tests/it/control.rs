//! COMMANDS.md, "Frames" and the rules of the connection itself: grammar, order, ends, silence, backpressure.

use crate::backend::{Backend, command, to};
use crate::client::Client;
use crate::server::{PATIENCE, Setup, eventually};
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[test]
fn commands_may_be_cut_anywhere() {
    let server = Setup::new().start();
    let mut client = Client::connect(&server);
    let mut backend = Backend::connect(&server);
    let text = format!("\r\n0p5bHello\n43c{}direct text0000002bok\r\n0p", client.token);
    let check = |client: &mut Client, backend: &mut Backend| {
        backend.expect('P', "");
        backend.expect('A', &client.token.clone());
        backend.expect('P', "");
        ["Hello", "direct text", "ok"].iter().for_each(|text| client.expect_text(text));
    };
    for cut in 1..text.len() {
        backend.send(&text[..cut]);
        backend.send(&text[cut..]);
        check(&mut client, &mut backend);
    }
    text.bytes().for_each(|byte| backend.send([byte]));
    check(&mut client, &mut backend);
}

#[test]
fn lengths_have_up_to_eight_digits_and_count_bytes() {
    let server = Setup::new().start();
    let mut client = Client::connect(&server);
    let mut backend = Backend::connect(&server);
    backend.send("00000005bHello");
    backend.send(command('b', "ä€"));
    backend.send("5b€ü");
    backend.done();
    ["Hello", "ä€", "€ü"].iter().for_each(|text| client.expect_text(text));
}

#[test]
fn what_does_not_fit_the_grammar_executes_nothing() {
    let server = Setup::new().tcp().start();
    let mut client = Client::connect(&server);
    let wrong = [
        "POST /0p5bHELLO HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 7\r\n\r\n5bHELLO",
        "GET /5bHELLO HTTP/1.1\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\n\r\n5bHELLO",
        "\x16\x03\x01\x02\x005bHELLO",
        "EHLO example.com\r\n5bHELLO",
        "*1\r\n$7\r\n5bHELLO\r\n",
        "b5bHELLO",
        " 5bHELLO",
        "\t5bHELLO",
        "+5bHELLO",
        "-5bHELLO",
        "5 bHELLO",
        "5.0bHELLO",
        "0z5bHELLO",
        "5\r\nbHELLO",
        "000000005bHELLO",
        "999999999b5bHELLO",
        "05\0bHELLO",
        "\x005bHELLO",
        "0z5bHELLO",
        "0a5bHELLO",
        "0A5bHELLO",
        "0_5bHELLO",
        "0\u{e4}5bHELLO",
        "\u{feff}5bHELLO",
        "5dHELLO5bHELLO",
        "5cHELLO5bHELLO",
        "31l0123456789012345678901234567895bHELLO",
        "0l5bHELLO",
        "33l0123456789012345678901234567890123456789012",
    ];
    for text in wrong {
        let mut backend = Backend::connect(&server);
        backend.send(text);
        expect_refusal(backend, text.as_bytes());
    }
    client.expect_nothing();
}

/// What begins with a letter is answered in HTTP, everything else by a frame; then the connection ends.
#[track_caller]
fn expect_refusal(mut backend: Backend, opener: &[u8]) {
    if !opener[0].is_ascii_alphabetic() {
        assert_eq!(backend.receive(), ('E', String::new()), "{}", opener.escape_ascii());
        assert_eq!(backend.receive_or_end(), None, "{}", opener.escape_ascii());
        return;
    }
    backend.socket.finish();
    let mut answer = Vec::new();
    let _ = backend.socket.read_to_end(&mut answer); // a reset ends it too
    assert!(answer.starts_with(b"HTTP/1.1 4"), "{}: {}", opener.escape_ascii(), answer.escape_ascii());
}

/// The first bytes of other protocols, as their clients send them when they are pointed at the port of a control socket. In
/// some of them a visitor of the site chooses a part: the bytes there try to be commands.
#[test]
fn the_first_bytes_of_other_protocols_execute_nothing() {
    let server = Setup::new().tcp().start();
    let mut client = Client::connect(&server);
    let openers: [&[u8]; 22] = [
        // LDAP: a bind, 0x30 0x62, and searches of other lengths.
        b"0b\x02\x01\x01\x60\x5d\x02\x01\x03\x04\x00\x80\x00",
        b"0B\x02\x01\x01\x60\x5d\x02\x01\x03\x04\x00\x80\x00",
        b"0d\x02\x01\x02\x63\x5f\x04\x00\x0a\x01\x02",
        b"0m\x02\x01\x02\x63\x68\x04\x00\x0a\x01\x02",
        // Gopher: a selector.
        b"/5bHELLO\r\n",
        b"1/5bHELLO\t\r\n",
        // HTTP with a method that an attacker chose.
        b"5bHELLO / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"0b / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"0p0b / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"5bHELLO0p0p / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"7BHELLO!! /5bHELLO HTTP/1.1\r\n\r\n",
        b"OPTIONS sip:5bHELLO@127.0.0.1 SIP/2.0\r\n\r\n",
        b"INVITE sip:a@127.0.0.1 SIP/2.0\r\nVia: 5bHELLO\r\n\r\n5bHELLO",
        b"OPTIONS rtsp://127.0.0.1/5bHELLO RTSP/1.0\r\nCSeq: 1\r\n\r\n",
        // Redis: an array, and a line.
        b"*2\r\n$3\r\nGET\r\n$7\r\n5bHELLO\r\n",
        b"PING\r\n5bHELLO\r\n",
        // memcached: as text, and in binary.
        b"set 5bHELLO 0 0 7\r\n5bHELLO\r\n",
        b"\x80\x00\x00\x075bHELLO",
        b"USER 5bHELLO\r\n5bHELLO\r\n",
        b"EHLO 5bHELLO\r\n5bHELLO\r\n",
        b"HELO 5bHELLO\r\n5bHELLO\r\n",
        b"\x16\x03\x01\x00\x075bHELLO",
    ];
    for opener in openers {
        let mut backend = Backend::connect(&server);
        backend.send(opener);
        expect_refusal(backend, opener);
    }
    client.expect_nothing();
    // First frames that a backend may send are executed, an empty message among it.
    for first in ["0b", "0b\n", "\r\n0b", "0b0p", "0b0b0p0q"] {
        let mut backend = Backend::connect(&server);
        backend.send(first);
        backend.socket.finish();
        while backend.receive_or_end().is_some_and(|(letter, _)| letter == 'P') {}
    }
    for _ in 0..6 {
        client.expect_text("");
    }
    client.expect_nothing();
}

#[test]
fn what_came_before_an_error_is_executed_and_answered() {
    let server = Setup::new().start();
    let mut client = Client::connect(&server);
    let mut backend = Backend::connect(&server);
    backend.send(format!("5bHello0p32c{}0?0p3bNOT", client.token));
    backend.expect('P', "");
    backend.expect('A', &client.token.clone());
    backend.expect_error();
    client.expect_text("Hello");
    client.expect_nothing();
}

#[test]
fn a_payload_over_the_limit_is_judged_by_its_length() {
    let server = Setup::new().limit("control_payload = 1000").start();
    let mut client = Client::connect(&server);
    let mut backend = Backend::connect(&server);
    backend.command('b', "x".repeat(1000));
    backend.done();
    client.expect_text(&"x".repeat(1000));
    backend.send("1001b");
    backend.expect_error();
    let mut backend = Backend::connect(&server);
    backend.send("99999999b");
    backend.expect_error();
    // The default is 1 MiB.
    let server = Setup::new().start();
    let mut backend = Backend::connect(&server);
    backend.command('B', vec![0; 1 << 20]);
    backend.done();
    backend.send(format!("{}B", (1 << 20) + 1));
    backend.expect_error();
}

#[test]
fn a_one_shot_client_may_write_and_close_at_once() {
    for setup in [Setup::new(), Setup::new().tcp()] {
        let server = setup.start();
        let mut client = Client::connect(&server);
        for round in 0..50 {
            let mut backend = Backend::connect(&server);
            backend.send(format!("{}b{round}\n1b.", round.to_string().len()));
            drop(backend);
            client.expect_text(&round.to_string());
            client.expect_text(".");
        }
        let mut backend = Backend::connect(&server);
        backend.send("1bx".repeat(5000));
        drop(backend);
        (0..5000).for_each(|_| client.expect_text("x"));
    }
}

#[test]
fn a_half_closed_backend_gets_its_replies() {
    for setup in [Setup::new(), Setup::new().tcp()] {
        let server = setup.start();
        let mut client = Client::connect(&server);
        let mut backend = Backend::connect(&server);
        backend.send(format!("0p37c{}hello0t0p", client.token));
        backend.socket.finish();
        backend.expect('P', "");
        backend.expect('A', &client.token.clone());
        assert_eq!(backend.receive().0, 'T');
        backend.expect('P', "");
        backend.expect_end();
        client.expect_text("hello");
    }
}

#[test]
fn a_half_closed_backend_that_left_a_frame_unfinished_executed_the_others() {
    let server = Setup::new().start();
    let mut client = Client::connect(&server);
    let mut backend = Backend::connect(&server);
    backend.send("5bHello0p9bunfini");
    backend.socket.finish();
    backend.expect('P', "");
    while backend.receive_or_end().is_some() {}
    client.expect_text("Hello");
    client.expect_nothing();
}

#[test]
fn ten_thousand_pipelined_commands_are_answered_in_order() {
    let server = Setup::new().start();
    let mut client = Client::connect(&server);
    let mut backend = Backend::connect(&server);
    let token = client.token.clone();
    let mut writer = backend.socket.duplicate();
    let text: String = (0..10_000).map(|index| format!("0p37c{token}{index:05}")).collect();
    let writing = std::thread::spawn(move || writer.send(text.as_bytes()));
    for index in 0..10_000 {
        backend.expect('P', "");
        backend.expect('A', &token);
        client.expect_text(&format!("{index:05}"));
    }
    writing.join().expect("everything was read");
}

#[test]
fn a_silent_backend_is_pinged_and_then_closed() {
    let server = Setup::new().timeout("control = 0.3").start();
    let mut backend = Backend::connect(&server);
    let mut begin = Instant::now();
    for reply in ["0P", "0P", "\n", "0P"] {
        backend.expect('p', "");
        begin = Instant::now();
        backend.send(reply);
    }
    backend.expect('p', "");
    backend.expect_end();
    let waited = begin.elapsed();
    assert!(waited > Duration::from_millis(590) && waited < Duration::from_secs(10), "{waited:?}");
}

#[test]
fn any_bytes_keep_a_backend_alive() {
    let server = Setup::new().timeout("control = 0.4").start();
    let mut client = Client::connect(&server);
    let mut backend = Backend::connect(&server);
    for byte in b"00000009bpiecemeal"[..17].iter().chain(b"l") {
        std::thread::sleep(Duration::from_millis(60));
        backend.send([*byte]);
    }
    client.expect_text("piecemeal");
    backend.done();
}

#[test]
fn who_does_not_read_replies_is_not_read_and_loses_nothing() {
    let server = Setup::new().limit("control_outbox = 32768").start();
    let before = server.rss_kib();
    let mut backend = Backend::connect(&server);
    let mut writer = backend.socket.duplicate();
    let total = 100_000;
    let written = Arc::new(AtomicUsize::new(0));
    let progress = Arc::clone(&written);
    let writing = std::thread::spawn(move || {
        for _ in 0..total / 100 {
            writer.write_all("0t".repeat(100).as_bytes()).expect("it is read in the end");
            progress.fetch_add(100, Ordering::Relaxed);
        }
    });
    // The others are served meanwhile, and what waits is bounded: the writer stops.
    let mut last = (0, Instant::now());
    let mut other = Backend::connect(&server);
    while last.1.elapsed() < Duration::from_millis(300) {
        other.done();
        let now = written.load(Ordering::Relaxed);
        if now != last.0 {
            last = (now, Instant::now());
        }
    }
    assert!(last.0 < total, "every command was read although no reply was");
    assert!(server.rss_kib() < before + 4096, "{} KiB, and before {before}", server.rss_kib());
    for index in 0..total {
        assert_eq!(backend.receive().0, 'T', "reply {index}");
    }
    writing.join().expect("everything was read");
    backend.done();
}

#[test]
fn a_higher_bound_brings_back_who_was_not_read() {
    let mut server = Setup::new().limit("control_outbox = 16384").start();
    let mut backend = Backend::connect(&server);
    let mut client = Client::connect(&server);
    // Its replies fill the socket and the bound: the broadcast behind them is not executed.
    let asked = 40_000;
    let mut writer = backend.socket.duplicate();
    let commands = format!("{}5bHello", "0t".repeat(asked));
    let writing = std::thread::spawn(move || writer.send(commands.as_bytes()));
    client.expect_nothing();
    std::thread::sleep(Duration::from_millis(200));
    client.expect_nothing();
    server.rewrite_config(|setup| {
        setup.limit("control_outbox = \"200 MiB\"").without_limit("control_outbox = 16384")
    });
    server.signal("HUP");
    client.expect_text("Hello");
    for index in 0..asked {
        assert_eq!(backend.receive().0, 'T', "reply {index}");
    }
    writing.join().expect("everything was read");
}

#[test]
fn one_backend_that_floods_does_not_delay_another() {
    let server = Setup::new().start();
    let mut flooding = Backend::connect(&server);
    let mut other = Backend::connect(&server);
    let mut writer = flooding.socket.duplicate();
    let writing = std::thread::spawn(move || {
        for _ in 0..200 {
            writer.send("0P".repeat(10_000).as_bytes());
        }
    });
    let mut answered = 0;
    let begin = Instant::now();
    while !writing.is_finished() && begin.elapsed() < PATIENCE {
        other.done();
        answered += 1;
    }
    writing.join().expect("everything was read");
    assert!(answered > 20, "only {answered} replies during the flood");
    flooding.done();
}

#[test]
fn a_backend_that_vanishes_leaves_nothing() {
    let server = Setup::new().start();
    let mut watching = Backend::connect(&server);
    let before = watching.status().number("fds");
    for text in ["", "5", "5bHe", "0p", "0t0t0t"] {
        let mut backend = Backend::connect(&server);
        backend.send(text);
    }
    eventually("every descriptor is back", || {
        let status = watching.status();
        status.number("backends") == 1 && status.number("fds") <= before
    });
}

#[test]
fn a_one_shot_client_that_does_not_wait_for_its_replies_is_executed_whole() {
    let server = Setup::new().start();
    let mut client = Client::connect(&server);
    for _ in 0..5 {
        let mut backend = Backend::connect(&server);
        backend.send(to('c', &client.token, "x").repeat(4000));
        drop(backend);
        for _ in 0..4000 {
            client.expect_text("x");
        }
    }
    client.expect_nothing();
}
