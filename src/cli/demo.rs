//! `wsson demo`: a whole site in one process, for a newcomer's first minute.
//!
//! Everything has built-in defaults and lives in a temporary folder that only this user may enter and that is removed
//! at the end; no configuration is read. The one page, embedded here, is the only thing wsson ever serves over HTTP.
//! Invariant: only this host can reach the demo, and only under the two names of [`HOSTS`], so no other site can read
//! the page by pointing a name of its own here.

use super::args::Args;
use super::{Exit, Failure, Outcome, cookie};
use crate::auth::{self, IdentityKind, Secret};
use crate::config::Settings;
use crate::dispatch;
use crate::net::BindError;
use crate::roster::{Address, items};
use crate::server::StartError;
use crate::wire::command::{self, Command};
use crate::wire::frame::Kind;
use crate::wire::json;
use crate::{ClientId, Handler, Hub, Request, Server, Signal, Wake};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

const PAGE: &str = include_str!("demo.html");
/// The port when none is asked for; a free one when it is taken.
const PORT: u16 = 8099;
/// Names under which a browser on this host reaches the demo.
const HOSTS: [&str; 2] = ["127.0.0.1", "localhost"];
/// Ctrl-C should feel immediate; browsers answer a close frame in a few milliseconds.
const DRAIN_MS: u64 = 1_000;
/// Users that visitors are by themselves, one after the other; the page lets them choose another name.
const NAMES: [&str; 8] = ["anna", "ben", "cleo", "dan", "eve", "finn", "gus", "hana"];
/// Longest name of a user: it stands in a path, and in every line of the page.
const NAME_CHARS_MAX: usize = 20;
/// The one group that the page shows.
const ROOM: &str = "room";
/// How soon every page shows that a user came or left.
const NEWS: Duration = Duration::from_millis(200);
/// Characters of the secret and of nonces, hexadecimal: 128 bits.
const RANDOM_CHARS: usize = 32;

pub(crate) fn run(args: &Args) -> Outcome {
    let folder = Folder::create()?;
    let mut settings = settings(&folder)?;
    let mut server = bind(args, &mut settings)?;
    server.handle_signals().map_err(|error| Failure::io("cannot take over the signals", &error))?;
    server.set_tick(NEWS);
    server.handler_mut().introduce();
    serve(&mut server).map_err(|error| Failure::io("cannot wait for events", &error))
}

/// A closed terminal (SIGHUP) ends the demo as Ctrl-C does: no terminal would show it any more.
fn serve(server: &mut Server<Demo>) -> io::Result<Exit> {
    loop {
        match server.next()? {
            Wake::Drained => return Ok(Exit::Done),
            Wake::Signal(Signal::Terminate | Signal::Interrupt | Signal::Hangup) => {
                if server.is_draining() {
                    return Ok(Exit::Done);
                }
                server.drain();
            }
            Wake::Signal(_) => {}
            Wake::Tick => tell_news(server),
        }
    }
}

/// All pages show that a user came, left or joined, whichever way it happened.
fn tell_news(server: &mut Server<Demo>) {
    let here = who_is_here(server.hub());
    if here != server.handler_mut().here {
        server.hub().send_broadcast(Kind::Text, here.as_bytes());
        server.handler_mut().here = here;
    }
}

/// The users with their connections, and how many of these are in the room, as the page's script reads it.
fn who_is_here(hub: &Hub) -> String {
    let in_room: HashMap<String, usize> = hub.here(Address::Group(ROOM), None).names.into_iter().collect();
    let mut users = hub.here(Address::All, None).names;
    users.sort();
    let rows = users.into_iter().map(|(name, tabs)| {
        let in_room = in_room.get(&name).copied().unwrap_or_default();
        json!([name, tabs, in_room])
    });
    json!({ "demo": { "here": rows.collect::<Vec<Value>>() } }).to_string()
}

fn settings(folder: &Folder) -> Result<Settings, Failure> {
    let control = folder.0.join("control.sock");
    let control = control.to_str().ok_or_else(|| {
        Failure::new(Exit::Failed, "the temporary folder's name is not UTF-8").or("TMPDIR=/tmp wsson demo")
    })?;
    let mut settings =
        Settings { control: vec![format!("unix://{control}")], pid: None, ..Settings::default() };
    settings.auth.identity = IdentityKind::User;
    settings.auth.secrets = vec![Secret::new(cookie::random_token(RANDOM_CHARS)?)];
    settings.timeouts.drain_ms = DRAIN_MS;
    Ok(settings)
}

