//! The sans-IO 0k-Sync client.
