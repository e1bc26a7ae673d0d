//! The relay's log, page by page: every cursor is accounted for, every entry opened and
//! authenticated, before any of it is accepted.
//!
//! One signature vouches for all earlier entries of the same sender on the page, through the hash
//! chain: a page is authenticated from its end, so that only the newest entry per sender costs an
//! Ed25519 verification. An entry that fails still occupies its cursor and is folded into
//! `observed`; it is reported once and never stalls the stream.

use bytes::Bytes;
use std::collections::BTreeMap;
use zerok_sync_protocol::envelope::{EnvelopeHeader, blob_id};
use zerok_sync_protocol::frame::EntryItem;
use zerok_sync_protocol::{BlobId, ClientFrame, EnvelopeType, EpochId};

use super::connection::CREDIT_BYTES;
use super::{Engine, rows};
use crate::content::{KindSupport, SeenHash};
use crate::error::Problem;
use crate::event::{Event, IntegrityEvent};
use crate::id::DeviceId;
use crate::io::Now;
use crate::observed::FoldHash;
use crate::seal::{self, Authenticated, Decrypted, OpenFailure};

/// More than an item of `Entries` costs beside its envelope.
const ITEM_OVERHEAD_BYTES: u64 = 64;
/// Cursors whose fold is kept in memory, to compare with what others observed there.
const FOLDS_MAX: usize = 1_024;

/// One envelope with its place in the relay's history.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) cursor: u64,
    pub(super) observed: FoldHash,
    pub(super) blob_id: BlobId,
    pub(super) envelope: Bytes,
}

/// What became of opening it.
enum Opened {
    Entry(Decrypted),
    Epoch,
    Failed(OpenFailure),
}

/// A question to storage about an entry that came a second time, or in another shape.
#[derive(Debug, Clone)]
pub(super) struct Lookup {
    pub(super) sender: DeviceId,
    pub(super) seq: u64,
    pub(super) cursor: u64,
    pub(super) blob_id: BlobId,
}

impl Engine {
    /// A page of the log.
    ///
    /// # Errors
    /// A [`Problem`] that ends the session; what came before it on the page is kept.
    pub(super) fn on_entries(&mut self, now: Now, items: Vec<EntryItem>) -> Result<(), Problem> {
        let position_before = self.progress.position;
        let mut page = Vec::with_capacity(items.len());
        let mut result = Ok(());
        let mut cost = ITEM_OVERHEAD_BYTES;
        for item in items {
            cost += ITEM_OVERHEAD_BYTES;
            match self.place(item) {
                Ok(Some(placed)) => {
                    cost += placed.envelope.len() as u64;
                    page.push(placed);
                }
                Ok(None) => {}
                Err(problem) => {
                    result = Err(problem);
                    break;
                }
            }
        }
        let accepted = self.read_page(now, page);
        if self.progress.position > position_before {
            self.event(Event::EntriesAvailable { position: self.progress.position });
        }
        self.give_credit(cost);
        result.and(accepted)
    }

    /// Accounts for one cursor. `None` if there is nothing to open there.
    fn place(&mut self, item: EntryItem) -> Result<Option<Placed>, Problem> {
        let expected = self.progress.cursor + 1;
        let (EntryItem::Stored { cursor, .. } | EntryItem::Own { cursor, .. } | EntryItem::Absent { cursor, .. }) =
            item;
        if cursor != expected {
            self.find(IntegrityEvent::CursorJump { expected, got: cursor });
            return Err(Problem::ProtocolViolation("cursors that are not consecutive"));
        }
        let (claimed, envelope) = match item {
            EntryItem::Stored { blob_id, envelope, .. } => (blob_id, Some(envelope)),
            EntryItem::Own { blob_id, .. } => match self.outbox.envelope_of(&blob_id) {
                Some(envelope) => (blob_id, Some(envelope)),
                None => return Err(Problem::ProtocolViolation("a stub for what this session did not push")),
            },
            EntryItem::Absent { blob_id, .. } => {
                self.find(IntegrityEvent::Lost { cursor, blob_id });
                (blob_id.unwrap_or(BlobId::ZERO), None)
            }
        };
        let observed = self.advance(cursor, claimed);
        match envelope {
            Some(envelope) if blob_id(&envelope) == claimed => {
                Ok(Some(Placed { cursor, observed, blob_id: claimed, envelope }))
            }
            Some(_) => {
                self.find(IntegrityEvent::Corrupt { cursor, blob_id: claimed });
                Ok(None)
            }
            None => Ok(None),
        }
    }

