//! Fuzz body: groups are allowed only if a plain reader finds them named well, and each covered by the right ticket, the
//! login, or a public prefix. And what the site signs is allowed.
//!
//! Input: a list of groups, and behind a line feed a ticket; without one none.

use wsson::testing::auth::{Denied, Identity, Rules, Secret, groups_allowed, ticket};

const TOKEN: &str = "32febad1f0cf83f38aceb31ad63866c4";
const SECRET: &str = "a secret of the fuzzer's";
const TIME: i64 = 1_531_124_337;

pub(crate) fn body(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (groups, given) = match text.split_once('\n') {
        Some((groups, given)) => (groups, Some(given)),
        None => (text, None),
    };
    let rules = Rules { secrets: vec![Secret::new(SECRET)], ..Rules::default() };
    let login = Identity::new(TOKEN).with_times(TIME, TIME + 60).with_group("own");
    let allowed = |given| groups_allowed(&rules, &["pub:".to_owned()], &login, groups, given);
    let right = ticket(&rules.secrets[0], TOKEN, TIME, groups);
    let names: Vec<&str> = groups.split(',').collect();
    let well_named = names.iter().all(|name| is_group(name));
    let covered = names.iter().all(|name| *name == "own" || name.starts_with("pub:"));
    let expected = match given {
        _ if !well_named => Err(Denied::BadGroups),
        Some(given) if given != right => Err(Denied::WrongTicket),
        None if !covered => Err(Denied::GroupNotAllowed),
        _ => Ok(names.clone()),
    };
    assert_eq!(allowed(given), expected, "{groups:?} {given:?}");
    assert_eq!(allowed(Some(&right)).is_ok(), well_named);
}

fn is_group(name: &str) -> bool {
    const OTHERS: &str = "_-.@+:/";
    (1..=64).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || OTHERS.contains(c))
}
