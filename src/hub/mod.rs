//! The whole server without a socket: every peer, its names, the messages queued for it, its deadline.
//!
//! Bytes come in through [`crate::handler::pump`] and `dispatch`, frames are queued here, the driver asks
//! which peers to flush and to reap, and when to come back. The hub never touches a socket, a file, a clock or
//! a handler. Nothing is removed while an event is handled: a peer that is over becomes `Gone`, stands in
//! a list, and is taken out at the end of the turn.
//!
//! The hub is made of parts that own their data: the [`Floor`] with the clients and the messages on their way to them,
//! the [`Backends`], the rules in force, the counters. A caller that changes something about a client asks for
//! [`Hub::settled`] first: there is no other way.
//!
//! | file | holds |
//! |---|---|
//! | `mod` | the façade |
//! | `settled` | the floor, and the only place that delivers, admits, locks and closes |
//! | `audience` | writing to lists of addresses, groups, kicks |
//! | `arrival` | accepting, the request head, refusals |
//! | `refusal` | why a handshake is refused, and the answer |
//! | `report` | the status |
//! | `rules` | the settings in force |
//! | `revoke` | logins that are refused although they are right |
//! | `input` | input of open clients |
//! | `proof` | messages whose arrival is waited for |
//! | `lock` | fragmented messages from backends |
//! | `time` | deadlines and the drain |
//! | `events` | what clients do and say, for workers |
//! | `bus` | other nodes, reached through a broker |
//! | `backends` | the control connections, their deadlines and their end |
//! | `door` | the control key |
//! | `wait` | backends that send faster than a client takes it |
//! | `tidy` | memory that many peers have left behind |
//! | `audit` | everything recounted from scratch, for the tests |

mod arrival;
mod audience;
mod audit;
mod backends;
mod bus;
mod door;
mod events;
mod input;
mod lock;
mod proof;
mod refusal;
mod report;
mod revoke;
mod rules;
mod settled;
mod tidy;
mod time;
mod wait;

use crate::clock::Now;
use crate::config::Settings;
use crate::delivery::Throttled;
use crate::key::ClientKey;
use crate::peer::client::ClientId;
use crate::roster::Roster;
use crate::stats::{Outside, Process, Reload, Stats};
use crate::wire::frame::{CloseCode, Kind};
use backends::Backends;
use events::Events;
use revoke::Revocations;
use settled::Floor;
use std::hash::RandomState;

pub(crate) use arrival::{Admitted, Head};
pub use audience::{GroupError, Reached};
pub(crate) use audit::READ_BYTES;
pub(crate) use bus::{Back, Incoming, Route, Sum, letter, list_digest};
pub(crate) use door::Judged;
pub(crate) use events::{Parting, Shelf};
pub(crate) use proof::Form;
pub use refusal::Refusal;
pub(crate) use revoke::Journal;
pub(crate) use rules::HubRules;
pub(crate) use settled::{After, Flush, Leave, Tab};
pub(crate) use tidy::drop_empty;
pub(crate) use wait::{Patience, Wait};

/// The registry. See the module's head.
#[derive(Debug)]
pub struct Hub {
    pub(crate) floor: Floor,
    pub(crate) backends: Backends,
    pub(crate) rules: HubRules,
    revocations: Revocations,
    proofs: proof::Proofs,
    events: Events,
    pub(crate) stats: Stats,
    /// Wrong control keys.
    failures: door::Failures,
    pub(crate) now: Now,
    draining: bool,
    /// The server is about to end, and takes no more clients; those that are open stay until they are told.
    leaving: bool,
    /// How long clients that broadcast may still wait for others.
    patience: wait::Patience,
    /// Other nodes; none without `[bus]`.
    bus: Option<bus::Held>,
    tidy: tidy::Tidy,
    /// For the status only.
    reload: Reload,
    pub(crate) outside: Outside,
    probe: fn() -> Process,
}

