//! Entries that nobody has any more, given up: an entry of the kind `ACCEPT_GAP`, written on a
//! person's word.
//!
//! An entry that is gone everywhere holds what its sender wrote behind it for ever. To give it up is
//! no order to skip: a device that reads of it goes on behind the hole only once every relay it can
//! reach has shown all it has, nothing is being put back, the hole is there, and what waits behind it
//! names the very entry that the chain is to go on from. Whoever has the entries keeps them, and
//! whoever gave them up takes nothing of them any more; nobody is accused of either.

use std::collections::BTreeSet;

use zerok_sync_protocol::{BlobId, wire, wire_struct};

use super::Engine;
use super::holding::{Came, HELD_MAX};
use super::relay::Relay;
use super::rows::{GapRow, gap_key};
use crate::content::Kind;
use crate::error::MembershipError;
use crate::event::{Event, IntegrityEvent};
use crate::id::DeviceId;
use crate::io::Now;
use crate::seal::Authenticated;

/// Holes that one device's word is remembered for. One act gives up all there are, and a relay that
/// lost so many of a device that is gone has lost its log; a hostile member fills no more.
const GAPS_BY_ONE_MAX: usize = 256;

wire_struct! {
    /// Body of an entry that gives entries up.
    pub struct AcceptGap {
        /// Whose.
        sender: DeviceId,
        /// First of them.
        from_seq: u64,
        /// Last of them.
        to_seq: u64,
        /// The last one, as the entry behind it names it.
        hash_after: BlobId,
    }
}

/// Which hole: whose, up to which entry, and what that was.
pub(super) type GapAt = (DeviceId, u64, BlobId);

/// Entries that are missing although later ones of the same device are here: those wait for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// Whose.
    pub device: DeviceId,
    /// First of them.
    pub from_seq: u64,
    /// Last of them.
    pub to_seq: u64,
    /// How many entries wait behind it.
    pub waiting: u64,
}

impl Engine {
    /// Gives up every entry that is missing between others of its sender, for the whole group: what
    /// waits behind them counts from then on, on every device that lacks them as well. To be asked for
    /// by a person, once no device is left that may still bring them. Answers which; nothing where no
    /// hole is.
    ///
    /// # Errors
    /// [`MembershipError`]: this device must not write, or has not read yet all that the relays have.
    pub fn accept_gaps(&mut self, now: Now) -> Result<Vec<Hole>, MembershipError> {
        self.check_acts()?;
        if !self.has_all_there_is() {
            return Err(MembershipError::NotYet);
        }
        let mut holes = self.holes();
        holes.retain(|hole| {
            let Hole { device: sender, from_seq, to_seq, .. } = *hole;
            let Some(hash_after) = self.joins_behind(&sender, to_seq) else { return false };
            if self.is_news(&(sender, to_seq, hash_after), from_seq) {
                let body = AcceptGap { sender, from_seq, to_seq, hash_after };
                self.queue(Kind::ACCEPT_GAP, wire::encode(&body).into());
            }
            true
        });
        self.step(now);
        Ok(holes)
    }

    /// What is missing before entries that are here and wait for it.
    pub(super) fn holes(&self) -> Vec<Hole> {
        let mut holes = Vec::new();
        let mut last = None;
        for &(device, seq) in self.held.keys() {
            let have = match last.replace((device, seq)) {
                Some((of, seq)) if of == device => seq,
                _ => self.seq_of(&device),
            };
            if seq > have + 1 && self.counts_behind(&device, seq) {
                let waiting = self.held.range((device, seq)..=(device, u64::MAX)).count() as u64;
                holes.push(Hole { device, from_seq: have + 1, to_seq: seq - 1, waiting });
            }
        }
        holes
    }

    /// Whether an entry that waits may follow on a hole. Who wrote it has what is missing; and a chain
    /// without its first entry is nobody's.
    fn counts_behind(&self, device: &DeviceId, seq: u64) -> bool {
        *device != self.me.device() && self.seq_of(device) > 0 && !self.is_beyond_its_end(device, seq)
    }

