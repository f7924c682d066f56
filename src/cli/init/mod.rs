//! `wsson init`: a configuration and a secret for a site, and the steps for the site, ready to be copied.
//!
//! It asks on a terminal for the values that no option gives. It prints the snippets of conf/ and of this folder with
//! the site's own names in them; the tests log in with them.
//!
//! Invariant: it overwrites nothing. A file that is there is either kept, as the secret, or a failure, as the
//! configuration.

use super::args::Args;
use super::{Exit, Failure, Outcome, cookie, say};
use crate::config::Settings;
use crate::daemon::CONFIG_DEFAULT;
use crate::sys;
use crate::wire::json;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// Characters of a secret, hexadecimal: 192 bits.
const SECRET_CHARS: usize = 48;
/// Where wsson listens when nothing says where.
const SERVER: &str = "tcp://127.0.0.1:8099";
/// The account of the package, which may read a secret that its group may read.
const ACCOUNT: &str = "wsson";

/// A web server in front of wsson: its name, the snippet for it, the line for a Unix socket in it, that for TCP.
struct Proxy {
    name: &'static str,
    snippet: &'static str,
    ways: [&'static str; 2],
    place: &'static str,
}

const PROXIES: [Proxy; 4] = [
    Proxy {
        name: "nginx",
        snippet: include_str!("../../../conf/nginx/wsson-location.conf"),
        ways: ["proxy_pass http://unix:/run/wsson/server.sock;", "proxy_pass http://127.0.0.1:8099;"],
        place: "into the server block of the site",
    },
    Proxy {
        name: "apache",
        snippet: include_str!("../../../conf/apache/wsson-location.conf"),
        ways: [
            "ProxyPass \"unix:/run/wsson/server.sock|http://localhost/ws\" upgrade=websocket timeout=75",
            "ProxyPass \"http://127.0.0.1:8099/ws\" upgrade=websocket timeout=75",
        ],
        place: "into the VirtualHost of the site; a2enmod proxy proxy_http headers",
    },
    Proxy {
        name: "haproxy",
        snippet: include_str!("../../../conf/haproxy/wsson-path.cfg"),
        ways: ["server ws1 unix@/run/wsson/server.sock check", "server ws1 127.0.0.1:8099 check"],
        place: "the lines of the frontend into the site's own frontend",
    },
    Proxy {
        name: "caddy",
        snippet: include_str!("../../../conf/caddy/Caddyfile.path"),
        ways: ["reverse_proxy unix//run/wsson/server.sock", "reverse_proxy 127.0.0.1:8099"],
        place: "the block \"handle /ws\" into the site's own",
    },
];

/// A language of the site: its name and the snippet that logs a visitor in.
const LANGUAGES: [(&str, &str); 3] = [
    ("php", include_str!("login.php")),
    ("python", include_str!("login.py")),
    ("node", include_str!("login.js")),
];

pub(crate) fn run(args: &Args) -> Outcome {
    let (config, _) = args.config();
    refuse_existing(&config)?;
    let stdin = io::stdin();
    let ask = stdin.is_terminal() && io::stderr().is_terminal();
    let plan = Plan::read(args, config, ask.then(|| Asking { input: stdin.lock(), output: io::stderr() }))?;
    let made_secret = plan.write_secret()?;
    plan.write_config()?;
    say(&plan.told(made_secret))
}

fn refuse_existing(config: &Path) -> Result<(), Failure> {
    if !config.exists() {
        return Ok(());
    }
    let text = format!("there is a configuration {} already, and init overwrites nothing", config.display());
    Err(Failure::new(Exit::Failed, text)
        .or(format!("wsson check -c {}, or: wsson init -c ANOTHER-FILE", config.display())))
}

/// Questions on a terminal.
struct Asking<I, O> {
    input: I,
    output: O,
}

impl<I: BufRead, O: Write> Asking<I, O> {
    /// The answer, or the value in brackets when there is none.
    fn ask(&mut self, question: &str, usual: &str) -> Result<String, Failure> {
        let brackets = if usual.is_empty() { String::new() } else { format!(" [{usual}]") };
        let failed = |error: io::Error| Failure::io("cannot ask", &error);
        write!(self.output, "{question}{brackets} ").and_then(|()| self.output.flush()).map_err(failed)?;
        let mut line = String::new();
        self.input.read_line(&mut line).map_err(failed)?;
        match line.trim() {
            "" => Ok(usual.to_owned()),
            answer => Ok(answer.to_owned()),
        }
    }
}

/// Everything that has to be known.
struct Plan {
    config: PathBuf,
    origin: String,
    proxy: Option<&'static Proxy>,
    language: (&'static str, &'static str),
    server: String,
}

impl Plan {
    fn read<I: BufRead, O: Write>(
        args: &Args,
        config: PathBuf,
        mut asking: Option<Asking<I, O>>,
    ) -> Result<Self, Failure> {
        let mut find = |option: &str, question: &str, usual: &str| match (args.value(option)?, &mut asking) {
            (Some(value), _) => Ok(value.to_owned()),
            (None, Some(asking)) => asking.ask(question, usual),
            (None, None) => Ok(usual.to_owned()),
        };
        let wrong = |text: String| super::usage(args, text);
        let origin =
            find("origin", "Whose pages connect? Scheme and host, as in https://www.example.com:", "")?;
        if origin.is_empty() {
            return Err(wrong(
                "init needs to know whose pages connect: --origin https://www.example.com".into(),
            ));
        }
        let origin = crate::auth::parse_origin(&origin)
            .map_err(|why| wrong(format!("{origin:?} is no origin like https://www.example.com: {why}")))?;
        let proxy =
            find("proxy", "Which web server is in front (nginx, apache, haproxy, caddy, none)?", "nginx")?;
        let proxy = match proxy.as_str() {
            "none" => None,
            name => Some(PROXIES.iter().find(|proxy| proxy.name == name).ok_or_else(|| {
                wrong(format!("--proxy {name:?} is not known: nginx, apache, haproxy, caddy, or none"))
            })?),
        };
        let language = find("language", "What is the site written in (php, python, node)?", "php")?;
        let language = LANGUAGES.into_iter().find(|(name, _)| *name == language);
        let language = language.ok_or_else(|| wrong("--language is php, python, or node".into()))?;
        let server = args.value("server")?.map(str::to_owned).unwrap_or_else(|| match (proxy, &*origin) {
            (Some(_), _) => SERVER.into(),
            (None, origin) if host(origin) == "localhost" || host(origin) == "127.0.0.1" => SERVER.into(),
            (None, origin) if origin.starts_with("https:") => "tls://0.0.0.0:8443".into(),
            (None, _) => "tcp://0.0.0.0:8099".into(),
        });
        let plan = Self { config, origin, proxy, language, server };
        plan.judge().map_err(wrong)?;
        Ok(plan)
    }

