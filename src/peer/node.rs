//! One connection to an instance of the bus's broker, a Redis or a Valkey: its state, the bytes for it, its deadlines.
//!
//! There are two to each instance: `Sub`, which hears what other nodes say, and `Cmd`, which says something, because a
//! connection that has subscribed may not do anything else in RESP2. It never touches a socket, a name or a client. Its
//! password is in the bytes for the broker until they are out, and in no other place: neither in a reason nor in `Debug`.
//! Invariant: `awaited` has an entry for each command on its way whose answer is not here.
//!
//! ```text
//! Resting --its time--> Due --the server opens it--> Opening --greeted--> Ready
//!    ^                                                  |                   |
//!    `---- reaped ------------- Gone <--refused, late---+---error, silence--'
//! ```

use crate::auth::Secret;
use crate::wire::resp::{self, Answer, Value};
use std::collections::VecDeque;
use std::fmt;

/// Between two questions whether the instance is there.
const PING_MS: u64 = 2_000;
/// An instance that has said nothing for so long is dead; so is one that is not greeted in that time.
const DEAD_MS: u64 = 6_000;
/// The pause before the first attempt to come back, and the longest: each is twice the one before, less a part that is
/// drawn, so that the nodes do not come all at once.
const RETRY_MIN_MS: u64 = 100;
const RETRY_MAX_MS: u64 = 5_000;
/// A buffer larger than this is given back when it is empty.
const BYTES_KEPT: usize = 64 * 1024;
/// The same of the input: some reads of the driver.
const BYTES_READ_KEPT: usize = 256 * 1024;
/// Longest part of an error of the broker's that is shown.
const ERROR_SHOWN_MAX: usize = 120;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It hears.
    Sub,
    /// It speaks.
    Cmd,
}

/// Where it stands. See the module's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Resting { until_ms: u64 },
    Due,
    Opening { until_ms: u64 },
    Ready { since_ms: u64 },
    Gone,
}

/// The answer to a command that is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    /// To `AUTH`.
    Auth,
    /// To `PING`.
    Pong,
    /// To `PUBLISH`, of the request with this number; 0 when nobody waits for it.
    Published(u64),
}

/// What an answer of the broker means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard<'b> {
    /// Nothing more than that it is there.
    Nothing,
    /// The connection is ready.
    Up,
    /// A message on a channel.
    Message(&'b [u8], &'b [u8]),
    /// What is published on this channel comes here from now on.
    Subscribed(&'b [u8]),
    /// A message of ours has reached so many connections.
    Published(u64, i64),
    /// The connection is of no use, for this reason.
    Failed(String),
}

/// What the time has brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Timed {
    /// Nothing.
    Nothing,
    /// It has something to say.
    Asked,
    /// It is of no use any more, for this reason.
    Dead(String),
}

/// The name and the password that the broker asks for.
#[derive(Clone, Default)]
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// See the module's head.
pub(crate) struct Link {
    role: Role,
    state: State,
    /// The beginning of an answer whose rest has not come.
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    sent: usize,
    awaited: VecDeque<Awaited>,
    pinged_ms: u64,
    /// When the first of the questions was asked that are not answered.
    asked_ms: Option<u64>,
    /// When the instance last took bytes although more waited.
    taken_ms: u64,
    retry_ms: u64,
    /// Why it is not ready; empty as long as nothing has failed.
    reason: String,
    /// The driver has a socket for it.
    has_socket: bool,
    /// It stands in the queue of the flush.
    pub(crate) queued: bool,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.outgoing.len() - self.sent;
        let mut link = f.debug_struct("Link");
        link.field("role", &self.role).field("state", &self.state).field("waiting", &waiting);
        link.field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl Link {
    pub(crate) fn new(role: Role) -> Self {
        Self {
            role,
            state: State::Due,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            sent: 0,
            awaited: VecDeque::new(),
            pinged_ms: 0,
            asked_ms: None,
            has_socket: false,
            taken_ms: 0,
            retry_ms: RETRY_MIN_MS,
            reason: String::new(),
            queued: false,
        }
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }

    /// Whether it has a socket, or is being given one.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Opening { .. } | State::Ready { .. })
    }

