//! What an inviter hands over, and how a joiner checks it with what it holds at that moment.
//!
//! [`GrantMaterial`] is what the inviter's engine fills in; a [`Granted`] is one that was checked:
//! its bytes were signed over this very channel by the owner of the Noise key that answered in it,
//! that owner is the founder or bears a certificate, and the certificate for the joiner is the
//! joiner's own. What only the log can show (that whoever certified the inviter was a member) is
//! for the engine, which pushes nothing before.

use bytes::Bytes;
use zeroize::Zeroizing;
use zerok_sync_protocol::limits::ALLOW_LIST_MAX;
use zerok_sync_protocol::wire::{self, List, TooMany};
use zerok_sync_protocol::{BlobId, EpochId, NoisePublicKey, Timeline, wire_struct};

use super::message::{self, Answer};
use crate::certificate::{Card, DeviceName, JoinCertificate};
use crate::content::{Observed, SeenItem};
use crate::epoch::KEYRING_MAX;
use crate::error::JoinError;
use crate::genesis::Genesis;
use crate::id::{DeviceId, GroupId};
use crate::io::RelayAddress;
use crate::keyring::Keyring;
use crate::keys::{EpochSecret, MemberKeys, Membership};
use crate::observed::FoldHash;
use crate::origin::Origin;

/// Epochs of a keyring that fit a grant beside everything else.
pub const GRANT_EPOCHS_MAX: usize = KEYRING_MAX;
/// Chains of a frontier that fit a grant beside everything else: those of all members, and of the devices
/// that were members last. A group may have had any number.
pub const GRANT_FRONTIER_MAX: usize = 320;
/// Relays of a group.
pub const GRANT_RELAYS_MAX: usize = 8;

wire_struct! {
    /// A relay of the group.
    pub struct GrantedRelay {
        /// Its origin.
        url: String,
        /// Its Noise key.
        key: NoisePublicKey,
    }
}

wire_struct! {
    /// A device of the group, to be shown until the log was read.
    pub struct GrantedMember {
        /// Its identity.
        device: DeviceId,
        /// Its name.
        name: DeviceName,
    }
}

wire_struct! {
    /// Which snapshot a new member begins with. Named by its hash, so only that one is it.
    pub struct SnapshotRef {
        /// Who made it.
        sender: DeviceId,
        /// Its manifest's place in that device's chain.
        seq: u64,
        /// The manifest's envelope.
        blob_id: BlobId,
        /// How many parts stand before it.
        parts: u64,
        /// Bytes of all of them.
        bytes: u64,
    }
}

wire_struct! {
    /// Where a reader that begins with a snapshot reads on, and what it takes the fold from: never
    /// from the relay.
    pub struct HistoryStart {
        /// History it belongs to.
        timeline: Timeline,
        /// Highest cursor that the snapshot covers.
        cursor: u64,
        /// What stood there: the relay is asked to go on behind it.
        blob_id: BlobId,
        /// `h` there.
        hash: FoldHash,
        /// What stands for all before it.
        snapshot: SnapshotRef,
    }
}

wire_struct! {
    /// Everything a new member needs to start, as the bytes the inviter signs.
    pub struct Grant {
        /// Which group; must be the genesis's.
        group: GroupId,
        /// Exact bytes of the genesis body.
        genesis: Bytes,
        /// Every epoch's secret, oldest first.
        epoch_secrets: List<EpochSecret, GRANT_EPOCHS_MAX>,
        /// The current epoch.
        epoch: EpochId,
        /// The joiner's.
        certificate: JoinCertificate,
        /// The inviter's own; `None` if it is the founder.
        inviter_certificate: Option<JoinCertificate>,
        /// The home relay first.
        relays: List<GrantedRelay, GRANT_RELAYS_MAX>,
        /// Heads of every member, the inviter included, and of former ones: the log must cover them
        /// before the joiner pushes.
        frontier: List<SeenItem, GRANT_FRONTIER_MAX>,
        /// The order the inviter was shown by the relay it reads.
        observed: Option<Observed>,
        /// Where reading starts, if entries are gone.
        history_start: Option<HistoryStart>,
        /// Who is there.
        members: List<GrantedMember, ALLOW_LIST_MAX>,
    }
}

/// What the inviter's engine knows and hands over. Made at the moment of the answer, so that a
/// rotation since the invitation counts.
#[derive(Debug, Clone)]
pub struct GrantMaterial {
    /// How the group began.
    pub genesis: Genesis,
    /// Its epochs.
    pub keyring: Keyring,
    /// The certificate by which the inviter is a member; `None` if it is the founder.
    pub inviter_certificate: Option<JoinCertificate>,
    /// The group's relays, the home relay first; those whose key is not known are left out.
    pub relays: Vec<RelayAddress>,
    /// Heads of the senders' chains, those of members first, the inviter's own among them. What is
    /// beyond [`GRANT_FRONTIER_MAX`] is left out.
    pub frontier: Vec<SeenItem>,
    /// The pair for the relay that is read.
    pub observed: Option<Observed>,
    /// Where the log now starts, if not at cursor 1.
    pub history_start: Option<HistoryStart>,
    /// All members.
    pub members: Vec<GrantedMember>,
}

