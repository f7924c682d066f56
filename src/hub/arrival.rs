//! From an accepted connection to an open client, or to a refusal.
//!
//! It never parses a request (`wire::http` does) and never decides who is let in (the handler does). Invariant:
//! a connection leaves `Handshaking` once, by admission, by an answer or by its end.

use super::{Hub, Refusal};
use crate::auth::{self, Identity};
use crate::key::ClientKey;
use crate::peer::client::{Client, ClientId, State};
use crate::roster::{Address, Space, USER_BYTES_MAX};
use crate::rule::Rule;
use crate::wire::http::forwarded::{PeerAddr, forwarded};
use crate::wire::http::{self, Key, Request, Response};
use log::{debug, info};
use std::collections::BTreeSet;

impl Hub {
    /// The key that [`add_client`](Self::add_client) will use, to register the socket under it.
    pub(crate) fn next_client(&self) -> ClientKey {
        self.roster().next_key()
    }

    /// Slots in use, in whatever state.
    pub(crate) fn client_slots(&self) -> usize {
        self.roster().len()
    }

    /// A connection that was accepted: it has `timeouts.handshake` to show its request. Over `limits.unauthenticated` the
    /// oldest is dropped: a genuine browser is done long before.
    pub(crate) fn add_client(&mut self, listener: usize, peer: PeerAddr) -> ClientId {
        let id = self.floor.add(listener, peer, self.now);
        let oldest = self.floor.oldest_stranger();
        let max = self.rules.limits.unauthenticated.unwrap_or(usize::MAX);
        if let Some(oldest) = oldest.filter(|_| self.roster().counts().waiting > max) {
            let rule = Rule::OldestUnauthenticated;
            info!("dropped rule={} peer={}", rule.name(), self.roster().peer(oldest.key));
            self.settled().vanish(oldest.key, rule);
        }
        id
    }

    // Handshake.

    pub(crate) fn is_handshaking(&self, id: ClientId) -> bool {
        self.roster().is_handshaking(id)
    }

    /// As much of the first input as a request head may be; nothing when some of the head came before, or none is awaited.
    #[inline]
    pub(crate) fn head_part<'i>(&self, id: ClientId, input: &'i [u8]) -> &'i [u8] {
        match self.roster().find(id).map(Client::state) {
            Some(State::Handshaking { head: None, .. }) => {
                &input[..input.len().min(self.rules.limits.head_bytes)]
            }
            _ => &[],
        }
    }

    /// Looks for the end of the request head in what came so far and `input`. When it is in `input`
    /// alone, nothing is stored: that is what a browser does.
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
        Ok(auth::verify(&self.rules.auth, request.cookies(), self.now.unix_s)?)
    }

    /// The default of [`crate::handler::Handler::check_origin`].
    pub fn is_own_origin(&self, origin: &str) -> bool {
        auth::origin_allowed(&self.rules.origins, origin)
    }

    /// The last checks, then the client is open and its 101 is queued.
    pub(crate) fn admit(&mut self, id: ClientId, identity: &Identity<'_>, key: &Key) -> Result<(), Refusal> {
        // Earlier broadcasts are not for this client: they are handed out before it counts as open, and who does not take
        // them makes room.
        let _ = self.settled();
        self.check_room(identity)?;
        self.settled().admit(id, identity, key);
        Ok(())
    }

    fn check_room(&self, identity: &Identity<'_>) -> Result<(), Refusal> {
        let (limits, roster) = (&self.rules.limits, self.roster());
        let user_bytes = identity.user.as_deref().map_or(0, str::len);
        if identity.token.len() > roster.token_bytes_max() || user_bytes > USER_BYTES_MAX {
            return Err(Rule::BadToken.into()); // only a handler of one's own can cause it
        }
        if self.draining {
            return Err(Rule::Draining.into());
        }
        if roster.of_token(identity.token.as_bytes()).count() >= limits.connections_per_token as usize {
            return Err(Rule::TooManyToken.into());
        }
        if let Some(user) = &identity.user {
            if roster.count(Address::User(user)) >= limits.connections_per_user as usize {
                return Err(Rule::TooManyUser.into());
            }
        }
        let groups: BTreeSet<&str> = identity.groups.iter().map(AsRef::as_ref).collect();
        if groups.len() > limits.groups_per_connection {
            return Err(Rule::TooManyGroups.into());
        }
        let new = groups.iter().filter(|group| roster.count(Address::Group(group)) == 0).count();
        if new > 0 && roster.names(Space::Group) + new > limits.groups {
            return Err(Rule::GroupsFull.into());
        }
        if roster.counts().open >= limits.clients.unwrap_or(usize::MAX) {
            return Err(Rule::Full.into());
        }
        Ok(())
    }

    /// Notes the visitor's address when a trusted proxy tells it.
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

    /// Answers whoever asks how the server is: load balancers, every few seconds, so it is not logged.
    pub(crate) fn answer_health(&mut self, id: ClientId, request: &Request<'_>) -> bool {
        if !request.asks_health(&self.rules.health) || !self.is_handshaking(id) {
            return false;
        }
        self.stats.health += 1;
        let (status, body) = if self.draining { (503, "draining\n") } else { (200, "ok\n") };
        debug!("health status={status} peer={}", self.roster().peer(id.key));
        let response = Response::new(status).field("Cache-Control", "no-store").close();
        let response = match request.method() {
            "HEAD" => response.head_for("text/plain", body.len()),
            _ => response.text(body),
        };
        self.settled().answer(id.key, &response);
        true
    }

    /// Tells of a page that cannot work: it asked for a subprotocol, was given none, and so its browser fails the
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

/// Where a complete request head is.
#[derive(Debug)]
pub(crate) enum Head {
    /// The first bytes of the input; the end is given.
    InInput(usize),
    /// It came in pieces: all of them and the end of the head in them.
    Gathered(Vec<u8>, usize),
}
