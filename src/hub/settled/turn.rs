//! The floor's side of a turn: input, flush, deadlines, reaping. Nothing here delivers a message or lets a
//! client in or out; where that is due, the caller learns it and asks for a [`Settled`](super::Settled).
//!
//! Invariant: only queued clients are flushed; nothing is dropped here.

use super::{Floor, Hub};
use crate::clock::Now;
use crate::delivery::{Keep, Line, Outbox, Sink, Spool, Written};
use crate::key::ClientKey;
use crate::peer::client::{Client, ClientId, Due, Messages, State};
use crate::roster::Heard;
use crate::wire::frame::{Decoder, Opcode};
use crate::wire::http::forwarded::PeerAddr;

/// The driver's next step with a client once bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Nothing more waits.
    Idle,
    /// More waits.
    More,
    /// All is out and our side is to be shut down.
    ShutDown,
    /// All is out and the connection is over.
    End,
}

impl Hub {
    /// Lets `write` offer the bytes that wait for a queued client to the kernel, and takes note of those that it
    /// took. Returns whether these were all, and the next step.
    #[inline(always)]
    pub(crate) fn flush_client<E>(
        &mut self,
        key: ClientKey,
        line: Line,
        write: impl FnOnce(&Outbox, &Spool) -> Result<Written, E>,
    ) -> Result<(bool, After), E> {
        let Floor { roster, delivery, .. } = &mut self.floor;
        let Some((mail, state)) = roster.unqueue(key, line) else { return Ok((true, After::Idle)) };
        let Written { sent, all } = delivery.flush(key, mail, self.now, write)?;
        self.stats.bytes_out += sent as u64;
        // Nearly always: an open client took everything.
        if mail.is_idle() && matches!(state, State::Open { .. }) {
            return Ok((all, After::Idle));
        }
        Ok((all, self.floor.after_flush(key)))
    }

    /// The same for an open client that is behind in nothing and has one range to be sent: nearly always. None, and nothing
    /// happened, when this is another.
    #[inline(always)]
    pub(crate) fn flush_plain<S: Sink>(
        &mut self,
        key: ClientKey,
        line: Line,
        sink: &mut S,
    ) -> Option<Result<(bool, After), S::Error>> {
        let Floor { roster, delivery, .. } = &mut self.floor;
        let mail = roster.receiving(key).filter(|mail| mail.is_queued(line))?;
        let (Written { sent, all }, is_out) = match delivery.flush_only(mail, line, sink)? {
            Ok(written) => written,
            Err(error) => return Some(Err(error)),
        };
        self.stats.bytes_out += sent as u64;
        Some(Ok(if is_out { (true, After::Idle) } else { (all, After::More) }))
    }

    /// One client to be reaped, and whether the handler is to hear of its end.
    pub(crate) fn next_gone(&mut self) -> Option<(ClientId, bool)> {
        let id = self.floor.roster.next_gone()?;
        Some((id, self.floor.roster.find(id).is_some_and(Client::was_open)))
    }
}

impl Floor {
    // Arrival.

    pub(crate) fn add(&mut self, listener: usize, peer: PeerAddr, sender: Option<u64>, now: Now) -> ClientId {
        self.roster.add(listener, peer, sender, now)
    }

    pub(crate) fn set_peer(&mut self, key: ClientKey, peer: PeerAddr) {
        self.roster.set_peer(key, peer);
    }

    pub(crate) fn introduce(&mut self, key: ClientKey, visitor: PeerAddr, sender: Option<u64>) {
        self.roster.introduce(key, visitor, sender);
    }

    pub(crate) fn oldest_stranger(&mut self) -> Option<ClientId> {
        self.roster.oldest_stranger()
    }

    pub(crate) fn keep_head(&mut self, id: ClientId, input: &[u8]) {
        self.roster.keep_head(id, input);
    }

    pub(crate) fn take_head(&mut self, id: ClientId) -> Vec<u8> {
        self.roster.take_head(id)
    }

    pub(crate) fn oldest_refused(&mut self) -> Option<ClientId> {
        self.roster.oldest_refused()
    }

    // Input.

    /// The stream of a client keeps another number of bytes than before: with the input of strangers while its request is
    /// awaited, with the queued bytes after that.
    pub(crate) fn note_stream(&mut self, key: ClientKey, before: usize, now: usize) {
        if !self.roster.set_stream_bytes(key, now) {
            self.delivery.note_stream(before, now);
        }
    }

    #[inline]
    pub(crate) fn hear(&mut self, id: ClientId, now: Now) -> Heard {
        self.roster.hear(id, now)
    }

    #[inline(always)]
    pub(crate) fn decoder(&mut self, id: ClientId) -> Option<(&mut Decoder, Messages, &mut usize)> {
        self.roster.decoder(id)
    }

    /// Answers a ping of an open client.
    pub(crate) fn pong(&mut self, key: ClientKey, payload: &[u8]) {
        if let Some(mail) = self.roster.receiving(key) {
            self.delivery.pong(key, mail, payload);
        }
    }

    // Deadlines.

    #[inline]
    pub(crate) fn next_deadline_ms(&self) -> u64 {
        self.roster.next_deadline_ms()
    }

    pub(crate) fn pop_due(&mut self, now: Now) -> Option<(ClientKey, Option<Due>)> {
        self.roster.pop_due(now)
    }

    /// Asks a silent client for a sign of life.
    pub(crate) fn ping(&mut self, key: ClientKey, now: Now) {
        if let Some(mail) = self.roster.mail(key) {
            self.delivery.control(key, mail, Opcode::Ping, b"");
            self.roster.ping(key, now);
        }
    }

