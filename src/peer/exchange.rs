//! One HTTP request of a backend as it arrives: its head, then its body.
//!
//! It never judges what is asked for and never answers (`dispatch` does). Invariant: each byte is looked at once, however
//! small the pieces are, and none behind the request is taken.

use crate::wire::command::{Planned, Sends};
use crate::wire::http::{self, Body, BodyError, Framing, HeadError, Piece};

/// A head that is not whole grows by this much at most before it is looked at again.
const HEAD_STEP_BYTES: usize = 1024;
/// An empty buffer larger than this is given back.
const BYTES_KEPT: usize = 4096;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    head: Vec<u8>,
    scanned: usize,
    manner: Option<Manner>,
    incoming: Incoming,
    batch: Option<Batch>,
}

/// How a response is to be given, as the head says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// To HEAD: without its body.
    pub(crate) is_head: bool,
    /// The connection ends behind it.
    pub(crate) ends: bool,
}

/// The body as it arrives.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    /// The head is whole and was found to be one that is answered.
    body: Option<Body>,
    message: Vec<u8>,
}

impl Incoming {
    /// The head is one that is answered: its body follows.
    pub(crate) fn begin(&mut self, framing: Framing, bytes_max: usize) -> Result<(), BodyError> {
        self.body = Some(Body::new(framing, bytes_max as u64)?);
        Ok(())
    }

    /// Takes what of the input is body. Whether all of it is there; asked again it says so again.
    pub(crate) fn read(&mut self, input: &mut &[u8]) -> Result<bool, BodyError> {
        let Some(body) = &mut self.body else { return Ok(false) };
        loop {
            match body.read(input)? {
                Piece::Data(data) => self.message.extend_from_slice(data),
                Piece::More => return Ok(false),
                Piece::End => return Ok(true),
            }
        }
    }

    /// The body so far.
    pub(crate) fn message(&self) -> &[u8] {
        &self.message
    }
}

/// The sends that a body asks for, which may take several turns.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Those that are not done, the next one last.
    left: Vec<Planned>,
    /// The answers of those that are.
    answers: Vec<u8>,
    as_list: bool,
}

impl Batch {
    pub(crate) fn new(sends: Sends) -> Self {
        let Sends { mut list, as_list } = sends;
        list.reverse();
        Self { left: list, answers: Vec::new(), as_list }
    }

    /// Whether the answers go as a list.
    pub(crate) fn is_list(&self) -> bool {
        self.as_list
    }

    /// The next one to be done.
    pub(crate) fn next(&self) -> Option<&Planned> {
        self.left.last()
    }

    /// It is, with this answer.
    pub(crate) fn answered(&mut self, answer: &[u8]) {
        self.left.pop();
        if !self.answers.is_empty() {
            self.answers.push(b',');
        }
        self.answers.extend_from_slice(answer);
    }

    /// The list of the answers, when all are done.
    pub(crate) fn body(&mut self) -> Vec<u8> {
        [b"[", &std::mem::take(&mut self.answers)[..], b"]"].concat()
    }

    /// Memory that is held.
    fn held_bytes(&self) -> usize {
        let one = |planned: &Planned| size_of::<Planned>() + planned.to.len() + planned.message.len();
        self.answers.capacity() + self.left.iter().map(one).sum::<usize>()
    }
}

impl Exchange {
    /// Takes what of the input is head. Whether all of it is there.
    pub(crate) fn read_head(&mut self, input: &mut &[u8], bytes_max: usize) -> Result<bool, HeadError> {
        while !input.is_empty() && self.head.len() <= bytes_max {
            let before = self.head.len();
            // Ordinarily all of it comes at once, and nothing else.
            let room = bytes_max + 1 - before;
            let step = if before == 0 { room } else { HEAD_STEP_BYTES.min(room) };
            let (piece, _) = input.split_at(step.min(input.len()));
            if before == 0 {
                if let Some(end) = http::scan(piece, 0)? {
                    self.head.extend_from_slice(&piece[..end]);
                    *input = &input[end..];
                    return Ok(true);
                }
                self.head.extend_from_slice(piece);
                *input = &input[piece.len()..];
            } else {
                self.head.extend_from_slice(piece);
                let end = http::scan(&self.head, self.scanned)?;
                let used = end.map_or(piece.len(), |end| end - before);
                self.head.truncate(before + used);
                *input = &input[used..];
                if end.is_some() {
                    return Ok(true);
                }
            }
            self.scanned = self.head.len();
        }
        Ok(false)
    }

    /// What is there of the head.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Whether the head was taken and its body is read.
    pub(crate) fn has_head(&self) -> bool {
        self.incoming.body.is_some()
    }

    /// The head, and its body beside it: so the head is read once although the body grows.
    pub(crate) fn parts(&mut self) -> (&[u8], &mut Incoming, &mut Option<Manner>) {
        (&self.head, &mut self.incoming, &mut self.manner)
    }

    /// How a response is to be given; none when the head could not be read.
    pub(crate) fn manner(&self) -> Option<Manner> {
        self.manner
    }

    /// The body was read as sends: it is not needed any more.
    pub(crate) fn plan(&mut self, batch: Batch) {
        self.incoming.message = Vec::new();
        self.batch = Some(batch);
    }

    /// The sends that are under way.
    pub(crate) fn batch(&mut self) -> Option<&mut Batch> {
        self.batch.as_mut()
    }

    /// The request is answered: the next one may come.
    pub(crate) fn clear(&mut self) {
        (self.scanned, self.manner, self.incoming.body, self.batch) = (0, None, None, None);
        for buffer in [&mut self.head, &mut self.incoming.message] {
            buffer.clear();
            buffer.shrink_to(BYTES_KEPT);
        }
    }

    /// Memory that is held.
    pub(crate) fn held_bytes(&self) -> usize {
        self.head.capacity()
            + self.incoming.message.capacity()
            + self.batch.as_ref().map_or(0, Batch::held_bytes)
    }
}
