//! Rotations as the others meet them: read live, caught up with, or handed out by the relay to a
//! device that was away. (Starting one comes with revocation; here the test does it by hand.)

use bytes::Bytes;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use zerok_sync_core::epoch::{EpochBody, MemberDigest, Removed, seal_epoch};
use zerok_sync_core::keys::{EpochKeys, EpochSecret, MemberKeys};
use zerok_sync_core::seal::Sealed;
use zerok_sync_core::{Connection, IntegrityEvent, Problem};
use zerok_sync_protocol::wire::List;
use zerok_sync_protocol::{BlobId, EnvelopeHeader, EpochId};

use zerok_sync_chaos::sim::World;
use zerok_sync_chaos::sim::relay::Stored;

const SECRET: [u8; 32] = [42; 32];

/// What device `author` would send to rotate to [`SECRET`] with these members left.
pub fn rotation(world: &World, author: usize, members: &[MemberKeys], removed: &[Removed]) -> Sealed {
    let secrets = world.keys(author).1.secrets().cloned().collect();
    rotation_with(world, author, members, removed, secrets)
}

/// The same, handing on these secrets.
pub fn rotation_with(
    world: &World,
    author: usize,
    members: &[MemberKeys],
    removed: &[Removed],
    secrets: Vec<EpochSecret>,
) -> Sealed {
    let keyring = world.keys(author).1;
    let previous = (keyring.current().id, world.relay.entries()[0].blob_id);
    let change = Change { author, secret: SECRET, previous, members, also_to: &[], removed, secrets };
    change.seal(world)
}

/// A change of keys that the test makes by hand.
pub struct Change<'a> {
    pub author: usize,
    pub secret: [u8; 32],
    /// The epoch that it follows, and that one's envelope.
    pub previous: (EpochId, BlobId),
    pub members: &'a [MemberKeys],
    /// Devices it is wrapped to that are no members.
    pub also_to: &'a [MemberKeys],
    pub removed: &'a [Removed],
    pub secrets: Vec<EpochSecret>,
}

impl Change<'_> {
    pub fn seal(self, world: &World) -> Sealed {
        let (me, keyring) = world.keys(self.author);
        let body = EpochBody {
            sender: me.device(),
            seq: 1,
            prev: BlobId::ZERO,
            seen: List::empty(),
            previous_epoch: self.previous.0,
            previous_blob_id: self.previous.1,
            removed: self.removed.to_vec().try_into().expect("few"),
            member_digest: MemberDigest::of(self.members.iter().map(|member| member.device)),
            allow: self.members.iter().map(|member| member.noise).collect::<Vec<_>>().try_into().expect("few"),
            keyring: self.secrets.try_into().expect("as many as fit"),
            lamport: 100,
            sent_at_ms: 0,
            genesis: Bytes::new(),
        };
        let to: Vec<MemberKeys> = self.members.iter().chain(self.also_to).cloned().collect();
        let mut rng = ChaCha20Rng::from_seed([3; 32]);
        let secret = EpochSecret::from_bytes(self.secret);
        seal_epoch(keyring.group(), &secret, &me.signing, &to, &body, &mut rng).expect("few members")
    }
}

/// The relay's side of it: appended, renamed, handed out.
pub fn rotate(world: &mut World, sealed: Sealed) {
    let (_, keyring) = world.keys(0);
    let keys = EpochKeys::derive(keyring.group(), &EpochSecret::from_bytes(SECRET));
    world.relay.entries_mut().push(Stored { blob_id: sealed.blob_id, envelope: Some(sealed.envelope.clone()) });
    world.relay.epoch_envelope = Some(sealed.envelope);
    world.relay.log.as_mut().expect("created").auth = keys.auth_public();
}

pub fn new_epoch(world: &World) -> EpochId {
    EpochKeys::derive(world.keys(0).1.group(), &EpochSecret::from_bytes(SECRET)).id
}

pub fn everybody(world: &World, devices: usize) -> Vec<MemberKeys> {
    (0..devices).map(|device| world.keys(device).0.keys).collect()
}

#[test]
fn a_device_that_was_away_during_a_rotation_gets_back_in_and_writes_under_the_new_epoch() {
    let mut world = World::with_group(2);
    world.crash(1);
    let sealed = rotation(&world, 0, &everybody(&world, 2), &[]);
    rotate(&mut world, sealed);
    world.start(1);
    world.push(1, "after");
    world.settle();
    assert_eq!(world.engine(1).status().connection, Connection::Live);
    assert_eq!(world.findings(1), []);
    let last = world.relay.entries().last().and_then(|stored| stored.envelope.clone()).expect("pushed");
    let (header, _) = EnvelopeHeader::parse(&last).expect("an envelope");
    assert_eq!(header.epoch, new_epoch(&world));

    world.crash(1);
    world.start(1);
    world.settle();
    assert_eq!(world.engine(1).status().connection, Connection::Live, "the new epoch survives a restart");
}

