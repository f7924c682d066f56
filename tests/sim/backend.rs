//! A model backend: it sends commands in an encoding of its own and expects exactly the replies that the
//! protocol promises, in order.

use crate::common::{Context, Fate, Party, Revoked, Target};
use crate::rng::{hash_bytes, trace};
use std::collections::VecDeque;

/// The reply that comes next.
#[derive(Clone, Copy, Debug)]
enum Expect {
    /// To `c`: a message, or none when only presence was asked for.
    Confirm {
        token: usize,
        message: Option<usize>,
    },
    Lock {
        token: usize,
        message: usize,
        second: bool,
    },
    Fragment {
        message: Option<usize>,
        refuse: bool,
        last: bool,
    },
    /// To a command that is answered by a JSON object.
    Object(u8),
    /// To `r`.
    Revoked {
        token: usize,
    },
    /// To `x`.
    Written {
        message: usize,
    },
    Letter(u8),
}

/// The fragmented message under way.
#[derive(Debug)]
struct Held {
    message: usize,
    text: Option<bool>,
    /// The rest of a character that was cut.
    carry: Vec<u8>,
}

/// The group that messages go to; there is another one, which is as often joined.
pub(crate) const ROOM: &str = "room";

#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) me: usize,
    pub(crate) conn: usize,
    expects: VecDeque<Expect>,
    buffer: Vec<u8>,
    held: Option<Held>,
    granted: Option<bool>,
    /// A fragment was refused since, and with it the lock may be over: its clients may be gone.
    doubt: bool,
    /// The reply to a second `l` is awaited.
    unsure: bool,
    stopped: bool,
    mute: bool,
    pub(crate) slow: bool,
    malformed: bool,
    error: bool,
    quit: bool,
    fin: bool,
    /// Went away without waiting for anything.
    pub(crate) left: bool,
    pub(crate) ended: bool,
    /// It saw the end of the connection behind its own, or its quit.
    orderly: bool,
}

impl Backend {
    pub(crate) fn new(me: usize, cx: &mut Context<'_>) -> Self {
        let conn = cx.net.borrow_mut().connect(2);
        let mute = cx.plan.can.mute && cx.rng.chance(40);
        Self {
            me,
            conn,
            expects: VecDeque::new(),
            buffer: Vec::new(),
            held: None,
            granted: None,
            doubt: false,
            unsure: false,
            stopped: false,
            mute,
            slow: mute,
            malformed: false,
            error: false,
            quit: false,
            fin: false,
            left: false,
            ended: false,
            orderly: false,
        }
    }

    pub(crate) fn is_active(&self) -> bool {
        !self.left && !self.ended
    }

    fn can_talk(&self) -> bool {
        !self.left && !self.ended && !self.malformed && !self.quit && !self.fin
    }

    pub(crate) fn act(&mut self, cx: &mut Context<'_>) {
        let can = cx.plan.can;
        if self.left || self.ended {
            return;
        }
        match cx.rng.below(100) {
            0..=1 if can.reset => {
                trace("backend_reset", self.me, 0);
                self.left = true;
                cx.net.borrow_mut().break_off(self.conn);
            }
            2 if can.reset => {
                trace("backend_abandons", self.me, 0);
                self.left = true;
                cx.net.borrow_mut().abandon(self.conn);
            }
            3..=5 if can.half_close && !self.fin => self.shut_down(cx),
            6..=12 if can.stop => {
                self.stopped = !self.stopped;
                self.slow = true;
            }
            _ if self.can_talk() => {
                for _ in 0..cx.rng.pick(&[1, 1, 2, 8]) {
                    self.talk(cx);
                }
            }
            _ => {}
        }
    }

    fn shut_down(&mut self, cx: &mut Context<'_>) {
        trace("backend_half_close", self.me, 0);
        self.fin = true;
        cx.net.borrow_mut().shut_down(self.conn);
    }

