//! The screen of `wsson status`: a report in words, in 80 columns, with the limits beside the counts.
//!
//! Invariant: a line is broken between words, and the rest stands below the first word, so no line that could be
//! broken is longer than [`COLUMNS`].

use crate::wire::json;
use serde_json::Value;
use std::fmt::Write;
use std::time::Instant;

const COLUMNS: usize = 80;
/// Where the text of a line begins, behind its name.
const INDENT: usize = 12;
/// Groups on the screen, of those that the server names; the JSON has them all.
const GROUPS_SHOWN: usize = 3;

/// A report and when it was made.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) report: Value,
    pub(super) at: Instant,
}

/// One screen for people. A field that the server does not send is shown as a dash. With an earlier look there is a line
/// of the connections that came and went each second since.
pub(super) fn screen(look: &Look, before: Option<&Look>) -> String {
    let show = Fields { report: &look.report };
    let mut page = Page(format!(
        "wsson {}, pid {}, up {}\n",
        show.text("version"),
        show.count("pid"),
        show.number("uptime_s").map_or("-".into(), duration)
    ));
    listeners(&mut page, &look.report);
    people(&mut page, &show);
    if let Some(cluster) = look.report.get("cluster") {
        bus(&mut page, cluster);
    }
    traffic(&mut page, &show);
    turns(&mut page, &look.report);
    if let Some(before) = before {
        page.line("a second", &rates(look, before));
    }
    page.line("refused", &tally(look.report.get("refused")));
    page.line("closed", &tally(look.report.get("closed")));
    let lost = show.number("log_lines_lost").filter(|lost| *lost > 0);
    let lost = lost.map_or(String::new(), |lost| format!("; {lost} lines of the log are lost"));
    page.line(
        "trouble",
        &format!("{} overflows, {} errors{lost}", show.count("overflows"), show.count("errors")),
    );
    if let Some(expires) = show.number("certificate_expiry").and_then(|expires| i64::try_from(expires).ok()) {
        page.line("certificate", &format!("holds until {}", crate::date::show(expires)));
    }
    for text in reloads(look.report.get("reload")) {
        page.line("reload", &text);
    }
    let (memory, descriptors) = (show.size("rss_bytes"), show.count("fds"));
    page.line("memory", &format!("{memory}; {descriptors}{} descriptors", show.of("fds_max", &plain)));
    page.0
}

fn people(page: &mut Page, show: &Fields<'_>) {
    let count = |field| show.count(field);
    page.line(
        "clients",
        &format!(
            "{}{} open, {} at most so far; {}{} not logged in yet; {} on their way out",
            count("clients"),
            show.of("clients_max", &plain),
            count("clients_peak"),
            count("unauthenticated"),
            show.of("unauthenticated_max", &plain),
            count("closing")
        ),
    );
    let groups = show.of("groups_max", &plain);
    page.line(
        "users",
        &format!("{}; {}{groups} groups{}", count("users"), count("groups"), largest(show.report)),
    );
    // The server counts the connection that asks, too.
    let others = show.number("backends").map_or("-".into(), |backends| plain(backends.saturating_sub(1)));
    let limit = show.of("backends_max", &plain);
    page.line(
        "backends",
        &format!("{others}{limit} connected besides this command, {} locks", count("locks")),
    );
}

/// `: shop/7 12, lobby 3`: the largest groups, as many as a line or two hold.
fn largest(report: &Value) -> String {
    let groups = json::items(report, "largest_groups");
    let shown = groups.iter().take(GROUPS_SHOWN).filter_map(|group| {
        let name = printable(group.get("name")?.as_str()?);
        Some(format!("{name} {}", group.get("connections")?.as_u64()?))
    });
    let shown: Vec<String> = shown.collect();
    let more = if groups.len() > GROUPS_SHOWN { ", …" } else { "" };
    match shown.is_empty() {
        true => String::new(),
        false => format!(": {}{more}", shown.join(", ")),
    }
}

