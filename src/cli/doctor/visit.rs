//! The way of a browser to wsson, step by step: name, connection, TLS, proxy, login, message, and the quiet time.
//!
//! Why a handshake was refused comes from the server itself: it counts refusals by their rule, and the doctor looks
//! before and after. A refusal that wsson did not count is the proxy's.

use super::Findings;
use super::wire::{ACCEPT, CLOSE, Line, PATIENCE, PING, Response, Url};
use crate::auth::{self, IdentityKind};
use crate::cli::{cookie, link};
use crate::config::Settings;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The message that it sends to itself.
const MESSAGE: &str = "a message of wsson doctor to itself";
/// An origin that no page has: names below "invalid" do not exist (RFC 2606).
const FOREIGN: &str = "https://wsson-doctor.invalid";
/// The user that it is, where a login has one.
const USER: &str = "wsson-doctor";

/// Visits the URL; `answers`: the server can be asked, `quiet`: a quiet time is waited for, too.
pub(super) fn run(url: &str, settings: &Settings, answers: bool, quiet: bool, findings: &mut Findings) {
    let url = match Url::parse(url) {
        Ok(url) => url,
        Err(why) => return findings.wrong(&why, "the address that the page opens"),
    };
    let Some(address) = resolved(&url, findings) else { return };
    let visit = Visit { url, address, settings, answers };
    let Some(mut line) = visit.reached(findings) else { return };
    let Some(login) = visit.login(findings) else { return };
    if !visit.let_in(&mut line, &login, findings) {
        return;
    }
    visit.others_stay_out(&login, findings);
    if answers {
        visit.message_arrives(&mut line, &login, findings);
    }
    if quiet {
        visit.quiet_time(&mut line, findings);
    }
    line.close();
}

fn resolved(url: &Url, findings: &mut Findings) -> Option<Vec<SocketAddr>> {
    match url.resolve() {
        Ok(addresses) if !addresses.is_empty() => {
            let mut shown: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
            shown.dedup();
            if shown != [url.host.as_str()] {
                findings.ok(&format!("{} is {}", url.host, shown.join(", ")));
            }
            Some(addresses)
        }
        _ => {
            let cure = "an entry in DNS, or in /etc/hosts for a try";
            findings.wrong(&format!("the name {} is not known", url.host), cure);
            None
        }
    }
}

/// The cookies of a login, and its token.
struct Login {
    token: String,
    cookie: String,
}

struct Visit<'s> {
    url: Url,
    address: Vec<SocketAddr>,
    settings: &'s Settings,
    answers: bool,
}

