//! One world: the real driver and hub, the fake network, the models, and virtual time.

use crate::backend::{Backend, ROOM};
use crate::browser::{Browser, number};
use crate::common::{Context, Message, Party, Revoked};
use crate::net::{FakeListener, Faults, Net, Shared};
use crate::plan::Plan;
use crate::rng::{Rng, begin_trace, trace, trace_hash};
use crate::worker::{Ledger, Names, POOLS, Worker};
use std::collections::BTreeMap;
use std::hash::RandomState;
use wsson::testing::driver::Driver;
use wsson::testing::frame::{CloseCode, Kind};
use wsson::testing::stats::Process;
use wsson::testing::timers::{Now, TICK_MS};
use wsson::{Address, ClientId, Handler, Hub, Identity, Refusal, Request};

/// Turns, one after the other, before the world counts as never at rest.
const ROUNDS_MAX: usize = 20_000;

/// The application: it does what the ninth byte of a message says.
#[derive(Default)]
struct App {
    /// The open clients, and the number of the last message of each.
    open: Vec<(ClientId, Option<usize>)>,
    /// The browser whose request was judged last, and which browser each client is.
    asks: usize,
    browsers: Vec<(ClientId, usize)>,
    /// For each broadcast of the application: its number and the browsers that were open.
    broadcasts: Vec<(usize, Vec<usize>)>,
    farewell: bool,
    /// Workers are told what browsers say.
    forwards: bool,
    /// The names under which they hear of connections.
    names: Names,
    /// The messages that were taken to be told, for each pool that is known to be there.
    taken: [Vec<usize>; POOLS.len()],
    pools_open: [bool; POOLS.len()],
    wrong: Option<String>,
}

impl App {
    fn message(&mut self, hub: &mut Hub, id: ClientId, kind: Kind, bytes: &[u8]) {
        let Some((_, last)) = self.open.iter_mut().find(|(open, _)| *open == id) else {
            self.wrong = Some("a message of a client that is not open".into());
            return;
        };
        let number = number(bytes);
        if number.is_none() || number <= *last && number != Some(u32::MAX as usize) {
            self.wrong = Some(format!("message {number:?} arrives behind {last:?}"));
        }
        if number != Some(u32::MAX as usize) {
            *last = number;
        }
        if self.forwards {
            if !hub.forward(id, kind, bytes) {
                return;
            }
            let pools = self.taken.iter_mut().zip(self.pools_open).filter(|(_, open)| *open);
            let number = number.filter(|number| *number != u32::MAX as usize);
            pools.for_each(|(taken, _)| taken.extend(number));
        }
        match bytes.get(8) {
            Some(b'e') => drop(hub.send_direct(id, kind, bytes)),
            Some(b'b') => {
                let is_open = |(id, _): &&(ClientId, usize)| hub.is_open(*id);
                let open = self.browsers.iter().filter(is_open).map(|(_, browser)| *browser).collect();
                self.broadcasts.push((number.unwrap_or(0), open));
                hub.send_broadcast(kind, bytes);
            }
            Some(b'x') => hub.close(id, CloseCode::NORMAL, "bye"),
            _ => {}
        }
    }
}

impl Handler for App {
    fn authorize<'r>(&mut self, hub: &Hub, request: &'r Request<'r>) -> Result<Identity<'r>, Refusal> {
        let browser = request.header("x-browser").and_then(|value| std::str::from_utf8(value).ok());
        self.asks = browser.and_then(|value| value.parse().ok()).unwrap_or(usize::MAX);
        hub.verify_cookies(request)
    }

    fn on_handshake(&mut self, hub: &mut Hub, id: ClientId) {
        if !hub.is_open(id) || self.open.iter().any(|(open, _)| *open == id) {
            self.wrong = Some("opened and not open, or twice".into());
        }
        if self.forwards {
            let token = hub.token(id).unwrap_or_default().to_owned();
            self.names.insert(id.to_string(), (self.asks, token));
        }
        self.open.push((id, None));
        self.browsers.push((id, self.asks));
    }

    fn on_text_message(&mut self, hub: &mut Hub, id: ClientId, text: &str) {
        self.message(hub, id, Kind::Text, text.as_bytes());
    }

