//! operations.md, "Process" and "Configuration": signals, sockets in the file system, starts that are refused.

use crate::backend::Backend;
use crate::client::{Client, Cookies, Head, close, fresh_token, now, refusal};
use crate::rig::{CONFIG, WSSON};
use crate::server::{Address, Setup, eventually, read};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn a_signal_to_end_says_goodbye_and_cleans_up() {
    for signal in ["TERM", "INT"] {
        let mut server = Setup::new().start();
        let mut clients: Vec<Client> = (0..5).map(|_| Client::connect(&server)).collect();
        assert!(server.path("wsson.pid").exists());
        server.signal(signal);
        for client in &mut clients {
            client.expect_close(1001, "going away");
            client.send(&close(1001, b""));
            client.expect_end();
        }
        assert_eq!(server.exit_code(), Some(0));
        for name in ["server0.sock", "control.sock", "wsson.pid"] {
            assert!(!server.path(name).exists(), "{name} was left behind");
        }
    }
}

/// The moments at which the clients are told, in thousandths of a second from now.
fn told(clients: &mut [Client]) -> Vec<u128> {
    let begin = Instant::now();
    thread::scope(|scope| {
        let waiting: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                scope.spawn(move || {
                    client.expect_close(1001, "going away");
                    let ms = begin.elapsed().as_millis();
                    client.send(&close(1001, b""));
                    client.expect_end();
                    ms
                })
            })
            .collect();
        let mut told: Vec<u128> = waiting.into_iter().map(|told| told.join().expect("it is told")).collect();
        told.sort_unstable();
        told
    })
}

#[test]
fn the_goodbyes_may_be_spread_over_a_time() {
    let mut server = Setup::new().timeout("drain_over = 2").start();
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(&server)).collect();
    let mut backend = Backend::connect(&server);
    server.signal("TERM");
    eventually("it is leaving", || server.log().contains("stopping clients=4 over=2"));
    // Nobody comes in, load balancers are told, backends are served.
    let refused = refusal(&server, &Head::good(&Cookies::fresh()).bytes());
    assert_eq!((refused.status, refused.field("Retry-After")), (503, Some("15")));
    assert_eq!(refusal(&server, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").status, 503);
    backend.command('b', "still here");
    clients[0].expect_text("still here");
    clients[1..].iter_mut().for_each(|client| client.expect_text("still here"));
    let told = told(&mut clients);
    // A half of a second lies between two; a busy machine takes some of it away. How evenly they are spread is for the
    // test beside the code.
    let gaps: Vec<u128> = told.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| *gap >= 100) && told[3] - told[0] >= 800, "{told:?}");
    assert_eq!(server.exit_code(), Some(0));
}

#[test]
fn stop_may_say_over_which_time() {
    let mut server = Setup::new().start();
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(&server)).collect();
    let config = server.path(CONFIG);
    server.will_end();
    let mut stop =
        Command::new(WSSON).args(["stop", "--over", "1.5", "-c"]).arg(config).spawn().expect("it runs");
    let told = told(&mut clients);
    assert!(told[2] - told[0] >= 800, "{told:?}");
    assert_eq!(server.exit_code(), Some(0));
    assert!(stop.wait().expect("our own child").success());
    assert!(server.log().contains("stopping clients=3 over=1.5"), "{}", server.log());
}

#[test]
fn a_second_signal_ends_the_patience() {
    let mut server = Setup::new().timeout("drain_over = 600").start();
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(&server)).collect();
    server.signal("TERM");
    eventually("it is leaving", || server.log().contains("stopping clients=3"));
    server.signal("TERM");
    told(&mut clients);
    assert_eq!(server.exit_code(), Some(0));
}

#[test]
fn messages_that_wait_are_sent_before_the_end() {
    let mut server = Setup::new().limit("outbox = 4000000").start();
    let mut client = Client::connect(&server);
    let mut backend = Backend::connect(&server);
    for _ in 0..3 {
        backend.confirm('c', &client.token.clone(), "x".repeat(900_000), 'A');
    }
    server.signal("TERM");
    for _ in 0..3 {
        assert_eq!(client.receive().payload.len(), 900_000);
    }
    client.expect_close(1001, "going away");
    drop(client);
    assert_eq!(server.exit_code(), Some(0));
}

