//! Fuzz body: a backend's input gives the same commands, or ends at the same place, however it is cut, and both
//! are what a reader finds that was written after COMMANDS.md in the plainest way there is. What was heard
//! can be said again, and so can every reply.
//!
//! Input: a byte for the length of tokens, a byte for the limit on payloads, a byte for the cuts, then what comes
//! over the wire.

use wsson::testing::control::{
    Addresses, Command, Error, EventKind, Groups, ListRules, Place, Reply, Rules, Subscription, Target,
    blank, decode,
};
use wsson::testing::frame::Kind;

/// A command as it is written: its letter, and its payload as far as that means something. `?` and the letter stand for
/// one that is to be answered and can not be understood.
type Heard = (u8, Vec<u8>);

pub(crate) fn body(data: &[u8]) {
    let &[token_length, payload_max, cuts, ref wire @ ..] = data else {
        return;
    };
    let token_length = usize::from(token_length % 40);
    let payload_bytes_max = token_length + usize::from(payload_max) * 4;
    let rules = Rules { token_length, payload_bytes_max, addresses_max: 1 + usize::from(payload_max % 8) };
    let whole = hear(wire, wire.len().max(1), rules);
    assert_eq!(hear(wire, 1, rules), whole, "byte by byte");
    assert_eq!(hear(wire, 1 + usize::from(cuts), rules), whole, "in pieces of {}", usize::from(cuts) + 1);
    let (commands, error) = whole;
    let (expected, fails) = read_plainly(wire, rules);
    assert_eq!(commands, expected);
    assert_eq!(error.is_some(), fails, "{error:?}");
    say_again(&commands, rules);
    check_replies(&commands);
}

fn hear(wire: &[u8], piece_bytes: usize, rules: Rules) -> (Vec<Heard>, Option<Error>) {
    let (mut heard, mut input) = (Vec::new(), Vec::new());
    for piece in wire.chunks(piece_bytes) {
        input.extend_from_slice(piece);
        loop {
            match decode(&input, rules) {
                Ok(Some((used, command))) => {
                    heard.push(write_down(command));
                    input.drain(..used);
                }
                Ok(None) => break,
                Err(error) => return (heard, Some(error)),
            }
        }
        input.drain(..blank(&input));
    }
    (heard, None)
}

fn write_down(command: Command<'_>) -> Heard {
    let letter = |kind, text: u8| if kind == Kind::Binary { text.to_ascii_uppercase() } else { text };
    match command {
        Command::Broadcast(kind, message) => (letter(kind, b'b'), message.to_vec()),
        Command::Direct(kind, token, message) => (letter(kind, b'd'), [token, message].concat()),
        Command::Confirmed(kind, token, message) => (letter(kind, b'c'), [token, message].concat()),
        Command::Lock(token) => (b'l', token.to_vec()),
        Command::Fragment(Place::First, kind, data) => (letter(kind, b'f'), data.to_vec()),
        Command::Fragment(Place::Middle, kind, data) => (letter(kind, b'i'), data.to_vec()),
        Command::Fragment(Place::Last, kind, data) => (letter(kind, b's'), data.to_vec()),
        Command::Freest => (b'm', vec![]),
        Command::Status => (b't', vec![]),
        Command::Ping => (b'p', vec![]),
        Command::Pong => (b'P', vec![]),
        Command::Quit => (b'q', vec![]),
        Command::Key(key) => (b'y', key.to_vec()),
        Command::Write(kind, to, message) => {
            (letter(kind, b'w'), [to.text().as_bytes(), b" ", message].concat())
        }
        Command::WriteAnswered(kind, to, message) => {
            (letter(kind, b'x'), [to.text().as_bytes(), b" ", message].concat())
        }
        Command::WriteProved(kind, id, to, message) => {
            (letter(kind, b'v'), [id.as_bytes(), b" ", to.text().as_bytes(), b" ", message].concat())
        }
        Command::ProofRefused(..) => (b'?', b"v".to_vec()),
        Command::Revoke(who, None) => (b'r', who.text().into()),
        Command::Revoke(who, Some(reason)) => (b'r', format!("{} {reason}", who.text()).into()),
        Command::Kick(who, None) => (b'k', who.text().into()),
        Command::Kick(who, Some(reason)) => (b'k', format!("{} {reason}", who.text()).into()),
        Command::Count(items) => (b'o', items.text().into()),
        Command::Here(target, None) => (b'h', target_text(target).into()),
        Command::Here(target, Some(cursor)) => (b'h', format!("{} {cursor}", target_text(target)).into()),
        Command::Join(groups, who) => (b'j', format!("{} {}", groups.text(), who.text()).into()),
        Command::Leave(groups, who) => (b'J', format!("{} {}", groups.text(), who.text()).into()),
        Command::Subscribe(wish) => (b'e', wish_text(&wish).into()),
        Command::Done(n) => (b'a', n.to_string().into()),
        Command::Refused(verb, _) => (b'?', vec![verb.row().letter.to_ascii_lowercase()]),
    }
}

