//! operations.md, `tls://` listeners: two versions of TLS, cut records, clean ends, other protocols on the port,
//! handshakes that stall, new certificates, and starts that are refused.

use crate::server::Setup;
#[cfg(feature = "tls")]
use crate::server::{Address, free_port};

/// A certificate is of no use to a wsson that was built without TLS, and this is said before anything else.
#[cfg(not(feature = "tls"))]
#[test]
fn without_tls_it_does_not_start() {
    let (code, told) = Setup::new().tls("curve").refuses_to_start();
    assert_eq!(code, 6, "{told}");
    assert!(told.contains("was built without TLS"), "{told}");
}

#[cfg(feature = "tls")]
#[test]
fn a_certificate_must_be_named() {
    let setup = Setup::new().endpoint(Address::Tls(free_port()));
    let (code, told) = setup.refuses_to_start();
    assert_eq!(code, 6, "{told}");
    assert!(told.contains("a tls:// listener"), "{told}");
}

#[cfg(feature = "tls")]
mod with_tls {
    use crate::backend::Backend;
    use crate::client::{CLOSE, Client, Cookies, Frame, Head, PING, Response, close, frame};
    use crate::secure::{TLS12, TLS13, Tls, trusting};
    use crate::server::{PATIENCE, Server, Setup, Socket, data, eventually};
    use std::fs;
    use std::io::{Read, Write};
    use std::time::{Duration, Instant};

    /// A socket to the TLS port that speaks as the test wants.
    #[track_caller]
    fn bare(server: &Server) -> Socket {
        server.endpoints[0].connect().expect("the TLS port accepts")
    }

    #[track_caller]
    fn refused_with(server: &Server, rule: &str) {
        eventually(rule, || server.log().contains(&format!("refused rule={rule} ")));
    }

    #[test]
    fn both_versions_and_both_kinds_of_keys() {
        for certificate in ["curve", "rsa"] {
            let server = Setup::new().tls(certificate).echo().start();
            for versions in [TLS12, TLS13] {
                let config = trusting(versions);
                let mut client = Tls::connect(&server, &config).open();
                client.send_text("through TLS");
                client.expect_text("through TLS");
                client.send(&frame(0x80 | PING, b"there?"));
                client.expect_pong(b"there?");
                let mut backend = Backend::connect(&server);
                backend.command('b', "to all");
                client.expect_text("to all");
                client.send(&close(1000, b"bye"));
                client.expect_close(1000, "");
                client.expect_end(); // an end without close_notify would be an error
            }
        }
    }

    #[test]
    fn a_session_is_resumed_by_its_ticket() {
        let server = Setup::new().tls("curve").start();
        for versions in [TLS12, TLS13] {
            let config = trusting(versions);
            let mut first = Tls::connect(&server, &config);
            first.shake_hands().expect("a handshake");
            assert!(!first.resumed() && first.shows("curve"));
            // The ticket of TLS 1.3 comes behind the handshake, here before the answer.
            first.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("the server reads");
            first.read_to_end(&mut Vec::new()).expect("a clean end");
            let mut second = Tls::connect(&server, &config);
            second.shake_hands().expect("a handshake");
            assert!(second.resumed());
            second.open();
        }
    }

    /// Where every reload made a new key for tickets, each was a full handshake for every client.
    #[test]
    fn tickets_outlive_a_reload_while_the_certificate_stays() {
        let mut server = Setup::new().tls("curve").start();
        let config = trusting(TLS13);
        let visit = |server: &Server| {
            let mut tls = Tls::connect(server, &config);
            tls.shake_hands().expect("a handshake");
            tls.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("the server reads");
            tls.read_to_end(&mut Vec::new()).expect("a clean end");
            tls.resumed()
        };
        assert!(!visit(&server));
        server.signal("HUP");
        eventually("it is reloaded", || server.log().contains("reloaded applied=none "));
        assert!(visit(&server), "the same certificate, the same key for tickets");
        server.setup.install("rsa");
        server.signal("HUP");
        eventually("it has another certificate", || server.log().contains("reloaded applied=tls "));
        assert!(!visit(&server), "another certificate, another key");
    }

    #[test]
    fn records_may_come_byte_by_byte() {
        let server = Setup::new().tls("rsa").echo().start();
        for versions in [TLS12, TLS13] {
            let mut tls = Tls::connect(&server, &trusting(versions));
            tls.step = 1;
            let mut client = tls.open();
            client.send_text(&"drop by drop ".repeat(20));
            client.expect_text(&"drop by drop ".repeat(20));
        }
    }

