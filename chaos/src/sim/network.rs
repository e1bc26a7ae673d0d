//! What is on its way, and when it arrives.
//!
//! Messages on one link and in one direction arrive in the order in which they were sent, as on a
//! WebSocket or a QUIC stream, whatever their latencies; everything else may overtake.

use std::collections::BTreeMap;

use bytes::Bytes;
use zerok_sync_core::io::{Batch, CommitId, LinkId, Row, ScanId, StorageFault};

use super::relay::Conn;

/// Counts a device's starts: what was meant for an earlier run reaches no later one.
pub type Run = u64;

/// Something that happens later.
#[derive(Debug)]
pub enum Parcel {
    /// A link stands.
    LinkUp(Conn),
    /// The device learns that its link is gone, or never stood.
    LinkDown(usize, Run, LinkId),
    /// A link message.
    ToRelay(Conn, Bytes),
    /// A link message.
    ToDevice(Conn, Bytes),
    /// The relay learns that a link is gone.
    RelayHearsClose(Conn),
    /// A disk carries a batch out …
    Apply(usize, Run, CommitId, Batch),
    /// … and says so.
    Confirm(usize, Run, CommitId),
    /// A disk refuses a batch.
    Refuse(usize, Run, CommitId, StorageFault),
    /// A disk has read rows.
    Scanned(usize, Run, ScanId, Vec<Row>),
}

/// Things on their way, in the order of their arrival.
#[derive(Debug, Default)]
pub struct Network {
    arrivals: BTreeMap<(u64, u64), Parcel>,
    sent: u64,
    /// Latest arrival on each link and direction.
    lanes: BTreeMap<(Conn, bool), u64>,
}

impl Network {
    /// Puts something on its way, to arrive at `at_ms` or, on a link, right behind what was sent
    /// before it.
    pub fn send(&mut self, at_ms: u64, parcel: Parcel) {
        let lane = match &parcel {
            Parcel::ToRelay(conn, _) | Parcel::RelayHearsClose(conn) => Some((*conn, true)),
            Parcel::ToDevice(conn, _) | Parcel::LinkUp(conn) => Some((*conn, false)),
            _ => None,
        };
        let at_ms = match lane {
            Some(lane) => {
                let latest_ms = self.lanes.entry(lane).or_default();
                *latest_ms = at_ms.max(*latest_ms);
                *latest_ms
            }
            None => at_ms,
        };
        self.sent += 1;
        self.arrivals.insert((at_ms, self.sent), parcel);
    }

    /// When the next arrives.
    #[must_use]
    pub fn next_at_ms(&self) -> Option<u64> {
        self.arrivals.first_key_value().map(|((at_ms, _), _)| *at_ms)
    }

    /// The next, with the time of its arrival.
    pub fn pop(&mut self) -> Option<(u64, Parcel)> {
        self.arrivals.pop_first().map(|((at_ms, _), parcel)| (at_ms, parcel))
    }
}
