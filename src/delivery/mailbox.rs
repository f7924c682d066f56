//! One client's share of the delivery: what waits for it, what a lock holds back, and how it stands to the flush.
//!
//! It never judges a limit and never touches the spool. Invariant: nothing is held back unless a lock is on, and a
//! mailbox without lock and owed pong owns no box.

use super::lines::Line;
use super::outbox::Outbox;
use crate::clock::Tick;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    pub(super) outbox: Outbox,
    rare: Option<Box<Rare>>,
    /// Since when bytes wait and the kernel takes none.
    stalled: Option<Tick>,
    /// Whether its key stands in the queue of each line.
    queued: [bool; 2],
}

/// What only few open clients need, so that the others pay eight bytes for it.
#[derive(Debug, Default)]
struct Rare {
    /// Frames held back while a backend sends a fragmented message.
    hold: Option<Outbox>,
    /// The newest ping that could not be answered, because the client does not read.
    owed_pong: Option<Vec<u8>>,
}

impl Mailbox {
    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Where a message is queued, behind the lock while there is one, and how many bytes wait in all.
    #[inline]
    pub(super) fn receiving(&mut self) -> (&mut Outbox, u32) {
        let waiting = self.outbox.bytes();
        match self.rare.as_mut().and_then(|rare| rare.hold.as_mut()) {
            None => (&mut self.outbox, waiting),
            Some(hold) => {
                let held = hold.bytes();
                (hold, waiting + held)
            }
        }
    }

    /// Everything that waits for it, sent or held back.
    pub(crate) fn waiting_bytes(&self) -> u32 {
        self.outbox.bytes() + self.hold().map_or(0, Outbox::bytes)
    }

    // The lock.

    /// From now on messages are held back, in order.
    pub(crate) fn lock(&mut self) {
        let hold = &mut self.rare.get_or_insert_default().hold;
        debug_assert!(hold.is_none(), "a lock is not put on twice");
        *hold = Some(Outbox::default());
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.hold().is_some()
    }

    pub(crate) fn hold(&self) -> Option<&Outbox> {
        self.rare.as_ref()?.hold.as_ref()
    }

    pub(super) fn take_hold(&mut self) -> Option<Outbox> {
        let hold = self.rare.as_mut()?.hold.take();
        self.drop_empty_box();
        hold
    }

    /// Forgets the owed pong and takes the hold.
    pub(super) fn take_rare(&mut self) -> Option<Outbox> {
        self.rare.take()?.hold
    }

    // The pong.

    pub(super) fn owe_pong(&mut self, payload: &[u8]) {
        self.rare.get_or_insert_default().owed_pong = Some(payload.to_vec());
    }

    pub(crate) fn owes_pong(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.owed_pong.is_some())
    }

    pub(super) fn take_owed_pong(&mut self) -> Option<Vec<u8>> {
        let pong = self.rare.as_mut()?.owed_pong.take();
        self.drop_empty_box();
        pong
    }

    fn drop_empty_box(&mut self) {
        if self.rare.as_ref().is_some_and(|rare| rare.hold.is_none() && rare.owed_pong.is_none()) {
            self.rare = None;
        }
    }

    // The flush.

    /// Since when bytes wait and the kernel takes none.
    pub(crate) fn stalled(&self) -> Option<Tick> {
        self.stalled
    }

    /// The kernel takes no more; true when that is new.
    pub(crate) fn stall(&mut self, now: Tick) -> bool {
        let is_new = self.stalled.is_none() && !self.outbox.is_empty();
        if is_new {
            self.stalled = Some(now);
        }
        is_new
    }

    /// The kernel took something.
    #[inline]
    pub(super) fn note_taken(&mut self, now: Tick) {
        if self.stalled.is_some() {
            self.stalled = (!self.outbox.is_empty()).then_some(now);
        }
    }

    #[inline]
    pub(super) fn mark(&mut self, line: Line) -> bool {
        std::mem::replace(&mut self.queued[line as usize], true)
    }

    /// Takes the mark off that says that the key stands in this line. False for a key that was left behind by an
    /// earlier user of the slot.
    #[inline]
    pub(crate) fn unmark(&mut self, line: Line) -> bool {
        std::mem::take(&mut self.queued[line as usize])
    }

    pub(crate) fn is_queued(&self, line: Line) -> bool {
        self.queued[line as usize]
    }
}

// A client's record counts on it.
const _: () = assert!(size_of::<Mailbox>() == 48);
