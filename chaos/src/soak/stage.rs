//! A deployment with devices and scribes on it, ready for whatever is to happen to them; and the
//! judgement at the end, the same for every soak and every scenario with real processes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::future::{join_all, try_join_all};
use tokio::sync::watch;
use tokio::time::sleep;

use super::device::{Blobs, Device, Pace};
use super::scribe::Scribe;
use super::secrecy::{self, Search};
use super::stored;
use super::trace::{Acknowledged, Held, Leak, Trace};
use crate::processes::deployment::blocking;
use crate::processes::{Deployment, Vitals};
use crate::sim::Dice;

/// How long a relay may take to let go of what its clients held, once they are gone …
const LET_GO_WITHIN: Duration = Duration::from_secs(20);
/// … which it has when nothing has changed for this long.
const QUIET: Duration = Duration::from_secs(1);

/// Who is on the stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cast {
    /// Groups of real devices.
    pub groups: usize,
    /// Devices of each.
    pub devices: usize,
    /// Scribes, with a log each.
    pub scribes: usize,
    /// Bytes of the largest blob.
    pub blob_bytes_max: usize,
}

/// See the module's documentation.
pub struct Stage {
    /// What runs.
    pub deployment: Deployment,
    /// The devices by group.
    pub groups: Vec<Vec<Device>>,
    scribes: Vec<Scribe>,
    pace: watch::Sender<Pace>,
    marker: String,
    before: Vec<Vitals>,
}

/// What was seen, and what it took to find out.
#[derive(Debug)]
pub struct Judged {
    /// Everything that was seen.
    pub trace: Trace,
    /// Until everybody had everything and it was verified again.
    pub settled: Duration,
    /// Bytes of databases and logs that were searched.
    pub searched_bytes: u64,
}

impl Stage {
    /// Founds the groups and lets everybody in; nobody pushes yet.
    ///
    /// # Errors
    /// What did not start.
    pub async fn set(deployment: Deployment, dir: &Path, cast: Cast, dice: &mut Dice) -> Result<Self> {
        let before = vitals(&deployment)?;
        let marker = format!("soak-{}", hex::encode(&dice.bytes()[..12]));
        let blobs = Blobs { marker: marker.clone(), bytes_max: cast.blob_bytes_max };
        let (pace, paced) = watch::channel(Pace::Still);
        let (url, homes) = (deployment.url(), dir.join("homes"));
        let groups = (0..cast.groups).map(|group| Device::group(group, cast.devices, &url, &homes, &blobs, &paced));
        let groups = try_join_all(groups).await?;
        let mut scribes = Vec::new();
        for scribe in 0..cast.scribes {
            let dice = Dice::new(dice.any(), u8::try_from(scribe)?);
            scribes.push(Scribe::start(deployment.addr(), dice).await?);
        }
        Ok(Self { deployment, groups, scribes, pace, marker, before })
    }

    /// Every device.
    pub fn devices(&self) -> impl Iterator<Item = &Device> + Clone {
        self.groups.iter().flatten()
    }

    /// From now on, so many pushes per second of all devices together.
    pub fn push_at(&self, rate: f64) {
        let devices = self.devices().count() as f64;
        self.pace.send_replace(Pace::Every(Duration::from_secs_f64(devices / rate.max(0.001))));
    }

    /// From now on, as fast as the relay acknowledges.
    pub fn push_flat_out(&self) {
        self.pace.send_replace(Pace::FlatOut);
    }

    /// Nobody pushes any more.
    pub fn hold(&self) {
        self.pace.send_replace(Pace::Still);
    }

    /// Pushed, acknowledged, delivered.
    #[must_use]
    pub fn counts(&self) -> [u64; 3] {
        self.devices()
            .map(Device::counts)
            .fold([0; 3], |sum, more| [sum[0] + more[0], sum[1] + more[1], sum[2] + more[2]])
    }

    /// What the scribes have written down so far.
    #[must_use]
    pub fn written(&self) -> Vec<Vec<Acknowledged>> {
        self.scribes.iter().map(Scribe::written).collect()
    }

    /// Waits until every device had a push acknowledged that it is yet to make.
    pub async fn everybody_gets_through(&self) {
        let next: Vec<u64> = self.devices().map(|device| device.latest_push() + 1).collect();
        join_all(self.devices().zip(next).map(|(device, next)| device.acknowledged(next))).await;
    }

