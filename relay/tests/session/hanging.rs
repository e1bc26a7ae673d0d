//! A database that neither answers nor closes its connections, as behind a stopped machine.

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{BlobId, ClientFrame};
use zerok_sync_relay::StoreConfig;

use crate::support::{Group, TestRelay, device, stores};

/// A way to a database that can be made to lead nowhere.
struct Way {
    hangs: watch::Sender<bool>,
    port: u16,
}

impl Way {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let way = Self { hangs: watch::Sender::new(false), port: listener.local_addr().unwrap().port() };
        let hangs = way.hangs.subscribe();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut hangs = hangs.clone();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        () = async { let _ = hangs.wait_for(|&hangs| hangs).await; } => std::future::pending().await,
                    }
                });
            }
        });
        way
    }
}

#[tokio::test]
async fn a_request_that_the_database_never_answers_does_not_keep_its_session_for_ever() {
    let StoreConfig::Postgres(url) = stores::fresh_postgres().await else { panic!("it is on Postgres") };
    let (before, behind) = url.split_once("127.0.0.1:").unwrap();
    let (port, database) = behind.split_once('/').unwrap();
    let way = Way::to(port.parse().unwrap()).await;
    let store = StoreConfig::Postgres(format!("{before}127.0.0.1:{}/{database}", way.port).into());
    let relay = TestRelay::start_on(&store, |config| config.limits.dead_after_ms = 4_000).await;
    let mut client = relay.founder(&Group::new(1), &device(1)).await;

    way.hangs.send_replace(true);
    client.send(ClientFrame::Missing { blob_ids: List::try_from(vec![BlobId([1; 32])]).unwrap() }).await;

    let ended = client.ended().await;
    assert_eq!(ended.code, Some(4008), "{}", ended.reason);
    assert!(ended.reason.contains("storage does not answer"), "{}", ended.reason);
}
