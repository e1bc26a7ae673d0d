//! Rows about who is in the group, and by which keys.

use bytes::Bytes;
use zerok_sync_protocol::{BlobId, EpochId, NoisePublicKey, Timeline, wire_enum, wire_struct};

use super::HeldRow;
use crate::certificate::JoinCertificate;
use crate::content::{Observed, SeenHash, SeenItem};
use crate::id::DeviceId;
use crate::keys::{EpochSecret, MemberKeys, PaperNoiseKey};
use crate::pairing::GrantedMember;
use crate::recovery::words::RecoveryWords;

wire_struct! {
    /// An epoch that waits for what it rests on.
    pub struct EarlyEpochRow {
        /// Where it stood.
        held: HeldRow,
        /// Its secret was in an accepted keyring before: somebody has united it already.
        united: bool,
        /// How many changes of keys were accepted since.
        passed_over: u64,
    }
}

wire_struct! {
    /// What a new member must find in the log before it pushes.
    pub struct JoiningRow {
        /// Heads the inviter granted.
        frontier: Vec<SeenItem>,
        /// Who let it in.
        inviter: DeviceId,
        /// What the inviter was shown of the log, to be compared with what this device is shown.
        observed: Option<Observed>,
        /// Who is there by the inviter's word: shown until the log says it.
        members: Vec<GrantedMember>,
        /// An epoch that must be among the log's: the anchor's, after a restore. Zero for none.
        epoch_blob_id: BlobId,
        /// The epoch it was let in in: who was removed by then is known once it is. Zero after a restore.
        epoch: EpochId,
    }
}

wire_struct! {
    /// A device of the group, as established by sealed data.
    pub struct MemberRow {
        /// Its public keys.
        keys: MemberKeys,
        /// Its name.
        name: String,
        /// What made it a member; nothing for the founder.
        certificate: Option<JoinCertificate>,
        /// Its clock when it joined, Unix milliseconds; information only.
        joined_at_ms: u64,
        /// It has said that it leaves: the next change of keys removes it.
        leaving: bool,
        /// It is no device but recovery words.
        paper: bool,
    }
}

wire_struct! {
    /// A device that is no member any more, and the end of its chain.
    pub struct RemovedRow {
        /// What it was called.
        name: String,
        /// Highest seq of it that counts: what the remover had read, or what a remaining member has
        /// named in `seen` since.
        last_seq: u64,
        /// That entry.
        last_hash: SeenHash,
        /// The epoch whose certificate made it a member; zero for the founder, and where it never
        /// was one here.
        joined_in: EpochId,
        /// Who let it in, where the keys were changed before it came; zero otherwise.
        let_in_by: DeviceId,
    }
}

wire_struct! {
    /// A device that was handed the group's keys here and has not been heard of in the log.
    pub struct GrantedRow {
        /// What it calls itself.
        name: String,
    }
}

wire_struct! {
    /// This device leaves, or has left.
    pub struct LeavingRow {
        /// Seq of the entry that says so, its last.
        seq: u64,
    }
}

wire_struct! {
    /// An epoch that was accepted. Its envelope lies in a table of its own.
    pub struct EpochRow {
        /// Which.
        id: EpochId,
        /// Its envelope.
        blob_id: BlobId,
        /// The one before; zero for genesis.
        previous: EpochId,
        /// Who started it.
        author: DeviceId,
        /// The Noise keys that its envelope tells relays to admit.
        allow: Vec<NoisePublicKey>,
        /// The members it begins with.
        members: Vec<DeviceId>,
        /// Another one has begun since: nobody joins in it any more.
        closed: bool,
        /// Its envelope carries the secrets of all before it.
        hands_on_all: bool,
    }
}

wire_struct! {
    /// A change of keys that is wanted, stored before the first word about it to a relay; sealed
    /// under the store key.
    pub struct RotationRow {
        /// Who is removed by it; nobody: only the keys change.
        remove: Vec<DeviceId>,
        /// The epoch it was asked for in: any later one is a change of keys.
        asked_in: EpochId,
        /// What was sent, or is about to be.
        sealed: Option<SealedRotation>,
    }
}

wire_struct! {
    /// A rotation whose bytes are fixed: a relay that has it answers as it did the first time.
    pub struct SealedRotation {
        /// The next epoch's secret.
        secret: EpochSecret,
        /// The epoch it follows.
        previous: EpochId,
        /// Its envelope's id.
        blob_id: BlobId,
        /// Its envelope.
        envelope: Bytes,
        /// Noise keys of the devices that stay.
        allow: Vec<NoisePublicKey>,
    }
}

wire_enum! {
    /// Recovery words on their way to being good; sealed under the store key.
    pub enum PaperRow {
        /// To become a member, and to be wrapped the next epoch.
        0 => Enrolling {
            /// The words.
            words: RecoveryWords,
            /// The epoch its first entry is sealed under; zero before it is sealed.
            epoch: EpochId,
            /// Its first entry: these bytes never change within the epoch.
            envelope: Bytes,
        },
        /// A member with a wrap; its slot is written wherever it is not known to stand. The words are
        /// forgotten.
        1 => Anchored {
            /// What that takes.
            anchor: AnchorBody,
            /// Whether the other devices have been given it.
            announced: bool,
        },
    }
}

wire_struct! {
    /// What any device needs to write a paper's slot, also as the body of an `ANCHOR` entry by who
    /// made the words.
    pub struct AnchorBody {
        /// The paper.
        device: DeviceId,
        /// Its Noise static: opens the sessions that may write its slot, and nothing else.
        noise: PaperNoiseKey,
        /// [`crate::recovery::anchor`], sealed under the words.
        slot: Bytes,
        /// Where it is known to stand.
        stands: Vec<AnchorStands>,
    }
}

wire_struct! {
    /// A relay that has shown the anchor.
    pub struct AnchorStands {
        /// Which.
        relay: NoisePublicKey,
        /// In which of its histories: another one may have lost it.
        timeline: Timeline,
    }
}
