//! Telling what a relay or a device did, while a command goes on: each finding once.

use zerok_sync::{Client, IntegrityEvent};

use crate::exit::Failure;
use crate::finding::{describe, object};
use crate::output::Output;

/// How many of the client's findings were told.
#[derive(Default)]
pub struct Findings {
    told: usize,
}

impl Findings {
    /// What was not told yet, for programs: a line of its own each. People are told at the end.
    pub fn print(&mut self, client: &Client, output: Output) -> Result<(), Failure> {
        let findings = client.findings();
        let new = findings.iter().skip(self.told);
        self.told = findings.len();
        new.filter(|_| output.json).try_for_each(|finding| line(finding, output))
    }

    /// Tells people, too, for as long as the client is open.
    pub async fn follow(&mut self, client: &Client, output: Output) -> Result<(), Failure> {
        loop {
            for finding in client.findings_beyond(self.told).await? {
                self.told += 1;
                eprintln!("zerok: {}", describe(&finding));
                if output.json {
                    line(&finding, output)?;
                }
            }
        }
    }
}

fn line(finding: &IntegrityEvent, output: Output) -> Result<(), Failure> {
    let mut object = object(finding);
    object["event"] = "integrity".into();
    Ok(output.line(String::new, || object)?)
}
