//! What `/metrics` exports, judged by promtool, and what is shipped for Prometheus and Grafana, judged by what is exported.
//!
//! promtool comes with Prometheus; where it is missing the tests that ask it say so; with WSSON_REQUIRE_TOOLS=1 in the
//! environment that is a failure.

mod rig;

use rig::{PATIENCE, Site, config, eventually};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use wsson::testing::stats::ROWS;

fn conf(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("conf").join(name)
}

/// The answer of a running server, which has a certificate, so that nothing is absent.
fn metrics() -> String {
    let text = "servers = ['unix://server.sock', 'tls://127.0.0.1:0']\nsecret = 'metrics-tests-only-4711'\n\
        [tls]\ncertificate = 'server.pem'\nkey = 'server.key'\n";
    let text = if cfg!(feature = "tls") { text } else { "secret = 'metrics-tests-only-4711'\n" };
    let site = Site::with(&config(text));
    for end in ["pem", "key"] {
        fs::copy(rig::data(&format!("rsa.{end}")), site.path(&format!("server.{end}"))).expect("it is ours");
    }
    let mut command = site.wsson(&["run"]);
    let _server = rig::Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
    eventually("the server answers", || UnixStream::connect(site.path("control.sock")).is_ok());
    // The first turn is counted when it is over.
    ask(&site);
    ask(&site)
}

fn ask(site: &Site) -> String {
    let mut socket = UnixStream::connect(site.path("control.sock")).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time");
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: wsson\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("it answers in text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
    body.to_owned()
}

/// Runs promtool in a folder and returns what it said and whether it found fault; none when there is no promtool.
fn promtool(folder: &Site, words: &[&str], input: &str) -> Option<(bool, String)> {
    let mut command = Command::new("promtool");
    command.args(words).current_dir(folder.folder());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        let required = std::env::var_os("WSSON_REQUIRE_TOOLS").is_some_and(|value| value == "1");
        assert!(!required, "there is no promtool, and WSSON_REQUIRE_TOOLS wants all tests");
        eprintln!("skipped: there is no promtool");
        return None;
    };
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

#[test]
fn promtool_finds_no_fault_with_the_metrics() {
    let text = metrics();
    let Some((good, said)) = promtool(&Site::new(), &["check", "metrics"], &text) else { return };
    assert!(good && said.is_empty(), "{said}\n{text}");
}

/// Every row that is a metric is there once, with a help and a type; counters have their values from the beginning.
#[test]
fn every_row_is_exported() {
    let text = metrics();
    for row in ROWS.iter().filter(|row| !row.metric.is_empty()) {
        let count = |begin: &str| text.lines().filter(|line| line.starts_with(begin)).count();
        let absent = row.metric.starts_with("wsson_bus_")
            || row.metric.starts_with("wsson_certificate") && !cfg!(feature = "tls");
        assert_eq!(count(&format!("# HELP {} ", row.metric)), usize::from(!absent), "{}", row.metric);
        assert_eq!(count(&format!("# TYPE {} ", row.metric)), usize::from(!absent), "{}", row.metric);
    }
    for (name, least) in [
        ("process_cpu_seconds_total", 0.0),
        ("process_resident_memory_bytes", 1e5),
        ("process_virtual_memory_bytes", 1e6),
        ("process_open_fds", 5.0),
        ("process_max_fds", 64.0),
        ("process_start_time_seconds", 1.7e9),
        ("wsson_turn_seconds_count", 1.0),
        ("wsson_http_requests_total", 1.0),
        ("wsson_backends", 1.0),
        ("wsson_reload_successful", 1.0),
    ] {
        let value =
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<f64>().ok());
        assert!(value.is_some_and(|value| value >= least), "{name}: {value:?} in\n{text}");
    }
}

/// Series and labels: what a query may ask for.
struct Exported {
    names: BTreeSet<String>,
    labels: BTreeSet<(String, String)>,
}

fn exported() -> Exported {
    let text = metrics();
    let (mut names, mut labels) = (BTreeSet::new(), BTreeSet::new());
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').expect("a value");
        let (name, label) = series.split_once('{').unwrap_or((series, ""));
        names.insert(name.to_owned());
        if let Some((label, value)) = label.trim_end_matches('}').split_once('=') {
            labels.insert((label.to_owned(), value.trim_matches('"').to_owned()));
        }
    }
    // Prometheus adds it.
    names.insert("up".to_owned());
    Exported { names, labels }
}