    fn on_binary_message(&mut self, hub: &mut Hub, id: ClientId, data: &[u8]) {
        self.message(hub, id, Kind::Binary, data);
    }

    fn on_close(&mut self, hub: &mut Hub, id: ClientId) {
        let before = self.open.len();
        self.open.retain(|(open, _)| *open != id);
        if before != self.open.len() + 1 || hub.is_open(id) {
            self.wrong = Some("closed and not open, or still open".into());
        }
        if self.farewell {
            hub.send_broadcast(Kind::Text, b"farewell");
        }
    }
}

struct World {
    plan: Plan,
    rng: Rng,
    net: Shared,
    driver: Driver<FakeListener, App>,
    now: Now,
    step: usize,
    jumps: usize,
    draining: Option<u64>,
    /// When the process went on after it was stopped: the peers' input counts from then on.
    went_on_ms: u64,
    healing: bool,
    browsers: Vec<Browser>,
    backends: Vec<Backend>,
    workers: Vec<Worker>,
    ledgers: [Ledger; POOLS.len()],
    /// Theirs alone: what the others draw stays as it was.
    worker_rng: Rng,
    /// A worker that goes is replaced.
    supervised: bool,
    /// When clients could last be kept waiting for workers.
    held_ms: u64,
    messages: Vec<Message>,
    bytes: usize,
    broadcast_bytes: usize,
    executed: BTreeMap<Party, usize>,
    locked: Vec<bool>,
    revoked: Vec<Revoked>,
    joined: Vec<bool>,
    kicked: Vec<bool>,
}

/// Runs one seed to its end; returns the hash of its trace.
pub(crate) fn run(seed: u64) -> Result<u64, String> {
    begin_trace();
    let mut rng = Rng::new(seed);
    let mut plan = Plan::new(&mut rng);
    plan.addresses = seed % 7 == 0;
    if seed % 8 == 5 && !plan.can.quiet {
        plan.workers = true;
        let (mut rng, timeouts) = (Rng::new(seed ^ 0x0DD), &mut plan.settings.timeouts);
        plan.settings.limits.control_outbox_bytes = rng.pick(&[300, 1000, 5000, 1 << 20, 1 << 20]);
        let mut pick = |short: &[u64]| if plan.can.stall { rng.pick(short) } else { 20_000 };
        timeouts.worker_ms = pick(&[900, 3000, 30_000]);
        timeouts.no_worker_ms = pick(&[400, 2000, 10_000]);
    }
    plan.groups = seed % 7 == 3 && !plan.can.quiet && !plan.workers;
    plan.revoke = seed % 21 == 0 && !plan.can.jump;
    let mut world = World::new(seed, plan, rng);
    let result = world.play();
    let plan = &world.plan;
    let told = |what: String| {
        let (limits, timeouts) = (&plan.settings.limits, &plan.settings.timeouts);
        format!("{what}\nplan: {:?} {:?}\n{limits:?}\n{timeouts:?}", plan.can, plan.faults)
    };
    result.map_err(told)?;
    Ok(trace_hash())
}

fn no_process() -> Process {
    Process::default()
}

/// Which numbers are drawn: workers have their own, so that a world without them stays as it was.
#[derive(Clone, Copy)]
enum Dice {
    All,
    Workers,
}

struct Peers<'w> {
    browsers: &'w mut Vec<Browser>,
    backends: &'w mut Vec<Backend>,
    workers: &'w mut Vec<Worker>,
    ledgers: &'w mut [Ledger],
    names: &'w Names,
}

