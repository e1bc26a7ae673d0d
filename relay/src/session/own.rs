//! Which cursors this session pushed: they come back as stubs, because it has the bytes.
//!
//! Bounded: runs of consecutive cursors, at most [`OWN_RUNS_MAX`] of them, pruned as they are
//! delivered. What is not remembered comes back whole, which is always valid.

use std::collections::BTreeMap;

use crate::limits::OWN_RUNS_MAX;

/// A bounded set of cursors.
#[derive(Debug, Default)]
pub(super) struct OwnCursors {
    /// First cursor of a run → last one. Runs neither touch nor overlap.
    runs: BTreeMap<u64, u64>,
}

impl OwnCursors {
    /// Remembers a cursor if there is room.
    pub(super) fn insert(&mut self, cursor: u64) {
        let before = self.runs.range(..=cursor).next_back().map(|(&first, &last)| (first, last));
        let joins_before = match before {
            Some((_, last)) if cursor <= last => return,
            Some((first, last)) if last.checked_add(1) == Some(cursor) => Some(first),
            _ => None,
        };
        let after = cursor.checked_add(1).and_then(|next| self.runs.remove(&next));
        let last = after.unwrap_or(cursor);
        match joins_before {
            Some(first) => {
                self.runs.insert(first, last);
            }
            None if self.runs.len() < OWN_RUNS_MAX => {
                self.runs.insert(cursor, last);
            }
            None => {}
        }
    }

    /// Whether the session is known to have pushed this one.
    pub(super) fn contains(&self, cursor: u64) -> bool {
        self.runs.range(..=cursor).next_back().is_some_and(|(_, &last)| cursor <= last)
    }

    /// Whether the session is known to have pushed one of `first..end`.
    pub(super) fn touches(&self, first: u64, end: u64) -> bool {
        self.runs.range(..end).next_back().is_some_and(|(_, &last)| first <= last)
    }

    /// Forgets every cursor lower than `cursor`.
    pub(super) fn forget_below(&mut self, cursor: u64) {
        let mut rest = self.runs.split_off(&cursor);
        if let Some((_, &last)) = self.runs.last_key_value()
            && last >= cursor
        {
            rest.insert(cursor, last);
        }
        self.runs = rest;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn runs_are_joined_from_both_sides() {
        let mut own = OwnCursors::default();
        for cursor in [5, 7, 6, 5, 9] {
            own.insert(cursor);
        }
        assert_eq!(own.runs, BTreeMap::from([(5, 7), (9, 9)]));
    }

    #[test]
    fn forgetting_cuts_a_run_in_two() {
        let mut own = OwnCursors::default();
        (1..=10).for_each(|cursor| own.insert(cursor));
        own.forget_below(6);
        assert!(!own.contains(5) && own.contains(6) && own.contains(10) && !own.contains(11));
    }

    #[test]
    fn it_agrees_with_a_plain_set() {
        let (mut own, mut plain) = (OwnCursors::default(), BTreeSet::new());
        let mut state = 1_u64;
        for step in 0..2_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let cursor = (state >> 33) % 200;
            if step % 50 == 49 {
                own.forget_below(cursor);
                plain.retain(|&kept| kept >= cursor);
            } else {
                own.insert(cursor);
                plain.insert(cursor);
            }
            assert!((0..=201).all(|at| own.contains(at) == plain.contains(&at)), "after step {step}");
            assert!((0..=201).all(|at| own.touches(at, at + 5) == plain.range(at..at + 5).next().is_some()));
        }
    }

    #[test]
    fn scattered_cursors_do_not_grow_it_without_bound() {
        let mut own = OwnCursors::default();
        (0..10_000).for_each(|index| own.insert(index * 2));
        assert_eq!(own.runs.len(), OWN_RUNS_MAX);
    }
}
