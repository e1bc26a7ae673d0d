//! Receipts: what this device has, said to the others in its own signed words, and what they say.
//!
//! After it has caught up, and then whenever something was stored or sealed, a device sends `Ack`
//! with a fresh receipt, at most every [`RECEIPT_EVERY_MS`]. The relay keeps the newest in the
//! device's slot and shows it to whoever comes later. What others have is known from their receipts
//! and from the `seen` of their entries: the relay's own word (`Acked` without a receipt, or for
//! whom) counts for nothing. Out of it follow the tier *all devices*, "last heard from", and
//! whether a snapshot is somewhere else as well.
//!
//! Invariants: a receipt says only what is durable here, because every output waits for the commits
//! before it; what is known of a device never falls; a replayed receipt changes nothing. The own
//! receipt coming back from a relay is a witness: if it is ahead of this device, this device is a
//! copy (a restored backup, a cloned disk) and writes no more.

use std::collections::BTreeSet;

use bytes::Bytes;
use litemap::LiteMap;
use zerok_sync_protocol::limits::{ALLOW_LIST_MAX, SLOT_BYTES_MAX};
use zerok_sync_protocol::wire::{self, List};
use zerok_sync_protocol::{ClientFrame, EpochId, NoisePublicKey, wire_struct};

use super::Engine;
use super::connection::random;
use super::relay::RelayAt;
use super::rows::{ChainRow, MemberRow, hot, hot_key};
use crate::content::{SEEN_ITEMS_MAX, SeenHash, SeenItem};
use crate::event::Event;
use crate::id::{DeviceId, SenderTag};
use crate::io::Now;
use crate::seal::OpenFailure;
use crate::statement::{self, Receipt, Vouch};

/// Receipts follow each other at this distance at least: soon enough for a person who waits for
/// "all devices", seldom enough for a relay and a group of 64 under a steady stream.
pub(super) const RECEIPT_EVERY_MS: u64 = 3_000;

wire_struct! {
    /// What another device has, as far as it has said so.
    pub struct KnownRow {
        /// Highest head of each chain that it has named.
        heads: Vec<SeenItem>,
        /// Its newest receipt: highest seq of its own chain …
        seq: u64,
        /// … highest position …
        position: u64,
        /// … and its clock, Unix milliseconds; 0 before the first.
        sent_at_ms: u64,
        /// The snapshots whose ends it has compared, by its newest receipt.
        vouches: Vec<Vouch>,
    }
}

/// What other devices have.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    known: LiteMap<DeviceId, KnownRow>,
    /// Whose row differs from `known`.
    changed: BTreeSet<DeviceId>,
    /// Receipts whose author or epoch was not read yet: the newest of each, by the relay's word.
    ahead: LiteMap<NoisePublicKey, Bytes>,
    /// Something changed on which [`Engine::everywhere_seq`] rests.
    recount: bool,
    /// The highest own seq of which was told that all devices have it.
    told: u64,
}

/// What a receipt for one relay said last, and when it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said {
    news: News,
    at_ms: u64,
}

/// What makes another receipt worth sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct News {
    sealed_seq: u64,
    ordinal: u64,
    epoch: EpochId,
    /// How far snapshots were compared, over all relays.
    compared: u64,
}

impl Receipts {
    pub(super) fn restore(known: LiteMap<DeviceId, KnownRow>) -> Self {
        Self { known, recount: true, ..Self::default() }
    }

    pub(super) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The rows that differ from disk.
    pub(super) fn take_rows(&mut self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let changed = std::mem::take(&mut self.changed);
        let row = |device: DeviceId| Some((hot_key(hot::KNOWN, &device.0), wire::encode(self.known.get(&device)?)));
        changed.into_iter().filter_map(row).collect()
    }

    /// A member has named these heads in something it signed. Only the chains of `tags` are kept.
    fn note_heads(&mut self, device: DeviceId, named: &[SeenItem], is_known: impl Fn(SenderTag) -> bool) {
        for item in named.iter().filter(|item| is_known(item.tag)) {
            let row = self.known.entry(device).or_insert_with(KnownRow::empty);
            match row.heads.iter_mut().find(|head| head.tag == item.tag) {
                Some(head) if head.seq >= item.seq => continue,
                Some(head) => *head = item.clone(),
                None => row.heads.push(item.clone()),
            }
            self.changed.insert(device);
            self.recount = true;
        }
    }

