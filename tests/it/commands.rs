//! COMMANDS.md, "Commands" and "Rules": each command, its reply, and its receivers.

use crate::backend::{Backend, Status, command};
use crate::client::{BINARY, Client, Cookies, Frame, close, fresh_token};
use crate::server::{Server, Setup, eventually};

fn one_each() -> (Server, Client, Backend) {
    let server = Setup::new().start();
    let client = Client::connect(&server);
    let backend = Backend::connect(&server);
    (server, client, backend)
}

#[test]
fn broadcast_reaches_every_open_client() {
    let server = Setup::new().start();
    let mut clients: Vec<Client> = (0..10).map(|_| Client::connect(&server)).collect();
    let mut backend = Backend::connect(&server);
    backend.send("5bHello");
    backend.send(command('B', [0, 255, 128]));
    backend.send("0b");
    backend.done();
    for client in &mut clients {
        client.expect_text("Hello");
        client.expect(&Frame::binary(&[0, 255, 128]));
        client.expect_text("");
    }
}

#[test]
fn broadcast_does_not_reach_who_has_not_logged_in_or_has_left() {
    let (server, mut client, mut backend) = one_each();
    let mut stranger = server.connect();
    let mut leaving = Client::connect(&server);
    leaving.send(&close(1000, b""));
    leaving.expect_close_code(1000);
    backend.send("5bHello");
    backend.done();
    client.expect_text("Hello");
    leaving.expect_end();
    stranger.send(b"x\r\n\r\n");
    assert!(!String::from_utf8_lossy(&stranger.read_all()).contains("Hello"));
}

#[test]
fn direct_reaches_every_connection_of_its_token_and_nobody_else() {
    let server = Setup::new().start();
    let cookies = Cookies::fresh();
    let (mut one, mut two) = (Client::with(&server, &cookies), Client::with(&server, &cookies));
    let mut other = Client::connect(&server);
    let mut backend = Backend::connect(&server);
    backend.to('d', &cookies.token, "text");
    backend.to('D', &cookies.token, [0, 255]);
    backend.to('d', &cookies.token, "");
    backend.to('D', &fresh_token(), "nobody");
    backend.done();
    for client in [&mut one, &mut two] {
        client.expect_text("text");
        client.expect(&Frame::binary(&[0, 255]));
        client.expect_nothing();
    }
    other.expect_nothing();
}

#[test]
fn confirmed_direct_tells_whether_it_was_taken() {
    let (_server, mut client, mut backend) = one_each();
    let token = client.token.clone();
    backend.confirm('c', &token, "text", 'A');
    backend.confirm('C', &token, [0, 255], 'A');
    backend.confirm('c', &token, "", 'A');
    backend.confirm('C', &token, "", 'A');
    let nobody = fresh_token();
    for (letter, message) in [('c', "text"), ('C', "binary"), ('c', ""), ('C', "")] {
        backend.confirm(letter, &nobody, message, 'N');
    }
    client.expect_text("text");
    client.expect(&Frame::binary(&[0, 255]));
    client.expect_nothing();
    client.send(&close(1000, b""));
    client.expect_close_code(1000);
    client.expect_end();
    backend.confirm('c', &token, "too late", 'N');
}

#[test]
fn a_token_in_another_case_is_another_token() {
    let (_server, mut client, mut backend) = one_each();
    let upper = client.token.to_uppercase();
    assert_ne!(upper, client.token);
    backend.confirm('c', &upper, "text", 'N');
    client.expect_nothing();
}

#[test]
fn messages_arrive_in_the_order_of_the_commands() {
    let (_server, mut client, mut backend) = one_each();
    let token = client.token.clone();
    for index in 0..300 {
        match index % 3 {
            0 => backend.command('b', index.to_string()),
            1 => backend.to('d', &token, index.to_string()),
            _ => backend.confirm('c', &token, index.to_string(), 'A'),
        }
    }
    for index in 0..300 {
        client.expect_text(&index.to_string());
    }
}

#[test]
fn large_messages_arrive_whole() {
    let (_server, mut client, mut backend) = one_each();
    let token = client.token.clone();
    for length in [125, 126, 65_535, 65_536, 1_000_000] {
        let message = "m".repeat(length);
        // The replies wait behind nothing: wsson owns the message before the browser reads it.
        backend.confirm('c', &token, &message, 'A');
        client.expect_text(&message);
    }
}

#[test]
fn text_that_is_not_utf8_is_never_sent() {
    let (server, mut client, mut backend) = one_each();
    let token = client.token.clone();
    for bad in [&b"\xff"[..], b"cut \xe2\x82", b"\xed\xa0\x80", b"\xc0\x80"] {
        backend.confirm('c', &token, bad, 'N');
        let mut broadcasting = Backend::connect(&server);
        broadcasting.command('b', bad);
        broadcasting.send("5bHello");
        broadcasting.expect_error();
        let mut directing = Backend::connect(&server);
        directing.to('d', &token, bad);
        directing.send("5bHello");
        directing.expect_error();
        backend.confirm('C', &token, bad, 'A');
        client.expect(&Frame::binary(bad));
    }
    client.expect_nothing();
}