    /// The bytes that a stream keeps of a request count as input before the login and as queued bytes after it. Counted
    /// as both, or given back where it was never counted, each such client would shift the limits for all.
    #[test]
    fn a_request_in_pieces_is_counted_once() {
        let server = Setup::new().tls("curve").echo().start();
        let mut backend = Backend::connect(&server);
        for versions in [TLS12, TLS13] {
            let mut tls = Tls::connect(&server, &trusting(versions));
            tls.shake_hands().expect("the server shakes hands");
            let cookies = Cookies::fresh();
            tls.connection.writer().write_all(&Head::good(&cookies).bytes()).expect("it is kept");
            let mut record = Vec::new();
            tls.connection.write_tls(&mut record).expect("it is kept");
            let (last, most) = record.split_last().expect("a record");
            tls.socket.write_all(most).expect("the server reads");
            // It has answered twice since: so it has read this piece.
            backend.done();
            backend.done();
            tls.socket.write_all(&[*last]).expect("the server reads");
            let mut client = Client::raw(Socket::Over(Box::new(tls)), &cookies.token);
            client.expect_upgrade();
            client.send_text("whole");
            client.expect_text("whole");
            client.send(&close(1000, b""));
            client.expect_close(1000, "");
        }
        backend.done();
    }

    /// The session goes to another slot with its socket, and back: nothing of it is lost, on either connection.
    #[test]
    fn a_tab_comes_back_and_is_taken_over() {
        let server = Setup::new().tls("curve").echo().start();
        let mut backend = Backend::connect(&server);
        let cookies = Cookies::fresh();
        let open = |told: &str| {
            let mut tls = Tls::connect(&server, &trusting(TLS13));
            tls.shake_hands().expect("the server shakes hands");
            let mut client = Client::raw(Socket::Over(Box::new(tls)), &cookies.token);
            let head = Head::good(&cookies).line("GET /?tab=a HTTP/1.1");
            let head = head.add("Sec-WebSocket-Protocol", "wsson.fresh,wsson.resumed");
            client.send(&head.bytes());
            assert_eq!(client.expect_upgrade().field("Sec-WebSocket-Protocol"), Some(told));
            client
        };
        let mut old = open("wsson.fresh");
        let message = "m".repeat(100_000);
        backend.confirm('c', &cookies.token, &message, 'A');
        let once = [message];
        assert_eq!(old.so_far_texts(), once);
        let mut new = open("wsson.resumed");
        old.expect_close(4002, "taken over");
        old.send(&close(4002, b""));
        old.expect_end();
        assert_eq!(new.so_far_texts(), once);
        new.send_text("heard on the new one");
        assert_eq!(new.so_far_texts(), ["heard on the new one"]);
        drop(new);
        eventually("it is away", || backend.status().number("away") == 1);
        backend.confirm('c', &cookies.token, "meanwhile", 'A');
        let mut back = open("wsson.resumed");
        let [message] = once;
        assert_eq!(back.so_far_texts(), [message, "heard on the new one".into(), "meanwhile".into()]);
    }

    #[test]
    fn long_messages_reach_a_slow_reader_whole() {
        const LEN: usize = 3_000_000;
        let setup = Setup::new().tls("curve").echo().limit("message = 4000000").limit("outbox = 64000000");
        let server = setup.limit("control_payload = 4000000").start();
        for versions in [TLS12, TLS13] {
            let mut client = Tls::connect(&server, &trusting(versions)).open();
            let message: Vec<u8> = (0..LEN as u32).map(|place| ((place * 7) >> 3) as u8).collect();
            for _ in 0..3 {
                client.send(&frame(0x80 | 2, &message));
            }
            let mut backend = Backend::connect(&server);
            backend.confirm('c', &client.token.clone(), "x".repeat(LEN), 'A');
            // The kernel takes a few megabytes; the rest waits until it is read.
            eventually("bytes wait", || backend.status().number("queued_bytes") > 0);
            let mut found = [0, 0];
            for _ in 0..4 {
                match client.receive() {
                    Frame { opcode: 2, payload, .. } if payload == message => found[0] += 1,
                    Frame { opcode: 1, payload, .. } if payload == b"x".repeat(LEN) => found[1] += 1,
                    frame => panic!("neither message: {} bytes", frame.payload.len()),
                }
            }
            assert_eq!(found, [3, 1]);
        }
    }

