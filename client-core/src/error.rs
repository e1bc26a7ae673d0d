//! What can stop a client, each with what to do next.

use zerok_sync_protocol::ErrorCode;

/// Why there is no live connection, or why a push waits. Shown in `status`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// No link to the relay.
    #[error("no relay reachable: {0}")]
    Unreachable(String),
    /// The relay answered with another key than the pinned one: not a network failure.
    #[error(
        "the relay at {url} has another key than the one this device knows; if its operator did not announce that, somebody is in between"
    )]
    RelayKeyChanged {
        /// Its address.
        url: String,
    },
    /// First contact over plain http to another machine, without a key to check.
    #[error(
        "{url} is neither https nor on this machine: give its key, too (--relay-key at a terminal), so that nobody in between can pose as it"
    )]
    RelayKeyNeeded {
        /// Its address.
        url: String,
    },
    /// The relay speaks, but not this protocol.
    #[error("what answers there does not speak this protocol: {0}")]
    NotARelay(String),
    /// One side is too old; which, as far as the relay says.
    #[error("the relay and this device have no protocol version in common: {0}")]
    UnsupportedVersion(String),
    /// The relay refused with a code.
    #[error("{} ({number}): {}", code.map_or("the relay refused", ErrorCode::advice), detail, number = number)]
    Refused {
        /// The code, if this version knows it.
        code: Option<ErrorCode>,
        /// Its number.
        number: u16,
        /// What the relay said.
        detail: String,
    },
    /// The group moved to an epoch this device could not open.
    #[error("the group's keys were changed and this device could not follow; pair it again")]
    EpochNotOpened,
    /// The relay says that this device was removed. Its word only: nothing is deleted because of it.
    #[error(
        "the relay says that this device was removed from the group: what it has stays readable here, it gets and sends nothing more; another device of the group can invite it again, into a new home"
    )]
    Revoked,
    /// This device left the group.
    #[error("this device has left the group: what it has stays readable here")]
    Left,
    /// The log, or this device's own receipt at the relay, tells of entries of this device that it did
    /// not write: it was restored from an older copy, or copied.
    #[error(
        "this device was restored from an older copy, or copied: it reads, and sends nothing, so that its history stays in one piece. Invite it again from another device, into a new home, and remove this one there; if it is the group's only device and no other copy of it is in use, approve it"
    )]
    NeedsApproval,
    /// This device is to begin with a snapshot that the relay's log does not have, or not whole.
    #[error(
        "the relay's log does not hold the snapshot that this device is to begin with: start a device that has it, or make a new invitation"
    )]
    SnapshotUnusable,
    /// The relay's log begins later than this device has read, and holds no snapshot that stands for what
    /// comes before; another device may put one back, and it is looked for again.
    #[error(
        "the relay no longer has what came first since this device was last here, nor a snapshot that stands for it: start a device that has it; until then it is missing here, and is looked for again"
    )]
    SnapshotAwaited,
    /// The relay has no log of this group, and this device nothing to make one of.
    #[error(
        "the relay no longer has this group's log, and this device has read nothing to put back: start a device that has"
    )]
    LogGone,
    /// An entry needs a newer version of this software.
    #[error("another device of the group runs a newer version: update this device")]
    UpdateNeeded,
    /// The relay's answer breaks the protocol.
    #[error("the relay sent something it must not send: {0}")]
    ProtocolViolation(&'static str),
}

/// Why a blob was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// Larger than any number of parts may be.
    #[error("this blob is {bytes} bytes; the limit is {bytes_max}: split it")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The machine stopped after a storage failure.
    #[error("this device's storage failed earlier; reopen the client")]
    Stopped,
    /// This device is leaving, or has left.
    #[error("this device has left the group: nothing more can be sent from here")]
    Left,
}