/// The other nodes, and the instances that are away.
fn bus(page: &mut Page, cluster: &Value) {
    let (instances, nodes) = (json::items(cluster, "instances"), json::items(cluster, "nodes"));
    let is_up = |instance: &&Value| instance.get("state").and_then(Value::as_str) == Some("up");
    let up = instances.iter().filter(is_up).count();
    let clients: u64 = nodes.iter().filter_map(|node| node.get("clients").and_then(Value::as_u64)).sum();
    let (of, others) = (instances.len(), nodes.len());
    let nodes = if others == 1 { "node" } else { "nodes" };
    page.line("bus", &format!("{up} of {of} instances up; {others} other {nodes} with {clients} clients"));
    for instance in instances.iter().filter(|instance| !is_up(instance)) {
        let show = Fields { report: instance };
        let reason = instance.get("reason").and_then(Value::as_str);
        let reason = reason.map_or(String::new(), |_| format!(": {}", show.text("reason")));
        page.line("", &format!("{} is away{reason}", show.text("address")));
    }
}

fn traffic(page: &mut Page, show: &Fields<'_>) {
    let (count, size) = (|field| show.count(field), |field| show.size(field));
    page.line(
        "messages",
        &format!(
            "{} in, {} out; {} broadcasts, {} directs",
            count("messages_in"),
            count("messages_out"),
            count("broadcasts"),
            count("directs")
        ),
    );
    let waiting = size("queued_bytes") + &show.of("queued_bytes_max", &bytes);
    page.line("traffic", &format!("{} in, {} out; {waiting} waiting", size("bytes_in"), size("bytes_out")));
}

/// How long the turns of the loop take: nothing else is done meanwhile. An older server does not measure them.
fn turns(page: &mut Page, report: &Value) {
    let Some(turns) = report.get("turns") else { return };
    let show = Fields { report: turns };
    let time = |field| show.number(field).map_or("-".into(), millis);
    page.line(
        "turns",
        &format!("{}; 99 of 100 within {}, longest {}", show.count("count"), time("p99_us"), time("most_us")),
    );
}

/// `0.025 ms`, `12 ms`
fn millis(us: u64) -> String {
    match us {
        0..10_000 => format!("{} ms", us as f64 / 1000.0),
        _ => format!("{} ms", us / 1000),
    }
}

/// The changes between two looks, for each second between them. A server that was started anew counts from nothing.
fn rates(look: &Look, before: &Look) -> String {
    let seconds = look.at.saturating_duration_since(before.at).as_secs_f64().max(0.001);
    let rate = |field: &str| {
        let number = |look: &Look| look.report.get(field).and_then(Value::as_u64).unwrap_or(0);
        (number(look).saturating_sub(number(before)) as f64 / seconds).round() as u64
    };
    let number = |look: &Look, field: &str| look.report.pointer(field).and_then(Value::as_u64);
    let share = |field: &str, whole: f64| {
        let part = number(look, field)?.saturating_sub(number(before, field)?) as f64 / whole / seconds;
        Some(format!("{:.0} %", (part * 100.0).min(100.0)))
    };
    let busy = share("/turns/sum_us", 1e6).map_or(String::new(), |share| format!("; {share} busy"));
    let cpu = share("/cpu_ms", 1e3).map_or(String::new(), |share| format!(", {share} of a processor"));
    format!(
        "{} messages in, {} out; {} in, {} out; {} accepted; {} requests in HTTP{busy}{cpu}",
        rate("messages_in"),
        rate("messages_out"),
        bytes(rate("bytes_in")),
        bytes(rate("bytes_out")),
        rate("accepted"),
        rate("http_requests")
    )
}

/// Lines with a name each.
struct Page(String);

impl Page {
    fn line(&mut self, name: &str, text: &str) {
        let mut column = INDENT;
        let _ = write!(self.0, "{name:<INDENT$}");
        for (place, word) in text.split(' ').enumerate() {
            let length = word.chars().count();
            if place > 0 && column + 1 + length > COLUMNS {
                let _ = write!(self.0, "\n{:INDENT$}", "");
                column = INDENT;
            } else if place > 0 {
                self.0.push(' ');
                column += 1;
            }
            self.0.push_str(word);
            column += length;
        }
        self.0.push('\n');
    }
}

fn plain(number: u64) -> String {
    number.to_string()
}