    #[test]
    fn many_small_messages_keep_their_order() {
        let server = Setup::new().tls("curve").limit("outbox = 64000000").start();
        let mut clients: Vec<Client> =
            (0..10).map(|_| Tls::connect(&server, &trusting(TLS13)).open()).collect();
        let mut backend = Backend::connect(&server);
        for number in 0..20_000 {
            backend.command('b', format!("message number {number}"));
        }
        backend.done();
        for client in &mut clients {
            for number in 0..20_000 {
                client.expect_text(&format!("message number {number}"));
            }
        }
    }

    /// More than the handshakes of one turn; each has its turn all the same.
    #[test]
    fn a_crowd_that_comes_at_once_gets_in() {
        let server = Setup::new().tls("curve").echo().start();
        let config = trusting(TLS13);
        let mut crowd: Vec<Tls> = (0..100).map(|_| Tls::connect(&server, &config)).collect();
        for tls in &mut crowd {
            tls.push().expect("the first flight goes out");
        }
        let mut clients: Vec<Client> = crowd.into_iter().rev().map(Tls::open).collect();
        for client in &mut clients {
            client.send_text("in");
            client.expect_text("in");
        }
        assert_eq!(Backend::connect(&server).status().number("clients"), 100);
    }

    #[test]
    fn plain_http_is_told_so() {
        let server = Setup::new().tls("curve").start();
        for request in ["GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "G", "POST / HTTP/1.1\r\nContent-"] {
            let mut socket = bare(&server);
            socket.send(request.as_bytes());
            socket.finish();
            let response = Response::parse(&socket.read_all());
            assert_eq!(response.status, 400);
            assert!(response.body.contains("TLS"), "{response:?}");
        }
        refused_with(&server, "plain_http_on_tls");
        let status = Backend::connect(&server).status();
        assert_eq!(status.number("plain_http_on_tls"), 3, "{status:?}");
    }

    #[test]
    fn plain_http_never_becomes_a_websocket() {
        let server = Setup::new().tls("curve").start();
        let mut socket = bare(&server);
        let head = crate::client::Head::good(&crate::client::Cookies::fresh());
        socket.send(&head.bytes());
        assert_eq!(Response::parse(&socket.read_all()).status, 400);
    }

    #[test]
    fn what_is_not_tls_is_cut_off() {
        let server = Setup::new().tls("curve").echo().start();
        let long = [&[22, 3, 1, 0xff, 0xff][..], &[1; 70_000]].concat();
        // A handshake message that says it has 16 MiB, in many records.
        let endless: Vec<u8> = (0..20)
            .flat_map(|part| {
                let begin = if part == 0 { [1, 0xff, 0xff, 0xff] } else { [0; 4] };
                [&[22, 3, 1, 0x40, 0][..], &begin, &[0; 0x4000 - 4]].concat()
            })
            .collect();
        let openers: [&[u8]; 8] = [
            &[0; 300],
            &[0x80, 0x2e, 1, 3, 1],
            &[22, 3, 1, 0, 5, 1, 0, 0, 1, 0],
            &[22, 3, 1, 0, 0, 22, 3, 1, 0, 0],
            &[21, 3, 3, 0, 2, 2, 40],
            &[23, 3, 3, 0, 1, 0],
            &long,
            &endless,
        ];
        for opener in openers {
            let mut socket = bare(&server);
            // It may be cut off while it still talks.
            let _ = socket.write_all(opener);
            let _ = match &socket {
                Socket::Tcp(stream) => stream.shutdown(std::net::Shutdown::Write),
                _ => unreachable!("a bare socket"),
            };
            let mut answer = Vec::new();
            let _ = socket.read_to_end(&mut answer);
            assert!(answer.len() < 100 && !answer.starts_with(b"HTTP"), "{opener:?}: {answer:?}");
        }
        let mut client = Tls::connect(&server, &trusting(TLS13)).open();
        client.send_text("unharmed");
        client.expect_text("unharmed");
    }

    /// README says that what is not in the log has not reached wsson.
    #[test]
    fn a_handshake_that_fails_is_logged_and_counted() {
        let server = Setup::new().tls("curve").start();
        for opener in [&[0; 300][..], &[22, 3, 1, 0, 5, 1, 0, 0, 1, 0]] {
            let mut socket = bare(&server);
            let _ = socket.write_all(opener);
            let _ = socket.read_to_end(&mut Vec::new());
        }
        // A visitor that does not trust the certificate says so in an alert.
        let mut hello = Vec::new();
        let mut tls = Tls::connect(&server, &trusting(TLS13));
        tls.connection.write_tls(&mut hello).expect("a Vec takes all");
        tls.socket.write_all(&hello).expect("the server reads");
        tls.socket.write_all(&[21, 3, 3, 0, 2, 2, 48]).expect("the server reads");
        let _ = tls.socket.read_to_end(&mut Vec::new());
        eventually("all three are there", || server.log().matches("refused rule=tls_failed ").count() == 3);
        assert!(server.log().contains("reason=\"received fatal alert: "), "{}", server.log());
        assert_eq!(Backend::connect(&server).status().number("tls_failed"), 3);
    }

