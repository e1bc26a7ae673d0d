//! What messages 3, 4 and 5 carry inside the channel. Messages 1 and 2 carry 32 bytes each.
//!
//! What is signed travels as the bytes that were signed, so that the received bytes are verified
//! before anything is parsed.

use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use zerok_sync_protocol::{Signature, byte_id, wire_enum, wire_struct};

use super::digits::NONCE_BYTES;
use crate::id::DeviceId;
use crate::label;
use crate::seal::verify_signature;

byte_id!(
    /// `r_j`: opens the commitment of message 1.
    JoinerNonce,
    NONCE_BYTES
);

wire_struct! {
    /// Message 3: who joins.
    pub struct Introduction {
        /// Opens the commitment.
        nonce: JoinerNonce,
        /// A [`crate::certificate::Card`].
        card: Bytes,
        /// By the device on the card, over `"0k-sync/1 card" ‖ h2 ‖ card`.
        signature: Signature,
    }
}

wire_enum! {
    /// Message 4: the inviting person's answer.
    pub enum Answer {
        /// Come in.
        0 => Granted {
            /// A [`super::grant::Grant`].
            grant: Bytes,
            /// By the inviter, over `"0k-sync/1 grant" ‖ h3 ‖ grant`.
            signature: Signature,
        },
        /// No.
        1 => Declined {},
        /// The digits that were typed are not the ones that were shown.
        2 => WrongDigits {},
    }
}

wire_enum! {
    /// Message 5: the joiner's confirmation.
    pub enum Confirmation {
        /// The grant is on disk: the joiner can finish alone.
        0 => Stored {},
        /// Its person does not want to be in this group; the grant is dropped.
        1 => Refused {},
    }
}

pub(super) fn sign_card(joiner: &SigningKey, hash_after_message_2: &[u8; 32], card: &[u8]) -> Signature {
    sign(joiner, label::SIGN_CARD, hash_after_message_2, card)
}

pub(super) fn verify_card(
    joiner: &DeviceId,
    hash_after_message_2: &[u8; 32],
    card: &[u8],
    signature: &Signature,
) -> bool {
    verify(joiner, label::SIGN_CARD, hash_after_message_2, card, signature)
}

pub(super) fn sign_grant(inviter: &SigningKey, handshake_hash: &[u8; 32], grant: &[u8]) -> Signature {
    sign(inviter, label::SIGN_GRANT, handshake_hash, grant)
}

pub(super) fn verify_grant(inviter: &DeviceId, handshake_hash: &[u8; 32], grant: &[u8], signature: &Signature) -> bool {
    verify(inviter, label::SIGN_GRANT, handshake_hash, grant, signature)
}

fn sign(key: &SigningKey, label: &[u8], hash: &[u8; 32], bytes: &[u8]) -> Signature {
    Signature(key.sign(&[label, hash, bytes].concat()).to_bytes())
}

fn verify(signer: &DeviceId, label: &[u8], hash: &[u8; 32], bytes: &[u8], signature: &Signature) -> bool {
    verify_signature(signer, &[label, hash, bytes].concat(), signature)
}
