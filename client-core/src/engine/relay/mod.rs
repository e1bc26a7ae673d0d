//! The relays that carry the group's log: what each showed, what each acknowledged, and the session
//! with it.
//!
//! The log on one relay is not the log on another: cursors, timelines, acknowledgements and folds
//! mean something for one relay only and live here. What belongs to this device (its positions,
//! its chain, its outbox) is in [`super::Engine`]. The home relay is the one of the lowest rank, and
//! there always is one; a relay keeps its place in a run also after it was taken off the list, so
//! that a [`RelayAt`] never names another.

mod sending;
mod shown;

use std::collections::{BTreeSet, VecDeque};
use std::ops::{Index, IndexMut};

use litemap::LiteMap;
use zerok_sync_protocol::id::RelayTag;
use zerok_sync_protocol::{BlobId, NoisePublicKey};

use super::comparing::{Anchor, Comparison};
use super::connection::Session;
use super::rechecking::{Found, Recheck, RecheckFor, Verified};
use super::repairing::Repair;
use super::resending::Overruled;
use super::resetting::Reset;
use super::rows::{ChainRow, EpochRead, ReadRun, RelayRow};
use super::searching::Unusable;
use super::truncating::Truncation;
use crate::content::Observed;
use crate::error::Problem;
use crate::id::DeviceId;
use crate::io::{LinkId, RelayAddress};
use crate::keys::{EpochKeys, EpochSecret};
use crate::observed::{FoldHash, ObservedHash};
pub(crate) use sending::{IN_FLIGHT_BYTES_MAX, Lacking, Pushed, Sending, UnexpectedAck};
use shown::Shown;

/// Entries read beyond a hole in their sender's chain that are remembered in a run.
const READ_AHEAD_MAX: usize = 4_096;

/// Which relay of [`Relays`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RelayAt(usize);

/// The group's relays, in the order in which this run met them.
#[derive(Debug)]
pub(super) struct Relays(Vec<Relay>);

/// One of them.
#[derive(Debug)]
pub(super) struct Relay {
    /// What is remembered of it; [`Self::changed`] says whether the disk has it.
    pub(super) row: RelayRow,
    pub(super) changed: bool,
    /// It was taken off the list in this run.
    dropped: bool,
    /// Once it is on the list it is to be the home relay.
    pub(super) becomes_home: bool,
    pub(super) session: Session,
    /// Own entries on their way to it.
    pub(super) sending: Sending,
    /// The epoch it handed out, until that epoch's envelope is read in a log.
    pub(super) hello_epoch: Option<EpochKeys>,
    /// Why there is no live session with it, or why pushes wait.
    pub(super) problem: Option<Problem>,
    /// It has refused to read on, and was asked once more.
    pub(super) doubted: bool,
    /// When its log last became another one in the middle of a session.
    pub(super) diverged_ms: Option<u64>,
    /// It goes by its timeline still, although others have told how that ended.
    pub(super) stays: bool,
    /// Others have told how its timeline ended: it is asked once which it has now.
    pub(super) ask_timeline: bool,
    /// It forgot the log, and an older name of the log is somebody else's there: only the newest one
    /// is asked by.
    pub(super) squatted: bool,
    /// The next link to it is the paper's ([`super::recovering`]).
    pub(super) paper_next: bool,
    /// Its log is compared with what was read of it: nothing else goes on meanwhile.
    pub(super) comparison: Option<Comparison>,
    /// Its log is to be read again from the first cursor …
    pub(super) recheck_wanted: Option<RecheckFor>,
    /// … once it has had time to be put right …
    pub(super) recheck_soon: bool,
    /// … or at this time …
    pub(super) recheck_at_ms: Option<u64>,
    /// … is being read, …
    pub(super) recheck: Option<Recheck>,
    /// … and was: what stands there.
    pub(super) rechecked: Option<Found>,
    /// What was put back did not stand afterwards.
    pub(super) unhealed: bool,
    /// The verification under way, or the last one, found it whole.
    pub(super) verified: Option<Verified>,
    /// How often it is looked again by itself whether another device has put back what this one lacks.
    pub(super) looks_left: u32,
    /// That something of it is damaged was told in this run.
    pub(super) damage_told: bool,
    /// What was damaged has been read again since it was met …
    pub(super) looked: bool,
    /// … and the rest is to be read on in another session.
    pub(super) read_on: bool,
    /// The order of what was read there is not to be relied on: once it is whole, another timeline is
    /// to begin.
    pub(super) leave_order: bool,
    /// What it showed was left there for want of room, when so many had been released.
    pub(super) left_at: Option<u64>,
    /// Something was left in the recheck under way.
    pub(super) left_in_recheck: bool,
    /// Since when anomalies that are not judged yet wait in a live session.
    pub(super) suspected_ms: Option<u64>,
    /// How often a walk has left a gap that others may fill.
    pub(super) gap_walks: u32,
    /// Envelopes put back in this run.
    pub(super) put_back: u64,
    /// What it lacks is put back.
    pub(super) repair: Option<Repair>,
    /// Its floor is above what this device has read: a snapshot is looked for.
    pub(super) reset: Option<Reset>,
    /// Snapshots that a search does not choose.
    pub(super) unusable: Vec<Unusable>,
    /// It has a snapshot that stands for what this device lacks, and nobody has brought.
    pub(super) gap_wanted: bool,
    /// What it is asked about its floor.
    pub(super) truncation: Truncation,
    /// The epoch that it goes by, where that is void.
    pub(super) overruled: Option<Overruled>,
    /// Secrets that it handed out and no accepted epoch has: they open envelopes, and prove nothing.
    pub(super) handed_out: Vec<EpochSecret>,
    /// Admitted here and no member's, at the last look.
    pub(super) unknown: Vec<NoisePublicKey>,
    /// The latest cursors, as they were shown in this run.
    shown: Shown,
    /// What others observed at cursors not read here yet.
    observed_ahead: VecDeque<(DeviceId, u64, ObservedHash)>,
    /// The floor that was claimed last cannot be compared here.
    pub(super) claim_judged: bool,
    /// Entries that were given up: whose, the first and the last.
    pub(super) given_up: Vec<(DeviceId, u64, u64)>,
    /// Entries read here beyond a hole in what was read of their sender's chain.
    read_ahead: BTreeSet<(DeviceId, u64)>,
}

