//! `zerok push`: send something to the group's other devices.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use zerok_sync::{Client, ClientError, PUSH_BYTES_MAX, Problem, Status};

use super::heard::{now_ms, standing};
use super::{Session, shown};
use crate::args::{Global, Push, Wait};
use crate::exit::{Exit, Failure, exit_of_problem};

/// How long relays besides the one that has acknowledged a push may hold the command up.
const OTHERS_TIMEOUT: Duration = Duration::from_secs(2);

pub async fn run(global: &Global, options: &Push) -> Result<(), Failure> {
    let blob = read_blob(options)?;
    // Without a need for the relay there is none to look for it: the next command sends it.
    let session = Session::open(global, options.wait != Wait::Local).await?;
    let outcome = push(&session, global, options, blob).await;
    session.close(outcome).await
}

async fn push(session: &Session, global: &Global, options: &Push, blob: Vec<u8>) -> Result<(), Failure> {
    let receipt = session.client.push(blob).await?;
    let reached = match options.wait {
        Wait::Local => "local",
        Wait::Relay => {
            in_time(session, options, receipt.at_relay()).await?.ok_or_else(|| queued(session))?;
            // One relay's word is enough; the others that are there get it now and not later.
            let _ = session.client.until_relays_settle(OTHERS_TIMEOUT).await;
            "relay"
        }
        Wait::AllDevices => {
            in_time(session, options, receipt.at_all_devices())
                .await?
                .ok_or_else(|| not_everywhere(session, receipt.number()))?;
            "all-devices"
        }
    };
    if global.output.json {
        global.output.line(String::new, || json!({ "push": receipt.number(), "reached": reached }))?;
    }
    Ok(())
}

/// Waits for a tier; nothing if it is not reached in time.
async fn in_time(
    session: &Session,
    options: &Push,
    reached: impl Future<Output = Result<(), ClientError>>,
) -> Result<Option<()>, Failure> {
    tokio::select! {
        reached = tokio::time::timeout(options.timeout, reached) => Ok(reached.ok().transpose()?),
        problem = shut_out(&session.client) => Err(refused(problem)),
        never = tell_of_waiting(&session.client, options.timeout) => match never {},
    }
}

/// The relay has it, and not every device has said that it has it.
fn not_everywhere(session: &Session, push: u64) -> Failure {
    let status = session.client.status().borrow().clone();
    if status.acked_push < push {
        return queued(session);
    }
    let lacking = status.members.iter().filter(|member| !member.own && !member.paper && member.has_push < push);
    let now_ms = now_ms();
    let lacking: Vec<String> =
        lacking.map(|member| format!("{} ({})", shown(&member.name), standing(member, now_ms))).collect();
    Failure::other(format!(
        "the relay has it; not every device has said in time that it has it, too: {}. Nothing is left to do here",
        lacking.join(", ")
    ))
}

/// Nothing is sent now, however long it is waited for.
fn refused(problem: Problem) -> Failure {
    let is_key = matches!(problem, Problem::RelayKeyChanged { .. });
    let failure = Failure::from(ClientError::Relay(problem));
    if is_key {
        failure.advice("The blob is safely queued on this device and is sent once the relay has its key again")
    } else {
        failure
    }
}

/// Waits until it turns out that this device sends nothing any more, or has nobody to send it to.
async fn shut_out(client: &Client) -> Problem {
    let mut status = client.status();
    let stops = |status: &Status| {
        matches!(status.problem, Some(Problem::Revoked | Problem::Left | Problem::NeedsApproval))
            || status.relay_keys_changed()
    };
    let out = status.wait_for(stops).await;
    match out.ok().and_then(|status| status.problem.clone()) {
        Some(problem) => problem,
        // The client has ended, which the receipt tells.
        None => std::future::pending().await,
    }
}

/// Says once why it takes long: nobody is to think that the command hangs, or that the blob is lost.
async fn tell_of_waiting(client: &Client, timeout: Duration) -> std::convert::Infallible {
    let mut status = client.status();
    let away = |status: &Status| matches!(status.problem, Some(Problem::Unreachable(_)));
    if let Ok(status) = status.wait_for(away).await
        && let Some(problem) = &status.problem
    {
        eprintln!("zerok: {problem}. It is queued on this device, and tried for {timeout:?}");
    }
    std::future::pending().await
}

/// The relay did not take it in time.
fn queued(session: &Session) -> Failure {
    let problem = session.client.status().borrow().problem.clone();
    let exit = problem.as_ref().map_or(Exit::NoRelay, exit_of_problem);
    let error = ClientError::TimedOut(problem);
    Failure::new(
        exit,
        format!("{error}. The blob is safely queued on this device and is sent the next time the relay is reached"),
    )
}

fn read_blob(options: &Push) -> Result<Vec<u8>, Failure> {
    match (&options.file, options.text.as_deref()) {
        (Some(path), _) => read_file(path),
        (None, Some("-")) => read(std::io::stdin().lock())
            .map_err(|error| Failure::usage(format!("cannot read standard input: {error}")))?,
        (None, text) => Ok(text.unwrap_or_default().into()),
    }
}

/// A file's bytes, if one push, or one snapshot, can be as much.
pub fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |error| Failure::usage(format!("cannot read {}: {error}", path.display()));
    read(std::fs::File::open(path).map_err(unreadable)?).map_err(unreadable)?
}

fn read(from: impl Read) -> std::io::Result<Result<Vec<u8>, Failure>> {
    let mut blob = Vec::new();
    // One byte more than allowed shows that it is too much, however much there is.
    from.take(PUSH_BYTES_MAX as u64 + 1).read_to_end(&mut blob)?;
    Ok(if blob.len() > PUSH_BYTES_MAX {
        let sentence = format!(
            "this is more than {PUSH_BYTES_MAX} bytes, the most that one push or snapshot holds: split it, or leave out what can be made anew"
        );
        Err(Failure::new(Exit::Limit, sentence))
    } else {
        Ok(blob)
    })
}
