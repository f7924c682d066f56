//! The system calls the standard library has no name for, wrapped so that the rest of the crate is safe code.
//!
//! Invariant: every descriptor that leaves this file is owned by a type that closes it.
#![allow(unsafe_code)]

use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

/// Turns the -1 of a system call into the error it stands for.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// An epoll instance. Everything is registered edge-triggered, for both directions where asked.
pub struct Epoll(OwnedFd);

/// The events of one wait, reused between waits.
pub struct Events {
    list: Vec<libc::epoll_event>,
    len: usize,
}

impl Events {
    pub fn with_capacity(capacity: usize) -> Self {
        Self { list: vec![libc::epoll_event { events: 0, u64: 0 }; capacity], len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// The number given at registration, and whether the socket can be read and written.
    pub fn get(&self, at: usize) -> (u64, bool, bool) {
        let event = self.list[..self.len][at];
        let readable = libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR;
        (event.u64, event.events & readable as u32 != 0, event.events & libc::EPOLLOUT as u32 != 0)
    }
}

impl Epoll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes no pointer; the descriptor it returns is new and ours.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: as above.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub fn add(&self, fd: RawFd, data: u64, writable: bool) -> io::Result<()> {
        let mut events = libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET;
        if writable {
            events |= libc::EPOLLOUT;
        }
        self.control(libc::EPOLL_CTL_ADD, fd, events, data)
    }

    /// Level-triggered, for listeners: connections that one turn leaves in the backlog are reported again.
    pub fn add_level(&self, fd: RawFd, data: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN, data)
    }

    fn control(&self, what: libc::c_int, fd: RawFd, events: libc::c_int, data: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: data };
        // SAFETY: the event outlives the call, and the kernel copies it.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), what, fd, &mut event) }).map(drop)
    }

    pub fn wait(&self, events: &mut Events, timeout_ms: i32) -> io::Result<()> {
        let room = events.list.len() as libc::c_int;
        // SAFETY: the list has room for as many events as the call is given.
        let found =
            unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.list.as_mut_ptr(), room, timeout_ms) };
        events.len = match check(found) {
            Ok(found) => found as usize,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        Ok(())
    }
}

pub fn recv(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is valid for the length given, for the length of the call.
    let got = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    if got < 0 { Err(io::Error::last_os_error()) } else { Ok(got as usize) }
}

pub fn send(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the bytes are valid for the length given, for the length of the call.
    let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

/// Takes one waiting connection, not blocking.
pub fn accept(listener: RawFd) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: null pointers say that the peer's address is not wanted; the new descriptor is ours.
    let fd = check(unsafe { libc::accept4(listener, std::ptr::null_mut(), std::ptr::null_mut(), flags) })?;
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set_option(fd: RawFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option's value is an int that outlives the call, and its size is given.
    check(unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), size) }).map(drop)
}

/// On a listener it is inherited by what is accepted, which saves a call per connection.
pub fn set_nodelay(fd: RawFd) -> io::Result<()> {
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)
}

/// Makes the later close a reset, so that tens of thousands of ports do not stay in TIME_WAIT.
pub fn set_reset_on_close(fd: RawFd) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let size = size_of::<libc::linger>() as libc::socklen_t;
    // SAFETY: the option's value is a linger that outlives the call, and its size is given.
    check(unsafe {
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), size)
    })
    .map(drop)
}

fn address(of: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: of.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*of.ip()).to_be() },
        sin_zero: [0; 8],
    }
}

/// Starts a connection from the address `from` (its port is left to the kernel) to `to`, not blocking.
pub fn connect(from: SocketAddrV4, to: SocketAddrV4) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: takes no pointer; the new descriptor is ours.
    let fd = check(unsafe { libc::socket(libc::AF_INET, kind, 0) })?;
    // SAFETY: as above.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    set_nodelay(fd)?;
    // The port is chosen at connect, per destination: else 28,000 ports would be all a source address has.
    set_option(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
    let size = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    let (from, to) = (address(from), address(to));
    // SAFETY: the address outlives the call, and its size is given.
    check(unsafe { libc::bind(fd, (&raw const from).cast(), size) })?;
    // SAFETY: as above.
    match check(unsafe { libc::connect(fd, (&raw const to).cast(), size) }) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// Binds this process, and what it starts from now on, to one core.
pub fn pin(core: usize) -> io::Result<()> {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: CPU_SET checks nothing, so the core is kept within the set's size.
    unsafe { libc::CPU_SET(core % libc::CPU_SETSIZE as usize, &mut set) };
    // SAFETY: the set outlives the call, and its size is given; 0 is this process.
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) }).map(drop)
}

/// Raises the soft limit of descriptors to the hard one, which is returned.
pub fn raise_descriptors() -> io::Result<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure outlives the call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: as above.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    Ok(limit.rlim_max as usize)
}

/// The processor time a process has used so far, from the kernel's own clock of it: exact to the nanosecond,
/// where /proc/PID/stat counts ticks of 10 ms.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: the identifier outlives the call.
    let error = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure outlives the call.
    check(unsafe { libc::clock_gettime(clock, &mut time) })?;
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Asks a child of ours to end.
pub fn terminate(pid: u32) -> io::Result<()> {
    // SAFETY: takes no pointer; the caller owns the child, so the number is not recycled.
    check(unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) }).map(drop)
}

/// Ends the child when this process dies in whatever way, so that an interrupted run leaves no server behind.
pub fn die_with_parent(command: &mut Command) {
    let ask = || {
        // SAFETY: takes no pointer, and is safe to call between fork and exec.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) }).map(drop)
    };
    // SAFETY: the closure makes one system call; it neither allocates nor locks.
    unsafe { command.pre_exec(ask) };
}
