//! Doorbells of pairing mailboxes.

use tokio::sync::watch;
use zerok_sync_protocol::MailboxId;

use super::Hub;

/// A mailbox's bell, and how many wait at it.
pub(super) struct Waiting {
    bell: watch::Sender<u64>,
    parties: usize,
}

impl Hub {
    /// Wakes whoever waits at a mailbox on this instance.
    pub(super) fn ring_mailbox_here(&self, mailbox: &MailboxId) {
        if let Some(waiting) = self.lock().mailboxes.get(mailbox) {
            waiting.bell.send_modify(|rings| *rings += 1);
        }
    }

    /// Waits at a mailbox.
    #[must_use]
    pub fn wait_at_mailbox(&self, mailbox: &MailboxId) -> MailboxWatch {
        let mut state = self.lock();
        let waiting = state
            .mailboxes
            .entry(mailbox.clone())
            .or_insert_with(|| Waiting { bell: watch::Sender::new(0), parties: 0 });
        waiting.parties += 1;
        MailboxWatch { bell: waiting.bell.subscribe(), mailbox: mailbox.clone(), hub: self.clone() }
    }
}

/// A place at a mailbox's doorbell; dropping it leaves.
pub struct MailboxWatch {
    /// Rings when the mailbox changed.
    pub bell: watch::Receiver<u64>,
    mailbox: MailboxId,
    hub: Hub,
}

impl Drop for MailboxWatch {
    fn drop(&mut self) {
        let mut state = self.hub.lock();
        if let Some(waiting) = state.mailboxes.get_mut(&self.mailbox) {
            waiting.parties -= 1;
            if waiting.parties == 0 {
                state.mailboxes.remove(&self.mailbox);
            }
        }
    }
}
