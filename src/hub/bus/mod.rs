//! The bus: other nodes of the same site, reached through the Redis or Valkey that the site has.
//!
//! It never opens a socket (the server does) and executes nothing that others ask for (`dispatch` does). A message goes to
//! the broker once, on the channel of the one address that it is for, or on `*`; each node serves its own clients. What a
//! node hears from others it never passes on, so there are no loops. Invariant: the links of instance `i` are at `2 i`
//! (`Sub`) and `2 i + 1` (`Cmd`); a link that is `Gone` and has a socket stands in `gone` until it is reaped.
//! design: docs/bus.md.
//!
//! | file | holds |
//! |---|---|
//! | `mod` | the links, publishing, time |
//! | `names` | the channels that this node is subscribed to, and connections that wait until they can be reached |
//! | `asked` | requests whose answers are awaited from other nodes |

mod asked;
mod names;

pub(crate) use asked::{Back, Sum};

use super::Hub;
use crate::clock::Now;
use crate::config::Bus as Settings;
use crate::config::Redis;
use crate::key::{BackendKey, Key, NodeKey};
use crate::peer::client::ClientId;
use crate::peer::node::{Heard, Link, Login, Role, State, Timed};
use crate::roster::Address;
use crate::stats::{BusCounts, ClusterReport, InstanceReport, NodeReport};
use crate::wire::envelope::{self, Content, Envelope, Figures, Heartbeat};
use crate::wire::frame::Kind;
use crate::wire::resp;
use asked::{Asked, Done, Request};
use log::{info, warn};
use names::{Names, Reachable, Waiter};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::ops::{Deref, DerefMut};

/// Bytes that wait for one instance at most; what does not fit is lost, and counted. A Redis that has stopped takes
/// nothing for six seconds before it is given up.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// With so many a backend that sends more waits, as long as the instance takes some.
const HOLD_BYTES: usize = 1024 * 1024;
/// An instance that has taken nothing for this long is not waited for.
const TAKES_MS: u64 = 1_000;
/// A node says so often that it lives, and is forgotten when it has not for this long.
const HEARTBEAT_MS: u64 = 2_000;
const FORGOTTEN_MS: u64 = 10_000;
/// Nodes that are remembered: more than any site has.
const NODES_MAX: usize = 1_000;
/// Clocks may differ by so much before requests are taken for late.
const CLOCKS_S: i64 = 5;
/// The channel of all nodes.
const ALL: &[u8] = b"*";
/// The channel of one node begins so; a colon follows the kind of a name as in an address.
const INBOX: &[u8] = b"n:";

/// The bus of a hub that has one. In a build without the feature no value of this can be made, so that nothing of the bus
/// is left in the program.
#[derive(Debug)]
pub(super) struct Held {
    #[cfg(feature = "bus")]
    bus: Box<Bus>,
    #[cfg(not(feature = "bus"))]
    never: std::convert::Infallible,
}

impl Held {
    /// None where no instance is configured.
    pub(super) fn new(settings: &Settings, hasher: &RandomState) -> Option<Self> {
        #[cfg(feature = "bus")]
        if !settings.redis.is_empty() {
            return Some(Self { bus: Box::new(Bus::new(settings, hasher.clone())) });
        }
        let _ = (settings, hasher);
        None
    }
}

impl Deref for Held {
    type Target = Bus;

    #[inline(always)]
    fn deref(&self) -> &Bus {
        #[cfg(feature = "bus")]
        return &self.bus;
        #[cfg(not(feature = "bus"))]
        match self.never {}
    }
}

impl DerefMut for Held {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Bus {
        #[cfg(feature = "bus")]
        return &mut self.bus;
        #[cfg(not(feature = "bus"))]
        match self.never {}
    }
}

/// An independent broker.
#[derive(Debug)]
struct Instance {
    settings: Redis,
    /// The log has said that it is away, or that it is there.
    is_told: Option<bool>,
}

impl Instance {
    /// The place of the link that hears, and of the one that speaks.
    fn sub(instance: usize) -> usize {
        2 * instance
    }

    fn cmd(instance: usize) -> usize {
        2 * instance + 1
    }
}

/// Another node.
#[derive(Debug)]
struct Node {
    heartbeat: Heartbeat,
    heard_ms: u64,
}

