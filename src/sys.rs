//! System calls that only libc gives: resource limits, locks, users, privileges, processes and a few socket options.
//!
//! The only file with `unsafe`. Every function is a thin safe wrapper around one or two system calls, returns
//! `io::Error`, and keeps no state. Policy (when to lock, which user to become, the words for the administrator) lives
//! in `daemon/`; listening lives in `net/`.
//!
//! Invariant: no pointer leaves this file, and every descriptor that does is owned.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::ptr;
use std::time::Duration;

pub(crate) use libc::{O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK, SIGHUP, SIGKILL, SIGTERM};

/// The kernel caps this at `net.core.somaxconn`; asking for more than it allows costs nothing.
const BACKLOG: i32 = 65_535;

/// A libc call that answers -1 and sets `errno` when it fails.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

// ── limits ──

/// Raises the soft limit of open descriptors to the hard one; returns the soft limit that holds afterwards.
pub(crate) fn raise_nofile() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit that outlives the call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    if limit.rlim_cur < limit.rlim_max {
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
        // SAFETY: `raised` is a valid rlimit, only read by the call.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) })?;
        limit = raised;
    }
    Ok(limit.rlim_cur)
}

/// No core file and no debugger of the same user: the secret is in this memory.
pub(crate) fn forbid_dumps() -> io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `none` is a valid rlimit, only read by the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) })?;
    prctl(libc::PR_SET_DUMPABLE, 0).map(drop)
}

/// No program started from here on gains privileges by a set-user-id bit or file capabilities.
pub(crate) fn forbid_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1).map(drop)
}

fn prctl(option: libc::c_int, value: libc::c_ulong) -> io::Result<libc::c_int> {
    let zero: libc::c_ulong = 0;
    // SAFETY: the options used here take integers only; the unused arguments are zero as prctl(2) asks.
    check(unsafe { libc::prctl(option, value, zero, zero, zero) })
}

// ── locks ──

/// Takes the record lock of a whole file for this process, without waiting. `false`: another process has it.
///
/// The kernel knows the holder's number ([`lock_holder`]), which flock(2) does not give. Two more facts: a
/// fork does not inherit it, and the process loses it when it closes *any* descriptor of the file.
pub fn lock_record(file: &File) -> io::Result<bool> {
    let lock = whole_file(libc::F_WRLCK);
    // SAFETY: the descriptor is open, `lock` is a valid flock structure and only read.
    held_elsewhere(check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &lock) }))
}

/// The process that holds the record lock of a file, asked without taking it. `None`: no process but this one.
///
/// Readers' locks do not count: a process that may only read a file must not pass for its owner.
pub(crate) fn lock_holder(file: &File) -> io::Result<Option<u32>> {
    let mut lock = whole_file(libc::F_RDLCK);
    // SAFETY: the descriptor is open, `lock` is a valid flock structure that outlives the call.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &mut lock) })?;
    let held = libc::c_int::from(lock.l_type) != libc::F_UNLCK;
    Ok(held.then(|| u32::try_from(lock.l_pid).unwrap_or(0)))
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    // SAFETY: flock is plain old data; all zero means "from the start, length 0: to the end".
    let mut lock: libc::flock = unsafe { mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock
}

fn held_elsewhere(result: io::Result<libc::c_int>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Makes the allocator give buffers of this many bytes and more back to the system as soon as they are freed, and not
/// raise that bound by itself. Without it the memory of a backlog stays with the process for good. For glibc; other
/// allocators are left as they are.
pub(crate) fn return_large_buffers(bytes: usize) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: integers only; a value that glibc does not like changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, i32::try_from(bytes).unwrap_or(i32::MAX));
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    let _ = bytes;
}

/// Makes the allocator give the pages between its live blocks back to the system, not only those behind the last one.
/// For glibc, as above.
pub(crate) fn return_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: an integer only; live blocks stay where they are.
    unsafe {
        libc::malloc_trim(0);
    }
}

// ── users ──

/// The entry of the user database for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// The user's number.
    pub uid: u32,
    /// The number of the user's primary group.
    pub gid: u32,
}

