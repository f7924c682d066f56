#![no_main]

#[path = "../../tests/fuzz_bodies/query.rs"]
mod query;

libfuzzer_sys::fuzz_target!(|data: &[u8]| query::body(data));