impl World {
    fn new(seed: u64, plan: Plan, rng: Rng) -> Self {
        let net = Net::new(seed, plan.faults.clone(), 3);
        let mut hub = Hub::new(&plan.settings, RandomState::new(), no_process);
        // Of a generator of its own: the worlds of the seeds that failed once stay what they were.
        let mut bounds = Rng::new(!seed);
        hub.tidy_from(bounds.pick(&[0, 2, 4, 1024]), bounds.pick(&[1, 50, 500]));
        hub.add_listener("unix:///one".into(), None);
        hub.add_listener("unix:///two".into(), Some("ws.example.com".into()));
        let app = App { farewell: plan.can.farewell, forwards: plan.workers, ..App::default() };
        let mut driver = Driver::new(hub, app, plan.sockets_max);
        driver.flush_from(bounds.pick(&[1, 2, 3, 64]));
        for (place, of_clients) in [(0, Some(0)), (1, Some(1)), (2, None)] {
            driver.add_listener(FakeListener { net: net.clone(), place }, of_clients);
        }
        let now = Now { ms: 5, unix_s: 1_700_000_000 };
        let supervised = plan.workers;
        driver.start(now);
        Self {
            executed: BTreeMap::new(),
            locked: vec![false; plan.tokens],
            revoked: vec![Revoked::No; plan.tokens],
            joined: vec![false; plan.tokens],
            kicked: vec![false; plan.tokens],
            plan,
            rng,
            net,
            driver,
            now,
            step: 0,
            jumps: 0,
            draining: None,
            went_on_ms: 0,
            healing: false,
            browsers: Vec::new(),
            backends: Vec::new(),
            workers: Vec::new(),
            ledgers: Default::default(),
            worker_rng: Rng::new(seed ^ 0xB0B),
            supervised,
            held_ms: 0,
            messages: Vec::new(),
            bytes: 0,
            broadcast_bytes: 0,
        }
    }

    fn play(&mut self) -> Result<(), String> {
        for _ in 0..self.plan.steps {
            self.step += 1;
            self.act()?;
            self.net.borrow_mut().travel(false);
            self.serve_or_wait()?;
        }
        self.heal()?;
        self.judge()?;
        // A browser that comes later brings traffic of its own.
        if self.draining.is_none() && self.waiting_outside() == 0 && self.rng.chance(30) {
            self.stay_idle()?;
        }
        if self.draining.is_some() || self.rng.chance(40) {
            self.finish_draining()
        } else {
            self.fall_silent()
        }
    }

    fn is_full(&self) -> bool {
        let net = self.net.borrow();
        let here = |b: &&Browser| net.is_accepted(b.conn) && !net.server_closed(b.conn);
        let strangers = self.browsers.iter().filter(here).filter(|browser| browser.is_stranger()).count();
        let strangers_max = self.plan.settings.limits.unauthenticated.unwrap_or(usize::MAX);
        self.browsers.iter().filter(here).count() >= self.plan.sockets_max || strangers >= strangers_max
    }

    /// The peers, and what surrounds them in this step.
    fn split(&mut self, dice: Dice) -> (Context<'_>, Peers<'_>) {
        let full = self.is_full();
        let cx = Context {
            full,
            rng: match dice {
                Dice::All => &mut self.rng,
                Dice::Workers => &mut self.worker_rng,
            },
            net: &self.net,
            messages: &mut self.messages,
            plan: &self.plan,
            now: self.now,
            step: self.step,
            jumps: self.jumps,
            crowd: self.browsers.len(),
            draining: self.draining.is_some(),
            bytes: &mut self.bytes,
            broadcast_bytes: &mut self.broadcast_bytes,
            executed: &mut self.executed,
            locked: &mut self.locked,
            revoked: &mut self.revoked,
            joined: &mut self.joined,
            kicked: &mut self.kicked,
            healing: self.healing,
        };
        let peers = Peers {
            browsers: &mut self.browsers,
            backends: &mut self.backends,
            workers: &mut self.workers,
            ledgers: &mut self.ledgers,
            names: &self.driver.handler.names,
        };
        (cx, peers)
    }

    // Events.

    fn act(&mut self) -> Result<(), String> {
        for _ in 0..self.rng.below(4) {
            let (browsers_max, backends_max) = (self.plan.browsers, self.plan.backends);
            let (mut cx, Peers { browsers, backends, .. }) = self.split(Dice::All);
            let active = browsers.iter().filter(|browser| browser.is_active()).count();
            let connected = backends.iter().filter(|backend| backend.is_active()).count();
            match cx.rng.below(20) {
                0..=3 if active < browsers_max && browsers.len() < 25 => {
                    trace("browser", browsers.len(), 0);
                    // Now and then a whole crowd arrives at once.
                    for _ in 0..cx.rng.pick(&[1, 1, 1, 1, 1, 1, 1, 8]) {
                        browsers.push(Browser::new(browsers.len(), &mut cx));
                    }
                }
                4..=5 if connected < backends_max && backends.len() < 10 => {
                    trace("backend", backends.len(), 0);
                    backends.push(Backend::new(backends.len(), &mut cx));
                }
                6..=12 if !browsers.is_empty() => {
                    let at = cx.rng.below(browsers.len());
                    browsers[at].act(&mut cx);
                }
                _ if !backends.is_empty() => {
                    let at = cx.rng.below(backends.len());
                    backends[at].act(&mut cx);
                }
                _ => {}
            }
        }
        self.upset();
        if self.plan.workers {
            self.act_of_workers();
        }
        self.read()
    }

