//! The 0k-Sync relay.

pub mod store;
