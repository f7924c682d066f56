//! Fuzz body: a JWT is accepted only if a plain reader finds HS256 in its header, its own signature, and claims that mean
//! what the login says. And what is issued is accepted.
//!
//! Input: a byte, then with bit 0 a whole JWT, otherwise header and claims with a line feed between them, which are signed
//! here. Bit 1 asks for a user.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use wsson::testing::auth::{Denied, Identity, IdentityKind, Rules, Secret, issue_jwt, verify_jwt};

const SECRET: &str = "a secret of the fuzzer's";
const NOW_UNIX_S: i64 = 1_531_124_400;

pub(crate) fn body(data: &[u8]) {
    let &[choice, ref text @ ..] = data else {
        return;
    };
    let identity = if choice & 2 == 0 { IdentityKind::Token } else { IdentityKind::User };
    let rules = Rules { identity, secrets: vec![Secret::new(SECRET)], ..Rules::default() };
    let jwt = if choice & 1 == 0 { signed(text) } else { text.to_vec() };
    match verify_jwt(&rules, &jwt, NOW_UNIX_S) {
        Ok(login) => {
            accepted(&rules, &jwt, &login);
            again(&rules, &login);
        }
        Err(denied) => assert!(Denied::ALL.contains(&denied)),
    }
}

fn signed(text: &[u8]) -> Vec<u8> {
    let middle = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
    let claims = text.get(middle + 1..).unwrap_or_default();
    let signed = [URL_SAFE_NO_PAD.encode(&text[..middle]), URL_SAFE_NO_PAD.encode(claims)].join(".");
    let signature = URL_SAFE_NO_PAD.encode(hmac_sha256(signed.as_bytes()));
    [signed, signature].join(".").into_bytes()
}

fn accepted(rules: &Rules, jwt: &[u8], login: &Identity<'_>) {
    assert!(jwt.len() <= 4096);
    let text = std::str::from_utf8(jwt).expect("base64url is ASCII");
    let parts: Vec<&str> = text.split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!("{text} has not three parts") };
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).expect("it was decoded");
    assert_eq!(decode(signature), hmac_sha256(format!("{header}.{claims}").as_bytes()));
    let header: Value = serde_json::from_slice(&decode(header)).expect("it was JSON");
    assert!(header["alg"] == "HS256" && header.get("crit").is_none(), "{header}");
    let claims: Value = serde_json::from_slice(&decode(claims)).expect("it was JSON");
    assert_eq!(claims["exp"].as_i64(), Some(login.expires_unix_s));
    assert!(login.expires_unix_s > NOW_UNIX_S);
    assert_eq!(claims.get("iat").map_or(Some(0), Value::as_i64), Some(login.issued_unix_s));
    assert!(login.issued_unix_s <= NOW_UNIX_S + 60);
    assert!(
        claims
            .get("nbf")
            .is_none_or(|nbf| nbf.as_i64().is_some_and(|nbf| (0..=NOW_UNIX_S + 60).contains(&nbf)))
    );
    assert_eq!(claims.get("sub").and_then(Value::as_str), login.user.as_deref());
    assert!(login.user.as_deref().is_none_or(Rules::is_user));
    assert!(login.user.is_some() || rules.identity == IdentityKind::Token);
    assert!(rules.is_token(&login.token));
    let groups: Vec<&str> =
        claims["groups"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    assert_eq!(groups, login.groups);
    assert!(groups.into_iter().all(Rules::is_group));
}

/// A login can be said again, in a JWT of our own.
fn again(rules: &Rules, login: &Identity<'_>) {
    let jwt = issue_jwt(&rules.secrets[0], login);
    // Long lists of groups may not fit any more: `jti` is written out.
    if jwt.len() <= 4096 {
        assert_eq!(verify_jwt(rules, jwt.as_bytes(), NOW_UNIX_S).as_ref(), Ok(login), "{jwt}");
    }
}

/// As RFC 2104 does it.
fn hmac_sha256(message: &[u8]) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let padded =
        |pad: u8| (0..64).map(|at| SECRET.as_bytes().get(at).unwrap_or(&0) ^ pad).collect::<Vec<_>>();
    let inner = Sha256::digest([&padded(0x36)[..], message].concat());
    Sha256::digest([&padded(0x5c)[..], &inner].concat()).to_vec()
}