/// Looks a user up by name or, if no name is like that, by number. `None`: there is no such user.
pub(crate) fn user(name: &str) -> io::Result<Option<User>> {
    match (user_named(name)?, name.parse()) {
        (None, Ok(uid)) => user_numbered(uid),
        (found, _) => Ok(found),
    }
}

fn user_numbered(uid: u32) -> io::Result<Option<User>> {
    lookup(|buffer| {
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut found = ptr::null_mut();
        let (text, len) = (buffer.as_mut_ptr().cast(), buffer.len());
        // SAFETY: all pointers are valid for the call and `len` is the buffer's true length.
        let code = unsafe { libc::getpwuid_r(uid, entry.as_mut_ptr(), text, len, &mut found) };
        // SAFETY: a non-null `found` points to `entry`, which the call has filled.
        (code, unsafe { found.as_ref() }.map(|e| User { uid: e.pw_uid, gid: e.pw_gid }))
    })
}

fn user_named(name: &str) -> io::Result<Option<User>> {
    let name = c_string(name)?;
    lookup(|buffer| {
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut found = ptr::null_mut();
        let (text, len) = (buffer.as_mut_ptr().cast(), buffer.len());
        // SAFETY: all pointers are valid for the call and `len` is the buffer's true length.
        let code = unsafe { libc::getpwnam_r(name.as_ptr(), entry.as_mut_ptr(), text, len, &mut found) };
        // SAFETY: a non-null `found` points to `entry`, which the call has filled.
        (code, unsafe { found.as_ref() }.map(|e| User { uid: e.pw_uid, gid: e.pw_gid }))
    })
}

/// Looks a group up by name; a number needs no entry. `None`: there is no such group.
pub(crate) fn group(name: &str) -> io::Result<Option<u32>> {
    Ok(group_named(name)?.or_else(|| name.parse().ok()))
}

fn group_named(name: &str) -> io::Result<Option<u32>> {
    let name = c_string(name)?;
    lookup(|buffer| {
        let mut entry = MaybeUninit::<libc::group>::uninit();
        let mut found = ptr::null_mut();
        let (text, len) = (buffer.as_mut_ptr().cast(), buffer.len());
        // SAFETY: all pointers are valid for the call and `len` is the buffer's true length.
        let code = unsafe { libc::getgrnam_r(name.as_ptr(), entry.as_mut_ptr(), text, len, &mut found) };
        // SAFETY: a non-null `found` points to `entry`, which the call has filled.
        (code, unsafe { found.as_ref() }.map(|e| e.gr_gid))
    })
}

/// The groups that the user database puts a user in, with `gid` among them.
pub(crate) fn groups_of(name: &str, gid: u32) -> io::Result<Vec<u32>> {
    let name = c_string(name)?;
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let mut count = libc::c_int::try_from(groups.len()).unwrap_or(libc::c_int::MAX);
        // SAFETY: `count` is the true length of `groups`; the call writes no more and returns how many there are.
        let done = unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &mut count) };
        let found = usize::try_from(count).unwrap_or(0);
        match done {
            -1 if found > groups.len() && found <= 1 << 16 => groups.resize(found, 0),
            -1 => return Err(io::Error::other("the user database does not tell the user's groups")),
            _ => {
                groups.truncate(found);
                return Ok(groups);
            }
        }
    }
}

/// The groups of this process.
pub(crate) fn own_groups() -> io::Result<Vec<u32>> {
    // SAFETY: a length of zero only counts.
    let count = check(unsafe { libc::getgroups(0, ptr::null_mut()) })?;
    let mut groups: Vec<libc::gid_t> = vec![0; usize::try_from(count).unwrap_or(0)];
    // SAFETY: `count` is the true length of `groups`.
    let found = check(unsafe { libc::getgroups(count, groups.as_mut_ptr()) })?;
    groups.truncate(usize::try_from(found).unwrap_or(0));
    // SAFETY: no arguments, cannot fail.
    groups.push(unsafe { libc::getegid() });
    Ok(groups)
}

/// The effective user's number.
pub(crate) fn own_user() -> u32 {
    // SAFETY: geteuid has no arguments and cannot fail.
    unsafe { libc::geteuid() }
}

