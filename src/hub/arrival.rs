//! From an accepted connection to an open client, or to a refusal.
//!
//! It never parses a request (`wire::http` does) and never decides which login is let in (the handler does). Invariant:
//! a connection leaves `Handshaking` once, by admission, by an answer or by its end.

use super::{Hub, HubRules, Leave, Refusal, Tab};
use crate::auth::{self, Identity, Scheme};
use crate::clock::Tick;
use crate::key::ClientKey;
use crate::peer::client::{Client, ClientId, State};
use crate::roster::{Address, Space};
use crate::rule::Rule;
use crate::wire::frame::CloseCode;
use crate::wire::http::forwarded::{PeerAddr, forwarded};
use crate::wire::http::{self, Key, Offers, Request, Response, Wishes};
use log::{debug, info};
use std::collections::BTreeSet;

/// How long a connection without a login is kept although others wait: phones take 300 to 600 ms from connecting to
/// their request.
const GRACE_MS: u64 = 1000;
/// Slots that have to be there for that: with fewer a browser would wait behind the others for many of these seconds.
const CROWD_MIN: usize = 256;

/// The room for one more connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Crowd {
    /// There is room.
    No,
    /// There is room when a connection goes that has had its time.
    Full,
    /// There is room when a connection goes, however young.
    Narrow,
}

impl Hub {
    /// The key that [`add_client`](Self::add_client) will use, to register the socket under it.
    pub(crate) fn next_client(&self) -> ClientKey {
        self.roster().next_key()
    }

    /// Connections of clients, in whatever state.
    pub(crate) fn client_slots(&self) -> usize {
        self.roster().len() - self.roster().counts().away
    }

    /// Until when no connection is to be accepted, because there is no room and none can be made: those that have no login
    /// may be browsers that come back all at once, and get a second to show it. `u64::MAX`: until one leaves.
    pub(crate) fn is_crowded(&mut self, slots_max: usize) -> Option<u64> {
        let crowd = self.crowd(slots_max);
        if crowd == Crowd::No || self.floor.oldest_refused().is_some() {
            return None;
        }
        let Some(oldest) = self.floor.oldest_stranger() else { return Some(u64::MAX) };
        let until_ms = self.grace_ends_ms(oldest, crowd);
        (until_ms > self.now.ms).then_some(until_ms)
    }

    fn crowd(&self, slots_max: usize) -> Crowd {
        let (counts, slots) = (self.roster().counts(), self.client_slots());
        let left_for_strangers = slots_max.saturating_sub(slots - counts.strangers());
        if slots >= slots_max {
            if left_for_strangers < CROWD_MIN { Crowd::Narrow } else { Crowd::Full }
        } else if counts.strangers() >= self.rules.limits.unauthenticated.unwrap_or(usize::MAX) {
            Crowd::Full
        } else {
            Crowd::No
        }
    }

    /// The moment from which on a connection without a login may be dropped for others.
    fn grace_ends_ms(&self, id: ClientId, crowd: Crowd) -> u64 {
        let since_ms = self.roster().find(id).map_or(0, |client| client.heard().ms());
        if crowd == Crowd::Narrow { 0 } else { since_ms + GRACE_MS }
    }

    /// A connection that was accepted: it has `timeouts.handshake` to show its request. If that is one too many, a
    /// connection goes: of those that were refused the oldest, else the oldest that has had its second.
    pub(crate) fn add_client(&mut self, listener: usize, peer: PeerAddr, slots_max: usize) -> ClientId {
        let sender = self.sender(peer);
        let crowd = self.crowd(slots_max);
        let id = self.floor.add(listener, peer, sender, self.now);
        if let Some(sender) = sender {
            self.bound_sender(sender, id);
        }
        if crowd != Crowd::No && self.roster().is_handshaking(id) {
            self.drop_oldest(crowd, id);
        }
        id
    }

