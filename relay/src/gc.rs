//! The collector: removes what a floor, a deletion or idleness has given up, in small steps.
//!
//! A round surveys all logs in order of their keys and removes what is due in each, one short
//! transaction at a time, pausing after each for longer than it took: pushes hardly wait. Of
//! several instances on one database one removes; each counts. What a round did not get to, the
//! next one does: the store says what is due, and nothing is remembered here.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use crate::clock::Now;
use crate::core::Core;
use crate::limits::{
    ACTIVITY_SLACK_MS, EVICTION_UPTIME_MS, GC_BYTES_PER_STEP, GC_PAUSE_FACTOR, GIVE_BACK_PAGES_PER_STEP, RelayLimits,
    SURVEY_GROUPS,
};
use crate::metrics::{Garbage, Metrics};
use crate::server;
use crate::store::{Account, Budget, Collector, GroupKey, Removal, Result, Step, Storage, Store, StoreError, Then};

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// What a collector may remove, and how fast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What one transaction may remove.
    pub budget: Budget,
    /// Grace of a floor that was raised while the one before it waited.
    pub truncate_grace_ms: u64,
    /// Logs that were not in use for so long are evicted; `None` for never.
    pub idle_ms_max: Option<u64>,
    /// Pause after each transaction, in times of what it took; 0 for an operator who waits.
    pub pause_factor: u32,
}

impl Policy {
    /// What the relay's limits say.
    #[must_use]
    pub fn of(limits: &RelayLimits) -> Self {
        let slack_ms = ACTIVITY_SLACK_MS.saturating_add(limits.gc_interval_ms);
        Self {
            budget: Budget { entries_max: limits.gc_entries_per_step, bytes_max: GC_BYTES_PER_STEP },
            truncate_grace_ms: limits.truncate_grace_ms,
            idle_ms_max: (limits.idle_days_max > 0)
                .then(|| limits.idle_days_max.saturating_mul(DAY_MS).saturating_add(slack_ms)),
            pause_factor: GC_PAUSE_FACTOR,
        }
    }
}

/// All logs of a store, added up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Logs that are served.
    pub groups: u64,
    /// Logs that were deleted and are not removed yet.
    pub deleted_groups: u64,
    /// Entries that have their rows, those below a floor among them.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the oldest log was made.
    pub oldest_created_at_ms: Option<u64>,
    /// A time at which the log used last was in use.
    pub newest_active_at_ms: Option<u64>,
}

impl Census {
    fn add(&mut self, account: &Account) {
        match account.delete_at_ms {
            None => self.groups += 1,
            Some(_) => self.deleted_groups += 1,
        }
        self.entries += account.entries;
        self.bytes += account.bytes;
        let (created, active) = (Some(account.created_at_ms), Some(account.active_at_ms));
        self.oldest_created_at_ms = self.oldest_created_at_ms.min(created).or(created);
        self.newest_active_at_ms = self.newest_active_at_ms.max(active);
    }
}

/// What a round removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Entries, those of whole logs among them.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Logs that members had deleted.
    pub deleted_groups: u64,
    /// Logs that were idle.
    pub idle_groups: u64,
    /// Mailboxes that had expired.
    pub mailboxes: u64,
}

/// What a round found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// What there is, counted before anything was removed.
    pub census: Census,
    /// What was removed; `None` if another instance is at it.
    pub collected: Option<Collected>,
}

/// What an operator asks of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// The logs.
    pub census: Census,
    /// The database.
    pub storage: Storage,
}

/// Counts what is in a store. Reads a row of `groups` for each log and counts `devices`; entries
/// are not looked at. Works beside a running relay.
///
/// # Errors
/// [`StoreError`] if the store does not answer.
pub async fn stats(store: &dyn Store) -> Result<Stats> {
    Ok(Stats { census: census(store, 0).await?, storage: store.storage().await? })
}

/// One round over the whole store at `now_ms`. What it removes is counted in `metrics` as it goes.
///
/// # Errors
/// [`StoreError::Unavailable`]: the rest is left to the next round. A log whose rows are damaged is
/// left out, with a line in the operator's log.
pub async fn collect(store: &dyn Store, policy: &Policy, now_ms: u64, metrics: &Metrics) -> Result<Round> {
    let Some(mut collector) = store.collector().await? else {
        return Ok(Round { census: census(store, policy.pause_factor).await?, collected: None });
    };
    let mut sweep = Sweep { collector: &mut *collector, policy, now_ms, metrics, collected: Collected::default() };
    let outcome = sweep.round(store).await;
    let collected = sweep.collected;
    collector.finish().await?;
    Ok(Round { census: outcome?, collected: Some(collected) })
}

