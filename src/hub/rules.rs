//! The part of the settings that the hub lives by.
//!
//! It never reads a file or judges a value: the settings were judged when they were read.

use crate::auth::{self, Secret};
use crate::config::{Limits, Settings, Timeouts};
use crate::roster::Bounds;
use crate::wire::http::forwarded::Network;

/// See the module's head; a reload replaces it.
#[derive(Clone, Debug)]
pub(crate) struct HubRules {
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
    pub(crate) origins: Vec<String>,
    /// Prefixes of the groups that a page may join without a ticket.
    pub(crate) groups_public: Vec<String>,
    /// The path under which load balancers ask; empty for none.
    pub(crate) health: String,
    pub(crate) auth: auth::Rules,
    /// Names by which HTTP may reach the control socket over TCP.
    pub(crate) control_hosts: Vec<String>,
    /// The keys of which connections over TCP and TLS must show one; none is asked for when there are none.
    pub(crate) control_keys: Vec<Secret>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub(crate) trusted_proxies: Vec<Network>,
}

impl HubRules {
    /// The bounds of groups.
    pub(super) fn bounds(&self) -> Bounds {
        Bounds { groups: self.limits.groups, groups_per_connection: self.limits.groups_per_connection }
    }
}

impl From<&Settings> for HubRules {
    fn from(settings: &Settings) -> Self {
        Self {
            limits: settings.limits.clone(),
            timeouts: settings.timeouts.clone(),
            origins: settings.origins.clone(),
            groups_public: settings.groups_public.clone(),
            health: settings.health.clone(),
            auth: settings.auth.clone(),
            control_hosts: settings.control_hosts.clone(),
            control_keys: settings.control_keys.clone(),
            trusted_proxies: settings
                .trusted_proxies
                .iter()
                .filter_map(|text| Network::parse(text))
                .collect(),
        }
    }
}
