//! What two modules that may not know each other must agree on.

use wsson::testing::auth::Denied;
use wsson::testing::handshake::{RULES, Reject};

#[test]
fn every_rule_of_the_cookies_has_a_counter() {
    for denied in Denied::ALL {
        let reject = Reject::Cookies(denied.rule());
        assert_eq!(RULES[reject.index()], denied.rule());
    }
}
