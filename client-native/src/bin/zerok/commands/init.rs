//! `zerok init`: found a group.

use serde_json::json;
use zerok_sync::{Client, FoundOptions};

use super::recovery;
use crate::args::{Global, Init};
use crate::exit::Failure;
use crate::secret;

pub async fn run(global: &Global, options: &Init) -> Result<(), Failure> {
    let mut found = FoundOptions::new(&global.home, &options.relay);
    found.relay_key = options.relay_key;
    found.token = options.token.clone().map(String::into_bytes);
    found.transport = global.transport;
    if options.passphrase {
        found.passphrase = Some(secret::chosen(secret::HOME, secret::NEW).await?);
    }
    if let Some(name) = &options.name {
        found.device_name.clone_from(name);
    }
    let client = Client::found(found).await?;
    let status = client.status().borrow().clone();
    client.close().await;

    eprintln!(
        "{} has founded a group at {}. Let another device in with: zerok invite --code",
        status.device_name, status.relay.url
    );
    recovery::nag_alone();
    if global.output.json {
        global.output.line(String::new, || {
            json!({
                "device": status.device.to_string(),
                "name": status.device_name,
                "relay": status.relay.url,
                "relay_key": status.relay.key.map(|key| key.to_string()),
            })
        })?;
    }
    Ok(())
}
