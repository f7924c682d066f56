//! Pages that are reloaded, lose their network, are opened twice: the contract of docs/resume.md, from its text.
//!
//! A page names its tab, offers `wsson.fresh` and `wsson.resumed`, and writes down what it sees. The world knows which
//! messages were queued for each client, in order. Each connection must bring a part of that list without a hole: from its
//! beginning after `fresh`; after `resumed` from any place that the page has seen up to. So nothing is missing, however often
//! and wherever connections break, or the page is told `fresh`. Everything else may happen meanwhile: locks, overflows,
//! kicks, expiry, reloads, a drain, tabs that never answer a ping.

use crate::net::{FakeListener, Faults, Net, Shared};
use crate::plan::ORIGIN;
use crate::rng::{Rng, begin_trace, hash_bytes, trace, trace_hash};
use crate::ws::{self, Incoming, Reader};
use std::collections::BTreeMap;
use std::hash::RandomState;
use std::sync::atomic::{AtomicU64, Ordering};
use wsson::testing::auth::{self, Secret};
use wsson::testing::driver::Driver;
use wsson::testing::frame::Kind;
use wsson::testing::stats::Process;
use wsson::testing::timers::Now;
use wsson::{Address, ClientId, Handler, Hub, Identity, Refusal, Request, Settings};

/// Handshakes that were answered by each, over all seeds: a world in which no tab comes back proves nothing.
static FRESH: AtomicU64 = AtomicU64::new(0);
static RESUMED: AtomicU64 = AtomicU64::new(0);
static REPEATED: AtomicU64 = AtomicU64::new(0);

/// The simulation has shown something: tabs came back, and messages were sent again.
pub(crate) fn check_counts(seeds: u64) {
    let counts = [&FRESH, &RESUMED, &REPEATED].map(|count| count.load(Ordering::Relaxed));
    assert!(
        counts.iter().all(|count| *count >= seeds),
        "fresh, resumed, repeated: {counts:?} in {seeds} seeds"
    );
}

const TOKEN_BYTES: usize = 8;
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// The application: each client that ever was new begins an *epoch*, whose number is its place in `fresh`.
#[derive(Default)]
struct App {
    /// The connection whose request was judged last, and its tab.
    asks: (usize, String),
    /// The epoch of its tab at that moment, if its client was here.
    asked: BTreeMap<usize, Option<usize>>,
    /// The connections that began an epoch.
    began: BTreeMap<usize, usize>,
    fresh: Vec<(String, ClientId)>,
    /// Tabs are off: a client that is new is no tab.
    off: bool,
    open: BTreeMap<usize, ClientId>,
    wrong: Option<String>,
}

impl App {
    /// The epoch of an open client.
    fn epoch(&self, id: ClientId) -> Option<usize> {
        self.open.iter().find(|(_, open)| **open == id).map(|(at, _)| *at)
    }
}

impl Handler for App {
    fn authorize<'r>(&mut self, hub: &Hub, request: &'r Request<'r>) -> Result<Identity<'r>, Refusal> {
        let field = |name| request.header(name).and_then(|value| std::str::from_utf8(value).ok());
        let conn = field("x-conn").and_then(|value| value.parse().ok()).expect("the page says it");
        let tab = field("x-tab").expect("the page says it").to_owned();
        let is_here = |(epoch, id): &(&usize, &ClientId)| self.fresh[**epoch].0 == tab && hub.is_open(**id);
        let epoch = self.open.iter().rev().find(is_here).map(|(epoch, _)| *epoch);
        self.asked.insert(conn, epoch);
        self.asks = (conn, tab);
        hub.verify_cookies(request)
    }

    fn on_handshake(&mut self, hub: &mut Hub, id: ClientId) {
        if !hub.is_open(id) || self.epoch(id).is_some() {
            self.wrong = Some("opened twice, or not open".into());
        }
        let (conn, tab) = self.asks.clone();
        self.open.insert(self.fresh.len(), id);
        self.began.insert(conn, self.fresh.len());
        self.fresh.push((if self.off { String::new() } else { tab }, id));
        let _ = hub.join(id, "room");
    }

    fn on_close(&mut self, hub: &mut Hub, id: ClientId) {
        match self.epoch(id) {
            Some(epoch) if !hub.is_open(id) => drop(self.open.remove(&epoch)),
            _ => self.wrong = Some("closed and not open, or still open".into()),
        }
    }
}

