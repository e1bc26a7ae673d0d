//! Everything that can go wrong, on purpose and repeatably.
//!
//! ```text
//! cargo run -p zerok-sync-chaos -- list
//! cargo run -p zerok-sync-chaos -- run H-HONEST --seed 7          what a failure prints
//! cargo run --release -p zerok-sync-chaos -- run H-HONEST --seeds 100000
//! ```
//!
//! [`sim`] is the deterministic world: real engines of `client-core`, a relay in memory, simulated
//! links, disks and clocks. [`trial`] puts it through a plan of faults and checks that nothing was
//! lost, doubled, reordered, forked or raised. [`catalogue`] names the scenarios. Each check is
//! itself checked: a [`sim::Defect`] planted into the world must be found. [`tested`] knows the rows
//! that are played in the tests of the crate that they are about. [`load`] is for speed:
//! real relays, as many clients as wanted, figures with their conditions.

pub mod catalogue;
pub mod load;
pub mod process_scenarios;
pub mod processes;
mod scenarios;
pub mod sim;
pub mod soak;
pub mod tested;
pub mod trial;
