//! Two relays on one Postgres: MR-06, MR-07.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use zerok_sync::BlobId;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::frame::PushResult;
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{ClientFrame, RelayFrame};

use super::{judge, patiently, stage};
use crate::load::client::{self, Client, Dial, Group, Stamp};
use crate::processes::{Deployment, Store};
use crate::soak::stored::stored_logs;

/// Pushes of the device before it is removed; more are under way.
const BEFORE: u64 = 20;
/// Pushes that are unanswered at any time.
const UNDER_WAY: u64 = 16;

pub(super) async fn one_of_two_killed(dir: &Path) -> Result<String> {
    let mut stage = stage(dir, Store::Two, false, 4).await?;
    stage.push_at(40.0);
    patiently("everybody gets through", stage.everybody_gets_through()).await?;
    stage.deployment.relays[0].kill().await?;
    stage.look_up().await?;
    patiently("everybody gets through at the other", stage.everybody_gets_through()).await?;
    stage.deployment.relays[0].up().await?;
    stage.deployment.relays[1].kill().await?;
    stage.look_up().await?;
    patiently("everybody gets through at the first", stage.everybody_gets_through()).await?;
    stage.deployment.relays[1].up().await?;
    judge(&mut stage, "each killed once, nobody waited for it to come back").await
}

pub(super) async fn removed_while_pushing(dir: &Path) -> Result<String> {
    let deployment = Deployment::start(Store::Two, dir, false, &[]).await?;
    let at = |instance: usize| Dial::WebSocket(deployment.relays[instance].addr());
    let group = Group::random(2, &mut ChaCha20Rng::from_seed([8; 32]));
    let [stays, goes] = &group.devices[..] else { bail!("a group of two") };
    let (mut remover, _) = patiently("a session", Client::founder(&at(0), &group, None)).await??;
    let (removed, _) = patiently("a session", Client::member(&at(1), &group, goes, None)).await??;

    let (enough, mut reached) = tokio::sync::watch::channel(0);
    let pushing = tokio::spawn(push_until_refused(removed, enough));
    patiently("pushes", reached.wait_for(|acked| *acked >= BEFORE)).await??;
    remover.queue(&ClientFrame::Restrict { allow: List::try_from(vec![stays.public()])? })?;
    let frozen = loop {
        match patiently("the answer to Restrict", remover.next()).await?? {
            RelayFrame::Restricted { head } => break head,
            _ => continue,
        }
    };
    let acknowledged = patiently("the refusal on the other instance", pushing).await???;
    let beyond = acknowledged.iter().filter(|(_, cursor)| *cursor > frozen).count();
    ensure!(beyond == 0, "{beyond} pushes were acknowledged beyond the frozen head {frozen}");
    let again = patiently("a refusal", Client::member(&at(1), &group, goes, None)).await?;
    ensure!(again.is_err(), "the removed device was let in again");

    let logs = stored_logs(&deployment).await?;
    let log = logs.first().context("one log")?;
    ensure!(log.head == frozen, "the log went on to {} behind the frozen head {frozen}", log.head);
    let kept = |(id, cursor): &(BlobId, u64)| log.rows.iter().any(|row| row.cursor == *cursor && row.blob_id == *id);
    ensure!(acknowledged.iter().all(kept), "what had been acknowledged stays");
    Ok(format!("{} pushes acknowledged up to the frozen head {frozen}, none beyond", acknowledged.len()))
}

/// What was acknowledged until the relay would not go on.
async fn push_until_refused(mut session: Client, acked: tokio::sync::watch::Sender<u64>) -> Result<Vec<(BlobId, u64)>> {
    let template = client::template(512)?;
    let mut sent: Vec<BlobId> = Vec::new();
    let mut acknowledged = Vec::new();
    loop {
        while sent.len() as u64 - acknowledged.len() as u64 <= UNDER_WAY {
            let push = sent.len() as u64;
            let envelope = Stamp { run: 1, sender: 1, seq: push, intended_ns: 0 }.envelope(&template);
            sent.push(blob_id(&envelope));
            session.queue(&ClientFrame::Push { push, envelopes: List::try_from(vec![envelope])?, resume: false })?;
        }
        match session.next().await {
            Ok(RelayFrame::PushAck { push, results }) => match results.first() {
                Some(PushResult::Stored { cursor }) => {
                    acknowledged.push((sent[usize::try_from(push)?], *cursor));
                    acked.send_replace(acknowledged.len() as u64);
                }
                _ => return Ok(acknowledged),
            },
            Ok(_) => {}
            Err(_) => return Ok(acknowledged),
        }
    }
}
