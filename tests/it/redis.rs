//! A real redis-server of the test's own: on a free port of the loopback, in a folder of its own, ended with the test.

use crate::rig::{Running, free_port};
use crate::server::eventually;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// See the module's head.
pub(crate) struct Redis {
    running: Option<Running>,
    folder: TempDir,
    pub(crate) port: u16,
    options: Vec<String>,
    tls: bool,
}

/// Whether this host has a redis-server. `tests/run` installs one, and then a test without one has failed.
pub(crate) fn is_here() -> bool {
    let here = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_ok();
    assert!(
        here || std::env::var("WSSON_TESTS_NEED_REDIS").unwrap_or_default().is_empty(),
        "there is no redis-server"
    );
    here
}

impl Redis {
    #[track_caller]
    pub(crate) fn start(options: &[&str]) -> Self {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut redis = Self { running: None, folder, port: free_port(), options, tls: false };
        redis.run();
        redis
    }

    /// The same, with TLS and the certificate for `localhost` of this name in `tests/data`.
    #[cfg(feature = "tls")]
    #[track_caller]
    pub(crate) fn start_tls(certificate: &str) -> Self {
        let file = |end: &str| crate::rig::data(&format!("{certificate}.{end}")).display().to_string();
        let options =
            ["--tls-cert-file", &file("pem"), "--tls-key-file", &file("key"), "--tls-auth-clients", "no"];
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut redis = Self { running: None, folder, port: free_port(), options, tls: true };
        redis.run();
        redis
    }

    /// Starts it (again) on its port.
    #[track_caller]
    pub(crate) fn run(&mut self) {
        let mut command = Command::new("redis-server");
        let port = self.port.to_string();
        let ports = if self.tls {
            ["--port", "0", "--tls-port", &port]
        } else {
            ["--port", &port, "--loglevel", "notice"]
        };
        command.args(ports).args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(self.folder.path()).args(&self.options);
        self.running = Some(Running::start(command.stdout(Stdio::null()).stderr(Stdio::null())));
        eventually("the redis-server answers", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        self.running = None;
    }

    /// `STOP`, `CONT`.
    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        self.running.as_ref().expect("it runs").signal(name);
    }

    /// Its line in a configuration.
    pub(crate) fn url(&self) -> String {
        if self.tls {
            format!("rediss://localhost:{}", self.port)
        } else {
            format!("redis://127.0.0.1:{}", self.port)
        }
    }

    /// Makes a user.
    #[track_caller]
    pub(crate) fn login_of(&self, user: &str, rules: &[&str], password: &str) {
        let answer = self.ask(&format!("AUTH {password}\r\nACL SETUSER {user} {}", rules.join(" ")));
        assert!(answer.starts_with("+OK"), "{answer}");
        assert!(!answer.contains('-'), "{answer}");
    }

    /// Sends a command as text; returns the beginning of what it answers.
    #[track_caller]
    pub(crate) fn ask(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it accepts");
        write!(stream, "{command}\r\n").expect("it reads");
        let mut buffer = [0; 4096];
        let len = stream.read(&mut buffer).expect("it answers");
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    }
}
