//! Man pages and completions agree with the program: held against `wsson help` and the configuration's keys.
//!
//! A command, an option or a key that is added, renamed or removed in one place only fails here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use wsson::testing::config::{self, Effect, Shown};
use wsson::testing::control::{Capital, LETTERS, Letter};
use wsson::testing::stats::{Kind, ROWS};

type Words = BTreeSet<String>;

fn conf(name: &str) -> String {
    let path = path(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("conf").join(name)
}

fn help(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_wsson")).arg("help").args(words).output();
    String::from_utf8(output.expect("the binary runs").stdout).expect("help is UTF-8")
}

/// The lines of a help page from a heading to the next blank line.
fn block(page: &str, heading: &str) -> Vec<String> {
    let lines = page.lines().skip_while(|line| *line != heading).skip(1);
    lines.take_while(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn commands() -> Words {
    let names = block(&help(&[]), "commands:");
    let names: Words =
        names.iter().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    assert!(names.contains("run") && names.contains("send"), "{names:?}");
    names
}

/// The long options of each command, and those that need no command.
fn options() -> BTreeMap<String, Words> {
    let all = commands().into_iter().map(|command| {
        let long = long_options(&block(&help(&[&command]), "options:").join("\n"));
        (command, long)
    });
    let common = long_options(&block(&help(&[]), "options of every command:").join("\n"));
    all.chain([(String::new(), common)]).collect()
}

fn every_option() -> Words {
    options().into_values().flatten().collect()
}

/// Every `--word` in a text.
fn long_options(text: &str) -> Words {
    let starts = text.match_indices("--").map(|(at, _)| &text[at + 2..]);
    let word = |rest: &str| {
        rest.split(|c: char| !c.is_ascii_lowercase() && c != '-').next().unwrap_or("").to_owned()
    };
    starts.map(word).filter(|word| !word.is_empty() && !word.starts_with('-')).collect()
}

#[test]
fn the_manual_has_every_command() {
    let page = conf("man/wsson.8");
    let (list, _) = page.split_once("The options are:").expect("commands come before options");
    let items = list.lines().filter_map(|line| line.strip_prefix(".It Cm "));
    let named: Words = items.flat_map(|item| item.split(" , ")).map(str::to_owned).collect();
    assert_eq!(named, commands());
}

#[test]
fn the_manual_has_every_option() {
    let page = conf("man/wsson.8");
    let items = page.lines().filter(|line| line.starts_with(".It Fl "));
    let named = items.flat_map(|line| line.split(" , ").flat_map(str::split_whitespace));
    let long: Words = named.filter_map(|word| word.strip_prefix('-')).map(str::to_owned).collect();
    assert_eq!(long, every_option());
}

/// Every key once, in its section, with the star of those that a reload applies.
#[test]
fn the_manual_has_every_key_of_the_configuration() {
    let page = conf("man/wsson.toml.5");
    let (_, list) = page.split_once(".Ss What must be set").expect("keys come behind the introduction");
    let mut section = (String::new(), false);
    let mut named = Vec::new();
    for line in list.lines() {
        if let Some(title) = line.strip_prefix(".Ss ") {
            let name = title.strip_prefix('[').and_then(|rest| rest.split_once(']'));
            section = name
                .map_or((String::new(), false), |(name, rest)| (format!("{name}."), rest.starts_with(" *")));
        } else if let Some(keys) = line.strip_prefix(".It Ic ") {
            let (keys, reload) = keys.strip_suffix(" No *").map_or((keys, section.1), |keys| (keys, true));
            named.extend(keys.split(" , ").map(|key| (format!("{}{key}", section.0), reload)));
        }
    }
    let mut known: Vec<_> =
        config::keys().map(|key| (key.name.to_owned(), key.effect == Effect::Reload)).collect();
    named.sort();
    known.sort();
    assert_eq!(named, known);
}

/// The README names what a reload applies, key by key or by whole sections.
#[test]
fn the_readme_has_what_a_reload_applies() {
    let page = document("README.md");
    let (_, list) = page.split_once("\n`reload` applies ").expect("the README says what a reload applies");
    let (list, _) = list.split_once("; everything else needs a restart").expect("and what it does not");
    let named: Words = list.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let applied = |key: &&config::Key| key.effect == Effect::Reload;
    let is_whole = |section: &str| {
        !section.is_empty() && config::keys().filter(|key| key.section == section).all(|key| applied(&key))
    };
    let known = config::keys().filter(applied).map(|key| match is_whole(key.section) {
        true => format!("[{}]", key.section),
        false => key.name.to_owned(),
    });
    assert_eq!(named, known.collect::<Words>());
}

/// docs/settings.md is written from the rows of the keys: with `WSSON_BLESS=1` by this test.
#[test]
fn the_table_of_settings_is_that_of_the_rows() {
    let wanted = settings_page();
    bless("docs/settings.md", |_| wanted.clone());
    assert!(document("docs/settings.md") == wanted, "docs/settings.md is not what the rows say: {BLESS}");
}

/// The table of status fields in COMMANDS.md is written from the rows of `stats.rs`, in the same way.
#[test]
fn the_table_of_status_fields_is_that_of_the_rows() {
    let table = status_table();
    bless("COMMANDS.md", |page| {
        let (before, after) = around_status_table(page);
        format!("{before}{table}{after}")
    });
    let page = document("COMMANDS.md");
    let (before, after) = around_status_table(&page);
    let shown = &page[before.len()..page.len() - after.len()];
    assert!(shown == table, "COMMANDS.md does not show what the rows say: {BLESS}");
}

fn around_status_table(page: &str) -> (&str, &str) {
    let start = page.find("| field | is | |\n").expect("a table of status fields");
    let end = start + page[start..].find("\n\n").expect("a paragraph behind it") + 1;
    (&page[..start], &page[end..])
}

fn status_table() -> String {
    let mut table = String::from("| field | is | |\n|---|---|---|\n");
    for row in ROWS.iter().filter(|row| !row.name.is_empty()) {
        let kind = match (row.kind, row.label) {
            (Kind::Counter, "") => "counter".to_owned(),
            (Kind::Counter, label) => format!("counters by {label}"),
            (Kind::Gauge, _) => "gauge".to_owned(),
            (Kind::Times, _) => "times".to_owned(),
            (Kind::Fact, _) => "fact".to_owned(),
        };
        table += &format!("| `{}` | {kind} | {} |\n", row.name, row.help);
    }
    table
}

const BLESS: &str = "WSSON_BLESS=1 cargo test --test manual writes it";

fn document(name: &str) -> String {
    fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap_or_default()
}

/// Writes a document anew when `WSSON_BLESS=1` asks for it.
fn bless(name: &str, page: impl Fn(&str) -> String) {
    if std::env::var_os("WSSON_BLESS").is_some_and(|value| value == "1") {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name);
        fs::write(path, page(&document(name))).expect("documents can be written");
    }
}

fn settings_page() -> String {
    let mut page = String::from(
        "# Settings\n\nEvery key of the configuration, from its row in `src/config/keys.rs`; \
         `WSSON_BLESS=1 cargo test --test manual` writes this page.\n\
         A change of a key marked with * is applied by `wsson reload`, of another one by `wsson restart`.\n",
    );
    for section in config::sections() {
        let title = if section.is_empty() { "Top of the file".into() } else { format!("[{section}]") };
        page += &format!("\n## {title}\n\n| key | may be | default | |\n|---|---|---|---|\n");
        for key in config::keys().filter(|key| key.section == section) {
            let star = if key.effect == Effect::Reload { " *" } else { "" };
            let default = match key.default_value() {
                Shown::Value(value) => format!("`{value}`"),
                Shown::WorkedOut(from) => from.to_owned(),
                Shown::Unset => "none".to_owned(),
            };
            let doc: Vec<&str> = key.doc.lines().map(str::trim).collect();
            page +=
                &format!("| `{}`{star} | {} | {default} | {} |\n", key.word(), key.describe(), doc.join(" "));
        }
    }
    page
}

#[test]
fn bash_completes_every_command_and_option() {
    let script = conf("completions/wsson.bash");
    let list = script.split_once("local commands=\"").and_then(|(_, rest)| rest.split_once('"'));
    let (list, _) = list.expect("a list of commands");
    assert_eq!(list.split(' ').map(str::to_owned).collect::<Words>(), commands());
    for (command, options) in options() {
        let run = format!("{script}\n_wsson_options '{command}'");
        let output = Command::new("bash").args(["-c", &run]).output().expect("there is a bash");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(long_options(&String::from_utf8_lossy(&output.stdout)), options, "of {command:?}");
    }
}

#[test]
fn zsh_completes_every_command_and_option() {
    let script = conf("completions/_wsson");
    let lines = script.lines().filter_map(|line| line.strip_prefix("    '")?.split_once(':'));
    assert_eq!(lines.map(|(name, _)| name.to_owned()).collect::<Words>(), commands());
    let (_, code) = script.split_once("local -a").expect("code behind the comment");
    assert_eq!(long_options(code), every_option());
}

#[test]
fn fish_completes_every_command_and_option() {
    let script = conf("completions/wsson.fish");
    let list =
        script.lines().find_map(|line| line.strip_prefix("set -l commands ")).expect("a list of commands");
    assert_eq!(list.split(' ').map(str::to_owned).collect::<Words>(), commands());
    let described =
        script.lines().filter_map(|line| line.split_once("-n \"$before\" -a ")?.1.split(' ').next());
    assert_eq!(described.map(str::to_owned).collect::<Words>(), commands());
    let words: Vec<&str> = script.split_whitespace().collect();
    let long =
        words.windows(2).filter(|pair| pair[0] == "-l" && pair[1] != "commands" && pair[1] != "before");
    assert_eq!(long.map(|pair| pair[1].to_owned()).collect::<Words>(), every_option());
}

#[test]
fn the_man_pages_have_no_mistake() {
    for page in ["wsson.8", "wsson.toml.5", "wsson-control.7"] {
        let Ok(output) =
            Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(path("man").join(page)).output()
        else {
            let required = std::env::var_os("WSSON_REQUIRE_TOOLS").is_some_and(|value| value == "1");
            assert!(!required, "there is no mandoc, and WSSON_REQUIRE_TOOLS wants all tests");
            return eprintln!("skipped: there is no mandoc");
        };
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.is_empty(), "{said}");
    }
}

#[test]
fn the_control_manual_has_every_command_of_the_protocol() {
    let page = conf("man/wsson-control.7");
    let (list, _) = page.split_once(".Ss Replies").expect("commands come before replies");
    let items = list.lines().filter_map(|line| line.strip_prefix(".It Cm "));
    let named: Vec<String> = items.map(|item| item.split(" Ar ").next().unwrap_or(item).to_owned()).collect();
    let known: Vec<String> = LETTERS.iter().map(|row| letters(row).join(" ")).collect();
    assert_eq!(named, known);
}

/// The letters of a command as the manuals write them.
fn letters(row: &Letter) -> Vec<String> {
    let capital = (row.capital != Capital::Other).then(|| row.letter.to_ascii_uppercase());
    [Some(row.letter), capital].into_iter().flatten().map(|letter| char::from(letter).to_string()).collect()
}

#[test]
fn the_documents_have_the_table_of_commands() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("COMMANDS.md");
    let page = fs::read_to_string(&path).expect("COMMANDS.md is there");
    let quoted = |words: Vec<String>, between: &str| {
        words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(between)
    };
    for row in LETTERS {
        let replies = match row.replies {
            "" => "none".to_owned(),
            letters => quoted(letters.chars().map(String::from).collect(), " / "),
        };
        let line = format!("| {} | {} | {} | {replies} |", quoted(letters(row), " "), row.takes, row.does);
        assert!(page.lines().any(|other| other == line), "COMMANDS.md has no line\n{line}");
    }
    let (_, list) = page.split_once("\n## Commands\n").expect("a chapter of commands");
    let (list, _) = list.split_once("\n### ").expect("sections behind the table");
    let rows = list.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, LETTERS.len(), "COMMANDS.md has rows of other commands");
}

