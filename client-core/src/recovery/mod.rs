//! Recovery without an account: 24 words on paper that are a device of the group.
//!
//! [`words`] turns entropy into words and what people type back into entropy, [`typing`] looks at
//! what they have typed so far; [`anchor`] is what the paper's slot at a relay holds, sealed under
//! the words: the trust root of a restore; [`sheet`] prints both words and relays; [`restorer`] is a
//! fresh machine from the words to a stored membership. Enrolling the paper is the engine's
//! (`engine/recovering.rs`).
//!
//! Invariants: the words are the paper's membership seed and nothing else is derived from them but
//! the anchor's key; nothing of a relay's is believed before an anchor opened; words are wiped on
//! drop and print as `[redacted]`.

pub mod anchor;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub mod restorer;
pub mod sheet;
pub mod typing;
#[cfg(any(test, feature = "vectors"))]
pub(crate) mod vectors;
pub mod words;

use crate::certificate::DeviceName;
use crate::id::DeviceId;

/// What the paper is called among the group's devices.
const PAPER_NAME: &str = "recovery words";

/// The paper's name.
pub(crate) fn paper_name() -> DeviceName {
    DeviceName::cleaned(PAPER_NAME)
}

/// How a group stands towards the loss of all its devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// No words: whoever loses every device loses the group.
    None,
    /// Words were made, and are not good yet: they are being enrolled.
    UnderWay,
    /// There are words that bring the group back.
    Ready {
        /// The clock of the device that made them, Unix milliseconds.
        made_at_ms: u64,
        /// That device, which the sheet names, too: other words than its are void. Nothing for one that
        /// is no member of the group any more.
        made_by: Option<DeviceId>,
    },
}
