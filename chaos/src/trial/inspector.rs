//! What the relay must never hold, seen with the members' keys: two envelopes for one place in a
//! chain, an entry twice, a hole, an entry that is not later than what its author had seen.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use zerok_sync_core::content::Kind;
use zerok_sync_core::id::{DeviceId, SenderTag};
use zerok_sync_core::keyring::Keyring;
use zerok_sync_core::keys::Membership;
use zerok_sync_core::snapshot::Manifest;
use zerok_sync_core::{epoch, seal};
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::{BlobId, EnvelopeHeader, EnvelopeType, EpochId};

use crate::sim::relay::Relay;
use crate::sim::trace;

/// What an entry says about its place among the others.
#[derive(Debug, Clone)]
struct Place {
    sender: DeviceId,
    seq: u64,
    prev: BlobId,
    lamport: u64,
    seen: Vec<(SenderTag, u64)>,
}

/// Follows a relay's log, and everything that was ever sent to it.
#[derive(Debug)]
pub struct Inspector {
    /// It gave up what no snapshot stands for: that comes again.
    pub gave_up: bool,
    /// The group has other relays, too: what an entry names may stand there.
    pub partial: bool,
    /// What each envelope turns out to be is printed to standard error.
    pub traced: bool,
    keyring: Keyring,
    /// Who can open what comes: any device that was ever a member.
    members: Vec<Membership>,
    /// Whom the log removes so far: nothing more of them belongs behind that.
    removed: BTreeSet<DeviceId>,
    /// Whom each epoch that was opened removes.
    removals: BTreeMap<BlobId, Vec<DeviceId>>,
    inspected: usize,
    /// The relay's [`Relay::rewrites`] so far.
    rewrites: u64,
    /// Highest seq of each device that ever stood in the log.
    stored: BTreeMap<DeviceId, u64>,
    heads: BTreeMap<DeviceId, (u64, BlobId)>,
    /// How far of each chain a snapshot stands for that was ever sent.
    covered: BTreeMap<DeviceId, u64>,
    /// The same of those that stand in the log.
    stood_for: BTreeMap<DeviceId, u64>,
    /// What each snapshot stands for.
    snapshots: BTreeMap<BlobId, Vec<(DeviceId, u64)>>,
    sent: BTreeMap<(DeviceId, u64), BlobId>,
    /// What was opened already.
    places: BTreeMap<BlobId, Option<Place>>,
    lamports: BTreeMap<(SenderTag, u64), u64>,
    /// Which epoch each envelope of a change of keys follows.
    predecessors: BTreeMap<BlobId, EpochId>,
    /// Epochs that another one follows in the log.
    followed: BTreeSet<EpochId>,
}

impl Inspector {
    /// An inspector with a member's keys.
    #[must_use]
    pub fn new(keyring: Keyring) -> Self {
        Self {
            gave_up: false,
            partial: false,
            traced: false,
            keyring,
            members: Vec::new(),
            removed: BTreeSet::new(),
            removals: BTreeMap::new(),
            inspected: 0,
            rewrites: 0,
            stored: BTreeMap::new(),
            heads: BTreeMap::new(),
            covered: BTreeMap::new(),
            stood_for: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            sent: BTreeMap::new(),
            places: BTreeMap::new(),
            lamports: BTreeMap::new(),
            predecessors: BTreeMap::new(),
            followed: BTreeSet::new(),
        }
    }

    /// A device that is, or may become, a member.
    pub fn learn(&mut self, member: Membership) {
        self.members.push(member);
    }

    /// Highest seq of a device that ever stood in the log.
    #[must_use]
    pub fn stored_seq(&self, device: &DeviceId) -> u64 {
        self.stored.get(device).copied().unwrap_or_default()
    }

    /// Highest seq of a device that stands in the log, or that a snapshot stands for there: what it
    /// stands for need not be put back to a relay that lost it, or that never had it.
    #[must_use]
    pub fn standing_seq(&self, device: &DeviceId) -> u64 {
        let standing = self.heads.get(device).map_or(0, |(seq, _)| *seq);
        let stood_for = self.stood_for.get(device).copied().filter(|_| self.partial || self.rewrites > 0);
        standing.max(stood_for.unwrap_or_default())
    }

