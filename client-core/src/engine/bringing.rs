//! Bringing along what a device had written before it joined: its own entries of the group it was in,
//! as new entries of its own, in their order, each once.
//!
//! The joiner's first commit holds a [`BringingRow`]; each entry is queued in the same batch that
//! moves it on. So whatever crashes, the next start goes on behind the last one that is queued. The
//! driver keeps the former group's rows and hands them over; they are read here and never changed.
//! What was pushed in parts is put together and queued like any push, all of it or nothing; snapshots
//! stay behind, for they speak of the log they were made of.

use bytes::Bytes;
use zerok_sync_protocol::{wire, wire_struct};

use super::Engine;
use super::batches::Commit;
use super::mirror::{self, Records};
use super::opening::Belonging;
use super::reading::is_epoch;
use super::rows::{self, OutboxRow, hot, hot_key};
use crate::content::{Content, Kind};
use crate::error::{JoinError, OpenError, PushError};
use crate::io::{Now, Row};
use crate::keys::StoreKey;
use crate::{seal, store_seal};

wire_struct! {
    /// There is something to bring along.
    pub struct BringingRow {
        /// Highest seq, in the former group, of what is queued here.
        brought_seq: u64,
    }
}

/// The group that a device was in before, as its rows are kept.
#[derive(Debug)]
pub struct FormerGroup {
    store_key: StoreKey,
    of: Belonging,
    /// Seq of the own entry that was read last; what is in the mirror may still be in the outbox.
    read_seq: u64,
    /// How many parts came right before the next own entry, and their bytes.
    parts: (u64, Vec<u8>),
}

/// An own entry, of the app or not.
struct Written {
    seq: u64,
    kind: Kind,
    body: Bytes,
}

/// An own entry of the former group's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerEntry {
    /// Its place in the chain there.
    pub seq: u64,
    /// The app's blob, whole.
    pub blob: Bytes,
}

impl FormerGroup {
    /// Of the rows between [`Engine::HOT_FROM`] and [`Engine::HOT_TO`] that were its.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn open(store_key: StoreKey, hot_rows: Vec<Row>) -> Result<Self, OpenError> {
        let of = Belonging::read(&store_key, hot_rows)?;
        Ok(Self { store_key, of, read_seq: 0, parts: (0, Vec::new()) })
    }

    /// Whether this device may go: nobody is left behind who would wait for it.
    ///
    /// # Errors
    /// [`JoinError::AlreadyInGroup`]; [`JoinError::OnlyInSnapshot`].
    pub fn check_free(&self) -> Result<(), JoinError> {
        if self.of.shrunk {
            return Err(JoinError::OnlyInSnapshot);
        }
        if self.of.left || self.of.devices < 2 { Ok(()) } else { Err(JoinError::AlreadyInGroup) }
    }

    /// Storage keys `from <= key < to` of the rows that may hold own entries, in the order in which
    /// to hand them over: what the log has, then what was still to be sent.
    #[must_use]
    pub fn ranges() -> [(Vec<u8>, Vec<u8>); 2] {
        [mirror::mirror_range(), (rows::outbox_key(0), rows::outbox_key(u64::MAX))]
    }

    /// The own entries that end in such a row and come behind `after`. Wants every row of the ranges,
    /// in their order.
    ///
    /// # Errors
    /// [`OpenError::Corrupt`].
    pub fn own_entries(&mut self, row: Row, after: u64) -> Result<Vec<FormerEntry>, OpenError> {
        let written = match rows::outbox_seq_of(&row.key) {
            Some(seq) => vec![self.queued(seq, &row)?],
            None => self.mirrored(row)?,
        };
        let entries = written.into_iter().filter_map(|written| self.whole(written));
        Ok(entries.filter(|entry| entry.seq > after).collect())
    }

    /// What the app pushed with an entry, or with those that it ends.
    fn whole(&mut self, written: Written) -> Option<FormerEntry> {
        let Written { seq, kind, body } = written;
        if seq <= self.read_seq {
            return None;
        }
        self.read_seq = seq;
        if kind == Kind::PART {
            self.parts.0 += 1;
            self.parts.1.extend_from_slice(&body);
            return None;
        }
        let (parts, bytes) = std::mem::take(&mut self.parts);
        match kind {
            Kind::APP => Some(FormerEntry { seq, blob: body }),
            Kind::COMMIT => {
                let whole = Commit { parts, bytes: bytes.len() as u64 };
                (Commit::parse(&body)? == whole).then(|| FormerEntry { seq, blob: bytes.into() })
            }
            _ => None,
        }
    }

    fn mirrored(&self, row: Row) -> Result<Vec<Written>, OpenError> {
        let mut own = Vec::new();
        for record in Records::of(row) {
            let envelope = record?.envelope;
            if !is_epoch(&envelope) {
                own.extend(Some(self.opened(&envelope)?).filter(|content| content.sender == self.of.device));
            }
        }
        Ok(own.into_iter().map(Written::of).collect())
    }

    fn queued(&self, seq: u64, row: &Row) -> Result<Written, OpenError> {
        Ok(match rows::decode(&row.value, "outbox")? {
            OutboxRow::Sealed { envelope } => Written::of(self.opened(&envelope)?),
            OutboxRow::Waiting { kind, body } => {
                let body = store_seal::open_row(&self.store_key, &row.key, &body);
                let body = body.map_err(|_| OpenError::Corrupt("outbox"))?;
                Written { seq, kind: Kind(kind), body: Bytes::copy_from_slice(&body) }
            }
        })
    }

    fn opened(&self, envelope: &[u8]) -> Result<Content, OpenError> {
        let opened = seal::open(&self.of.keyring, envelope).map_err(|_| OpenError::Corrupt("entry"))?;
        Ok(opened.into_claims())
    }
}

