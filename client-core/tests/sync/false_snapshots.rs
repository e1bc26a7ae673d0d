//! A snapshot that a new device is to begin with and that is not what it should be: one that a
//! member forged in its author's name, one whose author lies. Nothing of it is kept.

use bytes::Bytes;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use zerok_sync_chaos::sim::relay::Stored;
use zerok_sync_chaos::sim::{Defect, World};
use zerok_sync_core::certificate::{Card, JoinCertificate};
use zerok_sync_core::content::{Content, Kind};
use zerok_sync_core::epoch::{EpochBody, MemberDigest, seal_epoch};
use zerok_sync_core::keyring::Keyring;
use zerok_sync_core::keys::{EpochSecret, Membership, MembershipSeed};
use zerok_sync_core::observed::FoldHash;
use zerok_sync_core::pairing::SnapshotRef;
use zerok_sync_core::seal::{Sealed, open, seal};
use zerok_sync_core::snapshot::{self, Archived, Manifest};
use zerok_sync_core::{CompactError, Connection, Engine, IntegrityEvent, Problem};
use zerok_sync_protocol::envelope::blob_id;
use zerok_sync_protocol::wire::{self, List};
use zerok_sync_protocol::{BlobId, EnvelopeHeader};

use crate::epochs::{everybody, rotate, rotation};
use crate::granted::{assert_forked_by_a_swap, let_in};
use crate::hostile_members::{append, content};
use crate::snapshots::{compact, newest, push_all, state, try_compact};

/// Device 1 has made a snapshot, and a new device holds a grant that names it and has read nothing.
fn granted() -> (World, usize) {
    let mut world = World::with_group(2);
    push_all(&mut world, 0, &["a", "b"]);
    compact(&mut world, 1, b"a b");
    let joiner = let_in(&mut world, 0);
    (world, joiner)
}

fn assert_refused(world: &mut World, joiner: usize, what: &str) {
    world.start(joiner);
    world.settle();
    assert_eq!(world.engine(joiner).status().problem, Some(Problem::SnapshotUnusable), "{what}");
    assert_eq!(world.texts(joiner), [""; 0], "{what}");
}

/// An entry in the name of one device, sealed and signed by another.
fn sealed(
    keyring: &Keyring,
    of: &Membership,
    by: &Membership,
    place: (u64, BlobId),
    kind: Kind,
    body: Bytes,
) -> Sealed {
    let (seq, prev) = place;
    let nonce = [seq.to_le_bytes()[0] ^ 0x80; 24];
    seal(keyring.group(), keyring.current(), &by.signing, nonce, &content(of, seq, prev, kind, body)).expect("small")
}

#[test]
fn what_a_member_forges_in_the_name_of_a_snapshots_author_is_none_of_it() {
    // A part; the manifest.
    for from_end in [2, 1] {
        let (mut world, joiner) = granted();
        let (author, keyring) = world.keys(1);
        let forger = world.keys(0).0;
        let at = world.relay.entries().len() - from_end;
        let genuine = open(&keyring, world.relay.entries()[at].envelope.as_ref().expect("whole")).expect("an entry");
        let claims = genuine.claims();
        let mut body = claims.body.to_vec();
        *body.last_mut().expect("not empty") ^= 1;
        let forged = sealed(&keyring, &author, &forger, (claims.seq, claims.prev), claims.kind, body.into());
        world.relay.entries_mut()[at] = Stored { blob_id: forged.blob_id, envelope: Some(forged.envelope) };
        world.start(joiner);
        world.settle();
        assert_eq!(world.texts(joiner), ["a", "b"], "the log is there from its first entry: that is read");
    }
}

/// A snapshot as its author writes it.
pub struct Written {
    pub manifest: Manifest,
    pub archive: Vec<Bytes>,
    state: Bytes,
    kind: Kind,
    part_kind: Kind,
    bytes_too_many: u64,
    pub author: Membership,
    /// Whose signature the part bears.
    pub part_by: Membership,
    keyring: Keyring,
}

