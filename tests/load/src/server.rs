//! A server process under measurement: started on the server's core, asked for its CPU and memory, ended.
//!
//! Invariant: when a [`Server`] is dropped its process is gone and its folder too.

use crate::control::Control;
use crate::folder::Folder;
use crate::options::{Kind, Options};
use crate::wire::{ORIGIN, SECRET};
use crate::{Address, Result, sys};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server under valgrind needs seconds to start.
const START_MAX: Duration = Duration::from_secs(60);
/// After which a server that was asked to end is killed.
const STOP_MAX: Duration = Duration::from_secs(20);

pub struct Server {
    pub kind: Kind,
    pub port: u16,
    /// Its logins name users.
    pub has_users: bool,
    control: Address,
    child: Child,
    folder: Folder,
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

impl Server {
    /// Starts it and returns when its control socket answers.
    pub fn start(options: &Options, kind: Kind) -> Result<(Self, Control)> {
        Self::start_under(options, kind, &[])
    }

    /// The same below another program, such as strace, that takes the server's command line as its last arguments.
    pub fn start_under(options: &Options, kind: Kind, wrapper: &[String]) -> Result<(Self, Control)> {
        let folder = Folder::new()?;
        let port = free_port()?;
        let control = match options.control_tcp {
            true => Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?))),
            false => Address::Unix(folder.path().join("control.sock")),
        };
        let mut words: Vec<String> = wrapper.to_vec();
        words.extend(command_line(options, kind, folder.path(), port, &control)?);
        let child = spawn(options, &words, folder.path())?;
        let has_users = options.has_users && kind == Kind::Wsson;
        let mut server = Self { kind, port, has_users, control, child, folder };
        let control = server.wait_ready()?;
        Ok((server, control))
    }

    fn wait_ready(&mut self) -> Result<Control> {
        let deadline = Instant::now() + START_MAX;
        loop {
            if let Ok(control) = self.connect_control() {
                return Ok(control);
            }
            if self.child.try_wait()?.is_some() || Instant::now() > deadline {
                return Err(format!("the server did not start: {}", self.said()).into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn connect_control(&self) -> Result<Control> {
        Control::connect(self.kind, &self.control)
    }

    pub fn address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.port)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn cpu(&self) -> Result<Duration> {
        Ok(sys::cpu_time(self.pid())?)
    }

    /// Resident memory of the process.
    pub fn rss_bytes(&self) -> Result<u64> {
        self.field("smaps_rollup", "Rss:").or_else(|_| self.field("status", "VmRSS:")).map(|kib| kib * 1024)
    }

    /// How often it went to sleep: an idle server stays asleep.
    pub fn sleeps(&self) -> Result<u64> {
        self.field("status", "voluntary_ctxt_switches:")
    }

    /// How often another process took its core away.
    pub fn preempted(&self) -> Result<u64> {
        self.field("status", "nonvoluntary_ctxt_switches:")
    }

    fn field(&self, file: &str, name: &str) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.pid()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such field in /proc")?;
        Ok(line.split_whitespace().next().ok_or("an empty field in /proc")?.parse()?)
    }

    /// The end of what it wrote to standard error, for messages.
    pub fn said(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Asks it to end and waits, so that what runs around it can write its results.
    pub fn stop(mut self) -> Result<()> {
        sys::terminate(self.pid())?;
        let deadline = Instant::now() + STOP_MAX;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                return Err("the server did not end when asked to".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Either may fail only because the process has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command_line(
    options: &Options,
    kind: Kind,
    folder: &Path,
    port: u16,
    control: &Address,
) -> Result<Vec<String>> {
    Ok(match kind {
        Kind::Floor => {
            let own = std::env::current_exe()?.display().to_string();
            vec![own, "floor".into(), format!("tcp://127.0.0.1:{port}"), control.to_string()]
        }
        Kind::Wsson => {
            let file = write_config(options, folder, port, control)?.display().to_string();
            vec![options.binary.display().to_string(), "run".into(), "-c".into(), file]
        }
    })
}

/// Defaults but for the timers, which must not fire while thousands of silent connections are measured.
fn write_config(options: &Options, folder: &Path, port: u16, control: &Address) -> Result<PathBuf> {
    let path = folder.join("wsson.toml");
    let pid = folder.join("wsson.pid");
    let auth = if options.has_users { "[auth]\nidentity = \"user\"\n" } else { "" };
    let on_message = if options.forwards { "forward" } else { "echo" };
    let text = format!(
        "servers = [\"tcp://127.0.0.1:{port}\"]\ncontrol = \"{control}\"\npid = \"{}\"\n\
         secret = \"{SECRET}\"\norigins = [\"{ORIGIN}\"]\non_message = \"{on_message}\"\nlog = \"stderr\"\n\
         [timeouts]\nidle = 3600\ncontrol = 3600\n{auth}",
        pid.display()
    );
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    Ok(path)
}

fn spawn(options: &Options, words: &[String], folder: &Path) -> Result<Child> {
    let stderr = fs::File::create(folder.join("stderr"))?;
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    sys::die_with_parent(&mut command);
    // The child inherits the core it is started on.
    sys::pin(options.server_core)?;
    let child = command.spawn().map_err(|error| format!("{} cannot be started: {error}", words[0]));
    sys::pin(options.generator_core)?;
    Ok(child?)
}
