//! Mailboxes: what both databases decide alike.

use bytes::Bytes;

use crate::store::rules::to_db;
use crate::store::{MailboxInbox, MailboxOpening, MailboxRequest, MailboxSide};

/// Why no mailbox is opened, given how many there are that have not expired.
pub(in crate::store) fn no_room(request: &MailboxRequest, total: i64, of_group: i64) -> Option<MailboxOpening> {
    if of_group >= to_db(request.per_group_max) {
        Some(MailboxOpening::GroupFull)
    } else if total >= to_db(request.total_max) {
        Some(MailboxOpening::Full)
    } else {
        None
    }
}

/// Whether a message of this side has `from_joiner` set.
pub(in crate::store) fn is_joiners(from: MailboxSide) -> bool {
    from == MailboxSide::Joiner
}

/// Whether this side reads the messages that have `from_joiner` set: each reads the other's.
pub(in crate::store) fn reads_joiners(reader: MailboxSide) -> bool {
    !is_joiners(reader)
}

/// What a side is told. Whether the mailbox is open has to be read before its messages: what came
/// before the close is then among them.
pub(in crate::store) fn inbox(is_open: bool, messages: Vec<Bytes>) -> MailboxInbox {
    if is_open { MailboxInbox::Open(messages) } else { MailboxInbox::Closed(messages) }
}
