//! Connections that wsson opens itself, as the turn sees them.
//!
//! A protocol that is spoken over them (that of a bus) is a [`Nodes`], as pure as the hub: bytes in, bytes queued, time
//! passed in; its state may be a part of the hub. It never touches a socket; the driver opens, reads, flushes and reaps its connections as those of clients
//! and backends.

use crate::clock::Now;
use crate::hub::{After, Hub};
use crate::key::NodeKey;
use std::io;

/// A protocol over connections of our own. A key is its own choice; it may use one again once that was given out by
/// [`next_gone`](Self::next_gone).
pub trait Nodes {
    /// Bytes came.
    fn receive(&mut self, hub: &mut Hub, key: NodeKey, input: &[u8]);

    /// The node's side is shut down.
    fn end(&mut self, hub: &mut Hub, key: NodeKey);

    /// The connection could not be opened, or is broken; or all is out of one that was to [`End`](After::End).
    fn lose(&mut self, hub: &mut Hub, key: NodeKey, error: Option<&io::Error>);

    /// The bytes that wait to be sent.
    fn chunk<'a>(&'a self, hub: &'a Hub, key: NodeKey) -> &'a [u8];

    /// The kernel took the first bytes of them.
    fn sent(&mut self, hub: &mut Hub, key: NodeKey, bytes: usize);

    /// The next step when no more can be written now.
    fn after_flush(&mut self, hub: &mut Hub, key: NodeKey) -> After;

    /// Whether it is not to be read now, because too much waits for it.
    fn is_full(&self, hub: &Hub, key: NodeKey) -> bool;

    /// It can be written to, for the first time or again.
    fn queue(&mut self, hub: &mut Hub, key: NodeKey);

    /// The next connection that may have something to flush; it is not in the queue any more.
    fn next_flush(&mut self, hub: &mut Hub) -> Option<NodeKey>;

    /// Whether that queue holds one.
    fn has_flush(&self, hub: &Hub) -> bool;

    /// The next connection to be reaped.
    fn next_gone(&mut self, hub: &mut Hub) -> Option<NodeKey>;

    /// Deadlines that have come.
    fn expire(&mut self, hub: &mut Hub, now: Now);

    /// No deadline is before this moment; `u64::MAX` for never.
    fn next_deadline_ms(&self, hub: &Hub) -> u64;

    /// The keys of the connections that are not gone, in order: for the audit.
    fn keys(&self, hub: &Hub) -> Vec<NodeKey>;
}

/// No connections of our own.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNodes;

const NONE: &str = "there is no node";

impl Nodes for NoNodes {
    fn receive(&mut self, _: &mut Hub, _: NodeKey, _: &[u8]) {
        unreachable!("{NONE}");
    }

    fn end(&mut self, _: &mut Hub, _: NodeKey) {
        unreachable!("{NONE}");
    }

    fn lose(&mut self, _: &mut Hub, _: NodeKey, _: Option<&io::Error>) {
        unreachable!("{NONE}");
    }

    fn chunk<'a>(&'a self, _: &'a Hub, _: NodeKey) -> &'a [u8] {
        unreachable!("{NONE}");
    }

    fn sent(&mut self, _: &mut Hub, _: NodeKey, _: usize) {
        unreachable!("{NONE}");
    }

    fn after_flush(&mut self, _: &mut Hub, _: NodeKey) -> After {
        unreachable!("{NONE}");
    }

    fn is_full(&self, _: &Hub, _: NodeKey) -> bool {
        unreachable!("{NONE}");
    }

    fn queue(&mut self, _: &mut Hub, _: NodeKey) {
        unreachable!("{NONE}");
    }

    #[inline]
    fn next_flush(&mut self, _: &mut Hub) -> Option<NodeKey> {
        None
    }

    #[inline]
    fn has_flush(&self, _: &Hub) -> bool {
        false
    }

    #[inline]
    fn next_gone(&mut self, _: &mut Hub) -> Option<NodeKey> {
        None
    }

    #[inline]
    fn expire(&mut self, _: &mut Hub, _: Now) {}

    #[inline]
    fn next_deadline_ms(&self, _: &Hub) -> u64 {
        u64::MAX
    }

    fn keys(&self, _: &Hub) -> Vec<NodeKey> {
        Vec::new()
    }
}
