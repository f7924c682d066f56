//! Counters and the status report.
//!
//! Plain integers, added to where the thing happens, never sampled. It never measures anything itself:
//! what only the process knows comes in as [`Process`]. Invariant: accepted clients = open +
//! unauthenticated + closed + refused (who is on the way out is counted in one of the last two already), and a
//! test adds it up.

use crate::rule::Rule;
use std::fmt::Write;

/// Close codes that are counted by themselves; every other one is counted as `other`.
pub const CODES: [u16; 13] = [1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1013];

/// What is counted since the server began.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Most clients that were open at one time.
    pub clients_peak: u64,
    /// Messages that clients sent.
    pub messages_in: u64,
    /// Messages queued for clients, one for each client.
    pub messages_out: u64,
    /// Broadcasts taken over from backends and handlers.
    pub broadcasts: u64,
    /// Direct messages taken over, whether or not somebody was there.
    pub directs: u64,
    /// Bytes read from clients.
    pub bytes_in: u64,
    /// Bytes written to clients.
    pub bytes_out: u64,
    /// Handshakes refused, by the rule they broke.
    refused: PerRule,
    closed: [u64; CODES.len() + 1],
    /// Clients closed because they did not read what waited for them.
    pub overflows: u64,
    /// Protocol errors of backends and system calls that failed.
    pub errors: u64,
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

    /// Refused handshakes, rules that nothing has broken left out.
    pub fn refused(&self) -> impl Iterator<Item = (Rule, u64)> {
        Rule::ALL.iter().copied().zip(self.refused.0).filter(|(_, count)| *count > 0)
    }

    /// Counts an open connection that ended with this close code.
    pub fn close(&mut self, code: u16) {
        let place = CODES.iter().position(|known| *known == code).unwrap_or(CODES.len());
        self.closed[place] += 1;
    }

    /// All refusals.
    pub fn refused_total(&self) -> u64 {
        self.refused.0.iter().sum()
    }

    /// All open connections that ended.
    pub fn closed_total(&self) -> u64 {
        self.closed.iter().sum()
    }
}

/// What the process around the server knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Open descriptors.
    pub fds: u64,
    /// Most descriptors it may open.
    pub fds_max: u64,
}

/// What reading the configuration again has done.
#[derive(Clone, Debug, Default)]
pub struct Reload {
    /// How often it was tried.
    pub count: u64,
    /// Keys that the last try has changed.
    pub applied: Vec<&'static str>,
    /// Keys that wait for a restart.
    pub restart: Vec<&'static str>,
    /// Why the last try has changed nothing.
    pub error: Option<String>,
}

/// One listener's line.
#[derive(Clone, Debug, Default)]
pub struct ListenerReport {
    /// Where it listens.
    pub address: String,
    /// What `m` answers for it, if the site set one.
    pub domain: Option<String>,
    /// Clients open now.
    pub clients: u64,
    /// Connections accepted.
    pub accepted: u64,
}

/// Everything that `t` and `status --json` show (operations.md, "Status fields").
#[derive(Clone, Debug, Default)]
pub struct Report<'s> {
    /// The counters.
    pub stats: Option<&'s Stats>,
    /// The process.
    pub process: Process,
    /// Seconds since the server began.
    pub uptime_s: u64,
    /// Each listener.
    pub listeners: &'s [ListenerReport],
    /// Clients open now.
    pub clients: u64,
    /// Most clients that may be open.
    pub clients_max: u64,
    /// Connections that have not finished their handshake.
    pub unauthenticated: u64,
    /// Most of them that may be.
    pub unauthenticated_max: u64,
    /// Connections that are on their way out.
    pub closing: u64,
    /// Backends connected.
    pub backends: u64,
    /// Backends that hold a lock.
    pub locks: u64,
    /// Bytes in the spool.
    pub queued_bytes: u64,
    /// Most bytes that may wait there.
    pub queued_bytes_max: u64,
    /// The last reload.
    pub reload: Option<&'s Reload>,
}

