//! What clients know a relay by, read from where its keys are kept. Nothing is made here, and only
//! public halves leave.

use iroh::SecretKey;
use serde::Serialize;
use zerok_sync_protocol::channel::StaticKey;

use crate::config::{Config, StoreConfig};
use crate::keys::{self, KeyError, Secret};
use crate::relay::StartError;
use crate::store::inspect;

/// The public side of a relay's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// The Noise key that clients pin.
    pub noise_key: String,
    /// The same, to be read aloud.
    pub fingerprint: String,
    /// Where its secret half is: a file, or `the database`.
    pub kept_in: String,
    /// What iroh clients dial, if this instance had an endpoint before.
    pub iroh_endpoint_id: Option<String>,
}

/// Reads the keys of the relay that `config` describes.
///
/// # Errors
/// [`StartError`]; [`KeyError::Missing`] where the relay never ran.
pub async fn read(config: &Config) -> Result<Identity, StartError> {
    let (secret, kept_in) = noise_secret(config).await?;
    let noise_key = StaticKey::from_bytes(*secret).public().to_string();
    let iroh = keys::load_if_there(&config.data_dir.join(keys::IROH_KEY_FILE))?;
    Ok(Identity {
        fingerprint: in_groups(&noise_key),
        noise_key,
        kept_in,
        iroh_endpoint_id: iroh.map(|secret| SecretKey::from_bytes(&secret).public().to_string()),
    })
}

/// In the order in which a starting relay looks for it.
async fn noise_secret(config: &Config) -> Result<(Secret, String), StartError> {
    if let Some(path) = &config.key_file {
        return Ok((keys::load(path)?, path.display().to_string()));
    }
    if let StoreConfig::Postgres(url) = &config.store {
        let secret = inspect::postgres_noise_secret(url).await?.ok_or(KeyError::NoneYet)?;
        return Ok((secret, "the database".to_owned()));
    }
    let path = config.data_dir.join(keys::NOISE_KEY_FILE);
    let secret = keys::load_if_there(&path)?.ok_or(KeyError::NoneYet)?;
    Ok((secret, path.display().to_string()))
}

fn in_groups(hex: &str) -> String {
    let digits: Vec<char> = hex.chars().collect();
    digits.chunks(4).map(|group| group.iter().collect()).collect::<Vec<String>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_relay_that_never_ran_has_no_identity_and_gets_none_by_looking() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let error = read(&Config::in_dir(dir.path())).await.expect_err("no key");
        assert!(matches!(error, StartError::Key(KeyError::NoneYet)), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 0);
    }

    #[test]
    fn a_fingerprint_is_the_whole_key() {
        assert_eq!(in_groups("0123456789ab"), "0123 4567 89ab");
    }
}
