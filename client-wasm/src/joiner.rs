//! `CoreJoiner`: a device before it has a group, as TypeScript sees it.

use std::rc::Rc;

use wasm_bindgen::prelude::*;
use zerok_sync_core::io::Input;
use zerok_sync_core::link::LinkError;
use zerok_sync_core::{InviteLink, Joiner, Joining};

use crate::clock::now;
use crate::convert;
use crate::driver::Driver;
use crate::engine::{noise_key, secrets, storage_fault};
use crate::failure::thrown;
use crate::host::{Host, Rows};

/// Joins one group by one link, driven by JavaScript's event loop. After its event `joined` the
/// storage holds the group: free this and open a `CoreEngine`.
#[wasm_bindgen]
pub struct CoreJoiner {
    driver: Rc<Driver<Joiner>>,
}

#[wasm_bindgen]
impl CoreJoiner {
    /// Starts joining into the empty storage behind `host`; the first `tick` connects.
    ///
    /// # Errors
    /// `invalid_link`, `invalid_argument`.
    pub fn open(
        host: Host,
        store_key: &[u8],
        seed: &[u8],
        link: &str,
        relay_key: Option<String>,
        device_name: String,
    ) -> Result<CoreJoiner, JsValue> {
        let link = read_link(link)?;
        let relay_key = relay_key.as_deref().map(noise_key).transpose()?;
        let joiner = Joiner::new(now(), secrets(store_key, seed)?, Joining { link, relay_key, device_name });
        Ok(Self { driver: Driver::new(joiner, host) })
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

/// What an invitation link says about its relay, without its secret: for a page that wants to show
/// where it leads.
///
/// # Errors
/// `invalid_link`.
#[wasm_bindgen(js_name = linkRelay)]
pub fn link_relay(link: &str) -> Result<js_sys::Object, JsValue> {
    let link = read_link(link)?;
    let relay = link.relay();
    let key = relay.key.map_or(JsValue::UNDEFINED, |key| key.to_string().into());
    Ok(convert::object(&[("relay", relay.url.into()), ("relayKey", key)]))
}

fn read_link(text: &str) -> Result<InviteLink, JsValue> {
    text.parse().map_err(|error: LinkError| thrown(&error))
}
