//! `wsson check`: is the configuration right, and do the files that it names exist?
//!
//! All mistakes are shown at once. It creates nothing and, without `--bind`, binds nothing: a running server is
//! not disturbed.

use super::args::Args;
use super::{Exit, Failure, Outcome, load, readable, say, warn};
use crate::config::{LogTarget, Settings, TlsFiles};
use crate::daemon::pidfile::{self, State};
use crate::daemon::privileges;
use crate::daemon::supervisor::{Account, Unit};
use crate::net::{Address, BindError, PATIENCE};
use crate::sys::{Access, User};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

pub(crate) fn run(args: &Args) -> Outcome {
    let config = args.config().0;
    let settings = load::for_server(args, has_own_secret(args, &config))?;
    let borrowed = settings.auth.secrets.is_empty().then(|| {
        let path = config.display();
        format!(
            "{path} names no secret: its server is given one by its environment, which is not checked here"
        )
    });
    let account = Unit::account(&config);
    let later = if account.is_none() { readable::later(&settings) } else { Vec::new() };
    let warnings = settings
        .warnings()
        .into_iter()
        .chain(host_warnings(&settings))
        .chain(key_warning(&settings))
        .chain(borrowed)
        .chain(later);
    for warning in warnings {
        warn(&format_args!("wsson: warning: {warning}"));
    }
    let mut wrong = wrong(&settings, account.as_ref());
    let mut exit = Exit::Failed;
    if args.has("bind") {
        for occupied in settings.listeners().filter_map(|text| occupied(text)) {
            exit = if occupied.exit == Exit::NotPermitted { occupied.exit } else { exit };
            wrong.push(occupied.text);
        }
    }
    if args.has("bus") {
        wrong.extend(super::bus::faults(&settings));
    }
    for problem in &wrong {
        warn(&format_args!("wsson: {problem}"));
    }
    if !wrong.is_empty() {
        return Ok(exit);
    }
    say(&format!(
        "# {} is right. These settings hold:\n\n{}",
        args.config().0.display(),
        settings.render_masked()
    ))
}

/// The faults that would keep a server with these settings from starting although the file is right: asked before a
/// running server is ended. `held` are the addresses that it will give up, `account` is the one that systemd starts it
/// as.
pub(crate) fn startable(
    settings: &Settings,
    held: &[String],
    account: Option<&Account>,
) -> Result<(), Failure> {
    let mut wrong = wrong(settings, account);
    wrong.extend(settings.listeners().filter_map(|text| match settings.reuseport || is_held(held, text) {
        true => unusable(text),
        false => occupied(text).map(|failure| failure.text),
    }));
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(Exit::Failed, wrong.join("\nwsson: "))),
    }
}

/// Whether the server of this configuration has a secret that the file does not name: from its unit, or from the
/// environment it was started with.
fn has_own_secret(args: &Args, config: &Path) -> bool {
    let pid = load::addresses(args).ok().and_then(|settings| settings.pid);
    let holder = match pid.map(|path| pidfile::state(&path)) {
        Some(Ok(State::Held(holder))) => load::process_has_secret(holder.pid),
        _ => None,
    };
    holder == Some(true) || Unit::for_configuration(config).is_some_and(|unit| unit.gives_secret())
}

/// A port that is given up is free for every host and protocol.
fn is_held(held: &[String], text: &str) -> bool {
    let port = |text: &str| match Address::parse(text) {
        Ok(Address::Tcp(address) | Address::Tls(address)) => Some(address.port()),
        _ => None,
    };
    held.iter().any(|held| held == text || port(held).is_some_and(|held| port(text) == Some(held)))
}

/// All faults that would keep a server with these settings from starting.
pub(super) fn wrong(settings: &Settings, account: Option<&Account>) -> Vec<String> {
    let mut wrong = Vec::new();
    let unix = settings.listeners().filter_map(|address| address.strip_prefix("unix://"));
    for path in unix.map(Path::new) {
        wrong.extend(bad_folder("the socket", path).or_else(|| bad_socket(path)));
    }
    if let Some(pid) = &settings.pid {
        let bad_file = || bad_file("the PID file", pid, None, Access::ReadWrite);
        wrong.extend(bad_folder("the PID file", pid).or_else(bad_file));
    }
    if settings.log == LogTarget::Syslog && !Path::new("/dev/log").exists() {
        wrong.push(
            "cannot log to syslog: this host has no /dev/log; log = \"PATH\" in the configuration".into(),
        );
    }
    if let LogTarget::File(log) = &settings.log {
        wrong.extend(bad_log(settings, log));
    }
    if let Some(revoked) = &settings.revoked_file {
        wrong.extend(bad_revoked(settings, account, revoked));
    }
    let accounts = bad_accounts(settings);
    if accounts.is_empty() {
        wrong.extend(bad_gift(settings, account));
        wrong.extend(account.into_iter().flat_map(|account| readable::by(account, settings)));
    }
    wrong.extend(accounts);
    if let Some(TlsFiles { certificate, key }) = &settings.tls {
        wrong.extend(crate::net::tls::load(certificate, key).err().filter(|_| cfg!(feature = "tls")));
    }
    wrong
}

