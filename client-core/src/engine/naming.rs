//! What members say they have of others: claims of their authors, until the entries are here.
//!
//! An honest device names in `seen` what it has verified and stored, so what it names and this device
//! lacks is missing. A hostile one names what never was. So each name is kept with whoever said it,
//! the highest of each author for each device and no more; it accuses the relay only where the device
//! it is about, or another one, says as much; it holds up a snapshot no longer than others are given
//! to bring what is missing; and where it is found out to be false that is told of its author.

use litemap::LiteMap;
use zerok_sync_protocol::{BlobId, wire};

use super::Engine;
use super::rows::{self, NamedRow};
use crate::content::{SeenHash, SeenItem};
use crate::event::IntegrityEvent;
use crate::id::DeviceId;

/// How far a name may be ahead of what is here of that device's chain. An honest author has read and
/// stored all that it names: as many entries no device stores.
const NAMED_AHEAD_MAX: u64 = 1 << 32;

/// What one device says it has of another's chain, and this one has not.
#[derive(Debug)]
pub(super) struct Claim {
    by: DeviceId,
    seq: u64,
    hash: SeenHash,
    /// It was reported in this run, …
    reported: bool,
    /// … and others had their time to bring what it names.
    told: bool,
}

impl Claim {
    fn new(by: DeviceId, NamedRow { seq, hash }: NamedRow) -> Self {
        Self { by, seq, hash, reported: false, told: false }
    }
}

/// By whose chain it is about. Its authors are members: not more than those have a place.
pub(super) type Named = LiteMap<DeviceId, Vec<Claim>>;

/// What was on disk, by whose chain it is about and by whom.
pub(super) fn named(rows: Vec<((DeviceId, DeviceId), NamedRow)>) -> Named {
    let mut named = Named::new();
    for ((device, by), row) in rows {
        named.entry(device).or_default().push(Claim::new(by, row));
    }
    named
}

impl Engine {
    /// Notes what an entry, or an epoch, says that its author has; whether some of it is not here.
    pub(super) fn note_seen(&mut self, by: DeviceId, seen: &[SeenItem]) -> bool {
        let mut missing = false;
        for item in seen {
            // A removed device is no member, and its chain stays.
            let device = self.chains.keys().chain(self.members.keys()).find(|device| device.tag() == item.tag).copied();
            match device {
                Some(device) if self.has_seen(&device, item.seq, item.hash) => {}
                Some(device) => {
                    missing = true;
                    self.note_name(by, device, item.seq, item.hash);
                }
                None => missing = true,
            }
        }
        missing
    }

    /// A member says that it has this entry, and this device has it not, or has another one there.
    pub(super) fn note_name(&mut self, by: DeviceId, device: DeviceId, seq: u64, hash: SeenHash) {
        if !self.members.contains_key(&by) {
            return;
        }
        let me = self.me.device();
        let chain = self.chains.get(&device).map_or((0, BlobId::ZERO), |chain| (chain.seq, chain.blob_id));
        let (have, head) = if device == me { (self.progress.sealed_seq, self.progress.sealed_blob_id) } else { chain };
        if seq > have.saturating_add(NAMED_AHEAD_MAX) {
            return self.accuse(by, device, seq);
        }
        if seq <= have {
            if seq == have && hash != SeenHash::of(&head) {
                self.doubt_word(by, device, seq);
            }
            return;
        }
        let claims = self.wanted.entry(device).or_default();
        match claims.iter_mut().find(|claim| claim.by == by) {
            Some(claim) if claim.seq >= seq => return,
            Some(claim) => (claim.seq, claim.hash) = (seq, hash),
            None => claims.push(Claim::new(by, NamedRow { seq, hash })),
        }
        // On disk together with the cursor: the next run does not read it again.
        self.effects.put(rows::named_key(&device, &by), wire::encode(&NamedRow { seq, hash }));
    }

    /// A chain has come as far as this entry.
    pub(super) fn settle_names(&mut self, device: DeviceId, seq: u64, blob_id: &BlobId) {
        let Some(claims) = self.wanted.get_mut(&device) else { return };
        let other = |claim: &&Claim| claim.seq == seq && claim.hash != SeenHash::of(blob_id);
        let contradicted: Vec<DeviceId> = claims.iter().filter(other).map(|claim| claim.by).collect();
        for claim in claims.extract_if(.., |claim| claim.seq <= seq) {
            self.effects.delete(rows::named_key(&device, &claim.by));
        }
        if claims.is_empty() {
            self.wanted.remove(&device);
        }
        contradicted.into_iter().for_each(|by| self.doubt_word(by, device, seq));
    }

