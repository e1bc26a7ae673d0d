//! What the texts mean.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use axum::http::Uri;
use clap::ArgMatches;
use tracing::level_filters::LevelFilter;
use zeroize::Zeroizing;

use super::effective::{self, Effective};
use super::sources::{self, ConfigError, Text, Texts};
use super::{Config, StoreConfig};
use crate::admission::{ProxyError, TrustedProxies};
use crate::core::CreatePolicy;
use crate::limits::{METRICS_TOKEN_BYTES_MIN, RelayLimits};
use crate::logging::LogFormat;

/// Where the demo is built to, seen from the project's folder.
const DEFAULT_WEB_ROOT: &str = "web-demo/dist";

/// What the sources say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The relay to run.
    pub config: Config,
    /// How much to log.
    pub log: LevelFilter,
    /// In which form.
    pub log_format: LogFormat,
    /// Every setting, with where it was set.
    pub effective: Vec<Effective>,
}

/// Understands the program's flags (see [`super::flags`]) and environment, and the file that one
/// of them names.
///
/// # Errors
/// [`ConfigError`], to be printed; exit code 2.
pub fn settings(
    matches: &ArgMatches,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Settings, ConfigError> {
    let env: Vec<(String, String)> = env.into_iter().collect();
    let texts = sources::collect(matches, env.clone())?;
    let data_dir = match texts.get("data-dir") {
        Some(text) => non_empty_path(text)?,
        None => default_data_dir(&env),
    };
    let config = Config {
        listen: parse(&texts, "listen", "an address and port like 127.0.0.1:8080 or [::1]:8080")?
            .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080))),
        public_url: texts.get("public-url").map(public_url).transpose()?,
        store: match texts.get("store") {
            Some(text) => store(text)?,
            None => StoreConfig::Sqlite(data_dir.join("relay.db")),
        },
        wait_for_store: parse(&texts, "wait-for-store", "true or false")?.unwrap_or(false),
        key_file: texts.get("key-file").map(non_empty_path).transpose()?,
        iroh_port: iroh_port(&texts)?,
        iroh_addrs: texts.get("iroh-addr").map_or(Ok(Vec::new()), iroh_addrs)?,
        web_root: web_root(&texts)?,
        create: texts.get("create").map_or(Ok(CreatePolicy::Open), create_policy)?,
        metrics_token: texts.get("metrics-token").map(metrics_token).transpose()?,
        metrics_listen: parse(&texts, "metrics-listen", "an address and port like 127.0.0.1:9090")?,
        trusted_proxies: trusted_proxies(&texts)?,
        limits: limits(&texts)?,
        data_dir,
    };
    if let (Some(addr), None) = (config.metrics_listen, &config.metrics_token)
        && !addr.ip().is_loopback()
    {
        return Err(ConfigError::invalid(format!(
            "metrics_listen {addr} can be reached by other machines: set metrics_token too, or listen on 127.0.0.1"
        )));
    }
    let log = parse(&texts, "log", "a log level: error, warn, info, debug or trace")?.unwrap_or(LevelFilter::INFO);
    let log_format = parse(&texts, "log-format", "a log format: text or json")?.unwrap_or(LogFormat::Text);
    let effective = effective::list(&texts, &config);
    Ok(Settings { config, log, log_format, effective })
}

fn parse<T: std::str::FromStr>(texts: &Texts, name: &str, expected: &str) -> Result<Option<T>, ConfigError> {
    texts.get(name).map(|text| text.value.parse().map_err(|_| wrong(text, expected))).transpose()
}

fn wrong(text: &Text, expected: &str) -> ConfigError {
    ConfigError::invalid(format!("{}: \"{}\" is not {expected}", text.source, text.value))
}

fn non_empty_path(text: &Text) -> Result<PathBuf, ConfigError> {
    if text.value.is_empty() { Err(wrong(text, "a path")) } else { Ok(PathBuf::from(&text.value)) }
}

fn store(text: &Text) -> Result<StoreConfig, ConfigError> {
    let value = text.value.as_str();
    match value.strip_prefix("sqlite:") {
        Some(path) if !path.is_empty() => Ok(StoreConfig::Sqlite(path.into())),
        None if value.starts_with("postgres://") || value.starts_with("postgresql://") => {
            Ok(StoreConfig::Postgres(Zeroizing::new(value.to_owned())))
        }
        // A database URL may hold a password: it is not repeated.
        _ => {
            Err(ConfigError::invalid(format!("{}: expected sqlite:PATH or postgres://USER@HOST/DATABASE", text.source)))
        }
    }
}

