//! `wsson check --bus`: is each instance of the bus there, does it let this node do what it needs, and do the nodes that
//! are on it have the same list?
//!
//! It speaks as a node does, with the same state machine, and publishes one message to an inbox that nobody has. It changes
//! nothing.

use crate::config::{Redis, Settings};
use crate::hub::list_digest;
use crate::net::tls;
use crate::peer::node::{Heard, Link, Login, Role};
use crate::sys::describe;
use crate::wire::envelope::{Content, Envelope};
use crate::wire::resp;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// How long an instance may take to answer.
const PATIENCE: Duration = Duration::from_secs(6);
/// Longer than a node is silent.
const LISTEN: Duration = Duration::from_millis(2_500);
/// How long one read waits.
const STEP: Duration = Duration::from_millis(100);
/// Longer than any message that is of interest here.
const TEXT_BYTES_MAX: usize = 128 * 1024 * 1024;

trait Both: Read + Write {}
impl<T: Read + Write + ?Sized> Both for T {}

/// One connection to an instance.
struct Visit {
    stream: Box<dyn Both>,
    link: Link,
    input: Vec<u8>,
}

/// What an instance has said.
enum News {
    Up,
    Published,
    /// A node, and the digest of its list.
    Node(u64, u64),
}

/// The faults that were found, each in a sentence.
pub(super) fn faults(settings: &Settings) -> Vec<String> {
    let bus = &settings.bus;
    let own = list_digest(&bus.redis);
    let mut faults = Vec::new();
    let mut listened = false;
    for redis in &bus.redis {
        match visit(redis, settings, !std::mem::replace(&mut listened, true)) {
            Ok(nodes) => {
                let others = nodes.iter().filter(|(_, digest)| **digest != own);
                faults.extend(others.map(|(node, _)| {
                    format!("{redis}: the node {node:016x} has another list of instances, or another order")
                }));
            }
            Err(why) => {
                listened = false;
                faults.push(format!("{redis}: {why}"));
            }
        }
    }
    faults
}

/// Does what a node does; returns the nodes that were heard of, if that is asked for.
fn visit(redis: &Redis, settings: &Settings, listens: bool) -> Result<BTreeMap<u64, u64>, String> {
    let bus = &settings.bus;
    let login = Login { user: bus.user.clone(), password: bus.password.clone() };
    let all = format!("{}:*", bus.name);
    let inbox = format!("{}:n:check", bus.name);
    let mut cmd = Visit::begin(redis, Role::Cmd, &login, &[])?;
    cmd.link.publish(&[inbox.as_bytes()], &[b"check"], 0);
    cmd.until(PATIENCE, |news| matches!(news, News::Published))?;
    let mut sub = Visit::begin(redis, Role::Sub, &login, &[all.as_bytes(), inbox.as_bytes()])?;
    let mut nodes = BTreeMap::new();
    if listens {
        let heard = sub.until(LISTEN, |news| {
            if let News::Node(node, digest) = news {
                nodes.insert(*node, *digest);
            }
            false
        });
        heard.or_else(|why| if why.is_empty() { Ok(()) } else { Err(why) })?;
    }
    Ok(nodes)
}

impl Visit {
    /// A connection that has been greeted.
    fn begin(redis: &Redis, role: Role, login: &Login, channels: &[&[u8]]) -> Result<Self, String> {
        let mut visit = Self { stream: open(redis)?, link: Link::new(role), input: Vec::new() };
        visit.link.open(0, login, channels);
        let why = visit.until(PATIENCE, |news| matches!(news, News::Up));
        why.map_err(|why| if why.is_empty() { "it does not answer".to_owned() } else { why })?;
        Ok(visit)
    }

    /// Sends what waits and reads until the news has come. The reason is empty when the time is over.
    fn until(&mut self, at_most: Duration, mut is_last: impl FnMut(&News) -> bool) -> Result<(), String> {
        let bytes = self.link.chunk().to_vec();
        self.stream.write_all(&bytes).map_err(|error| describe(&error))?;
        self.link.sent(bytes.len(), 0);
        let begin = Instant::now();
        let mut buffer = [0; 16 * 1024];
        loop {
            while let Some(news) = self.next()? {
                if is_last(&news) {
                    return Ok(());
                }
            }
            if begin.elapsed() > at_most {
                return Err(String::new());
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err("it has closed the connection".into()),
                Ok(len) => self.input.extend_from_slice(&buffer[..len]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(describe(&error)),
            }
        }
    }

    fn next(&mut self) -> Result<Option<News>, String> {
        loop {
            let decoded = resp::decode(&self.input, TEXT_BYTES_MAX);
            let decoded = decoded.map_err(|error| format!("what answers there is no Redis: {error}"))?;
            let Some((used, answer)) = decoded else { return Ok(None) };
            let news = match self.link.hear(&answer, 0) {
                Heard::Failed(why) => return Err(why),
                Heard::Up => Some(News::Up),
                Heard::Published(..) => Some(News::Published),
                Heard::Message(_, message) => match Envelope::parse(message) {
                    Ok(Envelope { origin, content: Content::Heartbeat(heartbeat), .. }) => {
                        Some(News::Node(origin, heartbeat.instances))
                    }
                    _ => None,
                },
                Heard::Nothing | Heard::Subscribed(_) => None,
            };
            self.input.drain(..used);
            if news.is_some() {
                return Ok(news);
            }
        }
    }
}

fn open(redis: &Redis) -> Result<Box<dyn Both>, String> {
    let addresses = (redis.host.as_str(), redis.port).to_socket_addrs();
    let addresses =
        addresses.map_err(|error| format!("{} cannot be looked up: {}", redis.host, describe(&error)))?;
    let mut last = format!("{} has no address", redis.host);
    for address in addresses {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(socket) if redis.tls => {
                let limits =
                    socket.set_read_timeout(Some(PATIENCE)).and(socket.set_write_timeout(Some(PATIENCE)));
                limits.map_err(|error| describe(&error))?;
                let step = socket.try_clone().map_err(|error| describe(&error))?;
                let stream = tls::connect(socket, &redis.host)?;
                step.set_read_timeout(Some(STEP)).map_err(|error| describe(&error))?;
                return Ok(Box::new(stream));
            }
            Ok(socket) => {
                let limits =
                    socket.set_read_timeout(Some(STEP)).and(socket.set_write_timeout(Some(PATIENCE)));
                limits.map_err(|error| describe(&error))?;
                return Ok(Box::new(socket));
            }
            Err(error) => last = describe(&error),
        }
    }
    Err(last)
}
