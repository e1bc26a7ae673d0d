//! `CoreJoiner`: a device before it has a group, as TypeScript sees it.

use std::rc::Rc;

use wasm_bindgen::prelude::*;
use zerok_sync_core::io::Input;
use zerok_sync_core::{Invite, InviteError, Joiner, Joining};

use crate::clock::now;
use crate::convert;
use crate::driver::Driver;
use crate::engine::{noise_key, secrets, storage_fault};
use crate::failure::thrown;
use crate::host::{Host, Rows};

/// Joins one group by one link or code, driven by JavaScript's event loop. After its event `joined` the
/// storage holds the group: free this and open a `CoreEngine`.
#[wasm_bindgen]
pub struct CoreJoiner {
    driver: Rc<Driver<Joiner>>,
}

#[wasm_bindgen]
impl CoreJoiner {
    /// Starts joining into the empty storage behind `host`; the first `tick` connects. `relay` is
    /// where a code leads; a link says it itself. With `bring_data` the storage counts as empty, because
    /// the first commit replaces what is there.
    ///
    /// # Errors
    /// `invalid_link`, `invalid_code`, `invalid_argument`.
    #[allow(clippy::too_many_arguments, reason = "an object from JavaScript would be read by hand, field by field")]
    pub fn open(
        host: Host,
        store_key: &[u8],
        seed: &[u8],
        invite: &str,
        relay: &str,
        relay_key: Option<String>,
        device_name: String,
        bring_data: bool,
    ) -> Result<CoreJoiner, JsValue> {
        let invite = read(invite)?;
        let relay_key = relay_key.as_deref().map(noise_key).transpose()?;
        let relay = invite.relay(Some(relay), relay_key).map_err(|error| thrown(&error))?;
        let joiner = Joiner::new(now(), secrets(store_key, seed)?, Joining { invite, relay, device_name, bring_data });
        Ok(Self { driver: Driver::new(joiner, host) })
    }

    /// The person wants the group of `confirm_join`.
    pub fn confirm(&self) {
        self.driver.call(|joiner, now| joiner.confirm(now));
    }

    /// Gives up.
    pub fn cancel(&self) {
        self.driver.call(|joiner, now| joiner.cancel(now));
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

/// What an invitation says without its secret: its kind and, if it is a link, its relay. For a page
/// that wants to show where it leads.
///
/// # Errors
/// `invalid_link`, `invalid_code`.
#[wasm_bindgen(js_name = inviteKind)]
pub fn invite_kind(text: &str) -> Result<js_sys::Object, JsValue> {
    Ok(match read(text)? {
        Invite::Code(_) => convert::object(&[("kind", "code".into())]),
        Invite::Link(link) => {
            let relay = link.relay();
            let key = relay.key.map_or(JsValue::UNDEFINED, |key| key.to_string().into());
            convert::object(&[("kind", "link".into()), ("relay", relay.url.into()), ("relayKey", key)])
        }
    })
}

fn read(text: &str) -> Result<Invite, JsValue> {
    text.parse().map_err(|error: InviteError| thrown(&error))
}
