//! Verifying everything this device has stored, again and from the first byte: signatures, chains
//! and the relay's cursors. Reads only; what it finds is in its report.

use std::collections::BTreeMap;
use std::sync::Arc;

use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::{BlobId, EnvelopeHeader, EnvelopeType};

use super::Engine;
use super::mirror::{Record, Records};
use crate::epoch::{self, DecryptedEpoch};
use crate::event::IntegrityEvent;
use crate::id::DeviceId;
use crate::io::Row;
use crate::keyring::Keyring;
use crate::seal;

/// An audit under way: hand it every row of [`Engine::mirror_range`] in key order, then finish it. An
/// engine that goes on meanwhile changes what the rows are to be held against: [`Engine::renew_audit`].
#[derive(Debug)]
pub struct Audit {
    known: Known,
    /// By sender and number, each with its predecessor's id and its own; behind those the cursor of one
    /// that its own signature does not prove. As bytes, like the rows of
    /// other maps of the engine: a map of another type would be code of its own, which a page loads.
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    envelopes: u64,
    findings: Vec<IntegrityEvent>,
}

/// What the engine knows that is not in the rows. Lists, because there are few of each.
#[derive(Debug)]
struct Known {
    keyring: Arc<Keyring>,
    names: Vec<(DeviceId, String)>,
    /// Where the chains begin here, if not with their first entries.
    base: Vec<(DeviceId, Link)>,
    /// What was given up: behind which entry of a chain, and up to which.
    given_up: Vec<(DeviceId, u64, Link)>,
    /// What was found wrong earlier.
    told: Vec<IntegrityEvent>,
}

/// An entry of a chain.
#[derive(Debug, Clone, Copy)]
struct Link {
    seq: u64,
    blob_id: BlobId,
}

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditReport {
    /// Envelopes examined.
    pub entries: u64,
    /// The devices that wrote them.
    pub senders: Vec<AuditedSender>,
    /// What is wrong, and what was found wrong earlier; empty if all is well.
    pub findings: Vec<IntegrityEvent>,
}

/// One device's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditedSender {
    /// Who.
    pub device: DeviceId,
    /// Its name, if it is a member.
    pub name: Option<String>,
    /// Entries of it.
    pub entries: u64,
    /// Highest sequence number.
    pub last_seq: u64,
}

impl Engine {
    /// Begins an audit; see [`Audit`].
    #[must_use]
    pub fn audit(&self) -> Audit {
        Audit { known: self.known(), entries: BTreeMap::new(), envelopes: 0, findings: Vec::new() }
    }

    /// Where the engine goes on between reading rows: what was read last counts by what is known now.
    /// Keys that came since open it, and a snapshot that came since stands for what went meanwhile.
    pub fn renew_audit(&self, audit: &mut Audit) {
        audit.known = self.known();
    }

    fn known(&self) -> Known {
        Known {
            keyring: self.keyring.clone(),
            names: self.members.iter().map(|(device, member)| (*device, member.name.clone())).collect(),
            base: self
                .base
                .iter()
                .flat_map(|base| base.manifest.heads.iter())
                .map(|head| (head.device, Link { seq: head.seq, blob_id: head.blob_id }))
                .collect(),
            given_up: self
                .gaps
                .iter()
                .filter(|(_, gap)| gap.given_up)
                .map(|((device, to_seq, blob_id), gap)| {
                    (*device, gap.from_seq - 1, Link { seq: *to_seq, blob_id: *blob_id })
                })
                .collect(),
            told: self.findings.iter().cloned().collect(),
        }
    }
}

impl Known {
    /// What an entry of this device that stands behind `have` is to name as its predecessor.
    fn behind(&self, device: DeviceId, have: Link) -> Link {
        let given_up = |it: &&(DeviceId, u64, Link)| (it.0, it.1) == (device, have.seq);
        self.given_up.iter().find(given_up).map_or(have, |(_, _, link)| *link)
    }

    /// Where this device's chain begins here.
    fn beginning(&self, device: DeviceId) -> Link {
        let base = self.base.iter().find(|(owner, _)| *owner == device);
        base.map_or(Link { seq: 0, blob_id: BlobId::ZERO }, |(_, link)| *link)
    }
}

impl Audit {
    /// Examines one row.
    pub fn row(&mut self, row: Row) {
        for record in Records::of(row) {
            match record {
                Ok(record) => self.record(&record),
                Err(_) => self.findings.push(IntegrityEvent::Corrupt { cursor: 0, blob_id: BlobId::ZERO }),
            }
        }
    }