/// An answer that waits until this node can be reached: connections have joined groups.
#[derive(Debug)]
enum Delayed {
    /// To a backend: the request of this number.
    Own(u64),
    /// To another node.
    Theirs { key: NodeKey, origin: u64, number: u64, figures: Vec<u32>, error: String },
}

/// Where a message is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// To every node.
    All,
    /// To the nodes that have a connection of this name: its kind, as in an address, and itself.
    Name(&'static [u8], &'a [u8]),
}

/// A command of another node. One with a number is answered.
#[derive(Debug)]
pub(crate) struct Incoming<'b> {
    pub(crate) letter: u8,
    pub(crate) payload: &'b [u8],
    pub(crate) origin: u64,
    pub(crate) number: u64,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Bus {
    /// This node's number, drawn at its start.
    me: u64,
    inbox: Vec<u8>,
    /// Before every channel: the name of the site and a colon.
    prefix: Vec<u8>,
    login: Login,
    timeout_ms: u64,
    instances: Vec<Instance>,
    digest: u64,
    links: Vec<Link>,
    names: Names,
    asked: Asked,
    /// Answers that wait until this node can be reached.
    delayed: HashMap<u64, Delayed, RandomState>,
    nodes: BTreeMap<u64, Node>,
    heartbeat_ms: u64,
    flush: VecDeque<NodeKey>,
    gone: Vec<NodeKey>,
    counts: BusCounts,
    hasher: RandomState,
    draws: u64,
    /// The log has said that another node has another list of instances.
    is_warned: bool,
    /// An instance has gone or come: messages may have been lost, and the tabs do not know yet.
    missed: bool,
}

impl Bus {
    #[cfg_attr(not(feature = "bus"), allow(dead_code))]
    fn new(settings: &Settings, hasher: RandomState) -> Self {
        let me = hasher.hash_one("this node");
        let instances: Vec<Instance> =
            settings.redis.iter().map(|redis| Instance { settings: redis.clone(), is_told: None }).collect();
        let links = instances.iter().flat_map(|_| [Link::new(Role::Sub), Link::new(Role::Cmd)]).collect();
        Self {
            me,
            inbox: [INBOX, format!("{me:016x}").as_bytes()].concat(),
            prefix: format!("{}:", settings.name).into_bytes(),
            login: Login { user: settings.user.clone(), password: settings.password.clone() },
            timeout_ms: settings.timeout_ms,
            digest: list_digest(&settings.redis),
            links,
            names: Names::new(instances.len(), hasher.clone()),
            instances,
            asked: Asked::new(hasher.clone()),
            delayed: HashMap::with_hasher(hasher.clone()),
            nodes: BTreeMap::new(),
            heartbeat_ms: 0,
            flush: VecDeque::new(),
            gone: Vec::new(),
            counts: BusCounts::default(),
            hasher,
            draws: 0,
            is_warned: false,
            missed: false,
        }
    }

    fn queue(&mut self, place: usize) {
        if !std::mem::replace(&mut self.links[place].queued, true) {
            self.flush.push_back(NodeKey::at(place));
        }
    }

    /// The instance of a route: of `*` the first that is there, from that of the name `*` on.
    fn instance(&self, route: Route<'_>) -> Option<usize> {
        let count = self.instances.len();
        let is_there = |instance: &usize| self.is_up(*instance);
        match route {
            Route::All => {
                let first = envelope::place(ALL, count);
                (0..count).map(|step| (first + step) % count).find(is_there)
            }
            Route::Name(kind, name) => Some(envelope::place(&[kind, name].concat(), count)).filter(is_there),
        }
    }

    /// Publishes a message on a channel of an instance that is there. False when it is lost.
    fn publish(
        &mut self,
        instance: usize,
        channel: [&[u8]; 2],
        envelope: &Envelope<'_>,
        payload: &[&[u8]],
    ) -> bool {
        let place = Instance::cmd(instance);
        let link = &mut self.links[place];
        let bytes: usize = payload.iter().map(|piece| piece.len()).sum();
        if !link.is_ready() || link.waiting_bytes() + bytes > WAITING_BYTES_MAX {
            self.counts.lost += 1;
            return false;
        }
        let header = envelope.header();
        let pieces: Vec<&[u8]> = std::iter::once(&header[..]).chain(payload.iter().copied()).collect();
        // Only the count of a request is waited for.
        let number = if matches!(envelope.content, Content::Command(..)) { envelope.number } else { 0 };
        link.publish(&[&self.prefix, channel[0], channel[1]], &pieces, number);
        self.counts.published += 1;
        self.queue(place);
        true
    }

