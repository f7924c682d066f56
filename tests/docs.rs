//! The documents hold together: links, citations in the code, settings, and marks of what is not built.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

type Words = BTreeSet<String>;

/// Pages in these folders are others' texts.
const FOREIGN: [&str; 4] = ["target", ".git", ".cache", "node_modules"];
/// On a row, a heading, or at the head of a page: the mark of parts that are not built yet.
const COMING: &str = "*(coming)*";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below a folder of the repository with one of these ends.
fn files(below: &str, ends: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(below)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository") {
            let path = entry.expect("readable").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            match path.is_dir() {
                true if FOREIGN.contains(&name) => {}
                true => folders.push(path),
                false if ends.iter().any(|end| name.ends_with(end)) => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    found
}

fn pages() -> Vec<PathBuf> {
    let pages = files(".", &[".md"]);
    assert!(pages.iter().any(|page| page.ends_with("docs/endpoint.md")), "{pages:?}");
    pages
}

/// The lines of a page that are neither in a block of code nor indented as one.
fn prose(text: &str) -> Vec<&str> {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if !inside && !line.starts_with("    ") {
            lines.push(line);
        }
    }
    lines
}

fn headings(text: &str) -> impl Iterator<Item = &str> {
    prose(text)
        .into_iter()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim())
}

/// How a heading is called in a link, as the usual renderers do it.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// A heading without the mark of what is coming.
fn title(heading: &str) -> &str {
    heading.trim_end_matches(COMING).trim_end()
}

