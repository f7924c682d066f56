//! The PID file: proof that one server runs, and which.
//!
//! The proof is a record lock that the server holds for life, not the number in the file: a stale file never
//! prevents a start, a recycled number is never signalled, and the kernel names the holder, so no process is
//! signalled because its number was written into a file. The file gets its number last, when the server listens;
//! a locked file without one belongs to a server that is starting. A second line, `stopping`, says that it has been
//! asked to end, so that no command asks again: a second signal would cut its goodbyes to clients short.
//!
//! Never follows a link, never opens anything but a regular file with one name, never overwrites text that is not a
//! process number. Invariant: the lock is on the file that the path names (checked after locking), and only that
//! file is removed.
//!
//! The process must not open and close the same file elsewhere: that would release a record lock (fcntl(2)).

use super::{Exit, Failure};
use crate::sys::{self, User};
use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// How often to try again when the file changes under our hands: each time another server came or went.
const TRIES: u32 = 100;
/// More than any process number with its newline.
const NUMBER_BYTES_MAX: u64 = 32;
/// The second line of a server that ends.
const STOPPING: &str = "stopping";
/// The second line of a server that is about to be asked to end: the word, and the time over which its clients are to be told.
const OVER: &str = "over ";

/// The PID file of this process, locked.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    file: File,
}

/// The outcome of [`PidFile::lock`].
#[derive(Debug)]
pub(crate) enum Locked {
    /// It was free; now this process has it.
    Ours(PidFile),
    /// A server has it.
    Theirs(Holder),
}

/// A server that holds the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Its process number, from the kernel; 0 for one that has none here.
    pub pid: u32,
    /// Whether it listens, is about to, or does no more.
    pub stage: Stage,
}

impl Holder {
    /// Whether this process can see that one: the kernel has no number for a process of another container.
    pub(crate) fn is_visible(self) -> bool {
        self.pid != 0
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_visible() {
            true => write!(f, "a server with PID {}", self.pid),
            false => f.write_str("a server in another container"),
        }
    }
}

/// How far a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its number is not yet in the file.
    Starting,
    /// It listens.
    Ready,
    /// It says goodbye to its clients.
    Stopping,
}

/// Whether a server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// No file, or one that a server emptied because it was not allowed to remove it.
    Absent,
    /// A file that a server left behind when it was killed.
    Stale,
    /// A server has it.
    Held(Holder),
}

impl PidFile {
    /// Locks the file, creating it if need be. It is empty until [`write`](Self::write).
    pub(crate) fn lock(path: &Path) -> Result<Locked, Failure> {
        for _ in 0..TRIES {
            let file = match open(path) {
                Ok(file) => file,
                Err(Unopened::Denied(error)) => match anothers(path, &error)? {
                    Some(holder) => return Ok(Locked::Theirs(holder)),
                    None => continue,
                },
                Err(Unopened::Refused(failure)) => return Err(failure),
            };
            let failure =
                |e: &io::Error| Failure::io(format!("cannot lock the PID file {}", path.display()), e);
            if !sys::lock_record(&file).map_err(|e| failure(&e))? {
                match holder(&file).map_err(|e| failure(&e))? {
                    Some(holder) => return Ok(Locked::Theirs(holder)),
                    // It went meanwhile, or a process that may only read the file holds a reader's lock on it.
                    None => unlink_if_same(path, &file),
                }
            } else if same_file(path, &file) {
                let ours = Self { path: path.to_owned(), file };
                return match ours.file.set_len(0) {
                    Ok(()) => Ok(Locked::Ours(ours)),
                    Err(e) => {
                        ours.remove();
                        Err(failure(&e))
                    }
                };
            }
        }
        let text = format!("cannot lock the PID file {}: it keeps changing", path.display());
        Err(Failure::new(Exit::Failed, text)
            .or("the same command again, when no other program starts servers or removes that file"))
    }

    /// Writes this process's number: from now on the server counts as started.
    pub(crate) fn write(&self) -> Result<(), Failure> {
        let number = format!("{}\n", std::process::id());
        self.file
            .write_all_at(number.as_bytes(), 0)
            .map_err(|e| Failure::io(format!("cannot write the PID file {}", self.path.display()), &e))
    }

