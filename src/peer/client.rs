//! One browser connection as plain data: where it stands between handshake and end, and when it is due.
//!
//! It never touches a socket and knows no other peer. Every way it can be is a [`State`] with what that
//! state needs inside; what it has yet to send is in `outbox`. Invariant: data frames are queued only
//! while [`Client::accepts_data`] is true, and nothing is queued behind a close frame.
//!
//! Where each byte of an open, silent, authorised connection goes, on a 64-bit target in release:
//!
//! | bytes | what | where |
//! |---|---|---|
//! | 32 | outbox: first range 12, cut 4, length 4, pointer to further ranges 8, padding 4 | `outbox` |
//! | 32 | state; the largest has a `Vec` and a tick, an open one two pointers that are null | here |
//! | 12 | last heard, stalled since, expiry of the login, 4 each | here |
//! | 12 | generation 4, four flags, padding 4 | here |
//! | 22 | peer's address, listener | `hub::Cold` |
//! | 32 | token, once; `auth.token_length` bytes | `hub::index` |
//! | 4 | next client of the same token | `hub::index` |
//! | 6 to 12 | hash table of tokens: 4 and a control byte, 7/16 to 7/8 full | `hub::index` |
//! | 12 | deadline: two neighbours and a tick | `timers` |
//! | 24 | the driver's slot: transport 16, six flags | `driver` |
//!
//! 188 to 194 in all, and no buffer. On top come, once they were needed, 4 in each flush queue and 8 in the
//! queue of newcomers; with `identity = "user"` a second index of stride 64. Asserts guard the records.

use crate::clock::Tick;
use crate::config::Timeouts;
use crate::delivery::outbox::Outbox;
use crate::delivery::spool::Spool;
use crate::wire::frame::Decoder;

/// Names a client. A slot is used again, the generation is not: a stale id is nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientId {
    pub(crate) key: u32,
    pub(crate) generation: u32,
}

/// Where the connection stands.
#[derive(Debug)]
pub(crate) enum State {
    /// The request head is not complete. `head` is what came of it so far.
    Handshaking { head: Vec<u8>, until: Tick },
    /// Messages go both ways.
    Open { decoder: Decoder, rare: Option<Box<Rare>> },
    /// Our close frame is queued or sent, theirs is awaited; their messages are ignored.
    Closing { decoder: Decoder, until: Tick },
    /// The last bytes are queued. Then our side is shut down and input is discarded until theirs is, so
    /// that unread input does not destroy what we sent.
    Lingering { until: Tick },
    /// Both close frames are exchanged: the connection ends when ours is out.
    Finishing { until: Tick },
    /// Nothing more happens; the slot is on the list to be reaped.
    Gone,
}

/// What only few open clients need, so that the others pay eight bytes for it.
#[derive(Debug, Default)]
pub(crate) struct Rare {
    /// Frames held back while a backend sends a fragmented message.
    pub(crate) hold: Option<Hold>,
    /// The newest ping that could not be answered, because the client does not read.
    pub(crate) owed_pong: Option<Vec<u8>>,
}

/// A locked client's waiting room.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) outbox: Outbox,
}

/// What a deadline is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// The request head took too long.
    Handshake,
    /// Silent: ask for a sign of life.
    Ping,
    /// Silent since the ping.
    Dead,
    /// Bytes wait and the kernel took none of them.
    Stalled,
    /// The login is over.
    Expired,
    /// The peer did not finish the closing handshake.
    CloseLate,
}

impl Due {
    /// Its name in the log.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Ping => "idle",
            Self::Dead => "silent",
            Self::Stalled => "stalled",
            Self::Expired => "expired",
            Self::CloseLate => "close_late",
        }
    }
}

/// The hot part of a connection: all that a broadcast touches.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) outbox: Outbox,
    pub(crate) state: State,
    pub(crate) generation: u32,
    /// When bytes came last.
    pub(crate) heard: Tick,
    /// Since when bytes wait and none is accepted by the kernel; zero when that is not so.
    pub(crate) stalled: Tick,
    /// When the login is over.
    pub(crate) expires: Tick,
    /// A ping was sent and nothing was heard since.
    pub(crate) pinged: bool,
    /// It was open, so its end is told to the handler.
    pub(crate) was_open: bool,
    /// It stands in the queue for direct messages and replies.
    pub(crate) queued_urgent: bool,
    /// It stands in the queue for broadcasts.
    pub(crate) queued_bulk: bool,
}

