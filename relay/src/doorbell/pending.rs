//! News that wait to go out: gathered, so that many commits are one notification, and bounded, so
//! that a carrier which does not come back costs nothing. What does not fit is dropped; the other
//! instances' poll makes it good.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use zerok_sync_protocol::{LogName, MailboxId};

use super::news::News;
use crate::hub::Reader;
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
    /// Whispers, in order.
    whispers: VecDeque<News>,
    /// The newest `Acked` of each device.
    acked: HashMap<(LogName, Reader), News>,
    /// Bytes of both.
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
            News::Notice { group, reader, ref frame } => {
                let bytes = frame.len();
                let older = reader.and_then(|reader| state.acked.remove(&(group, reader)));
                if let Some(News::Notice { frame, .. }) = older {
                    state.notices_bytes -= frame.len();
                }
                if state.notices_bytes + bytes <= DOORBELL_NOTICES_BYTES_MAX
                    && state.whispers.len() + state.acked.len() < DOORBELL_PENDING_MAX
                {
                    state.notices_bytes += bytes;
                    match reader {
                        Some(reader) => drop(state.acked.insert((group, reader), news)),
                        None => state.whispers.push_back(news),
                    }
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
        let State { since_ms, logs, timelines, members, mailboxes, whispers, acked, notices_bytes: _ } =
            std::mem::take(&mut *self.lock());
        let logs = logs.into_iter().map(|(group, (head, auth_gen))| News::Log { group, head, auth_gen });
        let news = members
            .into_iter()
            .map(|group| News::Members { group })
            .chain(timelines.into_iter().map(|group| News::Timeline { group }))
            .chain(logs)
            .chain(mailboxes.into_iter().map(|mailbox| News::Mailbox { mailbox }))
            .chain(acked.into_values())
            .chain(whispers)
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
    use zerok_sync_protocol::NoisePublicKey;

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
            pending.add(News::Notice { group, reader: None, frame: vec![0; 500].into() }, 0);
            let reader = Some((NoisePublicKey(group.0), true));
            pending.add(News::Notice { group, reader, frame: vec![0; 500].into() }, 0);
        }
        let (_, news) = pending.take();
        let notices = news.iter().filter(|news| matches!(news, News::Notice { .. })).count();
        assert_eq!(news.len() - notices, 2 * DOORBELL_PENDING_MAX);
        assert_eq!(notices, DOORBELL_NOTICES_BYTES_MAX / 500);
    }

    #[test]
    fn of_what_a_device_has_read_only_the_newest_word_waits_and_every_whisper_does() {
        let pending = Pending::default();
        let notice = |device: Option<u8>, byte| News::Notice {
            group: LogName([1; 32]),
            reader: device.map(|device| (NoisePublicKey([device; 32]), true)),
            frame: vec![byte; 1_000].into(),
        };
        for byte in 0..250 {
            pending.add(notice(Some(1), byte), 0);
            pending.add(notice(Some(2), byte), 0);
            pending.add(notice(None, byte), 0);
        }
        let (_, news) = pending.take();
        assert_eq!(news.len(), 252);
        assert!(news.contains(&notice(Some(1), 249)) && news.contains(&notice(Some(2), 249)));
        assert!((0..250).all(|byte| news.contains(&notice(None, byte))));
    }
}
