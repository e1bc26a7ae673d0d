//! `zerok-relay doctor`: looks at everything that has to be right for a relay to work, without
//! changing anything, and says of each what to do.
//!
//! | file | looks at |
//! |---|---|
//! | `machine.rs` | data directory, disk, clock, file descriptors |
//! | `database.rs` | the store: reachable, durable, of which version |
//! | `ports.rs` | the addresses to listen on |
//! | `outside.rs` | the relay through its public URL, as a client sees it |
//! | `fetch.rs` | HTTP, WebSocket and Noise of that client |

mod database;
mod fetch;
mod machine;
mod outside;
mod ports;

use serde::Serialize;

use crate::config::Config;
use crate::identity::{self, Identity};
use crate::keys::KeyError;
use crate::relay::StartError;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and something about it will hurt.
    Warn,
    /// It does not work, or loses data.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found, and what to do about it.
    pub message: String,
}

/// All that was looked at, in order.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Check>);

impl Findings {
    fn add(&mut self, name: &'static str, verdict: Verdict, message: impl Into<String>) {
        self.0.push(Check { name, verdict, message: message.into() });
    }

    fn ok(&mut self, name: &'static str, message: impl Into<String>) {
        self.add(name, Verdict::Ok, message);
    }

    fn warn(&mut self, name: &'static str, message: impl Into<String>) {
        self.add(name, Verdict::Warn, message);
    }

    fn fail(&mut self, name: &'static str, message: impl Into<String>) {
        self.add(name, Verdict::Fail, message);
    }
}

/// Examines the relay that `config` describes, whether it runs or not; from outside too where a
/// URL is known.
pub async fn examine(config: &Config, url: Option<&str>) -> Vec<Check> {
    let mut findings = Findings::default();
    findings.ok("version", format!("zerok-relay {}", env!("CARGO_PKG_VERSION")));
    machine::examine(config, &mut findings);
    database::examine(config, &mut findings).await;
    let identity = keys(config, &mut findings).await;
    ports::examine(config, identity.as_ref(), &mut findings).await;
    match url.or(config.public_url.as_deref()) {
        Some(url) => outside::examine(config, url, identity.as_ref(), &mut findings).await,
        None => findings.ok("outside", "not tried: name the public address with --url or public_url"),
    }
    findings.0
}

/// The keys' files and their rights; a relay that never ran has none.
async fn keys(config: &Config, findings: &mut Findings) -> Option<Identity> {
    const NAME: &str = "keys";
    match identity::read(config).await {
        Ok(identity) => {
            findings.ok(NAME, format!("{} in {}", identity.noise_key, identity.kept_in));
            Some(identity)
        }
        Err(error @ StartError::Key(KeyError::NoneYet)) => {
            findings.ok(NAME, error.to_string());
            None
        }
        Err(error) => {
            findings.fail(NAME, error.to_string());
            None
        }
    }
}

/// `12.3 GiB`.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    #[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        assert_eq!([size(1536), size(10 << 30), size(3 << 50)], ["1.5 KiB", "10.0 GiB", "3072.0 TiB"]);
    }
}
