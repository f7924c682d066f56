//! The command line through the real binary: its output, and its exit codes.
//!
//! `send` and `status` talk to a control socket that a thread of the test plays, so that every answer, also a wrong
//! one, can be given. Nothing here waits for time to pass.

mod rig;

use rig::{CONFIG, Ended, Site, source, wsson};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;
use std::thread::JoinHandle;

const SECRET: &str = "2kGfVJtXhq0n4bW7sD8e";
const TOKEN: &str = "32febad1f0cf83f38aceb31ad63866c4";

/// A valid configuration whose every path lies in its folder, with these lines behind it.
fn configured(more: &str) -> Site {
    let base = "control = 'unix://control.sock'\npid = 'wsson.pid'\nsecret_file = 'secret'\n\
        origins = 'https://example.com'\n";
    let site = exactly(&format!("{base}{more}"), 0o644);
    site.write("secret", &format!("{SECRET}\n"), 0o600);
    site
}

/// A configuration that is exactly this text.
fn exactly(text: &str, mode: u32) -> Site {
    let site = Site::new();
    site.write(CONFIG, text, mode);
    site
}

/// Plays the control socket of this site for one connection.
fn serve(site: &Site, answer: &'static [u8]) -> JoinHandle<Vec<u8>> {
    let listener = UnixListener::bind(site.path("control.sock")).expect("the path is free");
    std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().expect("the command connects");
        play(&mut peer, answer)
    })
}

/// Reads until the command half-closes, answers, closes; returns what was read.
fn play(peer: &mut UnixStream, answer: &[u8]) -> Vec<u8> {
    let mut heard = Vec::new();
    peer.read_to_end(&mut heard).expect("the command writes and half-closes");
    peer.write_all(answer).expect("the command reads until the end");
    heard
}

/// Failed with this code and these words, in our own manner.
trait Failed {
    fn failed(self, code: i32, words: &str);
}

impl Failed for Ended {
    #[track_caller]
    fn failed(self, code: i32, words: &str) {
        let ended = self.with(code);
        assert!(ended.err.starts_with("wsson: ") && ended.err.contains(words), "{ended:?}\nnot: {words}");
    }
}

// ── arguments ──

