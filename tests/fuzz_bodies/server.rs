//! Fuzz body: the whole server on the network of the simulation. Whatever clients and backends send, in whatever pieces, and
//! however slowly they read: it never panics, its audit finds nothing after any turn, its output is whole frames in
//! a lawful order, it comes to rest, and a drain ends it in time.
//!
//! Input: a byte that chooses the settings, then operations: a byte for what is done (with bit 7 the server gets no
//! turn behind it), a byte for whose turn it is, and what that operation needs.

#[allow(dead_code)] // the simulation uses the rest
#[path = "../sim/net.rs"]
mod net;
#[allow(dead_code)]
#[path = "../sim/rng.rs"]
mod rng;

use net::{FakeListener, Faults, Net};
use std::hash::RandomState;
use wsson::testing::auth::{IdentityKind, Rules, Secret, issue};
use wsson::testing::config::{Limits, Settings};
use wsson::testing::driver::Driver;
use wsson::testing::frame::encode::frame_len;
use wsson::testing::frame::{CloseCode, Kind};
use wsson::testing::stats::Process;
use wsson::testing::timers::Now;
use wsson::{ClientId, Handler, Hub};

const TOKENS: [&str; 2] = ["32febad1f0cf83f38aceb31ad63866c4", "ffffffffffffffffffffffffffffffff"];
const CLIENTS_MAX: usize = 8;
const BACKENDS_MAX: usize = 3;
/// More would only make an input slow.
const OPERATIONS_MAX: usize = 300;
/// Enough for all that can wait, at one command a turn.
const TURNS_MAX: usize = 5000;
const DRAIN_MS: u64 = 5000;

pub(crate) fn body(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else {
        return;
    };
    let mut world = World::new(*choice);
    let mut script = Script(data);
    for _ in 0..OPERATIONS_MAX {
        let Some(operation) = script.byte() else { break };
        world.operate(operation & 0x7F, &mut script);
        if operation & 0x80 == 0 {
            world.turn();
        }
    }
    world.end();
}

/// The input as it is used up; bytes beyond its end are zero.
struct Script<'d>(&'d [u8]);

impl Script<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> usize {
        self.byte().unwrap_or(0).into()
    }
}

/// Up to 31 bytes of the input, up to 225 times.
fn bytes(script: &mut Script<'_>) -> Vec<u8> {
    let form = script.number();
    let (bytes, rest) = script.0.split_at((form % 32).min(script.0.len()));
    script.0 = rest;
    bytes.repeat([1, 1, 1, 1, 2, 8, 32, 225][form / 32])
}

// The application.

/// Does what clients ask for with the first byte of a message.
#[derive(Debug, Default)]
struct App {
    /// Handshakes whose end the application has not heard of.
    open: usize,
}

impl App {
    fn obey(hub: &mut Hub, id: ClientId, kind: Kind, message: &[u8]) {
        match message.first() {
            Some(b'e') => _ = hub.send_direct(id, kind, message),
            Some(b'a') => _ = hub.send_broadcast(kind, message),
            Some(b't') => _ = hub.send_to_token(TOKENS[0].as_bytes(), kind, message),
            Some(b'q') => hub.close(id, CloseCode::NORMAL, "as you wish"),
            _ => assert!(hub.is_open(id) && hub.token(id).is_some_and(|token| TOKENS.contains(&token))),
        }
    }
}

impl Handler for App {
    fn on_handshake(&mut self, _: &mut Hub, _: ClientId) {
        self.open += 1;
    }

    fn on_text_message(&mut self, hub: &mut Hub, id: ClientId, text: &str) {
        Self::obey(hub, id, Kind::Text, text.as_bytes());
    }

    fn on_binary_message(&mut self, hub: &mut Hub, id: ClientId, data: &[u8]) {
        Self::obey(hub, id, Kind::Binary, data);
    }

    fn on_close(&mut self, hub: &mut Hub, id: ClientId) {
        self.open -= 1;
        assert!(!hub.is_open(id), "an open client is gone");
        hub.send_broadcast(Kind::Text, b"somebody left");
    }
}

// The world around the server.

/// One end of a connection, outside the server.
struct Peer {
    /// Its name in the network.
    id: usize,
    /// What came from the server so far; it stays in the network, so that the fuzzer decides how much more may.
    output: Vec<u8>,
    eof: bool,
    reset: bool,
}