/// Calls a `get…_r` function with a buffer that grows while it says ERANGE (a group may have many members).
fn lookup<T>(mut call: impl FnMut(&mut [u8]) -> (libc::c_int, Option<T>)) -> io::Result<Option<T>> {
    const BUFFER_BYTES_MAX: usize = 1 << 20;
    let mut buffer = vec![0; 1024];
    loop {
        match call(&mut buffer) {
            (libc::ERANGE, _) if buffer.len() < BUFFER_BYTES_MAX => buffer.resize(buffer.len() * 2, 0),
            // Some databases answer "not found" with one of these, see getpwnam(3).
            (0 | libc::ENOENT | libc::ESRCH, found) => return Ok(found),
            (code, _) => return Err(io::Error::from_raw_os_error(code)),
        }
    }
}

fn c_string(text: &str) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a NUL byte in a name"))
}

/// Whether this process acts as root.
pub(crate) fn is_root() -> bool {
    own_user() == 0
}

/// The access to a file or folder that [`may`] asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// To read and write the file.
    ReadWrite,
    /// To read the file.
    Read,
    /// To write the file.
    Write,
    /// To make and remove files in the folder.
    Make,
}

/// Locks an open file or folder against processes that lock it in the same way, until it is closed. False: another one
/// has it.
pub(crate) fn lock_whole(file: &File) -> io::Result<bool> {
    // SAFETY: an open descriptor and integers.
    match check(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the effective user may do that, by the kernel's own word.
pub(crate) fn may(path: &Path, access: Access) -> io::Result<()> {
    let mode = match access {
        Access::ReadWrite => libc::R_OK | libc::W_OK,
        Access::Read => libc::R_OK,
        Access::Write => libc::W_OK,
        Access::Make => libc::W_OK | libc::X_OK,
    };
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `path` is a terminated string that outlives the call.
    check(unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), mode, libc::AT_EACCESS) })?;
    Ok(())
}

/// Gives up all supplementary groups, then the group, then the user, in that order and for good.
///
/// The saved ids go as well, so there is no way back. Verified: an error means the caller must end.
pub(crate) fn become_user(user: User) -> io::Result<()> {
    // SAFETY: a length of zero makes setgroups ignore the pointer.
    check(unsafe { libc::setgroups(0, ptr::null()) })?;
    // SAFETY: integers only.
    check(unsafe { libc::setresgid(user.gid, user.gid, user.gid) })?;
    // SAFETY: integers only.
    check(unsafe { libc::setresuid(user.uid, user.uid, user.uid) })?;
    verify_identity(user)
}

/// Reads the ids back, and tries to become root again, which has to fail.
fn verify_identity(user: User) -> io::Result<()> {
    let (mut u, mut g) = ([0; 3], [0; 3]);
    let ([ur, ue, us], [gr, ge, gs]) = (&mut u, &mut g);
    // SAFETY: three valid pointers each.
    check(unsafe { libc::getresuid(ur, ue, us) })?;
    // SAFETY: three valid pointers each.
    check(unsafe { libc::getresgid(gr, ge, gs) })?;
    // SAFETY: a length of zero only counts.
    let groups = check(unsafe { libc::getgroups(0, ptr::null_mut()) })?;
    // SAFETY: integers only; only attempted where it must fail.
    let back = user.uid != 0 && unsafe { libc::setuid(0) } == 0;
    if u != [user.uid; 3] || g != [user.gid; 3] || groups != 0 || back {
        return Err(io::Error::other("the system did not let go of the old identity"));
    }
    Ok(())
}

/// Sets the mask of permissions that new files do not get; returns the one before.
pub(crate) fn umask(mask: u32) -> u32 {
    // SAFETY: integers only; cannot fail.
    unsafe { libc::umask(mask as libc::mode_t) }
}

// ── processes ──

/// Which side of a [`fork`] this is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fork {
    /// The new process.
    Child,
    /// The old one, with the new one's number.
    Parent(u32),
}

