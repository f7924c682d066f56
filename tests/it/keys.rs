//! The control key: docs/http.md "Who may", docs/threats.md row 25.

use crate::backend::{Backend, command};
use crate::client::Client;
use crate::server::{Address, Server, Setup, Socket, eventually};
use std::fs::Permissions;
use std::io::Read;
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// A server with a TCP control port and this key.
fn setup(key: &str) -> Setup {
    let setup = Setup::new().tcp().top("control_key_file = \"control.key\"");
    setup.write("control.key", &format!("{key}\n"));
    setup
}

fn started() -> Server {
    setup(KEY).start()
}

/// All that the server says to these bytes.
#[track_caller]
fn says(server: &Server, bytes: impl AsRef<[u8]>) -> String {
    let mut backend = Backend::connect(server);
    // It may have closed before it has read everything.
    let _ = std::io::Write::write_all(&mut backend.socket, bytes.as_ref());
    let mut all = Vec::new();
    half_close(&backend.socket);
    let _ = backend.socket.read_to_end(&mut all);
    String::from_utf8(all).expect("text")
}

fn half_close(socket: &Socket) {
    let _ = match socket {
        Socket::Tcp(stream) => stream.shutdown(Shutdown::Write),
        Socket::Unix(stream) => stream.shutdown(Shutdown::Write),
        Socket::Over(_) => Ok(()),
    };
}

fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: push.example\r\n{fields}Connection: close\r\n\r\n")
}

#[track_caller]
fn status_of(answer: &str) -> &str {
    answer.get(9..12).unwrap_or_else(|| panic!("no response: {answer:?}"))
}

fn bearer(key: &str) -> String {
    format!("Authorization: Bearer {key}\r\n")
}

#[test]
fn frames_begin_with_the_key() {
    let server = started();
    let mut client = Client::connect(&server);
    let mut backend = Backend::connect(&server);
    backend.command('y', KEY);
    backend.expect('Y', "");
    backend.command('b', "Hello");
    backend.done();
    client.expect_text("Hello");
    // Behind it, in one write; and once more, which is no use but no harm.
    let all = [command('y', KEY), command('b', "at once"), command('y', KEY), b"0p0q".to_vec()];
    assert_eq!(says(&server, all.concat()), "0Y0Y0P");
    client.expect_text("at once");
    // Cut anywhere.
    let mut backend = Backend::connect(&server);
    for byte in command('y', KEY) {
        backend.send([byte]);
    }
    backend.expect('Y', "");
}

#[test]
fn nothing_is_executed_without_the_key() {
    let server = started();
    let mut client = Client::connect(&server);
    for bytes in [
        b"4bEVIL".to_vec(),
        b"0p".to_vec(),
        b"0t".to_vec(),
        command('y', ""),
        command('Y', KEY),
        [command('y', &KEY[1..]), b"4bEVIL".to_vec()].concat(),
        [command('y', format!("{KEY}x")), b"4bEVIL".to_vec()].concat(),
        [command('y', format!("{KEY}\n")), b"4bEVIL".to_vec()].concat(),
        [b"\r\n0p".to_vec(), command('y', KEY), b"4bEVIL".to_vec()].concat(),
        [b"1048576b".to_vec(), vec![b'x'; 4096]].concat(),
        b"99999y".to_vec(),
        // What a library can be made to send that is given a gopher:// URL: any bytes.
        b"4bEVIL0p0m".to_vec(),
    ] {
        assert_eq!(says(&server, &bytes), "0E", "{}", bytes.escape_ascii());
        // The next second, as three wrong ones of an address are looked at.
        eventually("the right key counts", || {
            says(&server, [&command('y', KEY)[..], b"0q"].concat()) == "0Y"
        });
    }
    client.expect_nothing();
}

/// Whatever is announced, only as much is waited for as a key has: the rest is never stored.
#[test]
fn a_long_payload_is_not_waited_for() {
    let server = started();
    for begin in ["1048576b", "000000b", "1048575x", "9d"] {
        let mut backend = Backend::connect(&server);
        backend.send(begin);
        backend.expect_error();
    }
}

#[test]
fn requests_show_the_key_each_time() {
    let server = started();
    let mut client = Client::connect(&server);
    for (fields, status) in [
        (String::new(), "401"),
        (bearer("wrong-wrong-wrong-wrong"), "401"),
        (bearer(KEY).repeat(2), "401"),
        (format!("Authorization: Basic {KEY}\r\n"), "401"),
        (format!("Authorization: {KEY}\r\n"), "401"),
        (format!("X-Authorization: Bearer {KEY}\r\n"), "401"),
        (bearer(KEY), "200"),
        (format!("authorization: BEARER   {KEY} \r\n"), "200"),
        (format!("{}Origin: https://a.example\r\n", bearer(KEY)), "403"),
    ] {
        let answer = says(&server, get("/online?who=*", &fields));
        assert_eq!(status_of(&answer), status, "{fields}: {answer}");
        if status == "401" {
            assert!(answer.contains("\r\nWWW-Authenticate: Bearer\r\n"), "{answer}");
            assert!(answer.contains("\r\nConnection: close\r\n") && !answer.contains(KEY), "{answer}");
        }
    }
    for path in ["/metrics", "/healthz", "/status", "/nowhere"] {
        assert_eq!(status_of(&says(&server, get(path, ""))), "401", "{path}");
    }
    // A proxy may put requests of several programs on one connection.
    let good = get("/healthz", &bearer(KEY)).replace("Connection: close\r\n", "");
    let evil = "POST /send?to=* HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nEVIL";
    let answers = says(&server, [&good, evil, &good].concat());
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 1, "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 401").count(), 1, "{answers}");
    client.expect_nothing();
}

