//! The server's allocations on the heap: nothing for a message once it runs, and nothing for a client that
//! is silent.
//!
//! The whole driver between sockets in memory, under an allocator that counts. The sockets allocate only
//! before the counting begins.

#![allow(unsafe_code)] // an allocator can not be written without

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::hash::RandomState;
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;
use wsson::testing::auth::{self, Secret};
use wsson::testing::client::PeerAddr;
use wsson::testing::config::OnMessage;
use wsson::testing::daemon::messages::Messages;
use wsson::testing::driver::{Driver, Listen, Peer, ReadError, Ready, Stream, Token};
use wsson::testing::key::{BackendKey, ClientKey, Key};
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

/// One connection: the bytes that the peer sent, and how many it got.
#[derive(Default)]
struct Pipe {
    input: Vec<u8>,
    read: usize,
    received: usize,
}

struct Socket(Rc<RefCell<Pipe>>);

impl Stream for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        let mut pipe = self.0.borrow_mut();
        let waiting = &pipe.input[pipe.read..];
        let len = waiting.len().min(buffer.len());
        buffer[..len].copy_from_slice(&waiting[..len]);
        pipe.read += len;
        if len == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(len) }
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let len = slices.iter().map(|slice| slice.len()).sum();
        self.0.borrow_mut().received += len;
        Ok(len)
    }

    fn shut_down(&mut self) {}
}

struct Queue(VecDeque<Socket>);

impl Listen for Queue {
    type Stream = Socket;

    fn accept(&mut self, _: Token) -> io::Result<(Socket, PeerAddr)> {
        self.0.pop_front().map(|socket| (socket, PeerAddr::Unix)).ok_or_else(|| ErrorKind::WouldBlock.into())
    }
}

struct Server {
    driver: Driver<Queue, Messages>,
    pipes: Vec<Rc<RefCell<Pipe>>>,
    backend: Rc<RefCell<Pipe>>,
    settings: Settings,
}

const NOW: Now = Now { ms: 1000, unix_s: 1_700_000_000 };
const READABLE: Ready = Ready { readable: true, writable: false, closed: false };

impl Server {
    /// Accepts this many clients and one backend; none has sent anything yet.
    fn with(clients: usize) -> Self {
        let mut settings = Settings { origins: vec!["https://example.com".into()], ..Settings::default() };
        settings.auth.secrets.push(Secret::new(*b"a secret for this test only"));
        let mut hub = Hub::new(&settings, RandomState::new(), Process::default);
        hub.add_listener("unix:///clients".into(), None);
        let mut driver = Driver::new(hub, Messages { on_message: OnMessage::Echo }, clients);
        let pipes: Vec<_> = (0..clients).map(|_| Rc::new(RefCell::new(Pipe::default()))).collect();
        let backend = Rc::new(RefCell::new(Pipe::default()));
        driver.add_listener(Queue(pipes.iter().map(|pipe| Socket(pipe.clone())).collect()), Some(0));
        driver.add_listener(Queue([Socket(backend.clone())].into()), None);
        let mut server = Self { driver, pipes, backend, settings };
        for (place, pipe) in server.pipes.iter().enumerate() {
            pipe.borrow_mut().input = request(&server.settings, place);
        }
        for _ in 0..=clients / 64 {
            server.driver.turn(NOW);
        }
        server
    }

    fn open_all(&mut self) {
        for key in 0..self.pipes.len() {
            self.driver.ready(Token::Peer(Peer::Client(ClientKey::at(key))), READABLE, NOW);
            self.settle();
        }
        assert_eq!(self.driver.hub.clients(), self.pipes.len());
    }

    fn settle(&mut self) {
        self.driver.turn(NOW);
        while self.driver.timeout_ms(NOW) == Some(0) {
            self.driver.turn(NOW);
        }
    }

    /// The backend writes these commands at once; returns the bytes that all clients got for them.
    fn command(&mut self, commands: &[u8]) -> usize {
        let before = self.received();
        tell(&self.backend, commands);
        self.driver.ready(Token::Peer(Peer::Backend(BackendKey::at(0))), READABLE, NOW);
        self.settle();
        self.received() - before
    }

    fn say(&mut self, client: usize, frames: &[u8]) -> usize {
        let before = self.received();
        tell(&self.pipes[client], frames);
        self.driver.ready(Token::Peer(Peer::Client(ClientKey::at(client))), READABLE, NOW);
        self.settle();
        self.received() - before
    }

    /// All clients write these frames, and one poll tells of all of them.
    fn say_all(&mut self, frames: &[u8]) -> usize {
        let before = self.received();
        self.pipes.iter().for_each(|pipe| tell(pipe, frames));
        for client in 0..self.pipes.len() {
            self.driver.ready(Token::Peer(Peer::Client(ClientKey::at(client))), READABLE, NOW);
        }
        self.settle();
        self.received() - before
    }

    fn received(&self) -> usize {
        self.pipes.iter().map(|pipe| pipe.borrow().received).sum()
    }
}

/// Uses the pipe's buffer again: it has its size after the first time.
fn tell(pipe: &Rc<RefCell<Pipe>>, bytes: &[u8]) {
    let mut pipe = pipe.borrow_mut();
    pipe.read = 0;
    pipe.input.clear();
    pipe.input.extend_from_slice(bytes);
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
