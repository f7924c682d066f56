//! A backend's bytes to commands, commands to deeds on the hub, deeds to replies: those of frames here, and those of HTTP
//! requests, whose deeds are the same, in `http`.
//!
//! It never touches a socket. Commands of one backend are executed in order and their replies, which are values here,
//! queued in that order; a turn takes a bounded share of them, and none while replies pile up unread. Invariant:
//! commands that are not executed stay in the backend's `input`, and end-of-file is acted on only when no complete
//! frame is left there.

pub(crate) mod bus;
mod http;

use crate::auth::Whose;
use crate::hub::{Back, Form, Hub, Judged, Parting, Reached, Wait};
use crate::key::BackendKey;
use crate::peer::backend::{Speech, State};
use crate::peer::worker::Format;
use crate::roster::{Address, NameKind, items};
use crate::wire::command::{
    self, Addresses, Answer, Command, Error, Here, Proved, Refused, Reply, Target, Verb, Who, Written,
};
use crate::wire::frame::Kind;
use std::collections::HashSet;

/// Work one backend may cause in one turn, in touched client records: a broadcast touches all of them.
/// A record costs tens of nanoseconds, so a share is about a millisecond.
const SHARE: usize = 32 * 1024;
/// Work of a command that touches one client or none, the decoding and the reply included.
const COMMAND_COST: usize = 16;

/// Whether the backend has to be called again without new input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// All that can be executed is.
    Waiting,
    /// Its share is used up, or broadcasts are held back: there is more.
    More,
    /// A client that takes bytes has no room yet: there is more when it has taken some.
    Held,
}

/// Takes a backend's input and executes its share of it. `input` is empty when it is only its turn
/// again.
pub(crate) fn pump(hub: &mut Hub, key: BackendKey, input: &[u8]) -> Progress {
    hub.backends.heard(key, input.len(), hub.now);
    let backend = &hub.backends[key];
    if !matches!(backend.state, State::Open) {
        return Progress::Waiting; // input after the end of the conversation is discarded
    }
    if let (Speech::Unknown, Some(first)) = (&backend.speech, input.first()) {
        let http = first.is_ascii_alphabetic();
        let speech = if http { Speech::Http(Box::default()) } else { Speech::Frames };
        hub.backends.decide(key, speech);
    }
    let progress = match hub.backends[key].input.is_empty() {
        // Ordinarily nothing is left of earlier input, and whole commands are executed where they were read.
        true => pump_read(hub, key, input),
        false => pump_gathered(hub, key, input),
    };
    hub.bound_backends(key);
    progress
}

fn pump_read(hub: &mut Hub, key: BackendKey, input: &[u8]) -> Progress {
    let (used, progress) = run(hub, key, input);
    if used < input.len() {
        hub.backends.keep_input(key, input[used..].to_vec());
    }
    progress
}

#[inline(never)]
fn pump_gathered(hub: &mut Hub, key: BackendKey, input: &[u8]) -> Progress {
    let mut gathered = hub.backends.take_input(key);
    if gathered.capacity() - gathered.len() < input.len() {
        // The unused rest counts for `limits.control_total`: not as much again.
        gathered.reserve_exact(input.len().max(gathered.len() / 8));
    }
    gathered.extend_from_slice(input);
    let (used, progress) = run(hub, key, &gathered);
    gathered.drain(..used);
    hub.backends.keep_input(key, gathered);
    progress
}

/// Executes a share of what `input` asks for; returns how many bytes of it are not needed any more.
fn run(hub: &mut Hub, key: BackendKey, input: &[u8]) -> (usize, Progress) {
    match hub.backends[key].speech {
        Speech::Http(_) => http::run(hub, key, input),
        Speech::Unknown | Speech::Frames => run_frames(hub, key, input),
    }
}

