//! What an app can ask at any time: where things stand, who is there.

use zerok_sync_protocol::EpochId;

use super::Engine;
use super::giving_up::Hole;
use super::relay::Relay;
use super::rows::MemberRow;
use crate::error::{MembershipError, Problem};
use crate::event::IntegrityEvent;
use crate::id::DeviceId;
use crate::io::RelayAddress;
use crate::one_by_one::{few_of, set_of};
use crate::recovery::Recovery;
use crate::recovery::restorer::RestoreError;

/// Digits of an identity that name a device, at least: a device called "b" is not to be mistaken
/// for one in sixteen of the others.
const DEVICE_ID_DIGITS_MIN: usize = 4;

/// How the connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// Not started, or closed.
    Offline,
    /// Waiting for a link.
    Connecting,
    /// The link stands; the relay has not let this device in yet.
    Handshaking,
    /// Reading what came while away.
    CatchingUp,
    /// Everything the relay has is here; new entries come as they are pushed.
    Live,
    /// The last attempt failed; the next comes by itself.
    WaitingToRetry,
}

/// A device of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its identity in this group.
    pub device: DeviceId,
    /// What it calls itself.
    pub name: String,
    /// Whether it is this one.
    pub own: bool,
    /// Its clock when it joined, Unix milliseconds; 0 while only its inviter's word is known.
    pub joined_at_ms: u64,
    /// Its clock when it wrote the latest entry that is here, Unix milliseconds.
    pub last_wrote_at_ms: Option<u64>,
    /// Its clock when it signed the latest entry or receipt that is here, Unix milliseconds: what no
    /// relay can make newer.
    pub last_heard_at_ms: Option<u64>,
    /// Whether it is there now, by its own word.
    pub online: bool,
    /// Highest push number of this device that it has said it has.
    pub has_push: u64,
    /// It has said that it leaves.
    pub leaving: bool,
    /// It is no device: it is the recovery words.
    pub paper: bool,
}

/// A device that was let in from this one and has not been heard of. Changing the keys takes it
/// back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantedDevice {
    /// Its identity in this group.
    pub device: DeviceId,
    /// What it calls itself.
    pub name: String,
}

/// A snapshot of everything that is not an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// How the connection stands, to the relay that is doing best.
    pub connection: Connection,
    /// Whether everything that relay had at the last look is here, and nothing of it left to be judged.
    pub caught_up: bool,
    /// The home relay.
    pub relay: RelayAddress,
    /// All relays of the group, the home relay first.
    pub relays: Vec<RelayStatus>,
    /// This device.
    pub device: DeviceId,
    /// Its name.
    pub device_name: String,
    /// Devices of the group as far as the log was read; before a new member has read it, as its
    /// inviter said.
    pub members: Vec<Member>,
    /// Devices let in here that have not arrived.
    pub granted: Vec<GrantedDevice>,
    /// How many devices relays admit that are no members'.
    pub unknown_at_relay: usize,
    /// The epoch new entries are sealed under.
    pub epoch: EpochId,
    /// How often the group's keys were changed, as far as the log was read.
    pub rotations: u64,
    /// A change of keys was asked for on this device and is still to be carried out.
    pub rotating: bool,
    /// Whether there are words that bring the group back when every device is lost.
    pub recovery: Recovery,
    /// It has not yet found in the log all that it was told of when it came into the group.
    pub joining: bool,
    /// Highest position of an entry stored here; 0 for none.
    pub position: u64,
    /// Lowest position that can be read; above 1 a snapshot stands there for everything before it.
    pub first_position: u64,
    /// Highest position the app said it has processed.
    pub processed: u64,
    /// Highest cursor that relay told of in this session.
    pub relay_head: Option<u64>,
    /// Own entries that no relay has acknowledged.
    pub outbox_count: u64,
    /// Bytes of blobs in them; an upper bound while some are acknowledged.
    pub outbox_bytes: u64,
    /// Number of the latest push that is queued.
    pub stored_push: u64,
    /// Highest push number that one relay at least has acknowledged, with all before it.
    pub acked_push: u64,
    /// Highest push number that all other devices have said they have, with all before it.
    pub everywhere_push: u64,
    /// Why there is no live connection to any relay, or why pushes wait.
    pub problem: Option<Problem>,
    /// The newest snapshot that is as this device has the log.
    pub snapshot: Option<SnapshotStatus>,
    /// The log has outgrown its snapshot: a new one makes it shorter for whoever comes. See
    /// [`Event::CompactionAdvised`](crate::Event::CompactionAdvised).
    pub compaction_advised: bool,
    /// Entries that are missing although later ones of the same device are here, which wait for them.
    pub holes: Vec<Hole>,
    /// What was found of late, oldest first; bounded.
    pub integrity: Vec<IntegrityEvent>,
}

/// A snapshot of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotStatus {
    /// Who made it.
    pub device: DeviceId,
    /// Bytes of it, who is in the group among them.
    pub bytes: u64,
}

