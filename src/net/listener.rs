//! Listening sockets: bound, accepted from, and cleaned up behind.

use super::proxied::Proxied;
use super::{Address, Transport, tls};
use crate::driver::{Listen, Token};
use crate::sys;
use crate::wire::http::forwarded::{Network, PeerAddr};
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a server on a Unix socket may take to show whether it lives.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// How often another server that binds in the same folder is waited for, and how long each time: together a little longer
/// than it may wait for one that hangs.
const TURNS: u32 = 2_000;
const TURN: Duration = Duration::from_millis(4);

/// A listening socket, registered with the reactor's poll.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: Socket,
    registry: Registry,
    /// Certificate and key of the connections, for `tls://`.
    tls: Option<tls::Config>,
    /// The proxies that name the visitor at the beginning of each connection.
    proxies: Vec<Network>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix { listener: UnixListener, file: Option<SocketFile> },
}

/// The file of a Unix socket. Dropping it removes the file if it is still the one that was made.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
    permissions: Permissions,
}

impl SocketFile {
    fn is_there(&self) -> bool {
        std::fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.inode)
    }
}

/// A listening socket that another process has opened, such as systemd.
#[derive(Debug)]
pub struct Inherited {
    /// The address that it is bound to.
    pub address: Address,
    /// The socket.
    pub fd: OwnedFd,
}

impl Inherited {
    /// Whether an address of the configuration asks for it; TLS is ours to speak, whichever process opened the port.
    pub(crate) fn is_bound_to(&self, wanted: &Address) -> bool {
        match (&self.address, wanted) {
            (Address::Tcp(have), Address::Tcp(want) | Address::Tls(want)) => have == want,
            (have, want) => have == want,
        }
    }
}

/// Why an address can not be listened on.
#[derive(Debug)]
pub enum BindError {
    /// A server answers there.
    InUse(String),
    /// A server listens there and does not accept: it is stopped or stuck.
    Hangs(String),
    /// Something that is not a socket is in the way.
    NotASocket(PathBuf),
    /// A user or group is not known here.
    UnknownOwner(String),
    /// The server's user is not root and not in the group.
    MayNotGive(String),
    /// The system's error.
    Os(String, io::Error),
}

impl BindError {
    /// The kind of error that the system reported, if it was the system.
    pub fn kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Os(_, error) => Some(error.kind()),
            Self::MayNotGive(_) => Some(io::ErrorKind::PermissionDenied),
            Self::Hangs(_) => Some(io::ErrorKind::TimedOut),
            Self::InUse(_) | Self::NotASocket(_) | Self::UnknownOwner(_) => None,
        }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(address) => write!(f, "cannot listen on {address}: another server answers there"),
            Self::Hangs(address) => write!(
                f,
                "cannot listen on {address}: the server that listens there has not answered for {} seconds: it is stopped or stuck",
                PATIENCE.as_secs()
            ),
            Self::NotASocket(path) => {
                write!(f, "cannot listen on {}: a file that is not a socket is in the way", path.display())
            }
            Self::UnknownOwner(name) => write!(f, "cannot give the socket to {name}: no such user or group"),
            Self::MayNotGive(group) => write!(
                f,
                "cannot give the sockets to {group} (sockets.group): the server's user is not in that group, and only \
                 root could; leave the key out, and put the user of your site into the server's group instead: \
                 adduser www-data wsson"
            ),
            Self::Os(what, error) => write!(f, "{what}: {}", sys::describe(error)),
        }
    }
}

impl std::error::Error for BindError {}

/// Mode and owner of a Unix socket's file.
#[derive(Clone, Debug)]
pub(crate) struct Permissions {
    pub(crate) mode: u32,
    pub(crate) owner: Option<String>,
    pub(crate) group: Option<String>,
}

impl Listener {
    /// Binds, listens and registers.
    pub(crate) fn bind(
        address: &Address,
        permissions: &Permissions,
        reuseport: bool,
        registry: Registry,
    ) -> Result<Self, BindError> {
        let socket = match address {
            Address::Tcp(addr) | Address::Tls(addr) => {
                let listener =
                    sys::listen_tcp(*addr, reuseport).map_err(|error| tcp_error(address, error))?;
                prepare(&listener).map_err(|error| tcp_error(address, error))?;
                Socket::Tcp(TcpListener::from_std(listener))
            }
            Address::Unix(path) => bind_unix(path, permissions)?,
        };
        Ok(Self { socket, registry, tls: None, proxies: Vec::new() })
    }

    /// Takes a socket over. Its file, if it has one, is left to the process that made it.
    pub(crate) fn adopt(inherited: Inherited, registry: Registry) -> Result<Self, BindError> {
        let os =
            |error| BindError::Os(format!("cannot use the inherited socket {}", inherited.address), error);
        let socket = match inherited.address {
            Address::Tcp(_) | Address::Tls(_) => {
                let listener = std::net::TcpListener::from(inherited.fd);
                listener.set_nonblocking(true).map_err(os)?;
                prepare(&listener).map_err(os)?;
                Socket::Tcp(TcpListener::from_std(listener))
            }
            Address::Unix(_) => {
                let listener = std::os::unix::net::UnixListener::from(inherited.fd);
                listener.set_nonblocking(true).map_err(os)?;
                Socket::Unix { listener: UnixListener::from_std(listener), file: None }
            }
        };
        Ok(Self { socket, registry, tls: None, proxies: Vec::new() })
    }

