//! The import law of the house (docs/architecture.md, "Import law"), as a test: which module may import which, and
//! which words a layer must not mention.
//!
//! It cuts every `src/**/*.rs` into words (comments and literals fall away) and judges each path that is imported or
//! written in place. It trusts no naming habit: a module without a row in `PARTS` breaks the law until it gets one.
//!
//! Test code (`#[cfg(test)]`) runs on a developer's machine: it may use files, threads and clocks and import its own layer.
//! It may not import upward, and it may not be `unsafe`.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Module, layer, modules of the same layer that it may import, words that it may mention although its layer may not.
/// The longest name that fits a path is the one that counts.
struct Part(&'static str, u8, &'static [&'static str], &'static [&'static str]);

const PARTS: &[Part] = &[
    // 0: bytes and values. They import nothing but their own parts.
    Part("key", 0, &[], &[]),
    Part("words", 0, &[], &[]),
    Part("names", 0, &[], &[]),
    Part("clock", 0, &["key"], &[]),
    Part("date", 0, &[], &[]),
    Part("rule", 0, &[], &[]),
    Part("stats", 0, &["rule"], &[]), // a counter each
    Part("wire", 0, &[], &[]),
    Part("wire::frame", 0, &[], &[]),
    Part("wire::http", 0, &["words"], &[]),
    Part("wire::command", 0, &["wire::frame", "words", "names"], &[]), // the kind of a message
    Part("auth", 0, &["words", "names"], &[]),
    Part("config", 0, &["auth"], &["toml_span"]),
    Part("delivery", 0, &["delivery::outbox", "delivery::spool", "wire::frame", "clock", "key"], &[]),
    Part("delivery::outbox", 0, &["delivery::spool", "wire::frame"], &[]),
    Part("delivery::spool", 0, &["wire::frame"], &[]),
    // 1: peers, a state machine each.
    Part("peer", 1, &[], &[]),
    Part("peer::client", 1, &[], &[]),
    Part("peer::replies", 1, &[], &[]),
    Part("peer::exchange", 1, &[], &[]),
    Part("peer::node", 1, &[], &[]),
    Part("peer::worker", 1, &["peer::client"], &[]), // whose event it is
    Part("peer::backend", 1, &["peer::client", "peer::exchange", "peer::replies", "peer::worker"], &[]), // the ids of the clients that it locks
    // 2: the hub. Its parts are below it, and it is below the two that drive it.
    Part("roster", 2, &[], &[]),
    Part("hub", 2, &["roster"], &[]),
    Part("dispatch", 2, &["hub", "roster"], &[]),
    Part("handler", 2, &["hub", "roster"], &[]),
    // 3: sockets. The driver decides, over traits that net implements; only the server holds the poll.
    Part("sys", 3, &[], &["libc", "unsafe"]),
    Part("remote", 3, &[], &[]),
    Part("driver", 3, &["remote"], &[]),
    Part("net", 3, &["sys", "driver"], &["rustls"]),
    Part("server", 3, &["sys", "net", "remote", "driver"], &["Instant::now", "SystemTime", "UNIX_EPOCH"]),
    // 4: the process.
    Part("daemon", 4, &["cli"], &[]),
    Part("cli", 4, &["daemon"], &[]),
    Part("main", 4, &["daemon", "cli"], &[]),
];

/// The crates of `Cargo.toml` that a layer may use, besides those of the layers below it.
#[rustfmt::skip]
const CRATES: &[(u8, &[&str])] = &[
    (0, &["base64", "foldhash", "hashbrown", "hmac", "httparse", "md5", "percent_encoding", "serde_core", "serde_json", "sha1", "sha2", "subtle"]),
    (2, &["log", "slab"]),
    (3, &["mio", "signal_hook", "signal_hook_mio"]),
    (4, &["lexopt", "libc", "rustls"]),
];

/// Words that some parts must not mention, anywhere in a path: the highest such layer (or the part), and the words. Keys of
/// hashes are passed in, as time is.
#[rustfmt::skip]
const FORBIDDEN: &[(u8, &str, &[&str])] = &[
    (2, "", &[
        "std::env", "std::fs", "std::os", "std::process", "std::thread", "io::stdin", "io::stdout", "io::stderr",
        "TcpListener", "TcpStream", "UdpSocket", "UnixListener", "UnixStream", "ToSocketAddrs",
        "UNIX_EPOCH", "RandomState::new", "thread_local", "println", "eprintln",
    ]),
    (3, "", &["Instant::now", "SystemTime"]),
    // Its turns are run without a socket in tests.
    (0, "driver", &["mio", "std::net", "std::fs", "std::thread", "std::os"]),
];

/// These hold no protocol: no bytes of their own, nothing that makes any.
const WITHOUT_PROTOCOL: &[&str] = &["driver", "server"];

#[test]
fn every_import_goes_downward() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = dependencies(&fs::read_to_string(root.join("Cargo.toml")).expect("Cargo.toml is readable"));
    let mut sources = Vec::new();
    for path in rust_files(&root.join("src")) {
        let text = fs::read_to_string(&path).expect("a source file is readable UTF-8");
        let name =
            path.strip_prefix(root.join("src")).expect("it lies in src/").to_string_lossy().into_owned();
        sources.push((module_path(&name), words(&text), name));
    }
    assert!(sources.len() > 50, "src/ holds {} Rust files", sources.len());
    let tests: BTreeSet<String> =
        sources.iter().flat_map(|(home, code, _)| test_modules(home, code)).collect();
    let is_test = |home: &[String]| (1..=home.len()).any(|end| tests.contains(&home[..end].join("::")));
    let judged = sources.iter().map(|(home, code, file)| violations(file, code, is_test(home), &crates));
    let found: Vec<String> = judged.flatten().collect();
    assert!(found.is_empty(), "the import law is broken:\n  {}", found.join("\n  "));
}

/// `src/FILE:LINE: sentence` for all that is wrong in one file.
fn violations(file: &str, code: &[Word], is_test: bool, crates: &[String]) -> Vec<String> {
    let home = module_path(file);
    if file == "lib.rs" {
        return Vec::new();
    }
    let Some(own) = part_of(&home) else {
        return vec![format!("src/{file}:1: the file belongs to no part: give it a row in tests/layers.rs")];
    };
    let mut found = Vec::new();
    for word in code {
        if word.text == "unsafe" && !own.3.contains(&"unsafe") {
            found.push(format!("src/{file}:{}: `unsafe` outside src/sys.rs", word.line));
        }
        if is_bytes(&word.text) && WITHOUT_PROTOCOL.contains(&own.0) && !is_test && !word.in_test {
            found.push(format!("src/{file}:{}: {} holds protocol bytes: {}", word.line, own.0, word.text));
        }
    }
    for (at, written) in paths(code) {
        let in_test = is_test || at.in_test;
        let sentence = match from_root(&home, &at.inline, &written) {
            Some(path) => judge_import(own, &path, in_test),
            None => judge_words(own, &written, in_test, crates),
        };
        found.extend(sentence.map(|sentence| format!("src/{file}:{}: {sentence}", at.line)));
    }
    found.dedup();
    found
}

/// A literal that goes over a wire: bytes, or text with the line ends of a protocol.
fn is_bytes(literal: &str) -> bool {
    let bytes = literal.starts_with("b\"") || literal.starts_with("b'") || literal.starts_with("br");
    literal.contains(['"', '\'']) && literal != "b\"\"" && (bytes || literal.contains(r"\r\n"))
}

fn part_of(module: &[String]) -> Option<&'static Part> {
    let fits = |part: &&Part| {
        let name: Vec<&str> = part.0.split("::").collect();
        module.len() >= name.len() && name.iter().eq(&module[..name.len()])
    };
    PARTS.iter().filter(fits).max_by_key(|part| part.0.len())
}

fn judge_import(own: &Part, path: &[String], in_test: bool) -> Option<String> {
    if own.1 == 4 || path.is_empty() {
        return None;
    }
    if path[0] == "*" {
        return Some("a glob import of the crate's root hides who is meant".to_owned());
    }
    let Some(other) = part_of(path) else {
        return Some(format!(
            "`{}` is not a part: import from its module, not from the crate's root",
            path[0]
        ));
    };
    let downward = other.1 < own.1 || other.0 == own.0 || (in_test && other.1 == own.1);
    let sentence = || format!("{} (layer {}) imports {} (layer {})", own.0, own.1, other.0, other.1);
    (!downward && !own.2.contains(&other.0)).then(sentence)
}

/// Judges a path that does not begin in this crate.
fn judge_words(own: &Part, path: &[String], in_test: bool, crates: &[String]) -> Option<String> {
    // A word that stands alone is a field or a variable, not a crate.
    let used = (path.len() > 1).then(|| crates.iter().find(|name| **name == path[0])).flatten();
    let granted = |name: &str| {
        let by_layer = CRATES.iter().any(|(layer, names)| *layer <= own.1 && names.contains(&name));
        own.3.contains(&name) || (by_layer && (own.1, name) != (4, "mio"))
    };
    if let Some(name) = used.filter(|name| !granted(name)) {
        return Some(format!("{} (layer {}) must not use the crate `{name}`", own.0, own.1));
    }
    let rows =
        FORBIDDEN.iter().filter(|(to, part, _)| if part.is_empty() { own.1 <= *to } else { own.0 == *part });
    let words = rows.flat_map(|(.., words)| *words).filter(|word| !own.3.contains(word));
    let bad = words.filter(|word| mentions(path, word)).count() > 0 && !in_test;
    bad.then(|| format!("{} (layer {}) must not mention `{}`", own.0, own.1, path.join("::")))
}

/// Whether the words of `word` stand beside each other somewhere in the path.
fn mentions(path: &[String], word: &str) -> bool {
    let word: Vec<&str> = word.split("::").collect();
    path.windows(word.len()).any(|window| window.iter().eq(word.iter()))
}

// Source text.

#[derive(Clone)]
struct Word {
    /// An identifier, a literal, `::`, or one sign.
    text: String,
    line: usize,
    /// Names of the `mod name {` blocks around it.
    inline: Vec<String>,
    in_test: bool,
}

fn words(source: &str) -> Vec<Word> {
    let mut found = Vec::new();
    let around = Word { text: String::new(), line: 1, inline: Vec::new(), in_test: false };
    flatten(source.parse().expect("the file is Rust"), &around, &mut found);
    found
}

/// Attributes fall away. The one that says `cfg(test)` marks the item behind it, which ends with `;` or a block.
fn flatten(stream: TokenStream, around: &Word, found: &mut Vec<Word>) {
    let (mut next_is_test, mut joint) = (false, false);
    for tree in stream {
        let in_test = around.in_test || next_is_test;
        let line = tree.span().start().line;
        let word = |text: String| Word { text, line, in_test, ..around.clone() };
        match tree {
            TokenTree::Group(group)
                if group.delimiter() == Delimiter::Bracket
                    && found.last().is_some_and(|sign| sign.text == "#") =>
            {
                next_is_test |= is_cfg_test(&group.stream().to_string());
            }
            TokenTree::Group(group) => {
                let brace = group.delimiter() == Delimiter::Brace;
                let mut inner = Word { line, in_test, ..around.clone() };
                if let [.., keyword, name] = found.as_slice()
                    && brace
                    && keyword.text == "mod"
                {
                    inner.inline.push(name.text.clone());
                }
                let (open, close) = if brace { ("{", "}") } else { ("(", ")") };
                found.push(Word { text: open.to_owned(), ..inner.clone() });
                flatten(group.stream(), &inner, found);
                found.push(Word { text: close.to_owned(), ..inner });
                next_is_test &= !brace;
            }
            TokenTree::Punct(sign) => {
                next_is_test &= sign.as_char() != ';';
                match found.last_mut() {
                    Some(last) if joint && last.text == ":" && sign.as_char() == ':' => last.text.push(':'),
                    _ => found.push(word(sign.to_string())),
                }
                joint = sign.spacing() == Spacing::Joint;
            }
            other => found.push(word(other.to_string())),
        }
    }
}

fn is_cfg_test(attribute: &str) -> bool {
    let dense = attribute.replace(' ', "");
    dense == "cfg(test)"
        || (dense.starts_with("cfg(all(") && (dense.contains("(test,") || dense.contains(",test)")))
}

/// Every path in the code, as written: each leaf of each `use` tree, and each path in place; and where it begins.
fn paths(code: &[Word]) -> Vec<(&Word, Vec<String>)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(word) = code.get(at) {
        if word.text == "use" && code.get(at + 1).is_some_and(|next| next.text != "<") {
            at += 1;
            use_tree(code, &mut at, &[], &mut found);
        } else if is_identifier(&word.text) {
            let mut path = vec![word.text.clone()];
            while code.get(at + 1).is_some_and(|next| next.text == "::")
                && code.get(at + 2).is_some_and(|next| is_identifier(&next.text))
            {
                path.push(code[at + 2].text.clone());
                at += 2;
            }
            found.push((word, path));
        }
        at += 1;
    }
    found
}

