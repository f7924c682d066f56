//! endpoint.md, "Handshake": the logins that are let in, and each row of the table of refusals, in its order.

use crate::backend::Backend;
use crate::client::{Client, Cookies, Head, KEY, Response, frame, read_refusal, refusal};
use crate::client::{PING, text};
use crate::server::{PATIENCE, Server, Setup};
use std::io::Write;
use std::time::{Duration, Instant};

fn good() -> Head {
    Head::good(&Cookies::fresh())
}

#[track_caller]
fn accepts(server: &Server, head: &[u8]) -> Response {
    let mut client = Client::raw(server.connect(), "");
    client.send(head);
    let response = client.expect_upgrade();
    client.expect_nothing();
    response
}

#[test]
fn the_answer_is_that_of_the_rfc() {
    let server = Setup::new().start();
    let head =
        good().add("Sec-WebSocket-Extensions", "permessage-deflate").add("Sec-WebSocket-Protocol", "chat");
    let response = accepts(&server, &head.bytes());
    assert!(response.field("Upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")));
    assert!(response.field("Connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")));
    assert_eq!(response.field("Sec-WebSocket-Extensions"), None, "no extension is spoken");
    assert_eq!(response.field("Sec-WebSocket-Protocol"), None, "no subprotocol is spoken");
}

#[test]
fn what_browsers_and_proxies_vary_is_accepted() {
    let server = Setup::new().start();
    let cookies = Cookies::fresh();
    let (time, digest, token) = (&cookies.time, &cookies.digest, &cookies.token);
    let heads = [
        good().set("Connection", "keep-alive, Upgrade"),
        good().set("Connection", "UPGRADE"),
        good().set("Upgrade", "WebSocket"),
        good().set("Upgrade", "h2c, websocket"),
        good().line("GET /chat?room=1 HTTP/1.1"),
        good().add("Content-Length", "0"),
        good().add("X-Forwarded-For", "203.0.113.7").add("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)"),
        good().set("Cookie", &format!("theme=dark; time={time}; digest={digest}; a=b=c; token={token}")),
        good().set("Origin", "HTTPS://EXAMPLE.COM"),
    ];
    for head in heads {
        accepts(&server, &head.bytes());
    }
    let lower = String::from_utf8(good().bytes()).expect("ASCII");
    let lower = lower.replace("Upgrade:", "upgrade:").replace("Sec-WebSocket", "sec-websocket");
    accepts(&server, lower.as_bytes());
}

#[test]
fn the_head_may_arrive_byte_by_byte() {
    let server = Setup::new().tcp().start();
    let mut client = Client::raw(server.connect(), "");
    for byte in good().bytes() {
        client.send(&[byte]);
    }
    client.expect_upgrade();
    client.expect_nothing();
}

#[test]
fn the_head_may_be_cut_anywhere_and_frames_behind_it_are_not_lost() {
    let server = Setup::new().echo().start();
    let length = good().bytes().len();
    for cut in (0..length + 8).step_by(7).chain(length - 4..length + 8) {
        let bytes = [good().bytes(), text("first"), frame(0x80 | PING, b"x")].concat();
        let mut client = Client::raw(server.connect(), "");
        client.send(&bytes[..cut]);
        client.send(&bytes[cut..]);
        client.expect_upgrade();
        client.expect_text("first");
        client.expect_pong(b"x");
    }
}

