//! Sends every message to everybody, and tells all how many are there when that changes.
//!
//! `cargo run --example broadcast`, then open <http://127.0.0.1:8099/> in two tabs, which say that this speaks WebSocket,
//! and in the console of each: `s = new WebSocket("ws://127.0.0.1:8099/"); s.onmessage = e => console.log(e.data)`, and
//! in one `s.send("hi")`. Another page may not do: browsers keep public ones away from your own machine.
//!
//! Another address than this one can be given: `cargo run --example broadcast tcp://127.0.0.1:9000`

use wsson::Kind;
use wsson::{ClientId, Handler, Hub, Identity, Refusal, Request, Server, Settings};

struct Broadcast;

impl Handler for Broadcast {
    // An example trusts everybody; leave both of these out and the signed cookies decide.
    fn check_origin(&mut self, _: &Hub, _: &str) -> bool {
        true
    }

    fn authorize<'r>(&mut self, _: &Hub, request: &'r Request<'r>) -> Result<Identity<'r>, Refusal> {
        wsson::anybody(request)
    }

    fn on_handshake(&mut self, hub: &mut Hub, _: ClientId) {
        tell_how_many(hub);
    }

    fn on_text_message(&mut self, hub: &mut Hub, _: ClientId, text: &str) {
        hub.send_broadcast(Kind::Text, text.as_bytes());
    }

    fn on_binary_message(&mut self, hub: &mut Hub, _: ClientId, data: &[u8]) {
        hub.send_broadcast(Kind::Binary, data);
    }

    fn on_close(&mut self, hub: &mut Hub, _: ClientId) {
        tell_how_many(hub);
    }
}

fn tell_how_many(hub: &mut Hub) {
    let text = format!("{} here", hub.clients());
    hub.send_broadcast(Kind::Text, text.as_bytes());
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or("tcp://127.0.0.1:8099".into());
    let control = std::env::temp_dir().join(format!("wsson-broadcast-{}.sock", std::process::id()));
    let settings = Settings {
        servers: vec![address],
        control: vec![format!("unix://{}", control.display())],
        ..Settings::default()
    };
    let mut server = Server::bind(&settings, Broadcast)?;
    server.handle_signals()?;
    println!("broadcast on {}", server.addresses().next().unwrap_or_default());
    Ok(server.run()?)
}
