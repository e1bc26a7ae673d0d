//! One file for each command, and what several of them do.

pub mod approve;
pub mod compact;
pub mod devices;
pub mod export;
pub mod findings;
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

use zerok_sync::{Client, ClientError, Connection, IntegrityEvent, OpenOptions, Problem, RelayStatus, Status};

use crate::args::Global;
use crate::exit::{Exit, Failure, exit_of_problem};
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

    /// Closes; `outcome`, and behind it what was found that an honest relay does not do.
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
        if findings.is_empty() {
            return outcome;
        }
        let found = Failure::integrity(&findings);
        Err(match outcome {
            Ok(()) => found,
            Err(failure) => failure.and(found),
        })
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

/// How long a relay may take to say who it is where another one has everything already.
const MEET_TIMEOUT: Duration = Duration::from_secs(2);

/// Waits until each relay was met, or is known not to be: what one does says nothing of another.
pub async fn meet_relays(client: &Client) {
    let met = |relay: &RelayStatus| {
        relay.problem.is_some() || matches!(relay.connection, Connection::CatchingUp | Connection::Live)
    };
    let deadline = tokio::time::Instant::now() + MEET_TIMEOUT;
    // One that takes longer is met another time.
    let _ = wait_for(client, deadline, |status| status.relays.iter().all(met)).await;
}

/// Adds to an outcome that somebody else answers in the place of one of the relays, unless it says so.
pub fn with_impostors(client: &Client, mut outcome: Result<(), Failure>) -> Result<(), Failure> {
    for problem in client.relays().iter().filter_map(|relay| relay.problem.as_ref()) {
        let sentence = problem.to_string();
        let told = matches!(&outcome, Err(failure) if failure.says(&sentence));
        if matches!(problem, Problem::RelayKeyChanged { .. }) && !told {
            let impostor = Failure::new(Exit::Integrity, sentence);
            outcome = Err(match outcome {
                Ok(()) => impostor,
                Err(failure) => failure.and(impostor),
            });
        }
    }
    outcome
}

/// Names the relays with which something was `not_done`. One that is away is said on stderr; anything
/// else with one is a failure.
pub fn left_out<'a>(relays: impl Iterator<Item = &'a RelayStatus>, not_done: &str) -> Option<Failure> {
    let mut failed: Option<Failure> = None;
    for relay in relays {
        let why = relay.problem.as_ref().map_or_else(|| "it did not answer in time".into(), ToString::to_string);
        let sentence = format!("{} was not {not_done}: {why}", relay.address.url);
        match relay.problem.as_ref().map_or(Exit::NoRelay, exit_of_problem) {
            Exit::NoRelay => eprintln!("zerok: {sentence}"),
            exit => {
                let failure = Failure::new(exit, sentence);
                failed = Some(match failed {
                    Some(others) => others.and(failure),
                    None => failure,
                });
            }
        }
    }
    failed
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
