//! `zerok approve`: the group's only device is a copy of what it was, and goes on.

use serde_json::json;

use super::{REPORT_TIMEOUT, Session, catch_up};
use crate::args::Global;
use crate::exit::Failure;

pub async fn run(global: &Global) -> Result<(), Failure> {
    let session = Session::open(global, true).await?;
    let outcome = approve(&session, global).await;
    session.close(outcome).await
}

async fn approve(session: &Session, global: &Global) -> Result<(), Failure> {
    // What it wrote before it was copied back is in the log.
    catch_up(&session.client, REPORT_TIMEOUT).await?;
    session.client.approve().await?;
    if global.output.json {
        global.output.line(String::new, || json!({ "approved": true }))?;
    } else {
        eprintln!("zerok: this device goes on where the log ends. Let no other copy of its home run");
    }
    Ok(())
}
