//! A model browser: it asks for a WebSocket, talks, reads, and judges every byte that it gets.

use crate::common::{Context, Message, Party, Revoked, Target};
use crate::plan::ORIGIN;
use crate::rng::{hash_bytes, trace};
use crate::ws::{self, Incoming, Reader};
use std::collections::{BTreeMap, BTreeSet};
use wsson::testing::auth;

/// Its request, and the answer that it must get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Good,
    /// The request never ends.
    Partial,
    /// Refused with this status.
    Bad(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Asking,
    Open,
    Refused(u16),
}

#[derive(Debug)]
pub(crate) struct Browser {
    pub(crate) me: usize,
    pub(crate) conn: usize,
    pub(crate) token: usize,
    pub(crate) ask: Ask,
    pub(crate) phase: Phase,
    head: Vec<u8>,
    /// Bytes of the response before its stream of frames.
    head_bytes: usize,
    reader: Reader,
    pub(crate) got: BTreeSet<usize>,
    last: BTreeMap<Party, usize>,
    /// Bytes of the message that came last.
    last_bytes: usize,
    /// Bytes of pongs that it has asked for and not got.
    unanswered: usize,
    /// The messages that had gone through the server before its request.
    before: BTreeMap<Party, usize>,
    /// Step and time at which its 101 was read.
    pub(crate) opened: Option<(usize, u64)>,
    asked: (u64, usize),
    pub(crate) stopped: bool,
    mute: bool,
    /// It was not always a good reader.
    pub(crate) slow: bool,
    pub(crate) sent_close: Option<u16>,
    pub(crate) close: Option<(Option<u16>, String)>,
    /// It saw the end of the connection.
    pub(crate) ended: bool,
    /// It went away by itself, without a closing handshake.
    pub(crate) left: bool,
    fin: bool,
    misbehaved: Option<u16>,
    /// The payloads of its last ping and of the last pong.
    pinged: Option<Vec<u8>>,
    ponged: Option<Vec<u8>>,
    said_bye: bool,
}

/// The smallest segment of a client that is behind (delivery/spool.rs).
const OWN_BYTES_MIN: usize = 256;
/// Bytes of the 101 and of the server's pings, which fill an outbox too.
const ANSWERS: usize = 400;
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="; // RFC 6455, section 1.3

impl Browser {
    /// Connects and sends its request, perhaps with the first frames right behind.
    pub(crate) fn new(me: usize, cx: &mut Context<'_>) -> Self {
        let conn = cx.net.borrow_mut().connect(cx.rng.below(2));
        let token = cx.rng.below(cx.plan.tokens);
        let mut browser = Self {
            me,
            conn,
            token,
            ask: Ask::Good,
            phase: Phase::Asking,
            head: Vec::new(),
            head_bytes: 0,
            reader: Reader::default(),
            got: BTreeSet::new(),
            last: BTreeMap::new(),
            last_bytes: 0,
            unanswered: 0,
            before: cx.executed.clone(),
            opened: None,
            asked: (cx.now.ms, cx.jumps),
            stopped: false,
            mute: cx.plan.can.mute && cx.rng.chance(40),
            slow: false,
            sent_close: None,
            close: None,
            ended: false,
            left: false,
            fin: false,
            misbehaved: None,
            pinged: None,
            ponged: None,
            said_bye: false,
        };
        browser.slow = browser.mute;
        browser.request(cx);
        browser
    }

    fn request(&mut self, cx: &mut Context<'_>) {
        let token = cx.plan.token(self.token);
        let lifetime_s = cx.plan.settings.auth.lifetime_s;
        let issued = cx.now.unix_s - lifetime_s + cx.plan.login_s;
        let cookies: Vec<String> = auth::issue(&cx.plan.settings.auth, &token, "", issued)
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let me = self.me;
        let good = format!(
            "GET /ws HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\nOrigin: {ORIGIN}\r\nX-Browser: {me}\r\nCookie: {}\r\n\r\n",
            cookies.join("; ")
        );
        let bad = |from: &str, to: &str| good.replacen(from, to, 1);
        let (ask, request) = match cx.rng.below(40) {
            0 => (Ask::Bad(403), bad("Origin: https", "Origin: http")),
            1 => (Ask::Bad(403), bad("digest=", "digest=0")),
            2 => (Ask::Bad(405), bad("GET", "POST")),
            3 => (Ask::Bad(426), bad("Upgrade: websocket\r\n", "")),
            4 => (Ask::Bad(400), "\u{16}\u{3}\u{1}".into()),
            5 => (Ask::Bad(431), bad("Host", &format!("X: {}\r\nHost", "x".repeat(3000)))),
            6 => (Ask::Partial, good[..cx.rng.between(1, good.len() - 4)].into()),
            _ => (Ask::Good, good),
        };
        self.ask = ask;
        cx.net.borrow_mut().send(self.conn, request.as_bytes());
        while self.ask == Ask::Good && cx.rng.chance(20) {
            self.talk(cx);
        }
    }

