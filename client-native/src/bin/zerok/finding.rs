//! What a relay or a device did that an honest one does not do: a line for people, an object for
//! programs.

use serde_json::{Value, json};
use zerok_sync::{DeviceId, IntegrityEvent};

/// What is on record, each once: one session finds again what another has found.
pub fn on_record(findings: &[IntegrityEvent]) -> Vec<&IntegrityEvent> {
    let mut once: Vec<&IntegrityEvent> = Vec::new();
    for finding in findings {
        if !once.contains(&finding) {
            once.push(finding);
        }
    }
    once
}

/// One accusation and its evidence, in a line.
pub fn describe(finding: &IntegrityEvent) -> String {
    match finding {
        IntegrityEvent::Corrupt { cursor, blob_id } => format!("entry {cursor} ({blob_id}) is damaged or forged"),
        IntegrityEvent::Lost { cursor, blob_id: Some(blob_id) } => format!("the relay lost entry {cursor} ({blob_id})"),
        IntegrityEvent::Lost { cursor, blob_id: None } => format!("the relay lost entry {cursor}"),
        IntegrityEvent::Gap { sender, from_seq, to_seq } => {
            format!("{} missing", entries_are(*from_seq, *to_seq, sender))
        }
        IntegrityEvent::ForkedDevice { sender, seq, first, second } => {
            format!("device {sender} wrote two different entries {seq}: {first} and {second}")
        }
        IntegrityEvent::ForgedByMember { cursor, sender } => {
            format!("entry {cursor} bears the name of device {sender}, which did not sign it")
        }
        IntegrityEvent::NotAMember { cursor, sender } => {
            format!("entry {cursor} is by {sender}, which is not a device of the group")
        }
        IntegrityEvent::Replayed { cursor, blob_id } => format!("the relay repeated {blob_id} as entry {cursor}"),
        IntegrityEvent::Reordered { cursor, sender } => {
            format!("the relay changed the order of device {sender}'s entries at {cursor}")
        }
        IntegrityEvent::CursorJump { expected, got } => {
            format!("the relay went on with entry {got} where {expected} should have come")
        }
        IntegrityEvent::RolledBack { from, to: Some(to) } => {
            format!("the relay no longer has what it had up to entry {from}: only up to entry {to} it is the same")
        }
        IntegrityEvent::RolledBack { from, to: None } => {
            format!("the relay no longer has what it had up to entry {from}")
        }
        IntegrityEvent::Forked { observer, cursor } => {
            format!("the relay showed device {observer} another order than this one, up to entry {cursor}")
        }
        IntegrityEvent::Quarantined { cursor, sender, seq } => {
            format!("entry {cursor} is number {seq} of {sender}, which was removed before it wrote that: held back")
        }
        IntegrityEvent::FalseSnapshot { sender, seq } => {
            format!(
                "the snapshot that device {sender} made as its entry {seq} is not what the log says: it is not used"
            )
        }
        IntegrityEvent::MembershipConflict { cursor, one, other } => {
            format!(
                "devices {one} and {other} removed each other, and the relay took the second removal (entry {cursor}) for the first: decide who stays, and pair the others again"
            )
        }
        IntegrityEvent::Withheld { from_cursor, to_cursor } => {
            format!(
                "the relay keeps back entries {from_cursor} to {to_cursor}, and no snapshot stands for them: it was asked to give them back"
            )
        }
        IntegrityEvent::Unproven { sender, from_seq, to_seq, by } => {
            format!(
                "device {by} says that it has entries {from_seq} to {to_seq} of device {sender}, and nothing else shows that there are any: the relay keeps them back, or that device says what is not so"
            )
        }
        IntegrityEvent::FalseSeen { by, sender, seq } => {
            format!(
                "device {by} says that it has entry {seq} of device {sender}, and that device wrote no such entry: the one that says so is broken or lies, or device {sender} was restored from an older copy of itself"
            )
        }
        // The enum grows with the detectors.
        other => format!("{other:?}"),
    }
}

