//! Devices, a relay and a network in one virtual time: no sleeping, no chance but the seed's.
//!
//! The devices are real engines and joiners of `client-core`, driven exactly as [`zerok_sync_core::io`]
//! asks. The relay speaks the real channel and the real frames with its log in memory. Links,
//! disks and clocks are simulated, with the faults that [`Conditions`] and the methods of [`World`]
//! ask for. Two worlds of one seed and the same calls are the same, byte for byte.

mod defect;
mod device;
mod dice;
mod happening;
mod network;
pub mod relay;
pub mod trace;
mod world;

pub use defect::Defect;
pub use device::{Clock, Device, Disk, Running};
pub use dice::Dice;
pub use network::{Network, Parcel, Run};
pub use world::{Conditions, Loss, Other, World};