    fn draw(&mut self) -> u64 {
        self.draws += 1;
        self.hasher.hash_one(self.draws)
    }

    /// A connection of ours is over.
    fn fail(&mut self, place: usize, reason: String, now_ms: u64) {
        if !self.links[place].fail(reason) {
            return;
        }
        match self.links[place].has_socket() {
            true => self.gone.push(NodeKey::at(place)),
            false => {
                let draw = self.draw();
                self.links[place].rest(now_ms, draw);
            }
        }
        let instance = place / 2;
        let Instance { settings, is_told } = &mut self.instances[instance];
        if is_told.replace(false) != Some(false) {
            self.missed = true;
            warn!("bus_away instance={settings} reason=\"{}\"", self.links[place].reason());
        }
        // Half an instance is none: the other link begins anew too, so that what it hears can be answered.
        let other = place ^ 1;
        if self.links[other].is_ready() {
            self.fail(other, "its other connection is over".into(), now_ms);
        }
    }

    fn is_up(&self, instance: usize) -> bool {
        self.links[Instance::sub(instance)].is_ready() && self.links[Instance::cmd(instance)].is_ready()
    }

    fn report(&self, now_ms: u64) -> ClusterReport {
        let instances = (0..self.instances.len()).map(|instance| {
            let up = self.is_up(instance);
            let mut links = [Instance::sub(instance), Instance::cmd(instance)].into_iter();
            let reason =
                links.find_map(|place| Some(self.links[place].reason()).filter(|why| !why.is_empty()));
            InstanceReport {
                address: self.instances[instance].settings.to_string(),
                state: if up { "up" } else { "away" },
                reason: reason.filter(|_| !up).map(str::to_owned),
            }
        });
        let nodes = self.nodes.iter().map(|(number, node)| NodeReport {
            node: format!("{number:016x}"),
            clients: node.heartbeat.clients.into(),
            age_ms: now_ms - node.heard_ms,
            same_instances: node.heartbeat.instances == self.digest,
        });
        ClusterReport {
            node: format!("{:016x}", self.me),
            degraded: (0..self.instances.len()).any(|instance| !self.is_up(instance)),
            instances: instances.collect(),
            nodes: nodes.collect(),
            names: self.names.len() as u64,
            requests: self.asked.len() as u64,
            counts: self.counts,
        }
    }
}

/// What the server does for it.
impl Hub {
    /// The next connection to be opened, and where to.
    pub(crate) fn next_link(&mut self) -> Option<(NodeKey, Redis)> {
        let now_ms = self.now.ms;
        if self.draining {
            return None;
        }
        let bus = self.bus.as_deref_mut()?;
        let place = bus.links.iter().position(|link| link.state() == State::Due)?;
        let (all, inbox) = ([&bus.prefix, ALL].concat(), [&bus.prefix[..], &bus.inbox].concat());
        bus.links[place].open(now_ms, &bus.login, &[&all, &inbox]);
        bus.queue(place);
        Some((NodeKey::at(place), bus.instances[place / 2].settings.clone()))
    }

    /// The driver has a socket for a connection. False when it is not wanted any more.
    pub(crate) fn link_has_socket(&mut self, key: NodeKey) -> bool {
        let Some(bus) = &mut self.bus else { return false };
        let link = &mut bus.links[key.index()];
        let wanted = matches!(link.state(), State::Opening { .. }) && !link.has_socket();
        if wanted {
            link.connect();
        }
        wanted
    }

    /// A connection could not be opened, or is over.
    pub(crate) fn link_failed(&mut self, key: NodeKey, reason: String) {
        let now_ms = self.now.ms;
        let instance = key.index() / 2;
        let Some(bus) = &mut self.bus else { return };
        bus.fail(key.index(), reason, now_ms);
        let mut late: Vec<Waiter> = Vec::new();
        bus.names.end(instance, &mut late);
        let lost = bus.asked.lost(instance);
        self.open_unreached(late);
        lost.into_iter().for_each(|done| self.finish_request(done));
        self.tell_tabs();
    }

