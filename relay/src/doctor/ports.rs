//! The addresses to listen on: free, or taken by this very relay.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use tokio::time::timeout;

use super::Findings;
use super::fetch::{Fetcher, WellKnown};
use crate::config::Config;
use crate::identity::Identity;

/// A relay on this machine answers at once; whatever else has the port may never.
const LOCAL_DEADLINE: Duration = Duration::from_secs(1);

pub(super) async fn examine(config: &Config, identity: Option<&Identity>, findings: &mut Findings) {
    let running = running(config, identity).await;
    let addr = config.listen;
    match TcpListener::bind(addr) {
        Ok(_) => findings.ok("port", format!("TCP {addr} is free")),
        Err(_) if running.is_some() => findings.ok("port", format!("this relay runs on TCP {addr}")),
        Err(error) => findings.fail("port", format!("TCP {addr}: {}", reason(&error, "--listen"))),
    }
    let Some(port) = config.iroh_port.filter(|port| *port != 0) else { return };
    let addr = SocketAddr::new(addr.ip(), port);
    let ours = |known: &WellKnown| {
        let id = identity.and_then(|identity| identity.iroh_endpoint_id.as_ref());
        id.is_some_and(|id| known.iroh.iter().any(|listed| listed.endpoint_id == *id))
    };
    match UdpSocket::bind(addr) {
        Ok(_) => findings.ok("iroh port", format!("UDP {addr} is free")),
        Err(_) if running.as_ref().is_some_and(ours) => {
            findings.ok("iroh port", format!("this relay runs on UDP {addr}"));
        }
        Err(error) => findings.fail("iroh port", format!("UDP {addr}: {}", reason(&error, "--iroh-port"))),
    }
}

/// What answers on the address, if it is this relay.
async fn running(config: &Config, identity: Option<&Identity>) -> Option<WellKnown> {
    let mut addr = config.listen;
    if addr.ip().is_unspecified() {
        addr.set_ip(if addr.is_ipv4() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) });
    }
    let fetcher = Fetcher::new(&format!("http://{addr}")).ok()?;
    let known = timeout(LOCAL_DEADLINE, fetcher.well_known()).await.ok()?.ok()?;
    Some(known).filter(|known| identity.is_some_and(|identity| identity.noise_key == known.noise_key))
}

fn reason(error: &std::io::Error, flag: &str) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => format!("another program has it; stop that, or choose another {flag}"),
        ErrorKind::PermissionDenied => format!("not allowed: choose a port above 1023 with {flag}"),
        ErrorKind::AddrNotAvailable => format!("not an address of this machine: choose another {flag}"),
        _ => format!("{error}; choose another {flag}"),
    }
}
