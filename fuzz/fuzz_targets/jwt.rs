#![no_main]

#[path = "../../tests/fuzz_bodies/jwt.rs"]
mod jwt;

libfuzzer_sys::fuzz_target!(|data: &[u8]| jwt::body(data));
