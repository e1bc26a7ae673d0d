//! The soak: real clients at a steady load on a real relay, whose processes are killed again and
//! again; and what must hold in the end.

pub mod check;
pub mod trace;
