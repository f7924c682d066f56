//! One row for each thing that is counted or measured: the status report, its names, and the meaning of each.
//!
//! A row names a member of the status, its kind, the metric it is for a monitoring system, and its help. A row of a
//! counter makes the field of [`Stats`] that is added to where the thing happens; a row of a gauge makes the field of
//! [`Report`] that the code which measures it fills in. The status as JSON, the table of COMMANDS.md and the metrics
//! come from the rows.
//!
//! Plain integers, never sampled. It never measures anything itself: the figures that only the process has come in as
//! [`Process`]. Invariant: accepted clients = open + unauthenticated + closed + refused + health (a client on its way
//! out is counted in one of the last two already), and a test adds it up.
//!
//! | file | holds |
//! |---|---|
//! | `mod` | the rows, and the status as JSON |
//! | `metrics` | the rows as Prometheus reads them |
//! | `histogram` | times by their size |

mod histogram;
mod metrics;

pub use histogram::Histogram;
pub use metrics::CONTENT_TYPE;

use crate::rule::Rule;
use serde_core::ser::{Serialize, SerializeMap, Serializer};
use std::borrow::Cow;

/// Close codes that are counted by themselves; every other one is counted as `other`.
pub const CODES: [u16; 15] =
    [1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 4001, 4002];

/// The kinds of events that workers are told, in their order.
pub const EVENTS: [&str; 5] = ["message", "open", "close", "online", "offline"];

/// The kind of a member of the status.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// It only grows, while the server runs.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How long something took, each time.
    Times,
    /// It is not a number.
    Fact,
}

/// A row.
#[derive(Debug)]
pub struct Row {
    /// Its name in the status; empty when it is a metric only.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its name for a monitoring system, as Prometheus asks for it; empty when it is none.
    pub metric: &'static str,
    /// The label of a metric that is counted by names; empty when it is one number.
    pub label: &'static str,
    /// Its meaning, in one line.
    pub help: &'static str,
    value: for<'r> fn(&'r Report<'r>) -> Value<'r>,
}

impl Row {
    /// Its value in a report.
    pub fn value<'r>(&self, report: &'r Report<'r>) -> Value<'r> {
        (self.value)(report)
    }
}

