//! The control key: which connections have to show one, and how many wrong ones an address may show.
//!
//! It never says how a key is shown (dispatch knows frames and HTTP) and never logs one. Invariant: in a second at most
//! [`FAILURES_MAX`] wrong keys of an address are compared with the right ones; beyond that no key of it is, right or wrong.

use super::Hub;
use crate::auth;
use crate::key::BackendKey;
use crate::peer::backend::ControlKey;
use core::net::{IpAddr, Ipv6Addr};
use log::info;
use std::collections::HashMap;
use std::hash::RandomState;

/// Wrong keys of an address that are compared in a second.
const FAILURES_MAX: u8 = 3;
/// Addresses that are counted in a second. Beyond, those that are not counted yet wait for the next.
const ADDRESSES_MAX: usize = 4096;

/// What came of a key that was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// It is one of ours.
    Right,
    /// It is not.
    Wrong,
    /// It was not looked at: too many of this address were wrong.
    TooMany,
}

/// Wrong keys of this second by address; of IPv6, by the network of 64 bits that one customer has.
#[derive(Debug)]
pub(super) struct Failures {
    second: u64,
    counts: HashMap<IpAddr, u8, RandomState>,
}

impl Failures {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self { second: 0, counts: HashMap::with_hasher(hasher) }
    }

    /// Whether a key of this address may be compared now.
    fn may_try(&mut self, address: IpAddr, now_ms: u64) -> bool {
        let second = now_ms / 1000;
        if self.second != second {
            self.second = second;
            self.counts.clear();
            self.counts.shrink_to(16);
        }
        match self.counts.get(&network(address)) {
            Some(count) => *count < FAILURES_MAX,
            None => self.counts.len() < ADDRESSES_MAX,
        }
    }

    fn note(&mut self, address: IpAddr) {
        *self.counts.entry(network(address)).or_default() += 1;
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

impl Hub {
    /// Whether what this connection asks for needs a key.
    #[inline]
    pub(crate) fn asks_for_key(&self, key: BackendKey) -> bool {
        !self.rules.control_keys.is_empty() && self.backends[key].address.is_some()
    }

    /// Judges a key that a backend shows; of one that needs none, any is right.
    pub(crate) fn judge_key(&mut self, key: BackendKey, given: &[u8]) -> Judged {
        let Some(address) = self.backends[key].address.filter(|_| self.asks_for_key(key)) else {
            return Judged::Right;
        };
        let proven = self.backends[key].control_key == ControlKey::Shown;
        // A connection that has shown it is no guesser: others behind its address do not disturb it.
        let judged = if !proven && !self.failures.may_try(address, self.now.ms) {
            Judged::TooMany
        } else if auth::is_one_of(&self.rules.control_keys, given) {
            Judged::Right
        } else {
            self.failures.note(address);
            Judged::Wrong
        };
        match judged {
            Judged::Right if proven => {}
            Judged::Right => self.backends.keyed(key),
            Judged::Wrong => self.note_keyless(key, "wrong"),
            Judged::TooMany => self.note_keyless(key, "too_many"),
        }
        judged
    }

    /// A connection has shown no key, or none that counts.
    pub(crate) fn note_keyless(&mut self, key: BackendKey, why: &'static str) {
        self.stats.keys_refused += 1;
        if let Some(address) = self.backends[key].address {
            info!("control_key_refused reason={why} peer={address}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_a_second_are_looked_at() {
        let mut failures = Failures::new(RandomState::new());
        let one: IpAddr = "192.0.2.1".parse().unwrap();
        let mut looked_at = 0;
        for ms in 0..10_000 {
            if failures.may_try(one, ms) {
                failures.note(one);
                looked_at += 1;
            }
        }
        assert_eq!(looked_at, 30);
        assert!(failures.may_try("192.0.2.2".parse().unwrap(), 9_999), "another address");
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let mut failures = Failures::new(RandomState::new());
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(failures.may_try(address("2001:db8::1"), 0));
        (0..3).for_each(|_| failures.note(address("2001:db8::1")));
        assert!(!failures.may_try(address("2001:db8::ffff:1"), 1));
        assert!(failures.may_try(address("2001:db8:0:1::1"), 2));
        assert!(failures.may_try(address("2001:db8::1"), 1000), "the next second");
    }

    #[test]
    fn the_addresses_of_a_second_are_bounded() {
        let mut failures = Failures::new(RandomState::new());
        for number in 0..100_000_u32 {
            let address = IpAddr::from(number.to_be_bytes());
            if failures.may_try(address, 5) {
                failures.note(address);
            }
        }
        assert_eq!(failures.counts.len(), ADDRESSES_MAX);
    }
}
