//! Every setting in one table: what a relay is, then its limits. Flag, environment variable, line
//! in the file and `relay.example.toml` all follow from here.

use std::borrow::Cow;
use std::sync::LazyLock;

use crate::limits::{RelayLimits, Unit};

/// One setting.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    /// Its flag without the dashes.
    pub(super) name: Cow<'static, str>,
    /// The placeholder of its value; `None` for a switch.
    pub(super) value: Option<&'static str>,
    /// What it does.
    pub(super) help: Cow<'static, str>,
    /// What holds where nobody sets it.
    pub(super) default: Fallback,
    /// Whether its value may be shown.
    pub(super) shown: Shown,
}

/// What holds where nobody sets something.
#[derive(Debug, Clone)]
pub(super) enum Fallback {
    /// This text.
    Text(Cow<'static, str>),
    /// It depends.
    Depends {
        /// On what.
        words: &'static str,
        /// A value for the example file.
        example: &'static str,
    },
}

/// Whether a value may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// As it is.
    Whole,
    /// A database URL without its password.
    WithoutPassword,
    /// The word before the colon, if there is one.
    UpToColon,
    /// Not at all.
    Nothing,
}

impl Setting {
    /// Its key in `relay.toml`.
    pub(super) fn key(&self) -> String {
        self.name.replace('-', "_")
    }

    /// The default in words, for the help.
    pub(super) fn default_in_words(&self) -> &str {
        match &self.default {
            Fallback::Text(text) => text,
            Fallback::Depends { words, .. } => words,
        }
    }
}

