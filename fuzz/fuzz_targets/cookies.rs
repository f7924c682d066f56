#![no_main]

#[path = "../../tests/fuzz_bodies/cookies.rs"]
mod cookies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| cookies::body(data));
