//! Verifying everything this device has stored, again and from the first byte: signatures, chains
//! and the relay's cursors. Reads only; what it finds is in its report.

use std::collections::BTreeMap;
use std::sync::Arc;

use litemap::LiteMap;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::{BlobId, EnvelopeHeader, EnvelopeType};

use super::Engine;
use super::mirror::{Record, Records};
use crate::epoch::{self, DecryptedEpoch};
use crate::event::IntegrityEvent;
use crate::id::DeviceId;
use crate::io::Row;
use crate::keyring::Keyring;
use crate::one_by_one::{few_of, map_of};
use crate::seal;

/// An audit under way: hand it every row of [`Engine::mirror_range`] in key order, then finish it.
#[derive(Debug)]
pub struct Audit {
    keyring: Arc<Keyring>,
    names: LiteMap<DeviceId, String>,
    entries: BTreeMap<(DeviceId, u64), Link>,
    /// Where the chains begin here, if not with their first entries.
    base: LiteMap<DeviceId, (u64, BlobId)>,
    /// What was given up: behind which entry of a chain, up to which, and what that was.
    given_up: BTreeMap<(DeviceId, u64), (u64, BlobId)>,
    envelopes: u64,
    findings: Vec<IntegrityEvent>,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    prev: BlobId,
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
        Audit {
            keyring: self.keyring.clone(),
            names: few_of(self.members.iter().map(|(device, member)| (*device, member.name.clone()))),
            entries: BTreeMap::new(),
            base: few_of(
                self.base
                    .iter()
                    .flat_map(|base| base.manifest.heads.iter())
                    .map(|head| (head.device, (head.seq, head.blob_id))),
            ),
            given_up: map_of(
                self.gaps
                    .iter()
                    .filter(|(_, gap)| gap.given_up)
                    .map(|((device, to_seq, blob_id), gap)| ((*device, gap.from_seq - 1), (*to_seq, *blob_id))),
            ),
            envelopes: 0,
            findings: self.findings.iter().cloned().collect(),
        }
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
            Some(Some((sender, seq, prev))) => {
                // Behind a snapshot that does not hold it an entry comes again.
                let first = self.entries.insert((sender, seq), Link { prev, blob_id: id });
                if let Some(first) = first.filter(|first| first.blob_id != id) {
                    let (first, second) = (first.blob_id, id);
                    self.findings.push(IntegrityEvent::ForkedDevice { sender, seq, first, second });
                }
            }
            None => self.findings.push(IntegrityEvent::Corrupt { cursor: record.cursor, blob_id: id }),
        }
    }

    /// Opens and authenticates one envelope by its own signature: its place in its sender's chain, if
    /// it has one (a later epoch has none).
    fn link_of(&self, envelope: &[u8]) -> Option<Option<(DeviceId, u64, BlobId)>> {
        let (header, _) = EnvelopeHeader::parse(envelope).ok()?;
        if header.kind == EnvelopeType::Epoch {
            let keys = self.keyring.get(&header.epoch)?;
            let opened = epoch::open_epoch(self.keyring.group(), keys, envelope).ok()?;
            let epoch = DecryptedEpoch::verify(opened).ok()?;
            return Some(epoch.previous_epoch.is_zero().then_some((epoch.sender, epoch.seq, epoch.prev)));
        }
        let entry = seal::open(&self.keyring, envelope).ok()?.verify().ok()?;
        Some(Some((entry.sender, entry.seq, entry.prev)))
    }

    /// Checks the chains and reports.
    #[must_use]
    pub fn finish(mut self) -> AuditReport {
        let mut senders: LiteMap<DeviceId, AuditedSender> = LiteMap::new();
        let mut last: Option<(DeviceId, u64, BlobId)> = None;
        for (&(device, seq), link) in &self.entries {
            let (have, at) = match last {
                Some((previous, seq, blob_id)) if previous == device => (seq, blob_id),
                _ => self.base.get(&device).copied().unwrap_or((0, BlobId::ZERO)),
            };
            let (have, at) = self.given_up.get(&(device, have)).copied().unwrap_or((have, at));
            // From the control archive: what lies between was never here.
            let before = seq <= have && last.is_none_or(|(previous, ..)| previous != device);
            if before {
            } else if seq != have + 1 {
                self.findings.push(IntegrityEvent::Gap { sender: device, from_seq: have + 1, to_seq: seq - 1 });
            } else if link.prev != at {
                let (first, second) = (at, link.prev);
                self.findings.push(IntegrityEvent::ForkedDevice { sender: device, seq: have, first, second });
            }
            if !before {
                last = Some((device, seq, link.blob_id));
            }
            let name = self.names.get(&device).cloned();
            let sender = senders.entry(device).or_insert(AuditedSender { device, name, entries: 0, last_seq: 0 });
            sender.entries += 1;
            sender.last_seq = seq;
        }
        AuditReport {
            entries: self.envelopes,
            senders: senders.into_iter().map(|(_, sender)| sender).collect(),
            findings: self.findings,
        }
    }
}
