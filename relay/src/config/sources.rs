//! Flags, environment and file, laid over each other as texts.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use clap::{Arg, ArgAction, Command};

use crate::limits::{RelayLimits, Unit};

/// Prefix of the environment variables.
pub(super) const ENV_PREFIX: &str = "ZEROK_RELAY_";
/// Read from the working directory if `--config` names no other file.
const DEFAULT_FILE: &str = "relay.toml";

/// A configuration that cannot be used. The message is one sentence that says where and what.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Flags that clap refuses, or `--help`: clap prints it, in its own format.
    #[error("{0}")]
    Flags(clap::Error),
    /// Anything else.
    #[error("{0}")]
    Invalid(String),
}

impl ConfigError {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }
}

/// One setting: its flag without the dashes, the placeholder of its value (`None` for a switch),
/// its help.
struct Setting {
    name: Cow<'static, str>,
    value: Option<&'static str>,
    help: Cow<'static, str>,
}

/// Every setting: what a relay is, then its limits. The environment variable and the line in the
/// file follow from the flag's name.
static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    let limits = RelayLimits::TABLE.iter().map(|limit| Setting {
        name: limit.name.replace('_', "-").into(),
        value: Some(match limit.unit() {
            Unit::Count => "N",
            Unit::Bytes => "SIZE",
            Unit::Milliseconds => "DURATION",
        }),
        help: format!("{} [default: {}]", limit.reason, limit.unit().show(limit.default)).into(),
    });
    PLAIN_SETTINGS.into_iter().chain(limits).collect()
});

const PLAIN_SETTINGS: [Setting; 9] = [
    Setting {
        name: Cow::Borrowed("listen"),
        value: Some("ADDR:PORT"),
        help: Cow::Borrowed("Where to serve HTTP and WebSocket [default: 127.0.0.1:8080]"),
    },
    Setting {
        name: Cow::Borrowed("store"),
        value: Some("URL"),
        help: Cow::Borrowed("Where to keep the log: sqlite:PATH or postgres://… [default: sqlite:DATA_DIR/relay.db]"),
    },
    Setting {
        name: Cow::Borrowed("data-dir"),
        value: Some("DIR"),
        help: Cow::Borrowed("Keys and the default database [default: $XDG_DATA_HOME/zerok-relay]"),
    },
    Setting {
        name: Cow::Borrowed("key-file"),
        value: Some("FILE"),
        help: Cow::Borrowed("The relay's Noise key, 64 hexadecimal digits"),
    },
    Setting {
        name: Cow::Borrowed("iroh-port"),
        value: Some("PORT"),
        help: Cow::Borrowed("UDP port of the iroh endpoint [default: a free one]"),
    },
    Setting { name: Cow::Borrowed("no-iroh"), value: None, help: Cow::Borrowed("Serve WebSocket only") },
    Setting {
        name: Cow::Borrowed("web-root"),
        value: Some("DIR"),
        help: Cow::Borrowed("Directory to serve at / [default: web-demo/dist if it exists]"),
    },
    Setting {
        name: Cow::Borrowed("create"),
        value: Some("WHO"),
        help: Cow::Borrowed("Who may make new logs: open, token:SECRET or closed [default: open]"),
    },
    Setting {
        name: Cow::Borrowed("log"),
        value: Some("LEVEL"),
        help: Cow::Borrowed("error, warn, info, debug or trace [default: info]"),
    },
];

/// A text and where it stands, for the error message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) value: String,
    pub(super) source: String,
}

/// Settings by flag name.
pub(super) type Texts = BTreeMap<&'static str, Text>;