/// Binds the port that was asked for, or the usual one, or, if that is taken, any.
fn bind(args: &Args, settings: &mut Settings) -> Result<Server<Demo>, Failure> {
    let asked = port(args)?;
    let mut occupied = false;
    let server = match attempt(asked.unwrap_or(PORT), settings) {
        Err(StartError::Bind(BindError::InUse(_))) if asked.is_none() => {
            occupied = true;
            attempt(0, settings)
        }
        result => result,
    };
    let mut server = server.map_err(|error| start_failure(&error))?;
    let port = server.addresses().next().and_then(|address| address.rsplit(':').next()?.parse().ok());
    let port = port.expect("a TCP listener's address ends with its port");
    // The origins are known only now: the kernel may have chosen the port.
    settings.origins = HOSTS.map(|host| origin(host, port)).into();
    // Cookies know no ports: those of another demo, or of the tour, are not ours.
    let names = &mut settings.auth;
    for name in
        [&mut names.cookie_user, &mut names.cookie_token, &mut names.cookie_time, &mut names.cookie_digest]
    {
        *name = format!("{name}_{port}");
    }
    server.apply(settings);
    server.handler_mut().take(settings, occupied);
    Ok(server)
}

fn attempt(port: u16, settings: &mut Settings) -> Result<Server<Demo>, StartError> {
    settings.servers = vec![format!("tcp://127.0.0.1:{port}")];
    Server::bind(settings, Demo::default())
}

fn start_failure(error: &StartError) -> Failure {
    let failure = Failure::new(Exit::Failed, error.to_string());
    match error {
        StartError::Bind(BindError::InUse(_)) => failure.or("wsson demo, which then takes a free port"),
        _ => failure,
    }
}

fn port(args: &Args) -> Result<Option<u16>, Failure> {
    let Some(text) = args.value("port")? else { return Ok(None) };
    let port =
        text.parse().map_err(|_| super::usage(args, format!("--port {text:?} is not a port: 0 to 65535")))?;
    Ok(Some(port))
}

/// As browsers send it: without the port that HTTP has anyway.
fn origin(host: &str, port: u16) -> String {
    match port {
        80 => format!("http://{host}"),
        port => format!("http://{host}:{port}"),
    }
}

/// A folder of our own, removed with all that is in it.
struct Folder(PathBuf);

impl Folder {
    fn create() -> Result<Self, Failure> {
        let name = format!("wsson-demo-{}", cookie::random_token(12)?);
        let temporary = std::env::temp_dir();
        let path = std::path::absolute(&temporary).unwrap_or(temporary).join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| Failure::io(format!("cannot create the folder {}", path.display()), &error))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // At the end no caller can act on the error, and a temporary folder is cleaned by the system.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The application: it serves the page, signs visitors in, and prints on the terminal the commands to try.
#[derive(Debug, Default)]
struct Demo {
    settings: Settings,
    /// How this program is called in a shell.
    program: String,
    occupied: bool,
    /// The user that was announced last.
    announced: String,
    /// Users that were given a name so far.
    given: usize,
    /// Who is here, as all pages show it.
    here: String,
}

impl Demo {
    fn take(&mut self, settings: &Settings, occupied: bool) {
        self.settings = settings.clone();
        self.program = program();
        self.occupied = occupied;
    }

    fn control_path(&self) -> &str {
        self.settings.control[0].trim_start_matches("unix://")
    }

