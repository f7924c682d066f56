//! Client frames to [`Event`]s, whatever the pieces they come in.
//!
//! A message that lies in the input as one whole frame is unmasked in place and borrowed. Everything else,
//! which is a cut frame or a fragmented message, is gathered in a box that lives no longer than the message.
//! Memory grows with the bytes received, never with a length announced.
//!
//! The decoder does not answer, count or time anything. Its errors are final: the connection has to be closed
//! with [`DecodeError::close_code`] and nothing decoded behind it.
//!
//! Invariant: any cut of the same bytes gives the same events and the same error.

use std::borrow::Cow;
use std::fmt;
use std::mem;
use std::str;

use super::utf8::Validator;
use super::{CONTROL_PAYLOAD_BYTES_MAX, CloseCode, Event, Kind, Opcode, mask};

/// The longest header of a client frame: two bytes, a length of eight, the masking key.
const HEADER_BYTES_MAX: usize = 14;

/// The state of one connection between two reads. Idle, it owns nothing.
#[derive(Debug, Default)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
}

// There is one in every connection, and nearly all of them are idle.
const _: () = assert!(size_of::<Decoder>() <= 8);

impl Decoder {
    /// The next event in `input`, which is advanced over the bytes used.
    ///
    /// `Ok(None)` means that all of `input` was used and more is needed; it is empty then. After an error the
    /// decoder holds nothing and must not be fed again.
    #[inline(always)]
    pub fn decode<'b>(
        &mut self,
        input: &mut &'b mut [u8],
        message_bytes_max: usize,
    ) -> Result<Option<Event<'b>>, DecodeError> {
        self.decode_counted(input, message_bytes_max, &mut 0)
    }

    /// The same; `held` follows [`held_bytes`](Self::held_bytes) of all decoders that are given it.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    #[inline(always)]
    pub fn decode_counted<'b>(
        &mut self,
        input: &mut &'b mut [u8],
        message_bytes_max: usize,
        held: &mut usize,
    ) -> Result<Option<Event<'b>>, DecodeError> {
        if self.partial.is_none() {
            if let Some(head) = Head::short_message(input, message_bytes_max) {
                return whole_frame(&head, input);
            }
        }
        self.decode_any(input, message_bytes_max, held)
    }

    #[inline(never)]
    fn decode_any<'b>(
        &mut self,
        input: &mut &'b mut [u8],
        message_bytes_max: usize,
        held: &mut usize,
    ) -> Result<Option<Event<'b>>, DecodeError> {
        if input.is_empty() {
            return Ok(None);
        }
        if self.partial.is_none() {
            if let Some(head) = Head::parse(input, None, message_bytes_max)? {
                if head.is_event() && head.payload_len <= input.len() - head.header_len {
                    return whole_frame(&head, input);
                }
            }
        }
        self.gather(input, message_bytes_max, held)
    }

    /// Whether nothing is kept: no cut frame, no unfinished message.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.partial.is_none()
    }

    /// The heap bytes held for a cut frame or an unfinished message.
    pub fn held_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| size_of::<Partial>() + partial.buffered_bytes())
    }

    /// The way of all that does not lie in the input as one whole frame. Out of line: it would cost the
    /// others registers.
    #[inline(never)]
    fn gather<'b>(
        &mut self,
        input: &mut &'b mut [u8],
        message_bytes_max: usize,
        held: &mut usize,
    ) -> Result<Option<Event<'b>>, DecodeError> {
        let before = self.held_bytes();
        let partial = self.partial.get_or_insert_default();
        let result = partial.decode(input, message_bytes_max);
        if result.is_err() || partial.is_empty() {
            self.partial = None;
        }
        *held = held.wrapping_sub(before).wrapping_add(self.held_bytes());
        result
    }
}

/// A frame's header.
struct Head {
    fin: bool,
    opcode: Opcode,
    mask: [u8; 4],
    header_len: usize,
    payload_len: usize,
}

impl Head {
    /// The header of a short message that is one frame and lies wholly in `bytes`, as browsers
    /// send nearly always. `None` of anything else, right or wrong: [`parse`](Self::parse) judges it.
    #[inline]
    fn short_message(bytes: &[u8], room: usize) -> Option<Self> {
        let &[first, second, a, b, c, d] = bytes.first_chunk()?;
        let opcode = match first {
            0x81 => Opcode::Text,
            0x82 => Opcode::Binary,
            _ => return None,
        };
        // Below 126 only with the mask bit set, and with no longer length behind it.
        let payload_len = usize::from(second ^ 0x80);
        let whole = payload_len < 126 && payload_len <= room && payload_len + 6 <= bytes.len();
        whole.then_some(Self { fin: true, opcode, mask: [a, b, c, d], header_len: 6, payload_len })
    }

