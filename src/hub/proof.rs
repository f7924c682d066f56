//! Proofs of arrival: a ping behind a message, and the answer when the browsers' pongs have come.
//!
//! A browser answers pings by itself and in order, or only the newest of several (RFC 6455 section 5.5.3): a pong covers
//! all pings before it. Its number says which it is, so one that was never asked for, that has another length, that comes
//! twice or too late proves nothing and does no harm. It proves that the browser has the message, not that the page has
//! seen it.
//!
//! ```text
//! v --no client took it-----------------------------------> answered at once
//! `--ping behind the message--> waiting --all have answered or gone, or timeouts.arrival--> answered
//! ```
//!
//! It never queues a byte for a client and keeps nothing in its record: a connection of which no proof is asked pays
//! nothing. Invariants: a proof is here while a connection is waited for, and `waiting` names each of these once; the
//! backend that asked counts the memory among its answers, so that it is not read before they are out.
//! design: docs/resume.md "Arrival".

use super::Hub;
use super::backends::Ticket;
use crate::clock::Now;
use crate::key::{BackendKey, ClientKey};
use crate::peer::client::ClientId;
use crate::roster::{Address, Sign};
use crate::wire::command::{Answer, Proved, Reply};
use crate::wire::frame::Kind;
use crate::wire::http::Response;
use std::collections::{BTreeMap, BTreeSet};

use super::audience::Reached;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    all: BTreeMap<u64, Proof>,
    waiting: BTreeSet<(ClientKey, u64)>,
    due: BTreeSet<(u64, u64)>,
    /// No proof is due before this moment.
    next_ms: u64,
}

#[derive(Debug)]
struct Proof {
    ticket: Ticket,
    form: Form,
    answer: Proved,
    since_ms: u64,
    until_ms: u64,
    keys: Vec<ClientKey>,
    /// How many of them are waited for.
    left: usize,
}

/// The form of an answer that comes late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A frame, which passes the answers to later commands.
    Frame,
    /// A response in its place; whether it is the last one.
    Response { ends: bool },
}

/// A message that is on its way, and the connections that took it.
#[derive(Debug)]
#[must_use = "its answer is waited for"]
pub(crate) struct Sent {
    number: u64,
    keys: Vec<ClientKey>,
}

/// Memory that one connection takes that is waited for.
const WAITING_BYTES: usize = 32;
/// Memory of a proof beside that.
const PROOF_BYTES: usize = 256;

impl Proofs {
    pub(super) fn new() -> Self {
        Self { next_ms: u64::MAX, ..Self::default() }
    }

    #[inline]
    pub(super) fn next_ms(&self) -> u64 {
        self.next_ms
    }

    fn begin(&mut self, sent: Sent, proof: Proof) {
        let Sent { number, keys } = sent;
        self.waiting.extend(keys.iter().map(|key| (*key, number)));
        self.due.insert((proof.until_ms, number));
        self.all.insert(number, Proof { left: keys.len(), keys, ..proof });
        self.look_ahead();
    }

    fn look_ahead(&mut self) {
        self.next_ms = self.due.first().map_or(u64::MAX, |(until_ms, _)| *until_ms);
    }

    /// The connections are not waited for any more. Comes back when it was the last thing that kept it.
    fn end(&mut self, number: u64) -> Option<Proof> {
        let proof = self.all.remove(&number)?;
        self.due.remove(&(proof.until_ms, number));
        self.look_ahead();
        if proof.left > 0 {
            for key in &proof.keys {
                self.waiting.remove(&(*key, number));
            }
        }
        Some(proof)
    }

    /// What a connection is waited for up to this number.
    fn numbers(&self, key: ClientKey, last: u64) -> Vec<u64> {
        self.waiting.range((key, 0)..=(key, last)).map(|(_, number)| *number).collect()
    }

    fn is_asked(&self, key: ClientKey, number: u64) -> bool {
        self.waiting.contains(&(key, number))
    }

    /// One connection less is waited for; the proof comes back when that was the last.
    fn settle(&mut self, key: ClientKey, number: u64, arrived_ms: Option<u64>) -> Option<Proof> {
        self.waiting.remove(&(key, number));
        let proof = self.all.get_mut(&number)?;
        proof.left -= 1;
        if let Some(now_ms) = arrived_ms {
            proof.answer.arrived += 1;
            proof.answer.ms = now_ms - proof.since_ms;
        }
        if proof.left == 0 { self.end(number) } else { None }
    }
}

impl Hub {
    /// Queues a message, and a ping behind it, for every connection that a list names.
    pub(crate) fn write_proved<'a>(
        &mut self,
        items: impl Iterator<Item = (Sign, Address<'a>)> + Clone,
        kind: Kind,
        message: &[u8],
    ) -> (Reached, Sent) {
        self.stats.directs += 1;
        let (keys, absent) = self.select(items);
        let (mut number, mut taken) = (0, Vec::new());
        if !message.is_empty() {
            taken.reserve_exact(keys.len());
            number = self.settled().deliver_proved(&keys, kind.opcode(), message, &mut taken);
        }
        let selected = keys.len();
        let took = if message.is_empty() { selected } else { taken.len() };
        let away = self.away_of(&keys);
        let reached = Reached { connections: took - away, away, refused: selected - took, absent };
        // Tabs that are away answer nothing.
        taken.retain(|key| self.roster().is_connected(*key));
        self.floor.give_back(keys);
        (reached, Sent { number, keys: taken })
    }

