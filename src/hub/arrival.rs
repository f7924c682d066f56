//! From an accepted connection to an open client, or to a refusal.
//!
//! It never parses a request (handshake does) and never decides who is let in (the handler does). Invariant:
//! a connection leaves `Handshaking` once, by admission, by an answer or by its end.

use super::{Cold, Hub};
use crate::auth::{self, Identity};
use crate::clock::Tick;
use crate::delivery::spool::Lane;
use crate::peer::client::{Client, ClientId, State};
use crate::roster::index::USER_BYTES_MAX;
use crate::wire::http::forwarded::{PeerAddr, forwarded};
use crate::wire::http::{self, Key, Reject, Request};
use log::{debug, info};

impl Hub {
    /// The key that [`add_client`](Self::add_client) will use, to register the socket under it.
    pub(crate) fn next_client(&self) -> usize {
        self.clients.vacant_key()
    }

    /// Slots in use, in whatever state.
    pub(crate) fn client_slots(&self) -> usize {
        self.clients.len()
    }

    /// A connection that was accepted: it has `timeouts.handshake` to show its request.
    pub(crate) fn add_client(&mut self, listener: usize, peer: PeerAddr) -> ClientId {
        self.generation = self.generation.wrapping_add(1);
        let until_ms = self.now.ms + self.settings.timeouts.handshake_ms;
        let client = Client::new(self.generation, self.now.tick(), Tick::at(until_ms));
        let key = self.clients.insert(client) as u32;
        if self.cold.len() <= key as usize {
            self.cold.resize(key as usize + 1, Cold::default());
        }
        self.cold[key as usize] = Cold { peer, listener: listener as u16 };
        self.timers.arm(key, until_ms);
        self.listeners[listener].accepted += 1;
        self.counts.waiting += 1;
        let id = self.id(key);
        self.newcomers.push_back(id);
        self.bound_newcomers();
        id
    }

    /// Drops the connection that has been without a login for longest, if there is one.
    fn drop_oldest_newcomer(&mut self) {
        while let Some(oldest) = self.newcomers.pop_front() {
            if self.is_handshaking(oldest) {
                info!("dropped rule=oldest_unauthenticated peer={}", self.peer(oldest.key));
                return self.vanish(oldest.key, "oldest_unauthenticated");
            }
        }
    }

    /// Over `limits.unauthenticated` the oldest is dropped: a genuine browser is done long before.
    fn bound_newcomers(&mut self) {
        let max = self.settings.limits.unauthenticated.unwrap_or(usize::MAX);
        self.forget_old_newcomers();
        if self.counts.waiting > max {
            self.drop_oldest_newcomer();
        }
    }

    /// Those whose handshake is over and who are the oldest.
    pub(super) fn forget_old_newcomers(&mut self) {
        while self.newcomers.front().is_some_and(|oldest| !self.is_handshaking(*oldest)) {
            self.newcomers.pop_front();
        }
    }

    // Handshake.

    pub(crate) fn is_handshaking(&self, id: ClientId) -> bool {
        self.client(id).is_some_and(|client| matches!(client.state, State::Handshaking { .. }))
    }

    /// Looks for the end of the request head in what came so far and `input`. When it is in `input`
    /// alone, nothing is stored: that is what a browser does.
    pub(crate) fn find_head(&mut self, id: ClientId, input: &[u8]) -> Result<Option<Head>, Reject> {
        let head_bytes_max = self.settings.limits.head_bytes;
        let Some(client) = self.client_mut(id) else { return Ok(None) };
        let State::Handshaking { head, .. } = &mut client.state else { return Ok(None) };
        let before = head.len();
        if before > 0 {
            head.extend_from_slice(input);
        }
        let all = if before > 0 { &head[..] } else { input };
        match http::scan(&all[..all.len().min(head_bytes_max)], before)? {
            Some(end) if before > 0 => Ok(Some(Head::Gathered(std::mem::take(head), end))),
            Some(end) => Ok(Some(Head::InInput(end))),
            None if all.len() > head_bytes_max => Err(Reject::HeadTooLarge),
            None if before > 0 => Ok(None),
            None => {
                head.extend_from_slice(input);
                Ok(None)
            }
        }
    }

    /// The default of [`crate::handler::Handler::authorize`].
    pub fn verify_cookies<'r>(&self, request: &'r Request<'r>) -> Result<Identity<'r>, Reject> {
        auth::verify(&self.settings.auth, request.cookies(), self.now.unix_s)
            .map_err(|denied| Reject::Cookies(denied.rule()))
    }

