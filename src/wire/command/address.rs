//! Lists of addresses, and of groups: the connections and groups that a command names (COMMANDS.md, "Addresses").
//!
//! A list is checked once as a whole; iterating over it allocates nothing and cannot fail. It never knows the
//! connections behind an address. Invariant: [`Addresses`] and [`Groups`] hold text that fits their grammar.

use crate::names::{CONNECTION_BYTES_MAX, Class, GROUP_BYTES_MAX, USER_BYTES_MAX};
use crate::words::find_byte;
use std::fmt;

/// The name in an item of a list, as it is written: whether there is such a connection is for the hub to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// `*`: every open connection.
    All,
    /// `t:` the connections of a login.
    Token(&'a [u8]),
    /// `u:` the connections of a user.
    User(&'a str),
    /// `g:` the connections in a group.
    Group(&'a str),
    /// `c:` one connection, by the name that wsson gave it.
    Connection(&'a str),
}

/// An item of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// As it stands in the list, without the `-`.
    pub text: &'a str,
    /// With a `-` before it: all but these.
    pub except: bool,
    /// The name in it.
    pub target: Target<'a>,
}

/// The settings that the reading of a list depends on. A token has at most 255 bytes.
#[derive(Clone, Copy, Debug)]
pub struct ListRules {
    /// Length of every token in bytes.
    pub token_length: usize,
    /// Items in a list.
    pub items_max: usize,
}

/// A list of addresses, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses<'a> {
    text: &'a str,
    token_length: u8,
    may_be_many: bool,
    len: u32,
}

impl<'a> Addresses<'a> {
    /// Checks a list.
    ///
    /// # Errors
    /// The first thing in it that does not fit, and where.
    pub fn parse(text: &'a [u8], rules: ListRules) -> Result<Self, AddressError> {
        let (mut len, mut at, mut may_be_many) = (0, 0, false);
        loop {
            let Bounds { which, next, .. } = bounds(text, at, rules.token_length)?;
            may_be_many |= matches!(which, b'*' | b'g');
            len += 1;
            if len > rules.items_max {
                return Err(AddressError { at, fault: Fault::TooMany(rules.items_max) });
            }
            match next {
                Some(next) => at = next,
                None => break,
            }
        }
        let text = std::str::from_utf8(text).expect("every character of every address is ASCII");
        Ok(Self { text, token_length: rules.token_length as u8, may_be_many, len: len as u32 })
    }

    /// Whether it names all connections, and nothing else is in it.
    pub fn is_all(&self) -> bool {
        self.text == "*"
    }

    /// The list as it was written.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Whether one of the items may name any number of connections.
    pub fn may_be_many(&self) -> bool {
        self.may_be_many
    }

    /// The items in their order.
    pub fn iter(&self) -> impl Iterator<Item = Item<'a>> + Clone + use<'a> {
        let text = self.text;
        self.all_bounds().map(move |bounds| Item {
            text: &text[bounds.begin..bounds.end],
            except: bounds.except,
            target: bounds.target(text),
        })
    }

    /// The names in them, each with whether it is an exception.
    pub fn targets(&self) -> Targets<'a> {
        Targets(self.all_bounds())
    }

    fn all_bounds(&self) -> AllBounds<'a> {
        AllBounds { text: self.text, token_length: self.token_length.into(), at: Some(0) }
    }

    /// How many items there are: one or more.
    #[allow(clippy::len_without_is_empty)] // it never is
    pub fn len(&self) -> usize {
        self.len as usize
    }
}

/// See [`Addresses::targets`].
#[derive(Clone, Debug)]
pub struct Targets<'a>(AllBounds<'a>);

impl<'a> Iterator for Targets<'a> {
    type Item = (bool, Target<'a>);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        let bounds = self.0.next()?;
        Some((bounds.except, bounds.target(self.0.text)))
    }
}

/// Where the items of a list that was checked are.
#[derive(Clone, Debug)]
struct AllBounds<'a> {
    text: &'a str,
    token_length: usize,
    /// Where the next one begins.
    at: Option<usize>,
}

