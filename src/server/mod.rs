//! The server on real sockets: mio's poll, signals and the waker around the [`Driver`].
//!
//! It holds no protocol bytes and makes no decision about a peer: events are translated, time is taken
//! once a turn, the driver does the rest. Invariant: between two polls [`Driver::turn`] ran once.

mod bus;

mod departure;

use crate::clock::Now;
use crate::config::Settings;
use crate::delivery::SEGMENT_BYTES;
use crate::driver::{Driver, EVENTS_MAX, Ready, Token};
use crate::handler::Handler;
use crate::hub::Hub;
use crate::net::{Address, BindError, Inherited, Listener, Permissions, driver_token, mio_token, tls};
use crate::remote::{Message, Remote};
use crate::stats::Process;
use crate::sys;
use crate::wire::frame::CloseCode;
use crate::wire::http::forwarded::Network;
use departure::Departure;
use mio::{Events, Poll, Waker};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook_mio::v1_0::Signals;
use std::collections::VecDeque;
use std::fmt;
use std::hash::RandomState;
use std::io;
use std::sync::mpsc::Receiver;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Messages from other threads handled in a turn.
const INBOX_MAX: usize = 1024;
/// Descriptors that are not for clients: listeners, the log, the PID file, backends, and connections that
/// get the answer that the server is full.
const RESERVE: u64 = 64;
/// The part of the reserve for connections that are to be answered 503.
const REFUSALS: usize = 24;
/// Fewest descriptors worth starting with.
const DESCRIPTORS_MIN: u64 = 32;

/// A server that is bound and not yet, or still, running.
pub struct Server<H> {
    driver: Driver<Listener, H, bus::Bus>,
    poll: Poll,
    events: Events,
    signals: Option<Signals>,
    remote: Remote,
    inbox: Receiver<Message>,
    inbox_left: bool,
    /// Clients are told one after the other that the server ends.
    departure: Option<Departure>,
    drain_ms: u64,
    clock: Clock,
    started: bool,
    /// Signals that arrived and were not given out.
    arrived: VecDeque<Signal>,
    tick: Option<Ticker>,
    /// The client limit of the settings, before the descriptors were counted.
    capacity: Capacity,
    /// Connections of the bus that were opened: which of several addresses is next.
    attempts: usize,
}

impl<H> fmt::Debug for Server<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("clock", &self.clock).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug)]
struct Capacity {
    clients: usize,
    /// Sockets beyond those, to answer that the server is full.
    refusals: usize,
    /// The most backends, also when the settings allow more.
    backends: usize,
}

#[derive(Clone, Copy, Debug)]
struct Ticker {
    every_ms: u64,
    next_ms: u64,
}

/// How old the wall clock's reading may be: it is for logins, which count seconds.
const WALL_MS: u64 = 100;

/// The time of the turn. The clock is read once a turn, after the poll; the wall clock less often.
#[derive(Debug)]
struct Clock {
    began_us: u64,
    /// Since then, at the last reading.
    read_us: u64,
    now: Now,
    wall_due_ms: u64,
}

impl Clock {
    fn new() -> Self {
        let mut clock =
            Self { began_us: sys::monotonic_us(), read_us: 0, now: Now::default(), wall_due_ms: 0 };
        clock.read();
        clock
    }

    fn read(&mut self) -> Now {
        self.read_us = sys::monotonic_us() - self.began_us;
        self.now.ms = self.read_us / 1000;
        if self.now.ms >= self.wall_due_ms {
            let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.now.unix_s = unix.as_secs() as i64;
            self.wall_due_ms = self.now.ms + WALL_MS;
        }
        self.now
    }

    /// Since the last reading.
    fn passed_us(&self) -> u64 {
        sys::monotonic_us() - self.began_us - self.read_us
    }
}

/// A signal that the process may act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM.
    Terminate,
    /// SIGINT.
    Interrupt,
    /// SIGHUP.
    Hangup,
    /// SIGUSR1.
    User1,
    /// SIGUSR2.
    User2,
}

/// Why [`Server::next`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// A signal arrived.
    Signal(Signal),
    /// The interval of [`Server::set_tick`] is over.
    Tick,
    /// The drain is over: there is nothing left to serve.
    Drained,
}

