//! The loop keeps the contract of `zerok_sync_core::io`, whatever machine it drives.

use std::net::TcpListener;

use tempfile::TempDir;
use zerok_sync_core::io::{Batch, RelayAddress};

use super::*;
use crate::link::Transport;

/// Does what it is told, and tells what happened to it.
#[derive(Default)]
struct Puppet {
    outputs: VecDeque<Output>,
    happened: Vec<String>,
    deadline_ms: Option<u64>,
    /// Output once so many things have happened.
    later: VecDeque<(usize, Output)>,
}

impl Machine for Puppet {
    fn handle(&mut self, _now: Now, input: Input) {
        self.happened.push(match input {
            Input::Tick => {
                self.deadline_ms = None;
                "tick".into()
            }
            Input::LinkDown(LinkId(id), LinkDownReason::Unreachable(_)) => format!("link {id} unreachable"),
            Input::Committed(CommitId(id)) => format!("committed {id}"),
            Input::CommitFailed(CommitId(id), _) => format!("commit {id} failed"),
            Input::Scanned(ScanId(id), rows) => format!("scanned {id}: {} rows", rows.len()),
            other => format!("{other:?}"),
        });
        while self.later.front().is_some_and(|(count, _)| *count <= self.happened.len()) {
            self.outputs.extend(self.later.pop_front().map(|(_, output)| output));
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn next_deadline_ms(&self) -> Option<u64> {
        self.deadline_ms
    }
}

fn put(key: &[u8]) -> Batch {
    let mut batch = Batch::default();
    batch.put(key.to_vec(), b"value".to_vec());
    batch
}

fn scan(id: u64) -> Output {
    Output::Scan { id: ScanId(id), from: Vec::new(), to: vec![0xff], bytes_max: 1000 }
}

/// Ends the loop: the driver passes the event on and is told to stop.
fn end() -> Output {
    Output::Event(Event::Joined)
}

/// Runs a puppet until it says [`end`]; what happened to it until then, and its home.
async fn run(puppet: Puppet) -> (Vec<String>, TempDir) {
    let home = TempDir::new().expect("temp dir");
    let storage = Storage::create(home.path(), None).await.expect("creates").storage;
    let mut happened = Vec::new();
    let on_event = |puppet: &Puppet, _: Event| {
        happened.clone_from(&puppet.happened);
        ControlFlow::Break(())
    };
    let dialer = Arc::new(Dialer::new(Transport::WebSocket));
    let (_commands, queue) = mpsc::channel(1);
    let driver = Driver::new(puppet, storage, dialer, Clock::start(), on_event);
    driver.run(queue, Box::new(|_, _| {})).await.close().await;
    (happened, home)
}

/// An address at which nobody listens.
fn nowhere() -> RelayAddress {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    RelayAddress { url: format!("http://{}", listener.local_addr().expect("bound")), key: None }
}

#[tokio::test]
async fn a_batch_is_on_disk_when_it_is_confirmed_and_answers_keep_their_order() {
    let puppet = Puppet {
        outputs: [Output::Commit(CommitId(1), put(b"a")), scan(1)].into(),
        later: [(2, Output::Commit(CommitId(2), put(b"b"))), (3, scan(2)), (4, end())].into(),
        ..Puppet::default()
    };
    let (happened, home) = run(puppet).await;
    assert_eq!(happened, ["committed 1", "scanned 1: 1 rows", "committed 2", "scanned 2: 2 rows"]);

    let storage = Storage::open(home.path(), None).await.expect("opens").storage;
    let rows = storage.scan(Vec::new(), vec![0xff], 1000).await.await.expect("runs").expect("scans");
    assert_eq!(rows.len(), 2);
}

#[tokio::test]
async fn a_deadline_that_passes_is_a_tick() {
    let puppet = Puppet { deadline_ms: Some(20), later: [(1, end())].into(), ..Puppet::default() };
    assert_eq!(run(puppet).await.0, ["tick"]);
}

#[tokio::test]
async fn a_link_that_cannot_be_had_is_said_once() {
    let puppet = Puppet {
        outputs: [Output::Connect(LinkId(1), nowhere())].into(),
        later: [(1, Output::Connect(LinkId(2), nowhere())), (2, end())].into(),
        ..Puppet::default()
    };
    assert_eq!(run(puppet).await.0, ["link 1 unreachable", "link 2 unreachable"]);
}

#[tokio::test]
async fn a_link_that_was_given_up_is_not_heard_of_again() {
    let puppet = Puppet {
        outputs: [
            Output::Connect(LinkId(1), nowhere()),
            Output::Disconnect(LinkId(1)),
            Output::Connect(LinkId(2), nowhere()),
        ]
        .into(),
        later: [(1, end())].into(),
        ..Puppet::default()
    };
    assert_eq!(run(puppet).await.0, ["link 2 unreachable"]);
}

#[tokio::test]
async fn a_link_nobody_drains_is_cut_off_before_it_costs_memory() {
    // Accepts, and never says a word: the link does not come up.
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let relay = RelayAddress { url: format!("http://{}", listener.local_addr().expect("bound")), key: None };
    let mut outputs = VecDeque::from([Output::Connect(LinkId(1), relay)]);
    outputs.extend((0..10_000).map(|_| Output::Transmit(LinkId(1), bytes::Bytes::new())));
    let puppet = Puppet { outputs, later: [(1, end())].into(), ..Puppet::default() };
    assert_eq!(run(puppet).await.0, ["LinkDown(LinkId(1), Closed)"]);
}

#[tokio::test]
async fn a_driver_whose_users_have_gone_stops_with_everything_stored() {
    let home = TempDir::new().expect("temp dir");
    let storage = Storage::create(home.path(), None).await.expect("creates").storage;
    let dialer = Arc::new(Dialer::new(Transport::WebSocket));
    let (commands, queue) = mpsc::channel(1);
    drop(commands);
    let driver =
        Driver::new(Puppet::default(), storage, dialer, Clock::start(), |_: &Puppet, _| ControlFlow::Continue(()));
    let last: Act<Puppet> = Box::new(|puppet, _| puppet.outputs.extend([Output::Commit(CommitId(1), put(b"last"))]));
    let storage = driver.run(queue, last).await;
    let rows = storage.scan(Vec::new(), vec![0xff], 1000).await.await.expect("runs").expect("scans");
    assert_eq!(rows.len(), 1);
}
