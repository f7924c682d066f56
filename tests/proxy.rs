//! Behind real proxies, with the snippets of conf/: TLS there, plain here, over TCP and over a Unix socket, on a host of
//! wsson's own and at /ws of the site's.
//!
//! curl is the browser: it does TLS, asks for the upgrade and shows the answer. Needs nginx, Apache, HAProxy, Caddy, curl
//! and openssl, and reports when one of them is missing; with WSSON_REQUIRE_TOOLS=1 in the environment that is a
//! failure.

mod rig;

use rig::{CONFIG, PATIENCE, eventually, free_port, source};
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// All of 127/8 is the loopback; an address that is neither the proxy's nor wsson's own stands for a visitor.
const VISITOR: &str = "127.0.0.77";
const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
const APACHE_MODULES: &str = "/usr/lib/apache2/modules";

/// A snippet of conf/ and what is needed to run it.
#[derive(Clone, Copy, Debug)]
struct Shipped {
    program: &'static str,
    file: &'static str,
    /// Where the browser goes.
    host: &'static str,
    path: &'static str,
    /// The lines that lead to wsson: over a Unix socket and over TCP. One of each pair is commented out.
    ways: [&'static str; 2],
    /// Lines of wsson.toml that it needs.
    config: &'static str,
    /// The configuration around the snippet.
    whole: fn(&Site, &str) -> String,
}

const SHIPPED: [Shipped; 10] = [
    Shipped {
        program: "nginx",
        file: "nginx/wsson.conf",
        host: "ws1.example.com",
        path: "/",
        ways: ["server unix:/run/wsson/server.sock;", "server 127.0.0.1:8099;"],
        config: "",
        whole: nginx,
    },
    Shipped {
        program: "nginx",
        file: "nginx/wsson-location.conf",
        host: "www.example.com",
        path: "/ws",
        ways: ["proxy_pass http://unix:/run/wsson/server.sock;", "proxy_pass http://127.0.0.1:8099;"],
        config: "",
        whole: nginx_site,
    },
    Shipped {
        program: "apache2",
        file: "apache/wsson.conf",
        host: "ws1.example.com",
        path: "/",
        ways: [
            "ProxyPass \"/\" \"unix:/run/wsson/server.sock|http://localhost/\" upgrade=websocket timeout=75",
            "ProxyPass \"/\" \"http://127.0.0.1:8099/\" upgrade=websocket timeout=75",
        ],
        config: "",
        whole: apache,
    },
    Shipped {
        program: "apache2",
        file: "apache/wsson-location.conf",
        host: "www.example.com",
        path: "/ws",
        ways: [
            "ProxyPass \"unix:/run/wsson/server.sock|http://localhost/ws\" upgrade=websocket timeout=75",
            "ProxyPass \"http://127.0.0.1:8099/ws\" upgrade=websocket timeout=75",
        ],
        config: "",
        whole: apache_site,
    },
    Shipped {
        program: "haproxy",
        file: "haproxy/wsson.cfg",
        host: "ws1.example.com",
        path: "/",
        ways: ["server ws1 unix@/run/wsson/server.sock check", "server ws1 127.0.0.1:8099 check"],
        config: "",
        whole: haproxy,
    },
    Shipped {
        program: "haproxy",
        file: "haproxy/wsson-path.cfg",
        host: "www.example.com",
        path: "/ws",
        ways: ["server ws1 unix@/run/wsson/server.sock check", "server ws1 127.0.0.1:8099 check"],
        config: "",
        whole: haproxy_site,
    },
    Shipped {
        program: "caddy",
        file: "caddy/Caddyfile",
        host: "ws1.example.com",
        path: "/",
        ways: ["reverse_proxy unix//run/wsson/server.sock {", "reverse_proxy 127.0.0.1:8099 {"],
        config: "",
        whole: caddy,
    },
    Shipped {
        program: "caddy",
        file: "caddy/Caddyfile.path",
        host: "www.example.com",
        path: "/ws",
        ways: ["reverse_proxy unix//run/wsson/server.sock {", "reverse_proxy 127.0.0.1:8099 {"],
        config: "",
        whole: caddy,
    },
    Shipped {
        program: "nginx",
        file: "nginx/wsson-stream.conf",
        host: "ws1.example.com",
        path: "/",
        ways: ["proxy_pass unix:/run/wsson/server.sock;", "proxy_pass 127.0.0.1:8099;"],
        config: "proxy_protocol = true\n",
        whole: nginx_stream,
    },
    Shipped {
        program: "haproxy",
        file: "haproxy/wsson-tcp.cfg",
        host: "ws1.example.com",
        path: "/",
        ways: ["server ws1 127.0.0.1:8443 send-proxy-v2", "server ws1 127.0.0.1:8443 send-proxy-v2"],
        config: "proxy_protocol = true\n[tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n",
        whole: haproxy,
    },
];

/// Each of these with its place for the certificate, its key and both in one file changed to the test's.
fn with_certificate(site: &Site, snippet: &str) -> String {
    let mut text = snippet.to_owned();
    for (shipped, ours) in [
        ("/etc/ssl/certs/ws1.example.com.pem", "cert.pem"),
        ("/etc/ssl/private/ws1.example.com.key", "key.pem"),
        ("/etc/haproxy/certs/ws1.example.com.pem", "both.pem"),
    ] {
        text = text.replace(shipped, &site.path(ours));
    }
    text
}

/// With a part of the snippet changed, which must be there.
#[track_caller]
fn changed(text: &str, part: &str, ours: &str) -> String {
    assert!(text.contains(part), "the snippet has no {part}");
    text.replacen(part, ours, 1)
}

fn nginx_around(site: &Site, snippet: &str) -> String {
    let own = |directive: &str| format!("{directive} {};\n", site.path(directive));
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| own(&format!("{name}_temp_path")))
        .concat();
    let pid = own("pid");
    format!(
        "daemon off;\n{pid}error_log stderr;\nevents {{}}\nhttp {{\n{temp}access_log off;\n{snippet}\n}}\n"
    )
}