    fn talk(&mut self, cx: &mut Context<'_>) {
        if !self.can_talk() {
            return;
        }
        let can = cx.plan.can;
        if cx.plan.revoke && cx.rng.chance(3) {
            return self.revoke(cx);
        }
        if cx.plan.groups && cx.rng.chance(30) {
            return self.group(cx);
        }
        match cx.rng.below(100) {
            _ if can.quiet => self.flood(cx),
            0..=24 if can.broadcast => self.broadcast(cx),
            25..=49 => self.direct(cx, true),
            50..=59 => self.direct(cx, false),
            60..=80 if can.lock => self.fragments(cx),
            81..=83 => self.presence(cx),
            84..=86 => self.ask(cx, b'p', b'P'),
            87..=88 => self.ask(cx, b'm', b'M'),
            89 => self.ask(cx, b't', b'T'),
            90 => self.command(cx, b'P', b"ignored"),
            91 if can.malformed && cx.rng.chance(30) => self.misbehave(cx),
            92 if cx.rng.chance(20) => {
                self.command(cx, b'q', b"");
                trace("quit", self.me, 0);
                self.quit = true;
            }
            93 if can.flood => self.flood(cx),
            94..=96 => cx.net.borrow_mut().send(self.conn, b"\r\n\n"),
            _ => self.direct(cx, true),
        }
    }

    fn command(&self, cx: &mut Context<'_>, letter: u8, payload: &[u8]) {
        trace("command", self.me, u64::from(letter) << 32 | payload.len() as u64);
        let zeros = if cx.rng.chance(10) { "00" } else { "" };
        let mut bytes = format!("{zeros}{}{}", payload.len(), letter as char).into_bytes();
        bytes.extend_from_slice(payload);
        cx.net.borrow_mut().send(self.conn, &bytes);
    }

    fn broadcast(&mut self, cx: &mut Context<'_>) {
        let (text, len) = (cx.rng.chance(70), cx.size());
        let number = cx.compose(Party::Backend(self.me), Target::All, b'n', text, len);
        let bytes = cx.messages[number].bytes.clone();
        *cx.broadcast_bytes += bytes.len() + 14;
        if cx.plan.addresses {
            // `*` alone is a broadcast. With an exception each of them is looked for.
            let alone = number % 2 == 0;
            let list = if alone { "* " } else { "*,-t:nobody-x,* " };
            return self.command(cx, if text { b'w' } else { b'W' }, &[list.as_bytes(), &bytes].concat());
        }
        self.command(cx, if text { b'b' } else { b'B' }, &bytes);
    }

    fn direct(&mut self, cx: &mut Context<'_>, confirmed: bool) {
        let (text, len, token) = (cx.rng.chance(70), cx.size(), cx.rng.below(cx.plan.tokens));
        let number = cx.compose(Party::Backend(self.me), Target::Token(token), b'n', text, len);
        if cx.plan.addresses {
            return self.addressed(cx, token, number, confirmed);
        }
        let mut payload = cx.plan.token(token).into_bytes();
        payload.extend_from_slice(&cx.messages[number].bytes);
        let letter = if confirmed { b'c' } else { b'd' };
        self.command(cx, if text { letter } else { letter.to_ascii_uppercase() }, &payload);
        if confirmed {
            self.expects.push_back(Expect::Confirm { token, message: Some(number) });
        }
    }

    /// To a token that stands in the list more than once.
    fn addressed(&mut self, cx: &mut Context<'_>, token: usize, number: usize, confirmed: bool) {
        let (name, message) = (cx.plan.token(token), &cx.messages[number]);
        let list =
            if number % 2 == 0 { format!("t:{name} ") } else { format!("t:{name},u:nobody,-c:0,t:{name} ") };
        let payload = [list.as_bytes(), &message.bytes].concat();
        let letter = if confirmed { b'x' } else { b'w' };
        let letter = if message.text { letter } else { letter.to_ascii_uppercase() };
        self.command(cx, letter, &payload);
        if confirmed {
            self.expects.push_back(Expect::Written { message: number });
        }
    }

