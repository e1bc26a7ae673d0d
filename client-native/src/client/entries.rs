//! The app's entries, page by page from storage and then live.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::stream::{self, BoxStream, Stream};
use zerok_sync_core::io::Row;
use zerok_sync_core::{Engine, Entry, EntryReader, Stored, StoredEntries};
use zerok_sync_protocol::BlobId;

use super::Client;
use crate::error::ClientError;

/// Envelopes that are read at a time: a screenful of small ones, or one of the largest.
const PAGE_BYTES: usize = 256 * 1024;

/// Which entries to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EntriesOptions {
    /// Start behind this position; by default behind the last one that was marked processed. What is
    /// gone there a snapshot stands for, which comes first.
    pub after: Option<u64>,
    /// Give this device's own entries too.
    pub own: bool,
    /// End where storage ends, instead of waiting for more.
    pub stored_only: bool,
}

/// Entries in the order of their positions, each once. Ends when the client is closed.
pub struct Entries(BoxStream<'static, Result<Entry, ClientError>>);

impl Stream for Entries {
    type Item = Result<Entry, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}

impl Client {
    /// Other devices' entries: those not yet marked processed, and then each new one as it comes.
    /// Call [`Client::mark_processed`] when an entry needs not come again after a restart.
    ///
    /// Nothing is held in memory for a slow reader.
    #[must_use]
    pub fn entries(&self) -> Entries {
        self.entries_with(EntriesOptions::default())
    }

    /// [`Client::entries`] with a choice.
    #[must_use]
    pub fn entries_with(&self, options: EntriesOptions) -> Entries {
        let after = options.after.unwrap_or_else(|| self.watched.status.borrow().processed);
        let (page, row) = (VecDeque::new(), None);
        let reader = Reader { client: self.clone(), options, after, page, row, not_whole: None, failed: false };
        Entries(Box::pin(stream::unfold(reader, |mut reader| async move {
            let item = reader.next().await.transpose()?;
            reader.failed = item.is_err();
            Some((item, reader))
        })))
    }
}

struct Reader {
    client: Client,
    options: EntriesOptions,
    /// Everything up to here was given, or passed over.
    after: u64,
    /// Rows to be opened, and with what.
    page: VecDeque<(EntryReader, Row)>,
    /// The row that is being read. Envelopes are opened here, in the app's own task, one at a time.
    row: Option<StoredEntries>,
    /// An entry that lacked some of its parts.
    not_whole: Option<BlobId>,
    /// An error was given; nothing comes behind it.
    failed: bool,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Entry>, ClientError> {
        while !self.failed {
            if let Some(entry) = self.row.as_mut().and_then(StoredEntries::next) {
                let entry = entry?;
                let (position, blob_id) = (entry.position(), entry.blob_id());
                self.after = position;
                if !self.options.own && !entry.is_news() {
                    continue;
                }
                return match self.whole(entry).await {
                    Err(ClientError::Closed) => Ok(None),
                    // Its parts may have gone since its row was read, for a snapshot in its place or behind
                    // it: that comes next. An entry that is there again and lacks them again is damaged.
                    Err(_) if self.not_whole != Some(blob_id) => {
                        self.not_whole = Some(blob_id);
                        self.after = position.saturating_sub(1);
                        (self.page, self.row) = (VecDeque::new(), None);
                        continue;
                    }
                    entry => entry.map(Some),
                };
            }
            self.row = self.page.pop_front().map(|(reader, row)| reader.entries(row, self.after));
            if self.row.is_some() {
                continue;
            }
            self.page = match self.read_page().await {
                Err(ClientError::Closed) => return Ok(None),
                page => page?,
            };
            if !self.page.is_empty() {
                continue;
            }
            if self.options.stored_only {
                return Ok(None);
            }
            let after = self.after;
            match self.client.watched.progress(|progress| (progress.position > after).then_some(())).await {
                Err(ClientError::Closed) => return Ok(None),
                more => more?,
            }
        }
        Ok(None)
    }

    /// The entry with all its parts.
    async fn whole(&self, stored: Stored) -> Result<Entry, ClientError> {
        match stored {
            Stored::Whole(entry) => Ok(entry),
            Stored::InParts(mut batch) => {
                while let Some(range) = batch.wants() {
                    batch.take(self.client.read(range, PAGE_BYTES, |_, rows| rows).await?)?;
                }
                Ok(batch.finish()?)
            }
        }
    }

    /// Below it a snapshot stands for everything.
    fn first_position(&self) -> u64 {
        self.client.watched.status.borrow().first_position
    }

    async fn read_page(&self) -> Result<VecDeque<(EntryReader, Row)>, ClientError> {
        let range = Engine::entry_range(self.after.max(self.first_position() - 1));
        self.client
            .read(range, PAGE_BYTES, |engine, rows| rows.into_iter().map(|row| (engine.entry_reader(), row)).collect())
            .await
    }
}
