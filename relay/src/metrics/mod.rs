//! What the relay tells its operator, in numbers: `/metrics` and the status page show these.
//!
//! No label holds an id, an address or anything else that differs from client to client: labels
//! are enums, so that the number of series is known here, and every series is there from the
//! start, at zero. Counting is one or two atomic additions.
//!
//! | file | role |
//! |---|---|
//! | `labels.rs` | what metrics are split by |
//! | `histogram.rs` | histograms that can be read back |
//! | `process.rs` | memory, processor time, files of this process |

mod histogram;
mod labels;
pub(crate) mod process;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};

pub use self::histogram::{CommitEnvelopes, Counts, Histogram, Seconds};
use self::labels::Label;
pub use self::labels::{
    Delivery, DeliveryLabel, Direction, DirectionLabel, Garbage, GarbageLabel, HandshakeLabel, HandshakeOutcome,
    Refusal, RefusalLabel, Transport, TransportLabel,
};

/// In front of every name but the process's own.
const PREFIX: &str = "zerok_relay";

/// Declares [`Metrics`] and its registry in one place. A name that ends in `_bytes` or `_seconds`
/// has that unit; `/metrics` shows counters with `_total` behind it.
macro_rules! metrics {
    ($($name:ident: $kind:ty, $help:literal;)+) => {
        /// Every metric of a relay. Clones count into the same numbers.
        #[derive(Debug, Clone, Default)]
        pub struct Metrics {
            $(#[doc = $help] pub $name: $kind,)+
        }

        impl Metrics {
            fn register_all(&self, registry: &mut Registry) {
                $(self.$name.register(registry, stringify!($name), $help);)+
            }
        }
    };
}

metrics! {
    connections: Family<TransportLabel, Gauge>, "Open connections";
    connections_max: Gauge, "Connections there may be";
    sessions: Family<TransportLabel, Gauge>, "Sessions behind the handshake";
    handshakes: Family<HandshakeLabel, Counter>, "Handshakes that ended";
    refusals: Family<RefusalLabel, Counter>, "Requests refused or delayed by a limit";
    pushes: Counter, "Push frames taken";
    acks: Counter, "PushAck frames sent";
    entries_stored: Counter, "Pushed entries stored for the first time";
    entries_delivered: Family<DeliveryLabel, Counter>, "Entries sent to subscribers";
    link_bytes: Family<DirectionLabel, Counter>, "Bytes of link messages";
    commit_envelopes: CommitEnvelopes, "Envelopes per group commit";
    commit_seconds: Seconds, "From the start of a group commit until it is on disk";
    append_seconds: Seconds, "From a session's append until its acknowledgement could be sent";
    append_queue: Gauge, "Appends that wait for a writer";
    commit_failures: Counter, "Group commits that failed";
    fanout_bytes: Gauge, "Bytes of fresh entries that wait for live subscribers";
    fanout_behind: Counter, "Subscribers that fell behind what is kept for them";
    doorbell_seconds: Seconds, "From a commit on another instance until its doorbell here";
    doorbell_missed: Counter, "Doorbells that the poll had to make good";
    groups: Gauge, "Logs in the store";
    stored_bytes: Gauge, "Bytes of envelopes in the store";
    collected: Family<GarbageLabel, Counter>, "What garbage collection removed";
    collected_bytes: Counter, "Bytes given back by garbage collection";
    store_connections_used: Gauge, "Connections to the database that are in use";
    store_connections_max: Gauge, "Connections to the database that may be used";
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

    /// Counts entries that were sent to a subscriber.
    pub fn delivered(&self, from: Delivery, entries: u64) {
        self.entries_delivered.get_or_create(&from.into()).inc_by(entries);
    }

    /// Counts a connection while it lives.
    #[must_use]
    pub fn connection(&self, transport: Transport) -> Counted {
        Counted::on(&self.connections.get_or_create(&transport.into()))
    }

    /// Counts a session while it lives.
    #[must_use]
    pub fn session(&self, transport: Transport) -> Counted {
        Counted::on(&self.sessions.get_or_create(&transport.into()))
    }

    /// Counts the end of a handshake.
    pub fn handshake(&self, outcome: HandshakeOutcome) {
        self.handshakes.get_or_create(&outcome.into()).inc();
    }

    /// A registry with all of them, the process's numbers and `build` (label and value pairs).
    #[must_use]
    pub fn registry(&self, build: &[(&'static str, String)]) -> Registry {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(process::ProcessCollector::new()));
        let relay = registry.sub_registry_with_prefix(PREFIX);
        self.register_all(relay);
        relay.register("build", "What is running", Info::new(build.to_vec()));
        registry
    }
}

/// One more on a gauge, for as long as it lives.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Counted {
    /// Counts.
    #[must_use]
    pub fn on(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// `/metrics`: OpenMetrics text.
#[must_use]
pub fn exposition(registry: &Registry) -> String {
    let mut text = String::new();
    text::encode(&mut text, registry).expect("writing to a string does not fail");
    text
}

/// Brings a metric into a registry.
trait Register {
    fn register(&self, registry: &mut Registry, name: &'static str, help: &'static str);
}

impl Register for Counter {
    fn register(&self, registry: &mut Registry, name: &'static str, help: &'static str) {
        register(registry, name, help, self.clone());
    }
}

impl Register for Gauge {
    fn register(&self, registry: &mut Registry, name: &'static str, help: &'static str) {
        register(registry, name, help, self.clone());
    }
}

impl Register for Seconds {
    fn register(&self, registry: &mut Registry, name: &'static str, help: &'static str) {
        register(registry, name, help, self.0.clone());
    }
}

impl Register for CommitEnvelopes {
    fn register(&self, registry: &mut Registry, name: &'static str, help: &'static str) {
        register(registry, name, help, self.0.clone());
    }
}

impl<L, M> Register for Family<L, M>
where
    L: Label + Clone + std::hash::Hash + Eq,
    M: Clone,
    fn() -> M: MetricConstructor<M>,
    Self: Metric + Clone,
{
    fn register(&self, registry: &mut Registry, name: &'static str, help: &'static str) {
        // A series that appears with its first event cannot be alerted on.
        for labels in L::all() {
            drop(self.get_or_create(&labels));
        }
        register(registry, name, help, self.clone());
    }
}

/// The library puts the unit behind the name itself.
fn register(registry: &mut Registry, name: &'static str, help: &'static str, metric: impl Metric) {
    if let Some(name) = name.strip_suffix("_bytes") {
        registry.register_with_unit(name, help, Unit::Bytes, metric);
    } else if let Some(name) = name.strip_suffix("_seconds") {
        registry.register_with_unit(name, help, Unit::Seconds, metric);
    } else {
        registry.register(name, help, metric);
    }
}