impl Visit<'_> {
    fn connect(&self) -> Result<TcpStream, String> {
        let mut why = String::from("it has no address");
        for address in &self.address {
            match Line::open(*address) {
                Ok(socket) => return Ok(socket),
                Err(error) => why = format!("cannot connect to {address}: {}", crate::sys::describe(&error)),
            }
        }
        Err(why)
    }

    /// A connection, encrypted if need be.
    fn reached(&self, findings: &mut Findings) -> Option<Line> {
        let socket = match self.connect() {
            Ok(socket) => socket,
            Err(why) => {
                findings.wrong(
                    &why,
                    "is the proxy (or wsson) running, does it listen there, does a firewall let it through?",
                );
                return None;
            }
        };
        let peer = socket.peer_addr().map_or(String::new(), |peer| peer.to_string());
        findings.ok(&format!("{peer} takes the connection"));
        match Line::over(socket, &self.url) {
            Ok(line) => {
                if let Some(version) = &line.tls {
                    findings.ok(&format!(
                        "{version}, with a certificate for {} that this host trusts",
                        self.url.host
                    ));
                }
                Some(line)
            }
            Err(why) => {
                findings.wrong(
                    &format!("TLS does not come about: {why}"),
                    "a certificate for this name, with its whole chain (fullchain.pem)",
                );
                None
            }
        }
    }

    fn login(&self, findings: &mut Findings) -> Option<Login> {
        let rules = &self.settings.auth;
        if rules.secrets.is_empty() {
            findings.note("the secret is the server's own, so no login can be tried from here");
            return None;
        }
        let token = cookie::random_token(rules.token_length).ok()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let user = if rules.identity == IdentityKind::User { USER } else { "" };
        let cookies = auth::issue(rules, &token, user, i64::try_from(now).unwrap_or(0));
        let pairs: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Some(Login { token, cookie: pairs.join("; ") })
    }

    fn origin(&self) -> &str {
        self.settings.origins.first().map_or("https://example.com", String::as_str)
    }

    fn let_in(&self, line: &mut Line, login: &Login, findings: &mut Findings) -> bool {
        let before = self.refusals();
        let response = line.ask(&self.url, &[("Origin", self.origin()), ("Cookie", &login.cookie)]);
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                let why = format!("no answer to the handshake: {}", crate::sys::describe(&error));
                findings.wrong(
                    &why,
                    "is it wsson or its proxy that listens there? TLS and plain: wss:// or ws://",
                );
                return false;
            }
        };
        if response.status != 101 {
            let (why, cure) = self.refused(&response, &before);
            findings.wrong(&why, &cure);
            return false;
        }
        if response.field("sec-websocket-accept") != Some(ACCEPT) {
            let cure = "another server than wsson answers there; the proxy's address for wsson";
            findings.wrong("101 came, but not as an answer to this handshake", cure);
            return false;
        }
        findings.ok(&format!("a login is let in, from a page of {}", self.origin()));
        true
    }

    /// The count of each rule, when the server can be asked.
    fn refusals(&self) -> BTreeMap<String, u64> {
        let report = self
            .answers
            .then(|| link::Door::of(self.settings).and_then(|door| super::ask(&door)).ok())
            .flatten();
        let fields = report.as_ref().and_then(|report| report.get("refused")?.as_object());
        let counts = fields.into_iter().flatten();
        counts.filter_map(|(rule, count)| Some((rule.clone(), count.as_u64()?))).collect()
    }

    /// The meaning of a refusal, and its cure.
    fn refused(&self, response: &Response, before: &BTreeMap<String, u64>) -> (String, String) {
        let status = response.status;
        let after = self.refusals();
        let grown =
            after.iter().filter(|(rule, count)| before.get(*rule).is_none_or(|before| before < *count));
        let rules: Vec<&str> = grown.map(|(rule, _)| rule.as_str()).collect();
        match rules[..] {
            [] if self.answers => {
                let place = response.field("location").unwrap_or_default();
                (
                    format!("{status} comes from the proxy: wsson has not seen this request"),
                    of_proxy(status, place),
                )
            }
            [] => (
                format!("the handshake is refused with {status}"),
                "wsson's log, which names the rule".into(),
            ),
            [rule] => (format!("wsson refuses the handshake with {status}: {rule}"), of_rule(rule).into()),
            // Others are refused at the same time, on a busy site.
            _ => (
                format!("the handshake is refused with {status}, by one of: {}", rules.join(", ")),
                "wsson's log".into(),
            ),
        }
    }

    /// A page of another site, and a visitor without a login: a proxy must not let them in by its own cleverness.
    fn others_stay_out(&self, login: &Login, findings: &mut Findings) {
        let foreign = vec![("Origin", FOREIGN), ("Cookie", login.cookie.as_str())];
        let stranger = vec![("Origin", self.origin())];
        let cases = [
            ("a page of another site", foreign, "the proxy must pass Origin as the browser sent it"),
            ("a visitor without cookies", stranger, "the proxy must pass Cookie as the browser sent it"),
        ];
        for (who, fields, cure) in cases {
            let line = self.connect().and_then(|socket| Line::over(socket, &self.url));
            let response =
                line.and_then(|mut line| line.ask(&self.url, &fields).map_err(|error| error.to_string()));
            match response {
                Ok(response) if response.status == 101 => findings.wrong(&format!("{who} is let in"), cure),
                Ok(response) if response.status == 403 => findings.ok(&format!("{who} is refused")),
                Ok(response) => {
                    findings.note(&format!("{who} is refused, with {} instead of 403", response.status));
                }
                Err(why) => findings.note(&format!("{who} gets no answer: {why}")),
            }
        }
    }

    fn message_arrives(&self, line: &mut Line, login: &Login, findings: &mut Findings) {
        let length = login.token.len() + MESSAGE.len();
        let command = format!("{length}c{}{MESSAGE}", login.token);
        let taken = link::Door::of(self.settings).and_then(|door| link::exchange(&door, command.as_bytes()));
        let taken = taken.is_ok_and(|frames| frames.iter().any(|frame| frame.command == b'A'));
        if !taken {
            let cure = "the proxy's address for wsson: it should be one of `servers` of this configuration";
            return findings.wrong("the login is not open here: the URL leads to another server", cure);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match line.frame(deadline) {
                Ok((1, payload)) if payload == MESSAGE.as_bytes() => {
                    return findings.ok("a message to this login arrives");
                }
                // Others' broadcasts.
                Ok((opcode, _)) if opcode != CLOSE => {}
                Ok(_) | Err(_) => {
                    let cure =
                        "a proxy that buffers: proxy_buffering off in nginx, flush_interval -1 in Caddy";
                    return findings.wrong("a message was taken and does not arrive", cure);
                }
            }
        }
    }

    /// wsson pings a silent client; a proxy must not have cut the connection before.
    fn quiet_time(&self, line: &mut Line, findings: &mut Findings) {
        let idle = Duration::from_millis(self.settings.timeouts.idle_ms);
        findings.note(&format!("waiting {} s for a ping (not with --quick)", idle.as_secs_f64()));
        let begin = Instant::now();
        let deadline = begin + idle + PATIENCE;
        loop {
            match line.frame(deadline) {
                Ok((PING, _)) => return findings.ok("the ping arrives: a quiet connection stays"),
                Ok((CLOSE, _)) | Err(_) => {
                    let seconds = begin.elapsed().as_secs();
                    let cure = "a longer read timeout of the proxy, or a shorter timeouts.idle";
                    let why =
                        format!("the connection was cut, or no ping came, after {seconds} quiet seconds");
                    return findings.wrong(&why, cure);
                }
                Ok(_) => {}
            }
        }
    }
}