/// How one relay stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayStatus {
    /// Where and who it is.
    pub address: RelayAddress,
    /// How the connection to it stands.
    pub connection: Connection,
    /// Whether everything it had at the last look is here.
    pub caught_up: bool,
    /// Whether the group was told of it; before, this device is still to meet it.
    pub listed: bool,
    /// Whether everything it had at the last look is here, and nothing of it is being compared, put
    /// back, or still to be read again.
    pub compared: bool,
    /// Whether it is [`Self::compared`] and has everything this device has, as far as is known.
    pub settled: bool,
    /// The last repair put something back that did not stand there afterwards.
    pub unhealed: bool,
    /// Envelopes that this device has put back there in this run.
    pub put_back: u64,
    /// Highest cursor it told of in this session.
    pub head: Option<u64>,
    /// It serves entries from this cursor on: a snapshot stands for those before.
    pub floor: u64,
    /// Where its floor may go, by the snapshots that are as this device has the log.
    pub floor_max: u64,
    /// Highest push number it has acknowledged, with all before it.
    pub acked_push: u64,
    /// Why there is no live connection to it, or why pushes wait.
    pub problem: Option<Problem>,
}

impl RelayStatus {
    fn of(relay: &Relay, lacks: bool) -> Self {
        let busy = relay.comparison.is_some() || relay.repair.is_some() || relay.row.rebuilding;
        let recheck = relay.recheck_wanted.is_some() || relay.recheck_at_ms.is_some();
        let compared = relay.caught_up() && !busy && !recheck;
        Self {
            compared,
            settled: compared && !lacks,
            listed: !relay.row.unlisted,
            address: relay.address(),
            connection: relay.session.connection(),
            caught_up: relay.caught_up(),
            unhealed: relay.unhealed,
            put_back: relay.put_back,
            head: relay.session.live_ref().map(|open| open.head),
            floor: relay.row.floor,
            floor_max: relay.floor_max(),
            acked_push: relay.row.acked_seq,
            problem: relay.problem.clone(),
        }
    }
}

/// A device that was not heard of for this long may be off, or the relay may keep back what it says.
pub const STALE_AFTER_MS: u64 = 24 * 3_600 * 1_000;

impl Member {
    /// Whether nothing was heard of another device for more than a day. Nothing else shows where a
    /// relay withholds the newest of what it says.
    ///
    /// Not while it was not heard from at all, as by a new device that began with a snapshot.
    #[must_use]
    pub fn is_stale(&self, now_ms: u64) -> bool {
        let long_ago = self.last_heard_at_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) > STALE_AFTER_MS);
        !self.own && !self.paper && !self.online && long_ago
    }
}

impl Status {
    /// Whether every relay of the group answers with another key than the one it is known by
    /// ([`Problem::RelayKeyChanged`]): waiting changes nothing about that.
    #[must_use]
    pub fn relay_keys_changed(&self) -> bool {
        let changed = |relay: &RelayStatus| matches!(relay.problem, Some(Problem::RelayKeyChanged { .. }));
        !self.relays.is_empty() && self.relays.iter().all(changed)
    }

    /// Whether the loss of one device would lose the group, and words would prevent that.
    #[must_use]
    pub fn needs_recovery_words(&self) -> bool {
        let devices = self.members.iter().filter(|member| !member.paper).count();
        devices == 1 && self.recovery == Recovery::None && !self.joining
    }

    /// How a restored device's first reading of the log has ended, if it has: with all that the words
    /// vouch for, and this device a member, or without.
    #[must_use]
    pub fn restored(&self) -> Option<Result<(), RestoreError>> {
        match &self.problem {
            Some(Problem::Revoked | Problem::EpochNotOpened) => return Some(Err(RestoreError::KeysChanged)),
            // What is away now may be there in a moment.
            Some(Problem::Unreachable(_) | Problem::SnapshotAwaited) | None => {}
            Some(problem) => return Some(Err(problem.clone().into())),
        }
        let is_member = self.members.iter().any(|member| member.own);
        match self.caught_up {
            true if self.joining => Some(Err(RestoreError::LogIncomplete)),
            true if is_member && self.outbox_count == 0 => Some(Ok(())),
            _ => None,
        }
    }

    /// The device of this name, or whose identity begins so (four digits at least).
    ///
    /// # Errors
    /// [`MembershipError::NoSuchDevice`], [`MembershipError::Ambiguous`].
    pub fn find_device(&self, given: &str) -> Result<DeviceId, MembershipError> {
        let given = given.trim();
        let id = given.to_ascii_lowercase();
        let by_name = |member: &&Member| member.name == given;
        let by_id = |member: &&Member| id.len() >= DEVICE_ID_DIGITS_MIN && member.device.to_string().starts_with(&id);
        // A name that looks like the beginning of an identity is nobody's trap: both count.
        let found: Vec<&Member> = self.members.iter().filter(|member| by_name(member) || by_id(member)).collect();
        match found[..] {
            [] => Err(MembershipError::NoSuchDevice(given.to_owned())),
            [member] => Ok(member.device),
            _ => {
                let candidates = found.iter().map(|member| format!("{} ({})", member.name, member.device)).collect();
                Err(MembershipError::Ambiguous { given: given.to_owned(), candidates })
            }
        }
    }
}

