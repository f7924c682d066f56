//! From the configuration file to settings that can be served: finding it, reading it, and the secrets' files.
//!
//! Files that decide about logins must not be in other hands: one that others may write is refused, and so is one
//! that holds a secret and that others may read (threats.md row 20).

use super::args::Args;
use super::{Exit, Failure};
use crate::auth::Secret;
use crate::config::{Settings, key_weakness, secret_weakness};
use crate::daemon::supervisor::{SECRET_CREDENTIAL, SECRET_VARIABLE};
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// More than any configuration; a device or a wrong file should not be read for ever.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
/// More than any secret.
const SECRET_BYTES_MAX: u64 = 4096;

/// Settings with their secrets, complete enough to serve.
pub(crate) fn settings(args: &Args) -> Result<Settings, Failure> {
    let settings = with_secrets(args)?;
    match settings.missing() {
        Some(why) => Err(not_configured(format!("{}: {why}", args.config().0.display()))),
        None => Ok(settings),
    }
}

/// Settings for a server that runs with others, and the values that it keeps since they cannot be read again: a secret
/// whose file the server's user may not read, and that the configuration names as before.
pub(crate) fn again(args: &Args, running: &Settings) -> Result<(Settings, Vec<String>), Failure> {
    let (settings, kept) = read_all(args, read_config(&args.config().0)?, Some(running))?;
    match settings.missing() {
        Some(why) => Err(not_configured(format!("{}: {why}", args.config().0.display()))),
        None => Ok((settings, kept)),
    }
}

/// The file as it is.
pub(crate) fn text(args: &Args) -> Result<String, Failure> {
    Ok(read_config(&args.config().0)?.0)
}

/// As [`settings`], from a copy: relative paths are relative to the original.
pub(crate) fn settings_in(args: &Args, copy: &Path) -> Result<Settings, Failure> {
    let settings = read_all(args, read_config(copy)?, None)?.0;
    match settings.missing() {
        Some(why) => Err(not_configured(format!("{}: {why}", copy.display()))),
        None => Ok(settings),
    }
}

/// Settings for judging a file in the place of a server that has an environment of its own. Where the file names no
/// secret, that of the unit or of the running server will do.
pub(crate) fn for_server(args: &Args, has_secret: bool) -> Result<Settings, Failure> {
    let settings = with_secrets(args)?;
    let mut judged = settings.clone();
    if has_secret && judged.auth.secrets.is_empty() {
        judged.auth.secrets.push(Secret::new(b"its own, which it does not tell"));
    }
    match judged.missing() {
        Some(why) => Err(not_configured(format!("{}: {why}", args.config().0.display()))),
        None => Ok(settings),
    }
}

/// The settings of the file, without the secrets that it only names: the server reads those itself. Whether a weak one
/// is accepted is the server's business as well.
pub(crate) fn file(args: &Args) -> Result<Settings, Failure> {
    let (path, _) = args.config();
    let (text, _) = read_config(&path)?;
    parse(&text, &path, false).or_else(|_| parse(&text, &path, true))
}

/// Settings with their secrets; there may be no origin, and no secret either.
pub(crate) fn with_secrets(args: &Args) -> Result<Settings, Failure> {
    read_all(args, read_config(&args.config().0)?, None).map(|(settings, _)| settings)
}

/// Adds the secrets that the text names, or that the environment has instead.
fn read_all(
    args: &Args,
    (text, meta): (String, Metadata),
    running: Option<&Settings>,
) -> Result<(Settings, Vec<String>), Failure> {
    let (path, _) = args.config();
    let mut settings = parse(&text, &path, args.allow_weak())?;
    if !args.allow_weak() {
        refuse_open(&path, &meta, !settings.auth.secrets.is_empty())?;
    }
    if let Some(file) = secret_from_environment(&|name| std::env::var_os(name)) {
        settings.auth.secrets.clear();
        settings.secret_files = vec![args.as_given(file)];
    }
    let weak = settings.allow_weak_secret;
    let read = |what: &'static Kind, files: &[PathBuf]| -> Result<Vec<Secret>, Failure> {
        files.iter().map(|file| read_secret(what, file, weak, args.allow_weak())).collect()
    };
    let secrets = read(&SECRET, &settings.secret_files);
    let keys = read(&CONTROL_KEY, &settings.control_key_files);
    let mut kept = Vec::new();
    match (secrets, running.filter(|running| running.secret_files == settings.secret_files)) {
        (Ok(secrets), _) => settings.auth.secrets.extend(secrets),
        (Err(failure), Some(running)) if failure.exit == Exit::NotPermitted => {
            settings.auth.secrets.clone_from(&running.auth.secrets);
            kept.push(format!("secret_file: {}", failure.text));
        }
        (Err(failure), _) => return Err(failure),
    }
    match (keys, running.filter(|running| running.control_key_files == settings.control_key_files)) {
        (Ok(keys), _) => settings.control_keys = keys,
        (Err(failure), Some(running)) if failure.exit == Exit::NotPermitted => {
            settings.control_keys.clone_from(&running.control_keys);
            kept.push(format!("control_key_file: {}", failure.text));
        }
        (Err(failure), _) => return Err(failure),
    }
    settings.bus.password = match (&settings.bus.password_file, running) {
        // What the bus is made of holds until a restart.
        (_, Some(running)) => running.bus.password.clone(),
        (Some(file), None) => Some(read_password(file, args.allow_weak())?),
        (None, None) => None,
    };
    Ok((settings, kept))
}

