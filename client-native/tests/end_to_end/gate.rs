//! A door in front of a relay: lets so many connections through and holds the next ones.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use crate::support::RelayProcess;

pub struct Gate {
    pub url: String,
    /// How many more may pass.
    admitted: Arc<AtomicUsize>,
    held: mpsc::Receiver<TcpStream>,
}

impl Gate {
    /// Through which everybody passes.
    pub fn before(relay: &RelayProcess) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let far = relay.url.strip_prefix("http://").expect("plain http").to_owned();
        let admitted = Arc::new(AtomicUsize::new(usize::MAX));
        let (holding, held) = mpsc::channel();
        let admits = admitted.clone();
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let near = near.expect("accepts");
                let one_less = |left: usize| left.checked_sub(1);
                if admits.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
                    pipe(&near, &TcpStream::connect(&far).expect("the relay runs"));
                } else if holding.send(near).is_err() {
                    return;
                }
            }
        });
        Self { url, admitted, held }
    }

    /// From now on so many more pass.
    pub fn admit(&self, connections: usize) {
        self.admitted.store(connections, Ordering::SeqCst);
    }

    /// The next connection that did not get through; it ends with what is returned.
    pub fn held(&self) -> TcpStream {
        self.held.recv().expect("the gate stands")
    }
}

/// Carries bytes both ways until either end closes.
fn pipe(near: &TcpStream, far: &TcpStream) {
    for (from, to) in [(near, far), (far, near)] {
        let (mut from, mut to) = (from.try_clone().expect("clones"), to.try_clone().expect("clones"));
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}
