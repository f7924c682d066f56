//! What an application adds to the server, and the one function that feeds it.
//!
//! [`pump`] is the only caller of the hub's decoder: bytes of one client become callbacks, and whatever a
//! callback queues leaves at the end of the turn. It never writes to a socket and never removes a client.
//! Invariant: an event borrows the input buffer and not the hub, so a callback has `&mut Hub` in the
//! middle of a read.

use crate::auth::Identity;
use crate::hub::{Head, Hub};
use crate::peer::client::ClientId;
use crate::roster::Heard;
use crate::wire::frame::Event;
use crate::wire::http::{self, Reject, Request};

/// An application. Every method has a default; the defaults push messages and drop what clients say.
#[allow(unused_variables)]
pub trait Handler {
    /// Whether a page of this origin may connect. Default: an entry of `origins`, exactly.
    fn check_origin(&mut self, hub: &Hub, origin: &str) -> bool {
        hub.is_own_origin(origin)
    }

    /// Who connects. Default: the signed cookies (endpoint.md, "Authorisation"). A token may have up to
    /// `auth.token_length` bytes, a user 64; a longer one is refused.
    ///
    /// # Errors
    /// The refusal that the client is answered with.
    fn authorize<'r>(&mut self, hub: &Hub, request: &'r Request<'r>) -> Result<Identity<'r>, Reject> {
        hub.verify_cookies(request)
    }

    /// The complete response to a request that does not ask for a WebSocket. Default: none, it is refused
    /// with 426.
    fn on_request(&mut self, hub: &Hub, request: &Request<'_>) -> Option<Vec<u8>> {
        None
    }

    /// The server listens.
    fn on_start(&mut self, hub: &mut Hub) {}

    /// A client is open: messages queued for it follow its 101.
    fn on_handshake(&mut self, hub: &mut Hub, id: ClientId) {}

    /// A client sent a text message.
    fn on_text_message(&mut self, hub: &mut Hub, id: ClientId, text: &str) {}

    /// A client sent a binary message.
    fn on_binary_message(&mut self, hub: &mut Hub, id: ClientId, data: &[u8]) {}

    /// A client that was open is gone; its id names nobody any more.
    fn on_close(&mut self, hub: &mut Hub, id: ClientId) {}
}

/// Whom what a client said was for.
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
    /// This, or what others said last when it is nothing.
    #[inline]
    pub(crate) fn or(self, others: Self) -> Self {
        if self == Self::Nothing { others } else { self }
    }
}

/// Feeds what a client sent. All of `input` is used.
#[inline]
pub(crate) fn pump<H: Handler>(hub: &mut Hub, handler: &mut H, id: ClientId, input: &mut [u8]) -> Spoke {
    if hub.heard(id, input.len()) == Heard::Client {
        return messages(hub, handler, id, input);
    }
    match hub.find_head(id, input) {
        Ok(None) => {}
        Ok(Some(Head::InInput(end))) => return handshake(hub, handler, id, input, end),
        Ok(Some(Head::Gathered(mut all, end))) => return handshake(hub, handler, id, &mut all, end),
        Err(reject) => hub.refuse(id, reject),
    }
    Spoke::Nothing
}

#[inline]
fn messages<H: Handler>(hub: &mut Hub, handler: &mut H, id: ClientId, mut input: &mut [u8]) -> Spoke {
    let before = hub.floor.burst_bytes();
    let mut spoke = Spoke::Nothing;
    while let Some(event) = hub.receive(id, &mut input) {
        spoke = Spoke::Privately;
        match event {
            Event::Text(text) => handler.on_text_message(hub, id, &text),
            Event::Binary(data) => handler.on_binary_message(hub, id, &data),
            Event::Ping(_) | Event::Pong | Event::Close(_) => {
                unreachable!("the hub answers control frames itself")
            }
        }
    }
    // Nothing takes from them before the next gate.
    if hub.floor.burst_bytes() == before { spoke } else { Spoke::ToAll }
}

/// `bytes` begin with a request head of `end` bytes; what follows are the first frames.
fn handshake<H: Handler>(
    hub: &mut Hub,
    handler: &mut H,
    id: ClientId,
    bytes: &mut [u8],
    end: usize,
) -> Spoke {
    let (head, rest) = bytes.split_at_mut(end);
    match judge(hub, handler, id, head) {
        Ok(()) if hub.is_open(id) => {
            handler.on_handshake(hub, id);
            return messages(hub, handler, id, rest);
        }
        Ok(()) => {}
        Err(reject) => hub.refuse(id, reject),
    }
    Spoke::Nothing
}

/// The checks of endpoint.md in their order, cheapest first: form, upgrade, origin, cookies, room.
fn judge<H: Handler>(hub: &mut Hub, handler: &mut H, id: ClientId, head: &[u8]) -> Result<(), Reject> {
    let request = http::parse_head(head)?;
    hub.note_forwarded(id, &request);
    let key = match request.upgrade() {
        Ok(key) => key,
        Err(Reject::NoUpgrade) => return answer(hub, handler, id, &request),
        Err(reject) => return Err(reject),
    };
    let origin = request.origin().ok_or(Reject::MISSING_ORIGIN)?;
    if !handler.check_origin(hub, origin) {
        return Err(Reject::ORIGIN_NOT_ALLOWED);
    }
    let identity = handler.authorize(hub, &request)?;
    hub.admit(id, &identity, &key)
}

fn answer<H: Handler>(
    hub: &mut Hub,
    handler: &mut H,
    id: ClientId,
    request: &Request<'_>,
) -> Result<(), Reject> {
    let response = handler.on_request(hub, request).ok_or(Reject::NoUpgrade)?;
    hub.answer(id, &response);
    Ok(())
}

/// For programs that trust whoever reaches them: an identity that proves nothing and never expires. It is
/// the key of the request, which browsers draw at random, and has 24 bytes.
///
/// # Errors
/// When the request has no key, which a request to upgrade always has.
pub fn anybody<'r>(request: &'r Request<'r>) -> Result<Identity<'r>, Reject> {
    let key = request.header("sec-websocket-key").and_then(|key| std::str::from_utf8(key).ok());
    let token = key.ok_or(Reject::NoUpgrade)?;
    Ok(Identity { token, user: None, expires_unix_s: i64::MAX })
}
