//! One control connection as plain data: input not yet executed, replies not yet sent, the held lock.
//!
//! It never executes a command (dispatch does) and never touches a socket. Invariant: `input` holds more than a part of one
//! frame only while the backend waits for its turn or for its replies to be read.

use crate::clock::Tick;
use crate::config::Timeouts;
use crate::peer::client::ClientId;
use crate::peer::exchange::Exchange;
use crate::peer::replies::Replies;
use crate::peer::worker::{Format, Worker};
use crate::wire::frame::Kind;
use crate::wire::frame::utf8::Validator;
use core::net::IpAddr;

/// The state of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Commands are read and executed.
    Open,
    /// It shut its side down, or quit: the commands that were read are executed, the replies go out, then it ends.
    Ending,
    /// All is said, a protocol error perhaps: our side is shut down and input is discarded until theirs is.
    Lingering { until: Tick },
    /// Nothing more happens; the slot is on the list to be reaped.
    Gone,
}

/// The kind of program at the other end, as far as it has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It may be any program on this host or beyond that an attacker made send these bytes: a browser, a library
    /// that was given a URL. Its first bytes are looked at more closely.
    Network,
    /// It opened a Unix socket, or its first bytes were frames.
    Trusted,
    /// It was one too many: it gets a reply that says so, and no other.
    Refused,
}

/// How it stands to the control key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ControlKey {
    /// None is asked for here.
    Needless,
    /// It came at this moment and has not shown it.
    Awaited { since: Tick },
    /// It has.
    Shown,
}

/// What it speaks, for its whole life: its first byte decides.
#[derive(Debug)]
pub(crate) enum Speech {
    /// It has said nothing.
    Unknown,
    /// The frames of COMMANDS.md.
    Frames,
    /// HTTP (docs/http.md): the request that arrives.
    Http(Box<Exchange>),
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
    pub(crate) origin: Origin,
    /// Where it connects from; none for a Unix socket.
    pub(crate) address: Option<IpAddr>,
    pub(crate) control_key: ControlKey,
    pub(crate) speech: Speech,
    /// Bytes read and not executed.
    pub(crate) input: Vec<u8>,
    /// There may be whole commands in `input`: its share of a turn was used up, or its replies pile up.
    pub(crate) unfinished: bool,
    pub(crate) replies: Replies,
    /// The memory that it held at the last count.
    pub(crate) counted_bytes: usize,
    /// What its stream keeps between the socket and the driver, as TLS does.
    pub(crate) stream_bytes: usize,
    pub(crate) state: State,
    pub(crate) lock: Option<Lock>,
    /// What it is as a worker, while it is told events.
    pub(crate) worker: Option<Box<Worker>>,
    /// When it last gave a sign of life: bytes sent, or replies taken.
    pub(crate) heard: Tick,
    /// When it was asked for a sign of life, while none came since.
    pub(crate) pinged: Option<Tick>,
    /// Its side of the connection is shut down.
    pub(crate) eof: bool,
    /// It has closed its side for replies.
    deaf: bool,
    /// It is in the queue of backends with replies.
    pub(crate) queued: bool,
}

/// The reason of a backend's deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Silent: ask for a sign of life.
    Ping,
    /// Silent since the ping, or not reading our last words.
    Dead,
    /// It has not shown the key.
    Keyless,
    /// Silent while it holds a lock.
    Lock,
    /// It takes none of the events that wait for it, or confirms none.
    Stuck,
}

/// A place waits no longer than this for its answer: twice the longest that browsers or other nodes are given.
const WAIT_MS_MAX: u64 = 60_000;
const _: () = assert!(2 * crate::config::ARRIVAL_MS_MAX <= WAIT_MS_MAX);

impl Backend {
    pub(crate) fn new(origin: Origin, address: Option<IpAddr>, control_key: ControlKey, now: Tick) -> Self {
        Self {
            origin,
            address,
            control_key,
            speech: Speech::Unknown,
            input: Vec::new(),
            unfinished: false,
            replies: Replies::default(),
            counted_bytes: 0,
            stream_bytes: 0,
            state: State::Open,
            lock: None,
            worker: None,
            heard: now,
            pinged: None,
            eof: false,
            deaf: false,
            queued: false,
        }
    }

