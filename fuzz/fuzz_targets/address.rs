#![no_main]

#[path = "../../tests/fuzz_bodies/address.rs"]
mod address;

libfuzzer_sys::fuzz_target!(|data: &[u8]| address::body(data));
