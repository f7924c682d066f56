//! The files in conf/ that other programs read, judged by those programs.
//!
//! Each tells when its judge is missing; with WSSON_REQUIRE_TOOLS=1 in the environment that is a failure.

mod rig;

use rig::{WSSON, eventually, source};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn conf(name: &str) -> PathBuf {
    source("conf").join(name)
}

/// Runs a judge; `None` when it is not installed.
fn judge(program: &str, args: &[&str]) -> Option<Output> {
    let mut command = Command::new(program);
    // Some of them are for root, whose programs others have not in their path.
    let path = std::env::var("PATH").unwrap_or_default();
    command.args(args).env("PATH", format!("{path}:/usr/sbin:/sbin"));
    match command.output() {
        Ok(output) => Some(output),
        Err(_) => skip(&format!("there is no {program}")),
    }
}

fn skip<T>(why: &str) -> Option<T> {
    let required = std::env::var_os("WSSON_REQUIRE_TOOLS").is_some_and(|value| value == "1");
    assert!(!required, "{why}, and WSSON_REQUIRE_TOOLS wants all tests");
    eprintln!("skipped: {why}");
    None
}

fn read(name: &str) -> String {
    fs::read_to_string(conf(name)).expect("it is there")
}

/// A text with other words in it, each of which must have been there.
fn replaced(text: &str, words: &[(&str, &str)]) -> String {
    words.iter().fold(text.to_owned(), |text, (shipped, ours)| {
        assert!(text.contains(shipped), "there is no {shipped:?} in:\n{text}");
        text.replace(shipped, ours)
    })
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
        fs::write(&path, text.replace("/usr/bin/wsson", WSSON)).expect("writable");
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
    for script in [
        "init.d/wsson",
        "release",
        "debian/build",
        "debian/cross",
        "debian/postinst",
        "debian/prerm",
        "debian/postrm",
    ] {
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

/// A certificate with its key, in two files and in one.
fn certificate(folder: &Path) -> Option<[String; 3]> {
    let paths = ["cert.pem", "key.pem", "both.pem"].map(|name| folder.join(name).display().to_string());
    let [cert, key, both] = &paths;
    let args = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj"];
    let args = [&args[..], &["/CN=ws1.example.com", "-keyout", key, "-out", cert]].concat();
    let output = judge("openssl", &args)?;
    assert!(output.status.success(), "{}", said(&output));
    let text = [cert, key].map(|path| fs::read_to_string(path).expect("openssl wrote it")).concat();
    fs::write(both, text).expect("writable");
    Some(paths)
}

#[test]
fn apache_accepts_its_snippet() {
    const CERTIFICATE: &str = "/etc/ssl/certs/ws1.example.com.pem";
    const KEY: &str = "/etc/ssl/private/ws1.example.com.key";
    const MODULES: &str = "/usr/lib/apache2/modules";
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some([cert, key, _]) = certificate(folder.path()) else { return };
    let snippet = replaced(&read("apache/wsson.conf"), &[(CERTIFICATE, &cert), (KEY, &key)]);
    // The modules that the snippet names, and those that every Apache of Debian has.
    let modules = ["mpm_event", "authz_core", "socache_shmcb", "ssl", "proxy", "proxy_http", "headers"];
    let modules = modules.map(|name| format!("LoadModule {name}_module {MODULES}/mod_{name}.so\n")).concat();
    let own = folder.path().display();
    let text = format!(
        "{modules}DefaultRuntimeDir {own}\nMutex file:{own}\nPidFile {own}/pid\nErrorLog {own}/log\n\
         ServerName localhost\nListen 127.0.0.1:443\n{snippet}"
    );
    let config = folder.path().join("apache.conf");
    fs::write(&config, text).expect("writable");
    let Some(output) = judge("apache2", &["-t", "-f", config.to_str().expect("UTF-8")]) else { return };
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(said(&output).trim(), "Syntax OK");
}

#[test]
fn haproxy_accepts_its_snippet() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some([_, _, both]) = certificate(folder.path()) else { return };
    let shipped = "/etc/haproxy/certs/ws1.example.com.pem";
    let config = folder.path().join("haproxy.cfg");
    fs::write(&config, replaced(&read("haproxy/wsson.cfg"), &[(shipped, &both)])).expect("writable");
    let Some(output) = judge("haproxy", &["-c", "-f", config.to_str().expect("UTF-8")]) else { return };
    assert!(output.status.success(), "{}", said(&output));
    assert!(!said(&output).contains("[WARNING]"), "{}", said(&output));
}

#[test]
fn caddy_accepts_its_snippet() {
    let path = conf("caddy/Caddyfile");
    let path = path.to_str().expect("UTF-8");
    // Not `validate`: that makes Caddy's folders in the home of the tests' user.
    let Some(output) = judge("caddy", &["adapt", "--adapter", "caddyfile", "--config", path]) else { return };
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains(r#""dial":"127.0.0.1:8099""#), "{}", said(&output));
}

/// A server with a log in a folder of its own, ended with the test.
struct Logging(rig::Site);

impl Logging {
    fn started() -> Self {
        let text = "origins = [\"https://example.com\"]\nsecret = \"rotation-tests-3f77\"\n";
        let site = Self(rig::Site::with(&rig::config(text)));
        site.0.run(&["start"]).with(0);
        site
    }

    fn log(&self) -> String {
        self.0.read("wsson.log")
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        let _ = self.0.wsson(&["stop"]).output();
    }
}

#[test]
fn logrotate_rotates_and_the_server_opens_the_new_log() {
    if judge("logrotate", &["--version"]).is_none() {
        return;
    }
    let site = Logging::started();
    let status = format!("{} status -c {}", WSSON, site.0.text("wsson.toml"));
    let words = [
        ("/var/log/wsson/*.log", site.0.text("*.log")),
        // The user is the package's; the test would make systemd signal its own service.
        ("    su wsson wsson\n", String::new()),
        ("-d /run/systemd/system", "-d /no/systemd".into()),
        ("/usr/bin/wsson status", status),
        ("/run/wsson/wsson.pid", site.0.text("wsson.pid")),
    ];
    let words: Vec<(&str, &str)> = words.iter().map(|(shipped, ours)| (*shipped, ours.as_str())).collect();
    site.0.write("rules", &replaced(&read("logrotate.d/wsson"), &words), 0o644);
    let args = ["--force", "--state", &site.0.text("state"), &site.0.text("rules")];
    let rotated = judge("logrotate", &args).expect("it was there");
    assert!(rotated.status.success(), "{}", said(&rotated));
    eventually("the log is opened again", || site.log().contains("log_reopened"));
    assert!(fs::read_to_string(site.0.text("wsson.log.1")).expect("the old log").contains("started"));
}

/// This build's binary as it is shipped.
fn stripped(folder: &Path) -> Option<String> {
    let binary = folder.join("wsson").to_str().expect("UTF-8").to_owned();
    let output = judge("strip", &["-o", &binary, WSSON])?;
    assert!(output.status.success(), "{}", said(&output));
    Some(binary)
}

/// The package of this build's binary, which lintian wants stripped.
fn package(folder: &Path) -> Option<String> {
    let (stripped, out) = (stripped(folder)?, folder.to_str().expect("UTF-8"));
    judge("dpkg-deb", &["--version"])?;
    let build = conf("debian/build");
    let made =
        Command::new("sh").arg(build).arg(out).env("WSSON", stripped).output().expect("there is a shell");
    assert!(made.status.success(), "{}", said(&made));
    Some(String::from_utf8_lossy(&made.stdout).trim().to_owned())
}

/// The configuration of a package starts a server: the program finds nothing in it but an account that this host need not
/// have.
fn check_configuration(folder: &Path, package: &str) {
    let root = folder.join("unpacked");
    let unpacked = judge("dpkg-deb", &["-x", package, root.to_str().expect("UTF-8")]).expect("it was there");
    assert!(unpacked.status.success(), "{}", said(&unpacked));
    let config = root.join("etc/wsson/wsson.toml");
    let text = fs::read_to_string(&config).expect("the package has it");
    assert!(text.contains("\nuser = \"wsson\"") && text.contains("\ngroup = \"wsson\""), "{text}");
    let secret = config.with_file_name("secret");
    fs::write(&secret, "made by postinst, sixteen bytes or more").expect("writable");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("ours");
    let output = Command::new(WSSON).args(["check", "-c"]).arg(&config).output().expect("the binary runs");
    let told = String::from_utf8_lossy(&output.stderr);
    let surprises: Vec<&str> = told
        .lines()
        .filter(|line| !line.contains("this host does not know it") && !line.contains("warning"))
        .collect();
    assert!(surprises.is_empty(), "{surprises:?}");
}

#[test]
fn the_debian_package_is_clean() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(package) = package(folder.path()) else { return };
    let listed = said(&judge("dpkg-deb", &["--contents", &package]).expect("it was there"));
    for file in [
        "./usr/bin/wsson",
        "./etc/wsson/wsson.toml",
        "./etc/init.d/wsson",
        "./lib/systemd/system/wsson.service",
        "./lib/systemd/system/wsson.socket",
        "./usr/share/doc/wsson/README.Debian",
        "./usr/share/doc/wsson/docs/operations.md",
    ] {
        assert!(listed.lines().any(|line| line.ends_with(file)), "no {file} in:\n{listed}");
    }
    check_configuration(folder.path(), &package);
    let Some(output) = judge("lintian", &["--allow-root", "--fail-on", "error,warning", &package]) else {
        return;
    };
    assert!(output.status.success() && output.stdout.is_empty(), "{}", said(&output));
}

#[test]
fn a_release_has_everything_and_its_sums_are_right() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("page");
    if judge("dpkg-deb", &["--version"]).is_none() || judge("readelf", &["--version"]).is_none() {
        return;
    }
    let Some(binary) = stripped(folder.path()) else { return };
    // The machine's own architecture only: another one would be built, which takes minutes.
    let release = Command::new(conf("release"))
        .arg(&out)
        .env("WSSON", binary)
        .env("WSSON_RELEASE_OWN", "1")
        .output()
        .expect("there is a shell");
    assert!(release.status.success(), "{}", said(&release));
    let sums =
        Command::new("sha256sum").args(["-c", "SHA256SUMS"]).current_dir(&out).output().expect("coreutils");
    assert!(sums.status.success(), "{}", said(&sums));
    let files = String::from_utf8_lossy(&sums.stdout).into_owned();
    assert!(files.contains(".deb: OK") && files.contains(".tar.gz: OK"), "{files}");
    let name = files.lines().find_map(|line| line.strip_suffix(".tar.gz: OK")).expect("an archive");
    let archive = out.join(format!("{name}.tar.gz"));
    let listed = said(&judge("tar", &["-tzf", archive.to_str().expect("UTF-8")]).expect("tar"));
    for file in [
        "wsson",
        "man/wsson.8",
        "man/wsson.toml.5",
        "man/wsson-control.7",
        "completions/_wsson",
        "completions/wsson.bash",
        "completions/wsson.fish",
        "conf/wsson.toml",
        "conf/systemd/wsson.service",
        "README.md",
        "LICENSE.txt",
    ] {
        let file = format!("{name}/{file}");
        assert!(listed.lines().any(|line| line == file), "no {file} in:\n{listed}");
    }
}

