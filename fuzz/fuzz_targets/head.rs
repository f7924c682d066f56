#![no_main]

#[path = "../../tests/fuzz_bodies/head.rs"]
mod head;

libfuzzer_sys::fuzz_target!(|data: &[u8]| head::body(data));
