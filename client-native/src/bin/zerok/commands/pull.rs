//! `zerok pull`: print what the other devices sent.
//!
//! An entry is marked processed once it is printed and flushed, so one that could not be written
//! comes again.

use futures_util::StreamExt;
use zerok_sync::{Client, ClientError, EntriesOptions};

use super::{Session, catch_up};
use crate::args::{Global, Pull};
use crate::exit::Failure;
use crate::output::Output;

pub async fn run(global: &Global, options: &Pull) -> Result<(), Failure> {
    let session = Session::open(global, true).await?;
    let mut printer = Printer {
        client: session.client.clone(),
        output: global.output,
        after: options.after,
        moves: options.after.is_none(),
        own: options.own,
        left: options.limit.unwrap_or(u64::MAX),
    };
    let outcome = if options.follow { printer.follow().await } else { printer.once(options).await };
    session.close(outcome).await
}

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
    async fn once(&mut self, options: &Pull) -> Result<(), Failure> {
        self.print(true).await?;
        if self.left == 0 {
            return Ok(());
        }
        let caught_up = catch_up(&self.client, options.timeout).await;
        // Also what came before the relay was lost again.
        self.print(true).await?;
        caught_up.map_err(|error| Failure::from(error).context("everything stored on this device is above"))
    }

    /// Prints until interrupted.
    async fn follow(&mut self) -> Result<(), Failure> {
        let client = self.client.clone();
        tokio::select! {
            outcome = self.print(false) => outcome,
            outcome = say_problems(&client) => outcome,
            Ok(()) = tokio::signal::ctrl_c() => Ok(()),
        }
    }

    async fn print(&mut self, stored_only: bool) -> Result<(), Failure> {
        let options = EntriesOptions { after: self.after, own: self.own, stored_only };
        let mut entries = self.client.entries_with(options);
        while self.left > 0 {
            let Some(entry) = entries.next().await else { break };
            let entry = entry?;
            self.output.entry(&entry)?;
            self.left -= 1;
            self.after = Some(entry.position);
            if self.moves {
                self.client.mark_processed(entry.position).await?;
            }
        }
        Ok(())
    }
}

/// Says once what keeps the relay away, each time that changes.
async fn say_problems(client: &Client) -> Result<(), Failure> {
    let mut status = client.status();
    let mut said = None;
    loop {
        let problem = status.borrow_and_update().problem.clone();
        if problem != said {
            if let Some(problem) = &problem {
                eprintln!("zerok: {problem}; trying again");
            }
            said = problem;
        }
        status.changed().await.map_err(|_| ClientError::Closed)?;
    }
}