/// The same for programs: its kind, the evidence, and the line for people. Kinds and evidence are
/// those of the npm package, written as in the rest of the JSON here; `docs/TERMINAL.md` lists them.
pub fn object(finding: &IntegrityEvent) -> Value {
    let (kind, mut object) = match finding {
        IntegrityEvent::Corrupt { cursor, blob_id } => {
            ("corrupt", json!({ "cursor": cursor, "blob_id": blob_id.to_string() }))
        }
        IntegrityEvent::Lost { cursor, blob_id: Some(blob_id) } => {
            ("lost", json!({ "cursor": cursor, "blob_id": blob_id.to_string() }))
        }
        IntegrityEvent::Lost { cursor, blob_id: None } => ("lost", json!({ "cursor": cursor })),
        IntegrityEvent::Gap { sender, from_seq, to_seq } => {
            ("gap", json!({ "sender": sender.to_string(), "from_seq": from_seq, "to_seq": to_seq }))
        }
        IntegrityEvent::ForkedDevice { sender, seq, first, second } => (
            "forked_device",
            json!({ "sender": sender.to_string(), "seq": seq, "first": first.to_string(), "second": second.to_string() }),
        ),
        IntegrityEvent::ForgedByMember { cursor, sender } => {
            ("forged_by_member", json!({ "cursor": cursor, "sender": sender.to_string() }))
        }
        IntegrityEvent::NotAMember { cursor, sender } => {
            ("not_a_member", json!({ "cursor": cursor, "sender": sender.to_string() }))
        }
        IntegrityEvent::Replayed { cursor, blob_id } => {
            ("replayed", json!({ "cursor": cursor, "blob_id": blob_id.to_string() }))
        }
        IntegrityEvent::Reordered { cursor, sender } => {
            ("reordered", json!({ "cursor": cursor, "sender": sender.to_string() }))
        }
        IntegrityEvent::CursorJump { expected, got } => ("cursor_jump", json!({ "expected": expected, "got": got })),
        IntegrityEvent::RolledBack { from, to: Some(to) } => ("rolled_back", json!({ "from": from, "to": to })),
        IntegrityEvent::RolledBack { from, to: None } => ("rolled_back", json!({ "from": from })),
        IntegrityEvent::Forked { observer, cursor } => {
            ("forked", json!({ "observer": observer.to_string(), "cursor": cursor }))
        }
        IntegrityEvent::Quarantined { cursor, sender, seq } => {
            ("quarantined", json!({ "cursor": cursor, "sender": sender.to_string(), "seq": seq }))
        }
        IntegrityEvent::FalseSnapshot { sender, seq } => {
            ("false_snapshot", json!({ "sender": sender.to_string(), "seq": seq }))
        }
        IntegrityEvent::MembershipConflict { cursor, one, other } => {
            ("membership_conflict", json!({ "cursor": cursor, "one": one.to_string(), "other": other.to_string() }))
        }
        IntegrityEvent::Withheld { from_cursor, to_cursor } => {
            ("withheld", json!({ "from_cursor": from_cursor, "to_cursor": to_cursor }))
        }
        IntegrityEvent::Unproven { sender, from_seq, to_seq, by } => (
            "unproven",
            json!({ "sender": sender.to_string(), "from_seq": from_seq, "to_seq": to_seq, "by": by.to_string() }),
        ),
        IntegrityEvent::FalseSeen { by, sender, seq } => {
            ("false_seen", json!({ "by": by.to_string(), "sender": sender.to_string(), "seq": seq }))
        }
        // The enum grows with the detectors; the text says what it is.
        _ => ("other", json!({})),
    };
    object["kind"] = kind.into();
    object["text"] = describe(finding).into();
    object
}

/// Entries of a device and the verb that goes with them.
pub fn entries_are(from_seq: u64, to_seq: u64, device: &DeviceId) -> String {
    if from_seq == to_seq {
        format!("entry {from_seq} of device {device} is")
    } else {
        format!("entries {from_seq} to {to_seq} of device {device} are")
    }
}
