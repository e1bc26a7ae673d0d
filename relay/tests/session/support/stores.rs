//! What the suite runs on: SQLite unless `ZEROK_TEST_STORE` says `postgres`, or `instances` for two
//! relays on one Postgres, at which clients arrive in turn. `everywhere.rs` runs it on all three.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_postgres::{Client, NoTls};
use zerok_sync_relay::StoreConfig;
use zerok_sync_testkit::postgres::shared;

/// Which store to run on.
pub const STORE_VARIABLE: &str = "ZEROK_TEST_STORE";
/// A database that is there already.
pub const DATABASE_VARIABLE: &str = "ZEROK_TEST_DATABASE";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
    Instances,
}

impl Backend {
    pub fn of_this_run() -> Self {
        match std::env::var(STORE_VARIABLE).as_deref() {
            Err(_) | Ok("sqlite") => Self::Sqlite,
            Ok("postgres") => Self::Postgres,
            Ok("instances") => Self::Instances,
            Ok(other) => panic!("{STORE_VARIABLE}={other} is none of sqlite, postgres, instances"),
        }
    }
}

/// A schema of its own in a database that tests share: much quicker to make than a database.
pub async fn fresh_postgres() -> StoreConfig {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let database = tokio::task::spawn_blocking(database).await.unwrap();
    let schema = format!("test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    sql(&database, &format!("CREATE SCHEMA {schema}")).await;
    StoreConfig::Postgres(format!("{database}?options=-c%20search_path%3D{schema}").into())
}

fn database() -> String {
    static DATABASE: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    DATABASE.get_or_init(|| std::env::var(DATABASE_VARIABLE).unwrap_or_else(|_| shared().database())).clone()
}

/// Runs a statement on a connection of its own; how many rows it touched.
pub async fn sql(url: &str, statement: &str) -> u64 {
    let client = connect(url).await;
    client.execute(statement, &[]).await.unwrap()
}

pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
