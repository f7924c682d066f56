//! A backend as a worker: what it is told of, what it has not confirmed, how far behind it is.
//!
//! It never chooses who is told what (`hub::events` does) and holds no bytes on their way: those are among the replies.
//! Invariant: `unconfirmed` holds the last events that were told, in order, and nothing when nothing is to be confirmed.

use crate::clock::Tick;
use crate::key::ClientKey;
use crate::peer::client::ClientId;
use crate::wire::command::{EventKind, Kinds, Number, Telling};
use crate::wire::frame::Kind;
use std::collections::VecDeque;

/// The form that events are told in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Frames of the control protocol.
    Frames,
    /// A line of JSON each, in a chunk of an HTTP response.
    Lines,
}

/// An event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event<'e> {
    pub(crate) kind: EventKind,
    /// The number that it is shared out by: all events of one client, or of one user, have the same.
    pub(crate) whose: u64,
    /// The client that said it.
    pub(crate) client: Option<ClientId>,
    pub(crate) telling: Telling<'e>,
}

/// An event that is kept.
#[derive(Debug)]
pub(crate) struct Kept {
    kind: EventKind,
    whose: u64,
    client: Option<ClientId>,
    /// Of a message, where what the client said begins.
    message: Option<(Kind, usize)>,
    bytes: Box<[u8]>,
    /// It was told before.
    pub(crate) again: bool,
}

impl Kept {
    pub(crate) fn new(event: &Event<'_>, again: bool) -> Self {
        let (message, bytes) = match event.telling {
            Telling::Message(kind, head, said) => (Some((kind, head.len())), [head, said].concat()),
            Telling::Object(object) => (None, object.to_vec()),
        };
        let Event { kind, whose, client, .. } = *event;
        Self { kind, whose, client, message, bytes: bytes.into(), again }
    }

    pub(crate) fn event(&self) -> Event<'_> {
        let telling = match self.message {
            Some((kind, at)) => Telling::Message(kind, &self.bytes[..at], &self.bytes[at..]),
            None => Telling::Object(&self.bytes),
        };
        Event { kind: self.kind, whose: self.whose, client: self.client, telling }
    }

    /// The client whose message it is.
    pub(crate) fn speaker(&self) -> Option<ClientId> {
        self.client.filter(|_| self.kind == EventKind::Message)
    }

    /// The memory that it takes.
    pub(crate) fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.bytes.len()
    }
}

/// Events that are kept, in order.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    kept: VecDeque<Kept>,
    bytes: usize,
}

impl Queue {
    pub(crate) fn push(&mut self, kept: Kept) {
        self.bytes += kept.held_bytes();
        self.kept.push_back(kept);
    }

    pub(crate) fn pop(&mut self) -> Option<Kept> {
        let kept = self.kept.pop_front()?;
        self.bytes -= kept.held_bytes();
        // One burst must not stay for ever.
        if self.kept.is_empty() {
            self.kept = VecDeque::new();
        }
        Some(kept)
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// The memory that they take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Kept> {
        self.kept.iter()
    }
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Worker {
    /// The number of its pool.
    pub(crate) pool: u32,
    pub(crate) kinds: Kinds,
    pub(crate) format: Format,
    /// It only looks on: nothing waits for it.
    pub(crate) watch: bool,
    /// It confirms what it has done.
    pub(crate) ack: bool,
    /// The number of the last event that was told to be confirmed, on this connection.
    pub(crate) told: u64,
    pub(crate) unconfirmed: Queue,
    /// So much waits for it that clients are not read; until it is half as much.
    pub(crate) full: bool,
    /// Bytes that came meanwhile of events that cannot wait.
    pub(crate) excess: usize,
    /// When it began to have events to take, or took or confirmed some last.
    pub(crate) taken: Tick,
    /// Clients that are not read, in order.
    pub(crate) waiting: VecDeque<ClientKey>,
}

impl Worker {
    /// The number of the next event, if it has one.
    pub(crate) fn number(&mut self, again: bool) -> Option<Number> {
        self.ack.then(|| {
            self.told += 1;
            Number { n: self.told, again }
        })
    }

    /// Events up to this one are done. False when it was never told.
    pub(crate) fn confirm(&mut self, n: u64, now: Tick) -> bool {
        if !self.ack || n == 0 || n > self.told {
            return false;
        }
        self.taken = now;
        let left = (self.told - n) as usize;
        while self.unconfirmed.len() > left {
            self.unconfirmed.pop();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker() -> Worker {
        Worker {
            pool: 0,
            kinds: Kinds::NONE,
            format: Format::Frames,
            watch: false,
            ack: true,
            told: 0,
            unconfirmed: Queue::default(),
            full: false,
            excess: 0,
            taken: Tick::at(0),
            waiting: VecDeque::new(),
        }
    }

    #[test]
    fn a_confirmation_covers_all_before_it_and_nothing_else() {
        let mut worker = worker();
        assert!(!worker.confirm(0, Tick::at(0)) && !worker.confirm(1, Tick::at(0)), "nothing was told");
        for said in [&b"one"[..], b"two", b"three"] {
            let telling = Telling::Message(Kind::Text, b"1-1 t  ", said);
            let event = Event { kind: EventKind::Message, whose: 7, client: None, telling };
            assert!(worker.number(false).is_some());
            worker.unconfirmed.push(Kept::new(&event, true));
        }
        assert!(
            worker.confirm(2, Tick::at(0))
                && worker.confirm(1, Tick::at(0))
                && worker.confirm(2, Tick::at(0)),
            "what is done is done"
        );
        assert!(!worker.confirm(4, Tick::at(0)) && !worker.confirm(0, Tick::at(0)));
        let left: Vec<&Kept> = worker.unconfirmed.iter().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].event().telling, Telling::Message(Kind::Text, b"1-1 t  ", b"three"));
        assert!(worker.confirm(3, Tick::at(0)));
        assert_eq!((worker.unconfirmed.len(), worker.unconfirmed.bytes()), (0, 0));
    }
}
