//! What a new configuration changes in a running server, and what only a restart can change.
//!
//! Pure: two [`Settings`] in, a [`Plan`] out. Invariant: the settings that hold after a reload are the new file's
//! where the plan says "applied" and the running ones everywhere else, so comparing the same file again reports the
//! same keys as waiting for a restart.

use crate::config::Settings;

/// The outcome of a reload, in the configuration's own names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// What changes now.
    pub applied: Vec<&'static str>,
    /// What changes at the next restart.
    pub restart: Vec<&'static str>,
}

#[derive(Clone, Copy, PartialEq)]
enum Effect {
    Now,
    Restart,
}

struct Key {
    name: &'static str,
    effect: Effect,
    differs: fn(&Settings, &Settings) -> bool,
    copy: fn(&mut Settings, &Settings),
}

macro_rules! keys {
    ($($effect:ident $name:literal $($field:ident).+;)*) => {
        [$(Key {
            name: $name,
            effect: Effect::$effect,
            differs: |a, b| a.$($field).+ != b.$($field).+,
            copy: |to, from| to.$($field).+.clone_from(&from.$($field).+),
        }),*]
    };
}

/// Every key of the configuration. What needs a restart is bound to sockets, to the process, or to what open
/// connections were admitted by.
static KEYS: &[Key] = &keys! {
    Restart "servers" servers;
    Restart "domains" domains;
    Restart "control" control;
    Restart "control_public" control_public;
    Restart "pid" pid;
    Now "secret" auth.secrets;
    Now "secret_file" secret_files;
    Now "allow_weak_secret" allow_weak_secret;
    Now "origins" origins;
    Now "on_message" on_message;
    Restart "user" user;
    Restart "group" group;
    Now "log" log;
    Now "trusted_proxies" trusted_proxies;
    Restart "reuseport" reuseport;
    Restart "auth.identity" auth.identity;
    Restart "auth.digest" auth.digest;
    Restart "auth.token_length" auth.token_length;
    Restart "auth.lifetime" auth.lifetime_s;
    Restart "auth.cookie_token" auth.cookie_token;
    Restart "auth.cookie_time" auth.cookie_time;
    Restart "auth.cookie_digest" auth.cookie_digest;
    Restart "auth.cookie_user" auth.cookie_user;
    Now "limits.clients" limits.clients;
    Now "limits.connections_per_token" limits.connections_per_token;
    Now "limits.connections_per_user" limits.connections_per_user;
    Now "limits.unauthenticated" limits.unauthenticated;
    Now "limits.head" limits.head_bytes;
    Now "limits.message" limits.message_bytes;
    Now "limits.outbox" limits.outbox_bytes;
    Now "limits.queued" limits.queued_bytes;
    Now "limits.control_payload" limits.control_payload_bytes;
    Now "limits.control_outbox" limits.control_outbox_bytes;
    Now "limits.control_total" limits.control_total_bytes;
    Now "limits.backends" limits.backends;
    Now "limits.addresses" limits.addresses;
    Now "timeouts.handshake" timeouts.handshake_ms;
    Now "timeouts.idle" timeouts.idle_ms;
    Now "timeouts.pong" timeouts.pong_ms;
    Now "timeouts.stalled" timeouts.stalled_ms;
    Now "timeouts.close" timeouts.close_ms;
    Now "timeouts.lock" timeouts.lock_ms;
    Now "timeouts.control" timeouts.control_ms;
    Now "timeouts.drain" timeouts.drain_ms;
    Now "tls" tls;
    Restart "sockets.servers_mode" sockets.servers_mode;
    Restart "sockets.control_mode" sockets.control_mode;
    Restart "sockets.owner" sockets.owner;
    Restart "sockets.group" sockets.group;
};

impl Plan {
    /// Compares the settings that hold with those of a new file.
    pub(crate) fn new(running: &Settings, file: &Settings) -> Self {
        let named = |effect| {
            KEYS.iter()
                .filter(move |k| k.effect == effect && (k.differs)(running, file))
                .map(|k| k.name)
                .collect()
        };
        Self { applied: named(Effect::Now), restart: named(Effect::Restart) }
    }

    /// The settings that hold from now on.
    pub(crate) fn merge(running: &Settings, file: &Settings) -> Settings {
        let mut merged = running.clone();
        for key in KEYS.iter().filter(|k| k.effect == Effect::Now) {
            (key.copy)(&mut merged, file);
        }
        merged
    }
}

/// For a log line: names with commas, or `none`.
pub(crate) fn list(names: &[&str]) -> String {
    if names.is_empty() { "none".into() } else { names.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn settings(text: &str) -> Settings {
        let text = format!("secret = \"sixteen bytes or more\"\n{text}");
        Settings::parse(&text, Path::new("/etc/wsson")).unwrap()
    }

    #[track_caller]
    fn check(old: &str, new: &str, applied: &[&str], restart: &[&str]) {
        let (old, new) = (settings(old), settings(new));
        let plan = Plan::new(&old, &new);
        assert_eq!((plan.applied.as_slice(), plan.restart.as_slice()), (applied, restart));
        let merged = Plan::merge(&old, &new);
        let again = Plan::new(&merged, &new);
        assert_eq!((again.applied.as_slice(), again.restart.as_slice()), (&[][..], restart));
    }

    #[test]
    fn nothing_changes_nothing() {
        check("", "", &[], &[]);
        check("on_message = \"drop\"", "", &[], &[]);
    }

    #[test]
    fn what_can_be_applied_is_and_the_rest_waits() {
        check("", "origins = [\"https://a.example\"]", &["origins"], &[]);
        check("", "servers = \"tcp://127.0.0.1:1\"", &[], &["servers"]);
        let new = "log = \"syslog\"\nuser = \"www-data\"\n[limits]\nhead = 4096\n[timeouts]\nidle = 20\n[auth]\ndigest = \"hmac-sha256\"";
        check("", new, &["log", "limits.head", "timeouts.idle"], &["user", "auth.digest"]);
    }

    #[test]
    fn a_new_secret_is_applied_and_never_shown() {
        let old = settings("");
        let new = Settings::parse(
            "secret = [\"another secret of mine\", \"sixteen bytes or more\"]",
            Path::new("/"),
        );
        let plan = Plan::new(&old, &new.unwrap());
        assert_eq!(plan.applied, ["secret"]);
        assert!(!format!("{plan:?}").contains("another secret"));
    }

    /// The example configuration shows every key; a key the table does not know would silently need a restart.
    #[test]
    fn every_key_of_the_configuration_is_here() {
        let mut section = String::new();
        let mut seen = 0;
        for line in include_str!("../../conf/wsson.toml").lines() {
            let line = line.strip_prefix('#').unwrap_or(line);
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
                section = format!("{name}.");
            } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| !key.contains(' ')) {
                let name = if section == "tls." { "tls".into() } else { format!("{section}{key}") };
                assert!(KEYS.iter().any(|k| k.name == name), "{name}");
                seen += 1;
            }
        }
        assert!(seen >= KEYS.len(), "{seen}");
    }
}