#[test]
fn nobody_is_let_in_while_it_drains() {
    let mut server = Setup::new().tcp().timeout("drain = 20").start();
    let mut client = Client::connect(&server);
    server.signal("TERM");
    client.expect_close(1001, "going away");
    assert!(server.endpoints[0].connect().is_err(), "the endpoint still accepts");
    assert!(server.control.connect().is_err(), "the control socket still accepts");
    client.send(&close(1001, b""));
    client.expect_end();
    assert_eq!(server.exit_code(), Some(0));
}

#[test]
fn a_client_that_does_not_answer_delays_the_end_by_the_drain_time() {
    let mut server = Setup::new().timeout("drain = 0.5").timeout("close = 20").start();
    let mut client = Client::connect(&server);
    let begin = Instant::now();
    server.signal("TERM");
    client.expect_close(1001, "going away");
    assert_eq!(server.exit_code(), Some(0));
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_millis(480) && waited < Duration::from_secs(10), "{waited:?}");
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut server = Setup::new().timeout("drain = 3600").timeout("close = 3600").start();
    let mut client = Client::connect(&server);
    server.signal("TERM");
    client.expect_close(1001, "going away");
    server.signal("TERM");
    server.exit_code();
    client.expect_end();
}

#[test]
fn other_signals_do_not_end_it() {
    let mut server = Setup::new().start();
    let mut client = Client::connect(&server);
    for signal in ["HUP", "USR1", "USR2", "PIPE"] {
        server.signal(signal);
        Backend::connect(&server).done();
        client.expect_nothing();
    }
    assert!(server.is_running());
}

#[test]
fn usr2_writes_the_status_into_the_log_and_usr1_opens_it_again() {
    let mut server = Setup::new().top("log = \"./wsson.log\"").start();
    let (log, old) = (server.path("wsson.log"), server.path("wsson.log.1"));
    eventually("the log exists", || log.exists());
    server.signal("USR2");
    eventually("the status is in the log", || read(&log).contains("clients"));
    fs::rename(&log, &old).expect("the log can be moved");
    server.signal("USR1");
    eventually("the log exists again", || log.exists());
    server.signal("USR2");
    eventually("the status is in the new log", || read(&log).contains("clients"));
}

#[test]
fn a_reload_changes_settings_and_cuts_nobody() {
    let mut server = Setup::new().start();
    let mut client = Client::connect(&server);
    client.send_text("dropped");
    client.expect_nothing();
    let secret = "a-second-secret-3c5e71";
    server.rewrite_config(|setup| setup.echo().secret(&format!("secret = \"{secret}\"")));
    server.signal("HUP");
    eventually("the echo is on", || {
        client.send_text("echo?");
        !client.so_far().is_empty()
    });
    Client::with(&server, &Cookies::issued(secret, &fresh_token(), now())).expect_nothing();
    let old = crate::client::refusal(&server, &crate::client::Head::good(&Cookies::fresh()).bytes());
    assert_eq!(old.status, 403, "the old secret still opens the door");
}

#[test]
fn a_reload_of_a_bad_file_changes_nothing() {
    let mut server = Setup::new().echo().start();
    let mut client = Client::connect(&server);
    let before = server.log().len();
    fs::write(server.path("wsson.toml"), "on_message = \"drop\"\nno_such_key = 1\n").expect("writable");
    server.signal("HUP");
    eventually("the log says what is wrong", || server.log()[before..].contains("no_such_key"));
    client.send_text("still echoed");
    client.expect_text("still echoed");
    Client::connect(&server).expect_nothing();
}

#[test]
fn sockets_have_their_modes() {
    let server = Setup::new().start();
    let mode = |name: &str| fs::metadata(server.path(name)).expect("it exists").permissions().mode() & 0o777;
    assert_eq!(mode("server0.sock"), 0o666);
    assert_eq!(mode("control.sock"), 0o660);
    assert_eq!(mode("wsson.pid") & 0o022, 0, "others can write the PID file");
}

#[test]
fn the_pid_file_holds_the_pid() {
    let server = Setup::new().start();
    assert_eq!(read(&server.path("wsson.pid")).trim(), server.pid().to_string());
}

