//! operations.md, "Command line" and "Process", through the real binary: start, stop, restart, reload, status, as
//! root and as another user, racing, killed, with full disks and files in the way.
//!
//! Nothing here sleeps to wait for a server: `start` returns when it listens, and slow effects are asked for
//! until a deadline. Every test has a folder of its own and ends what it has started.

mod rig;

use rig::{CONFIG, Ended, PATIENCE, Running, WSSON, eventually, free_port, is_root, signal_to};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Deref;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SECRET: &str = "daemon-tests-only-5e4d1c0b";
/// Debian's nobody and nogroup.
const NOBODY: u32 = 65_534;

/// A folder with a configuration, and all processes that are started with it.
struct Site {
    files: rig::Site,
    top: String,
}

impl Site {
    fn new() -> Self {
        Self::with("")
    }

    /// With more lines at the top of the configuration.
    fn with(top: &str) -> Self {
        let site = Self { files: rig::Site::new(), top: String::new() };
        site.configured(top)
    }

    fn configured(mut self, top: &str) -> Self {
        self.top = top.to_owned();
        self.write(CONFIG, &rig::config(&format!("secret = \"{SECRET}\"\n{top}")), 0o600);
        self
    }

    /// Gives the folder and the configuration to an ordinary user.
    fn given_to(self, user: u32) -> Self {
        fs::set_permissions(self.folder(), fs::Permissions::from_mode(0o755)).expect("the folder is ours");
        for path in [self.folder().to_owned(), self.path(CONFIG)] {
            chown(path, Some(user), Some(user)).expect("root may give files away");
        }
        self
    }

    fn pid_line(&self) -> &str {
        self.top.lines().find(|line| line.starts_with("pid =")).unwrap_or("pid = \"wsson.pid\"")
    }

    #[track_caller]
    fn pid(&self) -> u32 {
        self.read("wsson.pid").trim().parse().expect("a number in the PID file")
    }

    /// Whether the server reads and answers.
    fn answers(&self) -> bool {
        UnixStream::connect(self.path("control.sock")).is_ok_and(rig::answers)
    }

    fn kill(&self, signal: &str) {
        signal_to(self.pid(), signal);
    }

    #[track_caller]
    fn started(self) -> Self {
        self.run(&["start"]).with(0);
        self
    }

    /// A server in the foreground, once it answers.
    #[track_caller]
    fn foreground(&self, prepare: impl FnOnce(&mut Command) -> &mut Command) -> Running {
        let mut command = self.wsson(&["run"]);
        prepare(&mut command);
        let running = Running::start(&mut command);
        eventually("the server answers", || self.answers());
        running
    }
}

impl Deref for Site {
    type Target = rig::Site;

    fn deref(&self) -> &rig::Site {
        &self.files
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // By the lock: a test's own server, whatever the test has done to its PID file and its configuration.
        let _ = fs::write(self.path("stop.toml"), self.pid_line());
        let stopped = rig::wsson(&["stop", "-c"]).arg(self.path("stop.toml")).output();
        assert!(
            std::thread::panicking() || stopped.is_ok_and(|output| output.status.success()),
            "a server is left"
        );
        if std::thread::panicking() {
            eprintln!("--- the log ---\n{}", self.read("wsson.log"));
        }
    }
}

fn gone(pid: u32) -> bool {
    // A child of a test that was not waited for is still in /proc, as a zombie.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

fn proc_field(pid: u32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the server runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the kernel tells it");
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

// ── start, stop, status ──

#[test]
fn start_returns_when_the_server_listens_and_stop_when_it_is_gone() {
    let site = Site::new();
    site.run(&["status"]).with(3);
    site.run(&["start"]).with(0);
    assert!(site.answers(), "start returned too early");
    let pid = site.pid();
    site.run(&["status"]).with(0).says(&format!("pid {pid}"));
    site.run(&["start"]).with(0).says(&format!("a server runs already, with PID {pid}"));
    site.run(&["run"]).with(1).says("a server runs already");
    assert_eq!(site.pid(), pid);
    site.run(&["stop"]).with(0);
    assert!(gone(pid));
    for left in ["wsson.pid", "control.sock", "server.sock"] {
        assert!(!site.path(left).exists(), "{left} was left behind");
    }
    site.run(&["stop"]).with(0).says("no server runs");
    site.run(&["status"]).with(3);
}

#[test]
fn a_detached_server_holds_on_to_nothing() {
    if !is_root() {
        return eprintln!("skipped: nobody else may look into a process that may not be dumped");
    }
    let site = Site::new().started();
    let pid = site.pid();
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).expect("root's view"), PathBuf::from("/"));
    for fd in 0..=2 {
        let target = fs::read_link(format!("/proc/{pid}/fd/{fd}")).expect("an open descriptor");
        assert_eq!(target, PathBuf::from("/dev/null"));
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the server runs");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    assert_ne!(fields[3], pid.to_string(), "a session leader can get a terminal again");
    assert_eq!(fields[4], "0", "it has a terminal");
}

#[test]
fn start_tells_what_prevented_it_and_leaves_nothing() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = other.local_addr().expect("its address");
    let site = Site::with(&format!("servers = [\"unix://server.sock\", \"tcp://{address}\"]"));
    site.run(&["start"]).with(1).says(&format!("cannot listen on tcp://{address}"));
    assert!(!site.path("wsson.pid").exists() && !site.path("server.sock").exists());
    site.run(&["status"]).with(3);
}

#[test]
fn of_fifty_starts_at_once_one_wins_and_all_are_told_the_truth() {
    let site = Site::new();
    let starts: Vec<Child> = (0..50)
        .map(|_| {
            let (out, err) = (Stdio::piped(), Stdio::piped());
            site.wsson(&["start"]).stdout(out).stderr(err).spawn().expect("the binary runs")
        })
        .collect();
    let mut already = 0;
    for start in starts {
        let ended = Ended::from(start.wait_with_output().expect("our own child")).with(0);
        already += usize::from(ended.out.contains("a server runs already"));
    }
    assert_eq!(already, 49);
    assert_eq!(site.read("wsson.log").matches(" info started ").count(), 1);
    assert!(site.answers());
}