    /// Looks at what came since the last time.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn inspect(&mut self, relay: &mut Relay) -> Result<(), String> {
        for envelope in relay.take_received() {
            let id = blob_id(&envelope);
            let Some(Place { sender, seq, .. }) = self.place(id, &envelope)? else { continue };
            if *self.sent.entry((sender, seq)).or_insert(id) != id {
                return Err(format!("two envelopes were sent for seq {seq} of {sender:?}"));
            }
        }
        if relay.rewrites() != self.rewrites {
            self.rewrites = relay.rewrites();
            self.inspected = 0;
            self.heads.clear();
            self.stood_for.clear();
            // What stood before a removal may be put back, before it.
            self.removed.clear();
        }
        for stored in &relay.entries()[self.inspected.min(relay.entries().len())..] {
            self.inspected += 1;
            let cursor = self.inspected;
            let envelope = stored.envelope.as_ref().ok_or_else(|| format!("nothing at cursor {cursor}"))?;
            let place = self.place(stored.blob_id, envelope)?;
            self.removed.extend(self.removals.get(&stored.blob_id).into_iter().flatten());
            for &(device, seq) in self.snapshots.get(&stored.blob_id).into_iter().flatten() {
                raise(&mut self.stood_for, device, seq);
            }
            let Some(Place { sender, seq, prev, lamport, seen }) = place else {
                // A log that was put back may hold both branches of what its loss made possible.
                let follows = self.predecessors.get(&stored.blob_id).filter(|_| self.rewrites == 0 && !self.partial);
                if follows.is_some_and(|previous| !self.followed.insert(*previous)) {
                    return Err(format!("cursor {cursor} holds a second change of the same generation of keys"));
                }
                continue;
            };
            // What stood there before a loss may come back behind the removal.
            let put_back = self.partial || (self.rewrites > 0 && seq <= self.stored_seq(&sender));
            if self.removed.contains(&sender) && !put_back {
                return Err(format!("cursor {cursor} holds an entry of {sender:?}, which was removed before"));
            }
            let (have, at) = self.heads.get(&sender).copied().unwrap_or((0, BlobId::ZERO));
            if self.gave_up && seq <= have {
                continue;
            }
            let covered = self.covered.get(&sender).copied().unwrap_or_default();
            let lost_before = self.partial || self.rewrites > 0;
            if lost_before && seq <= covered.min(have) {
                // Put back by another device than the one that went on behind the snapshot.
                continue;
            }
            if (seq, prev) != (have + 1, at) && !(lost_before && seq <= covered + 1 && seq > have) {
                return Err(format!("cursor {cursor} holds seq {seq} of {sender:?} behind {have}"));
            }
            self.heads.insert(sender, (seq, stored.blob_id));
            raise(&mut self.stored, sender, seq);
            self.lamports.insert((sender.tag(), seq), lamport);
            let later = |place| self.lamports.get(place).is_some_and(|earlier| *earlier < lamport);
            if let Some(place) = seen.iter().find(|place| !later(place)).filter(|_| !self.partial) {
                return Err(format!("cursor {cursor} has seen {place:?}, and its Lamport time says otherwise"));
            }
        }
        Ok(())
    }

    /// Where an entry stands in its sender's chain; a later epoch stands in none.
    fn place(&mut self, id: BlobId, envelope: &Bytes) -> Result<Option<Place>, String> {
        if let Some(place) = self.places.get(&id) {
            return Ok(place.clone());
        }
        let place = self.open(id, envelope)?;
        self.places.insert(id, place.clone());
        Ok(place)
    }

    fn open(&mut self, id: BlobId, envelope: &Bytes) -> Result<Option<Place>, String> {
        let (header, _) = EnvelopeHeader::parse(envelope).map_err(|error| error.to_string())?;
        if self.keyring.get(&header.epoch).is_none() {
            let group = *self.keyring.group();
            let secret = self.members.iter().find_map(|member| epoch::unwrap_secret(&group, member, envelope).ok());
            self.keyring.insert(secret.ok_or("an unknown epoch")?);
        }
        let keys = self.keyring.get(&header.epoch).ok_or("an epoch with another secret than its own")?;
        if header.kind == EnvelopeType::Epoch {
            let opened = epoch::open_epoch(self.keyring.group(), keys, envelope).map_err(|error| error.to_string())?;
            let body = opened.claims();
            self.tell(id, || format!("epoch {} by {}", trace::short(&header.epoch.0), trace::short(&body.sender.0)));
            if !body.previous_epoch.is_zero() {
                self.predecessors.insert(id, body.previous_epoch);
                self.removals.insert(id, body.removed.iter().map(|removed| removed.device).collect());
                return Ok(None);
            }
            let (sender, seq, prev, lamport) = (body.sender, body.seq, body.prev, body.lamport);
            return Ok(Some(Place { sender, seq, prev, lamport, seen: Vec::new() }));
        }
        let entry = seal::open(&self.keyring, envelope).map_err(|error| error.to_string())?;
        let content = entry.claims();
        self.tell(id, || {
            let (sender, prev) = (trace::short(&content.sender.0), trace::name(&content.prev));
            format!(
                "{:?}, seq {} of {sender} behind {prev}, epoch {}",
                content.kind,
                content.seq,
                trace::short(&header.epoch.0)
            )
        });
        if content.kind == Kind::SNAPSHOT {
            let manifest = Manifest::parse(&content.body).map_err(|error| error.to_string())?;
            let heads: Vec<_> = manifest.heads.iter().map(|head| (head.device, head.seq)).collect();
            heads.iter().for_each(|&(device, seq)| raise(&mut self.covered, device, seq));
            self.snapshots.insert(id, heads);
        }
        Ok(Some(Place {
            sender: content.sender,
            seq: content.seq,
            prev: content.prev,
            lamport: content.lamport,
            seen: content.seen.iter().map(|item| (item.tag, item.seq)).collect(),
        }))
    }

    fn tell(&self, id: BlobId, what: impl FnOnce() -> String) {
        if self.traced {
            eprintln!("{:13}{} is {}", "", trace::name(&id), what());
        }
    }
}

fn raise(highest: &mut BTreeMap<DeviceId, u64>, device: DeviceId, seq: u64) {
    let highest = highest.entry(device).or_default();
    *highest = seq.max(*highest);
}
