//! The sync engine: one membership of one group, kept in step through a relay.
//!
//! A state machine without I/O; [`crate::io`] fixes how it is driven. Its methods come in four
//! kinds: getters (`status`, `entry_reader`), events in ([`Machine::handle`]), mutators (`push`,
//! `mark_processed`, `invite`, …) and actions out ([`Machine::poll_output`]).
//!
//! | where | what |
//! |---|---|
//! | [`rows`], [`mirror`] | the local database, row by row; the envelopes in it |
//! | [`entries`] | what the app reads |
//! | [`effects`] | outputs wait for the commit they rest on |
//! | [`relay`] | the relays of the group: what each showed and acknowledged |
//! | [`listing`] | which relays the group has: a control entry |
//! | [`connection`] | reaching one of them: backoff, hello, liveness |
//! | [`outbox`], [`writing`] | own entries: queued, sealed at the first send, pushed, acknowledged |
//! | [`batches`] | pushes larger than one entry: parts and a commit |
//! | [`lamport`] | the group's time, and who is followed in it |
//! | [`compaction`], [`snapshots`], [`bootstrap`] | making a snapshot; comparing another device's; beginning with one |
//! | [`floors`], [`truncating`], [`shrinking`], [`searching`], [`resetting`] | where a snapshot ends in a relay's log; giving up what a snapshot stands for, at relays and here; finding one where a log has given that up, and going on from it |
//! | [`reading`], [`accepting`], [`vouching`], [`epochs`] | the relay's log: verified page by page, ordered per sender, delivered |
//! | [`naming`], [`giving_up`] | what members say they have of others; entries that nobody has any more |
//! | [`comparing`], [`rechecking`], [`repairing`], [`incident`] | a relay that lost something: found out, put right, told |
//! | [`receipts`], [`presence`] | what this device has and the others have; who is there now |
//! | [`inviting`] | letting another device in |
//! | [`bringing`] | what a device had written before it joined |
//! | [`approving`] | a copy of this device that is to go on |
//! | [`rotating`], [`membership`], [`resending`] | changing the keys, removing and leaving, telling relays that missed it |
//! | [`recovering`] | enrolling recovery words |
//! | [`refounding`] | taking the group back from a device that changed the keys first |
//! | [`branching`], [`early`] | epochs that follow the same one; epochs that came before what they follow |
//! | [`audit`] | verifying everything stored, again |
//!
//! Invariants: what is in memory may be ahead of disk, but nothing that rests on it gets out
//! before the commit; sealed bytes never change; the app sees authenticated entries only, each
//! sender's in order; no decision about what to send depends on whether something decrypted.

mod accepting;
mod approving;
mod audit;
mod backoff;
pub(crate) mod batches;
mod bootstrap;
mod branching;
pub(crate) mod bringing;
mod compaction;
mod comparing;
mod connection;
mod early;
mod effects;
mod entries;
mod epochs;
mod floors;
mod giving_up;
mod holding;
mod incident;
mod inviting;
mod lamport;
mod listing;
mod membership;
pub(crate) mod mirror;
mod naming;
pub(crate) mod opening;
mod outbox;
mod presence;
mod reading;
mod receipts;
mod rechecking;
mod recovering;
mod refounding;
mod relay;
mod removed;
mod repairing;
mod resending;
mod resetting;
mod rotating;
pub(crate) mod rows;
mod searching;
mod shrinking;
mod snapshots;
mod status;
mod truncating;
mod vouching;
mod writing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use litemap::LiteMap;
use rand_chacha::ChaCha20Rng;
use zerok_sync_protocol::{BlobId, wire};

pub use self::backoff::Backoff;
pub use audit::{Audit, AuditReport, AuditedSender};
pub use batches::PUSH_BYTES_MAX;
pub use bringing::{FormerEntry, FormerGroup};
pub use entries::{Entry, EntryReader, InParts, Stored, StoredEntries};
pub use giving_up::Hole;
pub use opening::{Founding, Secrets};
pub use shrinking::MirrorPolicy;
pub use status::{Connection, GrantedDevice, Member, RelayStatus, STALE_AFTER_MS, SnapshotStatus, Status};

