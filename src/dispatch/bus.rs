//! Commands on several nodes: those of a backend go to the other nodes too, and those of other nodes are executed here.
//!
//! A command of another node does here what a backend's would, and goes no further. It never touches a socket. Invariant:
//! a command is executed on each node once, by the node itself or because one message told it to.
//! design: docs/bus.md.

use super::{ask, check_text, spend};
use crate::hub::{Back, Hub, Incoming, Reached, Route, Sum, letter};
use crate::key::{BackendKey, NodeKey};
use crate::peer::client::ClientId;
use crate::peer::node::Link;
use crate::roster::{Address, Sign, items};
use crate::wire::command::{self, Addresses, Answer, Command, Reply, Target};
use crate::wire::resp;

/// What became of a backend's command.
pub(super) enum Spread {
    /// It is executed as on a node that is alone.
    Here,
    /// Its answer is queued, or has its place.
    Done,
    /// This is its answer.
    Answered(Answer),
}

/// Executes a command here and on the other nodes.
#[inline(never)]
pub(super) fn execute(
    hub: &mut Hub,
    key: BackendKey,
    command: &Command<'_>,
    back: Back,
    share: &mut usize,
) -> Spread {
    match *command {
        Command::Direct(kind, token, message) if !message.is_empty() && check_text(kind, message).is_ok() => {
            hub.spread(Route::Name(b"t:", token), letter(kind, b'd'), &[token, message]);
            Spread::Here
        }
        Command::Write(kind, to, message) if !message.is_empty() => {
            if let Some(route) = route(&to) {
                hub.spread(route, letter(kind, b'w'), &[to.text().as_bytes(), b" ", message]);
            }
            Spread::Here
        }
        Command::Confirmed(kind, _, message) if check_text(kind, message).is_ok() => {
            confirm(hub, key, command);
            Spread::Done
        }
        Command::Lock(token) => {
            // The tabs of a login may be on several nodes, and fragments go to all of them or to none.
            hub.backends.reply(key, &Reply::Nack(token));
            Spread::Done
        }
        // Arrival is asked of the browsers of one node, and the others' would be missing in the count.
        Command::WriteProved(_, id, ..) => {
            let error = "with [bus] no arrival is asked for: send it with x".to_owned();
            Spread::Answered(Answer::ProofRefused { id: id.to_owned(), error })
        }
        // A page of this node's names is none of the site's.
        Command::Here(..) => Spread::Answered(Answer::Incomplete(Box::new(ask(hub, *command, share)))),
        Command::WriteAnswered(..)
        | Command::Kick(..)
        | Command::Revoke(..)
        | Command::Join(..)
        | Command::Leave(..)
        | Command::Count(..) => sum_up(hub, key, command, back, share),
        _ => Spread::Here,
    }
}

/// `c`: known at once when a connection of this node takes it.
fn confirm(hub: &mut Hub, key: BackendKey, command: &Command<'_>) {
    let Command::Confirmed(kind, token, message) = *command else { unreachable!("it is `c`") };
    let route = Route::Name(b"t:", token);
    if super::confirmed(hub, kind, token, message) {
        // The visitor's tabs on other nodes get it too.
        if !message.is_empty() {
            hub.spread(route, letter(kind, b'd'), &[token, message]);
        }
        return hub.backends.reply(key, &Reply::Ack(token));
    }
    let sum = Sum::Taken(token.into(), false);
    hub.ask_nodes(
        key,
        route,
        (letter(kind, b'c'), &[token, message]),
        sum,
        Back::Frame,
        &mut std::iter::empty(),
    );
}

/// A command whose answer is the sum of those of all nodes.
fn sum_up(hub: &mut Hub, key: BackendKey, command: &Command<'_>, back: Back, share: &mut usize) -> Spread {
    let sum = match execute_here(hub, command, share, WithConnections::Yes) {
        Ok(sum) => sum,
        Err(answer) => return Spread::Answered(answer),
    };
    let space: &[u8] = b" ";
    let (route, letter, pieces): (_, _, [&[u8]; 3]) = match *command {
        Command::WriteAnswered(kind, to, message) => {
            (route(&to), letter(kind, b'x'), [to.text().as_bytes(), space, message])
        }
        Command::Kick(who, reason) => {
            (route(&who), b'k', [who.text().as_bytes(), space, reason.unwrap_or_default().as_bytes()])
        }
        // A login is refused everywhere, wherever it is now.
        Command::Revoke(who, reason) => {
            (Some(Route::All), b'r', [who.text().as_bytes(), space, reason.unwrap_or_default().as_bytes()])
        }
        Command::Join(groups, who) => {
            (route(&who), b'j', [groups.text().as_bytes(), space, who.text().as_bytes()])
        }
        Command::Leave(groups, who) => {
            (route(&who), b'J', [groups.text().as_bytes(), space, who.text().as_bytes()])
        }
        Command::Count(items) => (route(&items), b'o', [items.text().as_bytes(), b"", b""]),
        other => unreachable!("{other:?} has no sum"),
    };
    match route {
        Some(route) => {
            let groups = if let Command::Join(groups, _) = command { Some(groups.iter()) } else { None };
            hub.ask_nodes(key, route, (letter, &pieces), sum, back, &mut groups.into_iter().flatten());
        }
        None => {
            let ticket = hub.backends.wait(key);
            hub.backends.fill_bytes(ticket, sum.render(back, false), hub.now);
        }
    }
    Spread::Done
}

