//! COMMANDS.md, `r`: a revoked login does not come back, whatever ends the server or is written into its file.

use crate::backend::{Backend, command};
use crate::client::{Client, Cookies, Head, fresh_token, hex, now, refusal};
use crate::server::{SECRET, Server, Setup, eventually};
use md5::{Digest, Md5};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

const CLOSED_ONE: &str = r#"{"connections":1}"#;
const CLOSED_NONE: &str = r#"{"connections":0}"#;

/// A file that outlives servers.
struct Kept {
    _folder: TempDir,
    file: PathBuf,
}

impl Kept {
    fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        Self { file: folder.path().join("revoked"), _folder: folder }
    }

    fn setup(&self) -> Setup {
        Setup::new().auth("identity = \"user\"").top(&format!("revoked_file = {:?}", self.file))
    }

    #[track_caller]
    fn start(&self) -> (Server, Backend) {
        let server = self.setup().start();
        let backend = Backend::connect(&server);
        (server, backend)
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.file).expect("the file is text")
    }

    /// Lines that are no comment, sorted.
    fn lines(&self) -> Vec<String> {
        let text = self.text();
        let mut lines: Vec<String> =
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    }
}

fn login_at(user: &str, time: u64) -> Cookies {
    let (token, time) = (fresh_token(), time.to_string());
    let digest = hex(&Md5::digest(format!("{SECRET}{user}{token}{time}")));
    Cookies { token, time, digest, user: Some(user.to_owned()) }
}

fn login(user: &str) -> Cookies {
    login_at(user, now())
}

#[track_caller]
fn revoke(backend: &mut Backend, payload: &str, answer: &str) {
    backend.command('r', payload);
    backend.expect('K', answer);
}

#[track_caller]
fn expect_revoked(server: &Server, cookies: &Cookies) {
    assert_eq!(refusal(server, &Head::good(cookies).bytes()).status, 403);
    eventually("the log names the rule", || server.log().contains("refused rule=revoked status=403"));
}

#[track_caller]
fn expect_open(server: &Server, cookies: &Cookies) {
    Client::with(server, cookies).expect_nothing();
}

#[test]
fn a_revoked_login_does_not_come_back() {
    let server = Setup::new().auth("identity = \"user\"").listeners(2).start();
    let mut backend = Backend::connect(&server);
    let (lost, other, bob) = (login("ann"), login("ann"), login("bob"));
    let mut open = [Client::with(&server, &lost), Client::with(&server, &other)];
    let mut of_bob = Client::with(&server, &bob);
    revoke(&mut backend, &format!("t:{} bye", lost.token), CLOSED_ONE);
    open[0].expect_close(4001, "bye");
    expect_revoked(&server, &lost);
    expect_open(&server, &other);
    open[1].expect_nothing();
    revoke(&mut backend, "u:ann", CLOSED_ONE);
    open[1].expect_close(4001, "logged out");
    expect_revoked(&server, &other);
    revoke(&mut backend, "u:nobody", CLOSED_NONE);
    // Nor at another listener.
    let mut socket = server.endpoints[1].connect().expect("the endpoint accepts");
    socket.send(&Head::good(&lost).bytes());
    assert_eq!(crate::client::read_refusal(&mut socket).status, 403);
    of_bob.expect_nothing();
    // A login of a later second is a new one.
    let second = now();
    eventually("a second goes by", || now() > second);
    expect_open(&server, &login("ann"));
    // Of the refused and of what is kept.
    eventually("they are counted", || backend.status().numbers("revoked") == [3, 3]);
}

