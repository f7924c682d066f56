//! The bus's connections on real sockets: looked up, opened, and handed to the driver.
//!
//! The one thing that may block, looking a name up, is done in a thread of its own, which reports through the channel of
//! the remotes and ends. The bus itself is a part of the hub. Invariant: a socket that is opened is in the driver's table,
//! or dropped.

use super::Server;
use crate::clock::Now;
use crate::config::Redis;
use crate::driver::{Nodes, Peer, Token};
use crate::handler::Handler;
use crate::hub::{After, Hub};
use crate::key::NodeKey;
use crate::net::{Transport, mio_token};
use crate::remote::{Found, Remote};
use crate::{dispatch, sys};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// The bus, as the driver sees it: all its state is in the hub.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bus;

impl Nodes for Bus {
    fn receive(&mut self, hub: &mut Hub, key: NodeKey, input: &[u8]) {
        dispatch::bus::receive(hub, key, input);
    }

    fn end(&mut self, hub: &mut Hub, key: NodeKey) {
        hub.link_failed(key, "it has closed the connection".into());
    }

    fn lose(&mut self, hub: &mut Hub, key: NodeKey, error: Option<&io::Error>) {
        let reason = error.map_or_else(|| "the connection is over".into(), sys::describe);
        hub.link_failed(key, reason);
    }

    fn chunk<'a>(&'a self, hub: &'a Hub, key: NodeKey) -> &'a [u8] {
        hub.link(key).map_or(&[], |link| link.chunk())
    }

    fn sent(&mut self, hub: &mut Hub, key: NodeKey, bytes: usize) {
        let now_ms = hub.now().ms;
        if let Some(link) = hub.link_mut(key) {
            link.sent(bytes, now_ms);
        }
    }

    fn after_flush(&mut self, _: &mut Hub, _: NodeKey) -> After {
        After::Idle
    }

    fn is_full(&self, _: &Hub, _: NodeKey) -> bool {
        false // its answers are what makes room
    }

    fn queue(&mut self, hub: &mut Hub, key: NodeKey) {
        hub.queue_link(key);
    }

    fn next_flush(&mut self, hub: &mut Hub) -> Option<NodeKey> {
        hub.next_link_flush()
    }

    #[inline]
    fn has_flush(&self, hub: &Hub) -> bool {
        hub.has_link_flush()
    }

    fn next_gone(&mut self, hub: &mut Hub) -> Option<NodeKey> {
        hub.next_link_gone()
    }

    fn expire(&mut self, hub: &mut Hub, _: Now) {
        hub.expire_bus();
    }

    #[inline]
    fn next_deadline_ms(&self, hub: &Hub) -> u64 {
        hub.next_bus_ms()
    }

    fn keys(&self, hub: &Hub) -> Vec<NodeKey> {
        hub.link_keys()
    }
}

impl<H: Handler> Server<H> {
    /// Opens the bus's connections that are due.
    pub(super) fn open_links(&mut self) {
        while let Some((key, redis)) = self.driver.hub.next_link() {
            match redis.host.parse::<IpAddr>() {
                Ok(ip) => self.open_link(key, &redis, &[SocketAddr::new(ip, redis.port)]),
                Err(_) => {
                    if let Err(error) = look_up(self.remote.clone(), key, redis) {
                        let reason = format!("no thread can be started: {}", sys::describe(&error));
                        self.driver.hub.link_failed(key, reason);
                    }
                }
            }
        }
    }

    /// The look-up for a connection has ended.
    pub(super) fn found(&mut self, found: Found) {
        let Found { key, redis, addresses } = found;
        match addresses {
            Ok(addresses) => self.open_link(key, &redis, &addresses),
            Err(reason) => self.driver.hub.link_failed(key, reason),
        }
    }

    fn open_link(&mut self, key: NodeKey, redis: &Redis, addresses: &[SocketAddr]) {
        // The next attempt takes the next address.
        self.attempts = self.attempts.wrapping_add(1);
        let Some(address) = addresses.get(self.attempts % addresses.len().max(1)) else {
            return self.driver.hub.link_failed(key, format!("{} has no address", redis.host));
        };
        let token = mio_token(Token::Peer(Peer::Node(key)));
        match Transport::connect(
            *address,
            redis.tls.then_some(redis.host.as_str()),
            self.poll.registry(),
            token,
        ) {
            Ok(transport) => {
                if self.driver.hub.link_has_socket(key) {
                    self.driver.connect(key, transport);
                }
            }
            Err(reason) => self.driver.hub.link_failed(key, reason),
        }
    }
}

fn look_up(remote: Remote, key: NodeKey, redis: Redis) -> io::Result<()> {
    let look = move || {
        let addresses = (redis.host.as_str(), redis.port).to_socket_addrs();
        let addresses = addresses
            .map(Iterator::collect)
            .map_err(|error| format!("{} cannot be looked up: {}", redis.host, sys::describe(&error)));
        // Where there is no room the connection's own deadline tries again.
        let _ = remote.found(Found { key, redis, addresses });
    };
    std::thread::Builder::new().name("look-up".into()).spawn(look).map(drop)
}