fn wish_text(wish: &Subscription<'_>) -> String {
    let kinds: Vec<&str> = wish.kinds.iter().map(EventKind::name).collect();
    let pool = if wish.pool.is_empty() { String::new() } else { format!(" as={}", wish.pool) };
    let (ack, watch) = (if wish.ack { " ack" } else { "" }, if wish.watch { " watch" } else { "" });
    format!("{}{pool}{ack}{watch}", kinds.join(","))
}

/// The meaning of the payload of `e`: each kind once, in the order of the manual; the last name of a pool.
fn wished_plainly(payload: &[u8]) -> Option<String> {
    const KINDS: [&str; 5] = ["message", "open", "close", "online", "offline"];
    let text = std::str::from_utf8(payload).ok()?;
    let (kinds, options) = text.split_once(' ').map_or((text, None), |(kinds, rest)| (kinds, Some(rest)));
    let wanted: Vec<&str> = kinds.split(',').collect();
    wanted.iter().all(|kind| KINDS.contains(kind)).then_some(())?;
    let mut meant = KINDS.into_iter().filter(|kind| wanted.contains(kind)).collect::<Vec<_>>().join(",");
    let options: Vec<&str> = options.map_or(Vec::new(), |options| options.split(' ').collect());
    let is_name = |name: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.@+:/".contains(&byte);
        (1..=32).contains(&name.len()) && name.bytes().all(fits)
    };
    let known =
        |option: &&str| matches!(*option, "ack" | "watch") || option.strip_prefix("as=").is_some_and(is_name);
    let both = options.contains(&"ack") && options.contains(&"watch");
    (options.iter().all(known) && !both).then_some(())?;
    if let Some(pool) = options.iter().rfind(|option| option.starts_with("as=")) {
        meant = format!("{meant} {pool}");
    }
    for flag in ["ack", "watch"] {
        if options.contains(&flag) {
            meant = format!("{meant} {flag}");
        }
    }
    Some(meant)
}

fn target_text(target: Target<'_>) -> String {
    match target {
        Target::All => "*".into(),
        Target::Token(token) => format!("t:{}", std::str::from_utf8(token).expect("a token is ASCII")),
        Target::User(name) => format!("u:{name}"),
        Target::Group(name) => format!("g:{name}"),
        Target::Connection(name) => format!("c:{name}"),
    }
}

/// The meaning of the payload of a command with addresses; none when it has none.
fn addressed_plainly(letter: u8, payload: &[u8], rules: Rules) -> Option<Vec<u8>> {
    let (list, rest) = match payload.iter().position(|byte| *byte == b' ') {
        Some(space) => (&payload[..space], Some(&payload[space + 1..])),
        None => (payload, None),
    };
    if letter == b'v' || letter == b'V' {
        // The rest is what `x` takes, behind a word of these letters.
        let is_id = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.@+:/".contains(byte);
        let good = (1..=64).contains(&list.len()) && list.iter().all(is_id);
        let as_x = addressed_plainly(letter + 2, rest?, rules)?;
        return good.then(|| [list, b" ", &as_x].concat());
    }
    let list_rules = ListRules { token_length: rules.token_length, items_max: rules.addresses_max };
    if letter == b'j' || letter == b'J' {
        let good =
            Groups::parse(list, rules.addresses_max).is_ok() && Addresses::parse(rest?, list_rules).is_ok();
        return good.then(|| payload.to_vec());
    }
    let items = Addresses::parse(list, list_rules).ok()?;
    let is_text = std::str::from_utf8(rest.unwrap_or_default()).is_ok();
    let exceptions = items.iter().filter(|item| item.except).count();
    match letter {
        b'w' | b'x' if !is_text => None,
        b'w' | b'W' | b'x' | b'X' => rest.map(|_| payload.to_vec()),
        b'k' | b'r' if !is_text => None,
        b'r' if exceptions > 0 || items.iter().any(|item| !item.text.starts_with(['t', 'u'])) => None,
        b'k' | b'r' if rest.is_some_and(<[u8]>::is_empty) => Some(list.to_vec()),
        b'k' | b'r' => Some(payload.to_vec()),
        b'o' => (exceptions == 0).then(|| list.to_vec()),
        _ if exceptions > 0 || items.len() > 1 => None,
        _ => match rest.unwrap_or_default() {
            b"" => Some(list.to_vec()),
            digits if digits.iter().all(u8::is_ascii_digit) => {
                let cursor: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
                Some([list, b" ", cursor.to_string().as_bytes()].concat())
            }
            _ => None,
        },
    }
}

