//! One relay's row, and what it is made of.

use bytes::Bytes;
use zerok_sync_protocol::{BlobId, NoisePublicKey, Timeline, wire_struct};

use super::{hot, hot_key};
use crate::content::SeenItem;
use crate::engine::mirror::Place;
use crate::event::IntegrityEvent;
use crate::id::DeviceId;
use crate::io::RelayAddress;
use crate::observed::FoldHash;

wire_struct! {
    /// One of the group's relays. Cursor-like fields mean nothing outside its `timeline`.
    pub struct RelayRow {
        /// Its place among them; the home relay's is 0.
        rank: u32,
        /// Origin.
        url: String,
        /// Noise key, once met.
        key: Option<NoisePublicKey>,
        /// Whether the key came with a link or from a person, rather than at first contact.
        key_given: bool,
        /// The log has never stood there, and this device may make it.
        creation: Option<CreationRow>,
        /// History being read.
        timeline: Timeline,
        /// Highest cursor stored.
        cursor: u64,
        /// Blob id there.
        blob_id_at_cursor: BlobId,
        /// Fold of everything up to `cursor`.
        observed: FoldHash,
        /// Cursor of the last pair put into an own entry.
        observed_said: u64,
        /// Highest own seq that it acknowledged, with all before it.
        acked_seq: u64,
        /// Earlier timelines there, as far as this one goes on from them.
        past: Vec<PastRow>,
        /// Timelines in which what looks wrong is history: an incident entry tells of it.
        incidents: Vec<Timeline>,
        /// Timelines it left by its own account, and how far they had been read.
        left: Vec<PastRow>,
        /// What others told of it: timelines it broke off, and how far they are still in common.
        heard: Vec<PastRow>,
        /// It was caught in the timeline being read, and the group is still to be told.
        caught: Option<CaughtRow>,
        /// What it showed and could not be read: read again whenever it is met.
        damaged: Option<DamagedRow>,
        /// Timelines of which this device has told that the relay went back in them.
        told: Vec<Timeline>,
        /// What of each chain was read there in this timeline.
        read: Vec<ReadRun>,
        /// It holds everything of the mirror up to this position …
        whole_position: u64,
        /// … and ordinal.
        whole_ordinal: u64,
        /// It lost what it had: nothing new is pushed until the rest is back.
        rebuilding: bool,
        /// Epochs read there.
        epochs_read: Vec<EpochRead>,
        /// Epochs whose envelope is known to stand there in this timeline, read or not.
        epochs_there: Vec<BlobId>,
        /// The group was not told of it yet: it is met first.
        unlisted: bool,
        /// What it asks for before it makes a log.
        token: Option<Bytes>,
        /// Entries with a lower cursor are not served there, by its last word.
        floor: u64,
        /// One that no snapshot stands for: that was told, and what it withheld put back.
        told_floor: u64,
        /// What snapshots that are as this device has it stand for there …
        covered: Option<CoveredRow>,
        /// … and, by their author's word alone, what a newer one does.
        claimed: Option<CoveredRow>,
        /// Up to here this device has not read it: it began behind a snapshot.
        jumped_to: u64,
        /// How often it was searched in vain for a snapshot to go on from, although another device may put
        /// one back …
        searches: u32,
        /// … and when that was counted last, by this device's clock.
        searched_ms: u64,
        /// What is missing may be what it lost at the beginning of this timeline, and others may be about
        /// to put back.
        excused: bool,
        /// Anomalies that wait for their explanation.
        suspicions: Vec<IntegrityEvent>,
    }
}

wire_struct! {
    /// How far snapshots stand for one relay's log.
    pub struct CoveredRow {
        /// Everything up to this cursor …
        cursor: u64,
        /// … at which this stands …
        blob_id: BlobId,
        /// … and up to which the log folds to this.
        hash: FoldHash,
        /// Where each chain stands there.
        heads: Vec<SeenItem>,
        /// The epochs up to there.
        epochs: Vec<BlobId>,
        /// Who made the snapshot: …
        sender: DeviceId,
        /// … of that device's entries from this one …
        first_seq: u64,
        /// … to this one, …
        seq: u64,
        /// … the manifest.
        manifest: BlobId,
    }
}

wire_struct! {
    /// What making a log takes.
    pub struct CreationRow {
        /// Stands at cursor 1.
        epoch_envelope: Bytes,
        /// What a relay with restricted creation asks for.
        token: Option<Bytes>,
    }
}