/// Reads `a::b::{c, d as e, f::*}` and leaves `at` on what ends it.
fn use_tree<'c>(
    code: &'c [Word],
    at: &mut usize,
    before: &[String],
    found: &mut Vec<(&'c Word, Vec<String>)>,
) {
    let (mut path, begin) = (before.to_vec(), *at);
    loop {
        match code[*at].text.as_str() {
            "{" => {
                while code[*at].text != "}" {
                    *at += 1;
                    use_tree(code, at, &path, found);
                }
                *at += 1;
                return;
            }
            "," | ";" | "}" => break,
            "as" => *at += 1, // the new name is not part of the path
            "::" => {}
            word => path.push(word.to_owned()),
        }
        *at += 1;
    }
    if begin != *at {
        found.push((&code[begin], path));
    }
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_') && !text.contains(['"', '\''])
}

/// The path from the crate's root, if it begins with `crate`, `super` or `self`. `inline` are the modules opened in the file.
fn from_root(home: &[String], inline: &[String], written: &[String]) -> Option<Vec<String>> {
    let here = written.iter().take_while(|word| *word == "super" || *word == "self").count();
    if here > 0 && here < written.len() {
        let up = written.iter().filter(|word| *word == "super").count();
        let mut path = [home, inline].concat();
        path.truncate(path.len().saturating_sub(up));
        return Some([&path, &written[here..]].concat());
    }
    let rooted = written.len() > 1 && (written[0] == "crate" || written[0] == "wsson");
    rooted.then(|| written[1..].to_vec())
}