/// Settings for a command that only talks to a server: no secret is read, and a host that has no configuration, or
/// one that only the server may read, has the defaults. A file with mistakes elsewhere will do: the server was started
/// with a better one, and its administrators need its status most when the file is bad.
pub(crate) fn addresses(args: &Args) -> Result<Settings, Failure> {
    let (path, named) = args.config();
    match read_config(&path) {
        Ok((text, _)) => {
            parse(&text, &path, true).or_else(|failure| match failure.text.contains("\"control\"") {
                true => Err(failure),
                false => despite_mistakes(&text, &path).ok_or(failure),
            })
        }
        Err(_) if !named => Ok(Settings::default()),
        Err(failure) => Err(failure),
    }
}

/// Settings for ending a server: a file with mistakes will do as long as it names the PID file.
pub(crate) fn to_stop(args: &Args) -> Result<Settings, Failure> {
    addresses(args).or_else(|failure| {
        let (path, _) = args.config();
        let (text, _) = read_config(&path)?;
        despite_mistakes(&text, &path).ok_or(failure)
    })
}

fn despite_mistakes(text: &str, path: &Path) -> Option<Settings> {
    Settings::parse_to_stop(text, path.parent().unwrap_or(Path::new("/")))
}

/// The key to show at a control socket. Whether it is weak, and who may read it, is the server's business.
pub(crate) fn control_key(file: &Path) -> Result<Secret, Failure> {
    read_secret(&CONTROL_KEY, file, true, true)
}

fn not_configured(text: String) -> Failure {
    Failure::new(Exit::NotConfigured, text)
}

fn parse(text: &str, path: &Path, allow_weak: bool) -> Result<Settings, Failure> {
    let base_dir = path.parent().unwrap_or(Path::new("/"));
    let parse = if allow_weak { Settings::parse_allowing_weak } else { Settings::parse };
    parse(text, base_dir).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(|error| format!("{}: {error}", path.display())).collect();
        not_configured(errors.join("\nwsson: "))
    })
}

fn read_config(path: &Path) -> Result<(String, Metadata), Failure> {
    let what = format!("cannot read the configuration {}", path.display());
    let (bytes, meta) = read(path, CONFIG_BYTES_MAX).map_err(|error| unreadable(&what, &error))?;
    let text = String::from_utf8(bytes).map_err(|_| not_configured(format!("{what}: it is not UTF-8")))?;
    Ok((text, meta))
}

fn unreadable(what: &str, error: &io::Error) -> Failure {
    let why = crate::sys::describe(error);
    match error.kind() {
        io::ErrorKind::NotFound => not_configured(format!("{what}: {why}"))
            .or("wsson COMMAND -c FILE, with a copy of conf/wsson.toml"),
        io::ErrorKind::PermissionDenied => {
            Failure::io(what, error).or("the same as root, or as the user that wsson runs as")
        }
        _ => not_configured(format!("{what}: {why}")),
    }
}

/// Reads a regular file; the metadata are those of the file that was read, even if its name points elsewhere meanwhile.
fn read(path: &Path, bytes_max: u64) -> io::Result<(Vec<u8>, Metadata)> {
    let meta = std::fs::metadata(path)?;
    // A pipe would be waited for; it is judged before it is opened, as opening it waits too.
    if !meta.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let file = File::open(path)?;
    let meta = file.metadata()?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::other(format!("it has more than {bytes_max} bytes")));
    }
    Ok((bytes, meta))
}