    /// Makes it a TLS listener, or gives a TLS listener another certificate for the connections to come.
    /// True when it had another one. While the certificate stays, so does the key of its tickets: browsers that come
    /// back resume their sessions.
    pub(crate) fn use_tls(&mut self, config: &tls::Config) -> bool {
        if self.tls.as_ref() == Some(config) {
            return false;
        }
        self.tls.replace(config.clone()).is_some()
    }

    /// Expects a PROXY header at the beginning of each connection from these, from now on.
    pub(crate) fn expect_headers(&mut self, proxies: Vec<Network>) {
        self.proxies = proxies;
    }

    /// Whether it speaks TLS.
    pub(crate) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// How long the kernel waits for a peer that acknowledges nothing, on the connections to come, which inherit it: the
    /// dead are seen by it when something was sent to them (threats.md, row 7).
    ///
    /// # Errors
    /// As `setsockopt(2)`.
    pub(crate) fn set_user_timeout(&self, user_timeout_ms: u64) -> io::Result<()> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let user_timeout_ms = u32::try_from(user_timeout_ms).unwrap_or(u32::MAX);
                sys::set_tcp_user_timeout(listener.as_fd(), user_timeout_ms)
            }
            Socket::Unix { .. } => Ok(()),
        }
    }

    #[cfg(test)]
    pub(crate) fn user_timeout_ms(&self) -> u32 {
        match &self.socket {
            Socket::Tcp(listener) => sys::tcp_user_timeout_ms(listener.as_fd()).unwrap(),
            Socket::Unix { .. } => 0,
        }
    }

    /// That of the connection that waits.
    #[cfg(test)]
    pub(crate) fn accept_user_timeout_ms(&self) -> u32 {
        match &self.socket {
            Socket::Tcp(listener) => sys::tcp_user_timeout_ms(listener.accept().unwrap().0.as_fd()).unwrap(),
            Socket::Unix { .. } => 0,
        }
    }

    /// Registers it for its events.
    pub(crate) fn register(&mut self, token: mio::Token) -> io::Result<()> {
        match &mut self.socket {
            Socket::Tcp(listener) => self.registry.register(listener, token, Interest::READABLE),
            Socket::Unix { listener, .. } => self.registry.register(listener, token, Interest::READABLE),
        }
    }

    /// Makes a Unix socket anew whose file is not there any more, and returns its address. A file that another server
    /// has put there meanwhile is left.
    pub(crate) fn restore(&mut self, token: mio::Token) -> Result<Option<String>, (String, BindError)> {
        let Socket::Unix { file: Some(file), .. } = &self.socket else { return Ok(None) };
        if file.is_there() {
            return Ok(None);
        }
        let address = format!("unix://{}", file.path.display());
        let socket = bind_unix(&file.path, &file.permissions).map_err(|error| (address.clone(), error))?;
        self.socket = socket;
        match self.register(token) {
            Ok(()) => Ok(Some(address)),
            Err(error) => Err((address.clone(), BindError::Os(format!("cannot register {address}"), error))),
        }
    }

    /// The address it got: for a TCP port 0 the one that the kernel chose.
    pub(crate) fn local_port(&self) -> Option<u16> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().ok().map(|addr| addr.port()),
            Socket::Unix { .. } => None,
        }
    }
}

impl Listen for Listener {
    type Stream = Transport;

    fn accept(&mut self, token: Token) -> io::Result<(Transport, PeerAddr)> {
        let (plain, peer) = match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, addr) = listener.accept()?;
                (Transport::Tcp(stream), PeerAddr::Ip(addr.ip().to_canonical(), addr.port()))
            }
            Socket::Unix { listener, .. } => (Transport::Unix(listener.accept()?.0), PeerAddr::Unix),
        };
        let mut transport = match self.proxies.iter().any(|network| network.contains(peer)) {
            true => Transport::Proxied(Box::new(Proxied::new(plain, self.tls.clone()))),
            false => plain.encrypt(self.tls.as_ref())?,
        };
        transport.register(&self.registry, super::mio_token(token))?;
        Ok((transport, peer))
    }

    fn rename(&mut self, stream: &mut Transport, token: Token) -> io::Result<()> {
        stream.rename(&self.registry, super::mio_token(token))
    }
}

/// Sets the options that every accepted connection inherits: a system call less for each.
fn prepare(listener: &std::net::TcpListener) -> io::Result<()> {
    sys::set_tcp_nodelay(listener.as_fd())
}

fn tcp_error(address: &Address, error: io::Error) -> BindError {
    match error.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse(address.to_string()),
        _ => BindError::Os(format!("cannot listen on {address}"), error),
    }
}