async fn census(store: &dyn Store, pause_factor: u32) -> Result<Census> {
    let mut census = Census::default();
    let mut after = None;
    loop {
        let page = paced(pause_factor, store.survey(after, SURVEY_GROUPS)).await?;
        let Some(last) = page.last() else { return Ok(census) };
        after = Some(last.group);
        page.iter().for_each(|account| census.add(account));
    }
}

struct Sweep<'a> {
    collector: &'a mut dyn Collector,
    policy: &'a Policy,
    now_ms: u64,
    metrics: &'a Metrics,
    collected: Collected,
}

impl Sweep<'_> {
    /// Everything that is due; what there was before.
    async fn round(&mut self, store: &dyn Store) -> Result<Census> {
        let mut census = Census::default();
        let mut after = None;
        loop {
            let page = paced(self.policy.pause_factor, store.survey(after, SURVEY_GROUPS)).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.group);
            for account in &page {
                census.add(account);
                match self.account(account).await {
                    Err(error @ StoreError::Corrupt(_)) => tracing::error!(%error, "a log cannot be collected"),
                    outcome => outcome?,
                }
            }
        }
        self.collected.mailboxes = store.mailbox_sweep(self.now_ms).await?;
        count(self.metrics, Garbage::Mailboxes, self.collected.mailboxes);
        while paced(self.policy.pause_factor, self.collector.give_back(GIVE_BACK_PAGES_PER_STEP)).await? {}
        Ok(census)
    }

    /// Removes what is due in one log.
    async fn account(&mut self, account: &Account) -> Result<()> {
        let due = |at: Option<u64>| at.is_some_and(|at| at <= self.now_ms);
        let since_ms = self.policy.idle_ms_max.map(|idle_ms| self.now_ms.saturating_sub(idle_ms));
        if due(account.delete_at_ms) {
            if self.remove(account.group, Removal::Deleted).await? {
                self.collected.deleted_groups += 1;
                count(self.metrics, Garbage::DeletedGroups, 1);
            }
        } else if let Some(since_ms) = since_ms.filter(|&since_ms| account.active_at_ms < since_ms) {
            if self.remove(account.group, Removal::Idle { since_ms }).await? {
                self.collected.idle_groups += 1;
                count(self.metrics, Garbage::IdleGroups, 1);
            }
        } else if due(account.purge_at_ms) {
            while self.purge(account.group).await? == Then::Continue {}
        }
        Ok(())
    }

    async fn purge(&mut self, group: GroupKey) -> Result<Then> {
        let Policy { budget, truncate_grace_ms, .. } = *self.policy;
        let step = paced(self.policy.pause_factor, self.collector.purge(group, budget, self.now_ms, truncate_grace_ms))
            .await?;
        Ok(self.note(step))
    }

    /// Whether the log was due, and is gone.
    async fn remove(&mut self, group: GroupKey, why: Removal) -> Result<bool> {
        loop {
            let step =
                paced(self.policy.pause_factor, self.collector.remove(group, why, self.policy.budget, self.now_ms))
                    .await?;
            match self.note(step) {
                Then::Continue => {}
                then => return Ok(then == Then::Finished),
            }
        }
    }

    fn note(&mut self, step: Step) -> Then {
        self.collected.entries += step.entries;
        self.collected.bytes += step.bytes;
        count(self.metrics, Garbage::Entries, step.entries);
        self.metrics.collected_bytes.inc_by(step.bytes);
        step.then
    }
}

fn count(metrics: &Metrics, kind: Garbage, removed: u64) {
    metrics.collected.get_or_create(&kind.into()).inc_by(removed);
}

/// Waits for a while after `work`, so that others have their turn.
async fn paced<T>(pause_factor: u32, work: impl Future<Output = Result<T>>) -> Result<T> {
    let begun = Instant::now();
    let done = work.await?;
    sleep(begun.elapsed() * pause_factor).await;
    Ok(done)
}