impl Hub {
    /// A hub without peers. The hasher is keyed by the caller, `probe` gives the figures that only the process has.
    pub fn new(settings: &Settings, hasher: RandomState, probe: fn() -> Process) -> Self {
        let roster = Roster::new(settings.auth.token_length, settings.timeouts.clone(), hasher.clone());
        Self {
            floor: Floor::new(roster, settings.limits.outbox_bytes),
            backends: Backends::new(&settings.timeouts),
            rules: HubRules::from(settings),
            bus: bus::Held::new(&settings.bus, &hasher),
            proofs: proof::Proofs::new(),
            revocations: Revocations::new(hasher.clone()),
            events: Events::new(hasher.clone()),
            failures: door::Failures::new(hasher),
            stats: Stats::default(),
            now: Now::default(),
            draining: false,
            leaving: false,
            patience: wait::Patience::default(),
            tidy: tidy::Tidy::default(),
            reload: Reload::default(),
            outside: Outside::default(),
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

    /// Puts new limits, timeouts, origins and secrets in force, for open connections too. The settings that decide
    /// the shape of the indexes (token length, identity) stay as they were.
    pub fn apply(&mut self, settings: &Settings) {
        let shape = (self.rules.auth.token_length, self.rules.auth.identity);
        self.rules = HubRules::from(settings);
        (self.rules.auth.token_length, self.rules.auth.identity) = shape;
        self.floor.apply(&settings.limits, &settings.timeouts);
        self.backends.apply(&settings.timeouts);
        self.apply_to_events();
    }

    /// Notes the outcome of a reload, for the status.
    pub fn note_reload(
        &mut self,
        applied: Vec<&'static str>,
        restart: Vec<&'static str>,
        kept: Vec<String>,
        error: Option<String>,
    ) {
        self.reload = Reload { count: self.reload.count + 1, applied, restart, kept, error };
    }

    /// Declares a listener; clients name it by its place.
    pub fn add_listener(&mut self, address: String, domain: Option<String>) {
        self.floor.add_listener(address, domain);
    }

    /// The addresses of the client listeners, in the order they were declared.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.roster().listeners().iter().map(|listener| listener.address.as_str())
    }

    // Clients and ids.

    pub(crate) fn roster(&self) -> &Roster {
        self.floor.roster()
    }

    /// Open clients.
    pub fn clients(&self) -> usize {
        self.roster().counts().open
    }

    /// Whether the client is open. A stale id is not; a tab that is away is, and messages for it are kept.
    pub fn is_open(&self, id: ClientId) -> bool {
        self.roster().is_open(id)
    }

    /// The token that an open client proved. `None` for one that is not open.
    pub fn token(&self, id: ClientId) -> Option<&str> {
        std::str::from_utf8(self.roster().token(id)?).ok()
    }

    /// The user that an open client proved, if its login names one.
    pub fn user(&self, id: ClientId) -> Option<&str> {
        self.roster().user(id)
    }

    /// Ids of all open clients of a token.
    pub fn clients_of(&self, token: &[u8]) -> impl Iterator<Item = ClientId> + '_ {
        self.roster().of_token(token)
    }

    /// The id of a slot that is in use.
    pub(crate) fn client_id(&self, key: ClientKey) -> Option<ClientId> {
        self.roster().id(key)
    }

    // Messages.

    /// Queues a message for one client. False when it is not open or could not take it.
    pub fn send_direct(&mut self, to: ClientId, kind: Kind, message: &[u8]) -> bool {
        self.stats.directs += 1;
        let mut settled = self.settled(); // the hand-out may close it
        settled.is_open(to) && settled.deliver(to.key, kind.opcode(), message)
    }

    /// Queues a message for all clients of a token. False when none took it.
    #[inline(always)]
    pub fn send_to_token(&mut self, token: &[u8], kind: Kind, message: &[u8]) -> bool {
        self.stats.directs += 1;
        self.settled().deliver_to_token(token, kind.opcode(), message)
    }

    /// Queues a message for every open client; returns how many these are on this node.
    pub fn send_broadcast(&mut self, kind: Kind, message: &[u8]) -> usize {
        if self.has_bus() {
            self.spread(Route::All, letter(kind, b'b'), &[message]);
        }
        self.broadcast_here(kind, message)
    }

    /// The same, for the clients of this node alone.
    pub(crate) fn broadcast_here(&mut self, kind: Kind, message: &[u8]) -> usize {
        self.stats.broadcasts += 1;
        let open = self.clients();
        if open + self.roster().counts().away > 0 {
            self.broadcast(kind.opcode(), message);
        }
        open
    }

    /// Whether a broadcast of this many bytes is to wait, so that clients that read are offered the earlier ones first.
    pub(crate) fn is_throttled(&mut self, len: usize) -> bool {
        match self.floor.throttle(len) {
            Throttled::No => false,
            Throttled::Yes => true,
            Throttled::Unsettled => {
                let _ = self.settled();
                self.floor.throttle(len) == Throttled::Yes
            }
        }
    }

    /// Begins the closing handshake. Does nothing for a client that is not open.
    pub fn close(&mut self, id: ClientId, code: CloseCode, reason: &str) {
        let mut settled = self.settled(); // the hand-out may close it
        if settled.is_open(id) {
            settled.leave(id.key, Leave::Closing(code, reason));
        }
    }
}