impl Report<'_> {
    /// One JSON object.
    pub fn json(&self) -> String {
        let none = Stats::default();
        let stats = self.stats.unwrap_or(&none);
        let mut out = String::with_capacity(1024);
        out.push('{');
        text(&mut out, "version", env!("CARGO_PKG_VERSION"));
        number(&mut out, "pid", self.process.pid.into());
        number(&mut out, "uptime_s", self.uptime_s);
        out.push_str("\"listeners\":[");
        list(&mut out, self.listeners, listener);
        out.push_str("],");
        for (name, value) in [
            ("clients", self.clients),
            ("clients_peak", stats.clients_peak),
            ("clients_max", self.clients_max),
            ("unauthenticated", self.unauthenticated),
            ("unauthenticated_max", self.unauthenticated_max),
            ("closing", self.closing),
            ("backends", self.backends),
            ("locks", self.locks),
            ("messages_in", stats.messages_in),
            ("messages_out", stats.messages_out),
            ("broadcasts", stats.broadcasts),
            ("directs", stats.directs),
            ("bytes_in", stats.bytes_in),
            ("bytes_out", stats.bytes_out),
            ("queued_bytes", self.queued_bytes),
            ("queued_bytes_max", self.queued_bytes_max),
        ] {
            number(&mut out, name, value);
        }
        if let Some(last) = self.reload {
            reload(&mut out, last);
        }
        out.push_str("\"refused\":{");
        let refused: Vec<_> = stats.refused().collect();
        list(&mut out, &refused, |out, (rule, count)| pair(out, rule.name(), *count));
        out.push_str("},\"closed\":{");
        list(&mut out, &closed(stats), |out, (code, count)| pair(out, code, *count));
        out.push_str("},");
        for (name, value) in [
            ("overflows", stats.overflows),
            ("errors", stats.errors),
            ("rss_bytes", self.process.rss_bytes),
            ("fds", self.process.fds),
        ] {
            number(&mut out, name, value);
        }
        pair(&mut out, "fds_max", self.process.fds_max);
        out.push('}');
        out
    }
}

fn closed(stats: &Stats) -> Vec<(String, u64)> {
    let names = CODES.iter().map(u16::to_string).chain(["other".to_owned()]);
    names.zip(stats.closed).filter(|(_, count)| *count > 0).collect()
}

fn reload(out: &mut String, last: &Reload) {
    out.push_str("\"reload\":{");
    number(out, "count", last.count);
    match &last.error {
        Some(error) => text(out, "error", error),
        None => out.push_str("\"error\":null,"),
    }
    let names = |out: &mut String, names: &[&str]| {
        list(out, names, |out, name| out.extend(["\"", name, "\""]));
    };
    out.push_str("\"applied\":[");
    names(out, &last.applied);
    out.push_str("],\"restart\":[");
    names(out, &last.restart);
    out.push_str("]},");
}

fn listener(out: &mut String, listener: &ListenerReport) {
    out.push('{');
    text(out, "address", &listener.address);
    match &listener.domain {
        Some(domain) => text(out, "domain", domain),
        None => out.push_str("\"domain\":null,"),
    }
    number(out, "clients", listener.clients);
    pair(out, "accepted", listener.accepted);
    out.push('}');
}

fn list<T>(out: &mut String, items: &[T], mut item: impl FnMut(&mut String, &T)) {
    for (place, value) in items.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        item(out, value);
    }
}

fn pair(out: &mut String, name: &str, value: u64) {
    let _ = write!(out, "\"{name}\":{value}");
}

fn number(out: &mut String, name: &str, value: u64) {
    pair(out, name, value);
    out.push(',');
}

/// A string member. Addresses come from the configuration and may hold anything.
fn text(out: &mut String, name: &str, value: &str) {
    let _ = write!(out, "\"{name}\":\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push_str("\",");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_one_object() {
        let mut stats = Stats::default();
        stats.refuse(Rule::OriginNotAllowed);
        stats.refuse(Rule::OriginNotAllowed);
        stats.close(1000);
        stats.close(4321);
        let listeners =
            [ListenerReport { address: "unix:///a\"b".into(), domain: None, clients: 1, accepted: 4 }];
        let report = Report { stats: Some(&stats), listeners: &listeners, clients: 1, ..Report::default() };
        let json = report.json();
        assert!(json.starts_with("{\"version\":\"") && json.ends_with("\"fds_max\":0}"), "{json}");
        assert!(
            json.contains("\"refused\":{\"origin_not_allowed\":2},\"closed\":{\"1000\":1,\"other\":1},"),
            "{json}"
        );
        assert!(
            json.contains("{\"address\":\"unix:///a\\\"b\",\"domain\":null,\"clients\":1,\"accepted\":4}")
        );
        assert_eq!((stats.refused_total(), stats.closed_total()), (2, 2));
    }
}
