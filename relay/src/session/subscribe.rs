//! Reading: catch-up and live stream in one.
//!
//! The store is read page by page, within the client's credit and only while the link takes what
//! is queued. The group's doorbell says how far the log goes; there is one way to read it, whether
//! an entry is old or new, so there is no gap between stored and live. A slow reader costs one
//! number.

use std::sync::Arc;

use zerok_sync_protocol::diverged::Diverged;
use zerok_sync_protocol::frame::{EntryItem, LogState};
use zerok_sync_protocol::limits::ENTRIES_ITEMS_MAX;
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{BlobId, ErrorCode, RelayFrame, Timeline};

use super::member::Member;
use super::wire::Wire;
use crate::core::Core;
use crate::hub::Bell;
use crate::limits::{OUTGOING_BYTES_MAX, PAGE_BYTES_MAX};
use crate::store::{StoreError, StoredEntry};

/// Bytes of envelopes put into one `Entries`, unless a single one is larger.
const ENTRIES_BYTES_TARGET: u64 = 64 * 1024;
/// What an item costs beside its envelope: tag, cursor, blob id and lengths, rounded up.
const ITEM_OVERHEAD_BYTES: u64 = 64;

/// The fields of `Subscribe`.
pub(super) struct SubscribeFrame {
    pub(super) timeline: Timeline,
    pub(super) after: u64,
    pub(super) blob_id_at_after: BlobId,
    pub(super) credit: u64,
    pub(super) follow: bool,
}

/// Where a reader stands.
pub(super) struct Subscription {
    /// The next cursor to send.
    next: u64,
    /// Bytes of `Entries` the client still takes; negative by what the last entry overdrew.
    credit: i64,
    follow: bool,
    /// `CaughtUp` is owed once the head is reached.
    behind: bool,
}

impl Member {
    /// Answers `Subscribe`; a second one replaces the first.
    pub(super) async fn subscribe(
        &mut self,
        core: &Arc<Core>,
        wire: &mut Wire,
        frame: SubscribeFrame,
    ) -> Result<(), StoreError> {
        self.subscription = None;
        let state = core.store.state(self.group).await?.ok_or(StoreError::Gone)?;
        if frame.after.saturating_add(1) < state.floor {
            wire.refuse(ErrorCode::BelowFloor, 0, &Diverged::of(&state).to_string());
            return Ok(());
        }
        if !self.agrees(core, &frame, &state).await? {
            wire.refuse(ErrorCode::Diverged, 0, &Diverged::of(&state).to_string());
            return Ok(());
        }
        core.hub.ring(self.group, Bell { head: state.head, auth_gen: state.auth_gen });
        // `after` is at most the head here.
        let next = frame.after + 1;
        self.own.forget_below(next);
        self.subscription =
            Some(Subscription { next, credit: signed(frame.credit), follow: frame.follow, behind: true });
        Ok(())
    }

    /// Whether the log still holds what the client read.
    async fn agrees(&self, core: &Core, frame: &SubscribeFrame, state: &LogState) -> Result<bool, StoreError> {
        if frame.after == 0 {
            return Ok(
                (frame.timeline.is_zero() || frame.timeline == state.timeline) && frame.blob_id_at_after.is_zero()
            );
        }
        if frame.timeline != state.timeline || frame.after > state.head {
            return Ok(false);
        }
        let at_after = core.store.blob_ids(self.group, &[frame.after]).await?;
        Ok(at_after == [Some(frame.blob_id_at_after)])
    }

    /// Answers `Credit`.
    pub(super) fn add_credit(&mut self, bytes: u64) {
        if let Some(subscription) = &mut self.subscription {
            subscription.credit = subscription.credit.saturating_add(signed(bytes));
        }
    }