impl Engine {
    fn is_lacking(&self, relay: &Relay) -> bool {
        relay.lacks(&self.chains, self.progress.epoch_blob_id)
    }

    /// The relay that is doing best, the home relay among equals.
    fn best_relay(&self) -> &Relay {
        let worth = |relay: &&Relay| {
            let connection = match relay.session.connection() {
                Connection::Live => 4,
                Connection::CatchingUp => 3,
                Connection::Handshaking => 2,
                Connection::Connecting => 1,
                Connection::Offline | Connection::WaitingToRetry => 0,
            };
            (connection > 2 && relay.problem.is_none(), connection)
        };
        // `max_by_key` takes the last of equals.
        self.relays.iter().rev().max_by_key(worth).unwrap_or(&self.relays[self.relays.home()])
    }

    /// Where things stand.
    #[must_use]
    pub fn status(&self) -> Status {
        let me = self.me.device();
        let best = self.best_relay();
        let open = best.session.live_ref();
        Status {
            connection: best.session.connection(),
            caught_up: open.is_some_and(|open| open.caught_up) && self.lookups.is_empty() && !self.is_settling_floors(),
            relay: self.relays[self.relays.home()].address(),
            relays: self.relays_listed(),
            device: me,
            device_name: self.group.device_name.clone(),
            members: self.members_listed(),
            granted: self
                .granted
                .iter()
                .map(|(device, row)| GrantedDevice { device: *device, name: row.name.clone() })
                .collect(),
            unknown_at_relay: set_of(self.relays.iter().flat_map(|relay| relay.unknown.iter().copied())).len(),
            epoch: self.keyring.current().id,
            rotations: self.epochs.len().saturating_sub(1) as u64,
            rotating: self.is_rotating(),
            recovery: self.recovery(),
            joining: self.joining.is_some(),
            position: self.progress.position,
            first_position: self.first_position(),
            processed: self.progress.processed,
            relay_head: open.map(|open| open.head),
            outbox_count: self.progress.queued_seq - self.progress.acked_seq,
            outbox_bytes: self.progress.outbox_bytes,
            stored_push: self.progress.queued_seq,
            acked_push: self.progress.acked_seq,
            everywhere_push: self.everywhere_seq(),
            problem: best.problem.clone(),
            snapshot: self
                .snapshot
                .as_ref()
                .map(|snapshot| SnapshotStatus { device: snapshot.row.sender, bytes: snapshot.row.bytes }),
            compaction_advised: self.advised,
            holes: self.holes(),
            integrity: self.findings.iter().cloned().collect(),
        }
    }

    /// The clock of a device's latest entry or receipt. Which is later follows from the chain and not
    /// from clocks, which may be turned.
    fn last_heard_at_ms(&self, device: &DeviceId) -> Option<u64> {
        // Of a chain that a snapshot stands for it is not known.
        let wrote = self.chains.get(device).map(|chain| (chain.seq, chain.sent_at_ms)).filter(|wrote| wrote.1 > 0);
        let said = self.receipts.newest(device);
        // A receipt that names the latest entry was signed behind it.
        said.filter(|said| wrote.is_none_or(|wrote| said.0 >= wrote.0)).or(wrote).map(|(_, at_ms)| at_ms)
    }

    fn relays_listed(&self) -> Vec<RelayStatus> {
        let mut relays: Vec<&Relay> = self.relays.iter().collect();
        relays.sort_by_key(|relay| (relay.row.unlisted, relay.row.rank));
        relays.into_iter().map(|relay| RelayStatus::of(relay, self.is_lacking(relay))).collect()
    }

    /// Who the log says is a member; and, until a new member has read the log, who its inviter said.
    fn members_listed(&self) -> Vec<Member> {
        let me = self.me.device();
        let granted = self.joining.iter().flat_map(|joining| &joining.members).map(|member| Member {
            device: member.device,
            name: member.name.to_string(),
            own: false,
            joined_at_ms: 0,
            last_wrote_at_ms: None,
            last_heard_at_ms: None,
            online: false,
            has_push: 0,
            leaving: false,
            paper: false,
        });
        let listed = |(device, member): (&DeviceId, &MemberRow)| Member {
            device: *device,
            name: member.name.clone(),
            own: *device == me,
            joined_at_ms: member.joined_at_ms,
            // As above.
            last_wrote_at_ms: self.chains.get(device).map(|chain| chain.sent_at_ms).filter(|at_ms| *at_ms > 0),
            last_heard_at_ms: self.last_heard_at_ms(device),
            online: *device == me || self.is_online(device),
            has_push: if *device == me { self.progress.queued_seq } else { self.seq_had_by(device) },
            leaving: member.leaving,
            paper: member.paper,
        };
        // What was read counts.
        let members = few_of(granted.chain(self.members.iter().map(listed)).map(|member| (member.device, member)));
        members.into_iter().map(|(_, member)| member).collect()
    }
}
