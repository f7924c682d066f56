//! One control connection as plain data: input not yet executed, replies not yet sent, the held lock.
//!
//! It never executes a command (dispatch does) and never touches a socket. Replies are bytes of its own:
//! a backend's answers are short and nobody shares them. Invariant: `input` holds more than a part of one
//! frame only while the backend waits for its turn or for its replies to be read.

use crate::clock::Tick;
use crate::config::Timeouts;
use crate::peer::client::ClientId;
use crate::wire::command::{self, Reply};
use crate::wire::frame::Kind;
use crate::wire::frame::utf8::Validator;

/// Where the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Commands are read and executed.
    Open,
    /// It said all it wanted, or quit: what is read is executed, the replies go out, then it ends.
    Ending,
    /// All is said, a protocol error perhaps: our side is shut down and input is discarded until theirs is.
    Lingering { until: Tick },
    /// Nothing more happens; the slot is on the list to be reaped.
    Gone,
}

/// The one fragmented message a backend may be sending.
#[derive(Debug)]
pub(crate) struct Lock {
    /// Locked clients. Those that are gone stay in the list as stale ids.
    pub(crate) clients: Vec<ClientId>,
    /// The kind of the message, once its first fragment is queued.
    pub(crate) kind: Option<Kind>,
    /// UTF-8 over all fragments so far.
    pub(crate) text: Validator,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Backend {
    /// Bytes read and not executed.
    pub(crate) input: Vec<u8>,
    /// There may be whole commands in `input`: its share of a turn was used up, or its replies pile up.
    pub(crate) unfinished: bool,
    replies: Vec<u8>,
    sent: usize,
    pub(crate) state: State,
    pub(crate) lock: Option<Lock>,
    /// When it last gave a sign of life: bytes sent, or replies taken.
    pub(crate) heard: Tick,
    pub(crate) pinged: bool,
    /// Its side of the connection is shut down.
    pub(crate) eof: bool,
    /// It has closed its side for replies.
    deaf: bool,
    /// It stands in the queue of backends with replies.
    pub(crate) queued: bool,
}

/// What a backend's deadline is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Silent: ask for a sign of life.
    Ping,
    /// Silent since the ping, or not reading our last words.
    Dead,
    /// Silent while it holds a lock.
    Lock,
}

impl Backend {
    pub(crate) fn new(now: Tick) -> Self {
        Self {
            input: Vec::new(),
            unfinished: false,
            replies: Vec::new(),
            sent: 0,
            state: State::Open,
            lock: None,
            heard: now,
            pinged: false,
            eof: false,
            deaf: false,
            queued: false,
        }
    }

    pub(crate) fn reply(&mut self, reply: Reply<'_>) {
        if !self.deaf {
            command::append_reply(&mut self.replies, reply);
        }
    }

    /// It takes no replies any more. What it sent before is still executed: it may write and close at once.
    pub(crate) fn go_deaf(&mut self) {
        (self.deaf, self.replies, self.sent) = (true, Vec::new(), 0);
    }

    /// Replies that wait to be sent.
    pub(crate) fn waiting(&self) -> &[u8] {
        &self.replies[self.sent..]
    }

    /// The peer took the first `sent` bytes of [`waiting`](Self::waiting).
    pub(crate) fn consume(&mut self, sent: usize) {
        self.sent += sent;
        debug_assert!(self.sent <= self.replies.len(), "no more is sent than was queued");
        if self.sent < self.replies.len() {
            // A backend that is always a little behind never empties it. What is out is given back before
            // it outweighs what waits, so a byte is moved once.
            if self.sent > self.replies.len() / 2 {
                self.replies.drain(..self.sent);
                self.sent = 0;
            }
            return;
        }
        self.sent = 0;
        self.replies.clear();
        if self.replies.capacity() > REPLIES_KEPT {
            self.replies = Vec::new();
        }
    }

    /// Whether it has commands to execute, or its end to act on, without more input.
    pub(crate) fn has_commands(&self) -> bool {
        self.state == State::Open && (self.unfinished || self.eof)
    }

    pub(crate) fn lingers(&self) -> bool {
        matches!(self.state, State::Lingering { .. })
    }

    /// What is due next, and when.
    pub(crate) fn next_due(&self, timeouts: &Timeouts) -> Option<(u64, Due)> {
        let heard_ms = self.heard.ms();
        let silence = match self.state {
            State::Gone => return None,
            State::Lingering { until } => return Some((until.ms(), Due::Dead)),
            State::Open if !self.pinged => (heard_ms + timeouts.control_ms, Due::Ping),
            State::Open | State::Ending => (heard_ms + 2 * timeouts.control_ms, Due::Dead),
        };
        let lock_ms = heard_ms + timeouts.lock_ms;
        Some(if self.lock.is_some() && lock_ms < silence.0 { (lock_ms, Due::Lock) } else { silence })
    }
}

/// A buffer of replies larger than this is given back when it is empty: one burst must not stay for ever.
const REPLIES_KEPT: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_that_are_out_are_given_back_although_some_always_wait() {
        let mut backend = Backend::new(Tick::at(0));
        backend.reply(Reply::Ack(b"token"));
        for _ in 0..100_000 {
            backend.reply(Reply::Ack(b"token"));
            backend.consume(7);
            assert_eq!(backend.waiting(), b"5Atoken");
        }
        assert!(backend.replies.capacity() < 1000, "{} bytes are kept", backend.replies.capacity());
    }
}