/// `frame/decode.rs` is `frame::decode`; `frame/mod.rs` and `frame.rs` are `frame`.
fn module_path(file: &str) -> Vec<String> {
    let stem = file.trim_end_matches(".rs").trim_end_matches("/mod");
    stem.split('/').map(str::to_owned).collect()
}

/// The module that `#[cfg(test)] mod name;` declares in the module `home`.
fn test_modules(home: &[String], code: &[Word]) -> Vec<String> {
    let declared = code.windows(3).filter(|three| {
        three[0].text == "mod" && three[2].text == ";" && three[0].in_test && is_identifier(&three[1].text)
    });
    declared.map(|three| format!("{}::{}", home.join("::"), three[1].text)).collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).expect("src/ is readable").map(|entry| entry.expect("and its entries").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let mut found: Vec<PathBuf> =
        files.into_iter().filter(|path| path.extension().is_some_and(|x| x == "rs")).collect();
    found.extend(folders.iter().flat_map(|folder| rust_files(folder)));
    found.sort();
    found
}

/// The names under `[dependencies]`, as code writes them. `md-5` is the one whose library has another name.
fn dependencies(manifest: &str) -> Vec<String> {
    let section = manifest.split("\n[dependencies]\n").nth(1).expect("Cargo.toml has [dependencies]");
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    let names = lines.filter_map(|line| line.split_once('=')).map(|(name, _)| name.trim());
    names.map(|name| if name == "md-5" { "md5".to_owned() } else { name.replace('-', "_") }).collect()
}

