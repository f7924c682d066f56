//! Everything the hub believes, recounted from scratch: for the simulation, the fuzzer and the soak test.
//!
//! It changes nothing and trusts no counter: redundant data is computed again from the peers and
//! compared. Between two turns it must find nothing (testing.md, "Invariants of the simulation").

use super::Hub;
use super::settled::Flush;
use crate::key::BackendKey;
use crate::peer::backend::{self, Backend};
use crate::peer::client::{ClientId, State};
use crate::roster::audit_timer;
use crate::wire::command;

/// The fault that was found, in a sentence.
type Verdict = Result<(), String>;

/// Bytes that one read of a connection can bring (the driver's scratch buffer).
pub(crate) const READ_BYTES: usize = 64 * 1024;
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
        let limits = &self.rules.limits;
        self.roster().audit(self.now)?;
        // Beyond the limit: one message of any length when nothing waited, and answers to pings.
        self.floor
            .audit(limits.outbox_bytes as usize + limits.control_payload_bytes + (1 + READS) * READ_BYTES)?;
        self.audit_proofs(self.now)?;
        self.audit_accepted()?;
        self.audit_locks()?;
        self.audit_limits()?;
        self.audit_inputs()?;
        self.audit_backends()?;
        self.audit_events()?;
        self.audit_bus()?;
        for (key, backend) in self.backends.iter() {
            self.audit_backend(key, backend).map_err(|what| format!("backend {key}: {what}: {backend:?}"))?;
        }
        Ok(())
    }

    fn audit_accepted(&self) -> Verdict {
        let counts = self.roster().counts();
        let accepted: u64 = self.roster().listeners().iter().map(|listener| listener.accepted).sum();
        let ended = self.stats.closed_total() + self.stats.refused_total() + self.stats.health;
        check(accepted == (counts.waiting + counts.open) as u64 + ended, || {
            format!("accepted {accepted} is not {counts:?} and {ended} ended")
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
        for (key, client) in self.roster().iter() {
            let locks = named.iter().filter(|id| id.key == key).count();
            check(locks == usize::from(client.mail.is_locked()), || {
                format!("client {key} is named by {locks} locks, locked: {}", client.mail.is_locked())
            })?;
        }
        Ok(())
    }

    /// Limits on numbers, which a reload that lowers them does not enforce backwards.
    fn audit_limits(&self) -> Verdict {
        let (limits, roster) = (&self.rules.limits, self.roster());
        let unauthenticated_max = limits.unauthenticated.unwrap_or(usize::MAX);
        check(roster.counts().waiting <= unauthenticated_max, || "too many are unauthenticated".into())?;
        check(roster.counts().open <= limits.clients.unwrap_or(usize::MAX), || "too many are open".into())?;
        let most = roster.audit_most_of_a_token();
        check(most <= limits.connections_per_token as usize, || format!("{most} connections of one token"))?;
        // The bytes that control frames and responses add are not worth closing a client for.
        let bound = limits.queued_bytes + (1 + roster.len()) * READ_BYTES;
        let none_is_behind =
            !roster.iter().any(|(_, client)| client.accepts_data() && client.mail.waiting_bytes() > 0);
        let bytes = self.floor.queued_bytes();
        check(bytes <= bound || none_is_behind, || format!("{bytes} bytes are queued"))
    }

    /// The incomplete input of clients is within its bound.
    fn audit_inputs(&self) -> Verdict {
        let limits = &self.rules.limits;
        for (key, client) in self.roster().iter() {
            match client.state() {
                State::Handshaking { head, .. } => {
                    let len = head.as_ref().map_or(0, |head| head.len());
                    check(len <= limits.head_bytes, || {
                        format!("the head of client {key} is over its bound")
                    })?;
                }
                State::Open { decoder, .. } | State::Closing { decoder, .. } => {
                    check(decoder.held_bytes() <= 2 * limits.message_bytes + 1024, || {
                        format!("the decoder of client {key} holds more than a message")
                    })?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The memory that is kept for backends is the sum over each of them.
    fn audit_backends(&self) -> Verdict {
        let found: usize = self.backends.iter().map(|(_, backend)| backend.held_bytes()).sum();
        let held = self.backends.held_bytes();
        check(held == found, || format!("backends hold {found} bytes, {held} are counted"))
    }

    fn audit_backend(&self, key: BackendKey, backend: &Backend) -> Verdict {
        let limits = &self.rules.limits;
        let stands = self.backends.stands_in_flush(key);
        check(!backend.queued || stands, || "it is not in the queue of replies".into())?;
        check(backend.state != backend::State::Gone, || "it was not reaped".into())?;
        let due_ms = backend.next_due(&self.rules.timeouts).map(|(due_ms, _)| due_ms);
        audit_timer(key, self.backends.armed_ms(key), due_ms, self.next_deadline_ms(), self.now)?;
        let input_max = limits.control_payload_bytes + 16 + READ_BYTES;
        check(backend.input.len() <= input_max, || "its input is over its bound".into())?;
        let replies_max = limits.control_outbox_bytes + REPLY_BYTES + backend.replies.event_bytes();
        check(backend.counted_bytes == backend.held_bytes(), || "what it holds is miscounted".into())?;
        check(backend.replies.chunk().len() <= replies_max, || "its replies are over their bound".into())?;
        check(backend.state == backend::State::Open || backend.lock.is_none(), || {
            "a lock outlives its conversation".into()
        })?;
        let complete = matches!(command::decode(&backend.input, self.control_rules()), Ok(Some(_)) | Err(_));
        check(!complete || backend.unfinished, || "a whole command is forgotten".into())
    }
}

// The state that the driver's audit compares its slots with.
impl Hub {
    pub(crate) fn audit_backend_flush(&self, key: BackendKey) -> Flush {
        let backend = &self.backends[key];
        Flush {
            waits: !backend.replies.chunk().is_empty(),
            queued: backend.queued,
            owes_pong: false,
            lingers: matches!(backend.state, backend::State::Lingering { .. }),
        }
    }

    /// The nearest deadline of all peers.
    pub(crate) fn audit_due_ms(&self) -> Option<u64> {
        let timeouts = &self.rules.timeouts;
        let backends = self.backends.iter().filter_map(|(_, backend)| backend.next_due(timeouts));
        let pools = Some(self.events_due_ms()).filter(|due_ms| *due_ms != u64::MAX);
        let backends = backends.map(|(due_ms, _)| due_ms);
        self.roster().audit_due_ms().into_iter().chain(backends).chain(pools).min()
    }
}