/// Status, fault and head. Everything not mentioned is right.
fn refused() -> Vec<(u16, &'static str, Vec<u8>)> {
    let raw = |text: &str| text.as_bytes().to_vec();
    let with = |from: &str, to: &str| {
        let text = String::from_utf8(good().bytes()).expect("ASCII");
        assert!(text.contains(from), "{from:?} is not in the head");
        text.replacen(from, to, 1).into_bytes()
    };
    let many = (0..60).fold(good(), |head, index| head.add(&format!("X-{index}"), "1"));
    vec![
        (431, "head longer than 8 KiB", good().add("X-Long", &"x".repeat(8192)).bytes()),
        (431, "more than 64 fields", many.bytes()),
        (431, "8 KiB without an end", [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 8192]].concat()),
        (400, "bare LF", with("Host: example.com\r\n", "Host: example.com\n")),
        (
            400,
            "only bare LF",
            String::from_utf8(good().bytes()).expect("ASCII").replace('\r', "").into_bytes(),
        ),
        (400, "obs-fold", with("Upgrade: websocket\r\n", "Upgrade: websocket\r\n folded\r\n")),
        (400, "NUL in a value", with("example.com", "exam\0ple.com")),
        (400, "NUL in the target", with("GET / ", "GET /\0 ")),
        (400, "space before a colon", with("Upgrade:", "Upgrade :")),
        (400, "no colon", with("Host: example.com", "Host example.com")),
        (400, "Transfer-Encoding", good().add("Transfer-Encoding", "chunked").bytes()),
        (400, "Content-Length", good().add("Content-Length", "5").bytes()),
        (400, "Content-Length twice", good().add("Content-Length", "0, 5").bytes()),
        (400, "no Host", good().without("Host").bytes()),
        (400, "two Hosts", good().add("Host", "example.org").bytes()),
        (400, "two Upgrades", good().add("Upgrade", "websocket").bytes()),
        (400, "two keys", good().add("Sec-WebSocket-Key", KEY).bytes()),
        (400, "two versions", good().add("Sec-WebSocket-Version", "13").bytes()),
        (400, "two Origins", good().add("Origin", "https://example.com").bytes()),
        (400, "no HTTP", raw("hello\r\n\r\n")),
        (400, "a TLS hello", raw("\x16\x03\x01\x02\r\n\r\n")),
        (405, "POST", good().line("POST / HTTP/1.1").bytes()),
        (405, "HEAD", good().line("HEAD / HTTP/1.1").bytes()),
        (405, "lower-case get", good().line("get / HTTP/1.1").bytes()),
        (505, "HTTP/1.0", good().line("GET / HTTP/1.0").bytes()),
        (426, "no upgrade asked for", Head::bare().bytes()),
        (400, "no Connection: upgrade", good().set("Connection", "keep-alive").bytes()),
        (400, "no key", good().without("Sec-WebSocket-Key").bytes()),
        (400, "key of 15 bytes", good().set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25j").bytes()),
        (400, "key of 17 bytes", good().set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZTE=").bytes()),
        (400, "key is no base64", good().set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25j!Q==").bytes()),
        (426, "version 8", good().set("Sec-WebSocket-Version", "8").bytes()),
        (426, "version 14", good().set("Sec-WebSocket-Version", "14").bytes()),
        (403, "no Origin", good().without("Origin").bytes()),
        (403, "another Origin", good().set("Origin", "https://example.org").bytes()),
        (403, "no cookie", good().without("Cookie").bytes()),
        (403, "wrong digest", good().set("Cookie", &Cookies::issued("other", "a", 1).header()).bytes()),
    ]
}

#[test]
fn each_refusal_has_its_status_and_is_whole() {
    for setup in [Setup::new(), Setup::new().tcp()] {
        let server = setup.start();
        for (status, what, head) in refused() {
            let response = refusal(&server, &head);
            assert_eq!(response.status, status, "{what}: {response:?}");
        }
        Client::connect(&server).expect_nothing();
    }
}

#[test]
fn a_refusal_names_what_would_be_right() {
    let server = Setup::new().start();
    let response = refusal(&server, &good().line("POST / HTTP/1.1").bytes());
    assert_eq!(response.field("Allow"), Some("GET"));
    let response = refusal(&server, &good().set("Sec-WebSocket-Version", "8").bytes());
    assert_eq!(response.field("Sec-WebSocket-Version"), Some("13"));
    let response = refusal(&server, &Head::bare().bytes());
    assert_eq!(response.field("Upgrade"), Some("websocket"));
}

#[test]
fn an_earlier_check_answers_before_a_later_one() {
    let server = Setup::new().start();
    // Each head breaks two rules; the earlier row of the table decides.
    let heads = [
        (431, good().add("X", &"x".repeat(9000)).line("POST / HTTP/1.1")),
        (400, good().add("Content-Length", "5").line("POST / HTTP/1.1")),
        (405, good().line("POST / HTTP/1.0")),
        (505, good().line("GET / HTTP/1.0").set("Connection", "close")),
        (400, good().set("Sec-WebSocket-Key", "x").set("Sec-WebSocket-Version", "8")),
        (426, good().set("Sec-WebSocket-Version", "8").without("Origin")),
        (403, good().without("Origin").without("Cookie")),
    ];
    for (status, head) in heads {
        let response = refusal(&server, &head.bytes());
        assert_eq!(response.status, status, "{:?}: {response:?}", head.request_line);
    }
}

#[test]
fn the_limit_of_the_head_is_exact() {
    let server = Setup::new().limit("head = 1024").start();
    let filler = 1024 - good().add("X", "").bytes().len();
    accepts(&server, &good().add("X", &"x".repeat(filler)).bytes());
    let response = refusal(&server, &good().add("X", &"x".repeat(filler + 1)).bytes());
    assert_eq!(response.status, 431);
    let fields = good().fields.len();
    let head = (fields..64).fold(good(), |head, _| head.add("X", "1"));
    accepts(&server, &head.bytes());
    assert_eq!(refusal(&server, &head.add("X", "1").bytes()).status, 431);
}

#[test]
fn a_refusal_arrives_although_input_is_left_unread() {
    let server = Setup::new().tcp().start();
    for (status, head) in [(403, good().without("Origin")), (405, good().line("POST / HTTP/1.1"))] {
        let mut socket = server.connect();
        socket.send(&head.bytes());
        // A plain close would answer these bytes with a reset, and the reset destroys the response.
        let mut writer = socket.duplicate();
        let junk = std::thread::spawn(move || {
            let _ = writer.write_all(&vec![b'x'; 200_000]);
            writer.finish();
        });
        assert_eq!(read_refusal(&mut socket).status, status);
        junk.join().expect("the writer ends");
    }
}

#[test]
fn nothing_behind_a_refused_head_is_answered() {
    let server = Setup::new().echo().start();
    let two = [good().without("Origin").bytes(), good().bytes(), text("smuggled")].concat();
    let response = refusal(&server, &two);
    assert_eq!(response.status, 403);
    assert_eq!(response.body.matches("HTTP/").count(), 0, "one response at most: {response:?}");
}

#[test]
fn a_head_that_does_not_end_in_time_gets_408() {
    let server = Setup::new().timeout("handshake = 0.5").start();
    for part in [&b""[..], b"GET", b"GET / HTTP/1.1\r\nHost: x\r\n"] {
        let begin = Instant::now();
        let mut socket = server.connect();
        socket.send(part);
        assert_eq!(read_refusal(&mut socket).status, 408, "{part:?}");
        assert!(begin.elapsed() >= Duration::from_millis(490), "too early");
    }
}

#[test]
fn the_handshake_timeout_is_absolute() {
    let server = Setup::new().tcp().timeout("handshake = 0.5").start();
    let mut socket = server.connect();
    let mut writer = socket.duplicate();
    let begin = Instant::now();
    let dripping = std::thread::spawn(move || {
        let head = [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 8000]].concat();
        // A byte every 20 ms would go on for minutes if each byte bought time.
        let interval = Duration::from_millis(20);
        for byte in head {
            if writer.write_all(&[byte]).is_err() || begin.elapsed() > PATIENCE {
                break;
            }
            std::thread::sleep(interval);
        }
    });
    let response = Response::parse(&read_response(&mut socket));
    assert_eq!(response.status, 408);
    assert!(begin.elapsed() < Duration::from_secs(10), "each byte bought time");
    dripping.join().expect("the writer ends");
}

/// Up to the end of the body; a client that goes on writing may see a reset behind it.
fn read_response(socket: &mut crate::server::Socket) -> Vec<u8> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let _ = socket.read_to_end(&mut bytes);
    bytes
}

