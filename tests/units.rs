//! The files in conf/ that other programs read, judged by those programs; each tells when its judge is missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn conf(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(name)
}

/// Runs a judge; `None` when it is not installed.
fn judge(program: &str, args: &[&str]) -> Option<Output> {
    let output = Command::new(program).args(args).output();
    if output.is_err() {
        eprintln!("skipped: there is no {program}");
    }
    output.ok()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The units with this build's binary in them: systemd looks for it.
fn units() -> (tempfile::TempDir, String, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let paths = ["wsson.service", "wsson.socket"].map(|name| {
        let text = fs::read_to_string(conf("systemd").join(name)).expect("the unit is there");
        let path = folder.path().join(name);
        fs::write(&path, text.replace("/usr/bin/wsson", env!("CARGO_BIN_EXE_wsson"))).expect("writable");
        path.to_str().expect("UTF-8").to_owned()
    });
    let [service, socket] = paths;
    (folder, service, socket)
}

#[test]
fn systemd_accepts_the_units() {
    let (_folder, service, socket) = units();
    let Some(output) = judge("systemd-analyze", &["verify", "--man=no", &service, &socket]) else { return };
    assert!(output.status.success() && said(&output).trim().is_empty(), "{}", said(&output));
}

#[test]
fn systemd_finds_the_service_hardened() {
    const EXPOSURE_TENTHS_MAX: &str = "--threshold=15";
    let (_folder, service, _) = units();
    let args = ["security", "--offline=true", EXPOSURE_TENTHS_MAX, &service];
    let Some(output) = judge("systemd-analyze", &args) else { return };
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn the_shell_understands_the_scripts() {
    for script in ["init.d/wsson", "debian/build", "debian/postinst", "debian/prerm", "debian/postrm"] {
        let path = conf(script);
        let output = judge("sh", &["-n", path.to_str().expect("UTF-8")]).expect("there is a shell");
        assert!(output.status.success(), "{script}: {}", said(&output));
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).expect("it is there"));
        assert_eq!(mode & 0o111, 0o111, "{script} cannot be run");
    }
}

#[test]
fn the_shells_understand_the_completions() {
    for (shell, file) in [("bash", "wsson.bash"), ("zsh", "_wsson"), ("fish", "wsson.fish")] {
        let path = conf("completions").join(file);
        let Some(output) = judge(shell, &["-n", path.to_str().expect("UTF-8")]) else { continue };
        assert!(output.status.success() && said(&output).is_empty(), "{file}: {}", said(&output));
    }
}

/// The package of this build's binary, which lintian wants stripped.
#[test]
fn the_debian_package_is_clean() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (binary, out) = (folder.path().join("wsson"), folder.path().to_str().expect("UTF-8"));
    let stripped = binary.to_str().expect("UTF-8");
    let Some(output) = judge("strip", &["-o", stripped, env!("CARGO_BIN_EXE_wsson")]) else { return };
    assert!(output.status.success(), "{}", said(&output));
    let build = conf("debian/build");
    let made =
        Command::new("sh").arg(build).arg(out).env("WSSON", stripped).output().expect("there is a shell");
    if judge("dpkg-deb", &["--version"]).is_none() {
        return;
    }
    assert!(made.status.success(), "{}", said(&made));
    let package = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    let listed = said(&judge("dpkg-deb", &["--contents", &package]).expect("it was there"));
    for file in [
        "./usr/bin/wsson",
        "./etc/wsson/wsson.toml",
        "./etc/init.d/wsson",
        "./lib/systemd/system/wsson.service",
    ] {
        assert!(listed.lines().any(|line| line.ends_with(file)), "no {file} in:\n{listed}");
    }
    let Some(output) = judge("lintian", &["--allow-root", "--fail-on", "error,warning", &package]) else {
        return;
    };
    assert!(output.status.success() && output.stdout.is_empty(), "{}", said(&output));
}

/// What the package installs must start: user and group are set, the rest is the example configuration.
#[test]
fn the_packages_configuration_names_its_user() {
    let build = fs::read_to_string(conf("debian/build")).expect("the script is there");
    assert!(build.contains(r#"s/^#\(user\|group\) = "wsson".*/\1 = "wsson"/"#));
    let example = fs::read_to_string(conf("wsson.toml")).expect("the example is there");
    let named = example
        .lines()
        .filter(|line| line.starts_with("#user = \"wsson\"") || line.starts_with("#group = \"wsson\""));
    // The second `group` is that of the sockets, which stays as it is: its example is another group.
    assert_eq!(named.count(), 2, "the package's script finds nothing to change");
}