/// What a relay is.
const PLAIN: &[Setting] = &[
    Setting {
        name: Cow::Borrowed("listen"),
        value: Some("ADDR:PORT"),
        default: text("127.0.0.1:8080"),
        shown: Shown::Whole,
        help: Cow::Borrowed("Where to serve HTTP and WebSocket."),
    },
    Setting {
        name: Cow::Borrowed("public-url"),
        value: Some("URL"),
        default: Fallback::Depends { words: "none", example: "https://relay.example" },
        shown: Shown::Whole,
        help: Cow::Borrowed(
            "How clients reach the relay from outside, where that is not --listen: the address of the proxy in front \
             of it. Printed at the start, and what doctor tries.",
        ),
    },
    Setting {
        name: Cow::Borrowed("store"),
        value: Some("URL"),
        default: Fallback::Depends {
            words: "sqlite:DATA_DIR/relay.db",
            example: "postgres://zerok_relay:PASSWORD@db.example/zerok_relay",
        },
        shown: Shown::WithoutPassword,
        help: Cow::Borrowed("Where to keep the log: sqlite:PATH or postgres://USER:PASSWORD@HOST:PORT/DATABASE."),
    },
    Setting {
        name: Cow::Borrowed("wait-for-store"),
        value: None,
        default: text("false"),
        shown: Shown::Whole,
        help: Cow::Borrowed(
            "At the start, wait for a database that cannot be reached for as long as it takes; otherwise the relay \
             gives up after store_wait_ms.",
        ),
    },
    Setting {
        name: Cow::Borrowed("data-dir"),
        value: Some("DIR"),
        default: Fallback::Depends {
            words: "$XDG_DATA_HOME/zerok-relay, else ~/.local/share/zerok-relay",
            example: "/var/lib/zerok-relay",
        },
        shown: Shown::Whole,
        help: Cow::Borrowed("Keys and the default database. Made if it is not there."),
    },
    Setting {
        name: Cow::Borrowed("key-file"),
        value: Some("FILE"),
        default: Fallback::Depends {
            words: "the database's key on Postgres, else DATA_DIR/relay.key",
            example: "/etc/zerok-relay/relay.key",
        },
        shown: Shown::Whole,
        help: Cow::Borrowed("The relay's Noise key, 64 hexadecimal digits. Clients pin its public half."),
    },
    Setting {
        name: Cow::Borrowed("iroh-port"),
        value: Some("PORT"),
        default: text("0"),
        shown: Shown::Whole,
        help: Cow::Borrowed("UDP port of the iroh endpoint, on the address of --listen. 0 picks a free one."),
    },
    Setting {
        name: Cow::Borrowed("iroh-addr"),
        value: Some("IP:PORT,…"),
        default: Fallback::Depends {
            words: "the endpoint's own addresses",
            example: "203.0.113.7:4433,[2001:db8::7]:4433",
        },
        shown: Shown::Whole,
        help: Cow::Borrowed(
            "Where clients outside reach the iroh endpoint, where a router or a container translates its address.",
        ),
    },
    Setting {
        name: Cow::Borrowed("no-iroh"),
        value: None,
        default: text("false"),
        shown: Shown::Whole,
        help: Cow::Borrowed("Serve WebSocket only."),
    },
    Setting {
        name: Cow::Borrowed("web-root"),
        value: Some("DIR"),
        default: Fallback::Depends { words: "web-demo/dist if it exists", example: "/usr/share/zerok-relay/web" },
        shown: Shown::Whole,
        help: Cow::Borrowed("Directory to serve at /."),
    },
    Setting {
        name: Cow::Borrowed("create"),
        value: Some("WHO"),
        default: text("open"),
        shown: Shown::UpToColon,
        help: Cow::Borrowed("Who may make new logs: open, token:SECRET or closed."),
    },
    Setting {
        name: Cow::Borrowed("metrics-token"),
        value: Some("SECRET"),
        default: Fallback::Depends { words: "none: this machine only", example: "GENERATE-WITH-openssl-rand-hex-32" },
        shown: Shown::Nothing,
        help: Cow::Borrowed(
            "Opens /metrics and /status to other machines, as a bearer token. Better in the environment or the file \
             than as a flag, which every user of this machine can see.",
        ),
    },
    Setting {
        name: Cow::Borrowed("metrics-listen"),
        value: Some("ADDR:PORT"),
        default: Fallback::Depends { words: "with everything else, on --listen", example: "127.0.0.1:9090" },
        shown: Shown::Whole,
        help: Cow::Borrowed("Where to serve /metrics and /status instead."),
    },
    Setting {
        name: Cow::Borrowed("trusted-proxies"),
        value: Some("NETWORKS"),
        default: text("127.0.0.0/8,::1"),
        shown: Shown::Whole,
        help: Cow::Borrowed(
            "Networks of reverse proxies whose word about a client's address is taken, with commas between them. \
             Without it all clients of a proxy share one address's limits.",
        ),
    },
    Setting {
        name: Cow::Borrowed("client-address-header"),
        value: Some("NAME"),
        default: text("x-forwarded-for"),
        shown: Shown::Whole,
        help: Cow::Borrowed(
            "The header in which they tell it: x-forwarded-for, cf-connecting-ip or forwarded. Only the one that the \
             proxy itself writes: others are the client's own words.",
        ),
    },
    Setting {
        name: Cow::Borrowed("log"),
        value: Some("LEVEL"),
        default: text("info"),
        shown: Shown::Whole,
        help: Cow::Borrowed("error, warn, info, debug or trace."),
    },
    Setting {
        name: Cow::Borrowed("log-format"),
        value: Some("FORMAT"),
        default: text("text"),
        shown: Shown::Whole,
        help: Cow::Borrowed("text, or json: one object a line."),
    },
];

const fn text(text: &'static str) -> Fallback {
    Fallback::Text(Cow::Borrowed(text))
}

/// Every setting.
pub(super) static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    let limits = RelayLimits::TABLE.iter().map(|limit| Setting {
        name: limit.name.replace('_', "-").into(),
        value: Some(match limit.unit() {
            Unit::Count => "N",
            Unit::Bytes => "SIZE",
            Unit::Milliseconds => "DURATION",
        }),
        help: limit.reason.into(),
        default: Fallback::Text(limit.unit().show(limit.default).into()),
        shown: Shown::Whole,
    });
    PLAIN.iter().cloned().chain(limits).collect()
});

/// Whether a setting is one of the limits.
pub(super) fn is_limit(setting: &Setting) -> bool {
    RelayLimits::TABLE.iter().any(|limit| limit.name == setting.key())
}

/// The setting of that name, or the one that was probably meant.
pub(super) fn known(name: &str) -> Result<&'static Setting, Option<&'static str>> {
    if let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) {
        return Ok(setting);
    }
    Err(SETTINGS
        .iter()
        .map(|setting| (strsim::jaro_winkler(&setting.name, name), &*setting.name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name))
}
