//! Bringing along what this device had written before it joined: from the rows of the group it was in,
//! which are kept beside the others, into the outbox.
//!
//! Local, and done before a client is handed out: whoever has one that brings something along has all
//! of it queued. A crash in between is made up for at the next start.

use zerok_sync_core::{Engine, FormerEntry, FormerGroup};

use super::Client;
use crate::error::ClientError;
use crate::storage::Snapshot;

/// Rows that are read at a time.
const PAGE_BYTES: usize = 1024 * 1024;

impl Client {
    /// Queues the own entries of the former group behind this seq.
    pub(super) async fn bring_along(&self, after: u64) -> Result<(), ClientError> {
        let rows = Snapshot::of_former(&self.kept.database)?;
        let hot = rows.scan(Engine::HOT_FROM, Engine::HOT_TO, usize::MAX)?;
        let mut former = FormerGroup::open(self.kept.store_key.clone(), hot)?;
        for (mut from, to) in FormerGroup::ranges() {
            loop {
                let page = rows.scan(&from, &to, PAGE_BYTES)?;
                let Some(last) = page.last() else { break };
                // The key behind it.
                from = [last.key.as_slice(), &[0]].concat();
                let mut entries = Vec::new();
                for row in page {
                    entries.extend(former.own_entries(row, after)?);
                }
                self.queue_former(entries).await?;
            }
        }
        self.act(|engine, now| engine.brought_all(now)).await
    }

    /// Returns when they are on disk.
    async fn queue_former(&self, entries: Vec<FormerEntry>) -> Result<(), ClientError> {
        let mut number = 0;
        for entry in entries {
            number = self.ask(move |engine, now| engine.bring(now, entry)).await??;
        }
        self.watched.progress(|progress| (progress.stored >= number).then_some(())).await
    }
}
