#![no_main]

#[path = "../../tests/fuzz_bodies/server.rs"]
mod server;

libfuzzer_sys::fuzz_target!(|data: &[u8]| server::body(data));
