//! Everything the hub believes, recounted from scratch: for the simulation, the fuzzer and the soak test.
//!
//! It changes nothing and trusts no counter: what is redundant is computed again from the peers and
//! compared. Between two turns it must find nothing (testing.md, "Invariants of the simulation").

use super::Hub;
use super::send::Throttle;
use crate::clock::{TICK_MS, Tick};
use crate::delivery::outbox::Outbox;
use crate::delivery::queue::Queue;
use crate::delivery::spool::Range;
use crate::key::{BackendKey, Key};
use crate::peer::backend::{self, Backend};
use crate::peer::client::{Client, ClientId, State};
use crate::roster::index::Index;
use crate::wire::command;
use crate::wire::frame::encode;
use std::collections::BTreeSet;

/// What is wrong, in a sentence.
type Verdict = Result<(), String>;

/// Bytes that one read of a connection can bring (the driver's scratch buffer).
const READ_BYTES: usize = 64 * 1024;
/// Reads of one client that a turn can do: one for its event and one from the run queue.
const READS: usize = 2;
/// Longest status or address among the replies.
const REPLY_BYTES: usize = 16 * 1024;

fn check(holds: bool, sentence: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(sentence()) }
}

impl Hub {
    /// Recounts everything; to be called between two turns.
    ///
    /// # Errors
    /// The first thing that does not add up.
    #[doc(hidden)]
    pub fn audit(&self) -> Result<(), String> {
        self.audit_counts()?;
        self.audit_indexes()?;
        self.audit_spool()?;
        self.audit_locks()?;
        self.audit_queues()?;
        self.audit_timers()?;
        for (key, client) in &self.clients {
            self.audit_client(client).map_err(|what| format!("client {key}: {what}: {client:?}"))?;
        }
        for (key, backend) in self.backends.iter() {
            self.audit_backend(backend).map_err(|what| format!("backend {key}: {what}: {backend:?}"))?;
        }
        Ok(())
    }

    fn audit_counts(&self) -> Verdict {
        let count = |is: fn(&State) -> bool| self.clients.iter().filter(|(_, c)| is(&c.state)).count();
        let waiting = count(|state| matches!(state, State::Handshaking { .. }));
        let open = count(|state| matches!(state, State::Open { .. }));
        let locks = self.backends.iter().filter(|(_, backend)| backend.lock.is_some()).count();
        let found = (waiting, open, self.clients.len() - waiting - open, locks);
        let counts = (self.counts.waiting, self.counts.open, self.counts.closing, self.counts.locks);
        check(found == counts, || format!("counters {counts:?}, found {found:?}"))?;
        for (place, listener) in self.listeners.iter().enumerate() {
            let here = |key: usize| usize::from(self.cold[key].listener) == place;
            let found = self.clients.iter().filter(|(key, c)| c.accepts_data() && here(*key)).count();
            check(listener.clients == found as u64, || format!("listener {place} has {found} clients"))?;
        }
        let accepted: u64 = self.listeners.iter().map(|listener| listener.accepted).sum();
        let ended = self.stats.closed_total() + self.stats.refused_total();
        check(accepted == (waiting + open) as u64 + ended, || {
            format!("accepted {accepted} is not {waiting} unauthenticated, {open} open and {ended} ended")
        })
    }

    /// Open clients and indexed keys are the same set.
    fn audit_indexes(&self) -> Verdict {
        let open: BTreeSet<u32> =
            self.clients.iter().filter(|(_, c)| c.accepts_data()).map(|(key, _)| key as u32).collect();
        for index in std::iter::once(&self.tokens).chain(&self.users) {
            let indexed: Vec<u32> = index.keys().collect();
            let distinct: BTreeSet<u32> = indexed.iter().copied().collect();
            check(distinct == open && indexed.len() == open.len(), || {
                format!("indexed {indexed:?}, open {open:?}")
            })?;
            let found = |key: &u32| index.of(index.name(*key)).any(|other| other == *key);
            check(open.iter().all(found), || "an open client is not found by its name".into())?;
        }
        Ok(())
    }

    /// Every hold of a segment is a range somewhere, and what nobody holds is empty.
    fn audit_spool(&self) -> Verdict {
        let mut ranges: Vec<Range> = Vec::new();
        for (_, client) in &self.clients {
            ranges.extend(client.outbox.parts().0.map(|(range, _)| range));
            ranges
                .extend(client.hold().iter().flat_map(|hold| hold.outbox.parts().0.map(|(range, _)| range)));
        }
        ranges.extend(self.queues.pending.map(|pending| pending.range));
        let mut bytes = 0;
        for (segment, (holds, stored)) in self.spool.segments().enumerate() {
            let here: Vec<&Range> = ranges.iter().filter(|range| range.segment as usize == segment).collect();
            check(here.len() == holds as usize, || {
                format!("segment {segment} has {holds} holds and {} ranges", here.len())
            })?;
            check(here.iter().all(|range| range.start < range.end && range.end as usize <= stored), || {
                format!("a range is outside of segment {segment}: {here:?}")
            })?;
            check(holds > 0 || stored == 0, || format!("segment {segment} is kept by nobody"))?;
            bytes += stored;
        }
        check(self.spool.bytes() == bytes, || {
            format!("{} bytes in the spool, {bytes} stored", self.spool.bytes())
        })
    }

