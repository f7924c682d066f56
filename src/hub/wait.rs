//! Backends that send faster than a client takes it.
//!
//! A client whose socket took all that it was last offered is not slow, and one that takes bytes will have room: the
//! command waits, unread, and the backend with it. It never keeps a command that was executed. Invariant: only a client
//! that has taken something within [`TAKES_MS`] is waited for, so that a wait ends.

use super::Hub;
use super::settled::URGENT_RECEIVERS_MAX;
use crate::clock::Now;
use crate::key::{BackendKey, ClientKey};
use crate::peer::client::{Client, ClientId};
use crate::roster::items;
use crate::wire::command::Command;

/// A client that has taken nothing for this long takes nothing: it is closed as too slow.
const TAKES_MS: u64 = 1000;
/// How long a backend waits for the receivers of its direct messages, in all: one slow phone must not hold it up.
const PATIENCE_MS: u64 = 1000;
/// Bytes of a frame's header at most.
const HEADER_BYTES_MAX: usize = 10;

/// When a command is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wait {
    /// Now.
    No,
    /// When its receivers were flushed.
    Flush,
    /// When its receivers have taken some of the bytes that wait for them.
    Reader,
}

/// How long a backend may still wait. It comes back with the bytes that clients take: one that takes `limits.outbox` in
/// a second is not slow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    left_ms: u64,
    since_ms: Option<u64>,
}

impl Default for Patience {
    fn default() -> Self {
        Self { left_ms: PATIENCE_MS, since_ms: None }
    }
}

impl Patience {
    /// Whether it waits on.
    fn wait(&mut self, now: Now) -> bool {
        now.ms - *self.since_ms.get_or_insert(now.ms) < self.left_ms
    }

    /// It waits no more: `bytes` went out, and each `bytes_max` of them give a second back.
    fn go_on(&mut self, now: Now, bytes: usize, bytes_max: u32) {
        let waited_ms = self.since_ms.take().map_or(0, |since_ms| now.ms - since_ms);
        let earned_ms = bytes as u64 * 1000 / u64::from(bytes_max.max(1));
        self.left_ms = (self.left_ms.saturating_sub(waited_ms) + earned_ms).min(PATIENCE_MS);
    }
}

impl Hub {
    /// Whether the next command of a backend, which has this many bytes, waits for its receivers.
    #[inline(always)]
    pub(crate) fn wait_for(&mut self, key: BackendKey, command: &Command<'_>, len: usize) -> Wait {
        if self.has_bus() && self.bus_is_behind() {
            self.backends.let_wait(key, self.now);
            return Wait::Reader;
        }
        // No client can have more bytes to come than all of them together, and no message is longer than its command.
        if self.floor.queued_bytes() + len + HEADER_BYTES_MAX <= self.rules.limits.outbox_bytes as usize {
            return Wait::No;
        }
        self.wait_for_room(key, *command)
    }

    #[inline(never)]
    fn wait_for_room(&mut self, key: BackendKey, command: Command<'_>) -> Wait {
        let bytes = match command {
            Command::Direct(_, _, message) | Command::Confirmed(_, _, message) => message.len(),
            Command::Write(_, _, message)
            | Command::WriteAnswered(_, _, message)
            | Command::WriteProved(_, _, _, message) => message.len(),
            Command::Fragment(_, _, data) => data.len(),
            _ => return Wait::No,
        };
        let bytes = bytes + HEADER_BYTES_MAX;
        if self.floor.queued_bytes() + bytes <= self.rules.limits.outbox_bytes as usize {
            return Wait::No;
        }
        let _ = self.settled(); // pending broadcasts wait for them too
        // Behind a lock they wait for a fragment, which may be this backend's.
        let takes = |(_, client): &(ClientKey, &Client)| !client.mail.is_locked();
        let wait = match command {
            Command::Direct(_, token, _) | Command::Confirmed(_, token, _) => {
                let clients = self
                    .roster()
                    .of_token(token)
                    .filter_map(|id| self.roster().find(id).map(|c| (id.key, c)));
                clients.filter(takes).map(|(key, client)| self.room(key, client, bytes)).max()
            }
            Command::Write(_, to, _)
            | Command::WriteAnswered(_, to, _)
            | Command::WriteProved(_, _, to, _) => {
                let (keys, _) = self.floor.select(items(&to));
                // More of them are throttled as broadcasts are.
                let few = if keys.len() > URGENT_RECEIVERS_MAX { &[][..] } else { &keys[..] };
                let clients = few
                    .iter()
                    .filter_map(|key| self.roster().get(*key).map(|client| (*key, client)))
                    .filter(takes);
                let wait = clients.map(|(key, client)| self.room(key, client, bytes)).max();
                self.floor.give_back(keys);
                wait
            }
            _ => {
                let lock = self.backends[key].lock.as_ref();
                let ids = lock.iter().flat_map(|lock| lock.clients.iter());
                let clients =
                    ids.filter_map(|id: &ClientId| self.roster().find(*id).map(|client| (id.key, client)));
                clients.map(|(key, client)| self.room(key, client, bytes)).max()
            }
        };
        let wait = wait.unwrap_or(Wait::No);
        let patience = self.backends.patience(key);
        if wait == Wait::Reader && (matches!(command, Command::Fragment(..)) || patience.wait(self.now)) {
            self.backends.let_wait(key, self.now);
            return Wait::Reader;
        }
        if wait != Wait::Flush {
            patience.go_on(self.now, bytes, self.rules.limits.outbox_bytes);
            return Wait::No;
        }
        wait
    }

    /// Whether clients that broadcast wait for others, which take bytes and have no room for this many more: a second at
    /// most in all, as backends do.
    #[inline]
    pub(crate) fn waits_for_readers(&mut self, bytes: usize) -> bool {
        let outbox_bytes_max = self.rules.limits.outbox_bytes;
        // No client can have more to come than all of them.
        if self.floor.queued_bytes() + bytes <= outbox_bytes_max as usize {
            return false;
        }
        let takes = |client: &Client| {
            client.mail.stalled().is_some_and(|since| self.now.ms < since.ms() + TAKES_MS)
                && !client.mail.is_locked()
        };
        if self.floor.without_room(bytes).any(takes) && self.patience.wait(self.now) {
            return true;
        }
        self.patience.go_on(self.now, bytes, outbox_bytes_max);
        false
    }

    fn room(&self, key: ClientKey, client: &Client, bytes: usize) -> Wait {
        let waiting = client.mail.waiting_bytes() as usize;
        // Messages that a lock holds back go nowhere before the lock is off.
        let goes = !client.mail.outbox().is_empty();
        let limits = &self.rules.limits;
        // The one that would be closed to make room for its own message.
        let is_last = || {
            self.floor.queued_bytes() + bytes > limits.queued_bytes
                && self.floor.furthest_behind() == Some(key)
        };
        let has_room = waiting + bytes <= limits.outbox_bytes as usize && !is_last();
        // Nor is there a flush for a tab that is away.
        if !client.is_connected() || !goes || has_room {
            return Wait::No;
        }
        match client.mail.stalled() {
            None => Wait::Flush,
            Some(since) if self.now.ms < since.ms() + TAKES_MS => Wait::Reader,
            Some(_) => Wait::No,
        }
    }
}
