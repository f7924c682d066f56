#![no_main]

#[path = "../../tests/fuzz_bodies/proxy.rs"]
mod proxy;

libfuzzer_sys::fuzz_target!(|data: &[u8]| proxy::body(data));
