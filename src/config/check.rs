//! Rules between values: mistakes that no single value shows.

use super::Settings;
use super::parse::Reader;
use super::values::show_size;
use crate::auth::{PUBLISHED_SECRETS, Scheme};
use core::net::SocketAddr;

/// The longest header that a frame of ours can have, plus the mask that a careful reader adds (RFC 6455 section 5.2).
const FRAME_HEADER_BYTES_MAX: usize = 14;

/// More than any site has; each costs two connections of every node.
const INSTANCES_MAX: usize = 32;

/// Reports every contradiction at the value that is easiest to change.
pub(super) fn together(settings: &Settings, reader: &mut Reader<'_>) {
    addresses(settings, reader);
    control_is_private(settings, reader);
    secrets(settings, reader);
    cookie_names(settings, reader);
    jwt(settings, reader);
    limits(settings, reader);
    tls(settings, reader);
    proxies(settings, reader);
    bus(settings, reader);
}

fn proxies(settings: &Settings, reader: &mut Reader<'_>) {
    if settings.proxy_protocol && settings.trusted_proxies.is_empty() {
        let why = "list in \"trusted_proxies\" the addresses whose PROXY header is believed";
        reader.fail("proxy_protocol", format!("\"proxy_protocol\" is set, and no proxy is trusted: {why}"));
    }
}

fn addresses(settings: &Settings, reader: &mut Reader<'_>) {
    if settings.servers.is_empty() {
        reader.fail("servers", "\"servers\" is empty: browsers need at least one listener");
    }
    if settings.domains.len() > settings.servers.len() {
        let (domains, servers) = (settings.domains.len(), settings.servers.len());
        reader.fail("domains", format!("\"domains\" has {domains} entries, but there are {servers} servers"));
    }
    for (place, server) in settings.servers.iter().enumerate() {
        if let Some(other) = settings.servers[..place].iter().find(|other| collide(other, server)) {
            reader.fail("servers", format!("\"servers\": {server} and {other} are the same address"));
        }
    }
    if settings.control.is_empty() {
        reader.fail("control", "\"control\" is empty: backends need at least one listener");
    }
    for (place, control) in settings.control.iter().enumerate() {
        if let Some(other) = settings.control[..place].iter().find(|other| collide(other, control)) {
            reader.fail("control", format!("\"control\": {control} and {other} are the same address"));
        }
        if let Some(server) = settings.servers.iter().find(|server| collide(control, server)) {
            reader.fail(
                "control",
                format!("\"control\": {control} and the server {server} are the same address"),
            );
        }
    }
}

/// Whether the second of two listeners could not be bound. Port 0 is another port each time.
fn collide(one: &str, other: &str) -> bool {
    match (tcp_address(one), tcp_address(other)) {
        (Some(one), Some(other)) => {
            let any = one.ip().is_unspecified() || other.ip().is_unspecified();
            let ips = one.ip() == other.ip() || any && one.is_ipv4() == other.is_ipv4();
            one.port() != 0 && one.port() == other.port() && ips
        }
        _ => one == other,
    }
}

fn tcp_address(address: &str) -> Option<SocketAddr> {
    address.strip_prefix("tcp://").or_else(|| address.strip_prefix("tls://"))?.parse().ok()
}

/// A program that reaches the control socket may send to every client, unless it has to show a key.
fn control_is_private(settings: &Settings, reader: &mut Reader<'_>) {
    let keys = settings.control_key_files.len();
    if keys > 2 {
        let message =
            format!("\"control_key_file\" has {keys} entries; two, the new and the old, are the most");
        reader.fail("control_key_file", message);
    }
    let public = settings.control.iter().find(|control| is_public(control));
    if let Some(control) = public.filter(|_| keys == 0 && !settings.control_public) {
        let message = format!(
            "\"control\": {control} can be reached from other hosts, and a program that reaches it may send to \
             every client; use unix:// or 127.0.0.1, or give control_key_file, a key that every connection must show"
        );
        reader.fail("control", message);
    }
}

/// Whether other hosts may reach it.
fn is_public(address: &str) -> bool {
    tcp_address(address).is_some_and(|address| !address.ip().is_loopback())
}