    /// A trusted proxy has said for whom it has opened the connection: one of that sender's from now on.
    pub(crate) fn introduce(&mut self, id: ClientId, visitor: PeerAddr) {
        if !self.is_handshaking(id) {
            return;
        }
        let sender = self.sender(visitor);
        self.floor.introduce(id.key, visitor, sender);
        if let Some(sender) = sender {
            self.bound_sender(sender, id);
        }
    }

    /// Whom a connection counts for as long as it shows no login; behind a trusted proxy are many.
    fn sender(&self, peer: PeerAddr) -> Option<u64> {
        let trusted = self.rules.trusted_proxies.iter().any(|network| network.contains(peer));
        peer.sender().filter(|_| !trusted)
    }

    fn drop_oldest(&mut self, crowd: Crowd, new: ClientId) {
        if let Some(oldest) = self.floor.oldest_refused() {
            debug!(
                "dropped rule={} peer={}",
                Rule::OldestUnauthenticated.name(),
                self.roster().peer(oldest.key)
            );
            return self.settled().lose(oldest.key);
        }
        let oldest = self.floor.oldest_stranger().filter(|oldest| *oldest != new);
        if let Some(oldest) = oldest.filter(|oldest| self.grace_ends_ms(*oldest, crowd) <= self.now.ms) {
            self.drop_stranger(oldest, Rule::OldestUnauthenticated);
        }
    }

    /// Over `limits.handshakes_per_address` the sender's oldest goes, or the new one.
    fn bound_sender(&mut self, sender: u64, new: ClientId) {
        if self.roster().counted(sender) <= self.rules.limits.handshakes_per_address {
            return;
        }
        let before = self.now.ms.checked_sub(GRACE_MS).map(Tick::at);
        let going = self.roster().oldest_of(sender, before).unwrap_or(new);
        match self.roster().is_handshaking(going) {
            true => self.drop_stranger(going, Rule::TooManyAddress),
            false => self.settled().lose(going.key),
        }
    }

    fn drop_stranger(&mut self, id: ClientId, rule: Rule) {
        info!("dropped rule={} peer={}", rule.name(), self.roster().peer(id.key));
        self.settled().vanish(id.key, rule);
    }

    // Handshake.

    pub(crate) fn is_handshaking(&self, id: ClientId) -> bool {
        self.roster().is_handshaking(id)
    }

