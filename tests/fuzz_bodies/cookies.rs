//! Fuzz body: cookies are accepted only if their digest is that of their own values, read and hashed again in the
//! plainest way there is. And what can be signed is accepted.
//!
//! Input: a byte that chooses the rules (and with bit 2 whether good cookies are put before the input), then Cookie
//! fields, one a line.

use md5::Md5;
use sha2::{Digest as _, Sha256};
use wsson::testing::auth::{Denied, Digest, Digests, Identity, IdentityKind, Rules, Secret, issue, verify};

const TOKEN: &str = "32febad1f0cf83f38aceb31ad63866c4";
const SECRET: &str = "a secret of the fuzzer's";
const NOW_UNIX_S: i64 = 1_531_124_400;

pub(crate) fn body(data: &[u8]) {
    let &[choice, ref text @ ..] = data else {
        return;
    };
    let rules = rules(choice);
    let mut fields: Vec<Vec<u8>> = text.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
    if choice & 4 != 0 {
        let signed = issue(&rules, TOKEN, "44333", NOW_UNIX_S - 60);
        fields.extend(signed.into_iter().map(|(name, value)| format!("{name}={value}").into_bytes()));
    }
    let verdict = verify(&rules, fields.iter().map(|field| &field[..]), NOW_UNIX_S);
    match &verdict {
        Ok(identity) => accepted(&rules, &fields, identity),
        Err(denied) => assert!(Denied::ALL.contains(denied)),
    }
    if choice & 4 != 0 {
        let counts =
            wanted(&rules).iter().map(|name| fields.iter().map(|field| values(field, name).len()).sum());
        let single = counts.into_iter().all(|count: usize| count == 1);
        assert_eq!(verdict.is_ok(), single, "good cookies beside whatever else: {verdict:?}");
    }
    sign_and_verify(&rules, text);
    two_headers(&rules, &fields, text);
}

/// Two different headers that are accepted prove the same identity, or have different digests. The second one is the
/// first as another framework would write it, or with characters moved from one value to the next; and whatever stands
/// in the input behind a line of `--`.
fn two_headers(rules: &Rules, fields: &[Vec<u8>], text: &[u8]) {
    let login = |fields: &[Vec<u8>]| {
        let identity = verify(rules, fields.iter().map(|field| &field[..]), NOW_UNIX_S).ok()?;
        let given = fields.iter().flat_map(|field| values(field, "digest")).next().expect("it was accepted");
        let Identity { token, user, issued_unix_s, .. } = &identity;
        Some((plain(given), token.to_string(), user.as_ref().map(ToString::to_string), *issued_unix_s))
    };
    let second = match fields.iter().position(|field| field == b"--") {
        Some(line) => fields[line + 1..].to_vec(),
        None => rewritten(rules, fields, text),
    };
    if let (Some(one), Some(other)) = (login(fields), login(&second)) {
        assert!(one.0 != other.0 || one == other, "one digest for {one:?} and {other:?}");
    }
}

/// The same cookies, in the order of their digest's input, each written in a way that the bytes choose.
fn rewritten(rules: &Rules, fields: &[Vec<u8>], text: &[u8]) -> Vec<Vec<u8>> {
    let choice = |at: usize| *text.get(at).unwrap_or(&0);
    let names = if rules.identity == IdentityKind::User {
        &["user", "token", "time"][..]
    } else {
        &["token", "time"]
    };
    let mut all: Vec<Vec<u8>> = names.iter().map(|name| first_value(fields, name)).collect();
    // A boundary moves: the digest of `md5` does not see where it was.
    if choice(0) & 1 == 1 {
        let (from, to) = (usize::from(choice(1)) % all.len(), usize::from(choice(2)) % all.len());
        if let Some(byte) = all[from].pop() {
            all[to].insert(0, byte);
        }
    }
    all.push(first_value(fields, "digest"));
    let names = names.iter().chain(&["digest"]);
    let written = all.iter().zip(names).enumerate().map(|(at, (value, name))| {
        let quoted = choice(at) & 2 != 0;
        let mut field = format!("{name}={}", if quoted { "\"" } else { "" }).into_bytes();
        for (place, byte) in value.iter().enumerate() {
            match choice(at + place) % 3 {
                0 => field.extend(format!("%{byte:02X}").bytes()),
                1 if quoted => field.extend(format!("\\{byte:03o}").bytes()),
                _ => field.push(*byte),
            }
        }
        field.extend(quoted.then_some(b'"'));
        field
    });
    written.collect()
}

fn first_value(fields: &[Vec<u8>], name: &str) -> Vec<u8> {
    let value = fields.iter().flat_map(|field| values(field, name)).next().unwrap_or_default();
    let whole =
        |value: &[u8]| value.iter().all(|byte| byte.is_ascii_alphanumeric() || b",-_.@+".contains(byte));
    if whole(value) { value.to_vec() } else { Vec::new() }
}