    /// Why it is not ready, in a sentence; empty when there is no reason yet.
    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }

    pub(crate) fn has_socket(&self) -> bool {
        self.has_socket
    }

    // Opening.

    /// It is being given a socket: its first words wait for that. `greeting` are the channels that a `Sub` hears from the
    /// beginning.
    pub(crate) fn open(&mut self, now_ms: u64, login: &Login, greeting: &[&[u8]]) {
        debug_assert_eq!(self.state, State::Due, "it is opened when it is due");
        self.state = State::Opening { until_ms: now_ms + DEAD_MS };
        self.asked_ms = None;
        if let Some(password) = &login.password {
            let user = login.user.as_deref().map(str::as_bytes);
            let words: Vec<&[u8]> =
                [Some(&b"AUTH"[..]), user, Some(password.as_bytes())].into_iter().flatten().collect();
            resp::append_command(&mut self.outgoing, words.into_iter());
            self.awaited.push_back(Awaited::Auth);
        }
        match self.role {
            Role::Sub => self.subscribe(greeting.iter().copied()),
            Role::Cmd => self.ping(now_ms),
        }
    }

    /// The driver has its socket.
    pub(crate) fn connect(&mut self) {
        self.has_socket = true;
    }

    /// It is over, for this reason: it is to be reaped. Returns whether that is new.
    pub(crate) fn fail(&mut self, reason: String) -> bool {
        if !self.is_open() {
            return false;
        }
        self.reason = reason;
        self.state = State::Gone;
        (self.incoming, self.awaited) = (Vec::new(), VecDeque::new());
        self.forget_outgoing();
        true
    }

    /// It has been reaped: it comes back after a pause. `draw` is any number.
    pub(crate) fn rest(&mut self, now_ms: u64, draw: u64) {
        debug_assert_eq!(self.state, State::Gone, "only one that is gone is reaped");
        self.has_socket = false;
        let pause_ms = self.retry_ms - draw % (self.retry_ms / 2).max(1);
        self.retry_ms = (2 * self.retry_ms).min(RETRY_MAX_MS);
        self.state = State::Resting { until_ms: now_ms + pause_ms };
    }

    // Output.

    fn command<'a>(&mut self, words: impl ExactSizeIterator<Item = &'a [u8]>) {
        resp::append_command(&mut self.outgoing, words);
    }

    /// Subscribes to channels: one command.
    pub(crate) fn subscribe<'a>(&mut self, channels: impl ExactSizeIterator<Item = &'a [u8]>) {
        let channels: Vec<&[u8]> = std::iter::once(&b"SUBSCRIBE"[..]).chain(channels).collect();
        self.command(channels.into_iter());
    }

    /// Leaves channels: one command.
    pub(crate) fn unsubscribe<'a>(&mut self, channels: impl ExactSizeIterator<Item = &'a [u8]>) {
        let channels: Vec<&[u8]> = std::iter::once(&b"UNSUBSCRIBE"[..]).chain(channels).collect();
        self.command(channels.into_iter());
    }

    /// Publishes a message that is made of pieces. `number` is that of the request, if somebody waits for the count.
    pub(crate) fn publish(&mut self, channel: &[&[u8]], message: &[&[u8]], number: u64) {
        debug_assert_eq!(self.role, Role::Cmd);
        resp::append_publish(&mut self.outgoing, channel, message);
        self.awaited.push_back(Awaited::Published(number));
    }

    fn ping(&mut self, now_ms: u64) {
        self.pinged_ms = now_ms;
        self.asked_ms.get_or_insert(now_ms);
        self.command([&b"PING"[..]].into_iter());
        if self.role == Role::Cmd {
            self.awaited.push_back(Awaited::Pong);
        }
    }

    /// The bytes to be sent now.
    pub(crate) fn chunk(&self) -> &[u8] {
        &self.outgoing[self.sent..]
    }

    /// The kernel took the first bytes of them.
    pub(crate) fn sent(&mut self, bytes: usize, now_ms: u64) {
        self.sent += bytes;
        if bytes > 0 {
            self.taken_ms = now_ms;
        }
        if self.sent == self.outgoing.len() {
            self.forget_outgoing();
        } else if self.sent > self.outgoing.len() / 2 {
            self.outgoing.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// The password is among the first bytes: they are overwritten before the memory is used for something else.
    fn forget_outgoing(&mut self) {
        if !self.is_ready() {
            self.outgoing.fill(0);
        }
        self.outgoing.clear();
        self.sent = 0;
        if self.outgoing.capacity() > BYTES_KEPT {
            self.outgoing = Vec::new();
        }
    }

    /// Bytes that wait for the instance.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.outgoing.len() - self.sent
    }

    /// Whether the kernel took bytes for it within this time.
    pub(crate) fn takes(&self, now_ms: u64, within_ms: u64) -> bool {
        now_ms < self.taken_ms + within_ms
    }

    // Input.

    /// The input that came so far and these bytes, to be read; what is left of them comes back by
    /// [`keep_input`](Self::keep_input).
    pub(crate) fn take_input(&mut self, input: &[u8]) -> Vec<u8> {
        self.asked_ms = None;
        let mut gathered = std::mem::take(&mut self.incoming);
        gathered.extend_from_slice(input);
        gathered
    }

    /// The beginning of an answer whose rest has not come.
    pub(crate) fn keep_input(&mut self, rest: Vec<u8>) {
        let is_worth_keeping = !rest.is_empty() || rest.capacity() <= BYTES_READ_KEPT;
        if self.is_open() && is_worth_keeping {
            self.incoming = rest;
        }
    }

    /// One answer of the broker.
    pub(crate) fn hear<'b>(&mut self, answer: &Answer<'b>, now_ms: u64) -> Heard<'b> {
        match answer {
            _ if !self.is_open() => Heard::Nothing,
            Answer::One(Value::Error(error)) => {
                let to_auth = self.awaited.front() == Some(&Awaited::Auth);
                Heard::Failed(explain(error, to_auth))
            }
            Answer::One(value) => self.hear_one(*value, now_ms),
            Answer::List(items) => match (self.role, items.as_slice()) {
                (
                    Role::Sub,
                    [Value::Text(Some(b"message")), Value::Text(Some(channel)), Value::Text(Some(text))],
                ) => Heard::Message(channel, text),
                (
                    Role::Sub,
                    [Value::Text(Some(b"subscribe")), Value::Text(Some(channel)), Value::Number(_)],
                ) => {
                    if self.is_ready() {
                        Heard::Subscribed(channel)
                    } else {
                        self.get_ready(now_ms)
                    }
                }
                (Role::Sub, [Value::Text(Some(b"unsubscribe")), ..] | [Value::Text(Some(b"pong")), _]) => {
                    Heard::Nothing
                }
                _ => confused(),
            },
        }
    }

    fn hear_one<'b>(&mut self, value: Value<'b>, now_ms: u64) -> Heard<'b> {
        match (self.awaited.pop_front(), value) {
            (Some(Awaited::Auth), Value::Status(b"OK")) => Heard::Nothing,
            (Some(Awaited::Pong), Value::Status(b"PONG")) if self.is_ready() => Heard::Nothing,
            (Some(Awaited::Pong), Value::Status(b"PONG")) => self.get_ready(now_ms),
            (Some(Awaited::Published(number)), Value::Number(count)) => Heard::Published(number, count),
            _ => confused(),
        }
    }

    fn get_ready<'b>(&mut self, now_ms: u64) -> Heard<'b> {
        self.state = State::Ready { since_ms: now_ms };
        self.reason.clear();
        Heard::Up
    }

    // Time.

    /// No deadline is before this moment.
    pub(crate) fn next_ms(&self) -> u64 {
        match self.state {
            State::Resting { until_ms } | State::Opening { until_ms } => until_ms,
            State::Ready { .. } => (self.pinged_ms + PING_MS).min(self.dead_ms()),
            State::Due | State::Gone => u64::MAX,
        }
    }

    /// When it is dead unless it answers: a process that was stopped asks first.
    fn dead_ms(&self) -> u64 {
        self.asked_ms.map_or(u64::MAX, |asked_ms| asked_ms + DEAD_MS - PING_MS)
    }

    /// Does what is due.
    pub(crate) fn expire(&mut self, now_ms: u64) -> Timed {
        match self.state {
            State::Resting { until_ms } if until_ms <= now_ms => {
                self.state = State::Due;
                Timed::Nothing
            }
            State::Opening { until_ms } if until_ms <= now_ms => {
                Timed::Dead(format!("it has not answered within {} seconds", DEAD_MS / 1000))
            }
            State::Ready { .. } if self.dead_ms() <= now_ms => {
                Timed::Dead(format!("it has been silent for {} seconds", DEAD_MS / 1000))
            }
            State::Ready { since_ms } if self.pinged_ms + PING_MS <= now_ms => {
                if since_ms + DEAD_MS <= now_ms {
                    self.retry_ms = RETRY_MIN_MS; // it works
                }
                self.ping(now_ms);
                Timed::Asked
            }
            _ => Timed::Nothing,
        }
    }
}

