//! Listening sockets that systemd opened for us (sd_listen_fds(3)).
//!
//! The configuration stays the one place for the addresses that are served: a socket takes the place of the
//! configured address it is bound to, and one that no address asks for is an error, not a listener that no setting
//! names. Sockets that were handed in are never unlinked: their file belongs to systemd.

use super::{Exit, Failure};
use crate::net::{Address, Inherited};
use crate::sys::{self, SocketKind};
use std::env;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;

/// Where sd_listen_fds(3) starts to count.
const FIRST: u8 = 3;

/// Takes the sockets meant for this process. Works once.
pub(crate) fn take() -> Result<Vec<Inherited>, Failure> {
    let variable = |name| env::var(name).ok();
    let count = count(variable("LISTEN_PID"), variable("LISTEN_FDS"))?;
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').map(str::to_owned).chain(std::iter::repeat("unknown".to_owned()));
    let inherited = sys::inherit(FIRST, count).map_err(|fd| {
        let text = format!(
            "LISTEN_FDS announces {count} sockets from descriptor {FIRST} on, but descriptor {fd} was not handed in"
        );
        Failure::new(Exit::Failed, text).or("whatever sets LISTEN_FDS passes each of them, and says how many")
    })?;
    inherited.into_iter().map(|fd| socket(fd, &names.next().unwrap_or_default())).collect()
}

/// How many sockets are meant for this process.
fn count(pid: Option<String>, fds: Option<String>) -> Result<u8, Failure> {
    let ours = pid.is_some_and(|pid| pid == std::process::id().to_string());
    let Some(fds) = fds.filter(|_| ours) else { return Ok(0) };
    fds.parse().map_err(|_| {
        let text = format!("LISTEN_FDS={fds:?} is no number of sockets that can be handed in");
        Failure::new(Exit::Failed, text)
            .or("whatever sets LISTEN_FDS: systemd, with a socket unit, sets it right")
    })
}

/// `name` is that of `FileDescriptorName=`, for the message.
fn socket(fd: OwnedFd, name: &str) -> Result<Inherited, Failure> {
    let Some(address) = address(&fd) else {
        let text = format!("cannot use the inherited socket `{name}`: it is not a listening stream socket");
        return Err(Failure::new(Exit::Failed, text)
            .or("ListenStream= in the socket unit, for TCP and Unix sockets; wsson uses no others"));
    };
    Ok(Inherited { address, fd })
}

/// The address that the socket is bound to.
fn address(fd: &OwnedFd) -> Option<Address> {
    let kind = sys::kind_of(fd.as_fd());
    let fd = fd.try_clone().ok()?;
    match kind {
        SocketKind::Tcp => Some(Address::Tcp(TcpListener::from(fd).local_addr().ok()?)),
        SocketKind::Unix => {
            let address = UnixListener::from(fd).local_addr().ok()?;
            Some(Address::Unix(address.as_pathname()?.to_owned()))
        }
        SocketKind::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_sockets_are_counted() {
        let some = |text: &str| Some(text.to_owned());
        let ours = std::process::id().to_string();
        assert_eq!(count(Some(ours.clone()), some("2")), Ok(2));
        assert_eq!(count(some("1"), some("2")), Ok(0));
        assert_eq!(count(None, some("many")), Ok(0));
        assert_eq!(count(Some(ours.clone()), None), Ok(0));
        for fds in ["many", "-1", "256", ""] {
            assert!(count(Some(ours.clone()), some(fds)).is_err(), "{fds}");
        }
    }

    #[test]
    fn addresses_have_the_configurations_form() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.sock");
        let unix = UnixListener::bind(&path).unwrap();
        let name = format!("unix://{}", path.display());
        assert_eq!(socket(unix.into(), "a").unwrap().address.to_string(), name);
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let name = format!("tcp://127.0.0.1:{}", tcp.local_addr().unwrap().port());
        assert_eq!(socket(tcp.into(), "b").unwrap().address.to_string(), name);
    }

    #[test]
    fn what_does_not_listen_is_refused_by_its_name() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let failure = socket(file.into(), "web").unwrap_err();
        assert!(failure.text.contains("`web`"), "{failure}");
    }
}