    /// What a chain of the group's has at this seq, as its author says in the entry behind it, which is
    /// here and waits.
    fn joins_behind(&self, device: &DeviceId, seq: u64) -> Option<BlobId> {
        let next = seq.checked_add(1).filter(|next| self.counts_behind(device, *next))?;
        let behind = self.held_run(device, next, HELD_MAX).ok()?;
        Some(behind.first()?.as_ref().ok()?.prev)
    }

    /// Whether every relay that can be reached has shown all it has, and nothing is on its way back.
    fn has_all_there_is(&self) -> bool {
        let busy = |relay: &Relay| {
            let read = relay.session.is_under_way() || relay.comparison.is_some() || relay.recheck.is_some();
            read || relay.row.rebuilding || relay.gap_wanted || relay.reset.is_some()
        };
        self.relays.iter().any(Relay::caught_up) && !self.relays.iter().any(busy) && self.bootstrap.is_none()
    }

    /// A member gives entries up, on a person's word.
    pub(super) fn on_accept_gap(&mut self, entry: &Authenticated) {
        let Ok(AcceptGap { sender, from_seq, to_seq, hash_after }) = wire::decode(&entry.body) else { return };
        let at = (sender, to_seq, hash_after);
        let by_author = self.gaps.values().filter(|gap| gap.by == entry.sender).count();
        if from_seq < 2 || to_seq < from_seq || to_seq >= u64::MAX - 1 || by_author >= GAPS_BY_ONE_MAX {
            return;
        }
        if self.is_news(&at, from_seq) {
            self.put_gap(at, GapRow { by: entry.sender, from_seq, given_up: false });
        }
    }

    /// Whether nobody has given up as much before that entry: whoever names less keeps nobody's word out.
    fn is_news(&self, at: &GapAt, from_seq: u64) -> bool {
        self.gaps.get(at).is_none_or(|gap| !gap.given_up && from_seq < gap.from_seq)
    }

    fn put_gap(&mut self, at: GapAt, row: GapRow) {
        self.effects.put(gap_key(&at.0, at.1, &at.2), wire::encode(&row));
        self.gaps.insert(at, row);
    }

    /// Goes on behind the holes that the group was told to give up, where they are holes here, too.
    pub(super) fn give_up_gaps(&mut self) {
        if self.gaps.values().all(|gap| gap.given_up) || !self.has_all_there_is() {
            return;
        }
        let before = self.progress.position;
        self.lead_up_to_gaps();
        while let Some(at) = self.gaps.iter().find(|(at, gap)| self.is_to_give_up(at, gap)).map(|(at, _)| *at) {
            self.give_up(at);
        }
        if self.progress.position > before {
            self.event(Event::EntriesAvailable { position: self.progress.position });
        }
    }

    /// What removed devices wrote in front of what is to be given up counts, now that nothing can come
    /// between: see [`Self::end_of_gap`].
    fn lead_up_to_gaps(&mut self) {
        let waits = |device: &DeviceId| {
            self.removed.contains_key(device) && self.held.contains_key(&(*device, self.seq_of(device) + 1))
        };
        let pending = self.gaps.iter().filter(|(_, gap)| !gap.given_up).map(|((device, ..), _)| *device);
        let waiting: BTreeSet<DeviceId> = pending.filter(waits).collect();
        waiting.into_iter().for_each(|device| self.release_removed(device));
    }

    fn is_to_give_up(&self, (device, to_seq, hash_after): &GapAt, gap: &GapRow) -> bool {
        let have = self.seq_of(device);
        let is_hole = gap.from_seq <= have + 1
            && have < *to_seq
            && self.held.range((*device, have + 1)..=(*device, *to_seq)).next().is_none();
        !gap.given_up && is_hole && self.joins_behind(device, *to_seq) == Some(*hash_after)
    }

