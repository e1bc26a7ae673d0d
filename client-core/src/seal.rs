//! Sealing entries, and the two steps back: *decrypted* is not *authenticated*.
//!
//! A group key proves only that some member made an envelope. So [`open`] yields [`Decrypted`],
//! whose content is a claim; [`Authenticated`], the only thing an app may see, exists solely
//! through [`Decrypted::verify`] (Ed25519 over the received bytes) or [`Decrypted::vouched_by`] (the
//! hash chain under an authenticated successor).
//!
//! Construction (`docs/PROTOCOL.md` §5): `k_enc ‖ k_com = HKDF-Expand(data key, label ‖ version ‖ type ‖
//! epoch ‖ GroupId ‖ nonce, 64)`; `k_com` stands in the header, so an envelope opens under one key
//! only (key commitment as in Albertini et al., USENIX Security 2022); XChaCha20-Poly1305 with the
//! header and the GroupId as associated data.

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use chacha20poly1305::aead::inout::InOutBuf;
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};
use zerok_sync_protocol::aead::{self, AeadNonce};
use zerok_sync_protocol::envelope::{self, EnvelopeError, HEADER_BYTES, TAG_BYTES, VERSION};
use zerok_sync_protocol::limits::{BLOB_BYTES_MAX, ENVELOPE_BYTES_MAX_CEILING};
use zerok_sync_protocol::{BlobId, EnvelopeHeader, EnvelopeType, EpochId, Signature, wire};

use crate::content::Content;
use crate::id::{DeviceId, GroupId};
use crate::keyring::Keyring;
use crate::keys::{DataKey, EpochKeys};
use crate::{kdf, label, pad};

/// Length of the signature behind the array.
const SIGNATURE_BYTES: usize = Signature::LEN;
/// Length prefix of a padded plaintext.
const LENGTH_BYTES: usize = 4;
/// Most that a content's fields other than the body take in MessagePack: 65 `seen` items of 38
/// bytes, an `observed` of 48, ids and integers.
const CONTENT_OVERHEAD_BYTES_MAX: usize = 2_688;

/// A fresh envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// What travels.
    pub envelope: Bytes,
    /// Its id.
    pub blob_id: BlobId,
}

/// Why something was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No relay would take it.
    #[error("sealed, this would be {bytes} bytes; at most {bytes_max} are possible: split it")]
    TooLarge {
        /// Size of the envelope.
        bytes: usize,
        /// The protocol's ceiling.
        bytes_max: usize,
    },
    /// More devices or epochs than an epoch envelope has room for.
    #[error("a group has at most {max} {what}: remove some, or begin a new group")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: usize,
    },
}

/// Why an envelope did not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenFailure {
    /// Sealed under an epoch whose secret is not held: it may still come.
    #[error("sealed under epoch {0}, whose secret this device does not hold (yet)")]
    UnknownEpoch(EpochId),
    /// A version, type or flag that this code does not know. Nothing vouches for the header yet, so
    /// believe it only once the envelope's id is named by something authenticated.
    #[error("{0}")]
    UpdateNeeded(EnvelopeError),
    /// An envelope of another type than the one that was to be opened.
    #[error("this is an envelope of type {0:?}, opened as another")]
    WrongType(EnvelopeType),
    /// Damaged on the way, sealed for another group, or made by somebody without the key.
    #[error("the envelope does not open ({0}): damaged, or not of this group")]
    Corrupt(&'static str),
    /// Properly sealed by a holder of the group's key, who put in what no honest device does.
    #[error("the envelope opens, but a member put something malformed in it ({0})")]
    Malformed(&'static str),
}

impl From<EnvelopeError> for OpenFailure {
    fn from(error: EnvelopeError) -> Self {
        match error {
            EnvelopeError::Truncated(_) => Self::Corrupt("cut off"),
            newer => Self::UpdateNeeded(newer),
        }
    }
}

/// Seals an entry. `nonce` must be fresh random bytes: it is never used for two contents.
///
/// # Errors
/// [`SealError::TooLarge`] beyond the protocol's ceiling; a relay's own, lower limit is the
/// caller's to keep ([`max_blob_bytes`]).
pub fn seal(
    group: &GroupId,
    epoch: &EpochKeys,
    signing: &SigningKey,
    nonce: [u8; 24],
    content: &Content,
) -> Result<Sealed, SealError> {
    let keys = EnvelopeKeys::derive(epoch.data.expose(), EnvelopeType::Entry, &epoch.id, group, &nonce);
    let header = keys.header(EnvelopeType::Entry, epoch.id, nonce);
    let array = wire::encode(content);
    let signature = signing.sign(&entry_message(group, &header, &array)).to_bytes();
    let mut bytes = header.to_vec();
    keys.encrypt_onto(&mut bytes, &nonce, &[&header, &group.0], &[&array, &signature])?;
    Ok(Sealed::new(bytes))
}

/// Opens an entry with whichever epoch of the keyring it names.
///
/// # Errors
/// [`OpenFailure`]; nothing of the content is known then.
pub fn open(keyring: &Keyring, envelope: &[u8]) -> Result<Decrypted, OpenFailure> {
    open_known(keyring, envelope, envelope::blob_id(envelope))
}

/// [`open`] for who has hashed these bytes already: `blob_id` must be what came out.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_known(keyring: &Keyring, envelope: &[u8], blob_id: BlobId) -> Result<Decrypted, OpenFailure> {
    debug_assert_eq!(blob_id, envelope::blob_id(envelope));
    open_under(keyring.group(), |epoch| keyring.get(epoch).map(|keys| &keys.data), envelope, blob_id)
}

