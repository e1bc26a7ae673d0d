//! What the engine wants done, in an order that a crash cannot betray.
//!
//! Invariant: an output that was caused by a state change leaves only after the batch with that
//! change is durable. Changes made while a batch is on its way to disk gather in the next one, one
//! for each row, so batches grow with the load and a slow disk costs latency, not throughput.

use std::collections::{BTreeMap, VecDeque};

use crate::io::{Batch, CommitId, Output};

/// The engine's outgoing side.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    ready: VecDeque<Output>,
    in_flight: Option<CommitId>,
    behind_in_flight: Vec<Output>,
    /// By key: a value, or nothing for a removal.
    next: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Something changed whose row is written when the next batch leaves.
    owes: bool,
    behind_next: Vec<Output>,
    commits: u64,
    /// After the last word: nothing more is taken.
    ended: bool,
}

impl Effects {
    /// Adds an insert-or-replace to the next batch.
    pub(crate) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        if !self.ended {
            self.next.insert(key, Some(value));
        }
    }

    /// Adds a removal to the next batch.
    pub(crate) fn delete(&mut self, key: Vec<u8>) {
        if !self.ended {
            self.next.insert(key, None);
        }
    }

    /// Something changed, and its row will be put before [`Self::flush`]: what is emitted from now
    /// on waits for it.
    pub(crate) fn owe(&mut self) {
        self.owes = !self.ended;
    }

    /// Emits an output once everything changed so far is durable.
    pub(crate) fn emit(&mut self, output: Output) {
        if self.ended {
        } else if self.owes || !self.next.is_empty() {
            self.behind_next.push(output);
        } else if self.in_flight.is_some() {
            self.behind_in_flight.push(output);
        } else {
            self.ready.push_back(output);
        }
    }

    /// Whether a batch may leave now: the time to put the rows that are owed.
    pub(crate) fn may_flush(&self) -> bool {
        self.in_flight.is_none() && (self.owes || !self.next.is_empty())
    }

    /// Sends the next batch on its way unless one is; call at the end of every step.
    pub(crate) fn flush(&mut self) {
        if !self.may_flush() {
            return;
        }
        self.owes = false;
        self.commits += 1;
        let id = CommitId(self.commits);
        self.in_flight = Some(id);
        self.behind_in_flight = std::mem::take(&mut self.behind_next);
        let mut batch = Batch::default();
        for (key, value) in std::mem::take(&mut self.next) {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        self.ready.push_back(Output::Commit(id, batch));
    }

    /// The driver confirmed a batch: what waited for it may go. `false` if it is not the one.
    pub(crate) fn committed(&mut self, id: CommitId) -> bool {
        if self.in_flight != Some(id) {
            return false;
        }
        self.in_flight = None;
        self.ready.extend(self.behind_in_flight.drain(..));
        true
    }

    /// Drops everything that waits, now and later, and says one last thing: memory is ahead of disk
    /// and nothing of it may get out, not even what the same step still does.
    pub(crate) fn end(&mut self, last: Output) {
        *self = Self { ready: VecDeque::from([last]), commits: self.commits, ended: true, ..Self::default() };
    }

    /// The next output to carry out.
    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::io::LinkId;

    fn transmit(text: &'static str) -> Output {
        Output::Transmit(LinkId(1), Bytes::from_static(text.as_bytes()))
    }

    fn sent(effects: &mut Effects) -> Vec<String> {
        std::iter::from_fn(|| effects.poll())
            .map(|output| match output {
                Output::Transmit(_, bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                Output::Commit(CommitId(id), _) => format!("commit {id}"),
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn without_a_change_nothing_waits() {
        let mut effects = Effects::default();
        effects.emit(transmit("a"));
        assert_eq!(sent(&mut effects), ["a"]);
    }

    #[test]
    fn an_output_waits_for_the_change_before_it() {
        let mut effects = Effects::default();
        effects.put(vec![1], vec![]);
        effects.emit(transmit("a"));
        effects.flush();
        assert_eq!(sent(&mut effects), ["commit 1"]);
        assert!(effects.committed(CommitId(1)));
        assert_eq!(sent(&mut effects), ["a"]);
    }

    #[test]
    fn outputs_keep_their_order_across_batches() {
        let mut effects = Effects::default();
        effects.put(vec![1], vec![]);
        effects.emit(transmit("a"));
        effects.flush();
        effects.emit(transmit("b"));
        effects.put(vec![2], vec![]);
        effects.emit(transmit("c"));
        effects.flush();
        assert_eq!(sent(&mut effects), ["commit 1"]);
        effects.committed(CommitId(1));
        effects.flush();
        assert_eq!(sent(&mut effects), ["a", "b", "commit 2"]);
        effects.committed(CommitId(2));
        assert_eq!(sent(&mut effects), ["c"]);
    }

    #[test]
    fn an_output_waits_for_a_row_that_is_owed() {
        let mut effects = Effects::default();
        effects.owe();
        effects.emit(transmit("a"));
        assert_eq!(sent(&mut effects), [""; 0]);
        effects.put(vec![1], vec![]);
        effects.flush();
        effects.emit(transmit("b"));
        assert_eq!(sent(&mut effects), ["commit 1"]);
        effects.committed(CommitId(1));
        assert_eq!(sent(&mut effects), ["a", "b"]);
    }

    #[test]
    fn a_row_that_changed_twice_is_written_once() {
        let mut effects = Effects::default();
        for value in [1, 2] {
            effects.put(vec![1], vec![value]);
        }
        effects.put(vec![0], vec![]);
        effects.delete(vec![0]);
        effects.flush();
        let mut expected = Batch::default();
        expected.delete(vec![0]);
        expected.put(vec![1], vec![2]);
        assert!(matches!(effects.poll(), Some(Output::Commit(_, batch)) if batch == expected));
    }

    #[test]
    fn a_confirmation_of_another_batch_releases_nothing() {
        let mut effects = Effects::default();
        effects.put(vec![1], vec![]);
        effects.emit(transmit("a"));
        effects.flush();
        assert!(!effects.committed(CommitId(9)));
        assert_eq!(sent(&mut effects), ["commit 1"]);
    }

    #[test]
    fn after_a_failed_commit_nothing_gets_out() {
        let mut effects = Effects::default();
        effects.put(vec![1], vec![]);
        effects.emit(transmit("a"));
        effects.flush();
        sent(&mut effects);
        effects.end(transmit("last"));
        effects.put(vec![2], vec![]);
        effects.emit(transmit("b"));
        effects.flush();
        assert_eq!(sent(&mut effects), ["last"]);
    }
}
