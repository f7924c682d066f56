//! `wsson cookie`: the cookies of a login, made as a site makes them, and the judgement of some.

use super::args::Args;
use super::{Exit, Failure, Outcome, load, say};
use crate::auth::{self, Denied, Digests, Identity, IdentityKind, Rules, Scheme};
use crate::config::Settings;
use crate::wire::json;
use serde_core::ser::{Serialize, SerializeMap, Serializer};
use std::fs::File;
use std::io::Read;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where randomness comes from on every POSIX system.
const RANDOM: &str = "/dev/urandom";

pub(crate) fn run(args: &Args) -> Outcome {
    let settings = load::with_secrets(args)?;
    if settings.auth.secrets.is_empty() {
        let text = "no secret is configured, so there is nothing to sign with";
        return Err(Failure::new(Exit::NotConfigured, text).or("secret_file in the configuration"));
    }
    match args.value("verify")? {
        Some(header) => verify(args, &settings.auth, header),
        None => issue(args, &settings),
    }
}

/// A login that was issued.
struct Login {
    /// Names and values.
    cookies: Vec<(String, String)>,
    issued_unix_s: i64,
    /// The query that the page adds to its URL, with the question mark; empty for nothing.
    query: String,
}

fn issue(args: &Args, settings: &Settings) -> Outcome {
    let format = args.value("format")?.unwrap_or("js");
    let show = match format {
        "js" => script,
        "header" => header_line,
        "curl" => curl,
        "url" => url,
        "json" => object,
        other => {
            let text = format!("--format {other} is not known: js, header, curl, url, or json");
            return Err(super::usage(args, text));
        }
    };
    let rules = &settings.auth;
    let issued_unix_s = time(args)?;
    let token = token(args, rules)?;
    let (user, groups) = (user(args, rules)?, groups(args)?);
    let login = match rules.scheme {
        Scheme::Cookies => Login {
            cookies: auth::issue(rules, &token, user, issued_unix_s),
            issued_unix_s,
            query: groups.map_or(String::new(), |groups| {
                let ticket = auth::ticket(&rules.secrets[0], &token, issued_unix_s, groups);
                format!("?groups={}&ticket={ticket}", percent_encoded(groups))
            }),
        },
        Scheme::Jwt => {
            let expires_unix_s = issued_unix_s.saturating_add(rules.lifetime_s);
            let mut identity = Identity::new(token).with_times(issued_unix_s, expires_unix_s);
            identity.user = (!user.is_empty()).then(|| user.into());
            identity.groups =
                groups.into_iter().flat_map(|groups| groups.split(',')).map(Into::into).collect();
            let jwt = auth::issue_jwt(&rules.secrets[0], &identity);
            // In the URL where it may stand there, for apps that send no cookies.
            let query = if rules.query && format == "url" { format!("?jwt={jwt}") } else { String::new() };
            Login { cookies: vec![(rules.cookie_token.clone(), jwt)], issued_unix_s, query }
        }
    };
    say(&show(settings, &login))
}

fn groups(args: &Args) -> Result<Option<&str>, Failure> {
    let Some(groups) = args.value("groups")? else { return Ok(None) };
    match groups.split(',').find(|group| !Rules::is_group(group)) {
        None => Ok(Some(groups)),
        Some(other) => {
            let text = format!("{other:?} is not a group: 1 to 64 letters, digits, or _ - . @ + : /");
            Err(super::usage(args, text))
        }
    }
}

/// As RFC 3986 section 2.1 has it, for a value in a query.
fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encoded = |byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(encoded).collect()
}

fn token(args: &Args, rules: &Rules) -> Result<String, Failure> {
    match args.value("token")? {
        Some(token) if rules.is_token(token) => Ok(token.to_owned()),
        Some(token) => {
            let length = rules.token_length;
            Err(super::usage(
                args,
                format!("{token:?} is not a token: {length} letters, digits, commas or hyphens"),
            ))
        }
        None => random_token(rules.token_length),
    }
}

/// Hexadecimal, like `bin2hex(random_bytes(16))` in PHP.
pub(crate) fn random_token(length: usize) -> Result<String, Failure> {
    let mut bytes = vec![0; length.div_ceil(2)];
    File::open(RANDOM)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| Failure::io(format!("cannot read {RANDOM}"), &error))?;
    let mut token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    token.truncate(length);
    Ok(token)
}

fn user<'a>(args: &'a Args, rules: &Rules) -> Result<&'a str, Failure> {
    let usage = |text: String| super::usage(args, text);
    match (args.value("user")?, rules.identity) {
        (None, IdentityKind::Token) => Ok(""),
        (Some(user), _) if rules.scheme == Scheme::Jwt && Rules::is_user(user) => Ok(user),
        (Some(_), IdentityKind::Token) => {
            Err(usage("--user has no meaning here: the configuration has identity = \"token\"".into()))
        }
        (None, IdentityKind::User) => {
            Err(usage("--user is needed: the configuration has identity = \"user\"".into()))
        }
        (Some(user), IdentityKind::User) if Rules::is_user(user) => Ok(user),
        (Some(user), IdentityKind::User) => {
            Err(usage(format!("{user:?} is not a user: 1 to 64 letters, digits, or _ - . @ +")))
        }
    }
}

