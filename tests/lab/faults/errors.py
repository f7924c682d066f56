"""Which errors each system call may return here: those of its man page (section 2, and ip(7), tcp(7), unix(7) for
sockets) that do not mean a mistake of the program itself (EBADF, EFAULT, EINVAL, ENOTSOCK and their like).
"""
_FILE = "EACCES EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR"
_WRITE = "EAGAIN EDQUOT EFBIG EINTR EIO ENOSPC EPERM EPIPE"
_SEND = ("EACCES EAGAIN ECONNRESET EHOSTUNREACH EINTR EMSGSIZE ENETDOWN ENETUNREACH ENOBUFS ENOMEM ENOTCONN EPERM "
         "EPIPE ETIMEDOUT")
_SOCKET = "EACCES EAFNOSUPPORT EMFILE ENFILE ENOBUFS ENOMEM EPROTONOSUPPORT"

ERRORS = {name: sorted(set(errors.split())) for name, errors in {
    "accept4": "EAGAIN ECONNABORTED EHOSTDOWN EHOSTUNREACH EINTR EMFILE ENETDOWN ENETUNREACH ENFILE ENOBUFS ENOMEM ENONET "
               "ENOPROTOOPT EOPNOTSUPP EPERM EPROTO ETIMEDOUT",
    "bind": "EACCES EADDRINUSE EADDRNOTAVAIL " + _FILE + " EROFS",
    "chdir": _FILE,
    "clone": "EAGAIN ENOMEM ENOSYS EPERM",
    "close": "EDQUOT EINTR EIO ENOSPC",
    "connect": "EACCES EAGAIN ECONNREFUSED EINTR ENOENT EPERM ETIMEDOUT",
    "dup2": "EBUSY EINTR EMFILE",
    "epoll_create1": "EMFILE ENFILE ENOMEM",
    "epoll_ctl": "EEXIST ELOOP ENOMEM ENOSPC EPERM",
    "epoll_wait": "EINTR",
    "eventfd2": "EMFILE ENFILE ENODEV ENOMEM",
    "faccessat2": _FILE + " EPERM EROFS ETXTBSY",
    "fchown": "EIO EPERM EROFS",
    "fcntl": "EACCES EAGAIN EBUSY EDEADLK EINTR EMFILE ENOLCK EPERM",
    "flock": "EINTR ENOLCK",
    "fsync": "EDQUOT EINTR EIO ENOSPC EROFS",
    "ftruncate": "EACCES EFBIG EINTR EIO EPERM EROFS ETXTBSY",
    "getdents64": "EINTR EIO ENOENT",
    "getrandom": "EINTR ENOSYS",
    "getsockname": "ENOBUFS",
    "lchown": _FILE + " EPERM EROFS",
    "listen": "EADDRINUSE EOPNOTSUPP",
    "lseek": "EOVERFLOW ESPIPE",
    "mkdir": _FILE + " EDQUOT EMLINK ENOSPC EPERM EROFS",
    "mmap": "EAGAIN ENFILE ENOMEM EPERM",
    "mprotect": "EACCES ENOMEM",
    "mremap": "EAGAIN ENOMEM",
    "munmap": "ENOMEM",
    "newfstatat": _FILE + " EOVERFLOW",
    "openat": _FILE + " EBUSY EDQUOT EINTR EISDIR EMFILE ENFILE ENODEV ENOSPC ENXIO EOVERFLOW EPERM EROFS ETXTBSY",
    "poll": "EINTR ENOMEM",
    "prctl": "EACCES EINVAL EPERM",
    "prlimit64": "EPERM",
    "pread64": "EINTR EIO EISDIR ENXIO EOVERFLOW ESPIPE",
    "pwrite64": _WRITE + " ENXIO",
    "read": "EAGAIN EINTR EIO EISDIR",
    "recvfrom": "EACCES EAGAIN ECONNREFUSED ECONNRESET EHOSTUNREACH EINTR EIO ENETDOWN ENETUNREACH ENOBUFS ENOMEM "
                "ENOPROTOOPT ENOTCONN EPIPE EPROTO ETIMEDOUT",
    "rename": _FILE + " EBUSY EDQUOT EISDIR ENOSPC EPERM EROFS",
    "rt_sigaction": "EINVAL",
    "sendto": _SEND,
    "setgroups": "ENOMEM EPERM",
    "setresgid": "EAGAIN EPERM",
    "setresuid": "EAGAIN EPERM",
    "setsid": "EPERM",
    "setsockopt": "ENOMEM ENOPROTOOPT EPERM",
    "setuid": "EAGAIN EPERM",
    "shutdown": "ENOTCONN",
    "socket": _SOCKET,
    "socketpair": _SOCKET + " EOPNOTSUPP",
    "statx": _FILE,
    "unlink": _FILE + " EBUSY EISDIR EPERM EROFS",
    "wait4": "ECHILD EINTR",
    "write": _WRITE,
    "writev": _SEND,
}.items()}

# Calls that may not be made to fail, and why.
HARMLESS = {
    "brk": "answers with the end it had, not with an error, which strace cannot forge; mmap stands for it",
    "clock_gettime": "fails for wrong arguments only",
    "exit_group": "does not return",
    "getegid": "cannot fail",
    "geteuid": "cannot fail",
    "getgroups": "fails for wrong arguments only",
    "getpid": "cannot fail",
    "getresgid": "fails for wrong arguments only",
    "getresuid": "fails for wrong arguments only",
    "gettid": "cannot fail",
    "restart_syscall": "the kernel's own",
    "rt_sigprocmask": "fails for wrong arguments only",
    "rt_sigreturn": "does not return",
    "set_robust_list": "libc's own, in a new process",
    "sigaltstack": "fails for wrong arguments only; made by Rust's runtime",
    "umask": "cannot fail",
}

# Calls that belong to one connection, which a hard error may end. Every other fault may end none.
ENDS_ONE = {"recvfrom", "sendto", "writev", "epoll_ctl", "getrandom"}
SOFT = {"EAGAIN", "EINTR"}


def losses_max(call, error):
    # After an EAGAIN that the kernel would not have said there is no event to read on, and a peer whose socket is full
    # can say nothing that makes one.
    return int(call in ENDS_ONE and error not in SOFT or (call, error) == ("recvfrom", "EAGAIN"))
