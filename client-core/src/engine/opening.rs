//! The beginning of a membership, and every later start of it from storage.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use bytes::Bytes;
use litemap::LiteMap;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use zerok_sync_protocol::BlobId;
use zerok_sync_protocol::wire::Wire;

use super::bootstrap::Bootstrap;
use super::connection::random;
use super::effects::Effects;
use super::mirror::MirrorWriter;
use super::naming::{self, Named};
use super::outbox::Outbox;
use super::receipts::{KnownRow, Receipts};
use super::recovering::Paper;
use super::relay::{Relay, Relays};
use super::rotating::Rotation;
use super::rows::{
    self, ChainRow, FORMAT, FormatRow, GapRow, GroupRow, HeldRow, IdentityRow, InitialState, MemberRow, ProgressRow,
    RelayRow, SnapshotRow, hot, hot_key, initial_rows,
};
use super::shrinking::Shrinking;
use super::snapshots::{Candidate, Snapshot};
use super::vouching::{Unsigned, UnsignedAt};
use super::{Engine, FINDINGS_LISTED_MAX};
use crate::certificate::DeviceName;
use crate::epoch;
use crate::error::OpenError;
use crate::event::IntegrityEvent;
use crate::genesis::{Genesis, GenesisRandom};
use crate::id::{DeviceId, GroupId};
use crate::io::{Batch, Now, RelayAddress, Row};
use crate::keyring::Keyring;
use crate::keys::{EpochSecret, Membership, MembershipSeed, StoreKey};
use crate::one_by_one::{few_of, map_of};
use crate::store_seal;

/// What a machine is started with besides its storage.
#[derive(Debug)]
pub struct Secrets {
    /// Seals the local rows that hold secrets or blobs not yet sent. The same for the life of the
    /// storage.
    pub store_key: StoreKey,
    /// 32 fresh bytes from the operating system's random number generator, new at every start.
    pub rng_seed: [u8; 32],
}

/// A group to be founded.
#[derive(Debug, Clone)]
pub struct Founding {
    /// Where its log will be.
    pub relay: RelayAddress,
    /// What this device is called; cleaned by [`DeviceName::cleaned`].
    pub device_name: String,
    /// What a relay with restricted creation asks for.
    pub token: Option<Vec<u8>>,
}

impl Engine {
    /// Founds a group: the batch that makes an *empty* storage its founder's. The log is created at
    /// the relay once an [`Engine::open`]ed engine reaches it.
    #[must_use]
    pub fn found(now: Now, secrets: &Secrets, founding: Founding) -> Batch {
        let mut rng = ChaCha20Rng::from_seed(secrets.rng_seed);
        let seed = MembershipSeed::from_bytes(random(&mut rng));
        let me = Membership::from_seed(&seed);
        let genesis = Genesis::new(GenesisRandom(random(&mut rng)), me.keys.clone());
        let keyring = Keyring::new(genesis.group(), EpochSecret::from_bytes(random(&mut rng)));
        let envelope = epoch::seal_genesis(&genesis, &keyring, &me, now.wall_ms, &mut rng);
        let state = InitialState {
            seed: &seed,
            genesis: genesis.bytes().clone(),
            keyring: &keyring,
            relays: vec![founding.relay],
            device_name: DeviceName::cleaned(&founding.device_name).to_string(),
            founding: Some(rows::Founding {
                token: founding.token.map(Bytes::from),
                genesis_blob_id: envelope.blob_id,
                genesis_envelope: envelope.envelope,
            }),
            joining: None,
            history_start: None,
        };
        initial_rows(state, &secrets.store_key, &mut rng)
    }