#[test]
fn a_dead_socket_is_replaced() {
    let setup = Setup::new();
    for name in ["server0.sock", "control.sock"] {
        drop(UnixListener::bind(setup.path(name)).expect("a socket that nobody answers on"));
        assert!(setup.path(name).exists());
    }
    let server = setup.start();
    Client::connect(&server).expect_nothing();
}

#[track_caller]
fn says(setup: &Setup, code: i32, words: &[&str]) {
    let (found, text) = setup.refuses_to_start();
    assert_eq!(found, code, "{text}");
    assert!(text.lines().any(|line| line.starts_with("wsson: ")), "not `wsson: what happened: why`: {text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
    assert!(!text.contains("panicked") && !text.contains("os error"), "{text}");
}

#[test]
fn a_socket_that_a_live_server_answers_on_is_refused() {
    for name in ["server0.sock", "control.sock"] {
        let setup = Setup::new();
        let _other = UnixListener::bind(setup.path(name)).expect("a socket");
        says(&setup, 1, &[name]);
        assert!(setup.path(name).exists(), "the other server's socket is gone");
    }
}

#[test]
fn a_regular_file_is_never_replaced() {
    for name in ["server0.sock", "control.sock"] {
        let setup = Setup::new();
        fs::write(setup.path(name), "precious").expect("writable");
        says(&setup, 1, &[name]);
        assert_eq!(read(&setup.path(name)), "precious");
    }
}

#[test]
fn an_occupied_port_is_named() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = other.local_addr().expect("its address").port();
    let setup = Setup::new().endpoint(Address::Tcp(port));
    says(&setup, 1, &[&format!("127.0.0.1:{port}")]);
    assert!(!setup.path("control.sock").exists(), "a socket was left behind");
}

#[test]
fn the_pid_file_locks_out_a_second_server() {
    let first = Setup::new().start();
    let second = Setup::new();
    fs::hard_link(first.path("wsson.pid"), second.path("wsson.pid")).expect("both folders are on one disk");
    let (code, text) = second.refuses_to_start();
    assert_ne!(code, 0, "{text}");
    assert!(text.contains("wsson: "), "{text}");
    assert_eq!(
        read(&first.path("wsson.pid")).trim(),
        first.pid().to_string(),
        "the victim's number was changed"
    );
    Client::connect(&first).expect_nothing();
}

#[test]
fn a_pid_file_that_is_a_link_is_refused() {
    let setup = Setup::new();
    let victim = setup.path("victim");
    fs::write(&victim, "precious").expect("writable");
    std::os::unix::fs::symlink(&victim, setup.path("wsson.pid")).expect("a link");
    let (code, text) = setup.refuses_to_start();
    assert_ne!(code, 0, "{text}");
    assert_eq!(read(&victim), "precious");
}

#[test]
fn bad_configurations_are_refused_with_a_place() {
    says(&Setup::new().top("colour = \"red\""), 6, &["colour", "line 6"]);
    says(&Setup::new().top("on_message = \"ecco\""), 6, &["on_message"]);
    says(&Setup::new().limit("message = -1"), 6, &["message"]);
    says(&Setup::new().timeout("idle = 0"), 6, &["idle"]);
    says(&Setup::new().secret("secret = \"short\""), 6, &["secret"]);
    says(&Setup::new().secret(""), 6, &["secret"]);
    says(&Setup::new().secret("secret = \"eyZsz5dJDg28oNr385YjG4UQasx7D4q9\""), 6, &["secret"]);
}

#[test]
fn a_secret_that_others_may_read_is_refused() {
    let setup = Setup::new().secret("secret_file = \"secret\"");
    let file = setup.path("secret");
    fs::write(&file, "integration-tests-only-1f7c0e\n").expect("writable");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("its mode can be set");
    let (code, text) = setup.refuses_to_start();
    assert_eq!(code, 6, "{text}");
    assert!(text.contains("wsson: ") && text.contains("secret"), "{text}");
}

#[test]
fn a_secret_may_be_in_a_file_of_its_own() {
    let setup = Setup::new().secret("secret_file = \"secret\"");
    let file = setup.path("secret");
    fs::write(&file, "integration-tests-only-1f7c0e\n").expect("writable");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("its mode can be set");
    let server = setup.start();
    Client::connect(&server).expect_nothing();
}
