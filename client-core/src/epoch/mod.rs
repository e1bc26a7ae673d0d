//! Epoch envelopes: how a generation of the group's keys begins.
//!
//! An epoch envelope is sealed under the *new* data key and carries that epoch's secret wrapped to
//! each member ([`wrap`]), who is left, and a keyring of the older secrets, sealed. As with entries
//! there are three steps: [`open_epoch`] (a claim), [`DecryptedEpoch::verify`] (its author is
//! proven), and [`SignedEpoch::check_succession`] (the author could do that; see [`succession`]).
//!
//! `header ‖ u16 count ‖ wraps ‖ AEAD(body)`, with `header ‖ GroupId ‖ BLAKE3(count ‖ wraps)` as
//! associated data *and* under the signature: otherwise a member could swap the wraps under
//! another's signature and lock devices out in its name.

mod succession;
#[cfg(test)]
mod tests;
mod wrap;

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use rand_core::CryptoRng;
use zeroize::Zeroizing;
use zerok_sync_protocol::envelope::{self, HEADER_BYTES};
use zerok_sync_protocol::limits::{ALLOW_LIST_MAX, EPOCH_ENVELOPE_BYTES_MAX};
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{
    BlobId, EnvelopeHeader, EnvelopeType, EpochId, NoisePublicKey, Signature, byte_id, wire, wire_struct,
};

pub use self::succession::{AcceptedEpoch, EpochRefusal, Predecessor};
use self::wrap::Wraps;
pub use self::wrap::{UnwrapError, WRAPS_MAX, unwrap_secret};
use crate::content::{SEEN_ITEMS_MAX, SeenItem};
use crate::genesis::Genesis;
use crate::id::{DeviceId, GroupId};
use crate::keyring::Keyring;
use crate::keys::{EpochKeys, EpochSecret, MemberKeys, Membership};
use crate::label;
use crate::seal::{EnvelopeKeys, OpenFailure, SealError, Sealed, split_signature, unpad, verify_signature};

/// Secrets that a device hands on, in an epoch envelope (those of older epochs) or in a grant: one for
/// each rotation in the group's life.
pub const KEYRING_MAX: usize = 1_000;
/// Members one rotation removes: all but one.
pub const REMOVED_MAX: usize = ALLOW_LIST_MAX;

wire_struct! {
    /// What the author of an epoch says.
    pub struct EpochBody {
        /// Who rotated, or founded.
        sender: DeviceId,
        /// The sender's latest entry: an epoch envelope consumes no sequence number. Epoch 0 is
        /// its founder's entry 1.
        seq: u64,
        /// That entry's blob id. In epoch 0 zero.
        prev: BlobId,
        /// Heads of other senders' chains, as in an entry.
        seen: List<SeenItem, SEEN_ITEMS_MAX>,
        /// The epoch before; zero in epoch 0.
        previous_epoch: EpochId,
        /// Its envelope; zero in epoch 0.
        previous_blob_id: BlobId,
        /// Who is no longer a member, and the last entry of theirs that counts.
        removed: List<Removed, REMOVED_MAX>,
        /// Digest of the members from now on.
        member_digest: MemberDigest,
        /// Noise keys that relays are told to admit.
        allow: List<NoisePublicKey, ALLOW_LIST_MAX>,
        /// The secrets of all older epochs, oldest first.
        keyring: List<EpochSecret, KEYRING_MAX>,
        /// `1 + max stored`, as in an entry.
        lamport: u64,
        /// The author's wall clock, Unix milliseconds. Information only.
        sent_at_ms: u64,
        /// The genesis body in epoch 0, empty later.
        genesis: Bytes,
    }
}

wire_struct! {
    /// A removed member and the end of its chain.
    pub struct Removed {
        /// Who.
        device: DeviceId,
        /// Sequence number of the last entry that counts.
        last_seq: u64,
        /// Its id.
        last_blob_id: BlobId,
    }
}

byte_id!(
    /// BLAKE3 of the members' sorted `DeviceId`s.
    MemberDigest,
    32
);

