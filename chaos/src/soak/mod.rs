//! The soak: real clients at a steady load on a real relay, whose processes and database are killed
//! again and again; and what must hold in the end.
//!
//! [`run`] starts a [`Deployment`], groups of devices with homes on disk (`device.rs`), kills what
//! `faults.rs` names at a fixed beat, lets everything settle, and collects what was seen
//! (`trace.rs`): by the apps, in the database read without the relay (`stored.rs`), on the disk
//! (`secrecy.rs`), by the kernel. [`check`] judges it, `report.rs` says it. A [`Defect`] planted
//! behind the product's back must be found.

pub mod arguments;
pub mod check;
pub mod defect;
pub mod device;
pub mod faults;
pub mod report;
pub mod secrecy;
pub mod stored;
pub mod trace;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::future::{join_all, try_join_all};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use self::defect::Copy;
pub use self::defect::Defect;
use self::device::{Blobs, Device, Pace};
use self::faults::Fault;
pub use self::report::Report;
use self::secrecy::Search;
use self::trace::{Held, Leak, Trace};
use crate::processes::deployment::blocking;
use crate::processes::{Deployment, Store, Vitals};
use crate::sim::Dice;

/// How long the rate is measured when none is given.
const FLAT_OUT: Duration = Duration::from_secs(10);
/// How long a relay may take to let go of what its clients held, once they are gone.
const LET_GO_WITHIN: Duration = Duration::from_secs(20);
/// It is done when nothing has changed for this long.
const QUIET: Duration = Duration::from_secs(1);

/// What is to happen.
#[derive(Debug, Clone)]
pub struct Plan {
    /// On what.
    pub store: Store,
    /// Groups.
    pub groups: usize,
    /// Devices of each.
    pub devices: usize,
    /// How long the load lasts.
    pub duration: Duration,
    /// From one kill to the next.
    pub every: Duration,
    /// The longest outage beyond the restart itself.
    pub outage_max: Duration,
    /// Pushes per second of all devices together; half of what they reach flat out, if not given.
    pub rate: Option<f64>,
    /// Bytes of the largest blob.
    pub blob_bytes_max: usize,
    /// How long after the last fault everybody may take to have everything: the longest backoff,
    /// and a dead link found by its ping, with room for a busy machine.
    pub settle: Duration,
    /// Whether people look at their devices after each outage: an app in the foreground notices a
    /// dead link within seconds, others by their pings. For soaks of less than a minute.
    pub look_up: bool,
    /// Decides outages and who else is closed meanwhile.
    pub seed: u64,
    /// Something wrong that must be found.
    pub defect: Option<Defect>,
}

/// One kill and what came of it.
#[derive(Debug, Clone, Copy)]
pub struct Kill {
    /// Who.
    pub fault: Fault,
    /// Until it was ready again.
    pub outage: Duration,
    /// Until every device had a push acknowledged that it made after the kill; `None` if the next
    /// kill came before.
    pub recovery: Option<Duration>,
}

/// A soak under way.
struct Soak<'a> {
    plan: &'a Plan,
    deployment: Deployment,
    groups: Vec<Vec<Device>>,
    pace: watch::Sender<Pace>,
    dice: Dice,
    kills: Vec<Kill>,
    copy: Option<Copy>,
}

