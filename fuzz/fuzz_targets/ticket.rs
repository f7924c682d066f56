#![no_main]

#[path = "../../tests/fuzz_bodies/ticket.rs"]
mod ticket;

libfuzzer_sys::fuzz_target!(|data: &[u8]| ticket::body(data));
