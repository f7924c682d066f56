//! [`Settings`] back to TOML, every key with the value that holds, secrets masked: what `wsson check` prints.
//!
//! Invariant: the text is a valid configuration but for the masks, and reading it gives the same settings again.

use super::values::show_size;
use super::{LogTarget, OnMessage, Settings};
use crate::auth::{Digest, IdentityKind};
use std::fmt::Write;
use std::path::Path;

impl Settings {
    /// The settings that hold, as TOML. Secrets are masked, with a mask too short to be taken for a secret.
    pub fn render_masked(&self) -> String {
        let mut out = Page { text: String::new() };
        self.render_top(&mut out);
        self.render_auth(&mut out);
        self.render_limits(&mut out);
        self.render_timeouts(&mut out);
        self.render_sections(&mut out);
        out.text
    }

    fn render_top(&self, out: &mut Page) {
        out.list("servers", &self.servers);
        out.list("domains", &self.domains);
        out.string("control", &self.control);
        out.bare("control_public", self.control_public);
        out.string("pid", &self.pid.as_deref().map_or(String::new(), show_path));
        self.render_secret(out);
        out.bare("allow_weak_secret", self.allow_weak_secret);
        out.list("origins", &self.origins);
        out.string("on_message", on_message(self.on_message));
        out.optional("user", self.user.as_deref());
        out.optional("group", self.group.as_deref());
        out.string("log", &log_target(&self.log));
        out.list("trusted_proxies", &self.trusted_proxies);
        out.bare("reuseport", self.reuseport);
    }

    fn render_secret(&self, out: &mut Page) {
        if self.secret_files.is_empty() {
            let count = self.auth.secrets.len();
            let masks: Vec<String> = (1..=count).map(|number| format!("(masked {number})")).collect();
            out.list("secret", &masks);
        } else {
            let files: Vec<String> = self.secret_files.iter().map(|path| show_path(path)).collect();
            out.list("secret_file", &files);
        }
    }

    fn render_auth(&self, out: &mut Page) {
        let auth = &self.auth;
        out.section("auth");
        out.string("identity", if auth.identity == IdentityKind::User { "user" } else { "token" });
        out.string("digest", if auth.digest == Digest::HmacSha256 { "hmac-sha256" } else { "md5" });
        out.bare("token_length", auth.token_length);
        out.bare("lifetime", auth.lifetime_s);
        out.string("cookie_token", &auth.cookie_token);
        out.string("cookie_time", &auth.cookie_time);
        out.string("cookie_digest", &auth.cookie_digest);
        out.string("cookie_user", &auth.cookie_user);
    }

    fn render_limits(&self, out: &mut Page) {
        let limits = &self.limits;
        out.section("limits");
        out.count_or_default("clients", limits.clients, "from the limit of open files");
        out.bare("connections_per_token", limits.connections_per_token);
        out.bare("connections_per_user", limits.connections_per_user);
        out.count_or_default("unauthenticated", limits.unauthenticated, "1024 or a tenth of clients");
        out.string("head", &show_size(limits.head_bytes));
        out.string("message", &show_size(limits.message_bytes));
        out.string("outbox", &show_size(limits.outbox_bytes as usize));
        out.string("queued", &show_size(limits.queued_bytes));
        out.string("control_payload", &show_size(limits.control_payload_bytes));
        out.string("control_outbox", &show_size(limits.control_outbox_bytes));
        out.string("control_total", &show_size(limits.control_total_bytes));
        out.bare("backends", limits.backends);
        out.bare("addresses", limits.addresses);
    }

    fn render_timeouts(&self, out: &mut Page) {
        let timeouts = &self.timeouts;
        out.section("timeouts");
        out.seconds("handshake", timeouts.handshake_ms);
        out.seconds("idle", timeouts.idle_ms);
        out.seconds("pong", timeouts.pong_ms);
        out.seconds("stalled", timeouts.stalled_ms);
        out.seconds("close", timeouts.close_ms);
        out.seconds("lock", timeouts.lock_ms);
        out.seconds("control", timeouts.control_ms);
        out.seconds("drain", timeouts.drain_ms);
    }

    fn render_sections(&self, out: &mut Page) {
        if let Some(tls) = &self.tls {
            out.section("tls");
            out.string("certificate", &show_path(&tls.certificate));
            out.string("key", &show_path(&tls.key));
        }
        out.section("sockets");
        out.string("servers_mode", &format!("{:04o}", self.sockets.servers_mode));
        out.string("control_mode", &format!("{:04o}", self.sockets.control_mode));
        out.optional("owner", self.sockets.owner.as_deref());
        out.optional("group", self.sockets.group.as_deref());
    }
}

/// One line a key, in the order of the documentation.
struct Page {
    text: String,
}

impl Page {
    fn section(&mut self, name: &str) {
        let _ = writeln!(self.text, "\n[{name}]");
    }

    fn bare(&mut self, key: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.text, "{key} = {value}");
    }

    fn string(&mut self, key: &str, value: &str) {
        self.bare(key, quote(value));
    }

    fn optional(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.string(key, value);
        }
    }

    fn list(&mut self, key: &str, values: &[String]) {
        let values: Vec<String> = values.iter().map(|value| quote(value)).collect();
        self.bare(key, format_args!("[{}]", values.join(", ")));
    }

    /// A count that is worked out at start when it is not given cannot be written down here.
    fn count_or_default(&mut self, key: &str, count: Option<usize>, default: &str) {
        match count {
            Some(count) => self.bare(key, count),
            None => self.bare(&format!("# {key}"), format_args!("({default})")),
        }
    }

    /// Whole seconds without a fraction, others with three digits of one.
    fn seconds(&mut self, key: &str, ms: u64) {
        match ms % 1000 {
            0 => self.bare(key, ms / 1000),
            rest => self.bare(key, format_args!("{}.{rest:03}", ms / 1000)),
        }
    }
}

/// A basic string of TOML: quotes, backslashes and control characters escaped.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(control));
            }
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}

fn show_path(path: &Path) -> String {
    path.display().to_string()
}

fn on_message(policy: OnMessage) -> &'static str {
    match policy {
        OnMessage::Broadcast => "broadcast",
        OnMessage::Drop => "drop",
        OnMessage::Echo => "echo",
        OnMessage::Log => "log",
    }
}

fn log_target(target: &LogTarget) -> String {
    match target {
        LogTarget::File(path) => show_path(path),
        LogTarget::Stderr => "stderr".into(),
        LogTarget::Syslog => "syslog".into(),
    }
}