    /// Takes a receipt in; `false` if it says nothing that was not known, as a replayed one does.
    fn note(&mut self, receipt: &Receipt, is_known: impl Fn(SenderTag) -> bool) -> bool {
        let row = self.known.entry(receipt.sender).or_insert_with(KnownRow::empty);
        let stands = (receipt.seq, receipt.position);
        let falls_back = stands.0 < row.seq || stands.1 < row.position;
        let is_newer = !falls_back && (stands != (row.seq, row.position) || receipt.sent_at_ms > row.sent_at_ms);
        if is_newer {
            (row.seq, row.position, row.sent_at_ms) = (receipt.seq, receipt.position, receipt.sent_at_ms);
            row.vouches = receipt.vouches.to_vec();
            self.changed.insert(receipt.sender);
        }
        // Heads are facts also in an older one.
        self.note_heads(receipt.sender, &receipt.seen, is_known);
        is_newer
    }

    fn head(&self, device: &DeviceId, tag: SenderTag) -> Option<&SeenItem> {
        self.known.get(device)?.heads.iter().find(|head| head.tag == tag)
    }

    /// Its newest receipt: seq and clock.
    pub(super) fn newest(&self, device: &DeviceId) -> Option<(u64, u64)> {
        self.known.get(device).filter(|row| row.sent_at_ms > 0).map(|row| (row.seq, row.sent_at_ms))
    }

    /// Whether its newest receipt says that it has compared where a snapshot ends.
    pub(super) fn vouches(&self, device: &DeviceId, vouch: &Vouch) -> bool {
        self.known.get(device).is_some_and(|row| row.vouches.contains(vouch))
    }

    /// What rests on who is a member, or on what was acknowledged, is counted again.
    pub(super) fn recount(&mut self) {
        self.recount = true;
    }
}

impl KnownRow {
    fn empty() -> Self {
        Self { heads: Vec::new(), seq: 0, position: 0, sent_at_ms: 0, vouches: Vec::new() }
    }
}

impl Engine {
    /// Sends a receipt to every relay that is due one.
    pub(super) fn pump_receipts(&mut self, now: Now) {
        for at in self.relays.all() {
            if self.receipt_due_ms(at).is_some_and(|due_ms| now.mono_ms >= due_ms) {
                self.send_receipt(now, at);
            }
        }
    }

    /// This device goes: what it would have said in a moment it says now.
    pub(super) fn send_last_receipts(&mut self, now: Now) {
        for at in self.relays.all() {
            if self.receipt_due_ms(at).is_some() {
                self.send_receipt(now, at);
            }
        }
    }

    /// When a relay is due another receipt, if there is something to say.
    pub(super) fn receipt_due_ms(&self, at: RelayAt) -> Option<u64> {
        let news = self.receipt_news(at)?;
        match self.relays[at].session.live_ref()?.receipt {
            None => Some(0),
            Some(said) if said.news != news => Some(said.at_ms + RECEIPT_EVERY_MS),
            Some(_) => None,
        }
    }

    /// What a receipt would tell. None where this device must not speak for itself: a copy would put
    /// its own, older receipt in the place of the one that convicts it.
    fn receipt_news(&self, at: RelayAt) -> Option<News> {
        let is_member = self.members.contains_key(&self.me.device());
        let may = self.relays[at].caught_up() && self.is_at_newest_epoch(at) && is_member && !self.progress.copied;
        let (sealed_seq, ordinal) = (self.progress.sealed_seq, self.progress.ordinal);
        let covered = self.relays.iter().filter_map(|relay| relay.row.covered.as_ref());
        let compared = covered.fold(0, |sum: u64, covered| sum.wrapping_add(covered.cursor));
        may.then(|| News { sealed_seq, ordinal, epoch: self.keyring.current().id, compared })
    }

