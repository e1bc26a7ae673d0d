//! `zerok repair`: compare the relays with this device and put back what they lost.

use serde_json::{Value, json};
use zerok_sync::RelayStatus;

use super::Session;
use crate::args::{Global, Repair};
use crate::exit::{Exit, Failure};

pub async fn run(global: &Global, options: &Repair) -> Result<(), Failure> {
    let session = Session::open(global, true).await?;
    let outcome = repair(&session, global, options).await;
    session.close(outcome).await
}

async fn repair(session: &Session, global: &Global, options: &Repair) -> Result<(), Failure> {
    let progress = async {
        let mut status = session.client.status();
        let mut said = 0;
        while status.changed().await.is_ok() {
            let put_back = status.borrow_and_update().relays.iter().map(|relay| relay.put_back).sum();
            if put_back > said {
                eprintln!("{put_back} entries put back");
                said = put_back;
            }
        }
        std::future::pending::<()>().await;
    };
    let relays = tokio::select! {
        relays = session.client.repair(options.timeout) => relays?,
        () = progress => unreachable!("it never ends"),
    };
    for relay in &relays {
        global.output.line(|| text(relay), || object(relay))?;
    }
    match relays.iter().any(|relay| relay.unhealed) {
        true => Err(Failure::new(
            Exit::Integrity,
            "a relay does not keep what was put back there: have its operator look after its database, or take another relay".into(),
        )),
        false => Ok(()),
    }
}

fn object(relay: &RelayStatus) -> Value {
    json!({ "relay": relay.address.url, "put_back": relay.put_back, "healed": !relay.unhealed })
}

fn text(relay: &RelayStatus) -> String {
    match relay.put_back {
        _ if relay.unhealed => format!("{} still lacks something, although it was put back there", relay.address.url),
        0 => format!("{} has everything this device has", relay.address.url),
        count => format!("{} has everything this device has: {count} entries were put back", relay.address.url),
    }
}