#[test]
fn a_killed_server_prevents_nothing() {
    let site = Site::new().started();
    let pid = site.pid();
    site.kill("KILL");
    eventually("it is gone", || gone(pid));
    assert!(site.path("wsson.pid").exists() && site.path("control.sock").exists());
    site.run(&["status"]).with(1).says("PID file");
    site.run(&["stop"]).with(0).says("no server runs");
    site.run(&["reload"]).with(7);
    site.run(&["start"]).with(0);
    assert!(site.answers());
    assert_ne!(site.pid(), pid);
}

#[test]
fn a_server_that_hangs_is_reported_as_unknown() {
    let site = Site::with("[timeouts]\ndrain = 0.1").started();
    site.kill("STOP");
    let status = site.run(&["status"]);
    site.kill("CONT");
    status.with(4).says("no answer");
    site.run(&["stop"]).with(0);
}

#[test]
fn a_recycled_number_is_never_signalled() {
    let site = Site::new();
    let mut bystander = Running::start(Command::new("sleep").arg("600"));
    fs::write(site.path("wsson.pid"), format!("{}\n", bystander.pid())).expect("writable");
    site.run(&["stop"]).with(0).says("no server runs");
    site.run(&["reload"]).with(7);
    site.run(&["restart"]).with(0);
    assert!(bystander.ended().is_none(), "the bystander was hit");
    // Even a running server's file is not believed: the lock is.
    fs::write(site.path("wsson.pid"), format!("{}\n", bystander.pid())).expect("writable");
    site.run(&["stop"]).with(0);
    assert!(!site.answers());
    assert!(bystander.ended().is_none(), "the bystander was hit");
}

#[test]
fn restart_checks_first_and_keeps_the_old_server() {
    let site = Site::new().started();
    let pid = site.pid();
    let good = site.read(CONFIG);
    fs::write(site.path(CONFIG), format!("{good}\ncolour = 1\n")).expect("writable");
    site.run(&["restart"]).with(6).says("colour");
    assert_eq!(site.pid(), pid);
    assert!(site.answers());
    fs::write(site.path(CONFIG), good).expect("writable");
    site.run(&["restart"]).with(0);
    assert_ne!(site.pid(), pid);
    assert!(gone(pid) && site.answers());
}

#[test]
fn restart_keeps_the_old_server_when_the_new_one_could_not_start() {
    let site = Site::new().started();
    let pid = site.pid();
    let good = site.read(CONFIG);
    fs::write(site.path("file"), "").expect("writable");
    for (line, words) in [
        ("log = \"/no/such/folder/x.log\"", "cannot make the log /no/such/folder/x.log"),
        ("user = \"no-such-user\"", "cannot use \"no-such-user\""),
        ("control = \"unix://file\"", "cannot make the socket"),
        // An address for documentation, RFC 5737: no host has it.
        ("servers = \"tcp://192.0.2.1:8099\"", "cannot listen on tcp://192.0.2.1:8099"),
        (
            "servers = \"tls://127.0.0.1:8443\"\n[tls]\ncertificate = \"no.pem\"\nkey = \"no.key\"",
            "cannot read the certificate",
        ),
    ] {
        let key = line.split(' ').next().expect("a word");
        let mut text: String =
            good.lines().filter(|line| !line.starts_with(key)).map(|line| format!("{line}\n")).collect();
        text += line;
        fs::write(site.path(CONFIG), text).expect("writable");
        site.run(&["restart"]).with(1).says(words);
        assert!(site.pid() == pid && site.answers(), "{line} has ended the old server");
    }
    fs::write(site.path(CONFIG), good).expect("writable");
}

#[test]
fn restart_sees_that_a_new_port_is_taken() {
    let site = Site::new().started();
    let pid = site.pid();
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = other.local_addr().expect("an address").port();
    let text = site.read(CONFIG).replace("\"unix://server.sock\"", &format!("\"tcp://127.0.0.1:{port}\""));
    fs::write(site.path(CONFIG), text).expect("writable");
    site.run(&["restart"]).with(1).says("cannot listen on tcp://127.0.0.1");
    assert!(site.pid() == pid && site.answers(), "the old server has ended");
    drop(other);
    site.run(&["restart"]).with(0);
    let pid = site.pid();
    // Its own port is no other's: it will be free, for TLS as well.
    site.run(&["restart"]).with(0);
    assert_ne!(site.pid(), pid);
    if !cfg!(feature = "tls") {
        return;
    }
    let tls = format!(
        "\n[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
        rig::data("curve.pem").display(),
        rig::data("curve.key").display()
    );
    let text = site.read(CONFIG).replace("tcp://", "tls://") + &tls;
    fs::write(site.path(CONFIG), text).expect("writable");
    site.run(&["restart"]).with(0);
}

/// A server whose PID file is called otherwise by now is not taken for none, and not signalled.
#[test]
fn a_server_with_another_pid_file_is_told_and_left_alone() {
    let site = Site::new().started();
    let pid = site.pid();
    let good = site.read(CONFIG);
    for (line, words) in [
        ("pid = \"other.pid\"", "but it does not hold the PID file"),
        ("pid = \"\"", "but the configuration has no `pid`"),
    ] {
        fs::write(site.path(CONFIG), good.replace("pid = \"wsson.pid\"", line)).expect("writable");
        for command in ["stop", "restart"] {
            site.run(&[command]).with(1).says(&format!("a server with PID {pid} answers at")).says(words);
        }
        assert!(site.pid() == pid && site.answers());
    }
    fs::write(site.path(CONFIG), good).expect("writable");
}

/// A browser that has logged in and answers no close frame: the server waits for it while it drains.
fn browser(site: &Site) -> UnixStream {
    let login = site.wsson(&["cookie"]).args(["--format", "header"]).output().expect("the binary runs");
    let cookies = String::from_utf8(login.stdout).expect("UTF-8");
    let mut browser = UnixStream::connect(site.path("server.sock")).expect("it listens");
    browser.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    let head = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: https://example.com\r\n{}\r\n\r\n",
        cookies.trim()
    );
    browser.write_all(head.as_bytes()).expect("it reads");
    let mut answer = [0; 12];
    browser.read_exact(&mut answer).expect("it answers");
    assert_eq!(&answer, b"HTTP/1.1 101");
    browser
}