/// Refuses a file that others may write or, if it holds a secret, read.
fn refuse_open(path: &Path, meta: &Metadata, holds_secret: bool) -> Result<(), Failure> {
    let mode = meta.permissions().mode();
    let may = if mode & 0o002 != 0 {
        "others may change it"
    } else if mode & 0o004 != 0 && holds_secret {
        "it holds a secret that others may read"
    } else {
        return Ok(());
    };
    let path = path.display();
    Err(not_configured(format!("{path} is not safe: {may}"))
        .or(format!("chmod o-rwx {path} (or, for tests, --allow-weak)")))
}

/// The file that replaces the configuration's secret: the one named to a container, or systemd's credential.
fn secret_from_environment(get: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(file) = get(SECRET_VARIABLE).filter(|file| !file.is_empty()) {
        return Some(file.into());
    }
    let credential = Path::new(&get("CREDENTIALS_DIRECTORY")?).join(SECRET_CREDENTIAL);
    // Other credentials may be passed without this one.
    credential.exists().then_some(credential)
}

/// Whether the process was given a secret by its environment. `None`: only root may look, or it has gone.
pub(crate) fn process_has_secret(pid: u32) -> Option<bool> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let variable = |name: &str| {
        let mut lines = environment.split(|byte| *byte == 0);
        lines.find_map(|line| {
            let value = line.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            Some(OsStr::from_bytes(value).to_owned())
        })
    };
    Some(secret_from_environment(&variable).is_some())
}

/// What a file holds, and why it must not be used.
struct Kind {
    name: &'static str,
    weakness: fn(&[u8]) -> Option<&'static str>,
}

static SECRET: Kind = Kind { name: "secret", weakness: secret_weakness };
static CONTROL_KEY: Kind = Kind { name: "control key", weakness: key_weakness };

/// The password for the bus, without the newline at the end.
fn read_password(path: &Path, allow_open: bool) -> Result<Secret, Failure> {
    let what = format!("cannot read bus.password_file {}", path.display());
    let (bytes, meta) = read(path, SECRET_BYTES_MAX).map_err(|error| unreadable(&what, &error))?;
    if !allow_open {
        refuse_open(path, &meta, true)?;
    }
    let password = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    match password.strip_suffix(b"\r").unwrap_or(password) {
        b"" => Err(not_configured(format!("the password in {} is empty", path.display()))),
        password => Ok(Secret::new(password)),
    }
}

/// One newline at the end, which editors and `openssl rand` leave, does not belong to the secret.
fn read_secret(
    kind: &'static Kind,
    path: &Path,
    allow_weak_secret: bool,
    allow_open: bool,
) -> Result<Secret, Failure> {
    let Kind { name, weakness } = kind;
    let what = format!("cannot read the {name} {}", path.display());
    let (bytes, meta) = read(path, SECRET_BYTES_MAX).map_err(|error| {
        let make = format!("(umask 077; openssl rand -base64 24 > {})", path.display());
        match error.kind() {
            io::ErrorKind::NotFound => unreadable(&what, &error).or(make),
            io::ErrorKind::PermissionDenied => unreadable(&what, &error)
                .or("the same as root, or as a member of its group; for the user of a site: adduser www-data wsson"),
            _ => unreadable(&what, &error),
        }
    })?;
    if !allow_open {
        refuse_open(path, &meta, true)?;
    }
    let secret = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
    match weakness(secret) {
        Some(why) if !allow_weak_secret => {
            Err(not_configured(format!("the {name} in {} {why}", path.display())))
        }
        _ if secret.is_empty() => Err(not_configured(format!("the {name} in {} is empty", path.display()))),
        _ => Ok(Secret::new(secret)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_replaces_the_secret() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let credentials = folder.path().as_os_str().to_owned();
        let both = |name: &str| match name {
            "WSSON_SECRET_FILE" => Some("/named".into()),
            _ => Some(credentials.clone()),
        };
        let systemd = |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| credentials.clone());
        assert_eq!(secret_from_environment(&both), Some("/named".into()));
        assert_eq!(secret_from_environment(&systemd), None, "another credential only");
        std::fs::write(folder.path().join("wsson-secret"), "x").expect("the folder is ours");
        assert_eq!(secret_from_environment(&systemd), Some(folder.path().join("wsson-secret")));
        assert_eq!(secret_from_environment(&|_| None), None);
    }
}
