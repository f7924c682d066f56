//! The fuzz targets without a fuzzer: each body over its corpus in fuzz/corpus/, and over some thousand
//! mutations of it.
//!
//! A crash a fuzzer finds becomes a file of the corpus, so that it is met here ever after. To add a target,
//! see fuzz/README.md.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

#[path = "fuzz_bodies/address.rs"]
mod address;
#[path = "fuzz_bodies/config.rs"]
mod config;
#[path = "fuzz_bodies/control.rs"]
mod control;
#[path = "fuzz_bodies/control_frames.rs"]
mod control_frames;
#[path = "fuzz_bodies/cookies.rs"]
mod cookies;
#[path = "fuzz_bodies/frames.rs"]
mod frames;
#[path = "fuzz_bodies/head.rs"]
mod head;
#[path = "fuzz_bodies/http_body.rs"]
mod http_body;
#[path = "fuzz_bodies/jwt.rs"]
mod jwt;
#[path = "fuzz_bodies/proxy.rs"]
mod proxy;
#[path = "fuzz_bodies/query.rs"]
mod query;
#[cfg(feature = "bus")]
#[path = "fuzz_bodies/resp.rs"]
mod resp;
#[path = "fuzz_bodies/sends.rs"]
mod sends;
#[path = "fuzz_bodies/server.rs"]
mod server;
#[path = "fuzz_bodies/ticket.rs"]
mod ticket;
#[path = "fuzz_bodies/utf8.rs"]
mod utf8;

/// Enough to meet every branch of the small bodies, in about a second of a debug build.
const MUTATIONS: u64 = 5000;

#[test]
fn address() {
    replay("address", address::body);
}

#[test]
fn config() {
    replay("config", config::body);
}

#[test]
fn control() {
    replay("control", control::body);
}

#[test]
fn control_frames() {
    replay("control_frames", control_frames::body);
}

#[test]
fn cookies() {
    replay("cookies", cookies::body);
}

#[test]
fn frames() {
    replay("frames", frames::body);
}

#[test]
fn head() {
    replay("head", head::body);
}

#[test]
fn http_body() {
    replay("http_body", http_body::body);
}

#[test]
fn jwt() {
    replay("jwt", jwt::body);
}

#[test]
fn proxy() {
    replay("proxy", proxy::body);
}

#[test]
fn query() {
    replay("query", query::body);
}

#[cfg(feature = "bus")]
#[test]
fn resp() {
    replay("resp", resp::body);
}

#[test]
fn sends() {
    replay("sends", sends::body);
}

#[test]
fn server() {
    replay("server", server::body);
}

#[test]
fn ticket() {
    replay("ticket", ticket::body);
}

#[test]
fn utf8() {
    replay("utf8", utf8::body);
}

#[track_caller]
fn replay(target: &str, body: fn(&[u8])) {
    let corpus = corpus(target);
    assert!(!corpus.is_empty(), "{target} has no corpus");
    for (name, data) in &corpus {
        run(name, data, body);
    }
    for seed in 1..=MUTATIONS {
        run(&format!("mutation {seed}"), &mutation(&corpus, seed), body);
    }
}

#[track_caller]
fn run(name: &str, data: &[u8], body: fn(&[u8])) {
    if catch_unwind(|| body(data)).is_err() {
        panic!("{name} fails; the input is {}", data.escape_ascii());
    }
}

/// The files of a corpus by name, in an order that is the same everywhere.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let paths = entries.map(|entry| entry.expect("the corpus can be listed").path());
    let mut corpus: Vec<_> = paths
        .map(|path| (path.display().to_string(), fs::read(&path).expect("the corpus can be read")))
        .collect();
    corpus.sort();
    corpus
}

/// The beginning of one file and the end of another, with a few bytes changed.
fn mutation(corpus: &[(String, Vec<u8>)], seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let (_, front) = &corpus[random.below(corpus.len())];
    let (_, back) = &corpus[random.below(corpus.len())];
    let mut data = front[..random.below(front.len() + 1)].to_vec();
    data.extend_from_slice(&back[random.below(back.len() + 1)..]);
    for _ in 0..random.below(4) {
        if !data.is_empty() {
            let at = random.below(data.len());
            data[at] = random.next() as u8;
        }
    }
    data
}

/// SplitMix64: the next seed is as good as any, so mutations can be numbered.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}
