//! What was seen during a soak, by everybody who can see something: each device's app, the database
//! itself, the kernel, the disk. [`super::check`] judges it, and nothing else.

use std::hash::{DefaultHasher, Hash, Hasher};

use zerok_sync::{BlobId, DeviceId};

use crate::processes::Vitals;

/// A device of the soak: which group, and which of its devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seat {
    /// Its group.
    pub group: usize,
    /// Its number there.
    pub device: usize,
}

impl std::fmt::Display for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "device {} of group {}", self.device, self.group)
    }
}

/// A blob, by what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// That of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// Something a device's app saw, in the order in which it saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The client was opened (again) on its home, and says what was processed before.
    Opened {
        /// The position behind which it goes on.
        processed: u64,
    },
    /// A push returned: it is on this device's disk.
    Pushed {
        /// Its number.
        seq: u64,
        /// What was in it.
        blob: Fingerprint,
    },
    /// The relay has acknowledged every push up to this one.
    Acked {
        /// Highest number.
        up_to: u64,
    },
    /// An entry was handed over.
    Delivered(Delivery),
    /// Everything up to here was processed, and that is stored.
    Processed {
        /// The position.
        position: u64,
    },
    /// The client raised an integrity event.
    Accused {
        /// Which.
        finding: String,
    },
}

/// An entry as an app got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The device's own number for it.
    pub position: u64,
    /// Where the relay had it.
    pub cursor: u64,
    /// Its envelope.
    pub blob_id: BlobId,
    /// Who wrote it.
    pub sender: DeviceId,
    /// Its place in that device's chain.
    pub seq: u64,
    /// What was in it.
    pub blob: Fingerprint,
}

/// A group as its relay's database holds it, read without the relay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredLog {
    /// `groups.head`.
    pub head: u64,
    /// Its rows in the order of their cursors.
    pub rows: Vec<StoredRow>,
}

/// One row of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRow {
    /// Its cursor.
    pub cursor: u64,
    /// Its id.
    pub blob_id: BlobId,
    /// Whether its bytes hash to that id.
    pub intact: bool,
}

/// Where a device stands when everything should have settled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct End {
    /// Live, caught up, without a problem; else what is in the way.
    pub trouble: Option<String>,
    /// Pushes that wait.
    pub outbox: u64,
    /// The members it knows.
    pub members: Vec<DeviceId>,
    /// The relay's head, as it knows it.
    pub relay_head: Option<u64>,
    /// Highest position that it has.
    pub position: u64,
    /// Highest position that was processed.
    pub processed: u64,
    /// Envelopes that it has stored and verified again, control entries among them.
    pub verified: u64,
    /// What that verification found.
    pub findings: Vec<String>,
    /// Every entry it has, in the order that must be the same everywhere.
    pub order: Vec<(u64, DeviceId, u64, BlobId)>,
}

/// A device with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceTrace {
    /// Its identity.
    pub id: DeviceId,
    /// What its app saw.
    pub seen: Vec<Seen>,
    /// Where it stands in the end.
    pub end: End,
}

/// What a relay answered to a push of a scribe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledged {
    /// The envelope.
    pub blob_id: BlobId,
    /// The cursor that it was told to have.
    pub cursor: u64,
}

/// Something where it must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// The file.
    pub file: String,
    /// What it holds.
    pub what: String,
}

/// What a relay's process held, before the load and after it, without clients both times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Before.
    pub before: Vitals,
    /// After.
    pub after: Vitals,
}

/// Everything that was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// The devices by group.
    pub groups: Vec<Vec<DeviceTrace>>,
    /// Every log in the database.
    pub logs: Vec<StoredLog>,
    /// What each scribe wrote down: one log each.
    pub scribes: Vec<Vec<Acknowledged>>,
    /// What the search of disks and logs found.
    pub leaks: Vec<Leak>,
    /// For each relay.
    pub held: Vec<Held>,
}

impl Trace {
    /// Every device with its seat.
    pub fn devices(&self) -> impl Iterator<Item = (Seat, &DeviceTrace)> {
        self.groups.iter().enumerate().flat_map(|(group, devices)| {
            devices.iter().enumerate().map(move |(device, trace)| (Seat { group, device }, trace))
        })
    }
}
