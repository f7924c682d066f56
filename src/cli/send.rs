//! `wsson send`: one message to one client or to all, through the control socket.

use super::args::Args;
use super::link::{self, Frame};
use super::{Exit, Failure, Outcome, load};
use crate::config::Settings;
use std::io::Read;

pub(crate) fn run(args: &Args) -> Outcome {
    let settings = load::addresses(args)?;
    let address = load::control_address(args, &settings)?;
    let command = Command::read(args, &settings)?;
    let message = message(args, &command, &settings)?;
    let frames = link::exchange(&address, &command.frame(&message))?;
    judge(&command, &frames)
}

/// To whom and how.
struct Command<'a> {
    letter: u8,
    /// Empty for a broadcast.
    token: &'a str,
    text: bool,
    confirmed: bool,
}

impl<'a> Command<'a> {
    fn read(args: &'a Args, settings: &Settings) -> Result<Self, Failure> {
        let usage = |text: &str| super::usage(args, text);
        let (text, confirmed) = (!args.has("binary"), args.has("confirm"));
        let (letter, token) = match (args.value("token")?, args.has("all")) {
            (None, false) => return Err(usage("send needs --token TOKEN or --all")),
            (Some(_), true) => return Err(usage("--token and --all contradict each other")),
            (None, true) if confirmed => {
                return Err(usage("--confirm goes with --token: a broadcast has no answer"));
            }
            (None, true) => (b'b', ""),
            (Some(token), false) => (if confirmed { b'c' } else { b'd' }, token),
        };
        let length = settings.auth.token_length;
        if letter != b'b' && !settings.auth.is_token(token) {
            return Err(usage(&format!(
                "{token:?} is not a token: {length} letters, digits, commas or hyphens"
            )));
        }
        let letter = if text { letter } else { letter.to_ascii_uppercase() };
        Ok(Self { letter, token, text, confirmed })
    }

    fn frame(&self, message: &[u8]) -> Vec<u8> {
        let length = self.token.len() + message.len();
        let mut frame = format!("{length}{}{}", char::from(self.letter), self.token).into_bytes();
        frame.extend_from_slice(message);
        frame
    }
}

fn message(args: &Args, command: &Command<'_>, settings: &Settings) -> Result<Vec<u8>, Failure> {
    let bytes_max = settings.limits.control_payload_bytes.saturating_sub(command.token.len());
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
        return Err(match command.token {
            "" => failure,
            token => failure.or(format!(
                "wsson send --token {token} --confirm '', which asks whether the client is there"
            )),
        });
    }
    Ok(message)
}

/// One byte more than allowed tells that there is too much.
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

fn judge(command: &Command<'_>, frames: &[Frame]) -> Outcome {
    if frames.iter().any(|frame| frame.command == b'E') {
        let text = "the server refused the command: it breaks the protocol or a limit";
        return Err(Failure::new(Exit::Failed, text).or("the server's log, which has the reason"));
    }
    if !command.confirmed {
        return Ok(Exit::Done);
    }
    let answer =
        frames.iter().find(|frame| frame.payload == command.token.as_bytes()).map(|frame| frame.command);
    match answer {
        Some(b'A') => Ok(Exit::Done),
        Some(b'N') => {
            let text =
                format!("not acknowledged: no open client of {}, or it could not take it", command.token);
            Err(Failure::new(Exit::Failed, text))
        }
        _ => Err(Failure::new(Exit::Failed, "not acknowledged: the server closed without an answer")),
    }
}
