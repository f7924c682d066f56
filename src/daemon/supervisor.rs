//! The unit of systemd that runs a server, and the requests to systemd about it.
//!
//! A server that systemd has started and that is stopped and started by hand would lose its sandbox, its watchdog and its
//! place in the journal, and the next `systemctl restart` would meet a PID file of another user. So the commands
//! of the shell find out whether systemd runs the server, and leave a unit's server to systemd.
//!
//! The kernel names the unit: the control group of the process that holds the PID file's lock. systemd says whether
//! that process is the unit's main one; a job of cron.service that has started a server by hand is not.
//!
//! Invariant: a command inside a unit (`ExecReload=`, `ExecStop=`) never asks systemd for the same unit: that would
//! wait for itself.

use super::{CONFIG_DEFAULT, Exit, Failure};
use crate::sys;
use std::fmt;
use std::fs::read_to_string;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The unit that conf/systemd installs.
const NAME: &str = "wsson.service";

/// The variable that names a file to read the secret from.
pub(crate) const SECRET_VARIABLE: &str = "WSSON_SECRET_FILE";
/// The credential of systemd that is the secret.
pub(crate) const SECRET_CREDENTIAL: &str = "wsson-secret";

/// A unit that runs a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    name: String,
    /// It belongs to the manager of a user, not to that of the system.
    of_user: bool,
}

/// The account that a unit's server has from the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// `User=`.
    pub user: String,
    /// `Group=`, or nothing for that of the user.
    pub group: String,
    /// `SupplementaryGroups=`.
    pub groups: Vec<String>,
    /// The only places that its server may write to, where the unit takes all others away (`ProtectSystem=strict`).
    pub writable: Option<Vec<PathBuf>>,
}

impl Account {
    /// Why the unit does not let its server write there.
    pub(crate) fn forbids(&self, path: &Path) -> Option<String> {
        let places = self.writable.as_ref()?;
        if places.iter().any(|place| path.starts_with(place)) {
            return None;
        }
        let shown: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
        let folder = path.parent().unwrap_or(path).display();
        Some(format!(
            "{NAME} lets the server write to {} only; put it there, or add ReadWritePaths={folder} to the unit \
             (systemctl edit wsson)",
            shown.join(", ")
        ))
    }

    /// Whether systemd makes this folder when it starts the unit.
    pub(crate) fn gets(&self, folder: &Path) -> bool {
        self.writable.iter().flatten().any(|place| place == folder)
    }
}