/// In a layer over the host's system, with processes and a loopback of its own: dpkg, adduser and the init tools are the
/// real ones, and nothing of what they do reaches the host.
#[test]
fn the_debian_package_installs_starts_stops_and_goes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(package) = package(folder.path()) else { return };
    if judge("ip", &["-V"]).is_none() || judge("invoke-rc.d", &["--help"]).is_none() {
        return;
    }
    let spaces = ["--mount", "--pid", "--fork", "--net"];
    let Some(allowed) = judge("unshare", &[&spaces[..], &["true"]].concat()) else { return };
    if !allowed.status.success() {
        return skip("namespaces of our own are not permitted here").unwrap_or_default();
    }
    let root = folder.path().join("root");
    fs::create_dir(&root).expect("writable");
    let script = source("tests/scratch.sh").display().to_string();
    let args = ["sh", &script, root.to_str().expect("UTF-8"), &package];
    let output = judge("unshare", &[&spaces[..], &args].concat()).expect("it was there");
    assert!(output.status.success(), "{}", said(&output));
}

/// The configuration that the package installs must start: user and group are set, the rest is the example
/// configuration.
#[test]
fn the_packages_configuration_names_its_user() {
    let build = fs::read_to_string(conf("debian/build")).expect("the script is there");
    assert!(build.contains(r#"'/^\[/,$!s/^#\(user\|group\) = "wsson".*/\1 = "wsson"/'"#));
    let example = fs::read_to_string(conf("wsson.toml")).expect("the example is there");
    // Before the first table, as a bus has a user of its own.
    let named = example
        .lines()
        .take_while(|line| !line.starts_with('['))
        .filter(|line| line.starts_with("#user = \"wsson\"") || line.starts_with("#group = \"wsson\""));
    assert_eq!(named.count(), 2, "the package's script finds nothing to change");
}
