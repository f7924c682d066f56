#![no_main]

#[path = "../../tests/fuzz_bodies/utf8.rs"]
mod utf8;

libfuzzer_sys::fuzz_target!(|data: &[u8]| utf8::body(data));