    fn record(&mut self, record: &Record) {
        self.envelopes += 1;
        let id = blob_id(&record.envelope);
        match self.link_of(&record.envelope) {
            Some(None) => {}
            Some(Some((sender, seq, prev, signed))) => {
                let cursor = record.cursor.to_be_bytes();
                let unsigned = if signed { &[][..] } else { &cursor };
                // Behind a snapshot that does not hold it an entry comes again.
                let first = self.entries.insert(key(&sender, seq), [&prev.0[..], &id.0, unsigned].concat());
                if let Some(first) = first.map(|value| ids(&value).1).filter(|first| *first != id) {
                    self.findings.push(IntegrityEvent::ForkedDevice { sender, seq, first, second: id });
                }
            }
            None => self.findings.push(IntegrityEvent::Corrupt { cursor: record.cursor, blob_id: id }),
        }
    }

    /// Opens one envelope: its place in its sender's chain, if it has one (a later epoch has none), and
    /// whether its own signature is good.
    fn link_of(&self, envelope: &[u8]) -> Option<Option<(DeviceId, u64, BlobId, bool)>> {
        let (header, _) = EnvelopeHeader::parse(envelope).ok()?;
        if header.kind == EnvelopeType::Epoch {
            let keys = self.known.keyring.get(&header.epoch)?;
            let opened = epoch::open_epoch(self.known.keyring.group(), keys, envelope).ok()?;
            let epoch = DecryptedEpoch::verify(opened).ok()?;
            return Some(epoch.previous_epoch.is_zero().then_some((epoch.sender, epoch.seq, epoch.prev, true)));
        }
        let entry = seal::open(&self.known.keyring, envelope).ok()?;
        let (sender, seq, prev) = (entry.claims().sender, entry.claims().seq, entry.claims().prev);
        Some(Some((sender, seq, prev, entry.verify().is_ok())))
    }

    /// From the newest on: whom a proven successor names is proven; a first entry by itself only.
    fn vouch(&mut self) {
        let mut named: Option<(DeviceId, u64, BlobId)> = None;
        for (key, value) in self.entries.iter().rev() {
            let (device, seq) = sender_and_seq(key);
            let (prev, blob_id) = ids(value);
            let is_vouched = seq > 1 && named == Some((device, seq, blob_id));
            match unsigned_at(value).filter(|_| !is_vouched) {
                Some(cursor) => self.findings.push(IntegrityEvent::Corrupt { cursor, blob_id }),
                None => named = Some((device, seq.saturating_sub(1), prev)),
            }
        }
    }

    /// Checks the chains and reports.
    #[must_use]
    pub fn finish(mut self) -> AuditReport {
        self.vouch();
        let mut senders: Vec<AuditedSender> = Vec::new();
        let mut last: Option<(DeviceId, Link)> = None;
        for (key, value) in &self.entries {
            let (device, seq) = sender_and_seq(key);
            let (prev, blob_id) = ids(value);
            let same = last.filter(|(previous, _)| *previous == device);
            let have = same.map_or_else(|| self.known.beginning(device), |(_, link)| link);
            let have = self.known.behind(device, have);
            // From the control archive: what lies between was never here.
            let before = same.is_none() && seq <= have.seq;
            if before {
            } else if seq != have.seq + 1 {
                self.findings.push(IntegrityEvent::Gap { sender: device, from_seq: have.seq + 1, to_seq: seq - 1 });
            } else if prev != have.blob_id {
                let (first, second) = (have.blob_id, prev);
                self.findings.push(IntegrityEvent::ForkedDevice { sender: device, seq: have.seq, first, second });
            }
            if !before {
                last = Some((device, Link { seq, blob_id }));
            }
            match senders.last_mut().filter(|sender| sender.device == device) {
                Some(sender) => (sender.entries, sender.last_seq) = (sender.entries + 1, seq),
                None => {
                    let name = self.known.names.iter().find(|(member, _)| *member == device);
                    let name = name.map(|(_, name)| name.clone());
                    senders.push(AuditedSender { device, name, entries: 1, last_seq: seq });
                }
            }
        }
        AuditReport { entries: self.envelopes, senders, findings: [self.known.told, self.findings].concat() }
    }
}

/// Sorts by sender, then by number.
fn key(sender: &DeviceId, seq: u64) -> Vec<u8> {
    [&sender.0[..], &seq.to_be_bytes()].concat()
}

fn sender_and_seq(key: &[u8]) -> (DeviceId, u64) {
    let (sender, seq) = key.split_first_chunk().expect("made by `key`");
    (DeviceId(*sender), u64::from_be_bytes(seq.try_into().expect("made by `key`")))
}

/// The ids of an entry's predecessor and of itself.
fn ids(value: &[u8]) -> (BlobId, BlobId) {
    let (prev, rest) = value.split_first_chunk().expect("made of two ids");
    let (id, _) = rest.split_first_chunk().expect("made of two ids");
    (BlobId(*prev), BlobId(*id))
}

/// Where an entry stands that its own signature does not prove.
fn unsigned_at(value: &[u8]) -> Option<u64> {
    value.last_chunk().filter(|_| value.len() > 64).map(|cursor| u64::from_be_bytes(*cursor))
}