    fn send_receipt(&mut self, now: Now, at: RelayAt) {
        let Some(news) = self.receipt_news(at) else { return };
        let receipt = Receipt {
            sender: self.me.device(),
            seq: self.progress.sealed_seq,
            seen: List::try_from(self.heads()).expect("cut to the limit"),
            observed: self.relays[at].observed().filter(|_| !self.relays[at].row.observed.is_zero()),
            position: self.progress.position,
            sent_at_ms: now.wall_ms,
            vouches: List::try_from(self.vouches()).expect("cut to the limit"),
        };
        let nonce = random(&mut self.rng);
        let (group, epoch) = (self.keyring.group(), self.keyring.current());
        let sealed = statement::seal(group, epoch, &self.me.signing, nonce, &receipt);
        let cursor = self.relays[at].row.cursor;
        if let Some(open) = self.relays[at].session.live() {
            open.receipt = Some(Said { news, at_ms: now.mono_ms });
            open.send(&ClientFrame::Ack { cursor, receipt: Some(sealed) });
        }
    }

    /// The head of every chain here, this device's own first, then the members', then, as far as there
    /// is room, those of devices that were removed.
    #[must_use]
    pub fn heads(&self) -> Vec<SeenItem> {
        let me = self.me.device();
        let own = (self.progress.sealed_seq > 0).then(|| SeenItem {
            tag: me.tag(),
            seq: self.progress.sealed_seq,
            hash: SeenHash::of(&self.progress.sealed_blob_id),
        });
        let item = |(device, chain): (&DeviceId, &ChainRow)| SeenItem {
            tag: device.tag(),
            seq: chain.seq,
            hash: SeenHash::of(&chain.blob_id),
        };
        let others = |members: bool| {
            self.chains
                .iter()
                .filter(move |(device, _)| **device != me && self.members.contains_key(*device) == members)
        };
        own.into_iter().chain(others(true).map(item)).chain(others(false).map(item)).take(SEEN_ITEMS_MAX).collect()
    }

    /// Another device's receipt, passed on by a relay, which may say what it likes about whose it is:
    /// the signature inside says that.
    pub(super) fn on_acked(&mut self, at: RelayAt, passed_on_for: NoisePublicKey, receipt: Option<&[u8]>) {
        let Some(sealed) = receipt.filter(|sealed| sealed.len() <= SLOT_BYTES_MAX) else { return };
        let waits = match statement::open::<Receipt>(&self.keyring, sealed) {
            Ok(receipt) if receipt.sender == self.me.device() => {
                self.check_own_receipt(&receipt);
                false
            }
            // Who is a member, and whose chains there are, is in the log.
            Ok(receipt) if !self.relays[at].caught_up() || self.is_unheard_of(&receipt.sender) => true,
            Ok(receipt) => {
                self.take_receipt(&receipt);
                false
            }
            // Its author has read a change of keys that is still on its way here.
            Err(OpenFailure::UnknownEpoch(_)) => true,
            Err(_) => false,
        };
        let ahead = &mut self.receipts.ahead;
        if waits && (ahead.contains_key(&passed_on_for) || ahead.len() < ALLOW_LIST_MAX) {
            ahead.insert(passed_on_for, Bytes::copy_from_slice(sealed));
        }
    }

    fn is_unheard_of(&self, device: &DeviceId) -> bool {
        !self.members.contains_key(device) && !self.removed.contains_key(device)
    }

    /// Whether a member other than this one vouches for a snapshot, also in a receipt that came before
    /// the log was read.
    pub(super) fn is_vouched_for(&self, vouch: &Vouch, author: &DeviceId) -> bool {
        let counts = |device: &DeviceId| device != author && self.members.contains_key(device);
        let mut ahead = self.receipts.ahead.values().filter_map(|sealed| statement::open(&self.keyring, sealed).ok());
        let vouches = |receipt: Receipt| counts(&receipt.sender) && receipt.vouches.contains(vouch);
        self.members.keys().any(|device| counts(device) && self.receipts.vouches(device, vouch)) || ahead.any(vouches)
    }

    /// More of the log is here: what came before it may mean something now.
    pub(super) fn open_receipts_ahead(&mut self, at: RelayAt) {
        for (device, sealed) in std::mem::take(&mut self.receipts.ahead) {
            self.on_acked(at, device, Some(&sealed));
        }
    }