/// The value of a row in a report.
#[derive(Clone, Debug)]
pub enum Value<'r> {
    /// One number.
    Number(u64),
    /// A time in milliseconds, which metrics give in seconds.
    Millis(u64),
    /// Numbers by name: rules, close codes.
    Tally(Vec<(Cow<'r, str>, u64)>),
    /// How long something took.
    Times(&'r Histogram),
    /// A word.
    Text(&'r str),
    /// The listeners, each with numbers of its own.
    Listeners(&'r [ListenerReport]),
    /// The groups with most members, each with their number.
    Groups(&'r [(&'r str, usize)]),
    /// The outcome of the last reload.
    Reload(&'r Reload),
    /// The other nodes, and the way to them.
    Cluster(&'r ClusterReport),
    /// Nothing is known, and the status leaves it out.
    Absent,
}

/// Sorts rows into the fields that counters are, the fields that gauges are, and the table, in one pass over the list.
macro_rules! rows {
    (@ [$($counters:tt)*] [$($gauges:tt)*] [$($rows:tt)*]) => {
        /// The counts since the server began.
        #[derive(Clone, Debug, Default)]
        pub struct Stats {
            $($counters)*
            /// Handshakes refused, by the rule they broke.
            refused: PerRule,
            closed: [u64; CODES.len() + 1],
            /// Events told to workers, by kind.
            events: [u64; EVENTS.len()],
        }

        /// Everything that `t` and `status --json` show.
        #[derive(Clone, Debug, Default)]
        pub struct Report<'s> {
            $($gauges)*
            /// The counters.
            pub stats: Option<&'s Stats>,
            /// The process.
            pub process: Process,
            /// Each listener.
            pub listeners: &'s [ListenerReport],
            /// The largest groups and how many connections each has, the largest first.
            pub largest_groups: Vec<(&'s str, usize)>,
            /// The last reload.
            pub reload: Option<&'s Reload>,
            /// The facts from around the hub.
            pub outside: Outside,
            /// Other nodes; none without `[bus]`.
            pub cluster: Option<ClusterReport>,
        }

        /// Every member of the status, in its order.
        pub static ROWS: &[Row] = &[$($rows)*];
    };
    (@ [$($counters:tt)*] $gauges:tt [$($rows:tt)*] counter $name:ident $metric:literal $help:literal; $($rest:tt)*) => {
        rows! { @ [$($counters)* #[doc = $help] pub $name: u64,] $gauges [$($rows)* Row {
            name: stringify!($name), kind: Kind::Counter, metric: $metric, label: "", help: $help,
            value: |report| Value::Number(report.stats.map_or(0, |stats| stats.$name)),
        },] $($rest)* }
    };
    (@ $counters:tt [$($gauges:tt)*] [$($rows:tt)*] gauge $name:ident $metric:literal $help:literal; $($rest:tt)*) => {
        rows! { @ $counters [$($gauges)* #[doc = $help] pub $name: u64,] [$($rows)* Row {
            name: stringify!($name), kind: Kind::Gauge, metric: $metric, label: "", help: $help,
            value: |report| Value::Number(report.$name),
        },] $($rest)* }
    };
    (@ [$($counters:tt)*] $gauges:tt [$($rows:tt)*] times $name:ident $metric:literal $help:literal; $($rest:tt)*) => {
        rows! { @ [$($counters)* #[doc = $help] pub $name: Histogram,] $gauges [$($rows)* Row {
            name: stringify!($name), kind: Kind::Times, metric: $metric, label: "", help: $help,
            value: |report| report.stats.map_or(Value::Absent, |stats| Value::Times(&stats.$name)),
        },] $($rest)* }
    };
    (@ $counters:tt $gauges:tt [$($rows:tt)*] metric $kind:ident $metric:literal $help:literal => $value:expr; $($rest:tt)*) => {
        rows! { @ $counters $gauges [$($rows)* Row {
            name: "", kind: Kind::$kind, metric: $metric, label: "", help: $help, value: $value,
        },] $($rest)* }
    };
    (@ $counters:tt $gauges:tt [$($rows:tt)*]
        $kind:ident $name:ident $metric:literal $label:literal $help:literal => $value:expr; $($rest:tt)*) => {
        rows! { @ $counters $gauges [$($rows)* Row {
            name: stringify!($name), kind: Kind::$kind, metric: $metric, label: $label, help: $help, value: $value,
        },] $($rest)* }
    };
    ($($list:tt)*) => { rows! { @ [] [] [] $($list)* } };
}

// `counter`, `gauge` and `times` make their field; the others say where their value is. `metric` is in no status.
rows! {
    Fact version "wsson_build_info" "version" "The version of the running server." =>
        |_| Value::Text(env!("CARGO_PKG_VERSION"));
    Fact pid "" "" "Its process id." => |report| Value::Number(report.process.pid.into());
    gauge uptime_s "wsson_uptime_seconds" "Seconds since the server began.";
    Fact listeners "" "" "A list of `address`, `domain` (or null), `clients` open now, connections `accepted`." =>
        |report| Value::Listeners(report.listeners);
    Counter accepted "wsson_accepted_total" "" "Connections accepted from clients, by all listeners." =>
        |report| Value::Number(report.listeners.iter().map(|listener| listener.accepted).sum());
    gauge clients "wsson_clients" "Clients open now.";
    counter clients_peak "" "Most clients that were open at one time.";
    gauge clients_max "wsson_clients_max" "Most clients that may be open.";
    gauge unauthenticated "wsson_unauthenticated" "Connections whose handshake is not done.";
    gauge unauthenticated_max "wsson_unauthenticated_max" "Most of them that may be.";
    gauge away "wsson_away" "Tabs whose connection ended and that are waited for.";
    gauge away_max "wsson_away_max" "Most of them that may be.";
    gauge closing "wsson_closing" "Connections on their way out.";
    gauge users "wsson_users" "Users with an open connection; 0 where logins name none.";
    gauge groups "wsson_groups" "Groups with a member.";
    gauge groups_max "wsson_groups_max" "Most groups that may be.";
    Fact largest_groups "" "" "The ten groups with most connections, the largest first: a list of `name`, `connections`." =>
        |report| Value::Groups(&report.largest_groups);
    gauge backends "wsson_backends" "Backends connected to the control socket.";
    gauge workers "wsson_workers" "Backends that are told events.";
    gauge pools "wsson_pools" "Pools of workers, those without a worker included.";
    gauge speakers_waiting "wsson_speakers_waiting" "Clients that are not read, since the worker for them takes no more or is not there.";
    gauge backends_max "wsson_backends_max" "Most backends that may be connected.";
    gauge locks "wsson_locks" "Backends that hold a lock.";
    counter messages_in "wsson_messages_in_total" "Messages that clients sent.";
    counter messages_out "wsson_messages_out_total" "Messages queued for clients, one for each of them.";
    counter resumed "wsson_resumed_total" "Tabs that came back, and missed nothing.";
    counter arrived "wsson_arrived_total" "Messages that a browser has proved to have, of those of which that was asked.";
    Counter events "wsson_events_total" "kind" "Events told to workers, by kind; one for each pool that wants it." =>
        |report| Value::Tally(report.stats.map_or(Vec::new(), Stats::events_by_kind));
    counter broadcasts "wsson_broadcasts_total" "Broadcasts taken over from backends and handlers.";
    counter directs "wsson_directs_total" "Direct messages taken over, whether or not a client was there.";
    counter bytes_in "wsson_bytes_in_total" "Bytes read from clients.";
    counter bytes_out "wsson_bytes_out_total" "Bytes written to clients.";
    gauge queued_bytes "wsson_queued_bytes" "Bytes that wait for clients.";
    gauge queued_bytes_max "wsson_queued_bytes_max" "Most bytes that may wait.";
    counter keys_refused "wsson_keys_refused_total" "Control connections and requests that showed a wrong control key, or none.";
    counter http_requests "wsson_http_requests_total" "HTTP requests of backends that were answered.";
    times arrival "wsson_arrival_seconds" "Until a browser has proved to have a message, of those of which that was asked. In the status as `turns`.";
    times turns "wsson_turn_seconds" "Turns of the loop, from one wait to the next: how long all others wait at most. In the status: `count`, `sum_us`, the bound `p99_us` that 99 of 100 keep, the longest `most_us`.";
    gauge revoked "wsson_revoked" "Revocations of logins that have not expired by themselves yet.";
    Fact reload "" ""
        "Reloads so far: `count`, and of the last one `error` (or null), what was `applied`, what waits for a `restart`, what is `kept` as it cannot be read again." =>
        |report| report.reload.map_or(Value::Absent, Value::Reload);
    metric Counter "wsson_reloads_total" "Reloads of the configuration, those that failed too." =>
        |report| Value::Number(report.reload.map_or(0, |reload| reload.count));
    metric Gauge "wsson_reload_successful" "Whether the configuration holds that was read last: 1, or 0 after a reload that failed." =>
        |report| Value::Number(report.reload.is_none_or(|reload| reload.error.is_none()).into());
    Counter refused "wsson_refused_total" "rule" "Handshakes refused, by the name of the rule; the names are those in the log." =>
        |report| Value::Tally(report.stats.map_or(Vec::new(), Stats::refused_by_name));
    Counter closed "wsson_closed_total" "code" "Open connections that ended, by close code; `1006`: without a close frame." =>
        |report| Value::Tally(report.stats.map_or(Vec::new(), Stats::closed_by_code));
    counter health "wsson_health_requests_total" "Requests of load balancers for `health`.";
    counter subprotocols "wsson_subprotocols_total" "Handshakes that asked for a subprotocol: there is none, and such a page's browser drops the connection.";
    counter overflows "wsson_overflows_total" "Clients closed with 1013, since they did not read what waited for them.";
    counter errors "wsson_errors_total" "Protocol errors of backends, and system calls that failed.";
    Fact cluster "" ""
        "With `[bus]`: this `node`, whether it is `degraded`, the `instances` with their `state` and `reason`, the other `nodes` heard of, the `names` it is subscribed to, the `requests` that wait for answers." =>
        |report| report.cluster.as_ref().map_or(Value::Absent, Value::Cluster);
    Gauge bus_away "wsson_bus_instances_away" "" "With `[bus]`: instances that are away." =>
        |report| report.cluster.as_ref().map_or(Value::Absent, |cluster| Value::Number(cluster.away()));
    Counter bus_published "wsson_bus_published_total" "" "With `[bus]`: messages to other nodes, heartbeats and answers included." =>
        |report| of_bus(report, |counts| counts.published);
    Counter bus_received "wsson_bus_received_total" "" "With `[bus]`: messages of other nodes." =>
        |report| of_bus(report, |counts| counts.received);
    Counter bus_ignored "wsson_bus_ignored_total" "" "With `[bus]`: messages that are of another version, malformed, or too late." =>
        |report| of_bus(report, |counts| counts.ignored);
    Counter bus_lost "wsson_bus_lost_total" "" "With `[bus]`: messages that could not be sent, as their instance was away or took nothing." =>
        |report| of_bus(report, |counts| counts.lost);
    Counter bus_incomplete "wsson_bus_incomplete_total" "" "With `[bus]`: answers to backends in which a node is missing." =>
        |report| of_bus(report, |counts| counts.incomplete);
    Counter bus_degraded "wsson_bus_degraded_total" "" "With `[bus]`: connections that were opened although other nodes could not reach them yet." =>
        |report| of_bus(report, |counts| counts.degraded);
    Gauge rss_bytes "process_resident_memory_bytes" "" "Resident memory." => |report| Value::Number(report.process.rss_bytes);
    Gauge virtual_bytes "process_virtual_memory_bytes" "" "Address space." => |report| Value::Number(report.process.virtual_bytes);
    Counter cpu_ms "process_cpu_seconds_total" "" "Processor time so far, user and system; in the status in milliseconds." =>
        |report| Value::Millis(report.process.cpu_ms);
    metric Gauge "process_start_time_seconds" "When the server began, in seconds since 1970." =>
        |report| Value::Number(report.outside.started_unix_s);
    Gauge fds "process_open_fds" "" "Open descriptors." => |report| Value::Number(report.process.fds);
    Gauge fds_max "process_max_fds" "" "Most descriptors that may be open." => |report| Value::Number(report.process.fds_max);
    Counter log_lines_lost "wsson_log_lines_lost_total" "" "Lines of the log that could not be written." =>
        |report| Value::Number((report.outside.log_lines_lost)());
    Gauge certificate_expiry "wsson_certificate_expiry_seconds" ""
        "When the certificate of `tls://` servers ends, in seconds since 1970; left out where there is none." =>
        |report| report.outside.certificate_expiry_unix_s.map_or(Value::Absent, Value::Number);
}

fn of_bus(report: &Report<'_>, count: fn(&BusCounts) -> u64) -> Value<'static> {
    report.cluster.as_ref().map_or(Value::Absent, |cluster| Value::Number(count(&cluster.counts)))
}

/// One counter for each rule, at its place.
#[derive(Clone, Debug)]
struct PerRule([u64; Rule::COUNT]);

impl Default for PerRule {
    fn default() -> Self {
        Self([0; Rule::COUNT])
    }
}

impl Stats {
    /// Counts a refused handshake.
    pub fn refuse(&mut self, rule: Rule) {
        self.refused.0[rule.index()] += 1;
    }

    /// Refused handshakes by rule.
    pub fn refused(&self) -> impl Iterator<Item = (Rule, u64)> {
        Rule::ALL.iter().copied().zip(self.refused.0)
    }

    /// Counts an open connection that ended with this close code.
    pub fn close(&mut self, code: u16) {
        let place = CODES.iter().position(|known| *known == code).unwrap_or(CODES.len());
        self.closed[place] += 1;
    }

    /// Counts an event that a worker was told; `kind` is its place in [`EVENTS`].
    #[inline]
    pub fn tell(&mut self, kind: usize) {
        self.events[kind] += 1;
    }

    fn events_by_kind(&self) -> Vec<(Cow<'_, str>, u64)> {
        let kinds = EVENTS.iter().map(|kind| Cow::Borrowed(*kind));
        kinds.zip(self.events).collect()
    }

    /// All refusals.
    pub fn refused_total(&self) -> u64 {
        self.refused.0.iter().sum()
    }

    /// All open connections that ended.
    pub fn closed_total(&self) -> u64 {
        self.closed.iter().sum()
    }

    fn refused_by_name(&self) -> Vec<(Cow<'_, str>, u64)> {
        self.refused().map(|(rule, count)| (Cow::Borrowed(rule.name()), count)).collect()
    }

    fn closed_by_code(&self) -> Vec<(Cow<'_, str>, u64)> {
        let names = CODES.iter().map(|code| Cow::Owned(code.to_string())).chain([Cow::Borrowed("other")]);
        names.zip(self.closed).collect()
    }
}

/// The figures of the process around the server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Address space.
    pub virtual_bytes: u64,
    /// Processor time so far.
    pub cpu_ms: u64,
    /// Open descriptors.
    pub fds: u64,
    /// Most descriptors it may open.
    pub fds_max: u64,
}

/// Facts of the status from outside of the hub: of the loader of the certificate, of the log.
#[derive(Clone, Copy, Debug)]
pub struct Outside {
    /// When the server began.
    pub started_unix_s: u64,
    /// When the certificate of TLS listeners ends.
    pub certificate_expiry_unix_s: Option<u64>,
    /// Asked at each status.
    pub log_lines_lost: fn() -> u64,
}

impl Default for Outside {
    fn default() -> Self {
        Self { started_unix_s: 0, certificate_expiry_unix_s: None, log_lines_lost: || 0 }
    }
}

/// The outcome of reading the configuration again.
#[derive(Clone, Debug, Default)]
pub struct Reload {
    /// How often it was tried.
    pub count: u64,
    /// Keys that the last try has changed.
    pub applied: Vec<&'static str>,
    /// Keys that wait for a restart.
    pub restart: Vec<&'static str>,
    /// The values that the server keeps as they were, since they cannot be read again, and the reasons.
    pub kept: Vec<String>,
    /// Why the last try has changed nothing.
    pub error: Option<String>,
}

/// What the bus has done.
#[derive(Clone, Copy, Debug, Default)]
pub struct BusCounts {
    /// Messages to other nodes.
    pub published: u64,
    /// Messages of other nodes.
    pub received: u64,
    /// Those of another version, malformed or late.
    pub ignored: u64,
    /// Messages that could not be sent.
    pub lost: u64,
    /// Answers in which a node is missing.
    pub incomplete: u64,
    /// Connections that were opened although they could not be reached yet.
    pub degraded: u64,
}

/// The other nodes, and the way to them.
#[derive(Clone, Debug, Default)]
pub struct ClusterReport {
    /// This node's number.
    pub node: String,
    /// An instance is away.
    pub degraded: bool,
    /// The instances of the broker.
    pub instances: Vec<InstanceReport>,
    /// The other nodes that were heard of.
    pub nodes: Vec<NodeReport>,
    /// Names that this node is subscribed to.
    pub names: u64,
    /// Requests whose answers are awaited.
    pub requests: u64,
    /// The counters.
    pub counts: BusCounts,
}

/// One instance's line.
#[derive(Clone, Debug, Default)]
pub struct InstanceReport {
    /// Where it is.
    pub address: String,
    /// `up` or `away`.
    pub state: &'static str,
    /// Why it is away.
    pub reason: Option<String>,
}

/// Another node's line.
#[derive(Clone, Debug, Default)]
pub struct NodeReport {
    /// Its number.
    pub node: String,
    /// Its open connections.
    pub clients: u64,
    /// Since it was heard of.
    pub age_ms: u64,
    /// Whether it has the same list of instances.
    pub same_instances: bool,
}

/// One listener's line.
#[derive(Clone, Debug, Default)]
pub struct ListenerReport {
    /// Where it listens.
    pub address: String,
    /// The answer to `m` for it, if the site set one.
    pub domain: Option<String>,
    /// Clients open now.
    pub clients: u64,
    /// Connections accepted.
    pub accepted: u64,
}

impl Report<'_> {
    /// One JSON object, its members in the order of the rows.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("numbers, strings, and names that are strings")
    }
}

