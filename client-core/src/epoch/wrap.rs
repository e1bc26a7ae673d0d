//! Wraps: one epoch secret, sealed to each member by X-Wing (X25519 and ML-KEM-768).
//!
//! A wrap is `tag 8 ‖ X-Wing ciphertext 1,120 ‖ sealed secret 48`; the list is filled up with
//! dummies to a multiple of eight and sorted by tag, so that its length and order say little of
//! the members. The epoch id is derived from the secret: a wrap cannot bring another secret than
//! the header names.
//!
//! Source: draft-connolly-cfrg-xwing-kem-06.

use bytes::Bytes;
use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit, Nonce, Tag};
use rand_core::CryptoRng;
use x_wing::{Decapsulate, Encapsulate};
use zeroize::Zeroizing;
use zerok_sync_protocol::envelope::TAG_BYTES;
use zerok_sync_protocol::limits::ALLOW_LIST_MAX;
use zerok_sync_protocol::{EpochId, byte_id};

use super::split;
use crate::id::{DeviceId, GroupId};
use crate::keys::{EpochKeys, EpochSecret, KemPublicKey, MemberKeys, Membership, MembershipSeed};
use crate::seal::{OpenFailure, SealError};
use crate::{kdf, label};

/// Wraps come in multiples of this.
pub(super) const WRAPS_STEP: usize = 8;
/// Most wraps in an epoch envelope.
pub const WRAPS_MAX: usize = ALLOW_LIST_MAX.next_multiple_of(WRAPS_STEP);

const COUNT_BYTES: usize = 2;
const SEALED_SECRET_BYTES: usize = 32 + TAG_BYTES;
pub(super) const WRAP_BYTES: usize = WrapTag::LEN + x_wing::CIPHERTEXT_SIZE + SEALED_SECRET_BYTES;

byte_id!(
    /// `BLAKE3("0k-sync/1 wrap-to" ‖ epoch_id ‖ kem_pub)[..8]`: whose a wrap is, to those who know
    /// the key.
    WrapTag,
    8
);

impl WrapTag {
    pub(super) fn of(epoch: &EpochId, kem: &KemPublicKey) -> Self {
        let mut hash = blake3::Hasher::new();
        hash.update(label::WRAP_TAG).update(&epoch.0).update(kem.as_bytes());
        let mut tag = [0; Self::LEN];
        tag.copy_from_slice(&hash.finalize().as_bytes()[..Self::LEN]);
        Self(tag)
    }
}

#[cfg(test)]
pub(super) fn tag_of(epoch: &EpochId, kem: &KemPublicKey) -> [u8; 8] {
    WrapTag::of(epoch, kem).0
}

/// Why the secret of an epoch was not found in its envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnwrapError {
    /// The bytes are not an epoch envelope.
    #[error("{0}")]
    NotAnEpoch(#[from] OpenFailure),
    /// No wrap is for this device: it was removed, or its certificate came too late.
    #[error("epoch {0} was not handed to this device: ask another device of the group to pair it again")]
    NotForMe(EpochId),
    /// A wrap bears this device's tag and does not hold the secret. Never a reason to mint a key.
    #[error("epoch {0} was handed to this device in a damaged form: another device must hand it out again")]
    WrappedWrong(EpochId),
}

/// The secret of the epoch that `envelope` starts, from the wrap for this device. Nothing is known
/// then about who made the envelope.
///
/// # Errors
/// [`UnwrapError`].
pub fn unwrap_secret(group: &GroupId, me: &Membership, envelope: &[u8]) -> Result<EpochSecret, UnwrapError> {
    let (header, wraps, _) = split(envelope)?;
    let tag = WrapTag::of(&header.epoch, &me.keys.kem);
    let mut mine = wraps.iter().filter(|wrap| wrap.tag() == tag).peekable();
    if mine.peek().is_none() {
        return Err(UnwrapError::NotForMe(header.epoch));
    }
    mine.find_map(|wrap| wrap.open(&header.epoch, me))
        .filter(|secret| EpochKeys::derive(group, secret).id == header.epoch)
        .ok_or(UnwrapError::WrappedWrong(header.epoch))
}

/// `u16 count ‖ wraps`, as they stand in the envelope.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Wraps(Bytes);