#[test]
fn whoever_comes_during_a_drain_waits_and_cuts_nobody() {
    const DRAIN: Duration = Duration::from_millis(1500);
    let site = Site::with("[timeouts]\ndrain = 1.5\nclose = 60").started();
    let (pid, _browser) = (site.pid(), browser(&site));
    let begin = Instant::now();
    let mut first = Running::start(&mut site.wsson(&["stop"]));
    eventually("it drains", || site.read("wsson.pid") == format!("{pid}\nstopping\n"));
    site.run(&["status"]).with(4).says(&format!("a server with PID {pid} is stopping"));
    site.run(&["stop"]).with(0);
    assert!(begin.elapsed() >= DRAIN, "the second stop has cut the drain short");
    assert_eq!(first.code(), Some(0));
    assert!(gone(pid) && !site.path("wsson.pid").exists());
}

#[test]
fn a_start_during_a_drain_takes_the_place_when_it_is_free() {
    let site = Site::with("[timeouts]\ndrain = 0.5\nclose = 60").started();
    let (pid, _browser) = (site.pid(), browser(&site));
    site.kill("TERM");
    eventually("it drains", || site.read("wsson.pid").ends_with("stopping\n"));
    let ended = site.run(&["start"]).with(0);
    assert_eq!(ended.out, "", "it says that a server runs already");
    // It lets go of the PID file a moment before it is gone.
    eventually("the old server is gone", || gone(pid));
    assert!(site.answers());
}

#[test]
fn a_relative_configuration_is_found_again_after_leaving_the_folder() {
    let site = Site::new();
    let mut start = Command::new(WSSON);
    start.args(["start", "-c", "wsson.toml"]).current_dir(site.folder());
    Ended::from(start.output().expect("the binary runs")).with(0);
    let text = site.read(CONFIG).replace("example.com", "example.org");
    fs::write(site.path(CONFIG), text).expect("writable");
    site.run(&["reload"]).with(0).says("applied: origins");
}

#[test]
fn a_server_is_stopped_with_a_file_that_has_mistakes_elsewhere() {
    let site = Site::new().started();
    let pid = site.pid();
    let site = site.configured("colour = 1\nservers = 7");
    site.run(&["stop"]).with(0);
    assert!(gone(pid));
}

#[test]
fn check_tells_addresses_that_are_taken_only_when_asked() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("tcp://{}", other.local_addr().expect("its address"));
    let site = Site::with(&format!("servers = [\"{address}\", \"unix://server.sock\"]"));
    site.run(&["check"]).with(0);
    let bind =
        |site: &Site| Ended::from(site.wsson(&["check"]).arg("--bind").output().expect("the binary runs"));
    let ended = bind(&site).with(1).says(&format!("cannot listen on {address}: address already in use"));
    assert!(!ended.err.contains("server.sock"), "{}", ended.err);
    drop(other);
    bind(&site).with(0);
    site.run(&["start"]).with(0);
    bind(&site).with(1).says("server.sock: a server answers there");
    assert!(site.answers());
}

// ── reload ──

#[test]
fn reload_tells_what_it_applied_and_what_needs_a_restart() {
    let site = Site::new().started();
    site.run(&["reload"]).with(0).says("nothing has changed");
    let more =
        "on_message = \"echo\"\nuser = \"daemon\"\nservers = \"unix://other.sock\"\n[timeouts]\nidle = 7";
    let site = site.configured(more);
    let ended = site.run(&["reload"]).with(0);
    assert_eq!(ended.out, "applied: on_message, timeouts.idle\nneeds a restart: servers, user\n");
    assert_eq!(site.run(&["reload"]).with(0).out, "needs a restart: servers, user\n");
    assert!(site.path("server.sock").exists() && !site.path("other.sock").exists());
    assert!(
        site.read("wsson.log").contains("reloaded applied=on_message,timeouts.idle restart=servers,user")
    );
}

#[test]
fn reload_of_a_bad_file_signals_nobody() {
    let site = Site::new().started();
    let site = site.configured("colour = 1");
    site.run(&["reload"]).with(6).says("colour");
    assert!(!site.read("wsson.log").contains("reload"));
}

#[test]
fn a_file_that_only_the_server_cannot_use_changes_nothing() {
    let site = Site::new().started();
    let before = site.read("wsson.log");
    let site = site.configured("log = \"/no/such/folder/wsson.log\"\non_message = \"echo\"");
    site.run(&["reload"]).with(1).says("cannot open the log /no/such/folder/wsson.log");
    let log = site.read("wsson.log");
    assert!(log[before.len()..].contains("reload_failed reason="), "{log}");
    let site = site.configured("on_message = \"echo\"");
    site.run(&["reload"]).with(0).says("applied: on_message");
}

#[test]
fn reload_moves_the_log() {
    let site = Site::new().started();
    let site = site.configured("log = \"./other.log\"");
    site.run(&["reload"]).with(0).says("applied: log");
    assert!(site.read("other.log").contains("reloaded applied=log"));
}

#[test]
fn a_pending_restart_and_a_failed_reload_stay_in_sight() {
    let site = Site::new().started();
    assert!(!site.run(&["status"]).with(0).out.contains("reload"));
    let site = site.configured("servers = \"unix://other.sock\"");
    site.run(&["reload"]).with(0).says("needs a restart: servers");
    site.run(&["status"]).with(0).says("reload      needs a restart: servers");
    let site = site.configured("servers = \"unix://other.sock\"\nlog = \"/no/such/folder/x.log\"");
    site.run(&["reload"]).with(1).says("cannot open the log");
    let status = site.run(&["status"]).with(0);
    status
        .says("reload      failed, and changed nothing: cannot open the log")
        .says("needs a restart: servers");
    let site = site.configured("");
    site.run(&["reload"]).with(0);
    assert!(!site.run(&["status"]).with(0).out.contains("reload"));
}