/// Why a server does not start.
#[derive(Debug)]
pub enum StartError {
    /// An address in the settings is not one.
    Address(String),
    /// An address can not be listened on.
    Bind(BindError),
    /// A socket was handed in that the settings do not ask for.
    Unasked(Address),
    /// The descriptor limit leaves no room for clients.
    Descriptors(u64),
    /// The certificate or its key can not be used, or there is none and TLS is to be spoken.
    Tls(String),
    /// The system's error.
    Os(&'static str, io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(text) | Self::Tls(text) => f.write_str(text),
            Self::Bind(error) => write!(f, "{error}"),
            Self::Unasked(address) => write!(
                f,
                "a socket was handed in for {address}, which is neither in `servers` nor `control`: add it there, \
                 or remove it from the unit"
            ),
            Self::Descriptors(limit) => write!(
                f,
                "the limit of {limit} open files is too low: raise it (ulimit -n, LimitNOFILE=) to at least \
                 {DESCRIPTORS_MIN}"
            ),
            Self::Os(what, error) => write!(f, "{what}: {}", sys::describe(error)),
        }
    }
}

impl std::error::Error for StartError {}

impl From<BindError> for StartError {
    fn from(error: BindError) -> Self {
        Self::Bind(error)
    }
}

impl<H: Handler> Server<H> {
    /// Opens all listeners. Nothing is accepted before [`run`](Self::run) or [`next`](Self::next).
    ///
    /// # Errors
    /// The reason that prevents it; sockets that were made are removed again.
    pub fn bind(settings: &Settings, handler: H) -> Result<Self, StartError> {
        Self::bind_with(settings, handler, Vec::new())
    }

    /// The same, with listening sockets that another process has opened: each takes the place of the address
    /// that it is bound to.
    ///
    /// # Errors
    /// As [`bind`](Self::bind); also when no address asks for one of the sockets.
    pub fn bind_with(settings: &Settings, handler: H, inherited: Vec<Inherited>) -> Result<Self, StartError> {
        let limit =
            sys::raise_nofile().map_err(|e| StartError::Os("cannot read the limit of open files", e))?;
        if limit < DESCRIPTORS_MIN {
            return Err(StartError::Descriptors(limit));
        }
        sys::return_large_buffers(SEGMENT_BYTES);
        let capacity = Capacity::of(limit);
        let settings = capacity.resolve(settings);
        let poll = Poll::new().map_err(|e| StartError::Os("cannot create the event queue", e))?;
        let waker =
            Waker::new(poll.registry(), WAKER).map_err(|e| StartError::Os("cannot create the waker", e))?;
        let (remote, inbox) = Remote::new(waker);
        let clock = Clock::new();
        let mut hub = Hub::new(&settings, RandomState::new(), probe);
        hub.set_now(clock.now);
        hub.outside.started_unix_s = u64::try_from(clock.now.unix_s).unwrap_or_default();
        let sockets_max = capacity.sockets(&settings);
        let mut driver = Driver::with_nodes(hub, handler, bus::Bus, sockets_max);
        driver.set_give_back(sys::return_freed_memory);
        let mut server = Self {
            driver,
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            signals: None,
            remote,
            inbox,
            inbox_left: false,
            departure: None,
            drain_ms: settings.timeouts.drain_ms,
            clock,
            started: false,
            arrived: VecDeque::new(),
            tick: None,
            capacity,
            attempts: 0,
        };
        server.listen(&settings, inherited)?;
        Ok(server)
    }

    fn listen(&mut self, settings: &Settings, mut inherited: Vec<Inherited>) -> Result<(), StartError> {
        let tls = load_tls(settings)?;
        let sockets = &settings.sockets;
        let permissions =
            |mode| Permissions { mode, owner: sockets.owner.clone(), group: sockets.group.clone() };
        let mut open = |server: &mut Self, text: &str, place, mode, reuseport| {
            let address = Address::parse(text).map_err(StartError::Address)?;
            let found = inherited.iter().position(|inherited| inherited.is_bound_to(&address));
            let inherited = found.map(|found| inherited.swap_remove(found));
            server.add_listener(address, place, inherited, &permissions(mode), reuseport)
        };
        for (place, text) in settings.servers.iter().enumerate() {
            let address = open(self, text, Some(place), sockets.servers_mode, settings.reuseport)?;
            self.driver.hub.add_listener(address, settings.domains.get(place).cloned());
        }
        for text in &settings.control {
            open(self, text, None, sockets.control_mode, false)?;
        }
        if let Some(tls) = tls {
            let speaks_tls = settings.listeners().map(|text| text.starts_with("tls://"));
            let listeners = self.driver.listeners().zip(speaks_tls);
            listeners.filter(|(_, speaks)| *speaks).for_each(|(listener, _)| _ = listener.use_tls(&tls));
            self.driver.hub.outside.certificate_expiry_unix_s = u64::try_from(tls.expires_unix_s()).ok();
        }
        self.set_user_timeout(settings);
        self.expect_headers(settings);
        match inherited.pop() {
            Some(unasked) => Err(StartError::Unasked(unasked.address)),
            None => Ok(()),
        }
    }

