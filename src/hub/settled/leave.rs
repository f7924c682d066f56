//! How a client comes in and how it goes: every change of state, with all that belongs to it.
//!
//! It never judges whether a client may come in (`arrival` does). Invariant: an open client leaves that state in
//! [`Settled::leave`] alone, which takes it out of the names and the counters, drops the messages that a lock held
//! back, queues the close frame and sets the deadline: all of them.

use super::{Floor, Settled, Tab};
use crate::auth::Identity;
use crate::key::ClientKey;
use crate::peer::client::{Client, ClientId, State, Then};
use crate::rule::Rule;
use crate::wire::frame::{CloseCode, DecodeError};
use log::{debug, info};

/// Why and how an open client leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Leave<'r> {
    /// We close, for this reason.
    Closing(CloseCode, &'r str),
    /// We close, and discard the client's input meanwhile: a message that it began is given up.
    Dismissed(CloseCode, &'r str),
    /// The client closes, and gets its code back.
    Answering(Option<CloseCode>),
    /// We close, since a message that was begun will never be whole.
    Broken(CloseCode, &'r str),
    /// The same tab has another connection.
    TakenOver(CloseCode, &'r str),
    /// The client broke the protocol: no later input of it can be understood.
    Failed(DecodeError),
    /// The client does not read: its outbox is dropped but for the frame in flight.
    Overflown,
    /// The connection is broken, or the client shut its side down.
    Lost,
}

impl Leave<'_> {
    /// The code that is counted; 1005 and 1006 are RFC 6455's for none and for a broken connection.
    pub(super) fn counted(self) -> u16 {
        match self {
            Self::Closing(code, _) | Self::Dismissed(code, _) => code.0,
            Self::Broken(code, _) | Self::TakenOver(code, _) => code.0,
            Self::Answering(code) => code.map_or(1005, |code| code.0),
            Self::Failed(error) => error.close_code().0,
            Self::Overflown => CloseCode::TRY_AGAIN_LATER.0,
            Self::Lost => 1006,
        }
    }

    pub(super) fn then(self) -> Then {
        match self {
            Self::Closing(..) | Self::Broken(..) | Self::TakenOver(..) | Self::Overflown => Then::Close,
            Self::Answering(_) => Then::Finish,
            Self::Failed(_) | Self::Dismissed(..) => Then::Linger,
            Self::Lost => Then::End,
        }
    }

    /// Whether a tab that leaves in this way may come back: not when it was told to go, when it takes too little, or when
    /// its page has closed for good, with 1000 or without a code.
    pub(super) fn may_come_back(self) -> bool {
        match self {
            Self::Closing(..) | Self::Overflown => false,
            Self::Answering(code) => code.is_some_and(|code| code != CloseCode::NORMAL),
            Self::Dismissed(..) | Self::Broken(..) | Self::TakenOver(..) | Self::Failed(_) | Self::Lost => {
                true
            }
        }
    }
}

impl<'r> Leave<'r> {
    /// The code and the reason of the close frame, if it is told at all.
    pub(super) fn farewell(self) -> Option<(Option<CloseCode>, &'r str)> {
        match self {
            Self::Closing(code, reason)
            | Self::Dismissed(code, reason)
            | Self::Broken(code, reason)
            | Self::TakenOver(code, reason) => Some((Some(code), reason)),
            Self::Answering(code) => Some((code, "")),
            Self::Failed(error) => Some((Some(error.close_code()), error.reason())),
            Self::Overflown => Some((Some(CloseCode::TRY_AGAIN_LATER), "slow consumer")),
            Self::Lost => None,
        }
    }
}

impl Settled<'_> {
    /// A login was proved and there is room: the client is open and its 101 is queued.
    pub(crate) fn admit(
        &mut self,
        id: ClientId,
        identity: &Identity<'_>,
        response: &[u8],
        tab: Option<Tab<'_>>,
    ) {
        if !self.hub.floor.roster.is_handshaking(id) {
            return;
        }
        let expires = self.expiry(identity);
        self.move_stream(id.key);
        let Floor { roster, delivery, .. } = &mut self.hub.floor;
        let mail =
            roster.admit(id.key, identity.token.as_bytes(), identity.user.as_deref(), expires, self.hub.now);
        if let Some(tab) = tab {
            delivery.begin_keeping(mail, tab.name);
        }
        delivery.response(id.key, mail, response);
        let bounds = self.hub.rules.bounds();
        for group in &identity.groups {
            let joined = roster.join(id.key, group, bounds);
            debug_assert!(joined.is_ok(), "there was room for the groups of the login");
        }
        self.hub.tell_open(id, tab.map(|tab| tab.text));
        let open = self.hub.floor.roster.counts().open as u64;
        self.hub.stats.clients_peak = self.hub.stats.clients_peak.max(open);
        self.hub.await_reach(id);
        debug!("opened peer={} token={:.8}", self.hub.floor.roster.peer(id.key), identity.token);
    }

    /// An open client leaves its state. See the module's head.
    pub(crate) fn leave(&mut self, key: ClientKey, how: Leave<'_>) {
        if self.hub.floor.roster.get(key).is_some_and(Client::is_away) {
            return self.give_up(key, Some(how.counted()));
        }
        self.log(key, how);
        self.hub.arrives_no_more(key);
        self.forget_names(key);
        self.hub.stats.close(how.counted());
        if self.may_come_back(key, how) {
            return self.go_away(key, how);
        }
        self.hub.tell_close(key, how.counted());
        self.hub.release(key);
        let Floor { roster, delivery, .. } = &mut self.hub.floor;
        let mail = roster.leave(key, how.then(), self.hub.now);
        if let Leave::Overflown = how {
            self.hub.stats.overflows += 1;
            delivery.drop_unsent(mail);
        }
        match how.farewell() {
            Some((code, reason)) => delivery.close(key, mail, code, reason),
            None => delivery.drop_all(key, mail, self.hub.now.tick()),
        }
    }

    /// Other nodes may reach nobody here by its names any more.
    #[inline]
    pub(super) fn forget_names(&mut self, key: ClientKey) {
        if self.hub.has_bus() {
            if let Some(id) = self.hub.client_id(key) {
                self.hub.touch_names(id);
            }
        }
    }

    fn log(&self, key: ClientKey, how: Leave<'_>) {
        let roster = &self.hub.floor.roster;
        let peer = roster.peer(key);
        match how {
            Leave::Failed(error) => failed(error, peer),
            Leave::Overflown => {
                let waiting = roster.get(key).map_or(0, |client| client.mail.waiting_bytes());
                info!("overflow code=1013 waiting={waiting} peer={peer}");
            }
            _ => {}
        }
        debug!("closed code={} peer={peer}", how.counted());
    }

    /// The peer closes, or answers our close.
    pub(crate) fn close_received(&mut self, key: ClientKey, code: Option<CloseCode>) {
        match self.hub.floor.roster.get(key).map(Client::state) {
            Some(State::Open { .. }) => self.leave(key, Leave::Answering(code)),
            Some(State::Closing { .. }) => {
                let Floor { roster, delivery, .. } = &mut self.hub.floor;
                let mail = roster.go_on(key, Then::Finish, self.hub.now);
                delivery.queue(crate::delivery::Line::Urgent, key, mail); // ends at once if our close is out
            }
            _ => {}
        }
    }

    /// The peer broke the protocol.
    pub(crate) fn fail(&mut self, key: ClientKey, error: DecodeError) {
        match self.hub.floor.roster.get(key).map(Client::state) {
            Some(State::Open { .. }) => self.leave(key, Leave::Failed(error)),
            Some(State::Closing { .. }) => {
                failed(error, self.hub.floor.roster.peer(key));
                let Floor { roster, delivery, .. } = &mut self.hub.floor;
                let mail = roster.go_on(key, Then::Linger, self.hub.now);
                delivery.queue(crate::delivery::Line::Urgent, key, mail);
            }
            _ => {}
        }
    }

    /// Nothing more is sent to a client, whatever its state; the slot is reaped at the end of the turn.
    pub(crate) fn lose(&mut self, key: ClientKey) {
        match self.hub.floor.roster.get(key).map(Client::state) {
            Some(State::Handshaking { .. }) => self.vanish(key, Rule::GoneBeforeRequest),
            Some(State::Open { .. }) => self.leave(key, Leave::Lost),
            Some(State::Closing { .. } | State::Lingering { .. } | State::Finishing { .. }) => {
                let Floor { roster, delivery, .. } = &mut self.hub.floor;
                delivery.drop_all(key, roster.go_on(key, Then::End, self.hub.now), self.hub.now.tick());
            }
            // Its connection was lost before.
            Some(State::Away { .. } | State::Gone) | None => {}
        }
    }

    /// A handshake that ends without an answer.
    pub(crate) fn vanish(&mut self, key: ClientKey, rule: Rule) {
        self.hub.stats.refuse(rule);
        debug!("vanished rule={} peer={}", rule.name(), self.hub.floor.roster.peer(key));
        self.move_stream(key);
        let Floor { roster, delivery, .. } = &mut self.hub.floor;
        delivery.drop_all(key, roster.turn_away(key, Then::End, self.hub.now), self.hub.now.tick());
    }

    /// Its request is awaited no more: the bytes that its stream keeps count with those that are queued.
    pub(super) fn move_stream(&mut self, key: ClientKey) {
        let Floor { roster, delivery, .. } = &mut self.hub.floor;
        let bytes = roster.get(key).map_or(0, Client::stream_bytes);
        if bytes > 0 {
            roster.set_stream_bytes(key, 0);
            delivery.note_stream(0, bytes);
        }
    }

    /// Sends an HTTP response to a request that is not to become a WebSocket; the connection ends.
    pub(crate) fn answer(&mut self, key: ClientKey, response: &[u8]) {
        self.move_stream(key);
        let Floor { roster, delivery, .. } = &mut self.hub.floor;
        delivery.last_response(key, roster.turn_away(key, Then::Linger, self.hub.now), response);
    }
}

fn failed(error: DecodeError, peer: crate::wire::http::forwarded::PeerAddr) {
    info!("failed code={} reason=\"{error}\" peer={peer}", error.close_code().0);
}