/// As systemd does it: the first start with a bad file fails, the next serves as before, until the file is mended.
#[test]
fn a_bad_file_takes_a_kept_server_down_for_one_attempt_only() {
    for (bad, words) in [("colour = 1", "unknown key"), ("servers = \"tcp://192.0.2.1:80\"", "cannot listen")]
    {
        let site = Site::new();
        let keep = site.path("kept");
        fs::create_dir(&keep).expect("writable");
        let run = |site: &Site| {
            let mut run = site.wsson(&["run"]);
            Ended::from(run.arg("--keep").arg(&keep).output().expect("the binary runs"))
        };
        let serve = |site: &Site| site.foreground(|run| run.arg("--keep").arg(&keep));
        let end = |mut running: Running, site: &Site| {
            site.kill("TERM");
            assert_eq!(running.code(), Some(0));
        };
        // Nothing is kept yet: the exit code of a bad configuration, after which systemd does not try again.
        let site = site.configured("colour = 1");
        run(&site).with(6).says("colour");
        let site = site.configured("");
        end(serve(&site), &site);
        assert_eq!(fs::metadata(keep.join("served.toml")).expect("it was kept").mode() & 0o777, 0o600);
        let site = site.configured(bad);
        let again = "the next attempt serves with the configuration that served before";
        run(&site).with(1).says(words).says(again);
        let running = serve(&site);
        site.run(&["status"]).with(0).says("failed, and changed nothing: ");
        assert!(site.read("wsson.log").contains("error configuration_refused reason="));
        end(running, &site);
        // A restart with the same file again gives the same error.
        run(&site).with(1).says(again);
        let running = serve(&site);
        let site = site.configured("on_message = \"log\"");
        site.run(&["reload"]).with(0).says("applied: on_message");
        assert!(!site.run(&["status"]).with(0).out.contains("reload"));
        end(running, &site);
        end(serve(&site), &site);
    }
}

/// The secret of the server's own environment, as from a systemd unit: the shell does not have it.
#[test]
fn reload_asks_the_server_that_knows_its_secret() {
    let site = Site::new();
    let text = site.read(CONFIG).replace(&format!("secret = \"{SECRET}\"\n"), "");
    fs::write(site.path(CONFIG), text).expect("writable");
    site.write("secret", SECRET, 0o600);
    site.run(&["start"]).with(6).says("no secret");
    site.run(&["check"]).with(6).says("no secret");
    let start = site.wsson(&["start"]).env("WSSON_SECRET_FILE", site.path("secret")).output();
    Ended::from(start.expect("the binary runs")).with(0);
    let text = site.read(CONFIG) + "[timeouts]\nidle = 7\n";
    fs::write(site.path(CONFIG), text).expect("writable");
    site.run(&["reload"]).with(0).says("applied: timeouts.idle");
    if is_root() {
        site.run(&["check"]).with(0).says("names no secret: its server is given one by its environment");
    }
    // The server reports the files that it cannot read.
    fs::remove_file(site.path("secret")).expect("ours");
    site.run(&["reload"])
        .with(1)
        .says("the server has not reloaded: cannot read the secret")
        .says("the server goes on with what it has");
}

#[test]
fn a_socket_that_was_swept_away_comes_back_with_a_reload() {
    let site = Site::new().started();
    let pid = site.pid();
    for name in ["control.sock", "server.sock"] {
        fs::remove_file(site.path(name)).expect("ours");
    }
    site.run(&["status"]).with(4).says("the file of its control socket has gone").says("wsson reload");
    site.run(&["reload"]).with(0).says("nothing has changed");
    assert!(site.answers() && site.path("server.sock").exists());
    let _browser = browser(&site);
    assert!(
        site.read("wsson.log").contains("warn socket_restored address=unix://"),
        "{}",
        site.read("wsson.log")
    );
    // Not a file that something else has put there.
    fs::remove_file(site.path("server.sock")).expect("ours");
    fs::write(site.path("server.sock"), "precious").expect("writable");
    site.run(&["reload"]).with(0);
    assert!(site.read("wsson.log").contains("error socket_not_restored"), "{}", site.read("wsson.log"));
    assert_eq!(site.read("server.sock"), "precious");
    site.run(&["stop"]).with(0);
    assert!(gone(pid) && !site.path("control.sock").exists());
    assert_eq!(site.read("server.sock"), "precious");
}

// ── files in the way ──

#[test]
fn what_a_power_loss_leaves_prevents_nothing() {
    let site = Site::new();
    fs::write(site.path("wsson.pid"), [0; 6]).expect("writable");
    site.run(&["status"]).with(1).says("not running, but its PID file");
    site.run(&["start"]).with(0);
    assert!(site.answers());
}

/// A server that hangs is ended by its handle; no message names a number to kill, which may be another process.
#[test]
fn a_server_that_hangs_is_ended_by_its_handle() {
    let site = Site::with("[timeouts]\ndrain = 0.1").started();
    let pid = site.pid();
    site.kill("STOP");
    let now = || Ended::from(site.wsson(&["stop"]).arg("--now").output().expect("the binary runs"));
    now().with(0);
    assert!(gone(pid));
    now().with(0).says("no server runs");
}

/// The kernel has no number for a process of another PID namespace: it is not taken for none, nor for process 0.
#[test]
fn a_server_in_another_container_is_told_and_left_alone() {
    let inside = |site: &Site, command: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--kill-child", WSSON, command, "-c"]);
        unshare.arg(site.path(CONFIG)).output().ok().map(Ended::from)
    };
    let site = Site::new();
    match inside(&site, "status") {
        Some(ended) if ended.code == 3 => {}
        _ => return eprintln!("skipped: namespaces of our own are not permitted here"),
    }
    let site = site.started();
    for command in ["stop", "restart", "reload"] {
        let ended = inside(&site, command).expect("it ran before").with(1);
        ended
            .says("a server in another container holds the PID file")
            .says("try: the same command in that container");
    }
    inside(&site, "run")
        .expect("it ran before")
        .with(1)
        .says("a server runs already: a server in another container");
    assert!(site.answers());
}

