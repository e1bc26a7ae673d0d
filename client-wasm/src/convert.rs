//! The core's types as plain JavaScript objects, in the shapes that `ts/bridge.ts` and
//! `ts/status.ts` declare.
//!
//! Numbers travel as JavaScript numbers: exact up to 2^53, which no position or push number of a
//! real group reaches. A relay may claim any cursor; a larger one only prints inexactly.

use js_sys::{Array, Object, Reflect};
use wasm_bindgen::prelude::*;
use zerok_sync_core::{
    AuditReport, Connection, Event, Hole, IntegrityEvent, Recovery, RecoveryDraft, RecoverySheet, Status, TypedWord,
};

use crate::clock::now;
use crate::driver::js_bytes;
use crate::failure::failure;

/// Sets one property; cannot fail on a plain object.
pub(crate) fn set(object: &Object, key: &str, value: &JsValue) {
    let _ = Reflect::set(object, &key.into(), value);
}

/// A plain object.
pub(crate) fn object(properties: &[(&str, JsValue)]) -> Object {
    let object = Object::new();
    for (key, value) in properties {
        set(&object, key, value);
    }
    object
}

fn number(value: u64) -> JsValue {
    JsValue::from_f64(value as f64)
}

fn hex(id: &impl ToString) -> JsValue {
    id.to_string().into()
}

fn names(names: &[String]) -> JsValue {
    names.iter().map(JsValue::from).collect::<Array>().into()
}

/// `CoreEvent`.
pub(crate) fn event(event: &Event) -> Object {
    let (kind, properties): (&str, &[(&str, JsValue)]) = match event {
        Event::StatusChanged => ("status_changed", &[]),
        Event::EntriesAvailable { position } => ("entries_available", &[("position", number(*position))]),
        Event::ProcessedStored { position } => ("processed_stored", &[("position", number(*position))]),
        Event::PushesStored { push } => ("pushes_stored", &[("push", number(*push))]),
        Event::PushesAcked { push } => ("pushes_acked", &[("push", number(*push))]),
        Event::PushesEverywhere { push } => ("pushes_everywhere", &[("push", number(*push))]),
        Event::SnapshotQueued { push } => ("snapshot_queued", &[("push", number(*push))]),
        Event::Reset { position } => ("reset", &[("position", number(*position))]),
        Event::CompactionAdvised { log_bytes, snapshot_bytes } => {
            ("compaction_advised", &[("logBytes", number(*log_bytes)), ("snapshotBytes", number(*snapshot_bytes))])
        }
        Event::PushRefused { push, problem } => {
            ("push_refused", &[("push", number(*push)), ("failure", failure(problem).into())])
        }
        Event::InviteReady { invite, expires_in_ms } => {
            ("invite_ready", &[("invite", invite.to_string().into()), ("expiresInMs", number(*expires_in_ms))])
        }
        Event::JoinerWaiting { name, entries, members } => {
            ("joiner_waiting", &[("name", name.into()), ("entries", number(*entries)), ("members", names(members))])
        }
        Event::InviteAccepted { device, name } => {
            ("invite_accepted", &[("device", hex(device)), ("name", name.into())])
        }
        Event::InviteFailed(error) => ("invite_failed", &[("failure", failure(error).into())]),
        Event::ShowDigits { digits } => ("show_digits", &[("digits", digits.to_string().into())]),
        Event::ConfirmJoin { inviter, relay, members } => {
            ("confirm_join", &[("inviter", inviter.into()), ("relay", relay.into()), ("members", names(members))])
        }
        Event::Joined => ("joined", &[]),
        Event::JoinFailed(error) => ("join_failed", &[("failure", failure(error).into())]),
        Event::Restored => ("restored", &[]),
        Event::RestoreFailed(error) => ("restore_failed", &[("failure", failure(error).into())]),
        Event::MemberJoined { device, name } => ("member_joined", &[("device", hex(device)), ("name", name.into())]),
        Event::MemberRemoved { device, name } => ("member_removed", &[("device", hex(device)), ("name", name.into())]),
        Event::EntriesGivenUp { device, from_seq, to_seq } => {
            ("entries_given_up", &[("device", hex(device)), ("fromSeq", number(*from_seq)), ("toSeq", number(*to_seq))])
        }
        Event::KeysChanged { by } => ("keys_changed", &[("by", hex(by))]),
        Event::Left => ("left", &[]),
        Event::Whispered { device, data } => ("whispered", &[("device", hex(device)), ("data", js_bytes(data).into())]),
        Event::UnknownDeviceAtRelay { relay, noise_key } => {
            ("unknown_device_at_relay", &[("relay", relay.into()), ("noiseKey", hex(noise_key))])
        }
        Event::Repairing { relay, examined, uploaded, done } => (
            "repairing",
            &[
                ("relay", relay.into()),
                ("examined", number(*examined)),
                ("uploaded", number(*uploaded)),
                ("done", (*done).into()),
            ],
        ),
        Event::Integrity(finding) => ("integrity", &[("finding", integrity(finding).into())]),
        Event::StorageFailed(fault) => ("storage_failed", &[("failure", failure(fault).into())]),
    };
    let result = object(properties);
    set(&result, "type", &kind.into());
    result
}

