//! How large a bench is.

use std::time::Duration;

use super::super::flow::Flow;

/// Sizes and times of all measurements.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    /// Rounds whose median is taken.
    pub(super) rounds: usize,
    /// Of each baseline.
    pub(super) baseline: Duration,
    /// Before each flow.
    pub(super) warm_up: Duration,
    /// Of each flow.
    pub(super) flow: Duration,
    /// Of each point of a plot.
    pub(super) point: Duration,
    /// Devices, each in a group of its own, of the push figures.
    pub(super) devices: usize,
    /// Devices of the hot group.
    pub(super) hot_devices: usize,
    /// Devices of the fan-out group; each has four sessions.
    pub(super) fanout_devices: usize,
    /// Other groups in the store.
    pub(super) other_groups: usize,
    /// Entries of a catch-up.
    pub(super) catch_up: u64,
    /// Groups of four devices that idle over WebSocket.
    pub(super) idle_ws_groups: usize,
    /// Groups of four devices that idle over iroh.
    pub(super) idle_iroh_groups: usize,
    /// How long they idle.
    pub(super) rest: Duration,
    /// Groups of four devices that come back after a restart.
    pub(super) storm_groups: usize,
    /// Groups of a hundred entries in the large store.
    pub(super) large_groups: usize,
    /// Starts whose median is taken.
    pub(super) starts: usize,
    /// Clients of the plot.
    pub(super) clients: &'static [usize],
    /// Bytes of an envelope of the plot.
    pub(super) payloads: &'static [usize],
}

/// What `docs/PERFORMANCE.md` shows.
pub(super) const FULL: Scale = Scale {
    rounds: 3,
    baseline: Duration::from_secs(5),
    warm_up: Duration::from_secs(1),
    flow: Duration::from_secs(6),
    point: Duration::from_secs(3),
    devices: 64,
    hot_devices: 16,
    fanout_devices: 64,
    other_groups: 100_000,
    catch_up: 100_000,
    idle_ws_groups: 2_500,
    idle_iroh_groups: 500,
    rest: Duration::from_secs(5),
    storm_groups: 500,
    large_groups: 10_000,
    starts: 7,
    clients: &[1, 4, 16, 64, 256],
    payloads: &[340, 1_024, 4_096, 16_384, 65_536],
};

/// What a test runs.
pub(super) const QUICK: Scale = Scale {
    rounds: 1,
    baseline: Duration::from_millis(200),
    warm_up: Duration::from_millis(50),
    flow: Duration::from_millis(300),
    point: Duration::from_millis(150),
    devices: 4,
    hot_devices: 2,
    fanout_devices: 3,
    other_groups: 100,
    catch_up: 300,
    idle_ws_groups: 3,
    idle_iroh_groups: 1,
    rest: Duration::from_millis(200),
    storm_groups: 2,
    large_groups: 10,
    starts: 1,
    clients: &[1, 2],
    payloads: &[340, 4_096],
};

impl Scale {
    /// Every session pushes 1 KiB flat out, with so many pushes unanswered.
    pub(super) fn pushing(&self, in_flight: usize) -> Flow {
        Flow {
            sessions: 1,
            pushers: usize::MAX,
            follow: false,
            rate: None,
            in_flight,
            batch: 1,
            payload_bytes: 1024,
            warm_up: self.warm_up,
            duration: self.flow,
            verify: false,
        }
    }

    /// Whether this is the small one, which checks instead of measuring.
    pub(super) fn verifies(&self) -> bool {
        self.rounds == 1
    }
}
