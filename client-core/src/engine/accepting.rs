//! Authenticated entries in their place: membership, chains, delivery.
//!
//! An entry is accepted when its sender is a member (or becomes one with it) and its predecessor
//! by the same sender is stored; until then it is held, and other senders never wait for it. Accepted entries get a stable local position and are what the app may read.

#[cfg(test)]
mod tests;

use zerok_sync_protocol::BlobId;
use zerok_sync_protocol::limits::ALLOW_LIST_MAX;
use zerok_sync_protocol::wire;

use super::Engine;
use super::holding::Came;
use super::mirror::{ForApp, Place as MirrorPlace, Record};
use super::reading::{Lookup, Placed};
use super::rows::{ChainRow, HeldRow, MemberRow, hot, hot_key};
use crate::certificate::{DeviceName, JoinCertificate};
use crate::content::Kind;
use crate::epoch::Removed;
use crate::event::{Event, IntegrityEvent};
use crate::id::DeviceId;
use crate::keys::MemberKeys;
use crate::seal::{self, Authenticated};

/// Devices that one member let in and that came too late, which are remembered: more than a person lets
/// in while keys are being changed, in all of a group's life. A member's device that makes them up would
/// fill every other's disk; nobody takes another inviter's place with them.
const VOID_BY_INVITER_MAX: usize = 32;

/// Whether an entry's sender may write.
pub(super) enum Admission {
    Member,
    /// A device that was removed: what counts of it has an end.
    Removed,
    /// Its first entry, which would make it one, has not come.
    NotYet,
    /// Its inviter, or the epoch it joins in, has not come: from another relay, perhaps.
    Doubted,
    /// Let in by this member, and the keys were changed before it arrived: it is none, and nobody is
    /// to blame.
    Void(DeviceId),
    Refused,
}

/// Where an entry stands in its sender's chain.
pub(super) enum Place {
    Next,
    Later,
    Earlier,
    /// Its predecessor is not the one this device has: the sender's chain has two branches.
    OtherBranch {
        first: BlobId,
    },
}

impl Engine {
    /// Accepts, holds or refuses one authenticated entry, then whatever waited for it.
    pub(super) fn accept(&mut self, placed: Placed, entry: &Authenticated) {
        if matches!(entry.seq, 0 | u64::MAX) {
            // No chain has such a place, or gets as far; only a member's broken or hostile device signs it.
            return self.find(IntegrityEvent::Corrupt { cursor: placed.cursor, blob_id: placed.blob_id });
        }
        if entry.sender == self.me.device() && self.wrote_otherwise(entry.seq, placed.blob_id) {
            return;
        }
        match self.admit(entry) {
            Admission::Member => {}
            Admission::Removed => return self.accept_of_removed(placed, entry),
            Admission::NotYet => return self.hold(placed, entry),
            Admission::Doubted => {
                self.doubt(IntegrityEvent::NotAMember { cursor: placed.cursor, sender: entry.sender });
                return self.hold(placed, entry);
            }
            Admission::Void(inviter) => {
                self.note_void(entry.sender, inviter);
                return self.accept_of_removed(placed, entry);
            }
            Admission::Refused => {
                return self.find(IntegrityEvent::NotAMember { cursor: placed.cursor, sender: entry.sender });
            }
        }
        self.relays[placed.at].showed(placed.timeline, placed.cursor, &entry.sender, entry.seq);
        let again = self.relays[placed.at].read_again(entry.sender, entry.seq);
        if self.is_beyond_grant(&entry.sender, entry.seq) {
            return self.hold(placed, entry);
        }
        match self.place_in_chain(entry) {
            Place::Next => {
                let came = Came::of(&placed, entry.seq);
                self.store(placed, entry);
                self.release_held(entry.sender, &came);
            }
            Place::Later => {
                let came = Came::of(&placed, entry.seq);
                self.hold(placed, entry);
                if self.take_vouched(entry) {
                    self.release_held(entry.sender, &came);
                }
            }
            Place::Earlier => self.judge_earlier(&placed, entry, again),
            Place::OtherBranch { first } => {
                self.find(IntegrityEvent::ForkedDevice {
                    sender: entry.sender,
                    seq: entry.seq - 1,
                    first,
                    second: entry.prev,
                });
            }
        }
    }

    /// A seq that has an entry already.
    pub(super) fn judge_earlier(&mut self, placed: &Placed, entry: &Authenticated, again: bool) {
        let Placed { at, cursor, blob_id, .. } = *placed;
        if entry.sender == self.me.device() {
            self.acked_up_to(at, entry.seq.min(self.progress.sealed_seq));
        }
        // What was given up may be put back behind the rest.
        let again = again && !self.relays[at].need_not_have(&entry.sender, entry.seq);
        self.look_up(Lookup { at, sender: entry.sender, seq: entry.seq, cursor, blob_id, again, signed: true });
    }

