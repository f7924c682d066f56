//! RESP2, the protocol of Redis and Valkey: the answers of a server to values, commands to bytes.
//!
//! Only what a bus hears is read: statuses, errors, numbers, strings, and lists of up to four of those. A list in a list is
//! refused, since no command of ours is answered by one. Lengths are judged as they are announced, before any byte of the
//! string is kept. It never copies a string. Invariant: the bytes that [`decode`] consumed are one answer, however the
//! input was cut.

use core::fmt;

/// The longest line: a status, an error, or a number. Redis bounds its own at this.
pub const LINE_BYTES_MAX: usize = 64 * 1024;
/// Items in a list: a message has three, a confirmation too.
pub const ITEMS_MAX: usize = 4;
/// Digits of a length or a number, the sign included.
const DIGITS_MAX: usize = 20;

/// An answer. Its strings borrow the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'b> {
    /// One value.
    One(Value<'b>),
    /// A list of them.
    List(Items<'b>),
}

/// A value that is no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'b> {
    /// `+`: a word.
    Status(&'b [u8]),
    /// `-`: an error, which begins with a word in capitals.
    Error(&'b [u8]),
    /// `:`
    Number(i64),
    /// `$`: a string; none for the null string.
    Text(Option<&'b [u8]>),
}

/// The values of a list, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Items<'b> {
    items: [Value<'b>; ITEMS_MAX],
    len: usize,
}

impl<'b> Items<'b> {
    /// The values.
    pub fn as_slice(&self) -> &[Value<'b>] {
        &self.items[..self.len]
    }
}

/// Why the bytes are no answer of a Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No value begins with this byte.
    Kind(u8),
    /// A line is longer than [`LINE_BYTES_MAX`], or does not end in CR LF.
    Line,
    /// What stands in the place of a number is none.
    Number,
    /// A list has more items than [`ITEMS_MAX`], or a list among them.
    List,
    /// A string is longer than it may be.
    TooLong,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(byte) => write!(f, "no answer of a Redis begins with {:?}", char::from(*byte)),
            Self::Line => f.write_str("a line of it is too long, or has no end"),
            Self::Number => f.write_str("a number of it is none"),
            Self::List => f.write_str("a list of it is longer or deeper than any that was asked for"),
            Self::TooLong => f.write_str("a message of it is too long"),
        }
    }
}

/// Reads one answer from the start of `input`: the bytes used, and the answer. `None` when it is not complete. A string
/// may have `text_bytes_max` bytes.
///
/// # Errors
/// As soon as the bytes cannot become an answer, whether or not all of it is there.
pub fn decode(input: &[u8], text_bytes_max: usize) -> Result<Option<(usize, Answer<'_>)>, Error> {
    if input.first() != Some(&b'*') {
        let one = value(input, 0, text_bytes_max)?;
        return Ok(one.map(|(end, value)| (end, Answer::One(value))));
    }
    let Some((mut at, count)) = number(input, 1)? else { return Ok(None) };
    let len = match count {
        -1 => 0, // the null list
        count => usize::try_from(count).ok().filter(|len| *len <= ITEMS_MAX).ok_or(Error::List)?,
    };
    let mut items = [Value::Text(None); ITEMS_MAX];
    for item in &mut items[..len] {
        if input.get(at) == Some(&b'*') {
            return Err(Error::List);
        }
        let Some((end, value)) = value(input, at, text_bytes_max)? else { return Ok(None) };
        (at, *item) = (end, value);
    }
    Ok(Some((at, Answer::List(Items { items, len }))))
}

/// The value that begins at `at`, and where it ends.
fn value(input: &[u8], at: usize, text_bytes_max: usize) -> Result<Option<(usize, Value<'_>)>, Error> {
    let Some(&kind) = input.get(at) else { return Ok(None) };
    match kind {
        b'+' | b'-' => {
            let Some(end) = line(input, at + 1, LINE_BYTES_MAX, Error::Line)? else { return Ok(None) };
            let text = &input[at + 1..end];
            Ok(Some((end + 2, if kind == b'+' { Value::Status(text) } else { Value::Error(text) })))
        }
        b':' => Ok(number(input, at + 1)?.map(|(end, number)| (end, Value::Number(number)))),
        b'$' => {
            let Some((begin, len)) = number(input, at + 1)? else { return Ok(None) };
            if len == -1 {
                return Ok(Some((begin, Value::Text(None))));
            }
            let len = usize::try_from(len).map_err(|_| Error::Number)?;
            if len > text_bytes_max {
                return Err(Error::TooLong);
            }
            let end = begin + len;
            match (input.get(end), input.get(end + 1)) {
                (Some(b'\r'), Some(b'\n')) => Ok(Some((end + 2, Value::Text(Some(&input[begin..end]))))),
                (Some(b'\r') | None, None) => Ok(None),
                _ => Err(Error::Line),
            }
        }
        other => Err(Error::Kind(other)),
    }
}