    /// Opens a membership from the rows between [`Engine::HOT_FROM`] and [`Engine::HOT_TO`].
    ///
    /// # Errors
    /// [`OpenError::NoGroup`] for an empty storage; otherwise what is wrong with it. Nothing is
    /// written.
    pub fn open(_now: Now, secrets: Secrets, hot_rows: Vec<Row>) -> Result<Self, OpenError> {
        let rows = HotRows::of(hot_rows)?;
        let (identity, me, keyring) = rows.identity(&secrets.store_key)?;
        let group_row: GroupRow = rows.one(hot::GROUP, "group")?.ok_or(OpenError::Corrupt("group"))?;
        let doubts = rows.many(hot::DOUBT, "doubt", |_| Some(()))?.into_iter().map(|((), finding)| finding).collect();
        let progress: ProgressRow = rows.one(hot::PROGRESS, "progress")?.ok_or(OpenError::Corrupt("progress"))?;
        let held: BTreeMap<(DeviceId, u64), HeldRow> = rows.held()?;
        let mut findings: VecDeque<IntegrityEvent> =
            rows.many(hot::FINDING, "finding", |_| Some(()))?.into_iter().map(|((), finding)| finding).collect();
        findings.drain(..findings.len().saturating_sub(FINDINGS_LISTED_MAX));

        let seed =
            MembershipSeed::from_bytes(identity.seed[..].try_into().map_err(|_| OpenError::Corrupt("identity"))?);
        let mut engine = Self {
            rng: ChaCha20Rng::from_seed(secrets.rng_seed),
            effects: Effects::default(),
            outbox_loaded: rows.mirrored_seq(&me.device())? + 1,
            seed,
            me,
            genesis: identity.genesis,
            keyring: keyring.into(),
            group: group_row,
            joining: rows.one(hot::JOINING, "joining")?,
            bringing: rows.one(hot::BRINGING, "bringing")?,
            leaving: rows.one(hot::LEAVING, "leaving")?,
            rotation: rows.sealed(hot::ROTATION, "rotation", &secrets.store_key)?.map(Rotation::stored),
            paper: rows.sealed(hot::PAPER, "recovery words", &secrets.store_key)?.map(Paper::stored),
            farewell_ms: None,
            epochs: rows.many(hot::EPOCH, "epoch", |_| Some(()))?.into_iter().map(|((), epoch)| epoch).collect(),
            removed: few_of(rows.many(hot::REMOVED, "removed device", DeviceId::from_slice)?),
            granted: few_of(rows.many(hot::GRANTED, "granted device", DeviceId::from_slice)?),
            members: few_of(rows.many::<MemberRow, _>(hot::MEMBER, "member", DeviceId::from_slice)?),
            chains: few_of(rows.many::<ChainRow, _>(hot::CHAIN, "chain", DeviceId::from_slice)?),
            chains_changed: BTreeSet::new(),
            mirror: MirrorWriter::default(),
            snapshot: rows.snapshot(hot::SNAPSHOT)?,
            candidates: rows.candidates()?,
            snapshot_check: None,
            compaction: None,
            bootstrap: rows.one(hot::START, "snapshot")?.map(Bootstrap::new),
            base: rows.snapshot(hot::BASE)?,
            replayed: BTreeSet::new(),
            shrinking: Shrinking::restore(&progress, rows.0.contains_key(&hot_key(hot::SHEDDING, &[]))),
            advised: false,
            parts: few_of(rows.many(hot::PARTS, "parts", DeviceId::from_slice)?),
            unsigned: rows.unsigned()?,
            held_bytes: held.values().map(|row| row.envelope.len()).sum(),
            held,
            released: 0,
            outlines: LiteMap::new(),
            early_epochs: few_of(rows.many(hot::EARLY_EPOCH, "early epoch", BlobId::from_slice)?),
            doubts: Vec::new(),
            wanted: rows.named()?,
            gaps: rows.gaps()?,
            gaps_reported: LiteMap::new(),
            outbox: Outbox::default(),
            outbox_scan: None,
            progress,
            progress_changed: false,
            lookups: BTreeMap::new(),
            scans: 0,
            receipts: Receipts::restore(few_of(rows.many::<KnownRow, _>(
                hot::KNOWN,
                "receipt",
                DeviceId::from_slice,
            )?)),
            approval: None,
            relays: rows.relays()?,
            online: false,
            links: 0,
            invitation: None,
            findings,
            stopped: false,
            store_key: secrets.store_key,
        };
        engine.doubt_again(doubts);
        engine.tell_relays_of_gaps();
        Ok(engine)
    }
}

