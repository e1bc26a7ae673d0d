//! Making a snapshot: the app's state, with all that says who is in the group, as one batch.
//!
//! What a snapshot covers is fixed when the app hands its state over: every chain up to where this
//! device has it, every relay's log up to where this device has read it. So that is taken only when
//! nothing of it is missing here and nothing of it has been kept from the app. The control archive
//! is then read from storage, archive and state are queued in one transaction, and whatever came
//! meanwhile is simply not covered.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use zerok_sync_protocol::BlobId;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::wire::{self, List};

use super::Engine;
use super::comparing::SCAN_BYTES;
use super::rows::{self, ControlKey};
use crate::content::Kind;
use crate::error::{CompactError, OpenError};
use crate::event::Event;
use crate::id::DeviceId;
use crate::io::{Now, Row, ScanId};
use crate::one_by_one::set_of;
use crate::seal::Authenticated;
use crate::snapshot::{ARCHIVE_BYTES_MAX, FLOORS_MAX, Floor, HEADS_MAX, Head, Manifest, STATE_BYTES_MAX};
use crate::snapshot::{archive, archived_bytes};

/// A log is worth a snapshot when this much has come since the last one: a second of a phone's
/// mobile network, and thousands of small edits …
const ADVISED_BYTES_MIN: u64 = 4 * 1024 * 1024;
/// … and so many times what the last one was: all snapshots together cost the log a quarter more.
const ADVISED_FACTOR: u64 = 4;
/// Each further device, in the order of their identities, is advised an eighth later, so that one
/// makes the snapshot and the others need not.
const ADVISED_TURN: u64 = 8;

/// A snapshot that is being made.
#[derive(Debug)]
pub(super) struct Compaction {
    state: Bytes,
    /// What it covers; lengths are still open.
    manifest: Manifest,
    reading: ControlReading,
}

/// The control archive on its way out of storage.
#[derive(Debug)]
pub(super) struct ControlReading {
    scan: ScanId,
    /// Of each epoch.
    envelopes: Vec<Bytes>,
    /// What was said in each, in this device's order.
    entries: Vec<(ControlKey, Bytes)>,
}

impl ControlReading {
    /// Whether it waits for this.
    pub(super) fn is_asked(&self, id: ScanId) -> bool {
        self.scan == id
    }

    /// Takes the next rows; behind which key it goes on, or that this was all.
    fn take(&mut self, rows: Vec<Row>) -> Result<Option<Vec<u8>>, OpenError> {
        let Some(behind) = rows.last().map(|row| [row.key.as_slice(), &[0]].concat()) else { return Ok(None) };
        for row in rows {
            match ControlKey::parse(&row.key) {
                Some(key) => self.entries.push((key, row.value.into())),
                None if row.key == rows::epoch_envelope_key(self.envelopes.len() as u64) => {
                    self.envelopes.push(row.value.into());
                }
                None => return Err(OpenError::Corrupt("control archive")),
            }
        }
        Ok(Some(behind))
    }

    /// What of it was said in entries that a manifest covers.
    pub(super) fn said_before(&self, manifest: &Manifest, counts: impl Fn(&DeviceId, u64) -> bool) -> BTreeSet<BlobId> {
        let covered = |key: &ControlKey| manifest.covers(&key.sender, key.seq) && counts(&key.sender, key.seq);
        let said = self.entries.iter().filter(|(key, _)| covered(key));
        set_of(said.map(|(_, envelope)| blob_id(envelope)))
    }

    /// What of it a manifest covers, epoch by epoch, as each is read.
    fn covered_by(&self, manifest: &Manifest) -> Vec<&Bytes> {
        let mut by_epoch: BTreeMap<u64, Vec<&Bytes>> = BTreeMap::new();
        for (key, envelope) in self.entries.iter().filter(|(key, _)| manifest.covers(&key.sender, key.seq)) {
            by_epoch.entry(key.epoch).or_default().push(envelope);
        }
        let epochs = self.envelopes.iter().zip(0..manifest.epochs);
        epochs
            .flat_map(|(envelope, number)| {
                std::iter::once(envelope).chain(by_epoch.remove(&number).unwrap_or_default())
            })
            .collect()
    }
}

