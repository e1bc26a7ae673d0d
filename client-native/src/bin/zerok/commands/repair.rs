//! `zerok repair`: compare the relays with this device and put back what they lost.

use serde_json::{Value, json};
use zerok_sync::{ClientError, Hole, IntegrityEvent, RelayStatus};

use super::{Session, left_out};
use crate::args::{Global, Repair};
use crate::exit::{Exit, Failure};
use crate::finding::entries_are;

pub async fn run(global: &Global, options: &Repair) -> Result<(), Failure> {
    let session = Session::open(global, true).await?;
    let mut given_up = Vec::new();
    let outcome = repair(&session, global, options, &mut given_up).await;
    let settled = |finding: &IntegrityEvent| match finding {
        IntegrityEvent::Gap { sender, to_seq, .. } => {
            given_up.iter().any(|hole: &Hole| (hole.device, hole.to_seq) == (*sender, *to_seq))
        }
        _ => false,
    };
    session.close_after(outcome, settled).await
}

async fn repair(session: &Session, global: &Global, options: &Repair, given_up: &mut Vec<Hole>) -> Result<(), Failure> {
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
        relays = session.client.repair(options.timeout) => match relays {
            // Which of them it was is told below.
            Err(ClientError::TimedOut(_)) if session.client.relays().iter().any(|relay| !relay.settled) => {
                session.client.relays()
            }
            relays => relays?,
        },
        () = progress => unreachable!("it never ends"),
    };
    let lacking = !session.client.status().borrow().holes.is_empty();
    for relay in relays.iter().filter(|relay| relay.settled || global.output.json) {
        global.output.line(|| text(relay, lacking), || object(relay))?;
    }
    if options.accept_gap {
        *given_up = session.client.accept_gaps(options.timeout).await?;
        for hole in given_up.iter() {
            global.output.line(|| format!("{} given up, in the whole group", missing(hole)), || given(hole))?;
        }
    }
    let holes = session.client.status().borrow().holes.clone();
    for hole in &holes {
        eprintln!("zerok: {}", hole_told(hole));
    }
    let mut failures = Vec::new();
    if relays.iter().any(|relay| !relay.settled) {
        let failed = left_out(relays.iter().filter(|relay| !relay.settled), "repaired");
        let again = "not every relay was repaired: try again when it is there".into();
        failures.push(failed.unwrap_or_else(|| Failure::new(Exit::NoRelay, again)));
    }
    if !holes.is_empty() {
        failures.push(Failure::new(Exit::Integrity, "entries are missing that nobody has put back".into()));
    } else if relays.iter().any(|relay| relay.unhealed) {
        failures.push(Failure::new(
            Exit::Integrity,
            "a relay does not keep what was put back there: have its operator look after its database, or take another relay".into(),
        ));
    }
    failures.into_iter().reduce(Failure::and).map_or(Ok(()), Err)
}

fn missing(hole: &Hole) -> String {
    entries_are(hole.from_seq, hole.to_seq, &hole.device)
}

/// What is missing, and the way out.
pub fn hole_told(hole: &Hole) -> String {
    format!(
        "{} at no relay and on no device that is there, and what comes behind waits for that ({} so far): switch on the devices that may have it, or give it up for the whole group with 'zerok repair --accept-gap'",
        missing(hole),
        hole.waiting
    )
}

/// The same for machines.
pub fn hole_object(hole: &Hole) -> Value {
    json!({
        "device": hole.device.to_string(),
        "from_seq": hole.from_seq,
        "to_seq": hole.to_seq,
        "waiting": hole.waiting,
    })
}

fn given(hole: &Hole) -> Value {
    json!({ "given_up": { "device": hole.device.to_string(), "from_seq": hole.from_seq, "to_seq": hole.to_seq } })
}

fn object(relay: &RelayStatus) -> Value {
    json!({
        "relay": relay.address.url,
        "put_back": relay.put_back,
        "healed": relay.settled && !relay.unhealed,
        "problem": relay.problem.as_ref().map(ToString::to_string),
    })
}

/// What one relay has now; `lacking`: something is missing here, and so at every relay.
fn text(relay: &RelayStatus, lacking: bool) -> String {
    let url = &relay.address.url;
    let has = if lacking {
        format!("{url} has no less than this device: what is missing here is missing there")
    } else {
        format!("{url} has everything this device has")
    };
    match relay.put_back {
        _ if relay.unhealed => format!("{url} still lacks something, although it was put back there"),
        0 => has,
        1 => format!("{has}; 1 entry was put back"),
        count => format!("{has}; {count} entries were put back"),
    }
}