/// Who the device of a storage is, and whose group it is in: what its hot rows say, without an engine.
#[derive(Debug)]
pub(crate) struct Belonging {
    pub(crate) genesis: Bytes,
    pub(crate) keyring: Keyring,
    pub(crate) device: DeviceId,
    pub(crate) device_name: String,
    pub(crate) members: Vec<(DeviceId, String)>,
    /// How many of them run: a paper does not.
    pub(crate) devices: usize,
    /// The home relay first.
    pub(crate) relays: Vec<RelayAddress>,
    /// It has said that it leaves.
    pub(crate) left: bool,
    /// Of the beginning of its log it has a snapshot only.
    pub(crate) shrunk: bool,
}

impl Belonging {
    /// Reads the rows between [`Engine::HOT_FROM`] and [`Engine::HOT_TO`].
    pub(crate) fn read(store_key: &StoreKey, hot_rows: Vec<Row>) -> Result<Self, OpenError> {
        let rows = HotRows::of(hot_rows)?;
        let (identity, me, keyring) = rows.identity(store_key)?;
        let group: GroupRow = rows.one(hot::GROUP, "group")?.ok_or(OpenError::Corrupt("group"))?;
        let members = rows.many::<MemberRow, _>(hot::MEMBER, "member", DeviceId::from_slice)?;
        Ok(Self {
            device: me.device(),
            genesis: identity.genesis,
            keyring,
            device_name: group.device_name,
            devices: members.iter().filter(|(_, member)| !member.paper).count(),
            members: members.into_iter().map(|(device, member)| (device, member.name)).collect(),
            relays: rows.relays()?.iter().map(Relay::address).collect(),
            left: rows.one::<rows::LeavingRow>(hot::LEAVING, "leaving")?.is_some(),
            shrunk: rows.one::<ProgressRow>(hot::PROGRESS, "progress")?.is_some_and(|row| row.base_position > 0),
        })
    }
}

/// The hot rows by key.
struct HotRows(BTreeMap<Vec<u8>, Vec<u8>>);

impl HotRows {
    /// Of a storage that holds a group in the format of this version.
    fn of(rows: Vec<Row>) -> Result<Self, OpenError> {
        let rows = Self(map_of(rows.into_iter().map(|row| (row.key, row.value))));
        if rows.0.is_empty() {
            return Err(OpenError::NoGroup);
        }
        let format: FormatRow = rows.one(hot::FORMAT, "format")?.ok_or(OpenError::Corrupt("format"))?;
        if format.format != FORMAT {
            return Err(OpenError::Newer { found: format.format, known: FORMAT });
        }
        Ok(rows)
    }

    /// Who this device is, and what keys it holds.
    fn identity(&self, store_key: &StoreKey) -> Result<(IdentityRow, Membership, Keyring), OpenError> {
        let corrupt = || OpenError::Corrupt("identity");
        let identity: IdentityRow = self.sealed(hot::IDENTITY, "identity", store_key)?.ok_or_else(corrupt)?;
        let seed = MembershipSeed::from_bytes(identity.seed[..].try_into().map_err(|_| corrupt())?);
        let secrets = identity.epoch_secrets.clone();
        let mut keyring = Keyring::restore(GroupId::of(&identity.genesis), secrets, &identity.current_epoch)
            .ok_or(OpenError::Corrupt("keyring"))?;
        identity.unproven_secrets.iter().for_each(|secret| keyring.insert_unproven(secret));
        Ok((identity, Membership::from_seed(&seed), keyring))
    }

    fn one<T: Wire>(&self, kind: u8, what: &'static str) -> Result<Option<T>, OpenError> {
        self.0.get(&hot_key(kind, &[])).map(|value| rows::decode(value, what)).transpose()
    }

    fn snapshot(&self, kind: u8) -> Result<Option<Snapshot>, OpenError> {
        let row: Option<SnapshotRow> = self.one(kind, "snapshot")?;
        row.map(Snapshot::of).transpose().map_err(|_| OpenError::Corrupt("snapshot"))
    }

