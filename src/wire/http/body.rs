//! The body of a request, as it arrives: by Content-Length or in chunks (RFC 9112 sections 6 and 7.1).
//!
//! Pure: it gives out the part of the input that is body, keeps none of it, and never looks behind the body's end:
//! there begins the next request. Invariant: however the input is cut, the same bytes come out and the same error; a
//! body that could be read in two ways (extensions with control characters, signs, blanks, bare line feeds, trailers)
//! ends it.
//! design: docs/http.md, docs/threats.md row 26.

use super::head::Framing;

/// Hexadecimal digits of a chunk's length; leading zeros count. Far more than any limit of a payload needs.
const LENGTH_DIGITS_MAX: u8 = 8;
/// Bytes of a chunk's extensions, which no code here understands and RFC 9112 section 7.1.1 lets a sender add.
const EXTENSION_BYTES_MAX: u8 = 64;

/// Why a body cannot be read on. The connection ends: where the next request begins is not known.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum BodyError {
    /// A chunk does not begin or end as RFC 9112 says.
    BadChunk,
    /// A field behind the last chunk.
    Trailer,
    /// The body is longer than the caller wants it; said as soon as it is announced.
    TooLarge,
}

/// The next part of the input.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Piece<'i> {
    /// Bytes of the body, at least one.
    Data(&'i [u8]),
    /// All of the input was used, and the body goes on.
    More,
    /// The body is over; the rest of the input lies behind it.
    End,
}

/// The part of a body that is read next.
#[derive(Clone, Debug)]
pub struct Body {
    at: At,
    /// How much more may come.
    room_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
enum At {
    /// In a body of known length.
    Bytes {
        left: u64,
    },
    /// In the line before a chunk.
    Length {
        value: u64,
        digits: u8,
    },
    /// Behind the `;` of that line.
    Extension {
        value: u64,
        bytes: u8,
    },
    /// Behind the CR of that line.
    LengthEnd {
        value: u64,
    },
    /// In a chunk.
    Chunk {
        left: u64,
    },
    /// Behind a chunk.
    ChunkCr,
    ChunkLf,
    /// Behind the line of the last chunk.
    LastCr,
    LastLf,
    Over,
}

impl Body {
    /// A body that may be this long.
    ///
    /// # Errors
    /// When its announced length is more.
    pub fn new(framing: Framing, bytes_max: u64) -> Result<Self, BodyError> {
        let at = match framing {
            Framing::None | Framing::Length(0) => At::Over,
            Framing::Length(left) if left > bytes_max => return Err(BodyError::TooLarge),
            Framing::Length(left) => At::Bytes { left },
            Framing::Chunked => At::Length { value: 0, digits: 0 },
        };
        Ok(Self { at, room_bytes: bytes_max })
    }

