//! The configuration file of a server, read again for each reload; and with `--keep`, the copy of it that served last.
//!
//! systemd ends the old server before the new one has looked at its file, so a mistake in it would take the service down
//! until an administrator comes. With `--keep FOLDER` it does so for a moment only: the start fails, as `systemctl
//! restart` has to tell, and the next attempt, which systemd makes by itself, serves with the configuration that served
//! before. The status says so until the file is mended.
//!
//! Two files are in the folder: `served.toml`, and `refused.toml`, which is there between the attempt that failed and the
//! next one. Invariant: a server never starts with the kept copy unless the attempt before has failed with this very file.

use super::args::Args;
use super::{Exit, Failure, load};
use crate::Settings;
use crate::daemon::service::Source;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// See the module's head.
pub(super) struct ConfigFile {
    args: Args,
    keep: Option<PathBuf>,
    /// The text of the settings that were loaded last; nothing when they are the kept ones.
    text: Option<String>,
    instead: Option<String>,
}

impl ConfigFile {
    pub(super) fn new(args: &Args) -> Result<Self, Failure> {
        let keep = args.value("keep")?.map(PathBuf::from);
        Ok(Self { args: args.clone(), keep, text: None, instead: None })
    }

    /// The settings to start with.
    pub(super) fn first(&mut self) -> Result<Settings, Failure> {
        self.text = load::text(&self.args).ok();
        let read = load::settings(&self.args);
        match self.kept_after_refusal() {
            Some(kept) => {
                let path = self.args.config().0;
                let why = read.err().map(|failure| failure.text);
                let why = why.unwrap_or_else(|| format!("the server did not start with {}", path.display()));
                let kept = load::settings_in(&self.args, &kept)?;
                self.text = None;
                self.instead = Some(format!("{why}; the configuration that served before still does"));
                Ok(kept)
            }
            None => read.map_err(|failure| self.refused(failure)),
        }
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.keep.as_ref()?.join(name))
    }

    fn refusal(&self) -> Option<PathBuf> {
        self.file("refused.toml")
    }

    /// The kept copy, if the attempt before has failed with this very file. That is said once: the next start tries the
    /// file again.
    fn kept_after_refusal(&self) -> Option<PathBuf> {
        let (refusal, served) = (self.refusal()?, self.file("served.toml")?);
        let refused = fs::read_to_string(&refusal).ok()?;
        fs::remove_file(&refusal).ok()?;
        (self.text.as_ref() == Some(&refused) && served.exists()).then_some(served)
    }

    /// Notes the refusal, for the next attempt. Nothing when there is no other copy to serve with.
    fn note_refusal(&self) -> Option<()> {
        let text = self.text.as_ref()?;
        let served = fs::read_to_string(self.file("served.toml")?).ok()?;
        (served != *text).then(|| write(&self.refusal()?, text).ok()).flatten()
    }
}

impl Source for ConfigFile {
    fn load(&mut self, running: &Settings) -> Result<(Settings, Vec<String>), Failure> {
        self.text = load::text(&self.args).ok();
        load::again(&self.args, running)
            .map_err(|failure| Failure::new(Exit::NotConfigured, failure.text.replace("\nwsson: ", "; ")))
    }

    fn served(&mut self) {
        let (Some(served), Some(text)) = (self.file("served.toml"), &self.text) else { return };
        self.instead = None;
        if let Err(error) = write(&served, text) {
            let (path, why) = (served.display(), crate::sys::describe(&error));
            log::warn!("not_kept file={path} reason=\"{why}\"");
        }
    }

    fn refused(&mut self, failure: Failure) -> Failure {
        match self.note_refusal() {
            // Not the exit code of a bad configuration: with that one the unit is not started again.
            Some(()) => Failure {
                exit: Exit::Failed,
                text: failure.text
                    + "\nwsson: the next attempt serves with the configuration that served before",
                way_out: failure.way_out,
            },
            None => failure,
        }
    }

    fn instead(&self) -> Option<&str> {
        self.instead.as_deref()
    }
}

/// Whole or not at all, and for no other user: there may be a secret in it.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(new, path)
}