/// Collects from time to time until the relay stops.
pub(crate) async fn run(core: Arc<Core>, mut stop: watch::Receiver<bool>) {
    let period = Duration::from_millis(core.limits.gc_interval_ms.max(1));
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut presence = Presence::since(core.now());
    let rounds = async {
        loop {
            ticks.tick().await;
            if let Err(error) = run_round(&core, &mut presence).await {
                // What is left is due in the next round as well.
                core.writer.store_log().failed(&error);
            }
        }
    };
    tokio::select! {
        () = rounds => {}
        () = server::stopped(&mut stop) => {}
    }
}

/// For how long this relay has been there for its clients by a clock that tells how long they were
/// away: since its start, or since the wall clock was set or the machine woke up. A clock that was
/// put a year ahead makes every log look idle.
#[derive(Debug)]
struct Presence {
    since_ms: u64,
    /// The wall clock less the monotonic one.
    wall_ahead_ms: u64,
}

impl Presence {
    fn since(now: Now) -> Self {
        Self { since_ms: now.monotonic_ms, wall_ahead_ms: wall_ahead_ms(now) }
    }

    fn at(&mut self, now: Now) -> u64 {
        if wall_ahead_ms(now).abs_diff(self.wall_ahead_ms) > ACTIVITY_SLACK_MS {
            self.since_ms = now.monotonic_ms;
        }
        self.wall_ahead_ms = wall_ahead_ms(now);
        now.monotonic_ms.saturating_sub(self.since_ms)
    }
}

/// Only compared: where the wall clock is behind, it wraps, each time alike.
fn wall_ahead_ms(now: Now) -> u64 {
    now.unix_ms.wrapping_sub(now.monotonic_ms)
}

async fn run_round(core: &Core, presence: &mut Presence) -> Result<()> {
    let now = core.now();
    // Before anything is removed: a log with a session is in use, however long ago its Hello was.
    let in_use: Vec<GroupKey> = core.hub.followed().into_iter().map(|(group, _)| group).collect();
    for groups in in_use.chunks(SURVEY_GROUPS) {
        core.store.mark_active(groups, now.unix_ms.saturating_sub(ACTIVITY_SLACK_MS), now.unix_ms).await?;
    }
    let mut policy = Policy::of(&core.limits);
    if presence.at(now) < EVICTION_UPTIME_MS {
        policy.idle_ms_max = None;
    }
    let round = collect(&*core.store, &policy, now.unix_ms, &core.metrics).await?;
    core.metrics.groups.set(gauge(round.census.groups));
    core.metrics.stored_bytes.set(gauge(round.census.bytes));
    core.look_whether_the_store_is_back().await;
    Ok(())
}

