//! `wsson doctor` through the real binary: a server that is well, and one mistake after the other in front of it.

mod rig;

use rig::{free_port, is_root};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::Deref;
use std::process::Command;
use std::time::Duration;

/// A server in a folder of its own, ended with the test.
struct Site {
    files: rig::Site,
    port: u16,
}

impl Site {
    fn new(server: &str, more: &str) -> Self {
        let port = free_port();
        let server = server.replace("PORT", &port.to_string());
        let text = format!("servers = '{server}'\nsecret_file = 'secret'\n{more}");
        let files = rig::Site::with(&rig::config(&text));
        files.write("secret", "doctor-tests-only-4711", 0o600);
        Self { files, port }
    }

    fn started(server: &str, more: &str) -> Self {
        let site = Self::new(server, more);
        let started = site.wsson(&["start"]).status().expect("the binary runs");
        assert!(started.success());
        site
    }

    fn wsson(&self, line: &[&str]) -> Command {
        let mut command = self.files.wsson(line);
        command.env_remove("SSL_CERT_FILE");
        command
    }

    /// Its findings, one line each; a cure belongs to its line.
    #[track_caller]
    fn doctor(&self, line: &[&str]) -> Found {
        found(&mut self.wsson(&[&["doctor"], line].concat()))
    }

    /// The findings of a visit at this port, without the quiet time.
    #[track_caller]
    fn visit(&self, port: u16) -> Found {
        self.doctor(&["--quick", &format!("ws://127.0.0.1:{port}/ws")])
    }
}

impl Deref for Site {
    type Target = rig::Site;

    fn deref(&self) -> &rig::Site {
        &self.files
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.wsson(&["stop"]).output();
    }
}

#[derive(Debug)]
struct Found {
    code: i32,
    text: String,
}

#[track_caller]
fn found(command: &mut Command) -> Found {
    let output = command.output().expect("the binary runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    Found { code: output.status.code().expect("no signal ended it"), text }
}

impl Found {
    /// The faults, with the cures; that tests may run as root is not counted.
    fn wrong(&self) -> Vec<String> {
        let text = self.text.replace("\n       try: ", " => ");
        let wrong = text.lines().filter_map(|line| line.strip_prefix("wrong  "));
        wrong.filter(|line| !line.starts_with("it runs as root")).map(str::to_owned).collect()
    }

    #[track_caller]
    fn is_well(&self, seen: &[&str]) {
        assert_eq!(self.wrong(), [""; 0], "{}", self.text);
        assert_eq!(self.code, i32::from(is_root()), "{}", self.text);
        for words in seen {
            assert!(
                self.text.lines().any(|line| line.starts_with("ok ") && line.contains(words)),
                "{words}: {}",
                self.text
            );
        }
    }

    /// One thing is wrong, and this is the cure.
    #[track_caller]
    fn finds(&self, words: &str, cure: &str) {
        let wrong = self.wrong();
        assert!(wrong.len() == 1 && self.code == 1, "{wrong:?}\n{}", self.text);
        let (what, told) = wrong[0].split_once(" => ").expect("there is a cure");
        assert!(what.contains(words) && told.contains(cure), "{words}, {cure}: {wrong:?}");
    }
}

const TCP: &str = "tcp://127.0.0.1:PORT";

/// The change that a proxy makes to the head of a request; it may answer instead.
type Mistake = fn(&str) -> String;

/// A proxy with a mistake, in front of this server.
fn proxy(site: &Site, mistake: Mistake) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (port, to) = (listener.local_addr().expect("its address").port(), site.port);
    std::thread::spawn(move || {
        for visitor in listener.incoming().flatten() {
            std::thread::spawn(move || pass_on(visitor, to, mistake));
        }
    });
    port
}

