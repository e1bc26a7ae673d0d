//! What the relay tells its operator, in numbers: `/metrics` and the status page show these.
//!
//! No label holds an id, an address or anything else that differs from client to client: labels
//! are enums, so that the number of series is known here. Counting is one atomic addition.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Which carrier a link has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Transport {
    /// A WebSocket.
    WebSocket,
    /// A stream of an iroh connection.
    Iroh,
}

/// How a handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum HandshakeOutcome {
    /// The channel stands.
    Done,
    /// A message of it was not what it must be.
    Invalid,
    /// The client speaks another suite.
    UnsupportedSuite,
    /// It took too long.
    TimedOut,
    /// The link ended in the middle.
    Abandoned,
    /// No place for it.
    Refused,
}

/// What a client was refused for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Refusal {
    /// `connections_max`.
    Connections,
    /// `connections_per_address_max`.
    ConnectionsPerAddress,
    /// `handshakes_pending_max` and its share per address.
    HandshakesPending,
    /// `handshakes_per_minute_per_address`.
    HandshakeRate,
    /// More sessions of a device than it may have.
    SessionsPerDevice,
    /// `groups_per_address_per_day`.
    GroupsPerAddress,
    /// Creation is closed, or the token is wrong.
    Creation,
    /// `envelope_bytes_max`.
    EnvelopeBytes,
    /// `push_envelopes_max`.
    PushEnvelopes,
    /// `group_bytes_max`.
    GroupBytes,
    /// `frames_per_second` or `bytes_per_second`: read later, not refused.
    Throttled,
    /// `whispers_per_second`.
    Whispers,
    /// `mailboxes_max` and its share per log.
    Mailboxes,
    /// `mailbox_joins_per_minute_per_address`.
    MailboxJoins,
    /// `truncate_interval_ms` or a floor that some device has not reached.
    Truncation,
    /// The store did not answer or did not keep up.
    Storage,
}

/// Which way bytes went, seen from the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Direction {
    /// From clients.
    In,
    /// To clients.
    Out,
}

/// How a fresh entry reached a live subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Delivery {
    /// With the commit, from memory.
    Inline,
    /// Read from the store.
    Stored,
}

/// What garbage collection removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Garbage {
    /// Entries below a floor.
    Entries,
    /// Whole logs that were deleted.
    DeletedGroups,
    /// Whole logs that were idle for too long.
    IdleGroups,
    /// Mailboxes that expired.
    Mailboxes,
}

macro_rules! label {
    ($set:ident, $field:ident: $value:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub struct $set {
            /// The one label.
            pub $field: $value,
        }

        impl From<$value> for $set {
            fn from($field: $value) -> Self {
                Self { $field }
            }
        }
    };
}

label!(TransportLabel, transport: Transport, "Label of metrics by carrier.");
label!(HandshakeLabel, outcome: HandshakeOutcome, "Label of metrics by outcome of the handshake.");
label!(RefusalLabel, limit: Refusal, "Label of metrics by limit.");
label!(DirectionLabel, direction: Direction, "Label of metrics by direction.");
label!(DeliveryLabel, from: Delivery, "Label of metrics by way of delivery.");
label!(GarbageLabel, kind: Garbage, "Label of metrics by kind of garbage.");

/// Every metric of a relay. Clones count into the same numbers.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Open connections.
    pub connections: Family<TransportLabel, Gauge>,
    /// Sessions behind the handshake.
    pub sessions: Family<TransportLabel, Gauge>,
    /// Handshakes that ended.
    pub handshakes: Family<HandshakeLabel, Counter>,
    /// What limits refused.
    pub refusals: Family<RefusalLabel, Counter>,
    /// `Push` frames taken.
    pub pushes: Counter,
    /// `PushAck` frames sent.
    pub acks: Counter,
    /// Entries stored for the first time.
    pub entries_stored: Counter,
    /// Entries sent to subscribers.
    pub entries_delivered: Family<DeliveryLabel, Counter>,
    /// Bytes of link messages.
    pub link_bytes: Family<DirectionLabel, Counter>,
    /// Envelopes per group commit.
    pub commit_envelopes: CommitEnvelopes,
    /// Seconds from the start of a group commit until it is on disk.
    pub commit_seconds: Seconds,
    /// Seconds from a session's append until its acknowledgement could be sent.
    pub append_seconds: Seconds,
    /// Appends that wait for a writer.
    pub append_queue: Gauge,
    /// Group commits that failed.
    pub commit_failures: Counter,
    /// Bytes of fresh entries that wait for live subscribers.
    pub fanout_bytes: Gauge,
    /// Subscribers that fell behind what is kept for them.
    pub fanout_behind: Counter,
    /// Seconds between a commit on another instance and its doorbell here.
    pub doorbell_seconds: Seconds,
    /// Doorbells that the poll had to make good.
    pub doorbell_missed: Counter,
    /// Logs in the store.
    pub groups: Gauge,
    /// Bytes of envelopes in the store.
    pub stored_bytes: Gauge,
    /// What garbage collection removed.
    pub collected: Family<GarbageLabel, Counter>,
    /// Bytes given back by garbage collection.
    pub collected_bytes: Counter,
    /// Connections to the database that are in use.
    pub store_connections_used: Gauge,
    /// Connections to the database that may be used.
    pub store_connections_max: Gauge,
}