    /// It has shown no login, or none that counts.
    pub(crate) fn is_stranger(&self) -> bool {
        self.phase != Phase::Open
    }

    pub(crate) fn is_active(&self) -> bool {
        !self.ended && !self.left
    }

    fn can_talk(&self) -> bool {
        !self.fin && !self.left && self.sent_close.is_none() && self.misbehaved.is_none() && !self.ended
    }

    /// Open on both sides as far as it knows.
    pub(crate) fn is_healthy(&self) -> bool {
        self.phase == Phase::Open && self.can_talk() && self.close.is_none()
    }

    // Its acts.

    pub(crate) fn act(&mut self, cx: &mut Context<'_>) {
        let can = cx.plan.can;
        if self.left || self.ended {
            return;
        }
        match cx.rng.below(100) {
            // One that has a backlog goes: at that moment most can go wrong.
            0..=14 if can.reset && self.stopped => self.leave(cx.rng.pick(&["reset", "abandon"]), cx),
            0..=2 if can.reset => self.leave("reset", cx),
            3..=4 if can.reset => self.leave("abandon", cx),
            5..=7 if can.half_close && !self.fin => {
                (self.left, self.fin) = (true, true);
                trace("half_close", self.me, 0);
                cx.net.borrow_mut().shut_down(self.conn);
            }
            8..=15 if can.stop => {
                self.stopped = !self.stopped;
                self.slow = true;
            }
            _ if self.phase == Phase::Open && self.can_talk() => self.talk(cx),
            _ => {}
        }
    }

    fn leave(&mut self, how: &'static str, cx: &mut Context<'_>) {
        trace(how, self.me, 0);
        self.left = true;
        let mut net = cx.net.borrow_mut();
        if how == "reset" { net.break_off(self.conn) } else { net.abandon(self.conn) }
    }

    fn talk(&mut self, cx: &mut Context<'_>) {
        if !self.can_talk() {
            return;
        }
        let can = cx.plan.can;
        if can.quiet {
            return;
        }
        match cx.rng.below(60) {
            0 => self.close_with(cx, 1000 + 2001 * (cx.now.ms % 2) as u16),
            1 if can.malformed => self.misbehave(cx),
            2..=4 => self.control(cx, 0x89, 20),
            5 => self.control(cx, 0x8A, 125),
            6 if self.phase == Phase::Open => {
                self.said_bye = true;
                self.say(cx, b'x', Target::Browser(self.me));
            }
            7..=12 if can.broadcast => self.say(cx, b'b', Target::All),
            13..=16 => self.say(cx, b'n', Target::Browser(self.me)),
            17 if can.flood => self.flood(cx),
            _ => self.say(cx, b'e', Target::Browser(self.me)),
        }
    }

    /// Sends a message, whole or in fragments with control frames in between.
    fn say(&mut self, cx: &mut Context<'_>, op: u8, target: Target) {
        let text = cx.rng.chance(70);
        let len = cx.size().min(cx.plan.settings.limits.message_bytes - 40);
        let number = cx.compose(Party::Browser(self.me), target, op, text, len);
        let bytes = cx.messages[number].bytes.clone();
        trace("say", self.me, number as u64);
        let mut rest = &bytes[..];
        let mut opcode = if text { 1 } else { 2 };
        while cx.rng.chance(25) {
            let (piece, after) = rest.split_at(cx.rng.below(rest.len() + 1));
            self.frame(cx, opcode, piece);
            (opcode, rest) = (0, after);
            if cx.rng.chance(30) {
                self.control(cx, 0x89, 5);
            }
        }
        self.frame(cx, 0x80 | opcode, rest);
    }