/// [`open`] for who holds data keys and no keyring.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_with<'k>(
    group: &GroupId,
    key_of: impl FnOnce(&EpochId) -> Option<&'k DataKey>,
    envelope: &[u8],
) -> Result<Decrypted, OpenFailure> {
    open_under(group, key_of, envelope, envelope::blob_id(envelope))
}

fn open_under<'k>(
    group: &GroupId,
    key_of: impl FnOnce(&EpochId) -> Option<&'k DataKey>,
    envelope: &[u8],
    blob_id: BlobId,
) -> Result<Decrypted, OpenFailure> {
    let (header, sealed) = EnvelopeHeader::parse(envelope)?;
    if header.kind != EnvelopeType::Entry {
        return Err(OpenFailure::WrongType(header.kind));
    }
    let data = key_of(&header.epoch).ok_or(OpenFailure::UnknownEpoch(header.epoch))?;
    let group = *group;
    let header_bytes = header.to_bytes();
    let keys = EnvelopeKeys::derive(data.expose(), header.kind, &header.epoch, &group, &header.nonce);
    let plaintext = keys.decrypt(&header, &[&header_bytes, &group.0], sealed)?;
    let (array, signature) = split_signature(unpad(&plaintext)?)?;
    let content = wire::decode(array).map_err(|_| OpenFailure::Malformed("not an entry"))?;
    let array_at = LENGTH_BYTES..LENGTH_BYTES + array.len();
    let plaintext = Bytes::from_owner(plaintext);
    Ok(Decrypted(Box::new(Opened { group, header, blob_id, array: plaintext.slice(array_at), signature, content })))
}

/// The largest blob whose envelope fits into `envelope_bytes_max`, whatever else the entry says.
/// At most [`BLOB_BYTES_MAX`]; zero if not even an empty one is sure to fit.
#[must_use]
pub fn max_blob_bytes(envelope_bytes_max: usize) -> usize {
    envelope_bytes_max
        .checked_sub(HEADER_BYTES + TAG_BYTES)
        .and_then(pad::unpadded_max)
        .and_then(|plaintext| plaintext.checked_sub(LENGTH_BYTES + CONTENT_OVERHEAD_BYTES_MAX + SIGNATURE_BYTES))
        .map_or(0, |fits| fits.min(BLOB_BYTES_MAX))
}

/// An envelope that opened under the group's key. Who made it is not known yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Decrypted(Box<Opened>);

#[derive(Clone, PartialEq, Eq)]
struct Opened {
    group: GroupId,
    header: EnvelopeHeader,
    blob_id: BlobId,
    /// The array exactly as it was received: what the signature covers.
    array: Bytes,
    signature: Signature,
    content: Content,
}

impl Decrypted {
    /// What the envelope says of itself. Good for finding its place and its supposed sender, not
    /// for believing it.
    #[must_use]
    pub fn claims(&self) -> &Content {
        &self.0.content
    }