impl Serialize for Report<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(None)?;
        for row in ROWS.iter().filter(|row| !row.name.is_empty()) {
            match row.value(self) {
                Value::Number(number) | Value::Millis(number) => {
                    members.serialize_entry(row.name, &number)?;
                }
                Value::Tally(counts) => members.serialize_entry(row.name, &Tally(&counts))?,
                Value::Times(times) => members.serialize_entry(row.name, times)?,
                Value::Text(text) => members.serialize_entry(row.name, text)?,
                Value::Listeners(listeners) => members.serialize_entry(row.name, listeners)?,
                Value::Groups(groups) => members.serialize_entry(row.name, &Groups(groups))?,
                Value::Reload(reload) => members.serialize_entry(row.name, reload)?,
                Value::Cluster(cluster) => members.serialize_entry(row.name, cluster)?,
                Value::Absent => {}
            }
        }
        members.end()
    }
}

/// Those that are not zero.
struct Tally<'c>(&'c [(Cow<'c, str>, u64)]);

impl Serialize for Tally<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer
            .collect_map(self.0.iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name, count)))
    }
}

struct Groups<'g>(&'g [(&'g str, usize)]);

impl Serialize for Groups<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer
            .collect_seq(self.0.iter().map(|(name, connections)| Group { name, connections: *connections }))
    }
}

