//! The 0k-Sync relay: stores and forwards what it cannot read.
//!
//! It orders sealed envelopes in a log per group and streams them to the group's devices, over
//! WebSocket and iroh alike. It never depends on `zerok-sync-core`: the code that could open an
//! envelope is not in the binary.
//!
//! To run one inside another program or a test:
//!
//! ```no_run
//! use zerok_sync_relay::{Config, Relay};
//!
//! # async fn embed() -> Result<(), Box<dyn std::error::Error>> {
//! let relay = Relay::start(Config::in_dir("data")).await?;
//! println!("ws://{}/v1/ws, key {}", relay.addr, relay.noise_key);
//! relay.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! In the order in which data flows: [`link`] (what the WebSocket and iroh listeners feed) →
//! [`session`] (the protocol) → [`writer`] (group commit) → [`store`] (the log) → [`hub`] (doorbells to the other sessions).

pub mod admission;
pub mod archive;
pub mod clock;
pub mod config;
pub mod core;
mod cut_off;
pub mod doctor;
pub mod doorbell;
pub mod gc;
mod history;
mod http;
pub mod hub;
pub mod identity;
mod iroh;
mod keys;
pub mod limits;
pub mod link;
pub mod logging;
pub mod metrics;
pub mod opening;
pub mod redacted;
mod relay;
mod serve;
mod server;
pub mod session;
pub mod store;
mod store_log;
mod supervision;
mod systemd;
mod websocket;
pub mod writer;

pub use crate::core::CreatePolicy;
pub use config::{Config, StoreConfig};
pub use keys::KeyError;
pub use limits::RelayLimits;
pub use relay::{Relay, RunningRelay, StartError};
pub use serve::{ServeError, serve};
pub use supervision::Defect;
