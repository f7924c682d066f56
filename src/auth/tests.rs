//! The vectors of endpoint.md, and every way to bend them.

use super::*;

const SECRET: &str = "eyZsz5dJDg28oNr385YjG4UQasx7D4q9";
const TOKEN: &str = "32febad1f0cf83f38aceb31ad63866c4";

fn rules(identity: IdentityKind, digest: Digest) -> Rules {
    Rules { identity, digest, secrets: vec![Secret::new(SECRET)], ..Rules::default() }
}

fn check<'h>(rules: &Rules, cookies: &'h str, now_unix_s: i64) -> Result<Identity<'h>, Denied> {
    verify(rules, [cookies.as_bytes()].into_iter(), now_unix_s)
}

#[test]
fn accepts_the_vector_with_a_token() {
    let rules = rules(IdentityKind::Token, Digest::Md5);
    let cookies =
        "token=32febad1f0cf83f38aceb31ad63866c4; time=1531124337; digest=605d2454ac010c5dd76ca82b54ecfdfe";
    let identity = Identity { token: TOKEN, user: None, expires_unix_s: 1_531_124_337 + 86_400 };
    assert_eq!(check(&rules, cookies, 1_531_124_337), Ok(identity));
}

#[test]
fn accepts_the_vector_with_a_user() {
    let rules = rules(IdentityKind::User, Digest::Md5);
    let cookies = "token=32febad1f0cf83f38aceb31ad63866c4; time=1531567160; user=44333; \
        digest=5ccd31249fa101f43406b95fbb6ba784";
    let identity = Identity { token: TOKEN, user: Some("44333"), expires_unix_s: 1_531_567_160 + 86_400 };
    assert_eq!(check(&rules, cookies, 1_531_567_160), Ok(identity));
}