fn confused<'b>() -> Heard<'b> {
    Heard::Failed("its answers are not those of a Redis to our commands".into())
}

/// The sentence for an error of the broker's. To `AUTH` the broker may answer with the words of the command itself, so
/// none of its own are shown then.
fn explain(error: &[u8], to_auth: bool) -> String {
    let word = error.split(|byte| *byte == b' ').next().unwrap_or_default();
    let known = match word {
        b"NOAUTH" => "it asks for a password: bus.password_file, and bus.user if it has users",
        b"WRONGPASS" => "it refuses the password of bus.password_file, or bus.user",
        b"NOPERM" => {
            "bus.user may not do what is needed: +ping +publish +subscribe +unsubscribe and channels of bus.name"
        }
        b"LOADING" => "it is still loading its data",
        b"MOVED" | b"ASK" | b"CROSSSLOT" | b"CLUSTERDOWN" => {
            "it is a node of a Redis Cluster, which is not what a bus needs: list independent instances"
        }
        b"READONLY" => "it is a replica, which takes no writes: list its master",
        b"MASTERDOWN" => "it is a replica, and its master is down",
        b"MISCONF" => "it takes no writes, since it cannot save its data",
        b"OOM" => "its memory is full",
        b"BUSY" => "it is busy with a script",
        b"DENIED" => {
            "it is in protected mode, and lets connections of its own host in only: give it a password"
        }
        _ if error.starts_with(b"ERR max number of clients") => "it has as many connections as it allows",
        _ if error.starts_with(b"ERR Client sent AUTH")
            || error.starts_with(b"ERR AUTH <password> called") =>
        {
            "it has no password, and bus.password_file gives one"
        }
        _ if to_auth => "it refuses AUTH",
        _ => {
            let shown: String = String::from_utf8_lossy(error).chars().take(ERROR_SHOWN_MAX).collect();
            return format!("it answers {:?}", shown.replace('"', "'"));
        }
    };
    known.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "s3cr3t-of-the-bus";

    fn login() -> Login {
        Login { user: Some("wsson".into()), password: Some(Secret::new(SECRET)) }
    }

    fn hear(link: &mut Link, bytes: &[u8], now_ms: u64) -> Vec<String> {
        let (mut at, mut heard) = (0, Vec::new());
        while let Some((used, answer)) = resp::decode(&bytes[at..], 1000).unwrap() {
            let news = link.hear(&answer, now_ms);
            heard.push(match &news {
                Heard::Failed(reason) => {
                    assert!(link.fail(reason.clone()));
                    "Failed".into()
                }
                news => format!("{news:?}"),
            });
            at += used;
        }
        heard
    }

    fn ready(role: Role) -> Link {
        let mut link = Link::new(role);
        link.open(0, &Login::default(), &[b"x:*"]);
        let answer: &[u8] =
            if role == Role::Cmd { b"+PONG\r\n" } else { b"*3\r\n$9\r\nsubscribe\r\n$3\r\nx:*\r\n:1\r\n" };
        assert_eq!(hear(&mut link, answer, 10), ["Up"]);
        let bytes = link.waiting_bytes();
        link.sent(bytes, 10);
        link
    }

    #[test]
    fn it_greets_with_the_password_and_forgets_it() {
        let mut link = Link::new(Role::Cmd);
        link.open(0, &login(), &[]);
        let expected = format!(
            "*3\r\n$4\r\nAUTH\r\n$5\r\nwsson\r\n${}\r\n{SECRET}\r\n*1\r\n$4\r\nPING\r\n",
            SECRET.len()
        );
        assert_eq!(link.chunk(), expected.as_bytes());
        assert!(!format!("{link:?} {:?}", login()).contains(SECRET));
        let bytes = link.waiting_bytes();
        link.sent(bytes, 1);
        assert!(link.chunk().is_empty());
        assert_eq!(hear(&mut link, b"+OK\r\n+PONG\r\n", 2), ["Nothing", "Up"]);
    }

    #[test]
    fn every_error_is_a_sentence_without_the_password() {
        for (error, words) in [
            ("NOAUTH Authentication required.", "asks for a password"),
            ("WRONGPASS invalid username-password pair or user is disabled.", "refuses the password"),
            ("NOPERM this user has no permissions to run the 'ping' command", "may not do"),
            ("LOADING Redis is loading the dataset in memory", "still loading"),
            ("MOVED 3999 127.0.0.1:6381", "Redis Cluster"),
            ("READONLY You can't write against a read only replica.", "a replica"),
            ("MISCONF Redis is configured to save RDB snapshots", "cannot save"),
            ("DENIED Redis is running in protected mode", "protected mode"),
            ("ERR max number of clients reached", "as many connections"),
            ("ERR something \"else\" went wrong", "it answers \"ERR something 'else' went wrong\""),
        ] {
            let mut link = Link::new(Role::Cmd);
            link.open(0, &Login::default(), &[]);
            assert_eq!(hear(&mut link, format!("-{error}\r\n").as_bytes(), 1), ["Failed"]);
            assert!(link.reason().contains(words), "{error}: {}", link.reason());
            assert_eq!(link.state(), State::Gone);
        }
        let mut link = Link::new(Role::Sub);
        link.open(0, &login(), &[b"x:*"]);
        let echo = format!("-ERR unknown command 'AUTH', with args beginning with: 'wsson' '{SECRET}'\r\n");
        assert_eq!(hear(&mut link, echo.as_bytes(), 1), ["Failed"]);
        assert_eq!(link.reason(), "it refuses AUTH");
    }

    #[test]
    fn it_is_dead_when_it_is_silent() {
        for role in [Role::Sub, Role::Cmd] {
            let mut link = ready(role);
            (link.pinged_ms, link.asked_ms) = (10, None);
            assert_eq!(link.expire(2_009), Timed::Nothing);
            assert!(link.chunk().is_empty());
            assert_eq!(link.expire(2_010), Timed::Asked);
            assert_eq!(link.chunk(), b"*1\r\n$4\r\nPING\r\n");
            let pong: &[u8] =
                if role == Role::Cmd { b"+PONG\r\n" } else { b"*2\r\n$4\r\npong\r\n$0\r\n\r\n" };
            assert_eq!(hear(&mut link, pong, 2_011), ["Nothing"]);
            link.take_input(b"");
            for now_ms in [4_010, 6_010, 7_000, 8_009] {
                assert!(!matches!(link.expire(now_ms), Timed::Dead(_)), "{now_ms}");
            }
            assert_eq!(link.next_ms(), 8_010);
            assert_eq!(link.expire(8_010), Timed::Dead("it has been silent for 6 seconds".into()));
        }
        let mut link = Link::new(Role::Cmd);
        link.open(5, &Login::default(), &[]);
        assert_eq!(link.next_ms(), 6_005);
        assert_eq!(link.expire(6_004), Timed::Nothing);
        assert!(matches!(link.expire(6_005), Timed::Dead(_)));
    }

    #[test]
    fn it_comes_back_later_and_later_until_it_has_worked() {
        let mut link = Link::new(Role::Cmd);
        let mut pauses = Vec::new();
        for attempt in 0..8 {
            link.open(0, &Login::default(), &[]);
            assert!(link.fail("away".into()) && !link.fail("again".into()));
            link.rest(0, if attempt % 2 == 0 { 0 } else { u64::MAX });
            pauses.push(link.next_ms());
            assert_eq!(link.expire(5_000), Timed::Nothing);
            assert_eq!(link.state(), State::Due);
        }
        assert!(pauses.iter().step_by(2).eq([&100, &400, &1600, &5000]), "{pauses:?}");
        assert!((100..=200).contains(&pauses[1]) && (2500..=5000).contains(&pauses[7]), "{pauses:?}");
        link.open(0, &Login::default(), &[]);
        hear(&mut link, b"+PONG\r\n", 0);
        for now_ms in [2_000, 4_000, 6_000] {
            link.take_input(b"");
            link.expire(now_ms);
            hear(&mut link, b"+PONG\r\n", now_ms);
        }
        link.fail("away".into());
        link.rest(0, 0);
        assert_eq!(link.next_ms(), 100);
    }

    #[test]
    fn counts_belong_to_their_requests() {
        let mut link = ready(Role::Cmd);
        link.publish(&[b"x:", b"*"], &[b"1"], 7);
        link.publish(&[b"x:", b"u:1"], &[b"2"], 0);
        assert_eq!(hear(&mut link, b":3\r\n:0\r\n", 20), ["Published(7, 3)", "Published(0, 0)"]);
        assert_eq!(hear(&mut link, b":1\r\n", 20), ["Failed"], "an answer that nothing asked for");
        let mut link = ready(Role::Sub);
        let message = b"*3\r\n$7\r\nmessage\r\n$3\r\nx:*\r\n$2\r\nhi\r\n";
        assert_eq!(hear(&mut link, message, 20), [format!("{:?}", Heard::Message(b"x:*", b"hi"))]);
        assert_eq!(hear(&mut link, b":1\r\n", 20), ["Failed"]);
        assert_eq!(hear(&mut link, message, 20), ["Nothing"], "it is over");
    }
}