    fn act_of_workers(&mut self) {
        let (mut cx, Peers { workers, ledgers, .. }) = self.split(Dice::Workers);
        for _ in 0..cx.rng.below(4) {
            let active = workers.iter().filter(|worker| worker.is_active()).count();
            if active < 4 && workers.len() < 16 && cx.rng.chance(20) {
                let pool = cx.rng.below(POOLS.len());
                workers.push(Worker::new(workers.len(), pool, &mut cx));
            } else if !workers.is_empty() {
                let at = cx.rng.below(workers.len());
                let pool = workers[at].pool;
                workers[at].act(&mut cx, &mut ledgers[pool]);
            }
        }
    }

    /// The acts of the administrator and the clock.
    fn upset(&mut self) {
        let can = self.plan.can;
        if can.jump && self.rng.chance(3) {
            self.jumps += 1;
            self.now.unix_s += self.rng.between(0, 200_000) as i64 - 100_000;
            trace("clock", 0, self.now.unix_s as u64);
        }
        if can.reload && self.rng.chance(3) {
            self.reload();
        }
    }

    fn drain(&mut self) {
        trace("drain", 0, 0);
        let drain_ms = self.plan.settings.timeouts.drain_ms;
        self.draining = Some(self.now.ms + drain_ms);
        self.driver.drain(self.now, drain_ms);
    }

    /// Other timeouts, and more room.
    fn reload(&mut self) {
        trace("reload", 0, 0);
        if self.plan.can.stall {
            let timeouts = &mut self.plan.settings.timeouts;
            timeouts.idle_ms = self.rng.pick(&[800, 4000, 20_000]);
            timeouts.pong_ms = self.rng.pick(&[800, 4000, 20_000]);
            timeouts.control_ms = self.rng.pick(&[800, 4000, 20_000]);
            timeouts.lock_ms = self.rng.pick(&[800, 4000, 20_000]);
        }
        self.plan.sockets_max += 1;
        self.driver.hub.apply(&self.plan.settings);
        self.driver.set_sockets_max(self.plan.sockets_max);
    }

    fn read(&mut self) -> Result<(), String> {
        let (mut cx, Peers { browsers, backends, .. }) = self.split(Dice::All);
        for browser in browsers {
            browser.read(&mut cx)?;
        }
        for backend in backends {
            backend.read(&mut cx)?;
        }
        let pools = if self.healing && self.supervised && self.draining.is_none() { POOLS.len() } else { 0 };
        let (mut cx, Peers { workers, ledgers, names, .. }) = self.split(Dice::Workers);
        // As a supervisor does.
        for pool in 0..pools {
            let is_there = workers.iter().any(|worker| worker.pool == pool && worker.is_active());
            if !is_there && workers.len() < 60 {
                workers.push(Worker::new(workers.len(), pool, &mut cx));
            }
        }
        for worker in workers {
            worker.read(&mut cx, names, &mut ledgers[worker.pool])?;
        }
        for (open, ledger) in self.driver.handler.pools_open.iter_mut().zip(&self.ledgers) {
            *open = ledger.open;
        }
        Ok(())
    }

    // The server's turns.

    fn serve_or_wait(&mut self) -> Result<(), String> {
        if self.rng.chance(self.plan.lazy) {
            return Ok(()); // the server is slow; more comes together
        }
        let can_leap = self.plan.can.stall && self.rng.chance(4);
        let ms =
            if can_leap { self.rng.pick(&[500, 3000, 20_000]) } else { self.rng.pick(&[0, 0, 1, 5, 20]) };
        self.pass(ms)
    }

