//! The relay's log, page by page: every cursor is accounted for, every entry opened and
//! authenticated, before any of it is accepted.
//!
//! One signature vouches for all earlier entries of the same sender on the page, through the hash
//! chain: a page is authenticated from its end, so that only the newest entry per sender costs an
//! Ed25519 verification. An entry that fails still occupies its cursor and is folded into
//! `observed`; it is reported once and never stalls the stream.

use bytes::Bytes;
use litemap::LiteMap;
use zerok_sync_protocol::envelope::{EnvelopeHeader, blob_id};
use zerok_sync_protocol::frame::EntryItem;
use zerok_sync_protocol::{BlobId, ClientFrame, EnvelopeType, EpochId, Timeline};

use super::connection::CREDIT_BYTES;
use super::relay::{Pushed, Relay, RelayAt};
use super::rows::JoiningRow;
use super::{Engine, mirror};
use crate::content::{KindSupport, Observed, SeenHash};
use crate::error::Problem;
use crate::event::{Event, IntegrityEvent};
use crate::id::DeviceId;
use crate::observed::FoldHash;
use crate::seal::{self, Authenticated, Decrypted, OpenFailure};

/// One envelope with its place in a relay's history.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) at: RelayAt,
    pub(super) timeline: Timeline,
    pub(super) cursor: u64,
    pub(super) observed: FoldHash,
    pub(super) blob_id: BlobId,
    pub(super) envelope: Bytes,
}

/// What the relay says of one cursor.
struct Item {
    /// `None` where it no longer knows.
    blob_id: Option<BlobId>,
    envelope: Option<Bytes>,
    finding: Option<IntegrityEvent>,
    /// What a stub stands for.
    stub: Option<Stub>,
}

/// What this session pushed, shown without its bytes.
struct Stub {
    pushed: Pushed,
    /// The bytes are still in the outbox, and are accepted from there.
    in_outbox: bool,
}

/// What became of opening it.
enum Opened {
    Entry(Decrypted),
    Epoch,
    Failed(OpenFailure),
    Nothing,
}

/// A question to storage about an entry that came a second time, or in another shape.
#[derive(Debug, Clone)]
pub(super) struct Lookup {
    pub(super) at: RelayAt,
    pub(super) sender: DeviceId,
    pub(super) seq: u64,
    pub(super) cursor: u64,
    pub(super) blob_id: BlobId,
    /// This relay had shown that place of the chain before.
    pub(super) again: bool,
    /// Its sender has signed it, or vouches for it.
    pub(super) signed: bool,
}

impl Engine {
    /// A page of the log.
    ///
    /// # Errors
    /// A [`Problem`] that ends the session; everything before its cause is kept, and the next
    /// session reads on from there.
    pub(super) fn on_entries(&mut self, at: RelayAt, items: Vec<EntryItem>) -> Result<(), Problem> {
        let position_before = self.progress.position;
        let items = self.recheck_page(at, items)?;
        let result = self.read_page(at, items);
        if self.progress.position > position_before {
            self.event(Event::EntriesAvailable { position: self.progress.position });
        }
        if self.relays[at].caught_up() && self.reads_what_was_left(at) {
            return result;
        }
        if self.relays[at].caught_up() {
            // What devices say of themselves bears out what others name.
            self.open_receipts_ahead(at);
            self.report_gaps();
            self.report_unsigned();
        }
        result
    }

    /// Reads a page in runs that end with an epoch: what stands behind it may need the keys that it
    /// brings.
    fn read_page(&mut self, at: RelayAt, items: Vec<EntryItem>) -> Result<(), Problem> {
        let mut expected = self.relays[at].row.cursor;
        let mut run = Vec::new();
        for item in items {
            expected += 1;
            match self.examine(at, expected, item) {
                Ok(item) => {
                    let ends_run = item.envelope.as_deref().is_some_and(is_epoch);
                    run.push(item);
                    if ends_run {
                        self.read_run(at, std::mem::take(&mut run))?;
                    }
                }
                Err(problem) => return self.read_run(at, run).and(Err(problem)),
            }
        }
        self.read_run(at, run)
    }

