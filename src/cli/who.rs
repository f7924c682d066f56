//! `wsson online`, `here`, `kick`, `revoke`, `join`, `leave`: the clients that are connected, the end of connections
//! and logins, and groups, by addresses.
//!
//! Each sends the command of the control protocol that its name is, and shows the answer: a table for people, with
//! `--json` the server's own text. design: COMMANDS.md, "Addresses".

use super::args::Args;
use super::link::{self, Door};
use super::{Exit, Failure, Outcome, load, say};
use crate::auth::Rules;
use crate::wire::json;
use serde_json::Value;
use std::time::Duration;

/// All clients, where no address is given.
const EVERYBODY: &str = "*";

/// How many connections each address names.
pub(crate) fn online(args: &Args) -> Outcome {
    let at = Control::read(args)?;
    let answer = at.ask(b'o', addresses(args, Some(EVERYBODY))?)?;
    match args.has("json") {
        true => say(&format!("{}\n", answer.text)),
        false => say(&table(answer.members().map(|(who, count)| (who, count.to_string())))),
    }
}

/// The users, or tokens, behind an address: as many answers as it takes.
pub(crate) fn here(args: &Args) -> Outcome {
    let at = Control::read(args)?;
    let address = addresses(args, Some(EVERYBODY))?;
    let mut cursor = String::new();
    loop {
        let answer = at.ask(b'h', &format!("{address}{cursor}"))?;
        let names = ["users", "tokens"].into_iter().flat_map(|kind| json::items(&answer.value, kind));
        let rows = names.map(|who| {
            let name = who["name"].as_str().unwrap_or("-").to_owned();
            (name, who["connections"].to_string())
        });
        match args.has("json") {
            true => say(&format!("{}\n", answer.text))?,
            false => say(&table(rows))?,
        };
        match answer.value["cursor"].as_str() {
            Some(next) => cursor = format!(" {next}"),
            None => return Ok(Exit::Done),
        }
    }
}

/// Ends the connections that the addresses name.
pub(crate) fn kick(args: &Args) -> Outcome {
    end(args, b'k')
}

/// Ends the logins that the addresses name, and their connections with them.
pub(crate) fn revoke(args: &Args) -> Outcome {
    end(args, b'r')
}

fn end(args: &Args, letter: u8) -> Outcome {
    let at = Control::read(args)?;
    let whom = addresses(args, None)?;
    let answer = match args.value("reason")? {
        Some(reason) => at.ask(letter, &format!("{whom} {reason}"))?,
        None => at.ask(letter, whom)?,
    };
    show_count(args, &answer, "closed")
}

/// Puts the connections that the addresses name into groups.
pub(crate) fn join(args: &Args) -> Outcome {
    group(args, b'j', "joined")
}

/// Takes them out again.
pub(crate) fn leave(args: &Args) -> Outcome {
    group(args, b'J', "left")
}

fn group(args: &Args, letter: u8, done: &str) -> Outcome {
    let [groups, whom] = &args.words[..] else {
        let text = format!("{} needs groups, and whom: wsson {0} room,shop/7 u:44", args.command.name);
        return Err(super::usage(args, text));
    };
    if let Some(other) = groups.split(',').find(|group| !Rules::is_group(group)) {
        let text = format!("{other:?} is not a group: 1 to 64 letters, digits, or _ - . @ + : /");
        return Err(super::usage(args, text));
    }
    let whom = checked(args, whom)?;
    let answer = Control::read(args)?.ask(letter, &format!("{groups} {whom}"))?;
    show_count(args, &answer, done)
}

fn show_count(args: &Args, answer: &Answer, done: &str) -> Outcome {
    match args.has("json") {
        true => say(&format!("{}\n", answer.text)),
        false => say(&format!("{} connections {done}\n", answer.value["connections"])),
    }
}

fn addresses<'a>(args: &'a Args, usual: Option<&'a str>) -> Result<&'a str, Failure> {
    let given = args.words.first().map(String::as_str).or(usual);
    let given = given.ok_or_else(|| {
        super::usage(
            args,
            format!("{} needs to know whom: u:USER, t:TOKEN, g:GROUP, or *", args.command.name),
        )
    })?;
    checked(args, given)
}

fn checked<'a>(args: &Args, given: &'a str) -> Result<&'a str, Failure> {
    match given.is_empty() || given.contains([' ', '\r', '\n']) {
        true => Err(super::usage(args, format!("{given:?} is no list of addresses, such as u:44,g:shop/7"))),
        false => Ok(given),
    }
}

/// The control socket that is asked.
pub(super) struct Control {
    door: Door,
}

/// The answer, as it came and as a value.
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) value: Value,
}

impl Control {
    pub(super) fn read(args: &Args) -> Result<Self, Failure> {
        let settings = load::addresses(args)?;
        Ok(Self { door: Door::chosen(args, &settings)? })
    }

    fn ask(&self, letter: u8, payload: &str) -> Result<Answer, Failure> {
        ask(&self.door, letter, payload.as_bytes())
    }
}

impl Answer {
    fn members(&self) -> impl Iterator<Item = (String, &Value)> {
        self.value.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value))
    }
}

/// Says a command that is answered by a JSON object.
pub(super) fn ask(control: &Door, letter: u8, payload: &[u8]) -> Result<Answer, Failure> {
    ask_within(control, letter, payload, link::PATIENCE)
}

/// The same; the answer may take so long.
pub(super) fn ask_within(
    control: &Door,
    letter: u8,
    payload: &[u8],
    patience: Duration,
) -> Result<Answer, Failure> {
    let mut frame = format!("{}{}", payload.len(), char::from(letter)).into_bytes();
    frame.extend_from_slice(payload);
    let frames = link::exchange_within(control, &frame, patience)?;
    let wanted = if letter == b'r' { b'K' } else { letter.to_ascii_uppercase() };
    let answer = frames.iter().find(|frame| frame.command == wanted);
    let answer = answer.ok_or_else(|| match frames.iter().any(|frame| frame.command == b'E') {
        true => {
            Failure::new(Exit::Failed, "the server refused the command: it breaks the protocol or a limit")
                .or("the server's log, which has the reason; or a newer server")
        }
        false => Failure::new(Exit::Failed, "the server closed without an answer")
            .or("wsson status: it may be ending; else the server's log, which has the reason"),
    })?;
    let text = String::from_utf8_lossy(&answer.payload).into_owned();
    let value = json::parse(&text).ok_or_else(|| {
        Failure::new(Exit::Failed, format!("what {control} answers is no JSON"))
            .or("wsson doctor, which finds out what listens there")
    })?;
    match value["error"].as_str() {
        Some(error) => Err(Failure::new(Exit::Failed, format!("the server refused the command: {error}"))),
        None => Ok(Answer { text, value }),
    }
}

/// Names to the left, numbers to the right; the names may come from any program and must not drive the terminal.
fn table(rows: impl Iterator<Item = (String, String)>) -> String {
    let rows: Vec<(String, String)> = rows.collect();
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let printable =
        |text: &str| text.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>();
    rows.iter().map(|(name, count)| format!("{:<width$}  {count}\n", printable(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_a_column() {
        let rows = [("u:44", "2"), ("g:rööm", "17"), ("u:\u{1b}", "0")];
        let rows = rows.map(|(name, count)| (name.to_owned(), count.to_owned()));
        assert_eq!(table(rows.into_iter()), "u:44    2\ng:rööm  17\nu:?     0\n");
        assert_eq!(table(std::iter::empty()), "");
    }
}
