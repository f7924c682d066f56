//! Starts a server on sockets of its own in a folder of its own, waits until it answers, and ends it with the test.

use crate::rig::{self, Running, Site, WSSON};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use crate::rig::{PATIENCE, data, eventually, free_port, read};

pub(crate) const SECRET: &str = "integration-tests-only-1f7c0e";
pub(crate) const ORIGIN: &str = "https://example.com";

/// The text of the configuration file.
pub(crate) struct Setup {
    site: Site,
    tcp: bool,
    listeners: usize,
    endpoint: Option<Address>,
    /// A second control listener; a path of a Unix socket is relative to the folder.
    control_too: Option<Address>,
    secret: String,
    top: Vec<String>,
    tables: Vec<(&'static str, String)>,
    descriptors: Option<u32>,
    environment: Vec<(&'static str, PathBuf)>,
}

impl Setup {
    /// One Unix listener, a Unix control socket, everything else at its default.
    pub(crate) fn new() -> Self {
        Self {
            site: Site::new(),
            tcp: false,
            listeners: 1,
            endpoint: None,
            control_too: None,
            secret: format!("secret = \"{SECRET}\""),
            top: Vec::new(),
            tables: Vec::new(),
            descriptors: None,
            environment: Vec::new(),
        }
    }

    /// TCP sockets on the loopback device instead of Unix ones.
    pub(crate) fn tcp(mut self) -> Self {
        self.tcp = true;
        self
    }

    pub(crate) fn listeners(mut self, count: usize) -> Self {
        self.listeners = count;
        self
    }

    /// Listens on an address of the test's choice.
    pub(crate) fn endpoint(mut self, address: Address) -> Self {
        self.endpoint = Some(address);
        self
    }

    /// Listens for backends in a second place.
    pub(crate) fn control_too(mut self, address: Address) -> Self {
        self.control_too = Some(address);
        self
    }

    /// The whole line, for secrets that are not [`SECRET`].
    pub(crate) fn secret(mut self, line: &str) -> Self {
        self.secret = line.to_owned();
        self
    }

    /// Another line at the top level in the place of the one for this key.
    pub(crate) fn replace_top(mut self, key: &str, line: &str) -> Self {
        self.top.retain(|other| !other.starts_with(&format!("{key} =")));
        self.top(line)
    }

    /// A file that only its owner may read.
    pub(crate) fn write(&self, name: &str, text: &str) {
        self.site.write(name, text, 0o600);
    }

    /// A line at the top level.
    pub(crate) fn top(mut self, line: &str) -> Self {
        self.top.push(line.to_owned());
        self
    }

    pub(crate) fn echo(self) -> Self {
        self.top("on_message = \"echo\"")
    }

    pub(crate) fn auth(mut self, line: &str) -> Self {
        self.tables.push(("auth", line.to_owned()));
        self
    }

    pub(crate) fn limit(mut self, line: &str) -> Self {
        self.tables.push(("limits", line.to_owned()));
        self
    }

    /// Takes a line of [`Setup::limit`] out again.
    pub(crate) fn without_limit(mut self, line: &str) -> Self {
        self.tables.retain(|(_, other)| other != line);
        self
    }

    /// Listens with TLS, on a port of its own, with a certificate of `tests/data`.
    pub(crate) fn tls(mut self, certificate: &str) -> Self {
        self.install(certificate);
        self.tables.push(("tls", "certificate = \"server.pem\"\nkey = \"server.key\"".to_owned()));
        let port = free_port();
        self.endpoint(Address::Tls(port))
    }

    /// Puts a certificate and its key where [`Setup::tls`] has them.
    pub(crate) fn install(&self, certificate: &str) {
        for end in ["pem", "key"] {
            fs::copy(data(&format!("{certificate}.{end}")), self.path(&format!("server.{end}")))
                .expect("the test's certificates can be copied");
        }
    }

    /// A variable of the server's environment.
    #[cfg_attr(not(all(feature = "bus", feature = "tls")), allow(dead_code))]
    pub(crate) fn variable(mut self, name: &'static str, path: PathBuf) -> Self {
        self.environment.push((name, path));
        self
    }

    /// A line of the section of the bus.
    #[cfg_attr(not(feature = "bus"), allow(dead_code))]
    pub(crate) fn bus(mut self, line: &str) -> Self {
        self.tables.push(("bus", line.to_owned()));
        self
    }

    pub(crate) fn timeout(mut self, line: &str) -> Self {
        self.tables.push(("timeouts", line.to_owned()));
        self
    }

    /// The hard limit of descriptors the server runs under.
    pub(crate) fn descriptors(mut self, count: u32) -> Self {
        self.descriptors = Some(count);
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.site.path(name)
    }

    /// Starts the server and returns when it answers.
    #[track_caller]
    pub(crate) fn start(mut self) -> Server {
        // A free port may be taken by someone else before the server binds it: then another one is tried.
        for _ in 0..5 {
            match self.attempt() {
                Ok(server) => return server,
                Err(again) => self = *again,
            }
            let log = self.site.read("stderr.log");
            if !self.tcp || !log.to_lowercase().contains("in use") {
                panic!("the server did not start; its log:\n{log}");
            }
        }
        panic!("no free port in five attempts");
    }

    fn attempt(self) -> Result<Server, Box<Self>> {
        let (endpoints, control) = self.addresses();
        let mut running = self.spawn(&endpoints, &control);
        let begin = Instant::now();
        while !control.connect().is_ok_and(rig::answers) {
            if running.ended().is_some() || begin.elapsed() > PATIENCE {
                return Err(Box::new(self));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(Server { setup: self, running, endpoints, control, expected_to_end: false })
    }

    /// Starts a server that is expected to refuse, and returns its exit code and what it said.
    #[track_caller]
    pub(crate) fn refuses_to_start(&self) -> (i32, String) {
        let (endpoints, control) = self.addresses();
        let code = self.spawn(&endpoints, &control).code();
        (code.expect("an exit code, not a signal"), self.site.read("stderr.log"))
    }

    fn addresses(&self) -> (Vec<Address>, Address) {
        let address = |name: &str| match self.tcp {
            true => Address::Tcp(free_port()),
            false => Address::Unix(self.path(name)),
        };
        let chosen = self.endpoint.iter().cloned();
        let own = (0..self.listeners).map(|index| address(&format!("server{index}.sock")));
        (chosen.chain(own).collect(), address("control.sock"))
    }

    fn spawn(&self, endpoints: &[Address], control: &Address) -> Running {
        self.write_config(endpoints, control);
        let errors = fs::File::create(self.path("stderr.log")).expect("a file for the log");
        let mut command = match self.descriptors {
            None => Command::new(WSSON),
            Some(count) => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(format!("ulimit -n {count} && exec \"$0\" \"$@\"")).arg(WSSON);
                shell
            }
        };
        command.arg("run").arg("-c").arg(self.path(rig::CONFIG));
        command.envs(self.environment.iter().map(|(name, path)| (name, path)));
        Running::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors))
    }

    pub(crate) fn write_config(&self, endpoints: &[Address], control: &Address) {
        let servers: Vec<String> = endpoints.iter().map(|address| format!("{:?}", address.url())).collect();
        let controls: Vec<String> = [Some(control), self.control_too.as_ref()]
            .into_iter()
            .flatten()
            .map(|c| format!("{:?}", c.url()))
            .collect();
        let controls =
            if controls.len() == 1 { controls[0].clone() } else { format!("[{}]", controls.join(", ")) };
        let mut text = format!("servers = [{}]\ncontrol = {controls}\n", servers.join(", "));
        text += &format!("pid = \"wsson.pid\"\n{}\n", self.secret);
        let has_origins = self.top.iter().any(|line| line.starts_with("origins"));
        if !has_origins {
            text += &format!("origins = [\"{ORIGIN}\"]\n");
        }
        for line in &self.top {
            text += &format!("{line}\n");
        }
        for table in ["auth", "limits", "timeouts", "tls", "bus"] {
            let lines: Vec<&String> =
                self.tables.iter().filter(|(name, _)| *name == table).map(|(_, line)| line).collect();
            if !lines.is_empty() {
                text += &format!("[{table}]\n");
            }
            for line in lines {
                text += &format!("{line}\n");
            }
        }
        self.site.write(rig::CONFIG, &text, 0o600);
    }
}

/// A running server. It is killed when it goes out of scope, and its log is shown when the test failed.
pub(crate) struct Server {
    // Before the folder that it runs in, which goes next.
    running: Running,
    pub(crate) setup: Setup,
    pub(crate) endpoints: Vec<Address>,
    pub(crate) control: Address,
    expected_to_end: bool,
}

impl Server {
    #[track_caller]
    pub(crate) fn connect(&self) -> Socket {
        self.endpoints[0].connect().expect("the endpoint accepts")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.setup.path(name)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// `TERM`, `INT`, `HUP`, `USR1`, `USR2`, `PIPE`.
    #[track_caller]
    pub(crate) fn signal(&mut self, name: &str) {
        self.expected_to_end |= matches!(name, "TERM" | "INT");
        self.running.signal(name);
    }

    /// The exit code of a server that was asked to end.
    #[track_caller]
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        self.running.code()
    }

