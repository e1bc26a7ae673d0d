//! A relay that was rolled back, or missed a rotation, knows the log by an older name: it is told
//! every rotation since, in their order, before anything is pushed there.
//!
//! The envelopes and allow-lists are those of the first time, out of storage; whoever was removed
//! stays out. `Rotate` is recognised by its BlobId, so a crash or another device doing the same
//! costs nothing.
//!
//! A relay that lost a removal may meet the removed device first, which knows nothing of it and changes
//! the keys. For who knows of the removal that epoch is void; it opens the relay's door to say so, and
//! the relay is told what it missed behind the epoch before it.

use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{ClientFrame, EpochId, hello};

use super::Engine;
use super::relay::{Relay, RelayAt};
use super::rows;
use crate::epoch::SignedEpoch;
use crate::io::{Row, ScanId};
use crate::keys::EpochSecret;

/// Rotations on their way to a relay that missed them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resending {
    /// An envelope is being read from storage.
    Reading { number: usize, scan: ScanId },
    /// `Rotate` to this epoch is out.
    Sent { number: usize },
}

/// A void epoch that a relay goes by: a device began it whose removal the relay has lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Overruled {
    epoch: EpochId,
    /// The accepted epoch before it.
    follows: EpochId,
}

impl Engine {
    /// Notes that a relay goes by a void epoch, if it does. What is sealed under that is opened from then
    /// on; it counts as anything counts that a removed device wrote.
    pub(super) fn overrule(&mut self, at: RelayAt, signed: &SignedEpoch, secret: Option<&EpochSecret>) {
        let (epoch, follows) = (signed.header().epoch, signed.previous_epoch);
        let follows_ours = self.epoch_row(&follows).is_some_and(|row| row.blob_id == signed.previous_blob_id);
        let is_void = self.removed.contains_key(&signed.sender) && self.epoch_row(&epoch).is_none();
        let overrules = is_void && follows_ours && self.author_it_removes(signed).is_none();
        if !overrules {
            return;
        }
        self.learn_void_secret(secret);
        let relay = &mut self.relays[at];
        relay.overruled = Some(Overruled { epoch, follows });
        relay.hello_epoch.take_if(|keys| keys.id == epoch);
    }

    /// Whether a relay has let this device in by the newest name: only there anything is pushed.
    pub(super) fn is_at_newest_epoch(&self, at: RelayAt) -> bool {
        self.relays[at].session.admitted_by() == Some(self.keys_for_hello(at).id)
    }

    /// Goes on with the rotation behind the one a relay knows, if it missed any.
    pub(super) fn tell_missed_rotations(&mut self, at: RelayAt) {
        let Some(known) = self.relays[at].session.admitted_by() else { return };
        if known == self.keyring.current().id
            || self.relays[at].session.live_ref().is_some_and(|open| open.resending.is_some())
        {
            return;
        }
        let void = self.relays[at].overruled.filter(|overruled| overruled.epoch == known);
        if let Some(number) = self.epoch_after(&void.map_or(known, |overruled| overruled.follows)) {
            let key = rows::epoch_envelope_key(number as u64);
            let behind = rows::epoch_envelope_key(number as u64 + 1);
            let scan = self.scan((key, behind), 1);
            if let Some(open) = self.relays[at].session.live() {
                open.resending = Some(Resending::Reading { number, scan });
            }
        }
    }

    /// The accepted epoch that follows `known` on the way to the current one; from another branch,
    /// the first behind what both have in common.
    fn epoch_after(&self, known: &EpochId) -> Option<usize> {
        let theirs = self.lineage(known);
        let ours = self.lineage(&self.keyring.current().id);
        let next = ours.into_iter().take_while(|id| !theirs.contains(id)).last()?;
        self.epochs.iter().position(|epoch| epoch.id == next).filter(|_| !theirs.is_empty())
    }

    /// Whether this was the envelope of a missed rotation; sends it.
    pub(super) fn missed_rotation_read(&mut self, id: ScanId, rows: &[Row]) -> bool {
        let asked = |relay: &mut Relay| match relay.session.live()?.resending {
            Some(Resending::Reading { number, scan }) if scan == id => Some(number),
            _ => None,
        };
        let Some((relay, number)) = self.relays.iter_mut().find_map(|relay| asked(relay).map(|number| (relay, number)))
        else {
            return false;
        };
        let (Some(open), Some(row), Some(epoch)) = (relay.session.live(), rows.first(), self.epochs.get(number)) else {
            self.stop_corrupt("epoch envelope");
            return true;
        };
        let (Some(next), Some(known)) = (self.keyring.get(&epoch.id), self.keyring.get(&open.hello_by)) else {
            return true;
        };
        let frame = ClientFrame::Rotate {
            expect_gen: open.log.as_ref().map_or(0, |log| log.auth_gen),
            next_auth_public: next.auth_public(),
            proof: hello::sign_rotate(&next.auth, &open.handshake, &known.log_name()),
            allow: List::try_from(epoch.allow.clone()).expect("no longer than in the envelope"),
            epoch_envelope: bytes::Bytes::copy_from_slice(&row.value),
        };
        open.send(&frame);
        open.rotates_unanswered += 1;
        open.resending = Some(Resending::Sent { number });
        relay.sending.rotated(epoch.blob_id);
        true
    }

    /// Whether `Rotated` answers a rotation that was repeated.
    pub(super) fn missed_rotation_done(&mut self, at: RelayAt) -> bool {
        let Some(open) = self.relays[at].session.live() else { return false };
        let Some(Resending::Sent { number }) = open.resending else { return false };
        open.resending = None;
        if let Some(epoch) = self.epochs.get(number) {
            open.hello_by = epoch.id;
        }
        true
    }
}
