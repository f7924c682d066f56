//! From root to an ordinary user: after binding, for good, verified.
//!
//! Names are looked up before anything is bound, so that a misspelt user is an error at once. A process that is not
//! root keeps its user: `user` and `group` are for a start as root.
//!
//! Invariant: after [`harden`] and [`become_user`] no way leads back to root and no core file holds the secret.

use super::{Exit, Failure};
use crate::sys::{self, Access, Fork, User};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// The way out where root is not all that root is, as in containers.
pub(super) const CAPABLE: &str =
    "the capabilities CAP_CHOWN, CAP_SETUID and CAP_SETGID for this root, or to start as that user";

/// Finds the user to become. `None`: none is named, or this process is not root and keeps its user.
pub(crate) fn find(user: Option<&str>, group: Option<&str>) -> Result<Option<User>, Failure> {
    if !sys::is_root() || (user.is_none() && group.is_none()) {
        return Ok(None);
    }
    let mut found = match user {
        Some(name) => find_user(name)?,
        None => User { uid: 0, gid: 0 },
    };
    if let Some(name) = group {
        found.gid = find_group(name)?;
    }
    Ok(Some(found))
}

/// Looks up `user`; the failure names it.
pub(crate) fn find_user(name: &str) -> Result<User, Failure> {
    let found = sys::user(name).map_err(|e| Failure::io(format!("cannot look up user `{name}`"), &e))?;
    found.ok_or_else(|| missing("user", name))
}

/// Looks up `group`; the failure names it.
pub(crate) fn find_group(name: &str) -> Result<u32, Failure> {
    let found = sys::group(name).map_err(|e| Failure::io(format!("cannot look up group `{name}`"), &e))?;
    found.ok_or_else(|| missing("group", name))
}

fn missing(what: &str, name: &str) -> Failure {
    let text = format!("there is no {what} `{name}`");
    Failure::new(Exit::NotConfigured, text)
        .or(format!("adduser --system --group wsson, or another `{what}` in the configuration"))
}

/// Becomes that user for good.
pub(crate) fn become_user(user: User) -> Result<(), Failure> {
    sys::become_user(user).map_err(|e| {
        Failure::io(format!("cannot become user {} and group {}", user.uid, user.gid), &e).or(CAPABLE)
    })?;
    harden()
}

/// Whether that user may do that with a file or folder, asked by a process that becomes that user. `None`: this one.
pub(crate) fn may(user: Option<User>, path: &Path, access: Access) -> io::Result<()> {
    let Some(user) = user else { return sys::may(path, access) };
    let (mut ours, mut theirs) = UnixStream::pair()?;
    match sys::fork()? {
        Fork::Child => {
            let denied = sys::become_user(user).and_then(|()| sys::may(path, access)).err();
            let code = denied.map_or(0, |error| error.raw_os_error().unwrap_or(-1));
            let said = theirs.write_all(&code.to_ne_bytes());
            std::process::exit(i32::from(said.is_err()))
        }
        Fork::Parent(child) => {
            drop(theirs);
            let mut code = [0; 4];
            let heard = ours.read_exact(&mut code);
            sys::reap(child)?;
            heard.and_then(|()| match i32::from_ne_bytes(code) {
                0 => Ok(()),
                code => Err(io::Error::from_raw_os_error(code)),
            })
        }
    }
}

/// No new privileges, no core file, no debugger. Called again after a change of user, which makes the kernel
/// decide anew whether a process may be dumped.
pub(crate) fn harden() -> Result<(), Failure> {
    let sandbox = "a sandbox that permits prctl(2) and setrlimit(2)";
    sys::forbid_new_privileges().map_err(|e| Failure::io("cannot forbid new privileges", &e).or(sandbox))?;
    sys::forbid_dumps().map_err(|e| Failure::io("cannot forbid core files", &e).or(sandbox))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_told_before_anything_happens() {
        let failure = find_user("no-such-user").unwrap_err();
        assert_eq!(failure.exit, Exit::NotConfigured);
        assert_eq!(failure.text, "there is no user `no-such-user`");
        assert!(find_group("no-such-group").unwrap_err().text.starts_with("there is no group"));
    }

    #[test]
    fn the_group_overrides_the_users_own() {
        if !sys::is_root() {
            assert_eq!(find(Some("nobody"), None).unwrap(), None);
            return eprintln!("skipped: not root");
        }
        let nobody = find_user("nobody").unwrap();
        assert_eq!(find(Some("nobody"), None).unwrap(), Some(nobody));
        assert_eq!(find(Some("nobody"), Some("root")).unwrap(), Some(User { gid: 0, ..nobody }));
        assert_eq!(find(None, None).unwrap(), None);
    }

    #[test]
    fn the_new_user_cannot_be_dumped_either() {
        if !sys::is_root() {
            return eprintln!("skipped: not root, so there is nobody else to become");
        }
        sys::tests::alone("daemon::privileges::tests::the_new_user_cannot_be_dumped_either", || {
            let nobody = find_user("nobody").unwrap();
            become_user(nobody).unwrap();
            // A process that may not be dumped belongs to root in /proc, whatever its user.
            let meta = std::fs::metadata("/proc/self/environ").unwrap();
            assert_eq!(std::os::unix::fs::MetadataExt::uid(&meta), 0);
        });
    }
}