    fn frame(&self, cx: &mut Context<'_>, first: u8, payload: &[u8]) {
        let mask = cx.rng.next().to_le_bytes();
        let bytes = ws::frame(first, payload, [mask[0], mask[1], mask[2], mask[3]]);
        cx.net.borrow_mut().send(self.conn, &bytes);
    }

    /// A pong fills the outbox as a message does.
    fn control(&mut self, cx: &mut Context<'_>, first: u8, max: usize) {
        let len = cx.rng.below(max + 1);
        *cx.bytes += len + 2;
        let payload = vec![cx.rng.next() as u8; len];
        self.frame(cx, first, &payload);
        if first == 0x89 {
            self.unanswered += len + 2;
            self.pinged = Some(payload);
        }
    }

    fn close_with(&mut self, cx: &mut Context<'_>, code: u16) {
        trace("send_close", self.me, u64::from(code));
        self.frame(cx, 0x88, &code.to_be_bytes());
        self.sent_close = Some(code);
    }

    fn flood(&mut self, cx: &mut Context<'_>) {
        trace("flood", self.me, 0);
        if cx.rng.chance(30) {
            (0..400).for_each(|_| self.control(cx, 0x89, 125));
            return;
        }
        let len = 1000.min(cx.plan.settings.limits.message_bytes);
        let mut payload = format!("{:08x}n", usize::MAX as u32).into_bytes();
        payload.resize(len, b'f');
        let frame = ws::frame(0x81, &payload, [1, 2, 3, 4]);
        let frames = frame.repeat(cx.rng.pick(&[70_000, 140_000]) / frame.len());
        cx.net.borrow_mut().send(self.conn, &frames);
    }

    fn misbehave(&mut self, cx: &mut Context<'_>) {
        let too_big = (cx.plan.settings.limits.message_bytes + 1) as u64;
        let mut announced = vec![0x82, 0xFF];
        announced.extend_from_slice(&too_big.max(65_536).to_be_bytes());
        let (code, bytes) = match cx.rng.below(8) {
            0 => (1002, vec![0x81, 1, b'x']),
            1 => (1002, ws::frame(0xC1, b"x", [0; 4])),
            2 => (1002, ws::frame(0x83, b"x", [0; 4])),
            3 => (1007, ws::frame(0x81, b"\xFF\xFE", [9; 4])),
            4 => (1009, announced),
            5 => (1002, ws::frame(0x80, b"x", [0; 4])),
            6 => (1002, ws::frame(0x09, b"x", [0; 4])),
            _ => (1002, ws::frame(0x88, b"\x01", [3; 4])),
        };
        trace("misbehave", self.me, u64::from(code));
        self.misbehaved = Some(code);
        let mut net = cx.net.borrow_mut();
        net.send(self.conn, &bytes);
        if cx.rng.chance(30) {
            net.send(self.conn, b"and more that nobody understands");
        }
    }

    // Its input.

    /// Reads as much as it likes.
    pub(crate) fn read(&mut self, cx: &mut Context<'_>) -> Result<(), String> {
        if self.stopped || self.left && !self.fin || self.ended {
            return Ok(());
        }
        let max = if cx.healing || cx.plan.can.quiet {
            usize::MAX
        } else {
            cx.rng.pick(&[1, 50, 5000, usize::MAX])
        };
        let bytes = cx.net.borrow_mut().receive(self.conn, max);
        if !bytes.is_empty() {
            trace("hears", self.me, hash_bytes(&bytes));
            self.hear(cx, &bytes).map_err(|what| format!("browser {}: {what}", self.me))?;
        }
        let (over, reset) = (cx.net.borrow().is_over(self.conn), cx.net.borrow().was_reset(self.conn));
        if over || reset && bytes.is_empty() {
            self.end(cx).map_err(|what| format!("browser {}: {what}: {self:?}", self.me))?;
        }
        Ok(())
    }