/// The ports of the network: clients knock at the first, backends at the second.
const PORTS: [Option<usize>; 2] = [Some(0), None];

struct World {
    settings: Settings,
    driver: Driver<FakeListener, App>,
    now: Now,
    net: net::Shared,
    clients: Vec<Peer>,
    backends: Vec<Peer>,
    /// The answers to each backend's commands, unless it said anything else.
    owed: Vec<Option<String>>,
    drain_from_ms: Option<u64>,
}

fn settings(choice: u8) -> Settings {
    let identity = if choice & 1 == 0 { IdentityKind::Token } else { IdentityKind::User };
    let limits = Limits {
        clients: Some(5),
        connections_per_token: 3,
        connections_per_user: 2,
        unauthenticated: (choice & 2 != 0).then_some(2),
        head_bytes: 1024,
        message_bytes: 1000,
        outbox_bytes: 4096,
        queued_bytes: if choice & 4 == 0 { 1 << 20 } else { 8192 },
        control_payload_bytes: 4096,
        control_outbox_bytes: if choice & 8 == 0 { 16 * 1024 } else { 64 },
        ..Limits::default()
    };
    Settings {
        origins: vec!["https://example.com".into()],
        auth: Rules { identity, secrets: vec![Secret::new("a secret of the fuzzer's")], ..Rules::default() },
        limits,
        ..Settings::default()
    }
}

/// Interrupted calls, events without a reason, connections that hold bytes of their own as TLS does.
fn faults(choice: u8) -> Faults {
    let percent = |bit: u8, percent| if choice & bit == 0 { 0 } else { percent };
    Faults {
        interrupt: percent(16, 10),
        spurious: percent(32, 10),
        records: percent(64, 50),
        cap: 1 << 40,
        ..Faults::none()
    }
}

impl World {
    fn new(choice: u8) -> Self {
        let settings = settings(choice);
        let mut hub = Hub::new(&settings, RandomState::new(), Process::default);
        hub.add_listener("tcp://127.0.0.1:8099".into(), None);
        let mut driver = Driver::new(hub, App::default(), 6);
        let net = Net::new(0, faults(choice), PORTS.len());
        for (port, place) in PORTS.into_iter().enumerate() {
            driver.add_listener(FakeListener { net: net.clone(), place: port }, place);
        }
        let now = Now { ms: 0, unix_s: 1_531_124_400 };
        driver.start(now);
        Self {
            settings,
            driver,
            now,
            net,
            clients: vec![],
            backends: vec![],
            owed: vec![],
            drain_from_ms: None,
        }
    }

    fn operate(&mut self, operation: u8, script: &mut Script<'_>) {
        match operation % 16 {
            0 | 1 => self.connect(0),
            2 => self.connect(1),
            3 => self.client_says(script, |_, script| bytes(script)),
            4 => self.client_says(script, Self::request),
            5 | 6 => self.client_says(script, |_, script| masked_frame(script)),
            7 => self.backend_rambles(script),
            8..=10 => self.backend_commands(script),
            11 => self.pass(script.number() as u64 * 200),
            12 => self.with_peer(script, |net, peer, script| leave_room(net, peer, script.number())),
            13 => self.with_peer(script, |net, peer, _| {
                peer.eof = true;
                net.shut_down(peer.id);
            }),
            14 => self.with_peer(script, |net, peer, _| {
                peer.reset = true;
                net.break_off(peer.id);
            }),
            _ => self.rarely(script.number()),
        }
    }

    fn rarely(&mut self, what: usize) {
        match what % 8 {
            0 | 1 => self.net.borrow_mut().faults.accept = 100, // until the next turn is over
            2 => self.rotate_secret(),
            3 => self.drain(),
            4 => self.driver.set_sockets_max(3),
            _ => self.rest(),
        }
    }

    fn rotate_secret(&mut self) {
        self.settings.auth.secrets.insert(0, Secret::new("the next secret"));
        self.settings.auth.secrets.truncate(2);
        self.driver.hub.apply(&self.settings);
    }

    fn drain(&mut self) {
        self.drain_from_ms.get_or_insert(self.now.ms);
        self.driver.drain(self.now, DRAIN_MS);
    }

    fn connect(&mut self, port: usize) {
        let (peers, max) =
            if port == 0 { (&mut self.clients, CLIENTS_MAX) } else { (&mut self.backends, BACKENDS_MAX) };
        if peers.len() < max {
            let id = self.net.borrow_mut().connect(port);
            peers.push(Peer { id, output: vec![], eof: false, reset: false });
            self.owed.resize(self.backends.len(), Some(String::new()));
        }
    }

