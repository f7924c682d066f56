//! One row for each key of the configuration: its name, kind, bounds, default, whether a reload applies it, and what
//! it is for.
//!
//! Parsing, showing, the hint for a mistyped key, what a reload applies, and docs/settings.md come from these rows. A
//! key is added by its row alone: the row makes the field of the settings, and tests fail until conf/wsson.toml and
//! wsson.toml(5) know the key. The sentences above a row are its documentation, in the program and in the docs; they
//! give the reason of every limit. design: endpoint.md "Limits and timers".

use super::parse::Reader;
use super::shape::{
    Choice, Count, CountOr, Describe, Flag, List, Seconds, Shape, Shown, Size, StickyFlag, Text,
};
use super::values;
use super::{LogTarget, OnMessage, Redis, TlsFiles};
use crate::auth::{Digests, IdentityKind, Rules, Scheme, Secret};
use std::path::{Path, PathBuf};
use toml_span::value::Value;

/// When a change of a key takes effect.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    /// At `wsson reload`.
    Reload,
    /// At the next start: it is bound to sockets, to the process, or to what open connections were admitted by.
    Restart,
}

/// A row: everything that the program knows of a key.
pub struct Key {
    /// The section that it stands in; empty for the top of the file.
    pub section: &'static str,
    /// Its name with its section, `limits.head`.
    pub name: &'static str,
    /// What it is for and why its default is what it is; Markdown.
    pub doc: &'static str,
    /// When a change takes effect.
    pub effect: Effect,
    pub(super) describe: fn() -> String,
    pub(super) read: fn(&mut Reader<'_>, &mut Settings, &str, &Value<'_>),
    pub(super) show: fn(&Settings) -> Shown,
    pub(super) differs: fn(&Settings, &Settings) -> bool,
    pub(super) copy: fn(&mut Settings, &Settings),
}

impl Key {
    /// Its name without the section.
    pub fn word(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// What may stand there: kind, bounds, unit.
    pub fn describe(&self) -> String {
        (self.describe)()
    }

    /// What holds when the key is not given, as it would be written.
    pub fn default_value(&self) -> Shown {
        (self.show)(&Settings::default())
    }

    /// The value that it has, as it would be written.
    pub fn show(&self, settings: &Settings) -> Shown {
        (self.show)(settings)
    }

    /// Whether two settings have different values for it.
    pub fn differs(&self, one: &Settings, other: &Settings) -> bool {
        (self.differs)(one, other)
    }

    /// Gives the value that it has in `from` to `to`.
    pub fn copy(&self, to: &mut Settings, from: &Settings) {
        (self.copy)(to, from);
    }

    /// The name in what a reload reports: certificate and key are one thing.
    pub fn reported(&self) -> &'static str {
        if self.section == "tls" { "tls" } else { self.name }
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Every key, those of a section in a row.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    let tables: [&[Key]; 9] = [SECRETS, TOP, CONTROL_KEY, AUTH, LIMITS, TIMEOUTS, TLS, SOCKETS, BUS];
    tables.into_iter().flatten()
}

/// The sections, in the order of the documentation; the top of the file is the empty one.
pub fn sections() -> impl Iterator<Item = &'static str> {
    let mut last = None;
    keys().map(|key| key.section).filter(move |section| last.replace(*section) != Some(*section))
}

/// A key by its section and its word.
pub fn find(section: &str, word: &str) -> Option<&'static Key> {
    keys().find(|key| key.section == section && key.word() == word)
}

