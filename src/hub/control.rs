//! The hub's side of the control connections: replies to flush, and how a conversation ends.
//!
//! It never decodes a command (dispatch does). Invariant: a backend with replies that can be sent stands
//! in `queue`.

use super::Hub;
use crate::peer::backend::State;
use crate::wire::command::Rules;
use std::collections::VecDeque;

/// Backends to flush.
#[derive(Debug, Default)]
pub(super) struct Replies {
    pub(super) queue: VecDeque<u32>,
}

impl Hub {
    pub(crate) fn control_rules(&self) -> Rules {
        Rules {
            token_length: self.settings.auth.token_length,
            payload_bytes_max: self.settings.limits.control_payload_bytes,
        }
    }

    /// No whole command is left. After the end of the input it is the end of the conversation.
    pub(crate) fn all_executed(&mut self, key: u32) {
        let backend = &mut self.backends[key as usize];
        backend.unfinished = false;
        if backend.eof {
            self.finish_backend(key);
        }
    }

    /// A sign of life: bytes came.
    pub(crate) fn backend_heard(&mut self, key: u32, bytes: usize) {
        if bytes > 0 {
            let backend = &mut self.backends[key as usize];
            backend.heard = self.now.tick();
            // The next ping may be due before what the wheel waits for.
            if std::mem::take(&mut backend.pinged) {
                self.rearm_backend(key);
            }
        }
    }

    /// Whether so many replies wait that no more commands are taken: the backend does not read them.
    pub(crate) fn owes_replies(&self, key: u32) -> bool {
        self.backends[key as usize].waiting().len() >= self.settings.limits.control_outbox_bytes
    }

    /// Whether an open client carries this token.
    pub(crate) fn has_token(&self, token: &[u8]) -> bool {
        self.tokens.first(token).is_some()
    }

    /// What `m` answers: the domain of the listener with the fewest clients, or its address.
    pub(crate) fn freest(&self) -> String {
        let freest = self.listeners.iter().min_by_key(|listener| listener.clients);
        freest.map_or_else(String::new, |l| l.domain.clone().unwrap_or_else(|| l.address.clone()))
    }

    /// The conversation is over: what is queued goes out, then the connection ends.
    pub(crate) fn finish_backend(&mut self, key: u32) {
        self.lose_lock(key);
        self.backends[key as usize].state = State::Ending;
        self.queue_backend(key);
        self.rearm_backend(key);
    }

    pub(crate) fn queue_backend(&mut self, key: u32) {
        let backend = &mut self.backends[key as usize];
        if !backend.queued {
            backend.queued = true;
            self.replies.queue.push_back(key);
        }
    }

    pub(crate) fn has_replies(&self) -> bool {
        !self.replies.queue.is_empty()
    }

    /// The next backend that may have replies to send.
    pub(crate) fn next_reply(&mut self) -> Option<u32> {
        loop {
            let key = self.replies.queue.pop_front()?;
            let Some(backend) = self.backends.get_mut(key as usize) else { continue };
            if std::mem::take(&mut backend.queued) && backend.state != State::Gone {
                return Some(key);
            }
        }
    }

    /// The peer's side is shut down; what it sent before is still to be executed.
    pub(crate) fn backend_eof(&mut self, key: u32) {
        self.backends[key as usize].eof = true;
        self.queue_backend(key);
    }

    /// Whether it has commands to execute, or its end to act on, without more input.
    pub(crate) fn has_commands(&self, key: u32) -> bool {
        let backend = &self.backends[key as usize];
        backend.state == State::Open && (backend.unfinished || backend.eof)
    }

    /// Whether no more input is to be read now.
    pub(crate) fn is_paused(&self, key: u32) -> bool {
        self.owes_replies(key) || self.backends[key as usize].state == State::Gone
    }

    /// With its replies out: whether the connection is over.
    pub(crate) fn backend_is_over(&mut self, key: u32, eof: bool) -> bool {
        let over = match self.backends[key as usize].state {
            State::Open | State::Gone => false,
            State::Ending | State::Lingering { .. } => eof || self.draining,
        };
        if !over && self.backends[key as usize].state == State::Ending {
            let until = self.close_deadline();
            self.backends[key as usize].state = State::Lingering { until };
            self.rearm_backend(key);
        }
        over
    }

    pub(crate) fn backend_lingers(&self, key: u32) -> bool {
        matches!(self.backends[key as usize].state, State::Lingering { .. })
    }

    pub(crate) fn backend_chunk(&self, key: u32) -> &[u8] {
        self.backends[key as usize].waiting()
    }

    /// The kernel took `sent` bytes of replies. While commands wait for that, or after the last one, it is
    /// the only sign of life there can be; else it is none: the kernel takes our ping from a dead peer too.
    pub(crate) fn backend_sent(&mut self, key: u32, sent: usize) {
        let now = self.now.tick();
        let backend = &mut self.backends[key as usize];
        backend.consume(sent);
        if backend.unfinished || backend.state != State::Open {
            backend.heard = backend.heard.max(now);
        }
    }
}