#[test]
fn only_logins_can_be_revoked() {
    let server = Setup::new().auth("identity = \"user\"").start();
    let mut backend = Backend::connect(&server);
    let mut ann = Client::with(&server, &login("ann"));
    for list in ["*", "u:ann,*", "u:ann,g:room", "u:ann,c:0-1", "u:ann,-u:bob"] {
        revoke(&mut backend, list, r#"{"error":"only t:TOKEN and u:USER are logins, which can be revoked"}"#);
    }
    ann.expect_nothing();
}

#[test]
fn it_outlives_restart_and_reload() {
    let kept = Kept::new();
    let (lost, of_ann) = (login("bob"), login("ann"));
    {
        let (server, mut backend) = kept.start();
        let mut open = Client::with(&server, &lost);
        revoke(&mut backend, &format!("t:{},u:ann", lost.token), CLOSED_ONE);
        open.expect_close(4001, "logged out");
    }
    let (mut server, mut backend) = kept.start();
    for _ in 0..2 {
        expect_revoked(&server, &lost);
        expect_revoked(&server, &of_ann);
        server.signal("HUP");
        eventually("it was reloaded", || server.log().contains("reloaded applied=none"));
    }
    // Lines are appended to the rewritten file.
    let third = login("carl");
    revoke(&mut backend, &format!("t:{}", third.token), CLOSED_NONE);
    drop((server, backend));
    let (server, _) = kept.start();
    [lost, of_ann, third].iter().for_each(|cookies| expect_revoked(&server, cookies));
}

#[test]
fn what_is_over_leaves_the_file() {
    let kept = Kept::new();
    let over = format!("t:{} {}\n", "0".repeat(32), now() - 1);
    let far = format!("u:ann {} {}\n", now(), now() + 1000);
    fs::write(&kept.file, format!("{over}{far}")).unwrap();
    let (server, _) = kept.start();
    assert_eq!(kept.lines(), [far.trim_end()]);
    expect_revoked(&server, &login_at("ann", now() - 10));
}

/// threats.md row 28. A process that is killed leaves any first part of what it wrote.
#[test]
fn a_torn_file_gives_every_whole_line() {
    let kept = Kept::new();
    let until = now() + 10_000;
    let lines = [
        format!("t:{} {until}", "a".repeat(32)),
        format!("u:ann {} {until}", now()),
        format!("u:b {until} {until}"),
    ];
    let text = lines.join("\n") + "\n";
    for cut in (0..=text.len()).rev() {
        fs::write(&kept.file, &text[..cut]).unwrap();
        let (server, mut backend) = kept.start();
        let whole = text[..cut]
            .matches('\n')
            .count()
            .max(text[..cut].split('\n').filter(|line| lines.contains(&(*line).to_owned())).count());
        assert_eq!(kept.lines(), lines[..whole], "cut at {cut}");
        // And what comes is a line of its own.
        revoke(&mut backend, "u:zoe", CLOSED_NONE);
        assert_eq!(kept.lines().len(), whole + 1, "cut at {cut}: {}", kept.text());
        drop(server);
    }
}

/// All that was answered before a SIGKILL holds after it.
#[test]
fn what_was_answered_outlives_a_kill() {
    let kept = Kept::new();
    let mut answered: Vec<Cookies> = Vec::new();
    for round in 0..12 {
        let (server, mut backend) = kept.start();
        for cookies in answered.iter().rev().take(5) {
            expect_revoked(&server, cookies);
        }
        let logins: Vec<Cookies> = (0..200).map(|_| login("ann")).collect();
        let frames: Vec<u8> =
            logins.iter().flat_map(|login| command('r', format!("t:{}", login.token))).collect();
        backend.send(frames);
        for login in logins.into_iter().take(1 + round * 7 % 40) {
            backend.expect('K', CLOSED_NONE);
            answered.push(login);
        }
        drop(server); // SIGKILL, while others are being written
    }
    let (server, _) = kept.start();
    let lines = kept.lines();
    for cookies in &answered {
        let begin = format!("t:{} ", cookies.token);
        assert!(lines.iter().any(|line| line.starts_with(&begin)), "{begin} was answered and is lost");
    }
    answered.iter().step_by(9).for_each(|cookies| expect_revoked(&server, cookies));
    assert!(!server.log().contains("revoked_line_unreadable"), "all were whole");
}

#[test]
fn what_an_administrator_writes_holds_after_a_reload() {
    let kept = Kept::new();
    let (mut server, mut backend) = kept.start();
    let (one, two) = (login("bob"), login("carl"));
    revoke(&mut backend, &format!("t:{}", one.token), CLOSED_NONE);
    let text = format!("{}no line of ours\nt:{} {}", kept.text(), two.token, now() + 1000);
    fs::write(&kept.file, &text).unwrap();
    let place = text.lines().position(|line| line == "no line of ours").unwrap() + 1;
    server.signal("HUP");
    eventually("it says which line", || {
        server.log().contains(&format!("revoked_line_unreadable line={place} "))
    });
    eventually("it was reloaded", || server.log().contains("reloaded applied=none"));
    expect_revoked(&server, &one);
    expect_revoked(&server, &two);
    assert_eq!(kept.lines().len(), 2);
    // A file that was removed comes back whole with the next one.
    fs::remove_file(&kept.file).unwrap();
    revoke(&mut backend, "u:zoe", CLOSED_NONE);
    assert_eq!(kept.lines().len(), 3);
}

#[test]
fn nothing_is_revoked_that_cannot_be_kept() {
    let kept = Kept::new();
    let setup = kept.setup().limit("revoked = 2");
    let server = setup.start();
    let mut backend = Backend::connect(&server);
    let cookies = login("ann");
    let mut ann = Client::with(&server, &cookies);
    revoke(&mut backend, "u:b,u:c", CLOSED_NONE);
    let error = r#"{"error":"limits.revoked revocations are kept already"}"#;
    revoke(&mut backend, "u:ann", error);
    revoke(&mut backend, &format!("t:{},u:b", cookies.token), error);
    ann.expect_nothing();
    revoke(&mut backend, "u:b", CLOSED_NONE);
    assert_eq!(kept.lines().len(), 3, "the same user again is a line, and no more revocation");
    // The folder is gone, so no file can be made.
    fs::remove_dir_all(kept.file.parent().unwrap()).unwrap();
    backend.command('r', "u:b");
    let (letter, answer) = backend.receive();
    assert!(
        letter == 'K'
            && answer.starts_with(r#"{"error":"revoked_file cannot be written, so nothing was revoked: "#),
        "{answer}"
    );
}

#[test]
fn a_file_that_cannot_be_used_ends_the_start() {
    let kept = Kept::new();
    fs::create_dir(&kept.file).unwrap();
    let (code, said) = kept.setup().refuses_to_start();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("cannot use revoked_file") && said.contains("it is no regular file"), "{said}");
}

/// Reading and rewriting as many as may be takes no time that browsers would notice.
#[test]
fn a_file_of_a_hundred_thousand() {
    let kept = Kept::new();
    let until = now() + 10_000;
    let text: String = (0..100_000).map(|number| format!("t:{number:032x} {until}\n")).collect();
    fs::write(&kept.file, text).unwrap();
    let begin = SystemTime::now();
    let (server, mut backend) = kept.start();
    assert!(begin.elapsed().unwrap() < Duration::from_secs(10), "a debug build on a busy machine");
    assert_eq!(kept.lines().len(), 100_000);
    revoke(&mut backend, "u:ann", r#"{"error":"limits.revoked revocations are kept already"}"#);
    expect_open(&server, &login("ann"));
}
