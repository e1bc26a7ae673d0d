//! What holds, and where it was set: what `zerok-relay check-config` prints.

use serde::Serialize;

use super::settings::{Fallback, SETTINGS, Setting, Shown};
use super::sources::Texts;
use super::{Config, StoreConfig};

/// What stands for a secret.
const REDACTED: &str = "[redacted]";
/// What stands for something that is not set and has no default.
const NONE: &str = "none";

/// One setting as it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Effective {
    /// Its key in `relay.toml`.
    pub name: String,
    /// Its value, without secrets.
    pub value: String,
    /// `--listen`, `ZEROK_RELAY_LISTEN`, `listen in relay.toml`; `default` where nobody set it.
    pub source: String,
}

/// Every setting, in the order of the table.
pub(super) fn list(texts: &Texts, config: &Config) -> Vec<Effective> {
    SETTINGS
        .iter()
        .map(|setting| {
            let (value, source) = match texts.get(&*setting.name) {
                Some(text) => (shown(&text.value, setting.shown), text.source.clone()),
                None => (default_of(setting, config), "default".to_owned()),
            };
            Effective { name: setting.key(), value, source }
        })
        .collect()
}

/// A default that depends is looked up where it was decided.
fn default_of(setting: &Setting, config: &Config) -> String {
    match (&setting.default, &*setting.name) {
        (Fallback::Text(text), _) => text.clone().into_owned(),
        (_, "store") => match &config.store {
            StoreConfig::Sqlite(path) => format!("sqlite:{}", path.display()),
            StoreConfig::Postgres(url) => shown(url, setting.shown),
        },
        (_, "data-dir") => config.data_dir.display().to_string(),
        (_, "web-root") => config.web_root.as_ref().map_or(NONE.to_owned(), |root| root.display().to_string()),
        (Fallback::Depends { words, .. }, _) => (*words).to_owned(),
    }
}

fn shown(value: &str, shown: Shown) -> String {
    match shown {
        Shown::Whole => value.to_owned(),
        Shown::UpToColon => match value.split_once(':') {
            Some((word, _)) => format!("{word}:{REDACTED}"),
            None => value.to_owned(),
        },
        Shown::WithoutPassword => without_password(value),
        Shown::Nothing => REDACTED.to_owned(),
    }
}

/// A URL's parameters can hold a password too, so none is shown.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (rest, parameters) = match rest.split_once('?') {
        Some((rest, _)) => (rest, format!("?{REDACTED}")),
        None => (rest, String::new()),
    };
    // A password may hold an @ that nobody escaped: the host is behind the last one.
    let rest = match rest.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((user, _)) => format!("{user}:{REDACTED}@{host}"),
            None => format!("{user}@{host}"),
        },
        None => rest.to_owned(),
    };
    format!("{scheme}://{rest}{parameters}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_url_is_shown_without_its_password() {
        for (url, expected) in [
            ("sqlite:relay.db", "sqlite:relay.db"),
            ("postgres://h/d", "postgres://h/d"),
            ("postgres://u@h/d", "postgres://u@h/d"),
            ("postgres://u:hunter2@h:5432/d", "postgres://u:[redacted]@h:5432/d"),
            ("postgres://u:hun@ter2:2@h/d", "postgres://u:[redacted]@h/d"),
            ("postgres://u@h/d?password=hunter2", "postgres://u@h/d?[redacted]"),
        ] {
            assert_eq!(shown(url, Shown::WithoutPassword), expected);
        }
    }

    #[test]
    fn a_token_is_shown_as_such() {
        assert_eq!(shown("token:hunter2", Shown::UpToColon), "token:[redacted]");
        assert_eq!(shown("closed", Shown::UpToColon), "closed");
        assert_eq!(shown("hunter2", Shown::Nothing), "[redacted]");
    }
}
