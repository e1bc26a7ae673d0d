//! The relay's log: lines on stderr, as text or as one JSON object each.
//!
//! Only this crate's own events: those of libraries hold addresses and ids at some level or other,
//! and a level is what an operator turns up in a hurry. What this crate itself logs about a client
//! is [`crate::redacted::Redacted`]. A panic is a line like any other, of where it happened: what it
//! would say may quote what it stumbled over.

use std::io;
use std::panic::PanicHookInfo;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// What a log line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one object a line.
    Json,
}

/// Not a log format.
#[derive(Debug, thiserror::Error)]
#[error("not a log format")]
pub struct UnknownLogFormat;

impl FromStr for LogFormat {
    type Err = UnknownLogFormat;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(UnknownLogFormat),
        }
    }
}

/// Starts to log, for the whole process.
///
/// # Panics
/// If the process logs already.
pub fn start(level: LevelFilter, format: LogFormat) {
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(false);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
    };
    std::panic::set_hook(Box::new(log_panic));
    let own = Targets::new().with_target(env!("CARGO_CRATE_NAME"), level);
    tracing_subscriber::registry().with(lines.with_filter(own)).init();
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(place, text = text_of(panic.payload()), "a panic: a defect of the relay, please report it");
}

/// A text that stands in the program as it is.
fn text_of(payload: &dyn std::any::Any) -> &'static str {
    payload.downcast_ref().copied().unwrap_or("[redacted]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_panic_only_what_stands_in_the_program_is_logged() {
        let address = std::net::Ipv4Addr::new(192, 0, 2, 7);
        let of = |panic: fn(std::net::Ipv4Addr)| {
            let payload = std::panic::catch_unwind(|| panic(address)).expect_err("it panics");
            text_of(&*payload)
        };
        assert_eq!(of(|_| panic!("a loop ended")), "a loop ended");
        assert_eq!(of(|address| panic!("{address} has no place")), "[redacted]");
    }
}
