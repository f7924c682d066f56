//! Does a request ask for a WebSocket, and the answer that opens it (RFC 6455 section 4.2).
//!
//! Pure, and judges form only: `hub` decides about the login and the room.
//! design: docs/endpoint.md "Handshake", the checks from method to protocol.

use super::head::{Framing, Request, has_token, is_base64};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// Why a request opens no WebSocket.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum UpgradeError {
    /// The key is not 16 bytes of base64.
    BadKey,
    /// Neither a path nor a URL is asked for.
    BadTarget,
    /// A body is announced.
    Body,
    /// A body in pieces is announced.
    Chunked,
    /// Not GET.
    Method,
    /// A request of HTTP/1.0 without a Host field.
    MissingHost,
    /// No Sec-WebSocket-Key field.
    MissingKey,
    /// No Sec-WebSocket-Version field.
    MissingVersion,
    /// The Connection field does not name `upgrade`.
    NoConnectionUpgrade,
    /// No upgrade is asked for.
    NoUpgrade,
    /// An upgrade to something else is asked for.
    OtherUpgrade,
    /// Not HTTP/1.1 or a later 1.x.
    Version,
    /// A version of the WebSocket protocol other than 13.
    WebSocketVersion,
}

/// A tab that begins, or cannot go on where it was.
const FRESH: &str = "wsson.fresh";
/// A tab that goes on where it was: it has missed nothing.
const RESUMED: &str = "wsson.resumed";

/// The subprotocols that a page offers. A browser that offers some and is given none gives up.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Offers {
    /// One at least.
    pub any: bool,
    /// `wsson.fresh`
    pub fresh: bool,
    /// `wsson.resumed`
    pub resumed: bool,
}

impl Offers {
    /// The choice for a client that is new here.
    pub fn fresh(self) -> Option<&'static str> {
        self.fresh.then_some(FRESH)
    }

    /// The choice for a tab that goes on. A page that only knows `wsson.fresh` asks for more than it must.
    pub fn resumed(self) -> Option<&'static str> {
        if self.resumed { Some(RESUMED) } else { self.fresh() }
    }

    /// Whether the browser gives up although the client is let in.
    pub fn in_vain(self, is_new: bool) -> bool {
        let chosen = if is_new { self.fresh() } else { self.resumed() };
        self.any && chosen.is_none()
    }
}

/// A `Sec-WebSocket-Key` of the right form.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Key([u8; KEY_CHARS]);

/// 16 bytes in base64, padding included.
const KEY_CHARS: usize = 24;

impl Request<'_> {
    /// The checks of form, method and version that go before the check for an upgrade: one request without a body,
    /// GET, for a path or a URL.
    pub fn check_get(&self) -> Result<(), UpgradeError> {
        match self.framing() {
            Framing::None | Framing::Length(0) => {}
            Framing::Length(_) => return Err(UpgradeError::Body),
            Framing::Chunked => return Err(UpgradeError::Chunked),
        }
        if !self.has_host() {
            return Err(UpgradeError::MissingHost);
        }
        if !self.is_method(b"GET") {
            return Err(UpgradeError::Method);
        }
        if !self.has_target() {
            return Err(UpgradeError::BadTarget);
        }
        match self.version() {
            (1, 1..) => Ok(()),
            _ => Err(UpgradeError::Version),
        }
    }

    /// The checks upgrade and protocol: does it ask for a WebSocket, in the version we speak?
    ///
    /// A request without an Upgrade field did not ask for one, whatever else the head holds, and the answer 426 names
    /// the protocol spoken here. One that asks, but in the wrong way or for something else, gets 400. That a field is
    /// missing which must be there once is found here, as only here it is known that the field was needed.
    pub fn upgrade(&self) -> Result<Key, UpgradeError> {
        let upgrade = self.known.upgrade.ok_or(UpgradeError::NoUpgrade)?;
        let key = self.known.key.ok_or(UpgradeError::MissingKey)?;
        let version = self.known.version.ok_or(UpgradeError::MissingVersion)?;
        if !has_token(upgrade, b"websocket") {
            return Err(UpgradeError::OtherUpgrade);
        }
        if !self.known.connection_upgrade {
            return Err(UpgradeError::NoConnectionUpgrade);
        }
        let key = Key::parse(key).ok_or(UpgradeError::BadKey)?;
        if version != b"13" {
            return Err(UpgradeError::WebSocketVersion);
        }
        Ok(key)
    }

    /// Whether this asks how the server is, under this path, and for nothing else. HTTP/1.0 will do: some load balancers
    /// ask in it, without a Host field.
    pub fn asks_health(&self, path: &str) -> bool {
        self.known.upgrade.is_none()
            && !path.is_empty()
            && self.path() == path
            && matches!(self.method(), "GET" | "HEAD")
            && matches!(self.framing(), Framing::None | Framing::Length(0))
    }

    /// The subprotocols that the page offers, as far as they are known here.
    pub fn offers(&self) -> Offers {
        let mut offers = Offers::default();
        if !self.known.protocol {
            return offers;
        }
        offers.any = true;
        for (name, value) in self.headers() {
            if name.eq_ignore_ascii_case("sec-websocket-protocol") {
                for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    offers.fresh |= token == FRESH.as_bytes();
                    offers.resumed |= token == RESUMED.as_bytes();
                }
            }
        }
        offers
    }
}

impl Key {
    /// The key, if it has the form of 16 bytes in base64. The last character before the padding holds four bits that
    /// belong to no byte, and they may be anything: the example key of RFC 6455 section 4.1 sets one of them. Nothing is
    /// decoded, the answer depends on the characters alone.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let key: [u8; KEY_CHARS] = value.try_into().ok()?;
        let (digits, padding) = key.split_at(KEY_CHARS - 2);
        (padding == b"==" && is_base64(digits)).then_some(Self(key))
    }
}

/// Appends the response that opens the WebSocket (RFC 6455 section 4.2.2), with the subprotocol that was chosen.
pub fn append_upgrade(out: &mut Vec<u8>, key: &Key, protocol: Option<&str>) {
    const START: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: ";
    let mut accept = [0; ACCEPT_CHARS];
    let hash = Sha1::new().chain_update(key.0).chain_update(GUID).finalize();
    let written = STANDARD.encode_slice(hash, &mut accept).expect("20 bytes are 28 characters of base64");
    debug_assert_eq!(written, ACCEPT_CHARS);
    out.reserve(START.len() + ACCEPT_CHARS + 4);
    out.extend_from_slice(START);
    out.extend_from_slice(&accept);
    if let Some(protocol) = protocol {
        out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        out.extend_from_slice(protocol.as_bytes());
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// 20 bytes of SHA-1 in base64.
const ACCEPT_CHARS: usize = 28;