    /// The first input, as far as it may be a request head; nothing when some of the head came before, or none is
    /// awaited.
    #[inline]
    pub(crate) fn head_part<'i>(&self, id: ClientId, input: &'i [u8]) -> &'i [u8] {
        match self.roster().find(id).map(Client::state) {
            Some(State::Handshaking { head: None, .. }) => {
                &input[..input.len().min(self.rules.limits.head_bytes)]
            }
            _ => &[],
        }
    }

    /// Looks for the end of the request head in the bytes that came so far and `input`. When it is in `input`
    /// alone, nothing is stored: browsers send it in one piece.
    pub(crate) fn find_head(&mut self, id: ClientId, input: &[u8]) -> Result<Option<Head>, Refusal> {
        let head_bytes_max = self.rules.limits.head_bytes;
        if !self.is_handshaking(id) {
            return Ok(None);
        }
        let Some(kept) = self.roster().kept_head(id) else {
            // Nearly always: nothing is stored.
            return match scan_within(input, 0, head_bytes_max)? {
                Some(end) => Ok(Some(Head::InInput(end))),
                None => self.keep_head(id, input),
            };
        };
        let before = kept.len();
        self.floor.keep_head(id, input);
        let all = self.roster().kept_head(id).unwrap_or_default();
        match scan_within(all, before, head_bytes_max)? {
            Some(end) => Ok(Some(Head::Gathered(self.floor.take_head(id), end))),
            None => self.keep_head(id, b""),
        }
    }

    fn keep_head(&mut self, id: ClientId, input: &[u8]) -> Result<Option<Head>, Refusal> {
        self.floor.keep_head(id, input);
        self.relieve_input();
        Ok(None)
    }

    /// The default of [`crate::handler::Handler::authorize`].
    pub fn verify_cookies<'r>(&self, request: &'r Request<'r>) -> Result<Identity<'r>, Refusal> {
        let rules = &self.rules.auth;
        if rules.scheme == Scheme::Jwt && rules.query {
            if let Some(jwt) = request.wishes()?.jwt {
                return Ok(auth::verify_jwt(rules, jwt.as_bytes(), self.now.unix_s)?);
            }
        }
        Ok(auth::verify(rules, request.cookies(), self.now.unix_s)?)
    }

    /// Adds the groups that the page asks for to the login: all of them, if each is allowed to it, or none.
    pub(crate) fn grant(&self, identity: &mut Identity<'_>, wishes: &Wishes<'_>) -> Result<(), Refusal> {
        let Some(groups) = &wishes.groups else { return Ok(()) };
        let HubRules { auth, groups_public, .. } = &self.rules;
        let allowed = auth::groups_allowed(auth, groups_public, identity, groups, wishes.ticket.as_deref())?;
        identity.groups.extend(allowed.into_iter().map(|group| group.to_owned().into()));
        Ok(())
    }

    /// The default of [`crate::handler::Handler::check_origin`].
    pub fn is_own_origin(&self, origin: &str) -> bool {
        auth::origin_allowed(&self.rules.origins, origin)
    }

    /// The last checks, then the client is open and its 101 is queued: this one, or the tab that it is.
    pub(crate) fn admit(
        &mut self,
        id: ClientId,
        identity: &Identity<'_>,
        key: &Key,
        tab: Option<&str>,
        offers: Offers,
    ) -> Result<Admitted, Refusal> {
        // Earlier broadcasts are not for this client: they are handed out before it counts as open, and a client that
        // does not take them is closed and makes room.
        let _ = self.settled();
        self.check_revoked(identity)?;
        let tab = tab.filter(|_| self.rules.timeouts.away_ms > 0);
        let tab = tab.map(|text| Tab { text, name: self.roster().tab_name(text) });
        let mut response = Vec::with_capacity(256);
        if let Some(earlier) = tab.and_then(|tab| self.earlier(identity, tab.name)) {
            self.check_room(identity, Some(earlier))?;
            http::append_upgrade(&mut response, key, offers.resumed());
            if self.is_handshaking(id) {
                self.settled().come_back(id, earlier, identity, &response);
            }
            let id = self.client_id(earlier).expect("it is here");
            return Ok(Admitted { id, is_new: false });
        }
        self.check_room(identity, None)?;
        http::append_upgrade(&mut response, key, offers.fresh());
        self.settled().admit(id, identity, &response, tab);
        Ok(Admitted { id, is_new: true })
    }

    /// The tab of this name, if it may go on without a gap. One that may not has no connection any more.
    fn earlier(&mut self, identity: &Identity<'_>, name: u64) -> Option<ClientKey> {
        let earlier = self.roster().tab(identity.token.as_bytes(), identity.user.as_deref(), name)?;
        if self.draining || self.floor.can_come_back(earlier) {
            return Some(earlier);
        }
        self.settled().leave(earlier, Leave::Closing(CloseCode::TAKEN_OVER, "taken over"));
        None
    }

    /// Whether there is room for this login's new connection, or for the tab that has another one from now on. Tabs that are
    /// away make room.
    fn check_room(&mut self, identity: &Identity<'_>, tab: Option<ClientKey>) -> Result<(), Refusal> {
        let (limits, roster) = (&self.rules.limits, self.roster());
        identity.check(roster.token_bytes_max())?; // only an application's own handler can fail it
        if self.draining || self.leaving {
            return Err(Rule::Draining.into());
        }
        if roster.counts().open >= limits.clients.unwrap_or(usize::MAX)
            && !tab.is_some_and(|tab| roster.is_connected(tab))
        {
            return Err(Rule::Full.into());
        }
        let mut groups: BTreeSet<&str> = identity.groups.iter().map(AsRef::as_ref).collect();
        if let Some(id) = tab.and_then(|tab| roster.id(tab)) {
            groups.extend(roster.groups_of(id));
        }
        if groups.len() > limits.groups_per_connection {
            return Err(Rule::TooManyGroups.into());
        }
        let new = groups.iter().filter(|group| roster.count(Address::Group(group)) == 0).count();
        if new > 0 && roster.names(Space::Group) + new > limits.groups {
            return Err(Rule::GroupsFull.into());
        }
        match tab {
            Some(_) => Ok(()),
            None => self.check_shares(identity),
        }
    }

    /// The connections of the login and of the user. Tabs that are away count, and the one away longest makes room.
    fn check_shares(&mut self, identity: &Identity<'_>) -> Result<(), Refusal> {
        let of_token = Address::Token(identity.token.as_bytes());
        let of_user = identity.user.as_deref().map(Address::User);
        let limits = &self.rules.limits;
        let shares = [
            (Some(of_token), limits.connections_per_token, Rule::TooManyToken),
            (of_user, limits.connections_per_user, Rule::TooManyUser),
        ];
        for (address, max, rule) in shares {
            let Some(address) = address else { continue };
            while self.roster().count(address) >= max as usize {
                let mut keys = Vec::new();
                self.roster().each(address, |key| keys.push(key));
                let longest = self.roster().longest_away_of(keys.into_iter()).ok_or(rule)?;
                self.settled().give_up(longest, None);
            }
        }
        Ok(())
    }

    /// Notes the visitor's address when a trusted proxy gives it.
    pub(crate) fn note_forwarded(&mut self, id: ClientId, request: &Request<'_>) {
        let trusted = &self.rules.trusted_proxies;
        let peer = self.roster().peer(id.key);
        if trusted.iter().any(|network| network.contains(peer)) {
            if let Some(visitor) = forwarded(trusted, request) {
                self.floor.set_peer(id.key, visitor);
            }
        }
    }

    /// Answers a handshake with a complete response instead of 101, and lets the peer read it.
    pub(crate) fn refuse(&mut self, id: ClientId, why: impl Into<Refusal>) {
        let refusal = why.into();
        if !self.is_handshaking(id) {
            return;
        }
        self.stats.refuse(refusal.rule());
        info!(
            "refused rule={} status={} peer={} listener={}",
            refusal.name(),
            refusal.status(),
            self.roster().peer(id.key),
            self.roster().listener(id.key).address
        );
        self.settled().answer(id.key, &refusal.response());
    }

    /// A connection that ends before it could ask for anything, and without an answer.
    pub(crate) fn handshake_failed(&mut self, id: ClientId, rule: Rule, why: &dyn std::fmt::Display) {
        if !self.is_handshaking(id) {
            return self.client_lost(id);
        }
        info!(
            "refused rule={} peer={} listener={} reason=\"{why}\"",
            rule.name(),
            self.roster().peer(id.key),
            self.roster().listener(id.key).address
        );
        self.settled().vanish(id.key, rule);
    }

    /// Answers the question how the server is: load balancers ask it every few seconds, so it is not logged.
    pub(crate) fn answer_health(&mut self, id: ClientId, request: &Request<'_>) -> bool {
        if !request.asks_health(&self.rules.health) || !self.is_handshaking(id) {
            return false;
        }
        self.stats.health += 1;
        let (status, body) = if self.draining || self.leaving { (503, "draining\n") } else { (200, "ok\n") };
        debug!("health status={status} peer={}", self.roster().peer(id.key));
        let response = Response::new(status).field("Cache-Control", "no-store").close();
        let response = match request.method() {
            "HEAD" => response.head_for("text/plain", body.len()),
            _ => response.text(body),
        };
        self.settled().answer(id.key, &response);
        true
    }

    /// Reports a page that cannot work: it asked for a subprotocol, was given none, and so its browser fails the
    /// connection (RFC 6455 section 4.1), for a reason that stands in the browser's console alone.
    pub(crate) fn note_subprotocol(&mut self, id: ClientId) {
        self.stats.subprotocols += 1;
        info!(
            "no_subprotocol peer={} reason=\"the page asks for a subprotocol, and its browser gives up\"",
            self.roster().peer(id.key)
        );
    }

    /// Answers a request that does not ask for a WebSocket: in the counters it stands with the refused.
    pub(crate) fn answer(&mut self, id: ClientId, response: &[u8]) {
        self.stats.refuse(Rule::Answered);
        if self.is_handshaking(id) {
            self.settled().answer(id.key, response);
        }
    }
}

