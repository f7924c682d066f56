//! Sends lines typed on the terminal to all browsers, from a thread of their own, and prints what browsers send.
//! The end of the input (Ctrl-D) ends it.
//!
//! `cargo run --example terminal`, then open <http://127.0.0.1:8099/>, which says that this speaks WebSocket, and in its console:
//! `s = new WebSocket("ws://127.0.0.1:8099/"); s.onmessage = e => console.log(e.data); s.onopen = () => s.send("hi")`
//! Another page may not do: browsers keep public ones away from your own machine.
//!
//! Another address than this one can be given: `cargo run --example terminal tcp://127.0.0.1:9000`

use std::io;
use std::thread;
use std::time::Duration;
use wsson::Kind;
use wsson::RemoteError;
use wsson::{ClientId, Handler, Hub, Identity, Refusal, Remote, Request, Server, Settings};

struct Terminal;

impl Handler for Terminal {
    // An example trusts everybody; leave both of these out and the signed cookies decide.
    fn check_origin(&mut self, _: &Hub, _: &str) -> bool {
        true
    }

    fn authorize<'r>(&mut self, _: &Hub, request: &'r Request<'r>) -> Result<Identity<'r>, Refusal> {
        wsson::anybody(request)
    }

    fn on_text_message(&mut self, _: &mut Hub, _: ClientId, text: &str) {
        // A browser must not control the terminal: escape sequences are shown, not sent.
        println!("< {}", text.escape_debug());
    }

    fn on_binary_message(&mut self, _: &mut Hub, _: ClientId, data: &[u8]) {
        println!("< {} bytes", data.len());
    }
}

/// Sends each line; then it ends the server.
fn read_lines(remote: &Remote) {
    for line in io::stdin().lines().map_while(Result::ok) {
        send(remote, &line);
    }
    while remote.drain() == Err(RemoteError::Full) {
        thread::sleep(Duration::from_millis(10));
    }
}

/// Lines from a file come faster than they can be sent: those that find no room wait.
fn send(remote: &Remote, line: &str) {
    while remote.send_broadcast(Kind::Text, line.as_bytes().to_vec()) == Err(RemoteError::Full) {
        thread::sleep(Duration::from_millis(10));
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or("tcp://127.0.0.1:8099".into());
    let control = std::env::temp_dir().join(format!("wsson-terminal-{}.sock", std::process::id()));
    let settings = Settings {
        servers: vec![address],
        control: vec![format!("unix://{}", control.display())],
        ..Settings::default()
    };
    let mut server = Server::bind(&settings, Terminal)?;
    server.handle_signals()?;
    println!("terminal on {}", server.addresses().next().unwrap_or_default());
    let remote = server.remote();
    thread::spawn(move || read_lines(&remote));
    Ok(server.run()?)
}