/// A histogram of seconds, from a quarter of a millisecond to some eight seconds.
#[derive(Debug, Clone)]
pub struct Seconds(pub Histogram);

impl Default for Seconds {
    fn default() -> Self {
        Self(Histogram::new(exponential_buckets(0.000_25, 2.0, 16)))
    }
}

/// A histogram of envelopes per commit.
#[derive(Debug, Clone)]
pub struct CommitEnvelopes(pub Histogram);

impl Default for CommitEnvelopes {
    fn default() -> Self {
        Self(Histogram::new(exponential_buckets(1.0, 2.0, 12)))
    }
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one refusal.
    pub fn refused(&self, limit: Refusal) {
        self.refusals.get_or_create(&limit.into()).inc();
    }

    /// Counts the end of a handshake.
    pub fn handshake(&self, outcome: HandshakeOutcome) {
        self.handshakes.get_or_create(&outcome.into()).inc();
    }

    /// A registry with all of them, under the prefix `zerok_relay`.
    #[must_use]
    pub fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("zerok_relay");
        registry.register("connections", "Open connections", self.connections.clone());
        registry.register("sessions", "Sessions behind the handshake", self.sessions.clone());
        registry.register("handshakes", "Handshakes that ended", self.handshakes.clone());
        registry.register("refusals", "Requests refused or delayed by a limit", self.refusals.clone());
        registry.register("pushes", "Push frames taken", self.pushes.clone());
        registry.register("acks", "PushAck frames sent", self.acks.clone());
        registry.register("entries_stored", "Entries stored for the first time", self.entries_stored.clone());
        registry.register("entries_delivered", "Entries sent to subscribers", self.entries_delivered.clone());
        registry.register_with_unit("link", "Bytes of link messages", Unit::Bytes, self.link_bytes.clone());
        registry.register("commit_envelopes", "Envelopes per group commit", self.commit_envelopes.0.clone());
        registry.register_with_unit(
            "commit",
            "Group commit until on disk",
            Unit::Seconds,
            self.commit_seconds.0.clone(),
        );
        registry.register_with_unit(
            "append",
            "A session's append until its acknowledgement",
            Unit::Seconds,
            self.append_seconds.0.clone(),
        );
        registry.register("append_queue", "Appends that wait for a writer", self.append_queue.clone());
        registry.register("commit_failures", "Group commits that failed", self.commit_failures.clone());
        registry.register_with_unit(
            "fanout",
            "Fresh entries that wait for live subscribers",
            Unit::Bytes,
            self.fanout_bytes.clone(),
        );
        registry.register("fanout_behind", "Subscribers that fell behind", self.fanout_behind.clone());
        registry.register_with_unit(
            "doorbell",
            "Commit on another instance until its doorbell here",
            Unit::Seconds,
            self.doorbell_seconds.0.clone(),
        );
        registry.register("doorbell_missed", "Doorbells that the poll made good", self.doorbell_missed.clone());
        registry.register("groups", "Logs in the store", self.groups.clone());
        registry.register_with_unit("stored", "Envelopes in the store", Unit::Bytes, self.stored_bytes.clone());
        registry.register("collected", "What garbage collection removed", self.collected.clone());
        registry.register_with_unit(
            "collected",
            "Given back by garbage collection",
            Unit::Bytes,
            self.collected_bytes.clone(),
        );
        registry.register("store_connections_used", "Database connections in use", self.store_connections_used.clone());
        registry.register(
            "store_connections_max",
            "Database connections there may be",
            self.store_connections_max.clone(),
        );
        registry
    }
}
