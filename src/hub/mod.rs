//! The whole server without a socket: every peer, who is whose, what is queued, what is due.
//!
//! Bytes come in through [`crate::handler::pump`] and `dispatch`, frames are queued here, the driver asks
//! what to flush, what to reap and when to come back. The hub never touches a socket, a file, a clock or
//! a handler. Nothing is removed while an event is handled: a peer that is over becomes `Gone`, stands in
//! a list, and is taken out by [`Hub::remove_client`] at the end of the turn.
//!
//! Invariant: a client is in the indexes exactly while it is `Open`, and the counters `open`, `waiting`
//! and `closing` are the number of clients in those states.
//!
//! | file | holds |
//! |---|---|
//! | `mod` | the registry: input, close, remove |
//! | `arrival` | accepting, the request head, admission, refusals |
//! | `send` | direct, broadcast, flush queues, overflow |
//! | `lock` | fragmented messages from backends |
//! | `time` | deadlines and the drain |
//! | `backends` | the control connections, their deadlines and their end |
//! | `tidy` | memory that a crowd has left behind |
//! | `audit` | everything recounted from scratch, for the tests |

mod arrival;
mod audit;
mod backends;
mod lock;
mod send;
mod tidy;
mod time;

use crate::auth;
use crate::clock::{Now, Timers};
use crate::config::{Limits, Settings, Timeouts};
use crate::delivery::spool::Spool;
use crate::peer::client::{Client, ClientId, Rare, State};
use crate::roster::index::{self, Index};
use crate::stats::{ListenerReport, Process, Reload, Report, Stats};
use crate::wire::frame::{CloseCode, DecodeError, Event, Opcode};
use crate::wire::http::forwarded::{Network, PeerAddr};
use backends::Backends;
use log::{debug, info};
use slab::Slab;
use std::collections::VecDeque;
use std::hash::RandomState;

pub(crate) use arrival::Head;
pub(crate) use send::{After, FLUSH_BYTES, Written};
pub(crate) use tidy::{drop_empty, shrink};

/// The registry. See the module's head.
#[derive(Debug)]
pub struct Hub {
    clients: Slab<Client>,
    cold: Vec<Cold>,
    tokens: Index,
    users: Option<Index>,
    timers: Timers,
    pub(crate) backends: Backends,
    spool: Spool,
    queues: send::Queues,
    gone_clients: Vec<u32>,
    /// Handshakes in the order of their arrival; those that are over stay as stale ids until they are
    /// the oldest.
    newcomers: VecDeque<ClientId>,
    counts: Counts,
    generation: u32,
    pub(crate) settings: HubSettings,
    pub(crate) listeners: Vec<ListenerReport>,
    pub(crate) stats: Stats,
    pub(crate) now: Now,
    draining: bool,
    tidy: tidy::Tidy,
    /// For the status only.
    reload: Reload,
    probe: fn() -> Process,
}

/// What a broadcast never touches.
#[derive(Clone, Copy, Debug, Default)]
struct Cold {
    peer: PeerAddr,
    listener: u16,
}

// `client` has the table of what a connection takes in all.
const _: () = assert!(size_of::<Cold>() <= 22);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    waiting: usize,
    open: usize,
    closing: usize,
    locks: usize,
}

/// The part of the settings that the hub lives by; a reload replaces it.
#[derive(Clone, Debug)]
pub(crate) struct HubSettings {
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
    pub(crate) origins: Vec<String>,
    pub(crate) auth: auth::Rules,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub(crate) trusted_proxies: Vec<Network>,
}

impl Hub {
    /// A hub without peers. The hasher is keyed by the caller, `probe` tells what only the process knows.
    pub fn new(settings: &Settings, hasher: RandomState, probe: fn() -> Process) -> Self {
        let by_user = settings.auth.identity == auth::IdentityKind::User;
        Self {
            clients: Slab::new(),
            cold: Vec::new(),
            tokens: Index::new(settings.auth.token_length, hasher.clone()),
            users: by_user.then(|| Index::new(index::USER_BYTES_MAX, hasher)),
            timers: Timers::default(),
            backends: Backends::new(&settings.timeouts),
            spool: Spool::default(),
            queues: send::Queues::default(),
            gone_clients: Vec::new(),
            newcomers: VecDeque::new(),
            counts: Counts::default(),
            generation: 0,
            settings: HubSettings::from(settings),
            listeners: Vec::new(),
            stats: Stats::default(),
            now: Now::default(),
            draining: false,
            tidy: tidy::Tidy::default(),
            reload: Reload::default(),
            probe,
        }
    }

