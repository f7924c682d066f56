//! bus.md: nodes that a real redis-server connects. Every message crosses once, every answer is the sum or says that it is
//! not, and nothing blocks when an instance or a node is away (threats.md, row 33).

use crate::backend::Backend;
use crate::client::{Client, Cookies, Frame, Head, refusal};
use crate::redis::{Redis, is_here};
use crate::server::{Address, Server, Setup, eventually};
use crate::tabs;
use std::io::Read;
use std::time::{Duration, Instant};

const PASSWORD: &str = "hush-4f6e1c0a9b";

fn list(instances: &[&Redis]) -> String {
    let urls: Vec<String> = instances.iter().map(|redis| format!("{:?}", redis.url())).collect();
    format!("redis = [{}]", urls.join(", "))
}

fn setup(instances: &[&Redis]) -> Setup {
    Setup::new().bus(&list(instances))
}

fn node(instances: &[&Redis]) -> Server {
    let server = setup(instances).start();
    is_up(&server);
    server
}

#[track_caller]
fn is_up(server: &Server) {
    eventually("the bus is up", || Backend::connect(server).status().0.contains("\"degraded\":false"));
}

#[track_caller]
fn is_degraded(server: &Server) {
    eventually("the bus is away", || Backend::connect(server).status().0.contains("\"degraded\":true"));
}

/// Nodes that have heard of each other.
#[track_caller]
fn nodes(count: usize, instances: &[&Redis]) -> Vec<Server> {
    let servers: Vec<Server> = (0..count).map(|_| node(instances)).collect();
    for server in &servers {
        know(server, count - 1);
    }
    servers
}

#[track_caller]
fn know(server: &Server, others: usize) {
    eventually("the others are known", || {
        Backend::connect(server).status().0.matches("\"age_ms\"").count() == others
    });
}

#[track_caller]
fn counted(server: &Server, counter: &str) -> u64 {
    Backend::connect(server).status().number(counter)
}

#[track_caller]
fn receive_text(client: &mut Client, text: &str) {
    assert_eq!(client.receive(), Frame::text(text));
}

/// A message that only this client gets, and by which it is known that nothing else came.
#[track_caller]
fn got_nothing(server: &Server, client: &mut Client) {
    Backend::connect(server).confirm('c', &client.token.clone(), "last", 'A');
    receive_text(client, "last");
}

#[test]
fn every_message_crosses_once() {
    if !is_here() {
        return;
    }
    let redis = Redis::start(&[]);
    let nodes = nodes(3, &[&redis]);
    let mut clients: Vec<Client> = nodes.iter().map(Client::connect).collect();
    let mut backend = Backend::connect(&nodes[0]);
    backend.command('b', "to all");
    for client in &mut clients {
        receive_text(client, "to all");
    }
    let tokens: Vec<String> = clients.iter().map(|client| client.token.clone()).collect();
    for (client, token) in clients.iter_mut().zip(&tokens) {
        backend.to('d', token, "direct");
        receive_text(client, "direct");
        backend.confirm('c', token, "confirmed", 'A');
        receive_text(client, "confirmed");
        backend.command('W', format!("t:{token} binary"));
        assert_eq!(client.receive(), Frame::binary(b"binary"));
    }
    backend.confirm('c', &Cookies::fresh().token, "nobody", 'N');
    // To a list, and to all but one.
    backend.command('w', format!("t:{},t:{} listed", tokens[0], tokens[2]));
    receive_text(&mut clients[0], "listed");
    receive_text(&mut clients[2], "listed");
    backend.command('w', format!("*,-t:{} others", tokens[1]));
    receive_text(&mut clients[0], "others");
    receive_text(&mut clients[2], "others");
    for (node, client) in nodes.iter().zip(&mut clients) {
        got_nothing(node, client);
    }
}