    /// Starts a server that has ended once more, in the same place.
    #[track_caller]
    pub(crate) fn again(mut self) -> Self {
        let setup = std::mem::replace(&mut self.setup, Setup::new());
        drop(self);
        setup.start()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.running.ended().is_none()
    }

    pub(crate) fn log(&self) -> String {
        self.setup.site.read("stderr.log")
    }

    /// Writes the configuration again with further lines, for a reload.
    pub(crate) fn rewrite_config(&mut self, change: impl FnOnce(Setup) -> Setup) {
        let empty = Setup::new();
        let setup = std::mem::replace(&mut self.setup, empty);
        self.setup = change(setup);
        self.setup.write_config(&self.endpoints, &self.control);
    }

    /// Processor time so far, in hundredths of a second.
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let stat = read(Path::new(&format!("/proc/{}/stat", self.pid())));
        let (_, fields) = stat.rsplit_once(')').expect("a process has a name");
        let times = fields.split_whitespace().skip(11).take(2);
        times.map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
    }

    /// Another program than the test asks it to end.
    pub(crate) fn will_end(&mut self) {
        self.expected_to_end = true;
    }

    /// Resident memory in KiB.
    pub(crate) fn rss_kib(&self) -> u64 {
        let status = read(Path::new(&format!("/proc/{}/status", self.pid())));
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line VmRSS");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number of KiB")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.running.ended();
        if thread::panicking() {
            eprintln!("--- the server's log ---\n{}------------------------", self.log());
        } else if let Some(status) = ended.filter(|_| !self.expected_to_end) {
            panic!("the server ended by itself ({status}); its log:\n{}", self.log());
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Address {
    Tcp(u16),
    /// Connecting to it gives the bare socket.
    Tls(u16),
    Unix(PathBuf),
}

impl Address {
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Tcp(port) => format!("tcp://127.0.0.1:{port}"),
            Self::Tls(port) => format!("tls://127.0.0.1:{port}"),
            Self::Unix(path) => format!("unix://{}", path.display()),
        }
    }

