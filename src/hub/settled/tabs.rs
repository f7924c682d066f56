//! Tabs that go away and come back.
//!
//! The connection of a tab ends, and its place here stays: id, token, user, groups, lock, and what it has not confirmed.
//! What is left of the connection, a close frame perhaps, is a client of its own from then on. A connection that comes
//! with the same login and the same tab takes the place over; the stranger that it was is gone. What each thing means for
//! a tab that is away is in docs/resume.md.
//!
//! It never judges whether a handshake is let in (`arrival` does). Invariant: a tab is away only if all that it has not
//! confirmed since its last `fresh` waits in its outbox, or behind its lock.

use super::leave::Leave;
use super::{Floor, Settled};
use crate::auth::Identity;
use crate::clock::Tick;
use crate::key::ClientKey;
use crate::peer::client::{Client, ClientId, Then};
use crate::wire::frame::CloseCode;
use log::debug;

/// A tab, as its page names it and as it is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tab<'t> {
    pub(crate) text: &'t str,
    pub(crate) name: u64,
}

impl Settled<'_> {
    /// Whether a client that leaves in this way is a tab that may come back.
    pub(super) fn may_come_back(&self, key: ClientKey, how: Leave<'_>) -> bool {
        let waits = !self.hub.draining && self.hub.rules.timeouts.away_ms > 0;
        let Floor { roster, delivery, .. } = &self.hub.floor;
        waits
            && how.may_come_back()
            && roster.get(key).is_some_and(|client| delivery.can_come_back(&client.mail))
    }

    /// The connection of an open tab ends, and the tab is away.
    pub(super) fn go_away(&mut self, key: ClientKey, how: Leave<'_>) {
        debug_assert!(how.may_come_back(), "an overflow and a kick are for good");
        let away_max = self.hub.rules.limits.away.unwrap_or(usize::MAX);
        while self.hub.floor.roster.counts().away >= away_max {
            let longest = self.hub.floor.roster.longest_away().expect("one is away");
            self.give_up(longest, None);
        }
        let Floor { roster, delivery, .. } = &mut self.hub.floor;
        let rest_key = roster.go_away(key, how.then(), how.counted(), self.hub.now);
        let (mail, rest) = roster.both_mails(key, rest_key);
        delivery.go_away(key, mail, (how.then() != Then::End).then_some(&mut *rest));
        if let Some((code, reason)) = how.farewell() {
            delivery.close(rest_key, rest, code, reason);
        }
        debug!("away peer={}", roster.peer(key));
        self.hub.release(key);
    }

    /// A tab that is away does not come back, or not without a gap: for this reason, or since too much time has passed.
    pub(crate) fn give_up(&mut self, key: ClientKey, code: Option<u16>) {
        let ended = self.hub.floor.roster.get(key).and_then(Client::away_code);
        self.hub.tell_close(key, code.or(ended).unwrap_or(1006));
        self.forget_names(key);
        let Floor { roster, delivery, .. } = &mut self.hub.floor;
        debug!("gave_up peer={}", roster.peer(key));
        delivery.drop_all(key, roster.give_up(key, self.hub.now), self.hub.now.tick());
    }

    /// A tab that is away, or whose connection seems open, has the connection of this stranger from now on.
    pub(crate) fn come_back(
        &mut self,
        stranger: ClientId,
        key: ClientKey,
        identity: &Identity<'_>,
        response: &[u8],
    ) {
        if !self.hub.floor.roster.get(key).is_some_and(Client::is_away) {
            self.leave(key, Leave::TakenOver(CloseCode::TAKEN_OVER, "taken over"));
        }
        self.move_stream(stranger.key);
        let expires = self.expiry(identity);
        let Floor { roster, delivery, .. } = &mut self.hub.floor;
        let mail = roster.come_back(key, stranger, expires, self.hub.now);
        delivery.come_back(key, mail, response);
        let bounds = self.hub.rules.bounds();
        for group in &identity.groups {
            // There is room: it was checked.
            let _ = self.join(key, group, bounds);
        }
        if let Some(id) = self.hub.client_id(key) {
            self.hub.await_reach(id);
        }
        self.hub.stats.resumed += 1;
        debug!("resumed peer={} token={:.8}", self.hub.roster().peer(key), identity.token);
    }

    /// Messages may have been lost on their way to this node: no tab that is here comes back without a gap.
    pub(crate) fn miss_messages(&mut self) {
        self.hub.floor.roster.all_receiving().for_each(|(_, mail)| mail.miss());
    }

    /// When a login is over.
    pub(super) fn expiry(&self, identity: &Identity<'_>) -> Tick {
        let left_s = (identity.expires_unix_s - self.hub.now.unix_s).max(0) as u64;
        Tick::at(self.hub.now.ms.saturating_add(left_s.saturating_mul(1000)))
    }

    /// The lock of these clients is over, and their message will never be whole: those that are away are not sent what
    /// there is of it.
    pub(crate) fn drop_unfinished(&mut self, clients: &[ClientId]) {
        let Floor { roster, delivery, .. } = &mut self.hub.floor;
        for id in clients {
            if roster.is_open(*id) {
                let mail = roster.receiving(id.key).expect("it is here");
                delivery.drop_unfinished(id.key, mail);
            }
        }
    }
}