#[test]
fn a_link_in_place_of_the_pid_file_is_refused() {
    let site = Site::new();
    fs::write(site.path("victim"), "precious").expect("writable");
    symlink(site.path("victim"), site.path("wsson.pid")).expect("a link");
    for command in ["start", "run"] {
        site.run(&[command]).with(1).says("symbolic link");
    }
    site.run(&["stop"]).with(1).says("symbolic link");
    assert_eq!(site.read("victim"), "precious");
    fs::remove_file(site.path("wsson.pid")).expect("ours");
}

#[test]
fn a_full_disk_under_the_pid_file_is_said_and_nothing_is_left() {
    let site = Site::with("pid = \"small/wsson.pid\"");
    fs::create_dir(site.path("small")).expect("writable");
    let small = site.path("small");
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4k", "none"]).arg(&small).output();
    if !mount.is_ok_and(|output| output.status.success()) {
        return eprintln!("skipped: mounting is not permitted here");
    }
    let _unmounted = Mounted(small.clone());
    let filled = File::create(small.join("fill")).and_then(|mut file| file.write_all(&[0; 65_536]));
    assert!(filled.is_err(), "the disk is not full");
    site.run(&["start"]).with(1).says("no space left on device");
    assert!(!site.path("server.sock").exists() && !small.join("wsson.pid").exists());
    fs::remove_file(small.join("fill")).expect("ours");
    site.run(&["start"]).with(0);
    site.run(&["stop"]).with(0);
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_under_the_log_stops_nobody() {
    let site = Site::with("log = \"/dev/full\"").started();
    assert!(site.answers());
    site.run(&["reload"]).with(0);
    site.kill("USR1");
    site.kill("USR2");
    assert!(site.answers());
    site.run(&["stop"]).with(0);
}

#[test]
fn a_log_that_cannot_be_opened_prevents_the_start() {
    let site = Site::with("log = \"/no/such/folder/wsson.log\"");
    site.run(&["start"]).with(1).says("cannot open the log /no/such/folder/wsson.log");
    assert!(!site.path("server.sock").exists() && !site.path("wsson.pid").exists());
}

// ── users ──

#[test]
fn root_is_given_up_for_good() {
    if !is_root() {
        return eprintln!("skipped: not root");
    }
    let site = Site::with("user = \"nobody\"").given_to(NOBODY).started();
    let pid = site.pid();
    assert_eq!(proc_field(pid, "Uid:"), "65534 65534 65534 65534");
    assert_eq!(proc_field(pid, "Gid:"), "65534 65534 65534 65534");
    assert_eq!(proc_field(pid, "Groups:"), "");
    assert_eq!(proc_field(pid, "CapEff:"), "0000000000000000");
    assert_eq!(proc_field(pid, "CapPrm:"), "0000000000000000");
    assert_eq!(proc_field(pid, "NoNewPrivs:"), "1");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("readable by root");
    let core =
        limits.lines().find(|line| line.starts_with("Max core file size")).expect("there is such a limit");
    assert!(core.split_whitespace().skip(4).take(2).eq(["0", "0"]), "{core}");
    let environ = fs::metadata(format!("/proc/{pid}/environ")).expect("readable by root");
    assert_eq!(environ.uid(), 0, "the process may be dumped");
    for name in ["server.sock", "control.sock", "wsson.log"] {
        let meta = fs::metadata(site.path(name)).expect("it exists");
        assert_eq!((meta.uid(), meta.gid()), (NOBODY, NOBODY), "{name}");
    }
    site.run(&["reload"]).with(0).says("nothing has changed");
    site.run(&["stop"]).with(0);
    for left in ["wsson.pid", "control.sock", "server.sock"] {
        assert!(!site.path(left).exists(), "{left} was left behind");
    }
}

#[test]
fn an_ordinary_user_serves_but_does_not_stop_roots_server() {
    if !is_root() {
        return eprintln!("skipped: not root");
    }
    let site = Site::with("user = \"root\"").given_to(NOBODY);
    let as_nobody = |command: &str| {
        let mut wsson = site.wsson(&[command]);
        // The build's folder may be closed to others.
        wsson.uid(NOBODY).gid(NOBODY);
        wsson.output().ok().map(Ended::from)
    };
    let Some(start) = as_nobody("start") else { return eprintln!("skipped: others may not run the binary") };
    start.with(0);
    assert_eq!(proc_field(site.pid(), "Uid:"), "65534 65534 65534 65534");
    site.run(&["stop"]).with(0);
    fs::remove_file(site.path("wsson.log")).expect("ours");
    site.run(&["start"]).with(0);
    assert_eq!(proc_field(site.pid(), "Uid:"), "0 0 0 0");
    for command in ["stop", "reload"] {
        let ended = as_nobody(command).expect("it ran before");
        ended.with(4).says("cannot signal the server");
    }
    assert!(site.answers());
}

/// A server whose configuration `check` refuses does not start, and one that it passes does.
#[test]
fn check_knows_who_may_write_where() {
    if !is_root() {
        return eprintln!("skipped: not root");
    }
    let as_nobody = |site: &Site, command: &str| {
        let mut wsson = site.wsson(&[command]);
        wsson.uid(NOBODY).gid(NOBODY);
        wsson.output().ok().map(Ended::from)
    };
    for (top, words) in [
        (
            "pid = \"/etc/wsson-test.pid\"",
            "cannot make the PID file /etc/wsson-test.pid: the folder /etc: permission denied",
        ),
        (
            "log = \"/etc/wsson-test.log\"",
            "cannot make the log /etc/wsson-test.log: the folder /etc: permission denied",
        ),
        ("log = \"/etc/passwd\"", "cannot use /etc/passwd for the log: permission denied"),
        (
            "control = \"unix:///etc/wsson.sock\"",
            "cannot make the socket /etc/wsson.sock: the folder /etc: permission denied",
        ),
        (
            "revoked_file = \"/etc/wsson-revoked\"",
            "cannot make revoked_file /etc/wsson-revoked: the folder /etc: permission denied",
        ),
        ("revoked_file = \"/etc/passwd\"", "cannot use /etc/passwd for revoked_file: permission denied"),
    ] {
        let site = Site::with(top).given_to(NOBODY);
        let Some(check) = as_nobody(&site, "check") else {
            return eprintln!("skipped: others may not run it");
        };
        check.with(1).says(words);
        as_nobody(&site, "start").expect("it ran before").with(4).says("permission denied");
    }
    // Started as root, the log is the other user's to open.
    let site = Site::with("user = \"nobody\"\nlog = \"own/wsson.log\"").given_to(NOBODY);
    fs::create_dir(site.path("own")).expect("ours");
    site.run(&["check"]).with(1).says("cannot make the log").says("/own: permission denied");
    site.run(&["start"]).with(4).says("cannot open the log");
    chown(site.path("own"), Some(NOBODY), Some(NOBODY)).expect("root may give files away");
    site.run(&["check"]).with(0);
    site.run(&["start"]).with(0);
    // So is the file of revoked logins, and its folder, in which it is replaced.
    let site = Site::with("user = \"nobody\"\nrevoked_file = \"own/revoked\"").given_to(NOBODY);
    site.run(&["check"]).with(0);
    fs::create_dir(site.path("own")).expect("ours");
    let folder = "cannot make revoked_file";
    site.run(&["check"]).with(1).says(folder).says("/own: permission denied");
    site.run(&["start"]).with(4).says("cannot use revoked_file");
    site.write("own/revoked", "", 0o600);
    chown(site.path("own/revoked"), Some(NOBODY), Some(NOBODY)).expect("root may give files away");
    site.run(&["check"]).with(1).says(folder);
    chown(site.path("own"), Some(NOBODY), Some(NOBODY)).expect("root may give files away");
    site.run(&["check"]).with(0);
    site.run(&["start"]).with(0);
}

/// As root a missing folder is made for sockets and the PID file, not for a log.
#[test]
fn check_knows_which_folders_are_made() {
    if !is_root() {
        return eprintln!("skipped: not root");
    }
    let site = Site::with("log = \"none/wsson.log\"");
    site.run(&["check"]).with(1).says("none: no such file or directory");
    site.run(&["start"]).with(1).says("cannot open the log");
    Site::with("pid = \"none/wsson.pid\"").run(&["check"]).with(0);
}

#[test]
fn users_and_groups_that_do_not_exist_are_told() {
    if !is_root() {
        return eprintln!("skipped: not root");
    }
    Site::with("user = \"no-such-user\"").run(&["start"]).with(6).says("there is no user `no-such-user`");
    Site::with("group = \"no-such-group\"").run(&["run"]).with(6).says("there is no group `no-such-group`");
}

#[test]
fn an_ordinary_user_gets_no_privileged_port() {
    if !is_root() {
        return eprintln!("skipped: not root");
    }
    let start = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    if start.trim() == "0" {
        return eprintln!("skipped: every port is free here");
    }
    let site = Site::with("servers = \"tcp://127.0.0.1:81\"").given_to(NOBODY);
    let ended = site.wsson(&["start"]).uid(NOBODY).gid(NOBODY).output();
    Ended::from(ended.expect("others may run the binary"))
        .with(4)
        .says("tcp://127.0.0.1:81: permission denied");
}

#[test]
fn a_missing_folder_below_run_is_made_by_root_and_given() {
    if !is_root() {
        return eprintln!("skipped: not root");
    }
    let top = "user = \"nobody\"\npid = \"run/wsson.pid\"\ncontrol = \"unix://run/control.sock\"";
    let site = Site::with(top).given_to(NOBODY).started();
    let meta = fs::metadata(site.path("run")).expect("it was made");
    assert_eq!((meta.uid(), meta.mode() & 0o7777), (NOBODY, 0o755));
    site.run(&["stop"]).with(0);
    assert_eq!(fs::read_dir(site.path("run")).expect("it is still there").count(), 0);
}

#[test]
fn the_secret_is_nowhere_to_be_seen() {
    let site = Site::new().started();
    let site = site.configured("colour = 1");
    site.kill("HUP");
    eventually("the bad file is reported", || site.read("wsson.log").contains("reload_failed"));
    let site = site.configured("");
    site.run(&["reload"]).with(0);
    site.kill("USR2");
    eventually("the status is logged", || site.read("wsson.log").contains("info status {"));
    let pid = site.pid();
    let mut seen = site.read("wsson.log") + &site.run(&["status"]).out + &site.run(&["check"]).out;
    for file in ["cmdline", "environ"] {
        seen += &String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default());
    }
    assert!(!seen.contains(SECRET));
}