/// Splits the process. Refused when it has more than one thread: a lock held by another one would stay
/// locked in the child for ever.
pub(crate) fn fork() -> io::Result<Fork> {
    if std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 1) {
        return Err(io::Error::other("a process with threads cannot be split"));
    }
    // SAFETY: one thread only, so the child starts with consistent memory and no lock held by a ghost.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid.unsigned_abs())),
    }
}

/// Waits for a child to end and forgets it.
pub(crate) fn reap(pid: u32) -> io::Result<()> {
    // SAFETY: a null status pointer is allowed.
    check(unsafe { libc::waitpid(to_pid(pid)?, ptr::null_mut(), 0) })?;
    Ok(())
}

/// Leaves the session and its terminal.
pub(crate) fn new_session() -> io::Result<()> {
    // SAFETY: no arguments.
    check(unsafe { libc::setsid() })?;
    Ok(())
}

/// Makes the given standard descriptor (0, 1 or 2) refer to `file`.
pub(crate) fn replace_stdio(file: BorrowedFd<'_>, standard: u8) -> io::Result<()> {
    assert!(standard <= 2, "only standard descriptors may be replaced: others have owners");
    // SAFETY: `file` is open; 0, 1 and 2 are borrowed by std for the whole life of the process, never owned.
    check(unsafe { libc::dup2(file.as_raw_fd(), RawFd::from(standard)) })?;
    Ok(())
}

/// A process that cannot be mistaken for a later one with the same number (pidfd_open(2)).
#[derive(Debug)]
pub(crate) struct Process(OwnedFd);

impl Process {
    /// Takes hold of the process that has this number now.
    pub(crate) fn open(pid: u32) -> io::Result<Self> {
        let (pid, flags) = (to_pid(pid)?, 0);
        // SAFETY: integers only.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, flags) };
        let fd = check(fd as libc::c_int)?;
        // SAFETY: a new descriptor without another owner.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        let (fd, flags) = (self.0.as_raw_fd(), 0);
        let info: *const libc::siginfo_t = ptr::null();
        // SAFETY: the descriptor is open; a null info means "as kill(2) does it".
        let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, flags) };
        check(result as libc::c_int)?;
        Ok(())
    }

    /// Waits until it has ended, at most this long. `true`: it has.
    pub(crate) fn wait(&self, at_most: Duration) -> io::Result<bool> {
        readable(self.0.as_fd(), at_most)
    }
}

/// Waits until a descriptor is readable (or at its end), at most this long.
pub(crate) fn readable(fd: BorrowedFd<'_>, at_most: Duration) -> io::Result<bool> {
    poll(fd, libc::POLLIN, at_most)
}

/// Whether a short write (up to PIPE_BUF) to a descriptor would go through without waiting.
pub(crate) fn writable(fd: BorrowedFd<'_>) -> io::Result<bool> {
    poll(fd, libc::POLLOUT, Duration::ZERO)
}

fn poll(fd: BorrowedFd<'_>, events: libc::c_short, at_most: Duration) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    let ms = i32::try_from(at_most.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: one valid pollfd, and the count says one.
    match check(unsafe { libc::poll(&mut poll, 1, ms) }) {
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(false),
        result => Ok(result? > 0),
    }
}

/// A number that names one process: 0 and negative numbers mean groups to the kernel.
fn to_pid(pid: u32) -> io::Result<libc::pid_t> {
    match libc::pid_t::try_from(pid) {
        Ok(pid) if pid > 0 => Ok(pid),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a process number")),
    }
}

/// Microseconds of the monotonic clock, as systemd counts them.
pub(crate) fn monotonic_us() -> u64 {
    clock_us(libc::CLOCK_MONOTONIC)
}

/// Microseconds of processor time that this process has used.
pub(crate) fn cpu_us() -> u64 {
    clock_us(libc::CLOCK_PROCESS_CPUTIME_ID)
}