impl Iterator for AllBounds<'_> {
    type Item = Bounds;

    #[inline(always)]
    fn next(&mut self) -> Option<Bounds> {
        let bounds = checked(self.text.as_bytes(), self.at?, self.token_length);
        self.at = bounds.next;
        Some(bounds)
    }
}

/// A list of group names, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups<'a>(&'a str);

impl<'a> Groups<'a> {
    /// Checks a list.
    ///
    /// # Errors
    /// The first thing in it that does not fit, and where.
    pub fn parse(text: &'a [u8], items_max: usize) -> Result<Self, AddressError> {
        let (mut at, mut len) = (0, 0);
        loop {
            let end = name(text, at, Name::Group)?;
            len += 1;
            if len > items_max {
                return Err(AddressError { at, fault: Fault::TooMany(items_max) });
            }
            match behind(text, end)? {
                Some(next) => at = next,
                None => break,
            }
        }
        Ok(Self(std::str::from_utf8(text).expect("every character of a group is ASCII")))
    }

    /// The names in their order.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.0.split(',')
    }

    /// The list as it was written.
    pub fn text(&self) -> &'a str {
        self.0
    }
}

/// Where the parts of an item are.
struct Bounds {
    /// Its first character behind a `-`.
    which: u8,
    except: bool,
    begin: usize,
    end: usize,
    /// Where the next item begins.
    next: Option<usize>,
}

impl Bounds {
    #[inline(always)]
    fn target(self, list: &str) -> Target<'_> {
        // `*` has no name.
        let name = list.get(self.begin + 2..self.end).unwrap_or_default();
        match self.which {
            b'*' => Target::All,
            b't' => Target::Token(name.as_bytes()),
            b'u' => Target::User(name),
            b'g' => Target::Group(name),
            _ => Target::Connection(name),
        }
    }
}

/// The item that begins at `at`.
#[inline(always)]
fn bounds(text: &[u8], at: usize, token_length: usize) -> Result<Bounds, AddressError> {
    let except = text.get(at) == Some(&b'-');
    let begin = at + usize::from(except);
    let value = begin + 2;
    let (which, end) = match text[begin..] {
        [which @ b'*', ..] => (which, begin + 1),
        [which @ b't', b':', ..] => (which, token(text, value, token_length)?),
        [which @ b'u', b':', ..] => (which, name(text, value, Name::User)?),
        [which @ b'g', b':', ..] => (which, name(text, value, Name::Group)?),
        [which @ b'c', b':', ..] => (which, name(text, value, Name::Connection)?),
        _ => return Err(AddressError { at: begin, fault: Fault::NoAddress }),
    };
    Ok(Bounds { which, except, begin, end, next: behind(text, end)? })
}

/// The same in a list that was checked: only a token has a comma in it that ends nothing.
#[inline(always)]
fn checked(text: &[u8], at: usize, token_length: usize) -> Bounds {
    let except = text[at] == b'-';
    let begin = at + usize::from(except);
    let which = text[begin];
    let end = match which {
        b't' => begin + 2 + token_length,
        _ => find_byte(text, begin, b',').unwrap_or(text.len()),
    };
    Bounds { which, except, begin, end, next: (end < text.len()).then_some(end + 1) }
}

/// Where the item behind a comma begins; none at the end of the list.
fn behind(text: &[u8], end: usize) -> Result<Option<usize>, AddressError> {
    match text.get(end) {
        None => Ok(None),
        Some(b',') => Ok(Some(end + 1)),
        Some(_) => Err(AddressError { at: end, fault: Fault::NoComma }),
    }
}

/// The end of a token, which may have commas in it and so has its length alone to end by.
fn token(text: &[u8], at: usize, length: usize) -> Result<usize, AddressError> {
    let token = &text[at..text.len().min(at + length)];
    match Class::TOKEN.count(token) {
        place if place < token.len() => {
            Err(AddressError { at: at + place, fault: Fault::Character(Name::Token) })
        }
        whole if whole < length => Err(AddressError { at, fault: Fault::ShortToken(length) }),
        _ => Ok(at + length),
    }
}

