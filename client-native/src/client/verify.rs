//! Verifying everything this device has stored, again.

use zerok_sync_core::io::Row;
use zerok_sync_core::{AuditReport, Engine};

use super::Client;
use crate::error::ClientError;

/// Envelopes that are examined at a time.
const PAGE_BYTES: usize = 1024 * 1024;

impl Client {
    /// Checks every stored envelope once more: that it opens, its signature, its place in its
    /// sender's chain. Reads only.
    ///
    /// # Errors
    /// [`ClientError::StorageFailed`], [`ClientError::Closed`]. What is wrong with the entries is
    /// in the report.
    pub async fn verify(&self) -> Result<AuditReport, ClientError> {
        let mut audit = self.ask(|engine, _now| engine.audit()).await?;
        let (mut from, to) = Engine::mirror_range();
        loop {
            let renewed = move |engine: &Engine, rows| {
                engine.renew_audit(&mut audit);
                (audit, rows)
            };
            let rows: Vec<Row>;
            (audit, rows) = self.read((from, to.clone()), PAGE_BYTES, renewed).await?;
            let Some(last) = rows.last() else { return Ok(audit.finish()) };
            // The key behind it.
            from = [last.key.as_slice(), &[0]].concat();
            rows.into_iter().for_each(|row| audit.row(row));
        }
    }
}