/// The changes that the last reload has left to a restart; empty when there are none.
fn reloads(reload: Option<&Value>) -> Vec<String> {
    let Some(reload) = reload else { return Vec::new() };
    let failed = reload.get("error").and_then(Value::as_str);
    let failed = failed.map(|why| format!("failed, and changed nothing: {}", printable(why)));
    let keys = json::items(reload, "restart");
    let keys: Vec<String> = keys.iter().filter_map(|key| Some(printable(key.as_str()?))).collect();
    let restart = (!keys.is_empty()).then(|| format!("needs a restart: {}", keys.join(", ")));
    failed.into_iter().chain(restart).collect()
}

/// The text may come from any program and must not drive the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn listeners(page: &mut Page, report: &Value) {
    let listeners = json::items(report, "listeners");
    for (place, listener) in listeners.iter().enumerate() {
        let name = if place == 0 { "listeners" } else { "" };
        let show = Fields { report: listener };
        let domain = listener
            .get("domain")
            .and_then(Value::as_str)
            .map_or(String::new(), |_| format!(" ({})", show.text("domain")));
        let (clients, accepted) = (show.count("clients"), show.count("accepted"));
        page.line(name, &format!("{}{domain}: {clients} clients, {accepted} accepted", show.text("address")));
    }
}

/// The fields of an object, as they are shown.
struct Fields<'r> {
    report: &'r Value,
}

impl Fields<'_> {
    fn number(&self, field: &str) -> Option<u64> {
        self.report.get(field)?.as_u64()
    }

    fn count(&self, field: &str) -> String {
        self.number(field).map_or("-".into(), |number| number.to_string())
    }

    fn size(&self, field: &str) -> String {
        self.number(field).map_or("-".into(), bytes)
    }

    /// ` of 100`: a limit beside its count. A server that has none, or is older than the field, says nothing.
    fn of(&self, field: &str, shown: &dyn Fn(u64) -> String) -> String {
        let limit = self.number(field).filter(|limit| *limit < u64::MAX);
        limit.map_or(String::new(), |limit| format!(" of {}", shown(limit)))
    }

    fn text(&self, field: &str) -> String {
        printable(self.report.get(field).and_then(Value::as_str).unwrap_or("-"))
    }
}

/// `12: bad_origin 10, expired 2`, the most frequent first.
fn tally(counts: Option<&Value>) -> String {
    let fields = counts.and_then(Value::as_object).into_iter().flatten();
    let mut counts: Vec<(&str, u64)> = fields
        .filter_map(|(name, count)| Some((name.as_str(), count.as_u64()?)))
        .filter(|(_, n)| *n > 0)
        .collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let total: u64 = counts.iter().map(|(_, count)| count).sum();
    let parts: Vec<String> =
        counts.iter().map(|(name, count)| format!("{} {count}", name.escape_debug())).collect();
    match parts.is_empty() {
        true => "0".into(),
        false => format!("{total}: {}", parts.join(", ")),
    }
}

/// `3 d 4 h`, `4 h 5 min`, `5 min 6 s`, `7 s`: the two largest units.
fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if days > 0 => format!("{days} d {} h", hours % 24),
        () if hours > 0 => format!("{hours} h {} min", minutes % 60),
        () if minutes > 0 => format!("{minutes} min {} s", seconds % 60),
        () => format!("{seconds} s"),
    }
}

