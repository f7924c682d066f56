//! A model worker: it subscribes, stops to read, dies, confirms late or never, and judges every event that it is told.
//!
//! Workers of pool 0 confirm what they have done, those of pool 1 do not.

use crate::browser::number;
use crate::common::{Context, Party};
use crate::rng::{hash_bytes, trace};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The names of the pools.
pub(crate) const POOLS: [&str; 2] = ["sure", "plain"];

/// What is known of the events of all workers of a pool.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// A worker has read the answer to its subscription.
    pub(crate) open: bool,
    /// A worker went, perhaps with events in its hands.
    pub(crate) died: bool,
    /// Messages that were told once, and those that were told again.
    fresh: BTreeSet<usize>,
    again: BTreeSet<usize>,
}

/// The connections that the server has named: browser and token.
pub(crate) type Names = BTreeMap<String, (usize, String)>;

#[derive(Debug)]
pub(crate) struct Worker {
    me: usize,
    pub(crate) conn: usize,
    pub(crate) pool: usize,
    buffer: Vec<u8>,
    expects: VecDeque<u8>,
    /// The number of the last event, and of the last one that is confirmed.
    told: u64,
    confirmed: u64,
    stopped: bool,
    mute: bool,
    malformed: bool,
    error: bool,
    fin: bool,
    left: bool,
    ended: bool,
    /// The last message of each connection, and the connections that are closed.
    last: BTreeMap<String, usize>,
    closed: BTreeSet<String>,
}

impl Worker {
    pub(crate) fn new(me: usize, pool: usize, cx: &mut Context<'_>) -> Self {
        trace("worker", me, pool as u64);
        let conn = cx.net.borrow_mut().connect(2);
        let worker = Self {
            me,
            conn,
            pool,
            buffer: Vec::new(),
            expects: VecDeque::new(),
            told: 0,
            confirmed: 0,
            stopped: false,
            mute: false,
            malformed: false,
            error: false,
            fin: false,
            left: false,
            ended: false,
            last: BTreeMap::new(),
            closed: BTreeSet::new(),
        };
        worker.subscribe(cx);
        worker
    }

    fn subscribe(&self, cx: &Context<'_>) {
        let ack = if self.pool == 0 { " ack" } else { "" };
        self.command(cx, b'e', &format!("message,open,close as={}{ack}", POOLS[self.pool]));
    }

    fn command(&self, cx: &Context<'_>, letter: u8, payload: &str) {
        trace("worker_says", self.me, u64::from(letter) << 32 | payload.len() as u64);
        let bytes = format!("{}{}{payload}", payload.len(), letter as char);
        cx.net.borrow_mut().send(self.conn, bytes.as_bytes());
    }

    pub(crate) fn is_active(&self) -> bool {
        !self.left && !self.ended && !self.fin && !self.error && !self.malformed
    }

    pub(crate) fn act(&mut self, cx: &mut Context<'_>, ledger: &mut Ledger) {
        let can = cx.plan.can;
        if !self.is_active() {
            return;
        }
        match cx.rng.below(100) {
            0..=3 if can.reset => {
                trace("worker_dies", self.me, 0);
                (self.left, ledger.died) = (true, true);
                let mut net = cx.net.borrow_mut();
                if self.me % 2 == 0 { net.break_off(self.conn) } else { net.abandon(self.conn) }
            }
            4 if can.half_close => {
                trace("worker_half_closes", self.me, 0);
                (self.fin, ledger.died) = (true, true);
                cx.net.borrow_mut().shut_down(self.conn);
            }
            5..=16 if can.stop => self.stopped = !self.stopped,
            17..=36 if self.pool == 0 && self.told > self.confirmed => {
                let n = self.confirmed + 1 + cx.rng.next() % (self.told - self.confirmed);
                self.confirm(cx, n);
            }
            37..=46 => {
                self.command(cx, b'p', "");
                self.expects.push_back(b'P');
            }
            47 => self.subscribe(cx),
            48 if can.malformed && cx.rng.chance(30) => {
                (self.malformed, ledger.died) = (true, true);
                self.command(cx, b'a', &(self.told + 1_000_000).to_string());
            }
            _ => {}
        }
    }

