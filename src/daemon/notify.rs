//! Reports to systemd on the service (sd_notify(3)): READY, RELOADING, STOPPING, STATUS, WATCHDOG.
//!
//! One datagram per message to the socket that `NOTIFY_SOCKET` names. Without one, or when no process listens there any
//! more, every method does nothing: a server must not fail because its state goes unread.

use crate::sys;
use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The service manager, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Manager {
    socket: Option<UnixDatagram>,
    /// How often it wants to hear that the server is alive.
    watchdog: Option<Duration>,
}

impl Manager {
    /// Finds the manager from the environment.
    pub(crate) fn from_env() -> Self {
        let socket = env::var("NOTIFY_SOCKET").ok().and_then(|name| connect(&name).ok());
        let variable = |name| env::var(name).ok();
        Self { socket, watchdog: watchdog(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID")) }
    }

    /// How often [`alive`](Self::alive) should be called: half of the interval asked for, as sd_watchdog_enabled(3)
    /// recommends.
    pub(crate) fn interval(&self) -> Option<Duration> {
        self.watchdog.map(|whole| whole / 2)
    }

    /// The server listens, or has reloaded.
    pub(crate) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nMAINPID={}\nSTATUS={status}", std::process::id()));
    }

    /// The server reads its configuration again; [`ready`](Self::ready) must follow.
    pub(crate) fn reloading(&self) {
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", sys::monotonic_us()));
    }

    /// The server ends, after this time at the latest: `TimeoutStopSec=` may be shorter.
    pub(crate) fn stopping(&self, within_ms: u64) {
        let usec = within_ms.saturating_mul(1000);
        self.tell(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={usec}\nSTATUS=Waiting for clients to leave"));
    }

    /// One line for `systemctl status`.
    pub(crate) fn status(&self, status: &str) {
        self.tell(&format!("STATUS={status}"));
    }

    /// The server is alive.
    pub(crate) fn alive(&self) {
        if self.watchdog.is_some() {
            self.tell("WATCHDOG=1");
        }
    }

    fn tell(&self, text: &str) {
        if let Some(socket) = &self.socket {
            // Nothing depends on the answer, and there is no other place to report it.
            let _ = socket.send(text.as_bytes());
        }
    }
}

/// A path, or `@` and a name in the abstract namespace.
fn connect(name: &str) -> io::Result<UnixDatagram> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

/// The watchdog's time, unless it is meant for another process.
fn watchdog(usec: Option<String>, pid: Option<String>) -> Option<Duration> {
    let ours = pid.is_none_or(|pid| pid == std::process::id().to_string());
    let usec = usec?.parse().ok().filter(|usec| *usec > 0 && ours)?;
    Some(Duration::from_micros(usec))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hears(listener: &UnixDatagram) -> String {
        listener.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut buffer = [0; 500];
        let len = listener.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }

    #[track_caller]
    fn conversation(name: &str, listener: &UnixDatagram) {
        let watchdog = Some(Duration::from_secs(10));
        let manager = Manager { socket: Some(connect(name).unwrap()), watchdog };
        manager.ready("0 clients");
        assert_eq!(hears(listener), format!("READY=1\nMAINPID={}\nSTATUS=0 clients", std::process::id()));
        let before = sys::monotonic_us();
        manager.reloading();
        let said = hears(listener);
        let usec: u64 = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!((before..=sys::monotonic_us()).contains(&usec));
        manager.stopping(7);
        assert!(hears(listener).starts_with("STOPPING=1\n"));
        manager.alive();
        assert_eq!(hears(listener), "WATCHDOG=1");
        assert_eq!(manager.interval(), Some(Duration::from_secs(5)));
    }

    #[test]
    fn a_path_and_an_abstract_name_are_reached() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        conversation(path.to_str().unwrap(), &UnixDatagram::bind(&path).unwrap());
        let name = format!("wsson-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        conversation(&format!("@{name}"), &UnixDatagram::bind_addr(&address).unwrap());
    }

    #[test]
    fn nobody_to_tell_is_no_trouble() {
        Manager::default().ready("");
        assert!(connect("/no/such/socket").is_err());
    }

    #[test]
    fn a_manager_that_went_away_is_no_trouble() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        let manager = Manager { socket: Some(connect(path.to_str().unwrap()).unwrap()), watchdog: None };
        drop(listener);
        manager.status("still here");
    }

    #[test]
    fn the_watchdog_may_be_anothers() {
        let some = |text: &str| Some(text.to_owned());
        let ours = std::process::id().to_string();
        assert_eq!(watchdog(some("5000000"), None), Some(Duration::from_secs(5)));
        assert_eq!(watchdog(some("5000000"), Some(ours)), Some(Duration::from_secs(5)));
        assert_eq!(watchdog(some("5000000"), some("1")), None);
        assert_eq!(watchdog(some("0"), None), None);
        assert_eq!(watchdog(some("soon"), None), None);
        assert_eq!(watchdog(None, None), None);
    }
}
