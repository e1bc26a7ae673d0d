//! The anchor: what the paper's slot at a relay holds, and what a restore trusts.
//!
//! Sealed under a key of the words, so that only their holder can have written it, when the words
//! were enrolled. It is written once: nobody has the words afterwards. It stays true all the same:
//! the group it names never changes, the epoch it names stays a link in the chain of the group's
//! epochs, and what its frontier covers stays in the log. So it proves *which* group and *at least*
//! which state of it; what came later is proven by the epochs and entries themselves.
//!
//! `version 1 ‖ nonce 24 ‖ XChaCha20-Poly1305(u32 length ‖ array ‖ zeros)`, padded as entries are.

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, KeyInit, Tag, XChaCha20Poly1305, XNonce};
use rand_core::CryptoRng;
use zeroize::Zeroizing;
use zerok_sync_protocol::limits::{ALLOW_LIST_MAX, SLOT_BYTES_MAX};
use zerok_sync_protocol::wire::{self, List};
use zerok_sync_protocol::{BlobId, EpochId, wire_struct};

use super::words::RecoveryWords;
use crate::content::SeenItem;
use crate::epoch::MemberDigest;
use crate::id::GroupId;
use crate::seal::unpad;
use crate::{kdf, label, pad};

const ANCHOR_VERSION: u8 = 1;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
const LENGTH_BYTES: usize = 4;
/// An item of the frontier takes at most 38 bytes, all other fields less than 200.
const ANCHOR_BYTES_MAX: usize = 200 + 38 * ALLOW_LIST_MAX;

// PADMÉ adds an eighth at most.
const _: () = assert!(
    1 + NONCE_BYTES + (LENGTH_BYTES + ANCHOR_BYTES_MAX) * 9 / 8 + TAG_BYTES <= SLOT_BYTES_MAX,
    "an anchor fits a slot"
);

wire_struct! {
    /// The state of the group when its words were enrolled.
    pub struct Anchor {
        /// Which group.
        group: GroupId,
        /// The envelope at the beginning of its log.
        genesis_blob_id: BlobId,
        /// The first epoch that is wrapped to the paper.
        epoch: EpochId,
        /// Its envelope.
        epoch_blob_id: BlobId,
        /// Its members, the paper among them.
        member_digest: MemberDigest,
        /// Heads of the senders' chains: what the log must cover.
        frontier: List<SeenItem, ALLOW_LIST_MAX>,
    }
}

/// The bytes were not sealed with these words, or were changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this was not written with these words")]
pub struct NotTheAnchor;

impl Anchor {
    /// Seals it under the words.
    #[must_use]
    pub fn seal(&self, words: &RecoveryWords, rng: &mut (impl CryptoRng + ?Sized)) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        rng.fill_bytes(&mut nonce);
        let array = wire::encode(self);
        let mut sealed = vec![ANCHOR_VERSION];
        sealed.extend_from_slice(&nonce);
        let start = sealed.len();
        let length = u32::try_from(array.len()).expect("below the size of a slot");
        sealed.extend_from_slice(&length.to_le_bytes());
        sealed.extend_from_slice(&array);
        sealed.resize(start + pad::padded_len(LENGTH_BYTES + array.len()), 0);
        let tag = cipher(words)
            .encrypt_inout_detached(&XNonce::from(nonce), aad(), InOutBuf::from(&mut sealed[start..]))
            .expect("XChaCha20-Poly1305 takes 256 GiB");
        sealed.extend_from_slice(&tag);
        sealed
    }

    /// Opens what [`Self::seal`] made with the same words.
    ///
    /// # Errors
    /// [`NotTheAnchor`] for anything else.
    pub fn open(words: &RecoveryWords, slot: &[u8]) -> Result<Self, NotTheAnchor> {
        if slot.len() > SLOT_BYTES_MAX {
            return Err(NotTheAnchor);
        }
        let (&version, rest) = slot.split_first().ok_or(NotTheAnchor)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(NotTheAnchor)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(NotTheAnchor)?;
        if version != ANCHOR_VERSION {
            return Err(NotTheAnchor);
        }
        let mut plaintext = Zeroizing::new(ciphertext.to_vec());
        cipher(words)
            .decrypt_inout_detached(
                &XNonce::from(*nonce),
                aad(),
                InOutBuf::from(plaintext.as_mut_slice()),
                &Tag::from(*tag),
            )
            .map_err(|_| NotTheAnchor)?;
        let array = unpad(&plaintext).map_err(|_| NotTheAnchor)?;
        wire::decode(array).map_err(|_| NotTheAnchor)
    }
}

