//! 0k-Sync in the browser: drives `zerok-sync-core` from JavaScript. No protocol decision lives here.
//!
//! The WebSocket is driven on this side ([`socket`]), because its messages go straight into the
//! machine and out of it. IndexedDB, timers, locks and page events are driven by the package's
//! TypeScript, through the narrow [`host`] interface: storage in the browser is promises, and
//! promises and their cleanup are written most plainly where they are native.
//!
//! [`driver`] runs the loop that the core prescribes for all machines; [`engine`], [`joiner`]
//! and [`recovery`] hold the classes that JavaScript sees; [`convert`] makes plain objects of the core's types and [`packed`] one piece of many entries, [`lock`] is the key under a passphrase, [`export`] a file with everything, [`former`] what a
//! device had before it joined, [`audit`] a check of what it has.

mod audit;
mod clock;
mod convert;
mod driver;
mod engine;
mod export;
mod failure;
mod former;
mod host;
mod joiner;
mod lock;
mod packed;
mod qr;
mod recovery;
mod socket;
#[cfg(feature = "vectors")]
mod vectors;