    /// Reads the header of the frame that begins `bytes`; `None` if it is cut. Each rule is applied as soon
    /// as the bytes it speaks about are there, so a violation is the same error however the header is cut.
    ///
    /// `message` is the kind of the unfinished message, if any; `room` is how far the message may still grow.
    #[inline]
    fn parse(bytes: &[u8], message: Option<Kind>, room: usize) -> Result<Option<Self>, DecodeError> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        let (fin, opcode) = first_byte(first, message)?;
        let Some(&second) = bytes.get(1) else {
            return Ok(None);
        };
        let short_len = second_byte(second, opcode)?;
        let Some((payload_len, mask_at)) = payload_len(bytes, short_len)? else {
            return Ok(None);
        };
        // Control frames are bounded by the RFC and are no part of a message.
        if payload_len > room as u64 && !opcode.is_control() {
            return Err(DecodeError::TooBig);
        }
        let Some(&[a, b, c, d]) = bytes.get(mask_at..mask_at + 4) else {
            return Ok(None);
        };
        Ok(Some(Self {
            fin,
            opcode,
            mask: [a, b, c, d],
            header_len: mask_at + 4,
            payload_len: payload_len as usize,
        }))
    }

    /// Whether this frame alone makes an event.
    #[inline]
    fn is_event(&self) -> bool {
        self.fin && self.opcode != Opcode::Continuation
    }
}

/// FIN, the reserved bits and the opcode (RFC 6455, sections 5.2, 5.4 and 5.5).
#[inline]
fn first_byte(byte: u8, message: Option<Kind>) -> Result<(bool, Opcode), DecodeError> {
    if byte & 0x70 != 0 {
        return Err(DecodeError::ReservedBit);
    }
    let fin = byte & 0x80 != 0;
    let opcode = Opcode::from_bits(byte & 0x0F).ok_or(DecodeError::ReservedOpcode)?;
    match opcode {
        Opcode::Continuation if message.is_none() => Err(DecodeError::NothingToContinue),
        Opcode::Text | Opcode::Binary if message.is_some() => Err(DecodeError::Interleaved),
        Opcode::Close | Opcode::Ping | Opcode::Pong if !fin => Err(DecodeError::ControlFragmented),
        _ => Ok((fin, opcode)),
    }
}

/// The mask bit and the seven bits of length.
#[inline]
fn second_byte(byte: u8, opcode: Opcode) -> Result<u8, DecodeError> {
    if byte & 0x80 == 0 {
        return Err(DecodeError::Unmasked);
    }
    let short_len = byte & 0x7F;
    if opcode.is_control() && usize::from(short_len) > CONTROL_PAYLOAD_BYTES_MAX {
        return Err(DecodeError::ControlTooLong);
    }
    Ok(short_len)
}

/// The length of the payload and where the masking key begins. The shortest form is the only one allowed.
#[inline]
fn payload_len(bytes: &[u8], short_len: u8) -> Result<Option<(u64, usize)>, DecodeError> {
    match short_len {
        126 => long_len::<2>(bytes, 126),
        127 => long_len::<8>(bytes, 1 << 16),
        _ => Ok(Some((u64::from(short_len), 2))),
    }
}

/// A length of `N` bytes behind the first two, which must not be below `min`.
fn long_len<const N: usize>(bytes: &[u8], min: u64) -> Result<Option<(u64, usize)>, DecodeError> {
    let Some(digits) = bytes.get(2..2 + N) else {
        return Ok(None);
    };
    let len = digits.iter().fold(0, |len, &digit| len << 8 | u64::from(digit));
    match len {
        _ if len < min => Err(DecodeError::LengthNotMinimal),
        _ if len >= 1 << 63 => Err(DecodeError::LengthOverflow),
        _ => Ok(Some((len, 2 + N))),
    }
}

/// Takes a frame that lies wholly in the input and makes an event by itself.
#[inline(always)]
fn whole_frame<'b>(head: &Head, input: &mut &'b mut [u8]) -> Result<Option<Event<'b>>, DecodeError> {
    let frame = take(input, head.header_len + head.payload_len);
    let payload = &mut frame[head.header_len..];
    mask::apply(payload, head.mask);
    match head.opcode {
        // ASCII is seen a word at a time wherever it begins; from_utf8 is fast only on aligned text.
        Opcode::Text if payload.is_ascii() || str::from_utf8(payload).is_ok() => {
            Ok(Some(Event::Text(Cow::Borrowed(payload))))
        }
        Opcode::Text => Err(DecodeError::TextNotUtf8),
        Opcode::Binary => Ok(Some(Event::Binary(Cow::Borrowed(payload)))),
        opcode => control(opcode, Cow::Borrowed(payload)).map(Some),
    }
}

