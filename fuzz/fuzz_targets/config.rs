#![no_main]

#[path = "../../tests/fuzz_bodies/config.rs"]
mod config;

libfuzzer_sys::fuzz_target!(|data: &[u8]| config::body(data));
