//! The flush: the bytes that wait for a client are offered to the kernel, and what it took is forgotten.
//!
//! It never touches a socket: what writes is given to it. Invariant: bytes that were not taken stay where they are.

use super::Delivery;
use super::lines::{FLUSH_BYTES, Line};
use super::mailbox::Mailbox;
use super::outbox::Outbox;
use super::spool::Spool;
use crate::clock::{Now, Tick};
use crate::key::ClientKey;
use crate::wire::frame::Opcode;

/// The outcome of an offer to the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    /// Bytes that it took.
    pub(crate) sent: usize,
    /// It took everything that it was offered, and may take more.
    pub(crate) all: bool,
}

/// The place where the bytes of a client go. A trait and not a function that is passed, which would not be inlined.
pub(crate) trait Sink {
    type Error;

    /// Offers these bytes. None, and nothing happened, when it is not a sink for bytes as they are.
    fn write(&mut self, chunk: &[u8]) -> Option<Result<Written, Self::Error>>;
}

impl Delivery {
    /// The client has something to be sent, or can be written to again.
    #[inline]
    pub(crate) fn queue(&mut self, line: Line, key: ClientKey, mail: &mut Mailbox) {
        self.lines.join(line, key, mail);
    }

    /// Moves the next clients of a line to `keys`, at most `max`: each of them is to be flushed now.
    pub(crate) fn take_queued(&mut self, line: Line, max: usize, keys: &mut Vec<ClientKey>) {
        self.lines.take(line, max, keys);
    }

    /// The client that is alone in a line: it is to be flushed now.
    #[inline]
    pub(crate) fn take_only(&mut self, line: Line) -> Option<ClientKey> {
        self.lines.take_only(line)
    }

    /// How many clients are in a line.
    #[inline]
    pub(crate) fn queued(&self, line: Line) -> usize {
        self.lines.len(line)
    }

    /// Whether any client is to be flushed.
    pub(crate) fn has_flush(&self) -> bool {
        self.pending.is_some() || self.lines.len(Line::Urgent) + self.lines.len(Line::Bulk) > 0
    }

    /// Lets `write` offer the waiting bytes to the kernel, and takes note of those that it took.
    #[inline(always)]
    pub(crate) fn flush<E>(
        &mut self,
        key: ClientKey,
        mail: &mut Mailbox,
        now: Now,
        write: impl FnOnce(&Outbox, &Spool) -> Result<Written, E>,
    ) -> Result<Written, E> {
        if !mail.is_plain() {
            return self.flush_behind(key, mail, now.tick(), write);
        }
        let written = write(&mail.outbox, &self.spool)?;
        mail.outbox.consume(written.sent as u32, &mut self.spool);
        Ok(written)
    }

    /// All that waits for a client that is behind in nothing, if that is one chunk and no more than a turn's share.
    #[inline(always)]
    fn only_chunk(&self, mail: &Mailbox) -> Option<&[u8]> {
        if !mail.is_plain() {
            return None;
        }
        let chunk = self.spool.get(mail.outbox.only_range()?);
        (chunk.len() <= FLUSH_BYTES).then_some(chunk)
    }

    /// Offers that to the sink, and takes note of the bytes that it took; with them comes whether these were all. None, and
    /// nothing happened, when something else waits or the sink is none for it.
    #[inline(always)]
    pub(crate) fn flush_only<S: Sink>(
        &mut self,
        mail: &mut Mailbox,
        line: Line,
        sink: &mut S,
    ) -> Option<Result<(Written, bool), S::Error>> {
        let chunk = self.only_chunk(mail)?;
        let offered = chunk.len();
        let written = sink.write(chunk)?;
        mail.unmark(line);
        let written = match written {
            Ok(written) => written,
            Err(error) => return Some(Err(error)),
        };
        let is_out = written.sent == offered;
        if is_out {
            mail.outbox.end_only(&mut self.spool);
        } else {
            mail.outbox.consume(written.sent as u32, &mut self.spool);
        }
        Some(Ok((written, is_out)))
    }

    #[inline(never)]
    fn flush_behind<E>(
        &mut self,
        key: ClientKey,
        mail: &mut Mailbox,
        now: Tick,
        write: impl FnOnce(&Outbox, &Spool) -> Result<Written, E>,
    ) -> Result<Written, E> {
        self.append_ping(mail, now);
        let written = write(&mail.outbox, &self.spool)?;
        match mail.keep_mut() {
            None => mail.outbox.consume(written.sent as u32, &mut self.spool),
            Some((outbox, keep)) => {
                outbox.consume_into(&mut keep.kept, written.sent as u32, &mut self.spool);
                // A tab that never answers stays within its bound, and only cannot come back.
                let is_over = keep.kept.bytes() + outbox.bytes() > self.outbox_bytes_max;
                if is_over && !keep.kept.is_empty() {
                    keep.drop_kept(outbox, &mut self.spool);
                }
            }
        }
        mail.catch_up(now, &mut self.spool);
        self.rank(key, mail);
        Ok(written)
    }

    /// The kernel takes no more; true when that is new. Bytes for the client alone move to where they keep nothing of
    /// others.
    pub(crate) fn blocked(&mut self, key: ClientKey, mail: &mut Mailbox, now: Tick) -> bool {
        let is_new = mail.stall(now, &mut self.spool);
        self.rank(key, mail);
        is_new
    }

    /// Queues the pong that could not be sent before, now that all is out.
    pub(crate) fn pay_pong(&mut self, key: ClientKey, mail: &mut Mailbox) {
        if let Some(payload) = mail.take_owed_pong() {
            self.control(key, mail, Opcode::Pong, &payload);
        }
    }

    /// Gives back the room of lines that are empty.
    pub(crate) fn shrink(&mut self) {
        self.lines.shrink();
    }
}
