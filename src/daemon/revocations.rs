//! The file of revoked logins (`revoked_file`): a line is appended and synced before the answer, and the whole is replaced
//! by a rename at start and reload.
//!
//! It never reads the meaning of the lines. Invariant: every line that was appended without an error is in the file
//! whatever ends the process or the machine; at most one that was not is cut short at its end, and the next one begins
//! a new line.

use super::Failure;
use crate::auth::Unread;
use crate::hub::{Hub, Journal};
use crate::sys;
use log::{info, warn};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Numbers of bad lines that are logged; all of them are counted.
const BAD_LINES_TOLD: usize = 10;

const HEAD: &str =
    "# Logins that wsson refuses: t:TOKEN UNTIL, u:USER ISSUED UNTIL, in seconds since 1970.\n";

/// See the module's head.
#[derive(Debug)]
struct RevokedFile {
    path: PathBuf,
    file: File,
    /// The file ends in the middle of a line.
    is_torn: bool,
}

impl RevokedFile {
    /// Opens the file, which is made if it is missing, as the user that will write to it.
    fn open(path: &Path) -> io::Result<Self> {
        // A link stays one: its target is replaced.
        let path = fs::canonicalize(path).or_else(|e| match e.kind() {
            ErrorKind::NotFound => Ok(path.to_owned()),
            _ => Err(e),
        })?;
        let (file, is_torn) = open(&path)?;
        Ok(Self { path, file, is_torn })
    }

    /// Whether the path still leads to the file that is open.
    fn is_in_place(&self) -> io::Result<Option<bool>> {
        let own = self.file.metadata()?;
        match fs::metadata(&self.path) {
            Ok(there) => Ok(Some((there.dev(), there.ino()) == (own.dev(), own.ino()))),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}

impl Journal for RevokedFile {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        if self.is_in_place()? != Some(true) {
            (self.file, self.is_torn) = open(&self.path)?;
        }
        let mut text = Vec::new();
        self.file.seek(SeekFrom::Start(0))?;
        self.file.read_to_end(&mut text)?;
        Ok(text)
    }

    fn append(&mut self, lines: &str, before: &mut dyn Iterator<Item = String>) -> io::Result<()> {
        match self.is_in_place()? {
            Some(true) => {}
            // An editor saves to a new file.
            Some(false) => (self.file, self.is_torn) = open(&self.path)?,
            None => return self.rewrite(&mut before.chain([lines.to_owned()])),
        }
        let len = self.file.metadata()?.len();
        let begin = if self.is_torn { "\n" } else { "" };
        let written = self.file.write_all(format!("{begin}{lines}").as_bytes());
        match written.and_then(|()| self.file.sync_data()) {
            Ok(()) => self.is_torn = false,
            Err(error) => {
                // A part of the lines is taken back, so that a revocation that was not promised does not hold.
                self.is_torn |= self.file.set_len(len).is_err();
                return Err(error);
            }
        }
        Ok(())
    }

    fn rewrite(&mut self, lines: &mut dyn Iterator<Item = String>) -> io::Result<()> {
        let new_path = beside(&self.path);
        let written = write_new(&new_path, lines).and_then(|file| {
            fs::rename(&new_path, &self.path)?;
            Ok(file)
        });
        match written {
            Ok(file) => (self.file, self.is_torn) = (file, false),
            Err(error) => {
                let _ = fs::remove_file(&new_path); // the file as it was still holds
                return Err(error);
            }
        }
        // The rename itself is in the folder.
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    options
}

/// The file to append to, and whether it ends in the middle of a line.
fn open(path: &Path) -> io::Result<(File, bool)> {
    match fs::metadata(path) {
        // A pipe or a device would never end.
        Ok(there) if !there.is_file() => return Err(io::Error::other("it is no regular file")),
        _ => {}
    }
    let file = options().open(path)?;
    let len = file.metadata()?.len();
    let mut last = [b'\n'];
    if len > 0 {
        file.read_exact_at(&mut last, len - 1)?;
    }
    Ok((file, last != [b'\n']))
}

/// A new file with these lines, on the disk.
fn write_new(path: &Path, lines: &mut dyn Iterator<Item = String>) -> io::Result<File> {
    // One that an earlier process left is of no use.
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let file = options().create_new(true).open(path)?;
    let mut to = BufWriter::new(&file);
    to.write_all(HEAD.as_bytes())?;
    for line in lines {
        to.write_all(line.as_bytes())?;
    }
    to.flush()?;
    drop(to);
    file.sync_all()?;
    Ok(file)
}

/// Where the new file is written: in the same folder, so that a rename moves it.
fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".new");
    name.into()
}

/// Keeps the hub's revocations in this file, and those that it holds in force.
pub(crate) fn keep(path: &Path, hub: &mut Hub) -> Result<(), Failure> {
    let unread = RevokedFile::open(path).and_then(|file| hub.keep_revocations(Box::new(file)));
    let unread = unread.map_err(|error| {
        let failure = Failure::io(format!("cannot use revoked_file {}", path.display()), &error);
        failure.or("give the file and its folder to the user that wsson runs as, or name another path")
    })?;
    report(path, &unread, hub.revoked());
    Ok(())
}

/// Takes over the lines written into the file by hand, and drops those that are over. Returns why not, if so: then
/// those in force stay.
pub(crate) fn reload(path: Option<&Path>, hub: &mut Hub) -> Option<String> {
    match (hub.reload_revocations(), path) {
        (Ok(unread), Some(path)) => report(path, &unread, hub.revoked()),
        (Ok(_), None) => {}
        (Err(error), path) => {
            let path = path.unwrap_or(Path::new("")).display();
            return Some(format!("revoked_file {path} cannot be rewritten: {}", sys::describe(&error)));
        }
    }
    None
}

