//! Input of clients: decoded one message at a time, control frames answered.
//!
//! It never stores a message (the decoder does) and never looks into one. Invariant: no input of a client is decoded
//! after the client broke the protocol.

use super::{Hub, Leave};
use crate::key::ClientKey;
use crate::peer::client::{Client, ClientId, Messages, State};
use crate::roster::Heard;
use crate::rule::Rule;
use crate::wire::frame::{CloseCode, Event};
use log::info;
use std::cmp::Reverse;

impl Hub {
    /// Bytes came: the client is alive. [`Heard::Stranger`] while it is in its handshake.
    #[inline]
    pub(crate) fn heard(&mut self, id: ClientId, bytes: usize) -> Heard {
        let heard = self.floor.hear(id, self.now);
        self.stats.bytes_in += bytes as u64;
        heard
    }

    /// Decodes the next message of `input`, and answers control frames itself. `None`: all is used, or the
    /// connection is not one that sends messages (any more).
    #[inline(always)]
    pub(crate) fn receive<'b>(&mut self, id: ClientId, input: &mut &'b mut [u8]) -> Option<Event<'b>> {
        while !input.is_empty() {
            let message_bytes_max = self.rules.limits.message_bytes;
            let (decoder, messages, held) = self.floor.decoder(id)?;
            match decoder.decode_counted(input, message_bytes_max, held) {
                Ok(None) => {
                    self.relieve_input();
                    return None;
                }
                Ok(Some(message @ (Event::Text(_) | Event::Binary(_)))) => {
                    if messages == Messages::Wanted {
                        self.stats.messages_in += 1;
                        return Some(message);
                    }
                }
                Ok(Some(control)) => self.answer_control(id, &control),
                Err(error) => self.settled().fail(id.key, error),
            }
        }
        None
    }

    /// The stream of a client keeps another number of bytes than before.
    pub(crate) fn note_stream(&mut self, key: ClientKey, before: usize, now: usize) {
        self.floor.note_stream(key, before, now);
        self.relieve_input();
    }

    /// Over `limits.received`, connections whose heads or messages are not complete are closed until seven eighths of it
    /// are kept: those without a login first, then those that have most. So a look at all of them is paid by an eighth.
    pub(crate) fn relieve_input(&mut self) {
        let received_bytes_max = self.rules.limits.received_bytes;
        if self.roster().input_bytes() <= received_bytes_max {
            return;
        }
        let weight = |client: &Client| client.input_bytes() + client.stream_bytes();
        let all = self.roster().iter().map(|(key, client)| (client.was_open(), Reverse(weight(client)), key));
        let mut kept: Vec<(bool, Reverse<usize>, ClientKey)> =
            all.filter(|(_, bytes, _)| bytes.0 > 0).collect();
        kept.sort_unstable();
        for (was_open, Reverse(bytes), key) in kept {
            if self.roster().input_bytes() <= received_bytes_max / 8 * 7 {
                break;
            }
            info!("input_dropped bytes={bytes} login={was_open} peer={}", self.roster().peer(key));
            let _ = self.settled(); // the hand-out may close the client
            match self.roster().get(key).map(Client::state) {
                Some(State::Handshaking { .. }) => self.settled().vanish(key, Rule::ReceivedFull),
                Some(State::Open { .. }) => {
                    let how = Leave::Dismissed(CloseCode::TRY_AGAIN_LATER, "server is full");
                    self.settled().leave(key, how);
                }
                _ => self.settled().lose(key),
            }
        }
    }

    #[inline(never)]
    fn answer_control(&mut self, id: ClientId, event: &Event<'_>) {
        match event {
            Event::Ping(payload) => self.floor.pong(id.key, payload),
            Event::Close(code) => self.settled().close_received(id.key, *code),
            Event::Pong(payload) => self.pong_received(id, payload),
            Event::Text(_) | Event::Binary(_) => {}
        }
    }

    /// Whether bytes wait that end the conversation: they go out although the peer says no more.
    pub(crate) fn has_last_words(&self, id: ClientId) -> bool {
        self.floor.has_last_words(id)
    }

    /// The peer shut its side down, or the connection is broken.
    pub(crate) fn client_lost(&mut self, id: ClientId) {
        if self.roster().find(id).is_some() {
            self.settled().lose(id.key);
        }
    }
}
