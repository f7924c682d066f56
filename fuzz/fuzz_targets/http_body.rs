#![no_main]

#[path = "../../tests/fuzz_bodies/http_body.rs"]
mod http_body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| http_body::body(data));
