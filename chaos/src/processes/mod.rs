//! The real thing in processes of its own: the relay's binary, a Postgres, what stands in front of
//! them, all of which can be killed and started again where they were.
//!
//! A [`Deployment`] is what an operator runs: a store, one relay or two, one address for clients.
//! Whatever is started here ends with the value that started it: whoever runs it listens for
//! signals ([`told_to_stop`]), which would end the program and drop nothing.

pub mod binary;
pub mod database;
pub mod deployment;
pub mod proxy;
pub mod relay;
pub mod vitals;

pub use database::Database;
pub use deployment::{Deployment, Store};
pub use proxy::Proxy;
pub use relay::RelayProcess;
pub use vitals::Vitals;

/// Waits for SIGTERM or SIGINT, and says so.
pub async fn told_to_stop() -> anyhow::Error {
    use tokio::signal::unix::{SignalKind, signal};

    let (mut terminate, mut interrupt) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(error), _) | (_, Err(error)) => return anyhow::Error::new(error).context("cannot listen for signals"),
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    anyhow::anyhow!("told to stop; what was started is ended")
}