    /// Snapshots that wait to be compared.
    fn candidates(&self) -> Result<VecDeque<Candidate>, OpenError> {
        let rows = self.many(hot::CANDIDATE, "snapshot", |_| Some(()))?;
        rows.into_iter().map(|((), row)| Candidate::of(row).map_err(|_| OpenError::Corrupt("snapshot"))).collect()
    }

    /// Every row of a kind, with what `parse` makes of the rest of its key.
    fn many<T: Wire, K>(
        &self,
        kind: u8,
        what: &'static str,
        parse: impl Fn(&[u8]) -> Option<K>,
    ) -> Result<Vec<(K, T)>, OpenError> {
        let prefix = hot_key(kind, &[]);
        self.0
            .range::<[u8], _>((Bound::Included(&prefix[..]), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(&prefix))
            .map(|(key, value)| {
                let sub = parse(&key[prefix.len()..]).ok_or(OpenError::Corrupt(what))?;
                Ok((sub, rows::decode(value, what)?))
            })
            .collect()
    }

    /// A row whose value is sealed under the store key.
    fn sealed<T: Wire>(&self, kind: u8, what: &'static str, store_key: &StoreKey) -> Result<Option<T>, OpenError> {
        let key = hot_key(kind, &[]);
        let Some(sealed) = self.0.get(&key) else { return Ok(None) };
        let opened = store_seal::open_row(store_key, &key, sealed).map_err(|_| OpenError::Corrupt(what))?;
        rows::decode(&opened, what).map(Some)
    }

    /// Every group has a home relay.
    fn relays(&self) -> Result<Relays, OpenError> {
        let rows: Vec<((), RelayRow)> = self.many(hot::RELAY, "relay", |_| Some(()))?;
        if rows.is_empty() {
            return Err(OpenError::Corrupt("relay"));
        }
        Ok(Relays::new(rows.into_iter().map(|((), row)| row).collect()))
    }

    fn held(&self) -> Result<BTreeMap<(DeviceId, u64), HeldRow>, OpenError> {
        let parse = |sub: &[u8]| {
            let (device, seq) = sub.split_at_checked(DeviceId::LEN)?;
            Some((DeviceId::from_slice(device)?, u64::from_be_bytes(seq.try_into().ok()?)))
        };
        Ok(map_of(self.many(hot::HELD, "held entry", parse)?))
    }

    fn gaps(&self) -> Result<BTreeMap<UnsignedAt, GapRow>, OpenError> {
        Ok(map_of(self.many(hot::GAP, "gap", entry_of_key)?))
    }

    fn named(&self) -> Result<Named, OpenError> {
        let parse = |sub: &[u8]| {
            let (device, by) = sub.split_at_checked(DeviceId::LEN)?;
            Some((DeviceId::from_slice(device)?, DeviceId::from_slice(by)?))
        };
        Ok(naming::named(self.many(hot::NAMED, "name", parse)?))
    }

    fn unsigned(&self) -> Result<BTreeMap<UnsignedAt, Unsigned>, OpenError> {
        let rows: Vec<(UnsignedAt, HeldRow)> = self.many(hot::UNSIGNED, "unsigned entry", entry_of_key)?;
        Ok(rows.into_iter().map(|(place, row)| (place, row.into())).collect())
    }

    /// Highest own seq that is in the mirror; a founder's genesis never was in the outbox.
    fn mirrored_seq(&self, own: &DeviceId) -> Result<u64, OpenError> {
        let chain: Option<ChainRow> =
            self.0.get(&hot_key(hot::CHAIN, &own.0)).map(|value| rows::decode(value, "chain")).transpose()?;
        Ok(chain.map_or(0, |chain| chain.seq))
    }
}

/// Which entry, of several that may claim its place, a row is about.
fn entry_of_key(sub: &[u8]) -> Option<UnsignedAt> {
    let (device, rest) = sub.split_at_checked(DeviceId::LEN)?;
    let (seq, blob_id) = rest.split_first_chunk()?;
    Some((DeviceId::from_slice(device)?, u64::from_be_bytes(*seq), BlobId::from_slice(blob_id)?))
}