    /// The time of the turn that begins.
    pub fn set_now(&mut self, now: Now) {
        self.now = now;
    }

    /// The time of this turn.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Puts new limits, timeouts, origins and secrets in force, for open connections too. What decides
    /// the shape of the indexes (token length, identity) stays as it was.
    pub fn apply(&mut self, settings: &Settings) {
        let shape = (self.settings.auth.token_length, self.settings.auth.identity);
        self.settings = HubSettings::from(settings);
        (self.settings.auth.token_length, self.settings.auth.identity) = shape;
        self.rearm_all();
    }

    /// Notes what a reload has done, for the status.
    pub fn note_reload(
        &mut self,
        applied: Vec<&'static str>,
        restart: Vec<&'static str>,
        error: Option<String>,
    ) {
        self.reload = Reload { count: self.reload.count + 1, applied, restart, error };
    }

    /// Declares a listener; clients name it by its place.
    pub fn add_listener(&mut self, address: String, domain: Option<String>) {
        self.listeners.push(ListenerReport { address, domain, clients: 0, accepted: 0 });
    }

    /// Open clients.
    pub fn clients(&self) -> usize {
        self.counts.open
    }

    /// Whether the client is open. A stale id is not.
    pub fn is_open(&self, id: ClientId) -> bool {
        self.client(id).is_some_and(Client::accepts_data)
    }

    /// The token that an open client proved. `None` for one that is not open.
    pub fn token(&self, id: ClientId) -> Option<&str> {
        self.is_open(id).then(|| std::str::from_utf8(self.tokens.name(id.key)).unwrap_or_default())
    }

    /// The user that an open client proved, with `identity = "user"`.
    pub fn user(&self, id: ClientId) -> Option<&str> {
        let users = self.users.as_ref().filter(|_| self.is_open(id))?;
        std::str::from_utf8(users.name(id.key)).ok()
    }

