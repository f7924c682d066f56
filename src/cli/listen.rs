//! `wsson listen`: what clients do and say, a line for each event, for shell pipes.
//!
//! It subscribes as any worker does (docs/events.md) and answers pings. Without `--as` it only looks on, in a pool of its own: it
//! takes no event away from the site's workers, and nothing waits for it. It never confirms an event.

use super::args::Args;
use super::link::{self, Door, Frame};
use super::{Exit, Failure, Outcome, load, usage, warn};
use crate::wire::command::{EventKind, Subscription, Telling};
use crate::wire::frame::Kind;
use crate::wire::json;
use serde_json::Value;
use std::io::{self, Write};
use std::time::Duration;

/// How long `--retry` waits before it looks for the server again.
const PAUSE: Duration = Duration::from_secs(1);

/// Why it stopped to listen.
enum End {
    /// The server closed the connection.
    Server,
    /// The reader of the lines has gone.
    Reader,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let settings = load::addresses(args)?;
    let door = Door::chosen(args, &settings)?;
    let wish = wish(args)?;
    let mut is_first = true;
    loop {
        let gone = match listen(args, &door, &wish) {
            Ok(End::Reader) => return Ok(Exit::Done),
            Ok(End::Server) => Failure::new(Exit::NotRunning, "the server has closed the connection"),
            Err(failure) if failure.exit != Exit::NotRunning => return Err(failure),
            Err(failure) => failure,
        };
        if !args.has("retry") {
            return Err(gone.or("--retry, to wait for it"));
        }
        if std::mem::take(&mut is_first) {
            warn(&format_args!("wsson: {}; waiting for it", gone.text));
        }
        std::thread::sleep(PAUSE);
    }
}

/// The payload of the subscription.
fn wish(args: &Args) -> Result<String, Failure> {
    let all = EventKind::ALL.map(EventKind::name).join(",");
    let kinds = args.value("kinds")?.unwrap_or(&all);
    Subscription::kinds(kinds).map_err(|why| usage(args, format!("--kinds {kinds}: {why}")))?;
    let Some(pool) = args.value("as")? else {
        return Ok(format!("{kinds} as=listen-{} watch", std::process::id()));
    };
    Subscription::pool(pool).map_err(|why| usage(args, format!("--as {pool}: {why}")))?;
    Ok(format!("{kinds} as={pool}"))
}

/// Prints events until the server or the reader goes.
fn listen(args: &Args, door: &Door, wish: &str) -> Result<End, Failure> {
    let mut conversation = link::Conversation::begin(door)?;
    conversation.send(format!("{}e{wish}", wish.len()).as_bytes())?;
    while let Some(Frame { command, payload }) = conversation.next()? {
        let line = match command {
            b'p' => {
                conversation.send(b"0P")?;
                continue;
            }
            b'E' => {
                let text =
                    "the server ended the conversation: it refused the command, or this reads too slowly";
                return Err(Failure::new(Exit::Failed, text).or("the server's log, which has the reason"));
            }
            b'e' if args.has("json") => Telling::Object(&payload).line(),
            b'e' => match plain_event(&payload) {
                Some(line) => line.into_bytes(),
                None => continue,
            },
            b'g' | b'G' => {
                let kind = if command == b'g' { Kind::Text } else { Kind::Binary };
                let (head, message) = payload.split_at(head_bytes(&payload));
                match args.has("json") {
                    true => Telling::Message(kind, head, message).line(),
                    false => plain_message(head, message).into_bytes(),
                }
            }
            _ => continue,
        };
        if !print(&line)? {
            return Ok(End::Reader);
        }
    }
    Ok(End::Server)
}

/// Where the message begins: behind the third space.
fn head_bytes(payload: &[u8]) -> usize {
    let spaces = payload.iter().enumerate().filter(|(_, byte)| **byte == b' ');
    spaces.map(|(at, _)| at + 1).nth(2).unwrap_or(payload.len())
}

/// Kind, connection, user or token, text, with tabs between them.
fn plain_message(head: &[u8], message: &[u8]) -> String {
    let head = String::from_utf8_lossy(head);
    let mut fields = head.split(' ');
    let mut field = || fields.next().unwrap_or_default();
    let (connection, token, user) = (field(), field(), field());
    let who = if user.is_empty() { token } else { user };
    format!("message\t{connection}\t{who}\t{}\n", on_one_line(message))
}

/// The same of another event; none for the answer to the subscription.
fn plain_event(object: &[u8]) -> Option<String> {
    let event = json::parse(std::str::from_utf8(object).ok()?)?;
    let text = |name: &str| event.get(name).and_then(Value::as_str);
    let kind = text("event").filter(|kind| *kind != "subscribed")?;
    let connection = text("connection").unwrap_or("-");
    let who = text("user").or(text("token")).unwrap_or("-");
    let more = match kind {
        "open" => text("address").unwrap_or("-").to_owned(),
        "close" => event.get("code").map_or("-".into(), Value::to_string),
        _ => "-".to_owned(),
    };
    Some(format!("{kind}\t{connection}\t{who}\t{more}\n"))
}

/// Text as it is, but for what would break the line or the terminal.
fn on_one_line(message: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(message) else { return message.escape_ascii().to_string() };
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => line.push_str("\\\\"),
            character if character.is_control() => line.extend(character.escape_default()),
            character => line.push(character),
        }
    }
    line
}

/// Whether it has a reader.
fn print(line: &[u8]) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(line).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::io("cannot write the output", &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line() {
        assert_eq!(
            plain_message(b"5f-1 token  ", b"a\tb\nc\\ \xc3\xa9\x1b[2J"),
            "message\t5f-1\ttoken\ta\\tb\\nc\\\\ \u{e9}\\u{1b}[2J\n"
        );
        assert_eq!(plain_message(b"5f-1 token 44 ", b"\xff\x00"), "message\t5f-1\t44\t\\xff\\x00\n");
        let open =
            br#"{"event":"open","connection":"1-1","token":"t","user":"44","address":"::1","groups":[]}"#;
        assert_eq!(plain_event(open).as_deref(), Some("open\t1-1\t44\t::1\n"));
        assert_eq!(
            plain_event(br#"{"event":"offline","user":"44"}"#).as_deref(),
            Some("offline\t-\t44\t-\n")
        );
        assert_eq!(plain_event(br#"{"event":"subscribed","pool":"","kinds":[]}"#), None);
        assert_eq!(head_bytes(b"1-1 t  hello you"), 7);
    }
}
