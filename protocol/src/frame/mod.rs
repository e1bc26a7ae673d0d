//! The messages inside a secure channel. [`ClientFrame`] goes to the relay, [`RelayFrame`] comes
//! back; both are one MessagePack array `[tag, field, …]` (see [`crate::wire`]).
//!
//! A session in order: `Hello` → `Welcome` (or `Superseded`, then another `Hello`; or `Create`),
//! then any of the rest. Requests of one kind are answered in the order they were sent.

mod client;
mod entries;
mod relay;
#[cfg(test)]
mod tests;

pub use client::{ClientFrame, Who};
pub use entries::{EntriesEncoder, ITEM_OVERHEAD_BYTES_MAX};
pub use relay::{AbsentReason, EntryItem, Limits, LogState, PushResult, RelayFrame, Usage};

use crate::wire::{self, WireError};

impl ClientFrame {
    /// The frame's bytes, without the length that [`crate::record`] puts before it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// Parses exactly one frame.
    ///
    /// # Errors
    /// [`WireError`], to be answered with [`crate::ErrorCode::InvalidMessage`].
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        wire::decode(bytes)
    }
}

impl RelayFrame {
    /// The frame's bytes, without the length that [`crate::record`] puts before it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// Parses exactly one frame.
    ///
    /// # Errors
    /// [`WireError`]: the relay is of a newer kind or not a relay.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        wire::decode(bytes)
    }
}