/// A path that a live server answers on is refused, a dead socket is replaced, anything else is left.
fn bind_unix(path: &Path, permissions: &Permissions) -> Result<Socket, BindError> {
    let os = |error| BindError::Os(format!("cannot listen on unix://{}", path.display()), error);
    // Until the socket listens: two that start at once must not both find it dead, and one unlink the other's.
    let _turn = turn(path).map_err(os)?;
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(BindError::NotASocket(path.into())),
        Ok(_) => match sys::connect_unix(path, PATIENCE) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(os)?;
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Err(BindError::Hangs(format!("unix://{}", path.display())));
            }
            Err(error) => return Err(os(error)),
            Ok(_) => return Err(BindError::InUse(format!("unix://{}", path.display()))),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(os(error)),
    }
    // The mode is right from the start. Changing it by path later would follow a link that a user with the right to
    // write to the folder has put there meanwhile.
    let before = sys::umask(!permissions.mode & 0o777);
    let bound = UnixListener::bind(path);
    sys::umask(before);
    let listener = bound.map_err(|error| {
        if error.kind() != io::ErrorKind::AddrInUse {
            remove_unheard(path); // it may have been bound, and then not be listened on
        }
        os(error)
    })?;
    let metadata = std::fs::symlink_metadata(path).map_err(os)?;
    let file = SocketFile {
        path: path.into(),
        inode: (metadata.dev(), metadata.ino()),
        permissions: permissions.clone(),
    };
    give(path, permissions)?;
    Ok(Socket::Unix { listener, file: Some(file) })
}

/// Waits until no other server of ours binds in the folder of this socket. It is the folder that is locked, as a lock file
/// would be left behind. A folder that may not be opened, or a file system that knows no locks, gives none.
fn turn(path: &Path) -> io::Result<Option<File>> {
    let Some(Ok(folder)) = path.parent().map(File::open) else { return Ok(None) };
    for _ in 0..TURNS {
        match sys::lock_whole(&folder) {
            Ok(true) => return Ok(Some(folder)),
            Ok(false) => std::thread::sleep(TURN),
            Err(_) => return Ok(None),
        }
    }
    Err(io::Error::other("another program keeps its folder locked"))
}

/// Removes the file of a socket that no process listens on.
fn remove_unheard(path: &Path) {
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if sys::connect_unix(path, PATIENCE).is_err_and(refused) {
        let _ = std::fs::remove_file(path);
    }
}

fn give(path: &Path, permissions: &Permissions) -> Result<(), BindError> {
    let os = |error: io::Error| match (&permissions.owner, &permissions.group) {
        (None, Some(group)) if error.kind() == io::ErrorKind::PermissionDenied => {
            BindError::MayNotGive(group.clone())
        }
        _ => BindError::Os(format!("cannot set the owner of {}", path.display()), error),
    };
    let uid = permissions.owner.as_deref().map(find_user).transpose()?;
    let gid = permissions.group.as_deref().map(find_group).transpose()?;
    if uid.is_some() || gid.is_some() {
        std::os::unix::fs::lchown(path, uid, gid).map_err(os)?;
    }
    Ok(())
}

fn find_user(name: &str) -> Result<u32, BindError> {
    let user =
        sys::user(name).map_err(|error| BindError::Os(format!("cannot look up user {name}"), error))?;
    user.map(|user| user.uid).ok_or_else(|| BindError::UnknownOwner(name.to_owned()))
}

fn find_group(name: &str) -> Result<u32, BindError> {
    let group =
        sys::group(name).map_err(|error| BindError::Os(format!("cannot look up group {name}"), error))?;
    group.ok_or_else(|| BindError::UnknownOwner(name.to_owned()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_there() {
            // A directory that became unwritable leaves a dead socket, which the next start replaces.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those that start at once over a dead socket look at it one after the other: one gets it and can be reached, the
    /// others find it alive. The lock that the test holds first is that of a server that is about to bind.
    #[test]
    fn a_dead_socket_is_taken_over_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let first = File::open(folder.path()).unwrap();
        assert!(sys::lock_whole(&first).unwrap());
        let starters = [(); 4].map(|()| {
            let path = path.clone();
            std::thread::spawn(move || {
                bind_unix(&path, &Permissions { mode: 0o660, owner: None, group: None })
            })
        });
        std::thread::sleep(Duration::from_millis(100));
        let answer = sys::connect_unix(&path, PATIENCE).unwrap_err();
        assert_eq!(answer.kind(), io::ErrorKind::ConnectionRefused, "nobody has touched it");
        drop(first);
        let bound = starters.map(|starter| starter.join().unwrap());
        assert_eq!(bound.iter().filter(|bound| bound.is_ok()).count(), 1, "{bound:?}");
        assert!(sys::connect_unix(&path, PATIENCE).is_ok());
        for refused in bound.iter().filter_map(|bound| bound.as_ref().err()) {
            assert!(matches!(refused, BindError::InUse(_)), "{refused}");
        }
    }
}