/// The log is opened by the user that the server becomes; an unknown one is an error of its own.
fn bad_log(settings: &Settings, log: &Path) -> Option<String> {
    let user = privileges::find(settings.user.as_deref(), settings.group.as_deref()).ok().flatten();
    match log.exists() {
        true => bad_file("the log", log, user, Access::Write),
        false => unusable_folder("the log", log, log.parent()?, user),
    }
}

/// Revoked logins are kept by the user that the server becomes, whose file is replaced by another one in its folder.
fn bad_revoked(settings: &Settings, account: Option<&Account>, file: &Path) -> Option<String> {
    const WHAT: &str = "revoked_file";
    if let Some(why) = account.and_then(|account| account.forbids(file)) {
        return Some(format!("cannot use {} for {WHAT}: {why}", file.display()));
    }
    let (name, group) = match account {
        Some(account) => {
            (Some(&account.user[..]), Some(&account.group[..]).filter(|group| !group.is_empty()))
        }
        None => (settings.user.as_deref(), settings.group.as_deref()),
    };
    let user = privileges::find(name, group).ok().flatten();
    let folder = file.parent()?;
    // Made at the start, for the server's user.
    let made =
        !folder.exists() && (account.is_some_and(|account| account.gets(folder)) || crate::sys::is_root());
    if made {
        return folder
            .parent()
            .filter(|above| !above.is_dir())
            .and_then(|above| unusable_folder(WHAT, file, above, None));
    }
    bad_file(WHAT, file, user, Access::ReadWrite).or_else(|| unusable_folder(WHAT, file, folder, user))
}

/// The folder of a file that will be made. A server that starts as root makes the last folder itself, since /run is
/// empty after every boot.
fn bad_folder(what: &str, file: &Path) -> Option<String> {
    let folder = file.parent()?;
    let made_at_start = crate::sys::is_root() && !folder.exists();
    unusable_folder(what, file, if made_at_start { folder.parent()? } else { folder }, None)
}

/// Why that user cannot make a file in the folder.
fn unusable_folder(what: &str, file: &Path, folder: &Path, user: Option<User>) -> Option<String> {
    let (file, shown) = (file.display(), folder.display());
    let why = match std::fs::metadata(folder) {
        Ok(meta) if !meta.is_dir() => {
            return Some(format!("cannot make {what} {file}: {shown} is not a folder"));
        }
        Ok(_) => privileges::may(user, folder, Access::Make).err()?,
        Err(error) => error,
    };
    Some(format!("cannot make {what} {file}: the folder {shown}: {}", crate::sys::describe(&why)))
}

/// Why an address cannot be listened on now. A port is bound for a moment, a Unix socket is only asked.
fn occupied(text: &str) -> Option<Failure> {
    let cannot = |why: String| Some(Failure::new(Exit::Failed, format!("cannot listen on {text}: {why}")));
    match Address::parse(text) {
        Err(why) => cannot(why),
        Ok(Address::Tcp(address) | Address::Tls(address)) => match crate::sys::listen_tcp(address, false) {
            Ok(_) => None,
            Err(error) => cannot(crate::sys::describe(&error)),
        },
        Ok(Address::Unix(path)) => match crate::sys::connect_unix(&path, PATIENCE) {
            Ok(_) => cannot("a server answers there".into()),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                Some(Failure::new(Exit::NotPermitted, BindError::Hangs(text.into()).to_string()))
            }
            Err(_) => None,
        },
    }
}

/// Why a port could not be listened on even if it was free.
fn unusable(text: &str) -> Option<String> {
    let Ok(Address::Tcp(address) | Address::Tls(address)) = Address::parse(text) else { return None };
    match crate::sys::listen_tcp(address, false) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            Some(format!("cannot listen on {text}: {}", crate::sys::describe(&error)))
        }
        _ => None,
    }
}

/// A dead socket is replaced at start; anything else in its place never.
fn bad_socket(path: &Path) -> Option<String> {
    let meta = std::fs::symlink_metadata(path).ok()?;
    (!meta.file_type().is_socket())
        .then(|| format!("cannot make the socket {}: there is another file", path.display()))
}

fn bad_file(what: &str, path: &Path, user: Option<User>, access: Access) -> Option<String> {
    let kind = std::fs::symlink_metadata(path).ok()?.file_type();
    // A log may be any file that can be written, /dev/full in a test; a PID file is a regular one.
    let why = match kind.is_file() || what == "the log" && !kind.is_dir() {
        false => "it is not a regular file".into(),
        true => crate::sys::describe(&privileges::may(user, path, access).err()?),
    };
    Some(format!("cannot use {} for {what}: {why}", path.display()))
}

/// Names that the host must know: to become them, or to own the sockets.
fn bad_accounts(settings: &Settings) -> Vec<String> {
    let is_user = |name: &str| crate::sys::user(name).map(|user| user.is_some());
    let is_group = |name: &str| crate::sys::group(name).map(|group| group.is_some());
    let checks = [
        bad_account("user", &settings.user, is_user),
        bad_account("group", &settings.group, is_group),
        bad_account("sockets.owner", &settings.sockets.owner, is_user),
        bad_account("sockets.group", &settings.sockets.group, is_group),
    ];
    checks.into_iter().flatten().collect()
}

