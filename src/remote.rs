//! Sending from other threads: a bounded channel and the reactor's waker.
//!
//! It never touches the hub; the reactor empties the channel in its turn. Invariant: a message that was
//! accepted here is handed to the hub or the server ends first.

use crate::config::Redis;
use crate::key::NodeKey;
use crate::wire::frame::Kind;
use mio::Waker;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

/// Messages that may wait for the reactor: a burst. A caller that sends more gets an error and may try again.
const MESSAGES_MAX: usize = 4096;

/// A message from another thread.
#[derive(Debug)]
pub(crate) enum Message {
    Broadcast(Kind, Vec<u8>),
    Direct(String, Kind, Vec<u8>),
    Drain,
    /// The instance of the bus behind a name.
    Found(Found),
}

/// The addresses of an instance whose name was looked up for a connection, or the reason why there are none.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) key: NodeKey,
    pub(crate) redis: Redis,
    pub(crate) addresses: Result<Vec<SocketAddr>, String>,
}

/// Sends to the clients of a server from any thread. Clones share one channel.
#[derive(Clone, Debug)]
pub struct Remote {
    sender: SyncSender<Message>,
    waker: Arc<Waker>,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteError {
    /// Too many messages wait: try again later.
    Full,
    /// The server is gone.
    Gone,
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "too many messages wait for the server",
            Self::Gone => "the server is gone",
        })
    }
}

impl std::error::Error for RemoteError {}

impl Remote {
    pub(crate) fn new(waker: Waker) -> (Self, Receiver<Message>) {
        let (sender, receiver) = sync_channel(MESSAGES_MAX);
        (Self { sender, waker: Arc::new(waker) }, receiver)
    }

    /// Sends a message to all clients of a token.
    ///
    /// # Errors
    /// When the message was not taken; whether a client is there is not known here.
    pub fn send_direct(&self, token: &str, kind: Kind, message: Vec<u8>) -> Result<(), RemoteError> {
        self.send(Message::Direct(token.to_owned(), kind, message))
    }

    /// Sends a message to every client.
    ///
    /// # Errors
    /// When the message was not taken.
    pub fn send_broadcast(&self, kind: Kind, message: Vec<u8>) -> Result<(), RemoteError> {
        self.send(Message::Broadcast(kind, message))
    }

    /// Ends the server as SIGTERM does.
    ///
    /// # Errors
    /// When it is gone already, or too many messages wait.
    pub fn drain(&self) -> Result<(), RemoteError> {
        self.send(Message::Drain)
    }

    /// Reports a look-up.
    pub(crate) fn found(&self, found: Found) -> Result<(), RemoteError> {
        self.send(Message::Found(found))
    }

    fn send(&self, message: Message) -> Result<(), RemoteError> {
        self.sender.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => RemoteError::Full,
            TrySendError::Disconnected(_) => RemoteError::Gone,
        })?;
        // The waker's pipe being full means that it is awake already.
        let _ = self.waker.wake();
        Ok(())
    }
}