// ── systemd ──

#[test]
fn systemd_is_told_everything() {
    let site = Site::new();
    let manager = UnixDatagram::bind(site.path("notify")).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    let hears = || {
        let mut buffer = [0; 500];
        let len = manager.recv(&mut buffer).expect("the server says something");
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    };
    let path = site.path("notify");
    let mut running = site.foreground(|run| run.env("NOTIFY_SOCKET", path).env("WATCHDOG_USEC", "100000"));
    let said = hears();
    assert!(said.starts_with(&format!("READY=1\nMAINPID={}\n", running.pid())), "{said}");
    let next = |words: &str| {
        let begin = Instant::now();
        while !hears().starts_with(words) {
            assert!(begin.elapsed() < PATIENCE, "{words} was not said");
        }
    };
    next("WATCHDOG=1");
    next("STATUS=Serving 0 clients");
    site.kill("HUP");
    next("RELOADING=1\nMONOTONIC_USEC=");
    next("READY=1\n");
    let guest = UnixStream::connect(site.path("server.sock")).expect("it listens"); // and keeps it from ending at once
    site.kill("TERM");
    next("STOPPING=1\n");
    signal_to(running.pid(), "HUP");
    manager.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout can be set");
    let mut buffer = [0; 500];
    while let Ok(len) = manager.recv(&mut buffer) {
        let said = String::from_utf8_lossy(&buffer[..len]).into_owned();
        assert!(!said.contains("READY") && !said.contains("RELOADING"), "a server that stops says {said}");
    }
    drop(guest);
    assert_eq!(running.code(), Some(0));
}