fn rules(choice: u8) -> Rules {
    let identity = if choice & 1 == 0 { IdentityKind::Token } else { IdentityKind::User };
    let digest = if choice & 2 == 0 { Digest::Md5 } else { Digest::HmacSha256 };
    let digest = if choice & 8 == 0 { digest.into() } else { Digests::Both };
    Rules { identity, digest, secrets: vec![Secret::new(SECRET)], ..Rules::default() }
}

fn wanted(rules: &Rules) -> &'static [&'static str] {
    match rules.identity {
        IdentityKind::Token => &["token", "time", "digest"],
        IdentityKind::User => &["token", "time", "digest", "user"],
    }
}

/// The values of one name in a field.
fn values<'f>(field: &'f [u8], name: &str) -> Vec<&'f [u8]> {
    let pairs = field.split(|&byte| byte == b';').map(<[u8]>::trim_ascii_start);
    let start = format!("{name}=");
    pairs.filter_map(|pair| pair.strip_prefix(start.as_bytes())).collect()
}

fn accepted(rules: &Rules, fields: &[Vec<u8>], identity: &Identity<'_>) {
    let mut found = wanted(rules).iter().map(|name| {
        let values: Vec<_> = fields.iter().flat_map(|field| values(field, name)).collect();
        assert_eq!(values.len(), 1, "{name} is not there exactly once");
        String::from_utf8(plain(values[0])).expect("the grammar is ASCII")
    });
    let (token, time, given) = (found.next().unwrap(), found.next().unwrap(), found.next().unwrap());
    let user = found.next();
    let (token, user) = (&token[..], user.as_deref());
    assert_eq!((&*identity.token, identity.user.as_deref()), (token, user));
    assert!(
        token.len() == 32 && time.len() == 10 && user.is_none_or(Rules::is_user) && rules.is_token(token)
    );
    let issued: i64 = time.parse().expect("ten digits");
    assert!((NOW_UNIX_S - rules.lifetime_s..=NOW_UNIX_S + 60).contains(&issued));
    assert_eq!(identity.expires_unix_s, issued + rules.lifetime_s);
    let kind = rules.digest.of(given.len()).expect("it is an accepted one");
    assert_eq!(given, naive_digest(kind, user, token, &time));
}

/// The value behind what frameworks write around it. The digest is over this, so that two headers with one digest prove
/// one identity, however they are written.
fn plain(value: &[u8]) -> Vec<u8> {
    let quoted = value.len() > 1 && value[0] == b'"' && value.ends_with(b"\"");
    let inner = if quoted { &value[1..value.len() - 1] } else { value };
    let digits = |at: usize, count: usize, radix: u32| {
        let text = inner.get(at..at + count).and_then(|digits| std::str::from_utf8(digits).ok());
        text.filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|text| u8::from_str_radix(text, radix).ok())
    };
    let (mut out, mut at) = (Vec::new(), 0);
    while at < inner.len() {
        let (byte, used) = match (inner[at], digits(at + 1, 3, 8)) {
            (b'%', _) => (digits(at + 1, 2, 16).expect("an escape that was accepted"), 3),
            (b'\\', Some(byte)) if quoted => (byte, 4),
            (b'\\', None) if quoted => (inner[at + 1], 2),
            (byte, _) => (byte, 1),
        };
        out.push(byte);
        at += used;
    }
    out
}

/// The rules of endpoint.md, word by word; HMAC as RFC 2104 does.
fn naive_digest(kind: Digest, user: Option<&str>, token: &str, time: &str) -> String {
    let user = user.unwrap_or("");
    let hash = match kind {
        Digest::Md5 => Md5::digest(format!("{SECRET}{user}{token}{time}")).to_vec(),
        Digest::HmacSha256 => {
            let lf = if user.is_empty() { "" } else { "\n" };
            let padded =
                |pad: u8| (0..64).map(|at| SECRET.as_bytes().get(at).unwrap_or(&0) ^ pad).collect::<Vec<_>>();
            let message = format!("{user}{lf}{token}\n{time}");
            let inner = Sha256::digest([&padded(0x36)[..], message.as_bytes()].concat());
            Sha256::digest([&padded(0x5c)[..], &inner].concat()).to_vec()
        }
    };
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The input as a token and a user: signed, it is accepted exactly if it fits the grammar.
fn sign_and_verify(rules: &Rules, text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let middle = text.char_indices().map(|(place, _)| place).find(|&place| place >= 32).unwrap_or(text.len());
    let (token, user) = text.split_at(middle);
    let fields: Vec<_> = issue(rules, token, user, NOW_UNIX_S)
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let verdict = verify(rules, fields.iter().map(String::as_bytes), NOW_UNIX_S);
    let fits = rules.is_token(token) && (rules.identity == IdentityKind::Token || Rules::is_user(user));
    assert_eq!(verdict.is_ok(), fits, "{verdict:?} for {token:?} and {user:?}");
}