/// One group's line, with the members that a user has in the answer to `h`.
struct Group<'g> {
    name: &'g str,
    connections: usize,
}

impl Serialize for Group<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(Some(2))?;
        members.serialize_entry("name", self.name)?;
        members.serialize_entry("connections", &self.connections)?;
        members.end()
    }
}

impl Serialize for Reload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(Some(5))?;
        members.serialize_entry("count", &self.count)?;
        members.serialize_entry("error", &self.error)?;
        members.serialize_entry("applied", &self.applied)?;
        members.serialize_entry("restart", &self.restart)?;
        members.serialize_entry("kept", &self.kept)?;
        members.end()
    }
}

impl ClusterReport {
    fn away(&self) -> u64 {
        self.instances.iter().filter(|instance| instance.state != "up").count() as u64
    }
}

impl Serialize for ClusterReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(Some(6))?;
        members.serialize_entry("node", &self.node)?;
        members.serialize_entry("degraded", &self.degraded)?;
        members.serialize_entry("instances", &self.instances)?;
        members.serialize_entry("nodes", &self.nodes)?;
        members.serialize_entry("names", &self.names)?;
        members.serialize_entry("requests", &self.requests)?;
        members.end()
    }
}

impl Serialize for InstanceReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(Some(3))?;
        members.serialize_entry("address", &self.address)?;
        members.serialize_entry("state", self.state)?;
        members.serialize_entry("reason", &self.reason)?;
        members.end()
    }
}

