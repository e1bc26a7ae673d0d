//! The pairing rendezvous: a member opens a mailbox, a guest joins it, each reads what the other
//! sent. All state is in the store, so the two may be on different instances: a doorbell of this
//! instance wakes at once, a poll each second is the backstop.

use std::sync::Arc;

use bytes::Bytes;
use rand_core::Rng;
use zerok_sync_protocol::limits::MAILBOX_MESSAGE_BYTES_MAX;
use zerok_sync_protocol::{ErrorCode, MailboxId, RelayFrame};

use super::open::{Open, Role};
use crate::core::Core;
use crate::hub::MailboxWatch;
use crate::limits::{MAILBOX_LAST_WORDS_MS, SHORT_MAILBOX_CANDIDATES};
use crate::metrics::Refusal;
use crate::store::{Mailbox, MailboxInbox, MailboxOpening, MailboxRequest, MailboxSide};

/// The session's place at its mailbox.
pub(super) struct MailboxDoor {
    mailbox: Mailbox,
    side: MailboxSide,
    /// Messages the session has had.
    seen: usize,
    watch: MailboxWatch,
    /// To be looked at.
    due: bool,
    poll_at_ms: u64,
}

impl MailboxDoor {
    /// Waits for the other party's doorbell. Cancel-safe.
    pub(super) async fn woken(&mut self) {
        self.watch.bell.changed().await.expect("the bell hangs while somebody waits at it");
        self.due = true;
    }

    /// When to look without a doorbell; `None` if it is to be looked at already.
    pub(super) fn poll_at_ms(&self) -> Option<u64> {
        (!self.due).then_some(self.poll_at_ms)
    }

    pub(super) fn handle_timeout(&mut self, now_ms: u64) {
        self.due |= now_ms >= self.poll_at_ms;
    }
}

impl Open {
    /// Answers `MailboxOpen`.
    pub(super) async fn mailbox_open(&mut self, core: &Arc<Core>, short: bool, ttl_ms: u64) {
        let Role::Member(member) = &self.role else {
            return self.wire.fail(ErrorCode::Unauthorized, "only members open mailboxes");
        };
        if self.mailbox.is_some() {
            return self.wire.refuse(ErrorCode::MailboxGone, 0, "one mailbox per session: close the other one first");
        }
        let now_ms = core.now().unix_ms;
        let expires_at_ms = now_ms + ttl_ms.min(core.limits.mailbox_ttl_ms_max);
        let (candidates, salt) = candidates(core, short);
        let request = MailboxRequest {
            group: member.group,
            candidates,
            salt,
            now_ms,
            expires_at_ms,
            total_max: core.limits.mailboxes_max,
            per_group_max: core.limits.mailboxes_per_group_max,
        };
        let (code, why) = match core.store.mailbox_open(request).await {
            Ok(MailboxOpening::Opened(mailbox)) => return self.enter_mailbox(core, mailbox, MailboxSide::Inviter),
            Err(error) => return self.wire.storage_failed(&error),
            Ok(MailboxOpening::Full) => (ErrorCode::Overloaded, "no mailbox is free: try again shortly"),
            Ok(MailboxOpening::GroupFull) => {
                (ErrorCode::RateLimited, "the group has many invitations open: wait a minute")
            }
        };
        self.wire.count(Refusal::Mailboxes);
        // By then the last words of one that was closed are gone.
        self.wire.refuse(code, MAILBOX_LAST_WORDS_MS, why);
    }

    /// Answers `MailboxJoin`.
    pub(super) async fn mailbox_join(&mut self, core: &Arc<Core>, id: MailboxId) {
        if !matches!(self.role, Role::Guest) {
            return self.wire.fail(ErrorCode::Unauthorized, "only guests join mailboxes");
        }
        if self.mailbox.is_some() {
            return self.wire.fail(ErrorCode::MailboxGone, "this session has joined a mailbox already");
        }
        if let Err(retry_after_ms) = core.admission.join_mailbox(self.origin, core.now().monotonic_ms) {
            self.wire.count(Refusal::MailboxJoins);
            return self.wire.refuse(
                ErrorCode::RateLimited,
                retry_after_ms,
                "too many codes were tried from this address: wait a moment",
            );
        }
        match core.store.mailbox_join(&id, core.now().unix_ms).await {
            Ok(Some(mailbox)) => self.enter_mailbox(core, mailbox, MailboxSide::Joiner),
            // To a guest every wrong id looks the same, and costs it a handshake.
            Ok(None) => self.wire.fail(ErrorCode::MailboxGone, ErrorCode::MailboxGone.advice()),
            Err(error) => self.wire.storage_failed(&error),
        }
    }

