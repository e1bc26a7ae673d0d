//! `Truncate` and `DeleteGroup`: what a member gives up. Nothing is removed here; `crate::gc` does
//! that when the grace is over.

use std::sync::Arc;

use zerok_sync_protocol::{ErrorCode, RelayFrame};

use super::member::{Member, REVOKED};
use super::wire::Wire;
use crate::core::Core;
use crate::link::Close;
use crate::metrics::Refusal;
use crate::store::{DeleteRequest, Deleted, StoreError, TruncateRequest, Truncated};

impl Member {
    /// Answers `Truncate`.
    pub(super) async fn truncate(&mut self, core: &Arc<Core>, wire: &mut Wire, below: u64) -> Result<(), StoreError> {
        self.finish_pushes(core, wire).await;
        // Nothing is appended, but what the group's devices have acknowledged here is noted then.
        core.writer.append(self.append_request(core, wire, Vec::new())).await?;
        let request = TruncateRequest {
            group: self.group,
            auth_gen: self.auth_gen,
            device: wire.device,
            below,
            grace_ms: core.limits.truncate_grace_ms,
            interval_ms: core.limits.truncate_interval_ms,
            now_ms: core.now().unix_ms,
        };
        match core.store.truncate(request).await? {
            Truncated::Done { floor } => wire.send(&RelayFrame::Truncated { floor }),
            Truncated::TooSoon { retry_after_ms } => {
                core.metrics.refused(Refusal::Truncation);
                wire.refuse(ErrorCode::RateLimited, retry_after_ms, "the floor was raised a moment ago");
            }
            Truncated::NotReached { below_max } => {
                core.metrics.refused(Refusal::Truncation);
                let detail = format!("a device has not acknowledged that far: the floor may be raised to {below_max}");
                wire.refuse(ErrorCode::RateLimited, core.limits.truncate_interval_ms, &detail);
            }
            Truncated::Superseded { epoch_envelope } => {
                self.tell_superseded(core, wire, epoch_envelope).await;
                wire.refuse(ErrorCode::RotationConflict, 0, "another device rotated first: say Hello again");
            }
            Truncated::Revoked => wire.fail(ErrorCode::DeviceRevoked, REVOKED),
        }
        Ok(())
    }

    /// Answers `DeleteGroup`; it is the last thing this session and the group's others hear.
    pub(super) async fn delete_group(&mut self, core: &Arc<Core>, wire: &mut Wire) -> Result<(), StoreError> {
        self.finish_pushes(core, wire).await;
        let request = DeleteRequest {
            group: self.group,
            auth_gen: self.auth_gen,
            device: wire.device,
            grace_ms: core.limits.delete_grace_ms,
            now_ms: core.now().unix_ms,
        };
        match core.store.delete_group(request).await? {
            Deleted::Done => {
                self.subscription = None;
                wire.send(&RelayFrame::Deleted {});
                wire.close(Close::new(Close::NORMAL, "the group was deleted at this relay"));
                core.hub.kick_group(self.group);
            }
            Deleted::Superseded { epoch_envelope } => {
                self.tell_superseded(core, wire, epoch_envelope).await;
                wire.refuse(ErrorCode::RotationConflict, 0, "another device rotated first: say Hello again");
            }
            Deleted::Revoked => wire.fail(ErrorCode::DeviceRevoked, REVOKED),
        }
        Ok(())
    }
}
