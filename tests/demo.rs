//! `wsson demo` through the real binary: the page, its login, a push, and an end without a trace.
//!
//! The page in a real browser is tested by tests/clients/demo_page.py.

mod rig;

use rig::{Ended, PATIENCE, Running, read_head};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{ChildStdout, Command, Stdio};

/// A running demo with a temporary folder of its own.
struct Demo {
    process: Running,
    folder: rig::Site,
    out: BufReader<ChildStdout>,
    /// Its output up to the line that says how it ends.
    introduction: String,
    port: u16,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let folder = rig::Site::new();
        let mut command = rig::wsson(&["demo"]);
        let mut process =
            Running::start(command.args(arguments).env("TMPDIR", folder.folder()).stdout(Stdio::piped()));
        let mut out = process.output();
        let mut introduction = String::new();
        while !introduction.contains("Ctrl-C") {
            assert_ne!(out.read_line(&mut introduction).expect("text"), 0, "it ended: {introduction}");
        }
        let address = introduction.split("http://127.0.0.1:").nth(1).expect("it prints the address");
        let port = address.split('/').next().and_then(|port| port.parse().ok()).expect("a port");
        Self { process, folder, out, introduction, port }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a positive time");
        stream
    }

    /// The whole answer to a GET with these fields.
    fn get(&self, target: &str, fields: &str) -> String {
        let mut stream = self.connect();
        write!(stream, "GET {target} HTTP/1.1\r\n{fields}\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers, in UTF-8, and closes");
        answer
    }

    fn host(&self) -> String {
        format!("Host: 127.0.0.1:{}\r\n", self.port)
    }

    /// The Cookie field that a browser would send after it got this page.
    fn cookies(page: &str) -> String {
        let set = page.lines().filter_map(|line| line.strip_prefix("Set-Cookie: "));
        let pairs: Vec<&str> = set.filter_map(|line| line.split(';').next()).collect();
        assert_eq!(pairs.len(), 4, "{page}");
        format!("Cookie: {}\r\n", pairs.join("; "))
    }

    /// Asks for a WebSocket; returns the stream behind the response's head, and that head.
    fn upgrade(&self, cookies: &str, origin: &str) -> (BufReader<TcpStream>, String) {
        let mut stream = self.connect();
        write!(
            stream,
            "GET /anna HTTP/1.1\r\n{}{cookies}Origin: {origin}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.host()
        )
        .expect("it reads");
        let mut stream = BufReader::new(stream);
        let head = read_head(&mut stream);
        (stream, head)
    }

    /// The cookies of this user, new ones.
    fn login(&self, user: &str) -> String {
        Self::cookies(&self.get(&format!("/{user}"), &self.host()))
    }

    /// The WebSocket of this user's page.
    fn tab(&self, user: &str) -> BufReader<TcpStream> {
        self.tab_of(user, &self.login(user))
    }

    fn tab_of(&self, user: &str, cookies: &str) -> BufReader<TcpStream> {
        let (mut stream, head) = self.upgrade(cookies, &self.origin());
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(message(&mut stream).starts_with(&format!("Welcome, {user}.")));
        stream
    }

    fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn control(&self) -> PathBuf {
        let text = self.introduction.split("nc -NU ").nth(1).expect("it prints the control socket");
        text.lines().next().expect("a line").into()
    }
}

/// The next message that is not the demo's own news.
#[track_caller]
fn message(stream: &mut impl Read) -> String {
    loop {
        let text = text(stream);
        if !text.starts_with("{\"demo\":{\"here\"") {
            return text;
        }
    }
}

/// Waits for the news that these are here: the name, its tabs, and those in the room.
#[track_caller]
fn news(stream: &mut impl Read, here: &str) {
    let expected = format!("{{\"demo\":{{\"here\":{here}}}}}");
    while text(stream) != expected {}
}

/// The payload of a small unmasked text frame.
#[track_caller]
fn text(stream: &mut impl Read) -> String {
    let mut head = [0; 2];
    stream.read_exact(&mut head).expect("a frame");
    assert_eq!(head[0], 0x81, "FIN and text");
    assert!(head[1] < 126, "a small frame");
    let mut payload = vec![0; usize::from(head[1])];
    stream.read_exact(&mut payload).expect("a payload");
    String::from_utf8(payload).expect("text is UTF-8")
}

