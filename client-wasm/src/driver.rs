//! The loop around a machine, as `zerok_sync_core::io` prescribes it.
//!
//! Everything runs on JavaScript's one thread and nothing blocks. Invariant: the machine is not
//! borrowed while the host is called, and a WebSocket calls back from the event loop only, never
//! from inside `send` or `close`: so no `RefCell` is ever borrowed twice.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use js_sys::{Array, Uint8Array};
use wasm_bindgen::prelude::*;
use zerok_sync_core::io::{
    Batch, Change, CommitId, Input, LinkDownReason, LinkId, Machine, Now, Output, Row, ScanId, StorageFault,
};

use crate::clock::now;
use crate::convert;
use crate::host::{Host, Rows};
use crate::socket::{Socket, SocketEvent};

/// A machine with its sockets and its host.
pub(crate) struct Driver<M> {
    machine: RefCell<M>,
    sockets: RefCell<BTreeMap<LinkId, Socket>>,
    host: Host,
    /// Whether a drain is under way further up the stack.
    draining: Cell<bool>,
    /// For the sockets' callbacks, which must not keep the driver alive.
    this: Weak<Self>,
}

impl<M: Machine + 'static> Driver<M> {
    pub(crate) fn new(machine: M, host: Host) -> Rc<Self> {
        Rc::new_cyclic(|this| Self {
            machine: RefCell::new(machine),
            sockets: RefCell::default(),
            host,
            draining: Cell::new(false),
            this: this.clone(),
        })
    }

    /// Reads from the machine.
    pub(crate) fn read<T>(&self, getter: impl FnOnce(&M) -> T) -> T {
        getter(&self.machine.borrow())
    }

    /// Calls one of the machine's mutators and carries out what follows.
    pub(crate) fn call<T>(&self, mutator: impl FnOnce(&mut M, Now) -> T) -> T {
        let result = mutator(&mut self.machine.borrow_mut(), now());
        self.drain();
        result
    }

    /// Hands one input over and carries out what follows.
    pub(crate) fn input(&self, input: Input) {
        self.call(|machine, now| machine.handle(now, input));
    }

    /// Passes the host's answer to a commit on.
    pub(crate) fn committed(&self, id: f64, failure: Option<StorageFault>) {
        let id = CommitId(id as u64);
        self.input(match failure {
            None => Input::Committed(id),
            Some(fault) => Input::CommitFailed(id, fault),
        });
    }

    /// Passes the host's answer to a scan on.
    pub(crate) fn scanned(&self, id: f64, rows: &Rows) {
        self.input(Input::Scanned(ScanId(id as u64), read_rows(rows)));
    }

    /// Takes all outputs out, in order, and then says when to come back.
    fn drain(&self) {
        if self.draining.replace(true) {
            return;
        }
        loop {
            // A statement of its own: the borrow must end before the output is carried out.
            let output = self.machine.borrow_mut().poll_output();
            let Some(output) = output else { break };
            self.carry_out(output);
        }
        self.draining.set(false);
        let deadline = self.machine.borrow().next_deadline_ms();
        self.host.deadline(deadline.map(|at| at.saturating_sub(now().mono_ms) as f64));
    }

    fn carry_out(&self, output: Output) {
        match output {
            Output::Connect(link, relay) => self.connect(link, &relay.url),
            Output::Transmit(link, message) => {
                if let Some(socket) = self.sockets.borrow().get(&link) {
                    socket.send(&message);
                }
            }
            Output::Disconnect(link) => {
                let socket = self.sockets.borrow_mut().remove(&link);
                drop(socket);
            }
            Output::Commit(CommitId(id), batch) => {
                let (keys, values) = write_batch(batch);
                self.host.commit(id as f64, keys, values);
            }
            Output::Scan { id: ScanId(id), from, to, bytes_max } => {
                self.host.scan(id as f64, js_bytes(&from), js_bytes(&to), bytes_max as f64);
            }
            Output::Event(event) => self.host.event(convert::event(&event)),
        }
    }

    fn connect(&self, link: LinkId, origin: &str) {
        let this = self.this.clone();
        let report = move |event| {
            if let Some(driver) = this.upgrade() {
                driver.on_socket(link, event);
            }
        };
        match Socket::connect(origin, report) {
            Ok(socket) => {
                self.sockets.borrow_mut().insert(link, socket);
            }
            Err(reason) => self.machine.borrow_mut().handle(now(), Input::LinkDown(link, reason)),
        }
    }

    fn on_socket(&self, link: LinkId, event: SocketEvent) {
        match event {
            SocketEvent::Up => self.input(Input::LinkUp(link)),
            SocketEvent::Message(message) => self.input(Input::LinkMessage(link, message)),
            SocketEvent::Down(reason) => self.on_socket_down(link, reason),
        }
    }

    fn on_socket_down(&self, link: LinkId, reason: LinkDownReason) {
        let socket = self.sockets.borrow_mut().remove(&link);
        drop(socket);
        self.input(Input::LinkDown(link, reason));
    }
}

/// A copy that JavaScript owns.
pub(crate) fn js_bytes(bytes: &[u8]) -> Uint8Array {
    Uint8Array::from(bytes)
}

/// Keys and values for the host; an `undefined` value removes its key.
pub(crate) fn write_batch(batch: Batch) -> (Array, Array) {
    let (keys, values) = (Array::new(), Array::new());
    for change in batch.changes {
        match change {
            Change::Put(Row { key, value }) => {
                keys.push(&js_bytes(&key));
                values.push(&js_bytes(&value));
            }
            Change::Delete { key } => {
                keys.push(&js_bytes(&key));
                values.push(&JsValue::UNDEFINED);
            }
        }
    }
    (keys, values)
}

/// Rows from the host.
pub(crate) fn read_rows(rows: &Rows) -> Vec<Row> {
    let bytes = |value: JsValue| Uint8Array::new(&value).to_vec();
    rows.keys()
        .iter()
        .zip(rows.values().iter())
        .map(|(key, value)| Row { key: bytes(key), value: bytes(value) })
        .collect()
}