/// Why a whisper was not said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WhisperError {
    /// Longer than [`crate::statement::WHISPER_BODY_BYTES_MAX`].
    #[error("this whisper is {bytes} bytes; the limit is {bytes_max}: push it instead")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// No relay is there, this device has not caught up with it, or it is the group's only one.
    #[error("nobody can hear that now: this device is not connected, or the group has no other device")]
    NotConnected,
    /// Too many in a second.
    #[error("this device whispers too often: wait a second")]
    TooOften,
}

/// Why no snapshot was made. Nothing was queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompactError {
    /// Larger than a snapshot can be.
    #[error("this state is {bytes} bytes; a snapshot holds {bytes_max}: leave out what the app can make anew")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The state cannot hold what the app has not been given.
    #[error(
        "entries up to position {position} are here that the app has not processed: process them, then make the snapshot"
    )]
    NotProcessed {
        /// The newest of them.
        position: u64,
    },
    /// Something is missing here, or on its way.
    #[error(
        "this device does not have all that the group has, or the relay not all of its own: try again when it has caught up"
    )]
    NotCaughtUp,
    /// One is being made.
    #[error("a snapshot is being made already")]
    UnderWay,
    /// More devices and changes of keys than a snapshot has room for.
    #[error("the group has seen more devices or changes of keys than a snapshot can hold: begin a new group")]
    TooMuchHistory,
    /// This device does not act for the group now.
    #[error(transparent)]
    Membership(#[from] MembershipError),
}

/// Why a change to the group was not begun. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// No device has this name or identity.
    #[error("no device of the group is called {0:?} or has an identity that begins so: see the list of devices")]
    NoSuchDevice(String),
    /// More than one has.
    #[error("{given:?} could be any of {}: give more of the identity", candidates.join(", "))]
    Ambiguous {
        /// What was given.
        given: String,
        /// Whom it fits.
        candidates: Vec<String>,
    },
    /// A device does not remove itself.
    #[error("that is this device itself: to take it out of the group, leave")]
    OwnDevice,
    /// Nothing is wrong with this device.
    #[error("there is nothing to approve: this device may write")]
    NothingToApprove,
    /// Who is to be sure that no copy writes as well is a person at another device.
    #[error(
        "the group has other devices: invite this one again from one of them, into a new home, and remove this one there"
    )]
    NotAlone,
    /// There is nobody to leave to.
    #[error("this is the group's only device: there is no group to leave, remove its data instead")]
    LastDevice,
    /// There is no place for the paper.
    #[error(
        "the group has as many devices as it can have, and recovery words take the place of one: remove a device first"
    )]
    GroupFull,
    /// Words that are, or were, a device of the group.
    #[error("these recovery words were used in this group before: make new ones")]
    WordsUsed,
    /// Words that were made before are still on their way.
    #[error(
        "recovery words were made on this device a moment ago and are still being enrolled: let it reach the relay"
    )]
    WordsUnderWay,
    /// Not a name.
    #[error("a device's name has 1 to 64 characters on one line, without control characters")]
    NotAName,
    /// This device has not caught up with the group it joined, or must not write.
    #[error("this device is not fully in the group yet: let it reach the relay first")]
    NotYet,
    /// What stands at one of the group's relays was not read yet.
    #[error(
        "{relay} was not read to its end, and what this device wrote may stand there: try again when it can be reached, or, if it is gone for good, remove it from the group's relays first"
    )]
    RelayUnread {
        /// Its address.
        relay: String,
    },
    /// This device is leaving, or has left.
    #[error("this device has left the group")]
    Left,
    /// A relay lets this device in, or none was heard that does not.
    #[error(
        "no relay has shut this device out, or another one still lets it in: nothing has to be founded anew. To remove a device, revoke it; if the home relay is gone or shuts this device out, make another one the home relay"
    )]
    NotNeeded,
    /// The machine stopped after a storage failure.
    #[error("this device's storage failed earlier; reopen the client")]
    Stopped,
}