fn secrets(settings: &Settings, reader: &mut Reader<'_>) {
    let (inline, files) = (settings.auth.secrets.len(), settings.secret_files.len());
    if inline > 0 && files > 0 {
        reader.fail("secret_file", "\"secret\" and \"secret_file\" are both given; keep one of them");
    }
    for (name, count) in [("secret", inline), ("secret_file", files)] {
        if count > 2 {
            reader.fail(
                name,
                format!("\"{name}\" has {count} entries; two, the new and the old, are the most"),
            );
        }
    }
    if inline == 2 && settings.auth.secrets[0] == settings.auth.secrets[1] {
        reader.fail("secret", "\"secret\" has the same entry twice");
    }
}

fn cookie_names(settings: &Settings, reader: &mut Reader<'_>) {
    let auth = &settings.auth;
    let names = [
        ("auth.cookie_token", &auth.cookie_token),
        ("auth.cookie_time", &auth.cookie_time),
        ("auth.cookie_digest", &auth.cookie_digest),
        ("auth.cookie_user", &auth.cookie_user),
    ];
    for (place, (key, name)) in names.iter().enumerate() {
        if let Some((other, _)) = names[..place].iter().find(|(_, other)| other == name) {
            reader.fail(
                key,
                format!("\"{key}\" and \"{other}\" are both {name:?}; four cookies need four names"),
            );
        }
    }
}

fn jwt(settings: &Settings, reader: &mut Reader<'_>) {
    let auth = &settings.auth;
    if auth.scheme == Scheme::Jwt && auth.token_length > 64 {
        let why = "a JWT without a jti gets a token from its SHA-256, which has 64 digits";
        reader.fail(
            "auth.token_length",
            format!("\"auth.token_length\" must be at most 64 with scheme = \"jwt\": {why}"),
        );
    }
    if auth.scheme == Scheme::Cookies && auth.query {
        reader.fail("auth.query", "\"auth.query\" is for scheme = \"jwt\": cookies do not stand in URLs");
    }
}

fn limits(settings: &Settings, reader: &mut Reader<'_>) {
    let limits = &settings.limits;
    let outbox_bytes = limits.outbox_bytes as usize;
    let outbox_min = limits.message_bytes + FRAME_HEADER_BYTES_MAX;
    if outbox_bytes < outbox_min {
        let message = show_size(limits.message_bytes);
        let why =
            format!("a message of limits.message ({message}) and its header: at least {outbox_min} bytes");
        reader.fail("limits.outbox", format!("\"limits.outbox\" must hold {why}"));
    }
    if limits.queued_bytes < outbox_bytes {
        let why = format!("it must be at least limits.outbox ({})", show_size(outbox_bytes));
        reader.fail("limits.queued", format!("\"limits.queued\" is for all clients together: {why}"));
    }
    let payload_min = settings.auth.token_length + 1;
    if limits.control_payload_bytes < payload_min {
        let why = format!("a token and a message: at least {payload_min} bytes");
        reader.fail("limits.control_payload", format!("\"limits.control_payload\" must hold {why}"));
    }
    if let (Some(clients), Some(unauthenticated)) = (limits.clients, limits.unauthenticated) {
        if unauthenticated > clients {
            let why = format!("is more than limits.clients ({clients})");
            reader.fail("limits.unauthenticated", format!("\"limits.unauthenticated\" {why}"));
        }
    }
}

fn tls(settings: &Settings, reader: &mut Reader<'_>) {
    let listens = settings.speaks_tls();
    let serves = settings.servers.iter().any(|server| server.starts_with("tls://"));
    let key = if serves { "servers" } else { "control" };
    if listens && !cfg!(feature = "tls") {
        let message = format!("\"{key}\": this wsson was built without TLS; put a proxy in front of it");
        return reader.fail(key, message);
    }
    match &settings.tls {
        None if listens => {
            reader.fail(key, format!("\"{key}\": a tls:// listener needs certificate and key in [tls]"));
        }
        Some(files) => {
            for (key, path) in [("certificate", &files.certificate), ("key", &files.key)] {
                if path.as_os_str().is_empty() {
                    reader.fail(
                        &format!("tls.{key}"),
                        format!("[tls] needs \"{key}\", the path of a PEM file"),
                    );
                }
            }
        }
        None => {}
    }
}