#[test]
fn refusals_are_counted_and_logged_without_secrets() {
    let server = Setup::new().start();
    let before = Backend::connect(&server).status().sum("refused");
    let cookies = Cookies::fresh();
    let mut wrong = cookies.clone();
    wrong.digest = format!("{:0>32}", "bad");
    refusal(&server, &Head::good(&wrong).bytes());
    refusal(&server, &Head::good(&cookies).set("Origin", "https://evil.example").bytes());
    let status = Backend::connect(&server).status();
    assert_eq!(status.sum("refused"), before + 2, "{status:?}");
    crate::server::eventually("the log tells of both", || {
        let log = server.log().to_lowercase();
        log.contains("origin") && log.contains("digest")
    });
    let log = server.log();
    assert!(!log.contains(&wrong.digest), "a digest is in the log:\n{log}");
    assert!(!log.contains(&cookies.digest), "a digest is in the log:\n{log}");
    assert!(!log.contains(&cookies.token), "a whole token is in the log:\n{log}");
    assert!(!log.contains(crate::server::SECRET), "the secret is in the log:\n{log}");
}

#[test]
fn what_a_stranger_sends_stays_on_one_line_of_the_log() {
    let server = Setup::new().start();
    let lines = || server.log().lines().count();
    let origin = "https://x\x1b[2J\u{85}fake";
    let before = lines();
    let response = refusal(&server, &good().set("Origin", origin).bytes());
    assert!(response.status == 403 || response.status == 400, "{response:?}");
    crate::server::eventually("the refusal is logged", || lines() > before);
    assert!(!server.log().contains('\x1b'), "a control character is in the log");
    assert!(!server.log().contains('\u{85}'), "a control character is in the log");
}

