//! A member's session: one log, and the requests about it that are one question to the store.

use std::sync::Arc;

use bytes::Bytes;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::limits::{SLOT_BYTES_MAX, WHISPER_BYTES_MAX};
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{
    AuthPublicKey, BlobId, ClientFrame, ErrorCode, LogName, NoisePublicKey, RelayFrame, Signature, Timeline, hello,
};

use super::hello::refusal_of_epoch;
use super::own::OwnCursors;
use super::push::Pushes;
use super::subscribe::SubscribeFrame;
use super::subscription::Subscription;
use super::wire::Wire;
use crate::core::Core;
use crate::hub::{Fresh, Notice, Seat};
use crate::limits::ROTATION_RESERVE_BYTES;
use crate::link::Close;
use crate::metrics::Refusal;
use crate::store::{Append, DeviceNote, GroupKey, RestrictRequest, Restricted, RotateRequest, Rotated, StoreError};

/// Detail of 1003.
pub(super) const REVOKED: &str = "this device was taken off the group's list";

/// A session that was admitted to a log.
pub(super) struct Member {
    pub(super) group: GroupKey,
    /// The auth key that was proven last.
    auth_public: AuthPublicKey,
    /// Its generation.
    pub(super) auth_gen: u64,
    pub(super) seat: Seat,
    pub(super) pushes: Pushes,
    pub(super) own: OwnCursors,
    pub(super) subscription: Option<Subscription>,
    /// What of the room's [`crate::hub::Bell`] has been acted on.
    recounted: u64,
    doubted: u64,
    /// The group's keys moved on and were sent to the client: pushes wait for its next `Hello`.
    pub(super) superseded: bool,
}

/// The fields of `Rotate`.
struct Rotation {
    expect_gen: u64,
    next_auth_public: AuthPublicKey,
    proof: Signature,
    allow: Vec<NoisePublicKey>,
    epoch_envelope: Bytes,
}

impl Member {
    pub(super) fn new(group: GroupKey, auth_public: AuthPublicKey, auth_gen: u64, seat: Seat) -> Self {
        let bell = seat.bell();
        Self {
            recounted: bell.recounts,
            doubted: bell.doubts,
            group,
            auth_public,
            auth_gen,
            seat,
            pushes: Pushes::default(),
            own: OwnCursors::default(),
            subscription: None,
            superseded: false,
        }
    }

    /// Another `Hello` of the same session counted. Refused pushes still wait for `resume`.
    pub(super) fn readmit(&mut self, auth_public: AuthPublicKey, auth_gen: u64) {
        self.auth_public = auth_public;
        self.auth_gen = auth_gen;
        self.superseded = false;
    }

    /// Appends and delivers what is due.
    pub(super) async fn work(&mut self, core: &Arc<Core>, wire: &mut Wire) {
        if self.pushes.are_waiting() {
            Box::pin(self.finish_pushes(core, wire)).await;
        }
        while !wire.is_full()
            && let Some(notice) = self.seat.notice()
        {
            wire.send_encoded(notice);
        }
        let bell = self.seat.bell();
        if (bell.auth_gen > self.auth_gen && !self.superseded) || bell.recounts != self.recounted {
            // A rotation or a removal by another session, perhaps on another instance. Whoever was
            // removed ends here; the others are told before their next push is refused.
            self.recounted = bell.recounts;
            if let Err(error) = Box::pin(self.is_current(core, wire)).await {
                // Whoever may have been removed reads nothing more before that is known.
                return end(wire, &error);
            }
        }
        if bell.doubts != self.doubted {
            self.doubted = bell.doubts;
            if let Err(error) = Box::pin(self.compare(core, wire)).await {
                return end(wire, &error);
            }
        }
        if let Err(error) = self.deliver(core, wire).await {
            end(wire, &error);
        }
    }

    /// Answers one frame.
    pub(super) async fn handle(&mut self, core: &Arc<Core>, wire: &mut Wire, frame: ClientFrame) {
        let outcome = match frame {
            ClientFrame::Push { push, envelopes, resume } => {
                self.push(core, wire, push, envelopes.into_vec(), resume).await;
                Ok(())
            }
            ClientFrame::Subscribe { timeline, after, blob_id_at_after, credit, follow } => {
                self.subscribe(core, wire, SubscribeFrame { timeline, after, blob_id_at_after, credit, follow }).await
            }
            ClientFrame::Credit { bytes } => {
                self.add_credit(bytes);
                Ok(())
            }
            ClientFrame::Probe { cursors } => self.probe(core, wire, &cursors).await,
            ClientFrame::Missing { blob_ids } => self.missing(core, wire, &blob_ids).await,
            ClientFrame::NewTimeline { old } => self.new_timeline(core, wire, old).await,
            ClientFrame::Ack { cursor, receipt } => self.ack(core, wire, cursor, receipt).await,
            ClientFrame::SlotPut { data } => self.slot_put(core, wire, data).await,
            ClientFrame::Restrict { allow } => self.restrict(core, wire, &allow).await,
            ClientFrame::Rotate { expect_gen, next_auth_public, proof, allow, epoch_envelope } => {
                let allow = allow.into_vec();
                self.rotate(core, wire, Rotation { expect_gen, next_auth_public, proof, allow, epoch_envelope }).await
            }
            ClientFrame::Whisper { data } => {
                self.whisper(core, wire, data);
                Ok(())
            }
            ClientFrame::Truncate { below } => self.truncate(core, wire, below).await,
            ClientFrame::DeleteGroup {} => self.delete_group(core, wire).await,
            ClientFrame::Hello { .. }
            | ClientFrame::Create { .. }
            | ClientFrame::MailboxOpen { .. }
            | ClientFrame::MailboxJoin { .. }
            | ClientFrame::MailboxSend { .. }
            | ClientFrame::MailboxClose {}
            | ClientFrame::Ping {}
            | ClientFrame::Bye {} => unreachable!("the session answers these before it asks the role"),
        };
        if let Err(error) = outcome {
            wire.storage_failed(&error);
        }
    }

