//! 0k-Sync for desktop and server applications.

mod home;
mod storage;

pub use storage::StorageError;
