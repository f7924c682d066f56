//! The import law of the house, as a test: who may know whom, and which words a layer must not mention.
//!
//! It reads every `src/**/*.rs`, cuts comments and literals away, and judges what is left: each path that
//! is written or imported, each `unsafe`. It never compiles anything and it trusts no naming habit: a file
//! that no row of `PARTS` covers is itself a violation, so a new file has to be given its place first.
//!
//! Test code (`#[cfg(test)]`) may use files, threads and clocks and may import its own layer, because it
//! runs on a developer's machine; it may not import upward, and it may not be `unsafe`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A part of the crate: a file, or a folder of that name, or files that begin with `name_`.
struct Part {
    name: &'static str,
    layer: u8,
    /// Parts of the same layer that it may import.
    beside: &'static [&'static str],
    /// What it may use although its layer may not.
    extra: &'static [&'static str],
}

const fn part(
    layer: u8,
    name: &'static str,
    beside: &'static [&'static str],
    extra: &'static [&'static str],
) -> Part {
    Part { name, layer, beside, extra }
}

const PARTS: &[Part] = &[
    // 0: bytes and parts. They know nobody.
    part(0, "frame", &[], &[]),
    part(0, "handshake", &[], &[]),
    part(0, "auth", &[], &[]),
    part(0, "control", &["frame"], &[]), // the kind of a message
    part(0, "spool", &["frame"], &[]),
    part(0, "outbox", &["spool", "frame"], &[]),
    part(0, "timers", &[], &[]),
    part(0, "config", &["auth"], &["toml_span"]),
    part(0, "stats", &[], &[]),
    // 1: peers.
    part(1, "client", &[], &[]),
    part(1, "backend", &["client"], &[]), // the ids of the clients that it locks
    // 2: the registry. The hub is below the two that drive it.
    part(2, "hub", &[], &[]),
    part(2, "dispatch", &["hub"], &[]),
    part(2, "handler", &["hub"], &[]),
    // 3: sockets. The driver decides, over traits that net implements; only the reactor holds the poll.
    part(3, "sys", &[], &["libc", "unsafe"]),
    part(3, "remote", &[], &[]),
    part(3, "driver", &["remote"], &[]),
    part(3, "net", &["sys", "driver"], &["rustls"]),
    part(3, "reactor", &["sys", "net", "remote", "driver"], &["Instant::now", "SystemTime"]),
    // 4: the process.
    part(4, "daemon", &["cli"], &[]),
    part(4, "cli", &["daemon"], &[]),
    part(4, "main", &["daemon", "cli"], &[]),
];

/// The crates of `Cargo.toml` that a layer may use, besides those of the layers below it.
const CRATES: &[(u8, &[&str])] = &[
    (0, &["base64", "hashbrown", "hmac", "httparse", "md5", "sha1", "sha2"]),
    (1, &[]),
    (2, &["log", "slab"]),
    (3, &["mio", "signal_hook", "signal_hook_mio"]),
    (4, &["lexopt", "libc", "rustls"]),
];

/// Words a layer must not use: a path that begins or ends with one of them. `to` is the highest such layer.
const FORBIDDEN: &[(u8, &[&str])] = &[
    (
        2,
        &[
            "std::env",
            "std::fs",
            "std::os",
            "std::process",
            "std::thread",
            "std::io::stdin",
            "std::io::stdout",
            "std::io::stderr",
            "TcpListener",
            "TcpStream",
            "ToSocketAddrs",
            "UdpSocket",
            "UnixListener",
            "UnixStream",
            "Instant::now",
            "SystemTime",
            "UNIX_EPOCH",
            "thread_local",
            "RandomState::new", // keys of hashes are passed in, as time is
            "println",
            "eprintln",
        ],
    ),
    (3, &["Instant::now", "SystemTime"]),
];

/// What the driver must not use although it sits among the sockets: its turns are run without one in tests.
const DRIVER_IS_PURE: &[&str] =
    &["mio", "std::net", "std::fs", "std::thread", "std::os", "Instant::now", "SystemTime"];

