//! endpoint.md, "What a page asks for in its URL": groups by ticket, by prefix, by login; and everything that is refused
//! (threats.md, row 27).

use crate::backend::Backend;
use crate::client::{Client, Cookies, Head, fresh_token, hex, now, refusal};
use crate::server::{SECRET, Server, Setup, eventually};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

fn hmac(secret: &str, text: &str) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length will do");
    mac.chain_update(text).finalize().into_bytes().to_vec()
}

/// As a site makes it, by hash_hmac or its like.
fn ticket(cookies: &Cookies, groups: &str) -> String {
    hex(&hmac(SECRET, &format!("groups\n{}\n{}\n{groups}", cookies.token, cookies.time)))
}

fn jwt(header: &str, claims: &str, secret: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(hmac(secret, &signed));
    format!("{signed}.{signature}")
}

fn asking(cookies: &Cookies, query: &str) -> Head {
    Head::good(cookies).line(&format!("GET /chat?{query} HTTP/1.1"))
}

#[track_caller]
fn comes_in(server: &Server, head: &Head) -> Client {
    let mut client = Client::raw(server.connect(), "");
    client.send(&head.bytes());
    client.expect_upgrade();
    client
}

#[track_caller]
fn is_refused(server: &Server, head: &Head, rule: &str) {
    let before = Backend::connect(server).status();
    assert_eq!(refusal(server, &head.bytes()).status, 403, "{rule}");
    let after = Backend::connect(server).status();
    assert_eq!(after.sum("refused"), before.sum("refused") + 1, "{rule}");
    eventually(rule, || server.log().contains(&format!("refused rule={rule} status=403 ")));
}

/// How many connections are in a group.
fn members(server: &Server, group: &str) -> String {
    let mut backend = Backend::connect(server);
    backend.command('o', format!("g:{group}"));
    backend.receive().1
}

