//! docs/events.md: workers, pools, and what becomes of clients whose worker is slow, gone, or not there yet.

use crate::addresses::login;
use crate::backend::Backend;
use crate::client::{Client, Cookies, Frame, frame, text};
use crate::rig;
use crate::server::{Server, Setup, eventually};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

fn forwarding() -> Setup {
    Setup::new().top("on_message = \"forward\"")
}

/// A backend that has subscribed and got the answer to that.
#[track_caller]
fn worker(server: &Server, wish: &str) -> Backend {
    let mut worker = Backend::connect(server);
    subscribe(&mut worker, wish);
    worker
}

#[track_caller]
fn subscribe(worker: &mut Backend, wish: &str) {
    worker.command('e', wish);
    let (letter, event) = worker.receive();
    assert!(letter == 'e' && event.starts_with(r#"{"event":"subscribed","#), "{letter} {event}");
}

/// What comes next, but for pings, which it answers.
#[track_caller]
fn next(worker: &mut Backend) -> (char, String) {
    loop {
        match worker.receive() {
            ('p', _) => worker.send("0P"),
            event => return event,
        }
    }
}

/// Connection, token, user, message.
#[track_caller]
fn said(worker: &mut Backend) -> [String; 4] {
    let (letter, payload) = next(worker);
    assert_eq!(letter, 'g', "{payload}");
    parts(&payload)
}

fn parts(payload: &str) -> [String; 4] {
    let fields: Vec<String> = payload.splitn(4, ' ').map(str::to_owned).collect();
    fields.try_into().expect("four fields")
}

/// The value of a member that is text.
#[track_caller]
fn member<'e>(event: &'e str, name: &str) -> &'e str {
    let (_, rest) =
        event.split_once(&format!("\"{name}\":\"")).unwrap_or_else(|| panic!("no {name}: {event}"));
    rest.split_once('"').expect("the text ends").0
}

#[track_caller]
fn with_user(server: &Server, user: &str) -> Client {
    Client::with(server, &login(user))
}

