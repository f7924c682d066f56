//! Behind a real nginx, with the snippet of conf/nginx: TLS there, plain here, over TCP and over a Unix socket.
//!
//! curl is the browser: it does TLS, asks for the upgrade and shows the answer. Needs nginx, curl and openssl, and
//! tells when one of them is missing; with WSSON_REQUIRE_TOOLS=1 in the environment that is a failure.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);
/// All of 127/8 is the loopback; an address that is neither nginx's nor wsson's own stands for a visitor.
const VISITOR: &str = "127.0.0.77";

struct Site {
    folder: TempDir,
    port: u16,
    nginx: Option<Child>,
}

impl Site {
    /// wsson at `server`, nginx in front of it.
    fn new(server: &str, trusted: &str) -> Option<Self> {
        let missing = ["nginx", "curl", "openssl"].into_iter().find(|name| !is_there(name));
        if let Some(name) = missing {
            let required = std::env::var_os("WSSON_REQUIRE_TOOLS").is_some_and(|value| value == "1");
            assert!(!required, "there is no {name}, and WSSON_REQUIRE_TOOLS wants all tests");
            eprintln!("skipped: there is no {name}");
            return None;
        }
        let mut site =
            Self { folder: tempfile::tempdir().expect("a temporary folder"), port: free_port(), nginx: None };
        // Workers of nginx that root has started run as another user.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(site.folder.path(), mode).expect("ours");
        site.start_wsson(server, trusted);
        site.start_nginx(server);
        Some(site)
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    fn wsson(&self, command: &str) -> Command {
        let mut wsson = Command::new(env!("CARGO_BIN_EXE_wsson"));
        wsson.args([command, "-c", &self.path("wsson.toml")]);
        wsson
    }

    fn start_wsson(&self, server: &str, trusted: &str) {
        let server = server.replace("FOLDER", &self.path(""));
        let text = format!(
            "servers = \"{server}\"\ncontrol = \"unix://control.sock\"\npid = \"wsson.pid\"\nlog = \"./wsson.log\"\n\
             secret = \"proxy-tests-only-77aa\"\norigins = [\"https://example.com\"]\ntrusted_proxies = [\"{trusted}\"]\n"
        );
        fs::write(self.path("wsson.toml"), text).expect("writable");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(self.path("wsson.toml"), mode).expect("ours");
        assert!(self.wsson("start").status().expect("the binary runs").success());
    }

    /// The snippet with this test's port, certificate and upstream in it; everything else is as it is shipped.
    fn start_nginx(&mut self, server: &str) {
        let (certificate, key) = (self.path("cert.pem"), self.path("key.pem"));
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-subj",
                "/CN=ws1.example.com",
                "-keyout",
                &key,
            ])
            .args(["-out", &certificate])
            .output();
        assert!(made.expect("openssl runs").status.success());
        let upstream =
            server.replace("FOLDER", &self.path("")).replace("unix://", "unix:").replace("tcp://", "");
        let snippet = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/nginx/wsson.conf"));
        let mut snippet = snippet.expect("the snippet is there");
        for (shipped, ours) in [
            ("unix:/run/wsson/server.sock", upstream),
            ("listen 443 ssl", format!("listen 127.0.0.1:{} ssl", self.port)),
            ("    listen [::]:443 ssl;\n", String::new()),
            ("/etc/ssl/certs/ws1.example.com.pem", certificate),
            ("/etc/ssl/private/ws1.example.com.key", key),
        ] {
            assert!(snippet.contains(shipped), "the snippet has no {shipped}");
            snippet = snippet.replacen(shipped, &ours, if shipped.starts_with("unix") { 2 } else { 1 });
        }
        let own = |directive: &str| format!("{directive} {};\n", self.path(directive));
        let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| own(&format!("{name}_temp_path")))
            .concat();
        let text = format!(
            "daemon off;\n{}error_log stderr;\nevents {{}}\nhttp {{\n{temp}access_log off;\n{snippet}\n}}\n",
            own("pid")
        );
        fs::write(self.path("nginx.conf"), text).expect("writable");
        let mut nginx = Command::new("nginx");
        nginx.args(["-c", &self.path("nginx.conf"), "-p", &self.path("")]);
        nginx.stderr(fs::File::create(self.path("nginx.log")).expect("writable"));
        self.nginx = Some(nginx.spawn().expect("nginx runs"));
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = fs::read_to_string(self.path("nginx.log")).unwrap_or_default();
            assert!(begin.elapsed() < PATIENCE, "nginx does not listen: {log}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The cookies of a login, as `Cookie` wants them.
    fn cookies(&self) -> String {
        let output = self.wsson("cookie").args(["--format", "header"]).output().expect("the binary runs");
        let header = String::from_utf8(output.stdout).expect("UTF-8");
        header.trim().trim_start_matches("Cookie: ").to_owned()
    }

    /// A browser that opens a WebSocket: its answer and whatever is pushed, until the server says goodbye.
    fn browser(&self, origin: &str) -> Child {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--include", "--insecure", "--no-buffer", "--http1.1", "--max-time", "30"]);
        curl.args(["--interface", VISITOR, "--resolve", &format!("ws1.example.com:{}:127.0.0.1", self.port)]);
        for header in [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "X-Forwarded-For: 203.0.113.9",
            &format!("Origin: {origin}"),
            &format!("Cookie: {}", self.cookies()),
        ] {
            curl.args(["--header", header]);
        }
        curl.arg(format!("https://ws1.example.com:{}/", self.port)).stdout(Stdio::piped());
        curl.spawn().expect("curl runs")
    }

    fn eventually_open(&self) {
        let begin = Instant::now();
        loop {
            let output = self.wsson("status").args(["--json"]).output();
            let status =
                output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
            if status.contains("\"clients\":1,\"clients_peak\"") {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "the browser never got in: {status}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.wsson("stop").output();
        if let Some(mut nginx) = self.nginx.take() {
            // The master ends its workers, which a killed one would leave behind.
            let _ = Command::new("kill").arg(nginx.id().to_string()).status();
            let _ = nginx.wait();
        }
    }
}

fn is_there(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(program).is_file())
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

fn serves_through_nginx(server: &str, trusted: &str) {
    let Some(site) = Site::new(server, trusted) else { return };
    let browser = site.browser("https://example.com");
    site.eventually_open();
    let sent = site.wsson("send").args(["--all", "through the proxy"]).status();
    assert!(sent.expect("the binary runs").success(), "the message was not taken");
    let long = "long ".repeat(100_000);
    fs::write(site.path("long"), &long).expect("writable");
    let input = fs::File::open(site.path("long")).expect("just written");
    let sent = site.wsson("send").arg("--all").stdin(input).status();
    assert!(sent.expect("the binary runs").success(), "the long message was not taken");
    assert!(site.wsson("stop").status().expect("the binary runs").success());
    let output = browser.wait_with_output().expect("our own child").stdout;
    let text = String::from_utf8_lossy(&output);
    assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
    assert!(text.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "the accept key of RFC 6455 section 1.3: {text}");
    let message = b"\x81\x11through the proxy";
    assert!(output.windows(message.len()).any(|bytes| bytes == message), "{text}");
    let begin = text.find("long long").expect("the long message has come");
    assert!(text[begin..].starts_with(&long), "it is not whole");
    assert!(
        output.windows(4).any(|bytes| bytes[..2] == [0x88, 12] && bytes[2..] == 1001_u16.to_be_bytes()),
        "{text}"
    );
}

impl Site {
    /// What is logged of a visitor from a foreign page.
    fn refusal(&self) -> String {
        let output = self.browser("https://evil.example").wait_with_output().expect("our own child").stdout;
        assert!(output.starts_with(b"HTTP/1.1 403 "), "{}", String::from_utf8_lossy(&output));
        let log = fs::read_to_string(self.path("wsson.log")).expect("there is a log");
        log.lines().find(|line| line.contains(" refused ")).expect("a refusal is logged").to_owned()
    }
}

#[test]
fn over_tcp() {
    serves_through_nginx(&format!("tcp://127.0.0.1:{}", free_port()), "127.0.0.1");
}

#[test]
fn over_a_unix_socket() {
    serves_through_nginx("unix://FOLDERserver.sock", "unix");
}

#[test]
fn the_log_shows_the_visitor_that_a_trusted_proxy_names() {
    for (server, trusted) in [
        (format!("tcp://127.0.0.1:{}", free_port()), "127.0.0.1"),
        ("unix://FOLDERserver.sock".into(), "unix"),
    ] {
        let Some(site) = Site::new(&server, trusted) else { return };
        let line = site.refusal();
        assert!(line.contains(&format!("peer={VISITOR}")), "{line}");
        assert!(!line.contains("203.0.113.9"), "what the visitor claims: {line}");
    }
}

#[test]
fn a_proxy_that_is_not_trusted_is_not_believed() {
    let Some(site) = Site::new(&format!("tcp://127.0.0.1:{}", free_port()), "192.0.2.1") else { return };
    let line = site.refusal();
    assert!(line.contains("peer=127.0.0.1:"), "{line}");
}
