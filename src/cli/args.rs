//! Commands and options as tables, and the reading of the command line with them.
//!
//! Parsing, help and the hints for mistyped words use the same tables, so they cannot differ.
//! A command is added by an entry of [`COMMANDS`].

use super::{
    Exit, Failure, Outcome, check, cookie, demo, doctor, init, listen, reload, send, service, status, who,
};
use crate::config::nearest;
use crate::daemon::CONFIG_DEFAULT;
use lexopt::Arg;
use std::ffi::OsString;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// A command of wsson.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) name: &'static str,
    summary: &'static str,
    /// The words that may stand behind the command beside options; empty for none.
    words: &'static str,
    options: &'static [&'static Opt],
    /// More lines for its page of help.
    details: &'static str,
    pub(crate) run: fn(&Args) -> Outcome,
}

/// An option, with the name of its value if it takes one.
#[derive(Debug)]
pub(crate) struct Opt {
    long: &'static str,
    short: Option<char>,
    value: Option<&'static str>,
    /// The value may be missing; it stands behind an equals sign then.
    is_optional: bool,
    help: &'static str,
}

impl Opt {
    const fn flag(long: &'static str, help: &'static str) -> Self {
        Self { long, short: None, value: None, is_optional: false, help }
    }

    const fn with(long: &'static str, value: &'static str, help: &'static str) -> Self {
        Self { long, short: None, value: Some(value), is_optional: false, help }
    }
}

const CONFIG: Opt = Opt {
    long: "config",
    short: Some('c'),
    value: Some("FILE"),
    is_optional: false,
    help: "the configuration; by default /etc/wsson/wsson.toml",
};
const ALLOW_WEAK: Opt =
    Opt::flag("allow-weak", "accept weak secrets and files that others may read: for tests");
const HELP: Opt = Opt { long: "help", short: Some('h'), value: None, is_optional: false, help: "this text" };
const VERSION: Opt =
    Opt { long: "version", short: Some('V'), value: None, is_optional: false, help: "the version" };
const VERBOSE: Opt = Opt {
    long: "verbose",
    short: Some('v'),
    value: None,
    is_optional: false,
    help: "log every connection as well",
};
const CONTROL: Opt = Opt::with("control", "ADDRESS", "the control socket, instead of the configuration's");
const JSON: Opt = Opt::flag("json", "one JSON object, for programs");

const BUS: Opt = Opt::flag("bus", "ask the instances of [bus] as well, and listen for the other nodes");
const BIND: Opt = Opt::flag("bind", "try the addresses as well: one that a server has already is wrong");

const KEEP: Opt = Opt::with(
    "keep",
    "FOLDER",
    "keep the configuration that served there; after a failed start the next one serves with it",
);
const NOW: Opt = Opt::flag("now", "kill it, clients or not: for one that hangs");

const SERVE_OPTIONS: &[&Opt] = &[&CONFIG, &ALLOW_WEAK, &VERBOSE];

const COOKIE_OPTIONS: &[&Opt] = &[
    &CONFIG,
    &ALLOW_WEAK,
    &Opt::with("token", "TOKEN", "the token; random when not given"),
    &Opt::with("user", "USER", "the user, with identity = \"user\" or scheme = \"jwt\""),
    &Opt::with("groups", "GROUPS", "groups to join, with commas: by a ticket in the URL, or by the JWT"),
    &Opt::with("time", "SECONDS", "the unix time of issue; now when not given"),
    &Opt::with("format", "FORMAT", "js (default, for a browser's console), header, curl, url, or json"),
    &Opt::with("verify", "HEADER", "judge the value of a Cookie header instead"),
];

const INIT_OPTIONS: &[&Opt] = &[
    &CONFIG,
    &Opt::with("origin", "ORIGIN", "whose pages connect, such as https://www.example.com"),
    &Opt::with("proxy", "NAME", "the web server in front: nginx (default), apache, haproxy, caddy, or none"),
    &Opt::with("language", "NAME", "what the site is written in: php (default), python, or node"),
    &Opt::with("server", "ADDRESS", "where wsson listens; tcp://127.0.0.1:8099 behind a proxy"),
];