    /// Checks the cursor of an item and the id of its bytes. Nothing has moved yet.
    fn examine(&mut self, at: RelayAt, expected: u64, item: EntryItem) -> Result<Item, Problem> {
        let (EntryItem::Stored { cursor, .. } | EntryItem::Own { cursor, .. } | EntryItem::Absent { cursor, .. }) =
            item;
        if cursor != expected {
            self.find(IntegrityEvent::CursorJump { expected, got: cursor });
            return Err(Problem::ProtocolViolation("cursors that are not consecutive"));
        }
        Ok(match item {
            EntryItem::Stored { blob_id: claimed, envelope, .. } if blob_id(&envelope) == claimed => {
                Item { blob_id: Some(claimed), envelope: Some(envelope), finding: None, stub: None }
            }
            EntryItem::Stored { blob_id, .. } => {
                let finding = Some(IntegrityEvent::Corrupt { cursor, blob_id });
                Item { blob_id: Some(blob_id), envelope: None, finding, stub: None }
            }
            EntryItem::Own { blob_id, .. } => {
                if let Some(envelope) = self.rotation_envelope(&blob_id) {
                    self.relays[at].sending.shown(&blob_id);
                    return Ok(Item { blob_id: Some(blob_id), envelope: Some(envelope), finding: None, stub: None });
                }
                let Some(pushed) = self.relays[at].sending.shown(&blob_id) else {
                    return Err(Problem::ProtocolViolation("a stub for what this session did not push"));
                };
                let envelope = self.outbox.envelope_of(&blob_id);
                let stub = Some(Stub { pushed, in_outbox: envelope.is_some() });
                Item { blob_id: Some(blob_id), envelope, finding: None, stub }
            }
            // What the relay lost may be an own entry, whose bytes are still here.
            EntryItem::Absent { blob_id, .. } => Item {
                blob_id,
                envelope: blob_id.and_then(|id| self.outbox.envelope_of(&id)),
                finding: Some(IntegrityEvent::Lost { cursor, blob_id }),
                stub: None,
            },
        })
    }

    /// Moves the reading position by one cursor.
    fn advance(&mut self, at: RelayAt, cursor: u64, blob_id: BlobId, observed: FoldHash) {
        for observer in self.relays[at].advance(cursor, blob_id, observed) {
            self.suspect(at, IntegrityEvent::Forked { observer, cursor });
        }
    }

    /// A stub was read: what it stands for was shown here.
    fn note_stub(&mut self, at: RelayAt, timeline: Timeline, cursor: u64, blob_id: BlobId, stub: &Stub) {
        let me = self.me.device();
        let (entry, is_epoch) = match stub.pushed {
            Pushed::Own { seq } => (Some((me, seq)), false),
            Pushed::PutBack { entry, epoch } => (entry, epoch),
        };
        let relay = &mut self.relays[at];
        if is_epoch {
            relay.epoch_read_again(blob_id);
        }
        let Some((sender, seq)) = entry else { return };
        relay.shown_as_stub(sender, seq);
        relay.showed(timeline, cursor, &sender, seq);
        if stub.in_outbox {
            return;
        }
        relay.read_again(sender, seq);
        if matches!(stub.pushed, Pushed::Own { .. }) {
            // Another relay showed it first: it is in the mirror.
            self.acked_up_to(at, seq);
        }
    }

