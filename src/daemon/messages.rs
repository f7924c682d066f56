//! The daemon's application: it treats clients' messages as `on_message` says.
//!
//! It never keeps a message and never logs its content. Invariant: with `drop`, the default, a client can
//! cause nothing.

use crate::config::OnMessage;
use crate::wire::frame::Kind;
use crate::{ClientId, Handler, Hub};
use log::info;

/// See the module's head. A reload changes `on_message` in place.
#[derive(Debug, Default)]
pub struct Messages {
    /// The treatment of a message.
    pub on_message: OnMessage,
}

impl Handler for Messages {
    #[inline(always)]
    fn on_message(&mut self, hub: &mut Hub, id: ClientId, kind: Kind, message: &[u8]) {
        match self.on_message {
            OnMessage::Drop => {}
            OnMessage::Echo => drop(hub.send_direct(id, kind, message)),
            OnMessage::Broadcast => drop(hub.send_broadcast(kind, message)),
            OnMessage::Forward => drop(hub.forward(id, kind, message)),
            OnMessage::Log => {
                info!(
                    "message kind={kind:?} bytes={} token={:.8}",
                    message.len(),
                    hub.token(id).unwrap_or("-")
                );
            }
        }
    }
}
