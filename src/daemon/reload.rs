//! The changes that a new configuration makes to a running server, and those that wait for a restart.
//!
//! Pure: two [`Settings`] in, a [`Plan`] out. Invariant: the settings that hold after a reload are the new file's
//! where the plan says "applied" and the running ones everywhere else, so comparing the same file again reports the
//! same keys as waiting for a restart.

use crate::config::{Effect, Key, Settings, keys};

/// The outcome of a reload, in the configuration's own names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The changes now.
    pub applied: Vec<&'static str>,
    /// The changes at the next restart.
    pub restart: Vec<&'static str>,
}

impl Plan {
    /// Compares the settings that hold with those of a new file.
    pub(crate) fn new(running: &Settings, file: &Settings) -> Self {
        let named = |effect| {
            let changed = keys().filter(|key| key.effect == effect && key.differs(running, file));
            let mut names: Vec<_> = changed.map(Key::reported).collect();
            names.dedup();
            names
        };
        Self { applied: named(Effect::Reload), restart: named(Effect::Restart) }
    }

    /// The settings that hold from now on.
    pub(crate) fn merge(running: &Settings, file: &Settings) -> Settings {
        let mut merged = running.clone();
        for key in keys().filter(|key| key.effect == Effect::Reload) {
            key.copy(&mut merged, file);
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
        check("", new, &["log", "auth.digest", "limits.head", "timeouts.idle"], &["user"]);
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

    /// The field behind a key is the one that its name says, for every key: a change of one is a change of no other.
    #[test]
    fn a_key_that_changes_is_reported_alone() {
        for key in keys() {
            let mut file = Settings::default();
            let changed = other_value(key);
            key.copy(&mut file, &changed);
            let plan = Plan::new(&Settings::default(), &file);
            let (own, other) = match key.effect {
                Effect::Reload => (plan.applied, plan.restart),
                Effect::Restart => (plan.restart, plan.applied),
            };
            assert_eq!((own.as_slice(), other.len()), (&[key.reported()][..], 0), "{key:?}");
        }
    }

    /// Settings in which the key has another value than by default, from a configuration that says so.
    fn other_value(key: &Key) -> Settings {
        let candidates = [
            "true",
            "77",
            "7",
            "\"7 MiB\"",
            "\"7 KiB\"",
            "\"/x\"",
            "\"echo\"",
            "\"user\"",
            "\"hmac-sha256\"",
            "\"jwt\"",
            "\"unix:///x\"",
            "\"https://x\"",
            "\"0777\"",
            "\"10.0.0.1\"",
            "\"a long enough secret\"",
            "\"redis://127.0.0.1\"",
        ];
        let texts = candidates.map(|value| match key.section {
            "" => format!("{} = {value}\n", key.word()),
            section => format!("[{section}]\n{} = {value}\n", key.word()),
        });
        let read = |text: &String| Settings::parse_to_stop(text, Path::new("/"));
        let differs = |settings: &Settings| key.differs(settings, &Settings::default());
        texts.iter().filter_map(read).find(differs).unwrap_or_else(|| panic!("no other value for {key:?}"))
    }
}
