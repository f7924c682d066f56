//! [`Settings`] back to TOML, every key with the value that holds, secrets masked: the output of `wsson check`.
//!
//! Invariant: the text is a valid configuration but for the masks, and reading it gives the same settings again.

use super::{Settings, Shown, keys};
use std::fmt::Write;

impl Settings {
    /// The settings that hold, as TOML, one line a key. Secrets are masked.
    pub fn render_masked(&self) -> String {
        let mut page = String::new();
        let mut section = "";
        for key in keys() {
            if key.section != section && (key.section != "tls" || self.tls.is_some()) {
                section = key.section;
                let _ = writeln!(page, "\n[{section}]");
            }
            let _ = match key.show(self) {
                Shown::Value(value) => writeln!(page, "{} = {value}", key.word()),
                // Values that are worked out at start cannot be written down here.
                Shown::WorkedOut(from) => writeln!(page, "# {} = ({from})", key.word()),
                Shown::Unset => Ok(()),
            };
        }
        page
    }
}