    /// Opens, authenticates and accepts a run, in its order. A cursor counts as read together with
    /// what stands there, so what stops the run is read again.
    fn read_run(&mut self, at: RelayAt, run: Vec<Item>) -> Result<(), Problem> {
        let opened = run.iter().map(|item| match (&item.envelope, item.blob_id) {
            (Some(envelope), Some(blob_id)) => self.open_envelope(envelope, blob_id),
            _ => Opened::Nothing,
        });
        let authenticated = authenticate(opened.collect());
        for (item, outcome) in run.into_iter().zip(authenticated) {
            let cursor = self.relays[at].row.cursor + 1;
            let observed = self.relays[at].folded(cursor, item.blob_id);
            let blob_id = item.blob_id.unwrap_or(BlobId::ZERO);
            let timeline = self.relays[at].row.timeline;
            let placed =
                Placed { at, timeline, cursor, observed, blob_id, envelope: item.envelope.unwrap_or_default() };
            match &outcome {
                Outcome::Entry(entry)
                    if entry.kind.support() == KindSupport::UpdateNeeded
                        && self.members.contains_key(&entry.sender) =>
                {
                    return Err(Problem::UpdateNeeded);
                }
                Outcome::Failed(OpenFailure::UpdateNeeded(_)) if self.names_an_epoch(&placed.envelope) => {
                    return Err(Problem::UpdateNeeded);
                }
                Outcome::Epoch => self.accept_epoch(placed.clone())?,
                _ => {}
            }
            let before = self.relays[at].position();
            self.advance(at, cursor, blob_id, observed);
            if let Some(stub) = item.stub {
                self.note_stub(at, timeline, cursor, blob_id, &stub);
            }
            match item.finding {
                // A row that is gone leaves a hole for ever, also once it was put back behind it.
                Some(finding @ IntegrityEvent::Lost { blob_id: None, .. }) => self.suspect(at, finding),
                Some(finding) => {
                    self.find(finding);
                    self.relays[at].note_damaged(before, cursor);
                    self.ask_for_help(at);
                }
                None => {}
            }
            match outcome {
                Outcome::Entry(entry) => self.accept(placed, &entry),
                Outcome::Unsigned(entry) => self.accept_unsigned(placed, &entry),
                Outcome::Failed(_) => {
                    self.relays[at].note_unopened(cursor);
                    self.find(IntegrityEvent::Corrupt { cursor, blob_id });
                }
                Outcome::Epoch | Outcome::Nothing => {}
            }
        }
        Ok(())
    }

    /// Whether bytes of an unknown format at least name one of this group's epochs, where every
    /// format does: then a member's newer device is likelier than garbage.
    fn names_an_epoch(&self, envelope: &[u8]) -> bool {
        envelope.get(4..12).and_then(EpochId::from_slice).is_some_and(|epoch| self.keyring.get(&epoch).is_some())
    }

    /// `blob_id` is the envelope's: [`Self::examine`] has seen to that.
    fn open_envelope(&self, envelope: &[u8], blob_id: BlobId) -> Opened {
        if is_epoch(envelope) {
            return Opened::Epoch;
        }
        match seal::open_known(&self.keyring, envelope, blob_id) {
            Ok(entry) => Opened::Entry(entry),
            Err(failure) => Opened::Failed(failure),
        }
    }

    /// Everything up to `head` is here: now what is still missing is missing.
    ///
    /// # Errors
    /// [`Problem::ProtocolViolation`] when it is not: nothing may be written on such a word.
    pub(super) fn on_caught_up(&mut self, at: RelayAt, head: u64) -> Result<(), Problem> {
        let cursor = self.relays[at].row.cursor;
        if head > cursor {
            return Err(Problem::ProtocolViolation("the end of a log that it did not send"));
        }
        self.recheck_page(at, Vec::new())?;
        if self.relays[at].recheck.is_some() {
            return Err(Problem::ProtocolViolation("the end of a log that it did not send"));
        }
        if self.reads_what_was_left(at) {
            return Ok(());
        }
        let Some(open) = self.relays[at].session.live() else { return Ok(()) };
        let first = !std::mem::replace(&mut open.caught_up, true);
        self.relays[at].looked = false;
        self.relays[at].doubted = false;
        self.relays[at].squatted = false;
        // The session's first receipt says the same, at the end of this step.
        if self.receipt_due_ms(at) != Some(0)
            && let Some(open) = self.relays[at].session.live()
        {
            open.send(&ClientFrame::Ack { cursor, receipt: None });
        }
        if first {
            self.relays[at].end_searches();
            self.judge_at_end(at);
            self.take_back_acks(at);
            self.list_relay(at);
        }
        if first {
            self.open_receipts_ahead(at);
        }
        self.report_gaps();
        self.report_unsigned();
        if first && self.relays[at].row.excused && !self.relays[at].row.rebuilding {
            // Whoever had something to put back did so before it pushed what names that.
            (self.relays[at].row.excused, self.relays[at].changed) = (false, true);
        }
        if first {
            self.compare_allow_list(at);
            self.event(Event::StatusChanged);
        }
        Ok(())
    }

    /// What there was no room for is read again where there may be some now, before anything is said to
    /// be missing. Whether it is.
    fn reads_what_was_left(&mut self, at: RelayAt) -> bool {
        let has_room = self.has_room_for_what_was_left(at);
        if has_room {
            (self.relays[at].looked, self.relays[at].read_on) = (false, true);
        }
        has_room
    }