    fn confirm(&mut self, cx: &Context<'_>, n: u64) {
        self.command(cx, b'a', &n.to_string());
        self.confirmed = n;
    }

    // Its input.

    pub(crate) fn read(
        &mut self,
        cx: &mut Context<'_>,
        names: &Names,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        if self.stopped || self.left || self.ended {
            return Ok(());
        }
        let max = if cx.healing { usize::MAX } else { cx.rng.pick(&[1, 50, 5000, usize::MAX]) };
        let bytes = cx.net.borrow_mut().receive(self.conn, max);
        if !bytes.is_empty() {
            trace("worker_hears", self.me, hash_bytes(&bytes));
        }
        self.buffer.extend_from_slice(&bytes);
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut used = 0;
        while let Some((letter, payload, len)) = frame(&buffer[used..]) {
            let heard = self.hear(cx, names, ledger, letter, payload);
            heard.map_err(|what| format!("worker {} of {}: {what}", self.me, POOLS[self.pool]))?;
            used += len;
        }
        buffer.drain(..used);
        self.buffer = buffer;
        if cx.healing && !self.mute && self.is_active() && self.pool == 0 && self.told > self.confirmed {
            self.confirm(cx, self.told);
        }
        let (over, reset) = (cx.net.borrow().is_over(self.conn), cx.net.borrow().was_reset(self.conn));
        if over || reset && bytes.is_empty() {
            self.end(cx, ledger)?;
        }
        Ok(())
    }

    fn end(&mut self, cx: &Context<'_>, ledger: &mut Ledger) -> Result<(), String> {
        trace("worker_ends", self.me, 0);
        (self.ended, ledger.died) = (true, true);
        let expected = self.fin || self.error || self.malformed || cx.draining || cx.plan.can.stall;
        if !self.fin {
            self.fin = true;
            cx.net.borrow_mut().shut_down(self.conn);
        }
        if !expected && cx.net.borrow().is_accepted(self.conn) {
            return Err(format!("the connection of worker {} ends", self.me));
        }
        Ok(())
    }

    fn hear(
        &mut self,
        cx: &Context<'_>,
        names: &Names,
        ledger: &mut Ledger,
        letter: u8,
        payload: &[u8],
    ) -> Result<(), String> {
        if self.error {
            return Err("something comes behind E".into());
        }
        match letter {
            b'p' => {
                if !self.mute && self.is_active() {
                    self.command(cx, b'P', "");
                }
                Ok(())
            }
            b'P' => match self.expects.pop_front() {
                Some(b'P') => Ok(()),
                other => Err(format!("a pong where {other:?} belongs")),
            },
            b'E' => {
                // For comings and goings, more than fit into its outbox twice.
                let small = cx.plan.settings.limits.control_outbox_bytes < 1 << 20;
                (self.error, ledger.died) = (true, true);
                if self.malformed || small { Ok(()) } else { Err("E".into()) }
            }
            b'e' => self.event(ledger, std::str::from_utf8(payload).map_err(|_| "no text")?),
            b'g' | b'G' => self.message(cx, names, ledger, letter == b'g', payload),
            other => Err(format!("the letter {other:x}")),
        }
    }