#[test]
fn answers_are_sums_over_all_nodes() {
    if !is_here() {
        return;
    }
    let redis = Redis::start(&[]);
    let nodes = nodes(3, &[&redis]);
    let mut clients: Vec<Client> = nodes.iter().map(Client::connect).collect();
    let tokens: Vec<String> = clients.iter().map(|client| client.token.clone()).collect();
    let mut backend = Backend::connect(&nodes[1]);
    backend.command('o', "*,g:room");
    backend.expect('O', r#"{"*":3,"g:room":0}"#);
    backend.command('j', "room,hall *");
    backend.expect('J', r#"{"connections":3}"#);
    backend.command('J', format!("hall t:{}", tokens[2]));
    backend.expect('J', r#"{"connections":1}"#);
    backend.command('o', "g:room,g:hall,g:none");
    backend.expect('O', r#"{"g:room":3,"g:hall":2,"g:none":0}"#);
    backend.command('x', "g:room,g:none,u:eve hello");
    backend.expect('X', r#"{"connections":3,"away":0,"absent":["g:none","u:eve"],"refused":0}"#);
    for client in &mut clients {
        receive_text(client, "hello");
    }
    // A group that only another node has, by its own channel.
    backend.command('J', format!("hall t:{}", tokens[1]));
    backend.expect('J', r#"{"connections":1}"#);
    backend.command('x', "g:hall there");
    backend.expect('X', r#"{"connections":1,"away":0,"absent":[],"refused":0}"#);
    receive_text(&mut clients[0], "there");
    backend.command('x', "g:none ");
    backend.expect('X', r#"{"connections":0,"away":0,"absent":["g:none"],"refused":0}"#);
    backend.command('k', format!("t:{},t:{} bye", tokens[0], tokens[2]));
    backend.expect('K', r#"{"connections":2}"#);
    for place in [0, 2] {
        assert_eq!(clients[place].receive().close_code(), Some(4001));
    }
    backend.command('o', "g:room");
    backend.expect('O', r#"{"g:room":1}"#);
}

#[test]
fn who_has_joined_a_group_is_reached_by_it() {
    if !is_here() {
        return;
    }
    let (one, two) = (Redis::start(&[]), Redis::start(&[]));
    let nodes = nodes(3, &[&one, &two]);
    let _clients: Vec<Client> = nodes.iter().map(Client::connect).collect();
    let mut backends: Vec<Backend> = nodes.iter().map(Backend::connect).collect();
    for round in 0..60 {
        let (asks, writes) = (round % 3, (round + 1) % 3);
        backends[asks].command('j', format!("room{round} *"));
        backends[asks].expect('J', r#"{"connections":3}"#);
        backends[writes].command('x', format!("g:room{round} hello"));
        backends[writes].expect('X', r#"{"connections":3,"away":0,"absent":[],"refused":0}"#);
        backends[asks].command('J', format!("room{round} g:room{round}"));
        backends[asks].expect('J', r#"{"connections":3}"#);
    }
}

#[cfg(feature = "tls")]
#[test]
fn tls_is_spoken_to_a_redis_that_has_it() {
    if !is_here() {
        return;
    }
    let redis = Redis::start_tls("curve");
    let setup = || setup(&[&redis]).variable("SSL_CERT_FILE", crate::rig::data("ca.pem"));
    let nodes: Vec<Server> = (0..2).map(|_| setup().start()).collect();
    nodes.iter().for_each(is_up);
    let mut client = Client::connect(&nodes[1]);
    let mut backend = Backend::connect(&nodes[0]);
    // More than one record each way.
    let message = "x".repeat(100_000);
    for _ in 0..20 {
        backend.confirm('c', &client.token.clone(), &message, 'A');
        receive_text(&mut client, &message);
    }
    let stranger =
        Setup::new().bus(&list(&[&redis])).variable("SSL_CERT_FILE", crate::rig::data("expired.pem")).start();
    eventually("its certificate is of a stranger", || {
        stranger.log().contains("no authority that this host trusts")
    });
    let plain = Redis::start(&[]);
    let url = plain.url().replace("redis://127.0.0.1", "rediss://localhost");
    let mistaken = Setup::new().bus(&format!("redis = {url:?}"));
    let mistaken = mistaken.variable("SSL_CERT_FILE", crate::rig::data("ca.pem")).start();
    eventually("it is told", || mistaken.log().contains("bus_away instance=rediss://"));
}

/// A broker that gives one answer to whatever comes, and counts the connections.
fn liar(answer: &'static [u8]) -> (u16, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("it has one").port();
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = count.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let _ = stream.read(&mut [0; 4096]);
            let _ = std::io::Write::write_all(&mut stream, answer);
            // With nothing to say it ends the connection; else wsson does.
            let _ = if answer.is_empty() { Ok(0) } else { stream.read(&mut [0; 4096]) };
        }
    });
    (port, count)
}

#[test]
fn a_broker_that_lies_is_told_and_asked_again_ever_later() {
    for (answer, words) in [
        (&b"-LOADING Redis is loading the dataset in memory\r\n"[..], "it is still loading its data"),
        (b"-MOVED 3999 127.0.0.1:6381\r\n", "it is a node of a Redis Cluster"),
        (b"-READONLY You can't write against a read only replica.\r\n", "it is a replica"),
        (b"-ERR max number of clients reached\r\n", "it has as many connections as it allows"),
        (b":7\r\n", "its answers are not those of a Redis"),
        (b"*3\r\n$7\r\nmessage\r\n$999999999\r\n", "a message of it is too long"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what answers there is no Redis"),
        (b"", "it has closed the connection"),
    ] {
        let (port, count) = liar(answer);
        let server = Setup::new().bus(&format!("redis = \"redis://127.0.0.1:{port}\"")).start();
        eventually(words, || Backend::connect(&server).status().0.contains(words));
        assert!(server.log().contains("bus_away"), "{}", server.log());
        let mut client = Client::connect(&server);
        got_nothing(&server, &mut client);
        std::thread::sleep(Duration::from_millis(500));
        let attempts = count.load(std::sync::atomic::Ordering::SeqCst);
        assert!(attempts <= 16, "{attempts} attempts in half a second");
        assert_eq!(server.log().matches("bus_away").count(), 1, "it is told once");
    }
}

#[test]
fn a_login_is_refused_on_every_node() {
    if !is_here() {
        return;
    }
    let redis = Redis::start(&[]);
    let nodes = nodes(2, &[&redis]);
    let cookies = Cookies::fresh();
    let mut client = Client::with(&nodes[1], &cookies);
    let mut backend = Backend::connect(&nodes[0]);
    backend.command('r', format!("t:{}", cookies.token));
    backend.expect('K', r#"{"connections":1}"#);
    assert_eq!(client.receive().close_code(), Some(4001));
    for node in &nodes {
        assert_eq!(refusal(node, &Head::good(&cookies).bytes()).status, 403);
    }
}

#[test]
fn what_is_open_can_be_reached() {
    if !is_here() {
        return;
    }
    let (one, two) = (Redis::start(&[]), Redis::start(&[]));
    let nodes = nodes(2, &[&one, &two]);
    let mut backend = Backend::connect(&nodes[0]);
    for round in 0..100 {
        let client = Client::connect(&nodes[1]);
        backend.confirm('c', &client.token, format!("{round}"), 'A');
    }
    assert_eq!(counted(&nodes[1], "bus_degraded"), 0);
    eventually("names are left with their last connection", || {
        Backend::connect(&nodes[1]).status().0.contains("\"names\":0")
    });
    assert_eq!(one.ask("PUBSUB CHANNELS wsson:t:*").trim(), "*0");
}

#[test]
fn a_tab_that_is_away_gets_what_other_nodes_send() {
    if !is_here() {
        return;
    }
    let redis = Redis::start(&[]);
    let nodes = nodes(2, &[&redis]);
    let cookies = Cookies::fresh();
    let head = Head::good(&cookies)
        .line("GET /?tab=a HTTP/1.1")
        .add("Sec-WebSocket-Protocol", "wsson.fresh, wsson.resumed");
    let come = || {
        let mut page = Client::raw(nodes[1].connect(), &cookies.token);
        page.send(&head.bytes());
        let told = page.expect_upgrade();
        (page, told.field("Sec-WebSocket-Protocol").map(str::to_owned))
    };
    let (page, told) = come();
    assert_eq!(told.as_deref(), Some("wsson.fresh"));
    let mut backend = Backend::connect(&nodes[0]);
    backend.command('j', format!("room t:{}", cookies.token));
    backend.expect('J', r#"{"connections":1}"#);
    drop(page);
    eventually("the tab is away", || counted(&nodes[1], "away") == 1);
    backend.confirm('c', &cookies.token, "one", 'A');
    backend.command('x', "g:room two");
    backend.expect('X', r#"{"connections":0,"away":1,"absent":[],"refused":0}"#);
    backend.command('b', "three");
    backend.done();
    eventually("they have crossed", || counted(&nodes[1], "broadcasts") == 1);
    let (mut page, told) = come();
    assert_eq!(told.as_deref(), Some("wsson.resumed"));
    assert_eq!(page.so_far_texts(), ["one", "two", "three"]);
}

#[test]
fn http_answers_are_sums_too() {
    if !is_here() {
        return;
    }
    let redis = Redis::start(&[]);
    let nodes = nodes(2, &[&redis]);
    let mut client = Client::connect(&nodes[1]);
    let ask = |request: &str| {
        let mut socket = nodes[0].control.connect().expect("it accepts");
        socket.send(request.as_bytes());
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer and the end");
        answer
    };
    let last = "Host: localhost\r\nConnection: close\r\n";
    let sent = ask(&format!("POST /send?to=* HTTP/1.1\r\n{last}Content-Length: 5\r\n\r\nhello"));
    assert!(
        sent.starts_with("HTTP/1.1 200 ")
            && sent.ends_with(r#"{"connections":1,"away":0,"absent":[],"refused":0}"#),
        "{sent}"
    );
    receive_text(&mut client, "hello");
    let online = ask(&format!("GET /online?who=* HTTP/1.1\r\n{last}\r\n"));
    assert!(online.ends_with(r#"{"*":1}"#), "{online}");
    // Two requests in one write are answered in their order.
    let both =
        format!("GET /online?who=* HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\n{last}\r\n");
    let both = ask(&both);
    assert!(both.find(r#"{"*":1}"#).expect("an answer") < both.find("ok\n").expect("another"), "{both}");
}

#[test]
fn an_instance_that_goes_and_comes_back_costs_nobody_his_connection() {
    if !is_here() {
        return;
    }
    let mut redis = Redis::start(&[]);
    let nodes = nodes(2, &[&redis]);
    let (mut here, mut there) = (Client::connect(&nodes[0]), Client::connect(&nodes[1]));
    let mut backend = Backend::connect(&nodes[0]);
    redis.kill();
    nodes.iter().for_each(is_degraded);
    let began = Instant::now();
    backend.confirm('c', &there.token.clone(), "lost", 'N');
    backend.confirm('c', &here.token.clone(), "taken", 'A');
    backend.command('x', "* local");
    backend.expect('X', r#"{"connections":1,"away":0,"absent":[],"refused":0,"incomplete":true}"#);
    assert!(began.elapsed() < Duration::from_secs(5), "nothing blocks");
    receive_text(&mut here, "taken");
    receive_text(&mut here, "local");
    // One that comes meanwhile is let in.
    let mut late = Client::connect(&nodes[1]);
    assert!(counted(&nodes[1], "bus_degraded") > 0 && counted(&nodes[0], "bus_lost") > 0);
    assert!(nodes[0].log().contains("bus_away instance="), "{}", nodes[0].log());
    redis.run();
    let began = Instant::now();
    nodes.iter().for_each(is_up);
    for client in [&mut there, &mut late] {
        let token = client.token.clone();
        eventually("it is reached again", || {
            backend.to('c', &token, "again");
            backend.receive().0 == 'A'
        });
        receive_text(client, "again");
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(nodes[0].log().matches("bus_up instance=").count() == 2, "{}", nodes[0].log());
}

#[test]
fn an_instance_that_is_away_is_no_matter_of_the_other() {
    if !is_here() {
        return;
    }
    let (mut one, two) = (Redis::start(&[]), Redis::start(&[]));
    let nodes = nodes(2, &[&one, &two]);
    let clients: Vec<Client> = (0..20).map(|_| Client::connect(&nodes[1])).collect();
    let mut backend = Backend::connect(&nodes[0]);
    one.kill();
    nodes.iter().for_each(is_degraded);
    let reached = clients.iter().filter(|client| {
        backend.to('c', &client.token, "hello");
        backend.receive().0 == 'A'
    });
    let reached = reached.count();
    assert!((1..20).contains(&reached), "{reached} of 20 have their name on the one that is left");
    // Broadcasts and lists take any that is there.
    backend.command('x', "* all");
    backend.expect('X', r#"{"connections":20,"away":0,"absent":[],"refused":0}"#);
}

#[test]
fn a_node_that_is_stopped_is_waited_for_no_longer_than_the_timeout() {
    if !is_here() {
        return;
    }
    let redis = Redis::start(&[]);
    let mut nodes: Vec<Server> = (0..2).map(|_| setup(&[&redis]).bus("timeout = 0.5").start()).collect();
    nodes.iter().for_each(is_up);
    let there = Client::connect(&nodes[1]);
    let mut backend = Backend::connect(&nodes[0]);
    backend.confirm('c', &there.token, "one", 'A');
    nodes[1].signal("STOP");
    let began = Instant::now();
    backend.confirm('c', &there.token, "two", 'N');
    backend.command('o', "*");
    backend.expect('O', r#"{"*":0,"incomplete":true}"#);
    let took = began.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(5)).contains(&took), "{took:?}");
    assert_eq!(counted(&nodes[0], "bus_incomplete"), 2);
    nodes[1].signal("CONT");
    eventually("it answers again", || {
        backend.command('o', "*");
        backend.receive() == ('O', r#"{"*":1}"#.to_owned())
    });
}

#[test]
fn an_instance_that_is_stopped_is_given_up() {
    if !is_here() {
        return;
    }
    let redis = Redis::start(&[]);
    let nodes = nodes(2, &[&redis]);
    let (mut here, there) = (Client::connect(&nodes[0]), Client::connect(&nodes[1]));
    let mut backend = Backend::connect(&nodes[0]);
    redis.signal("STOP");
    // Local clients are served meanwhile, however much waits for it.
    let message = "x".repeat(60_000);
    for _ in 0..400 {
        backend.command('b', &message);
        receive_text(&mut here, &message);
    }
    backend.done();
    eventually("it is given up", || nodes[0].log().contains("it has been silent for 6 seconds"));
    backend.confirm('c', &there.token, "", 'N');
    redis.signal("CONT");
    nodes.iter().for_each(is_up);
    eventually("it is reached again", || {
        backend.to('c', &there.token, "");
        backend.receive().0 == 'A'
    });
    assert!(counted(&nodes[0], "bus_lost") > 0, "more than 16 MiB do not wait");
}

#[test]
fn a_flood_of_another_node_closes_nobody_that_reads() {
    if !is_here() {
        return;
    }
    let redis = Redis::start(&[]);
    let nodes = nodes(2, &[&redis]);
    let mut clients: Vec<Client> = (0..30).map(|_| Client::connect(&nodes[1])).collect();
    let message = "m".repeat(10_000);
    let mut backend = Backend::connect(&nodes[0]);
    let readers: Vec<_> = clients
        .drain(..)
        .map(|mut client| {
            let message = message.clone();
            std::thread::spawn(move || (0..1_000).for_each(|_| receive_text(&mut client, &message)))
        })
        .collect();
    for _ in 0..1_000 {
        backend.command('b', &message);
    }
    backend.done();
    readers.into_iter().for_each(|reader| reader.join().expect("every message has come"));
    assert_eq!((counted(&nodes[1], "overflows"), counted(&nodes[0], "bus_lost")), (0, 0));
}

#[test]
fn every_fault_of_a_login_is_a_sentence_and_the_password_is_nowhere() {
    if !is_here() {
        return;
    }
    let redis = Redis::start(&["--requirepass", PASSWORD]);
    let server = setup(&[&redis]).start();
    eventually("it asks for a password", || server.log().contains("it asks for a password"));
    assert!(Backend::connect(&server).status().0.contains("it asks for a password"));
    let with = |password: &str| {
        let setup = setup(&[&redis]).bus("password_file = \"password\"");
        crate::rig::write_secret(&setup.path("password"), password);
        setup
    };
    let wrong = with("hush-wrong").start();
    eventually("it is refused", || wrong.log().contains("it refuses the password"));
    let right = with(PASSWORD).start();
    is_up(&right);
    let line = std::fs::read(format!("/proc/{}/cmdline", right.pid())).expect("its arguments");
    let environment = std::fs::read(format!("/proc/{}/environ", right.pid())).unwrap_or_default();
    let status = Backend::connect(&right).status().0;
    for text in [
        right.log(),
        wrong.log(),
        status,
        String::from_utf8_lossy(&line).into(),
        String::from_utf8_lossy(&environment).into(),
    ] {
        assert!(!text.contains("hush"), "{text}");
    }
    // A server that is no Redis.
    let Address::Unix(_) = &right.control else { panic!("it has a Unix socket") };
    let web = Setup::new().tcp().start();
    let odd = Setup::new()
        .bus(&format!("redis = {:?}", web.endpoints[0].url().replace("tcp://", "redis://")))
        .start();
    eventually("it is told", || {
        let log = odd.log();
        log.contains("what answers there is no Redis") || log.contains("it has closed the connection")
    });
    let nobody = Setup::new().bus("redis = \"redis://127.0.0.1:1\"").start();
    eventually("it is told", || {
        nobody.log().contains("bus_away instance=redis://127.0.0.1:1 reason=\"connection refused\"")
    });
    let nowhere = Setup::new().bus("redis = \"redis://nowhere.invalid\"").start();
    eventually("it is told", || nowhere.log().contains("nowhere.invalid cannot be looked up"));
}

#[test]
fn what_others_write_to_the_redis_does_no_harm() {
    if !is_here() {
        return;
    }
    let redis = Redis::start(&[]);
    let nodes = nodes(2, &[&redis]);
    let mut client = Client::connect(&nodes[1]);
    let ignored = counted(&nodes[1], "bus_ignored");
    let header = |version: u8, kind: char| {
        format!("\\x{version:02x}{kind}{}", "\\x07".repeat(8 + 8) + &"\\xff".repeat(4))
    };
    let forged = [
        String::new(),
        "rubbish".into(),
        header(2, 'b') + "of a later version",
        header(1, '?'),
        header(1, 'q'),
        header(1, 'b')[..20].into(),
        header(1, 'd') + "short",
        header(1, 'x') + "nobody: hello",
        header(1, 'l') + &client.token,
        header(1, '=') + "\\xff\\xff\\xff\\xff",
        header(1, '!') + "short",
    ];
    for message in &forged {
        let answer = redis.ask(&format!("PUBLISH wsson:* \"{message}\""));
        assert_eq!(answer.trim(), ":2", "{message}");
    }
    eventually("they are counted", || counted(&nodes[1], "bus_ignored") >= ignored + forged.len() as u64 - 1);
    // An answer that nobody awaits, and one to a request of another node.
    redis
        .ask(&format!("PUBLISH wsson:* \"{}\"", header(1, '=') + "\\x00\\x00\\x00\\x01\\x00\\x00\\x00\\x01"));
    // Other sites, in the same Redis.
    let other = setup(&[&redis]).bus("name = \"other\"").start();
    is_up(&other);
    Backend::connect(&other).command('b', "of another site");
    got_nothing(&nodes[1], &mut client);
    assert!(nodes.iter().all(|node| !node.log().contains("panicked")));
}

#[test]
fn lists_that_differ_are_told() {
    if !is_here() {
        return;
    }
    let (one, two) = (Redis::start(&[]), Redis::start(&[]));
    let (first, second) = (node(&[&one, &two]), node(&[&two, &one]));
    for server in [&first, &second] {
        eventually("it is told", || server.log().contains("bus_lists_differ"));
        assert!(Backend::connect(server).status().0.contains("\"same_instances\":false"));
    }
}

#[test]
fn check_finds_what_is_wrong_with_the_bus() {
    if !is_here() {
        return;
    }
    let redis = Redis::start(&["--requirepass", PASSWORD]);
    let password = |setup: &Setup, text: &str| crate::rig::write_secret(&setup.path("password"), text);
    let right = setup(&[&redis]).bus("password_file = \"password\"");
    password(&right, PASSWORD);
    let right = right.start();
    is_up(&right);
    let check = |server: &Server| {
        let mut command = crate::rig::wsson(&["check"]);
        crate::rig::Ended::of(
            command.arg("-c").arg(server.path(crate::rig::CONFIG)).args(["--bus", "--allow-weak"]),
        )
    };
    let ended = check(&right).with(0);
    assert!(!(ended.out + &ended.err).contains(PASSWORD));
    password(&right.setup, "hush-wrong");
    check(&right).with(1).says("it refuses the password of bus.password_file");
    password(&right.setup, PASSWORD);
    redis.login_of(
        "limited",
        &["on", ">x", "resetchannels", "&other:*", "+ping", "+publish", "+subscribe"],
        PASSWORD,
    );
    let limited = setup(&[&redis]).bus("password_file = \"password\"").bus("user = \"limited\"");
    password(&limited, "x");
    let limited = limited.start();
    check(&limited).with(1).says("bus.user may not do what is needed");
    let open = Redis::start(&[]);
    let (one, two) = (Redis::start(&[]), &open);
    let first = node(&[&one, two]);
    let second = setup(&[two, &one]).start();
    is_up(&second);
    check(&second).with(1).says("has another list of instances, or another order");
    drop(first);
    let nobody = Setup::new().bus("redis = \"redis://127.0.0.1:1\"").start();
    check(&nobody).with(1).says("redis://127.0.0.1:1: connection refused");
}

#[test]
fn what_does_not_cross_says_so() {
    if !is_here() {
        return;
    }
    let redis = Redis::start(&[]);
    let nodes = nodes(2, &[&redis]);
    let client = Client::connect(&nodes[0]);
    let mut backend = Backend::connect(&nodes[0]);
    backend.command('l', &client.token);
    backend.expect('N', &client.token);
    backend.command('h', "*");
    let (letter, page) = backend.receive();
    assert!(
        letter == 'H' && page.contains(&client.token) && page.ends_with("\"incomplete\":true}"),
        "{page}"
    );
    backend.command('v', format!("1 t:{} hello", client.token));
    let (letter, answer) = backend.receive();
    assert!(letter == 'V' && answer.contains("\"error\""), "{answer}");
    backend.done();
}

/// `wsson.resumed` means that nothing is missing, and messages of other nodes are while an instance is away (resume.md).
#[test]
fn a_tab_is_told_fresh_when_the_bus_was_away_meanwhile() {
    if !is_here() {
        return;
    }
    let mut redis = Redis::start(&[]);
    let server = node(&[&redis]);
    let cookies = Cookies::fresh();
    drop(tabs::fresh(&server, &cookies, "open"));
    drop(tabs::resumed(&server, &cookies, "open"));
    let open = tabs::resumed(&server, &cookies, "open");
    drop(tabs::fresh(&server, &cookies, "away"));
    redis.kill();
    is_degraded(&server);
    let meanwhile = tabs::fresh(&server, &cookies, "meanwhile");
    drop(tabs::fresh(&server, &cookies, "away"));
    redis.run();
    is_up(&server);
    drop((open, meanwhile));
    for tab in ["open", "away", "meanwhile"] {
        drop(tabs::fresh(&server, &cookies, tab));
        drop(tabs::resumed(&server, &cookies, tab));
    }
}
