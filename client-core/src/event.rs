//! What the core tells the app: doorbells, answers, and accusations with their evidence.

use bytes::Bytes;
use zerok_sync_protocol::{BlobId, NoisePublicKey, wire_enum};

use crate::error::{JoinError, Problem};
use crate::id::DeviceId;
use crate::invite::Invite;
use crate::io::StorageFault;
use crate::pairing::Digits;
use crate::recovery::restorer::RestoreError;

/// Something the app may want to know. Entries themselves are never in an event: they are read
/// from storage at the app's own pace, so a slow app costs no memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// `Engine::status` changed.
    StatusChanged,
    /// Entries up to this local position can be read.
    EntriesAvailable {
        /// Highest position stored.
        position: u64,
    },
    /// Every push up to this number is durable on this device.
    PushesStored {
        /// Highest push number.
        push: u64,
    },
    /// Every push up to this number is durable at the relay.
    PushesAcked {
        /// Highest push number.
        push: u64,
    },
    /// Every push up to this number is durable on every other device, as each has said in a receipt or
    /// an entry that it signed. While there is no other device: durable at the relay.
    PushesEverywhere {
        /// Highest push number.
        push: u64,
    },
    /// The log has outgrown its snapshot: a new one makes it shorter for whoever comes. See
    /// `Engine::compact`.
    CompactionAdvised {
        /// Bytes that came since the last one.
        log_bytes: u64,
        /// Bytes of that.
        snapshot_bytes: u64,
    },
    /// The snapshot asked for is durable on this device, and is sent like this push.
    SnapshotQueued {
        /// Its number.
        push: u64,
    },
    /// This device was away for longer than a relay keeps the log: the entry at this position is a
    /// snapshot that takes the place of the app's state. What it does not hold comes behind it, own
    /// entries too.
    Reset {
        /// Of the snapshot.
        position: u64,
    },
    /// Every position up to this one counts as processed, also after a crash.
    ProcessedStored {
        /// Highest position.
        position: u64,
    },
    /// A push was refused for good; it stays in the outbox until the cause is gone.
    PushRefused {
        /// Its number.
        push: u64,
        /// Why.
        problem: Problem,
    },
    /// A mailbox is open: show this to the joining device.
    InviteReady {
        /// The link or the code; holds the pairing secret.
        invite: Invite,
        /// Life in milliseconds.
        expires_in_ms: u64,
    },
    /// Somebody holding the link or code is there: say what it would be given, ask the person for
    /// the two digits it shows, then call `Engine::answer_joiner`.
    JoinerWaiting {
        /// What the joining device calls itself. Untrusted text.
        name: String,
        /// How many of the app's entries it could read, to begin with.
        entries: u64,
        /// Whose group it would be in: the names of its devices.
        members: Vec<String>,
    },
    /// The device was let in and has stored what it needs.
    InviteAccepted {
        /// Its identity in this group.
        device: DeviceId,
        /// Its name.
        name: String,
    },
    /// The invitation ended without a new device.
    InviteFailed(JoinError),
    /// Joining: show these two digits.
    ShowDigits {
        /// The inviting person types them.
        digits: Digits,
    },
    /// Joining: the inviting person let this device in. Ask this one's, then call
    /// `Joiner::confirm` or `Joiner::cancel`; nothing is stored before.
    ConfirmJoin {
        /// What the inviting device calls itself. Untrusted text.
        inviter: String,
        /// Where the group's log is kept.
        relay: String,
        /// The names of the group's devices.
        members: Vec<String>,
    },
    /// Joining: the group's state is stored; open an `Engine` on it.
    Joined,
    /// Joining ended without a group; nothing was stored.
    JoinFailed(JoinError),
    /// Restoring: the group's state is stored; open an `Engine` on it.
    Restored,
    /// Restoring ended without a group; nothing was stored.
    RestoreFailed(RestoreError),
    /// A device became a member.
    MemberJoined {
        /// Its identity.
        device: DeviceId,
        /// Its name.
        name: String,
    },
    /// A device is no member any more.
    MemberRemoved {
        /// Its identity.
        device: DeviceId,
        /// What it was called.
        name: String,
    },
    /// The group's keys were changed.
    KeysChanged {
        /// By whom.
        by: DeviceId,
    },
    /// This device's last entry is at the relay: it has left the group and is offline.
    Left,
    /// The relay admits a device that no member is: one that is being let in, or one that the relay
    /// has put there. The next change of keys shuts it out.
    UnknownDeviceAtRelay {
        /// The relay's address.
        relay: String,
        /// As the relay knows it.
        noise_key: NoisePublicKey,
    },
    /// Another device that is there says something of the app's, which is stored nowhere.
    Whispered {
        /// Who.
        device: DeviceId,
        /// What.
        data: Bytes,
    },
    /// A relay lacks something that this device has, and gets it back.
    Repairing {
        /// Its address.
        relay: String,
        /// Envelopes compared so far.
        examined: u64,
        /// Envelopes put back so far.
        uploaded: u64,
        /// Nothing is left to do.
        done: bool,
    },
    /// Entries of another device that nobody has any more were given up, on the word of a person at
    /// one of the devices: this one goes on with what that device wrote behind them.
    EntriesGivenUp {
        /// Whose.
        device: DeviceId,
        /// First of them.
        from_seq: u64,
        /// Last of them.
        to_seq: u64,
    },
    /// A relay or a member did something an honest one does not do.
    Integrity(IntegrityEvent),
    /// Storage failed: the machine has stopped, memory is ahead of disk. Open it again.
    StorageFailed(StorageFault),
}