impl Wraps {
    /// Wraps `secret` to each member and fills up with dummies: real wraps of random secrets to
    /// keys that nobody holds, so that they do not differ.
    pub(super) fn to_all(
        epoch: &EpochId,
        secret: &EpochSecret,
        members: &[MemberKeys],
        rng: &mut (impl CryptoRng + ?Sized),
    ) -> Result<Self, SealError> {
        if members.len() > ALLOW_LIST_MAX {
            return Err(SealError::TooMany { what: "devices", max: ALLOW_LIST_MAX });
        }
        let mut wraps: Vec<_> = members.iter().map(|member| wrap(epoch, secret, member, rng)).collect();
        while wraps.is_empty() || !wraps.len().is_multiple_of(WRAPS_STEP) {
            let nobody = Membership::from_seed(&MembershipSeed::from_bytes(random(rng))).keys;
            wraps.push(wrap(epoch, &EpochSecret::from_bytes(random(rng)), &nobody, rng));
        }
        wraps.sort_unstable();
        let count = u16::try_from(wraps.len()).expect("at most WRAPS_MAX").to_le_bytes();
        Ok(Self([&count[..], &wraps.concat()].concat().into()))
    }

    /// Splits the list off the front of `rest`; `None` if its count is none, or bytes are missing.
    pub(super) fn split_off(rest: &[u8]) -> Option<(Self, &[u8])> {
        let count = usize::from(u16::from_le_bytes(*rest.first_chunk::<COUNT_BYTES>()?));
        if count == 0 || count > WRAPS_MAX || !count.is_multiple_of(WRAPS_STEP) {
            return None;
        }
        let (wraps, sealed) = rest.split_at_checked(COUNT_BYTES + count * WRAP_BYTES)?;
        Some((Self(Bytes::copy_from_slice(wraps)), sealed))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// `BLAKE3(count ‖ wraps)`.
    pub(super) fn hash(&self) -> [u8; 32] {
        *blake3::hash(&self.0).as_bytes()
    }

    pub(super) fn tags(&self) -> impl Iterator<Item = WrapTag> {
        self.iter().map(|wrap| wrap.tag())
    }

    fn iter(&self) -> impl Iterator<Item = Wrap<'_>> {
        self.0[COUNT_BYTES..].as_chunks::<WRAP_BYTES>().0.iter().map(Wrap)
    }
}

struct Wrap<'a>(&'a [u8; WRAP_BYTES]);

impl Wrap<'_> {
    fn tag(&self) -> WrapTag {
        let mut tag = [0; WrapTag::LEN];
        tag.copy_from_slice(&self.0[..WrapTag::LEN]);
        WrapTag(tag)
    }

    fn open(&self, epoch: &EpochId, me: &Membership) -> Option<EpochSecret> {
        let (ciphertext, sealed) = self.0[WrapTag::LEN..].split_at(x_wing::CIPHERTEXT_SIZE);
        let (sealed, tag) = sealed.split_last_chunk::<TAG_BYTES>()?;
        let shared = Zeroizing::new(me.kem.decapsulate(&ciphertext.try_into().ok()?).0);
        let mut secret = Zeroizing::new([0; 32]);
        secret.copy_from_slice(sealed);
        wrap_cipher(&shared, epoch, &me.device())
            .decrypt_inout_detached(&Nonce::default(), &[], InOutBuf::from(secret.as_mut_slice()), &Tag::from(*tag))
            .ok()?;
        Some(EpochSecret::from_bytes(*secret))
    }
}

fn wrap(
    epoch: &EpochId,
    secret: &EpochSecret,
    to: &MemberKeys,
    rng: &mut (impl CryptoRng + ?Sized),
) -> [u8; WRAP_BYTES] {
    let (ciphertext, shared) = to.kem.encapsulation_key().encapsulate_with_rng(rng);
    let shared = Zeroizing::new(shared.0);
    let mut wrap = [0; WRAP_BYTES];
    let (tag_out, rest) = wrap.split_at_mut(WrapTag::LEN);
    let (ciphertext_out, sealed_out) = rest.split_at_mut(x_wing::CIPHERTEXT_SIZE);
    let (secret_out, aead_tag_out) = sealed_out.split_at_mut(32);
    tag_out.copy_from_slice(&WrapTag::of(epoch, &to.kem).0);
    ciphertext_out.copy_from_slice(&ciphertext);
    secret_out.copy_from_slice(secret.expose());
    let aead_tag = wrap_cipher(&shared, epoch, &to.device)
        .encrypt_inout_detached(&Nonce::default(), &[], InOutBuf::from(secret_out))
        .expect("ChaCha20-Poly1305 takes 256 GiB");
    aead_tag_out.copy_from_slice(&aead_tag);
    wrap
}

/// The zero nonce is safe: each shared secret is fresh and used for this one message.
fn wrap_cipher(shared: &[u8; 32], epoch: &EpochId, recipient: &DeviceId) -> ChaCha20Poly1305 {
    let key = kdf::derive::<32>(&[], shared, &[label::WRAP_KEY, &epoch.0, &recipient.0]);
    ChaCha20Poly1305::new(&(*key).into())
}

fn random(rng: &mut (impl CryptoRng + ?Sized)) -> [u8; 32] {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    bytes
}