    /// Sends the current epoch envelope; pushes are refused until the client has used it.
    pub(super) async fn tell_superseded(&mut self, core: &Core, wire: &mut Wire, epoch_envelope: Bytes) {
        self.superseded = true;
        self.pushes.refuse_until_resume();
        // Without its slot the client still gets back in; a store that fails here fails again soon.
        let logs = core.store.logs_of(&wire.device).await.unwrap_or_default();
        let slot = logs.into_iter().find(|log| log.epoch_envelope == epoch_envelope).map(|log| log.slot);
        wire.send(&RelayFrame::Superseded { epoch_envelope, slot: slot.unwrap_or_default(), more: 0 });
    }

    /// Whether the session's device and key still hold; tells the client if not.
    async fn is_current(&mut self, core: &Arc<Core>, wire: &mut Wire) -> Result<bool, StoreError> {
        match core.writer.append(self.append_request(core, wire, Vec::new())).await? {
            Append::Stored { .. } | Append::QuotaExceeded { .. } => return Ok(true),
            Append::Superseded { epoch_envelope } => self.tell_superseded(core, wire, epoch_envelope).await,
            Append::Revoked => wire.fail(ErrorCode::DeviceRevoked, REVOKED),
            Append::Gone => return Err(StoreError::Gone),
        }
        Ok(false)
    }

    async fn probe(&mut self, core: &Core, wire: &mut Wire, cursors: &[u64]) -> Result<(), StoreError> {
        let blob_ids = core.store.blob_ids(self.group, cursors).await?;
        let blob_ids = List::try_from(blob_ids).expect("one answer per cursor asked for");
        wire.send(&RelayFrame::Probed { blob_ids });
        Ok(())
    }

    async fn missing(&mut self, core: &Core, wire: &mut Wire, blob_ids: &[BlobId]) -> Result<(), StoreError> {
        let missing = core.store.missing(self.group, blob_ids).await?;
        // A question of a few bytes can cost a thousand envelopes: it counts as what it cost.
        wire.caused(missing.bytes_read);
        wire.send(&RelayFrame::MissingBlobs { bitmap: bitmap(&missing.flags) });
        Ok(())
    }

    async fn new_timeline(&mut self, core: &Arc<Core>, wire: &mut Wire, old: Timeline) -> Result<(), StoreError> {
        if self.is_current(core, wire).await? {
            let timeline = core.store.new_timeline(self.group, old, core.fresh_timeline()).await?;
            wire.send(&RelayFrame::TimelineChanged { timeline });
            // Whoever still reads the old history is told.
            let state = core.store.state(self.group).await?.ok_or(StoreError::Gone)?;
            core.hub.timeline_changed(self.group, &state);
        }
        Ok(())
    }

    async fn ack(
        &mut self,
        core: &Core,
        wire: &mut Wire,
        cursor: u64,
        receipt: Option<Bytes>,
    ) -> Result<(), StoreError> {
        if receipt.as_ref().is_some_and(|receipt| receipt.len() > SLOT_BYTES_MAX) {
            wire.refuse(ErrorCode::EnvelopeTooLarge, 0, "a receipt is at most 4 KiB");
            return Ok(());
        }
        let note = DeviceNote {
            group: self.group,
            device: wire.device,
            acked: Some(cursor),
            slot: receipt.clone(),
            seen_ms: core.now().unix_ms,
            durable: false,
        };
        core.writer.note(note).await;
        core.hub.notify_others(self.group, &self.seat, Notice::acked(wire.device, cursor, receipt));
        Ok(())
    }

    async fn slot_put(&mut self, core: &Core, wire: &mut Wire, data: Bytes) -> Result<(), StoreError> {
        if data.len() > SLOT_BYTES_MAX {
            wire.refuse(ErrorCode::EnvelopeTooLarge, 0, "a slot is at most 4 KiB");
            return Ok(());
        }
        core.writer.slot_put(self.group, wire.device, data).await
    }

