//! Changing who is in the group, and its keys. Each call returns when the change has come about: a
//! wish that the relay could not be told of stays stored and is carried out by itself later.

use zerok_sync_core::id::DeviceId;
use zerok_sync_core::{MembershipError, Problem, Status};

use super::Client;
use crate::error::ClientError;

impl Client {
    /// Removes another device from the group: the relay shuts it out at once, and the group's keys
    /// are changed, so that it reads nothing that comes later. It keeps what it had.
    ///
    /// # Errors
    /// [`ClientError::Membership`] if there is no such device; [`ClientError::Relay`] if the relay
    /// does not let *this* device in any more, [`ClientError::StorageFailed`],
    /// [`ClientError::Closed`].
    pub async fn revoke(&self, device: DeviceId) -> Result<(), ClientError> {
        self.ask(move |engine, now| engine.revoke(now, device)).await??;
        self.until(|status| status.members.iter().all(|member| member.device != device)).await
    }

    /// Changes the group's keys: invitations that were handed out and not used are void.
    ///
    /// # Errors
    /// As [`Client::revoke`].
    pub async fn rotate(&self) -> Result<(), ClientError> {
        let asked = |engine: &mut zerok_sync_core::Engine, now| {
            let rotations = engine.status().rotations;
            engine.rotate(now).map(|()| rotations)
        };
        let before = self.ask(asked).await??;
        self.until(|status| status.rotations > before).await
    }

    /// Takes the group back where no relay lets this device in any more, because another one changed
    /// the keys first: begins anew without these devices, under a name at the relay that is free,
    /// with all that this device keeps. The others get back in by themselves. A person decides that;
    /// nothing does it by itself.
    ///
    /// # Errors
    /// [`ClientError::Membership`], [`ClientError::StorageFailed`], [`ClientError::Closed`].
    pub async fn refound(&self, without: Vec<DeviceId>) -> Result<(), ClientError> {
        Ok(self.ask(move |engine, now| engine.refound(now, &without)).await??)
    }

    /// Takes this device out of the group; what it has stored stays readable here. Another device
    /// changes the keys when it hears of it.
    ///
    /// # Errors
    /// As [`Client::revoke`].
    pub async fn leave(&self) -> Result<(), ClientError> {
        self.ask(|engine, now| engine.leave(now)).await??;
        self.until(|status| status.problem == Some(Problem::Left)).await
    }

    /// The group's only device was restored from an older copy, or copied ([`Problem::NeedsApproval`]):
    /// lets it go on. Only if no other copy of it is in use; call it once the status has caught up.
    ///
    /// # Errors
    /// [`ClientError::Membership`]: there is nothing to approve, or the group has other devices, of
    /// which one invites this one again.
    pub async fn approve(&self) -> Result<(), ClientError> {
        self.ask(|engine, now| engine.approve(now)).await??;
        self.until(|status| status.problem != Some(Problem::NeedsApproval)).await
    }

    /// Gives this device another name. Returns when it is stored here; the others hear of it as of
    /// any entry.
    ///
    /// # Errors
    /// [`ClientError::Membership`] if that is no name, [`ClientError::StorageFailed`],
    /// [`ClientError::Closed`].
    pub async fn rename(&self, name: impl Into<String>) -> Result<(), ClientError> {
        let name = name.into();
        let queued = self.ask(move |engine, now| engine.rename(now, &name).map(|()| engine.status().stored_push));
        let number = queued.await??;
        self.watched.progress(|progress| (progress.stored >= number).then_some(())).await?;
        // So that who looks at the status now finds it waiting in the outbox. It is stored, whatever
        // is said of the relay.
        let _ = self.until(|status| status.stored_push >= number).await;
        Ok(())
    }

    /// Waits for a status; what the relay says against this device ends the wait, and so does a key
    /// that is not the relay's.
    pub(super) async fn until(&self, mut reached: impl FnMut(&Status) -> bool) -> Result<(), ClientError> {
        let mut status = self.status();
        let is_final = |status: &Status| {
            matches!(status.problem, Some(Problem::Revoked | Problem::Left)) || status.relay_keys_changed()
        };
        let settled =
            status.wait_for(|status| reached(status) || is_final(status)).await.map_err(|_| self.watched.end())?;
        match &settled.problem {
            _ if reached(&settled) => Ok(()),
            Some(problem) => Err(ClientError::Relay(problem.clone())),
            None => Err(ClientError::Membership(MembershipError::NotYet)),
        }
    }
}
