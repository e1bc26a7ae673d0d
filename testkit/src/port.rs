//! A port for a server that is to keep it over restarts.

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Below the ports that systems give to outgoing connections, any of which may take one of those
/// while the server is down.
const FIRST: u32 = 10_000;
const COUNT: u32 = 22_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port of 127.0.0.1 that nobody uses, on TCP and UDP. Another process may be given the same one
/// before the server has it: whoever can try again does.
///
/// # Errors
/// If there is none.
pub fn free() -> io::Result<u16> {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    let start = clock.wrapping_add(std::process::id().wrapping_mul(7_919));
    let mut refused = None;
    for _ in 0..COUNT {
        let port = FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(port).expect("less than 32,768");
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .and_then(|listener| Ok((listener, UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?)));
        match bound {
            Ok(_) => return Ok(port),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_not_given_out() {
        // Another process may be faster.
        let (first, _taken) = std::iter::repeat_with(|| free().expect("there are free ports"))
            .find_map(|port| Some((port, TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?)))
            .expect("one of them");
        // Right back to where the search stood.
        NEXT.fetch_sub(1, Ordering::Relaxed);
        assert!((0..100).all(|_| free().expect("there are free ports") != first));
    }
}
