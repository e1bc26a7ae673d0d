//! The outside of a sealed blob: a 68-byte header in clear and bytes nobody but members can read.
//!
//! A relay parses this much, to check the [`BlobId`] and to tell entries from epoch envelopes;
//! sealing and opening live in `zerok-sync-core`.

use crate::id::{BlobId, EpochId};

/// The envelope format this code writes.
pub const VERSION: u8 = 1;
/// version 1 ‖ type 1 ‖ flags 2 ‖ epoch id 8 ‖ nonce 24 ‖ commitment 32.
pub const HEADER_BYTES: usize = 68;
/// Poly1305 tag of the body.
pub const TAG_BYTES: usize = 16;
/// Shortest envelope: a header and the smallest padded plaintext (256 bytes) with its tag.
pub const ENVELOPE_BYTES_MIN: usize = HEADER_BYTES + 256 + TAG_BYTES;

/// What an envelope holds; part of its key derivation, so one cannot pass for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EnvelopeType {
    /// A device's entry in the log.
    Entry = 0,
    /// The start of an epoch: wrapped secret, members, keyring.
    Epoch = 1,
    /// A presence message; never stored.
    Whisper = 2,
    /// A device's signed receipt; lives in its slot.
    Receipt = 3,
}

/// The header in clear. Everything in it is bound as associated data and signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvelopeHeader {
    /// What the envelope holds.
    pub kind: EnvelopeType,
    /// Reserved, zero today; unknown bits are refused.
    pub flags: u16,
    /// Epoch whose key seals it.
    pub epoch: EpochId,
    /// XChaCha20 nonce, and salt of the envelope's own key.
    pub nonce: [u8; 24],
    /// Commitment to the key (derived, not encrypted).
    pub commitment: [u8; 32],
}

/// Why bytes are not an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Shorter than [`ENVELOPE_BYTES_MIN`].
    #[error("envelope is cut off: {0} bytes")]
    Truncated(usize),
    /// A format this code does not know: update this device.
    #[error("envelope version {0} is not known: update this device")]
    UnknownVersion(u8),
    /// A type this code does not know: update this device.
    #[error("envelope type {0} is not known: update this device")]
    UnknownType(u8),
    /// A flag this code does not know: update this device.
    #[error("envelope flags {0:#06x} are not known: update this device")]
    UnknownFlags(u16),
}

impl EnvelopeHeader {
    /// The header's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = VERSION;
        bytes[1] = self.kind as u8;
        bytes[2..4].copy_from_slice(&self.flags.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.epoch.0);
        bytes[12..36].copy_from_slice(&self.nonce);
        bytes[36..68].copy_from_slice(&self.commitment);
        bytes
    }

    /// Splits an envelope into its header and the rest.
    ///
    /// # Errors
    /// [`EnvelopeError`] when the bytes are too short or of a version, type or flag not known.
    pub fn parse(envelope: &[u8]) -> Result<(Self, &[u8]), EnvelopeError> {
        if envelope.len() < ENVELOPE_BYTES_MIN {
            return Err(EnvelopeError::Truncated(envelope.len()));
        }
        let (header, rest) = envelope.split_at(HEADER_BYTES);
        if header[0] != VERSION {
            return Err(EnvelopeError::UnknownVersion(header[0]));
        }
        let kind = match header[1] {
            0 => EnvelopeType::Entry,
            1 => EnvelopeType::Epoch,
            2 => EnvelopeType::Whisper,
            3 => EnvelopeType::Receipt,
            other => return Err(EnvelopeError::UnknownType(other)),
        };
        let flags = u16::from_le_bytes([header[2], header[3]]);
        if flags != 0 {
            return Err(EnvelopeError::UnknownFlags(flags));
        }
        let mut epoch = [0; 8];
        epoch.copy_from_slice(&header[4..12]);
        let mut nonce = [0; 24];
        nonce.copy_from_slice(&header[12..36]);
        let mut commitment = [0; 32];
        commitment.copy_from_slice(&header[36..68]);
        Ok((Self { kind, flags, epoch: EpochId(epoch), nonce, commitment }, rest))
    }
}

/// `BLAKE3(header ‖ BLAKE3(rest))`. Anything shorter than a header hashes as all header, so the
/// function is total; such bytes never parse as an envelope.
#[must_use]
pub fn blob_id(envelope: &[u8]) -> BlobId {
    let (header, rest) = envelope.split_at(envelope.len().min(HEADER_BYTES));
    let mut hash = blake3::Hasher::new();
    hash.update(header).update(blake3::hash(rest).as_bytes());
    BlobId(*hash.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn envelope() -> Vec<u8> {
        let header = EnvelopeHeader {
            kind: EnvelopeType::Entry,
            flags: 0,
            epoch: EpochId([1; 8]),
            nonce: [2; 24],
            commitment: [3; 32],
        };
        [header.to_bytes().as_slice(), &[4; ENVELOPE_BYTES_MIN - HEADER_BYTES]].concat()
    }

    #[test]
    fn an_envelope_shorter_than_the_shortest_is_refused() {
        let envelope = envelope();
        assert!(EnvelopeHeader::parse(&envelope).is_ok());
        for len in 0..envelope.len() {
            assert_eq!(EnvelopeHeader::parse(&envelope[..len]), Err(EnvelopeError::Truncated(len)));
        }
    }

    #[test]
    fn unknown_versions_types_and_flags_are_refused_by_name() {
        for (byte, value, error) in [
            (0, 2, EnvelopeError::UnknownVersion(2)),
            (1, 4, EnvelopeError::UnknownType(4)),
            (2, 1, EnvelopeError::UnknownFlags(1)),
            (3, 1, EnvelopeError::UnknownFlags(0x100)),
        ] {
            let mut envelope = envelope();
            envelope[byte] = value;
            assert_eq!(EnvelopeHeader::parse(&envelope), Err(error));
        }
    }

    #[test]
    fn every_byte_counts_for_the_blob_id() {
        let envelope = envelope();
        let id = blob_id(&envelope);
        for position in 0..envelope.len() {
            let mut changed = envelope.clone();
            changed[position] ^= 0x80;
            assert_ne!(blob_id(&changed), id, "byte {position}");
        }
        assert_ne!(blob_id(&envelope[..envelope.len() - 1]), id);
    }

    proptest! {
        #[test]
        fn what_parses_as_an_envelope_is_written_back_the_same(
            start in prop::collection::vec(0u8..5, 4),
            rest in prop::collection::vec(any::<u8>(), 0..500),
        ) {
            let bytes = [start, rest].concat();
            if let Ok((header, rest)) = EnvelopeHeader::parse(&bytes) {
                prop_assert_eq!([header.to_bytes().as_slice(), rest].concat(), bytes);
            }
        }

        #[test]
        fn any_header_survives(kind in 0usize..4, epoch: [u8; 8], nonce: [u8; 24], commitment: [u8; 32]) {
            let kind = [EnvelopeType::Entry, EnvelopeType::Epoch, EnvelopeType::Whisper, EnvelopeType::Receipt][kind];
            let header = EnvelopeHeader { kind, flags: 0, epoch: EpochId(epoch), nonce, commitment };
            let bytes = [header.to_bytes().as_slice(), &[0; ENVELOPE_BYTES_MIN - HEADER_BYTES]].concat();
            prop_assert_eq!(EnvelopeHeader::parse(&bytes).map(|(header, _)| header), Ok(header));
        }
    }
}