    /// Who is in the group, messages to it and to all but one, questions, and now and then a kick.
    fn group(&mut self, cx: &mut Context<'_>) {
        let token = cx.rng.below(cx.plan.tokens);
        let name = cx.plan.token(token);
        let (letter, payload) = match cx.rng.below(12) {
            0..=2 => {
                cx.joined[token] = true;
                (b'j', format!("{ROOM},other t:{name}"))
            }
            3 => (b'J', format!("{ROOM} t:{name},g:{ROOM}")),
            4 => (b'J', format!("other,{ROOM} t:{name}")),
            5..=7 => return self.write(cx, Target::Group, &format!("t:nobody-x,g:{ROOM},g:{ROOM} ")),
            8 => return self.write(cx, Target::AllBut(token), &format!("-t:{name},*,g:other ")),
            9 => (b'o', format!("*,g:{ROOM},t:{name},g:none")),
            10 => (b'h', cx.rng.pick(&["*", "g:room", "g:none"]).into()),
            _ if cx.rng.chance(20) => {
                cx.kicked[token] = true;
                (b'k', format!("t:{name},-t:nobody-x out"))
            }
            _ => return,
        };
        self.command(cx, letter, payload.as_bytes());
        self.expects.push_back(Expect::Object(letter.to_ascii_uppercase()));
    }

    fn write(&mut self, cx: &mut Context<'_>, target: Target, list: &str) {
        let (text, len) = (cx.rng.chance(70), cx.size());
        let number = cx.compose(Party::Backend(self.me), target, b'n', text, len);
        let payload = [list.as_bytes(), &cx.messages[number].bytes].concat();
        *cx.broadcast_bytes += payload.len() + 14;
        // An answer counts those that took it; that all others did too nobody promises.
        let letter = if target == Target::Group && cx.rng.chance(50) { b'x' } else { b'w' };
        self.command(cx, if text { letter } else { letter.to_ascii_uppercase() }, &payload);
        if letter == b'x' {
            self.expects.push_back(Expect::Written { message: number });
        }
    }

    /// Ends a login, alone or with another one that there is not.
    fn revoke(&mut self, cx: &mut Context<'_>) {
        let token = cx.rng.below(cx.plan.tokens);
        let name = cx.plan.token(token);
        let payload =
            if cx.rng.chance(50) { format!("t:{name} gone") } else { format!("t:nobody-x,t:{name} gone") };
        self.command(cx, b'r', payload.as_bytes());
        if cx.revoked[token] == Revoked::No {
            cx.revoked[token] = Revoked::Perhaps;
        }
        self.expects.push_back(Expect::Revoked { token });
    }

    /// An empty message, and one of text that is none.
    fn presence(&mut self, cx: &mut Context<'_>) {
        let token = cx.rng.below(cx.plan.tokens);
        self.command(cx, b'c', cx.plan.token(token).as_bytes());
        self.expects.push_back(Expect::Confirm { token, message: None });
    }

    fn ask(&mut self, cx: &mut Context<'_>, letter: u8, reply: u8) {
        self.command(cx, letter, b"");
        self.expects.push_back(Expect::Letter(reply));
    }

    fn misbehave(&mut self, cx: &mut Context<'_>) {
        trace("backend_misbehaves", self.me, 0);
        self.malformed = true;
        let bytes = cx.rng.pick(&[
            &b"\r\nPOST /0p5bHELLO HTTP/1.1\r\n"[..],
            b"2b\xFF\xFE",
            b"0z",
            b"9999999b",
            b"3dabc",
        ]);
        cx.net.borrow_mut().send(self.conn, bytes);
    }