impl GrantMaterial {
    /// Message 4's content for this joiner, and the certificate in it.
    pub(super) fn grant(
        &self,
        inviter: &Membership,
        handshake_hash: &[u8; 32],
        card: Card,
    ) -> Result<(Answer, JoinCertificate), TooMany> {
        let group = self.genesis.group();
        let epoch = self.keyring.current().id;
        let certificate = JoinCertificate::issue(&group, &inviter.signing, card, epoch);
        let relays =
            self.relays.iter().filter_map(|relay| Some(GrantedRelay { url: relay.url.clone(), key: relay.key? }));
        let grant = Grant {
            group,
            genesis: self.genesis.bytes().clone(),
            epoch_secrets: self.keyring.secrets().cloned().collect::<Vec<_>>().try_into()?,
            epoch,
            certificate: certificate.clone(),
            inviter_certificate: self.inviter_certificate.clone(),
            relays: relays.collect::<Vec<_>>().try_into()?,
            frontier: self.frontier[..self.frontier.len().min(GRANT_FRONTIER_MAX)].to_vec().try_into()?,
            observed: self.observed.clone(),
            history_start: self.history_start.clone(),
            members: self.members.clone().try_into()?,
        };
        let bytes = Bytes::from(wire::encode(&grant));
        let signature = message::sign_grant(&inviter.signing, handshake_hash, &bytes);
        Ok((Answer::Granted { grant: bytes, signature }, certificate))
    }
}

/// A grant whose signature and contents fit this channel and this joiner.
#[derive(Debug, Clone)]
pub struct Granted {
    /// How the group began.
    pub genesis: Genesis,
    /// Its epochs.
    pub keyring: Keyring,
    /// Makes this device a member; goes into its first entry.
    pub certificate: JoinCertificate,
    /// Who let it in.
    pub inviter: MemberKeys,
    /// The group's relays, the home relay first.
    pub relays: Vec<GrantedRelay>,
    /// What the log must cover before this device pushes.
    pub frontier: Vec<SeenItem>,
    /// What the inviter was shown of the log.
    pub observed: Option<Observed>,
    /// Where reading starts, if not at cursor 1.
    pub history_start: Option<HistoryStart>,
    /// Who is there.
    pub members: Vec<GrantedMember>,
}

impl Granted {
    /// Checks a grant. `inviter_noise` is the static key that message 2 proved, `own` the card
    /// that message 3 carried.
    pub(super) fn check(
        bytes: &[u8],
        signature: &zerok_sync_protocol::Signature,
        handshake_hash: &[u8; 32],
        inviter_noise: &NoisePublicKey,
        own: &Card,
    ) -> Result<Self, JoinError> {
        // Who must have signed stands in the bytes themselves, so they are parsed first; nothing
        // of them is used before the signature was checked.
        let grant: Grant = wire::decode(bytes).map_err(|_| JoinError::Invalid("a grant that cannot be read"))?;
        let genesis =
            Genesis::parse(grant.genesis).map_err(|_| JoinError::Invalid("a group this version does not know"))?;
        let group = genesis.group();
        if group != grant.group {
            return Err(JoinError::Invalid("a group id that is not its own"));
        }
        let inviter = match &grant.inviter_certificate {
            None => genesis.body().founder.clone(),
            Some(certificate) => {
                certificate
                    .verify(&group)
                    .map_err(|_| JoinError::Invalid("a certificate of its own that nobody signed"))?;
                certificate.card().keys.clone()
            }
        };
        if inviter.noise != *inviter_noise {
            return Err(JoinError::Invalid("a grant in the name of another device"));
        }
        if !message::verify_grant(&inviter.device, handshake_hash, bytes, signature) {
            return Err(JoinError::Invalid("a grant that it did not sign for this pairing"));
        }
        let certificate = grant.certificate;
        if certificate.inviter() != inviter.device || certificate.verify(&group).is_err() {
            return Err(JoinError::Invalid("a certificate it did not sign"));
        }
        if certificate.card() != own || certificate.epoch() != grant.epoch {
            return Err(JoinError::Invalid("a certificate for another device or epoch"));
        }
        let keyring = Keyring::restore(group, grant.epoch_secrets.into_vec(), &grant.epoch)
            .ok_or(JoinError::Invalid("keys without the current one"))?;
        let relays = grant.relays.into_vec();
        if relays.is_empty() || relays.iter().any(|relay| Origin::parse(&relay.url).is_err()) {
            return Err(JoinError::Invalid("no usable relay address"));
        }
        Ok(Self {
            genesis,
            keyring,
            certificate,
            inviter,
            relays,
            frontier: grant.frontier.into_vec(),
            observed: grant.observed,
            history_start: grant.history_start,
            members: grant.members.into_vec(),
        })
    }
}

/// Message 4's bytes before they are sealed; wiped when dropped, for they hold every epoch's secret.
pub(super) fn encode_answer(answer: &Answer) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(wire::encode(answer))
}
