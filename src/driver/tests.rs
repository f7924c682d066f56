//! The third kind of peer: a connection that is opened outwards, becomes writable, is read, flushed and reaped by the
//! same turn as clients and backends. The protocol is a double of a bus's.

use super::*;
use crate::config::Settings;
use crate::key::Key;
use crate::stats::Process;
use crate::wire::http::forwarded::PeerAddr;
use std::cell::RefCell;
use std::hash::RandomState;
use std::io::IoSlice;
use std::rc::Rc;

/// A socket as its other end sees it.
#[derive(Debug, Default)]
struct Wire {
    input: Vec<u8>,
    output: Vec<u8>,
    /// Bytes that the kernel takes.
    room: usize,
    eof: bool,
    refused: bool,
    shut: bool,
    closed: bool,
}

#[derive(Debug)]
struct Socket(Rc<RefCell<Wire>>);

impl Stream for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        let mut wire = self.0.borrow_mut();
        if wire.refused {
            return Err(ErrorKind::ConnectionRefused.into());
        }
        let len = buffer.len().min(wire.input.len());
        buffer[..len].copy_from_slice(&wire.input[..len]);
        wire.input.drain(..len);
        if len == 0 && !wire.eof { Err(ErrorKind::WouldBlock.into()) } else { Ok(len) }
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        let len = slices[0].len().min(wire.room);
        wire.room -= len;
        wire.output.extend_from_slice(&slices[0][..len]);
        if len == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(len) }
    }

    fn shut_down(&mut self) {
        self.0.borrow_mut().shut = true;
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.0.borrow_mut().closed = true;
    }
}

#[derive(Debug)]
struct Closed;

impl Listen for Closed {
    type Stream = Socket;

    fn accept(&mut self, _: Token) -> io::Result<(Socket, PeerAddr)> {
        Err(ErrorKind::WouldBlock.into())
    }

    fn rename(&mut self, _: &mut Socket, _: Token) -> io::Result<()> {
        Ok(())
    }
}

struct Nobody;

impl Handler for Nobody {}

/// One connection: it greets when it is open, echoes, and is full while more than four bytes wait.
#[derive(Debug, Default)]
struct Double {
    here: bool,
    greeted: bool,
    waiting: Vec<u8>,
    heard: Vec<u8>,
    ending: bool,
    queued: bool,
    gone: bool,
    error: Option<ErrorKind>,
    due_ms: Option<u64>,
}

impl Nodes for Double {
    fn receive(&mut self, hub: &mut Hub, key: NodeKey, input: &[u8]) {
        self.heard.extend_from_slice(input);
        self.waiting.extend_from_slice(input);
        hub.send_broadcast(crate::wire::frame::Kind::Text, input); // it has the hub, as a bus needs it
        self.queue(hub, key);
    }

    fn end(&mut self, hub: &mut Hub, key: NodeKey) {
        self.ending = true;
        self.queue(hub, key);
    }

    fn lose(&mut self, _: &mut Hub, _: NodeKey, error: Option<&io::Error>) {
        (self.error, self.gone) = (error.map(io::Error::kind), true);
    }

    fn chunk<'a>(&'a self, _: &'a Hub, _: NodeKey) -> &'a [u8] {
        &self.waiting
    }

    fn sent(&mut self, _: &mut Hub, _: NodeKey, bytes: usize) {
        self.waiting.drain(..bytes);
    }

    fn after_flush(&mut self, _: &mut Hub, _: NodeKey) -> After {
        if self.ending { After::ShutDown } else { After::Idle }
    }

    fn is_full(&self, _: &Hub, _: NodeKey) -> bool {
        self.waiting.len() > 4
    }

    fn queue(&mut self, _: &mut Hub, _: NodeKey) {
        if !std::mem::replace(&mut self.greeted, true) {
            self.waiting.extend_from_slice(b"hi");
        }
        self.queued = true;
    }

    fn next_flush(&mut self, _: &mut Hub) -> Option<NodeKey> {
        (std::mem::take(&mut self.queued) && !self.gone).then(node)
    }

    fn has_flush(&self, _: &Hub) -> bool {
        self.queued
    }

    fn next_gone(&mut self, _: &mut Hub) -> Option<NodeKey> {
        (self.gone && std::mem::take(&mut self.here)).then(node)
    }

    fn expire(&mut self, _: &mut Hub, now: Now) {
        if self.due_ms.is_some_and(|due_ms| due_ms <= now.ms) {
            (self.due_ms, self.gone) = (None, true);
        }
    }