#[test]
fn every_import_goes_downward() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = dependencies(&fs::read_to_string(root.join("Cargo.toml")).expect("Cargo.toml is readable"));
    let files = rust_files(&root.join("src"));
    assert!(!files.is_empty(), "src/ holds no Rust file");
    let sources: Vec<(String, Vec<Token>)> = files
        .iter()
        .map(|path| {
            let text = fs::read_to_string(path).expect("a source file is readable UTF-8");
            let name = path.strip_prefix(root.join("src")).expect("it lies in src/");
            (name.to_string_lossy().replace('\\', "/"), mark_tests(tokens(&text)))
        })
        .collect();
    let tests: BTreeSet<String> = sources.iter().flat_map(|(name, code)| test_files(name, code)).collect();
    let mut found = Vec::new();
    for (name, code) in &sources {
        let whole_file_is_test = tests.contains(name) || tests.contains(&format!("{}/", parent(name)));
        found.extend(violations(name, code, whole_file_is_test, &crates));
    }
    assert!(found.is_empty(), "the import law is broken:\n  {}", found.join("\n  "));
}

#[test]
fn the_checker_sees_planted_violations() {
    let planted: &[(&str, &str, &str)] = &[
        ("auth.rs", "use crate::handshake::Request;", "1: auth (layer 0) imports handshake (layer 0)"),
        ("auth.rs", "\n\nfn f() { crate::hub::x() }", "3: auth (layer 0) imports hub (layer 2)"),
        ("auth.rs", "use super::handshake;", "1: auth (layer 0) imports handshake"),
        ("auth.rs", "use crate::{\n  auth::A,\n  client::B};", "3: auth (layer 0) imports client"),
        ("frame/decode.rs", "use super::super::auth::X;", "1: frame (layer 0) imports auth"),
        (
            "frame/decode.rs",
            "mod inner { use super::super::super::auth; }",
            "1: frame (layer 0) imports auth",
        ),
        ("client.rs", "use crate::backend::Backend;", "1: client (layer 1) imports backend"),
        ("net/mod.rs", "use crate::reactor::Server;", "1: net (layer 3) imports reactor"),
        ("driver.rs", "use crate::net::Transport;", "1: driver (layer 3) imports net"),
        (
            "hub.rs",
            "use std::hash::RandomState;\nfn f() { RandomState::new(); }",
            "2: layer 2 must not mention",
        ),
        ("hub.rs", "use crate::dispatch;", "1: hub (layer 2) imports dispatch"),
        ("hub/locks.rs", "use crate::handler::Handler;", "1: hub (layer 2) imports handler"),
        ("reactor.rs", "use crate::daemon::pid;", "1: reactor (layer 3) imports daemon (layer 4)"),
        ("hub.rs", "use crate::Kind;", "1: `Kind` is not a part"),
        ("hub.rs", "use crate::*;", "1: a glob import of the crate's root"),
        ("hub.rs", "use super::*;", "1: a glob import of the crate's root"),
        ("nowhere.rs", "", "1: the file belongs to no part"),
        ("spool.rs", "use std::fs;", "1: layer 0 must not mention `std::fs`"),
        ("spool.rs", "use std::{fmt, fs::File};", "1: layer 0 must not mention `std::fs"),
        ("spool.rs", "fn f() { let _ = std::thread::current(); }", "must not mention `std::thread"),
        ("timers.rs", "use std::time::Instant;\nfn f() { Instant::now(); }", "2: layer 0 must not mention"),
        ("timers.rs", "fn f() { std::time::SystemTime::now(); }", "must not mention `std::time::SystemTime"),
        ("client.rs", "use std::net::TcpStream;", "layer 1 must not mention `std::net::TcpStream"),
        ("hub.rs", "use mio::Token;", "layer 2 must not use the crate `mio`"),
        ("frame/mod.rs", "fn f() { log::info!(\"x\"); }", "layer 0 must not use the crate `log`"),
        ("auth.rs", "use toml_span::parse;", "layer 0 must not use the crate `toml_span`"),
        ("daemon/pid.rs", "use mio::Poll;", "layer 4 must not use the crate `mio`"),
        ("net/mod.rs", "use libc::c_int;", "layer 3 must not use the crate `libc`"),
        ("reactor.rs", "use rustls::ServerConfig;", "layer 3 must not use the crate `rustls`"),
        ("driver.rs", "use mio::net::TcpStream;", "1: the driver must not mention `mio"),
        ("net/mod.rs", "fn f() { unsafe { g() } }", "1: `unsafe` outside src/sys.rs"),
        ("daemon/mod.rs", "/* /* */ */ unsafe fn f() {}", "1: `unsafe` outside src/sys.rs"),
        ("auth.rs", "#[cfg(test)] mod tests { use crate::hub::Hub; }", "imports hub (layer 2)"),
        ("auth.rs", "#[cfg(test)] mod tests { unsafe fn f() {} }", "`unsafe` outside src/sys.rs"),
        ("auth.rs", "#[cfg(test)] mod tests { } use std::fs;", "must not mention `std::fs`"),
        ("auth.rs", "const A: char = '\"'; use std::fs; const B: char = '\"';", "must not mention `std::fs`"),
        ("auth.rs", "fn f<'a>(x: &'a str) {} use std::fs; // '", "must not mention `std::fs`"),
        ("auth.rs", "const A: &str = r#\"\" \"#; use std::fs;", "must not mention `std::fs`"),
        ("auth.rs", "const A: &[u8] = b\"\\\\\"; use std::fs;", "must not mention `std::fs`"),
    ];
    for (file, source, expected) in planted {
        let found = judge(file, source);
        assert!(
            found.iter().any(|line| line.contains(expected)),
            "planted in {file}: {source:?}\nexpected {expected:?}, found {found:?}"
        );
    }
}