impl Written {
    /// As device 1 wrote it.
    fn of(world: &World) -> Self {
        let (parts, manifest) = newest(world);
        let mut bytes = Bytes::from(parts.concat());
        let state = bytes.split_off(usize::try_from(manifest.archive_bytes).expect("short"));
        let archive = Archived(bytes).collect::<Result<_, _>>().expect("sound");
        let (author, keyring) = world.keys(1);
        Self {
            manifest,
            archive,
            state,
            kind: Kind::SNAPSHOT,
            part_kind: Kind::PART,
            bytes_too_many: 0,
            part_by: author.clone(),
            author,
            keyring,
        }
    }

    fn is_of(&self, envelope: &Bytes, device: &Membership) -> bool {
        open(&self.keyring, envelope).is_ok_and(|entry| entry.claims().sender == device.device())
    }

    /// Lengths as they are now.
    fn measure(&mut self) -> Bytes {
        let mut bytes = Vec::new();
        self.archive.iter().for_each(|envelope| snapshot::archive(&mut bytes, envelope));
        self.manifest.archive_bytes = bytes.len() as u64;
        bytes.extend_from_slice(&self.state);
        (self.manifest.bytes, self.manifest.parts) = (bytes.len() as u64 + self.bytes_too_many, 1);
        bytes.into()
    }
}

/// The author writes it again, otherwise; what a grant would say of it.
pub fn write(world: &mut World, change: impl FnOnce(&mut Written)) -> SnapshotRef {
    let mut written = Written::of(world);
    change(&mut written);
    let bytes = written.measure();
    let behind = world.relay.entries().last().expect("the manifest").clone();
    let last = open(&written.keyring, behind.envelope.as_ref().expect("whole")).expect("an entry").claims().seq;
    let author = &written.author;
    let part = sealed(
        &written.keyring,
        author,
        &written.part_by,
        (last + 1, behind.blob_id),
        written.part_kind,
        bytes.clone(),
    );
    let manifest = Bytes::from(wire::encode(&written.manifest));
    let end = sealed(&written.keyring, author, author, (last + 2, part.blob_id), written.kind, manifest);
    let (sender, blob_id, bytes) = (author.device(), end.blob_id, bytes.len() as u64);
    append(world, part);
    append(world, end);
    SnapshotRef { sender, seq: last + 2, blob_id, parts: 1, bytes }
}

/// A new device is to begin with what the author wrote otherwise.
fn written_otherwise(change: fn(&mut Written)) -> (World, usize) {
    let (mut world, joiner) = granted();
    write_for(&mut world, joiner, change);
    (world, joiner)
}

/// The same, of a device that holds a grant.
fn write_for(world: &mut World, joiner: usize, change: fn(&mut Written)) {
    let named = write(world, change);
    let start = [Engine::HOT_FROM, b"a"].concat();
    let row = world.devices[joiner].storage.get_mut(&start).expect("the grant names a snapshot");
    *row = wire::encode(&named);
}

#[test]
fn b_fork_a_snapshot_made_of_another_order_convicts_the_relay() {
    let mut world = World::with_group(2);
    push_all(&mut world, 0, &["a", "b"]);
    compact(&mut world, 1, b"a b");
    world.crash(1);
    let observer = world.keys(1).0.device();
    let cursor = newest(&world).1.floors[0].cursor;
    write(&mut world, |it| {
        let mut floors = it.manifest.floors.clone().into_vec();
        floors[0].hash = FoldHash([9; 32]);
        it.manifest.floors = floors.try_into().expect("as many");
    });
    world.cut(0);
    world.advance(60_000);
    assert_eq!(world.findings(0), [IntegrityEvent::Forked { observer, cursor }]);
}

#[test]
fn a_snapshot_with_a_part_that_its_author_did_not_sign_is_false_also_to_who_has_everything() {
    let mut world = World::with_group(2);
    push_all(&mut world, 0, &["a", "b"]);
    compact(&mut world, 1, b"a b");
    world.crash(1);
    let SnapshotRef { sender, seq, .. } = write(&mut world, |it| {
        it.part_by = Membership::from_seed(&MembershipSeed::from_bytes([0x77; 32]));
    });
    world.cut(0);
    world.advance(60_000);
    assert_eq!(world.findings(0), [IntegrityEvent::FalseSnapshot { sender, seq }]);
    let later = world.pair(0, "later");
    assert_eq!(
        (world.engine(later).status().problem, state(&mut world, later)),
        (None, vec!["a".to_owned(), "b".to_owned()])
    );
}

