//! Fuzz body: sends in JSON are read as the plainest reader there is reads them, which looks at the values of any JSON; only
//! members that stand twice it does not see.
//!
//! Input: a byte for the length of tokens and the number of addresses, then the body of a request.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use wsson::testing::control::{Addresses, ListRules, Planned, Sends};
use wsson::testing::frame::Kind;

pub(crate) fn body(data: &[u8]) {
    let &[rules, ref text @ ..] = data else { return };
    let rules =
        ListRules { token_length: 1 + usize::from(rules >> 4), items_max: 1 + usize::from(rules & 15) };
    let plain = plain(text, rules);
    match Sends::parse(text, rules) {
        Ok(sends) => assert_eq!(Some((sends.list, sends.as_list)), plain),
        Err(error) => {
            assert!(error.line <= 1 + text.iter().filter(|&&byte| byte == b'\n').count(), "{error}");
            let is_twice = |sends: &[Planned]| members(text) > 2 * sends.len();
            assert!(plain.as_ref().is_none_or(|(sends, _)| is_twice(sends)), "{error}: {plain:?}");
        }
    }
}

/// The members of all objects of JSON: the colons outside of strings.
fn members(json: &[u8]) -> usize {
    let (mut count, mut bytes) = (0, json.iter());
    while let Some(byte) = bytes.next() {
        count += usize::from(*byte == b':');
        let mut inside = *byte == b'"';
        while inside {
            match bytes.next() {
                Some(b'\\') => _ = bytes.next(),
                Some(b'"') | None => inside = false,
                Some(_) => {}
            }
        }
    }
    count
}

/// The sends, and whether they are a list.
fn plain(text: &[u8], rules: ListRules) -> Option<(Vec<Planned>, bool)> {
    let value: Value = serde_json::from_slice(text).ok()?;
    let (objects, as_list) = match &value {
        Value::Array(list) => (list.iter().collect(), true),
        one => (vec![one], false),
    };
    let list: Option<Vec<_>> = objects.into_iter().map(|object| one(object, rules)).collect();
    let list = list?;
    let addresses = |planned: &Planned| Addresses::parse(planned.to.as_bytes(), rules).map(|list| list.len());
    let sum: usize = list.iter().map(|planned| addresses(planned).unwrap_or(usize::MAX / 2)).sum();
    (sum <= rules.items_max).then_some((list, as_list))
}

fn one(value: &Value, rules: ListRules) -> Option<Planned> {
    let object = value.as_object().filter(|object| object.len() == 2)?;
    let to = match object.get("to")? {
        Value::String(list) => list.clone(),
        Value::Array(items) => {
            let items: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            let items = items.filter(|items| !items.is_empty())?;
            let single = ListRules { items_max: 1, ..rules };
            items
                .iter()
                .all(|item| Addresses::parse(item.as_bytes(), single).is_ok())
                .then(|| items.join(","))?
        }
        _ => return None,
    };
    Addresses::parse(to.as_bytes(), rules).ok()?;
    let (kind, message) = match (object.get("text"), object.get("base64")) {
        (Some(text), None) => (Kind::Text, text.as_str()?.as_bytes().to_vec()),
        (None, Some(text)) => (Kind::Binary, STANDARD.decode(text.as_str()?).ok()?),
        _ => return None,
    };
    Some(Planned { to, kind, message })
}
