//! docs/http.md: the control socket in HTTP.

use crate::backend::Backend;
use crate::client::{Client, Frame, PONG, frame};
use crate::server::{Server, Setup};
use std::io::Read;
use std::time::{Duration, Instant};

/// A response: status, fields in lower case, body.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// A client of HTTP that reads by Content-Length.
struct Caller {
    backend: Backend,
    input: Vec<u8>,
}

impl Caller {
    #[track_caller]
    fn connect(server: &Server) -> Self {
        Self { backend: Backend::connect(server), input: Vec::new() }
    }

    #[track_caller]
    fn send(&mut self, text: impl AsRef<[u8]>) {
        self.backend.send(text);
    }

    /// The next response, or none at the end of the connection.
    #[track_caller]
    fn receive_or_end(&mut self) -> Option<Answer> {
        loop {
            if let Some(answer) = self.take() {
                return Some(answer);
            }
            let mut buffer = [0; 65536];
            match self.backend.socket.read(&mut buffer) {
                Ok(count) if count > 0 => self.input.extend_from_slice(&buffer[..count]),
                _ => {
                    assert!(self.input.is_empty(), "it ended within {}", self.input.escape_ascii());
                    return None;
                }
            }
        }
    }

    fn take(&mut self) -> Option<Answer> {
        let end = self.input.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&self.input[..end]).expect("a head is text").to_owned();
        let status: u16 = head[9..12].parse().expect("a status");
        let field = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = field.map_or(0, |length| length.parse().expect("a length"));
        let body = self.input.get(end..end + length)?;
        let body = String::from_utf8(body.to_vec()).expect("bodies are text");
        self.input.drain(..end + length);
        Some(Answer { status, head: head.to_ascii_lowercase(), body })
    }

    #[track_caller]
    fn receive(&mut self) -> Answer {
        self.receive_or_end().expect("a response, but the connection ended")
    }

    /// Sends a request and takes its response.
    #[track_caller]
    fn ask(&mut self, method: &str, target: &str, fields: &str, body: &str) -> Answer {
        self.send(request(method, target, fields, body));
        self.receive()
    }
}

fn request(method: &str, target: &str, fields: &str, body: &str) -> String {
    let length = if method == "POST" { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}{length}\r\n{body}")
}

#[track_caller]
fn check(answer: &Answer, status: u16, body: &str) {
    assert_eq!((answer.status, &*answer.body), (status, body), "{}", answer.head);
    assert!(answer.head.contains("\r\ncache-control: no-store\r\n"), "{}", answer.head);
    assert!(answer.head.contains("\r\nx-content-type-options: nosniff\r\n"), "{}", answer.head);
}

