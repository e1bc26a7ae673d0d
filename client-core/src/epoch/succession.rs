//! Whether an epoch may follow the one before: "accepted iff" of `docs/PROTOCOL.md` §6, as a function of the
//! signed envelope and the receiver's view of the members.
//!
//! What is left to the engine is what needs the log: which branch the home relay chose, and that
//! the frozen heads of removed devices are stored.

use std::collections::BTreeSet;
use std::ops::Deref;

use zerok_sync_protocol::{BlobId, EpochId};

use super::wrap::{WRAPS_STEP, WrapTag};
use super::{EpochBody, MemberDigest, SignedEpoch};
use crate::genesis::Genesis;
use crate::id::DeviceId;
use crate::keys::MemberKeys;

/// What the receiver knows of the epoch before.
#[derive(Debug, Clone, Copy)]
pub enum Predecessor<'a> {
    /// There is none: only the group's genesis can come.
    None,
    /// An accepted epoch.
    Epoch {
        /// Its id.
        id: EpochId,
        /// Its envelope.
        blob_id: BlobId,
        /// The members at its end, in the receiver's view.
        members: &'a [MemberKeys],
    },
}

/// An epoch that follows from what the receiver knew. Exists only through
/// [`SignedEpoch::check_succession`].
#[derive(Debug, Clone)]
pub struct AcceptedEpoch {
    epoch: SignedEpoch,
    members: Vec<MemberKeys>,
    devices: Vec<DeviceId>,
}

impl AcceptedEpoch {
    /// The members from now on.
    #[must_use]
    pub fn members(&self) -> &[MemberKeys] {
        &self.members
    }

    /// The same by their identities, also those whose keys are not known any more: another branch
    /// removed them.
    #[must_use]
    pub fn devices(&self) -> &[DeviceId] {
        &self.devices
    }

    /// The epoch that begins.
    #[must_use]
    pub fn id(&self) -> EpochId {
        self.epoch.header().epoch
    }

    /// Its envelope's id.
    #[must_use]
    pub fn blob_id(&self) -> BlobId {
        self.epoch.blob_id()
    }
}

impl Deref for AcceptedEpoch {
    type Target = EpochBody;
    fn deref(&self) -> &EpochBody {
        &self.epoch
    }
}

/// Why an epoch, although signed, is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EpochRefusal {
    /// Its author is no member of the epoch before.
    #[error("its author is not a member")]
    NotAMember,
    /// Its author removes itself, and yet chose the secret.
    #[error("its author removes itself: another device has to choose the next keys")]
    RemovesItself,
    /// It follows another epoch than the one this device is in.
    #[error("it follows another epoch than the current one")]
    WrongPredecessor,
    /// A remaining member is left out.
    #[error("it is not wrapped to the remaining device {0}")]
    NotWrappedTo(DeviceId),
    /// A member's tag stands on several wraps.
    #[error("it is wrapped to device {0} more than once")]
    WrappedTwice(DeviceId),
    /// A removed member is handed the new secret.
    #[error("it is wrapped to the removed device {0}")]
    WrappedToRemoved(DeviceId),
    /// More wraps for strangers than dummies are needed.
    #[error("{0} of its wraps are for nobody known; at most 7 can be dummies")]
    TooManyStrangers(usize),
    /// Its author saw other members than this device does.
    #[error("its author counts other members than this device")]
    OtherMembers,
    /// An epoch 0 that is not this group's.
    #[error("it is not the beginning of this group ({0})")]
    NotTheGenesis(&'static str),
}

impl SignedEpoch {
    /// Accepts the epoch iff its author could start it after `predecessor`.
    ///
    /// # Errors
    /// [`EpochRefusal`].
    pub fn check_succession(self, predecessor: Predecessor<'_>) -> Result<AcceptedEpoch, EpochRefusal> {
        let members = match predecessor {
            Predecessor::None => vec![self.founder()?],
            Predecessor::Epoch { id, blob_id, members } => self.remaining(id, blob_id, members)?,
        };
        self.check_wraps(&members)?;
        if self.member_digest != MemberDigest::of(members.iter().map(|member| member.device)) {
            return Err(EpochRefusal::OtherMembers);
        }
        let devices = members.iter().map(|member| member.device).collect();
        Ok(AcceptedEpoch { epoch: self, members, devices })
    }