    fn event(&mut self, ledger: &mut Ledger, event: &str) -> Result<(), String> {
        if event.starts_with(r#"{"event":"subscribed","#) {
            ledger.open = true;
            return Ok(());
        }
        let mut rest = event;
        if self.pool == 0 {
            let member = format!("{{\"n\":{},", self.told + 1);
            rest = rest.strip_prefix(&*member).ok_or_else(|| format!("{event} behind {}", self.told))?;
            self.told += 1;
        }
        let again = rest.contains("\"again\":true,");
        let (_, name) = rest.split_once("\"connection\":\"").ok_or("no connection")?;
        let name = name.split('"').next().unwrap_or_default().to_owned();
        match (rest.contains("\"event\":\"open\""), rest.contains("\"event\":\"close\"")) {
            (true, false) if !again && self.last.contains_key(&name) => {
                Err(format!("{event} behind its messages"))
            }
            (true, false) => Ok(()),
            (false, true) if !self.closed.insert(name) && !again => Err(format!("{event} twice")),
            (false, true) => Ok(()),
            _ => Err(format!("what is {event}?")),
        }
    }

    fn message(
        &mut self,
        cx: &Context<'_>,
        names: &Names,
        ledger: &mut Ledger,
        text: bool,
        payload: &[u8],
    ) -> Result<(), String> {
        let mut parts = payload.splitn(if self.pool == 0 { 5 } else { 4 }, |byte| *byte == b' ');
        let mut part = || parts.next().ok_or("a field is missing");
        let mut again = false;
        if self.pool == 0 {
            let field = String::from_utf8_lossy(part()?).into_owned();
            again = field.ends_with('+');
            self.told += 1;
            if field.trim_end_matches('+') != self.told.to_string() {
                return Err(format!("event {field} where {} belongs", self.told));
            }
        }
        let name = String::from_utf8_lossy(part()?).into_owned();
        let (token, user, said) = (part()?.to_vec(), part()?, part()?);
        let (browser, its_token) = names.get(&name).ok_or_else(|| format!("{name} is nobody"))?;
        if token != its_token.as_bytes() || !user.is_empty() {
            return Err(format!("{name} has another login"));
        }
        let told = number(said).ok_or("a message without a number")?;
        if told == u32::MAX as usize {
            return Ok(()); // one of a flood
        }
        trace("worker_gets", self.me, told as u64);
        let message = cx.messages.get(told).ok_or("a message of nobody")?;
        if message.from != Party::Browser(*browser) || message.bytes != said || message.text != text {
            return Err(format!("message {told} is not what was said"));
        }
        if again {
            ledger.again.insert(told);
            return Ok(());
        }
        if !ledger.fresh.insert(told) {
            return Err(format!("message {told} is told twice"));
        }
        if self.closed.contains(&name) {
            return Err(format!("message {told} comes behind the end of {name}"));
        }
        match self.last.insert(name, told) {
            Some(last) if last > told => Err(format!("message {told} comes behind {last}")),
            _ => Ok(()),
        }
    }

    // The end of the run.

    pub(crate) fn heal(&mut self) {
        self.stopped = false;
    }

    pub(crate) fn go_mute(&mut self) {
        self.mute = true;
    }

    pub(crate) fn judge(&self, cx: &Context<'_>) -> Result<(), String> {
        let waits = !self.expects.is_empty() || self.malformed && !self.error;
        if waits && !self.left && !self.ended && !cx.plan.can.stall && !cx.draining {
            return Err(format!("worker {} waits: {self:?}", self.me));
        }
        Ok(())
    }
}

impl Ledger {
    /// What the server has taken since the pool is there was told: in any case where it is confirmed, else as long as
    /// no worker died.
    pub(crate) fn judge(&self, pool: usize, taken: &[usize]) -> Result<(), String> {
        let is_told = |number: &usize| self.fresh.contains(number) || self.again.contains(number);
        match taken.iter().find(|number| !is_told(number)) {
            Some(lost) if pool == 0 || !self.died => {
                Err(format!("message {lost} was never told to {}", POOLS[pool]))
            }
            _ => Ok(()),
        }
    }
}

/// The frame at the start: letter, payload, length of all of it.
fn frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let letter = *bytes.get(digits)?;
    let len: usize = std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()?;
    let end = digits + 1 + len;
    Some((letter, bytes.get(digits + 1..end)?, end))
}
