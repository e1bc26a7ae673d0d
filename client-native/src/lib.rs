//! 0k-Sync for desktop and server applications.