// The checker, checked.

fn judge(file: &str, source: &str) -> Vec<String> {
    let crates = ["base64", "libc", "log", "md5", "mio", "rustls", "slab", "toml_span"].map(String::from);
    violations(file, &words(source), false, &crates)
}

#[test]
#[rustfmt::skip]
fn the_checker_sees_planted_violations() {
    for (file, source, expected) in [
        ("auth/mod.rs", "use crate::wire::http::Request;", "1: auth (layer 0) imports wire::http (layer 0)"),
        ("auth/mod.rs", "\n\nfn f() { crate::hub::x() }", "3: auth (layer 0) imports hub (layer 2)"),
        ("auth/mod.rs", "use super::config;", "1: auth (layer 0) imports config"),
        ("auth/mod.rs", "use crate::{\n  auth::A,\n  peer::{client::B, x}};", "3: auth (layer 0) imports peer::client"),
        ("wire/frame/mod.rs", "use super::command;", "1: wire::frame (layer 0) imports wire::command"),
        ("wire/frame/decode.rs", "use super::super::http::X;", "1: wire::frame (layer 0) imports wire::http"),
        ("wire/frame/decode.rs", "mod a { use super::super::super::http; }", "1: wire::frame (layer 0) imports wire::http"),
        ("wire/http/mod.rs", "use crate::wire::frame::Kind;", "1: wire::http (layer 0) imports wire::frame"),
        ("delivery/spool.rs", "use super::outbox;", "1: delivery::spool (layer 0) imports delivery::outbox"),
        ("delivery/outbox.rs", "use super::Mailbox;", "1: delivery::outbox (layer 0) imports delivery "),
        ("peer/client.rs", "use crate::peer::backend::Backend;", "1: peer::client (layer 1) imports peer::backend"),
        ("net/mod.rs", "use crate::server::Server;", "1: net (layer 3) imports server"),
        ("driver/mod.rs", "use crate::net::Transport;", "1: driver (layer 3) imports net"),
        ("roster/groups.rs", "use crate::hub::Hub;", "1: roster (layer 2) imports hub"),
        ("hub/mod.rs", "use crate::dispatch;", "1: hub (layer 2) imports dispatch"),
        ("roster/mod.rs", "use crate::handler::Handler;", "1: roster (layer 2) imports handler"),
        ("dispatch.rs", "use crate::handler::Handler;", "1: dispatch (layer 2) imports handler"),
        ("server/mod.rs", "use crate::daemon::pid;", "1: server (layer 3) imports daemon (layer 4)"),
        ("hub/mod.rs", "use crate::Kind;", "1: `Kind` is not a part"),
        ("hub/mod.rs", "use crate::*;", "1: a glob import of the crate's root"),
        ("hub/mod.rs", "use super::*;", "1: a glob import of the crate's root"),
        ("nowhere.rs", "", "1: the file belongs to no part"),
        ("hub/mod.rs", "use std::hash::RandomState;\nfn f() { RandomState::new(); }", "2: hub (layer 2) must not mention"),
        ("delivery/spool.rs", "use std::{fmt, fs::File};", "1: delivery::spool (layer 0) must not mention `std::fs"),
        ("delivery/spool.rs", "fn f() { let _ = std::thread::current(); }", "must not mention `std::thread"),
        ("clock.rs", "use std::time::Instant;\nfn f() { Instant::now(); }", "2: clock (layer 0) must not mention"),
        ("clock.rs", "fn f() { println!(\"\"); }", "must not mention `println`"),
        ("remote.rs", "fn f() { std::time::SystemTime::now(); }", "must not mention `std::time::SystemTime"),
        ("peer/client.rs", "use std::net::TcpStream;", "(layer 1) must not mention `std::net::TcpStream"),
        ("hub/mod.rs", "use mio::Token;", "(layer 2) must not use the crate `mio`"),
        ("wire/frame/mod.rs", "fn f() { log::info!(\"x\"); }", "must not use the crate `log`"),
        ("auth/mod.rs", "use toml_span::parse;", "must not use the crate `toml_span`"),
        ("daemon/pid.rs", "use mio::Poll;", "daemon (layer 4) must not use the crate `mio`"),
        ("net/mod.rs", "use libc::c_int;", "must not use the crate `libc`"),
        ("server/mod.rs", "use rustls::ServerConfig;", "must not use the crate `rustls`"),
        ("driver/mod.rs", "use mio::net::TcpStream;", "1: driver (layer 3) must not mention `mio"),
        ("driver/mod.rs", "fn f() { g(b\"HTTP\") }", "1: driver holds protocol bytes: b\"HTTP\""),
        ("server/mod.rs", "fn f() { g(\"x\\r\\n\") }", "1: server holds protocol bytes"),
        ("net/mod.rs", "fn f() { unsafe { g() } }", "1: `unsafe` outside src/sys.rs"),
        ("daemon/mod.rs", "/* /* */ */ unsafe fn f() {}", "1: `unsafe` outside src/sys.rs"),
        ("auth/mod.rs", "#[cfg(test)] mod tests { use crate::hub::Hub; }", "imports hub (layer 2)"),
        ("auth/mod.rs", "#[cfg(test)] mod tests { unsafe fn f() {} }", "`unsafe` outside src/sys.rs"),
        ("auth/mod.rs", "#[cfg(test)] mod tests { } use std::fs;", "must not mention `std::fs`"),
        ("auth/mod.rs", "#[cfg(not(test))] mod a { use std::fs; }", "must not mention `std::fs`"),
        ("auth/mod.rs", "const A: &str = r#\"\" \"#; use std::fs; const B: char = '\"';", "must not mention `std::fs`"),
    ] {
        let found = judge(file, source);
        assert!(found.iter().any(|line| line.contains(expected)), "{file}: {source:?}\n{expected:?}, found {found:?}");
    }
}