/// `3.4 MiB`: one digit behind the point, in the largest unit that is not below one.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = (1..UNITS.len()).rev().find(|power| count >> (10 * power) > 0).unwrap_or(0);
    match power {
        0 => format!("{count} B"),
        _ => format!("{:.1} {}", count as f64 / (1_u64 << (10 * power)) as f64, UNITS[power]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_short() {
        let times = [59, 60, 3_599, 3_600, 86_399, 90_000].map(duration);
        assert_eq!(times, ["59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "23 h 59 min", "1 d 1 h"]);
        let sizes = [0, 1023, 1024, 1536 * 1024, u64::MAX].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "16777216.0 TiB"]);
    }

    #[test]
    fn counts_are_added_up_and_sorted() {
        let counts = json::parse(r#"{"1000":2,"1001":0,"1006":7}"#);
        assert_eq!(tally(counts.as_ref()), "9: 1006 7, 1000 2");
        assert_eq!(tally(None), "0");
    }

    /// The screen reads all that the server writes: every field of its report has a place.
    #[test]
    fn the_servers_own_report_has_no_gap() {
        let mut stats = crate::stats::Stats::default();
        stats.refuse(crate::rule::Rule::OriginNotAllowed);
        stats.close(1000);
        stats.turns.note(25);
        let listener = crate::stats::ListenerReport {
            address: "tcp://127.0.0.1:1".into(),
            domain: Some("d:1\u{1b}".into()),
            ..Default::default()
        };
        let instance = |state, reason: Option<&str>| crate::stats::InstanceReport {
            address: "redis://a:1".into(),
            state,
            reason: reason.map(str::to_owned),
        };
        let cluster = crate::stats::ClusterReport {
            instances: vec![instance("up", None), instance("away", Some("no\u{1b}"))],
            nodes: vec![crate::stats::NodeReport { clients: 7, ..Default::default() }],
            ..Default::default()
        };
        let report = crate::stats::Report {
            stats: Some(&stats),
            cluster: Some(cluster),
            listeners: &[listener],
            uptime_s: 61,
            backends: 3,
            backends_max: 9,
            queued_bytes_max: 2048,
            groups: 5,
            groups_max: 9,
            largest_groups: vec![("shop/7", 4), ("b", 3), ("c", 2), ("d", 1)],
            ..Default::default()
        };
        let report = json::parse(&report.json()).expect("the report is JSON");
        let screen = screen(&Look { report, at: Instant::now() }, None);
        assert!(!screen.contains(" -") && !screen.contains("- "), "{screen}");
        assert!(screen.contains("up 1 min 1 s"), "{screen}");
        assert!(screen.contains("listeners   tcp://127.0.0.1:1 (d:1?): 0 clients, 0 accepted"), "{screen}");
        assert!(screen.contains("users       0; 5 of 9 groups: shop/7 4, b 3, c 2, …\n"), "{screen}");
        assert!(screen.contains("backends    2 of 9 connected besides this command"), "{screen}");
        assert!(screen.contains("0 B of 2.0 KiB waiting"), "{screen}");
        let bus = "bus         1 of 2 instances up; 1 other node with 7 clients\n            redis://a:1 is away: no?\n";
        assert!(screen.contains(bus), "{screen}");
        assert!(screen.contains("turns       1; 99 of 100 within 0.025 ms, longest 0.025 ms"), "{screen}");
        assert!(screen.contains("refused     1: origin_not_allowed 1\nclosed      1: 1000 1"), "{screen}");
    }

    #[test]
    fn long_lines_are_broken_between_words() {
        let rules: Vec<String> =
            (0..40).map(|rule| format!("\"rule_number_{rule}\":{}", 1000 + rule)).collect();
        let report = format!("{{\"refused\":{{{}}},\"clients_max\":18446744073709551615}}", rules.join(","));
        let screen = screen(&Look { report: json::parse(&report).expect("JSON"), at: Instant::now() }, None);
        assert!(screen.lines().all(|line| line.chars().count() <= COLUMNS), "{screen}");
        assert!(
            screen.contains("1039,\n            rule_number") || screen.contains("\n            rule_number")
        );
        assert!(screen.contains("clients     - open"), "an absent limit is not shown: {screen}");
    }

    #[test]
    fn a_second_look_tells_what_each_second_brought() {
        let begin = Instant::now();
        let look = |report: &str, seconds| Look {
            report: json::parse(report).expect("JSON"),
            at: begin + std::time::Duration::from_secs(seconds),
        };
        let before =
            look(r#"{"messages_out":10,"bytes_out":0,"accepted":1,"cpu_ms":0,"turns":{"sum_us":0}}"#, 0);
        let after = look(
            r#"{"messages_out":30,"bytes_out":4096,"accepted":5,"cpu_ms":60,"turns":{"sum_us":200000}}"#,
            2,
        );
        let rest = "requests in HTTP; 10 % busy, 3 % of a processor";
        let found = rates(&after, &before);
        assert_eq!(found, format!("0 messages in, 10 out; 0 B in, 2.0 KiB out; 2 accepted; 0 {rest}"));
        assert!(rates(&before, &after).starts_with("0 messages in, 0 out; 0 B in, 0 B out; 0 accepted; 0 "));
        assert!(screen(&after, Some(&before)).contains("\na second    0 messages in"));
    }
}
