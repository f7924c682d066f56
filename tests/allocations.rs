//! The server's allocations on the heap: nothing for a message once it runs, and nothing for a client that
//! is silent.
//!
//! The whole driver on the network of the simulation, under an allocator that counts, but not what that network takes.

#![allow(unsafe_code)] // an allocator can not be written without

#[allow(dead_code)] // the simulation uses the rest
#[path = "sim/net.rs"]
mod net;
#[allow(dead_code)]
#[path = "sim/rng.rs"]
mod rng;

use net::{FakeListener, Faults, Net};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hash::RandomState;
use std::io::{self, IoSlice};
use wsson::testing::auth::{self, Secret};
use wsson::testing::client::PeerAddr;
use wsson::testing::config::OnMessage;
use wsson::testing::daemon::messages::Messages;
use wsson::testing::driver::{Driver, Listen, ReadError, Stream, Token};
use wsson::testing::stats::Process;
use wsson::testing::timers::Now;
use wsson::{Hub, Settings};

thread_local! {
    /// Allocations of this thread, those of them that live, and their bytes.
    static TAKEN: Cell<i64> = const { Cell::new(0) };
    static LIVE: Cell<i64> = const { Cell::new(0) };
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

struct Counting;

fn count(taken: i64, live: i64, bytes: i64) {
    // Fails only while the thread ends, when the test counts no more.
    let _ = TAKEN.try_with(|cell| cell.set(cell.get() + taken));
    let _ = LIVE.try_with(|cell| cell.set(cell.get() + live));
    let _ = BYTES.try_with(|cell| cell.set(cell.get() + bytes));
}

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory of its own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, 1, layout.size() as i64);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -1, -(layout.size() as i64));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, 0, size as i64 - layout.size() as i64);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What the network of the test does is not the server's.
fn uncounted<T>(work: impl FnOnce() -> T) -> T {
    let before = (TAKEN.get(), LIVE.get(), BYTES.get());
    let result = work();
    TAKEN.set(before.0);
    LIVE.set(before.1);
    BYTES.set(before.2);
    result
}

/// A socket or listener of the simulation, whose buffers are not counted.
struct Uncounted<S>(Option<S>);

impl<S: Stream> Stream for Uncounted<S> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        uncounted(|| self.inner().read(buffer))
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        uncounted(|| self.inner().write(slices))
    }

    fn shut_down(&mut self) {
        uncounted(|| self.inner().shut_down());
    }
}

impl<L: Listen> Listen for Uncounted<L> {
    type Stream = Uncounted<L::Stream>;

    fn accept(&mut self, token: Token) -> io::Result<(Self::Stream, PeerAddr)> {
        let (stream, peer) = uncounted(|| self.inner().accept(token))?;
        Ok((Uncounted(Some(stream)), peer))
    }

    fn rename(&mut self, stream: &mut Self::Stream, token: Token) -> io::Result<()> {
        uncounted(|| self.inner().rename(stream.inner(), token))
    }
}

impl<S> Uncounted<S> {
    fn inner(&mut self) -> &mut S {
        self.0.as_mut().expect("it is there until it is dropped")
    }
}

impl<S> Drop for Uncounted<S> {
    fn drop(&mut self) {
        uncounted(|| drop(self.0.take()));
    }
}

struct Server {
    driver: Driver<Uncounted<FakeListener>, Messages>,
    net: net::Shared,
    clients: Vec<usize>,
    backend: usize,
}

const NOW: Now = Now { ms: 1000, unix_s: 1_700_000_000 };