/// Logs the lines of the file that could not be taken over.
fn report(path: &Path, unread: &Unread, len: usize) {
    let Unread { bad_lines, no_room } = unread;
    let path = path.display();
    for line in bad_lines.iter().take(BAD_LINES_TOLD) {
        warn!("revoked_line_unreadable line={line} file={path}");
    }
    if bad_lines.len() > BAD_LINES_TOLD || *no_room > 0 {
        warn!("revoked_lines_skipped unreadable={} beyond_limit={no_room} file={path}", bad_lines.len());
    }
    info!("revoked_read revoked={len} file={path}");
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Rig {
        _folder: tempfile::TempDir,
        path: PathBuf,
    }

    impl Rig {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self { path: folder.path().join("revoked"), _folder: folder }
        }

        fn open(&self) -> RevokedFile {
            RevokedFile::open(&self.path).unwrap()
        }

        fn text(&self) -> String {
            fs::read_to_string(&self.path).unwrap()
        }
    }

    fn none() -> impl Iterator<Item = String> {
        std::iter::empty()
    }

    fn lines(lines: &[&str]) -> impl Iterator<Item = String> {
        lines.iter().map(|line| format!("{line}\n")).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn it_is_for_its_owner_alone_and_grows_by_lines() {
        let rig = Rig::new();
        let mut file = rig.open();
        assert_eq!(fs::metadata(&rig.path).unwrap().mode() & 0o777, 0o600);
        file.append("t:a 1\n", &mut none()).unwrap();
        file.append("t:b 2\n", &mut none()).unwrap();
        assert_eq!(rig.text(), "t:a 1\nt:b 2\n");
        assert_eq!(file.read().unwrap(), rig.text().as_bytes());
        file.rewrite(&mut lines(&["t:b 2"])).unwrap();
        assert_eq!(rig.text(), format!("{HEAD}t:b 2\n"));
        assert_eq!(fs::metadata(&rig.path).unwrap().mode() & 0o777, 0o600);
        file.append("t:c 3\n", &mut none()).unwrap();
        assert_eq!(rig.text(), format!("{HEAD}t:b 2\nt:c 3\n"), "it appends to the new file");
    }

    #[test]
    fn what_follows_a_torn_line_is_a_line_of_its_own() {
        let whole = "t:a 1\nu:anna 2 3\n";
        for cut in 0..=whole.len() {
            let rig = Rig::new();
            fs::write(&rig.path, &whole[..cut]).unwrap();
            rig.open().append("t:c 3\n", &mut none()).unwrap();
            let text = rig.text();
            assert_eq!(text.lines().last(), Some("t:c 3"), "cut at {cut}: {text:?}");
            assert!(text.starts_with(&whole[..cut]), "cut at {cut}: {text:?}");
        }
    }

    #[test]
    fn a_file_that_was_removed_or_replaced_gets_what_comes() {
        let rig = Rig::new();
        let mut file = rig.open();
        file.append("t:a 1\n", &mut none()).unwrap();
        fs::remove_file(&rig.path).unwrap();
        file.append("t:b 2\n", &mut lines(&["t:a 1"])).unwrap();
        assert_eq!(rig.text(), format!("{HEAD}t:a 1\nt:b 2\n"), "what was there comes back");
        let edited = rig.path.with_extension("edited");
        fs::write(&edited, "t:a 1\nt:x 9").unwrap();
        fs::rename(&edited, &rig.path).unwrap();
        file.append("t:c 3\n", &mut none()).unwrap();
        assert_eq!(rig.text(), "t:a 1\nt:x 9\nt:c 3\n");
        fs::remove_file(&rig.path).unwrap();
        assert_eq!(file.read().unwrap(), b"", "a reload makes it again");
    }

    #[test]
    fn what_an_earlier_process_left_half_written_is_replaced() {
        let rig = Rig::new();
        fs::write(beside(&rig.path), "t:half").unwrap();
        rig.open().rewrite(&mut lines(&["t:a 1"])).unwrap();
        assert_eq!(rig.text(), format!("{HEAD}t:a 1\n"));
        assert!(!beside(&rig.path).exists());
    }

    #[test]
    fn a_link_stays_a_link() {
        let rig = Rig::new();
        let link = rig.path.with_extension("link");
        std::os::unix::fs::symlink(&rig.path, &link).unwrap();
        fs::write(&rig.path, "").unwrap();
        RevokedFile::open(&link).unwrap().rewrite(&mut lines(&["t:a 1"])).unwrap();
        assert!(link.is_symlink() && rig.text().ends_with("t:a 1\n"));
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let rig = Rig::new();
        fs::create_dir(&rig.path).unwrap();
        assert!(RevokedFile::open(&rig.path).is_err());
        assert!(RevokedFile::open(Path::new("/dev/zero")).is_err(), "it would never end");
        assert!(RevokedFile::open(&rig.path.join("no/folder")).is_err());
    }

    /// /dev/full takes no byte, as a disk without room.
    #[test]
    fn what_cannot_be_written_is_told_and_taken_back() {
        let rig = Rig::new();
        let mut file = rig.open();
        file.append("t:a 1\n", &mut none()).unwrap();
        let full = File::options().append(true).open("/dev/full").unwrap();
        // The path leads to the full device, as the open file does.
        let mut full = RevokedFile { path: "/dev/full".into(), file: full, is_torn: false };
        assert!(full.append("t:b 2\n", &mut none()).is_err());
        assert_eq!(rig.text(), "t:a 1\n");
    }
}