    fn flood(&mut self, cx: &mut Context<'_>) {
        trace("backend_floods", self.me, 0);
        if cx.plan.can.quiet || cx.plan.can.broadcast && cx.rng.chance(40) {
            return (0..cx.rng.between(10, 40)).for_each(|_| self.broadcast(cx));
        }
        let (bytes, replies) = match cx.rng.below(4) {
            0 => (b"0P".repeat(3000), 0),
            1 => (b"0p".repeat(500), 500),
            2 => {
                self.expects.extend((0..60).map(|_| Expect::Letter(b'T')));
                (b"0t".repeat(60), 0)
            }
            _ => {
                let payload = [b"nobody-x".to_vec(), vec![b'.'; 8000]].concat();
                ([b"8008d".to_vec(), payload].concat().repeat(20), 0)
            }
        };
        cx.net.borrow_mut().send(self.conn, &bytes);
        self.expects.extend((0..replies).map(|_| Expect::Letter(b'P')));
    }

    // Locks.

    fn fragments(&mut self, cx: &mut Context<'_>) {
        if self.unsure {
            return;
        }
        if cx.rng.chance(10) {
            return self.wrong_fragment(cx);
        }
        match &self.held {
            None => self.lock(cx, false),
            // Only where it is certain that the first lock was granted is it certain what a second one gets.
            Some(_) if self.granted == Some(true) && cx.rng.chance(5) => self.lock(cx, true),
            Some(_) => {
                let last = cx.rng.chance(35);
                self.fragment(cx, last);
            }
        }
    }

    fn lock(&mut self, cx: &mut Context<'_>, second: bool) {
        let token = cx.rng.below(cx.plan.tokens);
        self.command(cx, b'l', cx.plan.token(token).as_bytes());
        cx.locked[token] = true;
        self.unsure = second;
        let message = match &self.held {
            Some(held) => held.message,
            None => {
                let message = cx.compose(Party::Backend(self.me), Target::Token(token), b'n', true, 9);
                cx.messages[message].bytes.clear();
                cx.messages[message].whole = false;
                self.held = Some(Held { message, text: None, carry: Vec::new() });
                self.granted = None;
                message
            }
        };
        self.expects.push_back(Expect::Lock { token, message, second });
    }

    fn fragment(&mut self, cx: &mut Context<'_>, last: bool) {
        let Some(mut held) = self.held.take() else { return };
        let first = held.text.is_none();
        let text = *held.text.get_or_insert(cx.rng.chance(70));
        let mut bytes = if first { format!("{:08x}n", held.message).into_bytes() } else { Vec::new() };
        bytes.append(&mut held.carry);
        let len = cx.rng.pick(&[0, 5, 60, 200]);
        bytes.extend(cx.text(len));
        if text && !last && cx.rng.chance(50) {
            let (cut, rest) = cx.rng.pick(&[(&b"\xE2"[..], &b"\x82\xAC"[..]), (b"\xF0\x9F\x98", b"\x80")]);
            bytes.extend_from_slice(cut);
            held.carry = rest.to_vec();
        }
        let letter = match (first, last) {
            (_, true) => b's',
            (true, false) => b'f',
            (false, false) => b'i',
        };
        self.command(cx, if text { letter } else { letter.to_ascii_uppercase() }, &bytes);
        *cx.bytes += bytes.len() + 4;
        let message = &mut cx.messages[held.message];
        message.text = text;
        message.bytes.extend_from_slice(&bytes);
        message.headers += 4;
        message.whole = last;
        self.expects.push_back(Expect::Fragment { message: Some(held.message), refuse: false, last });
        if !last {
            self.held = Some(held);
        }
    }

    /// Out of order, without a lock, or not text.
    fn wrong_fragment(&mut self, cx: &mut Context<'_>) {
        let begun = self.held.as_ref().map(|held| held.text);
        let (letter, payload) = match begun {
            None => (cx.rng.pick(b"fFiIsS"), &b"nobody"[..]),
            Some(None) => (cx.rng.pick(b"iI"), &b"middle"[..]),
            Some(Some(true)) => cx.rng.pick(&[(b'f', &b"first"[..]), (b'i', b"\xFF"), (b's', b"\xC0")]),
            Some(Some(false)) => (b'F', &b"first"[..]),
        };
        self.command(cx, letter, payload);
        self.expects.push_back(Expect::Fragment { message: None, refuse: true, last: false });
    }