    /// What a relay acknowledged in an earlier session and does not show now, it has lost before it
    /// was read back. The outbox has it still.
    fn take_back_acks(&mut self, at: RelayAt) {
        let me = self.me.device();
        let relay = &mut self.relays[at];
        // Where a timeline begins behind another's, what is common was not read again.
        let read_seq =
            relay.row.read.iter().find(|run| run.device == me).map_or(0, |run| run.to_seq.max(run.there_seq));
        if read_seq < relay.row.acked_seq && !relay.row.rebuilding {
            relay.row.acked_seq = read_seq;
            relay.sending.send_behind(read_seq);
            relay.changed = true;
        }
    }

    /// An entry that something stored names, and that did not come, is missing once no relay is left
    /// that may still bring it.
    pub(super) fn report_gaps(&mut self) {
        if self.relays.iter().any(|relay| relay.session.is_under_way()) {
            return;
        }
        self.give_up_gaps();
        let mut missing: Vec<IntegrityEvent> = Vec::new();
        let mut last = None;
        for (sender, seq) in self.held.keys() {
            // What waits for the first hole says nothing of others yet.
            if last.replace(*sender) != Some(*sender) {
                let from_seq = self.seq_of(sender) + 1;
                missing.push(IntegrityEvent::Gap { sender: *sender, from_seq, to_seq: seq - 1 });
            }
        }
        missing.extend(self.missing_by_name());
        missing.into_iter().for_each(|finding| self.report_missing(finding));
    }

    fn report_missing(&mut self, finding: IntegrityEvent) {
        let (IntegrityEvent::Gap { sender, from_seq, to_seq }
        | IntegrityEvent::Unproven { sender, from_seq, to_seq, .. }) = finding
        else {
            return;
        };
        let is_gap = matches!(finding, IntegrityEvent::Gap { .. });
        if to_seq < from_seq || (is_gap && self.gaps_reported.get(&sender) == Some(&to_seq)) {
            return;
        }
        if is_gap {
            self.gaps_reported.insert(sender, to_seq);
        }
        // Another relay may bring it, or a device that puts it back: also what this one had not read
        // when the relay lost it.
        let restored = |relay: &Relay| relay.row.rebuilding || relay.row.excused;
        // A relay that lost something is told the removals first, and what they name behind them.
        let put_back_later = self.removed.contains_key(&sender);
        let stood_for = self.relay_with_snapshot_for(&sender, to_seq).is_some();
        if self.relays.is_alone() && !self.relays.iter().any(restored) && !put_back_later && !stood_for {
            if is_gap {
                self.find(finding.clone());
            } else {
                // One member's word is no reason to tell of it in every run.
                self.find_once(finding.clone());
            }
        }
        // Also what was told at once: until then somebody may bring it.
        self.doubt(finding);
    }

    /// Gives credit back in large steps; the page is in the batch, not in memory.
    pub(super) fn give_credit(&mut self, at: RelayAt, bytes: u64) {
        if let Some(open) = self.relays[at].session.live() {
            open.credit_used += bytes;
            if open.credit_used >= CREDIT_BYTES / 4 {
                let bytes = std::mem::take(&mut open.credit_used);
                open.send(&ClientFrame::Credit { bytes });
            }
        }
    }

    /// What the index knows about a seq that came again.
    pub(super) fn judge(&mut self, lookup: &Lookup, known: Option<BlobId>) {
        let Lookup { at, sender, seq, cursor, blob_id, again, signed } = *lookup;
        match known {
            // From another relay it was known already.
            Some(first) if first == blob_id && !again => {
                if !signed {
                    self.relays[at].read_again(sender, seq);
                }
            }
            // History, if an incident tells of this timeline.
            Some(first) if first == blob_id && self.relays[at].is_explained() => {}
            Some(first) if first == blob_id => self.find(IntegrityEvent::Replayed { cursor, blob_id }),
            Some(_) if !signed => self.find(IntegrityEvent::ForgedByMember { cursor, sender }),
            Some(first) => self.find(IntegrityEvent::ForkedDevice { sender, seq, first, second: blob_id }),
            // It was never here: what this device began with stands for it.
            None if self.base.as_ref().is_some_and(|base| base.manifest.covers(&sender, seq)) => {}
            // Nor was this, and the group has given it up.
            None if self.is_in_gap(&sender, seq) => {}
            // Accepted before, so there is a row; without one the database has lost it.
            None => self.stop_corrupt("index"),
        }
    }