/// Ten digits, as the grammar of the cookies has it.
fn time(args: &Args) -> Result<i64, Failure> {
    let Some(text) = args.value("time")? else { return now_unix_s() };
    let grammar =
        text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    let time = text.parse().ok().filter(|_| grammar);
    time.ok_or_else(|| super::usage(args, format!("--time {text:?} is not a unix time: ten digits")))
}

fn now_unix_s() -> Result<i64, Failure> {
    let now =
        SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|now| i64::try_from(now.as_secs()).ok());
    now.ok_or_else(|| Failure::new(Exit::Failed, "the clock of this host is set before 1970"))
}

/// For the console of a browser, on a page of an allowed origin.
fn script(settings: &Settings, login: &Login) -> String {
    let page = settings.origins.first().map_or("an allowed origin", String::as_str);
    let mut script = format!("// Paste this into the browser's console on a page of {page}\n");
    for (name, value) in &login.cookies {
        let lifetime_s = settings.auth.lifetime_s;
        script +=
            &format!("document.cookie = \"{name}={value}; path=/; max-age={lifetime_s}; samesite=lax\";\n");
    }
    script += &format!(
        "socket = new WebSocket(location.protocol.replace(\"http\", \"ws\") + {});\n",
        page_target(settings, &login.query)
    );
    script += "socket.onopen = () => console.log(\"connected\");\n\
        socket.onmessage = event => console.log(event.data);\n\
        socket.onclose = event => console.log(\"closed\", event.code, event.reason);\n";
    script
}

/// The text behind `ws:` or `wss:`, as a script. Cookies know no ports but hosts, so without a name for the server
/// it is the page's own.
fn page_target(settings: &Settings, query: &str) -> String {
    let server = settings.servers.first().map_or("tcp://127.0.0.1:8099", String::as_str);
    match (settings.domains.first(), server.split_once("://")) {
        (Some(domain), _) => json::text(&format!("//{domain}/{query}")),
        (None, Some(("unix", _))) => format!("`//${{location.host}}/ws{query}`"),
        (None, Some((_, socket))) => {
            let port = socket.rsplit(':').next().unwrap_or("8099");
            format!("`//${{location.hostname}}:{port}/{query}`")
        }
        (None, None) => json::text(server),
    }
}

fn header(login: &Login) -> String {
    let pairs: Vec<String> = login.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("; ")
}

fn header_line(_settings: &Settings, login: &Login) -> String {
    format!("Cookie: {}\n", header(login))
}

/// A command that makes the opening handshake; it shows the 101, or the refusal.
fn curl(settings: &Settings, login: &Login) -> String {
    let origin = settings.origins.first().map_or("https://example.com", String::as_str);
    let fields = [
        "Connection: Upgrade".to_owned(),
        "Upgrade: websocket".to_owned(),
        "Sec-WebSocket-Version: 13".to_owned(),
        // Any 16 bytes in base64 will do; these are the sample nonce of RFC 6455 section 1.3.
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==".to_owned(),
        format!("Origin: {origin}"),
        format!("Cookie: {}", header(login)),
    ];
    let fields: String = fields.iter().map(|field| format!(" \\\n  -H {}", shell_quote(field))).collect();
    format!("curl --http1.1 -i -N{fields} \\\n  {}\n", curl_target(settings, &login.query))
}

/// The URL that a program connects to with the cookies.
fn url(settings: &Settings, login: &Login) -> String {
    let server = settings.servers.first().map_or("tcp://127.0.0.1:8099", String::as_str);
    let (kind, socket) = server.split_once("://").unwrap_or(("tcp", server));
    // A socket in the file system is behind a proxy, which speaks TLS to browsers.
    let scheme = if kind == "tcp" { "ws" } else { "wss" };
    let place = match (settings.domains.first(), kind) {
        (Some(domain), _) => format!("{domain}/"),
        (None, "unix") => {
            let site = settings.origins.first().and_then(|origin| origin.split("://").nth(1));
            format!("{}/ws", site.unwrap_or("localhost"))
        }
        (None, _) => format!("{}/", reachable(socket)),
    };
    format!("{scheme}://{place}{}\n", login.query)
}

fn curl_target(settings: &Settings, query: &str) -> String {
    let server = settings.servers.first().map_or("tcp://127.0.0.1:8099", String::as_str);
    match server.split_once("://") {
        Some(("unix", path)) => format!(
            "--unix-socket {} {}",
            shell_quote(path),
            shell_quote(&format!("http://localhost/{query}"))
        ),
        Some(("tls", socket)) => shell_quote(&format!("https://{}/{query}", reachable(socket))),
        Some((_, socket)) => shell_quote(&format!("http://{}/{query}", reachable(socket))),
        None => shell_quote(server),
    }
}

/// A listener on all addresses is reached on the loopback.
fn reachable(socket: &str) -> String {
    socket.replacen("0.0.0.0:", "127.0.0.1:", 1).replacen("[::]:", "[::1]:", 1)
}

