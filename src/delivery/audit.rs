//! The delivery recounted, for the tests: what holds a segment, and who is behind.

use super::lines::Lines;
use super::mailbox::Mailbox;
use super::spool::Spool;
use super::{Delivery, Pending};
use crate::key::ClientKey;

impl Delivery {
    pub(crate) fn spool(&self) -> &Spool {
        &self.spool
    }

    pub(crate) fn pending(&self) -> Option<&Pending> {
        self.pending.as_ref()
    }

    pub(crate) fn lines(&self) -> &Lines {
        &self.lines
    }

    /// The ranks of those that are behind, and the segments of their own.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub(crate) fn audit_behind<'m>(
        &self,
        mailboxes: impl Iterator<Item = (ClientKey, &'m Mailbox)> + Clone,
    ) -> Result<(), String> {
        let ranked = mailboxes.clone().filter_map(|(key, mail)| Some((key, mail.audit_rank()?)));
        let mut count = 0;
        for (key, rank) in ranked {
            count += 1;
            if !self.ranks.contains(key, rank) {
                return Err(format!("client {key} has rank {rank:?} and is not there"));
            }
        }
        if count != self.ranks.len() {
            return Err(format!("{} are ranked, {count} are behind", self.ranks.len()));
        }
        for (key, mail) in mailboxes {
            mail.audit_box().map_err(|what| format!("client {key}: {what}"))?;
        }
        Ok(())
    }

    /// Every range that holds a segment: `holds` of each is their number.
    pub(crate) fn audit_segments<'m>(
        &self,
        mailboxes: impl Iterator<Item = (ClientKey, &'m Mailbox)> + Clone,
    ) -> Vec<u32> {
        let own = mailboxes.clone().filter_map(|(_, mail)| mail.audit_own());
        let ranges = mailboxes.flat_map(|(_, mail)| mail.audit_ranges()).map(|range| range.segment);
        own.chain(ranges).collect()
    }
}
