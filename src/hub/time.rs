//! Deadlines that have come, and the drain before the end.
//!
//! It never reads a clock: `Hub::now` is the time of the turn. Invariant: every peer that is not gone is
//! armed in its wheel, no later than its nearest deadline.

use super::Hub;
use crate::clock::{ALARM, Tick};
use crate::delivery::spool::Lane;
use crate::peer::client::{ClientId, Due, State};
use crate::wire::frame::{CloseCode, Opcode, encode};
use crate::wire::http::Reject;
use log::info;

impl Hub {
    /// Handles at most `budget` deadlines; true when more may be due.
    #[inline]
    pub(crate) fn expire(&mut self, budget: usize) -> bool {
        self.now.ms >= self.next_deadline_ms() && self.expire_some(budget)
    }

    #[inline(never)]
    fn expire_some(&mut self, budget: usize) -> bool {
        for _ in 0..budget {
            let Some(key) = self.timers.pop(self.now.ms) else { return self.expire_backends(budget) };
            self.client_due(key);
        }
        true
    }

    /// When to come back for the next deadline, in milliseconds of [`Hub::now`]; `u64::MAX` for never.
    #[inline]
    pub(crate) fn next_deadline_ms(&self) -> u64 {
        self.timers.next_ms().min(self.backends.next_ms())
    }

    fn client_due(&mut self, key: u32) {
        if key == ALARM {
            return self.tidy.is_due = true;
        }
        let client = &self.clients[key as usize];
        match client.next_due(&self.settings.timeouts) {
            Some((deadline_ms, due)) if deadline_ms <= self.now.ms => self.client_is_due(self.id(key), due),
            _ => self.rearm(key),
        }
    }

    fn client_is_due(&mut self, id: ClientId, due: Due) {
        match due {
            Due::Handshake => self.refuse(id, Reject::Timeout),
            Due::Ping => {
                self.clients[id.key as usize].pinged = true;
                self.queue_control(id.key, Opcode::Ping, b"");
                self.rearm(id.key);
            }
            Due::Expired => self.close(id, CloseCode::NORMAL, "expired"),
            Due::Dead | Due::Stalled | Due::CloseLate => {
                info!("dropped reason={} peer={}", due.reason(), self.peer(id.key));
                self.client_lost(id);
            }
        }
    }

    /// Sets every deadline anew: other timeouts are in force.
    pub(super) fn rearm_all(&mut self) {
        for key in self.clients.iter().map(|(key, _)| key as u32).collect::<Vec<_>>() {
            self.rearm(key);
        }
        self.backends.set_timeouts(&self.settings.timeouts);
    }

    // The end.

    /// Begins to shut down: every client is told 1001, handshakes are refused, backends' replies go out.
    /// What was queued before is sent before. Calling it again changes nothing.
    pub(crate) fn drain(&mut self) {
        if std::mem::replace(&mut self.draining, true) {
            return;
        }
        self.settle();
        self.lift_locks();
        self.drain_clients();
        self.finish_backends();
    }

    /// One close frame for all of them.
    fn drain_clients(&mut self) {
        let mut frame = Vec::new();
        encode::append_close(&mut frame, Some(CloseCode::GOING_AWAY), "going away");
        let range = self.spool.append_bytes(Lane::Shared, &frame);
        self.spool.hold(range.segment, 1);
        let keys: Vec<u32> = self.clients.iter().map(|(key, _)| key as u32).collect();
        for key in keys {
            match self.clients[key as usize].state {
                State::Handshaking { .. } => self.refuse(self.id(key), Reject::Draining),
                State::Open { .. } => {
                    self.leave_open(key, CloseCode::GOING_AWAY.0);
                    self.push_past_lock(key, range);
                    self.begin_closing(key);
                }
                _ => {}
            }
        }
        self.spool.release(range.segment);
    }

    /// Whether every connection is over.
    pub(crate) fn is_drained(&self) -> bool {
        self.draining && self.clients.is_empty() && self.backends.is_empty()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining
    }

    /// Ends whatever is left, at the end of the drain time.
    pub(crate) fn end_all(&mut self) {
        for key in self.clients.iter().map(|(key, _)| key as u32).collect::<Vec<_>>() {
            self.client_lost(self.id(key));
        }
        self.end_backends();
    }

    /// The moment a state that only waits for its peer gives up.
    pub(super) fn close_deadline(&self) -> Tick {
        Tick::at(self.now.ms + self.settings.timeouts.close_ms)
    }
}
