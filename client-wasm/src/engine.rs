//! `CoreEngine`: the engine as TypeScript's `Client` sees it.

use std::rc::Rc;

use bytes::Bytes;
use js_sys::{Array, Uint8Array};
use wasm_bindgen::prelude::*;
use zerok_sync_core::io::{Input, RelayAddress, Row, StorageFault};
use zerok_sync_core::keys::StoreKey;
use zerok_sync_core::{Engine, FormerEntry, Founding, InParts, InviteKind, MirrorPolicy, Secrets, Stored};
use zerok_sync_protocol::NoisePublicKey;

use crate::clock::now;
use crate::convert;
use crate::driver::{Driver, js_bytes, read_rows, write_batch};
use crate::failure::{InvalidArgument, thrown};
use crate::host::{CoreHoles, CoreRecoveryDraft, CoreStatus, Host, KeyRange, Rows, StoredEntries};
use crate::packed::{Packed, packed};
use crate::recovery::read_words;

/// One membership of one group, driven by JavaScript's event loop.
#[wasm_bindgen]
pub struct CoreEngine {
    driver: Rc<Driver<Engine>>,
}

#[wasm_bindgen]
impl CoreEngine {
    /// The rows to load before `open`.
    #[wasm_bindgen(js_name = hotRange)]
    #[must_use]
    pub fn hot_range() -> KeyRange {
        key_range(Engine::HOT_FROM, Engine::HOT_TO)
    }

    /// Where the rows with entries behind a position lie, as far as they are there.
    #[wasm_bindgen(js_name = entryRange)]
    #[must_use]
    pub fn entry_range(&self, after: f64) -> KeyRange {
        let first = self.driver.read(Engine::first_position);
        let (from, to) = Engine::entry_range((after as u64).max(first - 1));
        key_range(&from, &to)
    }

    /// Keeps as much of the log as a `full` or an `own` mirror does.
    ///
    /// # Errors
    /// `invalid_argument`.
    #[wasm_bindgen(js_name = setMirrorPolicy)]
    pub fn set_mirror_policy(&self, policy: &str) -> Result<(), JsValue> {
        let policy: MirrorPolicy =
            policy.parse().map_err(|_| thrown(&InvalidArgument("a mirror is \"full\" or \"own\"")))?;
        self.driver.call(|engine, _| engine.set_mirror_policy(policy));
        Ok(())
    }

    /// Makes a group on the relay at this origin. Returns `[keys, values]` to commit to the empty storage before `open`.
    ///
    /// # Errors
    /// `invalid_argument`.
    pub fn found(
        store_key: &[u8],
        seed: &[u8],
        relay: String,
        relay_key: Option<String>,
        device_name: String,
        token: Option<Vec<u8>>,
    ) -> Result<Array, JsValue> {
        let relay = RelayAddress { url: relay, key: relay_key.as_deref().map(noise_key).transpose()? };
        let batch = Engine::found(now(), &secrets(store_key, seed)?, Founding { relay, device_name, token });
        let (keys, values) = write_batch(batch);
        Ok(Array::of2(&keys, &values))
    }

    /// Opens the group in storage; `rows` are those of `hotRange`. It works offline until `start`.
    ///
    /// # Errors
    /// `no_group`, `corrupt`, `newer_database`, `invalid_argument`.
    pub fn open(host: Host, store_key: &[u8], seed: &[u8], rows: &Rows) -> Result<CoreEngine, JsValue> {
        let engine = Engine::open(now(), secrets(store_key, seed)?, read_rows(rows)).map_err(|error| thrown(&error))?;
        Ok(Self { driver: Driver::new(engine, host) })
    }

    /// Goes online.
    pub fn start(&self) {
        self.driver.call(|engine, now| engine.start(now));
    }

    /// Says good-bye to the relay and closes the link.
    pub fn close(&self) {
        self.driver.call(|engine, now| engine.close(now));
    }

    /// Queues a blob; returns its push number.
    ///
    /// # Errors
    /// `too_large`, `stopped`.
    pub fn push(&self, blob: &[u8]) -> Result<f64, JsValue> {
        // Copied once, at the border: the engine keeps it until the relay has it.
        let blob = Bytes::copy_from_slice(blob);
        let number = self.driver.call(|engine, now| engine.push(now, blob)).map_err(|error| thrown(&error))?;
        Ok(number as f64)
    }

    /// Makes a snapshot of the log; `snapshot_queued` says its push number.
    ///
    /// # Errors
    /// `too_large`, `not_processed`, `not_caught_up`, `busy`, `not_yet`, `left`, `stopped`.
    pub fn compact(&self, state: &[u8]) -> Result<(), JsValue> {
        let state = Bytes::copy_from_slice(state);
        self.driver.call(|engine, now| engine.compact(now, state)).map_err(|error| thrown(&error))
    }