    /// The answers must make a configuration that wsson takes.
    fn judge(&self) -> Result<(), String> {
        match Settings::parse(&self.text(), self.folder()) {
            Ok(_) => Ok(()),
            Err(errors) => Err(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
        }
    }

    fn folder(&self) -> &Path {
        self.config.parent().unwrap_or(Path::new("/"))
    }

    fn secret(&self) -> PathBuf {
        self.folder().join("secret")
    }

    /// The system's own configuration has the system's places; one in another folder has all of them beside it.
    fn is_systems(&self) -> bool {
        self.config == Path::new(CONFIG_DEFAULT)
    }

    fn text(&self) -> String {
        let quote = |text: &str| json::text(text);
        let mut text =
            String::from("# Made by \"wsson init\". wsson.toml(5) and conf/wsson.toml have every key.\n\n");
        let _ = writeln!(text, "servers = {}", quote(&self.server));
        if !self.is_systems() {
            text.push_str("control = \"unix://control.sock\"\npid = \"wsson.pid\"\nlog = \"./wsson.log\"\n");
        } else if account().is_some() {
            let _ = writeln!(text, "user = {}", quote(ACCOUNT));
        }
        let _ = writeln!(text, "secret_file = \"secret\"\norigins = {}", quote(&self.origin));
        if self.proxy.is_some() {
            let trusted = if self.server.starts_with("unix:") { "unix" } else { "127.0.0.1" };
            let _ = writeln!(text, "trusted_proxies = [\"{trusted}\"]");
        }
        text.push_str("\n[auth]\ndigest = \"hmac-sha256\"\n");
        if self.server.starts_with("tls:") {
            let live = format!("/etc/letsencrypt/live/{}", host(&self.origin));
            let _ = writeln!(
                text,
                "\n[tls]\ncertificate = \"{live}/fullchain.pem\"\nkey = \"{live}/privkey.pem\""
            );
        }
        text
    }

    /// Whether the secret was made; one that is there already is kept.
    fn write_secret(&self) -> Result<bool, Failure> {
        let path = self.secret();
        let secret = cookie::random_token(SECRET_CHARS)? + "\n";
        let mut file = match create(&path, 0o600) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(error) => return Err(cannot_write(&path, &error)),
        };
        file.write_all(secret.as_bytes()).map_err(|error| cannot_write(&path, &error))?;
        if self.is_systems() {
            share(&file).map_err(|error| cannot_write(&path, &error))?;
        }
        Ok(true)
    }