#[test]
fn load_balancers_are_answered_without_a_login() {
    let server = Setup::new().start();
    let refused = |server: &Server| Backend::connect(server).status().sum("refused");
    let before = refused(&server);
    for request in [
        &b"GET /healthz HTTP/1.1\r\nHost: a\r\nUser-Agent: ELB-HealthChecker/2.0\r\n\r\n"[..],
        b"GET /healthz?from=here HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
        b"GET http://a/healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        b"GET /healthz HTTP/1.0\r\n\r\n",
    ] {
        let response = refusal(&server, request);
        assert_eq!((response.status, response.body.as_str()), (200, "ok\n"), "{}", request.escape_ascii());
        assert_eq!(response.field("Cache-Control"), Some("no-store"));
    }
    let mut socket = server.connect();
    socket.send(b"HEAD /healthz HTTP/1.0\r\n\r\n");
    let response = String::from_utf8(read_response(&mut socket)).expect("ASCII");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with("\r\n\r\n"), "{response:?}");
    assert!(response.contains("\r\nContent-Length: 3\r\n"), "{response:?}");
    let status = Backend::connect(&server).status();
    assert_eq!((status.number("health"), refused(&server)), (5, before), "{status:?}");
    assert!(!server.log().contains("health"), "{}", server.log());
    // A request that is no such question gets its answer as before.
    for (request, status) in [
        (&b"POST /healthz HTTP/1.1\r\nHost: a\r\n\r\n"[..], 405),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", 400),
        (b"GET /healthz/ HTTP/1.1\r\nHost: a\r\n\r\n", 426),
        (b"GET /Healthz HTTP/1.1\r\nHost: a\r\n\r\n", 426),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\n\r\n", 400),
    ] {
        assert_eq!(refusal(&server, request).status, status, "{}", request.escape_ascii());
    }
    accepts(&server, &good().line("GET /healthz HTTP/1.1").bytes());
    let none = Setup::new().top("health = \"\"").start();
    assert_eq!(refusal(&none, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").status, 426);
}

#[test]
fn a_page_that_asks_for_a_subprotocol_is_told_of() {
    let server = Setup::new().start();
    accepts(&server, &good().bytes());
    assert_eq!(Backend::connect(&server).status().number("subprotocols"), 0);
    let response = accepts(&server, &good().add("Sec-WebSocket-Protocol", "chat").bytes());
    assert_eq!(response.field("Sec-WebSocket-Protocol"), None, "there is none to choose");
    assert_eq!(Backend::connect(&server).status().number("subprotocols"), 1);
    crate::server::eventually("the log tells of it", || server.log().contains("no_subprotocol peer="));
}
