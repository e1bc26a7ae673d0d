//! `health`: asks the relay of the same settings whether it is ready, for health checks of
//! containers that have no other program in them.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};
use zerok_sync_relay::config::Settings;

pub const EXAMPLE: &str = "\
Exit code 0 and \"ready\", or 1 and the reason.

Example: zerok-relay health --listen 127.0.0.1:8080";

/// A relay whose store does not answer says so after two seconds.
const DEADLINE: Duration = Duration::from_secs(4);
const ANSWER_BYTES_MAX: u64 = 4 * 1024;

/// Asks.
pub fn run(settings: &Settings) -> anyhow::Result<ExitCode> {
    let addr = reachable(settings.config.listen);
    if addr.port() == 0 {
        bail!("the relay listens on a port of its own choice: name the one of its ready line with --listen");
    }
    let answer = ask(addr).map_err(|error| anyhow!("no relay answers on {addr}: {error}"))?;
    match answer.split_once("\r\n\r\n") {
        Some((head, word)) if head.starts_with("HTTP/1.1 200 ") => {
            super::print(word)?;
            Ok(ExitCode::SUCCESS)
        }
        Some((head, word)) if head.starts_with("HTTP/1.1 503 ") => bail!("not ready: {}", word.trim_end()),
        _ => bail!("what answers on {addr} is not a relay"),
    }
}

/// The wildcard address is one to listen on, not one to connect to.
fn reachable(mut addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        addr.set_ip(match addr {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    addr
}

fn ask(addr: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&addr, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    write!(stream, "GET /ready HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