    fn write_config(&self) -> Result<(), Failure> {
        let written = create(&self.config, 0o644).and_then(|mut file| file.write_all(self.text().as_bytes()));
        written.map_err(|error| cannot_write(&self.config, &error))
    }

    /// The files that were made and the steps that are left, in their order.
    fn told(&self, made_secret: bool) -> String {
        let (config, secret) = (self.config.display(), self.secret());
        let secret = secret.display();
        let kept = if made_secret { "" } else { " (it was there already, and is kept)" };
        let (language, login) = (self.language.0, self.login());
        let mut text = format!(
            "The configuration is {config}, and the secret {secret}{kept}.\n\n\
             1. When a visitor logs in, the site sets three cookies ({language}):\n\n{login}\n"
        );
        if account().is_some() && self.is_systems() {
            let _ = writeln!(
                text,
                "   The site's user must be able to read the secret, and to use the control socket:\n   \
                 adduser www-data {ACCOUNT}, and start its service again.\n"
            );
        }
        let mut number = 2;
        if let Some(proxy) = self.proxy {
            let _ = writeln!(
                text,
                "2. {} passes /ws on ({}):\n\n{}",
                proxy.name,
                proxy.place,
                self.snippet(proxy)
            );
            number = 3;
        }
        let _ =
            writeln!(text, "{number}. The page opens a WebSocket:\n\nnew WebSocket({})\n", self.page_url());
        let at = if self.is_systems() {
            String::new()
        } else {
            format!(" -c {}", cookie::shell_word(&config.to_string()))
        };
        let _ = write!(
            text,
            "{}. Start wsson, look whether all is well, and send:\n\n\
             wsson start{at}\nwsson doctor{at} {}\nwsson send{at} --all Hello\n",
            number + 1,
            self.url()
        );
        text
    }

    fn login(&self) -> String {
        let login = self.language.1.replace("/etc/wsson/secret", &self.secret().display().to_string());
        match self.origin.starts_with("https:") {
            true => login,
            // Over plain HTTP a browser keeps no cookie that is for HTTPS only.
            false => login.replace("'secure' => true, ", "").replace(" Secure;", ""),
        }
    }

    /// The snippet without its introduction, with the way to this server in it.
    fn snippet(&self, proxy: &Proxy) -> String {
        let code = proxy.snippet.split_once("\n\n").map_or(proxy.snippet, |(_, code)| code);
        let [unix, tcp] = proxy.ways;
        let (wanted, other) = if self.server.starts_with("unix:") { (unix, tcp) } else { (tcp, unix) };
        let is_other = |line: &&str| line.trim().trim_start_matches("# ") == other;
        // Caddy's block stands behind the way over TCP.
        let lines =
            code.lines().filter(|line| !is_other(line) && *line != "    # Over a Unix socket instead:");
        let code: String = lines.flat_map(|line| [line, "\n"]).collect();
        let code = code
            .replace(&format!("# {wanted}"), wanted)
            .replace(&format!("{other} {{"), &format!("{wanted} {{"));
        let code = match code.matches(wanted).count() {
            2 => code.replacen(&format!("{wanted}\n"), "\n", 1),
            _ => code,
        };
        let address = self.server.split_once("://").map_or("", |(_, address)| address);
        code.replace("/run/wsson/server.sock", address)
            .replace("127.0.0.1:8099", address)
            .replace("www.example.com", host(&self.origin))
    }

