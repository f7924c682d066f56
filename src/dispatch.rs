//! A backend's bytes to commands, commands to deeds on the hub, deeds to replies.
//!
//! It never touches a socket. Commands of one backend are executed in order and their replies queued in
//! that order; a turn takes a bounded share of them, and none while replies pile up unread. Invariant:
//! what is not executed stays in the backend's `input`, and end-of-file is acted on only when no complete
//! frame is left there.

use crate::hub::Hub;
use crate::key::BackendKey;
use crate::peer::backend::State;
use crate::wire::command::{self, Command, Error, Reply};
use crate::wire::frame::Kind;
use log::info;

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
}

/// Takes what a backend sent and executes its share of it. `input` is empty when it is only its turn
/// again.
pub(crate) fn pump(hub: &mut Hub, key: BackendKey, input: &[u8]) -> Progress {
    hub.backends.heard(key, input.len(), hub.now);
    let backend = &hub.backends[key];
    if !matches!(backend.state, State::Open) {
        return Progress::Waiting; // what comes after the end of the conversation is discarded
    }
    if !backend.input.is_empty() {
        return pump_gathered(hub, key, input);
    }
    // Ordinarily nothing is left of earlier input, and whole commands are executed where they were read.
    let (used, progress) = run(hub, key, input);
    if used < input.len() {
        hub.backends.keep_input(key, input[used..].to_vec());
    }
    progress
}

#[inline(never)]
fn pump_gathered(hub: &mut Hub, key: BackendKey, input: &[u8]) -> Progress {
    let mut gathered = hub.backends.take_input(key);
    gathered.extend_from_slice(input);
    let (used, progress) = run(hub, key, &gathered);
    gathered.drain(..used);
    hub.backends.keep_input(key, gathered);
    progress
}

/// Executes a share of the commands in `input`; returns how many bytes they were.
fn run(hub: &mut Hub, key: BackendKey, input: &[u8]) -> (usize, Progress) {
    let rules = hub.control_rules();
    let (mut used, mut share) = (0, SHARE);
    let progress = loop {
        if hub.owes_replies(key) {
            break Progress::Waiting; // the flush of the replies brings it back
        }
        let command = match command::decode(&input[used..], rules) {
            Ok(Some((len, Command::Broadcast(..)))) if hub.is_throttled(len) => break Progress::More,
            Ok(Some((len, command))) => {
                used += len;
                command
            }
            Ok(None) => {
                used += command::blank(&input[used..]);
                hub.all_executed(key);
                return (used, Progress::Waiting);
            }
            Err(error) => {
                fail(hub, key, error);
                break Progress::Waiting;
            }
        };
        share = share.saturating_sub(cost(hub, command));
        if let Err(error) = execute(hub, key, command) {
            fail(hub, key, error);
        }
        if hub.backends[key].state != State::Open {
            break Progress::Waiting;
        }
        if share == 0 {
            break Progress::More;
        }
    };
    hub.backends.set_unfinished(key, true);
    (used, progress)
}

fn cost(hub: &Hub, command: Command<'_>) -> usize {
    match command {
        Command::Broadcast(..) => COMMAND_COST + hub.clients(),
        Command::Status => SHARE, // it asks the kernel about the process: one a turn
        _ => COMMAND_COST,
    }
}

fn fail(hub: &mut Hub, key: BackendKey, error: Error) {
    info!("control_error reason={error}");
    hub.stats.errors += 1;
    hub.backends.reply(key, Reply::Error);
    hub.finish_backend(key);
}

fn execute(hub: &mut Hub, key: BackendKey, command: Command<'_>) -> Result<(), Error> {
    match command {
        Command::Broadcast(kind, message) => {
            check_text(kind, message)?;
            hub.send_broadcast(kind, message);
        }
        Command::Direct(kind, token, message) => {
            check_text(kind, message)?;
            if !message.is_empty() {
                hub.send_to_token(token, kind, message);
            }
        }
        Command::Confirmed(kind, token, message) => {
            let taken = confirmed(hub, kind, token, message);
            hub.backends.reply(key, if taken { Reply::Ack(token) } else { Reply::Nack(token) });
        }
        Command::Lock(token) => {
            let locked = hub.lock(key, token);
            hub.backends.reply(key, if locked { Reply::Ack(token) } else { Reply::Nack(token) });
        }
        Command::Fragment(place, kind, data) => {
            let queued = hub.fragment(key, place, kind, data);
            hub.backends.reply(key, if queued { Reply::FragmentAck } else { Reply::FragmentNack });
        }
        Command::Freest => {
            let address = hub.freest();
            hub.backends.reply(key, Reply::Freest(&address));
        }
        Command::Status => {
            let json = hub.report_json();
            hub.backends.reply(key, Reply::Status(&json));
        }
        Command::Ping => hub.backends.reply(key, Reply::Pong),
        Command::Pong => {}
        Command::Quit => hub.finish_backend(key),
    }
    Ok(())
}

fn confirmed(hub: &mut Hub, kind: Kind, token: &[u8], message: &[u8]) -> bool {
    if message.is_empty() {
        return hub.has_token(token);
    }
    check_text(kind, message).is_ok() && hub.send_to_token(token, kind, message)
}

/// A browser drops its connection on a text frame that is not UTF-8, so none is sent.
fn check_text(kind: Kind, message: &[u8]) -> Result<(), Error> {
    // ASCII is seen a word at a time wherever it begins; from_utf8 is fast only on aligned text.
    let valid = kind == Kind::Binary || message.is_ascii() || std::str::from_utf8(message).is_ok();
    if valid { Ok(()) } else { Err(Error::NotText) }
}