#[test]
#[rustfmt::skip]
fn the_checker_leaves_honest_code_alone() {
    for (file, source) in [
        ("wire/frame/decode.rs", "use super::{Opcode, utf8::Validator}; use crate::wire::frame::mask; pub(crate) fn f() {}"),
        ("delivery/outbox.rs", "use crate::delivery::spool::Spool; use std::{collections::VecDeque, io::IoSlice};"),
        ("delivery/mod.rs", "pub(crate) use spool::Spool; use crate::{clock::Tick, key::ClientKey};"),
        ("config/limits.rs", "use crate::{auth::Rules, config::Limits}; use toml_span::Value;"),
        ("auth/mod.rs", "// std::fs, unsafe, mio\n/* crate::hub */ const A: &str = \"crate::hub unsafe mio::x\";"),
        ("auth/mod.rs", "/// crate::hub, unsafe\nfn f(log: u8) { let slab = self.mio; g(log) } use md5::Md5; use std::net::IpAddr;"),
        ("auth/mod.rs", "#[cfg(test)]\nmod tests { use super::*; use std::fs; use crate::wire::http::X; }"),
        ("auth/mod.rs", "#[cfg(all(test, unix))]\nfn f() { std::fs::x() }"),
        ("roster/mod.rs", "use crate::{peer::client::Client, key::ClientKey, delivery::Mailbox}; use slab::Slab;"),
        ("hub/mod.rs", "use crate::{roster::Roster, delivery as d}; use crate::hub::lock;"),
        ("dispatch.rs", "use crate::{wire::command::Command, hub::Hub}; fn r#unsafe() {}"),
        ("server/mod.rs", "use mio::Poll; use crate::{driver, net, sys}; fn f() { std::time::SystemTime::now(); g(b\"\") }"),
        ("driver/mod.rs", "fn f() { warn!(\"a sentence\"); }"),
        ("sys.rs", "use libc::rlimit; fn f() { unsafe { g() } }"),
        ("main.rs", "use wsson::daemon; fn main() { cli::run() }"),
        ("cli/status.rs", "use crate::cli::args; use wsson::hub; use std::net::TcpStream;"),
    ] {
        let found = judge(file, source);
        assert!(found.is_empty(), "{file}: {source:?}\nfound {found:?}");
    }
}
