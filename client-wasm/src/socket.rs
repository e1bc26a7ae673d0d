//! One link to a relay: a WebSocket of the browser.
//!
//! Invariant: a link ends with exactly one `LinkDown`, unless the machine said `Disconnect` first;
//! dropping a [`Socket`] takes its callbacks off and closes it, after which nothing of it is heard.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use js_sys::{ArrayBuffer, Uint8Array};
use wasm_bindgen::prelude::*;
use web_sys::{BinaryType, CloseEvent, MessageEvent, WebSocket};
use zerok_sync_core::io::LinkDownReason;
use zerok_sync_protocol::close;
use zerok_sync_protocol::limits::NOISE_MESSAGE_BYTES_MAX;

const PATH: &str = "/v1/ws";
const SUBPROTOCOL: &str = "0k-sync.v1";

/// What a socket reports. The receiver drops the [`Socket`] after `Down`.
pub(crate) enum SocketEvent {
    Up,
    Message(Bytes),
    Down(LinkDownReason),
}

/// A connecting or connected WebSocket.
pub(crate) struct Socket {
    socket: WebSocket,
    // Alive as long as the socket may call them.
    _on_open: Closure<dyn Fn()>,
    _on_message: Closure<dyn Fn(MessageEvent)>,
    _on_close: Closure<dyn Fn(CloseEvent)>,
}

impl Socket {
    /// Starts connecting to the relay at this `http(s)://` origin.
    ///
    /// # Errors
    /// The browser refuses such a connection from this page.
    pub(crate) fn connect(
        origin: &str,
        report: impl Fn(SocketEvent) + Clone + 'static,
    ) -> Result<Self, LinkDownReason> {
        let url = format!("{}{PATH}", origin.replacen("http", "ws", 1));
        let socket = WebSocket::new_with_str(&url, SUBPROTOCOL).map_err(|error| {
            let why = error.dyn_ref::<js_sys::Error>().map_or_else(String::new, |error| error.message().into());
            LinkDownReason::Unreachable(format!("this page may not connect to {origin}: {why}"))
        })?;
        socket.set_binary_type(BinaryType::Arraybuffer);

        let opened = Rc::new(Cell::new(false));
        let on_open = Closure::<dyn Fn()>::new({
            let (report, opened) = (report.clone(), opened.clone());
            move || {
                opened.set(true);
                report(SocketEvent::Up);
            }
        });
        let on_message = Closure::<dyn Fn(MessageEvent)>::new({
            let report = report.clone();
            move |message: MessageEvent| {
                report(match read_message(&message) {
                    Ok(bytes) => SocketEvent::Message(bytes),
                    Err(what) => SocketEvent::Down(LinkDownReason::Invalid(what.to_owned())),
                });
            }
        });
        let on_close = Closure::<dyn Fn(CloseEvent)>::new({
            let origin = origin.to_owned();
            move |close: CloseEvent| report(SocketEvent::Down(read_close(&origin, opened.get(), &close)))
        });
        socket.set_onopen(Some(on_open.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        socket.set_onclose(Some(on_close.as_ref().unchecked_ref()));
        Ok(Self { socket, _on_open: on_open, _on_message: on_message, _on_close: on_close })
    }

    /// Queues one message. On a socket that is closing it is lost, as on any broken link.
    pub(crate) fn send(&self, message: &[u8]) {
        let _ = self.socket.send_with_u8_array(message);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.socket.set_onopen(None);
        self.socket.set_onmessage(None);
        self.socket.set_onclose(None);
        // Fails for close codes only, and there is none.
        let _ = self.socket.close();
    }
}

/// One binary message of a length that a relay sends; checked before it is copied.
fn read_message(message: &MessageEvent) -> Result<Bytes, &'static str> {
    let buffer: ArrayBuffer = message.data().dyn_into().map_err(|_| "a text message")?;
    if buffer.byte_length() as usize > NOISE_MESSAGE_BYTES_MAX {
        return Err("a message longer than any of this protocol");
    }
    Ok(Uint8Array::new(&buffer).to_vec().into())
}

/// Browsers tell a page nothing about why a connection failed, except what the relay said itself.
fn read_close(origin: &str, was_open: bool, event: &CloseEvent) -> LinkDownReason {
    match event.code() {
        close::UNSUPPORTED_VERSION => LinkDownReason::UnsupportedVersion(event.reason()),
        close::TRY_LATER => LinkDownReason::TryLater { retry_after_ms: close::retry_after_ms(&event.reason()) },
        _ if was_open => LinkDownReason::Closed,
        _ => LinkDownReason::Unreachable(format!("could not connect to {origin}")),
    }
}
