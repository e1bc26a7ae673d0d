//! How the logs stand that this instance appended to last, so that the next append need not ask.
//!
//! What is kept is a guess and never an answer: an append that goes by it names the whole standing
//! in its one statement, which changes nothing of a log that stands otherwise. Whatever takes a
//! device off a list changes the standing in the same transaction (`restricted`, then `auth_gen`),
//! so a device that was listed under a standing is listed for as long as that holds.
//!
//! A log that other instances append to as well would be guessed wrong each time. It is guessed at
//! only once it was found as it had been left.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use zerok_sync_protocol::NoisePublicKey;

use crate::limits::RECENT_LOGS_MAX;
use crate::store::rules::{Found, GroupRow};
use crate::store::{AppendRequest, GroupKey};

/// See the module's documentation.
#[derive(Default)]
pub(super) struct RecentLogs(Mutex<Generations>);

/// Two of them, of which the older is forgotten when the younger is full.
#[derive(Default)]
struct Generations {
    young: HashMap<GroupKey, Recent>,
    old: HashMap<GroupKey, Recent>,
}

struct Recent {
    row: GroupRow,
    /// Devices that were found on the list.
    listed: BTreeSet<NoisePublicKey>,
    /// It was found as it had been left.
    settled: bool,
}

impl RecentLogs {
    /// What is known of the logs to which nothing but new envelopes within the quota are appended,
    /// by devices that are listed.
    pub(super) fn recall(&self, appends: &[AppendRequest]) -> Found {
        let mut state = self.lock();
        let mut by_log: BTreeMap<GroupKey, Vec<&AppendRequest>> = BTreeMap::new();
        for append in appends {
            by_log.entry(append.group).or_default().push(append);
        }
        let mut found = Found::default();
        for (group, appends) in by_log {
            let Some(recent) = state.get(group).filter(|recent| recent.settled && recent.has_room_for(&appends)) else {
                continue;
            };
            found.groups.insert(group, recent.row.clone());
            found.listed.extend(appends.iter().map(|append| (group, append.device)));
        }
        found
    }

    /// These logs stand so, as this instance has left them.
    pub(super) fn left(&self, rows: impl IntoIterator<Item = GroupRow>) {
        let mut state = self.lock();
        for row in rows {
            if let Some(recent) = state.get(row.group) {
                recent.row = row;
            }
        }
    }

    /// What was found under the locks of these logs: `before` the commit and as it left them.
    pub(super) fn learn(&self, before: &BTreeMap<GroupKey, GroupRow>, after: Found) {
        let mut state = self.lock();
        let Found { groups, listed, .. } = after;
        let mut listed_of: HashMap<GroupKey, BTreeSet<NoisePublicKey>> = HashMap::new();
        for (group, device) in listed {
            listed_of.entry(group).or_default().insert(device);
        }
        for (group, row) in groups {
            let known = state.remove(group);
            if row.restricted {
                continue;
            }
            let mut listed = listed_of.remove(&group).unwrap_or_default();
            let settled = known.as_ref().zip(before.get(&group)).is_some_and(|(known, row)| known.stands_as(row));
            listed.extend(known.into_iter().filter(|known| known.has_members_of(&row)).flat_map(|known| known.listed));
            state.insert(group, Recent { row, listed, settled });
        }
    }

