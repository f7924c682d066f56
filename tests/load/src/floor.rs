//! The floor: the least any server can do for each job, as a process of its own.
//!
//! * broadcast: one `send()` of the same bytes per connection, in a loop over 8-byte slots; sixteen frames that
//!   wait are one blob, so the coalescing floor is the same loop;
//! * echo: one `recv()`, one `send()` of what came, nothing looked at;
//! * handshake: accept, an 8-byte slot, one `recv()` of the head, one `send()` of a fixed 101;
//! * direct: one `recv()` of a command, one `send()` to the connection it names, one of the ACK for `c`.
//!
//! It parses no HTTP and no frame, checks nothing, keeps no token. It is driven by [`Record`]s over its control
//! socket and ends when that socket is closed.

use crate::sys::{self, Epoll, Events};
use crate::{Address, Result};
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

/// Everything a client sends in one job fits, and so does the largest broadcast.
const SCRATCH_BYTES: usize = 512 * 1024;
/// In [`Slot::sent`]: the head of the request has not come yet.
const HANDSHAKING: u32 = u32::MAX;
/// In [`Slot::sent`]: nothing is waiting for this connection.
const DONE: u32 = u32::MAX - 1;
const LISTENER: u64 = 0;
const CONTROL_LISTENER: u64 = 1;
const CONTROL: u64 = 2;
const FIRST_SLOT: u64 = 8;

/// As long as a real one; the accept value fits no key.
const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n";

/// As long as the `A` frame of a 32-byte token.
pub const ACK: &[u8] = b"32A00000000000000000000000000000000";

/// A frame of the floor's control socket: an order and the bytes to send.
pub struct Record;

impl Record {
    pub const HEAD: usize = 12;

    pub fn write(out: &mut Vec<u8>, order: u8, index: u32, bytes: &[u8]) {
        out.extend_from_slice(&[order, 0, 0, 0]);
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(&index.to_le_bytes());
        out.extend_from_slice(bytes);
    }

    /// Order, index and length of the bytes of the record at the start of `input`, when it is complete.
    fn read(input: &[u8]) -> Option<(u8, u32, usize)> {
        let len = u32::from_le_bytes(input.get(4..8)?.try_into().ok()?) as usize;
        let index = u32::from_le_bytes(input.get(8..12)?.try_into().ok()?);
        (input.len() >= Self::HEAD + len).then(|| (input[0], index, len))
    }
}

/// All that is kept of a connection.
struct Slot {
    socket: Option<OwnedFd>,
    /// How much of the current blob has left, or one of the two marks above.
    sent: u32,
}

const _: () = assert!(size_of::<Slot>() == 8);

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn bind(address: &Address) -> io::Result<Self> {
        let listener = match address {
            Address::Tcp(address) => Self::Tcp(TcpListener::bind(address)?),
            Address::Unix(path) => Self::Unix(UnixListener::bind(path)?),
        };
        match &listener {
            Self::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                sys::set_nodelay(listener.as_raw_fd())?;
            }
            Self::Unix(listener) => listener.set_nonblocking(true)?,
        }
        Ok(listener)
    }

    fn fd(&self) -> RawFd {
        match self {
            Self::Tcp(listener) => listener.as_raw_fd(),
            Self::Unix(listener) => listener.as_raw_fd(),
        }
    }
}

/// The control connection: what was read of it, and how the current job wants it read.
struct Control {
    socket: Option<OwnedFd>,
    scratch: Vec<u8>,
    len: usize,
    /// Bytes of one `recv()`; the size of a command in the direct jobs.
    want: usize,
    /// How many times that per event: as many commands as are under way.
    batch: usize,
}

struct Floor {
    epoll: Epoll,
    listener: Listener,
    control_listener: Listener,
    slots: Vec<Slot>,
    open: usize,
    blob: Vec<u8>,
    control: Control,
    scratch: Vec<u8>,
}

/// Serves until the control connection closes.
pub fn run(public: &Address, control: &Address) -> Result<()> {
    sys::raise_descriptors()?;
    let mut floor = Floor::bind(public, control)?;
    let mut events = Events::with_capacity(1024);
    loop {
        floor.epoll.wait(&mut events, -1)?;
        for at in 0..events.len() {
            let (data, readable, writable) = events.get(at);
            if !floor.event(data, readable, writable)? {
                return Ok(());
            }
        }
    }
}

impl Floor {
    fn bind(public: &Address, control: &Address) -> Result<Self> {
        let (epoll, listener, control_listener) =
            (Epoll::new()?, Listener::bind(public)?, Listener::bind(control)?);
        epoll.add_level(listener.fd(), LISTENER)?;
        epoll.add_level(control_listener.fd(), CONTROL_LISTENER)?;
        let control = Control { socket: None, scratch: vec![0; SCRATCH_BYTES], len: 0, want: 0, batch: 1 };
        let scratch = vec![0; 64 * 1024];
        Ok(Self { epoll, listener, control_listener, slots: vec![], open: 0, blob: vec![], control, scratch })
    }