fn bad_account(key: &str, name: &Option<String>, known: impl Fn(&str) -> io::Result<bool>) -> Option<String> {
    let name = name.as_ref()?;
    let why = match known(name) {
        Ok(true) => return None,
        Ok(false) => "this host does not know it".into(),
        Err(error) => crate::sys::describe(&error),
    };
    Some(format!("cannot use {name:?} for \"{key}\": {why}"))
}

/// Why the sockets cannot be given to the owner that `[sockets]` names: root may give them to anyone, others to groups
/// of their own.
fn bad_gift(settings: &Settings, account: Option<&Account>) -> Option<String> {
    let sockets = &settings.sockets;
    let is_unix = |address: &String| address.starts_with("unix://");
    if !settings.listeners().any(is_unix) {
        return None;
    }
    let giver = Giver::of(account)?;
    let number =
        |name: &Option<String>, find: fn(&str) -> io::Result<Option<u32>>| find(name.as_ref()?).ok()?;
    let uid = number(&sockets.owner, |name| Ok(crate::sys::user(name)?.map(|user| user.uid)));
    let gid = number(&sockets.group, crate::sys::group);
    if uid.is_some_and(|uid| uid != giver.uid) {
        let owner = sockets.owner.as_deref().unwrap_or_default();
        return Some(format!("cannot give the sockets to {owner} (sockets.owner): only root may"));
    }
    if gid.is_some_and(|gid| !giver.groups.contains(&gid)) {
        let group = sockets.group.as_deref().unwrap_or_default();
        return Some(BindError::MayNotGive(group.into()).to_string());
    }
    None
}

/// The account that makes the sockets and is not root.
struct Giver {
    uid: u32,
    groups: Vec<u32>,
}

impl Giver {
    /// `None`: root does, or the host does not know the account, which is an error elsewhere.
    fn of(account: Option<&Account>) -> Option<Self> {
        let Some(account) = account else {
            return (!crate::sys::is_root()).then(|| {
                Some(Self { uid: crate::sys::own_user(), groups: crate::sys::own_groups().ok()? })
            })?;
        };
        let user = crate::sys::user(&account.user).ok()??;
        let gid = crate::sys::group(&account.group).ok().flatten().unwrap_or(user.gid);
        let mut groups = crate::sys::groups_of(&account.user, gid).ok()?;
        groups.extend(account.groups.iter().filter_map(|name| crate::sys::group(name).ok()?));
        (user.uid != 0).then_some(Self { uid: user.uid, groups })
    }
}

/// What this host makes of the settings: they work, and not as well as they may.
pub(super) fn host_warnings(settings: &Settings) -> Vec<String> {
    let mut warnings = certificate_warnings(settings);
    warnings.extend(std::fs::read_to_string(SOMAXCONN).ok().and_then(|text| backlog_warning(&text)));
    warnings
}

/// Where the kernel says how long a listener's backlog may be, in the network namespace of the reader.
const SOMAXCONN: &str = "/proc/sys/net/core/somaxconn";
/// Linux's own default since 5.4. Before it was 128, which a site's browsers fill when all of them come back at once.
const SOMAXCONN_MIN: u32 = 4096;

fn backlog_warning(somaxconn: &str) -> Option<String> {
    let somaxconn: u32 = somaxconn.trim().parse().ok()?;
    (somaxconn < SOMAXCONN_MIN).then(|| {
        format!(
            "net.core.somaxconn is {somaxconn}: no more connections wait to be accepted when all browsers come back at once, \
             others try again a second later. Better: sysctl -w net.core.somaxconn={SOMAXCONN_MIN}"
        )
    })
}

/// The certificate's faults that browsers will find; those that keep it from being used are errors elsewhere.
fn certificate_warnings(settings: &Settings) -> Vec<String> {
    let Some(TlsFiles { certificate, key }) = settings.tls.as_ref().filter(|_| settings.speaks_tls()) else {
        return Vec::new();
    };
    crate::net::tls::load(certificate, key)
        .map_or(Vec::new(), |tls| tls.warnings(crate::daemon::log::now_unix_s()))
}

fn key_warning(settings: &Settings) -> Option<String> {
    let key = &settings.tls.as_ref()?.key;
    let mode = std::fs::metadata(key).ok()?.permissions().mode();
    (mode & 0o004 != 0).then(|| format!("the private key {} can be read by others", key.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_backlog_of_the_host_is_told_with_its_cure() {
        let warning = backlog_warning("128\n").unwrap_or_default();
        assert!(warning.contains("net.core.somaxconn is 128"), "{warning}");
        assert!(warning.ends_with("sysctl -w net.core.somaxconn=4096"), "{warning}");
        for fine in ["4096\n", "65535\n", "", "many\n"] {
            assert_eq!(backlog_warning(fine), None, "{fine}");
        }
    }
}