    fn introduce(&self) {
        let mut text = String::new();
        if self.occupied {
            let _ = writeln!(text, "Port {PORT} is occupied, so the demo took a free one.\n");
        }
        let Self { program, settings, .. } = self;
        let _ = writeln!(
            text,
            "The demo is at  {}/\n\n\
             Open it in a browser, in two tabs: they are two users. Send both a message, from another terminal:\n\n  \
             printf 5bHello | nc -NU {}\n  \
             {program} send --control {} --all 'Hello again'\n\n\
             (nc is the OpenBSD version: on Debian the package netcat-openbsd.)\n\n\
             Is your browser on another machine? Type this there, and open the same address:\n\n  \
             {}\n\n\
             Ctrl-C ends the demo.",
            settings.origins[0],
            cookie::shell_word(self.control_path()),
            cookie::shell_word(&settings.control[0]),
            tunnel(&settings.origins[0], &|name| std::env::var(name).ok()),
        );
        print(&text);
    }

    /// Prints the command that reaches a user. A user's tabs come one after the other, and are announced once.
    fn announce(&mut self, user: &str) {
        if user == self.announced {
            return;
        }
        user.clone_into(&mut self.announced);
        print(&format!(
            "\n{user} logged in. To send to this user only:\n\n  {} send --control {} --user {user} 'Hello, {user}'\n",
            self.program,
            cookie::shell_word(&self.settings.control[0]),
        ));
    }

    /// The next name that no user here has.
    fn free_name(&mut self, hub: &Hub) -> String {
        let mut numbers = self.given..;
        let name = |number: usize| match NAMES.get(number % (2 * NAMES.len())) {
            Some(name) => (*name).to_owned(),
            None => format!("guest-{number}"),
        };
        let is_free = |number: &usize| hub.online(Address::User(&name(*number))) == 0;
        let number = numbers.find(is_free).expect("there are more numbers than connections");
        self.given = number + 1;
        name(number)
    }

    /// The page of a user, or, for its script, the parts of the commands that it shows. Either logs the user in.
    fn answer(&self, hub: &Hub, request: &Request<'_>, user: &str) -> Result<Vec<u8>, Failure> {
        let mut fields = String::from(
            "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCache-Control: no-store\r\n",
        );
        let token = match hub.verify_cookies(request) {
            Ok(identity) if identity.user.as_deref() == Some(user) => identity.token.into_owned(),
            _ => self.log_in(hub, user, &mut fields)?,
        };
        if request.header("accept") == Some(b"application/json") {
            fields += "Content-Type: application/json\r\n";
            return Ok(response("200 OK", &fields, &self.details(user, &token)));
        }
        let nonce = cookie::random_token(RANDOM_CHARS)?;
        let policy = policy(&nonce, request.host());
        let _ =
            write!(fields, "Content-Type: text/html; charset=utf-8\r\nContent-Security-Policy: {policy}\r\n");
        Ok(response("200 OK", &fields, &PAGE.replace("@NONCE@", &nonce)))
    }

    /// Issues cookies for a new token. They are for the path of this user, so that a browser can be several.
    fn log_in(&self, hub: &Hub, user: &str, fields: &mut String) -> Result<String, Failure> {
        let rules = &self.settings.auth;
        let token = cookie::random_token(rules.token_length)?;
        for (name, value) in auth::issue(rules, &token, user, hub.now().unix_s) {
            let _ = write!(
                fields,
                "Set-Cookie: {name}={value}; Path=/{user}; Max-Age={}; HttpOnly; SameSite=Strict\r\n",
                rules.lifetime_s
            );
        }
        Ok(token)
    }

    fn details(&self, user: &str, token: &str) -> String {
        let members =
            [("user", user), ("token", token), ("control", self.control_path()), ("program", &self.program)];
        json::text(&json::Object(&members)) + "\n"
    }

    /// Whether the browser asked for a name of ours. A page under another name is another site's (DNS rebinding).
    fn is_own_host(&self, host: &str) -> bool {
        let origin = format!("http://{}", host.to_ascii_lowercase());
        self.settings.origins.contains(&origin)
    }
}

impl Handler for Demo {
    fn on_request(&mut self, hub: &Hub, request: &Request<'_>) -> Option<Vec<u8>> {
        const TEXT: &str = "Content-Type: text/plain\r\n";
        if !self.is_own_host(request.host()) {
            return Some(response("421 Misdirected Request", TEXT, "The demo does not go by this name.\n"));
        }
        let answer = match request.target() {
            "/" => {
                let field = format!("Location: /{}\r\nCache-Control: no-store\r\n", self.free_name(hub));
                return Some(response("302 Found", &field, ""));
            }
            path => match user_of(path) {
                Some(user) => self.answer(hub, request, user),
                None => {
                    return Some(response(
                        "404 Not Found",
                        TEXT,
                        "The demo has a page for each user, such as /anna.\n",
                    ));
                }
            },
        };
        Some(answer.unwrap_or_else(|failure| {
            response("500 Internal Server Error", TEXT, &format!("{}\n", failure.text))
        }))
    }