#[test]
fn the_checker_leaves_honest_code_alone() {
    let honest: &[(&str, &str)] = &[
        (
            "frame/decode.rs",
            "use super::{Opcode, utf8::Validator}; use crate::frame::mask; pub(crate) fn f() {}",
        ),
        ("outbox.rs", "use crate::spool::Spool; use std::{collections::VecDeque, io::IoSlice};"),
        ("spool.rs", "use crate::frame::encode;"),
        ("config/limits.rs", "use crate::{auth::Rules, config::Limits}; use toml_span::Value;"),
        (
            "auth.rs",
            "// std::fs, unsafe, mio\n/* crate::hub */ const A: &str = \"crate::hub unsafe mio::x\";",
        ),
        (
            "auth.rs",
            "const A: &str = r##\"crate::hub \"# unsafe\"##; const B: char = '\\''; const C: u8 = b'\"';",
        ),
        (
            "auth.rs",
            "fn f(log: u8) { let slab = self.mio; g(log) } use md5::Md5; use std::time::Duration; use std::net::IpAddr;",
        ),
        ("auth.rs", "#[cfg(test)]\nmod tests { use super::*; use std::fs; use crate::handshake::X; }"),
        (
            "hub.rs",
            "use crate::{client::Client, outbox, spool::Spool}; use slab::Slab; use crate::hub::index;",
        ),
        ("hub_index.rs", "use crate::hub::ClientId;"),
        ("dispatch.rs", "use crate::{control::Command, hub::Hub}; fn r#unsafe() {}"),
        ("reactor.rs", "use mio::Poll; use crate::{driver, net, sys}; fn f() { std::time::Instant::now(); }"),
        ("sys.rs", "use libc::rlimit; fn f() { unsafe { g() } }"),
        ("main.rs", "mod cli; use wsson::daemon; fn main() { cli::run() }"),
        ("cli/status.rs", "use crate::cli::args; use wsson::hub; use std::net::TcpStream;"),
        ("lib.rs", "pub mod hub; pub use hub::Hub;"),
    ];
    for (file, source) in honest {
        let found = judge(file, source);
        assert!(found.is_empty(), "{file}: {source:?}\nfound {found:?}");
    }
}

fn judge(file: &str, source: &str) -> Vec<String> {
    let crates = ["base64", "libc", "log", "md5", "mio", "rustls", "slab", "toml_span"].map(String::from);
    violations(file, &mark_tests(tokens(source)), false, &crates)
}

// The law.

/// Everything that is wrong with one file, as `src/file:line: sentence`.
fn violations(file: &str, code: &[Token], is_test: bool, crates: &[String]) -> Vec<String> {
    if file == "lib.rs" {
        return Vec::new();
    }
    let own_name = module_path(file).first().cloned().unwrap_or_else(|| "main".to_owned());
    let Some(own) = part_of(&own_name) else {
        return vec![format!("src/{file}:1: the file belongs to no part: give it a row in tests/layers.rs")];
    };
    let mut found = Vec::new();
    for token in code.iter().filter(|token| token.text == "unsafe") {
        if !own.extra.contains(&"unsafe") {
            found.push(format!("src/{file}:{}: `unsafe` outside src/sys.rs", token.line));
        }
    }
    for path in paths(file, code) {
        let in_test = is_test || path.in_test;
        let sentence = if path.in_crate {
            judge_import(own, &path.segments, in_test)
        } else {
            judge_words(own, &path.segments, in_test, crates)
        };
        if let Some(sentence) = sentence {
            found.push(format!("src/{file}:{}: {sentence}", path.line));
        }
    }
    found.dedup();
    found
}

