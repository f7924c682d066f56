//! Fuzz body: the answers of a broker are the same however they are cut, and those that a plain reader of RESP2 finds; a
//! message of a node that is read is written as the same bytes; and a hub that hears either keeps its books right,
//! whatever the broker says.
//!
//! Input: a byte that says which of them, then the bytes of the broker; for the hub, pieces of a length, a connection
//! and these bytes, or messages of a node.

use wsson::testing::bus::{self, envelope::Content, envelope::Envelope, resp};
use wsson::testing::key::{Key, NodeKey};
use wsson::{Hub, Settings};

const TEXT_BYTES_MAX: usize = 64;

pub(crate) fn body(data: &[u8]) {
    let Some((which, rest)) = data.split_first() else { return };
    match which % 4 {
        0 => answers(rest),
        1 => message(rest),
        2 => broker(rest),
        _ => nodes(rest),
    }
}

fn answers(input: &[u8]) {
    let (found, fault) = read(input);
    let plain = read_plainly(input);
    assert_eq!(found, plain.0);
    assert_eq!(fault, plain.1, "{:?}", input.escape_ascii().to_string());
    // What is read does not depend on where the input ends.
    for end in 0..input.len() {
        let (earlier, fault) = read(&input[..end]);
        assert!(found.starts_with(&earlier) && !(fault && earlier.len() < found.len()));
    }
}

/// The answers in their order, and whether a fault ends them.
fn read(mut input: &[u8]) -> (Vec<String>, bool) {
    let mut found = Vec::new();
    loop {
        match resp::decode(input, TEXT_BYTES_MAX) {
            Ok(Some((used, answer))) => {
                found.push(match answer {
                    resp::Answer::One(value) => told(&value),
                    resp::Answer::List(items) => {
                        format!("[{}]", items.as_slice().iter().map(told).collect::<Vec<_>>().join(","))
                    }
                });
                input = &input[used..];
            }
            Ok(None) => return (found, false),
            Err(_) => return (found, true),
        }
    }
}

fn told(value: &resp::Value<'_>) -> String {
    match value {
        resp::Value::Status(text) => format!("+{}", text.escape_ascii()),
        resp::Value::Error(text) => format!("-{}", text.escape_ascii()),
        resp::Value::Number(number) => format!(":{number}"),
        resp::Value::Text(None) => "$".into(),
        resp::Value::Text(Some(text)) => format!("${}", text.escape_ascii()),
    }
}

/// A value: its text, or nothing when it is a fault; and the rest. The outer nothing is a cut.
type Plain<'i> = Option<(Option<String>, &'i [u8])>;

fn read_plainly(mut input: &[u8]) -> (Vec<String>, bool) {
    let mut found = Vec::new();
    while !input.is_empty() {
        let one = if input[0] == b'*' { list(&input[1..]) } else { single(input) };
        match one {
            None => return (found, false),
            Some((None, _)) => return (found, true),
            Some((Some(text), rest)) => {
                found.push(text);
                input = rest;
            }
        }
    }
    (found, false)
}

fn list(input: &[u8]) -> Plain<'_> {
    let (count, mut rest) = digits(input)?;
    let Some(count) = count.filter(|count| (-1..=4).contains(count)) else { return Some((None, rest)) };
    let mut items = Vec::new();
    for _ in 0..count {
        if rest.first() == Some(&b'*') {
            return Some((None, rest));
        }
        let (item, behind) = single(rest)?;
        rest = behind;
        match item {
            Some(item) => items.push(item),
            None => return Some((None, rest)),
        }
    }
    Some((Some(format!("[{}]", items.join(","))), rest))
}

