//! Fuzz body: a query has one reading, which is the plainest one there is.
//!
//! Input: a request target.

use wsson::testing::http::{QueryError, Wishes};

pub(crate) fn body(data: &[u8]) {
    let Ok(target) = std::str::from_utf8(data) else { return };
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let values = |name: &str| -> Vec<Option<String>> {
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs
            .filter(|(found, _)| plain(found).as_deref() == Some(name))
            .map(|(_, value)| plain(value))
            .collect()
    };
    let all = ["groups", "ticket", "tab", "jwt"].map(values);
    match Wishes::read(target) {
        Ok(wishes) => {
            let found = [wishes.groups, wishes.ticket, wishes.tab, wishes.jwt];
            for (found, values) in found.into_iter().zip(all) {
                assert_eq!(found.map(|text| Some(text.into_owned())).into_iter().collect::<Vec<_>>(), values);
            }
        }
        Err(error) => {
            let errors = [QueryError::Groups, QueryError::Ticket, QueryError::Tab, QueryError::Jwt];
            let place = errors.iter().position(|other| *other == error).expect("it is one of the four");
            let values = &all[place];
            let is_tab = |tab: &String| {
                !tab.is_empty()
                    && tab.len() <= 40
                    && tab.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
            };
            let odd_tab = place == 2 && values.iter().flatten().any(|tab| !is_tab(tab));
            assert!(
                values.len() > 1 || values.contains(&None) || odd_tab,
                "{error:?} without a reason: {values:?}"
            );
        }
    }
}

/// Percent-decoded by a search for each escape.
fn plain(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}