fn gauge(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use bytes::Bytes;
    use zerok_sync_protocol::channel::StaticKey;
    use zerok_sync_protocol::{AuthPublicKey, NoisePublicKey, Timeline};

    use super::*;
    use crate::admission::Admission;
    use crate::clock::{Clock, Now, SystemEntropy};
    use crate::core::CreatePolicy;
    use crate::doorbell::Silent;
    use crate::hub::Hub;
    use crate::store::{DynStore, NewLog, Sqlite};
    use crate::writer::Writer;

    const HOUR_MS: u64 = 60 * 60 * 1_000;
    const START_MS: u64 = 1_700_000_000_000;
    const DEVICE: NoisePublicKey = NoisePublicKey([1; 32]);

    #[derive(Clone, Default)]
    struct ManualClock(Arc<Mutex<(u64, u64)>>);

    impl ManualClock {
        /// So long after the start, with the wall clock put ahead by so much.
        fn set(&self, up_ms: u64, ahead_ms: u64) {
            *self.0.lock().expect("no test panics while it holds the lock") = (up_ms, ahead_ms);
        }
    }

    impl Clock for ManualClock {
        fn now(&self) -> Now {
            let (up_ms, ahead_ms) = *self.0.lock().expect("no test panics while it holds the lock");
            Now { monotonic_ms: up_ms, unix_ms: START_MS + up_ms + ahead_ms }
        }
    }

    struct Rig {
        core: Core,
        presence: Presence,
        clock: ManualClock,
        log: GroupKey,
        _dir: tempfile::TempDir,
    }

    impl Rig {
        /// A relay that evicts what was idle for two days, just started over a log as old as that.
        async fn new() -> Self {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let clock = ManualClock::default();
            let limits = RelayLimits { idle_days_max: 2, gc_interval_ms: HOUR_MS, ..RelayLimits::default() };
            let store: DynStore = Arc::new(Sqlite::open(dir.path().join("relay.db")).expect("a fresh database"));
            let metrics = Metrics::new();
            let hub = Hub::new(&limits, &metrics, Arc::new(Silent));
            let core = Core {
                writer: Writer::start(store.clone(), hub.clone(), &limits, metrics.clone()),
                store,
                hub,
                admission: Admission::new(&limits),
                limits,
                metrics,
                create: CreatePolicy::Open,
                noise_key: StaticKey::from_bytes([1; 32]),
                clock: Box::new(clock.clone()),
                entropy: Box::new(SystemEntropy),
            };
            let log = NewLog {
                auth_public: AuthPublicKey([1; 32]),
                timeline: Timeline([1; 8]),
                allow: vec![DEVICE],
                epoch_envelope: Bytes::from_static(b"sealed"),
                envelopes: Vec::new(),
            };
            let log = core.store.create(log, START_MS - 3 * DAY_MS).await.expect("stored").expect("the name is free");
            let presence = Presence::since(core.now());
            Self { core, presence, clock, log, _dir: dir }
        }

        async fn round_at(&mut self, up_ms: u64) {
            self.round_with_the_wall_clock_ahead(up_ms, 0).await;
        }

        async fn round_with_the_wall_clock_ahead(&mut self, up_ms: u64, ahead_ms: u64) {
            self.clock.set(up_ms, ahead_ms);
            run_round(&self.core, &mut self.presence).await.expect("the store works");
        }

        async fn has_the_log(&self) -> bool {
            self.core.store.state(self.log).await.expect("the store works").is_some()
        }
    }

    #[tokio::test]
    async fn an_idle_log_is_evicted_by_a_relay_that_has_run_for_a_day_and_not_before() {
        let mut rig = Rig::new().await;
        rig.round_at(EVICTION_UPTIME_MS - 1).await;
        assert!(rig.has_the_log().await, "its devices may not have had the time to come back");
        rig.round_at(EVICTION_UPTIME_MS).await;
        assert!(!rig.has_the_log().await);
        assert_eq!(rig.core.metrics.collected.get_or_create(&Garbage::IdleGroups.into()).get(), 1);
    }

    #[tokio::test]
    async fn a_log_with_an_open_session_is_in_use_until_it_has_none_for_days() {
        let mut rig = Rig::new().await;
        let presence = rig.core.hub.enter(DEVICE, 0).expect("the hub is open");
        let seat = presence.sit(rig.log);
        for hours in 0..72 {
            rig.round_at(hours * HOUR_MS).await;
        }
        drop((seat, presence));

        rig.round_at(71 * HOUR_MS + 2 * DAY_MS + HOUR_MS).await;
        assert!(rig.has_the_log().await);
        rig.round_at(71 * HOUR_MS + 2 * DAY_MS + 2 * HOUR_MS).await;
        assert!(!rig.has_the_log().await);
    }

    #[tokio::test]
    async fn a_wall_clock_that_was_put_ahead_evicts_nothing_for_a_day() {
        let mut rig = Rig::new().await;
        let day = EVICTION_UPTIME_MS;
        let presence = rig.core.hub.enter(DEVICE, 0).expect("the hub is open");
        let seat = presence.sit(rig.log);
        rig.round_at(day).await;
        drop((seat, presence));

        rig.round_with_the_wall_clock_ahead(day + HOUR_MS, 365 * DAY_MS).await;
        rig.round_with_the_wall_clock_ahead(2 * day, 365 * DAY_MS).await;
        assert!(rig.has_the_log().await, "its devices come back and say by the new clock that it is in use");
        rig.round_with_the_wall_clock_ahead(2 * day + HOUR_MS, 365 * DAY_MS).await;
        assert!(!rig.has_the_log().await);
    }

    #[tokio::test(start_paused = true)]
    async fn after_each_step_others_have_more_time_than_it_took() {
        let begun = Instant::now();
        let work = async {
            sleep(Duration::from_millis(10)).await;
            Ok(())
        };
        paced(GC_PAUSE_FACTOR, work).await.expect("it is only sleep");
        assert_eq!(begun.elapsed(), Duration::from_millis(10 + 10 * u64::from(GC_PAUSE_FACTOR)));
    }

    #[tokio::test]
    async fn a_round_says_how_much_there_is() {
        let mut rig = Rig::new().await;
        rig.round_at(0).await;
        assert_eq!((rig.core.metrics.groups.get(), rig.core.metrics.stored_bytes.get()), (1, 6));
    }
}