fn control(opcode: Opcode, payload: Cow<'_, [u8]>) -> Result<Event<'_>, DecodeError> {
    match opcode {
        Opcode::Close => close(&payload).map(Event::Close),
        Opcode::Ping => Ok(Event::Ping(payload)),
        Opcode::Pong => Ok(Event::Pong(payload)),
        Opcode::Continuation | Opcode::Text | Opcode::Binary => {
            unreachable!("data frames are told apart before")
        }
    }
}

/// The code in a close frame (RFC 6455, section 5.5.1). The reason is for the peer's log; it only has to be
/// text.
fn close(payload: &[u8]) -> Result<Option<CloseCode>, DecodeError> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(DecodeError::CloseTooShort),
        [high, low, reason @ ..] => (CloseCode(u16::from_be_bytes([*high, *low])), reason),
    };
    if !code.is_allowed_on_wire() {
        return Err(DecodeError::CloseCodeInvalid);
    }
    str::from_utf8(reason).map_err(|_| DecodeError::ReasonNotUtf8)?;
    Ok(Some(code))
}

/// Takes the first `len` bytes of the input.
#[inline]
fn take<'b>(input: &mut &'b mut [u8], len: usize) -> &'b mut [u8] {
    let (front, rest) = mem::take(input).split_at_mut(len);
    *input = rest;
    front
}

/// The state that has to be kept between two reads.
#[derive(Debug, Default)]
struct Partial {
    /// The data message that is not finished.
    message: Option<Message>,
    /// The frame that is not finished; its header is known.
    frame: Option<Frame>,
    /// The payload of that frame so far, if it is a control frame.
    control: Vec<u8>,
    /// A header that is cut, `header_len` bytes of it.
    header: [u8; HEADER_BYTES_MAX],
    header_len: u8,
}

/// A data message so far, unmasked.
#[derive(Debug)]
struct Message {
    kind: Kind,
    bytes: Vec<u8>,
    utf8: Validator,
}

/// The rest of a frame.
#[derive(Debug)]
struct Frame {
    fin: bool,
    opcode: Opcode,
    /// Turned to the next byte of the payload.
    mask: [u8; 4],
    left: usize,
}

impl Partial {
    fn is_empty(&self) -> bool {
        self.message.is_none() && self.frame.is_none() && self.header_len == 0
    }

    fn buffered_bytes(&self) -> usize {
        self.control.capacity() + self.message.as_ref().map_or(0, |message| message.bytes.capacity())
    }

    fn decode<'b>(
        &mut self,
        input: &mut &'b mut [u8],
        message_bytes_max: usize,
    ) -> Result<Option<Event<'b>>, DecodeError> {
        loop {
            if self.frame.is_none() {
                let Some(head) = self.read_header(input, message_bytes_max)? else {
                    return Ok(None);
                };
                self.begin_frame(&head);
            }
            if let Some(mut frame) = self.frame.take() {
                self.read_payload(&mut frame, input)?;
                if frame.left > 0 {
                    self.frame = Some(frame);
                    return Ok(None);
                }
                if let Some(event) = self.end_frame(&frame)? {
                    return Ok(Some(event));
                }
            }
        }
    }

    /// Reads on in the header, of which earlier input may have brought a part.
    fn read_header(
        &mut self,
        input: &mut &mut [u8],
        message_bytes_max: usize,
    ) -> Result<Option<Head>, DecodeError> {
        let before = usize::from(self.header_len);
        let added = input.len().min(HEADER_BYTES_MAX - before);
        self.header[before..before + added].copy_from_slice(&input[..added]);
        let (kind, gathered) =
            self.message.as_ref().map_or((None, 0), |message| (Some(message.kind), message.bytes.len()));
        let room = message_bytes_max.saturating_sub(gathered);
        let head = Head::parse(&self.header[..before + added], kind, room)?;
        let (used, kept) =
            head.as_ref().map_or((added, before + added), |head| (head.header_len - before, 0));
        take(input, used);
        self.header_len = kept as u8;
        Ok(head)
    }

    fn begin_frame(&mut self, head: &Head) {
        match head.opcode {
            Opcode::Text => self.message = Some(Message::new(Kind::Text)),
            Opcode::Binary => self.message = Some(Message::new(Kind::Binary)),
            _ => {}
        }
        self.frame =
            Some(Frame { fin: head.fin, opcode: head.opcode, mask: head.mask, left: head.payload_len });
    }

    /// Moves the frame's payload, as far as the input has it, to where it is gathered.
    fn read_payload(&mut self, frame: &mut Frame, input: &mut &mut [u8]) -> Result<(), DecodeError> {
        let piece = take(input, frame.left.min(input.len()));
        mask::apply(piece, frame.mask);
        if frame.opcode.is_control() {
            self.control.extend_from_slice(piece);
        } else if let Some(message) = &mut self.message {
            message.add(piece, frame)?;
        }
        frame.mask = mask::advance(frame.mask, piece.len());
        frame.left -= piece.len();
        Ok(())
    }

    /// The event a finished frame completes; none if its message goes on.
    fn end_frame(&mut self, frame: &Frame) -> Result<Option<Event<'static>>, DecodeError> {
        if frame.opcode.is_control() {
            return control(frame.opcode, Cow::Owned(mem::take(&mut self.control))).map(Some);
        }
        if !frame.fin {
            return Ok(None);
        }
        self.message.take().map(Message::finish).transpose()
    }
}

