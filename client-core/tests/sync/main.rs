//! The engine against a relay, in virtual time: the rules of the protocol by name.

mod batches;
mod branches;
mod byzantine;
mod copies;
mod delivery;
mod epochs;
mod false_snapshots;
mod false_words;
mod granted;
mod healing;
mod hostile_members;
mod invitations;
mod losses;
mod pages;
mod pairing;
mod presence;
mod receipts;
mod reconnecting;
mod recovery;
mod refusals;
mod relays;
mod rotations;
mod shrinking;
mod snapshots;
mod truncation;
mod writing;
