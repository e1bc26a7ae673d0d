//! The relay as a client outside sees it: through DNS, TLS and the proxy.

use std::net::{IpAddr, SocketAddr};

use reqwest::StatusCode;

use super::Findings;
use super::fetch::{Fetcher, Listed};
use crate::config::Config;
use crate::identity::Identity;

const REACHED: &str = "outside";
const CLIENT_ADDRESS: &str = "client address";

pub(super) async fn examine(config: &Config, url: &str, identity: Option<&Identity>, findings: &mut Findings) {
    let fetcher = match Fetcher::new(url) {
        Ok(fetcher) => fetcher,
        Err(error) => return findings.fail(REACHED, error),
    };
    let described = match fetcher.well_known().await {
        Ok(described) => described,
        Err(error) => {
            return findings.fail(
                REACHED,
                format!(
                    "{error}; check that the relay runs, its DNS name, its certificate, its proxy and the firewall"
                ),
            );
        }
    };
    findings.ok(REACHED, format!("{} answers", fetcher.url()));
    tls(&fetcher, findings);
    key(&described.noise_key, identity, findings);
    websocket(&fetcher, &described.noise_key, findings).await;
    operator_pages(&fetcher, findings).await;
    client_address(&fetcher, findings).await;
    if config.iroh_port.is_some() && !is_local(&fetcher) {
        iroh(&described.iroh, findings);
    }
}

fn is_local(fetcher: &Fetcher) -> bool {
    let host = fetcher.url().host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn tls(fetcher: &Fetcher, findings: &mut Findings) {
    const NAME: &str = "TLS";
    if fetcher.url().scheme() == "https" {
        findings.ok(NAME, "the certificate is accepted");
    } else if is_local(fetcher) {
        findings.ok(NAME, "none, which is right on this machine");
    } else {
        findings.warn(
            NAME,
            "none: clients want --relay-key, pages served over https cannot connect, and who talks to whom is in the \
             open; put a proxy with a certificate in front",
        );
    }
}

fn key(told: &str, identity: Option<&Identity>, findings: &mut Findings) {
    const NAME: &str = "relay key";
    match identity {
        Some(identity) if identity.noise_key == told => findings.ok(NAME, "the one of this configuration"),
        Some(_) => findings.fail(
            NAME,
            format!(
                "{told} is told there, which is not the key of this configuration: another relay answers at this URL, \
                 or doctor was started with another --data-dir, --store or --key-file"
            ),
        ),
        None => findings.warn(NAME, format!("{told}; it cannot be compared, because there is no key here")),
    }
}

async fn websocket(fetcher: &Fetcher, told: &str, findings: &mut Findings) {
    const NAME: &str = "WebSocket";
    match fetcher.handshake().await {
        Ok(key) if key.to_string() == told => findings.ok(NAME, "passes, and the relay proves its key"),
        Ok(key) => findings
            .fail(NAME, format!("whoever answers has the key {key}, not the one that is told: it is not the relay")),
        Err(error) => findings.fail(NAME, error),
    }
}

async fn operator_pages(fetcher: &Fetcher, findings: &mut Findings) {
    const NAME: &str = "operator pages";
    // On this machine they are meant to be open.
    if is_local(fetcher) {
        return;
    }
    match fetcher.status("/metrics").await {
        Ok(StatusCode::OK) => findings.fail(
            NAME,
            "/metrics is open to everybody: the proxy hides that it passes requests on; let it send X-Forwarded-For, \
             or serve them elsewhere with metrics_listen",
        ),
        Ok(_) => findings.ok(NAME, "closed without the token"),
        Err(error) => findings.warn(NAME, error),
    }
}

async fn client_address(fetcher: &Fetcher, findings: &mut Findings) {
    // From this machine to this machine everybody is loopback.
    if is_local(fetcher) || fetcher.leads_to_loopback().await {
        return findings.ok(CLIENT_ADDRESS, "not to be seen from this machine, where the name leads to itself");
    }
    match fetcher.seen_as().await {
        Ok(address) => seen_as(address, findings),
        Err(error) => findings.warn(CLIENT_ADDRESS, error),
    }
}

fn seen_as(address: IpAddr, findings: &mut Findings) {
    if address.is_loopback() {
        findings.warn(
            CLIENT_ADDRESS,
            format!(
                "the relay takes {address} for the address of whoever comes this way, so that all clients share one \
                 address's limits: let the proxy send X-Forwarded-For, and name the proxy in trusted_proxies"
            ),
        );
    } else {
        let note = if is_global(address) { "" } else { ": right if that is this machine and not the proxy" };
        findings.ok(CLIENT_ADDRESS, format!("the relay sees {address}{note}"));
    }
}

fn iroh(listed: &[Listed], findings: &mut Findings) {
    const NAME: &str = "iroh addresses";
    let addrs: Vec<&str> = listed.iter().flat_map(|endpoint| &endpoint.addrs).map(String::as_str).collect();
    if addrs.iter().any(|addr| addr.parse().is_ok_and(|addr: SocketAddr| is_global(addr.ip()))) {
        findings.ok(NAME, addrs.join(", "));
    } else {
        findings.warn(
            NAME,
            "no address that the internet can reach is announced, clients outside use WebSocket: listen on a public \
             address with a fixed --iroh-port, or name the router's with --iroh-addr",
        );
    }
}

/// Neither this machine's, nor a private network's.
fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !(ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified()),
        IpAddr::V6(ip) => {
            !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_unspecified())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_public_address_without_tls_is_warned_about() {
        let verdict = |url| {
            let mut findings = Findings::default();
            tls(&Fetcher::new(url).expect("a URL"), &mut findings);
            findings.0[0].verdict
        };
        assert_eq!(verdict("http://relay.example"), Verdict::Warn);
        for url in ["https://relay.example", "http://localhost:8080", "http://127.0.0.1:8080", "http://[::1]:8080"] {
            assert_eq!(verdict(url), Verdict::Ok, "{url}");
        }
    }

    #[test]
    fn a_proxy_that_hides_its_clients_is_warned_about() {
        let verdict = |address: &str| {
            let mut findings = Findings::default();
            seen_as(address.parse().expect("an address"), &mut findings);
            findings.0[0].verdict
        };
        assert_eq!([verdict("127.0.0.1"), verdict("::1")], [Verdict::Warn; 2]);
        assert_eq!([verdict("203.0.113.9"), verdict("192.168.1.9")], [Verdict::Ok; 2]);
    }

    #[test]
    fn addresses_that_nobody_outside_can_dial_are_warned_about() {
        let verdict = |addrs: &[&str]| {
            let addrs = addrs.iter().map(|addr| (*addr).to_owned()).collect();
            let mut findings = Findings::default();
            iroh(&[Listed { endpoint_id: String::new(), addrs }], &mut findings);
            findings.0[0].verdict
        };
        assert_eq!(verdict(&["127.0.0.1:1", "192.168.1.2:1", "[fe80::1]:1", "[fd00::1]:1"]), Verdict::Warn);
        assert_eq!(verdict(&["192.168.1.2:1", "203.0.113.7:1"]), Verdict::Ok);
        assert_eq!(verdict(&["[2001:db8::1]:1"]), Verdict::Ok);
    }
}
