//! The requests whose answers are awaited from other nodes, and the sums that come of them.
//!
//! The broker says how many connections a request has reached, and each of them answers: so many answers make a request
//! whole. It never executes anything. Invariant: a request that is here has a place among the replies of its backend, and
//! leaves with the answer that fills it.

use crate::hub::backends::Ticket;
use crate::wire::command::{Answer, Reply, Written};
use crate::wire::envelope::Figures;
use crate::wire::http::Response;
use std::collections::{HashMap, VecDeque};
use std::hash::RandomState;

/// Requests that wait at the same time; more are answered by this node alone.
const REQUESTS_MAX: usize = 65_536;

/// What a command has done: here, or on several nodes together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sum {
    /// `c`: whether somebody took the message to this token.
    Taken(Box<[u8]>, bool),
    /// `x`, and the items that named nobody, each with its place in the list.
    Written { connections: usize, away: usize, refused: usize, absent: Vec<(u32, String)> },
    /// `k`, `r`.
    Closed(usize),
    /// `j`, `J`.
    Moved(usize, Option<String>),
    /// `o`.
    Online(Vec<(String, usize)>),
}

/// How an answer goes back to its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Back {
    /// As a frame.
    Frame,
    /// As the response to a request, which may be the last, or one that has no body.
    Http { ends: bool, is_head: bool },
}

impl Sum {
    /// What one node tells the one that asked.
    pub(crate) fn figures(&self) -> (Vec<u32>, &str) {
        let number = |count: &usize| u32::try_from(*count).unwrap_or(u32::MAX);
        match self {
            Self::Taken(_, taken) => (vec![u32::from(*taken)], ""),
            Self::Written { connections, away, refused, absent } => {
                let mut figures = vec![number(connections), number(away), number(refused)];
                figures.extend(absent.iter().map(|(place, _)| *place));
                (figures, "")
            }
            Self::Closed(count) => (vec![number(count)], ""),
            Self::Moved(count, error) => (vec![number(count)], error.as_deref().unwrap_or_default()),
            Self::Online(items) => (items.iter().map(|(_, count)| number(count)).collect(), ""),
        }
    }

    /// Adds another node's. False when they are not figures of such a command.
    fn add(&mut self, figures: Figures<'_>) -> bool {
        let all: Vec<usize> = figures.iter().map(|figure| figure as usize).collect();
        match (self, all.as_slice()) {
            (Self::Taken(_, taken), [theirs]) => *taken |= *theirs > 0,
            (
                Self::Written { connections, away, refused, absent },
                [theirs, their_away, their_refused, places @ ..],
            ) => {
                *connections += theirs;
                *away += their_away;
                *refused += their_refused;
                // An item is absent when it is so everywhere. The places are in their order.
                absent.retain(|(place, _)| places.binary_search(&(*place as usize)).is_ok());
            }
            // A node that could not revoke a login has closed nothing, and says why.
            (Self::Closed(count), [theirs]) if figures.error().is_empty() => *count += theirs,
            (Self::Moved(count, error), [theirs]) => {
                *count += theirs;
                if error.is_none() && !figures.error().is_empty() {
                    *error = Some(figures.error().to_owned());
                }
            }
            (Self::Online(items), theirs) if items.len() == theirs.len() => {
                items.iter_mut().zip(theirs).for_each(|((_, count), theirs)| *count += theirs);
            }
            _ => return false,
        }
        true
    }

    /// Whether no other answer changes anything.
    fn is_decided(&self) -> bool {
        matches!(self, Self::Taken(_, true))
    }

    fn answer(self, incomplete: bool) -> Answer {
        let answer = match self {
            Self::Taken(..) => unreachable!("it is answered by a letter"),
            Self::Written { connections, away, refused, absent } => {
                let absent = absent.into_iter().map(|(_, item)| item).collect();
                Answer::Written(Written { connections, away, absent, refused })
            }
            Self::Closed(count) => Answer::Closed(count),
            Self::Moved(count, error) => Answer::Moved(count, error),
            Self::Online(items) => Answer::Online(items),
        };
        if incomplete { Answer::Incomplete(Box::new(answer)) } else { answer }
    }