    /// Whether the sender is a member, or becomes one by this entry's certificate.
    pub(super) fn admit(&mut self, entry: &Authenticated) -> Admission {
        if self.members.contains_key(&entry.sender) {
            return Admission::Member;
        }
        if self.removed.contains_key(&entry.sender) {
            return Admission::Removed;
        }
        if entry.seq > 1 {
            return Admission::NotYet;
        }
        let Ok(certificate) = JoinCertificate::of_entry(entry) else { return Admission::Refused };
        if self.epoch_row(&certificate.epoch()).is_none() {
            // Its epoch came early, or is still to come.
            return Admission::Doubted;
        }
        let known_inviter = self.members.contains_key(&certificate.inviter());
        if !known_inviter && !self.removed.contains_key(&certificate.inviter()) {
            return Admission::Doubted;
        }
        if known_inviter && !self.is_open(&certificate.epoch()) {
            // A change of keys voids what was handed out before it.
            let inviter = certificate.inviter();
            let void = self.removed.values().filter(|row| row.let_in_by == inviter).count();
            return if void < VOID_BY_INVITER_MAX { Admission::Void(inviter) } else { Admission::Refused };
        }
        let tag_is_free = self.members.keys().all(|member| member.tag() != entry.sender.tag());
        let has_room = self.members.len() < ALLOW_LIST_MAX;
        if !(known_inviter && tag_is_free && has_room) {
            return Admission::Refused;
        }
        let card = certificate.card().clone();
        let paper = entry.kind == Kind::PAPER;
        self.add_member(card.keys, &card.name, Some(certificate), entry.sent_at_ms, paper);
        Admission::Member
    }

    /// A device came too late: nothing counts of it but what a member vouches for.
    pub(super) fn note_void(&mut self, device: DeviceId, inviter: DeviceId) {
        self.remove_member(device, &Removed { device, last_seq: 0, last_blob_id: BlobId::ZERO });
        if let Some(row) = self.removed.get_mut(&device) {
            row.let_in_by = inviter;
            self.effects.put(hot_key(hot::REMOVED, &device.0), wire::encode(row));
        }
    }

    /// First entries that waited for their epoch, or for their inviter.
    pub(super) fn take_up_joins(&mut self) {
        let waiting: Vec<DeviceId> = self.held.keys().filter(|(_, seq)| *seq == 1).map(|(sender, _)| *sender).collect();
        for sender in waiting {
            let Some(row) = self.held.get(&(sender, 1)) else { continue };
            let opened = seal::open(&self.keyring, &row.envelope).map(seal::Decrypted::verify);
            let Ok(Ok(entry)) = opened else { continue };
            let Ok(certificate) = JoinCertificate::of_entry(&entry) else { continue };
            let inviter = self.members.contains_key(&certificate.inviter());
            if !inviter || self.removed.contains_key(&sender) || self.epoch_row(&certificate.epoch()).is_none() {
                continue;
            }
            let Some(row) = self.take_held(sender, 1) else { continue };
            let at = self.relays.by_tag(row.relay).unwrap_or(self.relays.home());
            let HeldRow { timeline, cursor, observed, envelope, .. } = row;
            let placed = Placed { at, timeline, cursor, observed, blob_id: entry.blob_id(), envelope };
            self.accept(placed, &entry);
        }
    }

    pub(super) fn add_member(
        &mut self,
        keys: MemberKeys,
        name: &str,
        certificate: Option<JoinCertificate>,
        joined_at_ms: u64,
        paper: bool,
    ) {
        let device = keys.device;
        let member = MemberRow { keys, name: name.to_owned(), certificate, joined_at_ms, leaving: false, paper };
        self.effects.put(hot_key(hot::MEMBER, &device.0), wire::encode(&member));
        self.members.insert(device, member);
        self.grant_arrived(&device);
        self.receipts.recount();
        self.greet_again();
        self.event(Event::MemberJoined { device, name: name.to_owned() });
        self.event(Event::StatusChanged);
    }

    pub(super) fn seq_of(&self, device: &DeviceId) -> u64 {
        self.chains.get(device).map_or(0, |chain| chain.seq)
    }

    pub(super) fn place_in_chain(&self, entry: &Authenticated) -> Place {
        let (have, at) = self.chains.get(&entry.sender).map_or((0, BlobId::ZERO), |chain| (chain.seq, chain.blob_id));
        if entry.seq <= have {
            Place::Earlier
        } else if entry.seq > have + 1 {
            Place::Later
        } else if entry.prev == at {
            Place::Next
        } else {
            Place::OtherBranch { first: at }
        }
    }