    /// Gives the file to the user that the server becomes: should it be left behind, a later server that is started as
    /// this user can take it over.
    pub(crate) fn give(&self, user: User) {
        // Where it does not work, on a network's file system say, only that comfort is lost.
        let _ = fchown(&self.file, Some(user.uid), Some(user.gid));
    }

    /// Notes that this server ends, for commands that would ask it to.
    pub(crate) fn stopping(&self) {
        // Without the note a second `stop` ends the server sooner: not worth a word.
        let text = format!("{}\n{STOPPING}\n", std::process::id());
        let _ = self.file.set_len(text.len() as u64);
        let _ = self.file.write_all_at(text.as_bytes(), 0);
    }

    /// The time over which the clients are to be told, if the command that asks the server to end has written one.
    pub(crate) fn over_ms(&self) -> Option<u64> {
        let mut bytes = [0; NUMBER_BYTES_MAX as usize];
        let len = self.file.read_at(&mut bytes, 0).ok()?;
        let text = std::str::from_utf8(&bytes[..len]).ok()?;
        text.lines().nth(1)?.strip_prefix(OVER)?.trim().parse().ok()
    }

    /// Removes the file if the path still names ours; where the directory does not allow it, empties it.
    pub(crate) fn remove(self) {
        if same_file(&self.path, &self.file) && std::fs::remove_file(&self.path).is_err() {
            // Nothing else is left to try; an unlocked file with a number does no harm either.
            let _ = self.file.set_len(0);
        }
    }
}

/// Notes in the file of the server with this number the time over which it is to tell its clients that it ends. Closing the
/// file releases no lock: only the server's own process has one.
pub(crate) fn note_over(path: &Path, pid: u32, over_ms: u64) -> Result<(), Failure> {
    let failure = |e: &io::Error| {
        Failure::io(format!("cannot write the time into the PID file {}", path.display()), e)
            .or("the same as root, or as the server's user; or timeouts.drain_over in the configuration")
    };
    let file = options().write(true).open(path).map_err(|e| failure(&e))?;
    file.write_all_at(format!("{pid}\n{OVER}{over_ms}\n").as_bytes(), 0).map_err(|e| failure(&e))
}

/// Tells whether a server runs, without disturbing it.
pub(crate) fn state(path: &Path) -> Result<State, Failure> {
    let file = match options().read(true).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(State::Absent),
        Err(e) => return Err(refused(path, &e)),
    };
    let meta = file.metadata().map_err(|e| refused(path, &e))?;
    regular(path, &meta)?;
    Ok(match holder(&file).map_err(|e| refused(path, &e))? {
        Some(holder) => State::Held(holder),
        None if meta.len() == 0 => State::Absent,
        None => State::Stale,
    })
}

/// The process that holds the lock.
fn holder(file: &File) -> io::Result<Option<Holder>> {
    let Some(pid) = sys::lock_holder(file)? else { return Ok(None) };
    let mut bytes = [0; NUMBER_BYTES_MAX as usize];
    let len = file.read_at(&mut bytes, 0)?;
    let stage = match std::str::from_utf8(&bytes[..len]).ok().and_then(content) {
        Some((Some(number), true)) if number == pid => Stage::Stopping,
        Some((Some(number), false)) if number == pid => Stage::Ready,
        _ => Stage::Starting,
    };
    Ok(Some(Holder { pid, stage }))
}

/// The number in the file, if there is one, and whether its server ends; `None` when it is no PID file. NUL bytes are
/// the rest that a power loss leaves of a file that had been written shortly before.
fn content(text: &str) -> Option<(Option<u32>, bool)> {
    let text = text.trim_end_matches('\0').trim_end();
    let (number, stopping) = match text.split_once('\n') {
        Some((number, STOPPING)) => (number, true),
        Some((number, over)) if over.starts_with(OVER) => (number, false),
        Some(_) => return None,
        None if text.is_empty() => return Some((None, false)),
        None => (text, false),
    };
    Some((Some(number.parse().ok()?), stopping))
}

fn options() -> OpenOptions {
    let mut options = File::options();
    // Without O_NONBLOCK, opening a named pipe would wait for its other end.
    options.custom_flags(sys::O_NOFOLLOW | sys::O_CLOEXEC | sys::O_NONBLOCK);
    options
}

