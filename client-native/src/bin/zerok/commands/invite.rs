//! `zerok invite`: let another device in.

use std::io::BufRead;

use serde_json::json;
use zerok_sync::{Invitation, InviteEvent, InviteOptions};

use super::{REPORT_TIMEOUT, Session, shown};
use crate::args::{Global, Invite};
use crate::exit::Failure;
use crate::output::Output;

pub async fn run(global: &Global, options: &Invite) -> Result<(), Failure> {
    let session = Session::open(global, true).await?;
    let outcome = invite(&session, global.output, options).await;
    session.close(outcome).await
}

async fn invite(session: &Session, output: Output, options: &Invite) -> Result<(), Failure> {
    session.client.reach_relay(REPORT_TIMEOUT).await?;
    let mut invitation = session.client.invite(InviteOptions { ttl: options.ttl, base_url: None }).await?;
    loop {
        let event = tokio::select! {
            event = invitation.next() => event?,
            Ok(()) = tokio::signal::ctrl_c() => invitation_taken_back(&mut invitation).await?,
        };
        match event {
            InviteEvent::Ready { link } => {
                output.line(|| link.clone(), || json!({ "event": "ready", "link": link }))?;
                eprintln!("Give this link to the other device: zerok join LINK. Waiting for it.");
            }
            InviteEvent::JoinerWaiting { name, digits } => {
                let name = shown(&name);
                if output.json {
                    output.line(String::new, || json!({ "event": "joiner", "name": name, "digits": digits }))?;
                }
                let accept = options.yes || asked_person(&mut invitation, &name, digits).await?;
                invitation.answer(accept).await?;
            }
            InviteEvent::Accepted { device, name } => {
                let name = shown(&name);
                eprintln!("{name} is in the group now.");
                if output.json {
                    let device = device.to_string();
                    output.line(String::new, || json!({ "event": "accepted", "device": device, "name": name }))?;
                }
                return Ok(());
            }
            InviteEvent::Failed(error) => return Err(zerok_sync::ClientError::from(error).into()),
        }
    }
}

async fn invitation_taken_back(invitation: &mut Invitation) -> Result<InviteEvent, Failure> {
    invitation.take_back().await?;
    Ok(invitation.next().await?)
}

/// Asks at the terminal; fails as soon as the joiner has gone.
async fn asked_person(invitation: &mut Invitation, name: &str, digits: u8) -> Result<bool, Failure> {
    eprintln!("A device that calls itself {name:?} wants in. It shows {digits:02}.");
    eprint!("If it is yours and shows the same: give it the group's keys and data? [y/N] ");
    let (answer_tx, answer) = tokio::sync::oneshot::channel();
    // Reading a terminal cannot be cancelled: the thread ends with the process.
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        let yes = read.is_ok() && matches!(line.trim(), "y" | "Y" | "yes");
        let _ = answer_tx.send(yes);
    });
    tokio::select! {
        answer = answer => Ok(answer.unwrap_or(false)),
        event = invitation.next() => match event? {
            InviteEvent::Failed(error) => {
                eprintln!();
                Err(zerok_sync::ClientError::from(error).into())
            }
            other => Err(Failure::other(format!("the invitation went on without an answer: {other:?}"))),
        },
    }
}
