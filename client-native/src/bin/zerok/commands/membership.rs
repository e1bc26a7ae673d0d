//! `zerok revoke`, `rotate`, `leave`, `rename`: changing who is in the group, and its keys.

use std::time::Duration;

use serde_json::{Value, json};
use zerok_sync::{ClientError, MembershipError, Problem};

use super::{REPORT_TIMEOUT, Session, catch_up, shown};
use crate::args::{Global, Leave, Refound, Rename, Revoke, Rotate};
use crate::exit::Failure;

pub async fn revoke(global: &Global, options: &Revoke) -> Result<(), Failure> {
    let session = Session::open(global, true).await?;
    let outcome = revoke_in(&session, global, options).await;
    session.close(outcome).await
}

async fn revoke_in(session: &Session, global: &Global, options: &Revoke) -> Result<(), Failure> {
    // Whom a name means is looked up in the newest list there is.
    let _ = catch_up(&session.client, REPORT_TIMEOUT).await;
    let (device, name) = {
        let status = session.client.status();
        let status = status.borrow();
        let device = status.find_device(&options.device).map_err(ClientError::from)?;
        let named = status.members.iter().find(|member| member.device == device);
        (device, named.map_or_else(String::new, |member| shown(&member.name)))
    };
    in_time(session, options.timeout, session.client.revoke(device)).await?;
    let told = format!(
        "{name} ({device}) is removed: the relay shuts it out, and what is sent from now on it cannot read. It keeps what it had until now"
    );
    said(global, &told, json!({ "removed": device.to_string(), "name": name }))
}

pub async fn rotate(global: &Global, options: &Rotate) -> Result<(), Failure> {
    let session = Session::open(global, true).await?;
    let outcome = match in_time(&session, options.timeout, session.client.rotate()).await {
        Ok(()) => {
            let told = "the group's keys are changed: invitations that were handed out and not used are void";
            said(global, told, json!({ "rotations": session.client.status().borrow().rotations }))
        }
        Err(failure) => Err(failure),
    };
    session.close(outcome).await
}

pub async fn refound(global: &Global, options: &Refound) -> Result<(), Failure> {
    let session = Session::open(global, true).await?;
    let outcome = refound_in(&session, global, options).await;
    session.close(outcome).await
}

async fn refound_in(session: &Session, global: &Global, options: &Refound) -> Result<(), Failure> {
    // Whether the relay lets this device in is found out first.
    let _ = catch_up(&session.client, REPORT_TIMEOUT).await;
    let without = {
        let status = session.client.status();
        let status = status.borrow();
        let find = |device: &String| status.find_device(device).map_err(ClientError::from);
        options.without.iter().map(find).collect::<Result<Vec<_>, _>>()?
    };
    match session.client.refound(without).await {
        Err(error @ ClientError::Membership(MembershipError::NotNeeded)) => {
            let command = "zerok relays add URL --home-relay";
            return Err(Failure::usage(format!("{error}: {command}")));
        }
        outcome => outcome?,
    }
    catch_up(&session.client, options.timeout).await?;
    let _ = session.client.until_relays_settle(options.timeout).await;
    let rotations = session.client.status().borrow().rotations;
    let told = "the group is founded anew and has what this device had: the other devices get back in the next time they reach the relay; what was in the hands of those left out stays there";
    said(global, told, json!({ "rotations": rotations }))
}

pub async fn leave(global: &Global, options: &Leave) -> Result<(), Failure> {
    let session = Session::open(global, true).await?;
    let outcome = match in_time(&session, options.timeout, session.client.leave()).await {
        Ok(()) => {
            let told = format!(
                "this device has left the group. What it has stays readable in {}; remove that directory to forget it. Another device changes the group's keys as soon as it hears of it",
                global.home.display()
            );
            said(global, &told, json!({ "left": true }))
        }
        Err(failure) => Err(failure),
    };
    session.close(outcome).await
}

pub async fn rename(global: &Global, options: &Rename) -> Result<(), Failure> {
    let session = Session::open(global, true).await?;
    let outcome = match session.client.rename(options.name.clone()).await {
        Ok(()) => {
            // It is stored; that the others hear of it now is better, and no condition.
            let pushed = |status: &zerok_sync::Status| status.outbox_count == 0;
            let deadline = tokio::time::Instant::now() + REPORT_TIMEOUT;
            let _ = super::wait_for(&session.client, deadline, pushed).await;
            let name = shown(&options.name);
            said(global, &format!("this device is called {name} now"), json!({ "name": name }))
        }
        Err(error) => Err(error.into()),
    };
    session.close(outcome).await
}

/// What was done, to people on stderr, to programs as an object.
fn said(global: &Global, told: &str, object: Value) -> Result<(), Failure> {
    if global.output.json {
        global.output.line(String::new, || object)?;
    } else {
        eprintln!("zerok: {told}");
    }
    Ok(())
}

async fn in_time(
    session: &Session,
    timeout: Duration,
    change: impl Future<Output = Result<(), ClientError>>,
) -> Result<(), Failure> {
    let error = match tokio::time::timeout(timeout, change).await {
        Ok(Err(error @ ClientError::Relay(Problem::RelayKeyChanged { .. }))) => error,
        Ok(outcome) => return Ok(outcome?),
        Err(_) => ClientError::TimedOut(session.client.status().borrow().problem.clone()),
    };
    let told = "What was asked for is stored and is done the next time the relay is reached";
    Err(Failure::from(error).advice(told))
}
