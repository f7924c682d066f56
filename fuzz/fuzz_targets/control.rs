#![no_main]

#[path = "../../tests/fuzz_bodies/control.rs"]
mod control;

libfuzzer_sys::fuzz_target!(|data: &[u8]| control::body(data));