    /// Returns the address with the port that it got.
    fn add_listener(
        &mut self,
        mut address: Address,
        place: Option<usize>,
        inherited: Option<Inherited>,
        permissions: &Permissions,
        reuseport: bool,
    ) -> Result<String, StartError> {
        let os = |error| StartError::Os("cannot register a listener", error);
        let registry = self.poll.registry().try_clone().map_err(os)?;
        let mut listener = match inherited {
            Some(inherited) => Listener::adopt(inherited, registry)?,
            None => Listener::bind(&address, permissions, reuseport, registry)?,
        };
        let index = self.driver.listeners().count();
        listener.register(mio_token(Token::Listener(index))).map_err(os)?;
        if let (Address::Tcp(addr) | Address::Tls(addr), Some(port)) = (&mut address, listener.local_port()) {
            addr.set_port(port);
        }
        self.driver.add_listener(listener, place);
        Ok(address.to_string())
    }

    /// Takes SIGTERM, SIGINT, SIGHUP, SIGUSR1 and SIGUSR2 over: they come out of [`next`](Self::next).
    ///
    /// # Errors
    /// As `sigaction(2)`.
    pub fn handle_signals(&mut self) -> io::Result<()> {
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2])?;
        self.poll.registry().register(&mut signals, SIGNALS, mio::Interest::READABLE)?;
        self.signals = Some(signals);
        Ok(())
    }

    /// Makes [`next`](Self::next) return [`Wake::Tick`] at this interval.
    pub fn set_tick(&mut self, every: Duration) {
        let every_ms = every.as_millis().max(1) as u64;
        self.tick = Some(Ticker { every_ms, next_ms: self.clock.read().ms + every_ms });
    }

    /// Serves until drained: by [`Remote::drain`], or by the first SIGTERM or SIGINT if signals are
    /// handled. A second one ends at once.
    ///
    /// # Errors
    /// Only when the poll itself fails.
    pub fn run(&mut self) -> io::Result<()> {
        loop {
            match self.next()? {
                Wake::Drained => return Ok(()),
                Wake::Signal(Signal::Terminate | Signal::Interrupt) if self.is_draining() => return Ok(()),
                Wake::Signal(Signal::Terminate | Signal::Interrupt) => self.drain(),
                Wake::Signal(_) | Wake::Tick => {}
            }
        }
    }

    /// Serves until something happens that is the process's business.
    ///
    /// # Errors
    /// Only when the poll itself fails.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> io::Result<Wake> {
        if !std::mem::replace(&mut self.started, true) {
            let now = self.clock.read();
            self.driver.start(now);
        }
        loop {
            if let Some(signal) = self.arrived.pop_front() {
                return Ok(Wake::Signal(signal));
            }
            if self.driver.is_drained() {
                return Ok(Wake::Drained);
            }
            if self.tick_is_due() {
                return Ok(Wake::Tick);
            }
            self.turn()?;
        }
    }

    fn tick_is_due(&mut self) -> bool {
        match &mut self.tick {
            Some(tick) if tick.next_ms <= self.clock.now.ms => {
                tick.next_ms = self.clock.now.ms + tick.every_ms;
                self.take_signals(); // one whose wake-up byte was lost
                true
            }
            _ => false,
        }
    }

    fn turn(&mut self) -> io::Result<()> {
        let timeout = self.timeout();
        match self.poll.poll(&mut self.events, timeout) {
            // By a signal, whose handler writes a byte to wake us: that may fail as any write.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.take_signals(),
            result => result?,
        }
        let now = self.clock.read();
        let mut signalled = false;
        for event in &self.events {
            let ready = Ready {
                readable: event.is_readable(),
                writable: event.is_writable(),
                closed: event.is_read_closed() || event.is_error(),
            };
            match event.token() {
                WAKER => self.inbox_left = true,
                SIGNALS => signalled = true,
                token => self.driver.ready(driver_token(token), ready, now),
            }
        }
        if signalled {
            self.take_signals();
        }
        self.read_inbox(now);
        if self.departure.is_some() {
            self.depart(now);
        }
        self.driver.turn(now);
        if self.driver.hub.has_bus() {
            self.open_links();
        }
        self.driver.hub.note_turn(self.clock.passed_us());
        Ok(())
    }

    /// Signals that arrived together come in the order of their numbers: a reload before a status before an end.
    fn take_signals(&mut self) {
        let pending = self.signals.iter_mut().flat_map(Signals::pending);
        self.arrived.extend(pending.filter_map(Signal::from_number));
    }

    /// Reckoned from the beginning of the turn: too long by the time that the turn took, which is little beside any
    /// timeout.
    fn timeout(&self) -> Option<Duration> {
        if self.inbox_left {
            return Some(Duration::ZERO);
        }
        let now = self.clock.now;
        let departs_ms = self.departure.as_ref().map(|departure| departure.next_ms().saturating_sub(now.ms));
        match self.driver.timeout_ms(now).into_iter().chain(departs_ms).min() {
            Some(0) => Some(Duration::ZERO),
            timeout_ms => {
                let tick_ms = self.tick.map_or(u64::MAX, |tick| tick.next_ms.saturating_sub(now.ms));
                let timeout_ms = timeout_ms.unwrap_or(u64::MAX).min(tick_ms);
                (timeout_ms != u64::MAX).then(|| Duration::from_millis(timeout_ms))
            }
        }
    }

    fn read_inbox(&mut self, now: Now) {
        if !std::mem::take(&mut self.inbox_left) {
            return;
        }
        self.driver.hub.set_now(now);
        for _ in 0..INBOX_MAX {
            // As with backends: earlier broadcasts are offered to every client first.
            if self.driver.hub.is_throttled(1) {
                break;
            }
            match self.inbox.try_recv() {
                Ok(Message::Broadcast(kind, message)) => drop(self.driver.hub.send_broadcast(kind, &message)),
                Ok(Message::Direct(token, kind, message)) => {
                    self.driver.hub.send_to_token(token.as_bytes(), kind, &message);
                }
                Ok(Message::Drain) => self.drain(),
                Ok(Message::Found(found)) => self.found(found),
                Err(_) => return,
            }
        }
        self.inbox_left = true;
    }

    // Calls from the process around the server.

    /// Stops accepting, removes Unix sockets, closes every client with 1001 and flushes; [`next`](Self::next)
    /// returns [`Wake::Drained`] when all are gone, after `timeouts.drain` at the latest.
    pub fn drain(&mut self) {
        self.departure = None;
        let now = self.clock.read();
        self.driver.drain(now, self.drain_ms);
    }

    /// The same, but the closes are spread evenly over this time. Meanwhile new handshakes are answered 503, and backends are
    /// served.
    pub fn drain_over(&mut self, over: Duration) {
        let now = self.clock.read();
        self.driver.hub.set_now(now);
        let here = self.driver.hub.begin_to_leave();
        let over_ms = u64::try_from(over.as_millis()).unwrap_or(u64::MAX);
        self.departure = Some(Departure::new(now.ms, over_ms, here));
        if over.is_zero() {
            self.drain();
        }
    }

    /// Tells those whose turn has come; the rest of the way is a drain.
    fn depart(&mut self, now: Now) {
        self.driver.hub.set_now(now);
        let hub = &mut self.driver.hub;
        let Some(departure) = &mut self.departure else { return };
        while let Some(id) = departure.next_due(now.ms) {
            hub.close(id, CloseCode::GOING_AWAY, "going away");
        }
        if departure.is_over(now.ms) || hub.clients() == 0 {
            self.drain();
        }
    }

    /// Whether clients are being told, by [`drain_over`](Self::drain_over), and not all of them were yet.
    pub fn is_leaving(&self) -> bool {
        self.departure.is_some()
    }

    /// Whether [`drain`](Self::drain) was called.
    pub fn is_draining(&self) -> bool {
        self.driver.hub.is_draining()
    }

    /// Puts new secrets, origins, limits and timeouts in force without touching a connection.
    pub fn apply(&mut self, settings: &Settings) {
        let settings = self.capacity.resolve(settings);
        self.drain_ms = settings.timeouts.drain_ms;
        self.driver.set_sockets_max(self.capacity.sockets(&settings));
        self.driver.hub.apply(&settings);
        self.set_user_timeout(&settings);
        self.expect_headers(&settings);
    }

    /// Which proxies name the visitor, on the connections to come.
    fn expect_headers(&mut self, settings: &Settings) {
        let all = settings.trusted_proxies.iter().filter(|_| settings.proxy_protocol);
        let proxies: Vec<Network> = all.filter_map(|text| Network::parse(text)).collect();
        let servers = self.driver.listeners_of().filter(|(place, _)| place.is_some());
        servers.for_each(|(_, listener)| listener.expect_headers(proxies.clone()));
    }

    /// The kernel gives a peer that acknowledges nothing as long as we give one that says nothing. For the connections
    /// to come.
    fn set_user_timeout(&mut self, settings: &Settings) {
        let timeouts = &settings.timeouts;
        let (clients_ms, backends_ms) = (timeouts.idle_ms + timeouts.pong_ms, 2 * timeouts.control_ms);
        for (place, listener) in self.driver.listeners_of() {
            // The kernel accepted such a value when the listener was opened.
            let _ = listener.set_user_timeout(if place.is_some() { clients_ms } else { backends_ms });
        }
    }

    /// Gives TLS listeners the certificate that [`load_tls`] read, for the connections to come; true when one of them
    /// had another certificate.
    pub fn use_tls(&mut self, config: &tls::Config) -> bool {
        let mut changed = false;
        for listener in self.driver.listeners().filter(|listener| listener.has_tls()) {
            changed |= listener.use_tls(config);
        }
        if changed {
            self.driver.hub.outside.certificate_expiry_unix_s = u64::try_from(config.expires_unix_s()).ok();
        }
        changed
    }

    /// Sets the counter of the log lines that were lost; each status reads it.
    pub(crate) fn set_log_lines_lost(&mut self, count: fn() -> u64) {
        self.driver.hub.outside.log_lines_lost = count;
    }

    /// Makes the files of Unix sockets that have gone anew, so that they can be reached again; connections stay.
    /// Returns the addresses of those, and the outcomes.
    pub(crate) fn restore_sockets(&mut self) -> Vec<(String, Result<(), StartError>)> {
        let mut restored = Vec::new();
        for (index, listener) in self.driver.listeners().enumerate() {
            match listener.restore(mio_token(Token::Listener(index))) {
                Ok(None) => {}
                Ok(Some(path)) => restored.push((path, Ok(()))),
                Err((path, error)) => restored.push((path, Err(error.into()))),
            }
        }
        restored
    }

    /// The status of this moment as JSON (operations.md, "Status fields").
    pub fn status_json(&mut self) -> String {
        let now = self.clock.read();
        self.driver.hub.set_now(now);
        self.driver.hub.report_json()
    }

    /// A handle that sends from other threads.
    pub fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// The addresses of the client listeners, with the ports that they got.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.driver.hub.addresses()
    }

    /// The peers.
    pub fn hub(&mut self) -> &mut Hub {
        &mut self.driver.hub
    }

    /// The application.
    pub fn handler_mut(&mut self) -> &mut H {
        &mut self.driver.handler
    }
}

