use super::*;
use proptest::prelude::*;

const TOKEN: &str = "32febad1f0cf83f38aceb31ad63866c4";
const SECRET: &str = "eyZsz5dJDg28oNr385YjG4UQasx7D4q9";
const ISSUED: i64 = 1_531_124_337;
const HS256: &str = r#"{"alg":"HS256"}"#;

/// RFC 7515 appendix A.1, and its key.
const A1: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const A1_KEY: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";

/// The token that PyJWT 2 makes for user 44 in two groups.
const PYJWT: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0NCIsImp0aSI6IjMyZmViYWQxZjBjZjgzZjM4YWNlYjMxYWQ2Mzg2NmM0IiwiaWF0IjoxNTMxMTI0MzM3LCJleHAiOjE1MzEyMTA3MzcsImdyb3VwcyI6WyJyb29tIiwic2hvcC83Il19.EnYTMEhE8KWbh1OcXpI6UJCvUF6bJ_tC3YbkxfPi4j4";

fn rules(secrets: &[&str]) -> Rules {
    Rules { secrets: secrets.iter().map(|secret| Secret::new(*secret)).collect(), ..Rules::default() }
}

/// Signs any text.
fn sign(header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = hmac_sha256(&Secret::new(SECRET), &[signed.as_bytes()]);
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn judge(jwt: impl AsRef<[u8]>) -> Result<Identity<'static>, Denied> {
    verify_jwt(&rules(&[SECRET]), jwt.as_ref(), ISSUED)
}

#[track_caller]
fn refused(jwt: impl AsRef<[u8]>, rule: Denied) {
    assert_eq!(judge(jwt.as_ref()), Err(rule), "{}", jwt.as_ref().escape_ascii());
}

#[test]
fn the_vector_of_the_rfc() {
    let key = URL_SAFE_NO_PAD.decode(A1_KEY).unwrap();
    let rules = Rules { secrets: vec![Secret::new(key)], ..Rules::default() };
    let identity = verify_jwt(&rules, A1.as_bytes(), 1_300_819_379).unwrap();
    let digest = to_hex(&Sha256::digest(A1));
    assert_eq!(identity, Identity::new(&digest[..32]).with_times(0, 1_300_819_380));
    assert_eq!(verify_jwt(&rules, A1.as_bytes(), 1_300_819_380), Err(Denied::Expired));
    refused(A1, Denied::WrongSignature);
}

#[test]
fn what_pyjwt_makes() {
    let expected = Identity::new(TOKEN).with_user("44").with_group("room").with_group("shop/7");
    assert_eq!(judge(PYJWT), Ok(expected.with_times(ISSUED, ISSUED + 86_400)));
}

#[test]
fn either_secret_verifies() {
    for secrets in [[SECRET, "another of the site"], ["another of the site", SECRET]] {
        assert!(verify_jwt(&rules(&secrets), PYJWT.as_bytes(), ISSUED).is_ok());
    }
    for secrets in [&["another of the site"][..], &[]] {
        assert_eq!(verify_jwt(&rules(secrets), PYJWT.as_bytes(), ISSUED), Err(Denied::WrongSignature));
    }
}

#[test]
fn what_is_issued_is_accepted() {
    let bare = Identity::new(TOKEN).with_times(ISSUED, ISSUED + 1);
    let full = bare.clone().with_user("a+b@example.com").with_group("a").with_group("b:/1");
    for identity in [bare, full] {
        assert_eq!(judge(issue_jwt(&Secret::new(SECRET), &identity)), Ok(identity));
    }
}

