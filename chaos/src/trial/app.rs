//! The app on a device: reads late, marks late, and after a crash knows only the position that the
//! device had stored for it.

use std::collections::BTreeMap;

use bytes::Bytes;
use zerok_sync_core::Entry;
use zerok_sync_core::id::DeviceId;
use zerok_sync_protocol::{BlobId, wire, wire_struct};

/// What identifies a delivered entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// Who wrote it.
    pub sender: DeviceId,
    /// Its place in the sender's chain.
    pub seq: u64,
    /// Its envelope.
    pub blob_id: BlobId,
    /// It stands for all before it, whoever wrote that.
    pub snapshot: bool,
}

wire_struct! {
    /// An entry as the app keeps it: its state is a list of these.
    pub struct Kept {
        /// Who wrote it.
        sender: DeviceId,
        /// Its place in the sender's chain.
        seq: u64,
        /// Its envelope.
        blob_id: BlobId,
        /// Its place in the total order.
        lamport: u64,
        /// What it says.
        data: Bytes,
    }
}

/// What an entry adds to the app's state; a snapshot is all of it.
///
/// # Errors
/// When a snapshot is none of this app's.
pub fn kept(entry: &Entry) -> Result<Vec<Kept>, String> {
    if entry.snapshot {
        return wire::decode(&entry.data).map_err(|error| format!("a snapshot that no app made: {error}"));
    }
    let Entry { sender, seq, blob_id, lamport, data, .. } = entry.clone();
    Ok(vec![Kept { sender, seq, blob_id, lamport, data }])
}

/// One device's app, over all its runs.
#[derive(Debug, Default)]
pub struct App {
    /// Everything ever handed to it, by position.
    pub seen: BTreeMap<u64, Delivered>,
    /// Highest position of this run's doorbell.
    pub rung: u64,
    /// Highest position read in this run.
    pub read: u64,
    /// Highest position told to be processed.
    pub marked: u64,
    /// Highest of these that is known to be stored.
    pub durable: u64,
}

impl App {
    /// A new run begins with what the device stored.
    ///
    /// # Errors
    /// When that is less than was known to be stored, or more than was ever said.
    pub fn begin(&mut self, processed: u64, position: u64) -> Result<(), String> {
        if processed < self.durable {
            return Err(format!("processed up to {}, stored, and after a restart {processed}", self.durable));
        }
        if processed > self.marked {
            return Err(format!("processed up to {processed}, of which the app said {} only", self.marked));
        }
        (self.rung, self.read) = (position, processed);
        (self.marked, self.durable) = (processed, processed);
        Ok(())
    }

    /// An entry is handed over.
    ///
    /// # Errors
    /// When it is not the next, or not what was at this position before, or out of its sender's
    /// order.
    pub fn take(&mut self, entry: &Entry) -> Result<(), String> {
        let position = entry.position;
        // A snapshot may stand for what it wrote itself and did not say that it has processed.
        if position != self.read + 1 && !(entry.snapshot && position > self.read) {
            return Err(format!("position {position} was delivered behind {}", self.read));
        }
        self.read = position;
        let Entry { sender, seq, blob_id, snapshot, .. } = *entry;
        let delivered = Delivered { sender, seq, blob_id, snapshot };
        match self.seen.get(&position) {
            Some(before) if *before == delivered => return Ok(()),
            Some(before) if entry.snapshot && !before.snapshot => {
                self.seen.insert(position, delivered);
                return Ok(());
            }
            Some(before) => return Err(format!("position {position} was {before:?} and is {delivered:?}")),
            None => {}
        }
        // A snapshot takes the place of all before it.
        let mut since = self.seen.iter().rev().take_while(|(_, earlier)| !earlier.snapshot);
        if let Some((_, earlier)) = since.find(|(_, earlier)| earlier.sender == entry.sender)
            && earlier.seq >= entry.seq
        {
            return Err(format!("seq {} of one sender was delivered behind {}", entry.seq, earlier.seq));
        }
        self.seen.insert(position, delivered);
        Ok(())
    }
}
