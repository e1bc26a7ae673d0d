//! Cursors and acknowledgements: S-CUR-01, S-CUR-02.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::frame::PushResult;
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{ClientFrame, RelayFrame};

use super::{PATIENCE, judge, patiently, stage, until};
use crate::load::client::{self, Client, Dial, Group};
use crate::processes::{Deployment, Store};
use crate::soak::stored::stored_logs;

/// Writers of one group; each of them reads, too.
const WRITERS: usize = 5;
/// Pushes among which a skipped one would be found.
const PUSHES: u64 = 400;

pub(super) async fn many_writers(dir: &Path) -> Result<String> {
    let mut stage = stage(dir, Store::Two, false, WRITERS).await?;
    stage.push_flat_out();
    until("many pushes", || stage.counts()[1] > PUSHES).await?;
    judge(&mut stage, &format!("{WRITERS} writers and readers on two instances")).await
}

pub(super) async fn acknowledgement_lost(dir: &Path) -> Result<String> {
    let deployment = Deployment::start(Store::Sqlite, dir, true, &[]).await?;
    let dial = Dial::WebSocket(deployment.addr());
    let group = Group::random(1, &mut ChaCha20Rng::from_seed([7; 32]));
    let (mut session, _) = patiently("a session", Client::founder(&dial, &group, None)).await??;
    let envelope = bytes::Bytes::from(client::template(1_024)?);
    let push = ClientFrame::Push { push: 1, envelopes: List::try_from(vec![envelope.clone()])?, resume: true };

    deployment.proxy()?.change(|cable| cable.hold_answers = true);
    session.queue(&push)?;
    let stored = async {
        loop {
            let logs = stored_logs(&deployment).await?;
            let row = logs.iter().flat_map(|log| &log.rows).find(|row| row.blob_id == blob_id(&envelope));
            if let Some(row) = row {
                return anyhow::Ok(row.cursor);
            }
            let heard = tokio::time::timeout(std::time::Duration::from_millis(20), session.next()).await;
            ensure!(heard.is_err(), "an answer came through a cable that holds them");
        }
    };
    let cursor = patiently("the commit", stored).await??;
    deployment.proxy()?.cut();
    deployment.proxy()?.change(|cable| cable.hold_answers = false);

    let device = group.devices.first().context("a group has a device")?;
    let (mut session, log) = patiently("a session", Client::member(&dial, &group, device, None)).await??;
    session.queue(&push)?;
    let answered = tokio::time::timeout(PATIENCE, session.next()).await.context("no answer")??;
    let RelayFrame::PushAck { results, .. } = answered else { bail!("{} instead of an answer", answered.name()) };
    ensure!(results.first() == Some(&PushResult::Stored { cursor }), "{results:?} instead of cursor {cursor}");
    let logs = stored_logs(&deployment).await?;
    let rows = logs.iter().map(|log| log.rows.len()).sum::<usize>();
    ensure!(rows == 2 && log.head == 2, "{rows} entries, head {}: the founding and one are right", log.head);
    Ok(format!("the same cursor, {cursor}, and one entry"))
}
