//! A Postgres that is treated badly: killed, crashed, stopped, and started again on its port.

use anyhow::{Context, Result, bail};
use zerok_sync_testkit::postgres::{Cluster, Durability};

/// How often a start is tried again while processes of the killed cluster are still ending.
const STARTS: u32 = 20;

/// A cluster with full durability and one empty database.
#[derive(Debug)]
pub struct Database {
    cluster: Cluster,
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
        Ok(Self { cluster, url })
    }

    /// Where the database is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its port, which stands in the URL.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.url.rsplit_once(':').and_then(|(_, rest)| rest.split('/').next()?.parse().ok())
    }

    /// The cluster itself.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// `kill -9` of the postmaster and of every process it has: nobody tidies anything up.
    ///
    /// # Errors
    /// If it is not running.
    pub fn kill(&self) -> Result<()> {
        let pid_file = self.cluster.dir().join("data/postmaster.pid");
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
            match self.cluster.up() {
                Ok(()) => return Ok(()),
                Err(error) => refusal = Some(error),
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
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
    let killed = std::process::Command::new("kill").arg("-9").args(pids).stderr(std::process::Stdio::null()).status();
    if !killed.context("the kill command")?.success() {
        bail!("no process {pids:?} to kill");
    }
    Ok(())
}
