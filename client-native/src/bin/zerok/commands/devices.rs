//! `zerok devices`: who is in the group.

use serde_json::json;

use super::{REPORT_TIMEOUT, Session, catch_up, shown};
use crate::args::Global;
use crate::exit::Failure;

pub async fn run(global: &Global) -> Result<(), Failure> {
    let session = Session::open(global, true).await?;
    if let Err(error) = catch_up(&session.client, REPORT_TIMEOUT).await {
        eprintln!("zerok: as of the last contact with the relay ({error})");
    }
    let members = session.client.status().borrow().members.clone();
    let printed = members.iter().try_for_each(|member| {
        let name = shown(&member.name);
        global.output.line(
            || format!("{}  {name}{}", member.device, if member.own { " (this device)" } else { "" }),
            || json!({ "device": member.device.to_string(), "name": name, "own": member.own }),
        )
    });
    session.close(printed.map_err(Failure::from)).await
}