/// `RecoveryDraft`.
pub(crate) fn recovery_draft(draft: &RecoveryDraft, sheet: &RecoverySheet) -> Object {
    let words: Array = draft.words.list().into_iter().map(JsValue::from).collect();
    let asked: Array = draft.asked.iter().map(|place| number(*place as u64)).collect();
    object(&[
        ("words", words.into()),
        ("asked", asked.into()),
        ("text", sheet.text().as_str().into()),
        ("html", sheet.html().as_str().into()),
    ])
}

/// `TypedWord`.
pub(crate) fn typed_word(word: &TypedWord) -> Object {
    let nearest: Array = word.nearest.iter().copied().map(JsValue::from).collect();
    object(&[
        ("typed", word.typed.as_str().into()),
        ("word", word.listed.map_or(JsValue::UNDEFINED, JsValue::from)),
        ("nearest", nearest.into()),
    ])
}

fn recovery(recovery: Recovery) -> &'static str {
    match recovery {
        Recovery::None => "none",
        Recovery::UnderWay => "under_way",
        Recovery::Ready { .. } => "ready",
    }
}

fn made_by(recovery: Recovery) -> JsValue {
    match recovery {
        Recovery::Ready { made_by: Some(device), .. } => hex(&device),
        _ => JsValue::UNDEFINED,
    }
}

/// `CoreStatus`.
pub(crate) fn status(status: &Status) -> Object {
    let now_ms = now().wall_ms;
    let members: Array = status
        .members
        .iter()
        .map(|member| {
            let name = JsValue::from(member.name.as_str());
            object(&[
                ("device", hex(&member.device)),
                ("name", name),
                ("own", member.own.into()),
                ("joinedAt", number(member.joined_at_ms)),
                ("lastWroteAt", member.last_wrote_at_ms.map_or(JsValue::UNDEFINED, number)),
                ("lastHeardAt", member.last_heard_at_ms.map_or(JsValue::UNDEFINED, number)),
                ("stale", member.is_stale(now_ms).into()),
                ("online", member.online.into()),
                ("hasPush", number(member.has_push)),
                ("leaving", member.leaving.into()),
                ("paper", member.paper.into()),
            ])
        })
        .collect();
    let granted: Array = status
        .granted
        .iter()
        .map(|granted| object(&[("device", hex(&granted.device)), ("name", granted.name.as_str().into())]))
        .collect();
    let relays: Array = status
        .relays
        .iter()
        .map(|relay| {
            object(&[
                ("url", relay.address.url.as_str().into()),
                ("key", relay.address.key.map_or(JsValue::UNDEFINED, |key| hex(&key))),
                ("connection", connection(relay.connection).into()),
                ("listed", relay.listed.into()),
                ("settled", relay.settled.into()),
                ("unhealed", relay.unhealed.into()),
                ("putBack", number(relay.put_back)),
                ("hasEverything", (relay.settled && !relay.unhealed).into()),
                ("problem", relay.problem.as_ref().map_or(JsValue::UNDEFINED, |problem| failure(problem).into())),
            ])
        })
        .collect();
    object(&[
        ("relays", relays.into()),
        ("connection", connection(status.connection).into()),
        ("caughtUp", status.caught_up.into()),
        ("relay", status.relay.url.as_str().into()),
        ("relayKey", status.relay.key.map_or(JsValue::UNDEFINED, |key| hex(&key))),
        ("device", hex(&status.device)),
        ("deviceName", status.device_name.as_str().into()),
        ("members", members.into()),
        ("granted", granted.into()),
        ("unknownAtRelay", number(status.unknown_at_relay as u64)),
        ("rotations", number(status.rotations)),
        ("rotating", status.rotating.into()),
        ("recovery", recovery(status.recovery).into()),
        ("recoveryMadeBy", made_by(status.recovery)),
        ("needsRecoveryWords", status.needs_recovery_words().into()),
        ("position", number(status.position)),
        ("processed", number(status.processed)),
        ("relayHead", status.relay_head.map_or(JsValue::UNDEFINED, number)),
        ("outboxCount", number(status.outbox_count)),
        ("outboxBytes", number(status.outbox_bytes)),
        ("storedPush", number(status.stored_push)),
        ("ackedPush", number(status.acked_push)),
        ("everywherePush", number(status.everywhere_push)),
        ("problem", status.problem.as_ref().map_or(JsValue::UNDEFINED, |problem| failure(problem).into())),
        ("holes", holes(&status.holes).into()),
        ("integrity", findings(&status.integrity).into()),
    ])
}