    /// Lets the backend's answer wait for the browsers, for at most so long. It is known at once when nothing was sent.
    pub(crate) fn await_arrival(
        &mut self,
        key: BackendKey,
        sent: Sent,
        answer: Proved,
        form: Form,
        within_ms: u64,
    ) {
        let since_ms = self.now.ms;
        let bytes = PROOF_BYTES + sent.keys.len() * WAITING_BYTES;
        let ticket = match form {
            Form::Frame => self.backends.expect(key, bytes),
            Form::Response { .. } => self.backends.wait(key),
        };
        let (until_ms, is_known) = (since_ms + within_ms, sent.keys.is_empty());
        let proof = Proof { ticket, form, answer, since_ms, until_ms, keys: Vec::new(), left: 0 };
        if is_known {
            return self.answer_proof(proof);
        }
        self.proofs.begin(sent, proof);
    }

    /// A pong came.
    pub(super) fn pong_received(&mut self, id: ClientId, payload: &[u8]) {
        let Ok(number) = payload.try_into().map(u64::from_be_bytes) else { return };
        let keep = self.roster().find(id).and_then(|client| client.mail.keep());
        let is_keeps = keep.is_some_and(|keep| keep.asked(number));
        if !is_keeps && !self.proofs.is_asked(id.key, number) {
            return;
        }
        if keep.is_some() {
            self.floor.confirm(id.key, number, self.now);
        }
        for number in self.proofs.numbers(id.key, number) {
            self.stats.arrived += 1;
            if let Some(since_ms) = self.proofs.all.get(&number).map(|proof| proof.since_ms) {
                self.stats.arrival.note((self.now.ms - since_ms) * 1000);
            }
            if let Some(proof) = self.proofs.settle(id.key, number, Some(self.now.ms)) {
                self.answer_proof(proof);
            }
        }
    }

    /// A connection ends: it is not waited for.
    #[inline]
    pub(super) fn arrives_no_more(&mut self, key: ClientKey) {
        if !self.proofs.waiting.is_empty() {
            self.arrives_nowhere(key);
        }
    }

    #[inline(never)]
    fn arrives_nowhere(&mut self, key: ClientKey) {
        for number in self.proofs.numbers(key, u64::MAX) {
            if let Some(proof) = self.proofs.settle(key, number, None) {
                self.answer_proof(proof);
            }
        }
    }

    /// Answers the proofs whose time is over.
    pub(super) fn expire_proofs(&mut self, budget: usize) -> bool {
        for _ in 0..budget {
            match self.proofs.due.first().copied() {
                Some((until_ms, number)) if until_ms <= self.now.ms => {
                    let proof = self.proofs.end(number).expect("what is due is here");
                    self.answer_proof(proof);
                }
                _ => return false,
            }
        }
        true
    }

    fn answer_proof(&mut self, proof: Proof) {
        let Proof { ticket, form, answer, .. } = proof;
        let answer = Answer::Proved(answer);
        let bytes = match form {
            Form::Frame => {
                let mut bytes = Vec::new();
                Reply::Answer(Box::new(answer)).append_to(&mut bytes);
                bytes
            }
            Form::Response { ends } => response(&answer.json(), ends),
        };
        self.backends.fill_bytes(ticket, bytes, self.now);
    }

    /// Recounts the proofs, for the audit.
    pub(super) fn audit_proofs(&self, now: Now) -> Result<(), String> {
        let proofs = &self.proofs;
        let left: usize = proofs.all.values().map(|proof| proof.left).sum();
        let dues = proofs.all.iter().map(|(number, proof)| (proof.until_ms, *number));
        if left != proofs.waiting.len() || !dues.collect::<BTreeSet<_>>().eq(&proofs.due) {
            return Err(format!("{left} are waited for, {} are named", proofs.waiting.len()));
        }
        if let Some((key, _)) = proofs.waiting.iter().find(|(key, _)| !self.roster().is_connected(*key)) {
            return Err(format!("{key} is waited for and not open"));
        }
        let next_ms = proofs.due.first().map_or(u64::MAX, |(until_ms, _)| *until_ms);
        match next_ms == proofs.next_ms && (next_ms > now.ms || next_ms + 1000 > now.ms) {
            true => Ok(()),
            false => Err(format!("the next proof is due at {next_ms}, not {}", proofs.next_ms)),
        }
    }
}

fn response(json: &[u8], ends: bool) -> Vec<u8> {
    let response =
        Response::new(200).field("Cache-Control", "no-store").field("X-Content-Type-Options", "nosniff");
    let response = if ends { response.close() } else { response };
    response.body("application/json", json)
}
