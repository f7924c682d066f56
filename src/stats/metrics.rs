//! The rows as metrics, in the text format 0.0.4 of Prometheus.
//!
//! It never counts anything. Invariant: each metric has its help and its type before it, once, and all values of its
//! label, so that a rate knows the first one; no label has a value that a stranger chose.

use super::{Histogram, Kind, ROWS, Report, Row, Value};
use std::fmt::Write;

/// The media type of what [`Report::metrics`] gives.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Report<'_> {
    /// All metrics.
    pub fn metrics(&self) -> String {
        let mut out = String::with_capacity(16 * 1024);
        for row in ROWS.iter().filter(|row| !row.metric.is_empty()) {
            append(&mut out, row, &row.value(self));
        }
        out
    }
}

fn append(out: &mut String, row: &Row, value: &Value<'_>) {
    if let Value::Absent = value {
        return;
    }
    let name = row.metric;
    let kind = match row.kind {
        Kind::Counter => "counter",
        Kind::Gauge | Kind::Fact => "gauge",
        Kind::Times => "histogram",
    };
    // Nothing can fail that writes to a string.
    let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", escape(row.help, false));
    let _ = match value {
        Value::Number(u64::MAX) => writeln!(out, "{name} +Inf"),
        Value::Number(number) => writeln!(out, "{name} {number}"),
        Value::Millis(ms) => writeln!(out, "{name} {}", decimal(*ms, 3)),
        Value::Text(text) => writeln!(out, "{name}{{{}=\"{}\"}} 1", row.label, escape(text, true)),
        Value::Tally(counts) => counts.iter().try_for_each(|(text, count)| {
            writeln!(out, "{name}{{{}=\"{}\"}} {count}", row.label, escape(text, true))
        }),
        Value::Times(times) => append_times(out, name, times),
        Value::Listeners(_) | Value::Groups(_) | Value::Reload(_) | Value::Cluster(_) | Value::Absent => {
            unreachable!("{name} has a value that is no metric")
        }
    };
}

fn append_times(out: &mut String, name: &str, times: &Histogram) -> std::fmt::Result {
    for (bound_us, count) in times.up_to() {
        let bound = bound_us.map_or("+Inf".into(), |us| decimal(us, 6));
        writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {count}")?;
    }
    writeln!(out, "{name}_sum {}\n{name}_count {}", decimal(times.sum_us(), 6), times.count())
}

/// A number of these parts of a second, in seconds.
fn decimal(number: u64, digits: usize) -> String {
    let scale = 10_u64.pow(digits as u32);
    let text = format!("{}.{:0digits$}", number / scale, number % scale);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escape(text: &str, in_label: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if in_label { text.replace('"', "\\\"") } else { text }
}

#[cfg(test)]
mod tests {
    use super::super::{CODES, Process, Reload, Stats};
    use super::*;
    use crate::rule::Rule;

    #[test]
    fn every_kind_of_row_has_its_form() {
        let mut stats = Stats { messages_in: 7, ..Stats::default() };
        stats.refuse(Rule::OriginNotAllowed);
        stats.close(1000);
        stats.turns.note(12);
        stats.turns.note(2_000_000);
        let process = Process { cpu_ms: 1_250, ..Process::default() };
        let report =
            Report { stats: Some(&stats), process, clients: 3, clients_max: u64::MAX, ..Report::default() };
        let text = report.metrics();
        for lines in [
            "# HELP wsson_clients Clients open now.\n# TYPE wsson_clients gauge\nwsson_clients 3\n",
            "\nwsson_clients_max +Inf\n",
            "# TYPE wsson_messages_in_total counter\nwsson_messages_in_total 7\n",
            "\nwsson_refused_total{rule=\"origin_not_allowed\"} 1\n",
            "\nwsson_refused_total{rule=\"expired\"} 0\n",
            "\nwsson_closed_total{code=\"1000\"} 1\n",
            "\nprocess_cpu_seconds_total 1.25\n",
            "# TYPE wsson_turn_seconds histogram\nwsson_turn_seconds_bucket{le=\"0.00001\"} 0\n",
            "\nwsson_turn_seconds_bucket{le=\"0.000025\"} 1\n",
            "\nwsson_turn_seconds_bucket{le=\"1\"} 1\nwsson_turn_seconds_bucket{le=\"2.5\"} 2\n",
            "\nwsson_turn_seconds_bucket{le=\"+Inf\"} 2\nwsson_turn_seconds_sum 2.000012\nwsson_turn_seconds_count 2\n",
            concat!("\nwsson_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1\n"),
            "\nwsson_reload_successful 1\n",
        ] {
            assert!(text.contains(lines), "{lines} in {text}");
        }
        assert_eq!(text.matches("\nwsson_refused_total{").count(), Rule::COUNT);
        assert_eq!(text.matches("\nwsson_closed_total{").count(), CODES.len() + 1);
        assert!(!text.contains("certificate"), "there is none");
        let failed = Reload { error: Some("why".into()), ..Reload::default() };
        let text = Report { reload: Some(&failed), ..Report::default() }.metrics();
        assert!(text.contains("\nwsson_reload_successful 0\n"), "{text}");
    }

    #[test]
    fn numbers_and_labels_are_written_as_they_are_read() {
        let found =
            [(0, 6), (10, 6), (1_000_000, 6), (1_234_000, 6), (5, 3)].map(|(n, digits)| decimal(n, digits));
        assert_eq!(found, ["0", "0.00001", "1", "1.234", "0.005"]);
        assert_eq!(escape("a\"b\\c\n", true), "a\\\"b\\\\c\\n");
    }
}