fn create_policy(text: &Text) -> Result<CreatePolicy, ConfigError> {
    match text.value.as_str() {
        "open" => Ok(CreatePolicy::Open),
        "closed" => Ok(CreatePolicy::Closed),
        value => match value.strip_prefix("token:") {
            Some(secret) if !secret.is_empty() => Ok(CreatePolicy::Token(Zeroizing::new(secret.into()))),
            _ => Err(ConfigError::invalid(format!("{}: expected open, token:SECRET or closed", text.source))),
        },
    }
}

fn metrics_token(text: &Text) -> Result<Zeroizing<String>, ConfigError> {
    let printable = text.value.bytes().all(|byte| byte.is_ascii_graphic());
    if printable && text.value.len() >= METRICS_TOKEN_BYTES_MIN {
        return Ok(Zeroizing::new(text.value.clone()));
    }
    // A token is not repeated.
    Err(ConfigError::invalid(format!(
        "{}: a token has at least {METRICS_TOKEN_BYTES_MIN} characters, none of them a space: openssl rand -hex 32 makes one",
        text.source
    )))
}

fn trusted_proxies(texts: &Texts) -> Result<TrustedProxies, ConfigError> {
    let explained = |text: &Text, error: ProxyError| ConfigError::invalid(format!("{}: {error}", text.source));
    let mut proxies = TrustedProxies::default();
    if let Some(text) = texts.get("trusted-proxies") {
        let networks = text.value.split(',').map(str::trim).filter(|network| !network.is_empty());
        proxies.networks =
            networks.map(str::parse).collect::<Result<_, _>>().map_err(|error| explained(text, error))?;
    }
    if let Some(text) = texts.get("client-address-header") {
        proxies.header = text.value.parse().map_err(|error| explained(text, error))?;
    }
    Ok(proxies)
}

fn limits(texts: &Texts) -> Result<RelayLimits, ConfigError> {
    let mut limits = RelayLimits::default();
    for limit in RelayLimits::TABLE {
        if let Some(text) = texts.get(limit.name.replace('_', "-").as_str()) {
            let value = limits.get_mut(limit.name).expect("the table lists the fields");
            *value = limit.parse(&text.value).map_err(|expected| wrong(text, &expected))?;
        }
    }
    Ok(limits)
}

/// What stands before `/v1/ws` and `/.well-known/0k-sync`.
fn public_url(text: &Text) -> Result<String, ConfigError> {
    let expected = "a URL like https://relay.example, without a path";
    let url: Uri = text.value.parse().map_err(|_| wrong(text, expected))?;
    let rooted = url.path() == "/" && url.query().is_none();
    match (url.scheme_str(), url.authority()) {
        (Some(scheme @ ("https" | "http")), Some(authority)) if rooted && !authority.as_str().contains('@') => {
            Ok(format!("{scheme}://{authority}"))
        }
        _ => Err(wrong(text, expected)),
    }
}

fn iroh_addrs(text: &Text) -> Result<Vec<SocketAddr>, ConfigError> {
    let addr =
        |part: &str| part.trim().parse().map_err(|_| wrong(text, "a list like 203.0.113.7:4433,[2001:db8::7]:4433"));
    text.value.split(',').map(addr).collect()
}

fn iroh_port(texts: &Texts) -> Result<Option<u16>, ConfigError> {
    let off = parse(texts, "no-iroh", "true or false")?.unwrap_or(false);
    let port = parse(texts, "iroh-port", "a port number from 0 to 65535")?.unwrap_or(0);
    Ok((!off).then_some(port))
}

fn web_root(texts: &Texts) -> Result<Option<PathBuf>, ConfigError> {
    match texts.get("web-root") {
        Some(text) if Path::new(&text.value).is_dir() => Ok(Some(PathBuf::from(&text.value))),
        Some(text) => Err(wrong(text, "a directory")),
        None => Ok(Some(PathBuf::from(DEFAULT_WEB_ROOT)).filter(|root| root.is_dir())),
    }
}

