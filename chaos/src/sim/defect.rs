//! Faults that no honest world has, planted to see a checker find them.

/// One planted defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// A disk that confirms a batch before it has it, and loses it in a crash.
    DiskLosesConfirmedCommit,
    /// A disk that carries out two batches in the wrong order.
    DiskSwapsCommits,
    /// A driver that confirms every commit twice, the second time in the middle of the next one.
    DriverConfirmsEarly,
    /// A device whose disk drops an entry's row.
    DiskDropsEntry,
    /// A driver that does not tell the app of new entries.
    DriverLosesDoorbell,
    /// A driver that hands the app's position back too low after a restart.
    AppReadsProcessedAgain,
    /// A relay that delivers some cursors twice.
    RelayDeliversTwice,
    /// A relay that leaves some cursors out.
    RelaySkipsEntry,
    /// A relay that acknowledges some entries without storing them.
    RelayAcksWithoutStoring,
    /// A relay that stores a resent entry again.
    RelayStoresTwice,
    /// A relay that says it shuts a device out, and goes on taking what it pushes.
    RelayKeepsRemoved,
    /// A relay that rotates without comparing generations.
    RelayRotatesTwice,
    /// A relay that does not replace what has rotted.
    RelayKeepsRot,
    /// A relay that moves its floor higher than it was asked to.
    RelayGivesUpMore,
    /// A relay that says it has whatever it is asked for.
    RelayClaimsToHaveAll,
}