    /// From when an instance goes until it is there again messages are lost: no tab that was here may be told that nothing
    /// is missing.
    fn tell_tabs(&mut self) {
        if self.bus.as_deref_mut().is_some_and(|bus| std::mem::take(&mut bus.missed)) {
            self.settled().miss_messages();
        }
    }

    /// A connection to be reaped.
    pub(crate) fn next_link_gone(&mut self) -> Option<NodeKey> {
        let now_ms = self.now.ms;
        let bus = self.bus.as_deref_mut()?;
        let key = bus.gone.pop()?;
        let draw = bus.draw();
        bus.links[key.index()].rest(now_ms, draw);
        Some(key)
    }

    /// A link, for the flush.
    pub(crate) fn link(&self, key: NodeKey) -> Option<&Link> {
        self.bus.as_deref().map(|bus| &bus.links[key.index()])
    }

    pub(crate) fn link_mut(&mut self, key: NodeKey) -> Option<&mut Link> {
        self.bus.as_deref_mut().map(|bus| &mut bus.links[key.index()])
    }

    /// It may have something to flush.
    pub(crate) fn queue_link(&mut self, key: NodeKey) {
        if let Some(bus) = &mut self.bus {
            bus.queue(key.index());
        }
    }

    /// The next link that may have something to flush. The names that came and went in this turn are told first.
    pub(crate) fn next_link_flush(&mut self) -> Option<NodeKey> {
        self.tell_names();
        let bus = self.bus.as_deref_mut()?;
        loop {
            let key = bus.flush.pop_front()?;
            let link = &mut bus.links[key.index()];
            link.queued = false;
            if link.is_open() && link.has_socket() {
                return Some(key);
            }
        }
    }

    #[inline]
    pub(crate) fn has_link_flush(&self) -> bool {
        self.bus.as_deref().is_some_and(|bus| !bus.flush.is_empty() || bus.names.has_work())
    }

    /// Whether the driver has sockets for these, in order: for the audit.
    pub(crate) fn link_keys(&self) -> Vec<NodeKey> {
        let links = self.bus.iter().flat_map(|bus| bus.links.iter().enumerate());
        links.filter(|(_, link)| link.has_socket()).map(|(place, _)| NodeKey::at(place)).collect()
    }

    /// No deadline of the bus is before this moment.
    #[inline]
    pub(crate) fn next_bus_ms(&self) -> u64 {
        let Some(bus) = &self.bus else { return u64::MAX };
        let links = bus.links.iter().map(Link::next_ms).min().unwrap_or(u64::MAX);
        links.min(bus.names.next_ms()).min(bus.asked.next_ms()).min(bus.heartbeat_ms)
    }

    /// Does what is due.
    pub(crate) fn expire_bus(&mut self) {
        let now_ms = self.now.ms;
        let Some(bus) = self.bus.as_deref_mut() else { return };
        let mut dead = Vec::new();
        for place in 0..bus.links.len() {
            match bus.links[place].expire(now_ms) {
                Timed::Nothing => {}
                Timed::Asked => bus.queue(place),
                Timed::Dead(reason) => dead.push((NodeKey::at(place), reason)),
            }
        }
        let (mut late, mut done) = (Vec::new(), Vec::new());
        bus.names.late(now_ms, &mut late);
        while let Some(request) = bus.asked.late(now_ms) {
            done.push(request);
        }
        if bus.names.is_due(now_ms) {
            bus.send_names(now_ms);
        }
        dead.into_iter().for_each(|(key, reason)| self.link_failed(key, reason));
        self.open_unreached(late);
        done.into_iter().for_each(|done| self.finish_request(done));
        self.beat();
    }

    /// The input of a link that came so far, to be read; the rest comes back by [`keep_link_input`](Self::keep_link_input).
    pub(crate) fn take_link_input(&mut self, key: NodeKey, input: &[u8]) -> Vec<u8> {
        self.link_mut(key).map_or_else(Vec::new, |link| link.take_input(input))
    }

    pub(crate) fn keep_link_input(&mut self, key: NodeKey, rest: Vec<u8>) {
        if let Some(link) = self.link_mut(key) {
            link.keep_input(rest);
        }
    }

