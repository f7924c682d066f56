//! COMMANDS.md, "Addresses": the connections that a list names, the messages to them, and the answers.

use crate::backend::{Backend, command};
use crate::client::{BINARY, Client, Cookies, Frame, fresh_token, hex, now};
use crate::server::{SECRET, Server, Setup, eventually};
use md5::{Digest, Md5};

fn users() -> (Server, Backend) {
    let server = Setup::new().auth("identity = \"user\"").start();
    let backend = Backend::connect(&server);
    (server, backend)
}

pub(crate) fn login(user: &str) -> Cookies {
    let (token, time) = (fresh_token(), now().to_string());
    let digest = hex(&Md5::digest(format!("{SECRET}{user}{token}{time}")));
    Cookies { token, time, digest, user: Some(user.to_owned()) }
}

fn client(server: &Server, user: &str) -> Client {
    Client::with(server, &login(user))
}

/// Sends a command and expects this answer.
#[track_caller]
fn ask(backend: &mut Backend, letter: char, payload: impl AsRef<[u8]>, answer: &str) {
    backend.command(letter, payload);
    backend.expect(letter.to_ascii_uppercase(), answer);
}

#[track_caller]
fn expect_text(clients: &mut [&mut Client], text: &str) {
    clients.iter_mut().for_each(|client| client.expect_text(text));
}

#[track_caller]
fn expect_nothing(clients: &mut [&mut Client]) {
    clients.iter_mut().for_each(|client| client.expect_nothing());
}

#[test]
fn a_list_reaches_all_that_it_names_once() {
    let (server, mut backend) = users();
    let both = login("ann");
    let (mut one, mut two) = (Client::with(&server, &both), Client::with(&server, &both));
    let (mut other, mut bob, mut carl) =
        (client(&server, "ann"), client(&server, "bob"), client(&server, "carl"));
    let token = both.token.as_str();
    backend.command('w', "u:ann of ann");
    backend.command('w', format!("t:{token} of one login"));
    backend.command('w', format!("u:ann,t:{token},u:ann,u:bob each once"));
    backend.command('w', "* for all");
    backend.command('w', "*,-u:ann,-u:nobody but ann");
    backend.command('w', format!("u:ann,u:carl,-t:{token} the other login"));
    backend.command('w', "-u:carl nobody");
    backend.command('w', "u:nobody nobody");
    backend.done();
    for client in [&mut one, &mut two] {
        ["of ann", "of one login", "each once", "for all"].iter().for_each(|text| client.expect_text(text));
    }
    ["of ann", "each once", "for all", "the other login"].iter().for_each(|text| other.expect_text(text));
    ["each once", "for all", "but ann"].iter().for_each(|text| bob.expect_text(text));
    ["for all", "but ann", "the other login"].iter().for_each(|text| carl.expect_text(text));
    expect_nothing(&mut [&mut one, &mut two, &mut other, &mut bob, &mut carl]);
}