/// The end of the head in `all`, of which the first `before` bytes were looked at.
fn scan_within(all: &[u8], before: usize, head_bytes_max: usize) -> Result<Option<usize>, Refusal> {
    match http::scan(&all[..all.len().min(head_bytes_max)], before)? {
        None if all.len() > head_bytes_max => Err(Rule::HeadTooLarge.into()),
        end => Ok(end),
    }
}

/// A handshake that was let in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admitted {
    /// The client that is open now.
    pub(crate) id: ClientId,
    /// It was not open before: it is no tab that comes back.
    pub(crate) is_new: bool,
}

/// Where a complete request head is.
#[derive(Debug)]
pub(crate) enum Head {
    /// The first bytes of the input; the end is given.
    InInput(usize),
    /// It came in pieces: all of them and the end of the head in them.
    Gathered(Vec<u8>, usize),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Now;
    use crate::config::Settings;
    use crate::stats::Process;
    use std::hash::RandomState;
    use std::net::IpAddr;

    fn hub() -> Hub {
        let mut settings = Settings { trusted_proxies: vec!["198.51.100.1".into()], ..Settings::default() };
        settings.limits.handshakes_per_address = 3;
        let mut hub = Hub::new(&settings, RandomState::new(), Process::default);
        hub.add_listener("tcp://192.0.2.7:80".into(), None);
        hub
    }

