//! Backends that are faster than a client reads: the client gets everything, and a slow one holds no other up.

use crate::backend::{Backend, command, to};
use crate::client::{Client, Cookies};
use crate::server::{Server, Setup};
use std::time::{Duration, Instant};

const MESSAGES: usize = 9000;
const MESSAGE: [u8; 4000] = [b'x'; 4000];

/// Reads 36 MB at about 20 MB a second; returns the input, in bytes of payload and in messages.
fn read_slowly(client: &mut Client) -> (usize, usize) {
    let (begin, mut bytes, mut messages) = (Instant::now(), 0, 0);
    while bytes < MESSAGES * MESSAGE.len() {
        let frame = client.receive();
        bytes += frame.payload.len();
        messages += usize::from(frame.fin);
        let due = Duration::from_secs_f64(bytes as f64 / 20e6);
        std::thread::sleep(due.saturating_sub(begin.elapsed()));
    }
    (bytes, messages)
}

fn client(server: &Server) -> (Client, String) {
    let cookies = Cookies::fresh();
    (Client::with(server, &cookies), cookies.token)
}

#[test]
fn direct_messages_wait_for_a_client_that_reads() {
    let server = Setup::new().start();
    for letter in ['d', 'c', 'w', 'x'] {
        let (mut reader, token) = client(&server);
        let one = match letter {
            'd' | 'c' => to(letter, &token, MESSAGE),
            _ => command(letter, [format!("t:{token} ").as_bytes(), &MESSAGE].concat()),
        };
        let mut backend = Backend::connect(&server);
        std::thread::scope(|scope| {
            let reads = scope.spawn(|| read_slowly(&mut reader));
            for _ in 0..MESSAGES / 100 {
                backend.send(one.repeat(100));
                for _ in 0..if matches!(letter, 'c' | 'x') { 100 } else { 0 } {
                    match letter {
                        'c' => backend.expect('A', &token),
                        _ => backend.expect('X', r#"{"connections":1,"away":0,"absent":[],"refused":0}"#),
                    }
                }
            }
            assert_eq!(reads.join().unwrap(), (MESSAGES * MESSAGE.len(), MESSAGES));
        });
        backend.done();
    }
    assert_eq!(Backend::connect(&server).status().number("overflows"), 0);
}

#[test]
fn fragments_wait_for_a_client_that_reads() {
    let server = Setup::new().start();
    let (mut reader, token) = client(&server);
    let mut backend = Backend::connect(&server);
    backend.command('l', &token);
    backend.expect('A', &token);
    std::thread::scope(|scope| {
        let reads = scope.spawn(|| read_slowly(&mut reader));
        backend.fragment('f', MESSAGE, 'a');
        for _ in 0..MESSAGES - 2 {
            backend.send(command('i', MESSAGE));
            backend.expect('a', "");
        }
        backend.fragment('s', MESSAGE, 'a');
        assert_eq!(reads.join().unwrap(), (MESSAGES * MESSAGE.len(), 1));
    });
}

#[test]
fn a_client_that_reads_nothing_holds_a_backend_for_a_second_at_most() {
    let server = Setup::new().start();
    let (_stopped, token) = client(&server);
    let (mut other, lively) = client(&server);
    let mut backend = Backend::connect(&server);
    let begin = Instant::now();
    let flood = to('d', &token, MESSAGE).repeat(1000);
    std::thread::scope(|scope| {
        scope.spawn(|| backend.send([flood, to('d', &lively, "hi")].concat()));
        other.expect_text("hi");
    });
    assert!(begin.elapsed() < Duration::from_secs(3), "it took {:?}", begin.elapsed());
    assert_eq!(Backend::connect(&server).status().number("overflows"), 1);
}