    /// Every app comes to the foreground: a dead link is noticed within seconds.
    ///
    /// # Errors
    /// If a client has ended.
    pub async fn look_up(&self) -> Result<()> {
        try_join_all(self.devices().map(Device::wake)).await?;
        Ok(())
    }

    /// Nobody pushes any more, everybody gets everything within this time, everything is looked at,
    /// and all processes are killed.
    ///
    /// # Errors
    /// If something could not be looked at, or a scribe does not come to its end.
    pub async fn judge(&mut self, within: Duration) -> Result<Judged> {
        self.hold();
        let begun = Instant::now();
        let mut trace = self.settle(within).await?;
        for scribe in self.scribes.drain(..) {
            trace.scribes.push(scribe.finish(within).await?);
        }
        let settled = begun.elapsed();
        let after = self.without_clients().await?;
        trace.held = self.before.iter().zip(&after).map(|(&before, &after)| Held { before, after }).collect();
        let searched_bytes = self.search(&mut trace).await?;
        Ok(Judged { trace, settled, searched_bytes })
    }

    async fn settle(&self, within: Duration) -> Result<Trace> {
        loop {
            let pushed = self.counts()[0];
            let trace = self.settled(within).await?;
            // A push that was under way when everybody was told to hold may have come in between
            // the looks at two devices: then they are looked at again.
            if self.counts()[0] == pushed {
                return Ok(trace);
            }
        }
    }

    async fn settled(&self, within: Duration) -> Result<Trace> {
        let settling = self.groups.iter().map(|devices| {
            let pushed = devices.iter().map(|device| device.counts()[0]).sum();
            join_all(devices.iter().map(move |device| device.settled(pushed, within)))
        });
        let troubles = join_all(settling).await;
        let mut trace = Trace::default();
        for (devices, troubles) in self.groups.iter().zip(troubles) {
            let mut seen = Vec::new();
            for (device, trouble) in devices.iter().zip(troubles) {
                seen.push(device.trace(device.end(trouble).await?));
            }
            trace.groups.push(seen);
        }
        Ok(trace)
    }

    /// Closes every client; what the relays hold once they have let go.
    async fn without_clients(&mut self) -> Result<Vec<Vitals>> {
        try_join_all(self.groups.iter_mut().flatten().map(Device::close)).await?;
        // Pools of connections to the database stay; what clients had goes, and then nothing more.
        let deadline = Instant::now() + LET_GO_WITHIN;
        let (mut last, mut since) = (vitals(&self.deployment)?, Instant::now());
        loop {
            sleep(Duration::from_millis(100)).await;
            let now = vitals(&self.deployment)?;
            if now.iter().map(|now| now.fds).ne(last.iter().map(|last| last.fds)) {
                since = Instant::now();
            }
            last = now;
            if since.elapsed() >= QUIET || Instant::now() > deadline {
                return Ok(last);
            }
        }
    }

    /// Reads the database, stops everything in mid-air, and looks through all that was written.
    async fn search(&mut self, trace: &mut Trace) -> Result<u64> {
        let database = self.deployment.database().cloned();
        trace.logs = stored::stored_logs(&self.deployment).await?;
        let mut own_ports = Vec::new();
        let mut logs = Vec::new();
        for relay in &mut self.deployment.relays {
            relay.kill().await?;
            own_ports.extend(relay.own_ports());
            logs.push(relay.log_path());
        }
        if let Some(database) = database {
            own_ports.extend(database.ports());
            blocking(move || database.kill()).await?;
        }
        let mut search = Search::new().with("a blob or a name", self.marker.as_bytes());
        for (seat, device) in trace.devices() {
            search = search.with(&format!("the identity of {seat}"), device.id.as_bytes());
        }
        let folders = self.deployment.folders();
        let (mut leaks, bytes) = blocking(move || {
            let mut leaks = Vec::new();
            let mut bytes = 0;
            for folder in folders {
                bytes += search.folder(&folder, &mut leaks)?;
            }
            Ok((leaks, bytes))
        })
        .await?;
        for path in logs {
            let log = std::fs::read_to_string(&path)?;
            let tell = |line: &&str| Leak { file: path.display().to_string(), what: format!("the line {line:?}") };
            // A few show what kind it is.
            leaks.extend(secrecy::telling_lines(&log, &own_ports).iter().take(5).map(tell));
        }
        trace.leaks = leaks;
        Ok(bytes)
    }
}

fn vitals(deployment: &Deployment) -> Result<Vec<Vitals>> {
    deployment.relays.iter().map(|relay| relay.vitals().context("a relay does not run")).collect()
}