impl Message {
    fn new(kind: Kind) -> Self {
        Self { kind, bytes: Vec::new(), utf8: Validator::default() }
    }

    fn add(&mut self, piece: &[u8], frame: &Frame) -> Result<(), DecodeError> {
        if self.kind == Kind::Text && !self.utf8.feed(piece) {
            return Err(DecodeError::TextNotUtf8);
        }
        self.reserve(piece.len(), frame);
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// Doubles as a `Vec` does, but not beyond the end of the message once that is known.
    fn reserve(&mut self, added: usize, frame: &Frame) {
        let (len, capacity) = (self.bytes.len(), self.bytes.capacity());
        if !frame.fin || added <= capacity - len {
            return;
        }
        let wanted = added.max(2 * capacity - len);
        self.bytes.reserve_exact(wanted.min(frame.left));
    }

    fn finish(self) -> Result<Event<'static>, DecodeError> {
        match self.kind {
            Kind::Binary => Ok(Event::Binary(Cow::Owned(self.bytes))),
            // Checked piece by piece; the end may cut a character off.
            Kind::Text if self.utf8.is_complete() => Ok(Event::Text(Cow::Owned(self.bytes))),
            Kind::Text => Err(DecodeError::TextNotUtf8),
        }
    }
}

/// How a client broke the protocol or a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The code of a close frame must not be sent.
    CloseCodeInvalid,
    /// A close frame with half a code.
    CloseTooShort,
    /// A control frame without FIN.
    ControlFragmented,
    /// A control frame with more than 125 bytes.
    ControlTooLong,
    /// A new message within a fragmented one.
    Interleaved,
    /// A length in more bytes than it needs.
    LengthNotMinimal,
    /// A length of 2^63 or more.
    LengthOverflow,
    /// A continuation of no message.
    NothingToContinue,
    /// The reason in a close frame is not UTF-8.
    ReasonNotUtf8,
    /// A bit is set that no extension was negotiated for.
    ReservedBit,
    /// An opcode RFC 6455 does not define.
    ReservedOpcode,
    /// A text message is not UTF-8.
    TextNotUtf8,
    /// The message, or the frame alone, is over the limit.
    TooBig,
    /// A client's frame is not masked.
    Unmasked,
}

impl DecodeError {
    /// The code that the connection has to be closed with.
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::TooBig => CloseCode::TOO_BIG,
            Self::ReasonNotUtf8 | Self::TextNotUtf8 => CloseCode::INVALID_PAYLOAD,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }

    /// The reason for the close frame.
    pub fn reason(self) -> &'static str {
        match self {
            Self::CloseCodeInvalid => "invalid close code",
            Self::CloseTooShort => "close payload of one byte",
            Self::ControlFragmented => "fragmented control frame",
            Self::ControlTooLong => "control frame too long",
            Self::Interleaved => "message within a message",
            Self::LengthNotMinimal => "length not minimal",
            Self::LengthOverflow => "length out of range",
            Self::NothingToContinue => "nothing to continue",
            Self::ReasonNotUtf8 => "close reason not UTF-8",
            Self::ReservedBit => "reserved bit set",
            Self::ReservedOpcode => "reserved opcode",
            Self::TextNotUtf8 => "text not UTF-8",
            Self::TooBig => "buffer overflow",
            Self::Unmasked => "unmasked frame",
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for DecodeError {}

#[cfg(test)]
mod tests;