#[test]
fn signals_that_arrive_together_come_in_order() {
    let site = Site::with("log = \"./wsson.log\"").started();
    let pid = site.pid();
    site.kill("STOP");
    eventually("it is stopped", || proc_field(pid, "State:").starts_with('T'));
    for signal in ["HUP", "USR2", "TERM"] {
        site.kill(signal);
    }
    site.kill("CONT");
    eventually("it ends", || site.read("wsson.log").contains(" stopped"));
    let log = site.read("wsson.log");
    let at = |word: &str| log.find(word).unwrap_or_else(|| panic!("no {word} in {log}"));
    assert!(at("reloaded ") < at("status ") && at("status ") < at("stopping "), "{log}");
}

#[test]
fn the_journal_gets_priorities() {
    let site = Site::with("log = \"stderr\"");
    let stderr = File::create(site.path("journal")).expect("writable");
    let meta = stderr.metadata().expect("an open file");
    let stream = format!("{}:{}", meta.dev(), meta.ino());
    let running = site.foreground(|run| run.env("JOURNAL_STREAM", stream).stderr(stderr));
    eventually("the start is logged", || site.read("journal").contains("started"));
    let journal = site.read("journal");
    assert!(
        journal.lines().all(|line| line.starts_with("<4>warn ") || line.starts_with("<6>info ")),
        "{journal}"
    );
    drop(running);
}

/// Opens two sockets as systemd does, then becomes the program in its arguments.
const SOCKET_UNIT: &str = "
import os, socket, sys
folder, tcp = sys.argv[1], socket.socket()
tcp.bind(('127.0.0.1', 0)); tcp.listen()
unix = socket.socket(socket.AF_UNIX); unix.bind(folder + '/control.sock'); unix.listen()
fds = [os.dup(tcp.fileno()), os.dup(unix.fileno())]
with open(folder + '/wsson.toml', 'a') as f: f.write('servers = \"tcp://127.0.0.1:%d\"\\n' % tcp.getsockname()[1])
with open(folder + '/port', 'w') as f: f.write(str(tcp.getsockname()[1]))
spare = [os.dup2(fd, 20 + i) for i, fd in enumerate(fds)]
for i, fd in enumerate(spare): os.dup2(fd, 3 + i, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2', LISTEN_FDNAMES='web:control')
os.execv(sys.argv[2], sys.argv[2:])
";

#[test]
fn sockets_that_systemd_opened_are_used_and_left_alone() {
    let site = Site::with("servers = \"\"");
    let mut text = site.read(CONFIG).replace("servers = \"\"\n", "");
    if is_root() {
        fs::set_permissions(site.folder(), fs::Permissions::from_mode(0o755)).expect("ours");
        fs::write(site.path("wsson.log"), "").expect("ours");
        chown(site.path("wsson.log"), Some(NOBODY), None).expect("root may");
        text += "user = \"nobody\"\n";
    }
    fs::write(site.path(CONFIG), text).expect("writable");
    let mut python = Command::new("python3");
    python.args(["-c", SOCKET_UNIT]).arg(site.folder()).arg(WSSON);
    let Ok(child) = python.args(["run", "-c"]).arg(site.path(CONFIG)).spawn() else {
        return eprintln!("skipped: there is no python3 to open sockets like systemd");
    };
    let mut running = Running::from(child);
    eventually("the server answers", || site.answers());
    let port: u16 = site.read("port").parse().expect("a port");
    let mut browser = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    browser.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    browser.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("it reads");
    let mut answer = [0; 12];
    browser.read_exact(&mut answer).expect("it answers");
    assert_eq!(&answer, b"HTTP/1.1 426", "it wants an upgrade");
    let owner = fs::metadata(site.path("control.sock")).expect("it is there").uid();
    assert_eq!(owner, fs::metadata(site.folder()).expect("ours").uid(), "systemd says whose it is");
    site.kill("TERM");
    assert_eq!(running.code(), Some(0));
    assert!(site.path("control.sock").exists(), "the file belongs to systemd");
}

/// Without the secret of the configuration: a test gives another one.
fn without_secret(site: &Site) {
    let text: Vec<String> =
        site.read(CONFIG).lines().filter(|line| !line.starts_with("secret")).map(str::to_owned).collect();
    fs::write(site.path(CONFIG), text.join("\n") + "\n").expect("writable");
}

#[test]
fn a_relative_secret_file_is_found_again() {
    let site = Site::new();
    without_secret(&site);
    site.write("hidden", SECRET, 0o600);
    let mut start = site.wsson(&["start"]);
    start.env("WSSON_SECRET_FILE", "hidden").current_dir(site.folder());
    Ended::from(start.output().expect("the binary runs")).with(0);
    site.run(&["reload"]).with(0).says("nothing has changed");
}

/// The secret and the key are read as root and never again: values that were not to change stay as they are.
#[test]
fn what_only_root_may_read_is_kept_at_a_reload() {
    if !is_root() {
        return eprintln!("skipped: not root");
    }
    let tls = cfg!(feature = "tls");
    let port = free_port();
    let servers = if tls { format!("tls://127.0.0.1:{port}") } else { "unix://server.sock".into() };
    let site = Site::with(&format!("user = \"nobody\"\nservers = \"{servers}\"\nsecret_file = \"hidden\""))
        .given_to(NOBODY);
    let text = site.read(CONFIG).replace(&format!("secret = \"{SECRET}\"\n"), "");
    let section = if tls { "[tls]\ncertificate = \"curve.pem\"\nkey = \"curve.key\"\n" } else { "" };
    fs::write(site.path(CONFIG), text.clone() + section).expect("writable");
    for name in ["curve.pem", "curve.key"] {
        fs::copy(rig::data(name), site.path(name)).expect("the tests' data");
    }
    fs::write(site.path("hidden"), SECRET).expect("writable");
    for name in ["hidden", "curve.key"] {
        fs::set_permissions(site.path(name), fs::Permissions::from_mode(0o600)).expect("ours");
    }
    let told = site.run(&["check"]).with(0);
    assert!(told.err.contains("nobody cannot read the secret"), "{}", told.err);
    assert_eq!(told.err.contains("nobody cannot read the key of the certificate"), tls, "{}", told.err);
    site.run(&["start"]).with(0);
    let text = text.replace("https://example.com", "https://example.org");
    fs::write(site.path(CONFIG), text.clone() + section).expect("writable");
    let told = site.run(&["reload"]).with(0).says("applied: origins");
    assert!(
        told.out.contains("kept as it was, until a restart: secret_file: cannot read the secret"),
        "{}",
        told.out
    );
    assert_eq!(
        told.out.contains("kept as it was, until a restart: tls: cannot read the key"),
        tls,
        "{}",
        told.out
    );
    assert!(site.read("wsson.log").contains("warn kept_as_it_was reason=\"secret_file: cannot read"));
    // Another secret is asked for and cannot be read: that is a failure, and changes nothing.
    fs::copy(site.path("hidden"), site.path("other")).expect("ours");
    fs::write(site.path(CONFIG), text.replace("hidden", "other") + section).expect("writable");
    site.run(&["reload"]).with(1).says("cannot read the secret");
}

#[test]
fn sockets_that_were_not_handed_in_are_not_taken() {
    let site = Site::new();
    for (fds, words) in
        [("7", "descriptor 3 was not handed in"), ("300", "LISTEN_FDS=\"300\" is no number of sockets")]
    {
        let mut shell = Command::new("sh");
        shell.args(["-c", "LISTEN_PID=$$ LISTEN_FDS=$3 exec \"$1\" run -c \"$2\"", "sh"]);
        shell.arg(WSSON).arg(site.path(CONFIG)).arg(fds);
        Ended::from(shell.output().expect("there is a shell")).with(1).says(words);
    }
    assert!(!site.path("wsson.pid").exists());
}

/// A Unix socket with a full backlog that no program accepts from: as a stopped or stuck server looks to clients.
const HANGING: &str = "
import socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen(0)
waiting = []
while True:
    waiting.append(socket.socket(socket.AF_UNIX))
    waiting[-1].setblocking(False)
    try: waiting[-1].connect(sys.argv[1])
    except BlockingIOError: break
print('full', flush=True)
sys.stdin.read()
";

#[test]
fn a_server_that_hangs_is_told_within_seconds() {
    let site = Site::new();
    let mut python = Command::new("python3");
    python.args(["-c", HANGING]).arg(site.path("control.sock"));
    let Ok(mut child) = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
        return eprintln!("skipped: there is no python3 to hang like a server");
    };
    let mut full = [0; 4];
    child.stdout.as_mut().expect("it is piped").read_exact(&mut full).expect("it fills the backlog");
    let _hanging = Running::from(child);
    // Not restart at the same time: it would end the server that start is starting.
    site.run(&["restart"]).with(4).says("has not answered for 5 seconds: it is stopped or stuck");
    let asked = ["status", "send", "start", "check"].map(|command| {
        let mut wsson = site.wsson(&[command]);
        match command {
            "send" => wsson.args(["--all", "hello"]),
            "check" => wsson.arg("--bind"),
            _ => &mut wsson,
        };
        (command, std::thread::spawn(move || wsson.output().expect("the binary runs")))
    });
    for (command, asked) in asked {
        let ended = Ended::from(asked.join().expect("no panic"));
        assert_eq!(ended.code, 4, "{command}: {}{}", ended.out, ended.err);
        ended.says("has not answered for 5 seconds: it is stopped or stuck");
    }
    assert!(site.path("control.sock").exists(), "it is not taken for dead");
}

