//! Checking once more what is stored on this device, row by row as TypeScript reads them.

use wasm_bindgen::prelude::*;
use zerok_sync_core::{Audit, Engine};

use crate::convert;
use crate::driver::read_rows;
use crate::engine::{CoreEngine, key_range};
use crate::host::{CoreAuditReport, KeyRange, Rows};

/// An audit under way.
#[wasm_bindgen]
pub struct CoreAudit {
    audit: Audit,
}

#[wasm_bindgen]
impl CoreAudit {
    /// Begins one.
    #[must_use]
    pub fn begin(engine: &CoreEngine) -> CoreAudit {
        Self { audit: engine.read(Engine::audit) }
    }

    /// The rows to hand to `examine`, in the order of their keys.
    #[must_use]
    pub fn range() -> KeyRange {
        let (from, to) = Engine::mirror_range();
        key_range(&from, &to)
    }

    /// Examines rows that were just read.
    pub fn examine(&mut self, engine: &CoreEngine, rows: &Rows) {
        engine.read(|engine| engine.renew_audit(&mut self.audit));
        read_rows(rows).into_iter().for_each(|row| self.audit.row(row));
    }

    /// What it found; this is of no further use.
    #[must_use]
    pub fn finish(self) -> CoreAuditReport {
        convert::audit_report(&self.audit.finish()).unchecked_into()
    }
}