    /// So much time passes; the server wakes whenever it has asked to or something happens.
    fn pass(&mut self, ms: u64) -> Result<(), String> {
        let until_ms = self.now.ms + ms;
        for _ in 0..ROUNDS_MAX {
            if self.driver.is_drained() {
                return Ok(()); // the process ends
            }
            let timeout_ms = self.driver.timeout_ms(self.now);
            let wakes_ms = timeout_ms.map_or(u64::MAX, |timeout_ms| self.now.ms + timeout_ms);
            if self.net.borrow().has_events() || wakes_ms <= self.now.ms {
                self.turn()?;
                if self.now.ms >= until_ms {
                    return Ok(());
                }
                continue;
            }
            let next_ms = wakes_ms.min(until_ms);
            let passed_ms = next_ms - self.now.ms;
            self.now.ms = next_ms;
            self.now.unix_s += (passed_ms / 1000) as i64;
            if wakes_ms > until_ms {
                self.net.borrow_mut().now_ms = self.now.ms;
                return Ok(());
            }
        }
        Err("the server spins".into())
    }

    fn turn(&mut self) -> Result<(), String> {
        self.net.borrow_mut().now_ms = self.now.ms;
        let events = self.net.borrow_mut().poll();
        trace("turn", events.len(), self.now.ms);
        let broadcasts = self.driver.handler.broadcasts.len();
        for (token, ready) in events {
            self.driver.ready(token, ready, self.now);
            let race = self.net.borrow().faults.race;
            if self.rng.chance(race) {
                self.net.borrow_mut().travel(false);
            }
        }
        // As the reactor does when another thread asks for it: behind the events, before the rest.
        // The moment to look for is when a broadcast waits to be handed out.
        let percent = if self.driver.handler.broadcasts.len() > broadcasts { 20 } else { 1 };
        if self.plan.can.drain && self.draining.is_none() && !self.healing && self.rng.chance(percent) {
            self.drain();
        }
        self.driver.turn(self.now);
        if self.driver.hub.audit_holds() {
            self.held_ms = self.now.ms;
        }
        self.check()
    }

    fn check(&mut self) -> Result<(), String> {
        self.driver.audit(self.now)?;
        match self.driver.handler.wrong.take() {
            Some(wrong) => return Err(wrong),
            None => self.check_silence()?,
        }
        self.check_revoked()?;
        self.check_members()?;
        let open = self.driver.handler.open.len();
        if open < self.driver.hub.clients() {
            return Err(format!("{} are open, the application knows {open}", self.driver.hub.clients()));
        }
        let late = self.draining.is_some_and(|until_ms| self.now.ms > until_ms + TICK_MS);
        if late && !self.driver.is_drained() {
            return Err("the drain does not end".into());
        }
        Ok(())
    }

    /// A login whose revocation was answered is never open again.
    fn check_revoked(&self) -> Result<(), String> {
        let mut gone = (0..self.plan.tokens).filter(|token| self.revoked[*token] == Revoked::Yes);
        let hub = &self.driver.hub;
        match gone.find(|token| hub.clients_of(self.plan.token(*token).as_bytes()).next().is_some()) {
            Some(token) => Err(format!("token {token} was revoked, and is open")),
            None => Ok(()),
        }
    }

    /// A group has no members but connections of tokens that were put into it; that the roster's own books agree is for
    /// the audit.
    fn check_members(&self) -> Result<(), String> {
        let hub = &self.driver.hub;
        let members = hub.members(Address::Group(ROOM));
        let fits = |id: &ClientId| {
            let token = hub.token(*id).and_then(|token| token.strip_prefix("token-")?.parse::<usize>().ok());
            token.is_some_and(|token| self.joined[token])
        };
        match members.iter().all(fits) {
            true => Ok(()),
            false => Err(format!("{members:?} are in the group, and only {:?} were put in", self.joined)),
        }
    }

