//! `zerok compact`: make a snapshot of what this device's app has made of the log.

use serde_json::json;

use super::push::read_file;
use super::{Session, catch_up};
use crate::args::{Compact, Global};
use crate::exit::Failure;

pub async fn run(global: &Global, options: &Compact) -> Result<(), Failure> {
    let state = read_file(&options.file)?;
    let session = Session::open(global, true).await?;
    let outcome = compact(&session, global, options, state).await;
    session.close(outcome).await
}

async fn compact(session: &Session, global: &Global, options: &Compact, state: Vec<u8>) -> Result<(), Failure> {
    catch_up(&session.client, options.timeout).await?;
    let snapshot = session.client.compact(state, options.timeout).await?;
    let at_relay = tokio::time::timeout(options.timeout, snapshot.at_relay()).await;
    let reached = if matches!(at_relay, Ok(Ok(()))) { "relay" } else { "local" };
    if let Ok(refused) = at_relay {
        refused?;
    }
    let status = session.client.status().borrow().clone();
    let alone = status.members.iter().filter(|member| !member.paper).count() < 2;
    let text = match reached {
        "relay" if alone => {
            "the snapshot is at the relay: devices that join begin with it. While this is the only device, the relay keeps everything"
        }
        "relay" => {
            "the snapshot is at the relay: devices that join begin with it. Once another device has read it, the relay gives up what it stands for (zerok status says where the log begins)"
        }
        _ => "the snapshot is queued on this device and is sent the next time the relay is reached",
    };
    global.output.line(|| text.into(), || json!({ "push": snapshot.number(), "reached": reached }))?;
    Ok(())
}