use crate::error::{OpenError, PushError};
use crate::event::{Event, IntegrityEvent};
use crate::id::DeviceId;
use crate::io::{Input, Machine, Now, Output, Row, ScanId};
use crate::keyring::Keyring;
use crate::keys::{Membership, MembershipSeed, StoreKey};
use bootstrap::Bootstrap;
use branching::Doubt;
use compaction::Compaction;
use effects::Effects;
use inviting::Invitation;
use mirror::MirrorWriter;
use outbox::Outbox;
use receipts::Receipts;
use recovering::Paper;
use relay::Relays;
use removed::Outline;
use rotating::Rotation;
use rows::{
    ChainRow, EarlyEpochRow, EpochRow, GapRow, GrantedRow, GroupRow, HeldRow, JoiningRow, LeavingRow, MemberRow,
    PartsRow, ProgressRow, RemovedRow, hot, hot_key,
};
use shrinking::Shrinking;
use snapshots::{Candidate, Snapshot, SnapshotCheck};

/// Findings that `status` lists.
const FINDINGS_LISTED_MAX: usize = 64;
/// Findings on disk: all are read at every start, and a hostile relay makes as many as it likes.
const FINDINGS_KEPT_MAX: u64 = 1_024;

/// One membership, driven from outside. See the module's documentation.
#[derive(Debug)]
pub struct Engine {
    store_key: StoreKey,
    rng: ChaCha20Rng,
    effects: Effects,

    seed: MembershipSeed,
    me: Membership,
    genesis: Bytes,
    /// Shared with whoever reads entries.
    keyring: Arc<Keyring>,
    group: GroupRow,
    joining: Option<JoiningRow>,
    /// Set while entries of a former group are to be queued.
    bringing: Option<bringing::BringingRow>,
    /// Set once this device wants to leave.
    leaving: Option<LeavingRow>,
    /// A change of keys that is wanted.
    rotation: Option<Rotation>,
    /// Recovery words that are being enrolled.
    paper: Option<Paper>,
    /// When it is this device's turn to remove who leaves.
    farewell_ms: Option<u64>,
    /// Every epoch accepted, genesis first.
    epochs: Vec<EpochRow>,
    removed: LiteMap<DeviceId, RemovedRow>,
    /// Let in here and not heard of yet.
    granted: LiteMap<DeviceId, GrantedRow>,
    progress: ProgressRow,
    progress_changed: bool,
    members: LiteMap<DeviceId, MemberRow>,
    chains: LiteMap<DeviceId, ChainRow>,
    /// Whose row differs from `chains`.
    chains_changed: BTreeSet<DeviceId>,
    /// What was accepted and is not in a batch yet.
    mirror: MirrorWriter,

    /// Parts at the end of a device's chain whose commit has not come.
    parts: LiteMap<DeviceId, PartsRow>,
    /// The newest snapshot that is as this device has it.
    snapshot: Option<Snapshot>,
    /// Those that are still to be compared, …
    candidates: VecDeque<Candidate>,
    /// … and the one of them that is being.
    snapshot_check: Option<SnapshotCheck>,
    /// The one that this device is to begin with, until it was found …
    bootstrap: Option<Bootstrap>,
    /// … and has begun with, or has shrunk to.
    base: Option<Snapshot>,
    /// Entries of archives that were gone through in this run, and are kept.
    replayed: BTreeSet<BlobId>,
    /// Giving up what snapshots stand for here.
    shrinking: Shrinking,
    /// One that is being made here.
    compaction: Option<Compaction>,
    /// The app was told in this run that the log has outgrown its snapshot.
    advised: bool,
    held: BTreeMap<(DeviceId, u64), HeldRow>,
    /// How many of them were accepted in this run.
    released: u64,
    /// The chains of removed devices, as far as they were shown and do not count yet.
    outlines: LiteMap<DeviceId, Outline>,
    /// Epochs that wait for what they rest on.
    early_epochs: LiteMap<BlobId, EarlyEpochRow>,
    /// What looks wrong and may be cured soon.
    doubts: Vec<Doubt>,
    held_bytes: usize,
    /// Entries whose own signature is bad and whose successor may vouch for them.
    unsigned: BTreeMap<vouching::UnsignedAt, vouching::Unsigned>,
    /// What members name of other devices, where it is not stored yet.
    wanted: naming::Named,
    /// Entries that members have given up.
    gaps: BTreeMap<giving_up::GapAt, GapRow>,
    /// Gaps reported in this run, so that each is reported once.
    gaps_reported: LiteMap<DeviceId, u64>,

