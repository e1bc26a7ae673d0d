//! One `zerok-relay` process, on ports that it keeps over restarts, with its log in a file.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;
use zerok_sync_testkit::port;

use super::Vitals;
use super::binary::relay_binary;

/// A relay that is not ready by then does not start.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A relay in a process of its own. Killed when dropped.
#[derive(Debug)]
pub struct RelayProcess {
    binary: PathBuf,
    dir: PathBuf,
    arguments: Vec<String>,
    listen: SocketAddr,
    iroh_port: u16,
    /// What its clients pin, once it has run.
    key: String,
    ready_after: Duration,
    running: Option<(Child, BufReader<ChildStdout>)>,
}

impl RelayProcess {
    /// Starts a relay that keeps its files (keys, log, and the database unless `store` names
    /// another) in `dir`, on free ports, and logs everything it ever logs.
    ///
    /// # Errors
    /// Why it did not become ready, with the end of its log.
    pub async fn start(dir: &Path, store: Option<&str>, more: &[&str]) -> Result<Self> {
        Self::start_binary(relay_binary()?, dir, store, &[&["--log", "trace"], more].concat()).await
    }

    /// The same with a binary of the caller's choice, which logs what it is told to.
    ///
    /// # Errors
    /// Why it did not become ready, with the end of its log.
    pub async fn start_binary(binary: &Path, dir: &Path, store: Option<&str>, more: &[&str]) -> Result<Self> {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port::free()?));
        let iroh_port = port::free()?;
        let mut arguments = vec!["--listen".into(), listen.to_string(), "--data-dir".into(), dir.display().to_string()];
        arguments.extend(["--iroh-port".into(), iroh_port.to_string()]);
        arguments.extend(store.into_iter().flat_map(|store| ["--store".to_owned(), store.to_owned()]));
        arguments.extend(more.iter().map(ToString::to_string));
        std::fs::create_dir_all(dir)?;
        let (binary, dir, key) = (binary.to_owned(), dir.to_owned(), String::new());
        let ready_after = Duration::ZERO;
        let mut relay = Self { binary, dir, arguments, listen, iroh_port, key, ready_after, running: None };
        relay.up().await?;
        Ok(relay)
    }

    /// Starts it again after [`Self::kill`], where it was.
    ///
    /// # Errors
    /// Why it did not become ready, or that it came back as another relay.
    pub async fn up(&mut self) -> Result<()> {
        let mut command = Command::new(&self.binary);
        // Neither the environment nor a file of the caller's may change what is tested.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ZEROK_RELAY_") {
                command.env_remove(name);
            }
        }
        let log = std::fs::File::options().create(true).append(true).open(self.log_path())?;
        command.args(&self.arguments).current_dir(&self.dir).kill_on_drop(true);
        let started = Instant::now();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().context("its stdout is a pipe")?);
        let mut ready = String::new();
        let _an_empty_line_says_enough = timeout(READY_WITHIN, stdout.read_line(&mut ready)).await;
        self.ready_after = started.elapsed();
        let key = ready.split_whitespace().find_map(|word| word.strip_prefix("key="));
        let Some(key) = key.filter(|_| ready.starts_with("ready ")) else {
            bail!("the relay did not become ready; the end of its log:\n{}", self.end_of_log());
        };
        if !self.key.is_empty() && self.key != key {
            bail!("the relay came back with another key");
        }
        self.key = key.to_owned();
        self.running = Some((child, stdout));
        Ok(())
    }

    /// `kill -9`; returns once the process is gone. Nothing happens to one that does not run.
    ///
    /// # Errors
    /// If the system does not let us.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some((mut child, _)) = self.running.take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// Sends it a signal: `STOP`, `CONT`, `TERM`.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn signal(&self, name: &str) -> Result<()> {
        let pid = self.pid().context("the relay does not run")?.to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status().await?;
        if sent.success() { Ok(()) } else { bail!("the relay does not take SIG{name}") }
    }

    /// Whether it has ended by itself since it was started.
    pub fn has_ended(&mut self) -> bool {
        self.running.as_mut().is_some_and(|(child, _)| !matches!(child.try_wait(), Ok(None)))
    }

    /// From the last start of the process to its `ready` line.
    #[must_use]
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// Its process, if it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().and_then(|(child, _)| child.id())
    }

    /// What it holds, if it runs.
    #[must_use]
    pub fn vitals(&self) -> Option<Vitals> {
        Vitals::of(self.pid()?)
    }

    /// Where it serves HTTP and WebSocket.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.listen
    }

    /// The ports it was told to use.
    #[must_use]
    pub fn own_ports(&self) -> [u16; 2] {
        [self.listen.port(), self.iroh_port]
    }

    /// Where its database, keys and log are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Everything it ever said on stderr.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn end_of_log(&self) -> String {
        let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}
