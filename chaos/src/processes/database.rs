//! A Postgres that is treated badly: killed, crashed, stopped, and started again on its port, or
//! replaced by its standby.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use zerok_sync_testkit::postgres::{Cluster, Durability};

/// How often a start is tried again while processes of the killed cluster are still ending.
const STARTS: u32 = 20;

/// How long a standby may take to catch up with an empty database.
const IN_STEP_WITHIN: Duration = Duration::from_secs(60);

/// A cluster with full durability and one empty database.
#[derive(Debug)]
pub struct Database {
    cluster: Cluster,
    /// Has whatever the cluster has committed.
    standby: Option<Cluster>,
    /// The standby took the cluster's place.
    failed_over: AtomicBool,
    url: String,
}

impl Database {
    /// Starts it. Blocks for a second or two.
    ///
    /// # Errors
    /// What PostgreSQL said, or that it is not installed.
    pub fn start() -> Result<Self> {
        let cluster = Cluster::start(Durability::Full)?;
        let url = cluster.database();
        Ok(Self { cluster, standby: None, failed_over: AtomicBool::new(false), url })
    }

    /// Starts it with a standby that each commit waits for; the URL names both, for whichever of
    /// them can be written to. Blocks for a few seconds.
    ///
    /// # Errors
    /// What PostgreSQL said.
    pub fn with_a_standby() -> Result<Self> {
        let alone = Self::start()?;
        let standby = alone.cluster.standby()?;
        alone.psql("ALTER SYSTEM SET synchronous_standby_names = '*'")?;
        alone.psql("SELECT pg_reload_conf()")?;
        let begin = Instant::now();
        while alone.psql("SELECT sync_state FROM pg_stat_replication")? != "sync" {
            ensure!(begin.elapsed() < IN_STEP_WITHIN, "the standby does not get in step");
            std::thread::sleep(Duration::from_millis(50));
        }
        let port = alone.cluster.port();
        let both = alone.url.replace(&format!(":{port}/"), &format!(":{port},127.0.0.1:{}/", standby.port()));
        Ok(Self { standby: Some(standby), url: format!("{both}?target_session_attrs=read-write"), ..alone })
    }

    fn psql(&self, statement: &str) -> Result<String> {
        let mut psql: Command = self.cluster.client("psql");
        psql.args(["-h", "127.0.0.1", "-p", &self.cluster.port().to_string(), "-U", "zerok", "-d", "postgres"]);
        let output = psql.args(["-A", "-t", "-c", statement]).output().context("psql")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// `kill -9` of the primary for good; the standby takes its place. Blocks until it has.
    ///
    /// # Errors
    /// If there is no standby, or what PostgreSQL said.
    pub fn fail_over(&self) -> Result<()> {
        let standby = self.standby.as_ref().context("there is no standby")?;
        self.kill()?;
        standby.promote()?;
        self.failed_over.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Where the database is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The ports in the URL.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.clusters().map(Cluster::port)
    }

    /// The cluster that is written to.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        match &self.standby {
            Some(standby) if self.failed_over.load(Ordering::Relaxed) => standby,
            _ => &self.cluster,
        }
    }

    /// Every cluster there is.
    pub fn clusters(&self) -> impl Iterator<Item = &Cluster> {
        std::iter::once(&self.cluster).chain(&self.standby)
    }

    /// `kill -9` of the postmaster and of every process it has: nobody tidies anything up.
    ///
    /// # Errors
    /// If it is not running.
    pub fn kill(&self) -> Result<()> {
        let pid_file = self.cluster().dir().join("data/postmaster.pid");
        let postmaster = std::fs::read_to_string(&pid_file).context("the postmaster's pid")?;
        let postmaster = postmaster.lines().next().unwrap_or_default().to_owned();
        let children = children_of(&postmaster);
        kill_minus_nine(std::slice::from_ref(&postmaster))?;
        // One that was born meanwhile sees that its postmaster is gone, and ends by itself.
        let _some_ended_already = kill_minus_nine(&children);
        Ok(())
    }

    /// Starts it again after [`Self::kill`], [`Cluster::crash`] or [`Cluster::down`]. Blocks until
    /// it has recovered.
    ///
    /// # Errors
    /// What PostgreSQL said.
    pub fn up(&self) -> Result<()> {
        let mut refusal = None;
        for _ in 0..STARTS {
            match self.cluster().up() {
                Ok(()) => return Ok(()),
                Err(error) => refusal = Some(error),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("the database does not start again: {}", refusal.map(|error| error.to_string()).unwrap_or_default())
    }
}

fn children_of(parent: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let is_child = |pid: &str| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("PPid:").is_some_and(|ppid| ppid.trim() == parent))
    };
    let pids = processes.filter_map(|process| process.file_name().into_string().ok());
    pids.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).filter(|pid| is_child(pid)).collect()
}

fn kill_minus_nine(pids: &[String]) -> Result<()> {
    if pids.is_empty() {
        return Ok(());
    }
    let killed = Command::new("kill").arg("-9").args(pids).stderr(std::process::Stdio::null()).status();
    if !killed.context("the kill command")?.success() {
        bail!("no process {pids:?} to kill");
    }
    Ok(())
}
