//! Who is told what, in memory.

use super::*;
use crate::stats;

#[test]
fn the_kinds_are_counted_under_their_names() {
    assert_eq!(EventKind::ALL.map(EventKind::name), stats::EVENTS);
}
