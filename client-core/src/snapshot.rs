//! What a snapshot says: the manifest that commits it, and the control archive at its head.
//!
//! A snapshot is an atomic batch whose commit is a [`Manifest`]. Its bytes are the *control
//! archive*, every envelope that says who is in the group, verbatim and in an order in which each
//! can be checked from those before it, and behind that the app's own state. So membership rests on
//! the same signatures as if the whole log had been read; of the rest of what it covers a manifest
//! says only where each chain and each relay's order stood.

use bytes::{Buf, BufMut, Bytes};
use zerok_sync_protocol::id::RelayTag;
use zerok_sync_protocol::limits::ENVELOPE_BYTES_MAX_CEILING;
use zerok_sync_protocol::wire::{self, List};
use zerok_sync_protocol::{BlobId, EpochId, Timeline, wire_struct};

use crate::id::DeviceId;
use crate::observed::FoldHash;
use crate::one_by_one::set_of;

/// Chains of one group, removed devices' among them: 65 devices replaced a dozen times.
pub const HEADS_MAX: usize = 1_024;
/// Relays whose order a manifest can name: as many as a group has.
pub const FLOORS_MAX: usize = 8;
/// The control archive: a thousand changes of keys among few devices.
pub const ARCHIVE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The app's own part.
pub const STATE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Length prefix of an archived envelope.
const LENGTH_BYTES: usize = 4;

wire_struct! {
    /// Body of the entry that commits a snapshot.
    pub struct Manifest {
        /// How many parts stand right before it in its sender's chain.
        parts: u64,
        /// Bytes of all of them.
        bytes: u64,
        /// How many of these, from the first on, are the control archive.
        archive_bytes: u64,
        /// The newest epoch it covers, …
        epoch: EpochId,
        /// … which is its envelope, …
        epoch_blob_id: BlobId,
        /// … and how many there were, genesis counted.
        epochs: u64,
        /// Highest Lamport time of what it covers.
        lamport: u64,
        /// The last entry of each chain that it covers.
        heads: List<Head, HEADS_MAX>,
        /// What it covers of each relay's log.
        floors: List<Floor, FLOORS_MAX>,
    }
}

wire_struct! {
    /// Where a snapshot ends in one device's chain.
    pub struct Head {
        /// Whose.
        device: DeviceId,
        /// Everything up to this seq is covered.
        seq: u64,
        /// The entry there.
        blob_id: BlobId,
    }
}

wire_struct! {
    /// Where a snapshot ends in one relay's log.
    pub struct Floor {
        /// Which relay.
        relay: RelayTag,
        /// Which history there.
        timeline: Timeline,
        /// Everything up to this cursor is covered.
        cursor: u64,
        /// What stands there.
        blob_id: BlobId,
        /// `h` there: who begins to read behind it goes on with this.
        hash: FoldHash,
    }
}

/// Why bytes are no snapshot of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a snapshot ({0})")]
pub struct NotASnapshot(pub &'static str);

impl Manifest {
    /// Of an entry's body.
    ///
    /// # Errors
    /// [`NotASnapshot`] where its numbers do not go together: no honest device wrote it.
    pub fn parse(body: &[u8]) -> Result<Self, NotASnapshot> {
        let manifest: Self = wire::decode(body).map_err(|_| NotASnapshot("no manifest"))?;
        let state_bytes = manifest.bytes.checked_sub(manifest.archive_bytes).ok_or(NotASnapshot("lengths"))?;
        if manifest.archive_bytes > ARCHIVE_BYTES_MAX as u64 || state_bytes > STATE_BYTES_MAX as u64 {
            return Err(NotASnapshot("too long"));
        }
        let devices = set_of(manifest.heads.iter().map(|head| head.device));
        if devices.len() != manifest.heads.len() || manifest.heads.iter().any(|head| matches!(head.seq, 0 | u64::MAX)) {
            return Err(NotASnapshot("heads"));
        }
        if manifest.parts == 0 || manifest.epochs == 0 || manifest.heads.is_empty() {
            return Err(NotASnapshot("empty"));
        }
        Ok(manifest)
    }

    /// Where it ends in a device's chain.
    #[must_use]
    pub fn head(&self, device: &DeviceId) -> Option<&Head> {
        self.heads.iter().find(|head| head.device == *device)
    }

    /// Whether it covers an entry.
    #[must_use]
    pub fn covers(&self, device: &DeviceId, seq: u64) -> bool {
        self.head(device).is_some_and(|head| seq <= head.seq)
    }

    /// Bytes of the app's own part.
    #[must_use]
    pub fn state_bytes(&self) -> u64 {
        self.bytes - self.archive_bytes
    }
}

/// Adds an envelope to a control archive.
pub fn archive(archive: &mut Vec<u8>, envelope: &[u8]) {
    archive.put_u32_le(u32::try_from(envelope.len()).expect("an envelope is a part of a frame"));
    archive.put_slice(envelope);
}

/// How many bytes an envelope takes in an archive.
#[must_use]
pub const fn archived_bytes(envelope_bytes: usize) -> usize {
    LENGTH_BYTES + envelope_bytes
}

/// The envelopes of a control archive, in order; ends with an error where it is no archive.
#[derive(Debug, Clone)]
pub struct Archived(pub Bytes);

impl Iterator for Archived {
    type Item = Result<Bytes, NotASnapshot>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let length = (self.0.len() >= LENGTH_BYTES).then(|| self.0.get_u32_le() as usize);
        let fits = |length: &usize| *length <= self.0.len() && *length <= ENVELOPE_BYTES_MAX_CEILING as usize;
        let Some(length) = length.filter(fits) else {
            self.0.clear();
            return Some(Err(NotASnapshot("archive")));
        };
        Some(Ok(self.0.split_to(length)))
    }
}

