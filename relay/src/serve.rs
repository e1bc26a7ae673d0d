//! A relay as a program's whole business: one line on stdout once it is ready, logs on stderr. SIGTERM
//! or SIGINT end it in order, a second one at once; a defect ends it in order, too, with an error.
//!
//! `zerok-relay` and `zerok serve` both are this.

use std::io::{self, Write};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Settings;
use crate::logging::{self, LogFormat};
use crate::supervision::Defect;
use crate::systemd;
use crate::{Relay, RunningRelay, StartError};

/// Why a relay did not start, or did not end because somebody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The process gets no signals, or nobody can be told that it is ready.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It ended by itself.
    #[error(transparent)]
    Defect(#[from] Defect),
}

/// Runs a relay until a signal ends it. Logs for the whole process from now on.
///
/// # Errors
/// [`ServeError`]. Whoever runs the process starts it again after a defect.
///
/// # Panics
/// If the process logs already.
pub async fn serve(Settings { config, log, log_format, .. }: Settings) -> Result<(), ServeError> {
    logging::start(log, log_format);
    raise_descriptor_limit();
    let public_url = config.public_url.clone();
    // Before anything is announced: a signal right after it must be heard.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut asked_to_stop = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let relay = tokio::select! {
        started = Relay::start(config) => started?,
        () = asked_to_stop() => return Ok(()),
    };
    announce(&relay)?;
    if log_format == LogFormat::Text {
        invite(&relay, public_url.as_deref());
    }
    systemd::tell("READY=1");
    let ended = tokio::select! {
        () = asked_to_stop() => Ok(()),
        defect = relay.failed() => Err(defect.into()),
    };
    systemd::tell("STOPPING=1");
    tokio::select! {
        () = relay.shutdown() => {}
        // Nothing acknowledged is lost: it is on disk, and clients come back with the rest.
        () = asked_to_stop() => tracing::warn!("stopping at once"),
    }
    ended
}

/// Programs are started with a low soft limit, for the sake of old ones that cannot count further;
/// a connection is a descriptor.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

fn announce(relay: &RunningRelay) -> io::Result<()> {
    let RunningRelay { addr, noise_key, iroh_endpoint_id, .. } = relay;
    let iroh = iroh_endpoint_id.as_deref().unwrap_or("none");
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "ready http://{addr} key={noise_key} iroh={iroh}")?;
    stdout.flush()
}

/// Says to a person where to go. Among log lines for programs it would be one that is none.
fn invite(relay: &RunningRelay, public_url: Option<&str>) {
    let addr = relay.addr;
    let host = if addr.ip().is_unspecified() { "127.0.0.1".to_owned() } else { addr.ip().to_string() };
    let host = if addr.is_ipv6() && !addr.ip().is_unspecified() { format!("[{host}]") } else { host };
    let local = format!("http://{host}:{}", addr.port());
    eprintln!("open {} in a browser", public_url.unwrap_or(&local));
}