    /// As the page's script writes it.
    fn page_url(&self) -> String {
        match self.proxy {
            Some(_) => "location.origin.replace(\"http\", \"ws\") + \"/ws\"".into(),
            None => json::text(&self.url()),
        }
    }

    /// As a browser reaches it.
    fn url(&self) -> String {
        let (scheme, rest) = self.origin.split_once("://").unwrap_or(("https", &self.origin));
        let port = self.server.rsplit(':').next().unwrap_or_default();
        match (self.proxy, self.server.starts_with("tls:")) {
            (Some(_), _) => format!("{}://{rest}/ws", scheme.replacen("http", "ws", 1)),
            (None, true) => format!("wss://{}:{port}/", host(&self.origin)),
            (None, false) => format!("ws://{}:{port}/", host(&self.origin)),
        }
    }
}

/// The host of an origin, without scheme and port.
fn host(origin: &str) -> &str {
    let rest = origin.split_once("://").map_or(origin, |(_, rest)| rest);
    match rest.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => rest,
    }
}

/// The account that the package makes, if this is root, as only root can give a file to it.
fn account() -> Option<sys::User> {
    sys::is_root().then(|| sys::user(ACCOUNT).ok().flatten()).flatten()
}

/// Lets the account's group read the secret: that is how the site gets at it.
fn share(secret: &File) -> io::Result<()> {
    let Some(user) = account() else { return Ok(()) };
    fchown(secret, None, Some(user.gid))?;
    secret.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o640))
}

fn create(path: &Path, mode: u32) -> io::Result<File> {
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        fs::create_dir(folder)?;
    }
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::io(format!("cannot write {}", path.display()), error);
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            failure.or("the same as root, or for a try: wsson init -c ./wsson.toml")
        }
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(origin: &str, proxy: usize, server: &str) -> Plan {
        let config = PathBuf::from("/srv/site/wsson.toml");
        let proxy = PROXIES.get(proxy);
        Plan { config, origin: origin.into(), proxy, language: LANGUAGES[0], server: server.into() }
    }

    #[test]
    fn an_answer_or_what_is_usual() {
        let mut asking = Asking { input: &b"apache\n\n"[..], output: Vec::new() };
        assert_eq!(asking.ask("Which?", "nginx").as_deref(), Ok("apache"));
        assert_eq!(asking.ask("Which?", "nginx").as_deref(), Ok("nginx"));
        assert_eq!(asking.ask("Which?", "").as_deref(), Ok(""), "the end of the input is no answer");
        assert_eq!(asking.output, b"Which? [nginx] Which? [nginx] Which? ");
    }

    /// Each snippet leads to this server and nowhere else, under the site's own name.
    #[test]
    fn snippets_lead_to_this_server() {
        for (place, proxy) in PROXIES.iter().enumerate() {
            for (server, there, gone) in [
                ("tcp://127.0.0.1:9000", "127.0.0.1:9000", "unix"),
                ("unix:///srv/site/server.sock", "/srv/site/server.sock", "127.0.0.1"),
            ] {
                let text = plan("https://shop.example", place, server).snippet(proxy);
                assert_eq!(text.matches(there).count(), 1, "{}: {text}", proxy.name);
                let code: String = text.lines().filter(|line| !line.trim().starts_with('#')).collect();
                assert!(!code.contains(gone) && code.contains(there), "{}: {text}", proxy.name);
                assert!(!text.contains("example.com") && !text.contains("/run/wsson"), "{text}");
            }
        }
    }

    #[test]
    fn every_plan_is_a_configuration() {
        for server in [SERVER, "unix://server.sock", "tls://0.0.0.0:8443"] {
            for proxy in [0, PROXIES.len()] {
                let plan = plan("https://shop.example:444", proxy, server);
                assert_eq!(plan.judge(), Ok(()), "{}", plan.text());
            }
        }
    }

    #[test]
    fn urls_are_those_of_browsers() {
        assert_eq!(plan("https://shop.example", 0, SERVER).url(), "wss://shop.example/ws");
        assert_eq!(plan("http://localhost:8000", 0, SERVER).url(), "ws://localhost:8000/ws");
        assert_eq!(plan("http://localhost:8000", 9, SERVER).url(), "ws://localhost:8099/");
        assert_eq!(plan("https://shop.example", 9, "tls://0.0.0.0:8443").url(), "wss://shop.example:8443/");
    }
}