    /// Accepts the epoch iff its author could start it where `base` were the members, of whom the
    /// keys of `known` are still known: those of the others, whom another branch removed, cannot be
    /// looked for among the wraps.
    ///
    /// # Errors
    /// [`EpochRefusal`].
    pub fn check_branch(self, base: &BTreeSet<DeviceId>, known: &[MemberKeys]) -> Result<AcceptedEpoch, EpochRefusal> {
        if !base.contains(&self.sender) {
            return Err(EpochRefusal::NotAMember);
        }
        if self.removes(&self.sender) {
            return Err(EpochRefusal::RemovesItself);
        }
        let devices: Vec<DeviceId> = base.iter().filter(|device| !self.removes(device)).copied().collect();
        if self.member_digest != MemberDigest::of(devices.iter().copied()) {
            return Err(EpochRefusal::OtherMembers);
        }
        let (members, removed): (Vec<_>, Vec<_>) =
            known.iter().cloned().partition(|member| !self.removes(&member.device));
        if let Some(member) = removed.iter().find(|member| self.wraps_to(member) > 0) {
            return Err(EpochRefusal::WrappedToRemoved(member.device));
        }
        for member in &members {
            match self.wraps_to(member) {
                0 => return Err(EpochRefusal::NotWrappedTo(member.device)),
                1 => {}
                _ => return Err(EpochRefusal::WrappedTwice(member.device)),
            }
        }
        let strangers = self.wraps().tags().count().saturating_sub(devices.len());
        if strangers >= WRAPS_STEP {
            return Err(EpochRefusal::TooManyStrangers(strangers));
        }
        Ok(AcceptedEpoch { epoch: self, members, devices })
    }

    /// Whether the new secret is wrapped to this member.
    #[must_use]
    pub fn is_wrapped_to(&self, member: &MemberKeys) -> bool {
        self.wraps_to(member) > 0
    }

    /// Whether it removes this device.
    #[must_use]
    pub fn removes(&self, device: &DeviceId) -> bool {
        self.removed.iter().any(|removed| removed.device == *device)
    }

    /// The one member of epoch 0, whom the GroupId names.
    fn founder(&self) -> Result<MemberKeys, EpochRefusal> {
        let refuse = |why| Err(EpochRefusal::NotTheGenesis(why));
        let Ok(genesis) = Genesis::parse(self.genesis.clone()) else { return refuse("no genesis body") };
        if genesis.group() != *self.group() {
            return refuse("another group's genesis body");
        }
        let founder = genesis.body().founder.clone();
        if founder.device != self.sender {
            return refuse("not by its founder");
        }
        if self.seq != 1 || !self.prev.is_zero() {
            return refuse("not its founder's first entry");
        }
        if !self.previous_epoch.is_zero() || !self.previous_blob_id.is_zero() {
            return refuse("it names an epoch before");
        }
        if !self.removed.is_empty() || !self.keyring.is_empty() {
            return refuse("it speaks of a past");
        }
        Ok(founder)
    }

    /// The members that this rotation leaves.
    fn remaining(&self, id: EpochId, blob_id: BlobId, members: &[MemberKeys]) -> Result<Vec<MemberKeys>, EpochRefusal> {
        if self.previous_epoch != id || self.previous_blob_id != blob_id {
            return Err(EpochRefusal::WrongPredecessor);
        }
        if !members.iter().any(|member| member.device == self.sender) {
            return Err(EpochRefusal::NotAMember);
        }
        if self.removes(&self.sender) {
            return Err(EpochRefusal::RemovesItself);
        }
        let (removed, remaining): (Vec<_>, Vec<_>) =
            members.iter().cloned().partition(|member| self.removes(&member.device));
        match removed.iter().find(|member| self.wraps_to(member) > 0) {
            Some(member) => Err(EpochRefusal::WrappedToRemoved(member.device)),
            None => Ok(remaining),
        }
    }

    /// Each member's tag once; of others no more than fill up to a multiple of eight.
    fn check_wraps(&self, members: &[MemberKeys]) -> Result<(), EpochRefusal> {
        for member in members {
            match self.wraps_to(member) {
                0 => return Err(EpochRefusal::NotWrappedTo(member.device)),
                1 => {}
                _ => return Err(EpochRefusal::WrappedTwice(member.device)),
            }
        }
        let strangers = self.wraps().tags().count().saturating_sub(members.len());
        if strangers < WRAPS_STEP { Ok(()) } else { Err(EpochRefusal::TooManyStrangers(strangers)) }
    }

    fn wraps_to(&self, member: &MemberKeys) -> usize {
        let tag = WrapTag::of(&self.header().epoch, &member.kem);
        self.wraps().tags().filter(|&other| other == tag).count()
    }
}