#[test]
fn the_page_comes_with_its_headers_and_logs_in() {
    let demo = Demo::start(&["--port", "0"]);
    let page = demo.get("/anna", &demo.host());
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    for field in [
        "Content-Type: text/html; charset=utf-8\r\n",
        "X-Content-Type-Options: nosniff\r\n",
        "Cache-Control: no-store\r\n",
        "; Path=/anna; Max-Age=86400; HttpOnly; SameSite=Strict\r\n",
        &format!("connect-src 'self' ws://127.0.0.1:{};", demo.port),
        "Content-Security-Policy: default-src 'none'; ",
    ] {
        assert!(page.contains(field), "no {field} in {page}");
    }
    let nonce =
        page.split("script-src 'nonce-").nth(1).and_then(|rest| rest.split('\'').next()).expect("one");
    assert!(page.contains(&format!("<script nonce=\"{nonce}\">")));
    assert!(page.contains(&format!("<style nonce=\"{nonce}\">")));
    assert!(!page.contains(" onclick") && !page.contains("@NONCE@") && !page.contains("style=\""));

    // A visitor who is logged in keeps the login; a nonce is never used twice.
    let cookies = Demo::cookies(&page);
    let again = demo.get("/anna", &format!("{}{cookies}", demo.host()));
    assert!(!again.contains("Set-Cookie") && !again.contains(nonce), "{again}");
    let forged = cookies.replace(&format!("digest_{}=", demo.port), &format!("digest_{}=0", demo.port));
    assert_ne!(Demo::cookies(&demo.get("/anna", &format!("{}{forged}", demo.host()))), cookies);
    // The cookies of one user are no login of another.
    assert_ne!(Demo::cookies(&demo.get("/ben", &format!("{}{cookies}", demo.host()))), cookies);
}

#[test]
fn a_visitor_without_a_name_is_given_one_that_is_free() {
    let demo = Demo::start(&["--port", "0"]);
    let name = || {
        let answer = demo.get("/", &demo.host());
        assert!(answer.starts_with("HTTP/1.1 302 ") && !answer.contains("Set-Cookie"), "{answer}");
        let place = answer.split("Location: /").nth(1).and_then(|rest| rest.lines().next()).expect("a place");
        place.to_owned()
    };
    assert_eq!([name(), name()], ["anna", "ben"], "two tabs are two users");
    let _cleo = demo.tab("cleo");
    assert_eq!([name(), name()], ["dan", "eve"]);
}

#[test]
fn the_script_is_told_who_the_visitor_is() {
    let demo = Demo::start(&["--port", "0"]);
    let json = format!("{}Accept: application/json\r\n", demo.host());
    let fresh = demo.get("/anna", &json);
    let cookies = Demo::cookies(&fresh);
    let known = demo.get("/anna", &format!("{json}{cookies}"));
    assert!(known.contains("Content-Type: application/json\r\n") && !known.contains("Set-Cookie"), "{known}");
    let name = format!("token_{}=", demo.port);
    let token = cookies.split(&name).nth(1).and_then(|rest| rest.split(';').next()).expect("a token");
    let expected =
        format!("{{\"user\":\"anna\",\"token\":\"{token}\",\"control\":\"{}\",", demo.control().display());
    for answer in [&fresh, &known] {
        assert!(answer.contains(&expected), "no {expected} in {answer}");
    }
}

#[test]
fn nothing_else_is_served() {
    let demo = Demo::start(&["--port", "0"]);
    for path in [
        "/etc/passwd",
        "/favicon.ico",
        "/a%20b",
        "/an%6Ea",
        "/anna/",
        "/anna?a",
        "/an&na",
        "/a_name_of_21_letters_",
    ] {
        let answer = demo.get(path, &demo.host());
        assert!(answer.starts_with("HTTP/1.1 404 ") && !answer.contains("Set-Cookie"), "{path}: {answer}");
    }
    let foreign = format!("Host: evil.example:{}\r\n", demo.port);
    let answer = demo.get("/", &foreign);
    assert!(answer.starts_with("HTTP/1.1 421 ") && !answer.contains("Set-Cookie"), "{answer}");
}

#[test]
fn a_push_arrives_in_the_visitors_browser() {
    let mut demo = Demo::start(&["--port", "0"]);
    let mut visitor = demo.tab("anna");

    let mut backend = UnixStream::connect(demo.control()).expect("the control socket is there");
    backend.write_all("6bHellö\n".as_bytes()).expect("it reads");
    assert_eq!(message(&mut visitor), "Hellö");

    // The command that the demo prints for this visitor works as it stands.
    let mut announced = String::new();
    while !announced.contains(" send --control") {
        assert_ne!(demo.out.read_line(&mut announced).expect("text"), 0, "{announced}");
    }
    let line = announced.lines().last().expect("the command");
    let sent = Command::new("sh").args(["-c", line]).status().expect("a shell");
    assert!(sent.success(), "{line}");
    assert_eq!(message(&mut visitor), "Hello, anna");
}

/// A binary message of a page, masked with zeros.
fn say(stream: &mut BufReader<TcpStream>, data: &[u8]) {
    let mut frame = vec![0x82, 0x80 | u8::try_from(data.len()).expect("small"), 0, 0, 0, 0];
    frame.extend_from_slice(data);
    stream.get_mut().write_all(&frame).expect("it reads");
}