    /// A silent peer is gone in time.
    fn check_silence(&self) -> Result<(), String> {
        if self.plan.can.reload {
            return Ok(());
        }
        let timeouts = &self.plan.settings.timeouts;
        let net = self.net.borrow();
        let slack_ms = timeouts.close_ms + 4 * TICK_MS;
        let client_ms = (timeouts.idle_ms + timeouts.pong_ms).max(timeouts.handshake_ms) + slack_ms;
        let backend_ms = 2 * timeouts.control_ms + slack_ms;
        let silent_ms = |conn: usize| {
            if !net.is_accepted(conn) || net.server_closed(conn) || net.has_unread_input(conn) {
                return 0;
            }
            let since_ms = self.went_on_ms.max(self.held_ms);
            (self.now.ms - net.conn(conn).last_read_ms).min(self.now.ms - since_ms)
        };
        // A backend that takes its replies lives.
        let idle_ms = |conn: usize| silent_ms(conn).min(self.now.ms - net.conn(conn).last_write_ms);
        if let Some(browser) = self.browsers.iter().find(|browser| silent_ms(browser.conn) > client_ms) {
            return Err(format!("browser {} is silent and still there", browser.me));
        }
        if let Some(backend) = self.backends.iter().find(|backend| idle_ms(backend.conn) > backend_ms) {
            return Err(format!("backend {} is silent and still there", backend.me));
        }
        Ok(())
    }

    // The end.

    /// The faults are over: all that waits must come, without the help of a long time.
    fn heal(&mut self) -> Result<(), String> {
        trace("heal", 0, 0);
        self.healing = true;
        let spurious = self.net.borrow().faults.spurious;
        self.net.borrow_mut().faults = Faults { spurious: spurious / 20, ..Faults::none() };
        self.net.borrow_mut().widen();
        self.step += 1;
        let (mut cx, Peers { browsers, backends, .. }) = self.split(Dice::All);
        browsers.iter_mut().for_each(Browser::heal);
        backends.iter_mut().for_each(|backend| backend.heal(&mut cx));
        self.workers.iter_mut().for_each(Worker::heal);
        // Descriptors that were missing are looked for again after a pause.
        for pause_ms in [0, 110, 110] {
            self.pass(pause_ms)?;
            self.settle()?;
        }
        Ok(())
    }