/// Why the file is not open.
enum Unopened {
    /// This user may not write it.
    Denied(io::Error),
    /// It is no PID file, or it cannot be one.
    Refused(Failure),
}

impl From<Failure> for Unopened {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

fn open(path: &Path) -> Result<File, Unopened> {
    let mut options = options();
    options.read(true).write(true).create(true).truncate(false).mode(0o644);
    let file = options.open(path).map_err(|e| match e.kind() {
        io::ErrorKind::PermissionDenied if !path.is_symlink() => Unopened::Denied(e),
        _ => Unopened::Refused(refused(path, &e)),
    })?;
    let meta = file.metadata().map_err(|e| refused(path, &e))?;
    regular(path, &meta)?;
    ours_to_write(path, &file, &meta)?;
    Ok(file)
}

/// A file that this user may not write: its server's, if one runs. One that was left behind, such as that of a server
/// which root had started by hand and which was killed, is removed where the folder is ours.
fn anothers(path: &Path, error: &io::Error) -> Result<Option<Holder>, Failure> {
    let Ok(file) = options().read(true).open(path) else { return Err(refused(path, error)) };
    let meta = file.metadata().map_err(|e| refused(path, &e))?;
    regular(path, &meta)?;
    ours_to_write(path, &file, &meta)?;
    match holder(&file).map_err(|e| refused(path, &e))? {
        Some(holder) => Ok(Some(holder)),
        None if same_file(path, &file) && std::fs::remove_file(path).is_ok() => Ok(None),
        None => Err(refused(path, error).or(format!("rm {}: no server holds it", path.display()))),
    }
}

fn refused(path: &Path, error: &io::Error) -> Failure {
    let what = format!("cannot open the PID file {}", path.display());
    if path.is_symlink() {
        return Failure::new(Exit::Failed, format!("{what}: it is a symbolic link"))
            .or("another `pid`, or remove the link: wsson follows none");
    }
    match error.kind() {
        io::ErrorKind::NotFound => {
            Failure::new(Exit::Failed, format!("{what}: its directory does not exist"))
                .or("make the directory, or another `pid`")
        }
        _ => Failure::io(what, error),
    }
}

fn regular(path: &Path, meta: &Metadata) -> Result<(), Failure> {
    if meta.is_file() {
        return Ok(());
    }
    let text = format!("cannot use {} as PID file: it is not a regular file", path.display());
    Err(Failure::new(Exit::Failed, text).or("another `pid`"))
}

/// A second name, or content that is no number: the file is another program's.
fn ours_to_write(path: &Path, file: &File, meta: &Metadata) -> Result<(), Failure> {
    let mut text = String::new();
    let number = match file.take(NUMBER_BYTES_MAX + 1).read_to_string(&mut text) {
        Ok(_) => content(&text).is_some(),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => false,
        Err(error) => {
            return Err(Failure::io(format!("cannot read the PID file {}", path.display()), &error));
        }
    };
    if number && meta.nlink() <= 1 {
        return Ok(());
    }
    let why = if number { "it has a second name" } else { "it holds something else than a process number" };
    let text = format!("cannot use {} as PID file: {why}", path.display());
    Err(Failure::new(Exit::Failed, text).or("another `pid`, or remove the file if no program needs it"))
}

fn same_file(path: &Path, file: &File) -> bool {
    let Ok(ours) = file.metadata() else { return false };
    path.symlink_metadata().is_ok_and(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino()))
}