/// Reads the certificate and its key, if there are `tls://` listeners. Before it is used nothing changes.
///
/// # Errors
/// [`StartError::Tls`].
pub(crate) fn load_tls(settings: &Settings) -> Result<Option<tls::Config>, StartError> {
    if !settings.speaks_tls() {
        return Ok(None);
    }
    let Some(files) = &settings.tls else {
        return Err(StartError::Tls("a tls:// listener needs certificate and key in [tls]".into()));
    };
    tls::load(&files.certificate, &files.key).map(Some).map_err(StartError::Tls)
}

impl Capacity {
    /// The descriptors that are left when the reserve is taken off; of a very low limit, a third.
    fn of(descriptors: u64) -> Self {
        let clients = descriptors.saturating_sub(RESERVE).max(descriptors / 3) as usize;
        Self { clients, refusals: REFUSALS.min(clients / 2), backends: (descriptors / 4) as usize }
    }

    /// Client sockets in all states.
    fn sockets(self, settings: &Settings) -> usize {
        settings.limits.clients.unwrap_or(self.clients) + self.refusals
    }

    /// Fills in the limits that follow from the number of descriptors.
    fn resolve(self, settings: &Settings) -> Settings {
        let mut settings = settings.clone();
        let limits = &mut settings.limits;
        let clients = limits.clients.unwrap_or(self.clients).min(self.clients);
        limits.clients = Some(clients);
        limits.backends = limits.backends.min(self.backends).max(1);
        limits.unauthenticated.get_or_insert((clients / 2).max(1));
        limits.away.get_or_insert((clients / 10).max(1));
        settings
    }
}

