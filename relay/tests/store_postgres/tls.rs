//! TLS to the database: each `sslmode` against a server with a certificate of its own.

use zerok_sync_relay::store::{Postgres, Store, StoreError};

use crate::tls_cluster::{certificate, cluster_for};

async fn connect(url: &str) -> Result<(), StoreError> {
    Postgres::connect(url).await?.ready().await
}

/// Connections of relays that are encrypted.
async fn encrypted(url: &str) -> i64 {
    let store = Postgres::connect(url).await.unwrap();
    let (client, connection) =
        tokio_postgres::connect(url.split('?').next().unwrap(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let count = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                 WHERE ssl AND application_name = 'zerok-relay'";
    let encrypted = client.query_one(count, &[]).await.unwrap().get(0);
    drop(store);
    encrypted
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sslmode_asks_for_what_it_says() {
    let (cluster, authority) = tokio::task::spawn_blocking(|| cluster_for("localhost")).await.unwrap();
    let by_address = cluster.database();
    let by_name = by_address.replace("127.0.0.1", "localhost");
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root.pem");
    std::fs::write(&root, authority).unwrap();
    let root = root.display();
    let stranger = dir.path().join("stranger.pem");
    std::fs::write(&stranger, certificate("localhost").0).unwrap();
    let stranger = stranger.display();

    for (url, mode) in [
        (&by_address, "require".to_owned()),
        (&by_address, format!("require&sslrootcert={root}")),
        (&by_address, format!("verify-ca&sslrootcert={root}")),
        (&by_name, format!("verify-full&sslrootcert={root}")),
        (&by_address, "prefer".to_owned()),
    ] {
        assert_eq!(encrypted(&format!("{url}?sslmode={mode}")).await, 1, "{mode}");
    }
    assert_eq!(encrypted(&format!("{by_address}?sslmode=disable")).await, 0);
    for (url, mode) in [
        (&by_address, format!("verify-full&sslrootcert={root}")),
        (&by_name, format!("verify-full&sslrootcert={stranger}")),
        (&by_name, format!("verify-ca&sslrootcert={stranger}")),
        (&by_name, format!("require&sslrootcert={stranger}")),
    ] {
        let refused = connect(&format!("{url}?sslmode={mode}")).await.expect_err(&mode);
        assert!(
            matches!(&refused, StoreError::Unusable(text) if text.contains("sslrootcert=FILE")),
            "{mode}: {refused}"
        );
    }
    let missing = connect(&format!("{by_name}?sslmode=verify-full&sslrootcert=/no/such.pem")).await.unwrap_err();
    assert!(matches!(&missing, StoreError::Unusable(text) if text.contains("sslrootcert")), "{missing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    let url = crate::database().await;

    let refused = connect(&format!("{url}?sslmode=require")).await.unwrap_err();

    assert!(matches!(&refused, StoreError::Unusable(text) if text.contains("does not offer TLS")), "{refused}");
    connect(&format!("{url}?sslmode=prefer")).await.unwrap();
}