#[test]
fn who_lacks_an_entry_or_changes_the_keys_makes_no_snapshot() {
    // The author's next one shows it; another's does; it has read all there is.
    for (next, complete) in [(Some(0), false), (Some(1), false), (None, true)] {
        let mut world = World::with_group(3);
        world.crash(2);
        push_all(&mut world, 0, &["withheld"]);
        let index = world.relay.entries().len() - 1;
        if let Some(next) = next {
            push_all(&mut world, next, &["behind it"]);
            world.relay.entries_mut().remove(index);
        }
        world.start(2);
        world.settle();
        let made = try_compact(&mut world, 2, b"");
        assert_eq!(made, if complete { Ok(()) } else { Err(CompactError::NotCaughtUp) }, "{next:?}");
    }
    let mut world = World::with_group(2);
    let now = world.now_at(0);
    world.engine(0).rotate(now).expect("a member");
    assert_eq!(try_compact(&mut world, 0, b""), Err(CompactError::NotCaughtUp));
}

#[test]
fn who_has_not_heard_a_relay_out_or_has_entries_under_way_makes_no_snapshot() {
    let mut world = World::with_group(2);
    push_all(&mut world, 0, &["a"]);
    world.devices[1].cut_off = true;
    world.cut(1);
    world.advance(1_000);
    assert_eq!(try_compact(&mut world, 1, b"a"), Err(CompactError::NotCaughtUp), "no relay is there");
    world.devices[1].cut_off = false;
    world.advance(10_000);
    world.push(1, "b");
    assert_eq!(try_compact(&mut world, 1, b"a b"), Err(CompactError::NotCaughtUp), "not read back");
    world.settle();
    assert_eq!(try_compact(&mut world, 1, b"a b"), Ok(()));
}

#[test]
fn who_was_handed_keys_that_the_log_does_not_show_makes_no_snapshot() {
    let mut world = World::with_group(2);
    push_all(&mut world, 0, &["a"]);
    let sealed = rotation(&world, 0, &everybody(&world, 2), &[]);
    rotate(&mut world, sealed);
    let withheld = world.relay.entries_mut().pop().expect("the change of keys");
    world.cut(1);
    world.advance(10_000);
    assert!(world.engine(1).status().relays[0].connection == Connection::Live, "let in by the new keys");
    assert_eq!(try_compact(&mut world, 1, b"a"), Err(CompactError::NotCaughtUp));
    world.relay.entries_mut().push(withheld);
    world.cut(1);
    world.advance(10_000);
    assert_eq!(try_compact(&mut world, 1, b"a"), Ok(()));
}

#[test]
fn b_fork_who_begins_with_a_snapshot_compares_the_order_behind_it_as_its_inviter_had_it() {
    let mut world = World::with_group(2);
    push_all(&mut world, 0, &["a"]);
    compact(&mut world, 1, b"a");
    push_all(&mut world, 0, &["b"]);
    push_all(&mut world, 1, &["c"]);
    let joiner = let_in(&mut world, 0);
    assert_forked_by_a_swap(&mut world, joiner);
}

#[test]
fn a_snapshot_that_covers_what_is_still_missing_here_is_called_false_by_nobody() {
    let mut world = World::with_group(3);
    world.crash(2);
    push_all(&mut world, 0, &["a", "b"]);
    let index = world.relay.entries().len() - 1;
    compact(&mut world, 1, b"a b");
    let withheld = world.relay.entries_mut().remove(index);
    world.start(2);
    // Before it goes on from the snapshot without.
    world.advance(20_000);
    world.relay.entries_mut().push(withheld);
    world.cut(2);
    world.advance(60_000);
    assert_eq!(world.texts(2), ["a", "b"]);
    let is_false = |finding: &IntegrityEvent| matches!(finding, IntegrityEvent::FalseSnapshot { .. });
    assert!(!world.findings(2).iter().any(is_false), "{:?}", world.findings(2));
}

