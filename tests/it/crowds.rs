//! Many connections at once: strangers that wait, those that were refused, browsers that come back all together, a
//! process that was stopped.

use crate::backend::Backend;
use crate::client::{Client, Cookies, Head, PING, PONG, frame, fresh_token, refusal};
use crate::server::{Server, Setup, eventually};
use std::time::{Duration, Instant};

/// A handshake that follows at once.
#[track_caller]
fn handshake_takes(server: &Server, less_than: Duration) {
    let begin = Instant::now();
    let _client = Client::connect(server);
    assert!(begin.elapsed() < less_than, "a handshake took {:?}", begin.elapsed());
}

const AT_ONCE: Duration = Duration::from_secs(1);

#[test]
fn refused_connections_that_stay_make_room() {
    // Each would keep its slot for `timeouts.close`.
    let server = Setup::new().limit("clients = 20").timeout("close = 60").start();
    let mut staying = Vec::new();
    for _ in 0..10 {
        for _ in 0..20 {
            let mut socket = server.connect();
            socket.send(b"\0");
            staying.push(socket);
        }
        handshake_takes(&server, AT_ONCE);
    }
}

#[test]
fn silent_strangers_do_not_keep_browsers_out_of_an_almost_full_server() {
    let server = Setup::new()
        .limit("clients = 100")
        .timeout("handshake = 60")
        .limit("connections_per_token = 1000")
        .start();
    let cookies = Cookies::fresh();
    let _open: Vec<Client> = (0..80).map(|_| Client::with(&server, &cookies)).collect();
    let _silent: Vec<_> = (0..600).map(|_| server.connect()).collect();
    for _ in 0..10 {
        handshake_takes(&server, AT_ONCE);
    }
}

#[test]
fn a_mass_reconnect_is_let_in_at_the_first_attempt() {
    let server = Setup::new().limit("clients = 400").timeout("handshake = 30").start();
    let _slowloris: Vec<_> = (0..150).map(|_| server.connect()).collect();
    // Phones: all connect within a moment, and their request follows after 600 ms.
    let phones: Vec<_> = (0..300).map(|_| (server.connect(), fresh_token())).collect();
    std::thread::sleep(Duration::from_millis(600));
    let mut clients = Vec::new();
    for (socket, token) in phones {
        let mut client = Client::raw(socket, &token);
        client
            .send(&Head::good(&Cookies::issued(crate::server::SECRET, &token, crate::client::now())).bytes());
        clients.push(client);
    }
    for client in &mut clients {
        client.expect_upgrade();
    }
    Backend::connect(&server).send("5bhello");
    clients.iter_mut().for_each(|client| client.expect_text("hello"));
}

#[test]
fn of_the_silent_the_oldest_goes_when_it_has_had_its_second() {
    let server = Setup::new().limit("unauthenticated = 3").timeout("handshake = 60").start();
    let begin = Instant::now();
    let mut silent: Vec<_> = (0..4).map(|_| server.connect()).collect();
    assert_eq!(silent[0].read_all(), b"", "dropped, not answered");
    assert!(begin.elapsed() > Duration::from_millis(950), "dropped after {:?}", begin.elapsed());
    assert_eq!(refusal(&server, b"no HTTP\r\n\r\n").status, 400, "accepting goes on");
}

#[test]
fn clients_that_broadcast_wait_for_each_other() {
    let mut server = Setup::new().top("on_message = \"broadcast\"").start();
    let mut clients: Vec<Client> = (0..70).map(|_| Client::connect(&server)).collect();
    let message = vec![b'x'; 60_000];
    // The server stands still while sixty speak, so that all of it is there in one turn.
    server.signal("STOP");
    for speaker in &mut clients[..60] {
        speaker.send(&frame(0x81, &message));
    }
    server.signal("CONT");
    std::thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| {
                for _ in 0..60 {
                    assert_eq!(client.receive().payload.len(), message.len());
                }
            });
        }
    });
    let status = Backend::connect(&server).status();
    assert_eq!((status.number("clients"), status.number("overflows")), (70, 0));
}

#[test]
fn a_pause_of_the_process_closes_nobody() {
    let mut server = Setup::new()
        .timeout("idle = 0.5")
        .timeout("pong = 0.5")
        .timeout("handshake = 1")
        .timeout("control = 1")
        .timeout("close = 0.5")
        .start();
    let mut client = Client::connect(&server);
    let mut backend = Backend::connect(&server);
    backend.done();
    // One that is asked while the process stands still, and one that shows its request meanwhile.
    assert_eq!(client.receive().opcode, PING);
    let mut newcomer = server.connect();
    std::thread::sleep(Duration::from_millis(50));
    server.signal("STOP");
    client.send(&frame(0x80 | PONG, b""));
    let token = fresh_token();
    newcomer.send(&Head::good(&Cookies::issued(crate::server::SECRET, &token, crate::client::now())).bytes());
    std::thread::sleep(Duration::from_secs(3));
    server.signal("CONT");
    let mut newcomer = Client::raw(newcomer, &token);
    newcomer.expect_upgrade();
    assert_eq!(backend.receive(), ('p', String::new()), "it is asked, and not taken for dead");
    backend.confirm('c', &token, "hi", 'A');
    assert!(!server.log().contains("reason=silent"), "{}", server.log());
    for _ in 0..2 {
        let ping = client.receive();
        assert_eq!(ping.opcode, PING, "{ping:?}");
        client.send(&frame(0x80 | PONG, &ping.payload));
    }
    eventually("the end of the others is still seen", || server.log().contains("dropped reason=silent"));
}