#[test]
fn a_connection_is_named_by_what_wsson_calls_it() {
    let (server, mut backend) = users();
    let mut first = client(&server, "ann");
    let mut second = client(&server, "ann");
    // The names mean nothing to a backend; the first connection that a server accepts has this one.
    ask(&mut backend, 'x', "c:0-1 hi", r#"{"connections":1,"away":0,"absent":[],"refused":0}"#);
    backend.command('w', "u:ann,-c:0-1 not to the first");
    backend.done();
    first.expect_text("hi");
    second.expect_text("not to the first");
    for stale in ["c:0-2", "c:77-1", "c:0-01", "c:nobody", "c:ffffffff-ffffffff"] {
        let answer = format!(r#"{{"connections":0,"away":0,"absent":["{stale}"],"refused":0}}"#);
        ask(&mut backend, 'x', format!("{stale} hi"), &answer);
    }
    expect_nothing(&mut [&mut first, &mut second]);
}

#[test]
fn an_answer_tells_how_many_took_it_and_who_was_not_there() {
    let (server, mut backend) = users();
    let (mut ann, mut two) = (client(&server, "ann"), client(&server, "ann"));
    let absent = r#""absent":["u:bob","t:aaaa,aaaaaaaaaaaaaaaaaaaaaaaaaaa"]"#;
    let list = "u:ann,u:bob,t:aaaa,aaaaaaaaaaaaaaaaaaaaaaaaaaa,-u:carl";
    ask(
        &mut backend,
        'x',
        format!("{list} text"),
        &format!(r#"{{"connections":2,"away":0,{absent},"refused":0}}"#),
    );
    ask(&mut backend, 'X', "u:ann \u{0}\u{1}", r#"{"connections":2,"away":0,"absent":[],"refused":0}"#);
    for client in [&mut ann, &mut two] {
        client.expect_text("text");
        client.expect(&Frame::part(true, BINARY, b"\x00\x01"));
    }
    // An empty message only counts.
    ask(&mut backend, 'x', "u:ann ", r#"{"connections":2,"away":0,"absent":[],"refused":0}"#);
    ask(&mut backend, 'x', "* ", r#"{"connections":2,"away":0,"absent":[],"refused":0}"#);
    backend.command('w', "u:ann ");
    backend.command('w', "*,-u:bob ");
    backend.done();
    expect_nothing(&mut [&mut ann, &mut two]);
}

#[test]
fn who_can_not_take_a_message_is_counted_as_refused() {
    let server = Setup::new().limit("outbox = \"65551 B\"").limit("message = 1000").start();
    let mut backend = Backend::connect(&server);
    let slow = Client::connect(&server);
    let message = "x".repeat(60_000);
    let mut refused = None;
    for _ in 0..1000 {
        backend.command('x', format!("t:{} {message}", slow.token));
        let (letter, answer) = backend.receive();
        assert_eq!(letter, 'X');
        if answer.ends_with("\"refused\":1}") {
            refused = Some(answer);
            break;
        }
        assert_eq!(answer, r#"{"connections":1,"away":0,"absent":[],"refused":0}"#);
    }
    assert_eq!(refused.as_deref(), Some(r#"{"connections":0,"away":0,"absent":[],"refused":1}"#));
}

#[test]
fn a_list_that_is_none_is_an_error_or_an_answer() {
    let (server, mut backend) = users();
    let mut ann = client(&server, "ann");
    for (list, place) in [("u:", 2), ("", 0), ("u:ann,", 6), ("u:a/b", 3), ("*,,*", 2), ("44", 0), ("-", 1)] {
        let mut wrong = Backend::connect(&server);
        wrong.send(command('w', format!("{list} hi")));
        wrong.expect_error();
        for letter in ['x', 'k', 'o', 'h'] {
            backend.command(letter, format!("{list} hi"));
            let (answered, answer) = backend.receive();
            assert_eq!(answered, letter.to_ascii_uppercase());
            let told = format!(r#"{{"error":"byte {place} of the list: "#);
            assert!(letter == 'o' || answer.starts_with(&told), "{letter}{list}: {answer}");
            assert!(answer.starts_with(r#"{"error":""#), "{answer}");
        }
    }
    for (letter, payload) in
        [('x', &b"u:ann"[..]), ('x', b"u:ann \xff"), ('k', b"u:ann \xff"), ('h', b"*,*"), ('o', b"-*")]
    {
        backend.command(letter, payload);
        let (_, answer) = backend.receive();
        assert!(answer.starts_with(r#"{"error":""#), "{answer}");
    }
    for payload in [&b"u:ann"[..], b"u:ann \xff", b"* \xff"] {
        let mut wrong = Backend::connect(&server);
        wrong.send(command('w', payload));
        wrong.expect_error();
    }
    assert!(server.log().contains("reason=bad_addresses_at_byte_2"), "{}", server.log());
    backend.done();
    ann.expect_nothing();
}

#[test]
fn a_list_is_as_long_as_the_limit_allows() {
    let server = Setup::new().limit("addresses = 3").start();
    let mut backend = Backend::connect(&server);
    let answer = r#"{"connections":0,"away":0,"absent":["u:1","u:2","*"],"refused":0}"#;
    ask(&mut backend, 'x', "u:1,u:2,* hi", answer);
    backend.command('x', "u:1,u:2,u:3,u:4 hi");
    let told = r#"{"error":"byte 12 of the list: limits.addresses allows 3 items"}"#;
    backend.expect('X', told);
    // The default.
    let server = Setup::new().start();
    let mut backend = Backend::connect(&server);
    let long = vec!["*"; 10_000].join(",");
    ask(&mut backend, 'o', &long, r#"{"*":0}"#);
    backend.command('o', format!("{long},*"));
    backend.expect('O', r#"{"error":"byte 20000 of the list: limits.addresses allows 10000 items"}"#);
}

#[test]
fn all_messages_keep_their_order_whatever_letters_carry_them() {
    let (server, mut backend) = users();
    let cookies = login("ann");
    let mut ann = Client::with(&server, &cookies);
    let mut crowd: Vec<Client> = (0..80).map(|index| client(&server, &format!("user{index}"))).collect();
    let token = cookies.token.as_str();
    for index in 0..400 {
        match index % 8 {
            0 => backend.command('b', index.to_string()),
            1 => backend.to('d', token, index.to_string()),
            2 => backend.command('w', format!("* {index}")),
            3 => backend.command('w', format!("u:ann {index}")),
            4 => backend.command('w', format!("*,-u:nobody {index}")),
            5 => backend.command('w', format!("t:{token},u:user1 {index}")),
            6 => ask(
                &mut backend,
                'x',
                format!("u:ann {index}"),
                r#"{"connections":1,"away":0,"absent":[],"refused":0}"#,
            ),
            _ => backend.confirm('c', token, index.to_string(), 'A'),
        }
    }
    (0..400).for_each(|index| ann.expect_text(&index.to_string()));
    for index in (0..400).filter(|index| matches!(index % 8, 0 | 2 | 4)) {
        crowd[0].expect_text(&index.to_string());
    }
}

#[test]
fn a_locked_client_gets_what_was_written_to_it_behind_the_last_fragment() {
    let (server, mut backend) = users();
    let cookies = login("ann");
    let mut ann = Client::with(&server, &cookies);
    backend.confirm('l', &cookies.token, "", 'A');
    backend.fragment('f', "one ", 'a');
    let mut other = Backend::connect(&server);
    ask(&mut other, 'x', "u:ann held", r#"{"connections":1,"away":0,"absent":[],"refused":0}"#);
    backend.fragment('s', "message", 'a');
    assert_eq!(ann.receive(), Frame::part(false, 1, b"one "));
    assert_eq!(ann.receive(), Frame::part(true, 0, b"message"));
    ann.expect_text("held");
}

#[test]
fn a_kick_closes_with_its_reason() {
    let (server, mut backend) = users();
    let (mut one, mut two, mut bob) =
        (client(&server, "ann"), client(&server, "ann"), client(&server, "bob"));
    ask(&mut backend, 'k', "u:nobody", r#"{"connections":0}"#);
    ask(&mut backend, 'k', "u:ann,u:ann you have logged out, Ann", r#"{"connections":2}"#);
    ask(&mut backend, 'k', "u:ann", r#"{"connections":0}"#);
    ask(&mut backend, 'x', "u:ann too late", r#"{"connections":0,"away":0,"absent":["u:ann"],"refused":0}"#);
    for client in [&mut one, &mut two] {
        client.expect_close(4001, "you have logged out, Ann");
    }
    bob.expect_nothing();
    ask(&mut backend, 'k', "*", r#"{"connections":1}"#);
    bob.expect_close(4001, "logged out");
    // The cookies are as good as before.
    client(&server, "ann").expect_nothing();
    eventually("the kicked are counted by their code", || backend.status().0.contains("\"4001\":3"));
}

#[test]
fn connections_are_counted_for_each_item() {
    let (server, mut backend) = users();
    let cookies = login("ann");
    let _open = [Client::with(&server, &cookies), client(&server, "ann"), client(&server, "bob")];
    let token = cookies.token.as_str();
    let answer = format!(r#"{{"u:ann":2,"t:{token}":1,"*":3,"u:nobody":0,"c:0-1":1}}"#);
    ask(&mut backend, 'o', format!("u:ann,t:{token},*,u:nobody,c:0-1,u:ann"), &answer);
}

#[test]
fn who_is_here_is_told_by_name() {
    let (server, mut backend) = users();
    ask(&mut backend, 'h', "*", r#"{"tokens":[]}"#);
    let _open = [client(&server, "bob"), client(&server, "ann"), client(&server, "bob")];
    assert_eq!(names(&mut backend, "*"), [("ann".to_owned(), 1), ("bob".to_owned(), 2)]);
    ask(&mut backend, 'j', "room u:bob", r#"{"connections":2}"#);
    ask(&mut backend, 'h', "g:room", r#"{"users":[{"name":"bob","connections":2}]}"#);
    backend.command('h', "* x");
    backend.expect('H', r#"{"error":"this is not the cursor of an earlier answer"}"#);
    ask(&mut backend, 'h', "u:ann", r#"{"users":[{"name":"ann","connections":1}]}"#);
    // Where there are no users, by token.
    let server = Setup::new().start();
    let mut backend = Backend::connect(&server);
    let client = Client::connect(&server);
    let answer = format!(r#"{{"tokens":[{{"name":"{}","connections":1}}]}}"#, client.token);
    ask(&mut backend, 'h', "*", &answer);
    ask(&mut backend, 'h', "u:44", r#"{"tokens":[]}"#);
}

/// All names behind an address with their connections, in order.
fn names(backend: &mut Backend, address: &str) -> Vec<(String, u64)> {
    let (mut cursor, mut names) = (String::new(), Vec::new());
    loop {
        backend.command('h', format!("{address}{cursor}"));
        let (_, answer) = backend.receive();
        let parts = answer.split("{\"name\":\"").skip(1);
        let found: Vec<(String, u64)> = parts.map(name).collect();
        assert!(found.len() <= 1000, "{} names", found.len());
        names.extend(found);
        match answer.split_once("\"cursor\":\"") {
            Some((_, rest)) => cursor = format!(" {}", rest.split('"').next().expect("it ends")),
            None => break,
        }
    }
    names.sort();
    names
}

fn name(text: &str) -> (String, u64) {
    let (name, rest) = text.split_once("\",\"connections\":").expect("a name and a number");
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    (name.to_owned(), digits.parse().expect("a number"))
}

#[test]
fn a_long_list_of_names_comes_in_parts() {
    let (server, mut backend) = users();
    let open: Vec<Client> = (0..1005).map(|index| client(&server, &format!("user{index:04}"))).collect();
    let expected: Vec<(String, u64)> = (0..open.len()).map(|index| (format!("user{index:04}"), 1)).collect();
    assert_eq!(names(&mut backend, "*"), expected);
    ask(&mut backend, 'j', "room *", r#"{"connections":1005}"#);
    assert_eq!(names(&mut backend, "g:room"), expected);
}

#[test]
fn groups_are_joined_written_to_and_left() {
    let (server, mut backend) = users();
    let (mut ann, mut bob, mut carl) =
        (client(&server, "ann"), client(&server, "bob"), client(&server, "carl"));
    let nobody = r#"{"connections":0,"away":0,"absent":["g:room"],"refused":0}"#;
    ask(&mut backend, 'x', "g:room nobody", nobody);
    ask(&mut backend, 'j', "room,shop/7 u:ann,u:bob,u:nobody", r#"{"connections":2}"#);
    ask(&mut backend, 'j', "room u:ann", r#"{"connections":0}"#);
    ask(&mut backend, 'j', "room *,-u:carl,-u:bob", r#"{"connections":0}"#);
    backend.command('w', "g:room,u:ann to the room");
    backend.command('w', "g:room,-u:ann but ann");
    backend.command('w', "g:Room another group");
    ask(&mut backend, 'o', "g:room,g:shop/7,g:no", r#"{"g:room":2,"g:shop/7":2,"g:no":0}"#);
    ask(&mut backend, 'J', "room,no g:shop/7,-u:ann", r#"{"connections":1}"#);
    ask(&mut backend, 'J', "room u:bob", r#"{"connections":0}"#);
    backend.command('w', "g:room only ann");
    backend.done();
    ["to the room", "only ann"].iter().for_each(|text| ann.expect_text(text));
    ["to the room", "but ann"].iter().for_each(|text| bob.expect_text(text));
    expect_nothing(&mut [&mut ann, &mut bob, &mut carl]);
    // A group lives as long as it has a member.
    ask(&mut backend, 'k', "g:room,g:shop/7", r#"{"connections":2}"#);
    ask(&mut backend, 'o', "g:room,g:shop/7,*", r#"{"g:room":0,"g:shop/7":0,"*":1}"#);
    for wrong in ["room", "a,, u:ann", "room u:", ""] {
        backend.command('j', wrong);
        let (letter, answer) = backend.receive();
        assert!(letter == 'J' && answer.starts_with(r#"{"error":""#), "{wrong}: {answer}");
    }
}

#[test]
fn groups_have_bounds_that_are_told() {
    let server = Setup::new().limit("groups = 3").limit("groups_per_connection = 2").start();
    let mut backend = Backend::connect(&server);
    let _open = [Client::connect(&server), Client::connect(&server)];
    ask(&mut backend, 'j', "a,b *", r#"{"connections":2}"#);
    ask(
        &mut backend,
        'j',
        "c *",
        r#"{"connections":0,"error":"the connection is in as many groups as limits.groups_per_connection allows"}"#,
    );
    ask(&mut backend, 'J', "a,b c:0-1", r#"{"connections":1}"#);
    ask(&mut backend, 'o', "g:a,g:b", r#"{"g:a":1,"g:b":1}"#);
    ask(
        &mut backend,
        'j',
        "c,d c:0-1",
        r#"{"connections":1,"error":"there are as many groups as limits.groups allows"}"#,
    );
    ask(&mut backend, 'o', "g:c,g:d", r#"{"g:c":1,"g:d":0}"#);
}

#[test]
fn a_message_to_very_many_reaches_each_of_them_once() {
    let server = Setup::new().start();
    let mut backend = Backend::connect(&server);
    let mut clients: Vec<Client> = (0..300).map(|_| Client::connect(&server)).collect();
    let list: Vec<String> = clients.iter().map(|client| format!("t:{}", client.token)).collect();
    let count = clients.len();
    let answer = format!(r#"{{"connections":{count},"away":0,"absent":[],"refused":0}}"#);
    ask(&mut backend, 'x', format!("{} one by one", list.join(",")), &answer);
    ask(&mut backend, 'x', "* and all", &answer);
    for client in &mut clients {
        expect_text(&mut [client], "one by one");
        client.expect_text("and all");
    }
}

#[test]
fn the_status_tells_users_and_the_largest_groups() {
    let server = Setup::new().auth("identity = \"user\"").limit("groups = 50").start();
    let mut backend = Backend::connect(&server);
    let clients = [client(&server, "ann"), client(&server, "ann"), client(&server, "bob")];
    let nothing = backend.status();
    assert_eq!((nothing.number("users"), nothing.number("groups")), (2, 0), "{nothing:?}");
    assert!(nothing.0.contains(r#""groups_max":50,"largest_groups":[],"#), "{nothing:?}");
    ask(&mut backend, 'j', "room,shop/7 u:ann", r#"{"connections":2}"#);
    ask(&mut backend, 'j', "room u:bob", r#"{"connections":1}"#);
    let nine: Vec<String> = (0..9).map(|group| format!("g{group}")).collect();
    ask(&mut backend, 'j', format!("{} u:bob", nine.join(",")), r#"{"connections":1}"#);
    let status = backend.status();
    assert_eq!((status.number("users"), status.number("groups")), (2, 11), "{status:?}");
    let first = r#""largest_groups":[{"name":"room","connections":3},{"name":"shop/7","connections":2},{"#;
    assert!(status.0.contains(first), "{status:?}");
    assert_eq!(status.numbers("connections"), [3, 2, 1, 1, 1, 1, 1, 1, 1, 1], "ten of eleven: {status:?}");
    drop(clients);
    eventually("nobody is left", || {
        let status = backend.status();
        (status.number("users"), status.number("groups")) == (0, 0)
            && status.0.contains(r#""largest_groups":[]"#)
    });
}