/// Where a list goes: one that is one name, to those that have it; a connection of this node, nowhere.
fn route<'a>(list: &Addresses<'a>) -> Option<Route<'a>> {
    let mut items = list.iter();
    match (items.next().filter(|item| !item.except).map(|item| item.target), items.next()) {
        (Some(Target::Token(token)), None) => Some(Route::Name(b"t:", token)),
        (Some(Target::User(user)), None) => Some(Route::Name(b"u:", user.as_bytes())),
        (Some(Target::Group(group)), None) => Some(Route::Name(b"g:", group.as_bytes())),
        (Some(Target::Connection(_)), None) => None,
        _ => Some(Route::All),
    }
}

/// Whether `c:` addresses mean connections of this node: in a command of another one they mean that one's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WithConnections {
    Yes,
    No,
}

fn own<'a>(
    list: &Addresses<'a>,
    with: WithConnections,
) -> impl Iterator<Item = (Sign, Address<'a>)> + Clone + use<'a> {
    items(list).map(move |(sign, address)| match address {
        Address::Connection(_) if with == WithConnections::No => {
            (sign, Address::Connection(ClientId::nobody()))
        }
        address => (sign, address),
    })
}

/// Executes on this node alone. An answer comes back instead of a sum when nothing was done.
fn execute_here(
    hub: &mut Hub,
    command: &Command<'_>,
    share: &mut usize,
    with: WithConnections,
) -> Result<Sum, Answer> {
    Ok(match *command {
        Command::Confirmed(kind, token, message) => {
            Sum::Taken(token.into(), super::confirmed(hub, kind, token, message))
        }
        Command::Write(kind, to, message) | Command::WriteAnswered(kind, to, message) => {
            let Reached { connections, away, refused, absent } = hub.write(own(&to, with), kind, message);
            spend(share, to.len() + connections + refused);
            let mut places = absent.into_iter().peekable();
            let named_nobody = to.iter().enumerate().filter(|(place, _)| places.next_if_eq(place).is_some());
            let absent = named_nobody.map(|(place, item)| (place as u32, item.text.to_owned())).collect();
            Sum::Written { connections, away, refused, absent }
        }
        Command::Kick(who, reason) => {
            Sum::Closed(hub.kick_all(own(&who, with), reason.unwrap_or("logged out")))
        }
        Command::Join(groups, who) => {
            let (joined, error) = hub.join_all(own(&who, with), groups);
            spend(share, who.len() + groups.iter().count() * joined);
            Sum::Moved(joined, error.map(|error| error.to_string()))
        }
        Command::Leave(groups, who) => {
            let left = hub.leave_all(own(&who, with), groups);
            spend(share, who.len() + groups.iter().count() * left);
            Sum::Moved(left, None)
        }
        Command::Count(items) => {
            spend(share, items.len());
            let count = |address| match address {
                Address::Connection(_) if with == WithConnections::No => 0,
                address => hub.online(address),
            };
            Sum::Online(items.iter().map(|item| (item.text.to_owned(), count(item.target.into()))).collect())
        }
        Command::Revoke(..) => match ask(hub, *command, share) {
            Answer::Closed(closed) => Sum::Closed(closed),
            refused => return Err(refused),
        },
        other => unreachable!("{other:?} has no sum"),
    })
}

/// Takes the bytes of an instance.
pub fn receive(hub: &mut Hub, key: NodeKey, input: &[u8]) {
    let bytes_max = hub.bus_bytes_max();
    let mut bytes = hub.take_link_input(key, input);
    let mut used = 0;
    while hub.link(key).is_some_and(Link::is_open) {
        match resp::decode(&bytes[used..], bytes_max) {
            Ok(Some((len, answer))) => {
                used += len;
                if let Some(incoming) = hub.hear_link(key, &answer) {
                    take(hub, key, &incoming);
                }
            }
            Ok(None) => break,
            Err(error) => hub.link_failed(key, format!("what answers there is no Redis: {error}")),
        }
    }
    bytes.drain(..used);
    hub.keep_link_input(key, bytes);
}

/// Executes a command of another node, and answers it.
fn take(hub: &mut Hub, key: NodeKey, incoming: &Incoming<'_>) {
    let Incoming { letter, payload, origin, number } = *incoming;
    let rules = hub.control_rules();
    let Ok(command) = command::from_letter(letter, payload, rules) else { return hub.ignore_incoming() };
    let mut share = usize::MAX;
    match command {
        Command::Broadcast(kind, message) if command::is_sendable(kind, message) => {
            hub.broadcast_here(kind, message);
        }
        Command::Direct(kind, token, message) if command::is_sendable(kind, message) => {
            hub.send_to_token(token, kind, message);
        }
        Command::Confirmed(..)
        | Command::Write(..)
        | Command::WriteAnswered(..)
        | Command::Kick(..)
        | Command::Join(..)
        | Command::Leave(..)
        | Command::Count(..)
        | Command::Revoke(..) => {
            let sum = execute_here(hub, &command, &mut share, WithConnections::No);
            if number == 0 {
                return;
            }
            match sum {
                Ok(sum) => {
                    let (figures, error) = sum.figures();
                    match command {
                        Command::Join(groups, _) => {
                            let answer = (figures, error.to_owned());
                            hub.answer_join(key, origin, number, answer, &mut groups.iter());
                        }
                        _ => hub.answer_node(key, origin, number, &figures, error),
                    }
                }
                Err(_) => hub.answer_node(key, origin, number, &[0], "it could not be done here"),
            }
        }
        _ => hub.ignore_incoming(),
    }
}

/// Opens all connections of the bus at once, without sockets; returns how many. For the tests.
#[doc(hidden)]
pub fn open(hub: &mut Hub) -> usize {
    let mut count = 0;
    while let Some((key, _)) = hub.next_link() {
        count += usize::from(hub.link_has_socket(key));
    }
    count
}

#[cfg(all(test, feature = "bus"))]
mod tests;
