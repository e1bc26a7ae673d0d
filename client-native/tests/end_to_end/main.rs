//! The real `zerok`, the real library and a real `zerok-relay` process: nothing is simulated here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bad_input;
mod bringing;
mod caught;
mod client;
mod compaction;
mod crash;
mod cut_off;
mod dropped;
mod exported;
mod forks;
mod gate;
mod healing;
mod invitation;
mod locked;
mod main_job;
mod membership;
mod offline;
mod reading;
mod receipts;
mod recovery;
mod relays;
mod rolled_back;
mod secrecy;
#[cfg(all(unix, feature = "serve"))]
mod serving;
mod shrinking;
mod support;
mod suspicion;
mod tampering;
#[cfg(unix)]
mod words_replaced;