const SEND_OPTIONS: &[&Opt] = &[
    &CONFIG,
    &CONTROL,
    &Opt::with("token", "TOKEN", "send to the client with this token"),
    &Opt::with("user", "USER", "send to all connections of this user"),
    &Opt::with("group", "GROUP", "send to all connections in this group"),
    &Opt::with("to", "ADDRESSES", "send to all that these name: u:44,g:shop/7,t:TOKEN,c:CONNECTION,*,-u:45"),
    &Opt::flag("all", "send to every client"),
    &Opt::flag("binary", "as a binary message; otherwise it is text, in UTF-8"),
    &Opt::flag(
        "confirm",
        "wait for the answer whether a client is there and the message is queued; not with --all",
    ),
    &Opt {
        long: "arrived",
        short: None,
        value: Some("SECONDS"),
        is_optional: true,
        help: "wait until the browsers have it, for at most so long, and tell how many do",
    },
];

/// Every command, in the order of the help.
const COMMANDS: &[Command] = &[
    Command {
        name: "run",
        summary: "serve in the foreground",
        words: "",
        options: &[&CONFIG, &ALLOW_WEAK, &VERBOSE, &KEEP],
        details: "For service managers, containers and development. SIGTERM ends it.\n",
        run: service::run,
    },
    Command {
        name: "start",
        summary: "serve in the background",
        words: "",
        options: SERVE_OPTIONS,
        details: "Returns when the server listens, or with what prevented it. With log = \"stderr\" such a server logs to\n\
            syslog. Exit codes: 0 started, or running already; 1, 4 or 6 not started.\n",
        run: service::start,
    },
    Command {
        name: "stop",
        summary: "end the running server and wait until it is gone",
        words: "",
        options: &[
            &CONFIG,
            &NOW,
            &Opt::with(
                "over",
                "SECONDS",
                "tell the clients one after the other over this time: timeouts.drain_over",
            ),
        ],
        details: "A server that a unit of systemd runs is stopped by systemctl.\n\
            Exit codes: 0 ended, or not running; 1 it does not end, 4 not permitted.\n",
        run: service::stop,
    },
    Command {
        name: "restart",
        summary: "stop, then start; a bad configuration leaves the old server running",
        words: "",
        options: SERVE_OPTIONS,
        details: "A server that a unit of systemd runs is restarted by systemctl, after the same check.\n",
        run: service::restart,
    },
    Command {
        name: "reload",
        summary: "apply a changed configuration without cutting a connection",
        words: "",
        options: &[&CONFIG, &ALLOW_WEAK],
        details: "Prints what was applied and what needs a restart. A bad configuration changes nothing.\n\
            Exit codes: 0 done, 1 the server could not, 6 the configuration is wrong, 7 there is no server.\n",
        run: reload::run,
    },
    Command {
        name: "status",
        summary: "show what the server does, on one screen",
        words: "",
        options: &[
            &CONFIG,
            &CONTROL,
            &JSON,
            &Opt::flag("watch", "again every second, with what each second brought, until Ctrl-C"),
        ],
        details: "Exit codes: 0 running, 1 dead but its PID file is there, 3 not running, 4 unknown.\n",
        run: status::run,
    },
    Command {
        name: "check",
        summary: "verify the configuration and show the settings that hold, secrets masked",
        words: "",
        options: &[&CONFIG, &ALLOW_WEAK, &BIND, &BUS],
        details: "Exit codes: 0 all is right, 1 a folder or file is wrong, 6 the configuration is.\n",
        run: check::run,
    },
    Command {
        name: "cookie",
        summary: "issue the cookies of a login, or judge some",
        words: "",
        options: COOKIE_OPTIONS,
        details: "Exit codes of --verify: 0 the cookies are good, 1 they break a rule, which is named.\n",
        run: cookie::run,
    },
    Command {
        name: "send",
        summary: "send a message to those that are named, or to all",
        words: "[MESSAGE]",
        options: SEND_OPTIONS,
        details: "Without MESSAGE the message is read from standard input. A message that starts with a hyphen\n\
            is written behind \"--\".\n\
            An empty message is not sent: with --confirm it asks whether the client is there.\n\
            Exit codes: 0 sent or acknowledged, 1 not acknowledged, 2 nothing to send, 7 there is no server.\n",
        run: send::run,
    },
    Command {
        name: "online",
        summary: "count the connections of users, tokens, groups",
        words: "[ADDRESSES]",
        options: &[&CONFIG, &CONTROL, &JSON],
        details: "ADDRESSES are separated by commas: u:USER, t:TOKEN, g:GROUP, c:CONNECTION, or * for all, which is meant\n\
            when there are none.\n",
        run: who::online,
    },
    Command {
        name: "here",
        summary: "list the users, or tokens, behind an address",
        words: "[ADDRESS]",
        options: &[&CONFIG, &CONTROL, &JSON],
        details: "ADDRESS is one of u:USER, t:TOKEN, g:GROUP, c:CONNECTION, or * for all, which is meant when there is none.\n",
        run: who::here,
    },
    Command {
        name: "kick",
        summary: "close the connections of users, tokens, groups",
        words: "ADDRESSES",
        options: &[
            &CONFIG,
            &CONTROL,
            &JSON,
            &Opt::with("reason", "TEXT", "what the page is told; logged out by default"),
        ],
        details: "The close code is 4001. A browser that still has the cookies can come back.\n",
        run: who::kick,
    },
    Command {
        name: "revoke",
        summary: "close the connections of logins, and refuse these logins",
        words: "ADDRESSES",
        options: &[
            &CONFIG,
            &CONTROL,
            &JSON,
            &Opt::with("reason", "TEXT", "what the page is told; logged out by default"),
        ],
        details: "ADDRESSES are t:TOKEN for one login, u:USER for every login of a user that was issued until now. With revoked_file in\n\
            the configuration that outlives a restart.\n",
        run: who::revoke,
    },
    Command {
        name: "join",
        summary: "put connections into groups",
        words: "GROUPS ADDRESSES",
        options: &[&CONFIG, &CONTROL, &JSON],
        details: "GROUPS are names with commas between them, such as room,shop/7; ADDRESSES as for kick.\n",
        run: who::join,
    },
    Command {
        name: "leave",
        summary: "take connections out of groups",
        words: "GROUPS ADDRESSES",
        options: &[&CONFIG, &CONTROL, &JSON],
        details: "GROUPS are names with commas between them, such as room,shop/7; ADDRESSES as for kick.\n",
        run: who::leave,
    },
    Command {
        name: "listen",
        summary: "print what clients do and say, a line for each event",
        words: "",
        options: &[
            &CONFIG,
            &CONTROL,
            &Opt::flag("json", "a JSON object for each event, for programs"),
            &Opt::with("kinds", "KINDS", "message,open,close,online,offline; all when not given"),
            &Opt::with(
                "as",
                "POOL",
                "as a worker of this pool, which takes its share of the events from the others",
            ),
            &Opt::flag("retry", "wait for a server that goes, or is not there, and go on"),
        ],
        details: "Without --as it only looks on: the site's workers get all events as before, and when this reads too slowly it ends.\n\
            Messages are told with on_message = \"forward\". Fields of a line: kind, connection, user or token, and the message,\n\
            the address or the close code, with tabs between them.\n\
            Exit codes: 0 the reader of the lines has gone, 1 refused or too slow, 7 the server is gone, or not there.\n",
        run: listen::run,
    },
    Command {
        name: "init",
        summary: "write a configuration and a secret, and show what the site has to do",
        words: "",
        options: INIT_OPTIONS,
        details: "Asks on a terminal what no option says. Overwrites nothing: there must be no configuration yet, and a secret\n\
            that is there is kept. With -c all files stand beside that one, which is good for a try.\n",
        run: init::run,
    },
    Command {
        name: "doctor",
        summary: "look at everything that could be wrong, also from outside, and tell the cure",
        words: "[URL]",
        options: &[
            &CONFIG,
            &ALLOW_WEAK,
            &Opt::flag("quick", "do not wait for the ping that a quiet connection gets"),
        ],
        details: "Looks at the configuration, at who runs the server and how, at the control socket and the log. With the URL that\n\
            the page opens it goes the way of a browser: name, TCP, TLS, proxy, Origin, cookies, a message, a quiet time.\n\
            Exit codes: 0 all is well, 1 something is wrong, 6 the configuration is.\n",
        run: doctor::run,
    },
    Command {
        name: "demo",
        summary: "show everything at work in a browser, without any configuration",
        words: "",
        options: &[&Opt::with("port", "PORT", "the port on 127.0.0.1; 8099 when not given, or a free one")],
        details: "What it needs is made in a temporary folder, which is removed at the end (Ctrl-C).\n",
        run: demo::run,
    },
    Command {
        name: "help",
        summary: "this text, or that of a command",
        words: "[COMMAND]",
        options: &[],
        details: "",
        run: super::help,
    },
    Command {
        name: "version",
        summary: "show the version",
        words: "",
        options: &[],
        details: "",
        run: super::version,
    },
];

