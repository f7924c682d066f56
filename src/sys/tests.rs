use super::*;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};

/// Runs a test's body in a process of its own (this test binary again, with that one test): for tests that change
/// the whole process, like its user, or needs a second one, like a lock.
#[track_caller]
pub(crate) fn alone(test: &str, body: impl FnOnce()) {
    if std::env::var_os("WSSON_TEST_ALONE").is_some() {
        return body();
    }
    let out = child(test).env("WSSON_TEST_ALONE", "1").output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
}

fn child(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command
}

/// A second process that holds the record lock of a file until its input ends.
pub(crate) fn locked_by_child(path: &std::path::Path) -> Child {
    let mut child = child("sys::tests::hold_a_lock")
        .env("WSSON_TEST_LOCK", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("locked")));
    child
}

#[test]
fn hold_a_lock() {
    let Some(path) = std::env::var_os("WSSON_TEST_LOCK") else { return };
    let file = File::options().write(true).open(path).unwrap();
    assert!(lock_record(&file).unwrap());
    println!("locked");
    std::io::stdout().flush().unwrap();
    io::copy(&mut io::stdin(), &mut io::sink()).unwrap();
}

#[test]
fn bytes_that_were_looked_at_are_received_all_the_same() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut buffer = [0; 8];
    let empty = peek(ours.as_fd(), &mut buffer).unwrap_err();
    assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
    assert_eq!(send(theirs.as_fd(), b"hello").unwrap(), 5);
    assert_eq!(peek(ours.as_fd(), &mut buffer[..2]).unwrap(), 2);
    assert_eq!(receive(ours.as_fd(), &mut buffer).unwrap(), 5);
    assert_eq!(&buffer[..5], b"hello");
    drop(theirs);
    assert_eq!(receive(ours.as_fd(), &mut buffer).unwrap(), 0);
    assert_eq!(send(ours.as_fd(), b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn descriptors_are_raised_to_the_hard_limit() {
    let soft = raise_nofile().unwrap();
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|l| l.starts_with("Max open files")).unwrap();
    let hard = line.split_whitespace().nth(4).unwrap();
    assert_eq!(soft.to_string(), hard);
}

#[test]
fn dumps_and_new_privileges_are_forbidden() {
    alone("sys::tests::dumps_and_new_privileges_are_forbidden", || {
        forbid_dumps().unwrap();
        forbid_new_privileges().unwrap();
        // These belong to a thread; those it starts later inherit them.
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        assert!(status.contains("NoNewPrivs:\t1"));
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let core = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"));
        assert_eq!(prctl(libc::PR_GET_DUMPABLE, 0).unwrap(), 0);
    });
}

#[test]
fn the_record_lock_tells_its_holder() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(lock_holder(file.as_file()).unwrap(), None);
    let mut child = locked_by_child(file.path());
    assert_eq!(lock_holder(file.as_file()).unwrap(), Some(child.id()));
    assert!(!lock_record(file.as_file()).unwrap());
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(lock_record(file.as_file()).unwrap());
}

#[test]
fn users_and_groups_are_found_by_name_and_number() {
    assert_eq!(user("root").unwrap(), Some(User { uid: 0, gid: 0 }));
    assert_eq!(group("root").unwrap(), Some(0));
    assert_eq!(user("0").unwrap(), Some(User { uid: 0, gid: 0 }));
    assert_eq!(group("4294967294").unwrap(), Some(4_294_967_294));
    assert_eq!(user("4294967294").unwrap(), None, "whose group would not be known");
    assert_eq!(user("no-such-user").unwrap(), None);
    assert_eq!(group("no-such-group").unwrap(), None);
    assert!(user("a\0b").is_err());
}

#[test]
fn root_is_given_up_for_good() {
    if !is_root() {
        return eprintln!("skipped: not root, so there is nothing to give up");
    }
    alone("sys::tests::root_is_given_up_for_good", || {
        let nobody = User { uid: 65_534, gid: 65_534 };
        become_user(nobody).unwrap();
        assert!(!is_root());
        assert!(become_user(User { uid: 0, gid: 0 }).is_err());
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let field = |name| status.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim();
        assert_eq!(field("Uid:"), "65534\t65534\t65534\t65534");
        assert_eq!(field("Gid:"), "65534\t65534\t65534\t65534");
        assert_eq!(field("Groups:"), "");
        assert_eq!(field("CapEff:"), "0000000000000000");
        assert_eq!(field("CapPrm:"), "0000000000000000");
    });
}

#[test]
fn the_mask_is_set_and_told() {
    alone("sys::tests::the_mask_is_set_and_told", || {
        umask(0o027);
        assert_eq!(umask(0o022), 0o027);
    });
}

#[test]
fn a_process_with_threads_is_not_split() {
    // The test harness has at least two threads.
    assert!(fork().is_err());
}

#[test]
fn a_process_is_signalled_and_its_end_seen() {
    let mut sleeper = Command::new("sleep").arg("60").spawn().unwrap();
    let process = Process::open(sleeper.id()).unwrap();
    assert!(!process.wait(Duration::ZERO).unwrap());
    process.signal(SIGTERM).unwrap();
    assert!(process.wait(Duration::from_secs(10)).unwrap());
    reap(sleeper.id()).unwrap();
    assert!(process.signal(SIGTERM).is_err(), "the number may be another's by now");
    assert!(sleeper.wait().is_err(), "already reaped");
}