/// Executes a share of the frames in `input`; returns how many bytes they were.
fn run_frames(hub: &mut Hub, key: BackendKey, input: &[u8]) -> (usize, Progress) {
    let rules = hub.control_rules();
    let (mut used, mut share, mut effect) = (0, SHARE, Effect::OnBackend);
    if !hub.backends[key].is_proven() {
        match let_in(hub, key, input, rules) {
            Ok(Some(key_bytes)) => used = key_bytes,
            Ok(None) => {
                used = command::blank(input);
                hub.all_executed(key);
                return (used, Progress::Waiting);
            }
            Err(error) => {
                hub.fail_backend(key, error);
                return (0, Progress::Waiting);
            }
        }
    }
    let progress = loop {
        // As nearly every read ends.
        if used == input.len() {
            hub.all_executed(key);
            return (used, Progress::Waiting);
        }
        if effect == Effect::OnBackend && hub.owes_replies(key) {
            break Progress::Waiting; // the flush of the replies brings it back
        }
        let (len, command) = match command::decode(&input[used..], rules) {
            Ok(Some(found)) => found,
            Ok(None) => {
                used += command::blank(&input[used..]);
                hub.all_executed(key);
                return (used, Progress::Waiting);
            }
            Err(error) => {
                hub.fail_backend(key, error);
                break Progress::Waiting;
            }
        };
        if is_burst(&command) && hub.is_throttled(len) {
            break Progress::More;
        }
        match hub.wait_for(key, &command, len) {
            Wait::No => used += len,
            Wait::Flush => break Progress::More,
            Wait::Reader => break Progress::Held,
        }
        share = share.saturating_sub(cost(hub, &command));
        effect = execute(hub, key, command, &mut share).unwrap_or_else(|error| {
            hub.fail_backend(key, error);
            Effect::OnBackend
        });
        if effect == Effect::OnBackend && hub.backends[key].state != State::Open {
            break Progress::Waiting;
        }
        if share == 0 {
            break Progress::More;
        }
    };
    hub.backends.set_unfinished(key, true);
    (used, progress)
}

/// The first input over a network: whether it is a backend's. Returns how much of it the key was; none when more must come.
#[inline(never)]
fn let_in(
    hub: &mut Hub,
    key: BackendKey,
    input: &[u8],
    rules: command::Rules,
) -> Result<Option<usize>, Error> {
    if hub.backends[key].owes_key() {
        let shown = command::decode_key(input).inspect_err(|_| hub.note_keyless(key, "none"))?;
        let Some((used, given)) = shown else { return Ok(None) };
        return match hub.judge_key(key, given) {
            Judged::Right => {
                hub.backends.reply(key, &Reply::Keyed);
                Ok(Some(used))
            }
            Judged::Wrong | Judged::TooMany => Err(Error::NoKey),
        };
    }
    if !is_a_backends(input, rules) {
        return Err(Error::NotABackend);
    }
    hub.backends.prove(key);
    Ok(Some(0))
}