// The table in the module's head counts on these.
const _: () = assert!(size_of::<Client>() <= 88);
const _: () = assert!(size_of::<State>() <= 32);

impl Client {
    pub(crate) fn new(generation: u32, now: Tick, until: Tick) -> Self {
        Self {
            outbox: Outbox::default(),
            state: State::Handshaking { head: Vec::new(), until },
            generation,
            heard: now,
            stalled: Tick::default(),
            expires: Tick::default(),
            pinged: false,
            was_open: false,
            queued_urgent: false,
            queued_bulk: false,
        }
    }

    /// Whether a message may be queued for it. A locked client accepts, and holds.
    pub(crate) fn accepts_data(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.hold().is_some()
    }

    pub(crate) fn hold(&self) -> Option<&Hold> {
        match &self.state {
            State::Open { rare: Some(rare), .. } => rare.hold.as_ref(),
            _ => None,
        }
    }

    /// Where a message for it is queued, behind the lock while there is one, and how many bytes wait for it
    /// in all. `None` when it takes no messages: the one predicate for direct messages and broadcasts.
    #[inline]
    pub(crate) fn receiving(&mut self) -> Option<(&mut Outbox, u32)> {
        let State::Open { rare, .. } = &mut self.state else { return None };
        let waiting = self.outbox.bytes();
        match rare.as_mut().and_then(|rare| rare.hold.as_mut()) {
            None => Some((&mut self.outbox, waiting)),
            Some(hold) => {
                let held = hold.outbox.bytes();
                Some((&mut hold.outbox, waiting + held))
            }
        }
    }

    /// Everything that waits for it, sent or held back.
    pub(crate) fn waiting_bytes(&self) -> u32 {
        self.outbox.bytes() + self.hold().map_or(0, |hold| hold.outbox.bytes())
    }

    pub(crate) fn rare(&mut self) -> Option<&mut Rare> {
        match &mut self.state {
            State::Open { rare, .. } => Some(rare.get_or_insert_default()),
            _ => None,
        }
    }

    /// Takes the hold off and gives its box back if nothing else is in it.
    pub(crate) fn take_hold(&mut self) -> Option<Hold> {
        let State::Open { rare: slot, .. } = &mut self.state else { return None };
        let rare = slot.as_mut()?;
        let hold = rare.hold.take();
        if rare.owed_pong.is_none() {
            *slot = None;
        }
        hold
    }

    pub(crate) fn take_owed_pong(&mut self) -> Option<Vec<u8>> {
        let State::Open { rare: slot, .. } = &mut self.state else { return None };
        let rare = slot.as_mut()?;
        let pong = rare.owed_pong.take();
        if rare.hold.is_none() {
            *slot = None;
        }
        pong
    }

    /// Releases everything in the spool.
    pub(crate) fn drop_all(&mut self, spool: &mut Spool) {
        self.outbox.clear(spool);
        if let Some(mut hold) = self.take_hold() {
            hold.outbox.clear(spool);
        }
    }

    /// The nearest deadline in milliseconds, and what it is about.
    pub(crate) fn next_due(&self, timeouts: &Timeouts) -> Option<(u64, Due)> {
        match self.state {
            State::Handshaking { until, .. } => Some((until.ms(), Due::Handshake)),
            State::Open { .. } => Some(self.open_due(timeouts)),
            State::Closing { until, .. } | State::Lingering { until } | State::Finishing { until } => {
                Some((until.ms(), Due::CloseLate))
            }
            State::Gone => None,
        }
    }

    fn open_due(&self, timeouts: &Timeouts) -> (u64, Due) {
        let ping_ms = self.heard.ms() + timeouts.idle_ms;
        let silence =
            if self.pinged { (ping_ms + timeouts.pong_ms, Due::Dead) } else { (ping_ms, Due::Ping) };
        let mut nearest = (self.expires.ms(), Due::Expired);
        if silence.0 < nearest.0 {
            nearest = silence;
        }
        if self.stalled != Tick::default() && self.stalled.ms() + timeouts.stalled_ms < nearest.0 {
            nearest = (self.stalled.ms() + timeouts.stalled_ms, Due::Stalled);
        }
        nearest
    }
}