/// Where fuzzing starts.
#[cfg(test)]
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let mut envelopes = Vec::new();
    archive(&mut envelopes, b"one envelope");
    archive(&mut envelopes, b"and another");
    vec![("manifest", wire::encode(&tests::manifest())), ("archive", envelopes)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) fn manifest() -> Manifest {
        let head = |device, seq| Head { device: DeviceId([device; 32]), seq, blob_id: BlobId([device; 32]) };
        Manifest {
            parts: 2,
            bytes: 50,
            archive_bytes: 20,
            epoch: EpochId([1; 8]),
            epoch_blob_id: BlobId([2; 32]),
            epochs: 1,
            lamport: 9,
            heads: vec![head(1, 5), head(2, 7)].try_into().expect("two"),
            floors: List::empty(),
        }
    }

    fn parsed(change: impl FnOnce(&mut Manifest)) -> Result<Manifest, NotASnapshot> {
        let mut manifest = manifest();
        change(&mut manifest);
        Manifest::parse(&wire::encode(&manifest))
    }

    fn seq_of_first_head(manifest: &mut Manifest, seq: u64) {
        let mut heads = manifest.heads.clone().into_vec();
        heads[0].seq = seq;
        manifest.heads = heads.try_into().expect("as many");
    }

    #[test]
    fn a_manifest_whose_numbers_go_together_is_one() {
        let manifest = parsed(|_| {}).expect("sound");
        assert_eq!(manifest.state_bytes(), 30);
        assert!(manifest.covers(&DeviceId([1; 32]), 5) && !manifest.covers(&DeviceId([1; 32]), 6));
        assert!(!manifest.covers(&DeviceId([3; 32]), 1));
    }

    #[test]
    fn a_manifest_whose_numbers_do_not_is_none() {
        let refused = |change: fn(&mut Manifest)| parsed(change).expect_err("unsound").0;
        assert_eq!(refused(|it| it.archive_bytes = 51), "lengths");
        assert_eq!(refused(|it| (it.archive_bytes, it.bytes) = (u64::MAX, u64::MAX)), "too long");
        assert_eq!(refused(|it| it.bytes = u64::MAX), "too long");
        assert_eq!(refused(|it| it.parts = 0), "empty");
        assert_eq!(refused(|it| it.epochs = 0), "empty");
        assert_eq!(refused(|it| it.heads = List::empty()), "empty");
        let twice =
            |it: &mut Manifest| it.heads = vec![it.heads[0].clone(), it.heads[0].clone()].try_into().expect("two");
        assert_eq!(refused(twice), "heads");
        // Where no chain begins, and behind which none goes on.
        assert_eq!(refused(|it| seq_of_first_head(it, 0)), "heads");
        assert_eq!(refused(|it| seq_of_first_head(it, u64::MAX)), "heads");
        assert_eq!(Manifest::parse(b"no manifest"), Err(NotASnapshot("no manifest")));
    }

    proptest! {
        #[test]
        fn an_archive_gives_back_what_was_put_in(envelopes: Vec<Vec<u8>>) {
            let mut bytes = Vec::new();
            envelopes.iter().for_each(|envelope| archive(&mut bytes, envelope));
            prop_assert_eq!(bytes.len(), envelopes.iter().map(|it| archived_bytes(it.len())).sum::<usize>());
            let read: Result<Vec<Bytes>, _> = Archived(bytes.into()).collect();
            prop_assert_eq!(read, Ok(envelopes.into_iter().map(Bytes::from).collect()));
        }

        #[test]
        fn any_bytes_are_an_archive_or_an_error_and_end(bytes: Vec<u8>) {
            let length = bytes.len();
            let read: Vec<_> = Archived(bytes.into()).collect();
            prop_assert!(read.len() <= length / LENGTH_BYTES + 1);
            prop_assert!(read.iter().rev().skip(1).all(Result::is_ok));
        }
    }
}
