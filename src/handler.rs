//! The part of an application in the server, and the one function that feeds it.
//!
//! [`pump`] is the only caller of the hub's decoder: bytes of one client become callbacks, and the messages that a
//! callback queues leave at the end of the turn. It never writes to a socket and never removes a client.
//! Invariant: an event borrows the input buffer and not the hub, so a callback has `&mut Hub` in the
//! middle of a read.

use crate::auth::Identity;
use crate::hub::{Admitted, Head, Hub, Refusal};
use crate::peer::client::ClientId;
use crate::roster::Heard;
use crate::rule::Rule;
use crate::wire::frame::{Event, Kind};
use crate::wire::http::{self, Request, UpgradeError};
use crate::wire::proxy;

/// An application. Every method has a default; the defaults push messages and drop the messages of clients.
#[allow(unused_variables)]
pub trait Handler {
    /// Whether a page of this origin may connect. Default: an entry of `origins`, exactly.
    fn check_origin(&mut self, hub: &Hub, origin: &str) -> bool {
        hub.is_own_origin(origin)
    }

    /// The identity of a client that connects. Default: the signed cookies (endpoint.md, "Authorisation"). A token and
    /// a user are judged by the grammar of that page wherever they come from, but a token may be shorter.
    ///
    /// # Errors
    /// The refusal that the client is answered with.
    fn authorize<'r>(&mut self, hub: &Hub, request: &'r Request<'r>) -> Result<Identity<'r>, Refusal> {
        hub.verify_cookies(request)
    }

    /// The complete response to a request that does not ask for a WebSocket. Default: none, it is refused
    /// with 426.
    fn on_request(&mut self, hub: &Hub, request: &Request<'_>) -> Option<Vec<u8>> {
        None
    }

    /// The server listens.
    fn on_start(&mut self, hub: &mut Hub) {}

    /// A client is open: messages queued for it follow its 101. It is not called again for a tab that comes back, which
    /// keeps its id.
    fn on_handshake(&mut self, hub: &mut Hub, id: ClientId) {}

    /// A client sent a message; text is UTF-8. Default: one of the next two. An application that treats both kinds alike
    /// has this one instead of them.
    fn on_message(&mut self, hub: &mut Hub, id: ClientId, kind: Kind, message: &[u8]) {
        match kind {
            Kind::Text => {
                let text = std::str::from_utf8(message).expect("the decoder has checked it");
                self.on_text_message(hub, id, text);
            }
            Kind::Binary => self.on_binary_message(hub, id, message),
        }
    }

    /// A client sent a text message.
    fn on_text_message(&mut self, hub: &mut Hub, id: ClientId, text: &str) {}

    /// A client sent a binary message.
    fn on_binary_message(&mut self, hub: &mut Hub, id: ClientId, data: &[u8]) {}

    /// A client that was open is gone, and if it was a tab it does not come back; its id names no client any more.
    fn on_close(&mut self, hub: &mut Hub, id: ClientId) {}
}

/// The audience of a client's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoke {
    /// It said nothing, not even a part of a message.
    Nothing,
    /// No broadcast came of it.
    Privately,
    /// A broadcast came of it.
    ToAll,
}

impl Spoke {
    /// This, or the audience of others' last messages when it is nothing.
    #[inline]
    pub(crate) fn or(self, others: Self) -> Self {
        if self == Self::Nothing { others } else { self }
    }
}

/// Feeds the bytes of a client. All of `input` is used.
#[inline(always)]
pub(crate) fn pump<H: Handler>(hub: &mut Hub, handler: &mut H, id: ClientId, input: &mut [u8]) -> Spoke {
    match hub.heard(id, input.len()) {
        Heard::Client => messages(hub, handler, id, input),
        _ => arrive(hub, handler, id, input),
    }
}

/// Feeds the bytes of a connection that has not shown a login.
#[inline(never)]
fn arrive<H: Handler>(hub: &mut Hub, handler: &mut H, id: ClientId, input: &mut [u8]) -> Spoke {
    // As browsers send it: the whole head at once, and nothing wrong with it.
    if let Ok(Some((request, end))) = http::parse_prefix(hub.head_part(id, input)) {
        let verdict = judge(hub, handler, id, &request);
        return conclude(hub, handler, id, verdict, &mut input[end..]);
    }
    match hub.find_head(id, input) {
        Ok(None) => Spoke::Nothing,
        Ok(Some(Head::InInput(end))) => handshake(hub, handler, id, input, end),
        Ok(Some(Head::Gathered(mut all, end))) => handshake(hub, handler, id, &mut all, end),
        Err(refusal) => {
            hub.refuse(id, named(input, refusal));
            Spoke::Nothing
        }
    }
}

/// The refusal of bytes that are no request; if they are a proxy's, its administrator should know.
fn named(bytes: &[u8], refusal: Refusal) -> Refusal {
    if proxy::is_announced(bytes) { Rule::ProxyHeader.into() } else { refusal }
}

#[inline]
fn messages<H: Handler>(hub: &mut Hub, handler: &mut H, id: ClientId, mut input: &mut [u8]) -> Spoke {
    let before = hub.floor.burst_bytes();
    let mut spoke = Spoke::Nothing;
    while let Some(event) = hub.receive(id, &mut input) {
        spoke = Spoke::Privately;
        match event {
            Event::Text(text) => handler.on_message(hub, id, Kind::Text, &text),
            Event::Binary(data) => handler.on_message(hub, id, Kind::Binary, &data),
            Event::Ping(_) | Event::Pong(_) | Event::Close(_) => {
                unreachable!("the hub answers control frames itself")
            }
        }
    }
    // Nothing takes from them before the next gate.
    if hub.floor.burst_bytes() == before { spoke } else { Spoke::ToAll }
}

