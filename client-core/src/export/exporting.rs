//! From a local database to an export file.

use zerok_sync_protocol::wire::List;

use super::record::{ExportedEntry, ExportedEpoch, ExportedGroup, ExportedMember, ExportedRelay, Record};
use super::stream::{RANDOM_BYTES, Sealer};
use crate::engine::mirror::{self, ForApp, Records};
use crate::engine::opening::Belonging;
use crate::engine::rows;
use crate::error::OpenError;
use crate::io::{Now, Row};
use crate::keys::StoreKey;
use crate::passphrase::{Cost, Passphrase};

/// Random bytes that [`Exporting`] takes.
pub const EXPORT_RANDOM_BYTES: usize = RANDOM_BYTES;

/// How a file is to be made.
#[derive(Debug, Clone)]
pub struct Exporting {
    /// What it is sealed under.
    pub passphrase: Passphrase,
    /// How much work a guess is: what this platform can spare.
    pub cost: Cost,
    /// Fresh random bytes.
    pub random: [u8; EXPORT_RANDOM_BYTES],
    /// Whether whoever has file and passphrase can become this device.
    pub identity: bool,
}

/// An export file in the making: hand over every row of [`Exporter::range`] in key order, then finish.
/// All rows must be of one state of the database.
pub struct Exporter {
    sealer: Sealer,
    identity: bool,
    entries: u64,
    rows: u64,
    /// A record on its way into the stream.
    record: zeroize::Zeroizing<Vec<u8>>,
}

impl Exporter {
    /// Starts a file; its first bytes are in `out`. `hot_rows` are those that an engine is opened
    /// with, `store_key` is the key they are sealed under.
    ///
    /// # Errors
    /// As [`crate::Engine::open`].
    pub fn start(
        now: Now,
        store_key: &StoreKey,
        hot_rows: Vec<Row>,
        exporting: &Exporting,
        out: &mut Vec<u8>,
    ) -> Result<Self, OpenError> {
        let too_many = |_| OpenError::Corrupt("more members, relays or epochs than a group has");
        let of = Belonging::read(store_key, hot_rows)?;
        let unproven = of.keyring.unproven().map(|(_, keys)| keys);
        let epochs =
            of.keyring.iter().chain(unproven).map(|keys| ExportedEpoch { id: keys.id, key: keys.data.clone() });
        let members = of.members.into_iter().map(|(device, name)| ExportedMember { device, name });
        let relays = of.relays.into_iter().map(|relay| ExportedRelay { url: relay.url, key: relay.key });
        let group = ExportedGroup {
            group: *of.keyring.group(),
            genesis: of.genesis,
            epochs: List::try_from(epochs.collect::<Vec<_>>()).map_err(too_many)?,
            device: of.device,
            device_name: of.device_name,
            members: List::try_from(members.collect::<Vec<_>>()).map_err(too_many)?,
            relays: List::try_from(relays.collect::<Vec<_>>()).map_err(too_many)?,
            exported_at_ms: now.wall_ms,
            identity: exporting.identity.then(|| store_key.clone()),
        };
        let sealer = Sealer::new(&exporting.passphrase, exporting.cost, &exporting.random);
        out.extend_from_slice(sealer.header());
        let record = zeroize::Zeroizing::new(Vec::new());
        let mut exporter = Self { sealer, identity: exporting.identity, entries: 0, rows: 0, record };
        exporter.write(&Record::Group { group }, out);
        Ok(exporter)
    }

    /// Storage keys `from <= key < to` of the rows to hand over.
    #[must_use]
    pub fn range() -> (Vec<u8>, Vec<u8>) {
        (rows::ALL_FROM.to_vec(), rows::ALL_TO.to_vec())
    }

    /// Takes one row; more of the file is in `out`.
    ///
    /// # Errors
    /// [`OpenError::Corrupt`]: the database is damaged.
    pub fn row(&mut self, row: Row, out: &mut Vec<u8>) -> Result<(), OpenError> {
        if mirror::is_segment(&row.key) {
            for record in Records::of(row) {
                let entry = ExportedEntry::of(record?);
                self.entries += 1;
                self.write(&Record::Entry { entry }, out);
            }
        } else if self.identity {
            self.rows += 1;
            self.write(&Record::Row { key: row.key.into(), value: row.value.into() }, out);
        }
        Ok(())
    }

    /// The end of the file; how many entries are in it.
    pub fn finish(mut self, out: &mut Vec<u8>) -> u64 {
        let (entries, rows) = (self.entries, self.rows);
        self.write(&Record::End { entries, rows }, out);
        self.sealer.finish(out);
        entries
    }

    fn write(&mut self, record: &Record, out: &mut Vec<u8>) {
        self.record.clear();
        record.write(&mut self.record);
        self.sealer.write(&self.record, out);
    }
}

impl ExportedEntry {
    fn of(record: mirror::Record) -> Self {
        Self {
            position: record.place.position,
            ordinal: record.place.ordinal,
            for_app: record.for_app != ForApp::Nothing,
            parts_from: match record.for_app {
                ForApp::Batch { first } => Some((first.position, first.ordinal)),
                ForApp::Nothing | ForApp::Blob => None,
            },
            missing_deps: record.missing_deps,
            timeline: record.timeline,
            cursor: record.cursor,
            observed: record.observed,
            envelope: record.envelope,
        }
    }
}