/// The targets of `[…](target)`.
fn links(text: &str) -> Vec<String> {
    let text = prose(text).join("\n");
    let ends = text.match_indices("](").map(|(at, _)| &text[at + 2..]);
    ends.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

/// The path without `..`, which need not be there.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
        plain
    })
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages() {
        let text = read(&page);
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            count += 1;
            let (file, fragment) =
                link.split_once('#').map_or((link.as_str(), ""), |(file, name)| (file, name));
            let target = match file {
                "" => page.clone(),
                file => plain(&page.parent().expect("it lies in a folder").join(file)),
            };
            let is_there = target.exists()
                && (fragment.is_empty()
                    || headings(&read(&target)).any(|heading| anchor(heading) == fragment));
            if !is_there {
                wrong.push(format!("{}: {link}", page.strip_prefix(root()).unwrap_or(&page).display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(count > 50, "only {count} links were found");
}

/// A page that a comment may cite: at the top, or in docs.
fn cited_page(name: &str) -> Option<PathBuf> {
    [".", "docs"].map(|folder| root().join(folder).join(name)).into_iter().find(|path| path.is_file())
}

/// A citation: the page, the headings in quotes behind it, the rows of its table, and the checks of the handshake.
#[derive(Debug, Default, PartialEq)]
struct Citation {
    page: String,
    headings: Vec<String>,
    rows: Vec<String>,
    checks: Vec<String>,
}

/// `page.md "One", "Two" and "Three"`, `page.md, "One"`, `page.md row 7`, `page.md, rows 1 to 5`.
fn citations(text: &str) -> Vec<Citation> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices(".md") {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/');
        let start = text[..at].rfind(|c: char| !is_name(c)).map_or(0, |at| at + 1);
        let (name, mut rest) = (&text[start..at], &text[at + 3..]);
        if name.is_empty() || rest.starts_with(is_name) {
            continue;
        }
        let mut citation = Citation { page: format!("{name}.md"), ..Citation::default() };
        loop {
            let next = rest.trim_start_matches([' ', ',']);
            let next = next.strip_prefix("and ").unwrap_or(next);
            let Some((heading, behind)) = next.strip_prefix('"').and_then(|next| next.split_once('"')) else {
                break;
            };
            citation.headings.push(heading.to_owned());
            rest = behind;
        }
        citation.rows = listed(rest, "row");
        citation.checks = listed(rest, "check");
        found.push(citation);
    }
    found
}

/// `, checks form to protocol`: the two words, or the one.
fn listed(rest: &str, kind: &str) -> Vec<String> {
    let next = rest.trim_start_matches([' ', ',']);
    let Some(next) = next.strip_prefix(kind) else { return Vec::new() };
    let mut words = next.strip_prefix('s').unwrap_or(next).split_whitespace();
    let mut word = || words.next().map(|word| word.trim_end_matches([',', ';', '.', ':', ')']).to_owned());
    let first = word().expect("a row or a check is named");
    match word().as_deref() {
        Some("to" | "and") => vec![first, word().expect("it ends with a row or a check")],
        _ => vec![first],
    }
}

#[test]
fn citations_are_read_as_they_are_written() {
    let read = |text: &str| {
        let mut all = citations(text);
        assert_eq!(all.len(), 1, "{text}");
        all.remove(0)
    };
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let expected = |headings: &[&str], rows: &[&str]| Citation {
        page: "a-b.md".into(),
        headings: owned(headings),
        rows: owned(rows),
        checks: Vec::new(),
    };
    assert_eq!(read("// as a-b.md says"), expected(&[], &[]));
    assert_eq!(read("(a-b.md, \"One two\")."), expected(&["One two"], &[]));
    assert_eq!(read("a-b.md \"One\", \"Two\" and \"Three\": x"), expected(&["One", "Two", "Three"], &[]));
    assert_eq!(read("(a-b.md row 7)."), expected(&[], &["7"]));
    assert_eq!(read("a-b.md, rows 1 to 5."), expected(&[], &["1", "5"]));
    let checks = read("a-b.md \"One\", checks form to protocol; threats").checks;
    assert_eq!(checks, ["form", "protocol"]);
}

/// The comments of a source file as one line, so that a citation may be broken over two. Those behind code and, in
/// Python, other strings than those in three quotes are left out.
fn comments(source: &Path) -> String {
    let python = source.extension().is_some_and(|end| end == "py");
    let mut inside = false;
    let mut words = Vec::new();
    for line in read(source).lines().map(str::trim) {
        let opens = python && line.matches("\"\"\"").count() % 2 == 1;
        let whole =
            if python { line.starts_with('#') || line.starts_with("\"\"\"") } else { line.starts_with("//") };
        if inside || opens || whole {
            words.push(line.trim_start_matches("//").trim_start_matches(['/', '!', '#']).trim().to_owned());
        }
        inside ^= opens;
    }
    words.join(" ")
}

#[test]
fn every_page_that_the_code_cites_is_there() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for source in ["src", "tests", "fuzz", "examples"].iter().flat_map(|below| files(below, &[".rs", ".py"]))
    {
        if source.ends_with("tests/docs.rs") {
            continue;
        }
        for citation in citations(&comments(&source)) {
            count += 1;
            let tell = |what: &str| {
                format!("{}: {}{what}", source.strip_prefix(root()).expect("below").display(), citation.page)
            };
            // A README of a folder is cited from that folder.
            let beside =
                source.parent().map(|folder| folder.join(&citation.page)).filter(|path| path.is_file());
            let Some(page) = beside.or_else(|| cited_page(&citation.page)) else {
                wrong.push(tell(""));
                continue;
            };
            let text = read(&page);
            for heading in &citation.headings {
                if !headings(&text).any(|known| title(known).replace('`', "") == *heading) {
                    wrong.push(tell(&format!(" \"{heading}\"")));
                }
            }
            for check in &citation.checks {
                if !text.contains(&format!("\n| *{check}* | ")) {
                    wrong.push(tell(&format!(" check {check}")));
                }
            }
            for row in &citation.rows {
                if !text.contains(&format!("\n| {row} | ")) {
                    wrong.push(tell(&format!(" row {row}")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(count > 30, "only {count} citations were found");
}

/// The keys of the configuration, `section.key`: another test holds the shipped file against the parser.
fn keys() -> Words {
    let mut section = String::new();
    let mut keys = Words::new();
    for line in read(&root().join("conf/wsson.toml")).lines() {
        let line = line.strip_prefix('#').unwrap_or(line);
        if let Some((name, _)) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            section = name.to_owned();
        } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| !key.contains(' ')) {
            keys.insert(format!("{section}.{key}"));
        }
    }
    assert!(keys.contains("limits.clients") && keys.contains(".servers"), "{keys:?}");
    keys
}

/// The text between backquotes.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The settings that a line names by section and key.
fn settings_in(line: &str) -> impl Iterator<Item = &str> {
    const SECTIONS: [&str; 6] = ["auth", "bus", "limits", "sockets", "timeouts", "tls"];
    let words = quoted(line).filter_map(|word| word.split([' ', '=']).next());
    words.filter(|word| {
        word.split_once('.').is_some_and(|(section, name)| {
            SECTIONS.contains(&section) && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        })
    })
}

/// A setting that is not there must be marked somewhere: with its row, its heading, or its page.
#[test]
fn every_setting_that_a_page_names_is_one() {
    let keys = keys();
    let (mut named, mut coming) = (Words::new(), Words::new());
    let shown = ["README.md", "COMMANDS.md"].map(|name| root().join(name));
    for page in shown.into_iter().chain(files("docs", &[".md"])) {
        let text = read(&page);
        let page_is_marked = text.lines().take(4).any(|line| line.starts_with("> *(coming)*"));
        let mut heading_is_marked = false;
        for line in prose(&text) {
            if line.starts_with('#') {
                heading_is_marked = line.contains(COMING);
            }
            let is_marked = page_is_marked || heading_is_marked || line.contains(COMING);
            let words = if is_marked { &mut coming } else { &mut named };
            words.extend(settings_in(line).map(str::to_owned));
        }
    }
    let wrong: Vec<_> = named.iter().filter(|key| !keys.contains(*key) && !coming.contains(*key)).collect();
    assert!(wrong.is_empty(), "neither settings nor marked: {wrong:?}");
    assert!(named.len() > 20, "only {named:?} were found");
}

/// Every page of docs is in their index, with the mark if it has one.
#[test]
fn the_index_has_every_page() {
    let index = read(&root().join("docs/README.md"));
    for page in files("docs", &[".md"]) {
        let name = page.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        if name == "README.md" {
            continue;
        }
        let row = index.lines().find(|line| line.starts_with(&format!("| [{name}]({name}) |")));
        let row = row.unwrap_or_else(|| panic!("docs/README.md has no row for {name}"));
        let is_coming = read(&page).lines().take(4).any(|line| line.starts_with("> *(coming)*"));
        assert_eq!(row.contains(COMING), is_coming, "{row}");
    }
}

/// README and the page of settings, which another test writes from the code, agree on the keys that a reload applies.
#[test]
fn the_readme_knows_what_a_reload_applies() {
    let readme = read(&root().join("README.md"));
    let (_, sentence) = readme.split_once("\n`reload` applies ").expect("README says what reload applies");
    let (sentence, _) = sentence.split_once(';').expect("and what it does not");
    let told: Words = quoted(sentence).map(str::to_owned).collect();

    let (mut applied, mut restarted) = (Words::new(), Words::new());
    let mut section = String::new();
    for line in read(&root().join("docs/settings.md")).lines() {
        if let Some((name, _)) = line.strip_prefix("## [").and_then(|rest| rest.split_once(']')) {
            section = format!("[{name}]");
        } else if let Some(row) = line.strip_prefix("| `") {
            let (key, rest) = row.split_once('`').expect("a key");
            let set = if rest.starts_with(" * ") { &mut applied } else { &mut restarted };
            set.insert(if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") });
        }
    }
    // A section that is applied as a whole is named as one.
    let section = |key: &String| key.split_once('.').map_or(key.clone(), |(section, _)| section.to_owned());
    let partly: Words = restarted.iter().map(section).collect();
    let names = |key: &String| {
        if partly.contains(&section(key)) { key.replace(['[', ']'], "") } else { section(key) }
    };
    assert_eq!(told, applied.iter().map(names).collect());
}

/// Each crate that is linked has its reason on the page, and the page has no other.
#[test]
fn every_dependency_has_its_reason() {
    let manifest = read(&root().join("Cargo.toml"));
    let (_, rest) = manifest.split_once("\n[dependencies]\n").expect("there are dependencies");
    let lines = rest.lines().take_while(|line| !line.starts_with('['));
    let linked: Words = lines.filter_map(|line| Some(line.split_once(" = ")?.0.to_owned())).collect();
    let page = read(&root().join("docs/architecture.md"));
    let (_, table) = page.split_once("| crate | for |\n|---|---|\n").expect("the page has the table");
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let named: Words =
        rows.filter_map(|row| row.split(" | ").next()).flat_map(quoted).map(str::to_owned).collect();
    assert_eq!(named, linked);
}
