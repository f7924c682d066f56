//! What wsson says to a backend, as a value: the frames of the text protocol and, later, HTTP render the same one.
//!
//! A reply owns or borrows what it tells and knows no connection. Invariant: [`Reply::append_to`] writes one whole frame.

/// What wsson says to a backend.
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
    /// `E`: protocol error or overflow; the connection ends.
    Error,
}

impl Reply<'_> {
    /// Writes the reply as a frame at the end of `out`.
    #[inline]
    pub fn append_to(&self, out: &mut Vec<u8>) {
        let (letter, payload) = self.frame();
        append_decimal(out, payload.len());
        out.push(letter);
        out.extend_from_slice(payload);
    }

    fn frame(&self) -> (u8, &[u8]) {
        match self {
            Self::Ack(token) => (b'A', token),
            Self::Nack(token) => (b'N', token),
            Self::FragmentAck => (b'a', b""),
            Self::FragmentNack => (b'n', b""),
            Self::Freest(address) => (b'M', address.as_bytes()),
            Self::Status(json) => (b'T', json.as_bytes()),
            Self::Ping => (b'p', b""),
            Self::Pong => (b'P', b""),
            Self::Error => (b'E', b""),
        }
    }
}

/// Without the formatting machinery: replies to confirmed messages are on the hot path.
fn append_decimal(out: &mut Vec<u8>, value: usize) {
    if value >= 10 {
        append_decimal(out, value / 10);
    }
    out.push(b'0' + (value % 10) as u8);
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
            Reply::Error,
        ] {
            reply.append_to(&mut out);
        }
        assert_eq!(out, b"4Atoke4Ntoke0a0n18Mws1.example.com:802T{}0p0P0E");
    }
}
