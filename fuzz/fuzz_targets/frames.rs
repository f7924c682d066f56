#![no_main]

#[path = "../../tests/fuzz_bodies/frames.rs"]
mod frames;

libfuzzer_sys::fuzz_target!(|data: &[u8]| frames::body(data));
