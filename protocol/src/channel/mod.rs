//! The secure channel: Noise XX over X25519 with an ML-KEM-768 secret mixed in as psk, sans-IO.
//!
//! One construction in two uses. The *relay channel* (`Noise_XXpsk3_25519_ChaChaPoly_SHA256`)
//! keeps whatever terminates TLS in front of a relay from reading along; the *pairing channel*
//! (`Noise_XXpsk0+psk3_…`) starts from a secret that both devices know already. Recorded traffic
//! of either stays closed unless X25519 *and* ML-KEM-768 are broken.
//!
//! ```text
//!     initiator                                             responder
//!  1. Initiator::relay | pairing
//!       ── suite byte* ‖ [psk0**,] e { ek ‖ extra** } ──▶   Responder::read
//!  2.                                     (PairingResponder::read → FirstMessage::respond)
//!       ◀── e, ee, s, es { ct ‖ extra** } ──
//!     h2 = handshake hash now; psk3 = HKDF-SHA256(salt h2, ikm KEM secret, "0k-sync/1 pq")
//!  3. AwaitingResponse::read → PeerKnown: whose static key is it? Stop here if it is a stranger's.
//!     PeerKnown::finish
//!       ── s, se, psk3 { payload } ──▶                      AwaitingFinal::read
//!  4. Channel                ◀── transport messages ──▶     Channel
//!
//!  *  relay channel only       ** pairing channel only
//! ```
//!
//! Invariants:
//! - Each state is a type and each step consumes it: a message out of order, or a second try after
//!   a failed one, cannot be processed because there is no code for it.
//! - Randomness is the caller's. The initiator draws 32 bytes (ephemeral key), then 64 (ML-KEM
//!   `d ‖ z`); the responder 32 (ephemeral key), then 32 (ML-KEM `m`). Same bytes, same messages.
//! - Handshake messages over [`HANDSHAKE_MESSAGE_BYTES_MAX`] are refused unread, all-zero
//!   Diffie-Hellman results are refused, and a transport message that does not open ends the
//!   channel for good.
//!
//! Sources: The Noise Protocol Framework, revision 34 (§5 processing rules, §9 psk modifiers);
//! FIPS 203 (ML-KEM). Known limit: `snow` does not wipe its chaining key and psks when dropped;
//! the keys that this module holds itself are wiped.
//!
//! [`HANDSHAKE_MESSAGE_BYTES_MAX`]: crate::limits::HANDSHAKE_MESSAGE_BYTES_MAX

mod error;
pub(crate) mod handshake;
pub(crate) mod kem;
mod key;
pub(crate) mod resolver;
#[cfg(test)]
pub(crate) mod tests;
mod transport;

pub use error::{ChannelError, Fault};
pub use handshake::{AwaitingFinal, AwaitingResponse, FirstMessage, Initiator, PairingResponder, PeerKnown, Responder};
pub use key::{Secret32, StaticKey};
pub use transport::Channel;
