//! The order a device observed on one relay, folded into one hash.
//!
//! `h_0 = BLAKE3("0k-sync/1 observed")`, `h_c = BLAKE3(h_{c-1} ‖ u64 c ‖ blob_id_c)`. Two devices
//! that name the same hash at the same cursor were shown the same history up to it; two that name
//! different ones hold the evidence of a fork. Every cursor is folded, also one whose entry did
//! not authenticate.

use zerok_sync_protocol::{BlobId, byte_id};

use crate::label;

byte_id!(
    /// `h_c`: the whole history of one relay's timeline up to one cursor.
    FoldHash,
    32
);
byte_id!(
    /// `h_c[..16]`: what an entry says about it.
    ObservedHash,
    16
);

impl FoldHash {
    /// `h_0`: nothing read yet.
    #[must_use]
    pub fn start() -> Self {
        Self(*blake3::hash(label::OBSERVED).as_bytes())
    }

    /// `h_c` from `self = h_{c-1}`.
    #[must_use]
    pub fn fold(&self, cursor: u64, blob_id: &BlobId) -> Self {
        let mut hash = blake3::Hasher::new();
        hash.update(&self.0).update(&cursor.to_le_bytes()).update(&blob_id.0);
        Self(*hash.finalize().as_bytes())
    }

    /// The short form that travels.
    #[must_use]
    pub fn short(&self) -> ObservedHash {
        let mut short = [0; 16];
        short.copy_from_slice(&self.0[..16]);
        ObservedHash(short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(entries: &[(u64, u8)]) -> FoldHash {
        entries.iter().fold(FoldHash::start(), |hash, &(cursor, id)| hash.fold(cursor, &BlobId([id; 32])))
    }

    #[test]
    fn the_same_history_gives_the_same_hash() {
        assert_eq!(folded(&[(1, 7), (2, 8)]), folded(&[(1, 7), (2, 8)]));
    }

    #[test]
    fn another_order_entry_or_cursor_gives_another_hash() {
        let honest = folded(&[(1, 7), (2, 8)]).short();
        for forked in [&[(1, 8), (2, 7)][..], &[(1, 7), (2, 9)], &[(1, 7), (3, 8)], &[(1, 7)], &[]] {
            assert_ne!(folded(forked).short(), honest);
        }
    }
}
