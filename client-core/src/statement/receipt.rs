//! A receipt: what a device has, in its own signed words. The newest one lies in its slot at each
//! relay.

use zerok_sync_protocol::id::RelayTag;
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{EnvelopeType, wire_struct};

use super::Statement;
use crate::content::{Observed, SEEN_ITEMS_MAX, SeenHash, SeenItem};
use crate::id::DeviceId;
use crate::keys::EpochKeys;
use crate::label;
use crate::snapshot::FLOORS_MAX;

wire_struct! {
    /// What a device has.
    pub struct Receipt {
        /// Who says so.
        sender: DeviceId,
        /// Highest seq of its own chain that it has sealed.
        seq: u64,
        /// The head of every chain that is verified and durable there, its own among them; not a
        /// delta as in an entry.
        seen: List<SeenItem, SEEN_ITEMS_MAX>,
        /// The order it was shown by the relay that the receipt is for.
        observed: Option<Observed>,
        /// Highest position of an entry stored there.
        position: u64,
        /// Its wall clock, Unix milliseconds. Information only.
        sent_at_ms: u64,
        /// The snapshots whose ends in relays' logs it has compared itself. That it has stored one, as
        /// `seen` says, is no word about that.
        vouches: List<Vouch, FLOORS_MAX>,
    }
}

wire_struct! {
    /// A snapshot ends in a relay's log where it says.
    pub struct Vouch {
        /// Which relay.
        relay: RelayTag,
        /// The snapshot's manifest.
        manifest: SeenHash,
    }
}

impl Statement for Receipt {
    const KIND: EnvelopeType = EnvelopeType::Receipt;
    const LABEL: &'static [u8] = label::SIGN_RECEIPT;

    fn key(epoch: &EpochKeys) -> &[u8; 32] {
        epoch.receipt.expose()
    }

    fn sender(&self) -> DeviceId {
        self.sender
    }
}