impl Engine {
    /// Makes a snapshot of the log: `state` is everything the app has made of the entries up to the
    /// position it has processed, and of its own. [`Event::SnapshotQueued`] when it is durable here;
    /// it then goes its way like a push.
    ///
    /// # Errors
    /// [`CompactError`]; nothing was queued.
    pub fn compact(&mut self, now: Now, state: Bytes) -> Result<(), CompactError> {
        let (bytes, bytes_max) = (state.len(), STATE_BYTES_MAX);
        if bytes > bytes_max {
            return Err(CompactError::TooLarge { bytes, bytes_max });
        }
        self.check_acts()?;
        if self.compaction.is_some() {
            return Err(CompactError::UnderWay);
        }
        if !self.is_complete() {
            return Err(CompactError::NotCaughtUp);
        }
        if self.progress.processed < self.progress.others_position {
            return Err(CompactError::NotProcessed { position: self.progress.others_position });
        }
        let manifest = self.manifest().ok_or(CompactError::TooMuchHistory)?;
        let reading = self.read_control();
        self.compaction = Some(Compaction { state, manifest, reading });
        self.step(now);
        Ok(())
    }

    /// Whether this device has everything that there is, as far as it can tell, its own entries
    /// among it, and no change of keys is under way.
    fn is_complete(&self) -> bool {
        let caught_up = self.relays.iter().any(|relay| relay.caught_up() && relay.problem.is_none());
        let held = self.held.keys().any(|(device, _)| !self.removed.contains_key(device));
        // Of a batch a snapshot covers all or nothing: its parts are not the app's before its commit.
        let batches = self.parts.keys().any(|device| self.members.contains_key(device));
        let own = self.seq_of(&self.me.device()) == self.progress.queued_seq;
        let in_epoch = self.relays.iter().all(|relay| relay.hello_epoch.is_none());
        caught_up
            && self.lookups.is_empty()
            && !held
            && !batches
            && !self.waits_for_named()
            && own
            && in_epoch
            && !self.is_rotating()
    }

    /// What a snapshot covers now; nothing if that is more than a manifest can say.
    fn manifest(&self) -> Option<Manifest> {
        let heads: Vec<Head> = self
            .chains
            .iter()
            // Of one that was let in too late nothing counts, and not every device has read it.
            .filter(|(device, _)| self.removed.get(device).is_none_or(|removed| removed.last_seq > 0))
            .map(|(device, chain)| Head { device: *device, seq: chain.seq, blob_id: chain.blob_id })
            .collect();
        let comparable = self.relays.iter().filter(|relay| !relay.row.observed.is_zero() && relay.row.cursor > 0);
        let floors = comparable.filter_map(|relay| {
            let row = &relay.row;
            let (timeline, cursor, blob_id) = (row.timeline, row.cursor, row.blob_id_at_cursor);
            Some(Floor { relay: relay.tag()?, timeline, cursor, blob_id, hash: row.observed })
        });
        let floors: Vec<Floor> = floors.take(FLOORS_MAX).collect();
        (self.progress.control_bytes <= ARCHIVE_BYTES_MAX as u64 && heads.len() <= HEADS_MAX).then(|| Manifest {
            parts: 0,
            bytes: 0,
            archive_bytes: 0,
            epoch: self.keyring.current().id,
            epoch_blob_id: self.progress.epoch_blob_id,
            epochs: self.epochs.len() as u64,
            lamport: self.progress.lamport,
            heads: List::try_from(heads).expect("just counted"),
            floors: List::try_from(floors).expect("cut to the limit"),
        })
    }

    /// Begins to read what the control archive is made of.
    pub(super) fn read_control(&mut self) -> ControlReading {
        let scan = self.scan(rows::control_range(), SCAN_BYTES);
        ControlReading { scan, envelopes: Vec::new(), entries: Vec::new() }
    }