/// `$XDG_DATA_HOME/zerok-relay`, else `~/.local/share/zerok-relay`, else a folder where we are.
fn default_data_dir(env: &[(String, String)]) -> PathBuf {
    let var = |name: &str| env.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value);
    match (var("XDG_DATA_HOME"), var("HOME")) {
        (Some(data), _) => Path::new(data).join("zerok-relay"),
        (None, Some(home)) => Path::new(home).join(".local/share/zerok-relay"),
        (None, None) => PathBuf::from("zerok-relay-data"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str], env: &[(&str, &str)]) -> Result<Settings, String> {
        let args = std::iter::once("zerok-relay").chain(args.iter().copied());
        let command = clap::Command::new("zerok-relay").args(crate::config::flags());
        let matches = command.try_get_matches_from(args).map_err(|error| error.to_string())?;
        let env = env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        settings(&matches, env).map_err(|error| error.to_string())
    }

    fn file(text: &str) -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("relay.toml");
        std::fs::write(&path, text).expect("written");
        (dir, path.to_str().expect("UTF-8").to_owned())
    }

    #[test]
    fn with_no_arguments_it_listens_on_loopback_with_a_sqlite_file() {
        let config = run(&[], &[("XDG_DATA_HOME", "/data")]).expect("valid").config;
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.store, StoreConfig::Sqlite("/data/zerok-relay/relay.db".into()));
        assert_eq!(config.iroh_port, Some(0));
        assert_eq!(config.create, CreatePolicy::Open);
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_that_over_the_file() {
        let (_dir, path) = file("listen = \"127.0.0.1:1\"\niroh_port = 7\nno_iroh = false\ndata_dir = \"/file\"");
        let env = [("ZEROK_RELAY_LISTEN", "127.0.0.1:2"), ("ZEROK_RELAY_DATA_DIR", "/env")];
        let config = run(&["--config", &path, "--listen", "127.0.0.1:3"], &env).expect("valid").config;
        assert_eq!(config.listen.port(), 3);
        assert_eq!(config.data_dir, Path::new("/env"));
        assert_eq!(config.iroh_port, Some(7));
    }

    #[test]
    fn an_unknown_key_is_an_error_with_a_suggestion() {
        let (_dir, path) = file("listn = \"127.0.0.1:1\"");
        let error = run(&["--config", &path], &[]).expect_err("a typo");
        assert!(error.contains("listn") && error.contains("did you mean listen?"), "{error}");

        let error = run(&[], &[("ZEROK_RELAY_DATADIR", "/x")]).expect_err("a typo");
        assert!(error.contains("did you mean ZEROK_RELAY_DATA_DIR?"), "{error}");

        assert!(run(&["--lissten", "x"], &[]).expect_err("a typo").contains("--listen"));
    }

    #[test]
    fn a_bad_value_is_named_with_where_it_stands() {
        let error = run(&["--listen", "8080"], &[]).expect_err("no address");
        assert_eq!(error, "--listen: \"8080\" is not an address and port like 127.0.0.1:8080 or [::1]:8080");
        for (flag, value) in [
            ("--store", "mysql://x"),
            ("--store", "sqlite:"),
            ("--create", "token:"),
            ("--create", "everybody"),
            ("--iroh-port", "70000"),
            ("--log", "loud"),
            ("--web-root", "/nonexistent"),
            ("--data-dir", ""),
            ("--log-format", "xml"),
            ("--metrics-listen", "9090"),
            ("--metrics-token", "short"),
            ("--public-url", "relay.example"),
            ("--public-url", "https://relay.example/sync"),
            ("--iroh-addr", "203.0.113.7"),
        ] {
            assert!(run(&[flag, value], &[]).expect_err("not a value").starts_with(flag), "{flag} {value}");
        }
    }

    #[test]
    fn limits_are_set_with_units_from_flag_variable_and_file() {
        let (_dir, path) = file("envelope_bytes_max = \"2 MiB\"\nconnections_max = 50\ndead_after_ms = \"90 s\"");
        let env = [("ZEROK_RELAY_GROUP_BYTES_MAX", "3 GiB"), ("ZEROK_RELAY_CONNECTIONS_MAX", "60")];
        let args = ["--config", &path, "--truncate-interval-ms", "2 h", "--connections-max", "70"];
        let limits = run(&args, &env).expect("valid").config.limits;
        assert_eq!((limits.envelope_bytes_max, limits.group_bytes_max), (2 << 20, 3 << 30));
        assert_eq!((limits.dead_after_ms, limits.truncate_interval_ms), (90_000, 7_200_000));
        assert_eq!(limits.connections_max, 70);
    }

    #[test]
    fn a_limit_that_nobody_can_mean_is_refused_in_a_sentence() {
        let error = run(&["--connections-max", "0"], &[]).expect_err("zero");
        assert_eq!(error, "--connections-max: \"0\" is not at least 1");
        let error = run(&[], &[("ZEROK_RELAY_DEAD_AFTER_MS", "60 KiB")]).expect_err("not a duration");
        assert!(error.starts_with("ZEROK_RELAY_DEAD_AFTER_MS: \"60 KiB\" is not a duration like"), "{error}");
        let (_dir, path) = file("group_bytes_max = -1");
        assert!(run(&["--config", &path], &[]).expect_err("negative").contains("is not a number of bytes"));
    }

    #[test]
    fn proxies_are_trusted_by_network_and_only_loopback_by_default() {
        let proxies = |args| run(args, &[]).expect("valid").config.trusted_proxies;
        let trusts = |proxies: &TrustedProxies, peer: &str| proxies.trust(peer.parse().expect("an address"));
        let default = proxies(&[]);
        assert!(trusts(&default, "127.0.0.1") && trusts(&default, "::1") && !trusts(&default, "10.0.0.1"));
        let named =
            proxies(&["--trusted-proxies", "10.0.0.0/8, 2001:db8::/32", "--client-address-header", "forwarded"]);
        assert!(trusts(&named, "10.0.0.1") && trusts(&named, "2001:db8::1") && !trusts(&named, "127.0.0.1"));
        assert!(!trusts(&proxies(&["--trusted-proxies", ""]), "127.0.0.1"));

        let error = run(&["--trusted-proxies", "10.0.0.0/8,10.0.0.1/8"], &[]).expect_err("host bits");
        assert!(error.starts_with("--trusted-proxies: \"10.0.0.1/8\" has bits behind its prefix"), "{error}");
        assert!(run(&["--client-address-header", "host"], &[]).expect_err("no such").contains("x-forwarded-for"));
    }

    #[test]
    fn secrets_are_not_repeated_in_messages() {
        let config = run(&["--store", "postgres://u:hunter2@h/d", "--create", "token:hunter3"], &[]).expect("valid");
        assert!(!format!("{config:?}").contains("hunter"));
        assert!(!run(&["--store", "mysql://u:hunter2@h/d"], &[]).expect_err("not a store").contains("hunter"));
    }

    #[test]
    fn metrics_for_other_machines_need_a_token() {
        assert!(run(&["--metrics-listen", "127.0.0.1:9090"], &[]).is_ok());
        let error = run(&["--metrics-listen", "0.0.0.0:9090"], &[]).expect_err("open to all");
        assert!(error.contains("set metrics_token too"), "{error}");
        let token = "0123456789abcdef";
        assert!(run(&["--metrics-listen", "0.0.0.0:9090", "--metrics-token", token], &[]).is_ok());
        assert!(!run(&["--metrics-token", "hunter2 hunter2 hunter2"], &[]).expect_err("spaces").contains("hunter"));
    }

    #[test]
    fn without_iroh_there_is_no_endpoint() {
        assert_eq!(run(&["--no-iroh"], &[]).expect("valid").config.iroh_port, None);
        assert_eq!(run(&[], &[("ZEROK_RELAY_NO_IROH", "true")]).expect("valid").config.iroh_port, None);
    }

    #[test]
    fn a_file_that_is_not_toml_or_not_there_is_said_clearly() {
        let (_dir, path) = file("iroh_port = 7\nmetrics_token hunter2");
        let error = run(&["--config", &path], &[]).expect_err("not TOML");
        assert!(error.contains("is not valid TOML in line 2: ") && !error.contains("hunter"), "{error}");
        assert!(run(&["--config", "/nonexistent"], &[]).expect_err("not there").starts_with("cannot read"));
        let (_dir, path) = file("iroh_addr = [1, 2]");
        assert!(run(&["--config", &path], &[]).expect_err("numbers").contains("is of the type array"));
        let (_dir, path) = file("[listen]\nport = 1");
        assert!(run(&["--config", &path], &[]).expect_err("a table").contains("is of the type table"));
    }

    #[test]
    fn a_list_is_one_text_or_an_array() {
        let (_dir, path) = file("iroh_addr = [\"203.0.113.7:1\", \"[2001:db8::7]:2\"]");
        let from_file = run(&["--config", &path], &[]).expect("valid").config.iroh_addrs;
        let from_flag = run(&["--iroh-addr", "203.0.113.7:1, [2001:db8::7]:2"], &[]).expect("valid").config.iroh_addrs;
        assert_eq!((from_file.len(), &from_file), (2, &from_flag));
    }

    #[test]
    fn the_public_url_is_where_paths_are_put_behind() {
        let url = |text: &str| run(&["--public-url", text], &[]).expect("valid").config.public_url;
        assert_eq!(url("https://relay.example/").as_deref(), Some("https://relay.example"));
        assert_eq!(url("http://[::1]:8080").as_deref(), Some("http://[::1]:8080"));
    }
}
