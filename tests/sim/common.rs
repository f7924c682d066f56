//! The state that browsers and backends of a world share: the messages ever sent, and the moment.

use crate::net::Shared;
use crate::plan::Plan;
use crate::rng::Rng;
use std::collections::BTreeMap;
use wsson::testing::timers::Now;

/// The sender of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    Browser(usize),
    Backend(usize),
}

/// Its receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    All,
    Token(usize),
    Browser(usize),
    AllBut(usize),
    /// The one group that there is.
    Group,
}

/// Whether a login is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Revoked {
    No,
    /// A backend has asked for it, and has no answer yet.
    Perhaps,
    Yes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Unknown,
    /// The server said that it took it.
    Acked,
    /// The server said that no client was there to take it.
    Refused,
}

/// A message, named by its number, which its first eight bytes tell.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) from: Party,
    pub(crate) target: Target,
    pub(crate) text: bool,
    pub(crate) bytes: Vec<u8>,
    /// Bytes that its frames have in front of that, at most.
    pub(crate) headers: usize,
    /// When it began to be sent.
    pub(crate) step: usize,
    pub(crate) fate: Fate,
    /// Whether all of it was sent.
    pub(crate) whole: bool,
}

impl Message {
    /// Bytes that it takes in the outbox of each client that it is for; a browser's own come back only on its wish.
    pub(crate) fn waits(&self) -> usize {
        let comes = matches!(self.from, Party::Backend(_)) || matches!(self.bytes.get(8), Some(b'e' | b'b'));
        if comes { self.bytes.len() + self.headers } else { 0 }
    }
}

/// An actor's view of its world.
pub(crate) struct Context<'w> {
    pub(crate) rng: &'w mut Rng,
    pub(crate) net: &'w Shared,
    pub(crate) messages: &'w mut Vec<Message>,
    pub(crate) plan: &'w Plan,
    pub(crate) now: Now,
    pub(crate) step: usize,
    /// How often the wall clock jumped.
    pub(crate) jumps: usize,
    /// Browsers so far.
    pub(crate) crowd: usize,
    /// The server has as many sockets as it may.
    pub(crate) full: bool,
    pub(crate) draining: bool,
    /// Bytes in all messages so far.
    pub(crate) bytes: &'w mut usize,
    /// Bytes that backends broadcast.
    pub(crate) broadcast_bytes: &'w mut usize,
    /// The last message of each that is known to have gone through the server. What comes before it has as well.
    pub(crate) executed: &'w mut BTreeMap<Party, usize>,
    /// Tokens that were ever locked.
    pub(crate) locked: &'w mut [bool],
    /// How far the revocation of each token has come.
    pub(crate) revoked: &'w mut [Revoked],
    /// Tokens that a backend has ever put into the group, and those that it has kicked.
    pub(crate) joined: &'w mut [bool],
    pub(crate) kicked: &'w mut [bool],
    /// The faults are over: nothing new is begun.
    pub(crate) healing: bool,
}

impl Context<'_> {
    /// A new message with content of its own; `op` tells the application what to do with it.
    pub(crate) fn compose(&mut self, from: Party, target: Target, op: u8, text: bool, len: usize) -> usize {
        let number = self.messages.len();
        let mut bytes = format!("{number:08x}").into_bytes();
        bytes.push(op);
        let tail = len.saturating_sub(bytes.len());
        bytes.extend(if text { self.text(tail) } else { self.binary(tail) });
        *self.bytes += bytes.len() + 14;
        let (step, fate) = (self.step, Fate::Unknown);
        self.messages.push(Message { from, target, text, bytes, headers: 14, step, fate, whole: true });
        number
    }

    /// A browser got this message, or a backend its outcome.
    pub(crate) fn executed(&mut self, number: usize) {
        let last = self.executed.entry(self.messages[number].from).or_default();
        *last = number.max(*last);
    }

    pub(crate) fn text(&mut self, len: usize) -> Vec<u8> {
        let words =
            ["a", "z{}\"", "\u{e9}", "\u{20ac}", "\u{1f600}", "0123456789", "lorem ipsum dolor sit amet "];
        let mut out = String::new();
        while out.len() < len {
            let long = len - out.len() > 2000;
            out.push_str(&if long { "long text ".repeat(150) } else { self.rng.pick(&words).to_owned() });
        }
        out.into_bytes()
    }

    fn binary(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = self.rng.next().to_le_bytes().repeat(len.div_ceil(8));
        bytes.truncate(len);
        bytes
    }

    pub(crate) fn size(&mut self) -> usize {
        self.rng.pick(self.plan.sizes)
    }
}
