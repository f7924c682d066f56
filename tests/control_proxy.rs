//! The control socket in HTTP behind nginx, which asks each program for a certificate: conf/nginx/wsson-control.conf as it is
//! shipped, under a real nginx. Needs nginx, curl and openssl, and says so where one is missing; with WSSON_REQUIRE_TOOLS=1
//! in the environment that is a failure.

mod rig;

use rig::{Running, Site, config, eventually, free_port, source};
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

fn is_there(name: &str) -> bool {
    let is_there =
        Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !is_there {
        let required = std::env::var_os("WSSON_REQUIRE_TOOLS").is_some_and(|value| value == "1");
        assert!(!required, "there is no {name}, and WSSON_REQUIRE_TOOLS wants all tests");
        eprintln!("skipped: there is no {name}");
    }
    is_there
}

/// Makes an authority and, signed by it, a certificate.
fn certify(site: &Site, authority: &str, name: &str) {
    let openssl = |words: &[&str]| {
        let mut command = Command::new("openssl");
        let status = command.args(words).current_dir(site.folder()).stderr(Stdio::null()).status();
        assert!(status.expect("it runs").success(), "{words:?}");
    };
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let subject = |name: &str| format!("/CN={name}");
    let file = |name: &str, end: &str| format!("{name}.{end}");
    if !site.path(&file(authority, "pem")).exists() {
        let (key, pem) = (file(authority, "key"), file(authority, "pem"));
        let end = ["-x509", "-days", "2", "-keyout", &key, "-out", &pem, "-subj", &subject(authority)];
        openssl(&[&["req"], &new_key[..], &end].concat());
    }
    let (key, request, pem) = (file(name, "key"), file(name, "csr"), file(name, "pem"));
    openssl(
        &[&["req"], &new_key[..], &["-keyout", &key, "-out", &request, "-subj", &subject(name)]].concat(),
    );
    site.write("names", &format!("subjectAltName=DNS:{name}\n"), 0o600);
    let (ca, ca_key) = (file(authority, "pem"), file(authority, "key"));
    openssl(&[
        "x509",
        "-req",
        "-days",
        "2",
        "-in",
        &request,
        "-CA",
        &ca,
        "-CAkey",
        &ca_key,
        "-CAcreateserial",
        "-extfile",
        "names",
        "-out",
        &pem,
    ]);
}

/// nginx with the snippet, its places changed to the test's.
fn nginx(site: &Site, port: u16) -> Running {
    let mut text =
        fs::read_to_string(source("conf").join("nginx/wsson-control.conf")).expect("it is shipped");
    for (shipped, ours) in [
        ("listen 443 ssl;", format!("listen 127.0.0.1:{port} ssl;")),
        ("    listen [::]:443 ssl;\n", String::new()),
        ("/etc/ssl/certs/push.example.com.pem", site.text("push.example.com.pem")),
        ("/etc/ssl/private/push.example.com.key", site.text("push.example.com.key")),
        ("/etc/wsson/programs-ca.pem", site.text("programs.pem")),
        ("unix:/run/wsson/control.sock", format!("unix:{}", site.text("control.sock"))),
    ] {
        assert!(text.contains(shipped), "the snippet has no {shipped}");
        text = text.replace(shipped, &ours);
    }
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {};\n", site.text(name)))
        .concat();
    let around = format!(
        "daemon off;\npid {};\nerror_log stderr;\nevents {{}}\nhttp {{\n{temp}access_log off;\n{text}\n}}\n",
        site.text("nginx.pid")
    );
    site.write("nginx.conf", &around, 0o644);
    let log = fs::File::create(site.path("nginx.log")).expect("ours");
    let mut command = Command::new("nginx");
    command.args(["-e", "stderr", "-c"]).arg(site.path("nginx.conf")).stdout(Stdio::null()).stderr(log);
    let nginx = Running::start(&mut command);
    eventually("nginx listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    nginx
}

#[test]
fn programs_with_a_certificate_push_through_nginx() {
    if !["nginx", "curl", "openssl"].into_iter().all(is_there) {
        return;
    }
    let text = "secret = 'proxy-tests-only-77aa'\n[sockets]\ncontrol_mode = '0666'\n";
    let site = Site::with(&config(text));
    // nginx's workers run as another user where root has started it.
    fs::set_permissions(site.folder(), fs::Permissions::from_mode(0o755)).expect("ours");
    certify(&site, "site", "push.example.com");
    certify(&site, "programs", "cron");
    certify(&site, "strangers", "visitor");
    let mut command = site.wsson(&["run"]);
    let _server = Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
    eventually("wsson listens", || site.path("control.sock").exists());
    let port = free_port();
    let nginx = nginx(&site, port);
    let curl = |who: Option<&str>, words: &[&str], target: &str| {
        let mut command = Command::new("curl");
        command.args(["-s", "-w", "\n%{http_code}", "--cacert"]).arg(site.path("site.pem"));
        command.args(["--resolve", &format!("push.example.com:{port}:127.0.0.1")]);
        if let Some(who) = who {
            command.arg("--cert").arg(site.path(&format!("{who}.pem")));
            command.arg("--key").arg(site.path(&format!("{who}.key")));
        }
        command.args(words).arg(format!("https://push.example.com:{port}{target}"));
        let output = command.output().expect("curl runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = said.rsplit_once('\n').expect("a status");
        (status.to_owned(), body.to_owned())
    };
    let ours = Some("cron");
    let (status, body) = curl(ours, &["-d", "Hello"], "/send?to=*");
    assert_eq!((&*status, &*body), ("200", r#"{"connections":0,"away":0,"absent":["*"],"refused":0}"#));
    assert_eq!(curl(ours, &["-H", "Transfer-Encoding: chunked", "-d", "Hello"], "/send?to=*").0, "200");
    let list = r#"[{"to":["u:1"],"text":"a"},{"to":["u:2"],"base64":"AA=="}]"#;
    let (status, body) = curl(ours, &["-H", "Content-Type: application/json", "-d", list], "/send");
    assert_eq!((&*status, body.matches("absent").count()), ("200", 2), "{body}");
    assert!(curl(ours, &[], "/metrics").1.contains("\nwsson_http_requests_total "));
    assert_eq!(curl(ours, &[], "/nowhere").0, "404");
    assert_eq!(curl(ours, &["-H", "Origin: https://a.example", "-d", "EVIL"], "/send?to=*").0, "403");
    assert_eq!(curl(ours, &["-H", "Cookie: a=b", "-d", "EVIL"], "/send?to=*").0, "403");
    // Without one, and with one of another authority, nginx lets nobody through.
    for who in [None, Some("visitor")] {
        let (status, body) = curl(who, &["-d", "EVIL"], "/send?to=*");
        assert!(status == "400" && !body.contains("connections"), "{who:?}: {status} {body}");
    }
    nginx.signal("TERM");
}