    /// A device is no member any more: what it said it has of others is nobody's word.
    pub(super) fn forget_names_by(&mut self, device: &DeviceId) {
        for (of, claims) in &mut self.wanted {
            for claim in claims.extract_if(.., |claim| claim.by == *device) {
                self.effects.delete(rows::named_key(of, &claim.by));
            }
        }
        self.wanted.retain(|_, claims| !claims.is_empty());
    }

    /// Whether members have named something that others may still bring.
    pub(super) fn waits_for_named(&self) -> bool {
        let me = self.me.device();
        // What this device has of itself it knows.
        let others = self.wanted.iter().filter(|(device, _)| **device != me);
        others.flat_map(|(_, claims)| claims).any(|claim| !claim.told)
    }

    /// What members have named of a device's chain behind what is here.
    pub(super) fn named_ends(&self, device: &DeviceId) -> Vec<(u64, SeenHash)> {
        self.wanted.get(device).into_iter().flatten().map(|claim| (claim.seq, claim.hash)).collect()
    }

    /// What is missing by the word of members alone, each once.
    pub(super) fn missing_by_name(&mut self) -> Vec<IntegrityEvent> {
        let me = self.me.device();
        let mut missing = Vec::new();
        let mut accused = Vec::new();
        for (&sender, claims) in &mut self.wanted {
            if sender == me {
                if !self.progress.copied {
                    accused.extend(claims.iter().map(|claim| (claim.by, claim.seq)));
                }
                continue;
            }
            if self.held.range((sender, 0)..=(sender, u64::MAX)).next().is_some() {
                // Its own entries say more.
                continue;
            }
            let have = self.chains.get(&sender).map_or(0, |chain| chain.seq);
            let mut named: Vec<u64> = claims.iter().map(|claim| claim.seq).collect();
            named.sort_unstable_by(|one, other| other.cmp(one));
            let highest = named.first().copied().unwrap_or_default();
            // Its own word, or that of two.
            let wrote = self.receipts.newest(&sender).map_or(0, |(seq, _)| seq).min(highest);
            let sure = named.get(1).copied().unwrap_or_default().max(wrote);
            if sure > have {
                missing.push(IntegrityEvent::Gap { sender, from_seq: have + 1, to_seq: sure });
            }
            for claim in claims.iter_mut().filter(|claim| claim.seq > sure && !claim.reported) {
                claim.reported = true;
                let (from_seq, to_seq) = (sure.max(have) + 1, claim.seq);
                missing.push(IntegrityEvent::Unproven { sender, from_seq, to_seq, by: claim.by });
            }
        }
        accused.into_iter().for_each(|(by, seq)| self.doubt_word(by, me, seq));
        missing
    }

    /// Whether a device still says that it has what is missing.
    pub(super) fn is_named_by(&self, device: &DeviceId, by: &DeviceId) -> bool {
        self.wanted.get(device).is_some_and(|claims| claims.iter().any(|claim| claim.by == *by))
    }

    /// Others had their time to bring what is missing; it holds up nothing any more.
    pub(super) fn note_named_told(&mut self, finding: &IntegrityEvent) {
        let (IntegrityEvent::Gap { sender, to_seq, .. } | IntegrityEvent::Unproven { sender, to_seq, .. }) = finding
        else {
            return;
        };
        let by = if let IntegrityEvent::Unproven { by, .. } = finding { Some(*by) } else { None };
        for claim in self.wanted.get_mut(sender).into_iter().flatten() {
            claim.told |= claim.seq <= *to_seq || Some(claim.by) == by;
        }
    }

    fn is_accused(&self, by: DeviceId, sender: DeviceId) -> bool {
        let same = |finding: &IntegrityEvent| matches!(finding, IntegrityEvent::FalseSeen { by: author, sender: of, .. } if (*author, *of) == (by, sender));
        by == self.me.device() || self.findings.iter().any(same) || self.doubts.iter().any(|doubt| doubt.is_as(same))
    }

    /// It cannot be, whatever is still to come; told once of an author and a device.
    fn accuse(&mut self, by: DeviceId, sender: DeviceId, seq: u64) {
        if !self.is_accused(by, sender) {
            self.find(IntegrityEvent::FalseSeen { by, sender, seq });
        }
    }

    /// It is not so, unless it turns out that there are two of the device that it is about.
    fn doubt_word(&mut self, by: DeviceId, sender: DeviceId, seq: u64) {
        if !self.is_accused(by, sender) {
            self.doubt(IntegrityEvent::FalseSeen { by, sender, seq });
        }
    }

    /// Whether what a member names is explained: its author saw another branch, written by a copy.
    pub(super) fn is_of_a_copy(&self, sender: &DeviceId) -> bool {
        let forked = |finding: &IntegrityEvent| matches!(finding, IntegrityEvent::ForkedDevice { sender: of, .. } if of == sender);
        (*sender == self.me.device() && self.progress.copied) || self.findings.iter().any(forked)
    }
}
