//! Several hubs and model brokers without a socket: brokers that go, forget, come back and are silent, bytes that arrive
//! in pieces, clients that come and go. Whatever happens, nothing is told that is not so; and when all is well again,
//! everybody is reached and nothing is left over.

use super::*;
use crate::auth::Identity;
use crate::clock::Now;
use crate::config::Settings;
use crate::delivery::{Line, Written};
use crate::dispatch::pump;
use crate::key::Key;
use crate::peer::client::ClientId;
use crate::stats::Process;
use crate::wire::http::forwarded::PeerAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::hash::RandomState;

const NODES: usize = 3;
const INSTANCES: usize = 2;
const TOKENS: u64 = 6;
/// Seconds of a debug build for each: `SIM_SEEDS` asks for more, up to this.
const SEEDS_MAX: u64 = 200;

/// One connection of a node to a broker.
#[derive(Default)]
struct Wire {
    to_broker: Vec<u8>,
    to_node: Vec<u8>,
    channels: BTreeSet<Vec<u8>>,
}

/// A Redis, as far as a bus needs it.
#[derive(Default)]
struct Broker {
    is_up: bool,
    is_silent: bool,
    wires: BTreeMap<(usize, NodeKey), Wire>,
}

impl Broker {
    /// Executes one command of a connection. False when none is whole.
    fn execute(&mut self, of: (usize, NodeKey)) -> bool {
        let wire = self.wires.get_mut(&of).expect("it is connected");
        let Some((used, words)) = words(&wire.to_broker) else { return false };
        wire.to_broker.drain(..used);
        match words[0].as_slice() {
            b"PING" if wire.channels.is_empty() => wire.to_node.extend_from_slice(b"+PONG\r\n"),
            b"PING" => wire.to_node.extend_from_slice(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"),
            b"SUBSCRIBE" | b"UNSUBSCRIBE" => {
                for channel in &words[1..] {
                    let kind: &[u8] = if words[0][0] == b'S' {
                        wire.channels.insert(channel.clone());
                        b"subscribe"
                    } else {
                        wire.channels.remove(channel);
                        b"unsubscribe"
                    };
                    wire.to_node.extend_from_slice(b"*3\r\n");
                    text(&mut wire.to_node, kind);
                    text(&mut wire.to_node, channel);
                    wire.to_node.extend_from_slice(format!(":{}\r\n", wire.channels.len()).as_bytes());
                }
            }
            b"PUBLISH" => {
                let mut count = 0;
                for wire in self.wires.values_mut().filter(|wire| wire.channels.contains(&words[1])) {
                    wire.to_node.extend_from_slice(b"*3\r\n$7\r\nmessage\r\n");
                    text(&mut wire.to_node, &words[1]);
                    text(&mut wire.to_node, &words[2]);
                    count += 1;
                }
                let wire = self.wires.get_mut(&of).expect("it is connected");
                wire.to_node.extend_from_slice(format!(":{count}\r\n").as_bytes());
            }
            other => panic!("no node says {}", other.escape_ascii()),
        }
        true
    }
}

fn text(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
    to.extend_from_slice(bytes);
    to.extend_from_slice(b"\r\n");
}

/// The words of the command at the start of the input, if it is whole, and its length.
fn words(input: &[u8]) -> Option<(usize, Vec<Vec<u8>>)> {
    let line = |at: usize| {
        let end = at + input.get(at..)?.windows(2).position(|two| two == b"\r\n")?;
        let number = std::str::from_utf8(&input[at + 1..end]).ok()?.parse::<usize>().ok()?;
        Some((end + 2, number))
    };
    let (mut at, count) = line(0)?;
    let mut words = Vec::new();
    for _ in 0..count {
        let (begin, len) = line(at)?;
        words.push(input.get(begin..begin + len)?.to_vec());
        at = begin + len + 2;
    }
    (at <= input.len()).then_some((at, words))
}

struct Browser {
    id: ClientId,
    token: String,
    /// All that came.
    bytes: Vec<u8>,
    is_open: bool,
}

impl Browser {
    /// The messages behind the 101.
    fn messages(&self) -> Vec<String> {
        let Some(end) = self.bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Vec::new() };
        let (mut at, mut messages) = (end + 4, Vec::new());
        while let [first, len, ..] = self.bytes[at..] {
            let payload = &self.bytes[at + 2..at + 2 + usize::from(len)];
            if first == 0x81 {
                messages.push(String::from_utf8(payload.to_vec()).expect("it was text"));
            }
            at += 2 + usize::from(len);
        }
        messages
    }
}

