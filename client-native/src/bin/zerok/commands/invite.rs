//! `zerok invite`: let another device in.

use serde_json::json;
use zerok_sync::{ClientError, Digits, Invitation, Invite as Shown, InviteEvent, InviteKind, InviteOptions};

use super::{REPORT_TIMEOUT, Session, shown};
use crate::args::{Global, Invite};
use crate::exit::Failure;
use crate::output::Output;
use crate::qr;
use crate::terminal::Lines;

pub async fn run(global: &Global, options: &Invite) -> Result<(), Failure> {
    let session = Session::open(global, true).await?;
    let outcome = invite(&session, global.output, options).await;
    session.close(outcome).await
}

async fn invite(session: &Session, output: Output, options: &Invite) -> Result<(), Failure> {
    session.client.reach_relay(REPORT_TIMEOUT).await?;
    let kind = if options.code { InviteKind::Code } else { InviteKind::Link { base: options.base_url.clone() } };
    let mut invitation = session.client.invite(InviteOptions { ttl: options.ttl, kind }).await?;
    loop {
        match next(&mut invitation).await? {
            InviteEvent::Ready { invite } => show(session, output, options, &invite)?,
            InviteEvent::JoinerWaiting { name, entries, members } => {
                let name = shown(&name);
                let members: Vec<String> = members.iter().map(|member| shown(member)).collect();
                if output.json {
                    let joiner = json!({ "event": "joiner", "name": name, "entries": entries, "members": members });
                    output.line(String::new, || joiner)?;
                }
                if options.yes {
                    invitation.accept_unchecked().await?;
                } else {
                    eprintln!("{name:?} wants to join the group ({}).", members.join(", "));
                    let noun = if entries == 1 { "entry" } else { "entries" };
                    eprintln!("It would get the group's keys: {entries} {noun} to begin with, and all that follow.");
                    match asked_person(&mut invitation).await? {
                        Some(digits) => invitation.answer(digits).await?,
                        None => invitation.decline().await?,
                    }
                }
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
            InviteEvent::Failed(error) => return Err(ClientError::from(error).into()),
        }
    }
}

/// The next event; Ctrl-C takes the invitation back and tells the other device.
async fn next(invitation: &mut Invitation) -> Result<InviteEvent, Failure> {
    tokio::select! {
        event = invitation.next() => return Ok(event?),
        Ok(()) = tokio::signal::ctrl_c() => {}
    }
    invitation.take_back().await?;
    Ok(invitation.next().await?)
}

/// The link or code alone on a line of stdout, what to do with it on stderr.
fn show(session: &Session, output: Output, options: &Invite, invite: &Shown) -> Result<(), Failure> {
    let text = invite.to_string();
    match invite {
        Shown::Link(_) => {
            output.line(|| text.clone(), || json!({ "event": "ready", "link": text }))?;
            if options.qr {
                eprintln!("{}", qr::for_terminal(&text).map_err(Failure::other)?);
            }
            eprintln!("Give this link to the other device: zerok join LINK. Waiting for it.");
        }
        Shown::Code(_) => {
            output.line(|| text.clone(), || json!({ "event": "ready", "code": text }))?;
            let relay = session.client.status().borrow().relay.url.clone();
            eprintln!("On the other device: zerok join {text} --relay {relay}. Waiting for it.");
        }
    }
    Ok(())
}

/// Asks for the digits; nothing typed, or the end of input, means no. Fails as soon as the joiner
/// has gone.
async fn asked_person(invitation: &mut Invitation) -> Result<Option<Digits>, Failure> {
    let mut lines = Lines::default();
    loop {
        eprint!("Type the two digits that it shows, or press Enter to turn it away: ");
        let line = tokio::select! {
            line = lines.next() => line,
            event = next(invitation) => match event? {
                InviteEvent::Failed(error) => {
                    eprintln!();
                    return Err(ClientError::from(error).into());
                }
                other => return Err(Failure::other(format!("the invitation went on without an answer: {other:?}"))),
            },
        };
        match line.as_deref().map(str::trim) {
            None | Some("") => return Ok(None),
            Some(typed) => match typed.parse() {
                Ok(digits) => return Ok(Some(digits)),
                // Not an answer, so it costs nothing.
                Err(error) => eprintln!("{error}"),
            },
        }
    }
}