    /// Longest message that a broker may hand us. An answer has four bytes for each item of a list, which had two at
    /// least; and a command that is too long here, but not for the node that sent it, is to be ignored and not to end the
    /// connection.
    pub(crate) fn bus_bytes_max(&self) -> usize {
        (2 * self.rules.limits.control_payload_bytes).max(WAITING_BYTES_MAX)
            + envelope::HEADER_BYTES
            + MORE_BYTES
    }

    /// One answer of a broker. Returns the command that is to be executed, if it brought one.
    pub(crate) fn hear_link<'b>(&mut self, key: NodeKey, answer: &resp::Answer<'b>) -> Option<Incoming<'b>> {
        let now_ms = self.now.ms;
        let bus = self.bus.as_deref_mut()?;
        match bus.links[key.index()].hear(answer, now_ms) {
            Heard::Nothing => {}
            Heard::Failed(reason) => self.link_failed(key, reason),
            Heard::Up => {
                bus.came_up(key.index());
                self.tell_tabs();
            }
            Heard::Subscribed(channel) => {
                let mut free = Vec::new();
                if let Some(name) = channel.strip_prefix(bus.prefix.as_slice()) {
                    bus.names.confirm(name, &mut free);
                }
                self.set_free(free);
            }
            Heard::Published(number, count) => {
                let done = bus.asked.published(number, count);
                done.into_iter().for_each(|done| self.finish_request(done));
            }
            Heard::Message(channel, message) => return self.hear_node(channel, message),
        }
        None
    }

    /// A message of a node.
    fn hear_node<'b>(&mut self, channel: &[u8], message: &'b [u8]) -> Option<Incoming<'b>> {
        let now = self.now;
        let bus = self.bus.as_deref_mut()?;
        let Some(envelope) = Envelope::parse(message).ok().filter(|_| channel.starts_with(&bus.prefix))
        else {
            bus.counts.ignored += 1;
            return None;
        };
        let Envelope { origin, number, deadline_unix_s, content } = envelope;
        if origin == bus.me {
            // One of those that the broker has counted: it has nothing to add.
            if let Content::Command(..) = content {
                let done = bus.asked.answered(number, None);
                done.into_iter().for_each(|done| self.finish_request(done));
            }
            return None;
        }
        bus.counts.received += 1;
        match content {
            Content::Command(..) if deadline_unix_s > 0 && now.unix_s > i64::from(deadline_unix_s) => {
                bus.counts.ignored += 1;
                None
            }
            Content::Command(letter, payload) => Some(Incoming { letter, payload, origin, number }),
            Content::Answer(figures) => {
                let done = bus.asked.answered(number, Some(figures));
                done.into_iter().for_each(|done| self.finish_request(done));
                None
            }
            Content::Heartbeat(heartbeat) => {
                bus.hear_heartbeat(origin, heartbeat, now);
                None
            }
        }
    }

    /// A message that is no command, or none that a node may send.
    pub(crate) fn ignore_incoming(&mut self) {
        if let Some(bus) = &mut self.bus {
            bus.counts.ignored += 1;
        }
    }

    /// Tells the node that asked what its command has done here.
    pub(crate) fn answer_node(
        &mut self,
        key: NodeKey,
        origin: u64,
        number: u64,
        figures: &[u32],
        error: &str,
    ) {
        let Some(bus) = &mut self.bus else { return };
        let payload = Figures::payload(figures, error);
        let inbox = format!("{origin:016x}");
        let content = Content::Answer(Figures::of(&payload));
        let envelope = Envelope { origin: bus.me, number, deadline_unix_s: 0, content };
        bus.publish(key.index() / 2, [INBOX, inbox.as_bytes()], &envelope, &[&payload]);
    }
}

/// Longer than a channel and the words of a message.
const MORE_BYTES: usize = 1024;

/// What commands and connections need of it.
impl Hub {
    /// Whether there are other nodes.
    #[inline]
    pub(crate) fn has_bus(&self) -> bool {
        self.bus.is_some()
    }

