//! What a tab has not confirmed: the messages that were sent, kept until a pong says that the browser has them.
//!
//! A browser answers pings in order, so the pong of a ping says that everything that was queued before it is there. The
//! browser says it, not the page: its script may not have run yet when it is reloaded. So the pong of the ping behind, a
//! second later, confirms. There is one unanswered ping of this kind at most: it leaves with the first bytes, a second after
//! the last one while anything is not confirmed, or after [`CONFIRM_BYTES`]. None is sent while a lock is on, so that a
//! fragmented message is confirmed as a whole.
//!
//! ```text
//! outbox --the kernel takes it--> kept --pong--> there --the next pong--> confirmed
//!    ^                             |
//!    '---- the connection ends <---'    whole frames, in order, and no message of which a part will never come
//! ```
//!
//! It never judges a limit and never queues a byte. Invariants: `there` is no more than the bytes in `kept`, and `covers`,
//! which is 0 without a ping, no more than those in `kept` and in the outbox; while the tab is away nothing is in `kept`, because all of it is in the outbox again.
//! design: docs/resume.md "Tabs that come back".

use super::outbox::Outbox;
use super::spool::Spool;
use crate::clock::Tick;
use core::num::NonZeroU32;

/// Bytes after which a ping is sent earlier.
pub(super) const CONFIRM_BYTES: u32 = 64 * 1024;
/// Between two pings of this kind.
pub(super) const CONFIRM_MS: u64 = 1000;

/// A gap that no pong closes: what is missing never came here.
const FOR_GOOD: u8 = u8::MAX;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Keep {
    /// Frames that the kernel took.
    pub(super) kept: Outbox,
    /// The tab, hashed with a key: among the connections of one login it is not mistaken.
    name: u64,
    /// The ping that is not answered: the lower half of its number.
    ping: Option<NonZeroU32>,
    /// The bytes, of those that are kept or wait, that it says are there.
    covers: u32,
    /// Those of which the last pong said so.
    there: u32,
    /// When the last ping was queued.
    pinged: Option<Tick>,
    /// Bytes at the end of the outbox that begin with a message whose last fragment is not there.
    pub(super) unfinished: u32,
    /// The tab is away.
    pub(super) away: bool,
    /// Something was dropped that is not confirmed: if the connection ends before this many pongs more, the tab cannot come
    /// back. [`FOR_GOOD`]: something never came.
    gap: u8,
}

// A tab has this box and that of a mailbox with something rare.
const _: () = assert!(size_of::<Keep>() <= 64);

impl Keep {
    pub(super) fn new(name: u64) -> Self {
        Self {
            kept: Outbox::default(),
            name,
            ping: None,
            covers: 0,
            there: 0,
            pinged: None,
            unfinished: 0,
            away: false,
            gap: 0,
        }
    }

    pub(crate) fn name(&self) -> u64 {
        self.name
    }

    /// Whether all that was not confirmed is there.
    pub(crate) fn is_whole(&self) -> bool {
        self.gap == 0
    }

    /// Messages for it may have been lost before they came here: its next connection is told so.
    pub(super) fn miss(&mut self) {
        self.gap = FOR_GOOD;
    }

    /// Whether anything is kept.
    pub(crate) fn keeps(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Whether a ping is to be sent with these bytes that wait.
    pub(super) fn is_due(&self, waiting: &Outbox, now: Tick) -> bool {
        let unconfirmed = self.kept.bytes() + waiting.bytes();
        if self.away || self.ping.is_some() || self.kept.is_empty() && !waiting.has_messages() {
            return false;
        }
        unconfirmed >= CONFIRM_BYTES || self.pinged.is_none_or(|last| now.ms() >= last.ms() + CONFIRM_MS)
    }

    /// When a ping is to be sent although nothing new waits, in milliseconds.
    pub(super) fn due_ms(&self) -> Option<u64> {
        let waits = !self.away && self.ping.is_none() && !self.kept.is_empty();
        waits.then(|| self.pinged.map_or(0, |last| last.ms() + CONFIRM_MS))
    }

    /// The ping is the last thing that waits.
    pub(super) fn pinged(&mut self, number: NonZeroU32, waiting: &Outbox, now: Tick) {
        debug_assert!(self.ping.is_none() && self.unfinished == 0, "one ping, and none within a message");
        (self.ping, self.pinged) = (Some(number), Some(now));
        self.covers = self.kept.bytes() + waiting.message_bytes();
    }

    /// A pong came that covers the pings up to this number. Whether it is the one that was waited for.
    pub(super) fn confirm(&mut self, number: u64, spool: &mut Spool) -> bool {
        let is_covered = |ping: NonZeroU32| (number as u32).wrapping_sub(ping.get()) < 1 << 31;
        // A page may answer before it was asked; then it has not got what still waits.
        if !self.ping.is_some_and(is_covered) || self.covers > self.kept.bytes() {
            return false;
        }
        self.kept.drop_front(self.there, spool);
        self.there = self.covers - self.there;
        (self.ping, self.covers) = (None, 0);
        if self.gap != FOR_GOOD {
            self.gap = self.gap.saturating_sub(1);
        }
        true
    }

    /// Whether this is the number of its ping.
    pub(crate) fn asked(&self, number: u64) -> bool {
        self.ping.is_some_and(|ping| ping.get() == number as u32)
    }

    /// Gives up what is kept. The tab is whole again when later pings are answered.
    pub(super) fn drop_kept(&mut self, waiting: &Outbox, spool: &mut Spool) {
        self.kept.clear(spool);
        self.unfinished = self.unfinished.min(waiting.message_bytes());
        (self.ping, self.covers, self.there, self.gap) = (None, 0, 0, self.gap.max(2));
    }

    /// The connection has ended: what was kept goes out again, before what waits.
    pub(super) fn go_away(&mut self, outbox: &mut Outbox, spool: &mut Spool) {
        let unsent = std::mem::take(outbox);
        *outbox = std::mem::take(&mut self.kept);
        outbox.append(unsent, spool);
        (self.ping, self.covers, self.there, self.away) = (None, 0, 0, true);
    }

    /// There is a connection again.
    pub(super) fn come_back(&mut self) {
        (self.away, self.pinged) = (false, None);
    }

    pub(crate) fn is_away(&self) -> bool {
        self.away
    }

    /// Frames that were sent and are not confirmed, for the audit.
    pub(crate) fn kept(&self) -> &Outbox {
        &self.kept
    }

    /// For the audit.
    pub(crate) fn audit(&self, waiting: &Outbox) -> Result<(), &'static str> {
        match self.ping {
            None if self.covers != 0 => Err("bytes are covered by no ping"),
            Some(_) if self.covers > self.kept.bytes() + waiting.message_bytes() => {
                Err("a ping covers more than there is")
            }
            _ if self.there > self.kept.bytes() => Err("more is there than was sent"),
            _ if self.away && !self.kept.is_empty() => Err("it is away and keeps something"),
            _ if self.unfinished > waiting.message_bytes() + self.kept.bytes() => {
                Err("more is unfinished than there is")
            }
            _ => Ok(()),
        }
    }
}