impl MemberDigest {
    /// The digest of these members, in whatever order they come.
    #[must_use]
    pub fn of(members: impl IntoIterator<Item = DeviceId>) -> Self {
        let mut members: Vec<_> = members.into_iter().collect();
        members.sort_unstable();
        let mut hash = blake3::Hasher::new();
        for member in &members {
            hash.update(&member.0);
        }
        Self(*hash.finalize().as_bytes())
    }
}

/// Seals epoch `secret`, wrapped to each of `members`, and signs it. Draws the nonce, the wraps'
/// randomness and the dummies from `rng`.
///
/// # Errors
/// [`SealError`] if there are more members than a group can have, or the body is too large.
pub fn seal_epoch(
    group: &GroupId,
    secret: &EpochSecret,
    signing: &SigningKey,
    members: &[MemberKeys],
    body: &EpochBody,
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<Sealed, SealError> {
    let epoch = EpochKeys::derive(group, secret);
    let mut nonce = [0; 24];
    rng.fill_bytes(&mut nonce);
    let keys = EnvelopeKeys::derive(epoch.data.expose(), EnvelopeType::Epoch, &epoch.id, group, &nonce);
    let header = keys.header(EnvelopeType::Epoch, epoch.id, nonce);
    let wraps = Wraps::to_all(&epoch.id, secret, members, rng)?;
    let wraps_hash = wraps.hash();
    // Holds the keyring.
    let array = Zeroizing::new(wire::encode(body));
    let signature = signing.sign(&epoch_message(group, &header, &wraps_hash, &array)).to_bytes();
    let mut bytes = [&header, wraps.as_bytes()].concat();
    keys.encrypt_onto(&mut bytes, &nonce, &[&header, &group.0, &wraps_hash], &[&array, &signature])?;
    if bytes.len() > EPOCH_ENVELOPE_BYTES_MAX {
        return Err(SealError::TooLarge { bytes: bytes.len(), bytes_max: EPOCH_ENVELOPE_BYTES_MAX });
    }
    Ok(Sealed::new(bytes))
}

/// Epoch 0: the group's first envelope and its founder's entry 1. `keyring` holds the first secret.
pub fn seal_genesis(
    genesis: &Genesis,
    keyring: &Keyring,
    founder: &Membership,
    sent_at_ms: u64,
    rng: &mut (impl CryptoRng + ?Sized),
) -> Sealed {
    let body = EpochBody {
        sender: founder.device(),
        seq: 1,
        prev: BlobId::ZERO,
        seen: List::empty(),
        previous_epoch: EpochId::ZERO,
        previous_blob_id: BlobId::ZERO,
        removed: List::empty(),
        member_digest: MemberDigest::of([founder.device()]),
        allow: vec![founder.keys.noise].try_into().expect("one fits"),
        keyring: List::empty(),
        lamport: 1,
        sent_at_ms,
        genesis: genesis.bytes().clone(),
    };
    let members = std::slice::from_ref(&founder.keys);
    seal_epoch(keyring.group(), keyring.current_secret(), &founder.signing, members, &body, rng)
        .expect("one member and a genesis body are far below every limit")
}

/// Opens an epoch envelope with the keys of the epoch it starts.
///
/// # Errors
/// [`OpenFailure`]; nothing of the body is known then.
pub fn open_epoch(group: &GroupId, epoch: &EpochKeys, envelope: &[u8]) -> Result<DecryptedEpoch, OpenFailure> {
    let (header, wraps, sealed) = split(envelope)?;
    if header.epoch != epoch.id {
        return Err(OpenFailure::UnknownEpoch(header.epoch));
    }
    let keys = EnvelopeKeys::derive(epoch.data.expose(), header.kind, &header.epoch, group, &header.nonce);
    let wraps_hash = wraps.hash();
    let plaintext = keys.decrypt(&header, &[&header.to_bytes(), &group.0, &wraps_hash], sealed)?;
    let (array, signature) = split_signature(unpad(&plaintext)?)?;
    let body = wire::decode(array).map_err(|_| OpenFailure::Malformed("not an epoch"))?;
    let message = Zeroizing::new(epoch_message(group, &header.to_bytes(), &wraps_hash, array));
    Ok(DecryptedEpoch(Box::new(OpenedEpoch {
        group: *group,
        blob_id: envelope::blob_id(envelope),
        header,
        wraps,
        message,
        signature,
        body,
    })))
}

/// An epoch envelope that opened under its own keys. Who made it is not known yet.
#[derive(Clone)]
pub struct DecryptedEpoch(Box<OpenedEpoch>);

#[derive(Clone)]
struct OpenedEpoch {
    group: GroupId,
    header: EnvelopeHeader,
    blob_id: BlobId,
    wraps: Wraps,
    /// What the signature covers, from the bytes as they were received.
    message: Zeroizing<Vec<u8>>,
    signature: Signature,
    body: EpochBody,
}

impl DecryptedEpoch {
    /// What the envelope says of itself; not to be believed yet.
    #[must_use]
    pub fn claims(&self) -> &EpochBody {
        &self.0.body
    }

    /// The envelope's id.
    #[must_use]
    pub fn blob_id(&self) -> BlobId {
        self.0.blob_id
    }

    /// The envelope's header; its epoch is the new one.
    #[must_use]
    pub fn header(&self) -> &EnvelopeHeader {
        &self.0.header
    }

    /// Checks the author's signature (strict Ed25519).
    ///
    /// # Errors
    /// Gives itself back when the sender it names did not sign it.
    pub fn verify(self) -> Result<SignedEpoch, Self> {
        if verify_signature(&self.0.body.sender, &self.0.message, &self.0.signature) {
            Ok(SignedEpoch(self))
        } else {
            Err(self)
        }
    }
}

impl fmt::Debug for DecryptedEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DecryptedEpoch({}, claims to be by {})", self.0.blob_id, self.0.body.sender)
    }
}