    /// It takes no replies any more. Its earlier commands are still executed: it may write and close at once.
    pub(crate) fn go_deaf(&mut self) {
        (self.deaf, self.replies) = (true, Replies::default());
    }

    /// Memory that is kept for it.
    pub(crate) fn held_bytes(&self) -> usize {
        let exchange_bytes = match &self.speech {
            Speech::Http(exchange) => exchange.held_bytes(),
            Speech::Unknown | Speech::Frames => 0,
        };
        self.input.capacity() + exchange_bytes + self.replies.held_bytes() + self.stream_bytes
    }

    /// Whether it has to show the key before anything else.
    #[inline]
    pub(crate) fn owes_key(&self) -> bool {
        matches!(self.control_key, ControlKey::Awaited { .. })
    }

    /// Whether its frames need no closer look any more.
    pub(crate) fn is_proven(&self) -> bool {
        self.origin == Origin::Trusted
    }

    /// Whether it speaks HTTP.
    pub(crate) fn speaks_http(&self) -> bool {
        matches!(self.speech, Speech::Http(_))
    }

    /// Whether it asks in HTTP, one response after the other, and the conversation goes on.
    pub(crate) fn asks_in_http(&self) -> bool {
        self.state == State::Open && self.speaks_http() && !self.is_stream()
    }

    /// Whether so many events wait for it that it gets no more messages.
    #[inline]
    pub(crate) fn is_full_worker(&self) -> bool {
        self.worker.as_ref().is_some_and(|worker| worker.full)
    }

    /// Whether it is told events in a response that does not end.
    pub(crate) fn is_stream(&self) -> bool {
        self.worker.as_ref().is_some_and(|worker| worker.format == Format::Lines)
    }

    /// Whether it reads its replies, as far as has shown.
    #[inline]
    pub(crate) fn hears(&self) -> bool {
        !self.deaf
    }

    /// Whether it has commands to execute, or its end to act on, without more input.
    pub(crate) fn has_commands(&self) -> bool {
        self.state == State::Open && (self.unfinished || self.eof)
    }

    pub(crate) fn lingers(&self) -> bool {
        matches!(self.state, State::Lingering { .. })
    }

    /// The next deadline, and its reason.
    pub(crate) fn next_due(&self, timeouts: &Timeouts) -> Option<(u64, Due)> {
        let heard_ms = self.heard.ms();
        let silence = match self.state {
            State::Gone => return None,
            State::Lingering { until } => return Some((until.ms(), Due::Dead)),
            // It never says a word again. A line now and then shows whether its connection still is there.
            State::Open if self.is_stream() => {
                let told = self.pinged.map_or(heard_ms, |since| since.ms().max(heard_ms));
                (told + timeouts.control_ms, Due::Ping)
            }
            // There are no pings in HTTP.
            State::Open if self.speaks_http() && self.replies.waits() => {
                (heard_ms + WAIT_MS_MAX + timeouts.control_ms, Due::Dead)
            }
            State::Open if self.speaks_http() => (heard_ms + timeouts.control_ms, Due::Dead),
            State::Open => match self.pinged {
                None => (heard_ms + timeouts.control_ms, Due::Ping),
                Some(since) => (since.ms().max(heard_ms) + timeouts.control_ms, Due::Dead),
            },
            State::Ending if self.replies.waits() => {
                (heard_ms + WAIT_MS_MAX + timeouts.control_ms, Due::Dead)
            }
            State::Ending => (heard_ms + 2 * timeouts.control_ms, Due::Dead),
        };
        if let (ControlKey::Awaited { since }, State::Open) = (self.control_key, self.state) {
            return Some((since.ms() + timeouts.handshake_ms, Due::Keyless));
        }
        let lock = self.lock.as_ref().map(|_| (heard_ms + timeouts.lock_ms, Due::Lock));
        let behind = self.worker.as_ref().filter(|worker| worker.full || self.replies.event_bytes() > 0);
        let stuck = behind.map(|worker| (worker.taken.ms() + timeouts.worker_ms, Due::Stuck));
        let others = lock.into_iter().chain(stuck);
        Some(others.fold(silence, |nearest, due| if due.0 < nearest.0 { due } else { nearest }))
    }
}