/// Where the line that begins at `begin` ends: its CR. The line has at most `bytes_max` bytes.
fn line(input: &[u8], begin: usize, bytes_max: usize, fault: Error) -> Result<Option<usize>, Error> {
    let rest = &input[begin..];
    let looked_at = &rest[..rest.len().min(bytes_max + 1)];
    match looked_at.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        Some(at) if rest[at] == b'\n' => Err(fault),
        Some(at) => match rest.get(at + 1) {
            Some(b'\n') => Ok(Some(begin + at)),
            Some(_) => Err(fault),
            None => Ok(None),
        },
        None if rest.len() > bytes_max => Err(fault),
        None => Ok(None),
    }
}

/// The number in the line that begins at `begin`, and where the next line begins.
fn number(input: &[u8], begin: usize) -> Result<Option<(usize, i64)>, Error> {
    let Some(end) = line(input, begin, DIGITS_MAX, Error::Number)? else {
        // A byte that is no digit is refused although the line is not whole.
        let is_digit = |(place, byte): (usize, &u8)| byte.is_ascii_digit() || place == 0 && *byte == b'-';
        let whole = input[begin..].strip_suffix(b"\r").unwrap_or(&input[begin..]);
        return if whole.iter().enumerate().all(is_digit) { Ok(None) } else { Err(Error::Number) };
    };
    let text = &input[begin..end];
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let is_plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(text).ok().filter(|_| is_plain);
    let number = text.and_then(|text| text.parse().ok()).ok_or(Error::Number)?;
    Ok(Some((end + 2, number)))
}

/// Appends a command: its name and its arguments, as any bytes.
pub fn append_command<'a>(to: &mut Vec<u8>, words: impl ExactSizeIterator<Item = &'a [u8]>) {
    append_number(to, b'*', words.len());
    for word in words {
        append_text(to, &[word]);
    }
}

/// Appends `PUBLISH`, the message in the pieces that it is made of.
pub fn append_publish(to: &mut Vec<u8>, channel: &[&[u8]], message: &[&[u8]]) {
    to.extend_from_slice(b"*3\r\n$7\r\nPUBLISH\r\n");
    append_text(to, channel);
    append_text(to, message);
}

fn append_text(to: &mut Vec<u8>, pieces: &[&[u8]]) {
    append_number(to, b'$', pieces.iter().map(|piece| piece.len()).sum());
    pieces.iter().for_each(|piece| to.extend_from_slice(piece));
    to.extend_from_slice(b"\r\n");
}

