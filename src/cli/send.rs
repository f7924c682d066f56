//! `wsson send`: one message to the clients that a token, a user, a group or a list of addresses names, or to all.
//!
//! Where the letters of ws(s)on suffice it uses them, so that it works with every server; anything else with the
//! letters for addresses. It never sends an empty message.

use super::args::Args;
use super::link::{self, Door, Frame};
use super::{Exit, Failure, Outcome, load, say, warn, who};
use crate::config::Settings;
use crate::wire::json;
use std::io::Read;
use std::time::Duration;

pub(crate) fn run(args: &Args) -> Outcome {
    let settings = load::addresses(args)?;
    let door = Door::chosen(args, &settings)?;
    let command = Command::read(args, &settings)?;
    let message = message(args, &command, &settings)?;
    if let Some(within) = command.arrival {
        let answer = who::ask_within(&door, command.letter, &command.payload(&message), within)?;
        return arrived(&answer);
    }
    if command.to_addresses && command.confirmed {
        return delivered(&who::ask(&door, command.letter, &command.payload(&message))?);
    }
    let frames = link::exchange(&door, &command.frame(&message))?;
    judge(&command, &frames)
}

/// The receivers, and the way to send.
struct Command {
    letter: u8,
    /// The text before the message: a token, addresses and a space, or nothing.
    head: String,
    to_addresses: bool,
    text: bool,
    confirmed: bool,
    /// It waits for so long until the browsers have it.
    arrival: Option<Duration>,
}

impl Command {
    fn read(args: &Args, settings: &Settings) -> Result<Self, Failure> {
        let usage = |text: String| super::usage(args, text);
        let (text, confirmed) = (!args.has("binary"), args.has("confirm"));
        let arrival = arrival(args)?;
        let mut given = Vec::new();
        for option in ["token", "user", "group", "to"] {
            given.extend(args.value(option)?.map(|value| (option, value)));
        }
        given.extend(args.has("all").then_some(("all", "")));
        let (option, value) = match given[..] {
            [one] => one,
            [] => {
                return Err(usage(
                    "send needs to know to whom: --token, --user, --group, --to, or --all".into(),
                ));
            }
            [(one, _), (other, _), ..] => {
                return Err(usage(format!(
                    "--{one} and --{other} contradict each other; --to u:44,g:shop/7 takes several"
                )));
            }
        };
        let length = settings.auth.token_length;
        let (letter, head) = match option {
            "token" if arrival.is_some() && settings.auth.is_token(value) => {
                (b'v', format!("{ID} t:{value} "))
            }
            "all" if arrival.is_some() => (b'v', format!("{ID} * ")),
            "all" if confirmed => {
                return Err(usage(
                    "--confirm goes with --token, --user, --group or --to: a broadcast has no answer".into(),
                ));
            }
            "all" => (b'b', String::new()),
            "token" if !settings.auth.is_token(value) => {
                return Err(usage(format!(
                    "{value:?} is not a token: {length} letters, digits, commas or hyphens"
                )));
            }
            "token" => (if confirmed { b'c' } else { b'd' }, value.to_owned()),
            _ if value.is_empty() || value.contains([' ', '\r', '\n']) => {
                return Err(usage(format!("--{option} {value:?} names nobody: u:44,g:shop/7 would")));
            }
            "to" if arrival.is_some() => (b'v', format!("{ID} {value} ")),
            user_or_group if arrival.is_some() => (b'v', format!("{ID} {}:{value} ", &user_or_group[..1])),
            "to" => (if confirmed { b'x' } else { b'w' }, format!("{value} ")),
            user_or_group => {
                (if confirmed { b'x' } else { b'w' }, format!("{}:{value} ", &user_or_group[..1]))
            }
        };
        let letter = if text { letter } else { letter.to_ascii_uppercase() };
        let to_addresses = matches!(letter.to_ascii_lowercase(), b'w' | b'x');
        Ok(Self { letter, head, to_addresses, text, confirmed, arrival })
    }

    fn payload(&self, message: &[u8]) -> Vec<u8> {
        [self.head.as_bytes(), message].concat()
    }

    fn frame(&self, message: &[u8]) -> Vec<u8> {
        let length = self.head.len() + message.len();
        let mut frame = format!("{length}{}", char::from(self.letter)).into_bytes();
        frame.extend_from_slice(&self.payload(message));
        frame
    }
}

/// The id of the one message on its connection.
const ID: &str = "1";
/// How long the server waits for browsers at most, and a little longer.
const ARRIVAL: Duration = Duration::from_millis(crate::config::ARRIVAL_MS_MAX + 5000);

