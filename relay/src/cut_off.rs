//! Ends connections that have not ended by themselves. Each is a task that holds the store, which
//! another relay may open only when the last of them has let go: whoever is in the middle of a
//! handshake, takes nothing of what it is sent or waits for a database that hangs would keep it.
//!
//! What is cut off in mid-commit is neither lost nor doubled: the writer finishes it, and the client
//! that heard no answer pushes it again.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;

/// Runs connections until it cuts them off. Clones cut off the same ones.
#[derive(Debug, Clone)]
pub(crate) struct CutOff(Arc<watch::Sender<bool>>);

impl CutOff {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Runs a connection to its end, or until it is cut off.
    pub(crate) fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.begun().run(Box::pin(connection)));
    }

    /// A connection that somebody else's task will run.
    pub(crate) fn begun(&self) -> Begun {
        Begun(self.0.subscribe())
    }

    /// Ends all that run, and whatever is begun from now on.
    pub(crate) fn cut(&self) {
        self.0.send_replace(true);
    }

    /// Waits until nothing runs any more.
    pub(crate) async fn gone(&self) {
        self.0.closed().await;
    }
}

/// A connection that is waited for, from here on.
#[derive(Debug)]
pub(crate) struct Begun(watch::Receiver<bool>);

impl Begun {
    /// Runs it to its end, or until it is cut off. Boxed: a future that is handed on is otherwise kept
    /// twice, as what was handed over and where it runs.
    pub(crate) async fn run(self, connection: Pin<Box<impl Future<Output = ()>>>) {
        let Self(mut cut) = self;
        tokio::select! {
            () = connection => {}
            // An error would mean that the relay is gone.
            _ = cut.wait_for(|&cut| cut) => {}
        }
        // Last: who waits for it finds everything else let go of.
        drop(cut);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn what_is_cut_off_has_let_go_of_what_it_held_when_it_is_gone() {
        let cut_off = CutOff::new();
        let held = Arc::new(());
        for _ in 0..3 {
            let held = held.clone();
            cut_off.spawn(async move {
                pending::<()>().await;
                drop(held);
            });
        }
        cut_off.cut();
        cut_off.gone().await;
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
