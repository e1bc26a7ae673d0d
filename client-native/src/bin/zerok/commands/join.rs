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
    let mut lines = Lines::default();
    join.bring_data = options.bring_data || wants_to_bring(global, options, &mut lines).await?;
    if join.bring_data {
        join.passphrase = secret::of_home(&global.home).await?;
    } else if options.passphrase {
        join.passphrase = Some(secret::chosen(secret::HOME, secret::NEW).await?);
    }
    if let Some(name) = &options.name {
        join.device_name.clone_from(name);
    }
    let bring_data = join.bring_data;
    let client = joined(Client::begin_join(join).await.map_err(explained)?, options, &mut lines).await?;

    let deadline = tokio::time::Instant::now() + ANNOUNCE_TIMEOUT;
    let announced = wait_for(&client, deadline, |status| status.caught_up && status.outbox_count == 0).await;
    let status = client.status().borrow().clone();
    let findings = client.findings();
    client.close().await;
    if let Err(error) = announced {
        eprintln!("The other devices learn of this one at its next contact with the relay ({error}).");
    }
    let along = if bring_data { ", and what it had written comes along" } else { "" };
    eprintln!("{} has joined the group at {}{along}.", status.device_name, status.relay.url);
    if global.output.json {
        global.output.line(String::new, || {
            json!({
                "device": status.device.to_string(),
                "name": status.device_name,
                "relay": status.relay.url,
            })
        })?;
    }
    // It is in, whatever it found when it read the log.
    if findings.is_empty() { Ok(()) } else { Err(Failure::integrity(&findings)) }
}

/// A code without a relay is the one mistake that everybody makes.
fn explained(error: ClientError) -> Failure {
    let needs_relay = matches!(error, ClientError::Invite(zerok_sync::InviteError::RelayNeeded));
    if needs_relay { Failure::usage(format!("{error}, with --relay URL or in ZEROK_RELAY")) } else { error.into() }
}

/// A home that holds a group is joined from only if its person wants that; asked at a terminal.
async fn wants_to_bring(global: &Global, options: &Join, lines: &mut Lines) -> Result<bool, Failure> {
    if options.passphrase || !std::io::stdin().is_terminal() || Client::is_locked(&global.home).is_err() {
        return Ok(false);
    }
    eprint!(
        "{} holds a group already. Leave it, and bring along what this device wrote? [y/N] ",
        global.home.display()
    );
    Ok(is_yes(lines.next().await))
}

fn is_yes(line: Option<String>) -> bool {
    matches!(line.as_deref().map(str::trim), Some("y" | "Y" | "yes"))
}

async fn joined(mut joining: Joining, options: &Join, lines: &mut Lines) -> Result<Client, Failure> {
    loop {
        match next(&mut joining).await? {
            JoinEvent::ShowDigits(digits) => {
                eprintln!("This device shows {digits}. Type these two digits at the inviting device.");
            }
            JoinEvent::Confirm(offered) => {
                let GroupOffered { inviter, relay, members } = offered;
                let members: Vec<String> = members.iter().map(|member| shown(member)).collect();
                eprintln!("{:?} lets this device into its group on {relay} ({}).", shown(&inviter), members.join(", "));
                if options.yes || !std::io::stdin().is_terminal() || asked_person(&mut joining, lines).await? {
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
async fn asked_person(joining: &mut Joining, lines: &mut Lines) -> Result<bool, Failure> {
    eprint!("Join it? [y/N] ");
    tokio::select! {
        line = lines.next() => Ok(is_yes(line)),
        event = next(joining) => match event {
            Err(failure) => {
                eprintln!();
                Err(failure)
            }
            Ok(_) => Err(Failure::other("joining went on without an answer".into())),
        },
    }
}