    /// Answers `MailboxSend`.
    pub(super) async fn mailbox_send(&mut self, core: &Arc<Core>, data: Bytes) {
        let Some(door) = &mut self.mailbox else {
            return self.wire.refuse(ErrorCode::MailboxGone, 0, "there is no mailbox open on this session");
        };
        if data.len() > MAILBOX_MESSAGE_BYTES_MAX {
            return self.wire.refuse(ErrorCode::EnvelopeTooLarge, 0, "a mailbox message is at most 60 KiB");
        }
        match core.store.mailbox_send(&door.mailbox, door.side, data, core.now().unix_ms).await {
            Ok(true) => core.hub.ring_mailbox(&door.mailbox.id),
            Ok(false) => {
                door.due = true;
                self.wire.refuse(ErrorCode::MailboxGone, 0, "the mailbox is full, expired or closed");
            }
            Err(error) => self.wire.storage_failed(&error),
        }
    }

    /// Ends the session's mailbox for both parties.
    pub(super) async fn leave_mailbox(&mut self, core: &Arc<Core>) {
        let Some(door) = self.mailbox.take() else { return };
        if let Err(error) = core.store.mailbox_close(&door.mailbox, core.now().unix_ms + MAILBOX_LAST_WORDS_MS).await {
            // It expires by itself.
            core.writer.store_log().failed(&error);
        }
        core.hub.ring_mailbox(&door.mailbox.id);
    }

    /// Reads the mailbox if it is due.
    pub(super) async fn work_mailbox(&mut self, core: &Arc<Core>) {
        let Some(door) = self.mailbox.as_mut().filter(|door| door.due) else { return };
        if self.wire.is_full() {
            return;
        }
        let now = core.now();
        door.due = false;
        door.poll_at_ms = now.monotonic_ms + core.limits.backstop_poll_ms;
        let (messages, closed) = match core.store.mailbox_read(&door.mailbox, door.side, door.seen, now.unix_ms).await {
            Ok(MailboxInbox::Open(messages)) => (messages, false),
            Ok(MailboxInbox::Closed(messages)) => (messages, true),
            Err(error) => return self.wire.storage_failed(&error),
        };
        door.seen += messages.len();
        for data in messages {
            self.wire.send(&RelayFrame::MailboxMessage { data });
        }
        if closed {
            self.mailbox = None;
            self.wire.send(&RelayFrame::MailboxClosed {});
        }
    }

    fn enter_mailbox(&mut self, core: &Core, mailbox: Mailbox, side: MailboxSide) {
        let now = core.now();
        self.mailbox = Some(Box::new(MailboxDoor {
            watch: core.hub.wait_at_mailbox(&mailbox.id),
            mailbox: mailbox.clone(),
            side,
            seen: 0,
            due: true,
            poll_at_ms: now.monotonic_ms + core.limits.backstop_poll_ms,
        }));
        self.wire.send(&RelayFrame::MailboxOpened {
            mailbox: mailbox.id,
            salt: Bytes::copy_from_slice(&mailbox.salt),
            expires_in_ms: mailbox.expires_at_ms.saturating_sub(now.unix_ms),
        });
    }
}

/// Ids to try, in order, and a salt.
fn candidates(core: &Core, short: bool) -> (Vec<MailboxId>, [u8; 16]) {
    let mut rng = core.rng();
    let (count, len) = if short { (SHORT_MAILBOX_CANDIDATES, MailboxId::SHORT_LEN) } else { (1, MailboxId::LONG_LEN) };
    let ids = (0..count)
        .map(|_| {
            let mut bytes = [0; MailboxId::LONG_LEN];
            rng.fill_bytes(&mut bytes);
            if short {
                // 15 bits: three characters of a code that people type.
                bytes[0] &= 0x7f;
            }
            MailboxId::from_slice(&bytes[..len]).expect("both lengths are valid")
        })
        .collect();
    let mut salt = [0; 16];
    rng.fill_bytes(&mut salt);
    (ids, salt)
}