fn nginx(site: &Site, snippet: &str) -> String {
    let text = changed(snippet, "listen 443 ssl", &format!("listen 127.0.0.1:{} ssl", site.port));
    let text = changed(&text, "    listen [::]:443 ssl;\n", "");
    nginx_around(site, &with_certificate(site, &text))
}

/// Debian has the module in a file of its own.
fn nginx_stream(site: &Site, snippet: &str) -> String {
    let text = changed(snippet, "listen 443 ssl", &format!("listen 127.0.0.1:{} ssl", site.port));
    let text = changed(&text, "        listen [::]:443 ssl;\n", "");
    let module = if is_file(NGINX_STREAM) { format!("load_module {NGINX_STREAM};\n") } else { String::new() };
    let pid = site.path("pid");
    format!(
        "{module}daemon off;\npid {pid};\nerror_log stderr;\nevents {{}}\n{}",
        with_certificate(site, &text)
    )
}

fn nginx_site(site: &Site, snippet: &str) -> String {
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| site.path(name));
    let port = site.port;
    let server = format!(
        "server {{\nlisten 127.0.0.1:{port} ssl;\nserver_name www.example.com;\nssl_certificate {cert};\n\
         ssl_certificate_key {key};\nlocation / {{ return 404; }}\n{snippet}\n}}"
    );
    nginx_around(site, &server)
}

/// The modules that every Apache of Debian has, and those that the snippets ask for.
fn apache_around(site: &Site, snippet: &str) -> String {
    let modules = ["mpm_event", "authz_core", "socache_shmcb", "ssl", "proxy", "proxy_http", "headers"];
    let modules =
        modules.map(|name| format!("LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so\n")).concat();
    let (own, port) = (site.path(""), site.port);
    let own = own.trim_end_matches('/');
    format!(
        "{modules}DefaultRuntimeDir {own}\nMutex file:{own}\nPidFile {own}/pid\nErrorLog {own}/apache.log\n\
         User www-data\nGroup www-data\nServerName localhost\nListen 127.0.0.1:{port}\n{snippet}"
    )
}

fn apache(site: &Site, snippet: &str) -> String {
    let text = changed(snippet, "*:443", &format!("127.0.0.1:{}", site.port));
    apache_around(site, &with_certificate(site, &text))
}

fn apache_site(site: &Site, snippet: &str) -> String {
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| site.path(name));
    let port = site.port;
    let host = format!(
        "<VirtualHost 127.0.0.1:{port}>\nServerName www.example.com\nSSLEngine on\nSSLCertificateFile {cert}\n\
         SSLCertificateKeyFile {key}\n{snippet}\n</VirtualHost>\n"
    );
    apache_around(site, &host)
}

fn haproxy(site: &Site, snippet: &str) -> String {
    let lines = snippet.lines().filter(|line| !line.trim_start().starts_with("bind [::]:443"));
    let text = lines.collect::<Vec<_>>().join("\n") + "\n";
    with_certificate(site, &changed(&text, "bind :443", &format!("bind 127.0.0.1:{}", site.port)))
}

fn haproxy_site(site: &Site, snippet: &str) -> String {
    let (port, both) = (site.port, site.path("both.pem"));
    let own = format!(
        "mode http\n    bind 127.0.0.1:{port} ssl crt {both} alpn http/1.1\n    timeout client 75s\n    default_backend site"
    );
    let comment = "# ... the site's own lines: mode http, bind, default_backend";
    changed(snippet, comment, &own)
        + "\nbackend site\n    mode http\n    timeout connect 5s\n    timeout server 5s\n    http-request return status 404\n"
}

