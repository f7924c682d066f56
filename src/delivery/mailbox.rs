//! One client's share of the delivery: the messages that wait, those that a lock holds back, and how it stands to the
//! flush.
//!
//! It never judges a limit. Invariant: nothing is held back unless a lock is on; a mailbox that is not behind, has no
//! pong to send, has no lock, is not withheld and is no tab's owns no box.

use super::keep::Keep;
use super::lines::Line;
use super::outbox::Outbox;
use super::ranks::{Rank, Standing};
use super::spool::{Own, Range, Spool};
use crate::clock::Tick;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    pub(super) outbox: Outbox,
    rare: Option<Box<Rare>>,
    /// Whether its key is in the queue of each line.
    queued: [bool; 2],
    standing: Standing,
}

/// The state that only few open clients need, in a box, so that the others pay eight bytes for it.
#[derive(Debug, Default)]
struct Rare {
    /// Frames held back while a backend sends a fragmented message.
    // Boxed, as the next one: a tab has this box all the time.
    hold: Option<Box<Outbox>>,
    /// The newest ping that could not be answered, because the client does not read.
    owed_pong: Option<Box<[u8]>>,
    /// Since when bytes wait and the kernel takes none.
    stalled: Option<Tick>,
    /// The segment that messages for it alone are written to while it is behind.
    own: Option<Own>,
    rank: Option<Rank>,
    /// Nothing of it goes out yet.
    withheld: bool,
    /// What a tab has not confirmed.
    keep: Option<Box<Keep>>,
}

// A tab has this box and that of what it keeps: 128 bytes together.
const _: () = assert!(size_of::<Rare>() <= 64);

impl Rare {
    fn is_behind(&self) -> bool {
        self.stalled.is_some() || self.hold.is_some()
    }

    /// Whether nothing is in it.
    fn is_empty(&self) -> bool {
        !self.is_behind()
            && self.own.is_none()
            && self.owed_pong.is_none()
            && !self.withheld
            && self.keep.is_none()
    }

    /// Whether a tab keeps anything.
    fn keeps(&self) -> bool {
        self.keep.as_ref().is_some_and(|keep| !keep.kept.is_empty())
    }
}

impl Mailbox {
    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// How many bytes wait in all, sent or held back.
    #[inline]
    pub(crate) fn waiting_bytes(&self) -> u32 {
        self.outbox.bytes() + self.hold().map_or(0, Outbox::bytes)
    }

    /// Where a message is queued: behind the lock while there is one.
    #[inline]
    pub(super) fn receiving(&mut self) -> &mut Outbox {
        match self.rare.as_mut().and_then(|rare| rare.hold.as_mut()) {
            None => &mut self.outbox,
            Some(hold) => hold,
        }
    }

    /// The segment of its own, while it is behind: the kernel takes nothing, or a lock holds messages back; or if it is a
    /// tab's, which keeps what it has sent.
    #[inline]
    pub(super) fn own(&mut self) -> Option<&mut Option<Own>> {
        let rare = self.rare.as_mut()?;
        (rare.is_behind() || rare.keep.is_some()).then_some(&mut rare.own)
    }

    /// Whether no message waits and no pong is to be sent.
    #[inline(always)]
    pub(crate) fn is_idle(&self) -> bool {
        self.outbox.is_empty() && self.rare.is_none()
    }

    /// Whether it has no state but that of most mailboxes.
    #[inline(always)]
    pub(super) fn is_plain(&self) -> bool {
        self.rare.is_none()
    }

    // The lock.

    /// From now on messages are held back, in order.
    pub(crate) fn lock(&mut self) {
        let hold = &mut self.rare.get_or_insert_default().hold;
        debug_assert!(hold.is_none(), "a lock is not put on twice");
        *hold = Some(Box::default());
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.hold().is_some()
    }

    pub(crate) fn hold(&self) -> Option<&Outbox> {
        self.rare.as_ref()?.hold.as_deref()
    }

    pub(super) fn take_hold(&mut self) -> Option<Outbox> {
        self.rare.as_mut()?.hold.take().map(|hold| *hold)
    }

    // The pong.

    pub(super) fn owe_pong(&mut self, payload: &[u8]) {
        self.rare.get_or_insert_default().owed_pong = Some(payload.into());
    }