impl Server {
    /// Accepts this many clients and one backend, and has read nothing of them yet.
    fn with(clients: usize) -> Self {
        let mut settings = Settings { origins: vec!["https://example.com".into()], ..Settings::default() };
        settings.auth.secrets.push(Secret::new(*b"a secret for this test only"));
        let mut hub = Hub::new(&settings, RandomState::new(), Process::default);
        hub.add_listener("unix:///clients".into(), None);
        let mut driver = Driver::new(hub, Messages { on_message: OnMessage::Echo }, clients);
        let net = Net::new(0, Faults::none(), 2);
        for (port, place) in [(0, Some(0)), (1, None)] {
            driver.add_listener(Uncounted(Some(FakeListener { net: net.clone(), place: port })), place);
        }
        let connect = |place| {
            let id = net.borrow_mut().connect(0);
            net.borrow_mut().send(id, &request(&settings, place));
            id
        };
        let clients: Vec<usize> = (0..clients).map(connect).collect();
        let backend = net.borrow_mut().connect(1);
        let mut server = Self { driver, net, clients, backend };
        for _ in 0..=server.clients.len() / 64 {
            server.driver.turn(NOW);
        }
        server
    }

    fn open_all(&mut self) {
        self.settle();
        assert_eq!(self.driver.hub.clients(), self.clients.len());
        self.received();
    }

    /// Polls until nothing happens any more.
    fn settle(&mut self) {
        loop {
            let events = uncounted(|| {
                self.net.borrow_mut().travel(true);
                self.net.borrow_mut().poll()
            });
            let idle = events.is_empty();
            events.iter().for_each(|(token, ready)| self.driver.ready(*token, *ready, NOW));
            uncounted(|| drop(events));
            self.driver.turn(NOW);
            if idle && self.driver.timeout_ms(NOW) != Some(0) {
                return;
            }
        }
    }

    fn send(&self, id: usize, bytes: &[u8]) {
        uncounted(|| self.net.borrow_mut().send(id, bytes));
    }

    /// The backend writes these commands at once; returns the bytes that all clients got for them.
    fn command(&mut self, commands: &[u8]) -> usize {
        self.send(self.backend, commands);
        self.settle();
        self.received()
    }

    fn say(&mut self, client: usize, frames: &[u8]) -> usize {
        self.send(self.clients[client], frames);
        self.settle();
        self.received()
    }

    /// All clients write these frames, and one poll tells of all of them.
    fn say_all(&mut self, frames: &[u8]) -> usize {
        self.clients.iter().for_each(|id| self.send(*id, frames));
        self.settle();
        self.received()
    }

    /// The clients and the backend read all that has come; returns the bytes that came to the clients.
    fn received(&self) -> usize {
        uncounted(|| {
            let net = &mut *self.net.borrow_mut();
            net.receive(self.backend, usize::MAX);
            self.clients.iter().map(|id| net.receive(*id, usize::MAX).len()).sum()
        })
    }
}

fn token(place: usize) -> String {
    format!("{place:032}")
}

fn request(settings: &Settings, place: usize) -> Vec<u8> {
    let cookies = auth::issue(&settings.auth, &token(place), "", NOW.unix_s);
    let cookies: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!(
        "GET / HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Origin: https://example.com\r\nCookie: {}\r\n\r\n",
        cookies.join("; ")
    )
    .into_bytes()
}

/// The allocations of `step` once it has been done a few times. Each step must move `bytes` to the clients, so that
/// nothing is counted that did not happen.
#[track_caller]
fn steady(server: &mut Server, bytes: usize, step: impl Fn(&mut Server) -> usize) -> i64 {
    for _ in 0..50 {
        assert_eq!(step(server), bytes);
    }
    let before = TAKEN.get();
    for _ in 0..500 {
        assert_eq!(step(server), bytes);
    }
    TAKEN.get() - before
}

#[test]
fn a_message_takes_nothing_from_the_heap() {
    let mut server = Server::with(100);
    server.open_all();
    let broadcast = [b"64b".as_slice(), &[b'x'; 64]].concat();
    let sixteen = broadcast.repeat(16);
    let direct = format!("40d{}messages", token(7)).into_bytes();
    let confirmed = format!("40c{}messages", token(7)).into_bytes().repeat(64);
    let echo = [b"\x81\x85\0\0\0\0".as_slice(), b"hello"].concat();
    assert_eq!(steady(&mut server, 66 * 100, |s| s.command(&broadcast)), 0, "a broadcast");
    assert_eq!(steady(&mut server, 66 * 1600, |s| s.command(&sixteen)), 0, "sixteen broadcasts that wait");
    assert_eq!(steady(&mut server, 10, |s| s.command(&direct)), 0, "a direct message");
    assert_eq!(steady(&mut server, 640, |s| s.command(&confirmed)), 0, "64 confirmed messages");
    assert_eq!(steady(&mut server, 7, |s| s.say(3, &echo)), 0, "an echo");
    assert_eq!(steady(&mut server, 7 * 16, |s| s.say(3, &echo.repeat(16))), 500, "16 echoes: the test's own");
}

