//! Names, allow-lists, restrictions, rotations, slots: who gets in, and who does not any more.

use bytes::Bytes;
use zerok_sync_protocol::LogName;
use zerok_sync_protocol::limits::{ALLOW_LIST_MAX, SUPERSEDED_LOGS_MAX};
use zerok_sync_relay::store::{Admission, DeviceNote, KnownLog, Lookup, Restricted, RotateRequest, Rotated, Slot};

use crate::subject::{
    NOW, Subject, auth, device, envelope, epoch_envelope, found, known, new_log, note, note_of, present, slot_put,
};

pub async fn a_name_is_known_once_the_log_exists(store: Subject) {
    let name = LogName::of(&auth(1));
    assert_eq!(store.lookup(&name).await.unwrap(), Lookup::Unknown);

    let log = found(&*store, 1).await;

    assert_eq!(store.lookup(&name).await.unwrap(), Lookup::Current(log.group));
}

pub async fn of_two_creations_one_wins(store: Subject) {
    let other = store.another_instance().await;
    let (one, two) = (new_log(1, &[device(1)]), new_log(1, &[device(2)]));

    let (one, two) = tokio::join!(store.create(one, NOW), other.create(two, NOW));

    let won = [one.unwrap(), two.unwrap()];
    assert_eq!(won.iter().flatten().count(), 1);
    let allow = crate::subject::Log {
        group: won.iter().flatten().copied().next().unwrap(),
        auth: auth(1),
        auth_gen: 0,
        device: device(if won[0].is_some() { 1 } else { 2 }),
    };
    assert_eq!(allow.admitted(&*store).await.allow.len(), 1);
}

pub async fn a_member_is_put_on_the_allow_list(store: Subject) {
    let log = found(&*store, 1).await;

    let admitted = log.by(device(9)).admitted(&*store).await;

    assert_eq!(admitted.allow, [device(1), device(9)]);
    assert_eq!(admitted.state, store.state(log.group).await.unwrap().unwrap());
    assert_eq!((admitted.group_bytes, admitted.slot), (500, Bytes::new()));
    assert_eq!(log.admitted(&*store).await.allow, [device(1), device(9)]);
    let superseded = store.admit(log.group, &auth(2), &device(9), NOW).await.unwrap();
    assert_eq!(superseded, Admission::Superseded);
}

pub async fn a_full_allow_list_admits_only_who_is_on_it(store: Subject) {
    let log = found(&*store, 1).await;
    for n in 2..=ALLOW_LIST_MAX as u8 {
        log.by(device(n)).admitted(&*store).await;
    }

    assert_eq!(log.by(device(200)).admit(&*store).await, Admission::ListFull);

    assert_eq!(log.by(device(7)).admitted(&*store).await.allow.len(), ALLOW_LIST_MAX);
}

pub async fn a_rotation_moves_the_name_and_starts_a_generation(store: Subject) {
    let log = found(&*store, 1).await;
    log.by(device(8)).admitted(&*store).await;

    let done = store.rotate(log.rotation(2, &[device(1), device(9)])).await.unwrap();

    assert_eq!(done, Rotated::Done { auth_gen: 1, cursor: 2 });
    assert_eq!(store.lookup(&LogName::of(&auth(1))).await.unwrap(), Lookup::Superseded(log.group));
    assert_eq!(store.lookup(&LogName::of(&auth(2))).await.unwrap(), Lookup::Current(log.group));
    assert_eq!(log.admit(&*store).await, Admission::Superseded);
    let admitted = store.admit(log.group, &auth(2), &device(1), NOW).await.unwrap();
    let Admission::Admitted(admitted) = admitted else { panic!("not admitted: {admitted:?}") };
    assert_eq!(admitted.allow, [device(1), device(9)]);
    assert_eq!((admitted.state.auth_gen, admitted.state.head), (1, 2));
    assert_eq!(log.everything(&*store).await[1], present(2, &epoch_envelope(2)));
    assert_eq!(store.create(new_log(1, &[device(8)]), NOW).await.unwrap(), None);
}

