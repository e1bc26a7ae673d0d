//! The engine against a relay, in virtual time: the rules of the protocol by name.

mod byzantine;
mod delivery;
mod epochs;
mod pairing;
mod reconnecting;
mod writing;