    #[test]
    fn a_record_that_was_changed_ends_the_connection() {
        let server = Setup::new().tls("curve").echo().start();
        for versions in [TLS12, TLS13] {
            let mut tls = Tls::connect(&server, &trusting(versions));
            tls.shake_hands().expect("a handshake");
            tls.connection.writer().write_all(b"GET / HTTP/1.1\r\n").expect("it is buffered");
            let mut records = Vec::new();
            tls.connection.write_tls(&mut records).expect("a Vec takes all");
            *records.last_mut().expect("a record") ^= 1;
            tls.socket.write_all(&records).expect("the server reads");
            let error = tls.read_to_end(&mut Vec::new()).expect_err("an alert");
            assert!(error.to_string().contains("BadRecordMac"), "{error}");
        }
    }

    #[test]
    fn a_handshake_that_stalls_ends_in_time() {
        let server = Setup::new().tls("curve").timeout("handshake = 0.4").timeout("close = 0.4").start();
        let mut hello = Vec::new();
        Tls::connect(&server, &trusting(TLS13)).connection.write_tls(&mut hello).expect("a Vec takes all");
        for part in [&[][..], &hello[..hello.len() / 2], &hello] {
            let begin = Instant::now();
            let mut socket = bare(&server);
            socket.send(part);
            let mut answer = Vec::new();
            let _ = socket.read_to_end(&mut answer); // the server's flight, if ours was whole
            assert!(!answer.starts_with(b"HTTP"), "plain text on a TLS connection: {answer:?}");
            let took = begin.elapsed();
            assert!(took > Duration::from_millis(380) && took < Duration::from_secs(3), "{took:?}");
        }
        refused_with(&server, "timeout");
    }

    #[test]
    fn a_request_that_stalls_behind_the_handshake_is_answered() {
        let server = Setup::new().tls("curve").timeout("handshake = 0.4").start();
        let mut tls = Tls::connect(&server, &trusting(TLS13));
        tls.shake_hands().expect("a handshake");
        tls.write_all(b"GET / HTTP/1.1\r\n").expect("the server reads");
        let mut answer = Vec::new();
        tls.read_to_end(&mut answer).expect("a clean end");
        assert_eq!(Response::parse(&answer).status, 408);
    }

    #[test]
    fn a_refusal_comes_whole_and_ends_cleanly() {
        let server = Setup::new().tls("curve").start();
        let mut tls = Tls::connect(&server, &trusting(TLS12));
        tls.shake_hands().expect("a handshake");
        tls.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the server reads");
        let mut answer = Vec::new();
        tls.read_to_end(&mut answer).expect("a clean end");
        assert_eq!(Response::parse(&answer).status, 426);
    }

    #[test]
    fn the_peers_close_notify_is_the_end() {
        let server = Setup::new().tls("curve").start();
        let mut tls = Tls::connect(&server, &trusting(TLS13));
        tls.shake_hands().expect("a handshake");
        tls.connection.send_close_notify();
        tls.push().expect("the server reads");
        assert_eq!(tls.read_to_end(&mut Vec::new()).expect("a clean end"), 0);
        let mut backend = Backend::connect(&server);
        eventually("it is counted", || backend.status().sum("refused") == 1);
    }

    #[test]
    fn the_end_of_the_server_is_clean() {
        let mut server = Setup::new().tls("curve").start();
        let mut clients: Vec<Client> =
            [TLS12, TLS13].iter().map(|versions| Tls::connect(&server, &trusting(versions)).open()).collect();
        server.signal("TERM");
        for client in &mut clients {
            client.expect_close(1001, "going away");
            client.send(&close(1001, b""));
            client.expect_end();
        }
        assert_eq!(server.exit_code(), Some(0));
    }

    #[test]
    fn a_reader_that_stopped_is_closed() {
        let setup = Setup::new().tls("curve").limit("outbox = 200000").timeout("close = 0.5");
        let server = setup.start();
        let mut client = Tls::connect(&server, &trusting(TLS13)).open();
        let mut backend = Backend::connect(&server);
        eventually("too much waits", || {
            backend.command('b', "z".repeat(100_000));
            backend.status().number("overflows") == 1
        });
        let begin = Instant::now();
        // Bytes that the kernel took can be read, up to the close frame if it still fitted.
        let mut rest = Vec::new();
        let _ = client.socket.read_to_end(&mut rest);
        assert!(rest.len() > 100_000 && begin.elapsed() < PATIENCE);
        eventually("it is gone", || backend.status().number("closing") == 0);
    }

