//! The table of rules in docs/endpoint.md is the one in the code, word by word.

use wsson::testing::rules::Rule;

#[test]
fn the_page_has_a_row_for_each_rule() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/endpoint.md"))
        .expect("the page can be read");
    let (_, table) =
        page.split_once("| rule | status | means |\n|---|---|---|\n").expect("the page has the table");
    let found: Vec<_> = table.lines().take_while(|line| line.starts_with('|')).collect();
    let wanted: Vec<_> = Rule::ALL.iter().map(|rule| row(*rule)).collect();
    assert_eq!(found, wanted, "the table should be:\n{}", wanted.join("\n"));
}

/// An administrator who meets a rule in the log finds the cure.
#[test]
fn the_page_on_trouble_has_every_rule_and_no_other() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/troubleshooting.md"))
        .expect("the page can be read");
    let (_, table) =
        page.split_once("| rule | status | what to do |\n|---|---|---|\n").expect("the page has the table");
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    let named: std::collections::BTreeSet<_> =
        cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    let known = Rule::ALL.iter().map(|rule| rule.name()).collect();
    assert_eq!(named, known);
}

fn row(rule: Rule) -> String {
    let status = rule.status().map_or("–".into(), |status| status.to_string());
    format!("| `{}` | {status} | {} |", rule.name(), rule.sentence())
}