    /// Sends what may be sent.
    pub(super) async fn deliver(&mut self, core: &Arc<Core>, wire: &mut Wire) -> Result<(), StoreError> {
        while let Some(subscription) = &mut self.subscription {
            if wire.closing().is_some() || wire.queued_bytes() >= OUTGOING_BYTES_MAX / 2 {
                return Ok(());
            }
            // Looked at before the store is: what is committed after the read rings again.
            let head = self.seat.bell.borrow_and_update().head;
            if head < subscription.next {
                if subscription.behind {
                    subscription.behind = false;
                    wire.send(&RelayFrame::CaughtUp { head: subscription.next - 1 });
                }
                if !subscription.follow {
                    self.subscription = None;
                }
                return Ok(());
            }
            let Some(credit) = u64::try_from(subscription.credit).ok().filter(|&credit| credit > 0) else {
                subscription.behind = true;
                return Ok(());
            };
            let bytes_max = credit.min(PAGE_BYTES_MAX as u64);
            let bytes_max = usize::try_from(bytes_max).expect("at most a page");
            let page = core.store.read(self.group, subscription.next, bytes_max, ENTRIES_ITEMS_MAX).await?;
            let code = match page.first().map(cursor_of) {
                Some(cursor) if cursor == subscription.next => None,
                // A truncation overtook a slow reader.
                Some(_) => Some(ErrorCode::BelowFloor),
                // The database went back in time under a running relay.
                None => Some(ErrorCode::Diverged),
            };
            if let Some(code) = code {
                self.subscription = None;
                let state = core.store.state(self.group).await?.ok_or(StoreError::Gone)?;
                wire.refuse(code, 0, &Diverged::of(&state).to_string());
                return Ok(());
            }
            self.send_page(wire, page);
            if let Some(subscription) = &mut self.subscription {
                subscription.behind |= subscription.next <= head;
            }
        }
        Ok(())
    }

    /// Cuts a page into `Entries` and sends as many as the credit is for.
    fn send_page(&mut self, wire: &mut Wire, page: Vec<StoredEntry>) {
        let Some(subscription) = &mut self.subscription else { return };
        let mut page = page.into_iter().peekable();
        while page.peek().is_some() && subscription.credit > 0 {
            let budget = subscription.credit.unsigned_abs().min(ENTRIES_BYTES_TARGET);
            let mut cost = 0;
            let mut items = Vec::new();
            while let Some(entry) = page.next_if(|entry| items.is_empty() || cost + cost_of(entry) <= budget) {
                cost += cost_of(&entry);
                items.push(item_of(entry, |cursor| self.own.contains(cursor)));
            }
            subscription.next += items.len() as u64;
            let items = List::try_from(items).expect("a page has at most ENTRIES_ITEMS_MAX entries");
            let frame = RelayFrame::Entries { items }.encode();
            subscription.credit = subscription.credit.saturating_sub(signed(frame.len() as u64));
            wire.send_encoded(frame.into());
        }
        self.own.forget_below(subscription.next);
    }
}

/// What does not fit is as good as the largest number.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn cursor_of(entry: &StoredEntry) -> u64 {
    match entry {
        StoredEntry::Present { cursor, .. } | StoredEntry::Absent { cursor, .. } => *cursor,
    }
}

fn cost_of(entry: &StoredEntry) -> u64 {
    ITEM_OVERHEAD_BYTES
        + match entry {
            StoredEntry::Present { envelope, .. } => envelope.len() as u64,
            StoredEntry::Absent { .. } => 0,
        }
}

fn item_of(entry: StoredEntry, is_own: impl Fn(u64) -> bool) -> EntryItem {
    match entry {
        StoredEntry::Present { cursor, blob_id, .. } if is_own(cursor) => EntryItem::Own { cursor, blob_id },
        StoredEntry::Present { cursor, blob_id, envelope } => EntryItem::Stored { cursor, blob_id, envelope },
        StoredEntry::Absent { cursor, blob_id, reason } => EntryItem::Absent { cursor, blob_id, reason },
    }
}
