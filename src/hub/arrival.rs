//! From an accepted connection to an open client, or to a refusal.
//!
//! It never parses a request (`wire::http` does) and never decides who is let in (the handler does). Invariant:
//! a connection leaves `Handshaking` once, by admission, by an answer or by its end.

use super::{Hub, Refusal};
use crate::auth::{self, Identity};
use crate::key::ClientKey;
use crate::peer::client::ClientId;
use crate::roster::USER_BYTES_MAX;
use crate::rule::Rule;
use crate::wire::http::forwarded::{PeerAddr, forwarded};
use crate::wire::http::{self, Key, Request, Response};
use log::{debug, info};

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
    pub(crate) fn head_part<'i>(&mut self, id: ClientId, input: &'i [u8]) -> &'i [u8] {
        match self.floor.head(id) {
            Some(None) => &input[..input.len().min(self.rules.limits.head_bytes)],
            _ => &[],
        }
    }

    /// Looks for the end of the request head in what came so far and `input`. When it is in `input`
    /// alone, nothing is stored: that is what a browser does.
    pub(crate) fn find_head(&mut self, id: ClientId, input: &[u8]) -> Result<Option<Head>, Refusal> {
        let head_bytes_max = self.rules.limits.head_bytes;
        let Some(slot) = self.floor.head(id) else { return Ok(None) };
        let before = slot.as_ref().map_or(0, |head| head.len());
        if let Some(head) = slot {
            head.extend_from_slice(input);
        }
        let all = slot.as_ref().map_or(input, |head| &head[..]);
        match http::scan(&all[..all.len().min(head_bytes_max)], before)? {
            Some(end) => Ok(Some(match slot.take() {
                Some(head) => Head::Gathered(*head, end),
                None => Head::InInput(end),
            })),
            None if all.len() > head_bytes_max => Err(Rule::HeadTooLarge.into()),
            None => {
                slot.get_or_insert_with(|| Box::new(input.to_vec()));
                Ok(None)
            }
        }
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
        self.check_revoked(identity)?;
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
            if roster.of_user(user.as_bytes()).count() >= limits.connections_per_user as usize {
                return Err(Rule::TooManyUser.into());
            }
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

/// Where a complete request head is.
#[derive(Debug)]
pub(crate) enum Head {
    /// The first bytes of the input; the end is given.
    InInput(usize),
    /// It came in pieces: all of them and the end of the head in them.
    Gathered(Vec<u8>, usize),
}
