//! Telling the person of devices that have joined: whoever was let in, each device says so, the
//! first time a command that looks at the log hears of it.
//!
//! What is new is what the device had not stored when the command began, so nothing is told twice;
//! what this device was handed when it joined itself is no news.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use zerok_sync::{Client, ClientError, DeviceId, Member, Status};

use super::shown;
use crate::exit::Failure;
use crate::output::Output;

pub struct Newcomers {
    /// Who was there; nothing before this device has found itself among the members.
    known: Option<BTreeSet<DeviceId>>,
}

impl Newcomers {
    /// Takes whom the client knows now for known.
    pub fn since(client: &Client) -> Self {
        let mut newcomers = Self { known: None };
        newcomers.keep(&client.status().borrow());
        newcomers
    }

    /// Says on stderr who is new in this status; the same for programs.
    pub fn tell(&mut self, status: &Status) -> Vec<Value> {
        let is_new = |member: &&Member| self.known.as_ref().is_some_and(|known| !known.contains(&member.device));
        let told = status.members.iter().filter(is_new).map(|member| {
            let (device, name) = (member.device.to_string(), shown(&member.name));
            match member.paper {
                true => eprintln!(
                    "zerok: new recovery words take the place of any others; `zerok recovery status` says whose"
                ),
                false => eprintln!("zerok: {name} joined the group ({device})"),
            }
            json!({ "device": device, "name": name, "paper": member.paper })
        });
        let told = told.collect();
        self.keep(status);
        told
    }

    /// Tells for as long as the client is open; with `--json` each is a line of its own, too.
    pub async fn follow(mut self, client: &Client, output: Output) -> Result<(), Failure> {
        let mut status = client.status();
        loop {
            let now = status.borrow_and_update().clone();
            for mut joined in self.tell(&now).into_iter().filter(|_| output.json) {
                joined["event"] = "joined".into();
                output.line(String::new, || joined)?;
            }
            status.changed().await.map_err(|_| ClientError::Closed)?;
        }
    }

    fn keep(&mut self, status: &Status) {
        if status.members.iter().any(|member| member.own) {
            self.known = Some(status.members.iter().map(|member| member.device).collect());
        }
    }
}
