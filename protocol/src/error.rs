//! The stable error codes of the protocol: what happened, whose doing it is, and what to do next.

/// What a session or an item can be refused with. The numbers never change meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
#[non_exhaustive]
pub enum ErrorCode {
    /// The peer sent bytes that are not a message of this protocol.
    InvalidMessage = 1000,
    /// The relay knows no such log, or none that this key may open.
    UnknownLog = 1001,
    /// The proof of membership does not hold, or the frame is not for this kind of session.
    Unauthorized = 1002,
    /// The relay says this device was removed from the group.
    DeviceRevoked = 1003,
    /// One side is too old; `detail` says which.
    UnsupportedVersion = 1004,
    /// The envelope's bytes do not hash to the id they are known by.
    BlobIdMismatch = 1005,
    /// The pairing mailbox is gone, full, expired or already joined.
    MailboxGone = 1006,
    /// This relay does not create logs for this client.
    CreationRefused = 1007,
    /// Another device rotated or created first.
    RotationConflict = 1008,
    /// The relay's log no longer holds what this device read at that cursor.
    Diverged = 1009,
    /// An earlier push of this session was refused; later ones wait for `resume`.
    OutOfOrder = 1010,
    /// The cursor asked for lies below the log's floor.
    BelowFloor = 1011,
    /// Too many requests; wait `retry_after`.
    RateLimited = 2000,
    /// The envelope is larger than the relay's `envelope_bytes_max`.
    EnvelopeTooLarge = 2001,
    /// The group's log is full at this relay.
    GroupQuotaExceeded = 2002,
    /// Too many connections from this address, or too many devices in the group.
    TooManyConnections = 2003,
    /// The relay is busy; wait `retry_after`.
    Overloaded = 3000,
    /// The relay is going away; reconnect after `retry_after`.
    ShuttingDown = 3001,
    /// The relay cannot reach its disk or database; nothing was stored.
    StorageUnavailable = 3002,
}

/// What an error ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Trying again unchanged cannot help.
    Fatal,
    /// The same request may succeed later.
    Retryable,
    /// One item of a request was refused; the session goes on.
    Item,
}

/// Whose doing an error is, as far as its receiver can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The client, or the person in front of it.
    Client,
    /// The relay or its operator.
    Relay,
    /// Nobody: load, races, maintenance.
    Circumstance,
}

impl ErrorCode {
    /// Every code, in numeric order.
    pub const ALL: [Self; 19] = [
        Self::InvalidMessage,
        Self::UnknownLog,
        Self::Unauthorized,
        Self::DeviceRevoked,
        Self::UnsupportedVersion,
        Self::BlobIdMismatch,
        Self::MailboxGone,
        Self::CreationRefused,
        Self::RotationConflict,
        Self::Diverged,
        Self::OutOfOrder,
        Self::BelowFloor,
        Self::RateLimited,
        Self::EnvelopeTooLarge,
        Self::GroupQuotaExceeded,
        Self::TooManyConnections,
        Self::Overloaded,
        Self::ShuttingDown,
        Self::StorageUnavailable,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The code of a number, if this version knows it.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.number() == number)
    }

    /// What the error ends.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self {
            Self::InvalidMessage
            | Self::UnknownLog
            | Self::Unauthorized
            | Self::DeviceRevoked
            | Self::UnsupportedVersion
            | Self::MailboxGone
            | Self::CreationRefused => Severity::Fatal,
            Self::RotationConflict
            | Self::Diverged
            | Self::BelowFloor
            | Self::RateLimited
            | Self::TooManyConnections
            | Self::Overloaded
            | Self::ShuttingDown
            | Self::StorageUnavailable => Severity::Retryable,
            Self::BlobIdMismatch | Self::OutOfOrder | Self::EnvelopeTooLarge | Self::GroupQuotaExceeded => {
                Severity::Item
            }
        }
    }

    /// Whose doing it is.
    #[must_use]
    pub const fn blame(self) -> Blame {
        match self {
            Self::Diverged | Self::StorageUnavailable => Blame::Relay,
            Self::RotationConflict
            | Self::RateLimited
            | Self::TooManyConnections
            | Self::Overloaded
            | Self::ShuttingDown => Blame::Circumstance,
            _ => Blame::Client,
        }
    }

    /// What to do about it, for a person.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::InvalidMessage => "one side sent something the other cannot read; update both",
            Self::UnknownLog => "this relay has no such group; check the relay's address",
            Self::Unauthorized => "the relay did not accept this device's proof of membership",
            Self::DeviceRevoked => {
                "the relay says this device was removed; ask another device of the group, local data is kept"
            }
            Self::UnsupportedVersion => "update the older side",
            Self::BlobIdMismatch => "the data was damaged on its way; it will be sent again",
            Self::MailboxGone => "this invitation was used, cancelled or has expired; ask for a new one",
            Self::CreationRefused => "this relay does not take new groups; ask its operator for a token",
            Self::RotationConflict => "another device changed the group at the same moment; it is tried again",
            Self::Diverged => "the relay lost or changed data this device had read; another device may repair it",
            Self::OutOfOrder => "an earlier push was refused; this one waits for it",
            Self::BelowFloor => "the relay no longer keeps entries this old",
            Self::RateLimited => "too much at once: try again in a while (a running app does so by itself)",
            Self::EnvelopeTooLarge => "this blob is larger than the relay accepts",
            Self::GroupQuotaExceeded => "the group's space at this relay is used up; compact it or ask the operator",
            Self::TooManyConnections => "too many connections or devices; close some",
            Self::Overloaded => "the relay is busy: try again in a moment (a running app does so by itself)",
            Self::ShuttingDown => "the relay is restarting: try again in a moment (a running app does so by itself)",
            Self::StorageUnavailable => {
                "the relay cannot write to its disk or database; nothing was lost, tell its operator"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_keeps_its_number() {
        let numbers: Vec<u16> = ErrorCode::ALL.iter().map(|code| code.number()).collect();
        assert_eq!(
            numbers,
            [
                1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 2000, 2001, 2002, 2003, 3000,
                3001, 3002
            ]
        );
        assert!(ErrorCode::ALL.iter().all(|&code| ErrorCode::from_number(code.number()) == Some(code)));
        assert_eq!(ErrorCode::from_number(4711), None);
    }
}