#[inline]
fn clock_us(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec; these clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

// ── sockets ──

/// As `send(2)`, without the signal for a peer that is gone. std's own is two calls deep, and this is called for every
/// message.
#[cfg_attr(not(debug_assertions), inline(always))] // memcheck looks for its name
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let (start, len) = (bytes.as_ptr().cast(), bytes.len());
    // SAFETY: `bytes` outlives the call, which only reads them.
    let sent = unsafe { libc::send(socket.as_raw_fd(), start, len, libc::MSG_NOSIGNAL) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

/// As `recv(2)`.
#[cfg_attr(not(debug_assertions), inline(always))] // memcheck looks for its name
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let (start, len) = (buffer.as_mut_ptr().cast(), buffer.len());
    // SAFETY: `buffer` outlives the call, which writes no more than its length into it.
    let read = unsafe { libc::recv(socket.as_raw_fd(), start, len, 0) };
    if read < 0 { Err(io::Error::last_os_error()) } else { Ok(read as usize) }
}

/// A listening TCP socket: close-on-exec, not blocking, address reusable after a restart; with `reuseport` several
/// processes may share the address.
pub(crate) fn listen_tcp(address: SocketAddr, reuseport: bool) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: integers only.
    let fd = check(unsafe { libc::socket(family, kind, 0) })?;
    // SAFETY: a new descriptor without another owner.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    if reuseport {
        set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    }
    if address.is_ipv6() {
        // `[::]` is IPv6 alone, whatever the system's default, so that 0.0.0.0 has room on the same port beside it.
        set_option(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
    }
    bind(socket.as_fd(), address)?;
    // SAFETY: an open, bound socket.
    check(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })?;
    Ok(TcpListener::from(socket))
}

fn bind(socket: BorrowedFd<'_>, address: SocketAddr) -> io::Result<()> {
    let fd = socket.as_raw_fd();
    let result = match address {
        SocketAddr::V4(v4) => {
            let name = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: a valid sockaddr_in with its own size.
            unsafe { libc::bind(fd, ptr::from_ref(&name).cast(), mem::size_of_val(&name) as libc::socklen_t) }
        }
        SocketAddr::V6(v6) => {
            let name = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: a valid sockaddr_in6 with its own size.
            unsafe { libc::bind(fd, ptr::from_ref(&name).cast(), mem::size_of_val(&name) as libc::socklen_t) }
        }
    };
    check(result)?;
    Ok(())
}

/// Connects to a Unix socket. A server that is stopped or stuck has a full backlog at some time, and connecting would
/// wait for ever; here it is a `TimedOut` after `patience`.
pub(crate) fn connect_unix(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let bytes = path.as_os_str().as_bytes();
    // SAFETY: integers and bytes, for which zero is a value.
    let mut name: libc::sockaddr_un = unsafe { mem::zeroed() };
    if bytes.contains(&0) || bytes.len() >= name.sun_path.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no path of a Unix socket"));
    }
    name.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (slot, byte) in name.sun_path.iter_mut().zip(bytes) {
        *slot = *byte as libc::c_char;
    }
    // SAFETY: integers only.
    let fd = check(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: a new descriptor without another owner.
    let stream = UnixStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
    // The time-out for sending is the one for connecting as well (unix(7), socket(7)).
    stream.set_write_timeout(Some(patience))?;
    let len = mem::size_of_val(&name) as libc::socklen_t;
    // SAFETY: a valid sockaddr_un with its own size; the rest of the path is NUL.
    let connected = check(unsafe { libc::connect(fd, ptr::from_ref(&name).cast(), len) });
    connected.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    })?;
    stream.set_write_timeout(None)?;
    Ok(stream)
}

/// Ends a TCP connection whose sent data stays unacknowledged for this long; the kernel's own patience is about
/// fifteen minutes.
pub(crate) fn set_tcp_user_timeout(socket: BorrowedFd<'_>, timeout_ms: u32) -> io::Result<()> {
    let value = i32::try_from(timeout_ms).unwrap_or(i32::MAX);
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, value)
}

/// The value that [`set_tcp_user_timeout`] has set, or the listener that a connection came by.
#[cfg(test)]
pub(crate) fn tcp_user_timeout_ms(socket: BorrowedFd<'_>) -> io::Result<u32> {
    option(socket, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT).map(i32::cast_unsigned)
}

