//! The forms of single values: addresses, origins, sizes, paths, names.
//!
//! Each function takes the text between the quotes and gives it back checked and in one form, or a sentence that says
//! the right form. `core::net` is used for the shape of addresses only; nothing here opens or resolves anything.

use super::{LogTarget, Redis};
use crate::auth::{Rules, parse_origin};
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const GIB: usize = 1024 * MIB;

/// `sun_path` of Linux has 108 bytes, the last of which is NUL; other systems have a few less and say so at bind.
const UNIX_PATH_BYTES_MAX: usize = 107;

/// The address of a listener, for browsers or for backends.
pub(super) fn listener(text: &str, base_dir: &Path) -> Result<String, String> {
    match text.split_once("://") {
        Some((scheme @ ("tcp" | "tls"), rest)) => Ok(format!("{scheme}://{}", socket(text, rest)?)),
        Some(("unix", rest)) => unix(rest, base_dir),
        _ => Err(format!("{text:?} must start with tcp://, tls:// or unix://")),
    }
}

/// A name would be resolved by the network at every start; only `localhost` means the same everywhere.
fn socket(text: &str, rest: &str) -> Result<SocketAddr, String> {
    if let Some(port) = rest.strip_prefix("localhost:").and_then(|port| port.parse().ok()) {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    rest.parse().map_err(|_| {
        let scheme = text.split("://").next().unwrap_or("tcp");
        format!(
            "{text:?} must be an IP address and a port, like {scheme}://127.0.0.1:8099 or {scheme}://[::1]:8099"
        )
    })
}

fn unix(rest: &str, base_dir: &Path) -> Result<String, String> {
    let path = path(rest, base_dir)?;
    let path = path.to_str().ok_or("the folder's name is not UTF-8")?;
    if path.len() > UNIX_PATH_BYTES_MAX {
        return Err(format!("the path has {} bytes; a Unix socket allows {UNIX_PATH_BYTES_MAX}", path.len()));
    }
    Ok(format!("unix://{path}"))
}

/// Where a Redis is. `core` cannot look a name up, and nothing here does.
pub(super) fn redis(text: &str, _: &Path) -> Result<Redis, String> {
    let like = "an instance is like redis://10.0.0.5:6379, or rediss://redis.internal:6379 for TLS";
    let (scheme, rest) = text.split_once("://").ok_or_else(|| format!("{text:?}: {like}"))?;
    let tls = match scheme {
        "redis" => false,
        "rediss" => true,
        _ => return Err(format!("{text:?}: {like}")),
    };
    // What stands before the @ is not shown.
    if rest.contains('@') {
        return Err(
            "a user and a password do not stand in bus.redis: use bus.user and bus.password_file".into()
        );
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !rest.ends_with(']') => {
            (host, port.parse().map_err(|_| format!("{text:?}: {like}"))?)
        }
        _ => (rest, REDIS_PORT),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match bare {
        Some(address) => address.parse::<core::net::Ipv6Addr>().is_ok(),
        None => !host.contains(':') && host_name(host).is_ok(),
    };
    if !is_host || port == 0 {
        return Err(format!("{text:?}: {like}"));
    }
    Ok(Redis { host: bare.unwrap_or(host).to_ascii_lowercase(), port, tls })
}

/// Where a Redis listens unless it is told otherwise.
const REDIS_PORT: u16 = 6379;

/// A user of a Redis: its ACLs have names without blanks.
pub(super) fn redis_user(text: &str) -> Result<String, String> {
    match !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => {
            Err(format!("{text:?} is not a user of a Redis: 1 to 64 printable characters without blanks"))
        }
    }
}

/// The beginning of the names of channels.
pub(super) fn bus_name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    match (1..=32).contains(&text.len()) && text.bytes().all(fits) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} must be 1 to 32 letters, digits, or _ - .")),
    }
}

/// A path, taken from `base_dir` when it is relative; `.` is dropped so that equal paths are equal strings.
pub(super) fn path(text: &str, base_dir: &Path) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("the path is empty".into());
    }
    if text.contains('\0') {
        return Err("a path cannot contain NUL".into());
    }
    Ok(base_dir.join(text).components().collect())
}

/// Where the log goes. A path needs a slash, so that a mistyped "syslog" does not become a file.
pub(super) fn log_target(text: &str, base_dir: &Path) -> Result<LogTarget, String> {
    match text {
        "stderr" => Ok(LogTarget::Stderr),
        "syslog" => Ok(LogTarget::Syslog),
        name if name.contains('/') => path(name, base_dir).map(LogTarget::File),
        _ => Err(format!("{text:?} must be \"stderr\", \"syslog\", or a path with a slash in it")),
    }
}