    fn give_up(&mut self, at: GapAt) {
        let (device, to_seq, hash_after) = at;
        let Some(gap) = self.gaps.get(&at) else { return };
        let from_seq = self.seq_of(&device) + 1;
        self.put_gap(at, GapRow { by: gap.by, from_seq, given_up: true });
        // Parts before it and parts behind it are not of one batch.
        self.end_parts(&device);
        let sent_at_ms = self.chains.get(&device).map_or(0, |chain| chain.sent_at_ms);
        self.extend_chain(device, to_seq, hash_after, sent_at_ms);
        self.discard_unsigned(device, to_seq);
        self.tell_relays_of_gaps();
        self.forget_gaps_of(&device, to_seq);
        self.event(Event::EntriesGivenUp { device, from_seq, to_seq });
        self.event(Event::StatusChanged);
        if self.removed.contains_key(&device) {
            self.release_removed(device);
        } else {
            self.release_held(device, &Came::in_no_timeline(self.relays.home()));
        }
    }

    /// What was given up is not missing any more.
    fn forget_gaps_of(&mut self, device: &DeviceId, up_to_seq: u64) {
        let over = |finding: &IntegrityEvent| match finding {
            IntegrityEvent::Gap { sender, to_seq, .. } | IntegrityEvent::Unproven { sender, to_seq, .. } => {
                sender == device && *to_seq <= up_to_seq
            }
            _ => false,
        };
        let kept: Vec<IntegrityEvent> = self.findings.iter().filter(|finding| !over(finding)).cloned().collect();
        if kept.len() < self.findings.len() {
            self.replace_findings(kept);
        }
    }

    /// What was given up is waited for at no relay.
    pub(super) fn tell_relays_of_gaps(&mut self) {
        let given_up = self.gaps.iter().filter(|(_, gap)| gap.given_up);
        let given_up: Vec<(DeviceId, u64, u64)> =
            given_up.map(|((device, to_seq, _), gap)| (*device, gap.from_seq, *to_seq)).collect();
        for relay in self.relays.iter_mut() {
            relay.give_up(given_up.clone());
        }
    }

    /// Whether a member has given this entry up, for itself and whoever lacks it.
    pub(super) fn is_in_gap(&self, device: &DeviceId, seq: u64) -> bool {
        self.gaps_from(device, seq).any(|(_, gap)| gap.from_seq <= seq)
    }

    /// The last entry of a gap that this one is in, and what that was: of one that is given up here, or,
    /// once every relay has shown all it has, of one that members give up. Before that, another entry
    /// in front of it could pass for what led up to what is not here.
    pub(super) fn end_of_gap(&self, device: &DeviceId, seq: u64, seq_max: u64) -> Option<(u64, BlobId)> {
        let of = self.gaps.range((*device, seq, BlobId::ZERO)..=(*device, seq_max, BlobId([0xff; 32])));
        let holds = |gap: &GapRow| gap.from_seq <= seq && (gap.given_up || self.has_all_there_is());
        of.into_iter().find(|(_, gap)| holds(gap)).map(|((_, to_seq, hash_after), _)| (*to_seq, *hash_after))
    }

    /// The gaps of one device that end here or behind.
    fn gaps_from(&self, device: &DeviceId, seq: u64) -> impl Iterator<Item = (&GapAt, &GapRow)> {
        self.gaps.range((*device, seq, BlobId::ZERO)..=(*device, u64::MAX, BlobId([0xff; 32])))
    }

    /// Where a chain goes on that has come so far here: behind what was given up.
    pub(super) fn behind_gap(&self, device: &DeviceId, seq: u64) -> (u64, Option<BlobId>) {
        let behind = self.gaps_from(device, seq + 1).find(|(_, gap)| gap.given_up && gap.from_seq == seq + 1);
        behind.map_or((seq, None), |((_, to_seq, blob_id), _)| (*to_seq, Some(*blob_id)))
    }
}

impl Relay {
    fn give_up(&mut self, given_up: Vec<(DeviceId, u64, u64)>) {
        self.given_up = given_up;
        for at in 0..self.row.read.len() {
            self.pass_gaps(at);
        }
    }
}