/// The commands, and whether the bytes behind them can not become one.
fn read_plainly(mut wire: &[u8], rules: Rules) -> (Vec<Heard>, bool) {
    let mut commands = Vec::new();
    loop {
        while let [b'\r' | b'\n', rest @ ..] = wire {
            wire = rest;
        }
        let digits = wire.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(wire.len());
        let length: usize = std::str::from_utf8(&wire[..digits.min(8)]).unwrap().parse().unwrap_or(0);
        let too_long = length > rules.payload_bytes_max;
        let &[letter, ref rest @ ..] = &wire[digits..] else {
            return (commands, digits > 8 || digits == 8 && too_long);
        };
        let wrong_token = match letter {
            b'd' | b'D' | b'c' | b'C' => length < rules.token_length,
            b'l' => length != rules.token_length,
            _ => false,
        };
        let addressed = b"wWxXvVkrjJoh".contains(&letter);
        if letter == b'e' || letter == b'a' {
            if !(1..=8).contains(&digits) || too_long {
                return (commands, true);
            }
            let Some(payload) = rest.get(..length) else { return (commands, false) };
            wire = &rest[length..];
            let number = std::str::from_utf8(payload)
                .ok()
                .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let meant = match letter {
                b'e' => wished_plainly(payload),
                _ => number
                    .filter(|text| text.len() <= 20)
                    .and_then(|text| text.parse::<u64>().ok())
                    .map(|n| n.to_string()),
            };
            let Some(meant) = meant else { return (commands, true) };
            commands.push((letter, meant.into()));
            continue;
        }
        let known = addressed || b"bBdDcClfFiIsSmtpPqQy".contains(&letter);
        if !(1..=8).contains(&digits) || too_long || !known || wrong_token {
            return (commands, true);
        }
        let Some(payload) = rest.get(..length) else { return (commands, false) };
        wire = &rest[length..];
        if addressed {
            match addressed_plainly(letter, payload, rules) {
                Some(meant) => commands.push((letter, meant)),
                None if letter.eq_ignore_ascii_case(&b'w') => return (commands, true),
                None => commands.push((b'?', vec![letter.to_ascii_lowercase()])),
            }
            continue;
        }
        let meant = match letter {
            b'm' | b't' | b'p' | b'P' | b'q' | b'Q' => b"",
            _ => payload,
        };
        commands.push((if letter == b'Q' { b'q' } else { letter }, meant.to_vec()));
    }
}

fn say_again(commands: &[Heard], rules: Rules) {
    let commands: Vec<Heard> = commands.iter().filter(|(letter, _)| *letter != b'?').cloned().collect();
    // One space more than was there.
    let longest = commands.iter().map(|(_, payload)| payload.len()).max().unwrap_or(0);
    let rules = Rules { payload_bytes_max: rules.payload_bytes_max.max(longest), ..rules };
    let mut wire = Vec::new();
    for (place, (letter, payload)) in commands.iter().enumerate() {
        let lines = ["", "\n", "\r\n"][place % 3];
        wire.extend_from_slice(format!("{lines}{}{}", payload.len(), char::from(*letter)).as_bytes());
        wire.extend_from_slice(payload);
    }
    assert_eq!(hear(&wire, wire.len().max(1), rules), (commands, None), "said again");
}

/// The payloads as replies of each kind, read again by the same grammar.
fn check_replies(commands: &[Heard]) {
    let (mut out, mut said) = (Vec::new(), Vec::new());
    for (letter, payload) in commands {
        let text = std::str::from_utf8(payload).unwrap_or("");
        let reply = match letter % 10 {
            0 => Reply::Ack(payload),
            1 => Reply::Nack(payload),
            2 => Reply::FragmentAck,
            3 => Reply::FragmentNack,
            4 => Reply::Freest(text.into()),
            5 => Reply::Status(text.into()),
            6 => Reply::Ping,
            7 => Reply::Pong,
            8 => Reply::Keyed,
            _ => Reply::Error,
        };
        reply.append_to(&mut out);
        let letter = b"ANanMTpPYE"[usize::from(letter % 10)];
        let carried = match reply {
            Reply::Ack(token) | Reply::Nack(token) => token.to_vec(),
            Reply::Freest(text) | Reply::Status(text) => text.into_bytes(),
            _ => vec![],
        };
        said.push((letter, carried));
    }
    assert_eq!(read_replies(&out), said);
}

fn read_replies(mut wire: &[u8]) -> Vec<Heard> {
    let mut replies = Vec::new();
    while !wire.is_empty() {
        let digits = wire.iter().position(|byte| !byte.is_ascii_digit()).expect("a letter follows");
        let length: usize = std::str::from_utf8(&wire[..digits]).unwrap().parse().expect("a length");
        let end = digits + 1 + length;
        replies.push((wire[digits], wire[digits + 1..end].to_vec()));
        wire = &wire[end..];
    }
    replies
}
