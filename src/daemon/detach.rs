//! Leaving the terminal: `start` returns only when the server listens, or with the reason why it does not.
//!
//! The process splits twice: the one in between starts a session and ends, so that the server belongs to no
//! shell's job and can never get a terminal again. The first process waits on a socket pair for the server's word.
//! Until then the server keeps the standard streams, so that none of its lines is lost; then it gives them up.
//!
//! Invariant: exactly one word is sent. A server that dies without one is noticed by the end of the stream.

use super::{Exit, Failure};
use crate::sys::{self, Fork};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

/// Which side of [`detach`] this is.
#[derive(Debug)]
pub(crate) enum Detached {
    /// The process that was started from the terminal, with the server's word: nothing or a note when it has
    /// started, or a sentence that says why nothing was to be done.
    Parent(Result<String, Failure>),
    /// The server.
    Server(Word),
}

/// Separates the failure's sentence from the way out.
const END: u8 = 0;

/// The one word of a detached server to the process that started it.
#[derive(Debug)]
#[must_use]
pub(crate) struct Word(UnixStream);

/// Leaves the terminal. Must be called before any thread is started.
pub(crate) fn detach() -> io::Result<Detached> {
    let (mut ours, theirs) = UnixStream::pair()?;
    match sys::fork()? {
        Fork::Parent(between) => {
            drop(theirs);
            // Where SIGCHLD is ignored, as the starting process may have it, there is nothing to wait for.
            let _ = sys::reap(between);
            Ok(Detached::Parent(listen(&mut ours)))
        }
        Fork::Child => {
            drop(ours);
            leave_session(Word(theirs))
        }
    }
}

/// Runs in the process in between; only the server returns.
fn leave_session(word: Word) -> io::Result<Detached> {
    let split = sys::new_session().and_then(|()| sys::fork());
    match split {
        Ok(Fork::Child) => Ok(Detached::Server(word)),
        Ok(Fork::Parent(_)) => std::process::exit(0),
        Err(e) => {
            word.failed(&Failure::io("cannot leave the terminal", &e));
            std::process::exit(1)
        }
    }
}

impl Word {
    /// The server listens: lets the starting process return, and gives up the standard streams and the directory.
    /// A stream that cannot be given up is kept, and the word is sent all the same.
    pub(crate) fn ready(mut self, note: &str) {
        let _ = std::env::set_current_dir("/");
        let _ = give_up_streams();
        // The starting process may have been killed; the server runs all the same.
        let _ = self.0.write_all(&[0]);
        let _ = self.0.write_all(note.as_bytes());
    }

    /// There is nothing to do: a server runs already.
    pub(crate) fn needless(mut self, why: &str) {
        let _ = self.0.write_all(&[0]);
        let _ = self.0.write_all(why.as_bytes());
    }

    /// The server does not start, and why.
    pub(crate) fn failed(mut self, failure: &Failure) {
        let _ = self.0.write_all(&[failure.exit as u8]);
        let _ = self.0.write_all(failure.text.as_bytes());
        if let Some(way_out) = &failure.way_out {
            let _ = self.0.write_all(&[END]);
            let _ = self.0.write_all(way_out.as_bytes());
        }
    }
}

/// Each that can be: one that stays keeps the others from nothing.
fn give_up_streams() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    (0..=2).for_each(|standard| drop(sys::replace_stdio(null.as_fd(), standard)));
    Ok(())
}

/// Waits for the server's word.
fn listen(stream: &mut UnixStream) -> Result<String, Failure> {
    let mut said = Vec::new();
    stream.read_to_end(&mut said).map_err(|e| Failure::io("cannot hear from the server", &e))?;
    let Some((&code, text)) = said.split_first() else {
        return Err(Failure::new(Exit::Failed, "the server ended before it was ready, without a word")
            .or("wsson run, with the same options: it stays in the terminal"));
    };
    let exit = match code {
        0 => return Ok(String::from_utf8_lossy(text).into_owned()),
        2 => Exit::Usage,
        4 => Exit::NotPermitted,
        6 => Exit::NotConfigured,
        7 => Exit::NotRunning,
        _ => Exit::Failed,
    };
    let mut parts = text.splitn(2, |byte| *byte == END).map(String::from_utf8_lossy);
    let failure = Failure::new(exit, parts.next().unwrap_or_default());
    Err(match parts.next() {
        Some(way_out) => failure.or(way_out),
        None => failure,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(say: impl FnOnce(Word)) -> Result<String, Failure> {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        say(Word(theirs));
        listen(&mut ours)
    }

    #[test]
    fn a_failure_keeps_its_code_and_its_sentence() {
        use Exit::{Failed, NotConfigured, NotPermitted, NotRunning, Usage};
        for exit in [Failed, Usage, NotPermitted, NotConfigured, NotRunning] {
            let failure = Failure::new(exit, "cannot listen on tcp://127.0.0.1:80: permission denied");
            assert_eq!(heard(|word| word.failed(&failure)), Err(failure.clone()));
            let failure = failure.or("a port above 1023");
            assert_eq!(heard(|word| word.failed(&failure)), Err(failure));
        }
    }

    #[test]
    fn a_server_that_runs_already_is_no_failure() {
        assert_eq!(heard(|word| word.needless("already running")), Ok("already running".into()));
    }

    #[test]
    fn a_note_is_heard() {
        crate::sys::tests::alone("daemon::detach::tests::a_note_is_heard", || {
            assert_eq!(heard(|word| word.ready("it logs to a file")), Ok("it logs to a file".into()));
        });
    }

    #[test]
    fn a_server_that_dies_silently_is_noticed() {
        let failure = heard(drop).unwrap_err();
        assert_eq!(failure.exit, Exit::Failed);
        assert!(failure.text.contains("without a word"));
    }

    #[test]
    fn ready_is_said_where_the_streams_cannot_be_given_up() {
        crate::sys::tests::alone(
            "daemon::detach::tests::ready_is_said_where_the_streams_cannot_be_given_up",
            || {
                let mut full = Vec::new();
                let (mut ours, theirs) = UnixStream::pair().unwrap();
                while let Ok(file) = File::open("/dev/null") {
                    full.push(file);
                }
                Word(theirs).ready("");
                assert_eq!(listen(&mut ours), Ok(String::new()));
            },
        );
    }

    #[test]
    fn ready_gives_up_the_streams_and_the_directory() {
        crate::sys::tests::alone(
            "daemon::detach::tests::ready_gives_up_the_streams_and_the_directory",
            || {
                assert_eq!(heard(|word| word.ready("")), Ok(String::new()));
                for standard in 0..=2 {
                    let target = std::fs::read_link(format!("/proc/self/fd/{standard}")).unwrap();
                    assert_eq!(target.to_str(), Some("/dev/null"));
                }
                assert_eq!(std::env::current_dir().unwrap().to_str(), Some("/"));
            },
        );
    }
}