    fn take_receipt(&mut self, receipt: &Receipt) {
        if !self.members.contains_key(&receipt.sender) {
            return;
        }
        if let Some(pair) = &receipt.observed {
            self.compare_pair(receipt.sender, pair);
        }
        let (chains, members) = (&self.chains, &self.members);
        let is_known = |tag| chains.keys().chain(members.keys()).any(|device| device.tag() == tag);
        if self.receipts.note(receipt, is_known) {
            self.event(Event::StatusChanged);
        }
    }

    /// The device's own slot, as a relay shows it at `Welcome`.
    pub(super) fn check_own_slot(&mut self, slot: &[u8]) {
        if let Ok(receipt) = statement::open::<Receipt>(&self.keyring, slot)
            && receipt.sender == self.me.device()
        {
            self.check_own_receipt(&receipt);
        }
    }

    /// This device's own receipt, out of its slot or from another session: it was signed here, or by
    /// a copy of this device.
    fn check_own_receipt(&mut self, receipt: &Receipt) {
        let me = self.me.device();
        let own = receipt.seen.iter().find(|item| item.tag == me.tag());
        let other_branch = own.is_some_and(|item| {
            item.seq == self.progress.sealed_seq && item.hash != SeenHash::of(&self.progress.sealed_blob_id)
        });
        if receipt.seq > self.progress.sealed_seq || other_branch {
            self.stop_writing();
        }
    }

    /// A member's entry, or the epoch envelope it wrote, names what its author has.
    pub(super) fn note_seen_by(&mut self, author: DeviceId, seen: &[SeenItem]) {
        if author == self.me.device() || seen.is_empty() || !self.members.contains_key(&author) {
            return;
        }
        let (chains, members) = (&self.chains, &self.members);
        let is_known = |tag| chains.keys().chain(members.keys()).any(|device| device.tag() == tag);
        self.receipts.note_heads(author, seen, is_known);
    }

    /// A device is no member any more: nobody waits for it.
    pub(super) fn forget_receipts_of(&mut self, device: &DeviceId) {
        self.receipts.recount = true;
        self.receipts.changed.remove(device);
        if self.receipts.known.remove(device).is_some() {
            self.effects.delete(hot_key(hot::KNOWN, &device.0));
        }
    }

    /// Whether another member has said, in its own signed words, that it has everything up to these
    /// heads. What a removed one said counts no more.
    #[must_use]
    pub fn has_all_of(&self, device: &DeviceId, heads: &[SeenItem]) -> bool {
        heads.iter().all(|item| {
            if item.tag == device.tag() {
                let wrote = self.receipts.known.get(device).map_or(0, |row| row.seq);
                return self.seq_of(device).max(wrote) >= item.seq;
            }
            let head = self.receipts.head(device, item.tag);
            head.is_some_and(|head| head.seq > item.seq || (head.seq == item.seq && head.hash == item.hash))
        })
    }

    /// Highest own seq that every other device has said it has; what one relay has, while there is no
    /// other device.
    pub(super) fn everywhere_seq(&self) -> u64 {
        let me = self.me.device();
        // Paper reads nothing, and who leaves reads nothing more.
        let counts = |(device, member): &(&DeviceId, &MemberRow)| **device != me && !member.leaving && !member.paper;
        let have = self.members.iter().filter(counts).map(|(device, _)| self.seq_had_by(device));
        have.min().unwrap_or(u64::MAX).min(self.progress.acked_seq)
    }

    /// Highest own seq that a device has said it has. Of another branch of the chain it has nothing.
    pub(super) fn seq_had_by(&self, device: &DeviceId) -> u64 {
        let sealed = (self.progress.sealed_seq, SeenHash::of(&self.progress.sealed_blob_id));
        match self.receipts.head(device, self.me.device().tag()) {
            Some(head) if head.seq > sealed.0 || (head.seq == sealed.0 && head.hash != sealed.1) => 0,
            Some(head) => head.seq,
            None => 0,
        }
    }

    /// Tells the app when all devices have more of what was pushed here.
    pub(super) fn tell_everywhere(&mut self) {
        if std::mem::take(&mut self.receipts.recount) {
            let push = self.everywhere_seq();
            if push > self.receipts.told {
                self.receipts.told = push;
                self.event(Event::PushesEverywhere { push });
            }
        }
    }
}