/// `bytes` begin with a request head of `end` bytes; behind it come the first frames.
fn handshake<H: Handler>(
    hub: &mut Hub,
    handler: &mut H,
    id: ClientId,
    bytes: &mut [u8],
    end: usize,
) -> Spoke {
    let (head, frames) = bytes.split_at_mut(end);
    let verdict = match http::parse(head) {
        Ok(request) => judge(hub, handler, id, &request),
        Err(error) => Err(named(head, error.into())),
    };
    conclude(hub, handler, id, verdict, frames)
}

fn conclude<H: Handler>(
    hub: &mut Hub,
    handler: &mut H,
    id: ClientId,
    verdict: Result<Option<Admitted>, Refusal>,
    frames: &mut [u8],
) -> Spoke {
    match verdict {
        Ok(Some(Admitted { id, is_new })) if hub.is_open(id) => {
            if is_new {
                handler.on_handshake(hub, id);
            }
            return messages(hub, handler, id, frames);
        }
        Ok(_) => {}
        Err(refusal) => hub.refuse(id, refusal),
    }
    Spoke::Nothing
}

/// The checks of endpoint.md in their order, cheapest first: form, upgrade, origin, query,
/// login, groups, room.
fn judge<H: Handler>(
    hub: &mut Hub,
    handler: &mut H,
    id: ClientId,
    request: &Request<'_>,
) -> Result<Option<Admitted>, Refusal> {
    hub.note_forwarded(id, request);
    if hub.answer_health(id, request) {
        return Ok(None);
    }
    request.check_get()?;
    let key = match request.upgrade() {
        Ok(key) => key,
        Err(UpgradeError::NoUpgrade) => return answer(hub, handler, id, request).map(|()| None),
        Err(error) => return Err(error.into()),
    };
    let origin = request.origin().ok_or(Rule::MissingOrigin)?;
    if !handler.check_origin(hub, origin) {
        return Err(Rule::OriginNotAllowed.into());
    }
    let wishes = request.wishes()?;
    let mut identity = handler.authorize(hub, request)?;
    hub.grant(&mut identity, &wishes)?;
    let offers = request.offers();
    let admitted = hub.admit(id, &identity, &key, wishes.tab.as_deref(), offers)?;
    if offers.in_vain(admitted.is_new) {
        hub.note_subprotocol(admitted.id);
    }
    Ok(Some(admitted))
}

fn answer<H: Handler>(
    hub: &mut Hub,
    handler: &mut H,
    id: ClientId,
    request: &Request<'_>,
) -> Result<(), Refusal> {
    let response = handler.on_request(hub, request).ok_or(Rule::NoUpgrade)?;
    hub.answer(id, &response);
    Ok(())
}

/// For programs that trust every client that reaches them: an identity that proves nothing and never expires. Its token
/// is the key of the request, which browsers draw at random: 22 letters, digits, `,` and `-`.
///
/// # Errors
/// When the request has no key, which a request to upgrade always has.
pub fn anybody<'r>(request: &'r Request<'r>) -> Result<Identity<'r>, Refusal> {
    let key = request.header("sec-websocket-key").ok_or(Rule::NoUpgrade)?;
    let token = |digit: &u8| match digit {
        b'+' => '-',
        b'/' => ',',
        digit => char::from(*digit),
    };
    Ok(Identity::new(key.iter().take_while(|digit| **digit != b'=').map(token).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::stats::Process;
    use crate::wire::http::forwarded::PeerAddr;
    use std::hash::RandomState;

    /// An application that lets every client in under one name.
    struct Named(&'static str, Option<&'static str>);

    impl Handler for Named {
        fn check_origin(&mut self, _: &Hub, _: &str) -> bool {
            true
        }

        fn authorize<'r>(&mut self, _: &Hub, _: &'r Request<'r>) -> Result<Identity<'r>, Refusal> {
            Ok(Identity { user: self.1.map(Into::into), ..Identity::new(self.0) })
        }
    }

    /// Whether a browser that is given this name comes in.
    fn is_admitted(token: &'static str, user: Option<&'static str>) -> bool {
        let mut hub = Hub::new(&Settings::default(), RandomState::new(), Process::default);
        hub.add_listener("test".into(), None);
        let id = hub.add_client(0, PeerAddr::Unix, usize::MAX);
        let head = "GET / HTTP/1.1\r\nHost: a\r\nOrigin: https://a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEC==\r\n\r\n";
        pump(&mut hub, &mut Named(token, user), id, &mut head.as_bytes().to_vec());
        hub.is_open(id)
    }

    /// Names end in NULs where they are kept, so that `bob\0` would get the messages for `bob`.
    #[test]
    fn a_name_of_an_application_fits_the_grammar() {
        assert!(is_admitted("bob", None) && is_admitted("bob", Some("anna")));
        for token in ["bob\0", "", "\0", "b b", "b\u{fc}b", "0123456789012345678901234567890123"] {
            assert!(!is_admitted(token, None), "{token:?}");
        }
        for user in ["anna\0", "", "an na", "an,na"] {
            assert!(!is_admitted("bob", Some(user)), "{user:?}");
        }
    }
}
