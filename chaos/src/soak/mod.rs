//! The soak: real clients at a steady load on a real relay, whose processes and database are killed
//! again and again; and what must hold in the end.
//!
//! [`run`] sets a [`Stage`] (`stage.rs`): a deployment, groups of devices with homes on disk
//! (`device.rs`), scribes that write down every acknowledgement (`scribe.rs`). It kills what
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
pub mod scribe;
pub mod secrecy;
pub mod stage;
pub mod stored;
pub mod trace;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::time::{sleep, sleep_until, timeout};

use self::defect::Copy;
pub use self::defect::Defect;
use self::faults::Fault;
pub use self::report::Report;
pub use self::stage::{Cast, Stage};
use crate::processes::{Deployment, Store};
use crate::sim::Dice;

/// How long the rate is measured when none is given.
const FLAT_OUT: Duration = Duration::from_secs(10);

/// What is to happen.
#[derive(Debug, Clone)]
pub struct Plan {
    /// On what.
    pub store: Store,
    /// Who takes part.
    pub cast: Cast,
    /// How long the load lasts.
    pub duration: Duration,
    /// From one kill to the next.
    pub every: Duration,
    /// The longest outage beyond the restart itself.
    pub outage_max: Duration,
    /// Pushes per second of all devices together; half of what they reach flat out, if not given.
    pub rate: Option<f64>,
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
    /// Until every device had a push acknowledged that it made after the outage; `None` if the next
    /// kill came before.
    pub recovery: Option<Duration>,
}

/// Runs a plan with its files in `dir`; `say` gets a line after each kill.
///
/// # Errors
/// If something does not start, or an app cannot go on. What is wrong with the product is in the
/// report.
pub async fn run(plan: &Plan, dir: &Path, mut say: impl FnMut(&str)) -> Result<Report> {
    let deployment = Deployment::start(plan.store, &dir.join("relays"), false, &[]).await?;
    let mut dice = Dice::new(plan.seed, b's');
    let stage = Stage::set(deployment, dir, plan.cast, &mut dice).await?;
    let mut soak = Soak { plan, stage, dice, kills: Vec::new(), copy: None };
    let rate = soak.load(&mut say).await?;
    let begun = Instant::now();
    soak.strike_repeatedly(&mut say).await?;
    let load = begun.elapsed();
    if plan.look_up {
        soak.stage.look_up().await?;
    }
    let judged = soak.stage.judge(plan.settle).await?;
    let mut ack_ms = device::ack_times();
    soak.stage.devices().for_each(|device| device.add_ack_times(&mut ack_ms));
    let violations = check::check(&judged.trace);
    Ok(Report {
        plan: plan.clone(),
        rate,
        load,
        counts: soak.stage.counts(),
        ack_ms,
        kills: soak.kills,
        judged,
        violations,
    })
}

/// A soak under way.
struct Soak<'a> {
    plan: &'a Plan,
    stage: Stage,
    dice: Dice,
    kills: Vec<Kill>,
    copy: Option<Copy>,
}

