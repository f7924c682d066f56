//! Several processes on one port (`reuseport = true`): each has clients of its own, and a control socket of its own.

use crate::backend::Backend;
use crate::client::Client;
use crate::server::{Address, Server, Setup, free_port};

/// This many, so that all of them in one process is as likely as heads 48 times in a row.
const CLIENTS: usize = 48;

fn on(port: u16) -> Setup {
    Setup::new().listeners(0).endpoint(Address::Tcp(port)).top("reuseport = true")
}

/// The site's two processes on one port.
fn two() -> [Server; 2] {
    let port = free_port();
    [on(port).start(), on(port).start()]
}

/// Whether the process has this client: a confirmed message asks.
fn holds(backend: &mut Backend, client: &Client) -> bool {
    backend.to('c', &client.token, "here?");
    let (answer, token) = backend.receive();
    assert_eq!(token, client.token);
    assert!("AN".contains(answer), "{answer}");
    answer == 'A'
}

/// Connects to the port and sorts the clients by the process that got them; each has read the message that asked.
fn spread(servers: &[Server; 2], backends: &mut [Backend; 2]) -> [Vec<Client>; 2] {
    let mut of = [Vec::new(), Vec::new()];
    for _ in 0..CLIENTS {
        let mut client = Client::connect(&servers[0]);
        let held = backends.each_mut().map(|backend| holds(backend, &client));
        assert!(held[0] != held[1], "held by {held:?}: one process has it, the other answers N");
        client.expect_text("here?");
        of[usize::from(held[1])].push(client);
    }
    of
}

#[test]
fn two_processes_share_a_port_and_each_has_its_own_clients() {
    let servers = two();
    assert_eq!(servers[0].endpoints, servers[1].endpoints);
    let mut backends = servers.each_ref().map(Backend::connect);
    let mut of = spread(&servers, &mut backends);
    assert!(of.iter().all(|clients| !clients.is_empty()), "one process got every connection");
    for (backend, clients) in backends.iter_mut().zip(&of) {
        assert_eq!(backend.status().number("accepted"), clients.len() as u64, "status counts its own");
    }

    // A broadcast stays in its process; sent to both, it reaches every client once.
    backends[0].command('b', "to one");
    backends[0].done();
    of[0].iter_mut().for_each(|client| client.expect_text("to one"));
    of[1].iter_mut().for_each(Client::expect_nothing);
    for backend in &mut backends {
        backend.command('b', "to all");
        backend.done();
    }
    for client in of.iter_mut().flatten() {
        client.expect_text("to all");
        client.expect_nothing();
    }
}

#[test]
fn m_knows_the_load_of_its_own_process_only() {
    let port = free_port();
    let names = ["one.example.com", "two.example.com"];
    let servers = names.map(|name| on(port).top(&format!("domains = [\"{name}\"]")).start());
    let mut backends = servers.each_ref().map(Backend::connect);
    let clients = spread(&servers, &mut backends);
    for ((backend, name), clients) in backends.iter_mut().zip(names).zip(clients) {
        backend.send("0m");
        backend.expect('M', name);
        assert_eq!(
            backend.status().numbers("clients"),
            [clients.len() as u64; 2],
            "of the listener and in all"
        );
    }
}

#[test]
fn who_connects_after_one_process_ended_gets_the_other() {
    let [mut first, second] = two();
    first.signal("TERM");
    assert_eq!(first.exit_code(), Some(0));
    let mut backend = Backend::connect(&second);
    for _ in 0..CLIENTS {
        let mut client = Client::connect(&second);
        assert!(holds(&mut backend, &client), "nobody else is there to have it");
        client.expect_text("here?");
    }
}

#[test]
fn without_the_option_the_port_is_taken() {
    let port = free_port();
    let first = on(port).start();
    let plain = Setup::new().listeners(0).endpoint(Address::Tcp(port));
    let (code, said) = plain.refuses_to_start();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&format!("127.0.0.1:{port}")), "{said}");
    Client::connect(&first).expect_nothing();
}
