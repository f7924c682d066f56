#![no_main]

#[path = "../../tests/fuzz_bodies/sends.rs"]
mod sends;

libfuzzer_sys::fuzz_target!(|data: &[u8]| sends::body(data));