    /// False ends the process.
    fn event(&mut self, data: u64, readable: bool, writable: bool) -> io::Result<bool> {
        match data {
            LISTENER => self.accept()?,
            CONTROL_LISTENER => self.accept_control()?,
            CONTROL => return self.commands(),
            _ => {
                let at = (data - FIRST_SLOT) as usize;
                if writable {
                    self.resume(at);
                }
                if readable {
                    self.read(at);
                }
            }
        }
        Ok(true)
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match sys::accept(self.listener.fd()) {
                Ok(socket) => {
                    self.epoll.add(socket.as_raw_fd(), FIRST_SLOT + self.slots.len() as u64, true)?;
                    self.slots.push(Slot { socket: Some(socket), sent: HANDSHAKING });
                    self.open += 1;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn accept_control(&mut self) -> io::Result<()> {
        let socket = sys::accept(self.control_listener.fd())?;
        self.epoll.add(socket.as_raw_fd(), CONTROL, false)?;
        self.control.socket = Some(socket);
        Ok(())
    }

    fn read(&mut self, at: usize) {
        let Some(fd) = self.fd(at) else { return };
        match sys::recv(fd, &mut self.scratch) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => self.close(at),
            Ok(_) if self.slots[at].sent == HANDSHAKING => {
                self.slots[at].sent = DONE;
                self.reply(at, SWITCHING.len(), Some(SWITCHING));
            }
            Ok(got) => self.reply(at, got, None),
        }
    }

    /// Sends the fixed bytes, or the first `len` of what was read; a peer that does not take them is cut off.
    fn reply(&mut self, at: usize, len: usize, fixed: Option<&[u8]>) {
        let Some(fd) = self.fd(at) else { return };
        let bytes = fixed.unwrap_or(&self.scratch[..len]);
        if sys::send(fd, bytes).ok() != Some(len) {
            self.close(at);
        }
    }

    fn fd(&self, at: usize) -> Option<RawFd> {
        Some(self.slots.get(at)?.socket.as_ref()?.as_raw_fd())
    }

    /// The places are given out anew once all are free, so a fleet's connections are always 0, 1, 2 …
    fn close(&mut self, at: usize) {
        if self.slots[at].socket.take().is_some() {
            self.open -= 1;
        }
        if self.open == 0 {
            self.slots = Vec::new();
        }
    }

    /// Reads the control connection as the job asked, and does what it says.
    fn commands(&mut self) -> io::Result<bool> {
        let mut left = self.control.batch;
        while left > 0 {
            let Some(fd) = self.control.socket.as_ref().map(AsRawFd::as_raw_fd) else { return Ok(false) };
            let control = &mut self.control;
            let end = if control.want == 0 { SCRATCH_BYTES } else { control.want };
            match sys::recv(fd, &mut control.scratch[control.len..end]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Ok(0) | Err(_) => return Ok(false),
                Ok(got) => control.len += got,
            }
            if self.execute()? {
                left -= 1;
            }
        }
        Ok(true)
    }

    /// Carries out every complete record; false when there is none.
    fn execute(&mut self) -> io::Result<bool> {
        let scratch = std::mem::take(&mut self.control.scratch);
        let (mut at, len) = (0, self.control.len);
        while let Some((order, index, size)) = Record::read(&scratch[at..len]) {
            let bytes = &scratch[at + Record::HEAD..at + Record::HEAD + size];
            self.order(order, index, bytes)?;
            at += Record::HEAD + size;
        }
        self.control.scratch = scratch;
        if at > 0 {
            self.control.scratch.copy_within(at..len, 0);
            self.control.len = len - at;
        }
        Ok(at > 0)
    }

    fn order(&mut self, order: u8, index: u32, bytes: &[u8]) -> io::Result<()> {
        match order {
            b'b' => self.broadcast(bytes),
            b'd' => self.direct(index as usize, bytes),
            b'c' => {
                self.direct(index as usize, bytes);
                self.answer(ACK)?;
            }
            b'w' => {
                self.control.want = index as usize;
                self.control.batch = usize::from(bytes[0]);
            }
            b'n' => self.answer(&(self.open as u64).to_le_bytes())?,
            _ => return Err(io::Error::other("the floor was given an order it does not know")),
        }
        Ok(())
    }

    fn answer(&mut self, bytes: &[u8]) -> io::Result<()> {
        let fd = self.control.socket.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        sys::send(fd, bytes).map(drop)
    }

    fn direct(&mut self, at: usize, bytes: &[u8]) {
        if let Some(fd) = self.fd(at)
            && sys::send(fd, bytes).ok() != Some(bytes.len())
        {
            self.close(at);
        }
    }

    fn broadcast(&mut self, bytes: &[u8]) {
        self.blob.clear();
        self.blob.extend_from_slice(bytes);
        for slot in &mut self.slots {
            let Some(fd) = slot.socket.as_ref().map(AsRawFd::as_raw_fd) else { continue };
            match sys::send(fd, &self.blob) {
                Ok(sent) if sent == self.blob.len() => {}
                Ok(sent) => slot.sent = sent as u32,
                Err(error) if error.kind() == ErrorKind::WouldBlock => slot.sent = 0,
                // A dead connection is found by the event that follows.
                Err(_) => {}
            }
        }
    }

    /// Sends more of what did not fit at once.
    fn resume(&mut self, at: usize) {
        let (Some(fd), Some(slot)) = (self.fd(at), self.slots.get_mut(at)) else { return };
        while slot.sent < DONE {
            match sys::send(fd, &self.blob[slot.sent as usize..]) {
                Ok(sent) => slot.sent += sent as u32,
                Err(_) => return,
            }
            if slot.sent as usize == self.blob.len() {
                slot.sent = DONE;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_when_it_is_complete() {
        let mut bytes = Vec::new();
        Record::write(&mut bytes, b'd', 7, b"hello");
        assert_eq!(Record::read(&bytes), Some((b'd', 7, 5)));
        assert_eq!(Record::read(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Record::read(&bytes[..3]), None);
    }
}
