//! The 0k-Sync client without any I/O.

pub mod error;
pub mod event;
pub mod id;
pub mod io;
