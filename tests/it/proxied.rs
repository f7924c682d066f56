//! endpoint.md, "PROXY protocol": headers of trusted proxies in any number of pieces, before HTTP and before TLS; those
//! that are missing, malformed or not asked for.

use crate::client::{Client, Cookies, Head, read_refusal};
use crate::server::{Server, Setup, Socket, eventually};
use std::io::Write;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const LINE: &[u8] = b"PROXY TCP4 203.0.113.9 192.0.2.1 51234 443\r\n";

/// A header of version 2.
fn version_2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let len = u16::try_from(block.len()).expect("a short one").to_be_bytes();
    [SIGNATURE, &[command, family], &len, block].concat()
}

/// The same visitor, with extensions behind the addresses.
fn binary() -> Vec<u8> {
    let addresses = [203, 0, 113, 9, 192, 0, 2, 1, 0xc8, 0x22, 1, 0xbb];
    version_2(0x21, 0x11, &[&addresses[..], &[0x04, 0, 2, 0, 0], &[0x20, 0, 5, 1, 0, 0, 0, 0]].concat())
}

/// Over a Unix socket or the loopback, either of which is a proxy.
fn behind_a_proxy() -> Setup {
    Setup::new().top("proxy_protocol = true").top("trusted_proxies = [\"unix\", \"127.0.0.1\"]")
}

#[track_caller]
fn open(mut socket: Socket, pieces: &[&[u8]]) -> Client {
    let cookies = Cookies::fresh();
    for piece in pieces {
        socket.send(piece);
    }
    let mut client = Client::raw(socket, &cookies.token);
    client.socket.send(&Head::good(&cookies).bytes());
    client.expect_upgrade();
    client
}

/// The visitor that the log shows when a request behind this header is refused.
#[track_caller]
fn logged(server: &Server, header: &[u8]) -> String {
    let before = server.log().len();
    let mut socket = server.connect();
    socket.send(&[header, &Head::good(&Cookies::fresh()).without("Origin").bytes()].concat());
    assert_eq!(read_refusal(&mut socket).status, 403);
    let mut line = String::new();
    eventually("a refusal is logged", || {
        let log = server.log();
        let found = log[before..].lines().find(|line| line.contains("rule=missing_origin"));
        found.inspect(|found| line.push_str(found)).is_some()
    });
    let peer = line.split("peer=").nth(1).and_then(|rest| rest.split(' ').next());
    peer.expect("the line names the peer").to_owned()
}

#[test]
fn a_header_names_the_visitor() {
    for setup in [behind_a_proxy(), behind_a_proxy().tcp()] {
        let server = setup.start();
        assert_eq!(logged(&server, LINE), "203.0.113.9:51234");
        assert_eq!(logged(&server, &binary()), "203.0.113.9:51234");
        assert_eq!(logged(&server, b"PROXY TCP6 2001:db8::9 2001:db8::1 1 2\r\n"), "[2001:db8::9]:1");
    }
}

/// A proxy's own connections, and those of visitors that have no address of IP.
#[test]
fn without_a_visitor_it_is_the_proxy() {
    let server = behind_a_proxy().start();
    for header in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        version_2(0x20, 0, b""),
        version_2(0x21, 0, b""),
        version_2(0x21, 0x31, &[b'/'; 216]),
    ] {
        assert_eq!(logged(&server, &header), "unix", "{}", header.escape_ascii());
    }
    // Its load balancer's question, with a header as everything else.
    let mut socket = server.connect();
    socket.send(&[&version_2(0x20, 0, b"")[..], b"GET /healthz HTTP/1.0\r\n\r\n"].concat());
    assert_eq!(read_refusal(&mut socket).status, 200);
}

/// The visitor's `X-Forwarded-For` is one that a visitor may have written.
#[test]
fn a_visitor_is_no_trusted_proxy() {
    let server = behind_a_proxy().start();
    let forwarded = Head::good(&Cookies::fresh()).without("Origin").add("X-Forwarded-For", "198.51.100.1");
    let mut socket = server.connect();
    socket.send(&[LINE, &forwarded.bytes()].concat());
    assert_eq!(read_refusal(&mut socket).status, 403);
    eventually("the visitor is the header's", || server.log().contains("peer=203.0.113.9:51234 "));
}

#[test]
fn a_header_may_come_in_pieces() {
    let server = behind_a_proxy().tcp().echo().start();
    for header in [LINE.to_vec(), binary()] {
        let bytes: Vec<&[u8]> = header.chunks(1).collect();
        let mut client = open(server.connect(), &bytes);
        client.send_text("behind a proxy");
        client.expect_text("behind a proxy");
    }
    // With all that follows, in one piece.
    let cookies = Cookies::fresh();
    let mut client = Client::raw(server.connect(), &cookies.token);
    client.socket.send(&[LINE, &Head::good(&cookies).bytes(), &crate::client::text("at once")].concat());
    client.expect_upgrade();
    client.expect_text("at once");
}

#[track_caller]
fn refused(server: &Server, bytes: &[u8], rule: &str) {
    let mut socket = server.connect();
    socket.send(bytes);
    assert_eq!(read_refusal(&mut socket).status, 400, "{}", bytes.escape_ascii());
    eventually(rule, || server.log().contains(&format!("refused rule={rule} status=400 ")));
}