/// Fails for each name of ours in a query that is not exported, and for each value of a label that there is not.
#[track_caller]
fn check_query(query: &str, exported: &Exported) {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names: Vec<&str> = query
        .split(|c| !is_word(c))
        .filter(|word| ["wsson_", "process_"].iter().any(|begin| word.starts_with(begin)))
        .collect();
    assert!(!names.is_empty() || query.contains("up{"), "{query}");
    for name in names {
        assert!(exported.names.contains(name), "{query}: there is no {name}");
    }
    for label in ["rule", "code"] {
        for asked in query.split(&format!("{label}=")).skip(1).filter_map(|rest| rest.split('"').nth(1)) {
            let is_there = |value: &str| exported.labels.contains(&(label.to_owned(), value.to_owned()));
            assert!(asked.split('|').all(is_there), "{query}: there is no {label} {asked}");
        }
    }
}

/// Every text at a member of this name, however deep.
fn members<'v>(value: &'v Value, name: &str, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get(name).and_then(Value::as_str));
            object.values().for_each(|inner| members(inner, name, found));
        }
        Value::Array(list) => list.iter().for_each(|inner| members(inner, name, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_asks_for_what_is_exported() {
    let text = fs::read_to_string(conf("grafana/wsson.json")).expect("it is shipped");
    let dashboard: Value = serde_json::from_str(&text).expect("it is JSON");
    let mut queries = Vec::new();
    members(&dashboard, "expr", &mut queries);
    assert!(queries.len() > 20, "{queries:?}");
    let exported = exported();
    queries.iter().for_each(|query| check_query(query, &exported));
    // What the issue asks for, on one screen of 24 columns.
    for panel in
        ["Clients", "Deliveries a second", "Refusals by rule", "Slow consumers", "Queued bytes", "Turn time"]
    {
        assert!(text.contains(&format!("\"title\": \"{panel}\"")), "{panel}");
    }
    let panels = dashboard["panels"].as_array().expect("a list");
    let place = |panel: &Value, side: &str| panel["gridPos"][side].as_u64().expect("a number");
    for (index, panel) in panels.iter().enumerate() {
        assert!(place(panel, "x") + place(panel, "w") <= 24 && place(panel, "y") + place(panel, "h") <= 23);
        for other in &panels[..index] {
            let apart = |side: &str, length: &str| {
                place(panel, side) >= place(other, side) + place(other, length)
                    || place(other, side) >= place(panel, side) + place(panel, length)
            };
            assert!(apart("x", "w") || apart("y", "h"), "{} lies on {}", panel["title"], other["title"]);
        }
    }
    // Prometheus reads each query, with Grafana's variables filled in.
    let filled = |query: &&str| {
        let query =
            query.replace("$__rate_interval", "5m").replace("$job", "wsson").replace("$instance", ".*");
        format!("  - record: wsson:query\n    expr: {}\n", serde_json::to_string(&query).expect("a string"))
    };
    let rules: String = queries.iter().map(filled).collect();
    let site = Site::new();
    site.write("queries.yml", &format!("groups:\n- name: queries\n  rules:\n{rules}"), 0o644);
    let Some((good, said)) = promtool(&site, &["check", "rules", "--lint=none", "queries.yml"], "") else {
        return;
    };
    assert!(good, "{said}");
}

#[test]
fn the_alerts_are_rules_about_what_is_exported() {
    let text = fs::read_to_string(conf("prometheus/wsson.rules.yml")).expect("it is shipped");
    let exported = exported();
    let mut lines = text.lines().peekable();
    let mut count = 0;
    while let Some(line) = lines.next() {
        let Some(query) = line.trim_start().strip_prefix("expr: ") else { continue };
        let mut query = query.to_owned();
        if query == "|" {
            let deeper = |line: &&str| line.starts_with("          ");
            while let Some(more) = lines.next_if(deeper) {
                query += more;
            }
        }
        check_query(&query, &exported);
        count += 1;
    }
    assert_eq!(count, text.matches("- alert: ").count());
    let site = Site::new();
    for name in ["prometheus.yml", "wsson.rules.yml", "wsson.test.yml"] {
        fs::copy(conf("prometheus").join(name), site.path(name)).expect("it is shipped");
    }
    for words in [
        &["check", "rules", "wsson.rules.yml"][..],
        &["test", "rules", "wsson.test.yml"],
        &["check", "config", "--syntax-only", "prometheus.yml"],
    ] {
        let Some((good, said)) = promtool(&site, words, "") else { return };
        assert!(good, "{words:?}: {said}");
    }
}