/// The numbers of a text, without those that are part of a word.
fn numbers(text: &str) -> BTreeSet<u8> {
    text.split([' ', ',', ';', '.', '\n']).filter_map(|word| word.parse().ok()).collect()
}

/// The exit codes that scripts rely on stand in two places, and cli.rs holds the program against it.
#[test]
fn the_manual_and_the_help_have_the_same_exit_codes() {
    let page = conf("man/wsson.8");
    for command in ["status", "send"] {
        let help = help(&[command]);
        let (_, told) = help.split_once("Exit codes").expect("its help has exit codes");
        let (_, list) = page.split_once(&format!("For\n.Cm {command} :\n")).expect("the manual has them too");
        let (list, _) = list.split_once(".El").expect("a list");
        let list: String =
            list.lines().filter_map(|line| line.strip_prefix(".It ")).flat_map(|n| [n, " "]).collect();
        assert_eq!(numbers(&list), numbers(told), "of {command}: {told}");
    }
}

/// A file that a manual names is one that the package brings or that the server makes.
#[test]
fn the_files_of_the_manuals_are_there() {
    let settings = fs::read_to_string(path("../docs/settings.md")).expect("the page of settings");
    let package =
        ["debian/build", "debian/postinst", "debian/conffiles", "systemd/wsson.service"].map(conf).concat();
    for name in ["man/wsson.8", "man/wsson.toml.5", "man/wsson-control.7"] {
        let page = conf(name);
        let files =
            page.lines().filter_map(|line| line.strip_prefix(".Pa ").or(line.strip_prefix(".It Pa ")));
        for file in files.map(|line| line.split(' ').next().unwrap_or_default()) {
            assert!(
                settings.contains(file) || package.contains(file.trim_start_matches('/')),
                "{name}: {file}"
            );
        }
    }
}