    async fn restrict(
        &mut self,
        core: &Arc<Core>,
        wire: &mut Wire,
        allow: &[NoisePublicKey],
    ) -> Result<(), StoreError> {
        self.finish_pushes(core, wire).await;
        let request =
            RestrictRequest { group: self.group, auth_gen: self.auth_gen, device: wire.device, allow: allow.to_vec() };
        match core.store.restrict(request).await? {
            Restricted::Done { head } => {
                wire.send(&RelayFrame::Restricted { head });
                core.hub.kick_unlisted(self.group, allow);
            }
            Restricted::Superseded { epoch_envelope } => {
                self.tell_superseded(core, wire, epoch_envelope).await;
                wire.refuse(ErrorCode::RotationConflict, 0, "another device rotated first: say Hello again");
            }
            Restricted::Revoked => wire.fail(ErrorCode::DeviceRevoked, REVOKED),
        }
        Ok(())
    }

    async fn rotate(&mut self, core: &Arc<Core>, wire: &mut Wire, rotation: Rotation) -> Result<(), StoreError> {
        let Rotation { expect_gen, next_auth_public, proof, allow, epoch_envelope } = rotation;
        let current = LogName::of(&self.auth_public);
        if !hello::verify_rotate(&next_auth_public, &wire.handshake, &current, &proof) {
            wire.fail(ErrorCode::Unauthorized, "the proof of the next key does not hold in this session");
            return Ok(());
        }
        if let Some(code) = refusal_of_epoch(&core.limits, &epoch_envelope) {
            if code == ErrorCode::EnvelopeTooLarge {
                wire.count(Refusal::EnvelopeBytes);
            }
            wire.refuse(code, 0, "the epoch envelope is too short or too long");
            return Ok(());
        }
        self.finish_pushes(core, wire).await;
        let request = RotateRequest {
            group: self.group,
            device: wire.device,
            expect_gen,
            next_auth_public,
            allow: allow.clone(),
            epoch_envelope: epoch_envelope.clone(),
            group_bytes_max: core.limits.group_bytes_max.saturating_add(ROTATION_RESERVE_BYTES),
            now_ms: core.now().unix_ms,
        };
        match core.store.rotate(request).await? {
            Rotated::Done { auth_gen, cursor } => {
                self.readmit(next_auth_public, auth_gen);
                self.own.insert(cursor);
                wire.send(&RelayFrame::Rotated { auth_gen, cursor });
                core.hub.kick_unlisted(self.group, &allow);
                let entries = vec![(blob_id(&epoch_envelope), epoch_envelope)];
                core.hub.publish(self.group, auth_gen, &Fresh { first_cursor: cursor, entries });
            }
            Rotated::Again { auth_gen, cursor } => {
                // After others rotated it proves no more than it did the first time; and the list
                // is as it was then: who has come in since stays.
                self.readmit(next_auth_public, auth_gen.min(expect_gen.saturating_add(1)));
                self.own.insert(cursor);
                wire.send(&RelayFrame::Rotated { auth_gen, cursor });
            }
            Rotated::Conflict { auth_gen } => {
                wire.refuse(ErrorCode::RotationConflict, 0, &format!("auth_gen={auth_gen}"));
            }
            Rotated::QuotaExceeded => {
                wire.count(Refusal::GroupBytes);
                wire.refuse(ErrorCode::GroupQuotaExceeded, 0, "rotations have used up what they may beyond the quota");
            }
            Rotated::Revoked => wire.fail(ErrorCode::DeviceRevoked, REVOKED),
        }
        Ok(())
    }

    fn whisper(&mut self, core: &Core, wire: &mut Wire, data: Bytes) {
        if data.len() > WHISPER_BYTES_MAX {
            return wire.refuse(ErrorCode::EnvelopeTooLarge, 0, "a whisper is at most 4 KiB");
        }
        if let Err(retry_after_ms) = core.admission.whisper(wire.device, core.now().monotonic_ms) {
            core.metrics.refused(Refusal::Whispers);
            return wire.refuse(ErrorCode::RateLimited, retry_after_ms, "this device whispers too often");
        }
        core.hub.notify_others(self.group, &self.seat, Notice::whispered(data));
    }
}

/// Ends a session that the store failed without a request there to refuse: the client asks again on
/// its next one.
fn end(wire: &mut Wire, error: &StoreError) {
    wire.storage_failed(error);
    wire.close(Close::new(Close::REFUSED, ErrorCode::StorageUnavailable.advice()));
}

/// One bit per flag, least significant first.
fn bitmap(flags: &[bool]) -> Bytes {
    flags.chunks(8).map(|eight| eight.iter().rev().fold(0_u8, |byte, &flag| byte << 1 | u8::from(flag))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bitmap_starts_at_the_least_significant_bit() {
        let flags = [true, false, true, false, false, false, false, true, true];
        assert_eq!(bitmap(&flags)[..], [0b1000_0101, 1]);
    }
}