impl Relays {
    /// In the order of their rank.
    pub(super) fn new(mut rows: Vec<RelayRow>) -> Self {
        rows.sort_by_key(|row| row.rank);
        Self(rows.into_iter().map(Relay::new).collect())
    }

    /// Those that carry the group's log.
    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = RelayAt> + use<> {
        let carry: Vec<RelayAt> = (0..self.0.len()).filter(|at| !self.0[*at].dropped).map(RelayAt).collect();
        carry.into_iter()
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Relay> {
        self.0.iter().filter(|relay| !relay.dropped)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Relay> {
        self.0.iter_mut().filter(|relay| !relay.dropped)
    }

    /// The one that orders rotations.
    pub(super) fn home(&self) -> RelayAt {
        let listed = |at: &RelayAt| (self[*at].row.unlisted, self[*at].row.rank);
        self.all().min_by_key(listed).expect("the last relay is never taken off the list")
    }

    /// Another relay of the group.
    pub(super) fn add(&mut self, row: RelayRow) -> RelayAt {
        let given_up = self.0.first().map(|relay| relay.given_up.clone()).unwrap_or_default();
        self.0.push(Relay { changed: true, given_up, ..Relay::new(row) });
        RelayAt(self.0.len() - 1)
    }

    /// It carries the group's log no more.
    pub(super) fn drop(&mut self, at: RelayAt) {
        self[at].dropped = true;
    }

    /// It comes first from now on.
    pub(super) fn make_home(&mut self, at: RelayAt) {
        for relay in self.iter_mut() {
            relay.row.rank += 1;
            relay.changed = true;
        }
        self[at].row.rank = 0;
    }

    /// Whose link this is.
    pub(super) fn by_link(&self, link: LinkId) -> Option<RelayAt> {
        self.all().find(|at| self[*at].session.link() == Some(link))
    }

    /// Which relay others call by this tag.
    pub(super) fn by_tag(&self, tag: RelayTag) -> Option<RelayAt> {
        self.all().find(|at| self[*at].tag() == Some(tag))
    }

    /// The first one with a live session.
    pub(super) fn first_live(&self) -> Option<RelayAt> {
        self.all().find(|at| self[*at].session.live_ref().is_some())
    }

    /// Whether there is no other relay.
    pub(super) fn is_alone(&self) -> bool {
        self.iter().count() == 1
    }

    pub(super) fn any_live(&self) -> bool {
        self.first_live().is_some()
    }
}

impl Index<RelayAt> for Relays {
    type Output = Relay;

    fn index(&self, at: RelayAt) -> &Relay {
        &self.0[at.0]
    }
}

impl IndexMut<RelayAt> for Relays {
    fn index_mut(&mut self, at: RelayAt) -> &mut Relay {
        &mut self.0[at.0]
    }
}

impl ReadRun {
    /// What was read begins where the rest is known to stand: then it stands there as well.
    fn join(&mut self) {
        if self.from_seq > 0 && self.from_seq <= self.there_seq + 1 {
            self.there_seq = self.there_seq.max(self.to_seq);
        }
    }
}

impl Relay {
    fn new(row: RelayRow) -> Self {
        Self {
            shown: Shown::from_here(&row),
            row,
            changed: false,
            dropped: false,
            becomes_home: false,
            session: Session::default(),
            sending: Sending::default(),
            hello_epoch: None,
            problem: None,
            doubted: false,
            diverged_ms: None,
            stays: false,
            ask_timeline: false,
            squatted: false,
            paper_next: false,
            comparison: None,
            put_back: 0,
            gap_walks: 0,
            recheck_wanted: None,
            recheck_soon: false,
            recheck_at_ms: None,
            recheck: None,
            rechecked: None,
            unhealed: false,
            verified: None,
            looks_left: 0,
            damage_told: false,
            looked: false,
            read_on: false,
            leave_order: false,
            left_at: None,
            left_in_recheck: false,
            suspected_ms: None,
            repair: None,
            reset: None,
            unusable: Vec::new(),
            gap_wanted: false,
            truncation: Truncation::default(),
            overruled: None,
            handed_out: Vec::new(),
            unknown: Vec::new(),
            observed_ahead: VecDeque::new(),
            claim_judged: false,
            given_up: Vec::new(),
            read_ahead: BTreeSet::new(),
        }
    }

    /// Where it is and who it must be.
    pub(super) fn address(&self) -> RelayAddress {
        RelayAddress { url: self.row.url.clone(), key: self.row.key }
    }

    /// How entries name it, once it was met.
    pub(super) fn tag(&self) -> Option<RelayTag> {
        self.row.key.map(|key| RelayTag::of(&key))
    }

    /// Whether it has shown all it has in this session.
    pub(super) fn caught_up(&self) -> bool {
        self.session.live_ref().is_some_and(|open| open.caught_up)
    }

    /// How far it was read.
    pub(super) fn position(&self) -> Anchor {
        Anchor { cursor: self.row.cursor, blob_id: self.row.blob_id_at_cursor, observed: self.row.observed }
    }

    /// What this device was shown, to tell others; nothing before the first meeting.
    pub(super) fn observed(&self) -> Option<Observed> {
        let row = &self.row;
        let hash = row.observed.short();
        Some(Observed { relay: self.tag()?, timeline: row.timeline, cursor: row.cursor, hash })
    }

    /// The fold up to the next cursor. Zero from where the relay no longer knows an id: then this
    /// device cannot compare what it was shown with others any more.
    pub(super) fn folded(&self, cursor: u64, blob_id: Option<BlobId>) -> FoldHash {
        match blob_id {
            Some(blob_id) if !self.row.observed.is_zero() => self.row.observed.fold(cursor, &blob_id),
            _ => FoldHash::ZERO,
        }
    }

    /// Whether an epoch's envelope was ever read here.
    pub(super) fn has_epoch(&self, blob_id: BlobId) -> bool {
        self.row.epochs_read.iter().any(|epoch| epoch.blob_id == blob_id)
    }

    /// Whether it was read here in this timeline.
    pub(super) fn has_read_epoch(&self, blob_id: BlobId) -> bool {
        self.row.epochs_read.iter().any(|epoch| epoch.blob_id == blob_id && epoch.timeline == self.row.timeline)
    }

    /// Notes that an epoch's envelope was read here in this timeline; `true` if it had been before.
    pub(super) fn epoch_read_again(&mut self, blob_id: BlobId) -> bool {
        let timeline = self.row.timeline;
        match self.row.epochs_read.iter_mut().find(|epoch| epoch.blob_id == blob_id) {
            Some(epoch) if epoch.timeline == timeline => return true,
            Some(epoch) => epoch.timeline = timeline,
            None => self.row.epochs_read.push(EpochRead { blob_id, timeline }),
        }
        self.changed = true;
        self.epoch_stands_there(blob_id);
        false
    }

    /// Notes that an entry was read here in this timeline; `true` if it had been read before.
    pub(super) fn read_again(&mut self, sender: DeviceId, seq: u64) -> bool {
        let at = self.run(sender);
        let run = &mut self.row.read[at];
        if run.from_seq == 0 {
            (run.from_seq, run.to_seq) = (seq, seq);
        } else if (run.from_seq..=run.to_seq).contains(&seq) || self.read_ahead.contains(&(sender, seq)) {
            return true;
        } else if seq == run.to_seq + 1 {
            run.to_seq = seq;
            while self.read_ahead.remove(&(sender, run.to_seq + 1)) {
                run.to_seq += 1;
            }
        } else if seq > run.to_seq && seq == run.there_seq + 1 {
            // A snapshot stands for what lies between.
            (run.from_seq, run.to_seq) = (seq, seq);
        } else if seq + 1 == run.from_seq {
            run.from_seq = seq;
        } else if seq > run.to_seq && self.read_ahead.len() < READ_AHEAD_MAX {
            self.read_ahead.insert((sender, seq));
        }
        run.join();
        self.pass_gaps(at);
        self.changed = true;
        false
    }

    /// What was given up counts as read here, and as standing here, once all before it does.
    pub(super) fn pass_gaps(&mut self, at: usize) {
        let run = &mut self.row.read[at];
        let of = run.device;
        for &(device, from_seq, to_seq) in self.given_up.iter().filter(|(device, ..)| *device == of) {
            let follows = |seq: u64| seq + 1 >= from_seq && seq < to_seq;
            if run.from_seq > 0 && follows(run.to_seq) {
                run.to_seq = to_seq;
                while self.read_ahead.remove(&(device, run.to_seq + 1)) {
                    run.to_seq += 1;
                }
                self.changed = true;
            }
            if follows(run.there_seq) {
                run.there_seq = to_seq;
                self.changed = true;
            }
            run.join();
        }
    }

    /// An entry was shown as a stub for what this device pushed.
    pub(super) fn shown_as_stub(&mut self, device: DeviceId, seq: u64) {
        let at = self.run(device);
        let run = &mut self.row.read[at];
        run.stub_seq = run.stub_seq.max(seq);
        self.changed = true;
    }

    /// Whether the bytes of these entries were read here, in this timeline.
    pub(super) fn has_shown(&self, device: &DeviceId, from_seq: u64, to_seq: u64) -> bool {
        let run = self.row.read.iter().find(|run| run.device == *device);
        run.is_some_and(|run| {
            run.from_seq > 0 && run.from_seq <= from_seq && run.to_seq >= to_seq && run.stub_seq < from_seq
        })
    }

    fn run(&mut self, device: DeviceId) -> usize {
        let runs = &mut self.row.read;
        runs.iter().position(|run| run.device == device).unwrap_or_else(|| {
            runs.push(ReadRun { device, from_seq: 0, to_seq: 0, there_seq: 0, stub_seq: 0 });
            runs.len() - 1
        })
    }

    /// An entry stands here, and all before it by the same device.
    pub(super) fn stands_there(&mut self, sender: DeviceId, seq: u64) {
        let at = self.run(sender);
        let run = &mut self.row.read[at];
        if seq == run.there_seq + 1 {
            run.there_seq = seq;
            run.join();
            self.pass_gaps(at);
            self.changed = true;
        }
    }

    /// Everything of a chain up to here is taken to stand here, for this device cannot say otherwise.
    pub(super) fn is_there_up_to(&mut self, device: DeviceId, seq: u64) {
        let at = self.run(device);
        let run = &mut self.row.read[at];
        run.there_seq = run.there_seq.max(seq);
        run.join();
        self.pass_gaps(at);
        self.changed = true;
    }

    /// An epoch's envelope stands here, whether it was read or not.
    pub(super) fn epoch_stands_there(&mut self, blob_id: BlobId) {
        if !self.row.epochs_there.contains(&blob_id) {
            self.row.epochs_there.push(blob_id);
            self.changed = true;
        }
    }

    /// Up to where a device's chain is known to stand here.
    pub(super) fn there_seq(&self, device: &DeviceId) -> u64 {
        self.row.read.iter().find(|run| run.device == *device).map_or(0, |run| run.there_seq)
    }

    /// Whether something this device has accepted is not known to stand here.
    pub(super) fn lacks(&self, chains: &LiteMap<DeviceId, ChainRow>, epoch: BlobId) -> bool {
        let epoch_there = epoch.is_zero() || self.row.epochs_there.contains(&epoch);
        !epoch_there || chains.iter().any(|(device, chain)| chain.seq > self.there_seq(device))
    }

    /// A link has gone, and with it whatever was being asked on it.
    pub(super) fn forget_questions(&mut self) {
        self.comparison = None;
        self.recheck = None;
        self.rechecked = None;
        self.repair = None;
        self.reset = None;
        self.truncation.asked = None;
    }

    /// What was seen in this run of a timeline that has ended says nothing of the next.
    pub(super) fn forget_what_was_shown(&mut self) {
        self.shown = Shown::from_here(&self.row);
        self.observed_ahead.clear();
        self.read_ahead.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_to_stand_there_goes_on_with_what_was_read_behind_it() {
        let address = RelayAddress { url: "http://127.0.0.1:8080".into(), key: None };
        let mut relay = Relay::new(RelayRow::new(0, address, None));
        let device = DeviceId([1; 32]);
        for seq in 5..=9 {
            relay.read_again(device, seq);
        }
        assert_eq!(relay.there_seq(&device), 0, "nothing is known of what stands before");
        relay.is_there_up_to(device, 3);
        assert_eq!(relay.there_seq(&device), 3);
        relay.is_there_up_to(device, 4);
        assert_eq!(relay.there_seq(&device), 9);
    }
}