/// The request of a command line.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// A page of help.
    Help(String),
    /// A command.
    Command(Args),
}

/// A command with its options and words.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    pub(crate) command: &'static Command,
    /// Options given, flags with an empty value.
    options: Vec<(&'static str, OsString)>,
    /// The words that are neither the command nor options.
    pub(crate) words: Vec<String>,
    /// The folder in which the command was given, for a server that leaves it.
    folder: PathBuf,
}

impl Args {
    /// Whether the option was given.
    pub(crate) fn has(&self, option: &str) -> bool {
        self.options.iter().any(|(long, _)| *long == option)
    }

    /// The option's value; the last one when it was given more than once.
    pub(crate) fn value(&self, option: &str) -> Result<Option<&str>, Failure> {
        let Some((_, value)) = self.options.iter().rev().find(|(long, _)| *long == option) else {
            return Ok(None);
        };
        match value.to_str() {
            Some(value) => Ok(Some(value)),
            None => Err(super::usage(self, format!("the value of --{option} is not UTF-8"))),
        }
    }

    /// The configuration file as an absolute path, and whether `-c` named it.
    pub(crate) fn config(&self) -> (PathBuf, bool) {
        match self.options.iter().rev().find(|(long, _)| *long == CONFIG.long) {
            // A folder that is gone leaves the path as it was given; opening it gives the error.
            Some((_, path)) => (std::path::absolute(path).unwrap_or_else(|_| path.into()), true),
            None => (CONFIG_DEFAULT.into(), false),
        }
    }