    /// Nothing is known of these logs.
    pub(super) fn forget(&self, groups: impl IntoIterator<Item = GroupKey>) {
        let mut state = self.lock();
        for group in groups {
            state.remove(group);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        // Each change is whole before the next; and a wrong guess is found out by the database.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recent {
    /// Whether these appends are of listed devices, say the current generation, hold something, and
    /// fit into the quota if all of it is new.
    fn has_room_for(&self, appends: &[&AppendRequest]) -> bool {
        let bytes = |append: &AppendRequest| append.envelopes.iter().map(|(_, envelope)| envelope.len() as u64).sum();
        let sum = appends.iter().map(|append| bytes(append)).fold(self.row.bytes, u64::saturating_add);
        appends.iter().all(|append| {
            append.auth_gen == self.row.auth_gen
                && self.listed.contains(&append.device)
                && !append.envelopes.is_empty()
                && sum <= append.group_bytes_max
        })
    }

    fn stands_as(&self, row: &GroupRow) -> bool {
        self.has_members_of(row)
            && (self.row.head, self.row.head_blob_id, self.row.bytes) == (row.head, row.head_blob_id, row.bytes)
    }

    /// Whether nobody can have been taken off the list in between, given that neither is restricted.
    fn has_members_of(&self, row: &GroupRow) -> bool {
        (self.row.timeline, self.row.auth_gen) == (row.timeline, row.auth_gen)
    }
}

impl Generations {
    fn get(&mut self, group: GroupKey) -> Option<&mut Recent> {
        if let Some(recent) = self.old.remove(&group) {
            self.insert(group, recent);
        }
        self.young.get_mut(&group)
    }

    fn insert(&mut self, group: GroupKey, recent: Recent) {
        if self.young.len() >= RECENT_LOGS_MAX / 2 {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(group, recent);
    }

    fn remove(&mut self, group: GroupKey) -> Option<Recent> {
        self.young.remove(&group).or_else(|| self.old.remove(&group))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use zerok_sync_protocol::{AuthPublicKey, BlobId, Timeline};

    use super::*;

    const DEVICE: NoisePublicKey = NoisePublicKey([1; 32]);

    fn key(n: u64) -> GroupKey {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&n.to_le_bytes());
        GroupKey(key)
    }

    fn row(n: u64) -> GroupRow {
        GroupRow {
            group: key(n),
            auth_public: AuthPublicKey([1; 32]),
            auth_gen: 1,
            timeline: Timeline([1; 8]),
            head: 5,
            head_blob_id: BlobId([5; 32]),
            floor: 1,
            floor_blob_id: BlobId::ZERO,
            bytes: 500,
            restricted: false,
            removals: 0,
        }
    }

    fn append(n: u64) -> AppendRequest {
        AppendRequest {
            group: key(n),
            auth_gen: 1,
            device: DEVICE,
            envelopes: vec![(BlobId([6; 32]), Bytes::from_static(&[0; 100]))],
            group_bytes_max: 600,
            now_ms: 1,
        }
    }

    /// A commit that found the log so and left it so.
    fn meet(recent: &RecentLogs, row: &GroupRow) {
        let groups = BTreeMap::from([(row.group, row.clone())]);
        let after = Found { groups: groups.clone(), listed: [(row.group, DEVICE)].into(), ..Found::default() };
        recent.learn(&groups, after);
    }

    fn recalls(recent: &RecentLogs, append: AppendRequest) -> bool {
        let group = append.group;
        recent.recall(&[append]).groups.contains_key(&group)
    }

    fn settled() -> RecentLogs {
        let recent = RecentLogs::default();
        meet(&recent, &row(1));
        meet(&recent, &row(1));
        recent
    }

    #[test]
    fn a_log_is_guessed_at_once_it_was_found_as_it_had_been_left() {
        let recent = RecentLogs::default();
        meet(&recent, &row(1));
        assert!(!recalls(&recent, append(1)));
        meet(&recent, &row(1));
        assert!(recalls(&recent, append(1)));
        meet(&recent, &GroupRow { head: 6, ..row(1) });
        assert!(!recalls(&recent, append(1)), "somebody else appended");
    }

    #[test]
    fn what_needs_a_look_is_not_guessed_at() {
        let recent = settled();
        assert!(recalls(&recent, append(1)));
        for other in [
            AppendRequest { auth_gen: 2, ..append(1) },
            AppendRequest { device: NoisePublicKey([2; 32]), ..append(1) },
            AppendRequest { envelopes: Vec::new(), ..append(1) },
            AppendRequest { group_bytes_max: 599, ..append(1) },
        ] {
            assert!(!recalls(&recent, other.clone()), "{other:?}");
            assert!(recent.recall(&[append(1), other]).groups.is_empty(), "nor what is appended beside it");
        }
    }

    #[test]
    fn a_restricted_log_is_not_guessed_at_and_a_rotated_one_has_other_members() {
        let recent = settled();
        meet(&recent, &GroupRow { restricted: true, ..row(1) });
        assert!(!recalls(&recent, append(1)));

        let recent = settled();
        let groups = BTreeMap::from([(key(1), GroupRow { auth_gen: 2, ..row(1) })]);
        for _ in 0..2 {
            recent.learn(&groups, Found { groups: groups.clone(), ..Found::default() });
        }
        assert!(!recalls(&recent, AppendRequest { auth_gen: 2, ..append(1) }), "it was listed before the rotation");
    }

    #[test]
    fn however_many_logs_there_are_only_so_many_are_remembered() {
        let recent = settled();
        for n in 2..3 * RECENT_LOGS_MAX as u64 {
            meet(&recent, &row(n));
        }
        let state = recent.lock();
        assert!(state.young.len() + state.old.len() <= RECENT_LOGS_MAX);
    }
}
