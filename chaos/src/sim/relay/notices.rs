//! What devices tell each other past the log: receipts, kept in slots, and whispers, kept nowhere.

use bytes::Bytes;
use zerok_sync_protocol::RelayFrame;

use super::{Conn, Relay};

impl Relay {
    pub(super) fn on_ack(&mut self, conn: Conn, cursor: u64, receipt: Option<Bytes>) {
        let (Some(device), Some(log)) = (self.device(conn), &mut self.log) else { return };
        self.receipts_taken += u64::from(receipt.is_some());
        if self.drops_receipts {
            return;
        }
        let acked = log.acked.entry(device).or_default();
        *acked = cursor.max(*acked);
        if let Some(receipt) = &receipt {
            log.receipts.insert(device, (cursor, receipt.clone()));
        }
        self.tell_others(conn, &RelayFrame::Acked { device, cursor, receipt });
    }

    pub(super) fn on_whisper(&mut self, conn: Conn, data: Bytes) {
        if !self.hush {
            self.whispers.push(data.clone());
            self.tell_others(conn, &RelayFrame::Whispered { data });
        }
    }

    /// The device's own slot, as `Welcome` shows it.
    pub(super) fn slot_of(&self, conn: Conn) -> Bytes {
        let receipt = self.device(conn).and_then(|device| self.log.as_ref()?.receipts.get(&device));
        receipt.map_or_else(|| self.slot(conn), |(_, receipt)| receipt.clone())
    }

    /// Behind `Welcome`: the newest receipt of every other device.
    pub(super) fn show_receipts(&mut self, conn: Conn) {
        let (Some(me), Some(log)) = (self.device(conn), &self.log) else { return };
        let others = log.receipts.iter().filter(|(device, _)| **device != me && log.allow.contains(device));
        let shown: Vec<RelayFrame> = others
            .map(|(device, (cursor, receipt))| {
                let (device, cursor, receipt) = (*device, *cursor, Some(receipt.clone()));
                RelayFrame::Acked { device, cursor, receipt }
            })
            .collect();
        shown.iter().for_each(|frame| self.send(conn, frame));
    }

    /// Says something to every session there is, as if a device had; what goes out to whom.
    pub fn say_to_all(&mut self, frame: &RelayFrame) -> Vec<(Conn, Bytes)> {
        for conn in self.members_here() {
            self.send(conn, frame);
        }
        self.drain()
    }

    fn tell_others(&mut self, conn: Conn, frame: &RelayFrame) {
        for other in self.members_here().into_iter().filter(|other| *other != conn) {
            self.send(other, frame);
        }
    }
}