    /// A path as seen from the folder in which the command was given.
    pub(crate) fn as_given(&self, path: impl AsRef<Path>) -> PathBuf {
        self.folder.join(path)
    }

    /// The same with the configuration's absolute path: for a server that leaves the folder and reads it again.
    pub(crate) fn anchored(&self) -> Self {
        let mut args = self.clone();
        args.options.push((CONFIG.long, self.config().0.into()));
        args
    }

    /// Whether weak secrets and open files are accepted.
    pub(crate) fn allow_weak(&self) -> bool {
        self.has(ALLOW_WEAK.long)
    }
}

/// Reads the command line, without the program's name.
pub(crate) fn parse(line: impl Iterator<Item = OsString>) -> Result<Wanted, Failure> {
    let mut parser = lexopt::Parser::from_args(line);
    let mut command: Option<&'static Command> = None;
    let mut options = Vec::new();
    let mut words = Vec::new();
    while let Some(arg) = parser.next().map_err(|error| misread(command, &error))? {
        match arg {
            Arg::Value(word) if command.is_none() => command = Some(command_named(&text(word)?)?),
            Arg::Value(word) => words.push(text(word)?),
            Arg::Short('h') | Arg::Long("help") => {
                return Ok(Wanted::Help(command.map_or_else(overview, Command::page)));
            }
            Arg::Short('V') | Arg::Long("version") if command.is_none() => {
                command = Some(command_named("version")?);
            }
            Arg::Short(short) => {
                let option = find(command, |option| option.short == Some(short));
                let option = option.ok_or_else(|| unknown(command, &format!("-{short}")))?;
                options.push((option.long, value_of(option, command, &mut parser)?));
            }
            Arg::Long(long) => {
                let option = find(command, |option| option.long == long);
                let option = option.ok_or_else(|| unknown(command, &format!("--{long}")))?;
                options.push((option.long, value_of(option, command, &mut parser)?));
            }
        }
    }
    let Some(command) = command else {
        return Err(Failure::new(Exit::Usage, "no command is given").or("wsson help"));
    };
    // A folder that is gone leaves paths as they were given.
    let folder = std::env::current_dir().unwrap_or_default();
    let args = Args { command, options, words, folder };
    check_words(&args)?;
    Ok(Wanted::Command(args))
}

/// Before the command only the option that every command shares may stand.
fn find(command: Option<&Command>, fits: impl Fn(&Opt) -> bool) -> Option<&'static Opt> {
    let options: &[&'static Opt] = command.map_or(&[&CONFIG], |command| command.options);
    options.iter().copied().find(|option| fits(option))
}

fn value_of(
    option: &Opt,
    command: Option<&Command>,
    parser: &mut lexopt::Parser,
) -> Result<OsString, Failure> {
    match option.value {
        Some(_) if option.is_optional => Ok(parser.optional_value().unwrap_or_default()),
        Some(_) => parser.value().map_err(|error| misread(command, &error)),
        None => Ok(OsString::new()),
    }
}

