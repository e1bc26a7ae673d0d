//! `zerok relays`: which relays carry the group's log.

use std::time::Duration;

use serde_json::json;
use zerok_sync::{Connection, RelayOptions, RelayStatus};

use super::{REPORT_TIMEOUT, Session, catch_up};
use crate::args::{AddRelay, Global, Relays, RemoveRelay};
use crate::exit::Failure;

pub async fn run(global: &Global, what: &Relays) -> Result<(), Failure> {
    let session = Session::open(global, true).await?;
    let outcome = match what {
        Relays::Add(options) => add(&session, global, options).await,
        Relays::Remove(options) => remove(&session, global, options).await,
        Relays::List => list(&session, global).await,
    };
    session.close(outcome).await
}

async fn add(session: &Session, global: &Global, options: &AddRelay) -> Result<(), Failure> {
    let _ = catch_up(&session.client, REPORT_TIMEOUT).await;
    let relay = RelayOptions {
        url: options.url.clone(),
        key: options.relay_key,
        token: options.token.clone().map(String::into_bytes),
        home: options.home_relay,
        timeout: options.timeout,
    };
    session.client.add_relay(relay).await?;
    told(session, options.timeout).await;
    print(session, global)
}

async fn remove(session: &Session, global: &Global, options: &RemoveRelay) -> Result<(), Failure> {
    let _ = catch_up(&session.client, REPORT_TIMEOUT).await;
    session.client.remove_relay(&options.url).await?;
    told(session, REPORT_TIMEOUT).await;
    print(session, global)
}

async fn list(session: &Session, global: &Global) -> Result<(), Failure> {
    let _ = catch_up(&session.client, REPORT_TIMEOUT).await;
    let _ = session.client.until_relays_settle(REPORT_TIMEOUT).await;
    print(session, global)
}

/// The list is stored here; that the others hear of it, and that a new relay is filled, goes on by
/// itself the next time.
async fn told(session: &Session, timeout: Duration) {
    let pushed = |status: &zerok_sync::Status| status.outbox_count == 0;
    let _ = super::wait_for(&session.client, tokio::time::Instant::now() + timeout, pushed).await;
    let _ = session.client.until_relays_settle(timeout).await;
}

fn print(session: &Session, global: &Global) -> Result<(), Failure> {
    for (number, relay) in session.client.relays().iter().enumerate() {
        let home = number == 0;
        global.output.line(
            || format!("{}{}  {}", relay.address.url, if home { " (home)" } else { "" }, standing(relay)),
            || {
                json!({
                    "relay": relay.address.url,
                    "relay_key": relay.address.key.map(|key| key.to_string()),
                    "home": home,
                    "listed": relay.listed,
                    "live": relay.connection == Connection::Live,
                    "has_everything": relay.settled && !relay.unhealed,
                    "problem": relay.problem.as_ref().map(ToString::to_string),
                })
            },
        )?;
    }
    Ok(())
}

fn standing(relay: &RelayStatus) -> String {
    match &relay.problem {
        Some(problem) => problem.to_string(),
        None if relay.unhealed => "what was put back there did not stand afterwards".into(),
        None if relay.settled => "has everything this device has".into(),
        None if relay.connection == Connection::Live => "is being filled".into(),
        None => "is being reached".into(),
    }
}