#[test]
fn a_ticket_a_prefix_or_a_login_lets_a_page_into_groups() {
    let server = Setup::new().top("groups_public = [\"news:\", \"lobby\"]").start();
    let cookies = Cookies::fresh();
    let groups = "article:17,shop/7";
    let ticket = ticket(&cookies, groups);
    // As http_build_query and URLSearchParams write it.
    let query = format!(
        "v=3&groups=article%3A17%2Cshop%2F7&ticket={ticket}&tab=9f1c2e4a-0000-4000-8000-000000000000"
    );
    let _one = comes_in(&server, &asking(&cookies, &query));
    let _two = comes_in(&server, &asking(&cookies, &format!("groups={groups}&ticket={ticket}")));
    let _three = comes_in(&server, &asking(&cookies, "groups=news:today,lobby"));
    let _four = comes_in(&server, &asking(&cookies, "group=a&ticket=unused&%=&tab=x"));
    assert_eq!(members(&server, "article:17"), r#"{"g:article:17":2}"#);
    assert_eq!(members(&server, "shop/7"), r#"{"g:shop/7":2}"#);
    assert_eq!(members(&server, "news:today"), r#"{"g:news:today":1}"#);
    assert_eq!(members(&server, "lobby"), r#"{"g:lobby":1}"#);
}

#[test]
fn what_a_page_may_not_ask_for_is_refused_and_joins_nothing() {
    let server = Setup::new().top("groups_public = [\"news:\"]").start();
    let cookies = Cookies::fresh();
    let (good, other) = (ticket(&cookies, "room"), Cookies::fresh());
    let refused = |query: &str, rule| is_refused(&server, &asking(&cookies, query), rule);
    for (query, rule) in [
        ("groups=room", "group_not_allowed"),
        ("groups=news:a,room", "group_not_allowed"),
        ("groups=News:a", "group_not_allowed"),
        ("groups=anews:", "group_not_allowed"),
        (&format!("groups=room2&ticket={good}"), "wrong_ticket"),
        (&format!("groups=room,room&ticket={good}"), "wrong_ticket"),
        (&format!("groups=room,&ticket={good}"), "bad_groups"),
        (&format!("groups=room&ticket={}", good.to_uppercase()), "wrong_ticket"),
        (&format!("groups=room&ticket={}", &good[..63]), "wrong_ticket"),
        (&format!("groups=room&ticket={good}&ticket={good}"), "wrong_ticket"),
        (&format!("groups=room&ticket={}", ticket(&other, "room")), "wrong_ticket"),
        ("groups=room&ticket=", "wrong_ticket"),
        ("groups=", "bad_groups"),
        ("groups=news:a&groups=news:a", "bad_groups"),
        ("groups=news:a&%67roups=news:a", "bad_groups"),
        ("groups=news:%", "bad_groups"),
        ("groups=news:%ff", "bad_groups"),
        ("groups=news:%00", "bad_groups"),
        ("groups=news:a%20b", "bad_groups"),
        ("groups=news:%2541", "bad_groups"),
        ("tab=", "bad_tab"),
        ("tab=a&tab=b", "bad_tab"),
        ("tab=a.b", "bad_tab"),
        ("jwt=a&jwt=a", "bad_jwt"),
    ] {
        refused(query, rule);
    }
    // A ticket proves nothing for a later login of the same token, and nothing without a login.
    let later = Cookies::issued(SECRET, &cookies.token, now() - 60);
    is_refused(&server, &asking(&later, &format!("groups=room&ticket={good}")), "wrong_ticket");
    let stranger = asking(&cookies, &format!("groups=room&ticket={good}")).without("Cookie");
    is_refused(&server, &stranger, "missing_token");
    for group in ["room", "room2", "news:a"] {
        assert_eq!(members(&server, group), format!("{{\"g:{group}\":0}}"));
    }
}

#[test]
fn a_jwt_is_a_login_from_the_cookie_and_from_the_url() {
    let server = Setup::new().auth("scheme = \"jwt\"").auth("query = true").start();
    let header = r#"{"alg":"HS256","typ":"JWT"}"#;
    let claims =
        |token: &str| format!(r#"{{"sub":"anna","jti":"{token}","exp":{},"groups":["room"]}}"#, now() + 60);
    let strange = Cookies::fresh();
    let in_cookie = |jwt: &str| Head::good(&strange).set("Cookie", &format!("a=b; token={jwt}"));
    let in_url = |jwt: &str| asking(&strange, &format!("jwt={jwt}")).without("Cookie");
    let good = jwt(header, &claims(&fresh_token()), SECRET);
    let _one = comes_in(&server, &in_cookie(&good));
    let _two = comes_in(&server, &in_url(&good));
    let _quoted = comes_in(&server, &in_cookie(&format!("\"{good}\"")));
    assert_eq!(members(&server, "room"), r#"{"g:room":3}"#);
    let none = jwt(r#"{"alg":"none"}"#, &claims(&fresh_token()), SECRET);
    let unsigned = format!("{}.", none.rsplit_once('.').expect("three parts").0);
    let foreign = jwt(header, &claims(&fresh_token()), "another secret, long enough");
    let over = jwt(header, &format!(r#"{{"exp":{}}}"#, now() - 61), SECRET);
    for (jwt, rule) in [
        (&none, "wrong_algorithm"),
        (&unsigned, "wrong_algorithm"),
        (&foreign, "wrong_signature"),
        (&over, "expired"),
        (&"a.b".to_owned(), "bad_jwt"),
    ] {
        is_refused(&server, &in_cookie(jwt), rule);
        is_refused(&server, &in_url(jwt), rule);
    }
    assert_eq!(members(&server, "room"), r#"{"g:room":3}"#);
    assert!(!server.log().contains(&good) && !server.log().contains("jwt="), "a JWT is in the log");
    let cookie_only = Setup::new().auth("scheme = \"jwt\"").start();
    is_refused(&cookie_only, &in_url(&good), "missing_token");
}