#[test]
fn it_is_told_who_comes_and_goes() {
    let server = Setup::new().tcp().auth("identity = \"user\"").start();
    let mut worker = Backend::connect(&server);
    worker.command('e', "open,close,online,offline as=who");
    worker.expect('e', r#"{"event":"subscribed","pool":"who","kinds":["open","close","online","offline"]}"#);
    let mut one = with_user(&server, "44");
    let (letter, open) = worker.receive();
    let connection = member(&open, "connection").to_owned();
    let expected = format!(
        r#"{{"event":"open","connection":"{connection}","token":"{}","user":"44","address":"127.0.0.1","groups":[]}}"#,
        one.token
    );
    assert_eq!((letter, open), ('e', expected));
    worker.expect('e', r#"{"event":"online","user":"44"}"#);
    let mut two = with_user(&server, "44");
    assert_eq!(member(&worker.receive().1, "token"), two.token, "no second online");
    // What it is told is an address.
    worker.command('w', format!("c:{connection} Hello"));
    one.expect_text("Hello");
    one.send(&crate::client::close(1001, b""));
    let (_, close) = worker.receive();
    let expected = format!(
        r#"{{"event":"close","connection":"{connection}","token":"{}","user":"44","code":1001,"seconds":0}}"#,
        one.token
    );
    assert_eq!(close, expected);
    worker.command('k', "u:44");
    assert!(worker.receive().1.contains("\"code\":4001,"));
    worker.expect('e', r#"{"event":"offline","user":"44"}"#);
    worker.expect('K', r#"{"connections":1}"#);
    two.expect_close_code(4001);
    worker.command('x', format!("c:{connection} Hello"));
    assert!(worker.receive().1.contains(&format!("\"absent\":[\"c:{connection}\"]")), "it is gone");
}

#[test]
fn messages_reach_the_worker_as_they_were_said() {
    let server = forwarding().start();
    let mut worker = worker(&server, "message");
    let mut client = Client::connect(&server);
    client.send_text("Gr\u{fc}\u{df}e, {\"a\":1}\nand more");
    let [connection, token, user, message] = said(&mut worker);
    assert_eq!((&*token, &*user, &*message), (&*client.token, "", "Gr\u{fc}\u{df}e, {\"a\":1}\nand more"));
    client.send_text("");
    assert_eq!(said(&mut worker)[3], "");
    client.send(&frame(0x82, b"\x01 two\xc3\xa9"));
    assert_eq!(worker.receive(), ('G', format!("{connection} {token}  \u{1} two\u{e9}")));
    worker.command('w', format!("c:{connection} back"));
    client.expect_text("back");
    // It is no client: its own broadcast does not come back to it.
    worker.command('b', "all");
    client.expect_text("all");
    worker.done();
    let status = worker.status();
    assert_eq!((status.number("workers"), status.sum("events")), (1, 3));
}

#[test]
fn a_pool_shares_the_clients_and_every_pool_is_told_everything() {
    let server = forwarding().limit("connections_per_token = 100").start();
    let mut chat: Vec<Backend> = (0..3).map(|_| worker(&server, "message as=chat")).collect();
    let mut log = worker(&server, "message as=log");
    let mut clients: Vec<Client> = (0..40).map(|_| Client::connect(&server)).collect();
    let speak = |clients: &mut Vec<Client>, round: usize| {
        for number in 0..5 {
            clients.iter_mut().for_each(|client| client.send_text(&format!("{round}.{number}")));
        }
    };
    // Who of the pool was told what, by token.
    let hear = |workers: &mut [Backend]| -> BTreeMap<String, (usize, Vec<String>)> {
        let mut heard: BTreeMap<String, (usize, Vec<String>)> = BTreeMap::new();
        for (at, worker) in workers.iter_mut().enumerate() {
            worker.send("0p");
            loop {
                let (letter, payload) = worker.receive();
                if letter == 'P' {
                    break;
                }
                let [_, token, _, message] = parts(&payload);
                let entry = heard.entry(token).or_insert((at, Vec::new()));
                assert_eq!(entry.0, at, "all messages of a client go to one worker");
                entry.1.push(message);
            }
        }
        heard
    };
    let expected = |round: usize| (0..5).map(|number| format!("{round}.{number}")).collect::<Vec<_>>();
    let check = |heard: &BTreeMap<String, (usize, Vec<String>)>, round| {
        assert_eq!(heard.len(), 40);
        assert!(heard.values().all(|(_, messages)| *messages == expected(round)), "{heard:?}");
    };
    let told = |log: &mut Backend, count: u64| {
        eventually("all is told", || {
            let events = log.status().sum("events");
            events == count
        });
    };
    speak(&mut clients, 1);
    let mut asking = Backend::connect(&server);
    told(&mut asking, 400);
    let first = hear(&mut chat);
    check(&first, 1);
    check(&hear(std::slice::from_mut(&mut log)), 1);
    let busy: BTreeSet<usize> = first.values().map(|(at, _)| *at).collect();
    assert_eq!(busy.len(), 3, "each of them has some of forty clients");
    // One goes: its clients move, the others stay.
    let gone = chat.pop().expect("there are three");
    drop(gone);
    eventually("it is gone", || asking.status().number("workers") == 3);
    speak(&mut clients, 2);
    told(&mut asking, 800);
    let second = hear(&mut chat);
    check(&second, 2);
    for (token, (at, _)) in &first {
        assert!(*at == 2 || second[token].0 == *at, "only those of the one that went have moved");
    }
    // One comes: it gets some, and nothing else moves.
    chat.push(worker(&server, "message as=chat"));
    speak(&mut clients, 3);
    told(&mut asking, 1200);
    let third = hear(&mut chat);
    check(&third, 3);
    let moved = third.iter().filter(|(token, (at, _))| second[*token].0 != *at);
    assert!(moved.clone().count() > 0 && moved.clone().all(|(_, (at, _))| *at == 2));
}

/// 100,000 messages of 64 bytes from 1,000 clients to four workers: none lost, doubled or out of order.
#[test]
fn a_crowd_that_speaks_is_heard_completely() {
    const CLIENTS: usize = 1000;
    const EACH: usize = 100;
    let server = forwarding().limit("connections_per_token = 1000").start();
    let workers: Vec<Backend> = (0..4).map(|_| worker(&server, "message as=chat")).collect();
    let cookies = Cookies::fresh();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::with(&server, &cookies)).collect();
    let hear = |mut worker: Backend| {
        std::thread::spawn(move || {
            let mut heard: BTreeMap<String, (usize, usize)> = BTreeMap::new();
            while let Some((letter, payload)) = worker.receive_or_end() {
                match letter {
                    'p' => worker.send("0P"),
                    'e' => {} // going away
                    _ => {
                        let [connection, _, _, message] = parts(&payload);
                        assert_eq!(message.len(), 64);
                        let mut numbers = message.split(' ').map(|number| number.parse().expect("a number"));
                        let (client, number) = (numbers.next().expect("two"), numbers.next().expect("two"));
                        let next = heard.entry(connection).or_insert((client, 0));
                        assert_eq!((client, number), *next, "in order, and once");
                        next.1 += 1;
                    }
                }
            }
            heard
        })
    };
    let ears: Vec<_> = workers.into_iter().map(hear).collect();
    for from in (0..EACH).step_by(10) {
        for (place, client) in clients.iter_mut().enumerate() {
            let numbers = from..from + 10;
            let said: Vec<u8> =
                numbers.flat_map(|number| text(&format!("{place:031} {number:032}"))).collect();
            client.send(&said);
        }
    }
    let mut asking = Backend::connect(&server);
    eventually("all are told", || asking.status().sum("events") == (CLIENTS * EACH) as u64);
    let mut server = server;
    server.signal("TERM");
    let mut heard: Vec<(usize, usize)> = Vec::new();
    let mut busy = 0;
    for ear in ears {
        let part = ear.join().expect("all came in order");
        busy += usize::from(part.len() > CLIENTS / 8);
        heard.extend(part.into_values());
    }
    heard.sort_unstable();
    assert_eq!(heard, (0..CLIENTS).map(|client| (client, EACH)).collect::<Vec<_>>());
    assert_eq!(busy, 4, "the clients are spread");
}

#[test]
fn a_second_subscription_takes_the_place_of_the_first() {
    let server = forwarding().start();
    let mut one = worker(&server, "open as=a");
    subscribe(&mut one, "message as=b");
    let mut client = Client::connect(&server);
    client.send_text("hello");
    assert_eq!(said(&mut one)[3], "hello", "and no open");
    let status = one.status();
    assert_eq!((status.number("workers"), status.number("pools")), (1, 1), "the first pool has ended");
}

#[test]
fn what_is_no_subscription_ends_the_conversation() {
    let server = forwarding().start();
    for (letter, payload) in [
        ('e', ""),
        ('e', "messages"),
        ('e', "message,"),
        ('e', "message as="),
        ('e', "message as=a,b"),
        ('e', "message as=abcdefghijklmnopqrstuvwxyz0123456"),
        ('e', "message now"),
        ('e', "message ack watch"),
        ('a', ""),
        ('a', "one"),
        ('a', "1"),
    ] {
        let mut backend = Backend::connect(&server);
        backend.command(letter, payload);
        backend.expect_error();
    }
    let mut worker = worker(&server, "message");
    worker.command('a', "1");
    worker.expect_error();
    assert!(server.log().contains("unknown_kind_of_event") && server.log().contains("event_was_never_told"));
}

#[test]
fn there_are_64_pools() {
    let server = forwarding().start();
    let _workers: Vec<Backend> = (0..64).map(|at| worker(&server, &format!("message as=pool{at}"))).collect();
    let _second = worker(&server, "message as=pool7");
    let mut late = Backend::connect(&server);
    late.command('e', "message as=pool64");
    late.expect_error();
    assert!(server.log().contains("too_many_pools"));
    let mut http = Backend::connect(&server);
    http.send("GET /events?kinds=message&as=pool64 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    http.socket.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

// Nobody there.

#[test]
fn what_is_said_before_there_is_a_worker_waits_for_it() {
    let server = forwarding().start();
    let mut client = Client::connect(&server);
    client.send_text("early");
    client.send(&frame(0x89, b"ping"));
    client.expect_pong(b"ping");
    let mut watcher = worker(&server, "open as=other");
    let mut worker = worker(&server, "message,open as=chat");
    assert_eq!(said(&mut worker)[3], "early");
    client.send_text("later");
    assert_eq!(said(&mut worker)[3], "later");
    drop(worker);
    eventually("it is gone", || watcher.status().number("workers") == 1);
    let mut second = Client::connect(&server);
    second.send_text("again");
    client.send_text("and again");
    let mut next_worker = self::worker(&server, "message,open as=chat");
    let told: BTreeSet<String> = (0..3).map(|_| next(&mut next_worker).1).collect();
    assert!(told.iter().any(|event| event.contains(r#""event":"open""#)), "{told:?}");
    assert!(told.iter().any(|event| event.ends_with(" and again")), "{told:?}");
    assert_eq!(watcher.receive().0, 'e');
}

#[test]
fn clients_that_speak_to_nobody_are_closed_after_a_while() {
    let server = forwarding().timeout("no_worker = 1").start();
    let (mut speaker, mut silent) = (Client::connect(&server), Client::connect(&server));
    let begin = Instant::now();
    speaker.send_text("is somebody there");
    speaker.expect_close(1013, "no worker");
    assert!(begin.elapsed() >= Duration::from_millis(900), "{:?}", begin.elapsed());
    silent.expect_nothing();
    // Those that speak now need not wait to hear it.
    let mut late = Client::connect(&server);
    let begin = Instant::now();
    late.send_text("hello");
    late.expect_close(1013, "no worker");
    assert!(begin.elapsed() < Duration::from_millis(800), "{:?}", begin.elapsed());
    // With a worker all is well again.
    let mut worker = worker(&server, "message");
    silent.send_text("now");
    assert_eq!(said(&mut worker)[3], "now", "and nothing of those that are gone");
    assert!(server.log().contains("no_worker pool=- clients=1 events_lost=1"));
}

#[test]
fn a_pool_ends_with_a_worker_that_says_so() {
    let server = forwarding().timeout("no_worker = 1").start();
    let mut stays = worker(&server, "message as=stays");
    let mut quits = worker(&server, "message as=quits");
    let mut looks_on = worker(&server, "message as=looks watch");
    quits.send("0q");
    quits.expect_end();
    looks_on.socket.finish();
    looks_on.expect_end();
    assert_eq!(stays.status().number("pools"), 1);
    let mut client = Client::connect(&server);
    client.send_text("hello");
    assert_eq!(said(&mut stays)[3], "hello");
    std::thread::sleep(Duration::from_millis(1300));
    client.send_text("still here");
    assert_eq!(said(&mut stays)[3], "still here");
}

// Slow ones.

/// Sends numbered messages until the server takes no more for a while; returns how many were sent whole, and what is
/// left of the last one.
fn speak_until_stuck(client: &mut Client, tail: usize) -> (usize, Vec<u8>) {
    let socket = client.socket.duplicate();
    socket.set_patience(Duration::from_millis(300));
    for number in 0..1_000_000 {
        let message = text(&format!("{number} {}", "x".repeat(tail)));
        let mut sent = 0;
        while sent < message.len() {
            match client.socket.write(&message[sent..]) {
                Ok(count) => sent += count,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    socket.set_patience(crate::server::PATIENCE);
                    return if sent == 0 {
                        (number, Vec::new())
                    } else {
                        (number + 1, message[sent..].to_vec())
                    };
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    panic!("the server takes everything");
}

/// Two workers of a pool, and a client of each.
#[track_caller]
fn two_pairs(server: &Server, wish: &str) -> [(Backend, Client); 2] {
    let mut workers = [worker(server, wish), worker(server, wish)];
    let mut pairs: [Option<Client>; 2] = [None, None];
    let mut asking = Backend::connect(server);
    while pairs.iter().any(Option::is_none) {
        let before = asking.status().sum("events");
        let mut client = Client::connect(server);
        client.send_text("whose am I");
        eventually("it is told", || asking.status().sum("events") > before);
        for (worker, place) in workers.iter_mut().zip(&mut pairs) {
            worker.send("0p");
            let (letter, payload) = worker.receive();
            if letter == 'g' {
                worker.expect('P', "");
                *place = Some(client);
                break;
            }
            assert_eq!(letter, 'P', "{payload}");
        }
    }
    let [one, two] = workers;
    let [first, second] = pairs.map(|client| client.expect("both have one"));
    [(one, first), (two, second)]
}

#[test]
fn clients_of_a_worker_that_does_not_read_wait_and_others_notice_nothing() {
    let server =
        forwarding().limit("control_outbox = \"64 KiB\"").timeout("idle = 1").timeout("pong = 1").start();
    let [(mut slow, mut waits), (mut quick, mut speaks)] = two_pairs(&server, "message");
    let (count, rest) = speak_until_stuck(&mut waits, 1000);
    assert!(count > 60, "{count} messages fit into its outbox");
    let begin = Instant::now();
    // Long enough for three pings, which the client would have to answer.
    while begin.elapsed() < Duration::from_secs(4) {
        speaks.send_text("hello");
        assert_eq!(said(&mut quick)[3], "hello");
        assert!(!speaks.so_far().iter().any(|frame| frame.close_code().is_some()));
        speaks.send(&frame(0x8A, b""));
        std::thread::sleep(Duration::from_millis(200));
    }
    let status = quick.status();
    assert_eq!(status.number("speakers_waiting"), 1);
    // Now it reads: everything is there, in order, and the client goes on.
    let reader = std::thread::spawn(move || {
        (0..count).for_each(|number| {
            let message = said(&mut slow).pop_message();
            assert!(message.starts_with(&format!("{number} ")), "{number}: {}", &message[..10]);
        });
        slow
    });
    waits.send(&rest);
    let mut slow = reader.join().expect("all came in order");
    waits.send_text("and on");
    assert_eq!(said(&mut slow)[3], "and on");
    assert_eq!(quick.status().number("speakers_waiting"), 0);
}

trait Message {
    fn pop_message(self) -> String;
}

impl Message for [String; 4] {
    fn pop_message(self) -> String {
        let [_, _, _, message] = self;
        message
    }
}

#[test]
fn a_worker_that_takes_nothing_for_too_long_is_closed() {
    let server = forwarding().limit("control_outbox = \"64 KiB\"").timeout("worker = 1").start();
    let [(mut stuck, mut waits), (mut other, _)] = two_pairs(&server, "message");
    let (_, rest) = speak_until_stuck(&mut waits, 1000);
    let log = || server.log().contains("backend_closed reason=takes_no_events");
    eventually("it is closed", log);
    waits.send(&rest);
    waits.send_text("after it");
    let last = loop {
        let message = said(&mut other).pop_message();
        if message == "after it" {
            break message;
        }
    };
    assert_eq!(last, "after it", "its client speaks to the other one");
    let mut left = Vec::new();
    stuck.socket.read_to_end(&mut left).expect("its connection has ended");
}

#[test]
fn a_worker_that_is_told_more_than_twice_its_bound_of_comings_and_goings_is_closed() {
    let server =
        Setup::new().limit("control_outbox = \"16 KiB\"").limit("connections_per_token = 1000").start();
    let mut worker = worker(&server, "open,close");
    let cookies = Cookies::fresh();
    let mut asking = Backend::connect(&server);
    let begin = Instant::now();
    while asking.status().number("workers") == 1 {
        let clients: Vec<Client> = (0..50).map(|_| Client::with(&server, &cookies)).collect();
        drop(clients);
        assert!(begin.elapsed() < Duration::from_secs(60), "it is never closed");
    }
    assert!(server.log().contains("worker_too_slow"));
    let mut last = 'e';
    while let Some((letter, _)) = worker.receive_or_end() {
        last = letter;
    }
    assert_eq!(last, 'E');
}

// Confirmed ones.

#[test]
fn what_is_not_confirmed_is_told_to_another_one() {
    let server = forwarding().start();
    let mut asking = Backend::connect(&server);
    let mut one = worker(&server, "message,open,close as=chat ack");
    let mut client = Client::connect(&server);
    let open = next(&mut one).1;
    assert!(open.starts_with(r#"{"n":1,"event":"open","#), "{open}");
    for said in ["one", "two", "three"] {
        client.send_text(said);
    }
    for (number, said) in [(2, "one"), (3, "two"), (4, "three")] {
        let (letter, payload) = next(&mut one);
        assert!(
            letter == 'g' && payload.starts_with(&format!("{number} ")) && payload.ends_with(said),
            "{payload}"
        );
    }
    one.command('a', "2");
    one.done();
    drop(one); // it dies, with two messages in its hands
    eventually("it is gone", || asking.status().number("workers") == 0);
    client.send_text("four");
    let mut two = worker(&server, "message,open,close as=chat ack");
    let mut told = Vec::new();
    for _ in 0..3 {
        let (letter, payload) = next(&mut two);
        assert_eq!(letter, 'g');
        let (number, rest) = payload.split_once(' ').expect("a number");
        told.push(format!("{number} {}", rest.rsplit_once(' ').expect("a message").1));
    }
    assert_eq!(told, ["1+ two", "2+ three", "3 four"]);
    // Its second life: told to a third one, still marked.
    let mut three = worker(&server, "message,close as=chat ack");
    drop(two);
    let again: Vec<String> = (0..3).map(|_| next(&mut three).1).collect();
    assert!(
        again.iter().all(|payload| payload.split_once(' ').is_some_and(|(n, _)| n.ends_with('+'))),
        "{again:?}"
    );
    three.command('a', "3");
    three.command('a', "1");
    three.done();
    drop(client);
    let close = next(&mut three).1;
    assert!(close.starts_with(r#"{"n":4,"event":"close","#), "{close}");
    drop(three);
    let mut four = worker(&server, "close as=chat ack");
    let close = next(&mut four).1;
    assert!(close.starts_with(r#"{"n":1,"again":true,"event":"close","#), "{close}");
    four.command('a', "2");
    four.expect_error();
}

#[test]
fn one_that_confirms_nothing_gets_no_more_than_its_bound() {
    let server = forwarding().limit("control_outbox = \"16 KiB\"").timeout("worker = 2").start();
    let mut worker = worker(&server, "message ack");
    let mut client = Client::connect(&server);
    client.send(&text(&"x".repeat(1000)).repeat(40));
    // One read of the client is more than the bound; then it is not read any more.
    let mut told = 0;
    while told < 40 {
        assert_eq!(next(&mut worker).0, 'g');
        told += 1;
    }
    client.send_text("more");
    worker.done();
    worker.command('a', "39");
    assert!(next(&mut worker).1.ends_with(" more"), "it goes on when half of it is confirmed");
    client.send(&text(&"x".repeat(1000)).repeat(40));
    for _ in 0..40 {
        next(&mut worker);
    }
    // And one that never confirms goes, although it takes everything.
    while worker.receive_or_end().is_some() {
        worker.send("0P");
    }
    let mut heir = self::worker(&server, "message ack");
    let first = next(&mut heir).1;
    assert!(first.starts_with("1+ "), "{first}");
}

// In the shell.

/// `wsson listen` with these options, and its lines.
fn listen(server: &Server, options: &[&str]) -> (rig::Running, BufReader<std::process::ChildStdout>) {
    let mut command = rig::wsson(&["listen", "-c"]);
    command.arg(server.path("wsson.toml")).args(options).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut running = rig::Running::start(&mut command);
    let lines = running.output();
    (running, lines)
}

#[track_caller]
fn line(lines: &mut impl BufRead) -> String {
    let mut line = String::new();
    lines.read_line(&mut line).expect("lines are text");
    line
}

#[test]
fn listen_prints_a_line_for_each_event_and_ends_with_the_server() {
    let mut server = forwarding().timeout("control = 1").start();
    let mut asking = Backend::connect(&server);
    let workers = |asking: &mut Backend, count| {
        eventually("they listen", || asking.status().number("workers") == count);
    };
    let (mut plain, mut lines) = listen(&server, &["--kinds", "message,open"]);
    let (mut json, mut objects) = listen(&server, &["--json"]);
    let (mut retry, mut tried) =
        listen(&server, &["--json", "--retry", "--kinds", "message", "--as", "shell"]);
    workers(&mut asking, 3);
    std::thread::sleep(Duration::from_millis(2500)); // it answers pings
    let mut client = Client::connect(&server);
    client.send_text("two\nlines, a\ttab");
    let token = client.token.clone();
    let open = line(&mut lines);
    let fields: Vec<&str> = open.trim_end().split('\t').collect();
    assert!(fields[0] == "open" && fields[2..] == [&*token, "-"], "{open}");
    assert_eq!(line(&mut lines), format!("message\t{}\t{token}\ttwo\\nlines, a\\ttab\n", fields[1]));
    assert!(line(&mut objects).starts_with(r#"{"event":"subscribed","pool":"listen-"#));
    assert!(line(&mut objects).starts_with(r#"{"event":"open","connection":"#));
    assert!(line(&mut objects).ends_with("\"text\":\"two\\nlines, a\\ttab\"}\n"));
    assert!(line(&mut tried).starts_with(r#"{"event":"subscribed","pool":"shell","#));
    assert!(line(&mut tried).starts_with(r#"{"event":"message","#));
    server.signal("TERM");
    assert_eq!((plain.code(), json.code()), (Some(7), Some(7)));
    assert_eq!(retry.ended(), None);
    drop(client);
    server.exit_code();
    let server = server.again();
    assert!(line(&mut tried).starts_with(r#"{"event":"subscribed","pool":"shell","#), "it comes back");
    let mut client = Client::connect(&server);
    client.send_text("once more");
    assert!(line(&mut tried).ends_with("\"text\":\"once more\"}\n"));
    retry.signal("TERM");
}

// In HTTP.

/// Lines of a response that goes on.
struct Lines {
    socket: crate::server::Socket,
    input: Vec<u8>,
}

impl Lines {
    #[track_caller]
    fn open(server: &Server, query: &str) -> Self {
        let mut socket = server.control.connect().expect("it accepts");
        socket.send(format!("GET /events?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        let mut lines = Self { socket, input: Vec::new() };
        let head = lines.until(b"\r\n\r\n");
        let head = String::from_utf8(head).expect("text").to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200 ") && head.contains("transfer-encoding: chunked"), "{head}");
        lines
    }

    #[track_caller]
    fn until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.input.windows(end.len()).position(|part| part == end) {
                return self.input.drain(..at + end.len()).collect();
            }
            let mut buffer = [0; 4096];
            let count = self.socket.read(&mut buffer).expect("it goes on");
            assert!(count > 0, "it ended behind {:?}", String::from_utf8_lossy(&self.input));
            self.input.extend_from_slice(&buffer[..count]);
        }
    }

    /// The next chunk; empty for the last one.
    #[track_caller]
    fn chunk(&mut self) -> String {
        let size = self.until(b"\r\n");
        let size =
            usize::from_str_radix(std::str::from_utf8(&size).expect("text").trim(), 16).expect("a size");
        let chunk = self.until(b"\r\n");
        assert_eq!(chunk.len(), size + 2);
        String::from_utf8(chunk[..size].to_vec()).expect("lines are text")
    }
}

#[test]
fn http_streams_a_line_for_each_event() {
    let mut server = forwarding().timeout("control = 1").start();
    let mut lines = Lines::open(&server, "kinds=message,open,close&as=log");
    assert_eq!(
        lines.chunk(),
        "{\"event\":\"subscribed\",\"pool\":\"log\",\"kinds\":[\"message\",\"open\",\"close\"]}\n"
    );
    // It is never asked for a sign of life, and shows one itself.
    assert_eq!(lines.chunk(), "{\"event\":\"ping\"}\n");
    assert_eq!(lines.chunk(), "{\"event\":\"ping\"}\n");
    let mut client = Client::connect(&server);
    let event = |lines: &mut Lines| loop {
        let line = lines.chunk();
        if line != "{\"event\":\"ping\"}\n" {
            return line;
        }
    };
    let open = event(&mut lines);
    let connection = member(&open, "connection").to_owned();
    assert!(open.starts_with(r#"{"event":"open","#), "{open}");
    client.send_text("a \"quoted\" one\n");
    let token = client.token.clone();
    assert_eq!(
        event(&mut lines),
        format!(
            "{{\"event\":\"message\",\"connection\":\"{connection}\",\"token\":\"{token}\",\"text\":\"a \\\"quoted\\\" one\\n\"}}\n"
        )
    );
    client.send(&frame(0x82, b"\xff\x00"));
    assert!(event(&mut lines).ends_with("\"base64\":\"/wA=\"}\n"));
    // What is asked behind it is not answered, and does no harm.
    lines.socket.send(b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n");
    client.send_text("after");
    assert!(event(&mut lines).ends_with("\"text\":\"after\"}\n"));
    server.signal("TERM");
    assert!(event(&mut lines).contains("\"code\":1001,"), "the end of the client is told");
    assert_eq!(event(&mut lines), "", "and then the response ends as it should");
    client.expect(&Frame::part(true, 8, b"\x03\xe9going away"));
}

#[test]
fn http_refuses_what_is_no_subscription() {
    let server = forwarding().start();
    for (query, status) in [
        ("", "400"),
        ("?kinds=", "400"),
        ("?kinds=messages", "400"),
        ("?kinds=message&as=a,b", "400"),
        ("?kinds=message&as=", "400"),
        ("?kinds=message&watch=yes", "400"),
        ("?kinds=message&ack=1", "400"),
    ] {
        let mut backend = Backend::connect(&server);
        backend.send(format!("GET /events{query} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        let mut answer = String::new();
        backend.socket.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{query}: {answer}");
    }
    let mut backend = Backend::connect(&server);
    assert_eq!(backend.status().number("workers"), 0);
}

#[test]
fn one_that_looks_on_and_is_slow_is_not_waited_for() {
    let server = forwarding().limit("control_outbox = \"64 KiB\"").start();
    let mut worker = worker(&server, "message as=chat");
    let mut onlooker = self::worker(&server, "message as=me watch");
    let mut client = Client::connect(&server);
    let mut sent = 0;
    while !server.log().contains("worker_too_slow") {
        client.send_text(&format!("{sent} {}", "x".repeat(1000)));
        let message = said(&mut worker).pop_message();
        assert!(message.starts_with(&format!("{sent} ")));
        sent += 1;
        assert!(sent < 10_000, "it is never ended");
    }
    let mut last = 'g';
    while let Some((letter, _)) = onlooker.receive_or_end() {
        last = letter;
    }
    assert_eq!(last, 'E');
    client.send_text("and on");
    assert_eq!(said(&mut worker)[3], "and on");
}
