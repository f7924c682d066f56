//! The peers, a state machine each, as plain data. It never touches a socket and never looks at another peer.

pub(crate) mod backend;
pub(crate) mod client;
pub(crate) mod exchange;
pub(crate) mod node;
pub(crate) mod replies;
pub(crate) mod worker;
