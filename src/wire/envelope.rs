//! The messages of the nodes of a bus to each other: what stands in one message of the broker.
//!
//! ```text
//! 0   version, 1
//! 1   kind: the letter of a command (COMMANDS.md), `=` for an answer, `!` for a heartbeat
//! 2   origin, 8 bytes: the number of the node that wrote it, drawn anew at each start: it is the node's epoch too
//! 10  number, 8 bytes: of the request that it is, or that it answers; 0 where no answer is awaited
//! 18  deadline, 4 bytes: seconds since 1970 after which the request is not executed any more; 0 for none
//! 22  the payload of the command, as COMMANDS.md has it; or of an answer or a heartbeat, as below
//! ```
//!
//! Numbers are in network order. A version that is not known is no fault of this reader but of nobody: it is told apart,
//! counted and ignored. It never executes anything and never copies a payload. Invariant: an envelope that was read is
//! written as the same bytes.

/// The one that this node writes.
const VERSION: u8 = 1;
/// Bytes before the payload.
pub const HEADER_BYTES: usize = 22;
const ANSWER: u8 = b'=';
const HEARTBEAT: u8 = b'!';
/// Bytes of a heartbeat.
const HEARTBEAT_BYTES: usize = 16;

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'b> {
    /// The node that wrote it.
    pub origin: u64,
    /// The request's number.
    pub number: u64,
    /// When it is not worth executing any more.
    pub deadline_unix_s: u32,
    /// The rest.
    pub content: Content<'b>,
}

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'b> {
    /// A command's letter and payload.
    Command(u8, &'b [u8]),
    /// What a command has done on one node.
    Answer(Figures<'b>),
    /// A node lives.
    Heartbeat(Heartbeat),
}

/// The figures of an answer, and the reason why not all was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures<'b> {
    bytes: &'b [u8],
    error: &'b str,
}

/// What a node tells all others every few seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// Its open connections.
    pub clients: u32,
    /// A digest of its list of instances, which is to be the same everywhere.
    pub instances: u64,
    /// Its clock, in seconds since 1970.
    pub unix_s: u32,
}

/// Why a message is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Another version of wsson wrote it.
    Version(u8),
    /// Not a message of a node.
    Malformed,
}

impl<'b> Envelope<'b> {
    /// Reads a message.
    ///
    /// # Errors
    /// When it is none, or of another version.
    pub fn parse(message: &'b [u8]) -> Result<Self, Error> {
        match message.first() {
            Some(&VERSION) => {}
            Some(other) => return Err(Error::Version(*other)),
            None => return Err(Error::Malformed),
        }
        if message.len() < HEADER_BYTES {
            return Err(Error::Malformed);
        }
        let (header, payload) = message.split_at(HEADER_BYTES);
        let content = match header[1] {
            ANSWER => Content::Answer(Figures::parse(payload).ok_or(Error::Malformed)?),
            HEARTBEAT => Content::Heartbeat(Heartbeat::parse(payload).ok_or(Error::Malformed)?),
            letter if letter.is_ascii_alphabetic() => Content::Command(letter, payload),
            _ => return Err(Error::Malformed),
        };
        Ok(Self {
            origin: u64_at(header, 2),
            number: u64_at(header, 10),
            deadline_unix_s: u32_at(header, 18),
            content,
        })
    }

    /// The bytes before the payload.
    pub fn header(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[0] = VERSION;
        header[1] = match self.content {
            Content::Command(letter, _) => letter,
            Content::Answer(_) => ANSWER,
            Content::Heartbeat(_) => HEARTBEAT,
        };
        header[2..10].copy_from_slice(&self.origin.to_be_bytes());
        header[10..18].copy_from_slice(&self.number.to_be_bytes());
        header[18..22].copy_from_slice(&self.deadline_unix_s.to_be_bytes());
        header
    }
}

impl<'b> Figures<'b> {
    fn parse(payload: &'b [u8]) -> Option<Self> {
        let (count, rest) = payload.split_at_checked(4)?;
        let (bytes, error) = rest.split_at_checked((u32_at(count, 0) as usize).checked_mul(4)?)?;
        Some(Self { bytes, error: std::str::from_utf8(error).ok()? })
    }

    /// The figures in their order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = u32> + use<'b> {
        self.bytes.chunks_exact(4).map(|bytes| u32_at(bytes, 0))
    }

    /// The reason; empty for none.
    pub fn error(self) -> &'b str {
        self.error
    }

    /// The payload of an answer with these figures.
    pub fn payload(figures: &[u32], error: &str) -> Vec<u8> {
        let mut payload = Vec::with_capacity(4 + 4 * figures.len() + error.len());
        payload.extend_from_slice(&(figures.len() as u32).to_be_bytes());
        figures.iter().for_each(|figure| payload.extend_from_slice(&figure.to_be_bytes()));
        payload.extend_from_slice(error.as_bytes());
        payload
    }

    /// The figures of a payload that was written here.
    pub fn of(payload: &'b [u8]) -> Self {
        Self::parse(payload).expect("it was written here")
    }
}

impl Heartbeat {
    fn parse(payload: &[u8]) -> Option<Self> {
        // A later version may say more.
        payload.get(..HEARTBEAT_BYTES).map(|payload| Self {
            clients: u32_at(payload, 0),
            instances: u64_at(payload, 4),
            unix_s: u32_at(payload, 12),
        })
    }

