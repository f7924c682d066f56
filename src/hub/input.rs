//! What clients send: decoded one message at a time, control frames answered.
//!
//! It never stores a message (the decoder does) and never looks into one. Invariant: nothing of a client's is decoded
//! after it broke the protocol.

use super::Hub;
use crate::peer::client::{ClientId, Messages};
use crate::roster::Heard;
use crate::wire::frame::Event;

impl Hub {
    /// Bytes came: the client is alive. [`Heard::Stranger`] while it is in its handshake.
    #[inline]
    pub(crate) fn heard(&mut self, id: ClientId, bytes: usize) -> Heard {
        self.stats.bytes_in += bytes as u64;
        self.floor.hear(id, self.now)
    }

    /// Decodes the next message of `input`, and answers control frames itself. `None`: all is used, or the
    /// connection is not one that sends messages (any more).
    #[inline(always)]
    pub(crate) fn receive<'b>(&mut self, id: ClientId, input: &mut &'b mut [u8]) -> Option<Event<'b>> {
        while !input.is_empty() {
            let message_bytes_max = self.rules.limits.message_bytes;
            let (decoder, messages) = self.floor.decoder(id)?;
            match decoder.decode(input, message_bytes_max) {
                Ok(None) => return None,
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

    #[inline(never)]
    fn answer_control(&mut self, id: ClientId, event: &Event<'_>) {
        match event {
            Event::Ping(payload) => self.floor.pong(id.key, payload),
            Event::Close(code) => self.settled().close_received(id.key, *code),
            Event::Pong | Event::Text(_) | Event::Binary(_) => {}
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
