//! HTTP/1.x as bytes and values: request heads, responses, the opening of a WebSocket, what proxies say about visitors.
//!
//! Pure. It never decides who may come in or what is answered, and never holds state between calls.
//!
//! | file | holds |
//! |---|---|
//! | `scan` | the end of a head that arrives in pieces |
//! | `head` | the first line and the fields, strictly |
//! | `body` | the body of a request, by length or in chunks |
//! | `upgrade` | RFC 6455 section 4: what a request must hold to open a WebSocket, and its answer |
//! | `query` | what a page asks for in its URL |
//! | `response` | complete responses |
//! | `forwarded` | whom a proxy connects for |

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
pub use query::{QueryError, Wishes};
pub use response::{CONTINUE, Response, append_chunk, append_last_chunk};
pub use scan::scan;
pub use upgrade::{Key, UpgradeError, append_upgrade};