    #[test]
    fn a_new_certificate_is_for_new_connections() {
        let mut server = Setup::new().tls("curve").echo().start();
        let mut old = Tls::connect(&server, &trusting(TLS13)).open();
        let shows = |server: &Server, name| {
            let mut tls = Tls::connect(server, &trusting(TLS13));
            tls.shake_hands().expect("a handshake");
            tls.shows(name)
        };
        assert!(shows(&server, "curve"));
        server.setup.install("rsa");
        server.signal("HUP");
        eventually("the log says so", || server.log().contains("reloaded applied=tls "));
        assert!(shows(&server, "rsa"));
        old.send_text("still here");
        old.expect_text("still here");
        // A bad one changes nothing.
        fs::write(server.path("server.key"), "nonsense").expect("the key can be written");
        server.signal("HUP");
        eventually("the log says why", || server.log().contains("it holds no private key in PEM form"));
        assert!(server.log().contains("reload_failed"));
        assert!(shows(&server, "rsa"));
        old.send_text("still here");
        old.expect_text("still here");
    }

    /// It serves, since the clock may be the one that is wrong, but not without a word.
    #[test]
    fn an_expired_certificate_is_told() {
        let setup = Setup::new().tls("curve");
        fs::copy(data("expired.pem"), setup.path("server.pem")).expect("it can be copied");
        let mut server = setup.start();
        let told = fs::read_to_string(server.path("stderr.log")).expect("what it said");
        assert!(told.contains("server.pem has expired on 2021-01-01: browsers refuse it"), "{told}");
        assert_eq!(Backend::connect(&server).status().number("certificate_expiry"), 1_609_459_200);
        // A renewed one is shown at once.
        fs::copy(data("curve.pem"), server.path("server.pem")).expect("it can be copied");
        server.signal("HUP");
        eventually("it is reloaded", || server.log().contains("reloaded applied=tls "));
        assert!(Backend::connect(&server).status().number("certificate_expiry") > 4_900_000_000);
    }

    #[test]
    fn a_certificate_that_cannot_be_used_prevents_the_start() {
        let write = |setup: &Setup, name: &str, text: &str| {
            fs::write(setup.path(name), text).expect("the file can be written");
        };
        let read = |name: &str| fs::read_to_string(data(name)).expect("the tests' data");
        let check = |change: &dyn Fn(&Setup), sentence: &str| {
            let setup = Setup::new().tls("curve");
            change(&setup);
            let (code, told) = setup.refuses_to_start();
            assert!(code == 1 && told.contains(sentence), "{code}: {told}");
        };
        check(&|setup| write(setup, "server.pem", ""), "server.pem: it holds no certificate in PEM form");
        check(&|setup| write(setup, "server.key", ""), "server.key: it holds no private key in PEM form");
        check(
            &|setup| write(setup, "server.key", &read("rsa.key")),
            "server.key does not belong to the certificate",
        );
        check(
            &|setup| write(setup, "server.pem", &read("curve.key")),
            "server.pem: it holds no certificate in PEM form",
        );
        check(
            &|setup| fs::remove_file(setup.path("server.key")).expect("it is there"),
            "server.key: no such file or directory",
        );
        check(
            &|setup| {
                fs::remove_file(setup.path("server.pem")).expect("it is there");
                fs::create_dir(setup.path("server.pem")).expect("a folder");
            },
            "server.pem: it is not a regular file",
        );
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
        check(&|setup| write(setup, "server.key", encrypted), "protected by a passphrase");
        let damaged = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        check(&|setup| write(setup, "server.pem", damaged), "server.pem");
    }

    /// Unlike an end, which says so, a cut may be an attacker's; for us both end the connection.
    #[test]
    fn a_cut_connection_leaves_nothing_behind() {
        let server = Setup::new().tls("curve").start();
        let client = Tls::connect(&server, &trusting(TLS13)).open();
        let mut backend = Backend::connect(&server);
        assert_eq!(backend.status().number("clients"), 1);
        client.socket.finish();
        eventually("it is gone", || backend.status().number("clients") == 0);
        let rest: Vec<Frame> = { client }.rest();
        assert!(rest.iter().all(|frame| frame.opcode == CLOSE), "{rest:?}");
    }
}