    fn on_handshake(&mut self, hub: &mut Hub, id: ClientId) {
        let user = hub.user(id).unwrap_or_default().to_owned();
        let welcome = format!("Welcome, {user}. You are logged in, and this message was pushed to you.");
        hub.send_direct(id, Kind::Text, welcome.as_bytes());
        hub.send_direct(id, Kind::Text, who_is_here(hub).as_bytes());
        self.announce(&user);
    }

    /// The frame of a backend that the page's button sends, and its answer. Only those that the page shows.
    fn on_binary_message(&mut self, hub: &mut Hub, id: ClientId, frame: &[u8]) {
        let Ok(Some((used, command))) = command::decode(frame, hub.control_rules()) else { return };
        if used < frame.len() {
            return;
        }
        match command {
            Command::Broadcast(kind, message) if command::is_sendable(kind, message) => {
                hub.send_broadcast(kind, message);
            }
            Command::Join(..)
            | Command::Leave(..)
            | Command::Kick(..)
            | Command::Here(..)
            | Command::Refused(..) => {
                let answer = dispatch::answer(hub, command);
                let text = String::from_utf8_lossy(&answer.json()).into_owned();
                let answer = json!({ "demo": { "answer": text } }).to_string();
                hub.send_direct(id, Kind::Text, answer.as_bytes());
            }
            Command::Write(kind, to, message) if !message.is_empty() => {
                hub.write(items(&to), kind, message);
            }
            _ => {}
        }
    }
}

/// The user whose page a path is.
fn user_of(path: &str) -> Option<&str> {
    let user = path.strip_prefix('/')?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    (matches!(user.len(), 1..=NAME_CHARS_MAX) && user.bytes().all(fits)).then_some(user)
}

/// Nothing but the page's own style and script, and the WebSocket of the host that served it. `'self'` alone does not
/// include that in every browser.
fn policy(nonce: &str, host: &str) -> String {
    format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; \
         connect-src 'self' ws://{host}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

fn response(status: &str, fields: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}

/// The command that brings the demo's port to a visitor's machine. A shell over SSH has both addresses in its
/// environment.
fn tunnel(origin: &str, get: &dyn Fn(&str) -> Option<String>) -> String {
    let port = origin
        .rsplit(':')
        .next()
        .filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
        .unwrap_or("80");
    let connection = get("SSH_CONNECTION").unwrap_or_default();
    let host = connection.split(' ').nth(2).filter(|host| !host.is_empty()).unwrap_or("THIS-HOST");
    let user = get("USER").filter(|user| !user.is_empty()).unwrap_or_else(|| "USER".into());
    format!("ssh -N -L {port}:127.0.0.1:{port} {}", cookie::shell_word(&format!("{user}@{host}")))
}

/// `wsson` if a shell would find this very program under that name, else its path.
fn program() -> String {
    let Ok(own) = std::env::current_exe() else { return "wsson".into() };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("wsson")).find(|file| file.is_file());
    match found.and_then(|file| fs::canonicalize(file).ok()) {
        Some(found) if found == own => "wsson".into(),
        _ => cookie::shell_word(&own.to_string_lossy()),
    }
}

/// A terminal that is gone does not end the demo; its SIGHUP does.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_leads_to_where_the_shell_came_in() {
        let over_ssh = |name: &str| match name {
            "USER" => Some("anna".into()),
            _ => Some("203.0.113.9 50000 192.0.2.1 22".into()),
        };
        let known = tunnel("http://127.0.0.1:8099", &over_ssh);
        assert_eq!(known, "ssh -N -L 8099:127.0.0.1:8099 anna@192.0.2.1");
        assert_eq!(tunnel("http://127.0.0.1", &|_| None), "ssh -N -L 80:127.0.0.1:80 USER@THIS-HOST");
    }
}