fn append_number(to: &mut Vec<u8>, kind: u8, number: usize) {
    to.push(kind);
    to.extend_from_slice(number.to_string().as_bytes());
    to.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: usize = 100;

    fn one(input: &[u8]) -> Result<Option<Value<'_>>, Error> {
        Ok(decode(input, MAX)?.map(|(used, answer)| match answer {
            Answer::One(value) => {
                assert_eq!(used, input.len());
                value
            }
            Answer::List(_) => panic!("one value is no list"),
        }))
    }

    #[test]
    fn the_answers_that_redis_gives() {
        assert_eq!(one(b"+PONG\r\n"), Ok(Some(Value::Status(b"PONG"))));
        assert_eq!(
            one(b"-NOAUTH Authentication required.\r\n"),
            Ok(Some(Value::Error(b"NOAUTH Authentication required.")))
        );
        assert_eq!(one(b":1000\r\n"), Ok(Some(Value::Number(1000))));
        assert_eq!(one(b":-7\r\n"), Ok(Some(Value::Number(-7))));
        assert_eq!(one(b"$5\r\na\r\nbc\r\n"), Ok(Some(Value::Text(Some(b"a\r\nbc")))));
        assert_eq!(one(b"$0\r\n\r\n"), Ok(Some(Value::Text(Some(b"")))));
        assert_eq!(one(b"$-1\r\n"), Ok(Some(Value::Text(None))));
        let message = b"*3\r\n$7\r\nmessage\r\n$3\r\na:*\r\n$2\r\nhi\r\n+NEXT\r\n";
        let Ok(Some((used, Answer::List(items)))) = decode(message, MAX) else {
            panic!("a message is a list")
        };
        let text = |text| Value::Text(Some(text));
        assert_eq!(items.as_slice(), [text(&b"message"[..]), text(b"a:*"), text(b"hi")]);
        assert_eq!(&message[used..], b"+NEXT\r\n");
        let confirmation = b"*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n";
        assert!(matches!(decode(confirmation, MAX), Ok(Some((used, _))) if used == confirmation.len()));
        assert!(
            matches!(decode(b"*-1\r\n", MAX), Ok(Some((5, Answer::List(items)))) if items.as_slice().is_empty())
        );
    }

    #[test]
    fn what_is_no_answer_is_refused_early() {
        for (input, fault) in [
            (&b"HTTP/1.1 400 Bad Request\r\n"[..], Error::Kind(b'H')),
            (b"\r\n", Error::Kind(b'\r')),
            (b"+a\n", Error::Line),
            (b"+a\rb", Error::Line),
            (b":\r\n", Error::Number),
            (b":1x", Error::Number),
            (b":-\r\n", Error::Number),
            (b":+1\r\n", Error::Number),
            (b":99999999999999999999\r\n", Error::Number),
            (b":000000000000000000001\r\n", Error::Number),
            (b"$-2\r\n", Error::Number),
            (b"$101\r\n", Error::TooLong),
            (b"$9223372036854775807\r\n", Error::TooLong),
            (b"$1\r\nab", Error::Line),
            (b"$1\r\na\rb", Error::Line),
            (b"*5\r\n", Error::List),
            (b"*-2\r\n", Error::List),
            (b"*1\r\n*", Error::List),
            (b"*x", Error::Number),
        ] {
            assert_eq!(decode(input, MAX).map(|_| ()), Err(fault), "{:?}", input.escape_ascii().to_string());
        }
        let long = [b"+".as_slice(), &vec![b'x'; LINE_BYTES_MAX + 1]].concat();
        assert_eq!(decode(&long, MAX), Err(Error::Line));
        assert_eq!(decode(&long[..LINE_BYTES_MAX], MAX), Ok(None));
    }

    #[test]
    fn commands_are_lists_of_strings() {
        let mut bytes = Vec::new();
        append_command(&mut bytes, [&b"AUTH"[..], b"me", b"a\r\nb"].into_iter());
        append_publish(&mut bytes, &[b"shop", b":*"], &[b"12", b"", b"3"]);
        assert_eq!(
            bytes.escape_ascii().to_string(),
            r"*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$4\r\na\r\nb\r\n*3\r\n$7\r\nPUBLISH\r\n$6\r\nshop:*\r\n$3\r\n123\r\n"
        );
    }

    fn values() -> impl Strategy<Value = Vec<u8>> {
        let line = "[ -~]{0,9}";
        let one = prop_oneof![
            line.prop_map(|text| format!("+{text}\r\n").into_bytes()),
            line.prop_map(|text| format!("-{text}\r\n").into_bytes()),
            any::<i64>().prop_map(|number| format!(":{number}\r\n").into_bytes()),
            Just(b"$-1\r\n".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..20)
                .prop_map(|text| { [format!("${}\r\n", text.len()).as_bytes(), &text, b"\r\n"].concat() }),
        ];
        prop_oneof![
            one.clone(),
            proptest::collection::vec(one, 0..=ITEMS_MAX).prop_map(|items| [
                format!("*{}\r\n", items.len()).into_bytes(),
                items.concat()
            ]
            .concat()),
        ]
    }

    proptest! {
        /// However the bytes are cut, an answer is not there before its last byte, and then it is the same; what stands behind
        /// it changes nothing.
        #[test]
        fn answers_do_not_depend_on_the_cuts(bytes in values(), behind in proptest::collection::vec(any::<u8>(), 0..9)) {
            for end in 0..bytes.len() {
                prop_assert_eq!(decode(&bytes[..end], MAX), Ok(None));
            }
            let whole = decode(&bytes, MAX).unwrap().unwrap();
            prop_assert_eq!(whole.0, bytes.len());
            let more = [bytes.clone(), behind].concat();
            prop_assert_eq!(decode(&more, MAX), Ok(Some(whole)));
        }

        /// A fault stays one when more comes.
        #[test]
        fn a_fault_is_one_for_good(bytes in "[+\\-:$*0-9\r\nab]{0,24}") {
            let bytes = bytes.as_bytes();
            let faults: Vec<bool> = (0..=bytes.len()).map(|end| decode(&bytes[..end], MAX).is_err()).collect();
            prop_assert!(faults.is_sorted());
        }
    }
}