impl Written {
    fn of(content: Content) -> Self {
        Self { seq: content.seq, kind: content.kind, body: content.body }
    }
}

impl Engine {
    /// While something is to be brought along: the highest seq of the former group's that is queued.
    #[must_use]
    pub fn bringing(&self) -> Option<u64> {
        self.bringing.as_ref().map(|row| row.brought_seq)
    }

    /// Queues an entry of the former group, unless it is. As [`Engine::push`] otherwise.
    ///
    /// # Errors
    /// [`PushError`]; nothing was queued.
    pub fn bring(&mut self, now: Now, entry: FormerEntry) -> Result<u64, PushError> {
        if self.stopped {
            return Err(PushError::Stopped);
        }
        if self.bringing.as_ref().is_some_and(|row| row.brought_seq < entry.seq) {
            self.queue_push(entry.blob)?;
            let row = BringingRow { brought_seq: entry.seq };
            self.effects.put(hot_key(hot::BRINGING, &[]), wire::encode(&row));
            self.bringing = Some(row);
            self.step(now);
        }
        Ok(self.progress.queued_seq)
    }

    /// Nothing is left to be brought along.
    pub fn brought_all(&mut self, now: Now) {
        if self.bringing.take().is_some() {
            self.effects.delete(hot_key(hot::BRINGING, &[]));
            self.step(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::engine::rows::{LeavingRow, MemberRow, ProgressRow};
    use crate::engine::{Founding, Secrets};
    use crate::fixtures::membership;
    use crate::io::{Batch, Change, Input, Machine, Output, RelayAddress};

    const NOW: Now = Now { mono_ms: 0, wall_ms: 0 };

    type Disk = BTreeMap<Vec<u8>, Vec<u8>>;

    fn key() -> StoreKey {
        StoreKey::from_bytes([1; 32])
    }

    fn write(disk: &mut Disk, batch: Batch) {
        for change in batch.changes {
            match change {
                Change::Put(row) => disk.insert(row.key, row.value),
                Change::Delete { key } => disk.remove(&key),
            };
        }
    }

    fn rows(disk: &Disk, (from, to): (Vec<u8>, Vec<u8>)) -> Vec<Row> {
        disk.range(from..to).map(|(key, value)| Row { key: key.clone(), value: value.clone() }).collect()
    }

    fn hot_rows(disk: &Disk) -> Vec<Row> {
        rows(disk, (Engine::HOT_FROM.to_vec(), Engine::HOT_TO.to_vec()))
    }

    fn founded() -> Disk {
        let relay = RelayAddress { url: "http://127.0.0.1:8080".into(), key: None };
        let founding = Founding { relay, device_name: "first".into(), token: None };
        let mut disk = Disk::new();
        write(&mut disk, Engine::found(NOW, &Secrets { store_key: key(), rng_seed: [2; 32] }, founding));
        disk
    }

    fn open(disk: &Disk) -> Engine {
        Engine::open(NOW, Secrets { store_key: key(), rng_seed: [3; 32] }, hot_rows(disk)).expect("a sound storage")
    }

    /// Carries commits out, up to so many.
    fn carry_out(engine: &mut Engine, disk: &mut Disk, commits: &mut usize) {
        while let Some(output) = engine.poll_output() {
            if let Output::Commit(id, batch) = output {
                if *commits == 0 {
                    return;
                }
                *commits -= 1;
                write(disk, batch);
                engine.handle(NOW, Input::Committed(id));
            }
        }
    }

    /// What waits to be sent, in its order.
    fn queued(disk: &Disk) -> Vec<String> {
        let mut former = FormerGroup::open(key(), hot_rows(disk)).expect("a group");
        let [_, outbox] = FormerGroup::ranges();
        let entries = rows(disk, outbox).into_iter().flat_map(|row| former.own_entries(row, 0).expect("sound"));
        entries.map(|entry| String::from_utf8_lossy(&entry.blob).into_owned()).collect()
    }

    fn bring(disk: &mut Disk, former: &Disk, mut commits: usize) {
        let mut engine = open(disk);
        let Some(after) = engine.bringing() else { return };
        let mut group = FormerGroup::open(key(), hot_rows(former)).expect("a group");
        for row in FormerGroup::ranges().into_iter().flat_map(|range| rows(former, range)) {
            for entry in group.own_entries(row, after).expect("sound") {
                engine.bring(NOW, entry).expect("not stopped");
                carry_out(&mut engine, disk, &mut commits);
            }
        }
        engine.brought_all(NOW);
        carry_out(&mut engine, disk, &mut commits);
    }

    #[test]
    fn each_entry_is_brought_once_in_its_order_wherever_a_crash_comes() {
        let mut former = founded();
        let mut before = open(&former);
        for text in ["one", "two", "three"] {
            before.push(NOW, text.into()).expect("small");
            carry_out(&mut before, &mut former, &mut 100);
        }
        for crash_after in 0..6 {
            let mut disk = founded();
            disk.insert(hot_key(hot::BRINGING, &[]), wire::encode(&BringingRow { brought_seq: 0 }));
            bring(&mut disk, &former, crash_after);
            bring(&mut disk, &former, 100);
            assert_eq!(queued(&disk), ["one", "two", "three"], "after {crash_after} commits");
            assert_eq!(open(&disk).bringing(), None);
        }
    }

    #[test]
    fn what_was_pushed_in_parts_is_brought_whole_and_no_part_of_a_snapshot() {
        let large = |text: &str| text.repeat(400_000);
        let mut former = founded();
        let mut before = open(&former);
        before.push(NOW, "one".into()).expect("small");
        before.queue_parts(&"of a snapshot".into());
        before.queue(Kind::SNAPSHOT, Bytes::new());
        before.push(NOW, large("two").into()).expect("within the limit");
        before.push(NOW, "three".into()).expect("small");
        carry_out(&mut before, &mut former, &mut 100);
        let mut disk = founded();
        disk.insert(hot_key(hot::BRINGING, &[]), wire::encode(&BringingRow { brought_seq: 0 }));
        bring(&mut disk, &former, 1);
        bring(&mut disk, &former, 100);
        assert!(queued(&disk) == ["one".into(), large("two"), "three".into()]);
    }

    #[test]
    fn a_group_may_be_gone_from_that_nobody_else_is_in_or_that_was_left() {
        let with = |others: &[(u8, bool)], left| {
            let mut disk = founded();
            for &(byte, paper) in [(1, false)].iter().chain(others) {
                let (keys, name) = (membership(byte).keys, byte.to_string());
                let device = keys.device;
                let row = MemberRow { keys, name, certificate: None, joined_at_ms: 0, leaving: false, paper };
                disk.insert(hot_key(hot::MEMBER, &device.0), wire::encode(&row));
            }
            if left {
                disk.insert(hot_key(hot::LEAVING, &[]), wire::encode(&LeavingRow { seq: 3 }));
            }
            FormerGroup::open(key(), hot_rows(&disk)).expect("a group").check_free()
        };
        assert_eq!(with(&[], false), Ok(()));
        assert_eq!(with(&[(2, true)], false), Ok(()), "a paper waits for nobody");
        assert_eq!(with(&[(2, false)], false), Err(JoinError::AlreadyInGroup));
        assert_eq!(with(&[(2, false)], true), Ok(()));
    }

    #[test]
    fn a_group_is_not_gone_from_whose_own_entries_only_a_snapshot_stands_for() {
        let mut disk = founded();
        let progress = disk.get_mut(&hot_key(hot::PROGRESS, &[])).expect("written with the group");
        let shrunk = ProgressRow { base_position: 1, ..wire::decode(progress).expect("its own") };
        *progress = wire::encode(&shrunk);
        let group = FormerGroup::open(key(), hot_rows(&disk)).expect("a group");
        assert_eq!(group.check_free(), Err(JoinError::OnlyInSnapshot));
    }

    #[test]
    fn nothing_is_brought_to_a_group_that_was_not_joined_for_it() {
        let mut engine = open(&founded());
        let before = engine.status().stored_push;
        let entry = FormerEntry { seq: 1, blob: "stray".into() };
        assert_eq!(engine.bring(NOW, entry), Ok(before));
    }
}