fn unlink_if_same(path: &Path, file: &File) {
    if same_file(path, file) {
        // If it cannot be removed the caller's tries run out, with an error that says so.
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::tests::locked_by_child;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn ours(path: &Path) -> PidFile {
        match PidFile::lock(path).unwrap() {
            Locked::Ours(file) => file,
            Locked::Theirs(holder) => panic!("locked by {holder:?}"),
        }
    }

    #[track_caller]
    fn refuses(path: &Path, why: &str) {
        let failure = PidFile::lock(path).unwrap_err();
        assert!(failure.text.contains(why), "{failure}");
    }

    #[test]
    fn the_number_comes_last_and_the_file_goes_with_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        assert_eq!(state(&path).unwrap(), State::Absent);
        let file = ours(&path);
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
        file.write().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        file.remove();
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_file_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        fs::write(&path, "99999999999\n").unwrap();
        refuses(&path, "something else than a process number");
        fs::write(&path, "1\ncolour\n").unwrap();
        refuses(&path, "something else than a process number");
        fs::write(&path, "1\n").unwrap();
        assert_eq!(state(&path).unwrap(), State::Stale);
        ours(&path).write().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
    }

    #[test]
    fn what_a_power_loss_leaves_is_stale() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        for left in ["\0\0\0\0\0", "12\0\0", "\0"] {
            fs::write(&path, left).unwrap();
            assert_eq!(state(&path).unwrap(), State::Stale);
            ours(&path).remove();
        }
        fs::write(&path, "\x001\n").unwrap();
        refuses(&path, "something else than a process number");
    }

    /// The file that root's server leaves when it is killed does not keep the server of the unit, which is another
    /// user's, from starting.
    #[test]
    fn anothers_stale_file_in_our_folder_is_taken_over() {
        if !sys::is_root() {
            return eprintln!("skipped: not root");
        }
        crate::sys::tests::alone(
            "daemon::pidfile::tests::anothers_stale_file_in_our_folder_is_taken_over",
            || {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("pid");
                fs::write(&path, "1\n").unwrap();
                std::os::unix::fs::chown(folder.path(), Some(65_534), Some(65_534)).unwrap();
                sys::become_user(User { uid: 65_534, gid: 65_534 }).unwrap();
                let file = ours(&path);
                file.write().unwrap();
                file.remove();
                assert!(!path.exists());
            },
        );
    }

    #[test]
    fn the_holder_is_known_whatever_the_file_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        fs::write(&path, "1\n").unwrap();
        let mut child = locked_by_child(&path);
        let pid = child.id();
        assert_eq!(state(&path).unwrap(), State::Held(Holder { pid, stage: Stage::Starting }));
        let Locked::Theirs(holder) = PidFile::lock(&path).unwrap() else { panic!("locked twice") };
        assert_eq!(holder.pid, pid);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n", "a loser writes nothing");
        fs::write(&path, format!("{pid}\n")).unwrap();
        assert_eq!(state(&path).unwrap(), State::Held(Holder { pid, stage: Stage::Ready }));
        fs::write(&path, format!("{pid}\nstopping\n")).unwrap();
        assert_eq!(state(&path).unwrap(), State::Held(Holder { pid, stage: Stage::Stopping }));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(state(&path).unwrap(), State::Stale);
        ours(&path);
        assert_eq!(fs::read_to_string(&path).unwrap(), "", "killed while it stopped, and taken over");
    }

    #[test]
    fn links_pipes_folders_and_others_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("victim"), "precious").unwrap();
        symlink(at("victim"), at("link")).unwrap();
        symlink(at("nothing"), at("dangling")).unwrap();
        refuses(&at("link"), "symbolic link");
        refuses(&at("dangling"), "symbolic link");
        refuses(&at("victim"), "something else than a process number");
        fs::write(at("one"), "1\n").unwrap();
        fs::hard_link(at("one"), at("two")).unwrap();
        refuses(&at("two"), "second name");
        refuses(folder.path(), "directory");
        refuses(&at("no/such"), "its directory does not exist");
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        refuses(&at("pipe"), "not a regular file");
        assert_eq!(fs::read_to_string(at("victim")).unwrap(), "precious");
        assert_eq!(fs::read_to_string(at("one")).unwrap(), "1\n");
        assert!(!at("nothing").exists());
    }

    #[test]
    fn anothers_file_at_our_path_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let file = ours(&path);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "7\n").unwrap();
        file.remove();
        assert_eq!(fs::read_to_string(&path).unwrap(), "7\n");
    }

    #[test]
    fn a_full_disk_is_said_so() {
        let full = PidFile {
            path: "/dev/full".into(),
            file: File::options().write(true).open("/dev/full").unwrap(),
        };
        let failure = full.write().unwrap_err();
        assert_eq!(failure.text, "cannot write the PID file /dev/full: no space left on device");
    }
}
