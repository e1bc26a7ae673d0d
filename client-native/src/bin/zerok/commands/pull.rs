//! `zerok pull`: print what the other devices sent.
//!
//! An entry is marked processed once it is printed and flushed, so one that could not be written
//! comes again. Marks go to disk, so those of a burst go together: before waiting for more, and at
//! the end, however that comes about.

use futures_util::{FutureExt, StreamExt};
use zerok_sync::{Client, ClientError, EntriesOptions, Problem, Status};

use super::findings::Findings;
use super::newcomers::Newcomers;
use super::{Session, catch_up, meet_relays, with_impostors};
use crate::args::{Global, Pull};
use crate::exit::Failure;
use crate::output::Output;

pub async fn run(global: &Global, options: &Pull) -> Result<(), Failure> {
    let session = Session::open(global, true).await?;
    let newcomers = Newcomers::since(&session.client);
    let mut printer = Printer {
        client: session.client.clone(),
        output: global.output,
        after: options.after,
        moves: options.after.is_none(),
        own: options.own,
        left: options.limit.unwrap_or(u64::MAX),
    };
    let mut findings = Findings::default();
    let outcome = if options.follow {
        printer.follow(newcomers, &mut findings).await
    } else {
        printer.once(options, newcomers).await
    };
    let printed = findings.print(&session.client, global.output);
    let outcome = with_impostors(&session.client, outcome.and(printed));
    session.close(outcome).await
}

/// Entries printed before their marks go to disk, at most: what a crash may have printed again.
const BURST_ENTRIES_MAX: u32 = 256;

struct Printer {
    client: Client,
    output: Output,
    /// Where to go on; by default at the device's own position.
    after: Option<u64>,
    /// Whether printing moves the device's own position.
    moves: bool,
    own: bool,
    /// How many may still be printed.
    left: u64,
}

impl Printer {
    /// Prints what is stored, then what the relay has.
    async fn once(&mut self, options: &Pull, mut newcomers: Newcomers) -> Result<(), Failure> {
        self.print(true).await?;
        if self.left == 0 {
            return Ok(());
        }
        let caught_up = catch_up(&self.client, options.timeout).await;
        if caught_up.is_ok() {
            meet_relays(&self.client).await;
        }
        // Also what came before the relay was lost again.
        self.print(true).await?;
        let status = self.client.status().borrow().clone();
        newcomers.tell(&status);
        caught_up.map_err(|error| Failure::from(error).context("everything stored on this device is above"))
    }

    /// Prints until it is told to stop.
    async fn follow(&mut self, newcomers: Newcomers, findings: &mut Findings) -> Result<(), Failure> {
        let (client, output) = (self.client.clone(), self.output);
        let outcome = tokio::select! {
            outcome = self.print(false) => return outcome,
            outcome = say_problems(&client) => outcome,
            outcome = newcomers.follow(&client, output) => outcome,
            outcome = findings.follow(&client, output) => outcome,
            () = told_to_stop() => return Ok(()),
        };
        // What came before that is shown first.
        self.print(true).await?;
        outcome
    }

    async fn print(&mut self, stored_only: bool) -> Result<(), Failure> {
        let options = EntriesOptions { after: self.after, own: self.own, stored_only };
        let mut entries = self.client.entries_with(options);
        let mut unmarked = 0;
        let outcome = loop {
            if self.left == 0 {
                break Ok(());
            }
            let ready = if unmarked < BURST_ENTRIES_MAX { entries.next().now_or_never() } else { None };
            let next = match ready {
                Some(next) => next,
                None => {
                    unmarked = 0;
                    self.mark().await?;
                    entries.next().await
                }
            };
            let entry = match next {
                Some(Ok(entry)) => entry,
                Some(Err(error)) => break Err(error.into()),
                None => break Ok(()),
            };
            if let Err(error) = self.output.entry(&entry) {
                break Err(error.into());
            }
            self.left -= 1;
            self.after = Some(entry.position);
            unmarked += 1;
        };
        let marked = self.mark().await;
        outcome.and(marked)
    }

    /// Everything printed so far is processed.
    async fn mark(&self) -> Result<(), Failure> {
        match self.after {
            Some(position) if self.moves => Ok(self.client.mark_processed(position).await?),
            _ => Ok(()),
        }
    }
}

/// Ctrl-C at a terminal, SIGTERM by whatever supervises it.
async fn told_to_stop() {
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            // It ends the process as it always does, then.
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    if let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            () = interrupted => {}
            _ = terminate.recv() => {}
        }
        return;
    }
    interrupted.await;
}

/// Says once what keeps the relays away, each time that changes. Ends when this device is out of the
/// group: no waiting cures that.
async fn say_problems(client: &Client) -> Result<(), Failure> {
    let mut status = client.status();
    let (mut said, mut impostors_said) = (None, Vec::new());
    loop {
        let impostors = impostors_beside(&status.borrow_and_update());
        for problem in impostors.iter().filter(|problem| !impostors_said.contains(*problem)) {
            eprintln!("zerok: {problem}");
        }
        impostors_said = impostors;
        let problem = status.borrow().problem.clone();
        if problem != said {
            if let Some(out @ (Problem::Revoked | Problem::Left)) = problem {
                return Err(ClientError::Relay(out).into());
            }
            if let Some(problem) = &problem {
                eprintln!("zerok: {problem}; trying again");
            }
            said = problem;
        }
        status.changed().await.map_err(|_| ClientError::Closed)?;
    }
}

/// Who answers with another key in the place of a relay, while there is another relay.
fn impostors_beside(status: &Status) -> Vec<Problem> {
    let problems = status.relays.iter().filter_map(|relay| relay.problem.as_ref());
    let beside = |problem: &&Problem| {
        matches!(problem, Problem::RelayKeyChanged { .. }) && status.problem.as_ref() != Some(*problem)
    };
    problems.filter(beside).cloned().collect()
}
