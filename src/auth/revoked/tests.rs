use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const NOW: i64 = 1_531_124_337;
const DAY: i64 = 86_400;

fn token(token: &str, until_unix_s: i64) -> Revocation {
    Revocation { whose: Whose::Token(token.into()), until_unix_s }
}

fn of_user(user: &str, issued_unix_s: i64, until_unix_s: i64) -> Revocation {
    Revocation { whose: Whose::User(user.into(), issued_unix_s), until_unix_s }
}

fn revoked(all: &[Revocation]) -> Revoked {
    let mut revoked = Revoked::new(RandomState::new());
    all.iter().cloned().for_each(|revocation| revoked.add(revocation));
    revoked
}

fn login(token: &'static str, user: Option<&'static str>, issued: i64) -> Identity<'static> {
    let login = Identity::new(token).with_times(issued, issued + DAY);
    Identity { user: user.map(Into::into), ..login }
}

#[test]
fn a_token_is_one_login() {
    let revoked = revoked(&[token("gone", NOW + 9)]);
    assert!(
        revoked.covers(&login("gone", None, NOW), NOW)
            && revoked.covers(&login("gone", Some("anna"), NOW), NOW + 9)
    );
    assert!(!revoked.covers(&login("other", None, NOW), NOW));
    assert!(!revoked.covers(&login("gone", None, NOW), NOW + 10), "no login that it covers is valid by then");
}

#[test]
fn a_user_is_every_login_up_to_a_second() {
    let revoked = revoked(&[of_user("anna", NOW, NOW + DAY)]);
    for (issued, covered) in [(NOW - DAY, true), (NOW, true), (NOW + 1, false), (0, true)] {
        assert_eq!(revoked.covers(&login("any", Some("anna"), issued), NOW), covered, "{issued}");
    }
    assert!(!revoked.covers(&login("anna", None, NOW), NOW), "a token is no user");
    assert!(!revoked.covers(&login("any", Some("ann"), NOW), NOW));
}

#[test]
fn two_of_one_cover_what_both_did() {
    let revoked = revoked(&[
        of_user("anna", NOW, NOW + 5),
        of_user("anna", NOW - 9, NOW + 9),
        token("gone", NOW + 9),
        token("gone", NOW + 5),
    ]);
    assert_eq!(revoked.len(), 2);
    assert!(revoked.covers(&login("any", Some("anna"), NOW), NOW + 9));
    assert!(revoked.covers(&login("gone", None, NOW), NOW + 9));
}

#[test]
fn it_is_kept_as_long_as_a_login_lives() {
    let mut revoked = revoked(&[]);
    assert_eq!(revoked.until(DAY, NOW), NOW + DAY + 60, "the site's clock may be a minute ahead");
    revoked.note(&Identity::new("jwt").with_times(NOW, NOW + 30 * DAY), NOW);
    revoked.note(&Identity::new("jwt").with_times(NOW, NOW + 3 * DAY), NOW);
    assert_eq!(revoked.until(DAY, NOW + 1), NOW + 1 + 30 * DAY, "a JWT was let in that lives longer");
    revoked.note(&Identity::new("endless"), NOW);
    assert_eq!(revoked.until(DAY, NOW), i64::MAX);
}

#[test]
fn there_is_room_for_so_many_and_what_is_over_makes_room() {
    let mut revoked = revoked(&[token("a", NOW), token("b", NOW + 5)]);
    assert_eq!(revoked.check_room(&[token("c", NOW + 9)], 2, NOW), Err(NoRoom));
    assert_eq!(revoked.check_room(&[token("b", NOW + 9)], 2, NOW), Ok(()), "it is not one more");
    assert_eq!(revoked.check_room(&[token("c", NOW + 9), token("d", NOW + 9)], 2, NOW + 1), Err(NoRoom));
    assert_eq!(revoked.check_room(&[token("c", NOW + 9)], 2, NOW + 1), Ok(()));
    assert_eq!(revoked.len(), 1, "\"a\" was over");
    assert_eq!(revoked.check_room(&[token("c", NOW + 9)], 0, NOW + 1), Err(NoRoom));
}

