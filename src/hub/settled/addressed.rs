//! What is done to all clients that a list of addresses names: one message to each of them, or their end.
//!
//! A client gets a message once, however many items name it. Invariant: what goes to several is encoded once.

use super::{Floor, Leave, Settled};
use crate::delivery::Line;
use crate::key::ClientKey;
use crate::peer::client::Client;
use crate::roster::Selection;
use crate::wire::command::{Addresses, Item, Written};
use crate::wire::frame::{CloseCode, Opcode};

/// With more receivers a message is flushed with the broadcasts, behind what is meant for one client.
const URGENT_RECEIVERS_MAX: usize = 64;

impl Settled<'_> {
    /// Queues a message for everyone that the list names; of an empty one it only tells who would get it.
    pub(crate) fn write(&mut self, to: &Addresses<'_>, opcode: Opcode, message: &[u8]) -> Written {
        let mut written = Written::default();
        let selection = self.select(to, |item| written.absent.push(item.text.to_owned()));
        let receivers = selection.keys();
        written.connections = match (message, receivers) {
            ([], _) => receivers.len(),
            (_, []) => 0,
            (_, [only]) => usize::from(self.deliver(*only, opcode, message)),
            _ => self.deliver_to_all(receivers, opcode, message),
        };
        written.refused = receivers.len() - written.connections;
        self.floor.selection = selection;
        written
    }

    fn deliver_to_all(&mut self, receivers: &[ClientKey], opcode: Opcode, message: &[u8]) -> usize {
        self.make_room(message.len());
        let line = if receivers.len() > URGENT_RECEIVERS_MAX { Line::Bulk } else { Line::Urgent };
        let taken = self.share(true, opcode, message, |settled, range| {
            receivers.iter().filter(|key| settled.offer(**key, line, range)).count()
        });
        if line == Line::Bulk {
            self.floor.delivery.note_burst(message.len());
        }
        self.stats.messages_out += taken as u64;
        taken
    }

    /// Closes everyone that the list names; returns how many that were.
    pub(crate) fn close_all(&mut self, who: &Addresses<'_>, code: CloseCode, reason: &str) -> usize {
        let selection = self.select(who, |_| ());
        for key in selection.keys() {
            debug_assert!(
                self.floor.roster.get(*key).is_some_and(Client::accepts_data),
                "who is selected is open"
            );
            self.leave(*key, Leave::Closing(code, reason));
        }
        let closed = selection.keys().len();
        self.floor.selection = selection;
        closed
    }

    /// Who is named, in the floor's scratch, which is to be put back.
    fn select<'a>(&mut self, list: &Addresses<'a>, absent: impl FnMut(Item<'a>)) -> Selection {
        let Floor { roster, selection, .. } = &mut *self.floor;
        let mut selection = std::mem::take(selection);
        roster.select(list, &mut selection, absent);
        selection
    }
}