fn cipher(words: &RecoveryWords) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&(*kdf::derive::<32>(&[], words.expose(), &[label::ANCHOR_KEY])).into())
}

fn aad() -> &'static [u8] {
    label::ANCHOR
}

/// An anchor of the group in `docs/vectors/keys.json`.
#[cfg(any(test, feature = "fuzzing", feature = "vectors"))]
pub(crate) fn fixture() -> Anchor {
    use crate::content::SeenHash;
    use crate::fixtures::{Group, membership};
    let group = Group::new(0x67);
    let founder = group.founder.device();
    let item = SeenItem { tag: founder.tag(), seq: 7, hash: SeenHash([0xb7; 16]) };
    Anchor {
        group: group.genesis.group(),
        genesis_blob_id: BlobId([0xb1; 32]),
        epoch: EpochId([0xe1; 8]),
        epoch_blob_id: BlobId([0xb2; 32]),
        member_digest: MemberDigest::of([founder, membership(2).device()]),
        frontier: List::try_from(vec![item]).expect("one fits"),
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;
    use crate::content::SeenHash;
    use crate::fixtures::membership;

    fn anchor(devices: u8) -> Anchor {
        let item = |byte: u8| SeenItem {
            tag: membership(byte).device().tag(),
            seq: u64::MAX - u64::from(byte),
            hash: SeenHash([byte; 16]),
        };
        Anchor {
            group: GroupId([1; 32]),
            genesis_blob_id: BlobId([2; 32]),
            epoch: EpochId([3; 8]),
            epoch_blob_id: BlobId([4; 32]),
            member_digest: MemberDigest([5; 32]),
            frontier: List::try_from((0..devices).map(item).collect::<Vec<_>>()).expect("no more than fit"),
        }
    }

    fn sealed(devices: u8) -> (RecoveryWords, Vec<u8>) {
        let mut rng = ChaCha20Rng::from_seed([9; 32]);
        let words = RecoveryWords::generate(&mut rng);
        let slot = anchor(devices).seal(&words, &mut rng);
        (words, slot)
    }

    #[test]
    fn an_anchor_opens_with_its_words_and_with_no_others() {
        let (words, slot) = sealed(3);
        assert_eq!(Anchor::open(&words, &slot), Ok(anchor(3)));
        let others = RecoveryWords::generate(&mut ChaCha20Rng::from_seed([8; 32]));
        assert_eq!(Anchor::open(&others, &slot), Err(NotTheAnchor));
    }

    #[test]
    fn every_changed_byte_and_every_cut_off_length_is_noticed() {
        let (words, slot) = sealed(2);
        for at in 0..slot.len() {
            let mut changed = slot.clone();
            changed[at] ^= 1;
            assert_eq!(Anchor::open(&words, &changed), Err(NotTheAnchor), "byte {at}");
            assert_eq!(Anchor::open(&words, &slot[..at]), Err(NotTheAnchor), "{at} bytes");
        }
    }

    #[test]
    fn the_anchor_of_the_largest_group_fits_a_slot_and_small_ones_are_of_one_size() {
        let largest = sealed(u8::try_from(ALLOW_LIST_MAX).expect("65")).1;
        assert!(largest.len() <= SLOT_BYTES_MAX, "{}", largest.len());
        assert_eq!(sealed(1).1.len(), sealed(2).1.len());
    }
}