#[test]
fn lines_that_cannot_be_read_are_told() {
    let text = "# wsson\n\nt:gone 1531124338\nt:gone\nx:1 2\nt: 1531124338\nt:a b 1531124338\nt:gone 1531124338 \r\nt:gone  1531124338\n\
                u:anna 1531124338\nu:anna 1 1531124338\nu:anna 1 1531124338 9\nt:gone +1531124338\nt:gone -1\nt:gone 99999999999999999999\n\
                u:an/na 1 1531124338\nT:gone 1531124338\nt:over 5\nt:\u{e4} 1531124338\n1531124338";
    let mut revoked = revoked(&[]);
    let unread = revoked.read(text.as_bytes(), 9, NOW);
    assert_eq!(unread.bad_lines, [4, 5, 6, 7, 9, 10, 12, 13, 14, 15, 16, 17, 19, 20]);
    assert_eq!((revoked.len(), unread.no_room), (2, 0));
    assert_eq!(revoked.read(b"t:a 1531124338\nt:b 1531124338\nt:gone 1531124338", 3, NOW).no_room, 1);
}

/// threats.md row 28: "torn file: every whole line holds".
#[test]
fn a_file_may_end_at_any_byte() {
    let all = [token("first", NOW + 10_000), of_user("anna", NOW, NOW + 10_001), token("last", NOW + 10_002)];
    let text: String = all.iter().map(ToString::to_string).collect();
    let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
    for cut in 0..=text.len() {
        let mut revoked = revoked(&[]);
        let unread = revoked.read(&text.as_bytes()[..cut], 9, NOW);
        let whole = ends.iter().filter(|end| **end <= cut).count();
        assert_eq!(revoked.len(), whole, "cut at {cut}");
        let lines: Vec<String> = revoked.lines().collect();
        assert!(all[..whole].iter().all(|one| lines.contains(&one.to_string())), "cut at {cut}");
        assert!(unread.bad_lines.len() <= 1, "cut at {cut}: {unread:?}");
    }
}

#[test]
fn lines_are_read_back() {
    let all = [token("a,-Z", NOW), of_user("a+b@example.com", NOW - 5, i64::MAX)];
    let mut again = revoked(&[]);
    assert_eq!(again.read(revoked(&all).lines().collect::<String>().as_bytes(), 9, NOW), Unread::default());
    assert_eq!(again.len(), 2);
    for revocation in all {
        assert_eq!(Revocation::parse(revocation.to_string().as_bytes()), Ok(Some(revocation)));
    }
}

proptest! {
    #[test]
    fn no_line_makes_it_panic(line in "[tu]:[a-z,+]{0,5} [0-9]{0,20}( [0-9]{0,20})?|\\PC{0,30}") {
        if let Ok(Some(revocation)) = Revocation::parse(line.as_bytes()) {
            let again = revocation.to_string();
            prop_assert_eq!(again.trim_end().as_bytes(), line.as_bytes().trim_ascii());
        }
    }

    /// Against a list of all that was ever added.
    #[test]
    fn what_was_revoked_is_refused(steps in proptest::collection::vec((0..3_u8, 0..4_usize, 0..9_i64, 0..20_i64), 1..40)) {
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        let mut revoked = revoked(&[]);
        let mut merged: BTreeMap<(u8, usize), Revocation> = BTreeMap::new();
        for (step, name, issued, until) in steps {
            let (issued, until) = (NOW + issued, NOW + until);
            let one = match step {
                0 => token(NAMES[name], until),
                1 => of_user(NAMES[name], issued, until),
                _ => {
                    revoked.drop_expired(issued);
                    merged.retain(|_, one| one.until_unix_s >= issued);
                    continue;
                }
            };
            revoked.add(one.clone());
            // Two revocations of one user are one, which covers at least the logins that they did.
            let known = merged.entry((step, name)).or_insert_with(|| one.clone());
            known.until_unix_s = known.until_unix_s.max(one.until_unix_s);
            if let (Whose::User(_, known), Whose::User(_, issued)) = (&mut known.whose, &one.whose) {
                *known = (*known).max(*issued);
            }
        }
        prop_assert_eq!(revoked.len(), merged.len());
        for (token, user) in NAMES.into_iter().flat_map(|token| NAMES.map(|user| (token, user))) {
            for at in 0..10 {
                let login = login(token, Some(user), NOW + at);
                let now = NOW + 9;
                let expected = merged.values().any(|one| one.until_unix_s >= now && match &one.whose {
                    Whose::Token(revoked) => **revoked == *token,
                    Whose::User(revoked, issued) => **revoked == *user && *issued >= NOW + at,
                });
                prop_assert_eq!(revoked.covers(&login, now), expected);
            }
        }
    }
}