#[test]
fn every_route_does_what_its_command_does() {
    for setup in [Setup::new(), Setup::new().tcp()] {
        let server = setup.start();
        let mut client = Client::connect(&server);
        let token = client.token.clone();
        let mut caller = Caller::connect(&server);
        let written = |count| format!(r#"{{"connections":{count},"away":0,"absent":[],"refused":0}}"#);
        check(&caller.ask("POST", "/send?to=*", "", "Hello"), 200, &written(1));
        client.expect_text("Hello");
        let to = format!("/send?to=t%3A{token}");
        check(&caller.ask("POST", &to, "Content-Type: text/plain; charset=UTF-8\r\n", "ü"), 200, &written(1));
        client.expect_text("ü");
        check(&caller.ask("POST", "/join?groups=g1,g2&who=*", "", ""), 200, r#"{"connections":1}"#);
        check(&caller.ask("GET", "/online?who=g:g1,u:9", "", ""), 200, r#"{"g:g1":1,"u:9":0}"#);
        let here = caller.ask("GET", "/here?at=g:g1", "", "");
        check(&here, 200, &format!(r#"{{"tokens":[{{"name":"{token}","connections":1}}]}}"#));
        check(&caller.ask("POST", "/leave?groups=g1&who=*", "", ""), 200, r#"{"connections":1}"#);
        check(&caller.ask("GET", "/online?who=g:g1", "", ""), 200, r#"{"g:g1":0}"#);
        check(&caller.ask("GET", "/healthz", "", ""), 200, "ok\n");
        let status = caller.ask("GET", "/status", "", "");
        assert!(status.status == 200 && status.body.contains(r#""clients":1,"#), "{status:?}");
        let kick = caller.ask("POST", &format!("/kick?who=t:{token}&reason=two%20words"), "", "");
        check(&kick, 200, r#"{"connections":1}"#);
        client.expect_close(4001, "two words");
        check(&caller.ask("POST", &format!("/revoke?who=t:{token}"), "", ""), 200, r#"{"connections":0}"#);
    }
}

#[test]
fn binary_messages_have_a_type_or_a_kind() {
    let server = Setup::new().start();
    let mut client = Client::connect(&server);
    let mut caller = Caller::connect(&server);
    let octets = "Content-Type: application/octet-stream\r\n";
    for (target, fields) in
        [("/send?to=*", octets), ("/send?to=*&kind=binary", "Content-Type: image/png\r\n")]
    {
        assert_eq!(caller.ask("POST", target, fields, "abc").status, 200);
        client.expect(&Frame::binary(b"abc"));
    }
    assert_eq!(caller.ask("POST", "/send?to=*&kind=text", octets, "abc").status, 200);
    client.expect_text("abc");
}

#[test]
fn what_is_not_done_is_told_in_json_and_the_connection_goes_on() {
    let server = Setup::new().start();
    let mut client = Client::connect(&server);
    let mut caller = Caller::connect(&server);
    for (method, target, status, words) in [
        ("GET", "/nowhere", 404, "POST /send, "),
        ("GET", "/send?to=*", 405, "POST"),
        ("DELETE", "/status", 405, "GET"),
        ("POST", "/metrics", 405, "GET"),
        ("GET", "/metrics?x=1", 400, "there is no parameter x"),
        ("POST", "/send", 400, "to is missing"),
        ("POST", "/send?kind=text", 400, "to is missing"),
        ("POST", "/send?to=", 400, "to is missing"),
        ("POST", "/send?to=x:1", 400, "addresses"),
        ("POST", "/send?to=*&to=*", 400, "to is there twice"),
        ("POST", "/send?to=%", 400, "percent-encoded"),
        ("POST", "/send?to=*&gone=3", 400, "there is no parameter gone"),
        ("POST", "/send?to=*&kind=other", 400, "text or binary"),
        ("POST", "/kick?who=*%20u:4", 400, "blank"),
        ("POST", "/revoke?who=*", 400, "logins"),
        ("POST", "/join?groups=a", 400, "who is missing"),
        ("GET", "/here?at=*,*", 400, "one address"),
        ("GET", "/here?at=*&cursor=x", 400, "cursor"),
    ] {
        let answer = caller.ask(method, target, "", "");
        assert_eq!(answer.status, status, "{method} {target}: {answer:?}");
        assert!(
            answer.body.starts_with(r#"{"error":""#) && answer.body.contains(r#"","hint":""#),
            "{answer:?}"
        );
        assert!(answer.body.contains(words), "{method} {target}: {answer:?}");
    }
    assert!(caller.ask("GET", "/kick", "", "").head.contains("\r\nallow: post\r\n"));
    caller.send("POST /send?to=* HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(caller.receive().status, 411);
    let mut binary = request("POST", "/send?to=*", "", "12").into_bytes();
    let end = binary.len();
    binary[end - 2..].copy_from_slice(b"\xff\xfe");
    caller.send(binary);
    let answer = caller.receive();
    assert!(answer.status == 400 && answer.body.contains("UTF-8"), "{answer:?}");
    assert_eq!(caller.ask("GET", "/healthz", "", "").status, 200, "on the same connection");
    client.expect_nothing();
}

#[test]
fn what_is_too_large_or_of_no_known_kind_ends_the_connection() {
    let server = Setup::new().limit("control_payload = 1000").start();
    let long = format!("X: {}\r\n", "x".repeat(66_000));
    let many = "X: y\r\n".repeat(70);
    for (text, status) in [
        (request("POST", "/send?to=*", "", &"x".repeat(1001)), 413),
        ("POST /send?to=* HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n".into(), 413),
        (request("POST", "/send?to=*", "Content-Type: multipart/form-data; boundary=x\r\n", "x"), 415),
        (request("POST", "/send?to=*", "Content-Type: text/plain; charset=latin1\r\n", "x"), 415),
        (request("GET", "/status", &long, ""), 431),
        (request("GET", "/status", &many, ""), 431),
        (request("POST", "/send?to=*", "Expect: tea\r\n", "x"), 417),
        ("GET /status HTTP/2.0\r\nHost: a\r\n\r\n".into(), 505),
    ] {
        let mut caller = Caller::connect(&server);
        caller.send(format!("{text}{}", request("GET", "/healthz", "", "")));
        let answer = caller.receive();
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.head.contains("\r\nconnection: close\r\n"), "{answer:?}");
        assert!(caller.receive_or_end().is_none(), "{status}");
    }
}

/// Whatever could be read in two ways: 400, the end, and nothing behind it is executed.
#[test]
fn nothing_behind_an_ambiguous_request_is_executed() {
    let server = Setup::new().start();
    let mut client = Client::connect(&server);
    let evil = request("POST", "/send?to=*", "", "EVIL");
    let begin = "POST /send?to=* HTTP/1.1\r\nHost: a\r\n";
    let with_lines =
        AMBIGUOUS_LINES.iter().map(|line| format!("{line}Host: a\r\nContent-Length: 4\r\n\r\nEVIL{evil}"));
    let with_heads = AMBIGUOUS_FIELDS.iter().map(|fields| format!("{begin}{fields}\r\nEVIL{evil}"));
    let with_bodies =
        AMBIGUOUS_BODIES.iter().map(|body| format!("{begin}Transfer-Encoding: chunked\r\n\r\n{body}{evil}"));
    let inputs: Vec<String> = with_lines.chain(with_heads).chain(with_bodies).collect();
    assert!(inputs.len() >= 150, "{}", inputs.len());
    for text in inputs {
        for piece_bytes in [text.len(), 7] {
            let mut caller = Caller::connect(&server);
            for piece in text.as_bytes().chunks(piece_bytes) {
                // The connection may be over before the last piece.
                let _ = std::io::Write::write_all(&mut caller.backend.socket, piece);
            }
            let answer = caller.receive();
            assert_eq!(answer.status, 400, "{text:?}: {answer:?}");
            assert!(answer.head.contains("\r\nconnection: close\r\n"), "{answer:?}");
            assert!(caller.receive_or_end().is_none(), "{text:?}");
        }
    }
    client.expect_nothing();
}

#[test]
fn requests_may_be_cut_anywhere_and_follow_each_other() {
    let server = Setup::new().start();
    let mut client = Client::connect(&server);
    let chunked = "POST /send?to=* HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
        2;x=y\r\nch\r\n00005\r\nunked\r\n0\r\n\r\n";
    let text =
        [&*request("POST", "/send?to=*", "", "plain"), chunked, &request("GET", "/healthz", "", "")].concat();
    let mut caller = Caller::connect(&server);
    for piece_bytes in [1, 2, 3, 7, 50, text.len()] {
        text.as_bytes().chunks(piece_bytes).for_each(|piece| caller.send(piece));
        let answers = [caller.receive(), caller.receive(), caller.receive()];
        assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
        assert_eq!(answers[2].body, "ok\n");
        client.expect_text("plain");
        client.expect_text("chunked");
    }
    // As many as one likes, the answers in their order; the last ones after the client has said all.
    let mut writer = caller.backend.socket.duplicate();
    let writing = std::thread::spawn(move || {
        for index in 0..3000 {
            writer.send(request("GET", &format!("/online?who=u:{index}"), "", "").as_bytes());
        }
        writer.finish();
    });
    for index in 0..3000 {
        assert_eq!(caller.receive().body, format!(r#"{{"u:{index}":0}}"#));
    }
    assert!(caller.receive_or_end().is_none());
    writing.join().expect("everything was read");
}

#[test]
fn a_client_that_waits_for_leave_gets_it() {
    let server = Setup::new().start();
    let mut client = Client::connect(&server);
    let mut caller = Caller::connect(&server);
    let fields = "Host: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    caller.send(format!("POST /send?to=* HTTP/1.1\r\n{fields}"));
    assert_eq!(caller.receive().status, 100);
    caller.send("Hello");
    assert_eq!(caller.receive().status, 200);
    client.expect_text("Hello");
    caller.send(format!("POST /send HTTP/1.1\r\n{fields}"));
    assert_eq!(caller.receive().status, 400, "no body is asked for that is not wanted");
}

#[test]
fn versions_and_connection_decide_how_long_it_lasts() {
    let server = Setup::new().start();
    for head in
        ["GET /healthz HTTP/1.0\r\n\r\n", "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"]
    {
        let mut caller = Caller::connect(&server);
        caller.send(head);
        let answer = caller.receive();
        assert!(answer.status == 200 && answer.head.contains("connection: close"), "{answer:?}");
        assert!(caller.receive_or_end().is_none());
    }
    let mut caller = Caller::connect(&server);
    caller.send("HEAD /healthz HTTP/1.0\r\n\r\n");
    let mut all = String::new();
    caller.backend.socket.read_to_string(&mut all).expect("text");
    assert!(all.contains("Content-Length: 3\r\n") && all.ends_with("\r\n\r\n"), "{all}");
}

#[test]
fn browsers_and_names_of_others_are_kept_out() {
    for (setup, is_tcp) in
        [(Setup::new(), false), (Setup::new().tcp().top("control_hosts = 'Push.internal'"), true)]
    {
        let server = setup.start();
        let mut client = Client::connect(&server);
        for field in [
            "Origin: http://a",
            "origin: null",
            "Referer: http://a/",
            "Cookie: a=b",
            "Sec-Fetch-Dest: empty",
            "SEC-FETCH-Site: x",
        ] {
            let mut caller = Caller::connect(&server);
            let answer = caller.ask("POST", "/send?to=*", &format!("{field}\r\n"), "EVIL");
            assert_eq!(answer.status, 403, "{field}: {answer:?}");
            assert!(caller.receive_or_end().is_none(), "{field}");
        }
        client.expect_nothing();
        for (host, is_own) in [
            ("127.0.0.1", true),
            ("127.0.0.1:80", true),
            ("[::1]:80", true),
            ("[::1]", true),
            ("LocalHost:1", true),
            ("push.internal:9", true),
            ("rebound.example", false),
            ("rebound.example:80", false),
            ("localhost.example", false),
            ("127.0.0.1.example", false),
            ("0x7f000001", false),
            ("[rebound]", false),
            ("::1", false),
            ("localhost:80:80", false),
        ] {
            let mut caller = Caller::connect(&server);
            caller.send(format!("POST /send?to=* HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\n\r\nx"));
            let status = if is_own || !is_tcp { 200 } else { 403 };
            assert_eq!(caller.receive().status, status, "{host}");
            if status == 200 {
                client.expect_text("x");
            }
        }
        let mut caller = Caller::connect(&server);
        caller.send("GET /status HTTP/1.0\r\n\r\n");
        assert_eq!(caller.receive().status, if is_tcp { 403 } else { 200 }, "no Host");
        client.expect_nothing();
    }
}

#[test]
fn a_silent_connection_is_closed_without_a_ping() {
    let server = Setup::new().timeout("control = 0.4").start();
    let mut caller = Caller::connect(&server);
    assert_eq!(caller.ask("GET", "/healthz", "", "").status, 200);
    let begin = Instant::now();
    assert!(caller.receive_or_end().is_none());
    let waited = begin.elapsed();
    assert!(waited > Duration::from_millis(350) && waited < Duration::from_secs(10), "{waited:?}");
}

#[test]
fn what_a_connection_speaks_it_speaks_for_its_whole_life() {
    let server = Setup::new().start();
    let mut client = Client::connect(&server);
    let mut caller = Caller::connect(&server);
    assert_eq!(caller.ask("GET", "/healthz", "", "").status, 200);
    assert_eq!(caller.ask("5bHELLO", "/", "", "").status, 400);
    let mut backend = Backend::connect(&server);
    backend.done();
    backend.send(request("POST", "/send?to=*", "", "EVIL"));
    backend.expect_error();
    client.expect_nothing();
}

/// The tool of every host, as the page shows it.
#[test]
fn curl_pushes_a_message() {
    let server = Setup::new().start();
    let mut client = Client::connect(&server);
    let control = server.control.url();
    let socket = control.strip_prefix("unix://").expect("a Unix socket");
    let url = |path: &str| format!("http://wsson{path}");
    let run = |arguments: &[&str]| {
        let mut curl = std::process::Command::new("curl");
        let output = curl.args(["-sS", "--max-time", "20", "--unix-socket", socket]).args(arguments).output();
        output.map(|output| String::from_utf8(output.stdout).expect("text"))
    };
    let Ok(written) = run(&["-d", "Hello", &url("/send?to=*")]) else { return };
    assert_eq!(written, r#"{"connections":1,"away":0,"absent":[],"refused":0}"#);
    client.expect_text("Hello");
    let large = "x".repeat(100_000);
    assert!(run(&["-H", "Expect: 100-continue", "-d", &large, &url("/send?to=*")]).is_ok());
    client.expect_text(&large);
    assert_eq!(run(&["-X", "POST", &url("/kick?who=u:1")]).ok().as_deref(), Some(r#"{"connections":0}"#));
}

/// The response keeps its place, and only this connection waits.
#[test]
fn a_response_waits_for_the_browsers() {
    let server = Setup::new().start();
    let mut client = Client::connect(&server);
    let mut caller = Caller::connect(&server);
    let target = format!("/send?to=t:{}&arrived=20", client.token);
    caller.send(request("POST", &target, "", "hello") + &request("GET", "/healthz", "", ""));
    client.expect_text("hello");
    let ping = client.receive();
    let mut other = Caller::connect(&server);
    check(&other.ask("GET", "/healthz", "", ""), 200, "ok\n");
    client.send(&frame(0x80 | PONG, &ping.payload));
    let answer = caller.receive();
    let expected = r#"{"connections":1,"away":0,"absent":[],"refused":0,"arrived":1,"ms":"#;
    assert!(answer.status == 200 && answer.body.starts_with(expected), "{answer:?}");
    assert!(answer.head.contains("\r\ncache-control: no-store\r\n"), "{}", answer.head);
    check(&caller.receive(), 200, "ok\n");
    // The last request of a connection, and one that nobody answers.
    other.send(request("POST", &target.replace("=20", "=0.2"), "Connection: close\r\n", "again"));
    let answer = other.receive();
    assert!(
        answer.body.contains(r#""connections":1,"away":0,"absent":[],"refused":0,"arrived":0,"#),
        "{answer:?}"
    );
    assert!(answer.head.contains("\r\nconnection: close\r\n"), "{}", answer.head);
    assert!(other.receive_or_end().is_none());
    let nobody = r#"{"connections":0,"away":0,"absent":["u:1"],"refused":0,"arrived":0,"ms":0}"#;
    check(&caller.ask("POST", "/send?to=u:1&arrived=1", "", "hello"), 200, nobody);
    for wrong in ["0", "-1", "31", "1e1", "inf", "NaN", "x", ""] {
        let answer = caller.ask("POST", &format!("/send?to=u:1&arrived={wrong}"), "", "hello");
        assert!(answer.status == 400 && answer.body.contains("arrived is not a time"), "{wrong}: {answer:?}");
    }
}

/// A program that asks whether the server is well hears that it is not, until it is gone; nothing is done any more.
#[test]
fn while_the_server_drains_it_says_so() {
    let mut server = Setup::new().timeout("drain = 20").timeout("close = 20").start();
    let mut client = Client::connect(&server);
    let mut callers: Vec<Caller> = (0..5).map(|_| Caller::connect(&server)).collect();
    for caller in &mut callers {
        assert_eq!(caller.ask("GET", "/healthz", "", "").body, "ok\n");
    }
    callers[3].send("POST /send?to=* HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nEV");
    callers[4].send("GET /heal");
    server.signal("TERM");
    client.expect_close_code(1001); // which it does not answer yet
    for (place, target, status) in [(0, "/healthz", 503), (1, "/status", 200), (2, "/online?who=*", 503)] {
        let answer = callers[place].ask("GET", target, "", "");
        assert_eq!(answer.status, status, "{target}: {answer:?}");
        assert!(answer.body.contains("draining") || status == 200, "{answer:?}");
        assert!(answer.head.contains("\r\nconnection: close\r\n"), "{answer:?}");
        assert!(callers[place].receive_or_end().is_none());
    }
    callers[3].send("IL");
    assert_eq!(callers[3].receive().status, 503);
    callers[4].send("thz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(callers[4].receive().body, "draining\n");
    drop(client);
    assert_eq!(server.exit_code(), Some(0), "an idle connection does not keep it");
}

/// Over `limits.control_total` the request that is most of it is told why it ends.
#[test]
fn one_that_is_too_much_is_told() {
    let limits = "control_payload = \"100 KiB\"\ncontrol_outbox = \"16 KiB\"\ncontrol_total = 1";
    let server = Setup::new().limit(limits).start();
    let begin = |bytes: usize| {
        let mut caller = Caller::connect(&server);
        caller.send("POST /send?to=* HTTP/1.1\r\nHost: a\r\nContent-Length: 102400\r\n\r\n");
        caller.send("x".repeat(bytes));
        caller
    };
    let mut first = begin(90_000);
    let mut second = begin(60_000);
    let answer = first.receive();
    assert!(answer.status == 503 && answer.body.contains("limits.control_total"), "{answer:?}");
    assert!(answer.head.contains("\r\nconnection: close\r\n"), "{answer:?}");
    assert!(first.receive_or_end().is_none());
    second.send("x".repeat(42_400));
    assert_eq!(second.receive().status, 200, "the other one is not disturbed");
}

const JSON: &str = "Content-Type: application/json\r\n";

#[test]
fn sends_come_in_json_too() {
    let server = Setup::new().start();
    let mut client = Client::connect(&server);
    let mut caller = Caller::connect(&server);
    let one = format!(r#"{{"to":["t:{}","u:9"],"text":"Hell\u00f6"}}"#, client.token);
    let answer = r#"{"connections":1,"away":0,"absent":["u:9"],"refused":0}"#;
    check(&caller.ask("POST", "/send", JSON, &one), 200, answer);
    client.expect_text("Hellö");
    let binary = r#"{"to":"*","base64":"AP8="}"#;
    let all = r#"{"connections":1,"away":0,"absent":[],"refused":0}"#;
    let fields = "Content-Type: Application/JSON; charset=utf-8\r\n";
    check(
        &caller.ask("POST", "/send", fields, &format!("[{one}, {binary}]")),
        200,
        &format!("[{answer},{all}]"),
    );
    client.expect_text("Hellö");
    client.expect(&Frame::binary(b"\x00\xff"));
    check(&caller.ask("POST", "/send", JSON, "[]"), 200, "[]");
    // Where the URL says to whom, the JSON is the message.
    check(&caller.ask("POST", "/send?to=*", JSON, &one), 200, all);
    client.expect_text(&one);
    client.expect_nothing();
}

/// Thousands of sends in one body: in order, in several turns, and what is asked meanwhile is answered.
#[test]
fn a_long_list_of_sends_takes_its_turns() {
    let server = Setup::new().limit("outbox = \"4 MiB\"").start();
    let mut client = Client::connect(&server);
    let mut caller = Caller::connect(&server);
    let list: Vec<String> = (0..9_000).map(|n| format!(r#"{{"to":["*"],"text":"{n}"}}"#)).collect();
    let mut writer = caller.backend.socket.duplicate();
    let body = request("POST", "/send", JSON, &format!("[{}]", list.join(",")))
        + &request("GET", "/healthz", "", "");
    let writing = std::thread::spawn(move || writer.send(body.as_bytes()));
    let mut other = Caller::connect(&server);
    assert_eq!(other.ask("GET", "/healthz", "", "").status, 200);
    for n in 0..9_000 {
        client.expect_text(&n.to_string());
    }
    let answer = caller.receive();
    assert_eq!((answer.status, answer.body.matches(r#""connections":1"#).count()), (200, 9_000));
    assert_eq!(caller.receive().body, "ok\n", "the next request on the same connection");
    writing.join().expect("everything was read");
    let many: Vec<&str> = (0..10_001).map(|_| r#"{"to":["*"],"text":"EVIL"}"#).collect();
    let answer = caller.ask("POST", "/send", JSON, &format!("[{}]", many.join(",")));
    assert!(answer.status == 400 && answer.body.contains("more than 10000 addresses"), "{answer:?}");
    client.expect_nothing();
}

/// Nothing of a body with a fault anywhere is sent; the fault is told with its place, and the connection goes on.
#[test]
fn bad_json_sends_nothing() {
    let server = Setup::new().limit("control_payload = \"16 MiB\"").start();
    let mut client = Client::connect(&server);
    let mut caller = Caller::connect(&server);
    let good = r#"{"to":["*"],"text":"EVIL"}"#;
    let deep = "[".repeat(10_000);
    let deep_value = format!(r#"{{"to":["*"],"text":{deep}"#);
    let long = format!(r#"[{good},{{"to":["*"],"text":"{}"#, "x".repeat(10_000_000));
    for (body, words) in [
        ("", "line 1, column 0"),
        ("EVIL", "line 1, column 1"),
        (good.replace("EVIL", "\\ud800").as_str(), "line 1, column 27"),
        (r#"{"to":["*"],"text":NaN}"#, "line 1, column 20"),
        (r#"{"to":["*"],"text":"EVIL","to":["*"]}"#, "is there twice"),
        (r#"{"to":["*"],"text":"EVIL","text":"EVIL"}"#, "two messages"),
        (r#"{"to":["*"],"text":"EVIL","when":"now"}"#, "there is no member"),
        (&format!("[{good},\n{{\"to\":[\"x:1\"],\"text\":\"EVIL\"}}]"), "line 2, column"),
        (&format!("[{good},{good}"), "line 1, column"),
        (&format!("[{good},{good}]]"), "line 1, column"),
        (&format!("{good}{good}"), "trailing characters"),
        (&deep, "invalid type"),
        (&deep_value, "invalid type"),
        (&long, "line 1, column 10000"),
    ] {
        let answer = caller.ask("POST", "/send", JSON, body);
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(
            answer.body.contains("the JSON is not right") && answer.body.contains(words),
            "{words}: {answer:?}"
        );
    }
    for (target, fields, status) in
        [("/send?kind=text", JSON, 400), ("/send", "Content-Type: application/json; charset=utf-16\r\n", 415)]
    {
        assert_eq!(Caller::connect(&server).ask("POST", target, fields, good).status, status);
    }
    client.expect_nothing();
}

/// First lines, fields and bodies that two readers could take for different requests (threats.md row 26).
const AMBIGUOUS_LINES: &[&str] = &[
    "POST  /send?to=* HTTP/1.1\r\n",
    "POST\t/send?to=* HTTP/1.1\r\n",
    "POST /send?to=*  HTTP/1.1\r\n",
    "POST /send?to=* HTTP/1.1 \r\n",
    "POST /send?to=*\tHTTP/1.1\r\n",
    "POST /send?to=* HTTP/1.1\n",
    "POST /send?to=* HTTP/1.1\r\r\n",
    "POST /send?to=* HTTP/1.10\r\n",
    "POST /send?to=* HTTP/11\r\n",
    "POST /send?to=* http/1.1\r\n",
    "POST /send?to=* HTTP/1\r\n",
    "POST /send?to=* HTTP /1.1\r\n",
    "POST /send?to=*\r\n",
    "POST /send ?to=* HTTP/1.1\r\n",
    "POST /send?to=\0* HTTP/1.1\r\n",
    "POST /send?to=\u{e4} HTTP/1.1\r\n",
    "P\0OST /send?to=* HTTP/1.1\r\n",
    "POST: /send?to=* HTTP/1.1\r\n",
    "POST http://b/send?to=* HTTP/1.1\r\n",
    "POST * HTTP/1.1\r\n",
    "POST b:80 HTTP/1.1\r\n",
];
const AMBIGUOUS_FIELDS: &[&str] = &[
    "Content-Length: 4\r\nContent-Length: 4\r\n",
    "Content-Length: 4\r\nContent-Length: 5\r\n",
    "Content-Length: 4\r\nContent-Length: \r\n",
    "content-length: 4\r\nCONTENT-LENGTH: 4\r\n",
    "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
    "Content-Length: 4\r\nTransfer-Encoding: cow\r\n",
    "Content-Length: 4\r\nTransfer-Encoding: identity\r\n",
    "Content-Length: 4\r\n Transfer-Encoding: chunked\r\n",
    "Content-Length: 4\r\nTransfer-Encoding:\r\n chunked\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: chunked, gzip\r\n",
    "Transfer-Encoding: chunked, chunked\r\n",
    "Transfer-Encoding: identity, chunked\r\n",
    "Transfer-Encoding: chunked, identity\r\n",
    "Transfer-Encoding: ,chunked\r\n",
    "Transfer-Encoding: chunked,\r\n",
    "Transfer-Encoding: chunked;q=1\r\n",
    "Transfer-Encoding: \"chunked\"\r\n",
    "Transfer-Encoding: chun ked\r\n",
    "Transfer-Encoding: chunked\u{b}\r\n",
    "Transfer-Encoding: \u{b}chunked\r\n",
    "Transfer-Encoding: \u{c}chunked\r\n",
    "Transfer-Encoding: chunked\0\r\n",
    "Transfer-Encoding: chunked\u{7f}\r\n",
    "Transfer-Encoding: \u{a0}chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding: chunkedx\r\n",
    "Transfer-Encoding: deflate\r\n",
    "Transfer-Encoding: trailers\r\n",
    "Transfer-Encoding: \r\n",
    "Transfer-Encoding\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Transfer-Encoding\t: chunked\r\n",
    "Transfer-Encoding: chunked\n",
    "X:\nTransfer-Encoding: chunked\r\n",
    "X: a\rTransfer-Encoding: chunked\r\n",
    "Content-Length: +4\r\n",
    "Content-Length: -4\r\n",
    "Content-Length: 4, 4\r\n",
    "Content-Length: 4,\r\n",
    "Content-Length: ,4\r\n",
    "Content-Length: 4;\r\n",
    "Content-Length: 4.0\r\n",
    "Content-Length: 1e0\r\n",
    "Content-Length: 0x4\r\n",
    "Content-Length: 0b100\r\n",
    "Content-Length: 4_0\r\n",
    "Content-Length: 4h\r\n",
    "Content-Length: \"4\"\r\n",
    "Content-Length: (4)\r\n",
    "Content-Length: 4 4\r\n",
    "Content-Length: 4\t5\r\n",
    "Content-Length: \u{ff14}\r\n",
    "Content-Length: 4\0\r\n",
    "Content-Length: 4\u{b}\r\n",
    "Content-Length: 99999999999999999999\r\n",
    "Content-Length: 18446744073709551620\r\n",
    "Content-Length: 340282366920938463463374607431768211460\r\n",
    "Content-Length: \r\n",
    "Content-Length:\r\n 4\r\n",
    "Content-Length : 4\r\n",
    "Content-Length\t: 4\r\n",
    " Content-Length: 4\r\n",
    "\tContent-Length: 4\r\n",
    "Content-Length: 4\n",
    "Content-Length: 4\r\r\n",
    "Con\0tent-Length: 4\r\n",
    "Content Length: 4\r\n",
    ": 4\r\n",
    "Foo\r\nContent-Length: 4\r\n",
    "Host: b\r\nContent-Length: 4\r\n",
    "Host: a\r\nContent-Length: 4\r\n",
    "hOST: b\r\nContent-Length: 4\r\n",
    "X: a\r\n folded\r\nContent-Length: 4\r\n",
    "X: a\r\n\tfolded\r\nContent-Length: 4\r\n",
    "X: a\0b\r\nContent-Length: 4\r\n",
    "X: a\rb\r\nContent-Length: 4\r\n",
    "X: a\nContent-Length: 4\r\n",
];
const AMBIGUOUS_BODIES: &[&str] = &[
    "4\nEVIL\n0\n\n",
    "4\nEVIL\r\n0\r\n\r\n",
    "4 \r\nEVIL\r\n0\r\n\r\n",
    "4\t\r\nEVIL\r\n0\r\n\r\n",
    " 4\r\nEVIL\r\n0\r\n\r\n",
    "\t4\r\nEVIL\r\n0\r\n\r\n",
    "+4\r\nEVIL\r\n0\r\n\r\n",
    "-4\r\nEVIL\r\n0\r\n\r\n",
    "0x4\r\nEVIL\r\n0\r\n\r\n",
    "4h\r\nEVIL\r\n0\r\n\r\n",
    "4_0\r\nEVIL\r\n0\r\n\r\n",
    "4,\r\nEVIL\r\n0\r\n\r\n",
    "4.0\r\nEVIL\r\n0\r\n\r\n",
    "\"4\"\r\nEVIL\r\n0\r\n\r\n",
    "\u{ff14}\r\nEVIL\r\n0\r\n\r\n",
    "4\0\r\nEVIL\r\n0\r\n\r\n",
    "4\u{b}\r\nEVIL\r\n0\r\n\r\n",
    "4\r\r\nEVIL\r\n0\r\n\r\n",
    "4\rEVIL\r\n0\r\n\r\n",
    "4 ;a\r\nEVIL\r\n0\r\n\r\n",
    "4;a\nb\r\nEVIL\r\n0\r\n\r\n",
    "4;a\rb\r\nEVIL\r\n0\r\n\r\n",
    "4;a\tb\r\nEVIL\r\n0\r\n\r\n",
    "4;\0\r\nEVIL\r\n0\r\n\r\n",
    "4;\u{7f}\r\nEVIL\r\n0\r\n\r\n",
    "4;\u{e4}\r\nEVIL\r\n0\r\n\r\n",
    "4;a=\"\r\n\"\r\nEVIL\r\n0\r\n\r\n",
    "4;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nEVIL\r\n0\r\n\r\n",
    ";a\r\nEVIL\r\n0\r\n\r\n",
    "2\r\nEVIL\r\n0\r\n\r\n",
    "3\r\nEVIL\r\n0\r\n\r\n",
    "5\r\nEVIL\r\n0\r\n\r\n",
    "4\r\nEVILX\r\n0\r\n\r\n",
    "4\r\nEVIL0\r\n\r\n",
    "4\r\nEVIL\n0\r\n\r\n",
    "4\r\nEVIL\r0\r\n\r\n",
    "4\r\nEVIL\r\r\n0\r\n\r\n",
    "4\r\nEVIL\r\n\r\n0\r\n\r\n",
    "4\r\n\r\nEVIL\r\n0\r\n\r\n",
    "\r\n4\r\nEVIL\r\n0\r\n\r\n",
    "\n4\r\nEVIL\r\n0\r\n\r\n",
    "000000004\r\nEVIL\r\n0\r\n\r\n",
    "fffffffff\r\nEVIL\r\n0\r\n\r\n",
    "fffffffffffffffff\r\nEVIL\r\n0\r\n\r\n",
    "10000000000000004\r\nEVIL\r\n0\r\n\r\n",
    "g\r\nEVIL\r\n",
    "EVIL",
    "4\r\nEVIL\r\n-0\r\n\r\n",
    "4\r\nEVIL\r\n+0\r\n\r\n",
    "4\r\nEVIL\r\n0x0\r\n\r\n",
    "4\r\nEVIL\r\n0 \r\n\r\n",
    "4\r\nEVIL\r\n0\n\r\n",
    "4\r\nEVIL\r\n0\r\n\n",
    "4\r\nEVIL\r\n0\r\r\n",
    "4\r\nEVIL\r\n0\r\n \r\n",
    "4\r\nEVIL\r\n0\r\n\t\r\n",
    "4\r\nEVIL\r\n0\r\n0\r\n\r\n",
    "4\r\nEVIL\r\n0\r\nX: y\r\n\r\n",
    "4\r\nEVIL\r\n0\r\nHost: b\r\n\r\n",
    "4\r\nEVIL\r\n0\r\nContent-Length: 5\r\n\r\n",
    "4\r\nEVIL\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "0\r\nX: y\r\n\r\n",
];