    fn hear(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Result<(), String> {
        match self.phase {
            Phase::Asking => {
                self.head.extend_from_slice(bytes);
                let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else {
                    return Ok(());
                };
                let rest = self.head.split_off(end + 4);
                let head = String::from_utf8(self.head.clone()).map_err(|_| "a head that is no text")?;
                self.answered(cx, &head)?;
                return if rest.is_empty() { Ok(()) } else { self.hear(cx, &rest) };
            }
            Phase::Refused(_) => self.head.extend_from_slice(bytes),
            Phase::Open => {
                self.reader.feed(bytes);
                while let Some(incoming) = self.reader.next()? {
                    self.heard(cx, incoming)?;
                }
            }
        }
        Ok(())
    }

    fn answered(&mut self, cx: &mut Context<'_>, head: &str) -> Result<(), String> {
        let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
        trace("answered", self.me, u64::from(status));
        if status == 101 {
            let accept = format!("\r\nSec-WebSocket-Accept: {ACCEPT}\r\n");
            if self.ask != Ask::Good || !head.starts_with("HTTP/1.1 101 ") || !head.contains(&accept) {
                return Err(format!("opened: {head}"));
            }
            self.phase = Phase::Open;
            self.head_bytes = head.len();
            self.opened = Some((cx.step, cx.now.ms));
            self.head.clear();
            return Ok(());
        }
        self.phase = Phase::Refused(status);
        let limits = &cx.plan.settings.limits;
        let fits = match (self.ask, status) {
            (Ask::Bad(expected), status) if status == expected => true,
            (Ask::Good, 429) => (limits.connections_per_token as usize) < cx.crowd,
            (Ask::Good, 503) if limits.clients.is_some_and(|max| max < cx.crowd) => true,
            (Ask::Good, 403) => cx.jumps > 0 || cx.plan.can.expire || cx.revoked[self.token] != Revoked::No,
            (_, 408) => cx.plan.can.stall,
            (_, 503) => cx.draining,
            _ => false,
        };
        if fits { Ok(()) } else { Err(format!("{:?} is answered {status}", self.ask)) }
    }

    fn heard(&mut self, cx: &mut Context<'_>, incoming: Incoming) -> Result<(), String> {
        match incoming {
            Incoming::Message { text, bytes } => self.message(cx, text, &bytes),
            Incoming::Ping(payload) => {
                if !self.mute && self.can_talk() {
                    self.frame(cx, 0x8A, &payload);
                }
                Ok(())
            }
            Incoming::Pong(payload) => {
                self.unanswered = self.unanswered.saturating_sub(payload.len() + 2);
                self.ponged = Some(payload);
                Ok(())
            }
            Incoming::Close(code, reason) => self.closed(cx, code, reason),
        }
    }

    fn message(&mut self, cx: &mut Context<'_>, text: bool, bytes: &[u8]) -> Result<(), String> {
        if bytes.starts_with(b"farewell") && cx.plan.can.farewell {
            return Ok(());
        }
        let number = number(bytes).filter(|number| *number < cx.messages.len());
        let number = number.ok_or_else(|| format!("a message of nobody: {bytes:x?}"))?;
        let message: &Message = &cx.messages[number];
        trace("gets", self.me, number as u64);
        if !self.is_for_me(message, cx) || message.text != text || message.bytes != bytes || !message.whole {
            return Err(format!("message {number} is not what was sent: {message:?}, {bytes:x?}"));
        }
        let from = message.from;
        self.last_bytes = message.waits();
        cx.executed(number);
        if !self.got.insert(number) {
            return Err(format!("message {number} comes twice"));
        }
        match self.last.insert(from, number) {
            Some(last) if last > number => Err(format!("message {number} comes behind {last}")),
            _ => Ok(()),
        }
    }

    fn closed(&mut self, cx: &mut Context<'_>, code: Option<u16>, reason: String) -> Result<(), String> {
        trace("closed", self.me, u64::from(code.unwrap_or(0)));
        let jumped = cx.jumps != self.asked.1;
        let fits = match (code, &reason[..]) {
            (Some(1000), "expired") => cx.plan.can.expire || jumped,
            (Some(1000), "bye") => self.said_bye,
            (Some(1001), "going away") => cx.draining,
            (Some(1011), "framesource lost") => cx.locked[self.token],
            (Some(1013), "no worker") => cx.plan.workers && cx.plan.can.stall,
            (Some(4001), "out") => cx.kicked[self.token],
            (Some(4001), "gone") => cx.revoked[self.token] != Revoked::No,
            (Some(1013), "slow consumer") => self.may_overflow(cx),
            (Some(code), _) if self.misbehaved == Some(code) => true,
            (code, "") => self.sent_close.is_some() && self.sent_close == code,
            _ => false,
        };
        if !fits {
            return Err(format!("closed with {code:?} {reason:?}: {self:?}"));
        }
        self.close = Some((code, reason));
        if self.can_talk() && !(self.mute && cx.rng.chance(50)) {
            self.close_with(cx, code.unwrap_or(1000));
        }
        Ok(())
    }

    fn is_for_me(&self, message: &Message, cx: &Context<'_>) -> bool {
        match message.target {
            Target::All => true,
            Target::Token(token) => token == self.token,
            Target::Browser(me) => me == self.me,
            Target::AllBut(token) => token != self.token,
            Target::Group => cx.joined[self.token],
        }
    }

    /// Whether it can have been behind. What waited for it is what it has not got by now, as a close drops it, and one
    /// frame that was under way, which is finished: not more than was sent since it asked. What waits for others is not
    /// its concern, unless all of it together is too much: then it goes if something waits for it.
    fn may_overflow(&self, cx: &Context<'_>) -> bool {
        let limits = &cx.plan.settings.limits;
        // A browser that takes everything at once is never closed for what backends broadcast: they are held back.
        let quiet = cx.plan.can.quiet;
        let held_back = |message: &Message| quiet && message.target == Target::All;
        let missed = cx.messages.iter().enumerate().filter(|(number, message)| {
            self.before.get(&message.from).is_none_or(|last| number > last)
                && self.is_for_me(message, cx)
                && !held_back(message)
                && !self.got.contains(number)
        });
        let farewells = if cx.plan.can.farewell { 10 * cx.crowd } else { 0 };
        let waited = missed.map(|(_, message)| message.waits()).sum::<usize>()
            + self.last_bytes
            + self.unanswered
            + farewells;
        let outbox_bytes = limits.outbox_bytes as usize / if quiet { 4 } else { 1 };
        // `limits.queued` is never below `limits.outbox`.
        // Each client that is behind has a copy of what is for several.
        let all = (*cx.bytes + ANSWERS) * cx.crowd;
        waited + ANSWERS > outbox_bytes
            || waited > 0 && all > outbox_bytes && self.is_crammed(cx) && self.was_behind(cx)
    }

    /// Whether it had not taken all that it was offered, or was locked, when it was closed: behind that no data frame
    /// began, and the close frame followed.
    fn was_behind(&self, cx: &Context<'_>) -> bool {
        let places = self.reader.since_last_data();
        let places = places.start() + self.head_bytes..=places.end() + self.head_bytes;
        cx.locked[self.token] || cx.net.borrow().was_short(self.conn, places)
    }

    /// Whether all that waits may be more than `limits.queued`. The room to grow and the ranges of those that are behind
    /// count too: at most as much again, and a smallest segment for each.
    fn is_crammed(&self, cx: &Context<'_>) -> bool {
        (2 * *cx.bytes + ANSWERS + OWN_BYTES_MIN) * cx.crowd > cx.plan.settings.limits.queued_bytes
    }

    /// The server's side is at its end.
    fn end(&mut self, cx: &mut Context<'_>) -> Result<(), String> {
        trace("ends", self.me, 0);
        self.ended = true;
        if !self.fin && !self.left {
            self.fin = true;
            cx.net.borrow_mut().shut_down(self.conn);
        }
        // Over `limits.queued` even what is in flight is not finished.
        let crammed = self.is_crammed(cx);
        if self.left || cx.plan.can.stall || cx.draining || crammed {
            return Ok(());
        }
        // A lingering connection makes room for others, and so does one that asks.
        let crowded = cx.plan.settings.limits.unauthenticated.is_some_and(|max| max < 50)
            || cx.crowd >= cx.plan.sockets_max;
        match self.phase {
            Phase::Open if self.close.is_some() => Ok(()),
            Phase::Open => Err("the connection ends without a close frame".into()),
            _ if crowded => Ok(()),
            Phase::Refused(_) if !self.has_body() => Err("the response is cut".into()),
            Phase::Refused(_) => Ok(()),
            Phase::Asking if !self.head.is_empty() => Err("the head is cut".into()),
            Phase::Asking => {
                let aborted = cx.plan.faults.accept > 0;
                if aborted { Ok(()) } else { Err("the connection ends without an answer".into()) }
            }
        }
    }

    fn has_body(&self) -> bool {
        let text = String::from_utf8_lossy(&self.head);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
        let length = head.split("\r\n").find_map(|line| line.strip_prefix("Content-Length: "));
        length.and_then(|length| length.parse().ok()) == Some(body.len())
    }

    // The end of the run.

    /// With the faults over and everything at rest: all promised messages have come.
    pub(crate) fn judge(&self, cx: &Context<'_>, executed: impl Fn(Party) -> bool) -> Result<(), String> {
        if let Some((number, message)) = self
            .got
            .iter()
            .map(|n| (n, &cx.messages[*n]))
            .find(|(_, m)| m.fate == crate::common::Fate::Refused)
        {
            return Err(format!("browser {} got {number}, which was refused: {message:?}", self.me));
        }
        let finished = self.sent_close.is_some() || self.misbehaved.is_some() || self.close.is_some();
        let outside = cx.net.borrow().is_outside(self.conn) && cx.full;
        if finished && !self.left && !self.ended && !cx.plan.can.stall && !outside {
            return Err(format!("browser {} closes and never ends: {self:?}", self.me));
        }
        if self.ask == Ask::Good && self.phase == Phase::Asking && !self.left && !self.ended && !outside {
            return Err(format!("browser {} waits for an answer: {self:?}", self.me));
        }
        if self.is_healthy() || self.kept_on_until_the_drain(cx) {
            return self.judge_messages(cx, executed);
        }
        Ok(())
    }

    /// The application's broadcasts are for the clients that were open at that moment, and for no others.
    pub(crate) fn judge_broadcasts(
        &self,
        cx: &Context<'_>,
        broadcasts: &[(usize, Vec<usize>)],
    ) -> Result<(), String> {
        let must = self.is_healthy() || self.kept_on_until_the_drain(cx);
        for (number, open) in broadcasts {
            let (was_open, got) = (open.contains(&self.me), self.got.contains(number));
            if got && !was_open || must && was_open && !got {
                return Err(format!("broadcast {number}: open {was_open}, got {got}: {self:?}"));
            }
        }
        Ok(())
    }

    fn kept_on_until_the_drain(&self, cx: &Context<'_>) -> bool {
        let drained = self.close.as_ref().is_some_and(|(code, _)| *code == Some(1001));
        let kept_on = !self.left && !self.slow && !cx.plan.can.stall && !cx.locked[self.token];
        drained && kept_on && self.misbehaved.is_none()
    }

    fn judge_messages(&self, cx: &Context<'_>, executed: impl Fn(Party) -> bool) -> Result<(), String> {
        let opened = self.opened.map_or(usize::MAX, |(step, _)| step);
        for (number, message) in cx.messages.iter().enumerate() {
            let op = message.bytes.get(8);
            let mine = match message.target {
                Target::All => message.step > opened,
                Target::Token(token) => token == self.token && message.step > opened,
                Target::Browser(me) => me == self.me && op == Some(&b'e'),
                Target::AllBut(token) => token != self.token && message.step > opened,
                // Whether it was in the group at that moment only the server knows.
                Target::Group => false,
            };
            let taken = match message.fate {
                crate::common::Fate::Acked => true,
                crate::common::Fate::Refused => false,
                crate::common::Fate::Unknown => self.is_healthy() && executed(message.from),
            };
            if mine && taken && message.whole && !self.got.contains(&number) {
                return Err(format!("message {number} never came: {message:?}; {self:?}"));
            }
        }
        if self.is_healthy() && self.pinged != self.ponged {
            return Err(format!("browser {} waits for a pong: {self:?}", self.me));
        }
        if self.reader.is_in_message() && !cx.locked[self.token] || !self.reader.is_whole() {
            return Err(format!("browser {} is left with half a message", self.me));
        }
        Ok(())
    }

    /// The faults are over: it reads again.
    pub(crate) fn heal(&mut self) {
        self.stopped = false;
    }

    pub(crate) fn go_mute(&mut self) {
        (self.mute, self.slow) = (true, true);
    }
}

/// The number at the start of a message.
pub(crate) fn number(bytes: &[u8]) -> Option<usize> {
    usize::from_str_radix(std::str::from_utf8(bytes.get(..8)?).ok()?, 16).ok()
}