/// `[::]` is IPv6 alone, as nginx has it: before, the second was "another server".
#[test]
fn both_protocols_may_have_one_port() {
    if TcpListener::bind("[::1]:0").is_err() {
        return eprintln!("skipped: there is no IPv6 here");
    }
    let port = free_port();
    for order in [["0.0.0.0", "[::]"], ["[::]", "0.0.0.0"]] {
        let servers = order.map(|host| format!("\"tcp://{host}:{port}\"")).join(", ");
        let site = Site::with(&format!("servers = [{servers}]")).started();
        for host in ["127.0.0.1", "::1"] {
            TcpStream::connect((host, port)).expect("it listens");
        }
        site.run(&["stop"]).with(0);
    }
}

/// A log without a reader is no log: the start says so, as does `check`.
#[test]
fn without_a_syslog_it_does_not_start_in_silence() {
    if Path::new("/dev/log").exists() {
        return eprintln!("skipped: this host has a syslog");
    }
    for (log, checked) in [("syslog", 1), ("stderr", 0)] {
        let site = Site::with(&format!("log = \"{log}\""));
        site.run(&["check"]).with(checked);
        let told = site.run(&["start"]).with(1).says("cannot log to syslog at /dev/log");
        assert!(told.err.contains("try: log = \"PATH\""), "{}", told.err);
        assert!(!site.path("wsson.pid").exists() && !site.path("control.sock").exists());
    }
}

// ── SysV init ──

#[test]
fn the_init_script_passes_the_word_on() {
    let site = Site::new();
    let script = |action: &str| {
        let mut sh = Command::new("sh");
        sh.arg(rig::source("conf/init.d/wsson")).arg(action);
        sh.env("WSSON", WSSON).env("WSSON_CONFIG", site.path(CONFIG));
        Ended::from(sh.output().expect("there is a shell"))
    };
    script("status").with(3);
    script("try-restart").with(0);
    assert!(!site.answers());
    script("start").with(0);
    script("start").with(0);
    script("status").with(0);
    let pid = site.pid();
    script("force-reload").with(0);
    script("restart").with(0);
    script("try-restart").with(0);
    assert_ne!(site.pid(), pid);
    script("stop").with(0);
    script("stop").with(0);
    script("reload").with(7);
    assert_eq!(script("dance").code, 2);
}