    /// The bytes of the answer.
    pub(crate) fn render(self, back: Back, incomplete: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        match (self, back) {
            (Self::Taken(token, true), _) => Reply::Ack(&token).append_to(&mut bytes),
            (Self::Taken(token, false), _) => Reply::Nack(&token).append_to(&mut bytes),
            (sum, Back::Frame) => Reply::Answer(Box::new(sum.answer(incomplete))).append_to(&mut bytes),
            (sum, Back::Http { ends, is_head }) => {
                let response = Response::new(200)
                    .field("Cache-Control", "no-store")
                    .field("X-Content-Type-Options", "nosniff");
                let response = if ends { response.close() } else { response };
                let body = sum.answer(incomplete).json();
                bytes = match is_head {
                    true => response.head_for("application/json", body.len()),
                    false => response.body("application/json", &body),
                };
            }
        }
        bytes
    }
}

/// A request that waits.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) ticket: Ticket,
    pub(super) back: Back,
    pub(super) sum: Sum,
    /// The instance that it was published by.
    instance: usize,
    /// How many the broker has given it to, when that is known.
    expected: Option<usize>,
    answers: usize,
    /// An answer that could not be added.
    is_odd: bool,
    /// This node can be reached by the groups that connections have joined.
    is_reachable: bool,
}

impl Request {
    pub(super) fn new(ticket: Ticket, back: Back, sum: Sum, instance: usize) -> Self {
        Self { ticket, back, sum, instance, expected: None, answers: 0, is_odd: false, is_reachable: true }
    }

    fn is_whole(&self) -> bool {
        self.is_reachable && self.expected.is_some_and(|expected| self.answers >= expected)
    }
}

/// A request that is over, and whether an answer is missing.
pub(super) type Done = (Request, bool);

/// See the module's head.
#[derive(Debug)]
pub(super) struct Asked {
    all: HashMap<u64, Request, RandomState>,
    deadlines: VecDeque<(u64, u64)>,
    numbers: u64,
}

impl Asked {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self { all: HashMap::with_hasher(hasher), deadlines: VecDeque::new(), numbers: 0 }
    }

    /// Whether there is room for one more.
    pub(super) fn has_room(&self) -> bool {
        self.all.len() < REQUESTS_MAX
    }

    /// The number of the next request.
    pub(super) fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Waits for the answers to a request.
    pub(super) fn wait(&mut self, number: u64, request: Request, until_ms: u64) {
        self.all.insert(number, request);
        self.deadlines.push_back((until_ms, number));
    }

    /// The broker has given it to so many.
    pub(super) fn published(&mut self, number: u64, count: i64) -> Option<Done> {
        let request = self.all.get_mut(&number)?;
        request.expected = Some(usize::try_from(count).unwrap_or(0));
        self.done(number)
    }

    /// A node has answered, or it was the request's own node, which hears it too and has nothing to add.
    pub(super) fn answered(&mut self, number: u64, figures: Option<Figures<'_>>) -> Option<Done> {
        let request = self.all.get_mut(&number)?;
        request.answers += 1;
        request.is_odd |= figures.is_some_and(|figures| !request.sum.add(figures));
        self.done(number)
    }

    /// A request waits for more than answers.
    pub(super) fn is_not_reachable(&mut self, number: u64) {
        if let Some(request) = self.all.get_mut(&number) {
            request.is_reachable = false;
        }
    }

    /// It has come.
    pub(super) fn is_reachable(&mut self, number: u64) -> Option<Done> {
        self.all.get_mut(&number)?.is_reachable = true;
        self.done(number)
    }

    fn done(&mut self, number: u64) -> Option<Done> {
        let request =
            self.all.get(&number).filter(|request| request.is_whole() || request.sum.is_decided())?;
        let incomplete = request.is_odd;
        self.all.remove(&number).map(|request| (request, incomplete))
    }

    /// The next request that has waited long enough.
    pub(super) fn late(&mut self, now_ms: u64) -> Option<Done> {
        loop {
            let (until_ms, number) = *self.deadlines.front()?;
            let request = self.all.remove(&number);
            match request {
                None => {}
                Some(request) if until_ms > now_ms => {
                    self.all.insert(number, request);
                    return None;
                }
                Some(request) => {
                    self.deadlines.pop_front();
                    return Some((request, true));
                }
            }
            self.deadlines.pop_front();
        }
    }

    /// The requests that an instance can say no more about: a connection to it is over.
    pub(super) fn lost(&mut self, instance: usize) -> Vec<Done> {
        let numbers: Vec<u64> = self
            .all
            .iter()
            .filter(|(_, request)| request.instance == instance)
            .map(|(number, _)| *number)
            .collect();
        numbers.iter().filter_map(|number| self.all.remove(number)).map(|request| (request, true)).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// When the next one has waited long enough.
    pub(super) fn next_ms(&self) -> u64 {
        self.deadlines.front().map_or(u64::MAX, |(until_ms, _)| *until_ms)
    }
}