wire_struct! {
    /// An epoch's envelope, and the timeline in which it was read last.
    pub struct EpochRead {
        /// Of the envelope.
        blob_id: BlobId,
        /// Of the relay.
        timeline: Timeline,
    }
}

/// Histories of one relay that are remembered, of each kind. Each is a restore of its database, or a
/// time that it was caught: a hostile relay can begin as many as it likes and a hostile member can
/// tell of as many, and all are in a row that is written with every page.
const HISTORIES_MAX: usize = 64;

/// Adds to what is remembered of a relay's histories; what is there already is not added. The oldest
/// that is not needed goes first, and the oldest if all are.
pub(crate) fn remember<T: PartialEq>(known: &mut Vec<T>, new: T, is_needed: impl Fn(&T) -> bool) {
    if known.contains(&new) {
        return;
    }
    if known.len() >= HISTORIES_MAX {
        known.remove(known.iter().position(|old| !is_needed(old)).unwrap_or_default());
    }
    known.push(new);
}

wire_struct! {
    /// A part of an earlier timeline.
    pub struct PastRow {
        /// Which.
        timeline: Timeline,
        /// Up to this cursor.
        to_cursor: u64,
    }
}

wire_struct! {
    /// A relay went back in time without saying so.
    pub struct CaughtRow {
        /// The history it broke off.
        old: Timeline,
        /// Highest cursor this device had read of it.
        from_cursor: u64,
        /// Highest cursor still in common.
        to_cursor: u64,
    }
}

wire_struct! {
    /// A stretch of a relay's log in which something was damaged when it was read.
    pub struct DamagedRow {
        /// The cursor before the first of it, …
        after: u64,
        /// … at which this stands …
        blob_id: BlobId,
        /// … and up to which the log folds to this.
        hash: FoldHash,
        /// The last of it.
        to_cursor: u64,
    }
}

wire_struct! {
    /// One device's chain at a relay.
    pub struct ReadRun {
        /// Whose.
        device: DeviceId,
        /// First seq read in this timeline; 0 before the first.
        from_seq: u64,
        /// Last seq read, with all in between.
        to_seq: u64,
        /// Everything up to this seq is known to stand there, read or not.
        there_seq: u64,
        /// Highest seq that was shown as a stub for what this device had pushed: of that it has not seen
        /// the bytes there.
        stub_seq: u64,
    }
}

impl RelayRow {
    /// A relay of which nothing was read yet.
    pub(crate) fn new(rank: u32, relay: RelayAddress, creation: Option<CreationRow>) -> Self {
        Self {
            rank,
            key_given: relay.key.is_some(),
            key: relay.key,
            url: relay.url,
            creation,
            timeline: Timeline::ZERO,
            cursor: 0,
            blob_id_at_cursor: BlobId::ZERO,
            observed: FoldHash::start(),
            observed_said: 0,
            acked_seq: 0,
            past: Vec::new(),
            incidents: Vec::new(),
            left: Vec::new(),
            heard: Vec::new(),
            caught: None,
            damaged: None,
            told: Vec::new(),
            read: Vec::new(),
            whole_position: 0,
            whole_ordinal: 0,
            rebuilding: false,
            epochs_read: Vec::new(),
            epochs_there: Vec::new(),
            unlisted: false,
            token: None,
            floor: 1,
            told_floor: 0,
            covered: None,
            claimed: None,
            jumped_to: 0,
            searches: 0,
            searched_ms: 0,
            excused: false,
            suspicions: Vec::new(),
        }
    }

    /// It holds everything of the mirror up to here.
    pub(crate) fn whole_to(&self) -> Place {
        Place { position: self.whole_position, ordinal: self.whole_ordinal }
    }

    pub(crate) fn set_whole_to(&mut self, place: Place) {
        (self.whole_position, self.whole_ordinal) = (place.position, place.ordinal);
    }

    /// Whether what was read at this cursor of this timeline is a part of the current one.
    pub(crate) fn shows(&self, timeline: Timeline, cursor: u64) -> bool {
        if timeline == self.timeline {
            return cursor <= self.cursor;
        }
        self.past.iter().any(|past| past.timeline == timeline && cursor <= past.to_cursor)
    }

    /// Its row's key.
    pub(crate) fn row_key(&self) -> Vec<u8> {
        hot_key(hot::RELAY, self.url.as_bytes())
    }
}