    /// The app has processed every entry up to this position. Returns the position that
    /// `processed_stored` reaches.
    #[wasm_bindgen(js_name = markProcessed)]
    pub fn mark_processed(&self, position: f64) -> f64 {
        self.driver.call(|engine, now| engine.mark_processed(now, position as u64)) as f64
    }

    /// Removes the device of this name, or whose identity begins so, and changes the keys. Returns its
    /// identity.
    ///
    /// # Errors
    /// `no_such_device`, `ambiguous_device`, `own_device`, `not_yet`, `left`, `stopped`.
    pub fn revoke(&self, device: &str) -> Result<String, JsValue> {
        let device = self.driver.read(|engine| engine.status().find_device(device)).map_err(|error| thrown(&error))?;
        self.driver.call(|engine, now| engine.revoke(now, device)).map_err(|error| thrown(&error))?;
        Ok(device.to_string())
    }

    /// Changes the group's keys.
    ///
    /// # Errors
    /// `not_yet`, `left`, `stopped`.
    pub fn rotate(&self) -> Result<(), JsValue> {
        self.driver.call(|engine, now| engine.rotate(now)).map_err(|error| thrown(&error))
    }

    /// Begins the group anew without these devices, where no relay lets this one in any more.
    ///
    /// # Errors
    /// `not_needed`, `no_such_device`, `ambiguous_device`, `own_device`, `not_yet`, `left`, `stopped`.
    pub fn refound(&self, without: Vec<String>) -> Result<(), JsValue> {
        let find = |device: &String| self.driver.read(|engine| engine.status().find_device(device));
        let without: Result<Vec<_>, _> = without.iter().map(find).collect();
        let without = without.map_err(|error| thrown(&error))?;
        self.driver.call(|engine, now| engine.refound(now, &without)).map_err(|error| thrown(&error))
    }

    /// Takes this device out of the group.
    ///
    /// # Errors
    /// `last_device`, `not_yet`, `left`, `stopped`.
    pub fn leave(&self) -> Result<(), JsValue> {
        self.driver.call(|engine, now| engine.leave(now)).map_err(|error| thrown(&error))
    }

    /// Lets the group's only device go on, which was restored from an older copy.
    ///
    /// # Errors
    /// `nothing_to_approve`, `not_alone`, `not_yet`, `stopped`.
    pub fn approve(&self) -> Result<(), JsValue> {
        self.driver.call(|engine, now| engine.approve(now)).map_err(|error| thrown(&error))
    }

    /// Gives up the entries that are missing between others of their sender. Returns which; `status`
    /// tells when this device has gone on behind them.
    ///
    /// # Errors
    /// `not_yet`, `left`, `stopped`.
    #[wasm_bindgen(js_name = acceptGaps)]
    pub fn accept_gaps(&self) -> Result<CoreHoles, JsValue> {
        let given_up = self.driver.call(|engine, now| engine.accept_gaps(now)).map_err(|error| thrown(&error))?;
        Ok(convert::holes(&given_up).unchecked_into())
    }

    /// Reads every relay's log again and compares it with what was read; `settled` in `status` says
    /// when that is done.
    #[wasm_bindgen(js_name = verifyRelays)]
    pub fn verify_relays(&self) {
        self.driver.call(|engine, now| engine.verify_relays(now));
    }

    /// The same, and puts back what is missing or damaged there.
    pub fn repair(&self) {
        self.driver.call(|engine, now| engine.repair(now));
    }

    /// Says something to the devices that are there.
    ///
    /// # Errors
    /// `too_large`, `not_connected`, `too_often`.
    pub fn whisper(&self, data: &[u8]) -> Result<(), JsValue> {
        let data = Bytes::copy_from_slice(data);
        self.driver.call(|engine, now| engine.whisper(now, data)).map_err(|error| thrown(&error))
    }

    /// Has another relay carry the group, or makes one that does the home relay; its origin.
    ///
    /// # Errors
    /// `invalid_argument`, `relay_listed`, `too_many_relays`, `not_yet`, `left`, `stopped`.
    #[wasm_bindgen(js_name = addRelay)]
    pub fn add_relay(
        &self,
        url: &str,
        key: Option<String>,
        token: Option<Vec<u8>>,
        home: bool,
    ) -> Result<String, JsValue> {
        let key = key.as_deref().map(noise_key).transpose()?;
        let address = RelayAddress { url: url.to_owned(), key };
        self.driver.call(|engine, now| engine.add_relay(now, address, token, home)).map_err(|error| thrown(&error))
    }

