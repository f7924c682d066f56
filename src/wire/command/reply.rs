//! A reply to a backend, as a value: the frames of the text protocol and, later, HTTP render the same one.
//!
//! A reply owns or borrows its content and knows no connection. Invariant: [`Reply::append_to`] writes one whole frame.

use super::Answer;

/// A reply, or a frame that wsson sends unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply<'b> {
    /// `A`: queued for an open client of this token.
    Ack(&'b [u8]),
    /// `N`: no open client of this token, or none could take it.
    Nack(&'b [u8]),
    /// `a`: the fragment was queued.
    FragmentAck,
    /// `n`: it was not.
    FragmentNack,
    /// `M`: the freest listener's address.
    Freest(String),
    /// `T`: the status as JSON.
    Status(String),
    /// `p`: are you there?
    Ping,
    /// `P`: I am here.
    Pong,
    /// `Y`: the key is right.
    Keyed,
    /// `E`: protocol error or overflow; the connection ends.
    Error,
    /// A JSON object.
    Answer(Box<Answer>),
}

impl Reply<'_> {
    /// Writes the reply as a frame at the end of `out`.
    #[inline(always)] // nearly always of a kind that is known where it is called
    pub fn append_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ack(token) => append_frame(out, b'A', token),
            Self::Nack(token) => append_frame(out, b'N', token),
            Self::FragmentAck => append_frame(out, b'a', b""),
            Self::FragmentNack => append_frame(out, b'n', b""),
            Self::Freest(address) => append_frame(out, b'M', address.as_bytes()),
            Self::Status(json) => append_frame(out, b'T', json.as_bytes()),
            Self::Ping => append_frame(out, b'p', b""),
            Self::Pong => append_frame(out, b'P', b""),
            Self::Keyed => append_frame(out, b'Y', b""),
            Self::Error => append_frame(out, b'E', b""),
            Self::Answer(answer) => append_frame(out, answer.letter(), &answer.json()),
        }
    }
}

/// Without the formatting machinery: replies to confirmed messages are on the hot path, and nearly all have a token or
/// nothing as their payload.
#[inline]
fn append_frame(out: &mut Vec<u8>, letter: u8, payload: &[u8]) {
    append_length(out, payload.len(), letter);
    out.extend_from_slice(payload);
}

/// The beginning of a frame whose payload has this many bytes.
#[inline]
pub(super) fn append_length(out: &mut Vec<u8>, len: usize, letter: u8) {
    match len {
        len @ 0..10 => out.extend_from_slice(&[digit(len), letter]),
        len @ 10..100 => out.extend_from_slice(&[digit(len / 10), digit(len), letter]),
        len @ 100..1000 => out.extend_from_slice(&[digit(len / 100), digit(len / 10), digit(len), letter]),
        len => {
            append_decimal(out, len);
            out.push(letter);
        }
    }
}

#[cold]
pub(super) fn append_decimal(out: &mut Vec<u8>, value: usize) {
    if value >= 10 {
        append_decimal(out, value / 10);
    }
    out.push(digit(value));
}

/// The last digit of a number.
fn digit(value: usize) -> u8 {
    b'0' + (value % 10) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reply_is_a_frame() {
        let mut out = Vec::new();
        for reply in [
            Reply::Ack(b"toke"),
            Reply::Nack(b"toke"),
            Reply::FragmentAck,
            Reply::FragmentNack,
            Reply::Freest("ws1.example.com:80".into()),
            Reply::Status("{}".into()),
            Reply::Ping,
            Reply::Pong,
            Reply::Keyed,
            Reply::Error,
            Reply::Answer(Box::new(Answer::Closed(3))),
        ] {
            reply.append_to(&mut out);
        }
        assert_eq!(out, b"4Atoke4Ntoke0a0n18Mws1.example.com:802T{}0p0P0Y0E17K{\"connections\":3}");
    }

    #[test]
    fn every_length_is_written_in_full() {
        for len in (0..1100).chain([9_999, 10_000, 123_456]) {
            let mut out = Vec::new();
            let text = "x".repeat(len);
            Reply::Status(text.clone()).append_to(&mut out);
            assert_eq!(out, format!("{len}T{text}").as_bytes());
        }
    }
}
