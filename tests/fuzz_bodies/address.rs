//! Fuzz body: a list of addresses is taken if and only if a reader takes it that was written after the grammar of
//! COMMANDS.md in the plainest way there is, and its items are the same; so for a list of groups.
//!
//! Input: a byte for the length of tokens, a byte for the most items, then the list.

use wsson::testing::control::{AddressError, Addresses, Groups, ListRules, Target};

/// An item as it is written: with `-` or not, its kind, its name.
type Heard = (bool, char, String);

pub(crate) fn body(data: &[u8]) {
    let &[token_length, items_max, ref text @ ..] = data else {
        return;
    };
    let rules = ListRules {
        token_length: 1 + usize::from(token_length % 40),
        items_max: 1 + usize::from(items_max % 20),
    };
    let expected = read_plainly(text, rules.token_length).filter(|items| items.len() <= rules.items_max);
    let list = Addresses::parse(text, rules);
    if let Err(error) = &list {
        check_error(error, text);
    }
    assert_eq!(list.ok().map(|list| written_down(&list)), expected);
    let groups = Groups::parse(text, rules.items_max);
    if let Err(error) = &groups {
        check_error(error, text);
    }
    let expected = groups_plainly(text).filter(|names| names.len() <= rules.items_max);
    assert_eq!(groups.ok().map(|groups| groups.iter().map(str::to_owned).collect::<Vec<_>>()), expected);
}

fn written_down(list: &Addresses<'_>) -> Vec<Heard> {
    let items: Vec<Heard> = list
        .iter()
        .map(|item| {
            let (kind, name) = match item.target {
                Target::All => ('*', ""),
                Target::Token(token) => ('t', std::str::from_utf8(token).expect("a token is ASCII")),
                Target::User(user) => ('u', user),
                Target::Group(group) => ('g', group),
                Target::Connection(connection) => ('c', connection),
            };
            let text = if kind == '*' { "*".to_owned() } else { format!("{kind}:{name}") };
            assert_eq!(item.text, text);
            (item.except, kind, name.to_owned())
        })
        .collect();
    assert_eq!(items.len(), list.len());
    items
}

fn check_error(error: &AddressError, text: &[u8]) {
    assert!(error.at <= text.len(), "{error:?}");
    assert!(error.to_string().starts_with(&format!("byte {} of the list: ", error.at)));
}

/// The items; none when the text is no list.
fn read_plainly(text: &[u8], token_length: usize) -> Option<Vec<Heard>> {
    let mut rest = std::str::from_utf8(text).ok()?;
    let mut items = Vec::new();
    loop {
        let (except, item) = rest.strip_prefix('-').map_or((false, rest), |item| (true, item));
        let len = match item.get(..2) {
            Some("t:") => 2 + token_length,
            _ => item.find(',').unwrap_or(item.len()),
        };
        let (item, behind) = (item.get(..len)?, item.get(len..)?);
        let (kind, name) = if item == "*" { ("*", "") } else { item.split_once(':')? };
        let fits = |max: usize, more: &str| {
            (1..=max).contains(&name.len())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        let good = match kind {
            "*" => item == "*",
            "t" => fits(token_length, ",-"),
            "u" => fits(64, "_-.@+"),
            "g" => fits(64, "_-.@+:/"),
            "c" => fits(40, "-"),
            _ => false,
        };
        if !good {
            return None;
        }
        items.push((except, kind.chars().next()?, name.to_owned()));
        if behind.is_empty() {
            return Some(items);
        }
        rest = behind.strip_prefix(',')?;
    }
}

fn groups_plainly(text: &[u8]) -> Option<Vec<String>> {
    let text = std::str::from_utf8(text).ok()?;
    let fits = |name: &str| {
        (1..=64).contains(&name.len())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.@+:/".contains(c))
    };
    let names: Vec<String> = text.split(',').map(str::to_owned).collect();
    names.iter().all(|name| fits(name)).then_some(names)
}