    /// Gives an accepted entry its place: chain, mirror, effect.
    pub(super) fn store(&mut self, placed: Placed, entry: &Authenticated) {
        let (at, blob_id) = (placed.at, placed.blob_id);
        // A successor vouches for what the app reads. What an archive hands on is proven one by one.
        let alone = entry.kind.is_control() || entry.kind == Kind::SNAPSHOT;
        let acts = !alone || self.is_signed(&placed.envelope);
        self.extend_chain(entry.sender, entry.seq, blob_id, entry.sent_at_ms);
        if !self.unsigned.is_empty() {
            self.discard_unsigned(entry.sender, entry.seq);
        }
        self.follow_time(entry.lamport);
        // What it vouches for comes before it, so that it is there when this asks what is.
        if self.members.contains_key(&entry.sender) {
            self.vouch_for_removed(&entry.seen);
        }
        let missing_deps = self.note_seen(entry.sender, &entry.seen);
        self.note_seen_by(entry.sender, &entry.seen);
        self.compare_observed(entry);
        if self.base.as_ref().is_none_or(|base| !base.holds(&entry.sender, entry.seq)) {
            self.keep(placed, entry, missing_deps, acts);
        }
        if acts {
            self.act_on(entry);
        }
        if entry.sender == self.me.device() {
            self.own_entry_stored(at, entry.seq);
        }
    }

    /// Whether an entry bears its sender's signature itself.
    fn is_signed(&self, envelope: &[u8]) -> bool {
        seal::open(&self.keyring, envelope).is_ok_and(|entry| entry.verify().is_ok())
    }

    /// Mirrors an entry of a chain, with what the app reads of it.
    fn keep(&mut self, placed: Placed, entry: &Authenticated, missing_deps: bool, acts: bool) {
        let parts = if entry.kind == Kind::PART { None } else { self.end_parts(&entry.sender) };
        // Parts of a snapshot are no reason for another.
        let in_parts = parts.as_ref().map_or(0, |parts| parts.bytes);
        let for_app = match entry.kind {
            Kind::APP => ForApp::Blob,
            Kind::COMMIT => Self::batch_of(entry, parts).map_or(ForApp::Nothing, |first| ForApp::Batch { first }),
            Kind::SNAPSHOT if acts => {
                self.on_snapshot(entry, parts);
                ForApp::Nothing
            }
            _ => ForApp::Nothing,
        };
        if !matches!(entry.kind, Kind::PART | Kind::SNAPSHOT) {
            self.note_log(placed.envelope.len() as u64 + in_parts);
        }
        if acts {
            self.note_control(entry, &placed.envelope);
        }
        let place = self.mirror(placed, Some((entry.sender, entry.seq)), for_app, missing_deps);
        if for_app != ForApp::Nothing && entry.sender != self.me.device() {
            self.progress.others_position = place.position;
        }
        if entry.kind == Kind::PART {
            self.note_part(entry, place);
        }
    }

    /// What an entry changes besides its chain.
    pub(super) fn act_on(&mut self, entry: &Authenticated) {
        match entry.kind {
            Kind::RENAME => self.take_name(entry),
            Kind::LEAVE => self.on_leave(entry.sender),
            Kind::INCIDENT => self.on_incident(entry),
            Kind::ANCHOR => self.on_anchor(entry),
            Kind::RELAYS => self.take_relays(entry),
            Kind::ACCEPT_GAP => self.on_accept_gap(entry),
            Kind::JOIN | Kind::PAPER => {
                self.take_up_joins();
                self.try_early_epochs();
            }
            _ => {}
        }
    }

    pub(super) fn extend_chain(&mut self, sender: DeviceId, seq: u64, blob_id: BlobId, sent_at_ms: u64) {
        let said_seq = self.chains.get(&sender).map_or(0, |chain| chain.said_seq);
        self.chains.insert(sender, ChainRow { seq, blob_id, said_seq, sent_at_ms });
        self.chains_changed.insert(sender);
        self.settle_names(sender, seq, &blob_id);
        self.progress_changed = true;
    }

    /// Keeps the envelope and where its chain has it, and numbers it for the app if it is the app's.
    pub(super) fn mirror(
        &mut self,
        placed: Placed,
        in_chain: Option<(DeviceId, u64)>,
        for_app: ForApp,
        missing_deps: bool,
    ) -> MirrorPlace {
        self.progress.ordinal += 1;
        self.progress.position += u64::from(for_app != ForApp::Nothing);
        self.progress_changed = true;
        let place = MirrorPlace { position: self.progress.position, ordinal: self.progress.ordinal };
        if let Some((sender, seq)) = in_chain {
            self.mirror.index(sender, seq, &placed.blob_id, place);
        }
        self.mirror.append(&Record {
            place,
            for_app,
            missing_deps,
            timeline: placed.timeline,
            cursor: placed.cursor,
            observed: placed.observed,
            envelope: placed.envelope,
        });
        place
    }

    fn take_name(&mut self, entry: &Authenticated) {
        let name = std::str::from_utf8(&entry.body).ok().and_then(|name| name.parse::<DeviceName>().ok());
        if let (Some(name), Some(member)) = (name, self.members.get_mut(&entry.sender)) {
            member.name = name.to_string();
            self.effects.put(hot_key(hot::MEMBER, &entry.sender.0), wire::encode(member));
            self.event(Event::StatusChanged);
        }
    }
}