/// A connection of a page.
#[derive(Debug)]
struct Line {
    conn: usize,
    head: Vec<u8>,
    reader: Reader,
    /// The epoch that it belongs to, once it is open.
    epoch: Option<usize>,
    /// The place, in the list of that epoch, of the next message.
    next: Option<usize>,
    stopped: bool,
    closed: bool,
    /// Pings that it has not answered.
    pings: Vec<Vec<u8>>,
    /// It answers pings, now and then, or never.
    answers: usize,
}

#[derive(Debug)]
struct Page {
    token: usize,
    tab: String,
    lines: Vec<Line>,
}

struct World {
    rng: Rng,
    net: Shared,
    driver: Driver<FakeListener, App>,
    settings: Settings,
    now: Now,
    pages: Vec<Page>,
    /// What was queued for the client of each epoch.
    lists: Vec<Vec<usize>>,
    /// How many of them were seen, by whatever connection.
    seen: Vec<usize>,
    messages: Vec<Vec<u8>>,
    backend: usize,
    replies: Vec<u8>,
    /// The lock: the fragmented message under it, once it is begun, and its receivers.
    lock: Option<(Option<usize>, Vec<usize>)>,
    /// The reply that a fragment waits for; whether it is the last one.
    awaited: Option<bool>,
    kind: bool,
    tokens: usize,
    draining: bool,
    big: bool,
    can: Can,
}

#[derive(Clone, Copy, Debug, Default)]
struct Can {
    lock: bool,
    kick: bool,
    expire: bool,
    reload: bool,
    leap: bool,
    stop: bool,
    forge: bool,
    silent: bool,
}

