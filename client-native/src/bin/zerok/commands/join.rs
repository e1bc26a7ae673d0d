//! `zerok join`: become a device of somebody's group.

use std::io::IsTerminal;

use serde_json::json;
use zerok_sync::{Client, ClientError, GroupOffered, JoinEvent, JoinOptions, Joining};

use super::{shown, wait_for};
use crate::args::{Global, Join};
use crate::exit::Failure;
use crate::secret;
use crate::terminal::Lines;

/// How long the new device's first entry may take to the relay before we leave it to the next run.
const ANNOUNCE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(15);

pub async fn run(global: &Global, options: &Join) -> Result<(), Failure> {
    let mut join = JoinOptions::new(&global.home, options.invite.clone());
    join.relay.clone_from(&options.relay);
    join.relay_key = options.relay_key;
    join.transport = global.transport;
    if options.passphrase {
        join.passphrase = Some(secret::chosen(secret::HOME, secret::NEW).await?);
    }
    if let Some(name) = &options.name {
        join.device_name.clone_from(name);
    }
    let client = joined(Client::begin_join(join).await.map_err(explained)?, options).await?;

    let deadline = tokio::time::Instant::now() + ANNOUNCE_TIMEOUT;
    let announced = wait_for(&client, deadline, |status| status.caught_up && status.outbox_count == 0).await;
    let status = client.status().borrow().clone();
    client.close().await;
    if let Err(error) = announced {
        eprintln!("The other devices learn of this one at its next contact with the relay ({error}).");
    }
    eprintln!("{} has joined the group at {}.", status.device_name, status.relay.url);
    if global.output.json {
        global.output.line(String::new, || {
            json!({
                "device": status.device.to_string(),
                "name": status.device_name,
                "relay": status.relay.url,
            })
        })?;
    }
    Ok(())
}

/// A code without a relay is the one mistake that everybody makes.
fn explained(error: ClientError) -> Failure {
    let needs_relay = matches!(error, ClientError::Invite(zerok_sync::InviteError::RelayNeeded));
    let failure = Failure::from(error);
    if needs_relay { failure.context("give --relay URL, or set ZEROK_RELAY") } else { failure }
}

async fn joined(mut joining: Joining, options: &Join) -> Result<Client, Failure> {
    loop {
        match next(&mut joining).await? {
            JoinEvent::ShowDigits(digits) => {
                eprintln!("This device shows {digits}. Type these two digits at the inviting device.");
            }
            JoinEvent::Confirm(offered) => {
                let GroupOffered { inviter, relay, members } = offered;
                let members: Vec<String> = members.iter().map(|member| shown(member)).collect();
                eprintln!("{:?} lets this device into its group on {relay} ({}).", shown(&inviter), members.join(", "));
                if options.yes || !std::io::stdin().is_terminal() || asked_person(&mut joining).await? {
                    joining.confirm().await?;
                } else {
                    joining.cancel().await?;
                }
            }
            JoinEvent::Joined(client) => return Ok(client),
        }
    }
}

/// The next event; Ctrl-C gives up and tells the other device.
async fn next(joining: &mut Joining) -> Result<JoinEvent, Failure> {
    tokio::select! {
        event = joining.next() => return Ok(event?),
        Ok(()) = tokio::signal::ctrl_c() => {}
    }
    // Over already: the next event says how.
    let _ = joining.cancel().await;
    Ok(joining.next().await?)
}

/// Asks at the terminal; fails as soon as the inviting device has gone.
async fn asked_person(joining: &mut Joining) -> Result<bool, Failure> {
    let mut lines = Lines::default();
    eprint!("Join it? [y/N] ");
    tokio::select! {
        line = lines.next() => Ok(matches!(line.as_deref().map(str::trim), Some("y" | "Y" | "yes"))),
        event = next(joining) => match event {
            Err(failure) => {
                eprintln!();
                Err(failure)
            }
            Ok(_) => Err(Failure::other("joining went on without an answer".into())),
        },
    }
}
