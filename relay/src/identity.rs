//! What clients know a relay by, read from where its keys are kept. Nothing is made here, and only
//! public halves leave.

use iroh::SecretKey;
use serde::Serialize;
use zeroize::Zeroizing;
use zerok_sync_protocol::channel::StaticKey;

use crate::config::{Config, StoreConfig};
use crate::keys::{self, KeyError};
use crate::relay::StartError;
use crate::store::{Store, inspect};

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
/// [`StartError`]; [`KeyError::NoneYet`] where the relay never ran.
pub async fn read(config: &Config) -> Result<Identity, StartError> {
    let (secret, kept_in) = noise_secret(config).await?;
    let noise_key = public_half(&secret);
    let iroh = keys::load_if_there(&config.data_dir.join(keys::IROH_KEY_FILE))?;
    Ok(Identity {
        fingerprint: in_groups(&noise_key),
        noise_key,
        kept_in,
        iroh_endpoint_id: iroh.map(|secret| SecretKey::from_bytes(&secret).public().to_string()),
    })
}

/// The Noise key's public half, as clients write it.
#[must_use]
pub fn public_half(secret: &Zeroizing<[u8; 32]>) -> String {
    StaticKey::from_bytes(**secret).public().to_string()
}

/// What became of a key out of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRestored {
    /// The relay has it now, or had it already.
    InPlace,
    /// Another one is where it would go; it stays.
    AnotherIsThere {
        /// Where: a file, or `the database`.
        kept_in: String,
    },
}

/// Puts a key out of a backup where a starting relay looks for it. A key that is there already is
/// never overwritten.
///
/// # Errors
/// [`StartError`] if it can neither be read nor written.
pub async fn restore(
    config: &Config,
    store: &dyn Store,
    secret: &Zeroizing<[u8; 32]>,
) -> Result<KeyRestored, StartError> {
    let (found, kept_in) = if let Some(path) = &config.key_file {
        (keys::load(path)?, path.display().to_string())
    } else if let Some(shared) = store.shared_noise_secret(secret).await? {
        (shared, "the database".to_owned())
    } else {
        let path = config.data_dir.join(keys::NOISE_KEY_FILE);
        (keys::load_or_keep(&path, secret)?, path.display().to_string())
    };
    if found == *secret { Ok(KeyRestored::InPlace) } else { Ok(KeyRestored::AnotherIsThere { kept_in }) }
}

/// The Noise secret and where it is, in the order in which a starting relay looks for it.
///
/// # Errors
/// [`StartError`]; [`KeyError::NoneYet`] where the relay never ran.
pub async fn noise_secret(config: &Config) -> Result<(Zeroizing<[u8; 32]>, String), StartError> {
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