/// The end of a name, which is a comma or the end of the list.
#[inline(always)]
fn name(text: &[u8], at: usize, kind: Name) -> Result<usize, AddressError> {
    let (class, bytes_max) = match kind {
        Name::Token => (Class::TOKEN, 0), // has no end of its own
        Name::User => (Class::USER, USER_BYTES_MAX),
        Name::Group => (Class::GROUP, GROUP_BYTES_MAX),
        Name::Connection => (Class::CONNECTION, CONNECTION_BYTES_MAX),
    };
    let rest = text.get(at..).unwrap_or_default();
    // One byte more than allowed shows that it is too long.
    let len = class.count(&rest[..rest.len().min(bytes_max + 1)]);
    match rest.get(len) {
        _ if len > bytes_max => Err(AddressError { at, fault: Fault::TooLong(kind) }),
        None | Some(b',') if len == 0 => Err(AddressError { at, fault: Fault::Empty(kind) }),
        None | Some(b',') => Ok(at + len),
        Some(_) => Err(AddressError { at: at + len, fault: Fault::Character(kind) }),
    }
}

/// The fault of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressError {
    /// The byte of the list where it is, from 0.
    pub at: usize,
    /// The fault.
    pub fault: Fault,
}

/// See [`AddressError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing that begins an address.
    NoAddress,
    /// Something else than a comma behind a token or `*`.
    NoComma,
    /// The list ends within a token of this many bytes.
    ShortToken(usize),
    /// A name without a character.
    Empty(Name),
    /// A name is longer than it may be.
    TooLong(Name),
    /// A character that such a name may not have.
    Character(Name),
    /// More items than this.
    TooMany(usize),
}

/// The kind of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// A login.
    Token,
    /// A user.
    User,
    /// A group.
    Group,
    /// A connection.
    Connection,
}

impl Name {
    /// Its word in errors, its longest, its characters.
    fn grammar(self) -> (&'static str, usize, &'static str) {
        match self {
            Self::Token => ("a token", 0, "letters, digits, comma and hyphen"),
            Self::User => ("a user", USER_BYTES_MAX, "letters, digits and _ - . @ +"),
            Self::Group => ("a group", GROUP_BYTES_MAX, "letters, digits and _ - . @ + : /"),
            Self::Connection => ("a connection", CONNECTION_BYTES_MAX, "letters, digits and hyphen"),
        }
    }
}

