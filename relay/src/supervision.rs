//! What becomes of a task that panics. A panic is a defect of the relay, and a relay that runs on
//! without one of its loops looks alive and is not.
//!
//! A *vital* task (a writer loop, a listener) knows things that nobody else does: its panic is the
//! relay's end, so that whoever runs the process starts it again. A *chore* remembers nothing: it
//! is begun again after a pause. One client's session is neither: it ends alone.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::limits::CHORE_PAUSE;

/// Which vital task panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the relay's {task} panicked: a defect, please report it with the lines that its log has before this one; \
     nothing acknowledged is lost"
)]
pub struct Defect {
    /// Its name.
    pub task: &'static str,
}

/// Watches over tasks. Clones share what they know.
#[derive(Debug, Clone)]
pub(crate) struct Supervisor(Arc<watch::Sender<Option<Defect>>>);

impl Supervisor {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// Runs what the relay cannot do without.
    pub(crate) fn vital(&self, task: &'static str, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let supervisor = self.clone();
        tokio::spawn(async move {
            if AssertUnwindSafe(work).catch_unwind().await.is_err() {
                let defect = Defect { task };
                tracing::error!("{defect}");
                supervisor.0.send_replace(Some(defect));
            }
        })
    }

    /// Lets the vital task panic that the environment names in `ZEROK_PLANTED_PANIC`, so that a test
    /// sees what becomes of the process. Not in a release.
    #[cfg(debug_assertions)]
    pub(crate) fn panic_as_planted(&self) {
        if std::env::var_os("ZEROK_PLANTED_PANIC").is_some_and(|task| task == "listener") {
            self.vital("listener", async { panic!("planted") });
        }
    }

    /// Does what can be begun again at any time, until it comes to its end.
    pub(crate) fn chore<W>(task: &'static str, mut begin: impl FnMut() -> W + Send + 'static) -> JoinHandle<()>
    where
        W: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(async move {
            while AssertUnwindSafe(begin()).catch_unwind().await.is_err() {
                tracing::error!("the relay's {task} panicked, which is a defect: please report it; it is begun again");
                sleep(CHORE_PAUSE).await;
            }
        })
    }

    /// Waits until a vital task has panicked. Cancel-safe.
    pub(crate) async fn failed(&self) -> Defect {
        let mut failed = self.0.subscribe();
        let defect = *failed.wait_for(Option::is_some).await.expect("the sender is in self");
        defect.expect("that was waited for")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn the_panic_of_a_vital_task_is_told_with_its_name_and_another_end_is_not() {
        let supervisor = Supervisor::new();
        supervisor.vital("quiet task", async {}).await.expect("it ends");
        assert!(supervisor.failed().now_or_never().is_none());

        supervisor.vital("loop", async { panic!("planted") }).await.expect("the panic stays inside");

        assert_eq!(supervisor.failed().await, Defect { task: "loop" });
    }

    #[tokio::test]
    async fn a_chore_is_begun_again_until_it_ends() {
        let begun = Arc::new(AtomicU32::new(0));
        let count = begun.clone();
        let chore = Supervisor::chore("chore", move || {
            let begun = count.clone();
            async move { assert!(begun.fetch_add(1, Ordering::Relaxed) > 0, "planted") }
        });
        chore.await.expect("the panics stay inside");
        assert_eq!(begun.load(Ordering::Relaxed), 2);
    }
}