pub async fn of_two_concurrent_rotations_exactly_one_wins(store: Subject) {
    let other = store.another_instance().await;
    let log = found(&*store, 1).await;
    let allow = [log.device];

    let (one, two) = tokio::join!(store.rotate(log.rotation(2, &allow)), other.rotate(log.rotation(3, &allow)));

    let mut outcomes = [one.unwrap(), two.unwrap()];
    outcomes.sort_by_key(|outcome| matches!(outcome, Rotated::Conflict { .. }));
    assert_eq!(outcomes, [Rotated::Done { auth_gen: 1, cursor: 2 }, Rotated::Conflict { auth_gen: 1 }]);
    assert_eq!(log.head(&*store).await, 2);
}

pub async fn a_repeated_rotation_is_done_not_in_conflict(store: Subject) {
    let log = found(&*store, 1).await;
    let rotation = log.rotation(2, &[log.device]);
    store.rotate(rotation.clone()).await.unwrap();

    let again = store.rotate(rotation.clone()).await.unwrap();

    assert_eq!(again, Rotated::Again { auth_gen: 1, cursor: 2 });
    let log = log.rotated(&*store, 2, &[log.device]).await.rotated(&*store, 3, &[log.device]).await;
    assert_eq!(log.auth_gen, 2);
    assert_eq!(store.rotate(rotation).await.unwrap(), Rotated::Again { auth_gen: 2, cursor: 2 });
    assert_eq!(log.head(&*store).await, 3);
}

pub async fn a_pushed_epoch_envelope_is_not_taken_for_a_rotation(store: Subject) {
    let log = found(&*store, 1).await;
    log.stored(&*store, &[epoch_envelope(2), envelope(1)]).await;

    let done = store.rotate(log.rotation(2, &[log.device])).await.unwrap();

    assert_eq!(done, Rotated::Done { auth_gen: 1, cursor: 2 });
    assert_eq!(store.lookup(&LogName::of(&auth(2))).await.unwrap(), Lookup::Current(log.group));
}

pub async fn a_quota_does_not_stop_a_rotation(store: Subject) {
    let log = found(&*store, 1).await;
    log.append_within(&*store, &[envelope(1)], 1).await;

    let rotated = log.rotated(&*store, 2, &[log.device]).await;

    assert_eq!(rotated.head(&*store).await, 2);
}

pub async fn a_rotation_over_what_it_may_take_itself_changes_nothing(store: Subject) {
    let log = found(&*store, 1).await;
    let before = log.admitted(&*store).await;
    let rotation = log.rotation(2, &[log.device]);
    let full = before.group_bytes + rotation.epoch_envelope.len() as u64;

    let refused = store.rotate(RotateRequest { group_bytes_max: full - 1, ..rotation.clone() }).await.unwrap();

    assert_eq!(refused, Rotated::QuotaExceeded);
    assert_eq!(log.admitted(&*store).await, before);
    assert_eq!(store.lookup(&LogName::of(&auth(2))).await.unwrap(), Lookup::Unknown, "the name is free");
    let done = store.rotate(RotateRequest { group_bytes_max: full, ..rotation }).await.unwrap();
    assert_eq!(done, Rotated::Done { auth_gen: 1, cursor: 2 });
}

pub async fn a_restriction_removes_and_admits_nobody_until_the_rotation(store: Subject) {
    let log = found(&*store, 1).await;
    log.by(device(8)).admitted(&*store).await;
    log.by(device(9)).admitted(&*store).await;

    assert_eq!(log.restrict(&*store, &[device(1), device(8)]).await, Restricted::Done { head: 1 });

    assert_eq!(log.by(device(9)).admit(&*store).await, Admission::Restricted);
    assert_eq!(log.by(device(50)).admit(&*store).await, Admission::Restricted);
    assert_eq!(log.by(device(8)).admitted(&*store).await.allow, [device(1), device(8)]);
    let log = log.rotated(&*store, 2, &[device(1)]).await;
    assert_eq!(log.by(device(50)).admitted(&*store).await.allow, [device(1), device(50)]);
}

pub async fn a_removed_device_neither_restricts_nor_rotates(store: Subject) {
    let log = found(&*store, 1).await;
    let removed = log.by(device(9));
    removed.admitted(&*store).await;
    log.restrict(&*store, &[log.device]).await;

    assert_eq!(removed.restrict(&*store, &[removed.device]).await, Restricted::Revoked);
    assert_eq!(store.rotate(removed.rotation(9, &[removed.device])).await.unwrap(), Rotated::Revoked);

    assert_eq!(log.admitted(&*store).await.allow, [log.device]);
    assert_eq!(store.lookup(&LogName::of(&auth(9))).await.unwrap(), Lookup::Unknown);
}