fn pass_on(visitor: TcpStream, to: u16, mistake: Mistake) {
    let mut reader = BufReader::new(visitor.try_clone().expect("a descriptor"));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|count| count > 0) {}
    let head = mistake(&head);
    if head.starts_with("HTTP/") {
        let _ = (&visitor).write_all(head.as_bytes());
        return;
    }
    let mut server = TcpStream::connect(("127.0.0.1", to)).expect("wsson listens");
    server.write_all(head.as_bytes()).expect("it reads");
    let mut back = server.try_clone().expect("a descriptor");
    let mut out = visitor.try_clone().expect("a descriptor");
    let answers = std::thread::spawn(move || {
        let _ = std::io::copy(&mut back, &mut out);
        let _ = out.shutdown(Shutdown::Both);
    });
    let _ = std::io::copy(&mut reader, &mut server);
    let _ = server.shutdown(Shutdown::Write);
    let _ = answers.join();
}

/// The head without this field.
fn without(head: &str, field: &str) -> String {
    let kept = head.split_inclusive("\r\n").filter(|line| !line.starts_with(&format!("{field}:")));
    kept.collect()
}

#[test]
fn a_server_that_is_well() {
    let site = Site::started(TCP, "[timeouts]\nidle = 0.3\n");
    let url = format!("ws://localhost:{}/ws?room=1", site.port);
    site.doctor(&[&url]).is_well(&[
        "wsson.toml is right",
        "was started by hand",
        "answers at unix://",
        "descriptors are open",
        "the log is ",
        "localhost is ",
        "takes the connection",
        "a login is let in, from a page of https://example.com",
        "a page of another site is refused",
        "a visitor without cookies is refused",
        "a message to this login arrives",
        "the ping arrives",
    ]);
    let without_url = site.doctor(&[]);
    without_url.is_well(&["answers at unix://"]);
    assert!(without_url.text.contains("note   nothing was looked at from outside"), "{}", without_url.text);
}

#[test]
fn users_have_logins_too() {
    let site = Site::started(TCP, "[auth]\nidentity = 'user'\ndigest = 'hmac-sha256'\n");
    site.visit(site.port).is_well(&["a login is let in", "a message to this login arrives"]);
}

#[test]
fn logins_are_those_of_the_scheme() {
    let site = Site::started(TCP, "[auth]\nscheme = 'jwt'\nidentity = 'user'\n");
    site.visit(site.port).is_well(&["a login is let in", "a message to this login arrives"]);
    site.write("secret", "another-secret-for-doctor", 0o600);
    site.visit(site.port).finds("403: wrong_signature", "wsson reload");
}

#[test]
fn a_server_that_is_not_there() {
    let site = Site::new(TCP, "");
    site.doctor(&[]).finds("control.sock: no such file or directory", "wsson start");
    site.write("wsson.toml", "servers = 3\n", 0o644);
    let found = site.doctor(&[]);
    assert_eq!(found.code, 6, "{found:?}");
    assert!(found.wrong()[0].contains("servers"), "{found:?}");
}

#[test]
fn a_change_that_waits_is_told() {
    let site = Site::started(TCP, "");
    let text = site.read("wsson.toml");
    site.write("wsson.toml", &format!("{text}reuseport = true\n"), 0o644);
    assert!(site.wsson(&["reload"]).output().expect("the binary runs").status.success());
    site.doctor(&[]).finds("a change waits for a restart: reuseport", "wsson restart");
}

#[test]
fn another_secret_is_found_by_its_rule() {
    let site = Site::started(TCP, "");
    site.write("secret", "another-secret-for-doctor", 0o600);
    site.visit(site.port).finds("wsson refuses the handshake with 403: wrong_digest", "wsson reload");
}

