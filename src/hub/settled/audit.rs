//! The floor recounted: every hold of a segment against the ranges, every outbox frame by frame, every mark against the
//! lines.

use super::Floor;
use crate::delivery::{Keep, Line, Mailbox, Outbox};
use crate::key::ClientKey;
use crate::peer::client::{Client, State};
use crate::wire::frame::encode;

/// The fault that was found, in a sentence.
type Verdict = Result<(), String>;

fn check(holds: bool, sentence: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(sentence()) }
}

/// How a peer stands to the flush.
#[derive(Debug)]
pub(crate) struct Flush {
    /// Bytes are to be sent now.
    pub(crate) waits: bool,
    /// It is in a queue.
    pub(crate) queued: bool,
    /// A pong is to follow.
    pub(crate) owes_pong: bool,
    /// Our side is to be shut down behind the last byte.
    pub(crate) lingers: bool,
}

impl Floor {
    /// Recounts everything; `waiting_bytes_max` is the most that may wait for one client.
    ///
    /// # Errors
    /// The first thing that does not add up.
    pub(crate) fn audit(&self, waiting_bytes_max: usize) -> Verdict {
        self.audit_spool()?;
        self.audit_lines()?;
        for (key, client) in self.roster.iter() {
            self.audit_client(client, waiting_bytes_max)
                .map_err(|what| format!("client {key}: {what}: {client:?}"))?;
        }
        Ok(())
    }

    /// Every hold of a segment is a range somewhere, or a client that fills it, and a segment without a hold is empty.
    fn audit_spool(&self) -> Verdict {
        let spool = self.delivery.spool();
        let mut held = self.delivery.audit_segments(self.mailboxes());
        held.extend(self.delivery.pending().map(|pending| pending.range().segment));
        let mut bytes = 0;
        for (segment, (holds, stored, size)) in spool.segments().enumerate() {
            let here = held.iter().filter(|held| **held as usize == segment).count();
            check(here == holds as usize, || {
                format!("segment {segment} has {holds} holds and {here} ranges")
            })?;
            check(holds > 0 || stored == 0, || format!("segment {segment} is kept without a hold"))?;
            bytes += size;
        }
        let behind = spool.bytes() - bytes;
        let ranges: usize =
            self.mailboxes().flat_map(|(_, mail)| outboxes(mail)).map(Outbox::queued_ranges).sum();
        check(behind == 24 * ranges, || format!("{behind} bytes for {ranges} ranges"))?;
        self.delivery.audit_behind(self.mailboxes())
    }

    fn mailboxes(&self) -> impl Iterator<Item = (ClientKey, &Mailbox)> + Clone {
        self.roster.iter().map(|(key, client)| (key, &client.mail))
    }

    /// A mark says that the client is in that line.
    fn audit_lines(&self) -> Verdict {
        let lines = self.delivery.lines();
        // A tab that is away has the marks and is in no line.
        for (key, client) in self.roster.iter().filter(|(_, client)| !client.is_away()) {
            for line in [Line::Urgent, Line::Bulk] {
                let stands = lines.keys(line).any(|queued| *queued == key);
                check(!client.mail.is_queued(line) || stands, || {
                    format!("{key} does not stand in {line:?}")
                })?;
            }
        }
        check(lines.counted() == lines.len(Line::Bulk) as u64, || "the bulk line is miscounted".into())
    }

    fn audit_client(&self, client: &Client, waiting_bytes_max: usize) -> Verdict {
        let after_close = self.audit_outbox(client.mail.outbox())?;
        if let Some(hold) = client.mail.hold() {
            check(!self.audit_outbox(hold)?, || "a close frame is held".into())?;
            check(client.accepts_data(), || "a lock outlives the client".into())?;
        }
        if let Some(keep) = client.mail.keep() {
            check(!self.audit_outbox(keep.kept())?, || "a close frame is kept".into())?;
            check(client.accepts_data(), || "what was sent is kept for one that is gone".into())?;
            check(keep.is_away() == client.is_away(), || "it is away, or not".into())?;
        }
        check(!client.is_away() || client.mail.keep().is_some(), || "it is away and no tab".into())?;
        let closing = matches!(client.state(), State::Closing { .. } | State::Finishing { .. });
        self.audit_overflow(client)?;
        check(!client.accepts_data() || !after_close, || "an open client's close is queued".into())?;
        check(!closing || client.mail.outbox().is_empty() || after_close, || {
            "something follows the close".into()
        })?;
        check(client.mail.waiting_bytes() as usize <= waiting_bytes_max, || {
            "the outbox is over its bound".into()
        })
    }

    /// A client that is closed as too slow gets nothing else but the unit that is in flight.
    fn audit_overflow(&self, client: &Client) -> Verdict {
        let spool = self.delivery.spool();
        let last = client.mail.outbox().chunks(spool).last().unwrap_or_default();
        if !matches!(client.state(), State::Closing { .. }) || !last.ends_with(b"slow consumer") {
            return Ok(());
        }
        let (ranges, _) = client.mail.outbox().parts();
        let units: usize =
            ranges.map(|(range, opaque)| if opaque { 1 } else { frames(spool.get(range)) }).sum();
        check(units <= 2, || "an overflow dropped nothing".into())
    }

    /// Whole frames, nothing behind a close. Returns whether a close is the last one.
    fn audit_outbox(&self, outbox: &Outbox) -> Result<bool, String> {
        let (ranges, cut) = outbox.parts();
        let (mut bytes, mut closed, mut first) = (0, false, true);
        for (range, opaque) in ranges {
            let mut rest = self.delivery.spool().get(range);
            bytes += rest.len();
            while !rest.is_empty() {
                check(!closed, || "a frame is queued behind a close".into())?;
                let len = if opaque { rest.len() } else { encode::frame_len(rest) };
                check(len <= rest.len(), || "a range ends within a frame".into())?;
                check(!std::mem::take(&mut first) || (cut as usize) < len, || {
                    "the frame in flight is gone".into()
                })?;
                closed = !opaque && rest[0] & 0x0F == 0x8;
                rest = &rest[len..];
            }
        }
        let left = bytes - cut as usize;
        check(left == outbox.bytes() as usize, || format!("{left} bytes wait, not {}", outbox.bytes()))?;
        Ok(closed)
    }

    /// How a client stands to the flush, for the driver's audit.
    pub(crate) fn audit_flush(&self, key: ClientKey) -> Option<Flush> {
        let client = self.roster.get(key)?;
        Some(Flush {
            waits: !client.mail.outbox().is_empty() && !client.mail.is_withheld(),
            queued: client.mail.is_queued(Line::Urgent) || client.mail.is_queued(Line::Bulk),
            owes_pong: client.mail.owes_pong(),
            lingers: matches!(client.state(), State::Lingering { .. }),
        })
    }
}

fn outboxes(mail: &Mailbox) -> impl Iterator<Item = &Outbox> {
    std::iter::once(mail.outbox()).chain(mail.hold()).chain(mail.keep().map(Keep::kept))
}

/// Frames in `bytes`, which are whole ones.
fn frames(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while !bytes.is_empty() {
        bytes = &bytes[encode::frame_len(bytes)..];
        count += 1;
    }
    count
}
