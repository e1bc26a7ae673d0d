//! Pairing mailboxes in SQLite. A closed one stays until it expires, so that the other side still
//! gets the last words.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use zerok_sync_protocol::MailboxId;
use zerok_sync_protocol::limits::MAILBOX_MESSAGES_MAX;

use crate::store::rules::{fixed, from_db, mailbox as rules, to_db};
use crate::store::{Mailbox, MailboxInbox, MailboxOpening, MailboxRequest, MailboxSide, Result};

pub(super) fn open(db: &Transaction<'_>, request: MailboxRequest) -> Result<MailboxOpening> {
    let MailboxRequest { group, salt, now_ms, expires_at_ms, .. } = request;
    let (total, of_group): (i64, i64) = db
        .prepare_cached("SELECT count(*), count(*) FILTER (WHERE group_id = ?1) FROM mailboxes WHERE expires_at > ?2")?
        .query_row(params![&group.0, to_db(now_ms)], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if let Some(full) = rules::no_room(&request, total, of_group) {
        return Ok(full);
    }
    let mut insert = db.prepare_cached(
        "INSERT INTO mailboxes (mailbox_id, group_id, salt, expires_at, joined, closed) VALUES (?1, ?2, ?3, ?4, 0, 0)
         ON CONFLICT (mailbox_id) DO UPDATE
         SET group_id = excluded.group_id, salt = excluded.salt, expires_at = excluded.expires_at,
             joined = 0, closed = 0
         WHERE expires_at <= ?5",
    )?;
    for id in request.candidates {
        let values = params![id.as_bytes(), &group.0, &salt, to_db(expires_at_ms), to_db(now_ms)];
        if insert.execute(values)? == 1 {
            db.prepare_cached("DELETE FROM mailbox_messages WHERE mailbox_id = ?1")?.execute([id.as_bytes()])?;
            return Ok(MailboxOpening::Opened(Mailbox { id, salt, expires_at_ms }));
        }
    }
    Ok(MailboxOpening::Full)
}

pub(super) fn join(db: &Transaction<'_>, id: MailboxId, now_ms: u64) -> Result<Option<Mailbox>> {
    let joined: Option<(Vec<u8>, i64)> = db
        .prepare_cached(
            "UPDATE mailboxes SET joined = 1
             WHERE mailbox_id = ?1 AND joined = 0 AND closed = 0 AND expires_at > ?2 RETURNING salt, expires_at",
        )?
        .query_row(params![id.as_bytes(), to_db(now_ms)], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((salt, expires_at)) = joined else { return Ok(None) };
    Ok(Some(Mailbox { id, salt: fixed(&salt)?, expires_at_ms: from_db(expires_at)? }))
}

pub(super) fn send(
    db: &Transaction<'_>,
    mailbox: &Mailbox,
    from: MailboxSide,
    data: &[u8],
    now_ms: u64,
) -> Result<bool> {
    let sent = db
        .prepare_cached(
            "INSERT INTO mailbox_messages (mailbox_id, number, from_joiner, data)
             SELECT mailbox_id, (SELECT count(*) FROM mailbox_messages WHERE mailbox_id = ?1), ?2, ?3
             FROM mailboxes
             WHERE mailbox_id = ?1 AND salt = ?6 AND closed = 0 AND expires_at > ?4
               AND (SELECT count(*) FROM mailbox_messages WHERE mailbox_id = ?1) < ?5",
        )?
        .execute(params![
            mailbox.id.as_bytes(),
            rules::is_joiners(from),
            data,
            to_db(now_ms),
            MAILBOX_MESSAGES_MAX as i64,
            &mailbox.salt
        ])?;
    Ok(sent == 1)
}

pub(super) fn inbox(
    db: &Connection,
    mailbox: &Mailbox,
    side: MailboxSide,
    skip: usize,
    now_ms: u64,
) -> Result<MailboxInbox> {
    let is_open = db
        .prepare_cached(
            "SELECT 1 FROM mailboxes WHERE mailbox_id = ?1 AND salt = ?3 AND closed = 0 AND expires_at > ?2",
        )?
        .exists(params![mailbox.id.as_bytes(), to_db(now_ms), &mailbox.salt])?;
    let mut statement = db.prepare_cached(
        "SELECT data FROM mailbox_messages JOIN mailboxes USING (mailbox_id)
         WHERE mailbox_id = ?1 AND salt = ?4 AND from_joiner = ?2 ORDER BY number LIMIT -1 OFFSET ?3",
    )?;
    let from_joiner = rules::reads_joiners(side);
    let messages = statement
        .query_map(params![mailbox.id.as_bytes(), from_joiner, to_db(skip as u64), &mailbox.salt], |row| {
            row.get::<_, Vec<u8>>(0)
        })?
        .map(|data| data.map(Bytes::from))
        .collect::<std::result::Result<_, _>>()?;
    Ok(rules::inbox(is_open, messages))
}

pub(super) fn close(db: &Transaction<'_>, mailbox: &Mailbox, forget_at_ms: u64) -> Result<()> {
    db.prepare_cached(
        "UPDATE mailboxes SET closed = 1, expires_at = min(expires_at, ?2) WHERE mailbox_id = ?1 AND salt = ?3",
    )?
    .execute(params![mailbox.id.as_bytes(), to_db(forget_at_ms), &mailbox.salt])?;
    Ok(())
}

pub(super) fn sweep(db: &Transaction<'_>, now_ms: u64) -> Result<u64> {
    db.execute(
        "DELETE FROM mailbox_messages
         WHERE mailbox_id IN (SELECT mailbox_id FROM mailboxes WHERE expires_at <= ?1)",
        [to_db(now_ms)],
    )?;
    Ok(db.execute("DELETE FROM mailboxes WHERE expires_at <= ?1", [to_db(now_ms)])? as u64)
}
