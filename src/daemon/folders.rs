//! The folder for the PID file and the sockets, `/run/wsson`: /run is empty after every boot.
//!
//! Made only by root, only when it is missing, only one level deep, and given to the user that the server becomes,
//! who has to remove the files in it at the end. A folder that exists is left as it is.

use super::Failure;
use super::privileges::CAPABLE;
use crate::sys::User;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, lchown};
use std::path::Path;

/// Makes the folder of `file` if it is missing.
pub(crate) fn prepare(file: &Path, owner: Option<User>) -> Result<(), Failure> {
    let Some(folder) = file.parent().filter(|f| !f.as_os_str().is_empty()) else { return Ok(()) };
    match std::fs::DirBuilder::new().mode(0o755).create(folder) {
        Ok(()) => give(folder, owner),
        // Other faults are reported, with their own names, by the step that needs the folder.
        Err(e) if e.kind() == ErrorKind::AlreadyExists || folder.is_dir() => Ok(()),
        Err(e) => Err(Failure::io(format!("cannot make the directory {}", folder.display()), &e)
            .or(format!("mkdir -p {}, or another path in the configuration", folder.display()))),
    }
}

fn give(folder: &Path, owner: Option<User>) -> Result<(), Failure> {
    let Some(user) = owner else { return Ok(()) };
    lchown(folder, Some(user.uid), Some(user.gid)).map_err(|e| {
        let what = format!("cannot give the directory {} to the server's user", folder.display());
        Failure::io(what, &e).or(CAPABLE)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn one_missing_level_is_made_and_given() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("run/wsson.pid");
        let owner = crate::sys::is_root().then_some(User { uid: 65_534, gid: 65_534 });
        prepare(&file, owner).unwrap();
        let meta = file.parent().unwrap().metadata().unwrap();
        assert_eq!(meta.mode() & 0o7777, 0o755);
        if let Some(owner) = owner {
            assert_eq!((meta.uid(), meta.gid()), (owner.uid, owner.gid));
        }
        prepare(&file, None).unwrap();
        assert_eq!(file.parent().unwrap().metadata().unwrap().uid(), meta.uid(), "left as it is");
    }

    #[test]
    fn two_missing_levels_are_a_mistake() {
        let root = tempfile::tempdir().unwrap();
        let failure = prepare(&root.path().join("a/b/wsson.pid"), None).unwrap_err();
        assert!(failure.text.contains("cannot make the directory"), "{failure}");
    }
}
