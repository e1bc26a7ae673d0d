//! Which transport to take, and how long to try.

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::iroh::{Endpoint, EndpointAddr};
use reqwest::Url;
use tokio::sync::OnceCell;
use zerok_sync_core::io::LinkDownReason;

use super::{Receiver, Sender, iroh, websocket, well_known};

/// A host that does not answer within this is taken as unreachable.
const DIAL_DEADLINE: Duration = Duration::from_secs(10);
/// How much later than WebSocket iroh may be with `auto`: many networks swallow UDP silently.
const AUTO_IROH_DEADLINE: Duration = Duration::from_secs(2);
/// After iroh failed, `auto` does not pay that price again for this long.
const AUTO_IROH_PAUSE: Duration = Duration::from_secs(300);

/// How to reach a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// iroh where the relay lists it and it answers quickly, else WebSocket. On this machine
    /// always WebSocket.
    #[default]
    Auto,
    /// WebSocket only.
    WebSocket,
    /// iroh only.
    Iroh,
}

/// A text that should have been a [`Transport`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a transport: expected auto, ws or iroh")]
pub struct ParseTransportError;

impl FromStr for Transport {
    type Err = ParseTransportError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "ws" => Ok(Self::WebSocket),
            "iroh" => Ok(Self::Iroh),
            _ => Err(ParseTransportError),
        }
    }
}

/// Opens links. One for each client: what it learns about the network lasts as long.
pub(crate) struct Dialer {
    transport: Transport,
    tls: Arc<rustls::ClientConfig>,
    endpoint: OnceCell<Endpoint>,
    iroh_failed_at: Mutex<Option<Instant>>,
}

impl Dialer {
    pub(crate) fn new(transport: Transport) -> Self {
        Self::trusting(transport, rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })
    }

    /// With other certificate authorities than the public ones.
    pub(super) fn trusting(transport: Transport, roots: rustls::RootCertStore) -> Self {
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has the default protocol versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { transport, tls: Arc::new(tls), endpoint: OnceCell::new(), iroh_failed_at: Mutex::new(None) }
    }

    /// Opens a link to the relay at this origin.
    pub(super) async fn dial(&self, relay: &str) -> Result<(Sender, Receiver), LinkDownReason> {
        let dialled = async {
            let relay = parse_origin(relay)?;
            match self.transport {
                Transport::WebSocket => self.dial_websocket(&relay).await,
                Transport::Iroh => self.dial_iroh(&relay).await,
                Transport::Auto if is_loopback(&relay) => self.dial_websocket(&relay).await,
                Transport::Auto => self.dial_auto(&relay).await,
            }
        };
        tokio::time::timeout(DIAL_DEADLINE, dialled).await.unwrap_or_else(|_| {
            Err(LinkDownReason::Unreachable(format!("{relay} did not answer within {} s", DIAL_DEADLINE.as_secs())))
        })
    }

    /// For relays on other machines.
    pub(super) async fn dial_auto(&self, relay: &Url) -> Result<(Sender, Receiver), LinkDownReason> {
        if self.iroh_failed_lately() {
            return self.dial_websocket(relay).await;
        }
        match tokio::time::timeout(AUTO_IROH_DEADLINE, self.dial_iroh(relay)).await {
            Ok(Ok(halves)) => Ok(halves),
            Ok(Err(refused @ LinkDownReason::UnsupportedVersion(_))) => Err(refused),
            failed => {
                tracing::debug!(reason = ?failed.err(), "no link over iroh, trying WebSocket");
                *self.iroh_failed_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                self.dial_websocket(relay).await
            }
        }
    }

    fn iroh_failed_lately(&self) -> bool {
        let failed_at = *self.iroh_failed_at.lock().unwrap_or_else(PoisonError::into_inner);
        failed_at.is_some_and(|at| at.elapsed() < AUTO_IROH_PAUSE)
    }

    async fn dial_websocket(&self, relay: &Url) -> Result<(Sender, Receiver), LinkDownReason> {
        let (sender, receiver) = websocket::connect(relay, &self.tls).await?;
        Ok((Sender::WebSocket(sender), Receiver::WebSocket(receiver)))
    }

    async fn dial_iroh(&self, relay: &Url) -> Result<(Sender, Receiver), LinkDownReason> {
        let listed = well_known::iroh_endpoints(relay, &self.tls).await.map_err(LinkDownReason::Unreachable)?;
        let mut reason = LinkDownReason::Unreachable(format!(
            "{} lists no iroh endpoint: use --transport ws",
            relay.as_str().trim_end_matches('/')
        ));
        for endpoint in listed {
            match self.dial_endpoint(endpoint).await {
                Ok(halves) => return Ok(halves),
                Err(failed) => reason = failed,
            }
        }
        Err(reason)
    }

    async fn dial_endpoint(&self, relay: EndpointAddr) -> Result<(Sender, Receiver), LinkDownReason> {
        let own = self.endpoint.get_or_try_init(iroh::bind).await?;
        let (sender, receiver) = iroh::connect(own, relay).await?;
        Ok((Sender::Iroh(sender), Receiver::Iroh(receiver)))
    }

    /// Gives the UDP socket back. Links must be closed before.
    pub(crate) async fn close(&self) {
        if let Some(endpoint) = self.endpoint.get() {
            endpoint.close().await;
        }
    }
}

pub(super) fn parse_origin(relay: &str) -> Result<Url, LinkDownReason> {
    let invalid = || LinkDownReason::Invalid(format!("{relay} is not the address of a relay"));
    let url = Url::parse(relay).map_err(|_| invalid())?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() { Ok(url) } else { Err(invalid()) }
}

/// The one spelling of a relay's address: `http(s)://host[:port]` without anything behind it.
pub(crate) fn normal_origin(text: &str) -> Option<String> {
    let url = parse_origin(text).ok()?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let anonymous = url.username().is_empty() && url.password().is_none();
    (bare && anonymous).then(|| url.origin().ascii_serialization())
}

fn is_loopback(relay: &Url) -> bool {
    match relay.host_str() {
        Some("localhost") => true,
        // IPv6 addresses stand in brackets.
        Some(host) => {
            host.trim_matches(['[', ']']).parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_recognised_in_every_spelling() {
        let loopback = |text| is_loopback(&parse_origin(text).expect("an origin"));
        for text in ["http://127.0.0.1:8080", "http://127.9.9.9", "http://[::1]:1", "http://localhost:8080"] {
            assert!(loopback(text), "{text}");
        }
        for text in ["http://192.168.1.2", "https://relay.example", "http://localhost.example", "http://[2001:db8::1]"]
        {
            assert!(!loopback(text), "{text}");
        }
    }

    #[test]
    fn an_address_has_one_spelling_and_nothing_behind_it() {
        assert_eq!(normal_origin("HTTPS://Relay.Example:443/").as_deref(), Some("https://relay.example"));
        assert_eq!(normal_origin("http://127.0.0.1:8080").as_deref(), Some("http://127.0.0.1:8080"));
        for text in ["https://relay.example/x", "https://u@relay.example", "https://relay.example?x", "relay.example"] {
            assert_eq!(normal_origin(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_origin_is_not_dialled() {
        for text in ["", "relay.example", "ftp://relay.example", "file:///etc/passwd", "http://"] {
            assert!(matches!(parse_origin(text), Err(LinkDownReason::Invalid(_))), "{text}");
        }
    }
}
