//! A whisper: something said to whoever is there, and stored nowhere.
//!
//! Its `session` is drawn anew for every connection, its `counter` rises with each whisper of one,
//! and its `echo` names the sessions it answers: only who was told of a session can echo it, so a
//! whisper that echoes the reader's was made while the reader was there.

use bytes::Bytes;
use zerok_sync_protocol::limits::ALLOW_LIST_MAX;
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{EnvelopeType, byte_id, wire_enum, wire_struct};

use super::Statement;
use crate::id::DeviceId;
use crate::keys::EpochKeys;
use crate::label;

/// Sessions that one whisper answers.
pub const ECHO_MAX: usize = ALLOW_LIST_MAX;
/// What an app may say in one whisper, so that it fits beside the longest `echo`.
pub const WHISPER_BODY_BYTES_MAX: usize = 1_024;

byte_id!(
    /// One connection of one device to one relay: random, never used twice.
    SessionId,
    16
);

wire_struct! {
    /// Something said to whoever is there.
    pub struct Whisper {
        /// Who says it.
        sender: DeviceId,
        /// In which connection.
        session: SessionId,
        /// Its number there, from 1.
        counter: u64,
        /// The sessions of others that it answers.
        echo: List<SessionId, ECHO_MAX>,
        /// What is said.
        body: WhisperBody,
    }
}

wire_enum! {
    /// What a whisper says.
    pub enum WhisperBody {
        /// I am here.
        0 => Here {},
        /// I am going.
        1 => Bye {},
        /// Something of the app's, at most [`WHISPER_BODY_BYTES_MAX`].
        2 => App {
            /// Its bytes.
            data: Bytes,
        },
    }
}

impl Statement for Whisper {
    const KIND: EnvelopeType = EnvelopeType::Whisper;
    const LABEL: &'static [u8] = label::SIGN_WHISPER;

    fn key(epoch: &EpochKeys) -> &[u8; 32] {
        epoch.whisper.expose()
    }

    fn sender(&self) -> DeviceId {
        self.sender
    }
}