/// The cure for a refusal of the proxy's own.
fn of_proxy(status: u16, location: &str) -> String {
    match status {
        301 | 302 | 303 | 307 | 308 => format!("wsson doctor with where it leads to: {location}"),
        200..=299 | 404 | 405 => "the proxy does not pass this path on to wsson: its location, and the path of the URL".into(),
        401 | 403 => "the proxy refuses by itself: its access rules".into(),
        400 | 426 => "the proxy does not know WebSocket here: compare with the snippets in conf/".into(),
        429 => "the proxy limits requests by itself".into(),
        500 | 502..=504 => "the proxy cannot reach wsson: the address, and may it connect to the socket? wsson status, the proxy's own log".into(),
        _ => "the proxy's own log".into(),
    }
}

/// The cure for a refusal of wsson, by its rule.
fn of_rule(rule: &str) -> &'static str {
    match rule {
        "missing_origin" | "origin_not_allowed" | "bad_origin" | "duplicate_origin" => {
            "the proxy must pass Origin as the browser sent it; or a reload, when `origins` was changed"
        }
        "wrong_digest" | "wrong_signature" => "the server has another secret than this file: wsson reload",
        "bad_jwt" | "bad_claim" | "wrong_algorithm" => {
            "the proxy must pass Cookie as the browser sent it; or a restart, when auth.scheme was changed"
        }
        "expired" | "future" => "the clocks of this host and of the server differ",
        "no_upgrade"
        | "no_connection_upgrade"
        | "other_upgrade"
        | "bad_key"
        | "missing_key"
        | "missing_version"
        | "websocket_version" => {
            "the proxy must pass Upgrade and Connection: compare with the snippets in conf/"
        }
        "version" => "the proxy must speak HTTP/1.1 to wsson: proxy_http_version 1.1 in nginx",
        "full" => "wsson status: limits.clients is reached",
        "draining" => "the server is ending: wsson start, when it has",
        "plain_http_on_tls" => "the listener speaks TLS: wss:// in the URL, or https:// behind the proxy",
        rule if ["missing_", "bad_", "duplicate_"].iter().any(|start| rule.starts_with(start)) => {
            "the proxy must pass Cookie as the browser sent it"
        }
        _ => "README.md, \"Troubleshooting\"",
    }
}