    /// Ids of all open clients of a token.
    pub fn clients_of(&self, token: &[u8]) -> impl Iterator<Item = ClientId> + '_ {
        self.tokens.of(token).map(|key| self.id(key))
    }

    /// The status of this moment.
    pub fn report_json(&self) -> String {
        Report {
            stats: Some(&self.stats),
            process: (self.probe)(),
            uptime_s: self.now.ms / 1000,
            listeners: &self.listeners,
            clients: self.counts.open as u64,
            unauthenticated: self.counts.waiting as u64,
            closing: self.counts.closing as u64,
            backends: self.backends.len() as u64,
            locks: self.counts.locks as u64,
            queued_bytes: self.spool.bytes() as u64,
            reload: Some(&self.reload),
        }
        .json()
    }

    // Input of open clients.

    /// Bytes came: the client is alive. False while it is in its handshake, whose deadline does not move.
    #[inline]
    pub(crate) fn heard(&mut self, id: ClientId, bytes: usize) -> bool {
        let now = self.now.tick();
        self.stats.bytes_in += bytes as u64;
        let Some(client) = self.client_mut(id) else { return true };
        if matches!(client.state, State::Handshaking { .. }) {
            return false;
        }
        client.heard = now;
        if std::mem::take(&mut client.pinged) && client.accepts_data() {
            // The wheel waits for the pong's deadline, and the next ping may be due before that.
            self.timers.arm_by(id.key, now.ms() + self.settings.timeouts.idle_ms);
        }
        true
    }

    /// Decodes the next message of `input`, and answers control frames itself. `None`: all is used, or the
    /// connection is not one that sends messages (any more).
    #[inline(always)]
    pub(crate) fn receive<'b>(&mut self, id: ClientId, input: &mut &'b mut [u8]) -> Option<Event<'b>> {
        while !input.is_empty() {
            let message_bytes_max = self.settings.limits.message_bytes;
            let client = self.client_mut(id)?;
            let (decoder, is_open) = match &mut client.state {
                State::Open { decoder, .. } => (decoder, true),
                State::Closing { decoder, .. } => (decoder, false),
                _ => return None,
            };
            match decoder.decode(input, message_bytes_max) {
                Ok(None) => return None,
                Ok(Some(message @ (Event::Text(_) | Event::Binary(_)))) => {
                    if is_open {
                        self.stats.messages_in += 1;
                        return Some(message);
                    }
                    // It may not have seen our close frame yet.
                }
                Ok(Some(control)) => self.answer_control(id, &control),
                Err(error) => self.fail(id, error),
            }
        }
        None
    }

    #[inline(never)]
    fn answer_control(&mut self, id: ClientId, event: &Event<'_>) {
        match event {
            Event::Ping(payload) => self.pong(id, payload),
            Event::Close(code) => self.close_received(id, *code),
            Event::Pong | Event::Text(_) | Event::Binary(_) => {}
        }
    }

    fn pong(&mut self, id: ClientId, payload: &[u8]) {
        let Some(client) = self.client_mut(id) else { return };
        if !client.accepts_data() {
            return;
        }
        // A client that pings and does not read is owed one pong, the newest: RFC 6455 5.5.3.
        if client.stalled != Default::default() {
            if let Some(Rare { owed_pong, .. }) = client.rare() {
                *owed_pong = Some(payload.to_vec());
            }
            return;
        }
        self.queue_control(id.key, Opcode::Pong, payload);
    }

    /// The peer closes, or answers our close.
    fn close_received(&mut self, id: ClientId, code: Option<CloseCode>) {
        let key = id.key as usize;
        if matches!(self.clients[key].state, State::Closing { .. }) {
            let until = self.close_deadline();
            self.clients[key].state = State::Finishing { until };
            self.queue_flush(id.key); // ends at once if our close is out
            return;
        }
        self.leave_open(id.key, code.map_or(1005, |code| code.0));
        let until = self.close_deadline();
        self.queue_close(id.key, code, "");
        self.clients[key].state = State::Finishing { until };
        self.rearm(id.key);
    }

    /// The peer broke the protocol: nothing it says later can be understood.
    fn fail(&mut self, id: ClientId, error: DecodeError) {
        info!("failed code={} reason=\"{error}\" peer={}", error.close_code().0, self.peer(id.key));
        let until = self.close_deadline();
        if self.clients[id.key as usize].accepts_data() {
            self.leave_open(id.key, error.close_code().0);
            self.queue_close(id.key, Some(error.close_code()), error.reason());
        }
        self.clients[id.key as usize].state = State::Lingering { until };
        self.queue_flush(id.key);
        self.rearm(id.key);
    }

    // Departure.

    /// Begins the closing handshake. Does nothing for a client that is not open.
    pub fn close(&mut self, id: ClientId, code: CloseCode, reason: &str) {
        self.settle(); // which may close it
        if !self.is_open(id) {
            return;
        }
        self.leave_open(id.key, code.0);
        self.queue_close(id.key, Some(code), reason);
        self.begin_closing(id.key);
    }

    fn begin_closing(&mut self, key: u32) {
        let until = self.close_deadline();
        let client = &mut self.clients[key as usize];
        let decoder = match &mut client.state {
            State::Open { decoder, .. } => std::mem::take(decoder),
            _ => unreachable!("only an open client begins to close"),
        };
        client.state = State::Closing { decoder, until };
        self.rearm(key);
    }

    /// Takes an open client out of the indexes and drops what was held back for it. The state is for the
    /// caller to change.
    fn leave_open(&mut self, key: u32, code: u16) {
        let client = &mut self.clients[key as usize];
        debug_assert!(client.accepts_data(), "a client leaves once");
        if let Some(mut hold) = client.take_hold() {
            hold.outbox.clear(&mut self.spool);
        }
        client.take_owed_pong();
        self.tokens.remove(key);
        if let Some(users) = &mut self.users {
            users.remove(key);
        }
        self.counts.open -= 1;
        self.counts.closing += 1;
        self.listeners[self.cold[key as usize].listener as usize].clients -= 1;
        self.stats.close(code);
        debug!("closed code={code} peer={}", self.peer(key));
    }

    /// Whether bytes wait that end the conversation: they go out although the peer says no more.
    pub(crate) fn has_last_words(&self, id: ClientId) -> bool {
        self.client(id).is_some_and(|client| {
            let last = matches!(client.state, State::Lingering { .. } | State::Finishing { .. });
            last && !client.outbox.is_empty()
        })
    }

    /// The peer shut its side down, or the connection is broken.
    pub(crate) fn client_lost(&mut self, id: ClientId) {
        self.settle(); // which may close it
        match self.client(id).map(|client| &client.state) {
            Some(State::Handshaking { .. }) => self.vanish(id.key, "gone_before_request"),
            Some(State::Open { .. }) => {
                self.leave_open(id.key, 1006);
                self.end(id.key);
            }
            Some(State::Closing { .. } | State::Lingering { .. } | State::Finishing { .. }) => {
                self.end(id.key);
            }
            Some(State::Gone) | None => {}
        }
    }

    /// A handshake that ends without an answer.
    fn vanish(&mut self, key: u32, rule: &'static str) {
        self.stats.refuse(rule);
        debug!("vanished rule={rule} peer={}", self.peer(key));
        self.counts.waiting -= 1;
        self.counts.closing += 1;
        self.end(key);
    }

    /// Nothing more is sent; the slot is reaped at the end of the turn.
    fn end(&mut self, key: u32) {
        let client = &mut self.clients[key as usize];
        client.drop_all(&mut self.spool);
        client.state = State::Gone;
        self.timers.cancel(key);
        self.gone_clients.push(key);
    }

    /// One client to be reaped, and whether its end is to be told to the handler.
    pub(crate) fn gone_client(&mut self) -> Option<(ClientId, bool)> {
        let key = self.gone_clients.pop()?;
        Some((self.id(key), self.clients[key as usize].was_open))
    }

    /// Frees the slot of a client that [`gone_client`](Self::gone_client) gave.
    pub(crate) fn remove_client(&mut self, id: ClientId) {
        let client = self.clients.remove(id.key as usize);
        debug_assert!(matches!(client.state, State::Gone), "only what is gone is removed");
        self.counts.closing -= 1;
    }

    // Small things.

    /// Sets the wheel to what is due next.
    fn rearm(&mut self, key: u32) {
        match self.clients[key as usize].next_due(&self.settings.timeouts) {
            Some((deadline_ms, _)) => self.timers.arm(key, deadline_ms),
            None => self.timers.cancel(key),
        }
    }

    fn id(&self, key: u32) -> ClientId {
        ClientId { key, generation: self.clients[key as usize].generation }
    }

    fn client(&self, id: ClientId) -> Option<&Client> {
        self.clients.get(id.key as usize).filter(|client| client.generation == id.generation)
    }

    fn client_mut(&mut self, id: ClientId) -> Option<&mut Client> {
        self.clients.get_mut(id.key as usize).filter(|client| client.generation == id.generation)
    }

    /// The id of a slot that is in use.
    pub(crate) fn client_id(&self, key: u32) -> Option<ClientId> {
        self.clients.get(key as usize).map(|client| ClientId { key, generation: client.generation })
    }

    fn peer(&self, key: u32) -> PeerAddr {
        self.cold[key as usize].peer
    }
}

impl From<&Settings> for HubSettings {
    fn from(settings: &Settings) -> Self {
        Self {
            limits: settings.limits.clone(),
            timeouts: settings.timeouts.clone(),
            origins: settings.origins.clone(),
            auth: settings.auth.clone(),
            trusted_proxies: settings
                .trusted_proxies
                .iter()
                .filter_map(|text| Network::parse(text))
                .collect(),
        }
    }
}