/// Runs one seed to its end; returns the hash of its trace.
pub(crate) fn run(seed: u64) -> Result<u64, String> {
    begin_trace();
    let mut world = World::new(seed);
    let told = format!(
        "{:?} {:?} {:?} kind {}",
        world.can, world.settings.limits, world.settings.timeouts, world.kind
    );
    world.play().map_err(|what| format!("{what}\n{told}"))?;
    Ok(trace_hash())
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x7AB5);
        // In a kind world every tab that returns in time is resumed.
        let kind = rng.chance(30);
        let mut percent = |percent| !kind && rng.chance(percent);
        let can = Can {
            lock: percent(60),
            kick: percent(30),
            expire: percent(20),
            reload: percent(30),
            leap: percent(40),
            stop: percent(40),
            forge: percent(30),
            silent: percent(30),
        };
        let settings = settings(&mut rng, kind);
        let faults = Faults {
            split: rng.pick(&[0, 30, 95]),
            interrupt: rng.pick(&[0, 5]),
            storm: rng.pick(&[0, 20, 50]),
            race: rng.pick(&[0, 20]),
            spurious: rng.pick(&[0, 10]),
            records: rng.pick(&[0, 0, 50]),
            cap: rng.pick(&[7, 100, 2000, 1 << 20]),
            batch: rng.pick(&[1, 1024]),
            ..Faults::none()
        };
        let net = Net::new(seed, faults, 2);
        let mut hub = Hub::new(&settings, RandomState::new(), Process::default);
        hub.tidy_from(rng.pick(&[0, 1024]), rng.pick(&[1, 500]));
        hub.add_listener("unix:///one".into(), None);
        let mut driver = Driver::new(hub, App::default(), 1000);
        driver.flush_from(rng.pick(&[1, 2, 64]));
        driver.add_listener(FakeListener { net: net.clone(), place: 0 }, Some(0));
        driver.add_listener(FakeListener { net: net.clone(), place: 1 }, None);
        let now = Now { ms: 5, unix_s: 1_700_000_000 };
        driver.start(now);
        let backend = net.borrow_mut().connect(1);
        let tokens = rng.between(1, 3);
        let pages = (0..rng.between(1, 4)).map(|at| Page {
            token: rng.below(tokens),
            tab: format!("tab-{}", if rng.chance(15) { 0 } else { at }),
            lines: Vec::new(),
        });
        let pages: Vec<Page> = pages.collect();
        let big = rng.chance(30);
        let mut world = Self {
            rng,
            net,
            driver,
            settings,
            now,
            pages,
            backend,
            tokens,
            kind,
            can,
            big,
            lists: Vec::new(),
            seen: Vec::new(),
            messages: Vec::new(),
            replies: Vec::new(),
            lock: None,
            awaited: None,
            draining: false,
        };
        world.turn().expect("nothing has happened");
        world
    }

    fn play(&mut self) -> Result<(), String> {
        for _ in 0..self.rng.pick(&[40, 120, 250]) {
            for _ in 0..self.rng.below(4) {
                self.act()?;
            }
            self.net.borrow_mut().travel(false);
            self.read()?;
            if self.rng.chance(85) {
                let ms = match self.can.leap && self.rng.chance(5) {
                    true => self.rng.pick(&[500, 3000, 40_000]),
                    false => self.rng.pick(&[0, 0, 1, 30, 300]),
                };
                self.pass(ms)?;
            }
        }
        self.heal()?;
        self.judge()?;
        self.finish()
    }

    // The acts.

    fn act(&mut self) -> Result<(), String> {
        let page = self.rng.below(self.pages.len());
        match self.rng.below(40) {
            0..=5 if self.pages[page].lines.len() < 3 => self.connect(page),
            6..=9 => self.break_off(page),
            10 if self.can.stop => {
                let lines = &mut self.pages[page].lines;
                if let Some(line) = lines.last_mut() {
                    line.stopped = !line.stopped;
                }
            }
            11 if self.can.forge => self.forge(page),
            12 if self.can.kick => {
                let token = token(self.pages[page].token);
                trace("kick", page, 0);
                self.driver.hub.kick(&[Address::Token(token.as_bytes())], "out");
            }
            13 if self.can.reload => self.reload(),
            14..=19 if self.can.lock => self.fragment()?,
            20..=30 => self.send(),
            31..=34 => {
                for _ in 0..self.rng.below(8) {
                    self.send();
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn connect(&mut self, at: usize) {
        let settings = &self.settings.auth;
        let page = &self.pages[at];
        let life_s = if self.can.expire { self.rng.between(1, 30) as i64 } else { 80_000 };
        let issued = self.now.unix_s - settings.lifetime_s + life_s;
        let cookies: Vec<String> = auth::issue(settings, &token(page.token), "", issued)
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let conn = self.net.borrow_mut().connect(0);
        let request = format!(
            "GET /?tab={} HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\nOrigin: {ORIGIN}\r\nX-Conn: {conn}\r\nX-Tab: {}/{}\r\n\
             Sec-WebSocket-Protocol: wsson.fresh, wsson.resumed\r\nCookie: {}\r\n\r\n",
            page.tab,
            page.token,
            page.tab,
            cookies.join("; ")
        );
        trace("connect", at, conn as u64);
        self.net.borrow_mut().send(conn, request.as_bytes());
        // The first frames may come with the head.
        if self.rng.chance(30) {
            self.net.borrow_mut().send(conn, &ws::frame(0x89, b"early", [1, 2, 3, 4]));
        }
        let answers = if self.can.silent { self.rng.pick(&[0, 50, 100]) } else { 100 };
        self.pages[at].lines.push(Line {
            conn,
            head: Vec::new(),
            reader: Reader::default(),
            epoch: None,
            next: None,
            stopped: false,
            closed: false,
            pings: Vec::new(),
            answers,
        });
    }

    /// A connection of the page ends, in one of the ways in which connections end.
    fn break_off(&mut self, at: usize) {
        let page = &mut self.pages[at];
        if page.lines.is_empty() {
            return;
        }
        let line = page.lines.remove(self.rng.below(page.lines.len()));
        let way = self.rng.below(10);
        trace("break", at, way as u64);
        let mut net = self.net.borrow_mut();
        match way {
            0..=2 => net.break_off(line.conn),
            3..=4 => net.abandon(line.conn),
            5 => net.shut_down(line.conn),
            6..=7 => {
                net.send(line.conn, &ws::frame(0x88, &1001u16.to_be_bytes(), [9; 4]));
                net.shut_down(line.conn);
            }
            8 if !self.kind => {
                // The page itself: it is over for good, or goes on.
                let code: &[u8] = self.rng.pick(&[&[3, 232], &[], &[15, 160]]);
                net.send(line.conn, &ws::frame(0x88, code, [9; 4]));
            }
            8 => net.break_off(line.conn),
            _ => net.send(line.conn, b"\xFF\xFFno frame"),
        }
    }

    /// Pongs that were never asked for, or before their time.
    fn forge(&mut self, at: usize) {
        let number = self.rng.below(60) as u64;
        let Some(line) = self.pages[at].lines.last() else { return };
        if line.epoch.is_none() || line.closed {
            return;
        }
        // What a page claims to have got it may miss later: it claims only numbers that are long over, or no numbers.
        let payload = self.rng.pick(&[&b""[..], b"12345678", &[0; 8], &[0xFF; 8], &[0; 9]]);
        trace("forge", at, number);
        let frame = ws::frame(0x8A, payload, [1, 0, 2, 0]);
        self.net.borrow_mut().send(line.conn, &frame);
    }

    fn reload(&mut self) {
        trace("reload", 0, 0);
        let settings = &mut self.settings;
        settings.timeouts.away_ms = self.rng.pick(&[0, 500, 3000, 30_000]);
        settings.limits.away = Some(self.rng.pick(&[1, 2, 1000]));
        settings.limits.outbox_bytes = settings.limits.outbox_bytes.max(self.rng.pick(&[2000, 70_000]));
        settings.limits.queued_bytes =
            settings.limits.queued_bytes.max(settings.limits.outbox_bytes as usize);
        self.driver.handler.off = settings.timeouts.away_ms == 0;
        self.driver.hub.apply(settings);
    }

    fn compose(&mut self) -> (usize, Vec<u8>) {
        let number = self.messages.len();
        let len = self.rng.pick(if self.big { &[10, 500, 3000, 20_000] } else { &[9, 20, 45, 130, 400] });
        let mut bytes = format!("{number:08x}").into_bytes();
        bytes.resize(len.max(8), b'a' + (number % 26) as u8);
        self.messages.push(bytes.clone());
        (number, bytes)
    }

    /// A message to everybody, to a login, to a group or to one connection.
    fn send(&mut self) {
        let (number, bytes) = self.compose();
        let kind = self.rng.pick(&[Kind::Text, Kind::Binary]);
        let to = self.rng.below(self.tokens);
        let way = self.rng.below(5);
        trace("send", way, number as u64);
        let everybody: Vec<(usize, ClientId)> =
            self.driver.handler.open.iter().map(|(epoch, id)| (*epoch, *id)).collect();
        let everybody: Vec<_> =
            everybody.into_iter().filter(|(_, id)| self.driver.hub.is_open(*id)).collect();
        let hub = &mut self.driver.hub;
        let of_token = |hub: &Hub, id: ClientId| hub.token(id) == Some(&token(to));
        let one = everybody.get(to % everybody.len().max(1)).copied();
        let receivers: Vec<usize> = match way {
            0 | 1 => everybody.iter().map(|(epoch, _)| *epoch).collect(),
            2 => everybody.iter().filter(|(_, id)| of_token(hub, *id)).map(|(epoch, _)| *epoch).collect(),
            3 => everybody.iter().map(|(epoch, _)| *epoch).collect(),
            _ => one.iter().map(|(epoch, _)| *epoch).collect(),
        };
        match way {
            0 | 1 => drop(hub.send_broadcast(kind, &bytes)),
            2 => drop(hub.send_to_token(token(to).as_bytes(), kind, &bytes)),
            3 => drop(hub.send(&[Address::Group("room")], kind, &bytes)),
            _ => {
                if let Some((_, id)) = one {
                    hub.send_direct(id, kind, &bytes);
                }
            }
        }
        for epoch in receivers {
            self.lists[epoch].push(number);
        }
    }

    // The backend that sends in fragments.

    /// Gives the server these bytes of the backend, and nothing else. What it executes of them it executes now.
    fn command(&mut self, bytes: &[u8]) {
        let interrupt = std::mem::take(&mut self.net.borrow_mut().faults.interrupt);
        self.net.borrow_mut().send(self.backend, bytes);
        self.net.borrow_mut().hurry(self.backend);
        self.net.borrow_mut().now_ms = self.now.ms;
        let event = self.net.borrow_mut().poll_one(self.backend);
        if let Some((token, ready)) = event {
            self.driver.ready(token, ready, self.now);
        }
        self.net.borrow_mut().faults.interrupt = interrupt;
    }

    fn fragment(&mut self) -> Result<(), String> {
        if self.awaited.is_some() {
            return Ok(());
        }
        let Some((begun, receivers)) = self.lock.clone() else { return self.take_lock() };
        let last = self.rng.chance(30);
        let letter = match (begun, last) {
            (_, true) => 's',
            (None, false) => 'f',
            _ => 'i',
        };
        let first = begun.is_none();
        let number = begun.unwrap_or_else(|| {
            // It comes before all that the lock holds back.
            let number = self.messages.len();
            self.messages.push(Vec::new());
            number
        });
        if first {
            for epoch in &receivers {
                let list = &mut self.lists[*epoch];
                let place = list.iter().position(|later| *later == usize::MAX).expect("its place is kept");
                list[place] = number;
            }
        }
        let mut data = if first { format!("{number:08x}").into_bytes() } else { Vec::new() };
        data.extend(vec![b'x'; self.rng.pick(&[0, 5, 200])]);
        self.messages[number].extend_from_slice(&data);
        self.lock = Some((Some(number), receivers));
        trace("fragment", number, u64::from(last));
        self.awaited = Some(last);
        let frame = [format!("{}{letter}", data.len()).into_bytes(), data].concat();
        self.command(&frame);
        Ok(())
    }

    fn take_lock(&mut self) -> Result<(), String> {
        let to = self.rng.below(self.tokens);
        let open = &self.driver.handler.open;
        let hub = &self.driver.hub;
        let of_token = |(_, id): &(&usize, &ClientId)| hub.token(**id) == Some(&token(to));
        let receivers: Vec<usize> = open.iter().filter(of_token).map(|(epoch, _)| *epoch).collect();
        trace("lock", to, receivers.len() as u64);
        let text = token(to);
        self.replies.clear();
        self.command(format!("{}l{text}", text.len()).as_bytes());
        for _ in 0..200 {
            self.net.borrow_mut().travel(false);
            self.turn()?;
            self.hear_backend()?;
            if self.replies.len() >= text.len() + 2 {
                break;
            }
        }
        let granted = self.replies.ends_with(format!("{}A{text}", text.len()).as_bytes());
        let answer = std::mem::take(&mut self.replies);
        if granted {
            // What is sent from now on comes behind the fragments.
            for epoch in &receivers {
                let list = &mut self.lists[*epoch];
                list.push(usize::MAX);
            }
            self.lock = Some((None, receivers));
        } else if !receivers.is_empty() && self.kind {
            return Err(format!("no lock for {receivers:?}: {}", answer.escape_ascii()));
        }
        Ok(())
    }

    /// The reply to a fragment.
    fn hear_backend(&mut self) -> Result<(), String> {
        let bytes = self.net.borrow_mut().receive(self.backend, usize::MAX);
        self.replies.extend_from_slice(&bytes);
        let Some(last) = self.awaited else { return Ok(()) };
        while self.replies.starts_with(b"0p") {
            self.replies.drain(..2);
        }
        if self.replies.len() < 2 {
            return Ok(());
        }
        let taken = match &self.replies[..2] {
            b"0a" => true,
            b"0n" => false,
            other => return Err(format!("a fragment is answered {}", other.escape_ascii())),
        };
        self.replies.clear();
        self.awaited = None;
        trace("answered", usize::from(taken), u64::from(last));
        let (number, receivers) = self.lock.take().expect("a fragment has a lock");
        let number = number.expect("it was begun");
        match (taken, last) {
            (true, true) => {}
            (true, false) => self.lock = Some((Some(number), receivers)),
            // No client is left that could take it.
            (false, _) => {
                let open = &self.driver.handler.open;
                if let Some(epoch) = receivers.iter().find(|epoch| open.contains_key(epoch)) {
                    if self.driver.hub.is_open(open[epoch]) {
                        return Err(format!("a fragment was refused and {epoch} is open"));
                    }
                }
                self.void(number, &receivers);
            }
        }
        Ok(())
    }

    /// A fragmented message comes to nothing.
    fn void(&mut self, number: usize, receivers: &[usize]) {
        for epoch in receivers {
            self.lists[*epoch].retain(|other| *other != number);
        }
    }

    /// The backend is gone in the middle of its message, or before it.
    fn lose_backend(&mut self) -> Result<(), String> {
        trace("lose_backend", 0, 0);
        self.net.borrow_mut().break_off(self.backend);
        for _ in 0..200 {
            let event = self.net.borrow_mut().poll_one(self.backend);
            match event {
                Some((token, ready)) => self.driver.ready(token, ready, self.now),
                None => break,
            }
        }
        if let Some((number, receivers)) = self.lock.take() {
            self.void(number.unwrap_or(usize::MAX), &receivers);
        }
        self.replies.clear();
        self.backend = self.net.borrow_mut().connect(1);
        for _ in 0..20 {
            if self.net.borrow().is_accepted(self.backend) {
                return Ok(());
            }
            self.turn()?;
        }
        Err("the backend is not accepted".into())
    }

    // The pages.

    fn read(&mut self) -> Result<(), String> {
        for at in 0..self.pages.len() {
            for place in 0..self.pages[at].lines.len() {
                if self.pages[at].lines[place].stopped {
                    continue;
                }
                let max = if self.kind { usize::MAX } else { self.rng.pick(&[1, 40, 5000, usize::MAX]) };
                let conn = self.pages[at].lines[place].conn;
                let bytes = self.net.borrow_mut().receive(conn, max);
                if !bytes.is_empty() {
                    trace("hears", at, hash_bytes(&bytes));
                    self.hear(at, place, &bytes)
                        .map_err(|what| format!("page {at}: {what}\n{:?}", self.pages[at]))?;
                }
                self.answer_pings(at, place);
            }
            let net = self.net.borrow();
            let over = |line: &Line| net.is_over(line.conn) || net.was_reset(line.conn);
            let mut ended: Vec<usize> = Vec::new();
            self.pages[at].lines.retain(|line| {
                let keep = !over(line);
                if !keep {
                    ended.push(line.conn);
                }
                keep
            });
            drop(net);
            for conn in ended {
                if !self.net.borrow().server_closed(conn) {
                    self.net.borrow_mut().break_off(conn);
                }
            }
        }
        self.hear_backend()
    }

    fn answer_pings(&mut self, at: usize, place: usize) {
        let line = &mut self.pages[at].lines[place];
        if line.closed || line.pings.is_empty() || self.rng.chance(40) {
            return;
        }
        let answers = self.rng.chance(line.answers);
        // All of them, or only the newest.
        let only_newest = self.rng.chance(50);
        let pings = std::mem::take(&mut line.pings);
        let from = if only_newest { pings.len() - 1 } else { 0 };
        if answers {
            for ping in &pings[from..] {
                self.net.borrow_mut().send(line.conn, &ws::frame(0x8A, ping, [7, 7, 7, 7]));
            }
        }
    }

    fn hear(&mut self, at: usize, place: usize, bytes: &[u8]) -> Result<(), String> {
        let mut bytes = bytes.to_vec();
        let line = &mut self.pages[at].lines[place];
        if line.epoch.is_none() {
            line.head.extend_from_slice(&bytes);
            let Some(end) = line.head.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(()) };
            bytes = line.head.split_off(end + 4);
            let head = String::from_utf8_lossy(&line.head).into_owned();
            self.opened(at, place, &head)?;
            if self.pages[at].lines[place].epoch.is_none() {
                return Ok(()); // refused
            }
        }
        self.pages[at].lines[place].reader.feed(&bytes);
        while let Some(incoming) = self.pages[at].lines[place].reader.next()? {
            match incoming {
                Incoming::Message { bytes, .. } => self.message(at, place, &bytes)?,
                Incoming::Ping(payload) => self.pages[at].lines[place].pings.push(payload),
                Incoming::Pong(_) => {}
                Incoming::Close(code, reason) => self.closed(at, place, code, &reason)?,
            }
        }
        Ok(())
    }

    fn opened(&mut self, at: usize, place: usize, head: &str) -> Result<(), String> {
        if !head.starts_with("HTTP/1.1 101") {
            let fits = self.draining || self.can.expire || !self.kind;
            return if fits { Ok(()) } else { Err(format!("refused: {head}")) };
        }
        let protocol = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "));
        let line = &mut self.pages[at].lines[place];
        let app = &self.driver.handler;
        let (began, asked) =
            (app.began.get(&line.conn).copied(), app.asked.get(&line.conn).copied().flatten());
        match (protocol, began, asked) {
            (Some("wsson.fresh"), Some(epoch), asked) => {
                FRESH.fetch_add(1, Ordering::Relaxed);
                trace("fresh", at, epoch as u64);
                if self.kind && asked.is_some() {
                    return Err(format!("fresh, and {asked:?} was there"));
                }
                (line.epoch, line.next) = (Some(epoch), Some(0));
            }
            (Some("wsson.resumed"), None, Some(epoch)) => {
                RESUMED.fetch_add(1, Ordering::Relaxed);
                trace("resumed", at, epoch as u64);
                (line.epoch, line.next) = (Some(epoch), None);
            }
            other => return Err(format!("subprotocol, epoch that began, epoch before: {other:?}")),
        }
        Ok(())
    }

    fn message(&mut self, at: usize, place: usize, bytes: &[u8]) -> Result<(), String> {
        let number = bytes
            .get(..8)
            .and_then(|digits| usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        let number = number.ok_or("a message of nobody")?;
        trace("gets", at, number as u64);
        let expected = self.messages.get(number).ok_or("a message that was not sent")?;
        if expected != bytes {
            return Err(format!("message {number} is not what was sent"));
        }
        let line = &mut self.pages[at].lines[place];
        let epoch = line.epoch.expect("it is open");
        let (list, seen) = (&self.lists[epoch], &mut self.seen[epoch]);
        let found = match line.next {
            Some(next) if list.get(next) == Some(&number) => next,
            Some(next) => {
                let near = &list[next.saturating_sub(5)..list.len().min(next + 5)];
                return Err(format!(
                    "message {number} comes in the place of {:?} of {near:?}",
                    list.get(next)
                ));
            }
            None => {
                let found = list.iter().position(|other| *other == number).ok_or("a message for another")?;
                if found > *seen {
                    return Err(format!("resumed with {number} and {} is missing", list[*seen]));
                }
                found
            }
        };
        if found < *seen {
            REPEATED.fetch_add(1, Ordering::Relaxed);
        }
        line.next = Some(found + 1);
        *seen = (*seen).max(found + 1);
        Ok(())
    }

    fn closed(&mut self, at: usize, place: usize, code: Option<u16>, reason: &str) -> Result<(), String> {
        trace("closed", at, u64::from(code.unwrap_or(0)));
        let fits = match (code, reason) {
            (Some(4001), "out") => self.can.kick,
            (Some(4002), "taken over") => true,
            (Some(1000), "expired") => self.can.expire || self.can.leap,
            (Some(1001), "going away") => self.draining,
            (Some(1011), "framesource lost") => self.can.lock,
            (Some(1013), "slow consumer") => !self.kind,
            (Some(1002 | 1007 | 1009), _) => !self.kind,
            _ => false,
        };
        if !fits {
            return Err(format!("closed with {code:?} {reason:?}"));
        }
        let line = &mut self.pages[at].lines[place];
        line.closed = true;
        let payload = code.map_or(Vec::new(), |code| code.to_be_bytes().to_vec());
        self.net.borrow_mut().send(line.conn, &ws::frame(0x88, &payload, [3; 4]));
        Ok(())
    }

    // Turns.

    fn pass(&mut self, ms: u64) -> Result<(), String> {
        let until_ms = self.now.ms + ms;
        for _ in 0..20_000 {
            if self.driver.is_drained() {
                return Ok(());
            }
            let wakes_ms = self.driver.timeout_ms(self.now).map_or(u64::MAX, |wait_ms| self.now.ms + wait_ms);
            if self.net.borrow().has_events() || wakes_ms <= self.now.ms {
                self.turn()?;
                if self.now.ms >= until_ms {
                    return Ok(());
                }
                continue;
            }
            let next_ms = wakes_ms.min(until_ms);
            self.now.unix_s += ((next_ms - self.now.ms) / 1000) as i64;
            self.now.ms = next_ms;
            if wakes_ms > until_ms {
                return Ok(());
            }
        }
        Err("the server spins".into())
    }

    fn turn(&mut self) -> Result<(), String> {
        // A lock that is silent for long is lost; the backend goes first.
        if self.lock.is_some() && self.awaited.is_none() && self.rng.chance(2) {
            self.lose_backend()?;
        }
        self.net.borrow_mut().now_ms = self.now.ms;
        let events = self.net.borrow_mut().poll();
        trace("turn", events.len(), self.now.ms);
        for (token, ready) in events {
            self.driver.ready(token, ready, self.now);
            self.learn();
        }
        self.driver.turn(self.now);
        self.learn();
        self.driver.audit(self.now)?;
        match self.driver.handler.wrong.take() {
            Some(wrong) => Err(wrong),
            None => Ok(()),
        }
    }

    /// Clients that are new have a list from now on.
    fn learn(&mut self) {
        self.lists.resize(self.driver.handler.fresh.len(), Vec::new());
        self.seen.resize(self.driver.handler.fresh.len(), 0);
    }

    // The end.

    /// The faults are over: pages that have no connection get one, and everything comes.
    fn heal(&mut self) -> Result<(), String> {
        trace("heal", 0, 0);
        self.net.borrow_mut().faults = Faults::none();
        self.net.borrow_mut().widen();
        (self.can, self.big) = (
            Can { expire: self.can.expire, leap: true, kick: self.can.kick, lock: true, ..Can::default() },
            false,
        );
        for page in &mut self.pages {
            for line in &mut page.lines {
                (line.stopped, line.answers) = (false, 100);
            }
        }
        self.settle()?;
        if self.awaited.is_some() {
            return Err("a fragment is never answered".into());
        }
        if self.lock.is_some() {
            self.lose_backend()?;
        }
        for at in 0..self.pages.len() {
            if self.pages[at].lines.iter().all(|line| line.closed) {
                self.connect(at);
            }
        }
        self.settle()?;
        self.pass(2500)?;
        self.settle()
    }

    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..20_000 {
            self.net.borrow_mut().travel(true);
            let before = trace_hash();
            self.read()?;
            self.net.borrow_mut().travel(true);
            let drained = self.driver.is_drained();
            if !drained && (self.net.borrow().has_events() || self.driver.timeout_ms(self.now) == Some(0)) {
                self.turn()?;
            } else if before == trace_hash()
                && self.pages.iter().flat_map(|page| &page.lines).all(|line| line.pings.is_empty())
            {
                return Ok(());
            }
        }
        Err("the world is never at rest".into())
    }

    /// Everything that was queued for a client that is open has been seen.
    fn judge(&self) -> Result<(), String> {
        for (at, page) in self.pages.iter().enumerate() {
            let Some(line) = page.lines.iter().rev().find(|line| line.epoch.is_some() && !line.closed) else {
                continue;
            };
            let epoch = line.epoch.expect("it is open");
            let (list, seen) = (&self.lists[epoch], self.seen[epoch]);
            if self.driver.handler.open.contains_key(&epoch) && seen < list.len() {
                return Err(format!("page {at} never got {} of epoch {epoch}: {page:?}", list[seen]));
            }
        }
        Ok(())
    }

    /// A drain, or all tabs stay away: in the end nothing is left.
    fn finish(&mut self) -> Result<(), String> {
        if self.rng.chance(40) {
            trace("drain", 0, 0);
            self.draining = true;
            self.driver.drain(self.now, 5000);
            self.settle()?;
            self.pass(5100)?;
            self.settle()?;
            if !self.driver.is_drained() {
                return Err("it is not drained".into());
            }
        } else {
            for page in &mut self.pages {
                for line in page.lines.drain(..) {
                    self.net.borrow_mut().break_off(line.conn);
                }
            }
            self.settle()?;
            let away_ms = self.settings.timeouts.away_ms;
            self.pass(away_ms + self.settings.timeouts.close_ms + 1000)?;
        }
        let left = (self.driver.hub.clients(), self.driver.handler.open.len());
        if left == (0, 0) { Ok(()) } else { Err(format!("at the end there are left: {left:?}")) }
    }
}

fn token(number: usize) -> String {
    format!("token-{number:02}")
}

fn settings(rng: &mut Rng, kind: bool) -> Settings {
    let mut settings = Settings { origins: vec![ORIGIN.into()], ..Settings::default() };
    settings.auth.token_length = TOKEN_BYTES;
    settings.auth.secrets = vec![Secret::new(*b"not published anywhere")];
    let limits = &mut settings.limits;
    (limits.clients, limits.unauthenticated) = (Some(1000), Some(100));
    limits.connections_per_token = if kind { 100 } else { rng.pick(&[1, 2, 100]) };
    limits.away = Some(if kind { 1000 } else { rng.pick(&[1, 2, 1000]) });
    limits.outbox_bytes = if kind { 1 << 24 } else { rng.pick(&[300, 2000, 70_000, 1 << 20]) };
    limits.queued_bytes =
        (limits.outbox_bytes as usize).max(if kind { 1 << 28 } else { rng.pick(&[2000, 50_000, 1 << 28]) });
    let timeouts = &mut settings.timeouts;
    timeouts.away_ms = if kind { 3_600_000 } else { rng.pick(&[500, 3000, 30_000, 30_000]) };
    timeouts.lock_ms = 3_600_000;
    timeouts.handshake_ms = 3_600_000;
    timeouts.control_ms = 3_600_000;
    timeouts.close_ms = rng.pick(&[300, 5000]);
    (timeouts.idle_ms, timeouts.pong_ms) = if kind { (3_600_000, 3_600_000) } else { (15_000, 15_000) };
    timeouts.stalled_ms = if kind { 3_600_000 } else { 15_000 };
    settings
}
