//! Entries on their way to JavaScript: many in one piece of memory, which `ts/packed-entries.ts`
//! takes apart.
//!
//! Handing an object over property by property costs a call and a copy of its name each time, and
//! an app that catches up reads entries by the ten thousand. So fixed fields stand at fixed places,
//! little-endian; both sides name the same places, and a test reads back every field.

use js_sys::Uint8Array;
use zerok_sync_core::Entry;

use crate::driver::js_bytes;

const OWN: u32 = 1;
const MISSING_DEPS: u32 = 2;
const SNAPSHOT: u32 = 4;
const NEWS: u32 = 8;

/// Entries one behind the other.
#[derive(Default)]
pub(crate) struct Packed(Vec<u8>);

impl Packed {
    pub(crate) fn push(&mut self, entry: &Entry) {
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        let origin = flag(entry.own, OWN) | flag(entry.news, NEWS);
        let flags = origin | flag(entry.missing_deps, MISSING_DEPS) | flag(entry.snapshot, SNAPSHOT);
        for number in [entry.position, entry.cursor, entry.sent_at_ms, entry.lamport, entry.seq] {
            // As JavaScript has it: exact up to 2^53.
            self.0.extend_from_slice(&(number as f64).to_le_bytes());
        }
        // An entry is 32 MiB at most, so both lengths fit.
        for number in [flags, entry.data.len() as u32, entry.envelope.len() as u32] {
            self.0.extend_from_slice(&number.to_le_bytes());
        }
        for bytes in [&entry.sender.0[..], &entry.blob_id.0, &entry.data, &entry.envelope] {
            self.0.extend_from_slice(bytes);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A copy that JavaScript owns.
    pub(crate) fn to_js(&self) -> Uint8Array {
        js_bytes(&self.0)
    }
}

/// One entry.
pub(crate) fn packed(entry: &Entry) -> Uint8Array {
    let mut packed = Packed::default();
    packed.push(entry);
    packed.to_js()
}