    // Its input.

    pub(crate) fn read(&mut self, cx: &mut Context<'_>) -> Result<(), String> {
        if self.stopped || self.left || self.ended {
            return Ok(());
        }
        let max = if cx.healing { usize::MAX } else { cx.rng.pick(&[1, 20, 5000, usize::MAX]) };
        let bytes = cx.net.borrow_mut().receive(self.conn, max);
        if !bytes.is_empty() {
            trace("backend_hears", self.me, hash_bytes(&bytes));
        }
        self.buffer.extend_from_slice(&bytes);
        let me = self.me;
        let fail = |what: String| format!("backend {me}: {what}");
        while let Some((letter, payload)) = next_reply(&mut self.buffer).map_err(fail)? {
            self.hear(cx, letter, &payload).map_err(fail)?;
        }
        let (over, reset) = (cx.net.borrow().is_over(self.conn), cx.net.borrow().was_reset(self.conn));
        if !self.left && (over || reset && bytes.is_empty()) {
            return self.end(cx).map_err(|what| format!("backend {}: {what}: {self:?}", self.me));
        }
        Ok(())
    }

    fn hear(&mut self, cx: &mut Context<'_>, letter: u8, payload: &[u8]) -> Result<(), String> {
        if self.error {
            return Err(format!("{} behind E", letter as char));
        }
        match letter {
            b'p' => {
                if !self.mute && self.can_talk() {
                    self.command(cx, b'P', b"");
                }
                return Ok(());
            }
            b'E' => {
                self.error = true;
                let fits = self.malformed && self.expects.is_empty();
                return if fits { Ok(()) } else { Err(format!("E: {self:?}")) };
            }
            _ => {}
        }
        let Some(expect) = self.expects.pop_front() else {
            return Err(format!("the reply {} to nothing", letter as char));
        };
        let fits = match expect {
            Expect::Letter(expected) => letter == expected,
            Expect::Confirm { token, message } => {
                if let Some(message) = message {
                    cx.messages[message].fate = if letter == b'A' { Fate::Acked } else { Fate::Refused };
                }
                matches!(letter, b'A' | b'N') && payload == cx.plan.token(token).as_bytes()
            }
            Expect::Object(expected) => {
                letter == expected
                    && payload.starts_with(b"{\"")
                    && payload.ends_with(b"}")
                    && !payload.starts_with(b"{\"error\"")
            }
            Expect::Revoked { token } => {
                trace("revoked", self.me, token as u64);
                cx.revoked[token] = Revoked::Yes;
                letter == b'K' && payload.starts_with(b"{\"connections\":")
            }
            Expect::Written { message } => {
                let taken = payload.strip_prefix(b"{\"connections\":").filter(|_| letter == b'X');
                let some = taken.is_some_and(|rest| rest[0] != b'0');
                cx.messages[message].fate = if some { Fate::Acked } else { Fate::Refused };
                taken.is_some()
            }
            Expect::Lock { token, message, second } => {
                let fits = matches!(letter, b'A' | b'N') && payload == cx.plan.token(token).as_bytes();
                self.locked(cx, message, second, letter == b'A')? && fits
            }
            Expect::Fragment { message, refuse, last } => {
                self.doubt |= letter == b'n';
                fragment_answered(cx, message, refuse, last, letter)
            }
        };
        if fits { Ok(()) } else { Err(format!("{} {payload:?} to {expect:?}", letter as char)) }
    }

    fn locked(
        &mut self,
        cx: &mut Context<'_>,
        message: usize,
        second: bool,
        yes: bool,
    ) -> Result<bool, String> {
        if second {
            self.unsure = false;
            // The first one may have been lost to silence, or with its last client; then the model cannot match the
            // rest any more.
            if yes && !self.doubt && !cx.plan.can.stall {
                return Err("a second lock".into());
            }
            if yes {
                self.left = true;
                cx.net.borrow_mut().break_off(self.conn);
            }
            return Ok(true);
        }
        if self.held.as_ref().is_some_and(|held| held.message == message) {
            (self.granted, self.doubt) = (Some(yes), false);
        }
        if !yes {
            cx.messages[message].fate = Fate::Refused;
        }
        Ok(true)
    }