/// Lays the three sources over each other.
pub(super) fn collect(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Texts, ConfigError> {
    let (flags, flag_file) = from_flags(args)?;
    let (vars, env_file) = from_env(env)?;
    let mut texts = match flag_file.or(env_file) {
        Some(path) => from_file(&path)?,
        None if Path::new(DEFAULT_FILE).exists() => from_file(Path::new(DEFAULT_FILE))?,
        None => Texts::new(),
    };
    texts.extend(vars);
    texts.extend(flags);
    Ok(texts)
}

fn command() -> Command {
    let args = SETTINGS.iter().map(|setting| {
        let arg = Arg::new(&*setting.name).long(&*setting.name).help(&*setting.help);
        match setting.value {
            Some(value) => arg.value_name(value),
            None => arg.action(ArgAction::SetTrue),
        }
    });
    Command::new("zerok-relay")
        .version(env!("CARGO_PKG_VERSION"))
        .about("The 0k-Sync relay: stores and forwards what it cannot read.")
        .after_help(
            "Every option can also be an environment variable (ZEROK_RELAY_DATA_DIR) or a line in the \
             configuration file (data_dir = \"…\"). Flags win over the environment, the environment over the file.",
        )
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .help("Configuration file [default: ./relay.toml if it exists]"),
        )
        .args(args)
}

fn from_flags(args: impl IntoIterator<Item = OsString>) -> Result<(Texts, Option<PathBuf>), ConfigError> {
    let matches = command().try_get_matches_from(args).map_err(ConfigError::Flags)?;
    let mut texts = Texts::new();
    for Setting { name, value, .. } in SETTINGS.iter() {
        let text = match value {
            Some(_) => matches.get_one::<String>(name).cloned(),
            None => matches.get_flag(name).then(|| "true".to_owned()),
        };
        if let Some(value) = text {
            texts.insert(name, Text { value, source: format!("--{name}") });
        }
    }
    Ok((texts, matches.get_one::<String>("config").map(PathBuf::from)))
}

fn from_env(env: impl IntoIterator<Item = (String, String)>) -> Result<(Texts, Option<PathBuf>), ConfigError> {
    let (mut texts, mut file) = (Texts::new(), None);
    for (variable, value) in env {
        let Some(key) = variable.strip_prefix(ENV_PREFIX) else { continue };
        let flag = key.to_lowercase().replace('_', "-");
        if flag == "config" {
            file = Some(PathBuf::from(value));
        } else {
            let name = known(&flag).map_err(|suggestion| {
                unknown(&format!("variable {variable}"), suggestion, |name| {
                    format!("{ENV_PREFIX}{}", name.to_uppercase().replace('-', "_"))
                })
            })?;
            texts.insert(name, Text { value, source: variable });
        }
    }
    Ok((texts, file))
}

fn from_file(path: &Path) -> Result<Texts, ConfigError> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::invalid(format!("cannot read the configuration file {shown}: {error}")))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        ConfigError::invalid(format!("{shown} is not valid TOML: {}", error.message()))
    })?;
    let mut texts = Texts::new();
    for (key, value) in table {
        let name = known(&key.replace('_', "-")).map_err(|suggestion| {
            unknown(&format!("key {key} in {shown}"), suggestion, |name| name.replace('-', "_"))
        })?;
        let value = match value {
            toml::Value::String(value) => value,
            toml::Value::Integer(value) => value.to_string(),
            toml::Value::Boolean(value) => value.to_string(),
            other => {
                let kind = other.type_str();
                return Err(ConfigError::invalid(format!("{key} in {shown} is a {kind}, where one value is expected")));
            }
        };
        texts.insert(name, Text { value, source: format!("{key} in {shown}") });
    }
    Ok(texts)
}

/// The setting of that name, or the one that was probably meant.
fn known(name: &str) -> Result<&'static str, Option<&'static str>> {
    if let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) {
        return Ok(&setting.name);
    }
    Err(SETTINGS
        .iter()
        .map(|setting| (strsim::jaro_winkler(&setting.name, name), &*setting.name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name))
}

fn unknown(what: &str, suggestion: Option<&str>, spelled: impl Fn(&str) -> String) -> ConfigError {
    ConfigError::invalid(match suggestion {
        Some(name) => format!("unknown {what}: did you mean {}?", spelled(name)),
        None => {
            let all: Vec<String> = SETTINGS.iter().map(|setting| spelled(&setting.name)).collect();
            format!("unknown {what}: there are {}", all.join(", "))
        }
    })
}