    /// It is not to be judged silent: for a time it was not listened to.
    pub(crate) fn excuse(&mut self, key: ClientKey, now: Now) {
        self.roster.excuse(key, now);
    }

    /// Whether the tab can go on with another connection, without a gap.
    pub(crate) fn can_come_back(&self, key: ClientKey) -> bool {
        // What waits for a tab that is away is bounded as it comes.
        let is_whole = |client: &Client| client.mail.keep().is_some_and(Keep::is_whole);
        self.roster.get(key).is_some_and(|client| match client.is_away() {
            true => is_whole(client),
            false => self.delivery.can_come_back(&client.mail),
        })
    }

    /// A tab has had nothing to confirm with for a second: it is asked.
    pub(crate) fn ask_to_confirm(&mut self, key: ClientKey, now: Now) {
        if let Some(mail) = self.roster.mail(key) {
            self.delivery.ask_to_confirm(key, mail, now.tick());
            self.roster.rearm(key);
        }
    }

    /// A pong came that covers the pings up to this number.
    pub(crate) fn confirm(&mut self, key: ClientKey, number: u64, now: Now) {
        if let Some(mail) = self.roster.receiving(key) {
            if self.delivery.confirm(key, mail, number, now.tick()) {
                self.ask_to_confirm(key, now);
            }
        }
    }

    // Connections that belong to other keys.

    #[inline]
    pub(crate) fn has_moves(&self) -> bool {
        self.roster.has_moves()
    }

    pub(crate) fn next_move(&mut self) -> Option<(ClientKey, ClientKey)> {
        self.roster.next_move()
    }

    // The flush.

    /// The client that is closed first when memory runs out.
    pub(crate) fn furthest_behind(&self) -> Option<ClientKey> {
        self.delivery.furthest_behind()
    }

    /// Clients that have no room for this many bytes more, about.
    pub(crate) fn without_room(&self, bytes: usize) -> impl Iterator<Item = &Client> {
        self.delivery.without_room(bytes).filter_map(|key| self.roster.get(key))
    }

    #[inline]
    pub(crate) fn queue(&mut self, line: Line, key: ClientKey) {
        if let Some(mail) = self.roster.mail(key) {
            self.delivery.queue(line, key, mail);
        }
    }

    pub(crate) fn has_flush(&self) -> bool {
        self.delivery.has_flush()
    }

    #[inline]
    pub(crate) fn queued(&self, line: Line) -> usize {
        self.delivery.queued(line)
    }

    pub(crate) fn take_queued(&mut self, line: Line, max: usize, keys: &mut Vec<ClientKey>) {
        self.delivery.take_queued(line, max, keys);
    }

    #[inline]
    pub(crate) fn take_only(&mut self, line: Line) -> Option<ClientKey> {
        self.delivery.take_only(line)
    }

    /// The kernel takes no more: from now on the client may be stalled.
    pub(crate) fn blocked(&mut self, key: ClientKey, now: Now) {
        let Some(mail) = self.roster.mail(key) else { return };
        let is_new = self.delivery.blocked(key, mail, now.tick());
        if is_new && self.roster.get(key).is_some_and(Client::is_connected) {
            self.roster.stalled(key, now);
        }
    }

    /// The next step with a client when no more can be written now.
    #[inline(never)]
    pub(crate) fn after_flush(&mut self, key: ClientKey) -> After {
        self.roster.arm_again(key);
        let Some(client) = self.roster.get(key) else { return After::Idle };
        match client.state() {
            _ if !client.mail.outbox().is_empty() => After::More,
            State::Lingering { .. } => After::ShutDown,
            State::Finishing { .. } => After::End,
            _ if client.mail.owes_pong() => self.pay_pong(key),
            _ => After::Idle,
        }
    }

    #[inline(never)]
    fn pay_pong(&mut self, key: ClientKey) -> After {
        if let Some(mail) = self.roster.receiving(key) {
            self.delivery.pay_pong(key, mail);
        }
        After::Idle
    }

    /// Nothing goes out to a client that is open, its 101 neither, before it is [released](Self::release).
    pub(crate) fn hold(&mut self, id: ClientId) {
        if self.roster.find(id).is_none() {
            return;
        }
        if let Some(mail) = self.roster.mail(id.key) {
            mail.withhold(true);
        }
    }

    /// All that waits for a client may go out.
    pub(crate) fn release(&mut self, id: ClientId) {
        let Some(is_away) = self.roster.find(id).map(Client::is_away) else { return };
        if let Some(mail) = self.roster.mail(id.key) {
            mail.withhold(false);
            // A tab that is away has no connection to be flushed.
            if !is_away {
                self.delivery.queue(Line::Urgent, id.key, mail);
            }
        }
    }

    /// Whether bytes wait that end the conversation: they go out although the peer says no more.
    pub(crate) fn has_last_words(&self, id: ClientId) -> bool {
        self.roster.find(id).is_some_and(|client: &Client| {
            let last = matches!(client.state(), State::Lingering { .. } | State::Finishing { .. });
            last && !client.mail.outbox().is_empty()
        })
    }

    // The end.

    pub(crate) fn remove(&mut self, id: ClientId) {
        self.roster.remove(id);
    }

    /// Shrinks the tables if they are sparse; returns how many slots there are then.
    pub(crate) fn shrink(&mut self, slots_min: usize) -> Option<usize> {
        let keys = self.roster.shrink(slots_min)?;
        self.full = Vec::new();
        self.selection.shrink();
        self.delivery.shrink();
        Some(keys)
    }
}