#[test]
fn groups_of_processes_are_never_signalled() {
    assert!(Process::open(0).is_err());
    assert!(Process::open(u32::MAX).is_err());
    Process::open(std::process::id()).unwrap().signal(0).unwrap();
}

#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn freed_memory_goes_back_to_the_system() {
    fn resident_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
    alone("sys::tests::freed_memory_goes_back_to_the_system", || {
        let mut blocks: Vec<Vec<u8>> = (0..20_000).map(|_| vec![1; 1000]).collect();
        blocks.drain(..19_999); // the last one keeps the heap from shrinking by itself
        let before = resident_kib();
        return_freed_memory();
        // Under valgrind, which has a heap of its own, nothing goes and nothing comes.
        let gone = before - resident_kib().min(before);
        let valgrind =
            std::env::var_os("LD_PRELOAD").is_some_and(|it| it.to_string_lossy().contains("valgrind"));
        assert!(valgrind || gone > 15_000, "{gone} KiB of 20,000 went");
    });
}

#[test]
fn the_monotonic_clock_does_not_go_back() {
    let first = monotonic_us();
    assert!(first > 0 && monotonic_us() >= first);
}

#[test]
fn a_session_and_standard_streams_of_its_own() {
    alone("sys::tests::a_session_and_standard_streams_of_its_own", || {
        // A group leader cannot start a session; whether we are one depends on the process that started the tests.
        let _ = new_session();
        let null = File::open("/dev/null").unwrap();
        replace_stdio(null.as_fd(), 0).unwrap();
        assert_eq!(std::fs::read_link("/proc/self/fd/0").unwrap().to_str(), Some("/dev/null"));
    });
}

#[test]
fn an_address_is_shared_only_when_asked() {
    for any in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(first) = listen_tcp(any.parse().unwrap(), true) else { continue };
        let address = first.local_addr().unwrap();
        listen_tcp(address, true).unwrap();
        let refused = listen_tcp(address, false).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        std::net::TcpStream::connect(address).unwrap();
    }
}

#[test]
fn the_user_timeout_is_set() {
    let listener = listen_tcp("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    set_tcp_user_timeout(stream.as_fd(), 30_000).unwrap();
    assert_eq!(option(stream.as_fd(), libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT).unwrap(), 30_000);
}

#[test]
fn listening_sockets_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let tcp = listen_tcp("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let unix = UnixListener::bind(folder.path().join("s")).unwrap();
    let stream = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
    assert_eq!(kind_of(tcp.as_fd()), SocketKind::Tcp);
    assert_eq!(kind_of(unix.as_fd()), SocketKind::Unix);
    assert_eq!(kind_of(stream.as_fd()), SocketKind::Other);
    assert_eq!(kind_of(File::open("/dev/null").unwrap().as_fd()), SocketKind::Other);
}

#[test]
fn descriptors_are_inherited_once() {
    alone("sys::tests::descriptors_are_inherited_once", || {
        let null = File::open("/dev/null").unwrap();
        // SAFETY: an open descriptor. Its duplicate is not closed on exec, as those are that a parent hands in.
        let fd = u8::try_from(unsafe { libc::dup(null.as_raw_fd()) }).unwrap();
        assert!(inherit(0, 3).unwrap().is_empty(), "the standard streams are not for taking");
        assert_eq!(inherit(fd, 1).unwrap().len(), 1);
        assert!(inherit(fd, 1).unwrap().is_empty());
    });
}

#[test]
fn descriptors_of_our_own_are_not_inherited() {
    alone("sys::tests::descriptors_of_our_own_are_not_inherited", || {
        let own = File::open("/dev/null").unwrap();
        let fd = u8::try_from(own.as_raw_fd()).unwrap();
        assert_eq!(inherit(fd, 1).unwrap_err(), RawFd::from(fd));
    });
}

#[test]
fn readable_waits_no_longer_than_asked() {
    let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
    assert!(!readable(reader.as_fd(), Duration::from_millis(1)).unwrap());
    drop(writer);
    assert!(readable(reader.as_fd(), Duration::from_secs(10)).unwrap());
}

#[test]
fn errors_are_described_in_words() {
    let denied = io::Error::from_raw_os_error(libc::EACCES);
    assert_eq!(describe(&denied), "permission denied");
    assert_eq!(describe(&io::Error::other("our own")), "our own");
}

#[test]
fn the_groups_of_a_user_have_its_own_group_among_them() {
    let root = user("root").unwrap().expect("there is a root");
    assert!(groups_of("root", root.gid).unwrap().contains(&root.gid));
    assert!(groups_of("root", 4711).unwrap().contains(&4711), "the group that is given is one of them");
    assert!(groups_of("nul\0", 0).is_err());
    // SAFETY: no arguments, cannot fail.
    assert!(own_groups().unwrap().contains(&unsafe { libc::getegid() }));
}

#[test]
fn a_unix_socket_is_connected_to_or_not_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let patience = Duration::from_millis(50);
    assert_eq!(connect_unix(&path, patience).unwrap_err().kind(), io::ErrorKind::NotFound);
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    // No process accepts: the backlog is full at some time.
    let connected: Vec<_> = (0..10_000).map_while(|_| connect_unix(&path, patience).ok()).collect();
    assert!(!connected.is_empty() && connected.len() < 10_000);
    drop(listener);
    let long = folder.path().join("x".repeat(200));
    assert_eq!(connect_unix(&long, patience).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}