    outbox: Outbox,
    /// The scan under way, and the seq it begins at.
    outbox_scan: Option<(ScanId, u64)>,
    /// Seqs below this are in the window, or done.
    outbox_loaded: u64,
    lookups: BTreeMap<ScanId, reading::Lookup>,
    scans: u64,

    /// What other devices have, by their own word.
    receipts: Receipts,
    /// A copy that was approved reads its outbox.
    approval: Option<ScanId>,

    relays: Relays,
    /// The app wants it online: a relay that is new is connected to.
    online: bool,
    links: u64,
    invitation: Option<Invitation>,
    findings: VecDeque<IntegrityEvent>,
    stopped: bool,
}

impl Machine for Engine {
    fn handle(&mut self, now: Now, input: Input) {
        if self.stopped {
            return;
        }
        match input {
            Input::Tick => self.on_tick(now),
            Input::Wake => self.on_wake(now),
            Input::LinkUp(link) => self.on_link_up(now, link),
            Input::LinkMessage(link, message) => self.on_link_message(now, link, &message),
            Input::LinkDown(link, reason) => self.on_link_down(now, link, reason),
            Input::Committed(id) => {
                self.effects.committed(id);
            }
            Input::CommitFailed(_, fault) => {
                self.stopped = true;
                self.effects.end(Output::Event(Event::StorageFailed(fault)));
                return;
            }
            Input::Scanned(id, rows) => self.on_scanned(now, id, rows),
        }
        self.step(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.effects.poll()
    }

    fn next_deadline_ms(&self) -> Option<u64> {
        // A machine that stopped does nothing at any time.
        if self.stopped {
            return None;
        }
        let others = [self.farewell_deadline_ms(), self.recovery_deadline_ms(), self.doubts_deadline_ms()];
        self.sessions_deadline_ms().into_iter().chain(others.into_iter().flatten()).min()
    }
}

impl Engine {
    /// Key of the first row that [`Engine::open`] needs.
    pub const HOT_FROM: &'static [u8] = rows::HOT_FROM;
    /// Key behind the last row that [`Engine::open`] needs.
    pub const HOT_TO: &'static [u8] = rows::HOT_TO;

    /// Queues a blob of up to [`PUSH_BYTES_MAX`]: whatever its size, the other devices see all of it
    /// or nothing. It is durable here at [`Event::PushesStored`] and at the relay at
    /// [`Event::PushesAcked`] with this number or a higher one. Numbers rise, with gaps.
    ///
    /// # Errors
    /// [`PushError`]; nothing was queued.
    pub fn push(&mut self, now: Now, blob: Bytes) -> Result<u64, PushError> {
        if self.stopped {
            return Err(PushError::Stopped);
        }
        if self.leaving.is_some() {
            return Err(PushError::Left);
        }
        let push = self.queue_push(blob)?;
        self.step(now);
        Ok(push)
    }

    /// The app has processed every entry up to this position: after a restart it is not asked to
    /// again. Returns the position that [`Event::ProcessedStored`] reaches or has reached: this one,
    /// or the highest there is.
    pub fn mark_processed(&mut self, now: Now, position: u64) -> u64 {
        let position = position.min(self.progress.position);
        if position > self.progress.processed {
            self.progress.processed = position;
            self.progress_changed = true;
            self.event(Event::ProcessedStored { position });
            self.event(Event::StatusChanged);
            self.step(now);
        }
        position
    }

    /// Ends every step: uses what became possible, lets outputs go, and writes what changed.
    fn step(&mut self, now: Now) {
        self.check_joined();
        self.connect_new_relays(now);
        self.ask_timelines(now);
        self.judge_doubts(now);
        self.plan_repairs(now);
        self.pump_recovery(now);
        self.pump_rotation(now);
        self.check_candidate();
        self.compare_claims();
        self.pump_resets(now);
        self.pump_truncation(now);
        self.pump_shrinking();
        self.give_up_gaps();
        self.advise_compaction();
        self.pump_outbox(now);
        self.pump_receipts(now);
        self.pump_presence(now);
        self.tell_everywhere();
        self.owe_rows();
        self.transmit();
        if self.effects.may_flush() {
            self.put_owed_rows();
        }
        self.effects.flush();
    }

