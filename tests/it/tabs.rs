//! docs/resume.md, "Tabs that come back": what is kept, who comes back to it, and when it is over.

use crate::backend::{Backend, Status};
use crate::client::{Client, Cookies, Frame, Head, PING, PONG, TEXT, close, frame, refusal};
use crate::server::{Server, Setup, eventually};

const BOTH: &str = "wsson.fresh, wsson.resumed";

/// A page that offers these subprotocols comes, and is told this one.
#[track_caller]
fn come(server: &Server, cookies: &Cookies, tab: &str, offers: &str, told: Option<&str>) -> Client {
    let mut head = Head::good(cookies).line(&format!("GET /?tab={tab} HTTP/1.1"));
    if !offers.is_empty() {
        head = head.add("Sec-WebSocket-Protocol", offers);
    }
    let mut client = Client::raw(server.connect(), &cookies.token);
    client.send(&head.bytes());
    let response = client.expect_upgrade();
    assert_eq!(response.field("Sec-WebSocket-Protocol"), told, "{response:?}");
    client
}

#[track_caller]
pub(crate) fn fresh(server: &Server, cookies: &Cookies, tab: &str) -> Client {
    come(server, cookies, tab, BOTH, Some("wsson.fresh"))
}

#[track_caller]
pub(crate) fn resumed(server: &Server, cookies: &Cookies, tab: &str) -> Client {
    come(server, cookies, tab, BOTH, Some("wsson.resumed"))
}

/// The messages up to now; pings are answered, or not.
#[track_caller]
fn messages(client: &mut Client, answers: bool) -> Vec<String> {
    let mut texts = Vec::new();
    for got in client.so_far() {
        match got.opcode {
            TEXT => texts.push(String::from_utf8(got.payload).expect("it is text")),
            PING if answers => client.send(&frame(0x80 | PONG, &got.payload)),
            _ => {}
        }
    }
    texts
}

fn status(server: &Server) -> Status {
    Backend::connect(server).status()
}

#[track_caller]
fn away(server: &Server, count: u64) {
    eventually("so many tabs are away", || status(server).number("away") == count);
}

fn started() -> (Server, Backend, Cookies) {
    let server = Setup::new().start();
    let backend = Backend::connect(&server);
    (server, backend, Cookies::fresh())
}