pub async fn a_session_of_an_old_generation_restricts_nothing(store: Subject) {
    let log = found(&*store, 1).await;
    let rotated = log.rotated(&*store, 2, &[device(1), device(9)]).await;

    let refused = log.restrict(&*store, &[device(1)]).await;

    assert_eq!(refused, Restricted::Superseded { epoch_envelope: epoch_envelope(2) });
    assert_eq!(rotated.admitted(&*store).await.allow, [device(1), device(9)]);
}

pub async fn a_device_finds_its_logs_and_their_current_epoch(store: Subject) {
    let (one, two) = (found(&*store, 1).await, found(&*store, 2).await);
    found(&*store, 3).await;
    let lost = device(9);
    one.by(lost).admitted(&*store).await;
    two.by(lost).admitted(&*store).await;
    note(&*store, DeviceNote { seen_ms: NOW + 1, ..note_of(&two.by(lost)) }).await;
    slot_put(&*store, &one.by(lost), b"slot").await;
    one.rotated(&*store, 4, &[device(1), lost]).await;

    let logs = store.logs_of(&lost).await.unwrap();

    let of_one = KnownLog { epoch_envelope: epoch_envelope(4), slot: Bytes::from_static(b"slot") };
    let of_two = KnownLog { epoch_envelope: epoch_envelope(2), slot: Bytes::new() };
    assert_eq!(logs, [of_two, of_one]);
    assert_eq!(store.logs_of(&device(99)).await.unwrap(), []);
}

pub async fn a_device_finds_at_most_four_logs(store: Subject) {
    for n in 1..=6 {
        found(&*store, n).await.by(device(9)).admitted(&*store).await;
    }

    assert_eq!(store.logs_of(&device(9)).await.unwrap().len(), SUPERSEDED_LOGS_MAX);
}

pub async fn a_slot_is_kept_until_its_device_is_removed(store: Subject) {
    let log = found(&*store, 1).await;
    let other = log.by(device(9));
    other.admitted(&*store).await;
    slot_put(&*store, &log, b"mine").await;
    slot_put(&*store, &other, b"theirs").await;

    let log = log.rotated(&*store, 2, &[device(1), device(9)]).await;
    let theirs = Slot { device: device(9), acked: 0, data: Bytes::from_static(b"theirs") };
    let admitted = log.admitted(&*store).await;
    assert_eq!((admitted.slot, admitted.slots), (Bytes::from_static(b"mine"), vec![theirs]));
    assert_eq!(log.by(device(9)).admitted(&*store).await.slot, "theirs");

    log.restrict(&*store, &[device(1)]).await;
    slot_put(&*store, &other, b"too late").await;
    let log = log.rotated(&*store, 3, &[device(1), device(9)]).await;
    assert_eq!(log.by(device(9)).admitted(&*store).await.slot, "");
    assert_eq!(log.admitted(&*store).await.slot, "mine");
}

pub async fn an_ack_stores_the_receipt_and_never_goes_back(store: Subject) {
    let log = found(&*store, 1).await;
    log.stored(&*store, &[envelope(1), envelope(2)]).await;
    let ack = async |cursor, receipt: Option<&'static [u8]>| {
        note(&*store, DeviceNote { acked: Some(cursor), slot: receipt.map(Bytes::from_static), ..note_of(&log) }).await;
        store.texts("SELECT CAST(acked AS text) FROM devices").await
    };

    assert_eq!(ack(2, Some(b"receipt")).await, ["2"]);
    assert_eq!(ack(1, None).await, ["2"]);
    assert_eq!(log.admitted(&*store).await.slot, "receipt");
    assert_eq!(ack(99, None).await, ["3"], "no further than the head");

    note(&*store, DeviceNote { acked: Some(1), ..note_of(&log.by(device(77))) }).await;
    assert_eq!(log.admitted(&*store).await.allow, [log.device]);
    assert_eq!(log.stored(&*store, &[envelope(1)]).await, [known(2)]);
}