#[test]
fn what_an_author_writes_as_it_should_be_is_begun_with() {
    let (mut world, joiner) = written_otherwise(|_| {});
    world.start(joiner);
    world.settle();
    assert_eq!(world.engine(joiner).status().problem, None);
    assert_eq!(world.texts(joiner), ["a b"]);
}

/// An epoch of a device's own making, for itself.
fn stray_epoch(keyring: &Keyring, author: &Membership) -> Bytes {
    let body = EpochBody {
        sender: author.device(),
        seq: 1,
        prev: BlobId::ZERO,
        seen: List::empty(),
        previous_epoch: keyring.current().id,
        previous_blob_id: BlobId([1; 32]),
        removed: List::empty(),
        member_digest: MemberDigest::of([author.device()]),
        allow: List::empty(),
        keyring: List::empty(),
        lamport: 9,
        sent_at_ms: 0,
        genesis: Bytes::new(),
    };
    let (secret, mut rng) = (EpochSecret::from_bytes([7; 32]), ChaCha20Rng::from_seed([7; 32]));
    let members = [author.keys.clone()];
    let sealed = seal_epoch(keyring.group(), &secret, &author.signing, &members, &body, &mut rng);
    sealed.expect("one member").envelope
}

#[test]
fn a_snapshot_whose_author_lies_lets_nobody_begin() {
    type Lie = fn(&mut Written);
    let lies: [(&str, Lie); 10] = [
        ("more epochs than there are", |it| it.manifest.epochs += 1),
        ("another envelope of its epoch", |it| it.manifest.epoch_blob_id = BlobId([9; 32])),
        ("an author who is not in the archive", |it| {
            let kept = it.archive.iter().filter(|envelope| !it.is_of(envelope, &it.author)).cloned().collect();
            it.archive = kept;
        }),
        ("a change of keys by nobody, which is not wrapped to all", |it| {
            let other = Membership::from_seed(&MembershipSeed::from_bytes([0x77; 32]));
            it.archive.push(stray_epoch(&it.keyring, &other));
        }),
        ("words that their sender did not sign", |it| {
            let other = Membership::from_seed(&MembershipSeed::from_bytes([0x77; 32]));
            let name = Bytes::from_static(b"not my name");
            it.archive.push(sealed(&it.keyring, &it.author, &other, (9, BlobId([1; 32])), Kind::RENAME, name).envelope);
        }),
        ("a member whom nobody let in", |it| {
            let other = Membership::from_seed(&MembershipSeed::from_bytes([0x77; 32]));
            let card = Card { keys: other.keys.clone(), name: "nobody".parse().expect("a name") };
            let epoch = it.keyring.current().id;
            let own = JoinCertificate::issue(it.keyring.group(), &other.signing, card, epoch).to_bytes();
            it.archive.push(sealed(&it.keyring, &other, &other, (1, BlobId::ZERO), Kind::JOIN, own).envelope);
        }),
        ("more bytes than there are", |it| it.bytes_too_many = 1),
        ("an end that is none", |it| it.kind = Kind::APP),
        ("parts that are none", |it| it.part_kind = Kind::APP),
        ("a time that no entry can have brought", |it| it.manifest.lamport = u64::MAX),
    ];
    for (what, lie) in lies {
        let (mut world, joiner) = written_otherwise(lie);
        assert_refused(&mut world, joiner, what);
    }
}

#[test]
fn who_was_away_goes_on_from_no_snapshot_of_the_end_of_all_time() {
    let lies: [fn(&mut Written); 3] = [
        |it| it.manifest.lamport = u64::MAX,
        |it| (it.manifest.lamport, it.manifest.epochs) = (u64::MAX, u64::MAX),
        |it| (it.manifest.lamport, it.manifest.epochs) = (1 << 31, 1 << 31),
    ];
    for lie in lies {
        let mut world = World::with_group(3);
        world.relay.forgets_who_is_away = true;
        push_all(&mut world, 2, &["a"]);
        world.advance(10_000);
        world.crash(2);
        push_all(&mut world, 0, &["b"]);
        world.advance(10_000);
        compact(&mut world, 1, b"a b");
        world.advance(180_000);
        assert!(world.relay.log.as_ref().expect("created").floor > 1);
        world.relay.purge();
        world.crash(1);
        let SnapshotRef { sender, seq, .. } = write(&mut world, lie);
        world.start(2);
        world.push(2, "late");
        world.advance(60_000);
        assert_eq!(state(&mut world, 2), ["a", "b", "late"]);
        let last = world.entries(2).pop().expect("its own").lamport;
        assert!(last < 1 << 31, "there is a time behind it: {last}");
        assert_eq!(world.findings(2), [IntegrityEvent::FalseSnapshot { sender, seq }]);
    }
}