impl std::error::Error for AddressError {}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {} of the list: ", self.at)?;
        match self.fault {
            Fault::NoAddress => f.write_str("an address is *, t:TOKEN, u:USER, g:GROUP or c:CONNECTION"),
            Fault::NoComma => f.write_str("a comma or the end of the list is missing"),
            Fault::ShortToken(length) => write!(f, "a token has {length} bytes"),
            Fault::TooMany(max) => write!(f, "limits.addresses allows {max} items"),
            Fault::Empty(name) => write!(f, "{} has no name", name.grammar().0),
            Fault::TooLong(name) => {
                let (what, bytes_max, _) = name.grammar();
                write!(f, "{what} has at most {bytes_max} bytes")
            }
            Fault::Character(name) => {
                let (what, _, characters) = name.grammar();
                write!(f, "{what} has {characters}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: ListRules = ListRules { token_length: 4, items_max: 5 };

    fn read(text: &str) -> Result<Vec<(bool, Target<'_>)>, AddressError> {
        let list = Addresses::parse(text.as_bytes(), RULES)?;
        let items: Vec<_> = list.iter().map(|item| (item.except, item.target)).collect();
        assert_eq!(items.len(), list.len());
        Ok(items)
    }

    #[test]
    fn every_kind_of_address() {
        use Target::*;
        assert_eq!(read("*"), Ok(vec![(false, All)]));
        assert_eq!(read("u:44,u:a.b+c@x_y-z"), Ok(vec![(false, User("44")), (false, User("a.b+c@x_y-z"))]));
        assert_eq!(
            read("g:shop/7:a,-c:5f-1"),
            Ok(vec![(false, Group("shop/7:a")), (true, Connection("5f-1"))])
        );
        assert_eq!(read("-*,*"), Ok(vec![(true, All), (false, All)]));
        let long = format!("u:{0},g:{0},c:{1}", "x".repeat(64), "y".repeat(40));
        assert_eq!(read(&long).map(|items| items.len()), Ok(3));
    }

    #[test]
    fn a_comma_in_a_token_ends_nothing() {
        use Target::{Token, User};
        assert_eq!(read("t:a,-b"), Ok(vec![(false, Token(b"a,-b"))]));
        assert_eq!(read("t:,,,,,u:1"), Ok(vec![(false, Token(b",,,,")), (false, User("1"))]));
        assert_eq!(read("-t:----,-t:abcd"), Ok(vec![(true, Token(b"----")), (true, Token(b"abcd"))]));
    }

    #[test]
    fn the_text_of_an_item_is_what_was_written() {
        let list = Addresses::parse(b"t:a,bc,-u:44,*", RULES).unwrap();
        assert_eq!(list.iter().map(|item| item.text).collect::<Vec<_>>(), ["t:a,bc", "u:44", "*"]);
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        use Fault::*;
        use Name::{Connection, Group, Token, User};
        for (text, at, fault) in [
            ("", 0, NoAddress),
            (",", 0, NoAddress),
            ("-", 1, NoAddress),
            ("--*", 1, NoAddress),
            ("*,", 2, NoAddress),
            ("*,,*", 2, NoAddress),
            ("* ", 1, NoComma),
            ("**", 1, NoComma),
            (" *", 0, NoAddress),
            ("44", 0, NoAddress),
            ("u", 0, NoAddress),
            ("U:44", 0, NoAddress),
            ("u:", 2, Empty(User)),
            ("u:,u:1", 2, Empty(User)),
            ("u:a b", 3, Character(User)),
            ("u:a/b", 3, Character(User)),
            ("u:\u{e4}", 2, Character(User)),
            ("u:1\0", 3, Character(User)),
            ("g:", 2, Empty(Group)),
            ("g:a*", 3, Character(Group)),
            ("c:", 2, Empty(Connection)),
            ("c:5f.1", 4, Character(Connection)),
            ("t:", 2, ShortToken(4)),
            ("t:abc", 2, ShortToken(4)),
            ("*,-t:ab", 5, ShortToken(4)),
            ("t:ab d", 4, Character(Token)),
            ("t:abcde", 6, NoComma),
            ("t:abcdu:1", 6, NoComma),
            ("*,*,*,*,*,*", 10, TooMany(5)),
        ] {
            assert_eq!(read(text), Err(AddressError { at, fault }), "{text:?}");
        }
        let long = format!("*,u:{}", "x".repeat(65));
        assert_eq!(read(&long), Err(AddressError { at: 4, fault: TooLong(User) }));
        assert_eq!(
            read("*,u:a/b").unwrap_err().to_string(),
            "byte 5 of the list: a user has letters, digits and _ - . @ +"
        );
    }

    #[test]
    fn lists_of_groups() {
        let groups = Groups::parse(b"room,shop/7", 2).unwrap();
        assert_eq!(groups.iter().collect::<Vec<_>>(), ["room", "shop/7"]);
        for (text, at, fault) in [
            ("", 0, Fault::Empty(Name::Group)),
            ("a,", 2, Fault::Empty(Name::Group)),
            ("a,,b", 2, Fault::Empty(Name::Group)),
            ("a b", 1, Fault::Character(Name::Group)),
            ("a,b,c", 4, Fault::TooMany(2)),
        ] {
            assert_eq!(Groups::parse(text.as_bytes(), 2), Err(AddressError { at, fault }), "{text:?}");
        }
    }

    proptest! {
        /// A list that is accepted is the items that were written, in their order, whatever is in the tokens.
        #[test]
        fn what_is_written_is_read(items in proptest::collection::vec("-?([*]|t:[a-z0-9,-]{4}|u:[a-z.@+_-]{1,9}|g:[a-z:/]{1,9}|c:[0-9a-f-]{1,9})", 1..6)) {
            let text = items.join(",");
            let list = Addresses::parse(text.as_bytes(), RULES).unwrap();
            let read: Vec<String> = list.iter().map(|item| format!("{}{}", if item.except { "-" } else { "" }, item.text)).collect();
            prop_assert_eq!(read, items);
        }
    }
}