/// Runs a plan with its files in `dir`; `say` gets a line after each kill.
///
/// # Errors
/// If something does not start, or an app cannot go on. What is wrong with the product is in the
/// report.
pub async fn run(plan: &Plan, dir: &Path, mut say: impl FnMut(&str)) -> Result<Report> {
    let deployment = Deployment::start(plan.store, &dir.join("relays"), false, &[]).await?;
    let before = vitals(&deployment)?;
    let mut dice = Dice::new(plan.seed, b's');
    let marker = format!("soak-{}", hex::encode(&dice.bytes()[..12]));
    let blobs = Blobs { marker: marker.clone(), bytes_max: plan.blob_bytes_max };
    let (pace, paced) = watch::channel(Pace::Still);
    let (url, homes) = (deployment.url(), dir.join("homes"));
    let groups = (0..plan.groups).map(|group| Device::group(group, plan.devices, &url, &homes, &blobs, &paced));
    let groups = try_join_all(groups).await?;
    let mut soak = Soak { plan, deployment, groups, pace, dice, kills: Vec::new(), copy: None };

    let rate = soak.load(&mut say).await?;
    let begun = Instant::now();
    soak.strike_repeatedly(&mut say).await?;
    soak.pace.send_replace(Pace::Still);
    let load = begun.elapsed();

    let healed = Instant::now();
    let mut trace = soak.settle().await?;
    let settled = healed.elapsed();
    let after = soak.without_clients().await?;
    trace.held = before.iter().zip(&after).map(|(&before, &after)| Held { before, after }).collect();

    let mut ack_ms = device::ack_times();
    let mut counts = [0; 3];
    for device in soak.groups.iter().flatten() {
        device.add_ack_times(&mut ack_ms);
        device.counts().into_iter().zip(&mut counts).for_each(|(more, sum)| *sum += more);
    }
    let searched_bytes = soak.search(&marker, &mut trace).await?;
    let violations = check::check(&trace);
    Ok(Report {
        plan: plan.clone(),
        rate,
        load,
        settled,
        counts,
        ack_ms,
        kills: soak.kills,
        trace,
        searched_bytes,
        violations,
    })
}

fn vitals(deployment: &Deployment) -> Result<Vec<Vitals>> {
    deployment.relays.iter().map(|relay| relay.vitals().context("a relay does not run")).collect()
}