    /// Whether a backend is to wait, since an instance takes bytes and has many to take.
    pub(crate) fn bus_is_behind(&self) -> bool {
        let now_ms = self.now.ms;
        let links = self.bus.iter().flat_map(|bus| bus.links.iter());
        links.filter(|link| link.waiting_bytes() > HOLD_BYTES).any(|link| link.takes(now_ms, TAKES_MS))
    }

    /// Tells other nodes to execute a command, if any may have to.
    pub(crate) fn spread(&mut self, route: Route<'_>, letter: u8, payload: &[&[u8]]) {
        let Some(bus) = &mut self.bus else { return };
        let Some(instance) = bus.instance(route) else {
            bus.counts.lost += 1;
            return;
        };
        let content = Content::Command(letter, b"");
        let envelope = Envelope { origin: bus.me, number: 0, deadline_unix_s: 0, content };
        bus.publish(instance, route.channel(), &envelope, payload);
    }

    /// The same, and lets the backend's next answer wait for theirs, which are added to the sum of this node, and until this
    /// node can be reached by `groups`. When nobody can be asked the sum is the answer, and not whole.
    pub(crate) fn ask_nodes(
        &mut self,
        key: BackendKey,
        route: Route<'_>,
        (letter, payload): (u8, &[&[u8]]),
        sum: Sum,
        back: Back,
        groups: &mut dyn Iterator<Item = &str>,
    ) {
        let ticket = self.backends.wait(key);
        let (now_ms, unix_s) = (self.now.ms, self.now.unix_s);
        let Some(bus) = &mut self.bus else { unreachable!("there is a bus") };
        let instance = bus.instance(route).filter(|_| bus.asked.has_room());
        if let Some(instance) = instance {
            let number = bus.asked.next_number();
            let deadline = unix_s + bus.timeout_ms.div_ceil(1000) as i64 + CLOCKS_S;
            let deadline_unix_s = u32::try_from(deadline).unwrap_or(0);
            let envelope =
                Envelope { origin: bus.me, number, deadline_unix_s, content: Content::Command(letter, b"") };
            if bus.publish(instance, route.channel(), &envelope, payload) {
                let until_ms = now_ms + bus.timeout_ms;
                bus.asked.wait(number, Request::new(ticket, back, sum, instance), until_ms);
                if self.delay(groups, Delayed::Own(number)).is_ok() {
                    self.bus.iter_mut().for_each(|bus| bus.asked.is_not_reachable(number));
                }
                return;
            }
        } else {
            bus.counts.lost += 1;
        }
        let request = Request::new(ticket, back, sum, 0);
        self.finish_request((request, true));
    }

    fn finish_request(&mut self, (request, incomplete): Done) {
        let Request { ticket, back, sum, .. } = request;
        if let Some(bus) = self.bus.as_mut().filter(|_| incomplete) {
            bus.counts.incomplete += 1;
        }
        self.backends.fill_bytes(ticket, sum.render(back, incomplete), self.now);
    }

    fn names_of(&self, id: ClientId) -> Vec<Box<[u8]>> {
        let roster = self.floor.roster();
        let token = roster.token(id).map(|token| [b"t:", token].concat().into());
        let user = roster.user(id).map(|user| [b"u:", user.as_bytes()].concat().into());
        let groups = roster.groups_of(id).map(|group| [b"g:", group.as_bytes()].concat().into());
        token.into_iter().chain(user).chain(groups).collect()
    }

    /// A connection is admitted: its 101 waits until it can be reached.
    pub(in crate::hub) fn await_reach(&mut self, id: ClientId) {
        let now_ms = self.now.ms;
        if !self.has_bus() {
            return;
        }
        let names = self.names_of(id);
        let Some(bus) = &mut self.bus else { return };
        match bus.names.await_all(Waiter::Client(id), &names, now_ms) {
            Reachable::Yes => {}
            Reachable::Soon => self.floor.hold(id),
            Reachable::No => bus.counts.degraded += 1,
        }
    }

    /// A connection leaves: its names may go with it.
    pub(in crate::hub) fn touch_names(&mut self, id: ClientId) {
        let Some(bus) = &mut self.bus else { return };
        let roster = self.floor.roster();
        roster.token(id).into_iter().for_each(|token| bus.names.touch(b"t:", token));
        roster.user(id).into_iter().for_each(|user| bus.names.touch(b"u:", user.as_bytes()));
        roster.groups_of(id).for_each(|group| bus.names.touch(b"g:", group.as_bytes()));
    }

