//! Each example starts with one command and does what its name says.
//!
//! `cargo test` builds them beforehand, `cargo test --test examples` does not: so they are built here once more, which is
//! quick when it was done.

mod rig;

use rig::{PATIENCE, Running, WSSON, read_head};
use std::cell::Cell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Once;

struct Example {
    process: Running,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    address: String,
    connected: Cell<u8>,
    folder: rig::Site,
}

impl Example {
    #[track_caller]
    fn start(name: &str) -> Self {
        let folder = rig::Site::new();
        let mut command = Command::new(program(name));
        command.arg("tcp://127.0.0.1:0").env("TMPDIR", folder.folder());
        let mut process = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let (input, output) = (Some(process.input()), process.output());
        let mut example =
            Self { process, input, output, address: String::new(), connected: Cell::new(0), folder };
        let line = example.line();
        let address = line.strip_prefix(&format!("{name} on tcp://"));
        example.address = address.unwrap_or_else(|| panic!("{line}")).to_owned();
        example
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("text");
        line.trim_end().to_owned()
    }

    /// A browser of any origin, without cookies.
    fn connect(&self) -> Browser {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a positive time");
        write!(
            stream,
            "GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://anywhere.example\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n\r\n",
            self.key()
        )
        .expect("it reads");
        let mut stream = BufReader::new(stream);
        let head = read_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Browser(stream)
    }

    /// Differs for each client, as it does for real ones: an example knows them by it.
    fn key(&self) -> String {
        let count = self.connected.replace(self.connected.get() + 1);
        format!("{count}AECAwQFBgcICQoLDA0ODw==")
    }

    /// Ends, cleanly, on its own or on SIGINT, which is Ctrl-C.
    fn ends(mut self, signal: bool) {
        if signal {
            self.process.signal("INT");
        }
        assert_eq!(self.process.code(), Some(0));
        assert_eq!(self.folder.count(), 0, "the control socket is removed");
    }
}

struct Browser(BufReader<TcpStream>);

impl Browser {
    /// A small message; the mask is zero, which is a mask like any other.
    fn send(&mut self, opcode: u8, payload: &[u8]) {
        let length = u8::try_from(payload.len()).expect("small");
        let mut frame = vec![0x80 | opcode, 0x80 | length, 0, 0, 0, 0];
        frame.extend_from_slice(payload);
        self.0.get_mut().write_all(&frame).expect("it reads");
    }

    /// The opcode and payload of a small frame.
    fn receive(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).expect("a frame");
        let mut payload = vec![0; usize::from(head[1])];
        self.0.read_exact(&mut payload).expect("a payload");
        (head[0] & 0x0f, payload)
    }

    #[track_caller]
    fn gets(&mut self, text: &str) {
        assert_eq!(self.receive(), (1, text.as_bytes().to_vec()));
    }

    #[track_caller]
    fn is_told_to_go(&mut self) {
        let (opcode, payload) = self.receive();
        assert_eq!((opcode, &payload[..2]), (8, &1001_u16.to_be_bytes()[..]));
    }
}

fn program(name: &str) -> PathBuf {
    static BUILT: Once = Once::new();
    let profile = Path::new(WSSON).parent().expect("it lies in a folder");
    BUILT.call_once(|| build(profile));
    profile.join("examples").join(name)
}

/// Builds all examples in the folder of this profile.
fn build(profile: &Path) {
    let mut cargo = Command::new(env!("CARGO"));
    // Variables that cargo sets for a test would be taken for a change, and everything be built anew.
    let told = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars().filter(|(name, _)| told(name)) {
        cargo.env_remove(name);
    }
    cargo.args(["build", "--quiet", "--examples", "--target-dir"]);
    cargo.arg(profile.parent().expect("the target folder"));
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
    assert!(status.success(), "the examples do not build");
}

#[test]
fn echo_sends_every_message_back() {
    let example = Example::start("echo");
    let mut browser = example.connect();
    browser.send(1, "hällo".as_bytes());
    browser.gets("hällo");
    browser.send(2, &[0, 255]);
    assert_eq!(browser.receive(), (2, vec![0, 255]));
    drop(browser);
    example.ends(true);
}

#[test]
fn broadcast_sends_to_everybody_and_counts() {
    let example = Example::start("broadcast");
    let mut first = example.connect();
    first.gets("1 here");
    let mut second = example.connect();
    first.gets("2 here");
    second.gets("2 here");
    second.send(1, b"to all");
    first.gets("to all");
    second.gets("to all");
    drop(second);
    first.gets("1 here");
    drop(first);
    example.ends(true);
}

#[test]
fn terminal_sends_lines_and_prints_messages() {
    let mut example = Example::start("terminal");
    let mut browser = example.connect();
    browser.send(1, "a\u{1b}[31mb".as_bytes());
    assert_eq!(example.line(), "< a\\u{1b}[31mb");
    browser.send(2, &[1, 2, 3]);
    assert_eq!(example.line(), "< 3 bytes");
    let mut input = example.input.take().expect("it was piped");
    input.write_all("one\nzwölf\n".as_bytes()).expect("it reads");
    browser.gets("one");
    browser.gets("zwölf");
    drop(input);
    browser.is_told_to_go();
    drop(browser);
    example.ends(false);
}
