//! The store: whether it can be reached, keeps what it acknowledges, and has tables of ours.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::machine::millis;
use super::{Findings, size};
use crate::config::{Config, StoreConfig};
use crate::store::inspect::{self, PostgresFacts, SqliteFacts};

const NAME: &str = "database";
/// More than this between two clocks, and what is stored with one looks wrong on the other.
const CLOCK_APART_MAX: Duration = Duration::from_secs(5);
/// The oldest PostgreSQL that this relay is tested with.
const SERVER_VERSION_MIN: i32 = 15_00_00;
/// A commit beyond this is noticed by a person.
const COMMIT_SLOW: Duration = Duration::from_millis(30);

pub(super) async fn examine(config: &Config, findings: &mut Findings) {
    match &config.store {
        StoreConfig::Sqlite(path) => sqlite(path, findings),
        StoreConfig::Postgres(url) => postgres(url, config.limits.store_connections_max, findings).await,
    }
}

fn sqlite(path: &Path, findings: &mut Findings) {
    let shown = path.display();
    let SqliteFacts { schema_version, write_ahead, auto_vacuum, in_use, bytes } = match inspect::sqlite(path) {
        Ok(Some(facts)) => facts,
        Ok(None) => return findings.ok(NAME, format!("{shown} is made at the first start")),
        Err(error) => return findings.fail(NAME, format!("{shown}: {error}")),
    };
    let user = if in_use { "a relay runs on it" } else { "no relay runs on it" };
    findings.ok(NAME, format!("{shown}, {}, {user}", size(bytes)));
    schema(schema_version.as_deref(), inspect::SQLITE_SCHEMA_VERSION, findings);
    if !write_ahead || auto_vacuum != 2 {
        findings.warn(
            "durability",
            "the file has no write-ahead log or no incremental vacuum, with which the relay makes it: something else \
             changed it; take a backup and restore it into a new one",
        );
    } else {
        findings.ok("durability", "write-ahead log; every start asserts synchronous = FULL");
    }
}

async fn postgres(url: &str, connections_max: u64, findings: &mut Findings) {
    let facts = match inspect::postgres(url).await {
        Ok(facts) => facts,
        Err(error) => return findings.fail(NAME, error.to_string()),
    };
    server(&facts, connections_max, findings);
    durability(&facts, findings);
    if !facts.in_recovery {
        schema(facts.schema_version.as_deref(), &inspect::postgres_schema_version(), findings);
    }
    let machine = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let apart = machine.abs_diff(facts.clock);
    if apart > CLOCK_APART_MAX {
        let seconds = apart.as_secs();
        findings.warn("clocks", format!("the database's clock is {seconds} s away from this one: run NTP on both"));
    } else {
        findings.ok("clocks", "the database's clock agrees");
    }
    match facts.commit {
        Some(commit) if commit > COMMIT_SLOW => {
            findings.warn("commit", format!("{} at the median: every push waits for one", millis(commit)));
        }
        Some(commit) => findings.ok("commit", format!("{} at the median", millis(commit))),
        None => {}
    }
}

fn server(facts: &PostgresFacts, connections_max: u64, findings: &mut Findings) {
    let (version, number) = (&facts.version, facts.version_number);
    if number < SERVER_VERSION_MIN {
        findings.fail(NAME, format!("PostgreSQL {version} is too old: upgrade it to 15 or later"));
    } else if facts.in_recovery || facts.read_only {
        findings.fail(NAME, format!("PostgreSQL {version} is read-only here: connect to the primary server"));
    } else {
        findings.ok(NAME, format!("PostgreSQL {version}, {}", size(facts.bytes)));
    }
    let (used, max) = (facts.connections_used, facts.connections_max);
    let free = max.saturating_sub(used);
    if free < connections_max {
        findings.warn(
            "connections",
            format!(
                "{free} of the server's {max} are free, a relay takes up to {connections_max}: raise max_connections"
            ),
        );
    } else {
        findings.ok("connections", format!("{free} of the server's {max} are free"));
    }
}

fn durability(facts: &PostgresFacts, findings: &mut Findings) {
    const NAME: &str = "durability";
    let lossy: Vec<&str> = facts.durable_settings.iter().filter(|(_, on)| !on).map(|(name, _)| name.as_str()).collect();
    if lossy.is_empty() {
        findings.ok(NAME, "fsync, full_page_writes and synchronous_commit are on");
    } else {
        let names = lossy.join(" and ");
        findings.fail(
            NAME,
            format!("{names} is off: acknowledged pushes are lost with the power; set it to on in postgresql.conf"),
        );
    }
}

fn schema(found: Option<&str>, known: &str, findings: &mut Findings) {
    const NAME: &str = "schema";
    let number = |text: &str| text.parse::<u64>().ok();
    match found {
        None => findings.ok(NAME, format!("no tables yet: version {known} is made at the first start")),
        Some(found) if found == known => findings.ok(NAME, format!("version {found}")),
        Some(found) if number(found).is_some() && number(found) < number(known) => {
            findings.ok(NAME, format!("version {found}: the next start brings it to {known}"));
        }
        Some(found) => findings
            .fail(NAME, format!("version {found}, this relay knows {known}: run the relay version that wrote it")),
    }
}