#[test]
fn a_unix_socket_needs_none() {
    let setup = Setup::new().top("control_key_file = \"control.key\"");
    setup.write("control.key", KEY);
    let server = setup.start();
    assert_eq!(says(&server, "0p"), "0P");
    assert_eq!(says(&server, [command('y', "any"), b"0p".to_vec()].concat()), "0Y0P");
    assert_eq!(status_of(&says(&server, get("/healthz", ""))), "200");
}

/// Row 25: of ten thousand guesses three a second are looked at, and then the right key does not count either; the other
/// connections are not disturbed, and the log has no key.
#[test]
fn guesses_are_few() {
    let server = started();
    let mut keyed = Backend::connect(&server);
    keyed.command('y', KEY);
    keyed.expect('Y', "");
    let (begin, mut wrong, mut too_many) = (Instant::now(), 0, 0);
    for guess in 0..10_000 {
        let answer = says(&server, get("/healthz", &bearer(&format!("guessed-guessed-guessed-{guess}"))));
        match status_of(&answer) {
            "401" => wrong += 1,
            "429" => too_many += 1,
            other => panic!("{other}"),
        }
        assert!(!answer.starts_with("HTTP/1.1 429") || answer.contains("\r\nRetry-After: 1\r\n"), "{answer}");
    }
    let seconds = begin.elapsed().as_secs() + 2;
    assert!(wrong <= 3 * seconds && wrong >= 3 && too_many > 0, "{wrong} in {seconds} s, then {too_many}");
    keyed.done();
    assert!(keyed.status().number("keys_refused") >= 10_000);
    eventually("the next second", || status_of(&says(&server, get("/healthz", &bearer(KEY)))) == "200");
    let log = server.log();
    assert!(log.contains("control_key_refused reason=wrong peer=127.0.0.1"), "{log}");
    assert!(!log.contains(KEY) && !log.contains("guessed"), "{log}");
}

#[test]
fn one_that_shows_none_is_closed_soon() {
    let server = setup(KEY).timeout("handshake = 0.4").timeout("control = 30").start();
    for bytes in [&b""[..], b"32y0123", b"GET /healthz HTT"] {
        let mut backend = Backend::connect(&server);
        backend.send(bytes);
        let begin = Instant::now();
        let mut all = Vec::new();
        let _ = backend.socket.read_to_end(&mut all);
        let waited = begin.elapsed();
        assert!(waited > Duration::from_millis(300) && waited < Duration::from_secs(10), "{waited:?}");
        assert!(all.is_empty(), "{}", all.escape_ascii());
    }
    // One that has is not.
    let mut backend = Backend::connect(&server);
    backend.command('y', KEY);
    backend.expect('Y', "");
    std::thread::sleep(Duration::from_millis(600));
    backend.done();
}

#[test]
fn those_without_make_room() {
    let server = setup(KEY).limit("backends = 4").start();
    let mut keyed: Vec<Backend> = (0..2).map(|_| Backend::connect(&server)).collect();
    for backend in &mut keyed {
        backend.command('y', KEY);
        backend.expect('Y', "");
    }
    let strangers: Vec<Backend> = (0..20).map(|_| Backend::connect(&server)).collect();
    let mut late = Backend::connect(&server);
    late.command('y', KEY);
    late.expect('Y', "");
    keyed.iter_mut().for_each(Backend::done);
    drop(strangers);
}

#[test]
fn a_reload_changes_the_key() {
    const OTHER: &str = "another-control-key-for-tests";
    let mut server = setup(KEY).start();
    let mut open = Backend::connect(&server);
    open.command('y', KEY);
    open.expect('Y', "");
    let works =
        |server: &Server, key: &str| says(server, [command('y', key), b"0q".to_vec()].concat()) == "0Y";
    // Both, new and old.
    server.setup.write("old.key", KEY);
    server.setup.write("control.key", OTHER);
    server.rewrite_config(|setup| {
        setup.replace_top("control_key_file", "control_key_file = ['control.key', 'old.key']")
    });
    server.signal("HUP");
    eventually("the new one counts", || works(&server, OTHER));
    assert!(works(&server, KEY));
    assert!(server.log().contains("applied=control_key_file"), "{}", server.log());
    // The old one ends.
    server.rewrite_config(|setup| setup.replace_top("control_key_file", "control_key_file = 'control.key'"));
    server.signal("HUP");
    eventually("the old one does not count", || !works(&server, KEY));
    eventually("the new one does", || works(&server, OTHER));
    open.done();
    // The content of the file alone.
    server.setup.write("control.key", KEY);
    server.signal("HUP");
    eventually("it counts again", || works(&server, KEY));
    eventually("the other does not", || !works(&server, OTHER));
    // A weak one changes nothing.
    server.setup.write("control.key", "short");
    server.signal("HUP");
    eventually("it is told", || server.log().contains("reload_failed"));
    eventually("the good one counts", || works(&server, KEY));
    assert!(!server.log().contains(KEY) && !server.log().contains(OTHER), "{}", server.log());
}