impl Soak<'_> {
    /// Sets the pace; pushes per second of all devices.
    async fn load(&mut self, say: &mut impl FnMut(&str)) -> Result<f64> {
        let rate = match self.plan.rate {
            Some(rate) => rate,
            None => {
                self.pace.send_replace(Pace::FlatOut);
                sleep(FLAT_OUT).await;
                let [_, acked, _] = self.counts();
                self.pace.send_replace(Pace::Still);
                let flat_out = acked as f64 / FLAT_OUT.as_secs_f64();
                say(&format!("flat out: {flat_out:.0} acknowledged pushes/s; half of that from now on"));
                flat_out / 2.0
            }
        };
        let devices = (self.plan.groups * self.plan.devices) as f64;
        self.pace.send_replace(Pace::Every(Duration::from_secs_f64(devices / rate.max(0.001))));
        Ok(rate)
    }

    fn counts(&self) -> [u64; 3] {
        let all = self.groups.iter().flatten().map(Device::counts);
        all.fold([0; 3], |sum, more| [sum[0] + more[0], sum[1] + more[1], sum[2] + more[2]])
    }

    /// Kills at each beat until the time is over; the last beat has its recovery, too.
    async fn strike_repeatedly(&mut self, say: &mut impl FnMut(&str)) -> Result<()> {
        let beats = (self.plan.duration.as_secs_f64() / self.plan.every.as_secs_f64()).floor() as usize;
        let begun = Instant::now();
        for beat in 0..beats {
            let next = begun + self.plan.every * (u32::try_from(beat)? + 1);
            let at = next - self.plan.every / 2;
            tokio::time::sleep_until(at.into()).await;
            let kill = self.strike(beat, next + self.plan.every / 2).await?;
            say(&self.line(begun.elapsed(), &kill));
            self.kills.push(kill);
        }
        tokio::time::sleep_until((begun + self.plan.duration).into()).await;
        Ok(())
    }

    async fn strike(&mut self, beat: usize, next: Instant) -> Result<Kill> {
        self.deployment.assert_relays_run()?;
        let fault = Fault::nth(self.plan.store, beat);
        let mut away = self.somebody_leaves(beat).await?;
        let behind: Vec<u64> = self.groups.iter().flatten().map(Device::latest_push).collect();
        let killed = Instant::now();
        fault.strike(&mut self.deployment).await?;
        self.plant(beat, away)?;
        sleep(faults::outage(&mut self.dice, self.plan.outage_max)).await;
        // A device that comes back may find the relay gone, or back.
        if self.dice.chance(500) {
            self.comes_back(away.take()).await?;
        }
        fault.repair(&mut self.deployment).await?;
        let outage = killed.elapsed();
        self.comes_back(away).await?;
        self.look_up().await?;
        let devices = self.groups.iter().flatten().zip(behind);
        let everybody = join_all(devices.map(|(device, behind)| device.acknowledged(behind + 1)));
        let recovered = timeout(next.saturating_duration_since(Instant::now()), everybody).await;
        Ok(Kill { fault, outage, recovery: recovered.is_ok().then(|| killed.elapsed()) })
    }

    /// People look at their devices, if they are such people.
    async fn look_up(&self) -> Result<()> {
        if self.plan.look_up {
            try_join_all(self.groups.iter().flatten().map(Device::wake)).await?;
        }
        Ok(())
    }

    /// At every other beat, somebody closes the app before the outage and opens it later.
    async fn somebody_leaves(&mut self, beat: usize) -> Result<Option<(usize, usize)>> {
        if beat % 2 == 1 && self.plan.defect != Some(Defect::HomeCopiedBack) {
            return Ok(None);
        }
        let (group, device) = match self.plan.defect {
            Some(Defect::HomeCopiedBack) => (0, 1),
            _ => (self.dice.index(self.plan.groups), self.dice.index(self.plan.devices)),
        };
        self.groups[group][device].close().await?;
        Ok(Some((group, device)))
    }

    async fn comes_back(&mut self, away: Option<(usize, usize)>) -> Result<()> {
        match away {
            Some((group, device)) => self.groups[group][device].open().await,
            None => Ok(()),
        }
    }

    /// Copies at the first beat, puts back at the third.
    fn plant(&mut self, beat: usize, away: Option<(usize, usize)>) -> Result<()> {
        let (folder, belongs): (_, fn(&str) -> bool) = match (self.plan.defect, away) {
            (Some(Defect::DatabaseCopiedBack), _) => {
                (self.deployment.relays[0].dir().to_owned(), |name| name.starts_with("relay.db"))
            }
            (Some(Defect::HomeCopiedBack), Some((group, device))) => {
                (self.groups[group][device].home().to_owned(), |name| name.starts_with("state.db"))
            }
            _ => return Ok(()),
        };
        match (beat, &self.copy) {
            (0, _) => self.copy = Some(Copy::of(&folder, belongs)?),
            (2, Some(copy)) => copy.put_back(belongs)?,
            _ => {}
        }
        Ok(())
    }

    /// Waits until everybody has everything; then what everybody has.
    async fn settle(&mut self) -> Result<Trace> {
        self.look_up().await?;
        let mut groups = Vec::new();
        for devices in &self.groups {
            let pushed = devices.iter().map(|device| device.counts()[0]).sum();
            groups.push((devices, pushed));
        }
        let settling = groups
            .iter()
            .map(|(devices, pushed)| join_all(devices.iter().map(|device| device.settled(*pushed, self.plan.settle))));
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
    async fn search(&mut self, marker: &str, trace: &mut Trace) -> Result<u64> {
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
            own_ports.extend(database.port());
            blocking(move || database.kill()).await?;
        }
        let mut search = Search::new().with("a blob or a name", marker.as_bytes());
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

    fn line(&self, at: Duration, kill: &Kill) -> String {
        let [pushed, acked, delivered] = self.counts();
        let rss: Vec<String> = self
            .deployment
            .relays
            .iter()
            .filter_map(|relay| Some(format!("{} MiB", relay.vitals()?.rss_bytes >> 20)))
            .collect();
        let recovered = match kill.recovery {
            Some(recovery) => format!("everybody after {:.2} s", recovery.as_secs_f64()),
            None => "not everybody before the next".into(),
        };
        format!(
            "{:5.0} s  {}: back after {:.2} s, {recovered} · {pushed} pushed, {acked} acknowledged, {delivered} delivered · relay {}",
            at.as_secs_f64(),
            kill.fault,
            kill.outage.as_secs_f64(),
            rss.join(" + "),
        )
    }
}