impl Signal {
    fn from_number(number: i32) -> Option<Self> {
        Some(match number {
            SIGTERM => Self::Terminate,
            SIGINT => Self::Interrupt,
            SIGHUP => Self::Hangup,
            SIGUSR1 => Self::User1,
            SIGUSR2 => Self::User2,
            _ => return None,
        })
    }
}

// Tokens that net::mio_token never gives.
const WAKER: mio::Token = mio::Token(7);
const SIGNALS: mio::Token = mio::Token(15);

/// The figures of this process in /proc; zeros where there is none.
fn probe() -> Process {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let status = read("/proc/self/status");
    let kib = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map_or(0, first_number);
    let limits = read("/proc/self/limits");
    let fds_max = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    Process {
        pid: std::process::id(),
        rss_bytes: kib("VmRSS:") * 1024,
        virtual_bytes: kib("VmSize:") * 1024,
        cpu_ms: sys::cpu_us() / 1000,
        fds: open_descriptors(),
        fds_max: fds_max.map_or(0, first_number),
    }
}

/// Linux gives their number as the folder's size since 6.2; before, they have to be counted, which takes about a
/// millisecond for this many. The hub knows its sockets, and says so when they are more.
const DESCRIPTORS_COUNTED_MAX: usize = 1024;

fn open_descriptors() -> u64 {
    match std::fs::metadata("/proc/self/fd").map_or(0, |folder| folder.len()) {
        0 => std::fs::read_dir("/proc/self/fd").map_or(0, count_descriptors),
        count => count,
    }
}