    fn next_deadline_ms(&self, _: &Hub) -> u64 {
        self.due_ms.unwrap_or(u64::MAX)
    }

    fn keys(&self, _: &Hub) -> Vec<NodeKey> {
        self.here.then(node).into_iter().collect()
    }
}

const READABLE: Ready = Ready { readable: true, writable: false, closed: false };
const WRITABLE: Ready = Ready { readable: false, writable: true, closed: false };
const CLOSED: Ready = Ready { readable: true, writable: true, closed: true };

/// The only connection.
fn node() -> NodeKey {
    NodeKey::at(0)
}

struct World {
    driver: Driver<Closed, Nobody, Double>,
    wire: Rc<RefCell<Wire>>,
    now: Now,
}

impl World {
    /// A connection that is being opened.
    fn connecting() -> Self {
        let hub = Hub::new(&Settings::default(), RandomState::new(), Process::default);
        let wire = Rc::new(RefCell::new(Wire::default()));
        let mut driver = Driver::with_nodes(hub, Nobody, Double { here: true, ..Double::default() }, 1);
        driver.connect(node(), Socket(wire.clone()));
        let mut world = Self { driver, wire, now: Now { ms: 1000, unix_s: 0 } };
        world.turn();
        world
    }

    fn open() -> Self {
        let mut world = Self::connecting();
        world.wire.borrow_mut().room = usize::MAX;
        world.event(WRITABLE);
        world
    }

    fn event(&mut self, ready: Ready) {
        self.driver.ready(Token::Peer(Peer::Node(node())), ready, self.now);
        self.turn();
    }

    /// Until nothing is left to do.
    fn turn(&mut self) {
        for _ in 0..100 {
            self.driver.turn(self.now);
            self.driver.audit(self.now).unwrap();
            if self.driver.timeout_ms(self.now) != Some(0) {
                return;
            }
        }
        panic!("the driver spins");
    }

    fn say(&mut self, bytes: &[u8]) {
        self.wire.borrow_mut().input.extend_from_slice(bytes);
        self.event(READABLE);
    }

    fn output(&self) -> String {
        String::from_utf8(self.wire.borrow().output.clone()).unwrap()
    }
}

#[test]
fn a_connection_that_is_opened_outwards_is_written_to_when_it_stands() {
    let mut world = World::connecting();
    let Driver { hub, nodes, .. } = &mut world.driver;
    nodes.queue(hub, node());
    world.turn();
    assert_eq!(world.output(), "", "it is not open yet");
    world.wire.borrow_mut().room = usize::MAX;
    world.event(WRITABLE);
    assert_eq!(world.output(), "hi");
    world.say(b"abc");
    assert_eq!((world.output().as_str(), world.driver.hub.stats.broadcasts), ("hiabc", 1));
}

#[test]
fn one_that_takes_nothing_is_not_read_until_it_does() {
    let mut world = World::open();
    world.wire.borrow_mut().room = 1;
    world.say(b"12345678");
    world.say(b"more");
    assert_eq!(world.driver.nodes.heard, b"12345678", "what waits for it is too much");
    world.wire.borrow_mut().room = usize::MAX;
    world.event(WRITABLE);
    assert_eq!(
        (world.driver.nodes.heard.as_slice(), world.output().as_str()),
        (&b"12345678more"[..], "hi12345678more")
    );
}

#[test]
fn its_end_is_answered_with_ours() {
    let mut world = World::open();
    world.wire.borrow_mut().eof = true;
    world.event(CLOSED);
    assert!(world.driver.nodes.gone && world.wire.borrow().closed, "both sides are at their end");
    assert_eq!(world.driver.nodes.error, None);
}

#[test]
fn one_that_is_refused_is_lost_with_the_reason() {
    let mut world = World::connecting();
    world.wire.borrow_mut().refused = true;
    world.event(CLOSED);
    assert_eq!(world.driver.nodes.error, Some(ErrorKind::ConnectionRefused));
    assert!(world.wire.borrow().closed, "its socket is closed by the reaping");
    world.event(READABLE); // an event that came too late
}

#[test]
fn its_deadline_wakes_the_turn() {
    let mut world = World::open();
    world.driver.nodes.due_ms = Some(5000);
    assert_eq!(world.driver.timeout_ms(world.now), Some(4000));
    world.now.ms = 5000;
    world.turn();
    assert!(world.wire.borrow().closed);
}
