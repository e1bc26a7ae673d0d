//! What stands between clients and relays on TCP: a load balancer that knows which instance
//! answers, and a cable that can be cut, held up in one direction, or made to end after some bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Bytes moved at a time.
const PIECE_BYTES: usize = 16 * 1024;

/// What the cable does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cable {
    /// Rises to cut every connection there is.
    cuts: u64,
    /// New connections are taken.
    pub open: bool,
    /// Nothing goes from the relay to the clients; they wait.
    pub hold_answers: bool,
    /// Bytes that a connection carries towards the relay before it is cut.
    pub bytes_up: usize,
}

/// A TCP proxy. Ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    cable: watch::Sender<Cable>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy on a free port that hands each connection to the next target that takes it.
    ///
    /// # Errors
    /// If there is no port.
    pub async fn start(targets: Vec<SocketAddr>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let calm = Cable { cuts: 0, open: true, hold_answers: false, bytes_up: usize::MAX };
        let (cable, watched) = watch::channel(calm);
        let next = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if !watched.borrow().open {
                    continue;
                }
                tokio::spawn(carry(client, targets.clone(), next.clone(), watched.clone()));
            }
        });
        Ok(Self { addr, cable, task })
    }

    /// Where clients connect.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Changes what the cable does, for the connections there are, too.
    pub fn change(&self, change: impl FnOnce(&mut Cable)) {
        self.cable.send_modify(change);
    }

    /// Cuts every connection there is; new ones are taken as before.
    pub fn cut(&self) {
        self.change(|cable| cable.cuts += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn carry(client: TcpStream, targets: Vec<SocketAddr>, next: Arc<AtomicUsize>, mut cable: watch::Receiver<Cable>) {
    let cuts = cable.borrow().cuts;
    let first = next.fetch_add(1, Ordering::Relaxed);
    let mut relay = None;
    for target in targets.iter().cycle().skip(first % targets.len().max(1)).take(targets.len()) {
        if let Ok(stream) = TcpStream::connect(target).await {
            relay = Some(stream);
            break;
        }
    }
    let Some(relay) = relay else { return };
    // Small frames must not wait for each other's acknowledgements.
    let (_, _) = (client.set_nodelay(true), relay.set_nodelay(true));
    let ((from_client, to_client), (from_relay, to_relay)) = (client.into_split(), relay.into_split());
    let (up, down) = (upwards(from_client, to_relay, cable.clone()), downwards(from_relay, to_client, cable.clone()));
    tokio::select! {
        // Either side's end is the end of both, as with a process that dies.
        () = up => {}
        () = down => {}
        _ = cable.wait_for(|cable| cable.cuts > cuts) => {}
    }
}

async fn upwards(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, cable: watch::Receiver<Cable>) {
    let mut piece = vec![0; PIECE_BYTES];
    let mut carried = 0;
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        let left = cable.borrow().bytes_up.saturating_sub(carried);
        if to.write_all(&piece[..length.min(left)]).await.is_err() || length > left {
            return;
        }
        carried += length;
    }
}

async fn downwards(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut cable: watch::Receiver<Cable>) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        if cable.wait_for(|cable| !cable.hold_answers).await.is_err() || to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service that says back what it hears, behind its name.
    async fn echo(name: u8) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut heard = [0; 64];
                    while let Ok(length @ 1..) = stream.read(&mut heard).await {
                        let answer = [&[name], &heard[..length]].concat();
                        if stream.write_all(&answer).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        addr
    }

    async fn ask(stream: &mut TcpStream, text: &[u8]) -> Vec<u8> {
        stream.write_all(text).await.expect("written");
        let mut answer = vec![0; 64];
        let length = stream.read(&mut answer).await.unwrap_or(0);
        answer.truncate(length);
        answer
    }

    #[tokio::test]
    async fn connections_are_spread_and_go_where_somebody_answers() {
        let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
        let proxy = Proxy::start(vec![echo(b'a').await, nobody, echo(b'b').await]).await.expect("started");
        let mut answers = Vec::new();
        for _ in 0..3 {
            let mut stream = TcpStream::connect(proxy.addr()).await.expect("taken");
            answers.push(ask(&mut stream, b"x").await);
        }
        assert_eq!(answers, [b"ax", b"bx", b"bx"]);
    }

    #[tokio::test]
    async fn a_cut_ends_what_is_there_and_a_limit_ends_it_at_the_byte() {
        let proxy = Proxy::start(vec![echo(b'a').await]).await.expect("started");
        let mut stream = TcpStream::connect(proxy.addr()).await.expect("taken");
        assert_eq!(ask(&mut stream, b"x").await, b"ax");
        proxy.cut();
        assert_eq!(ask(&mut stream, b"x").await, b"");

        proxy.change(|cable| cable.bytes_up = 4);
        let mut stream = TcpStream::connect(proxy.addr()).await.expect("taken");
        assert_eq!(ask(&mut stream, b"xyz").await, b"axyz");
        assert_eq!(ask(&mut stream, b"xyz").await, b"");
    }

    #[tokio::test]
    async fn held_answers_come_later() {
        let proxy = Proxy::start(vec![echo(b'a').await]).await.expect("started");
        let mut stream = TcpStream::connect(proxy.addr()).await.expect("taken");
        proxy.change(|cable| cable.hold_answers = true);
        let asked = ask(&mut stream, b"x");
        tokio::pin!(asked);
        assert!(futures_util::poll!(&mut asked).is_pending());
        let held = tokio::time::timeout(std::time::Duration::from_millis(100), &mut asked).await;
        assert!(held.is_err(), "nothing comes");
        proxy.change(|cable| cable.hold_answers = false);
        assert_eq!(asked.await, b"ax");
    }
}