    /// Asks storage what was accepted at this seq; [`Self::judge`] goes on.
    pub(super) fn look_up(&mut self, lookup: Lookup) {
        // The first row alone: it is the run that holds this seq.
        let id = self.scan(mirror::index_range(&lookup.sender, lookup.seq), 1);
        self.lookups.insert(id, lookup);
    }

    /// Compares what another device observed on this relay with what this one was shown.
    pub(super) fn compare_observed(&mut self, entry: &Authenticated) {
        if let Some(pair) = &entry.observed {
            self.compare_pair(entry.sender, pair);
        }
    }

    /// The same, of a pair that an entry or a receipt names.
    pub(super) fn compare_pair(&mut self, observer: DeviceId, pair: &Observed) {
        let Some(at) = self.relays.by_tag(pair.relay) else { return };
        let relay = &mut self.relays[at];
        if relay.row.timeline == pair.timeline && relay.contradicts(observer, pair.cursor, pair.hash) {
            self.suspect(at, IntegrityEvent::Forked { observer, cursor: pair.cursor });
        }
    }

    /// What the inviting device had been shown of this log: compared once this one has read as far,
    /// so that a relay cannot start a new member on a history of its own.
    pub(super) fn expect_granted_order(&mut self, at: RelayAt) {
        let Some(JoiningRow { observed: Some(pair), inviter, .. }) = &self.joining else { return };
        let relay = &mut self.relays[at];
        let comparable = Some(pair.relay) == relay.tag() && pair.timeline == relay.row.timeline;
        if comparable && relay.contradicts(*inviter, pair.cursor, pair.hash) {
            let (observer, cursor) = (*inviter, pair.cursor);
            self.suspect(at, IntegrityEvent::Forked { observer, cursor });
        }
    }

    /// Whether an item of `seen` names what this device has, as far as it can tell at once.
    pub(super) fn has_seen(&self, device: &DeviceId, seq: u64, hash: SeenHash) -> bool {
        self.chains
            .get(device)
            .is_some_and(|chain| chain.seq > seq || (chain.seq == seq && SeenHash::of(&chain.blob_id) == hash))
    }
}

/// What a page's envelope turned out to be.
enum Outcome {
    Entry(Authenticated),
    /// Sealed with the group's key, but this sender did not sign it.
    Unsigned(Decrypted),
    Epoch,
    Failed(OpenFailure),
    Nothing,
}

pub(super) fn is_epoch(envelope: &[u8]) -> bool {
    EnvelopeHeader::parse(envelope).is_ok_and(|(header, _)| header.kind == EnvelopeType::Epoch)
}

/// Authenticates from the end: by the sender's next entry where the chain links them, else by the
/// signature.
fn authenticate(page: Vec<Opened>) -> Vec<Outcome> {
    // From the end, each sender's earliest so far, by its place in `outcomes`.
    let mut next: LiteMap<DeviceId, usize> = LiteMap::new();
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(page.len());
    for opened in page.into_iter().rev() {
        let outcome = match opened {
            Opened::Epoch => Outcome::Epoch,
            Opened::Nothing => Outcome::Nothing,
            Opened::Failed(failure) => Outcome::Failed(failure),
            Opened::Entry(entry) => {
                let sender = entry.claims().sender;
                let vouched = match next.get(&sender).map(|&at| &outcomes[at]) {
                    // What makes a device a member counts by its own signature.
                    Some(Outcome::Entry(successor)) if entry.claims().seq > 1 => entry.vouched_by(successor),
                    _ => Err(entry),
                };
                match vouched.or_else(Decrypted::verify) {
                    Ok(entry) => {
                        next.insert(sender, outcomes.len());
                        Outcome::Entry(entry)
                    }
                    Err(entry) => Outcome::Unsigned(entry),
                }
            }
        };
        outcomes.push(outcome);
    }
    outcomes.reverse();
    outcomes
}