#[test]
fn help_is_there_for_all_and_for_each() {
    let overview = Ended::of(&mut wsson(&["--help"])).with(0).out;
    assert_eq!(overview, Ended::of(&mut wsson(&["help"])).with(0).out);
    for command in ["status", "check", "cookie", "send", "help", "version"] {
        assert!(overview.contains(&format!("\n  {command} ")), "{command}: {overview}");
        let page = Ended::of(&mut wsson(&["help", command])).with(0).out;
        assert!(page.starts_with(&format!("wsson {command}: ")), "{page}");
        assert_eq!(page, Ended::of(&mut wsson(&[command, "--help"])).with(0).out);
    }
    let version = concat!("wsson ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(Ended::of(&mut wsson(&["-V"])).with(0).out, version);
    assert_eq!(Ended::of(&mut wsson(&["version"])).with(0).out, version);
}

#[test]
fn bad_arguments_end_with_2_and_the_way_out() {
    let table: &[(&[&str], &str)] = &[
        (&[], "no command is given\n  try: wsson help"),
        (&["stauts"], "\"stauts\" is not a command\n  try: wsson status"),
        (&["xyzzy"], "\"xyzzy\" is not a command\n  try: wsson help\n"),
        (&["help", "sedn"], "\"sedn\" is not a command\n  try: wsson send"),
        (&["status", "--jsn"], "--jsn is not an option of status\n  try: --json"),
        (&["status", "--all"], "--all is not an option of status"),
        (&["status", "-x"], "-x is not an option of status"),
        (&["--json", "status"], "--json stands before the command\n  try: wsson COMMAND --json"),
        (&["status", "-c"], "-c needs a value"),
        (&["status", "--json=yes"], "--json takes no value"),
        (&["status", "now"], "status does not take \"now\""),
        (&["send", "--all", "a", "b"], "send does not take \"b\"; put a message with blanks in quotes"),
        (&["send", "hi"], "send needs to know to whom: --token, --user"),
        (&["send", "--all", "--token", TOKEN, "hi"], "contradict each other"),
        (&["send", "--all", "--confirm", "hi"], "a broadcast has no answer"),
        (&["send", "--token", "short", "hi"], "\"short\" is not a token: 32 letters"),
        (&["send", "--token", TOKEN, ""], "the message is empty"),
        (
            &["send", "--all", "hi", "--control", "tls://127.0.0.1:1"],
            "--control: the command line speaks to unix:// and tcp:// only",
        ),
    ];
    for (line, words) in table {
        Ended::of(&mut wsson(line)).failed(2, words);
    }
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    drop(ours);
    let child =
        wsson(&["help"]).stdout(OwnedFd::from(theirs)).stderr(Stdio::piped()).spawn().expect("it starts");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

// ── configuration ──

#[test]
fn check_shows_the_settings_without_the_secret() {
    let ended = configured("[limits]\nclients = 7\n").run(&["check"]).with(0);
    assert!(ended.out.contains("\nclients = 7\n") && ended.out.contains("/secret\"]\n"), "{}", ended.out);
    assert!(!ended.out.contains(SECRET) && ended.err.is_empty(), "{ended:?}");
}

#[test]
fn a_wrong_configuration_ends_with_6_and_every_place() {
    let site = configured("orgins = 3\nlog = 'x'\n");
    let told = site.run(&["check"]).with(6).err;
    let lines: Vec<&str> = told.lines().collect();
    let path = site.path("wsson.toml");
    let first =
        format!("wsson: {}: line 5: unknown key \"orgins\"; did you mean \"origins\"?", path.display());
    assert_eq!((lines.len(), lines[0]), (2, first.as_str()), "{told}");
    assert!(lines[1].contains("line 6: \"log\""), "{told}");
}

#[test]
fn what_is_not_configured_is_told() {
    let inline = format!("secret = '{SECRET}'\norigins = 'http://a'\n");
    let missing = ["check", "-c", "/nonexistent/wsson.toml"];
    Ended::of(&mut wsson(&missing)).failed(6, "cannot read the configuration /nonexistent");
    Ended::of(&mut wsson(&["check", "-c", "/dev/null"])).failed(6, "it is not a regular file");
    exactly("", 0o644).run(&["check"]).failed(6, "no secret is given");
    exactly(&format!("secret = '{SECRET}'"), 0o600).run(&["check"]).failed(6, "\"origins\" is empty");
    exactly(&inline, 0o644).run(&["check"]).failed(6, "it holds a secret that others may read\n  try: chmod");
    exactly(&inline, 0o602).run(&["check"]).failed(6, "others may change it");
    exactly("secret_file = 'gone'", 0o644).run(&["check"]).failed(6, "openssl rand -base64 24 > /");
    exactly("\u{1}", 0o644).run(&["check"]).failed(6, "line 1: ");
}

#[test]
fn a_secrets_file_is_judged_like_the_secret() {
    let site = configured("");
    site.write("secret", SECRET, 0o644);
    site.run(&["cookie"]).failed(6, "secret is not safe: it holds a secret that others may read");
    site.run(&["cookie", "--allow-weak"]).with(0);
    site.write("secret", "short\n", 0o600);
    site.run(&["cookie"]).failed(6, "is shorter than 16 bytes");
    site.write("secret", "\n", 0o600);
    site.run(&["cookie", "--allow-weak"]).failed(6, "is empty");
    site.write("secret", &"x".repeat(5000), 0o600);
    site.run(&["cookie"]).failed(6, "more than 4096 bytes");
}

#[test]
fn the_environment_replaces_the_secret() {
    let site = configured("");
    site.write("other", "another-secret-of-length\r\n", 0o600);
    let issue = ["cookie", "--token", TOKEN, "--time", "1531124337", "--format", "header"];
    let ours = site.run(&issue).with(0).out;
    let theirs = Ended::of(site.wsson(&issue).env("WSSON_SECRET_FILE", site.path("other"))).with(0).out;
    assert_ne!(ours, theirs);
    site.write("wsson-secret", "another-secret-of-length", 0o600);
    let systemd = Ended::of(site.wsson(&issue).env("CREDENTIALS_DIRECTORY", site.folder())).with(0).out;
    assert_eq!(theirs, systemd, "one newline at the end does not count");
}

#[cfg(feature = "tls")]
#[test]
fn what_the_configuration_names_must_be_there() {
    let site = configured(
        "log = 'no/such/log'\nuser = 'no-such-user'\nservers = ['tls://127.0.0.1:0', 'unix://secret']\n\
         [tls]\ncertificate = 'secret'\nkey = 'gone.pem'\n",
    );
    let told = site.run(&["check"]).with(1).err;
    let expected = [
        "cannot make the log ",
        "cannot make the socket ",
        "cannot use \"no-such-user\" for \"user\"",
        "the certificate ",
    ];
    for words in expected {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert_eq!(told.lines().count(), expected.len(), "{told}");
    assert!(told.contains("/gone.pem: no such file or directory"), "{told}");
}

#[test]
fn what_surprises_is_a_warning() {
    let ended = configured("[limits]\noutbox = '128 KiB'\n").run(&["check"]).with(0);
    assert!(ended.err.starts_with("wsson: warning: limits.control_payload"), "{ended:?}");
}

#[test]
fn a_tcp_control_port_is_warned_of() {
    let site = configured("");
    let text = fs::read_to_string(site.path("wsson.toml")).expect("the site has one");
    let line =
        text.lines().find(|line| line.starts_with("control = ")).expect("the site has a control socket");
    site.write("wsson.toml", &text.replace(line, "control = \"tcp://127.0.0.1:8098\""), 0o600);
    let ended = site.run(&["check"]).with(0);
    assert!(ended.err.starts_with("wsson: warning: control is a TCP port"), "{ended:?}");
}

/// The example that the site ships must be what `check` accepts once its secret is there.
#[test]
fn the_shipped_configuration_passes_check() {
    let text = fs::read_to_string(source("conf/wsson.toml")).expect("it is in the repository");
    let text = text.replace("#control = \"unix:///run/wsson", "control = \"unix://.");
    let site = exactly(&text.replace("#pid = \"/run/wsson", "pid = \"."), 0o644);
    site.write("secret", SECRET, 0o640);
    site.run(&["check"]).with(0);
}

// ── init ──

#[test]
fn init_writes_what_check_accepts_and_overwrites_nothing() {
    let folder = Site::new();
    let config = folder.path("site/wsson.toml");
    let path = config.to_str().expect("UTF-8");
    let init = |more: &[&str]| Ended::of(wsson(&["init", "-c", path]).args(more));
    init(&[]).failed(2, "--origin https://www.example.com");
    init(&["--origin", "shop.example"]).failed(2, "is no origin like");
    init(&["--origin", "https://shop.example", "--proxy", "lighttpd"]).failed(2, "is not known: nginx");
    init(&["--origin", "https://shop.example", "--language", "cobol"]).failed(2, "php, python, or node");
    init(&["--origin", "https://shop.example", "--server", "8099"]).failed(2, "servers");
    assert!(!config.parent().expect("a folder").exists(), "what is refused leaves nothing behind");

    let told = init(&["--origin", "https://shop.example"]).with(0).out;
    for words in
        ["setcookie('digest'", "location = /ws", "proxy_pass http://127.0.0.1:8099;", "wsson start -c "]
    {
        assert!(told.contains(words), "{words}: {told}");
    }
    let check = Ended::of(&mut wsson(&["check", "-c", path])).with(0).out;
    assert!(check.contains("origins = [\"https://shop.example\"]"), "{check}");
    let secret = config.with_file_name("secret");
    assert_eq!(fs::metadata(&secret).expect("made").permissions().mode() & 0o777, 0o600);

    let before = [&config, &secret].map(|path| fs::read(path).expect("readable"));
    init(&["--origin", "https://other.example"]).failed(1, "init overwrites nothing");
    assert_eq!([&config, &secret].map(|path| fs::read(path).expect("readable")), before);
    fs::remove_file(&config).expect("ours");
    let told = init(&["--origin", "https://other.example"]).with(0).out;
    assert!(told.contains("it was there already, and is kept"), "{told}");
    assert_eq!(fs::read(&secret).expect("readable"), before[1]);
}

// ── cookie ──

/// The vectors of endpoint.md.
#[test]
fn cookies_are_those_of_the_site() {
    let secret = "secret = 'eyZsz5dJDg28oNr385YjG4UQasx7D4q9'\nallow_weak_secret = true\norigins = 'https://a.example'\n";
    let site = exactly(secret, 0o600);
    let header =
        site.run(&["cookie", "--token", TOKEN, "--time", "1531124337", "--format", "header"]).with(0).out;
    let digest = "605d2454ac010c5dd76ca82b54ecfdfe";
    assert_eq!(header, format!("Cookie: token={TOKEN}; time=1531124337; digest={digest}\n"));
    let site = exactly(&format!("{secret}[auth]\nidentity = 'user'\n"), 0o600);
    let line = ["cookie", "--token", TOKEN, "--time", "1531567160", "--user", "44333", "--format", "json"];
    let json = site.run(&line).with(0).out;
    assert!(json.contains("\"digest\":\"5ccd31249fa101f43406b95fbb6ba784\",\"user\":\"44333\""), "{json}");
    assert!(json.ends_with("\"expires_unix_s\":1531653560}\n"), "{json}");
}

#[test]
fn issued_cookies_verify_until_something_is_changed() {
    let site = configured("");
    let header = site.run(&["cookie", "--format", "header"]).with(0).out;
    site.run(&["cookie", "--verify", header.trim_end()]).with(0);
    let bare = header.trim_end().strip_prefix("Cookie: ").expect("it is a header");
    let accepted = site.run(&["cookie", "--verify", bare]).with(0).out;
    assert!(accepted.starts_with("accepted: token "), "{accepted}");
    let other = site.run(&["cookie", "--format", "header"]).with(0).out;
    assert_ne!(header, other, "tokens are random");

    let refused = |value: &str, words: &str| {
        let ended = site.run(&["cookie", "--verify", value]).with(1);
        assert!(ended.out.contains(words) && ended.err.is_empty(), "{ended:?}");
    };
    refused(&bare.replace("token=", "token=x"), "refused: bad_token: \"token\" must be 32 letters");
    refused(&bare.replace("digest=", "digset="), "refused: missing_digest: there is no cookie \"digest\"");
    refused(&format!("{bare}; time=1"), "refused: duplicate_time");
    refused("", "refused: missing_token");
    let old = site.run(&["cookie", "--time", "1531124337", "--format", "header"]).with(0).out;
    refused(old.trim_end(), "refused: expired: \"time\" is more than 86400 seconds ago");
    let foreign = configured("");
    foreign.write("secret", "another-secret-of-length", 0o600);
    let foreign = foreign.run(&["cookie", "--format", "header"]).with(0).out;
    refused(foreign.trim_end(), "refused: wrong_digest");
}

#[test]
fn cookies_come_in_the_form_that_is_pasted() {
    let site = configured("servers = 'tcp://0.0.0.0:8099'\n[auth]\ncookie_token = 'PHPSESSID'\n");
    let script = site.run(&["cookie", "--token", TOKEN]).with(0).out;
    let page = "// Paste this into the browser's console on a page of https://example.com\n";
    let line = format!("document.cookie = \"PHPSESSID={TOKEN}; path=/; max-age=86400; samesite=lax\";\n");
    assert!(script.starts_with(page) && script.contains(&line), "{script}");
    let curl = site.run(&["cookie", "--token", TOKEN, "--format", "curl"]).with(0).out;
    assert!(curl.contains("-H 'Origin: https://example.com'"), "{curl}");
    assert!(curl.ends_with("'http://127.0.0.1:8099/'\n"), "{curl}");
}

/// The ticket is the one of PHP's hash_hmac in the tests of `auth`.
#[test]
fn a_login_comes_with_a_ticket_for_its_groups() {
    const TICKET: &str = "f4db8ad7a9e53351fa5734319a506b5f7e4bd28be224b7056be34e1643720833";
    let secret = "secret = 'eyZsz5dJDg28oNr385YjG4UQasx7D4q9'\nallow_weak_secret = true\norigins = 'https://a.example'\n";
    let query = format!("?groups=article%3A17&ticket={TICKET}");
    for (more, url) in [
        ("servers = 'tcp://0.0.0.0:8099'\n", "ws://127.0.0.1:8099/"),
        ("servers = 'unix:///run/x.sock'\n", "wss://a.example/ws"),
        ("servers = 'unix:///run/x.sock'\ndomains = 'ws.a.example'\n", "wss://ws.a.example/"),
    ] {
        let site = exactly(&format!("{secret}{more}"), 0o600);
        let line = ["cookie", "--token", TOKEN, "--time", "1531124337", "--groups", "article:17", "--format"];
        let show = |format: &str| site.run(&[&line[..], &[format]].concat()).with(0).out;
        assert_eq!(show("url"), format!("{url}{query}\n"));
        assert!(show("json").contains(&format!("\"query\":\"{query}\"")), "{}", show("json"));
        assert!(show("curl").contains(&format!("/{query}'")), "{}", show("curl"));
        assert!(show("js").contains(&query), "{}", show("js"));
    }
    let site = configured("");
    site.run(&["cookie", "--groups", "a b"]).failed(2, "\"a b\" is not a group");
    site.run(&["cookie", "--groups", ""]).failed(2, "\"\" is not a group");
}

#[test]
fn a_jwt_says_user_and_groups() {
    let site = configured("servers = 'tcp://0.0.0.0:8099'\n[auth]\nscheme = 'jwt'\nquery = true\n");
    let line = ["cookie", "--token", TOKEN, "--user", "anna", "--groups", "a,b:1", "--format"];
    let header = site.run(&[&line[..], &["header"]].concat()).with(0).out;
    let accepted = site.run(&["cookie", "--verify", header.trim_end()]).with(0).out;
    assert!(
        accepted.starts_with(&format!("accepted: token {TOKEN}, user anna, groups a,b:1, expires in ")),
        "{accepted}"
    );
    let url = site.run(&[&line[..], &["url"]].concat()).with(0).out;
    assert!(url.starts_with("ws://127.0.0.1:8099/?jwt=eyJ") && url.matches('.').count() == 5, "{url}");
    let broken = header.trim_end().replace("token=eyJ", "token=eyK");
    let ended = site.run(&["cookie", "--verify", &broken]).with(1);
    assert!(ended.out.contains("refused: "), "{ended:?}");
}

#[test]
fn a_login_needs_what_the_rules_ask_for() {
    let site = configured("");
    site.run(&["cookie", "--user", "me"]).failed(2, "identity = \"token\"");
    site.run(&["cookie", "--token", "short"]).failed(2, "\"short\" is not a token: 32 letters");
    site.run(&["cookie", "--time", "0531124337"]).failed(2, "is not a unix time: ten digits");
    site.run(&["cookie", "--format", "xml"]).failed(2, "js, header, curl, url, or json");
    site.run(&["cookie", "--verify", "x", "--token", TOKEN]).failed(2, "contradict each other");
    let site = configured("[auth]\nidentity = 'user'\ntoken_length = 33\n");
    site.run(&["cookie"]).failed(2, "--user is needed");
    site.run(&["cookie", "--user", "a b"]).failed(2, "\"a b\" is not a user");
    let header = site.run(&["cookie", "--user", "me", "--format", "header"]).with(0).out;
    let accepted = site.run(&["cookie", "--verify", header.trim_end()]).with(0).out;
    assert!(accepted.contains(", user me, expires in "), "{accepted}");
}

// ── send ──

#[test]
fn messages_become_the_frames_of_the_protocol() {
    const ACK: &[u8] = b"32A32febad1f0cf83f38aceb31ad63866c4";
    const ACK_BETWEEN_LINES: &[u8] = b"\r\n32A32febad1f0cf83f38aceb31ad63866c4\n";
    let to = |head: &str, message: &str| format!("{head}{TOKEN}{message}");
    let table: &[(&[&str], String, &[u8])] = &[
        (&["--all", "Hello"], "5bHello".into(), b""),
        (&["--all", "--binary", "Hello"], "5BHello".into(), b""),
        (&["--all", "--", "-x"], "2b-x".into(), b""),
        (&["--user", "44", "hi"], "7wu:44 hi".into(), b""),
        (&["--group", "shop/7", "hi"], "11wg:shop/7 hi".into(), b""),
        (&["--to", "u:44,-c:5f.1", "--binary", "hi"], "15Wu:44,-c:5f.1 hi".into(), b""),
        (&["--user", "44", "--confirm", "hi"], "7xu:44 hi".into(), object('X', r#"{"connections":2}"#)),
        (&["--all", "é"], "2bé".into(), b"0p"),
        (&["--token", TOKEN, "hi"], to("34d", "hi"), b""),
        (&["--token", TOKEN, "--binary", "hi"], to("34D", "hi"), b""),
        (&["--token", TOKEN, "--confirm", "hi"], to("34c", "hi"), ACK),
        (&["--token", TOKEN, "--confirm", "--binary", "hi"], to("34C", "hi"), ACK),
        (&["--token", TOKEN, "--confirm", ""], to("32c", ""), ACK_BETWEEN_LINES),
    ];
    for (line, expected, answer) in table {
        let site = configured("");
        let server = serve(&site, answer);
        let ended = site.run(&[&["send"], *line].concat()).with(0);
        assert_eq!((ended.out.as_str(), ended.err.as_str()), ("", ""));
        assert_eq!(server.join().expect("the server's thread"), expected.as_bytes(), "{line:?}");
    }
}

#[test]
fn what_is_not_acknowledged_ends_with_1() {
    let table: &[(&[&str], &'static [u8], &str)] = &[
        (&["--token", TOKEN, "--confirm", "hi"], b"32N32febad1f0cf83f38aceb31ad63866c4", "no open client"),
        (&["--token", TOKEN, "--confirm", "hi"], b"", "closed without an answer"),
        (&["--token", TOKEN, "--confirm", "hi"], b"32A", "the answer was cut off"),
        (&["--all", "hi"], b"0E", "the server refused the command"),
        (
            &["--user", "4", "--confirm", "hi"],
            object('X', r#"{"connections":0,"absent":["u:4"]}"#),
            "nobody is connected as u:4",
        ),
        (
            &["--to", "u:4", "--confirm", "hi"],
            object('X', r#"{"error":"no list"}"#),
            "refused the command: no list",
        ),
        (&["--to", "u:4", "--confirm", "hi"], b"0E", "the server refused the command"),
        (&["--to", "u:4", "--confirm", "hi"], b"", "closed without an answer"),
        (&["--all", "hi"], b"HTTP/1.1 400 Bad Request\r\n\r\n", "is this wsson's control socket?"),
    ];
    for (line, answer, words) in table {
        let site = configured("");
        let server = serve(&site, answer);
        site.run(&[&["send"], *line].concat()).failed(1, words);
        server.join().expect("the server's thread");
    }
}

#[test]
fn a_message_is_read_from_standard_input() {
    let site = configured("");
    let server = serve(&site, b"");
    let mut child =
        site.wsson(&["send", "--all", "--binary"]).stdin(Stdio::piped()).spawn().expect("the binary starts");
    child.stdin.take().expect("it is piped").write_all(b"\xff\x00\n").expect("it reads");
    assert!(child.wait().expect("it ends").success());
    assert_eq!(server.join().expect("the server's thread"), b"3B\xff\x00\n");
}

#[test]
fn how_many_browsers_have_it_is_printed() {
    let token = format!("39v1 t:{TOKEN} hi");
    let table: &[(&[&str], &str, u8)] = &[
        (&["--user", "44", "--arrived", "hi"], "9v1 u:44 hi", b'V'),
        (&["--all", "--arrived=3", "--binary", "hi"], "6V1 * hi", b'V'),
        (&["--token", TOKEN, "--arrived=0.5", "hi"], &token, b'V'),
        (&["--to", "u:44,-c:1", "--arrived", "hi"], "14v1 u:44,-c:1 hi", b'V'),
    ];
    for (line, expected, letter) in table {
        let site = configured("");
        let answer = r#"{"id":"1","connections":3,"away":0,"absent":[],"refused":0,"arrived":2,"ms":12}"#;
        let server = serve(&site, object(char::from(*letter), answer));
        let ended = site.run(&[&["send"], *line].concat()).with(0);
        assert_eq!(ended.out, "2 of 3 connections have it, the last after 12 ms\n");
        assert_eq!(server.join().expect("the server's thread"), expected.as_bytes(), "{line:?}");
    }
    for (answer, words) in [
        (
            r#"{"connections":1,"away":0,"absent":[],"refused":0,"arrived":0,"ms":0}"#,
            "no browser has answered in time",
        ),
        (
            r#"{"connections":0,"away":0,"absent":["u:4"],"refused":0,"arrived":0,"ms":0}"#,
            "nobody is connected as u:4",
        ),
        (r#"{"id":"1","error":"no list"}"#, "refused the command: no list"),
    ] {
        let site = configured("");
        let server = serve(&site, object('V', answer));
        site.run(&["send", "--user", "4", "--arrived", "hi"]).failed(1, words);
        server.join().expect("the server's thread");
    }
    let site = configured("");
    for wrong in ["0", "31", "x", "-1", "NaN"] {
        let line = ["send", "--all", &format!("--arrived={wrong}"), "hi"];
        site.run(&line).failed(2, "more than 0 and at most 30 seconds");
    }
    site.run(&["send", "--user", "4", "--confirm", "--arrived", "hi"]).failed(2, "one of them");
}

/// A pipe whose first program failed must not look like a message that was sent.
#[test]
fn an_empty_message_is_not_sent() {
    let site = configured("");
    // No program listens: had it tried to send, it would end with 7.
    site.run(&["send", "--all"]).failed(2, "the message is empty, so nothing is sent");
    site.run(&["send", "--all", ""]).failed(2, "the message is empty");
    site.run(&["send", "--all", "--binary"]).failed(2, "the message is empty");
    site.run(&["send", "--token", TOKEN]).failed(2, "--confirm '', which asks whether the client is there");
}

#[test]
fn what_the_server_would_refuse_is_not_sent() {
    let site = configured("[limits]\ncontrol_payload = 40\n");
    let failed = |line: &[&str], input: &[u8], words: &str| {
        let mut command = site.wsson(line);
        let mut child =
            command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        // It may have seen enough before all is written.
        let _ = child.stdin.take().expect("it is piped").write_all(input);
        let output = child.wait_with_output().expect("it ends");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && told.contains(words), "{told}");
    };
    failed(&["send", "--all"], &[b'x'; 41], "longer than 40 bytes");
    failed(&["send", "--token", TOKEN], &[b'x'; 9], "longer than 8 bytes");
    failed(&["send", "--all"], b"\xff", "is not UTF-8, and browsers drop such text\n  try: --binary");
}

#[test]
fn without_a_server_send_ends_with_7() {
    let site = configured("");
    site.run(&["send", "--all", "hi"]).failed(7, "control.sock: no such file or directory");
    drop(UnixListener::bind(site.path("control.sock")).expect("the path is free"));
    site.run(&["send", "--all", "hi"]).failed(7, "control.sock: connection refused");
}

#[test]
fn another_control_socket_can_be_named() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("tcp://{}", listener.local_addr().expect("it is bound"));
    let server = std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().expect("the command connects");
        let mut heard = String::new();
        peer.read_to_string(&mut heard).expect("the command half-closes");
        heard
    });
    configured("").run(&["send", "--control", &address, "--all", "hi"]).with(0);
    assert_eq!(server.join().expect("the server's thread"), "2bhi");

    let site = configured("");
    let server = serve(&site, b"");
    let mut command = site.wsson(&["send", "--control", "unix://control.sock", "--all", "hi"]);
    Ended::of(command.current_dir(site.folder())).with(0);
    assert_eq!(server.join().expect("the server's thread"), b"2bhi", "relative to the working folder");
}

/// A user that may talk to the server need not be able to read its secret.
#[test]
fn send_reads_no_secret() {
    let site = configured("");
    fs::remove_file(site.path("secret")).expect("the file is ours");
    let server = serve(&site, b"");
    site.run(&["send", "--all", "hi"]).with(0);
    assert_eq!(server.join().expect("the server's thread"), b"2bhi");
}

/// A half of them is enough; the answer names those that are not there.
#[test]
fn addresses_that_name_nobody_are_told() {
    let site = configured("");
    let server = serve(&site, object('X', r#"{"connections":1,"absent":["g:a/b"]}"#));
    let ended = site.run(&["send", "--to", "u:44,g:a/b", "--confirm", "hi"]).with(0);
    assert_eq!(ended.err, "wsson: nobody is connected as g:a/b\n");
    assert_eq!(server.join().expect("the server's thread"), b"13xu:44,g:a/b hi");
    for line in [
        &["--user", "44", "--group", "a"][..],
        &["--all", "--to", "u:44"],
        &["--to", "u:44 u:45"],
        &["--user", ""],
    ] {
        site.run(&[&["send"], line, &["hi"]].concat()).failed(2, "--");
    }
}

// ── online, here, kick ──

fn object(letter: char, json: &str) -> &'static [u8] {
    format!("{}{letter}{json}", json.len()).into_bytes().leak()
}

#[test]
fn who_is_connected_is_a_table_or_the_servers_own_json() {
    const COUNTS: &str = r#"{"u:44":2,"g:room":17}"#;
    for (line, shown) in [
        (&["online", "u:44,g:room"][..], "g:room  17\nu:44    2\n".to_owned()),
        (&["online", "u:44,g:room", "--json"], format!("{COUNTS}\n")),
    ] {
        let site = configured("");
        let server = serve(&site, object('O', COUNTS));
        assert_eq!(site.run(line).with(0).out, shown);
        assert_eq!(server.join().expect("the server's thread"), b"11ou:44,g:room");
    }
    let site = configured("");
    let server = serve(&site, object('O', r#"{"error":"an item with - is not counted, at byte 0"}"#));
    site.run(&["online", "--", "-u:44"]).failed(1, "refused the command: an item with -");
    server.join().expect("the server's thread");
    site.run(&["online", "u:44 u:45"]).failed(2, "is no list of addresses");
    site.run(&["online"]).failed(7, "cannot connect");
}

/// As many answers as it takes, each from where the last one ended.
#[test]
fn here_turns_the_pages() {
    let site = configured("");
    let listener = UnixListener::bind(site.path("control.sock")).expect("the path is free");
    let server = std::thread::spawn(move || {
        let answers = [
            r#"{"users":[{"name":"anna","connections":2}],"cursor":"anna"}"#,
            r#"{"users":[{"name":"b","connections":1}]}"#,
        ];
        answers.map(|answer| {
            let (mut peer, _) = listener.accept().expect("the command connects");
            play(&mut peer, object('H', answer))
        })
    });
    assert_eq!(site.run(&["here"]).with(0).out, "anna  2\nb  1\n");
    assert_eq!(server.join().expect("the server's thread"), [&b"1h*"[..], b"6h* anna"]);
}

#[test]
fn kick_tells_how_many() {
    let site = configured("");
    let server = serve(&site, object('K', r#"{"connections":3}"#));
    assert_eq!(site.run(&["kick", "u:44", "--reason", "see you"]).with(0).out, "3 connections closed\n");
    assert_eq!(server.join().expect("the server's thread"), b"12ku:44 see you");
    site.run(&["kick"]).failed(2, "kick needs to know whom");
}

#[test]
fn revoke_is_a_kick_that_lasts() {
    let site = configured("");
    let server = serve(&site, object('K', r#"{"connections":3}"#));
    assert_eq!(site.run(&["revoke", "u:44", "--reason", "see you"]).with(0).out, "3 connections closed\n");
    assert_eq!(server.join().expect("the server's thread"), b"12ru:44 see you");
    let site = configured("");
    let server = serve(&site, object('K', r#"{"error":"only t:TOKEN and u:USER are logins"}"#));
    site.run(&["revoke", "g:room"]).failed(1, "refused the command: only t:TOKEN and u:USER are logins");
    server.join().expect("the server's thread");
    site.run(&["revoke"]).failed(2, "revoke needs to know whom");
}

#[test]
fn groups_are_joined_and_left() {
    for (command, frame, shown) in [
        ("join", &b"16jroom,shop/7 u:44"[..], "2 connections joined\n"),
        ("leave", b"16Jroom,shop/7 u:44", "2 connections left\n"),
    ] {
        let site = configured("");
        let server = serve(&site, object('J', r#"{"connections":2}"#));
        assert_eq!(site.run(&[command, "room,shop/7", "u:44"]).with(0).out, shown);
        assert_eq!(server.join().expect("the server's thread"), frame);
        site.run(&[command, "room"]).failed(2, "needs groups, and whom");
        site.run(&[command, "room one", "u:44"]).failed(2, "\"room one\" is not a group");
        site.run(&[command, "room,", "u:44"]).failed(2, "\"\" is not a group");
        site.run(&[command, "room", "u:44 u:45"]).failed(2, "is no list of addresses");
        site.run(&[command, "room", "u:44", "u:45"]).failed(2, "does not take \"u:45\"");
    }
}

// ── status ──

const REPORT: &str = "{\"version\":\"0.1.0\",\"pid\":42,\"uptime_s\":90061,\"listeners\":[{\"address\":\
    \"tcp://127.0.0.1:8099\",\"domain\":\"ws.example.com\",\"clients\":3,\"accepted\":9}],\"clients\":3,\
    \"clients_peak\":5,\"clients_max\":100,\"unauthenticated\":1,\"closing\":2,\
    \"users\":2,\"groups\":1,\"groups_max\":100000,\"largest_groups\":[{\"name\":\"shop/7\",\"connections\":3}],\"refused\":{\"expired\":2,\"origin\":4},\"closed\":{\"1000\":1},\
    \"rss_bytes\":3145728,\"fds\":12,\"fds_max\":1024}";

fn status_answer(report: &str) -> &'static [u8] {
    format!("{}T{report}", report.len()).into_bytes().leak()
}

#[test]
fn status_is_one_screen_or_the_servers_own_json() {
    let site = configured("");
    let server = serve(&site, status_answer(REPORT));
    let screen = site.run(&["status"]).with(0).out;
    assert_eq!(server.join().expect("the server's thread"), b"0t");
    for line in [
        "wsson 0.1.0, pid 42, up 1 d 1 h",
        "listeners   tcp://127.0.0.1:8099 (ws.example.com): 3 clients, 9 accepted",
        "clients     3 of 100 open, 5 at most so far; 1 not logged in yet; 2 on their way",
        "            out",
        "users       2; 1 of 100000 groups: shop/7 3",
        "refused     6: origin 4, expired 2",
        "memory      3.0 MiB; 12 of 1024 descriptors",
    ] {
        assert!(screen.lines().any(|shown| shown == line), "{line}\n{screen}");
    }
    let site = configured("");
    let server = serve(&site, status_answer(REPORT));
    assert_eq!(site.run(&["status", "--json"]).with(0).out, format!("{REPORT}\n"));
    server.join().expect("the server's thread");
}

/// It looks every second until there is nothing to see.
#[test]
fn status_watches_until_the_server_is_gone() {
    for (option, first, second) in
        [("--watch", "wsson 0.1.0, pid 42", "\na second    "), ("--json", "{", "\n{")]
    {
        let site = configured("");
        let listener = UnixListener::bind(site.path("control.sock")).expect("the path is free");
        let server = std::thread::spawn(move || {
            for _ in 0..2 {
                let (mut peer, _) = listener.accept().expect("the command connects");
                assert_eq!(play(&mut peer, status_answer(REPORT)), b"0t");
            }
        });
        let ended = site.run(&["status", "--watch", option]).with(3);
        server.join().expect("the server's thread");
        assert!(ended.out.starts_with(first) && ended.out.contains(second), "{ended:?}");
        assert!(!ended.out.contains('\u{1b}'), "only a terminal is cleared: {ended:?}");
        assert!(ended.err.contains("connection refused"), "{ended:?}");
    }
}

#[test]
fn status_without_a_server_depends_on_the_pid_file() {
    let site = configured("");
    site.run(&["status"]).failed(3, "cannot connect to unix://");
    site.write("wsson.pid", "1\n", 0o644);
    site.run(&["status"]).failed(1, "not running, but its PID file");
    site.run(&["status", "--control", "unix://gone.sock"]).failed(3, "no such file or directory");
}

/// A locked PID file is a server's, whatever its control socket says: it may be draining.
#[test]
fn a_server_that_holds_its_pid_file_is_not_stopped() {
    let site = configured("");
    site.write("wsson.pid", "1\n", 0o644);
    let file = fs::File::options().write(true).open(site.path("wsson.pid")).expect("the file is ours");
    assert!(wsson::testing::sys::lock_record(&file).expect("it can be locked"));
    for (text, stage) in [("1\n", "starting"), ("PID\nstopping\n", "stopping")] {
        let text = text.replace("PID", &std::process::id().to_string());
        std::os::unix::fs::FileExt::write_all_at(&file, text.as_bytes(), 0).expect("the file is ours");
        site.run(&["status"]).failed(4, &format!("a server with PID {} is {stage}", std::process::id()));
    }
}

#[test]
fn an_answer_that_is_no_status_is_unknown() {
    for (answer, words) in [
        (&b""[..], "did not answer with a status"),
        (b"0E", "did not answer with a status"),
        (b"2T\xff\xff", "did not answer with a status"),
        (b"220 smtp.example.com ESMTP\r\n", "is this wsson's control socket?"),
        (b"3T{x}", "is not a status"),
    ] {
        let site = configured("");
        let server = serve(&site, answer);
        site.run(&["status"]).failed(4, words);
        server.join().expect("the server's thread");
    }
}