    fn client_says(&mut self, script: &mut Script<'_>, what: impl FnOnce(&Self, &mut Script<'_>) -> Vec<u8>) {
        let whose = script.number();
        let bytes = what(self, script);
        if !self.clients.is_empty() {
            say(&self.net, &self.clients[whose % self.clients.len()], &bytes);
        }
    }

    fn backend_rambles(&mut self, script: &mut Script<'_>) {
        let (whose, bytes) = (script.number(), bytes(script));
        if let Some(place) = whose.checked_rem(self.backends.len()) {
            say(&self.net, &self.backends[place], &bytes);
            self.owed[place] = None;
        }
    }

    fn backend_commands(&mut self, script: &mut Script<'_>) {
        let whose = script.number();
        let (bytes, answer) = command(script);
        if let Some(place) = whose.checked_rem(self.backends.len()) {
            let said = say(&self.net, &self.backends[place], &bytes);
            if let Some(owed) = self.owed[place].as_mut().filter(|_| said) {
                owed.extend(answer);
            }
        }
    }

    fn with_peer(
        &mut self,
        script: &mut Script<'_>,
        deed: impl FnOnce(&mut Net, &mut Peer, &mut Script<'_>),
    ) {
        let whose = script.number();
        let count = self.clients.len() + self.backends.len();
        let place = whose.checked_rem(count).unwrap_or(0);
        if let Some(peer) = self.clients.iter_mut().chain(&mut self.backends).nth(place) {
            deed(&mut self.net.borrow_mut(), peer, script);
        }
    }

    /// A request with a login, of now or of long ago.
    fn request(&self, script: &mut Script<'_>) -> Vec<u8> {
        let who = script.number();
        let (token, user) = (TOKENS[who & 1], ["1", "2"][who >> 1 & 1]);
        let issued =
            self.now.unix_s - if who & 0x70 == 0x70 { self.settings.auth.lifetime_s - 20 } else { 60 };
        let cookies = issue(&self.settings.auth, token, user, issued);
        let cookies: Vec<_> = cookies.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let head = format!(
            "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Origin: https://example.com\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Version: 13\r\nCookie: {}\r\n\r\n",
            cookies.join("; ")
        );
        head.into_bytes()
    }

    fn pass(&mut self, ms: u64) {
        self.now.ms += ms;
        self.now.unix_s = 1_531_124_400 + (self.now.ms / 1000) as i64;
    }

    fn turn(&mut self) {
        let events = {
            let net = &mut *self.net.borrow_mut();
            net.now_ms = self.now.ms;
            net.travel(true);
            net.poll()
        };
        for (token, ready) in events {
            self.driver.ready(token, ready, self.now);
        }
        self.driver.turn(self.now);
        let net = &mut *self.net.borrow_mut();
        net.faults.accept = 0;
        for peer in self.clients.iter_mut().chain(&mut self.backends) {
            peer.output.extend(net.unread(peer.id).get(peer.output.len()..).unwrap_or_default());
        }
        if let Err(what) = self.driver.audit(self.now) {
            panic!("{what}");
        }
        self.check();
    }

    /// Turns until the server would sleep and no event would wake it: one may be due for a connection that was
    /// accepted in the last turn.
    fn rest(&mut self) {
        for _ in 0..TURNS_MAX {
            self.turn();
            let sleeps = self.driver.timeout_ms(self.now) != Some(0) && !self.net.borrow().has_events();
            if sleeps || self.driver.is_drained() {
                return;
            }
        }
        panic!("no rest after {TURNS_MAX} turns: {}", self.driver.hub.report_json());
    }

    fn check(&self) {
        let report = Report::of(&self.driver.hub);
        assert_eq!(
            report.accepted,
            report.clients + report.unauthenticated + report.ended,
            "{}",
            report.json
        );
        assert_eq!(report.clients, self.driver.hub.clients() as u64);
        assert!(self.driver.handler.open >= self.driver.hub.clients(), "a client opened unseen");
        let of_tokens = TOKENS.map(|token| self.driver.hub.clients_of(token.as_bytes()).count());
        assert_eq!(of_tokens.iter().sum::<usize>(), self.driver.hub.clients(), "{}", report.json);
        assert!(report.locks <= report.backends, "{}", report.json);
        assert!(self.driver.hub.clients() <= 5);
    }

    /// All peers read, then the server is asked to end.
    fn end(mut self) {
        self.rest(); // whose time is up is not cut by what follows
        let is_served = |net: &Net, peer: &Peer| net.is_accepted(peer.id) && !net.server_closed(peer.id);
        let everybody = self.clients.iter().chain(&self.backends);
        everybody.clone().for_each(|peer| leave_room(&mut self.net.borrow_mut(), peer, 255));
        let healthy: Vec<_> =
            everybody.map(|peer| is_served(&self.net.borrow(), peer) && !peer.reset).collect();
        self.rest();
        let left = |peer: &Peer| (peer.eof || peer.reset) && is_served(&self.net.borrow(), peer);
        assert!(!self.clients.iter().chain(&self.backends).any(left), "kept without a peer");
        let answered = self.drain_from_ms.is_none();
        self.drain();
        self.rest();
        let end_ms = self.drain_from_ms.unwrap_or(self.now.ms) + DRAIN_MS;
        while !self.driver.is_drained() {
            assert!(self.now.ms <= end_ms, "the drain takes too long: {}", self.driver.hub.report_json());
            let sleep_ms = self.driver.timeout_ms(self.now).expect("a drain has an end");
            self.pass(sleep_ms.max(1));
            self.rest();
        }
        let report = Report::of(&self.driver.hub);
        let left =
            (report.clients, report.unauthenticated, report.backends, report.locks, report.queued_bytes);
        assert_eq!(left, (0, 0, 0, 0, 0), "{}", report.json);
        assert_eq!(self.driver.handler.open, 0, "an end was not told");
        // A close with unread input takes from the peer what it has not read.
        let whole = |peer: &Peer, healthy: bool| healthy && !self.net.borrow().was_reset(peer.id);
        let (clients, backends) = healthy.split_at(self.clients.len());
        for (peer, healthy) in self.clients.iter().zip(clients) {
            check_client(&peer.output, whole(peer, *healthy));
        }
        for ((peer, healthy), owed) in self.backends.iter().zip(backends).zip(&self.owed) {
            let owed = owed.as_deref().filter(|_| answered);
            check_backend(&peer.output, whole(peer, *healthy), owed);
        }
    }
}

