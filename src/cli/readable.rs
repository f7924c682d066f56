//! Whether the server can read its secret, its control key and its TLS files: at start as the user that starts it, and again at each reload as
//! the user that it has become.

use crate::config::Settings;
use crate::daemon::privileges;
use crate::daemon::supervisor::Account;
use crate::sys::{Access, User, describe};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The files that a reload cannot read again, for a server that gives root up: it then keeps their content from the
/// start.
pub(super) fn later(settings: &Settings) -> Vec<String> {
    let Ok(Some(user)) = privileges::find(settings.user.as_deref(), settings.group.as_deref()) else {
        return Vec::new();
    };
    let name = settings.user.as_deref().unwrap_or("the server's group");
    let denied = files(settings).into_iter().filter_map(|(what, path)| {
        let why = denied(user, path)?;
        Some(format!(
            "{name} cannot read the {what} {}: {why}; the start reads it as root, and each reload keeps what the start has read",
            path.display()
        ))
    });
    denied.collect()
}

/// The files that a server which systemd starts as this account cannot read at all.
pub(super) fn by(account: &Account, settings: &Settings) -> Vec<String> {
    // A user other than root cannot ask in the place of another one.
    let Ok(Some(user)) = privileges::find(
        Some(&account.user),
        Some(&account.group).filter(|name| !name.is_empty()).map(String::as_str),
    ) else {
        return Vec::new();
    };
    let mut groups = crate::sys::groups_of(&account.user, user.gid).unwrap_or_default();
    groups.extend(account.groups.iter().filter_map(|name| crate::sys::group(name).ok()?));
    // The question is asked without supplementary groups, which systemd gives.
    let by_group = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o040 != 0 && groups.contains(&meta.gid()))
    };
    let denied = files(settings).into_iter().filter_map(|(what, path)| {
        let why = denied(user, path).filter(|_| !by_group(path))?;
        Some(format!("{} cannot read the {what} {}: {why}", account.user, path.display()))
    });
    denied.collect()
}

fn files(settings: &Settings) -> Vec<(&'static str, &Path)> {
    let secrets = settings.secret_files.iter().map(|path| ("secret", path.as_path()));
    let keys = settings.control_key_files.iter().map(|path| ("control key", path.as_path()));
    let tls = settings.tls.iter().filter(|_| settings.speaks_tls()).flat_map(|files| {
        [("certificate", files.certificate.as_path()), ("key of the certificate", files.key.as_path())]
    });
    let password = settings.bus.password_file.iter().map(|path| ("password of the bus", path.as_path()));
    secrets.chain(keys).chain(tls).chain(password).collect()
}

fn denied(user: User, path: &Path) -> Option<String> {
    let error = privileges::may(Some(user), path, Access::Read).err()?;
    (error.kind() == ErrorKind::PermissionDenied).then(|| describe(&error))
}