/// Without the descriptor that the folder is read by.
fn count_descriptors<T>(descriptors: impl Iterator<Item = T>) -> u64 {
    descriptors.take(DESCRIPTORS_COUNTED_MAX).count().saturating_sub(1) as u64
}

fn first_number(text: &str) -> u64 {
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Peer;
    use crate::key::{BackendKey, ClientKey, Key, NodeKey};

    #[test]
    fn tokens_survive_mio() {
        let peers = [
            Peer::Client(ClientKey::at(0)),
            Peer::Client(ClientKey::at(19_999)),
            Peer::Backend(BackendKey::at(7)),
            Peer::Node(NodeKey::at(3)),
        ];
        for token in peers.into_iter().map(Token::Peer).chain([Token::Listener(2)]) {
            assert_eq!(driver_token(mio_token(token)), token);
            assert!(![WAKER, SIGNALS].contains(&mio_token(token)));
        }
    }

    #[test]
    fn descriptors_are_counted_up_to_a_bound() {
        assert_eq!((count_descriptors(0..5), count_descriptors(0..)), (4, 1023));
        let hub = Hub::new(&Settings::default(), RandomState::new(), Process::default);
        assert!(hub.report_json().contains("\"fds\":0"));
    }

    #[test]
    fn the_kernels_patience_follows_the_settings() {
        let mut settings = Settings { servers: vec!["tcp://127.0.0.1:0".into()], ..Settings::default() };
        settings.control = vec!["tcp://127.0.0.1:0".into()];
        let mut server = Server::bind(&settings, Nothing).unwrap();
        let user_timeout_ms = |server: &mut Server<Nothing>| -> Vec<u32> {
            server.driver.listeners().map(|listener| listener.user_timeout_ms()).collect()
        };
        assert_eq!(user_timeout_ms(&mut server), [30_000, 30_000]);
        settings.timeouts.idle_ms = 100_000;
        settings.timeouts.control_ms = 5000;
        server.apply(&settings);
        assert_eq!(user_timeout_ms(&mut server), [115_000, 10_000]);
        let port = server.driver.listeners().next().unwrap().local_port().unwrap();
        let _browser = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let accepted = server.driver.listeners().next().unwrap().accept_user_timeout_ms();
        assert_eq!(accepted, 115_000, "a connection inherits it");
    }

    struct Nothing;

    impl Handler for Nothing {}

    #[test]
    fn the_process_is_probed() {
        let process = probe();
        assert!(process.pid > 0 && process.rss_bytes > 100_000 && process.fds >= 3 && process.fds_max >= 64);
    }
}