/// Whether it could be said.
fn say(net: &net::Shared, peer: &Peer, bytes: &[u8]) -> bool {
    let net = &mut *net.borrow_mut();
    let open = !peer.eof && !peer.reset && !net.server_closed(peer.id) && !bytes.is_empty();
    if open {
        net.send(peer.id, bytes);
    }
    open
}

fn leave_room(net: &mut Net, peer: &Peer, sixteenths: usize) {
    net.leave_room(peer.id, if sixteenths == 255 { usize::MAX } else { sixteenths * 16 });
}

/// A frame as a browser sends it, its first byte and its payload as the input says.
fn masked_frame(script: &mut Script<'_>) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let first = script.number() as u8;
    let payload = bytes(script);
    let mut frame = vec![first];
    if payload.len() > 125 {
        frame.push(0x80 | 126);
        frame.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    } else {
        frame.push(0x80 | payload.len() as u8);
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// A command, right in form, and the letter of a good answer to it.
fn command(script: &mut Script<'_>) -> (Vec<u8>, Option<char>) {
    let choice = script.number();
    let letter = b"bBdDcClfFiIsSmtpPqQ"[choice % 19];
    let token = if b"dDcCl".contains(&letter) { TOKENS[choice / 19 % 2] } else { "" };
    let mut payload = token.as_bytes().to_vec();
    payload.extend(bytes(script));
    payload.truncate(4096);
    let answer = match letter {
        b'c' | b'C' | b'l' => Some('A'),
        b'f' | b'F' | b'i' | b'I' | b's' | b'S' => Some('a'),
        b'm' => Some('M'),
        b't' => Some('T'),
        b'p' => Some('P'),
        b'q' | b'Q' => Some('q'), // none, and none to what follows
        _ => None,
    };
    ([format!("{}{}", payload.len(), char::from(letter)).as_bytes(), &payload].concat(), answer)
}

// The output.

/// The numbers of the status that have to add up.
struct Report {
    json: String,
    accepted: u64,
    ended: u64,
    clients: u64,
    unauthenticated: u64,
    backends: u64,
    locks: u64,
    queued_bytes: u64,
}

impl Report {
    fn of(hub: &Hub) -> Self {
        let json = hub.report_json();
        let (listener, rest) = json.split_once("}],").expect("the listeners come first");
        let sum = |name: &str| -> u64 {
            let (_, rest) = rest.split_once(&format!("\"{name}\":{{")).expect("the status has it");
            let pairs = rest.split('}').next().unwrap_or_default().split(',');
            pairs.filter_map(|pair| pair.rsplit_once(':')?.1.parse::<u64>().ok()).sum()
        };
        Self {
            accepted: number(listener, "accepted"),
            ended: sum("refused") + sum("closed"),
            clients: number(rest, "clients"),
            unauthenticated: number(rest, "unauthenticated"),
            backends: number(rest, "backends"),
            locks: number(rest, "locks"),
            queued_bytes: number(rest, "queued_bytes"),
            json,
        }
    }
}

fn number(json: &str, name: &str) -> u64 {
    let (_, rest) = json.split_once(&format!("\"{name}\":")).expect("the status has it");
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().expect("a number")
}

/// A response, and behind a 101 frames in an order that RFC 6455 allows.
fn check_client(bytes: &[u8], whole: bool) {
    let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else {
        return assert!(bytes.is_empty() || !whole, "a response without an end");
    };
    assert!(bytes.starts_with(b"HTTP/1.1 "));
    if !bytes.starts_with(b"HTTP/1.1 101 ") {
        return;
    }
    let (mut rest, mut message, mut closed) = (&bytes[end + 4..], None, false);
    while rest.len() >= 10 || whole && !rest.is_empty() {
        let len = frame_len(rest);
        let header = [2, 4, 10][usize::from(rest[1] == 126) + 2 * usize::from(rest[1] == 127)];
        let Some(frame) = rest.get(..len) else {
            return assert!(!whole, "the last frame is cut");
        };
        assert!(!closed, "something follows the close frame");
        closed = frame[0] == 0x88;
        follow(&mut message, frame[0], &frame[header..]);
        rest = &rest[len..];
    }
}

/// `message` is the one under way: whether it is text, and its bytes so far.
fn follow(message: &mut Option<(bool, Vec<u8>)>, first: u8, payload: &[u8]) {
    match first & 0x0F {
        0 => message.as_mut().expect("a first fragment came before").1.extend_from_slice(payload),
        opcode @ (1 | 2) => {
            assert!(message.is_none(), "a message within a message");
            *message = Some((opcode == 1, payload.to_vec()));
        }
        _ => return assert!(first & 0x80 != 0 && payload.len() <= 125, "a control frame is short and whole"),
    }
    if first & 0x80 != 0 {
        let (text, bytes) = message.take().expect("it is under way");
        assert!(!text || std::str::from_utf8(&bytes).is_ok(), "text that is not UTF-8");
    }
}

/// Replies in the form of COMMANDS.md; an error is the last one. Without one, and when the server was not
/// asked to end before, every command was answered in its order.
fn check_backend(mut bytes: &[u8], whole: bool, owed: Option<&str>) {
    let mut letters = String::new();
    while !bytes.is_empty() {
        if bytes[0] == b'H' {
            // A backend that begins with a letter is answered in HTTP, and in nothing else from then on. Before its first
            // byte it may have been pinged.
            let line = &bytes[..bytes.len().min(7)];
            let is_first = letters.chars().all(|letter| letter == 'p');
            return assert!(is_first && b"HTTP/1.".starts_with(line), "neither a reply nor a response");
        }
        let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let length: usize = std::str::from_utf8(&bytes[..digits]).unwrap().parse().expect("a length");
        let Some(rest) = bytes.get(digits + 1 + length..) else {
            return assert!(!whole, "the last reply is cut");
        };
        let letter = char::from(bytes[digits]);
        assert!("ANanMTpPEXKJOHY".contains(letter), "a reply that is none");
        assert!(letter != 'E' || rest.is_empty(), "something follows an error");
        letters.push(letter);
        bytes = rest;
    }
    if let Some(owed) = owed.filter(|_| whole && !letters.contains('E')) {
        let answers = letters.replace('p', "").replace('N', "A").replace('n', "a");
        assert_eq!(answers, owed.split('q').next().unwrap_or_default(), "answers to commands");
    }
}
