//! The contract between the core and whoever drives it: what goes in, what comes out, when.
//!
//! The core does no I/O. A driver owns sockets, timers and a small key-value store, and runs one
//! loop for both machines ([`crate::Engine`] and [`crate::Joiner`]):
//!
//! 1. hand over one [`Input`] with the current [`Now`], or call a mutator;
//! 2. drain `poll_output()` until it returns `None`, carrying out each [`Output`] in order;
//! 3. wait for the next input or for `next_deadline_ms()`, then hand over [`Input::Tick`].
//!
//! Outputs that rest on a storage change come out only after the driver has confirmed the commit
//! ([`Input::Committed`]): so nothing is sent, acknowledged or told to the app that a crash could
//! take back.

use bytes::Bytes;
use zerok_sync_protocol::NoisePublicKey;

use crate::event::Event;

/// What a driver drives: the engine, or a joining device before it has one.
pub trait Machine {
    /// Takes one input in.
    fn handle(&mut self, now: Now, input: Input);
    /// The next thing to do; drain after every input and every mutator.
    fn poll_output(&mut self) -> Option<Output>;
    /// When to hand over [`Input::Tick`] at the latest, on the clock of [`Now::mono_ms`].
    fn next_deadline_ms(&self) -> Option<u64>;
}

/// Two clocks, read by the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds on a clock that never goes back; only differences count. Drives all timers.
    pub mono_ms: u64,
    /// Unix milliseconds, as wrong as the machine's clock. Only written into entries (`sent_at`).
    pub wall_ms: u64,
}

/// Names one attempt to reach a relay; never used twice by a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// Names one storage batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId(pub u64);

/// Names one request to read storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScanId(pub u64);

/// Where a relay is and who it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayAddress {
    /// `http://…` or `https://…` origin, without a trailing slash.
    pub url: String,
    /// Its Noise key, once known. Without it the first contact pins what it finds, which the core
    /// allows over https and loopback only.
    pub key: Option<NoisePublicKey>,
}

/// What [`LinkDownReason::TryLater`] is to people.
pub(crate) const RELAY_BUSY: &str = "the relay has too many connections just now";

/// Why a link ended or never stood, as far as the driver can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkDownReason {
    /// Name look-up, connection or TLS failed; with a sentence for people.
    Unreachable(String),
    /// It stood and ended: closed by the peer, reset, or cut off.
    Closed,
    /// The relay refused this version of the link (close code 4004), with what it said.
    UnsupportedVersion(String),
    /// The relay has no place just now (close code 1013, or HTTP's `Retry-After`).
    TryLater {
        /// When it wants to be asked again.
        retry_after_ms: u64,
    },
    /// The driver found bytes on it that no relay sends (too long a message, text instead of binary).
    Invalid(String),
}

/// What happens to a machine.
#[derive(Debug, Clone)]
pub enum Input {
    /// Time passed; see `next_deadline_ms()`.
    Tick,
    /// The link asked for by [`Output::Connect`] stands.
    LinkUp(LinkId),
    /// One whole link message arrived.
    LinkMessage(LinkId, Bytes),
    /// The link is gone. The driver says this exactly once for every `Connect`, unless the machine
    /// said `Disconnect` first.
    LinkDown(LinkId, LinkDownReason),
    /// The batch is on disk. Batches are confirmed in the order they were given.
    Committed(CommitId),
    /// The batch is not on disk, and none of it. The machine stops; open it again from storage.
    CommitFailed(CommitId, StorageFault),
    /// The rows asked for by [`Output::Scan`], in key order.
    Scanned(ScanId, Vec<Row>),
    /// The network may have come back or changed, or the machine woke up: probe now.
    Wake,
}

/// What a machine wants done.
#[derive(Debug, Clone)]
pub enum Output {
    /// Open a link to this relay.
    Connect(LinkId, RelayAddress),
    /// Send one link message. The machine bounds what is unanswered, so a driver may queue these.
    Transmit(LinkId, Bytes),
    /// Close the link; the machine has forgotten it.
    Disconnect(LinkId),
    /// Apply the whole batch atomically and durably, then say `Committed`. Never two at a time.
    Commit(CommitId, Batch),
    /// Read rows with `from <= key < to`, stopping after the first row that reaches `bytes_max`.
    Scan {
        /// Echoed in the answer.
        id: ScanId,
        /// First key.
        from: Vec<u8>,
        /// Key behind the last.
        to: Vec<u8>,
        /// Bound on the values' total length; at least one row comes if there is one.
        bytes_max: usize,
    },
    /// Tell the app.
    Event(Event),
}

/// One stored row.
#[derive(Clone, PartialEq, Eq)]
pub struct Row {
    /// Ordered bytewise.
    pub key: Vec<u8>,
    /// Opaque to the driver.
    pub value: Vec<u8>,
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values hold key material.
        write!(f, "Row({} bytes under a {}-byte key)", self.value.len(), self.key.len())
    }
}

/// Changes that become durable together or not at all. For one key the last change counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// In order.
    pub changes: Vec<Change>,
}

/// One change to storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Insert or replace.
    Put(Row),
    /// Remove; no error if absent.
    Delete {
        /// Which row.
        key: Vec<u8>,
    },
}

impl Batch {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Adds an insert-or-replace.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.push(Change::Put(Row { key, value }));
    }

    /// Adds a removal.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.changes.push(Change::Delete { key });
    }
}

/// Why storage did not take a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageFault {
    /// No room: disk full or browser quota.
    #[error("this device's storage is full: {0}")]
    Full(String),
    /// Anything else.
    #[error("this device's storage failed: {0}")]
    Failed(String),
}
