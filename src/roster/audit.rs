//! The roster recounted from scratch: counters, names and deadlines against the clients themselves.

use super::{Index, Roster};
use crate::clock::{Now, TICK_MS, Tick};
use crate::key::{ClientKey, Key};
use crate::peer::client::State;
use std::collections::BTreeSet;

/// The fault that was found, in a sentence.
type Verdict = Result<(), String>;

fn check(holds: bool, sentence: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(sentence()) }
}

impl Roster {
    /// Recounts everything; to be called between two turns.
    ///
    /// # Errors
    /// The first thing that does not add up.
    pub(crate) fn audit(&self, now: Now) -> Verdict {
        self.audit_counts()?;
        self.audit_names()?;
        for (key, client) in self.iter() {
            check(!matches!(client.state(), State::Gone), || {
                format!("client {key} is gone and was not reaped")
            })?;
            let waits = matches!(client.state(), State::Handshaking { .. });
            let id = self.id(key).expect("it is here");
            check(!waits || self.strangers.waiting.contains(&id), || {
                format!("client {key} is not among the strangers")
            })?;
            check(!client.is_refused() || self.strangers.refused.contains(&id), || {
                format!("client {key} is not among the refused")
            })?;
            let due_ms = client.next_due(&self.timeouts).map(|(due_ms, _)| due_ms);
            audit_timer(key, self.wheel.armed_ms(key), due_ms, self.wheel.next_ms(), now)?;
        }
        Ok(())
    }

    fn audit_counts(&self) -> Verdict {
        let count = |is: fn(&State) -> bool| self.iter().filter(|(_, client)| is(client.state())).count();
        let waiting = count(|state| matches!(state, State::Handshaking { .. }));
        let open = count(|state| matches!(state, State::Open { .. }));
        let away = count(|state| matches!(state, State::Away { .. }));
        let found = (waiting, open, self.len() - waiting - open - away);
        let counts = (self.counts.waiting, self.counts.open, self.counts.closing);
        check(found == counts, || format!("counters {counts:?}, found {found:?}"))?;
        self.audit_away()?;
        let refused = self.iter().filter(|(_, client)| client.is_refused()).count();
        check(refused == self.counts.refused, || {
            format!("{refused} were refused, not {}", self.counts.refused)
        })?;
        let streams: usize = self.iter().map(|(_, client)| client.stream_bytes()).sum();
        check(streams == self.stream_bytes, || format!("{} bytes in streams, {streams}", self.stream_bytes))?;
        let kept: usize = self.iter().map(|(_, client)| client.input_bytes()).sum();
        check(kept == self.input_bytes, || format!("{} bytes of input, {kept} kept", self.input_bytes))?;
        for (place, listener) in self.listeners.iter().enumerate() {
            let here = |key: ClientKey| self.cold[key.index()].place() == place;
            let found = self.iter().filter(|(key, client)| client.is_connected() && here(*key)).count();
            check(listener.clients == found as u64, || format!("listener {place} has {found} clients"))?;
        }
        Ok(())
    }

    /// Open clients and those under a name are the same set.
    fn audit_names(&self) -> Verdict {
        let open: BTreeSet<ClientKey> =
            self.iter().filter(|(_, client)| client.accepts_data()).map(|(key, _)| key).collect();
        let index = &self.tokens;
        let indexed: Vec<ClientKey> = index.keys().collect();
        let distinct: BTreeSet<ClientKey> = indexed.iter().copied().collect();
        check(distinct == open && indexed.len() == open.len(), || {
            format!("indexed {indexed:?}, open {open:?}")
        })?;
        let found = |key: &ClientKey| index.of(index.name(*key)).any(|other| other == *key);
        check(open.iter().all(found), || "an open client is not found by its name".into())?;
        self.names.audit()?;
        let is_open = |key: ClientKey| open.contains(&key);
        check(self.names.audit_keys().all(is_open), || "one who is not open is in a group".into())
    }

    /// Open connections of the token that has most.
    pub(crate) fn audit_most_of_a_token(&self) -> usize {
        let same = |index: &Index, key| index.of(index.name(key)).count();
        self.tokens.keys().map(|key| same(&self.tokens, key)).max().unwrap_or(0)
    }

    /// The nearest deadline of all clients.
    pub(crate) fn audit_due_ms(&self) -> Option<u64> {
        self.iter().filter_map(|(_, client)| client.next_due(&self.timeouts)).map(|(due_ms, _)| due_ms).min()
    }
}

/// Armed no later than the nearest deadline, and found by the caller that asks when to come back.
pub(crate) fn audit_timer(
    key: impl Key,
    armed_ms: Option<u64>,
    due_ms: Option<u64>,
    next_ms: u64,
    now: Now,
) -> Verdict {
    let (Some(armed_ms), Some(due_ms)) = (armed_ms, due_ms) else {
        return check(armed_ms == due_ms, || format!("{key:?} is armed {armed_ms:?}, due {due_ms:?}"));
    };
    // A deadline that is past already is armed for the next tick.
    let latest_ms = Tick::at(due_ms).ms().max(now.ms + 2 * TICK_MS);
    check(armed_ms <= latest_ms, || format!("{key:?} is armed for {armed_ms}, due at {due_ms}"))?;
    check(next_ms <= latest_ms, || format!("the next deadline is {next_ms}, that of {key:?} is {due_ms}"))
}