    /// A connection joins or leaves a group.
    pub(in crate::hub) fn touch_group(&mut self, group: &str) {
        if let Some(bus) = &mut self.bus {
            bus.names.touch(b"g:", group.as_bytes());
        }
    }

    /// For the status.
    pub(in crate::hub) fn cluster(&self) -> Option<ClusterReport> {
        self.bus.as_ref().map(|bus| bus.report(self.now.ms))
    }

    /// Connections that have waited long enough open although they cannot be reached from everywhere.
    fn open_unreached(&mut self, late: Vec<Waiter>) {
        if let Some(bus) = &mut self.bus {
            let clients = late.iter().filter(|waiter| matches!(waiter, Waiter::Client(_)));
            bus.counts.degraded += clients.count() as u64;
        }
        self.set_free(late);
    }

    /// What has waited for names goes on.
    fn set_free(&mut self, free: Vec<Waiter>) {
        for waiter in free {
            match waiter {
                Waiter::Client(id) => self.floor.release(id),
                Waiter::Answer(ticket) => {
                    let Some(bus) = &mut self.bus else { return };
                    match bus.delayed.remove(&ticket) {
                        Some(Delayed::Own(number)) => {
                            let done = bus.asked.is_reachable(number);
                            done.into_iter().for_each(|done| self.finish_request(done));
                        }
                        Some(Delayed::Theirs { key, origin, number, figures, error }) => {
                            self.answer_node(key, origin, number, &figures, &error);
                        }
                        None => {}
                    }
                }
            }
        }
    }

    /// Lets an answer wait until this node can be reached by these groups. False when it can be, or cannot soon.
    fn delay(&mut self, groups: &mut dyn Iterator<Item = &str>, answer: Delayed) -> Result<(), Delayed> {
        let now_ms = self.now.ms;
        let roster = self.floor.roster();
        let here = groups.filter(|group| roster.count(Address::Group(group)) > 0);
        let names: Vec<Box<[u8]>> = here.map(|group| [b"g:", group.as_bytes()].concat().into()).collect();
        let Some(bus) = &mut self.bus else { return Err(answer) };
        let ticket = bus.asked.next_number();
        match bus.names.await_all(Waiter::Answer(ticket), &names, now_ms) {
            Reachable::Soon => {
                bus.delayed.insert(ticket, answer);
                Ok(())
            }
            Reachable::Yes | Reachable::No => Err(answer),
        }
    }

    /// Tells the node that asked for connections to join groups what has come of it, when messages to these reach us.
    pub(crate) fn answer_join(
        &mut self,
        key: NodeKey,
        origin: u64,
        number: u64,
        (figures, error): (Vec<u32>, String),
        groups: &mut dyn Iterator<Item = &str>,
    ) {
        let answer = Delayed::Theirs { key, origin, number, figures, error };
        if let Err(Delayed::Theirs { figures, error, .. }) = self.delay(groups, answer) {
            self.answer_node(key, origin, number, &figures, &error);
        }
    }

    /// Tells the brokers of the names that came and went.
    fn tell_names(&mut self) {
        let now_ms = self.now.ms;
        let Some(bus) = self.bus.as_deref_mut().filter(|bus| bus.names.has_work()) else { return };
        let roster = self.floor.roster();
        for name in bus.names.take_touched() {
            let is_here = roster.count(address(&name)) > 0;
            bus.names.want(&name, is_here);
        }
        bus.send_names(now_ms);
    }

    /// Says that this node lives.
    fn beat(&mut self) {
        let now = self.now;
        let clients = self.clients() as u32;
        let Some(bus) = self.bus.as_deref_mut().filter(|bus| bus.heartbeat_ms <= now.ms) else { return };
        bus.heartbeat_ms = now.ms + HEARTBEAT_MS;
        bus.nodes.retain(|_, node| node.heard_ms + FORGOTTEN_MS > now.ms);
        let heartbeat =
            Heartbeat { clients, instances: bus.digest, unix_s: u32::try_from(now.unix_s).unwrap_or(0) };
        let envelope = Envelope {
            origin: bus.me,
            number: 0,
            deadline_unix_s: 0,
            content: Content::Heartbeat(heartbeat),
        };
        // On each of them: lists that differ have one in common, or there is nothing to tell.
        for instance in 0..bus.instances.len() {
            if bus.links[Instance::cmd(instance)].is_ready() {
                bus.publish(instance, [ALL, b""], &envelope, &[&heartbeat.payload()]);
            }
        }
    }
}

