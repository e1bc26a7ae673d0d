//! The 0k-Sync client without any I/O.

pub mod error;
pub mod event;
pub mod id;
pub mod io;
pub mod link;
pub mod origin;
pub mod relay_link;