/// Rows of fields that lie at a place in the settings.
macro_rules! rows {
    (($settings:ident => $place:expr) $section:literal $prefix:literal {
        $($(#[doc = $doc:literal])* $name:literal => $field:ident: $type:ty, $shape:expr, $effect:ident;)*
    }) => {
        &[$({
            fn field($settings: &Settings) -> &$type {
                &$place.$field
            }
            fn field_mut($settings: &mut Settings) -> &mut $type {
                &mut $place.$field
            }
            Key {
                section: $section,
                name: concat!($prefix, $name),
                doc: concat!($($doc, "\n"),*),
                effect: Effect::$effect,
                describe: || Describe::describe(&$shape),
                read: |reader, settings, name, value| {
                    Shape::<$type>::read(&$shape, reader, field_mut(settings), name, value);
                },
                show: |settings| Shape::<$type>::show(&$shape, field(settings)),
                differs: |one, other| field(one) != field(other),
                copy: |to, from| field_mut(to).clone_from(field(from)),
            }
        }),*]
    };
}

/// A struct of the settings and its rows, from one list. `beside` are fields that are no keys.
macro_rules! section {
    ($(#[$about:meta])* struct $Struct:ident, $table:ident at ($settings:ident => $place:expr) $section:literal $prefix:literal {
        $($(#[doc = $doc:literal])* $name:literal => $field:ident: $type:ty = $default:expr, $shape:expr, $effect:ident;)*
    } $(beside {
        $($(#[$what:meta])* $other:ident: $other_type:ty,)*
    })?) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $Struct {
            $($(#[doc = $doc])* pub $field: $type,)*
            $($($(#[$what])* pub $other: $other_type,)*)?
        }

        impl Default for $Struct {
            fn default() -> Self {
                Self { $($field: $default,)* $($($other: Default::default(),)*)? }
            }
        }

        static $table: &[Key] = rows!(($settings => $place) $section $prefix {
            $($(#[doc = $doc])* $name => $field: $type, $shape, $effect;)*
        });
    };
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The default of `limits.message`, and the largest `limits.head`: the driver ties them to what it reads at once.
pub(crate) const MESSAGE_BYTES_DEFAULT: usize = 64 * KIB;
pub(crate) const HEAD_BYTES_MAX: usize = 64 * KIB;

/// The driver reads into one buffer of this size and a request head is read in one piece from it. A head shorter than the least does not
/// hold what every browser sends.
const HEAD: Size = Size { min: 256, max: HEAD_BYTES_MAX };
/// Positions in an outbox are 32-bit numbers; far more than one peer should ever hold back.
const OUTBOX_BYTES_MAX: usize = 1024 * MIB;
/// The announced length of a command has at most eight digits (COMMANDS.md "Frames").
const CONTROL_PAYLOAD_BYTES_MAX: usize = 99_999_999;
/// More descriptors than a process can be given on any host we know.
const CLIENTS: Count = Count::from(1, 16 * MIB as i64);
/// Any number of something that a 32-bit number counts.
const ANY_COUNT: Count = Count::from(1, u32::MAX as i64);
/// The longest wait for browsers that have got a message.
pub(crate) const ARRIVAL_MS_MAX: u64 = 30_000;
/// Longer than a day is no timeout but a leak.
const TIMEOUT: Seconds = Seconds { min_ms: 1, max_ms: 86_400_000 };
/// Ten years: a login that lasts longer is a typing error.
const LIFETIME: Count = Count { min: 1, max: 10 * 366 * 86_400, unit: "seconds" };
/// Below 16 a token can be guessed; 128 is more than any session identifier has.
const TOKEN_LENGTH: Count = Count { min: 16, max: 128, unit: "characters" };

const FILE: Text<PathBuf> =
    Text { about: "a path", read: values::path, show: |path| Some(path.display().to_string()) };
const ACCOUNT: Text<Option<String>> =
    Text { about: "a name or a number", read: |text, _| values::account(text).map(Some), show: Clone::clone };
const COOKIE: Text<String> = Text {
    about: "a cookie's name",
    read: |text, _| values::cookie_name(text),
    show: |name| Some(name.clone()),
};
const MODE: Text<u32> = Text {
    about: "permissions in octal, as a string",
    read: |text, _| values::mode(text),
    show: |mode| Some(format!("{mode:04o}")),
};

/// A list of strings that are kept as strings.
const fn strings(about: &'static str, read: fn(&str, &Path) -> Result<String, String>) -> List<String> {
    List { about, read, show: |entries| Some(entries.to_vec()) }
}

static SECRETS: &[Key] = rows!((settings => settings.auth) "" "" {
    /// The secret itself, or a list of two, new and old, instead of `secret_file`. The configuration must then not be
    /// readable by others.
    "secret" => secrets: Vec<Secret>, List {
        about: "a string of at least 16 bytes",
        read: |text, _| Ok(Secret::new(text)),
        // The mask is too short to be taken for a secret.
        show: |secrets| {
            let masks = (1..=secrets.len()).map(|number| format!("(masked {number})"));
            (!secrets.is_empty()).then(|| masks.collect())
        },
    }, Reload;
});

section! {
    /// Everything a server can be told. `Settings::default()` is what an empty configuration file means.
    struct Settings, TOP at (settings => *settings) "" "" {
        /// Files that hold the secrets that the site signs logins with: at least 16 bytes, generated, readable by wsson and the site only.
        /// A list of two, new and old, changes the secret without cutting anyone.
        "secret_file" => secret_files: Vec<PathBuf> = Vec::new(), List {
            about: "a path",
            read: values::path,
            show: |paths| {
                (!paths.is_empty()).then(|| paths.iter().map(|path| path.display().to_string()).collect())
            },
        }, Reload;
        /// Where browsers connect: `tcp://127.0.0.1:8099`, `unix:///run/wsson/server.sock`, `tls://0.0.0.0:8443`.
        "servers" => servers: Vec<String> = vec!["tcp://127.0.0.1:8099".into()],
            strings("an address: tcp://, tls:// or unix://", values::listener), Restart;
        /// What the command `m` answers for the listener at the same place in `servers`; may be shorter than it.
        "domains" => domains: Vec<String> = Vec::new(),
            strings("a host and a port", |text, _| values::domain(text)), Restart;
        /// Where backends connect: `unix:///run/wsson/control.sock`, and beside or instead of it `tcp://127.0.0.1:8098` or
        /// `tls://0.0.0.0:8443`. The command line uses the first that is `unix://`, else the first.
        "control" => control: Vec<String> = vec!["unix:///run/wsson/control.sock".into()],
            strings("an address: unix://, tcp:// or tls://", values::listener), Restart;
        /// Host names by which HTTP requests may reach a control listener on TCP, besides IP addresses and `localhost`. A
        /// page can make a name of its own lead to your host, but not one of these.
        "control_hosts" => control_hosts: Vec<String> = Vec::new(),
            strings("a host name without a port", |text, _| values::host_name(text)), Reload;
        /// Whether a control listener without a key may be on an address that is not loopback. A program that reaches it may send to
        /// everyone.
        "control_public" => control_public: bool = false, Flag, Restart;
        /// The file that is locked for the life of the process; `""` for none, in a container or under systemd.
        "pid" => pid: Option<PathBuf> = Some("/run/wsson/wsson.pid".into()), Text {
            about: "a path, or \"\"",
            read: |text, base_dir| {
                if text.is_empty() { Ok(None) } else { values::path(text, base_dir).map(Some) }
            },
            show: |path| Some(path.as_deref().map_or(String::new(), |path| path.display().to_string())),
        }, Restart;
        /// Whether short or published secrets are accepted: for tests only.
        "allow_weak_secret" => allow_weak_secret: bool = false, StickyFlag, Reload;
        /// The origins a browser may come from: scheme, host and port, in ASCII lower case, no pattern. Without one every
        /// browser is refused.
        "origins" => origins: Vec<String> = Vec::new(),
            strings("an origin, like https://example.com", |text, _| values::origin(text)), Reload;
        /// The path under which every server listener answers load balancers, without a login: 200 `ok`, or 503 `draining`.
        /// `""` for none.
        "health" => health: String = "/healthz".into(), Text {
            about: "a path like /healthz, or \"\"",
            read: |text, _| values::url_path(text),
            show: |path| Some(path.clone()),
        }, Reload;
        /// What happens to the messages of clients; `log` logs their length, never their content; `forward` tells them to
        /// workers, which are the backends that ask for them.
        "on_message" => on_message: OnMessage = OnMessage::Drop, ON_MESSAGE, Reload;
        /// Prefixes of groups that a page may join by itself, by `?groups=` in its URL; every other group needs a ticket.
        /// None: who may be where is for the site to say.
        "groups_public" => groups_public: Vec<String> = Vec::new(),
            strings("the beginning of a group's name, like news:", |text, _| values::group_prefix(text)), Reload;
        /// The file in which revoked logins outlive a restart; `""` for none. It belongs to the user that wsson runs as.
        "revoked_file" => revoked_file: Option<PathBuf> = None, Text {
            about: "a path, or \"\"",
            read: |text, base_dir| {
                if text.is_empty() { Ok(None) } else { values::path(text, base_dir).map(Some) }
            },
            show: |path| Some(path.as_deref().map_or(String::new(), |path| path.display().to_string())),
        }, Restart;
        /// The user to become after binding, when started as root.
        "user" => user: Option<String> = None, ACCOUNT, Restart;
        /// The group to become after binding; the user's own group when none is given.
        "group" => group: Option<String> = None, ACCOUNT, Restart;
        /// Where the log goes; a path is opened again on SIGUSR1.
        "log" => log: LogTarget = LogTarget::Stderr, Text {
            about: "\"stderr\", \"syslog\", or a path",
            read: values::log_target,
            show: |target| Some(match target {
                LogTarget::File(path) => path.display().to_string(),
                LogTarget::Stderr => "stderr".into(),
                LogTarget::Syslog => "syslog".into(),
            }),
        }, Reload;
        /// Proxies whose `X-Forwarded-For` is believed in the log, and whose PROXY header with `proxy_protocol`; `unix` for
        /// those that connect over a Unix socket.
        "trusted_proxies" => trusted_proxies: Vec<String> = Vec::new(),
            strings("an address, a block like 10.0.0.0/8, or \"unix\"", |text, _| values::network(text)), Reload;
        /// Whether `trusted_proxies` begin each connection with a header of the PROXY protocol, version 1 or 2, as HAProxy's
        /// `send-proxy` and load balancers of layer 4 do. It is required of them then, and refused from all others.
        "proxy_protocol" => proxy_protocol: bool = false, Flag, Reload;
        /// Whether TCP listeners set `SO_REUSEPORT`, for several processes on one port. Each then knows its own clients
        /// only, unless `[bus]` connects them.
        "reuseport" => reuseport: bool = false, Flag, Restart;
    } beside {
        /// How a login is proved.
        auth: Rules,
        /// Bounds of space and number.
        limits: Limits,
        /// Bounds of time.
        timeouts: Timeouts,
        /// The certificate of `tls://` listeners.
        tls: Option<TlsFiles>,
        /// Permissions of Unix sockets.
        sockets: Sockets,
        /// Files with the keys that control connections over TCP and TLS must show.
        control_key_files: Vec<PathBuf>,
        /// What is in them.
        control_keys: Vec<Secret>,
        /// Other nodes.
        bus: Bus,
    }
}

/// A change of what is in the files is a change of the key, too, so its row is written out.
static CONTROL_KEY: &[Key] = &[Key {
    section: "",
    name: "control_key_file",
    doc: "Files that hold the key that every control connection over TCP or TLS must show: at least 16 characters, generated,\n\
        readable by wsson and its backends only. A list of two, new and old, changes the key without cutting anyone. Unix\n\
        sockets need none; an address beyond the loopback is refused without.",
    effect: Effect::Reload,
    describe: || KEY_FILES.describe(),
    read: |reader, settings, name, value| {
        KEY_FILES.read(reader, &mut settings.control_key_files, name, value);
    },
    show: |settings| KEY_FILES.show(&settings.control_key_files),
    differs: |one, other| {
        one.control_key_files != other.control_key_files || one.control_keys != other.control_keys
    },
    copy: |to, from| {
        to.control_key_files.clone_from(&from.control_key_files);
        to.control_keys.clone_from(&from.control_keys);
    },
}];

const KEY_FILES: List<PathBuf> = List {
    about: "a path",
    read: values::path,
    show: |paths| (!paths.is_empty()).then(|| paths.iter().map(|path| path.display().to_string()).collect()),
};

const ON_MESSAGE: Choice<OnMessage> = Choice(&[
    ("drop", OnMessage::Drop),
    ("echo", OnMessage::Echo),
    ("broadcast", OnMessage::Broadcast),
    ("log", OnMessage::Log),
    ("forward", OnMessage::Forward),
]);

// The fields are those of `auth::Rules`, which proves logins with them.
static AUTH: &[Key] = rows!((settings => settings.auth) "auth" "auth." {
    /// What proves a login: the signed cookies, or a JSON Web Token that is signed with HS256 and stands in the cookie
    /// `auth.cookie_token`.
    "scheme" => scheme: Scheme, Choice(&[("cookies", Scheme::Cookies), ("jwt", Scheme::Jwt)]), Restart;
    /// Whether the JWT may stand in the URL instead, as `?jwt=`: for apps, and for pages of sites whose cookies do not reach
    /// wsson. Proxies write URLs into their logs.
    "query" => query: bool, Flag, Restart;
    /// Whom the cookies identify: a token alone, or a user too, which adds a user cookie and
    /// `limits.connections_per_user`.
    "identity" => identity: IdentityKind,
        Choice(&[("token", IdentityKind::Token), ("user", IdentityKind::User)]), Restart;
    /// How the cookies are signed: `md5` is what sites made for ws(s)on do, `hmac-sha256` is for new sites, `both` for as
    /// long as a site goes from one to the other.
    "digest" => digest: Digests,
        Choice(&[("md5", Digests::Md5), ("hmac-sha256", Digests::HmacSha256), ("both", Digests::Both)]), Reload;
    /// Characters of a token, exactly. 32: `bin2hex(random_bytes(16))`. The control commands use the same.
    "token_length" => token_length: usize, TOKEN_LENGTH, Restart;
    /// From the cookies' time until the login ends and its connections are closed. 86400: a day.
    "lifetime" => lifetime_s: i64, LIFETIME, Restart;
    /// Name of the cookie that holds the token.
    "cookie_token" => cookie_token: String, COOKIE, Restart;
    /// Name of the cookie that holds the time.
    "cookie_time" => cookie_time: String, COOKIE, Restart;
    /// Name of the cookie that holds the digest.
    "cookie_digest" => cookie_digest: String, COOKIE, Restart;
    /// Name of the cookie that holds the user.
    "cookie_user" => cookie_user: String, COOKIE, Restart;
});

section! {
    /// Bounds of space and number. Zero never means "unlimited".
    struct Limits, LIMITS at (settings => settings.limits) "limits" "limits." {
        /// Clients together. Beyond: 503.
        "clients" => clients: Option<usize> = None, CountOr {
            count: CLIENTS,
            worked_out: "from the limit of open files",
        }, Reload;
        /// Open connections of one token. 5: a person's tabs, not a script's flood; also what a stolen cookie can open.
        /// Beyond: 429.
        "connections_per_token" => connections_per_token: u32 = 5, ANY_COUNT, Reload;
        /// Open connections of one user, with `identity = "user"` only. 5, for the same reason. Beyond: 429.
        "connections_per_user" => connections_per_user: u32 = 5, ANY_COUNT, Reload;
        /// Connections that have not proved a login: those whose request is not complete, and those that are being told of a
        /// refusal. Half of all, because a mass reconnect is no attack: phones take 300 to 600 ms from connecting to their
        /// request. Beyond: of those that were refused the oldest is dropped, else the oldest if it has been there for a
        /// second; if it has not, the others wait in the system's backlog.
        "unauthenticated" => unauthenticated: Option<usize> = None, CountOr {
            count: CLIENTS,
            worked_out: "a half of clients",
        }, Reload;
        /// Connections of one address that have not proved a login; of IPv6, of one network of 64 bits. 256: a flood, not an
        /// office. Unix sockets, the loopback and `trusted_proxies` are exempt: behind them one address is everybody.
        /// Beyond: the address's oldest is dropped if it has been there for a second, else the new one.
        "handshakes_per_address" => handshakes_per_address: usize = 256, CLIENTS, Reload;
        /// Request head. 8 KiB: what nginx and Apache let through, cookies of other programs included. Beyond: 431.
        "head" => head_bytes: usize = 8 * KIB, HEAD, Reload;
        /// A client's message or frame. 64 KiB: clients of a push server say little; it is stored whole until complete.
        /// Beyond: close 1009.
        "message" => message_bytes: usize = MESSAGE_BYTES_DEFAULT, Size { min: 1, max: 256 * MIB }, Reload;
        /// Bytes that wait for one client. 1 MiB: a few seconds of a busy site on a phone in a tunnel, no more. At least
        /// `limits.message` and 14 bytes. Beyond: close 1013.
        "outbox" => outbox_bytes: u32 = MIB as u32, Size { min: 1, max: OUTBOX_BYTES_MAX }, Reload;
        /// Frames that wait in all outboxes, a frame for many clients counted once, with the notes of where they lie, and what
        /// TLS has encrypted and not sent; what clients send and the server keeps is not in it. 256 MiB: what a small host
        /// can spare. Beyond: the client that holds back most is closed with 1013.
        "queued" => queued_bytes: usize = 256 * MIB, Size { min: 1, max: usize::MAX }, Reload;
        /// What is kept of TLS handshakes, heads and messages that are not complete, of all connections together. 64 MiB: a thousand of the
        /// longest messages. Beyond: connections that have most of it are dropped, those without a login first; clients
        /// get 1013.
        "received" => received_bytes: usize = 64 * MIB, Size { min: 1, max: usize::MAX }, Reload;
        /// Payload of one command. 1 MiB, judged on the announced length before any of it is stored. Beyond:
        /// `0E`.
        "control_payload" => control_payload_bytes: usize = MIB, Size { min: 1, max: CONTROL_PAYLOAD_BYTES_MAX }, Reload;
        /// Replies that wait for one backend; the least holds a status. Beyond: its commands are not read until it reads
        /// its replies. Of events for a worker as much again, and of those that it has not confirmed. Beyond: the clients
        /// whose messages go to it are not read until half of that is gone.
        "control_outbox" => control_outbox_bytes: usize = MIB, Size { min: 16 * KIB, max: OUTBOX_BYTES_MAX }, Reload;
        /// Input and replies of all backends together, and what TLS keeps of both. 64 MiB: dozens at their own bounds at the same moment. What one
        /// backend may need by its own bounds is there in any case. Beyond: the backend that holds most gets `0E` and
        /// ends.
        "control_total" => control_total_bytes: usize = 64 * MIB, Size { min: 1, max: usize::MAX }, Reload;
        /// Backends at a time. 1024: a site's workers and pages; never more than a quarter of the descriptors, which are
        /// for clients. Beyond: `0E`.
        "backends" => backends: usize = 1024, CLIENTS, Reload;
        /// Groups that have members. 100,000, of some hundred bytes each. Beyond: a group that is not there cannot be joined.
        "groups" => groups: usize = 100_000, ANY_COUNT, Reload;
        /// Groups of one connection. 64: its end costs as many steps. Beyond: it joins no other.
        "groups_per_connection" => groups_per_connection: usize = 64, Count::from(1, 10_000), Reload;
        /// Revoked logins that would not have expired yet. 100,000: each takes a hundred bytes here and in `revoked_file`. Beyond:
        /// nothing more can be revoked, which the answer says.
        "revoked" => revoked: usize = 100_000, Count::from(1, 10_000_000), Reload;
        /// Tabs that are away at a time. A tenth of the clients: what reloads and loses its network at the same moment. Beyond: the one
        /// away longest cannot come back without a gap.
        "away" => away: Option<usize> = None, CountOr { count: CLIENTS, worked_out: "a tenth of clients" }, Reload;
        /// Addresses in one list. 10,000: more receivers than that are a group.
        "addresses" => addresses: usize = 10_000, Count::from(1, (CONTROL_PAYLOAD_BYTES_MAX / 2) as i64), Reload;
    }
}

section! {
    /// Bounds of time, in milliseconds; in the configuration file they are seconds.
    struct Timeouts, TIMEOUTS at (settings => settings.timeouts) "timeouts" "timeouts." {
        /// From accept to the end of the request head, absolute. 5: a slow phone makes it, a slowloris does not.
        /// Beyond: 408.
        "handshake" => handshake_ms: u64 = 5_000, TIMEOUT, Reload;
        /// Silence of a client before a ping. 15: below the 30 to 60 seconds after which NAT and proxies forget a
        /// connection.
        "idle" => idle_ms: u64 = 15_000, TIMEOUT, Reload;
        /// Silence after that ping before the connection is closed. 15: dead peers are gone within half a minute.
        "pong" => pong_ms: u64 = 15_000, TIMEOUT, Reload;
        /// Bytes waiting and none accepted by the kernel. 15, so that a dead reader does not hold memory for long.
        "stalled" => stalled_ms: u64 = 15_000, TIMEOUT, Reload;
        /// From our close frame to the end of the connection. 5: one slow round trip, then it is dropped.
        "close" => close_ms: u64 = 5_000, TIMEOUT, Reload;
        /// Silence of a backend that holds a lock. 30: the locked client gets nothing else meanwhile.
        "lock" => lock_ms: u64 = 30_000, TIMEOUT, Reload;
        /// Silence of a backend before a ping, and again before it is closed. 15, as for clients.
        "control" => control_ms: u64 = 15_000, TIMEOUT, Reload;
        /// How long a message whose arrival was asked for (`v`) waits for the browsers' answers. 10: two slow round trips of
        /// a phone. At most 30, so that its backend is not taken to be dead. Beyond: the answer tells how many have it.
        "arrival" => arrival_ms: u64 = 10_000, Seconds { min_ms: 1, max_ms: ARRIVAL_MS_MAX }, Reload;
        /// A worker that takes none of the events that wait for it. 30: longer than a slow query, shorter than a visitor's
        /// patience. Beyond: it is closed, and its clients' events go to the other workers.
        "worker" => worker_ms: u64 = 30_000, TIMEOUT, Reload;
        /// How long clients that speak wait for a worker while there is none. 10: a supervisor has started it again by
        /// then. Beyond: close 1013.
        "no_worker" => no_worker_ms: u64 = 10_000, TIMEOUT, Reload;
        /// How long a tab (`?tab=`) whose connection ended is waited for: its groups stay, and messages for it are kept. 30: a
        /// reload, a lift, a change from WLAN to mobile. 0 turns that off.
        "away" => away_ms: u64 = 30_000, Seconds { min_ms: 0, max_ms: 86_400_000 }, Reload;
        /// From SIGTERM to the end of the process. 5: well below the 10 of `docker stop`, the 90 of systemd.
        /// The time from SIGTERM on over which the closes of all clients are spread, so that a site's browsers do not all come
        /// back in the same second; handshakes are answered 503 meanwhile, and backends are served. 0: all at once.
        "drain_over" => drain_over_ms: u64 = 0, Seconds { min_ms: 0, max_ms: 86_400_000 }, Reload;
        /// From SIGTERM, or the end of `drain_over`, to the end of the process. 5: well below the 10 of `docker stop`, the 90 of systemd.
        "drain" => drain_ms: u64 = 5_000, TIMEOUT, Reload;
    }
}

section! {
    /// The way to other nodes of the site: a Redis or Valkey, or several.
    struct Bus, BUS at (settings => settings.bus) "bus" "bus." {
        /// The instances that connect the nodes of a site, `redis://10.0.0.5:6379`, or `rediss://` for TLS: the same list, in
        /// the same order, on every node. Several are independent of each other and share the work. None: this node is
        /// alone.
        "redis" => redis: Vec<Redis> = Vec::new(), List {
            about: "an instance: redis://HOST:PORT or rediss://HOST:PORT",
            read: values::redis,
            show: |list| Some(list.iter().map(ToString::to_string).collect()),
        }, Restart;
        /// The user that logs in at the instances, where they have users.
        "user" => user: Option<String> = None, Text {
            about: "a user of the Redis",
            read: |text, _| values::redis_user(text).map(Some),
            show: Clone::clone,
        }, Restart;
        /// The file that holds the password for the instances, readable by wsson only.
        "password_file" => password_file: Option<PathBuf> = None, Text {
            about: "a path",
            read: |text, base_dir| values::path(text, base_dir).map(Some),
            show: |path| path.as_deref().map(|path| path.display().to_string()),
        }, Restart;
        /// The name of the site at the instances, before each channel. Sites that share a Redis differ here.
        "name" => name: String = "wsson".into(), Text {
            about: "1 to 32 letters, digits, or _ - .",
            read: |text, _| values::bus_name(text),
            show: |name| Some(name.clone()),
        }, Restart;
        /// How long a backend's command waits for the answers of other nodes. 1: a node that takes longer is busy or away.
        /// Beyond: the answer is that of the others, and says so.
        "timeout" => timeout_ms: u64 = 1_000, Seconds { min_ms: 10, max_ms: 60_000 }, Restart;
    } beside {
        /// What `bus.password_file` holds.
        password: Option<Secret>,
    }
}

/// The two files lie in a part of the settings that may be missing, so their rows are written out. A reload takes over
/// both or none.
macro_rules! tls_file {
    ($(#[doc = $doc:literal])* $name:literal $field:ident) => {
        Key {
            section: "tls",
            name: concat!("tls.", $name),
            doc: concat!($($doc, "\n"),*),
            effect: Effect::Reload,
            describe: || FILE.describe(),
            read: |reader, settings, name, value| {
                FILE.read(reader, &mut settings.tls.get_or_insert_default().$field, name, value);
            },
            show: |settings| settings.tls.as_ref().map_or(Shown::Unset, |tls| FILE.show(&tls.$field)),
            differs: |one, other| {
                one.tls.as_ref().map(|tls| &tls.$field) != other.tls.as_ref().map(|tls| &tls.$field)
            },
            copy: |to, from| to.tls.clone_from(&from.tls),
        }
    };
}

static TLS: &[Key] = &[
    tls_file! {
        /// The certificate chain in PEM, the server's own certificate first; read again on reload.
        "certificate" certificate
    },
    tls_file! {
        /// Its private key in PEM; read again on reload.
        "key" key
    },
];

section! {
    /// Permissions and owner that Unix sockets are given when they are bound.
    struct Sockets, SOCKETS at (settings => settings.sockets) "sockets" "sockets." {
        /// Mode of server sockets. The cookies are the authorisation, and the proxy runs as another user.
        "servers_mode" => servers_mode: u32 = 0o666, MODE, Restart;
        /// Mode of the control socket. A user who can write to it can send to every client.
        "control_mode" => control_mode: u32 = 0o660, MODE, Restart;
        /// Owner of both; the process's own when none is given.
        "owner" => owner: Option<String> = None, ACCOUNT, Restart;
        /// Group of both; set it to the group of the web backend.
        "group" => group: Option<String> = None, ACCOUNT, Restart;
    }
}