/// Why the group's list of relays was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelaysError {
    /// Not an address.
    #[error("{0:?} is no relay's address: give https://HOST or http://HOST:PORT")]
    NotAnAddress(String),
    /// Over plain http to another machine there has to be a key to check.
    #[error("{0} is neither https nor on this machine: give its key, so that nobody in between can pose as it")]
    KeyNeeded(String),
    /// It carries the group already.
    #[error("{0} is one of the group's relays already")]
    Listed(String),
    /// It does not.
    #[error("{0} is none of the group's relays: see the list of relays")]
    NotListed(String),
    /// There are as many as a group can have.
    #[error("a group has at most {0} relays: remove one first")]
    TooMany(usize),
    /// A group has a relay.
    #[error("this is the group's only relay: add another one first")]
    LastRelay,
    /// This device may not change the group.
    #[error(transparent)]
    Membership(#[from] MembershipError),
}

/// Why pairing ended without a new device. Nothing was handed over unless it says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The invitation was used, cancelled, or is too old.
    #[error("this invitation was used, cancelled or has expired: ask for a new one")]
    InviteGone,
    /// The other side does not hold the invitation's secret, or somebody in between changed bytes.
    #[error("the two devices do not hold the same invitation: make a new one and do not let it pass through others")]
    WrongSecret,
    /// As [`Self::WrongSecret`], with a code: a valid one, but not the one that was shown.
    #[error(
        "the code that was typed is not the one that the inviting device shows, and a code is good for one try: make a new invitation"
    )]
    WrongCode,
    /// No mailbox with this code.
    #[error(
        "there is no invitation with this code at {relay}: it was used, cancelled or has expired, or the inviting device uses another relay. Ask for a new code, and which relay it is at"
    )]
    NoSuchCode {
        /// Where it was looked for.
        relay: String,
    },
    /// The person at the inviting device said no.
    #[error(
        "the inviting device turned the other one away: nothing was handed over. If that was not meant, make a new invitation"
    )]
    Declined,
    /// What was typed at the inviting device is not what the joining one shows.
    #[error(
        "the digits typed at the inviting device are not the ones that the joining device shows: nothing was handed over. If it was no slip, somebody tried to come in between. Make a new invitation"
    )]
    WrongDigits,
    /// The person at the joining device did not want to be in this group.
    #[error(
        "the other device did not join after all. It was given the group's keys: if you do not know whose it is, change the group's keys"
    )]
    Refused,
    /// The invitation's time ran out.
    #[error("nobody came in time: make a new invitation")]
    Expired,
    /// Cancelled on this device.
    #[error("cancelled")]
    Cancelled,
    /// The joining device went away before it was let in.
    #[error("the other device gave up before it was let in: make a new invitation")]
    PeerLeft,
    /// The keys were handed over and nothing came back.
    #[error(
        "the other device was given the group's keys but did not confirm that it stored them: it may still appear among the devices; if it must not, change the group's keys"
    )]
    Unconfirmed,
    /// The other side sent what no honest device sends.
    #[error("the other device sent something that does not fit: {0}")]
    Invalid(&'static str),
    /// The link has gone while it was needed and could not be had again.
    #[error("{0}")]
    Relay(#[from] Problem),
    /// This device is in a group already.
    #[error("this device is in a group already: use another home, or leave first")]
    AlreadyInGroup,
    /// What it wrote is not all there as entries.
    #[error(
        "part of what this device wrote is in a snapshot only and cannot be brought along: join without it, then push what the app has"
    )]
    OnlyInSnapshot,
}

/// Why stored state cannot be opened. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There is no group in this storage.
    #[error("there is no group here yet: create one or join one")]
    NoGroup,
    /// Rows are damaged or were written under another store key.
    #[error(
        "the local database is damaged or belongs to another key ({0}): restore it from a backup, or join again in a new place"
    )]
    Corrupt(&'static str),
    /// Written by a newer version.
    #[error("the local database was written by a newer version ({found}, this one knows {known}): update")]
    Newer {
        /// Its format.
        found: u32,
        /// The newest known here.
        known: u32,
    },
}
