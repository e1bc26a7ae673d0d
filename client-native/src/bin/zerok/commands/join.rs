//! `zerok join`: become a device of somebody's group.

use serde_json::json;
use zerok_sync::{Client, JoinOptions};

use super::wait_for;
use crate::args::{Global, Join};
use crate::exit::Failure;

/// How long the new device's first entry may take to the relay before we leave it to the next run.
const ANNOUNCE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(15);

pub async fn run(global: &Global, options: &Join) -> Result<(), Failure> {
    let mut join = JoinOptions::new(&global.home, options.link.clone());
    join.relay_key = options.relay_key;
    join.transport = global.transport;
    if let Some(name) = &options.name {
        join.device_name.clone_from(name);
    }
    let client = Client::join(join, |digits| {
        eprintln!("This device shows {digits:02}. Confirm it at the inviting device.");
    })
    .await?;

    let deadline = tokio::time::Instant::now() + ANNOUNCE_TIMEOUT;
    let announced = wait_for(&client, deadline, |status| status.caught_up && status.outbox_count == 0).await;
    let status = client.status().borrow().clone();
    client.close().await;
    if let Err(error) = announced {
        eprintln!("The other devices learn of this one at its next contact with the relay ({error}).");
    }
    eprintln!("{} has joined the group at {}.", status.device_name, status.relay.url);
    if global.output.json {
        global.output.line(String::new, || {
            json!({
                "device": status.device.to_string(),
                "name": status.device_name,
                "relay": status.relay.url,
            })
        })?;
    }
    Ok(())
}
