//! 0k-Sync in the browser.