impl Soak<'_> {
    /// Sets the pace; pushes per second of all devices.
    async fn load(&mut self, say: &mut impl FnMut(&str)) -> Result<f64> {
        let rate = match self.plan.rate {
            Some(rate) => rate,
            None => {
                self.stage.push_flat_out();
                sleep(FLAT_OUT).await;
                let [_, acked, _] = self.stage.counts();
                let flat_out = acked as f64 / FLAT_OUT.as_secs_f64();
                say(&format!("flat out: {flat_out:.0} acknowledged pushes/s; half of that from now on"));
                flat_out / 2.0
            }
        };
        self.stage.push_at(rate);
        Ok(rate)
    }

    /// Kills in the middle of each beat until the time is over.
    async fn strike_repeatedly(&mut self, say: &mut impl FnMut(&str)) -> Result<()> {
        let begun = Instant::now();
        let mut beat = 0;
        while self.plan.every * (beat + 1) <= self.plan.duration {
            let at = begun + self.plan.every * beat + self.plan.every / 2;
            sleep_until(at.into()).await;
            let kill = self.strike(beat as usize, at + self.plan.every).await?;
            say(&self.line(begun.elapsed(), &kill));
            self.kills.push(kill);
            beat += 1;
        }
        sleep_until((begun + self.plan.duration).into()).await;
        Ok(())
    }

    async fn strike(&mut self, beat: usize, next: Instant) -> Result<Kill> {
        self.stage.deployment.assert_relays_run()?;
        let fault = Fault::nth(self.plan.store, beat);
        let mut away = self.somebody_leaves(beat).await?;
        let killed = Instant::now();
        fault.strike(&mut self.stage.deployment).await?;
        self.plant(beat, away)?;
        sleep(faults::outage(&mut self.dice, self.plan.outage_max)).await;
        // A device that comes back may find the relay gone, or back.
        if self.dice.chance(500) {
            self.comes_back(away.take()).await?;
        }
        fault.repair(&mut self.stage.deployment).await?;
        let outage = killed.elapsed();
        self.comes_back(away).await?;
        if self.plan.look_up {
            self.stage.look_up().await?;
        }
        let patience = next.saturating_duration_since(Instant::now());
        let recovered = timeout(patience, self.stage.everybody_gets_through()).await;
        Ok(Kill { fault, outage, recovery: recovered.is_ok().then(|| killed.elapsed()) })
    }

    /// At every other beat, somebody closes the app before the outage and opens it later.
    async fn somebody_leaves(&mut self, beat: usize) -> Result<Option<(usize, usize)>> {
        if beat % 2 == 1 {
            return Ok(None);
        }
        let (group, device) = match self.plan.defect {
            Some(Defect::HomeCopiedBack) => (0, 1),
            _ => (self.dice.index(self.plan.cast.groups), self.dice.index(self.plan.cast.devices)),
        };
        self.stage.groups[group][device].close().await?;
        Ok(Some((group, device)))
    }

    async fn comes_back(&mut self, away: Option<(usize, usize)>) -> Result<()> {
        match away {
            Some((group, device)) => self.stage.groups[group][device].open().await,
            None => Ok(()),
        }
    }

    /// Copies at the first beat, puts back at the third.
    fn plant(&mut self, beat: usize, away: Option<(usize, usize)>) -> Result<()> {
        let (folder, belongs): (_, fn(&str) -> bool) = match (self.plan.defect, away) {
            (Some(Defect::DatabaseCopiedBack), _) => {
                (self.stage.deployment.relays[0].dir().to_owned(), |name| name.starts_with("relay.db"))
            }
            (Some(Defect::HomeCopiedBack), Some((group, device))) => {
                (self.stage.groups[group][device].home().to_owned(), |name| name.starts_with("state.db"))
            }
            _ => return Ok(()),
        };
        match (beat, &self.copy) {
            (0, _) => self.copy = Some(Copy::of(&folder, belongs)?),
            (2, Some(copy)) => copy.put_back()?,
            _ => {}
        }
        Ok(())
    }

    fn line(&self, at: Duration, kill: &Kill) -> String {
        let [pushed, acked, delivered] = self.stage.counts();
        let relays = self.stage.deployment.relays.iter();
        let rss: Vec<String> =
            relays.filter_map(|relay| Some(format!("{} MiB", relay.vitals()?.rss_bytes >> 20))).collect();
        let recovered = match kill.recovery {
            Some(recovery) => format!("everybody after {:.2} s", recovery.as_secs_f64()),
            None => "not everybody before the next".into(),
        };
        let (at, outage, rss) = (at.as_secs_f64(), kill.outage.as_secs_f64(), rss.join(" + "));
        let counts = format!("{pushed} pushed, {acked} acknowledged, {delivered} delivered");
        format!("{at:5.0} s  {}: back after {outage:.2} s, {recovered} · {counts} · relay {rss}", kill.fault)
    }
}
