//! JSON as the server and its command line write and read it: members in the order they are given in, and short ways to the
//! values of a status.
//!
//! RFC 8259 gives the order of members no meaning, people do. Reading keeps no order; code that shows values which were
//! read sorts them.

use serde_core::ser::{Serialize, Serializer};
use serde_json::Value;

/// An object whose members come in this order.
pub(crate) struct Object<'m, V>(pub &'m [(&'m str, V)]);

impl<V: Serialize> Serialize for Object<'_, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// The text of a value. Every type of ours has string names and finite numbers, which is all that could fail.
pub(crate) fn text(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).expect("names are strings")
}

/// Reads one value that fills the text; `None` when it is not JSON.
pub(crate) fn parse(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

/// The entries of the list at a field; nothing else has any.
pub(crate) fn items<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_order() {
        let list = text(&["\"\u{1}"]);
        let object = [("z", Value::from(1)), ("a", Value::from(list))];
        assert_eq!(text(&Object(&object)), r#"{"z":1,"a":"[\"\\\"\\u0001\"]"}"#);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        let deep = "[".repeat(100_000);
        for text in ["", "{", "{\"a\":1,}", "[1 2]", "1 1", "\"\\x\"", &deep] {
            assert_eq!(parse(text), None, "{}", &text[..text.len().min(20)]);
        }
        assert_eq!(items(&parse(r#"{"a":[1]}"#).expect("it is JSON"), "a"), [Value::from(1)]);
    }
}