#[test]
fn a_proxy_that_sends_none_is_refused() {
    let server = behind_a_proxy().start();
    refused(&server, &Head::good(&Cookies::fresh()).bytes(), "missing_proxy_header");
    refused(&server, b"\x16\x03\x01\x02\x00", "missing_proxy_header");
}

#[test]
fn a_malformed_header_is_refused() {
    for bytes in [
        b"PROXY TCP4 203.0.113.9 192.0.2.1 51234 443 \r\n".to_vec(),
        b"PROXY TCP4 203.0.113.9\r\n".to_vec(),
        [b"PROXY ".to_vec(), vec![b'x'; 200]].concat(),
        version_2(0x22, 0x11, &[0; 12]),
        version_2(0x21, 0x11, &[0; 11]),
        [SIGNATURE, b"\x21\x11\xff\xff"].concat(),
    ] {
        refused(&behind_a_proxy().start(), &bytes, "bad_proxy_header");
    }
}

/// Who is not a proxy has no header, and may not claim another address by one.
#[test]
fn an_address_that_is_not_trusted_sends_no_header() {
    let setup = Setup::new().tcp().top("proxy_protocol = true").top("trusted_proxies = \"192.0.2.1\"");
    let server = setup.echo().start();
    let mut client = Client::connect(&server);
    client.send_text("directly");
    client.expect_text("directly");
    refused(&server, &[LINE, &Head::good(&Cookies::fresh()).bytes()].concat(), "proxy_header");
    assert!(!server.log().contains("203.0.113.9"), "{}", server.log());
}

/// The log says so instead of "not an HTTP request".
#[test]
fn a_header_is_known_where_it_is_not_configured() {
    for header in [LINE.to_vec(), binary()] {
        let server = Setup::new().start();
        refused(&server, &[&header[..], &Head::good(&Cookies::fresh()).bytes()].concat(), "proxy_header");
    }
    // A line that comes in pieces is known when the head is complete.
    let server = Setup::new().start();
    let mut socket = server.connect();
    for byte in [LINE, &Head::good(&Cookies::fresh()).bytes()].concat().chunks(7) {
        let _ = socket.write_all(byte);
    }
    eventually("proxy_header", || server.log().contains("refused rule=proxy_header "));
}

#[test]
fn the_deadline_of_the_handshake_covers_the_header() {
    let server = behind_a_proxy().timeout("handshake = 0.3").start();
    for beginning in [&b""[..], b"PROXY TCP4 203", b"\r\n\r\n\0"] {
        let mut socket = server.connect();
        socket.send(beginning);
        assert_eq!(read_refusal(&mut socket).status, 408, "{}", beginning.escape_ascii());
    }
}

/// Behind a proxy too one visitor has a share of the handshakes, and the proxy has none.
#[test]
fn a_visitor_counts_under_the_own_address() {
    let server = behind_a_proxy().tcp().limit("handshakes_per_address = 2").start();
    let mut flood: Vec<Socket> = (0..5).map(|_| server.connect()).collect();
    for socket in &mut flood {
        socket.send(LINE);
    }
    eventually("the third is dropped", || {
        server.log().matches("dropped rule=too_many_address peer=203.0.113.9:51234").count() == 3
    });
    open(server.connect(), &[b"PROXY TCP4 203.0.113.10 192.0.2.1 51234 443\r\n"]);
}

#[test]
fn a_reload_asks_for_headers_and_stops_asking() {
    let mut server = Setup::new().top("trusted_proxies = \"unix\"").echo().start();
    let mut before = Client::connect(&server);
    server.rewrite_config(|setup| setup.top("proxy_protocol = true"));
    server.signal("HUP");
    eventually("the reload", || server.log().contains("reloaded"));
    open(server.connect(), &[LINE]);
    refused(&server, &Head::good(&Cookies::fresh()).bytes(), "missing_proxy_header");
    before.send_text("still here");
    before.expect_text("still here");
}

#[cfg(feature = "tls")]
mod before_tls {
    use super::*;
    use crate::secure::{TLS12, TLS13, Tls, trusting};

    #[test]
    fn it_comes_before_the_handshake() {
        let setup = Setup::new().tls("curve").echo().top("proxy_protocol = true");
        let server = setup.top("trusted_proxies = \"127.0.0.1\"").start();
        for versions in [TLS12, TLS13] {
            for header in [LINE.to_vec(), binary()] {
                let config = trusting(versions);
                let mut client = Tls::connect(&server, &config).behind(&header).open();
                client.send_text("through both");
                client.expect_text("through both");
            }
        }
        let mut socket = server.connect();
        socket.send(b"\x16\x03\x01\x02\x00\x01\x00");
        assert_eq!(read_refusal(&mut socket).status, 400, "in plain text, as no TLS began");
        eventually("it is told", || server.log().contains("refused rule=missing_proxy_header "));
    }

    #[test]
    fn it_is_known_where_it_is_not_configured() {
        for header in [LINE.to_vec(), binary()] {
            let server = Setup::new().tls("curve").start();
            refused(&server, &header, "proxy_header");
        }
    }
}