    /// What is emitted from here on waits for everything that has changed, whose rows are put when
    /// the batch leaves: so they are written once for a batch and not once for a change.
    fn owe_rows(&mut self) {
        let progress = self.progress_changed || self.relays.iter().any(|relay| relay.changed);
        let heard = !self.chains_changed.is_empty() || self.receipts.has_changes();
        if progress || heard || !self.mirror.is_empty() {
            self.effects.owe();
        }
    }

    fn put_owed_rows(&mut self) {
        for device in std::mem::take(&mut self.chains_changed) {
            if let Some(chain) = self.chains.get(&device) {
                self.effects.put(hot_key(hot::CHAIN, &device.0), wire::encode(chain));
            }
        }
        for (key, value) in self.receipts.take_rows() {
            self.effects.put(key, value);
        }
        for Row { key, value } in self.mirror.take() {
            self.effects.put(key, value);
        }
        self.put_progress();
    }

    fn event(&mut self, event: Event) {
        self.owe_rows();
        self.effects.emit(Output::Event(event));
    }

    /// Writes how far this device has come, and how far on each relay, where that changed.
    fn put_progress(&mut self) {
        if std::mem::take(&mut self.progress_changed) {
            self.effects.put(hot_key(hot::PROGRESS, &[]), wire::encode(&self.progress));
        }
        for relay in self.relays.iter_mut() {
            if std::mem::take(&mut relay.changed) {
                self.effects.put(relay.row.row_key(), wire::encode(&relay.row));
            }
        }
    }

    /// Leaves nothing of what was found but these.
    fn replace_findings(&mut self, findings: Vec<IntegrityEvent>) {
        let last = self.progress.findings;
        for number in last.saturating_sub(FINDINGS_KEPT_MAX) + 1..=last {
            self.effects.delete(rows::finding_key(number));
        }
        for finding in &findings {
            self.progress.findings += 1;
            let (key, value) = rows::finding_row(self.progress.findings, finding);
            self.effects.put(key, value);
        }
        self.progress_changed = true;
        self.findings = findings.into();
    }

    /// Records an accusation that this device has not raised yet.
    fn find_once(&mut self, finding: IntegrityEvent) {
        if !self.findings.contains(&finding) {
            self.find(finding);
        }
    }

    /// Records an accusation durably and tells the app.
    fn find(&mut self, finding: IntegrityEvent) {
        self.progress.findings += 1;
        self.progress_changed = true;
        let (key, value) = rows::finding_row(self.progress.findings, &finding);
        self.effects.put(key, value);
        if let Some(old) = self.progress.findings.checked_sub(FINDINGS_KEPT_MAX) {
            self.effects.delete(rows::finding_key(old));
        }
        if self.findings.len() == FINDINGS_LISTED_MAX {
            self.findings.pop_front();
        }
        self.findings.push_back(finding.clone());
        self.event(Event::Integrity(finding));
    }

    fn scan(&mut self, (from, to): (Vec<u8>, Vec<u8>), bytes_max: usize) -> ScanId {
        self.owe_rows();
        self.scans += 1;
        let id = ScanId(self.scans);
        self.effects.emit(Output::Scan { id, from, to, bytes_max });
        id
    }

    fn on_scanned(&mut self, now: Now, id: ScanId, rows: Vec<Row>) {
        if let Some((_, from)) = self.outbox_scan.take_if(|(scan, _)| *scan == id) {
            self.load_outbox(from, rows);
        } else if self.missed_rotation_read(id, &rows) || self.approval_read(id, &rows) {
        } else if let Some(lookup) = self.lookups.remove(&id) {
            let known = rows.first().and_then(|run| mirror::indexed(run, &lookup.sender, lookup.seq));
            self.judge(&lookup, known.map(|(blob_id, _)| blob_id));
            if self.lookups.is_empty() {
                // Only now has it caught up with what it read.
                self.event(Event::StatusChanged);
            }
        } else if !self.compaction_scanned(id, &rows)
            && !self.again_scanned(now, id, &rows)
            && !self.shrinking_scanned(id, &rows)
            && !self.snapshot_scanned(id, &rows)
            && !self.comparison_scanned(now, id, &rows)
        {
            self.repair_scanned(now, id, &rows);
        }
    }

    /// What the database holds does not fit: stop before it gets worse.
    fn stop_corrupt(&mut self, what: &'static str) {
        self.stopped = true;
        let fault = crate::io::StorageFault::Failed(OpenError::Corrupt(what).to_string());
        self.effects.end(Output::Event(Event::StorageFailed(fault)));
    }
}