fn check_words(args: &Args) -> Result<(), Failure> {
    let command = args.command;
    let words_max = command.words.split_whitespace().count();
    if let Some(word) = args.words.get(words_max) {
        let quote = if words_max == 1 { "; put a message with blanks in quotes" } else { "" };
        return Err(super::usage(args, format!("{} does not take {word:?}{quote}", command.name)));
    }
    // `wsson -c FILE help` would otherwise be silently accepted.
    let stray =
        args.options.iter().find(|(long, _)| !command.options.iter().any(|option| option.long == *long));
    match stray {
        Some((long, _)) => Err(unknown(Some(command), &format!("--{long}"))),
        None => Ok(()),
    }
}

fn text(word: OsString) -> Result<String, Failure> {
    word.into_string().map_err(|_| {
        Failure::new(Exit::Usage, "an argument is not UTF-8")
            .or("give the bytes of a binary message on standard input")
    })
}

fn misread(command: Option<&Command>, error: &lexopt::Error) -> Failure {
    let text = match error {
        lexopt::Error::MissingValue { option: Some(option) } => format!("{option} needs a value"),
        lexopt::Error::UnexpectedValue { option, .. } => format!("{option} takes no value"),
        other => other.to_string(),
    };
    Failure::new(Exit::Usage, text).or(help_for(command))
}

fn unknown(command: Option<&Command>, given: &str) -> Failure {
    let known = |command: &Command| {
        command.options.iter().any(|option| given.strip_prefix("--") == Some(option.long))
    };
    if command.is_none() && COMMANDS.iter().any(known) {
        let text = format!("{given} stands before the command");
        return Failure::new(Exit::Usage, text).or(format!("wsson COMMAND {given}"));
    }
    let options = command.map_or(&[&CONFIG] as &[&Opt], |command| command.options);
    let longs: Vec<String> = options.iter().map(|option| format!("--{}", option.long)).collect();
    let place = command.map_or(String::new(), |command| format!(" of {}", command.name));
    let failure = Failure::new(Exit::Usage, format!("{given} is not an option{place}"));
    match nearest(given, longs.iter().map(String::as_str)) {
        Some(near) => failure.or(format!("{near}, or: {}", help_for(command))),
        None => failure.or(help_for(command)),
    }
}

fn help_for(command: Option<&Command>) -> String {
    command.map_or("wsson help".into(), |command| format!("wsson help {}", command.name))
}

/// Finds a command, or says which one may have been meant.
pub(crate) fn command_named(name: &str) -> Result<&'static Command, Failure> {
    COMMANDS.iter().find(|command| command.name == name).ok_or_else(|| {
        let failure = Failure::new(Exit::Usage, format!("{name:?} is not a command"));
        match nearest(name, COMMANDS.iter().map(|command| command.name)) {
            Some(near) => failure.or(format!("wsson {near}, or: wsson help")),
            None => failure.or("wsson help"),
        }
    })
}

/// The help of wsson as a whole.
pub(crate) fn overview() -> String {
    let mut page = String::from(
        "wsson pushes messages from a web site's programs to its logged-in browsers over WebSocket.\n\n\
         usage: wsson COMMAND [-c FILE] [OPTIONS]\n\ncommands:\n",
    );
    for command in COMMANDS {
        let _ = writeln!(page, "  {:<9} {}", command.name, command.summary);
    }
    page.push_str("\noptions of every command:\n");
    for option in [&CONFIG, &HELP, &VERSION] {
        option.line(&mut page);
    }
    page.push_str("\nwsson help COMMAND tells the rest. The configuration is explained in wsson.toml(5).\n");
    page
}

impl Command {
    /// The help of one command.
    pub(crate) fn page(&self) -> String {
        let mut page = format!("wsson {}: {}\n\nusage: wsson {}", self.name, self.summary, self.name);
        for part in [if self.options.is_empty() { "" } else { "[OPTIONS]" }, self.words] {
            if !part.is_empty() {
                let _ = write!(page, " {part}");
            }
        }
        page.push_str("\n\noptions:\n");
        for option in self.options.iter().copied().chain([&HELP]) {
            option.line(&mut page);
        }
        if !self.details.is_empty() {
            let _ = write!(page, "\n{}", self.details);
        }
        page
    }
}

impl Opt {
    fn line(&self, page: &mut String) {
        let short = self.short.map_or("    ".into(), |short| format!("-{short}, "));
        let value = match self.value {
            Some(value) if self.is_optional => format!("[={value}]"),
            Some(value) => format!(" {value}"),
            None => String::new(),
        };
        let _ = writeln!(page, "  {:<24} {}", format!("{short}--{}{value}", self.long), self.help);
    }
}
