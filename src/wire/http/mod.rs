//! HTTP/1.x as bytes and values: request heads, responses, the opening of a WebSocket, the addresses that proxies give.
//!
//! Pure. It never decides which handshakes or answers there are, and never holds state between calls.
//!
//! | file | holds |
//! |---|---|
//! | `scan` | the end of a head that arrives in pieces |
//! | `head` | the first line and the fields, strictly |
//! | `body` | the body of a request, by length or in chunks |
//! | `upgrade` | RFC 6455 section 4: the request that opens a WebSocket, and its answer |
//! | `query` | the parameters of a page's URL |
//! | `response` | complete responses |
//! | `forwarded` | the visitor that a proxy connects for |

mod body;
pub(crate) mod forwarded;
mod head;
mod query;
mod response;
mod scan;
#[cfg(test)]
mod tests;
mod upgrade;

pub use body::{Body, BodyError, Piece};
pub use head::{Framing, HeadError, Request, parse, parse_prefix};
pub use query::{QueryError, Wishes, decode};
pub use response::{CONTINUE, Response, append_chunk, append_last_chunk};
pub use scan::scan;
pub use upgrade::{Key, Offers, UpgradeError, append_upgrade};