impl Serialize for NodeReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(Some(4))?;
        members.serialize_entry("node", &self.node)?;
        members.serialize_entry("clients", &self.clients)?;
        members.serialize_entry("age_ms", &self.age_ms)?;
        members.serialize_entry("same_instances", &self.same_instances)?;
        members.end()
    }
}

impl Serialize for ListenerReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(Some(4))?;
        members.serialize_entry("address", &self.address)?;
        members.serialize_entry("domain", &self.domain)?;
        members.serialize_entry("clients", &self.clients)?;
        members.serialize_entry("accepted", &self.accepted)?;
        members.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_one_object() {
        let mut stats = Stats { messages_in: 7, ..Stats::default() };
        stats.refuse(Rule::OriginNotAllowed);
        stats.refuse(Rule::OriginNotAllowed);
        stats.close(1000);
        stats.close(4321);
        let listeners =
            [ListenerReport { address: "unix:///a\"b".into(), domain: None, clients: 1, accepted: 4 }];
        let report = Report { stats: Some(&stats), listeners: &listeners, clients: 1, ..Report::default() };
        let json = report.json();
        assert!(json.starts_with("{\"version\":\"") && json.ends_with("\"log_lines_lost\":0}"), "{json}");
        let refused = r#""refused":{"origin_not_allowed":2},"closed":{"1000":1,"other":1},"#;
        assert!(json.contains(refused), "{json}");
        assert!(json.contains("\"locks\":0,\"messages_in\":7,"), "{json}");
        assert!(
            json.contains("{\"address\":\"unix:///a\\\"b\",\"domain\":null,\"clients\":1,\"accepted\":4}")
        );
        assert_eq!((stats.refused_total(), stats.closed_total()), (2, 2));
    }

    #[test]
    fn the_largest_groups_are_shown_as_here_answers() {
        let report = Report { largest_groups: vec![("shop/7", 3), ("a", 1)], groups: 2, ..Report::default() };
        let expected = r#""groups":2,"groups_max":0,"largest_groups":[{"name":"shop/7","connections":3},{"name":"a","connections":1}],"#;
        assert!(report.json().contains(expected), "{}", report.json());
        assert!(Report::default().json().contains("\"largest_groups\":[],"));
    }

    #[test]
    fn a_reload_is_shown_when_there_was_one() {
        let reload = Reload { count: 2, applied: vec!["origins"], ..Reload::default() };
        let json = Report { reload: Some(&reload), ..Report::default() }.json();
        let expected = r#""reload":{"count":2,"error":null,"applied":["origins"],"restart":[],"kept":[]},"#;
        assert!(json.contains(expected), "{json}");
    }

    /// The rules of monitoring systems for names: counters end in `_total`, nothing else does, and each is there once.
    #[test]
    fn metrics_are_named_as_prometheus_asks() {
        let mut names: Vec<&str> =
            ROWS.iter().map(|row| row.metric).filter(|name| !name.is_empty()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for row in ROWS.iter().filter(|row| !row.metric.is_empty()) {
            assert_eq!(row.metric.ends_with("_total"), row.kind == Kind::Counter, "{}", row.metric);
            assert!(row.help.ends_with('.'), "{}", row.help);
        }
    }
}
