//! Identifiers that only members know; a relay never sees one of them.

use zerok_sync_protocol::byte_id;

byte_id!(
    /// `BLAKE3("0k-sync/1 group" ‖ genesis body)`: stands in every associated data and signature,
    /// and is never sent to a relay.
    GroupId,
    32
);
byte_id!(
    /// Ed25519 public key of a membership: one device in one group.
    DeviceId,
    32
);
byte_id!(
    /// `DeviceId[..8]`: names a sender inside `seen`.
    SenderTag,
    8
);

impl DeviceId {
    /// The short form used inside `seen`.
    #[must_use]
    pub fn tag(&self) -> SenderTag {
        let mut tag = [0; 8];
        tag.copy_from_slice(&self.0[..8]);
        SenderTag(tag)
    }
}