#[test]
fn a_tab_that_comes_back_misses_nothing() {
    let (server, mut backend, cookies) = started();
    let token = cookies.token.clone();
    let mut page = fresh(&server, &cookies, "a");
    backend.confirm('c', &token, "one", 'A');
    assert_eq!(messages(&mut page, true), ["one"]);
    // What was confirmed does not come again, and what was not does.
    eventually("one is confirmed", || {
        messages(&mut page, true);
        status(&server).number("queued_bytes") == 0
    });
    backend.confirm('c', &token, "two", 'A');
    assert_eq!(messages(&mut page, false), ["two"]);
    drop(page);
    away(&server, 1);
    assert_eq!(status(&server).number("clients"), 0);
    backend.confirm('c', &token, "three", 'A');
    backend.confirm('c', &token, "", 'A');
    backend.command('x', format!("t:{token} four"));
    backend.expect('X', r#"{"connections":0,"away":1,"absent":[],"refused":0}"#);
    backend.command('x', "* five");
    backend.expect('X', r#"{"connections":0,"away":1,"absent":[],"refused":0}"#);
    backend.command('v', format!("1 t:{token} six"));
    backend.expect('V', r#"{"id":"1","connections":0,"away":1,"absent":[],"refused":0,"arrived":0,"ms":0}"#);
    backend.command('b', "seven");
    backend.done();
    let mut page = resumed(&server, &cookies, "a");
    assert_eq!(messages(&mut page, true), ["two", "three", "four", "five", "six", "seven"]);
    let now = status(&server);
    assert_eq!((now.number("away"), now.number("resumed"), now.number("clients")), (0, 1, 1));
}

/// As a browser does it: the page leaves with 1001, and the server's echo finds nobody.
#[test]
fn every_end_but_the_pages_own_is_waited_for() {
    let (server, mut backend, cookies) = started();
    let token = cookies.token.clone();
    let ends: [(&str, Vec<u8>, Option<u16>); 4] = [
        ("reload", close(1001, b""), Some(1001)),
        ("of the page's own", close(4000, b"later"), Some(4000)),
        ("broken", frame(0xFF, b"no frame"), Some(1002)),
        ("not text", frame(0x80 | TEXT, b"\xff"), Some(1007)),
    ];
    for (tab, bytes, code) in ends {
        let tab = tab.replace(|c: char| !c.is_ascii_alphabetic(), "-");
        let mut page = fresh(&server, &cookies, &tab);
        page.send(&bytes);
        page.expect_close_code(code.expect("it is answered"));
        page.expect_end();
        away(&server, 1);
        backend.confirm('c', &token, &tab, 'A');
        let mut page = resumed(&server, &cookies, &tab);
        assert_eq!(messages(&mut page, true), [tab]);
        page.send(&close(1000, b""));
        page.expect_close_code(1000);
        page.expect_end();
        away(&server, 0);
    }
    for bytes in [close(1000, b"bye"), frame(0x88, b"")] {
        let mut page = fresh(&server, &cookies, "own");
        page.send(&bytes);
        assert_eq!(page.receive().opcode, 8);
        page.expect_end();
        away(&server, 0);
        backend.confirm('c', &token, "gone", 'N');
    }
    let closed = status(&server).sum("closed");
    assert_eq!(closed, 10);
}

#[test]
fn the_same_connection_goes_on() {
    let server = Setup::new().top("groups_public = [\"room\", \"other\"]").start();
    let mut backend = Backend::connect(&server);
    let cookies = Cookies::fresh();
    let page = fresh(&server, &cookies, "a&groups=room");
    drop(page);
    away(&server, 1);
    backend.command('o', "g:room,*");
    let counted = backend.receive().1;
    assert!(counted.starts_with(r#"{"g:room":1"#), "{counted}");
    backend.command('w', "c:0-1 by its id");
    backend.command('w', "g:room to its group");
    backend.done();
    // Another group in its URL is joined as well.
    let mut page = resumed(&server, &cookies, "a&groups=other");
    backend.command('w', "g:room,g:other to both once");
    backend.command('w', "c:0-1 still its id");
    backend.done();
    let expected = ["by its id", "to its group", "to both once", "still its id"];
    assert_eq!(messages(&mut page, true), expected);
}

#[test]
fn a_new_connection_takes_over_from_one_that_seems_open() {
    let (server, mut backend, cookies) = started();
    let token = cookies.token.clone();
    let mut old = fresh(&server, &cookies, "a");
    backend.confirm('c', &token, "one", 'A');
    assert_eq!(messages(&mut old, false), ["one"]);
    let mut new = resumed(&server, &cookies, "a");
    old.expect_close(4002, "taken over");
    assert_eq!(messages(&mut new, false), ["one"]);
    backend.confirm('c', &token, "two", 'A');
    assert_eq!(messages(&mut new, true), ["two"]);
    // Input of the old one is its own affair, and of the new one is heard.
    old.send(&close(4002, b""));
    old.expect_end();
    new.send(&frame(0x80 | PING, b"here"));
    new.expect_pong(b"here");
    let now = status(&server);
    assert_eq!((now.number("clients"), now.number("resumed"), now.number("away")), (1, 1, 0));
}

/// A frame that is half out when the connection goes on elsewhere is whole there, and here.
#[test]
fn the_frame_in_flight_is_finished_and_sent_again() {
    let server = Setup::new().limit("outbox = \"8 MiB\"").start();
    let mut backend = Backend::connect(&server);
    let cookies = Cookies::fresh();
    let mut old = fresh(&server, &cookies, "a");
    // More than the sockets' buffers take.
    let message = "x".repeat(1_000_000);
    for _ in 0..6 {
        backend.to('d', &cookies.token, &message);
    }
    backend.done();
    let mut new = resumed(&server, &cookies, "a");
    let texts = new.so_far_texts();
    assert_eq!((texts.len(), texts.iter().all(|text| *text == message)), (6, true));
    let frames = old.rest();
    let (last, whole) = frames.split_last().expect("a close at least");
    assert_eq!(last.close_code(), Some(4002));
    assert!(whole.iter().all(|got| got.opcode == PING || got.payload.len() == message.len()));
}

#[test]
fn when_it_cannot_go_on_the_page_is_told() {
    let server = Setup::new().timeout("away = 0.3").limit("outbox = \"70 KiB\"").start();
    let mut backend = Backend::connect(&server);
    let cookies = Cookies::fresh();
    let token = cookies.token.clone();
    // Too late.
    drop(fresh(&server, &cookies, "late"));
    away(&server, 1);
    away(&server, 0);
    backend.confirm('c', &token, "nobody", 'N');
    let page = fresh(&server, &cookies, "late");
    // Too much, while it is away.
    drop(page);
    away(&server, 1);
    backend.to('d', &token, "x".repeat(60_000));
    backend.to('d', &token, "x".repeat(60_000));
    backend.done();
    away(&server, 0);
    let mut page = fresh(&server, &cookies, "late");
    // Too much that is not confirmed: it stays open, and cannot come back.
    for _ in 0..3 {
        backend.confirm('c', &token, "y".repeat(60_000), 'A');
        assert_eq!(messages(&mut page, false).len(), 1);
    }
    drop(page);
    eventually("it is gone", || status(&server).number("clients") == 0);
    backend.confirm('c', &token, "nobody", 'N');
    // Another login, or another tab.
    let _page = fresh(&server, &cookies, "late");
    let mut other = fresh(&server, &Cookies::fresh(), "late");
    let mut second = fresh(&server, &cookies, "other");
    backend.to('d', &token, "mine");
    backend.done();
    assert_eq!(messages(&mut second, true), ["mine"]);
    assert!(messages(&mut other, true).is_empty(), "a message crosses logins");
}

/// Once a page has confirmed all of it, it may come back again.
#[test]
fn a_tab_that_catches_up_is_whole_again() {
    let server = Setup::new().limit("outbox = \"70 KiB\"").start();
    let mut backend = Backend::connect(&server);
    let cookies = Cookies::fresh();
    let mut page = fresh(&server, &cookies, "a");
    for _ in 0..3 {
        backend.confirm('c', &cookies.token, "y".repeat(60_000), 'A');
        messages(&mut page, false);
    }
    // The next pings after what was given up: their pongs cover everything.
    eventually("all is confirmed", || {
        messages(&mut page, true);
        status(&server).number("queued_bytes") == 0
    });
    drop(page);
    away(&server, 1);
    backend.confirm('c', &cookies.token, "later", 'A');
    let mut page = resumed(&server, &cookies, "a");
    let texts = messages(&mut page, true);
    assert_eq!(texts.last().map(String::as_str), Some("later"));
}

#[test]
fn kick_revocation_and_expiry_are_final() {
    let (server, mut backend, cookies) = started();
    drop(fresh(&server, &cookies, "a"));
    away(&server, 1);
    backend.command('k', format!("t:{}", cookies.token));
    backend.expect('K', r#"{"connections":1}"#);
    away(&server, 0);
    let mut page = fresh(&server, &cookies, "a");
    backend.command('k', format!("t:{} out", cookies.token));
    backend.expect('K', r#"{"connections":1}"#);
    page.expect_close(4001, "out");
    drop(page);
    drop(fresh(&server, &cookies, "a"));
    away(&server, 1);
    backend.command('r', format!("t:{}", cookies.token));
    backend.expect('K', r#"{"connections":1}"#);
    away(&server, 0);
    let head = Head::good(&cookies).line("GET /?tab=a HTTP/1.1");
    assert_eq!(refusal(&server, &head.bytes()).status, 403);
}

#[test]
fn subprotocols_say_it_to_those_that_ask() {
    let (server, _backend, cookies) = started();
    for (offers, fresh, again) in [
        ("", None, None),
        ("wsson.fresh,wsson.resumed", Some("wsson.fresh"), Some("wsson.resumed")),
        ("wsson.resumed, x, wsson.fresh", Some("wsson.fresh"), Some("wsson.resumed")),
        // Fresh is never wrong.
        ("wsson.fresh", Some("wsson.fresh"), Some("wsson.fresh")),
        ("wsson.resumed", None, Some("wsson.resumed")),
        ("WSSON.FRESH, wsson.fresher, chat", None, None),
    ] {
        let page = come(&server, &cookies, "a", offers, fresh);
        drop(page);
        away(&server, 1);
        let mut page = come(&server, &cookies, "a", offers, again);
        page.send(&close(1000, b""));
        page.expect_close_code(1000);
        drop(page);
        away(&server, 0);
    }
    // A page without a tab is fresh each time.
    for _ in 0..2 {
        let mut client = Client::raw(server.connect(), &cookies.token);
        client.send(&Head::good(&cookies).add("Sec-WebSocket-Protocol", BOTH).bytes());
        assert_eq!(client.expect_upgrade().field("Sec-WebSocket-Protocol"), Some("wsson.fresh"));
        drop(client);
        eventually("it is gone", || status(&server).number("clients") == 0);
        assert_eq!(status(&server).number("away"), 0);
    }
}

#[test]
fn no_more_tabs_are_waited_for_than_the_limit_says() {
    let server = Setup::new().limit("away = 2").limit("connections_per_token = 3").start();
    let cookies: Vec<Cookies> = (0..3).map(|_| Cookies::fresh()).collect();
    for (gone, cookies) in cookies.iter().enumerate() {
        drop(fresh(&server, cookies, "a"));
        away(&server, (gone as u64 + 1).min(2));
    }
    drop(fresh(&server, &cookies[0], "a"));
    away(&server, 2);
    drop(resumed(&server, &cookies[2], "a"));
    away(&server, 2);
    // Tabs that are away make room for the login's next ones.
    let login = Cookies::fresh();
    for tab in ["1", "2", "3", "4"] {
        drop(fresh(&server, &login, tab));
        eventually("it is gone", || status(&server).number("clients") == 0);
    }
    let open: Vec<Client> = ["5", "6", "7"].map(|tab| fresh(&server, &login, tab)).into();
    let head = Head::good(&login).line("GET /?tab=8 HTTP/1.1");
    assert_eq!(refusal(&server, &head.bytes()).status, 429);
    drop(open);
}

#[test]
fn zero_turns_it_off() {
    let server = Setup::new().timeout("away = 0").start();
    let mut backend = Backend::connect(&server);
    let cookies = Cookies::fresh();
    drop(fresh(&server, &cookies, "a"));
    eventually("it is gone", || status(&server).number("clients") == 0);
    backend.confirm('c', &cookies.token, "nobody", 'N');
    drop(fresh(&server, &cookies, "a"));
}

#[test]
fn a_fragmented_message_is_whole_or_not_there() {
    let (server, mut backend, cookies) = started();
    let token = cookies.token.clone();
    let page = fresh(&server, &cookies, "a");
    backend.confirm('l', &token, "", 'A');
    backend.fragment('f', "one ", 'a');
    drop(page);
    away(&server, 1);
    backend.fragment('i', "two ", 'a');
    let mut other = Backend::connect(&server);
    other.confirm('c', &token, "behind it", 'A');
    let mut page = resumed(&server, &cookies, "a");
    backend.fragment('s', "three", 'a');
    page.expect(&Frame::part(false, TEXT, b"one "));
    let mut rest: Vec<Frame> = page.so_far().into_iter().filter(|got| got.opcode != PING).collect();
    assert_eq!(rest.remove(0), Frame::part(false, 0, b"two "));
    assert_eq!(rest, [Frame::part(true, 0, b"three"), Frame::text("behind it")]);
    // Its source is lost while the tab is away: nothing of it is left, and the rest is.
    backend.confirm('l', &token, "", 'A');
    backend.fragment('f', "half", 'a');
    drop(page);
    away(&server, 1);
    other.confirm('c', &token, "after all", 'A');
    drop(backend);
    eventually("the lock is over", || status(&server).number("locks") == 0);
    let mut page = resumed(&server, &cookies, "a");
    let texts = messages(&mut page, true);
    assert_eq!(texts.last().map(String::as_str), Some("after all"));
    assert!(!texts.iter().any(|text| text.contains("half")), "{texts:?}");
}

#[test]
fn a_lock_that_is_lost_while_the_page_is_there_costs_that_message_only() {
    let (server, mut backend, cookies) = started();
    let mut page = fresh(&server, &cookies, "a");
    backend.confirm('l', &cookies.token, "", 'A');
    backend.fragment('f', "half", 'a');
    let mut other = Backend::connect(&server);
    other.confirm('c', &cookies.token, "behind it", 'A');
    drop(backend);
    page.expect(&Frame::part(false, TEXT, b"half"));
    let close = page.rest().into_iter().find(|got| got.opcode == 8).expect("it is closed");
    assert_eq!(close.close_code(), Some(1011));
    let mut page = resumed(&server, &cookies, "a");
    assert_eq!(messages(&mut page, true), ["behind it"]);
}

#[test]
fn a_drain_waits_for_no_tab() {
    let (mut server, _backend, cookies) = started();
    drop(fresh(&server, &cookies, "a"));
    away(&server, 1);
    let mut page = fresh(&server, &cookies, "b");
    server.signal("TERM");
    page.expect_close(1001, "going away");
    page.send(&close(1001, b""));
    page.expect_end();
    assert_eq!(server.exit_code(), Some(0));
}

/// docs/events.md: comings and goings are of tabs, not of their connections.
#[test]
fn workers_hear_of_the_tab_and_not_of_its_connections() {
    let server = Setup::new().timeout("away = 0.5").start();
    let mut worker = Backend::connect(&server);
    worker.command('e', "open,close");
    assert!(worker.receive().1.contains("subscribed"));
    let cookies = Cookies::fresh();
    let mut page = fresh(&server, &cookies, "a-b_1");
    let (_, open) = worker.receive();
    assert!(open.contains(r#""event":"open","#) && open.contains(r#""tab":"a-b_1""#), "{open}");
    page.send(&close(1001, b""));
    page.expect_close_code(1001);
    drop(page);
    away(&server, 1);
    drop(resumed(&server, &cookies, "a-b_1"));
    away(&server, 1);
    // Nothing was told until it stays away for too long.
    let (_, gone) = worker.receive();
    assert!(gone.contains(r#""event":"close","#) && gone.contains(r#""code":1006"#), "{gone}");
    assert_eq!(status(&server).number("away"), 0);
}