    pub(crate) fn owes_pong(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.owed_pong.is_some())
    }

    pub(super) fn take_owed_pong(&mut self) -> Option<Box<[u8]>> {
        self.rare.as_mut()?.owed_pong.take()
    }

    // The flush.

    /// Since when bytes wait and the kernel takes none.
    #[inline]
    pub(crate) fn stalled(&self) -> Option<Tick> {
        self.rare.as_ref()?.stalled
    }

    /// The kernel takes no more; true when that is new.
    pub(super) fn stall(&mut self, now: Tick, spool: &mut Spool) -> bool {
        if self.outbox.is_empty() || self.stalled().is_some() {
            return false;
        }
        let rare = self.rare.get_or_insert_default();
        rare.stalled = Some(now);
        self.outbox.rehome(&mut rare.own, spool);
        true
    }

    /// The kernel took something, or the lock is off: is it behind no more?
    pub(super) fn catch_up(&mut self, now: Tick, spool: &mut Spool) {
        let Some(rare) = &mut self.rare else { return };
        if rare.stalled.is_some() {
            rare.stalled = (!self.outbox.is_empty()).then_some(now);
        }
        if !rare.is_behind() && !rare.keeps() && self.outbox.is_empty() {
            if let Some(own) = rare.own.take() {
                spool.give_up(own);
            }
        }
    }

    /// Sets its rank anew; returns the old and the new one. Gives the box back when nothing is in it.
    pub(super) fn rank(&mut self) -> (Option<Rank>, Option<Rank>) {
        let waiting = self.waiting_bytes() as usize;
        let Some(rare) = &mut self.rare else { return (None, None) };
        let rank = match &rare.keep {
            Some(keep) if keep.away && waiting > 0 => Some(Rank::new(Standing::Keeping, waiting)),
            Some(keep) if !keep.kept.is_empty() => {
                Some(Rank::new(Standing::Keeping, keep.kept.bytes() as usize))
            }
            _ => (rare.is_behind() && waiting > 0).then(|| Rank::new(self.standing, waiting)),
        };
        let old = std::mem::replace(&mut rare.rank, rank);
        self.give_back();
        (old, rank)
    }

    /// The box, when nothing is in it.
    fn give_back(&mut self) {
        if self.rare.as_ref().is_some_and(|rare| rare.is_empty()) {
            self.rare = None;
        }
    }

    /// From now on no message is queued behind those that wait.
    pub(super) fn set_leaving(&mut self) {
        self.standing = Standing::Leaving;
    }

    /// Forgets the lock and the pong; gives out the messages that were held back.
    pub(super) fn forget_rare(&mut self) -> Option<Outbox> {
        let rare = self.rare.as_mut()?;
        rare.owed_pong = None;
        rare.hold.take().map(|hold| *hold)
    }

    // The tab.

    /// When a tab is to be asked for what it has got, in milliseconds; not while it is locked.
    pub(crate) fn unconfirmed_ms(&self) -> Option<u64> {
        if self.is_locked() { None } else { self.keep()?.due_ms() }
    }

    /// From now on what is sent is kept until it is confirmed.
    pub(super) fn begin_keeping(&mut self, name: u64) {
        self.rare.get_or_insert_default().keep = Some(Box::new(Keep::new(name)));
    }

    /// What it keeps, if it is a tab's.
    pub(crate) fn keep(&self) -> Option<&Keep> {
        self.rare.as_ref()?.keep.as_deref()
    }

    /// The outbox, and what is kept behind it.
    pub(super) fn keep_mut(&mut self) -> Option<(&mut Outbox, &mut Keep)> {
        let keep = self.rare.as_mut()?.keep.as_deref_mut()?;
        Some((&mut self.outbox, keep))
    }

    /// Messages for it may have been lost before they came here. It matters to a tab only.
    pub(crate) fn miss(&mut self) {
        if let Some((_, keep)) = self.keep_mut() {
            keep.miss();
        }
    }

    /// It is no tab's any more.
    pub(super) fn end_keeping(&mut self) -> Option<Box<Keep>> {
        self.rare.as_mut()?.keep.take()
    }

    /// Nothing is sent until there is a connection again: it counts as one that is in both lines.
    pub(super) fn disconnect(&mut self) {
        self.queued = [true; 2];
        if let Some(rare) = &mut self.rare {
            (rare.stalled, rare.owed_pong, rare.withheld) = (None, None, false);
        }
    }

    pub(super) fn connect(&mut self) {
        self.queued = [false; 2];
    }

    /// The next message for it alone begins another segment, so that what was confirmed is given back.
    pub(super) fn turn_over(&mut self, spool: &mut Spool) {
        if let Some(own) = self.rare.as_mut().and_then(|rare| rare.own.take()) {
            spool.give_up(own);
        }
    }

    #[inline]
    pub(super) fn mark(&mut self, line: Line) -> bool {
        std::mem::replace(&mut self.queued[line as usize], true)
    }

    /// Takes the mark off that says that the key is in this line. False for a key that was left behind by an
    /// earlier user of the slot.
    #[inline]
    pub(crate) fn unmark(&mut self, line: Line) -> bool {
        std::mem::take(&mut self.queued[line as usize])
    }

    /// From now on nothing goes out, or all that waits.
    pub(crate) fn withhold(&mut self, withheld: bool) {
        self.rare.get_or_insert_default().withheld = withheld;
        self.give_back();
    }

    #[inline(always)]
    pub(crate) fn is_withheld(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.withheld)
    }

    pub(crate) fn is_queued(&self, line: Line) -> bool {
        self.queued[line as usize]
    }

    // For the audit.

    pub(super) fn audit_rank(&self) -> Option<Rank> {
        self.rare.as_ref()?.rank
    }

    /// The segment of its own that is being filled.
    pub(super) fn audit_own(&self) -> Option<u32> {
        self.rare.as_ref()?.own.as_ref().map(Own::segment)
    }

    /// Whether it has a box, and a reason for it.
    pub(crate) fn audit_box(&self) -> Result<(), &'static str> {
        if self.rare.as_ref().is_some_and(|rare| rare.is_empty()) {
            return Err("an empty box is kept");
        }
        self.keep().map_or(Ok(()), |keep| keep.audit(&self.outbox))
    }

    /// The ranges of the spool that it keeps.
    pub(super) fn audit_ranges(&self) -> impl Iterator<Item = Range> + '_ {
        let kept = self.keep().map(|keep| &keep.kept);
        let all = std::iter::once(&self.outbox).chain(self.hold()).chain(kept);
        all.flat_map(|outbox| outbox.parts().0.map(|(range, _)| range))
    }
}

// A client's record counts on it.
const _: () = assert!(size_of::<Mailbox>() == 48);
