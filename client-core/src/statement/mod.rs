//! What a device says outside the log: a *receipt* of what it has, and *whispers* to who is there.
//!
//! Both are envelopes of a type and under a key of their own, signed inside by the device that they
//! name, over the same bytes as an entry's signature covers (`docs/PROTOCOL.md` §12). A value that
//! comes out of [`open`] was signed by its sender; whether that is a member, and whether it is new,
//! is for the engine to say.

mod receipt;
#[cfg(test)]
mod tests;
mod whisper;

use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use zerok_sync_protocol::envelope::HEADER_BYTES;
use zerok_sync_protocol::limits::{SLOT_BYTES_MAX, WHISPER_BYTES_MAX};
use zerok_sync_protocol::wire::{self, Wire};
use zerok_sync_protocol::{EnvelopeHeader, EnvelopeType};

pub use receipt::{Receipt, Vouch};
pub use whisper::{ECHO_MAX, SessionId, WHISPER_BODY_BYTES_MAX, Whisper, WhisperBody};

use crate::id::{DeviceId, GroupId};
use crate::keyring::Keyring;
use crate::keys::EpochKeys;
use crate::seal::{self, EnvelopeKeys, OpenFailure};

/// Longest envelope of a statement: what a slot holds, and a whisper.
const STATEMENT_BYTES_MAX: usize = SLOT_BYTES_MAX;
const _: () = assert!(WHISPER_BYTES_MAX == STATEMENT_BYTES_MAX);

/// A kind of statement.
pub trait Statement: Wire {
    /// Of its envelope.
    const KIND: EnvelopeType;
    /// What its signature covers begins so.
    const LABEL: &'static [u8];

    /// What it is sealed under.
    fn key(epoch: &EpochKeys) -> &[u8; 32];

    /// Who says so.
    fn sender(&self) -> DeviceId;
}

/// Seals a statement under an epoch's key for its kind. `nonce` must be fresh random bytes.
///
/// # Panics
/// Never: every field of a statement is bounded, and all of them together fit.
#[must_use]
pub fn seal<S: Statement>(
    group: &GroupId,
    epoch: &EpochKeys,
    signing: &SigningKey,
    nonce: [u8; 24],
    statement: &S,
) -> Bytes {
    let keys = EnvelopeKeys::derive(S::key(epoch), S::KIND, &epoch.id, group, &nonce);
    let header = keys.header(S::KIND, epoch.id, nonce);
    let array = wire::encode(statement);
    let signature = signing.sign(&message::<S>(group, &header, &array)).to_bytes();
    let mut bytes = header.to_vec();
    keys.encrypt_onto(&mut bytes, &nonce, &[&header, &group.0], &[&array, &signature])
        .expect("far below the longest envelope");
    debug_assert!(bytes.len() <= STATEMENT_BYTES_MAX, "its fields are bounded so that it fits");
    bytes.into()
}

/// Opens a statement with whichever epoch of the keyring it names, and checks its signature.
///
/// # Errors
/// [`OpenFailure`]; nothing of it is believed then.
pub fn open<S: Statement>(keyring: &Keyring, envelope: &[u8]) -> Result<S, OpenFailure> {
    if envelope.len() > STATEMENT_BYTES_MAX {
        return Err(OpenFailure::Malformed("too long"));
    }
    let (header, sealed) = EnvelopeHeader::parse(envelope)?;
    if header.kind != S::KIND {
        return Err(OpenFailure::WrongType(header.kind));
    }
    let epoch = keyring.get(&header.epoch).ok_or(OpenFailure::UnknownEpoch(header.epoch))?;
    let group = keyring.group();
    let header_bytes = header.to_bytes();
    let keys = EnvelopeKeys::derive(S::key(epoch), S::KIND, &header.epoch, group, &header.nonce);
    let plaintext = keys.decrypt(&header, &[&header_bytes, &group.0], sealed)?;
    let (array, signature) = seal::split_signature(seal::unpad(plaintext.as_ref())?)?;
    let statement: S = wire::decode(array).map_err(|_| OpenFailure::Malformed("not a statement"))?;
    if !seal::verify_signature(&statement.sender(), &message::<S>(group, &header_bytes, array), &signature) {
        return Err(OpenFailure::Malformed("not signed by whom it names"));
    }
    Ok(statement)
}

/// `label ‖ GroupId ‖ header ‖ array`, as for entries.
fn message<S: Statement>(group: &GroupId, header: &[u8; HEADER_BYTES], array: &[u8]) -> Vec<u8> {
    [S::LABEL, &group.0, header, array].concat()
}
