//! Flags, environment and file, laid over each other as texts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches};

use super::settings::{SETTINGS, is_limit, known};

/// Prefix of the environment variables.
pub(super) const ENV_PREFIX: &str = "ZEROK_RELAY_";
/// Read from the working directory if `--config` names no other file.
const DEFAULT_FILE: &str = "relay.toml";
/// The flag that names another.
const CONFIG: &str = "config";

/// A configuration that cannot be used. The message is one sentence that says where and what.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

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
    matches: &ArgMatches,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Texts, ConfigError> {
    let flags = from_flags(matches);
    let (vars, env_file) = from_env(env)?;
    let mut texts = match matches.get_one::<String>(CONFIG).map(PathBuf::from).or(env_file) {
        Some(path) => from_file(&path)?,
        None if Path::new(DEFAULT_FILE).exists() => from_file(Path::new(DEFAULT_FILE))?,
        None => Texts::new(),
    };
    texts.extend(vars);
    texts.extend(flags);
    Ok(texts)
}

/// A flag for every setting, valid before and behind a command's name. `-h` leaves the limits out.
#[must_use]
pub fn flags() -> Vec<Arg> {
    let file = Arg::new(CONFIG)
        .long(CONFIG)
        .value_name("FILE")
        .help("Configuration file [default: ./relay.toml if it exists]");
    let settings = SETTINGS.iter().map(|setting| {
        let help = format!("{} [default: {}]", setting.help, setting.default_in_words());
        let arg = Arg::new(&*setting.name).long(&*setting.name).help(help);
        let arg = if is_limit(setting) {
            arg.hide_short_help(true).help_heading("Limits and deadlines")
        } else {
            arg.help_heading("Settings")
        };
        match setting.value {
            Some(value) => arg.value_name(value),
            None => arg.action(ArgAction::SetTrue),
        }
    });
    std::iter::once(file.help_heading("Settings")).chain(settings).map(|arg| arg.global(true)).collect()
}

fn from_flags(matches: &ArgMatches) -> Texts {
    let mut texts = Texts::new();
    for setting in SETTINGS.iter() {
        let name = &*setting.name;
        let text = match setting.value {
            Some(_) => matches.get_one::<String>(name).cloned(),
            None => matches.get_flag(name).then(|| "true".to_owned()),
        };
        if let Some(value) = text {
            texts.insert(name, Text { value, source: format!("--{name}") });
        }
    }
    texts
}

fn from_env(env: impl IntoIterator<Item = (String, String)>) -> Result<(Texts, Option<PathBuf>), ConfigError> {
    let (mut texts, mut file) = (Texts::new(), None);
    for (variable, value) in env {
        let Some(key) = variable.strip_prefix(ENV_PREFIX) else { continue };
        let flag = key.to_lowercase().replace('_', "-");
        if flag == CONFIG {
            file = Some(PathBuf::from(value));
        } else {
            let setting = known(&flag).map_err(|suggestion| {
                unknown(&format!("variable {variable}"), suggestion, |name| {
                    format!("{ENV_PREFIX}{}", name.to_uppercase().replace('-', "_"))
                })
            })?;
            texts.insert(&setting.name, Text { value, source: variable });
        }
    }
    Ok((texts, file))
}

fn from_file(path: &Path) -> Result<Texts, ConfigError> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::invalid(format!("cannot read the configuration file {shown}: {error}")))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        // The library's own text would show the line, and a line may hold a password.
        let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count()) + 1;
        ConfigError::invalid(format!("{shown} is not valid TOML in line {line}: {}", error.message()))
    })?;
    let mut texts = Texts::new();
    for (key, value) in table {
        let setting = known(&key.replace('_', "-")).map_err(|suggestion| {
            unknown(&format!("key {key} in {shown}"), suggestion, |name| name.replace('-', "_"))
        })?;
        let value = match value {
            toml::Value::String(value) => value,
            toml::Value::Integer(value) => value.to_string(),
            toml::Value::Boolean(value) => value.to_string(),
            toml::Value::Array(items) if items.iter().all(toml::Value::is_str) => {
                items.iter().filter_map(toml::Value::as_str).collect::<Vec<_>>().join(",")
            }
            other => {
                let kind = other.type_str();
                return Err(ConfigError::invalid(format!(
                    "{key} in {shown} is of the type {kind}: write a number, true or false, a text, or a list of texts"
                )));
            }
        };
        texts.insert(&setting.name, Text { value, source: format!("{key} in {shown}") });
    }
    Ok(texts)
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
