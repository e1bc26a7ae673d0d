//! Pairing mailboxes in Postgres: the two parties may be on different instances. A closed one
//! stays until it expires, so that the other side still gets the last words.

use deadpool_postgres::Client;
use zerok_sync_protocol::MailboxId;
use zerok_sync_protocol::limits::MAILBOX_MESSAGES_MAX;

use super::pool::failed;
use super::read::bytes;
use crate::store::rules::{fixed, from_db, mailbox as rules, to_db};
use crate::store::{Mailbox, MailboxInbox, MailboxOpening, MailboxRequest, MailboxSide, Result};

/// Requests that come at the same moment are counted one by one: they may go over a limit by
/// their number, and no further.
pub(super) async fn open(client: &mut Client, request: MailboxRequest) -> Result<MailboxOpening> {
    let MailboxRequest { group, salt, now_ms, expires_at_ms, .. } = request;
    let db = client.transaction().await.map_err(failed)?;
    let count = db
        .prepare_cached("SELECT count(*), count(*) FILTER (WHERE group_id = $1) FROM mailboxes WHERE expires_at > $2")
        .await
        .map_err(failed)?;
    let row = db.query_one(&count, &[&&group.0[..], &to_db(now_ms)]).await.map_err(failed)?;
    let (total, of_group): (i64, i64) = (row.get(0), row.get(1));
    if let Some(full) = rules::no_room(&request, total, of_group) {
        return Ok(full);
    }
    let insert = db
        .prepare_cached(
            "INSERT INTO mailboxes (mailbox_id, group_id, salt, expires_at, joined, closed)
             VALUES ($1, $2, $3, $4, false, false)
             ON CONFLICT (mailbox_id) DO UPDATE
             SET group_id = excluded.group_id, salt = excluded.salt, expires_at = excluded.expires_at,
                 joined = false, closed = false
             WHERE mailboxes.expires_at <= $5",
        )
        .await
        .map_err(failed)?;
    for id in request.candidates {
        let opened = db
            .execute(&insert, &[&id.as_bytes(), &&group.0[..], &&salt[..], &to_db(expires_at_ms), &to_db(now_ms)])
            .await
            .map_err(failed)?;
        if opened == 1 {
            let forget = "DELETE FROM mailbox_messages WHERE mailbox_id = $1";
            db.execute(forget, &[&id.as_bytes()]).await.map_err(failed)?;
            db.commit().await.map_err(failed)?;
            return Ok(MailboxOpening::Opened(Mailbox { id, salt, expires_at_ms }));
        }
    }
    Ok(MailboxOpening::Full)
}

pub(super) async fn join(db: &Client, id: &MailboxId, now_ms: u64) -> Result<Option<Mailbox>> {
    let update = db
        .prepare_cached(
            "UPDATE mailboxes SET joined = true
             WHERE mailbox_id = $1 AND NOT joined AND NOT closed AND expires_at > $2 RETURNING salt, expires_at",
        )
        .await
        .map_err(failed)?;
    let row = db.query_opt(&update, &[&id.as_bytes(), &to_db(now_ms)]).await.map_err(failed)?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Mailbox { id: id.clone(), salt: fixed(row.get(0))?, expires_at_ms: from_db(row.get(1))? }))
}

pub(super) async fn send(
    client: &mut Client,
    mailbox: &Mailbox,
    from: MailboxSide,
    data: &[u8],
    now_ms: u64,
) -> Result<bool> {
    let id = mailbox.id.as_bytes();
    let db = client.transaction().await.map_err(failed)?;
    let lock = db
        .prepare_cached(
            "SELECT closed OR expires_at <= $2 FROM mailboxes WHERE mailbox_id = $1 AND salt = $3 FOR UPDATE",
        )
        .await
        .map_err(failed)?;
    let over = db.query_opt(&lock, &[&id, &to_db(now_ms), &&mailbox.salt[..]]).await.map_err(failed)?;
    if over.is_none_or(|row| row.get(0)) {
        return Ok(false);
    }
    // A later statement than the lock's: it sees the message that the lock waited for.
    let insert = db
        .prepare_cached(
            "INSERT INTO mailbox_messages (mailbox_id, number, from_joiner, data)
             SELECT $1, count(*), $2, $3 FROM mailbox_messages WHERE mailbox_id = $1 HAVING count(*) < $4",
        )
        .await
        .map_err(failed)?;
    let from_joiner = rules::is_joiners(from);
    let sent =
        db.execute(&insert, &[&id, &from_joiner, &data, &(MAILBOX_MESSAGES_MAX as i64)]).await.map_err(failed)?;
    db.commit().await.map_err(failed)?;
    Ok(sent == 1)
}

pub(super) async fn inbox(
    db: &Client,
    mailbox: &Mailbox,
    side: MailboxSide,
    skip: usize,
    now_ms: u64,
) -> Result<MailboxInbox> {
    let (id, salt) = (mailbox.id.as_bytes(), &mailbox.salt[..]);
    let state = db
        .prepare_cached(
            "SELECT 1 FROM mailboxes WHERE mailbox_id = $1 AND salt = $3 AND NOT closed AND expires_at > $2",
        )
        .await
        .map_err(failed)?;
    let is_open = db.query_opt(&state, &[&id, &to_db(now_ms), &salt]).await.map_err(failed)?.is_some();
    let select = db
        .prepare_cached(
            "SELECT data FROM mailbox_messages JOIN mailboxes USING (mailbox_id)
             WHERE mailbox_id = $1 AND salt = $4 AND from_joiner = $2 ORDER BY number OFFSET $3",
        )
        .await
        .map_err(failed)?;
    let from_joiner = rules::reads_joiners(side);
    let rows = db.query(&select, &[&id, &from_joiner, &to_db(skip as u64), &salt]).await.map_err(failed)?;
    let messages = rows.iter().map(|row| bytes(row, 0)).collect();
    Ok(rules::inbox(is_open, messages))
}

pub(super) async fn close(db: &Client, mailbox: &Mailbox, forget_at_ms: u64) -> Result<()> {
    let update = db
        .prepare_cached(
            "UPDATE mailboxes SET closed = true, expires_at = least(expires_at, $2)
             WHERE mailbox_id = $1 AND salt = $3",
        )
        .await
        .map_err(failed)?;
    db.execute(&update, &[&mailbox.id.as_bytes(), &to_db(forget_at_ms), &&mailbox.salt[..]]).await.map_err(failed)?;
    Ok(())
}

pub(super) async fn sweep(client: &mut Client, now_ms: u64) -> Result<u64> {
    let db = client.transaction().await.map_err(failed)?;
    let now = to_db(now_ms);
    let messages = "DELETE FROM mailbox_messages
                    WHERE mailbox_id IN (SELECT mailbox_id FROM mailboxes WHERE expires_at <= $1)";
    db.execute(messages, &[&now]).await.map_err(failed)?;
    let swept = db.execute("DELETE FROM mailboxes WHERE expires_at <= $1", &[&now]).await.map_err(failed)?;
    db.commit().await.map_err(failed)?;
    Ok(swept)
}
