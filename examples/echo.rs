//! Sends every message back to the client it came from.
//!
//! `cargo run --example echo`, then open <http://127.0.0.1:8099/>, which says that this speaks WebSocket, and in its console:
//! `s = new WebSocket("ws://127.0.0.1:8099/"); s.onmessage = e => console.log(e.data); s.onopen = () => s.send("hi")`
//! Another page may not do: browsers keep public ones away from your own machine.
//!
//! Another address than this one can be given: `cargo run --example echo tcp://127.0.0.1:9000`

use wsson::Kind;
use wsson::{ClientId, Handler, Hub, Identity, Refusal, Request, Server, Settings};

struct Echo;

impl Handler for Echo {
    // An example trusts everybody; leave both of these out and the signed cookies decide.
    fn check_origin(&mut self, _: &Hub, _: &str) -> bool {
        true
    }

    fn authorize<'r>(&mut self, _: &Hub, request: &'r Request<'r>) -> Result<Identity<'r>, Refusal> {
        wsson::anybody(request)
    }

    fn on_text_message(&mut self, hub: &mut Hub, id: ClientId, text: &str) {
        hub.send_direct(id, Kind::Text, text.as_bytes());
    }

    fn on_binary_message(&mut self, hub: &mut Hub, id: ClientId, data: &[u8]) {
        hub.send_direct(id, Kind::Binary, data);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or("tcp://127.0.0.1:8099".into());
    let control = std::env::temp_dir().join(format!("wsson-echo-{}.sock", std::process::id()));
    let settings = Settings {
        servers: vec![address],
        control: vec![format!("unix://{}", control.display())],
        ..Settings::default()
    };
    let mut server = Server::bind(&settings, Echo)?;
    server.handle_signals()?;
    println!("echo on {}", server.addresses().next().unwrap_or_default());
    Ok(server.run()?)
}