/// `CoreAuditReport`.
pub(crate) fn audit_report(report: &AuditReport) -> Object {
    object(&[("entries", number(report.entries)), ("findings", findings(&report.findings).into())])
}

/// `IntegrityFinding[]`.
fn findings(findings: &[IntegrityEvent]) -> Array {
    findings.iter().map(integrity).collect()
}

/// `Hole[]`.
pub(crate) fn holes(holes: &[Hole]) -> Array {
    let hole = |hole: &Hole| {
        object(&[
            ("device", hex(&hole.device)),
            ("fromSeq", number(hole.from_seq)),
            ("toSeq", number(hole.to_seq)),
            ("waiting", number(hole.waiting)),
        ])
    };
    holes.iter().map(hole).collect()
}

fn connection(connection: Connection) -> &'static str {
    match connection {
        Connection::Offline => "offline",
        Connection::Connecting => "connecting",
        Connection::Handshaking => "handshaking",
        Connection::CatchingUp => "catching_up",
        Connection::Live => "live",
        Connection::WaitingToRetry => "waiting_to_retry",
    }
}

/// `IntegrityFinding`.
fn integrity(finding: &IntegrityEvent) -> Object {
    type Evidence = Vec<(&'static str, JsValue)>;
    let (kind, evidence): (&str, Evidence) = match finding {
        IntegrityEvent::Corrupt { cursor, blob_id } => {
            ("corrupt", vec![("cursor", number(*cursor)), ("blobId", hex(blob_id))])
        }
        IntegrityEvent::Lost { cursor, blob_id } => {
            let blob_id = blob_id.as_ref().map(|id| ("blobId", hex(id)));
            ("lost", std::iter::once(("cursor", number(*cursor))).chain(blob_id).collect())
        }
        IntegrityEvent::Gap { sender, from_seq, to_seq } => {
            ("gap", vec![("sender", hex(sender)), ("fromSeq", number(*from_seq)), ("toSeq", number(*to_seq))])
        }
        IntegrityEvent::ForkedDevice { sender, seq, first, second } => (
            "forked_device",
            vec![("sender", hex(sender)), ("seq", number(*seq)), ("first", hex(first)), ("second", hex(second))],
        ),
        IntegrityEvent::ForgedByMember { cursor, sender } => {
            ("forged_by_member", vec![("cursor", number(*cursor)), ("sender", hex(sender))])
        }
        IntegrityEvent::NotAMember { cursor, sender } => {
            ("not_a_member", vec![("cursor", number(*cursor)), ("sender", hex(sender))])
        }
        IntegrityEvent::Replayed { cursor, blob_id } => {
            ("replayed", vec![("cursor", number(*cursor)), ("blobId", hex(blob_id))])
        }
        IntegrityEvent::Reordered { cursor, sender } => {
            ("reordered", vec![("cursor", number(*cursor)), ("sender", hex(sender))])
        }
        IntegrityEvent::CursorJump { expected, got } => {
            ("cursor_jump", vec![("expected", number(*expected)), ("got", number(*got))])
        }
        IntegrityEvent::RolledBack { from, to } => {
            let to = to.map(|to| ("to", number(to)));
            ("rolled_back", std::iter::once(("from", number(*from))).chain(to).collect())
        }
        IntegrityEvent::Forked { observer, cursor } => {
            ("forked", vec![("observer", hex(observer)), ("cursor", number(*cursor))])
        }
        IntegrityEvent::Quarantined { cursor, sender, seq } => {
            ("quarantined", vec![("cursor", number(*cursor)), ("sender", hex(sender)), ("seq", number(*seq))])
        }
        IntegrityEvent::FalseSnapshot { sender, seq } => {
            ("false_snapshot", vec![("sender", hex(sender)), ("seq", number(*seq))])
        }
        IntegrityEvent::Withheld { from_cursor, to_cursor } => {
            ("withheld", vec![("fromCursor", number(*from_cursor)), ("toCursor", number(*to_cursor))])
        }
        IntegrityEvent::MembershipConflict { cursor, one, other } => {
            ("membership_conflict", vec![("cursor", number(*cursor)), ("one", hex(one)), ("other", hex(other))])
        }
        IntegrityEvent::Unproven { sender, from_seq, to_seq, by } => (
            "unproven",
            vec![("sender", hex(sender)), ("fromSeq", number(*from_seq)), ("toSeq", number(*to_seq)), ("by", hex(by))],
        ),
        IntegrityEvent::FalseSeen { by, sender, seq } => {
            ("false_seen", vec![("by", hex(by)), ("sender", hex(sender)), ("seq", number(*seq))])
        }
        // The core may learn of more before this crate does; its text still says what it is.
        other => ("other", vec![("finding", format!("{other:?}").into())]),
    };
    object(&[("kind", kind.into()), ("evidence", object(&evidence).into())])
}