/// An epoch whose author is proven, but not yet that the author could start it.
#[derive(Clone)]
pub struct SignedEpoch(DecryptedEpoch);

impl SignedEpoch {
    /// The envelope's id.
    #[must_use]
    pub fn blob_id(&self) -> BlobId {
        self.0.blob_id()
    }

    /// The envelope's header; its epoch is the new one.
    #[must_use]
    pub fn header(&self) -> &EnvelopeHeader {
        self.0.header()
    }

    fn group(&self) -> &GroupId {
        &self.0.0.group
    }

    fn wraps(&self) -> &Wraps {
        &self.0.0.wraps
    }
}

impl Deref for SignedEpoch {
    type Target = EpochBody;
    fn deref(&self) -> &EpochBody {
        self.0.claims()
    }
}

impl fmt::Debug for SignedEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedEpoch({}, by {})", self.blob_id(), self.sender)
    }
}

/// A list of wraps for nobody, for fuzzing what stands behind it.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn no_wraps() -> Vec<u8> {
    let mut list = vec![0; 2 + wrap::WRAPS_STEP * wrap::WRAP_BYTES];
    list[0] = 8;
    list
}

/// Splits an epoch envelope into header, wraps and sealed body.
fn split(envelope: &[u8]) -> Result<(EnvelopeHeader, Wraps, &[u8]), OpenFailure> {
    if envelope.len() > EPOCH_ENVELOPE_BYTES_MAX {
        return Err(OpenFailure::Corrupt("longer than an epoch can be"));
    }
    let (header, rest) = EnvelopeHeader::parse(envelope)?;
    if header.kind != EnvelopeType::Epoch {
        return Err(OpenFailure::WrongType(header.kind));
    }
    let (wraps, sealed) = Wraps::split_off(rest).ok_or(OpenFailure::Corrupt("not a list of wraps"))?;
    Ok((header, wraps, sealed))
}

fn epoch_message(group: &GroupId, header: &[u8; HEADER_BYTES], wraps_hash: &[u8; 32], array: &[u8]) -> Vec<u8> {
    [label::SIGN_EPOCH, &group.0, header, wraps_hash, array].concat()
}