/// A word for the shell to read: as it is, if that is safe.
pub(crate) fn shell_word(text: &str) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-:@%+=,".contains(&byte);
    if !text.is_empty() && text.bytes().all(safe) { text.to_owned() } else { shell_quote(text) }
}

/// Single quotes of the shell; one inside is closed, escaped, and opened again.
fn shell_quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn object(settings: &Settings, login: &Login) -> String {
    json::text(&Issued {
        login,
        expires_unix_s: login.issued_unix_s.saturating_add(settings.auth.lifetime_s),
    }) + "\n"
}

/// A login as programs read it.
struct Issued<'l> {
    login: &'l Login,
    expires_unix_s: i64,
}

impl Serialize for Issued<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let cookies: Vec<_> =
            self.login.cookies.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut members = serializer.serialize_map(Some(4))?;
        members.serialize_entry("cookies", &json::Object(&cookies))?;
        members.serialize_entry("header", &header(self.login))?;
        members.serialize_entry("query", &self.login.query)?;
        members.serialize_entry("expires_unix_s", &self.expires_unix_s)?;
        members.end()
    }
}

fn verify(args: &Args, rules: &Rules, header: &str) -> Outcome {
    if let Some(option) =
        ["token", "user", "groups", "time", "format"].into_iter().find(|option| args.has(option))
    {
        return Err(super::usage(args, format!("--{option} and --verify contradict each other")));
    }
    let value = match header.get(..7) {
        Some(name) if name.eq_ignore_ascii_case("cookie:") => header[7..].trim(),
        _ => header,
    };
    let now = now_unix_s()?;
    match auth::verify(rules, std::iter::once(value.as_bytes()), now) {
        Ok(identity) => {
            let user = identity.user.as_ref().map_or(String::new(), |user| format!(", user {user}"));
            let groups = match &identity.groups[..] {
                [] => String::new(),
                groups => format!(", groups {}", groups.join(",")),
            };
            let left = identity.expires_unix_s - now;
            say(&format!("accepted: token {}{user}{groups}, expires in {left} seconds\n", identity.token))
        }
        Err(denied) => {
            say(&format!("refused: {denied}: {}\n", explain(denied, rules)))?;
            Ok(Exit::Failed)
        }
    }
}

/// The rule in words, with the names and numbers of this configuration.
fn explain(denied: Denied, rules: &Rules) -> String {
    let Rules { cookie_token: token, cookie_time: time, cookie_digest: digest, cookie_user: user, .. } =
        rules;
    let hex = match rules.digest {
        Digests::Both => "64 or 32".to_owned(),
        only => only.signing().hex_digits().to_string(),
    };
    match denied {
        Denied::BadClaim => "a claim is missing or not what it must be: exp, iat and nbf are whole numbers, exp there; sub and jti strings".into(),
        Denied::BadGroups => "groups must be a list of names of groups".into(),
        Denied::BadJwt => format!("{token:?} must be a JWT: three parts of base64url without padding, the first two JSON objects without a member that stands twice"),
        Denied::BadDigest => format!("{digest:?} must be {hex} hexadecimal digits in lower case"),
        Denied::BadTime => format!("{time:?} must be ten digits, the first not 0"),
        Denied::BadToken => {
            format!("{token:?} must be {} letters, digits, commas or hyphens", rules.token_length)
        }
        Denied::BadUser => format!("{user:?} must be 1 to 64 letters, digits, or _ - . @ +"),
        Denied::DuplicateDigest => format!("there is more than one cookie {digest:?}"),
        Denied::DuplicateTime => format!("there is more than one cookie {time:?}"),
        Denied::DuplicateToken => format!("there is more than one cookie {token:?}"),
        Denied::DuplicateUser => format!("there is more than one cookie {user:?}"),
        Denied::Expired if rules.scheme == Scheme::Jwt => "its exp is over".into(),
        Denied::Expired => format!("{time:?} is more than {} seconds ago (auth.lifetime)", rules.lifetime_s),
        Denied::Future if rules.scheme == Scheme::Jwt => {
            format!("its iat or nbf is more than {} seconds ahead of this clock", auth::AHEAD_S_MAX)
        }
        Denied::Future => format!("{time:?} is more than {} seconds ahead of this clock", auth::AHEAD_S_MAX),
        Denied::GroupNotAllowed => "a group needs a ticket".into(),
        Denied::MissingDigest => format!("there is no cookie {digest:?}"),
        Denied::MissingTime => format!("there is no cookie {time:?}"),
        Denied::MissingToken => format!("there is no cookie {token:?}"),
        Denied::MissingUser if rules.scheme == Scheme::Jwt => "there is no sub, and auth.identity is \"user\"".into(),
        Denied::MissingUser => format!("there is no cookie {user:?}"),
        Denied::WrongAlgorithm => "its header must say HS256, and no crit".into(),
        Denied::WrongDigest => format!("{digest:?} was not made from these cookies with our secret"),
        Denied::WrongSignature => "it was not signed with our secret".into(),
        Denied::WrongTicket => "the ticket was not made for this login and this list with our secret".into(),
    }
}
