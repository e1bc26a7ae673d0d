//! Entries that bear no good signature of their own.
//!
//! A sender's signature on its next entry vouches for the one before, so within a page only the
//! newest entry of each sender is verified. What one page shows together another shows apart: so
//! that what is accepted does not depend on where pages end, an entry with a bad signature waits, on
//! disk and bounded, for its sender's validly signed successor, which names it in `prev`. It is
//! discarded when another entry takes its place. A device's first entry, which makes it a member,
//! counts by its own signature only. No honest device signs badly: this keeps devices alike when one
//! of them does not stay honest.

use zerok_sync_protocol::{BlobId, wire};

use super::Engine;
use super::holding::Came;
use super::reading::{Lookup, Placed};
use super::rows::{self, HeldRow};
use crate::event::IntegrityEvent;
use crate::id::DeviceId;
use crate::seal::{self, Authenticated, Decrypted, OpenFailure};

/// Entries that may wait for their successor, and their bytes. Any member can make as many as it
/// likes, in anybody's name; beyond this what is accepted may depend on pages again, for entries of
/// a device that signs badly and vouches for it.
const UNSIGNED_MAX: usize = 256;
const UNSIGNED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What a waiting entry is found by: several may claim one place.
pub(super) type UnsignedAt = (DeviceId, u64, BlobId);

/// One that waits.
#[derive(Debug)]
pub(super) struct Unsigned {
    row: HeldRow,
    /// In this run: the app was told that nobody vouches for it.
    told: bool,
}

impl From<HeldRow> for Unsigned {
    fn from(row: HeldRow) -> Self {
        Self { row, told: false }
    }
}

impl Engine {
    /// An entry that its sender has not signed, as far as it shows by itself.
    pub(super) fn accept_unsigned(&mut self, placed: Placed, entry: &Decrypted) {
        let (sender, seq) = (entry.claims().sender, entry.claims().seq);
        let Placed { at, cursor, blob_id, .. } = placed;
        if sender == self.me.device() || seq <= 1 {
            return self.find(IntegrityEvent::ForgedByMember { cursor, sender });
        }
        if seq <= self.seq_of(&sender) {
            // The very entry that was accepted, shown again, or another one.
            let again = self.relays[at].has_read(&sender, seq);
            return self.look_up(Lookup { at, sender, seq, cursor, blob_id, again, signed: false });
        }
        self.keep_unsigned(placed, (sender, seq, blob_id));
    }

    fn keep_unsigned(&mut self, placed: Placed, place: UnsignedAt) {
        let (sender, seq, blob_id) = place;
        let Some(relay) = self.relays[placed.at].tag().filter(|_| !self.unsigned.contains_key(&place)) else { return };
        let bytes: usize = self.unsigned.values().map(|unsigned| unsigned.row.envelope.len()).sum();
        let came = Came::of(&placed, seq);
        let Placed { timeline, cursor, observed, envelope, .. } = placed;
        if self.unsigned.len() >= UNSIGNED_MAX || bytes + envelope.len() > UNSIGNED_BYTES_MAX {
            return self.find(IntegrityEvent::ForgedByMember { cursor, sender });
        }
        let row = HeldRow { relay, timeline, cursor, observed, envelope };
        self.effects.put(rows::unsigned_key(&sender, seq, &blob_id), wire::encode(&row));
        self.unsigned.insert(place, Unsigned { row, told: false });
        // Its successor may have come before it.
        let successors = self.held_run(&sender, seq.saturating_add(1), UNSIGNED_MAX);
        let Ok(successors) = successors else { return self.stop_corrupt("held entry") };
        if let Some(Ok(successor)) = successors.first()
            && self.take_vouched(successor)
        {
            self.release_held(sender, &came);
        }
    }

    /// A validly signed entry is held, and what it vouches for is here, perhaps: that is held like any
    /// other then, and so on down the chain. Whether there was something.
    pub(super) fn take_vouched(&mut self, successor: &Authenticated) -> bool {
        let sender = successor.sender;
        let (mut seq, mut prev) = (successor.seq - 1, successor.prev);
        while let Some(Unsigned { row, .. }) = self.unsigned.remove(&(sender, seq, prev)) {
            self.effects.delete(rows::unsigned_key(&sender, seq, &prev));
            let Ok(entry) = seal::open(&self.keyring, &row.envelope) else {
                self.stop_corrupt("unsigned entry");
                return false;
            };
            if let Some(at) = self.relays.by_tag(row.relay)
                && self.relays[at].row.timeline == row.timeline
            {
                self.relays[at].read_again(sender, seq);
            }
            self.hold_row(sender, seq, row);
            (seq, prev) = (seq - 1, entry.claims().prev);
        }
        seq + 1 < successor.seq
    }

    /// What is held of a chain from there on, without a gap. It was authenticated when it came; the
    /// proof does not outlive a restart, so again.
    ///
    /// # Errors
    /// [`OpenFailure`] where the rows are not as they were written.
    pub(super) fn held_run(
        &self,
        sender: &DeviceId,
        first_seq: u64,
        entries_max: usize,
    ) -> Result<Vec<Result<Authenticated, Decrypted>>, OpenFailure> {
        let rows = (first_seq..=u64::MAX).map_while(|seq| self.held.get(&(*sender, seq))).take(entries_max);
        let opened: Vec<Decrypted> =
            rows.map(|row| seal::open(&self.keyring, &row.envelope)).collect::<Result<_, _>>()?;
        let mut proven: Vec<Result<Authenticated, Decrypted>> = Vec::with_capacity(opened.len());
        for entry in opened.into_iter().rev() {
            let vouched = match proven.last() {
                Some(Ok(successor)) => entry.vouched_by(successor),
                _ => Err(entry),
            };
            proven.push(vouched.or_else(Decrypted::verify));
        }
        proven.reverse();
        Ok(proven)
    }

    /// A place in a chain is taken, or will never be: what waited for it without a signature was forged.
    pub(super) fn discard_unsigned(&mut self, sender: DeviceId, up_to_seq: u64) {
        let (first, last) = ((sender, 0, BlobId::ZERO), (sender, up_to_seq, BlobId([0xff; 32])));
        let gone: Vec<UnsignedAt> = self.unsigned.range(first..=last).map(|(place, _)| *place).collect();
        for place in gone {
            self.effects.delete(rows::unsigned_key(&place.0, place.1, &place.2));
            if let Some(Unsigned { row, told: false }) = self.unsigned.remove(&place) {
                self.find_once(IntegrityEvent::ForgedByMember { cursor: row.cursor, sender });
            }
        }
    }

    /// Everything there is was shown: whose successor has not come by now is told, and waits on.
    pub(super) fn report_unsigned(&mut self) {
        let mut waiting = Vec::new();
        for ((sender, ..), unsigned) in self.unsigned.iter_mut().filter(|(_, unsigned)| !unsigned.told) {
            unsigned.told = true;
            waiting.push(IntegrityEvent::ForgedByMember { cursor: unsigned.row.cursor, sender: *sender });
        }
        waiting.into_iter().for_each(|finding| self.find_once(finding));
    }
}