    /// Takes a relay off the group's list.
    ///
    /// # Errors
    /// `relay_not_listed`, `last_relay`, `not_yet`, `left`, `stopped`.
    #[wasm_bindgen(js_name = removeRelay)]
    pub fn remove_relay(&self, url: &str) -> Result<(), JsValue> {
        self.driver.call(|engine, now| engine.remove_relay(now, url)).map_err(|error| thrown(&error))
    }

    /// Gives this device another name.
    ///
    /// # Errors
    /// `invalid_argument`, `not_yet`, `left`, `stopped`.
    pub fn rename(&self, name: &str) -> Result<(), JsValue> {
        self.driver.call(|engine, now| engine.rename(now, name)).map_err(|error| thrown(&error))
    }

    /// Whether entries of a former group are to be brought along.
    #[wasm_bindgen(js_name = isBringing)]
    #[must_use]
    pub fn is_bringing(&self) -> bool {
        self.driver.read(|engine| engine.bringing().is_some())
    }

    /// Nothing is left to be brought along.
    #[wasm_bindgen(js_name = broughtAll)]
    pub fn brought_all(&self) {
        self.driver.call(Engine::brought_all);
    }

    /// New recovery words: `{ words, asked, text, html }`, the last two a sheet to print.
    #[wasm_bindgen(js_name = draftRecovery)]
    #[must_use]
    pub fn draft_recovery(&self) -> CoreRecoveryDraft {
        let draft = self.driver.call(|engine, _| engine.draft_recovery());
        let sheet = self.driver.read(|engine| engine.recovery_sheet(draft.words.clone()));
        convert::recovery_draft(&draft, &sheet).unchecked_into()
    }

    /// Makes words good; `status` tells when they are. Returns the identity of the paper that they
    /// make a member.
    ///
    /// # Errors
    /// `invalid_words`, `words_used`, `busy`, `group_full`, `not_yet`, `left`, `stopped`.
    #[wasm_bindgen(js_name = enrolRecovery)]
    pub fn enrol_recovery(&self, words: String) -> Result<String, JsValue> {
        let words = read_words(words)?;
        let paper = words.membership().device();
        self.driver.call(|engine, now| engine.enrol_recovery(now, words)).map_err(|error| thrown(&error))?;
        Ok(paper.to_string())
    }

    /// Whether storage holds the beginning of a restore whose log was not read so far that the words
    /// vouch for it.
    #[wasm_bindgen(js_name = isRestoring)]
    #[must_use]
    pub fn is_restoring(&self) -> bool {
        self.driver.read(Engine::is_restoring)
    }

    /// Whether a restored group's log was read to its end; `false` for not yet.
    ///
    /// # Errors
    /// What is wrong with it: then nothing of it is to be kept.
    pub fn restored(&self) -> Result<bool, JsValue> {
        match self.driver.read(|engine| engine.status().restored()) {
            None => Ok(false),
            Some(Ok(())) => Ok(true),
            Some(Err(error)) => Err(thrown(&error)),
        }
    }

    /// Opens an invitation by link.
    #[wasm_bindgen(js_name = inviteByLink)]
    pub fn invite_by_link(&self, base_url: Option<String>, ttl_ms: f64) {
        let kind = InviteKind::Link { base: base_url };
        self.driver.call(|engine, now| engine.invite(now, kind, ttl_ms as u64));
    }

    /// Opens an invitation by code.
    #[wasm_bindgen(js_name = inviteByCode)]
    pub fn invite_by_code(&self, ttl_ms: f64) {
        self.driver.call(|engine, now| engine.invite(now, InviteKind::Code, ttl_ms as u64));
    }

    /// The digits that the person typed on `joiner_waiting`; `false`, and nothing has happened, if
    /// the text is not two digits.
    #[wasm_bindgen(js_name = answerJoiner)]
    #[must_use]
    pub fn answer_joiner(&self, typed: &str) -> bool {
        let Ok(digits) = typed.parse() else { return false };
        self.driver.call(|engine, now| engine.answer_joiner(now, digits));
        true
    }

    /// The person said no.
    #[wasm_bindgen(js_name = declineJoiner)]
    pub fn decline_joiner(&self) {
        self.driver.call(|engine, now| engine.decline_joiner(now));
    }

    /// Takes the invitation back.
    #[wasm_bindgen(js_name = cancelInvite)]
    pub fn cancel_invite(&self) {
        self.driver.call(|engine, now| engine.cancel_invite(now));
    }

    /// Where the group stands.
    #[must_use]
    pub fn status(&self) -> CoreStatus {
        self.driver.read(|engine| convert::status(&engine.status())).unchecked_into()
    }