// For the audit.
impl Hub {
    /// Every name of an open connection is one of the bus's, and no other is; a connection whose messages are withheld
    /// waits for a name.
    pub(in crate::hub) fn audit_bus(&self) -> Result<(), String> {
        let Some(bus) = self.bus.as_deref().filter(|bus| !bus.names.has_work()) else { return Ok(()) };
        let roster = self.floor.roster();
        for (key, client) in roster.iter().filter(|(_, client)| client.accepts_data()) {
            let id = ClientId { key, generation: client.generation() };
            if let Some(name) = self.names_of(id).iter().find(|name| !bus.names.has(name)) {
                return Err(format!("{id} cannot be reached as {}", name.escape_ascii()));
            }
        }
        if let Some((name, _)) =
            bus.names.iter().find(|(name, must_be)| *must_be && roster.count(address(name)) == 0)
        {
            return Err(format!("nobody is here as {}", name.escape_ascii()));
        }
        let waiting = bus.names.waiting();
        for (key, client) in roster.iter() {
            let id = ClientId { key, generation: client.generation() };
            if client.mail.is_withheld() && !waiting.contains(&Waiter::Client(id)) {
                return Err(format!("{id} waits for nothing"));
            }
        }
        Ok(())
    }
}

/// A number that differs when a list of instances does, or its order.
pub(crate) fn list_digest(list: &[Redis]) -> u64 {
    let list: Vec<String> = list.iter().map(ToString::to_string).collect();
    envelope::digest(list.join(" ").as_bytes())
}

/// The letter of a command with a message of this kind.
pub(crate) fn letter(kind: Kind, letter: u8) -> u8 {
    match kind {
        Kind::Text => letter,
        Kind::Binary => letter.to_ascii_uppercase(),
    }
}

/// The address of a name.
fn address(name: &[u8]) -> Address<'_> {
    let text = |name| std::str::from_utf8(name).unwrap_or_default();
    match name.split_at(2) {
        (b"t:", token) => Address::Token(token),
        (b"u:", user) => Address::User(text(user)),
        (_, group) => Address::Group(text(group)),
    }
}

impl<'a> Route<'a> {
    fn channel(self) -> [&'a [u8]; 2] {
        match self {
            Self::All => [ALL, b""],
            Self::Name(kind, name) => [kind, name],
        }
    }
}

impl Bus {
    /// A link is ready.
    fn came_up(&mut self, place: usize) {
        let instance = place / 2;
        if self.links[place].role() == Role::Sub {
            self.names.begin(instance);
        }
        if self.is_up(instance) && self.instances[instance].is_told.replace(true) != Some(true) {
            self.missed = true;
            info!("bus_up instance={}", self.instances[instance].settings);
        }
    }

    fn send_names(&mut self, now_ms: u64) {
        let mut told = Vec::new();
        self.names.send(&self.prefix, &mut self.links, now_ms, &mut told);
        told.into_iter().for_each(|instance| self.queue(Instance::sub(instance)));
    }

    fn hear_heartbeat(&mut self, origin: u64, heartbeat: Heartbeat, now: Now) {
        if self.nodes.len() >= NODES_MAX && !self.nodes.contains_key(&origin) {
            self.counts.ignored += 1;
            return;
        }
        let is_new = self.nodes.insert(origin, Node { heartbeat, heard_ms: now.ms }).is_none();
        let apart_s = (now.unix_s - i64::from(heartbeat.unix_s)).abs();
        if is_new && apart_s > CLOCKS_S {
            warn!("bus_clocks node={origin:016x} reason=\"its clock and ours are {apart_s} seconds apart\"");
        }
        if heartbeat.instances != self.digest && !std::mem::replace(&mut self.is_warned, true) {
            warn!(
                "bus_lists_differ node={origin:016x} reason=\"its bus.redis is another list: messages are lost until \
                 all nodes have the same, in the same order\""
            );
        }
    }
}
