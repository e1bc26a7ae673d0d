//! The real thing in processes of its own: the relay's binary, a Postgres, what stands in front of
//! them, all of which can be killed and started again where they were.
//!
//! A [`Deployment`] is what an operator runs: a store, one relay or two, one address for clients.
//! Whatever is started here ends with the value that started it.

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