    /// Opens the entries behind a position in one row of `entryRange`, packed; one that lies in
    /// several rows comes by itself, as the `CoreInParts` that puts it together.
    ///
    /// # Errors
    /// `corrupt`.
    #[wasm_bindgen(js_name = readEntries)]
    pub fn read_entries(&self, key: Vec<u8>, value: Vec<u8>, after: f64) -> Result<StoredEntries, JsValue> {
        let reader = self.driver.read(Engine::entry_reader);
        let (found, mut packed) = (Array::new(), Packed::default());
        for stored in reader.entries(Row { key, value }, after as u64) {
            match stored.map_err(|error| thrown(&error))? {
                Stored::Whole(entry) => packed.push(&entry),
                Stored::InParts(batch) => {
                    if !packed.is_empty() {
                        found.push(&std::mem::take(&mut packed).to_js());
                    }
                    found.push(&CoreInParts { position: batch.position(), news: batch.is_news(), batch }.into());
                }
            }
        }
        if !packed.is_empty() {
            found.push(&packed.to_js());
        }
        Ok(found.unchecked_into())
    }

    /// The deadline passed.
    pub fn tick(&self) {
        self.driver.input(Input::Tick);
    }

    /// The network may be back, or the page is visible again.
    pub fn wake(&self) {
        self.driver.input(Input::Wake);
    }

    /// A commit is durable.
    pub fn committed(&self, id: f64) {
        self.driver.committed(id, None);
    }

    /// A commit failed; `full` if for want of space.
    #[wasm_bindgen(js_name = commitFailed)]
    pub fn commit_failed(&self, id: f64, full: bool, message: String) {
        self.driver.committed(id, Some(storage_fault(full, message)));
    }

    /// A scan is done.
    pub fn scanned(&self, id: f64, rows: &Rows) {
        self.driver.scanned(id, rows);
    }
}

impl CoreEngine {
    /// Reads from the engine.
    pub(crate) fn read<T>(&self, getter: impl FnOnce(&Engine) -> T) -> T {
        self.driver.read(getter)
    }

    /// Queues an entry of the former group, unless it is.
    pub(crate) fn bring(&self, entry: FormerEntry) -> Result<u64, JsValue> {
        self.driver.call(|engine, now| engine.bring(now, entry)).map_err(|error| thrown(&error))
    }
}

/// An entry that lies in several rows, while it is read: hand it the rows it wants until it wants no
/// more.
#[wasm_bindgen]
pub struct CoreInParts {
    position: u64,
    news: bool,
    batch: Box<InParts>,
}

#[wasm_bindgen]
impl CoreInParts {
    /// Its position.
    #[wasm_bindgen(getter)]
    #[must_use]
    pub fn position(&self) -> f64 {
        self.position as f64
    }

    /// Which entry it is.
    #[wasm_bindgen(getter, js_name = blobId)]
    #[must_use]
    pub fn blob_id(&self) -> String {
        self.batch.blob_id().to_string()
    }

    /// Whether the app's state lacks it.
    #[wasm_bindgen(getter)]
    #[must_use]
    pub fn news(&self) -> bool {
        self.news
    }

    /// The rows it wants next; nothing once it is whole.
    #[must_use]
    pub fn wants(&self) -> Option<KeyRange> {
        self.batch.wants().map(|(from, to)| key_range(&from, &to))
    }

    /// Takes the next rows.
    ///
    /// # Errors
    /// `corrupt`.
    pub fn take(&mut self, rows: &Rows) -> Result<(), JsValue> {
        self.batch.take(read_rows(rows)).map_err(|error| thrown(&error))
    }

    /// The entry, packed; this is of no further use.
    ///
    /// # Errors
    /// `corrupt`.
    pub fn finish(self) -> Result<Uint8Array, JsValue> {
        self.batch.finish().map(|entry| packed(&entry)).map_err(|error| thrown(&error))
    }
}

pub(crate) fn storage_fault(full: bool, message: String) -> StorageFault {
    if full { StorageFault::Full(message) } else { StorageFault::Failed(message) }
}

/// Both are made by this package's TypeScript, so a wrong length is a damaged database.
pub(crate) fn secrets(store_key: &[u8], seed: &[u8]) -> Result<Secrets, JsValue> {
    let wrong = |_| thrown(&InvalidArgument("the store key and the seed must be 32 bytes each"));
    Ok(Secrets {
        store_key: StoreKey::from_bytes(store_key.try_into().map_err(wrong)?),
        rng_seed: seed.try_into().map_err(wrong)?,
    })
}

/// Parses a key given as hex.
pub(crate) fn noise_key(text: &str) -> Result<NoisePublicKey, JsValue> {
    text.parse().map_err(|_| thrown(&InvalidArgument("the relay's key must be 64 hexadecimal digits")))
}

pub(crate) fn key_range(from: &[u8], to: &[u8]) -> KeyRange {
    let bytes = |key: &[u8]| -> Uint8Array { js_bytes(key) };
    convert::object(&[("from", bytes(from).into()), ("to", bytes(to).into())]).unchecked_into()
}