    /// A client holds if and only if exactly one backend's lock names it.
    fn audit_locks(&self) -> Verdict {
        let named: Vec<ClientId> = self
            .backends
            .iter()
            .flat_map(|(_, backend)| backend.lock.iter().flat_map(|lock| lock.clients.iter().copied()))
            .filter(|id| self.is_open(*id))
            .collect();
        for (key, client) in &self.clients {
            let locks = named.iter().filter(|id| id.key as usize == key).count();
            check(locks == usize::from(client.is_locked()), || {
                format!("client {key} is named by {locks} locks, locked: {}", client.is_locked())
            })?;
        }
        Ok(())
    }

    /// A mark says that the peer stands in that queue; nobody is gone and still here.
    fn audit_queues(&self) -> Verdict {
        for (key, client) in &self.clients {
            let stands = |queue: &Queue| queue.iter().any(|queued| *queued == key as u32);
            check(!client.queued_urgent || stands(&self.queues.urgent), || format!("{key} is not urgent"))?;
            check(!client.queued_bulk || stands(&self.queues.bulk), || format!("{key} is not in bulk"))?;
            check(!matches!(client.state, State::Gone), || {
                format!("client {key} is gone and was not reaped")
            })?;
            let waits = matches!(client.state, State::Handshaking { .. });
            check(!waits || self.newcomers.contains(&self.id(key as u32)), || {
                format!("client {key} is not among the newcomers")
            })?;
        }
        let Throttle { pushed, popped, .. } = self.queues.throttle;
        check(pushed - popped == self.queues.bulk.len() as u64, || "the bulk queue is miscounted".into())?;
        for (key, backend) in self.backends.iter() {
            let stands = self.backends.stands_in_flush(key);
            check(!backend.queued || stands, || format!("backend {key} is not in the queue of replies"))?;
            check(backend.state != backend::State::Gone, || format!("backend {key} was not reaped"))?;
        }
        self.audit_limits()
    }

    /// Limits on numbers, which a reload that lowers them does not enforce backwards.
    fn audit_limits(&self) -> Verdict {
        let limits = &self.settings.limits;
        let unauthenticated_max = limits.unauthenticated.unwrap_or(usize::MAX);
        check(self.counts.waiting <= unauthenticated_max, || "too many are unauthenticated".into())?;
        check(self.counts.open <= limits.clients.unwrap_or(usize::MAX), || "too many are open".into())?;
        let same = |index: &Index, key| index.of(index.name(key)).count();
        for key in self.tokens.keys() {
            let connections = same(&self.tokens, key);
            check(connections <= limits.connections_per_token as usize, || {
                format!("{connections} connections of one token")
            })?;
        }
        // What control frames and responses add is not worth closing anybody for.
        let bound = limits.queued_bytes + (1 + self.clients.len()) * READ_BYTES;
        let waits = |client: &Client| client.accepts_data() && client.waiting_bytes() > 0;
        let nobody = !self.clients.iter().any(|(_, client)| waits(client));
        check(self.spool.bytes() <= bound || nobody, || format!("{} bytes are queued", self.spool.bytes()))
    }

    fn audit_timers(&self) -> Verdict {
        for (key, client) in &self.clients {
            let due_ms = client.next_due(&self.settings.timeouts).map(|(due_ms, _)| due_ms);
            self.audit_timer("client", key, self.timers.armed_ms(key as u32), due_ms)?;
        }
        for (key, backend) in self.backends.iter() {
            let due_ms = backend.next_due(&self.settings.timeouts).map(|(due_ms, _)| due_ms);
            self.audit_timer("backend", key.index(), self.backends.armed_ms(key), due_ms)?;
        }
        Ok(())
    }

    /// Armed no later than the nearest deadline, and found by who asks when to come back.
    fn audit_timer(&self, kind: &str, key: usize, armed_ms: Option<u64>, due_ms: Option<u64>) -> Verdict {
        let (Some(armed_ms), Some(due_ms)) = (armed_ms, due_ms) else {
            return check(armed_ms == due_ms, || {
                format!("{kind} {key} is armed {armed_ms:?}, due {due_ms:?}")
            });
        };
        // A deadline that is past already is armed for the next tick.
        let latest_ms = Tick::at(due_ms).ms().max(self.now.ms + 2 * TICK_MS);
        check(armed_ms <= latest_ms, || format!("{kind} {key} is armed for {armed_ms}, due at {due_ms}"))?;
        let next_ms = self.next_deadline_ms();
        check(next_ms <= latest_ms, || {
            format!("the next deadline is {next_ms}, that of {kind} {key} is {due_ms}")
        })
    }

