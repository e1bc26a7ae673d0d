//! What is there after a restart, and whose files are left alone.

use bytes::Bytes;
use zerok_sync_protocol::{LogName, MailboxId};
use zerok_sync_relay::store::{Lookup, MailboxInbox, MailboxSide, StoreError};

use crate::subject::{NOW, Subject, auth, device, envelope, epoch_envelope, found, known, present, slot_put};

pub async fn a_reopened_store_has_everything(mut subject: Subject) {
    let log = found(&*subject, 1).await;
    log.stored(&*subject, &[envelope(1), envelope(2)]).await;
    let log = log.rotated(&*subject, 2, &[device(1), device(9)]).await;
    slot_put(&*subject, &log, b"slot").await;
    log.restrict(&*subject, &[device(1)]).await;
    let mailbox = [MailboxId::from_slice(&[1, 1]).unwrap()];
    let mailbox = crate::mailbox::opened_by(&*subject, crate::mailbox::request(&mailbox, NOW + 1)).await;
    subject.mailbox_send(&mailbox, MailboxSide::Joiner, Bytes::from_static(b"hello"), NOW).await.unwrap();
    let (before, noise) = (log.admitted(&*subject).await, subject.shared_noise_secret(&[1; 32]).await.unwrap());

    subject.close();
    subject.open().await.unwrap();

    let entries = [
        present(1, &epoch_envelope(1)),
        present(2, &envelope(1)),
        present(3, &envelope(2)),
        present(4, &epoch_envelope(2)),
    ];
    assert_eq!(log.everything(&*subject).await, entries);
    assert_eq!(log.admitted(&*subject).await, before);
    assert_eq!(subject.lookup(&LogName::of(&auth(1))).await.unwrap(), Lookup::Superseded(log.group));
    assert_eq!(log.stored(&*subject, &[envelope(1)]).await, [known(2)]);
    let inbox = subject.mailbox_read(&mailbox, MailboxSide::Inviter, 0, NOW).await.unwrap();
    assert_eq!(inbox, MailboxInbox::Open(vec![Bytes::from_static(b"hello")]));
    assert_eq!(subject.shared_noise_secret(&[2; 32]).await.unwrap(), noise);
}

pub async fn a_store_of_another_schema_version_is_refused(mut subject: Subject) {
    found(&*subject, 1).await;
    subject.sql("UPDATE meta SET value = (SELECT noise_key FROM devices) WHERE key = 'schema_version'").await;
    subject.close();

    let refused = subject.open().await.unwrap_err();

    assert!(matches!(&refused, StoreError::Corrupt(text) if text.contains("schema version")), "{refused}");
}

pub async fn a_fresh_store_is_ready(subject: Subject) {
    subject.ready().await.unwrap();
}
