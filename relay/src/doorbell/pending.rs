//! News that wait to go out: gathered, so that many commits are one notification, and bounded, so
//! that a carrier which does not come back costs nothing. What does not fit is dropped; the other
//! instances' poll makes it good.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use zerok_sync_protocol::{LogName, MailboxId};

use super::news::News;
use crate::limits::{DOORBELL_NOTICES_BYTES_MAX, DOORBELL_PENDING_MAX};

#[derive(Default)]
pub(super) struct Pending {
    state: Mutex<State>,
    some: Notify,
}

#[derive(Default)]
struct State {
    /// When the oldest of these happened, in Unix milliseconds.
    since_ms: Option<u64>,
    logs: HashMap<LogName, (u64, u64)>,
    timelines: HashSet<LogName>,
    members: HashSet<LogName>,
    mailboxes: HashSet<MailboxId>,
    notices: VecDeque<News>,
    notices_bytes: usize,
}

impl Pending {
    pub fn add(&self, news: News, now_ms: u64) {
        let mut state = self.lock();
        let state = &mut *state;
        match news {
            News::Log { group, head, auth_gen } => {
                if let Some(known) = state.logs.get_mut(&group) {
                    *known = (known.0.max(head), known.1.max(auth_gen));
                } else if state.logs.len() < DOORBELL_PENDING_MAX {
                    state.logs.insert(group, (head, auth_gen));
                }
            }
            News::Timeline { group } => insert(&mut state.timelines, group),
            News::Members { group } => insert(&mut state.members, group),
            News::Mailbox { mailbox } => insert(&mut state.mailboxes, mailbox),
            News::Notice { ref frame, .. } => {
                let bytes = frame.len();
                if state.notices_bytes + bytes <= DOORBELL_NOTICES_BYTES_MAX
                    && state.notices.len() < DOORBELL_PENDING_MAX
                {
                    state.notices_bytes += bytes;
                    state.notices.push_back(news);
                }
            }
        }
        if state.since_ms.is_none() {
            state.since_ms = Some(now_ms);
            self.some.notify_one();
        }
    }

    /// Waits until there is something. Cancel-safe.
    pub async fn some(&self) {
        while self.lock().since_ms.is_none() {
            self.some.notified().await;
        }
    }

    /// Everything, and since when it waits.
    pub fn take(&self) -> (u64, Vec<News>) {
        let State { since_ms, logs, timelines, members, mailboxes, notices, .. } = std::mem::take(&mut *self.lock());
        let logs = logs.into_iter().map(|(group, (head, auth_gen))| News::Log { group, head, auth_gen });
        let news = members
            .into_iter()
            .map(|group| News::Members { group })
            .chain(timelines.into_iter().map(|group| News::Timeline { group }))
            .chain(logs)
            .chain(mailboxes.into_iter().map(|mailbox| News::Mailbox { mailbox }))
            .chain(notices)
            .collect();
        (since_ms.unwrap_or_default(), news)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock; if it ever does, these are still hints.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn insert<T: Eq + std::hash::Hash>(set: &mut HashSet<T>, item: T) {
    if set.len() < DOORBELL_PENDING_MAX {
        set.insert(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_commits_are_one_piece_of_news_with_the_highest_head() {
        let pending = Pending::default();
        let group = LogName([1; 32]);
        for (now_ms, head) in [(10, 4), (20, 6), (30, 5)] {
            pending.add(News::Log { group, head, auth_gen: 0 }, now_ms);
        }
        assert_eq!(pending.take(), (10, vec![News::Log { group, head: 6, auth_gen: 0 }]));
        assert_eq!(pending.take().1, []);
    }

    #[test]
    fn what_nobody_takes_has_a_bound() {
        let pending = Pending::default();
        for index in 0..2 * DOORBELL_PENDING_MAX as u64 {
            let mut group = LogName([0; 32]);
            group.0[..8].copy_from_slice(&index.to_le_bytes());
            pending.add(News::Log { group, head: 1, auth_gen: 0 }, 0);
            pending.add(News::Members { group }, 0);
            pending.add(News::Notice { group, frame: vec![0; 1_000].into() }, 0);
        }
        let (_, news) = pending.take();
        let notices = news.iter().filter(|news| matches!(news, News::Notice { .. })).count();
        assert_eq!(news.len() - notices, 2 * DOORBELL_PENDING_MAX);
        assert_eq!(notices, DOORBELL_NOTICES_BYTES_MAX / 1_000);
    }
}