#[test]
fn a_device_whose_name_for_the_log_was_forgotten_gets_back_in_by_its_own_key() {
    let mut world = World::with_group(2);
    world.crash(1);
    let sealed = rotation(&world, 0, &everybody(&world, 2), &[]);
    rotate(&mut world, sealed);
    world.relay.forgot_names = true;
    world.start(1);
    world.push(1, "after");
    world.settle();
    assert_eq!(world.engine(1).status().connection, Connection::Live);
    assert_eq!(world.engine(1).status().outbox_count, 0);
}

#[test]
fn a_removed_device_is_not_handed_the_new_epoch() {
    let mut world = World::with_group(2);
    world.crash(1);
    let (me, gone) = (world.keys(0).0.keys, world.keys(1).0.keys);
    let removed = Removed { device: gone.device, last_seq: 1, last_blob_id: BlobId::ZERO };
    let sealed = rotation(&world, 0, &[me], &[removed]);
    rotate(&mut world, sealed);
    world.start(1);
    world.settle();
    assert_eq!(world.engine(1).status().problem, Some(Problem::EpochNotOpened));
    assert_eq!(world.texts(1), [""; 0]);
}

#[test]
fn a_rotation_by_somebody_who_is_no_member_changes_nothing() {
    let mut world = World::with_group(2);
    let mut stranger = World::with_group(1);
    stranger.push(0, "x");
    let members = everybody(&world, 2);
    // Signed by a key that is in no certificate of this group, wrapped to everybody.
    let (_, keyring) = world.keys(0);
    let outsider =
        zerok_sync_core::keys::Membership::from_seed(&zerok_sync_core::keys::MembershipSeed::from_bytes([9; 32]));
    let genesis = world.relay.entries()[0].blob_id;
    let body = EpochBody {
        sender: outsider.device(),
        seq: 1,
        prev: BlobId::ZERO,
        seen: List::empty(),
        previous_epoch: keyring.current().id,
        previous_blob_id: genesis,
        removed: List::empty(),
        member_digest: MemberDigest::of(members.iter().map(|member| member.device)),
        allow: List::empty(),
        keyring: List::empty(),
        lamport: 100,
        sent_at_ms: 0,
        genesis: Bytes::new(),
    };
    let mut rng = ChaCha20Rng::from_seed([3; 32]);
    let sealed =
        seal_epoch(keyring.group(), &EpochSecret::from_bytes(SECRET), &outsider.signing, &members, &body, &mut rng)
            .expect("few");
    world.relay.entries_mut().push(Stored { blob_id: sealed.blob_id, envelope: Some(sealed.envelope) });
    let cursor = world.relay.entries().len() as u64;
    world.push(0, "still the old epoch");
    world.settle();
    assert_eq!(world.findings(1), [], "its author may be a member that another relay tells of");
    world.advance(31_000);
    let sender = outsider.device();
    assert!(world.findings(1).contains(&IntegrityEvent::NotAMember { cursor, sender }));
    assert_eq!(world.texts(1), ["still the old epoch"]);
    let last = world.relay.entries().last().and_then(|stored| stored.envelope.clone()).expect("pushed");
    assert_eq!(EnvelopeHeader::parse(&last).expect("an envelope").0.epoch, keyring.current().id);
}

#[test]
fn who_has_joined_and_is_unknown_to_the_author_of_the_next_epoch_is_no_member_any_more() {
    let mut world = World::with_group(3);
    let unknown = world.id(2);
    world.crash(1);
    world.crash(2);
    let sealed = rotation(&world, 0, &everybody(&world, 2), &[]);
    rotate(&mut world, sealed);
    world.start(1);
    world.advance(5_000);
    assert_eq!(world.engine(1).status().epoch, new_epoch(&world), "its certificate hung on being confirmed");
    let members = world.engine(1).status().members;
    assert_eq!((members.len(), members.iter().any(|member| member.device == unknown)), (2, false));
    assert_eq!(world.findings(1), []);
}

#[test]
fn an_epoch_that_leaves_out_who_needs_no_confirmation_is_not_followed() {
    let mut world = World::with_group(3);
    let left = [world.keys(1).0.keys, world.keys(2).0.keys];
    let before = world.engine(2).status().epoch;
    world.crash(2);
    let sealed = rotation(&world, 1, &left, &[]);
    rotate(&mut world, sealed);
    world.start(2);
    world.advance(5_000);
    let status = world.engine(2).status();
    assert_eq!((status.epoch, status.members.len()), (before, 3), "the founder has no certificate");
}