/// Caddy would get a certificate from the network; the test has its own.
fn caddy(site: &Site, snippet: &str) -> String {
    let host = site.shipped.host;
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| site.path(name));
    let own = format!("https://{host}:{} {{\n\tbind 127.0.0.1\n\ttls {cert} {key}\n", site.port);
    let storage = site.path("caddy");
    format!("{{\n\tadmin off\n\tauto_https disable_redirects\n\tstorage file_system {storage}\n}}\n")
        + &changed(snippet, &format!("\n{host} {{\n"), &format!("\n{own}"))
}

struct Site {
    files: rig::Site,
    shipped: Shipped,
    port: u16,
    proxy: Option<Child>,
}

/// How wsson listens behind the proxy.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Unix,
    Tcp,
}

impl Site {
    /// wsson behind the proxy of this snippet.
    fn new(shipped: Shipped, way: Way, trusted: &str) -> Option<Self> {
        let missing = [shipped.program, "curl", "openssl"].into_iter().find(|name| !is_there(name));
        let has_stream = is_file(NGINX_STREAM) || shipped.file != "nginx/wsson-stream.conf";
        let missing = missing.or((!has_stream).then_some("module for streams in nginx"));
        if let Some(name) = missing {
            let required = std::env::var_os("WSSON_REQUIRE_TOOLS").is_some_and(|value| value == "1");
            assert!(!required, "there is no {name}, and WSSON_REQUIRE_TOOLS wants all tests");
            eprintln!("skipped: there is no {name}");
            return None;
        }
        let mut site = Self { files: rig::Site::new(), shipped, port: free_port(), proxy: None };
        // Workers of a proxy that root has started run as another user.
        fs::set_permissions(site.files.folder(), fs::Permissions::from_mode(0o755)).expect("ours");
        site.make_certificate();
        let tcp = format!("127.0.0.1:{}", free_port());
        let server = match way {
            Way::Unix => format!("unix://{}", site.path("server.sock")),
            Way::Tcp if site.shipped.config.contains("[tls]") => format!("tls://{tcp}"),
            Way::Tcp => format!("tcp://{tcp}"),
        };
        site.start_wsson(&server, trusted);
        site.start_proxy(way, &tcp);
        Some(site)
    }

    fn path(&self, name: &str) -> String {
        self.files.text(name)
    }

    fn wsson(&self, command: &str) -> Command {
        self.files.wsson(&[command])
    }

    fn origin(&self) -> String {
        match self.shipped.path {
            "/" => "https://example.com".into(),
            _ => format!("https://{}", self.shipped.host),
        }
    }

    fn start_wsson(&self, server: &str, trusted: &str) {
        let origin = self.origin();
        let text = format!(
            "servers = \"{server}\"\nsecret = \"proxy-tests-only-77aa\"\norigins = [\"{origin}\"]\n\
             trusted_proxies = [\"{trusted}\"]\n{}[timeouts]\nclose = 0.2\n",
            self.shipped.config
        );
        self.files.write(CONFIG, &rig::config(&text), 0o600);
        assert!(self.wsson("start").status().expect("the binary runs").success());
    }

    /// The snippet with this way chosen, and the addresses of this test in it; everything else is as it is shipped.
    fn snippet(&self, way: Way, tcp: &str) -> String {
        let file = source("conf").join(self.shipped.file);
        let text = fs::read_to_string(file).expect("the snippet is there");
        let [unix_line, tcp_line] = self.shipped.ways;
        let (wanted, other) = if way == Way::Unix { (unix_line, tcp_line) } else { (tcp_line, unix_line) };
        // Caddy's block belongs to either line; the other one is shown without it.
        let bare = |line: &str| line.trim_end_matches(" {").to_owned();
        let text = match text.contains(&format!("# {}", bare(wanted))) {
            false => text,
            true => {
                let text = changed(&text, &format!("# {}\n", bare(wanted)), "\n");
                changed(&text, other, wanted)
            }
        };
        assert!(text.contains(wanted), "{text}");
        text.replace("/run/wsson/server.sock", &self.path("server.sock"))
            .replace("127.0.0.1:8099", tcp)
            .replace("127.0.0.1:8443", tcp)
    }