    /// Until no peer has anything to do.
    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..ROUNDS_MAX {
            self.net.borrow_mut().travel(true);
            let before = trace_hash();
            self.read()?;
            self.net.borrow_mut().travel(true);
            let drained = self.driver.is_drained();
            if !drained && (self.net.borrow().has_events() || self.driver.timeout_ms(self.now) == Some(0)) {
                self.turn()?;
            } else if before == trace_hash() {
                return Ok(());
            }
        }
        Err("the world is never at rest".into())
    }

    fn judge(&mut self) -> Result<(), String> {
        let broadcasts = &std::mem::take(&mut self.driver.handler.broadcasts);
        let (cx, Peers { browsers, backends, .. }) = self.split(Dice::All);
        let healthy = |browser: &Browser| browser.is_healthy();
        let executed = |party: Party| match party {
            Party::Browser(at) => healthy(&browsers[at]),
            Party::Backend(at) => backends[at].is_executed(&cx) && !cx.draining,
        };
        for browser in browsers.iter() {
            browser.judge(&cx, executed)?;
            browser.judge_broadcasts(&cx, broadcasts)?;
        }
        for backend in backends.iter() {
            backend.judge(&cx)?;
        }
        let conns: Vec<usize> =
            browsers.iter().map(|browser| browser.conn).chain(backends.iter().map(|b| b.conn)).collect();
        self.judge_workers()?;
        let conns = conns.into_iter().chain(self.workers.iter().map(|worker| worker.conn));
        let net = self.net.borrow();
        for conn in conns {
            if net.peer_left(conn) && net.is_accepted(conn) && !net.server_closed(conn) {
                return Err(format!("the peer of connection {conn} has left and the server keeps it"));
            }
        }
        Ok(())
    }

    /// Everybody was told everything, and nobody waits any more.
    fn judge_workers(&mut self) -> Result<(), String> {
        let taken = self.driver.handler.taken.clone();
        let holds = self.driver.hub.audit_holds();
        let (cx, Peers { workers, ledgers, .. }) = self.split(Dice::Workers);
        if cx.draining {
            return Ok(());
        }
        for worker in workers.iter() {
            worker.judge(&cx)?;
        }
        for (pool, ledger) in ledgers.iter().enumerate() {
            ledger.judge(pool, &taken[pool])?;
        }
        if holds {
            return Err(format!("clients wait for workers that take everything: {workers:?}"));
        }
        Ok(())
    }

    /// SIGTERM: every client gets a close, and every connection ends in time.
    fn finish_draining(&mut self) -> Result<(), String> {
        if self.draining.is_none() {
            self.drain();
        }
        self.settle()?;
        let until_ms = self.draining.unwrap_or(0) + TICK_MS;
        self.pass(until_ms.saturating_sub(self.now.ms))?;
        self.settle()?;
        if !self.driver.is_drained() {
            return Err("it is not drained".into());
        }
        self.nothing_is_left()
    }

    /// All peers are silent, and pings are answered: none is closed, however long it takes.
    fn stay_idle(&mut self) -> Result<(), String> {
        let timeouts = self.plan.settings.timeouts.clone();
        let patience_ms = timeouts.idle_ms.min(timeouts.pong_ms).min(timeouts.control_ms);
        let open = |world: &Self| -> Vec<usize> {
            let lasts = |browser: &&Browser| browser.is_healthy() && !browser.slow;
            world.browsers.iter().filter(lasts).map(|browser| browser.me).collect()
        };
        let before = open(self);
        self.plan.can.stall = true;
        for _ in 0..16 {
            self.pass(patience_ms / 3)?;
            if self.rng.chance(20) {
                self.stop()?;
            }
            self.settle()?;
        }
        let after = open(self);
        let excused = self.plan.can.reload || self.plan.can.expire || self.plan.can.jump;
        if !before.iter().all(|browser| after.contains(browser)) && !excused {
            return Err(format!("of {before:?} only {after:?} are open after a time without traffic"));
        }
        Ok(())
    }

    /// The process is stopped for longer than any peer may be silent. They answer what they were asked, and go on.
    fn stop(&mut self) -> Result<(), String> {
        trace("stop", 0, 0);
        self.net.borrow_mut().travel(true);
        self.read()?;
        self.net.borrow_mut().travel(true);
        self.now.ms += self.rng.pick(&[2000, 31_000, 200_000]);
        self.went_on_ms = self.now.ms;
        self.turn()
    }

    /// No peer sends anything any more: all are gone in time.
    fn fall_silent(&mut self) -> Result<(), String> {
        self.plan.can.stall = true;
        self.browsers.iter_mut().for_each(Browser::go_mute);
        self.backends.iter_mut().for_each(Backend::go_mute);
        self.supervised = false;
        self.workers.iter_mut().for_each(Worker::go_mute);
        let timeouts = self.plan.settings.timeouts.clone();
        let client_ms = (timeouts.idle_ms + timeouts.pong_ms).max(timeouts.handshake_ms);
        let mut left_ms = client_ms.max(2 * timeouts.control_ms) + timeouts.close_ms + 10 * TICK_MS;
        if self.plan.can.expire || self.plan.can.jump || self.plan.can.reload {
            left_ms += 60_000;
        }
        if self.plan.workers {
            // Clients may have to wait for a worker that confirms nothing, and then for one to come.
            left_ms += 2 * timeouts.control_ms + timeouts.no_worker_ms + client_ms;
        }
        // A browser that no place was free for comes in when the others are gone.
        left_ms *= 1 + self.waiting_outside() as u64;
        while left_ms > 0 {
            let ms = left_ms.min(200);
            self.pass(ms)?;
            left_ms -= ms;
            if left_ms % 5 == 0 {
                self.settle()?;
            }
        }
        self.settle()?;
        self.nothing_is_left()
    }

    fn waiting_outside(&self) -> usize {
        let net = self.net.borrow();
        self.browsers.iter().filter(|browser| net.is_outside(browser.conn)).count()
    }

    fn nothing_is_left(&mut self) -> Result<(), String> {
        let found = BTreeMap::from([
            ("sockets", self.net.borrow().sockets()),
            ("clients", self.driver.hub.clients()),
            ("known to the application", self.driver.handler.open.len()),
            ("outside", if self.draining.is_some() { 0 } else { self.waiting_outside() }),
        ]);
        if found.values().any(|count| *count > 0) {
            return Err(format!("at the end there are left: {found:?}"));
        }
        Ok(())
    }
}