    /// Moves the reading position by one cursor and folds what stands there.
    fn advance(&mut self, cursor: u64, blob_id: BlobId) -> FoldHash {
        let observed = self.progress.observed.fold(cursor, &blob_id);
        self.progress.cursor = cursor;
        self.progress.blob_id_at_cursor = blob_id;
        self.progress.observed = observed;
        self.progress_changed = true;
        if let Some(open) = self.session.live() {
            open.head = open.head.max(cursor);
        }
        if self.folds.len() == FOLDS_MAX {
            self.folds.pop_front();
        }
        self.folds.push_back((cursor, observed));
        self.compare_pairs_now_reached(cursor);
        observed
    }

    /// Opens, authenticates and accepts a page, in its order.
    fn read_page(&mut self, now: Now, page: Vec<Placed>) -> Result<(), Problem> {
        let opened: Vec<Opened> = page.iter().map(|placed| self.open_envelope(&placed.envelope)).collect();
        let authenticated = authenticate(opened);
        for (placed, outcome) in page.into_iter().zip(authenticated) {
            match outcome {
                Outcome::Entry(entry) => {
                    if entry.kind.support() == KindSupport::UpdateNeeded {
                        return Err(Problem::UpdateNeeded);
                    }
                    self.accept(now, placed, &entry);
                }
                Outcome::Unsigned(sender) => {
                    self.find(IntegrityEvent::ForgedByMember { cursor: placed.cursor, sender });
                }
                Outcome::Epoch => self.accept_epoch(placed)?,
                Outcome::Failed(OpenFailure::UpdateNeeded(_)) if self.names_an_epoch(&placed.envelope) => {
                    return Err(Problem::UpdateNeeded);
                }
                Outcome::Failed(_) => {
                    self.find(IntegrityEvent::Corrupt { cursor: placed.cursor, blob_id: placed.blob_id });
                }
            }
        }
        Ok(())
    }

    /// Whether bytes of an unknown format at least name one of this group's epochs, where every
    /// format does: then a member's newer device is likelier than garbage.
    fn names_an_epoch(&self, envelope: &[u8]) -> bool {
        envelope.get(4..12).and_then(EpochId::from_slice).is_some_and(|epoch| self.keyring.get(&epoch).is_some())
    }

    fn open_envelope(&self, envelope: &[u8]) -> Opened {
        match EnvelopeHeader::parse(envelope) {
            Ok((header, _)) if header.kind == EnvelopeType::Epoch => Opened::Epoch,
            _ => match seal::open(&self.keyring, envelope) {
                Ok(entry) => Opened::Entry(entry),
                Err(failure) => Opened::Failed(failure),
            },
        }
    }

    /// Everything up to `head` is here: now what is still missing is missing.
    pub(super) fn on_caught_up(&mut self, head: u64) {
        let Some(open) = self.session.live() else { return };
        open.head = open.head.max(head);
        let first = !std::mem::replace(&mut open.caught_up, true);
        let cursor = self.progress.cursor;
        open.send(&ClientFrame::Ack { cursor, receipt: None });
        self.report_gaps();
        if first {
            self.event(Event::StatusChanged);
        }
    }

    /// One relay and no other source: an entry that something stored names, and that did not come,
    /// is missing.
    fn report_gaps(&mut self) {
        let mut missing: BTreeMap<DeviceId, u64> = self.wanted.clone();
        for (sender, seq) in self.held.keys() {
            let last = missing.entry(*sender).or_default();
            *last = (*last).max(seq - 1);
        }
        for (sender, named) in missing {
            let have = self.chains.get(&sender).map_or(0, |chain| chain.seq);
            let first_held = self.held.range((sender, 0)..=(sender, u64::MAX)).next().map(|((_, seq), _)| *seq);
            let to_seq = first_held.map_or(named, |seq| seq - 1);
            if to_seq > have && self.gaps_reported.get(&sender) != Some(&to_seq) {
                self.gaps_reported.insert(sender, to_seq);
                self.find(IntegrityEvent::Gap { sender, from_seq: have + 1, to_seq });
            }
        }
    }

