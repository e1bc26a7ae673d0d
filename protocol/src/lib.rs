//! What 0k-Sync clients and relays both speak: ids, frames, limits, error codes and the secure
//! channel, and nothing that only one side knows.
//!
//! Everything here is sans-IO: bytes in, bytes out. No sockets, no clock, no random number
//! generator of its own (randomness comes in as [`rand_core::CryptoRng`]), so the crate builds
//! unchanged for `wasm32-unknown-unknown`.
//!
//! Bottom up: [`id`] and [`limits`] are vocabulary; [`wire`] is the MessagePack codec; [`frame`]
//! the messages; [`record`] packs frames into the plaintext stream of [`channel`], the Noise
//! session. [`envelope`] knows the outside of a sealed blob (never its inside, which only
//! `zerok-sync-core` can open) and [`hello`] the membership proof.
//!
//! Behind features: `vectors`, the recorded bytes that every build is checked against, and
//! `fuzzing`, the functions that the fuzz targets call.

pub mod aead;
pub mod channel;
pub mod close;
pub mod diverged;
pub mod envelope;
pub mod error;
pub mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod hello;
pub mod id;
pub mod label;
pub mod limits;
pub mod record;
#[cfg(any(test, feature = "vectors"))]
pub mod vectors;
pub mod wire;

pub use envelope::{EnvelopeHeader, EnvelopeType};
pub use error::{Blame, ErrorCode, Severity};
pub use frame::{ClientFrame, RelayFrame};
pub use id::{AuthPublicKey, BlobId, EpochId, LogName, MailboxId, NoisePublicKey, Signature, Timeline};