    fn make_certificate(&self) {
        let [cert, key, both] = ["cert.pem", "key.pem", "both.pem"].map(|name| self.path(name));
        let subject = format!("/CN={}", self.shipped.host);
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-subj",
                &subject,
            ])
            .args(["-keyout", &key, "-out", &cert])
            .output();
        assert!(made.expect("openssl runs").status.success());
        let text = [&cert, &key].map(|path| fs::read_to_string(path).expect("openssl wrote it")).concat();
        fs::write(both, text).expect("writable");
    }

    fn start_proxy(&mut self, way: Way, tcp: &str) {
        let config = self.path("proxy.conf");
        fs::write(&config, (self.shipped.whole)(self, &self.snippet(way, tcp))).expect("writable");
        let mut proxy = Command::new(self.shipped.program);
        match self.shipped.program {
            "nginx" => proxy.args(["-c", &config, "-p", &self.path("")]),
            "apache2" => proxy.args(["-f", &config, "-DFOREGROUND"]),
            "haproxy" => proxy.args(["-db", "-f", &config]),
            _ => proxy.args(["run", "--adapter", "caddyfile", "--config", &config]),
        };
        let log = fs::File::create(self.path("proxy.log")).expect("writable");
        proxy.env("HOME", self.files.folder()).stdout(log.try_clone().expect("a descriptor")).stderr(log);
        self.proxy = Some(proxy.spawn().expect("the proxy runs"));
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = fs::read_to_string(self.path("proxy.log")).unwrap_or_default();
            let ended = self.proxy.as_mut().and_then(|proxy| proxy.try_wait().ok()).flatten();
            assert!(
                begin.elapsed() < PATIENCE && ended.is_none(),
                "{:?} does not listen: {log}",
                self.shipped
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The cookies of a login, as `Cookie` wants them.
    fn cookies(&self) -> String {
        let output = self.wsson("cookie").args(["--format", "header"]).output().expect("the binary runs");
        let header = String::from_utf8(output.stdout).expect("UTF-8");
        header.trim().trim_start_matches("Cookie: ").to_owned()
    }

    /// A browser that opens a WebSocket: its answer and all pushed messages, until the server says goodbye.
    fn browser(&self, origin: &str) -> Child {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--include", "--insecure", "--no-buffer", "--http1.1", "--max-time", "30"]);
        let Shipped { host, path, .. } = self.shipped;
        curl.args(["--interface", VISITOR, "--resolve", &format!("{host}:{}:127.0.0.1", self.port)]);
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
        curl.arg(format!("https://{host}:{}{path}", self.port)).stdout(Stdio::piped());
        curl.spawn().expect("curl runs")
    }

    fn eventually_open(&self) {
        eventually("the browser got in", || {
            self.files.run(&["status", "--json"]).out.contains("\"clients\":1,\"clients_peak\"")
        });
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.wsson("stop").output();
        if let Some(mut proxy) = self.proxy.take() {
            // The master ends its workers, which a killed one would leave behind.
            let _ = Command::new("kill").arg(proxy.id().to_string()).status();
            let _ = proxy.wait();
        }
    }
}

fn is_file(path: &str) -> bool {
    std::path::Path::new(path).is_file()
}

fn is_there(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(program).is_file())
}

fn serves(shipped: Shipped, way: Way, trusted: &str) {
    let Some(site) = Site::new(shipped, way, trusted) else { return };
    let browser = site.browser(&site.origin());
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
    /// The log's lines about a visitor from a foreign page.
    fn refusal(&self) -> String {
        let output = self.browser("https://evil.example").wait_with_output().expect("our own child").stdout;
        assert!(output.starts_with(b"HTTP/1.1 403 "), "{}", String::from_utf8_lossy(&output));
        let log = fs::read_to_string(self.path("wsson.log")).expect("there is a log");
        log.lines().find(|line| line.contains(" refused ")).expect("a refusal is logged").to_owned()
    }
}

/// The snippets of one proxy, each over TCP and over a Unix socket: a browser is served, and the log has its address,
/// not the one that it claims.
fn works(program: &str) {
    for shipped in SHIPPED.into_iter().filter(|shipped| shipped.program == program) {
        let [unix, tcp] = shipped.ways;
        let ways = [(Way::Tcp, "127.0.0.1"), (Way::Unix, "unix")];
        for (way, trusted) in ways.into_iter().take(if unix == tcp { 1 } else { 2 }) {
            serves(shipped, way, trusted);
            let Some(site) = Site::new(shipped, way, trusted) else { return };
            let line = site.refusal();
            assert!(line.contains(&format!("peer={VISITOR}")), "{shipped:?} {way:?}: {line}");
            assert!(!line.contains("203.0.113.9"), "what the visitor claims: {line}");
        }
    }
}

#[test]
fn behind_nginx() {
    works("nginx");
}

#[test]
fn behind_apache() {
    works("apache2");
}

#[test]
fn behind_haproxy() {
    works("haproxy");
}

#[test]
fn behind_caddy() {
    works("caddy");
}

#[test]
fn a_proxy_that_is_not_trusted_is_not_believed() {
    let Some(site) = Site::new(SHIPPED[0], Way::Tcp, "192.0.2.1") else { return };
    let line = site.refusal();
    assert!(line.contains("peer=127.0.0.1:"), "{line}");
}
