//! The vectors of endpoint.md, and every way to bend them.

use super::*;
use proptest::prelude::*;

const SECRET: &str = "eyZsz5dJDg28oNr385YjG4UQasx7D4q9";
const TOKEN: &str = "32febad1f0cf83f38aceb31ad63866c4";

fn rules(identity: IdentityKind, digest: Digest) -> Rules {
    Rules { identity, digest: digest.into(), secrets: vec![Secret::new(SECRET)], ..Rules::default() }
}

fn check<'h>(rules: &Rules, cookies: &'h str, now_unix_s: i64) -> Result<Identity<'h>, Denied> {
    verify(rules, [cookies.as_bytes()].into_iter(), now_unix_s)
}

/// The identity that the cookies of this login prove.
fn login(user: Option<&'static str>, issued_unix_s: i64) -> Identity<'static> {
    let expires_unix_s = issued_unix_s + 86_400;
    Identity { user: user.map(Into::into), issued_unix_s, expires_unix_s, ..Identity::new(TOKEN) }
}

#[test]
fn accepts_the_vector_with_a_token() {
    let rules = rules(IdentityKind::Token, Digest::Md5);
    let cookies =
        "token=32febad1f0cf83f38aceb31ad63866c4; time=1531124337; digest=605d2454ac010c5dd76ca82b54ecfdfe";
    let identity = login(None, 1_531_124_337);
    assert_eq!(check(&rules, cookies, 1_531_124_337), Ok(identity));
}

#[test]
fn accepts_the_vector_with_a_user() {
    let rules = rules(IdentityKind::User, Digest::Md5);
    let cookies = "token=32febad1f0cf83f38aceb31ad63866c4; time=1531567160; user=44333; \
        digest=5ccd31249fa101f43406b95fbb6ba784";
    let identity = login(Some("44333"), 1_531_567_160);
    assert_eq!(check(&rules, cookies, 1_531_567_160), Ok(identity));
}

const ALL_KINDS: [(IdentityKind, Digest); 4] = [
    (IdentityKind::Token, Digest::Md5),
    (IdentityKind::User, Digest::Md5),
    (IdentityKind::Token, Digest::HmacSha256),
    (IdentityKind::User, Digest::HmacSha256),
];

/// A moment of which all cookies here were issued.
const ISSUED: i64 = 1_531_124_337;

/// Cookies in the form of a browser, each signed well.
fn signed(rules: &Rules, token: &str, user: &str, issued_unix_s: i64) -> String {
    let cookies = issue(rules, token, user, issued_unix_s);
    cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
}

/// Clocks by which a forged time might be young: a cookie must be refused at each of them.
fn clocks(time: &[u8]) -> Vec<i64> {
    let digits: String =
        time.iter().take_while(|byte| byte.is_ascii_digit()).map(|&byte| char::from(byte)).collect();
    let cut: Vec<i64> = (1..=digits.len()).filter_map(|length| digits[..length].parse().ok()).collect();
    [&cut[..], &[0, ISSUED, 9_999_999_999, i64::MIN, i64::MAX]].concat()
}

#[track_caller]
fn refused_at_any_time(rules: &Rules, token: &[u8], time: &[u8], user: &[u8], digest: &str) {
    let field =
        [b"token=", token, b"; time=", time, b"; user=", user, b"; digest=", digest.as_bytes()].concat();
    for now_unix_s in clocks(time) {
        let verdict = verify(rules, [&field[..]].into_iter(), now_unix_s);
        assert!(verdict.is_err(), "at {now_unix_s}: {}", field.escape_ascii());
    }
}

#[test]
fn refuses_the_forgeries_of_the_page() {
    let rules = rules(IdentityKind::Token, Digest::Md5);
    let shifted = "605d2454ac010c5dd76ca82b54ecfdfe";
    refused_at_any_time(&rules, &TOKEN.as_bytes()[..31], b"41531124337", b"", shifted);
    let time = extended(SECRET, &[TOKEN, "1531124337"], "9999999999").0;
    refused_at_any_time(&rules, TOKEN.as_bytes(), &time, b"", "9cce185ac69af60dc2ef55a91a1905e8");
}

/// The last field after a length extension, and the digest that comes with it: md5 of the secret and the
/// fields, then its padding (RFC 1321 section 3.1), then the attacker's bytes.
fn extended(secret: &str, fields: &[&str], appended: &str) -> (Vec<u8>, String) {
    let length = secret.len() + fields.concat().len();
    let mut tail = vec![0x80];
    tail.resize(1 + (119 - length % 64) % 64, 0);
    tail.extend((length as u64 * 8).to_le_bytes());
    tail.extend(appended.as_bytes());
    let last = [fields[fields.len() - 1].as_bytes(), &tail].concat();
    let hashed = [secret.as_bytes(), fields.concat().as_bytes(), &tail].concat();
    let digest = <md5::Md5 as md5::Digest>::digest(hashed);
    (last, digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[test]
fn refuses_length_extensions() {
    let forged = extended(SECRET, &[TOKEN, "1531124337"], "9999999999");
    assert_eq!(forged.1, "9cce185ac69af60dc2ef55a91a1905e8", "the page's forgery is a true length extension");
    for appended in ["", "0", "9999999999", "1531124337"] {
        let (time, digest) = extended(SECRET, &[TOKEN, "1531124337"], appended);
        refused_at_any_time(&rules(IdentityKind::Token, Digest::Md5), TOKEN.as_bytes(), &time, b"", &digest);
        let (time, digest) = extended(SECRET, &["44333", TOKEN, "1531124337"], appended);
        refused_at_any_time(
            &rules(IdentityKind::User, Digest::Md5),
            TOKEN.as_bytes(),
            &time,
            b"44333",
            &digest,
        );
        // The same bytes cut so that the padding is in the token or the user.
        let all = [b"44333", TOKEN.as_bytes(), &time].concat();
        for cut in [5 + 32, 64, all.len() - appended.len()] {
            refused_at_any_time(
                &rules(IdentityKind::User, Digest::Md5),
                &all[5..cut],
                &all[cut..],
                b"44333",
                &digest,
            );
            let (user, rest) = all.split_at(cut.saturating_sub(32));
            let (token, time) = rest.split_at(32.min(rest.len()));
            refused_at_any_time(&rules(IdentityKind::User, Digest::Md5), token, time, user, &digest);
        }
    }
}

#[test]
fn refuses_every_other_boundary_between_the_fields() {
    for (identity, kind) in ALL_KINDS {
        let rules = rules(identity, kind);
        let user = if identity == IdentityKind::User { "44333" } else { "" };
        let signature =
            digest(kind, &rules.secrets[0], (!user.is_empty()).then_some(user), TOKEN, "1531124337");
        let joined = format!("{user}{TOKEN}1531124337");
        for first in 0..=joined.len() {
            for second in first..=joined.len() {
                if (first, second) == (user.len(), user.len() + 32) {
                    continue;
                }
                let (user, token, time) = (&joined[..first], &joined[first..second], &joined[second..]);
                // Without users, the value of that cookie is not looked at, so only whole sets are forgeries.
                if identity == IdentityKind::User || first == 0 {
                    refused_at_any_time(
                        &rules,
                        token.as_bytes(),
                        time.as_bytes(),
                        user.as_bytes(),
                        &signature,
                    );
                }
            }
        }
    }
}

#[test]
fn accepts_what_was_issued_and_nothing_beside_it() {
    for (identity, kind) in ALL_KINDS {
        let rules = rules(identity, kind);
        let cookies = signed(&rules, TOKEN, "ann@example.com", ISSUED);
        let user = (identity == IdentityKind::User).then_some("ann@example.com");
        let expected = login(user, ISSUED);
        assert_eq!(check(&rules, &cookies, ISSUED), Ok(expected), "{cookies}");
        // Any other byte at any place of a value.
        for place in 0..cookies.len() {
            let mut bent = cookies.clone().into_bytes();
            bent[place] ^= 1;
            let verdict = verify(&rules, [&bent[..]].into_iter(), ISSUED);
            assert!(verdict.is_err(), "{}", bent.escape_ascii());
        }
        for (other_identity, other_kind) in ALL_KINDS {
            let other = self::rules(other_identity, other_kind);
            let same = (identity, kind) == (other_identity, other_kind);
            assert_eq!(check(&other, &cookies, ISSUED).is_ok(), same, "{cookies} for {other:?}");
        }
    }
}

/// Digests made with another implementation (Python's hmac and hashlib), with both separators in their places.
#[test]
fn signs_with_hmac_as_others_do() {
    let secret = Secret::new(SECRET);
    let of = |user| digest(Digest::HmacSha256, &secret, user, TOKEN, "1531124337");
    assert_eq!(of(None), "f77066ab5df15d18791fc24465276624ec9ce928dd86f7bf85fdf4fc90f78a1d");
    assert_eq!(of(Some("44333")), "dab8fe79f84ed3350e1e4949da8114fdcf3de81f97a7a5b4b08fefc120c1a0d5");
}

/// A site goes from one digest to the other: while both are accepted logins of either kind are, each by its own digest only,
/// and `issue` makes the new kind.
#[test]
fn both_digests_are_accepted_while_a_site_moves() {
    for identity in [IdentityKind::Token, IdentityKind::User] {
        const NOW: i64 = 1_531_124_337;
        let moving = Rules { digest: Digests::Both, ..rules(identity, Digest::Md5) };
        let cookies = |rules: &Rules| {
            let pairs = issue(rules, TOKEN, "44", NOW);
            pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
        };
        for kind in [Digest::Md5, Digest::HmacSha256] {
            let only = rules(identity, kind);
            assert!(check(&moving, &cookies(&only), NOW).is_ok(), "{kind:?}");
            let forged = cookies(&only).replace("digest=", "digest=0");
            assert_eq!(check(&moving, &forged, NOW).err(), Some(Denied::BadDigest), "{kind:?}");
        }
        assert_eq!(cookies(&moving), cookies(&rules(identity, Digest::HmacSha256)));
        let md5 = cookies(&rules(identity, Digest::Md5));
        assert_eq!(check(&rules(identity, Digest::HmacSha256), &md5, NOW).err(), Some(Denied::BadDigest));
        // The first half of an HMAC has the length of an MD5, and is none.
        let hmac = issue(&moving, TOKEN, "44", NOW)[2].1.clone();
        let half = cookies(&moving).replace(&hmac, &hmac[..32]);
        assert_eq!(check(&moving, &half, NOW).err(), Some(Denied::WrongDigest));
    }
}

#[test]
fn judges_the_age_to_the_second() {
    let rules = rules(IdentityKind::Token, Digest::Md5);
    let cookies = signed(&rules, TOKEN, "", ISSUED);
    for (now_unix_s, expected) in [
        (ISSUED - 61, Err(Denied::Future)),
        (ISSUED - 60, Ok(())),
        (ISSUED, Ok(())),
        (ISSUED + 86_400, Ok(())),
        (ISSUED + 86_401, Err(Denied::Expired)),
        (i64::MIN, Err(Denied::Future)),
        (i64::MAX, Err(Denied::Expired)),
    ] {
        assert_eq!(check(&rules, &cookies, now_unix_s).map(|_| ()), expected, "at {now_unix_s}");
    }
    // Age goes before digest, and grammar before age.
    let unsigned = cookies.replace("digest=", "digest=0");
    assert_eq!(check(&rules, &unsigned, ISSUED + 90_000), Err(Denied::BadDigest));
    let unsigned = format!("token={TOKEN}; time={ISSUED}; digest={}", "0".repeat(32));
    assert_eq!(check(&rules, &unsigned, ISSUED + 90_000), Err(Denied::Expired));
    assert_eq!(check(&rules, &unsigned, ISSUED), Err(Denied::WrongDigest));
}

#[test]
fn either_secret_verifies_and_the_first_signs() {
    let old = rules(IdentityKind::Token, Digest::Md5);
    let new = Rules { secrets: vec![Secret::new("another secret, long enough")], ..old.clone() };
    let both = Rules { secrets: [&new.secrets[..], &old.secrets].concat(), ..old.clone() };
    let by_old = signed(&old, TOKEN, "", ISSUED);
    let by_new = signed(&new, TOKEN, "", ISSUED);
    assert!(check(&both, &by_old, ISSUED).is_ok() && check(&both, &by_new, ISSUED).is_ok());
    assert_eq!(signed(&both, TOKEN, "", ISSUED), by_new);
    assert_eq!(check(&old, &by_new, ISSUED), Err(Denied::WrongDigest));
    let none = Rules { secrets: Vec::new(), ..old };
    assert_eq!(check(&none, &by_new, ISSUED), Err(Denied::WrongDigest), "no secret verifies nothing");
    assert!(issue(&none, TOKEN, "", ISSUED).is_empty());
}

#[test]
fn finds_each_cookie_exactly_once() {
    let rules = rules(IdentityKind::User, Digest::Md5);
    let good = signed(&rules, TOKEN, "44333", ISSUED);
    let fields = |fields: &[&str]| {
        let fields: Vec<_> = fields.iter().map(|field| field.as_bytes().to_vec()).collect();
        verify(&rules, fields.iter().map(|field| &field[..]), ISSUED).map(|identity| identity.expires_unix_s)
    };
    let expires = Ok(ISSUED + 86_400);
    assert_eq!(fields(&[&good]), expires);
    let apart: Vec<_> = good.split("; ").collect();
    assert_eq!(fields(&apart), expires, "over several fields");
    assert_eq!(fields(&[&good.replace("; ", ";")]), expires);
    assert_eq!(fields(&[&good.replace("; ", " ;\t  ")]), Err(Denied::BadToken), "a blank behind a value");
    let ballast =
        "a=\"; b\"; =; ==; ;;; lonely; Token=1; token2=1; _token=1; \u{fc}=\u{20ac}; tokens; t=token";
    assert_eq!(fields(&[ballast, &good, ballast]), expires, "other cookies hold what they like");
    for (name, missing, duplicate) in [
        ("token", Denied::MissingToken, Denied::DuplicateToken),
        ("time", Denied::MissingTime, Denied::DuplicateTime),
        ("digest", Denied::MissingDigest, Denied::DuplicateDigest),
        ("user", Denied::MissingUser, Denied::DuplicateUser),
    ] {
        let own = *apart.iter().find(|pair| pair.starts_with(name)).expect("every cookie is issued");
        assert_eq!(fields(&[&good.replace(own, "x=1")]), Err(missing));
        assert_eq!(fields(&[&good.replace(own, &own.to_uppercase())]), Err(missing), "names have a case");
        assert_eq!(fields(&[&good.replace(own, &own.replace('=', " ="))]), Err(missing));
        assert_eq!(fields(&[&good.replace(own, name)]), Err(missing), "no equals sign");
        assert_eq!(fields(&[&format!("{good}; {own}")]), Err(duplicate), "the same again");
        assert_eq!(fields(&[&good, own]), Err(duplicate), "over two fields");
        assert_eq!(fields(&[&format!("{name}="), &good]), Err(duplicate), "an empty one");
    }
    assert_eq!(fields(&[]), Err(Denied::MissingToken));
    assert_eq!(fields(&[""]), Err(Denied::MissingToken));
}

#[test]
fn judges_each_value_to_the_byte() {
    let rules = rules(IdentityKind::User, Digest::Md5);
    let good = [("token", TOKEN), ("time", "1531124337"), ("user", "44333"), ("digest", &"0".repeat(32))];
    let longer = format!("{TOKEN}0");
    let upper = "605D2454AC010C5DD76CA82B54ECFDFE";
    for (name, denied, values) in [
        (
            "token",
            Denied::BadToken,
            &[
                "",
                &TOKEN[1..],
                &longer,
                &longer[1..].replace('c', "_"),
                &longer[1..].replace('c', "%"),
                &format!("\"{}\"", &TOKEN[2..]),
                &TOKEN.replace('3', "\u{663}"),
                &TOKEN.replace("32", "\u{663}"),
                &TOKEN.replace('3', "."),
                &TOKEN.replace('3', "\n"),
                &TOKEN.replace('3', "\0"),
                &TOKEN.replace('3', "="),
                &TOKEN.replace('3', "+"),
                &TOKEN.replace('3', "/"),
                &TOKEN.replace('3', " "),
                &TOKEN.replace('3', "\x7f"),
            ][..],
        ),
        (
            "time",
            Denied::BadTime,
            &[
                "",
                "0",
                "153112433",
                "15311243370",
                "0531124337",
                "-531124337",
                "+531124337",
                " 531124337",
                "1531124337 ",
                "1531124337\0",
                "153112433a",
                "1531124337a",
                "1531124.37",
                "15311243e7",
                "0x15311243",
                "\"\"1531124337\"\"",
                "\u{661}531124337",
                "\u{661}53112433",
                "\u{661}\u{661}\u{661}\u{661}\u{661}",
                "\u{ff11}5311243",
                "9999999999999999999999",
            ],
        ),
        (
            "user",
            Denied::BadUser,
            &[
                "",
                " ",
                "a b",
                "a,b",
                &"a".repeat(65),
                "\u{fc}",
                "a\"",
                "\"a",
                "\"\"",
                "\"\"a\"\"",
                "'a'",
                "a\n",
                "a/b",
                "a:b",
                "a!b",
                "a%2540b",
                "a%4",
                "a%00",
                "%C3%BC",
                "a%20b",
                "\"a b\"",
            ],
        ),
        (
            "digest",
            Denied::BadDigest,
            &[
                "",
                &upper[1..],
                upper,
                &upper.to_lowercase()[1..],
                &format!("{}0", upper.to_lowercase()),
                &upper.to_lowercase().replace('6', "g"),
                &"0".repeat(64),
                &format!("\"{}\"", "0".repeat(30)),
                &format!("{}\u{661}", "0".repeat(30)),
                &format!("0x{}", "0".repeat(30)),
                &" ".repeat(32),
            ],
        ),
    ] {
        for value in values {
            let field = good
                .map(|(other, fits)| format!("{other}={}", if other == name { value } else { fits }))
                .join("; ");
            assert_eq!(check(&rules, &field, ISSUED), Err(denied), "{field:?}");
        }
    }
    let field = good.map(|(name, value)| format!("{name}={value}")).join("; ");
    assert_eq!(check(&rules, &field, ISSUED), Err(Denied::WrongDigest), "all of them fit");
}

#[test]
fn a_site_may_name_its_cookies() {
    let rules = Rules {
        cookie_token: "PHPSESSID".into(),
        cookie_time: "__Host-t".into(),
        token_length: 26,
        ..rules(IdentityKind::Token, Digest::HmacSha256)
    };
    let cookies = signed(&rules, "0123456789,-ABCXYZabcxyz01", "", ISSUED);
    assert!(cookies.starts_with("PHPSESSID=") && cookies.contains("; __Host-t="), "{cookies}");
    assert!(check(&rules, &cookies, ISSUED).is_ok());
    assert!(rules.is_token("0123456789,-ABCXYZabcxyz01") && !rules.is_token(TOKEN));
    assert!(Rules::is_user("ann@example.com") && !Rules::is_user(""));
}

/// Where nothing but a custom `authorize` vouches for it, too.
#[test]
fn an_identity_fits_the_grammar_wherever_it_comes_from() {
    let check = |token: &str, user: Option<&str>| {
        Identity { user: user.map(Into::into), ..Identity::new(token) }.check(32)
    };
    assert_eq!(check("bob", Some("anna+shop@example.com")), Ok(()));
    assert_eq!(check(TOKEN, None), Ok(()));
    for token in ["", "bob\0", "\0", "bob\0\0\0", "b b", "b@b", "b\u{fc}b", &format!("{TOKEN}0")] {
        assert_eq!(check(token, None), Err(Denied::BadToken), "{token:?}");
    }
    for user in ["", "anna\0", "\0", "a b", "a,b", "a:b", &"a".repeat(65)] {
        assert_eq!(check("bob", Some(user)), Err(Denied::BadUser), "{user:?}");
    }
}

/// The user `anna+shop@example.com` and a token with a comma, as PHP's session ids may have one: how a cookie is written by
/// a framework does not change the identity. tests/clients does the same with the real PHP, Python and Node.
#[test]
fn reads_what_frameworks_write() {
    let rules = rules(IdentityKind::User, Digest::HmacSha256);
    let (token, user) = ("a,b-c0a,b-c0a,b-c0a,b-c0a,b-c0a,", "anna+shop@example.com");
    let issued = issue(&rules, token, user, ISSUED);
    let time = ISSUED.to_string();
    let signature = &issued.iter().find(|(name, _)| name == "digest").expect("it is signed").1;
    let as_written =
        |token: &str, user: &str| format!("token={token}; time={time}; digest={signature}; user={user}");
    let percent = token.replace(',', "%2C");
    for (framework, cookies) in [
        ("as it is: PHP setrawcookie, JavaScript document.cookie", as_written(token, user)),
        (
            "PHP setcookie (php_raw_url_encode, ext/standard/head.c)",
            as_written(&percent, "anna%2Bshop%40example.com"),
        ),
        (
            "Node, package cookie 0.x and 1.x (encodeURIComponent)",
            as_written(&percent, "anna%2Bshop%40example.com"),
        ),
        (
            "Rails, Rack::Utils.set_cookie_header (URI.encode_www_form_component)",
            as_written(&percent, "anna%2Bshop%40example.com"),
        ),
        (
            "Python http.cookies (_quote: octal escapes in quotes)",
            as_written(&format!("\"{}\"", token.replace(',', "\\054")), "\"anna+shop@example.com\""),
        ),
        (
            "Go net/http (sanitizeCookieValue: quotes when there is a blank or a comma)",
            as_written(&format!("\"{token}\""), user),
        ),
        ("quotes and percent signs", as_written(&format!("\"{percent}\""), "\"anna%2bshop%40example.com\"")),
    ] {
        let identity =
            check(&rules, &cookies, ISSUED).unwrap_or_else(|denied| panic!("{framework}: {denied}"));
        assert_eq!((&*identity.token, identity.user.as_deref()), (token, Some(user)), "{framework}");
    }
    let twice = as_written(token, "anna%252Bshop%2540example.com");
    assert_eq!(check(&rules, &twice, ISSUED), Err(Denied::BadUser), "decoded once");
    let other = as_written(token, "anna%2Eshop%40example.com");
    assert_eq!(
        check(&rules, &other, ISSUED),
        Err(Denied::WrongDigest),
        "the digest is over the decoded value"
    );
    let both = format!("{}; user=\"{user}\"", as_written(token, user));
    assert_eq!(check(&rules, &both, ISSUED), Err(Denied::DuplicateUser), "the same in two forms");
}

#[test]
fn never_prints_a_secret() {
    let printed = format!("{:?} {:#?}", rules(IdentityKind::User, Digest::Md5), Secret::new(SECRET));
    assert!(printed.contains("***") && !printed.contains(&SECRET[..4]), "{printed}");
    assert!(PUBLISHED_SECRETS.contains(&SECRET));
}

#[test]
fn every_rule_has_its_own_name() {
    let mut names = Denied::ALL.map(Denied::rule).to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Denied::ALL.len());
}

/// Threat 1: only the origin itself, in any case of its letters.
#[test]
fn allows_the_origins_of_the_list_only() {
    let list = ["https://example.com", "http://intranet:8080", "https://[2001:db8::1]"]
        .map(|entry| parse_origin(entry).expect("a good origin"));
    for origin in [
        "https://example.com",
        "HTTPS://EXAMPLE.COM",
        "https://Example.Com",
        "http://intranet:8080",
        "https://[2001:db8::1]",
        "https://[2001:DB8::1]",
    ] {
        assert!(origin_allowed(&list, origin), "{origin}");
    }
    for origin in FOREIGN_ORIGINS {
        assert!(!origin_allowed(&list, origin), "{origin}");
    }
    assert!(!origin_allowed(&[], "https://example.com"), "an empty list allows none");
}

const FOREIGN_ORIGINS: [&str; 70] = [
    "",
    " ",
    "null",
    "*",
    "example.com",
    "//example.com",
    "https:",
    "https://",
    "https:example.com",
    "https:/example.com",
    "https:///example.com",
    "http://example.com",
    "wss://example.com",
    "ws://example.com",
    "ftp://example.com",
    "file://",
    "https://example.com/",
    "https://example.com/path",
    "https://example.com/Path",
    "https://example.com//",
    "https://example.com\\",
    "https://example.com?",
    "https://example.com?a",
    "https://example.com#",
    "https://example.com#a",
    "https://example.com:",
    "https://example.com:443",
    "https://example.com:0443",
    "https://example.com:80",
    "https://example.com:444",
    "https://example.com:8443",
    "https://example.com:65979",
    "https://example.com:443:443",
    "https://example.com.",
    "https://example.com..",
    "https://.example.com",
    "https://www.example.com",
    "https://example.comm",
    "https://example.co",
    "https://xample.com",
    "https://eexample.com",
    "https://evil-example.com",
    "https://evilexample.com",
    "https://example.com.evil",
    "https://example.com.evil.example",
    "https://example.com-evil.example",
    "https://example.com@evil.example",
    "https://evil.example@example.com",
    "https://user@example.com",
    "https://user:password@example.com",
    "https://@example.com",
    "https://example.com evil.example",
    "https://example.com https://example.com",
    "https://evil.example https://example.com",
    "https://example.com, https://evil.example",
    "https://example.com,https://example.com",
    "https://example.com\thttps://evil.example",
    "https://exa mple.com",
    "https://example%2ecom",
    "https://example.com%00",
    "https://example.com%2eevil.example",
    "https://example\u{3002}com",
    "https://ex\u{430}mple.com",
    "https://exam\u{212a}le.com",
    "https://example.com\u{0}",
    "http://intranet",
    "http://intranet:80",
    "http://intranet:08080",
    "https://[2001:db8::2]",
    "https://2001:db8::1",
];

#[test]
fn reads_origins_of_the_configuration() {
    for (entry, expected) in [
        ("https://example.com", "https://example.com"),
        ("HTTPS://Example.COM:443", "https://example.com"),
        ("http://example.com:80", "http://example.com"),
        ("http://example.com:443", "http://example.com:443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://localhost", "http://localhost"),
        ("https://[2001:DB8:0::1]:8443", "https://[2001:db8::1]:8443"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ("https://my_host.example:65535", "https://my_host.example:65535"),
    ] {
        assert_eq!(parse_origin(entry).as_deref(), Ok(expected));
        assert!(origin_allowed(&[expected.into()], expected));
    }
    for entry in [
        "",
        "null",
        "*",
        "example.com",
        "https://",
        "://example.com",
        "1https://example.com",
        "ht tp://example.com",
        "https://*",
        "https://*.example.com",
        "https://example.com/",
        "https://example.com/path",
        "https://example.com?",
        "https://example.com#",
        "https://user@example.com",
        "https://example.com.",
        "https://.example.com",
        "https://example..com",
        "https://example.com:",
        "https://example.com:0",
        "https://example.com:080",
        "https://example.com:65536",
        "https://example.com:+80",
        "https://example.com:80:80",
        "https://example.com:https",
        "https://b\u{fc}cher.example",
        "https://exa mple.com",
        "https://[::1",
        "https://::1",
        "https://[::g]",
        "https://[::1]x",
        "https://[fe80::1%25eth0]",
        "https://a, https://b",
        " https://example.com",
        "https://example.com ",
    ] {
        assert!(parse_origin(entry).is_err(), "{entry:?} is {:?}", parse_origin(entry));
    }
}

proptest! {
    #[test]
    fn verifies_whatever_fits_the_grammar(
        token in "[A-Za-z0-9,-]{32}",
        user in "[A-Za-z0-9_.@+-]{1,64}",
        issued in 1_000_000_000..=9_999_999_999_i64,
        kind in 0..4_usize,
    ) {
        let (identity, digest) = ALL_KINDS[kind];
        let rules = rules(identity, digest);
        let cookies = signed(&rules, &token, &user, issued);
        let identity = check(&rules, &cookies, issued).expect("issued by ourselves");
        prop_assert_eq!(identity.token, &token[..]);
        prop_assert_eq!(identity.user.as_deref(), (rules.identity == IdentityKind::User).then_some(&user[..]));
    }

    #[test]
    fn never_panics_on_any_field(field in prop::collection::vec(any::<u8>(), 0..200), now in any::<i64>()) {
        prop_assert!(verify(&rules(IdentityKind::User, Digest::Md5), [&field[..]].into_iter(), now).is_err());
    }
}

/// Threat 3, as Welch's t-test over interleaved samples: `cargo test --release --lib -- --ignored timing`.
#[test]
#[ignore = "a million timings need a release build and a quiet machine"]
fn timing_does_not_tell_where_a_digest_differs() {
    let rules = rules(IdentityKind::Token, Digest::Md5);
    let good = "605d2454ac010c5dd76ca82b54ecfdfe";
    let fields = [format!("705{}", &good[3..]), format!("{}1", &good[..31])]
        .map(|digest| format!("token={TOKEN}; time={ISSUED}; digest={digest}"));
    let mut classes = [(0.0, 0.0, 0.0); 2];
    for round in 0..2_000_000_usize {
        // An order that is not periodic, so that no timer of the machine can favour one class.
        let class = (round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 37) & 1;
        let start = std::time::Instant::now();
        let verdict = std::hint::black_box(check(&rules, std::hint::black_box(&fields[class]), ISSUED));
        let taken_ns = start.elapsed().as_nanos() as f64;
        assert_eq!(verdict, Err(Denied::WrongDigest));
        // Interruptions are no property of the code.
        if taken_ns < 5_000.0 {
            let (count, sum, squares) = &mut classes[class];
            (*count, *sum, *squares) = (*count + 1.0, *sum + taken_ns, *squares + taken_ns * taken_ns);
        }
    }
    let [first, last] = classes.map(|(count, sum, squares): (f64, f64, f64)| {
        let mean = sum / count;
        (mean, (squares / count - mean * mean) / count)
    });
    let t = (first.0 - last.0) / (first.1 + last.1).sqrt();
    assert!(t.abs() < 4.5, "t = {t}: means of {} and {} ns", first.0, last.0);
}