wire_enum! {
    /// What was found and the evidence for it. An honest relay with any fault raises none of these.
    #[non_exhaustive]
    pub enum IntegrityEvent {
        /// The bytes at a cursor do not hash to their id, or do not authenticate.
        0 => Corrupt {
            /// Cursor at the relay.
            cursor: u64,
            /// What the relay called it.
            blob_id: BlobId,
        },
        /// The relay numbered an entry and cannot produce it.
        1 => Lost {
            /// Cursor at the relay.
            cursor: u64,
            /// Its id, if the relay still says.
            blob_id: Option<BlobId>,
        },
        /// Entries of one device are missing between what was received.
        2 => Gap {
            /// Whose.
            sender: DeviceId,
            /// First missing sequence number.
            from_seq: u64,
            /// Last missing sequence number.
            to_seq: u64,
        },
        /// Two validly signed entries of one device claim the same sequence number.
        3 => ForkedDevice {
            /// Whose.
            sender: DeviceId,
            /// Sequence number.
            seq: u64,
            /// The one accepted first.
            first: BlobId,
            /// The other.
            second: BlobId,
        },
        /// Sealed with the group's key, but not signed by the member it names.
        4 => ForgedByMember {
            /// Cursor at the relay.
            cursor: u64,
            /// Whose name it bears.
            sender: DeviceId,
        },
        /// An entry by somebody who is not a member.
        5 => NotAMember {
            /// Cursor at the relay.
            cursor: u64,
            /// Who signed.
            sender: DeviceId,
        },
        /// The relay delivered the same entry twice in one history.
        6 => Replayed {
            /// The cursor of the repetition.
            cursor: u64,
            /// The entry.
            blob_id: BlobId,
        },
        /// The relay delivered one device's entries out of their order.
        7 => Reordered {
            /// The cursor of the later one that came first.
            cursor: u64,
            /// Whose.
            sender: DeviceId,
        },
        /// The relay skipped or repeated cursors.
        8 => CursorJump {
            /// The cursor that should have come.
            expected: u64,
            /// The cursor that came.
            got: u64,
        },
        /// The relay's log no longer is what this device read.
        9 => RolledBack {
            /// Highest cursor this device had read.
            from: u64,
            /// Highest cursor still in common, where that could be found out.
            to: Option<u64>,
        },
        /// The relay's order differs from what another device observed at the same cursor.
        10 => Forked {
            /// The device that observed otherwise.
            observer: DeviceId,
            /// The cursor compared.
            cursor: u64,
        },
        /// An entry by a device that was removed, from behind the end of what counts of it. It is held
        /// back until a remaining device names it.
        11 => Quarantined {
            /// Cursor at the relay.
            cursor: u64,
            /// Who signed.
            sender: DeviceId,
            /// Its place in that device's chain.
            seq: u64,
        },
        /// A snapshot that says otherwise than the log; it is not used.
        12 => FalseSnapshot {
            /// Who made it.
            sender: DeviceId,
            /// Its place in that device's chain.
            seq: u64,
        },
        /// Two devices removed each other, and not every device heard of it in the same order. Nobody
        /// but a person can say who stays.
        13 => MembershipConflict {
            /// Cursor of the second removal at the relay.
            cursor: u64,
            /// Whose removal of the other was read first, and counts on this device.
            one: DeviceId,
            /// Whose removal of the first is void here.
            other: DeviceId,
        },
        /// The relay keeps back entries that no snapshot stands for: its floor is too high.
        14 => Withheld {
            /// Cursor of the first.
            from_cursor: u64,
            /// Cursor of the last.
            to_cursor: u64,
        },
        /// Entries of one device that one other device says it has, and nobody else speaks of: the relay
        /// keeps them back, or they never were.
        15 => Unproven {
            /// Whose.
            sender: DeviceId,
            /// First of them.
            from_seq: u64,
            /// Last of them.
            to_seq: u64,
            /// Who names them.
            by: DeviceId,
        },
        /// A member says that it has an entry of a device which is not that device's: there is another in
        /// its place, or none can be, or it is this device's own and it never wrote it. The member says
        /// what is not so, or the device it is about was restored from an older copy.
        16 => FalseSeen {
            /// Who says so.
            by: DeviceId,
            /// Whose entry it would be.
            sender: DeviceId,
            /// Which.
            seq: u64,
        },
    }
}