/// The answer to `m`. It goes over the wire as it is, so only printable ASCII, and no scheme: the page adds ws or wss.
pub(super) fn domain(text: &str) -> Result<String, String> {
    if text.contains("://") {
        return Err(format!("{text:?} must be a host and port without a scheme, like ws1.example.com:8099"));
    }
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("{text:?} must be a host and port, like ws1.example.com:8099"));
    }
    Ok(text.to_owned())
}

/// The name of a host, in lower case, without a port.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    match text.bytes().all(fits) && !text.is_empty() {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(format!("{text:?} must be a host name without scheme and port, like push.internal")),
    }
}

/// An origin in the form in which a browser sends it (RFC 6454 section 6.2).
pub(super) fn origin(text: &str) -> Result<String, String> {
    // Pages opened from a file are "null" in browsers, but "file://" in the web views of some mobile systems.
    if text == "file://" {
        return Ok(text.to_owned());
    }
    if text.starts_with("ws://") || text.starts_with("wss://") {
        return Err(format!("{text:?} is no origin: it is the page that has one, like https://example.com"));
    }
    parse_origin(text).map_err(|why| format!("{text:?} is no origin like https://example.com: {why}"))
}

/// A proxy: one address, or a block in CIDR notation.
pub(super) fn network(text: &str) -> Result<String, String> {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
    if text == "unix" {
        return Ok(text.to_owned());
    }
    let wrong = || format!("{text:?} must be an IP address or a block, like 10.0.0.0/8, or \"unix\"");
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let bits_max = if address.is_ipv4() { 32 } else { 128 };
    let Some(prefix) = prefix else { return Ok(address.to_string()) };
    match prefix.parse::<u8>() {
        Ok(bits) if bits <= bits_max && prefix.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(format!("{address}/{bits}"))
        }
        _ => Err(wrong()),
    }
}

/// The name of a user or a group, or its number.
pub(super) fn account(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_graphic() && !b":/,".contains(&byte);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(allowed) {
        return Err(format!("{text:?} is not a name of a user or group"));
    }
    Ok(text.to_owned())
}

/// The prefix of names of groups. An empty one would make every group public, which must not happen by accident.
pub(super) fn group_prefix(text: &str) -> Result<String, String> {
    if !Rules::is_group(text) {
        return Err(format!("{text:?} begins no group: 1 to 64 letters, digits, or _ - . @ + : /"));
    }
    Ok(text.to_owned())
}

/// RFC 6265 section 4.1.1: a cookie's name is a token of HTTP.
pub(super) fn cookie_name(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(allowed) {
        return Err(format!("{text:?} is not a cookie's name: 1 to 64 letters, digits, or !#$%&'*+-.^_`|~"));
    }
    Ok(text.to_owned())
}

/// Permissions, as chmod takes them. A string, since a TOML integer 0660 would be an error and 660 a trap.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    let wrong = || format!("{text:?} must be permissions in octal, like \"0660\"");
    let digits = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = u32::from_str_radix(text, 8).map_err(|_| wrong())?;
    if !digits || mode > 0o777 {
        return Err(wrong());
    }
    if mode & 0o200 == 0 {
        return Err(format!("{text:?} does not let the owner write, so no program could connect"));
    }
    Ok(mode)
}

/// A path of a URL, without a query; empty for none.
pub(super) fn url_path(text: &str) -> Result<String, String> {
    let is_path = text.starts_with('/')
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?' && byte != b'#');
    if is_path || text.is_empty() {
        return Ok(text.to_owned());
    }
    Err(format!("must be a path like \"/healthz\", or \"\" for none, not {text:?}"))
}

/// `64 KiB`, `1 MiB`, `512 B`, `4096`. Only binary units: 64 kB would be read as either by half of the readers.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let wrong = || format!("must be a size like \"64 KiB\" (B, KiB, MiB, GiB), not {text:?}");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_bytes = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => KIB,
        "MiB" => MIB,
        "GiB" => GIB,
        _ => return Err(wrong()),
    };
    let number: usize = number.parse().map_err(|_| wrong())?;
    number.checked_mul(unit_bytes).ok_or_else(wrong)
}

/// The shortest exact form of a size.
pub(super) fn show_size(bytes: usize) -> String {
    match bytes {
        0 => "0 B".into(),
        _ if bytes % GIB == 0 => format!("{} GiB", bytes / GIB),
        _ if bytes % MIB == 0 => format!("{} MiB", bytes / MIB),
        _ if bytes % KIB == 0 => format!("{} KiB", bytes / KIB),
        _ => format!("{bytes} B"),
    }
}