fn part_of(module: &str) -> Option<&'static Part> {
    let belongs = |part: &&Part| {
        module.strip_prefix(part.name).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    };
    PARTS.iter().find(belongs)
}

/// `segments` is a path from the crate's root.
fn judge_import(own: &Part, segments: &[String], in_test: bool) -> Option<String> {
    let first = segments.first()?;
    if own.layer == 4 {
        return None;
    }
    if first == "*" {
        return Some("a glob import of the crate's root hides who is meant".to_owned());
    }
    let Some(other) = part_of(first) else {
        return Some(format!("`{first}` is not a part: import from its module, not from the crate's root"));
    };
    let allowed = other.layer < own.layer
        || other.name == own.name
        || own.beside.contains(&other.name)
        || (in_test && other.layer == own.layer);
    let sentence =
        || format!("{} (layer {}) imports {} (layer {})", own.name, own.layer, other.name, other.layer);
    (!allowed).then(sentence)
}

/// `segments` is a path that does not begin in this crate.
fn judge_words(own: &Part, segments: &[String], in_test: bool, crates: &[String]) -> Option<String> {
    let first = segments.first()?;
    if own.name == "driver" && !in_test && DRIVER_IS_PURE.iter().any(|word| mentions(segments, word)) {
        return Some(format!("the driver must not mention `{}`", segments.join("::")));
    }
    // A word that stands alone is a field or a variable, not a crate.
    if segments.len() > 1 && crates.contains(first) && !may_use_crate(own, first) {
        return Some(format!("layer {} must not use the crate `{first}`", own.layer));
    }
    if in_test {
        return None;
    }
    let words = FORBIDDEN.iter().filter(|(highest, _)| own.layer <= *highest).flat_map(|(_, words)| *words);
    let mut bad = words.filter(|word| mentions(segments, word) && !own.extra.contains(word));
    bad.next().map(|_| format!("layer {} must not mention `{}`", own.layer, segments.join("::")))
}

fn may_use_crate(own: &Part, name: &str) -> bool {
    if own.layer == 4 && name == "mio" {
        return false;
    }
    own.extra.contains(&name)
        || CRATES.iter().any(|(layer, names)| *layer <= own.layer && names.contains(&name))
}

/// Whether the words of `word` stand beside each other somewhere in the path.
fn mentions(segments: &[String], word: &str) -> bool {
    let word: Vec<&str> = word.split("::").collect();
    segments.windows(word.len()).any(|window| window.iter().eq(word.iter()))
}

// Paths.

#[derive(Debug)]
struct CodePath {
    /// From the crate's root when `in_crate`, as written otherwise.
    segments: Vec<String>,
    in_crate: bool,
    in_test: bool,
    line: usize,
}

/// Every path in the code: each leaf of each `use` tree, and each path written in place.
fn paths(file: &str, code: &[Token]) -> Vec<CodePath> {
    let home = module_path(file);
    let mut found = Vec::new();
    let mut at = 0;
    while at < code.len() {
        let start = at;
        let is_use = code[at].text == "use" && code.get(at + 1).is_some_and(|next| next.text != "<");
        let mut leaves = Vec::new();
        if is_use {
            at += 1;
            use_tree(code, &mut at, &[], &mut leaves);
        } else if is_word(&code[at]) {
            leaves.push((code[at].line, plain_path(code, &mut at)));
        } else {
            at += 1;
        }
        for (line, written) in leaves {
            let (segments, in_crate) = resolve(&home, &code[start].inline, written);
            found.push(CodePath { segments, in_crate, in_test: code[start].in_test, line });
        }
    }
    found
}

