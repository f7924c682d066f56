//! What is told when: a client spoke, came, went; a user came, went.
//!
//! It never changes anything about a client, but for closing one that speaks while there is no worker. Invariant: `open` is told before
//! everything else of a client, and `close` behind everything.

use super::pause::{NO_WORKER, whose};
use super::{Event, Hub};
use crate::key::ClientKey;
use crate::peer::client::ClientId;
use crate::roster::Address;
use crate::wire::command::{EventKind, Kinds, Member, Telling, object};
use crate::wire::frame::{CloseCode, Kind};
use crate::wire::http::forwarded::PeerAddr;
use std::hash::BuildHasher;

impl Hub {
    /// Tells workers what a client has said (docs/events.md). While there is no worker that wants messages it is kept
    /// for the first one, for `timeouts.no_worker`. False when that is over, and then the client is closed with 1013;
    /// or when the client is not open.
    pub fn forward(&mut self, id: ClientId, kind: Kind, message: &[u8]) -> bool {
        let mut head = std::mem::take(&mut self.events.head);
        let is_open = self.write_head(&mut head, id);
        let told = is_open && self.tell_message(id, Telling::Message(kind, &head, message));
        self.events.head = head;
        if is_open && !told {
            self.close(id, CloseCode::TRY_AGAIN_LATER, NO_WORKER);
        }
        told
    }

    #[inline]
    fn tell_message(&mut self, id: ClientId, telling: Telling<'_>) -> bool {
        if !self.events.wanted.has(EventKind::Message) {
            self.await_workers();
        }
        let event = Event { kind: EventKind::Message, whose: whose(id), client: Some(id), telling };
        let mut told = true;
        for at in 0..self.events.pools.len() {
            told &= self.tell_pool(at, &event);
        }
        told
    }

    /// Clients speak, and no backend has ever wanted to hear it: the first one that does is waited for.
    #[cold]
    fn await_workers(&mut self) {
        self.events.add(None, Kinds::NONE.with(EventKind::Message), self.now.ms);
        self.events.refresh(self.rules.timeouts.no_worker_ms);
    }

    /// Connection, token and user, each with a space behind it. False when the client is not open.
    #[inline]
    fn write_head(&self, head: &mut Vec<u8>, id: ClientId) -> bool {
        let Some((token, user)) = self.roster().login(id) else { return false };
        head.clear();
        id.append_to(head);
        head.push(b' ');
        head.extend_from_slice(token);
        head.push(b' ');
        head.extend_from_slice(user.unwrap_or_default().as_bytes());
        head.push(b' ');
        true
    }

    // Coming and going.

    /// A client is open. A tab that comes back was open all the time.
    #[inline]
    pub(in crate::hub) fn tell_open(&mut self, id: ClientId, tab: Option<&str>) {
        if self.events.wants(EventKind::Open, EventKind::Online) {
            self.tell_arrival(id, tab);
        }
    }

    /// An open client is about to leave, or a tab that is away does not come back.
    #[inline]
    pub(in crate::hub) fn tell_close(&mut self, key: ClientKey, code: u16) {
        if self.events.wants(EventKind::Close, EventKind::Offline) {
            self.tell_departure(key, code);
        }
    }

    #[inline(never)]
    fn tell_arrival(&mut self, id: ClientId, tab: Option<&str>) {
        let roster = self.roster();
        let connection = id.to_string();
        let token = String::from_utf8_lossy(roster.token(id).unwrap_or_default());
        let user = roster.user(id);
        let address = match roster.peer(id.key) {
            PeerAddr::Unix => None,
            PeerAddr::Ip(address, _) | PeerAddr::Forwarded(address) => Some(address.to_string()),
        };
        let mut groups: Vec<&str> = roster.groups_of(id).collect();
        groups.reverse(); // as they were joined
        let open = object(&[
            ("event", Some(Member::Text("open"))),
            ("connection", Some(Member::Text(&connection))),
            ("token", Some(Member::Text(&token))),
            ("user", user.map(Member::Text)),
            ("address", address.as_deref().map(Member::Text)),
            ("groups", Some(Member::List(&groups))),
            ("tab", tab.map(Member::Text)),
        ]);
        let comes = user.filter(|user| roster.count(Address::User(user)) == 1).map(str::to_owned);
        self.tell(EventKind::Open, whose(id), Some(id), &open);
        if let Some(user) = comes {
            self.tell_user(EventKind::Online, &user);
        }
    }

    #[inline(never)]
    fn tell_departure(&mut self, key: ClientKey, code: u16) {
        let Some(id) = self.client_id(key) else { return };
        let roster = self.roster();
        let connection = id.to_string();
        let token = String::from_utf8_lossy(roster.token(id).unwrap_or_default());
        let user = roster.user(id);
        let close = object(&[
            ("event", Some(Member::Text("close"))),
            ("connection", Some(Member::Text(&connection))),
            ("token", Some(Member::Text(&token))),
            ("user", user.map(Member::Text)),
            ("code", Some(Member::Number(code.into()))),
            ("seconds", Some(Member::Number(roster.open_ms(key, self.now) / 1000))),
        ]);
        let goes = user.filter(|user| roster.count(Address::User(user)) == 1).map(str::to_owned);
        self.tell(EventKind::Close, whose(id), Some(id), &close);
        if let Some(user) = goes {
            self.tell_user(EventKind::Offline, &user);
        }
    }

    fn tell_user(&mut self, kind: EventKind, user: &str) {
        let whose = self.events.hasher.hash_one(user);
        let event = object(&[("event", Some(Member::Text(kind.name()))), ("user", Some(Member::Text(user)))]);
        self.tell(kind, whose, None, &event);
    }

    fn tell(&mut self, kind: EventKind, whose: u64, client: Option<ClientId>, object: &[u8]) {
        let event = Event { kind, whose, client, telling: Telling::Object(object) };
        for at in 0..self.events.pools.len() {
            self.tell_pool(at, &event);
        }
    }
}