    /// The next piece. Call it until it says [`Piece::More`] or [`Piece::End`].
    ///
    /// # Errors
    /// The fault of the body. Do not go on.
    pub fn read<'i>(&mut self, input: &mut &'i [u8]) -> Result<Piece<'i>, BodyError> {
        loop {
            if let At::Over = self.at {
                return Ok(Piece::End);
            }
            let Some((&byte, behind)) = input.split_first() else { return Ok(Piece::More) };
            if let At::Bytes { left } | At::Chunk { left } = &mut self.at {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                let (data, rest) = input.split_at(length);
                (*input, *left) = (rest, *left - length as u64);
                self.pass();
                return Ok(Piece::Data(data));
            }
            self.at = self.step(byte)?;
            *input = behind;
        }
    }

    /// Leaves a stretch of data that is over.
    fn pass(&mut self) {
        self.at = match self.at {
            At::Bytes { left: 0 } => At::Over,
            At::Chunk { left: 0 } => At::ChunkCr,
            at => at,
        };
    }

    /// The step that a byte between the data makes.
    fn step(&mut self, byte: u8) -> Result<At, BodyError> {
        match (self.at, byte) {
            (At::Length { digits, value }, b'\r') if digits > 0 => Ok(At::LengthEnd { value }),
            (At::Length { digits, value }, b';') if digits > 0 => Ok(At::Extension { value, bytes: 0 }),
            (At::Length { digits, value }, digit) if digits < LENGTH_DIGITS_MAX => {
                let digit = char::from(digit).to_digit(16).ok_or(BodyError::BadChunk)?;
                Ok(At::Length { value: value * 16 + u64::from(digit), digits: digits + 1 })
            }
            (At::Extension { value, .. }, b'\r') => Ok(At::LengthEnd { value }),
            (At::Extension { value, bytes }, byte)
                if bytes < EXTENSION_BYTES_MAX && (byte.is_ascii_graphic() || byte == b' ') =>
            {
                Ok(At::Extension { value, bytes: bytes + 1 })
            }
            (At::LengthEnd { value: 0 }, b'\n') => Ok(At::LastCr),
            (At::LengthEnd { value }, b'\n') => {
                self.room_bytes = self.room_bytes.checked_sub(value).ok_or(BodyError::TooLarge)?;
                Ok(At::Chunk { left: value })
            }
            (At::ChunkCr, b'\r') => Ok(At::ChunkLf),
            (At::ChunkLf, b'\n') => Ok(At::Length { value: 0, digits: 0 }),
            (At::LastCr, b'\r') => Ok(At::LastLf),
            (At::LastLf, b'\n') => Ok(At::Over),
            (At::LastCr | At::LastLf, _) => Err(BodyError::Trailer),
            _ => Err(BodyError::BadChunk),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body, and the rest behind it, when the input comes in pieces of this size.
    fn read(
        framing: Framing,
        input: &[u8],
        piece_bytes: usize,
    ) -> Result<(Vec<u8>, Vec<u8>), Option<BodyError>> {
        let mut body = Body::new(framing, 100).map_err(Some)?;
        let (mut found, mut used) = (Vec::new(), 0);
        for piece in input.chunks(piece_bytes) {
            let mut rest = piece;
            loop {
                match body.read(&mut rest).map_err(Some)? {
                    Piece::Data(data) => found.extend_from_slice(data),
                    Piece::More => break,
                    Piece::End => return Ok((found, input[used + piece.len() - rest.len()..].to_vec())),
                }
            }
            used += piece.len();
        }
        // The end may have come with the last byte.
        match body.read(&mut &[][..]) {
            Ok(Piece::End) => Ok((found, Vec::new())),
            _ => Err(None),
        }
    }

    #[track_caller]
    fn check(framing: Framing, input: &[u8], expected: Result<(&[u8], &[u8]), Option<BodyError>>) {
        let expected = expected.map(|(body, rest)| (body.to_vec(), rest.to_vec()));
        for piece_bytes in [1, 2, 3, 5, 1000] {
            assert_eq!(
                read(framing, input, piece_bytes),
                expected,
                "{} in pieces of {piece_bytes}",
                input.escape_ascii()
            );
        }
    }

    #[test]
    fn gives_the_body_and_nothing_behind_it() {
        check(Framing::Length(5), b"helloGET /", Ok((b"hello", b"GET /")));
        check(Framing::Length(5), b"hell", Err(None));
        for input in [
            &b"5\r\nhello\r\n0\r\n\r\nGET /"[..],
            b"1\r\nh\r\n00000004\r\nello\r\n000\r\n\r\nGET /",
            b"5;a=b;c=\"d e\"\r\nhello\r\n0;last\r\n\r\nGET /",
            b"05\r\nhello\r\n0\r\n\r\nGET /",
        ] {
            check(Framing::Chunked, input, Ok((b"hello", b"GET /")));
        }
        check(Framing::Chunked, b"A\r\n\r\n0\r\n\r\nGET\r\n0\r\n\r\n", Ok((b"\r\n0\r\n\r\nGET", b"")));
        check(Framing::Chunked, b"a\r\n0123456789\r\n0\r\n\r\n", Ok((b"0123456789", b"")));
        for cut in [&b""[..], b"5", b"5\r", b"5\r\n", b"5\r\nhello", b"5\r\nhello\r\n0\r\n\r"] {
            check(Framing::Chunked, cut, Err(None));
        }
        for framing in [Framing::None, Framing::Length(0)] {
            let mut input = &b"GET /"[..];
            assert_eq!(Body::new(framing, 0).expect("nothing is announced").read(&mut input), Ok(Piece::End));
            assert_eq!(input, b"GET /");
        }
    }

    /// Threat 26.
    #[test]
    fn ends_where_two_readers_could_differ() {
        for input in [
            &b"\r\nhello"[..],
            b"\n5\r\nhello",
            b" 5\r\nhello",
            b"5 \r\nhello",
            b"5\t\r\nhello",
            b"5 ;a\r\nhello",
            b"+5\r\nhello",
            b"-5\r\nhello",
            b"0x5\r\nhello",
            b"5\nhello",
            b"5\r\rhello",
            b"5\rhello",
            b"5_0\r\n",
            b"000000005\r\nhello",
            b"fffffffff\r\n",
            b"g\r\n",
            b";a\r\n",
            b"5;a\nb\r\nhello",
            b"5;a\x00b\r\nhello",
            b"5;a\tb\r\nhello",
            b"5;a\xffb\r\nhello",
            b"5\r\nhelloGET",
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhello\r0\r\n\r\n",
            b"5\r\nhello\r\n\r\n",
            b"5\r\nhello\r\n\n",
        ] {
            check(Framing::Chunked, input, Err(Some(BodyError::BadChunk)));
        }
        let long = [b"5;".to_vec(), vec![b'a'; 65], b"\r\nhello".to_vec()].concat();
        check(Framing::Chunked, &long, Err(Some(BodyError::BadChunk)));
        for input in [
            &b"0\r\nContent-Length: 5\r\n\r\n"[..],
            b"0\r\n\n",
            b"0\r\n\r\r",
            b"0\r\n0\r\n\r\n",
            b"0\r\n \r\n\r\n",
        ] {
            check(Framing::Chunked, input, Err(Some(BodyError::Trailer)));
        }
        check(Framing::Chunked, b"65\r\n", Err(Some(BodyError::TooLarge)));
        check(Framing::Chunked, b"ffffffff\r\n", Err(Some(BodyError::TooLarge)));
        check(Framing::Chunked, b"1\r\na\r\n64\r\n", Err(Some(BodyError::TooLarge)));
        check(Framing::Length(101), b"", Err(Some(BodyError::TooLarge)));
    }
}