    /// [`Self::claims`], to keep.
    pub(crate) fn into_claims(self) -> Content {
        self.0.content
    }

    /// The envelope's id.
    #[must_use]
    pub fn blob_id(&self) -> BlobId {
        self.0.blob_id
    }

    /// The envelope's header.
    #[must_use]
    pub fn header(&self) -> &EnvelopeHeader {
        &self.0.header
    }

    /// Checks the sender's signature (strict Ed25519: no small-order keys, no malleability).
    ///
    /// # Errors
    /// Gives itself back when the sender it names did not sign it.
    pub fn verify(self) -> Result<Authenticated, Self> {
        let message = entry_message(&self.0.group, &self.0.header.to_bytes(), &self.0.array);
        if verify_signature(&self.0.content.sender, &message, &self.0.signature) {
            Ok(Authenticated(self))
        } else {
            Err(self)
        }
    }

    /// Accepts the word of the same sender's next entry: its `prev` names exactly these bytes, and
    /// it was signed, or is vouched for itself.
    ///
    /// # Errors
    /// Gives itself back when `successor` is not this entry's successor.
    pub fn vouched_by(self, successor: &Authenticated) -> Result<Authenticated, Self> {
        let (entry, next) = (&self.0, &successor.0.0);
        let is_successor = entry.group == next.group
            && entry.content.sender == next.content.sender
            && entry.content.seq.checked_add(1) == Some(next.content.seq)
            && entry.blob_id == next.content.prev;
        if is_successor { Ok(Authenticated(self)) } else { Err(self) }
    }
}

impl fmt::Debug for Decrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Decrypted({}, claims seq {} of {})", self.0.blob_id, self.0.content.seq, self.0.content.sender)
    }
}

/// An entry whose author is proven. Exists only through [`Decrypted::verify`] and
/// [`Decrypted::vouched_by`].
///
/// Whether that author is a member, and whether this is the place for it, is for the chain to say.
#[derive(Clone, PartialEq, Eq)]
pub struct Authenticated(Decrypted);

impl Authenticated {
    /// The envelope's id.
    #[must_use]
    pub fn blob_id(&self) -> BlobId {
        self.0.blob_id()
    }

    /// The envelope's header.
    #[must_use]
    pub fn header(&self) -> &EnvelopeHeader {
        self.0.header()
    }

    /// The group it was sealed for.
    #[must_use]
    pub fn group(&self) -> &GroupId {
        &self.0.0.group
    }

    /// The content, without the proof.
    #[must_use]
    pub fn into_content(self) -> Content {
        self.0.0.content
    }
}

impl Deref for Authenticated {
    type Target = Content;
    fn deref(&self) -> &Content {
        self.0.claims()
    }
}

impl fmt::Debug for Authenticated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authenticated({}, seq {} of {})", self.blob_id(), self.seq, self.sender)
    }
}

impl Sealed {
    pub(crate) fn new(envelope: Vec<u8>) -> Self {
        Self { blob_id: envelope::blob_id(&envelope), envelope: envelope.into() }
    }
}

/// `label ‖ GroupId ‖ header ‖ array`. The header is part of it: otherwise a member could re-seal
/// another's signed array and make it look as if that one had forked.
fn entry_message(group: &GroupId, header: &[u8; HEADER_BYTES], array: &[u8]) -> Vec<u8> {
    [label::SIGN_ENTRY, &group.0, header, array].concat()
}

/// Strict verification under a device's key; a key that is none verifies nothing.
pub(crate) fn verify_signature(device: &DeviceId, message: &[u8], signature: &Signature) -> bool {
    VerifyingKey::from_bytes(&device.0)
        .is_ok_and(|key| key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&signature.0)).is_ok())
}

/// One envelope's own key and the commitment to it.
pub(crate) struct EnvelopeKeys {
    encryption: Zeroizing<[u8; 32]>,
    commitment: [u8; 32],
}

impl EnvelopeKeys {
    pub(crate) fn derive(
        key: &[u8; 32],
        kind: EnvelopeType,
        epoch: &EpochId,
        group: &GroupId,
        nonce: &[u8; 24],
    ) -> Self {
        let both = kdf::expand::<64>(key, &[label::SEAL, &[VERSION, kind as u8], &epoch.0, &group.0, nonce]);
        let mut keys = Self { encryption: Zeroizing::new([0; 32]), commitment: [0; 32] };
        keys.encryption.copy_from_slice(&both[..32]);
        keys.commitment.copy_from_slice(&both[32..]);
        keys
    }