    fn audit_client(&self, client: &Client) -> Verdict {
        let after_close = self.audit_outbox(&client.outbox)?;
        if let Some(hold) = client.hold() {
            check(!self.audit_outbox(&hold.outbox)?, || "a close frame is held".into())?;
        }
        let closing = matches!(client.state, State::Closing { .. } | State::Finishing { .. });
        self.audit_overflow(client)?;
        check(!client.accepts_data() || !after_close, || "an open client's close is queued".into())?;
        check(!closing || client.outbox.is_empty() || after_close, || "something follows the close".into())?;
        let limits = &self.settings.limits;
        // Beyond the limit: one message of any length when nothing waited, and answers to pings.
        let bound = limits.outbox_bytes as usize + limits.control_payload_bytes + (1 + READS) * READ_BYTES;
        check(client.waiting_bytes() as usize <= bound, || "the outbox is over its bound".into())?;
        match &client.state {
            State::Handshaking { head, .. } => {
                check(head.len() <= limits.head_bytes, || "the head is over its bound".into())
            }
            State::Open { decoder, .. } | State::Closing { decoder, .. } => {
                let bound = 2 * limits.message_bytes + 1024;
                check(decoder.held_bytes() <= bound, || "the decoder holds more than a message".into())
            }
            _ => Ok(()),
        }
    }

    /// Who is told that it is too slow is owed nothing else than the unit that is in flight.
    fn audit_overflow(&self, client: &Client) -> Verdict {
        let last = client.outbox.chunks(&self.spool).last().unwrap_or_default();
        if !matches!(client.state, State::Closing { .. }) || !last.ends_with(b"slow consumer") {
            return Ok(());
        }
        let (ranges, _) = client.outbox.parts();
        let units: usize =
            ranges.map(|(range, opaque)| if opaque { 1 } else { frames(self.spool.get(range)) }).sum();
        check(units <= 2, || "an overflow dropped nothing".into())
    }

    /// Whole frames, nothing behind a close. Tells whether a close is the last one.
    fn audit_outbox(&self, outbox: &Outbox) -> Result<bool, String> {
        let (ranges, cut) = outbox.parts();
        let (mut bytes, mut closed, mut first) = (0, false, true);
        for (range, opaque) in ranges {
            let mut rest = self.spool.get(range);
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

    fn audit_backend(&self, backend: &Backend) -> Verdict {
        let limits = &self.settings.limits;
        let input_max = limits.control_payload_bytes + 16 + READ_BYTES;
        check(backend.input.len() <= input_max, || "its input is over its bound".into())?;
        let replies_max = limits.control_outbox_bytes + REPLY_BYTES;
        check(backend.waiting().len() <= replies_max, || "its replies are over their bound".into())?;
        check(backend.state == backend::State::Open || backend.lock.is_none(), || {
            "a lock outlives its conversation".into()
        })?;
        let complete = matches!(command::decode(&backend.input, self.control_rules()), Ok(Some(_)) | Err(_));
        check(!complete || backend.unfinished, || "a whole command is forgotten".into())
    }
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

/// How a peer stands to the flush.
#[derive(Debug)]
pub(crate) struct Flush {
    /// Bytes are to be sent now.
    pub(crate) waits: bool,
    /// It stands in a queue.
    pub(crate) queued: bool,
    /// A pong is to follow.
    pub(crate) owes_pong: bool,
    /// Our side is to be shut down behind the last byte.
    pub(crate) lingers: bool,
}

// What the driver's audit compares its slots with.
impl Hub {
    /// The keys in use of clients and of backends, in order.
    pub(crate) fn audit_keys(&self) -> (Vec<u32>, Vec<u32>) {
        let clients = self.clients.iter().map(|(key, _)| key as u32).collect();
        (clients, self.backends.iter().map(|(key, _)| key.index() as u32).collect())
    }

    pub(crate) fn audit_client_flush(&self, key: u32) -> Flush {
        let client = &self.clients[key as usize];
        let rare = match &client.state {
            State::Open { rare, .. } => rare.as_ref(),
            _ => None,
        };
        Flush {
            waits: !client.outbox.is_empty(),
            queued: client.queued_urgent || client.queued_bulk,
            owes_pong: rare.is_some_and(|rare| rare.owed_pong.is_some()),
            lingers: matches!(client.state, State::Lingering { .. }),
        }
    }

    pub(crate) fn audit_backend_flush(&self, key: BackendKey) -> Flush {
        let backend = &self.backends[key];
        Flush {
            waits: !backend.waiting().is_empty(),
            queued: backend.queued,
            owes_pong: false,
            lingers: matches!(backend.state, backend::State::Lingering { .. }),
        }
    }

    /// The nearest deadline of all peers.
    pub(crate) fn audit_due_ms(&self) -> Option<u64> {
        let timeouts = &self.settings.timeouts;
        let clients = self.clients.iter().filter_map(|(_, client)| client.next_due(timeouts));
        let backends = self.backends.iter().filter_map(|(_, backend)| backend.next_due(timeouts));
        clients.map(|(due_ms, _)| due_ms).chain(backends.map(|(due_ms, _)| due_ms)).min()
    }
}
