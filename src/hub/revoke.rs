//! Revoked logins: refused although they are right, from the turn on in which they are revoked.
//!
//! The set is here; the process brings the [`Journal`] in which it outlives the process, as the hub touches no file.
//! Invariant: nothing is in force that the journal does not have, and a list of logins is revoked as a whole or not at all.
//! design: COMMANDS.md, `r`.

use super::Hub;
use crate::auth::{Identity, NoRoom, Revocation, Revoked, Unread, Whose};
use crate::rule::Rule;
use log::{info, warn};
use std::fmt;
use std::hash::RandomState;
use std::io;

/// Where revocations outlive the process: lines of text.
pub(crate) trait Journal: fmt::Debug + Send {
    /// All that it holds.
    fn read(&mut self) -> io::Result<Vec<u8>>;

    /// Adds lines, and returns when they are there after a crash too. `before` are all that should be there already.
    fn append(&mut self, lines: &str, before: &mut dyn Iterator<Item = String>) -> io::Result<()>;

    /// Replaces all that it holds, at once: after a crash it holds the one or the other.
    fn rewrite(&mut self, lines: &mut dyn Iterator<Item = String>) -> io::Result<()>;
}

/// Why logins were not revoked.
#[derive(Debug)]
pub(crate) enum RevokeError {
    /// There are `limits.revoked`.
    NoRoom,
    /// The journal could not be written.
    Journal(io::Error),
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Revocations {
    set: Revoked,
    journal: Option<Box<dyn Journal>>,
}

impl Revocations {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self { set: Revoked::new(hasher), journal: None }
    }

    /// Takes over the revocations that the journal holds, and leaves in it those that are not over.
    fn take_over(&mut self, max: usize, now_unix_s: i64) -> io::Result<Unread> {
        let Self { set, journal } = self;
        set.drop_expired(now_unix_s);
        let Some(journal) = journal else { return Ok(Unread::default()) };
        let unread = set.read(&journal.read()?, max, now_unix_s);
        journal.rewrite(&mut set.lines())?;
        Ok(unread)
    }

    fn add(&mut self, list: Vec<Revocation>, max: usize, now_unix_s: i64) -> Result<(), RevokeError> {
        let Self { set, journal } = self;
        set.check_room(&list, max, now_unix_s).map_err(|NoRoom| RevokeError::NoRoom)?;
        if let Some(journal) = journal {
            let lines: String = list.iter().map(ToString::to_string).collect();
            journal.append(&lines, &mut set.lines()).map_err(RevokeError::Journal)?;
        }
        list.into_iter().for_each(|revocation| set.add(revocation));
        Ok(())
    }
}

impl Hub {
    /// Keeps revocations in this journal from now on, and those that it holds in force. Without an error it was rewritten.
    pub(crate) fn keep_revocations(&mut self, journal: Box<dyn Journal>) -> io::Result<Unread> {
        self.revocations.journal = Some(journal);
        self.reload_revocations()
    }

    /// Takes over the revocations that were added to the journal by hand, and rewrites it without those that are over.
    pub(crate) fn reload_revocations(&mut self) -> io::Result<Unread> {
        self.revocations.take_over(self.rules.limits.revoked, self.now.unix_s)
    }

    /// Revocations that are not over, as of the last look.
    pub(crate) fn revoked(&self) -> usize {
        self.revocations.set.len()
    }

    /// Refuses these logins from now on. Their connections are for the caller to close, in this turn.
    pub(crate) fn refuse_logins(&mut self, whose: Vec<Whose>) -> Result<(), RevokeError> {
        let now_unix_s = self.now.unix_s;
        let until_unix_s = self.revocations.set.until(self.rules.auth.lifetime_s, now_unix_s);
        let list: Vec<_> = whose.into_iter().map(|whose| Revocation { whose, until_unix_s }).collect();
        let logins = list.len();
        let added = self.revocations.add(list, self.rules.limits.revoked, now_unix_s);
        match &added {
            Ok(()) => info!("revoked logins={logins} until={until_unix_s}"),
            Err(error) => warn!("not_revoked logins={logins} reason=\"{error}\""),
        }
        added
    }

    /// Whether a login that was found right was revoked. One that was not revoked is noted as let in.
    pub(super) fn check_revoked(&mut self, login: &Identity<'_>) -> Result<(), Rule> {
        if self.revocations.set.covers(login, self.now.unix_s) {
            return Err(Rule::Revoked);
        }
        self.revocations.set.note(login, self.now.unix_s);
        Ok(())
    }
}

