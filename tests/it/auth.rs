//! endpoint.md, "Authorisation": the grammar, the age, the digest, the origin, and the moment a login ends.

use crate::client::{Client, Cookies, Head, fresh_token, hex, now, refusal, text};
use crate::server::{ORIGIN, SECRET, Server, Setup};
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;

#[track_caller]
fn is_refused(server: &Server, what: &str, header: &str) -> String {
    let head = Head::good(&Cookies::fresh()).set("Cookie", header);
    let response = refusal(server, &head.bytes());
    assert_eq!(response.status, 403, "{what}: {header:?}: {response:?}");
    format!("{}\r\n\r\n{}", response.head, response.body)
}

/// Cookies whose digest fits, whatever they hold: only the grammar and the age can refuse them.
fn signed(token: &str, time: &str) -> String {
    let digest = hex(&Md5::digest(format!("{SECRET}{token}{time}")));
    format!("token={token}; time={time}; digest={digest}")
}

#[test]
fn spoilt_cookies_are_refused_and_the_answer_does_not_tell_why() {
    let server = Setup::new().start();
    let good = Cookies::fresh();
    let (token, time, digest) = (&good.token, &good.time, &good.digest);
    let short = &token[..31];
    let wrong_last = format!("{}{}", &digest[..31], if digest.ends_with('0') { '1' } else { '0' });
    let spoilt = [
        ("empty", String::new()),
        ("no token", format!("time={time}; digest={digest}")),
        ("no time", format!("token={token}; digest={digest}")),
        ("no digest", format!("token={token}; time={time}")),
        ("token twice", format!("{}; token={token}", good.header())),
        ("time twice", format!("time={time}; {}", good.header())),
        ("digest twice", format!("{}; digest={digest}", good.header())),
        ("digest's last digit", format!("token={token}; time={time}; digest={wrong_last}")),
        ("digest in upper case", format!("token={token}; time={time}; digest={}", digest.to_uppercase())),
        ("digest too short", format!("token={token}; time={time}; digest={}", &digest[..31])),
        ("digest too long", format!("token={token}; time={time}; digest={digest}0")),
        ("digest empty", format!("token={token}; time={time}; digest=")),
        ("another's token", format!("token={}; time={time}; digest={digest}", fresh_token())),
        ("token of 31", signed(short, time)),
        ("token of 33", signed(&format!("{token}a"), time)),
        ("token with a dot", signed(&format!("{short}."), time)),
        ("time of 9 digits", signed(token, &time[..9])),
        ("time of 11 digits", signed(token, &format!("{time}0"))),
        ("time with a leading zero", signed(token, &format!("0{}", &time[..9]))),
        ("time with a sign", signed(token, &format!("+{}", &time[..9]))),
        ("time in hex", signed(token, "65a0000000")),
        ("moved boundary", format!("token={short}; time={}{time}; digest={digest}", &token[31..])),
        ("too old", signed(token, &(now() - 86_400 - 5).to_string())),
        ("in the future", signed(token, &(now() + 75).to_string())),
        ("far in the future", signed(token, "9999999999")),
    ];
    let answers: Vec<String> =
        spoilt.iter().map(|(what, header)| is_refused(&server, what, header)).collect();
    let no_origin = refusal(&server, &Head::good(&good).without("Origin").bytes());
    let no_origin = format!("{}\r\n\r\n{}", no_origin.head, no_origin.body);
    for (answer, (what, _)) in answers.iter().zip(&spoilt) {
        assert_eq!(without_date(answer), without_date(&no_origin), "{what} is told apart");
    }
    Client::with(&server, &good).expect_nothing();
}