/// As `recv(2)` with `MSG_PEEK`: the bytes stay where they are.
pub(crate) fn peek(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the descriptor is open, and the kernel writes at most `buffer.len()` bytes into the buffer.
    let len = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            libc::MSG_PEEK | libc::MSG_DONTWAIT,
        )
    };
    usize::try_from(len).map_err(|_| io::Error::last_os_error())
}

/// Sends small frames at once instead of waiting for the acknowledgement of earlier ones.
pub(crate) fn set_tcp_nodelay(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)
}

fn set_option(socket: BorrowedFd<'_>, level: i32, option: i32, value: libc::c_int) -> io::Result<()> {
    let (fd, len) = (socket.as_raw_fd(), mem::size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: `value` is an int, `len` its size; every option set here takes an int.
    check(unsafe { libc::setsockopt(fd, level, option, ptr::from_ref(&value).cast(), len) })?;
    Ok(())
}

fn option(socket: BorrowedFd<'_>, level: i32, option: i32) -> io::Result<libc::c_int> {
    let (mut value, mut len): (libc::c_int, _) = (0, mem::size_of::<libc::c_int>() as libc::socklen_t);
    let fd = socket.as_raw_fd();
    // SAFETY: `value` is an int, `len` its size, both outlive the call; every option read here is an int.
    check(unsafe { libc::getsockopt(fd, level, option, ptr::from_mut(&mut value).cast(), &mut len) })?;
    Ok(value)
}

/// The kind of a descriptor that another process has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketKind {
    /// A listening TCP socket.
    Tcp,
    /// A listening Unix stream socket.
    Unix,
    /// Anything else.
    Other,
}

/// Takes the descriptors `first .. first + count` that the process was started with, and keeps them from its
/// children. Fails with the first that was not: it is not open, or it was opened here, as descriptors opened here are
/// closed on exec and those that are handed in cannot be.
///
/// Works once: a second call gets nothing, so no descriptor is ever owned twice.
pub(crate) fn inherit(first: u8, count: u8) -> Result<Vec<OwnedFd>, RawFd> {
    use std::sync::atomic::{AtomicBool, Ordering};
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if first <= 2 || TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let last = RawFd::from(first) + RawFd::from(count);
    let wanted = RawFd::from(first)..last;
    // All are looked at before the first one is owned, and would be closed.
    match wanted.clone().find(|fd| !was_handed_in(*fd)) {
        Some(missing) => Err(missing),
        None => Ok(wanted.filter_map(adopt).collect()),
    }
}

fn was_handed_in(fd: RawFd) -> bool {
    // SAFETY: integers only; a descriptor that is not open makes it fail.
    check(unsafe { libc::fcntl(fd, libc::F_GETFD) }).is_ok_and(|flags| flags & libc::FD_CLOEXEC == 0)
}

fn adopt(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: integers only; a descriptor that is not open makes it fail.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }).ok()?;
    // SAFETY: open, handed to this process by its parent, and `inherit` runs once.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The kind of a listening socket.
pub(crate) fn kind_of(fd: BorrowedFd<'_>) -> SocketKind {
    let is = |name, value| option(fd, libc::SOL_SOCKET, name).is_ok_and(|v| v == value);
    if !is(libc::SO_TYPE, libc::SOCK_STREAM) || !is(libc::SO_ACCEPTCONN, 1) {
        return SocketKind::Other;
    }
    match option(fd, libc::SOL_SOCKET, libc::SO_DOMAIN) {
        Ok(libc::AF_INET | libc::AF_INET6) => SocketKind::Tcp,
        Ok(libc::AF_UNIX) => SocketKind::Unix,
        _ => SocketKind::Other,
    }
}

/// The system's name for an error, without the number Rust puts behind it.
pub(crate) fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error ").unwrap_or(text.len());
    let mut text = text[..end].to_owned();
    // In the middle of our sentences: "permission denied", but "I/O error" as it is.
    if text.chars().nth(1).is_some_and(|c| c.is_ascii_lowercase()) {
        text[..1].make_ascii_lowercase();
    }
    text
}

#[cfg(test)]
pub(crate) mod tests;