impl fmt::Display for RevokeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoom => NoRoom.fmt(f),
            Self::Journal(error) => {
                write!(f, "revoked_file cannot be written, so nothing was revoked: {error}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Now;
    use crate::config::Settings;
    use crate::stats::Process;
    use std::sync::{Arc, Mutex};

    const NOW: i64 = 1_531_124_337;

    /// Lines in memory, which two hubs may have one after the other; fails when the test says so.
    #[derive(Clone, Debug, Default)]
    struct Lines(Arc<Mutex<(String, bool)>>);

    impl Journal for Lines {
        fn read(&mut self) -> io::Result<Vec<u8>> {
            Ok(self.0.lock().unwrap().0.clone().into_bytes())
        }

        fn append(&mut self, lines: &str, _: &mut dyn Iterator<Item = String>) -> io::Result<()> {
            let mut held = self.0.lock().unwrap();
            if held.1 {
                return Err(io::Error::other("no space"));
            }
            held.0.push_str(lines);
            Ok(())
        }

        fn rewrite(&mut self, lines: &mut dyn Iterator<Item = String>) -> io::Result<()> {
            self.0.lock().unwrap().0 = lines.collect();
            Ok(())
        }
    }

    fn hub(journal: &Lines) -> Hub {
        let mut settings = Settings::default();
        settings.limits.revoked = 3;
        let mut hub = Hub::new(&settings, RandomState::new(), Process::default);
        hub.set_now(Now { ms: 0, unix_s: NOW });
        hub.keep_revocations(Box::new(journal.clone())).unwrap();
        hub
    }

    fn token(token: &str) -> Whose {
        Whose::Token(token.into())
    }

    #[test]
    fn what_was_revoked_is_refused_after_a_restart_too() {
        let journal = Lines::default();
        hub(&journal).refuse_logins(vec![token("gone"), Whose::User("anna".into(), NOW)]).unwrap();
        let mut hub = hub(&journal);
        let login = Identity::new("gone").with_times(NOW, NOW + 9);
        assert_eq!(hub.check_revoked(&login), Err(Rule::Revoked));
        let of_anna = Identity::new("other").with_user("anna");
        assert_eq!(hub.check_revoked(&of_anna.clone().with_times(NOW, NOW + 9)), Err(Rule::Revoked));
        assert_eq!(hub.check_revoked(&of_anna.with_times(NOW + 1, NOW + 9)), Ok(()));
        hub.set_now(Now { ms: 0, unix_s: NOW + 86_400 + 61 });
        assert_eq!(hub.reload_revocations().unwrap(), Unread::default());
        assert_eq!((hub.revoked(), journal.0.lock().unwrap().0.len()), (0, 0), "all is over");
    }

    #[test]
    fn a_list_is_revoked_as_a_whole_or_not_at_all() {
        let journal = Lines::default();
        let mut hub = hub(&journal);
        hub.refuse_logins(vec![token("a"), token("b")]).unwrap();
        let held = journal.0.lock().unwrap().0.clone();
        assert!(matches!(hub.refuse_logins(vec![token("c"), token("d")]), Err(RevokeError::NoRoom)));
        journal.0.lock().unwrap().1 = true;
        assert!(matches!(hub.refuse_logins(vec![token("c")]), Err(RevokeError::Journal(_))));
        assert_eq!((hub.revoked(), &journal.0.lock().unwrap().0), (2, &held));
        assert_eq!(hub.check_revoked(&Identity::new("c")), Ok(()));
        journal.0.lock().unwrap().1 = false;
        hub.refuse_logins(vec![token("c")]).unwrap();
        assert_eq!(hub.check_revoked(&Identity::new("c")), Err(Rule::Revoked));
    }

    #[test]
    fn lines_that_an_administrator_adds_hold_after_a_reload() {
        let journal = Lines::default();
        let mut hub = hub(&journal);
        hub.refuse_logins(vec![token("a")]).unwrap();
        journal.0.lock().unwrap().0.push_str(&format!("nonsense\nt:b {}", NOW + 9));
        assert_eq!(hub.reload_revocations().unwrap().bad_lines, [2]);
        assert_eq!(hub.revoked(), 2);
        assert_eq!(journal.0.lock().unwrap().0.lines().count(), 2, "rewritten without the nonsense");
    }
}
