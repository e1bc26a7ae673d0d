//! The backstop behind the doorbell: looks up, in one statement, every log that has a session here.
//!
//! It finds what a doorbell lost, a removal on another instance, and a database that was restored
//! under the running relay.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::core::Core;
use crate::server;
use crate::store::{GroupKey, Standing};

/// Looks at every tick of `backstop_poll_ms` and whenever it is told to, until `stop` turns true.
pub(crate) async fn poll_followed(core: Arc<Core>, now: Arc<Notify>, mut stop: watch::Receiver<bool>) {
    let mut ticks = interval(Duration::from_millis(core.limits.backstop_poll_ms));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let poll = async {
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = now.notified() => {}
            }
            look_up(&core).await;
        }
    };
    tokio::select! {
        () = poll => {}
        () = server::stopped(&mut stop) => {}
    }
}

async fn look_up(core: &Core) {
    // The heads that are known now: what the store answers later can only be higher, unless it
    // went back in time.
    let followed = core.hub.followed();
    if followed.is_empty() {
        return;
    }
    let groups: Vec<GroupKey> = followed.iter().map(|(group, _)| *group).collect();
    match core.store.standings(&groups).await {
        Ok(standings) => {
            let standings: HashMap<GroupKey, Standing> = standings.into_iter().collect();
            for (group, known) in followed {
                core.hub.looked_up(group, known, standings.get(&group));
            }
            core.look_whether_the_store_is_back().await;
        }
        Err(error) => core.writer.store_log().failed(&error),
    }
}
