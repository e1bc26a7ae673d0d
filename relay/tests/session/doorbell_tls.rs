//! The doorbell to a server that takes no connection without TLS.

use tokio::task::spawn_blocking;
use zerok_sync_relay::StoreConfig;

use crate::instances::doorbell_alone;
use crate::support::{Group, TestRelay, device, envelope, epoch_envelope, stored};
use crate::tls_cluster::cluster_for;

#[tokio::test]
async fn the_doorbell_crosses_instances_over_tls() {
    let (cluster, url) = spawn_blocking(|| {
        let (cluster, _) = cluster_for("localhost");
        let url = cluster.database();
        cluster.down().unwrap();
        std::fs::write(cluster.dir().join("data/pg_hba.conf"), "hostssl all all 127.0.0.1/32 trust\n").unwrap();
        cluster.up().unwrap();
        (cluster, url)
    })
    .await
    .unwrap();
    let store = StoreConfig::Postgres(format!("{url}?sslmode=require").into());
    let one = TestRelay::start_on(&store, doorbell_alone).await;
    let other = TestRelay::start_on(&store, doorbell_alone).await;
    let group = Group::new(1);
    let mut writer = one.founder(&group, &device(1)).await;
    let mut reader = other.member(&group, &device(2)).await;
    assert_eq!(reader.follow().await, [stored(1, &epoch_envelope(0))]);

    assert_eq!(writer.push(1, &[envelope(1)]).await, [Ok(2)]);

    assert_eq!(reader.entries().await, [stored(2, &envelope(1))]);
    drop(cluster);
}