#[test]
fn every_other_algorithm_is_refused_before_anything_is_hashed() {
    for alg in [
        "none", "None", "NONE", "nOnE", "hs256", "HS384", "HS512", "RS256", "ES256", "EdDSA", "", " HS256",
        "HS256\0",
    ] {
        let header = json!({ "alg": alg, "typ": "JWT" }).to_string();
        refused(sign(&header, r#"{"exp":9999999999}"#), Denied::WrongAlgorithm);
        // A JWT that says none has no signature at all.
        let unsigned = sign(&header, r#"{"exp":9999999999}"#);
        refused(&unsigned[..=unsigned.rfind('.').unwrap()], Denied::WrongAlgorithm);
    }
    for header in [
        "{}",
        r#"{"alg":null}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":{"alg":"HS256"}}"#,
        r#"{"ALG":"HS256"}"#,
        r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"alg":"HS256","crit":null}"#,
    ] {
        refused(sign(header, r#"{"exp":9999999999}"#), Denied::WrongAlgorithm);
        // Judged before the signature and the claims.
        let encoded = URL_SAFE_NO_PAD.encode(header);
        refused(format!("{encoded}.?.?"), Denied::WrongAlgorithm);
    }
}

#[test]
fn keys_in_the_header_are_never_used() {
    let header = r#"{"jwk":{"kty":"oct","k":"AAAA"},"alg":"HS256","kid":"../../dev/null","jku":"https://evil.example"}"#;
    assert!(judge(sign(header, r#"{"exp":9999999999}"#)).is_ok(), "ours signed it");
    let signed = sign(header, r#"{"exp":9999999999}"#);
    let body = &signed[..signed.rfind('.').unwrap()];
    let forged = hmac_sha256(&Secret::new([0, 0, 0]), &[body.as_bytes()]);
    refused(format!("{body}.{}", URL_SAFE_NO_PAD.encode(forged)), Denied::WrongSignature);
}

#[test]
fn a_member_that_stands_twice_has_no_meaning() {
    refused(sign(r#"{"alg":"none","alg":"HS256"}"#, r#"{"exp":9999999999}"#), Denied::BadJwt);
    refused(sign(r#"{"alg":"HS256","\u0061lg":"none"}"#, r#"{"exp":9999999999}"#), Denied::BadJwt);
    for claims in [
        r#"{"exp":9999999999,"sub":"1","sub":"2"}"#,
        r#"{"exp":9999999999,"sub":"1","s\u0075b":"2"}"#,
        r#"{"exp":1,"exp":9999999999}"#,
        r#"{"exp":9999999999,"x":1,"x":1}"#,
    ] {
        refused(sign(HS256, claims), Denied::BadJwt);
    }
}

#[test]
fn times_are_whole_numbers() {
    let long = "1".repeat(400);
    for time in [
        "1.0",
        "9999999999.5",
        "1e10",
        "-1",
        "-0",
        "\"9999999999\"",
        "null",
        "true",
        "[]",
        "{}",
        "9223372036854775808",
        &long,
    ] {
        for claim in ["exp", "iat", "nbf"] {
            let exp = if claim == "exp" { "" } else { r#""exp":9999999999,"# };
            let verdict = judge(sign(HS256, &format!("{{{exp}\"{claim}\":{time}}}")));
            // A number that no JSON reader can hold makes the whole no JSON.
            let expected = if time == long { Denied::BadJwt } else { Denied::BadClaim };
            assert_eq!(verdict, Err(expected), "{claim} {time}");
        }
    }
    refused(sign(HS256, r#"{"sub":"44"}"#), Denied::BadClaim);
}

#[test]
fn times_are_kept() {
    let claims = |exp: i64, iat: i64, nbf: i64| {
        judge(sign(HS256, &json!({"exp": exp, "iat": iat, "nbf": nbf}).to_string()))
    };
    let times = |identity: Identity<'_>| (identity.issued_unix_s, identity.expires_unix_s);
    assert_eq!(claims(ISSUED + 1, ISSUED, ISSUED).map(times), Ok((ISSUED, ISSUED + 1)));
    assert_eq!(claims(ISSUED, ISSUED - 9, 0), Err(Denied::Expired), "later than now");
    assert_eq!(claims(i64::MAX, ISSUED + 60, ISSUED + 60).map(times), Ok((ISSUED + 60, i64::MAX)));
    assert_eq!(claims(i64::MAX, ISSUED + 61, 0), Err(Denied::Future));
    assert_eq!(claims(i64::MAX, 0, ISSUED + 61), Err(Denied::Future));
    assert_eq!(judge(sign(HS256, r#"{"exp":9999999999}"#)).map(times), Ok((0, 9_999_999_999)));
}

#[test]
fn the_user_is_the_subject() {
    let user = |sub: Value| {
        judge(sign(HS256, &json!({ "exp": i64::MAX, "sub": sub }).to_string())).map(|login| login.user)
    };
    assert_eq!(user(json!("a+b@x.y-z_1")), Ok(Some("a+b@x.y-z_1".into())));
    for sub in ["", "a b", "auth0|1", "\u{e4}", "a\0", "a,b", "a:b"] {
        assert_eq!(user(json!(sub)), Err(Denied::BadUser), "{sub:?}");
    }
    assert_eq!(user(json!("x".repeat(65))), Err(Denied::BadUser));
    for sub in [json!(44), json!(null), json!(["44"]), json!({"sub": "44"}), json!(true)] {
        assert_eq!(user(sub), Err(Denied::BadClaim));
    }
    let wants_user = Rules { identity: IdentityKind::User, ..rules(&[SECRET]) };
    let jwt = sign(HS256, r#"{"exp":9999999999}"#);
    assert_eq!(verify_jwt(&wants_user, jwt.as_bytes(), ISSUED), Err(Denied::MissingUser));
}

#[test]
fn the_token_is_the_id_or_a_hash() {
    let jti = |jti: Value| {
        let jwt = sign(HS256, &json!({ "exp": i64::MAX, "jti": jti }).to_string());
        judge(&jwt).map(|login| login.token == to_hex(&Sha256::digest(&jwt))[..32])
    };
    assert_eq!(judge(PYJWT).map(|login| login.token), Ok(TOKEN.into()));
    for other in ["", "short", &TOKEN[1..], &format!("{TOKEN}0"), "32febad1f0cf83f38aceb31ad63866_4"] {
        assert_eq!(jti(json!(other)), Ok(true), "{other:?}");
    }
    assert_eq!(jti(json!(TOKEN)), Ok(false));
    for other in [json!(1), json!(null), json!([TOKEN])] {
        assert_eq!(jti(other), Err(Denied::BadClaim));
    }
    let long = Rules { token_length: 65, ..rules(&[SECRET]) };
    let jwt = sign(HS256, r#"{"exp":9999999999}"#);
    assert_eq!(verify_jwt(&long, jwt.as_bytes(), ISSUED), Err(Denied::BadToken));
}

#[test]
fn groups_are_names() {
    let groups = |groups: Value| {
        let jwt = sign(HS256, &json!({ "exp": i64::MAX, "groups": groups }).to_string());
        judge(jwt).map(|login| login.groups.join(" "))
    };
    assert_eq!(groups(json!(["room", "shop/7:a"])), Ok("room shop/7:a".into()));
    assert_eq!(groups(json!([])), Ok(String::new()));
    for wrong in [
        json!("room"),
        json!(null),
        json!([1]),
        json!([["room"]]),
        json!([""]),
        json!(["a,b"]),
        json!({"a": "b"}),
    ] {
        assert_eq!(groups(wrong.clone()), Err(Denied::BadGroups), "{wrong}");
    }
}

#[test]
fn one_jwt_has_one_spelling() {
    let jwt = sign(HS256, r#"{"exp":9999999999}"#);
    let parts: Vec<&str> = jwt.split('.').collect();
    let (header, claims, signature) = (parts[0], parts[1], parts[2]);
    let padded = format!("{header}=.{claims}=.{signature}=");
    let standard = jwt.replace('-', "+").replace('_', "/");
    for form in [
        "",
        ".",
        "..",
        "...",
        header,
        &format!("{header}.{claims}"),
        &format!("{jwt}."),
        &format!("{jwt}.x"),
        &format!(".{jwt}"),
        &format!(" {jwt}"),
        &format!("{jwt} "),
        &format!("{jwt}\n"),
        &jwt.replace('.', " . "),
        &jwt.replace('.', ".\n"),
        &padded,
        &format!("{jwt}="),
        &format!("\"{jwt}\""),
        &format!("Bearer {jwt}"),
        &jwt.replacen('.', "%2E", 1),
    ] {
        refused(form, Denied::BadJwt);
    }
    refused(format!("{header}..{signature}"), Denied::WrongSignature);
    assert_eq!(judge(&standard).is_ok(), standard == jwt);
    // A signature of 32 bytes is 43 digits, of which the last one has two bits to spare: four of them decode to the same.
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let accepted =
        digits.iter().filter(|digit| judge(format!("{}{}", &jwt[..jwt.len() - 1], **digit as char)).is_ok());
    assert_eq!(accepted.count(), 1);
}

#[test]
fn what_is_no_object() {
    for json in [
        "",
        " ",
        "null",
        "[]",
        "\"exp\"",
        "{",
        "{}{}",
        "{\"exp\":1}x",
        "\u{feff}{}",
        "{'exp':1}",
        "{\"exp\":1,}",
    ] {
        refused(sign(json, r#"{"exp":9999999999}"#), Denied::BadJwt);
        refused(sign(HS256, json), Denied::BadJwt);
    }
    let encoded = URL_SAFE_NO_PAD.encode(b"{\"a\":\"\xff\"}");
    refused(format!("{encoded}.e30.AAAA"), Denied::BadJwt);
}

#[test]
fn nothing_is_nested_a_thousand_deep() {
    for depth in [200, 1000] {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        refused(sign(&format!(r#"{{"x":{open}{close},"alg":"HS256"}}"#), "{}"), Denied::BadJwt);
        refused(sign(HS256, &format!(r#"{{"x":{open}{close},"exp":9999999999}}"#)), Denied::BadJwt);
    }
}

#[test]
fn a_jwt_has_at_most_four_kib() {
    let of = |len: usize| sign(HS256, &format!(r#"{{"exp":9999999999,"x":"{}"}}"#, "x".repeat(len)));
    let len = (2000..3100).rev().find(|len| of(*len).len() <= JWT_BYTES_MAX).unwrap();
    assert!(judge(of(len)).is_ok() && JWT_BYTES_MAX - of(len).len() < 4);
    refused(of(len + 4), Denied::BadJwt);
}

#[test]
fn in_a_cookie_it_stands_once() {
    let rules = Rules { scheme: super::super::Scheme::Jwt, ..rules(&[SECRET]) };
    let verify = |fields: &[String]| {
        let values = fields.iter().map(String::as_bytes);
        super::super::verify(&rules, values, ISSUED).map(|login| login.token.into_owned())
    };
    assert!(verify(&[format!("a=b; token={PYJWT}; time=1")]).is_ok());
    assert_eq!(verify(&["a=b".into()]), Err(Denied::MissingToken));
    assert_eq!(verify(&[format!("token={PYJWT}"), format!("token={PYJWT}")]), Err(Denied::DuplicateToken));
    assert_eq!(verify(&[format!("token={PYJWT} ; a=b")]), Err(Denied::BadJwt));
}

proptest! {
    /// A change of any byte is noticed.
    #[test]
    fn no_byte_can_change(at in 0..PYJWT.len(), byte in any::<u8>()) {
        let mut jwt = PYJWT.as_bytes().to_vec();
        let same = std::mem::replace(&mut jwt[at], byte) == byte;
        prop_assert_eq!(judge(jwt).is_ok(), same);
    }

    /// Any signed text is judged without a panic, and only one that fits becomes a login.
    #[test]
    fn whatever_is_signed(header in "[{}\\[\\]\":,a-z0-9]{0,40}|\\{\"alg\":\"HS256\"\\}", claims in "\\{(\"(exp|sub|jti|iat|groups|x)\":(\"[a-z]{0,9}\"|[0-9.e-]{1,11}|\\[\"a\"\\]|null),?){0,6}\\}") {
        if let Ok(login) = judge(sign(&header, &claims)) {
            prop_assert!(login.expires_unix_s > ISSUED && login.issued_unix_s <= ISSUED + AHEAD_S_MAX);
            prop_assert!(login.token.len() == 32);
        }
    }
}