impl Unit {
    /// The unit whose main process this is. `None`: it is of no unit, or it was started by hand, or we are inside the
    /// unit ourselves.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let unit = in_control_group(&read_to_string(format!("/proc/{pid}/cgroup")).ok()?)?;
        if Self::around_us().as_ref() == Some(&unit) {
            return None;
        }
        match unit.show("MainPID") {
            Some(main) => (main == pid.to_string()).then_some(unit),
            // systemd cannot be asked; the name has to do.
            None => unit.name.starts_with("wsson").then_some(unit),
        }
    }

    /// The unit that is there to serve this configuration, running or not. `None`: there is none, it is disabled, or we
    /// are inside it ourselves.
    pub(crate) fn for_configuration(config: &Path) -> Option<Self> {
        let unit = Self { name: NAME.into(), of_user: false };
        let serves = unit.serves(config) && unit.is_wanted();
        (serves && Self::around_us().as_ref() != Some(&unit)).then_some(unit)
    }

    /// The account that systemd gives to the server of this configuration, if it is systemd that starts it.
    pub(crate) fn account(config: &Path) -> Option<Account> {
        let unit = Self { name: NAME.into(), of_user: false };
        if !unit.serves(config) || !unit.is_wanted() {
            return None;
        }
        let groups = unit.show("SupplementaryGroups").unwrap_or_default();
        Some(Account {
            user: unit.show("User").filter(|user| !user.is_empty())?,
            group: unit.show("Group").unwrap_or_default(),
            groups: groups.split_whitespace().map(str::to_owned).collect(),
            writable: unit
                .show("ProtectSystem")
                .filter(|protects| protects == "strict")
                .map(|_| writable(|property| unit.show(property).unwrap_or_default())),
        })
    }

    /// Whether the unit gives its server a secret that the configuration does not name. Its text is asked: `systemctl
    /// show` has no form for credentials on older hosts.
    pub(crate) fn gives_secret(&self) -> bool {
        let mut command = self.systemctl();
        command.args(["cat", "--", &self.name]).stdin(Stdio::null()).stderr(Stdio::null());
        command.output().is_ok_and(|output| names_secret(&String::from_utf8_lossy(&output.stdout)))
    }

    /// The unit that this process runs in.
    fn around_us() -> Option<Self> {
        in_control_group(&read_to_string("/proc/self/cgroup").ok()?)
    }

    fn serves(&self, config: &Path) -> bool {
        // Where systemd is installed but does not run, systemctl would complain.
        Path::new("/run/systemd/system").is_dir()
            && self.show("LoadState").is_some_and(|state| state == "loaded")
            && self.show("ExecStart").is_some_and(|line| names(&line, config))
    }

    /// Whether systemd starts it at boot or for a socket, or has it running now.
    fn is_wanted(&self) -> bool {
        let is = |property, states: &[&str]| {
            self.show(property).is_some_and(|state| states.contains(&state.as_str()))
        };
        is("UnitFileState", &["enabled", "enabled-runtime", "linked", "linked-runtime"])
            || is("ActiveState", &["active", "activating", "reloading", "failed"])
            || self.show("TriggeredBy").is_some_and(|units| !units.is_empty())
    }

    fn systemctl(&self) -> Command {
        let mut command = Command::new("systemctl");
        if self.of_user {
            command.arg("--user");
        }
        command
    }

    /// A property, as systemd writes it; empty when the unit does not have it. `None`: systemd cannot be asked.
    fn show(&self, property: &str) -> Option<String> {
        let mut command = self.systemctl();
        command.args(["show", "--value", "--property", property, "--", &self.name]);
        let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    }

    /// The command that an administrator types for it.
    pub(crate) fn line(&self, verb: &str) -> String {
        let user = if self.of_user { "--user " } else { "" };
        format!("systemctl {user}{verb} {}", self.name.trim_end_matches(".service"))
    }

    /// Units of the system are root's to start and stop; others get that answer before anything else is looked at.
    pub(crate) fn permit(&self, verb: &str) -> Result<(), Failure> {
        if self.of_user || sys::is_root() {
            return Ok(());
        }
        let text = format!("the server is run by {self}, which only root may {verb}");
        Err(Failure::new(Exit::NotPermitted, text).or(format!("{}, as root", self.line(verb))))
    }

    /// Has systemd do it, and waits.
    pub(crate) fn ask(&self, verb: &str) -> Result<(), Failure> {
        let line = self.line(verb);
        self.permit(verb)?;
        let done = self.systemctl().args([verb, "--", &self.name]).stdin(Stdio::null()).status();
        match done {
            Ok(status) if status.success() => Ok(()),
            Ok(_) => Err(Failure::new(Exit::Failed, format!("{line} failed"))
                .or(format!("journalctl -u {} -n 20, which has the reason", self.name))),
            Err(e) => Err(Failure::io(format!("cannot run {line}"), &e)),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The innermost service in the text of /proc/PID/cgroup. The line of systemd is that of the unified hierarchy or, on
/// older hosts, of the one that is called so.
fn in_control_group(text: &str) -> Option<Unit> {
    let paths = text.lines().filter_map(|line| {
        let (_, line) = line.split_once(':')?;
        let (controllers, path) = line.split_once(':')?;
        matches!(controllers, "" | "name=systemd").then_some(path)
    });
    paths.filter_map(service_in).next()
}

fn service_in(path: &str) -> Option<Unit> {
    let services = || path.split('/').filter(|part| part.ends_with(".service"));
    let manager = |part: &str| part.starts_with("user@");
    let name = services().next_back().filter(|part| !manager(part))?;
    Some(Unit { name: name.into(), of_user: services().any(manager) })
}

/// Whether `ExecStart=`, as systemd shows it, is a server with this configuration.
fn names(line: &str, config: &Path) -> bool {
    let Some(arguments) = line.split("argv[]=").nth(1).and_then(|rest| rest.split(" ;").next()) else {
        return false;
    };
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let flag = words.iter().position(|word| matches!(*word, "-c" | "--config"));
    let named = flag.map_or(Some(CONFIG_DEFAULT), |flag| words.get(flag + 1).copied());
    words.iter().any(|word| *word == "run" || *word == "start") && named.map(Path::new) == Some(config)
}

/// The places that the properties of a unit leave to its server.
fn writable(property: impl Fn(&str) -> String) -> Vec<PathBuf> {
    let roots = [
        ("StateDirectory", "/var/lib"),
        ("LogsDirectory", "/var/log"),
        ("CacheDirectory", "/var/cache"),
        ("RuntimeDirectory", "/run"),
        ("ReadWritePaths", "/"),
    ];
    let mut places = Vec::new();
    for (name, root) in roots {
        let text = property(name);
        // A path may say that it need not be there.
        places.extend(
            text.split_whitespace().map(|place| Path::new(root).join(place.trim_start_matches(['-', '+']))),
        );
    }
    places
}

/// `LoadCredential`, `SetCredential`, `ImportCredential`, `LoadCredentialEncrypted`, `SetCredentialEncrypted`.
fn is_credential(key: &str) -> bool {
    let key = key.strip_suffix("Encrypted").unwrap_or(key);
    ["Load", "Set", "Import"].iter().any(|verb| key.strip_prefix(verb) == Some("Credential"))
}

fn names_secret(unit: &str) -> bool {
    let lines = unit.lines().filter_map(|line| line.trim().split_once('='));
    let mut values = lines.filter_map(|(key, value)| match key.trim_end() {
        "EnvironmentFile" => read_to_string(value.trim().trim_start_matches('-')).ok(),
        key if key == "Environment" || is_credential(key) => Some(value.to_owned()),
        _ => None,
    });
    values.any(|value| value.contains(SECRET_VARIABLE) || value.contains(SECRET_CREDENTIAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, name: Option<(&str, bool)>) {
        let unit = name.map(|(name, of_user)| Unit { name: name.into(), of_user });
        assert_eq!(in_control_group(text), unit);
    }

    #[test]
    fn the_control_group_tells_the_unit() {
        check("0::/system.slice/wsson.service\n", Some(("wsson.service", false)));
        check("0::/system.slice/system-wsson.slice/wsson@1.service\n", Some(("wsson@1.service", false)));
        check("0::/system.slice/wsson.service/.control\n", Some(("wsson.service", false)));
        check(
            "12:pids:/x.service\n1:name=systemd:/system.slice/wsson.service\n",
            Some(("wsson.service", false)),
        );
        check("1:name=systemd:/\n0::/system.slice/wsson.service\n", Some(("wsson.service", false)));
        let user = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/wsson.service";
        check(user, Some(("wsson.service", true)));
    }

    #[test]
    fn a_terminal_and_a_container_are_no_unit() {
        check("0::/user.slice/user-0.slice/session-3.scope\n", None);
        check("0::/user.slice/user-1000.slice/user@1000.service/init.scope\n", None);
        check("0::/system.slice/docker-0123.scope\n", None);
        check("8:pids:/\n0::/\n", None);
        check("", None);
    }

    #[test]
    fn a_unit_is_known_by_its_configuration() {
        let line = "{ path=/usr/bin/wsson ; argv[]=/usr/bin/wsson run -c /etc/wsson/wsson.toml ; ignore_errors=no ; pid=7 }";
        assert!(names(line, Path::new("/etc/wsson/wsson.toml")));
        assert!(!names(line, Path::new("/srv/wsson.toml")));
        assert!(names("{ path=/x ; argv[]=/x run ; }", Path::new("/etc/wsson/wsson.toml")));
        assert!(!names("{ path=/etc/init.d/wsson ; argv[]=/etc/init.d/wsson ; }", Path::new(CONFIG_DEFAULT)));
        assert!(!names("", Path::new(CONFIG_DEFAULT)));
    }

    #[test]
    fn a_unit_may_bring_the_secret() {
        for line in [
            "LoadCredential=wsson-secret:/etc/credstore/x",
            "LoadCredentialEncrypted = wsson-secret",
            "SetCredential=wsson-secret:abc",
            "ImportCredential=wsson-secret",
            "Environment=A=1 WSSON_SECRET_FILE=/etc/x",
            "Environment=\"WSSON_SECRET_FILE=/etc/x\"",
        ] {
            assert!(names_secret(&format!("# /etc/x.service\n[Service]\n{line}\n")), "{line}");
        }
        for line in
            ["#LoadCredential=wsson-secret:/x", "LoadCredential=other:/x", "ExecStart=wsson-secret", ""]
        {
            assert!(!names_secret(line), "{line}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "WSSON_SECRET_FILE=/etc/x\n").unwrap();
        assert!(names_secret(&format!("EnvironmentFile=-{}", file.path().display())));
    }

    #[test]
    fn a_sandbox_leaves_some_places_to_write_to() {
        let places = writable(|property| match property {
            "StateDirectory" => "wsson".into(),
            "RuntimeDirectory" => "wsson other".into(),
            "ReadWritePaths" => "/srv/wsson -/srv/may".into(),
            _ => String::new(),
        });
        let account = Account { writable: Some(places), ..Account::default() };
        for path in ["/var/lib/wsson/revoked", "/run/other/x", "/srv/wsson/a/b", "/srv/may/x"] {
            assert_eq!(account.forbids(Path::new(path)), None, "{path}");
        }
        let said = account.forbids(Path::new("/var/lib/wssonx/revoked")).expect("it is none of them");
        assert!(said.contains("/var/lib/wsson, /run/wsson, /run/other, /srv/wsson, /srv/may only"), "{said}");
        assert!(said.contains("ReadWritePaths=/var/lib/wssonx"), "{said}");
        assert_eq!(Account::default().forbids(Path::new("/x")), None, "all places, as far as the unit goes");
        assert!(account.gets(Path::new("/var/lib/wsson")) && !account.gets(Path::new("/var/lib")));
    }

    #[test]
    fn a_process_of_this_test_is_nobodys_main_process() {
        assert_eq!(Unit::of(std::process::id()), None);
    }
}