/// Reads `a::b::{c, d as e, f::*}` and leaves `at` behind it.
fn use_tree(code: &[Token], at: &mut usize, before: &[String], leaves: &mut Vec<(usize, Vec<String>)>) {
    let mut path = before.to_vec();
    while let Some(token) = code.get(*at) {
        match token.text.as_str() {
            "{" => {
                *at += 1;
                while code.get(*at).is_some_and(|token| token.text != "}") {
                    use_tree(code, at, &path, leaves);
                    *at += usize::from(code.get(*at).is_some_and(|token| token.text == ","));
                }
                *at += 1;
                return;
            }
            "," | ";" | "}" => break,
            "as" => *at += 1, // the new name follows and is not part of the path
            "::" => {}
            _ if code[*at - 1].text == "as" => {}
            word => path.push(word.to_owned()),
        }
        *at += 1;
    }
    let line = code.get(at.saturating_sub(1)).map_or(0, |token| token.line);
    leaves.push((line, path));
}

/// Reads `a::b::c` and leaves `at` behind it. A turbofish ends the path: nothing behind it is a module.
fn plain_path(code: &[Token], at: &mut usize) -> Vec<String> {
    let mut path = vec![code[*at].text.clone()];
    *at += 1;
    while code.get(*at).is_some_and(|token| token.text == "::") && code.get(*at + 1).is_some_and(is_word) {
        path.push(code[*at + 1].text.clone());
        *at += 2;
    }
    path
}

/// Turns `crate::` and `super::` into a path from the root. `inline` are the modules opened in the file.
fn resolve(home: &[String], inline: &[String], written: Vec<String>) -> (Vec<String>, bool) {
    let supers = written.iter().take_while(|word| *word == "super" || *word == "self").count();
    let rest = written[supers..].to_vec();
    if supers > 0 && !rest.is_empty() {
        let up = written.iter().filter(|word| *word == "super").count();
        let here = [home, inline].concat();
        let base = here[..here.len().saturating_sub(up)].to_vec();
        return ([base, rest].concat(), true);
    }
    if written.len() > 1 && (written[0] == "crate" || written[0] == "wsson") {
        return (written[1..].to_vec(), true);
    }
    (written, false)
}

/// `frame/decode.rs` is `frame::decode`; `frame/mod.rs` and `frame.rs` are `frame`; the roots are empty.
fn module_path(file: &str) -> Vec<String> {
    let stem = file.strip_suffix(".rs").unwrap_or(file);
    let mut path: Vec<String> = stem.split('/').map(str::to_owned).collect();
    if path.last().is_some_and(|last| last == "mod" || (path.len() == 1 && (last == "main" || last == "lib")))
    {
        path.pop();
    }
    path
}

// Source text.

#[derive(Debug, Clone)]
struct Token {
    text: String,
    line: usize,
    /// Names of the `mod name {` blocks around it.
    inline: Vec<String>,
    in_test: bool,
}