    pub(crate) fn connect(&self) -> io::Result<Socket> {
        let socket = match self {
            Self::Tcp(port) | Self::Tls(port) => {
                let stream = TcpStream::connect(("127.0.0.1", *port))?;
                // Two small writes in a row would wait for the delayed acknowledgement of the first.
                stream.set_nodelay(true)?;
                Socket::Tcp(stream)
            }
            Self::Unix(path) => Socket::Unix(UnixStream::connect(path)?),
        };
        socket.set_timeouts();
        Ok(socket)
    }
}

#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Something on top of a socket, whose timeouts are set.
    #[cfg_attr(not(feature = "tls"), allow(dead_code))]
    Over(Box<dyn Over>),
}

pub(crate) trait Over: Read + Write + Send + std::fmt::Debug {
    fn finish(&self) -> io::Result<()>;
}

impl Socket {
    fn set_timeouts(&self) {
        self.set_patience(PATIENCE);
    }

    /// How long a read or a write waits.
    pub(crate) fn set_patience(&self, patience: Duration) {
        let limit = Some(patience);
        let done = match self {
            Self::Tcp(stream) => stream.set_read_timeout(limit).and(stream.set_write_timeout(limit)),
            Self::Unix(stream) => stream.set_read_timeout(limit).and(stream.set_write_timeout(limit)),
            Self::Over(_) => Ok(()),
        };
        done.expect("timeouts can be set");
    }

    /// Tells the server that nothing more will come.
    #[track_caller]
    pub(crate) fn finish(&self) {
        let done = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            Self::Over(stream) => stream.finish(),
        };
        done.expect("the sending side can be shut down");
    }

    pub(crate) fn duplicate(&self) -> Self {
        match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone().expect("a second handle")),
            Self::Unix(stream) => Self::Unix(stream.try_clone().expect("a second handle")),
            Self::Over(_) => panic!("what is on top of a socket has one handle"),
        }
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.write_all(bytes).expect("the server reads");
    }

    /// Everything up to the end of the connection, which has to come in an orderly way.
    #[track_caller]
    pub(crate) fn read_all(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.read_to_end(&mut bytes) {
            Ok(_) => bytes,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let done = match self {
                Self::Tcp(stream) => stream.read(buffer),
                Self::Unix(stream) => stream.read(buffer),
                Self::Over(stream) => stream.read(buffer),
            };
            // A signal for this process is no answer of the server.
            if !done.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {
                return done;
            }
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Over(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