    fn end(&mut self, cx: &mut Context<'_>) -> Result<(), String> {
        trace("backend_ends", self.me, 0);
        self.ended = true;
        let said_all = self.fin;
        self.orderly = said_all || self.quit || self.error;
        if !self.fin {
            self.fin = true;
            cx.net.borrow_mut().shut_down(self.conn);
        }
        if cx.draining || cx.plan.can.stall || self.error || !self.was_accepted(cx) {
            return Ok(());
        }
        match (said_all || self.quit, self.expects.is_empty()) {
            (true, true) => Ok(()),
            (true, false) => Err("a reply is lost".into()),
            (false, _) => Err("the connection ends".into()),
        }
    }

    fn was_accepted(&self, cx: &Context<'_>) -> bool {
        cx.net.borrow().is_accepted(self.conn)
    }

    // The end of the run.

    /// Nothing is left undone: a lock is ended in one way or another.
    pub(crate) fn heal(&mut self, cx: &mut Context<'_>) {
        self.stopped = false;
        if self.can_talk() && self.held.is_some() {
            match cx.rng.below(if self.unsure { 2 } else { 3 }) {
                0 => self.shut_down(cx),
                1 => {
                    trace("backend_dies", self.me, 0);
                    self.left = true;
                    cx.net.borrow_mut().break_off(self.conn);
                }
                _ => self.fragment(cx, true),
            }
        }
    }

    pub(crate) fn go_mute(&mut self) {
        (self.mute, self.slow) = (true, true);
    }

    /// Whether every command that it sent is known to be executed.
    pub(crate) fn is_executed(&self, cx: &Context<'_>) -> bool {
        // One that is dropped for its silence may have had commands under way.
        let heard = !self.ended || self.orderly && !cx.net.borrow().was_reset(self.conn);
        !self.left
            && heard
            && self.was_accepted(cx)
            && self.expects.is_empty()
            && (!self.malformed || self.error)
    }

    pub(crate) fn judge(&self, cx: &Context<'_>) -> Result<(), String> {
        let waits = !self.expects.is_empty()
            || self.malformed && !self.error
            || (self.quit || self.fin) && !self.ended;
        if waits && self.is_active() && !cx.plan.can.stall && !cx.draining {
            return Err(format!("backend {} waits: {self:?}", self.me));
        }
        Ok(())
    }
}

fn fragment_answered(
    cx: &mut Context<'_>,
    message: Option<usize>,
    refuse: bool,
    last: bool,
    letter: u8,
) -> bool {
    if let Some(message) = message.map(|message| &mut cx.messages[message]) {
        if letter == b'a' && message.fate == Fate::Refused {
            return false;
        }
        // One refused fragment in the right order means that the lock is over.
        if letter == b'n' {
            message.fate = Fate::Refused;
        } else if last {
            message.fate = Fate::Acked;
        }
    }
    letter == b'n' || letter == b'a' && !refuse
}

/// Takes one frame from wsson off the buffer.
fn next_reply(buffer: &mut Vec<u8>) -> Result<Option<(u8, Vec<u8>)>, String> {
    let digits = buffer.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let Some(&letter) = buffer.get(digits) else { return Ok(None) };
    let len: usize = std::str::from_utf8(&buffer[..digits])
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| format!("not a reply: {:x?}", &buffer[..buffer.len().min(40)]))?;
    if !b"ANanMTpPEXKJOH".contains(&letter) {
        return Err(format!("the letter {letter:x}"));
    }
    if buffer.len() < digits + 1 + len {
        return Ok(None);
    }
    let payload = buffer[digits + 1..digits + 1 + len].to_vec();
    buffer.drain(..digits + 1 + len);
    Ok(Some((letter, payload)))
}