fn arrival(args: &Args) -> Result<Option<Duration>, Failure> {
    let Some(text) = args.value("arrived")? else { return Ok(None) };
    if args.has("confirm") {
        return Err(super::usage(args, "--arrived waits for more than --confirm does: one of them"));
    }
    if text.is_empty() {
        return Ok(Some(ARRIVAL));
    }
    let seconds = text.parse().ok().filter(|seconds: &f64| *seconds > 0.0 && *seconds <= 30.0);
    match seconds {
        Some(seconds) => Ok(Some(Duration::from_secs_f64(seconds))),
        None => Err(super::usage(
            args,
            format!("--arrived={text} is not a time: more than 0 and at most 30 seconds"),
        )),
    }
}

/// One browser is enough; it prints how many have the message.
fn arrived(answer: &who::Answer) -> Outcome {
    let number = |field: &str| answer.value[field].as_u64().unwrap_or(0);
    let (arrived, connections) = (number("arrived"), number("connections"));
    if connections == 0 {
        return delivered(answer);
    }
    say(&format!("{arrived} of {connections} connections have it, the last after {} ms\n", number("ms")))?;
    match arrived {
        0 => Err(Failure::new(Exit::Failed, "not arrived: no browser has answered in time")),
        _ => Ok(Exit::Done),
    }
}

/// One connection is enough; it prints the addresses that named no connection.
fn delivered(answer: &who::Answer) -> Outcome {
    let absent: Vec<&str> =
        json::items(&answer.value, "absent").iter().filter_map(|item| item.as_str()).collect();
    let absent = absent.join(", ");
    let taken =
        ["connections", "away"].into_iter().filter_map(|field| answer.value[field].as_u64()).sum::<u64>();
    match taken {
        0 if absent.is_empty() => {
            Err(Failure::new(Exit::Failed, "not acknowledged: no connection could take it"))
        }
        0 => Err(Failure::new(Exit::Failed, format!("not acknowledged: nobody is connected as {absent}"))),
        _ if absent.is_empty() => Ok(Exit::Done),
        _ => {
            warn(&format_args!("wsson: nobody is connected as {absent}"));
            Ok(Exit::Done)
        }
    }
}

fn message(args: &Args, command: &Command, settings: &Settings) -> Result<Vec<u8>, Failure> {
    let bytes_max = settings.limits.control_payload_bytes.saturating_sub(command.head.len());
    let message = match args.words.first() {
        Some(word) => word.clone().into_bytes(),
        None => standard_input(bytes_max)?,
    };
    if message.len() > bytes_max {
        let text = format!("the message is longer than {bytes_max} bytes");
        return Err(Failure::new(Exit::Failed, text).or("a higher limits.control_payload, and a reload"));
    }
    if command.text && std::str::from_utf8(&message).is_err() {
        return Err(Failure::new(Exit::Failed, "the message is not UTF-8, and browsers drop such text")
            .or("--binary"));
    }
    if message.is_empty() && !command.confirmed {
        let text = "the message is empty, so nothing is sent";
        let failure = super::usage(args, text);
        return Err(match command.letter.to_ascii_lowercase() {
            b'd' => failure.or(format!(
                "wsson send --token {} --confirm '', which asks whether the client is there",
                command.head
            )),
            _ => failure,
        });
    }
    Ok(message)
}

/// One byte more than allowed shows that there is too much.
fn standard_input(bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let mut message = Vec::new();
    let limit = bytes_max as u64 + 1;
    std::io::stdin()
        .lock()
        .take(limit)
        .read_to_end(&mut message)
        .map_err(|error| Failure::io("cannot read the message from standard input", &error))?;
    Ok(message)
}

fn judge(command: &Command, frames: &[Frame]) -> Outcome {
    if frames.iter().any(|frame| frame.command == b'E') {
        let text = "the server refused the command: it breaks the protocol or a limit";
        return Err(Failure::new(Exit::Failed, text).or("the server's log, which has the reason"));
    }
    if !command.confirmed {
        return Ok(Exit::Done);
    }
    let answer =
        frames.iter().find(|frame| frame.payload == command.head.as_bytes()).map(|frame| frame.command);
    match answer {
        Some(b'A') => Ok(Exit::Done),
        Some(b'N') => {
            let text =
                format!("not acknowledged: no open client of {}, or it could not take it", command.head);
            Err(Failure::new(Exit::Failed, text))
        }
        _ => Err(Failure::new(Exit::Failed, "not acknowledged: the server closed without an answer")
            .or("wsson status: it may be ending; else the server's log, which has the reason")),
    }
}