fn single(input: &[u8]) -> Plain<'_> {
    let (kind, rest) = input.split_first()?;
    match kind {
        b'+' | b'-' => {
            let end = rest.iter().position(|byte| b"\r\n".contains(byte))?;
            match &rest[end..] {
                [b'\r'] => None,
                [b'\r', b'\n', behind @ ..] => {
                    let text = rest[..end].escape_ascii();
                    Some((Some(format!("{}{text}", char::from(*kind))), behind))
                }
                _ => Some((None, rest)),
            }
        }
        b':' => {
            let (number, behind) = digits(rest)?;
            Some((number.map(|number| format!(":{number}")), behind))
        }
        b'$' => {
            let (len, behind) = digits(rest)?;
            match len {
                Some(-1) => Some((Some("$".into()), behind)),
                Some(len @ 0..=64) => {
                    let text = behind.get(..len as usize)?;
                    match &behind[len as usize..] {
                        [] | [b'\r'] => None,
                        [b'\r', b'\n', rest @ ..] => Some((Some(format!("${}", text.escape_ascii())), rest)),
                        _ => Some((None, behind)),
                    }
                }
                _ => Some((None, behind)),
            }
        }
        _ => Some((None, rest)),
    }
}

/// A number and what is behind its line; the inner nothing is a fault.
fn digits(input: &[u8]) -> Option<(Option<i64>, &[u8])> {
    let minus = usize::from(input.first() == Some(&b'-'));
    let len = minus + input[minus..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let fault = Some((None, input));
    match &input[len..] {
        _ if len > 20 => fault,
        [] | [b'\r'] => None,
        [b'\r', b'\n', behind @ ..] => {
            let number = std::str::from_utf8(&input[..len]).ok().and_then(|text| text.parse().ok());
            Some((number, behind))
        }
        _ => fault,
    }
}

fn message(bytes: &[u8]) {
    let Ok(envelope) = Envelope::parse(bytes) else { return };
    assert_eq!(envelope.header()[..], bytes[..bus::envelope::HEADER_BYTES]);
    let payload = &bytes[bus::envelope::HEADER_BYTES..];
    match envelope.content {
        Content::Command(letter, command) => {
            assert!(letter.is_ascii_alphabetic());
            assert_eq!(command, payload);
        }
        Content::Answer(figures) => {
            let again = bus::envelope::Figures::payload(&figures.iter().collect::<Vec<_>>(), figures.error());
            assert_eq!(again, payload);
        }
        Content::Heartbeat(heartbeat) => assert_eq!(heartbeat.payload(), payload[..16]),
    }
}

fn hub() -> Hub {
    let text = "servers = 'tcp://127.0.0.1:1'\n[limits]\ncontrol_payload = 4096\n[bus]\nredis = ['redis://a', 'redis://b']";
    let settings = Settings::parse(text, "/".as_ref()).expect("a good configuration");
    let mut hub = Hub::new(&settings, std::hash::RandomState::new(), Default::default);
    hub.add_listener("one".into(), None);
    assert_eq!(bus::open(&mut hub), 4);
    hub
}

/// Any bytes of a broker, on any of the connections.
fn broker(mut input: &[u8]) {
    let mut hub = hub();
    while let [len, key, rest @ ..] = input {
        let (piece, behind) = rest.split_at(usize::from(*len).min(rest.len()));
        bus::receive(&mut hub, NodeKey::at(usize::from(key % 4)), piece);
        hub.audit().unwrap();
        input = behind;
    }
}

/// Messages of nodes, on a connection that is ready.
fn nodes(mut input: &[u8]) {
    let mut hub = hub();
    bus::receive(&mut hub, NodeKey::at(1), b"+PONG\r\n");
    bus::receive(&mut hub, NodeKey::at(0), b"*3\r\n$9\r\nsubscribe\r\n$7\r\nwsson:*\r\n:1\r\n");
    while let [len, kind, number, rest @ ..] = input {
        let (payload, behind) = rest.split_at(usize::from(*len).min(rest.len()));
        let mut message = vec![1, *kind];
        message.extend_from_slice(&[7; 8]);
        message.extend_from_slice(&u64::from(*number).to_be_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(payload);
        let mut bytes =
            format!("*3\r\n$7\r\nmessage\r\n$7\r\nwsson:*\r\n${}\r\n", message.len()).into_bytes();
        bytes.extend_from_slice(&message);
        bytes.extend_from_slice(b"\r\n");
        bus::receive(&mut hub, NodeKey::at(0), &bytes);
        hub.audit().unwrap();
        input = behind;
    }
    assert!(
        hub.report_json().contains("\"state\":\"up\""),
        "no message of a node ends a connection to the broker"
    );
}