    pub(crate) fn header(&self, kind: EnvelopeType, epoch: EpochId, nonce: [u8; 24]) -> [u8; HEADER_BYTES] {
        EnvelopeHeader { kind, flags: 0, epoch, nonce, commitment: self.commitment }.to_bytes()
    }

    /// Appends `AEAD(u32 length ‖ content ‖ zeros)` to `envelope`.
    pub(crate) fn encrypt_onto(
        &self,
        envelope: &mut Vec<u8>,
        nonce: &[u8; 24],
        aad: &[&[u8]],
        content: &[&[u8]],
    ) -> Result<(), SealError> {
        let length: usize = content.iter().map(|part| part.len()).sum();
        let padded = pad::padded_len(LENGTH_BYTES.saturating_add(length));
        let bytes_max = ENVELOPE_BYTES_MAX_CEILING as usize;
        let bytes = envelope.len().saturating_add(padded).saturating_add(TAG_BYTES);
        if bytes > bytes_max {
            return Err(SealError::TooLarge { bytes, bytes_max });
        }
        let start = envelope.len();
        // Reserved at once, so that no plaintext is left behind in a smaller allocation.
        envelope.reserve_exact(padded + TAG_BYTES);
        let length = u32::try_from(length).expect("below the ceiling, which is below 4 GiB");
        envelope.extend_from_slice(&length.to_le_bytes());
        content.iter().for_each(|part| envelope.extend_from_slice(part));
        envelope.resize(start + padded, 0);
        let buffer = InOutBuf::from(&mut envelope[start..]);
        let tag = aead::encrypt(&self.encryption, AeadNonce::Long(*nonce), &aad.concat(), buffer);
        envelope.extend_from_slice(&tag);
        Ok(())
    }

    /// Opens what [`Self::encrypt_onto`] appended; the result is still padded.
    pub(crate) fn decrypt(
        &self,
        header: &EnvelopeHeader,
        aad: &[&[u8]],
        sealed: &[u8],
    ) -> Result<Plaintext, OpenFailure> {
        if !bool::from(self.commitment.ct_eq(&header.commitment)) {
            return Err(OpenFailure::Corrupt("another key"));
        }
        let (ciphertext, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(OpenFailure::Corrupt("cut off"))?;
        let mut plaintext = Plaintext(ciphertext.to_vec());
        let buffer = InOutBuf::from(plaintext.0.as_mut_slice());
        aead::decrypt(&self.encryption, AeadNonce::Long(header.nonce), &aad.concat(), buffer, *tag)
            .map_err(|_| OpenFailure::Corrupt("changed bytes"))?;
        Ok(plaintext)
    }
}

/// The content of a padded plaintext. Its size must be exactly what PADMÉ gives and the padding
/// zero, so that padding carries nothing.
pub(crate) fn unpad(plaintext: &[u8]) -> Result<&[u8], OpenFailure> {
    let (length, padded) = plaintext.split_first_chunk::<LENGTH_BYTES>().ok_or(OpenFailure::Malformed("no length"))?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > padded.len() || pad::padded_len(LENGTH_BYTES + length) != plaintext.len() {
        return Err(OpenFailure::Malformed("wrong padded size"));
    }
    let (content, padding) = padded.split_at(length);
    if padding.iter().any(|&byte| byte != 0) {
        return Err(OpenFailure::Malformed("padding is not zero"));
    }
    Ok(content)
}

/// Splits a content into its array and the signature behind it.
pub(crate) fn split_signature(content: &[u8]) -> Result<(&[u8], Signature), OpenFailure> {
    let (array, signature) =
        content.split_last_chunk::<SIGNATURE_BYTES>().ok_or(OpenFailure::Malformed("no signature"))?;
    Ok((array, Signature(*signature)))
}

/// A plaintext: wiped with its last reference, in one sweep, where `Zeroizing<Vec<u8>>` goes byte by
/// byte.
pub(crate) struct Plaintext(Vec<u8>);

impl AsRef<[u8]> for Plaintext {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Plaintext {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Plaintext {
    fn drop(&mut self) {
        self.0.as_mut_slice().zeroize();
    }
}