fn bus(settings: &Settings, reader: &mut Reader<'_>) {
    let bus = &settings.bus;
    if !bus.redis.is_empty() && !cfg!(feature = "bus") {
        return reader.fail("bus.redis", "\"bus.redis\": this wsson was built without the bus");
    }
    if bus.redis.iter().any(|redis| redis.tls) && !cfg!(feature = "tls") {
        reader.fail("bus.redis", "\"bus.redis\": this wsson was built without TLS, which rediss:// needs");
    }
    for (place, redis) in bus.redis.iter().enumerate() {
        if bus.redis[..place].contains(redis) {
            reader.fail("bus.redis", format!("\"bus.redis\" has {redis} twice"));
        }
    }
    if bus.redis.len() > INSTANCES_MAX {
        reader.fail("bus.redis", format!("\"bus.redis\" has more than {INSTANCES_MAX} instances"));
    }
    if bus.user.is_some() && bus.password_file.is_none() {
        reader.fail("bus.user", "\"bus.user\" needs \"bus.password_file\", the file that holds its password");
    }
    if bus.redis.is_empty() && (bus.user.is_some() || bus.password_file.is_some()) {
        reader.fail("bus.user", "[bus] needs \"redis\", the list of the instances");
    }
}

impl Settings {
    /// The setting that is still needed before browsers can be served; the parser accepts a file without, since the
    /// secret may come from elsewhere. To be asked after the secrets are in `auth.secrets`.
    pub fn missing(&self) -> Option<&'static str> {
        if self.auth.secrets.is_empty() {
            return Some(
                "no secret is given: set secret_file (a file with at least 16 random bytes in text form)",
            );
        }
        if self.origins.is_empty() {
            return Some(
                "\"origins\" is empty, so every browser would be refused: list the addresses of your pages",
            );
        }
        None
    }

    /// Settings that can be served, but will surprise.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let limits = &self.limits;
        if limits.control_payload_bytes > limits.outbox_bytes as usize {
            warnings.push(
                "limits.control_payload is more than limits.outbox: a message of that size closes a client for which another one waits"
                    .into(),
            );
        }
        if self.allow_weak_secret {
            warnings.push("allow_weak_secret is set: this is for tests only".into());
        }
        let has_key = !self.control_key_files.is_empty();
        let over_network = |control: &&String| !control.starts_with("unix://");
        if !has_key && self.control.iter().any(|control| is_public(control)) {
            warnings.push(
                "control_public is set: every program that reaches the control address may send to every client; \
                 control_key_file closes it to all that have no key"
                    .into(),
            );
        }
        if !has_key && self.control.iter().any(|control| over_network(&control)) {
            warnings.push(
                "control is a TCP port: every user of this host can send to every client, and so can whoever makes a program \
                 here connect to a URL of his choice; a Unix socket is closed to both, and control_key_file closes the port"
                    .into(),
            );
        }
        let in_clear = |control: &&String| control.starts_with("tcp://") && is_public(control);
        if let Some(control) = self.control.iter().find(in_clear).filter(|_| has_key) {
            warnings.push(format!(
                "control: the key can be read on its way to {control}; tls:// hides it, unless the network does already"
            ));
        }
        if has_key && !self.control.iter().any(|control| over_network(&control)) {
            warnings.push(
                "control_key_file is set, and no control listener asks for it: Unix sockets need no key"
                    .into(),
            );
        }
        warnings
    }
}

/// Below this a secret can be found by trying, offline, from the cookies of one login.
const SECRET_BYTES_MIN: usize = 16;

pub(super) fn weakness(secret: &[u8]) -> Option<&'static str> {
    if secret.len() < SECRET_BYTES_MIN {
        return Some(
            "is shorter than 16 bytes and could be found by trying; generate one: openssl rand -base64 24 \
             (or, for tests, allow_weak_secret = true)",
        );
    }
    let published = PUBLISHED_SECRETS.iter().any(|known| secret.starts_with(known.as_bytes()));
    published.then_some(
        "is an example from the documentation of ws(s)on, known to everyone; generate one: openssl rand -base64 24 \
         (or, for tests, allow_weak_secret = true)",
    )
}

/// A key stands in a field of HTTP, so it is made of characters that do not end one.
pub(super) fn key_weakness(key: &[u8]) -> Option<&'static str> {
    if !key.iter().all(u8::is_ascii_graphic) {
        return Some(
            "has other characters than letters, digits and punctuation of ASCII; generate one: openssl rand -base64 24",
        );
    }
    weakness(key)
}