#[test]
fn ping_is_answered_and_pong_is_not() {
    let (_server, _client, mut backend) = one_each();
    backend.send("0P0p0P3pabc3Pabc0p");
    (0..3).for_each(|_| backend.expect('P', ""));
    backend.done();
}

#[test]
fn quit_flushes_and_closes() {
    let server = Setup::new().start();
    for quit in ["0q", "0Q", "3qbye"] {
        let mut client = Client::connect(&server);
        let mut backend = Backend::connect(&server);
        backend.send(format!("0p0p1b!{quit}5bHello0p"));
        backend.expect('P', "");
        backend.expect('P', "");
        backend.expect_end();
        client.expect_text("!");
        client.expect_nothing();
    }
}

#[test]
fn payload_of_a_command_that_takes_none_is_ignored() {
    let (_server, _client, mut backend) = one_each();
    backend.send("5t5bABC4m0000");
    assert_eq!(backend.receive().0, 'T');
    assert_eq!(backend.receive().0, 'M');
    backend.done();
}

#[test]
fn the_freest_listener_is_named() {
    let server =
        Setup::new().listeners(2).top("domains = [\"ws1.example.com:80\", \"ws2.example.com:80\"]").start();
    let mut backend = Backend::connect(&server);
    let on = |index: usize| {
        let cookies = Cookies::fresh();
        let socket = server.endpoints[index].connect().expect("it listens");
        let mut client = Client::raw(socket, &cookies.token);
        client.send(&crate::client::Head::good(&cookies).bytes());
        client.expect_upgrade();
        client
    };
    let _first = on(0);
    backend.send("0m");
    backend.expect('M', "ws2.example.com:80");
    let _second = on(1);
    let third = on(1);
    backend.send("0m");
    backend.expect('M', "ws1.example.com:80");
    let _fourth = on(0);
    let _fifth = on(0);
    backend.send("0m");
    backend.expect('M', "ws2.example.com:80");
    drop(third);
    eventually("the freest is still named", || {
        backend.send("0m");
        backend.receive().1 == "ws2.example.com:80"
    });
}

#[test]
fn without_domains_the_listeners_own_address_is_named() {
    for setup in [Setup::new(), Setup::new().tcp()] {
        let server = setup.start();
        let mut backend = Backend::connect(&server);
        backend.send("0m");
        let (letter, address) = backend.receive();
        let url = server.endpoints[0].url();
        let bare = url.split_once("://").expect("a scheme").1;
        assert!(letter == 'M' && address.ends_with(bare), "{letter} {address}, not {url}");
    }
}

#[test]
fn status_counts_and_adds_up() {
    let (server, mut client, mut backend) = one_each();
    let adds_up = |status: &Status| {
        let accepted = status.numbers("accepted");
        let (accepted, listeners) = accepted.split_last().expect("all together, and each");
        assert_eq!(listeners.iter().sum::<u64>(), *accepted, "{status:?}");
        let open = status.number("clients") + status.number("unauthenticated");
        *accepted == open + status.sum("closed") + status.sum("refused")
    };
    let before = backend.status();
    assert_eq!(before.number("clients"), 1, "{before:?}");
    assert_eq!(before.number("pid"), u64::from(server.pid()));
    assert_eq!(before.number("backends"), 1, "{before:?}");
    backend.send("2bhi");
    backend.to('d', &client.token, "hi");
    client.expect_text("hi");
    client.expect_text("hi");
    client.send_text("hello");
    client.expect_nothing();
    let after = backend.status();
    let grew = |field: &str| after.number(field) - before.number(field);
    assert_eq!((grew("broadcasts"), grew("directs")), (1, 1), "{after:?}");
    assert_eq!((grew("messages_in"), grew("messages_out")), (1, 2), "{after:?}");
    assert!(grew("bytes_in") >= 11 && grew("bytes_out") >= 8, "{after:?}");
    client.send(&close(4000, b""));
    client.expect_close_code(4000);
    client.expect_end();
    drop(Client::connect(&server));
    crate::client::refusal(&server, b"x\r\n\r\n");
    eventually("everyone is gone", || {
        let status = backend.status();
        status.number("clients") == 0 && status.number("closing") == 0
    });
    let status = backend.status();
    assert!(adds_up(&status), "accepted is not open + closed + refused: {status:?}");
    assert!((1..=2).contains(&status.number("clients_peak")), "{status:?}");
    for field in ["uptime_s", "locks", "queued_bytes", "overflows", "errors", "rss_bytes", "fds", "fds_max"] {
        status.number(field);
    }
    assert!(status.0.contains("\"version\""), "{status:?}");
}

#[test]
fn a_frame_is_what_the_command_says_whatever_it_holds() {
    let (_server, mut client, mut backend) = one_each();
    backend.send(command('B', "5bHello"));
    backend.done();
    client.expect(&Frame::part(true, BINARY, b"5bHello"));
    client.expect_nothing();
}