    /// Takes rows that were read for a control archive: whether all of it is there.
    pub(super) fn control_read(&mut self, reading: &mut ControlReading, rows: Vec<Row>) -> Result<bool, OpenError> {
        let Some(behind) = reading.take(rows)? else { return Ok(true) };
        let (_, to) = rows::control_range();
        reading.scan = self.scan((behind, to), SCAN_BYTES);
        Ok(false)
    }

    /// Whether these rows were asked for to make a snapshot; goes on with them.
    pub(super) fn compaction_scanned(&mut self, id: ScanId, rows: &[Row]) -> bool {
        let Some(mut compaction) = self.compaction.take_if(|compaction| compaction.reading.is_asked(id)) else {
            return false;
        };
        match self.control_read(&mut compaction.reading, rows.to_vec()) {
            Ok(true) => self.queue_snapshot(compaction),
            Ok(false) => self.compaction = Some(compaction),
            Err(_) => self.stop_corrupt("control archive"),
        }
        true
    }

    fn queue_snapshot(&mut self, compaction: Compaction) {
        let Compaction { state, mut manifest, reading } = compaction;
        let mut bytes = Vec::with_capacity(self.progress.control_bytes as usize + state.len());
        reading.covered_by(&manifest).into_iter().for_each(|envelope| archive(&mut bytes, envelope));
        manifest.archive_bytes = bytes.len() as u64;
        bytes.extend_from_slice(&state);
        manifest.bytes = bytes.len() as u64;
        manifest.parts = self.queue_parts(&bytes.into());
        let push = self.queue(Kind::SNAPSHOT, wire::encode(&manifest).into());
        self.event(Event::SnapshotQueued { push });
    }

    /// Keeps what the next control archive will hold.
    pub(super) fn note_control(&mut self, entry: &Authenticated, envelope: &Bytes) {
        if entry.kind.is_control() {
            let epoch = self.epochs.len().saturating_sub(1) as u64;
            let key = ControlKey { epoch, ordinal: self.progress.ordinal, sender: entry.sender, seq: entry.seq };
            self.effects.put(key.to_bytes(), envelope.to_vec());
            self.progress.control_bytes += archived_bytes(envelope.len()) as u64;
        }
    }

    /// Counts what makes the log longer.
    pub(super) fn note_log(&mut self, bytes: u64) {
        self.progress.log_bytes += bytes;
    }

    /// Says so when the log has outgrown its snapshot, once for each in a run.
    pub(super) fn advise_compaction(&mut self) {
        let (log_bytes, snapshot) = (self.progress.log_bytes, self.snapshot.as_ref());
        if self.advised || log_bytes < ADVISED_BYTES_MIN {
            return;
        }
        let snapshot_bytes = snapshot.map_or(0, |snapshot| snapshot.row.bytes);
        let limit = ADVISED_BYTES_MIN.max(snapshot_bytes.saturating_mul(ADVISED_FACTOR));
        let turn = self.members.keys().take_while(|device| **device < self.me.device()).count() as u64;
        if log_bytes >= limit + limit / ADVISED_TURN * turn && self.is_complete() && self.check_acts().is_ok() {
            self.advised = true;
            self.event(Event::CompactionAdvised { log_bytes, snapshot_bytes });
        }
    }
}

impl ControlKey {
    /// Behind the table's byte: epoch u64be ‖ ordinal u64be ‖ sender ‖ seq u64be.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let (epoch, ordinal, seq) = (self.epoch.to_be_bytes(), self.ordinal.to_be_bytes(), self.seq.to_be_bytes());
        [&[rows::CONTROL][..], &epoch, &ordinal, &self.sender.0, &seq].concat()
    }

    fn parse(key: &[u8]) -> Option<Self> {
        let rest = key.strip_prefix(&[rows::CONTROL])?;
        let (epoch, rest) = rest.split_first_chunk::<8>()?;
        let (ordinal, rest) = rest.split_first_chunk::<8>()?;
        let (sender, seq) = rest.split_at_checked(DeviceId::LEN)?;
        Some(Self {
            epoch: u64::from_be_bytes(*epoch),
            ordinal: u64::from_be_bytes(*ordinal),
            sender: DeviceId::from_slice(sender)?,
            seq: u64::from_be_bytes(seq.try_into().ok()?),
        })
    }
}