    /// The default of [`crate::handler::Handler::check_origin`].
    pub fn is_own_origin(&self, origin: &str) -> bool {
        auth::origin_allowed(&self.settings.origins, origin)
    }

    /// The last checks, then the client is open and its 101 is queued.
    pub(crate) fn admit(&mut self, id: ClientId, identity: &Identity<'_>, key: &Key) -> Result<(), Reject> {
        self.check_room(identity)?;
        let Some(client) = self.clients.get_mut(id.key as usize) else { return Ok(()) };
        let left_s = (identity.expires_unix_s - self.now.unix_s).max(0) as u64;
        client.state = State::Open { decoder: Default::default(), rare: None };
        client.was_open = true;
        client.heard = self.now.tick();
        client.expires = Tick::at(self.now.ms.saturating_add(left_s.saturating_mul(1000)));
        let mut response = Vec::with_capacity(256);
        http::append_upgrade(&mut response, key);
        self.queue_response(id.key, &response);
        self.tokens.insert(id.key, identity.token.as_bytes());
        if let Some(users) = &mut self.users {
            users.insert(id.key, identity.user.unwrap_or_default().as_bytes());
        }
        self.counts.waiting -= 1;
        self.counts.open += 1;
        self.stats.clients_peak = self.stats.clients_peak.max(self.counts.open as u64);
        self.listeners[self.cold[id.key as usize].listener as usize].clients += 1;
        self.rearm(id.key);
        debug!("opened peer={} token={:.8}", self.peer(id.key), identity.token);
        Ok(())
    }

    fn check_room(&mut self, identity: &Identity<'_>) -> Result<(), Reject> {
        // Earlier broadcasts are not for this client: they are handed out before it counts as open.
        self.settle();
        let limits = &self.settings.limits;
        let user_bytes = identity.user.map_or(0, str::len);
        if identity.token.len() > self.tokens.name_bytes_max() || user_bytes > USER_BYTES_MAX {
            return Err(Reject::Cookies("bad_token")); // only a handler of one's own can cause it
        }
        if self.draining {
            return Err(Reject::Draining);
        }
        if self.tokens.of(identity.token.as_bytes()).count() >= limits.connections_per_token as usize {
            return Err(Reject::TooManyToken);
        }
        if let (Some(users), Some(user)) = (&self.users, identity.user) {
            if users.of(user.as_bytes()).count() >= limits.connections_per_user as usize {
                return Err(Reject::TooManyUser);
            }
        }
        if self.counts.open >= limits.clients.unwrap_or(usize::MAX) {
            return Err(Reject::Full);
        }
        Ok(())
    }

    /// Notes the visitor's address when a trusted proxy tells it.
    pub(crate) fn note_forwarded(&mut self, id: ClientId, request: &Request<'_>) {
        let trusted = &self.settings.trusted_proxies;
        let cold = &mut self.cold[id.key as usize];
        if trusted.iter().any(|network| network.contains(cold.peer)) {
            if let Some(peer) = forwarded(trusted, request) {
                cold.peer = peer;
            }
        }
    }

    /// Answers a handshake with a complete response instead of 101, and lets the peer read it.
    pub(crate) fn refuse(&mut self, id: ClientId, reject: Reject) {
        if !self.is_handshaking(id) {
            return;
        }
        self.stats.refuse(reject.rule());
        let address = &self.listeners[self.cold[id.key as usize].listener as usize].address;
        info!(
            "refused rule={} status={} peer={} listener={address}",
            reject.rule(),
            reject.status(),
            self.peer(id.key)
        );
        self.answer(id, &reject.response());
    }

    /// A request was answered by the handler: in the counters it stands with the refused.
    pub(crate) fn count_answer(&mut self) {
        self.stats.refuse("answered");
    }

    /// Sends an HTTP response to a request that is not to become a WebSocket; the connection ends.
    pub(crate) fn answer(&mut self, id: ClientId, response: &[u8]) {
        if !self.is_handshaking(id) {
            return;
        }
        let until = self.close_deadline();
        self.clients[id.key as usize].state = State::Lingering { until };
        self.counts.waiting -= 1;
        self.counts.closing += 1;
        self.queue_response(id.key, response);
        self.rearm(id.key);
    }

    /// An HTTP response: one unit, not frames.
    fn queue_response(&mut self, key: u32, response: &[u8]) {
        let range = self.spool.append_bytes(Lane::Private, response);
        self.spool.hold(range.segment, 1);
        self.clients[key as usize].outbox.push_opaque(range);
        self.queue_flush(key);
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
