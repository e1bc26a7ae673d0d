//! Everything that can go wrong, on purpose and repeatably.
//!
//! [`sim`] is the deterministic simulation; each scenario of the catalogue that lives in it is
//! found by its id through [`catalogue`].

pub mod catalogue;
mod scenarios;
pub mod sim;
pub mod trial;
