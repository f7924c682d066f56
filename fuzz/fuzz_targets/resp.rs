#![no_main]

#[path = "../../tests/fuzz_bodies/resp.rs"]
mod resp;

libfuzzer_sys::fuzz_target!(|data: &[u8]| resp::body(data));
