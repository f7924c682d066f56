//! Fuzz body: no text makes the parser of the configuration panic; every mistake it reports is in a place of the text
//! and tells no secret; accepted settings can be written down and read again as the same settings.
//!
//! Input: the configuration file.

use std::path::Path;
use wsson::testing::config::{ConfigError, Settings};

/// A line that may stand before the text: it must not come back in an error.
const SECRET: &str = "Jq7vZx0Kk2pWm4Rt";

pub(crate) fn body(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let folder = Path::new("/etc/wsson");
    let strict = Settings::parse(text, folder);
    let lenient = Settings::parse_allowing_weak(text, folder);
    for verdict in [&strict, &lenient] {
        match verdict {
            Ok(settings) => survives_the_page(settings, folder),
            Err(errors) => check_places(text, errors),
        }
    }
    if let (Ok(strict), Ok(lenient)) = (&strict, &lenient) {
        let strict = Settings { allow_weak_secret: true, ..strict.clone() };
        assert_eq!(strict, *lenient, "only the secrets are judged differently");
    }
    assert!(strict.is_err() || lenient.is_ok(), "stricter where it should be lenient: {lenient:?}");
    keeps_the_secret(text, folder);
}

fn survives_the_page(settings: &Settings, folder: &Path) {
    let page = settings.render_masked();
    for secret in &settings.auth.secrets {
        // A short one may be part of anything else.
        let shown = std::str::from_utf8(secret.as_bytes()).is_ok_and(|secret| {
            secret.len() >= 32 && page.contains(secret) && !other_values(settings).contains(secret)
        });
        assert!(!shown, "a secret is shown");
    }
    let again = Settings::parse_allowing_weak(&page, folder);
    let mut again = again.unwrap_or_else(|errors| panic!("{errors:?} in\n{page}"));
    assert_eq!(again.auth.secrets.len(), settings.auth.secrets.len(), "a mask for each secret");
    again.auth.secrets.clone_from(&settings.auth.secrets);
    again.allow_weak_secret = settings.allow_weak_secret;
    assert_eq!(again, *settings, "{page}");
}

/// The page of the same settings without secrets.
fn other_values(settings: &Settings) -> String {
    let mut bare = settings.clone();
    bare.auth.secrets.clear();
    bare.render_masked()
}

fn check_places(text: &str, errors: &[ConfigError]) {
    assert!(!errors.is_empty(), "refused without a reason");
    assert!(errors.is_sorted_by_key(|error| (error.line, error.column)));
    let lines: Vec<&str> = text.split('\n').collect();
    for error in errors {
        assert!(!error.message.is_empty());
        assert_eq!(error.line == 0, error.column == 0, "{error:?}");
        if error.line > 0 {
            let line = lines.get(error.line - 1).unwrap_or_else(|| panic!("{error:?} is below the text"));
            assert!(error.column <= line.chars().count() + 1, "{error:?} is beside the text");
        }
    }
}

fn keeps_the_secret(text: &str, folder: &Path) {
    if text.contains(SECRET) {
        return;
    }
    if let Err(errors) = Settings::parse(&format!("secret = \"{SECRET}\"\n{text}"), folder) {
        assert!(errors.iter().all(|error| !error.message.contains(SECRET)), "a secret is told: {errors:?}");
    }
}