#[test]
fn weak_keys_and_open_files_are_refused() {
    for (key, words) in [
        ("", "is shorter than 16"),
        ("fifteen-letters", "is shorter than 16"),
        ("sixteen letters, but with blanks", "other characters"),
        ("sixteen-letters-and-ü", "other characters"),
    ] {
        let (code, said) = setup(key).refuses_to_start();
        assert!(code == 6 && said.contains("control key") && said.contains(words), "{code}: {said}");
        assert!(key.is_empty() || !said.contains(key), "{said}");
    }
    let setup = setup(KEY);
    std::fs::set_permissions(setup.path("control.key"), Permissions::from_mode(0o644)).expect("it is ours");
    let (code, said) = setup.refuses_to_start();
    assert!(code == 6 && said.contains("control.key is not safe"), "{code}: {said}");
}

/// Several listeners: a Unix socket without a key, TCP with one, TLS with one.
#[test]
fn the_control_unit_listens_in_several_places() {
    let server = setup(KEY).control_too(Address::Unix("other.sock".into())).start();
    assert_eq!(says(&server, "0p"), "0E");
    let path = server.path("other.sock");
    let mut socket = Address::Unix(path).connect().expect("it listens");
    socket.send(b"0p0q");
    assert_eq!(socket.read_all(), b"0P");
}

#[cfg(feature = "tls")]
#[test]
fn keys_go_over_tls_too() {
    use crate::secure::{TLS13, Tls, trusting};
    let port = crate::server::free_port();
    let _server = setup(KEY).tls("rsa").control_too(Address::Tls(port)).start();
    let visit = |bytes: &[u8]| {
        let mut tls = Tls::to(&Address::Tls(port), &trusting(TLS13));
        tls.shake_hands().expect("a handshake");
        let mut socket = Socket::Over(Box::new(tls));
        socket.send(bytes);
        socket.finish();
        String::from_utf8(socket.read_all()).expect("text")
    };
    assert_eq!(visit(&[&command('y', KEY)[..], b"0p0q"].concat()), "0Y0P");
    assert_eq!(visit(b"4bEVIL"), "0E");
    assert_eq!(status_of(&visit(get("/healthz", &bearer(KEY)).as_bytes())), "200");
    assert_eq!(status_of(&visit(get("/healthz", "").as_bytes())), "401");
    // Large answers and bodies go over it, too.
    let body = "x".repeat(500_000);
    let request = format!(
        "POST /send?to=* HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{}Content-Length: {}\r\n\r\n{body}",
        bearer(KEY),
        body.len()
    );
    assert_eq!(status_of(&visit(request.as_bytes())), "200");
    // Plain HTTP where TLS is spoken.
    let mut plain = Address::Tls(port).connect().expect("it listens");
    plain.send(get("/healthz", &bearer(KEY)).as_bytes());
    let mut all = Vec::new();
    let _ = plain.read_to_end(&mut all);
    assert!(!String::from_utf8_lossy(&all).contains("200 OK"));
}

/// What TLS keeps of a ClientHello that has no end counts for `limits.control_total`, as commands do.
#[cfg(feature = "tls")]
#[test]
fn client_hellos_without_an_end_are_bounded() {
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpStream;
    const CONNECTIONS: usize = 100;
    let port = crate::server::free_port();
    let mut setup = setup(KEY).tls("rsa").control_too(Address::Tls(port));
    for limit in ["control_payload", "control_outbox"] {
        setup = setup.limit(&format!("{limit} = \"64 KiB\""));
    }
    let _server = setup.limit("control_total = \"1 MiB\"").timeout("handshake = 60").start();
    let record = [&[22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xf0][..], &[0; 0x4000 - 4]].concat();
    let next = [&[22, 3, 1, 0x40, 0][..], &[0; 0x4000]].concat();
    let begun: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|_| {
            let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
            socket.set_nonblocking(true).expect("possible");
            let _ = socket.write_all(&record).and_then(|()| socket.write_all(&next));
            socket
        })
        .collect();
    crate::server::eventually("the others are dropped", || {
        let waits = |socket: &&TcpStream| {
            let read = (&**socket).read(&mut [0; 100]);
            read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        };
        let here = begun.iter().filter(waits).count();
        (1..=CONNECTIONS / 2).contains(&here)
    });
}
