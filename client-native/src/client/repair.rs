//! Comparing the relays with what this device has, and putting right what they lost.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use zerok_sync_core::{Connection, Engine, Hole, IntegrityEvent, Now, Problem, RelayStatus, Status};

use super::Client;
use crate::error::ClientError;

/// How long a relay may be away, or may stay with its refusal, before it is no longer waited for.
const PATIENCE: Duration = Duration::from_secs(5);

impl Client {
    /// Reads every relay's log again from its first entry and puts back what is missing or damaged
    /// there, as far as this device has it. Returns once all of it stands at every relay that is
    /// there; a relay that is not, or to which this device may not write, is not
    /// [`RelayStatus::settled`] then. Progress is in [`RelayStatus::put_back`], what was wrong in
    /// [`Self::findings`].
    ///
    /// # Errors
    /// [`ClientError::Relay`] when no relay is reachable, [`ClientError::TimedOut`] when one did not
    /// get so far in time, [`ClientError::PushRefused`] when one does not take what it lacks.
    pub async fn repair(&self, timeout: Duration) -> Result<Vec<RelayStatus>, ClientError> {
        let repaired = |relay: &RelayStatus| relay.settled || (relay.compared && relay.problem.is_some());
        // Of what waits here a relay in good order is to have everything.
        let pushed =
            |status: &Status| status.outbox_count == 0 || status.relays.iter().all(|relay| relay.problem.is_some());
        self.until_done(timeout, Engine::repair, repaired, pushed).await
    }

    /// Reads every relay's log again from its first entry and compares it with what was read the
    /// first time and with what this device has. What is wrong is in [`Self::findings`]. A relay that
    /// is away is not [`RelayStatus::compared`] when this returns.
    ///
    /// # Errors
    /// [`ClientError::Relay`] when no relay could be compared, [`ClientError::TimedOut`] when one did
    /// not get so far in time.
    pub async fn verify_relays(&self, timeout: Duration) -> Result<Vec<RelayStatus>, ClientError> {
        self.until_done(timeout, Engine::verify_relays, |relay| relay.compared, |_| true).await
    }

    /// Gives up the entries that are missing between others of their sender ([`Hole`]), for the
    /// whole group: what waits behind them counts from then on. A person decides that, once no device
    /// is left that may still bring them; nothing does it by itself. Returns once it is so here, and
    /// which they are.
    ///
    /// # Errors
    /// [`ClientError::Membership`] before all that the relays have was read, [`ClientError::Relay`],
    /// [`ClientError::TimedOut`].
    pub async fn accept_gaps(&self, timeout: Duration) -> Result<Vec<Hole>, ClientError> {
        let accepted = async {
            let given_up = self.ask(|engine, now| engine.accept_gaps(now)).await??;
            let is_one = |hole: &Hole| given_up.iter().any(|it| (it.device, it.to_seq) == (hole.device, hole.to_seq));
            self.until(|status| !status.holes.iter().any(is_one) && status.outbox_count == 0).await?;
            Ok(given_up)
        };
        match tokio::time::timeout(timeout, accepted).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ClientError::TimedOut(self.status().borrow().problem.clone())),
        }
    }

    /// What was found out about relays and devices since this client was opened, oldest first;
    /// bounded. Stays when a repair has put it right.
    #[must_use]
    pub fn findings(&self) -> Vec<IntegrityEvent> {
        self.watched.progress.borrow().found.clone()
    }

    /// Findings beyond the first `count` of [`Self::findings`], as soon as there are any.
    ///
    /// # Errors
    /// [`ClientError::Closed`], [`ClientError::StorageFailed`].
    pub async fn findings_beyond(&self, count: usize) -> Result<Vec<IntegrityEvent>, ClientError> {
        let new = |found: &[IntegrityEvent]| found.get(count..).filter(|new| !new.is_empty()).map(<[_]>::to_vec);
        self.watched.progress(|progress| new(&progress.found)).await
    }

    /// Has the engine begin something with every relay and waits until it is `done`. A relay that is
    /// away holds up nobody, and neither does a refusal that stays one.
    async fn until_done(
        &self,
        timeout: Duration,
        begin: fn(&mut Engine, Now),
        done: fn(&RelayStatus) -> bool,
        pushed: fn(&Status) -> bool,
    ) -> Result<Vec<RelayStatus>, ClientError> {
        let finished = async {
            self.reach_relay(timeout).await?;
            self.act(begin).await?;
            let (mut changes, mut progress) = (self.status(), self.watched.progress.clone());
            let mut away = Away::default();
            let (mut stands, mut since) = (Vec::new(), Instant::now());
            loop {
                changes.borrow_and_update();
                let refused = {
                    let progress = progress.borrow_and_update();
                    progress.refused.clone().filter(|(push, _)| *push > progress.acked)
                };
                let status = self.ask(|engine, _now| engine.status()).await?;
                away.look(&status);
                let waited_for = |relay: &RelayStatus| !done(relay) && !away.is_given_up(relay);
                if !status.relays.iter().any(waited_for) && pushed(&status) {
                    return match status.problem {
                        Some(problem) if !status.relays.iter().any(|relay| relay.compared) => Err(problem.into()),
                        _ => Ok(status.relays),
                    };
                }
                let now_stands = status.relays.iter().map(|relay| (relay.compared, relay.settled, relay.put_back));
                let now_stands: Vec<_> = now_stands.collect();
                if now_stands != stands {
                    (stands, since) = (now_stands, Instant::now());
                }
                let stuck_at = refused.is_some().then_some(since + PATIENCE);
                match refused {
                    Some((_, problem)) if since.elapsed() >= PATIENCE => return Err(ClientError::PushRefused(problem)),
                    _ => {}
                }
                // A refusal changes nothing in the status.
                let changed = async {
                    tokio::select! {
                        changed = changes.changed() => changed,
                        changed = progress.changed() => changed,
                    }
                };
                match away.next_given_up().into_iter().chain(stuck_at).min() {
                    // Which of the two it was shows at the next look.
                    Some(at) => drop(tokio::time::timeout_at(at, changed).await),
                    None => changed.await.map_err(|_| self.watched.end())?,
                }
            }
        };
        match tokio::time::timeout(timeout, finished).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ClientError::TimedOut(self.status().borrow().problem.clone())),
        }
    }
}

/// Relays without a session, by address, and since when.
#[derive(Debug, Default)]
struct Away(BTreeMap<String, Instant>);

impl Away {
    fn look(&mut self, status: &Status) {
        for relay in &status.relays {
            if is_away(relay) {
                self.0.entry(relay.address.url.clone()).or_insert_with(Instant::now);
            } else {
                self.0.remove(&relay.address.url);
            }
        }
    }

    /// Whether it has had the time that a restart or another try takes.
    fn is_given_up(&self, relay: &RelayStatus) -> bool {
        self.0.get(&relay.address.url).is_some_and(|since| since.elapsed() >= PATIENCE)
    }

    /// When that is said of the next.
    fn next_given_up(&self) -> Option<Instant> {
        self.0.values().map(|since| *since + PATIENCE).filter(|at| *at > Instant::now()).min()
    }
}

fn is_away(relay: &RelayStatus) -> bool {
    match relay.connection {
        Connection::Offline | Connection::WaitingToRetry => relay.problem.is_some(),
        // On a new link of its own will it still has the problem of the last session.
        Connection::Connecting => matches!(relay.problem, Some(Problem::Unreachable(_))),
        Connection::Handshaking | Connection::CatchingUp | Connection::Live => false,
    }
}