#[test]
fn what_a_client_says_to_a_worker_takes_nothing_from_the_heap() {
    let mut server = Server::with(512);
    server.driver.handler.on_message = OnMessage::Forward;
    server.open_all();
    server.command(b"7emessage");
    let said = [b"\x81\xC0\0\0\0\0".as_slice(), &[b'x'; 64]].concat();
    let heard = |server: &mut Server, clients: usize| {
        (0..clients).for_each(|place| server.send(server.clients[place], &said));
        server.settle();
        uncounted(|| server.net.borrow_mut().receive(server.backend, usize::MAX).len())
    };
    let one = heard(&mut server, 1);
    assert!(one > 64 + 32, "{one} bytes");
    assert_eq!(steady(&mut server, one, |server| heard(server, 1)), 0, "one at a time");
    let all = heard(&mut server, 400);
    assert_eq!(steady(&mut server, all, |server| heard(server, 400)), 0, "400 that come together");
}

#[test]
fn a_silent_client_owns_no_heap_buffer() {
    let clients = 8192;
    let mut server = Server::with(clients);
    let (live, bytes) = (LIVE.get(), BYTES.get());
    server.open_all();
    let (live, bytes) = (LIVE.get() - live, BYTES.get() - bytes);
    assert!(live < 20, "{live} buffers live on for {clients} clients that opened");
    // The tables of tokens and of the index; the records were there before. Doubled at most.
    assert!(bytes <= 110 * clients as i64, "{bytes} bytes for {clients} clients");
    let broadcast = [b"64b".as_slice(), &[b'x'; 64]].concat();
    let before = LIVE.get();
    assert_eq!(server.command(&broadcast), 66 * clients);
    assert!(LIVE.get() - before < 5, "{} buffers live on after a broadcast", LIVE.get() - before);
}

/// The answers of a poll are flushed among its events: half a megabyte of answers passes through few segments.
#[test]
fn a_crowd_that_talks_at_once_takes_nothing_from_the_heap() {
    let mut server = Server::with(512);
    server.open_all();
    let echoes = [b"\x81\xC0\0\0\0\0".as_slice(), &[b'x'; 64]].concat().repeat(16);
    for _ in 0..20 {
        server.say_all(&echoes);
    }
    let before = TAKEN.get();
    assert_eq!(server.say_all(&echoes), 66 * 16 * 512);
    assert_eq!(TAKEN.get() - before, 0);
}

thread_local! {
    static GIVEN_BACK: Cell<u32> = const { Cell::new(0) };
}

/// The allocator is asked for what it keeps where few clients are left, and not while many stay.
#[test]
fn freed_memory_is_asked_back_only_where_few_clients_are() {
    for (clients, expected) in [(100, 1), (2000, 0)] {
        let mut server = Server::with(clients);
        server.open_all();
        server.driver.set_give_back(|| GIVEN_BACK.set(GIVEN_BACK.get() + 1));
        GIVEN_BACK.set(0);
        // One leaves: a close frame, answered.
        server.say(0, b"\x88\x80\0\0\0\0");
        server.driver.turn(Now { ms: NOW.ms + 4999, ..NOW });
        assert_eq!((server.driver.hub.clients(), GIVEN_BACK.get()), (clients - 1, 0), "too soon");
        server.driver.turn(Now { ms: NOW.ms + 5064, ..NOW });
        assert_eq!(GIVEN_BACK.get(), expected, "{clients} clients");
    }
}