    /// The payload.
    pub fn payload(self) -> [u8; HEARTBEAT_BYTES] {
        let mut payload = [0; HEARTBEAT_BYTES];
        payload[..4].copy_from_slice(&self.clients.to_be_bytes());
        payload[4..12].copy_from_slice(&self.instances.to_be_bytes());
        payload[12..].copy_from_slice(&self.unix_s.to_be_bytes());
        payload
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// A number that is the same for the same bytes on every node, whatever wsson was built by: FNV-1a, and the last step of
/// MurmurHash3, so that the upper bits depend on every byte. No secret is needed: names that fall on one instance on
/// purpose make that instance work, as names that are used often do.
pub fn digest(bytes: &[u8]) -> u64 {
    let mut digest = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        digest = (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        digest = (digest ^ (digest >> 33)).wrapping_mul(factor);
    }
    digest ^ (digest >> 33)
}

/// The place of a name among `places`, by jump consistent hash (Lamping and Veach): with one place more, only that part
/// of the names moves that the new one gets.
pub fn place(name: &[u8], places: usize) -> usize {
    let (mut digest, mut last, mut next) = (digest(name), 0_i64, 0_i64);
    while next < places as i64 {
        last = next;
        digest = digest.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = ((last + 1) as f64 * ((1_u64 << 31) as f64 / ((digest >> 33) + 1) as f64)) as i64;
    }
    last as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(envelope: &Envelope<'_>, payload: &[u8]) -> Vec<u8> {
        [&envelope.header(), payload].concat()
    }

    #[test]
    fn an_answer_and_a_heartbeat_come_back() {
        let payload = Figures::payload(&[1, 0, u32::MAX], "full");
        let answer = Envelope {
            origin: 1,
            number: 7,
            deadline_unix_s: 0,
            content: Content::Answer(Figures::of(&payload)),
        };
        let message = bytes(&answer, &payload);
        let read = Envelope::parse(&message).unwrap();
        assert_eq!(read, answer);
        let Content::Answer(figures) = read.content else { panic!("an answer") };
        assert_eq!((figures.iter().collect::<Vec<_>>(), figures.error()), (vec![1, 0, u32::MAX], "full"));
        let heartbeat =
            Heartbeat { clients: 20_000, instances: 0x0123_4567_89ab_cdef, unix_s: 1_700_000_000 };
        let envelope = Envelope { content: Content::Heartbeat(heartbeat), ..answer };
        let later = [bytes(&envelope, &heartbeat.payload()), b"more".to_vec()].concat();
        assert_eq!(Envelope::parse(&later), Ok(envelope), "a later version may say more");
    }

    #[test]
    fn other_versions_are_told_apart_from_rubbish() {
        let good = bytes(
            &Envelope { origin: 1, number: 2, deadline_unix_s: 3, content: Content::Command(b'b', b"hi") },
            b"hi",
        );
        assert!(Envelope::parse(&good).is_ok());
        assert_eq!(Envelope::parse(&[&[2], &good[1..]].concat()), Err(Error::Version(2)));
        assert_eq!(Envelope::parse(b""), Err(Error::Malformed));
        for len in 1..HEADER_BYTES {
            assert_eq!(Envelope::parse(&good[..len]), Err(Error::Malformed));
        }
        for (kind, payload) in [
            (b'?', &b""[..]),
            (b'=', b"\0\0\0"),
            (b'=', b"\0\0\0\x02abcd"),
            (b'=', b"\0\0\0\0\xff"),
            (b'=', b"\xff\xff\xff\xff"),
            (b'!', b"short"),
        ] {
            let message = [&good[..1], &[kind], &good[2..HEADER_BYTES], payload].concat();
            assert_eq!(Envelope::parse(&message), Err(Error::Malformed), "{}", char::from(kind));
        }
    }

    #[test]
    fn places_are_even_and_the_same_everywhere() {
        // These figures, which another program has worked out, are the protocol: nodes of different versions have to agree.
        assert_eq!((digest(b""), digest(b"*"), digest(b"u:44")), DIGESTS);
        assert_eq!(
            ["u:1", "u:2", "g:room", "t:0123456789abcdef"].map(|name| place(name.as_bytes(), 3)),
            PLACES
        );
        for places in 1..6 {
            let mut counts = vec![0; places];
            for number in 0..10_000 {
                counts[place(format!("u:{number}").as_bytes(), places)] += 1;
            }
            let even = 10_000 / places;
            assert!(
                counts.iter().all(|count| (even * 9 / 10..=even * 11 / 10).contains(count)),
                "{counts:?}"
            );
        }
        for number in 0..1000 {
            let name = format!("g:{number}");
            let (few, more) = (place(name.as_bytes(), 3), place(name.as_bytes(), 4));
            assert!(few == more || more == 3, "a name moves to the new place or not at all");
        }
    }

    const DIGESTS: (u64, u64, u64) = (17280346270528514342, 2100709971986749981, 6559611550147589455);
    const PLACES: [usize; 4] = [1, 0, 1, 2];

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(message in proptest::collection::vec(any::<u8>(), 0..64), valid in any::<bool>()) {
            let mut message = message;
            if valid && message.len() > 1 {
                message[0] = VERSION;
                message[1] = [b'b', b'x', ANSWER, HEARTBEAT][usize::from(message[1] % 4)];
            }
            if let Ok(envelope) = Envelope::parse(&message) {
                prop_assert_eq!(&envelope.header()[..], &message[..HEADER_BYTES]);
                if let Content::Command(_, payload) = envelope.content {
                    prop_assert_eq!(payload, &message[HEADER_BYTES..]);
                }
                if let Content::Answer(figures) = envelope.content {
                    let again = Figures::payload(&figures.iter().collect::<Vec<_>>(), figures.error());
                    prop_assert_eq!(&again[..], &message[HEADER_BYTES..]);
                }
            }
        }
    }
}