struct Node {
    hub: Hub,
    backend: BackendKey,
    replies: Vec<u8>,
    browsers: Vec<Browser>,
    /// `c` commands in their order: the id of the message.
    confirmed: Vec<String>,
}

struct World {
    nodes: Vec<Node>,
    brokers: Vec<Broker>,
    now: Now,
    seed: u64,
    messages: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut settings = Settings::default();
        settings.auth.token_length = 4;
        settings.limits.connections_per_token = 100;
        // Nobody here answers pings.
        (settings.timeouts.idle_ms, settings.timeouts.control_ms) = (86_400_000, 86_400_000);
        settings.bus.redis =
            ["a", "b"].map(|host| crate::config::Redis { host: host.into(), port: 1, tls: false }).to_vec();
        let now = Now { ms: 1, unix_s: 1_000_000 };
        let nodes = (0..NODES).map(|_| {
            let mut hub = Hub::new(&settings, RandomState::new(), Process::default);
            hub.add_listener("one".into(), None);
            hub.set_now(now);
            let backend = hub.add_backend(PeerAddr::Unix).expect("there is room");
            Node { hub, backend, replies: Vec::new(), browsers: Vec::new(), confirmed: Vec::new() }
        });
        let nodes = nodes.collect();
        let brokers = (0..INSTANCES).map(|_| Broker { is_up: true, ..Broker::default() }).collect();
        Self { nodes, brokers, now, seed, messages: 0 }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }

    /// One turn of every node, and of the brokers in between.
    fn turn(&mut self) {
        for place in 0..NODES {
            self.turn_of(place);
        }
        for instance in 0..INSTANCES {
            self.serve(instance);
        }
    }

    fn turn_of(&mut self, place: usize) {
        let Self { nodes, brokers, now, .. } = self;
        let Node { hub, backend, replies, browsers, .. } = &mut nodes[place];
        hub.set_now(*now);
        hub.expire(1000);
        if hub.next_bus_ms() <= now.ms {
            hub.expire_bus();
        }
        while let Some((key, _)) = hub.next_link() {
            let broker = &mut brokers[key.index() / 2];
            match broker.is_up {
                true => {
                    assert!(hub.link_has_socket(key));
                    broker.wires.insert((place, key), Wire::default());
                }
                false => hub.link_failed(key, "refused".into()),
            }
        }
        let _ = hub.settled();
        for line in [Line::Urgent, Line::Bulk] {
            let mut keys = Vec::new();
            hub.floor.take_queued(line, usize::MAX, &mut keys);
            for key in keys {
                let browser = browsers.iter_mut().find(|browser| browser.id.key == key && browser.is_open);
                let flushed = hub.flush_client(key, line, |outbox, spool| {
                    let bytes: Vec<u8> = outbox.chunks(spool).flatten().copied().collect();
                    let sent = bytes.len();
                    browser.into_iter().for_each(|browser| browser.bytes.extend_from_slice(&bytes));
                    Ok::<_, Infallible>(Written { sent, all: true })
                });
                assert!(flushed.is_ok());
            }
        }
        while let Some(key) = hub.backends.next_flush() {
            let chunk = hub.backends[key].replies.chunk().to_vec();
            hub.backends.sent(key, chunk.len(), *now);
            assert_eq!(key, *backend);
            replies.extend_from_slice(&chunk);
        }
        while let Some(key) = hub.next_link_flush() {
            let chunk = hub.link(key).expect("it is one").chunk().to_vec();
            if let Some(wire) = brokers[key.index() / 2].wires.get_mut(&(place, key)) {
                wire.to_broker.extend_from_slice(&chunk);
            }
            hub.link_mut(key).expect("it is one").sent(chunk.len(), now.ms);
        }
        while let Some(key) = hub.next_link_gone() {
            brokers[key.index() / 2].wires.remove(&(place, key));
        }
        while let Some((id, _)) = hub.next_gone() {
            hub.floor.remove(id);
        }
        hub.audit().unwrap();
    }

    /// A broker executes some commands, and some of its bytes arrive.
    fn serve(&mut self, instance: usize) {
        let keys: Vec<(usize, NodeKey)> = self.brokers[instance].wires.keys().copied().collect();
        for of in keys {
            if self.brokers[instance].is_silent {
                return;
            }
            for _ in 0..self.draw(20) {
                if !self.brokers[instance].execute(of) {
                    break;
                }
            }
            let part = self.draw(400) as usize;
            let wire = self.brokers[instance].wires.get_mut(&of).expect("it is connected");
            let part: Vec<u8> = wire.to_node.drain(..part.min(wire.to_node.len())).collect();
            if !part.is_empty() {
                receive(&mut self.nodes[of.0].hub, of.1, &part);
            }
        }
    }

    fn cut(&mut self, instance: usize) {
        self.brokers[instance].is_up = false;
        for ((place, key), _) in std::mem::take(&mut self.brokers[instance].wires) {
            self.nodes[place].hub.link_failed(key, "it has closed the connection".into());
        }
    }

    fn act(&mut self) {
        let place = self.draw(NODES as u64) as usize;
        match self.draw(14) {
            0 | 1 => self.enter(place),
            2 => self.leave(place),
            3..=5 => self.confirm(place),
            6 => self.command(place, 'b', &[]),
            7 => {
                let token = self.token();
                self.command(place, 'd', &[&token]);
            }
            8 => {
                let (one, other) = (self.token(), self.token());
                self.command(place, 'x', &[&format!("t:{one},t:{other} ")]);
            }
            9 => {
                let payload = format!("room t:{}", self.token());
                self.pump(place, &format!("{}j", payload.len()), &payload);
            }
            10 => {
                let instance = self.draw(INSTANCES as u64) as usize;
                match self.draw(3) {
                    0 if self.brokers[instance].is_up => self.cut(instance),
                    _ => self.brokers[instance].is_up = true,
                }
            }
            11 => {
                let instance = self.draw(INSTANCES as u64) as usize;
                self.brokers[instance].is_silent = self.draw(4) == 0;
            }
            _ => self.pass(300),
        }
    }

    fn pass(&mut self, at_most_ms: u64) {
        self.now.ms += self.draw(at_most_ms);
        self.now.unix_s = 1_000_000 + (self.now.ms / 1000) as i64;
    }

    fn token(&mut self) -> String {
        format!("tok{}", self.draw(TOKENS))
    }

    fn enter(&mut self, place: usize) {
        let token = self.token();
        let now = self.now;
        let Node { hub, browsers, .. } = &mut self.nodes[place];
        hub.set_now(now);
        let id = hub.add_client(0, PeerAddr::Unix, 1000);
        let mut identity = Identity::new(token.clone());
        identity.expires_unix_s = i64::MAX / 2;
        hub.settled().admit(id, &identity, b"HTTP/1.1 101 Switching Protocols\r\n\r\n", None);
        browsers.push(Browser { id, token, bytes: Vec::new(), is_open: true });
    }

    /// One whose 101 is out goes, when it has taken all that is for it.
    fn leave(&mut self, place: usize) {
        self.turn_of(place);
        let Node { hub, browsers, .. } = &mut self.nodes[place];
        let browser = browsers.iter_mut().find(|browser| browser.is_open && !browser.bytes.is_empty());
        if let Some(browser) = browser {
            browser.is_open = false;
            hub.client_lost(browser.id);
        }
    }

    fn message(&mut self) -> String {
        self.messages += 1;
        format!("m{}", self.messages)
    }

    fn confirm(&mut self, place: usize) {
        let (token, message) = (self.token(), self.message());
        self.nodes[place].confirmed.push(format!("{token} {message}"));
        let payload = format!("{token}{message}");
        self.pump(place, &format!("{}c", payload.len()), &payload);
    }

    fn command(&mut self, place: usize, letter: char, parts: &[&str]) {
        let payload = parts.concat() + &self.message();
        self.pump(place, &format!("{}{letter}", payload.len()), &payload);
    }

    fn pump(&mut self, place: usize, head: &str, payload: &str) {
        let now = self.now;
        let Node { hub, backend, .. } = &mut self.nodes[place];
        hub.set_now(now);
        pump(hub, *backend, format!("{head}{payload}").as_bytes());
    }

    /// All is well again, for long enough.
    fn heal(&mut self) {
        for broker in &mut self.brokers {
            (broker.is_up, broker.is_silent) = (true, false);
        }
        for _ in 0..250 {
            self.turn();
            self.pass(200);
        }
    }

    /// The frames that were answered, and nothing is left of one.
    fn replies(&mut self, place: usize) -> Vec<(u8, String)> {
        let bytes = std::mem::take(&mut self.nodes[place].replies);
        let (mut at, mut replies) = (0, Vec::new());
        while at < bytes.len() {
            let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let len: usize = std::str::from_utf8(&bytes[at..at + digits]).unwrap().parse().unwrap();
            let begin = at + digits + 1;
            let payload = String::from_utf8(bytes[begin..begin + len].to_vec()).expect("it is text");
            replies.push((bytes[at + digits], payload));
            at = begin + len;
        }
        replies
    }

    /// What was told is so, and nobody got a message twice.
    fn judge(&mut self) {
        let mut delivered = BTreeSet::new();
        for node in &self.nodes {
            for browser in &node.browsers {
                let messages = browser.messages();
                let once: BTreeSet<&String> = messages.iter().collect();
                assert_eq!(once.len(), messages.len(), "a message came twice: {messages:?}");
                delivered.extend(messages.iter().map(|message| format!("{} {message}", browser.token)));
            }
        }
        for place in 0..NODES {
            let asked = std::mem::take(&mut self.nodes[place].confirmed);
            let replies = self.replies(place);
            let answers: Vec<u8> =
                replies.iter().map(|(letter, _)| *letter).filter(|letter| b"AN".contains(letter)).collect();
            assert_eq!(answers.len(), asked.len(), "every command is answered, in its place");
            for (answer, asked) in answers.iter().zip(&asked) {
                assert!(*answer == b'N' || delivered.contains(asked), "{asked} was taken by nobody");
            }
        }
    }

    /// Everybody is reached from everywhere.
    fn all_are_reached(&mut self) {
        let tokens: BTreeSet<String> = self.open().map(|browser| browser.token.clone()).collect();
        let count = self.open().count();
        for place in 0..NODES {
            for token in &tokens {
                self.pump(place, "4c", token);
            }
            self.pump(place, "1o", "*");
        }
        for _ in 0..100 {
            self.turn();
        }
        for place in 0..NODES {
            let replies = self.replies(place);
            let expected = tokens.iter().map(|token| (b'A', token.clone()));
            let expected: Vec<_> = expected.chain([(b'O', format!("{{\"*\":{count}}}"))]).collect();
            assert_eq!(replies, expected);
        }
    }

    fn open(&self) -> impl Iterator<Item = &Browser> {
        self.nodes.iter().flat_map(|node| &node.browsers).filter(|browser| browser.is_open)
    }

    /// Nobody is here any more, and nothing is left.
    fn nothing_is_left(&mut self) {
        for place in 0..NODES {
            for _ in 0..self.nodes[place].browsers.len() {
                self.leave(place);
            }
        }
        self.heal();
        for broker in &self.brokers {
            for wire in broker.wires.values() {
                assert!(wire.channels.is_empty() || wire.channels.len() == 2, "{:?}", wire.channels);
            }
        }
        for node in &self.nodes {
            let status = node.hub.report_json();
            assert!(
                status.contains("\"degraded\":false") && status.contains("\"names\":0,\"requests\":0"),
                "{status}"
            );
            assert!(!node.hub.backends[node.backend].replies.waits(), "an answer is not given");
        }
    }
}

#[test]
fn whatever_happens_nothing_is_told_that_is_not_so() {
    let seeds =
        std::env::var("SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(12).min(SEEDS_MAX);
    for seed in 0..seeds {
        let mut world = World::new(seed * 7_919 + 1);
        world.heal();
        for _ in 0..400 {
            world.act();
            if world.draw(3) > 0 {
                world.turn();
            }
        }
        world.heal();
        world.judge();
        world.all_are_reached();
        world.nothing_is_left();
    }
}