    /// Gives credit back in large steps; the page is in the batch, not in memory.
    fn give_credit(&mut self, bytes: u64) {
        if let Some(open) = self.session.live() {
            open.credit_used += bytes;
            if open.credit_used >= CREDIT_BYTES / 4 {
                let bytes = std::mem::take(&mut open.credit_used);
                open.send(&ClientFrame::Credit { bytes });
            }
        }
    }

    /// What the index knows about a seq that came again.
    pub(super) fn judge(&mut self, lookup: &Lookup, known: Option<BlobId>) {
        let Lookup { sender, seq, cursor, blob_id } = *lookup;
        match known {
            Some(first) if first == blob_id => self.find(IntegrityEvent::Replayed { cursor, blob_id }),
            Some(first) => self.find(IntegrityEvent::ForkedDevice { sender, seq, first, second: blob_id }),
            // Accepted before, so there is a row; without one the database has lost it.
            None => self.stop_corrupt("index"),
        }
    }

    /// Asks storage what was accepted at this seq; [`Self::judge`] goes on.
    pub(super) fn look_up(&mut self, lookup: Lookup) {
        let key = rows::index_key(&lookup.sender, lookup.seq);
        let mut behind = key.clone();
        behind.push(0);
        let id = self.scan((key, behind), 1_024);
        self.lookups.insert(id, lookup);
    }

    /// Compares what another device observed on this relay with what this one was shown.
    pub(super) fn compare_observed(&mut self, entry: &Authenticated) {
        let Some(pair) = &entry.observed else { return };
        let relay = self.group.relay_key.map(|key| zerok_sync_protocol::id::RelayTag::of(&key));
        if Some(pair.relay) != relay || pair.timeline != self.progress.timeline {
            return;
        }
        if pair.cursor > self.progress.cursor {
            if self.observed_ahead.len() == FOLDS_MAX {
                self.observed_ahead.pop_front();
            }
            self.observed_ahead.push_back((entry.sender, pair.cursor, pair.hash));
            return;
        }
        let shown = self.folds.iter().rev().find(|(cursor, _)| *cursor == pair.cursor);
        if shown.is_some_and(|(_, fold)| fold.short() != pair.hash) {
            self.find(IntegrityEvent::Forked { observer: entry.sender, cursor: pair.cursor });
        }
    }

    /// Pairs that waited for this device to read as far.
    fn compare_pairs_now_reached(&mut self, reached: u64) {
        let fold = self.progress.observed.short();
        let mut forked = Vec::new();
        self.observed_ahead.retain(|(observer, cursor, hash)| {
            if *cursor == reached && *hash != fold {
                forked.push(*observer);
            }
            *cursor > reached
        });
        for observer in forked {
            self.find(IntegrityEvent::Forked { observer, cursor: reached });
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
    Entry(Box<Authenticated>),
    /// Sealed with the group's key, but this sender did not sign it.
    Unsigned(DeviceId),
    Epoch,
    Failed(OpenFailure),
}

/// Authenticates from the end: by the sender's next entry where the chain links them, else by the
/// signature.
fn authenticate(page: Vec<Opened>) -> Vec<Outcome> {
    let mut next: BTreeMap<DeviceId, Authenticated> = BTreeMap::new();
    let mut outcomes: Vec<Outcome> = page
        .into_iter()
        .rev()
        .map(|opened| match opened {
            Opened::Epoch => Outcome::Epoch,
            Opened::Failed(failure) => Outcome::Failed(failure),
            Opened::Entry(entry) => {
                let sender = entry.claims().sender;
                let vouched = match next.get(&sender) {
                    Some(successor) => entry.vouched_by(successor),
                    None => Err(entry),
                };
                match vouched.or_else(Decrypted::verify) {
                    Ok(entry) => {
                        next.insert(sender, entry.clone());
                        Outcome::Entry(Box::new(entry))
                    }
                    Err(_) => Outcome::Unsigned(sender),
                }
            }
        })
        .collect();
    outcomes.reverse();
    outcomes
}
