//! Tests of the configuration: a table of mistakes, the defaults, the shipped file, the round trip.

use super::*;
use crate::auth::{Digests, IdentityKind, Scheme, Secret};
use std::path::Path;

const SHIPPED: &str = include_str!("../../conf/wsson.toml");
const STRONG: &str = "2kGfVJtXhq0n4bW7sD8e";

fn parse(text: &str) -> Result<Settings, Vec<ConfigError>> {
    Settings::parse(text, Path::new("/etc/wsson"))
}

#[track_caller]
fn good(text: &str) -> Settings {
    match parse(text) {
        Ok(settings) => settings,
        Err(errors) => panic!("{text}\n{}", show(&errors)),
    }
}

#[track_caller]
fn bad(text: &str) -> String {
    match parse(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(errors) => show(&errors),
    }
}

fn show(errors: &[ConfigError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn an_empty_file_means_the_defaults() {
    assert_eq!(good(""), Settings::default());
    assert_eq!(good("[auth]\n[limits]\n[timeouts]\n[sockets]\n"), Settings::default());
}

/// The table of endpoint.md and COMMANDS.md, so that no default changes unseen.
#[test]
fn the_defaults_are_those_of_the_design() {
    let settings = Settings::default();
    let limits = settings.limits;
    assert_eq!((limits.clients, limits.unauthenticated), (None, None));
    assert_eq!((limits.connections_per_token, limits.connections_per_user), (5, 5));
    assert_eq!((limits.head_bytes, limits.message_bytes), (8192, 65536));
    assert_eq!((limits.outbox_bytes, limits.queued_bytes), (1 << 20, 256 << 20));
    assert_eq!((limits.control_payload_bytes, limits.control_outbox_bytes), (1 << 20, 1 << 20));
    assert_eq!((limits.control_total_bytes, limits.backends, limits.addresses), (64 << 20, 1024, 10_000));
    assert_eq!((limits.groups, limits.groups_per_connection, limits.revoked), (100_000, 64, 100_000));
    let times = settings.timeouts;
    assert_eq!((times.handshake_ms, times.idle_ms, times.pong_ms), (5_000, 15_000, 15_000));
    assert_eq!((times.stalled_ms, times.close_ms, times.lock_ms), (15_000, 5_000, 30_000));
    assert_eq!((times.control_ms, times.drain_ms), (15_000, 5_000));
    assert_eq!((settings.auth.scheme, settings.auth.query), (Scheme::Cookies, false));
    assert_eq!((settings.groups_public, settings.revoked_file), (vec![], None));
    assert_eq!((settings.auth.token_length, settings.auth.lifetime_s), (32, 86_400));
    assert_eq!((settings.sockets.servers_mode, settings.sockets.control_mode), (0o666, 0o660));
}

/// One mistake each: the text, and its error, place included.
const MISTAKES: &[(&str, &str)] = &[
    // Keys and sections.
    ("\n\norgins = []", "line 3: unknown key \"orgins\"; did you mean \"origins\"?"),
    ("zzz = 1", "line 1: unknown key \"zzz\""),
    ("[limits]\nhaed = 1", "line 2: unknown key \"haed\" in [limits]; did you mean \"head\"?"),
    ("[limit]\nhead = 1", "line 1: unknown section [limit]; did you mean [limits]?"),
    ("[weather]", "line 1: unknown section [weather]"),
    ("identity = 'user'", "line 1: unknown key \"identity\"; it belongs in [auth]"),
    (
        "[limits]\norigins = []",
        "line 2: unknown key \"origins\" in [limits]; it belongs above the first section",
    ),
    ("limits = 3", "line 1: \"limits\" must be a section: [limits]"),
    ("[tls]\ncert = 'a'\nkey = 'b'\ncertificate = 'a'", "line 2: unknown key \"cert\" in [tls]"),
    ("[sockets]\nmode = '0666'", "line 2: unknown key \"mode\" in [sockets]"),
    // TOML itself.
    ("log = stderr", "line 1: a string must be in quotes"),
    ("log = \"stderr\n", "line 1: the string is not closed before the end of the line"),
    ("log = 'stderr'\nlog = 'syslog'", "line 2: \"log\" is given twice; first in line 1"),
    ("[auth]\n[limits]\n[auth]", "line 3: [auth] is given twice; first in line 1"),
    ("servers = [", "line 1: "),
    ("= 3", "line 1: "),
    // Kinds.
    ("reuseport = 'yes'", "line 1: \"reuseport\" must be true or false, not a string"),
    ("log = true", "line 1: \"log\" must be a string, not true"),
    (
        "servers = ['tcp://127.0.0.1:1', 2]",
        "line 1: \"servers\" must be a string or a list of strings, not a whole number",
    ),
    ("[auth]\ntoken_length = '32'", "line 2: \"auth.token_length\" must be a whole number, not a string"),
    (
        "[auth]\ntoken_length = 32.5",
        "\"auth.token_length\" must be a whole number, not a number with a fraction",
    ),
    (
        "[limits]\nhead = [1]",
        "line 2: \"limits.head\" must be a number of bytes or a string like \"64 KiB\", not a list",
    ),
    ("[timeouts]\nidle = '15 s'", "line 2: \"timeouts.idle\" must be a number of seconds, not a string"),
    // Addresses.
    ("servers = []", "line 1: \"servers\" is empty"),
    (
        "servers = '127.0.0.1:8099'",
        "line 1: \"servers\": \"127.0.0.1:8099\" must start with tcp://, tls:// or unix://",
    ),
    ("servers = 'tcp://example.com:80'", "must be an IP address and a port, like tcp://127.0.0.1:8099"),
    ("servers = 'tcp://127.0.0.1'", "must be an IP address and a port"),
    ("servers = 'tcp://127.0.0.1:65536'", "must be an IP address and a port"),
    ("servers = 'unix://'", "\"servers\": the path is empty"),
    (
        "servers = ['tcp://127.0.0.1:1', 'tcp://127.0.0.1:1']",
        "tcp://127.0.0.1:1 and tcp://127.0.0.1:1 are the same",
    ),
    ("servers = ['tcp://127.0.0.1:1', 'tcp://0.0.0.0:1']", "are the same address"),
    ("servers = ['unix://a/b', 'unix://./a/./b']", "unix:///etc/wsson/a/b are the same address"),
    ("control = 'tcp://127.0.0.1:8099'", "the server tcp://127.0.0.1:8099 are the same address"),
    (
        "control = 'tls://127.0.0.1:8098'",
        "line 1: \"control\": a tls:// listener needs certificate and key in [tls]",
    ),
    ("control = 'http://127.0.0.1:8098'", "must start with tcp://, tls:// or unix://"),
    ("control = []", "\"control\" is empty: backends need at least one listener"),
    (
        "control = ['unix:///c', 'unix:///c']",
        "line 1: \"control\": unix:///c and unix:///c are the same address",
    ),
    (
        "control = ['unix:///c', 'tcp://127.0.0.1:8099']",
        "the server tcp://127.0.0.1:8099 are the same address",
    ),
    ("control = ['unix:///c', 'tcp://0.0.0.0:8098']", "tcp://0.0.0.0:8098 can be reached from other hosts"),
    (
        "control_key_file = ['a', 'b', 'c']",
        "\"control_key_file\" has 3 entries; two, the new and the old, are the most",
    ),
    (
        "control = 'tcp://0.0.0.0:8098'",
        "line 1: \"control\": tcp://0.0.0.0:8098 can be reached from other hosts",
    ),
    ("control = 'tcp://[::]:8098'", "can be reached from other hosts"),
    (
        "control_public = false\ncontrol = 'tcp://192.0.2.1:8098'",
        "line 2: \"control\": tcp://192.0.2.1:8098 can be",
    ),
    ("domains = ['a:1', 'b:1']", "line 1: \"domains\" has 2 entries, but there are 1 servers"),
    ("domains = 'wss://a.example.com'", "must be a host and port without a scheme"),
    ("domains = 'a b'", "are 2 entries in one string"),
    (
        "servers = 'tls://127.0.0.1:1'",
        if cfg!(feature = "tls") {
            "line 1: \"servers\": a tls:// listener needs certificate and key in [tls]"
        } else {
            "line 1: \"servers\": this wsson was built without TLS"
        },
    ),
    ("[tls]\nkey = 'k.pem'", "[tls] needs \"certificate\", the path of a PEM file"),
    ("[tls]\ncertificate = 'c.pem'", "[tls] needs \"key\", the path of a PEM file"),
    // Lists in one string.
    (
        "origins = 'https://a.com, https://b.com'",
        "line 1: \"origins\": \"https://a.com, https://b.com\" are 2 entries in one string; a list is [\"https://a.com\", \"https://b.com\"]",
    ),
    ("origins = ['https://a.com;https://b.com']", "a list is [\"https://a.com\", \"https://b.com\"]"),
    ("servers = 'tcp://127.0.0.1:1 unix:///s'", "a list is [\"tcp://127.0.0.1:1\", \"unix:///s\"]"),
    ("trusted_proxies = '10.0.0.0/8,::1,unix'", "a list is [\"10.0.0.0/8\", \"::1\", \"unix\"]"),
    ("origins = 'https://a.com, b'", "is no origin like https://example.com"),
    // Origins.
    (
        "origins = 'example.com'",
        "line 1: \"origins\": \"example.com\" is no origin like https://example.com: ",
    ),
    ("origins = 'https://example.com/'", "an origin has no path, not even a slash at the end"),
    ("origins = '*'", "\"*\" is no origin"),
    ("origins = 'https://*.example.com'", "an origin has no pattern"),
    ("origins = 'null'", "sandboxed page"),
    ("origins = 'wss://example.com'", "it is the page that has one, like https://example.com"),
    ("origins = ['http://a',\n'http://b:0']", "line 2: \"origins\": \"http://b:0\" is no origin"),
    ("origins = 'http://müller.example'", "xn--"),
    // Secrets.
    ("secret = 'short'", "line 1: \"secret\" is shorter than 16 bytes"),
    ("secret = 'eyZsz5dJDg28oNr385YjG4UQasx7D4q9'", "\"secret\" is an example from the documentation"),
    ("secret = 'eyZsz5dJDg28oNr385YjG4UQasx7D4q9_PLZ_CHANGE_IT!!!'", "\"secret\" is an example"),
    ("secret = [\n'uhD27usxm2F61p6gs4unU12mHUiGrbf6']", "line 2: \"secret\" is an example"),
    ("secret = ['2kGfVJtXhq0n4bW7sD8e', '2kGfVJtXhq0n4bW7sD8e']", "\"secret\" has the same entry twice"),
    ("secret_file = ['a', 'b', 'c']", "line 1: \"secret_file\" has 3 entries; two"),
    (
        "secret = '2kGfVJtXhq0n4bW7sD8e'\nsecret_file = 'a'",
        "line 2: \"secret\" and \"secret_file\" are both given",
    ),
    ("allow_weak_secret = false\nsecret = 'short'", "line 2: \"secret\" is shorter"),
    // Choices, names, paths.
    (
        "on_message = 'ecko'",
        "line 1: \"on_message\": \"ecko\" must be one of \"drop\", \"echo\", \"broadcast\", \"log\", \"forward\"",
    ),
    ("[auth]\nidentity = 'me'", "\"auth.identity\": \"me\" must be one of \"token\", \"user\""),
    ("[auth]\ndigest = 'sha1'", "must be one of \"md5\", \"hmac-sha256\""),
    ("log = 'sysllog'", "must be \"stderr\", \"syslog\", or a path with a slash in it"),
    ("user = ''", "\"user\": \"\" is not a name of a user or group"),
    ("group = 'a:b'", "is not a name of a user or group"),
    (
        "proxy_protocol = true",
        "\"proxy_protocol\" is set, and no proxy is trusted: list in \"trusted_proxies\"",
    ),
    ("trusted_proxies = 'proxy'", "must be an IP address or a block, like 10.0.0.0/8"),
    ("trusted_proxies = '10.0.0.0/33'", "must be an IP address or a block"),
    ("trusted_proxies = '::1/+1'", "must be an IP address or a block"),
    ("[auth]\ncookie_token = 'a b'", "\"a b\" is not a cookie's name"),
    ("[auth]\ncookie_token = ''", "is not a cookie's name"),
    ("[auth]\ncookie_token = 'time'", "\"auth.cookie_time\" and \"auth.cookie_token\" are both \"time\""),
    ("[sockets]\ncontrol_mode = '660 '", "must be permissions in octal, like \"0660\""),
    ("[sockets]\ncontrol_mode = '0888'", "must be permissions in octal"),
    ("[sockets]\ncontrol_mode = '+660'", "must be permissions in octal"),
    ("[sockets]\ncontrol_mode = '4660'", "must be permissions in octal"),
    ("[sockets]\nservers_mode = '0466'", "does not let the owner write"),
    ("[sockets]\nservers_mode = 432", "must be a string, not a whole number"),
    // Numbers.
    ("[auth]\ntoken_length = 15", "line 2: \"auth.token_length\" must be from 16 to 128, not 15"),
    ("[auth]\ntoken_length = 129", "must be from 16 to 128, not 129"),
    ("[auth]\nlifetime = 0", "\"auth.lifetime\" must not be 0: 0 is not \"unlimited\""),
    ("[auth]\nlifetime = -1", "must be from 1 to 316224000, not -1"),
    ("[limits]\nclients = 0", "\"limits.clients\" must not be 0: 0 is not \"unlimited\"; from 1 to"),
    ("[limits]\nconnections_per_token = 0", "must not be 0"),
    ("[limits]\nconnections_per_user = 4294967296", "must be from 1 to 4294967295"),
    (
        "[limits]\nclients = 10\nunauthenticated = 11",
        "line 3: \"limits.unauthenticated\" is more than limits.clients (10)",
    ),
    ("[limits]\nhead = 0", "\"limits.head\" must not be 0: 0 is not \"unlimited\""),
    ("[limits]\nhead = -5", "\"limits.head\" is below zero"),
    ("[limits]\nhead = 255", "\"limits.head\" must be at least 256 B"),
    ("[limits]\nhead = 65537", "\"limits.head\" must be at most 64 KiB"),
    ("[limits]\nhead = '8 KB'", "must be a size like \"64 KiB\" (B, KiB, MiB, GiB), not \"8 KB\""),
    ("[limits]\nhead = '8,5 KiB'", "must be a size like"),
    ("[limits]\nhead = 'KiB'", "must be a size like"),
    ("[limits]\nqueued = '99999999999999999999 GiB'", "must be a size like"),
    ("[limits]\nqueued = '99999999999 GiB'", "must be a size like"),
    ("[limits]\nmessage = '1 MiB'", "\"limits.outbox\" must hold a message of limits.message (1 MiB)"),
    (
        "[limits]\noutbox = 65549",
        "line 2: \"limits.outbox\" must hold a message of limits.message (64 KiB) and its header: at least 65550 bytes",
    ),
    ("[limits]\noutbox = '2 GiB'", "must be at most 1 GiB"),
    (
        "[limits]\nqueued = 1048575",
        "\"limits.queued\" is for all clients together: it must be at least limits.outbox (1 MiB)",
    ),
    ("[limits]\ncontrol_payload = 32", "must hold a token and a message: at least 33 bytes"),
    ("[limits]\ncontrol_payload = 100_000_000", "must be at most 99999999 B"),
    ("[limits]\ncontrol_outbox = '1 KiB'", "must be at least 16 KiB"),
    ("[limits]\nbackends = 0", "must not be 0: 0 is not \"unlimited\"; from 1 to"),
    ("[limits]\naddresses = 0", "must not be 0: 0 is not \"unlimited\"; from 1 to"),
    ("[limits]\ngroups_per_connection = 0", "must not be 0: 0 is not \"unlimited\"; from 1 to 10000"),
    ("groups_public = ['']", "line 1: \"groups_public\": \"\" begins no group"),
    ("groups_public = ['news:', '*']", "\"*\" begins no group: 1 to 64 letters, digits, or _ - . @ + : /"),
    ("[auth]\nscheme = 'JWT'", "line 2: \"auth.scheme\": \"JWT\" must be one of \"cookies\", \"jwt\""),
    ("[auth]\nquery = true", "line 2: \"auth.query\" is for scheme = \"jwt\""),
    (
        "[auth]\nscheme = 'jwt'\ntoken_length = 65",
        "line 3: \"auth.token_length\" must be at most 64 with scheme = \"jwt\"",
    ),
    ("[timeouts]\nidle = 0", "line 2: \"timeouts.idle\" must not be 0: 0 is not \"unlimited\""),
    ("[timeouts]\nidle = 0.0", "must not be 0"),
    ("[timeouts]\nidle = -1", "must be from 0.001 to 86400 seconds, not -1"),
    ("[timeouts]\nidle = 86401", "must be from 0.001 to 86400 seconds"),
    ("[timeouts]\nidle = nan", "must be from 0.001 to 86400 seconds"),
    ("[timeouts]\nidle = inf", "must be from 0.001 to 86400 seconds"),
];

#[test]
fn every_mistake_is_told_with_its_place() {
    for (text, expected) in MISTAKES {
        let told = bad(text);
        assert!(told.contains(expected), "{text}\n  told: {told}\n  not:  {expected}");
        assert_eq!(told.lines().count(), 1, "{text}\n{told}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let told = bad("zzz = 1\nlog = 3\n[timeouts]\nidle = 0\nildle = 3");
    let lines: Vec<&str> = told.lines().map(|line| &line[..6]).collect();
    assert_eq!(lines, ["line 1", "line 2", "line 4", "line 5"]);
}

#[test]
fn columns_are_counted_in_characters() {
    let errors = parse("# ü\norigins = ['https://ü', 'x']").expect_err("two bad origins");
    assert_eq!(errors.iter().map(|error| (error.line, error.column)).collect::<Vec<_>>(), [(2, 13), (2, 26)]);
}

#[test]
fn no_error_shows_a_secret() {
    for text in [
        "secret = 'hunter2'",
        "secret = ['eyZsz5dJDg28oNr385YjG4UQasx7D4q9', 3]",
        "[auth]\nsecret = 'hunter2'",
    ] {
        let told = bad(text);
        assert!(!told.contains("hunter2") && !told.contains("eyZsz"), "{told}");
    }
}

#[test]
fn strings_and_lists_mean_the_same() {
    let single = format!("servers='tcp://127.0.0.1:1'\ndomains='d:1'\norigins='http://a'\nsecret='{STRONG}'");
    let list =
        format!("servers=['tcp://127.0.0.1:1']\ndomains=['d:1']\norigins=['http://a']\nsecret=['{STRONG}']");
    assert_eq!(good(&single), good(&list));
    assert_eq!(good(&single).auth.secrets, [Secret::new(STRONG)]);
    assert_eq!(
        good("secret_file = ['new', '/old']").secret_files,
        [Path::new("/etc/wsson/new"), Path::new("/old")]
    );
}

#[test]
fn relative_paths_are_relative_to_the_file() {
    let text = "servers=['unix://./s', 'unix:///r/s']\ncontrol='unix://c'\npid='./p'\nlog='./l'\n[tls]\ncertificate='c'\nkey='/k'";
    let settings = good(text);
    assert_eq!(settings.servers, ["unix:///etc/wsson/s", "unix:///r/s"]);
    assert_eq!(settings.control, ["unix:///etc/wsson/c"]);
    assert_eq!(settings.pid.as_deref(), Some(Path::new("/etc/wsson/p")));
    assert_eq!(settings.log, LogTarget::File("/etc/wsson/l".into()));
    let tls = settings.tls.expect("[tls] was given");
    assert_eq!((tls.certificate.as_path(), tls.key.as_path()), (Path::new("/etc/wsson/c"), Path::new("/k")));
}

#[test]
fn a_unix_path_must_fit_a_socket_address() {
    let fits = format!("control = 'unix:///{}'", "x".repeat(106));
    assert_eq!(good(&fits).control[0].len(), "unix://".len() + 107);
    let long = format!("control = 'unix:///{}'", "x".repeat(107));
    assert!(bad(&long).contains("the path has 108 bytes; a Unix socket allows 107"));
}

#[test]
fn values_get_one_form() {
    assert_eq!(good("servers = 'tcp://localhost:80'").servers, ["tcp://127.0.0.1:80"]);
    assert_eq!(good("servers = 'tcp://[0:0::1]:80'").servers, ["tcp://[::1]:80"]);
    assert_eq!(good("origins = 'HTTPS://Example.COM:8443'").origins, ["https://example.com:8443"]);
    assert_eq!(good("origins = ['file://', 'http://[::1]:81']").origins, ["file://", "http://[::1]:81"]);
}

#[test]
fn sizes_and_times_have_units() {
    let limits = good("[limits]\nhead = '16 KiB'\nmessage = 1000\noutbox = '2MiB'\nqueued='1 GiB'").limits;
    assert_eq!((limits.head_bytes, limits.message_bytes), (16384, 1000));
    assert_eq!((limits.outbox_bytes, limits.queued_bytes), (2 << 20, 1 << 30));
    let times = good("[timeouts]\nidle = 2.5\npong = 1\nclose = 0.001\ndrain = 86400").timeouts;
    assert_eq!((times.idle_ms, times.pong_ms, times.close_ms, times.drain_ms), (2_500, 1_000, 1, 86_400_000));
}

#[test]
fn what_is_allowed_when_asked_for() {
    assert!(good("secret = 'short'\nallow_weak_secret = true").allow_weak_secret);
    assert!(Settings::parse_allowing_weak("secret = 'short'", Path::new("/")).is_ok());
    assert!(good("control = 'tcp://0.0.0.0:8098'\ncontrol_public = true").control_public);
    assert_eq!(good("pid = ''").pid, None);
    assert_eq!(good("servers = ['tcp://127.0.0.1:0', 'tcp://127.0.0.1:0']").servers.len(), 2);
    assert_eq!(good("control = 'tcp://[::1]:8098'").control, ["tcp://[::1]:8098"]);
    let keyed = good("control = ['unix://c', 'tcp://0.0.0.0:8098']\ncontrol_key_file = 'k'");
    assert_eq!(keyed.control, ["unix:///etc/wsson/c", "tcp://0.0.0.0:8098"]);
    assert_eq!(keyed.control_key_files, [Path::new("/etc/wsson/k")]);
}

#[test]
fn what_is_missing_and_what_surprises_is_told() {
    assert!(good("").missing().is_some_and(|why| why.contains("secret_file")));
    let with_secret = format!("secret = '{STRONG}'");
    assert!(good(&with_secret).missing().is_some_and(|why| why.contains("origins")));
    let complete = good(&format!("{with_secret}\norigins = 'http://a'"));
    assert_eq!((complete.missing(), complete.warnings()), (None, Vec::new()));
    assert_eq!(good("allow_weak_secret=true\n[limits]\noutbox = '128 KiB'").warnings().len(), 2);
}

/// The lines of the shipped file that show a default, or (`examples`) those too that have none.
fn uncommented(examples: bool) -> String {
    let uncomment = |line: &str| {
        let bare = line
            .strip_prefix('#')
            .filter(|rest| rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()));
        bare.filter(|rest| examples || !rest.ends_with("# example")).unwrap_or(line).to_owned()
    };
    SHIPPED.lines().map(|line| uncomment(line) + "\n").collect()
}

#[test]
fn the_shipped_file_is_valid_and_only_needs_a_secret() {
    let settings = good(SHIPPED);
    assert_eq!(settings.secret_files, [Path::new("/etc/wsson/secret")]);
    assert_eq!(settings.origins, ["https://example.com"]);
}

#[test]
fn the_shipped_file_shows_the_defaults() {
    let expected = Settings {
        secret_files: vec!["/etc/wsson/secret".into()],
        origins: vec!["https://example.com".into()],
        ..Settings::default()
    };
    assert_eq!(good(&uncommented(false)), expected);
}

#[test]
fn the_examples_of_the_shipped_file_are_valid() {
    let text = uncommented(true).replace("secret = \"…\"", "");
    let settings = good(&text);
    assert_eq!(settings.limits.clients, Some(10_000));
    assert_eq!(settings.sockets.group.as_deref(), Some("push"));
    assert!(settings.tls.is_some());
}

/// The shipped file shows every key in its section, and no other.
#[test]
fn the_shipped_file_has_every_key_in_its_section() {
    let mut section = String::new();
    let mut shown = Vec::new();
    for line in uncommented(true).lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            section = name.to_owned();
        } else if let Some((word, _)) = line.split_once(" = ").filter(|(word, _)| !word.contains([' ', '#']))
        {
            shown.push((section.clone(), word.to_owned()));
        }
    }
    let mut known: Vec<_> = keys().map(|key| (key.section.to_owned(), key.word().to_owned())).collect();
    shown.sort();
    known.sort();
    assert_eq!(shown, known);
}

#[cfg(feature = "bus")]
#[test]
fn the_instances_of_a_bus_have_one_form() {
    let settings = good("[bus]\nredis=['redis://Redis.internal/','redis://10.0.0.5:7000','redis://[::1]']");
    let list: Vec<String> = settings.bus.redis.iter().map(ToString::to_string).collect();
    assert_eq!(list, ["redis://redis.internal:6379", "redis://10.0.0.5:7000", "redis://[::1]:6379"]);
    for (text, words) in [
        ("redis='10.0.0.5:6379'", "like redis://"),
        ("redis='http://a'", "like redis://"),
        ("redis='redis://'", "like redis://"),
        ("redis='redis://a:0'", "like redis://"),
        ("redis='redis://a:b'", "like redis://"),
        ("redis='redis://::1'", "like redis://"),
        ("redis='redis://a/1'", "like redis://"),
        ("redis='redis://me:hush@a'", "bus.password_file"),
        ("redis=['redis://a','redis://a:6379']", "twice"),
        ("redis='redis://a'\nuser='me'", "password_file"),
        ("password_file='p'", "the list of the instances"),
        ("name=''", "1 to 32"),
        ("name='a:b'", "1 to 32"),
        ("timeout=0", "unlimited"),
    ] {
        let errors = show(&parse(&format!("[bus]\n{text}\n")).unwrap_err());
        assert!(errors.contains(words) && !errors.contains("hush"), "{text}: {errors}");
    }
}

/// Every row says its purpose, and has bounds that its own default keeps.
#[test]
fn every_key_is_documented_and_its_default_is_valid() {
    for key in keys() {
        assert!(key.doc.trim().ends_with('.') && key.doc.len() > 20, "{key:?}: {}", key.doc);
        assert!(!key.describe().is_empty(), "{key:?}");
        let Shown::Value(value) = key.default_value() else { continue };
        let text = match key.section {
            "" => format!("{} = {value}", key.word()),
            section => format!("[{section}]\n{} = {value}", key.word()),
        };
        let errors = parse(&text).err().unwrap_or_default();
        // A list without servers is contradicted, but not by its own row.
        assert!(!show(&errors).contains("must be"), "{text}: {}", show(&errors));
    }
}

#[test]
fn what_is_rendered_is_read_back() {
    let text = "servers=['tcp://127.0.0.1:1','tls://[::]:2','unix:///s']\ndomains='d:1'\npid=''\nlog='/var/\"log\"'\n\
        secret_file=['a','b']\norigins=['http://a','file://']\non_message='echo'\nuser='u'\ngroup='g'\n\
        trusted_proxies=['10.0.0.0/8','::1','unix']\ncontrol_hosts=['push.internal']\nproxy_protocol=true\nreuseport=true\n[auth]\nidentity='user'\ndigest='hmac-sha256'\n\
        [limits]\nclients=7\nunauthenticated=3\nhead=1000\n[timeouts]\nidle=0.25\n[tls]\ncertificate='c'\nkey='k'\n\
        [sockets]\ncontrol_mode='0600'\nowner='o'\n\
        [bus]\nredis=['redis://a','redis://[::1]:7']\nuser='u'\npassword_file='p'\nname='shop'\ntimeout=0.5";
    let text = if cfg!(feature = "tls") { text.to_owned() } else { text.replace("tls://", "tcp://") };
    let text = if cfg!(feature = "bus") { &text } else { text.split("[bus]").next().unwrap_or_default() };
    let settings = good(text);
    assert_eq!((settings.auth.identity, settings.auth.digest), (IdentityKind::User, Digests::HmacSha256));
    assert_eq!(good(&settings.render_masked()), settings);
    assert_eq!(good(&Settings::default().render_masked()), Settings::default());
}

#[test]
fn secrets_are_masked_and_the_mask_is_no_secret() {
    let settings = good(&format!("secret = ['{STRONG}', 'another-long-secret']"));
    let rendered = settings.render_masked();
    assert!(!rendered.contains(STRONG) && !rendered.contains("another"), "{rendered}");
    assert!(!format!("{settings:?}").contains(STRONG));
    assert!(bad(&rendered).contains("shorter than 16 bytes"));
}

#[test]
fn near_words_are_found_and_far_ones_are_not() {
    let near = |word| nearest(word, ["origins", "servers", "log"].into_iter());
    assert_eq!(
        (near("orgins"), near("server"), near("lgo")),
        (Some("origins"), Some("servers"), Some("log"))
    );
    assert_eq!((near("loq"), near("xyz"), near("")), (Some("log"), None, None));
}

proptest::proptest! {
    /// Reading any file ends with settings or with errors that have a place.
    #[test]
    fn no_text_makes_it_panic(text in "[a-z_\\[\\]{}=\"'.,#\\\\ \n0-9é-]{0,80}") {
        if let Err(errors) = parse(&text) {
            proptest::prop_assert!(!errors.is_empty());
        }
    }
}

#[test]
fn a_server_can_be_stopped_with_a_file_that_has_mistakes() {
    let pid = |text: &str| Settings::parse_to_stop(text, Path::new("/srv")).map(|settings| settings.pid);
    assert_eq!(pid("pid = 'a.pid'\ncolour = 1\nservers = 7"), Some(Some("/srv/a.pid".into())));
    assert_eq!(pid("colour = 1"), Some(Some("/run/wsson/wsson.pid".into())));
    assert_eq!(pid("pid = ''\ncolour = 1"), Some(None));
    for unsure in ["pid = 7", "pdi = 'a.pid'", "pids = 'a.pid'", "pid = 'a.pid"] {
        assert_eq!(pid(unsure), None, "{unsure}");
    }
}