    fn come(hub: &mut Hub, from: &str) -> ClientId {
        let peer = PeerAddr::Ip(from.parse::<IpAddr>().unwrap(), 50_000);
        hub.add_client(0, peer, usize::MAX)
    }

    fn reap(hub: &mut Hub) {
        while let Some((id, _)) = hub.next_gone() {
            hub.floor.remove(id);
        }
        hub.audit().unwrap();
    }

    #[test]
    fn of_one_address_the_oldest_that_had_a_second_goes_else_the_new_one() {
        let mut hub = hub();
        let first: Vec<ClientId> = (0..3).map(|_| come(&mut hub, "192.0.2.1")).collect();
        let young = come(&mut hub, "192.0.2.1");
        assert!(!hub.is_handshaking(young), "the others had no time yet");
        let other = come(&mut hub, "192.0.2.2");
        assert!(hub.is_handshaking(other), "another one");
        hub.set_now(Now { ms: 2000, unix_s: 0 });
        let later = come(&mut hub, "192.0.2.1");
        assert!(hub.is_handshaking(later) && !hub.is_handshaking(first[0]) && hub.is_handshaking(first[1]));
        reap(&mut hub);
        hub.refuse(first[2], Refusal::from(Rule::Timeout));
        let next = come(&mut hub, "192.0.2.1");
        assert!(hub.is_handshaking(next) && hub.is_handshaking(first[1]), "one that was refused goes before");
        reap(&mut hub);
    }

    #[test]
    fn an_ipv6_network_is_one_sender_and_a_proxy_is_everybody() {
        let mut hub = hub();
        let all = |hub: &mut Hub, addresses: &[&str]| -> usize {
            let ids: Vec<ClientId> = addresses.iter().map(|address| come(hub, address)).collect();
            ids.iter().filter(|id| hub.is_handshaking(**id)).count()
        };
        assert_eq!(all(&mut hub, &["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::ffff:1"]), 3);
        assert_eq!(all(&mut hub, &["2001:db8:0:1::1"]), 1);
        assert_eq!(all(&mut hub, &["198.51.100.1"; 5]), 5);
        assert_eq!(all(&mut hub, &["127.0.0.1"; 5]), 5);
        assert_eq!(all(&mut hub, &["::1"; 5]), 5);
        reap(&mut hub);
    }
}
