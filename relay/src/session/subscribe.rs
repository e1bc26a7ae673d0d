//! Reading: `Subscribe`, `Credit`, and delivery.
//!
//! What is fresh comes from the hub, everything else from the store, page by page, within the
//! client's credit and only while the link takes what is queued; [`Subscription`] decides which. A
//! slow reader costs one number.

use std::sync::Arc;

use zerok_sync_protocol::diverged::Diverged;
use zerok_sync_protocol::frame::LogState;
use zerok_sync_protocol::{BlobId, ErrorCode, RelayFrame, Timeline};

use super::member::Member;
use super::subscription::{Misplaced, PageRequest, Step, Subscription};
use super::wire::Wire;
use crate::core::Core;
use crate::limits::OUTGOING_BYTES_MAX;
use crate::metrics::Delivery;
use crate::store::StoreError;

/// The fields of `Subscribe`.
pub(super) struct SubscribeFrame {
    pub(super) timeline: Timeline,
    pub(super) after: u64,
    pub(super) blob_id_at_after: BlobId,
    pub(super) credit: u64,
    pub(super) follow: bool,
}

impl Member {
    /// Answers `Subscribe`; a second one replaces the first.
    pub(super) async fn subscribe(
        &mut self,
        core: &Arc<Core>,
        wire: &mut Wire,
        frame: SubscribeFrame,
    ) -> Result<(), StoreError> {
        self.unsubscribe();
        let state = core.store.state(self.group).await?.ok_or(StoreError::Gone)?;
        let SubscribeFrame { timeline, after, blob_id_at_after, credit, follow } = frame;
        if after.saturating_add(1) < state.floor {
            wire.refuse(ErrorCode::BelowFloor, 0, &Diverged::of(&state).to_string());
            return Ok(());
        }
        // Who has read nothing has no timeline to be wrong about.
        let timeline = if after == 0 && timeline.is_zero() { state.timeline } else { timeline };
        if !self.agrees(core, &state, timeline, after, blob_id_at_after).await? {
            wire.refuse(ErrorCode::Diverged, 0, &Diverged::of(&state).to_string());
            return Ok(());
        }
        core.hub.heard(self.group, &state);
        self.own.forget_below(after.saturating_add(1));
        self.subscription = Some(Subscription::new(timeline, after, blob_id_at_after, credit, follow));
        Ok(())
    }

    /// Whether the log still holds what the client read.
    async fn agrees(
        &self,
        core: &Core,
        state: &LogState,
        timeline: Timeline,
        after: u64,
        blob_id_at_after: BlobId,
    ) -> Result<bool, StoreError> {
        if timeline != state.timeline || after > state.head {
            return Ok(false);
        }
        if after == 0 {
            return Ok(blob_id_at_after.is_zero());
        }
        let at_after = core.store.blob_ids(self.group, &[after]).await?;
        Ok(at_after == [Some(blob_id_at_after)])
    }

    /// Answers `Credit`.
    pub(super) fn add_credit(&mut self, bytes: u64) {
        if let Some(subscription) = &mut self.subscription {
            subscription.add_credit(bytes);
        }
    }

    /// Sends what may be sent.
    pub(super) async fn deliver(&mut self, core: &Arc<Core>, wire: &mut Wire) -> Result<(), StoreError> {
        while let Some(subscription) = &mut self.subscription {
            if wire.closing().is_some() || wire.queued_bytes() >= OUTGOING_BYTES_MAX / 2 {
                return Ok(());
            }
            match subscription.step(&self.seat, &mut self.own) {
                Step::Entries(frame, entries) => {
                    wire.send_encoded(frame);
                    core.metrics.delivered(Delivery::Inline, entries);
                }
                Step::CaughtUp(head) => wire.send(&RelayFrame::CaughtUp { head }),
                Step::Read(request) => Box::pin(self.deliver_page(core, wire, request)).await?,
                Step::Wait => return Ok(()),
                Step::Done => self.unsubscribe(),
            }
        }
        Ok(())
    }

    async fn deliver_page(
        &mut self,
        core: &Arc<Core>,
        wire: &mut Wire,
        request: PageRequest,
    ) -> Result<(), StoreError> {
        let page = core.store.read(self.group, request.from, request.bytes_max, request.count_max).await?;
        let Some(subscription) = &mut self.subscription else { return Ok(()) };
        let mut delivered = 0;
        let taken = subscription.take_page(request, &page, &mut self.own, |frame, entries| {
            wire.send_encoded(frame);
            delivered += entries;
        });
        core.metrics.delivered(Delivery::Stored, delivered);
        match taken {
            Ok(()) => Ok(()),
            Err(Misplaced) => self.misplaced(core, wire).await,
        }
    }

    /// The log may be another than the one that is being read: ends the subscription if it is.
    pub(super) async fn compare(&mut self, core: &Arc<Core>, wire: &mut Wire) -> Result<(), StoreError> {
        let Some(subscription) = &self.subscription else { return Ok(()) };
        let state = core.store.state(self.group).await?.ok_or(StoreError::Gone)?;
        let after = subscription.next() - 1;
        if subscription.next() < state.floor {
            // The next page says so.
            return Ok(());
        }
        let same = match subscription.last() {
            Some(last) => self.agrees(core, &state, subscription.timeline, after, last).await?,
            None => subscription.timeline == state.timeline && after <= state.head,
        };
        if !same {
            self.unsubscribe();
            wire.refuse(ErrorCode::Diverged, 0, &Diverged::of(&state).to_string());
        }
        Ok(())
    }

    /// The reader stands where the log cannot be read on: says why.
    async fn misplaced(&mut self, core: &Arc<Core>, wire: &mut Wire) -> Result<(), StoreError> {
        let Some(subscription) = &self.subscription else { return Ok(()) };
        let state = core.store.state(self.group).await?.ok_or(StoreError::Gone)?;
        let below_floor = subscription.timeline == state.timeline && subscription.next() < state.floor;
        let code = if below_floor { ErrorCode::BelowFloor } else { ErrorCode::Diverged };
        self.unsubscribe();
        wire.refuse(code, 0, &Diverged::of(&state).to_string());
        Ok(())
    }

    fn unsubscribe(&mut self) {
        self.subscription = None;
        self.seat.forget_position();
    }
}