fn is_word(token: &Token) -> bool {
    token.text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Words, `::` and single signs. Comments, strings, characters, numbers and lifetimes are gone.
fn tokens(source: &str) -> Vec<Token> {
    let text: Vec<char> = source.chars().collect();
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < text.len() {
        let end = token_end(&text, at);
        let word: String = text[at..end].iter().collect();
        if let Some(word) = significant(&word) {
            found.push(Token { text: word.to_owned(), line, inline: Vec::new(), in_test: false });
        }
        line += text[at..end].iter().filter(|sign| **sign == '\n').count();
        at = end;
    }
    found
}

/// What a lexeme means here: nothing for space, comments and literals.
fn significant(lexeme: &str) -> Option<&str> {
    let first = lexeme.chars().next()?;
    let literal = lexeme.contains(['"', '\'']) || first.is_ascii_digit();
    let comment = lexeme.starts_with("//") || lexeme.starts_with("/*");
    (!first.is_whitespace() && !literal && !comment).then_some(lexeme)
}

fn token_end(text: &[char], at: usize) -> usize {
    let rest = &text[at..];
    let starts = |sign: &str| rest.iter().copied().take(sign.len()).eq(sign.chars());
    let first = rest[0];
    if starts("//") {
        return at + rest.iter().position(|sign| *sign == '\n').unwrap_or(rest.len());
    }
    if starts("/*") {
        return at + block_comment(rest);
    }
    if first == '"' {
        return at + quoted(rest, 0, '"');
    }
    if first == '\'' {
        return at + character_or_lifetime(rest);
    }
    if first.is_alphanumeric() || first == '_' {
        return at + word_or_literal(rest);
    }
    at + if starts("::") { 2 } else { 1 }
}

fn block_comment(rest: &[char]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        match (rest[at], rest.get(at + 1)) {
            ('/', Some('*')) => (at, depth) = (at + 2, depth + 1),
            ('*', Some('/')) => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The end of a literal whose opening quote is at `open`; a backslash protects the sign behind it.
fn quoted(rest: &[char], open: usize, quote: char) -> usize {
    let mut at = open + 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// `'a'` and `'\n'` are characters; `'a` without a closing quote is a lifetime.
fn character_or_lifetime(rest: &[char]) -> usize {
    if rest.get(1) == Some(&'\\') || rest.get(2) == Some(&'\'') {
        return quoted(rest, 0, '\'');
    }
    1 + rest[1..].iter().take_while(|sign| sign.is_alphanumeric() || **sign == '_').count()
}

/// A word, or a literal with a prefix: `b"…"`, `b'…'`, `c"…"`, `r"…"`, `br#"…"#`.
fn word_or_literal(rest: &[char]) -> usize {
    let length = rest.iter().take_while(|sign| sign.is_alphanumeric() || **sign == '_').count();
    let word: String = rest[..length].iter().collect();
    let hashes = rest[length..].iter().take_while(|sign| **sign == '#').count();
    let sign = rest.get(length + hashes);
    match (word.as_str(), sign) {
        ("r" | "br" | "cr", Some('"')) => raw_string(rest, length + hashes, hashes),
        ("b" | "c", Some('"')) if hashes == 0 => quoted(rest, length, '"'),
        ("b", Some('\'')) if hashes == 0 => quoted(rest, length, '\''),
        // A raw identifier: cut as one lexeme so that `r#unsafe` is not taken for the keyword.
        ("r", Some(_)) if hashes == 1 => length + 1 + word_or_literal(&rest[length + 1..]),
        _ => length,
    }
}

fn raw_string(rest: &[char], open: usize, hashes: usize) -> usize {
    let closes = |at: &usize| {
        rest[*at] == '"' && rest[*at + 1..].iter().take(hashes).filter(|sign| **sign == '#').count() == hashes
    };
    (open + 1..rest.len()).find(closes).map_or(rest.len(), |at| at + 1 + hashes)
}

/// Notes for each token which inline modules surround it and whether it is test code.
fn mark_tests(mut code: Vec<Token>) -> Vec<Token> {
    struct Block {
        module: Option<String>,
        is_test: bool,
    }
    let mut blocks: Vec<Block> = Vec::new();
    // An attribute belongs to the next item, which ends with `;` or opens a block.
    let mut next_is_test = false;
    for at in 0..code.len() {
        if is_cfg_test(&code[at..]) {
            next_is_test = true;
        }
        code[at].inline = blocks.iter().filter_map(|block| block.module.clone()).collect();
        code[at].in_test = next_is_test || blocks.iter().any(|block| block.is_test);
        match code[at].text.as_str() {
            "{" => {
                let named = at >= 2 && code[at - 2].text == "mod";
                let module = named.then(|| code[at - 1].text.clone());
                blocks.push(Block { module, is_test: std::mem::take(&mut next_is_test) });
            }
            "}" => drop(blocks.pop()),
            ";" => next_is_test = false,
            _ => {}
        }
    }
    code
}

fn is_cfg_test(code: &[Token]) -> bool {
    let sign = ["#", "[", "cfg", "(", "test", ")", "]"];
    code.len() >= sign.len() && code.iter().zip(sign).all(|(token, sign)| token.text == sign)
}

/// The files that `#[cfg(test)] mod name;` declares in `file`: `dir/name.rs`, and `dir/name/` for its children.
fn test_files(file: &str, code: &[Token]) -> Vec<String> {
    let folder = module_path(file).join("/");
    let inside = |name: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
    let declared = code.windows(3).filter(|three| {
        three[0].text == "mod" && three[2].text == ";" && three[0].in_test && is_word(&three[1])
    });
    declared.flat_map(|three| [".rs", "/"].map(|tail| format!("{}{tail}", inside(&three[1].text)))).collect()
}

fn parent(file: &str) -> &str {
    file.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("src/ is readable") {
        let path = entry.expect("an entry of src/ is readable").path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
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