/// Each mistake that a proxy can make is found, and the cure names the proxy's part.
#[test]
fn mistakes_of_proxies() {
    let site = Site::started(TCP, "");
    let cases: [(Mistake, &str, &str); 8] = [
        (|head| without(&without(head, "Upgrade"), "Connection"), "426: no_upgrade", "must pass Upgrade"),
        (
            |head| without(head, "Connection"),
            "400: no_connection_upgrade",
            "must pass Upgrade and Connection",
        ),
        (|head| head.replace("HTTP/1.1", "HTTP/1.0"), "505: version", "proxy_http_version 1.1"),
        (|head| without(head, "Origin"), "403: missing_origin", "must pass Origin"),
        (|head| without(head, "Cookie"), "403: missing_", "must pass Cookie"),
        (
            |_| "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n".into(),
            "502 comes from the proxy",
            "cannot reach wsson",
        ),
        (
            |_| "HTTP/1.1 301 Moved\r\nLocation: https://example.com/ws\r\nContent-Length: 0\r\n\r\n".into(),
            "301 comes from the proxy",
            "wsson doctor with where it leads to: https://example.com/ws",
        ),
        (
            |head| head.replace("https://wsson-doctor.invalid", "https://example.com"),
            "a page of another site is let in",
            "must pass Origin as the browser sent it",
        ),
    ];
    for (mistake, words, cure) in cases {
        site.visit(proxy(&site, mistake)).finds(words, cure);
    }
    site.visit(proxy(&site, str::to_owned)).is_well(&["a message to this login arrives"]);
}

/// A proxy that gives up on a quiet connection before wsson's ping, and a URL that leads to another wsson.
#[test]
fn a_cut_and_a_stranger() {
    let site = Site::started(TCP, "[timeouts]\nidle = 20\n");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (port, to) = (listener.local_addr().expect("its address").port(), site.port);
    std::thread::spawn(move || {
        for mut visitor in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let server = TcpStream::connect(("127.0.0.1", to)).expect("wsson listens");
                let mut back = server.try_clone().expect("a descriptor");
                back.set_read_timeout(Some(Duration::from_millis(500))).expect("a positive time");
                let mut out = visitor.try_clone().expect("a descriptor");
                std::thread::spawn(move || {
                    let mut chunk = [0; 1024];
                    while let Ok(count @ 1..) = back.read(&mut chunk) {
                        let _ = out.write_all(&chunk[..count]);
                    }
                    let _ = out.shutdown(Shutdown::Both);
                });
                let _ = std::io::copy(&mut visitor, &mut &server);
            });
        }
    });
    let url = format!("ws://127.0.0.1:{port}/");
    site.doctor(&[&url]).finds("the connection was cut", "a longer read timeout of the proxy");

    let other = Site::started(TCP, "");
    site.visit(other.port).finds("the URL leads to another server", "the proxy's address for wsson");
}

#[cfg(feature = "tls")]
#[test]
fn certificates_are_judged_as_browsers_do() {
    let [certificate, key] = ["curve.pem", "curve.key"].map(rig::data);
    let tls = format!("[tls]\ncertificate = '{}'\nkey = '{}'\n", certificate.display(), key.display());
    let site = Site::started("tls://127.0.0.1:PORT", &tls);
    let visit = |url: &str, trusted: &str| {
        let mut command = site.wsson(&["doctor", "--quick", &url.replace("PORT", &site.port.to_string())]);
        found(command.env("SSL_CERT_FILE", rig::data(trusted)))
    };
    visit("wss://localhost:PORT/", "ca.pem")
        .is_well(&["TLS 1.3, with a certificate for localhost", "a login is let in"]);
    visit("wss://localhost:PORT/", "rsa.pem").finds("no authority that this host trusts", "fullchain.pem");
    visit("wss://127.0.0.1:PORT/", "ca.pem").finds("TLS does not come about", "a certificate for this name");
    visit("ws://localhost:PORT/", "ca.pem").finds("400: plain_http_on_tls", "wss://");
    let plain = Site::started(TCP, "");
    plain.doctor(&["--quick", &format!("wss://localhost:{}/", plain.port)]).finds("speaks no TLS: ws://", "");
}

#[test]
fn what_is_no_address_is_told() {
    let site = Site::started(TCP, "");
    site.doctor(&["example.com"])
        .finds("is no URL like wss://www.example.com/ws", "the address that the page opens");
    site.doctor(&["ws://wsson-doctor.invalid/"]).finds("is not known", "an entry in DNS");
    site.visit(free_port()).finds("connection refused", "does it listen there");
}
