//! One file for each command, and what several of them do.

pub mod approve;
pub mod compact;
pub mod devices;
pub mod export;
pub mod heard;
pub mod init;
pub mod invite;
pub mod join;
pub mod membership;
pub mod newcomers;
pub mod passphrase;
pub mod pull;
pub mod push;
pub mod recovery;
pub mod relays;
pub mod repair;
#[cfg(all(unix, feature = "serve"))]
pub mod serve;
pub mod status;
pub mod verify;

use std::time::Duration;

use zerok_sync::{Client, ClientError, IntegrityEvent, OpenOptions, Status};

use crate::args::Global;
use crate::exit::Failure;
use crate::secret;

/// An open client.
pub struct Session {
    pub client: Client,
}

impl Session {
    pub async fn open(global: &Global, online: bool) -> Result<Self, Failure> {
        let passphrase = secret::of_home(&global.home).await?;
        let (transport, mirror) = (global.transport, global.mirror);
        let options = OpenOptions { home: global.home.clone(), transport, online, passphrase, mirror };
        let client = Client::open(options).await?;
        Ok(Self { client })
    }

    /// Closes; `outcome`, unless something was found that an honest relay does not do.
    pub async fn close(self, outcome: Result<(), Failure>) -> Result<(), Failure> {
        self.close_after(outcome, |_| false).await
    }

    /// The same; what was found and has been `settled` by a person's word is no failure.
    pub async fn close_after(
        self,
        outcome: Result<(), Failure>,
        settled: impl Fn(&IntegrityEvent) -> bool,
    ) -> Result<(), Failure> {
        let mut findings = self.client.findings();
        findings.retain(|finding| !settled(finding));
        self.client.close().await;
        if findings.is_empty() { outcome } else { Err(Failure::integrity(&findings)) }
    }
}

/// Waits until everything the relay has is here.
pub async fn catch_up(client: &Client, timeout: Duration) -> Result<(), ClientError> {
    let deadline = tokio::time::Instant::now() + timeout;
    client.reach_relay(timeout).await?;
    wait_for(client, deadline, |status| status.caught_up).await
}

/// Waits for a state of the client; a problem on the way that may pass is waited out. Another key at
/// the relay does not pass.
pub async fn wait_for(
    client: &Client,
    deadline: tokio::time::Instant,
    mut reached: impl FnMut(&Status) -> bool,
) -> Result<(), ClientError> {
    let mut status = client.status();
    let settled = status.wait_for(|status| reached(status) || status.relay_keys_changed());
    match tokio::time::timeout_at(deadline, settled).await {
        Ok(Ok(settled)) => match &settled.problem {
            Some(problem) if !reached(&settled) => Err(ClientError::Relay(problem.clone())),
            _ => Ok(()),
        },
        Ok(Err(_)) => Err(ClientError::Closed),
        Err(_) => Err(ClientError::TimedOut(client.status().borrow().problem.clone())),
    }
}

/// How long commands that only report wait for the relay.
pub const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// A number of things, in words.
pub fn count(number: u64, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

/// Untrusted text for a terminal.
pub fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}
