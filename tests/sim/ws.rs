//! A browser's half of RFC 6455, written from the RFC and not from the server's codec: masked frames out,
//! unmasked ones in, and every rule about what a server may send is judged here.

/// A frame from the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Message { text: bool, bytes: Vec<u8> },
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

/// One masked frame (section 5.2).
pub(crate) fn frame(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=65535 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]));
    out
}

/// The server's bytes behind the 101.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    buffer: Vec<u8>,
    /// Opcode and payload of the message under way.
    message: Option<(bool, Vec<u8>)>,
    closed: bool,
    /// Bytes of whole frames that were taken.
    taken: usize,
    /// Where the last data frame, or when there is none the stream, and where the last frame began.
    data_at: usize,
    last_at: usize,
}

impl Reader {
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether the bytes so far are whole frames.
    pub(crate) fn is_whole(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The places of the stream from the beginning of the last data frame to that of the last frame.
    pub(crate) fn since_last_data(&self) -> std::ops::RangeInclusive<usize> {
        self.data_at..=self.last_at
    }

    /// Whether a fragmented message is under way.
    pub(crate) fn is_in_message(&self) -> bool {
        self.message.is_some()
    }

    pub(crate) fn next(&mut self) -> Result<Option<Incoming>, String> {
        loop {
            if self.closed && !self.buffer.is_empty() {
                return Err(format!("bytes behind the close frame: {:x?}", self.buffer));
            }
            let Some((first, payload)) = self.next_frame()? else { return Ok(None) };
            if let Some(incoming) = self.judge(first, payload)? {
                return Ok(Some(incoming));
            }
        }
    }

    fn next_frame(&mut self) -> Result<Option<(u8, Vec<u8>)>, String> {
        let [first, second, rest @ ..] = &self.buffer[..] else { return Ok(None) };
        if second & 0x80 != 0 {
            return Err("a masked frame from the server".into());
        }
        let (header, len) = match (second & 0x7F, rest) {
            (126, [a, b, ..]) => (4, usize::from(u16::from_be_bytes([*a, *b]))),
            (127, [a, b, c, d, e, f, g, h, ..]) => {
                (10, u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]) as usize)
            }
            (126 | 127, _) => return Ok(None),
            (len, _) => (2, usize::from(len)),
        };
        if header == 4 && len < 126 || header == 10 && len < 65536 {
            return Err("a length in more bytes than it needs".into());
        }
        if self.buffer.len() < header + len {
            return Ok(None);
        }
        let first = *first;
        let payload = self.buffer[header..header + len].to_vec();
        self.buffer.drain(..header + len);
        self.last_at = self.taken;
        if first & 0x08 == 0 {
            self.data_at = self.taken;
        }
        self.taken += header + len;
        Ok(Some((first, payload)))
    }

    fn judge(&mut self, first: u8, payload: Vec<u8>) -> Result<Option<Incoming>, String> {
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0F);
        if first & 0x70 != 0 {
            return Err(format!("reserved bits: {first:x}"));
        }
        if opcode >= 8 {
            if !fin || payload.len() > 125 {
                return Err("a control frame that is fragmented or too long".into());
            }
            return self.control(opcode, payload).map(Some);
        }
        match (opcode, &mut self.message) {
            (0, None) => return Err("a continuation of nothing".into()),
            (1 | 2, Some(_)) => return Err("a message within a fragmented message".into()),
            (0, Some((_, bytes))) => bytes.extend_from_slice(&payload),
            (1 | 2, message) => *message = Some((opcode == 1, payload)),
            _ => return Err(format!("opcode {opcode}")),
        }
        if !fin {
            return Ok(None);
        }
        let (text, bytes) = self.message.take().ok_or("no message")?;
        if text && std::str::from_utf8(&bytes).is_err() {
            return Err("text that is not UTF-8".into());
        }
        Ok(Some(Incoming::Message { text, bytes }))
    }

    fn control(&mut self, opcode: u8, payload: Vec<u8>) -> Result<Incoming, String> {
        match (opcode, &payload[..]) {
            (9, _) => Ok(Incoming::Ping(payload)),
            (10, _) => Ok(Incoming::Pong(payload)),
            (8, []) => {
                self.closed = true;
                Ok(Incoming::Close(None, String::new()))
            }
            (8, [high, low, reason @ ..]) => {
                self.closed = true;
                let reason = std::str::from_utf8(reason).map_err(|_| "a close reason that is not UTF-8")?;
                let code = u16::from_be_bytes([*high, *low]);
                if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                    return Err(format!("close code {code}"));
                }
                Ok(Incoming::Close(Some(code), reason.to_owned()))
            }
            _ => Err(format!("control frame {opcode} with {} bytes", payload.len())),
        }
    }
}