fn without_date(answer: &str) -> String {
    answer.lines().filter(|line| !line.starts_with("Date:")).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_digest_extended_by_its_padding_is_refused() {
    // md5(secret . token . time) can be continued without the secret; the padding between is no digit.
    let server = Setup::new().start();
    let good = Cookies::fresh();
    for padding in ["\u{80}", "%80%00", "\\x80"] {
        let time = format!("{}{padding}9999999999", good.time);
        is_refused(
            &server,
            "extension",
            &format!("token={}; time={time}; digest={}", good.token, good.digest),
        );
    }
}

#[test]
fn the_age_is_judged_by_the_lifetime() {
    let server = Setup::new().auth("lifetime = 100").start();
    for (age, accepted) in [(0, true), (90, true), (-50, true), (105, false), (-75, false)] {
        let time = now().checked_add_signed(-age).expect("after 1970");
        let cookies = Cookies::issued(SECRET, &fresh_token(), time);
        if accepted {
            Client::with(&server, &cookies).expect_nothing();
        } else {
            is_refused(&server, "age", &cookies.header());
        }
    }
}

#[test]
fn either_of_two_secrets_verifies() {
    let (old, new) = ("the-old-secret-4b1d2c", "the-new-secret-9e8f7a");
    let server = Setup::new().secret(&format!("secret = [\"{new}\", \"{old}\"]")).start();
    for secret in [old, new] {
        Client::with(&server, &Cookies::issued(secret, &fresh_token(), now())).expect_nothing();
    }
    is_refused(&server, "a third", &Cookies::fresh().header());
}

fn hmac(message: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length is a key");
    mac.update(message.as_bytes());
    hex(&mac.finalize().into_bytes())
}

#[test]
fn hmac_of_the_token() {
    let server = Setup::new().auth("digest = \"hmac-sha256\"").start();
    let mut cookies = Cookies::fresh();
    is_refused(&server, "md5", &cookies.header());
    cookies.digest = hmac(&format!("{}\n{}", cookies.token, cookies.time));
    Client::with(&server, &cookies).expect_nothing();
}

#[test]
fn md5_of_the_user() {
    let server = Setup::new().auth("identity = \"user\"").start();
    let mut cookies = Cookies::fresh();
    is_refused(&server, "no user", &cookies.header());
    cookies.user = Some("a.b_c-d@example".to_owned());
    is_refused(&server, "digest without the user", &cookies.header());
    let signed = |user: &str| hex(&Md5::digest(format!("{SECRET}{user}{}{}", cookies.token, cookies.time)));
    for user in ["", "a b", "a/b", &"u".repeat(65)] {
        let spoilt = Cookies { user: Some(user.to_owned()), digest: signed(user), ..cookies.clone() };
        is_refused(&server, "user's grammar", &spoilt.header());
    }
    for user in ["a.b_c-d@example", "4", &"u".repeat(64)] {
        let good = Cookies { user: Some(user.to_owned()), digest: signed(user), ..cookies.clone() };
        Client::with(&server, &good).expect_nothing();
    }
}

#[test]
fn hmac_of_the_user() {
    let server = Setup::new().auth("identity = \"user\"").auth("digest = \"hmac-sha256\"").start();
    let mut cookies = Cookies::fresh();
    cookies.user = Some("44333".to_owned());
    cookies.digest = hmac(&format!("44333\n{}\n{}", cookies.token, cookies.time));
    Client::with(&server, &cookies).expect_nothing();
}

#[test]
fn cookie_names_and_token_length_are_the_sites() {
    let server = Setup::new().auth("cookie_token = \"PHPSESSID\"").auth("token_length = 26").start();
    let token = &fresh_token()[..26];
    let cookies = Cookies::issued(SECRET, token, now());
    is_refused(&server, "the default name", &cookies.header());
    let header = cookies.header().replace("token=", "PHPSESSID=");
    let mut client = Client::raw(server.connect(), token);
    client.send(&Head::good(&cookies).set("Cookie", &header).bytes());
    client.expect_upgrade();
}

#[test]
fn only_the_exact_origins_are_let_in() {
    let server = Setup::new().top("origins = [\"https://example.com\", \"http://localhost:8080\"]").start();
    for origin in [ORIGIN, "https://EXAMPLE.com", "HTTP://localhost:8080"] {
        let mut client = Client::raw(server.connect(), "");
        client.send(&Head::good(&Cookies::fresh()).set("Origin", origin).bytes());
        client.expect_upgrade();
    }
    let wrong = [
        "http://example.com",
        "https://example.com:8443",
        "https://example.com.",
        "https://example.com/",
        "https://example.com.evil",
        "https://evil-example.com",
        "https://evil.example.com",
        "https://example.co",
        "https://user@example.com",
        "https://example.com@evil",
        "https://example.com#",
        "https://example.com?",
        "https://example.com, https://example.com",
        "https://example.com https://evil",
        "example.com",
        "//example.com",
        "https:example.com",
        "https:///example.com",
        "https://example%2Ecom",
        "http://localhost",
        "http://localhost:80800",
        "http://localhost:08080",
        "http://127.0.0.1:8080",
        "null",
        "*",
        "",
        "file://",
    ];
    for origin in wrong {
        let head = Head::good(&Cookies::fresh()).set("Origin", origin);
        let response = refusal(&server, &head.bytes());
        assert_eq!(response.status, 403, "{origin:?}: {response:?}");
    }
}

#[test]
fn at_its_end_a_login_is_closed_whether_it_talks_or_not() {
    let server = Setup::new().echo().auth("lifetime = 1000").start();
    let time = now() - 1000 + 3;
    let mut silent = Client::with(&server, &Cookies::issued(SECRET, &fresh_token(), time));
    let mut talking = Client::with(&server, &Cookies::issued(SECRET, &fresh_token(), time));
    let mut fresh = Client::connect(&server);
    while now() < time + 1000 - 1 {
        talking.send_text("still here");
        talking.expect_text("still here");
    }
    silent.expect_close(1000, "expired");
    assert!(now() >= time + 1000, "closed before its time");
    silent.send(&crate::client::close(1000, b""));
    silent.expect_end();
    let last = std::iter::from_fn(|| Some(talking.receive())).find(|frame| frame.opcode == 8);
    assert_eq!(last.and_then(|frame| frame.close_code()), Some(1000));
    fresh.send(&text("not me"));
    fresh.expect_text("not me");
}