#[test]
fn who_has_the_log_calls_a_snapshot_false_that_has_more_epochs_than_its_archive_or_a_time_behind_its_own() {
    let lies: [fn(&mut Written); 2] = [|it| it.manifest.epochs += 1, |it| it.manifest.lamport = 1 << 20];
    for lie in lies {
        let mut world = World::with_group(2);
        push_all(&mut world, 0, &["a"]);
        compact(&mut world, 1, b"a");
        world.advance(10_000);
        (0..2).for_each(|device| world.crash(device));
        let SnapshotRef { sender, seq, .. } = write(&mut world, lie);
        world.start(0);
        world.advance(60_000);
        assert_eq!(world.findings(0), [IntegrityEvent::FalseSnapshot { sender, seq }]);
    }
}

#[test]
fn a_snapshot_of_keys_that_its_own_archive_has_replaced_lets_nobody_begin() {
    let mut world = World::with_group(2);
    let now = world.now_at(0);
    world.engine(0).rotate(now).expect("a member");
    world.drain(0);
    world.settle();
    compact(&mut world, 1, b"");
    let joiner = let_in(&mut world, 0);
    write_for(&mut world, joiner, |it| {
        let genesis = it.archive.first().expect("it begins with that");
        it.manifest.epoch = EnvelopeHeader::parse(genesis).expect("an envelope").0.epoch;
        it.manifest.epoch_blob_id = blob_id(genesis);
    });
    assert_refused(&mut world, joiner, "keys of before");
}

#[test]
fn a_joiner_whose_snapshot_is_gone_reads_no_log_that_does_not_begin_with_its_first_entry() {
    let (mut world, joiner) = granted();
    world.relay.entries_mut().pop();
    world.relay.log.as_mut().expect("created").move_floor(2);
    assert_refused(&mut world, joiner, "the snapshot is not there, nor the first entry");
}

#[test]
fn who_begins_with_a_snapshot_is_in_the_groups_time_however_far_members_have_moved_it() {
    let mut world = World::with_group(2);
    world.crash(0);
    let (me, keyring) = world.keys(0);
    let mut prev = world.relay.entries()[1].blob_id;
    for (seq, lamport) in [(3, 1 << 32), (4, 1 << 33)] {
        let late = Content { lamport, ..content(&me, seq, prev, Kind::APP, b"late") };
        let nonce = [seq.to_le_bytes()[0]; 24];
        let sealed = seal(keyring.group(), keyring.current(), &me.signing, nonce, &late).expect("small");
        prev = sealed.blob_id;
        append(&mut world, sealed);
    }
    world.cut(1);
    world.advance(10_000);
    compact(&mut world, 1, b"late");
    let later = world.pair(1, "later");
    push_all(&mut world, later, &["in time"]);
    let last = world.entries(1).pop().expect("pushed");
    assert!(last.data == "in time" && last.lamport > 1 << 33, "{}", last.lamport);
    assert_eq!(world.findings(later), []);
}

#[test]
fn a_cursor_that_is_left_out_while_a_snapshot_is_looked_for_ends_the_session() {
    let mut world = World::with_group(2);
    push_all(&mut world, 0, &["a"]);
    compact(&mut world, 1, b"a");
    push_all(&mut world, 0, &["b"; 10]);
    let joiner = let_in(&mut world, 0);
    write_for(&mut world, joiner, |_| {});
    world.relay.defect = Some(Defect::RelaySkipsEntry);
    world.start(joiner);
    world.settle();
    let findings = world.findings(joiner);
    assert!(matches!(findings[..], [IntegrityEvent::CursorJump { .. }]), "{findings:?}");
    assert_eq!(world.texts(joiner), [""; 0]);
}
