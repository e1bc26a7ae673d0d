//! What a storage holds on the first day of a membership.

use bytes::Bytes;
use rand_core::CryptoRng;
use zerok_sync_protocol::{BlobId, wire};

use super::{
    CreationRow, FORMAT, FormatRow, GroupRow, IdentityRow, JoiningRow, OutboxRow, ProgressRow, RelayRow, hot, hot_key,
    outbox_key, put_sealed,
};
use crate::certificate::JoinCertificate;
use crate::content::Kind;
use crate::engine::connection::random;
use crate::io::{Batch, RelayAddress};
use crate::keyring::Keyring;
use crate::keys::{MembershipSeed, StoreKey};
use crate::pairing::HistoryStart;
use crate::store_seal;

/// Everything a storage holds on the first day of a membership.
pub(crate) struct InitialState<'a> {
    pub(crate) seed: &'a MembershipSeed,
    /// Exact bytes of the genesis body.
    pub(crate) genesis: Bytes,
    pub(crate) keyring: &'a Keyring,
    /// The home relay first.
    pub(crate) relays: Vec<RelayAddress>,
    pub(crate) device_name: String,
    /// Founder: what `Create` needs.
    pub(crate) founding: Option<Founding>,
    /// Joiner: its certificate and what it must find before it pushes.
    pub(crate) joining: Option<(JoinCertificate, JoiningRow)>,
    /// Joiner: where the log at one relay starts, if entries are gone.
    pub(crate) history_start: Option<(HistoryStart, String)>,
}

/// What only the founder starts with.
pub(crate) struct Founding {
    pub(crate) token: Option<Bytes>,
    pub(crate) genesis_envelope: Bytes,
    pub(crate) genesis_blob_id: BlobId,
}

/// The batch that turns an empty storage into a member's.
pub(crate) fn initial_rows(state: InitialState<'_>, store_key: &StoreKey, rng: &mut impl CryptoRng) -> Batch {
    let mut batch = Batch::default();
    batch.put(hot_key(hot::FORMAT, &[]), wire::encode(&FormatRow { format: FORMAT }));

    let identity = IdentityRow {
        seed: Bytes::copy_from_slice(state.seed.expose()),
        genesis: state.genesis,
        epoch_secrets: state.keyring.secrets().cloned().collect(),
        current_epoch: state.keyring.current().id,
        unproven_secrets: Vec::new(),
    };
    put_sealed(&mut batch, hot_key(hot::IDENTITY, &[]), &wire::encode(&identity), store_key, rng);

    let mut progress = ProgressRow { ..ProgressRow::empty() };
    if let Some(founding) = &state.founding {
        // The genesis envelope is the founder's seq 1 and travels in `Create`.
        progress.sealed_seq = 1;
        progress.acked_seq = 1;
        progress.sealed_blob_id = founding.genesis_blob_id;
        progress.lamport = 1;
        // Genesis holds keys only; the founder introduces itself right behind it.
        let name = Bytes::copy_from_slice(state.device_name.as_bytes());
        batch.put(outbox_key(2), waiting(store_key, 2, Kind::RENAME, &name, rng));
        progress.queued_seq = 2;
        progress.outbox_bytes = name.len() as u64;
    }
    if let Some((certificate, joining)) = &state.joining {
        let body = certificate.to_bytes();
        batch.put(outbox_key(1), waiting(store_key, 1, Kind::JOIN, &body, rng));
        progress.queued_seq = 1;
        progress.outbox_bytes = body.len() as u64;
        batch.put(hot_key(hot::JOINING, &[]), wire::encode(joining));
    }
    batch.put(hot_key(hot::PROGRESS, &[]), wire::encode(&progress));

    let creation =
        state.founding.map(|founding| CreationRow { epoch_envelope: founding.genesis_envelope, token: founding.token });
    let acked_seq = progress.acked_seq;
    let mut creation = creation;
    for (rank, address) in (0..).zip(state.relays) {
        let mut relay = RelayRow { acked_seq, ..RelayRow::new(rank, address, creation.take()) };
        if let Some((start, _)) = state.history_start.as_ref().filter(|(_, at)| *at == relay.url) {
            relay.timeline = start.timeline;
            relay.cursor = start.cursor;
            relay.blob_id_at_cursor = start.blob_id;
            relay.observed = start.hash;
            relay.jumped_to = start.cursor;
            batch.put(hot_key(hot::START, &[]), wire::encode(&start.snapshot));
        }
        batch.put(relay.row_key(), wire::encode(&relay));
    }
    let group = GroupRow { device_name: state.device_name, relays_by: None, relays_read: None };
    batch.put(hot_key(hot::GROUP, &[]), wire::encode(&group));
    batch
}

/// An outbox row of an entry that is not sealed yet.
pub(crate) fn waiting(store_key: &StoreKey, seq: u64, kind: Kind, body: &[u8], rng: &mut impl CryptoRng) -> Vec<u8> {
    let body = store_seal::seal_row(store_key, random(rng), &outbox_key(seq), body).into();
    wire::encode(&OutboxRow::Waiting { kind: kind.0, body })
}