/// The page's button: the frames that the page shows, and nothing else.
#[test]
fn a_page_does_what_it_shows() {
    let demo = Demo::start(&["--port", "0"]);
    let login = demo.login("anna");
    let mut tabs = [demo.tab_of("anna", &login), demo.tab_of("anna", &login), demo.tab("ben")];
    for tab in &mut tabs {
        news(tab, r#"[["anna",2,0],["ben",1,0]]"#);
    }
    let malformed: [&[u8]; 8] = [b"", b"b", b"1b\xff", b"3x* H", b"0t", b"0q", b"6bHello", b"1bH1bH"];
    for nothing in malformed {
        say(&mut tabs[0], nothing);
    }
    say(&mut tabs[0], "13wu:anna w\u{f6}rld".as_bytes());
    say(&mut tabs[0], b"9beverybody");
    for tab in &mut tabs[..2] {
        assert_eq!(message(tab), "w\u{f6}rld");
    }
    for tab in &mut tabs {
        assert_eq!(message(tab), "everybody");
    }

    say(&mut tabs[0], b"10jroom u:ben");
    assert_eq!(message(&mut tabs[0]), r#"{"demo":{"answer":"{\"connections\":1}"}}"#);
    for tab in &mut tabs {
        news(tab, r#"[["anna",2,0],["ben",1,1]]"#);
    }
    say(&mut tabs[0], b"12wg:room hello");
    assert_eq!(message(&mut tabs[2]), "hello");
    say(&mut tabs[0], b"6hg:room");
    assert_eq!(
        message(&mut tabs[0]),
        r#"{"demo":{"answer":"{\"users\":[{\"name\":\"ben\",\"connections\":1}]}"}}"#
    );
    say(&mut tabs[0], b"10Jroom u:ben");
    news(&mut tabs[2], r#"[["anna",2,0],["ben",1,0]]"#);

    say(&mut tabs[2], b"14ku:anna see you");
    assert_eq!(message(&mut tabs[2]), r#"{"demo":{"answer":"{\"connections\":2}"}}"#);
    news(&mut tabs[2], r#"[["ben",1,0]]"#);
    news(&mut tabs[1], r#"[["anna",2,0],["ben",1,0]]"#);
    let mut close = [0; 11];
    tabs[1].read_exact(&mut close).expect("a close frame");
    assert_eq!((&close[..4], &close[4..]), (&[0x88, 9, 0x0f, 0xa1][..], &b"see you"[..]), "4001");
}

/// A tab that comes between two looks at who is here is told all the same.
#[test]
fn a_page_is_told_who_is_here_as_soon_as_it_comes() {
    let demo = Demo::start(&["--port", "0"]);
    let mut tab = demo.tab("anna");
    assert_eq!(text(&mut tab), r#"{"demo":{"here":[["anna",1,0]]}}"#);
}

#[test]
fn another_origin_and_forged_cookies_are_refused() {
    let demo = Demo::start(&["--port", "0"]);
    let cookies = demo.login("anna");
    let port = demo.port;
    for origin in ["http://example.com", "http://127.0.0.1", &format!("https://127.0.0.1:{port}"), "null"] {
        let (_, head) = demo.upgrade(&cookies, origin);
        assert!(head.starts_with("HTTP/1.1 403 "), "{origin}: {head}");
    }
    let forged = cookies.replace(&format!("digest_{port}="), &format!("digest_{port}=0"));
    assert!(demo.upgrade(&forged, &demo.origin()).1.starts_with("HTTP/1.1 403 "));
    let localhost = demo.origin().replace("127.0.0.1", "localhost");
    assert!(demo.upgrade(&cookies, &localhost).1.starts_with("HTTP/1.1 101 "));
}

#[test]
fn a_signal_ends_it_without_a_trace() {
    for signal in ["TERM", "INT", "HUP"] {
        let mut demo = Demo::start(&["--port", "0"]);
        let mut visitor = demo.tab("anna");
        assert_eq!(text(&mut visitor), r#"{"demo":{"here":[["anna",1,0]]}}"#);
        assert_eq!(demo.folder.count(), 1);
        demo.process.signal(signal);
        let mut close = [0; 4];
        visitor.read_exact(&mut close).expect("a close frame");
        while close[0] == 0x81 {
            let mut rest = vec![0; usize::from(close[1]) - 2];
            visitor.read_exact(&mut rest).expect("the news");
            visitor.read_exact(&mut close).expect("a close frame");
        }
        assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, 1001));
        drop(visitor);
        assert_eq!(demo.process.code(), Some(0), "{signal}");
        assert_eq!(demo.folder.count(), 0, "{signal}");
    }
}

#[test]
fn an_occupied_port_is_told() {
    let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = holder.local_addr().expect("it is bound").port().to_string();
    let folder = rig::Site::new();
    let mut command = rig::wsson(&["demo", "--port", &port]);
    Ended::of(command.env("TMPDIR", folder.folder()))
        .with(1)
        .says(&port)
        .says("another server answers there");
    assert_eq!(folder.count(), 0);

    // The usual port is not asked for by name, so another one will do. Someone else may hold it already.
    let usual = TcpListener::bind("127.0.0.1:8099");
    let demo = Demo::start(&[]);
    assert!(demo.introduction.starts_with("Port 8099 is occupied"), "{}", demo.introduction);
    assert!(demo.port != 8099 && demo.get("/anna", &demo.host()).contains("200 OK"));
    drop(usual);
}