/// Whether all of the first input over a network is frames, but for the last one, which may be cut. It may have been
/// written by another program: an LDAP bind begins with `0x30 0x62`, which is `0b`, and a page can make a browser send
/// any text. Behind bytes that look like a frame come then bytes that no backend sends.
#[inline(never)]
fn is_a_backends(input: &[u8], rules: command::Rules) -> bool {
    let mut at = 0;
    loop {
        match command::decode(&input[at..], rules) {
            Ok(Some((len, _))) => at += len,
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

fn cost(hub: &Hub, command: &Command<'_>) -> usize {
    match command {
        Command::Broadcast(..) => COMMAND_COST + hub.clients(),
        Command::Status => SHARE, // it asks the kernel about the process: one a turn
        _ => COMMAND_COST,
    }
}

/// Whether a command may send as much as a broadcast does.
fn is_burst(command: &Command<'_>) -> bool {
    match command {
        Command::Broadcast(..) => true,
        Command::Write(_, to, _) | Command::WriteAnswered(_, to, _) | Command::WriteProved(_, _, to, _) => {
            to.may_be_many()
        }
        _ => false,
    }
}

/// Whether a command may have changed how its own backend stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Clients may have been sent something, no more.
    OnClients,
    /// It was answered, or its conversation is over.
    OnBackend,
}

/// Executes a command and answers it, and takes its cost beyond [`cost`] off the share.
#[inline(always)]
fn execute(hub: &mut Hub, key: BackendKey, command: Command<'_>, share: &mut usize) -> Result<Effect, Error> {
    match hub.has_bus() {
        true => execute_with_bus(hub, key, command, share),
        false => execute_here(hub, key, command, share),
    }
}

/// Out of line, so that a command without a bus is executed from where it was decoded.
#[inline(never)]
fn execute_with_bus(
    hub: &mut Hub,
    key: BackendKey,
    command: Command<'_>,
    share: &mut usize,
) -> Result<Effect, Error> {
    match bus::execute(hub, key, &command, Back::Frame, share) {
        bus::Spread::Here => return execute_here(hub, key, command, share),
        bus::Spread::Done => {}
        bus::Spread::Answered(answer) => hub.backends.reply(key, &Reply::Answer(Box::new(answer))),
    }
    Ok(Effect::OnBackend)
}

#[inline(always)]
fn execute_here(
    hub: &mut Hub,
    key: BackendKey,
    command: Command<'_>,
    share: &mut usize,
) -> Result<Effect, Error> {
    let reply = match command {
        Command::Broadcast(kind, message) => {
            check_text(kind, message)?;
            hub.send_broadcast(kind, message);
            return Ok(Effect::OnClients);
        }
        Command::Direct(kind, token, message) => {
            check_text(kind, message)?;
            if !message.is_empty() {
                hub.send_to_token(token, kind, message);
            }
            return Ok(Effect::OnClients);
        }
        // Most answers go out from here, where it is known that they own nothing.
        Command::Confirmed(kind, token, message) => {
            match confirmed(hub, kind, token, message) {
                true => hub.backends.reply(key, &Reply::Ack(token)),
                false => hub.backends.reply(key, &Reply::Nack(token)),
            }
            return Ok(Effect::OnBackend);
        }
        Command::Lock(token) => match hub.lock(key, token) {
            true => Reply::Ack(token),
            false => Reply::Nack(token),
        },
        Command::Fragment(place, kind, data) => match hub.fragment(key, place, kind, data) {
            true => Reply::FragmentAck,
            false => Reply::FragmentNack,
        },
        Command::Freest => Reply::Freest(hub.freest()),
        Command::Status => Reply::Status(hub.report_json()),
        Command::Ping => Reply::Pong,
        // It has shown one already, or needs none.
        Command::Key(given) => match hub.judge_key(key, given) {
            Judged::Right => Reply::Keyed,
            Judged::Wrong | Judged::TooMany => return Err(Error::NoKey),
        },
        Command::Pong => return Ok(Effect::OnClients),
        Command::Subscribe(wish) => {
            hub.subscribe(key, &wish, Format::Frames)?;
            return Ok(Effect::OnBackend);
        }
        Command::Done(n) => {
            hub.confirm(key, n)?;
            return Ok(Effect::OnBackend);
        }
        Command::Quit => {
            hub.unsubscribe(key, Parting::Quit);
            hub.finish_backend(key);
            return Ok(Effect::OnBackend);
        }
        Command::Write(kind, to, message) => {
            if !message.is_empty() {
                let Reached { connections, refused, .. } = hub.write(items(&to), kind, message);
                spend(share, to.len() + connections + refused);
            }
            return Ok(Effect::OnClients);
        }
        Command::WriteProved(kind, id, to, message) => {
            let within_ms = hub.rules.timeouts.arrival_ms;
            prove(hub, key, (kind, id, &to, message), Form::Frame, within_ms, share);
            return Ok(Effect::OnBackend);
        }
        Command::WriteAnswered(..)
        | Command::Kick(..)
        | Command::Revoke(..)
        | Command::Join(..)
        | Command::Leave(..)
        | Command::Count(..)
        | Command::Here(..)
        | Command::Refused(..)
        | Command::ProofRefused(..) => Reply::Answer(Box::new(ask(hub, command, share))),
    };
    hub.backends.reply(key, &reply);
    Ok(Effect::OnBackend)
}

/// The same for a command of an application, which is no backend.
pub(crate) fn answer(hub: &mut Hub, command: Command<'_>) -> Answer {
    ask(hub, command, &mut { SHARE })
}

/// Executes a command whose answer is a JSON object, in frames and in HTTP.
#[inline(never)]
fn ask(hub: &mut Hub, command: Command<'_>, share: &mut usize) -> Answer {
    match command {
        Command::WriteAnswered(kind, to, message) => Answer::Written(write(hub, kind, &to, message, share)),
        Command::Kick(who, reason) => Answer::Closed(kick(hub, &who, reason, share)),
        Command::Revoke(who, reason) => revoke(hub, &who, reason, share),
        Command::Join(groups, who) => {
            let (joined, error) = hub.join_all(items(&who), groups);
            spend(share, who.len() + groups.iter().count() * joined);
            Answer::Moved(joined, error.map(|error| error.to_string()))
        }
        Command::Leave(groups, who) => {
            let left = hub.leave_all(items(&who), groups);
            spend(share, who.len() + groups.iter().count() * left);
            Answer::Moved(left, None)
        }
        Command::Count(items) => {
            spend(share, items.len());
            Answer::Online(count(hub, &items))
        }
        Command::Here(target, cursor) => {
            let address = Address::from(target);
            spend(share, 4 * hub.online(address)); // a look at each, in a tree
            Answer::Here(here(hub, address, cursor))
        }
        Command::ProofRefused(id, why) => Answer::ProofRefused { id: id.to_owned(), error: why.to_string() },
        Command::Refused(verb, why) => Answer::Refused(Refused { verb, error: why.to_string() }),
        other => unreachable!("{other:?} has another answer"),
    }
}

fn spend(share: &mut usize, touched: usize) {
    *share = share.saturating_sub(touched);
}

fn write(hub: &mut Hub, kind: Kind, to: &Addresses<'_>, message: &[u8], share: &mut usize) -> Written {
    let reached = hub.write(items(to), kind, message);
    written(reached, to, share)
}

/// A write whose answer waits for the browsers.
#[inline(never)]
fn prove(
    hub: &mut Hub,
    key: BackendKey,
    (kind, id, to, message): (Kind, &str, &Addresses<'_>, &[u8]),
    form: Form,
    within_ms: u64,
    share: &mut usize,
) {
    let (reached, sent) = hub.write_proved(items(to), kind, message);
    let written = written(reached, to, share);
    let answer = Proved { id: id.to_owned(), written, arrived: 0, ms: 0 };
    hub.await_arrival(key, sent, answer, form, within_ms);
}

/// What an answer tells of a write; its cost is taken off the share.
fn written(reached: Reached, to: &Addresses<'_>, share: &mut usize) -> Written {
    let Reached { connections, away, refused, absent } = reached;
    spend(share, to.len() + connections + away + refused);
    let mut places = absent.into_iter().peekable();
    let named_none = to.iter().enumerate().filter(|(place, _)| places.next_if_eq(place).is_some());
    let absent = named_none.map(|(_, item)| item.text.to_owned()).collect();
    Written { connections, away, absent, refused }
}

fn kick(hub: &mut Hub, who: &Addresses<'_>, reason: Option<&str>, share: &mut usize) -> usize {
    let closed = hub.kick_all(items(who), reason.unwrap_or("logged out"));
    spend(share, who.len() + closed);
    closed
}

/// Refuses logins, and then closes their connections: as a whole or not at all.
fn revoke(hub: &mut Hub, who: &Addresses<'_>, reason: Option<&str>, share: &mut usize) -> Answer {
    spend(share, SHARE); // it may have waited for a disk
    let whose = who.iter().map(|item| match item.target {
        Target::Token(token) => Whose::Token(String::from_utf8_lossy(token).into()),
        Target::User(user) => Whose::User(user.into(), hub.now.unix_s),
        other => unreachable!("{other:?} is no login"),
    });
    match hub.refuse_logins(whose.collect()) {
        Ok(()) => Answer::Closed(kick(hub, who, reason, share)),
        Err(error) => Answer::Refused(Refused { verb: Verb::Revoke, error: error.to_string() }),
    }
}

/// The connections behind each item. An item that is written twice is counted once.
fn count(hub: &Hub, items: &Addresses<'_>) -> Vec<(String, usize)> {
    let mut seen = HashSet::new();
    let items = items.iter().filter(|item| seen.insert(item.text));
    items.map(|item| (item.text.to_owned(), hub.online(item.target.into()))).collect()
}

fn here(hub: &Hub, address: Address<'_>, cursor: Option<u64>) -> Here {
    let page = hub.here(address, cursor);
    let kind = match page.of {
        NameKind::User => Who::Users,
        NameKind::Token => Who::Tokens,
    };
    Here { kind, names: page.names, cursor: page.cursor }
}

fn confirmed(hub: &mut Hub, kind: Kind, token: &[u8], message: &[u8]) -> bool {
    if message.is_empty() {
        return hub.has_token(token);
    }
    check_text(kind, message).is_ok() && hub.send_to_token(token, kind, message)
}

fn check_text(kind: Kind, message: &[u8]) -> Result<(), Error> {
    if command::is_sendable(kind, message) { Ok(()) } else { Err(Error::NotText) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Now;
    use crate::config::Settings;
    use crate::stats::Process;
    use crate::wire::http::forwarded::PeerAddr;
    use std::hash::RandomState;

    fn hub() -> Hub {
        let mut hub = Hub::new(&Settings::default(), RandomState::new(), Process::default);
        hub.add_listener("unix:///one".into(), None);
        hub
    }

    fn replies(hub: &Hub, key: BackendKey) -> String {
        String::from_utf8(hub.backends[key].replies.chunk().to_vec()).unwrap()
    }

    #[test]
    fn answers_wait_behind_one_that_is_not_known_yet() {
        let mut hub = hub();
        let key = hub.add_backend(PeerAddr::Unix).unwrap();
        pump(&mut hub, key, b"0p");
        let ticket = hub.backends.wait(key);
        pump(&mut hub, key, b"0m0p0q");
        assert_eq!(replies(&hub, key), "0P");
        assert!(!hub.backend_is_over(key, true), "an answer is to come");
        assert!(hub.backends.fill(ticket, &Reply::Freest("late".into()), Now::default()));
        assert_eq!(replies(&hub, key), "0P4Mlate11Munix:///one0P");
        assert!(!hub.backends.fill(ticket, &Reply::Pong, Now::default()), "a place is filled once");
        assert!(hub.backend_is_over(key, true));
        hub.end_backend(key);
        assert_eq!(hub.backends.next_gone(), Some(key));
        hub.backends.remove(key);
        hub.audit().unwrap();
    }

    #[test]
    fn a_ticket_of_a_backend_that_is_gone_fills_nobodys_place() {
        let mut hub = hub();
        let key = hub.add_backend(PeerAddr::Unix).unwrap();
        let ticket = hub.backends.wait(key);
        hub.end_backend(key);
        hub.backends.next_gone();
        hub.backends.remove(key);
        assert!(!hub.backends.fill(ticket, &Reply::Pong, Now::default()));
        let next = hub.add_backend(PeerAddr::Unix).unwrap();
        assert_eq!(next, key, "the slot is used again");
        let other = hub.backends.wait(next);
        assert!(!hub.backends.fill(ticket, &Reply::Pong, Now::default()));
        assert!(hub.backends.fill(other, &Reply::Pong, Now::default()));
        assert_eq!(replies(&hub, next), "0P");
    }

    #[test]
    fn the_first_bytes_over_a_network_are_executed_only_if_all_of_them_are_frames() {
        const LDAP_BIND: &[u8] = b"0b\x02\x01\x01\x60\x5d\x02\x01\x03";
        let run = |peer, pieces: &[&[u8]]| {
            let mut hub = hub();
            let key = hub.add_backend(peer).unwrap();
            for piece in pieces {
                pump(&mut hub, key, piece);
            }
            (hub.stats.broadcasts, replies(&hub, key))
        };
        let tcp = PeerAddr::Ip([127, 0, 0, 1].into(), 50_000);
        assert_eq!(run(tcp, &[LDAP_BIND]), (0, "0E".into()));
        assert_eq!(run(PeerAddr::Unix, &[LDAP_BIND]), (1, "0E".into()), "who can open it is trusted");
        for pieces in
            [&[&b"0b"[..]][..], &[b"0b\n"], &[b"\r\n0b\r\n"], &[b"0b0p"], &[b"0", b"b"], &[b"0b", b"x"]]
        {
            assert_eq!(run(tcp, pieces).0, 1, "{pieces:?}");
        }
        assert_eq!(run(tcp, &[b"0b0bx"]), (0, "0E".into()));
        assert_eq!(run(tcp, &[b"0b", b"0bx"]), (2, "0E".into()), "what comes later is a backend's");
    }

    #[test]
    fn backends_together_keep_no_more_than_their_bound_and_the_largest_pays() {
        let mut settings = Settings::default();
        settings.limits.control_total_bytes = 4 << 20;
        let mut hub = Hub::new(&settings, RandomState::new(), Process::default);
        let mut backends: Vec<BackendKey> =
            (0..8).map(|_| hub.add_backend(PeerAddr::Unix).unwrap()).collect();
        let small = backends.pop().unwrap();
        pump(&mut hub, small, b"5bhal");
        for (round, key) in backends.iter().enumerate() {
            pump(&mut hub, *key, format!("{}B", 1 << 20).as_bytes());
            for _ in 0..15 {
                pump(&mut hub, *key, &[0; 1 << 16]);
            }
            hub.audit().unwrap();
            let open = |key: &&BackendKey| hub.backends[**key].state == State::Open;
            assert!(backends[..=round].iter().filter(open).count() >= (round + 1).min(2), "round {round}");
        }
        assert!(backends.iter().any(|key| replies(&hub, *key) == "0E"));
        pump(&mut hub, small, b"lo0p");
        assert_eq!(
            (replies(&hub, small), hub.stats.broadcasts),
            ("0P".into(), 1),
            "the small one is left alone"
        );
    }

    #[test]
    fn one_backend_too_many_is_told_so_and_its_place_is_free_again() {
        let mut settings = Settings::default();
        settings.limits.backends = 2;
        let mut hub = Hub::new(&settings, RandomState::new(), Process::default);
        let places: Vec<BackendKey> = (0..2).map(|_| hub.add_backend(PeerAddr::Unix).unwrap()).collect();
        let refused: Vec<BackendKey> =
            std::iter::from_fn(|| hub.add_backend(PeerAddr::Unix).ok()).take(1000).collect();
        assert_eq!(refused.len(), 32, "more are not even given a slot");
        for key in &refused {
            pump(&mut hub, *key, b"0p5bHello");
            assert_eq!((replies(&hub, *key), hub.stats.broadcasts), ("0E".into(), 0));
        }
        hub.audit().unwrap();
        hub.end_backend(places[0]);
        while let Some(key) = hub.backends.next_gone() {
            hub.backends.remove(key);
        }
        let next = hub.add_backend(PeerAddr::Unix).unwrap();
        pump(&mut hub, next, b"0p");
        assert_eq!(replies(&hub, next), "0P", "those that are told so take nobody's place");
    }
}
