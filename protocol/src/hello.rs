//! Proofs that the relay checks: membership in `Hello`, and possession of the next auth key in
//! `Rotate`. Both bind the Noise handshake hash, so a signature seen by one relay cannot be
//! replayed to another or in a later session.

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};

use crate::id::{AuthPublicKey, LogName, Signature};
use crate::label;

/// Hash of a finished Noise handshake: 32 bytes, equal on both sides, unique to the session.
pub type HandshakeHash = [u8; 32];

/// Signs `"0k-sync/1 hello" ‖ handshake hash ‖ LogName ‖ create`.
#[must_use]
pub fn sign(auth: &SigningKey, handshake: &HandshakeHash, create: bool) -> Signature {
    let public = AuthPublicKey(auth.verifying_key().to_bytes());
    Signature(auth.sign(&hello_message(handshake, &LogName::of(&public), create)).to_bytes())
}

/// Checks [`sign`]'s signature under `auth` (strict verification, RFC 8032 with the cofactorless
/// equation and no small-order keys).
#[must_use]
pub fn verify(auth: &AuthPublicKey, handshake: &HandshakeHash, create: bool, sig: &Signature) -> bool {
    verify_strict(auth, &hello_message(handshake, &LogName::of(auth), create), sig)
}

/// Signs `"0k-sync/1 rotate" ‖ handshake hash ‖ LogName ‖ next public key` with the next key.
#[must_use]
pub fn sign_rotate(next: &SigningKey, handshake: &HandshakeHash, current: &LogName) -> Signature {
    let public = AuthPublicKey(next.verifying_key().to_bytes());
    Signature(next.sign(&rotate_message(handshake, current, &public)).to_bytes())
}

/// Checks [`sign_rotate`]'s proof.
#[must_use]
pub fn verify_rotate(next: &AuthPublicKey, handshake: &HandshakeHash, current: &LogName, proof: &Signature) -> bool {
    verify_strict(next, &rotate_message(handshake, current, next), proof)
}

fn verify_strict(key: &AuthPublicKey, message: &[u8], sig: &Signature) -> bool {
    VerifyingKey::from_bytes(&key.0)
        .is_ok_and(|key| key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&sig.0)).is_ok())
}

fn hello_message(handshake: &HandshakeHash, name: &LogName, create: bool) -> Vec<u8> {
    [label::HELLO, handshake, &name.0, &[u8::from(create)]].concat()
}

fn rotate_message(handshake: &HandshakeHash, current: &LogName, next: &AuthPublicKey) -> Vec<u8> {
    [label::ROTATE, handshake, &current.0, &next.0].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(seed: u8) -> (SigningKey, AuthPublicKey) {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let public = AuthPublicKey(key.verifying_key().to_bytes());
        (key, public)
    }

    #[test]
    fn a_hello_counts_only_in_its_own_session() {
        let (key, public) = auth(1);
        let sig = sign(&key, &[7; 32], false);
        assert!(verify(&public, &[7; 32], false, &sig));
        assert!(!verify(&public, &[8; 32], false, &sig));
    }

    #[test]
    fn a_hello_to_join_is_not_a_hello_to_create() {
        let (key, public) = auth(1);
        assert!(!verify(&public, &[7; 32], true, &sign(&key, &[7; 32], false)));
    }

    #[test]
    fn another_groups_key_proves_nothing() {
        let (key, _) = auth(1);
        let (_, other) = auth(2);
        assert!(!verify(&other, &[7; 32], false, &sign(&key, &[7; 32], false)));
    }

    #[test]
    fn a_rotate_proof_is_bound_to_the_log_it_renames() {
        let (next, public) = auth(3);
        let (_, current) = auth(1);
        let proof = sign_rotate(&next, &[7; 32], &LogName::of(&current));
        assert!(verify_rotate(&public, &[7; 32], &LogName::of(&current), &proof));
        assert!(!verify_rotate(&public, &[7; 32], &LogName::of(&public), &proof));
    }

    #[test]
    fn a_key_of_small_order_verifies_nothing() {
        let zero = AuthPublicKey([0; 32]);
        assert!(!verify(&zero, &[7; 32], false, &Signature([0; 64])));
    }
}
